/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/conn_story.h"

/* How a connection is closed, and how it becomes clean again. */

/* ---- close ---- */

static void close_ends_what_runs_and_what_waits(void **state)
{
    (void)state;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    evpq__conn_close(conn);
    assert_false(evpq__conn_alive(conn));
    assert_int_equal(a.done, 0);
    fake_settle();
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(losses, 1);
}

static void what_is_submitted_while_it_closes_is_not_sent(void **state)
{
    (void)state;
    evpq__conn_close(conn);
    conn_run(&a);
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    assert_int_equal(a.sent, 0);
}

static void close_waits_for_the_cancel_request(void **state)
{
    (void)state;
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_true(cancel_under_way());
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(fake_pg_count(), 0);
    assert_int_equal(losses, 0);
    assert_false(evpq__conn_alive(conn));
    assert_false(evpq__conn_recycle(conn));
    cancel_over();
    assert_int_equal(losses, 1);
}

static void close_before_the_cancel_request_has_left_waits_too(void **state)
{
    (void)state;
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(losses, 0);
    cancel_over();
    assert_int_equal(losses, 1);
}

static void without_memory_what_was_dialed_is_closed(void **state)
{
    (void)state;
    int alive = fake_pq_alive();
    for (int n = 1; n <= 2; n++) {
        PGconn *another = fake_pg_new();
        struct evpq__dialed dialed = {.pg = another, .cancel = evpq__cancel_new(another)};
        fake_mem_fail_at(n);
        assert_null(evpq__conn_new(loop, helper, &dialed, &conn_rules, &conn_class, &conn));
        assert_int_equal(fake_pq_alive(), alive);
    }
}

/* ---- abandoned ---- */

static void what_was_not_sent_is_withdrawn(void **state)
{
    (void)state;
    conn_submit(&a);
    assert_true(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(a.done, 0);
    assert_int_equal(fake_pg_received(pg), 0);
    assert_true(conn_is_idle());
}

static void what_waits_behind_another_is_withdrawn(void **state)
{
    (void)state;
    conn_submit(&a);
    conn_submit(&b);
    conn_submit(&c);
    fake_settle();
    assert_true(evpq__conn_abandon(conn, &b.request));
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_string_equal(fake_pg_sql(pg, 1), "C");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.done, 0);
    assert_int_equal(c.done, 1);
    assert_false(cancel_under_way());
}

static void abandon_running(void)
{
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_true(cancel_under_way());
}

static void server_cancels(void)
{
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
}

static void it_is_clean_only_after_sync_and_then_cancel(void **state)
{
    (void)state;
    abandon_running();
    server_cancels();
    assert_int_equal(a.done, 1);
    assert_int_equal(cleans, 0);
    cancel_over();
    assert_int_equal(cleans, 1);
    assert_int_equal(fake_timers(), 0);
    assert_true(conn_is_idle());
}

static void it_is_clean_only_after_cancel_and_then_sync(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    assert_int_equal(a.done, 0);
    assert_int_equal(cleans, 0);
    server_cancels();
    assert_int_equal(a.done, 1);
    assert_int_equal(cleans, 1);
    assert_true(conn_is_idle());
}

static void a_statement_that_was_faster_than_its_cancel_is_over(void **state)
{
    (void)state;
    abandon_running();
    fake_answers(pg);
    fake_settle();
    cancel_over();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(cleans, 1);
}

static void it_can_be_cancelled_again_and_again(void **state)
{
    (void)state;
    struct asked *all[] = {&a, &b, &c};
    for (int i = 0; i < 3; i++) {
        conn_run(all[i]);
        assert_false(evpq__conn_abandon(conn, &all[i]->request));
        assert_false(evpq__conn_recycle(conn));
        fake_settle();
        server_cancels();
        cancel_over();
        assert_int_equal(cleans, i + 1);
    }
    assert_int_equal(fake_cancels(), 3);
}

static void a_request_that_was_lost_is_repeated_after_growing_pauses(void **state)
{
    (void)state;
    abandon_running();
    for (uint32_t pause = 50; pause <= 400; pause *= 2) {
        int before = fake_cancels();
        cancel_over(); /* the server had not begun the statement: it was for nothing */
        fake_advance(pause - 1);
        assert_int_equal(fake_cancels(), before);
        fake_advance(1);
        assert_int_equal(fake_cancels(), before + 1);
    }
    server_cancels();
    cancel_over();
    assert_int_equal(cleans, 1);
    int cancels = fake_cancels();
    fake_advance(10000);
    assert_int_equal(fake_cancels(), cancels);
    assert_int_equal(losses, 0);
}

