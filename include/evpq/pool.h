/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_POOL_H
#define EVPQ_POOL_H

/**
 * @file
 * Pools
 * =====
 *
 * A pool owns up to max_size connections to one database and hands them out.
 * evpq_pool_query() runs one statement on whichever is free. A transaction, or
 * anything that needs one connection for several statements, takes a lease:
 * evpq_pool_acquire(), evpq_lease_query() as often as needed,
 * evpq_lease_release().
 *
 * When all are taken, callers wait, first come first served. Waiting counts
 * against their deadline and ends at acquire_timeout_ms. Dials belong to the
 * pool, not to a caller: a connection that comes too late for one serves the
 * next. While the server cannot be reached one dial at a time tries, at growing
 * intervals; what stays as it is (wrong password or none, no such database, a
 * conninfo that contradicts itself) is told to the waiters at once.
 *
 * What a statement does to its session stays with the connection and meets the
 * next user of it: SET, temporary tables, advisory locks, LISTEN. Only open
 * transactions are ended, and a connection with another client_encoding or
 * DateStyle is replaced. Use SET LOCAL in a transaction, or ask for
 * reset_session.
 *
 * Prepared statements
 * -------------------
 *
 * Each connection prepares what it runs more than once: the server parses it
 * once, and may plan it once, for any values (plan_cache_mode). What is prepared
 * is known by its text and the types of its parameters. One that the server has
 * lost (DISCARD ALL, DEALLOCATE), or that does not fit the tables any more, is
 * run again without, unseen; in a transaction, which has failed with it, that is
 * the error, SQLSTATE 26000 or 0A000 with a hint: evpq_error_retry_safe(), as after
 * 40001, for the whole transaction. Then it is not prepared any more. With
 * one that is lost all are taken for lost: the next run may end in the same way, with
 * 42P05, for one that the server has kept.
 *
 * Trouble
 * -------
 *
 * A statement of the pool that certainly had no effect, because its connection
 * was lost before it was sent, runs on another one, unseen, within its deadline.
 * One that was sent and got no answer ends with EVPQ_EDISCONNECTED and the fate
 * *unknown*: only the program knows whether it may run twice.
 *
 * A statement that times out or is cancelled calls back at once. What becomes of
 * it on the server, and of its connection, is the cancel policy.
 *
 * Overload has three answers: EVPQ_EOVERLOADED from the call when max_waiters
 * are waiting, EVPQ_EOVERLOADED from the callback when shed_target_ms is set and
 * waiting takes longer, EVPQ_ETIMEOUT at acquire_timeout_ms. A server that
 * cannot be reached is EVPQ_ECONNECT.
 *
 * A pool whose conninfo asks for target_session_attrs=read-write or primary
 * replaces its connections when the server turns out to be read-only (SQLSTATE
 * 25006, in_hot_standby).
 *
 * From a server that dies to the next host of the conninfo it is a moment; from
 * one that freezes, or is cut off, and closes nothing, it is a sum: the deadlines
 * of what runs there, twice cancel_timeout_ms for the connections, and what the
 * frozen host has of connect_timeout_ms, for it is tried first. Small ones make
 * that short, as connect_timeout=1 in the conninfo does for each host.
 *
 * Poolers and TLS
 * ---------------
 *
 * Behind PgBouncer, in session or transaction mode, statements, leases, pages, deadlines and
 * cancels work as they do without it, with no setting. What a statement does to its session does
 * not last there in transaction mode: SET, LISTEN, advisory locks, temporary tables and
 * reset_session are for a transaction of a lease at most (SET LOCAL, pg_advisory_xact_lock), or for
 * session mode. A pool notices a pooler by itself, for the server's process is another than the
 * handshake has named, says so once (EVPQ_TRACE_WARNING, "pooler"), and prepares no statements
 * unless statement_cache asks for it.
 *
 * libpq's sslmode holds as it is given: evpq never connects below it, and never tries again with
 * less. Only verify-full makes sure of whom a password and the data go to; of a remote server that
 * was reached with less a pool says so once: EVPQ_TRACE_WARNING, "unverified". sslmode=prefer is
 * libpq's default, and is less.
 *
 * A pool belongs to one loop and to its thread. An open pool keeps ev_run()
 * running.
 */

