/* SPDX-License-Identifier: MIT */
/*
 * One statement as an operation. It waits for a slot, or in the line of its
 * lease; then its request is with the connection. Request and operation share
 * one block and end apart: the caller hears at its deadline, the request is
 * over when the server has let go.
 */
#include <string.h>

#include "base/mem.h"
#include "pool/pool.h"

/* Blocks that a pool keeps for the next statements, and their size at most; none where a tool looks
 * for use after free. */
enum { SPARE_BYTES = 1024 };
#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { SPARE_MAX = 0 };
#else
enum { SPARE_MAX = 256 };
#endif

struct query {
    struct evpq__waiter waiter;
    struct evpq__request request; /* with the connection while waiter.slot is set */
    struct evpq_lease *lease;     /* NULL: of the pool; and once it has finished */
    evpq_result_fn *on_result;
    void *user;
    struct evpq_result *result;
    size_t room; /* of the whole block */
};

struct spare {
    struct evpq__node node;
    size_t room;
};

static struct query *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct query, waiter.op);
}

/* Off the list it is on, and out of the line of its lease. */
static void query_unlink(struct query *q)
{
    evpq__node_unlink(&q->waiter.op.node);
    if (q->lease)
        q->lease->query_count--;
    q->lease = NULL;
}

/* The connection has let go of the request. */
static void query_off_slot(struct query *q, bool give_back)
{
    struct evpq__slot *slot = q->waiter.slot;
    q->waiter.slot = NULL;
    if (give_back)
        evpq__pool_give_back(slot);
    evpq__op_unref(&q->waiter.op);
}

static void request_sent(struct evpq__request *request)
{
    struct query *q = evpq__container_of(request, struct query, request);
    evpq__op_sent(&q->waiter.op);
    evpq__pool_trace_op(&q->waiter, EVPQ_TRACE_SENT, q->waiter.started_us);
}

/* It certainly had no effect, and may go to any connection: nobody needs to know. */
static bool may_rerun(const struct query *q, const struct evpq_error *error)
{
    bool not_sent = error->code == EVPQ_EDISCONNECTED && error->fate == EVPQ_NOT_SENT;
    return !q->lease && (not_sent || q->request.victim) &&
           q->waiter.pool->state <= EVPQ__POOL_DRAINING;
}

static void rerun(struct query *q)
{
    struct evpq__slot *slot = q->waiter.slot;
    evpq__node_unlink(&q->waiter.op.node);
    evpq__pool_reenter(&q->waiter);
    evpq__op_unref(&q->waiter.op);
    evpq__pool_give_back(slot);
}

static void request_done(struct evpq__request *request, struct evpq_result *result,
                         struct evpq_error *error)
{
    struct query *q = evpq__container_of(request, struct query, request);
    struct evpq_op *op = &q->waiter.op;
    evpq__statement_ran(request->statement, request->ran_us);
    if (evpq__op_finished(op)) {
        /* It was stopped before, and its slot has been given back then. */
        evpq_result_free(result);
        query_off_slot(q, false);
        return;
    }
    bool of_pool = !q->lease;
    if (!result && may_rerun(q, error)) {
        rerun(q);
        return;
    }
    q->result = result;
    if (!result) {
        if (strcmp(evpq_error_sqlstate(error), "25006") == 0) /* read_only_sql_transaction */
            evpq__pool_refused_write(q->waiter.slot, q->lease);
        evpq__error_move(&op->error, error);
    }
    query_unlink(q);
    evpq__op_finish(op);
    query_off_slot(q, of_pool);
}

static void query_on_slot(struct query *q)
{
    q->request.deadline_us = q->waiter.op.deadline_us;
    evpq__op_ref(&q->waiter.op);
    evpq__conn_submit(q->waiter.slot->conn, &q->request);
}

