/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_CURSOR_H
#define EVPQ_LIB_PAGE_CURSOR_H

/* The SQL cursor of a walk: opened by its first page, over with its first error. */

#include "page/keyset.h"
#include "pool/pool.h"

struct evpq__cursor;

enum { EVPQ__CURSOR_LAST = -1 }; /* an offset: the rows that are the last */

/* NULL without memory. Nothing is sent before the first pull. What it is given must stay until it
 * is closed. */
struct evpq__cursor *evpq__cursor_new(struct evpq_pool *pool, const struct evpq__paged *paged,
                                      const struct evpq__keyset *keyset, const evpq_value *params,
                                      evpq_format format, int64_t deadline_us);
/* It gives its connection back. A pull on its way ends with EVPQ_ECLOSED. NULL is allowed. */
void evpq__cursor_close(struct evpq__cursor *cursor);

/* It is over: its connection goes back to the pool. */
void evpq__cursor_end(struct evpq__cursor *cursor);
/* Is it? Because a pull has failed, the deadline has passed, or the pool was closed. */
bool evpq__cursor_over(const struct evpq__cursor *cursor);

/*
 * Fetches `rows` rows and one more behind the first `offset`, as an operation; one at a time. Its
 * result comes as that of a query. Any failure ends the cursor.
 */
int evpq__cursor_pull(evpq_op **out, struct evpq__cursor *cursor, int64_t offset, uint32_t rows,
                      uint32_t timeout_ms, evpq_result_fn *on_result, void *user);

/* Rows in front of the last pull's: what EVPQ__CURSOR_LAST turned out to be. */
int64_t evpq__cursor_offset(const struct evpq__cursor *cursor);

#endif /* EVPQ_LIB_PAGE_CURSOR_H */
