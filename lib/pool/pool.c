/* SPDX-License-Identifier: MIT */
/*
 *   slot:   DIALING ---> IDLE <===> BUSY
 *              |          |  ^       |
 *              |          |  +---- CLEANING
 *              v          v          |
 *            (gone) <-- CLOSING <----+
 *
 * Plan, then act. Every event changes a state, then calls evpq__pool_settle(),
 * the one place that decides: who gets which connection, how many to dial. It
 * calls nobody back: outcomes are posted, and reach users from the loop.
 */
#include "pool/pool.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "pg/conninfo.h"

static void slot_on_dialed(void *owner, struct evpq__dialed *dialed);
static void slot_on_clean(void *owner);
static void slot_on_lost(void *owner);
static int64_t slot_on_canceling(void *owner);
static const struct evpq__conn_class slot_conn_class = {slot_on_clean, slot_on_lost,
                                                        slot_on_canceling};

/* Slots */

/* Among those that may take one more; or not, any more. */
static void slot_set_users(struct evpq__slot *slot, uint32_t users)
{
    struct evpq_pool *pool = slot->pool;
    slot->users = users;
    if (!pool->loads)
        return;
    evpq__node_unlink(&slot->load);
    if (!slot->shared || users == 0 || users >= pool->options.pipeline_depth)
        return;
    evpq__list_push_back(&pool->loads[users - 1], &slot->load);
    if (users - 1 < pool->least_load)
        pool->least_load = users - 1;
}

