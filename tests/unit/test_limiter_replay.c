/* SPDX-License-Identifier: MIT */
/*
 * The promise of the limiter, replayed: simulations with a seed log when each
 * permit was told, and then every window of the log is counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <evpq/limiter.h>

#include "base/op.h"
#include "support/flow_story.h"

enum { PERMITS = 200000 };

static evpq_limiter *limiter;
static int64_t told_at[PERMITS];
static size_t told;
static uint64_t waiting;
static bool slow_callbacks;

/* The shape of the arrivals. */
enum pattern { SATURATING, BURSTS, EDGES, ADVERSARY, LATE_BURST, PATTERNS };

struct run {
    uint32_t limit, window_ms, buckets;
    enum pattern pattern;
    uint64_t seed;
};

static void log_permits(uint32_t count)
{
    assert_true(told + count <= PERMITS);
    while (count-- > 0)
        told_at[told++] = fake_now_us();
}

/* `user` is the weight. */
static void on_admitted(const evpq_error *err, void *user)
{
    waiting--;
    if (!err)
        log_permits((uint32_t)(uintptr_t)user);
    if (slow_callbacks && flow_random(4) == 0)
        fake_busy(flow_random(30));
}

/* Permits told at or after this moment. */
static size_t told_since(int64_t since_us)
{
    size_t low = 0, high = told;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (told_at[middle] < since_us)
            low = middle + 1;
        else
            high = middle;
    }
    return told - low;
}

/* A refusal is right only when the window is full: the compact one may see a part more of it. */
static void check_refusal(const struct run *run, uint32_t weight)
{
    int64_t window_us = (int64_t)run->window_ms * 1000;
    if (run->buckets)
        window_us += (window_us + run->buckets - 1) / run->buckets;
    if (waiting == 0 && told_since(fake_now_us() - window_us + 1) + weight <= run->limit)
        fail_msg("refused %u with %zu of %u in the window", weight,
                 told_since(fake_now_us() - window_us + 1), run->limit);
}

static void try_for(const struct run *run, uint32_t weight)
{
    int code = evpq_limiter_try(limiter, weight, NULL);
    if (code == EVPQ_OK)
        log_permits(weight);
    else
        check_refusal(run, weight);
}

static void ask(const struct run *run, uint32_t weight)
{
    if (flow_random(2)) {
        try_for(run, weight);
        return;
    }
    evpq_op *op;
    if (evpq_limiter_wait(&op, limiter, weight, flow_random(3 * run->window_ms) + 1, on_admitted,
                          (void *)(uintptr_t)weight) != EVPQ_OK)
        return;
    waiting++;
    if (flow_random(20) == 0)
        evpq_op_cancel(op);
}

/* How long until the next arrivals, and how many these are. */
static uint32_t next_arrivals(const struct run *run, int step, uint32_t *count)
{
    uint32_t window = run->window_ms;
    switch (run->pattern) {
    case SATURATING:
        *count = 1 + run->limit / 20;
        return window / 50 + 1;
    case BURSTS:
        *count = flow_random(2 * run->limit);
        return flow_random(window);
    case EDGES: /* just before and just behind the edge of a window */
        *count = run->limit;
        return step % 2 ? 2 : window - 1;
    case ADVERSARY: /* whenever the oldest permit may be over, by a millisecond or not yet */
        *count = 1 + flow_random(run->limit / 4 + 1);
        return told ? (uint32_t)((told_at[told - 1 -
                                          flow_random(
                                              (uint32_t)(told < run->limit ? told : run->limit))] +
                                  (int64_t)window * 1000 - fake_now_us()) /
                                 1000) %
                              (window + 1) +
                          flow_random(2)
                    : 0;
    case LATE_BURST:
        *count = step % 10 == 9 ? run->limit : 1;
        return step % 10 == 9 ? window - 1 : window / 10 + 1;
    default:
        fail();
        return 0;
    }
}

/* Of all windows [t, t + length) those that begin with a permit hold the most. */
static void check_windows(const struct run *run)
{
    int64_t window_us = (int64_t)run->window_ms * 1000;
    for (size_t i = run->limit; i < told; i++)
        if (told_at[i] - told_at[i - run->limit] < window_us)
            fail_msg("%u + 1 permits of %u ms within %lld us: buckets %u, pattern %d, seed %llu",
                     run->limit, run->window_ms, (long long)(told_at[i] - told_at[i - run->limit]),
                     run->buckets, (int)run->pattern, (unsigned long long)run->seed);
}

