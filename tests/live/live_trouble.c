/* SPDX-License-Identifier: MIT */
/* What users set against trouble, on a real server: limits, policies, resets, traces. */
#include "support/live.h"
#include "support/pooler.h"

#include <stdio.h>
#include <string.h>

static int64_t backend_of(struct live *live)
{
    return live_int8(live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
}

static bool backend_gone(struct live *live, void *pid)
{
    (void)live;
    char sql[96];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM pg_stat_activity WHERE pid = %lld",
             (long long)*(int64_t *)pid);
    return aside_int8(sql) == 0;
}

/* ---- the server's own timeout ---- */

static void the_server_stops_the_statement_and_its_fate_is_known(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .server_timeout = EVPQ_ON));
    int64_t pid = backend_of(&live);
    double start = live_now();
    live_query(&live, &outcome, EVPQ_QUERY("SELECT pg_sleep(20)", .timeout_ms = 600));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(outcome.sqlstate, "57014");
    assert_non_null(strstr(outcome.message, "statement_timeout"));
    assert_true(outcome.at - start < 5. * live_slow());
    assert_int_equal(live_stats(&live).cancels, 0);
    assert_int_equal(backend_of(&live), pid);
    outcome_clear(&outcome);
    live_close(&live);
}

static void the_server_timeout_is_gone_after_the_statement(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .server_timeout = EVPQ_ON));
    static const char own[] =
        "SELECT setting::int8 FROM pg_settings WHERE name = "
        "'statement_timeout'";
    int64_t during = live_int8(&live, EVPQ_QUERY(own, .timeout_ms = 20000));
    assert_in_range(during, 10000, 19900);
    assert_int_equal(live_int8(&live, EVPQ_QUERY(own, .server_timeout = EVPQ_OFF)), 0);
    /* No deadline, no timeout. */
    assert_int_equal(live_int8(&live, EVPQ_QUERY(own, .timeout_ms = EVPQ_NEVER)), 0);
    live_close(&live);
}

static void what_cannot_run_with_it_is_refused_and_says_how(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &outcome, EVPQ_QUERY("VACUUM pg_am", .server_timeout = EVPQ_ON));
    assert_int_equal(outcome.code, EVPQ_ESERVER);
    assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(outcome.sqlstate, "25001");
    assert_non_null(strstr(outcome.message, "EVPQ_OFF"));
    outcome_clear(&outcome);
    live_query(&live, &outcome, EVPQ_QUERY("VACUUM pg_am"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    live_close(&live);
}

static void expect(struct live *live, evpq_lease *lease, const evpq_query *query, evpq_code code,
                   int64_t *value)
{
    struct outcome outcome;
    live_lease_query(live, &outcome, lease, query);
    assert_int_equal(outcome.code, code);
    if (value)
        assert_int_equal(evpq_result_int8(outcome.result, 0, 0, value), EVPQ_OK);
    outcome_clear(&outcome);
}

static void transactions_live_with_the_server_timeout(void **state)
{
    (void)state;
    static const char own[] =
        "SELECT setting::int8 FROM pg_settings WHERE name = "
        "'statement_timeout'";
    struct live live;
    struct outcome lease;
    int64_t limit;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .server_timeout = EVPQ_ON));
    live_acquire(&live, &lease);
    evpq_lease *l = lease.lease;
    expect(&live, l, EVPQ_QUERY("BEGIN ISOLATION LEVEL SERIALIZABLE"), EVPQ_OK, NULL);
    expect(&live, l, EVPQ_QUERY("SET TRANSACTION READ ONLY"), EVPQ_OK, NULL);
    expect(&live, l, EVPQ_QUERY(own, .timeout_ms = 20000), EVPQ_OK, &limit);
    assert_in_range(limit, 10000, 19900);
    /* Each has its own, also none. */
    expect(&live, l, EVPQ_QUERY(own, .timeout_ms = 9000), EVPQ_OK, &limit);
    assert_true(limit < 10000);
    expect(&live, l, EVPQ_QUERY(own, .server_timeout = EVPQ_OFF), EVPQ_OK, &limit);
    assert_int_equal(limit, 0);
    /* A failed transaction takes its end, and that is sent as it is. */
    expect(&live, l, EVPQ_QUERY("SELECT 1/0"), EVPQ_ESERVER, NULL);
    expect(&live, l, EVPQ_QUERY("ROLLBACK"), EVPQ_OK, NULL);
    expect(&live, l, EVPQ_QUERY(own, .server_timeout = EVPQ_OFF), EVPQ_OK, &limit);
    assert_int_equal(limit, 0);
    evpq_lease_release(l);
    live_close(&live);
}

