/* SPDX-License-Identifier: MIT */
/* Acquire and release, sizes, ages, close: the pool on a real server. */
#include "support/live.h"
#include "support/pooler.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

struct order {
    int next;
    int seen[64];
};
struct nth {
    struct order *order;
    int number;
};

static void note_order(evpq_result *result, const evpq_error *err, void *user)
{
    struct nth *nth = user;
    (void)result;
    assert_null(err);
    nth->order->seen[nth->order->next++] = nth->number;
}

static bool all_seen(struct live *live, void *arg)
{
    (void)live;
    return ((struct order *)arg)->next == 40;
}

static void waiters_are_served_in_the_order_of_arrival(void **state)
{
    (void)state;
    struct live live;
    struct order order = {0};
    struct nth nth[40];
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int i = 0; i < 40; i++) {
        nth[i] = (struct nth){&order, i};
        assert_int_equal(
            evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), note_order, &nth[i]), 0);
    }
    live_until(&live, all_seen, &order, 20.);
    for (int i = 0; i < 40; i++)
        assert_int_equal(order.seen[i], i);
    live_close(&live);
}

static bool three_idle(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == 3;
}

static void nobody_queues_behind_a_slow_statement_on_a_shared_connection(void **state)
{
    (void)state;
    enum { AT_ONCE = 8, ROUNDS = 20 };
    struct live live;
    struct outcome slow[2] = {{0}}, quick[AT_ONCE];
    live_open(&live, EVPQ_POOL_OPTIONS(.min_size = 3, .max_size = 3, .pipeline_depth = 16));
    live_until(&live, three_idle, NULL, 20.);
    for (int i = 0; i < 2; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(600)"),
                                         outcome_result, &slow[i]),
                         EVPQ_OK);
    live_run(&live, 0.1); /* they are known to be slow by now */
    for (int round = 0; round < ROUNDS; round++) {
        memset(quick, 0, sizeof(quick));
        for (int i = 0; i < AT_ONCE; i++)
            assert_int_equal(
                evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), outcome_result, &quick[i]),
                EVPQ_OK);
        for (int i = 0; i < AT_ONCE; i++) {
            live_wait(&live, &quick[i]);
            assert_int_equal(quick[i].code, EVPQ_OK);
            outcome_clear(&quick[i]);
        }
    }
    assert_int_equal(slow[0].calls + slow[1].calls, 0);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    live.pool = NULL;
    for (int i = 0; i < 2; i++) {
        live_wait(&live, &slow[i]);
        outcome_clear(&slow[i]);
    }
    live_close(&live);
}

static void a_lease_is_one_session(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 3));
    live_acquire(&live, &lease);
    assert_int_equal(live_stats(&live).busy, 1);
    live_lease_query(&live, &outcome, lease.lease, EVPQ_QUERY("SET search_path = evpq_mark"));
    outcome_clear(&outcome);
    /* Many calls at once run one after another. */
    struct outcome many[20] = {0};
    for (int i = 0; i < 20; i++)
        assert_int_equal(evpq_lease_query(NULL, lease.lease,
                                          EVPQ_QUERY("SELECT $1::int8 FROM (SELECT current_setting("
                                                     "'search_path') AS p) s WHERE p = 'evpq_mark'",
                                                     EVPQ_PARAMS(evpq_int8(i))),
                                          outcome_result, &many[i]),
                         EVPQ_OK);
    for (int i = 0; i < 20; i++) {
        int64_t value = -1;
        live_wait(&live, &many[i]);
        assert_int_equal(evpq_result_int8(many[i].result, 0, 0, &value), EVPQ_OK);
        assert_int_equal(value, i);
        outcome_clear(&many[i]);
    }
    live_lease_query(&live, &outcome, lease.lease, EVPQ_QUERY("RESET search_path"));
    outcome_clear(&outcome);
    evpq_lease_release(lease.lease);
    assert_int_equal(live_stats(&live).busy, 0);
    live_close(&live);
}

static void acquire_times_out_when_all_are_taken(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, late = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    assert_int_equal(evpq_pool_acquire(NULL, live.pool, EVPQ_ACQUIRE_OPTIONS(.timeout_ms = 50),
                                       outcome_lease, &late),
                     EVPQ_OK);
    live_wait(&live, &late);
    assert_int_equal(late.code, EVPQ_ETIMEOUT);
    assert_int_equal(late.fate, EVPQ_NOT_SENT);
    evpq_lease_release(lease.lease);
    /* And nobody has been left with it. */
    live_acquire(&live, &lease);
    assert_int_equal(lease.code, EVPQ_OK);
    evpq_lease_release(lease.lease);
    assert_int_equal(live_stats(&live).timeouts, 1);
    live_close(&live);
}

