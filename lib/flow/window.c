/* SPDX-License-Identifier: MIT */
#include "flow/window.h"

#include <evpq/base.h>
#include <string.h>

#include "base/mem.h"

/* A moment so long ago that it is in no window. */
#define LONG_AGO (INT64_MIN / 2)

const char *evpq__window_problem(uint32_t limit, uint32_t window_ms, uint32_t buckets)
{
    if (limit == 0)
        return "limit is not set";
    if (window_ms == 0)
        return "window_ms is not set";
    if (window_ms == EVPQ_NEVER)
        return "window_ms cannot be EVPQ_NEVER";
    if (buckets > EVPQ__WINDOW_BUCKETS)
        return "buckets is over 1,000";
    if (buckets == 0 && limit > EVPQ__WINDOW_LIMIT)
        return "limit is over 16,777,216; with buckets it may be larger";
    if (limit > EVPQ__WINDOW_COMPACT_LIMIT)
        return "limit is over 1,000,000,000";
    return NULL;
}

/* `a` + `b` * `c`, none of them negative, or INT64_MAX. */
static int64_t add_product(int64_t a, int64_t b, uint64_t c)
{
    int64_t product, sum;
    if (c > INT64_MAX || __builtin_mul_overflow(b, (int64_t)c, &product) ||
        __builtin_add_overflow(a, product, &sum))
        return INT64_MAX;
    return sum;
}

/* Exact */

static int64_t *time_at(struct evpq__window *w, uint32_t index)
{
    uint32_t to_end = w->limit - w->head;
    return &w->times[index < to_end ? w->head + index : index - to_end];
}

static int64_t exact_when(struct evpq__window *w, int64_t now_us, uint64_t permits)
{
    uint64_t last = permits - 1;
    int64_t at = *time_at(w, (uint32_t)(last % w->limit)) + w->length_us;
    return add_product(at > now_us ? at : now_us, w->length_us, last / w->limit);
}

static void exact_take(struct evpq__window *w, int64_t now_us, uint32_t permits)
{
    while (permits-- > 0) {
        w->times[w->head] = now_us;
        w->head = w->head + 1 < w->limit ? w->head + 1 : 0;
    }
}

