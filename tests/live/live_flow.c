/* SPDX-License-Identifier: MIT */
/*
 * Flow control in front of a real server: the chain limiter, semaphore, pool,
 * query with one deadline, under three times the load that it allows; and
 * groups of operations of all kinds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "support/live.h"
#include "support/pooler.h"

static struct live live;

static int end(void **state)
{
    (void)state;
    live_close(&live);
    return 0;
}

/* The chain */

enum { LIMIT = 30, WINDOW_MS = 100, PERMITS = 4, DEADLINE_MS = 500 };

static struct {
    evpq_limiter *limiter;
    evpq_semaphore *semaphore;
    int asked, over, succeeded, late;
    double slowest;
} chain;

struct call {
    double started;
    bool holds;
};

static uint32_t left_ms(const struct call *call)
{
    double left = DEADLINE_MS - 1000 * (live_now() - call->started);
    return left >= 1 ? (uint32_t)left : 1;
}

static void call_over(struct call *call, bool succeeded)
{
    double took = live_now() - call->started;
    if (call->holds)
        assert_int_equal(evpq_semaphore_release(chain.semaphore, 1), EVPQ_OK);
    chain.over++;
    chain.succeeded += succeeded;
    chain.late += 1000 * took > DEADLINE_MS + 100 * live_slow();
    chain.slowest = took > chain.slowest ? took : chain.slowest;
    free(call);
}

static void on_answer(evpq_result *result, const evpq_error *err, void *user)
{
    (void)err;
    call_over(user, result != NULL);
}

static void on_permit(const evpq_error *err, void *user)
{
    struct call *call = user;
    call->holds = !err;
    if (err || evpq_pool_query(NULL, live.pool,
                               EVPQ_QUERY("SELECT pg_sleep(0.01)", .timeout_ms = left_ms(call)),
                               on_answer, call) != EVPQ_OK)
        call_over(call, false);
}

static void on_admitted(const evpq_error *err, void *user)
{
    struct call *call = user;
    if (err || evpq_semaphore_acquire(NULL, chain.semaphore, 1, left_ms(call) / 2, on_permit,
                                      call) != EVPQ_OK)
        call_over(call, false);
}

static void ask(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)timer, (void)events;
    struct call *call = calloc(1, sizeof(*call));
    assert_non_null(call);
    call->started = live_now();
    chain.asked++;
    if (evpq_limiter_wait(NULL, chain.limiter, 1, DEADLINE_MS / 2, on_admitted, call) != EVPQ_OK)
        call_over(call, false);
}

static bool all_over(struct live *l, void *arg)
{
    (void)l, (void)arg;
    return chain.over == chain.asked;
}

static void the_chain_keeps_its_goodput_under_overload(void **state)
{
    (void)state;
    enum { SECONDS = 3 };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 8, .min_size = 8));
    live_run(&live, 0.5 * live_slow());
    assert_int_equal(
        evpq_limiter_open(&chain.limiter, live.loop,
                          EVPQ_LIMITER_OPTIONS(.limit = LIMIT, .window_ms = WINDOW_MS)),
        EVPQ_OK);
    assert_int_equal(
        evpq_semaphore_open(&chain.semaphore, live.loop, EVPQ_SEMAPHORE_OPTIONS(.limit = PERMITS)),
        EVPQ_OK);
    ev_timer arrivals;
    double interval = WINDOW_MS / 1000.0 / LIMIT / 3;
    ev_timer_init(&arrivals, ask, interval, interval);
    ev_timer_start(live.loop, &arrivals);
    double started = live_now();
    live_run(&live, SECONDS);
    double seconds = live_now() - started;
    int succeeded = chain.succeeded; /* by now */
    ev_timer_stop(live.loop, &arrivals);
    int limit = (int)(seconds * 1000 / WINDOW_MS) * LIMIT;
    live_until(&live, all_over, NULL, 10 * live_slow());
    print_message("%d asked, %d succeeded of %d that the limit allows, slowest %.0f ms\n",
                  chain.asked, succeeded, limit, 1000 * chain.slowest);
    assert_int_equal(chain.late, 0);
    assert_true(succeeded <= limit + 2 * LIMIT);
    if (live_slow() <= 1)
        assert_true(succeeded >= 0.95 * limit);
    evpq_limiter_close(chain.limiter);
    evpq_semaphore_close(chain.semaphore);
}

