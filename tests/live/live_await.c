/* SPDX-License-Identifier: MIT */
/* Coroutines that wait for a real server: many at once, and a pool that closes under them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "support/live.h"
#include "support/pooler.h"

#include <evpq/await.h>

static struct live live;
static evpq_await *await;
static int over, good, closed;
static bool await_closed;

static void on_over(void *user)
{
    (void)user;
    over++;
}

static void on_await_closed(void *user)
{
    (void)user;
    await_closed = true;
}

static bool all_over(struct live *l, void *arg)
{
    (void)l;
    return over == *(int *)arg;
}

static void start(evpq_coroutine_fn *run, int count)
{
    over = good = closed = 0;
    await_closed = false;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 8, .max_waiters = 20000,
                                       .query_timeout_ms = 600000, .acquire_timeout_ms = 600000));
    assert_int_equal(
        evpq_await_open(&await, live.loop,
                        EVPQ_AWAIT_OPTIONS(.max_coroutines = (uint32_t)count, .stack_size = 32768)),
        EVPQ_OK);
    for (int i = 0; i < count; i++)
        assert_int_equal(evpq_await_start(NULL, await, run, NULL, 0, on_over), EVPQ_OK);
}

static void finish(void)
{
    evpq_await_close(await, on_await_closed, NULL);
    live_close(&live);
    assert_true(await_closed);
}

static void reads_top_to_bottom(evpq_coroutine *self, void *user)
{
    evpq_lease *lease = NULL;
    evpq_result *result = NULL;
    int64_t sum = 0, value = 0;
    (void)user;
    for (int i = 1; i <= 2; i++) {
        if (evpq_await_query(self, live.pool,
                             EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(i))),
                             &result) != EVPQ_OK ||
            evpq_result_int8(result, 0, 0, &value) != EVPQ_OK)
            return;
        sum += value;
    }
    if (evpq_await_acquire(self, live.pool, NULL, &lease) != EVPQ_OK)
        return;
    if (evpq_await_lease_query(self, lease, EVPQ_QUERY("BEGIN"), NULL) == EVPQ_OK &&
        evpq_await_lease_query(self, lease, EVPQ_QUERY("SELECT 1 / 0"), &result) == EVPQ_ESERVER &&
        !result && evpq_error_sqlstate(evpq_await_error(self))[0] == '2' &&
        evpq_await_lease_query(self, lease, EVPQ_QUERY("ROLLBACK"), NULL) == EVPQ_OK)
        good += sum == 3;
    evpq_lease_release(lease);
}

static void ten_thousand_coroutines_wait_for_queries(void **state)
{
    (void)state;
    int count = live_scaled(10000);
    start(reads_top_to_bottom, count);
    live_until(&live, all_over, &count, 120 * live_slow());
    assert_int_equal(good, count);
    finish();
}

static void walks_pages(evpq_coroutine *self, void *user)
{
    evpq_pager *pager;
    evpq_page *page;
    int rows = 0;
    (void)user;
    assert_int_equal(
        evpq_pager_open(&pager, live.pool,
                        EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM generate_series(1, 95) AS id",
                                           .order_by = "id", .page_size = 10,
                                           .assume_unique = true)),
        EVPQ_OK);
    do {
        if (evpq_await_page(self, pager, &page) != EVPQ_OK)
            break;
        rows += (int)evpq_page_rows(page);
    } while (evpq_page_has_next(page));
    evpq_pager_close(pager);
    good += rows == 95;
}

static void a_loop_over_pages_is_a_loop(void **state)
{
    (void)state;
    int count = 10;
    start(walks_pages, count);
    live_until(&live, all_over, &count, 60 * live_slow());
    assert_int_equal(good, count);
    finish();
}

static void count_statement(uint32_t statement, evpq_result *result, const evpq_error *err,
                            void *user)
{
    int64_t value = -1;
    if (result)
        (void)!evpq_result_int8(result, 0, 0, &value);
    *(int *)user += result ? value == (int64_t)statement : err != NULL;
}

static void count_rows(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream;
    *(int *)user += (int)evpq_result_rows(chunk);
}

static void close_it(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)chunk, (void)user;
    evpq_stream_close(stream);
}

#define IS(n) EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(n)))

static void batches_and_streams(evpq_coroutine *self, void *user)
{
    const evpq_batch *both = EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(IS(0), IS(1), IS(2)));
    const evpq_batch *one_fails =
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(IS(0), EVPQ_QUERY("SELECT 1 / 0"), IS(2)));
    const evpq_query *rows = EVPQ_QUERY("SELECT generate_series(1, 1000)");
    evpq_result *result = NULL;
    evpq_lease *lease = NULL;
    int told = 0, counted = 0;
    (void)user;
    if (evpq_await_batch(self, live.pool, both, count_statement, &told) != EVPQ_OK || told != 3 ||
        evpq_await_batch(self, live.pool, both, NULL, NULL) != EVPQ_OK ||
        evpq_await_batch(self, live.pool, one_fails, count_statement, &told) != EVPQ_ESERVER ||
        evpq_error_statement(evpq_await_error(self)) != 1 || told != 6 ||
        evpq_await_batch(self, live.pool, NULL, NULL, NULL) != EVPQ_EINVALID)
        return;
    if (evpq_await_stream(self, live.pool, rows, NULL, count_rows, &counted, &result) != EVPQ_OK ||
        counted != 1000 || evpq_result_affected(result) != 1000 ||
        evpq_await_stream(self, live.pool, rows, NULL, NULL, NULL, NULL) != EVPQ_EINVALID ||
        evpq_await_stream(self, live.pool, EVPQ_QUERY("SELEC"), NULL, count_rows, &counted,
                          &result) != EVPQ_ESERVER ||
        result ||
        evpq_await_stream(self, live.pool, rows, NULL, close_it, NULL, NULL) != EVPQ_ECANCELED)
        return;
    if (evpq_await_acquire(self, live.pool, NULL, &lease) != EVPQ_OK)
        return;
    told = counted = 0;
    good += evpq_await_lease_batch(self, lease, both, count_statement, &told) == EVPQ_OK &&
            evpq_await_lease_stream(self, lease, rows, NULL, count_rows, &counted, &result) ==
                EVPQ_OK &&
            told == 3 && counted == 1000;
    evpq_lease_release(lease);
}

static void batches_and_streams_are_waited_for(void **state)
{
    (void)state;
    int count = live_scaled(100);
    start(batches_and_streams, count);
    live_until(&live, all_over, &count, 60 * live_slow());
    assert_int_equal(good, count);
    finish();
}

/* Each is cancelled where it waits: its parts are told, then it goes on. */
static void slow_batch_then_stream(evpq_coroutine *self, void *user)
{
    int told = 0;
    const evpq_batch *batch =
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY("SELECT pg_sleep(600)"), IS(1)));
    int code = user ? evpq_await_stream(self, live.pool, EVPQ_QUERY("SELECT pg_sleep(600)"), NULL,
                                        count_rows, &told, NULL)
                    : evpq_await_batch(self, live.pool, batch, count_statement, &told);
    closed += code == EVPQ_ETIMEOUT && told == (user ? 0 : 2);
    closed += evpq_await_batch(self, live.pool, batch, count_statement, &told) == EVPQ_ETIMEOUT;
}

