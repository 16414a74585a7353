/* SPDX-License-Identifier: MIT */
#include "support/fake_pq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pg/pq.h"
#include "support/fake_loop.h"
#include "support/fake_pq_private.h"

enum { STATEMENTS = 256, FIRST_FD = 100 };

struct pg_result {
    ExecStatusType status;
    int rows;
    size_t bytes;
    char *severity, *sqlstate, *message;
};

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
    bool closes, later;
    char *text;
};

struct command {
    struct evpq__node node;
    bool sync;
    char *sql;
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
    int notifications;
    char *error, *half; /* half: of a statement whose Sync has not left */
    char *received[STATEMENTS];
    int received_count;
    bool blocked, fail_send, fail_sync, fail_flush;
    int flushes;
    size_t result_bytes;
    PQnoticeReceiver receiver;
    void *receiver_arg;
};

static struct evpq__list conns;
static int alive, gets, next_fd, version;
static fake_server_fn *server;

void fake_pq_reset(void)
{
    evpq__list_init(&conns);
    fake_pq_cancel_reset();
    alive = gets = 0;
    next_fd = FIRST_FD;
    version = 170006;
    server = NULL;
}

int fake_pq_alive(void)
{
    return alive;
}

void fake_pq_version(int number)
{
    version = number;
}

void *fake_pq_make(size_t size)
{
    void *made = calloc(1, size);
    assert_non_null(made);
    alive++;
    return made;
}

int fake_pq_next_fd(void)
{
    return next_fd++;
}

void fake_pq_destroy(void *made)
{
    alive--;
    free(made);
}

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

/* ---- results ---- */

static PGresult *result_new(ExecStatusType status, int rows, size_t bytes)
{
    PGresult *result = fake_pq_make(sizeof(*result));
    result->status = status;
    result->rows = rows;
    result->bytes = bytes;
    return result;
}

static PGresult *error_new(ExecStatusType status, const char *severity, const char *sqlstate,
                           const char *message)
{
    PGresult *result = result_new(status, 0, 0);
    result->severity = copy(severity);
    result->sqlstate = copy(sqlstate);
    result->message = copy(message);
    return result;
}

void PQclear(PGresult *result)
{
    if (!result)
        return;
    free(result->severity);
    free(result->sqlstate);
    free(result->message);
    fake_pq_destroy(result);
}

ExecStatusType PQresultStatus(const PGresult *result)
{
    return result ? result->status : PGRES_FATAL_ERROR;
}

char *PQresultErrorField(const PGresult *result, int field)
{
    switch (field) {
    case PG_DIAG_SEVERITY_NONLOCALIZED:
        return result->severity;
    case PG_DIAG_SQLSTATE:
        return result->sqlstate;
    case PG_DIAG_MESSAGE_PRIMARY:
        return result->message;
    default:
        return NULL;
    }
}

char *PQresultErrorMessage(const PGresult *result)
{
    static char none[] = "";
    return result->message ? result->message : none;
}

size_t PQresultMemorySize(const PGresult *result)
{
    return result->bytes;
}

int PQntuples(const PGresult *result)
{
    return result->rows;
}

int PQnfields(const PGresult *result)
{
    return result->status == PGRES_TUPLES_OK;
}

char *PQfname(const PGresult *result, int column)
{
    static char name[] = "value";
    (void)result, (void)column;
    return name;
}

Oid PQftype(const PGresult *result, int column)
{
    (void)result, (void)column;
    return 20;
}

int PQbinaryTuples(const PGresult *result)
{
    (void)result;
    return 1;
}

int PQgetisnull(const PGresult *result, int row, int column)
{
    (void)result, (void)row, (void)column;
    return 1;
}

char *PQcmdTuples(PGresult *result)
{
    static char none[] = "";
    (void)result;
    return none;
}

/* ---- what is said ---- */

static void message_free(struct message *m)
{
    evpq__node_unlink(&m->node);
    PQclear(m->result);
    free(m->text);
    free(m);
}

static struct message *first_message(struct evpq__list *list)
{
    struct evpq__node *node = evpq__list_first(list);
    return node ? evpq__container_of(node, struct message, node) : NULL;
}

static struct message *say(PGconn *pg, enum kind kind, PGresult *result)
{
    struct message *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    m->kind = kind;
    m->result = result;
    evpq__list_push_back(&pg->network, &m->node);
    if (pg->fd >= 0)
        fake_socket_ready(pg->fd, EVPQ__READ);
    return m;
}

void fake_says(PGconn *pg, ExecStatusType status)
{
    say(pg, SAYS_RESULT, result_new(status, 0, pg->result_bytes));
}

void fake_says_rows(PGconn *pg, int rows)
{
    say(pg, SAYS_RESULT, result_new(PGRES_TUPLES_OK, rows, pg->result_bytes));
}

