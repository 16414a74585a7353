/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_QUERY_H
#define EVPQ_QUERY_H

/**
 * @file
 * Queries
 * =======
 *
 * One statement with its parameters and its time. The struct is read by the
 * call that takes it and nothing of it is kept: it may live on the stack, as
 * EVPQ_QUERY() makes it.
 */

#include <evpq/value.h>

EVPQ_BEGIN_DECLS

/** How the values of a result come: decides which readers of result.h apply. */
typedef enum evpq_format {
    EVPQ_FORMAT_DEFAULT = 0, /**< binary for queries, text for pages */
    EVPQ_BINARY = 1,         /**< for the typed readers, exact and fast */
    EVPQ_TEXT = 2,           /**< every type as the server writes it, for evpq_result_text() */
} evpq_format;

/** What happens on the server to a statement that has been sent when nobody waits for it any more.
 */
typedef enum evpq_cancel_policy {
    /** A cancel request is sent, and repeated while the statement still runs; the connection is
     * used again when the server has answered both. */
    EVPQ_CANCEL_AND_KEEP = 0,
    /** A cancel request is sent, and the connection closed: for poolers that tell clients apart,
     * but not their requests. */
    EVPQ_CANCEL_AND_CLOSE = 1,
    /** The connection is closed, no request is sent: for poolers whose cancels may hit others. The
     * server notices when it next writes, or by client_connection_check_interval; until then it
     * counts that connection, and so perhaps more than max_size. */
    EVPQ_CLOSE_ONLY = 2,
} evpq_cancel_policy;

/** A statement, as EVPQ_QUERY() or a C++ caller fills it. Zero is the default of each field. */
typedef struct evpq_query {
    /** sizeof(evpq_query); EVPQ_QUERY() sets it. */
    size_t size;
    /** One statement, with parameters as $1, $2, ... */
    const char *sql;
    /** Bytes of it. 0: it ends with NUL. A NUL inside is refused. */
    size_t sql_length;
    /** What $1, $2, ... stand for; EVPQ_PARAMS() sets it. */
    const evpq_value *params;
    /** At most 65,535. */
    size_t params_count;
    /** From the call to the callback. 0: the pool's query_timeout_ms. */
    uint32_t timeout_ms;
    /** Of the result. Default: binary. */
    evpq_format format;
    /** What errors and traces call it, as "checkout": no data. 63 bytes of it are kept. */
    const char *tag;
    /** As in evpq_pool_options, for this statement. Default: the pool's. */
    evpq_switch server_timeout;
    /** As in evpq_pool_options, for this statement. 0: the pool's. */
    size_t max_result_bytes;
    /** Keep it prepared on its connection: on, at its first use; off, never, as for a statement
     * whose plan must fit its values. Default: at its second use. See evpq_pool_options,
     * statement_cache. */
    evpq_switch prepare;
} evpq_query;

/**
 * A query in place: EVPQ_QUERY("SELECT 1"), or with fields behind the statement:
 * EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(1)), .timeout_ms = 250). C only.
 *
 * It lives, with its parameters, as long as the block it stands in, as every compound literal. The
 * branch of an `if` and the body of a loop are blocks, with braces or without: keep a copy,
 * `query = *EVPQ_QUERY(...)`, and the values in an array of your own, as batch.h does.
 */
#define EVPQ_QUERY(...) (&(const evpq_query){.size = sizeof(evpq_query), .sql = __VA_ARGS__})

/** The parameters of a query in place; at least one. C only. */
#define EVPQ_PARAMS(...)                                                                           \
    .params = (const evpq_value[]){__VA_ARGS__},                                                   \
    .params_count = sizeof((const evpq_value[]){__VA_ARGS__}) / sizeof(evpq_value)

/**
 * Say what is wrong with a query.
 *
 * A call that takes a query answers EVPQ_EINVALID for just these reasons; this tells which, for a
 * person.
 *
 * @return NULL when nothing is wrong; else a static text
 */
EVPQ_API const char *evpq_query_problem(const evpq_query *query);

EVPQ_END_DECLS

#endif /* EVPQ_QUERY_H */
