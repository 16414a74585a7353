/* SPDX-License-Identifier: MIT */
/* Section B of the catalogue: the server stalls; cancels and their neighbours; more than fits. */
#include "support/ledger.h"
#include "support/proxy.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum { SIZE = 10 };

static double usual_rate(double per_s)
{
    return live_slow() > 1. ? per_s / 5. : per_s;
}

static bool all_idle(struct live *live, void *arg)
{
    evpq_pool_stats stats = live_stats(live);
    return stats.idle == *(uint32_t *)arg && stats.total == stats.idle;
}

static void open_full(struct ledger *ledger, struct fault_server *server, uint32_t size)
{
    ledger_open(ledger, server,
                EVPQ_POOL_OPTIONS(.min_size = size, .max_size = size, .cancel_timeout_ms = 500));
    ledger_until(ledger, all_idle, &size, 20.);
}

/* Statements of the pool that run, as the server sees it. */
static int active(struct fault_server *server)
{
    return (int)fault_sql(server,
                          "SELECT count(*) FROM pg_stat_activity WHERE usename = 'evpq' AND "
                          "state = 'active'");
}

static void a_stopped_backend_costs_its_request_the_deadline(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    open_full(&ledger, server, 2);
    struct ledger_entry *stuck =
        ledger_ask(&ledger, LEDGER_WRITE(.seconds = 0.3, .timeout_ms = 1000));
    ledger_run(&ledger, 0.1);
    pid_t pid = (pid_t)fault_sql(server,
                                 "SELECT pid FROM pg_stat_activity WHERE usename = 'evpq' "
                                 "AND state = 'active'");
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    ledger_load(&ledger, 50., LEDGER_ECHO(.timeout_ms = 500));
    ledger_run(&ledger, 0.7);
    assert_int_equal(stuck->calls, 0);
    ledger_run(&ledger, 0.4);
    assert_int_equal(stuck->code, EVPQ_ETIMEOUT);
    assert_int_equal(stuck->fate, EVPQ_UNKNOWN);
    /* Cancelling is of no use; the connection is given up when its time is over. */
    ledger_run(&ledger, 2.);
    assert_true(ledger.stats.closed_broken >= 1);
    assert_int_equal(ledger.stats.cleaning, 0);
    ledger_load(&ledger, 0., NULL);
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0], ledger.answered - 1);
    int codes_before = ledger.answered;
    assert_int_equal(kill(pid, SIGCONT), 0);
    ledger_run(&ledger, 1.);
    assert_int_equal(ledger.answered, codes_before);
    assert_int_equal(fault_sql(server,
                               "SELECT count(*) FROM pg_stat_activity WHERE usename = "
                               "'evpq' AND state = 'active'"),
                     0);
    /* The one that was stopped is still the server's until it goes on: one more than the pool's. */
    ledger.server_extra = 1;
    ledger_check(&ledger);
}

static void a_stopped_server_holds_up_nobody_beyond_the_deadline(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    double seconds = fault_long() ? 10. : 3.;
    open_full(&ledger, server, SIZE);
    ledger_load(&ledger, usual_rate(500.), LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 1000));
    ledger_run(&ledger, 1.);
    assert_true(fault_server_signal(server, NULL, SIGSTOP) > SIZE);
    double stopped = live_now();
    ledger_run(&ledger, seconds);
    assert_int_equal(ledger_goodput(&ledger, stopped + 0.2, live_now()), 0);
    double went_on = live_now();
    assert_true(fault_server_signal(server, NULL, SIGCONT) > SIZE);
    ledger_run(&ledger, live_slow() > 1. ? 8. : 4.);
    ledger_drain(&ledger);
    double last = ledger_last_failure(&ledger);
    ledger_figure("all server processes stopped for %.1f s: all well %.2f s after they go on",
                  seconds, last > went_on ? last - went_on : 0.);
    assert_true(last - went_on < 2. * live_slow());
    assert_int_equal(ledger.codes[0] + ledger.codes[-EVPQ_ETIMEOUT] + ledger.codes[-EVPQ_ECONNECT] +
                         ledger.codes[-EVPQ_EDISCONNECTED],
                     ledger.answered);
    ledger_check(&ledger);
    ledger_figure(
        "all server processes stopped: latest answer %.1f ms after its deadline, "
        "longest turn %.1f ms of CPU, %.1f ms; at most %d connections of %d",
        ledger.latest * 1e3, ledger.dog.longest_cpu * 1e3, ledger.dog.longest * 1e3,
        ledger.server_most, SIZE);
}

