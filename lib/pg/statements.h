/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_STATEMENTS_H
#define EVPQ_LIB_PG_STATEMENTS_H

/*
 * The statements of a pool, each once: a text and the types of its parameters,
 * which queries and what connections keep prepared refer to. As long as somebody
 * does, it stays; of the others the last used are kept, for whoever comes again.
 */

#include "base/hash.h"
#include "base/list.h"
#include "pg/statement.h"

struct evpq__statement {
    const char *sql;
    size_t sql_length;
    const uint32_t *types; /* Oid */
    int count;             /* of them */
    enum evpq__statement_kind kind;
    uint64_t hash; /* of the types and the text */
    bool slow;     /* it took long the last time: nobody should share a connection with it */

    /* statements.c */
    unsigned refs;
    size_t size; /* of all this */
    struct evpq__statements *all;
    struct evpq__node node; /* of all->unused */
    UT_hash_handle hh;      /* hh.tbl is NULL: another one has its hash, and this is not kept */
};

struct evpq__statements {
    struct evpq__statement *table;
    struct evpq__statement *last; /* that was asked for, or NULL */
    struct evpq__list unused;     /* nobody refers to them; the last used first */
    size_t unused_count, unused_bytes;
    size_t max_count, max_bytes; /* of those */
};

void evpq__statements_init(struct evpq__statements *all, size_t max_count, size_t max_bytes);
/* Nobody refers to any of them. */
void evpq__statements_done(struct evpq__statements *all);

/* The statement of a query, which is complete; with a reference for the caller. NULL without
 * memory. */
struct evpq__statement *evpq__statements_get(struct evpq__statements *all, const evpq_query *query);

void evpq__statement_ref(struct evpq__statement *statement);
/* NULL does nothing. */
void evpq__statement_unref(struct evpq__statement *statement);

/* Two that say the same. */
bool evpq__statement_same(const struct evpq__statement *a, const struct evpq__statement *b);
/* It has run, for so long. */
void evpq__statement_ran(struct evpq__statement *statement, int64_t ran_us);

#endif /* EVPQ_LIB_PG_STATEMENTS_H */
