/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_BATCH_H
#define EVPQ_BATCH_H

/**
 * @file
 * Batches
 * =======
 *
 * Many statements in one round trip, on one connection, in their order: as one
 * transaction, or each on its own. The caller says which.
 *
 *     evpq_pool_batch(NULL, pool,
 *                     EVPQ_BATCH(EVPQ_BATCH_TRANSACTION,
 *                                EVPQ_QUERIES(EVPQ_QUERY("UPDATE account SET ..."),
 *                                             EVPQ_QUERY("INSERT INTO entry ...")),
 *                                .timeout_ms = 500),
 *                     on_result, on_done, user);
 *
 * Where their number is known at run time only, they stand in arrays, for an
 * EVPQ_QUERY() of a loop is gone with its turn:
 *
 *     for (size_t i = 0; i < count; i++) {
 *         values[i] = evpq_int8(ids[i]);
 *         queries[i] = *EVPQ_QUERY(sql, .params = &values[i], .params_count = 1);
 *         pointers[i] = &queries[i];
 *     }
 *     evpq_pool_batch(NULL, pool,
 *                     EVPQ_BATCH(EVPQ_BATCH_EACH, .queries = pointers, .queries_count = count),
 *                     on_result, on_done, user);
 *
 * on_result runs once for each statement, in their order, with its result or
 * with why there is none; on_done runs once, last. What a result says is final:
 * those of a transaction come when it is committed, deferred constraints
 * included, and are kept in memory until then; the others come as soon as the
 * server has committed them, one by one.
 *
 * One deadline holds for all. When it passes, or the batch is cancelled, every
 * statement that has not been told of yet ends with that, each with a fate of
 * its own: *not sent*, *unknown*; of a transaction whose COMMIT had not left yet,
 * *rolled back*.
 *
 * When a statement of a transaction fails, none of the batch has happened. Each is told the same
 * error: that of the statement that failed, whose number is evpq_error_statement(). On their own,
 * statements do not mind each other: behind one that fails the next runs all the same (but not in an
 * open transaction of a lease, which has failed as a whole then: 25P02). They travel together, too:
 * when such a batch is cancelled or its deadline passes, what had been sent may run after on_done,
 * *unknown* as it is. What must not is a transaction.
 *
 * Large batches do not stall: what the server does not take yet waits, and its
 * answers are read meanwhile. A batch has its connection to itself, whatever
 * pipeline_depth says; in a lease it takes its turn among the statements of the
 * lease.
 *
 * Refused are COPY, PREPARE, and statements that begin or end a transaction or a
 * part of one (BEGIN, COMMIT, SAVEPOINT): use a lease. SET TRANSACTION works, as the
 * first statement of a transaction. In a lease with an open transaction only EVPQ_BATCH_EACH is
 * possible, and each is a part of it.
 *
 * Prepared statements are used as by evpq_pool_query(), and what the server has
 * lost runs again unseen (but not in a lease's transaction, be it open or a batch:
 * SQLSTATE 26000 or 0A000), but never in another order. On their own, statements
 * are sent before it is known whether one ahead of them was lost: what is lost with
 * all that is behind it (DISCARD ALL) runs again in its place, and so do many of the
 * same statement when their table is altered. Where one behind it has run, the loss
 * is told: it has had no effect, and evpq_error_retry_safe() is true. What must not
 * hear of an altered table says .prepare = EVPQ_OFF.
 */

#include <evpq/pool.h>

EVPQ_BEGIN_DECLS

/** What the statements of a batch have to do with each other. It must be said. */
typedef enum evpq_batch_mode {
    EVPQ_BATCH_TRANSACTION = 1, /**< all or none: BEGIN and COMMIT travel along */
    EVPQ_BATCH_EACH = 2,        /**< each is a transaction of its own */
} evpq_batch_mode;

/** Statements at most. */
#define EVPQ_BATCH_MAX 10000

