/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_SHAPE_H
#define EVPQ_PAGE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "output.h"

/* The columns of a walk, as a hash of their names and types: a table may be altered between two
 * pages. */
struct shape {
    bool known;
    uint64_t hash;
};

/* False when a page has other columns than the first one, and the output has told those already.
 * Tells of the first page what readers of the output cannot tell apart. */
bool shape_keep(struct shape *shape, const evpq_result *page, output_fn *output);

#endif /* EVPQ_PAGE_SHAPE_H */
