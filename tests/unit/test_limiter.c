/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/limiter.h>

#include "base/op.h"
#include "support/flow_story.h"

static evpq_limiter *limiter;

static void open_limiter(uint32_t limit, uint32_t window_ms)
{
    assert_int_equal(
        evpq_limiter_open(&limiter, fake_ev(),
                          EVPQ_LIMITER_OPTIONS(.limit = limit, .window_ms = window_ms)),
        EVPQ_OK);
}

static void close_limiter(void)
{
    evpq_limiter_close(limiter);
    limiter = NULL;
}

static int wait_for(struct turn *turn, uint32_t weight, uint32_t timeout_ms)
{
    turn_begin(turn);
    turn->weight = weight;
    return turn_started(turn,
                        evpq_limiter_wait(&turn->op, limiter, weight, timeout_ms, on_turn, turn));
}

static evpq_limiter_stats stats(void)
{
    evpq_limiter_stats s = {.size = sizeof(s)};
    assert_int_equal(evpq_limiter_stats_get(limiter, &s), EVPQ_OK);
    return s;
}

static int64_t ms_since(int64_t start_us, const struct turn *turn)
{
    return (turn->at_us - start_us) / 1000;
}

/* Trying */

static void a_try_takes_what_is_free_and_says_when_there_is_more(void **state)
{
    (void)state;
    uint32_t after = 77;
    open_limiter(3, 1000);
    assert_int_equal(evpq_limiter_try(limiter, 2, &after), EVPQ_OK);
    assert_int_equal(after, 77);
    fake_advance(400);
    assert_int_equal(evpq_limiter_try(limiter, 2, &after), EVPQ_ELIMITED);
    assert_int_equal(after, 600);
    assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_OK);
    assert_int_equal(evpq_limiter_try(limiter, 3, &after), EVPQ_ELIMITED);
    assert_int_equal(after, 1000);
    fake_advance(599);
    assert_int_equal(evpq_limiter_try(limiter, 1, &after), EVPQ_ELIMITED);
    assert_int_equal(after, 1);
    fake_advance(1);
    assert_int_equal(evpq_limiter_try(limiter, 2, &after), EVPQ_OK);
    assert_int_equal(stats().admitted, 3);
    assert_int_equal(stats().refused, 3);
    close_limiter();
}

static void a_try_does_not_overtake_who_waits(void **state)
{
    (void)state;
    uint32_t after = 0;
    open_limiter(3, 1000);
    assert_int_equal(evpq_limiter_try(limiter, 2, NULL), EVPQ_OK);
    assert_int_equal(wait_for(&turns[0], 3, 5000), EVPQ_OK);
    assert_int_equal(evpq_limiter_try(limiter, 1, &after), EVPQ_ELIMITED);
    assert_int_equal(after, 1000); /* at least: it is 2000, for the weight before it */
    fake_advance(1000);
    assert_int_equal(turns[0].code, EVPQ_OK);
    close_limiter();
}

static void a_try_after_the_moment_of_a_waiter_comes_behind_it(void **state)
{
    (void)state;
    open_limiter(1, 1000);
    assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_OK);
    assert_int_equal(wait_for(&turns[0], 1, 5000), EVPQ_OK);
    fake_busy(1500); /* the timer is due, and has not fired */
    assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_ELIMITED);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_OK);
    close_limiter();
}

/* Waiting */

static void a_wait_is_told_from_the_loop_also_when_there_is_room(void **state)
{
    (void)state;
    open_limiter(1, 1000);
    assert_int_equal(wait_for(&turns[0], 1, 100), EVPQ_OK);
    assert_int_equal(turns[0].calls, 0);
    assert_int_equal(stats().used, 1);
    assert_int_equal(fake_timers(), 0);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_OK);
    assert_int_equal(stats().used, 1);
    close_limiter();
}

static void sixteen_waiters_of_mixed_weights_come_in_their_order(void **state)
{
    (void)state;
    open_limiter(5, 1000);
    for (int i = 0; i < 16; i++)
        assert_int_equal(wait_for(&turns[i], 1 + (uint32_t)(i * 7 % 5), 60000), EVPQ_OK);
    for (int step = 0; step < 300; step++) {
        fake_advance(100);
        assert_true(fake_timers() <= 16 + 1); /* their deadlines, and one for the first */
    }
    for (int i = 0; i < 16; i++) {
        assert_int_equal(turns[i].code, EVPQ_OK);
        assert_int_equal(turns[i].order, i + 1);
    }
    close_limiter();
}

