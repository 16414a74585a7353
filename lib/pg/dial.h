/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_DIAL_H
#define EVPQ_LIB_PG_DIAL_H

/*
 * A dial makes one connection, on the helper: names, every address of every
 * host with its share of the time, TLS, login, session set-up.
 */

#include <libpq-fe.h>

#include "base/error.h"
#include "base/helper.h"
#include "pg/cancel.h"

struct evpq__dial;

/* What a program should know of a connection, and may not expect. */
enum evpq__dial_notice {
    EVPQ__DIAL_POOLER = 1 << 0,     /* the server is behind a pooler */
    EVPQ__DIAL_UNVERIFIED = 1 << 1, /* a remote server that nobody has made sure of */
};

/* What a dial ended with: a connection in pipeline mode and the means to cancel on it; or an error.
 */
struct evpq__dialed {
    PGconn *pg;
    struct evpq__cancel *cancel;
    struct evpq_error error; /* ECONNECT, ECANCELED after abort, ENOMEM */
    bool refused_for_good;   /* trying again will not help */
    bool read_write;         /* the conninfo asks for a server that takes writes */
    unsigned notices;        /* a sum of evpq__dial_notice */
    size_t host;             /* where it leads: its number in the conninfo, for first_host */
};

/* At home, once. Owns what is in it. The dial is gone. */
typedef void evpq__dialed_fn(void *owner, struct evpq__dialed *dialed);

/* `conninfo` must live until the dial has ended. The host first_host is tried before all others; 0:
 * they are tried in their order. NULL without memory. */
struct evpq__dial *evpq__dial_start(struct evpq__helper *helper, struct evpq__loop *home,
                                    const char *conninfo, size_t first_host, int64_t deadline_us,
                                    evpq__dialed_fn *on_dialed, void *owner);
/* Ends it soon; on_dialed still comes, with a connection if it was there already. Once. */
void evpq__dial_abort(struct evpq__dial *dial);

#endif /* EVPQ_LIB_PG_DIAL_H */
