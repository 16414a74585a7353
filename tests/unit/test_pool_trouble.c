/* SPDX-License-Identifier: MIT */
/* The pool when things go wrong: reruns, outages, expiry, overload, cancel budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "support/pool_story.h"

static struct call a, b, c;

/* ---- what had no effect runs again ---- */

static void what_was_not_sent_runs_elsewhere(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 2));
    story_ask(&a, "SELECT 1", 1000);
    assert_int_equal(story_stats().busy, 1);
    fake_pg_break(fake_pg(0)); /* before the loop turns */
    fake_advance(300);
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().reruns, 1);
    assert_int_equal(fake_dials(), 2);
}

static void a_rerun_keeps_its_deadline_and_its_place(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    fake_dial_all_wait();
    story_ask(&a, "SELECT 1", 1000);
    story_ask(&b, "SELECT 2", 1000);
    fake_pg_break(fake_pg(0));
    fake_settle();
    assert_int_equal(story_stats().waiting, 2);
    fake_advance(400);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_OK);
    assert_true(a.order < b.order);
    /* And one for which nobody comes: half of what was left, not its deadline once more. */
    fake_dial_all_fail();
    int64_t start = fake_now_us();
    story_ask(&c, "SELECT 3", 1000);
    fake_pg_break(fake_pg(0));
    fake_advance(1000);
    assert_int_equal(c.code, EVPQ_ECONNECT);
    assert_int_equal(c.fate, EVPQ_NOT_SENT);
    assert_int_equal(c.at_us - start, 500000);
}

static void what_was_sent_is_not_run_again(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 2));
    story_ask(&a, "HANG", 1000);
    fake_settle();
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(story_stats().reruns, 0);
}

static void a_lease_stays_with_its_connection(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&b, a.lease, "SELECT 1", 1000);
    fake_pg_break(fake_pg(0));
    fake_settle();
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(story_stats().reruns, 0);
    story_release(&a);
}

static void a_rerun_can_be_cancelled_and_closed(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    fake_dial_all_wait();
    story_ask(&a, "SELECT 1", 1000);
    fake_pg_break(fake_pg(0));
    fake_settle();
    assert_int_equal(story_stats().reruns, 1);
    evpq_op_cancel(a.op);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECANCELED);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    fake_dial_all_succeed();
    fake_advance(200);
    story_run(&c, "SELECT 1");
    assert_int_equal(c.code, EVPQ_OK);
    fake_dial_all_wait();
    story_ask(&b, "SELECT 1", 1000);
    fake_pg_break(fake_pg(0));
    fake_settle();
    assert_int_equal(story_stats().reruns, 2);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    fake_settle();
    assert_int_equal(b.code, EVPQ_ECLOSED);
}

static void a_socket_with_something_to_say_is_heard_first(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    fake_advance(2);
    fake_loses(fake_pg(0), true, "gone\n");
    story_ask(&a, "SELECT 1", 1000);
    assert_int_equal(story_stats().waiting, 1);
    fake_advance(300);
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().reruns, 0);
    /* A word that is no farewell keeps the connection. */
    fake_advance(2);
    PGconn *pg = fake_pg(0);
    fake_says_notification(pg);
    story_ask(&b, "SELECT 1", 1000);
    assert_int_equal(story_stats().waiting, 1);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    assert_ptr_equal(fake_pg(0), pg);
}

/* ---- outages ---- */

static void a_server_that_lets_in_and_drops_is_not_hammered(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 4, .max_size = 10));
    int before = fake_dials();
    for (int ms = 0; ms < 10000; ms += 10) {
        for (int i = fake_pg_count(); i-- > 0;)
            fake_loses(fake_pg(i), true, "gone\n");
        fake_advance(10);
    }
    /* The pauses grow to a second at most, by chance: some twenty dials, not a thousand. */
    assert_in_range(fake_dials() - before, 8, 60);
    fake_dial_all_succeed();
    fake_advance(6300);
    assert_int_equal(story_stats().idle, 4);
}

