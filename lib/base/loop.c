/* SPDX-License-Identifier: MIT */
/*
 * Tasks run from a prepare watcher, that is right before the loop blocks, and
 * cost no extra turn. Tasks posted by tasks, or by a prepare watcher behind
 * ours, come round after one look at the sockets: an idle watcher is active
 * then, and libev does not block.
 *
 * libev 4.33 runs what ev_feed_event() adds before it looks at any socket or
 * timer, which is why tasks are not fed events: one that posts itself would
 * stop the world.
 */
#include "base/loop.h"

#include <assert.h>
#include <ev.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

_Static_assert(sizeof(ev_io) <= sizeof(union evpq__watcher), "room for ev_io");

struct evpq__loop {
    struct ev_loop *ev;
    bool own;       /* we made ev, and destroy it */
    bool quiet;     /* it must not keep ev_run() running while there is nothing to do */
    bool freed;     /* by a task: the memory goes when the last task has returned */
    unsigned depth; /* of nested run_tasks() */
    uint64_t turn;
    unsigned ran_in, ran_depth; /* libev's turn, and nesting, in which before_block ran last */
    unsigned asked_in;          /* libev's turn in which turn_now_us was asked for */
    int64_t turn_now_us;
    struct evpq__list tasks[EVPQ__PHASES];
    ev_prepare before_block;
    ev_idle dont_block;
    struct evpq__wheel wheel; /* in ticks */
    size_t timers;            /* that run */
    ev_timer alarm;
    int64_t alarm_tick;

    /* What other threads send. */
    pthread_mutex_t mutex;
    struct evpq__list sent; /* guarded by mutex */
    ev_async wake;
};

static void loop_on_prepare(struct ev_loop *ev, ev_prepare *w, int events);
static void loop_on_idle(struct ev_loop *ev, ev_idle *w, int events);
static void loop_on_wake(struct ev_loop *ev, ev_async *w, int events);
static void loop_on_alarm(struct ev_loop *ev, ev_timer *w, int events);

/* 1,024 us, so that a shift makes one of the other. */
enum { TICK_BITS = 10 };
/* Deadlines that are told in one turn, so that very many at once do not hold up the loop. */
enum { EXPIRIES_MOST = 2000 };

