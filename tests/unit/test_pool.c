/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "flow/member.h"
#include "support/pool_story.h"

static struct call a, b, c, d;

static int begin(void **state)
{
    a.inside = b.inside = c.inside = d.inside = NULL;
    return story_begin(state);
}

static int64_t ms_since(int64_t start_us)
{
    return (fake_now_us() - start_us) / 1000;
}

/* ---- queries ---- */

static void a_query_runs_on_a_connection_made_for_it(void **state)
{
    (void)state;
    story_open_ok(NULL);
    assert_int_equal(fake_dials(), 0);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 1);
    assert_int_equal(story_stats().idle, 1);
    story_run(&b, "SELECT 1");
    assert_int_equal(fake_dials(), 1);
}

static void an_error_of_the_server_reaches_the_caller(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_run(&a, "FAIL");
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.sqlstate, "22012");
    assert_int_equal(story_stats().idle, 1);
}

static void what_a_query_leaves_open_is_rolled_back_before_the_next(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_ask(&a, "BEGIN", 0);
    story_ask(&b, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_OK);
    assert_string_equal(fake_pg_sql(fake_pg(0), 1), "ROLLBACK");
    assert_string_equal(fake_pg_sql(fake_pg(0), 2), "SELECT 1");
}

static void a_query_whose_connection_is_lost_is_unknown_and_the_next_one_dials(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_run(&a, "DIE");
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.sqlstate, "57P01");
    assert_int_equal(story_stats().closed_broken, 1);
    assert_int_equal(story_stats().total, 0);
    story_run(&b, "SELECT 1");
    fake_advance(200); /* it was the first statement of its connection: that counts as a failure */
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 2);
}

static void an_idle_connection_that_is_lost_is_not_handed_out(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS());
    fake_advance(1000);
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    assert_int_equal(story_stats().total, 0);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_connection_that_turns_out_bad_is_not_handed_out(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS());
    fake_pg_break(fake_pg(0));
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 2);
    assert_int_equal(story_stats().closed_broken, 1);
}

static void a_query_of_an_older_program_has_zero_for_what_it_lacks(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.query_timeout_ms = 5000));
    /* Its struct ends before `params`; what is behind it in memory is something else. */
    evpq_query older = {.size = offsetof(evpq_query, params), .sql = "HANG", .timeout_ms = 1};
    story_ask_with(&a, &older);
    fake_advance(4999);
    assert_int_equal(a.calls, 0);
    fake_advance(1);
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
}

/* ---- waiting ---- */

static void waiters_are_served_in_the_order_of_their_calls(void **state)
{
    (void)state;
    struct call *calls = story_calls;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int i = 0; i < 6; i++) {
        char sql[16];
        snprintf(sql, sizeof(sql), "SELECT %d", i);
        story_ask(&calls[i], sql, 0);
    }
    fake_settle();
    for (int i = 0; i < 6; i++) {
        assert_int_equal(calls[i].order, i + 1);
        assert_int_equal(fake_pg_sql(fake_pg(0), i)[7], '0' + i);
    }
}

static int told;

static void count_told(struct evpq__member *member, const struct evpq_error *error)
{
    (void)member;
    told += error->code == EVPQ_OK;
}

/* As a group does, which takes the place of their class. */
static void who_waits_may_be_watched(void **state)
{
    (void)state;
    struct evpq__member members[3];
    told = 0;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_ask(&a, "SELECT 1", 0);
    story_ask(&b, "SELECT 2", 0);
    story_acquire(&c, 0);
    struct call *calls[] = {&a, &b, &c};
    for (int i = 0; i < 3; i++)
        assert_true(evpq__member_watch(&members[i], calls[i]->op, count_told));
    fake_settle();
    assert_int_equal(told, 3);
    assert_int_equal(b.code, EVPQ_OK);
    assert_non_null(c.lease);
    story_release(&c);
}

