/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/flow_story.h"

struct turn turns[TURNS_MAX];

static int accepted, called;
static uint64_t generator;

int flow_begin(void **state)
{
    (void)state;
    fake_reset();
    memset(turns, 0, sizeof(turns));
    accepted = called = 0;
    flow_seed(1);
    return 0;
}

int flow_end(void **state)
{
    fake_settle();
    if (accepted != called)
        fail_msg("%d calls were accepted, %d called back", accepted, called);
    return fake_teardown(state);
}

void turn_begin(struct turn *turn)
{
    *turn = (struct turn){.inside = turn->inside,
                          .weight = turn->weight,
                          .accepted = EVPQ_EINVALID,
                          .code = NOT_CALLED_BACK};
}

int turn_started(struct turn *turn, int code)
{
    turn->accepted = code;
    if (code == EVPQ_OK)
        accepted++;
    return code;
}

/* It must not come before the call has returned: then `accepted` is not EVPQ_OK yet. */
void on_turn(const evpq_error *err, void *user)
{
    struct turn *turn = user;
    if (turn->accepted != EVPQ_OK || turn->calls++ > 0)
        fail_msg("a call that failed, or has called back, calls back");
    turn->code = evpq_error_code(err);
    turn->at_us = fake_now_us();
    turn->order = ++called;
    if (turn->inside)
        turn->inside(turn);
}

int turns_called(void)
{
    return called;
}

void flow_seed(uint64_t seed)
{
    generator = seed * 0x9e3779b97f4a7c15u + 1;
}

/* xorshift64*, Vigna 2016. */
uint32_t flow_random(uint32_t limit)
{
    generator ^= generator >> 12;
    generator ^= generator << 25;
    generator ^= generator >> 27;
    return (uint32_t)((generator * 0x2545f4914f6cdd1du) >> 33) % limit;
}
