/* SPDX-License-Identifier: MIT */
/*
 * One statement as an operation, in two blocks. The *query* waits for a slot, or
 * in the line of its lease; very many may, so it is small. Its *run*, with the
 * request that the connection has, comes with the slot. They end apart: the
 * caller hears at its deadline, the run is over when the server has let go.
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
    struct evpq__statement *statement;
    struct run *run;          /* while waiter.slot is set */
    struct evpq_lease *lease; /* NULL: of the pool; and once it has finished */
    evpq_result_fn *on_result;
    void *user;
    struct evpq_result *result;
    size_t max_bytes; /* as in the request */
    uint32_t room;    /* of the whole block */
    uint8_t prepare;  /* an evpq_switch */
    bool binary_result, server_timeout;
    uint32_t packed[]; /* its values, then its tag */
};

struct run {
    struct evpq__request request;
    struct query *query;
    size_t room;
    const char *unpacked[]; /* what points to the values */
};

struct evpq__spare {
    struct evpq__spare *next;
    size_t room;
};

static struct query *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct query, waiter.op);
}

static struct query *of_request(struct evpq__request *request)
{
    return evpq__container_of(request, struct run, request)->query;
}

/* ---- memory ---- */

/* `size` bytes or more, the head of them zero; *room says how many. */
static void *block_new(struct evpq__spares *spares, size_t size, size_t head, size_t *room)
{
    struct evpq__spare *spare = spares->first;
    *room = size;
    if (!spare || spare->room < size)
        return evpq__alloc(size);
    *room = spare->room;
    spares->first = spare->next;
    spares->count--;
    return memset(spare, 0, head);
}

static void block_free(struct evpq__spares *spares, void *block, size_t room)
{
    if (room > SPARE_BYTES || spares->count + 1 > SPARE_MAX) {
        evpq__free(block);
        return;
    }
    struct evpq__spare *spare = block;
    spare->room = room;
    spare->next = spares->first;
    spares->first = spare;
    spares->count++;
}

static void spares_free(struct evpq__spares *spares)
{
    struct evpq__spare *spare;
    while ((spare = spares->first)) {
        spares->first = spare->next;
        evpq__free(spare);
    }
    spares->count = 0;
}

void evpq__query_free_spares(struct evpq_pool *pool)
{
    spares_free(&pool->spare_queries);
    spares_free(&pool->spare_runs);
}

static void query_free(struct evpq_pool *pool, struct query *q)
{
    evpq__statement_unref(q->statement);
    block_free(&pool->spare_queries, q, q->room);
}

static void run_free(struct query *q)
{
    block_free(&q->waiter.pool->spare_runs, q->run, q->run->room);
    q->run = NULL;
}

/* ---- with the connection ---- */

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
    run_free(q);
    if (give_back)
        evpq__pool_give_back(slot);
    evpq__op_unref(&q->waiter.op);
}

static void request_sent(struct evpq__request *request)
{
    struct query *q = of_request(request);
    evpq__op_sent(&q->waiter.op);
    evpq__pool_trace_op(&q->waiter, EVPQ_TRACE_SENT, q->waiter.started_us);
}

/* It certainly had no effect, and may go to any connection: nobody needs to know. */
static bool may_rerun(const struct query *q, const struct evpq_error *error)
{
    bool not_sent = error->code == EVPQ_EDISCONNECTED && error->fate == EVPQ_NOT_SENT;
    return !q->lease && (not_sent || q->run->request.victim) &&
           q->waiter.pool->state <= EVPQ__POOL_DRAINING;
}

static void request_done(struct evpq__request *request, struct evpq_result *result,
                         struct evpq_error *error)
{
    struct query *q = of_request(request);
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
        run_free(q);
        evpq__pool_rerun(&q->waiter);
        return;
    }
    q->result = result;
    if (!result) {
        evpq__pool_statement_failed(q->waiter.slot, q->lease, request, error);
        evpq__error_move(&op->error, error);
    }
    query_unlink(q);
    evpq__op_finish(op);
    query_off_slot(q, of_pool);
}

static void request_init(struct evpq__request *request, const struct query *q)
{
    request->statement = q->statement;
    request->binary_result = q->binary_result;
    request->server_timeout = q->server_timeout;
    request->max_bytes = q->max_bytes;
    request->prepare = (evpq_switch)q->prepare;
    request->alone = q->lease != NULL;
    request->done = request_done;
    request->sent = request_sent;
    evpq__node_init(&request->node);
}

