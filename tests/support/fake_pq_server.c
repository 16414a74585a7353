/* SPDX-License-Identifier: MIT */
/* The server's side of the fake libpq: what it says, and what it does with what reaches it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/fake_loop.h"
#include "support/fake_pq.h"
#include "support/fake_pq_private.h"

static fake_server_fn *server;
static bool by_statement;

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
    say(pg, SAYS_RESULT, fake_result_new(status, 0, pg->result_bytes));
}

void fake_says_tag(PGconn *pg, const char *tag)
{
    say(pg, SAYS_RESULT, fake_error_new(PGRES_COMMAND_OK, NULL, NULL, tag));
}

void fake_says_rows(PGconn *pg, int rows)
{
    say(pg, SAYS_RESULT, fake_result_new(PGRES_TUPLES_OK, rows, pg->result_bytes));
}

void fake_says_chunk(PGconn *pg, int rows)
{
    enum { TUPLES_CHUNK = 12 }; /* PGRES_TUPLES_CHUNK of libpq 17 */
    say(pg, SAYS_RESULT, fake_result_new((ExecStatusType)TUPLES_CHUNK, rows, pg->result_bytes))
        ->goes_on = true;
}

void fake_says_single_rows(PGconn *pg, int rows)
{
    for (; rows > 0; rows--)
        say(pg, SAYS_RESULT, fake_result_new(PGRES_SINGLE_TUPLE, 1, pg->result_bytes))->goes_on =
            true;
}

void fake_says_error(PGconn *pg, const char *severity, const char *sqlstate, const char *message)
{
    say(pg, SAYS_RESULT, fake_error_new(PGRES_FATAL_ERROR, severity, sqlstate, message));
}

void fake_says_sync(PGconn *pg, PGTransactionStatusType transaction)
{
    say(pg, SAYS_SYNC, fake_result_new(PGRES_PIPELINE_SYNC, 0, 0))->transaction = transaction;
}

void fake_says_notice(PGconn *pg, const char *severity, const char *sqlstate, const char *message)
{
    say(pg, SAYS_NOTICE, fake_error_new(PGRES_NONFATAL_ERROR, severity, sqlstate, message));
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
    m->text = fake_copy(text);
}

void fake_loses_later(PGconn *pg, const char *text)
{
    struct message *m = say(pg, SAYS_LOSS, NULL);
    m->closes = m->later = true;
    m->text = fake_copy(text);
}

void fake_server(fake_server_fn *now)
{
    server = now;
    by_statement = false;
}

