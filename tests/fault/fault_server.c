/* SPDX-License-Identifier: MIT */
/* Section A of the catalogue: the server dies, restarts, comes late. */
#include "support/ledger.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 10 };

/* Requests a second that leave the pool some room, also where everything is slow. */
static double usual_rate(double per_s)
{
    return live_slow() > 1. ? per_s / 5. : per_s;
}

static bool is_full(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == SIZE;
}

/* A pool that has all its connections. */
static void open_full(struct ledger *ledger, struct fault_server *server)
{
    ledger_open(ledger, server, EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE));
    ledger_until(ledger, is_full, NULL, 20.);
}

static void only_what_runs_on_a_terminated_backend_fails(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    double seconds = fault_long() ? 60. : 5., rate = usual_rate(500.);
    open_full(&ledger, server);
    char sql[300];
    /* One at work, if there is one. */
    snprintf(sql, sizeof(sql),
             "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE "
             "application_name = '%s' ORDER BY state = 'active' DESC, random() LIMIT 1) AS one",
             ledger.application);
    struct fault_every *killer = fault_every(server, sql, 1.);
    ledger_load(&ledger, rate, LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 2000));
    ledger_run_load(&ledger, (int)(rate * seconds));
    ledger_drain(&ledger);
    struct fault_tally kills = fault_every_end(killer);
    int failed = ledger.asked - ledger.codes[0];
    ledger_figure(
        "%.0f requests/s for %.0f s, %lld backends terminated: %d asked, %d answered, "
        "%d lost",
        rate, seconds, (long long)kills.sum, ledger.asked, ledger.answered, failed);
    assert_true(kills.sum >= (int64_t)seconds);
    assert_int_equal(ledger.asked, (int)(rate * seconds));
    assert_int_equal(ledger.answered, ledger.asked);
    assert_int_equal(failed, ledger.codes[-EVPQ_EDISCONNECTED]);
    assert_true(failed > 0 && failed <= kills.sum);
    for (int i = 0; i < ledger.asked; i++)
        if (ledger.entries[i]->code != EVPQ_OK)
            assert_true(ledger.entries[i]->fate == EVPQ_UNKNOWN ||
                        ledger.entries[i]->fate == EVPQ_ROLLED_BACK);
    ledger_check(&ledger);
}

/* An outage, seen from the pool and from a superuser who tries every 20 ms. */
struct outage {
    double began, over; /* live_now() */
    struct fault_every *watch;
};

static struct outage outage_begin(struct fault_server *server)
{
    return (struct outage){live_now(), 0., fault_every(server, "SELECT 1", 0.02)};
}

/* What has to hold of every outage; the load goes on until it is over and a while longer. */
static void outage_end(struct outage *outage, struct ledger *ledger, const char *name)
{
    struct fault_tally seen = fault_every_end(outage->watch);
    assert_true(seen.failures > 0 && seen.back > 0.);
    outage->over = seen.back;
    double longest = 0., last_failed = ledger_last_failure(ledger);
    int in_flight = 0, failed = 0;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        failed += entry->code != EVPQ_OK;
        if (entry->asked > outage->began || (entry->calls && entry->answered < outage->began))
            continue;
        in_flight++;
        if (entry->code == EVPQ_EDISCONNECTED && entry->answered - outage->began > longest)
            longest = entry->answered - outage->began;
    }
    int dials = ledger_dials_per_s(ledger, outage->began, outage->over);
    double recovered = last_failed - outage->over > 0. ? last_failed - outage->over : 0.;
    ledger_figure(
        "%s: down for %.2f s, %d in flight, %d failed in all, the lost ones told within "
        "%.0f ms, %d dials in the worst second, all well %.2f s after the server accepts",
        name, outage->over - outage->began, in_flight, failed, longest * 1e3, dials, recovered);
    if (longest >= 1. * live_slow())
        ledger_breach(ledger, "what was lost was told after %.0f ms", longest * 1e3);
    if (dials > 10)
        ledger_breach(ledger, "%d dials in a second", dials);
    if (recovered >= 2. * live_slow())
        ledger_breach(ledger, "the last failure %.2f s after the server accepts", recovered);
}

