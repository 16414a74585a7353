/* SPDX-License-Identifier: MIT */
/*
 *   READY ---> RUNNING <===> WAITING
 *                 |
 *                 v
 *               OVER
 *
 * A coroutine waits for one operation (or its sleep) and is entered from that
 * one's callback, so that whatever the callback got lives until it leaves again.
 * It lives at the top of its own stack. `why` is what it has to hear: once set,
 * every wait answers it.
 */
#include <evpq/await.h>

#include <ev.h>
#include <stdlib.h>
#include <string.h>

#include "await/fiber.h"

/* Of a stack: what saying so takes. */
enum { RED_ZONE = 4096 };

enum coroutine_state { COROUTINE_READY, COROUTINE_RUNNING, COROUTINE_WAITING, COROUTINE_OVER };

struct evpq_coroutine {
    struct fiber fiber;
    enum coroutine_state state;
    evpq_code why;
    struct evpq_await *await;
    struct evpq_coroutine *previous, *next; /* of await->all */
    unsigned stack_id;
    evpq_coroutine_fn *run;
    evpq_closed_fn *on_over;
    void *user;
    evpq_op *op;    /* what it waits for; NULL: its sleep */
    ev_timer timer; /* its start, then its sleep */
    ev_timer deadline;
    /* What the callback got. */
    const evpq_error *error;
    void *got;
};

/* An unused stack; at its top, as a coroutine would be. */
struct idle {
    struct idle *next;
    char *stack;
    unsigned stack_id;
};

struct evpq_await {
    struct ev_loop *loop;
    evpq_await_options options;
    bool closing;
    struct evpq_coroutine *all, *running;
    uint32_t count, idle_count, entered;
    struct idle *idle;
    evpq_closed_fn *on_closed;
    void *on_closed_user;
};

/* Stacks */

static size_t top_size(void)
{
    return (sizeof(struct evpq_coroutine) + 63) / 64 * 64;
}

static struct evpq_coroutine *coroutine_new(struct evpq_await *await)
{
    size_t offset = await->options.stack_size - top_size();
    struct idle *idle = await->idle;
    unsigned id = 0;
    char *stack;
    if (idle) {
        await->idle = idle->next;
        await->idle_count--;
        stack = idle->stack;
        id = idle->stack_id;
    } else {
        stack = fiber_stack_new(await->options.stack_size, &id);
    }
    if (!stack)
        return NULL;
    struct evpq_coroutine *co = (struct evpq_coroutine *)(void *)(stack + offset);
    memset(co, 0, sizeof(*co));
    co->fiber.stack = stack;
    co->stack_id = id;
    return co;
}

static void coroutine_free(struct evpq_await *await, struct evpq_coroutine *co)
{
    char *stack = co->fiber.stack;
    unsigned id = co->stack_id;
    if (await->idle_count >= await->options.max_idle_stacks || await->closing) {
        fiber_stack_free(stack, await->options.stack_size, id);
        return;
    }
    struct idle *idle = (struct idle *)(void *)co;
    *idle = (struct idle){.next = await->idle, .stack = stack, .stack_id = id};
    await->idle = idle;
    await->idle_count++;
}

static void drop_idle(struct evpq_await *await)
{
    struct idle *idle;
    while ((idle = await->idle)) {
        await->idle = idle->next;
        fiber_stack_free(idle->stack, await->options.stack_size, idle->stack_id);
    }
    await->idle_count = 0;
}

/* When it is closing, and the last has left. */
static void close_step(struct evpq_await *await)
{
    if (!await->closing || await->count > 0 || await->entered > 0)
        return;
    evpq_closed_fn *on_closed = await->on_closed;
    void *user = await->on_closed_user;
    free(await);
    if (on_closed)
        on_closed(user);
}

/* Entering and leaving */

static void coroutine_main(struct fiber *fiber)
{
    struct evpq_coroutine *co = (struct evpq_coroutine *)(void *)fiber;
    co->run(co, co->user);
    co->state = COROUTINE_OVER;
    fiber_leave(fiber, true);
}

static void coroutine_over(struct evpq_coroutine *co)
{
    struct evpq_await *await = co->await;
    evpq_closed_fn *on_over = co->on_over;
    void *user = co->user;
    ev_timer_stop(await->loop, &co->deadline);
    *(co->previous ? &co->previous->next : &await->all) = co->next;
    if (co->next)
        co->next->previous = co->previous;
    await->count--;
    coroutine_free(await, co);
    if (on_over)
        on_over(user);
}

