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
 * with a COLLATE if need be, ASC or DESC, NULLS FIRST or LAST. An index over the
 * order columns makes each page an index range, as long as the server can push
 * the page into the statement: not through DISTINCT, GROUP BY, window or
 * volatile functions, or a LIMIT of its own. Where the order columns are NOT NULL
 * in their tables and of one direction, a page is one range, as a comparison of
 * rows; else one range for each place where a NULL or a direction parts it.
 *
 * The order must be total: two rows equal in all order columns cannot be told
 * apart, and one of them could be lost between two pages. Before the first page
 * the pager proves that from the server's catalogs: the order columns hold a
 * unique, not-null key of the one table that the statement reads, filtered or
 * not, directly or through views. What it cannot prove, a join for example, it
 * refuses with EVPQ_EINVALID and a hint, unless assume_unique says that you
 * know. Then a page that would end between two rows whose order columns were
 * sent as the same bytes is refused still.
 *
 * What was proven holds for the walk, and for others in the pool for a minute: a
 * table that is altered meanwhile so that NULLs or equal rows come into its order
 * columns may then be paged over without them.
 *
 * A row must keep its place: an order with random() or now() in it has other
 * values on each page, and is refused, as is any volatile function; declare one
 * of yours that keeps its results as STABLE or IMMUTABLE. Columns of tables
 * keep their values, whatever else the statement calls; beside an expression no
 * column of the statement may be made with such a function. What cannot be seen is
 * rows of VALUES, and what a stable function asks of the clock inside.
 *
 * Without order_by the pages are *offset* pages: for small results and jumps.
 * The server then reads all rows before the page again, and rows that come or
 * go between two pages shift the rest.
 *
 * Each page sees the database as it is at that moment. A token resumes a walk
 * behind a page, or before it, later or in another process. It is bound to the
 * statement, its parameters, its order and its direction, and to the types and
 * collations of its order columns, holds the order columns of one row, is not
 * secret, and never an authorisation. With `secrets`
 * it is signed: nobody else can make one.
 *
 * *Cursor* pages all see one moment: the pager holds a connection with a
 * transaction of its own from the first page to the last callback, at most for
 * walk_timeout_ms. The server cannot clean up behind it for so long.
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

/** How pages are made. */
typedef enum evpq_page_mode {
    EVPQ_PAGES_DEFAULT = 0, /**< keyset pages with order_by, offset pages without */
    EVPQ_PAGES_KEYSET = 1,  /**< from row to row, at any depth for the same price */
    EVPQ_PAGES_OFFSET = 2,  /**< by number of rows; order_by may be given, and need not be unique */
    /** A SQL cursor in a transaction of its own, read-only and repeatable read: all pages see one
     * moment. Any order, or none. No tokens. When a page fails, the walk is over. A statement whose
     * plan cannot run backward is kept by the server as far as it was read, on disk if need be. */
    EVPQ_PAGES_CURSOR = 3,
} evpq_page_mode;

/** How a walk is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_pager_options {
    /** sizeof(evpq_pager_options); EVPQ_PAGER_OPTIONS() sets it. */
    size_t size;
    /** One SELECT (or VALUES, TABLE, WITH). A semicolon at its end is ignored. It locks no rows: a
     * page of FOR UPDATE or FOR SHARE would lock all that the server reads for it. */
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
    /** From evpq_pager_open() to the last callback; a page's own timeout may be shorter. Default:
     * none; of cursor pages 1 h. */
    uint32_t walk_timeout_ms;
    /** Seconds until a token expires. 0: never. */
    uint32_t token_ttl_s;
    /** The first signs tokens, each of them verifies: put a new one in front to rotate. Copied.
     * Tokens that are not signed are refused then. */
    const evpq_secret *secrets;
    /** At most 16. */
    size_t secrets_count;
    /** How pages are made. */
    evpq_page_mode mode;
    /** The order is total, as you know and the catalogs cannot tell. They are asked for the rest:
     * that its values stay, and how they are compared. */
    bool assume_unique;
    /** Refuse an order that no index serves (EVPQ_EINVALID in on_page) instead of sorting all rows
     * for each page. For keyset pages. */
    bool require_index;
    /**
     * Fetch the next page, in the direction of the last one, while you work on this one. It leaves
     * for the server when on_page has returned to the loop (so work that blocks belongs into a
     * later turn), is kept until it is wanted, and shows the database as it was then. One page
     * ahead, of at most so many bytes as evpq_pool_options.max_result_bytes counts: a larger one is
     * cut off, and fetched when it is asked for. A page fetched ahead in vain costs no error;
     * evpq_pool_stats counts it as canceled. 0: no page is fetched ahead. Not for cursor pages.
     */
    size_t prefetch_bytes;
    /** A token of evpq_page_token(): the walk ends with the row it stands behind, as if no other
     * came after it. For evpq_pager_next() and evpq_pager_first() of keyset pages only. NULL: to
     * the end. */
    const char *until;
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
 * EVPQ_TOKEN_PROBLEM. That a type or collation has been altered since the token was made is found
 * out before the first page: on_page hears EVPQ_EINVALID then, with this text
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
 * One page at a time. After a failed page the pager stands where it stood: call again to go on
 * (cursor pages: the walk is over). Behind the last page it returns an empty page, or the rows that
 * have come since. The first page asked for may need some more round trips, within the same
 * deadline: to prove the order, where no pager of this pool did it within the last minute; or to
 * begin the transaction of cursor pages.
 *
 * @param[out] out      a handle to cancel with; may be NULL
 * @param      pager    the pager
 * @param      on_page  runs once, from the loop, unless this call fails
 * @param      user     passed to on_page as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID when a page is on its way; EVPQ_ETIMEOUT when walk_timeout_ms has
 * passed; EVPQ_ENOMEM; EVPQ_ECLOSED, also for cursor pages after one has failed; EVPQ_EOVERLOADED.
 * What evpq_pool_query() gives on_result reaches on_page; EVPQ_EINVALID there: the pages cannot be
 * exact (an order column that is not there, an order that may not be total or whose values change,
 * rows that are equal in all order columns) or have no index, the message says why and
 * evpq_error_hint() what to do.
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
/** Fetch the last page: the last page_size rows. EVPQ_EINVALID for offset pages and with `until`.
 */
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

