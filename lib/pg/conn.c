/* SPDX-License-Identifier: MIT */
/*
 * Answers, and when to send. The machine is drawn in conn_parts.h.
 *
 * Work that talks to libpq is done in the handlers of socket, timer and the
 * pump task; what the owner calls only changes lists and posts the pump. The
 * pump runs right before the loop blocks, so that all of one turn is flushed
 * at once.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "pg/conn_parts.h"
#include "pg/pq.h"

/* What a server may say to an idle connection: notices, notifications, parameters. */
enum { IDLE_BYTES = 1024 * 1024 };

#define TO(state) (1u << EVPQ__CONN_##state)
static const unsigned legal_moves[EVPQ__CONN_STATES] = {
    [EVPQ__CONN_IDLE] = TO(BUSY) | TO(DRAINING) | TO(CLOSING),
    [EVPQ__CONN_BUSY] = TO(IDLE) | TO(DRAINING) | TO(CLOSING),
    [EVPQ__CONN_DRAINING] = TO(IDLE) | TO(BUSY) | TO(CLOSING),
    [EVPQ__CONN_CLOSING] = TO(CLOSED),
    [EVPQ__CONN_CLOSED] = 0,
};

static void conn_pump(struct evpq__task *task);
static void conn_on_io(struct evpq__io *io, int events);

void evpq__conn_enter(struct evpq__conn *conn, enum evpq__conn_state next)
{
    assert(legal_moves[conn->state] & (1u << next));
    conn->state = next;
    conn->idle_before = 0;
}

struct evpq__conn *evpq__conn_new(struct evpq__loop *loop, struct evpq__helper *helper,
                                  struct evpq__dialed *dialed, const struct evpq__conn_rules *rules,
                                  const struct evpq__conn_class *class_, void *owner)
{
    struct evpq__conn *conn = evpq__alloc(sizeof(*conn));
    struct evpq__notices *notices = conn ? evpq__notices_new() : NULL;
    if (!notices) {
        evpq__free(conn);
        evpq__cancel_free(dialed->cancel);
        PQfinish(dialed->pg);
        return NULL;
    }
    *conn = (struct evpq__conn){
        .loop = loop,
        .helper = helper,
        .rules = rules,
        .class_ = class_,
        .owner = owner,
        .state = EVPQ__CONN_IDLE,
        .pg = dialed->pg,
        .backend_pid = PQbackendPID(dialed->pg),
        .cancel = dialed->cancel,
        .notices = notices,
    };
    evpq__list_init(&conn->queued);
    evpq__list_init(&conn->sent);
    evpq__task_init(&conn->pump, conn_pump);
    evpq__io_init(&conn->io, conn_on_io);
    evpq__drain_init(conn);
    evpq__send_init(conn);
    bool pooled = dialed->notices & EVPQ__DIAL_POOLER;
    evpq__cache_init(&conn->statements, pooled ? rules->statements_pooled : rules->statements,
                     rules->statement_bytes);
    PQsetNoticeReceiver(conn->pg, evpq__notices_receive, notices);
    evpq__io_start(loop, &conn->io, PQsocket(conn->pg), EVPQ__READ);
    return conn;
}

void evpq__conn_free(struct evpq__conn *conn)
{
    if (!conn)
        return;
    assert(conn->state == EVPQ__CONN_CLOSED);
    if (conn->gone)
        *conn->gone = true;
    evpq__cache_done(&conn->statements);
    evpq__cancel_free(conn->cancel);
    evpq__notices_unref(conn->notices);
    evpq__free(conn);
}

/* What is known of it */

bool evpq__conn_alive(const struct evpq__conn *conn)
{
    return conn->state < EVPQ__CONN_CLOSING && !conn->why && PQstatus(conn->pg) == CONNECTION_OK &&
           !conn->notices->fatal;
}

