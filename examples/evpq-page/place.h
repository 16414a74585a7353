/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_PLACE_H
#define EVPQ_PAGE_PLACE_H

#include <evpq/evpq.h>

#include "options.h"

/* Where a walk stands: behind what was written, or before it when it goes backward. */
struct place {
    bool backward;
    bool tokenless; /* cursor pages */
    char token[4096 + 1];
};

void place_begin(struct place *place, const struct options *options, evpq_page_mode mode);
/* A page was written. One without rows moves nothing. */
void place_set(struct place *place, const evpq_page *page);
/* "WHAT with --after TOKEN", on stderr; or why not. `any`: a page was written. */
void place_say(const struct place *place, const char *what, bool any);

#endif /* EVPQ_PAGE_PLACE_H */
