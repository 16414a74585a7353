/* SPDX-License-Identifier: MIT */
/* A connection over its life: what one use leaves to the next, and how the server lets go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "pg/pq.h"
#include "support/conn_story.h"

static void limit_ms(struct asked *asked, int ms)
{
    asked->request.server_timeout = true;
    asked->request.deadline_us = fake_now_us() + ms * 1000;
}

static void answer_in(PGTransactionStatusType transaction)
{
    fake_says_rows(pg, 1);
    fake_says_sync(pg, transaction);
    fake_settle();
}

static void server_cancels(void)
{
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
}

/* ---- from one statement to the next ---- */

static void a_request_that_is_sent_again_has_lost_its_limit(void **state)
{
    (void)state;
    limit_ms(&a, 500);
    conn_run(&a);
    answer_in(PQTRANS_IDLE);
    assert_int_equal(a.request.limit_ms, 450);
    /* Where none is set, a cancel is not mistaken for it. */
    fake_pg_transaction(pg, PQTRANS_INERROR);
    a.done = 0;
    fake_advance(1000);
    limit_ms(&a, 500);
    conn_run(&a);
    assert_int_equal(a.request.limit_ms, 0);
    server_cancels();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_string_equal(a.sqlstate, "57014");
}

static void the_end_of_a_transaction_takes_its_limit_along(void **state)
{
    (void)state;
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    limit_ms(&a, 500);
    conn_run(&a);
    answer_in(PQTRANS_IDLE);
    conn_run(&b);
    answer_in(PQTRANS_INTRANS); /* a BEGIN */
    assert_string_equal(fake_pg_prelude(pg), "SET LOCAL statement_timeout TO 450");
    conn_run(&c);
    assert_string_equal(fake_pg_prelude(pg), "SET LOCAL statement_timeout TO 450");
    answer_in(PQTRANS_IDLE);
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(c.code, EVPQ_OK);
}

static void the_default_is_set_once(void **state)
{
    (void)state;
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    limit_ms(&a, 500);
    conn_run(&a);
    answer_in(PQTRANS_INTRANS);
    conn_run(&b);
    assert_string_equal(fake_pg_prelude(pg), "SET LOCAL statement_timeout TO DEFAULT");
    answer_in(PQTRANS_INTRANS);
    assert_int_equal(b.code, EVPQ_OK);
    const char *last = fake_pg_prelude(pg);
    conn_run(&c);
    assert_ptr_equal(fake_pg_prelude(pg), last);
    answer_in(PQTRANS_IDLE);
    assert_int_equal(c.code, EVPQ_OK);
}

static void a_limit_outside_a_transaction_leaves_nothing(void **state)
{
    (void)state;
    limit_ms(&a, 500);
    conn_run(&a);
    answer_in(PQTRANS_INTRANS); /* a BEGIN behind the limit */
    const char *last = fake_pg_prelude(pg);
    conn_run(&b);
    assert_ptr_equal(fake_pg_prelude(pg), last);
    answer_in(PQTRANS_IDLE);
    assert_int_equal(b.code, EVPQ_OK);
}

static void a_stop_by_the_timeout_says_whose_it_was(void **state)
{
    (void)state;
    limit_ms(&a, 500);
    conn_run(&a);
    fake_advance(450);
    server_cancels();
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_string_equal(
        a.message, "the server stopped the statement at the statement_timeout that evpq gave it");
}

