/* SPDX-License-Identifier: MIT */
/*
 *   evpq_pool_query,     gate of the tag ---> gate of the pool ---> queue
 *   evpq_pool_acquire -> rate, then concurrency, each
 *
 * A pass waits in one step at a time, with an operation of its own, whose
 * callback may come after who passes has been stopped: then the pass belongs
 * to that callback alone.
 */
#include "pool/gate.h"

#include <evpq/limiter.h>
#include <evpq/semaphore.h>
#include <string.h>

#include "base/mem.h"
#include "base/options.h"
#include "pool/pool.h"

enum { MOST_GATES = 2 };

struct evpq__gate {
    struct evpq__gate *next;
    struct evpq_limiter *limiter;     /* or NULL */
    struct evpq_semaphore *semaphore; /* or NULL */
    char tag[EVPQ__TAG_SIZE];         /* "": of the pool */
};

struct evpq__pass {
    struct evpq__waiter *waiter; /* NULL: it was stopped */
    struct evpq_op *waits;       /* the step it is in, or NULL */
    struct evpq__gate *gates[MOST_GATES];
    unsigned step;                /* 2 * gate, + 1 for its semaphore */
    struct evpq_semaphore *asked; /* its gate may be gone when it answers */
    struct evpq_semaphore *held[MOST_GATES];
    bool passed;
};

static struct evpq__gate *gate_of(const struct evpq_pool *pool, const char *tag)
{
    struct evpq__gate *gate = pool->gates;
    while (gate && strncmp(gate->tag, tag, EVPQ__TAG_SIZE - 1) != 0)
        gate = gate->next;
    return gate;
}

int evpq__pass_new(struct evpq__pass **out, const struct evpq_pool *pool, const char *tag)
{
    struct evpq__gate *of_tag = tag && tag[0] ? gate_of(pool, tag) : NULL;
    struct evpq__gate *of_pool = gate_of(pool, "");
    *out = NULL;
    if (!of_tag && !of_pool)
        return EVPQ_OK;
    struct evpq__pass *pass = evpq__alloc(sizeof(*pass));
    if (!pass)
        return EVPQ_ENOMEM;
    pass->gates[0] = of_tag;
    pass->gates[1] = of_pool;
    *out = pass;
    return EVPQ_OK;
}

static void pass_step(struct evpq__pass *pass);

static void release_held(struct evpq__pass *pass)
{
    for (int i = 0; i < MOST_GATES; i++)
        if (pass->held[i])
            evpq_semaphore_release(pass->held[i], 1);
    memset(pass->held, 0, sizeof(pass->held));
}

static void refuse(struct evpq__pass *pass, int code, const char *message)
{
    struct evpq_op *op = &pass->waiter->op;
    pass->passed = true;
    evpq__node_unlink(&op->node);
    evpq__error_set(&op->error, (evpq_code)code, EVPQ_NOT_SENT, "a limit of the pool: %s", message);
    evpq__op_finish(op);
}

static void on_step(const evpq_error *err, void *user)
{
    struct evpq__pass *pass = user;
    unsigned gate = pass->step / 2;
    pass->waits = NULL;
    if (!err && pass->step % 2)
        pass->held[gate] = pass->asked;
    if (!pass->waiter) {
        release_held(pass);
        evpq__free(pass);
        return;
    }
    if (err) {
        refuse(pass, evpq_error_code(err), evpq_error_message(err));
        return;
    }
    pass->step++;
    pass_step(pass);
}

/* Not less than what is left: its own deadline comes first then. */
static uint32_t ms_left(const struct evpq__waiter *waiter)
{
    int64_t deadline_us = waiter->op.deadline_us;
    if (deadline_us == EVPQ__NO_DEADLINE)
        return EVPQ_NEVER;
    int64_t left_us = deadline_us - evpq__loop_now(waiter->pool->loop);
    return left_us > 0 ? (uint32_t)((left_us + 999) / 1000) : 1;
}

/* Waits in the next step that there is, or goes to the queue. */
static void pass_step(struct evpq__pass *pass)
{
    for (; pass->step < 2 * MOST_GATES; pass->step++) {
        struct evpq__gate *gate = pass->gates[pass->step / 2];
        int code = EVPQ_OK;
        if (!gate || !(pass->step % 2 ? (void *)gate->semaphore : (void *)gate->limiter))
            continue;
        pass->asked = gate->semaphore;
        if (pass->step % 2)
            code =
                evpq_semaphore_acquire(&pass->waits, gate->semaphore, 1, EVPQ_NEVER, on_step, pass);
        else
            code = evpq_limiter_wait(&pass->waits, gate->limiter, 1, ms_left(pass->waiter), on_step,
                                     pass);
        if (code != EVPQ_OK)
            refuse(pass, code, evpq_code_text(code));
        return;
    }
    pass->passed = true;
    evpq__node_unlink(&pass->waiter->op.node);
    pass->waiter->waits_since_us = evpq__loop_now(pass->waiter->pool->loop);
    evpq__pool_queue(pass->waiter);
}