static void the_deadline_of_a_coroutine_ends_them(void **state)
{
    (void)state;
    int count = 2;
    start(slow_batch_then_stream, 0); /* those below have a deadline */
    for (int i = 0; i < count; i++)
        assert_int_equal(evpq_await_start(NULL, await, slow_batch_then_stream,
                                          i ? (void *)&live : NULL, 100, on_over),
                         EVPQ_OK);
    live_until(&live, all_over, &count, 60 * live_slow());
    assert_int_equal(closed, 4);
    finish();
}

static evpq_router *router;

static void writes_and_reads(evpq_coroutine *self, void *user)
{
    evpq_result *result = NULL;
    bool standby;
    (void)user;
    if (evpq_await_router_query(self, router, EVPQ_QUERY("SELECT txid_current()"), NULL, NULL) !=
            EVPQ_OK ||
        evpq_await_router_query(self, router, EVPQ_QUERY("SELECT pg_is_in_recovery()"),
                                EVPQ_READ_ONLY(), &result) != EVPQ_OK ||
        evpq_result_bool(result, 0, 0, &standby) != EVPQ_OK)
        return;
    good += evpq_await_router_query(self, router, EVPQ_QUERY("SELECT 1 / 0"), EVPQ_READ_ONLY(),
                                    &result) == EVPQ_ESERVER;
}

static void a_router_is_waited_for_as_a_pool_is(void **state)
{
    (void)state;
    int count = 20;
    evpq_pool *other = NULL;
    start(writes_and_reads, count);
    assert_int_equal(
        evpq_pool_open(&other, live.loop, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo())), EVPQ_OK);
    assert_int_equal(
        evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = live.pool, EVPQ_STANDBYS(other))),
        EVPQ_OK);
    live_until(&live, all_over, &count, 60 * live_slow());
    assert_int_equal(good, count);
    evpq_router_close(router);
    assert_int_equal(evpq_pool_close(other, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_OK);
    finish();
}

static void waits_for_ever(evpq_coroutine *self, void *user)
{
    (void)user;
    int code = evpq_await_query(self, live.pool, EVPQ_QUERY("SELECT pg_sleep(600)"), NULL);
    closed += code == EVPQ_ECLOSED;
}

static void no_coroutine_is_lost_when_the_pool_closes_under_them(void **state)
{
    (void)state;
    int count = live_scaled(1000);
    start(waits_for_ever, count);
    live_run(&live, 0.3);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    live.pool = NULL;
    ev_run(live.loop, 0);
    assert_int_equal(over, count);
    assert_int_equal(closed, count);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ten_thousand_coroutines_wait_for_queries),
        cmocka_unit_test(a_loop_over_pages_is_a_loop),
        cmocka_unit_test(batches_and_streams_are_waited_for),
        cmocka_unit_test(the_deadline_of_a_coroutine_ends_them),
        cmocka_unit_test(a_router_is_waited_for_as_a_pool_is),
        cmocka_unit_test(no_coroutine_is_lost_when_the_pool_closes_under_them),
    };
    return pooler_run_group_tests_name("await", tests, NULL, NULL);
}
