/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/semaphore.h>

#include "base/op.h"
#include "support/flow_story.h"

static evpq_semaphore *semaphore;

static void open_semaphore(uint32_t limit)
{
    assert_int_equal(
        evpq_semaphore_open(&semaphore, fake_ev(), EVPQ_SEMAPHORE_OPTIONS(.limit = limit)),
        EVPQ_OK);
}

static void close_semaphore(void)
{
    evpq_semaphore_close(semaphore);
    semaphore = NULL;
}

static int acquire(struct turn *turn, uint32_t weight, uint32_t timeout_ms)
{
    turn_begin(turn);
    turn->weight = weight;
    return turn_started(
        turn, evpq_semaphore_acquire(&turn->op, semaphore, weight, timeout_ms, on_turn, turn));
}

static void release(uint32_t weight)
{
    assert_int_equal(evpq_semaphore_release(semaphore, weight), EVPQ_OK);
}

static evpq_semaphore_stats stats(void)
{
    evpq_semaphore_stats s = {.size = sizeof(s)};
    assert_int_equal(evpq_semaphore_stats_get(semaphore, &s), EVPQ_OK);
    return s;
}

static void as_many_as_the_limit_hold_it_at_once(void **state)
{
    (void)state;
    open_semaphore(3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(acquire(&turns[i], 1, 60000), EVPQ_OK);
    assert_int_equal(turns_called(), 0);
    fake_settle();
    assert_int_equal(turns_called(), 3);
    assert_int_equal(stats().in_use, 3);
    assert_int_equal(stats().waiting, 2);
    release(1);
    assert_int_equal(turns_called(), 3);
    fake_settle();
    assert_int_equal(turns[3].code, EVPQ_OK);
    release(2);
    fake_settle();
    assert_int_equal(turns[4].code, EVPQ_OK);
    release(2);
    assert_int_equal(stats().in_use, 0);
    close_semaphore();
}

static void a_try_is_refused_when_there_is_none_or_somebody_waits(void **state)
{
    (void)state;
    open_semaphore(3);
    assert_int_equal(evpq_semaphore_try(semaphore, 2), EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 2), EVPQ_EOVERLOADED);
    assert_int_equal(acquire(&turns[0], 2, 60000), EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_EOVERLOADED);
    evpq_op_cancel(turns[0].op);
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_ECANCELED);
    release(3);
    close_semaphore();
}

static void give_back(struct turn *turn)
{
    if (turn->code == EVPQ_OK)
        release(turn->weight);
}

static void sixteen_waiters_of_mixed_weights_come_in_their_order(void **state)
{
    (void)state;
    open_semaphore(5);
    assert_int_equal(evpq_semaphore_try(semaphore, 5), EVPQ_OK);
    for (int i = 0; i < 16; i++) {
        turns[i].inside = i % 3 ? give_back : NULL;
        assert_int_equal(acquire(&turns[i], 1 + (uint32_t)(i * 7 % 5), 60000), EVPQ_OK);
    }
    release(5);
    for (int i = 0; i < 16; i++) {
        fake_settle();
        for (int before = 0; before <= i; before++)
            assert_int_equal(turns[before].order, before + 1);
        if (i % 3 == 0)
            release(turns[i].weight);
    }
    assert_int_equal(stats().in_use, 0);
    close_semaphore();
}

