/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_ROUTE_ROUTER_H
#define EVPQ_LIB_ROUTE_ROUTER_H

/*
 * The router as its own files see it: router.c chooses, probe.c asks the
 * servers, read.c is one read as an operation, place.c where a write is.
 */

#include <evpq/router.h>

#include "base/op.h"
#include "pool/pool.h"
#include "route/lag.h"

enum { EVPQ__STANDBYS = 32 };

/* The primary, or a standby. */
struct evpq__server {
    struct evpq_router *router;
    struct evpq_pool *pool; /* a reference */
    struct evpq_op *probe;  /* under way, or NULL; then it has a reference to the router */
    int64_t asked_us;       /* when that one was sent */
    bool answered;          /* or failed to, since the last pause */
    bool wrong_role;        /* by its last answer */
    uint64_t broken;        /* of a standby: connections its pool had lost when it answered */
    struct evpq__replay replay;
    struct evpq__list attempts; /* reads that are under way there */
    uint64_t reads, probe_failures;
};

struct evpq_router {
    unsigned refs; /* the user's, until close; one for each probe and operation under way */
    bool closed;
    struct evpq__loop *loop;
    struct evpq_router_options options; /* complete; its pools are in `servers` */
    struct evpq__wal wal;
    struct evpq__server primary;
    struct evpq__server *standbys;
    uint32_t turn; /* whom to look at first */

    struct evpq__timer round;  /* of probes; does not run in a pause */
    uint32_t unasked;          /* rounds since the last read */
    struct evpq__list waiting; /* reads, for the first answers after a pause */
    struct evpq_router_stats stats;
};

static inline bool evpq__server_is_primary(const struct evpq__server *server)
{
    return server == &server->router->primary;
}

/* Is there a connection to it, free or taken? */
static inline bool evpq__server_connected(const struct evpq__server *server)
{
    return evpq__pool_total(server->pool) > server->pool->slot_count[EVPQ__SLOT_DIALING];
}

/* router.c */

void evpq__router_ref(struct evpq_router *router);
void evpq__router_unref(struct evpq_router *router);
/* What a read asks for, completed by what the router does. False when it is invalid. */
bool evpq__router_bounds(struct evpq__lag_bounds *out, const struct evpq_router *router,
                         const evpq_read *read);
/* The standby for a read, none of those in the set `but`; NULL when there is none. */
struct evpq__server *evpq__router_choose(struct evpq_router *router,
                                         const struct evpq__lag_bounds *bounds, uint32_t but);
/* A read goes to this server. */
void evpq__router_count(struct evpq__server *server);

/* probe.c */

/* A read has come: goes on to probe, or begins. */
void evpq__probes_wanted(struct evpq_router *router);
/* Is there a server that has not answered since the pause, and may yet? */
bool evpq__probes_begin(const struct evpq_router *router);
void evpq__probes_stop(struct evpq_router *router);
void evpq__probes_on_round(struct evpq__timer *timer);

/* read.c */

/* There is no connection to be had: who still waits for one goes elsewhere. */
void evpq__reads_leave(struct evpq__server *server);
/* Somebody has answered, or failed to: who waits may look again. */
void evpq__reads_wake(struct evpq_router *router);

#endif /* EVPQ_LIB_ROUTE_ROUTER_H */