static void a_server_that_drops_the_first_statement_is_not_hammered(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 10));
    for (int i = 0; i < 500; i++) {
        story_ask(&story_calls[i], "DIE", 5000);
        fake_advance(20);
    }
    fake_advance(6000);
    /* In 10 s, not 500 dials. */
    assert_in_range(fake_dials(), 4, 60);
}

static void a_kill_makes_one_prober_again(void **state)
{
    (void)state;
    story_open_with_idle(8, *EVPQ_POOL_OPTIONS(.max_size = 8));
    for (int i = 0; i < 8; i++)
        story_ask(&story_calls[i], "SELECT 1", 0);
    fake_advance(2000);
    int before = fake_dials();
    fake_dial_all_wait();
    for (int i = 8; i-- > 0;)
        fake_loses(fake_pg(i), true, "gone\n");
    fake_settle();
    for (int i = 0; i < 50; i++)
        story_ask(&story_calls[i], "SELECT 1", 0);
    fake_settle();
    assert_int_equal(fake_dials() - before, 1);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials() - before, 1 + 2);
    fake_dial_all_succeed();
    for (int i = 0; i < 2; i++)
        fake_dial_succeeds();
    fake_advance(100);
}

static void a_stopped_statement_is_no_outage(void **state)
{
    (void)state;
    fake_cancels_obeyed(false);
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .cancel_timeout_ms = 300));
    story_ask(&a, "HANG", 100);
    story_ask(&b, "SELECT 1", 5000);
    fake_advance(400);
    assert_int_equal(b.code, EVPQ_OK);
}

/* ---- expiry ---- */

static void an_expired_connection_serves_until_its_replacement_is_there(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 2));
    PGconn *old = fake_pg(0);
    fake_dial_all_wait();
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    assert_int_equal(fake_dials(), 2);
    assert_int_equal(story_stats().idle, 1);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_pg_received(old), 1);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().closed_expired, 1);
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(story_stats().total, 1);
    assert_ptr_not_equal(fake_pg(0), old);
}

static void without_room_the_old_one_goes_first(void **state)
{
    (void)state;
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.max_size = 2, .min_size = 2));
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    assert_int_equal(story_stats().closed_expired, 2);
    assert_int_equal(story_stats().idle, 2);
    assert_int_equal(fake_dials(), 4);
    assert_true(fake_pg_count() <= 2);
}

static void a_replacement_that_cannot_be_made_leaves_the_old_one(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 2));
    fake_dial_all_fail();
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_advance(5000);
    assert_int_equal(story_stats().idle, 1);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_dials() < 20, 1);
    fake_dial_all_succeed();
    fake_advance(6000);
    assert_int_equal(story_stats().closed_expired, 1);
    assert_int_equal(story_stats().idle, 1);
}

static void a_server_that_shuts_down_is_not_kept_waiting(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 3));
    fake_dial_all_wait();
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
    fake_dial_fails(EVPQ_ECONNECT, "57P03", "the database system is shutting down", false);
    fake_settle();
    assert_int_equal(story_stats().idle, 0);
    assert_int_equal(story_stats().closed_expired, 1);
}

static void many_that_are_lost_together_are_one_failure(void **state)
{
    (void)state;
    story_open_with_idle(8, *EVPQ_POOL_OPTIONS(.max_size = 8));
    for (int i = 8; i-- > 0;)
        fake_loses(fake_pg(i), true, "gone\n");
    fake_settle();
    fake_dial_all_succeed();
    story_ask(&a, "SELECT 1", 5000);
    fake_advance(200);
    assert_int_equal(a.code, EVPQ_OK);
}