void evpq__pass_begin(struct evpq__waiter *waiter)
{
    waiter->pass->waiter = waiter;
    pass_step(waiter->pass);
}

bool evpq__pass_leave(struct evpq__waiter *waiter, evpq_code why)
{
    struct evpq__pass *pass = waiter->pass;
    if (pass->passed)
        return false;
    evpq__node_unlink(&waiter->op.node);
    if (why == EVPQ_ETIMEOUT)
        evpq__error_set(&waiter->op.error, why, EVPQ_NOT_SENT,
                        "the deadline of %u ms passed while it waited for a limit of the pool",
                        waiter->timeout_ms);
    else
        evpq__error_set(&waiter->op.error, why, EVPQ_NOT_SENT, "%s",
                        why == EVPQ_ECLOSED ? "the pool was closed"
                                            : "cancelled while it waited for a limit of the pool");
    waiter->pass = NULL;
    pass->waiter = NULL;
    evpq_op_cancel(pass->waits); /* and its callback frees the pass */
    return true;
}

void evpq__pass_end(struct evpq__pass *pass)
{
    if (!pass)
        return;
    release_held(pass);
    evpq__free(pass);
}

/* Gates */

static const char *limits_read(evpq_pool_limits *out, const evpq_pool_limits *limits)
{
    const char *problem = evpq__options_read(out, sizeof(*out), limits);
    if (problem)
        return problem;
    if (out->tag && (!out->tag[0] || strlen(out->tag) >= EVPQ__TAG_SIZE))
        return "tag is empty or longer than 63 bytes";
    if (!out->rate != !out->window_ms)
        return "rate and window_ms go together";
    if (!out->rate && !out->max_concurrent)
        return "no limit is set";
    return NULL;
}

static void gate_free(struct evpq__gate *gate)
{
    evpq_limiter_close(gate->limiter);
    evpq_semaphore_close(gate->semaphore);
    evpq__free(gate);
}

static int gate_change(struct evpq__gate *gate, const evpq_pool_limits *limits)
{
    if (!limits->rate != !gate->limiter || !limits->max_concurrent != !gate->semaphore)
        return EVPQ_EINVALID;
    /* The one that may fail first: then nothing has changed. */
    int code = gate->limiter
                   ? evpq_limiter_set_limit(gate->limiter, limits->rate, limits->window_ms)
                   : (int)EVPQ_OK;
    if (code == EVPQ_OK && gate->semaphore)
        code = evpq_semaphore_set_limit(gate->semaphore, limits->max_concurrent);
    return code;
}

int evpq_pool_limit(evpq_pool *pool, const evpq_pool_limits *limits)
{
    evpq_pool_limits l;
    if (!pool || limits_read(&l, limits))
        return EVPQ_EINVALID;
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    struct evpq__gate *gate = gate_of(pool, l.tag ? l.tag : "");
    if (gate)
        return gate_change(gate, &l);
    gate = evpq__alloc(sizeof(*gate));
    if (!gate)
        return EVPQ_ENOMEM;
    if (l.tag)
        strncpy(gate->tag, l.tag, sizeof(gate->tag) - 1);
    uint32_t waiters = pool->options.max_waiters;
    int code = EVPQ_OK;
    if (l.rate)
        code = evpq_limiter_open(&gate->limiter, pool->ev,
                                 EVPQ_LIMITER_OPTIONS(.limit = l.rate, .window_ms = l.window_ms,
                                                      .max_waiters = waiters));
    if (code == EVPQ_OK && l.max_concurrent)
        code = evpq_semaphore_open(
            &gate->semaphore, pool->ev,
            EVPQ_SEMAPHORE_OPTIONS(.limit = l.max_concurrent, .max_waiters = waiters));
    if (code != EVPQ_OK) {
        gate_free(gate);
        return code;
    }
    gate->next = pool->gates;
    pool->gates = gate;
    return EVPQ_OK;
}

void evpq__gates_free(struct evpq_pool *pool)
{
    struct evpq__gate *gate;
    while ((gate = pool->gates)) {
        pool->gates = gate->next;
        gate_free(gate);
    }
}
