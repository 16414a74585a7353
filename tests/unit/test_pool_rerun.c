/* SPDX-License-Identifier: MIT */
/* What runs again, unseen: for how long it waits, and that it is not shed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/pool_story.h"

static struct call a, b, c;

/* A holder of the only connection; who waits gets it, and it breaks before anything is sent. */
static void hold(void)
{
    story_acquire(&c, 0);
    fake_settle();
    assert_non_null(c.lease);
}

static void grant_and_break(void)
{
    story_release(&c);
    assert_int_equal(story_stats().waiting, 0);
    fake_pg_break(fake_pg(0));
}

/* ---- reruns ---- */

static void a_rerun_waits_for_half_of_what_is_left(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    hold();
    fake_dial_all_wait();
    int64_t start = fake_now_us();
    story_ask(&a, "SELECT 1", 1000);
    fake_advance(400);
    grant_and_break();
    fake_advance(299);
    assert_int_equal(story_stats().reruns, 1);
    assert_int_equal(a.calls, 0);
    fake_advance(1);
    assert_int_equal(a.code, EVPQ_ECONNECT);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    assert_int_equal(a.at_us - start, 700000);
}

static void a_rerun_waits_for_acquire_timeout_at_most(void **state)
{
    (void)state;
    static const uint32_t deadlines[] = {60000, EVPQ_NEVER};
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .acquire_timeout_ms = 500,
                                               .connect_timeout_ms = 60000));
    for (int i = 0; i < 2; i++) {
        hold();
        fake_dial_all_wait();
        story_ask(&a, "SELECT 1", deadlines[i]);
        fake_advance(400);
        int64_t broken = fake_now_us();
        grant_and_break();
        fake_advance(1000);
        assert_int_equal(a.at_us - broken, 500000);
        assert_int_equal(a.fate, EVPQ_NOT_SENT);
        fake_dial_all_succeed();
        if (fake_dials_open() > 0)
            fake_dial_succeeds();
        fake_advance(6000);
    }
    assert_int_equal(story_stats().reruns, 2);
}

static void a_rerun_without_any_limit_waits(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .acquire_timeout_ms = EVPQ_NEVER,
                                               .connect_timeout_ms = 3600000));
    hold();
    fake_dial_all_wait();
    story_ask(&a, "SELECT 1", EVPQ_NEVER);
    grant_and_break();
    fake_advance(3000000);
    assert_int_equal(story_stats().reruns, 1);
    assert_int_equal(a.calls, 0);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_rerun_is_not_shed_for_its_first_wait(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .shed_target_ms = 5));
    fake_advance(2000);
    hold();
    fake_dial_all_wait();
    story_ask(&a, "SELECT 1", 1000);
    fake_advance(8);
    pool->codel = (struct evpq__codel){.interval_ends_us = INT64_MAX, .overloaded = true};
    pool->backoff.failures = 0;
    grant_and_break();
    fake_settle();
    assert_int_equal(story_stats().reruns, 1);
    fake_advance(8);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().shed, 0);
}

static void a_closing_pool_runs_again_what_was_not_sent(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    story_ask(&a, "SELECT 1", 1000);
    story_close(EVPQ_CLOSE_FINISH, 5000);
    fake_pg_break(fake_pg(0));
    fake_advance(500);
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(pool_closed_calls, 1);
}

static void lose_it(struct call *call)
{
    (void)call;
    fake_loses(fake_pg(0), true, "gone\n");
}

static void a_closing_pool_grants_another_lease_for_one_that_was_lost(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_acquire(&a, 1000);
    story_ask(&b, "SELECT 1", 200);
    fake_settle();
    story_close(EVPQ_CLOSE_FINISH, 5000);
    b.inside = lose_it;
    /* The next turn tells of b's timeout, right behind the grant; the loss comes before a hears. */
    fake_busy(100);
    fake_dial_succeeds();
    fake_settle();
    b.inside = NULL;
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_int_equal(a.calls, 0);
    fake_advance(300);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_lease_ask(&c, a.lease, "SELECT 1", 0), EVPQ_OK);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
    story_release(&a);
    fake_settle();
    assert_int_equal(pool_closed_calls, 1);
}

static void one_short_wait_in_an_interval_is_no_overload(void **state)
{
    (void)state;
    enum { TARGET_US = 5000, LONG_US = 50000 };
    for (int with = 0; with < 2; with++) {
        struct evpq__codel codel = {0};
        int64_t now = 1000000;
        evpq__codel_sheds(&codel, TARGET_US, now, LONG_US);
        for (int i = 0; i < 5; i++)
            assert_false(evpq__codel_sheds(&codel, TARGET_US, ++now, LONG_US));
        if (with)
            assert_false(evpq__codel_sheds(&codel, TARGET_US, ++now, TARGET_US));
        assert_false(evpq__codel_sheds(&codel, TARGET_US, ++now, LONG_US));
        now += 200000;
        assert_false(
            evpq__codel_sheds(&codel, TARGET_US, now, LONG_US)); /* the first of the next */
        assert_int_equal(evpq__codel_sheds(&codel, TARGET_US, now + 1, LONG_US), !with);
    }
}

static void what_the_server_refused_is_not_run_again(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    story_run(&a, "FAIL");
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(story_stats().reruns, 0);
}

/* ---- close and loss in one turn ---- */

static void close_and_lose(struct call *call)
{
    (void)call;
    story_close(EVPQ_CLOSE_CANCEL, 0);
    fake_loses(fake_pg(0), true, "gone\n");
}

static void on_trace(const evpq_trace *event, void *user)
{
    uint64_t *connection = user;
    if (event->kind == EVPQ_TRACE_FINISHED && event->operation == 1)
        *connection = event->connection;
}

static void a_lease_granted_closed_and_lost_in_one_turn_has_no_connection(void **state)
{
    (void)state;
    static uint64_t connection;
    connection = 99;
    fake_dial_all_wait();
    story_open_ok(
        EVPQ_POOL_OPTIONS(.max_size = 1, .on_trace = on_trace, .trace_user = &connection));
    story_acquire(&a, 1000);
    story_ask(&b, "SELECT 1", 200);
    fake_settle();
    b.inside = close_and_lose;
    /* The next turn tells of b's timeout, right behind the grant; the loss comes before a hears. */
    fake_busy(100);
    fake_dial_succeeds();
    fake_settle();
    b.inside = NULL;
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_int_equal(a.code, EVPQ_ECLOSED);
    assert_int_equal(connection, 0);
    assert_int_equal(pool_closed_calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(a_rerun_waits_for_half_of_what_is_left),
        story_test(a_rerun_waits_for_acquire_timeout_at_most),
        story_test(a_rerun_without_any_limit_waits),
        story_test(a_rerun_is_not_shed_for_its_first_wait),
        story_test(a_closing_pool_runs_again_what_was_not_sent),
        story_test(a_closing_pool_grants_another_lease_for_one_that_was_lost),
        cmocka_unit_test(one_short_wait_in_an_interval_is_no_overload),
        story_test(what_the_server_refused_is_not_run_again),
        story_test(a_lease_granted_closed_and_lost_in_one_turn_has_no_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