static void old_age_is_replaced_the_same_way(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 2, .max_lifetime_ms = 1000));
    fake_dial_all_wait();
    fake_advance(1000);
    assert_int_equal(fake_dials(), 2);
    assert_int_equal(story_stats().idle, 1);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().closed_lifetime, 1);
    assert_int_equal(story_stats().idle, 1);
}

static void an_expired_one_that_is_lost_is_not_replaced_twice(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 3));
    fake_advance(2000);
    fake_dial_all_wait();
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(fake_dials(), 2);
    assert_int_equal(story_stats().closed_expired, 0);
}

static void expire_asks_for_an_open_pool(void **state)
{
    (void)state;
    assert_int_equal(evpq_pool_expire(NULL), EVPQ_EINVALID);
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pool *closing = pool;
    story_acquire(&a, 0);
    fake_settle();
    story_close(EVPQ_CLOSE_FINISH, 1000);
    assert_int_equal(evpq_pool_expire(closing), EVPQ_ECLOSED);
    story_release(&a);
}

static void server_in_standby(PGconn *pg, const char *sql)
{
    if (strcmp(sql, "WRITE") == 0) {
        fake_says_error(pg, "ERROR", "25006", "cannot execute INSERT in a read-only transaction");
        fake_says_sync(pg, PQTRANS_IDLE);
    } else {
        fake_server_simple(pg, sql);
    }
}

static void a_refused_write_replaces_all_connections(void **state)
{
    (void)state;
    fake_dial_read_write(true);
    fake_server(server_in_standby);
    story_open_with_idle(3, *EVPQ_POOL_OPTIONS(.max_size = 5));
    fake_advance(1000);
    story_run(&a, "WRITE");
    assert_string_equal(a.sqlstate, "25006");
    assert_int_equal(story_stats().expired, 1);
    assert_int_equal(story_stats().closed_expired, 3);
    assert_int_equal(story_stats().total, 0);
    /* More of the same: once a second, not for each. */
    for (int i = 0; i < 20; i++) {
        story_run(&b, "WRITE");
        fake_advance(100);
    }
    assert_in_range(story_stats().expired, 2, 4);
}

static void a_pool_for_any_server_does_not_mind(void **state)
{
    (void)state;
    fake_server(server_in_standby);
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 5));
    story_run(&a, "WRITE");
    assert_int_equal(story_stats().expired, 0);
    assert_int_equal(story_stats().idle, 1);
}

static void in_a_lease_the_word_of_the_server_counts(void **state)
{
    (void)state;
    fake_dial_read_write(true);
    fake_server(server_in_standby);
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&b, a.lease, "WRITE", 0);
    fake_settle();
    assert_int_equal(story_stats().expired, 0); /* a read-only transaction of the user's own */
    fake_pg_parameter(fake_pg(0), "in_hot_standby", "on");
    story_lease_ask(&b, a.lease, "WRITE", 0);
    fake_settle();
    assert_int_equal(story_stats().expired, 1);
    story_release(&a);
    fake_settle();
    assert_int_equal(story_stats().closed_expired, 1);
}

static void a_session_that_takes_no_writes_goes_alone(void **state)
{
    (void)state;
    fake_dial_read_write(true);
    fake_server(server_in_standby);
    story_open_with_idle(3, *EVPQ_POOL_OPTIONS(.max_size = 5));
    fake_pg_parameter(fake_pg(0), "default_transaction_read_only", "on");
    fake_pg_parameter(fake_pg(1), "default_transaction_read_only", "on");
    fake_pg_parameter(fake_pg(2), "default_transaction_read_only", "on");
    fake_pg_parameter(fake_pg(2), "default_transaction_read_only", "off");
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().expired, 0);
    assert_true(story_stats().closed_expired <= 2);
    assert_true(story_stats().idle >= 1);
}

