/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/pool_story.h"

/* The end of a pool, from everywhere and in every state; and what may be called inside callbacks.
 */

static struct call a, b, c;

static int begin(void **state)
{
    a = b = c = (struct call){0};
    return story_begin(state);
}

static void finish(void)
{
    assert_int_equal(story_close(EVPQ_CLOSE_FINISH, 0), EVPQ_OK);
}

static void cancel(void)
{
    assert_int_equal(story_close(EVPQ_CLOSE_CANCEL, 0), EVPQ_OK);
}

/* ---- finish ---- */

static void an_unused_pool_closes_from_the_loop(void **state)
{
    (void)state;
    story_open_ok(NULL);
    finish();
    assert_int_equal(pool_closed_calls, 0);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void idle_connections_are_closed(void **state)
{
    (void)state;
    story_open_with_idle(3, *EVPQ_POOL_OPTIONS());
    finish();
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
    assert_int_equal(fake_pg_count(), 0);
}

static void a_closing_pool_takes_nothing_new(void **state)
{
    (void)state;
    story_open_ok(NULL);
    evpq_pool *closing = pool;
    finish();
    pool = closing;
    assert_int_equal(story_ask(&a, "SELECT 1", 0), EVPQ_ECLOSED);
    assert_int_equal(story_acquire(&a, 0), EVPQ_ECLOSED);
    assert_int_equal(story_close(EVPQ_CLOSE_CANCEL, 0), EVPQ_ECLOSED);
    pool = NULL;
    fake_settle();
}

static void what_runs_may_finish(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_run(&a, "HANG");
    finish();
    fake_advance(1000);
    assert_int_equal(pool_closed_calls, 0);
    fake_answers(fake_pg(0));
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(pool_closed_calls, 1);
}

static void who_waits_may_finish_even_when_a_dial_is_needed(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    story_ask(&a, "SELECT 1", 0);
    story_ask(&b, "SELECT 1", 0);
    fake_settle();
    fake_dial_fails(EVPQ_ECONNECT, NULL, "connection refused", false);
    finish();
    fake_settle();
    fake_dial_all_succeed();
    fake_advance(1000);
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(pool_closed_calls, 1);
}

static void dials_that_nobody_waits_for_are_ended(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 1));
    fake_settle();
    assert_int_equal(fake_dials_open(), 1);
    finish();
    fake_settle();
    assert_int_equal(fake_dials_open(), 0);
    assert_int_equal(pool_closed_calls, 1);
}

static void a_dial_that_ends_as_the_pool_does_is_closed(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 1));
    fake_settle();
    fake_dial_succeeds(); /* on its way home */
    cancel();
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
    assert_int_equal(fake_pg_count(), 0);
}

static void leases_are_waited_for(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    finish();
    fake_settle();
    story_lease_ask(&b, a.lease, "SELECT 1", 0);
    fake_advance(10000);
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(pool_closed_calls, 0);
    story_release(&a);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void a_closing_pool_refills_nothing(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 2));
    story_acquire(&a, 0);
    fake_settle();
    int dials = fake_dials();
    finish();
    fake_loses(fake_pg(1), true, "gone\n");
    fake_settle();
    assert_int_equal(fake_dials(), dials);
    story_release(&a);
}

static void at_the_bound_the_rest_is_cancelled(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    story_acquire(&a, 0);
    fake_settle();
    story_run(&b, "HANG");
    story_ask(&c, "SELECT 1", 0);
    assert_int_equal(story_close(EVPQ_CLOSE_FINISH, 100), EVPQ_OK);
    fake_advance(99);
    assert_int_equal(b.calls + c.calls, 0);
    fake_advance(1);
    assert_int_equal(b.code, EVPQ_ECLOSED);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
    assert_int_equal(c.code, EVPQ_ECLOSED);
    assert_int_equal(c.fate, EVPQ_NOT_SENT);
    assert_int_equal(pool_closed_calls, 1);
    story_release(&a);
}