static struct run *run_new(struct evpq_pool *pool, struct query *q)
{
    enum { USUAL = 8 }; /* so that the block is enough for most */
    size_t count = (size_t)q->statement->count, room;
    size_t size = sizeof(struct run) + evpq__unpacked_size(count > USUAL ? count : USUAL);
    struct run *run = block_new(&pool->spare_runs, size, sizeof(*run), &room);
    if (!run)
        return NULL;
    run->query = q;
    run->room = room;
    request_init(&run->request, q);
    evpq__params_unpack(&run->request.params, run->unpacked, q->packed, count);
    return run;
}

static bool query_equip(struct evpq__waiter *waiter)
{
    struct query *q = of_op(&waiter->op);
    q->run = run_new(waiter->pool, q);
    return q->run;
}

static void query_on_slot(struct query *q)
{
    q->run->request.deadline_us = q->waiter.op.deadline_us;
    evpq__op_ref(&q->waiter.op);
    evpq__conn_submit(q->waiter.slot->conn, &q->run->request);
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
    bool withdrawn = evpq__conn_abandon(slot->conn, &q->run->request);
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

static void query_destroy(struct evpq_op *op)
{
    struct query *q = of_op(op);
    struct evpq_pool *pool = q->waiter.pool;
    evpq__pass_end(q->waiter.pass);
    evpq_result_free(q->result);
    query_free(pool, q);
    evpq__pool_op_gone(pool);
}

static const struct evpq__taking query_taking = {query_granted, query_equip};
static const struct evpq__op_class query_class = {query_stop, query_deliver, query_destroy,
                                                  &query_taking};

/* ---- making one ---- */

size_t evpq__pool_result_limit(const struct evpq_pool *pool, size_t bytes)
{
    enum { LEAST = 4096 }; /* an empty result of libpq takes some 2 kB */
    if (bytes == 0)
        bytes = pool->options.max_result_bytes;
    return bytes == 0 || bytes > LEAST ? bytes : LEAST;
}

/* The query, its values and its tag, in one block. */
static struct query *block_of(struct evpq_pool *pool, const evpq_query *query, const char *tag)
{
    size_t values_size = evpq__packed_size(query->params, query->params_count);
    size_t tag_length = tag ? strnlen(tag, EVPQ__TAG_SIZE - 1) : 0, room;
    struct query *q = block_new(&pool->spare_queries, sizeof(*q) + values_size + tag_length + 1,
                                sizeof(*q), &room);
    if (!q)
        return NULL;
    q->room = (uint32_t)room;
    evpq__params_pack(q->packed, query->params, query->params_count);
    if (tag_length) {
        char *copy = (char *)q->packed + values_size;
        q->waiter.tag = memcpy(copy, tag, tag_length);
        copy[tag_length] = '\0';
    }
    return q;
}

static struct query *query_new(struct evpq_pool *pool, const evpq_query *query, const char *tag,
                               evpq_result_fn *on_result, void *user)
{
    struct evpq__statement *statement = evpq__statements_get(&pool->statements, query);
    struct query *q = statement ? block_of(pool, query, tag) : NULL;
    if (!q) {
        evpq__statement_unref(statement);
        return NULL;
    }
    q->statement = statement;
    q->binary_result = evpq__query_binary(query);
    q->server_timeout = evpq__pool_server_timeout(pool, query->server_timeout);
    q->max_bytes = evpq__pool_result_limit(pool, query->max_result_bytes);
    q->prepare = (uint8_t)query->prepare;
    q->waiter.shares = q->max_bytes == 0 && statement->kind == EVPQ__ORDINARY && !statement->slow;
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
    evpq__pool_enter(pool, &q->waiter, &query_class, evpq__pool_timeout(pool, complete.timeout_ms),
                     pool->options.acquire_timeout_ms);
    if (out)
        *out = &q->waiter.op;
    return EVPQ_OK;
}

int evpq__pool_ask(evpq_op **out, struct evpq_pool *pool, const evpq_query *query,
                   evpq_result_fn *on_result, void *user)
{
    evpq_query complete;
    if (evpq__query_read(&complete, query))
        return EVPQ_EINVALID;
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    struct query *q = query_new(pool, &complete, complete.tag, on_result, user);
    if (!q)
        return EVPQ_ENOMEM;
    q->waiter.first = true;
    evpq__pool_enter(pool, &q->waiter, &query_class, complete.timeout_ms, complete.timeout_ms);
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
    q->run = run_new(pool, q);
    if (!q->run) {
        query_free(pool, q);
        return EVPQ_ENOMEM;
    }
    evpq__lease_enter(lease, &q->waiter, &query_class,
                      evpq__pool_timeout(pool, complete.timeout_ms));
    query_on_slot(q);
    if (out)
        *out = &q->waiter.op;
    return EVPQ_OK;
}
