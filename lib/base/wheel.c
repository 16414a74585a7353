/* SPDX-License-Identifier: MIT */
#include "base/wheel.h"

enum { DIGIT_BITS = 6, DIGIT_MASK = EVPQ__WHEEL_SLOTS - 1 };
/* Nodes that are sorted anew in one call: a slot of a high level may have very many. */
enum { MOVES_MOST = 2048 };

/* The last tick that the levels can tell. */
#define FARTHEST (((int64_t)1 << (DIGIT_BITS * EVPQ__WHEEL_LEVELS)) - 1)

void evpq__wheel_init(struct evpq__wheel *wheel, int64_t now)
{
    wheel->now = now;
    for (int level = 0; level < EVPQ__WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (int slot = 0; slot < EVPQ__WHEEL_SLOTS; slot++)
            evpq__list_init(&wheel->slots[level][slot]);
    }
    evpq__list_init(&wheel->opened);
    evpq__list_init(&wheel->due);
}

/* The first tick of this slot of this level, as seen from now. */
static int64_t slot_start(const struct evpq__wheel *wheel, int level, int slot)
{
    int64_t above = wheel->now >> (DIGIT_BITS * (level + 1)) << (DIGIT_BITS * (level + 1));
    return above | (int64_t)slot << (DIGIT_BITS * level);
}

static int64_t put(struct evpq__wheel *wheel, struct evpq__wheel_node *node)
{
    int64_t at = node->at > wheel->now ? node->at : wheel->now + 1;
    if (at > FARTHEST)
        at = FARTHEST;
    uint64_t differs = (uint64_t)(at ^ wheel->now) | 1;
    int level = (63 - __builtin_clzll(differs)) / DIGIT_BITS;
    int slot = (int)(at >> (DIGIT_BITS * level)) & DIGIT_MASK;
    wheel->occupied[level] |= (uint64_t)1 << slot;
    evpq__list_push_back(&wheel->slots[level][slot], &node->node);
    return slot_start(wheel, level, slot);
}

int64_t evpq__wheel_add(struct evpq__wheel *wheel, struct evpq__wheel_node *node, int64_t at)
{
    node->at = at;
    return put(wheel, node);
}

/* The level and slot that come next; false: none. */
static bool find_next(const struct evpq__wheel *wheel, int *level, int *slot)
{
    for (*level = 0; *level < EVPQ__WHEEL_LEVELS; ++*level) {
        if (wheel->occupied[*level] == 0)
            continue;
        *slot = __builtin_ctzll(wheel->occupied[*level]);
        return true;
    }
    return false;
}

int64_t evpq__wheel_next(const struct evpq__wheel *wheel)
{
    int level, slot;
    if (!evpq__list_empty(&wheel->opened))
        return wheel->now;
    return find_next(wheel, &level, &slot) ? slot_start(wheel, level, slot) : EVPQ__WHEEL_NEVER;
}

/* To `due`, or to a lower level. False: it was too much for this call. */
static bool sort_opened(struct evpq__wheel *wheel, int *moves)
{
    struct evpq__node *node;
    for (; *moves > 0 && (node = evpq__list_pop_front(&wheel->opened)); --*moves) {
        struct evpq__wheel_node *it = evpq__container_of(node, struct evpq__wheel_node, node);
        if (it->at <= wheel->now)
            evpq__list_push_back(&wheel->due, node);
        else
            put(wheel, it);
    }
    return evpq__list_empty(&wheel->opened);
}

void evpq__wheel_advance(struct evpq__wheel *wheel, int64_t now)
{
    int level, slot, moves = MOVES_MOST;
    while (sort_opened(wheel, &moves) && find_next(wheel, &level, &slot)) {
        int64_t start = slot_start(wheel, level, slot);
        if (start > now)
            break;
        wheel->now = start;
        wheel->occupied[level] &= ~((uint64_t)1 << slot);
        evpq__list_take(&wheel->opened, &wheel->slots[level][slot]);
    }
    if (wheel->now < now && evpq__list_empty(&wheel->opened))
        wheel->now = now;
}
