/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_POOL_STORY_H
#define EVPQ_TESTS_POOL_STORY_H

/*
 * What tests of the pool share: one pool on a fake loop, with fake dials and
 * a fake libpq, and calls that remember what became of them. Include it behind
 * cmocka.h.
 */

#include <evpq/pool.h>

#include "pool/pool.h"
#include "support/fake_dial.h"
#include "support/fake_helper.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pq.h"

/* The code of what has not called back. */
#define NOT_CALLED_BACK ((evpq_code)-99)

/* One operation, and what became of it. */
struct call {
    evpq_op *op;
    int accepted; /* what the call that started it answered */
    int calls;    /* of its callback */
    evpq_code code;
    evpq_fate fate; /* 0: it succeeded */
    char sqlstate[6];
    char message[512];
    evpq_lease *lease;
    int64_t at_us; /* when the callback came */
    int order;     /* among all callbacks */
    void (*inside)(struct call *call);
};

extern evpq_pool *pool; /* NULL when it is not open */
extern int pool_closed_calls;
/* Fresh for each test, and still there when its function has returned. */
enum { STORY_CALLS = 1000 };
extern struct call story_calls[STORY_CALLS];

/* Fixtures: a server that answers everything and dials that succeed, if the test says nothing else.
 * At the end all must be over: each accepted call has called back once, and nothing is left. */
int story_begin(void **state);
int story_end(void **state);
#define story_test(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)

int story_open(const evpq_pool_options *options);
/* Fails the test when it does not succeed. */
void story_open_ok(const evpq_pool_options *options);

/* Each clears *call first; what was set in `inside` stays. timeout_ms 0: the default. */
int story_ask(struct call *call, const char *sql, uint32_t timeout_ms);
int story_ask_with(struct call *call, const evpq_query *query);
int story_acquire(struct call *call, uint32_t timeout_ms);
int story_acquire_tagged(struct call *call, const char *tag, uint32_t timeout_ms);
int story_lease_ask(struct call *call, evpq_lease *lease, const char *sql, uint32_t timeout_ms);
/* And settles. */
void story_run(struct call *call, const char *sql);
/* Releases and forgets it. */
void story_release(struct call *call);
int story_close(evpq_close_mode mode, uint32_t timeout_ms);
/* Ends cancel requests and dials until the pool is closed. */
void story_finish(void);

evpq_pool_stats story_stats(void);
/* Opens a pool that has so many idle connections. */
void story_open_with_idle(int count, evpq_pool_options options);

#endif /* EVPQ_TESTS_POOL_STORY_H */