/* ---- large results ---- */

static void refuse_large(const char *conninfo)
{
    struct live live;
    struct outcome outcome;
    live_open(&live,
              EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = 1, .max_result_bytes = 1000000));
    /* It would be 4 GB. */
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT repeat('x', 1000) FROM generate_series(1, 4000000)"));
    assert_int_equal(outcome.code, EVPQ_ETOOLARGE);
    assert_int_equal(outcome.fate, EVPQ_UNKNOWN);
    outcome_clear(&outcome);
    /* Complete before anybody could know: refused as well, and the same connection goes on. */
    int64_t pid = backend_of(&live);
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT repeat('x', 30000) FROM generate_series(1, 2)",
                          .max_result_bytes = 40000));
    assert_int_equal(outcome.code, EVPQ_ETOOLARGE);
    outcome_clear(&outcome);
    live_query(&live, &outcome, EVPQ_QUERY("SELECT repeat('x', 30000)"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    (void)pid;
    /* A statement may ask for more than the others. */
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT repeat('x', 3000000)", .max_result_bytes = 10000000));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    assert_int_equal(live_stats(&live).too_large, 2);
    /* What waits in the socket is counted once: 10 MB come in many pieces. */
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT repeat('x', 100) FROM generate_series(1, 100000)",
                          .max_result_bytes = 20000000));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    live_close(&live);
}

static void a_result_over_its_limit_is_cut_and_the_pool_goes_on(void **state)
{
    (void)state;
    refuse_large(NULL);
}

static void the_limit_holds_on_a_unix_socket_too(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    evpq_text_view folder;
    char more[256];
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &outcome, EVPQ_QUERY("SHOW unix_socket_directories"));
    assert_int_equal(evpq_result_text(outcome.result, 0, 0, &folder), EVPQ_OK);
    snprintf(more, sizeof(more), "host=%.*s", (int)strcspn(folder.data, ","), folder.data);
    outcome_clear(&outcome);
    live_close(&live);
    if (live_conninfo() || strcmp(more, "host=") == 0) {
        print_message("skipped: the server may be on another machine\n");
        skip();
    }
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = more, .fail_fast = true));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    bool refused = outcome.code == EVPQ_ECONNECT;
    if (refused)
        print_message("skipped: %s\n", outcome.message);
    outcome_clear(&outcome);
    live_close(&live);
    if (refused)
        skip();
    refuse_large(more);
}

/* ---- what a session keeps ---- */

static void leave_state_behind(struct live *live)
{
    static const char *const statements[] = {
        "SET application_name = 'evpq_canary'",
        "SET DateStyle = 'German'",
        "CREATE TEMPORARY TABLE evpq_canary (n int)",
        "SELECT pg_advisory_lock(4711)",
        "LISTEN evpq_canary",
        "SET ROLE pg_monitor",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "BEGIN",
    };
    struct outcome lease;
    live_acquire(live, &lease);
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
        expect(live, lease.lease, &(evpq_query){.size = sizeof(evpq_query), .sql = statements[i]},
               EVPQ_OK, NULL);
    evpq_lease_release(lease.lease);
}