/** A batch, as EVPQ_BATCH() or a C++ caller fills it. Zero is the default of each field but mode
 * and queries; nothing of it is kept. */
typedef struct evpq_batch {
    /** sizeof(evpq_batch); EVPQ_BATCH() sets it. */
    size_t size;
    evpq_batch_mode mode;
    /** The statements; EVPQ_QUERIES() sets them. Their timeout_ms, tag, server_timeout and
     * max_result_bytes are the batch's, and must not be set. */
    const evpq_query *const *queries;
    /** 1 to EVPQ_BATCH_MAX. */
    size_t queries_count;
    /** From the call to on_done. 0: the pool's query_timeout_ms. */
    uint32_t timeout_ms;
    /** What errors and traces call it, as in evpq_query. */
    const char *tag;
    /** As in evpq_query, for each statement: the server gives each what was left when they were
     * sent. Of many that are long only together the deadline tells, not the server. */
    evpq_switch server_timeout;
    /** Of the results of a transaction, all together, as they come; else of each result. As in
     * evpq_query. A transaction whose results are larger may have been committed: EVPQ_ETOOLARGE,
     * *unknown*, for all of it. On their own, what had been sent behind one that is larger goes
     * with its connection: EVPQ_EDISCONNECTED, *unknown*. */
    size_t max_result_bytes;
} evpq_batch;

/** A batch in place: EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(...), .timeout_ms = 250). C only. */
#define EVPQ_BATCH(...) (&(const evpq_batch){.size = sizeof(evpq_batch), .mode = __VA_ARGS__})

/** The statements of a batch in place, each an EVPQ_QUERY(); at least one. C only. */
#define EVPQ_QUERIES(...)                                                                          \
    .queries = (const evpq_query *const[]){__VA_ARGS__},                                           \
    .queries_count = sizeof((const evpq_query *const[]){__VA_ARGS__}) / sizeof(const evpq_query *)

/** What a statement of a batch, counted from 0, has returned (err == NULL), or why it has not
 * (result == NULL). Runs once for each, in their order, from the loop. */
typedef void evpq_batch_fn(uint32_t statement, evpq_result *result, const evpq_error *err,
                           void *user);

/**
 * Say what is wrong with a batch: the reason why a call answers EVPQ_EINVALID.
 *
 * @param      batch      the batch
 * @param[out] statement  the first one that is wrong, counted from 0, or EVPQ_NO_STATEMENT: of none
 *                        of them, or nothing is wrong; may be NULL
 *
 * @return NULL when nothing is wrong; else a static text
 */
EVPQ_API const char *evpq_batch_problem(const evpq_batch *batch, uint32_t *statement);

/**
 * Run many statements in one round trip.
 *
 * @param[out] out        a handle to cancel with, valid until on_done returns; may be NULL
 * @param      pool       the pool
 * @param      batch      read before the call returns; nothing of it is kept
 * @param      on_result  runs once for each statement, in their order, from the loop; may be NULL
 * @param      on_done    runs once, after the last on_result, unless this call fails. Its error is
 *                        the timeout or cancel that ended the batch, or the first of a statement,
 *                        which evpq_error_statement() names
 * @param      user       passed to both as it is
 *
 * @return as evpq_pool_query(); EVPQ_EINVALID (ask evpq_batch_problem())
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_batch(evpq_op **out, evpq_pool *pool,
                                             const evpq_batch *batch, evpq_batch_fn *on_result,
                                             evpq_done_fn *on_done, void *user);

/**
 * The same on a leased connection, behind the statements that the lease has been given before.
 *
 * As one transaction where one is open already it ends with EVPQ_EINVALID, *not sent*.
 *
 * @return as evpq_lease_query(); EVPQ_EINVALID (ask evpq_batch_problem())
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_lease_batch(evpq_op **out, evpq_lease *lease,
                                              const evpq_batch *batch, evpq_batch_fn *on_result,
                                              evpq_done_fn *on_done, void *user);

EVPQ_END_DECLS

#endif /* EVPQ_BATCH_H */
