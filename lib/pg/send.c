/* SPDX-License-Identifier: MIT */
/*
 * Sending: a request becomes a segment of libpq's pipeline, ended by its Sync.
 *
 *   Close of evicted statements, the server's timeout, Prepare, the statement, Sync
 *
 * All but the statement and its Sync are there when needed; what comes ahead of
 * it are its *preludes*.
 */
#include <assert.h>
#include <stdio.h>

#include "pg/conn_parts.h"
#include "pg/pq.h"

static struct evpq__request *last_sent(const struct evpq__conn *conn)
{
    return evpq__container_of(conn->sent.head.prev, struct evpq__request, node);
}

/* The one that was sent before has no Sync: it shares the one of the next. */
static const struct evpq__request *joined_to(const struct evpq__conn *conn)
{
    return conn->in_flight > 0 && last_sent(conn)->joined ? last_sent(conn) : NULL;
}

/* In the transaction of the statement, so it is gone after it; or in the user's, until it ends. */
static bool send_timeout(struct evpq__conn *conn, PGTransactionStatusType transaction,
                         const char *milliseconds)
{
    if (transaction != PQTRANS_INTRANS) {
        /* SET LOCAL would make the server log a warning here. */
        return PQsendQueryParams(conn->pg, "SELECT set_config('statement_timeout',$1,true)", 1,
                                 NULL, &milliseconds, NULL, NULL, 0);
    }
    /* Not a SELECT: SET TRANSACTION has to come before the first one. */
    char sql[64];
    snprintf(sql, sizeof(sql), "SET LOCAL statement_timeout TO %s", milliseconds);
    return PQsendQueryParams(conn->pg, sql, 0, NULL, NULL, NULL, NULL, 0);
}

/* What is left of the deadline, less a tenth, so that the server is the first to stop. */
static uint32_t server_limit_ms(const struct evpq__conn *conn, const struct evpq__request *request)
{
    enum { MARGIN_MAX_MS = 100 };
    if (!request->server_timeout || request->deadline_us == EVPQ__NO_DEADLINE)
        return 0;
    int64_t left_ms = (request->deadline_us - evpq__loop_now(conn->loop)) / 1000;
    int64_t margin_ms = left_ms / 10 < MARGIN_MAX_MS ? left_ms / 10 : MARGIN_MAX_MS;
    int64_t limit_ms = left_ms - margin_ms;
    return limit_ms < 1 ? 1 : limit_ms > INT32_MAX ? INT32_MAX : (uint32_t)limit_ms;
}

/* The server's own limit, ahead of the statement and before the same Sync; `before`: joined to it,
 * or NULL. Several that are joined are limited once, by the first behind BEGIN. */
static bool send_limit(struct evpq__conn *conn, struct evpq__request *request,
                       const struct evpq__request *before, PGTransactionStatusType transaction)
{
    if (transaction == PQTRANS_IDLE)
        conn->local_timeout = false;
    request->limit_ms = 0;
    /* A failed transaction takes nothing but its end. */
    if (transaction == PQTRANS_INERROR || request->statement->kind == EVPQ__BEGINS)
        return true;
    if (before && before->statement->kind != EVPQ__BEGINS) {
        request->limit_ms = before->limit_ms;
        request->limit_us = before->limit_us;
        return true;
    }
    request->limit_ms = server_limit_ms(conn, request);
    if (request->limit_ms) {
        char milliseconds[16];
        snprintf(milliseconds, sizeof(milliseconds), "%u", request->limit_ms);
        request->limit_us = evpq__loop_now(conn->loop) + (int64_t)request->limit_ms * 1000;
        request->preludes++;
        conn->local_timeout = transaction == PQTRANS_INTRANS;
        return send_timeout(conn, transaction, milliseconds);
    }
    if (!conn->local_timeout)
        return true;
    conn->local_timeout = false;
    request->preludes++;
    return send_timeout(conn, transaction, "DEFAULT");
}

/* Prepared statements */

static void deallocated(struct evpq__request *request, struct evpq_result *result,
                        struct evpq_error *error)
{
    (void)request, (void)error;
    evpq_result_free(result);
}

void evpq__send_init(struct evpq__conn *conn)
{
    conn->deallocation.done = deallocated;
    conn->deallocation.statement = &conn->deallocate;
    conn->deallocation.prepare = conn->cleaning.prepare = EVPQ_OFF;
    evpq__node_init(&conn->deallocation.node);
}

/*
 * A new one, if its Prepare can go now and what it evicts can be closed. libpq
 * has a message for that since 17. Before, it takes a statement of its own with
 * a Sync of its own, for it may fail; so it is one at a time, and not in a
 * transaction.
 */
