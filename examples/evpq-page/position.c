/* SPDX-License-Identifier: MIT */
#include "position.h"

#include <inttypes.h>
#include <stdio.h>

void position_move(struct position *position, enum move move, bool resumed, const evpq_page *page)
{
    uint32_t rows = evpq_page_rows(page), left = position->rows;
    position->rows = rows;
    position->has_next = evpq_page_has_next(page);
    position->has_prev = evpq_page_has_prev(page);
    switch (move) {
    case MOVE_NEXT:
        position->page++;
        position->before += left;
        if (resumed)
            position->anchor = ANCHOR_TOKEN;
        break;
    case MOVE_PREV:
        position->page--;
        position->before -= position->before < rows ? position->before : rows;
        if (resumed)
            position->anchor = ANCHOR_TOKEN;
        break;
    case MOVE_LAST:
        position->anchor = ANCHOR_END;
        position->page = 0;
        break;
    case MOVE_FIRST:
        break;
    }
    /* Here it is known, wherever we come from. */
    if (move == MOVE_FIRST || !position->has_prev) {
        position->anchor = ANCHOR_START;
        position->page = 1;
        position->before = 0;
    }
}

void position_words(const struct position *position, uint64_t first, uint64_t last,
                    const char *total, char *out, size_t size)
{
    char page[64], rows[64] = "";
    if (position->anchor == ANCHOR_START)
        snprintf(page, sizeof page, "page %" PRId64, position->page);
    else if (position->anchor == ANCHOR_TOKEN)
        snprintf(page, sizeof page, "page %+" PRId64 " from the token", position->page);
    else if (position->page == 0)
        snprintf(page, sizeof page, "last page");
    else
        snprintf(page, sizeof page, "page %+" PRId64 " from the last", position->page);

    if (position->anchor == ANCHOR_START && first <= last)
        snprintf(rows, sizeof rows, ", rows %" PRIu64 "-%" PRIu64, position->before + first + 1,
                 position->before + last + 1);
    else if (first <= last && last - first + 1 < position->rows)
        snprintf(rows, sizeof rows, ", rows %" PRIu64 "-%" PRIu64 " of the page", first + 1,
                 last + 1);
    snprintf(out, size, "%s%s%s%s%s", page, rows, *total ? " of " : "", total,
             position->has_next ? " (more)" : " (end)");
}
