/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_FAILURE_H
#define EVPQ_LIB_PAGE_FAILURE_H

/* What went wrong with a statement around the user's, told as if it had been theirs. Pure. */

#include "base/error.h"
#include "page/keyset.h"

/* No position of theirs: there are copies of the statement, or none. */
#define EVPQ__NO_HEAD SIZE_MAX

/*
 * Copies `from`, unless `to` has an error already. `head`: the characters in front of the user's
 * statement, as evpq__page_head() counts them.
 */
void evpq__failure_take(struct evpq_error *to, const struct evpq_error *from,
                        const struct evpq__paged *paged, size_t head);

/* Does it say that something is not there, or not of this type? Of a statement whose order was
 * proven that means a change. */
bool evpq__failure_is_change(const struct evpq_error *err);
/* Adds that to an error. */
void evpq__failure_tell_change(struct evpq_error *err);

/* Names the deadline that was set, `whose` "" or "walk's ", where the error names what a step of it
 * had left. */
void evpq__failure_name_deadline(struct evpq_error *err, const char *whose, uint32_t timeout_ms);

#endif /* EVPQ_LIB_PAGE_FAILURE_H */
