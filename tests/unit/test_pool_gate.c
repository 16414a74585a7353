/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/limits.h>

#include "support/pool_story.h"

static struct call *const c = story_calls;

static int ask(struct call *call, const char *tag, uint32_t timeout_ms)
{
    return story_ask_with(call, EVPQ_QUERY("SELECT 1", .tag = tag, .timeout_ms = timeout_ms));
}

static void limit(const evpq_pool_limits *limits)
{
    assert_int_equal(evpq_pool_limit(pool, limits), EVPQ_OK);
}

static void a_rate_holds_for_the_statements_of_its_tag(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 4));
    limit(EVPQ_POOL_LIMITS(.tag = "a", .rate = 2, .window_ms = 1000));
    int64_t start = fake_now_us();
    for (int i = 0; i < 8; i++)
        assert_int_equal(ask(&c[i], i < 6 ? "a" : i == 6 ? "b" : NULL, 2500), EVPQ_OK);
    fake_advance(3000);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(c[i].code, EVPQ_OK);
        assert_int_equal((c[i].at_us - start) / 1000000, i / 2);
    }
    assert_true(c[6].at_us - start < 1000000 && c[7].at_us - start < 1000000);
    /* What the rate does not allow in time is told at once. */
    for (int i = 10; i < 13; i++)
        assert_int_equal(ask(&c[i], "a", 900), EVPQ_OK);
    fake_settle();
    assert_int_equal(c[12].code, EVPQ_ELIMITED);
    assert_int_equal(c[12].fate, EVPQ_NOT_SENT);
}

static void never_answers(PGconn *pg, const char *sql)
{
    (void)pg, (void)sql;
}

static void as_many_as_the_concurrency_run_at_once(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 4));
    fake_server(never_answers);
    limit(EVPQ_POOL_LIMITS(.tag = "a", .max_concurrent = 1));
    limit(EVPQ_POOL_LIMITS(.max_concurrent = 2));
    for (int i = 0; i < 5; i++)
        assert_int_equal(ask(&c[i], i < 2 ? "a" : "b", 1000), EVPQ_OK);
    fake_settle();
    assert_int_equal(story_stats().busy, 2);
    fake_advance(900);
    assert_int_equal(story_stats().busy, 2);
    for (int i = 0; i < 5; i++)
        assert_int_equal(c[i].calls, 0);
    fake_advance(200);
    for (int i = 0; i < 5; i++)
        assert_int_equal(c[i].code, EVPQ_ETIMEOUT);
    assert_non_null(strstr(c[4].message, "a limit of the pool"));
    fake_server(fake_server_simple);
    story_run(&c[10], "SELECT 1"); /* all permits are back */
    assert_int_equal(c[10].code, EVPQ_OK);
}

/* Three times as much as the rate allows, for a second. */
static void an_overloaded_pool_keeps_its_goodput_and_every_deadline(void **state)
{
    (void)state;
    enum { ASKED = 900, RATE = 30, WINDOW_MS = 100, DEADLINE_MS = 300 };
    static int64_t asked_at[ASKED];
    story_open_with_idle(4, (evpq_pool_options){.size = sizeof(evpq_pool_options)});
    limit(EVPQ_POOL_LIMITS(.rate = RATE, .window_ms = WINDOW_MS));
    limit(EVPQ_POOL_LIMITS(.tag = "a", .max_concurrent = 3));
    int64_t start = fake_now_us(), end = start + 1000000;
    for (int i = 0; i < ASKED; i++) {
        asked_at[i] = fake_now_us();
        assert_int_equal(ask(&c[i], "a", DEADLINE_MS), EVPQ_OK);
        if (i % 9 == 8)
            fake_advance(10);
    }
    fake_advance(DEADLINE_MS);
    int good = 0;
    for (int i = 0; i < ASKED; i++) {
        assert_int_equal(c[i].calls, 1);
        assert_true(c[i].at_us - asked_at[i] <= DEADLINE_MS * 1000);
        good += c[i].code == EVPQ_OK && c[i].at_us < end;
    }
    int most = RATE * 1000 / WINDOW_MS;
    if (good < most * 95 / 100 || good > most)
        fail_msg("%d of %d that the rate allows", good, most);
}

static void cancel_and_close_in_a_gate(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 4));
    limit(EVPQ_POOL_LIMITS(.rate = 1, .window_ms = 1000, .max_concurrent = 1));
    for (int i = 0; i < 4; i++)
        assert_int_equal(ask(&c[i], NULL, 10000), EVPQ_OK);
    evpq_op_cancel(c[0].op); /* granted, and not told yet */
    evpq_op_cancel(c[1].op);
    fake_settle();
    assert_int_equal(c[0].code, EVPQ_ECANCELED);
    assert_int_equal(c[1].code, EVPQ_ECANCELED);
    assert_int_equal(c[2].calls, 0);
    fake_advance(1000);
    assert_int_equal(c[2].code, EVPQ_OK);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    story_finish();
    assert_int_equal(c[3].code, EVPQ_ECLOSED);
}

