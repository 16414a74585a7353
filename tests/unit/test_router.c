/* SPDX-License-Identifier: MIT */
/* Who serves a read, on pools that are played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/router.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pg/result.h"
#include "pg/value.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pools.h"

static struct evpq_pool *const primary = &fake_pools[0], *const one = &fake_pools[1],
                               *const two = &fake_pools[2];
static evpq_router *router;

struct seen {
    evpq_op *op;
    int calls;
    evpq_code code;
    evpq_fate fate;
    uint64_t lsn;
    bool close; /* the router, in the callback */
};

/* ---- answers ---- */

static void put(unsigned char *to, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (unsigned char)(value >> 8 * (size - 1 - i));
}

/* A row of `count` columns in binary; a size of 0 is NULL. Without memory, NULL. */
static struct evpq_result *row(int count, const uint32_t *types, const size_t *sizes,
                               const uint64_t *values)
{
    PGresAttDesc columns[4] = {{0}};
    char name[] = "value";
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    for (int i = 0; i < count; i++)
        columns[i] = (PGresAttDesc){.name = name, .typid = types[i], .format = 1};
    assert_int_equal(PQsetResultAttrs(pg, count, columns), 1);
    for (int i = 0; i < count; i++) {
        unsigned char bytes[8];
        put(bytes, values[i], sizes[i]);
        assert_int_equal(PQsetvalue(pg, 0, i, (char *)bytes, sizes[i] ? (int)sizes[i] : -1), 1);
    }
    return evpq__result_new(pg, NULL);
}

static void give(struct fake_ask *ask, struct evpq_result *result)
{
    assert_non_null(ask);
    if (result)
        fake_ask_answer(ask, result);
    else
        fake_ask_fail(ask, EVPQ_ENOMEM, EVPQ_ROLLED_BACK, NULL);
    fake_settle();
}

/* The probe of a pool hears of a server in this role; its last commit or clock is now. */
static void say(struct evpq_pool *pool, bool standby, uint64_t lsn)
{
    uint64_t now = (uint64_t)fake_now_us() + UINT64_C(800000000000000);
    give(fake_probe(pool), row(4,
                               (const uint32_t[]){EVPQ__OID_BOOL, EVPQ__OID_LSN,
                                                  EVPQ__OID_TIMESTAMPTZ, EVPQ__OID_INT4},
                               (const size_t[]){1, 8, standby ? 0 : 8, standby ? 0 : 4},
                               (const uint64_t[]){standby, lsn, now, 1}));
}

static void answer(struct evpq_pool *pool)
{
    give(fake_statement(pool),
         row(1, (const uint32_t[]){EVPQ__OID_INT4}, (const size_t[]){4}, (const uint64_t[]){42}));
}

static void refuse(struct evpq_pool *pool, evpq_code code, evpq_fate fate, const char *sqlstate)
{
    struct fake_ask *ask = fake_statement(pool);
    assert_non_null(ask);
    fake_ask_fail(ask, code, fate, sqlstate);
    fake_settle();
}

/* ---- questions ---- */

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct seen *seen = user;
    assert_true(!result == !!err);
    seen->calls++;
    seen->code = evpq_error_code(err);
    seen->fate = evpq_error_fate(err);
    if (seen->close) {
        evpq_router_close(router);
        router = NULL;
    }
}

static void ask_with(struct seen *seen, uint32_t timeout_ms, const evpq_read *how)
{
    bool close = seen->close;
    *seen = (struct seen){.close = close};
    assert_int_equal(evpq_router_query(&seen->op, router,
                                       EVPQ_QUERY("SELECT $1", EVPQ_PARAMS(evpq_untyped("p")),
                                                  .timeout_ms = timeout_ms, .tag = "tag"),
                                       how, on_result, seen),
                     EVPQ_OK);
    fake_settle();
}

static void ask(struct seen *seen)
{
    ask_with(seen, 1000, EVPQ_READ_ONLY());
}

/* A router of two standbys, that nobody has asked. */
static void open_idle(void)
{
    assert_int_equal(
        evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one, two),
                                                      .max_lag_ms = 4000)),
        EVPQ_OK);
}

