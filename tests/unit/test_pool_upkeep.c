/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/pool_story.h"

/* What the pool does by the clock: dials, and the ages of connections. */

static struct call a, b, c;

/* ---- dials ---- */

static void dials_double_with_each_success(void **state)
{
    (void)state;
    struct call *calls = story_calls;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20));
    for (int i = 0; i < 20; i++)
        story_ask(&calls[i], "HANG", 0);
    fake_settle();
    assert_int_equal(fake_dials_open(), 1);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 2);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 4);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 8);
}

/* The host that one more dial is to try first. */
static size_t dial_another(int so_far)
{
    story_ask(&story_calls[so_far], "HANG", 0);
    fake_settle();
    assert_int_equal(fake_dials(), so_far + 1);
    return fake_dial_first_host();
}

static void the_host_that_was_found_is_the_first_of_the_next_dials(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20, .query_timeout_ms = EVPQ_NEVER));
    fake_dial_host(2);
    assert_int_equal(dial_another(0), 0);
    assert_int_equal(dial_another(1), 2);
    /* To be found like this makes it no longer: the order counts again. */
    fake_advance(59000);
    assert_int_equal(dial_another(2), 2);
    fake_advance(1001);
    assert_int_equal(dial_another(3), 0);
    assert_int_equal(dial_another(4), 2);
    /* It has failed, and another was found. */
    fake_dial_host(1);
    assert_int_equal(dial_another(5), 2);
    assert_int_equal(dial_another(6), 1);
    fake_dial_host(0);
    assert_int_equal(dial_another(7), 1);
    assert_int_equal(dial_another(8), 0);
}

static void when_no_host_is_found_their_order_counts_again(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20, .query_timeout_ms = EVPQ_NEVER));
    fake_dial_host(2);
    assert_int_equal(dial_another(0), 0);
    fake_dial_all_fail();
    assert_int_equal(dial_another(1), 2);
    fake_dial_all_succeed();
    fake_advance(2000);
    assert_int_equal(fake_dials(), 3);
    assert_int_equal(fake_dial_first_host(), 0);
}

static void the_ramp_begins_anew_when_nothing_is_missing(void **state)
{
    (void)state;
    struct call *calls = story_calls;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 8));
    for (int i = 0; i < 3; i++)
        story_ask(&calls[i], "HANG", 0);
    fake_settle();
    for (int i = 0; i < 3; i++) {
        fake_dial_succeeds();
        fake_settle();
    }
    for (int i = 3; i < 8; i++)
        story_ask(&calls[i], "HANG", 0);
    fake_settle();
    assert_int_equal(fake_dials_open(), 1);
}

static void no_more_dials_than_there_are_waiters(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20));
    story_ask(&a, "HANG", 0);
    story_ask(&b, "HANG", 0);
    story_ask(&c, "HANG", 0);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 1);
    assert_int_equal(fake_dials(), 3);
}

static void a_dial_too_late_for_one_serves_the_next(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(NULL);
    story_ask(&a, "SELECT 1", 100);
    fake_advance(50);
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_int_equal(fake_dials_open(), 1);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
    story_run(&b, "SELECT 1");
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 1);
}

static void a_released_connection_serves_who_waits_for_a_dial(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    story_acquire(&a, 0);
    fake_settle();
    fake_dial_all_wait();
    story_ask(&b, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(fake_dials_open(), 1);
    story_release(&a);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().idle, 2);
}

static void a_dial_has_connect_timeout(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.connect_timeout_ms = 300));
    story_ask(&a, "SELECT 1", 60000);
    fake_settle();
    fake_advance(299);
    assert_int_equal(story_stats().dial_failures, 0);
    fake_advance(1);
    assert_int_equal(story_stats().dial_failures, 1);
    assert_int_equal(a.calls, 0);
}

/* ---- failures ---- */

static void who_waits_outlives_a_failed_dial(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(NULL);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.calls, 0);
    assert_true(story_stats().dial_failures >= 1);
    fake_dial_all_succeed();
    fake_advance(1000);
    assert_int_equal(a.code, EVPQ_OK);
}