static void releasing_a_busy_lease_cancels_what_it_runs(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, running = {0}, waiting = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    assert_int_equal(evpq_lease_query(NULL, lease.lease, EVPQ_QUERY("SELECT pg_sleep(30)"),
                                      outcome_result, &running),
                     EVPQ_OK);
    assert_int_equal(
        evpq_lease_query(NULL, lease.lease, EVPQ_QUERY("SELECT 1"), outcome_result, &waiting),
        EVPQ_OK);
    live_run(&live, 0.1);
    evpq_lease_release(lease.lease);
    live_wait(&live, &running);
    live_wait(&live, &waiting);
    assert_int_equal(running.code, EVPQ_ECANCELED);
    assert_int_equal(running.fate, EVPQ_UNKNOWN);
    assert_int_equal(waiting.code, EVPQ_ECANCELED);
    assert_int_equal(waiting.fate, EVPQ_NOT_SENT);
    double start = live_now();
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 5::int8")), 5);
    assert_true(live_now() - start < 2. * live_slow());
    assert_int_equal(live_stats(&live).dialed, 1);
    live_close(&live);
}

static void a_cancel_that_comes_too_early_is_repeated(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t pid = live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()"));
    if (live_conninfo() || kill((pid_t)pid, SIGSTOP) != 0) {
        print_message("the server under test is not ours to stop\n");
        live_close(&live);
        skip();
    }
    /* Stopped while idle, the server meets the cancel before the statement: and forgets it. */
    live_query(&live, &outcome, EVPQ_QUERY("SELECT pg_sleep(30)", .timeout_ms = 100));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    live_run(&live, 0.3);
    assert_int_equal(kill((pid_t)pid, SIGCONT), 0);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()")), pid);
    assert_int_equal(live_stats(&live).closed_broken, 0);
    live_close(&live);
}

static void a_lease_goes_on_after_a_statement_timed_out(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, late = {0}, next = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    assert_int_equal(evpq_lease_query(NULL, lease.lease,
                                      EVPQ_QUERY("SELECT pg_sleep(30)", .timeout_ms = 100),
                                      outcome_result, &late),
                     EVPQ_OK);
    assert_int_equal(
        evpq_lease_query(NULL, lease.lease, EVPQ_QUERY("SELECT 9::int8"), outcome_result, &next),
        EVPQ_OK);
    live_wait(&live, &late);
    assert_int_equal(late.code, EVPQ_ETIMEOUT);
    live_wait(&live, &next);
    assert_int_equal(next.code, EVPQ_OK);
    outcome_clear(&next);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void a_lease_whose_connection_dies_stays_a_handle(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    live_lease_query(&live, &outcome, lease.lease,
                     EVPQ_QUERY("SELECT pg_terminate_backend(pg_backend_pid())"));
    assert_int_equal(outcome.code, EVPQ_EDISCONNECTED);
    live_run(&live, 0.05);
    assert_int_equal(
        evpq_lease_query(NULL, lease.lease, EVPQ_QUERY("SELECT 1"), outcome_result, &outcome),
        EVPQ_EDISCONNECTED);
    /* Its slot is free already. */
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 3::int8")), 3);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void an_idle_connection_that_the_server_ends_is_noticed_and_replaced(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    int64_t pid = live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
    char sql[100];
    snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d)::int", (int)pid);
    aside_int8(sql);
    live_run(&live, 0.2);
    assert_int_equal(live_stats(&live).total, 0);
    assert_int_equal(live_stats(&live).closed_broken, 1);
    assert_int_not_equal(live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()::int8")), pid);
    live_close(&live);
}

static bool has_idle(struct live *live, void *arg)
{
    return live_stats(live).idle == *(uint32_t *)arg && live_stats(live).total == *(uint32_t *)arg;
}

static void min_size_is_opened_and_kept(void **state)
{
    (void)state;
    struct live live;
    uint32_t three = 3;
    live_open(&live, EVPQ_POOL_OPTIONS(.min_size = 3, .max_size = 5, .idle_timeout_ms = 50));
    live_until(&live, has_idle, &three, 10.);
    /* Idle for long, but not more than min_size. */
    live_run(&live, 0.3);
    assert_true(has_idle(&live, &three));
    assert_int_equal(live_stats(&live).closed_idle, 0);
    live_close(&live);
}

static void idle_connections_above_min_size_are_closed(void **state)
{
    (void)state;
    struct live live;
    struct outcome leases[4];
    uint32_t one = 1;
    live_open(&live, EVPQ_POOL_OPTIONS(.min_size = 1, .max_size = 4, .idle_timeout_ms = 200));
    for (int i = 0; i < 4; i++)
        live_acquire(&live, &leases[i]);
    for (int i = 0; i < 4; i++)
        evpq_lease_release(leases[i].lease);
    live_until(&live, has_idle, &one, 10.);
    assert_int_equal(live_stats(&live).closed_idle, 3);
    live_close(&live);
}

static bool has_retired_one(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).closed_lifetime >= 1;
}

static void connections_are_replaced_at_max_lifetime(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2, .max_lifetime_ms = 150));
    int64_t first = live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
    live_until(&live, has_retired_one, NULL, 5.);
    assert_int_not_equal(live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()::int8")), first);
    live_close(&live);
}

