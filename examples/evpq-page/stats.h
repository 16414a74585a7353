/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_STATS_H
#define EVPQ_PAGE_STATS_H

#include <stdint.h>

/*
 * How long pages took, from asking for one to having it. All of them count, in
 * memory that does not grow: a histogram of microseconds whose buckets are
 * powers of two, cut into 32 equal parts each, as in HdrHistogram
 * (hdrhistogram.org). A percentile is at most one part, 1/32, too high.
 */
enum {
    STATS_PARTS_BITS = 5,
    STATS_PARTS = 1 << STATS_PARTS_BITS,
    STATS_BUCKETS = (64 - STATS_PARTS_BITS + 1) * STATS_PARTS,
};

struct stats {
    uint64_t started_us; /* of the page that is on its way */
    uint64_t begun_us;   /* of the first page */
    uint64_t ended_us;   /* of the last page that has come */
    uint64_t pages, rows;
    uint64_t max_us;
    uint32_t counts[STATS_BUCKETS];
};

/* Of a clock that never goes back. */
uint64_t now_us(void);

void stats_ask(struct stats *stats);
/* The page has come, with so many rows. */
void stats_add(struct stats *stats, uint64_t rows);
/* The latency that `percent` of the pages did not exceed. */
uint64_t stats_percentile_us(const struct stats *stats, double percent);
/* On stderr. */
void stats_say(const struct stats *stats);

#endif /* EVPQ_PAGE_STATS_H */