static void slot_leave(struct evpq__slot *slot)
{
    evpq__node_unlink(&slot->node);
    slot->pool->slot_count[slot->state]--;
    slot->pool->stale -= slot->stale;
    slot->stale = false;
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
    evpq__node_unlink(&slot->load);
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
        evpq__node_init(&slot->load);
        slot->number = ++pool->connections;
        slot->generation = pool->generation;
        slot->dialed_us = evpq__loop_now(pool->loop);
        slot->first_host = evpq__upkeep_first_host(pool);
        slot->dial =
            evpq__dial_start(pool->helper, pool->loop, pool->conninfo, slot->first_host,
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

/*
 * An idle connection that is to be replaced serves until its replacement is
 * there, if there is room for both or a dial under way; the last of the list is
 * taken last.
 */
void evpq__pool_outdated(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    bool expired = slot->generation != pool->generation;
    bool room = evpq__pool_total(pool) < pool->options.max_size ||
                pool->slot_count[EVPQ__SLOT_DIALING] > pool->stale;
    if (slot->generation < pool->useless || pool->state != EVPQ__POOL_OPEN || !room) {
        evpq__pool_retire(slot,
                          expired ? &pool->stats.closed_expired : &pool->stats.closed_lifetime,
                          expired ? "expired" : "max_lifetime");
        return;
    }
    slot->stale = true;
    pool->stale++;
    evpq__node_unlink(&slot->node);
    evpq__list_push_back(&pool->slots[EVPQ__SLOT_IDLE], &slot->node);
}

static void slot_becomes_idle(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    int64_t now = evpq__loop_turn_now(pool->loop);
    if (evpq__conn_worn(slot->conn)) {
        evpq__pool_retire(slot, &pool->stats.closed_lifetime, "huge result");
        return;
    }
    slot_move(slot, EVPQ__SLOT_IDLE);
    slot->idle_since_us = now;
    if (evpq__upkeep_outdated(slot, now))
        evpq__pool_outdated(slot);
    if (slot->state == EVPQ__SLOT_IDLE)
        evpq__upkeep_watch(pool, slot);
}

/* A replacement is there: the oldest of those that wait for one goes. */
static void retire_stale(struct evpq_pool *pool)
{
    struct evpq__list *idle = &pool->slots[EVPQ__SLOT_IDLE];
    if (pool->stale == 0)
        return;
    /* They are at the end of the list, behind those that are not. */
    struct evpq__slot *slot = evpq__container_of(idle->head.prev, struct evpq__slot, node);
    bool expired = slot->generation != pool->generation;
    evpq__pool_retire(slot, expired ? &pool->stats.closed_expired : &pool->stats.closed_lifetime,
                      expired ? "expired" : "max_lifetime");
}

static void fail_waiter(struct evpq__waiter *waiter, const struct evpq_error *why)
{
    evpq__node_unlink(&waiter->op.node);
    waiter->pool->waiting--;
    evpq__error_copy(&waiter->op.error, why);
    evpq__op_finish(&waiter->op);
}

/* Tells who waits that there will be no connection for now: everybody, or a router's question. */
static void fail_waiters(struct evpq_pool *pool, bool all, const struct evpq_error *why)
{
    struct evpq__node *next, *node = evpq__list_first(&pool->waiters);
    for (; node; node = next) {
        struct evpq__waiter *waiter = evpq__container_of(node, struct evpq__waiter, op.node);
        next = evpq__list_next(&pool->waiters, node);
        if (all || waiter->first)
            fail_waiter(waiter, why);
    }
}

static void retire_stale(struct evpq_pool *pool);

static void dial_failed(struct evpq_pool *pool, struct evpq__dialed *dialed)
{
    /* cannot_connect_now: a server that is shutting down waits for those it has. */
    while (pool->stale > 0 && strcmp(evpq_error_sqlstate(&dialed->error), "57P03") == 0)
        retire_stale(pool);
    evpq__upkeep_dial_failed(pool, dialed);
    evpq__pool_trace(pool, &(evpq_trace){.kind = EVPQ_TRACE_DIAL_FAILED}, &dialed->error);
    bool all = dialed->refused_for_good || pool->options.fail_fast;
    if (all || evpq__pool_total(pool) == pool->slot_count[EVPQ__SLOT_DIALING])
        fail_waiters(pool, all, &dialed->error);
    evpq__error_clear(&dialed->error);
}

static void slot_on_dialed(void *owner, struct evpq__dialed *dialed)
{
    struct evpq__slot *slot = owner;
    struct evpq_pool *pool = slot->pool;
    slot->dial = NULL;
    if (dialed->pg) {
        slot->conn =
            evpq__conn_new(pool->loop, pool->helper, dialed, &pool->rules, &slot_conn_class, slot);
        if (!slot->conn)
            evpq__error_set(&dialed->error, EVPQ_ENOMEM, EVPQ_NOT_SENT,
                            "no memory for a connection");
    }
    if (slot->conn) {
        evpq__upkeep_dial_succeeded(pool);
        evpq__upkeep_host_found(pool, slot->first_host, dialed->host);
        slot->host = dialed->host;
        evpq__pool_settle_doubt(slot);
        pool->read_write = dialed->read_write;
        evpq__pool_trace_slot(slot, EVPQ_TRACE_DIALED, slot->dialed_us, NULL);
        evpq__pool_warn(slot, dialed->notices);
        slot->dialed_us = evpq__loop_now(pool->loop);
        slot->expires_us = evpq__upkeep_expiry(pool);
        slot_becomes_idle(slot);
        retire_stale(pool);
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
    if (slot->state != EVPQ__SLOT_CLOSING) {
        pool->stats.closed_broken++;
        if (evpq__conn_broken(slot->conn))
            evpq__upkeep_lost(pool, slot);
    }
    evpq__pool_trace_slot(slot, EVPQ_TRACE_CLOSED, slot->dialed_us,
                          slot->why ? slot->why : evpq__conn_why(slot->conn));
    slot_free(slot);
    evpq__pool_settle(pool);
}

static int64_t slot_on_canceling(void *owner)
{
    struct evpq__slot *slot = owner;
    int64_t not_before_us = evpq__upkeep_may_cancel(slot->pool);
    if (not_before_us == 0) {
        slot->pool->stats.cancels++;
        evpq__pool_trace_slot(slot, EVPQ_TRACE_CANCELED, 0, NULL);
    }
    return not_before_us;
}

void evpq__pool_give_back(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    slot->lease = NULL;
    if (evpq__conn_proven(slot->conn))
        evpq__upkeep_proven(pool);
    slot_set_users(slot, slot->users - 1);
    if (slot->users > 0) {
        evpq__pool_settle(pool);
        return;
    }
    if (slot->state == EVPQ__SLOT_BUSY && evpq__conn_recycle(slot->conn)) {
        slot_becomes_idle(slot);
        evpq__pool_settle(pool);
        return;
    }
    if (slot->state == EVPQ__SLOT_BUSY)
        slot_move(slot, EVPQ__SLOT_CLEANING);
    /* Later: it may be on its way to being lost, which decides how to dial. */
    evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
}

void evpq__pool_retire(struct evpq__slot *slot, uint64_t *counter, const char *why)
{
    if (slot->state == EVPQ__SLOT_CLOSING)
        return;
    slot->why = why;
    if (counter)
        ++*counter;
    slot_move(slot, EVPQ__SLOT_CLOSING);
    evpq__conn_close(slot->conn);
}

/* Generations */

void evpq__pool_expire(struct evpq_pool *pool, bool useless, const char *why)
{
    pool->generation++;
    if (useless)
        pool->useless = pool->generation;
    pool->stats.expired++;
    evpq__pool_trace(pool, &(evpq_trace){.kind = EVPQ_TRACE_EXPIRED, .why = why}, NULL);
    struct evpq__list *idle = &pool->slots[EVPQ__SLOT_IDLE];
    uint32_t count = pool->slot_count[EVPQ__SLOT_IDLE];
    struct evpq__node *node = evpq__list_first(idle);
    while (count-- > 0) {
        struct evpq__slot *slot = evpq__container_of(node, struct evpq__slot, node);
        node = evpq__list_next(idle, node);
        if (!slot->stale || useless) {
            pool->stale -= slot->stale;
            slot->stale = false;
            evpq__pool_outdated(slot);
        }
    }
}

int evpq_pool_expire(evpq_pool *pool)
{
    if (!pool)
        return EVPQ_EINVALID;
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    evpq__pool_expire(pool, false, "asked for");
    evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
    return EVPQ_OK;
}

/* Waiters */

int evpq__pool_admit(struct evpq__pass **pass, struct evpq_pool *pool, const char *tag,
                     bool goes_on)
{
    *pass = NULL;
    if (!goes_on || pool->state != EVPQ__POOL_DRAINING) {
        if (pool->state != EVPQ__POOL_OPEN)
            return EVPQ_ECLOSED;
        if (pool->waiting >= pool->options.max_waiters) {
            pool->stats.overloaded++;
            return EVPQ_EOVERLOADED;
        }
    }
    return pool->gates ? evpq__pass_new(pass, pool, tag) : EVPQ_OK;
}

void evpq__pool_enter(struct evpq_pool *pool, struct evpq__waiter *waiter,
                      const struct evpq__op_class *class_, uint32_t timeout_ms, uint32_t acquire_ms)
{
    waiter->pool = pool;
    waiter->timeout_ms = timeout_ms;
    waiter->acquire_ms = acquire_ms ? acquire_ms : evpq__pool_half(timeout_ms);
    if (waiter->acquire_ms > timeout_ms)
        waiter->acquire_ms = timeout_ms;
    waiter->number = ++pool->operations;
    int64_t now = evpq__loop_now(pool->loop);
    waiter->started_us = waiter->waits_since_us = now;
    pool->ops++;
    evpq__op_prepare(&waiter->op, class_, pool->loop, evpq__deadline_after(now, timeout_ms));
    if (waiter->pass) {
        evpq__op_limit(&waiter->op, EVPQ__NO_DEADLINE);
        evpq__list_push_back(&pool->gated, &waiter->op.node);
        evpq__pass_begin(waiter);
        return;
    }
    evpq__pool_queue(waiter);
}

void evpq__pool_queue(struct evpq__waiter *waiter)
{
    struct evpq_pool *pool = waiter->pool;
    if (waiter->first)
        evpq__list_push_front(&pool->waiters, &waiter->op.node);
    else
        evpq__list_push_back(&pool->waiters, &waiter->op.node);
    pool->waiting++;
    evpq__pool_settle(pool);
    if (!waiter->slot && !evpq__op_finished(&waiter->op))
        evpq__op_limit(&waiter->op,
                       evpq__deadline_after(waiter->waits_since_us, waiter->acquire_ms));
}

void evpq__pool_reenter(struct evpq__waiter *waiter)
{
    struct evpq_pool *pool = waiter->pool;
    int64_t now = evpq__loop_now(pool->loop);
    waiter->slot = NULL;
    waiter->waits_since_us = now;
    evpq__op_again(&waiter->op);
    evpq__list_push_front(&pool->waiters, &waiter->op.node);
    pool->waiting++;
    pool->stats.reruns++;
    evpq__pool_trace_op(waiter, EVPQ_TRACE_RERUN, waiter->started_us);
    /* Half of what is left, as if it came now. */
    int64_t deadline_us = waiter->op.deadline_us;
    int64_t limit_us = evpq__loop_deadline(pool->loop, waiter->acquire_ms);
    if (deadline_us != EVPQ__NO_DEADLINE && now + (deadline_us - now) / 2 < limit_us)
        limit_us = now + (deadline_us - now) / 2;
    evpq__op_limit(&waiter->op, limit_us);
}

void evpq__pool_rerun(struct evpq__waiter *waiter)
{
    struct evpq__slot *slot = waiter->slot;
    evpq__node_unlink(&waiter->op.node);
    evpq__pool_reenter(waiter);
    evpq__op_unref(&waiter->op);
    evpq__pool_give_back(slot);
}

void evpq__pool_leave(struct evpq__waiter *waiter, evpq_code why)
{
    struct evpq_pool *pool = waiter->pool;
    if (waiter->pass && evpq__pass_leave(waiter, why))
        return;
    if (why == EVPQ_ETIMEOUT)
        evpq__pool_set_timeout(waiter, &waiter->op.error);
    else
        evpq__error_set(&waiter->op.error, why, EVPQ_NOT_SENT,
                        why == EVPQ_ECLOSED ? "the pool was closed"
                                            : "cancelled while it waited for a connection");
    evpq__node_unlink(&waiter->op.node);
    pool->waiting--;
}

void evpq__pool_count(const struct evpq__waiter *waiter)
{
    struct evpq_pool *pool = waiter->pool;
    pool->stats.timeouts += waiter->op.error.code == EVPQ_ETIMEOUT;
    pool->stats.canceled += waiter->op.error.code == EVPQ_ECANCELED;
    pool->stats.too_large += waiter->op.error.code == EVPQ_ETOOLARGE;
    evpq__pool_trace_op(waiter, EVPQ_TRACE_FINISHED, waiter->started_us);
}

void evpq__pool_op_gone(struct evpq_pool *pool)
{
    pool->ops--;
    if (pool->state != EVPQ__POOL_OPEN && pool->ops == 0)
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
}

/* Deciding */

/*
 * Is it fit to be handed out? When its socket has something to say, that may be
 * the server's last word: it is heard first, in the next turn of the loop. One
 * that was used a moment ago is not asked.
 */
static bool fit(struct evpq__slot *slot, int64_t now)
{
    enum { A_MOMENT_US = 1000 };
    struct evpq_pool *pool = slot->pool;
    if (!evpq__conn_alive(slot->conn)) {
        evpq__pool_retire(slot, &pool->stats.closed_broken, "broken");
        return false;
    }
    if (evpq__pool_takes_no_writes(slot)) {
        evpq__pool_retire(slot, &pool->stats.closed_expired, "takes no writes");
        return false;
    }
    if (now - slot->idle_since_us > A_MOMENT_US && !evpq__conn_quiet(slot->conn)) {
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
        return false;
    }
    return true;
}

static struct evpq__slot *best_idle(struct evpq_pool *pool, int64_t now)
{
    struct evpq__list *idle = &pool->slots[EVPQ__SLOT_IDLE];
    struct evpq__node *node = evpq__list_first(idle);
    while (node) {
        struct evpq__slot *slot = evpq__container_of(node, struct evpq__slot, node);
        uint32_t generation = pool->generation;
        if (fit(slot, now))
            return slot;
        /* The list has lost this slot, kept it, or, when all have expired, lost many. */
        bool again = slot->state != EVPQ__SLOT_IDLE || generation != pool->generation;
        node = again ? evpq__list_first(idle) : evpq__list_next(idle, node);
    }
    return NULL;
}

/*
 * Whoever has waited for too long, when that is a rule, gives way to the next; but not to nobody:
 * as many stay as can be served now. (So has CoDel for packets, which drops none of a queue that
 * holds no more than one: RFC 8289, section 5. folly's has not.)
 */
static struct evpq__waiter *next_waiter(struct evpq_pool *pool, int64_t now)
{
    int64_t target_us = (int64_t)pool->options.shed_target_ms * 1000;
    uint32_t idle = pool->slot_count[EVPQ__SLOT_IDLE], served = idle ? idle : 1;
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(&pool->waiters))) {
        struct evpq__waiter *waiter = evpq__container_of(node, struct evpq__waiter, op.node);
        pool->waiting--;
        if (target_us == 0 ||
            !evpq__codel_sheds(&pool->codel, target_us, now, now - waiter->waits_since_us) ||
            pool->waiting < served)
            return waiter;
        pool->stats.shed++;
        evpq__pool_set_shed(waiter, &waiter->op.error);
        evpq__op_finish(&waiter->op);
    }
    return NULL;
}

/*
 * When all are busy, and there can be no more: the one with the fewest in
 * flight, if it is not waiting for a slow statement, and not to be replaced.
 */
static struct evpq__slot *best_shared(struct evpq_pool *pool, int64_t now)
{
    uint32_t levels = pool->loads ? pool->options.pipeline_depth - 1 : 0;
    if (evpq__pool_total(pool) < pool->options.max_size)
        return NULL;
    while (pool->least_load < levels && evpq__list_empty(&pool->loads[pool->least_load]))
        pool->least_load++;
    for (uint32_t level = pool->least_load; level < levels; level++) {
        struct evpq__list *list = &pool->loads[level];
        struct evpq__node *node = evpq__list_first(list);
        for (; node; node = evpq__list_next(list, node)) {
            struct evpq__slot *slot = evpq__container_of(node, struct evpq__slot, load);
            if (evpq__conn_shares(slot->conn, now) && !evpq__upkeep_outdated(slot, now))
                return slot;
        }
    }
    return NULL;
}

static struct evpq__waiter *first_waiter(const struct evpq_pool *pool)
{
    struct evpq__node *node = evpq__list_first(&pool->waiters);
    return node ? evpq__container_of(node, struct evpq__waiter, op.node) : NULL;
}

static struct evpq__slot *slot_for(struct evpq_pool *pool, const struct evpq__waiter *waiter,
                                   int64_t now)
{
    struct evpq__slot *slot = best_idle(pool, now);
    return !slot && waiter->shares ? best_shared(pool, now) : slot;
}

static void grant(struct evpq__waiter *waiter, struct evpq__slot *slot)
{
    waiter->pool->stats.acquired++;
    if (slot->state == EVPQ__SLOT_IDLE) {
        slot_move(slot, EVPQ__SLOT_BUSY);
        slot->shared = waiter->shares;
    }
    slot_set_users(slot, slot->users + 1);
    waiter->slot = slot;
    evpq__pool_trace_op(waiter, EVPQ_TRACE_ACQUIRED, waiter->waits_since_us);
    evpq__taking(waiter)->granted(waiter);
}

/* Without memory it has ended, and the slot is for the next. */
static bool equip(struct evpq__waiter *waiter)
{
    const struct evpq__taking *taking = evpq__taking(waiter);
    if (!taking->equip || taking->equip(waiter))
        return true;
    evpq__error_set(&waiter->op.error, EVPQ_ENOMEM, EVPQ_NOT_SENT,
                    "no memory to send it, when there was a connection for it");
    evpq__op_finish(&waiter->op);
    return false;
}

/* Waiters and connections find each other, first come first served. */
static void pair(struct evpq_pool *pool)
{
    if (evpq__list_empty(&pool->waiters) ||
        (pool->slot_count[EVPQ__SLOT_IDLE] == 0 && !pool->loads))
        return;
    int64_t now = evpq__loop_turn_now(pool->loop);
    struct evpq__waiter *first;
    while ((first = first_waiter(pool))) {
        struct evpq__slot *slot = slot_for(pool, first, now);
        struct evpq__waiter *waiter = slot ? next_waiter(pool, now) : NULL;
        if (!waiter)
            return;
        if (slot->state == EVPQ__SLOT_BUSY && !waiter->shares) {
            /* The first has been shed, and who comes behind needs one for itself. */
            evpq__list_push_front(&pool->waiters, &waiter->op.node);
            pool->waiting++;
            return;
        }
        if (equip(waiter))
            grant(waiter, slot);
    }
}

/* How many connections are missing: for those who wait, to replace old ones, and for min_size. */
static uint32_t missing(const struct evpq_pool *pool)
{
    uint32_t total = evpq__pool_total(pool);
    uint32_t dialing = pool->slot_count[EVPQ__SLOT_DIALING];
    uint32_t needed = pool->waiting + pool->stale;
    uint32_t wanted = needed > dialing ? needed - dialing : 0;
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

void evpq__pool_settle(struct evpq_pool *pool)
{
    pair(pool);
    if (pool->state <= EVPQ__POOL_DRAINING)
        grow(pool);
    if (pool->state != EVPQ__POOL_OPEN)
        evpq__pool_close_step(pool);
}

static void pool_on_settle(struct evpq__task *task)
{
    evpq__pool_settle(evpq__container_of(task, struct evpq_pool, settle));
}

/* Opening */

enum { STATEMENTS = 256 }; /* the default of statement_cache, where no pooler is */

/* Statements that are kept though nobody refers to them. */
enum { UNUSED_STATEMENTS = 256, UNUSED_STATEMENT_BYTES = 256 * 1024 };

static struct evpq__list *new_loads(uint32_t count)
{
    struct evpq__list *loads = evpq__alloc(count * sizeof(*loads));
    for (uint32_t i = 0; loads && i < count; i++)
        evpq__list_init(&loads[i]);
    return loads;
}

static uint32_t statements_kept(const struct evpq_pool_options *options, uint32_t by_default)
{
    uint32_t asked = options->statement_cache;
    return asked == EVPQ_NEVER ? 0 : asked ? asked : by_default;
}

int evpq_pool_open(evpq_pool **out, struct ev_loop *loop, const evpq_pool_options *options)
{
    struct evpq_pool_options complete;
    if (!out || !loop || evpq__pool_options_read(&complete, options))
        return EVPQ_EINVALID;
    if (evpq__conninfo_check(complete.conninfo) != EVPQ_OK)
        return EVPQ_ENOMEM;
    struct evpq_pool *pool = evpq__alloc(sizeof(*pool));
    if (!pool)
        return EVPQ_ENOMEM;
    pool->options = complete;
    pool->conninfo = evpq__strdup(complete.conninfo);
    pool->options.conninfo = pool->conninfo;
    pool->ev = loop;
    pool->loop = evpq__loop_new(loop);
    if (pool->loop && complete.on_trace)
        pool->tracer = evpq__tracer_new(pool->loop, complete.on_trace, complete.trace_user,
                                        complete.trace_kinds);
    if (complete.pipeline_depth > 1)
        pool->loads = new_loads(complete.pipeline_depth - 1);
    if (!pool->loop || (complete.conninfo && !pool->conninfo) ||
        (complete.on_trace && !pool->tracer) || (complete.pipeline_depth > 1 && !pool->loads)) {
        evpq__tracer_end(pool->tracer);
        if (pool->loop)
            evpq__loop_free(pool->loop);
        evpq__free(pool->loads);
        evpq__free(pool->conninfo);
        evpq__free(pool);
        return EVPQ_ENOMEM;
    }
    pool->rules = (struct evpq__conn_rules){.cancel_timeout_ms = complete.cancel_timeout_ms,
                                            .cancel_policy = complete.cancel_policy,
                                            .depth = complete.pipeline_depth,
                                            .reset = complete.reset_session,
                                            .statements = statements_kept(&complete, STATEMENTS),
                                            .statements_pooled = statements_kept(&complete, 0),
                                            .statement_bytes = complete.statement_cache_bytes};
    pool->refs = 1;
    for (int state = 0; state < EVPQ__SLOT_STATES; state++)
        evpq__list_init(&pool->slots[state]);
    evpq__list_init(&pool->waiters);
    evpq__list_init(&pool->gated);
    evpq__list_init(&pool->running);
    evpq__list_init(&pool->leases);
    evpq__statements_init(&pool->statements, UNUSED_STATEMENTS, UNUSED_STATEMENT_BYTES);
    evpq__timer_init(&pool->close_limit, evpq__pool_on_close_limit);
    evpq__task_init(&pool->settle, pool_on_settle);
    evpq__task_init(&pool->helper_stopped, evpq__pool_on_helper_stopped);
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
    evpq__free(pool->memo);
    evpq__free(pool->loads);
    evpq__free(pool->conninfo);
    evpq__free(pool);
}
