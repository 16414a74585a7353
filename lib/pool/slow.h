/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_POOL_SLOW_H
#define EVPQ_LIB_POOL_SLOW_H

/*
 * Which statements took long the last time: nobody should share a connection
 * with one of them, and by the time it shows that it is slow again, others stand
 * behind it. A statement is known by a few bytes of its text; that two are taken
 * for one costs some sharing, and nothing else.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EVPQ__SLOW_PLACES = 64 };

struct evpq__slow {
    uint32_t marks[EVPQ__SLOW_PLACES]; /* 0: nobody's */
};

/* What a statement is known by; never 0. */
uint32_t evpq__slow_mark(const char *sql, size_t length);
bool evpq__slow_is(const struct evpq__slow *slow, uint32_t mark);
/* It has run, for so long. */
void evpq__slow_note(struct evpq__slow *slow, uint32_t mark, int64_t ran_us);

#endif /* EVPQ_LIB_POOL_SLOW_H */
