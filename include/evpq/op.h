/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_OP_H
#define EVPQ_OP_H

/**
 * @file
 * Operations
 * ==========
 *
 * Everything that takes time is an operation: a query, an acquire, a page. Each
 * has one deadline, can be cancelled, and calls back exactly once from the loop.
 * The calls that start one hand out its handle through their first argument,
 * which may be NULL.
 *
 * A handle is valid until its callback returns. The callback comes also for a
 * cancelled operation, so that is the one place to free what belongs to it.
 */

#include <evpq/base.h>
#include <evpq/error.h>

EVPQ_BEGIN_DECLS

/** One operation under way; owned by evpq, valid until its callback returns. */
typedef struct evpq_op evpq_op;

/** It is done (err == NULL), or why not. Of an operation that brings nothing. Runs once, from the
 * loop. */
typedef void evpq_done_fn(const evpq_error *err, void *user);

/** The object is closed and gone. Runs once, last of all, from the loop. */
typedef void evpq_closed_fn(void *user);

/** What a close does with what is under way. */
typedef enum evpq_close_mode {
    EVPQ_CLOSE_FINISH = 0, /**< let it finish, waiting callers and leases included; cancel what is
                              left at the bound */
    EVPQ_CLOSE_CANCEL = 1, /**< cancel it now: each operation ends with EVPQ_ECLOSED */
} evpq_close_mode;

/**
 * Cancel an operation.
 *
 * The callback comes at the next turn of the loop, with EVPQ_ECANCELED, unless the operation had
 * already finished: then it comes with what it had. A statement that had been sent is cancelled on
 * the server as well; no other statement is touched. Called in the operation's own callback, or
 * twice, it does nothing.
 *
 * @param op  the operation; NULL is allowed and does nothing
 */
EVPQ_API void evpq_op_cancel(evpq_op *op);

EVPQ_END_DECLS

#endif /* EVPQ_OP_H */
