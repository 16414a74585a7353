/* SPDX-License-Identifier: MIT */
/*
 * What a pool does by the clock: retires connections that are idle for too long
 * or too old, and dials again after a failure.
 *
 * While dials fail there is one at a time, after a growing and random pause, so
 * that a server that comes back is not met by everybody at once; each success
 * doubles how many may be under way. The same ramp keeps a short spike from
 * opening connections that nobody needs when they are there.
 */
#include <stdlib.h>

#include "pool/pool.h"

enum {
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    REFUSED_MS = 1000, /* at least, after a refusal that will be repeated */
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

void evpq__upkeep_watch(struct evpq_pool *pool, const struct evpq__slot *slot)
{
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
        if (slot->expires_us <= now) {
            evpq__pool_retire(slot, &pool->stats.closed_lifetime);
            live--;
        } else if (live > pool->options.min_size && idle_until(pool, slot) <= now) {
            evpq__pool_retire(slot, &pool->stats.closed_idle);
            live--;
        } else {
            evpq__upkeep_watch(pool, slot);
        }
    }
}

static void upkeep_on_timer(struct evpq__timer *timer)
{
    struct evpq_pool *pool = evpq__container_of(timer, struct evpq_pool, upkeep);
    pool->upkeep_at_us = EVPQ__NO_DEADLINE;
    retire_idle(pool, evpq__loop_now(pool->loop));
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
    return b->allowance > dialing ? b->allowance - dialing : 0;
}

void evpq__upkeep_dial_failed(struct evpq_pool *pool, struct evpq__dialed *dialed)
{
    struct evpq__backoff *b = &pool->backoff;
    unsigned doublings = b->failures < 6 ? b->failures : 6;
    int limit_ms = BACKOFF_MIN_MS << doublings;
    int at_least_ms = dialed->refused_for_good ? REFUSED_MS : BACKOFF_MIN_MS;
    if (limit_ms > BACKOFF_MAX_MS)
        limit_ms = BACKOFF_MAX_MS;
    b->failures++;
    b->allowance = 1;
    b->not_before_us = evpq__loop_now(pool->loop) +
                       (int64_t)((at_least_ms + limit_ms * random_share(pool)) * 1000.);
    evpq__error_clear(&b->last_error);
    evpq__error_copy(&b->last_error, &dialed->error);
    pool->stats.dial_failures++;
}

void evpq__upkeep_dial_succeeded(struct evpq_pool *pool)
{
    struct evpq__backoff *b = &pool->backoff;
    b->failures = 0;
    if (b->allowance < pool->options.max_size)
        b->allowance *= 2;
    evpq__error_clear(&b->last_error);
    pool->stats.dialed++;
}