static void a_heavy_waiter_is_not_starved_by_light_ones(void **state)
{
    (void)state;
    open_semaphore(4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
    assert_int_equal(acquire(&turns[0], 4, 60000), EVPQ_OK);
    for (int i = 1; i <= 4; i++) {
        assert_int_equal(acquire(&turns[i], 1, 60000), EVPQ_OK);
        release(1);
        fake_settle();
        assert_int_equal(turns[0].calls, i == 4);
        assert_int_equal(turns[i].calls, 0);
    }
    release(4);
    fake_settle();
    assert_int_equal(turns_called(), 5);
    release(4);
    close_semaphore();
}

static void cancel_or_deadline_at_every_position(void **state)
{
    (void)state;
    enum { WAITERS = 16 };
    for (int position = 0; position < 2 * WAITERS; position++) {
        int who = position / 2;
        bool cancel = position % 2;
        open_semaphore(3);
        assert_int_equal(evpq_semaphore_try(semaphore, 3), EVPQ_OK);
        for (int i = 0; i < WAITERS; i++) {
            turns[i].inside = give_back;
            assert_int_equal(acquire(&turns[i], 1 + (uint32_t)i % 3, i == who ? 100 : 60000),
                             EVPQ_OK);
        }
        int first = turns_called();
        if (cancel)
            evpq_op_cancel(turns[who].op);
        assert_int_equal(turns[who].calls, 0);
        fake_advance(100);
        assert_int_equal(turns_called(), first + 1);
        release(3);
        fake_settle();
        for (int i = 0; i < WAITERS; i++)
            assert_int_equal(turns[i].code, i != who ? EVPQ_OK
                                            : cancel ? EVPQ_ECANCELED
                                                     : EVPQ_ETIMEOUT);
        assert_int_equal(stats().in_use, 0);
        assert_int_equal(stats().waiting, 0);
        assert_int_equal(stats().timeouts, !cancel);
        assert_int_equal(stats().canceled, cancel);
        close_semaphore();
    }
}

static void a_heavy_first_that_leaves_lets_the_light_behind_it_go(void **state)
{
    (void)state;
    open_semaphore(3);
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
    assert_int_equal(acquire(&turns[0], 3, 100), EVPQ_OK);
    assert_int_equal(acquire(&turns[1], 2, 60000), EVPQ_OK);
    fake_advance(100);
    assert_int_equal(turns[0].code, EVPQ_ETIMEOUT);
    assert_int_equal(turns[1].code, EVPQ_OK);
    release(3);
    close_semaphore();
}

static void cancel_after_the_grant_changes_nothing(void **state)
{
    (void)state;
    open_semaphore(1);
    assert_int_equal(acquire(&turns[0], 1, 60000), EVPQ_OK);
    evpq_op_cancel(turns[0].op);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_OK);
    assert_int_equal(stats().in_use, 1);
    release(1);
    close_semaphore();
}

static void close_tells_who_waits_and_waits_for_what_is_held(void **state)
{
    (void)state;
    open_semaphore(2);
    evpq_semaphore *kept = semaphore;
    for (int i = 0; i < 4; i++)
        assert_int_equal(acquire(&turns[i], 1, 60000), EVPQ_OK);
    close_semaphore();
    fake_settle();
    for (int i = 0; i < 4; i++)
        assert_int_equal(turns[i].code, i < 2 ? EVPQ_OK : EVPQ_ECLOSED);
    assert_true(fake_mem_bytes() > 0);
    assert_int_equal(evpq_semaphore_release(kept, 1), EVPQ_OK);
    assert_int_equal(evpq_semaphore_release(kept, 1), EVPQ_OK);
    assert_int_equal(fake_mem_bytes(), 0);
}

static void close_inside(struct turn *turn)
{
    evpq_semaphore *kept = semaphore;
    close_semaphore();
    assert_int_equal(evpq_semaphore_release(kept, turn->weight), EVPQ_OK);
}

static void acquire_inside(struct turn *turn)
{
    release(turn->weight);
    if (turn < &turns[100])
        assert_int_equal(acquire(turn + 1, 1, 60000), EVPQ_OK);
    else
        close_semaphore();
}

static void cancel_inside(struct turn *turn)
{
    evpq_op_cancel(turn[1].op);
    release(turn->weight);
}

