/* SPDX-License-Identifier: MIT */
/* Section A of the catalogue: the server refuses, is full, changes its mind, is replaced. */
#include "support/ledger.h"

#include <stdio.h>
#include <string.h>

/* Time in which a pool must have seen that the server lets it in again. */
static double patience(void)
{
    return live_slow() > 1. ? 6. : 3.;
}

static void full_for_others_the_pool_works_with_what_it_has(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    /* Eight for ordinary roles: one is the test's own, another pool holds five. */
    fault_server_set(server, "max_connections", "11");
    fault_server_set(server, "max_wal_senders", "0");
    fault_server_restart(server, FAULT_FAST);
    struct live other;
    live_open(&other, EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, ""), .min_size = 5,
                                        .max_size = 5));
    struct outcome leases[5];
    for (int i = 0; i < 5; i++) {
        live_acquire(&other, &leases[i]);
        assert_int_equal(leases[i].code, EVPQ_OK);
    }

    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 6));
    double start = live_now();
    ledger_load(&ledger, 60., LEDGER_WRITE(.seconds = 0.03, .timeout_ms = 4000));
    ledger_run(&ledger, 3.);
    assert_int_equal(ledger.codes[0], ledger.answered);
    assert_in_range(ledger.stats.idle + ledger.stats.busy, 1, 2);
    assert_true(ledger.stats.dial_failures > 0);
    int dials = ledger_dials_per_s(&ledger, start + 0.5, live_now());
    ledger_figure("53300 for a third connection: %d dials in the worst second", dials);
    assert_true(dials <= 10);

    for (int i = 0; i < 5; i++)
        evpq_lease_release(leases[i].lease);
    live_close(&other);
    ledger_load(&ledger, 150., LEDGER_WRITE(.seconds = 0.05, .timeout_ms = 8000));
    for (double end = live_now() + 15. * live_slow(); ledger.stats.busy < 6 && live_now() < end;)
        ledger_run(&ledger, 0.1);
    assert_int_equal(ledger.stats.busy, 6);
    ledger_check(&ledger);
}

struct refusal {
    const char *sqlstate;
    bool for_good;         /* told at once */
    const char *more;      /* of the conninfo */
    const char *break_sql; /* by the superuser */
    const char *mend_sql;
    const char *hba;
};

static const struct refusal refusals[] = {
    {"28P01", true, "", "ALTER ROLE evpq PASSWORD 'another'", NULL, NULL},
    {"28000", true, "", "ALTER ROLE evpq NOLOGIN", "ALTER ROLE evpq LOGIN", NULL},
    {"28000", true, "", NULL, NULL, "host all evpq 127.0.0.1/32 reject"},
    {"3D000", true, "dbname=missing", NULL, "CREATE DATABASE missing", NULL},
    {"55000", true, "dbname=shut", "CREATE DATABASE shut ALLOW_CONNECTIONS false",
     "ALTER DATABASE shut ALLOW_CONNECTIONS true", NULL},
    {"42501", true, "dbname=private", NULL, "GRANT CONNECT ON DATABASE private TO evpq", NULL},
    {"53300", false, "", "ALTER ROLE evpq CONNECTION LIMIT 0", "ALTER ROLE evpq CONNECTION LIMIT 9",
     NULL},
};

static void try_refusal(struct fault_server *server, const struct refusal *refusal)
{
    struct ledger ledger;
    char mend[120];
    if (refusal->break_sql)
        fault_sql(server, refusal->break_sql);
    if (refusal->hba)
        fault_server_hba(server, refusal->hba);
    ledger_open(
        &ledger, server,
        EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, refusal->more), .max_size = 4));
    /* Reloading takes the server a moment. */
    double start = live_now();
    struct ledger_entry *entry = ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 2000));
    assert_int_equal(entry->code, EVPQ_ECONNECT);
    assert_string_equal(entry->sqlstate, refusal->sqlstate);
    assert_int_equal(entry->fate, EVPQ_NOT_SENT);
    double told = entry->answered - entry->asked;
    if (refusal->for_good)
        assert_true(told < 0.5 * live_slow());
    else
        assert_true(told > 0.9);
    /* Asked for again and again, it is not told as often. */
    ledger_load(&ledger, 50., LEDGER_ECHO(.timeout_ms = 300));
    ledger_run(&ledger, fault_long() ? 10. : 1.3);
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0], 0);
    int most = ledger_dials_per_s(&ledger, start, live_now());
    ledger_figure("%s: told after %.0f ms, %d dials in the worst second", refusal->sqlstate,
                  told * 1e3, most);
    /* At most one a second, and the very first. */
    assert_true(most <= (refusal->for_good ? 2 : 10));

    if (strcmp(refusal->sqlstate, "28P01") == 0) {
        snprintf(mend, sizeof(mend), "ALTER ROLE evpq PASSWORD '%s'", server->password);
        fault_sql(server, mend);
    }
    if (refusal->mend_sql)
        fault_sql(server, refusal->mend_sql);
    if (refusal->hba)
        fault_server_hba(server, "");
    double mended = live_now();
    bool well = false;
    while (!well && live_now() - mended < 20.)
        well = ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 500))->code == EVPQ_OK;
    ledger_figure("%s: well %.1f s after it was mended", refusal->sqlstate, live_now() - mended);
    assert_true(well);
    ledger_check(&ledger);
}

