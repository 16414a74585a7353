/* SPDX-License-Identifier: MIT */
/*
 * What a pool does by the clock: retires connections that are idle for too long
 * or too old, dials again after a failure, spaces cancel requests, and looks
 * after leases that are held for long.
 *
 * The outage controller. While dials fail there is one at a time, the prober,
 * after a growing and random pause, so that a server that comes back is not met
 * by everybody at once; each success doubles how many may be under way. The same
 * ramp keeps a short spike from opening connections that nobody needs when they
 * are there. A connection that the server ends makes one prober again; one that
 * it ends at once, before any statement was answered, counts as a failed dial: a
 * server may let everybody in and serve nobody. So after failures the first that
 * succeeds has to prove itself before there is a second. The pauses are full jitter
 * ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015) above 100 ms,
 * so there are never more than ten dials a second while the server is down.
 */
#include <stdlib.h>

#include "pool/pool.h"

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 1000,   /* so that a server that is back is noticed within two seconds */
    REFUSED_MS = 1000,       /* at least, after a refusal that will be repeated */
    PROVE_US = 1000000,      /* a connection that lives so long needs no other proof */
    GOOD_HOST_US = 60000000, /* then the order of the hosts counts again */
};

static void upkeep_on_timer(struct evpq__timer *timer);

static double random_share(struct evpq_pool *pool)
{
    return erand48(pool->backoff.random);
}

void evpq__upkeep_init(struct evpq_pool *pool)
{
    evpq__timer_init(&pool->upkeep, upkeep_on_timer);
    pool->upkeep_at_us = EVPQ__NO_DEADLINE;
    pool->backoff.allowance = 1;
    pool->drifted_us = INT64_MIN / 2;
    /* Two pools that start together should not stay together. */
    uint64_t seed = (uint64_t)evpq__loop_now(pool->loop) ^ (uint64_t)(uintptr_t)pool >> 4;
    for (int i = 0; i < 3; i++)
        pool->backoff.random[i] = (unsigned short)(seed >> (16 * i));
}

void evpq__upkeep_done(struct evpq_pool *pool)
{
    evpq__timer_stop(&pool->upkeep);
    pool->upkeep_at_us = EVPQ__NO_DEADLINE;
    evpq__error_clear(&pool->backoff.last_error);
}

/* The timer only ever moves forward in time here; when it fires too early, it looks again. */
static void wake_at(struct evpq_pool *pool, int64_t at_us)
{
    if (at_us >= pool->upkeep_at_us)
        return;
    pool->upkeep_at_us = at_us;
    evpq__timer_start(pool->loop, &pool->upkeep, at_us);
}

int64_t evpq__upkeep_expiry(struct evpq_pool *pool)
{
    if (pool->options.max_lifetime_ms == EVPQ_NEVER)
        return EVPQ__NO_DEADLINE;
    double lifetime_us = pool->options.max_lifetime_ms * 1000. * (1. - 0.1 * random_share(pool));
    return evpq__loop_now(pool->loop) + (int64_t)lifetime_us;
}

static int64_t idle_until(const struct evpq_pool *pool, const struct evpq__slot *slot)
{
    if (pool->options.idle_timeout_ms == EVPQ_NEVER)
        return EVPQ__NO_DEADLINE;
    return slot->idle_since_us + (int64_t)pool->options.idle_timeout_ms * 1000;
}

bool evpq__upkeep_outdated(const struct evpq__slot *slot, int64_t now_us)
{
    return slot->expires_us <= now_us || slot->generation != slot->pool->generation;
}

void evpq__upkeep_watch(struct evpq_pool *pool, const struct evpq__slot *slot)
{
    if (!slot->stale)
        wake_at(pool, slot->expires_us);
    if (evpq__pool_total(pool) > pool->options.min_size)
        wake_at(pool, idle_until(pool, slot));
}

static void retire_idle(struct evpq_pool *pool, int64_t now)
{
    uint32_t live = evpq__pool_total(pool) - pool->slot_count[EVPQ__SLOT_CLOSING];
    struct evpq__list *idle = &pool->slots[EVPQ__SLOT_IDLE];
    struct evpq__node *node = evpq__list_first(idle);
    while (node) {
        struct evpq__slot *slot = evpq__container_of(node, struct evpq__slot, node);
        node = evpq__list_next(idle, node);
        bool outdated = evpq__upkeep_outdated(slot, now);
        bool unused = live > pool->options.min_size && idle_until(pool, slot) <= now;
        if (unused && outdated)
            evpq__pool_retire(slot, &pool->stats.closed_lifetime, "max_lifetime");
        else if (unused)
            evpq__pool_retire(slot, &pool->stats.closed_idle, "idle_timeout");
        else if (outdated && !slot->stale)
            evpq__pool_outdated(slot);
        if (slot->state == EVPQ__SLOT_IDLE)
            evpq__upkeep_watch(pool, slot);
        else
            live--;
    }
}

static int64_t overdue_at(const struct evpq_pool *pool, const struct evpq_lease *lease)
{
    if (pool->options.lease_overdue_ms == EVPQ_NEVER)
        return EVPQ__NO_DEADLINE;
    return lease->since_us + (int64_t)pool->options.lease_overdue_ms * 1000;
}

void evpq__upkeep_watch_lease(struct evpq_pool *pool, const struct evpq_lease *lease)
{
    wake_at(pool, overdue_at(pool, lease));
}

