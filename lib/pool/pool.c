/* SPDX-License-Identifier: MIT */
/*
 *   slot:   DIALING ---> IDLE <===> BUSY        pool:  OPEN ---> DRAINING ---> STOPPING ---> CLOSED
 *              |          |  ^       |                    \__________________/^
 *              |          |  +---- CLEANING                 close: cancel, or the bound
 *              v          v          |
 *            (gone) <-- CLOSING <----+
 *
 * Plan, then act. Every event changes a state, then calls evpq__pool_settle(),
 * the one place that decides: who gets which connection, how many to dial. It
 * calls nobody back: outcomes are posted, and reach users from the loop.
 */
#include "pool/pool.h"

#include <assert.h>

#include "base/mem.h"

static void slot_on_dialed(void *owner, struct evpq__dialed *dialed);
static void slot_on_clean(void *owner);
static void slot_on_lost(void *owner);
static const struct evpq__conn_class slot_conn_class = {slot_on_clean, slot_on_lost};

static struct evpq__slot *first_slot(struct evpq_pool *pool, enum evpq__slot_state state)
{
    struct evpq__node *node = evpq__list_first(&pool->slots[state]);
    return node ? evpq__container_of(node, struct evpq__slot, node) : NULL;
}

/* Slots */

static void slot_leave(struct evpq__slot *slot)
{
    evpq__node_unlink(&slot->node);
    slot->pool->slot_count[slot->state]--;
}

static void slot_join(struct evpq__slot *slot, enum evpq__slot_state state)
{
    slot->state = state;
    evpq__list_push_front(&slot->pool->slots[state], &slot->node);
    slot->pool->slot_count[state]++;
}

static void slot_move(struct evpq__slot *slot, enum evpq__slot_state state)
{
    slot_leave(slot);
    slot_join(slot, state);
}

static void slot_free(struct evpq__slot *slot)
{
    slot_leave(slot);
    evpq__conn_free(slot->conn);
    evpq__free(slot);
}

static void dial_failed(struct evpq_pool *pool, struct evpq__dialed *dialed);

static void slot_dial(struct evpq_pool *pool)
{
    struct evpq__dialed failed = {0};
    if (!pool->helper)
        pool->helper = evpq__helper_start(pool->loop);
    struct evpq__slot *slot = pool->helper ? evpq__alloc(sizeof(*slot)) : NULL;
    if (slot) {
        slot->pool = pool;
        slot->dial =
            evpq__dial_start(pool->helper, pool->loop, pool->conninfo,
                             evpq__loop_deadline(pool->loop, pool->options.connect_timeout_ms),
                             slot_on_dialed, slot);
    }
    if (slot && slot->dial) {
        slot_join(slot, EVPQ__SLOT_DIALING);
        return;
    }
    evpq__free(slot);
    evpq__error_set(&failed.error, EVPQ_ENOMEM, EVPQ_NOT_SENT,
                    "no memory or no thread for a connection");
    dial_failed(pool, &failed);
}

static void slot_becomes_idle(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    int64_t now = evpq__loop_now(pool->loop);
    if (evpq__conn_worn(slot->conn) || slot->expires_us <= now) {
        evpq__pool_retire(slot, &pool->stats.closed_lifetime);
        return;
    }
    slot_move(slot, EVPQ__SLOT_IDLE);
    slot->idle_since_us = now;
    evpq__upkeep_watch(pool, slot);
}

/* Tells everybody who waits that there will be no connection for now. */
static void fail_waiters(struct evpq_pool *pool, const struct evpq_error *why)
{
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(&pool->waiters))) {
        struct evpq__waiter *waiter = evpq__container_of(node, struct evpq__waiter, op.node);
        pool->waiting--;
        evpq__error_copy(&waiter->op.error, why);
        evpq__op_finish(&waiter->op);
    }
}

static void dial_failed(struct evpq_pool *pool, struct evpq__dialed *dialed)
{
    evpq__upkeep_dial_failed(pool, dialed);
    if (dialed->refused_for_good || pool->options.fail_fast)
        fail_waiters(pool, &dialed->error);
    evpq__error_clear(&dialed->error);
}

