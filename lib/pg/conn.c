/* SPDX-License-Identifier: MIT */
/*
 *            submit              abandoned, or recycled unclean
 *   IDLE <===========> BUSY ----------------------> DRAINING
 *    |  last one done   |                            |    |
 *    |<-----------------|----------------------------+    | the bound, or
 *    |                  |     waited out, rolled back     | broken
 *    +------------------+-----> CLOSING <-----------------+
 *       broken, closed             |
 *                                  v  server and cancel request are done, or the bound
 *                               CLOSED
 *
 * DRAINING ends when the abandoned statement's Sync is answered *and* its
 * cancel request is over: a request that reaches the server late would hit
 * whatever runs then. One that reaches it too early, before the statement has
 * begun, is lost; so it is repeated until the statement has ended. What the
 * user left open is rolled back there too.
 *
 * CLOSING ends when the server has let go: it closes its end of the socket when
 * the backend no longer counts against any limit. Else a new connection could
 * be one too many. It has a bound, too.
 *
 * Work that talks to libpq is done in the handlers of socket, timer and the
 * pump task; what the owner calls only changes lists and posts the pump. The
 * pump runs right before the loop blocks, so that all of one turn is flushed
 * at once.
 */
#include "pg/conn.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "pg/pq.h"

/* A result above this leaves libpq with a buffer of that size for good. */
enum { WORN_BYTES = 8 * 1024 * 1024 };
/* The pause before a cancel request is repeated; doubled each time. */
enum { CANCEL_AGAIN_MS = 50 };
/* Statements of one connection in flight. */
enum { DEPTH = 1 };

enum conn_state {
    CONN_IDLE,     /* nothing queued, nothing in flight */
    CONN_BUSY,     /* requests queued or in flight */
    CONN_DRAINING, /* an abandoned request is waited out, or a transaction rolled back */
    CONN_CLOSING,  /* goodbye has been said; the server, or a cancel request, is not done */
    CONN_CLOSED,   /* the owner has been told */
    CONN_STATES,
};

#define TO(state) (1u << CONN_##state)
static const unsigned legal_moves[CONN_STATES] = {
    [CONN_IDLE] = TO(BUSY) | TO(DRAINING) | TO(CLOSING),
    [CONN_BUSY] = TO(IDLE) | TO(DRAINING) | TO(CLOSING),
    [CONN_DRAINING] = TO(IDLE) | TO(BUSY) | TO(CLOSING),
    [CONN_CLOSING] = TO(CLOSED),
    [CONN_CLOSED] = 0,
};

struct evpq__conn {
    struct evpq__loop *loop;
    struct evpq__helper *helper;
    const struct evpq__conn_class *class_;
    void *owner;
    enum conn_state state;
    uint32_t cancel_timeout_ms;
    PGconn *pg; /* NULL when the server has let go */
    struct evpq__cancel *cancel;
    struct evpq__notices *notices;
    struct evpq__io io;
    struct evpq__task pump, cancel_over;
    struct evpq__timer drain_limit;  /* runs in DRAINING and CLOSING */
    struct evpq__timer cancel_again; /* runs in DRAINING, between two requests */
    int64_t drain_until_us;
    uint32_t cancel_pause_ms;
    struct evpq__list queued, sent;
    size_t in_flight; /* length of sent */
    bool recycled;    /* given back by its user; DRAINING ends in `clean` */
    bool closing;     /* the pump is to close it */
    bool unsent;      /* libpq has bytes that the socket did not take */
    bool worn;

    /* What has come for the first of `sent`, before its Sync. */
    PGresult *answer;
    struct evpq_error failure;

    struct evpq__request rollback;
};

static void conn_pump(struct evpq__task *task);
static void conn_on_cancel_over(struct evpq__task *task);
static void conn_on_drain_limit(struct evpq__timer *timer);
static void conn_on_cancel_again(struct evpq__timer *timer);
static void conn_on_io(struct evpq__io *io, int events);
static void rollback_done(struct evpq__request *request, struct evpq_result *result,
                          struct evpq_error *error);

static void conn_enter(struct evpq__conn *conn, enum conn_state next)
{
    assert(legal_moves[conn->state] & (1u << next));
    conn->state = next;
}