#include <evpq/base.h>
#include <evpq/error.h>
#include <evpq/op.h>
#include <evpq/query.h>
#include <evpq/result.h>
#include <evpq/trace.h>

EVPQ_BEGIN_DECLS

struct ev_loop;

/** A pool of connections. Yours from evpq_pool_open() until evpq_pool_close(). */
typedef struct evpq_pool evpq_pool;

/** A connection lent to you, from evpq_acquire_fn until evpq_lease_release(). */
typedef struct evpq_lease evpq_lease;

/** How a pool is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_pool_options {
    /** sizeof(evpq_pool_options); EVPQ_POOL_OPTIONS() sets it. */
    size_t size;
    /** libpq connection string or URI. NULL: libpq's environment and defaults; "" is refused. */
    const char *conninfo;
    /** Connections kept open. Default 0. */
    uint32_t min_size;
    /** Connections at most, dials included. Default 10; at most 10,000. */
    uint32_t max_size;
    /** Callers that may wait; more are EVPQ_EOVERLOADED. Default 10,000. */
    uint32_t max_waiters;
    /** For one dial: names, all addresses, TLS, login. Default 10 s; not EVPQ_NEVER. */
    uint32_t connect_timeout_ms;
    /** Waiting for a connection, at most. Default: half of the operation's own timeout, so that who
     * gets a connection has time left to use it. */
    uint32_t acquire_timeout_ms;
    /** For operations that name no timeout. Default 30 s. */
    uint32_t query_timeout_ms;
    /** For cleaning a connection before it is closed, and then for the server to let go of it. A
     * server that is stopped, or hears nothing, may count it longer: then it sees more than
     * max_size. Default 2 s; not EVPQ_NEVER. */
    uint32_t cancel_timeout_ms;
    /** Unused connections above min_size are closed after it. Default 10 min. */
    uint32_t idle_timeout_ms;
    /** Connections are replaced at this age, less a random tenth at most. Default 1 h. */
    uint32_t max_lifetime_ms;
    /** A failed dial fails all who wait, instead of being tried again meanwhile. */
    bool fail_fast;
    /** Of statements that time out or are cancelled. */
    evpq_cancel_policy cancel_policy;
    /** Cancel requests at most; more are put off, as long as cancel_timeout_ms allows. Default 100.
     */
    uint32_t cancels_per_s;
    /**
     * The server gets a statement_timeout with each statement, in the same round trip: what is left
     * of the deadline, less a tenth (100 ms at most). A statement that it stops ends with
     * EVPQ_ETIMEOUT, *rolled back* instead of *unknown*, and its connection needs no cleaning.
     * Statements that cannot run in a transaction block (VACUUM, CREATE DATABASE) are refused by
     * the server then, SQLSTATE 25001: give them EVPQ_OFF. In a transaction of a lease it holds
     * until the next statement. It takes the place of a
     * statement_timeout that the role, the database or the session has, a shorter one too. Default:
     * off.
     */
    evpq_switch server_timeout;
    /** A result larger than this, as it comes over the wire or as it is in memory, is
     * EVPQ_ETOOLARGE. What is still coming is cut off, and its connection closed;
     * by then libpq may have read some more in one go. Less than 4,096
     * is 4,096: libpq takes some of it for any result. 0: no limit but libpq's. */
    size_t max_result_bytes;
    /** Before a connection serves its next user: DISCARD ALL. Costs two round trips each time. Not
     * for PgBouncer's transaction mode. */
    bool reset_session;
    /** Shed waiters when the shortest wait of 100 ms was above this: those that have waited twice
     * as long end with EVPQ_EOVERLOADED when a connection comes free, as long as more wait than it
     * can serve (CoDel as in folly/executors/Codel, and never the last as in RFC 8289). 0: never.
     * 5 is usual. */
    uint32_t shed_target_ms;
    /** A lease held longer is counted, and traced with its tag. Default 60 s. */
    uint32_t lease_overdue_ms;
    /** What happens, as it happens; NULL: nothing is traced. See trace.h. */
    evpq_trace_fn *on_trace;
    /** Passed to on_trace as it is. */
    void *trace_user;
    /** Which kinds: a sum of evpq_trace_kind. 0: all. */
    uint32_t trace_kinds;
    /** Statements that each connection keeps prepared on the server, the least recently used leaves
     * first. One is prepared when it is used for the second time on a connection, in the same round
     * trip, unless its own `prepare` says otherwise. Default 256, and none behind a pooler, which
     * may lend a server connection for a transaction only: then the statement is not there when it
     * is used again. At most 10,000; EVPQ_NEVER: none. Behind a pooler in session mode, or
     * PgBouncer from 1.21 on (max_prepared_statements), give the number. A connection on which they
     * were lost unnoticed five times (26000, 42P05) keeps none any more. */
    uint32_t statement_cache;
    /** Memory of evpq for them, for each connection. Default 1 MiB. */
    size_t statement_cache_bytes;
    /** Statements of the pool that may be in flight on one connection. Default 1; at most 1,000.
     *
     * More than 1: when all connections are busy and there are max_size of them, a statement goes
     * to the one with the fewest in flight, unless a statement has been running there for more than
     * some milliseconds. Each is a transaction of its own, as ever, and the server runs them one
     * after the other. It saves round trips and system calls; behind a statement that turns out to
     * be slow the others wait. A lost connection leaves all that was in flight on it *unknown*.
     *
     * Never shared are leases, statements with max_result_bytes, COPY, and statements that begin or
     * end a transaction. Needs EVPQ_CANCEL_AND_KEEP and libpq 14.11, 15.6, 16.2 or later. */
    uint32_t pipeline_depth;
} evpq_pool_options;

