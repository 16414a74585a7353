/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/pool_story.h"

/*
 * Stories that nobody has thought of: anything happens in any order, by a
 * seed. Whatever it was, each accepted call calls back once and by its
 * deadline, there are never more connections than max_size, and nothing is
 * left.
 */

enum { SEEDS = 400, STEPS = 300, CALLS = STORY_CALLS };

static unsigned long seed, the_seed; /* now, and as the story began */
static int used;                     /* of story_calls */
static int64_t deadline_us[CALLS];

static unsigned random_below(unsigned limit)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % limit;
}

static struct call *random_call(void)
{
    return used ? &story_calls[random_below((unsigned)used)] : NULL;
}

static const char *random_sql(void)
{
    static const char *const texts[] = {"SELECT 1", "SELECT 1", "FAIL", "BEGIN",
                                        "ROLLBACK", "HANG",     "HANG", "DIE"};
    return texts[random_below(8)];
}

static void started_call(struct call *call, uint32_t timeout_ms)
{
    deadline_us[used++] = fake_now_us() + (int64_t)timeout_ms * 1000;
    if (call->accepted != EVPQ_OK)
        call->op = NULL;
}

static PGconn *random_pg(void)
{
    int count = fake_pg_count();
    return count ? fake_pg((int)random_below((unsigned)count)) : NULL;
}

static void ask_something(void)
{
    struct call *call = &story_calls[used];
    uint32_t timeout_ms = 1 + random_below(500);
    struct call *lender = random_call();
    if (random_below(3) == 0)
        story_acquire(call, timeout_ms);
    else if (lender && lender->lease && random_below(3) > 0)
        story_lease_ask(call, lender->lease, random_sql(), timeout_ms);
    else
        story_ask(call, random_sql(), timeout_ms);
    started_call(call, timeout_ms);
}

static void something_happens_to_the_server(void)
{
    PGconn *pg = random_pg();
    if (!pg)
        return;
    switch (random_below(6)) {
    case 0:
        fake_loses(pg, random_below(2), "gone\n");
        break;
    case 1:
        fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
        break;
    case 2:
        fake_pg_block(pg, true);
        break;
    case 3:
        fake_pg_block(pg, false);
        break;
    case 4:
        if (fake_pg_waits(pg))
            fake_answers(pg);
        break;
    case 5:
        /* What nobody has asked for is the end of it. */
        if (random_below(10) == 0 && PQtransactionStatus(pg) != PQTRANS_ACTIVE)
            fake_says_rows(pg, 1);
        break;
    }
}

static void something_happens_to_dials(void)
{
    switch (random_below(5)) {
    case 0:
        fake_dial_all_succeed();
        break;
    case 1:
        fake_dial_all_fail();
        break;
    case 2:
        fake_dial_all_wait();
        break;
    case 3:
        if (fake_dials_open())
            fake_dial_succeeds();
        break;
    case 4:
        if (fake_dials_open())
            fake_dial_fails(EVPQ_ECONNECT, "28P01", "no", random_below(2));
        break;
    }
}

static void something_happens(void)
{
    struct call *call = random_call();
    switch (random_below(13)) {
    case 0:
    case 1:
    case 2:
        if (pool && used < CALLS)
            ask_something();
        break;
    case 3:
        if (call && call->lease)
            story_release(call);
        break;
    case 4:
        if (call && call->op && call->calls == 0)
            evpq_op_cancel(call->op);
        break;
    case 5:
        something_happens_to_the_server();
        break;
    case 6:
        something_happens_to_dials();
        break;
    case 7:
        fake_cancels_obeyed(random_below(2));
        if (fake_cancels_open())
            fake_cancel_over();
        if (fake_calls())
            fake_call_return();
        break;
    case 8:
        fake_mem_fail_at((int)random_below(8));
        break;
    case 9:
        fake_settle();
        break;
    case 10:
        fake_turn();
        break;
    case 12:
        fake_helper_hold(random_below(2));
        break;
    case 11:
        fake_advance(random_below(200));
        break;
    }
}

static void check_calls(void)
{
    for (int i = 0; i < used; i++) {
        const struct call *call = &story_calls[i];
        if (call->accepted != EVPQ_OK)
            continue;
        if (call->calls == 0 ? fake_now_us() > deadline_us[i] : call->at_us > deadline_us[i])
            fail_msg("call %d is late (EVPQ_TEST_SEED=%lu)", i, the_seed);
    }
}

static void check_pool(void)
{
    if (!pool)
        return;
    evpq_pool_stats stats = story_stats();
    if (stats.total > 4 || fake_pg_count() > 4)
        fail_msg("%u connections of 4", stats.total);
}

static void release_all(void)
{
    for (int i = 0; i < used; i++)
        if (story_calls[i].lease)
            story_release(&story_calls[i]);
}

static void tell_one(unsigned long of)
{
    seed = the_seed = of;
    used = 0;
    story_begin(NULL);
    if (of % 2)
        fake_pq_version(150000);
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 4, .min_size = random_below(3),
                                    .cancel_timeout_ms = 100, .idle_timeout_ms = 300,
                                    .max_lifetime_ms = 2000, .fail_fast = random_below(2)));
    int close_at = (int)random_below(2 * STEPS);
    for (int step = 0; step < STEPS; step++) {
        if (step == close_at)
            story_close(random_below(2) ? EVPQ_CLOSE_FINISH : EVPQ_CLOSE_CANCEL,
                        1 + random_below(500));
        something_happens();
        check_pool();
    }
    fake_mem_fail_at(0);
    fake_advance(600);
    check_calls();
    release_all();
    story_end(NULL);
    release_all();
}

static void whatever_happens_each_call_calls_back_once_and_in_time(void **state)
{
    (void)state;
    const char *one = getenv("EVPQ_TEST_SEED");
    if (one) {
        tell_one(strtoul(one, NULL, 10));
        return;
    }
    for (unsigned long of = 1; of <= SEEDS; of++)
        tell_one(of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_each_call_calls_back_once_and_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
