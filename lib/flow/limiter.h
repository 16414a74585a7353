/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_FLOW_LIMITER_H
#define EVPQ_LIB_FLOW_LIMITER_H

#include <evpq/limiter.h>

#include "base/op.h"
#include "flow/window.h"

struct evpq_limiter {
    unsigned refs; /* one is the user's; each wait has one */
    struct evpq__loop *loop;
    struct evpq__window window;
    uint32_t window_ms, max_waiters;
    struct evpq__list waiters; /* operations, FIFO */
    uint32_t waiting;
    uint64_t waiting_permits;
    uint64_t granted;         /* permits of those who are not told yet: they count from then on */
    struct evpq__timer timer; /* for the first who waits */
    int64_t timer_us;         /* when it fires; EVPQ__NO_DEADLINE when it does not run */
    uint64_t admitted, refused, timeouts, canceled;
    void (*gone)(struct evpq_limiter *limiter); /* the last reference is */
};

/* `options` is complete. False without memory. */
bool evpq__limiter_init(struct evpq_limiter *limiter, struct evpq__loop *loop,
                        const evpq_limiter_options *options, void (*gone)(struct evpq_limiter *));
/* Nothing of it counts any more, and nobody waits. */
bool evpq__limiter_unused(struct evpq_limiter *limiter);

/* `out` gets what the user set and the defaults of the rest; a problem, or NULL. */
const char *evpq__limiter_options_read(evpq_limiter_options *out,
                                       const evpq_limiter_options *options);

#endif /* EVPQ_LIB_FLOW_LIMITER_H */
