/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/conn_story.h"

/* Statements that are kept prepared on the server, and what becomes of them. */

static int begin(void **state)
{
    (void)state;
    return conn_begin_keeping(170006, 2);
}

/* A libpq without a message that closes statements. */
static int begin_old(void **state)
{
    (void)state;
    return conn_begin_keeping(150015, 2);
}

/* Runs it once, from its beginning to its end. */
static void run(struct asked *asked)
{
    asked->done = asked->sent = 0;
    asked->code = (evpq_code)-99;
    conn_run(asked);
    if (asked->done == 0) {
        fake_answers(pg);
        fake_settle();
    }
}

static void run_ok(struct asked *asked)
{
    run(asked);
    assert_int_equal(asked->done, 1);
    assert_int_equal(asked->sent, 1);
    assert_int_equal(asked->code, EVPQ_OK);
}

static void run_error(struct asked *asked, const char *sqlstate)
{
    asked->done = asked->sent = 0;
    conn_run(asked);
    fake_says_error(pg, "ERROR", sqlstate, "it failed");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
}

static void it_is_prepared_at_its_second_use(void **state)
{
    (void)state;
    run_ok(&a);
    assert_int_equal(fake_pg_prepared(pg), 0);
    run_ok(&a);
    assert_int_equal(fake_pg_prepared(pg), 1);
    assert_true(fake_pg_executed_prepared(pg));
    run_ok(&a);
    assert_int_equal(fake_pg_prepared(pg), 1);
    assert_true(fake_pg_executed_prepared(pg));
    assert_int_equal(fake_pg_received(pg), 3);
    assert_true(conn_is_idle());
}

static void it_is_prepared_when_it_says_so(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    b.request.prepare = EVPQ_OFF;
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
    for (int i = 0; i < 3; i++)
        run_ok(&b);
    assert_false(fake_pg_executed_prepared(pg));
    assert_int_equal(fake_pg_prepared(pg), 1);
}

static void prepare(struct asked *asked)
{
    asked->request.prepare = EVPQ_ON;
    run_ok(asked);
    assert_true(fake_pg_executed_prepared(pg));
}

static void the_oldest_is_closed_on_the_server(void **state)
{
    (void)state;
    prepare(&a);
    prepare(&b);
    prepare(&c);
    assert_int_equal(fake_pg_prepared(pg), 2);
    prepare(&a);
    assert_int_equal(fake_pg_prepared(pg), 2);
    assert_int_equal(fake_pg_received(pg), 4);
}