static void a_request_that_is_sent_again_can_be_withdrawn_again(void **state)
{
    (void)state;
    conn_run(&a);
    answer_in(PQTRANS_IDLE);
    a.done = 0;
    conn_submit(&a);
    assert_true(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(a.done, 0);
    assert_int_equal(fake_pg_received(pg), 1);
    assert_true(conn_is_idle());
}

static void a_request_that_is_sent_again_is_not_abandoned_yet(void **state)
{
    (void)state;
    conn_rules.depth = 2;
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    server_cancels();
    cancel_over();
    a.done = 0;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    assert_int_equal(fake_cancels(), 1); /* it would hit the first */
    fake_answers(pg);
    fake_settle();
    assert_int_equal(fake_cancels(), 2);
    fake_answers(pg);
    fake_settle();
    cancel_over();
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_request_that_is_sent_again_is_no_victim_yet(void **state)
{
    (void)state;
    conn_rules.depth = 2;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    fake_answers(pg);
    server_cancels();
    assert_true(b.request.victim);
    cancel_over();
    b.done = 0;
    conn_run(&b);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.code, EVPQ_ESERVER);
    assert_false(b.request.victim);
}

static void the_last_words_of_a_session_are_no_refusal(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.sqlstate, "57P01");
}

static void an_error_that_nobody_asked_for_closes(void **state)
{
    (void)state;
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void all_hear_the_last_words_of_the_server(void **state)
{
    (void)state;
    conn_rules.depth = 2;
    conn_submit(&a);
    conn_submit(&b);
    conn_run(&c);
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_loses(pg, true, "server closed the connection unexpectedly\n");
    fake_settle();
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
    assert_string_equal(b.sqlstate, "57P01");
    assert_int_equal(c.code, EVPQ_EDISCONNECTED);
    assert_int_equal(c.fate, EVPQ_NOT_SENT);
    assert_string_equal(c.sqlstate, "57P01");
}

static void a_sync_that_finds_no_memory_is_not_waited_for(void **state)
{
    (void)state;
    conn_run(&a);
    conn_submit(&b);
    fake_says_rows(pg, 1);
    fake_settle();
    fake_pg_notes_error(pg, "out of memory\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_ENOMEM);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(losses, 1);
}

static void an_answer_proves_the_connection(void **state)
{
    (void)state;
    assert_false(evpq__conn_proven(conn));
    conn_run(&a);
    assert_false(evpq__conn_proven(conn));
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_true(evpq__conn_proven(conn));
}

static void a_socket_is_quiet_when_it_has_nothing_to_say(void **state)
{
    (void)state;
    assert_true(evpq__conn_quiet(conn));
    fake_pg_socket_error(EINTR);
    assert_true(evpq__conn_quiet(conn));
    fake_pg_socket_error(ECONNRESET);
    assert_false(evpq__conn_quiet(conn));
    fake_pg_socket_error(EAGAIN);
    assert_true(evpq__conn_quiet(conn));
    fake_says_notification(pg);
    assert_false(evpq__conn_quiet(conn));
    fake_settle();
    assert_true(evpq__conn_quiet(conn)); /* leaves EAGAIN in errno */
    fake_loses(pg, true, "");
    assert_false(evpq__conn_quiet(conn));
}

/* ---- from one user to the next ---- */

static void each_user_gets_a_reset_of_their_own(void **state)
{
    (void)state;
    struct asked *all[] = {&a, &b, &c};
    conn_rules.reset = true;
    for (int i = 0; i < 3; i++) {
        conn_run(all[i]);
        answer_in(PQTRANS_IDLE);
        assert_false(conn_is_idle());
        fake_settle();
        assert_string_equal(fake_pg_sql(pg, 3 * i + 1), "DISCARD ALL");
        fake_says(pg, PGRES_COMMAND_OK);
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_settle();
        assert_string_equal(fake_pg_sql(pg, 3 * i + 2), EVPQ__PQ_SESSION_SETUP);
        answer_in(PQTRANS_IDLE);
        assert_int_equal(cleans, i + 1);
        assert_true(conn_is_idle());
        assert_true(conn_is_idle());
        fake_settle();
        assert_int_equal(fake_pg_received(pg), 3 * i + 3);
    }
}

static void what_was_clean_before_a_reset_was_asked_for_stays_clean(void **state)
{
    (void)state;
    conn_run(&a);
    answer_in(PQTRANS_IDLE);
    assert_true(conn_is_idle());
    conn_rules.reset = true;
    assert_true(conn_is_idle());
}

static void changed_settings_are_the_reason(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    conn_run(&a);
    answer_in(PQTRANS_IDLE);
    fake_pg_parameter(pg, "DateStyle", "German");
    assert_false(conn_is_idle());
    fake_settle();
    assert_false(evpq__conn_alive(conn));
    assert_string_equal(evpq__conn_why(conn), "session settings changed");
    assert_int_equal(cleans, 0);
    fake_advance(CANCEL_TIMEOUT_MS);
}

/* ---- cancel requests ---- */

static void only_who_was_meant_is_cancelled_again(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    fake_answers(pg);
    fake_settle();
    cancel_over();
    /* b has not been cancelled: there is nothing to repeat, and no bound for it. */
    assert_int_equal(fake_timers(), 0);
    fake_advance(2 * CANCEL_TIMEOUT_MS);
    assert_int_equal(fake_cancels(), 1);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void the_pause_is_short_again_for_the_next_one(void **state)
{
    (void)state;
    conn_rules.depth = 2;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &a.request));
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    for (uint32_t pause = 50; pause <= 200; pause *= 2) {
        cancel_over();
        fake_advance(pause);
    }
    assert_int_equal(fake_cancels(), 4);
    server_cancels();
    cancel_over();
    assert_int_equal(fake_cancels(), 5); /* for b, at once */
    cancel_over();
    fake_advance(49);
    assert_int_equal(fake_cancels(), 5);
    fake_advance(1);
    assert_int_equal(fake_cancels(), 6);
    server_cancels();
    cancel_over();
    assert_true(conn_is_idle());
}

/* ---- the server lets go ---- */

static void the_server_is_waited_for(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    conn_run(&a);
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(losses, 0);
    assert_int_equal(fake_pg_count(), 1);
    /* It may say what it likes before it goes. */
    fake_answers(pg);
    fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
    fake_settle();
    assert_int_equal(losses, 0);
    assert_int_equal(a.done, 1);
    fake_loses(pg, true, "");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_server_that_does_not_let_go_is_hung_up_on(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    fake_advance(500);
    evpq__conn_close(conn);
    fake_settle();
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(losses, 0);
    fake_advance(1);
    assert_int_equal(losses, 1);
    assert_int_equal(fake_timers(), 0);
}

static void the_bound_of_draining_is_followed_by_that_of_closing(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    cancel_over();
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(a.done, 0);
    fake_advance(1);
    assert_int_equal(a.done, 1);
    assert_string_equal(evpq__conn_why(conn), "not clean in time");
    while (cancel_under_way())
        cancel_over();
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(losses, 0);
    fake_advance(1);
    assert_int_equal(losses, 1);
}

static void a_server_that_is_gone_lets_go(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    evpq__conn_close(conn);
    fake_settle();
    int fd = PQsocket(pg);
    static const int errors[] = {EAGAIN, EINTR, ECONNRESET};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(losses, 0);
        fake_pg_socket_error(errors[i]);
        fake_socket_ready(fd, EVPQ__READ);
        fake_turn();
        if (losses == 0)
            fake_socket_quiet(fd, EVPQ__READ);
    }
    assert_int_equal(losses, 1);
}

static void only_in_plain_text_it_says_terminate(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        if (i)
            conn_begin(state);
        fake_pg_hears_goodbye(true);
        fake_pg_encrypted(i == 1, i == 2);
        fake_pg_block(pg, i == 3);
        conn_run(&a); /* in the last case, a part of it: Terminate cannot follow */
        evpq__conn_close(conn);
        fake_settle();
        assert_int_equal(fake_pg_terminates(), i == 0);
        assert_int_equal(losses, 0);
        fake_advance(CANCEL_TIMEOUT_MS);
        assert_int_equal(losses, 1);
        if (i < 3)
            conn_end(state);
    }
}