static void the_default_bound_is_query_timeout(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.query_timeout_ms = 700));
    story_acquire(&a, 0);
    fake_settle();
    finish();
    fake_advance(699);
    assert_int_equal(pool_closed_calls, 0);
    fake_advance(1);
    assert_int_equal(pool_closed_calls, 1);
    story_release(&a);
}

static void never_is_no_bound(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    assert_int_equal(story_close(EVPQ_CLOSE_FINISH, EVPQ_NEVER), EVPQ_OK);
    fake_advance(100000000);
    assert_int_equal(pool_closed_calls, 0);
    story_release(&a);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void a_server_that_hangs_holds_the_end_for_cancel_timeout_only(void **state)
{
    (void)state;
    fake_cancels_obeyed(false);
    story_open_ok(EVPQ_POOL_OPTIONS(.cancel_timeout_ms = 300));
    story_run(&a, "HANG");
    cancel();
    fake_advance(299);
    assert_int_equal(a.code, EVPQ_ECLOSED);
    assert_int_equal(pool_closed_calls, 0);
    fake_advance(1);
    assert_int_equal(pool_closed_calls, 1);
}

static void the_bound_may_pass_while_the_helper_ends(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS());
    fake_helper_hold(true);
    assert_int_equal(story_close(EVPQ_CLOSE_FINISH, 100), EVPQ_OK);
    fake_advance(200);
    assert_int_equal(pool_closed_calls, 0);
    fake_helper_hold(false);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void the_bound_may_pass_while_dials_are_ended(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 2));
    fake_settle();
    assert_int_equal(story_close(EVPQ_CLOSE_FINISH, 1), EVPQ_OK);
    fake_busy(10);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

/* ---- cancel ---- */

static void everything_is_cancelled_in_every_state(void **state)
{
    (void)state;
    struct call *w = story_calls;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 3));
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&w[0], a.lease, "HANG", 0);
    story_lease_ask(&w[1], a.lease, "SELECT 1", 0);
    story_run(&b, "HANG");
    story_run(&w[4], "SELECT 1"); /* an idle one */
    story_acquire(&c, 0);         /* granted, not told */
    story_ask(&w[2], "SELECT 1", 0);
    story_acquire(&w[3], 0);
    cancel();
    assert_int_equal(a.calls + b.calls + c.calls, 1);
    fake_settle();
    assert_int_equal(w[0].code, EVPQ_ECLOSED);
    assert_int_equal(w[0].fate, EVPQ_UNKNOWN);
    assert_int_equal(w[1].code, EVPQ_ECLOSED);
    assert_int_equal(w[1].fate, EVPQ_NOT_SENT);
    assert_int_equal(b.code, EVPQ_ECLOSED);
    assert_int_equal(c.code, EVPQ_ECLOSED);
    assert_int_equal(w[2].code, EVPQ_ECLOSED);
    assert_int_equal(w[3].code, EVPQ_ECLOSED);
    assert_int_equal(pool_closed_calls, 1);
    story_release(&a);
}

static void cancel_while_dialing(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(NULL);
    story_ask(&a, "SELECT 1", 0);
    fake_settle();
    cancel();
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECLOSED);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    assert_int_equal(pool_closed_calls, 1);
}

static void cancel_while_cleaning(void **state)
{
    (void)state;
    fake_cancels_obeyed(false);
    story_open_ok(NULL);
    story_run(&a, "HANG");
    evpq_op_cancel(a.op);
    fake_settle();
    cancel();
    fake_settle();
    assert_int_equal(pool_closed_calls, 0);
    fake_says_error(fake_pg(0), "ERROR", "57014", "canceling");
    fake_says_sync(fake_pg(0), PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(pool_closed_calls, 0);
    fake_cancel_over();
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void cancel_in_an_outage(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 2));
    story_ask(&a, "SELECT 1", 0);
    fake_advance(5000);
    cancel();
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECLOSED);
    assert_int_equal(pool_closed_calls, 1);
}