static void before_17_it_is_deallocated_by_a_statement(void **state)
{
    (void)state;
    prepare(&a);
    prepare(&b);
    prepare(&c); /* evicts A */
    assert_int_equal(fake_pg_prepared(pg), 3);
    b.done = b.sent = 0;
    conn_run(&b);
    assert_int_equal(fake_pg_received(pg), 5);
    assert_int_equal(strncmp(fake_pg_sql(pg, 3), "DEALLOCATE evpq_", 16), 0);
    assert_string_equal(fake_pg_sql(pg, 4), "B");
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.done, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void a_deallocation_that_fails_is_nobodys_error(void **state)
{
    (void)state;
    prepare(&a);
    prepare(&b);
    prepare(&c);
    b.done = b.sent = 0;
    conn_run(&b);
    fake_says_error(pg, "ERROR", "26000", "prepared statement does not exist");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

static void before_17_nothing_is_deallocated_in_a_transaction(void **state)
{
    (void)state;
    prepare(&a);
    prepare(&b);
    prepare(&c);
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    b.done = b.sent = 0;
    conn_run(&b);
    assert_int_equal(fake_pg_received(pg), 4);
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    /* What waits for its end is not prepared again before it. */
    a.done = a.sent = 0;
    conn_run(&a);
    assert_false(fake_pg_executed_prepared(pg));
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_prepare_that_is_refused_leaves_nothing(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    fake_pg_refuse_prepare(pg, "42601");
    run(&a);
    assert_int_equal(a.done, 1);
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.sqlstate, "42601");
    assert_int_equal(fake_pg_prepared(pg), 0);
    fake_pg_refuse_prepare(pg, NULL);
    prepare(&a);
    assert_int_equal(fake_pg_prepared(pg), 1);
}

static void an_error_of_the_statement_leaves_it_prepared(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    run_error(&a, "22012");
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(fake_pg_prepared(pg), 1);
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
    assert_int_equal(fake_pg_prepared(pg), 1);
}

static void what_the_server_has_lost_runs_again_unseen(void **state)
{
    (void)state;
    prepare(&a);
    prepare(&b);
    fake_pg_forget_prepared(pg);
    run_ok(&a);
    assert_false(fake_pg_executed_prepared(pg));
    assert_string_equal(fake_pg_sql(pg, 2), "A");
    assert_true(conn_is_idle());
    /* The others were lost with it; there is no second surprise. */
    run_ok(&b);
    assert_int_equal(fake_pg_received(pg), 4);
    assert_true(fake_pg_executed_prepared(pg));
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
}

static void what_the_server_has_before_it_was_asked_runs_unseen(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    fake_pg_refuse_prepare(pg, "42P05");
    run_ok(&a);
    assert_false(fake_pg_executed_prepared(pg));
    assert_true(conn_is_idle());
}

static void a_stale_plan_runs_again_unseen(void **state)
{
    (void)state;
    prepare(&a);
    a.done = a.sent = 0;
    conn_run(&a);
    fake_says_error(pg, "ERROR", "0A000", "cached plan must not change result type");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.done, 0);
    assert_false(fake_pg_executed_prepared(pg));
    /* Its old statement is closed on the server. */
    assert_int_equal(fake_pg_prepared(pg), 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(a.sent, 1);
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
}

static void it_runs_again_once(void **state)
{
    (void)state;
    prepare(&a);
    a.done = a.sent = 0;
    conn_run(&a);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(a.done, 0);
        fake_says_error(pg, "ERROR", "0A000", "cached plan must not change result type");
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_settle();
    }
    assert_int_equal(a.done, 1);
    assert_string_equal(a.sqlstate, "0A000");
}

static void another_unsupported_feature_is_the_statements_error(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    run_error(&a, "0A000"); /* with its Prepare just before it, no plan can be stale */
    assert_int_equal(a.done, 1);
    assert_string_equal(a.sqlstate, "0A000");
    assert_int_equal(fake_pg_received(pg), 1);
}

static void the_users_own_missing_statement_is_the_statements_error(void **state)
{
    (void)state;
    prepare(&a);
    run_error(&a, "26000"); /* EXECUTE of another name */
    assert_int_equal(a.done, 1);
    assert_string_equal(a.sqlstate, "26000");
    assert_int_equal(fake_pg_prepared(pg), 1);
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
}

static void in_a_transaction_it_is_the_transactions_error(void **state)
{
    (void)state;
    prepare(&a);
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    fake_pg_forget_prepared(pg);
    a.done = a.sent = 0;
    conn_run(&a);
    assert_int_equal(a.done, 1);
    assert_string_equal(a.sqlstate, "26000");
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    fake_pg_transaction(pg, PQTRANS_IDLE);
    run_ok(&a);
}

/* With one that is lost all are taken for lost: of those that were not the server says so. */
static void what_was_taken_for_lost_is_used_again(void **state)
{
    (void)state;
    prepare(&a);
    fake_pg_forget_prepared(pg);
    prepare(&b);
    fake_pg_transaction(pg, PQTRANS_INTRANS);
    run(&a);
    assert_string_equal(a.sqlstate, "26000");
    fake_pg_transaction(pg, PQTRANS_INTRANS); /* the next one */
    run(&b);
    assert_string_equal(b.sqlstate, "42P05");
    assert_int_equal(b.fate, EVPQ_ROLLED_BACK);
    fake_pg_transaction(pg, PQTRANS_IDLE);
    run_ok(&b);
    assert_true(fake_pg_executed_prepared(pg));
    assert_int_equal(fake_pg_prepared(pg), 1);
}

static void discard_all_is_noticed(void **state)
{
    static const char *const tags[] = {"DISCARD ALL", "DEALLOCATE ALL"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        prepare(&a);
        c.done = c.sent = 0;
        conn_run(&c);
        fake_pg_forget_prepared(pg);
        fake_says_tag(pg, tags[i]);
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_settle();
        int received = fake_pg_received(pg);
        run_ok(&a);
        assert_int_equal(fake_pg_received(pg), received + 1);
        assert_true(fake_pg_executed_prepared(pg));
    }
}

static void an_abandoned_one_is_known_by_what_the_server_said(void **state)
{
    (void)state;
    /* Cancelled behind its Prepare, and in it. */
    for (int in_it = 0; in_it < 2; in_it++) {
        a.request.prepare = EVPQ_ON;
        a.done = a.sent = 0;
        fake_pg_refuse_prepare(pg, in_it ? "57014" : NULL);
        conn_run(&a);
        if (!in_it) {
            assert_false(evpq__conn_abandon(conn, &a.request));
            fake_says_error(pg, "ERROR", "57014", "canceled");
            fake_says_sync(pg, PQTRANS_IDLE);
            fake_settle();
            cancel_over();
        }
        assert_int_equal(a.done, 1);
        fake_pg_refuse_prepare(pg, NULL);
        assert_int_equal(fake_pg_prepared(pg), !in_it);
        run_ok(&a);
        assert_true(fake_pg_executed_prepared(pg));
        assert_int_equal(fake_pg_prepared(pg), 1);
        run_ok(&b);
        conn_run(&c);
        fake_pg_forget_prepared(pg);
        fake_says_tag(pg, "DISCARD ALL");
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_settle();
        c.done = 0;
    }
}

static void one_that_is_abandoned_is_not_run_again(void **state)
{
    (void)state;
    prepare(&a);
    a.done = a.sent = 0;
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    fake_says_error(pg, "ERROR", "0A000", "cached plan must not change result type");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.done, 1);
    cancel_over();
    assert_true(conn_is_idle());
}