static void a_connection_with_a_huge_result_behind_it_is_replaced(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t first = live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
    struct outcome outcome;
    live_query(&live, &outcome, EVPQ_QUERY("SELECT repeat('x', 20000000)"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    assert_int_not_equal(live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()::int8")), first);
    live_close(&live);
}

static void a_spike_opens_few_connections(void **state)
{
    (void)state;
    struct live live;
    uint32_t two = 2;
    struct outcome outcomes[50] = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.min_size = 2, .max_size = 50));
    live_until(&live, has_idle, &two, 10.);
    for (int i = 0; i < 50; i++)
        assert_int_equal(
            evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), outcome_result, &outcomes[i]),
            EVPQ_OK);
    for (int i = 0; i < 50; i++) {
        live_wait(&live, &outcomes[i]);
        outcome_clear(&outcomes[i]);
    }
    live_run(&live, 0.3);
    print_message("%u connections after a spike of 50 queries\n", live_stats(&live).total);
    assert_true(live_stats(&live).total < 20);
    live_close(&live);
}

static void note_closed(void *user)
{
    ++*(int *)user;
}

static void close_finishes_what_it_has(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcomes[10] = {0};
    int closed = 0;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    for (int i = 0; i < 10; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(0.02)"),
                                         outcome_result, &outcomes[i]),
                         EVPQ_OK);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_FINISH, 0, note_closed, &closed),
                     EVPQ_OK);
    assert_int_equal(closed, 0);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_FINISH, 0, note_closed, &closed),
                     EVPQ_ECLOSED);
    assert_int_equal(
        evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), outcome_result, &outcomes[0]),
        EVPQ_ECLOSED);
    live.pool = NULL;
    live_close(&live);
    assert_int_equal(closed, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(outcomes[i].calls, 1);
        assert_int_equal(outcomes[i].code, EVPQ_OK);
        outcome_clear(&outcomes[i]);
    }
}

static void close_works_before_anything_happened(void **state)
{
    (void)state;
    for (int dialing = 0; dialing < 2; dialing++) {
        struct live live;
        int closed = 0;
        live_open(&live, EVPQ_POOL_OPTIONS(.min_size = dialing ? 2 : 0));
        assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, note_closed, &closed),
                         EVPQ_OK);
        live.pool = NULL;
        live_close(&live);
        assert_int_equal(closed, 1);
    }
}

static void close_at_any_moment_calls_everybody_back_once(void **state)
{
    (void)state;
    /* Close after a little more of the loop each time: dialing, queued, sent, answered. */
    for (int moment = 0; moment < 40; moment++) {
        struct live live;
        struct outcome outcomes[8] = {0}, lease = {0};
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
        for (int i = 0; i < 8; i++)
            assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(0.001)"),
                                             outcome_result, &outcomes[i]),
                             EVPQ_OK);
        assert_int_equal(evpq_pool_acquire(NULL, live.pool, NULL, outcome_lease, &lease), EVPQ_OK);
        live_run(&live, 0.0007 * moment);
        evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL);
        live.pool = NULL;
        live_close(&live);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(outcomes[i].calls, 1);
            assert_true(outcomes[i].code == EVPQ_OK || outcomes[i].code == EVPQ_ECLOSED);
            outcome_clear(&outcomes[i]);
        }
        assert_int_equal(lease.calls, 1);
        evpq_lease_release(lease.lease);
    }
}

static void two_pools_on_one_loop_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct live live, other;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    other = live;
    evpq_pool_options options = {.size = sizeof(options), .conninfo = live_conninfo()};
    assert_int_equal(evpq_pool_open(&other.pool, live.loop, &options), EVPQ_OK);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
    assert_int_equal(live_int8(&other, EVPQ_QUERY("SELECT 2::int8")), 2);
    evpq_pool_close(other.pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 3::int8")), 3);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waiters_are_served_in_the_order_of_arrival),
        cmocka_unit_test(nobody_queues_behind_a_slow_statement_on_a_shared_connection),
        cmocka_unit_test(a_lease_is_one_session),
        cmocka_unit_test(acquire_times_out_when_all_are_taken),
        cmocka_unit_test(releasing_a_busy_lease_cancels_what_it_runs),
        cmocka_unit_test(a_cancel_that_comes_too_early_is_repeated),
        cmocka_unit_test(a_lease_goes_on_after_a_statement_timed_out),
        cmocka_unit_test(a_lease_whose_connection_dies_stays_a_handle),
        cmocka_unit_test(an_idle_connection_that_the_server_ends_is_noticed_and_replaced),
        cmocka_unit_test(min_size_is_opened_and_kept),
        cmocka_unit_test(idle_connections_above_min_size_are_closed),
        cmocka_unit_test(connections_are_replaced_at_max_lifetime),
        cmocka_unit_test(a_connection_with_a_huge_result_behind_it_is_replaced),
        cmocka_unit_test(a_spike_opens_few_connections),
        cmocka_unit_test(close_finishes_what_it_has),
        cmocka_unit_test(close_works_before_anything_happened),
        cmocka_unit_test(close_at_any_moment_calls_everybody_back_once),
        cmocka_unit_test(two_pools_on_one_loop_do_not_disturb_each_other),
    };
    return pooler_run_group_tests_name("pool", tests, NULL, NULL);
}
