/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_STATEMENT_H
#define EVPQ_LIB_PG_STATEMENT_H

/* A query as it was given, and what its text tells. */

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

/* Completes a query, as a program of another version may have filled it: its problem, or NULL. */
const char *evpq__query_read(evpq_query *out, const evpq_query *query);

/* What its result comes in. */
static inline bool evpq__query_binary(const evpq_query *query)
{
    return query->format != EVPQ_TEXT;
}

/* All but the ordinary have a connection to themselves while they are in flight. */
enum evpq__statement_kind evpq__statement_kind_of(const char *sql);

#endif /* EVPQ_LIB_PG_STATEMENT_H */