static void who_waits_in_vain_hears_why(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(NULL);
    story_ask(&a, "SELECT 1", 1000);
    fake_advance(500);
    assert_int_equal(a.code, EVPQ_ECONNECT);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(a.message, "connection refused"));
}

static void fail_fast_tells_at_once(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(EVPQ_POOL_OPTIONS(.fail_fast = true));
    story_ask(&a, "SELECT 1", 0);
    story_acquire(&b, 0);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECONNECT);
    assert_int_equal(b.code, EVPQ_ECONNECT);
    assert_string_equal(a.message, "connection refused");
    assert_int_equal(story_stats().waiting, 0);
}

static void what_is_refused_for_good_is_told_at_once_and_tried_slowly(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(NULL);
    story_ask(&a, "SELECT 1", 0);
    story_acquire(&b, 0);
    fake_settle();
    fake_dial_fails(EVPQ_ECONNECT, "28P01", "password authentication failed", true);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECONNECT);
    assert_string_equal(a.sqlstate, "28P01");
    assert_int_equal(b.code, EVPQ_ECONNECT);
    story_ask(&c, "SELECT 1", 0);
    fake_advance(999);
    assert_int_equal(fake_dials(), 1);
    fake_advance(200);
    assert_int_equal(fake_dials(), 2);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
}

/* One after the other, with growing pauses; and it goes on. */
static void ten_minutes_of_outage_are_a_few_dials(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 5));
    int64_t last = 0, longest = 0;
    int seen = 0;
    for (int ms = 0; ms < 600000; ms += 10) {
        fake_advance(10);
        if (fake_dials() == seen)
            continue;
        assert_int_equal(fake_dials(), seen + 1);
        if (seen > 0)
            assert_true(fake_now_us() - last >= 90000);
        if (seen > 0 && fake_now_us() - last > longest)
            longest = fake_now_us() - last;
        last = fake_now_us();
        seen++;
    }
    assert_true(seen > 600 / 2);
    assert_true(seen < 6000);
    assert_true(longest > 500000);
    assert_true(longest < 1200000); /* who is back is noticed soon */
    fake_dial_all_succeed();
    fake_advance(6300); /* the longest pause, and a second in which it proves itself */
    assert_int_equal(story_stats().idle, 5);
}

static void the_pause_begins_small_after_a_success(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .min_size = 1));
    fake_advance(60000);
    fake_dial_all_succeed();
    fake_advance(6300); /* the longest pause, and a second in which it proves itself */
    assert_int_equal(story_stats().idle, 1);
    fake_dial_all_fail();
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    uint64_t failures = story_stats().dial_failures;
    fake_advance(201); /* 100 and a random share of 100 */
    assert_true(story_stats().dial_failures > failures);
}

static void after_a_failure_there_is_one_dial_at_a_time(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20));
    for (int i = 0; i < 20; i++)
        story_ask(&story_calls[i], "HANG", 0);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 4);
    while (fake_dials_open() > 0) {
        fake_dial_fails(EVPQ_ECONNECT, NULL, "connection refused", false);
        fake_settle();
    }
    for (int i = 0; i < 50; i++) {
        fake_advance(200);
        assert_true(fake_dials_open() <= 1);
    }
    assert_int_equal(fake_dials_open(), 1);
}

static void nobody_waits_and_nobody_dials(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(NULL);
    story_ask(&a, "SELECT 1", 1000);
    fake_advance(500);
    assert_int_equal(a.calls, 1);
    int dials = fake_dials();
    fake_advance(600000);
    assert_int_equal(fake_dials(), dials);
}

static void a_query_in_the_pause_waits_for_its_end(void **state)
{
    (void)state;
    fake_dial_all_fail();
    story_open_ok(EVPQ_POOL_OPTIONS(.fail_fast = true));
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_ECONNECT);
    fake_dial_all_succeed();
    story_run(&b, "SELECT 1");
    assert_int_equal(b.calls, 0);
    assert_int_equal(fake_dials(), 1);
    fake_advance(200);
    assert_int_equal(b.code, EVPQ_OK);
}