static void a_reset_leaves_nothing_of_the_session_before(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .reset_session = true));
    int64_t pid = backend_of(&live);
    leave_state_behind(&live);
    assert_int_equal(
        live_int8(&live, EVPQ_QUERY("SELECT (current_setting('application_name') = 'evpq_canary' "
                                    "OR current_setting('DateStyle') NOT LIKE 'ISO%' "
                                    "OR to_regclass('pg_temp.evpq_canary') IS NOT NULL "
                                    "OR current_user <> session_user "
                                    "OR current_setting('transaction_read_only') = 'on' "
                                    "OR current_setting('extra_float_digits') <> '1' "
                                    "OR EXISTS (SELECT FROM pg_listening_channels()) "
                                    "OR EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' "
                                    "AND pid = pg_backend_pid()))::int::int8")),
        0);
    assert_int_equal(backend_of(&live), pid);
    /* Also when a statement was cut off in the middle of it. */
    struct outcome outcome;
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT pg_advisory_lock(4712), pg_sleep(20)", .timeout_ms = 300));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    outcome_clear(&outcome);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT count(*) FROM pg_locks WHERE locktype = "
                                                 "'advisory' AND pid = pg_backend_pid()")),
                     0);
    live_close(&live);
}

static void without_a_reset_only_what_readers_rely_on_is_watched(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t pid = backend_of(&live);
    live_query(&live, &outcome, EVPQ_QUERY("SET client_encoding = 'LATIN1'"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    assert_int_not_equal(backend_of(&live), pid);
    pid = backend_of(&live);
    live_query(&live, &outcome, EVPQ_QUERY("SET DateStyle = 'German'"));
    outcome_clear(&outcome);
    assert_int_not_equal(backend_of(&live), pid);
    live_close(&live);
}

/* ---- cancel policies ---- */

static void stop_one(struct live *live, int64_t *pid, uint32_t expected_cancels)
{
    struct outcome outcome;
    *pid = backend_of(live);
    live_query(live, &outcome, EVPQ_QUERY("SELECT pg_sleep(5)", .timeout_ms = 100));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    assert_int_equal(outcome.fate, EVPQ_UNKNOWN);
    outcome_clear(&outcome);
    int64_t next = backend_of(live);
    assert_int_equal(live_stats(live).cancels > 0, expected_cancels > 0);
    if (expected_cancels == 1)
        assert_int_not_equal(next, *pid);
}

static void cancel_and_keep_uses_the_connection_again(void **state)
{
    (void)state;
    struct live live;
    int64_t pid;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    stop_one(&live, &pid, 2);
    assert_int_equal(backend_of(&live), pid);
    live_close(&live);
}

static void cancel_and_close_frees_the_server_and_the_slot(void **state)
{
    (void)state;
    struct live live;
    int64_t pid;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .cancel_policy = EVPQ_CANCEL_AND_CLOSE));
    stop_one(&live, &pid, 1);
    live_until(&live, backend_gone, &pid, 2. * live_slow());
    live_close(&live);
}

static void close_only_sends_no_cancel(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2, .cancel_policy = EVPQ_CLOSE_ONLY,
                                       .cancel_timeout_ms = 200));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT pg_sleep(1)", .timeout_ms = 100));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    outcome_clear(&outcome);
    assert_true(backend_of(&live) > 0);
    assert_int_equal(live_stats(&live).cancels, 0);
    live_close(&live);
}

static bool all_answered(struct live *live, void *arg)
{
    struct outcome *all = arg;
    (void)live;
    for (int i = 0; i < 20; i++)
        if (!all[i].calls)
            return false;
    return true;
}

