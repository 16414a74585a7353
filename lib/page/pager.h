/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_PAGER_H
#define EVPQ_LIB_PAGE_PAGER_H

/* The pager as its own files see it. */

#include "page/options.h"
#include "pg/result.h"
#include "pool/pool.h"

/* A place between two rows. */
struct place {
    struct evpq__position position; /* its keys are owned */
    char *token;                    /* NULL until it is asked for */
};

struct evpq_page {
    const struct evpq_pager *pager;
    struct evpq_result *result;
    bool has_next, has_prev;
};

/* How the page on its way was asked for. */
struct ask {
    bool backward, inclusive;
    const struct place *from; /* NULL: from the start, or the end */
    int64_t offset;           /* of an offset page */
    uint32_t rows;            /* to show at most */
};

struct evpq_pager {
    unsigned refs;
    bool closed;
    struct evpq_pool *pool;
    char *sql, *columns;
    struct evpq__paged paged;
    struct evpq__keyset keyset;
    struct evpq__walk walk;
    evpq_secret *secrets; /* with their bytes behind them; wiped at the end */
    size_t secrets_size;
    evpq_value *params; /* of the statement; then room for those of a page */
    uint32_t page_size;
    uint32_t timeout_ms;
    int64_t deadline_us; /* of the walk */
    evpq_format format;

    struct place *before, *behind; /* NULL: not known, or the start of the walk */
    struct ask ask;
    struct evpq_op *op; /* the page on its way, or NULL */
    evpq_page_fn *on_page;
    void *user;
    struct evpq_page page; /* while on_page runs */
};

#endif /* EVPQ_LIB_PAGE_PAGER_H */