static void without_a_helper_it_tries_again_later(void **state)
{
    (void)state;
    fake_helper_fails(true);
    story_open_ok(NULL);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.calls, 0);
    assert_int_equal(story_stats().dial_failures, 1);
    fake_helper_fails(false);
    fake_advance(200);
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_connection_that_cannot_be_cancelled_is_none(void **state)
{
    (void)state;
    fake_pq_no_cancel(true);
    story_open_ok(NULL);
    story_run(&a, "SELECT 1");
    assert_int_equal(fake_pg_count(), 0);
    fake_pq_no_cancel(false);
    fake_advance(200);
    assert_int_equal(a.code, EVPQ_OK);
}

/* ---- min_size ---- */

static void min_size_is_there_before_anybody_asks(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 5));
    assert_int_equal(fake_dials(), 0);
    fake_settle();
    assert_int_equal(story_stats().idle, 5);
}

static void min_size_is_kept_when_connections_are_lost(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 3));
    fake_settle();
    fake_advance(1000);
    for (int i = 0; i < 3; i++)
        fake_loses(fake_pg(i), true, "gone\n");
    fake_settle();
    assert_int_equal(story_stats().idle, 3);
    assert_int_equal(story_stats().closed_broken, 3);
    assert_int_equal(fake_dials(), 6);
}

static void waiters_beyond_min_size_get_connections_too(void **state)
{
    (void)state;
    struct call *calls = story_calls;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 2, .max_size = 6));
    for (int i = 0; i < 6; i++)
        story_ask(&calls[i], "HANG", 0);
    fake_settle();
    assert_int_equal(story_stats().busy, 6);
}

/* ---- ages ---- */

static void idle_connections_above_min_size_are_closed(void **state)
{
    (void)state;
    story_open_with_idle(4, *EVPQ_POOL_OPTIONS(.min_size = 1, .idle_timeout_ms = 1000));
    fake_advance(999);
    assert_int_equal(story_stats().idle, 4);
    fake_advance(1);
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(story_stats().closed_idle, 3);
    fake_advance(1000000);
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(fake_dials(), 4);
}

static void what_is_used_is_not_idle(void **state)
{
    (void)state;
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.idle_timeout_ms = 1000));
    for (int i = 0; i < 4; i++) {
        fake_advance(400);
        story_run(&a, "SELECT 1");
        assert_int_equal(a.code, EVPQ_OK);
    }
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(story_stats().closed_idle, 1);
    fake_advance(999);
    assert_int_equal(story_stats().idle, 1);
    fake_advance(1);
    assert_int_equal(story_stats().idle, 0);
}

static void the_one_idle_longest_goes_first(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 1, .max_size = 2, .idle_timeout_ms = 1000));
    story_acquire(&a, 0);
    story_acquire(&b, 0);
    fake_settle();
    PGconn *kept = fake_pg(1);
    story_release(&a);
    fake_settle();
    fake_advance(500);
    story_release(&b);
    fake_settle();
    fake_advance(2000);
    assert_int_equal(story_stats().idle, 1);
    assert_ptr_equal(fake_pg(0), kept);
}

static void never_idle_for_too_long(void **state)
{
    (void)state;
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.idle_timeout_ms = EVPQ_NEVER,
                                               .max_lifetime_ms = EVPQ_NEVER,
                                               .lease_overdue_ms = EVPQ_NEVER));
    assert_int_equal(fake_timers(), 0);
    fake_advance(100000000);
    assert_int_equal(story_stats().idle, 2);
}

static void connections_are_replaced_between_nine_tenths_of_their_lifetime_and_all(void **state)
{
    (void)state;
    story_open_with_idle(20, *EVPQ_POOL_OPTIONS(.min_size = 20, .max_lifetime_ms = 100000,
                                                .idle_timeout_ms = EVPQ_NEVER));
    fake_advance(89990);
    assert_int_equal(story_stats().closed_lifetime, 0);
    fake_advance(5010);
    uint64_t half = story_stats().closed_lifetime;
    assert_true(half > 2 && half < 18); /* jittered */
    fake_advance(5010);
    assert_int_equal(story_stats().closed_lifetime, 20);
    assert_int_equal(story_stats().idle, 20);
    assert_int_equal(story_stats().closed_idle, 0);
}