static void callbacks_may_acquire_cancel_and_close(void **state)
{
    (void)state;
    open_semaphore(1);
    turns[0].inside = close_inside;
    for (int i = 0; i < 3; i++)
        assert_int_equal(acquire(&turns[i], 1, 60000), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_OK);
    assert_int_equal(turns[2].code, EVPQ_ECLOSED);

    memset(turns, 0, sizeof(turns));
    open_semaphore(1);
    turns[0].inside = cancel_inside;
    turns[2].inside = give_back;
    for (int i = 0; i < 3; i++)
        assert_int_equal(acquire(&turns[i], 1, 60000), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
    assert_int_equal(turns[2].code, EVPQ_OK);
    close_semaphore();

    memset(turns, 0, sizeof(turns));
    open_semaphore(1);
    for (int i = 0; i <= 100; i++)
        turns[i].inside = acquire_inside;
    assert_int_equal(acquire(&turns[0], 1, 60000), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[100].code, EVPQ_OK);
}

/* Limits */

static void a_limit_changes_at_run_time(void **state)
{
    (void)state;
    open_semaphore(4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(acquire(&turns[i], 1, 60000), EVPQ_OK);
    assert_int_equal(acquire(&turns[4], 3, 60000), EVPQ_OK);
    assert_int_equal(acquire(&turns[5], 1, 60000), EVPQ_OK);
    assert_int_equal(evpq_semaphore_set_limit(semaphore, 2), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[4].code, EVPQ_EINVALID);
    assert_int_equal(stats().in_use, 4); /* nothing is taken away */
    release(2);
    fake_settle();
    assert_int_equal(turns[5].calls, 0);
    release(1);
    fake_settle();
    assert_int_equal(turns[5].code, EVPQ_OK);
    assert_int_equal(acquire(&turns[6], 1, 60000), EVPQ_OK);
    assert_int_equal(evpq_semaphore_set_limit(semaphore, 10), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[6].code, EVPQ_OK);
    release(3);
    close_semaphore();
}

static struct evpq_error with_code(evpq_code code, const char *sqlstate)
{
    struct evpq_error err = {0};
    evpq__error_set_report(&err, code, EVPQ_NOT_SENT,
                           &(struct evpq__server_report){.message = "m", .sqlstate = sqlstate});
    return err;
}

static void report(evpq_code code, const char *sqlstate)
{
    struct evpq_error err = with_code(code, sqlstate);
    evpq_semaphore_report(semaphore, &err);
    evpq__error_clear(&err);
}

static void only_signals_of_overload_lower_the_limit(void **state)
{
    (void)state;
    static const struct {
        evpq_code code;
        const char *sqlstate;
        bool lowers;
    } signals[] = {
        {EVPQ_ETIMEOUT, NULL, true},       {EVPQ_EOVERLOADED, NULL, true},
        {EVPQ_ECONNECT, NULL, true},       {EVPQ_ECONNECT, "53300", true},
        {EVPQ_ECONNECT, "57P03", true},    {EVPQ_ECONNECT, "28P01", false},
        {EVPQ_ESERVER, "53200", true},     {EVPQ_ESERVER, "42P01", false},
        {EVPQ_ESERVER, "23505", false},    {EVPQ_ESERVER, "40001", false},
        {EVPQ_ECANCELED, NULL, false},     {EVPQ_ECLOSED, NULL, false},
        {EVPQ_EDISCONNECTED, NULL, false}, {EVPQ_ETOOLARGE, NULL, false},
        {EVPQ_ELIMITED, NULL, false},
    };
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        assert_int_equal(evpq_semaphore_open(&semaphore, fake_ev(),
                                             EVPQ_SEMAPHORE_OPTIONS(.limit = 20, .adaptive = true)),
                         EVPQ_OK);
        report(signals[i].code, signals[i].sqlstate);
        if (stats().limit != (signals[i].lowers ? 18 : 20))
            fail_msg("%s %s: %u", evpq_code_name(signals[i].code),
                     signals[i].sqlstate ? signals[i].sqlstate : "", stats().limit);
        close_semaphore();
        open_semaphore(20);
        report(signals[i].code, signals[i].sqlstate);
        assert_int_equal(stats().limit, 20);
        close_semaphore();
    }
}

static void what_fails_together_counts_once_and_the_limit_recovers(void **state)
{
    (void)state;
    assert_int_equal(
        evpq_semaphore_open(&semaphore, fake_ev(),
                            EVPQ_SEMAPHORE_OPTIONS(.limit = 20, .adaptive = true, .min_limit = 2)),
        EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 20), EVPQ_OK);
    for (int i = 0; i < 20; i++)
        report(EVPQ_ETIMEOUT, NULL);
    assert_int_equal(stats().limit, 18);
    assert_int_equal(stats().lowered, 1);
    for (int i = 0; i < 2000; i++)
        report(EVPQ_ETIMEOUT, NULL);
    assert_int_equal(stats().limit, 2);
    for (int i = 0; i < 20; i++) /* the last signal is over */
        evpq_semaphore_report(semaphore, NULL);
    assert_true(stats().limit <= 5);
    int reports = 0;
    for (; stats().limit < 20; reports++)
        evpq_semaphore_report(semaphore, NULL);
    assert_in_range(reports, 150, 220);
    /* Nobody learns from less than half of it. */
    assert_int_equal(evpq_semaphore_release(semaphore, 15), EVPQ_OK);
    report(EVPQ_ETIMEOUT, NULL);
    assert_int_equal(stats().limit, 18);
    for (int i = 0; i < 1000; i++)
        evpq_semaphore_report(semaphore, NULL);
    assert_int_equal(stats().limit, 18);
    release(5);
    close_semaphore();
}