static void leases_and_queries_wait_in_one_line(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    story_ask(&b, "SELECT 1", 0);
    story_acquire(&c, 0);
    story_ask(&d, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 0);
    story_release(&a);
    fake_settle();
    assert_int_equal(b.order, 2);
    assert_int_equal(c.order, 3);
    assert_int_equal(d.calls, 0);
    story_release(&c);
    fake_settle();
    assert_int_equal(d.code, EVPQ_OK);
}

static void a_newcomer_does_not_overtake_who_waits(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    story_ask(&b, "SELECT 1", 0);
    story_release(&a);
    story_ask(&c, "SELECT 2", 0);
    fake_settle();
    assert_true(b.order < c.order);
    assert_string_equal(fake_pg_sql(fake_pg(0), 0), "SELECT 1");
}

static void the_connection_used_last_is_used_first(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 3));
    story_acquire(&a, 0);
    story_acquire(&b, 0);
    story_acquire(&c, 0);
    fake_settle();
    story_release(&a);
    story_release(&c);
    story_release(&b);
    fake_settle();
    PGconn *second = fake_pg(1);
    for (int i = 0; i < 3; i++)
        story_run(&d, "SELECT 1");
    assert_int_equal(fake_pg_received(second), 3);
}

static void there_are_never_more_connections_than_max_size(void **state)
{
    (void)state;
    struct call *calls = story_calls;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 3));
    for (int i = 0; i < 20; i++)
        story_ask(&calls[i], "HANG", 0);
    for (int i = 0; i < 40; i++) {
        fake_turn();
        assert_true(story_stats().total <= 3);
        assert_true(fake_pg_count() <= 3);
    }
    assert_int_equal(fake_pg_count(), 3);
    assert_int_equal(story_stats().waiting, 17);
    for (int i = 0; i < 20; i++)
        evpq_op_cancel(calls[i].op);
    fake_settle();
    assert_int_equal(fake_dials(), 3);
}

static void more_than_max_waiters_are_refused_at_once(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .max_waiters = 2));
    story_acquire(&a, 0);
    fake_settle();
    assert_int_equal(story_ask(&b, "SELECT 1", 0), EVPQ_OK);
    assert_int_equal(story_acquire(&c, 0), EVPQ_OK);
    assert_int_equal(story_ask(&d, "SELECT 1", 0), EVPQ_EOVERLOADED);
    assert_int_equal(story_acquire(&d, 0), EVPQ_EOVERLOADED);
    assert_int_equal(story_stats().overloaded, 2);
    assert_int_equal(story_stats().waiting, 2);
    story_release(&a);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    story_release(&c);
    assert_int_equal(d.calls, 0);
}

static void waiting_ends_at_half_of_the_deadline(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    int64_t start = fake_now_us();
    story_ask(&b, "SELECT 1", 1000);
    fake_advance(499);
    assert_int_equal(b.calls, 0);
    fake_advance(1);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(ms_since(start), 500);
    assert_non_null(strstr(b.message, "max_size 1, 1 busy"));
    assert_int_equal(story_stats().timeouts, 1);
    assert_int_equal(story_stats().waiting, 0);
    story_release(&a);
}

static void waiting_ends_at_acquire_timeout(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .acquire_timeout_ms = 70));
    story_acquire(&a, 0);
    fake_settle();
    story_ask(&b, "SELECT 1", 1000);
    story_ask(&c, "SELECT 1", 50);
    story_acquire(&d, 0);
    fake_advance(49);
    assert_int_equal(c.calls, 0);
    fake_advance(1);
    assert_int_equal(c.code, EVPQ_ETIMEOUT);
    fake_advance(20);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_int_equal(d.code, EVPQ_ETIMEOUT);
    story_release(&a);
}

static void an_acquire_has_the_time_it_is_given(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .query_timeout_ms = 800));
    story_acquire(&a, 0);
    fake_settle();
    story_acquire(&b, 0); /* half of 800 */
    story_acquire(&c, 600);
    story_acquire(&d, EVPQ_NEVER);
    fake_advance(399);
    assert_int_equal(b.calls, 0);
    fake_advance(1);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    fake_advance(199);
    assert_int_equal(c.calls, 0);
    fake_advance(1);
    assert_int_equal(c.code, EVPQ_ETIMEOUT);
    fake_advance(3600000);
    assert_int_equal(d.calls, 0);
    story_release(&a);
    fake_settle();
    assert_int_equal(d.code, EVPQ_OK);
    story_release(&d);
}