static void a_storm_of_timeouts_keeps_the_budget_of_cancels(void **state)
{
    (void)state;
    struct live live;
    struct outcome all[20] = {0};
    live_open(&live,
              EVPQ_POOL_OPTIONS(.max_size = 20, .cancels_per_s = 4, .cancel_timeout_ms = 1500));
    for (int i = 0; i < 20; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool,
                                         EVPQ_QUERY("SELECT pg_sleep(1.2)",
                                                    .timeout_ms = 700 * (uint32_t)live_slow()),
                                         outcome_result, &all[i]),
                         EVPQ_OK);
    double start = live_now();
    live_until(&live, all_answered, all, 20.);
    live_run(&live, 0.5);
    double seconds = live_now() - start;
    assert_true((double)live_stats(&live).cancels <= 4 * (seconds + 1.));
    for (int i = 0; i < 20; i++)
        outcome_clear(&all[i]);
    live_close(&live);
}

/* ---- expire ---- */

static bool replaced(struct live *live, void *pid)
{
    evpq_pool_stats stats = live_stats(live);
    (void)pid;
    return stats.closed_expired == 1 && stats.idle == 1 && stats.cleaning == 0;
}

static void expired_connections_are_replaced_before_they_go(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    int64_t pid = backend_of(&live);
    assert_int_equal(evpq_pool_expire(live.pool), EVPQ_OK);
    assert_int_equal(live_stats(&live).idle, 1); /* it is still there */
    live_until(&live, replaced, NULL, 10.);
    assert_int_not_equal(backend_of(&live), pid);
    assert_int_equal(live_stats(&live).dialed, 2);
    assert_int_equal(live_stats(&live).expired, 1);
    live_close(&live);
}

static void what_runs_ends_before_its_connection_expires(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    assert_int_equal(evpq_pool_expire(live.pool), EVPQ_OK);
    live_lease_query(&live, &outcome, lease.lease, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
    int64_t pid;
    assert_int_equal(evpq_result_int8(outcome.result, 0, 0, &pid), EVPQ_OK);
    outcome_clear(&outcome);
    evpq_lease_release(lease.lease);
    assert_int_not_equal(backend_of(&live), pid);
    live_close(&live);
}

static void a_session_that_takes_no_writes_is_left(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .conninfo = live_conninfo_with(
                                                          "target_session_attrs=read-write")));
    int64_t pid = backend_of(&live);
    live_query(&live, &outcome, EVPQ_QUERY("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    /* It says so by itself (default_transaction_read_only), before any write is refused. */
    assert_int_not_equal(backend_of(&live), pid);
    assert_int_equal(live_stats(&live).closed_expired, 1);
    assert_int_equal(live_stats(&live).expired, 0); /* the server is not to blame */
    live_close(&live);
}

static void a_refused_write_expires_a_pool_for_writing(void **state)
{
    (void)state;
    static const char write[] =
        "DO $$BEGIN SET LOCAL transaction_read_only = on; CREATE TABLE evpq_no (n int); END$$";
    struct live live;
    struct outcome outcome;
    for (int wants = 0; wants < 2; wants++) {
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1,
                                           .conninfo = wants ? live_conninfo_with(
                                                                   "target_session_attrs=primary")
                                                             : NULL));
        live_query(&live, &outcome, EVPQ_QUERY(write));
        assert_int_equal(outcome.code, EVPQ_ESERVER);
        assert_string_equal(outcome.sqlstate, "25006");
        outcome_clear(&outcome);
        assert_int_equal(live_stats(&live).expired, wants);
        live_close(&live);
    }
}

/* ---- who holds what ---- */

static void a_timeout_names_the_oldest_lease_and_the_misuse(void **state)
{
    (void)state;
    struct live live;
    struct outcome first = {0}, second = {0};
    char line[600];
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_int_equal(evpq_pool_acquire(NULL, live.pool, EVPQ_ACQUIRE_OPTIONS(.tag = "checkout"),
                                       outcome_lease, &first),
                     EVPQ_OK);
    live_wait(&live, &first);
    assert_int_equal(evpq_pool_acquire(NULL, live.pool, EVPQ_ACQUIRE_OPTIONS(.timeout_ms = 50),
                                       outcome_lease, &second),
                     EVPQ_OK);
    live_wait(&live, &second);
    assert_int_equal(second.code, EVPQ_ETIMEOUT);
    assert_non_null(strstr(second.message, "the oldest lease \"checkout\" is held for"));
    assert_non_null(strstr(second.message, "does a holder wait for a second?"));
    size_t length = evpq_pool_describe(live.pool, line, sizeof(line));
    assert_int_equal(length, strlen(line));
    assert_non_null(strstr(line, "of max_size 1, 1 busy"));
    assert_int_equal(evpq_pool_describe(live.pool, NULL, 0), length);
    evpq_lease_release(first.lease);
    live_close(&live);
}

