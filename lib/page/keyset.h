/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_KEYSET_H
#define EVPQ_LIB_PAGE_KEYSET_H

/* The order of a walk, and the SQL of its pages. Pure: text in, text out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EVPQ__KEYS_MAX = 8,
    EVPQ__NAME_MAX = 63, /* bytes of an identifier, NAMEDATALEN - 1 */
};

struct evpq__key {
    char name[EVPQ__NAME_MAX + 1];
    bool descending, nulls_first;
};

struct evpq__keyset {
    size_t count; /* 0: there is no order, pages are by offset */
    struct evpq__key keys[EVPQ__KEYS_MAX];
};

/* Reads an order_by. NULL when nothing is wrong; else a static text. */
const char *evpq__keyset_parse(struct evpq__keyset *out, const char *order_by);

/* What comes first in the statement of a page: the user's statement follows. */
#define EVPQ__PAGE_HEAD "SELECT * FROM (\n"

/* The length of a statement without the white space and semicolons at its end. */
size_t evpq__statement_length(const char *sql);

/* A statement whose pages are wanted. */
struct evpq__paged {
    const char *sql;
    size_t sql_length;
    size_t params_count; /* its own; those of a page are numbered behind them */
    uint32_t rows;       /* the LIMIT */
};

/*
 * The statement of one keyset page, to be given to evpq__free(); NULL without memory.
 * Without `nulls` it is the first page. Else it is the page behind a boundary, `nulls` telling
 * which of its values are NULL; those that are not are the parameters, in order.
 */
char *evpq__keyset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const bool *nulls);

/* The statement of one offset page, likewise; the offset is its parameter, a bigint. */
char *evpq__offset_sql(const struct evpq__paged *paged);

#endif /* EVPQ_LIB_PAGE_KEYSET_H */
