/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FRONT_H
#define EVPQ_TESTS_FRONT_H

/* A ledger whose pool reaches the server through a proxy. */

#include "support/ledger.h"
#include "support/netns.h"
#include "support/proxy.h"

struct front {
    struct fault_server *server;
    struct proxy *proxy;
    struct ledger ledger;
    uint32_t max_size;
    unsigned threads; /* of this process, before */
    ev_timer fence;
    double fence_end;
};

/* fault_server(); skips the case where all is too slow for it. To be called before anything is
 * made. */
struct fault_server *front_server(void);
/* Opens a pool; `more` is put behind its conninfo. The proxy is on 127.0.0.1, or on that host. */
void front_open(struct front *front, const evpq_pool_options *options, const char *more,
                struct netns *host);
/* The same without a proxy; front->server is there already. */
void front_open_direct(struct front *front, const evpq_pool_options *options, const char *conninfo);
/* For faults that hide from the server that a connection is gone: it may count so many, and what is
 * left of them is reset in the end. */
void front_allow(struct front *front, uint32_t connections);
/* The end of a case: heals, checks the ledger, stops the proxy. */
void front_check(struct front *front);

/* Has the pool make all its connections. */
void front_fill(struct front *front);
/*
 * The fault is over: heals, and goes on with the load until all of it succeeds. Fails when what was
 * asked `within` seconds or more after that did not. Returns how long after it the last failure was
 * asked.
 */
double front_recovers(struct front *front, double within);

/* Threads of this process. */
unsigned front_threads(void);

#endif /* EVPQ_TESTS_FRONT_H */
