/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_WHEEL_H
#define EVPQ_LIB_BASE_WHEEL_H

/*
 * Deadlines, many of which are taken back before they come: a hierarchical
 * timing wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels",
 * 1987, scheme 7). Adding one and taking it back cost the same however many
 * there are. It has no clock: time is what it is told, in ticks.
 *
 * Level n has 64 slots of 64^n ticks. A deadline is on the level of the highest
 * digit (of base 64) in which it differs from now, so that each level holds
 * what comes after all of the level below it. All together they tell 64^8 ticks:
 * with ticks of a millisecond, 8,900 years.
 */

#include <stdint.h>

#include "base/list.h"

enum { EVPQ__WHEEL_LEVELS = 8, EVPQ__WHEEL_SLOTS = 64 };

#define EVPQ__WHEEL_NEVER INT64_MAX

struct evpq__wheel {
    int64_t now;
    uint64_t occupied[EVPQ__WHEEL_LEVELS]; /* a bit for each slot; set: it may have somebody */
    struct evpq__list slots[EVPQ__WHEEL_LEVELS][EVPQ__WHEEL_SLOTS];
    struct evpq__list opened; /* of a slot that has come, what is not sorted yet */
    struct evpq__list due;
};

struct evpq__wheel_node {
    struct evpq__node node; /* taken back by evpq__node_unlink() */
    int64_t at;
};

void evpq__wheel_init(struct evpq__wheel *wheel, int64_t now);
/* Joins; `due` follows when it is `at`, or the next tick when that has passed. Returns when the
 * wheel has to be told the time for it, which may be earlier. */
int64_t evpq__wheel_add(struct evpq__wheel *wheel, struct evpq__wheel_node *node, int64_t at);
/* It is `now`: what has come is on `due`, in the order of its ticks; or a part of it, when there is
 * very much, and evpq__wheel_next() is in the past. */
void evpq__wheel_advance(struct evpq__wheel *wheel, int64_t now);
/* When it has to be told the time next; EVPQ__WHEEL_NEVER: it is empty. */
int64_t evpq__wheel_next(const struct evpq__wheel *wheel);

#endif /* EVPQ_LIB_BASE_WHEEL_H */