/* Groups */

static evpq_group *group;
static struct outcome all;
static evpq_code member_codes[8];

static void on_all(evpq_group *g, const evpq_error *err, void *user)
{
    (void)user;
    all.calls++;
    all.code = evpq_error_code(err);
    strncpy(all.sqlstate, evpq_error_sqlstate(err), sizeof(all.sqlstate) - 1);
    for (uint32_t i = 0; i < evpq_group_size(g) && i < 8; i++)
        member_codes[i] = evpq_error_code(evpq_group_member_error(g, i));
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct outcome *outcome = user;
    (void)page;
    outcome->calls++;
    outcome->code = evpq_error_code(err);
}

static void add(int started, evpq_op **op)
{
    assert_int_equal(evpq_group_add(group, started, op), EVPQ_OK);
}

static void a_group_gathers_operations_of_all_kinds(void **state)
{
    (void)state;
    struct outcome query = {0}, failure = {0}, lease = {0}, page = {0};
    evpq_pager *pager;
    evpq_op *op;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    assert_int_equal(evpq_group_open(&group, live.loop, EVPQ_GROUP_OPTIONS(.timeout_ms = 60000)),
                     EVPQ_OK);
    /* Its order is not unique: that is found by the pager, not by the server. */
    assert_int_equal(evpq_pager_open(&pager, live.pool,
                                     EVPQ_PAGER_OPTIONS(.sql = "SELECT 1 AS a FROM "
                                                               "generate_series(1, 9)",
                                                        .order_by = "a", .page_size = 2)),
                     EVPQ_OK);
    add(evpq_pool_query(&op, live.pool, EVPQ_QUERY("SELECT 1"), outcome_result, &query), &op);
    add(evpq_pool_query(&op, live.pool, EVPQ_QUERY("SELECT 1 / 0"), outcome_result, &failure), &op);
    add(evpq_pool_acquire(&op, live.pool, NULL, outcome_lease, &lease), &op);
    add(evpq_pager_next(&op, pager, on_page, &page), &op);
    add(evpq_pool_query(&op, live.pool, EVPQ_QUERY(""), outcome_result, NULL), &op);
    assert_int_equal(evpq_group_wait(NULL, group, on_all, NULL), EVPQ_OK);
    live_wait(&live, &all);
    assert_int_equal(all.code, EVPQ_EINVALID); /* what could not start was the first to fail */
    assert_int_equal(query.calls + failure.calls + lease.calls + page.calls, 4);
    assert_int_equal(member_codes[0], EVPQ_OK);
    assert_int_equal(member_codes[1], EVPQ_ESERVER);
    assert_int_equal(member_codes[2], EVPQ_OK);
    assert_int_equal(member_codes[3], EVPQ_EINVALID);
    assert_int_equal(page.code, EVPQ_EINVALID);
    assert_int_equal(member_codes[4], EVPQ_EINVALID);
    evpq_pager_close(pager);
    evpq_lease_release(lease.lease);
    outcome_clear(&query);
    outcome_clear(&failure);
}

static void the_first_failure_cancels_statements_on_the_server(void **state)
{
    (void)state;
    struct outcome slow[3] = {{0}}, failure = {0};
    evpq_op *op;
    memset(&all, 0, sizeof(all));
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    assert_int_equal(
        evpq_group_open(&group, live.loop, EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_FAIL_FAST)),
        EVPQ_OK);
    double started = live_now();
    for (int i = 0; i < 3; i++)
        add(evpq_pool_query(&op, live.pool, EVPQ_QUERY("SELECT pg_sleep(30)"), outcome_result,
                            &slow[i]),
            &op);
    add(evpq_pool_query(&op, live.pool, EVPQ_QUERY("SELECT 1 / 0"), outcome_result, &failure), &op);
    assert_int_equal(evpq_group_wait(NULL, group, on_all, NULL), EVPQ_OK);
    live_wait(&live, &all);
    assert_int_equal(all.code, EVPQ_ESERVER);
    assert_string_equal(all.sqlstate, "22012");
    for (int i = 0; i < 3; i++)
        assert_int_equal(slow[i].code, EVPQ_ECANCELED);
    assert_true(live_now() - started < 10 * live_slow());
    outcome_clear(&failure);
    for (int i = 0; i < 3; i++)
        outcome_clear(&slow[i]);
}

