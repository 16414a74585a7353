/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

int evpq_pool_stats_get(const evpq_pool *pool, evpq_pool_stats *stats)
{
    if (!pool || !stats || stats->size != sizeof(*stats))
        return EVPQ_EINVALID;
    *stats = pool->stats;
    stats->size = sizeof(*stats);
    stats->total = evpq__pool_total(pool);
    stats->idle = pool->slot_count[EVPQ__SLOT_IDLE];
    stats->busy = pool->slot_count[EVPQ__SLOT_BUSY];
    stats->cleaning = pool->slot_count[EVPQ__SLOT_CLEANING] + pool->slot_count[EVPQ__SLOT_CLOSING];
    stats->dialing = pool->slot_count[EVPQ__SLOT_DIALING];
    stats->waiting = pool->waiting;
    return EVPQ_OK;
}