static void to_a_broken_connection_nothing_is_said(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        if (closes)
            conn_begin(state);
        fake_pg_hears_goodbye(true);
        fake_loses(pg, closes, "gone\n");
        fake_settle();
        assert_int_equal(losses, 1);
        if (!closes)
            conn_end(state);
    }
}

static void last_words_without_an_end_are_answered_with_a_goodbye(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
    fake_settle();
    assert_true(evpq__conn_broken(conn));
    assert_int_equal(fake_pg_terminates(), 1);
    assert_int_equal(losses, 0);
    fake_loses(pg, true, "");
    fake_settle();
    assert_int_equal(losses, 1);
    assert_int_equal(fake_timers(), 0);
}

static void a_goodbye_that_cannot_be_said_is_none(void **state)
{
    (void)state;
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(losses, 1);
    assert_int_equal(fake_timers(), 0);
}

static void a_second_reason_is_not_kept(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    conn_run(&a);
    evpq__conn_close(conn);
    assert_false(evpq__conn_abandon(conn, &a.request)); /* a part of it has left */
    assert_string_equal(evpq__conn_why(conn), "closed");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_loss_behind_a_close_is_no_other_reason(void **state)
{
    (void)state;
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    evpq__conn_close(conn);
    fake_pg_break(pg);
    fake_settle();
    assert_int_equal(losses, 0); /* the cancel request is under way */
    assert_string_equal(evpq__conn_why(conn), "closed");
    assert_false(evpq__conn_broken(conn));
    cancel_over();
    assert_int_equal(losses, 1);
}

/* libpq may have lost a Sync, and each answer goes to the statement before from then on. */
static void without_memory_in_libpq_no_answer_goes_to_another(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    conn_submit(&a);
    conn_submit(&b);
    conn_run(&c);
    fake_says_rows(pg, 1);
    fake_says_error(pg, NULL, NULL, "out of memory\n");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ENOMEM);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
    assert_int_equal(c.code, EVPQ_EDISCONNECTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        conn_test(a_request_that_is_sent_again_has_lost_its_limit),
        conn_test(the_end_of_a_transaction_takes_its_limit_along),
        conn_test(the_default_is_set_once),
        conn_test(a_limit_outside_a_transaction_leaves_nothing),
        conn_test(a_stop_by_the_timeout_says_whose_it_was),
        conn_test(a_request_that_is_sent_again_can_be_withdrawn_again),
        conn_test(a_request_that_is_sent_again_is_not_abandoned_yet),
        conn_test(a_request_that_is_sent_again_is_no_victim_yet),
        conn_test(the_last_words_of_a_session_are_no_refusal),
        conn_test(an_error_that_nobody_asked_for_closes),
        conn_test(all_hear_the_last_words_of_the_server),
        conn_test(a_sync_that_finds_no_memory_is_not_waited_for),
        conn_test(an_answer_proves_the_connection),
        conn_test(a_socket_is_quiet_when_it_has_nothing_to_say),
        conn_test(each_user_gets_a_reset_of_their_own),
        conn_test(what_was_clean_before_a_reset_was_asked_for_stays_clean),
        conn_test(changed_settings_are_the_reason),
        conn_test(only_who_was_meant_is_cancelled_again),
        conn_test(the_pause_is_short_again_for_the_next_one),
        conn_test(the_server_is_waited_for),
        conn_test(a_server_that_does_not_let_go_is_hung_up_on),
        conn_test(the_bound_of_draining_is_followed_by_that_of_closing),
        conn_test(a_server_that_is_gone_lets_go),
        conn_test(only_in_plain_text_it_says_terminate),
        conn_test(to_a_broken_connection_nothing_is_said),
        conn_test(last_words_without_an_end_are_answered_with_a_goodbye),
        conn_test(a_goodbye_that_cannot_be_said_is_none),
        conn_test(a_second_reason_is_not_kept),
        conn_test(without_memory_in_libpq_no_answer_goes_to_another),
        conn_test(a_loss_behind_a_close_is_no_other_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
