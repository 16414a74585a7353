/* SPDX-License-Identifier: MIT */
/* Statements that connections keep prepared, on a real server. The size of the cache is given:
 * behind a pooler there is none by default. */
#include "support/live.h"
#include "support/pooler.h"

#include <evpq/stream.h>

#include <stdio.h>
#include <string.h>

#define COUNT_PREPARED                                                                             \
    EVPQ_QUERY("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'evpq\\_%'",           \
               .prepare = EVPQ_OFF)

static int64_t prepared(struct live *live)
{
    return live_int8(live, COUNT_PREPARED);
}

static void run(struct live *live, const char *sql)
{
    struct outcome o;
    live_query(live, &o, EVPQ_QUERY(sql, .prepare = EVPQ_OFF));
    if (o.code != EVPQ_OK)
        fail_msg("%s: %s", sql, o.message);
    outcome_clear(&o);
}

static void a_statement_is_prepared_at_its_second_use(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(
            live_int8(&live, EVPQ_QUERY("SELECT $1::int8 + 1", EVPQ_PARAMS(evpq_int8(i)))), i + 1);
        assert_int_equal(prepared(&live), i > 0);
    }
    /* Another type is another statement. */
    for (int i = 0; i < 3; i++)
        live_int8(&live, EVPQ_QUERY("SELECT $1::int8 + 1", EVPQ_PARAMS(evpq_int4(i))));
    assert_int_equal(prepared(&live), 2);
    live_close(&live);
}

static void never_is_never(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = EVPQ_NEVER));
    for (int i = 0; i < 3; i++)
        live_int8(&live, EVPQ_QUERY("SELECT 1::int8", .prepare = EVPQ_ON));
    assert_int_equal(prepared(&live), 0);
    live_close(&live);
}

static void what_is_evicted_is_gone_from_the_server(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 10));
    for (int i = 0; i < 100; i++) {
        char sql[64];
        snprintf(sql, sizeof(sql), "SELECT %d::int8", i);
        assert_int_equal(live_int8(&live, EVPQ_QUERY(sql, .prepare = EVPQ_ON)), i);
    }
    /* Before libpq 17 the last one goes with the next statement only. */
    int64_t left = prepared(&live);
    assert_true(left == 10 || left == 11);
    live_close(&live);
}

static void a_changed_table_is_not_seen(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    run(&live, "CREATE TEMP TABLE changing (a int8)");
    run(&live, "INSERT INTO changing VALUES (7)");
    const evpq_query *query = EVPQ_QUERY("SELECT * FROM changing", .prepare = EVPQ_ON);
    for (int columns = 1; columns < 6; columns++) {
        for (int again = 0; again < 2; again++) {
            live_query(&live, &o, query);
            assert_int_equal(o.code, EVPQ_OK);
            assert_int_equal(evpq_result_columns(o.result), columns);
            outcome_clear(&o);
        }
        char sql[64];
        snprintf(sql, sizeof(sql), "ALTER TABLE changing ADD b%d int", columns);
        run(&live, sql);
    }
    live_close(&live);
}

static void what_is_lost_is_not_seen(void **state)
{
    (void)state;
    static const char *const losses[] = {"DISCARD ALL", "DEALLOCATE ALL", "DISCARD ALL",
                                         "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"};
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
        live_int8(&live, EVPQ_QUERY("SELECT 1::int8", .prepare = EVPQ_ON));
        live_int8(&live, EVPQ_QUERY("SELECT 2::int8", .prepare = EVPQ_ON));
        assert_int_equal(prepared(&live), 2);
        run(&live, losses[i]);
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 2::int8")), 2);
    }
    live_close(&live);
}

struct told {
    struct outcome outcome; /* first, for who gives it to outcome_result() */
    char hint[160];
};

static void on_told(evpq_result *result, const evpq_error *err, void *user)
{
    struct told *told = user;
    snprintf(told->hint, sizeof(told->hint), "%s", evpq_error_hint(err));
    outcome_result(result, err, &told->outcome);
}

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream, (void)chunk, (void)user;
}

/* In a transaction of the lease; the loss comes behind BEGIN. Returns what the last one has told.
 */
