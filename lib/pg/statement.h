/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_STATEMENT_H
#define EVPQ_LIB_PG_STATEMENT_H

/* One statement, copied and encoded, ready for libpq. */

#include <evpq/query.h>

#include "base/options.h"
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

#endif /* EVPQ_LIB_PG_STATEMENT_H */