static void a_server_that_becomes_a_standby_is_not_used(void **state)
{
    (void)state;
    fake_dial_read_write(true);
    story_open_with_idle(3, *EVPQ_POOL_OPTIONS(.max_size = 3));
    fake_pg_parameter(fake_pg(2), "in_hot_standby", "on");
    fake_pg_parameter(fake_pg(1), "in_hot_standby", "on");
    fake_pg_parameter(fake_pg(0), "in_hot_standby", "on");
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().expired, 1);
    assert_int_equal(fake_dials(), 4);
}

/* ---- overload ---- */

static void who_waits_too_long_is_shed(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .shed_target_ms = 5));
    int served = 0, shed = 0;
    for (int i = 0; i < 200; i++) {
        /* A holder for 20 ms, and three more who ask every 20 ms. */
        story_acquire(&story_calls[3 * i], 5000);
        story_acquire(&story_calls[3 * i + 1], 5000);
        fake_settle();
        fake_advance(20);
        for (int n = 0; n <= 3 * i + 1; n++)
            if (story_calls[n].lease)
                story_release(&story_calls[n]);
        fake_settle();
    }
    fake_advance(6000);
    for (int i = 0; i < 600; i++) {
        if (story_calls[i].lease)
            story_release(&story_calls[i]);
        if (!story_calls[i].calls)
            continue;
        served += story_calls[i].code == EVPQ_OK;
        if (story_calls[i].code == EVPQ_EOVERLOADED) {
            shed++;
            assert_int_equal(story_calls[i].fate, EVPQ_NOT_SENT);
            assert_non_null(strstr(story_calls[i].message, "of max_size 1"));
        }
    }
    fake_settle();
    assert_true(shed > 50);
    assert_true(served > 150);
    assert_int_equal(story_stats().shed, shed);
}

/* Twice the target for all of them: but a connection that rests helps nobody. */
static void shedding_leaves_no_connection_idle(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .shed_target_ms = 5));
    story_acquire(&a, 5000);
    fake_settle();
    for (int i = 0; i < 3; i++)
        story_acquire(&story_calls[i], 5000);
    fake_advance(50);
    pool->codel = (struct evpq__codel){.interval_ends_us = INT64_MAX, .overloaded = true};
    story_release(&a);
    fake_settle();
    assert_int_equal(story_calls[0].code, EVPQ_EOVERLOADED);
    assert_int_equal(story_calls[1].code, EVPQ_EOVERLOADED);
    assert_int_equal(story_calls[2].code, EVPQ_OK);
    assert_int_equal(story_stats().shed, 2);
    assert_int_equal(story_stats().idle, 0);
    story_release(&story_calls[2]);
}

static void a_snapshot_names_the_oldest_lease(void **state)
{
    (void)state;
    char line[400];
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    story_acquire(&a, 0);
    fake_settle();
    fake_advance(1500);
    story_acquire(&b, 0);
    fake_settle();
    fake_advance(1700);
    assert_true(evpq_pool_describe(pool, line, sizeof(line)) > 0);
    assert_non_null(strstr(line,
                           "of max_size 2, 2 busy, 0 idle, 0 cleaning, 0 connecting; "
                           "0 waiting; the oldest lease is held for 3.2 s"));
    assert_non_null(strstr(line, "does a holder wait for a second?"));
    story_lease_ask(&c, a.lease, "HANG", 5000);
    assert_true(evpq_pool_describe(pool, line, sizeof(line)) > 0);
    assert_null(strstr(line, "does a holder wait"));
    story_release(&a);
    assert_true(evpq_pool_describe(pool, line, sizeof(line)) > 0);
    assert_non_null(strstr(line, "the oldest lease is held for 1.7 s"));
    story_release(&b);
    /* As snprintf(). */
    assert_true(evpq_pool_describe(pool, line, 10) > 10);
    assert_int_equal(strlen(line), 9);
    assert_int_equal(evpq_pool_describe(NULL, line, sizeof(line)), 0);
    assert_string_equal(line, "");
}