static struct told transact(struct live *live, evpq_lease *lease, const char *loss, bool streamed)
{
    struct told told = {0};
    const char *const sql[] = {"BEGIN", loss};
    for (int i = 0; i < 2; i++) {
        struct outcome o;
        live_lease_query(live, &o, lease, EVPQ_QUERY(sql[i], .prepare = EVPQ_OFF));
        assert_int_equal(o.code, EVPQ_OK);
        outcome_clear(&o);
    }
    const evpq_query *query = EVPQ_QUERY("SELECT * FROM evpq_told", .prepare = EVPQ_ON);
    int answer = streamed ? evpq_lease_stream(NULL, lease, query, NULL, on_chunk, on_told, &told)
                          : evpq_lease_query(NULL, lease, query, on_told, &told);
    assert_int_equal(answer, EVPQ_OK);
    live_wait(live, &told.outcome);
    struct outcome o;
    live_lease_query(live, &o, lease, EVPQ_QUERY("ROLLBACK"));
    assert_int_equal(o.code, EVPQ_OK);
    outcome_clear(&o);
    return told;
}

/* The transaction may be run again, and succeeds then. */
static void what_is_lost_in_a_transaction_passes(void **state)
{
    (void)state;
    static const char *const losses[][3] = {
        {"DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", "26000", "dropped"},
        {"ALTER TABLE evpq_told ADD b int", "0A000", "altered"}};
    struct live live;
    struct outcome lease;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    run(&live, "DROP TABLE IF EXISTS evpq_told");
    run(&live, "CREATE TABLE evpq_told (a int8)");
    for (int i = 0; i < 4; i++) {
        struct outcome o;
        for (int again = 0; again < 2; again++) { /* what is stale goes, then it is prepared */
            live_query(&live, &o, EVPQ_QUERY("SELECT * FROM evpq_told", .prepare = EVPQ_ON));
            outcome_clear(&o);
        }
        live_acquire(&live, &lease);
        struct told told = transact(&live, lease.lease, losses[i / 2][0], i % 2);
        assert_int_equal(told.outcome.code, EVPQ_ESERVER);
        assert_string_equal(told.outcome.sqlstate, losses[i / 2][1]);
        assert_true(told.outcome.retry_safe);
        assert_non_null(strstr(told.hint, losses[i / 2][2]));
        told = transact(&live, lease.lease, losses[i / 2][0], i % 2);
        assert_int_equal(told.outcome.code, EVPQ_OK);
        outcome_clear(&told.outcome);
        evpq_lease_release(lease.lease);
    }
    /* One of the user's own does not come back by itself. */
    struct told own = {0};
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("EXECUTE nobody"), on_told, &own),
                     EVPQ_OK);
    live_wait(&live, &own.outcome);
    assert_string_equal(own.outcome.sqlstate, "26000");
    assert_false(own.outcome.retry_safe);
    assert_string_equal(own.hint, "");
    run(&live, "DROP TABLE evpq_told");
    live_close(&live);
}

static void in_a_transaction_the_loss_is_told(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    live_int8(&live, EVPQ_QUERY("SELECT 1::int8", .prepare = EVPQ_ON));
    live_acquire(&live, &lease);
    static const char *const sql[] = {"BEGIN", "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$",
                                      "SELECT 1::int8", "ROLLBACK", "SELECT 1::int8"};
    for (int i = 0; i < 5; i++) {
        live_lease_query(&live, &o, lease.lease, EVPQ_QUERY(sql[i]));
        assert_int_equal(o.code, i == 2 ? EVPQ_ESERVER : EVPQ_OK);
        if (i == 2)
            assert_string_equal(o.sqlstate, "26000");
        outcome_clear(&o);
    }
    evpq_lease_release(lease.lease);
    live_close(&live);
}

