/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_VIEW_H
#define EVPQ_PAGE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <evpq/result.h>

#include "output.h"

/*
 * One page on a terminal: the names of the columns and the rule below them stay
 * at the top, as many rows as fit are between them and the status line, which is
 * the last one. Zeroed it shows nothing.
 */
struct view {
    evpq_result *rows; /* kept */
    char *text;        /* the table as output_table() writes it; allocated */
    char **lines;      /* of text: two of the header, then the rows; allocated */
    size_t line_count;
    size_t top;    /* the first row that is seen */
    uint32_t skip; /* columns left out at the left */
    const char *null;
    bool color;
};

/* Rows of a page that just fits. */
uint32_t view_room(void);

/* Takes another page: from its first row, or its last. False without memory: the old one stays. */
bool view_set(struct view *view, evpq_result *rows, bool from_the_end);
/* For the terminal as it is now. */
bool view_render(struct view *view);
/* True when all of it is seen. */
bool view_fits(const struct view *view);
/* So many rows; false when it is at its end already. */
bool view_scroll(struct view *view, int64_t rows);
bool view_shift(struct view *view, int columns);
/* The rows that are seen, from 0; false when there are none. */
bool view_rows(const struct view *view, uint64_t *first, uint64_t *last);

/* Draws everything: the page, or these lines (the last is NULL) in its place; then the status: at
 * its left, and the first of `rights` (the last is NULL) that there is room for. */
void view_draw(const struct view *view, const char *const *instead, const char *left,
               const char *const *rights);
/* The status line alone. */
void view_draw_status(const char *left, const char *const *rights);
void view_done(struct view *view);

#endif /* EVPQ_PAGE_VIEW_H */
