/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIMITS_H
#define EVPQ_LIMITS_H

/**
 * @file
 * Limits of a pool
 * ================
 *
 * A rate and a concurrency for the statements and leases of a pool, or for those
 * with one tag: a tenant, a kind of work. Each is a limiter (limiter.h) and a
 * semaphore (semaphore.h) that evpq puts in front of the queue for connections,
 * within the deadline of the operation:
 *
 *     evpq_pool_limit(pool, EVPQ_POOL_LIMITS(.tag = "reports", .max_concurrent = 2));
 *     evpq_pool_limit(pool, EVPQ_POOL_LIMITS(.rate = 100, .window_ms = 60000));
 *
 * A statement passes the limits of its tag, then those of the pool. What the rate
 * does not allow in time ends with EVPQ_ELIMITED, *not sent*. So does
 * evpq_pool_acquire(), by the tag of the lease: it counts once for the rate, and is
 * one of max_concurrent until evpq_lease_release(); what runs on a lease passes no
 * limit of its own. Who holds a lease and asks the pool for more needs a
 * max_concurrent, as a max_size, that has room for both.
 *
 * A batch counts as one statement, and so does a stream, which is one of
 * max_concurrent to its on_done: also while it is paused and its connection, with
 * all rows read, is with others. Pages are statements without a tag. Cursor walks and scans run on
 * leases: one with the tag "evpq cursor", or one for each of its connections with
 * the tag "evpq scan"; a pager that asks the catalogs for its order does so on one
 * for a moment, "order of pages".
 */

#include <evpq/pool.h>

EVPQ_BEGIN_DECLS

/** Limits. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_pool_limits {
    /** sizeof(evpq_pool_limits); EVPQ_POOL_LIMITS() sets it. */
    size_t size;
    /** Of what has exactly this tag; NULL: of all of the pool. At most 63 bytes. */
    const char *tag;
    /** Statements and leases in any window of window_ms. 0: as many as come. */
    uint32_t rate;
    /** Must be set with rate, and only then. */
    uint32_t window_ms;
    /** At once: statements from the queue for connections to the end of cleaning up, streams to
     * their on_done too, leases until they are released. 0: as many as come. */
    uint32_t max_concurrent;
} evpq_pool_limits;

/** Limits in place: EVPQ_POOL_LIMITS(.tag = "reports", .max_concurrent = 2). C only. */
#define EVPQ_POOL_LIMITS(...)                                                                      \
    (&(const evpq_pool_limits){.size = sizeof(evpq_pool_limits), __VA_ARGS__})

/**
 * Limit a pool, or what has a tag. A second call for the same tag changes the
 * numbers; what has no limit so far gets none by it, and what has one keeps one.
 *
 * @return EVPQ_OK; EVPQ_EINVALID: no limit at all, a rate without a window or a window without a
 * rate, a tag that is empty or too long, or a limit that is to come or go by a second call;
 * EVPQ_ENOMEM; EVPQ_ECLOSED
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_limit(evpq_pool *pool, const evpq_pool_limits *limits);

EVPQ_END_DECLS

#endif /* EVPQ_LIMITS_H */
