/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_PAGER_H
#define EVPQ_LIB_PAGE_PAGER_H

/*
 * The pager as its own files see it: pager.c is the walk, fetch.c one page as
 * an operation, page.c what a page brings, aside.c what is asked beside the
 * pages.
 */

#include "page/cursor.h"
#include "page/failure.h"
#include "page/options.h"
#include "page/proof.h"
#include "pg/result.h"
#include "pool/pool.h"

struct evpq_pager;

/* A place between two rows. */
struct evpq__place {
    struct evpq__position position; /* its keys are owned */
    char *token;                    /* NULL until it is asked for */
};

/* NULL without memory. */
struct evpq__place *evpq__place_new(const struct evpq__position *position, size_t columns);
void evpq__place_free(struct evpq__place *place);
/* Next to a row that has the keys in these columns; `offset` is that of row 0. NULL without memory.
 */
struct evpq__place *evpq__place_at(const struct evpq_pager *pager, int64_t offset,
                                   const PGresult *pg, int row, const int *columns, bool before);

struct evpq_page {
    const struct evpq_pager *pager;
    struct evpq_result *result; /* one reference */
    bool has_next, has_prev;
    uint32_t range; /* of a scan */
};

/* Which page is wanted. */
struct evpq__ask {
    bool backward, inclusive;
    bool sample;                    /* no page: the keys of rows by chance, of all behind `from` */
    const struct evpq__place *from; /* NULL: from the start, or the end */
    int64_t offset;                 /* of an offset page */
    uint32_t rows;                  /* to show at most */
};

/* The query of one page: sent for a fetch, or ahead of one. */
struct evpq__pull {
    struct evpq_pager *pager; /* NULL: nobody wants it any more */
    struct evpq__ask ask;
    bool ahead;
    struct evpq_op *op; /* NULL when it has landed: then there is a result, or an error */
    struct evpq_result *result;
    struct evpq_error error;
};

struct evpq__fetch;

struct evpq_pager {
    unsigned refs; /* the user's, until close; one for each operation that has not called back */
    bool closed;
    struct evpq_pool *pool;
    struct evpq_lease *lease; /* NULL: each page takes what connection is free. Not owned */
    evpq_page_mode mode;      /* not the default one */
    char *sql, *columns;
    struct evpq__paged paged;
    struct evpq__keyset keyset;
    struct evpq__walk walk;
    evpq_secret *secrets; /* with their bytes behind them; wiped at the end */
    size_t secrets_size;
    evpq_value *params; /* of the statement; then room for those of a page */
    uint32_t page_size;
    uint32_t timeout_ms;
    uint32_t walk_ms;
    int64_t deadline_us; /* of the walk */
    evpq_format format;
    size_t prefetch_bytes;
    bool assume_unique, require_index;
    bool proven; /* as far as it was asked for: there are facts */
    struct evpq__proof_facts facts;

    struct evpq__place *before, *behind; /* NULL: not known, or the start of the walk */
    struct evpq__place *until;           /* NULL: to the end */
    struct evpq__fetch *fetch;           /* the page on its way, or NULL */
    struct evpq__pull *pull;             /* for the fetch, or ahead of it; or NULL */
    struct evpq__cursor *cursor;         /* of cursor pages; else NULL */
    struct evpq__list asides;
};

/* Keys that a place has: none where pages are by offset. */
static inline size_t evpq__pager_keys(const struct evpq_pager *pager)
{
    return pager->walk.columns;
}

/* pager.c */
void evpq__pager_ref(struct evpq_pager *pager);
void evpq__pager_unref(struct evpq_pager *pager);
/* The time of a query: its own, or what the walk has left. False: that is nothing. */
bool evpq__pager_timeout(const struct evpq_pager *pager, uint32_t *timeout_ms);
/* The time of a query by itself. */
uint32_t evpq__pager_own_timeout(const struct evpq_pager *pager);
/* What was proven of its order; its pages compare by that from now on. */
void evpq__pager_know(struct evpq_pager *pager, const struct evpq__proof_facts *facts);
/* Was the place found by an order that compares like this one? NULL: yes. */
bool evpq__place_fits(const struct evpq__place *place, const struct evpq__proof_facts *facts);
/* Likewise of all places of the pager. */
bool evpq__pager_fits(const struct evpq_pager *pager, const struct evpq__proof_facts *facts);
/* Knows what the pool remembers, if it does and that fits where the pager stands. */
void evpq__pager_recall(struct evpq_pager *pager);
struct evpq__ask evpq__pager_next_ask(const struct evpq_pager *pager);
struct evpq__ask evpq__pager_prev_ask(const struct evpq_pager *pager);
/* The statement of a page, to be given to evpq__free(); NULL without memory. Its parameters are
 * pager->params, *count of them. */
char *evpq__pager_sql(struct evpq_pager *pager, const struct evpq__ask *ask, size_t *count);
/* Characters in it in front of the user's statement; EVPQ__NO_HEAD when that may stand there more
 * than once. */
size_t evpq__pager_head(const struct evpq_pager *pager, const struct evpq__ask *ask);

/* fetch.c */

/* EVPQ_OK, and on_page follows; or as evpq_pager_next(). */
int evpq__fetch_start(evpq_op **out, struct evpq_pager *pager, const struct evpq__ask *ask,
                      evpq_page_fn *on_page, void *user);
/* The page on its way ends with EVPQ_ECLOSED. */
void evpq__fetch_close(struct evpq__fetch *fetch);
/* Forgets what was fetched, or is being fetched. */
void evpq__pull_drop(struct evpq_pager *pager);

/* page.c */

/* Makes *page of a result and moves the pager around it; or sets the error. */
void evpq__page_take(struct evpq_page *page, struct evpq_pager *pager, const struct evpq__ask *ask,
                     struct evpq_result *result, struct evpq_error *err);
/* aside.c */
void evpq__asides_close(struct evpq_pager *pager);

#endif /* EVPQ_LIB_PAGE_PAGER_H */