static void what_is_refused_for_good_is_told_at_once_and_tried_slowly(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    fault_sql(server, "CREATE DATABASE private");
    fault_sql(server, "REVOKE CONNECT ON DATABASE private FROM public");
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
        try_refusal(server, &refusals[i]);
    fault_sql(server, "ALTER ROLE evpq CONNECTION LIMIT -1");
    fault_sql(server, "DROP DATABASE private");
    fault_sql(server, "DROP DATABASE missing");
    fault_sql(server, "DROP DATABASE shut");
}

static void reloading_the_configuration_disturbs_nobody(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 4));
    ledger_load(&ledger, 100., LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 2000));
    for (int i = 0; i < 10; i++) {
        /* One that is reported to every client, by ParameterStatus, while it waits or works. */
        fault_server_set(server, "timezone", i % 2 ? "UTC" : "Asia/Tokyo");
        fault_sql(server, i % 2 ? "ALTER SYSTEM RESET work_mem" : "ALTER SYSTEM SET work_mem=8192");
        fault_sql(server, "SELECT pg_reload_conf()");
        ledger_run(&ledger, 0.1);
    }
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0], ledger.asked);
    ledger_check(&ledger);
}

static void a_database_dropped_by_force_is_an_error_and_no_loop(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    fault_sql(server, "CREATE DATABASE doomed");
    ledger_open(&ledger, server,
                EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server,
                                                             "dbname=doomed "
                                                             "application_name=doomed"),
                                  .min_size = 4, .max_size = 4));
    ledger_load(&ledger, 100., LEDGER_SLEEP(.seconds = 0.02, .timeout_ms = 1000));
    ledger_run(&ledger, 0.5);
    /* One that is certainly under way when it happens. */
    ledger_ask(&ledger, LEDGER_SLEEP(.seconds = 0.8, .timeout_ms = 1000));
    ledger_run(&ledger, 0.1);
    fault_sql(server, "DROP DATABASE doomed WITH (FORCE)");
    double dropped = live_now();
    ledger_run(&ledger, 2.);
    ledger_drain(&ledger);
    assert_true(ledger.codes[-EVPQ_EDISCONNECTED] > 0);
    assert_true(ledger.codes[-EVPQ_ECONNECT] > 0);
    assert_int_equal(ledger.answered, ledger.codes[0] + ledger.codes[-EVPQ_EDISCONNECTED] +
                                          ledger.codes[-EVPQ_ECONNECT]);
    assert_int_equal(ledger_count(&ledger, dropped + 0.1, live_now(), EVPQ_OK), 0);
    for (int i = 0; i < ledger.asked; i++) {
        const struct ledger_entry *entry = ledger.entries[i];
        /* "" for one that was sent to a session that had ended already. */
        if (entry->code == EVPQ_EDISCONNECTED && entry->sqlstate[0])
            assert_string_equal(entry->sqlstate, "57P01");
        if (entry->code == EVPQ_ECONNECT && entry->asked > dropped + 0.5)
            assert_string_equal(entry->sqlstate, "3D000");
    }
    assert_true(ledger_dials_per_s(&ledger, dropped + 0.5, live_now()) <= 2);
    ledger_check(&ledger);
}

