/* SPDX-License-Identifier: MIT */
/* The limits a connection keeps: the server's timeout, bytes, cancel policy, reset, depth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "pg/pq.h"
#include "support/conn_story.h"

/* ---- the server's timeout ---- */

static void limit_ms(struct asked *asked, int ms)
{
    asked->request.server_timeout = true;
    asked->request.deadline_us = fake_now_us() + ms * 1000;
}

static void the_timeout_travels_ahead_of_the_statement(void **state)
{
    (void)state;
    limit_ms(&a, 500);
    conn_run(&a);
    assert_int_equal(fake_pg_received(pg), 1);
    assert_string_equal(fake_pg_prelude(pg), "SELECT set_config('statement_timeout',$1,true)");
    assert_int_equal(a.request.limit_ms, 450); /* a tenth less */
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_true(conn_is_idle());
    limit_ms(&b, 20000);
    conn_run(&b);
    assert_int_equal(b.request.limit_ms, 19900); /* 100 ms less at most */
    fake_answers(pg);
}

static void without_a_deadline_there_is_none(void **state)
{
    (void)state;
    a.request.server_timeout = true;
    a.request.deadline_us = EVPQ__NO_DEADLINE;
    conn_run(&a);
    assert_string_equal(fake_pg_prelude(pg), "");
    fake_answers(pg);
}

static void a_deadline_that_has_passed_leaves_a_millisecond(void **state)
{
    (void)state;
    limit_ms(&a, -5);
    conn_run(&a);
    assert_int_equal(a.request.limit_ms, 1);
    fake_answers(pg);
}

static void in_a_transaction_it_is_set_without_a_query(void **state)
{
    (void)state;
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    limit_ms(&a, 500);
    conn_run(&a);
    assert_string_equal(fake_pg_prelude(pg), "SET LOCAL statement_timeout TO 450");
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    /* The next one wants none: it does not inherit this one's. */
    conn_run(&b);
    assert_string_equal(fake_pg_prelude(pg), "SET LOCAL statement_timeout TO DEFAULT");
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    conn_run(&c);
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
}