static void a_heavy_waiter_is_not_starved_by_light_ones(void **state)
{
    (void)state;
    open_limiter(5, 1000);
    int64_t start = fake_now_us();
    assert_int_equal(evpq_limiter_try(limiter, 5, NULL), EVPQ_OK);
    assert_int_equal(wait_for(&turns[0], 5, 10000), EVPQ_OK);
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_ELIMITED);
        assert_int_equal(wait_for(&turns[i], 1, EVPQ_NEVER), EVPQ_OK);
        fake_advance(20);
    }
    assert_int_equal(ms_since(start, &turns[0]), 1000);
    close_limiter();
}

static void who_cannot_be_in_time_is_refused_by_the_call(void **state)
{
    (void)state;
    open_limiter(2, 1000);
    assert_int_equal(evpq_limiter_try(limiter, 2, NULL), EVPQ_OK);
    assert_int_equal(wait_for(&turns[0], 1, 999), EVPQ_ELIMITED);
    assert_int_equal(wait_for(&turns[1], 1, 1000), EVPQ_OK);
    assert_int_equal(wait_for(&turns[2], 1, 1000), EVPQ_OK);
    assert_int_equal(wait_for(&turns[3], 1, 1999), EVPQ_ELIMITED);
    assert_int_equal(wait_for(&turns[4], 1, 2000), EVPQ_OK);
    assert_int_equal(wait_for(&turns[5], 2, 2999), EVPQ_ELIMITED);
    int64_t start = fake_now_us();
    fake_advance(5000);
    assert_int_equal(ms_since(start, &turns[1]), 1000);
    assert_int_equal(ms_since(start, &turns[2]), 1000);
    assert_int_equal(ms_since(start, &turns[4]), 2000);
    assert_int_equal(stats().refused, 3);
    assert_int_equal(stats().timeouts, 0);
    close_limiter();
}

/* Weights of 3 and a limit of 4: one permit of each window lies idle, which no call foresees. */
static void a_heavy_waiter_that_could_not_be_foreseen_ends_at_its_deadline(void **state)
{
    (void)state;
    open_limiter(4, 1000);
    int64_t start = fake_now_us();
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_for(&turns[i], 3, 2500), EVPQ_OK);
    fake_advance(5000);
    assert_int_equal(ms_since(start, &turns[2]), 2000);
    assert_int_equal(turns[3].code, EVPQ_ETIMEOUT);
    assert_int_equal(ms_since(start, &turns[3]), 2500);
    assert_int_equal(stats().timeouts, 1);
    close_limiter();
}

static void cancel_at_every_position_gives_the_place_to_those_behind(void **state)
{
    (void)state;
    enum { WAITERS = 16 };
    for (int position = 0; position < WAITERS; position++) {
        open_limiter(1, 1000);
        assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_OK);
        int64_t start = fake_now_us();
        for (int i = 0; i < WAITERS; i++)
            assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
        fake_advance(500);
        evpq_op_cancel(turns[position].op);
        assert_int_equal(turns[position].calls, 0);
        fake_advance(30000);
        for (int i = 0; i < WAITERS; i++)
            if (i == position)
                assert_int_equal(turns[i].code, EVPQ_ECANCELED);
            else
                assert_int_equal(ms_since(start, &turns[i]), 1000 * (i < position ? i + 1 : i));
        assert_int_equal(stats().canceled, 1);
        assert_int_equal(stats().waiting, 0);
        close_limiter();
    }
}

static void cancel_of_a_heavy_first_lets_the_light_behind_it_go_now(void **state)
{
    (void)state;
    open_limiter(3, 1000);
    assert_int_equal(evpq_limiter_try(limiter, 2, NULL), EVPQ_OK);
    assert_int_equal(wait_for(&turns[0], 2, 5000), EVPQ_OK);
    assert_int_equal(wait_for(&turns[1], 1, 5000), EVPQ_OK);
    evpq_op_cancel(turns[0].op);
    int64_t start = fake_now_us();
    fake_settle();
    assert_int_equal(turns[1].code, EVPQ_OK);
    assert_int_equal(ms_since(start, &turns[1]), 0);
    close_limiter();
}

