/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_POOL_CODEL_H
#define EVPQ_LIB_POOL_CODEL_H

/*
 * CoDel for a queue of requests, as Facebook's folly has it (folly/executors/
 * Codel.cpp; Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012,
 * for packets). A queue is overloaded when even the shortest wait of an
 * interval was above the target; while it is, who has waited for more than
 * twice the target is shed. The first of an interval never is.
 */

#include <stdbool.h>
#include <stdint.h>

struct evpq__codel {
    int64_t interval_ends_us;
    int64_t shortest_us; /* wait of this interval */
    bool fresh;          /* the interval has seen nobody yet */
    bool overloaded;     /* the interval before was */
};

/* One leaves the queue after so long: is it to be shed? */
bool evpq__codel_sheds(struct evpq__codel *codel, int64_t target_us, int64_t now_us,
                       int64_t waited_us);

#endif /* EVPQ_LIB_POOL_CODEL_H */
