/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_POOL_GATE_H
#define EVPQ_LIB_POOL_GATE_H

/* Limits in front of the queue for connections. A pool without any pays a look at NULL. */

#include <evpq/limits.h>

#include "base/op.h"

struct evpq__waiter;

/* The way of a statement, or of a lease, through the gates of its pool. */
struct evpq__pass;

/* NULL, and EVPQ_OK, when no gate is in its way; EVPQ_ENOMEM. */
int evpq__pass_new(struct evpq__pass **out, const struct evpq_pool *pool, const char *tag);
/* Its operation has begun, and is on the pool's list of the gated; it goes to the queue from here,
 * or finishes. */
void evpq__pass_begin(struct evpq__waiter *waiter);
/* It is stopped. False when it is not in a gate any more; else its error is set. */
bool evpq__pass_leave(struct evpq__waiter *waiter, evpq_code why);
/* The statement is gone, the lease released: what it held is given back. NULL is allowed. */
void evpq__pass_end(struct evpq__pass *pass);

/* Of a pool that is closed; nobody passes. */
void evpq__gates_free(struct evpq_pool *pool);

#endif /* EVPQ_LIB_POOL_GATE_H */
