/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_LOOP_H
#define EVPQ_LIB_BASE_LOOP_H

/*
 * The loop: sockets, timers and tasks. loop.c is the only file that knows
 * libev; tests link another file in its place and move the clock by hand.
 *
 * A *task* is something to do from the loop, later in this turn. There are two
 * phases, both right before the loop blocks: first `soon` (what callers are
 * told), then `flush` (what goes to sockets: so that all that was asked for in
 * one turn leaves together). A task posted by a task of its own or a later
 * phase runs after the loop has looked at sockets and timers, so that a task
 * that posts itself starves nobody; nor does a crowd of tasks: after some
 * milliseconds the rest of them waits for the next turn.
 */

#include <evpq/base.h>

#include "base/wheel.h"

struct ev_loop;
struct evpq__loop;

/* Room for any libev watcher in use here; loop.c checks that it is enough. */
union evpq__watcher {
    unsigned char bytes[48];
    void *align_pointer;
    double align_double;
};

enum evpq__phase {
    EVPQ__SOON,
    EVPQ__FLUSH,
    EVPQ__PHASES,
};

struct evpq__task {
    struct evpq__node node;
    void (*run)(struct evpq__task *task);
    uint64_t turn; /* of the loop's, when it was posted */
};

struct evpq__timer {
    void (*fire)(struct evpq__timer *timer);
    struct evpq__loop *loop; /* NULL when it does not run */
    struct evpq__wheel_node place;
};

enum { EVPQ__READ = 1, EVPQ__WRITE = 2 };

struct evpq__io {
    void (*ready)(struct evpq__io *io, int events);
    struct evpq__loop *loop; /* NULL when it is not watched */
    int fd, events;
    union evpq__watcher watcher;
};

/* Around a loop of the user's; nothing of it may be active when it is freed. */
struct evpq__loop *evpq__loop_new(struct ev_loop *ev);
/* The same without evpq__loop_send(): it keeps nobody's ev_run() running while it has no task and
 * no timer, needs no descriptor, and may be freed after `ev` was destroyed. */
struct evpq__loop *evpq__loop_new_quiet(struct ev_loop *ev);
/* With a loop of its own, to run in a thread of ours. */
struct evpq__loop *evpq__loop_new_own(void);
/* May be called from a task or watcher of that loop, as the last that it does. */
void evpq__loop_free(struct evpq__loop *loop);
/* Runs an own loop until evpq__loop_break() is called from inside it. */
void evpq__loop_run(struct evpq__loop *loop);
void evpq__loop_break(struct evpq__loop *loop);

/* CLOCK_MONOTONIC in microseconds: what deadlines are made of. */
int64_t evpq__loop_now(struct evpq__loop *loop);

/* The same, as it was when it was first asked for in this turn: for what may be a turn old. */
int64_t evpq__loop_turn_now(struct evpq__loop *loop);

#define EVPQ__NO_DEADLINE INT64_MAX

/* The moment `timeout_ms` after this one, or from now; EVPQ_NEVER is none. */
static inline int64_t evpq__deadline_after(int64_t us, uint32_t timeout_ms)
{
    return timeout_ms == EVPQ_NEVER ? EVPQ__NO_DEADLINE : us + (int64_t)timeout_ms * 1000;
}
static inline int64_t evpq__loop_deadline(struct evpq__loop *loop, uint32_t timeout_ms)
{
    return evpq__deadline_after(evpq__loop_now(loop), timeout_ms);
}

/* What is left until then, as a timeout: at least 1 ms. */
static inline uint32_t evpq__loop_left(struct evpq__loop *loop, int64_t deadline_us)
{
    if (deadline_us == EVPQ__NO_DEADLINE)
        return EVPQ_NEVER;
    int64_t left_ms = (deadline_us - evpq__loop_now(loop)) / 1000;
    return left_ms < 1 ? 1 : left_ms < EVPQ_NEVER ? (uint32_t)left_ms : EVPQ_NEVER - 1;
}

void evpq__task_init(struct evpq__task *task, void (*run)(struct evpq__task *));
bool evpq__task_posted(const struct evpq__task *task);
/* Posting a task that is posted already does nothing. */
void evpq__loop_post(struct evpq__loop *loop, enum evpq__phase phase, struct evpq__task *task);
/* From the handler of a socket: what is posted for `soon` runs now and not later in this turn.
 * Anything may have happened when it returns; the loop may be gone. */
void evpq__loop_run_soon(struct evpq__loop *loop);
/* Takes back a task; of this loop, by whichever way it was posted. */
void evpq__loop_unpost(struct evpq__loop *loop, struct evpq__task *task);
/* From any thread: posts the task to `loop` and wakes it. */
void evpq__loop_send(struct evpq__loop *loop, struct evpq__task *task);

void evpq__timer_init(struct evpq__timer *timer, void (*fire)(struct evpq__timer *));
/* (Re)starts: fires once, at or after `at_us` of evpq__loop_now(), in steps of a millisecond; never
 * for EVPQ__NO_DEADLINE. Costs little, however many there are; of those that are due at once, some
 * thousands fire in each turn. */
void evpq__timer_start(struct evpq__loop *loop, struct evpq__timer *timer, int64_t at_us);
void evpq__timer_stop(struct evpq__timer *timer);
bool evpq__timer_runs(const struct evpq__timer *timer);

void evpq__io_init(struct evpq__io *io, void (*ready)(struct evpq__io *, int events));
/* Watches `fd`, as if it had never been seen: the number may stand for another socket. */
void evpq__io_start(struct evpq__loop *loop, struct evpq__io *io, int fd, int events);
/* Watches the same socket for other events; nothing to do when they are the same. */
void evpq__io_change(struct evpq__io *io, int events);
void evpq__io_stop(struct evpq__io *io);

#endif /* EVPQ_LIB_BASE_LOOP_H */
