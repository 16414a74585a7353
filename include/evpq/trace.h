/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TRACE_H
#define EVPQ_TRACE_H

/**
 * @file
 * Traces
 * ======
 *
 * What a pool does, as it happens: one callback for all events. An event holds
 * names, numbers and codes, never SQL, a parameter, a row or a password; tags
 * are what the program gave itself.
 *
 *     EVPQ_POOL_OPTIONS(.on_trace = print_event, .trace_user = log,
 *                       .trace_kinds = EVPQ_TRACE_DIAL_FAILED | EVPQ_TRACE_CLOSED)
 *
 * Events are gathered and handed over from the loop, in their order, before it
 * blocks: so anything may be called from the callback. Up to 1,024 are kept
 * until then; of more, the number is told (`lost`). A pool without on_trace
 * pays one comparison for each.
 */

#include <evpq/base.h>
#include <evpq/error.h>

EVPQ_BEGIN_DECLS

/** What can happen; a set of them is their sum. */
typedef enum evpq_trace_kind {
    EVPQ_TRACE_DIALED = 1 << 0,        /**< a connection was made */
    EVPQ_TRACE_DIAL_FAILED = 1 << 1,   /**< none was made: code, sqlstate */
    EVPQ_TRACE_ACQUIRED = 1 << 2,      /**< a connection was handed out; took_us: the waiting */
    EVPQ_TRACE_SENT = 1 << 3,          /**< a statement was given to libpq for sending */
    EVPQ_TRACE_FINISHED = 1 << 4,      /**< an operation ended: code, fate, sqlstate; took_us */
    EVPQ_TRACE_CANCELED = 1 << 5,      /**< a cancel request went to the server */
    EVPQ_TRACE_RERUN = 1 << 6,         /**< a statement that had no effect waits again */
    EVPQ_TRACE_CLOSED = 1 << 7,        /**< a connection was given up: why */
    EVPQ_TRACE_EXPIRED = 1 << 8,       /**< all connections made so far will be replaced: why */
    EVPQ_TRACE_LEASE_OVERDUE = 1 << 9, /**< a lease is held for lease_overdue_ms; took_us */
    EVPQ_TRACE_WARNING = 1 << 10,      /**< something to know of the servers: why, once for each
                                            pool and reason. "pooler": one stands between, see
                                            pool.h; "unverified": a remote server was connected to
                                            below sslmode=verify-full, so it may be another */
} evpq_trace_kind;

/** One event; valid until the callback returns. What does not apply is zero or "". */
typedef struct evpq_trace {
    evpq_trace_kind kind;
    int64_t at_us;        /**< CLOCK_MONOTONIC, in microseconds */
    int64_t took_us;      /**< since the operation, dial or lease began */
    uint64_t operation;   /**< its number in this pool, from 1 */
    uint64_t connection;  /**< its number in this pool, from 1 */
    int backend_pid;      /**< the server process of the connection, as pg_stat_activity.pid;
                               behind a pooler a number of the pooler's, also below 0 */
    evpq_code code;       /**< how it ended */
    evpq_fate fate;       /**< what became of the statement; 0 when there was none or no error */
    const char *sqlstate; /**< of the server, or "" */
    const char *tag;      /**< of the query or the lease, or "" */
    const char *why;      /**< one or two fixed words, for CLOSED, EXPIRED, WARNING; else "" */
    uint64_t lost;        /**< events before this one that found no room */
} evpq_trace;

/** An event of a pool. Runs from the loop. */
typedef void evpq_trace_fn(const evpq_trace *event, void *user);

/** The name of an event's kind, "dialed"; "?" for a number that is none. Static. */
EVPQ_API const char *evpq_trace_kind_name(evpq_trace_kind kind);

EVPQ_END_DECLS

#endif /* EVPQ_TRACE_H */