static void simulate(const struct run *run)
{
    told = 0;
    waiting = 0;
    flow_seed(run->seed);
    assert_int_equal(
        evpq_limiter_open(&limiter, fake_ev(),
                          EVPQ_LIMITER_OPTIONS(.limit = run->limit, .window_ms = run->window_ms,
                                               .buckets = run->buckets)),
        EVPQ_OK);
    for (int step = 0; step < 60; step++) {
        uint32_t count;
        fake_advance(next_arrivals(run, step, &count));
        if (flow_random(8) == 0)
            fake_busy(flow_random(run->window_ms));
        while (count-- > 0)
            ask(run, flow_random(5) ? 1 : 1 + flow_random(run->limit));
    }
    fake_advance(4 * run->window_ms);
    assert_int_equal(waiting, 0);
    evpq_limiter_close(limiter);
    fake_settle();
    assert_true(told > 0);
    check_windows(run);
}

static void all_patterns(uint32_t buckets)
{
    static const uint32_t limits[] = {1, 2, 7, 100};
    static const uint32_t windows[] = {1, 10, 1000, 60000};
    for (uint64_t seed = 1; seed <= 12; seed++)
        for (int pattern = 0; pattern < PATTERNS; pattern++)
            for (size_t i = 0; i < 4; i++)
                simulate(&(struct run){.limit = limits[i],
                                       .window_ms = windows[(i + seed) % 4],
                                       .buckets = buckets,
                                       .pattern = (enum pattern)pattern,
                                       .seed = seed});
}

static void no_window_of_the_exact_one_holds_more_than_the_limit(void **state)
{
    (void)state;
    slow_callbacks = false;
    all_patterns(0);
}

static void nor_when_callbacks_are_slow(void **state)
{
    (void)state;
    slow_callbacks = true;
    all_patterns(0);
    all_patterns(10);
}

static void no_window_of_the_compact_one_holds_more_than_the_limit(void **state)
{
    (void)state;
    slow_callbacks = false;
    all_patterns(1);
    all_patterns(10);
    all_patterns(1000);
}

/* While somebody always waits, it admits the limit once a window, and a part of it more. */
static void the_compact_one_admits_as_much_as_it_says(void **state)
{
    (void)state;
    enum { WINDOWS = 30 };
    slow_callbacks = false;
    struct run run = {.limit = 50, .window_ms = 1000};
    for (run.buckets = 0; run.buckets <= 100; run.buckets += 10) {
        told = 0;
        assert_int_equal(
            evpq_limiter_open(&limiter, fake_ev(),
                              EVPQ_LIMITER_OPTIONS(.limit = run.limit, .window_ms = run.window_ms,
                                                   .buckets = run.buckets)),
            EVPQ_OK);
        for (int ms = 0; ms < WINDOWS * 1000; ms++) {
            try_for(&run, 1);
            fake_advance(1);
        }
        evpq_limiter_close(limiter);
        check_windows(&run);
        size_t least = run.buckets ? run.limit * WINDOWS * run.buckets / (run.buckets + 1)
                                   : run.limit * WINDOWS;
        if (told < least)
            fail_msg("%zu admitted with %u buckets, at least %zu promised", told, run.buckets,
                     least);
    }
}

/* It may grow, shrink and be stretched at any time: from then on the new limit holds for what is
 * admitted, with what is remembered of before. */
static void no_window_after_a_change_holds_more_than_the_limit_then(void **state)
{
    (void)state;
    slow_callbacks = false;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct run run = {.limit = 20, .window_ms = 100, .buckets = seed % 2 ? 0 : 10};
        told = 0;
        waiting = 0;
        flow_seed(seed);
        assert_int_equal(
            evpq_limiter_open(&limiter, fake_ev(),
                              EVPQ_LIMITER_OPTIONS(.limit = run.limit, .window_ms = run.window_ms,
                                                   .buckets = run.buckets)),
            EVPQ_OK);
        for (int change = 0; change < 10; change++) {
            for (int step = 0; step < 20; step++) {
                ask(&run, 1 + flow_random(2));
                fake_advance(flow_random(run.window_ms / 4));
            }
            check_windows(&run);
            /* A window that is no longer, or a limit that is no larger: then all is remembered. */
            run.limit = flow_random(2) ? run.limit / 2 + 3 : run.limit;
            run.window_ms = flow_random(2) ? run.window_ms / 2 + 50 : run.window_ms;
            assert_int_equal(evpq_limiter_set_limit(limiter, run.limit, run.window_ms), EVPQ_OK);
            /* What was told under the old limit is over when the next check looks. */
            size_t kept = 0;
            for (size_t i = told > run.limit ? told - run.limit : 0; i < told; i++)
                told_at[kept++] = told_at[i];
            told = kept;
        }
        evpq_limiter_close(limiter);
        fake_settle();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        flow_test(no_window_of_the_exact_one_holds_more_than_the_limit),
        flow_test(nor_when_callbacks_are_slow),
        flow_test(no_window_of_the_compact_one_holds_more_than_the_limit),
        flow_test(the_compact_one_admits_as_much_as_it_says),
        flow_test(no_window_after_a_change_holds_more_than_the_limit_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
