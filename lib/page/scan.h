/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_SCAN_H
#define EVPQ_LIB_PAGE_SCAN_H

/*
 * The scan as its own files see it: scan.c is the walk over its pages and what
 * its user asks, worker.c how they are fetched, ranges.c how the order is cut.
 */

#include <evpq/scan.h>

#include "page/pager.h"
#include "page/snapshot.h"

enum {
    EVPQ__SCAN_WORKERS = 64,
    EVPQ__SCAN_RANGES = 4096,
    EVPQ__SCAN_SAMPLE = 1000, /* rows; more when there are many ranges */
};

/* A page that waits to be handed over. */
struct evpq__chunk {
    struct evpq__node node; /* of its range's, or of scan->ready */
    struct evpq_result *result;
    struct evpq__place *before, *behind, *stand; /* the last one for its range */
    uint32_t range;
    size_t bytes;
    bool last; /* of its range */
};

enum evpq__range_state {
    EVPQ__RANGE_FREE,
    EVPQ__RANGE_TAKEN, /* a worker fetches its pages */
    EVPQ__RANGE_READ,  /* all have been fetched */
    EVPQ__RANGE_DONE,  /* and handed over */
};

struct evpq__range {
    enum evpq__range_state state;
    struct evpq__place *stand; /* behind the last row handed over; NULL: at the start */
    struct evpq__place *until; /* NULL: to the end */
    struct evpq__list chunks;
};

enum evpq__worker_state {
    EVPQ__WORKER_NEW,
    EVPQ__WORKER_OPENING, /* its snapshot */
    EVPQ__WORKER_SAMPLING,
    EVPQ__WORKER_READY, /* may fetch */
    EVPQ__WORKER_FETCHING,
    EVPQ__WORKER_OVER,
};

struct evpq__worker {
    struct evpq_scan *scan;
    enum evpq__worker_state state;
    struct evpq__snapshot *snapshot;
    struct evpq_pager *pager;  /* over the range it has taken, on the lease of its snapshot */
    struct evpq__range *range; /* or NULL */
};

enum evpq__scan_state {
    EVPQ__SCAN_NEW,
    EVPQ__SCAN_CUTTING, /* the first worker opens its snapshot and takes the sample */
    EVPQ__SCAN_RUNNING,
    EVPQ__SCAN_DONE,   /* all has been handed over */
    EVPQ__SCAN_FAILED, /* the error has not been told */
    EVPQ__SCAN_OVER,   /* it has been */
};

struct evpq__wait;

struct evpq_scan {
    unsigned refs; /* the user's, until close; one for each operation that has not called back */
    bool closed;
    enum evpq__scan_state state;
    struct evpq_pool *pool;   /* a reference */
    struct evpq_pager *front; /* fetches nothing: it stands around the page handed over */
    struct evpq__worker *workers;
    uint32_t worker_count;
    struct evpq__range *ranges; /* `range_room` of them */
    uint32_t range_count, range_room, range_limit;
    uint32_t next_free; /* ranges are taken in order */
    uint32_t current;   /* the first that is not done; in order, whose pages are handed over */
    bool unordered;
    struct evpq__list ready; /* chunks, when there is no order */
    size_t buffered, buffer_bytes;
    int64_t deadline_us;
    struct evpq_error error;   /* why it has failed */
    struct evpq_result *shape; /* the columns of its pages, without rows; or NULL */
    struct evpq__wait *wait;   /* who waits for a page, or NULL */
};

/* scan.c */
void evpq__scan_ref(struct evpq_scan *scan);
void evpq__scan_unref(struct evpq_scan *scan);
/* It is over with this error; all workers end. */
void evpq__scan_fail(struct evpq_scan *scan, const struct evpq_error *err);
/* Something has come, or nothing will: whoever waits hears. */
void evpq__scan_wake(struct evpq_scan *scan);
void evpq__chunk_free(struct evpq__chunk *chunk);

/* worker.c */

/* The first worker begins. */
void evpq__workers_start(struct evpq_scan *scan);
/* Workers fetch what they may, take ranges, and end when there are none. */
void evpq__workers_drive(struct evpq_scan *scan);
void evpq__workers_end(struct evpq_scan *scan);

/* ranges.c */

/* Is there something to cut: one range, and more are wanted? */
bool evpq__ranges_to_cut(const struct evpq_scan *scan);
/* Cuts the only range at quantiles of a sample, rows of keys in order. False without memory. */
bool evpq__ranges_cut(struct evpq_scan *scan, const PGresult *sample);
uint32_t evpq__ranges_sample(const struct evpq_scan *scan);
/* Room for so many; one at first, of all rows. False without memory. */
bool evpq__ranges_init(struct evpq_scan *scan, size_t resumed, uint32_t limit);
/* EVPQ_EINVALID for a token that is not of this walk; EVPQ_ENOMEM. */
int evpq__ranges_resume(struct evpq_scan *scan, const evpq_scan_range *ranges, size_t count);
void evpq__ranges_free(struct evpq_scan *scan);

#endif /* EVPQ_LIB_PAGE_SCAN_H */
