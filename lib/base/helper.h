/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_HELPER_H
#define EVPQ_LIB_BASE_HELPER_H

/*
 * The helper: where what may block or burn happens, so that the service's loop
 * (here: *home*) never does.
 *
 * Two means. The helper's own loop, on its own thread, for what can be done in
 * steps but burns CPU in one of them: handshakes. And *calls*, for what blocks
 * without a bound and cannot be interrupted: getaddrinfo(), PQcancel() before
 * libpq 17. A call has a thread to itself, so that one name server that never
 * answers does not keep other work, or the end of the pool, waiting. It can be
 * abandoned: then its thread ends whenever it ends, and cleans up after itself.
 *
 * All signals are blocked in these threads.
 */

#include "base/loop.h"

struct evpq__helper;

/* Starts the thread. `home` is the loop that owns it. */
struct evpq__helper *evpq__helper_start(struct evpq__loop *home);

/* Post here with evpq__loop_send(). What runs there reaches home the same way. */
struct evpq__loop *evpq__helper_loop(struct evpq__helper *helper);

/*
 * Ends the thread, when it has done what was sent before. `stopped` runs at
 * home after that; the helper is gone then. Nothing may be sent after this.
 */
void evpq__helper_stop(struct evpq__helper *helper, struct evpq__task *stopped);

struct evpq__call;

struct evpq__call_class {
    void (*work)(void *arg);    /* on the thread: the call that blocks */
    void (*done)(void *arg);    /* on the loop that started it, unless abandoned: owns arg */
    void (*dispose)(void *arg); /* on any thread, when abandoned: owns arg */
};

/* NULL when no thread can be had: arg is still the caller's. */
struct evpq__call *evpq__call_start(struct evpq__loop *loop, const struct evpq__call_class *class_,
                                    void *arg);
/* From the loop that started it, before done() has run. */
void evpq__call_abandon(struct evpq__call *call);

#endif /* EVPQ_LIB_BASE_HELPER_H */