/** Options in place: EVPQ_POOL_OPTIONS(.conninfo = uri, .max_size = 8). C only. */
#define EVPQ_POOL_OPTIONS(...)                                                                     \
    (&(const evpq_pool_options){.size = sizeof(evpq_pool_options), __VA_ARGS__})

/** How to ask for a connection. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_acquire_options {
    /** sizeof(evpq_acquire_options); EVPQ_ACQUIRE_OPTIONS() sets it. */
    size_t size;
    /** From the call to the callback. 0: acquire_timeout_ms, or else half of query_timeout_ms. */
    uint32_t timeout_ms;
    /** What errors and traces call the lease, as "checkout": no data. 63 bytes of it are kept. */
    const char *tag;
} evpq_acquire_options;

/** Options in place: EVPQ_ACQUIRE_OPTIONS(.timeout_ms = 100, .tag = "checkout"). C only. */
#define EVPQ_ACQUIRE_OPTIONS(...)                                                                  \
    (&(const evpq_acquire_options){.size = sizeof(evpq_acquire_options), __VA_ARGS__})

/** What a pool has and has done, at one moment. */
typedef struct evpq_pool_stats {
    size_t size;       /**< sizeof(evpq_pool_stats), set by the caller */
    uint32_t total;    /**< connections open or being made: idle + busy + cleaning + dialing */
    uint32_t idle;     /**< ready */
    uint32_t busy;     /**< running a query of the pool, or lent */
    uint32_t cleaning; /**< waiting out a cancelled statement, or rolling back */
    uint32_t dialing;  /**< being made */
    uint32_t waiting;  /**< callers without a connection */
    uint64_t acquired; /**< connections handed to a query or a lease, ever */
    uint64_t dialed;   /**< connections made */
    uint64_t dial_failures;
    uint64_t closed_idle;     /**< closed for idle_timeout_ms */
    uint64_t closed_lifetime; /**< closed for max_lifetime_ms */
    uint64_t closed_broken;   /**< lost, or not to be cleaned in time */
    uint64_t timeouts;        /**< operations that ended with EVPQ_ETIMEOUT */
    uint64_t canceled;        /**< operations that ended with EVPQ_ECANCELED */
    uint64_t overloaded;      /**< operations refused with EVPQ_EOVERLOADED */
    uint64_t shed;            /**< operations that ended with it: shed_target_ms */
    uint64_t reruns;          /**< statements without effect that went back to the queue, unseen */
    uint64_t cancels;         /**< cancel requests sent to the server */
    uint64_t leases_overdue;  /**< leases that were held longer than lease_overdue_ms */
    uint64_t expired;         /**< times that all connections were to be replaced */
    uint64_t closed_expired;  /**< closed for that reason */
    uint64_t too_large;       /**< results that were larger than max_result_bytes */
} evpq_pool_stats;