static void leases_are_counted_when_they_are_overdue(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 3, .lease_overdue_ms = 1000));
    story_acquire(&a, 0);
    fake_advance(400);
    story_acquire(&b, 0);
    fake_settle();
    fake_advance(599);
    assert_int_equal(story_stats().leases_overdue, 0);
    fake_advance(1);
    assert_int_equal(story_stats().leases_overdue, 1);
    fake_advance(400);
    assert_int_equal(story_stats().leases_overdue, 2);
    fake_advance(5000);
    assert_int_equal(story_stats().leases_overdue, 2);
    story_release(&a);
    story_release(&b);
    story_acquire(&c, 0);
    fake_settle();
    fake_advance(1000);
    assert_int_equal(story_stats().leases_overdue, 3);
    story_release(&c);
}

/* ---- the budget of cancels ---- */

static void cancels_keep_their_budget_in_every_second(void **state)
{
    (void)state;
    story_open_with_idle(
        50, *EVPQ_POOL_OPTIONS(.max_size = 50, .cancels_per_s = 10, .cancel_timeout_ms = 5000));
    for (int i = 0; i < 50; i++)
        story_ask(&story_calls[i], "HANG", 100);
    fake_settle();
    uint64_t sent[600];
    int samples = 0;
    for (int ms = 0; ms < 5000; ms += 10) {
        fake_advance(10);
        sent[samples++] = story_stats().cancels;
    }
    uint64_t most = 0;
    for (int i = 100; i < samples; i++)
        most = sent[i] - sent[i - 100] > most ? sent[i] - sent[i - 100] : most;
    assert_in_range(most, 5, 10);
    assert_in_range(sent[samples - 1], 20, 30); /* 5 at once, 5 a second after */
    for (int i = 0; i < 50; i++)
        assert_int_equal(story_calls[i].code, EVPQ_ETIMEOUT);
}

static void without_a_storm_each_cancel_leaves_at_once(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .cancels_per_s = 1));
    for (int i = 0; i < 5; i++) {
        story_ask(&a, "HANG", 100);
        fake_advance(100);
        assert_int_equal(fake_cancels(), i + 1);
        fake_advance(1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(what_was_not_sent_runs_elsewhere),
        story_test(a_rerun_keeps_its_deadline_and_its_place),
        story_test(what_was_sent_is_not_run_again),
        story_test(a_lease_stays_with_its_connection),
        story_test(a_rerun_can_be_cancelled_and_closed),
        story_test(a_socket_with_something_to_say_is_heard_first),
        story_test(a_server_that_lets_in_and_drops_is_not_hammered),
        story_test(a_server_that_drops_the_first_statement_is_not_hammered),
        story_test(a_kill_makes_one_prober_again),
        story_test(a_stopped_statement_is_no_outage),
        story_test(an_expired_connection_serves_until_its_replacement_is_there),
        story_test(without_room_the_old_one_goes_first),
        story_test(a_replacement_that_cannot_be_made_leaves_the_old_one),
        story_test(a_server_that_shuts_down_is_not_kept_waiting),
        story_test(many_that_are_lost_together_are_one_failure),
        story_test(old_age_is_replaced_the_same_way),
        story_test(an_expired_one_that_is_lost_is_not_replaced_twice),
        story_test(expire_asks_for_an_open_pool),
        story_test(a_refused_write_replaces_all_connections),
        story_test(a_pool_for_any_server_does_not_mind),
        story_test(in_a_lease_the_word_of_the_server_counts),
        story_test(a_session_that_takes_no_writes_goes_alone),
        story_test(a_server_that_becomes_a_standby_is_not_used),
        story_test(who_waits_too_long_is_shed),
        story_test(shedding_leaves_no_connection_idle),
        story_test(a_snapshot_names_the_oldest_lease),
        story_test(leases_are_counted_when_they_are_overdue),
        story_test(cancels_keep_their_budget_in_every_second),
        story_test(without_a_storm_each_cancel_leaves_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