/* ---- traces ---- */

struct heard {
    int count[32];
    char line[64][160];
    int lines;
    evpq_pool *close; /* at the first event */
    uint64_t lost;
};

static int bit(evpq_trace_kind kind)
{
    int n = 0;
    while ((unsigned)kind > 1u << n)
        n++;
    return n;
}

static void on_trace(const evpq_trace *event, void *user)
{
    struct heard *heard = user;
    heard->count[bit(event->kind)]++;
    heard->lost += event->lost;
    assert_true(event->at_us > 0);
    if (heard->lines < 64)
        snprintf(heard->line[heard->lines++], sizeof(heard->line[0]), "%s %s %d %s %s",
                 evpq_trace_kind_name(event->kind), event->tag, event->code, event->sqlstate,
                 event->why);
    if (heard->close) {
        evpq_pool *pool = heard->close;
        heard->close = NULL;
        assert_int_equal(evpq_pool_close(pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    }
}

static void a_trace_tells_what_happened_and_nothing_else(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome = {0};
    struct heard heard = {0};
    /* Warnings depend on where the server is. */
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .on_trace = on_trace, .trace_user = &heard,
                                       .trace_kinds = EVPQ_TRACE_WARNING - 1));
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT $1::text", EVPQ_PARAMS(evpq_text("canary")), .tag = "greeting"));
    outcome_clear(&outcome);
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1/0", .tag = "division"));
    outcome_clear(&outcome);
    live_query(&live, &outcome, EVPQ_QUERY("SELECT pg_sleep(9)", .tag = "nap", .timeout_ms = 100));
    outcome_clear(&outcome);
    live_close(&live);
    static const char *const expected[] = {
        "dialed  0  ",
        "acquired greeting 0  ",
        "sent greeting 0  ",
        "finished greeting 0  ",
        "acquired division 0  ",
        "sent division 0  ",
        "finished division -9 22012 ",
        "acquired nap 0  ",
        "sent nap 0  ",
        "canceled  0  ",
        "finished nap -5  ",
        "closed  0  pool closed",
    };
    assert_int_equal(heard.lines, sizeof(expected) / sizeof(expected[0]));
    for (int i = 0; i < heard.lines; i++) {
        assert_string_equal(heard.line[i], expected[i]);
        assert_null(strstr(heard.line[i], "canary"));
    }
}

static void only_the_kinds_asked_for_are_traced(void **state)
{
    (void)state;
    struct live live;
    struct heard heard = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .on_trace = on_trace, .trace_user = &heard,
                                       .trace_kinds = EVPQ_TRACE_DIALED | EVPQ_TRACE_CLOSED));
    assert_true(backend_of(&live) > 0);
    live_close(&live);
    assert_int_equal(heard.lines, 2);
    assert_string_equal(heard.line[0], "dialed  0  ");
    assert_string_equal(heard.line[1], "closed  0  pool closed");
}

static void a_trace_may_close_the_pool(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome = {0};
    struct heard heard = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .on_trace = on_trace, .trace_user = &heard));
    heard.close = live.pool;
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(9)"),
                                     outcome_result, &outcome),
                     EVPQ_OK);
    live_wait(&live, &outcome);
    assert_int_equal(outcome.code, EVPQ_ECLOSED);
    live.pool = NULL;
    live_close(&live);
}