/* What was prepared behind the loss, and taken for lost with the others, does not fail for good. */
static void what_was_taken_for_lost_passes(void **state)
{
    (void)state;
    static const char *const sqlstates[] = {"26000", "42P05", ""};
    struct live live;
    struct outcome lease, o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    live_int8(&live, EVPQ_QUERY("SELECT 1::int8", .prepare = EVPQ_ON));
    run(&live, "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$");
    live_acquire(&live, &lease);
    for (int again = 0; again < 3; again++) {
        struct told told = {.outcome.code = EVPQ_OK};
        live_lease_query(&live, &o, lease.lease, EVPQ_QUERY("BEGIN", .prepare = EVPQ_OFF));
        outcome_clear(&o);
        for (int i = 2; i >= 1 && told.outcome.code == EVPQ_OK; i--) {
            const char *sql = i == 2 ? "SELECT 2::int8" : "SELECT 1::int8";
            outcome_clear(&told.outcome);
            told = (struct told){0};
            assert_int_equal(evpq_lease_query(NULL, lease.lease,
                                              EVPQ_QUERY(sql, .prepare = EVPQ_ON), on_told, &told),
                             EVPQ_OK);
            live_wait(&live, &told.outcome);
        }
        assert_string_equal(told.outcome.sqlstate, sqlstates[again]);
        assert_true(again == 2 ? told.outcome.code == EVPQ_OK : told.outcome.retry_safe);
        assert_true(again == 2 || strstr(told.hint, "may be run again"));
        outcome_clear(&told.outcome);
        live_lease_query(&live, &o, lease.lease, EVPQ_QUERY("ROLLBACK", .prepare = EVPQ_OFF));
        outcome_clear(&o);
    }
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void errors_come_through_as_they_are(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    static const char *const wrong[][2] = {
        {"SELEC 1", "42601"}, {"SELECT nothing FROM nowhere", "42P01"}, {"SELECT 1/0", "22012"}};
    for (int i = 0; i < 9; i++) {
        live_query(&live, &o, EVPQ_QUERY(wrong[i % 3][0]));
        assert_int_equal(o.code, EVPQ_ESERVER);
        assert_int_equal(o.fate, EVPQ_ROLLED_BACK);
        assert_string_equal(o.sqlstate, wrong[i % 3][1]);
        outcome_clear(&o);
    }
    /* Only what can be parsed was prepared; a constant division fails when it is planned. */
    assert_int_equal(prepared(&live), 1);
    live_close(&live);
}

static void what_cannot_be_in_a_transaction_can_be_prepared(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 1));
    run(&live, "CREATE TEMP TABLE vacuumed (a int)");
    struct outcome o;
    for (int i = 0; i < 4; i++) {
        live_query(&live, &o, EVPQ_QUERY("VACUUM vacuumed", .prepare = EVPQ_ON));
        if (o.code != EVPQ_OK)
            fail_msg("%s", o.message);
        outcome_clear(&o);
        /* Evicts it, so that its end travels ahead of the next. */
        live_int8(&live, EVPQ_QUERY("SELECT 1::int8", .prepare = EVPQ_ON));
    }
    live_close(&live);
}

static void a_reset_session_starts_anew(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .reset_session = true));
    for (int i = 0; i < 5; i++)
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 3::int8", .prepare = EVPQ_ON)), 3);
    assert_int_equal(prepared(&live), 0);
    live_close(&live);
}

static void it_travels_with_a_limit_of_the_servers(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .server_timeout = EVPQ_ON));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 4::int8", .prepare = EVPQ_ON)), 4);
        live_query(&live, &o,
                   EVPQ_QUERY("SELECT pg_sleep(10)", .timeout_ms = 200, .prepare = EVPQ_ON));
        assert_int_equal(o.code, EVPQ_ETIMEOUT);
        outcome_clear(&o);
    }
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_statement_is_prepared_at_its_second_use),
        cmocka_unit_test(never_is_never),
        cmocka_unit_test(what_is_evicted_is_gone_from_the_server),
        cmocka_unit_test(a_changed_table_is_not_seen),
        cmocka_unit_test(what_is_lost_is_not_seen),
        cmocka_unit_test(in_a_transaction_the_loss_is_told),
        cmocka_unit_test(what_was_taken_for_lost_passes),
        cmocka_unit_test(what_is_lost_in_a_transaction_passes),
        cmocka_unit_test(errors_come_through_as_they_are),
        cmocka_unit_test(what_cannot_be_in_a_transaction_can_be_prepared),
        cmocka_unit_test(a_reset_session_starts_anew),
        cmocka_unit_test(it_travels_with_a_limit_of_the_servers),
    };
    return pooler_run_group_tests_name("prepared", tests, NULL, NULL);
}