/* How many of the ring are out of the window: they are its beginning. */
static uint32_t exact_free(struct evpq__window *w, int64_t now_us)
{
    uint32_t low = 0, high = w->limit;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (*time_at(w, middle) + w->length_us <= now_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool exact_resize(struct evpq__window *w, uint32_t limit)
{
    if (limit == w->limit)
        return true;
    int64_t *times = evpq__alloc(limit * sizeof(*times));
    if (!times)
        return false;
    uint32_t kept = limit < w->limit ? limit : w->limit;
    for (uint32_t i = 0; i < limit - kept; i++)
        times[i] = LONG_AGO;
    for (uint32_t i = 0; i < kept; i++)
        times[limit - kept + i] = *time_at(w, w->limit - kept + i);
    evpq__free(w->times);
    w->times = times;
    w->head = 0;
    w->limit = limit;
    return true;
}

/* Compact */

/* The number of a part; those of the window before the first moment have one, too. */
static int64_t part_of(const struct evpq__window *w, int64_t at_us)
{
    return at_us / w->part_us + w->buckets + 1;
}

static int64_t start_of(const struct evpq__window *w, int64_t part)
{
    return (part - w->buckets - 1) * w->part_us;
}

static uint32_t *count_of(struct evpq__window *w, int64_t part)
{
    return &w->counts[part % (w->buckets + 1)];
}

/* Forgets the parts that are over. */
static void compact_advance(struct evpq__window *w, int64_t now_us)
{
    int64_t part = part_of(w, now_us);
    if (part - w->newest > w->buckets) {
        memset(w->counts, 0, (w->buckets + 1) * sizeof(*w->counts));
        w->used = 0;
        w->newest = part;
    }
    while (w->newest < part) {
        uint32_t *oldest = count_of(w, ++w->newest);
        w->used -= *oldest;
        *oldest = 0;
    }
}

/* When the permit of this index, below the limit, has room. */
static int64_t compact_first(struct evpq__window *w, int64_t now_us, uint32_t index)
{
    if ((uint64_t)index + w->used < w->limit)
        return now_us;
    uint64_t to_go = (uint64_t)index + w->used - w->limit + 1;
    int64_t part = w->newest - w->buckets;
    for (; part < w->newest && *count_of(w, part) < to_go; part++)
        to_go -= *count_of(w, part);
    return start_of(w, part + w->buckets + 1);
}

static int64_t compact_when(struct evpq__window *w, int64_t now_us, uint64_t permits)
{
    compact_advance(w, now_us);
    uint64_t last = permits - 1, rounds = last / w->limit;
    int64_t at = compact_first(w, now_us, (uint32_t)(last % w->limit));
    if (rounds == 0)
        return at;
    return add_product(start_of(w, part_of(w, at)), w->part_us * (w->buckets + 1), rounds);
}

static void compact_set_length(struct evpq__window *w, int64_t length_us)
{
    w->length_us = length_us;
    w->part_us = (length_us + w->buckets - 1) / w->buckets;
}

/* What was counted moves to where its part ended, at the latest: it counts longer rather than
 * shorter. */
static bool compact_resize(struct evpq__window *w, int64_t length_us, int64_t now_us)
{
    compact_advance(w, now_us);
    struct evpq__window old = *w;
    uint32_t *counts = evpq__alloc((w->buckets + 1) * sizeof(*counts));
    if (!counts)
        return false;
    compact_set_length(w, length_us);
    w->counts = counts;
    w->newest = part_of(w, now_us);
    w->used = 0;
    for (int64_t part = old.newest - old.buckets; part <= old.newest; part++) {
        uint32_t count = *count_of(&old, part);
        int64_t end_us = start_of(&old, part + 1) - 1;
        int64_t into = count ? part_of(w, end_us < now_us ? end_us : now_us) : 0;
        if (into < w->newest - w->buckets)
            continue;
        *count_of(w, into) += count;
        w->used += count;
    }
    evpq__free(old.counts);
    return true;
}

/* Both */

bool evpq__window_init(struct evpq__window *w, uint32_t limit, uint32_t window_ms, uint32_t buckets,
                       int64_t now_us)
{
    *w = (struct evpq__window){.limit = limit, .buckets = buckets};
    w->length_us = (int64_t)window_ms * 1000;
    if (buckets == 0) {
        w->times = evpq__alloc(limit * sizeof(*w->times));
        for (uint32_t i = 0; w->times && i < limit; i++)
            w->times[i] = LONG_AGO;
        return w->times;
    }
    compact_set_length(w, w->length_us);
    w->newest = part_of(w, now_us);
    w->counts = evpq__alloc((buckets + 1) * sizeof(*w->counts));
    return w->counts;
}

void evpq__window_done(struct evpq__window *w)
{
    evpq__free(w->times);
    evpq__free(w->counts);
}

bool evpq__window_resize(struct evpq__window *w, uint32_t limit, uint32_t window_ms, int64_t now_us)
{
    int64_t length_us = (int64_t)window_ms * 1000;
    if (w->buckets ? !compact_resize(w, length_us, now_us) : !exact_resize(w, limit))
        return false;
    w->limit = limit;
    w->length_us = length_us;
    return true;
}

int64_t evpq__window_when(struct evpq__window *w, int64_t now_us, uint64_t permits)
{
    return w->buckets ? compact_when(w, now_us, permits) : exact_when(w, now_us, permits);
}

void evpq__window_take(struct evpq__window *w, int64_t now_us, uint32_t permits)
{
    if (!w->buckets) {
        exact_take(w, now_us, permits);
        return;
    }
    compact_advance(w, now_us);
    *count_of(w, w->newest) += permits;
    w->used += permits;
}

uint32_t evpq__window_used(struct evpq__window *w, int64_t now_us)
{
    if (!w->buckets)
        return w->limit - exact_free(w, now_us);
    compact_advance(w, now_us);
    return w->used;
}
