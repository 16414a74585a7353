/* SPDX-License-Identifier: MIT */
/*
 * Acquire and release. The lease is made when it is asked for, so that granting
 * it cannot fail, and lives until it is released, whatever becomes of its
 * connection or of the pool.
 */
#include <string.h>

#include "base/mem.h"
#include "pool/pool.h"

struct acquire {
    struct evpq__waiter waiter;
    struct evpq_lease *lease; /* ours until it is delivered */
    evpq_acquire_fn *on_acquired;
    void *user;
};

static struct acquire *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct acquire, waiter.op);
}

static void acquire_granted(struct evpq__waiter *waiter)
{
    struct acquire *a = of_op(&waiter->op);
    a->lease->pool = waiter->pool;
    a->lease->slot = waiter->slot;
    a->lease->granted = waiter;
    waiter->slot->lease = a->lease;
    a->lease->since_us = evpq__loop_now(waiter->pool->loop);
    evpq__list_push_back(&waiter->pool->leases, &a->lease->node);
    evpq__upkeep_watch_lease(waiter->pool, a->lease);
    evpq__op_finish(&waiter->op);
}

static void acquire_stop(struct evpq_op *op, evpq_code why)
{
    evpq__pool_leave(&of_op(op)->waiter, why);
}

static void acquire_deliver(struct evpq_op *op)
{
    struct acquire *a = of_op(op);
    struct evpq_lease *lease = NULL;
    if (op->error.code == EVPQ_OK) {
        lease = a->lease;
        a->lease = NULL;
        lease->granted = NULL;
        lease->pass = a->waiter.pass;
        a->waiter.pass = NULL;
        /* Granted, and the pool was closed before anybody was told. */
        if (!lease->slot) {
            evpq__error_set(&op->error, EVPQ_ECLOSED, EVPQ_NOT_SENT, "the pool was closed");
            a->waiter.tag = NULL;
            evpq_lease_release(lease);
            lease = NULL;
        }
    }
    evpq__pool_count(&a->waiter);
    a->on_acquired(lease, lease ? NULL : &op->error, a->user);
}

static void acquire_destroy(struct evpq_op *op)
{
    struct acquire *a = of_op(op);
    evpq__pass_end(a->waiter.pass);
    evpq__pool_op_gone(a->waiter.pool);
    evpq__free(a->lease);
    evpq__free(a);
}

static const struct evpq__taking acquire_taking = {acquire_granted, NULL};
static const struct evpq__op_class acquire_class = {acquire_stop, acquire_deliver, acquire_destroy,
                                                    &acquire_taking};

int evpq_pool_acquire(evpq_op **out, evpq_pool *pool, const evpq_acquire_options *options,
                      evpq_acquire_fn *on_acquired, void *user)
{
    static const evpq_acquire_options all_defaults = {.size = sizeof(all_defaults)};
    evpq_acquire_options complete;
    if (!pool || !on_acquired ||
        evpq__options_read(&complete, sizeof(complete), options ? options : &all_defaults))
        return EVPQ_EINVALID;
    struct evpq__pass *pass;
    int refused = evpq__pool_admit(&pass, pool, complete.tag, false);
    if (refused)
        return refused;
    struct acquire *a = evpq__alloc(sizeof(*a));
    struct evpq_lease *lease = a ? evpq__alloc(sizeof(*lease)) : NULL;
    if (!lease) {
        evpq__free(a);
        evpq__pass_end(pass);
        return EVPQ_ENOMEM;
    }
    evpq__node_init(&lease->node);
    evpq__list_init(&lease->queries);
    if (complete.tag)
        strncpy(lease->tag, complete.tag, sizeof(lease->tag) - 1);
    a->waiter.tag = lease->tag;
    a->lease = lease;
    a->on_acquired = on_acquired;
    a->user = user;
    a->waiter.pass = pass;
    uint32_t timeout_ms = complete.timeout_ms;
    if (timeout_ms == 0)
        timeout_ms = pool->options.acquire_timeout_ms;
    if (timeout_ms == 0)
        timeout_ms = evpq__pool_half(pool->options.query_timeout_ms);
    evpq__pool_enter(pool, &a->waiter, &acquire_class, timeout_ms, timeout_ms);
    if (out)
        *out = &a->waiter.op;
    return EVPQ_OK;
}

/* Operations that may wait in one lease. */
enum { LEASE_OPS = 1000 };

int evpq__lease_admit(const struct evpq_lease *lease)
{
    if (!lease->pool)
        return EVPQ_ECLOSED;
    if (!lease->slot || !evpq__conn_alive(lease->slot->conn))
        return EVPQ_EDISCONNECTED;
    return lease->query_count >= LEASE_OPS ? EVPQ_EOVERLOADED : EVPQ_OK;
}

void evpq__lease_enter(struct evpq_lease *lease, struct evpq__waiter *waiter,
                       const struct evpq__op_class *class_, uint32_t timeout_ms)
{
    struct evpq_pool *pool = lease->pool;
    waiter->pool = pool;
    waiter->slot = lease->slot;
    waiter->number = ++pool->operations;
    waiter->started_us = evpq__loop_now(pool->loop);
    waiter->timeout_ms = timeout_ms;
    pool->ops++;
    evpq__op_init(&waiter->op, class_, pool->loop, evpq__loop_deadline(pool->loop, timeout_ms));
    lease->query_count++;
    evpq__list_push_back(&lease->queries, &waiter->op.node);
}

void evpq__lease_stop_queries(struct evpq_lease *lease, evpq_code why)
{
    /* From the end: what waits in the line goes before what runs. */
    while (!evpq__list_empty(&lease->queries))
        evpq__op_stop(evpq__container_of(lease->queries.head.prev, struct evpq_op, node), why);
}

void evpq__lease_detach(struct evpq_lease *lease)
{
    if (lease->slot)
        lease->slot->lease = NULL;
    lease->slot = NULL;
    struct evpq__waiter *granted = lease->granted;
    if (granted)
        granted->slot = NULL;
    if (granted && lease->pool->state <= EVPQ__POOL_DRAINING) {
        /* Lost before anybody was told: another connection will do. */
        evpq__node_unlink(&lease->node);
        lease->granted = NULL;
        lease->pool = NULL;
        evpq__pool_reenter(granted);
        return;
    }
    if (lease->pool && lease->pool->state >= EVPQ__POOL_STOPPING) {
        evpq__node_unlink(&lease->node);
        lease->pool = NULL;
        if (lease->on_taken)
            lease->on_taken(lease, lease->on_taken_user);
    }
}

void evpq_lease_release(evpq_lease *lease)
{
    if (!lease)
        return;
    struct evpq_pool *pool = lease->pool;
    struct evpq__slot *slot = lease->slot;
    evpq__lease_stop_queries(lease, EVPQ_ECANCELED);
    evpq__lease_detach(lease);
    evpq__node_unlink(&lease->node);
    evpq__pass_end(lease->pass);
    evpq__free(lease);
    if (slot)
        evpq__pool_give_back(slot);
    else if (pool)
        evpq__pool_settle(pool);
}