/* Which knows that both are up to date. */
static void open_fresh(void)
{
    open_idle();
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY()), primary);
    say(primary, false, 1000);
    say(one, true, 1000);
    say(two, true, 1000);
}

static evpq_router_stats stats(void)
{
    evpq_router_stats now = {.size = sizeof(now)};
    assert_int_equal(evpq_router_stats_get(router, &now), EVPQ_OK);
    return now;
}

static int begin(void **state)
{
    (void)state;
    fake_reset();
    fake_pools_begin();
    router = NULL;
    return 0;
}

static int end(void **state)
{
    (void)state;
    evpq_router_close(router);
    fake_settle();
    fake_pools_end();
    fake_nothing_left();
    return 0;
}

/* ---- cases ---- */

static void a_write_goes_to_the_primary_and_asks_nobody(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask_with(&seen, 1000, NULL);
    assert_int_equal(fake_probes(primary), 0);
    assert_string_equal(fake_statement(primary)->param, "p");
    answer(primary);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().writes, 1);
    assert_int_equal(stats().reads, 0);
}

static void a_read_goes_to_a_standby_as_it_was_asked(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    struct fake_ask *asked = fake_statement(one) ? fake_statement(one) : fake_statement(two);
    assert_string_equal(asked->sql, "SELECT $1");
    assert_string_equal(asked->param, "p");
    assert_string_equal(asked->tag, "tag");
    assert_int_equal(asked->timeout_ms, 1000);
    assert_false(asked->goes_on);
    answer(asked->pool);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().reads, 1);
    assert_int_equal(stats().to_primary, 0);
    assert_int_equal(fake_statements(primary), 0);
}

static void the_first_read_waits_for_the_first_answers(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    assert_int_equal(stats().waiting, 1);
    say(one, true, 1000);
    assert_null(fake_statement(one));
    say(primary, false, 1000);
    /* What the other standby says is not waited for. */
    assert_int_equal(stats().waiting, 0);
    answer(one);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void the_first_read_goes_to_the_primary_when_no_standby_will_do(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    say(primary, false, 1000);
    give(fake_probe(one), NULL);
    assert_null(fake_statement(primary));
    give(fake_probe(two), NULL);
    answer(primary);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().to_primary, 1);
    assert_int_equal(stats().probe_failures, 2);
}

static void the_first_read_waits_for_half_of_its_time_at_most(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask_with(&seen, 100, EVPQ_READ_ONLY());
    fake_advance(49);
    assert_null(fake_statement(primary));
    fake_advance(1);
    assert_int_equal(fake_statement(primary)->timeout_ms, 50);
    answer(primary);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void a_read_that_waits_can_be_cancelled(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    evpq_op_cancel(seen.op);
    assert_int_equal(seen.calls, 0);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECANCELED);
    assert_int_equal(seen.fate, EVPQ_NOT_SENT);
}

static void a_read_that_runs_can_be_cancelled(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    evpq_op_cancel(seen.op);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECANCELED);
    assert_int_equal(seen.fate, EVPQ_UNKNOWN);
    assert_null(fake_statement(one));
    assert_null(fake_statement(two));
}

static void a_deadline_ends_it_wherever_it_is(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask_with(&seen, 100, EVPQ_READ_ONLY());
    fake_advance(100);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ETIMEOUT);
    assert_int_equal(fake_statements(primary), 0);
}

static void reads_are_shared_out(void **state)
{
    (void)state;
    struct seen seen[10];
    memset(seen, 0, sizeof(seen));
    open_fresh();
    for (int i = 0; i < 10; i++) {
        ask(&seen[i]);
        answer(fake_statement(one) ? one : two);
    }
    assert_int_equal(fake_statements(one), 5);
    assert_int_equal(fake_statements(two), 5);
}

