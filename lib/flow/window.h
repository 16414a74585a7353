/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_FLOW_WINDOW_H
#define EVPQ_LIB_FLOW_WINDOW_H

/*
 * What was admitted, and when there is room again: at most `limit` in any
 * window [t, t + length). It knows no clock; moments only grow.
 *
 * Exact: a ring of the last `limit` moments. A permit takes the place of the
 * oldest, which must be a window old by then; of limit + 1 permits two have had
 * the same place, and so they are a window apart.
 *
 * Compact: counts of the current part of the window and of as many whole parts
 * as make a window before it. Any window lies within those.
 */

#include <stdbool.h>
#include <stdint.h>

struct evpq__window {
    uint32_t limit;
    uint32_t buckets; /* 0: exact */
    int64_t length_us;
    /* Exact. */
    int64_t *times; /* `limit` of them, sorted from `head` on */
    uint32_t head;  /* the oldest */
    /* Compact. */
    uint32_t *counts; /* buckets + 1 of them, by number of the part */
    int64_t part_us;
    int64_t newest; /* the number of the current part */
    uint32_t used;  /* the sum of counts */
};

enum {
    EVPQ__WINDOW_LIMIT = 1 << 24,
    EVPQ__WINDOW_COMPACT_LIMIT = 1000000000,
    EVPQ__WINDOW_BUCKETS = 1000,
};

/* Why such a window cannot be, a static text; or NULL. */
const char *evpq__window_problem(uint32_t limit, uint32_t window_ms, uint32_t buckets);
/* False without memory. The arguments have no problem. */
bool evpq__window_init(struct evpq__window *window, uint32_t limit, uint32_t window_ms,
                       uint32_t buckets, int64_t now_us);
void evpq__window_done(struct evpq__window *window);
/* Keeps what it remembers. False without memory, and then nothing has changed. */
bool evpq__window_resize(struct evpq__window *window, uint32_t limit, uint32_t window_ms,
                         int64_t now_us);

/*
 * The first moment, now or later, at which there is room for `permits` in a
 * row, if each of them is taken as soon as there is; INT64_MAX for beyond all
 * time. Where some wait for others to be taken together it may be later.
 */
int64_t evpq__window_when(struct evpq__window *window, int64_t now_us, uint64_t permits);
/* There is room for them. */
void evpq__window_take(struct evpq__window *window, int64_t now_us, uint32_t permits);
/* What counts now. */
uint32_t evpq__window_used(struct evpq__window *window, int64_t now_us);

#endif /* EVPQ_LIB_FLOW_WINDOW_H */