static bool has_size(struct live *live, void *arg)
{
    return live_stats(live).idle + live_stats(live).busy == *(uint32_t *)arg;
}

static void a_stopped_postmaster_stops_only_new_connections(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    ledger_open(&ledger, server,
                EVPQ_POOL_OPTIONS(.min_size = 2, .max_size = 4, .connect_timeout_ms = 500));
    ledger_until(&ledger, all_idle, &(uint32_t){2}, 20.);
    assert_int_equal(kill(server->postmaster, SIGSTOP), 0);
    ledger_load(&ledger, 200., LEDGER_WRITE(.seconds = 0.015, .timeout_ms = 20000));
    ledger_run(&ledger, 3.);
    ledger_load(&ledger, 0., NULL);
    ledger_drain(&ledger);
    ledger_run(&ledger, 0.02);
    assert_int_equal(ledger.codes[0], ledger.asked);
    assert_int_equal(ledger.stats.idle, 2);
    assert_true(ledger.stats.dial_failures > 0);
    assert_int_equal(kill(server->postmaster, SIGCONT), 0);
    ledger_load(&ledger, 400., LEDGER_WRITE(.seconds = 0.02, .timeout_ms = 5000));
    ledger_until(&ledger, has_size, &(uint32_t){4}, 8.);
    ledger_check(&ledger);
}

static void waiting_for_a_lock_ends_at_the_deadline(bool by_server)
{
    struct ledger ledger;
    struct fault_server *server = fault_server();
    struct live other;
    struct outcome lease, locked[2];
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_open(&other, EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, ""), .max_size = 1));
    live_acquire(&other, &lease);
    live_lease_query(&other, &locked[0], lease.lease, EVPQ_QUERY("BEGIN"));
    live_lease_query(&other, &locked[1], lease.lease, EVPQ_QUERY("LOCK TABLE effects"));
    assert_int_equal(locked[1].code, EVPQ_OK);
    struct ledger_entry *entry = ledger_ask_and_wait(
        &ledger, LEDGER_WRITE(.timeout_ms = 800, .server_timeout = by_server ? EVPQ_ON : EVPQ_OFF));
    assert_int_equal(entry->code, EVPQ_ETIMEOUT);
    assert_int_equal(entry->fate, by_server ? EVPQ_ROLLED_BACK : EVPQ_UNKNOWN);
    assert_string_equal(entry->sqlstate, by_server ? "57014" : "");
    if (by_server)
        assert_true(entry->answered < entry->due && entry->retry_safe);
    for (int i = 0; i < 2; i++)
        outcome_clear(&locked[i]);
    evpq_lease_release(lease.lease);
    live_close(&other);
    assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_WRITE(.timeout_ms = 2000))->code, EVPQ_OK);
    ledger_run(&ledger, 0.05);
    assert_int_equal(ledger.stats.dialed, 1);
    if (by_server)
        assert_int_equal(ledger.stats.cancels, 0);
    ledger_check(&ledger);
}

static void waiting_for_a_lock_ends_by_a_cancel(void **state)
{
    (void)state;
    waiting_for_a_lock_ends_at_the_deadline(false);
}

static void waiting_for_a_lock_ends_by_the_servers_timeout(void **state)
{
    (void)state;
    waiting_for_a_lock_ends_at_the_deadline(true);
}