static void slot_on_dialed(void *owner, struct evpq__dialed *dialed)
{
    struct evpq__slot *slot = owner;
    struct evpq_pool *pool = slot->pool;
    slot->dial = NULL;
    if (dialed->pg) {
        slot->conn = evpq__conn_new(pool->loop, pool->helper, dialed,
                                    pool->options.cancel_timeout_ms, &slot_conn_class, slot);
        if (!slot->conn)
            evpq__error_set(&dialed->error, EVPQ_ENOMEM, EVPQ_NOT_SENT,
                            "no memory for a connection");
    }
    if (slot->conn) {
        evpq__upkeep_dial_succeeded(pool);
        slot->expires_us = evpq__upkeep_expiry(pool);
        slot_becomes_idle(slot);
    } else {
        slot_free(slot);
        dial_failed(pool, dialed);
    }
    evpq__pool_settle(pool);
}

static void slot_on_clean(void *owner)
{
    struct evpq__slot *slot = owner;
    slot_becomes_idle(slot);
    evpq__pool_settle(slot->pool);
}

static void slot_on_lost(void *owner)
{
    struct evpq__slot *slot = owner;
    struct evpq_pool *pool = slot->pool;
    if (slot->lease)
        evpq__lease_detach(slot->lease);
    if (slot->state != EVPQ__SLOT_CLOSING)
        pool->stats.closed_broken++;
    slot_free(slot);
    evpq__pool_settle(pool);
}

void evpq__pool_give_back(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    slot->lease = NULL;
    if (slot->state == EVPQ__SLOT_BUSY) {
        if (evpq__conn_recycle(slot->conn))
            slot_becomes_idle(slot);
        else
            slot_move(slot, EVPQ__SLOT_CLEANING);
    }
    evpq__pool_settle(pool);
}

void evpq__pool_retire(struct evpq__slot *slot, uint64_t *counter)
{
    if (slot->state == EVPQ__SLOT_CLOSING)
        return;
    if (counter)
        ++*counter;
    slot_move(slot, EVPQ__SLOT_CLOSING);
    evpq__conn_close(slot->conn);
}

/* Waiters */

int evpq__pool_admit(struct evpq_pool *pool)
{
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    if (pool->waiting >= pool->options.max_waiters) {
        pool->stats.overloaded++;
        return EVPQ_EOVERLOADED;
    }
    return EVPQ_OK;
}

void evpq__pool_enter(struct evpq_pool *pool, struct evpq__waiter *waiter,
                      const struct evpq__op_class *class_, uint32_t timeout_ms, uint32_t acquire_ms)
{
    waiter->pool = pool;
    waiter->timeout_ms = timeout_ms;
    waiter->acquire_ms = acquire_ms ? acquire_ms : evpq__pool_half(timeout_ms);
    if (waiter->acquire_ms > timeout_ms)
        waiter->acquire_ms = timeout_ms;
    pool->ops++;
    evpq__op_init(&waiter->op, class_, pool->loop, evpq__loop_deadline(pool->loop, timeout_ms));
    evpq__list_push_back(&pool->waiters, &waiter->op.node);
    pool->waiting++;
    evpq__pool_settle(pool);
    if (!waiter->slot && !evpq__op_finished(&waiter->op))
        evpq__op_limit(&waiter->op, evpq__loop_deadline(pool->loop, waiter->acquire_ms));
}

