/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_PQ_H
#define EVPQ_LIB_PG_PQ_H

/*
 * Facts about libpq that have no state: what the running version can do, and
 * what is safe to repeat of what it says.
 *
 * What libpq 17 added is declared weak, whichever headers we are built with:
 * one binary runs with 14 and uses 17 when it meets it.
 */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef LIBPQ_HAS_ASYNC_CANCEL
typedef struct pg_cancel_conn PGcancelConn;
extern PGcancelConn *PQcancelCreate(PGconn *conn) __attribute__((weak));
extern int PQcancelStart(PGcancelConn *cancel) __attribute__((weak));
extern PostgresPollingStatusType PQcancelPoll(PGcancelConn *cancel) __attribute__((weak));
extern ConnStatusType PQcancelStatus(const PGcancelConn *cancel) __attribute__((weak));
extern int PQcancelSocket(const PGcancelConn *cancel) __attribute__((weak));
extern void PQcancelReset(PGcancelConn *cancel) __attribute__((weak));
extern void PQcancelFinish(PGcancelConn *cancel) __attribute__((weak));
#else
extern __typeof__(PQcancelCreate) PQcancelCreate __attribute__((weak));
#endif
#ifndef LIBPQ_HAS_SEND_PIPELINE_SYNC
extern int PQsendPipelineSync(PGconn *conn) __attribute__((weak));
#else
extern __typeof__(PQsendPipelineSync) PQsendPipelineSync __attribute__((weak));
#endif
#ifndef LIBPQ_HAS_CLOSE_PREPARED
extern int PQsendClosePrepared(PGconn *conn, const char *statement) __attribute__((weak));
#else
extern __typeof__(PQsendClosePrepared) PQsendClosePrepared __attribute__((weak));
#endif

#ifndef LIBPQ_HAS_CHUNK_MODE
extern int PQsetChunkedRowsMode(PGconn *conn, int rows) __attribute__((weak));
#else
extern __typeof__(PQsetChunkedRowsMode) PQsetChunkedRowsMode __attribute__((weak));
#endif
/* PGRES_TUPLES_CHUNK of libpq 17. */
enum { EVPQ__PQ_TUPLES_CHUNK = 12 };

/* What every session of evpq relies on, besides client_encoding, which is set when it connects. */
#define EVPQ__PQ_SESSION_SETUP                                                                     \
    "SELECT set_config('DateStyle','ISO',false),set_config('extra_float_digits','1',false)"
/* It is still so, as far as the server reports: nobody has changed client_encoding or DateStyle. */
bool evpq__pq_session_pinned(const PGconn *conn);
/* The server reports that it is a standby (14 and later), or that this session takes no writes
 * unless it asks to (default_transaction_read_only). False where it does not say. */
bool evpq__pq_in_standby(const PGconn *conn);
bool evpq__pq_read_only(const PGconn *conn);

/* "ERROR", "FATAL" or "PANIC" in any language; NULL: libpq's own error. A pooler has it only as
 * what servers since 9.6 translate. */
const char *evpq__pq_severity(const PGresult *error);

/*
 * Adds to `received`, or sets it: bytes that the kernel has received for this
 * connection. Exact over TCP on Linux; else what waits to be read is added, less
 * the `left` that waited after the last reading: so it has to be asked before
 * each reading, and evpq__pq_waiting() after it.
 */
void evpq__pq_count_received(const PGconn *conn, uint64_t *received, size_t left);
/* Bytes that wait to be read from the socket. */
size_t evpq__pq_waiting(const PGconn *conn);

/* PQcancelStart() and its kind are there and can be trusted. */
bool evpq__pq_has_async_cancel(void);

/* PQsendClosePrepared() is there. */
bool evpq__pq_has_close_prepared(void);

/* libpq knows load_balance_hosts, since 16. */
bool evpq__pq_has_load_balance(void);

/*
 * This libpq counts the answers of a pipeline right, also when one fails (BUG
 * #17948; its fix is in the release notes of 15.6).
 */
bool evpq__pq_can_share(void);

/* Queues a Sync; flushed with the rest where libpq can (17), at once where it cannot. */
bool evpq__pq_send_sync(PGconn *conn);

/* The rows of what is answered now come in results of so many where libpq can (17), of one each
 * where it cannot. False: not yet. */
bool evpq__pq_set_row_mode(PGconn *conn, uint32_t rows);

/* PQconsumeInput(), until nothing is left that only OpenSSL knows of. */
bool evpq__pq_consume(PGconn *conn);

/*
 * A libpq message made fit to pass on: one line, without the source location
 * that verbose errors add. The SQLSTATE in it goes to `sqlstate`, "" when there
 * is none. Both are always ended by NUL.
 */
void evpq__pq_tidy_message(const char *message, char *out, size_t capacity, char sqlstate[6]);

/* The server will say the same until somebody changes something: wrong password, no such database.
 */
bool evpq__pq_refused_for_good(const char *sqlstate);

#endif /* EVPQ_LIB_PG_PQ_H */