static void cancel_at_every_moment_gives_the_permits_back(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    limit(EVPQ_POOL_LIMITS(.tag = "a", .max_concurrent = 1));
    limit(EVPQ_POOL_LIMITS(.rate = 1000, .window_ms = 1, .max_concurrent = 1));
    for (int round = 0; round < 12; round++) {
        assert_int_equal(ask(&c[0], "a", 10000), EVPQ_OK);
        assert_int_equal(ask(&c[1], "a", 10000), EVPQ_OK);
        for (int turn = 0; turn < round; turn++)
            fake_turn();
        if (c[0].calls == 0)
            evpq_op_cancel(c[0].op);
        fake_advance(1);
        assert_int_equal(c[0].calls, 1);
        assert_int_equal(c[1].code, EVPQ_OK);
    }
}

/* Leases */

static int acquire(struct call *call, const char *tag, uint32_t timeout_ms)
{
    return story_acquire_tagged(call, tag, timeout_ms);
}

static void a_lease_holds_its_permit_until_it_is_released(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 8));
    limit(EVPQ_POOL_LIMITS(.tag = "a", .max_concurrent = 1));
    limit(EVPQ_POOL_LIMITS(.max_concurrent = 2));
    assert_int_equal(acquire(&c[0], "a", 10000), EVPQ_OK);
    fake_settle();
    assert_int_equal(acquire(&c[1], "a", 10000), EVPQ_OK);
    assert_int_equal(ask(&c[2], "a", 10000), EVPQ_OK);
    assert_int_equal(acquire(&c[3], "b", 10000), EVPQ_OK);
    assert_int_equal(acquire(&c[4], NULL, 10000), EVPQ_OK);
    fake_advance(1000);
    assert_int_equal(c[0].code, EVPQ_OK);
    assert_int_equal(c[3].code, EVPQ_OK);
    assert_int_equal(c[1].calls + c[2].calls + c[4].calls, 0);
    /* What runs on it passes no gate. */
    assert_int_equal(story_lease_ask(&c[10], c[0].lease, "SELECT 1", 0), EVPQ_OK);
    assert_int_equal(story_lease_ask(&c[11], c[0].lease, "SELECT 1", 0), EVPQ_OK);
    fake_settle();
    assert_int_equal(c[10].calls + c[11].calls, 2);
    assert_int_equal(c[1].calls + c[2].calls + c[4].calls, 0);
    story_release(&c[3]);
    fake_settle();
    assert_int_equal(c[4].code, EVPQ_OK);
    assert_int_equal(c[1].calls, 0); /* for its tag */
    story_release(&c[0]);
    fake_settle();
    assert_int_equal(c[1].code, EVPQ_OK);
    assert_int_equal(c[2].calls, 0);
    story_release(&c[1]);
    fake_settle();
    assert_int_equal(c[2].code, EVPQ_OK);
    story_release(&c[4]);
}

static void a_lease_counts_once_for_the_rate(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 8));
    limit(EVPQ_POOL_LIMITS(.rate = 2, .window_ms = 1000));
    int64_t start = fake_now_us();
    for (int i = 0; i < 3; i++)
        assert_int_equal(acquire(&c[i], NULL, 5000), EVPQ_OK);
    assert_int_equal(acquire(&c[3], NULL, 900), EVPQ_OK);
    fake_advance(1500);
    assert_true(c[1].at_us - start < 1000000);
    assert_int_equal((c[2].at_us - start) / 1000, 1000);
    assert_int_equal(c[3].code, EVPQ_ELIMITED);
    assert_int_equal(c[3].fate, EVPQ_NOT_SENT);
    for (int i = 0; i < 3; i++)
        story_release(&c[i]);
    /* To release gives nothing of the rate back. */
    assert_int_equal(acquire(&c[4], NULL, 5000), EVPQ_OK);
    assert_int_equal(acquire(&c[5], NULL, 400), EVPQ_OK);
    fake_advance(499);
    assert_int_equal(c[4].code, EVPQ_OK);
    assert_int_equal(c[5].code, EVPQ_ELIMITED);
    story_release(&c[4]);
}