static bool overdue(struct live *live, void *arg)
{
    struct heard *heard = arg;
    (void)live;
    return heard->count[bit(EVPQ_TRACE_LEASE_OVERDUE)] == 1;
}

static void a_lease_held_too_long_is_told_once_with_its_tag(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease = {0};
    struct heard heard = {0};
    live_open(&live,
              EVPQ_POOL_OPTIONS(.max_size = 1, .lease_overdue_ms = 50, .on_trace = on_trace,
                                .trace_user = &heard, .trace_kinds = EVPQ_TRACE_LEASE_OVERDUE));
    assert_int_equal(evpq_pool_acquire(NULL, live.pool, EVPQ_ACQUIRE_OPTIONS(.tag = "forgotten"),
                                       outcome_lease, &lease),
                     EVPQ_OK);
    live_wait(&live, &lease);
    live_until(&live, overdue, &heard, 10.);
    live_run(&live, 0.2);
    assert_int_equal(heard.lines, 1);
    assert_string_equal(heard.line[0], "lease overdue forgotten 0  ");
    assert_int_equal(live_stats(&live).leases_overdue, 1);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

/* ---- smaller things ---- */

static void an_older_program_gets_the_numbers_it_knows(void **state)
{
    (void)state;
    struct live live;
    struct {
        evpq_pool_stats stats;
    } old;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_true(backend_of(&live) > 0);
    memset(&old, 0x55, sizeof(old));
    old.stats.size = offsetof(evpq_pool_stats, shed);
    assert_int_equal(evpq_pool_stats_get(live.pool, &old.stats), EVPQ_OK);
    assert_int_equal(old.stats.dialed, 1);
    assert_int_equal(old.stats.shed, 0x5555555555555555);
    old.stats.size = sizeof(evpq_pool_stats) + 8;
    assert_int_equal(evpq_pool_stats_get(live.pool, &old.stats), EVPQ_EINVALID);
    live_close(&live);
}

struct many {
    struct live *live;
    int good, shed, timed_out, other, left;
};

static void on_one_of_many(evpq_result *result, const evpq_error *err, void *user)
{
    struct many *many = user;
    (void)result;
    many->left--;
    evpq_code code = evpq_error_code(err);
    many->good += code == EVPQ_OK;
    many->shed += code == EVPQ_EOVERLOADED;
    many->timed_out += code == EVPQ_ETIMEOUT;
    many->other += code != EVPQ_OK && code != EVPQ_EOVERLOADED && code != EVPQ_ETIMEOUT;
    if (code == EVPQ_EOVERLOADED) {
        assert_int_equal(evpq_error_fate(err), EVPQ_NOT_SENT);
        assert_true(evpq_error_retry_safe(err));
        assert_non_null(strstr(evpq_error_message(err), "shed_target_ms"));
        assert_non_null(strstr(evpq_error_message(err), "of max_size 2"));
    }
}

static bool none_left(struct live *live, void *arg)
{
    (void)live;
    return ((struct many *)arg)->left == 0;
}

static void waiting_above_the_target_is_shed(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2, .min_size = 2, .shed_target_ms = 5));
    struct many many = {.live = &live};
    for (int i = 0; i < 60; i++) {
        for (int n = 0; n < 2; n++) {
            many.left++;
            assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(0.02)"),
                                             on_one_of_many, &many),
                             EVPQ_OK);
        }
        live_run(&live, 0.01);
    }
    live_until(&live, none_left, &many, 30.);
    assert_true(many.shed > 0);
    assert_true(many.good > 0);
    assert_int_equal(many.other, 0);
    assert_int_equal(live_stats(&live).shed, many.shed);
    live_close(&live);
}

