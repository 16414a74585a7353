/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/conn_story.h"

/* ---- answers ---- */

static void a_result_is_handed_over_at_its_sync(void **state)
{
    (void)state;
    conn_run(&a);
    assert_int_equal(a.sent, 1);
    assert_int_equal(fake_pg_received(pg), 1);
    fake_says_rows(pg, 1);
    fake_settle();
    assert_int_equal(a.done, 0);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(a.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void an_error_behind_a_result_is_an_error(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says(pg, PGRES_COMMAND_OK);
    fake_settle();
    fake_says_error(pg, "ERROR", "23505", "duplicate key");
    fake_settle();
    assert_int_equal(a.done, 0);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.sqlstate, "23505");
    assert_true(conn_is_idle());
}

static void an_error_of_the_server_leaves_the_connection_as_it_is(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.message, "division by zero");
    assert_true(conn_is_idle());
    conn_run(&b);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

static void an_empty_statement_has_a_result(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says(pg, PGRES_EMPTY_QUERY);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(a.done, 1);
}

static void a_sync_without_a_result_is_an_error(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
}

static void libpq_without_memory_is_no_memory(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, NULL, NULL, "out of memory for query result\n");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ENOMEM);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_true(conn_is_idle());
}

static void an_answer_that_is_no_protocol_is_a_lost_connection(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, NULL, NULL, "insufficient data in \"D\" message\n");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(losses, 1);
}

static void what_a_pooler_refuses_is_not_libpqs(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, "FATAL", "08P01", "query_wait_timeout");
    fake_loses(pg, true, "server closed the connection unexpectedly\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.sqlstate, "08P01");
}

static void a_result_without_memory_for_it_is_no_memory(void **state)
{
    (void)state;
    conn_run(&a);
    fake_answers(pg);
    fake_mem_fail_at(1);
    fake_settle();
    assert_true(fake_mem_has_failed());
    assert_int_equal(a.code, EVPQ_ENOMEM);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_true(conn_is_idle());
}

static void a_second_result_of_one_statement_closes(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_rows(pg, 1);
    fake_settle();
    fake_says_rows(pg, 1);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(losses, 1);
}

static void copy_closes(void **state)
{
    (void)state;
    static const ExecStatusType kinds[] = {PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH};
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            conn_begin(state);
        conn_run(&a);
        fake_says(pg, kinds[i]);
        fake_settle();
        assert_int_equal(a.code, EVPQ_EINVALID);
        assert_int_equal(losses, 1);
        if (i < 2)
            conn_end(state);
    }
}

static void notifications_are_dropped(void **state)
{
    (void)state;
    fake_says_notification(pg);
    fake_says_notification(pg);
    fake_settle();
    assert_int_equal(fake_pg_notifications(pg), 0);
    assert_true(conn_is_idle());
    conn_run(&a);
    fake_says_notification(pg);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_huge_result_wears_the_connection(void **state)
{
    (void)state;
    conn_run(&a);
    fake_pg_result_bytes(pg, 8 * 1024 * 1024);
    fake_answers(pg);
    fake_settle();
    assert_false(evpq__conn_worn(conn));
    conn_run(&b);
    fake_pg_result_bytes(pg, 8 * 1024 * 1024 + 1);
    fake_answers(pg);
    fake_settle();
    assert_true(evpq__conn_worn(conn));
}

/* ---- order ---- */

static void statements_go_one_at_a_time(void **state)
{
    (void)state;
    conn_submit(&a);
    conn_submit(&b);
    conn_submit(&c);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 1);
    assert_int_equal(b.sent, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(b.done, 0);
    assert_int_equal(fake_pg_received(pg), 2);
    fake_answers(pg);
    fake_settle();
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.done, 1);
    assert_string_equal(fake_pg_sql(pg, 0), "A");
    assert_string_equal(fake_pg_sql(pg, 1), "B");
    assert_string_equal(fake_pg_sql(pg, 2), "C");
}

static void nothing_is_done_before_the_loop_runs(void **state)
{
    (void)state;
    int flushes = fake_pg_flushes(pg);
    conn_submit(&a);
    assert_int_equal(a.sent, 0);
    assert_int_equal(fake_pg_flushes(pg), flushes);
    conn_run(&b);
    fake_answers(pg);
    fake_settle();
    fake_answers(pg);
    fake_settle();
}

static void what_the_socket_does_not_take_waits_for_it(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    conn_run(&a);
    assert_int_equal(fake_pg_received(pg), 0);
    assert_int_equal(fake_socket_watched(PQsocket(pg)), EVPQ__READ | EVPQ__WRITE);
    fake_pg_block(pg, false);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 1);
    assert_int_equal(fake_socket_watched(PQsocket(pg)), EVPQ__READ);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void it_reads_while_it_cannot_write(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    conn_run(&a);
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_string_equal(a.sqlstate, "57P01");
    assert_int_equal(losses, 1);
}

static void what_a_flush_reads_is_taken_too(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    conn_submit(&a);
    fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
    fake_turn();
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(losses, 1);
}

/* ---- loss ---- */

static void the_first_error_of_a_lost_connection_wins(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_says_error(pg, NULL, NULL, "server closed the connection unexpectedly");
    fake_loses(pg, true, "server closed the connection unexpectedly\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.sqlstate, "57P01");
    assert_string_equal(a.message, "terminating connection");
    assert_int_equal(losses, 1);
}

static void a_result_read_together_with_the_loss_is_not_believed(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        if (closes)
            conn_begin(state);
        conn_run(&a);
        fake_says(pg, PGRES_COMMAND_OK);
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_loses(pg, closes, "connection reset by peer\n");
        fake_settle();
        assert_int_equal(a.code, EVPQ_EDISCONNECTED);
        assert_int_equal(a.fate, EVPQ_UNKNOWN);
        assert_string_equal(a.message, "connection reset by peer");
        if (!closes)
            conn_end(state);
    }
}

