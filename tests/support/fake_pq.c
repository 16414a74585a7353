/* SPDX-License-Identifier: MIT */
#include "support/fake_pq.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "pg/pq.h"
#include "support/fake_loop.h"
#include "support/fake_pq_private.h"

enum { FIRST_FD = 100, FAKE_UTF8 = 6 };

static struct evpq__list conns;
static int alive, gets, next_fd, version;

void fake_pq_reset(void)
{
    evpq__list_init(&conns);
    fake_pq_cancel_reset();
    fake_pq_socket_reset();
    alive = gets = 0;
    next_fd = FIRST_FD;
    version = 170006;
    fake_server(NULL);
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

/* ---- connections ---- */

PGconn *fake_pg_new(void)
{
    PGconn *pg = fake_pq_make(sizeof(*pg));
    pg->fd = fake_pq_next_fd();
    pg->status = CONNECTION_OK;
    pg->encoding = FAKE_UTF8;
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

const char *fake_pg_prelude(const PGconn *pg)
{
    return pg->prelude ? pg->prelude : "";
}

void fake_pg_parameter(PGconn *pg, const char *name, const char *value)
{
    if (strcmp(name, "client_encoding") == 0)
        pg->encoding = strcmp(value, "UTF8") == 0 ? FAKE_UTF8 : FAKE_UTF8 + 1;
    for (size_t i = 0; i < sizeof(pg->parameters) / sizeof(pg->parameters[0]); i++) {
        if (pg->parameters[i].name[0] && strcmp(pg->parameters[i].name, name) != 0)
            continue;
        snprintf(pg->parameters[i].name, sizeof(pg->parameters[i].name), "%s", name);
        snprintf(pg->parameters[i].value, sizeof(pg->parameters[i].value), "%s", value);
        return;
    }
    fail_msg("no room for one more parameter");
}

const char *PQparameterStatus(const PGconn *pg, const char *name)
{
    for (size_t i = 0; i < sizeof(pg->parameters) / sizeof(pg->parameters[0]); i++)
        if (strcmp(pg->parameters[i].name, name) == 0)
            return pg->parameters[i].value;
    return NULL;
}

int PQclientEncoding(const PGconn *pg)
{
    return pg->encoding;
}

const char *pg_encoding_to_char(int encoding)
{
    return encoding == FAKE_UTF8 ? "UTF8" : "SJIS";
}

int PQbackendPID(const PGconn *pg)
{
    return 1000 + pg->fd;
}

/* In place of the C library's: a look at what waits in the network, or one message of it. */
ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    (void)buffer, (void)size;
    for (struct evpq__node *n = evpq__list_first(&conns); n; n = evpq__list_next(&conns, n)) {
        struct pg_conn *pg = evpq__container_of(n, struct pg_conn, node);
        struct message *m = pg->fd == fd ? first_message(&pg->network) : NULL;
        if (!m)
            continue;
        bool lost = m->kind == SAYS_LOSS;
        if (!lost && !(flags & MSG_PEEK)) {
            message_free(m);
            if (evpq__list_empty(&pg->network))
                fake_socket_quiet(fd, EVPQ__READ);
        }
        return !lost;
    }
    errno = fake_pq_socket_error();
    return -1;
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
    pg->error = fake_copy(text);
}

void fake_pg_notes_error(PGconn *pg, const char *text)
{
    set_error(pg, text);
    fake_says_notification(pg);
}

static struct command *first_command(struct evpq__list *list)
{
    struct evpq__node *node = evpq__list_first(list);
    return node ? evpq__container_of(node, struct command, node) : NULL;
}

static void command_free(struct command *c)
{
    evpq__node_unlink(&c->node);
    free(c->sql);
    free(c->name);
    free(c);
}

static void drop_commands(struct evpq__list *list)
{
    struct command *c;
    while ((c = first_command(list)))
        command_free(c);
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
    free(pg->prelude);
    fake_pg_forget_prepared(pg);
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

static void add_command(struct evpq__list *list, enum command_kind kind, const char *name,
                        const char *sql)
{
    struct command *c = calloc(1, sizeof(*c));
    assert_non_null(c);
    c->kind = kind;
    c->name = fake_copy(name);
    c->sql = fake_copy(sql);
    evpq__list_push_back(list, &c->node);
}

static int queue_command(PGconn *pg, enum command_kind kind, const char *name, const char *sql)
{
    add_command(&pg->commands, kind, NULL, NULL);
    add_command(&pg->unsent, kind, name, sql);
    if (pg->async == ASYNC_IDLE)
        pg->async = ASYNC_BUSY;
    return 1;
}

static int send_command(PGconn *pg, enum command_kind kind, const char *name, const char *sql)
{
    if (pg->status != CONNECTION_OK || pg->fail_send) {
        set_error(pg, "out of memory\n");
        return 0;
    }
    return queue_command(pg, kind, name, sql);
}

int PQsendQueryParams(PGconn *pg, const char *sql, int count, const Oid *types,
                      const char *const *values, const int *lengths, const int *formats,
                      int result_format)
{
    (void)count, (void)types, (void)values, (void)lengths, (void)formats, (void)result_format;
    return send_command(pg, QUERY, NULL, sql);
}

int PQsendPrepare(PGconn *pg, const char *name, const char *sql, int count, const Oid *types)
{
    (void)count, (void)types;
    return send_command(pg, PREPARE, name, sql);
}

int PQsendQueryPrepared(PGconn *pg, const char *name, int count, const char *const *values,
                        const int *lengths, const int *formats, int result_format)
{
    (void)count, (void)values, (void)lengths, (void)formats, (void)result_format;
    return send_command(pg, EXECUTE, name, NULL);
}

int PQsendClosePrepared(PGconn *pg, const char *name)
{
    return send_command(pg, CLOSE, name, NULL);
}

int PQsendPipelineSync(PGconn *pg)
{
    if (pg->status != CONNECTION_OK || pg->fail_sync)
        return 0;
    return queue_command(pg, SYNC, NULL, NULL);
}

int PQpipelineSync(PGconn *pg)
{
    return PQsendPipelineSync(pg);
}

static void read_network(PGconn *pg);

int PQflush(PGconn *pg)
{
    pg->flushes++;
    if (pg->status != CONNECTION_OK || pg->fail_flush)
        return -1;
    struct command *c;
    while (!pg->blocked && (c = first_command(&pg->unsent))) {
        fake_pq_server_receives(pg, c);
        command_free(c);
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
            pg->ready_goes_on = m->goes_on;
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
    command_free(c);
    pg->row_mode = 0;
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
        if (c && c->kind != SYNC)
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
    if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
        pop_command(pg);
        next_command(pg);
    } else {
        pg->async = pg->ready_goes_on ? ASYNC_BUSY : ASYNC_PIPELINE_IDLE;
    }
    return result;
}

static int set_row_mode(PGconn *pg, int mode)
{
    struct command *c = first_command(&pg->commands);
    if (pg->async != ASYNC_BUSY || !c || (c->kind != QUERY && c->kind != EXECUTE))
        return 0;
    pg->row_mode = mode;
    return 1;
}

int PQsetSingleRowMode(PGconn *pg)
{
    return set_row_mode(pg, 1);
}

int PQsetChunkedRowsMode(PGconn *pg, int rows)
{
    return set_row_mode(pg, rows);
}

int fake_pg_row_mode(const PGconn *pg)
{
    return pg->row_mode;
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
        pg->hangs = pg->open = false;
        fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
        fake_says_sync(pg, pg->transaction == PQTRANS_IDLE ? PQTRANS_IDLE : PQTRANS_INERROR);
    }
}