static void a_deadline_at_every_position_lets_those_behind_go_on(void **state)
{
    (void)state;
    enum { WAITERS = 16 };
    for (int position = 0; position < WAITERS; position++) {
        open_limiter(4, 1000);
        int64_t start = fake_now_us();
        assert_int_equal(evpq_limiter_try(limiter, 4, NULL), EVPQ_OK);
        for (int i = 0; i < WAITERS; i++) {
            /* As if no permit lay idle: from the fourth on that is too short. */
            uint32_t late = i == position ? 1000u * ((3u * (uint32_t)i + 2u) / 4u + 1u) : 60000;
            assert_int_equal(wait_for(&turns[i], 3, late), EVPQ_OK);
        }
        fake_advance(40000);
        int behind = 0;
        for (int i = 0; i < WAITERS; i++) {
            bool expired = turns[i].code == EVPQ_ETIMEOUT;
            assert_int_equal(expired, i == position && i >= 3);
            assert_int_equal(ms_since(start, &turns[i]),
                             expired ? 1000 * ((3 * i + 2) / 4 + 1) : 1000 * (i + 1 - behind));
            behind += expired;
        }
        close_limiter();
    }
}

static void close_with_waiters_tells_each_of_them(void **state)
{
    (void)state;
    open_limiter(2, 1000);
    for (int i = 0; i < 10; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    close_limiter();
    assert_int_equal(turns_called(), 0);
    fake_settle();
    for (int i = 0; i < 10; i++)
        assert_int_equal(turns[i].code, i < 2 ? EVPQ_OK : EVPQ_ECLOSED);
}

/* Callbacks that call */

static void wait_again(struct turn *turn)
{
    if (turn < &turns[50])
        assert_int_equal(wait_for(turn + 1, 1, 60000), EVPQ_OK);
}

static void a_callback_may_wait_again(void **state)
{
    (void)state;
    open_limiter(10, 1000);
    int64_t start = fake_now_us();
    for (int i = 0; i < 50; i++)
        turns[i].inside = wait_again;
    assert_int_equal(wait_for(&turns[0], 1, 100), EVPQ_OK);
    fake_advance(20000);
    assert_int_equal(ms_since(start, &turns[50]), 5000);
    close_limiter();
}

static void cancel_the_next(struct turn *turn)
{
    evpq_op_cancel(turn[1].op);
    evpq_op_cancel(turn->op);
}

static void a_callback_may_cancel_others_and_itself(void **state)
{
    (void)state;
    open_limiter(1, 1000);
    turns[0].inside = cancel_the_next;
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    int64_t start = fake_now_us();
    fake_advance(1000);
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
    assert_int_equal(ms_since(start, &turns[2]), 1000);
    close_limiter();
}

static void close_inside(struct turn *turn)
{
    (void)turn;
    close_limiter();
}

static void a_callback_may_close_the_limiter(void **state)
{
    (void)state;
    for (int closer = 0; closer < 6; closer++) {
        memset(turns, 0, sizeof(turns));
        open_limiter(3, 1000);
        turns[closer].inside = close_inside;
        for (int i = 0; i < 6; i++)
            assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
        fake_advance(1000);
        assert_null(limiter);
        for (int i = 0; i < 6; i++)
            assert_int_equal(turns[i].code, i < 3 || closer >= 3 ? EVPQ_OK : EVPQ_ECLOSED);
    }
}

/* A callback keeps the thread busy: what is told after it counts from then. */
static void busy_inside(struct turn *turn)
{
    (void)turn;
    fake_busy(700);
}

static void permits_count_from_when_they_are_told(void **state)
{
    (void)state;
    open_limiter(2, 1000);
    turns[0].inside = busy_inside;
    int64_t start = fake_now_us();
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    fake_advance(10000);
    assert_int_equal(ms_since(start, &turns[1]), 700);
    assert_int_equal(ms_since(start, &turns[2]), 1000);
    assert_int_equal(ms_since(start, &turns[3]), 1700);
    close_limiter();
}

/* Changing the limit */

static void a_higher_limit_lets_waiters_go_at_once(void **state)
{
    (void)state;
    open_limiter(1, 1000);
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns_called(), 1);
    assert_int_equal(evpq_limiter_set_limit(limiter, 3, 1000), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns_called(), 3);
    fake_advance(1000);
    assert_int_equal(turns_called(), 4);
    assert_int_equal(stats().limit, 3);
    close_limiter();
}

