/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_FLOW_MEMBER_H
#define EVPQ_LIB_FLOW_MEMBER_H

/*
 * Watches an operation of anybody's: hears of its end, right after its own
 * callback has returned. It takes the place of the operation's class, with the
 * same stop and destroy, and a deliver that tells of it; so an operation that
 * nobody watches pays nothing, and one may be watched by many.
 */

#include "base/op.h"

struct evpq__member {
    struct evpq__op_class class_;
    const struct evpq__op_class *own; /* what it has taken the place of */
    struct evpq_op *op;               /* NULL: it is not watched, or over */
    /* Its callback has returned. `error` has no code when it has succeeded; it goes after this. */
    void (*over)(struct evpq__member *member, const struct evpq_error *error);
};

/* False when it has been delivered already. */
bool evpq__member_watch(struct evpq__member *member, struct evpq_op *op,
                        void (*over)(struct evpq__member *, const struct evpq_error *));

#endif /* EVPQ_LIB_FLOW_MEMBER_H */
