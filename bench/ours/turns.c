/* SPDX-License-Identifier: MIT */
/*
 * How long the turns of the loop take: from when it has looked at its sockets and timers until it
 * does so again, everything between included.
 */
#include "ours/ours.h"

static void on_check(struct ev_loop *loop, ev_check *check, int events)
{
    (void)loop;
    (void)events;
    bench_turn_begin(check->data);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *prepare, int events)
{
    (void)loop;
    (void)events;
    bench_turn_end(prepare->data);
}

void bench_turns_watch(struct ev_loop *loop, struct bench_turns *turns, struct bench_meter *meter)
{
    ev_check_init(&turns->first, on_check);
    ev_prepare_init(&turns->last, on_prepare);
    turns->first.data = turns->last.data = meter;
    ev_set_priority(&turns->first, EV_MAXPRI);
    ev_set_priority(&turns->last, EV_MINPRI);
    ev_check_start(loop, &turns->first);
    ev_prepare_start(loop, &turns->last);
    ev_unref(loop); /* they keep nothing running */
    ev_unref(loop);
}