static void query_granted(struct evpq__waiter *waiter)
{
    evpq__list_push_back(&waiter->pool->running, &waiter->op.node);
    evpq__op_limit(&waiter->op, EVPQ__NO_DEADLINE);
    query_on_slot(of_op(&waiter->op));
}

static void set_stopped_error(struct query *q, evpq_code why, evpq_fate fate)
{
    struct evpq_error *err = &q->waiter.op.error;
    const char *where =
        fate == EVPQ_NOT_SENT ? "before the statement was sent" : "while the statement ran";
    if (why == EVPQ_ETIMEOUT)
        evpq__error_set(err, why, fate, "the deadline of %u ms passed %s", q->waiter.timeout_ms,
                        where);
    else
        evpq__error_set(err, why, fate, "%s %s", why == EVPQ_ECLOSED ? "closed" : "cancelled",
                        where);
}

static void query_stop(struct evpq_op *op, evpq_code why)
{
    struct query *q = of_op(op);
    struct evpq__slot *slot = q->waiter.slot;
    if (!slot) {
        evpq__pool_leave(&q->waiter, why);
        return;
    }
    bool of_pool = !q->lease;
    query_unlink(q);
    bool withdrawn = evpq__conn_abandon(slot->conn, &q->request);
    set_stopped_error(q, why, withdrawn ? EVPQ_NOT_SENT : EVPQ_UNKNOWN);
    if (withdrawn)
        query_off_slot(q, of_pool);
    else if (of_pool)
        evpq__pool_give_back(slot);
}

static void query_deliver(struct evpq_op *op)
{
    struct query *q = of_op(op);
    evpq__pool_count(&q->waiter);
    q->on_result(q->result, q->result ? NULL : &op->error, q->user);
}

/* `size` bytes; the query at their start is zero. */
static struct query *block_new(struct evpq_pool *pool, size_t size)
{
    struct evpq__node *node = evpq__list_first(&pool->spares);
    struct spare *spare = node ? evpq__container_of(node, struct spare, node) : NULL;
    struct query *q;
    if (spare && spare->room >= size) {
        size = spare->room;
        evpq__node_unlink(node);
        pool->spare_count--;
        q = (struct query *)(void *)spare;
        memset(q, 0, sizeof(*q));
    } else {
        q = evpq__alloc(size);
    }
    if (q)
        q->room = size;
    return q;
}

static void block_free(struct evpq_pool *pool, void *block, size_t room)
{
    if (room > SPARE_BYTES || pool->spare_count >= SPARE_MAX) {
        evpq__free(block);
        return;
    }
    struct spare *spare = block;
    spare->room = room;
    evpq__list_push_front(&pool->spares, &spare->node);
    pool->spare_count++;
}

void evpq__query_free_spares(struct evpq_pool *pool)
{
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(&pool->spares)))
        evpq__free(evpq__container_of(node, struct spare, node));
    pool->spare_count = 0;
}

static void query_destroy(struct evpq_op *op)
{
    struct query *q = of_op(op);
    struct evpq_pool *pool = q->waiter.pool;
    evpq__pass_end(q->waiter.pass);
    evpq_result_free(q->result);
    evpq__statement_unref(q->request.statement);
    block_free(pool, q, q->room);
    evpq__pool_op_gone(pool);
}

static const struct evpq__waiter_class query_class = {{query_stop, query_deliver, query_destroy},
                                                      query_granted};

size_t evpq__pool_result_limit(const struct evpq_pool *pool, size_t bytes)
{
    enum { LEAST = 4096 }; /* an empty result of libpq takes some 2 kB */
    if (bytes == 0)
        bytes = pool->options.max_result_bytes;
    return bytes == 0 || bytes > LEAST ? bytes : LEAST;
}

