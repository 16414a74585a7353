/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_SNAPSHOT_H
#define EVPQ_LIB_PAGE_SNAPSHOT_H

/* A snapshot: a lease with a transaction in which all statements see one moment. */

#include "pool/pool.h"

enum {
    EVPQ__SNAPSHOT_ID = 64 /* bytes of an exported one's name: "00000003-0000001B-1" */
};

/* How the transaction is to be. Nothing of it is kept. */
struct evpq__snapshot_options {
    const char *import;  /* the name of an exported one to see; NULL: one of its own */
    bool export;         /* so that others can import it */
    int64_t open_by_us;  /* for its opening, all in all */
    int64_t deadline_us; /* when the connection is given back, whatever is under way */
    const char *tag;     /* of the lease */
};

struct evpq__snapshot;

/* It is open (err == NULL), or has failed and is over. Runs once, from the loop, unless it was
 * ended before. */
typedef void evpq__snapshot_opened_fn(const struct evpq_error *err, void *user);
/* It was open, and is over by itself: EVPQ_ETIMEOUT at its deadline, EVPQ_ECLOSED with the pool.
 * May run inside of evpq_pool_close(): nobody is to be called back from there. */
typedef void evpq__snapshot_over_fn(evpq_code why, void *user);

/* EVPQ_OK, and *out is to be given to evpq__snapshot_end(); or as evpq_pool_acquire(). */
int evpq__snapshot_open(struct evpq__snapshot **out, struct evpq_pool *pool,
                        const struct evpq__snapshot_options *options,
                        evpq__snapshot_opened_fn *on_opened, evpq__snapshot_over_fn *on_over,
                        void *user);
/* Where its statements run; NULL when it is not open. */
struct evpq_lease *evpq__snapshot_lease(const struct evpq__snapshot *snapshot);
/* The name to import it by; "" when it is not exported. */
const char *evpq__snapshot_id(const struct evpq__snapshot *snapshot);
/* Gives the connection back at once. Statements on it end with EVPQ_ECANCELED; nobody hears of the
 * snapshot any more. NULL is allowed. */
void evpq__snapshot_end(struct evpq__snapshot *snapshot);

/* May a name be written into SQL? Only hexadecimal digits and dashes may. */
bool evpq__snapshot_id_valid(const char *id);

#endif /* EVPQ_LIB_PAGE_SNAPSHOT_H */
