/* SPDX-License-Identifier: MIT */
#include "route/router.h"

#include <string.h>

#include "base/mem.h"
#include "base/options.h"

enum { DEFAULT_LAG_MS = 10000, MOST_INTERVAL_MS = 1000, LEAST_INTERVAL_MS = 10 };

/* Choosing */

static uint64_t lag_bound_us(uint32_t ms)
{
    return ms == EVPQ_NEVER ? EVPQ__NO_BOUND : (uint64_t)ms * 1000;
}

static uint64_t lag_bound_bytes(uint64_t bytes)
{
    return bytes ? bytes : EVPQ__NO_BOUND;
}

static struct evpq__lag_bounds own_bounds(const struct evpq_router *router)
{
    return (struct evpq__lag_bounds){.max_us = lag_bound_us(router->options.max_lag_ms),
                                     .max_bytes = lag_bound_bytes(router->options.max_lag_bytes)};
}

bool evpq__router_bounds(struct evpq__lag_bounds *out, const struct evpq_router *router,
                         const evpq_read *read)
{
    evpq_read complete;
    if (evpq__options_read(&complete, sizeof(complete), read))
        return false;
    *out = own_bounds(router);
    if (complete.max_lag_ms)
        out->max_us = lag_bound_us(complete.max_lag_ms);
    if (complete.max_lag_bytes)
        out->max_bytes = complete.max_lag_bytes;
    out->after_lsn = complete.after_lsn;
    return true;
}

/* A server that has lost connections may have been started anew, and then show older data. */
static bool is_fit(const struct evpq__server *server, const struct evpq__lag_bounds *bounds,
                   int64_t now_us)
{
    const struct evpq_pool *pool = server->pool;
    return pool->state == EVPQ__POOL_OPEN && pool->stats.closed_broken == server->broken &&
           evpq__lag_within(&server->replay, &server->router->wal, bounds, now_us);
}

/* Has `a` less to do for its size than `b`? */
static bool less_loaded(const struct evpq_pool *a, const struct evpq_pool *b)
{
    uint64_t load_a = (uint64_t)a->waiting + a->slot_count[EVPQ__SLOT_BUSY];
    uint64_t load_b = (uint64_t)b->waiting + b->slot_count[EVPQ__SLOT_BUSY];
    return load_a * b->options.max_size < load_b * a->options.max_size;
}

struct evpq__server *evpq__router_choose(struct evpq_router *router,
                                         const struct evpq__lag_bounds *bounds, uint32_t but)
{
    struct evpq__server *best = NULL;
    uint32_t count = (uint32_t)router->options.standbys_count;
    int64_t now = evpq__loop_now(router->loop);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = (router->turn + i) % count;
        struct evpq__server *server = &router->standbys[n];
        if (!(but >> n & 1) && is_fit(server, bounds, now) &&
            (!best || less_loaded(server->pool, best->pool)))
            best = server;
    }
    return best;
}

void evpq__router_count(struct evpq__server *server)
{
    struct evpq_router *router = server->router;
    server->reads++;
    if (evpq__server_is_primary(server))
        router->stats.to_primary++;
    else
        router->turn++;
}

evpq_pool *evpq_router_pool(evpq_router *router, const evpq_read *read)
{
    struct evpq__lag_bounds bounds;
    if (!router)
        return NULL;
    if (!read)
        return router->primary.pool;
    if (!evpq__router_bounds(&bounds, router, read))
        return NULL;
    evpq__probes_wanted(router);
    struct evpq__server *standby = evpq__router_choose(router, &bounds, 0);
    router->turn++;
    return standby ? standby->pool : router->primary.pool;
}

/* Telling */