/* libev aborts the program when it finds no descriptor to be woken by. */
static bool descriptor_free(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

struct evpq__loop *evpq__loop_new_quiet(struct ev_loop *ev)
{
    struct evpq__loop *loop = evpq__alloc(sizeof(*loop));
    if (!loop)
        return NULL;
    if (pthread_mutex_init(&loop->mutex, NULL) != 0) {
        evpq__free(loop);
        return NULL;
    }
    loop->ev = ev;
    loop->quiet = true;
    for (unsigned phase = 0; phase < EVPQ__PHASES; phase++)
        evpq__list_init(&loop->tasks[phase]);
    evpq__list_init(&loop->sent);
    ev_prepare_init(&loop->before_block, loop_on_prepare);
    ev_idle_init(&loop->dont_block, loop_on_idle);
    ev_async_init(&loop->wake, loop_on_wake);
    evpq__wheel_init(&loop->wheel, evpq__loop_now(loop) >> TICK_BITS);
    ev_timer_init(&loop->alarm, loop_on_alarm, 0., 0.);
    /* An answer that is there in the same turn as its deadline is an answer. */
    ev_set_priority(&loop->alarm, EV_MINPRI);
    loop->alarm_tick = EVPQ__WHEEL_NEVER;
    loop->alarm.data = loop->before_block.data = loop->dont_block.data = loop->wake.data = loop;
    return loop;
}

struct evpq__loop *evpq__loop_new(struct ev_loop *ev)
{
    struct evpq__loop *loop = descriptor_free() ? evpq__loop_new_quiet(ev) : NULL;
    if (!loop)
        return NULL;
    loop->quiet = false;
    ev_async_start(ev, &loop->wake);
    return loop;
}

struct evpq__loop *evpq__loop_new_own(void)
{
    /* Not epoll: it would go on watching the sockets that are handed to another thread. */
    struct ev_loop *ev = ev_loop_new(EVBACKEND_POLL | EVFLAG_NOENV);
    if (!ev)
        return NULL;
    struct evpq__loop *loop = evpq__loop_new(ev);
    if (!loop) {
        ev_loop_destroy(ev);
        return NULL;
    }
    loop->own = true;
    return loop;
}

static void loop_release(struct evpq__loop *loop)
{
    if (loop->own)
        ev_loop_destroy(loop->ev);
    pthread_mutex_destroy(&loop->mutex);
    evpq__free(loop);
}

void evpq__loop_free(struct evpq__loop *loop)
{
    for (unsigned phase = 0; phase < EVPQ__PHASES; phase++)
        assert(evpq__list_empty(&loop->tasks[phase]));
    assert(loop->timers == 0);
    ev_async_stop(loop->ev, &loop->wake);
    ev_prepare_stop(loop->ev, &loop->before_block);
    ev_idle_stop(loop->ev, &loop->dont_block);
    ev_timer_stop(loop->ev, &loop->alarm);
    if (loop->depth > 0)
        loop->freed = true;
    else
        loop_release(loop);
}

void evpq__loop_run(struct evpq__loop *loop)
{
    ev_run(loop->ev, 0);
}

void evpq__loop_break(struct evpq__loop *loop)
{
    ev_break(loop->ev, EVBREAK_ONE);
}

int64_t evpq__loop_now(struct evpq__loop *loop)
{
    (void)loop;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t evpq__loop_turn_now(struct evpq__loop *loop)
{
    unsigned iteration = ev_iteration(loop->ev);
    if (loop->turn_now_us == 0 || loop->asked_in != iteration)
        loop->turn_now_us = evpq__loop_now(loop);
    loop->asked_in = iteration;
    return loop->turn_now_us;
}

/* Tasks */

void evpq__task_init(struct evpq__task *task, void (*run)(struct evpq__task *))
{
    evpq__node_init(&task->node);
    task->run = run;
    task->turn = 0;
}

bool evpq__task_posted(const struct evpq__task *task)
{
    return evpq__node_linked(&task->node);
}

/*
 * Is it not certain that before_block comes before the loop blocks? It has been,
 * in this turn; or it starts too late for this turn, whose prepare watchers have
 * been gathered; or in a loop inside this one, which has looked at the sockets.
 */
static bool may_block_before_tasks(const struct evpq__loop *loop)
{
    return loop->ran_in == ev_iteration(loop->ev) || !ev_is_active(&loop->before_block) ||
           loop->ran_depth > ev_depth(loop->ev);
}

void evpq__loop_post(struct evpq__loop *loop, enum evpq__phase phase, struct evpq__task *task)
{
    if (evpq__task_posted(task))
        return;
    task->turn = loop->turn;
    evpq__list_push_back(&loop->tasks[phase], &task->node);
    if (may_block_before_tasks(loop))
        ev_idle_start(loop->ev, &loop->dont_block);
    ev_prepare_start(loop->ev, &loop->before_block);
}

void evpq__loop_unpost(struct evpq__loop *loop, struct evpq__task *task)
{
    pthread_mutex_lock(&loop->mutex);
    evpq__node_unlink(&task->node);
    pthread_mutex_unlock(&loop->mutex);
}

/*
 * Runs what was posted before this phase began. The turn, not a count, marks
 * the end: a task may take others back, or run a nested loop that runs them.
 * When that takes long the rest waits for the next turn, in its order, behind
 * sockets and timers: a crowd that ends together must not hold up the others.
 */
static void run_phase(struct evpq__loop *loop, enum evpq__phase phase)
{
    enum { SLICE_US = 5000, TASKS_PER_LOOK = 16 };
    uint64_t posted_before = loop->turn++;
    int64_t until_us = 0;
    for (unsigned ran = 1; !loop->freed; ran++) {
        struct evpq__node *first = evpq__list_first(&loop->tasks[phase]);
        if (!first)
            return;
        struct evpq__task *task = evpq__container_of(first, struct evpq__task, node);
        if (task->turn > posted_before)
            return;
        if (ran % TASKS_PER_LOOK == 0) {
            int64_t now = evpq__loop_now(loop);
            if (until_us == 0)
                until_us = now + SLICE_US;
            else if (now >= until_us)
                return;
        }
        evpq__node_unlink(&task->node);
        task->run(task);
    }
}

void evpq__loop_run_soon(struct evpq__loop *loop)
{
    loop->depth++;
    run_phase(loop, EVPQ__SOON);
    loop->depth--;
    if (loop->freed && loop->depth == 0)
        loop_release(loop);
}

static bool has_tasks(struct evpq__loop *loop)
{
    for (unsigned phase = 0; phase < EVPQ__PHASES; phase++)
        if (!evpq__list_empty(&loop->tasks[phase]))
            return true;
    return false;
}

static void loop_on_prepare(struct ev_loop *ev, ev_prepare *w, int events)
{
    (void)events;
    struct evpq__loop *loop = w->data;
    loop->depth++;
    for (unsigned phase = 0; phase < EVPQ__PHASES && !loop->freed; phase++)
        run_phase(loop, phase);
    loop->depth--;
    if (loop->freed) {
        if (loop->depth == 0)
            loop_release(loop);
        return;
    }
    loop->ran_in = ev_iteration(ev);
    loop->ran_depth = ev_depth(ev);
    if (has_tasks(loop)) {
        ev_idle_start(ev, &loop->dont_block);
        return;
    }
    ev_idle_stop(ev, &loop->dont_block);
    if (loop->quiet)
        ev_prepare_stop(ev, &loop->before_block);
}

static void loop_on_idle(struct ev_loop *ev, ev_idle *w, int events)
{
    (void)ev;
    (void)w;
    (void)events;
}

void evpq__loop_send(struct evpq__loop *loop, struct evpq__task *task)
{
    pthread_mutex_lock(&loop->mutex);
    evpq__list_push_back(&loop->sent, &task->node);
    /* Under the lock: the receiver frees the loop when it has all it waits for. */
    ev_async_send(loop->ev, &loop->wake);
    pthread_mutex_unlock(&loop->mutex);
}

static void loop_on_wake(struct ev_loop *ev, ev_async *w, int events)
{
    (void)ev;
    (void)events;
    struct evpq__loop *loop = w->data;
    for (;;) {
        pthread_mutex_lock(&loop->mutex);
        struct evpq__node *first = evpq__list_pop_front(&loop->sent);
        pthread_mutex_unlock(&loop->mutex);
        if (!first)
            return;
        evpq__loop_post(loop, EVPQ__SOON, evpq__container_of(first, struct evpq__task, node));
    }
}

/* Timers */

static int64_t tick_at_or_after(int64_t us)
{
    return (us >> TICK_BITS) + ((us & ((1 << TICK_BITS) - 1)) != 0);
}

/* One timer of libev's for all: at the next moment at which the wheel wants to know the time. */
static void alarm_set(struct evpq__loop *loop, int64_t tick)
{
    loop->alarm_tick = tick;
    ev_timer_stop(loop->ev, &loop->alarm);
    if (tick == EVPQ__WHEEL_NEVER)
        return;
    int64_t after_us = (tick << TICK_BITS) - evpq__loop_now(loop);
    /* The loop's idea of now is as old as the callback we are in. */
    ev_now_update(loop->ev);
    ev_timer_set(&loop->alarm, after_us > 0 ? (double)after_us / 1e6 : 0., 0.);
    ev_timer_start(loop->ev, &loop->alarm);
}

/* At once when some are due already, and not told yet. */
static void alarm_set_next(struct evpq__loop *loop)
{
    bool idle = loop->quiet && loop->timers == 0;
    int64_t tick = !evpq__list_empty(&loop->wheel.due) ? loop->wheel.now
                   : idle                              ? EVPQ__WHEEL_NEVER
                                                       : evpq__wheel_next(&loop->wheel);
    if (tick != loop->alarm_tick || !ev_is_active(&loop->alarm))
        alarm_set(loop, tick);
}

/* It runs no more. The alarm stays where it may: most timers are stopped, and a false alarm costs
 * one look at the wheel. */
static void timer_over(struct evpq__timer *timer)
{
    struct evpq__loop *loop = timer->loop;
    timer->loop = NULL;
    if (--loop->timers == 0 && loop->quiet)
        alarm_set(loop, EVPQ__WHEEL_NEVER);
}

static void loop_on_alarm(struct ev_loop *ev, ev_timer *w, int events)
{
    (void)ev;
    (void)events;
    struct evpq__loop *loop = w->data;
    evpq__wheel_advance(&loop->wheel, evpq__loop_now(loop) >> TICK_BITS);
    /* Before anybody is called, who may run the loop, or free it. */
    alarm_set_next(loop);
    loop->depth++;
    struct evpq__node *node;
    for (int left = EXPIRIES_MOST;
         left > 0 && !loop->freed && (node = evpq__list_pop_front(&loop->wheel.due)); left--) {
        struct evpq__timer *timer = evpq__container_of(node, struct evpq__timer, place.node);
        timer_over(timer);
        timer->fire(timer);
    }
    loop->depth--;
    if (!loop->freed)
        alarm_set_next(loop);
    else if (loop->depth == 0)
        loop_release(loop);
}

void evpq__timer_init(struct evpq__timer *timer, void (*fire)(struct evpq__timer *))
{
    timer->fire = fire;
    timer->loop = NULL;
    evpq__node_init(&timer->place.node);
}

void evpq__timer_start(struct evpq__loop *loop, struct evpq__timer *timer, int64_t at_us)
{
    int64_t tick = tick_at_or_after(at_us);
    if (timer->loop && timer->place.at == tick)
        return;
    evpq__timer_stop(timer);
    if (at_us == EVPQ__NO_DEADLINE)
        return;
    timer->loop = loop;
    loop->timers++;
    int64_t look = evpq__wheel_add(&loop->wheel, &timer->place, tick);
    if (look < loop->alarm_tick)
        alarm_set(loop, look);
}

void evpq__timer_stop(struct evpq__timer *timer)
{
    if (!timer->loop)
        return;
    evpq__node_unlink(&timer->place.node);
    timer_over(timer);
}

bool evpq__timer_runs(const struct evpq__timer *timer)
{
    return timer->loop;
}

/* Sockets */

static ev_io *io_watcher(struct evpq__io *io)
{
    return (ev_io *)(void *)&io->watcher;
}

static void loop_on_io(struct ev_loop *ev, ev_io *w, int events)
{
    (void)ev;
    struct evpq__io *io = w->data;
    int ready = (events & EV_READ ? EVPQ__READ : 0) | (events & EV_WRITE ? EVPQ__WRITE : 0);
    /* EV_ERROR: libev stopped the watcher; whoever reads the socket will see why. */
    io->ready(io, ready ? ready : EVPQ__READ);
}

static int io_events(int events)
{
    return (events & EVPQ__READ ? EV_READ : 0) | (events & EVPQ__WRITE ? EV_WRITE : 0);
}

void evpq__io_init(struct evpq__io *io, void (*ready)(struct evpq__io *, int events))
{
    io->ready = ready;
    io->loop = NULL;
    io->fd = -1;
    io->events = 0;
    ev_io *w = io_watcher(io);
    ev_io_init(w, loop_on_io, -1, 0);
    w->data = io;
}

/* ev_io_set() tells libev to forget what it knew of this number; nothing else does. */
void evpq__io_start(struct evpq__loop *loop, struct evpq__io *io, int fd, int events)
{
    evpq__io_stop(io);
    ev_io *w = io_watcher(io);
    ev_io_set(w, fd, io_events(events));
    ev_io_start(loop->ev, w);
    io->loop = loop;
    io->fd = fd;
    io->events = events;
}

void evpq__io_change(struct evpq__io *io, int events)
{
    if (io->loop && io->events != events)
        evpq__io_start(io->loop, io, io->fd, events);
}

void evpq__io_stop(struct evpq__io *io)
{
    if (!io->loop)
        return;
    ev_io_stop(io->loop->ev, io_watcher(io));
    io->loop = NULL;
    io->fd = -1;
}