static void a_result_behind_the_loss_is_not_believed(void **state)
{
    (void)state;
    conn_run(&a);
    fake_loses_later(pg, "connection reset by peer\n");
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
}

static void the_error_behind_the_loss_is_the_reason(void **state)
{
    (void)state;
    conn_run(&a);
    fake_loses_later(pg, "connection reset by peer\n");
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_settle();
    assert_string_equal(a.sqlstate, "57P01");
}

static void a_result_whose_sync_is_lost_is_unknown(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says(pg, PGRES_COMMAND_OK);
    fake_settle();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
}

static void an_error_of_the_server_stays_so_when_its_sync_is_lost(void **state)
{
    (void)state;
    conn_run(&a);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_settle();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
}

static void nulls_for_ever_end_soon(void **state)
{
    (void)state;
    conn_run(&a);
    int gets = fake_pq_gets();
    fake_loses(pg, true, NULL);
    fake_settle();
    assert_true(fake_pq_gets() - gets <= 4);
    assert_string_equal(a.message, "the connection was lost");
}

static void what_was_not_sent_when_it_is_lost_is_safe(void **state)
{
    (void)state;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
}

static void an_idle_connection_notices_its_loss_at_once(void **state)
{
    (void)state;
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_result_while_idle_closes(void **state)
{
    (void)state;
    fake_says_rows(pg, 1);
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_sync_while_idle_closes(void **state)
{
    (void)state;
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(losses, 1);
}

static void last_words_while_idle_close(void **state)
{
    static const char *const words[][2] = {
        {"FATAL", "57P01"}, {"FATAL", "25P03"}, {"PANIC", "XX000"}, {"WARNING", "57P02"}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (i > 0)
            conn_begin(state);
        fake_says_notice(pg, words[i][0], words[i][1], "the end");
        fake_settle();
        assert_int_equal(losses, 1);
        if (i + 1 < sizeof(words) / sizeof(words[0]))
            conn_end(state);
    }
}

static void libpq_that_has_lost_its_place_closes(void **state)
{
    (void)state;
    fake_says_notice(pg, NULL, NULL, "message type 0x44 arrived from server while idle\n");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_warning_is_no_reason_to_close(void **state)
{
    (void)state;
    fake_says_notice(pg, "WARNING", "25P01", "there is no transaction in progress");
    fake_settle();
    assert_true(conn_is_idle());
}

static void a_statement_that_libpq_does_not_take_closes(void **state)
{
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            conn_begin(state);
        if (i == 0)
            fake_pg_fail_send(pg);
        else if (i == 1)
            fake_pg_fail_sync(pg);
        else
            fake_pg_fail_flush(pg);
        conn_run(&a);
        assert_int_equal(a.done, 1);
        assert_int_equal(a.code, EVPQ_EDISCONNECTED);
        assert_int_equal(losses, 1);
        if (i < 2)
            conn_end(state);
    }
}

static void submit_b(void)
{
    conn_submit(&b);
}

static void what_is_submitted_as_it_ends_is_not_sent(void **state)
{
    (void)state;
    conn_run(&a);
    a.inside = submit_b;
    fake_answers(pg);
    fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(losses, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        conn_test(a_result_is_handed_over_at_its_sync),
        conn_test(an_error_behind_a_result_is_an_error),
        conn_test(an_error_of_the_server_leaves_the_connection_as_it_is),
        conn_test(an_empty_statement_has_a_result),
        conn_test(a_sync_without_a_result_is_an_error),
        conn_test(libpq_without_memory_is_no_memory),
        conn_test(an_answer_that_is_no_protocol_is_a_lost_connection),
        conn_test(what_a_pooler_refuses_is_not_libpqs),
        conn_test(a_result_without_memory_for_it_is_no_memory),
        conn_test(a_second_result_of_one_statement_closes),
        conn_test(copy_closes),
        conn_test(notifications_are_dropped),
        conn_test(a_huge_result_wears_the_connection),
        conn_test(statements_go_one_at_a_time),
        conn_test(nothing_is_done_before_the_loop_runs),
        conn_test(what_the_socket_does_not_take_waits_for_it),
        conn_test(it_reads_while_it_cannot_write),
        conn_test(what_a_flush_reads_is_taken_too),
        conn_test(the_first_error_of_a_lost_connection_wins),
        conn_test(a_result_read_together_with_the_loss_is_not_believed),
        conn_test(a_result_behind_the_loss_is_not_believed),
        conn_test(the_error_behind_the_loss_is_the_reason),
        conn_test(a_result_whose_sync_is_lost_is_unknown),
        conn_test(an_error_of_the_server_stays_so_when_its_sync_is_lost),
        conn_test(nulls_for_ever_end_soon),
        conn_test(what_was_not_sent_when_it_is_lost_is_safe),
        conn_test(an_idle_connection_notices_its_loss_at_once),
        conn_test(a_result_while_idle_closes),
        conn_test(a_sync_while_idle_closes),
        conn_test(last_words_while_idle_close),
        conn_test(libpq_that_has_lost_its_place_closes),
        conn_test(a_warning_is_no_reason_to_close),
        conn_test(a_statement_that_libpq_does_not_take_closes),
        conn_test(what_is_submitted_as_it_ends_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