static const char *two_hosts(const struct fault_server *a, const struct fault_server *b)
{
    static char conninfo[400];
    snprintf(conninfo, sizeof(conninfo),
             "host=127.0.0.1,127.0.0.1 port=%d,%d user=evpq password=%s dbname=evpq "
             "sslmode=disable target_session_attrs=read-write",
             a->port, b->port, a->password);
    return conninfo;
}

/* The second server, with the password of the first, as a standby of nobody. */
static struct fault_server *standby_of(struct fault_server *server)
{
    struct fault_server *other = fault_server_other();
    char sql[120];
    assert_non_null(other);
    snprintf(sql, sizeof(sql), "ALTER ROLE evpq PASSWORD '%s'", server->password);
    fault_sql(other, sql);
    fault_server_stop(other, FAULT_FAST);
    fault_server_standby(other, true);
    fault_server_start(other);
    assert_int_equal(fault_sql(other, "SELECT pg_is_in_recovery()::int"), 1);
    return other;
}

static void promote(struct fault_server *server)
{
    assert_true(fault_sql_try(server, "SELECT pg_promote()", NULL));
}

static void the_pool_moves_to_the_new_primary(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *old = fault_server(), *new = standby_of(old);
    ledger_open(&ledger, new, EVPQ_POOL_OPTIONS(.conninfo = two_hosts(old, new), .max_size = 4));
    ledger_load(&ledger, 100., LEDGER_SLEEP(.seconds = 0.01, .timeout_ms = 2000));
    ledger_run(&ledger, 0.5);
    int before = ledger.codes[0];
    assert_true(before > 0);
    fault_server_kill(old);
    double killed = live_now();
    ledger_run(&ledger, 0.5);
    /* Nobody takes writes now. */
    assert_int_equal(ledger_goodput(&ledger, killed + 0.1, live_now()), 0);
    promote(new);
    double promoted = live_now();
    ledger_run(&ledger, patience());
    ledger_drain(&ledger);
    double recovered = ledger_last_failure(&ledger) - promoted;
    ledger_figure("failover: all well %.2f s after the standby was promoted",
                  recovered > 0. ? recovered : 0.);
    assert_true(recovered < 2. * live_slow());
    assert_true(ledger_count(&ledger, promoted + 2., live_now(), EVPQ_OK) > 0 || live_slow() > 1.);
    ledger_check(&ledger);
}

static void a_primary_that_turns_read_only_is_left(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *old = fault_server(), *new = standby_of(old);
    ledger_open(&ledger, new,
                EVPQ_POOL_OPTIONS(.conninfo = two_hosts(old, new), .min_size = 4, .max_size = 4));
    ledger_run(&ledger, 0.3);
    assert_int_equal(fault_connections(old, ledger.application), 4);
    promote(new);
    /* Its sessions live on, and refuse to write: SQLSTATE 25006. */
    fault_server_set(old, "default_transaction_read_only", "on");
    double turned = live_now();
    ledger_load(&ledger, 100., LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 2000));
    ledger_run(&ledger, patience());
    ledger_drain(&ledger);
    int failed = ledger.asked - ledger.codes[0];
    ledger_figure("read-only all at once: %d of %d failed, all well %.2f s later", failed,
                  ledger.asked, ledger_last_failure(&ledger) - turned);
    for (int i = 0; i < ledger.asked; i++) {
        const struct ledger_entry *entry = ledger.entries[i];
        if (entry->code == EVPQ_OK)
            continue;
        assert_int_equal(entry->code, EVPQ_ESERVER);
        assert_string_equal(entry->sqlstate, "25006");
        assert_int_equal(entry->fate, EVPQ_ROLLED_BACK);
    }
    /* Each connection may tell it once, and those that had begun. */
    assert_true(failed <= 8);
    assert_int_equal(fault_connections(old, ledger.application), 0);
    ledger_check(&ledger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_for_others_the_pool_works_with_what_it_has),
        cmocka_unit_test(what_is_refused_for_good_is_told_at_once_and_tried_slowly),
        cmocka_unit_test(reloading_the_configuration_disturbs_nobody),
        cmocka_unit_test(a_database_dropped_by_force_is_an_error_and_no_loop),
        cmocka_unit_test(the_pool_moves_to_the_new_primary),
        cmocka_unit_test(a_primary_that_turns_read_only_is_left),
    };
    return cmocka_run_group_tests_name("refused", tests, NULL, NULL);
}