static void a_lower_limit_tells_who_will_not_be_in_time(void **state)
{
    (void)state;
    open_limiter(4, 1000);
    assert_int_equal(evpq_limiter_try(limiter, 4, NULL), EVPQ_OK);
    int64_t start = fake_now_us();
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_for(&turns[i], 1, 2000), EVPQ_OK);
    assert_int_equal(wait_for(&turns[4], 3, 60000), EVPQ_OK);
    assert_int_equal(evpq_limiter_set_limit(limiter, 2, 1500), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[0].calls + turns[1].calls, 0);
    assert_int_equal(turns[2].code, EVPQ_ELIMITED);
    assert_int_equal(turns[3].code, EVPQ_ELIMITED);
    assert_int_equal(turns[4].code, EVPQ_EINVALID);
    fake_advance(10000);
    assert_int_equal(ms_since(start, &turns[0]), 1500);
    assert_int_equal(ms_since(start, &turns[1]), 1500);
    close_limiter();
}

static void the_limit_may_change_while_some_are_granted_and_not_told(void **state)
{
    (void)state;
    open_limiter(8, 1000);
    int64_t start = fake_now_us();
    for (int i = 0; i < 8; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    assert_int_equal(evpq_limiter_set_limit(limiter, 2, 1000), EVPQ_OK);
    for (int i = 8; i < 12; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_ELIMITED);
    fake_advance(10000);
    for (int i = 0; i < 12; i++)
        assert_int_equal(ms_since(start, &turns[i]), i < 8 ? 0 : i < 10 ? 1000 : 2000);
    close_limiter();
}

/* Bounds and nonsense */

static void more_than_max_waiters_are_refused(void **state)
{
    (void)state;
    assert_int_equal(
        evpq_limiter_open(&limiter, fake_ev(),
                          EVPQ_LIMITER_OPTIONS(.limit = 1, .window_ms = 1000, .max_waiters = 2)),
        EVPQ_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_for(&turns[i], 1, 60000), EVPQ_OK);
    assert_int_equal(wait_for(&turns[3], 1, 60000), EVPQ_EOVERLOADED);
    assert_int_equal(stats().waiting, 2);
    close_limiter();
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const struct {
        evpq_limiter_options options;
        const char *names;
    } bad[] = {
        {{.size = sizeof(evpq_limiter_options)}, "limit"},
        {{.size = sizeof(evpq_limiter_options), .limit = 1}, "window_ms"},
        {{.size = sizeof(evpq_limiter_options), .window_ms = 1}, "limit"},
        {{.size = sizeof(evpq_limiter_options), .limit = 1, .window_ms = EVPQ_NEVER}, "EVPQ_NEVER"},
        {{.size = sizeof(evpq_limiter_options), .limit = 1 << 25, .window_ms = 1}, "16,777,216"},
        {{.size = sizeof(evpq_limiter_options), .limit = UINT32_MAX, .window_ms = 1, .buckets = 10},
         "1,000,000,000"},
        {{.size = sizeof(evpq_limiter_options), .limit = 1, .window_ms = 1, .buckets = 1001},
         "1,000"},
        {{.limit = 1, .window_ms = 1}, "size"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(evpq_limiter_open(&limiter, fake_ev(), &bad[i].options), EVPQ_EINVALID);
        assert_non_null(strstr(evpq_limiter_options_problem(&bad[i].options), bad[i].names));
    }
    assert_non_null(evpq_limiter_options_problem(NULL));
    assert_int_equal(evpq_limiter_open(&limiter, fake_ev(), NULL), EVPQ_EINVALID);
    const evpq_limiter_options *good = EVPQ_LIMITER_OPTIONS(.limit = 5, .window_ms = 1);
    assert_null(evpq_limiter_options_problem(good));
    assert_int_equal(evpq_limiter_open(NULL, fake_ev(), good), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_open(&limiter, NULL, good), EVPQ_EINVALID);
    evpq_limiter_close(NULL);

    open_limiter(5, 1000);
    int negative = -1;
    assert_int_equal(evpq_limiter_try(NULL, 1, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_try(limiter, 0, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_try(limiter, 6, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_try(limiter, (uint32_t)negative, NULL), EVPQ_EINVALID);
    assert_int_equal(wait_for(&turns[0], 0, 0), EVPQ_EINVALID);
    assert_int_equal(wait_for(&turns[0], 6, 0), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_wait(NULL, NULL, 1, 0, on_turn, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_wait(NULL, limiter, 1, 0, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_set_limit(limiter, 0, 1), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_set_limit(limiter, 1, 0), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_set_limit(NULL, 1, 1), EVPQ_EINVALID);
    evpq_limiter_stats s = {.size = sizeof(s) + 1};
    assert_int_equal(evpq_limiter_stats_get(limiter, &s), EVPQ_EINVALID);
    assert_int_equal(evpq_limiter_stats_get(limiter, NULL), EVPQ_EINVALID);
    assert_int_equal(stats().used, 0);
    close_limiter();
}

/* The largest of everything, in front of a long line: no moment overflows. */
static void the_largest_numbers_do_not_overflow(void **state)
{
    (void)state;
    uint32_t after = 0;
    for (uint32_t buckets = 0; buckets <= 1000; buckets += 1000) {
        uint32_t limit = buckets ? 1000000000 : 3;
        assert_int_equal(
            evpq_limiter_open(&limiter, fake_ev(),
                              EVPQ_LIMITER_OPTIONS(.limit = limit, .window_ms = EVPQ_NEVER - 1,
                                                   .buckets = buckets)),
            EVPQ_OK);
        for (int i = 0; i < 4000; i++)
            assert_int_equal(wait_for(&turns[i], limit, EVPQ_NEVER), EVPQ_OK);
        assert_int_equal(evpq_limiter_try(limiter, limit, &after), EVPQ_ELIMITED);
        assert_int_equal(after, EVPQ_NEVER);
        assert_int_equal(wait_for(&turns[4000], limit, EVPQ_NEVER - 1), EVPQ_ELIMITED);
        close_limiter();
        fake_settle();
    }
}

static void tell_a_story(void)
{
    evpq_limiter *l;
    if (evpq_limiter_open(&l, fake_ev(), EVPQ_LIMITER_OPTIONS(.limit = 2, .window_ms = 100)))
        return;
    limiter = l;
    for (int i = 0; i < 6; i++)
        (void)wait_for(&turns[i], 1, 1000);
    evpq_op_cancel(turns[3].accepted == EVPQ_OK ? turns[3].op : NULL);
    fake_advance(50);
    int changed = evpq_limiter_set_limit(limiter, 1, 200);
    assert_true(changed == EVPQ_OK || changed == EVPQ_ENOMEM);
    fake_advance(100);
    close_limiter();
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
        flow_test(a_try_takes_what_is_free_and_says_when_there_is_more),
        flow_test(a_try_does_not_overtake_who_waits),
        flow_test(a_try_after_the_moment_of_a_waiter_comes_behind_it),
        flow_test(a_wait_is_told_from_the_loop_also_when_there_is_room),
        flow_test(sixteen_waiters_of_mixed_weights_come_in_their_order),
        flow_test(a_heavy_waiter_is_not_starved_by_light_ones),
        flow_test(who_cannot_be_in_time_is_refused_by_the_call),
        flow_test(a_heavy_waiter_that_could_not_be_foreseen_ends_at_its_deadline),
        flow_test(cancel_at_every_position_gives_the_place_to_those_behind),
        flow_test(cancel_of_a_heavy_first_lets_the_light_behind_it_go_now),
        flow_test(a_deadline_at_every_position_lets_those_behind_go_on),
        flow_test(close_with_waiters_tells_each_of_them),
        flow_test(a_callback_may_wait_again),
        flow_test(a_callback_may_cancel_others_and_itself),
        flow_test(a_callback_may_close_the_limiter),
        flow_test(permits_count_from_when_they_are_told),
        flow_test(a_higher_limit_lets_waiters_go_at_once),
        flow_test(a_lower_limit_tells_who_will_not_be_in_time),
        flow_test(the_limit_may_change_while_some_are_granted_and_not_told),
        flow_test(more_than_max_waiters_are_refused),
        flow_test(nonsense_is_refused),
        flow_test(the_largest_numbers_do_not_overflow),
        flow_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
