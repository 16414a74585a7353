/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/pool_story.h"

/*
 * Each story is told again and again: the first allocation fails, then the
 * second, and so on, until it comes to its end unharmed. Whatever fails, each
 * accepted call calls back once, and nothing is left.
 */

static struct call *at(int i)
{
    return &story_calls[i];
}

static void a_query(void)
{
    story_ask(at(0), "SELECT 1", 1000);
    story_ask(at(1), "FAIL", 1000);
    fake_advance(2000);
}

static void a_lease(void)
{
    story_acquire(at(0), 1000);
    fake_advance(1000);
    if (!at(0)->lease)
        return;
    story_lease_ask(at(1), at(0)->lease, "BEGIN", 100);
    story_lease_ask(at(2), at(0)->lease, "FAIL", 100);
    story_lease_ask(at(3), at(0)->lease, "HANG", 100);
    fake_advance(200);
    story_release(at(0));
}

static void a_timeout(void)
{
    story_ask(at(0), "HANG", 1000);
    story_ask(at(1), "SELECT 1", 100);
    story_ask(at(2), "SELECT 1", 0);
    fake_advance(3000);
}

static void a_cancel(void)
{
    if (story_ask(at(0), "HANG", 0) == EVPQ_OK && (fake_settle(), true) && at(0)->calls == 0)
        evpq_op_cancel(at(0)->op);
    fake_settle();
    story_ask(at(1), "SELECT 1", 0);
    fake_advance(1000);
}

static void an_outage(void)
{
    fake_dial_all_fail();
    story_ask(at(0), "SELECT 1", 500);
    story_acquire(at(1), 300);
    fake_advance(1000);
    fake_dial_all_succeed();
    story_ask(at(2), "SELECT 1", 10000);
    fake_advance(5000);
}

static void a_refusal(void)
{
    fake_dial_all_wait();
    story_ask(at(0), "SELECT 1", 500);
    story_ask(at(1), "SELECT 1", 500);
    fake_settle();
    if (fake_dials_open() > 0)
        fake_dial_fails(EVPQ_ECONNECT, "28P01", "password authentication failed", true);
    fake_advance(1000);
    fake_dial_all_succeed();
}

static void a_loss(void)
{
    story_ask(at(0), "DIE", 0);
    story_ask(at(1), "SELECT 1", 0);
    fake_advance(1000);
}

static void a_close_in_the_middle(void)
{
    story_acquire(at(0), 0);
    fake_settle();
    story_ask(at(1), "HANG", 0);
    fake_settle();
    story_ask(at(2), "SELECT 1", 0);
    story_close(EVPQ_CLOSE_FINISH, 100);
    fake_advance(200);
    story_release(at(0));
}

static void a_line(void)
{
    story_acquire(at(0), 500);
    fake_advance(1000);
    for (int i = 1; i < 5; i++)
        story_ask(at(i), "SELECT 1", 1000);
    if (at(0)->lease)
        story_release(at(0));
    fake_advance(2000);
}

/* Granted, and broken before anything was sent: it runs again. */
static void a_rerun(void)
{
    story_acquire(at(0), 500);
    fake_advance(1000);
    story_ask(at(1), "SELECT 1", 0);
    if (at(0)->lease) {
        story_release(at(0));
        fake_pg_break(fake_pg(0));
    }
    fake_advance(1000);
}

static void tell(void (*story)(void), bool again_and_again, int libpq_version)
{
    int told = 0;
    for (int n = 1;; n++) {
        story_begin(NULL);
        fake_pq_version(libpq_version);
        if (again_and_again)
            fake_mem_fail_from(n);
        else
            fake_mem_fail_at(n);
        if (story_open(EVPQ_POOL_OPTIONS(.conninfo = "host=x", .max_size = 2, .min_size = 1)) ==
            EVPQ_OK)
            story();
        bool failed = fake_mem_has_failed();
        /* The end works without memory too, for good. */
        if (pool)
            story_close(EVPQ_CLOSE_CANCEL, 0);
        story_end(NULL);
        told++;
        if (!failed)
            break;
    }
    assert_true(told > 8);
}