/** The token that resumes before the last good page. Likewise; and NULL when a walk that was
 * resumed behind a token has had no row: evpq_pager_prev() of a pager opened with `after` and that
 * token fetches the rows before. */
EVPQ_API const char *evpq_pager_token_before(const evpq_pager *pager);

/** How its pages are made: never EVPQ_PAGES_DEFAULT, but for NULL. */
EVPQ_API evpq_page_mode evpq_pager_mode(const evpq_pager *pager);

/** Ways to count the rows of a walk. */
typedef enum evpq_count_kind {
    EVPQ_COUNT_EXACT = 1,    /**< all of them: the server reads them all */
    EVPQ_COUNT_BOUNDED = 2,  /**< up to a bound: the server reads that many at most */
    EVPQ_COUNT_ESTIMATE = 3, /**< what the planner expects; costs next to nothing, may be far off */
} evpq_count_kind;

/** How many rows a walk has, and how that is known. */
typedef struct evpq_count {
    evpq_count_kind kind; /**< as it was asked for */
    bool more;            /**< EVPQ_COUNT_BOUNDED: the bound was reached, there are more */
    uint64_t rows;
} evpq_count;

/** A count (err == NULL), or why there is none (count == NULL). Runs once, from the loop. */
typedef void evpq_count_fn(const evpq_count *count, const evpq_error *err, void *user);

/**
 * Count the rows of the statement, from its start to its end, wherever the pager stands.
 *
 * A query of its own, with the timeout of a page, on a connection of the pool; it may run beside a
 * page, and with cursor pages sees another moment.
 *
 * @param[out] out       a handle to cancel with; may be NULL
 * @param      pager     the pager
 * @param      kind      how to count
 * @param      bound     of EVPQ_COUNT_BOUNDED, 1 to 10^12; else 0
 * @param      on_count  runs once, from the loop, unless this call fails; after
 *                       evpq_pager_close() with EVPQ_ECLOSED
 * @param      user      passed to on_count as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_ETIMEOUT when walk_timeout_ms has passed; EVPQ_ENOMEM;
 * EVPQ_ECLOSED; EVPQ_EOVERLOADED
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_count(evpq_op **out, evpq_pager *pager,
                                              evpq_count_kind kind, uint64_t bound,
                                              evpq_count_fn *on_count, void *user);

/** How to explain a page: a sum of these. */
typedef enum evpq_explain_flags {
    EVPQ_EXPLAIN_ANALYZE = 1, /**< run it, and tell what it did */
    EVPQ_EXPLAIN_JSON = 2,    /**< the plan as JSON instead of text */
} evpq_explain_flags;

/** How the server makes a page; valid until the callback returns. */
typedef struct evpq_explanation {
    const char *statement; /**< the SQL of the page; $1, $2, ...: your parameters, then its own */
    const char *plan;      /**< what EXPLAIN says of it, lines with a line feed between them */
} evpq_explanation;

/** An explanation (err == NULL), or why there is none. Runs once, from the loop. */
typedef void evpq_explain_fn(const evpq_explanation *explanation, const evpq_error *err,
                             void *user);

/**
 * Ask the server how it makes the page that evpq_pager_next() would fetch now: the statement and
 * its plan. Before the order is proven, by the first page, that is as if any column may be NULL.
 * Fetches no page, moves nothing. EVPQ_EINVALID for cursor pages. Else as evpq_pager_count().
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pager_explain(evpq_op **out, evpq_pager *pager, unsigned flags,
                                                evpq_explain_fn *on_explained, void *user);

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