static void one_that_waits_to_run_again_can_be_withdrawn(void **state)
{
    (void)state;
    prepare(&a);
    a.done = a.sent = 0;
    conn_run(&a);
    fake_pg_block(pg, true);
    fake_says_error(pg, "ERROR", "0A000", "cached plan must not change result type");
    fake_says_sync(pg, PQTRANS_IDLE);
    conn_submit(&b);
    fake_settle();
    assert_int_equal(a.done, 0);
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
}

static void at_depth_nobody_relies_on_a_prepare_under_way(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    b.request.statement = a.request.statement;
    a.request.prepare = b.request.prepare = EVPQ_ON;
    fake_pg_refuse_prepare(pg, "42601");
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_string_equal(a.sqlstate, "42601");
    assert_int_equal(b.done, 0);
    assert_false(fake_pg_executed_prepared(pg));
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

static void at_depth_the_evicted_may_still_run(void **state)
{
    (void)state;
    conn_rules.depth = 3;
    prepare(&a);
    prepare(&b);
    a.done = a.sent = b.done = b.sent = 0;
    c.request.prepare = EVPQ_ON;
    conn_submit(&a);
    conn_submit(&b);
    conn_submit(&c); /* evicts A, which is in flight */
    fake_server(fake_server_simple);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 5);
    assert_int_equal(fake_pg_prepared(pg), 2);
    assert_true(fake_pg_executed_prepared(pg));
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(c.code, EVPQ_OK);
}

static void the_servers_limit_goes_between(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    a.request.server_timeout = true;
    a.request.deadline_us = fake_now_us() + 1000000;
    run_ok(&a);
    assert_string_equal(fake_pg_prelude(pg), "SELECT set_config('statement_timeout',$1,true)");
    assert_true(fake_pg_executed_prepared(pg));
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
    assert_true(conn_is_idle());
}

static void a_reset_empties_it(void **state)
{
    (void)state;
    conn_rules.reset = true;
    prepare(&a);
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "DISCARD ALL");
    fake_pg_forget_prepared(pg);
    fake_says_tag(pg, "DISCARD ALL");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
    run_ok(&a);
    assert_true(fake_pg_executed_prepared(pg));
    assert_int_equal(fake_pg_received(pg), 4);
}

static void without_memory_it_is_not_prepared(void **state)
{
    (void)state;
    a.request.prepare = EVPQ_ON;
    a.done = 0;
    conn_submit(&a);
    fake_mem_fail_at(1);
    fake_settle();
    assert_true(fake_mem_has_failed());
    fake_mem_fail_at(0);
    assert_int_equal(fake_pg_prepared(pg), 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    prepare(&a);
}

#define kept(name)     cmocka_unit_test_setup_teardown(name, begin, conn_end)
#define kept_old(name) cmocka_unit_test_setup_teardown(name, begin_old, conn_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        kept(it_is_prepared_at_its_second_use),
        kept(it_is_prepared_when_it_says_so),
        kept(the_oldest_is_closed_on_the_server),
        kept_old(before_17_it_is_deallocated_by_a_statement),
        kept_old(a_deallocation_that_fails_is_nobodys_error),
        kept_old(before_17_nothing_is_deallocated_in_a_transaction),
        kept(a_prepare_that_is_refused_leaves_nothing),
        kept(an_error_of_the_statement_leaves_it_prepared),
        kept(what_the_server_has_lost_runs_again_unseen),
        kept(what_the_server_has_before_it_was_asked_runs_unseen),
        kept(a_stale_plan_runs_again_unseen),
        kept(it_runs_again_once),
        kept(another_unsupported_feature_is_the_statements_error),
        kept(the_users_own_missing_statement_is_the_statements_error),
        kept(in_a_transaction_it_is_the_transactions_error),
        kept(what_was_taken_for_lost_is_used_again),
        kept(discard_all_is_noticed),
        kept(an_abandoned_one_is_known_by_what_the_server_said),
        kept(one_that_is_abandoned_is_not_run_again),
        kept(one_that_waits_to_run_again_can_be_withdrawn),
        kept(at_depth_nobody_relies_on_a_prepare_under_way),
        kept(at_depth_the_evicted_may_still_run),
        kept(the_servers_limit_goes_between),
        kept(a_reset_empties_it),
        kept(without_memory_it_is_not_prepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
