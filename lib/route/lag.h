/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_ROUTE_LAG_H
#define EVPQ_LIB_ROUTE_LAG_H

/*
 * How far a standby is behind its primary. Pure: times and places in the log are what it is told.
 *
 * By the log: what the primary had written when it was last asked, less what the standby has
 * replayed. By time: since a moment of which the standby is known to have all that was committed
 * until then. There are two ways to know such a moment, and the later one counts:
 *
 * - The primary was asked, and the standby has replayed all that it had written then. So a standby
 *   of a primary that writes nothing is up to date, and one that is cut off is not, as soon as
 *   there is anything to replay.
 * - A transaction that the standby has replayed was committed then. Its time is told by the
 *   primary's clock, and is compared with the primary's clock.
 *
 * No two clocks are compared, but for the time of a failover, when "the primary's" are two.
 */

#include <stdbool.h>
#include <stdint.h>

enum { EVPQ__WAL_SAMPLES = 32 };

#define EVPQ__NEVER_US INT64_MIN
#define EVPQ__NO_BOUND UINT64_MAX

/* What the primary said of itself. */
struct evpq__wal_sample {
    int64_t asked_us; /* of our clock */
    uint64_t lsn;     /* what it had written, not before asked_us */
    int64_t clock_us; /* of its clock, not before asked_us */
    uint32_t timeline;
};

/* The same over some time; zero is nothing. */
struct evpq__wal {
    struct evpq__wal_sample samples[EVPQ__WAL_SAMPLES]; /* the oldest first */
    unsigned count;
};

/* What a standby said of itself; zero is nothing. */
struct evpq__replay {
    bool known;
    bool parted;         /* it has what the primary has never written */
    int64_t answered_us; /* of our clock */
    uint64_t lsn;        /* what it has replayed */
    int64_t commit_us;   /* of the primary's clock: of the last commit; EVPQ__NEVER_US: none */
    uint32_t timeline;   /* 0: it may not tell */
    int64_t fresh_us;    /* of our clock: all that was committed at that moment is there */
};

/* What a read asks for. */
struct evpq__lag_bounds {
    uint64_t max_us, max_bytes; /* or EVPQ__NO_BOUND */
    uint64_t after_lsn;         /* what must have been replayed; 0: nothing */
};

/* The primary has answered. Samples that are less than `spacing_us` apart are not all kept. */
void evpq__wal_add(struct evpq__wal *wal, const struct evpq__wal_sample *sample,
                   int64_t spacing_us);

/* A standby has answered. */
struct evpq__replay_report {
    int64_t answered_us;
    uint64_t lsn;
    int64_t commit_us;
    uint32_t timeline;
};
void evpq__replay_report(struct evpq__replay *replay, const struct evpq__replay_report *report);

/* Looks again at a standby, after it or the primary has answered. */
void evpq__replay_judge(struct evpq__replay *replay, const struct evpq__wal *wal);

/* EVPQ__NO_BOUND: not known. */
uint64_t evpq__lag_bytes(const struct evpq__replay *replay, const struct evpq__wal *wal);
uint64_t evpq__lag_us(const struct evpq__replay *replay, const struct evpq__wal *wal,
                      int64_t now_us);

bool evpq__lag_within(const struct evpq__replay *replay, const struct evpq__wal *wal,
                      const struct evpq__lag_bounds *bounds, int64_t now_us);

#endif /* EVPQ_LIB_ROUTE_LAG_H */
