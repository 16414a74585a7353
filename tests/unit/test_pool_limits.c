/* SPDX-License-Identifier: MIT */
/* The limits of an operation and of a close, each to the turn of the loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "support/pool_story.h"

static struct call a, b, c;

/* A holder of a connection. */
static void hold(void)
{
    story_acquire(&c, 0);
    fake_settle();
    assert_non_null(c.lease);
}

/* ---- limits ---- */

static void answer_rollback(PGconn *pg)
{
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
}

static void server_without_rollback(PGconn *pg, const char *sql)
{
    if (strcmp(sql, "ROLLBACK") != 0)
        fake_server_simple(pg, sql);
}

static void who_is_granted_in_the_last_turn_has_its_deadline(void **state)
{
    (void)state;
    fake_server(server_without_rollback);
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    story_run(&b, "BEGIN");
    assert_int_equal(story_stats().cleaning, 1);
    story_ask(&a, "SELECT 1", 1000);
    /* The acquire limit passes in the turn in which the connection has become clean. */
    answer_rollback(fake_pg(0));
    fake_busy(500);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().timeouts, 0);
}

static void the_server_hears_of_the_deadline_when_it_is_asked_for(void **state)
{
    (void)state;
    static const struct {
        evpq_switch pool, query;
        const char *prelude;
    } cases[] = {
        {EVPQ_DEFAULT, EVPQ_DEFAULT, ""},
        {EVPQ_DEFAULT, EVPQ_ON, "SET LOCAL statement_timeout TO 450"},
        {EVPQ_OFF, EVPQ_ON, "SET LOCAL statement_timeout TO 450"},
        {EVPQ_ON, EVPQ_DEFAULT, "SET LOCAL statement_timeout TO 450"},
        {EVPQ_ON, EVPQ_ON, "SET LOCAL statement_timeout TO 450"},
        {EVPQ_ON, EVPQ_OFF, ""},
        {EVPQ_OFF, EVPQ_DEFAULT, ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        story_begin(state);
        story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.server_timeout = cases[i].pool));
        fake_pg_transaction(fake_pg(0), PQTRANS_INTRANS); /* there it shows its number */
        story_ask_with(&a, EVPQ_QUERY("HANG", .timeout_ms = 500, .server_timeout = cases[i].query));
        fake_settle();
        assert_string_equal(fake_pg_prelude(fake_pg(0)), cases[i].prelude);
        fake_answers(fake_pg(0));
        fake_settle();
        assert_int_equal(a.code, EVPQ_OK);
        if (i + 1 < sizeof(cases) / sizeof(cases[0]))
            story_end(state);
    }
}

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    assert_non_null(result);
    assert_null(err);
    ++*(int *)user;
}

static void waiting_is_no_longer_than_the_deadline(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .acquire_timeout_ms = 5000));
    hold();
    int64_t start = fake_now_us();
    story_ask(&a, "SELECT 1", 1000);
    fake_advance(1000);
    assert_int_equal(a.at_us - start, 1000000);
    assert_memory_equal(a.message, "no connection was free within 1000 ms: ", 39);
    story_release(&c);
}

static void results_that_are_too_large_are_counted(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .max_result_bytes = 5000));
    fake_pg_result_bytes(fake_pg(0), 5000);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().too_large, 0);
    fake_pg_result_bytes(fake_pg(0), 5001);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(story_stats().too_large, 1);
    story_ask_with(&a, EVPQ_QUERY("SELECT 1", .max_result_bytes = 5001));
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    /* Less than libpq's own 4,096 makes no sense. */
    fake_pg_result_bytes(fake_pg(0), 4096);
    story_ask_with(&a, EVPQ_QUERY("SELECT 1", .max_result_bytes = 1));
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    fake_pg_result_bytes(fake_pg(0), 4097);
    story_ask_with(&a, EVPQ_QUERY("SELECT 1", .max_result_bytes = 1));
    fake_settle();
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(story_stats().too_large, 2);
}

static void nobody_needs_a_handle(void **state)
{
    (void)state;
    static int results;
    results = 0;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_int_equal(evpq_pool_query(NULL, pool, EVPQ_QUERY("SELECT 1"), on_result, &results),
                     EVPQ_OK);
    fake_settle();
    story_acquire(&a, 0);
    fake_settle();
    assert_int_equal(evpq_lease_query(NULL, a.lease, EVPQ_QUERY("SELECT 1"), on_result, &results),
                     EVPQ_OK);
    fake_settle();
    assert_int_equal(results, 2);
    story_release(&a);
}

static void the_smallest_stats_are_a_size(void **state)
{
    (void)state;
    evpq_pool_stats stats = {.size = sizeof(stats.size), .total = 77};
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_int_equal(evpq_pool_stats_get(pool, &stats), EVPQ_OK);
    assert_int_equal(stats.total, 77);
    stats.size--;
    assert_int_equal(evpq_pool_stats_get(pool, &stats), EVPQ_EINVALID);
}

/* ---- settled at once ---- */

static void a_lease_without_a_connection_ends_a_close_when_it_is_released(void **state)
{
    (void)state;
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.max_size = 2));
    hold();
    fake_loses(fake_pg(1), true, "gone\n");
    fake_settle();
    assert_int_equal(story_lease_ask(&a, c.lease, "SELECT 1", 0), EVPQ_EDISCONNECTED);
    story_close(EVPQ_CLOSE_FINISH, 60000);
    fake_settle();
    assert_int_equal(pool_closed_calls, 0);
    story_release(&c);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void what_is_given_back_unclean_does_not_keep_the_idle_ones(void **state)
{
    (void)state;
    fake_server(server_without_rollback);
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.max_size = 2));
    hold();
    story_lease_ask(&a, c.lease, "BEGIN", 0);
    fake_settle();
    assert_int_equal(fake_pg_count(), 2);
    story_close(EVPQ_CLOSE_FINISH, 60000);
    fake_settle();
    assert_int_equal(fake_pg_count(), 2);
    story_release(&c);
    fake_settle();
    assert_int_equal(fake_pg_count(), 1); /* only the one that is being cleaned */
    assert_int_equal(pool_closed_calls, 0);
    fake_advance(2000);
    assert_int_equal(pool_closed_calls, 1);
}

static void a_dial_that_was_aborted_is_not_aborted_again(void **state)
{
    (void)state;
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.max_size = 3));
    fake_dial_all_wait();
    story_acquire(&a, 0);
    story_acquire(&b, 0);
    story_acquire(&c, 0);
    fake_settle();
    assert_int_equal(fake_dials_open(), 1);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    /* Each connection that goes settles the pool once more; the aborted dial is on its way home. */
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
    assert_int_equal(c.code, EVPQ_ECLOSED);
    story_release(&a);
    story_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(who_is_granted_in_the_last_turn_has_its_deadline),
        story_test(the_server_hears_of_the_deadline_when_it_is_asked_for),
        story_test(waiting_is_no_longer_than_the_deadline),
        story_test(results_that_are_too_large_are_counted),
        story_test(nobody_needs_a_handle),
        story_test(the_smallest_stats_are_a_size),
        story_test(a_lease_without_a_connection_ends_a_close_when_it_is_released),
        story_test(what_is_given_back_unclean_does_not_keep_the_idle_ones),
        story_test(a_dial_that_was_aborted_is_not_aborted_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