int evpq_router_stats_get(const evpq_router *router, evpq_router_stats *stats)
{
    if (!router || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    evpq_router_stats now = router->stats;
    struct evpq__lag_bounds bounds = own_bounds(router);
    int64_t now_us = evpq__loop_now(router->loop);
    now.size = stats->size;
    for (size_t i = 0; i < router->options.standbys_count; i++)
        now.standbys += is_fit(&router->standbys[i], &bounds, now_us);
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

static uint32_t lag_ms(uint64_t lag_us)
{
    return lag_us / 1000 < EVPQ_NEVER ? (uint32_t)(lag_us / 1000) : EVPQ_NEVER;
}

int evpq_router_standby_get(const evpq_router *router, size_t standby, evpq_standby_stats *stats)
{
    if (!router || standby >= router->options.standbys_count || !stats ||
        stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    const struct evpq__server *server = &router->standbys[standby];
    struct evpq__lag_bounds bounds = own_bounds(router);
    int64_t now_us = evpq__loop_now(router->loop);
    evpq_standby_stats now = {
        .size = stats->size,
        .usable = is_fit(server, &bounds, now_us),
        .lag_ms = lag_ms(evpq__lag_us(&server->replay, &router->wal, now_us)),
        .lag_bytes = evpq__lag_bytes(&server->replay, &router->wal),
        .replay_lsn = server->replay.known ? server->replay.lsn : 0,
        .reads = server->reads,
        .probe_failures = server->probe_failures,
    };
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

/* Opening, closing */

static const char *pools_problem(const evpq_router_options *o)
{
    if (!o->primary)
        return "primary is not set";
    if (!o->standbys || o->standbys_count == 0 || o->standbys_count > EVPQ__STANDBYS)
        return "standbys are not 1 to 32";
    for (size_t i = 0; i < o->standbys_count; i++) {
        if (!o->standbys[i])
            return "one of the standbys is NULL";
        if (o->standbys[i]->ev != o->primary->ev)
            return "the pools are not all of one loop";
        if (o->standbys[i] == o->primary)
            return "the primary is among the standbys";
    }
    return NULL;
}

static const char *options_read(evpq_router_options *out, const evpq_router_options *options)
{
    const char *problem = evpq__options_read(out, sizeof(*out), options);
    if (problem)
        return problem;
    if (out->max_lag_ms == 0)
        out->max_lag_ms = DEFAULT_LAG_MS;
    if (out->probe_interval_ms == 0) {
        uint32_t quarter = out->max_lag_ms / 4;
        out->probe_interval_ms = quarter > MOST_INTERVAL_MS    ? MOST_INTERVAL_MS
                                 : quarter < LEAST_INTERVAL_MS ? LEAST_INTERVAL_MS
                                                               : quarter;
    }
    if (out->probe_timeout_ms == 0)
        out->probe_timeout_ms = 1000;
    if (out->probe_interval_ms < LEAST_INTERVAL_MS || out->probe_interval_ms == EVPQ_NEVER)
        return "probe_interval_ms is below 10, or EVPQ_NEVER";
    if (out->probe_timeout_ms == EVPQ_NEVER)
        return "probe_timeout_ms is EVPQ_NEVER";
    return pools_problem(out);
}

const char *evpq_router_options_problem(const evpq_router_options *options)
{
    evpq_router_options complete;
    return options_read(&complete, options);
}

static bool all_open(const evpq_router_options *o)
{
    bool open = o->primary->state == EVPQ__POOL_OPEN;
    for (size_t i = 0; i < o->standbys_count; i++)
        open = open && o->standbys[i]->state == EVPQ__POOL_OPEN;
    return open;
}

static void server_init(struct evpq__server *server, struct evpq_router *router,
                        struct evpq_pool *pool)
{
    server->router = router;
    server->pool = pool;
    evpq__list_init(&server->attempts);
    evpq__pool_ref(pool);
}

int evpq_router_open(evpq_router **out, const evpq_router_options *options)
{
    evpq_router_options complete;
    if (!out || options_read(&complete, options))
        return EVPQ_EINVALID;
    if (!all_open(&complete))
        return EVPQ_ECLOSED;
    struct evpq_router *router = evpq__alloc(sizeof(*router));
    struct evpq__server *standbys = evpq__alloc(complete.standbys_count * sizeof(*standbys));
    struct evpq__loop *loop = evpq__loop_new_quiet(complete.primary->ev);
    if (!router || !standbys || !loop) {
        if (loop)
            evpq__loop_free(loop);
        evpq__free(standbys);
        evpq__free(router);
        return EVPQ_ENOMEM;
    }
    router->refs = 1;
    router->loop = loop;
    router->options = complete;
    router->standbys = standbys;
    server_init(&router->primary, router, complete.primary);
    for (size_t i = 0; i < complete.standbys_count; i++)
        server_init(&standbys[i], router, complete.standbys[i]);
    router->options.primary = NULL;
    router->options.standbys = NULL;
    evpq__list_init(&router->waiting);
    evpq__timer_init(&router->round, evpq__probes_on_round);
    *out = router;
    return EVPQ_OK;
}

void evpq__router_ref(struct evpq_router *router)
{
    router->refs++;
}

void evpq__router_unref(struct evpq_router *router)
{
    if (--router->refs > 0)
        return;
    evpq__pool_unref(router->primary.pool);
    for (size_t i = 0; i < router->options.standbys_count; i++)
        evpq__pool_unref(router->standbys[i].pool);
    evpq__loop_free(router->loop);
    evpq__free(router->standbys);
    evpq__free(router);
}

void evpq_router_close(evpq_router *router)
{
    if (!router)
        return;
    router->closed = true;
    evpq__probes_stop(router);
    evpq__reads_wake(router);
    evpq__router_unref(router);
}
