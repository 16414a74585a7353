/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_STATEMENT_H
#define EVPQ_LIB_PG_STATEMENT_H

/* One statement, copied and encoded, ready for libpq. */

#include <evpq/query.h>

#include "base/options.h"
#include "pg/value.h"

/* What its first word tells. */
enum evpq__statement_kind {
    EVPQ__ORDINARY,
    EVPQ__BEGINS,  /* BEGIN, START TRANSACTION: those may have to be the first of their transaction
                    */
    EVPQ__COMMITS, /* COMMIT, END */
    EVPQ__OWN,     /* else about a transaction or a part of one; or another protocol (COPY) */
};

struct evpq__statement {
    const char *sql;
    size_t sql_length;
    struct evpq__params params;
    bool binary_result;
    enum evpq__statement_kind kind;
};

/* Completes a query, as a program of another version may have filled it: its problem, or NULL. */
const char *evpq__query_read(evpq_query *out, const evpq_query *query);

/* Bytes that evpq__statement_write() needs. The query is complete. */
size_t evpq__statement_size(const evpq_query *query);
/* Copies into `block`, aligned as malloc() aligns; the statement points into it. */
void evpq__statement_write(struct evpq__statement *out, void *block, const evpq_query *query);

/* All but the ordinary have a connection to themselves while they are in flight. */
enum evpq__statement_kind evpq__statement_kind_of(const char *sql);

#endif /* EVPQ_LIB_PG_STATEMENT_H */
