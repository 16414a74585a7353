/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_POOL_TRACE_H
#define EVPQ_LIB_POOL_TRACE_H

/*
 * What happened, kept until the loop can tell it: the callback may call
 * anything, so it cannot run where things happen. Without a callback there is
 * no tracer, and each place pays for one comparison.
 */

#include <evpq/trace.h>

#include "base/error.h"
#include "base/loop.h"

enum { EVPQ__TAG_SIZE = 64 };

struct evpq__tracer;

/* NULL without memory. */
struct evpq__tracer *evpq__tracer_new(struct evpq__loop *loop, evpq_trace_fn *on_trace, void *user,
                                      uint32_t kinds);
/* Tells what has not been told yet, and is gone. NULL is allowed. */
void evpq__tracer_end(struct evpq__tracer *tracer);
bool evpq__tracer_wants(const struct evpq__tracer *tracer, evpq_trace_kind kind);

/* Keeps a copy of `event`, its texts included; the time is added. `error` may be NULL. */
void evpq__tracer_add(struct evpq__tracer *tracer, const evpq_trace *event,
                      const struct evpq_error *error);

#endif /* EVPQ_LIB_POOL_TRACE_H */