static void a_deadlock_and_a_conflict_may_be_tried_again(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const struct {
        const char *sqlstate;
        bool safe;
    } cases[] = {{"40001", true}, {"40P01", true},  {"55P03", true},
                 {"53200", true}, {"23505", false}, {"42P01", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char sql[128];
        snprintf(sql, sizeof(sql), "DO $$BEGIN RAISE SQLSTATE '%s'; END$$", cases[i].sqlstate);
        live_query(&live, &outcome, EVPQ_QUERY(sql));
        assert_string_equal(outcome.sqlstate, cases[i].sqlstate);
        assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
        assert_int_equal(outcome.retry_safe, cases[i].safe);
        outcome_clear(&outcome);
    }
    live_close(&live);
}

static void a_commit_that_rolls_back_is_no_success(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    expect(&live, lease.lease, EVPQ_QUERY("BEGIN"), EVPQ_OK, NULL);
    expect(&live, lease.lease, EVPQ_QUERY("SELECT 1/0"), EVPQ_ESERVER, NULL);
    live_lease_query(&live, &outcome, lease.lease, EVPQ_QUERY("COMMIT"));
    assert_int_equal(outcome.code, EVPQ_ESERVER);
    assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(outcome.sqlstate, "25P02");
    outcome_clear(&outcome);
    expect(&live, lease.lease, EVPQ_QUERY("BEGIN"), EVPQ_OK, NULL);
    expect(&live, lease.lease, EVPQ_QUERY("COMMIT"), EVPQ_OK, NULL);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void a_copy_that_writes_is_unknown(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    aside_int8("DROP TABLE IF EXISTS evpq_copied");
    aside_int8("CREATE TABLE evpq_copied (n int)");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &outcome,
               EVPQ_QUERY("COPY (INSERT INTO evpq_copied VALUES (1) RETURNING n) TO STDOUT"));
    assert_int_equal(outcome.code, EVPQ_EINVALID);
    assert_int_equal(outcome.fate, EVPQ_UNKNOWN);
    outcome_clear(&outcome);
    live_close(&live);
    aside_int8("DROP TABLE evpq_copied");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_server_stops_the_statement_and_its_fate_is_known),
        cmocka_unit_test(the_server_timeout_is_gone_after_the_statement),
        cmocka_unit_test(what_cannot_run_with_it_is_refused_and_says_how),
        cmocka_unit_test(transactions_live_with_the_server_timeout),
        cmocka_unit_test(a_result_over_its_limit_is_cut_and_the_pool_goes_on),
        cmocka_unit_test(the_limit_holds_on_a_unix_socket_too),
        cmocka_unit_test(a_reset_leaves_nothing_of_the_session_before),
        cmocka_unit_test(without_a_reset_only_what_readers_rely_on_is_watched),
        cmocka_unit_test(cancel_and_keep_uses_the_connection_again),
        cmocka_unit_test(cancel_and_close_frees_the_server_and_the_slot),
        cmocka_unit_test(close_only_sends_no_cancel),
        cmocka_unit_test(a_storm_of_timeouts_keeps_the_budget_of_cancels),
        cmocka_unit_test(expired_connections_are_replaced_before_they_go),
        cmocka_unit_test(what_runs_ends_before_its_connection_expires),
        cmocka_unit_test(a_session_that_takes_no_writes_is_left),
        cmocka_unit_test(a_refused_write_expires_a_pool_for_writing),
        cmocka_unit_test(a_timeout_names_the_oldest_lease_and_the_misuse),
        cmocka_unit_test(a_trace_tells_what_happened_and_nothing_else),
        cmocka_unit_test(only_the_kinds_asked_for_are_traced),
        cmocka_unit_test(a_trace_may_close_the_pool),
        cmocka_unit_test(a_lease_held_too_long_is_told_once_with_its_tag),
        cmocka_unit_test(an_older_program_gets_the_numbers_it_knows),
        cmocka_unit_test(waiting_above_the_target_is_shed),
        cmocka_unit_test(a_deadlock_and_a_conflict_may_be_tried_again),
        cmocka_unit_test(a_commit_that_rolls_back_is_no_success),
        cmocka_unit_test(a_copy_that_writes_is_unknown),
    };
    return pooler_run_group_tests_name("trouble", tests, NULL, NULL);
}