static void who_weighs_more_than_the_limit_in_force_goes_alone(void **state)
{
    (void)state;
    assert_int_equal(evpq_semaphore_open(&semaphore, fake_ev(),
                                         EVPQ_SEMAPHORE_OPTIONS(.limit = 10, .adaptive = true)),
                     EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
    for (int i = 0; i < 100; i++)
        report(EVPQ_ETIMEOUT, NULL);
    assert_int_equal(stats().limit, 1);
    assert_int_equal(acquire(&turns[0], 10, 60000), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[0].calls, 0);
    release(1);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_OK);
    release(10);
    close_semaphore();
}

/* Bounds and nonsense */

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const struct {
        evpq_semaphore_options options;
        const char *names;
    } bad[] = {
        {{.size = sizeof(evpq_semaphore_options)}, "limit"},
        {{.size = sizeof(evpq_semaphore_options), .limit = UINT32_MAX}, "1,000,000,000"},
        {{.size = sizeof(evpq_semaphore_options), .limit = 1, .adaptive = true, .min_limit = 2},
         "min_limit"},
        {{.size = sizeof(evpq_semaphore_options), .limit = 3, .min_limit = 2}, "adaptive"},
        {{.limit = 1}, "size"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(evpq_semaphore_open(&semaphore, fake_ev(), &bad[i].options),
                         EVPQ_EINVALID);
        assert_non_null(strstr(evpq_semaphore_options_problem(&bad[i].options), bad[i].names));
    }
    assert_int_equal(evpq_semaphore_open(&semaphore, fake_ev(), NULL), EVPQ_EINVALID);
    const evpq_semaphore_options *good = EVPQ_SEMAPHORE_OPTIONS(.limit = 3, .max_waiters = 1);
    assert_null(evpq_semaphore_options_problem(good));
    assert_int_equal(evpq_semaphore_open(&semaphore, NULL, good), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_open(NULL, fake_ev(), good), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_open(&semaphore, fake_ev(), good), EVPQ_OK);
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_EINVALID); /* without acquire */
    int negative = -1;
    assert_int_equal(evpq_semaphore_try(semaphore, 0), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_try(semaphore, 4), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_try(semaphore, (uint32_t)negative), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_try(NULL, 1), EVPQ_EINVALID);
    assert_int_equal(acquire(&turns[0], 0, 0), EVPQ_EINVALID);
    assert_int_equal(acquire(&turns[0], 4, 0), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_acquire(NULL, semaphore, 1, 0, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_acquire(NULL, NULL, 1, 0, on_turn, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_try(semaphore, 2), EVPQ_OK);
    assert_int_equal(evpq_semaphore_release(semaphore, 3), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_release(semaphore, 0), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_release(NULL, 1), EVPQ_EINVALID);
    assert_int_equal(stats().in_use, 2);
    assert_int_equal(acquire(&turns[1], 2, 60000), EVPQ_OK);
    assert_int_equal(acquire(&turns[2], 1, 60000), EVPQ_EOVERLOADED);
    assert_int_equal(evpq_semaphore_set_limit(semaphore, 0), EVPQ_EINVALID);
    assert_int_equal(evpq_semaphore_set_limit(NULL, 1), EVPQ_EINVALID);
    evpq_semaphore_stats s = {.size = sizeof(s) + 1};
    assert_int_equal(evpq_semaphore_stats_get(semaphore, &s), EVPQ_EINVALID);
    evpq_semaphore_report(NULL, NULL);
    release(2);
    fake_settle();
    release(2);
    close_semaphore();
    evpq_semaphore_close(NULL);
}

/* Seeded: whatever happens, no more than the limit are held, and all in order. */
static void any_order_of_events_keeps_the_count(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        flow_seed(seed);
        memset(turns, 0, sizeof(turns));
        open_semaphore(6);
        int next = 0, released = 0, told_before = turns_called();
        while (released < 200) {
            switch (flow_random(6)) {
            case 0:
            case 1:
                if (next < 300)
                    assert_int_equal(
                        acquire(&turns[next], 1 + flow_random(6), 50 + flow_random(500)), EVPQ_OK);
                next += next < 300;
                break;
            case 2:
                if (next > 0) {
                    struct turn *any = &turns[flow_random((uint32_t)next)];
                    if (any->calls == 0)
                        evpq_op_cancel(any->op);
                }
                break;
            default:
                fake_advance(flow_random(20));
                for (int i = 0; i < next; i++)
                    if (turns[i].calls && turns[i].code == EVPQ_OK && turns[i].weight &&
                        flow_random(3)) {
                        release(turns[i].weight);
                        turns[i].weight = 0;
                    }
                released += next == 300;
            }
            uint32_t held = 0;
            for (int i = 0; i < next; i++)
                held += turns[i].calls && turns[i].code == EVPQ_OK ? turns[i].weight : 0;
            assert_true(held <= stats().in_use && stats().in_use <= 6);
        }
        fake_advance(1000);
        int last = told_before;
        for (int i = 0; i < next; i++) {
            if (turns[i].code == EVPQ_OK) {
                assert_true(turns[i].order > last);
                last = turns[i].order;
            }
            if (turns[i].code == EVPQ_OK && turns[i].weight)
                release(turns[i].weight);
        }
        fake_settle();
        assert_int_equal(stats().waiting, 0);
        assert_int_equal(stats().in_use, 0);
        close_semaphore();
    }
}