struct evpq__conn *evpq__conn_new(struct evpq__loop *loop, struct evpq__helper *helper,
                                  struct evpq__dialed *dialed, uint32_t cancel_timeout_ms,
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
        .class_ = class_,
        .owner = owner,
        .state = CONN_IDLE,
        .cancel_timeout_ms = cancel_timeout_ms,
        .pg = dialed->pg,
        .cancel = dialed->cancel,
        .notices = notices,
        .rollback = {.statement = {.sql = "ROLLBACK"}, .done = rollback_done},
    };
    evpq__list_init(&conn->queued);
    evpq__list_init(&conn->sent);
    evpq__node_init(&conn->rollback.node);
    evpq__task_init(&conn->pump, conn_pump);
    evpq__task_init(&conn->cancel_over, conn_on_cancel_over);
    evpq__timer_init(&conn->drain_limit, conn_on_drain_limit);
    evpq__timer_init(&conn->cancel_again, conn_on_cancel_again);
    evpq__io_init(&conn->io, conn_on_io);
    PQsetNoticeReceiver(conn->pg, evpq__notices_receive, notices);
    evpq__io_start(loop, &conn->io, PQsocket(conn->pg), EVPQ__READ);
    return conn;
}

void evpq__conn_free(struct evpq__conn *conn)
{
    if (!conn)
        return;
    assert(conn->state == CONN_CLOSED);
    evpq__cancel_free(conn->cancel);
    evpq__notices_unref(conn->notices);
    evpq__free(conn);
}

bool evpq__conn_alive(const struct evpq__conn *conn)
{
    return conn->state < CONN_CLOSING && !conn->closing && PQstatus(conn->pg) == CONNECTION_OK &&
           !conn->notices->fatal;
}

bool evpq__conn_worn(const struct evpq__conn *conn)
{
    return conn->worn;
}

static void post_pump(struct evpq__conn *conn)
{
    if (conn->state < CONN_CLOSING)
        evpq__loop_post(conn->loop, EVPQ__FLUSH, &conn->pump);
}

/* Closing */

/* The end of `request`, which is on no list any more. */
static void request_over(struct evpq__request *request, struct evpq_result *result,
                         struct evpq_error *error)
{
    request->done(request, result, error);
    evpq__error_clear(error);
}

static void fail_all(struct evpq__list *requests, evpq_fate fate, const char *why)
{
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(requests))) {
        struct evpq_error error = {0};
        evpq__error_set(&error, EVPQ_EDISCONNECTED, fate, "%s", why);
        request_over(evpq__container_of(node, struct evpq__request, node), NULL, &error);
    }
}

static void drain_timers_stop(struct evpq__conn *conn)
{
    evpq__timer_stop(&conn->drain_limit);
    evpq__timer_stop(&conn->cancel_again);
}

/* Last in each handler: nothing may touch `conn` after it. */
static void closing_settle(struct evpq__conn *conn)
{
    if (conn->pg || evpq__cancel_running(conn->cancel))
        return;
    evpq__timer_stop(&conn->drain_limit);
    conn_enter(conn, CONN_CLOSED);
    evpq__loop_unpost(conn->loop, &conn->cancel_over);
    conn->class_->lost(conn->owner);
}

/*
 * The end of what we send. Not PQfinish(), which closes at once: the server is
 * to be the first. Terminate is the protocol's word for it (message formats,
 * 'X'); through TLS or GSS, where only libpq can speak, the end of the stream
 * means the same to the server. False: there is nobody to say it to.
 */