/* Why nobody came: nothing can be reached, nothing is there yet, or all are taken. */
static void set_timeout_error(const struct evpq__waiter *waiter, struct evpq_error *err)
{
    const struct evpq_pool *pool = waiter->pool;
    const struct evpq__backoff *b = &pool->backoff;
    const uint32_t *count = pool->slot_count;
    uint32_t cleaning = count[EVPQ__SLOT_CLEANING] + count[EVPQ__SLOT_CLOSING];
    bool none = evpq__pool_total(pool) == count[EVPQ__SLOT_DIALING];
    if (none && b->failures > 0) {
        char *message =
            evpq__format("no connection within %u ms, %u attempts failed: %s", waiter->acquire_ms,
                         b->failures, evpq_error_message(&b->last_error));
        evpq__error_set_report(
            err, EVPQ_ECONNECT, EVPQ_NOT_SENT,
            &(struct evpq__server_report){.message = message,
                                          .sqlstate = evpq_error_sqlstate(&b->last_error)});
        evpq__free(message);
    } else if (none) {
        evpq__error_set(err, EVPQ_ETIMEOUT, EVPQ_NOT_SENT,
                        "no connection within %u ms: %u connecting, no answer yet",
                        waiter->acquire_ms, count[EVPQ__SLOT_DIALING]);
    } else {
        evpq__error_set(err, EVPQ_ETIMEOUT, EVPQ_NOT_SENT,
                        "no connection was free within %u ms: of max_size %u, %u busy, %u "
                        "cleaning, %u connecting; %u waiting%s%s",
                        waiter->acquire_ms, pool->options.max_size, count[EVPQ__SLOT_BUSY],
                        cleaning, count[EVPQ__SLOT_DIALING], pool->waiting,
                        b->failures ? "; the last connect failed: " : "",
                        b->failures ? evpq_error_message(&b->last_error) : "");
    }
}

void evpq__pool_leave(struct evpq__waiter *waiter, evpq_code why)
{
    struct evpq_pool *pool = waiter->pool;
    if (why == EVPQ_ETIMEOUT)
        set_timeout_error(waiter, &waiter->op.error);
    else
        evpq__error_set(&waiter->op.error, why, EVPQ_NOT_SENT,
                        why == EVPQ_ECLOSED ? "the pool was closed"
                                            : "cancelled while it waited for a connection");
    evpq__node_unlink(&waiter->op.node);
    pool->waiting--;
}

void evpq__pool_count(struct evpq_pool *pool, evpq_code outcome)
{
    pool->stats.timeouts += outcome == EVPQ_ETIMEOUT;
    pool->stats.canceled += outcome == EVPQ_ECANCELED;
}

void evpq__pool_op_gone(struct evpq_pool *pool)
{
    pool->ops--;
    if (pool->state != EVPQ__POOL_OPEN && pool->ops == 0)
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
}

/* Deciding */

/* Waiters and idle connections find each other, first come first served. */
static void pair(struct evpq_pool *pool)
{
    struct evpq__slot *slot;
    while (!evpq__list_empty(&pool->waiters) && (slot = first_slot(pool, EVPQ__SLOT_IDLE))) {
        if (!evpq__conn_alive(slot->conn)) {
            evpq__pool_retire(slot, &pool->stats.closed_broken);
            continue;
        }
        struct evpq__node *node = evpq__list_pop_front(&pool->waiters);
        struct evpq__waiter *waiter = evpq__container_of(node, struct evpq__waiter, op.node);
        pool->waiting--;
        pool->stats.acquired++;
        slot_move(slot, EVPQ__SLOT_BUSY);
        waiter->slot = slot;
        waiter->granted(waiter);
    }
}

/* How many connections are missing: for those who wait, and for min_size. */
static uint32_t missing(const struct evpq_pool *pool)
{
    uint32_t total = evpq__pool_total(pool);
    uint32_t dialing = pool->slot_count[EVPQ__SLOT_DIALING];
    uint32_t wanted = pool->waiting > dialing ? pool->waiting - dialing : 0;
    if (pool->state == EVPQ__POOL_OPEN && total < pool->options.min_size &&
        pool->options.min_size - total > wanted)
        wanted = pool->options.min_size - total;
    uint32_t room = pool->options.max_size - total;
    return wanted < room ? wanted : room;
}

static void grow(struct evpq_pool *pool)
{
    uint32_t wanted = missing(pool);
    if (wanted == 0) {
        if (pool->slot_count[EVPQ__SLOT_DIALING] == 0)
            pool->backoff.allowance = 1;
        return;
    }
    uint32_t allowed = evpq__upkeep_dials(pool);
    for (; wanted > 0 && allowed > 0; wanted--, allowed--) {
        unsigned failures = pool->backoff.failures;
        slot_dial(pool);
        if (pool->backoff.failures != failures) {
            /* It failed at once: the pause begins, and somebody must wake up after it. */
            if (missing(pool) > 0)
                evpq__upkeep_dials(pool);
            return;
        }
    }
}