void fake_says_error(PGconn *pg, const char *severity, const char *sqlstate, const char *message)
{
    say(pg, SAYS_RESULT, error_new(PGRES_FATAL_ERROR, severity, sqlstate, message));
}

void fake_says_sync(PGconn *pg, PGTransactionStatusType transaction)
{
    say(pg, SAYS_SYNC, result_new(PGRES_PIPELINE_SYNC, 0, 0))->transaction = transaction;
}

void fake_says_notice(PGconn *pg, const char *severity, const char *sqlstate, const char *message)
{
    say(pg, SAYS_NOTICE, error_new(PGRES_NONFATAL_ERROR, severity, sqlstate, message));
}

void fake_says_notification(PGconn *pg)
{
    say(pg, SAYS_NOTIFICATION, NULL);
}

void fake_answers(PGconn *pg)
{
    fake_says_rows(pg, 1);
    fake_says_sync(pg, PQTRANS_IDLE);
}

void fake_loses(PGconn *pg, bool closes, const char *text)
{
    struct message *m = say(pg, SAYS_LOSS, NULL);
    m->closes = closes;
    m->text = copy(text);
}

void fake_loses_later(PGconn *pg, const char *text)
{
    struct message *m = say(pg, SAYS_LOSS, NULL);
    m->closes = m->later = true;
    m->text = copy(text);
}

void fake_server(fake_server_fn *now)
{
    server = now;
}

void fake_server_simple(PGconn *pg, const char *sql)
{
    PGTransactionStatusType after = pg->transaction;
    if (strcmp(sql, "HANG") == 0)
        return;
    if (strcmp(sql, "DIE") == 0) {
        fake_says_error(pg, "FATAL", "57P01", "terminating connection");
        fake_loses(pg, true, "server closed the connection unexpectedly\n");
        return;
    }
    if (strcmp(sql, "FAIL") == 0) {
        fake_says_error(pg, "ERROR", "22012", "division by zero");
        after = after == PQTRANS_INTRANS ? PQTRANS_INERROR : after;
    } else if (strcmp(sql, "BEGIN") == 0) {
        fake_says(pg, PGRES_COMMAND_OK);
        after = PQTRANS_INTRANS;
    } else if (strcmp(sql, "ROLLBACK") == 0 || strcmp(sql, "COMMIT") == 0) {
        fake_says(pg, PGRES_COMMAND_OK);
        after = PQTRANS_IDLE;
    } else {
        fake_says_rows(pg, 1);
    }
    fake_says_sync(pg, after);
}

/* ---- connections ---- */

PGconn *fake_pg_new(void)
{
    PGconn *pg = fake_pq_make(sizeof(*pg));
    pg->fd = fake_pq_next_fd();
    pg->status = CONNECTION_OK;
    pg->transaction = PQTRANS_IDLE;
    evpq__list_init(&pg->network);
    evpq__list_init(&pg->input);
    evpq__list_init(&pg->unsent);
    evpq__list_init(&pg->commands);
    evpq__list_push_back(&conns, &pg->node);
    fake_socket_ready(pg->fd, EVPQ__WRITE);
    return pg;
}

int fake_pg_count(void)
{
    int count = 0;
    for (struct evpq__node *n = evpq__list_first(&conns); n; n = evpq__list_next(&conns, n))
        count++;
    return count;
}

PGconn *fake_pg(int n)
{
    struct evpq__node *node = evpq__list_first(&conns);
    for (; node && n > 0; n--)
        node = evpq__list_next(&conns, node);
    if (!node)
        fail_msg("there are not so many connections");
    return evpq__container_of(node, struct pg_conn, node);
}

int fake_pg_received(const PGconn *pg)
{
    return pg->received_count;
}

const char *fake_pg_sql(const PGconn *pg, int n)
{
    assert_true(n < pg->received_count);
    return pg->received[n];
}

int fake_pg_flushes(const PGconn *pg)
{
    return pg->flushes;
}

int fake_pq_gets(void)
{
    return gets;
}

void fake_pg_transaction(PGconn *pg, PGTransactionStatusType status)
{
    pg->transaction = status;
}

void fake_pg_block(PGconn *pg, bool blocked)
{
    pg->blocked = blocked;
    if (blocked)
        fake_socket_quiet(pg->fd, EVPQ__WRITE);
    else
        fake_socket_ready(pg->fd, EVPQ__WRITE);
}

void fake_pg_fail_send(PGconn *pg)
{
    pg->fail_send = true;
}

void fake_pg_fail_sync(PGconn *pg)
{
    pg->fail_sync = true;
}

void fake_pg_fail_flush(PGconn *pg)
{
    pg->fail_flush = true;
}