static void a_killed_backend_takes_all_along_and_all_come_back(void **state)
{
    (void)state;
    struct ledger ledger;
    pid_t pids[SIZE];
    struct fault_server *server = fault_server();
    open_full(&ledger, server);
    /* What recovery has to read makes it last. */
    if (fault_long())
        fault_sql(server,
                  "CREATE TABLE bulk AS SELECT i, repeat('x', 200) FROM "
                  "generate_series(1, 3000000) AS i");
    ledger_load(&ledger, usual_rate(500.), LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 3000));
    ledger_run(&ledger, 1.);
    assert_int_equal(fault_server_pids(server, "evpq evpq", pids, SIZE), SIZE);
    struct outage outage = outage_begin(server);
    assert_int_equal(kill(pids[3], SIGKILL), 0);
    ledger_run(&ledger, 0.1);
    for (double end = live_now() + 60.; !fault_server_accepts(server) && live_now() < end;)
        ledger_run(&ledger, 0.1);
    ledger_run(&ledger, 3. * (live_slow() > 1. ? 2. : 1.));
    outage_end(&outage, &ledger, "kill -9 of a backend");
    ledger_check(&ledger);
    if (fault_long())
        fault_sql(server, "DROP TABLE bulk");
}

static void restart(struct ledger *ledger, struct fault_server *server, enum fault_stop mode,
                    const char *name)
{
    struct outage outage = outage_begin(server);
    fault_server_tell_stop(server, mode);
    for (double end = live_now() + 15.; !fault_server_gone(server) && live_now() < end;)
        ledger_run(ledger, 0.02);
    assert_int_equal(server->postmaster, 0);
    ledger_run(ledger, 0.5);
    fault_server_launch(server);
    while (!fault_server_accepts(server))
        ledger_run(ledger, 0.02);
    ledger_run(ledger, 2.5);
    outage_end(&outage, ledger, name);
}

static void restarts_under_load(enum fault_stop mode, const char *name)
{
    struct ledger ledger;
    struct fault_server *server = fault_server();
    for (int round = 0, rounds = fault_long() ? 10 : 1; round < rounds; round++) {
        open_full(&ledger, server);
        ledger_load(&ledger, usual_rate(200.), LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 3000));
        ledger_run(&ledger, 0.3);
        restart(&ledger, server, mode, name);
        ledger_check(&ledger);
    }
}

static void a_fast_restart_is_survived(void **state)
{
    (void)state;
    restarts_under_load(FAULT_FAST, "restart -m fast");
}

static void an_immediate_restart_is_survived(void **state)
{
    (void)state;
    restarts_under_load(FAULT_IMMEDIATE, "restart -m immediate");
}

static void a_smart_stop_gets_its_connections_by_their_age(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1, .max_lifetime_ms = 1500));
    ledger_load(&ledger, 50., LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 3000));
    ledger_run(&ledger, 0.3);
    ledger_end_sampling(&ledger);
    double told = live_now();
    fault_server_tell_stop(server, FAULT_SMART);
    ledger_run(&ledger, 0.5);
    /* It lets nobody in, and goes on serving those inside. */
    assert_false(fault_server_gone(server));
    assert_true(ledger_goodput(&ledger, told + 0.2, told + 0.5) > 0);
    for (double end = live_now() + 15.; !fault_server_gone(server) && live_now() < end;)
        ledger_run(&ledger, 0.05);
    ledger_figure("stop -m smart: gone after %.2f s, with max_lifetime_ms 1500", live_now() - told);
    assert_int_equal(server->postmaster, 0);
    ledger_load(&ledger, 0., NULL);
    fault_server_start(server);
    /* By itself. */
    ledger_run(&ledger, 3.);
    assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 2000))->code, EVPQ_OK);
    assert_int_equal(ledger.codes[-EVPQ_EDISCONNECTED], 0);
    ledger_check(&ledger);
}

static void a_killed_postmaster_is_survived(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    open_full(&ledger, server);
    ledger_load(&ledger, usual_rate(200.), LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 3000));
    ledger_run(&ledger, 0.3);
    struct outage outage = outage_begin(server);
    fault_server_kill(server);
    ledger_run(&ledger, 1.);
    fault_server_launch(server);
    while (!fault_server_accepts(server))
        ledger_run(&ledger, 0.02);
    ledger_run(&ledger, 2.5);
    outage_end(&outage, &ledger, "kill -9 of the postmaster");
    ledger_check(&ledger);
}