static void what_comes_next_is_not_cancelled(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    fake_answers(pg); /* in the pause before the next request */
    fake_settle();
    assert_int_equal(cleans, 1);
    conn_run(&b);
    fake_advance(CANCEL_TIMEOUT_MS * 2);
    assert_int_equal(fake_cancels(), 1);
    assert_int_equal(b.done, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

static void the_rollback_is_not_cancelled(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(fake_cancels(), 1);
    assert_int_equal(losses, 0);
}

static void a_second_draining_does_not_believe_it_was_recycled(void **state)
{
    (void)state;
    abandon_running();
    server_cancels();
    cancel_over();
    assert_int_equal(cleans, 1);
    conn_run(&b); /* by a lease, which goes on after it */
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    cancel_over();
    assert_int_equal(cleans, 1);
    assert_int_equal(fake_pg_received(pg), 2);
    conn_run(&c);
    assert_int_equal(fake_pg_received(pg), 3);
}

/* What ends it comes after so many turns of a cancel request on its way back. */
static void end_at_every_moment(void (*ending)(void), bool blocking)
{
    for (int turns = 0; turns < 8; turns++) {
        conn_begin_with(blocking ? 150015 : 170006);
        abandon_running();
        if (fake_calls() > 0)
            fake_call_return();
        else
            fake_cancel_over();
        for (int i = 0; i < turns; i++)
            fake_turn();
        ending();
        fake_settle();
        if (turns < 7)
            conn_end(NULL);
    }
}

static void lose_it(void)
{
    fake_loses(pg, true, "gone\n");
}

static void close_it(void)
{
    evpq__conn_close(conn);
}

static void loss_at_any_moment_of_a_cancel(void **state)
{
    conn_end(state);
    end_at_every_moment(lose_it, false);
}

static void close_at_any_moment_of_a_cancel(void **state)
{
    conn_end(state);
    end_at_every_moment(close_it, false);
}

static void loss_at_any_moment_of_a_blocking_cancel(void **state)
{
    conn_end(state);
    end_at_every_moment(lose_it, true);
}

static void what_comes_behind_an_abandoned_one_waits_for_the_cancel(void **state)
{
    (void)state;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &a.request));
    conn_submit(&c);
    fake_settle();
    server_cancels();
    assert_int_equal(a.done, 1);
    assert_int_equal(fake_pg_received(pg), 1);
    cancel_over();
    assert_int_equal(fake_pg_received(pg), 2);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
}

static void a_statement_that_does_not_end_is_closed_at_the_limit(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(losses, 0);
    fake_advance(1);
    assert_int_equal(losses, 1);
    assert_int_equal(a.done, 1);
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
}

static void a_cancel_request_that_does_not_end_is_closed_at_the_limit(void **state)
{
    (void)state;
    abandon_running();
    server_cancels();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
}

static void a_silent_server_holds_nothing_beyond_the_limit(void **state)
{
    (void)state;
    abandon_running();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
    assert_int_equal(a.done, 1);
    assert_int_equal(fake_pg_count(), 0);
}

static void a_loss_while_draining_is_the_end(void **state)
{
    (void)state;
    abandon_running();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.done, 1);
    cancel_over();
    assert_int_equal(losses, 1);
    assert_int_equal(cleans, 0);
}

static void half_of_a_statement_cannot_be_cancelled(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(losses, 1);
    assert_int_equal(fake_cancels(), 0);
}

