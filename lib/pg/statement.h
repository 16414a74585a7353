/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_STATEMENT_H
#define EVPQ_LIB_PG_STATEMENT_H

/* One statement, copied and encoded, ready for libpq. */

#include <evpq/query.h>

#include "pg/value.h"

struct evpq__statement {
    const char *sql;
    size_t sql_length;
    struct evpq__params params;
    bool binary_result;
};

/* Completes a query, as a program of another version may have filled it: its problem, or NULL. */
const char *evpq__query_read(evpq_query *out, const evpq_query *query);

/* Bytes that evpq__statement_write() needs. The query is complete. */
size_t evpq__statement_size(const evpq_query *query);
/* Copies into `block`, aligned as malloc() aligns; the statement points into it. */
void evpq__statement_write(struct evpq__statement *out, void *block, const evpq_query *query);

/* Is it BEGIN or START TRANSACTION? Those may have to be the first of their transaction. */
bool evpq__statement_begins(const struct evpq__statement *statement);
/* Does it begin or end a transaction, or a part of one, or speak another protocol (COPY)? Then no
 * other statement may be in flight with it. */
bool evpq__statement_needs_own(const struct evpq__statement *statement);
/* Is it COMMIT or END? */
bool evpq__statement_commits(const struct evpq__statement *statement);

/*
 * Reads an options struct, whose first field is its size, as a program of
 * another version may have filled it. What it lacks is zero in `into`, which
 * has `known` bytes; `from` == NULL is all zero. What evpq does not know must
 * be zero. Returns what is wrong, a static text, and then `into` is all zero;
 * NULL when nothing is.
 */
const char *evpq__options_read(void *into, size_t known, const void *from);

static inline bool evpq__switch_valid(evpq_switch choice)
{
    return choice >= EVPQ_DEFAULT && choice <= EVPQ_OFF;
}

#endif /* EVPQ_LIB_PG_STATEMENT_H */