void fake_server_statements(bool on)
{
    by_statement = on;
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

/* ---- what reaches it ---- */

static struct prepared *find_prepared(PGconn *pg, const char *name)
{
    struct prepared *found = NULL;
    for (int i = 0; i < PREPARED; i++) {
        const char *other = pg->prepared[i].name;
        if (name ? other && strcmp(other, name) == 0 : !other && !found)
            found = &pg->prepared[i];
    }
    return found;
}

static void forget(struct prepared *prepared)
{
    free(prepared->name);
    free(prepared->sql);
    *prepared = (struct prepared){0};
}

void fake_pg_forget_prepared(PGconn *pg)
{
    for (int i = 0; i < PREPARED; i++)
        forget(&pg->prepared[i]);
}

int fake_pg_prepared(const PGconn *pg)
{
    int count = 0;
    for (int i = 0; i < PREPARED; i++)
        count += pg->prepared[i].name != NULL;
    return count;
}

bool fake_pg_executed_prepared(const PGconn *pg)
{
    return pg->executed_prepared;
}

void fake_pg_refuse_prepare(PGconn *pg, const char *sqlstate)
{
    pg->refuse_prepare = sqlstate;
}

static void refuse(PGconn *pg, const char *sqlstate, const char *name)
{
    char message[128];
    snprintf(message, sizeof(message), "prepared statement \"%s\" is not as it should be", name);
    fake_says_error(pg, "ERROR", sqlstate, message);
    pg->aborted = true;
}

static void prepare(PGconn *pg, struct command *c)
{
    struct prepared *place = find_prepared(pg, NULL);
    const char *refused = find_prepared(pg, c->name) ? "42P05" : pg->refuse_prepare;
    if (refused) {
        refuse(pg, refused, c->name);
        return;
    }
    assert_non_null(place);
    *place = (struct prepared){c->name, c->sql};
    c->name = c->sql = NULL;
    fake_says(pg, PGRES_COMMAND_OK);
}

/* What travels ahead of a statement succeeds, unless it is a Prepare that is refused. */
static void prelude_succeeds(PGconn *pg)
{
    if (!pg->half)
        return;
    fake_says(pg, PGRES_COMMAND_OK);
    free(pg->prelude);
    pg->prelude = pg->half;
    pg->half = NULL;
}

static void fails(PGconn *pg, const char *sqlstate, const char *message)
{
    fake_says_error(pg, "ERROR", sqlstate, message);
    pg->aborted = true;
}

/* As fake_server_simple(), but for the Sync. */
static void answer_statement(PGconn *pg, const char *sql)
{
    bool ends = strcmp(sql, "COMMIT") == 0 || strcmp(sql, "ROLLBACK") == 0;
    if (ends)
        pg->open = false;
    if (strcmp(sql, "BEGIN") == 0)
        pg->open = true;
    if (strcmp(sql, "DIE") == 0) {
        fake_server_simple(pg, sql);
        pg->hangs = true;
    } else if (strcmp(sql, "HANG") == 0) {
        pg->hangs = true;
    } else if (strcmp(sql, "FAIL") == 0) {
        fails(pg, "22012", "division by zero");
    } else if (strcmp(sql, "COMMIT") == 0 && pg->defers) {
        fails(pg, "23503", "deferred");
    } else if (ends || strcmp(sql, "BEGIN") == 0) {
        fake_says(pg, PGRES_COMMAND_OK);
    } else {
        fake_says_rows(pg, 1);
    }
    pg->defers = strcmp(sql, "DEFER") == 0 || (pg->defers && !ends);
}

static void receive_statement(PGconn *pg, struct command *c)
{
    if (pg->hangs)
        return;
    if (c->kind == SYNC) {
        fake_says_sync(pg, !pg->open     ? PQTRANS_IDLE
                           : pg->aborted ? PQTRANS_INERROR
                                         : PQTRANS_INTRANS);
        pg->aborted = false;
        return;
    }
    assert_int_equal(c->kind, QUERY);
    assert_true(pg->received_count < STATEMENTS);
    pg->received[pg->received_count++] = fake_copy(c->sql);
    if (pg->aborted)
        fake_says(pg, PGRES_PIPELINE_ABORTED);
    else
        answer_statement(pg, c->sql);
}

static void server_syncs(PGconn *pg)
{
    if (pg->aborted)
        fake_says_sync(pg, pg->transaction == PQTRANS_IDLE ? PQTRANS_IDLE : PQTRANS_INERROR);
    pg->aborted = false;
    if (!pg->half)
        return;
    assert_true(pg->received_count < STATEMENTS);
    const char *sql = pg->received[pg->received_count++] = pg->half;
    pg->half = NULL;
    if (server)
        server(pg, sql);
}

void fake_pq_server_receives(PGconn *pg, struct command *c)
{
    if (by_statement) {
        receive_statement(pg, c);
        return;
    }
    if (c->kind == SYNC) {
        server_syncs(pg);
        return;
    }
    prelude_succeeds(pg);
    struct prepared *named = c->name ? find_prepared(pg, c->name) : NULL;
    if (pg->aborted) {
        fake_says(pg, PGRES_PIPELINE_ABORTED);
    } else if (c->kind == PREPARE) {
        prepare(pg, c);
    } else if (c->kind == CLOSE) {
        if (named)
            forget(named);
        fake_says(pg, PGRES_COMMAND_OK);
    } else if (c->kind == EXECUTE && !named) {
        refuse(pg, "26000", c->name);
    } else {
        pg->half = fake_copy(named ? named->sql : c->sql);
        pg->executed_prepared = named != NULL;
    }
}