static void who_waited_has_the_rest_of_the_deadline(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    story_ask(&b, "HANG", 1000);
    fake_advance(400);
    story_release(&a);
    fake_advance(599);
    assert_int_equal(b.calls, 0);
    fake_advance(1);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
}

/* ---- ending early ---- */

static void a_query_that_times_out_is_cancelled_and_its_connection_cleaned(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_ask(&a, "HANG", 100);
    fake_advance(99);
    story_ask(&b, "SELECT 1", 0);
    fake_advance(1);
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(fake_cancels(), 1);
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 1);
}

static void a_deadline_holds_while_nobody_obeys_the_cancel(void **state)
{
    (void)state;
    fake_cancels_obeyed(false);
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .cancel_timeout_ms = 300));
    int64_t start = fake_now_us();
    story_ask(&a, "HANG", 100);
    story_ask(&b, "SELECT 1", 5000);
    fake_advance(100);
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_int_equal(a.at_us - start, 100000);
    assert_int_equal(story_stats().cleaning, 1);
    fake_advance(299);
    assert_int_equal(b.calls, 0);
    assert_int_equal(fake_dials(), 1);
    fake_advance(1);
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 2);
    assert_int_equal(story_stats().closed_broken, 1);
}

static void cancel_of_a_waiter_takes_it_out_of_the_line(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    story_ask(&b, "SELECT 1", 0);
    story_acquire(&c, 0);
    evpq_op_cancel(b.op);
    evpq_op_cancel(c.op);
    evpq_op_cancel(c.op);
    assert_int_equal(b.calls, 0);
    fake_settle();
    assert_int_equal(b.code, EVPQ_ECANCELED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(c.code, EVPQ_ECANCELED);
    assert_int_equal(story_stats().waiting, 0);
    assert_int_equal(story_stats().canceled, 2);
    story_release(&a);
}

static void cancel_before_it_was_sent_sends_nothing(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS());
    story_ask(&a, "SELECT 1", 0);
    evpq_op_cancel(a.op);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECANCELED);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    assert_int_equal(fake_pg_received(fake_pg(0)), 0);
    assert_int_equal(story_stats().idle, 1);
}

static void cancel_of_a_running_query_is_heard_at_once(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_run(&a, "HANG");
    evpq_op_cancel(a.op);
    fake_turn();
    assert_int_equal(a.code, EVPQ_ECANCELED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(fake_cancels(), 1);
}

static void cancel_of_a_finished_query_changes_nothing(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS());
    story_acquire(&a, 0); /* granted now, told later */
    evpq_op_cancel(a.op);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    story_release(&a);
}

static void a_thousand_timeouts_at_once_leave_a_working_pool(void **state)
{
    (void)state;
    struct call *many = story_calls;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 4));
    for (int i = 0; i < 1000; i++)
        story_ask(&many[i], "HANG", 100);
    fake_advance(1000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(many[i].code, EVPQ_ETIMEOUT);
    assert_int_equal(story_stats().timeouts, 1000);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
}

/* ---- arguments and numbers ---- */

