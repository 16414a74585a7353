/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_ROUTER_STORY_H
#define EVPQ_TESTS_ROUTER_STORY_H

/* What tests of routers share: one of two standbys on fake pools. Include it behind cmocka.h. */

#include <evpq/router.h>

#include "base/mem.h"
#include "pg/result.h"
#include "pg/value.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pools.h"

extern struct evpq_pool *const primary, *const one, *const two;
extern evpq_router *router; /* closed at the end of a test, unless it is NULL */

/* A question, and what became of it. */
struct seen {
    evpq_op *op;
    int calls;
    evpq_code code;
    evpq_fate fate;
    uint64_t lsn;
    bool close; /* the router, in the callback */
};

int router_begin(void **state);
int router_end(void **state);
#define router_test(name) cmocka_unit_test_setup_teardown(name, router_begin, router_end)

/* A router of two standbys, which nobody has asked; and one that knows both to be up to date. */
void open_idle(void);
void open_fresh(void);

/* Asks, and settles: as the first two say, or a read of a second. */
void ask_with(struct seen *seen, uint32_t timeout_ms, const evpq_read *how);
void ask(struct seen *seen);
evpq_result_fn on_result;
evpq_router_stats stats(void);

/* A row of `count` columns in binary; a size of 0 is NULL. Without memory, NULL. */
struct evpq_result *row(int count, const uint32_t *types, const size_t *sizes,
                        const uint64_t *values);
/* Answers with it; without memory that error. */
void give(struct fake_ask *ask, struct evpq_result *result);
/* The probe of a pool hears of a server in this role. */
void say(struct evpq_pool *pool, bool standby, uint64_t lsn);
/* The oldest statement of a pool gets its answer, or an error. */
void answer(struct evpq_pool *pool);
void refuse(struct evpq_pool *pool, evpq_code code, evpq_fate fate, const char *sqlstate);

#endif /* EVPQ_TESTS_ROUTER_STORY_H */