/** The result of a statement (err == NULL), or why there is none (result == NULL). Runs once, from
 * the loop. */
typedef void evpq_result_fn(evpq_result *result, const evpq_error *err, void *user);

/** A connection for you (err == NULL), to give back with evpq_lease_release(); or why there is
 * none. Runs once. */
typedef void evpq_acquire_fn(evpq_lease *lease, const evpq_error *err, void *user);

/**
 * Say what is wrong with options: the reason why evpq_pool_open() answers EVPQ_EINVALID.
 *
 * @return NULL when nothing is wrong; else a static text, without anything from the conninfo
 */
EVPQ_API const char *evpq_pool_options_problem(const evpq_pool_options *options);

/**
 * Open a pool.
 *
 * Returns at once; connections are made when they are needed, min_size of them as soon as the loop
 * runs. A server that is not there is no reason to fail: the pool works as soon as the server does.
 *
 * The conninfo is read as libpq reads it (keywords, URIs, PG* variables, service file, .pgpass),
 * with these additions: all addresses of all hosts are tried, in their order or, with
 * load_balance_hosts=random, in any, each with its share of connect_timeout_ms. (Before libpq 16
 * that option may stand in the conninfo and in the environment, not in the service file.) The host
 * that was found to be there, and to be what target_session_attrs asks for, is the first of the
 * next dials for a minute, or until it fails; then the order counts again. A server that is there
 * and says no (a wrong password, too many connections) ends the dial, as it ends libpq's; one that
 * starts up, or a pooler that is full, is passed over. gssencmode is `disable` and keepalives are
 * 30/10/3 s unless set, tcp_user_timeout is 30 s unless it or one of keepalives_* is set; sessions
 * use UTF8, DateStyle ISO and extra_float_digits 1.
 *
 * @param[out] out      the pool; yours until evpq_pool_close()
 * @param      loop     the loop everything runs on; must outlive the pool
 * @param      options  NULL for all defaults
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_pool_options_problem()); EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_open(evpq_pool **out, struct ev_loop *loop,
                                            const evpq_pool_options *options);

/**
 * Run one statement on a connection of the pool.
 *
 * It has succeeded only when on_result gets a result: then the server has committed it, deferred
 * constraints included. At its deadline the callback comes with EVPQ_ETIMEOUT, the statement is
 * cancelled on the server, and its connection is cleaned before anybody else gets it. What a
 * statement leaves open (BEGIN) is rolled back: use a lease for that.
 *
 * @param[out] out        a handle to cancel with; may be NULL
 * @param      pool       the pool
 * @param      query      read before the call returns; nothing of it is kept
 * @param      on_result  runs once, from the loop, unless this call fails
 * @param      user       passed to on_result as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_query_problem()); EVPQ_ENOMEM; EVPQ_ECLOSED;
 * EVPQ_EOVERLOADED when max_waiters are waiting. Everything else reaches on_result: EVPQ_ETIMEOUT,
 * EVPQ_ECANCELED, EVPQ_ECLOSED, EVPQ_ECONNECT, EVPQ_EDISCONNECTED, EVPQ_ESERVER, EVPQ_ENOMEM;
 * EVPQ_EINVALID for COPY from or to the client: then its connection is closed.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_query(evpq_op **out, evpq_pool *pool,
                                             const evpq_query *query, evpq_result_fn *on_result,
                                             void *user);

/**
 * Ask for a connection.
 *
 * @param[out] out          a handle to cancel with; may be NULL
 * @param      pool         the pool
 * @param      options      NULL for all defaults
 * @param      on_acquired  runs once, from the loop, unless this call fails
 * @param      user         passed to on_acquired as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_ENOMEM; EVPQ_ECLOSED; EVPQ_EOVERLOADED.
 *         Everything else reaches on_acquired: EVPQ_ETIMEOUT, EVPQ_ECANCELED, EVPQ_ECLOSED,
 * EVPQ_ECONNECT; and EVPQ_ELIMITED, EVPQ_EOVERLOADED where the pool has limits (limits.h).
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_acquire(evpq_op **out, evpq_pool *pool,
                                               const evpq_acquire_options *options,
                                               evpq_acquire_fn *on_acquired, void *user);

/**
 * Run one statement on a leased connection.
 *
 * Statements of one lease run in the order of the calls, one at a time; up to 1,000 may wait behind
 * the one that runs. A statement that times out or is cancelled leaves a transaction failed, as on
 * any connection; to COMMIT that one is an error, SQLSTATE 25P02, and rolls it back. When the
 * connection is lost, all that was waiting ends with EVPQ_EDISCONNECTED, later calls answer it at
 * once, and the lease is still yours to release.
 *
 * Parameters and return as evpq_pool_query(), and EVPQ_EDISCONNECTED when the connection is gone
 * already.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_lease_query(evpq_op **out, evpq_lease *lease,
                                              const evpq_query *query, evpq_result_fn *on_result,
                                              void *user);

/**
 * Give a leased connection back.
 *
 * An open transaction is rolled back before anybody else gets the connection. Statements of the
 * lease that have not finished are cancelled and call back with EVPQ_ECANCELED. NULL is allowed.
 * After the pool has closed it only frees.
 */