static void the_one_with_less_to_do_is_chosen(void **state)
{
    (void)state;
    struct seen seen[10];
    memset(seen, 0, sizeof(seen));
    open_fresh();
    /* Three of eight are less than two of four. */
    one->slot_count[EVPQ__SLOT_BUSY] = 3;
    one->options.max_size = 8;
    two->slot_count[EVPQ__SLOT_BUSY] = 1;
    two->waiting = 1;
    for (int i = 0; i < 10; i++) {
        ask(&seen[i]);
        answer(one);
    }
    assert_int_equal(fake_statements(two), 0);
}

static void a_standby_that_lags_is_left_out(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    for (int i = 0; i < 5; i++) {
        fake_advance(1000);
        say(primary, false, 2000 + (uint64_t)i);
        say(one, true, 2000 + (uint64_t)i);
        say(two, true, 1500);
    }
    for (int i = 0; i < 4; i++) {
        ask(&seen);
        answer(one);
    }
    assert_int_equal(stats().standbys, 1);
    evpq_standby_stats of_two = {.size = sizeof(of_two)};
    assert_int_equal(evpq_router_standby_get(router, 1, &of_two), EVPQ_OK);
    assert_false(of_two.usable);
    assert_int_equal(of_two.lag_bytes, 504);
    assert_int_equal(of_two.lag_ms, 5000);
    assert_int_equal(of_two.replay_lsn, 1500);
}

static void a_read_may_set_bounds_of_its_own(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    fake_advance(500);
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_ms = 499)), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_ms = 500)), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.after_lsn = 1000)), primary);
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.after_lsn = 1001)), primary);
    ask_with(&seen, 1000, EVPQ_READ_ONLY(.after_lsn = 1001));
    answer(primary);
    assert_int_equal(seen.code, EVPQ_OK);
    fake_advance(500);
    say(primary, false, 1100);
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_bytes = 99)), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_bytes = 100)), primary);
}

static void without_the_primary_the_bound_runs_out(void **state)
{
    (void)state;
    open_fresh();
    for (int i = 0; i < 5; i++) {
        assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY()), primary);
        fake_advance(1000);
        say(one, true, 1000);
        say(two, true, 1000);
    }
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY()), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_ms = EVPQ_NEVER)),
                         primary);
}

static void what_a_standby_fails_another_does_and_then_the_primary(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    struct evpq_pool *first = fake_statement(one) ? one : two;
    struct evpq_pool *second = first == one ? two : one;
    fake_advance(100);
    refuse(first, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, "57P01");
    assert_int_equal(fake_statement(second)->timeout_ms, 900);
    assert_true(fake_statement(second)->goes_on);
    assert_string_equal(fake_statement(second)->param, "p");
    refuse(second, EVPQ_ECONNECT, EVPQ_NOT_SENT, NULL);
    answer(primary);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().moved, 2);
    assert_int_equal(stats().to_primary, 1);
    assert_int_equal(fake_statements(first), 1);
}

static void what_the_primary_fails_is_told(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    refuse(fake_statement(one) ? one : two, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "40001");
    refuse(fake_statement(one) ? one : two, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "40001");
    refuse(primary, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, NULL);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_EDISCONNECTED);
}

static void what_a_statement_fails_is_told_at_once(void **state)
{
    (void)state;
    static const struct {
        evpq_code code;
        evpq_fate fate;
        const char *sqlstate;
    } failures[] = {
        {EVPQ_ESERVER, EVPQ_ROLLED_BACK, "25006"}, /* it writes */
        {EVPQ_ESERVER, EVPQ_ROLLED_BACK, "22012"}, {EVPQ_ETOOLARGE, EVPQ_ROLLED_BACK, NULL},
        {EVPQ_EOVERLOADED, EVPQ_NOT_SENT, NULL},   {EVPQ_ETIMEOUT, EVPQ_UNKNOWN, NULL},
        {EVPQ_ETIMEOUT, EVPQ_NOT_SENT, NULL}, /* all connections were taken */
    };
    open_fresh();
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        struct seen seen = {0};
        ask(&seen);
        refuse(fake_statement(one) ? one : two, failures[i].code, failures[i].fate,
               failures[i].sqlstate);
        assert_int_equal(seen.calls, 1);
        assert_int_equal(seen.code, failures[i].code);
    }
    assert_int_equal(stats().moved, 0);
    assert_int_equal(fake_statements(primary), 0);
}