static void wrong_arguments_are_refused_and_do_nothing(void **state)
{
    (void)state;
    evpq_pool *none = NULL;
    assert_int_equal(evpq_pool_open(NULL, fake_ev(), NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_open(&none, NULL, NULL), EVPQ_EINVALID);
    const evpq_pool_options *wrong[] = {
        EVPQ_POOL_OPTIONS(.conninfo = ""),
        EVPQ_POOL_OPTIONS(.conninfo = "no such=thing"),
        EVPQ_POOL_OPTIONS(.max_size = 10001),
        EVPQ_POOL_OPTIONS(.min_size = 3, .max_size = 2),
        EVPQ_POOL_OPTIONS(.min_size = 11),
        EVPQ_POOL_OPTIONS(.connect_timeout_ms = EVPQ_NEVER),
        EVPQ_POOL_OPTIONS(.cancel_timeout_ms = EVPQ_NEVER),
        &(const evpq_pool_options){0},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(evpq_pool_open(&none, fake_ev(), wrong[i]), EVPQ_EINVALID);
        assert_non_null(evpq_pool_options_problem(wrong[i]));
    }
    assert_null(none);
    assert_null(evpq_pool_options_problem(NULL));
    story_open_ok(NULL);
    assert_int_equal(evpq_pool_query(NULL, pool, NULL, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_query(NULL, pool, EVPQ_QUERY("SELECT 1"), NULL, NULL),
                     EVPQ_EINVALID);
    assert_int_equal(story_ask(&a, "", 0), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_acquire(NULL, pool, NULL, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(story_lease_ask(&a, NULL, "SELECT 1", 0), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_close(NULL, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_close(pool, (evpq_close_mode)7, 0, NULL, NULL), EVPQ_EINVALID);
    evpq_pool_stats stats = {.size = 1};
    assert_int_equal(evpq_pool_stats_get(pool, &stats), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_stats_get(pool, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_stats_get(NULL, &stats), EVPQ_EINVALID);
    evpq_lease_release(NULL);
}

static void the_numbers_add_up(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2, .max_waiters = 1));
    story_acquire(&a, 0);
    fake_settle();
    story_run(&b, "HANG");
    story_ask(&c, "SELECT 1", 0);
    story_ask(&d, "SELECT 1", 0);
    evpq_pool_stats s = story_stats();
    assert_int_equal(s.busy, 2);
    assert_int_equal(s.waiting, 1);
    assert_int_equal(s.overloaded, 1);
    assert_int_equal(s.acquired, 2);
    assert_int_equal(s.dialed, 2);
    evpq_op_cancel(b.op);
    assert_int_equal(story_stats().cleaning, 1);
    fake_settle();
    s = story_stats();
    assert_int_equal(s.canceled, 1);
    assert_int_equal(s.acquired, 3);
    assert_int_equal(s.idle, 1);
    assert_int_equal(s.busy, 1);
    story_release(&a);
    story_run(&a, "DIE");
    s = story_stats();
    assert_int_equal(s.closed_broken, 1);
    assert_int_equal(s.total, 1);
    assert_int_equal(s.idle, 1);
    assert_int_equal(s.acquired, 4);
    assert_int_equal(s.dial_failures + s.timeouts + s.closed_idle + s.closed_lifetime, 0);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_query_runs_on_a_connection_made_for_it),
        test(an_error_of_the_server_reaches_the_caller),
        test(what_a_query_leaves_open_is_rolled_back_before_the_next),
        test(a_query_whose_connection_is_lost_is_unknown_and_the_next_one_dials),
        test(an_idle_connection_that_is_lost_is_not_handed_out),
        test(a_connection_that_turns_out_bad_is_not_handed_out),
        test(a_query_of_an_older_program_has_zero_for_what_it_lacks),
        test(waiters_are_served_in_the_order_of_their_calls),
        test(who_waits_may_be_watched),
        test(leases_and_queries_wait_in_one_line),
        test(a_newcomer_does_not_overtake_who_waits),
        test(the_connection_used_last_is_used_first),
        test(there_are_never_more_connections_than_max_size),
        test(more_than_max_waiters_are_refused_at_once),
        test(waiting_ends_at_half_of_the_deadline),
        test(waiting_ends_at_acquire_timeout),
        test(an_acquire_has_the_time_it_is_given),
        test(who_waited_has_the_rest_of_the_deadline),
        test(a_query_that_times_out_is_cancelled_and_its_connection_cleaned),
        test(a_deadline_holds_while_nobody_obeys_the_cancel),
        test(cancel_of_a_waiter_takes_it_out_of_the_line),
        test(cancel_before_it_was_sent_sends_nothing),
        test(cancel_of_a_running_query_is_heard_at_once),
        test(cancel_of_a_finished_query_changes_nothing),
        test(a_thousand_timeouts_at_once_leave_a_working_pool),
        test(wrong_arguments_are_refused_and_do_nothing),
        test(the_numbers_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