static struct evpq__prepared *new_prepared(struct evpq__conn *conn,
                                           struct evpq__statement *statement)
{
    struct evpq__cache *cache = &conn->statements;
    if (evpq__pq_has_close_prepared())
        return evpq__cache_add(cache, statement, SIZE_MAX);
    /* It may be one of those whose end the server has still to hear of. */
    return evpq__list_empty(&cache->closing) ? evpq__cache_add(cache, statement, 1) : NULL;
}

/* Chooses between its prepared statement, a new one, and none. */
static void choose_statement(struct evpq__conn *conn, struct evpq__request *request,
                             PGTransactionStatusType transaction)
{
    struct evpq__cache *cache = &conn->statements;
    if (cache->max_count == 0 || request->prepare == EVPQ_OFF || request->again)
        return;
    struct evpq__statement *statement = request->statement;
    struct evpq__prepared *prepared = evpq__cache_find(cache, statement);
    if (!prepared) {
        /* One that has been used once may never be again. */
        if ((request->prepare != EVPQ_ON && !evpq__cache_seen(cache, statement->hash)) ||
            transaction == PQTRANS_INERROR)
            return;
        prepared = new_prepared(conn, statement);
        request->prepares = prepared != NULL;
    } else if (prepared->state != EVPQ__PREPARED_READY && !joined_to(conn)) {
        /* Its Prepare is on the way with another request, and may fail with that. */
        return;
    }
    request->prepared = prepared;
    if (prepared)
        evpq__prepared_ref(prepared);
}

/* What was evicted, ahead of the statement: it cannot fail. */
static bool send_closes(struct evpq__conn *conn, struct evpq__request *request)
{
    struct evpq__prepared *gone;
    while (evpq__pq_has_close_prepared() && (gone = evpq__cache_next_close(&conn->statements))) {
        bool ok = PQsendClosePrepared(conn->pg, gone->name);
        evpq__prepared_unref(gone);
        if (!ok)
            return false;
        request->preludes++;
    }
    return true;
}

static bool send_prepare(struct evpq__conn *conn, struct evpq__request *request)
{
    const struct evpq__statement *s = request->statement;
    if (!request->prepares)
        return true;
    request->preludes++;
    return PQsendPrepare(conn->pg, request->prepared->name, s->sql, s->count, s->types);
}

static bool send_statement(struct evpq__conn *conn, const struct evpq__request *request)
{
    const struct evpq__statement *s = request->statement;
    const struct evpq__params *p = &request->params;
    if (request->prepared)
        return PQsendQueryPrepared(conn->pg, request->prepared->name, s->count, p->values,
                                   p->lengths, p->formats, request->binary_result);
    return PQsendQueryParams(conn->pg, s->sql, s->count, s->types, p->values, p->lengths,
                             p->formats, request->binary_result);
}

/* Requests */

static void enter_pipeline(struct evpq__conn *conn, struct evpq__request *request)
{
    evpq__node_unlink(&request->node);
    evpq__list_push_back(&conn->sent, &request->node);
    if (conn->in_flight++ == 0)
        conn->told = 0;
    conn->streams += request->chunks.rows > 0;
    request->in_flight = true;
    request->abandoned = request->cancel_tried = request->victim = request->stale = false;
    request->exposed = false;
    request->failed = request->chunks.mode_set = false;
    request->chunks.affected = 0;
    request->preludes = 0;
    request->limit_ms = 0;
    if (conn->in_flight == 1)
        evpq__conn_head_begin(conn);
}

/* Where libpq has no message for it: what was evicted before. */
static bool send_deallocation(struct evpq__conn *conn, PGTransactionStatusType transaction)
{
    struct evpq__prepared *gone = NULL;
    bool possible = !evpq__pq_has_close_prepared() &&
                    !evpq__node_linked(&conn->deallocation.node) &&
                    transaction != PQTRANS_INTRANS && transaction != PQTRANS_INERROR;
    if (possible)
        gone = evpq__cache_next_close(&conn->statements);
    if (!gone)
        return true;
    snprintf(conn->deallocate_sql, sizeof(conn->deallocate_sql), "DEALLOCATE %s", gone->name);
    evpq__prepared_unref(gone);
    conn->deallocate.sql = conn->deallocate_sql;
    enter_pipeline(conn, &conn->deallocation);
    return send_statement(conn, &conn->deallocation) && evpq__pq_send_sync(conn->pg);
}