static bool say_goodbye(struct evpq__conn *conn)
{
    static const char terminate[] = {'X', 0, 0, 0, 4};
    int fd = PQsocket(conn->pg);
    if (fd < 0 || PQstatus(conn->pg) != CONNECTION_OK)
        return false;
    if (!conn->unsent && !PQsslInUse(conn->pg) && !PQgssEncInUse(conn->pg) &&
        send(fd, terminate, sizeof(terminate), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return false;
    return shutdown(fd, SHUT_WR) == 0;
}

static void hang_up(struct evpq__conn *conn)
{
    evpq__io_stop(&conn->io);
    PQfinish(conn->pg);
    conn->pg = NULL;
}

/* In CLOSING: whatever the server still says, until it hangs up. */
static void closing_read(struct evpq__conn *conn)
{
    char unread[16384];
    ssize_t got = recv(PQsocket(conn->pg), unread, sizeof(unread), MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    hang_up(conn);
    closing_settle(conn);
}

/* Everything under way is over, with what is known; nothing may touch `conn` after this. */
static void conn_finish(struct evpq__conn *conn, const char *why)
{
    conn_enter(conn, CONN_CLOSING);
    drain_timers_stop(conn);
    evpq__loop_unpost(conn->loop, &conn->pump);
    if (say_goodbye(conn)) {
        evpq__io_start(conn->loop, &conn->io, PQsocket(conn->pg), EVPQ__READ);
        evpq__timer_start(conn->loop, &conn->drain_limit,
                          evpq__loop_deadline(conn->loop, conn->cancel_timeout_ms));
    } else {
        hang_up(conn);
    }
    PQclear(conn->answer);
    conn->answer = NULL;
    struct evpq_error failure = conn->failure;
    conn->failure = (struct evpq_error){0};
    conn->in_flight = 0;
    if (failure.code != EVPQ_OK && !evpq__list_empty(&conn->sent))
        request_over(
            evpq__container_of(evpq__list_pop_front(&conn->sent), struct evpq__request, node), NULL,
            &failure);
    evpq__error_clear(&failure);
    fail_all(&conn->sent, EVPQ_UNKNOWN, why);
    fail_all(&conn->queued, EVPQ_NOT_SENT, why);
    closing_settle(conn);
}

static void keep_failure(struct evpq__conn *conn, const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    evpq_code code = EVPQ_EDISCONNECTED;
    evpq_fate fate = EVPQ_UNKNOWN;
    /* An error refuses the statement; anything worse takes the session along, perhaps after a
     * commit. */
    if (severity && strcmp(severity, "ERROR") == 0) {
        code = EVPQ_ESERVER;
        fate = EVPQ_ROLLED_BACK;
    } else if (!severity && PQstatus(conn->pg) == CONNECTION_OK) {
        /* libpq's own; while the connection lives it has only one reason. */
        code = EVPQ_ENOMEM;
    }
    evpq__result_error(&conn->failure, code, fate, result);
}

/*
 * The connection is bad. The server's last words may still be in libpq, and of
 * several errors the first tells most; anything else that comes now may be
 * made up (a SELECT ends as COMMAND_OK without rows) and is not believed.
 */
static void conn_broken(struct evpq__conn *conn)
{
    /* A bad connection has no socket to block on; the bound is against NULLs for ever. */
    for (size_t nulls = 0; nulls < 2 && PQsocket(conn->pg) < 0;) {
        PGresult *result = PQgetResult(conn->pg);
        if (result && PQresultStatus(result) == PGRES_FATAL_ERROR && !evpq__list_empty(&conn->sent))
            keep_failure(conn, result);
        nulls = result ? 0 : nulls + 1;
        PQclear(result);
    }
    char why[512], sqlstate[6];
    evpq__pq_tidy_message(PQerrorMessage(conn->pg), why, sizeof(why), sqlstate);
    conn_finish(conn, why[0] ? why : "the connection was lost");
}

void evpq__conn_close(struct evpq__conn *conn)
{
    conn->closing = true;
    post_pump(conn);
}

/* Answers */

static struct evpq__request *head(struct evpq__conn *conn)
{
    struct evpq__node *first = evpq__list_first(&conn->sent);
    return first ? evpq__container_of(first, struct evpq__request, node) : NULL;
}

/* The Sync of the head is answered: only now is its outcome final. */
static void head_over(struct evpq__conn *conn)
{
    struct evpq__request *request = head(conn);
    PGresult *answer = conn->answer;
    struct evpq_error failure = conn->failure;
    conn->answer = NULL;
    conn->failure = (struct evpq_error){0};
    evpq__node_unlink(&request->node);
    conn->in_flight--;
    if (conn->state == CONN_BUSY && conn->in_flight == 0 && evpq__list_empty(&conn->queued))
        conn_enter(conn, CONN_IDLE);
    struct evpq_result *result = NULL;
    if (failure.code != EVPQ_OK) {
        PQclear(answer);
    } else if (!answer) {
        evpq__error_set(&failure, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN,
                        "the server ended the statement without a result");
    } else {
        conn->worn = conn->worn || PQresultMemorySize(answer) > WORN_BYTES;
        result = evpq__result_new(answer, conn->notices);
        if (!result)
            evpq__error_set(&failure, EVPQ_ENOMEM, EVPQ_UNKNOWN,
                            "the statement succeeded, but its result found no memory");
    }
    request_over(request, result, &failure);
}

/* False: libpq and we disagree about what is under way, or it is something we cannot end. */
static bool take_result(struct evpq__conn *conn, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    bool expected = head(conn) != NULL;
    switch (status) {
    case PGRES_PIPELINE_SYNC:
        PQclear(result);
        if (expected)
            head_over(conn);
        return expected;
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        if (expected && !conn->answer) {
            conn->answer = result;
            return true;
        }
        break;
    case PGRES_COPY_IN:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
        evpq__error_set(&conn->failure, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "COPY is not possible as a query");
        break;
    default:
        if (expected)
            keep_failure(conn, result);
        PQclear(result);
        return expected;
    }
    PQclear(result);
    return false;
}

/* Takes all that is complete. False: the connection cannot go on. */
static bool conn_collect(struct evpq__conn *conn)
{
    /* Between two statements NULL comes once; twice in a row it means that there is nothing. */
    for (int nulls = 0; nulls < 2 && !PQisBusy(conn->pg);) {
        PGresult *result = PQgetResult(conn->pg);
        if (PQstatus(conn->pg) == CONNECTION_BAD) {
            if (result && PQresultStatus(result) == PGRES_FATAL_ERROR && head(conn))
                keep_failure(conn, result);
            PQclear(result);
            return false;
        }
        nulls = result ? 0 : nulls + 1;
        if (result && !take_result(conn, result))
            return false;
    }
    PGnotify *notify;
    while ((notify = PQnotifies(conn->pg)))
        PQfreemem(notify);
    return PQstatus(conn->pg) == CONNECTION_OK;
}

/* Sending */

/* False: libpq has taken a part at most, and nothing can be said of the rest. */
static bool send_request(struct evpq__conn *conn, struct evpq__request *request)
{
    const struct evpq__statement *s = &request->statement;
    if (request->sent)
        request->sent(request);
    evpq__node_unlink(&request->node);
    evpq__list_push_back(&conn->sent, &request->node);
    conn->in_flight++;
    return PQsendQueryParams(conn->pg, s->sql, s->params.count, s->params.types, s->params.values,
                             s->params.lengths, s->params.formats, s->binary_result) &&
           evpq__pq_send_sync(conn->pg);
}

static bool may_send(const struct evpq__conn *conn, const struct evpq__request *request)
{
    if (conn->unsent || conn->notices->fatal || conn->in_flight >= DEPTH)
        return false;
    return conn->state == CONN_BUSY || request == &conn->rollback;
}

static bool send_queued(struct evpq__conn *conn)
{
    struct evpq__node *node;
    while ((node = evpq__list_first(&conn->queued))) {
        struct evpq__request *request = evpq__container_of(node, struct evpq__request, node);
        if (!may_send(conn, request))
            break;
        if (!send_request(conn, request))
            return false;
    }
    int unsent = PQflush(conn->pg);
    conn->unsent = unsent > 0;
    return unsent >= 0;
}

/* Draining */

static void drain_begin(struct evpq__conn *conn)
{
    if (conn->state == CONN_DRAINING)
        return;
    conn_enter(conn, CONN_DRAINING);
    conn->drain_until_us = evpq__loop_deadline(conn->loop, conn->cancel_timeout_ms);
    conn->cancel_pause_ms = CANCEL_AGAIN_MS;
    evpq__timer_start(conn->loop, &conn->drain_limit, conn->drain_until_us);
}

/* Cancels what runs on the server, unless it is our own ROLLBACK. */
static void drain_cancel(struct evpq__conn *conn)
{
    if (!evpq__cancel_running(conn->cancel) && head(conn) && head(conn) != &conn->rollback)
        evpq__cancel_start(conn->cancel, conn->helper, conn->loop, conn->drain_until_us,
                           &conn->cancel_over);
}

static void conn_on_cancel_again(struct evpq__timer *timer)
{
    drain_cancel(evpq__container_of(timer, struct evpq__conn, cancel_again));
}

static void drain_end(struct evpq__conn *conn)
{
    drain_timers_stop(conn);
    if (evpq__list_empty(&conn->queued)) {
        conn_enter(conn, CONN_IDLE);
    } else {
        conn_enter(conn, CONN_BUSY);
        post_pump(conn);
    }
}

static bool outside_transaction(const struct evpq__conn *conn)
{
    return PQtransactionStatus(conn->pg) == PQTRANS_IDLE;
}

static void rollback_done(struct evpq__request *request, struct evpq_result *result,
                          struct evpq_error *error)
{
    struct evpq__conn *conn = evpq__container_of(request, struct evpq__conn, rollback);
    (void)error;
    if (!result || !outside_transaction(conn))
        conn->closing = true;
    evpq_result_free(result);
}

/* One step towards a clean connection, when the time has come for it. Last in each handler. */
static void conn_settle(struct evpq__conn *conn)
{
    if (conn->closing) {
        conn_finish(conn, "the connection was closed");
        return;
    }
    if (conn->state != CONN_DRAINING || conn->in_flight > 0 || evpq__cancel_running(conn->cancel))
        return;
    if (conn->recycled && !outside_transaction(conn)) {
        if (evpq__node_linked(&conn->rollback.node))
            return;
        evpq__list_push_back(&conn->queued, &conn->rollback.node);
        post_pump(conn);
        return;
    }
    drain_end(conn);
    if (conn->recycled) {
        conn->recycled = false;
        conn->class_->clean(conn->owner);
    }
}

static void conn_on_drain_limit(struct evpq__timer *timer)
{
    struct evpq__conn *conn = evpq__container_of(timer, struct evpq__conn, drain_limit);
    if (conn->state == CONN_CLOSING) {
        hang_up(conn);
        closing_settle(conn);
        return;
    }
    conn_finish(conn, "the server did not end a cancelled statement in time");
}

static void conn_on_cancel_over(struct evpq__task *task)
{
    struct evpq__conn *conn = evpq__container_of(task, struct evpq__conn, cancel_over);
    if (conn->state == CONN_CLOSING) {
        closing_settle(conn);
        return;
    }
    if (conn->state == CONN_DRAINING && conn->in_flight > 0) {
        evpq__timer_start(conn->loop, &conn->cancel_again,
                          evpq__loop_deadline(conn->loop, conn->cancel_pause_ms));
        conn->cancel_pause_ms *= 2;
    }
    conn_settle(conn);
}

/* The handlers */

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
    evpq__io_change(&conn->io, conn->unsent ? EVPQ__READ | EVPQ__WRITE : EVPQ__READ);
    conn_settle(conn);
}

static void conn_pump(struct evpq__task *task)
{
    struct evpq__conn *conn = evpq__container_of(task, struct evpq__conn, pump);
    bool ok = conn->closing || send_queued(conn);
    /* A flush that could not write may have read. */
    if (ok && conn->unsent)
        ok = conn_collect(conn);
    conn_after_libpq(conn, ok);
}

static void conn_on_io(struct evpq__io *io, int events)
{
    struct evpq__conn *conn = evpq__container_of(io, struct evpq__conn, io);
    if (conn->state == CONN_CLOSING) {
        closing_read(conn);
        return;
    }
    bool ok = true;
    if (events & EVPQ__READ) {
        ok = evpq__pq_consume(conn->pg);
        /* Idle, the server has something to say: often its last words, with the end right behind.
         */
        if (ok && conn->state == CONN_IDLE)
            ok = evpq__pq_consume(conn->pg);
        ok = ok && conn_collect(conn);
    }
    if (ok && (conn->unsent || !evpq__list_empty(&conn->queued)))
        ok = send_queued(conn);
    conn_after_libpq(conn, ok);
}

/* What the owner calls */

void evpq__conn_submit(struct evpq__conn *conn, struct evpq__request *request)
{
    assert(conn->state < CONN_CLOSING);
    evpq__list_push_back(&conn->queued, &request->node);
    if (conn->state == CONN_IDLE)
        conn_enter(conn, CONN_BUSY);
    post_pump(conn);
}

static bool is_sent(struct evpq__conn *conn, const struct evpq__request *request)
{
    struct evpq__node *node = evpq__list_first(&conn->sent);
    while (node && node != &request->node)
        node = evpq__list_next(&conn->sent, node);
    return node != NULL;
}

bool evpq__conn_abandon(struct evpq__conn *conn, struct evpq__request *request)
{
    assert(evpq__node_linked(&request->node));
    if (!is_sent(conn, request)) {
        evpq__node_unlink(&request->node);
        if (conn->state == CONN_BUSY && conn->in_flight == 0 && evpq__list_empty(&conn->queued))
            conn_enter(conn, CONN_IDLE);
        return true;
    }
    drain_begin(conn);
    if (conn->unsent)
        /* The server waits for the rest of it, and would for ever. */
        evpq__conn_close(conn);
    else
        drain_cancel(conn);
    return false;
}

bool evpq__conn_recycle(struct evpq__conn *conn)
{
    if (conn->state >= CONN_CLOSING)
        return false;
    if (conn->state == CONN_IDLE && outside_transaction(conn) && evpq__conn_alive(conn))
        return true;
    assert(evpq__list_empty(&conn->queued));
    conn->recycled = true;
    drain_begin(conn);
    post_pump(conn);
    return false;
}