static void where_there_is_no_connection_waiting_ends_elsewhere(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    one->slot_count[EVPQ__SLOT_IDLE] = two->slot_count[EVPQ__SLOT_IDLE] = 0;
    one->slot_count[EVPQ__SLOT_DIALING] = two->slot_count[EVPQ__SLOT_DIALING] = 1;
    ask(&seen);
    refuse(fake_statement(one) ? one : two, EVPQ_ETIMEOUT, EVPQ_NOT_SENT, NULL);
    answer(fake_statement(one) ? one : two);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void the_overload_of_a_standby_is_told_by_the_call(void **state)
{
    (void)state;
    open_fresh();
    fake_pools_code[1] = fake_pools_code[2] = EVPQ_EOVERLOADED;
    struct seen seen = {0};
    assert_int_equal(
        evpq_router_query(NULL, router, EVPQ_QUERY("SELECT 1"), EVPQ_READ_ONLY(), on_result, &seen),
        EVPQ_EOVERLOADED);
    fake_settle();
    assert_int_equal(seen.calls, 0);
    assert_int_equal(stats().reads, 0);
}

static void a_standby_that_has_lost_a_connection_is_asked_before_it_is_used(void **state)
{
    (void)state;
    open_fresh();
    two->stats.closed_broken++;
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY()), one);
    fake_advance(1000);
    say(two, true, 1000);
    assert_int_equal(stats().standbys, 2);
}

static void a_standby_that_is_promoted_is_used_as_one_no_longer(void **state)
{
    (void)state;
    open_fresh();
    for (int i = 0; i < 3; i++) {
        fake_advance(1000);
        say(primary, false, 1000);
        say(one, true, 1000);
        say(two, false, 1000);
    }
    assert_int_equal(stats().standbys, 1);
    /* Its pool is to look for another, once. */
    assert_int_equal(two->stats.expired, 1);
    assert_int_equal(one->stats.expired, 0);
    assert_int_equal(primary->stats.expired, 0);
    fake_advance(1000);
    say(two, true, 1000);
    say(primary, false, 1000);
    assert_int_equal(stats().standbys, 2);
}