static void tell_all_ways(void (*story)(void))
{
    tell(story, false, 170006);
    tell(story, true, 170006);
    tell(story, false, 140010);
    tell(story, true, 140010);
}

#define STORY(story, name)                                                                         \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        tell_all_ways(story);                                                                      \
    }
STORY(a_query, promise_10_a_query_survives_any_lack_of_memory)
STORY(a_lease, promise_10_a_lease_survives_any_lack_of_memory)
STORY(a_timeout, promise_10_a_timeout_survives_any_lack_of_memory)
STORY(a_cancel, promise_10_a_cancel_survives_any_lack_of_memory)
STORY(an_outage, promise_10_an_outage_survives_any_lack_of_memory)
STORY(a_refusal, promise_10_a_refusal_survives_any_lack_of_memory)
STORY(a_loss, promise_10_a_loss_survives_any_lack_of_memory)
STORY(a_close_in_the_middle, promise_10_a_close_survives_any_lack_of_memory)
STORY(a_line, promise_10_a_line_survives_any_lack_of_memory)
STORY(a_rerun, promise_10_a_rerun_survives_any_lack_of_memory)

/* All wait for the one connection, which is lent to at(0). */
static void begin_line(int waiters)
{
    story_open_ok(EVPQ_POOL_OPTIONS(.conninfo = "host=x", .max_size = 1, .pipeline_depth = 4));
    story_acquire(at(0), 0);
    fake_settle();
    for (int i = 1; i <= waiters; i++)
        assert_int_equal(story_ask(at(i), "SELECT 1", 10000), EVPQ_OK);
}

static void check_not_sent(const struct call *call)
{
    assert_int_equal(call->calls, 1);
    assert_int_equal(call->code, EVPQ_ENOMEM);
    assert_int_equal(call->fate, EVPQ_NOT_SENT);
}

static void a_connection_goes_on_to_the_next_when_the_first_has_no_memory_for_it(void **state)
{
    (void)state;
    begin_line(3);
    fake_mem_fail_at(1);
    story_release(at(0));
    assert_true(fake_mem_has_failed());
    assert_int_equal(at(1)->calls, 0);
    fake_settle();
    check_not_sent(at(1));
    assert_int_equal(at(2)->code, EVPQ_OK);
    assert_int_equal(at(3)->code, EVPQ_OK);
    assert_int_equal(story_stats().waiting, 0);
    assert_int_equal(story_stats().idle, 1);
    story_run(at(4), "SELECT 1");
    assert_int_equal(at(4)->code, EVPQ_OK);
}

static void a_line_that_has_no_memory_ends_and_the_connection_is_free(void **state)
{
    (void)state;
    enum { WAITERS = 500 };
    begin_line(WAITERS);
    fake_mem_fail_from(1);
    story_release(at(0));
    fake_settle();
    fake_mem_fail_at(0);
    for (int i = 1; i <= WAITERS; i++)
        check_not_sent(at(i));
    assert_int_equal(story_stats().idle, 1);
    story_run(at(0), "SELECT 1");
    assert_int_equal(at(0)->code, EVPQ_OK);
}

static void without_memory_a_query_of_a_lease_is_refused(void **state)
{
    (void)state;
    begin_line(0);
    story_lease_ask(at(1), at(0)->lease, "SELECT 1", 0);
    fake_settle();
    for (int n = 1;; n++) {
        fake_mem_fail_at(n);
        int code = story_lease_ask(at(2), at(0)->lease, "SELECT 2", 0);
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        fake_settle();
        if (!failed)
            break;
        if (code != EVPQ_OK)
            assert_int_equal(code, EVPQ_ENOMEM);
    }
    assert_int_equal(at(2)->code, EVPQ_OK);
    story_release(at(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promise_10_a_query_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_lease_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_timeout_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_cancel_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_an_outage_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_refusal_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_loss_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_close_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_line_survives_any_lack_of_memory),
        cmocka_unit_test(promise_10_a_rerun_survives_any_lack_of_memory),
        story_test(a_connection_goes_on_to_the_next_when_the_first_has_no_memory_for_it),
        story_test(a_line_that_has_no_memory_ends_and_the_connection_is_free),
        story_test(without_memory_a_query_of_a_lease_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
