/* SPDX-License-Identifier: MIT */
/*
 * What a pool says of itself: in numbers, in a line, in the errors of those who
 * waited in vain, and in traces.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pool/pool.h"

int evpq_pool_stats_get(const evpq_pool *pool, evpq_pool_stats *stats)
{
    if (!pool || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    evpq_pool_stats now = pool->stats;
    now.size = stats->size;
    now.total = evpq__pool_total(pool);
    now.idle = pool->slot_count[EVPQ__SLOT_IDLE];
    now.busy = pool->slot_count[EVPQ__SLOT_BUSY];
    now.cleaning = pool->slot_count[EVPQ__SLOT_CLEANING] + pool->slot_count[EVPQ__SLOT_CLOSING];
    now.dialing = pool->slot_count[EVPQ__SLOT_DIALING];
    now.waiting = pool->waiting;
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

static const struct evpq_lease *oldest_lease(const struct evpq_pool *pool)
{
    struct evpq__node *node = evpq__list_first(&pool->leases);
    return node ? evpq__container_of(node, struct evpq_lease, node) : NULL;
}

/*
 * All connections are lent and none runs anything: then nobody is going to be
 * done with one, unless by itself. A holder that waits for a second lease is
 * the usual reason.
 */
static bool all_lent_and_unused(const struct evpq_pool *pool)
{
    uint32_t unused = 0;
    struct evpq__node *node = evpq__list_first(&pool->leases);
    for (; node; node = evpq__list_next(&pool->leases, node)) {
        const struct evpq_lease *lease = evpq__container_of(node, struct evpq_lease, node);
        unused += lease->slot && lease->query_count == 0;
    }
    return unused == pool->options.max_size;
}

size_t evpq__pool_snapshot(const struct evpq_pool *pool, char *out, size_t capacity)
{
    const uint32_t *count = pool->slot_count;
    const struct evpq_lease *lease = oldest_lease(pool);
    const struct evpq__backoff *b = &pool->backoff;
    char holder[EVPQ__TAG_SIZE + 64] = "";
    if (lease && pool->loop)
        snprintf(holder, sizeof(holder), "; the oldest lease%s%s%s is held for %.1f s",
                 lease->tag[0] ? " \"" : "", lease->tag, lease->tag[0] ? "\"" : "",
                 (double)(evpq__loop_now(pool->loop) - lease->since_us) / 1e6);
    int length =
        snprintf(out, capacity,
                 "of max_size %u, %u busy, %u idle, %u cleaning, %u connecting; %u waiting%s%s%s%s",
                 pool->options.max_size, count[EVPQ__SLOT_BUSY], count[EVPQ__SLOT_IDLE],
                 count[EVPQ__SLOT_CLEANING] + count[EVPQ__SLOT_CLOSING], count[EVPQ__SLOT_DIALING],
                 pool->waiting, holder,
                 all_lent_and_unused(pool) ? "; every connection is lent and none runs a "
                                             "statement: does a holder wait for a second?"
                                           : "",
                 b->failures ? "; the last connect failed: " : "",
                 b->failures ? evpq_error_message(&b->last_error) : "");
    return length < 0 ? 0 : (size_t)length;
}

size_t evpq_pool_describe(const evpq_pool *pool, char *out, size_t capacity)
{
    if (pool)
        return evpq__pool_snapshot(pool, out, capacity);
    if (capacity)
        out[0] = '\0';
    return 0;
}

/* Why nobody came: nothing can be reached, nothing is there yet, or all are taken. */
void evpq__pool_set_timeout(const struct evpq__waiter *waiter, struct evpq_error *err)
{
    const struct evpq_pool *pool = waiter->pool;
    const struct evpq__backoff *b = &pool->backoff;
    uint32_t dialing = pool->slot_count[EVPQ__SLOT_DIALING];
    bool none = evpq__pool_total(pool) == dialing;
    if (none && b->failures > 0) {
        char *message = evpq__format("no connection within %u ms, %u attempt%s failed: %s",
                                     waiter->acquire_ms, b->failures, b->failures == 1 ? "" : "s",
                                     evpq_error_message(&b->last_error));
        evpq__error_set_report(
            err, EVPQ_ECONNECT, EVPQ_NOT_SENT,
            &(struct evpq__server_report){.message = message,
                                          .sqlstate = evpq_error_sqlstate(&b->last_error),
                                          .stays = evpq__error_stays(&b->last_error)});
        evpq__free(message);
    } else if (none) {
        evpq__error_set(err, EVPQ_ETIMEOUT, EVPQ_NOT_SENT,
                        "no connection within %u ms: %u connecting, no answer yet",
                        waiter->acquire_ms, dialing);
    } else {
        char snapshot[800];
        evpq__pool_snapshot(pool, snapshot, sizeof(snapshot));
        evpq__error_set(err, EVPQ_ETIMEOUT, EVPQ_NOT_SENT,
                        "no connection was free within %u ms: %s", waiter->acquire_ms, snapshot);
    }
}

void evpq__pool_set_shed(const struct evpq__waiter *waiter, struct evpq_error *err)
{
    char snapshot[800];
    evpq__pool_snapshot(waiter->pool, snapshot, sizeof(snapshot));
    evpq__error_set(err, EVPQ_EOVERLOADED, EVPQ_NOT_SENT,
                    "shed after %lld ms of waiting, above shed_target_ms %u for a while: %s",
                    (long long)(evpq__loop_now(waiter->pool->loop) - waiter->waits_since_us) / 1000,
                    waiter->pool->options.shed_target_ms, snapshot);
}

/* Traces */

static int64_t since(const struct evpq_pool *pool, int64_t since_us)
{
    return since_us ? evpq__loop_now(pool->loop) - since_us : 0;
}

static void add_slot(evpq_trace *event, const struct evpq__slot *slot)
{
    event->connection = slot->number;
    event->backend_pid = slot->conn ? evpq__conn_backend_pid(slot->conn) : 0;
}

void evpq__pool_trace_slot(const struct evpq__slot *slot, evpq_trace_kind kind, int64_t since_us,
                           const char *why)
{
    const struct evpq_pool *pool = slot->pool;
    if (!evpq__tracer_wants(pool->tracer, kind))
        return;
    evpq_trace event = {.kind = kind, .took_us = since(pool, since_us), .why = why};
    add_slot(&event, slot);
    evpq__tracer_add(pool->tracer, &event, NULL);
}

void evpq__pool_warn(const struct evpq__slot *slot, unsigned notices)
{
    struct evpq_pool *pool = slot->pool;
    unsigned news = notices & ~pool->warned;
    pool->warned |= notices;
    if (news & EVPQ__DIAL_POOLER)
        evpq__pool_trace_slot(slot, EVPQ_TRACE_WARNING, 0, "pooler");
    if (news & EVPQ__DIAL_UNVERIFIED)
        evpq__pool_trace_slot(slot, EVPQ_TRACE_WARNING, 0, "unverified");
}

void evpq__pool_tell_op(const struct evpq__waiter *waiter, evpq_trace_kind kind, int64_t since_us)
{
    const struct evpq_pool *pool = waiter->pool;
    evpq_trace event = {.kind = kind,
                        .took_us = since(pool, since_us),
                        .operation = waiter->number,
                        .tag = waiter->tag};
    if (waiter->slot)
        add_slot(&event, waiter->slot);
    evpq__tracer_add(pool->tracer, &event, &waiter->op.error);
}
