/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_ROUTER_H
#define EVPQ_ROUTER_H

/**
 * @file
 * Reading from standbys
 * =====================
 *
 * A router stands before the pool of a primary and the pools of its standbys.
 * What the caller marks as read-only may go to a standby that is not too far
 * behind; everything else goes to the primary. No SQL is looked at: a statement
 * that is marked wrongly is refused by a standby, SQLSTATE 25006, and is not
 * refused by the primary.
 *
 *     evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = primary,
 *                      EVPQ_STANDBYS(standby1, standby2), .max_lag_ms = 2000));
 *     evpq_router_query(NULL, router, EVPQ_QUERY("UPDATE ..."), NULL, on_done, app);
 *     evpq_router_query(NULL, router, EVPQ_QUERY("SELECT ..."), EVPQ_READ_ONLY(), on_rows, app);
 *
 * How far behind
 * --------------
 *
 * Two bounds, and a standby is used within both:
 *
 * - max_lag_ms. All that was committed max_lag_ms before the call is seen. It is
 *   known from the servers' places in the write-ahead log, and from times that the
 *   primary's clock has told: a standby of a primary that writes nothing is up to
 *   date, one that has lost its primary falls behind with the first thing that is
 *   written, and the servers' clocks need not agree. What synchronous_commit=off
 *   has committed counts from when the primary has written it out.
 * - max_lag_bytes, of the log: what the primary had written and the standby had
 *   not replayed when they were last asked.
 *
 * The servers are asked every probe_interval_ms, the next one only after the last
 * has answered, before all who wait for a connection of the pool. They are asked
 * as long as reads come, and then ten times more; the first read after such a
 * pause waits for the answers, half of its time at most.
 *
 * A probe needs a connection: when all of a standby's pool are taken for longer than
 * max_lag_ms, its reads go elsewhere, as nothing is known of it any more.
 *
 * While the primary does not answer, nothing is known of what it may have
 * written: max_lag_ms after its last answer no standby is used any more, unless
 * the bound is EVPQ_NEVER.
 *
 * Your own writes
 * ---------------
 *
 * A read that must see a write carries the place in the log behind it. When the
 * write has called back (outside of a transaction, or its COMMIT has), ask
 *
 *     evpq_router_write_lsn(NULL, router, 0, on_lsn, session);
 *
 * or, on the lease that has written, "SELECT pg_current_wal_insert_lsn()", and read
 * it with evpq_result_lsn(). In the statement that writes, with RETURNING, is too
 * early: its commit is still to come. Keep the number with the session, in a cookie
 * if need be, and give it to each read of that session:
 *
 *     EVPQ_READ_ONLY(.after_lsn = session->lsn)
 *
 * No standby is used that has not replayed it; the primary serves until then.
 *
 * Which server
 * ------------
 *
 * Of the standbys within the bounds, the one whose pool has the least to do for
 * its max_size. A read whose standby cannot be reached, is lost before it has
 * answered, or has cancelled it for the sake of replay (SQLSTATE 40001, 40P01), is
 * run on another one, and at last on the primary, unseen, within its deadline; on
 * each at most once. Who waits for a connection that cannot be made goes elsewhere
 * when a probe finds that: at the next dial that fails, or at once where the pool
 * of the standby is fail_fast. A standby that does not answer but keeps its
 * connection costs a read its deadline: tcp_user_timeout is against that, and a
 * probe that is not answered keeps others away. The overload of a standby is told,
 * and not carried to the primary: EVPQ_EOVERLOADED, EVPQ_ETIMEOUT.
 *
 * The pools
 * ---------
 *
 * They are yours, belong to one loop, and do what they do without a router. What a
 * probe finds is taken to hold for all connections of its pool: so each pool of a
 * standby must lead to one server. For servers a, b, c of which any may become the
 * primary:
 *
 *     primary:   host=a,b,c target_session_attrs=read-write
 *     standbys:  host=a target_session_attrs=standby
 *                host=b target_session_attrs=standby
 *                host=c target_session_attrs=standby
 *
 * After a failover the primary's pool leads to the new primary and stays on no
 * demoted server (see pool.h); the standby that was promoted is used as one no
 * longer, and its pool finds nobody until it is a standby again. Of two servers,
 * one pool of standbys may name both: only one of them is a standby at a time.
 *
 * A standby that has what the primary never wrote, which happens after a failover
 * to one that was behind, is not used until it has been started anew. Whether a
 * standby follows another primary that still writes can be seen by a role of
 * pg_monitor (or pg_read_all_stats) only: let the pools use one where that can happen.
 *
 * Pages, scans, transactions
 * --------------------------
 *
 * evpq_router_pool() is the pool that a read would go to now: open a pager or a scan
 * on it, or take a lease. All pages of it come from that server; they are as old as
 * the bounds allow at the time of the call, at most, for a standby does not go back.
 *
 * A router belongs to the loop of its pools and to its thread. Probes keep ev_run()
 * running, until the pause.
 */

