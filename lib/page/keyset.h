/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_KEYSET_H
#define EVPQ_LIB_PAGE_KEYSET_H

/* The SQL of the pages of a walk. Pure: text in, text out. */

#include "page/order.h"

/* A statement whose pages are wanted. */
struct evpq__paged {
    const char *sql;
    size_t sql_length;
    const char *columns; /* to be handed over, quoted; "" for all */
    size_t params_count; /* its own; those of a page are numbered behind them */
    uint32_t rows;       /* the LIMIT */
};

/* Where a page begins, and which way it goes from there. */
struct evpq__cut {
    bool backward;     /* then its rows come in reverse */
    bool inclusive;    /* the boundary itself belongs to it */
    const bool *rows;  /* which keys may be of a composite type; NULL: none */
    const bool *nulls; /* which values of the boundary are NULL; NULL: there is none, it begins at
                          the start of the walk, or at its end */
    /* Of a page forward: its rows are not behind this second boundary, which comes after the first
     * one. until_nulls == NULL: there is none. */
    const bool *until_nulls, *until_rows;
    size_t until_shared; /* leading keys with the same bytes in both boundaries, or NULL in both:
                            none need be told, but then a page may read rows in vain */
};

/*
 * The statement of one keyset page, to be given to evpq__free(); NULL without memory.
 * The values of the boundary that are not NULL are the parameters, in order; then those of the
 * second one, likewise. Hidden keys are the last columns, in order.
 */
char *evpq__keyset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const struct evpq__cut *cut);

/* The keys of paged->rows rows picked by chance from all that are in the cut, which is forward, in
 * order; likewise. They are its columns, in order. */
char *evpq__sample_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const struct evpq__cut *cut);

/* The statement of one offset page, likewise. There may be no key. The offset is written out: as a
 * parameter it would fill in one that the user has forgotten. */
char *evpq__offset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       size_t offset);

/* All rows of the statement in the order, which may have no key, behind `declare`; likewise. */
char *evpq__cursor_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const char *declare);

/* Characters in front of the user's statement in that of a page that has no boundary. */
size_t evpq__page_head(const struct evpq__paged *paged, const struct evpq__keyset *keyset);

#endif /* EVPQ_LIB_PAGE_KEYSET_H */