static void a_busy_connection_is_replaced_when_it_comes_back(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .max_lifetime_ms = 1000));
    story_acquire(&a, 0);
    fake_advance(5000);
    assert_int_equal(story_stats().closed_lifetime, 0);
    story_lease_ask(&b, a.lease, "SELECT 1", 0);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    story_release(&a);
    assert_int_equal(story_stats().closed_lifetime, 1);
    fake_settle();
    assert_int_equal(story_stats().total, 0);
}

static void a_worn_connection_is_replaced_when_it_comes_back(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS());
    fake_pg_result_bytes(fake_pg(0), 100000000);
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().total, 0);
    story_run(&b, "SELECT 1");
    assert_int_equal(b.code, EVPQ_OK);
    assert_int_equal(fake_dials(), 2);
}

static void old_and_idle_at_once_closes_no_more_than_it_may(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 2, .max_size = 3, .max_lifetime_ms = 10000,
                                    .idle_timeout_ms = 1000));
    story_acquire(&a, 0); /* holds one of two */
    fake_settle();
    fake_advance(8900);
    fake_loses(fake_pg(1), true, "gone\n"); /* the other one is replaced, and young */
    fake_settle();
    story_acquire(&b, 0);
    story_acquire(&c, 0);
    fake_settle();
    assert_int_equal(story_stats().busy, 3);
    story_release(&b);
    story_release(&c);
    story_release(&a);
    fake_busy(2000);
    fake_settle();
    assert_int_equal(story_stats().closed_lifetime, 1);
    assert_int_equal(story_stats().closed_idle, 0);
    assert_int_equal(story_stats().idle, 2);
}

static void upkeep_does_not_spin(void **state)
{
    (void)state;
    story_open_with_idle(
        10, *EVPQ_POOL_OPTIONS(.min_size = 3, .idle_timeout_ms = 700, .max_lifetime_ms = 3000));
    /* fake_settle() fails when it never becomes quiet. */
    for (int i = 0; i < 600; i++)
        fake_advance(100);
    assert_int_equal(story_stats().idle, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(dials_double_with_each_success),
        story_test(the_host_that_was_found_is_the_first_of_the_next_dials),
        story_test(when_no_host_is_found_their_order_counts_again),
        story_test(the_ramp_begins_anew_when_nothing_is_missing),
        story_test(no_more_dials_than_there_are_waiters),
        story_test(a_dial_too_late_for_one_serves_the_next),
        story_test(a_released_connection_serves_who_waits_for_a_dial),
        story_test(a_dial_has_connect_timeout),
        story_test(who_waits_outlives_a_failed_dial),
        story_test(who_waits_in_vain_hears_why),
        story_test(fail_fast_tells_at_once),
        story_test(what_is_refused_for_good_is_told_at_once_and_tried_slowly),
        story_test(ten_minutes_of_outage_are_a_few_dials),
        story_test(the_pause_begins_small_after_a_success),
        story_test(after_a_failure_there_is_one_dial_at_a_time),
        story_test(nobody_waits_and_nobody_dials),
        story_test(a_query_in_the_pause_waits_for_its_end),
        story_test(without_a_helper_it_tries_again_later),
        story_test(a_connection_that_cannot_be_cancelled_is_none),
        story_test(min_size_is_there_before_anybody_asks),
        story_test(min_size_is_kept_when_connections_are_lost),
        story_test(waiters_beyond_min_size_get_connections_too),
        story_test(idle_connections_above_min_size_are_closed),
        story_test(what_is_used_is_not_idle),
        story_test(the_one_idle_longest_goes_first),
        story_test(never_idle_for_too_long),
        story_test(connections_are_replaced_between_nine_tenths_of_their_lifetime_and_all),
        story_test(a_busy_connection_is_replaced_when_it_comes_back),
        story_test(a_worn_connection_is_replaced_when_it_comes_back),
        story_test(old_and_idle_at_once_closes_no_more_than_it_may),
        story_test(upkeep_does_not_spin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
