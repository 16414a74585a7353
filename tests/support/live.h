/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_LIVE_H
#define EVPQ_TESTS_LIVE_H

/*
 * What live tests share: a loop, a pool on the real server, and calls that run
 * the loop until their callback has come. EVPQ_TEST_CONNINFO names the server,
 * else libpq's environment.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>
#include <evpq/evpq.h>

struct live {
    struct ev_loop *loop;
    evpq_pool *pool;
};

/* The connection string of the server under test; NULL is libpq's environment. */
const char *live_conninfo(void);
/* The same with other settings behind it: "host=127.0.0.1". Static buffer. */
const char *live_conninfo_with(const char *more);

/* Opens a pool with these options on the server under test. */
void live_open(struct live *live, const evpq_pool_options *options);
/* Closes the pool, runs the loop to its end, and checks that nothing keeps it going. */
void live_close(struct live *live);

/* What an operation ended with; the texts are copies. */
struct outcome {
    int calls; /* of the callback */
    evpq_code code;
    evpq_fate fate;
    bool retry_safe;
    char message[1200];
    char sqlstate[6];
    evpq_result *result; /* kept; freed by outcome_clear() */
    evpq_lease *lease;
    double at; /* seconds, when the callback came */
};
void outcome_clear(struct outcome *outcome);
/* evpq_result_fn and evpq_acquire_fn; user is a struct outcome. */
void outcome_result(evpq_result *result, const evpq_error *err, void *user);
void outcome_lease(evpq_lease *lease, const evpq_error *err, void *user);

/* Runs the loop until the callback has come; fails after a minute. */
void live_wait(struct live *live, struct outcome *outcome);
/* Runs the loop for a time. */
void live_run(struct live *live, double seconds);
/* Runs the loop until the condition holds; fails after `seconds`. */
void live_until(struct live *live, bool (*condition)(struct live *, void *), void *arg,
                double seconds);

/* A query, waited for. */
void live_query(struct live *live, struct outcome *outcome, const evpq_query *query);
/* A query that must succeed; the first value as a bigint, 0 when there is none. */
int64_t live_int8(struct live *live, const evpq_query *query);
void live_acquire(struct live *live, struct outcome *outcome);
/* A query on a lease, waited for. */
void live_lease_query(struct live *live, struct outcome *outcome, evpq_lease *lease,
                      const evpq_query *query);
evpq_pool_stats live_stats(struct live *live);

/* A second, unrelated connection for what a test does behind the pool's back; blocks. Past a
 * pooler: EVPQ_TEST_ASIDE names the server itself. */
int64_t aside_int8(const char *sql);
/* A connection string that goes past the pooler, where one stands before the server. */
const char *live_aside(void);

double live_now(void);
/* 1, or less where everything is slow (valgrind): scales counts. EVPQ_TEST_SCALE=small. */
int live_scaled(int count);
/* How much slower than usual: timing bounds are multiplied by it. EVPQ_TEST_SLOW=1. */
double live_slow(void);
/* Open descriptors of this process. */
int live_descriptors(void);

#endif /* EVPQ_TESTS_LIVE_H */
