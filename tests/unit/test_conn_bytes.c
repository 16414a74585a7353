/* SPDX-License-Identifier: MIT */
/* What comes over the wire is counted: for a statement with max_bytes, and while nobody asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/conn_story.h"

enum { MAX = 1000, IDLE_MAX = 1024 * 1024 };

/* A part of an answer, or a word that nobody asked for. */
static void comes(size_t bytes)
{
    fake_pg_comes(pg, bytes);
    fake_says_notification(pg);
    fake_settle();
}

static void answer_of(size_t bytes)
{
    fake_pg_comes(pg, bytes);
    fake_answers(pg);
    fake_settle();
}

static void bound_all(void)
{
    a.request.max_bytes = b.request.max_bytes = c.request.max_bytes = MAX;
}

/* ---- of a statement ---- */

static void each_statement_is_counted_for_itself(void **state)
{
    (void)state;
    struct asked *all[] = {&a, &b, &c};
    bound_all();
    for (int i = 0; i < 3; i++) {
        conn_run(all[i]);
        answer_of(MAX);
        assert_int_equal(all[i]->code, EVPQ_OK);
        assert_true(conn_is_idle());
    }
}

static void what_came_for_an_unbounded_one_is_not_counted(void **state)
{
    (void)state;
    conn_run(&a);
    answer_of(MAX * 100);
    assert_int_equal(a.code, EVPQ_OK);
    bound_all();
    conn_run(&b);
    answer_of(MAX);
    assert_int_equal(b.code, EVPQ_OK);
    conn_run(&c);
    comes(MAX / 2);
    comes(MAX / 2 + 1);
    assert_int_equal(c.code, EVPQ_ETOOLARGE);
}

static void what_came_while_idle_is_not_counted(void **state)
{
    (void)state;
    bound_all();
    comes(MAX * 100);
    conn_run(&a);
    answer_of(MAX);
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_count_begins_when_the_one_before_is_over(void **state)
{
    (void)state;
    bound_all();
    conn_rules.depth = 2;
    conn_submit(&a);
    conn_submit(&b);
    fake_settle();
    answer_of(MAX);
    assert_int_equal(a.code, EVPQ_OK);
    answer_of(MAX);
    assert_int_equal(b.code, EVPQ_OK);
}

static void one_that_is_sent_meanwhile_begins_no_count(void **state)
{
    (void)state;
    bound_all();
    conn_rules.depth = 2;
    conn_run(&a);
    comes(MAX);
    conn_run(&b);
    comes(1);
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
}

static void too_much_is_cut_off(void **state)
{
    (void)state;
    bound_all();
    conn_run(&a);
    conn_submit(&b);
    comes(MAX);
    assert_int_equal(a.done, 0);
    comes(1);
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.message, "the result is larger than max_result_bytes, 1000");
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    /* The server is told to stop, and the slot is not free before that is over. */
    assert_int_equal(fake_cancels(), 1);
    assert_string_equal(evpq__conn_why(conn), "result too large");
    assert_false(evpq__conn_broken(conn));
    assert_int_equal(losses, 0);
    cancel_over();
    assert_int_equal(losses, 1);
}

static void the_cancel_of_too_much_has_a_bound(void **state)
{
    (void)state;
    fake_pg_hears_goodbye(true);
    bound_all();
    conn_run(&a);
    fake_advance(100);
    comes(MAX + 1);
    assert_int_equal(fake_cancels_open(), 1);
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(fake_cancels_open(), 1);
    assert_int_equal(losses, 0);
    fake_advance(1);
    assert_int_equal(losses, 1);
}

static void too_much_of_an_abandoned_one_closes_within_its_bound(void **state)
{
    (void)state;
    bound_all();
    conn_run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    cancel_over();
    fake_advance(10);
    comes(MAX + 1);
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(fake_cancels(), 2);
    fake_advance(CANCEL_TIMEOUT_MS - 10);
    assert_int_equal(losses, 1);
}

static void too_much_without_a_cancel_left_closes(void **state)
{
    (void)state;
    cancels_not_before_us = fake_now_us() + 300000;
    bound_all();
    conn_run(&a);
    comes(MAX + 1);
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(fake_cancels(), 0);
    assert_int_equal(losses, 1);
    assert_int_equal(fake_timers(), 0);
}

static void too_much_with_close_only_closes(void **state)
{
    (void)state;
    conn_rules.cancel_policy = EVPQ_CLOSE_ONLY;
    bound_all();
    conn_run(&a);
    comes(MAX + 1);
    assert_int_equal(a.code, EVPQ_ETOOLARGE);
    assert_int_equal(fake_cancels(), 0);
    assert_int_equal(losses, 1);
}

static void without_a_bound_anything_may_come(void **state)
{
    (void)state;
    conn_run(&a);
    comes(IDLE_MAX * 10);
    answer_of(IDLE_MAX * 10);
    assert_int_equal(a.code, EVPQ_OK);
    assert_true(conn_is_idle());
}

/* ---- while idle ---- */

static void a_flood_while_idle_closes(void **state)
{
    (void)state;
    comes(100); /* the first is the beginning of the count */
    comes(IDLE_MAX);
    assert_int_equal(losses, 0);
    assert_int_equal(fake_pg_notifications(pg), 0);
    fake_pg_hears_goodbye(true);
    comes(1);
    assert_false(evpq__conn_alive(conn));
    assert_false(evpq__conn_broken(conn));
    assert_string_equal(evpq__conn_why(conn), "flooded while idle");
    fake_loses(pg, true, "");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void whoever_is_used_meanwhile_is_not_flooded(void **state)
{
    (void)state;
    comes(100);
    comes(IDLE_MAX);
    conn_run(&a);
    answer_of(100);
    assert_int_equal(a.code, EVPQ_OK);
    comes(100);
    comes(IDLE_MAX);
    assert_int_equal(losses, 0);
    assert_true(conn_is_idle());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        conn_test(each_statement_is_counted_for_itself),
        conn_test(what_came_for_an_unbounded_one_is_not_counted),
        conn_test(what_came_while_idle_is_not_counted),
        conn_test(a_count_begins_when_the_one_before_is_over),
        conn_test(one_that_is_sent_meanwhile_begins_no_count),
        conn_test(too_much_is_cut_off),
        conn_test(the_cancel_of_too_much_has_a_bound),
        conn_test(too_much_of_an_abandoned_one_closes_within_its_bound),
        conn_test(too_much_without_a_cancel_left_closes),
        conn_test(too_much_with_close_only_closes),
        conn_test(without_a_bound_anything_may_come),
        conn_test(a_flood_while_idle_closes),
        conn_test(whoever_is_used_meanwhile_is_not_flooded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
