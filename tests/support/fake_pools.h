/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_POOLS_H
#define EVPQ_TESTS_FAKE_POOLS_H

/*
 * Pools that only remember what they are asked, in place of lib/pool, for tests of routers: the
 * test answers. Needs fake_loop.c. Include it behind cmocka.h.
 */

#include "pool/pool.h"

enum { FAKE_POOLS = 3 };
extern struct evpq_pool fake_pools[FAKE_POOLS];
/* What the next calls answer: EVPQ_OK, or an error. */
extern int fake_pools_code[FAKE_POOLS];

/* A statement, from the moment it is asked until it is answered or stopped. */
struct fake_ask {
    struct evpq_op op;
    struct evpq_pool *pool; /* NULL: it is not used */
    char sql[600], tag[16], param[24];
    uint32_t timeout_ms;
    bool probe, goes_on;
    evpq_result_fn *on_result;
    void *user;
    struct evpq_result *result;
};

void fake_pools_begin(void);
/* Nobody keeps a pool, no statement is left. */
void fake_pools_end(void);

/* The oldest statement of a pool, or probe, without an answer; NULL when there is none. */
struct fake_ask *fake_statement(const struct evpq_pool *pool);
struct fake_ask *fake_probe(const struct evpq_pool *pool);
/* How many of both, ever. */
int fake_statements(const struct evpq_pool *pool);
int fake_probes(const struct evpq_pool *pool);

/* Each calls back. The first owns the result. */
void fake_ask_answer(struct fake_ask *ask, struct evpq_result *result);
void fake_ask_fail(struct fake_ask *ask, evpq_code code, evpq_fate fate, const char *sqlstate);

#endif /* EVPQ_TESTS_FAKE_POOLS_H */
