/* SPDX-License-Identifier: MIT */
/*
 * What a pooler changes: PgBouncer before the server, where EVPQ_TEST_POOLER says so. The rest of
 * the live tests runs through it as well.
 */
#include "support/live.h"
#include "support/pooler.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct heard {
    int pooler, others;
};

static void on_warning(const evpq_trace *event, void *user)
{
    struct heard *heard = user;
    assert_int_equal(event->kind, EVPQ_TRACE_WARNING);
    assert_string_equal(evpq_trace_kind_name(event->kind), "warning");
    if (strcmp(event->why, "pooler") == 0)
        heard->pooler++;
    else
        heard->others++;
}

static void a_pooler_is_noticed_and_told_once(void **state)
{
    (void)state;
    struct live live;
    struct heard heard = {0};
    struct outcome leases[3];
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 3, .on_trace = on_warning, .trace_user = &heard,
                                       .trace_kinds = EVPQ_TRACE_WARNING));
    for (int i = 0; i < 3; i++)
        live_acquire(&live, &leases[i]);
    for (int i = 0; i < 3; i++)
        evpq_lease_release(leases[i].lease);
    assert_int_equal(live_stats(&live).dialed, 3);
    live_close(&live);
    assert_int_equal(heard.pooler, pooler_mode() == POOLER_NONE ? 0 : 1);
}

static void need(enum pooler mode)
{
    if (pooler_mode() == mode)
        return;
    print_message("only where EVPQ_TEST_POOLER says %s\n",
                  mode == POOLER_SESSION ? "session" : "transaction");
    skip();
}

static int64_t in_lease(struct live *live, evpq_lease *lease, const evpq_query *query)
{
    struct outcome outcome;
    int64_t value = 0;
    live_lease_query(live, &outcome, lease, query);
    if (outcome.code != EVPQ_OK)
        fail_msg("%s: %s", query->sql, outcome.message);
    if (evpq_result_rows(outcome.result) > 0)
        assert_int_equal(evpq_result_int8(outcome.result, 0, 0, &value), EVPQ_OK);
    outcome_clear(&outcome);
    return value;
}

/* What cannot work: a setting of the session is of whichever connection of the server is next. */
static void a_setting_does_not_stay_with_a_lease_in_transaction_mode(void **state)
{
    (void)state;
    need(POOLER_TRANSACTION);
    struct live live;
    struct outcome one, other;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    live_acquire(&live, &one);
    live_acquire(&live, &other);
    in_lease(&live, one.lease, EVPQ_QUERY("SET evpq.mine = '1'"));
    /* The first one's connection of the server is taken by the second. */
    in_lease(&live, other.lease, EVPQ_QUERY("BEGIN"));
    int64_t seen_there =
        in_lease(&live, other.lease,
                 EVPQ_QUERY("SELECT coalesce(nullif(current_setting('evpq.mine', true), ''), "
                            "'0')::int8"));
    int64_t left_here =
        in_lease(&live, one.lease,
                 EVPQ_QUERY("SELECT coalesce(nullif(current_setting('evpq.mine', true), ''), "
                            "'0')::int8"));
    in_lease(&live, other.lease, EVPQ_QUERY("RESET evpq.mine"));
    in_lease(&live, other.lease, EVPQ_QUERY("COMMIT"));
    evpq_lease_release(one.lease);
    evpq_lease_release(other.lease);
    live_close(&live);
    assert_int_equal(seen_there, 1);
    assert_int_equal(left_here, 0);
}

static void a_setting_of_a_transaction_stays_with_it(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    in_lease(&live, lease.lease, EVPQ_QUERY("BEGIN"));
    in_lease(&live, lease.lease, EVPQ_QUERY("SET LOCAL evpq.mine = '7'"));
    assert_int_equal(
        in_lease(&live, lease.lease, EVPQ_QUERY("SELECT current_setting('evpq.mine')::int8")), 7);
    in_lease(&live, lease.lease, EVPQ_QUERY("COMMIT"));
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static int64_t prepared(struct live *live, evpq_lease *lease, const char *sql)
{
    for (int i = 0; i < 3; i++)
        in_lease(live, lease, EVPQ_QUERY(sql));
    return in_lease(live, lease,
                    EVPQ_QUERY("SELECT count(*) FROM pg_prepared_statements WHERE statement = $1",
                               EVPQ_PARAMS(evpq_text(sql))));
}

/* Elsewhere the next use may meet another connection of the server, or one that has it already. */
static void behind_a_pooler_nothing_is_prepared_unless_asked(void **state)
{
    (void)state;
    static const uint32_t asked[] = {0, 16};
    for (size_t i = 0; i < 2; i++) {
        struct live live;
        struct outcome lease;
        char sql[100];
        snprintf(sql, sizeof(sql), "SELECT %zu::int8 /* %.9f */", i, live_now());
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = asked[i]));
        live_acquire(&live, &lease);
        in_lease(&live, lease.lease, EVPQ_QUERY("BEGIN"));
        bool wanted = asked[i] || pooler_mode() == POOLER_NONE;
        assert_int_equal(prepared(&live, lease.lease, sql), wanted);
        in_lease(&live, lease.lease, EVPQ_QUERY("COMMIT"));
        evpq_lease_release(lease.lease);
        live_close(&live);
    }
}

/* PgBouncer has an SQLSTATE of its own for what it refuses: 08P01, in 1.18 for a database too. */
static void is_told_at_once(const char *settings, const char *says)
{
    if (pooler_mode() == POOLER_NONE) {
        print_message("live_connect tests it without a pooler\n");
        skip();
    }
    struct live live;
    struct outcome outcome;
    /* Not fail_fast: only because trying again would not help. */
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(settings)));
    double start = live_now();
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    print_message("%s: %s\n", outcome.sqlstate, outcome.message);
    assert_int_equal(outcome.code, EVPQ_ECONNECT);
    assert_int_equal(outcome.fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(outcome.message, says));
    assert_true(outcome.at - start < 5. * live_slow());
    assert_null(strstr(outcome.message, "can4ry"));
    outcome_clear(&outcome);
    live_close(&live);
}

static void a_wrong_password_is_told_at_once(void **state)
{
    (void)state;
    is_told_at_once("password=can4ry", "authentication failed");
}

static void an_unknown_database_is_told_at_once(void **state)
{
    (void)state;
    /* Another name each time: one that it has just found missing it asks for again in 15 s only. */
    char settings[64];
    snprintf(settings, sizeof(settings), "dbname=no_such_database_%ld", (long)getpid());
    is_told_at_once(settings, "does not exist");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pooler_is_noticed_and_told_once),
        cmocka_unit_test(a_setting_does_not_stay_with_a_lease_in_transaction_mode),
        cmocka_unit_test(a_setting_of_a_transaction_stays_with_it),
        cmocka_unit_test(behind_a_pooler_nothing_is_prepared_unless_asked),
        cmocka_unit_test(a_wrong_password_is_told_at_once),
        cmocka_unit_test(an_unknown_database_is_told_at_once),
    };
    return pooler_run_group_tests_name("pooler", tests, NULL, NULL);
}
