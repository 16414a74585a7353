/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGER_H
#define EVPQ_PAGER_H

/**
 * @file
 * Pagers
 * ======
 *
 * A pager walks over the rows of one statement, a page at a time. Each page is
 * one query with one deadline on whichever connection is free: nothing is held
 * between pages, and a page at any depth costs what the first one costs.
 *
 * With order_by the pages are *keyset* pages: the next page starts behind the
 * last row of the one before, the previous one before its first row. The order
 * is that of output columns of the statement, or of expressions over them, each
 * with a COLLATE if need be, ASC or DESC, NULLS FIRST or LAST. Together they must
 * be unique: two rows equal in all of them cannot be told apart. Where a page
 * would end between such rows the pager refuses to go on (EVPQ_EINVALID) rather
 * than lose one. It compares what was sent: of values that are written
 * differently and equal for the server (numeric 1.0 and 1.00) it knows nothing.
 * An index over the order columns makes each page an index range, as long as
 * the server can push the page into the statement: not through DISTINCT, GROUP
 * BY, window or volatile functions, a LIMIT or FOR UPDATE of its own.
 *
 * Without order_by the pages are *offset* pages: for small results and jumps.
 * The server then reads all rows before the page again, and rows that come or
 * go between two pages shift the rest.
 *
 * Each page sees the database as it is at that moment. A token resumes a walk
 * behind a page, or before it, later or in another process. It is bound to the
 * statement, its parameters, its order and its direction, holds the order
 * columns of one row, is not secret, and never an authorisation. With `secrets`
 * it is signed: nobody else can make one.
 */

#include <evpq/pool.h>

EVPQ_BEGIN_DECLS

/** A walk over the pages of one statement. Yours from evpq_pager_open() until evpq_pager_close().
 */
typedef struct evpq_pager evpq_pager;

/** One page; valid until the callback that received it returns. */
typedef struct evpq_page evpq_page;

/** A secret to sign tokens with. */
typedef struct evpq_secret {
    /** Any number, to tell it from others; it stands in the token. */
    uint8_t id;
    /** 16 to 1,024 bytes that nobody else knows. */
    const void *bytes;
    size_t length;
} evpq_secret;

/** How a walk is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_pager_options {
    /** sizeof(evpq_pager_options); EVPQ_PAGER_OPTIONS() sets it. */
    size_t size;
    /** One SELECT (or VALUES, TABLE, WITH). A semicolon at its end is ignored. */
    const char *sql;
    /** What $1, $2, ... of the statement stand for; EVPQ_PARAMS() sets it. */
    const evpq_value *params;
    /** At most 65,519: a page adds some of its own. */
    size_t params_count;
    /**
     * "ts DESC, id", "lower(name) COLLATE \"C\" NULLS FIRST": 1 to 8 output columns of the
     * statement or expressions over them. Columns are quoted. Of an expression each token is looked
     * at, and anything that could end it early is refused; one that begins with two words ("a IS
     * NULL") goes in parentheses. NULL: offset pages.
     */
    const char *order_by;
    /** Rows of a page. Default 100; at most 10,000. */
    uint32_t page_size;
    /** Of each page, from the call to the callback. Default: the pool's query_timeout_ms. */
    uint32_t timeout_ms;
    /** Of the values. Default: text. */
    evpq_format format;
    /** A token to resume behind, of evpq_page_token(). NULL: from the start. */
    const char *after;
    /** A token to resume before, of evpq_page_token_before(): for evpq_pager_prev(). Not both. */
    const char *before;
    /** "a, b": the columns to hand over; an order column that is not among them is fetched all the
     * same. NULL: all. */
    const char *columns;
    /** From evpq_pager_open() to the last callback; a page's own timeout may be shorter. */
    uint32_t walk_timeout_ms;
    /** Seconds until a token expires. 0: never. */
    uint32_t token_ttl_s;
    /** The first signs tokens, each of them verifies: put a new one in front to rotate. Copied.
     * Tokens that are not signed are refused then. */
    const evpq_secret *secrets;
    /** At most 16. */
    size_t secrets_count;
} evpq_pager_options;

/** Options in place: EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM t", .order_by = "id"). C only. */
#define EVPQ_PAGER_OPTIONS(...)                                                                    \
    (&(const evpq_pager_options){.size = sizeof(evpq_pager_options), __VA_ARGS__})

/** A page (err == NULL), or why there is none (page == NULL). Runs once, from the loop. */
typedef void evpq_page_fn(evpq_page *page, const evpq_error *err, void *user);