#include <evpq/pool.h>

EVPQ_BEGIN_DECLS

/** A router. Yours from evpq_router_open() until evpq_router_close(). */
typedef struct evpq_router evpq_router;

/** How a router is to be. Zero is the default of each field; nothing of it is kept but the pools,
 * which remain yours. */
typedef struct evpq_router_options {
    /** sizeof(evpq_router_options); EVPQ_ROUTER_OPTIONS() sets it. */
    size_t size;
    /** Leads to the server that takes writes. Must be set. */
    evpq_pool *primary;
    /** Each leads to one standby; EVPQ_STANDBYS() sets it. */
    evpq_pool *const *standbys;
    /** 1 to 32. */
    size_t standbys_count;
    /** How old the data of a read may be, from the call. Default 10 s. EVPQ_NEVER: any age. */
    uint32_t max_lag_ms;
    /** How much of the log a standby may have to replay. 0: any amount. */
    uint64_t max_lag_bytes;
    /** Between two probes of a server. Default: a quarter of max_lag_ms, 1 s at most. Data are
     * known to be current to this time only: a max_lag_ms below it is mostly the primary's. At
     * least 10 ms; not EVPQ_NEVER. */
    uint32_t probe_interval_ms;
    /** Of a probe. Default 1 s; not EVPQ_NEVER. */
    uint32_t probe_timeout_ms;
} evpq_router_options;

/** Options in place: EVPQ_ROUTER_OPTIONS(.primary = pool, EVPQ_STANDBYS(standby)). C only. */
#define EVPQ_ROUTER_OPTIONS(...)                                                                   \
    (&(const evpq_router_options){.size = sizeof(evpq_router_options), __VA_ARGS__})

/** The pools of the standbys in place; at least one. C only. */
#define EVPQ_STANDBYS(...)                                                                         \
    .standbys = (evpq_pool *const[]){__VA_ARGS__},                                                 \
    .standbys_count = sizeof((evpq_pool *const[]){__VA_ARGS__}) / sizeof(evpq_pool *)

/** What a read asks of a standby. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_read {
    /** sizeof(evpq_read); EVPQ_READ_ONLY() sets it. */
    size_t size;
    /** What it must have replayed: evpq_router_write_lsn(). 0: nothing. */
    uint64_t after_lsn;
    /** As in evpq_router_options, for this read. 0: the router's. */
    uint32_t max_lag_ms;
    /** As in evpq_router_options, for this read. 0: the router's. */
    uint64_t max_lag_bytes;
} evpq_read;

/** A read in place: EVPQ_READ_ONLY(), EVPQ_READ_ONLY(.after_lsn = lsn). C only. */
#define EVPQ_READ_ONLY(...) (&(const evpq_read){.size = sizeof(evpq_read), __VA_ARGS__})