static void enter(struct evpq_coroutine *co)
{
    struct evpq_await *await = co->await;
    struct evpq_coroutine *before = await->running;
    if (co->state != COROUTINE_READY && co->state != COROUTINE_WAITING)
        fiber_abort("a coroutine is told of an operation that it does not wait for");
    co->op = NULL;
    co->state = COROUTINE_RUNNING;
    await->running = co;
    await->entered++;
    fiber_enter(&co->fiber);
    await->running = before;
    if (co->state == COROUTINE_OVER)
        coroutine_over(co);
    await->entered--;
    close_step(await);
}

/* Returns the code of what it has waited for. */
static int leave(struct evpq_coroutine *co, evpq_op *op)
{
    if (fiber_room(&co->fiber) <= RED_ZONE)
        fiber_abort("a coroutine has all but overrun its stack; raise stack_size");
    co->op = op;
    co->state = COROUTINE_WAITING;
    fiber_leave(&co->fiber, false);
    int code = evpq_error_code(co->error);
    return code == EVPQ_ECANCELED && co->why ? (int)co->why : code;
}

static void go_on(struct evpq_coroutine *co, void *got, const evpq_error *err)
{
    co->got = got;
    co->error = err;
    enter(co);
}

/* May it wait? Forgets what it got before. */
static int wait_begins(struct evpq_coroutine *co)
{
    if (!co || co->await->running != co)
        return EVPQ_EINVALID;
    co->error = NULL;
    co->got = NULL;
    return co->why;
}

/* The handle by its place: it is put there while the arguments are evaluated. */
static int wait_for(struct evpq_coroutine *co, int started, evpq_op *const *op)
{
    return started == EVPQ_OK ? leave(co, *op) : started;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    go_on(timer->data, NULL, NULL);
}

/* It hears when it waits next, or where it waits. */
static void stop(struct evpq_coroutine *co, evpq_code why)
{
    if (co->why)
        return;
    co->why = why;
    if (co->state != COROUTINE_WAITING)
        return;
    if (co->op) {
        evpq_op_cancel(co->op);
    } else if (ev_is_active(&co->timer)) {
        ev_timer_stop(co->await->loop, &co->timer);
        ev_timer_set(&co->timer, 0., 0.);
        ev_timer_start(co->await->loop, &co->timer);
    }
}

static void on_deadline(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    stop(timer->data, EVPQ_ETIMEOUT);
}

/* Waiting */

const evpq_error *evpq_await_error(const evpq_coroutine *self)
{
    return self ? self->error : NULL;
}

/* The same for what ends with a result. */
static int wait_for_result(struct evpq_coroutine *self, int started, evpq_op *const *op,
                           evpq_result **result)
{
    int code = wait_for(self, started, op);
    if (result)
        *result = self->got;
    return code;
}

static void on_query(evpq_result *result, const evpq_error *err, void *user)
{
    go_on(user, result, err);
}

int evpq_await_query(evpq_coroutine *self, evpq_pool *pool, const evpq_query *query,
                     evpq_result **result)
{
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for_result(self, evpq_pool_query(&op, pool, query, on_query, self), &op, result);
}

int evpq_await_router_query(evpq_coroutine *self, evpq_router *router, const evpq_query *query,
                            const evpq_read *read, evpq_result **result)
{
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for_result(self, evpq_router_query(&op, router, query, read, on_query, self), &op,
                           result);
}

int evpq_await_lease_query(evpq_coroutine *self, evpq_lease *lease, const evpq_query *query,
                           evpq_result **result)
{
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for_result(self, evpq_lease_query(&op, lease, query, on_query, self), &op, result);
}

/* What is told in parts; it lives on the stack of who waits. */
struct parts {
    struct evpq_coroutine *co;
    evpq_batch_fn *on_result;
    evpq_chunk_fn *on_chunk;
    void *user;
};

static void on_part(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    const struct parts *parts = user;
    if (parts->on_result)
        parts->on_result(statement, result, err, parts->user);
}

static void on_parts_done(const evpq_error *err, void *user)
{
    go_on(((struct parts *)user)->co, NULL, err);
}

