/* SPDX-License-Identifier: MIT */
/*
 * A primary and its streaming standby, which takes over while writes go on. With synchronous
 * replication: what was acknowledged is on both, so it must be there afterwards, once.
 */
#include "support/ledger.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { ROUNDS = 2, ROUNDS_LONG = 20 };

/* What the project has promised: writes flow again so soon after the promotion. */
static double patience(void)
{
    return 2. * live_slow();
}

/* Both in a fixed order, whichever is the primary now. */
static const char *two_hosts(const struct fault_server *a, const struct fault_server *b)
{
    static char conninfo[400];
    if (a > b) {
        const struct fault_server *first = b;
        b = a;
        a = first;
    }
    snprintf(conninfo, sizeof(conninfo),
             "host=127.0.0.1,127.0.0.1 port=%d,%d user=evpq password=%s dbname=evpq "
             "sslmode=disable target_session_attrs=read-write",
             a->port, b->port, a->password);
    return conninfo;
}

static struct fault_server *synchronous_standby_of(struct fault_server *primary)
{
    struct fault_server *standby = fault_server_follow(primary);
    fault_server_set(primary, "synchronous_standby_names", "*");
    double end = live_now() + 20. * live_slow();
    while (fault_sql(primary,
                     "SELECT count(*) FROM pg_stat_replication "
                     "WHERE state = 'streaming' AND sync_state = 'sync'") != 1) {
        assert_true(live_now() < end);
        usleep(20000);
    }
    return standby;
}

static void promote(struct fault_server *standby)
{
    assert_int_equal(fault_sql(standby, "SELECT pg_promote(false)::int::bigint"), 1);
}

static double first_write_after(const struct ledger *ledger, double moment)
{
    double first = 0.;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        if (entry->code == EVPQ_OK && entry->answered > moment &&
            (first == 0. || entry->answered < first))
            first = entry->answered;
    }
    return first;
}

static void check_flow(const struct ledger *ledger, double lost, double promoted)
{
    double first = first_write_after(ledger, promoted);
    assert_true(first > 0.);
    ledger_figure(
        "writes flow %.0f ms after the promotion, %.0f ms after the loss; %d acknowledged, "
        "%d unknown",
        (first - promoted) * 1e3, (first - lost) * 1e3, ledger->codes[0],
        ledger->codes[-EVPQ_EDISCONNECTED]);
    assert_true(first - promoted < patience());
    /* From then on all goes well. */
    assert_true(ledger_last_failure(ledger) < promoted + patience());
}

static bool gone(struct live *live, void *server)
{
    (void)live;
    return fault_server_gone(server);
}

/* Returns the new primary. */
static struct fault_server *lose(struct fault_server *primary)
{
    struct ledger ledger;
    struct fault_server *standby = synchronous_standby_of(primary);
    ledger_open(&ledger, primary,
                EVPQ_POOL_OPTIONS(.conninfo = two_hosts(primary, standby), .max_size = 4));
    ledger_load(&ledger, 100., LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 5000));
    ledger_run(&ledger, 0.8);
    assert_true(ledger.codes[0] > 0);
    ledger_end_sampling(&ledger);
    fault_forget_admin(primary);

    double lost = live_now();
    fault_server_signal(primary, NULL, SIGKILL);
    ledger_run(&ledger, 0.4);
    assert_true(fault_server_gone(primary));
    promote(standby);
    double promoted = live_now();
    ledger.server = standby;
    ledger_run(&ledger, 2.5 * live_slow());
    ledger_drain(&ledger);
    check_flow(&ledger, lost, promoted);
    ledger_check(&ledger);
    return standby;
}

static void no_write_is_lost_or_doubled_when_the_primary_is_killed(void **state)
{
    (void)state;
    struct fault_server *primary = fault_server();
    int rounds = fault_long() ? ROUNDS_LONG : ROUNDS;
    for (int i = 0; i < rounds; i++)
        primary = lose(primary);
}

/* The old primary is stopped well, and comes back as a standby before anybody looks. */
static void no_connection_stays_on_a_server_that_was_demoted(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *old = fault_server(), *new = synchronous_standby_of(old);
    ledger_open(&ledger, old, EVPQ_POOL_OPTIONS(.conninfo = two_hosts(old, new), .max_size = 4));
    ledger_load(&ledger, 100., LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 5000));
    ledger_run(&ledger, 0.8);
    assert_int_equal(fault_connections(new, ledger.application), 0);
    ledger_end_sampling(&ledger);

    double lost = live_now();
    fault_server_tell_stop(old, FAULT_FAST);
    ledger_until(&ledger, gone, old, 20.);
    fault_server_standby(old, true);
    fault_server_launch(old);
    ledger_run(&ledger, 0.5);
    promote(new);
    double promoted = live_now();
    ledger.server = new;
    ledger_run(&ledger, 2.5 * live_slow());
    assert_int_equal(fault_sql(old, "SELECT pg_is_in_recovery()::int::bigint"), 1);
    assert_int_equal(fault_connections(old, ledger.application), 0);
    assert_true(fault_connections(new, ledger.application) > 0);
    ledger_drain(&ledger);
    check_flow(&ledger, lost, promoted);
    ledger_check(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_write_is_lost_or_doubled_when_the_primary_is_killed),
        cmocka_unit_test(no_connection_stays_on_a_server_that_was_demoted),
    };
    return cmocka_run_group_tests_name("failover", tests, NULL, NULL);
}