static void what_was_set_in_a_transaction_is_forgotten_with_it(void **state)
{
    (void)state;
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    limit_ms(&a, 500);
    conn_run(&a);
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    fake_pg_transaction(pg, PQTRANS_IDLE);
    conn_run(&b);
    assert_string_equal(fake_pg_prelude(pg), "SET LOCAL statement_timeout TO 450");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

static void a_failed_transaction_is_sent_its_end_alone(void **state)
{
    (void)state;
    fake_pg_transaction(pg, PQTRANS_INERROR);
    limit_ms(&a, 500);
    conn_run(&a);
    assert_string_equal(fake_pg_prelude(pg), "");
    fake_answers(pg);
}

static void a_transaction_begins_with_its_begin(void **state)
{
    (void)state;
    a.statement.sql = "BEGIN ISOLATION LEVEL SERIALIZABLE";
    a.statement.kind = EVPQ__BEGINS;
    limit_ms(&a, 500);
    conn_run(&a);
    assert_string_equal(fake_pg_prelude(pg), "");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_stop_by_the_timeout_is_rolled_back(void **state)
{
    (void)state;
    limit_ms(&a, 500);
    conn_run(&a);
    fake_advance(450);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to statement timeout");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.sqlstate, "57014");
    assert_true(conn_is_idle());
}

static void a_stop_before_its_time_is_somebody_elses(void **state)
{
    (void)state;
    limit_ms(&a, 500);
    conn_run(&a);
    fake_advance(449);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_false(a.request.victim);
}

static void a_refusal_to_run_in_a_transaction_says_how(void **state)
{
    (void)state;
    for (int timed = 0; timed < 2; timed++) {
        struct asked *asked = timed ? &a : &b;
        if (timed)
            limit_ms(asked, 500);
        conn_run(asked);
        fake_says_error(pg, "ERROR", "25001", "VACUUM cannot be executed within a pipeline");
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_settle();
        assert_int_equal(asked->code, EVPQ_ESERVER);
        assert_string_equal(asked->sqlstate, "25001");
        assert_int_equal(strstr(asked->message, "server_timeout") != NULL, timed);
    }
}

static void a_refusal_in_a_transaction_of_the_user_stays_as_it_is(void **state)
{
    (void)state;
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    limit_ms(&a, 500);
    conn_run(&a);
    fake_says_error(pg, "ERROR", "25001", "VACUUM cannot run inside a transaction block");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_string_equal(a.message, "VACUUM cannot run inside a transaction block");
    fake_pg_transaction(pg, PQTRANS_IDLE);
}

/* ---- bytes ---- */

static void a_complete_result_over_the_limit_is_too_large(void **state)
{
    (void)state;
    fake_pg_result_bytes(pg, 1001);
    a.request.max_bytes = 1000;
    conn_run(&a);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_true(conn_is_idle());
    b.request.max_bytes = 1001;
    conn_run(&b);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

/* ---- cancel policy ---- */

static void run_and_abandon(void)
{
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
}

static void cancel_and_close_does_both(void **state)
{
    (void)state;
    conn_rules.cancel_policy = EVPQ_CANCEL_AND_CLOSE;
    run_and_abandon();
    assert_int_equal(fake_cancels(), 1);
    assert_false(evpq__conn_alive(conn));
    assert_int_equal(a.done, 1);
    /* The slot is not free before the cancel request is over. */
    assert_int_equal(losses, 0);
    assert_string_equal(evpq__conn_why(conn), "canceled");
    cancel_over();
    assert_int_equal(losses, 1);
}

static void close_only_sends_nothing(void **state)
{
    (void)state;
    conn_rules.cancel_policy = EVPQ_CLOSE_ONLY;
    run_and_abandon();
    assert_int_equal(fake_cancels(), 0);
    assert_int_equal(losses, 1);
}

static void what_was_not_sent_costs_no_connection(void **state)
{
    (void)state;
    conn_rules.cancel_policy = EVPQ_CLOSE_ONLY;
    conn_submit(&a);
    assert_true(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_true(conn_is_idle());
}

static void a_cancel_waits_for_its_turn(void **state)
{
    (void)state;
    cancels_not_before_us = fake_now_us() + 300000;
    run_and_abandon();
    assert_int_equal(fake_cancels(), 0);
    fake_advance(299);
    assert_int_equal(fake_cancels(), 0);
    cancels_not_before_us = 0;
    fake_advance(1);
    assert_int_equal(fake_cancels(), 1);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    cancel_over();
    assert_true(conn_is_idle());
}

static void without_a_turn_the_statement_may_end_by_itself(void **state)
{
    (void)state;
    cancels_not_before_us = fake_now_us() + 10000000;
    run_and_abandon();
    fake_answers(pg);
    fake_settle();
    assert_int_equal(fake_cancels(), 0);
    assert_true(conn_is_idle());
    assert_int_equal(losses, 0);
}

static void without_a_turn_the_bound_is_the_bound(void **state)
{
    (void)state;
    cancels_not_before_us = fake_now_us() + 10000000;
    run_and_abandon();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
}

/* ---- reset ---- */

static void answer_reset(void)
{
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
}

static void a_reset_comes_between_two_users(void **state)
{
    (void)state;
    conn_rules.reset = true;
    conn_run(&a);
    fake_answers(pg);
    fake_settle();
    assert_false(conn_is_idle());
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "DISCARD ALL");
    assert_int_equal(cleans, 0);
    answer_reset();
    assert_string_equal(fake_pg_sql(pg, 2), EVPQ__PQ_SESSION_SETUP);
    assert_int_equal(cleans, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
    /* Nobody has used it since. */
    assert_true(conn_is_idle());
    assert_int_equal(fake_pg_received(pg), 3);
}

static void a_reset_comes_behind_the_rollback(void **state)
{
    (void)state;
    conn_rules.reset = true;
    conn_run(&a);
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_false(conn_is_idle());
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    answer_reset();
    assert_string_equal(fake_pg_sql(pg, 2), "DISCARD ALL");
    answer_reset();
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

static void a_reset_that_fails_closes(void **state)
{
    (void)state;
    conn_rules.reset = true;
    conn_run(&a);
    fake_answers(pg);
    fake_settle();
    assert_false(conn_is_idle());
    fake_settle();
    fake_says_error(pg, "ERROR", "53200", "out of memory");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(cleans, 0);
    assert_int_equal(losses, 1);
}

static void a_reset_has_the_bound_of_draining(void **state)
{
    (void)state;
    conn_rules.reset = true;
    conn_run(&a);
    fake_answers(pg);
    fake_settle();
    assert_false(conn_is_idle());
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
}

static void another_encoding_or_date_style_closes(void **state)
{
    (void)state;
    static const char *const changes[][2] = {{"client_encoding", "SJIS"}, {"DateStyle", "German"}};
    for (int i = 0; i < 2; i++) {
        if (i)
            conn_begin(state);
        fake_pg_parameter(pg, "DateStyle", "ISO, MDY");
        conn_run(&a);
        fake_answers(pg);
        fake_settle();
        assert_true(conn_is_idle());
        fake_pg_parameter(pg, changes[i][0], changes[i][1]);
        assert_false(conn_is_idle());
        fake_settle();
        assert_int_equal(losses, 1);
        if (!i)
            conn_end(state);
    }
}

/* ---- more than one in flight ---- */

static void run_three(void)
{
    conn_rules.depth = 3;
    conn_submit(&a);
    conn_submit(&b);
    conn_submit(&c);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 3);
}

static void a_neighbour_that_the_cancel_hits_had_no_effect(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(fake_cancels(), 1);
    fake_answers(pg); /* it was faster than its cancel */
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(b.fate, EVPQ_ROLLED_BACK);
    assert_true(b.request.victim);
    assert_int_equal(c.code, EVPQ_OK);
    assert_false(c.request.victim);
    cancel_over();
    assert_true(conn_is_idle());
}

static void a_neighbour_that_is_heard_of_after_the_cancel_had_no_effect(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    fake_answers(pg);
    fake_settle();
    cancel_over();
    /* Nothing is abandoned any more, and the signal has been given: to whom, is heard now. */
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_answers(pg);
    fake_settle();
    assert_true(b.request.victim);
    assert_int_equal(c.code, EVPQ_OK);
    assert_true(conn_is_idle());
    /* Who comes later cannot have been hit. */
    b.done = 0;
    conn_run(&b);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to statement timeout");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_false(b.request.victim);
}

static void the_bound_does_not_run_while_another_runs(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_advance(10 * CANCEL_TIMEOUT_MS);
    assert_int_equal(a.done, 0);
    assert_int_equal(losses, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_cancels(), 1);
    fake_answers(pg);
    fake_answers(pg);
    fake_settle();
    cancel_over();
    assert_int_equal(c.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void the_bound_begins_when_company_is_abandoned(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_advance(10 * CANCEL_TIMEOUT_MS);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_true(cancel_under_way());
    fake_answers(pg);
    fake_answers(pg);
    fake_answers(pg);
    fake_settle();
    while (cancel_under_way())
        cancel_over();
    assert_int_equal(c.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void behind_one_that_does_not_end_others_keep_their_time(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    cancel_over();
    fake_advance(10 * CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 0);
    assert_int_equal(b.done + c.done, 0);
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    assert_int_equal(losses, 0);
    while (cancel_under_way())
        cancel_over();
    assert_false(evpq__conn_abandon(conn, &c.request));
    fake_settle();
    while (cancel_under_way())
        cancel_over();
    assert_int_equal(losses, 1);
}

static void past_the_bound_it_is_not_used_again(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    fake_advance(CANCEL_TIMEOUT_MS); /* the cancel request is still on its way somewhere */
    assert_int_equal(losses, 0);
    fake_answers(pg);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(losses, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
    assert_int_equal(losses, 1);
}

static void sending_goes_on_for_the_others(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    fake_pg_block(pg, true);
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(losses, 0);
    fake_pg_block(pg, false);
    fake_settle();
    fake_answers(pg);
    fake_answers(pg);
    fake_settle();
    while (cancel_under_way())
        cancel_over();
    assert_int_equal(b.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void one_that_is_alone_has_no_company(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    b.request.alone = true;
    conn_submit(&a);
    conn_submit(&b);
    conn_submit(&c);
    for (int i = 1; i <= 3; i++) {
        fake_settle();
        assert_int_equal(fake_pg_received(pg), i);
        fake_answers(pg);
    }
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
}

static void a_slow_head_takes_no_company(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    assert_true(evpq__conn_shares(conn, fake_now_us()));
    conn_run(&a);
    conn_run(&b);
    assert_true(evpq__conn_shares(conn, fake_now_us()));
    fake_advance(10);
    assert_false(evpq__conn_shares(conn, fake_now_us()));
    fake_answers(pg);
    fake_settle();
    assert_true(evpq__conn_shares(conn, fake_now_us()));
    assert_false(evpq__conn_abandon(conn, &b.request));
    assert_false(evpq__conn_shares(conn, fake_now_us()));
    fake_settle();
    fake_answers(pg);
    fake_settle();
    cancel_over();
}

static void one_behind_another_is_cancelled_when_its_turn_comes(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    assert_int_equal(fake_cancels(), 0); /* it would hit the first */
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_cancels(), 1);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
    cancel_over();
    assert_true(conn_is_idle());
    assert_int_equal(fake_cancels(), 1);
}

static void two_in_a_row_are_cancelled_one_after_the_other(void **state)
{
    (void)state;
    run_three();
    assert_false(evpq__conn_abandon(conn, &a.request));
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    assert_int_equal(fake_cancels(), 1);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(fake_cancels(), 1); /* the first is still under way */
    cancel_over();
    assert_int_equal(fake_cancels(), 2);
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
    cancel_over();
    assert_true(conn_is_idle());
}

static void a_loss_leaves_those_behind_unknown(void **state)
{
    (void)state;
    run_three();
    fake_answers(pg);
    fake_settle();
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_loses(pg, true, "server closed the connection unexpectedly\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_string_equal(b.sqlstate, "57P01");
    assert_int_equal(c.code, EVPQ_EDISCONNECTED);
    assert_int_equal(c.fate, EVPQ_UNKNOWN);
    assert_int_equal(losses, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        conn_test(the_timeout_travels_ahead_of_the_statement),
        conn_test(without_a_deadline_there_is_none),
        conn_test(a_deadline_that_has_passed_leaves_a_millisecond),
        conn_test(in_a_transaction_it_is_set_without_a_query),
        conn_test(what_was_set_in_a_transaction_is_forgotten_with_it),
        conn_test(a_failed_transaction_is_sent_its_end_alone),
        conn_test(a_transaction_begins_with_its_begin),
        conn_test(a_stop_by_the_timeout_is_rolled_back),
        conn_test(a_stop_before_its_time_is_somebody_elses),
        conn_test(a_refusal_to_run_in_a_transaction_says_how),
        conn_test(a_refusal_in_a_transaction_of_the_user_stays_as_it_is),
        conn_test(a_complete_result_over_the_limit_is_too_large),
        conn_test(cancel_and_close_does_both),
        conn_test(close_only_sends_nothing),
        conn_test(what_was_not_sent_costs_no_connection),
        conn_test(a_cancel_waits_for_its_turn),
        conn_test(without_a_turn_the_statement_may_end_by_itself),
        conn_test(without_a_turn_the_bound_is_the_bound),
        conn_test(a_reset_comes_between_two_users),
        conn_test(a_reset_comes_behind_the_rollback),
        conn_test(a_reset_that_fails_closes),
        conn_test(a_reset_has_the_bound_of_draining),
        conn_test(another_encoding_or_date_style_closes),
        conn_test(a_neighbour_that_the_cancel_hits_had_no_effect),
        conn_test(a_neighbour_that_is_heard_of_after_the_cancel_had_no_effect),
        conn_test(the_bound_does_not_run_while_another_runs),
        conn_test(the_bound_begins_when_company_is_abandoned),
        conn_test(behind_one_that_does_not_end_others_keep_their_time),
        conn_test(past_the_bound_it_is_not_used_again),
        conn_test(sending_goes_on_for_the_others),
        conn_test(one_that_is_alone_has_no_company),
        conn_test(a_slow_head_takes_no_company),
        conn_test(one_behind_another_is_cancelled_when_its_turn_comes),
        conn_test(two_in_a_row_are_cancelled_one_after_the_other),
        conn_test(a_loss_leaves_those_behind_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