bool fake_pg_waits(const PGconn *pg)
{
    return pg->async == ASYNC_BUSY && evpq__list_empty(&pg->unsent) &&
           evpq__list_empty(&pg->network) && evpq__list_empty(&pg->input);
}

void fake_pg_break(PGconn *pg)
{
    pg->status = CONNECTION_BAD;
}

int fake_pg_notifications(const PGconn *pg)
{
    return pg->notifications;
}

void fake_pg_result_bytes(PGconn *pg, size_t bytes)
{
    pg->result_bytes = bytes;
}

static void set_error(PGconn *pg, const char *text)
{
    free(pg->error);
    pg->error = copy(text);
}

static struct command *first_command(struct evpq__list *list)
{
    struct evpq__node *node = evpq__list_first(list);
    return node ? evpq__container_of(node, struct command, node) : NULL;
}

static void drop_commands(struct evpq__list *list)
{
    struct command *c;
    while ((c = first_command(list))) {
        evpq__node_unlink(&c->node);
        free(c->sql);
        free(c);
    }
}

static void drop_messages(struct evpq__list *list)
{
    struct message *m;
    while ((m = first_message(list)))
        message_free(m);
}

static void close_socket(PGconn *pg)
{
    if (pg->fd >= 0)
        fake_socket_closed(pg->fd);
    pg->fd = -1;
}

void PQfinish(PGconn *pg)
{
    if (!pg)
        return;
    close_socket(pg);
    evpq__node_unlink(&pg->node);
    drop_messages(&pg->network);
    drop_messages(&pg->input);
    drop_commands(&pg->unsent);
    drop_commands(&pg->commands);
    PQclear(pg->ready);
    for (int i = 0; i < pg->received_count; i++)
        free(pg->received[i]);
    free(pg->error);
    free(pg->half);
    fake_pq_destroy(pg);
}

ConnStatusType PQstatus(const PGconn *pg)
{
    return pg ? pg->status : CONNECTION_BAD;
}

int PQsocket(const PGconn *pg)
{
    return pg ? pg->fd : -1;
}

char *PQerrorMessage(const PGconn *pg)
{
    static char none[] = "";
    return pg->error ? pg->error : none;
}

PGTransactionStatusType PQtransactionStatus(const PGconn *pg)
{
    if (!pg || pg->status != CONNECTION_OK)
        return PQTRANS_UNKNOWN;
    return pg->async == ASYNC_IDLE ? pg->transaction : PQTRANS_ACTIVE;
}

PQnoticeReceiver PQsetNoticeReceiver(PGconn *pg, PQnoticeReceiver receiver, void *arg)
{
    PQnoticeReceiver before = pg->receiver;
    pg->receiver = receiver;
    pg->receiver_arg = arg;
    return before;
}

int PQsslInUse(PGconn *pg)
{
    (void)pg;
    return 0;
}

int PQgssEncInUse(PGconn *pg)
{
    (void)pg;
    return 0;
}

void *PQsslStruct(PGconn *pg, const char *name)
{
    (void)pg, (void)name;
    return NULL;
}

int PQlibVersion(void)
{
    return version;
}

/* Sending */

static int queue_command(PGconn *pg, const char *sql)
{
    struct command *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->sync = !sql;
    evpq__list_push_back(&pg->commands, &c->node);
    struct command *to_send = calloc(1, sizeof(*to_send));
    assert_non_null(to_send);
    to_send->sync = !sql;
    to_send->sql = copy(sql);
    evpq__list_push_back(&pg->unsent, &to_send->node);
    if (pg->async == ASYNC_IDLE)
        pg->async = ASYNC_BUSY;
    return 1;
}

int PQsendQueryParams(PGconn *pg, const char *sql, int count, const Oid *types,
                      const char *const *values, const int *lengths, const int *formats,
                      int result_format)
{
    (void)count, (void)types, (void)values, (void)lengths, (void)formats, (void)result_format;
    if (pg->status != CONNECTION_OK || pg->fail_send) {
        set_error(pg, "out of memory\n");
        return 0;
    }
    return queue_command(pg, sql);
}

int PQsendPipelineSync(PGconn *pg)
{
    if (pg->status != CONNECTION_OK || pg->fail_sync)
        return 0;
    return queue_command(pg, NULL);
}

int PQpipelineSync(PGconn *pg)
{
    return PQsendPipelineSync(pg);
}

static void read_network(PGconn *pg);

static void server_receives(PGconn *pg, struct command *c)
{
    if (!c->sync) {
        pg->half = c->sql;
        c->sql = NULL;
        return;
    }
    assert_non_null(pg->half);
    assert_true(pg->received_count < STATEMENTS);
    const char *sql = pg->received[pg->received_count++] = pg->half;
    pg->half = NULL;
    if (server)
        server(pg, sql);
}