static void a_server_that_is_down_at_first_is_unavailable_and_then_works(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    fault_server_stop(server, FAULT_FAST);
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 4, .acquire_timeout_ms = 500));
    double start = live_now();
    struct ledger_entry *entry = ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 2000));
    /* Not overloaded, and not late: nobody is there. */
    assert_int_equal(entry->code, EVPQ_ECONNECT);
    assert_int_equal(entry->fate, EVPQ_NOT_SENT);
    assert_true(entry->retry_safe);
    assert_true(entry->answered - start > 0.45 && entry->answered - start < 0.7 * live_slow());
    assert_non_null(strstr(ledger.texts[-EVPQ_ECONNECT], "refused"));
    ledger_run(&ledger, 2.);
    ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 2000));
    ledger_figure("server down: %d dials in the worst second",
                  ledger_dials_per_s(&ledger, start, live_now()));
    assert_true(ledger_dials_per_s(&ledger, start, live_now()) <= 10);
    fault_server_start(server);
    ledger_run(&ledger, 2. * (live_slow() > 1. ? 2. : 1.));
    for (int i = 0; i < 20; i++)
        assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 2000))->code,
                         EVPQ_OK);
    ledger_check(&ledger);
}

static void a_server_that_is_not_ready_is_waited_for(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    /* A standby that lets nobody in says 57P03, as one that starts up or recovers. */
    fault_server_stop(server, FAULT_FAST);
    fault_server_standby(server, true);
    fault_server_set(server, "hot_standby", "off");
    fault_server_launch(server);
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 4));
    double start = live_now();
    struct ledger_entry *entry = ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 2000));
    assert_int_equal(entry->code, EVPQ_ECONNECT);
    assert_int_equal(entry->fate, EVPQ_NOT_SENT);
    assert_string_equal(entry->sqlstate, "57P03");
    assert_true(entry->retry_safe);
    assert_true(entry->answered - start > 0.95);
    assert_true(ledger_dials_per_s(&ledger, start, live_now()) <= 10);
    /* One that is asked now gets its answer when the server is ready. */
    entry = ledger_ask(&ledger, LEDGER_ECHO(.timeout_ms = 60000));
    ledger_run(&ledger, 0.5);
    fault_server_stop(server, FAULT_IMMEDIATE);
    fault_server_standby(server, false);
    fault_server_start(server);
    ledger_drain(&ledger);
    assert_int_equal(entry->code, EVPQ_OK);
    ledger_check(&ledger);
}

static bool is_read(struct live *live, void *arg)
{
    (void)live;
    return ((struct outcome *)arg)->calls > 0;
}

static void what_a_lease_leaves_open_never_reaches_the_next(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    static const char *const left[][3] = {
        {"BEGIN", "SELECT 1", NULL},
        {"BEGIN", "SELECT 1/0", NULL},
        {"BEGIN", "LOCK TABLE effects", NULL},
        {"BEGIN", "SELECT pg_sleep(30)", NULL}, /* released while it runs */
        {"START TRANSACTION READ ONLY", "DECLARE c CURSOR FOR SELECT 1", NULL},
    };
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t pid = live_int8(&ledger.live, EVPQ_QUERY("SELECT pg_backend_pid()"));
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        struct outcome lease, outcomes[2] = {0};
        live_acquire(&ledger.live, &lease);
        for (int j = 0; left[i][j]; j++)
            assert_int_equal(evpq_lease_query(NULL, lease.lease, EVPQ_QUERY(left[i][j]),
                                              outcome_result, &outcomes[j]),
                             EVPQ_OK);
        ledger_until(&ledger, is_read, &outcomes[0], 5.);
        ledger_run(&ledger, 0.05);
        evpq_lease_release(lease.lease);
        /* In a transaction of its own: what it writes is there in the end. */
        struct ledger_entry *entry = ledger_ask_and_wait(&ledger, LEDGER_WRITE(.timeout_ms = 5000));
        assert_int_equal(entry->code, EVPQ_OK);
        ledger_until(&ledger, is_read, &outcomes[1], 5.);
        for (int j = 0; j < 2; j++)
            outcome_clear(&outcomes[j]);
    }
    assert_int_equal(live_int8(&ledger.live, EVPQ_QUERY("SELECT pg_backend_pid()")), pid);
    ledger.others[-EVPQ_ECANCELED] = 1;
    ledger_check(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_runs_on_a_terminated_backend_fails),
        cmocka_unit_test(a_killed_backend_takes_all_along_and_all_come_back),
        cmocka_unit_test(a_fast_restart_is_survived),
        cmocka_unit_test(an_immediate_restart_is_survived),
        cmocka_unit_test(a_smart_stop_gets_its_connections_by_their_age),
        cmocka_unit_test(a_killed_postmaster_is_survived),
        cmocka_unit_test(a_server_that_is_down_at_first_is_unavailable_and_then_works),
        cmocka_unit_test(a_server_that_is_not_ready_is_waited_for),
        cmocka_unit_test(what_a_lease_leaves_open_never_reaches_the_next),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