static void an_acquire_that_ends_at_any_moment_gives_its_permits_back(void **state)
{
    (void)state;
    enum { CANCELED, TIMED_OUT, RELEASED, WAYS };
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    limit(EVPQ_POOL_LIMITS(.tag = "a", .max_concurrent = 1));
    limit(EVPQ_POOL_LIMITS(.rate = 1000, .window_ms = 1, .max_concurrent = 1));
    for (int round = 0; round < 12 * WAYS; round++) {
        assert_int_equal(acquire(&c[0], "a", round % WAYS == TIMED_OUT ? 1 : 10000), EVPQ_OK);
        assert_int_equal(acquire(&c[1], "a", 10000), EVPQ_OK);
        for (int turn = 0; turn < round / WAYS; turn++)
            fake_turn();
        if (c[0].calls == 0 && round % WAYS == CANCELED)
            evpq_op_cancel(c[0].op);
        else if (c[0].calls == 0 && round % WAYS == TIMED_OUT)
            fake_busy(2);
        fake_settle();
        assert_int_equal(c[0].calls, 1);
        story_release(&c[0]);
        fake_advance(1);
        assert_int_equal(c[1].code, EVPQ_OK);
        story_release(&c[1]);
        fake_advance(1);
    }
}

static void a_lease_lost_before_it_was_told_keeps_its_permit(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    limit(EVPQ_POOL_LIMITS(.max_concurrent = 1));
    assert_int_equal(acquire(&c[0], NULL, 10000), EVPQ_OK);
    assert_int_equal(acquire(&c[1], NULL, 10000), EVPQ_OK);
    fake_settle();
    fake_dial_succeeds();
    fake_turn(); /* it is on its way */
    while (fake_pg_count() == 1 && c[0].calls == 0) {
        fake_loses(fake_pg(0), true, "gone\n");
        fake_turn();
    }
    fake_dial_all_succeed();
    fake_advance(1000);
    assert_int_equal(story_stats().reruns, 1);
    assert_int_equal(c[0].code, EVPQ_OK);
    assert_int_equal(c[1].calls, 0);
    story_release(&c[0]);
    fake_settle();
    assert_int_equal(c[1].code, EVPQ_OK);
    story_release(&c[1]);
}

static void a_lease_may_outlive_its_pool_and_its_permits(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
        limit(EVPQ_POOL_LIMITS(.tag = "a", .rate = 9, .window_ms = 1, .max_concurrent = 1));
        limit(EVPQ_POOL_LIMITS(.max_concurrent = 1));
        assert_int_equal(acquire(&c[0], "a", 1000), EVPQ_OK);
        assert_int_equal(acquire(&c[1], "a", 1000), EVPQ_OK);
        fake_settle();
        story_close(way ? EVPQ_CLOSE_FINISH : EVPQ_CLOSE_CANCEL, 50);
        fake_advance(100);
        story_finish();
        assert_int_equal(c[1].code, EVPQ_ECLOSED);
        story_release(&c[0]);
    }
}

static void a_pool_that_closes_lets_the_gated_finish(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    limit(EVPQ_POOL_LIMITS(.rate = 1, .window_ms = 100));
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&c[i], NULL, 10000), EVPQ_OK);
    story_close(EVPQ_CLOSE_FINISH, 1000);
    fake_advance(300);
    for (int i = 0; i < 3; i++)
        assert_int_equal(c[i].code, EVPQ_OK);
}

static void limits_change_and_nonsense_is_refused(void **state)
{
    (void)state;
    static const char long_tag[] =
        "0123456789012345678901234567890123456789012345678901234567890123";
    story_open_ok(NULL);
    limit(EVPQ_POOL_LIMITS(.rate = 1, .window_ms = 1000));
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&c[i], NULL, 10000), EVPQ_OK);
    limit(EVPQ_POOL_LIMITS(.rate = 3, .window_ms = 1000));
    fake_settle();
    assert_int_equal(c[2].code, EVPQ_OK);
    const evpq_pool_limits *bad[] = {
        NULL,
        EVPQ_POOL_LIMITS(.tag = "a"),
        EVPQ_POOL_LIMITS(.tag = "", .rate = 1, .window_ms = 1),
        EVPQ_POOL_LIMITS(.tag = long_tag, .rate = 1, .window_ms = 1),
        EVPQ_POOL_LIMITS(.tag = "a", .rate = 1),
        EVPQ_POOL_LIMITS(.tag = "a", .window_ms = 1),
        EVPQ_POOL_LIMITS(.tag = "a", .max_concurrent = UINT32_MAX),
        EVPQ_POOL_LIMITS(.tag = "a", .rate = UINT32_MAX, .window_ms = 1),
        EVPQ_POOL_LIMITS(.max_concurrent = 1), /* there is a rate so far */
        EVPQ_POOL_LIMITS(.rate = 1, .window_ms = 1, .max_concurrent = 1),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(evpq_pool_limit(pool, bad[i]), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_limit(NULL, EVPQ_POOL_LIMITS(.max_concurrent = 1)), EVPQ_EINVALID);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    story_open_with_idle(1, (evpq_pool_options){.size = sizeof(evpq_pool_options), .max_size = 1});
    int n = 1;
    for (;; n++) {
        char tag[16];
        snprintf(tag, sizeof(tag), "tag %d", n);
        fake_mem_fail_at(n);
        int limited = evpq_pool_limit(
            pool, EVPQ_POOL_LIMITS(.tag = tag, .rate = 9, .window_ms = 10, .max_concurrent = 1));
        assert_true(limited == EVPQ_OK || limited == EVPQ_ENOMEM);
        for (int i = 0; i < 3; i++) {
            int asked = ask(&c[i], tag, 1000);
            assert_true(asked == EVPQ_OK || asked == EVPQ_ENOMEM);
        }
        int acquired = acquire(&c[3], tag, 1000);
        assert_true(acquired == EVPQ_OK || acquired == EVPQ_ENOMEM);
        fake_advance(20);
        story_release(&c[3]);
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        for (int i = 0; i < 4; i++)
            assert_int_equal(c[i].calls, c[i].accepted == EVPQ_OK);
        if (!failed)
            break;
    }
    assert_true(n > 15);
}

