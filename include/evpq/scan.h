/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_SCAN_H
#define EVPQ_SCAN_H

/**
 * @file
 * Parallel scans
 * ==============
 *
 * A scan reads all rows of one statement once, by several workers at a time.
 * All of them see one moment: the first exports its snapshot, the others import
 * it (SET TRANSACTION SNAPSHOT). The rows are cut into ranges of the order, from
 * a sample of its columns, for which the server reads all rows once; each worker
 * takes one range after another and pages through it by keyset, so the order must
 * be total, as a pager's must, and wants an index.
 *
 * The pages come in the order of the rows, or, with `unordered`, as soon as
 * there is one. Workers read ahead of you as far as buffer_bytes allows.
 *
 * Each worker holds a connection of the pool, with a transaction, until the scan
 * is closed or over, at most for walk_timeout_ms. The server cannot clean up
 * behind them for so long.
 *
 * When something fails the scan is over. Each range tells where it stands, as
 * two tokens: another scan resumes all of them, in a snapshot of its own, or a
 * pager one of them (`after` and `until`). A scan in order needs one token only:
 * that of its last page resumes all the rest.
 */

#include <evpq/pager.h>

EVPQ_BEGIN_DECLS

/** A scan. Yours from evpq_scan_open() until evpq_scan_close(). */
typedef struct evpq_scan evpq_scan;

/** A part of the order: the rows behind one token, up to the one that another stands behind. */
typedef struct evpq_scan_range {
    const char *after; /**< NULL: from the start */
    const char *until; /**< NULL: to the end */
} evpq_scan_range;

/** How a scan is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_scan_options {
    /** sizeof(evpq_scan_options); EVPQ_SCAN_OPTIONS() sets it. */
    size_t size;
    /** As in evpq_pager_options. */
    const char *sql;
    const evpq_value *params; /**< likewise */
    size_t params_count;      /**< likewise */
    const char *order_by;     /**< likewise; must be given */
    const char *columns;      /**< likewise */
    evpq_format format;       /**< likewise */
    bool assume_unique;       /**< likewise */
    uint32_t token_ttl_s;     /**< likewise */
    const evpq_secret *secrets;
    size_t secrets_count;
    /** Connections at most, 1 to 64, and not more than the pool's max_size. Default 4, or max_size.
     * When the pool cannot give all of them in time, or one cannot import the snapshot, the scan
     * works with the rest; it waits for the first only. */
    uint32_t workers;
    /** Ranges at most, 1 to 4,096. Default: 16 for each worker, and 64 where pages come in order:
     * there a range should fit into a worker's share of buffer_bytes, or the others wait for the
     * one whose range it is. A small table has fewer: no more than pages. Ranges that are resumed
     * stay as they are, but for a single one. */
    uint32_t ranges;
    /** Rows of a page. Default 1,000; at most 10,000. */
    uint32_t page_size;
    /** Of each page a worker fetches, and of each step before that. One of these is the sample, for
     * which the server reads all rows once. Default: the pool's query_timeout_ms. */
    uint32_t timeout_ms;
    /** From evpq_scan_open() to the last callback. Default 1 h. */
    uint32_t walk_timeout_ms;
    /** Bytes of pages that wait for you, at most, as evpq_pool_options.max_result_bytes counts
     * them; each worker may go over it by the page it fetches. Default 16 MiB. */
    size_t buffer_bytes;
    /** Pages as they come, range by range in no order. Within a range they are in order. */
    bool unordered;
    /** Ranges to resume, of evpq_scan_range_get(). NULL: all rows. At most 4,096. */
    const evpq_scan_range *resume;
    size_t resume_count;
} evpq_scan_options;

/** Options in place: EVPQ_SCAN_OPTIONS(.sql = "TABLE events", .order_by = "id"). C only. */
#define EVPQ_SCAN_OPTIONS(...)                                                                     \
    (&(const evpq_scan_options){.size = sizeof(evpq_scan_options), __VA_ARGS__})

/** Say what is wrong with options: the reason why evpq_scan_open() answers EVPQ_EINVALID, but for
 * workers beyond the pool's max_size. NULL when nothing is wrong; else a static text. */
EVPQ_API const char *evpq_scan_options_problem(const evpq_scan_options *options);

/**
 * Open a scan. Nothing is sent before the first page is asked for.
 *
 * @param[out] out      the scan; yours until evpq_scan_close()
 * @param      pool     where the connections come from
 * @param      options  must name at least sql and order_by
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_scan_options_problem()); EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_scan_open(evpq_scan **out, evpq_pool *pool,
                                            const evpq_scan_options *options);

/**
 * Ask for a page, one at a time. A page without rows is the end of the scan: all rows have come.
 * evpq_page_has_next() is true for each page before it.
 *
 * @param[out] out      a handle to cancel with; may be NULL. Cancelled, the workers go on, and the
 *                      next call gets the page
 * @param      scan     the scan
 * @param      on_page  runs once, from the loop, unless this call fails
 * @param      user     passed to on_page as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID when a page is on its way; EVPQ_ETIMEOUT when walk_timeout_ms has
 * passed; EVPQ_ECLOSED when the scan has failed or the pool was closed; EVPQ_ENOMEM. Everything
 * else reaches on_page, as with evpq_pager_next(); after an error of the server or of a connection
 * the scan is over
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_scan_next(evpq_op **out, evpq_scan *scan, evpq_page_fn *on_page,
                                            void *user);

/** The number of the range that a page of a scan is of, from 0; 0 for pages of a pager. */
EVPQ_API uint32_t evpq_page_range(const evpq_page *page);

/** How many ranges there are; 0 before they are cut. */
EVPQ_API uint32_t evpq_scan_ranges(const evpq_scan *scan);

/**
 * Tell what is left of a range: the rows that have not been handed over.
 *
 * @param      scan   the scan
 * @param      index  from 0
 * @param[out] out    two tokens, valid until the next page comes or the scan is closed
 *
 * @return EVPQ_OK; EVPQ_EINVALID for an index there is not, and when nothing is left of it;
 * EVPQ_ETYPE when the order columns are too long for a token; EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_scan_range_get(evpq_scan *scan, uint32_t index,
                                                 evpq_scan_range *out);

/** Close a scan, as evpq_pager_close(): a page on its way calls back with EVPQ_ECLOSED; its
 * connections go back to the pool. NULL is allowed. */
EVPQ_API void evpq_scan_close(evpq_scan *scan);

EVPQ_END_DECLS

#endif /* EVPQ_SCAN_H */