static void tell_a_story(void)
{
    if (evpq_semaphore_open(&semaphore, fake_ev(), EVPQ_SEMAPHORE_OPTIONS(.limit = 2)) != EVPQ_OK)
        return;
    for (int i = 0; i < 6; i++) {
        turns[i].inside = give_back;
        (void)acquire(&turns[i], 1 + (uint32_t)i % 2, 1000);
    }
    if (turns[3].accepted == EVPQ_OK)
        evpq_op_cancel(turns[3].op);
    fake_advance(100);
    close_semaphore();
    fake_settle();
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    int n = 1;
    for (;; n++) {
        fake_mem_fail_at(n);
        tell_a_story();
        if (!fake_mem_has_failed())
            break;
    }
    fake_mem_fail_at(0);
    assert_true(n > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        flow_test(as_many_as_the_limit_hold_it_at_once),
        flow_test(a_try_is_refused_when_there_is_none_or_somebody_waits),
        flow_test(sixteen_waiters_of_mixed_weights_come_in_their_order),
        flow_test(a_heavy_waiter_is_not_starved_by_light_ones),
        flow_test(cancel_or_deadline_at_every_position),
        flow_test(a_heavy_first_that_leaves_lets_the_light_behind_it_go),
        flow_test(cancel_after_the_grant_changes_nothing),
        flow_test(close_tells_who_waits_and_waits_for_what_is_held),
        flow_test(callbacks_may_acquire_cancel_and_close),
        flow_test(a_limit_changes_at_run_time),
        flow_test(only_signals_of_overload_lower_the_limit),
        flow_test(what_fails_together_counts_once_and_the_limit_recovers),
        flow_test(who_weighs_more_than_the_limit_in_force_goes_alone),
        flow_test(nonsense_is_refused),
        flow_test(any_order_of_events_keeps_the_count),
        flow_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