static evpq_code answered;

static void on_answer(evpq_result *result, const evpq_error *err, void *user)
{
    (void)result, (void)user;
    answered = evpq_error_code(err);
    assert_int_equal(c[1].calls, 0);
}

static void a_question_of_evpq_waits_before_all_and_for_no_limit(void **state)
{
    (void)state;
    evpq_op *op;
    answered = NOT_CALLED_BACK;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .max_waiters = 2));
    story_acquire(&c[0], 0);
    fake_settle();
    for (int i = 1; i < 3; i++)
        assert_int_equal(ask(&c[i], NULL, 5000), EVPQ_OK);
    limit(EVPQ_POOL_LIMITS(.rate = 1, .window_ms = 60000));
    assert_int_equal(ask(&c[3], NULL, 100), EVPQ_EOVERLOADED);
    const evpq_query *question = EVPQ_QUERY("SELECT 2", .timeout_ms = 900);
    for (int i = 0; i < 2; i++)
        assert_int_equal(evpq__pool_ask(&op, pool, question, on_answer, NULL), EVPQ_OK);
    fake_advance(800); /* more than half of its time */
    assert_int_equal(answered, NOT_CALLED_BACK);
    story_release(&c[0]);
    fake_settle();
    assert_int_equal(answered, EVPQ_OK);
    assert_int_equal(c[1].code, EVPQ_OK);
}

/* Who has none asks again soon; who has some is full, and will answer. */
static void a_question_hears_at_once_that_there_is_no_connection(void **state)
{
    (void)state;
    evpq_op *op;
    const evpq_query *question = EVPQ_QUERY("SELECT 2", .timeout_ms = 900);
    answered = NOT_CALLED_BACK;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2));
    fake_dial_all_wait();
    assert_int_equal(ask(&c[0], NULL, 5000), EVPQ_OK);
    assert_int_equal(evpq__pool_ask(&op, pool, question, on_answer, NULL), EVPQ_OK);
    fake_settle();
    fake_dial_fails(EVPQ_ECONNECT, "", "no", false);
    fake_settle();
    assert_int_equal(answered, EVPQ_ECONNECT);
    assert_int_equal(c[0].calls, 0); /* it waits for the next dial */
    fake_advance(1000);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(c[0].code, EVPQ_OK);

    story_acquire(&c[2], 0);
    fake_settle();
    answered = NOT_CALLED_BACK;
    assert_int_equal(evpq__pool_ask(&op, pool, question, on_answer, NULL), EVPQ_OK);
    fake_settle();
    fake_dial_fails(EVPQ_ECONNECT, "53300", "full", false);
    fake_settle();
    assert_int_equal(answered, NOT_CALLED_BACK);
    story_release(&c[2]);
    fake_settle();
    assert_int_equal(answered, EVPQ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(a_rate_holds_for_the_statements_of_its_tag),
        story_test(as_many_as_the_concurrency_run_at_once),
        story_test(an_overloaded_pool_keeps_its_goodput_and_every_deadline),
        story_test(cancel_and_close_in_a_gate),
        story_test(cancel_at_every_moment_gives_the_permits_back),
        story_test(a_lease_holds_its_permit_until_it_is_released),
        story_test(a_lease_counts_once_for_the_rate),
        story_test(an_acquire_that_ends_at_any_moment_gives_its_permits_back),
        story_test(a_lease_lost_before_it_was_told_keeps_its_permit),
        story_test(a_lease_may_outlive_its_pool_and_its_permits),
        story_test(a_pool_that_closes_lets_the_gated_finish),
        story_test(limits_change_and_nonsense_is_refused),
        story_test(a_question_of_evpq_waits_before_all_and_for_no_limit),
        story_test(a_question_hears_at_once_that_there_is_no_connection),
        story_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