int PQflush(PGconn *pg)
{
    pg->flushes++;
    if (pg->status != CONNECTION_OK || pg->fail_flush)
        return -1;
    struct command *c;
    while (!pg->blocked && (c = first_command(&pg->unsent))) {
        evpq__node_unlink(&c->node);
        server_receives(pg, c);
        free(c->sql);
        free(c);
    }
    if (evpq__list_empty(&pg->unsent))
        return 0;
    /* Who cannot write reads, so that both sides do not wait for each other. */
    read_network(pg);
    return 1;
}

/* Reading */

static void lose(PGconn *pg, const struct message *m)
{
    pg->status = CONNECTION_BAD;
    set_error(pg, m->text);
    drop_commands(&pg->commands);
    drop_commands(&pg->unsent);
    if (m->closes)
        close_socket(pg);
}

static void read_network(PGconn *pg)
{
    if (pg->fd >= 0)
        fake_socket_quiet(pg->fd, EVPQ__READ);
    struct message *m;
    while (pg->status == CONNECTION_OK && (m = first_message(&pg->network))) {
        evpq__node_unlink(&m->node);
        evpq__list_push_back(&pg->input, &m->node);
        if (m->kind == SAYS_LOSS && !m->later) {
            lose(pg, m);
            message_free(m);
        }
    }
}

int PQconsumeInput(PGconn *pg)
{
    if (pg->status != CONNECTION_OK)
        return 0;
    read_network(pg);
    return pg->status == CONNECTION_OK;
}

/* Looks at what has been read, as far as libpq would without being asked for the result. */
static void parse(PGconn *pg)
{
    struct message *m;
    while ((pg->async == ASYNC_IDLE || pg->async == ASYNC_BUSY) &&
           (m = first_message(&pg->input))) {
        if (m->kind == SAYS_NOTICE) {
            if (pg->receiver)
                pg->receiver(pg->receiver_arg, m->result);
        } else if (m->kind == SAYS_NOTIFICATION) {
            pg->notifications++;
        } else if (m->kind == SAYS_LOSS) {
            lose(pg, m);
        } else {
            pg->ready = m->result;
            m->result = NULL;
            pg->async = ASYNC_READY;
            if (m->kind == SAYS_SYNC)
                pg->transaction = m->transaction;
        }
        message_free(m);
    }
}

int PQisBusy(PGconn *pg)
{
    parse(pg);
    return pg->status == CONNECTION_OK && pg->async == ASYNC_BUSY;
}

static void pop_command(PGconn *pg)
{
    struct command *c = first_command(&pg->commands);
    if (!c)
        return;
    evpq__node_unlink(&c->node);
    free(c);
}

static void next_command(PGconn *pg)
{
    pg->async = evpq__list_empty(&pg->commands) ? ASYNC_IDLE : ASYNC_BUSY;
}

PGresult *PQgetResult(PGconn *pg)
{
    gets++;
    parse(pg);
    if (pg->async == ASYNC_PIPELINE_IDLE) {
        struct command *c = first_command(&pg->commands);
        /* An error may come for the Sync too, before its answer. */
        if (c && !c->sync)
            pop_command(pg);
        next_command(pg);
        return NULL;
    }
    if (pg->async != ASYNC_READY) {
        if (pg->async == ASYNC_BUSY && pg->status == CONNECTION_OK)
            fail_msg("PQgetResult() would block");
        return NULL;
    }
    PGresult *result = pg->ready;
    pg->ready = NULL;
    if (result->status == PGRES_PIPELINE_SYNC) {
        pop_command(pg);
        next_command(pg);
    } else {
        pg->async = ASYNC_PIPELINE_IDLE;
    }
    return result;
}

PGnotify *PQnotifies(PGconn *pg)
{
    parse(pg);
    if (pg->notifications == 0)
        return NULL;
    pg->notifications--;
    return calloc(1, sizeof(PGnotify));
}

/* Also of what the real libpq has made, which still reads connection strings. */
void PQfreemem(void *memory)
{
    free(memory);
}

/* The signal reaches the backend, if there still is one, and something runs there. */
void fake_pg_canceled(const PGconn *of)
{
    for (struct evpq__node *n = evpq__list_first(&conns); n; n = evpq__list_next(&conns, n)) {
        PGconn *pg = evpq__container_of(n, struct pg_conn, node);
        if (pg != of || pg->status != CONNECTION_OK || !fake_pg_waits(pg))
            continue;
        fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
        fake_says_sync(pg, pg->transaction == PQTRANS_IDLE ? PQTRANS_IDLE : PQTRANS_INERROR);
    }
}