static void a_cancelled_statement_leaves_the_server_and_its_connection_serves(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    double longest = 0.;
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int i = 0; i < 10; i++) {
        struct ledger_entry *entry = ledger_ask(&ledger, LEDGER_SLEEP(.seconds = 600.));
        ledger_run(&ledger, 0.05);
        evpq_op_cancel(entry->op);
        double start = live_now();
        ledger_until(&ledger, all_idle, &(uint32_t){1}, 5.);
        assert_int_equal(entry->code, EVPQ_ECANCELED);
        double took = live_now() - start;
        longest = took > longest ? took : longest;
        assert_int_equal(fault_sql(server,
                                   "SELECT count(*) FROM pg_stat_activity WHERE usename = "
                                   "'evpq' AND state = 'active'"),
                         0);
    }
    ledger_figure("cancel: the connection was idle again within %.1f ms", longest * 1e3);
    assert_true(longest < 0.100 * live_slow());
    assert_int_equal(live_stats(&ledger.live).dialed, 1);
    ledger_check(&ledger);
}

/* Cancel requests that do not get through: the connection is given up instead. */
static void without_cancels(enum proxy_door door)
{
    struct ledger ledger;
    struct fault_server *server = fault_server();
    struct proxy *proxy = proxy_start("127.0.0.1", server->port);
    char more[32];
    snprintf(more, sizeof(more), "port=%d", proxy_port(proxy));
    ledger_open(&ledger, server,
                EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, more), .min_size = 4,
                                  .max_size = 4, .cancel_timeout_ms = 400));
    ledger_until(&ledger, all_idle, &(uint32_t){4}, 20.);
    proxy_door(proxy, door);
    for (int i = 0; i < 4; i++)
        ledger_ask(&ledger, LEDGER_SLEEP(.seconds = 2., .timeout_ms = 200));
    ledger_run(&ledger, 0.25 * live_slow());
    assert_int_equal(ledger.codes[-EVPQ_ETIMEOUT], 4);
    for (double end = live_now() + 10.; ledger.stats.closed_broken < 4 && live_now() < end;)
        ledger_run(&ledger, 0.05);
    assert_int_equal(ledger.stats.closed_broken, 4);
    proxy_door(proxy, PROXY_OPEN);
    for (int i = 0; i < 8; i++)
        ledger_ask(&ledger, LEDGER_ECHO(.timeout_ms = 10000));
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0], 8);
    /* Nobody told the server, which notices only when it has an answer. */
    ledger.server_extra = 4;
    proxy_stop(proxy);
    ledger_check(&ledger);
}

static void where_cancels_are_refused_the_connection_is_given_up(void **state)
{
    (void)state;
    without_cancels(PROXY_REFUSE);
}

static void where_cancels_vanish_the_connection_is_given_up(void **state)
{
    (void)state;
    without_cancels(PROXY_DEAF);
}

/* The storm: half of all requests are cancelled around the moment they end. */

struct aim {
    ev_timer at;
    struct ledger_entry *target;
};

struct storm {
    struct ledger *ledger;
    struct ledger_entry **neighbours;
    int made, wanted, neighbours_made;
    ev_timer tick;
    unsigned short random[3];
};

static void on_aim(struct ev_loop *loop, ev_timer *w, int events)
{
    struct aim *aim = w->data;
    (void)loop;
    (void)events;
    if (aim->target->op)
        evpq_op_cancel(aim->target->op);
    free(aim);
}

static void on_storm(struct ev_loop *loop, ev_timer *w, int events)
{
    struct storm *storm = w->data;
    (void)events;
    for (int i = 0; i < 4 && storm->made < storm->wanted; i++) {
        struct aim *aim = calloc(1, sizeof(*aim));
        assert_non_null(aim);
        double pause = erand48(storm->random) * 0.005;
        aim->target = ledger_ask(storm->ledger, LEDGER_SLEEP(.seconds = 0.002));
        ev_timer_init(&aim->at, on_aim, pause, 0.);
        aim->at.data = aim;
        ev_timer_start(loop, &aim->at);
        storm->neighbours[storm->made++] = ledger_ask(storm->ledger, LEDGER_ECHO());
    }
    if (storm->made == storm->wanted)
        ev_timer_stop(loop, w);
}