EVPQ_API void evpq_lease_release(evpq_lease *lease);

/**
 * Replace all connections made so far: after a change of password, address or configuration.
 *
 * What runs goes on; its connection is closed when it is given back. An idle connection stays until
 * its replacement is there, where max_size leaves room for one.
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_ECLOSED
 */
EVPQ_API int evpq_pool_expire(evpq_pool *pool);

/**
 * Write what a pool has and does as one line: what the errors of its timeouts say. For the log,
 * when a call returns EVPQ_EOVERLOADED.
 *
 * @return what it takes without the NUL, as snprintf(); `out` may be NULL when capacity is 0
 */
EVPQ_API size_t evpq_pool_describe(const evpq_pool *pool, char *out, size_t capacity);

/** Fill in *stats, whose size the caller has set: a smaller one, of an older program, gets what it
 * has room for. EVPQ_EINVALID for NULL or a larger size. */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_stats_get(const evpq_pool *pool, evpq_pool_stats *stats);

/**
 * Close a pool.
 *
 * Returns at once and may be called from any callback. The pool takes no new work from now on and
 * the handle is gone: only evpq_lease_release(), evpq_op_cancel() and evpq_stream_resume() may still
 * be called for what came from it. Every operation still calls back, then on_closed runs. Leases not released by the
 * bound lose their connection. Cleaning up after the bound takes twice cancel_timeout_ms at most.
 *
 * A lease goes on working while the pool finishes: evpq_lease_query() is EVPQ_OK until the bound.
 *
 * A program that returns from main() or calls exit() closes its pools before and waits for
 * on_closed: OpenSSL cleans up at exit, and the thread of a pool may be in the middle of a login.
 *
 * @param pool        the pool; NULL is EVPQ_EINVALID
 * @param mode        finish what runs, or cancel it
 * @param timeout_ms  the bound of finishing; 0: query_timeout_ms; EVPQ_NEVER: none
 * @param on_closed   may be NULL
 * @param user        passed to on_closed as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_ECLOSED when it is closing already
 */
EVPQ_API int evpq_pool_close(evpq_pool *pool, evpq_close_mode mode, uint32_t timeout_ms,
                             evpq_closed_fn *on_closed, void *user);

EVPQ_END_DECLS

#endif /* EVPQ_POOL_H */
