/* SPDX-License-Identifier: MIT */
/*
 *   OPEN ---> DRAINING ---> STOPPING ---> ENDING ---> CLOSED
 *     \__________________/^
 *       close: cancel, or the bound
 *
 * The end of a pool: finish or cancel what is under way, then the connections,
 * then the helper. Each step is taken by evpq__pool_settle() when it has come.
 */
#include "pool/pool.h"

static void stop_all(struct evpq_pool *pool)
{
    pool->state = EVPQ__POOL_STOPPING;
    evpq__timer_stop(&pool->close_limit);
    struct evpq__node *node;
    while ((node = evpq__list_first(&pool->gated)))
        evpq__op_stop(evpq__container_of(node, struct evpq_op, node), EVPQ_ECLOSED);
    while ((node = evpq__list_first(&pool->waiters)))
        evpq__op_stop(evpq__container_of(node, struct evpq_op, node), EVPQ_ECLOSED);
    while ((node = evpq__list_first(&pool->running)))
        evpq__op_stop(evpq__container_of(node, struct evpq_op, node), EVPQ_ECLOSED);
    while ((node = evpq__list_first(&pool->leases))) {
        struct evpq_lease *lease = evpq__container_of(node, struct evpq_lease, node);
        struct evpq__slot *slot = lease->slot;
        evpq__lease_stop_queries(lease, EVPQ_ECLOSED);
        evpq__lease_detach(lease);
        if (slot)
            evpq__pool_give_back(slot);
    }
}

void evpq__pool_on_close_limit(struct evpq__timer *timer)
{
    struct evpq_pool *pool = evpq__container_of(timer, struct evpq_pool, close_limit);
    stop_all(pool);
    evpq__pool_settle(pool);
}

int evpq_pool_close(evpq_pool *pool, evpq_close_mode mode, uint32_t timeout_ms,
                    evpq_closed_fn *on_closed, void *user)
{
    if (!pool || (mode != EVPQ_CLOSE_FINISH && mode != EVPQ_CLOSE_CANCEL))
        return EVPQ_EINVALID;
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    pool->on_closed = on_closed;
    pool->on_closed_user = user;
    pool->state = EVPQ__POOL_DRAINING;
    if (mode == EVPQ_CLOSE_CANCEL)
        stop_all(pool);
    else
        evpq__timer_start(pool->loop, &pool->close_limit,
                          evpq__loop_deadline(pool->loop, evpq__pool_timeout(pool, timeout_ms)));
    evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
    return EVPQ_OK;
}

/* The last of a pool; the memory may stay for who keeps it. */
static void pool_closed(struct evpq_pool *pool)
{
    evpq_closed_fn *on_closed = pool->on_closed;
    void *user = pool->on_closed_user;
    pool->state = EVPQ__POOL_CLOSED;
    evpq__upkeep_done(pool);
    evpq__query_free_spares(pool);
    evpq__statements_done(&pool->statements);
    evpq__timer_stop(&pool->close_limit);
    evpq__loop_unpost(pool->loop, &pool->settle);
    evpq__gates_free(pool);
    evpq__tracer_end(pool->tracer);
    pool->tracer = NULL;
    evpq__loop_free(pool->loop);
    pool->loop = NULL;
    evpq__pool_unref(pool);
    if (on_closed)
        on_closed(user);
}

void evpq__pool_on_helper_stopped(struct evpq__task *task)
{
    pool_closed(evpq__container_of(task, struct evpq_pool, helper_stopped));
}

/* When nobody has anything under way, connections go; then the helper. */
void evpq__pool_close_step(struct evpq_pool *pool)
{
    if (pool->state >= EVPQ__POOL_ENDING || pool->ops > 0 || !evpq__list_empty(&pool->leases))
        return;
    pool->state = EVPQ__POOL_STOPPING;
    struct evpq__node *node;
    while ((node = evpq__list_first(&pool->slots[EVPQ__SLOT_IDLE])))
        evpq__pool_retire(evpq__container_of(node, struct evpq__slot, node), NULL, "pool closed");
    node = evpq__list_first(&pool->slots[EVPQ__SLOT_DIALING]);
    for (; node; node = evpq__list_next(&pool->slots[EVPQ__SLOT_DIALING], node)) {
        struct evpq__slot *slot = evpq__container_of(node, struct evpq__slot, node);
        if (slot->dial)
            evpq__dial_abort(slot->dial);
        slot->dial = NULL;
    }
    if (evpq__pool_total(pool) > 0)
        return;
    pool->state = EVPQ__POOL_ENDING;
    evpq__timer_stop(&pool->close_limit);
    if (pool->helper)
        evpq__helper_stop(pool->helper, &pool->helper_stopped);
    else
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->helper_stopped);
}
