/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_PQ_H
#define EVPQ_TESTS_FAKE_PQ_H

/*
 * libpq without a server, in place of what lib/pg/{conn,cancel,result,pq}.c
 * use of -lpq. A connection is in pipeline mode and logged in from the start. The
 * test is the server: what it *says* is in the network until the connection is
 * read, and comes out of PQgetResult() as libpq 17 hands it out:
 *
 *   result, NULL, SYNC (without a NULL), and NULLs for ever when idle.
 */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

void fake_pq_reset(void);
/* PGconn, PGresult, PGcancel and PGcancelConn that live. */
int fake_pq_alive(void);
/* What PQlibVersion() says; 170006 at first. Before that cancels block in calls. */
void fake_pq_version(int version);
/* PQcancelCreate() and PQgetCancel() have no memory. */
void fake_pq_no_cancel(bool fails);

/* Calls of PQgetResult(), ever. */
int fake_pq_gets(void);

/* Connections */

PGconn *fake_pg_new(void);
int fake_pg_count(void);
/* The nth that lives, in the order of their birth. */
PGconn *fake_pg(int n);
/* Statements that have reached the server (with their Sync), and their texts. */
int fake_pg_received(const PGconn *pg);
const char *fake_pg_sql(const PGconn *pg, int n);
/* The last statement that came ahead of another, before the same Sync; "" when none has. */
const char *fake_pg_prelude(const PGconn *pg);
/* Prepared statements that the server has; it forgets them all; it refuses new ones, or no more. */
int fake_pg_prepared(const PGconn *pg);
void fake_pg_forget_prepared(PGconn *pg);
void fake_pg_refuse_prepare(PGconn *pg, const char *sqlstate);
/* The last statement that has reached the server was a prepared one. */
bool fake_pg_executed_prepared(const PGconn *pg);
/* What the server has reported of itself: in_hot_standby, DateStyle, client_encoding. */
void fake_pg_parameter(PGconn *pg, const char *name, const char *value);
int fake_pg_flushes(const PGconn *pg);
void fake_pg_transaction(PGconn *pg, PGTransactionStatusType status);
/* The peer does not read: PQflush() returns 1. */
void fake_pg_block(PGconn *pg, bool blocked);
/* PQsendQueryParams(), or the Sync behind it, fails. */
void fake_pg_fail_send(PGconn *pg);
void fake_pg_fail_sync(PGconn *pg);
void fake_pg_fail_flush(PGconn *pg);
/* A statement has reached the server, and nothing has been said to it. */
bool fake_pg_waits(const PGconn *pg);
/* PQstatus() becomes bad, without any event. */
void fake_pg_break(PGconn *pg);
/* libpq notes an error and hands out nothing, as without memory for the result of a Sync. */
void fake_pg_notes_error(PGconn *pg, const char *text);
/* Not taken yet by PQnotifies(). */
int fake_pg_notifications(const PGconn *pg);
/* What PQresultMemorySize() says of the results to come. */
void fake_pg_result_bytes(PGconn *pg, size_t bytes);

/* Bytes have come, read or not; each connection counts for itself. */
void fake_pg_comes(const PGconn *pg, size_t bytes);
/* The peer hears a goodbye, and its socket stays until it is lost. Off at first: nobody is there.
 */
void fake_pg_hears_goodbye(bool hears);
/* Terminate messages that evpq has tried to send itself. */
int fake_pg_terminates(void);
/* All connections are, from now on. */
void fake_pg_encrypted(bool by_ssl, bool by_gss);
/* errno of sockets that have nothing to read; EAGAIN at first. */
void fake_pg_socket_error(int error);

/* What the server says */

void fake_says(PGconn *pg, ExecStatusType status);
/* COMMAND_OK with this command tag. */
void fake_says_tag(PGconn *pg, const char *tag);
void fake_says_rows(PGconn *pg, int rows);
/* So many rows of a result that goes on: as libpq 17 has gathered them, or one by one. */
void fake_says_chunk(PGconn *pg, int rows);
void fake_says_single_rows(PGconn *pg, int rows);
/* What rows of it come in: 0 all, 1 one by one, more: gathered by libpq. */
int fake_pg_row_mode(const PGconn *pg);
/* severity NULL: an error of libpq's own. */
void fake_says_error(PGconn *pg, const char *severity, const char *sqlstate, const char *message);
void fake_says_sync(PGconn *pg, PGTransactionStatusType transaction);
void fake_says_notice(PGconn *pg, const char *severity, const char *sqlstate, const char *message);
void fake_says_notification(PGconn *pg);
/* TUPLES_OK and a Sync outside a transaction. */
void fake_answers(PGconn *pg);
/* The connection is lost behind what has been said; libpq closes the descriptor, or leaves it. */
void fake_loses(PGconn *pg, bool closes, const char *message);
/* As before, but libpq sees it only when it looks at what it has read, at PQgetResult(). */
void fake_loses_later(PGconn *pg, const char *message);

/* A server that answers by itself, as soon as statement and Sync are there; NULL: the test does. */
typedef void fake_server_fn(PGconn *pg, const char *sql);
void fake_server(fake_server_fn *server);
/*
 * One of these: BEGIN opens a transaction, ROLLBACK and COMMIT end it; HANG is not answered; FAIL
 * is an error; DIE ends the session; anything else gives one row.
 */
void fake_server_simple(PGconn *pg, const char *sql);

/*
 * A server that answers each statement when it comes, several before one Sync
 * too. BEGIN, COMMIT, ROLLBACK, FAIL, HANG and DIE as above; DEFER makes the next
 * COMMIT fail; after HANG it is silent.
 */
void fake_server_statements(bool on);

/* Cancel requests */

/* Started, ever. */
int fake_cancels(void);
/* Under way, or waited for by PQcancel(). */
int fake_cancels_open(void);
/* The server closes the oldest one. Where PQcancel() blocks, its call returns instead. */
void fake_cancel_over(void);
/* Each request ends by itself, and what it is for with 57014 when it runs still. Off at first. */
void fake_cancels_obeyed(bool now);

#endif /* EVPQ_TESTS_FAKE_PQ_H */