int evpq_await_batch(evpq_coroutine *self, evpq_pool *pool, const evpq_batch *batch,
                     evpq_batch_fn *on_result, void *user)
{
    struct parts parts = {.co = self, .on_result = on_result, .user = user};
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for(self, evpq_pool_batch(&op, pool, batch, on_part, on_parts_done, &parts), &op);
}

int evpq_await_lease_batch(evpq_coroutine *self, evpq_lease *lease, const evpq_batch *batch,
                           evpq_batch_fn *on_result, void *user)
{
    struct parts parts = {.co = self, .on_result = on_result, .user = user};
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for(self, evpq_lease_batch(&op, lease, batch, on_part, on_parts_done, &parts), &op);
}

static void on_chunk_part(evpq_stream *stream, evpq_result *chunk, void *user)
{
    const struct parts *parts = user;
    parts->on_chunk(stream, chunk, parts->user);
}

static void on_chunks_done(evpq_result *result, const evpq_error *err, void *user)
{
    go_on(((struct parts *)user)->co, result, err);
}

int evpq_await_stream(evpq_coroutine *self, evpq_pool *pool, const evpq_query *query,
                      const evpq_stream_options *options, evpq_chunk_fn *on_chunk, void *user,
                      evpq_result **result)
{
    struct parts parts = {.co = self, .on_chunk = on_chunk, .user = user};
    evpq_stream *stream = NULL;
    int code = on_chunk ? wait_begins(self) : (int)EVPQ_EINVALID;
    if (code != EVPQ_OK)
        return code;
    code = evpq_pool_stream(&stream, pool, query, options, on_chunk_part, on_chunks_done, &parts);
    evpq_op *op = evpq_stream_op(stream);
    return wait_for_result(self, code, &op, result);
}

int evpq_await_lease_stream(evpq_coroutine *self, evpq_lease *lease, const evpq_query *query,
                            const evpq_stream_options *options, evpq_chunk_fn *on_chunk, void *user,
                            evpq_result **result)
{
    struct parts parts = {.co = self, .on_chunk = on_chunk, .user = user};
    evpq_stream *stream = NULL;
    int code = on_chunk ? wait_begins(self) : (int)EVPQ_EINVALID;
    if (code != EVPQ_OK)
        return code;
    code = evpq_lease_stream(&stream, lease, query, options, on_chunk_part, on_chunks_done, &parts);
    evpq_op *op = evpq_stream_op(stream);
    return wait_for_result(self, code, &op, result);
}

static void on_acquired(evpq_lease *lease, const evpq_error *err, void *user)
{
    go_on(user, lease, err);
}

int evpq_await_acquire(evpq_coroutine *self, evpq_pool *pool, const evpq_acquire_options *options,
                       evpq_lease **lease)
{
    evpq_op *op = NULL;
    int code = lease ? wait_begins(self) : (int)EVPQ_EINVALID;
    if (code != EVPQ_OK)
        return code;
    code = wait_for(self, evpq_pool_acquire(&op, pool, options, on_acquired, self), &op);
    *lease = self->got;
    return code;
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    go_on(user, page, err);
}

int evpq_await_page(evpq_coroutine *self, evpq_pager *pager, evpq_page **page)
{
    evpq_op *op = NULL;
    int code = page ? wait_begins(self) : (int)EVPQ_EINVALID;
    if (code != EVPQ_OK)
        return code;
    code = wait_for(self, evpq_pager_next(&op, pager, on_page, self), &op);
    *page = self->got;
    return code;
}

static void on_group(evpq_group *group, const evpq_error *err, void *user)
{
    go_on(user, group, err);
}

int evpq_await_group(evpq_coroutine *self, evpq_group *group)
{
    evpq_op *op = NULL;
    int code = wait_begins(self);
    /* Who may not wait any more still has to wait for the members, which may use its stack. */
    if (code == EVPQ_EINVALID)
        return code;
    int started = evpq_group_wait(&op, group, on_group, self);
    if (started == EVPQ_OK && code != EVPQ_OK)
        evpq_op_cancel(op);
    return wait_for(self, started, &op);
}

int evpq_await_limiter(evpq_coroutine *self, evpq_limiter *limiter, uint32_t weight,
                       uint32_t timeout_ms)
{
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for(
        self, evpq_limiter_wait(&op, limiter, weight, timeout_ms, evpq_await_done, self), &op);
}