static void a_cancel_without_memory_waits_for_the_statement(void **state)
{
    (void)state;
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    assert_false(evpq__conn_recycle(conn));
    fake_mem_fail_at(1);
    fake_settle();
    assert_int_equal(fake_calls(), 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

/* ---- recycled ---- */

static void an_idle_connection_is_clean_at_once(void **state)
{
    (void)state;
    assert_true(evpq__conn_recycle(conn));
    fake_settle();
    assert_int_equal(cleans, 0);
    assert_int_equal(fake_pg_received(pg), 0);
}

static void leave_transaction_open(void)
{
    conn_run(&a);
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 2);
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    assert_int_equal(cleans, 0);
}

static void an_open_transaction_is_rolled_back(void **state)
{
    (void)state;
    leave_transaction_open();
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(cleans, 1);
    assert_int_equal(fake_timers(), 0);
    assert_true(conn_is_idle());
}

static void a_failed_transaction_is_rolled_back(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

static void a_rollback_that_fails_closes(void **state)
{
    (void)state;
    leave_transaction_open();
    fake_says_error(pg, "ERROR", "XX000", "no");
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_int_equal(losses, 1);
    assert_int_equal(cleans, 0);
}

static void a_rollback_that_changes_nothing_is_bounded(void **state)
{
    (void)state;
    leave_transaction_open();
    for (int i = 0; i < 20 && losses == 0; i++) {
        fake_says(pg, PGRES_COMMAND_OK);
        fake_says_sync(pg, PQTRANS_INTRANS);
        fake_advance(CANCEL_TIMEOUT_MS / 10);
    }
    assert_int_equal(losses, 1);
}

static void a_rollback_without_an_answer_closes_at_the_limit(void **state)
{
    (void)state;
    leave_transaction_open();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
}

static void an_abandoned_statement_in_a_transaction_is_waited_out_and_rolled_back(void **state)
{
    (void)state;
    abandon_running();
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 1); /* the cancel may still be on its way */
    cancel_over();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

static void close_while_it_rolls_back(void **state)
{
    (void)state;
    leave_transaction_open();
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(losses, 1);
    assert_int_equal(cleans, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        conn_test(close_ends_what_runs_and_what_waits),
        conn_test(what_is_submitted_while_it_closes_is_not_sent),
        conn_test(close_waits_for_the_cancel_request),
        conn_test_blocking(close_waits_for_the_cancel_request),
        conn_test(close_before_the_cancel_request_has_left_waits_too),
        conn_test(without_memory_what_was_dialed_is_closed),
        conn_test(what_was_not_sent_is_withdrawn),
        conn_test(what_waits_behind_another_is_withdrawn),
        conn_test(it_is_clean_only_after_sync_and_then_cancel),
        conn_test_blocking(it_is_clean_only_after_sync_and_then_cancel),
        conn_test(it_is_clean_only_after_cancel_and_then_sync),
        conn_test_blocking(it_is_clean_only_after_cancel_and_then_sync),
        conn_test(a_statement_that_was_faster_than_its_cancel_is_over),
        conn_test(it_can_be_cancelled_again_and_again),
        conn_test_blocking(it_can_be_cancelled_again_and_again),
        conn_test(a_request_that_was_lost_is_repeated_after_growing_pauses),
        conn_test(what_comes_next_is_not_cancelled),
        conn_test(the_rollback_is_not_cancelled),
        conn_test(a_second_draining_does_not_believe_it_was_recycled),
        conn_test(loss_at_any_moment_of_a_cancel),
        conn_test(close_at_any_moment_of_a_cancel),
        conn_test(loss_at_any_moment_of_a_blocking_cancel),
        conn_test(what_comes_behind_an_abandoned_one_waits_for_the_cancel),
        conn_test(a_statement_that_does_not_end_is_closed_at_the_limit),
        conn_test(a_cancel_request_that_does_not_end_is_closed_at_the_limit),
        conn_test_blocking(a_cancel_request_that_does_not_end_is_closed_at_the_limit),
        conn_test(a_silent_server_holds_nothing_beyond_the_limit),
        conn_test_blocking(a_silent_server_holds_nothing_beyond_the_limit),
        conn_test(a_loss_while_draining_is_the_end),
        conn_test(half_of_a_statement_cannot_be_cancelled),
        conn_test_blocking(a_cancel_without_memory_waits_for_the_statement),
        conn_test(an_idle_connection_is_clean_at_once),
        conn_test(an_open_transaction_is_rolled_back),
        conn_test(a_failed_transaction_is_rolled_back),
        conn_test(a_rollback_that_fails_closes),
        conn_test(a_rollback_that_changes_nothing_is_bounded),
        conn_test(a_rollback_without_an_answer_closes_at_the_limit),
        conn_test(an_abandoned_statement_in_a_transaction_is_waited_out_and_rolled_back),
        conn_test(close_while_it_rolls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
