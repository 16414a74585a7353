/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_PQ_PRIVATE_H
#define EVPQ_TESTS_FAKE_PQ_PRIVATE_H

/* What the files of the fake libpq share. */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"

enum { STATEMENTS = 256, PREPARED = 16 };

enum kind {
    SAYS_RESULT,
    SAYS_SYNC,
    SAYS_NOTICE,
    SAYS_NOTIFICATION,
    SAYS_LOSS,
};

struct message {
    struct evpq__node node;
    enum kind kind;
    PGresult *result;
    PGTransactionStatusType transaction;
    bool closes, later, goes_on; /* goes_on: no NULL behind it */
    char *text;
};

enum command_kind { QUERY, PREPARE, EXECUTE, CLOSE, SYNC };

struct command {
    struct evpq__node node;
    enum command_kind kind;
    char *sql, *name; /* name: of a prepared statement */
};

struct pg_conn {
    struct evpq__node node; /* of conns */
    int fd;
    ConnStatusType status;
    PGTransactionStatusType transaction;
    struct evpq__list network, input; /* of struct message: not read yet; read, not parsed yet */
    struct evpq__list unsent,
        commands; /* of struct command: in libpq's buffer; all in libpq's queue */
    enum {
        ASYNC_IDLE,
        ASYNC_BUSY,
        ASYNC_READY,
        ASYNC_PIPELINE_IDLE
    } async; /* as libpq calls them */
    PGresult *ready;
    bool ready_goes_on;
    int notifications;
    char *error, *half; /* half: of a statement whose Sync has not left */
    char *prelude;      /* the last one */
    struct {
        char name[32], value[32];
    } parameters[8];
    int encoding;
    struct prepared {
        char *name, *sql;
    } prepared[PREPARED];
    bool executed_prepared; /* the last statement was */
    bool aborted;           /* a command of this segment has failed */
    bool open, defers,
        hangs; /* by statements: a transaction is; its COMMIT will fail; it is silent */
    const char *refuse_prepare;
    char *received[STATEMENTS];
    int received_count;
    bool blocked, fail_send, fail_sync, fail_flush;
    int flushes;
    size_t result_bytes;
    int row_mode;
    PQnoticeReceiver receiver;
    void *receiver_arg;
};

/* Zeroed, and counted as alive. */
void *fake_pq_make(size_t size);
void fake_pq_destroy(void *made);
/* Each descriptor has a number of its own. */
int fake_pq_next_fd(void);
char *fake_copy(const char *text);
PGresult *fake_result_new(ExecStatusType status, int rows, size_t bytes);
PGresult *fake_error_new(ExecStatusType status, const char *severity, const char *sqlstate,
                         const char *message);
/* The signal reaches the backend, if there still is one, and something runs there. */
void fake_pg_canceled(const PGconn *of);
void fake_pq_cancel_reset(void);
void fake_pq_socket_reset(void);
/* errno of a socket that has nothing to read. */
int fake_pq_socket_error(void);
/* A command has left libpq, and reaches the server. */
void fake_pq_server_receives(PGconn *pg, struct command *c);

#endif /* EVPQ_TESTS_FAKE_PQ_PRIVATE_H */