/*
 * libpq does not tell while something is in flight. What is joined is in its own
 * transaction, whose BEGIN has gone ahead; what else is in flight changes none.
 */
static PGTransactionStatusType transaction_of(struct evpq__conn *conn, bool joined)
{
    if (joined)
        return PQTRANS_INTRANS;
    if (conn->in_flight == 0)
        conn->transaction = PQtransactionStatus(conn->pg);
    return conn->transaction;
}

/* False: libpq has taken a part at most, and nothing can be said of the rest. */
static bool send_request(struct evpq__conn *conn, struct evpq__request *request)
{
    const struct evpq__request *before = joined_to(conn);
    PGTransactionStatusType transaction = transaction_of(conn, before != NULL);
    if (request->sent && !request->again)
        request->sent(request);
    conn->used = true;
    if (!before && !send_deallocation(conn, transaction))
        return false;
    choose_statement(conn, request, transaction);
    enter_pipeline(conn, request);
    return send_closes(conn, request) && send_limit(conn, request, before, transaction) &&
           send_prepare(conn, request) && send_statement(conn, request) &&
           (request->joined || evpq__pq_send_sync(conn->pg));
}

static bool in_batch(const struct evpq__conn *conn, const struct evpq__request *request)
{
    return request->batch && conn->in_flight > 0 && last_sent(conn)->batch == request->batch;
}

/* It has no effect, and goes again: what is behind it has to wait. */
static bool is_lost(const struct evpq__conn *conn, const struct evpq__request *request)
{
    return request->prepared && request->prepared->state == EVPQ__PREPARED_GONE &&
           !request->joined && conn->transaction != PQTRANS_INTRANS;
}

static bool may_send(const struct evpq__conn *conn, const struct evpq__request *request)
{
    if (conn->unsent || conn->notices->fatal || PQstatus(conn->pg) != CONNECTION_OK)
        return false;
    bool goes_along = in_batch(conn, request);
    if (goes_along && is_lost(conn, last_sent(conn)))
        return false;
    if (!goes_along && conn->in_flight >= conn->rules->depth)
        return false;
    if (!goes_along && conn->in_flight > 0 && (request->alone || last_sent(conn)->alone))
        return false;
    return conn->state == EVPQ__CONN_BUSY || request == &conn->cleaning;
}

/* Bytes of a request of a batch, about. */
static size_t size_of(const struct evpq__request *request)
{
    const struct evpq__params *params = &request->params;
    size_t size = request->statement->sql_length;
    for (int i = 0; request->batch && i < params->count; i++)
        size += (size_t)params->lengths[i];
    return request->batch ? size : 0;
}

static bool flush(struct evpq__conn *conn)
{
    int unsent = PQflush(conn->pg);
    conn->unsent = unsent > 0;
    return unsent >= 0;
}

/* With a full socket libpq would keep, and try to send, all that it is given: so it gets no more
 * than this between two flushes. */
enum { FLUSH_BYTES = 64 * 1024 };

/* False: the connection cannot go on. */
static bool send_some(struct evpq__conn *conn, bool *more)
{
    size_t bytes = 0;
    struct evpq__node *node;
    while (bytes < FLUSH_BYTES && (node = evpq__list_first(&conn->queued))) {
        struct evpq__request *request = evpq__container_of(node, struct evpq__request, node);
        if (!may_send(conn, request))
            break;
        if (request->joined && conn->in_flight == 0 &&
            PQtransactionStatus(conn->pg) != PQTRANS_IDLE) {
            evpq__segment_refuse(conn);
            continue;
        }
        bytes += size_of(request);
        if (!send_request(conn, request))
            return false;
    }
    *more = bytes >= FLUSH_BYTES;
    return true;
}

bool evpq__conn_may_repeat(const struct evpq__conn *conn, const struct evpq__request *request)
{
    return request->stale && conn->transaction == PQTRANS_IDLE && evpq__conn_alive(conn);
}

void evpq__conn_repeat(struct evpq__conn *conn, struct evpq__request *request)
{
    assert(conn->state < EVPQ__CONN_CLOSING);
    request->again = request->stale;
    request->stale = false;
    evpq__list_push_front(&conn->queued, &request->node);
    if (conn->state == EVPQ__CONN_IDLE)
        evpq__conn_enter(conn, EVPQ__CONN_BUSY);
    evpq__conn_post_pump(conn);
}

bool evpq__send_queued(struct evpq__conn *conn)
{
    if (conn->unsent && !flush(conn))
        return false;
    for (bool more = true; more && !conn->unsent;)
        if (!send_some(conn, &more) || !flush(conn))
            return false;
    return true;
}