static void an_operation_can_be_cancelled_after_close(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_run(&a, "HANG");
    finish();
    fake_settle();
    evpq_op_cancel(a.op);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECANCELED);
    assert_int_equal(pool_closed_calls, 1);
}

/* ---- leases ---- */

static void a_lease_may_outlive_its_pool(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    cancel();
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
    assert_int_equal(fake_pg_count(), 0);
    assert_int_equal(story_lease_ask(&b, a.lease, "SELECT 1", 0), EVPQ_ECLOSED);
    story_release(&a);
}

static void a_lease_whose_connection_is_lost_before_the_end_may_outlive_it_too(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    assert_int_equal(story_close(EVPQ_CLOSE_FINISH, 100), EVPQ_OK);
    fake_advance(99);
    assert_int_equal(pool_closed_calls, 0);
    fake_advance(1);
    assert_int_equal(pool_closed_calls, 1);
    story_release(&a);
}

static void statements_of_a_lease_run_in_order(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&story_calls[0], a.lease, "BEGIN", 0);
    story_lease_ask(&story_calls[1], a.lease, "SELECT 1", 0);
    story_lease_ask(&story_calls[2], a.lease, "COMMIT", 0);
    fake_settle();
    for (int i = 1; i < 3; i++)
        assert_true(story_calls[i - 1].order < story_calls[i].order);
    assert_string_equal(fake_pg_sql(fake_pg(0), 1), "SELECT 1");
    story_release(&a);
    assert_int_equal(story_stats().idle, 1); /* nothing to clean */
}

static void a_released_transaction_is_rolled_back_before_anybody_else(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&b, a.lease, "BEGIN", 0);
    story_ask(&c, "SELECT 1", 0);
    fake_settle();
    story_release(&a);
    assert_int_equal(story_stats().cleaning, 1);
    fake_settle();
    assert_string_equal(fake_pg_sql(fake_pg(0), 1), "ROLLBACK");
    assert_int_equal(c.code, EVPQ_OK);
}

static void what_a_released_lease_has_not_finished_is_cancelled(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&b, a.lease, "HANG", 0);
    story_lease_ask(&c, a.lease, "SELECT 1", 0);
    fake_settle();
    story_release(&a);
    fake_settle();
    assert_int_equal(b.code, EVPQ_ECANCELED);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
    assert_int_equal(c.code, EVPQ_ECANCELED);
    assert_int_equal(c.fate, EVPQ_NOT_SENT);
    assert_int_equal(fake_cancels(), 1);
    assert_int_equal(story_stats().idle, 1);
}

static void a_lost_lease_fails_what_waits_and_what_comes(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&b, a.lease, "DIE", 0);
    story_lease_ask(&c, a.lease, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
    assert_int_equal(c.code, EVPQ_EDISCONNECTED);
    assert_int_equal(c.fate, EVPQ_NOT_SENT);
    assert_int_equal(story_lease_ask(&c, a.lease, "SELECT 1", 0), EVPQ_EDISCONNECTED);
    assert_int_equal(story_stats().total, 0);
    story_release(&a);
}

static void a_statement_of_a_lease_that_times_out_leaves_the_lease(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    story_lease_ask(&b, a.lease, "HANG", 100);
    story_lease_ask(&c, a.lease, "SELECT 1", 0);
    fake_advance(100);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
    assert_int_equal(c.code, EVPQ_OK);
    assert_int_equal(story_stats().busy, 1);
    story_release(&a);
    assert_int_equal(story_stats().idle, 1);
}

static void a_thousand_statements_may_wait_in_a_lease(void **state)
{
    (void)state;
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    for (int i = 0; i < 1000; i++)
        assert_int_equal(story_lease_ask(&story_calls[i], a.lease, "HANG", 0), EVPQ_OK);
    assert_int_equal(story_lease_ask(&b, a.lease, "HANG", 0), EVPQ_EOVERLOADED);
    story_release(&a);
    fake_settle();
    for (int i = 0; i < 1000; i++)
        assert_int_equal(story_calls[i].code, EVPQ_ECANCELED);
}