int evpq_await_semaphore(evpq_coroutine *self, evpq_semaphore *semaphore, uint32_t weight,
                         uint32_t timeout_ms)
{
    evpq_op *op = NULL;
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    return wait_for(
        self, evpq_semaphore_acquire(&op, semaphore, weight, timeout_ms, evpq_await_done, self),
        &op);
}

int evpq_await_sleep(evpq_coroutine *self, uint32_t ms)
{
    int code = wait_begins(self);
    if (code != EVPQ_OK)
        return code;
    ev_now_update(self->await->loop);
    ev_timer_set(&self->timer, ms / 1e3, 0.);
    ev_timer_start(self->await->loop, &self->timer);
    code = leave(self, NULL);
    return self->why ? (int)self->why : code;
}

int evpq_await_op(evpq_coroutine *self, int started, evpq_op *const *op)
{
    int code = wait_begins(self);
    if (code == EVPQ_EINVALID || (started == EVPQ_OK && (!op || !*op)))
        return EVPQ_EINVALID;
    /* It has been started, and its callback will come. */
    if (started == EVPQ_OK && code != EVPQ_OK)
        evpq_op_cancel(*op);
    return wait_for(self, started, op);
}

void evpq_await_done(const evpq_error *err, void *self)
{
    go_on(self, NULL, err);
}

/* Starting and ending */

int evpq_await_start(evpq_coroutine **out, evpq_await *await, evpq_coroutine_fn *run, void *user,
                     uint32_t timeout_ms, evpq_closed_fn *on_over)
{
    if (!await || !run)
        return EVPQ_EINVALID;
    if (await->closing)
        return EVPQ_ECLOSED;
    if (await->count >= await->options.max_coroutines)
        return EVPQ_EOVERLOADED;
    struct evpq_coroutine *co = coroutine_new(await);
    if (!co)
        return EVPQ_ENOMEM;
    co->await = await;
    co->run = run;
    co->user = user;
    co->on_over = on_over;
    co->next = await->all;
    if (co->next)
        co->next->previous = co;
    await->all = co;
    await->count++;
    fiber_init(&co->fiber, co->fiber.stack, await->options.stack_size - top_size(), coroutine_main);
    ev_timer_init(&co->timer, on_timer, 0., 0.);
    ev_timer_init(&co->deadline, on_deadline, timeout_ms / 1e3, 0.);
    co->timer.data = co->deadline.data = co;
    ev_now_update(await->loop);
    ev_timer_start(await->loop, &co->timer);
    if (timeout_ms && timeout_ms != EVPQ_NEVER)
        ev_timer_start(await->loop, &co->deadline);
    if (out)
        *out = co;
    return EVPQ_OK;
}

void evpq_await_cancel(evpq_coroutine *coroutine)
{
    if (coroutine)
        stop(coroutine, EVPQ_ECANCELED);
}

uint32_t evpq_await_count(const evpq_await *await)
{
    return await ? await->count : 0;
}

/* As evpq__options_read(), which is not ours: NULL is all defaults. */
static bool options_read(evpq_await_options *out, const evpq_await_options *options)
{
    memset(out, 0, sizeof(*out));
    if (options && options->size != sizeof(*out))
        return false;
    if (options)
        *out = *options;
    if (out->max_coroutines == 0)
        out->max_coroutines = 1000;
    if (out->stack_size == 0)
        out->stack_size = 65536;
    if (out->max_idle_stacks == 0)
        out->max_idle_stacks = 64;
    bool fits =
        out->max_coroutines <= 1000000 && out->stack_size >= 16384 && out->stack_size <= 67108864;
    out->stack_size = (out->stack_size + 4095) / 4096 * 4096;
    return fits;
}

int evpq_await_open(evpq_await **out, struct ev_loop *loop, const evpq_await_options *options)
{
    evpq_await_options complete;
    if (!out || !loop || !options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_await *await = calloc(1, sizeof(*await));
    if (!await)
        return EVPQ_ENOMEM;
    await->loop = loop;
    await->options = complete;
    *out = await;
    return EVPQ_OK;
}

void evpq_await_close(evpq_await *await, evpq_closed_fn *on_closed, void *user)
{
    if (!await || await->closing)
        return;
    await->closing = true;
    await->on_closed = on_closed;
    await->on_closed_user = user;
    drop_idle(await);
    for (struct evpq_coroutine *co = await->all; co; co = co->next)
        stop(co, EVPQ_ECLOSED);
    close_step(await);
}
