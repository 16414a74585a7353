/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_CANCEL_H
#define EVPQ_LIB_PG_CANCEL_H

/*
 * The means to cancel what one connection is running. It is made with the
 * connection, on the helper, so that cancelling needs no memory and reads no
 * file; it can be used again and again, one request at a time.
 *
 * A request is over only when the server has closed the connection it came by:
 * by then the signal has been sent, and a statement that starts later is safe
 * from it (libpq, fe-cancel.c).
 */

#include <libpq-fe.h>
#include <stdbool.h>

#include "base/helper.h"

struct evpq__cancel;

/* NULL without memory. */
struct evpq__cancel *evpq__cancel_new(PGconn *conn);
/* Not while a request is under way. NULL is allowed. */
void evpq__cancel_free(struct evpq__cancel *cancel);

/* Sends a request; `done` is posted at home when it is over, by `deadline_us` at the latest. */
void evpq__cancel_start(struct evpq__cancel *cancel, struct evpq__helper *helper,
                        struct evpq__loop *home, int64_t deadline_us, struct evpq__task *done);
/* At home: a request is under way. */
bool evpq__cancel_running(const struct evpq__cancel *cancel);

#endif /* EVPQ_LIB_PG_CANCEL_H */