static void any_number_of_statements_may_follow_each_other(void **state)
{
    (void)state;
    fake_server(NULL); /* more than the fake one remembers */
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    for (int i = 0; i < 1100; i++) {
        assert_int_equal(story_lease_ask(&b, a.lease, "SELECT 1", 0), EVPQ_OK);
        evpq_op_cancel(b.op);
        fake_settle();
    }
    story_release(&a);
}

static void a_lease_lost_before_anybody_was_told_is_another_one(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(NULL);
    story_acquire(&a, 0);
    fake_settle();
    fake_dial_succeeds();
    fake_turn(); /* it is on its way */
    while (fake_pg_count() == 1 && a.calls == 0) {
        fake_loses(fake_pg(0), true, "gone\n");
        fake_turn();
    }
    fake_settle();
    assert_int_equal(a.calls, 0);
    assert_int_equal(story_stats().reruns, 1);
    fake_dial_all_succeed();
    fake_advance(300);
    assert_int_equal(a.code, EVPQ_OK);
    assert_non_null(a.lease);
    story_lease_ask(&b, a.lease, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    story_release(&a);
    /* But not when the pool closes meanwhile. */
    story_acquire(&c, 0);
    assert_int_equal(story_stats().busy, 1);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    fake_settle();
    assert_int_equal(c.code, EVPQ_ECLOSED);
}

/* ---- inside callbacks ---- */

static void close_inside_cancel(struct call *call)
{
    (void)call;
    if (pool)
        assert_int_equal(story_close(EVPQ_CLOSE_CANCEL, 0), EVPQ_OK);
}

static void close_inside_finish(struct call *call)
{
    (void)call;
    if (pool)
        assert_int_equal(story_close(EVPQ_CLOSE_FINISH, 0), EVPQ_OK);
}

static void close_in_each_callback(void (*close)(struct call *), const char *sql, bool acquire)
{
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    a.inside = close;
    if (acquire)
        story_acquire(&a, 0);
    else
        story_ask(&a, sql, 100);
    story_ask(&b, "HANG", 0);
    story_acquire(&c, 0);
    fake_advance(100000);
    assert_int_equal(a.calls + b.calls + c.calls, 3);
    assert_int_equal(pool_closed_calls, 1);
    if (a.lease)
        story_release(&a);
    if (c.lease)
        story_release(&c);
}

static void close_in_the_callback_of_a_result(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_cancel, "SELECT 1", false);
}

static void finish_in_the_callback_of_a_result(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_finish, "SELECT 1", false);
}

static void close_in_the_callback_of_an_error(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_cancel, "FAIL", false);
}

static void close_in_the_callback_of_a_timeout(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_cancel, "HANG", false);
}

static void close_in_the_callback_of_a_loss(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_cancel, "DIE", false);
}

static void close_in_the_callback_of_an_acquire(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_cancel, NULL, true);
}

static void finish_in_the_callback_of_an_acquire(void **state)
{
    (void)state;
    close_in_each_callback(close_inside_finish, NULL, true);
}

static int left_to_ask;

static void ask_again(struct call *call)
{
    if (--left_to_ask > 0)
        assert_int_equal(story_ask(call, "SELECT 1", 0), EVPQ_OK);
}

static void query_in_the_callback_of_a_query(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    a.inside = ask_again;
    left_to_ask = 100;
    story_run(&a, "SELECT 1");
    assert_int_equal(left_to_ask, 0);
    assert_int_equal(story_stats().acquired, 100);
}

static void release_inside(struct call *call)
{
    (void)call;
    story_release(&a);
}

static void release_in_the_callback_of_its_statement(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 0);
    fake_settle();
    b.inside = release_inside;
    story_lease_ask(&b, a.lease, "BEGIN", 0);
    story_lease_ask(&c, a.lease, "HANG", 0);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(c.code, EVPQ_ECANCELED);
    assert_int_equal(story_stats().idle, 1);
}

static void release_in_the_callback_of_its_acquire(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    a.inside = release_inside;
    story_acquire(&a, 0);
    story_ask(&b, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.code, EVPQ_OK);
}