static void a_primary_that_is_a_standby_tells_nothing(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    say(primary, true, 1000);
    say(one, true, 1000);
    say(two, true, 1000);
    assert_int_equal(stats().standbys, 0);
    answer(primary);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void a_strange_answer_is_none(void **state)
{
    (void)state;
    open_fresh();
    fake_advance(1000);
    give(fake_probe(one),
         row(1, (const uint32_t[]){EVPQ__OID_INT4}, (const size_t[]){4}, (const uint64_t[]){1}));
    assert_int_equal(stats().standbys, 1);
    assert_int_equal(stats().probe_failures, 1);
}

static void fail_probe(struct evpq_pool *pool, evpq_code code, evpq_fate fate)
{
    struct fake_ask *probe = fake_probe(pool);
    assert_non_null(probe);
    fake_ask_fail(probe, code, fate, NULL);
    fake_settle();
}

static void a_standby_that_is_busy_is_not_taken_for_dead(void **state)
{
    (void)state;
    open_fresh();
    fake_advance(1000);
    one->slot_count[EVPQ__SLOT_IDLE] = 0;
    one->slot_count[EVPQ__SLOT_BUSY] = 1;
    fail_probe(one, EVPQ_ETIMEOUT, EVPQ_NOT_SENT);
    assert_int_equal(stats().standbys, 2);
    /* It was asked, and has not answered. */
    fail_probe(two, EVPQ_ETIMEOUT, EVPQ_UNKNOWN);
    assert_int_equal(stats().standbys, 1);
    /* There is no connection to be had. */
    fake_advance(1000);
    one->slot_count[EVPQ__SLOT_BUSY] = 0;
    one->slot_count[EVPQ__SLOT_DIALING] = 1;
    fail_probe(one, EVPQ_ETIMEOUT, EVPQ_NOT_SENT);
    assert_int_equal(stats().standbys, 0);
}

static void who_waits_for_a_connection_leaves_when_there_is_none(void **state)
{
    (void)state;
    struct seen waits = {0}, runs = {0}, ended = {0};
    open_fresh();
    two->state = EVPQ__POOL_CLOSED;
    ask_with(&runs, 30000, EVPQ_READ_ONLY());
    struct fake_ask *running = fake_statement(one);
    evpq__op_sent(&running->op);
    ask_with(&waits, 30000, EVPQ_READ_ONLY());
    ask_with(&ended, 30000, EVPQ_READ_ONLY());
    evpq_op_cancel(ended.op);
    two->state = EVPQ__POOL_OPEN;
    fake_advance(1000);
    one->slot_count[EVPQ__SLOT_IDLE] = 0;
    one->slot_count[EVPQ__SLOT_DIALING] = 1;
    fail_probe(one, EVPQ_ECONNECT, EVPQ_NOT_SENT);
    assert_int_equal(stats().moved, 1);
    assert_true(fake_statement(two)->timeout_ms <= 29000);
    answer(two);
    assert_int_equal(waits.calls, 1);
    assert_int_equal(waits.code, EVPQ_OK);
    assert_int_equal(runs.calls, 0);
    answer(one);
    assert_int_equal(runs.code, EVPQ_OK);
    assert_int_equal(ended.code, EVPQ_ECANCELED);
}

static void an_empty_tag_is_copied_too(void **state)
{
    (void)state;
    struct seen seen = {0};
    char *tag = evpq__strdup("");
    open_idle();
    assert_int_equal(evpq_router_query(NULL, router, EVPQ_QUERY("SELECT 1", .tag = tag),
                                       EVPQ_READ_ONLY(), on_result, &seen),
                     EVPQ_OK);
    evpq__free(tag);
    say(primary, false, 1000);
    say(one, true, 1000);
    answer(one);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void nobody_is_asked_while_nothing_is_read(void **state)
{
    (void)state;
    open_idle();
    fake_advance(60000);
    assert_int_equal(fake_probes(primary), 0);
    (void)!evpq_router_pool(router, EVPQ_READ_ONLY());
    for (int i = 0; i < 60; i++) {
        if (fake_probe(primary)) {
            say(primary, false, 1000);
            say(one, true, 1000);
            say(two, true, 1000);
        }
        fake_advance(1000);
    }
    assert_int_equal(fake_probes(primary), 11);
    assert_int_equal(fake_probes(one), 11);
    assert_int_equal(fake_timers(), 0);
}

static void each_server_has_one_question_at_a_time(void **state)
{
    (void)state;
    open_idle();
    for (int i = 0; i < 20; i++) {
        (void)!evpq_router_pool(router, EVPQ_READ_ONLY());
        if (fake_probe(primary))
            say(primary, false, 1000);
        fake_advance(400);
    }
    /* Eight seconds: one a second of who answers; of who does not, one until it times out. */
    assert_in_range(fake_probes(primary), 7, 9);
    assert_in_range(fake_probes(one), 4, 8);
    assert_int_equal(one->ops, 1);
}

static void the_interval_follows_the_bound(void **state)
{
    (void)state;
    assert_int_equal(
        evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one),
                                                      .max_lag_ms = 200)),
        EVPQ_OK);
    for (int i = 0; i < 10; i++) {
        (void)!evpq_router_pool(router, EVPQ_READ_ONLY());
        say(primary, false, 1000);
        say(one, true, 1000);
        fake_advance(50);
    }
    assert_int_equal(fake_probes(one), 11);
}

static void a_closed_router_lets_reads_end(void **state)
{
    (void)state;
    struct seen held = {0}, runs = {0};
    open_idle();
    ask(&held);
    evpq_router_close(router);
    open_fresh();
    ask(&runs);
    struct evpq_pool *where = fake_statement(one) ? one : two;
    evpq_router_close(router);
    router = NULL;
    fake_settle();
    assert_null(fake_probe(primary));
    answer(primary);
    assert_int_equal(held.code, EVPQ_OK);
    assert_int_equal(held.calls, 1);
    refuse(where, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, NULL);
    answer(where == one ? two : one);
    assert_int_equal(runs.calls, 1);
    assert_int_equal(runs.code, EVPQ_OK);
}