/** What a router has done. */
typedef struct evpq_router_stats {
    size_t size;         /**< sizeof(evpq_router_stats), set by the caller */
    uint32_t standbys;   /**< that are within the router's bounds now */
    uint32_t waiting;    /**< reads that wait for the first answers after a pause */
    uint64_t writes;     /**< statements that were not marked as read-only */
    uint64_t reads;      /**< that were */
    uint64_t to_primary; /**< reads that went to the primary, at once or in the end */
    uint64_t moved;      /**< times that a read was run elsewhere, after a standby had failed it */
    uint64_t probes;     /**< that were answered */
    uint64_t probe_failures;
} evpq_router_stats;

/** What a router knows of a standby. */
typedef struct evpq_standby_stats {
    size_t size;         /**< sizeof(evpq_standby_stats), set by the caller */
    bool usable;         /**< it is within the router's bounds */
    uint32_t lag_ms;     /**< how old its data may be; EVPQ_NEVER: nobody knows */
    uint64_t lag_bytes;  /**< what it had not replayed; UINT64_MAX: nobody knows */
    uint64_t replay_lsn; /**< what it had; 0: nobody knows */
    uint64_t reads;      /**< that were sent there */
    uint64_t probe_failures;
} evpq_standby_stats;

/** A place in the primary's log (err == NULL), or why there is none. Runs once, from the loop. */
typedef void evpq_lsn_fn(uint64_t lsn, const evpq_error *err, void *user);

/** What is wrong with options, a static text; or NULL. */
EVPQ_API const char *evpq_router_options_problem(const evpq_router_options *options);

/** Open a router, on the loop of its pools. EVPQ_OK; EVPQ_EINVALID (ask
 * evpq_router_options_problem()); EVPQ_ENOMEM; EVPQ_ECLOSED: a pool is closing. */
EVPQ_API EVPQ_MUST_CHECK int evpq_router_open(evpq_router **out,
                                              const evpq_router_options *options);

/**
 * Run one statement on the primary, or, when it is marked as read-only, on a standby that is within
 * the bounds, if there is one.
 *
 * All else is as of evpq_pool_query(): deadline, cancel, errors, what they say. A timeout_ms of 0
 * is the query_timeout_ms of the primary's pool.
 *
 * @param read  EVPQ_READ_ONLY(); NULL: it may write, and runs on the primary
 *
 * @return as evpq_pool_query(), of the pool that was chosen
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_router_query(evpq_op **out, evpq_router *router,
                                               const evpq_query *query, const evpq_read *read,
                                               evpq_result_fn *on_result, void *user);

/**
 * Ask the primary for the place in its log that is behind all that has been committed before this
 * call: for after_lsn.
 *
 * @param timeout_ms  0: the query_timeout_ms of the primary's pool
 *
 * @return as evpq_pool_query()
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_router_write_lsn(evpq_op **out, evpq_router *router,
                                                   uint32_t timeout_ms, evpq_lsn_fn *on_lsn,
                                                   void *user);

/**
 * The pool that such a read would go to now; the primary's when no standby is within the bounds,
 * nothing is known after a pause, or `read` is NULL. It counts as a question: the router goes on to
 * probe, and knows when it is asked again. NULL when an argument is invalid.
 */
EVPQ_API evpq_pool *evpq_router_pool(evpq_router *router, const evpq_read *read);

/** Fill in *stats, whose size the caller has set. EVPQ_EINVALID for NULL or a larger size. */
EVPQ_API EVPQ_MUST_CHECK int evpq_router_stats_get(const evpq_router *router,
                                                   evpq_router_stats *stats);

/** The same of one standby, counted from 0 in the order of the options. */
EVPQ_API EVPQ_MUST_CHECK int evpq_router_standby_get(const evpq_router *router, size_t standby,
                                                     evpq_standby_stats *stats);

/**
 * Close a router; from any callback. The handle is gone, no server is probed any more, and the
 * pools stay as they are. What is under way goes on and still calls back: it belongs to the pools,
 * and ends with them. A router may be closed before its pools or after them. NULL is allowed.
 */
EVPQ_API void evpq_router_close(evpq_router *router);

EVPQ_END_DECLS

#endif /* EVPQ_ROUTER_H */
