/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FLOW_STORY_H
#define EVPQ_TESTS_FLOW_STORY_H

/*
 * What tests of flow/ share: operations that remember what became of them, on a
 * fake loop. Include it behind cmocka.h.
 */

#include <evpq/op.h>

#include "support/fake_loop.h"
#include "support/fake_mem.h"

#define NOT_CALLED_BACK ((evpq_code)-99)

/* One operation, and what became of it. */
struct turn {
    evpq_op *op;
    int accepted; /* what the call answered */
    int calls;    /* of its callback */
    evpq_code code;
    int64_t at_us; /* of the callback */
    int order;     /* among all callbacks */
    uint32_t weight;
    void (*inside)(struct turn *turn);
};

enum { TURNS_MAX = 4096 };
/* Fresh for each test. */
extern struct turn turns[TURNS_MAX];

/* Fixtures. At the end each accepted call must have called back once, and nothing be left. */
int flow_begin(void **state);
int flow_end(void **state);
#define flow_test(name) cmocka_unit_test_setup_teardown(name, flow_begin, flow_end)

/* Before the call: forgets all but `inside` and `weight`. */
void turn_begin(struct turn *turn);
/* With what it answered; returns it. */
int turn_started(struct turn *turn, int code);
/* The callback: `user` is the turn. */
void on_turn(const evpq_error *err, void *user);
int turns_called(void);

/* A seeded generator: below `limit`. */
uint32_t flow_random(uint32_t limit);
void flow_seed(uint64_t seed);

#endif /* EVPQ_TESTS_FLOW_STORY_H */