static void a_router_may_be_closed_in_a_callback(void **state)
{
    (void)state;
    struct seen seen = {.close = true};
    open_fresh();
    ask(&seen);
    answer(fake_statement(one) ? one : two);
    assert_int_equal(seen.calls, 1);
    assert_null(router);
}

static void pools_that_are_closed_are_left_alone(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    one->state = two->state = EVPQ__POOL_CLOSED;
    ask(&seen);
    answer(primary);
    assert_int_equal(seen.code, EVPQ_OK);
    primary->state = EVPQ__POOL_CLOSED;
    assert_int_equal(
        evpq_router_query(NULL, router, EVPQ_QUERY("SELECT 1"), EVPQ_READ_ONLY(), on_result, &seen),
        EVPQ_ECLOSED);
    fake_advance(1000);
    assert_int_equal(fake_timers(), 0);
}

static void on_lsn(uint64_t lsn, const evpq_error *err, void *user)
{
    struct seen *seen = user;
    seen->calls++;
    seen->code = evpq_error_code(err);
    seen->lsn = lsn;
}

static void the_place_of_a_write_is_asked_of_the_primary(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    assert_int_equal(evpq_router_write_lsn(NULL, router, 250, on_lsn, &seen), EVPQ_OK);
    assert_int_equal(fake_statement(primary)->timeout_ms, 250);
    give(fake_statement(primary), row(1, (const uint32_t[]){EVPQ__OID_LSN}, (const size_t[]){8},
                                      (const uint64_t[]){UINT64_C(0x16B374D848)}));
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_true(seen.lsn == UINT64_C(0x16B374D848));
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, on_lsn, &seen), EVPQ_OK);
    refuse(primary, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "55000");
    assert_int_equal(seen.code, EVPQ_ESERVER);
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, on_lsn, &seen), EVPQ_OK);
    answer(primary);
    assert_int_equal(seen.code, EVPQ_ETYPE);
    assert_int_equal(seen.calls, 3);
}

static void options_are_looked_at(void **state)
{
    (void)state;
    struct evpq_pool of_another_loop = {0};
    static const char *const problems[] = {
        "primary is not set",
        "standbys are not 1 to 32",
        "one of the standbys is NULL",
        "the primary is among the standbys",
        "the pools are not all of one loop",
        "probe_interval_ms is below 10, or EVPQ_NEVER",
        "probe_timeout_ms is EVPQ_NEVER",
    };
    const evpq_router_options *const options[] = {
        EVPQ_ROUTER_OPTIONS(EVPQ_STANDBYS(one)),
        EVPQ_ROUTER_OPTIONS(.primary = primary),
        EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one, NULL)),
        EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one, primary)),
        EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(&of_another_loop)),
        EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one), .probe_interval_ms = 9),
        EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one), .probe_timeout_ms = EVPQ_NEVER),
    };
    for (size_t i = 0; i < sizeof(problems) / sizeof(problems[0]); i++) {
        assert_string_equal(evpq_router_options_problem(options[i]), problems[i]);
        assert_int_equal(evpq_router_open(&router, options[i]), EVPQ_EINVALID);
    }
    one->state = EVPQ__POOL_DRAINING;
    assert_int_equal(
        evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one))),
        EVPQ_ECLOSED);
    assert_null(router);
}