static void close_step(struct evpq_pool *pool);

void evpq__pool_settle(struct evpq_pool *pool)
{
    pair(pool);
    if (pool->state <= EVPQ__POOL_DRAINING)
        grow(pool);
    if (pool->state != EVPQ__POOL_OPEN)
        close_step(pool);
}

static void pool_on_settle(struct evpq__task *task)
{
    evpq__pool_settle(evpq__container_of(task, struct evpq_pool, settle));
}

/* Opening and closing */

static void pool_on_helper_stopped(struct evpq__task *task);
static void pool_on_close_limit(struct evpq__timer *timer);

int evpq_pool_open(evpq_pool **out, struct ev_loop *loop, const evpq_pool_options *options)
{
    struct evpq_pool_options complete;
    if (!out || !loop || evpq__pool_options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_pool *pool = evpq__alloc(sizeof(*pool));
    if (!pool)
        return EVPQ_ENOMEM;
    pool->options = complete;
    pool->conninfo = evpq__strdup(complete.conninfo);
    pool->options.conninfo = pool->conninfo;
    pool->loop = evpq__loop_new(loop);
    if (!pool->loop || (complete.conninfo && !pool->conninfo)) {
        if (pool->loop)
            evpq__loop_free(pool->loop);
        evpq__free(pool->conninfo);
        evpq__free(pool);
        return EVPQ_ENOMEM;
    }
    pool->refs = 1;
    for (int state = 0; state < EVPQ__SLOT_STATES; state++)
        evpq__list_init(&pool->slots[state]);
    evpq__list_init(&pool->waiters);
    evpq__list_init(&pool->running);
    evpq__list_init(&pool->leases);
    evpq__timer_init(&pool->close_limit, pool_on_close_limit);
    evpq__task_init(&pool->settle, pool_on_settle);
    evpq__task_init(&pool->helper_stopped, pool_on_helper_stopped);
    evpq__upkeep_init(pool);
    if (complete.min_size > 0)
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
    *out = pool;
    return EVPQ_OK;
}

void evpq__pool_ref(struct evpq_pool *pool)
{
    pool->refs++;
}

void evpq__pool_unref(struct evpq_pool *pool)
{
    assert(pool->refs > 0);
    if (--pool->refs > 0)
        return;
    evpq__free(pool->conninfo);
    evpq__free(pool);
}

static void stop_all(struct evpq_pool *pool)
{
    pool->state = EVPQ__POOL_STOPPING;
    evpq__timer_stop(&pool->close_limit);
    struct evpq__node *node;
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

static void pool_on_close_limit(struct evpq__timer *timer)
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
                          evpq__loop_deadline(pool->loop, timeout_ms
                                                              ? timeout_ms
                                                              : pool->options.query_timeout_ms));
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
    evpq__timer_stop(&pool->close_limit);
    evpq__loop_unpost(pool->loop, &pool->settle);
    evpq__loop_free(pool->loop);
    pool->loop = NULL;
    evpq__pool_unref(pool);
    if (on_closed)
        on_closed(user);
}

static void pool_on_helper_stopped(struct evpq__task *task)
{
    pool_closed(evpq__container_of(task, struct evpq_pool, helper_stopped));
}

/* One step towards the end: when nobody has anything under way, connections go; then the helper. */
static void close_step(struct evpq_pool *pool)
{
    if (pool->state >= EVPQ__POOL_ENDING || pool->ops > 0 || !evpq__list_empty(&pool->leases))
        return;
    pool->state = EVPQ__POOL_STOPPING;
    struct evpq__slot *slot;
    while ((slot = first_slot(pool, EVPQ__SLOT_IDLE)))
        evpq__pool_retire(slot, NULL);
    struct evpq__node *node = evpq__list_first(&pool->slots[EVPQ__SLOT_DIALING]);
    for (; node; node = evpq__list_next(&pool->slots[EVPQ__SLOT_DIALING], node)) {
        slot = evpq__container_of(node, struct evpq__slot, node);
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
