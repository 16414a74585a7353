/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_POOL_H
#define EVPQ_TESTS_FAKE_POOL_H

/*
 * A pool that only remembers what it is asked, in place of lib/pool, for tests
 * of pagers: the test answers, and grants leases. Needs fake_loop.c. Include it behind cmocka.h.
 */

#include <evpq/pager.h>

#include "page/pager.h"

/* A query, from the moment it is asked until it is answered or stopped. */
struct fake_query {
    struct evpq_op op;
    char sql[2048];
    size_t params_count;
    evpq_value last;   /* parameter; its bytes are the pager's */
    char texts[4][24]; /* of the first parameters that are text */
    uint32_t timeout_ms;
    size_t max_result_bytes;
    bool goes_on; /* a step of an operation that is under way */
    evpq_result_fn *on_result;
    void *user;
    struct evpq_result *result;
    evpq_code stopped;        /* what it was stopped with */
    struct evpq_lease *lease; /* NULL: of the pool, or answered */
};

/* The pool; the last query asked, and how many there were. */
extern struct evpq_pool fake_pool;
struct fake_query *fake_asked(void);
int fake_queries(void);

void fake_pool_begin(void);
/* Nobody keeps the pool, no operation is left. */
void fake_pool_end(void);

/* Answers it: `on_result` is called. Owns the result. */
void fake_answer(struct fake_query *query, struct evpq_result *result);
void fake_answer_error(struct fake_query *query, const struct evpq_error *error);

/* The oldest query that has no answer; NULL when there is none. */
struct fake_query *fake_unanswered(void);

/* Leases asked for and not granted; and granted, not released. */
int fake_leases_wanted(void);
int fake_leases_held(void);
/* The oldest wish is granted, or ends with this error. */
void fake_lease_granted(void);
void fake_lease_refused(evpq_code code);
/* The pool closes: all are taken away, as by the true one. */
void fake_leases_taken(void);

/* A pager whose order was proven before. */
static inline int fake_pager_open(evpq_pager **out, const evpq_pager_options *options)
{
    int code = evpq_pager_open(out, &fake_pool, options);
    if (code == EVPQ_OK)
        (*out)->proven = true;
    return code;
}

#endif /* EVPQ_TESTS_FAKE_POOL_H */