/* The query, its parameters and its tag, in one block. */
static struct query *query_new(struct evpq_pool *pool, const evpq_query *query, const char *tag,
                               evpq_result_fn *on_result, void *user)
{
    size_t params_size = evpq__params_size(query->params, query->params_count);
    size_t tag_length = tag ? strnlen(tag, EVPQ__TAG_SIZE - 1) : 0;
    struct evpq__statement *statement = evpq__statements_get(&pool->statements, query);
    if (!statement)
        return NULL;
    struct query *q = block_new(pool, evpq__aligned(sizeof(*q)) + params_size + tag_length + 1);
    if (!q) {
        evpq__statement_unref(statement);
        return NULL;
    }
    char *block = (char *)q + evpq__aligned(sizeof(*q));
    evpq__params_write(&q->request.params, block, query->params, query->params_count);
    if (tag_length) {
        q->waiter.tag = memcpy(block + params_size, tag, tag_length);
        block[params_size + tag_length] = '\0';
    }
    q->request.statement = statement;
    q->request.binary_result = evpq__query_binary(query);
    q->request.server_timeout = evpq__pool_server_timeout(pool, query->server_timeout);
    q->request.max_bytes = evpq__pool_result_limit(pool, query->max_result_bytes);
    q->request.prepare = query->prepare;
    evpq__node_init(&q->request.node);
    q->request.done = request_done;
    q->request.sent = request_sent;
    q->waiter.shares =
        q->request.max_bytes == 0 && statement->kind == EVPQ__ORDINARY && !statement->slow;
    q->on_result = on_result;
    q->user = user;
    return q;
}

int evpq__pool_query(evpq_op **out, struct evpq_pool *pool, const evpq_query *query, bool goes_on,
                     evpq_result_fn *on_result, void *user)
{
    evpq_query complete;
    if (!pool || !on_result || evpq__query_read(&complete, query))
        return EVPQ_EINVALID;
    struct evpq__pass *pass;
    int refused = evpq__pool_admit(&pass, pool, complete.tag, goes_on);
    if (refused)
        return refused;
    struct query *q = query_new(pool, &complete, complete.tag, on_result, user);
    if (!q) {
        evpq__pass_end(pass);
        return EVPQ_ENOMEM;
    }
    q->waiter.pass = pass;
    evpq__pool_enter(pool, &q->waiter, &query_class.op,
                     evpq__pool_timeout(pool, complete.timeout_ms),
                     pool->options.acquire_timeout_ms);
    if (out)
        *out = &q->waiter.op;
    return EVPQ_OK;
}

int evpq__pool_ask(evpq_op **out, struct evpq_pool *pool, const evpq_query *query,
                   evpq_result_fn *on_result, void *user)
{
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    struct query *q = query_new(pool, query, query->tag, on_result, user);
    if (!q)
        return EVPQ_ENOMEM;
    q->waiter.first = true;
    evpq__pool_enter(pool, &q->waiter, &query_class.op, query->timeout_ms, query->timeout_ms);
    *out = &q->waiter.op;
    return EVPQ_OK;
}

int evpq_pool_query(evpq_op **out, evpq_pool *pool, const evpq_query *query,
                    evpq_result_fn *on_result, void *user)
{
    return evpq__pool_query(out, pool, query, false, on_result, user);
}

int evpq_lease_query(evpq_op **out, evpq_lease *lease, const evpq_query *query,
                     evpq_result_fn *on_result, void *user)
{
    evpq_query complete;
    if (!lease || !on_result || evpq__query_read(&complete, query))
        return EVPQ_EINVALID;
    int refused = evpq__lease_admit(lease);
    if (refused)
        return refused;
    struct evpq_pool *pool = lease->pool;
    struct query *q =
        query_new(pool, &complete, complete.tag ? complete.tag : lease->tag, on_result, user);
    if (!q)
        return EVPQ_ENOMEM;
    q->lease = lease;
    q->request.alone = true;
    evpq__lease_enter(lease, &q->waiter, &query_class.op,
                      evpq__pool_timeout(pool, complete.timeout_ms));
    query_on_slot(q);
    if (out)
        *out = &q->waiter.op;
    return EVPQ_OK;
}
