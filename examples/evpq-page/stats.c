/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

#include "screen.h"

uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Below STATS_PARTS each microsecond has a bucket; from there on each power of two has as many. */
static unsigned bucket_of(uint64_t us)
{
    unsigned shift = 0;
    if (us >= STATS_PARTS)
        shift = 63 - (unsigned)__builtin_clzll(us) - STATS_PARTS_BITS;
    return shift * STATS_PARTS + (unsigned)(us >> shift);
}

/* The largest that falls into it. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < 2 * STATS_PARTS)
        return bucket;
    unsigned shift = bucket / STATS_PARTS - 1;
    return ((uint64_t)(bucket - shift * STATS_PARTS + 1) << shift) - 1;
}

void stats_ask(struct stats *stats)
{
    stats->started_us = now_us();
    if (!stats->begun_us)
        stats->begun_us = stats->started_us;
}

void stats_add(struct stats *stats, uint64_t rows)
{
    stats->ended_us = now_us();
    uint64_t took = stats->ended_us - stats->started_us;
    stats->counts[bucket_of(took)]++;
    if (took > stats->max_us)
        stats->max_us = took;
    stats->pages++;
    stats->rows += rows;
}

uint64_t stats_percentile_us(const struct stats *stats, double percent)
{
    uint64_t wanted = (uint64_t)ceil(percent / 100 * (double)stats->pages), seen = 0;
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        seen += stats->counts[i];
        if (seen >= wanted && seen > 0)
            return bucket_top(i) < stats->max_us ? bucket_top(i) : stats->max_us;
    }
    return stats->max_us;
}

void stats_say(const struct stats *stats)
{
    double seconds = stats->pages ? (double)(stats->ended_us - stats->begun_us) / 1e6 : 0;
    say("stats: %" PRIu64 " page%s, %" PRIu64 " row%s, %.0f rows/s, %.3f s", stats->pages,
        stats->pages == 1 ? "" : "s", stats->rows, stats->rows == 1 ? "" : "s",
        seconds > 0 ? (double)stats->rows / seconds : 0, seconds);
    if (stats->pages)
        say("stats: page latency p50 %.3f ms, p99 %.3f ms, max %.3f ms",
            (double)stats_percentile_us(stats, 50) / 1e3,
            (double)stats_percentile_us(stats, 99) / 1e3, (double)stats->max_us / 1e3);
}
