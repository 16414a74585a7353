/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/fake_loop.h"

enum {
    SOCKETS = 65536,
    TURNS = 10000, /* who needs more never becomes quiet */
};

struct evpq__loop {
    struct evpq__node node;
    bool freed;
    unsigned depth;
    uint64_t turn;
    uint64_t round; /* of fake_turn(), when it had its last turn */
    struct evpq__list tasks[EVPQ__PHASES], sent;
};

/* Lives in the watcher of its owner. */
struct fake_io {
    struct evpq__node node;
    struct evpq__io *io;
    uint64_t round; /* in which it was started, or ran */
};
_Static_assert(sizeof(struct fake_io) <= sizeof(union evpq__watcher), "room for an io");

static int64_t now_us;
static uint64_t the_round;
static uint64_t callbacks;
/* A timer keeps its moment and, in the last digits, the round in which it was started. */
enum { ROUNDS = 4096 };

static struct evpq__timer *of_node(struct evpq__node *node)
{
    return evpq__container_of(node, struct evpq__timer, place.node);
}

static int64_t timer_at(const struct evpq__timer *timer)
{
    return (timer->place.at - (int64_t)((uint64_t)timer->place.at % ROUNDS)) / ROUNDS;
}

static struct evpq__list loops, timers, ios;
static unsigned char ready_events[SOCKETS], closed[SOCKETS];

/* Of the other fakes, where they are linked. */
extern int fake_pq_alive(void) __attribute__((weak));
extern void fake_pq_reset(void) __attribute__((weak));
extern void fake_helper_reset(void) __attribute__((weak));
extern void fake_dial_reset(void) __attribute__((weak));
extern size_t fake_mem_bytes(void) __attribute__((weak));
extern void fake_mem_reset(void) __attribute__((weak));

void fake_reset(void)
{
    now_us = 1000000000;
    evpq__list_init(&loops);
    evpq__list_init(&timers);
    evpq__list_init(&ios);
    memset(ready_events, 0, sizeof(ready_events));
    memset(closed, 0, sizeof(closed));
    if (fake_pq_reset)
        fake_pq_reset();
    if (fake_helper_reset)
        fake_helper_reset();
    if (fake_dial_reset)
        fake_dial_reset();
    if (fake_mem_reset)
        fake_mem_reset();
}

static int length(struct evpq__list *list)
{
    int count = 0;
    for (struct evpq__node *n = evpq__list_first(list); n; n = evpq__list_next(list, n))
        count++;
    return count;
}

void fake_nothing_left(void)
{
    int pq = fake_pq_alive ? fake_pq_alive() : 0;
    size_t bytes = fake_mem_bytes ? fake_mem_bytes() : 0;
    if (length(&timers) || length(&ios) || length(&loops) || pq || bytes)
        fail_msg("left: %d timers, %d sockets, %d loops, %d libpq objects, %zu bytes",
                 length(&timers), length(&ios), length(&loops), pq, bytes);
}

int fake_setup(void **state)
{
    (void)state;
    fake_reset();
    return 0;
}

int fake_teardown(void **state)
{
    (void)state;
    fake_nothing_left();
    return 0;
}

struct ev_loop *fake_ev(void)
{
    static char any;
    return (struct ev_loop *)(void *)&any;
}

/* The loop */

struct evpq__loop *evpq__loop_new(struct ev_loop *ev)
{
    (void)ev;
    struct evpq__loop *loop = evpq__alloc(sizeof(*loop));
    if (!loop)
        return NULL;
    for (unsigned phase = 0; phase < EVPQ__PHASES; phase++)
        evpq__list_init(&loop->tasks[phase]);
    evpq__list_init(&loop->sent);
    loop->round = the_round;
    evpq__list_push_back(&loops, &loop->node);
    return loop;
}

struct evpq__loop *evpq__loop_new_quiet(struct ev_loop *ev)
{
    return evpq__loop_new(ev);
}

struct evpq__loop *evpq__loop_new_own(void)
{
    return evpq__loop_new(NULL);
}

static bool loop_used(const struct evpq__loop *loop)
{
    for (struct evpq__node *n = evpq__list_first(&timers); n; n = evpq__list_next(&timers, n))
        if (of_node(n)->loop == loop)
            return true;
    for (struct evpq__node *n = evpq__list_first(&ios); n; n = evpq__list_next(&ios, n))
        if (evpq__container_of(n, struct fake_io, node)->io->loop == loop)
            return true;
    return false;
}

static void must_live(const struct evpq__loop *loop)
{
    if (!loop || loop->freed)
        fail_msg("a loop is used that is gone");
}