static bool storm_over(struct live *live, void *arg)
{
    (void)live;
    const struct storm *storm = arg;
    return storm->made == storm->wanted && storm->ledger->answered >= storm->ledger->asked;
}

static void a_storm_of_cancels_hits_no_neighbour(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    struct storm storm = {.ledger = &ledger, .random = {1, 2, 3}};
    storm.wanted = live_scaled(fault_long() ? 60000 : 3000);
    storm.neighbours = calloc((size_t)storm.wanted, sizeof(struct ledger_entry *));
    assert_non_null(storm.neighbours);
    ledger_open(
        &ledger, server,
        EVPQ_POOL_OPTIONS(.max_size = SIZE, .cancels_per_s = 100000, .max_waiters = 1000000));
    ev_timer_init(&storm.tick, on_storm, 0., 0.004);
    storm.tick.data = &storm;
    ev_timer_start(ledger.live.loop, &storm.tick);
    ledger_until(&ledger, storm_over, &storm, 300.);
    int unharmed = 0;
    for (int i = 0; i < storm.wanted; i++)
        unharmed += storm.neighbours[i]->code == EVPQ_OK;
    ledger_figure(
        "%d aimed at, %d cancelled in time, %llu cancel requests; %d of %d neighbours "
        "unharmed",
        storm.wanted, ledger.codes[-EVPQ_ECANCELED],
        (unsigned long long)live_stats(&ledger.live).cancels, unharmed, storm.wanted);
    assert_int_equal(unharmed, storm.wanted);
    assert_true(ledger.codes[-EVPQ_ECANCELED] > 0);
    free(storm.neighbours);
    ledger_check(&ledger);
}

/* Callbacks that take their time: the loop is theirs meanwhile. */

static void spin(double seconds)
{
    for (double end = live_now() + seconds; live_now() < end;)
        ;
}

static void on_slow_result(evpq_result *result, const evpq_error *err, void *user)
{
    spin(0.02);
    ledger_on_result(result, err, user);
}

static void a_slow_callback_delays_and_breaks_nothing(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    int n = live_slow() > 1. ? 20 : 60;
    open_full(&ledger, server, 4);
    ledger_load(&ledger, 50., LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 5000));
    for (int i = 0; i < n; i++) {
        struct ledger_entry *entry = ledger_enter(&ledger, 5000, false);
        const evpq_query *query =
            EVPQ_QUERY("SELECT $1::int8, repeat('x', 1000) FROM generate_series(1, 1000)",
                       EVPQ_PARAMS(evpq_int8(entry->nonce)), .timeout_ms = 5000);
        assert_int_equal(evpq_pool_query(NULL, ledger.live.pool, query, on_slow_result, entry),
                         EVPQ_OK);
        ledger_run(&ledger, 0.01);
    }
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0], ledger.asked);
    assert_int_equal(ledger.stats.closed_broken, 0);
    /* Four of them may come in one turn. */
    ledger.turn_cpu = 0.150;
    ledger.turn = 0.400;
    ledger_check(&ledger);
}

static void a_result_without_end_is_cut_at_its_limit(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 2, .max_result_bytes = 1 << 20));
    ledger_load(&ledger, usual_rate(50.), LEDGER_ECHO(.timeout_ms = 2000));
    double longest = 0.;
    for (int i = 0; i < 5; i++) {
        struct ledger_entry *entry =
            ledger_ask_and_wait(&ledger, LEDGER_REQUEST("SELECT $1::int8, repeat('x', 1000), "
                                                        "generate_series(1, 2000000000)",
                                                        .timeout_ms = 20000));
        assert_int_equal(entry->code, EVPQ_ETOOLARGE);
        double took = entry->answered - entry->asked;
        longest = took > longest ? took : longest;
        /* Of one that is small enough nothing is lost. */
        entry = ledger_ask_and_wait(
            &ledger, LEDGER_REQUEST("SELECT $1::int8, repeat('x', 1000) FROM generate_series(1, "
                                    "500)",
                                    .timeout_ms = 5000));
        assert_int_equal(entry->code, EVPQ_OK);
        /* One row that is larger than all. */
        entry = ledger_ask_and_wait(
            &ledger, LEDGER_REQUEST("SELECT $1::int8, repeat('x', 50000000)", .timeout_ms = 5000));
        assert_int_equal(entry->code, EVPQ_ETOOLARGE);
    }
    ledger_figure("a result without end was cut at 1 MiB after %.0f ms at most", longest * 1e3);
    assert_true(longest < 1. * live_slow());
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0] + ledger.codes[-EVPQ_ETOOLARGE], ledger.answered);
    /* And the server does not go on with it for long. */
    for (double end = live_now() + 5. * live_slow(); active(server) && live_now() < end;)
        ledger_run(&ledger, 0.02);
    assert_int_equal(active(server), 0);
    ledger.grown_mib = 24.;
    /* libpq reads a long row as fast as it comes, in one call. */
    ledger.turn_cpu = 0.100;
    ledger_check(&ledger);
}

