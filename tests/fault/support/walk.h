/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAULT_WALK_H
#define EVPQ_TESTS_FAULT_WALK_H

/*
 * What fault_random.c walks with: steps that a seed decides, and the calls they
 * make. What step n does is decided by the seed and n alone.
 */

#include "support/front.h"

enum { SIZE_MOST = 8, LEASES = 3, PAGERS = 3, RECENT = 64, PAGE_ROWS_ALL = 500 };

/* What a step can do; how often, of the sum of all. */
#define KINDS(X)                                                                                   \
    X(ask, 30)                                                                                     \
    X(ask_command, 6)                                                                              \
    X(burst, 2)                                                                                    \
    X(acquire, 6)                                                                                  \
    X(lease_ask, 14)                                                                               \
    X(release, 8)                                                                                  \
    X(page, 10)                                                                                    \
    X(page_close, 2)                                                                               \
    X(cancel, 10)                                                                                  \
    X(expire, 1)                                                                                   \
    X(look, 2)                                                                                     \
    X(reopen, 1)                                                                                   \
    X(terminate, 2)                                                                                \
    X(cancel_by_admin, 1)                                                                          \
    X(network, 2)

enum kind {
#define KIND_ENUM(name, often) KIND_##name,
    KINDS(KIND_ENUM)
#undef KIND_ENUM
        KIND_COUNT,
};

/* A step, and the numbers that it still takes. */
struct step {
    enum kind kind;
    bool inside; /* in the next callback, if there is one soon */
    unsigned pause_us;
    uint64_t random;
};

struct asked_lease {
    int calls;
    evpq_op *op;
    double due;
};

struct walker {
    evpq_pager *pager;
    evpq_op *op;
    int64_t last;
    char token[4097];
};

struct walk {
    struct front front;
    struct ledger *ledger;
    uint64_t seed, digest;
    bool on_network;
    int steps, done, inside, closes, pools, impossible;
    struct step next;
    ev_timer timer;
    struct ledger_entry *recent[RECENT];
    int recent_count;
    struct asked_lease *acquires;
    int acquires_made, acquires_open, pages_made, pages_open, pages;
    evpq_lease *leases[LEASES];
    struct walker walkers[PAGERS];
    double close_due, close_longest; /* the bound of a close, and how near it came */
    uint32_t cancel_timeout_ms;
    ev_timer heal;
    uint64_t traces;
};
extern struct walk walk;

/* The next number of a step. */
unsigned roll(struct step *step, unsigned below);
struct step step_of(uint64_t seed, int number);
uint64_t digest_of(uint64_t digest, const struct step *step);

/* The step that is next; fault_random.c has it. */
void walk_step(void);
/* In each callback of evpq: a step may be waiting for that. */
void walk_inside(void);
void look_for_secret(const char *text);

/* A statement on the pool, or in a lease. */
void walk_ask(struct step *step, evpq_lease *lease);
void walk_acquire(struct step *step);
void walk_release(int i);
void walk_page(struct step *step);
void walk_page_close(struct walker *walker);

#endif /* EVPQ_TESTS_FAULT_WALK_H */