/**
 * Say what is wrong with options: the reason why evpq_pager_open() answers EVPQ_EINVALID.
 *
 * @return NULL when nothing is wrong; else a static text. For a token of any defect:
 * EVPQ_TOKEN_PROBLEM
 */
EVPQ_API const char *evpq_pager_options_problem(const evpq_pager_options *options);

/** What evpq_pager_options_problem() returns for a token that is broken or of another walk. */
#define EVPQ_TOKEN_PROBLEM "the token is not valid for this statement, its parameters and its order"

/**
 * Open a pager. Nothing is sent before the first page is asked for.
 *
 * @param[out] out      the pager; yours until evpq_pager_close()
 * @param      pool     where the pages come from
 * @param      options  must name at least sql
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_pager_options_problem()); EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_open(evpq_pager **out, evpq_pool *pool,
                                             const evpq_pager_options *options);

/**
 * Fetch the next page.
 *
 * One page at a time. After a failed page the pager stands where it stood: call again to go on.
 * Behind the last page it returns an empty page, or the rows that have come since.
 *
 * @param[out] out      a handle to cancel with; may be NULL
 * @param      pager    the pager
 * @param      on_page  runs once, from the loop, unless this call fails
 * @param      user     passed to on_page as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID when a page is on its way; EVPQ_ETIMEOUT when walk_timeout_ms has
 * passed; EVPQ_ENOMEM; EVPQ_ECLOSED; EVPQ_EOVERLOADED. What evpq_pool_query() gives on_result
 * reaches on_page; EVPQ_EINVALID there: the pages cannot be exact (an order column that is not
 * there, or rows that are equal in all order columns), the message says why.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_next(evpq_op **out, evpq_pager *pager,
                                             evpq_page_fn *on_page, void *user);

/**
 * Fetch the page before the current one; the rows come in the order of the walk. The same as
 * evpq_pager_next() in everything else. Before the first page it returns an empty one.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_prev(evpq_op **out, evpq_pager *pager,
                                             evpq_page_fn *on_page, void *user);
/** Fetch the first page, wherever the pager stands. */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_first(evpq_op **out, evpq_pager *pager,
                                              evpq_page_fn *on_page, void *user);
/** Fetch the last page: the last page_size rows. EVPQ_EINVALID for offset pages. */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_last(evpq_op **out, evpq_pager *pager,
                                             evpq_page_fn *on_page, void *user);

/**
 * The token that resumes behind the last good page; also after a page that failed.
 *
 * @return valid until the next page comes or the pager is closed. NULL before the first row of a
 * walk from the start; when the order columns of the row are too long for a token, which has at
 * most 4,096 characters; and without memory. The walk itself goes on
 */
EVPQ_API const char *evpq_pager_token(const evpq_pager *pager);

/** The token that resumes before the last good page. Likewise. */
EVPQ_API const char *evpq_pager_token_before(const evpq_pager *pager);

/** True for keyset pages, false for offset pages. */
EVPQ_API bool evpq_pager_is_keyset(const evpq_pager *pager);

/**
 * Close a pager. A page on its way is cancelled and calls back with EVPQ_ECLOSED. Returns at once;
 * may be called from on_page, and before or after the pool is closed. NULL is allowed.
 */
EVPQ_API void evpq_pager_close(evpq_pager *pager);

/*
 * Of a page that did not come (NULL) these say that there is nothing: NULL, 0, false.
 */

/** The rows of a page, at most page_size. May be kept with evpq_result_keep(). Of the raw PGresult
 * know: it has more rows and columns, and those of a page backward are in reverse. */
EVPQ_API evpq_result *evpq_page_result(const evpq_page *page);
/** How many rows the page has. */
EVPQ_API uint32_t evpq_page_rows(const evpq_page *page);
/** True when there was a row behind this page; of a page backward: when it did not begin at the
 * end. */
EVPQ_API bool evpq_page_has_next(const evpq_page *page);
/** True when there was a row before this page; of a page forward: when it did not begin at the
 * start. */
EVPQ_API bool evpq_page_has_prev(const evpq_page *page);
/** The token that resumes behind this page; valid as long as the page. NULL as for
 * evpq_pager_token(). */
EVPQ_API const char *evpq_page_token(const evpq_page *page);
/** The token that resumes before this page, for `before`. Likewise. */
EVPQ_API const char *evpq_page_token_before(const evpq_page *page);

EVPQ_END_DECLS

#endif /* EVPQ_PAGER_H */
