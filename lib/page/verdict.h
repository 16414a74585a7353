/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_VERDICT_H
#define EVPQ_LIB_PAGE_VERDICT_H

/* Is an order total, and does an index serve it? What the server is asked, and what its answer
 * means. Pure: text in, text out. */

#include "base/error.h"
#include "page/keyset.h"

/*
 * A statement of one row, to be given to evpq__free(); NULL without memory. Its parameters: the
 * plan of a page as EXPLAIN (FORMAT JSON, VERBOSE) writes it, text, or NULL; and of the keys five
 * arrays: type, table and column as the server describes a result (bigint; 0: no column of a
 * table), collation (text, quoted; "": not known), and the SQL of its value.
 */
char *evpq__verdict_sql(void);

/* The columns of that row. */
enum {
    EVPQ__VERDICT_WHY,       /* text: EVPQ__VERDICT_TOTAL, or why the order is not proven total */
    EVPQ__VERDICT_OF,        /* text: of what, or NULL */
    EVPQ__VERDICT_SORTS,     /* boolean: the plan sorts */
    EVPQ__VERDICT_COMPOSITE, /* text: a digit for each key, 1: it is of a composite type */
    /* boolean: a total order is total for any parameters. The plan of others may have less in it,
     * where they make a condition false, or another partition; it has no other tables. */
    EVPQ__VERDICT_ALWAYS,
    EVPQ__VERDICT_FOREIGN,   /* text: a type that a page would not compare as ORDER BY does, or NULL
                              */
    EVPQ__VERDICT_MOVES,     /* text: what changes the values of a key from page to page, or NULL */
    EVPQ__VERDICT_INDEXABLE, /* boolean: an index can have all expressions of the order */
    EVPQ__VERDICT_COLLATIONS, /* text: of the keys, `"schema"."name"` or nothing, with commas */
    EVPQ__VERDICT_NOT_NULL,   /* text: a digit for each key, 1: it is never NULL */
    EVPQ__VERDICT_COLUMNS
};

#define EVPQ__VERDICT_TOTAL "total"

/* Sets the error of an order that is not proven total. */
void evpq__verdict_set_partial(struct evpq_error *err, const char *why, const char *of);
/* Sets the error of a key that a page would not compare as ORDER BY does. */
void evpq__verdict_set_foreign(struct evpq_error *err, const char *type);
/* Sets the error of a key whose values the server gives and does not take. */
void evpq__verdict_set_record(struct evpq_error *err);
/* Sets the error of a key whose values change from page to page. */
void evpq__verdict_set_moves(struct evpq_error *err, const char *what);
/* Sets the error of an order that no index serves. */
void evpq__verdict_set_sorts(struct evpq_error *err, const struct evpq__keyset *keyset,
                             bool indexable);

#endif /* EVPQ_LIB_PAGE_VERDICT_H */
