/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_POSITION_H
#define EVPQ_PAGE_POSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <evpq/evpq.h>

/* How to come to another page. */
enum move { MOVE_NEXT, MOVE_PREV, MOVE_FIRST, MOVE_LAST };

/* What the number of a page counts from. */
enum anchor {
    ANCHOR_START, /* page 1 is the first of all rows, `before` rows are before this one */
    ANCHOR_END,   /* page 0 is the last */
    ANCHOR_TOKEN, /* page 1 is behind the token we began with */
};

/* Which page is shown, as far as it can be known without counting. */
struct position {
    enum anchor anchor;
    int64_t page;
    uint64_t before;
    uint32_t rows; /* of the page */
    bool has_next, has_prev;
};

/* A page has come by a move; `resumed`: it is the first one, behind a token. */
void position_move(struct position *position, enum move move, bool resumed, const evpq_page *page);

/* "page 3, rows 41-60 of 100 rows": `first` and `last` are those that are seen, from 0; without any
 * first > last. `total`: of count_words(). */
void position_words(const struct position *position, uint64_t first, uint64_t last,
                    const char *total, char *out, size_t size);

#endif /* EVPQ_PAGE_POSITION_H */