/* The list is in the order of their beginning. */
static void tell_overdue(struct evpq_pool *pool, int64_t now)
{
    struct evpq__node *node = evpq__list_first(&pool->leases);
    for (; node; node = evpq__list_next(&pool->leases, node)) {
        struct evpq_lease *lease = evpq__container_of(node, struct evpq_lease, node);
        if (lease->overdue)
            continue;
        if (overdue_at(pool, lease) > now) {
            evpq__upkeep_watch_lease(pool, lease);
            return;
        }
        lease->overdue = true;
        pool->stats.leases_overdue++;
        evpq__pool_trace(
            pool,
            &(evpq_trace){.kind = EVPQ_TRACE_LEASE_OVERDUE,
                          .took_us = now - lease->since_us,
                          .connection = lease->slot ? lease->slot->number : 0,
                          .backend_pid =
                              lease->slot ? evpq__conn_backend_pid(lease->slot->conn) : 0,
                          .tag = lease->tag},
            NULL);
    }
}

static void upkeep_on_timer(struct evpq__timer *timer)
{
    struct evpq_pool *pool = evpq__container_of(timer, struct evpq_pool, upkeep);
    pool->upkeep_at_us = EVPQ__NO_DEADLINE;
    int64_t now = evpq__loop_now(pool->loop);
    retire_idle(pool, now);
    tell_overdue(pool, now);
    evpq__pool_settle(pool);
}

/* Dials */

uint32_t evpq__upkeep_dials(struct evpq_pool *pool)
{
    struct evpq__backoff *b = &pool->backoff;
    uint32_t dialing = pool->slot_count[EVPQ__SLOT_DIALING];
    if (b->failures > 0 && evpq__loop_now(pool->loop) < b->not_before_us) {
        wake_at(pool, b->not_before_us);
        return 0;
    }
    if (b->before > 0 && evpq__loop_now(pool->loop) < b->proven_us) {
        wake_at(pool, b->proven_us);
        return 0;
    }
    b->before = 0;
    return b->allowance > dialing ? b->allowance - dialing : 0;
}

/*
 * Where the first hosts are down, or have another role, each dial would find out anew. So the host
 * that one has found is the first for the next, for a while: not for longer by being found like
 * this, for the user's order means something.
 */
size_t evpq__upkeep_first_host(struct evpq_pool *pool)
{
    if (pool->good_host && evpq__loop_now(pool->loop) >= pool->good_host_until_us)
        pool->good_host = 0;
    return pool->good_host;
}

void evpq__upkeep_host_found(struct evpq_pool *pool, size_t first_host, size_t found)
{
    if (found == first_host)
        return;
    pool->good_host = found;
    pool->good_host_until_us = evpq__loop_now(pool->loop) + GOOD_HOST_US;
}

/* Nobody dials before a pause that the failures so far have earned. */
static void back_off(struct evpq_pool *pool, int at_least_ms)
{
    struct evpq__backoff *b = &pool->backoff;
    unsigned doublings = b->failures < 6 ? b->failures : 6;
    int limit_ms = BACKOFF_MIN_MS << doublings;
    if (limit_ms > BACKOFF_MAX_MS)
        limit_ms = BACKOFF_MAX_MS;
    b->failures++;
    b->allowance = 1;
    b->not_before_us = evpq__loop_now(pool->loop) +
                       (int64_t)((at_least_ms + limit_ms * random_share(pool)) * 1000.);
    evpq__error_clear(&b->last_error);
}

void evpq__upkeep_dial_failed(struct evpq_pool *pool, struct evpq__dialed *dialed)
{
    pool->good_host = 0;
    if (dialed->error.code == EVPQ_ENOMEM)
        pool->backoff.failures = 0; /* ours, and no reason to spare the server */
    back_off(pool, dialed->refused_for_good ? REFUSED_MS : BACKOFF_MIN_MS);
    evpq__error_copy(&pool->backoff.last_error, &dialed->error);
    pool->stats.dial_failures++;
}

void evpq__upkeep_lost(struct evpq_pool *pool, const struct evpq__slot *slot)
{
    struct evpq__backoff *b = &pool->backoff;
    b->allowance = 1;
    if (evpq__conn_proven(slot->conn) || evpq__loop_now(pool->loop) - slot->dialed_us >= PROVE_US)
        return;
    /* Of many that are lost together one counts. */
    if (b->failures > 0 && evpq__loop_now(pool->loop) < b->not_before_us)
        return;
    b->failures += b->before;
    b->before = 0;
    back_off(pool, BACKOFF_MIN_MS);
    evpq__error_set(&b->last_error, EVPQ_ECONNECT, EVPQ_NOT_SENT,
                    "a connection was made, and lost before it had answered anything");
}

void evpq__upkeep_proven(struct evpq_pool *pool)
{
    if (pool->backoff.before > 0)
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
    pool->backoff.before = 0;
}

void evpq__upkeep_dial_succeeded(struct evpq_pool *pool)
{
    struct evpq__backoff *b = &pool->backoff;
    b->before += b->failures;
    b->failures = 0;
    b->proven_us = evpq__loop_now(pool->loop) + PROVE_US;
    if (b->allowance < pool->options.max_size)
        b->allowance *= 2;
    evpq__error_clear(&b->last_error);
    pool->stats.dialed++;
}

/* Cancel requests */

/*
 * A leaky bucket: half of a second's requests may leave at once, the other half
 * comes back over the second. So in no second are there more than allowed.
 */
int64_t evpq__upkeep_may_cancel(struct evpq_pool *pool)
{
    int64_t per_s = pool->options.cancels_per_s;
    int64_t at_once = (per_s + 1) / 2;
    int64_t each_us = 1000000 / (per_s > at_once ? per_s - at_once : 1);
    int64_t now = evpq__loop_now(pool->loop);
    if (pool->cancels_to_us < now)
        pool->cancels_to_us = now;
    int64_t not_before_us = pool->cancels_to_us - (at_once - 1) * each_us;
    if (not_before_us > now)
        return not_before_us;
    pool->cancels_to_us += each_us;
    return 0;
}
