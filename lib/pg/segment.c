/* SPDX-License-Identifier: MIT */
/*
 * Several statements before one Sync: requests that are *joined*, each to the
 * next. They are one transaction, from its BEGIN to its COMMIT, and nothing else
 * is in flight with them.
 *
 *   sent:      BEGIN     INSERT    UPDATE    COMMIT Sync
 *              answered  answered  now       ...
 *
 * The answers come one after the other and are kept. When one is an error the
 * server skips the rest, and it stays at this one. What the Sync says is all of
 * theirs; only then are they over. Of a transaction that has failed the server
 * waits for the end: it is rolled back before anything else is sent.
 */
#include <assert.h>

#include "pg/conn_parts.h"

struct evpq__request *evpq__segment_now(const struct evpq__conn *conn)
{
    struct evpq__node *node = conn->answered ? evpq__list_next(&conn->sent, conn->answered)
                                             : evpq__list_first(&conn->sent);
    /* What comes while the next has not been sent is no answer; the last words, perhaps. */
    if (!node)
        node = conn->answered;
    return node ? evpq__container_of(node, struct evpq__request, node) : NULL;
}

void evpq__segment_answer(struct evpq__conn *conn, struct evpq__request *request, PGresult *answer)
{
    assert(request->joined && !request->answer);
    request->answer = answer;
    conn->answered = &request->node;
}

/* Those up to the first that is not joined to a next, which keeps what has come last. */
static void take_segment(struct evpq__conn *conn, struct evpq__list *over)
{
    for (bool joined = true; joined && conn->in_flight > 0;) {
        struct evpq__request *request = evpq__conn_head(conn);
        joined = request->joined;
        evpq__conn_take_head(conn, request);
        if (!joined)
            request->answer = conn->answer;
        evpq__conn_keep_statements(conn, request, request->answer);
        evpq__list_push_back(over, &request->node);
    }
    conn->answer = NULL;
    conn->answered = NULL;
}

static struct evpq__request *pop(struct evpq__list *list)
{
    struct evpq__node *node = evpq__list_pop_front(list);
    return node ? evpq__container_of(node, struct evpq__request, node) : NULL;
}

static void succeed(struct evpq__conn *conn, struct evpq__list *over)
{
    struct evpq__request *request;
    while ((request = pop(over))) {
        struct evpq_error failure = {0};
        PGresult *answer = request->answer;
        request->answer = NULL;
        struct evpq_result *result = evpq__conn_outcome(conn, request, answer, &failure);
        evpq__conn_request_over(request, result, &failure);
    }
}

/* The one that has failed has the error, the others know its code and fate. */
static void fail(struct evpq__list *over, struct evpq_error *failure)
{
    evpq_code code = failure->code;
    evpq_fate fate = failure->fate;
    struct evpq__request *request;
    while ((request = pop(over))) {
        struct evpq_error error = {0};
        if (request->failed)
            evpq__error_move(&error, failure);
        else
            evpq__error_set(&error, code, fate, "another statement of the transaction has failed");
        evpq__conn_request_over(request, NULL, &error);
    }
}

void evpq__segment_over(struct evpq__conn *conn)
{
    struct evpq_error failure = conn->failure;
    conn->failure = (struct evpq_error){0};
    struct evpq__request *now = evpq__segment_now(conn);
    now->failed = failure.code != EVPQ_OK; /* the server has skipped the rest */
    struct evpq__list over;
    evpq__list_init(&over);
    take_segment(conn, &over);
    evpq__conn_next_head(conn);
    struct evpq__request *last = evpq__container_of(over.head.prev, struct evpq__request, node);
    evpq__conn_check_commit(last, last->answer, &failure);
    if (failure.code != EVPQ_OK && !now->failed)
        last->failed = true;
    bool open = PQtransactionStatus(conn->pg) != PQTRANS_IDLE;
    if (failure.code == EVPQ_OK)
        succeed(conn, &over);
    else
        fail(&over, &failure);
    evpq__error_clear(&failure);
    if (open)
        evpq__drain_roll_back(conn);
}

void evpq__segment_refuse(struct evpq__conn *conn)
{
    struct evpq__request *request;
    bool joined;
    do {
        struct evpq_error error = {0};
        request = pop(&conn->queued);
        joined = request->joined;
        evpq__error_set(&error, EVPQ_EINVALID, EVPQ_NOT_SENT,
                        "a batch as one transaction, where one is open already");
        evpq__conn_request_over(request, NULL, &error);
    } while (joined);
    if (conn->state == EVPQ__CONN_BUSY && conn->in_flight == 0 && evpq__list_empty(&conn->queued))
        evpq__conn_enter(conn, EVPQ__CONN_IDLE);
}