void evpq__loop_free(struct evpq__loop *loop)
{
    must_live(loop);
    for (unsigned phase = 0; phase < EVPQ__PHASES; phase++)
        if (!evpq__list_empty(&loop->tasks[phase]))
            fail_msg("a loop is freed with a task posted");
    if (!evpq__list_empty(&loop->sent))
        fail_msg("a loop is freed with a task sent to it");
    if (loop_used(loop))
        fail_msg("a loop is freed with a timer or socket active");
    evpq__node_unlink(&loop->node);
    if (loop->depth > 0)
        loop->freed = true;
    else
        evpq__free(loop);
}

void evpq__loop_run(struct evpq__loop *loop)
{
    (void)loop;
    fail_msg("nobody runs a fake loop");
}

void evpq__loop_break(struct evpq__loop *loop)
{
    (void)loop;
    fail_msg("nobody runs a fake loop");
}

int64_t evpq__loop_now(struct evpq__loop *loop)
{
    must_live(loop);
    return now_us;
}

int64_t evpq__loop_turn_now(struct evpq__loop *loop)
{
    return evpq__loop_now(loop);
}

int64_t fake_now_us(void)
{
    return now_us;
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

void evpq__loop_post(struct evpq__loop *loop, enum evpq__phase phase, struct evpq__task *task)
{
    must_live(loop);
    if (evpq__task_posted(task))
        return;
    task->turn = loop->turn;
    evpq__list_push_back(&loop->tasks[phase], &task->node);
}

void evpq__loop_unpost(struct evpq__loop *loop, struct evpq__task *task)
{
    must_live(loop);
    evpq__node_unlink(&task->node);
}

void evpq__loop_send(struct evpq__loop *loop, struct evpq__task *task)
{
    must_live(loop);
    if (evpq__task_posted(task))
        fail_msg("a task is sent that is on its way already");
    evpq__list_push_back(&loop->sent, &task->node);
}

/* Timers */

void evpq__timer_init(struct evpq__timer *timer, void (*fire)(struct evpq__timer *))
{
    timer->fire = fire;
    timer->loop = NULL;
    evpq__node_init(&timer->place.node);
}

void evpq__timer_start(struct evpq__loop *loop, struct evpq__timer *timer, int64_t at_us)
{
    must_live(loop);
    evpq__timer_stop(timer);
    if (at_us == EVPQ__NO_DEADLINE)
        return;
    timer->loop = loop;
    timer->place.at = at_us * ROUNDS + (int64_t)(the_round % ROUNDS);
    /* In the order of their moments. */
    struct evpq__node *where = timers.head.prev;
    while (where != &timers.head && timer_at(of_node(where)) > at_us)
        where = where->prev;
    evpq__node_insert_after(where, &timer->place.node);
}

void evpq__timer_stop(struct evpq__timer *timer)
{
    if (!timer->loop)
        return;
    must_live(timer->loop);
    evpq__node_unlink(&timer->place.node);
    timer->loop = NULL;
}

bool evpq__timer_runs(const struct evpq__timer *timer)
{
    return timer->loop;
}

/* Sockets */

static struct fake_io *io_watcher(struct evpq__io *io)
{
    return (struct fake_io *)(void *)&io->watcher;
}

void evpq__io_init(struct evpq__io *io, void (*ready)(struct evpq__io *, int events))
{
    io->ready = ready;
    io->loop = NULL;
    io->fd = -1;
    io->events = 0;
}

void evpq__io_start(struct evpq__loop *loop, struct evpq__io *io, int fd, int events)
{
    must_live(loop);
    evpq__io_stop(io);
    if (fd < 0 || fd >= SOCKETS || closed[fd])
        fail_msg("descriptor %d is watched, which is closed", fd);
    io->loop = loop;
    io->fd = fd;
    io->events = events;
    struct fake_io *w = io_watcher(io);
    w->io = io;
    w->round = the_round;
    evpq__list_push_back(&ios, &w->node);
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
    must_live(io->loop);
    evpq__node_unlink(&io_watcher(io)->node);
    io->loop = NULL;
    io->fd = -1;
}

void fake_socket_ready(int fd, int events)
{
    ready_events[fd] |= (unsigned char)events;
}

void fake_socket_quiet(int fd, int events)
{
    ready_events[fd] &= (unsigned char)~events;
}

void fake_socket_closed(int fd)
{
    closed[fd] = 1;
    ready_events[fd] = 0;
}

int fake_socket_watched(int fd)
{
    int events = 0;
    for (struct evpq__node *n = evpq__list_first(&ios); n; n = evpq__list_next(&ios, n)) {
        struct evpq__io *io = evpq__container_of(n, struct fake_io, node)->io;
        events |= io->fd == fd ? io->events : 0;
    }
    return events;
}

int fake_timers(void)
{
    return length(&timers);
}

int fake_ios(void)
{
    return length(&ios);
}

/* Turns */

static void callback_returned(void)
{
    callbacks++;
    for (struct evpq__node *n = evpq__list_first(&ios); n; n = evpq__list_next(&ios, n))
        if (closed[evpq__container_of(n, struct fake_io, node)->io->fd])
            fail_msg("a closed descriptor is still watched after the callback");
}

/* As in lib/base/loop.c. */
static void run_phase(struct evpq__loop *loop, enum evpq__phase phase)
{
    uint64_t posted_before = loop->turn++;
    while (!loop->freed) {
        struct evpq__node *first = evpq__list_first(&loop->tasks[phase]);
        if (!first)
            return;
        struct evpq__task *task = evpq__container_of(first, struct evpq__task, node);
        if (task->turn > posted_before)
            return;
        evpq__node_unlink(&task->node);
        task->run(task);
        callback_returned();
    }
}

static struct evpq__io *next_ready(struct evpq__loop *loop)
{
    for (struct evpq__node *n = evpq__list_first(&ios); n; n = evpq__list_next(&ios, n)) {
        struct fake_io *w = evpq__container_of(n, struct fake_io, node);
        if (w->io->loop == loop && w->round < the_round && ready_events[w->io->fd] & w->io->events)
            return w->io;
    }
    return NULL;
}

static struct evpq__timer *next_due(struct evpq__loop *loop)
{
    for (struct evpq__node *n = evpq__list_first(&timers); n; n = evpq__list_next(&timers, n)) {
        struct evpq__timer *timer = of_node(n);
        bool before = (uint64_t)timer->place.at % ROUNDS != the_round % ROUNDS;
        if (timer->loop == loop && before && timer_at(timer) <= now_us)
            return timer;
    }
    return NULL;
}

void evpq__loop_run_soon(struct evpq__loop *loop)
{
    must_live(loop);
    loop->depth++;
    run_phase(loop, EVPQ__SOON);
    loop->depth--;
    if (loop->freed && loop->depth == 0)
        evpq__free(loop);
}

static void loop_turn(struct evpq__loop *loop)
{
    loop->depth++;
    for (unsigned phase = 0; phase < EVPQ__PHASES && !loop->freed; phase++)
        run_phase(loop, (enum evpq__phase)phase);
    /* What has been started by tasks is looked at in this turn. */
    the_round++;
    loop->round = the_round;
    struct evpq__node *first;
    while (!loop->freed && (first = evpq__list_pop_front(&loop->sent))) {
        evpq__loop_post(loop, EVPQ__SOON, evpq__container_of(first, struct evpq__task, node));
        callbacks++;
    }
    struct evpq__io *io;
    while (!loop->freed && (io = next_ready(loop))) {
        io_watcher(io)->round = the_round;
        io->ready(io, ready_events[io->fd] & io->events);
        callback_returned();
    }
    struct evpq__timer *timer;
    while (!loop->freed && (timer = next_due(loop))) {
        evpq__timer_stop(timer);
        timer->fire(timer);
        callback_returned();
    }
    loop->depth--;
    if (loop->freed && loop->depth == 0)
        evpq__free(loop);
}

bool fake_turn(void)
{
    uint64_t before = callbacks;
    uint64_t begun = ++the_round;
    for (;;) {
        struct evpq__loop *next = NULL;
        for (struct evpq__node *n = evpq__list_first(&loops); n && !next;
             n = evpq__list_next(&loops, n)) {
            struct evpq__loop *loop = evpq__container_of(n, struct evpq__loop, node);
            if (loop->round < begun)
                next = loop;
        }
        if (!next)
            return callbacks > before;
        loop_turn(next);
    }
}

void fake_settle(void)
{
    for (int turns = 0; fake_turn(); turns++)
        if (turns >= TURNS)
            fail_msg("it never becomes quiet");
}

void fake_busy(uint32_t ms)
{
    now_us += (int64_t)ms * 1000;
}

void fake_advance(uint32_t ms)
{
    int64_t until = now_us + (int64_t)ms * 1000;
    for (;;) {
        fake_settle();
        struct evpq__node *first = evpq__list_first(&timers);
        int64_t at = first ? timer_at(of_node(first)) : INT64_MAX;
        if (at > until)
            break;
        if (at > now_us)
            now_us = at;
    }
    if (now_us < until) /* somebody may have been busy */
        now_us = until;
    fake_settle();
}