static void calls_are_looked_at(void **state)
{
    (void)state;
    open_idle();
    const evpq_read of_the_future = {.size = 1};
    evpq_router_stats too_large = {.size = sizeof(too_large) + 1};
    evpq_standby_stats standby = {.size = sizeof(standby)};
    const evpq_query *good = EVPQ_QUERY("SELECT 1");
    assert_int_equal(evpq_router_query(NULL, NULL, good, NULL, on_result, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_router_query(NULL, router, NULL, NULL, on_result, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_router_query(NULL, router, good, NULL, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_router_query(NULL, router, good, &of_the_future, on_result, NULL),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, NULL, NULL), EVPQ_EINVALID);
    assert_null(evpq_router_pool(NULL, NULL));
    assert_null(evpq_router_pool(router, &of_the_future));
    assert_ptr_equal(evpq_router_pool(router, NULL), primary);
    assert_int_equal(evpq_router_stats_get(router, &too_large), EVPQ_EINVALID);
    assert_int_equal(evpq_router_standby_get(router, 2, &standby), EVPQ_EINVALID);
    assert_int_equal(fake_probes(primary), 0);
}

/* The nth allocation fails: whatever it was for, each accepted call calls back. */
static void without_memory_each_call_still_ends(void **state)
{
    (void)state;
    for (int n = 1; n < 60; n++) {
        struct seen seen = {0};
        fake_mem_fail_at(n);
        int code = evpq_router_open(
            &router, EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one, two)));
        if (code == EVPQ_OK) {
            code = evpq_router_query(NULL, router, EVPQ_QUERY("SELECT 1"), EVPQ_READ_ONLY(),
                                     on_result, &seen);
            fake_settle();
            if (fake_probe(primary))
                say(primary, false, 1000);
            if (fake_probe(one))
                say(one, true, 1000);
            if (fake_probe(two))
                say(two, true, 1000);
            for (int i = 0; i < FAKE_POOLS; i++)
                if (fake_statement(&fake_pools[i]))
                    answer(&fake_pools[i]);
            fake_settle();
            assert_int_equal(seen.calls, code == EVPQ_OK);
            evpq_router_close(router);
            fake_settle();
        }
        router = NULL;
        fake_mem_fail_at(0);
    }
}

#define router_test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        router_test(a_write_goes_to_the_primary_and_asks_nobody),
        router_test(a_read_goes_to_a_standby_as_it_was_asked),
        router_test(the_first_read_waits_for_the_first_answers),
        router_test(the_first_read_goes_to_the_primary_when_no_standby_will_do),
        router_test(the_first_read_waits_for_half_of_its_time_at_most),
        router_test(a_read_that_waits_can_be_cancelled),
        router_test(a_read_that_runs_can_be_cancelled),
        router_test(a_deadline_ends_it_wherever_it_is),
        router_test(reads_are_shared_out),
        router_test(the_one_with_less_to_do_is_chosen),
        router_test(a_standby_that_lags_is_left_out),
        router_test(a_read_may_set_bounds_of_its_own),
        router_test(without_the_primary_the_bound_runs_out),
        router_test(what_a_standby_fails_another_does_and_then_the_primary),
        router_test(what_the_primary_fails_is_told),
        router_test(what_a_statement_fails_is_told_at_once),
        router_test(where_there_is_no_connection_waiting_ends_elsewhere),
        router_test(the_overload_of_a_standby_is_told_by_the_call),
        router_test(a_standby_that_has_lost_a_connection_is_asked_before_it_is_used),
        router_test(a_standby_that_is_promoted_is_used_as_one_no_longer),
        router_test(a_primary_that_is_a_standby_tells_nothing),
        router_test(a_strange_answer_is_none),
        router_test(a_standby_that_is_busy_is_not_taken_for_dead),
        router_test(who_waits_for_a_connection_leaves_when_there_is_none),
        router_test(an_empty_tag_is_copied_too),
        router_test(nobody_is_asked_while_nothing_is_read),
        router_test(each_server_has_one_question_at_a_time),
        router_test(the_interval_follows_the_bound),
        router_test(a_closed_router_lets_reads_end),
        router_test(a_router_may_be_closed_in_a_callback),
        router_test(pools_that_are_closed_are_left_alone),
        router_test(the_place_of_a_write_is_asked_of_the_primary),
        router_test(options_are_looked_at),
        router_test(calls_are_looked_at),
        router_test(without_memory_each_call_still_ends),
    };
    return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