bool evpq__conn_quiet(const struct evpq__conn *conn)
{
    char byte;
    ssize_t got = recv(PQsocket(conn->pg), &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

bool evpq__conn_worn(const struct evpq__conn *conn)
{
    return conn->worn;
}

bool evpq__conn_shares(const struct evpq__conn *conn, int64_t now_us)
{
    /* What has run for so long is a slow one, and nobody should stand behind it. */
    enum { SLOW_US = 3000 };
    return conn->state <= EVPQ__CONN_BUSY && !conn->unsent && !conn->worn &&
           (conn->in_flight == 0 || now_us - conn->head_since_us <= SLOW_US) &&
           evpq__conn_alive(conn);
}

bool evpq__conn_proven(const struct evpq__conn *conn)
{
    return conn->proven;
}

bool evpq__conn_in_standby(const struct evpq__conn *conn)
{
    return conn->pg && evpq__pq_in_standby(conn->pg);
}

bool evpq__conn_read_only(const struct evpq__conn *conn)
{
    return conn->pg && evpq__pq_read_only(conn->pg);
}

int evpq__conn_backend_pid(const struct evpq__conn *conn)
{
    return conn->backend_pid;
}

static const char why_broken[] = "broken";

bool evpq__conn_broken(const struct evpq__conn *conn)
{
    return conn->why == why_broken;
}

const char *evpq__conn_why(const struct evpq__conn *conn)
{
    return conn->why ? conn->why : "";
}

void evpq__conn_post_pump(struct evpq__conn *conn)
{
    if (conn->state < EVPQ__CONN_CLOSING)
        evpq__loop_post(conn->loop, EVPQ__FLUSH, &conn->pump);
}

void evpq__conn_close_for(struct evpq__conn *conn, const char *why)
{
    if (!conn->why)
        conn->why = why;
    evpq__conn_post_pump(conn);
}

void evpq__conn_close(struct evpq__conn *conn)
{
    evpq__conn_close_for(conn, "closed");
}

struct evpq__request *evpq__conn_head(struct evpq__conn *conn)
{
    struct evpq__node *first = evpq__list_first(&conn->sent);
    return first ? evpq__container_of(first, struct evpq__request, node) : NULL;
}

void evpq__conn_request_over(struct evpq__request *request, struct evpq_result *result,
                             struct evpq_error *error)
{
    request->in_flight = false;
    PQclear(request->answer);
    PQclear(request->chunks.like);
    evpq__rows_free(request->chunks.gathered);
    request->answer = request->chunks.like = NULL;
    request->chunks.gathered = NULL;
    evpq__prepared_unref(request->prepared);
    request->prepared = NULL;
    request->prepares = request->again = false;
    request->done(request, result, error);
    evpq__error_clear(error);
}

/* Answers */

/*
 * Is the error about the prepared statement, and not about what it says? Then
 * nothing has been run, and what we believe the server has was wrong.
 */
static bool is_stale(struct evpq__conn *conn, const struct evpq__request *head,
                     const PGresult *result, const char *sqlstate)
{
    struct evpq__cache *cache = &conn->statements;
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
    bool named = message && strstr(message, head->prepared->name);
    if (named && strcmp(sqlstate, "26000") == 0) {        /* invalid_sql_statement_name */
        if (head->prepared->state == EVPQ__PREPARED_GONE) /* one before it has said so */
            return true;
        /* Somebody has dropped it, and with it perhaps the others. */
        evpq__cache_drop(cache, head->prepared, false);
        evpq__cache_drop_all(cache);
        evpq__cache_strayed(cache);
        return true;
    }
    if (named && strcmp(sqlstate, "42P05") == 0) { /* duplicate_prepared_statement */
        /* Its name says what it is: one that was taken for lost with others. */
        evpq__cache_ready(head->prepared);
        evpq__cache_strayed(cache);
        return true;
    }
    /* feature_not_supported: "cached plan must not change result type" is one of many. */
    if (!head->prepares && strcmp(sqlstate, "0A000") == 0 &&
        (!function || strcmp(function, "RevalidateCachedQuery") == 0)) {
        evpq__cache_drop(cache, head->prepared, true);
        return true;
    }
    return false;
}

/* A failure that the server has not told. */
static bool is_libpqs(const PGresult *result)
{
    return PQresultStatus(result) == PGRES_FATAL_ERROR && !evpq__pq_severity(result);
}

/*
 * libpq has only its words for this. What it says else, while it holds the connection for good, is
 * that it has read what is no answer: of a peer that was cut in the middle of a row, say. In other
 * languages than English both are taken for that.
 */
static bool says_no_memory(const PGresult *result)
{
    return strstr(PQresultErrorMessage(result), "memory") != NULL;
}

/* The error as the server tells it, or as what we know of the request makes it. */
static void keep_failure(struct evpq__conn *conn, const PGresult *result)
{
    struct evpq__request *head = evpq__segment_now(conn);
    const char *severity = evpq__pq_severity(result);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    evpq_code code = EVPQ_EDISCONNECTED;
    evpq_fate fate = EVPQ_UNKNOWN;
    const char *message = NULL;
    /* An error refuses the statement; anything worse takes the session along, perhaps after a
     * commit. */
    if (severity && strcmp(severity, "ERROR") == 0) {
        code = EVPQ_ESERVER;
        fate = EVPQ_ROLLED_BACK;
    } else if (is_libpqs(result) && PQstatus(conn->pg) == CONNECTION_OK && says_no_memory(result)) {
        code = EVPQ_ENOMEM;
    }
    bool canceled = sqlstate && strcmp(sqlstate, "57014") == 0; /* query_canceled */
    if (canceled && head->limit_ms && evpq__loop_now(conn->loop) >= head->limit_us) {
        code = EVPQ_ETIMEOUT;
        message = "the server stopped the statement at the statement_timeout that evpq gave it";
    } else if (canceled && head->exposed && !head->abandoned) {
        head->victim = true;
    } else if (sqlstate && strcmp(sqlstate, "25001") == 0 && head->limit_ms && !head->joined &&
               conn->transaction == PQTRANS_IDLE) { /* in one of the user's it is as it says */
        message =
            "this statement cannot run with a statement_timeout of evpq's, which makes it part "
            "of a transaction: set its server_timeout, or that of its batch, to EVPQ_OFF";
    }
    if (sqlstate && head->prepared && conn->failure.code == EVPQ_OK)
        head->stale = is_stale(conn, head, result, sqlstate);
    evpq__result_error(&conn->failure, code, fate, result, message);
}

/* What is joined is committed when it is looked at: then it is handed over. */
static bool too_large(const struct evpq__request *request, const PGresult *answer)
{
    return request->max_bytes && !request->joined && answer && PQresultMemorySize(answer) > request->max_bytes;
}

static void set_too_large(const struct evpq__request *request, struct evpq_error *err)
{
    evpq__error_set(err, EVPQ_ETOOLARGE, EVPQ_UNKNOWN,
                    "the result is larger than max_result_bytes, %zu", request->max_bytes);
}

/* The server answers the COMMIT of a failed transaction with "ROLLBACK", and no error. */
void evpq__conn_check_commit(const struct evpq__request *request, PGresult *answer,
                             struct evpq_error *err)
{
    if (err->code != EVPQ_OK || !answer || request->statement->kind != EVPQ__COMMITS ||
        strcmp(PQcmdStatus(answer), "ROLLBACK") != 0)
        return;
    evpq__error_set_report(
        err, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
        &(struct evpq__server_report){
            .message = "the transaction had failed before: it was rolled back, not committed",
            .sqlstate = "25P02"}); /* in_failed_sql_transaction */
}

static void count_received(struct evpq__conn *conn)
{
    evpq__pq_count_received(conn->pg, &conn->received, conn->unread);
    conn->unread = evpq__pq_waiting(conn->pg);
}

/* A request that becomes the head: from here on its answer comes. */
void evpq__conn_head_begin(struct evpq__conn *conn)
{
    struct evpq__request *head = evpq__conn_head(conn);
    if (!head)
        return;
    conn->head_since_us = evpq__loop_turn_now(conn->loop);
    if (!head->max_bytes)
        return;
    count_received(conn);
    head->received_before = conn->received - conn->unread;
}

/* What the request has told of the statements that the server keeps. */
void evpq__conn_keep_statements(struct evpq__conn *conn, const struct evpq__request *request,
                                PGresult *answer)
{
    if (request->prepares && request->prepared->state == EVPQ__PREPARED_ASKED)
        evpq__cache_drop(&conn->statements, request->prepared, false);
    const char *tag = answer ? PQcmdStatus(answer) : "";
    if (tag[0] != 'D')
        return;
    if (strcmp(tag, "DISCARD ALL") == 0 || strcmp(tag, "DEALLOCATE ALL") == 0)
        evpq__cache_drop_all(&conn->statements);
}

/*
 * It failed for its prepared statement only, and goes again without, before all
 * others: once, and not in a transaction, which has failed with it.
 */
static bool runs_again(struct evpq__conn *conn, struct evpq__request *request)
{
    PGTransactionStatusType transaction = PQtransactionStatus(conn->pg);
    if (!request->stale || request->again || request->abandoned || request->batch ||
        transaction == PQTRANS_INTRANS || transaction == PQTRANS_INERROR)
        return false;
    evpq__prepared_unref(request->prepared);
    request->prepared = NULL;
    request->prepares = request->in_flight = false;
    request->again = true;
    evpq__list_push_front(&conn->queued, &request->node);
    evpq__conn_post_pump(conn);
    return true;
}

struct evpq_result *evpq__conn_outcome(struct evpq__conn *conn, const struct evpq__request *request,
                                       PGresult *answer, struct evpq_error *failure)
{
    if (failure->code == EVPQ_OK && too_large(request, answer))
        set_too_large(request, failure);
    evpq__conn_check_commit(request, answer, failure);
    conn->worn = conn->worn || (answer && PQresultMemorySize(answer) > EVPQ__WORN_BYTES);
    struct evpq_result *result = NULL;
    if (failure->code != EVPQ_OK || (answer && request->no_result)) {
        PQclear(answer);
    } else if (!answer) {
        evpq__error_set(failure, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN,
                        "the server ended the statement without a result");
    } else {
        result = evpq__result_new(answer, conn->notices);
        if (!result)
            evpq__error_set(failure, EVPQ_ENOMEM, EVPQ_UNKNOWN,
                            "the statement succeeded, but its result found no memory");
        else
            result->affected = request->chunks.affected;
    }
    return result;
}

void evpq__conn_take_head(struct evpq__conn *conn, struct evpq__request *head)
{
    evpq__node_unlink(&head->node);
    conn->in_flight--;
    conn->streams -= head->chunks.rows > 0;
}

void evpq__conn_next_head(struct evpq__conn *conn)
{
    if (conn->state == EVPQ__CONN_BUSY && conn->in_flight == 0 && evpq__list_empty(&conn->queued))
        evpq__conn_enter(conn, EVPQ__CONN_IDLE);
    evpq__conn_head_begin(conn);
}

/* The Sync of the head is answered: only now is its outcome final. */
static void head_over(struct evpq__conn *conn)
{
    struct evpq__request *request = evpq__conn_head(conn);
    PGresult *answer = conn->answer;
    struct evpq_error failure = conn->failure;
    conn->answer = NULL;
    conn->failure = (struct evpq_error){0};
    request->ran_us = evpq__loop_turn_now(conn->loop) - conn->head_since_us;
    evpq__conn_take_head(conn, request);
    evpq__conn_keep_statements(conn, request, answer);
    bool again = runs_again(conn, request);
    evpq__conn_next_head(conn);
    if (again) {
        PQclear(answer);
        evpq__error_clear(&failure);
        return;
    }
    request->failed = failure.code != EVPQ_OK;
    struct evpq_result *result = evpq__conn_outcome(conn, request, answer, &failure);
    evpq__conn_request_over(request, result, &failure);
}

/*
 * Where libpq found no memory it may have been for a Sync, whose place the next
 * one takes then: each answer would go to the statement before. And nothing is
 * believed of who does not speak the protocol.
 */
static bool loses_count(const struct evpq__conn *conn, const PGresult *result)
{
    return is_libpqs(result) && (conn->in_flight > 1 || !says_no_memory(result));
}

/* False: libpq and we disagree about what is under way, or it is something we cannot end. */
static bool take_result(struct evpq__conn *conn, PGresult *result)
{
    struct evpq__request *head = evpq__segment_now(conn);
    if (evpq__chunk_take(conn, head, result))
        return true;
    evpq__chunk_flush(conn);
    switch (PQresultStatus(result)) {
    case PGRES_PIPELINE_SYNC:
        PQclear(result);
        conn->proven = true;
        if (head && evpq__conn_head(conn)->joined)
            evpq__segment_over(conn);
        else if (head)
            head_over(conn);
        return head != NULL;
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        if (head && head->preludes > 0) {
            /* The last of them is its Prepare. */
            if (--head->preludes == 0 && head->prepares)
                evpq__cache_ready(head->prepared);
            PQclear(result);
            return true;
        }
        if (head && head->joined && !head->answer) {
            evpq__segment_answer(conn, head, result);
            return true;
        }
        if (head && !conn->answer) {
            conn->answer = result;
            return true;
        }
        break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        /* COPY (INSERT ... RETURNING ...) TO STDOUT: its Sync has gone along. */
        evpq__error_set(&conn->failure, EVPQ_EINVALID, EVPQ_UNKNOWN,
                        "COPY is not possible as a query");
        break;
    default:
        if (head)
            keep_failure(conn, result);
        bool lost_count = loses_count(conn, result);
        conn->told = strlen(PQerrorMessage(conn->pg));
        PQclear(result);
        return head != NULL && !lost_count;
    }
    PQclear(result);
    return false;
}

/*
 * Calls back whoever has his answer, one by one: libpq's results are large, and
 * many of them at once come from where malloc() is slow. False: the connection is
 * closed, or gone.
 */
static bool deliver(struct evpq__conn *conn)
{
    bool gone = false, *outer = conn->gone;
    conn->gone = &gone;
    evpq__loop_run_soon(conn->loop);
    if (gone) {
        if (outer)
            *outer = true;
        return false;
    }
    conn->gone = outer;
    return conn->state < EVPQ__CONN_CLOSING;
}

enum collected {
    COLLECTED,
    COLLECTED_BAD,  /* the connection cannot go on */
    COLLECTED_GONE, /* it is closed, or even freed: nothing may touch it */
};

static bool may_collect(struct evpq__conn *conn)
{
    if (evpq__chunk_held(conn))
        return false;
    evpq__chunk_set_mode(conn);
    return !PQisBusy(conn->pg);
}

/* Takes all that is complete; `now`: and delivers it. */
static enum collected conn_collect(struct evpq__conn *conn, bool now)
{
    /* Between two statements NULL comes once; twice in a row it means that there is nothing. */
    for (int nulls = 0; nulls < 2 && may_collect(conn);) {
        PGresult *result = PQgetResult(conn->pg);
        if (PQstatus(conn->pg) == CONNECTION_BAD) {
            evpq__chunk_flush(conn);
            if (result && PQresultStatus(result) == PGRES_FATAL_ERROR && evpq__conn_head(conn))
                keep_failure(conn, result);
            PQclear(result);
            return COLLECTED_BAD;
        }
        nulls = result ? 0 : nulls + 1;
        if (!result) {
            conn->told = strlen(PQerrorMessage(conn->pg)); /* it begins anew with each command */
            continue;
        }
        bool sync = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        if (!take_result(conn, result))
            return COLLECTED_BAD;
        if (sync && now && !deliver(conn))
            return COLLECTED_GONE;
        if (sync && conn->in_flight == 0)
            break;
    }
    evpq__chunk_flush(conn);
    PGnotify *notify;
    while ((notify = PQnotifies(conn->pg)))
        PQfreemem(notify);
    /*
     * A Sync whose result found no memory is only noted as an error by libpq, and never handed out:
     * it would be waited for until the deadline.
     */
    if (evpq__conn_head(conn) && !evpq__chunk_held(conn) && PQisBusy(conn->pg) &&
        strlen(PQerrorMessage(conn->pg)) > conn->told) {
        evpq__error_clear(&conn->failure);
        evpq__error_set(&conn->failure, EVPQ_ENOMEM, EVPQ_UNKNOWN, "libpq found no memory");
        return COLLECTED_BAD;
    }
    return PQstatus(conn->pg) == CONNECTION_OK ? COLLECTED : COLLECTED_BAD;
}

/*
 * The connection is bad. The server's last words may still be in libpq, and of
 * several errors the first tells most; anything else that comes now may be
 * made up (a SELECT ends as COMMAND_OK without rows) and is not believed.
 */
static void conn_broken(struct evpq__conn *conn)
{
    char message[512], sqlstate[6];
    /* Before libpq is asked for more: it would add that there is no socket any more. */
    evpq__pq_tidy_message(PQerrorMessage(conn->pg), message, sizeof(message), sqlstate);
    /* A bad connection has no socket to block on; the bound is against NULLs for ever. */
    for (size_t nulls = 0; nulls < 2 && PQsocket(conn->pg) < 0;) {
        PGresult *result = PQgetResult(conn->pg);
        if (result && PQresultStatus(result) == PGRES_FATAL_ERROR && evpq__conn_head(conn))
            keep_failure(conn, result);
        nulls = result ? 0 : nulls + 1;
        PQclear(result);
    }
    if (!message[0])
        evpq__pq_tidy_message(PQerrorMessage(conn->pg), message, sizeof(message), sqlstate);
    if (!conn->why)
        conn->why = why_broken;
    evpq__closing_begin(conn, message[0] ? message : "the connection was lost");
}

void evpq__conn_submit(struct evpq__conn *conn, struct evpq__request *request)
{
    assert(conn->state < EVPQ__CONN_CLOSING);
    evpq__list_push_back(&conn->queued, &request->node);
    if (conn->state == EVPQ__CONN_IDLE)
        evpq__conn_enter(conn, EVPQ__CONN_BUSY);
    evpq__conn_post_pump(conn);
}

void evpq__conn_hold(struct evpq__conn *conn, struct evpq__request *request, bool held)
{
    request->chunks.held = held;
    conn->hold_changed = true;
    evpq__conn_post_pump(conn);
}

/* The handlers */

/* What is held is not read: the server stops when the buffers between are full. */
static void watch(struct evpq__conn *conn)
{
    int events = conn->unsent ? EVPQ__READ | EVPQ__WRITE : EVPQ__READ;
    if (evpq__chunk_held(conn))
        evpq__io_stop(&conn->io);
    else if (!conn->io.loop)
        evpq__io_start(conn->loop, &conn->io, PQsocket(conn->pg), events);
    else
        evpq__io_change(&conn->io, events);
}

/* After each talk with libpq: is it still there, and what does it wait for? */
static void conn_after_libpq(struct evpq__conn *conn, bool ok)
{
    if (!ok || PQsocket(conn->pg) < 0 || PQstatus(conn->pg) == CONNECTION_BAD ||
        conn->notices->fatal) {
        /* libpq may have closed the descriptor: nobody must watch it any longer. */
        evpq__io_stop(&conn->io);
        conn_broken(conn);
        return;
    }
    watch(conn);
    evpq__drain_settle(conn);
}

static void conn_pump(struct evpq__task *task)
{
    struct evpq__conn *conn = evpq__container_of(task, struct evpq__conn, pump);
    /* Most of what was posted while the socket was read has gone with that. */
    if (conn->state <= EVPQ__CONN_BUSY && !conn->why && !conn->unsent && !conn->hold_changed &&
        evpq__list_empty(&conn->queued))
        return;
    bool ok = conn->why || evpq__send_queued(conn);
    /* A flush that could not write may have read. */
    if (ok && (conn->unsent || conn->hold_changed)) {
        ok = conn_collect(conn, false) == COLLECTED;
        /* The end of what was held may have been there, and others wait behind it. */
        if (ok && !conn->why && !conn->unsent && !evpq__list_empty(&conn->queued))
            ok = evpq__send_queued(conn);
    }
    conn->hold_changed = false;
    conn_after_libpq(conn, ok);
}

/* Others of its batch, with a Sync of their own, may be behind it. */
static bool goes_on(const struct evpq__request *head)
{
    return head->batch && !head->joined;
}

static bool counts_bytes(struct evpq__conn *conn)
{
    struct evpq__request *head = evpq__conn_head(conn);
    return conn->state == EVPQ__CONN_IDLE || (head && head->max_bytes);
}

static void stop_flood(struct evpq__conn *conn, const struct evpq__request *head)
{
    set_too_large(head, &conn->failure);
    evpq__drain_cancel(conn);
    evpq__conn_close_for(conn, "result too large");
}

/* Before it is read: has more come than was asked for? */
static void count_flood(struct evpq__conn *conn)
{
    if (!counts_bytes(conn))
        return;
    struct evpq__request *head = evpq__conn_head(conn);
    bool idle = conn->state == EVPQ__CONN_IDLE;
    count_received(conn);
    if (idle && conn->idle_before == 0)
        conn->idle_before = conn->received;
    if (idle && conn->received - conn->idle_before > IDLE_BYTES)
        evpq__conn_close_for(conn, "flooded while idle");
    else if (!idle && !goes_on(head) && conn->received - head->received_before > head->max_bytes)
        stop_flood(conn, head);
}

/* After it: what has been read of a head whose answers others follow is its own, as long as it is
 * not over. */
static void count_read(struct evpq__conn *conn)
{
    if (!counts_bytes(conn))
        return;
    struct evpq__request *head = evpq__conn_head(conn);
    conn->unread = evpq__pq_waiting(conn->pg);
    if (head && goes_on(head) &&
        conn->received - conn->unread > head->received_before + head->max_bytes)
        stop_flood(conn, head);
}

static void conn_on_io(struct evpq__io *io, int events)
{
    struct evpq__conn *conn = evpq__container_of(io, struct evpq__conn, io);
    if (conn->state == EVPQ__CONN_CLOSING) {
        evpq__closing_read(conn);
        return;
    }
    bool ok = true;
    if (events & EVPQ__READ)
        count_flood(conn);
    if ((events & EVPQ__READ) && !conn->why) {
        ok = evpq__pq_consume(conn->pg);
        /* Idle, the server has something to say: often its last words, with the end right behind.
         */
        if (ok && conn->state == EVPQ__CONN_IDLE)
            ok = evpq__pq_consume(conn->pg);
        enum collected collected = ok ? conn_collect(conn, true) : COLLECTED_BAD;
        if (collected == COLLECTED_GONE)
            return;
        ok = collected == COLLECTED;
        if (ok)
            count_read(conn);
    }
    if (ok && !conn->why && (conn->unsent || !evpq__list_empty(&conn->queued)))
        ok = evpq__send_queued(conn);
    conn_after_libpq(conn, ok);
}