static void at_twice_the_capacity_all_of_it_is_used(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    double seconds = fault_long() ? 60. : 6., timeout = 1.;
    struct ledger_request request =
        *LEDGER_SLEEP(.seconds = 0.02, .timeout_ms = (uint32_t)(timeout * 1e3));
    open_full(&ledger, server, SIZE);
    /* What it can: as many at a time as fit, each followed by the next. */
    double start = live_now(), span = 3.;
    while (live_now() - start < span) {
        while (ledger.asked - ledger.answered < 2 * SIZE)
            ledger_ask(&ledger, &request);
        ledger_run(&ledger, 0.002);
    }
    double capacity = ledger_goodput(&ledger, start + 0.5, start + span) / (span - 0.5);
    ledger_drain(&ledger);
    start = live_now();
    ledger_load(&ledger, 2. * capacity, &request);
    ledger_run(&ledger, seconds);
    double goodput = ledger_goodput(&ledger, start + 1., start + seconds) / (seconds - 1.);
    ledger_drain(&ledger);
    ledger_figure(
        "capacity %.0f/s; asked for %.0f/s for %.0f s, %.0f/s were answered in time: "
        "%.1f %%; told %d times ETIMEOUT, %d times EOVERLOADED",
        capacity, 2. * capacity, seconds, goodput, 100. * goodput / capacity,
        ledger.codes[-EVPQ_ETIMEOUT], ledger.refused + ledger.codes[-EVPQ_EOVERLOADED]);
    assert_true(goodput >= (live_slow() > 1. ? 0.7 : 0.95) * capacity);
    /* Who was refused never had a connection, and knows why. */
    assert_true(ledger.codes[-EVPQ_ETIMEOUT] > 0);
    assert_int_equal(ledger.codes[0] + ledger.codes[-EVPQ_ETIMEOUT], ledger.answered);
    for (int i = 0; i < ledger.asked; i++)
        if (ledger.entries[i]->code != EVPQ_OK)
            assert_int_equal(ledger.entries[i]->fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(ledger.texts[-EVPQ_ETIMEOUT], "of max_size 10, 10 busy"));
    ledger_check(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stopped_backend_costs_its_request_the_deadline),
        cmocka_unit_test(a_stopped_server_holds_up_nobody_beyond_the_deadline),
        cmocka_unit_test(a_stopped_postmaster_stops_only_new_connections),
        cmocka_unit_test(waiting_for_a_lock_ends_by_a_cancel),
        cmocka_unit_test(waiting_for_a_lock_ends_by_the_servers_timeout),
        cmocka_unit_test(a_cancelled_statement_leaves_the_server_and_its_connection_serves),
        cmocka_unit_test(where_cancels_are_refused_the_connection_is_given_up),
        cmocka_unit_test(where_cancels_vanish_the_connection_is_given_up),
        cmocka_unit_test(a_storm_of_cancels_hits_no_neighbour),
        cmocka_unit_test(a_slow_callback_delays_and_breaks_nothing),
        cmocka_unit_test(a_result_without_end_is_cut_at_its_limit),
        cmocka_unit_test(at_twice_the_capacity_all_of_it_is_used),
    };
    return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}
