/* SPDX-License-Identifier: MIT */
/* When servers are asked and what comes of it, on pools that are played here; how a router ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/router_story.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        router_test(without_the_primary_the_bound_runs_out),
        router_test(a_standby_that_has_lost_a_connection_is_asked_before_it_is_used),
        router_test(a_standby_that_is_promoted_is_used_as_one_no_longer),
        router_test(a_primary_that_is_a_standby_tells_nothing),
        router_test(a_strange_answer_is_none),
        router_test(a_standby_that_is_busy_is_not_taken_for_dead),
        router_test(who_waits_for_a_connection_leaves_when_there_is_none),
        router_test(nobody_is_asked_while_nothing_is_read),
        router_test(each_server_has_one_question_at_a_time),
        router_test(the_interval_follows_the_bound),
        router_test(a_closed_router_lets_reads_end),
        router_test(a_router_may_be_closed_in_a_callback),
        router_test(pools_that_are_closed_are_left_alone),
        router_test(options_are_looked_at),
        router_test(calls_are_looked_at),
        router_test(without_memory_each_call_still_ends),
    };
    return cmocka_run_group_tests_name("router_probe", tests, NULL, NULL);
}