/* Limits of the pool */

enum { ROWS = 50 };

static struct {
    evpq_pager *pager;
    evpq_scan *scan;
    int rows;
    evpq_code code;
    bool over;
} walk;

static void on_walk(evpq_page *page, const evpq_error *err, void *user)
{
    walk.code = evpq_error_code(err);
    walk.rows += (int)evpq_page_rows(page);
    walk.over = !page || !evpq_page_has_next(page) ||
                (walk.pager ? evpq_pager_next(NULL, walk.pager, on_walk, user)
                            : evpq_scan_next(NULL, walk.scan, on_walk, user)) != EVPQ_OK;
}

static bool walk_over(struct live *l, void *arg)
{
    (void)l, (void)arg;
    return walk.over;
}

static void run_sql(const char *sql)
{
    struct outcome outcome = {0};
    live_query(&live, &outcome, EVPQ_QUERY(sql));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
}

/* With room for one at a time, what they do besides must not wait for itself: the proof of an
 * order, the connections of a scan. */
static void pages_cursors_and_scans_pass_the_limits_of_the_pool(void **state)
{
    (void)state;
    static const char sql[] = "SELECT id FROM evpq_flow";
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4, .acquire_timeout_ms = 2000));
    run_sql("DROP TABLE IF EXISTS evpq_flow");
    run_sql("CREATE TABLE evpq_flow AS SELECT generate_series(1, 50)::int8 AS id");
    run_sql("ALTER TABLE evpq_flow ADD PRIMARY KEY (id)");
    assert_int_equal(evpq_pool_limit(live.pool, EVPQ_POOL_LIMITS(.max_concurrent = 1)), EVPQ_OK);
    for (int kind = 0; kind < 3; kind++) {
        memset(&walk, 0, sizeof(walk));
        if (kind < 2)
            assert_int_equal(
                evpq_pager_open(
                    &walk.pager, live.pool,
                    EVPQ_PAGER_OPTIONS(.sql = sql, .order_by = "id", .page_size = 10,
                                       .mode = kind ? EVPQ_PAGES_CURSOR : EVPQ_PAGES_KEYSET)),
                EVPQ_OK);
        else
            assert_int_equal(evpq_scan_open(&walk.scan, live.pool,
                                            EVPQ_SCAN_OPTIONS(.sql = sql, .order_by = "id",
                                                              .page_size = 10, .workers = 3)),
                             EVPQ_OK);
        assert_int_equal(walk.pager ? evpq_pager_next(NULL, walk.pager, on_walk, NULL)
                                    : evpq_scan_next(NULL, walk.scan, on_walk, NULL),
                         EVPQ_OK);
        live_until(&live, walk_over, NULL, 30 * live_slow());
        evpq_pager_close(walk.pager);
        evpq_scan_close(walk.scan);
        assert_int_equal(walk.code, EVPQ_OK);
        assert_int_equal(walk.rows, ROWS);
    }
    run_sql("DROP TABLE evpq_flow");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_chain_keeps_its_goodput_under_overload, end),
        cmocka_unit_test_teardown(a_group_gathers_operations_of_all_kinds, end),
        cmocka_unit_test_teardown(the_first_failure_cancels_statements_on_the_server, end),
        cmocka_unit_test_teardown(pages_cursors_and_scans_pass_the_limits_of_the_pool, end),
    };
    return pooler_run_group_tests_name("flow", tests, NULL, NULL);
}
