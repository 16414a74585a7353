/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_STREAM_H
#define EVPQ_STREAM_H

/**
 * @file
 * Streams
 * =======
 *
 * The rows of one statement, handed over as they come: for a result that is
 * larger than memory, or wanted before it is complete.
 *
 *     evpq_pool_stream(NULL, pool, EVPQ_QUERY("TABLE events", .timeout_ms = EVPQ_NEVER), NULL,
 *                      on_chunk, on_done, user);
 *
 * on_chunk gets some rows, again and again, in their order. on_done runs once,
 * last, and tells the two ends apart: a result means *complete*, every row has
 * been handed over and the statement is committed; an error means *rows so far,
 * then failed*, and nothing of what came before may be taken for the whole. Behind
 * PgBouncer (seen with 1.18), the last row of a stream that has failed may be wrong:
 * when the server ends in the middle of a row, the pooler fills it up with its error.
 *
 * Who cannot take more pauses the stream. Nothing is read from its socket then,
 * so the server stops when the buffers between are full; what has come already
 * waits in evpq, about as much as one reading of the socket or buffer_bytes. A
 * paused stream keeps its connection, its snapshot and its locks, and hears
 * nothing of the server, not even its end, until it goes on. Only where all rows
 * and the end had come before it paused the connection goes on to others, in a
 * lease to what waits behind the stream, and may be told of first. The server
 * sends in blocks of some 8 kB: few small rows of a slow statement come together.
 *
 * One deadline holds for the whole, pauses included: the clock does not stop. A
 * program that pauses for as long as it likes says EVPQ_NEVER.
 *
 * evpq_stream_close() ends it early, also in on_chunk: on_done comes with
 * EVPQ_ECANCELED, the statement is cancelled on the server, and what is still
 * under way is thrown away within cancel_timeout_ms. In a transaction of a lease
 * that is an error of the statement: the transaction has failed (25P02). When all
 * rows had been handed over and the end was there, on_done comes with that.
 *
 * A stream has its connection to itself, whatever pipeline_depth says.
 */

#include <evpq/pool.h>

EVPQ_BEGIN_DECLS

/** The rows of one statement under way; owned by evpq, valid until on_done returns. */
typedef struct evpq_stream evpq_stream;

/** How rows are handed over. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_stream_options {
    /** sizeof(evpq_stream_options); EVPQ_STREAM_OPTIONS() sets it. */
    size_t size;
    /** Rows of a chunk, at most. Default 256; at most 10,000. With libpq 17 all chunks but the last
     * have so many, and libpq holds them until then, whatever their bytes; before, a chunk has what
     * has come. */
    uint32_t chunk_rows;
    /** Bytes in hand: rows that wait to be handed over. When there are more, no more are read until
     * they are gone. One row, or with libpq 17 one chunk, may exceed it. Default 1 MiB. */
    size_t buffer_bytes;
} evpq_stream_options;

/** Options in place: EVPQ_STREAM_OPTIONS(.chunk_rows = 1000). C only. */
#define EVPQ_STREAM_OPTIONS(...)                                                                   \
    (&(const evpq_stream_options){.size = sizeof(evpq_stream_options), __VA_ARGS__})

/** Some rows, at least one. The chunk is a result like others: valid until the callback returns, or
 * kept with evpq_result_keep(). Runs from the loop, never while the stream is paused. */
typedef void evpq_chunk_fn(evpq_stream *stream, evpq_result *chunk, void *user);

/**
 * Say what is wrong with a stream: the reason why a call answers EVPQ_EINVALID.
 *
 * @param query    the statement
 * @param options  NULL for all defaults
 *
 * @return NULL when nothing is wrong; else a static text
 */
EVPQ_API const char *evpq_stream_problem(const evpq_query *query,
                                         const evpq_stream_options *options);

/**
 * Run one statement and hand its rows over as they come.
 *
 * @param[out] out       the stream, to pause and to close; may be NULL
 * @param      pool      the pool
 * @param      query     read before the call returns; its max_result_bytes must not be set, and the
 *                       pool's does not apply
 * @param      options   NULL for all defaults
 * @param      on_chunk  runs for each chunk
 * @param      on_done   runs once, after the last on_chunk, unless this call fails. Its result has
 *                       no rows: evpq_result_affected() is how many there were
 * @param      user      passed to both as it is
 *
 * @return as evpq_pool_query(); EVPQ_EINVALID (ask evpq_stream_problem())
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_pool_stream(evpq_stream **out, evpq_pool *pool,
                                              const evpq_query *query,
                                              const evpq_stream_options *options,
                                              evpq_chunk_fn *on_chunk, evpq_result_fn *on_done,
                                              void *user);

/** The same on a leased connection, behind the statements that the lease has been given before; as
 * evpq_lease_query(). */
EVPQ_API EVPQ_MUST_CHECK int evpq_lease_stream(evpq_stream **out, evpq_lease *lease,
                                               const evpq_query *query,
                                               const evpq_stream_options *options,
                                               evpq_chunk_fn *on_chunk, evpq_result_fn *on_done,
                                               void *user);

/** No on_chunk from now on, and nothing is read. Twice is once; NULL is allowed. */
EVPQ_API void evpq_stream_pause(evpq_stream *stream);
/** Go on. */
EVPQ_API void evpq_stream_resume(evpq_stream *stream);
/** End it early, as evpq_op_cancel() does. Rows that have not been handed over are dropped; on_done
 * follows. NULL is allowed. */
EVPQ_API void evpq_stream_close(evpq_stream *stream);
/** The stream as an operation, for a group. NULL for NULL. */
EVPQ_API evpq_op *evpq_stream_op(evpq_stream *stream);

EVPQ_END_DECLS

#endif /* EVPQ_STREAM_H */