static void cancel_others(struct call *call)
{
    evpq_op_cancel(call->op);
    evpq_op_cancel(b.op);
    evpq_op_cancel(c.op);
}

static void cancel_in_the_callback_of_another(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    a.inside = cancel_others;
    story_ask(&a, "SELECT 1", 0);
    story_ask(&b, "HANG", 0);
    story_ask(&c, "HANG", 0);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_ECANCELED);
    assert_int_equal(c.code, EVPQ_ECANCELED);
}

static evpq_lease *kept;

static void release_kept(void *user)
{
    ++*(int *)user;
    evpq_lease_release(kept);
}

static void a_lease_is_released_in_the_callback_of_the_close(void **state)
{
    (void)state;
    int calls = 0;
    evpq_pool *other;
    assert_int_equal(evpq_pool_open(&other, fake_ev(), NULL), EVPQ_OK);
    pool = other;
    story_acquire(&a, 0);
    fake_settle();
    kept = a.lease;
    pool = NULL;
    assert_int_equal(evpq_pool_close(other, EVPQ_CLOSE_CANCEL, 0, release_kept, &calls), EVPQ_OK);
    fake_settle();
    assert_int_equal(calls, 1);
}

static void a_close_needs_no_callback(void **state)
{
    (void)state;
    evpq_pool *other;
    assert_int_equal(evpq_pool_open(&other, fake_ev(), EVPQ_POOL_OPTIONS(.min_size = 1)), EVPQ_OK);
    fake_settle();
    assert_int_equal(evpq_pool_close(other, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_OK);
    fake_settle();
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(an_unused_pool_closes_from_the_loop),
        test(idle_connections_are_closed),
        test(a_closing_pool_takes_nothing_new),
        test(what_runs_may_finish),
        test(who_waits_may_finish_even_when_a_dial_is_needed),
        test(dials_that_nobody_waits_for_are_ended),
        test(a_dial_that_ends_as_the_pool_does_is_closed),
        test(leases_are_waited_for),
        test(a_closing_pool_refills_nothing),
        test(at_the_bound_the_rest_is_cancelled),
        test(the_default_bound_is_query_timeout),
        test(never_is_no_bound),
        test(a_server_that_hangs_holds_the_end_for_cancel_timeout_only),
        test(the_bound_may_pass_while_the_helper_ends),
        test(the_bound_may_pass_while_dials_are_ended),
        test(everything_is_cancelled_in_every_state),
        test(cancel_while_dialing),
        test(cancel_while_cleaning),
        test(cancel_in_an_outage),
        test(an_operation_can_be_cancelled_after_close),
        test(a_lease_may_outlive_its_pool),
        test(a_lease_whose_connection_is_lost_before_the_end_may_outlive_it_too),
        test(statements_of_a_lease_run_in_order),
        test(a_released_transaction_is_rolled_back_before_anybody_else),
        test(what_a_released_lease_has_not_finished_is_cancelled),
        test(a_lost_lease_fails_what_waits_and_what_comes),
        test(a_statement_of_a_lease_that_times_out_leaves_the_lease),
        test(a_thousand_statements_may_wait_in_a_lease),
        test(any_number_of_statements_may_follow_each_other),
        test(a_lease_lost_before_anybody_was_told_is_another_one),
        test(close_in_the_callback_of_a_result),
        test(finish_in_the_callback_of_a_result),
        test(close_in_the_callback_of_an_error),
        test(close_in_the_callback_of_a_timeout),
        test(close_in_the_callback_of_a_loss),
        test(close_in_the_callback_of_an_acquire),
        test(finish_in_the_callback_of_an_acquire),
        test(query_in_the_callback_of_a_query),
        test(release_in_the_callback_of_its_statement),
        test(release_in_the_callback_of_its_acquire),
        test(cancel_in_the_callback_of_another),
        test(a_lease_is_released_in_the_callback_of_the_close),
        test(a_close_needs_no_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
