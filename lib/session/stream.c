/* SPDX-License-Identifier: MIT */
/*
 * The rows of one statement as they come: a query (pool/query.c) whose request
 * hands over chunks. Chunks wait in a queue for the loop, which tells them.
 *
 *              chunk                     told
 *   RUNNING ----------> RUNNING, queue ---------> RUNNING, empty
 *      |                   |                         |
 *      | over              | over                    | over
 *      v                   v          told           v
 *    ENDED, queue --------------------------------> finished
 *
 * The connection is held while the stream is paused, and while more waits than
 * buffer_bytes. When the request is over the connection is given back, though
 * chunks may wait still; the operation ends when the last has been told.
 */
#include <evpq/stream.h>
#include <string.h>

#include "base/mem.h"
#include "pool/pool.h"

struct evpq_stream {
    struct evpq__waiter waiter;
    struct evpq__request request; /* with the connection while waiter.slot is set */
    struct evpq_lease *lease;     /* NULL: of the pool; and once it has finished */
    evpq_chunk_fn *on_chunk;
    evpq_result_fn *on_done;
    void *user;
    struct evpq__task telling;
    struct evpq_result *first, *last; /* chunks that wait */
    size_t waiting_bytes;
    struct evpq_result *result; /* the end of it, without rows */
    bool paused;
    bool any;       /* rows have come */
    bool ended;     /* the request is over; `result` or the error says how */
    bool no_memory; /* for a chunk: it cannot go on */
};

static struct evpq_stream *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct evpq_stream, waiter.op);
}

static struct evpq_stream *of_request(struct evpq__request *request)
{
    return evpq__container_of(request, struct evpq_stream, request);
}

/* ---- chunks ---- */

static struct evpq_result *pop_chunk(struct evpq_stream *s)
{
    struct evpq_result *chunk = s->first;
    if (!chunk)
        return NULL;
    s->first = chunk->next;
    s->last = s->first ? s->last : NULL;
    chunk->next = NULL;
    s->waiting_bytes -= evpq__result_bytes(chunk);
    return chunk;
}

static void push_chunk(struct evpq_stream *s, struct evpq_result *chunk)
{
    if (s->last)
        s->last->next = chunk;
    else
        s->first = chunk;
    s->last = chunk;
    s->waiting_bytes += evpq__result_bytes(chunk);
}

static void drop_chunks(struct evpq_stream *s)
{
    struct evpq_result *chunk;
    while ((chunk = pop_chunk(s)))
        evpq_result_free(chunk);
}

static void hold(struct evpq_stream *s, bool held)
{
    if (s->request.chunks.held == held)
        return;
    if (s->waiter.slot)
        evpq__conn_hold(s->waiter.slot->conn, &s->request, held);
    else
        s->request.chunks.held = held;
}

static void chunk_ready(struct evpq__request *request, struct evpq_result *chunk)
{
    struct evpq_stream *s = of_request(request);
    s->any = true;
    if (chunk)
        push_chunk(s, chunk);
    else
        s->no_memory = true;
    if (s->no_memory || s->waiting_bytes >= request->chunks.bytes)
        request->chunks.held = true; /* from inside: it is looked at next */
    evpq__loop_post(s->waiter.op.loop, EVPQ__SOON, &s->telling);
}

static void stream_finish(struct evpq_stream *s);

static void stream_on_telling(struct evpq__task *task)
{
    struct evpq_stream *s = evpq__container_of(task, struct evpq_stream, telling);
    struct evpq_op *op = &s->waiter.op;
    while (s->first && !s->paused && !evpq__op_finished(op)) {
        struct evpq_result *chunk = pop_chunk(s);
        s->on_chunk(s, chunk, s->user);
        evpq_result_free(chunk);
    }
    if (s->no_memory)
        evpq__op_stop(op, EVPQ_ENOMEM);
    if (s->paused || evpq__op_finished(op))
        return;
    if (s->ended)
        stream_finish(s);
    else
        hold(s, false);
}

void evpq_stream_pause(evpq_stream *stream)
{
    if (!stream || evpq__op_finished(&stream->waiter.op))
        return;
    stream->paused = true;
    hold(stream, true);
}

void evpq_stream_resume(evpq_stream *stream)
{
    if (!stream || !stream->paused || evpq__op_finished(&stream->waiter.op))
        return;
    stream->paused = false;
    evpq__loop_post(stream->waiter.op.loop, EVPQ__SOON, &stream->telling);
}

void evpq_stream_close(evpq_stream *stream)
{
    if (stream)
        evpq_op_cancel(&stream->waiter.op);
}

evpq_op *evpq_stream_op(evpq_stream *stream)
{
    return stream ? &stream->waiter.op : NULL;
}

/* ---- as a query ---- */

static void stream_unlink(struct evpq_stream *s)
{
    evpq__node_unlink(&s->waiter.op.node);
    if (s->lease)
        s->lease->query_count--;
    s->lease = NULL;
}

static void stream_finish(struct evpq_stream *s)
{
    stream_unlink(s);
    evpq__op_finish(&s->waiter.op);
}

static void stream_off_slot(struct evpq_stream *s, bool give_back)
{
    struct evpq__slot *slot = s->waiter.slot;
    s->waiter.slot = NULL;
    if (give_back)
        evpq__pool_give_back(slot);
    evpq__op_unref(&s->waiter.op);
}

static void request_sent(struct evpq__request *request)
{
    struct evpq_stream *s = of_request(request);
    evpq__op_sent(&s->waiter.op);
    evpq__pool_trace_op(&s->waiter, EVPQ_TRACE_SENT, s->waiter.started_us);
}

static bool may_rerun(const struct evpq_stream *s, const struct evpq_error *error)
{
    return !s->lease && !s->any && error->code == EVPQ_EDISCONNECTED &&
           error->fate == EVPQ_NOT_SENT && s->waiter.pool->state <= EVPQ__POOL_DRAINING;
}

static void request_done(struct evpq__request *request, struct evpq_result *result,
                         struct evpq_error *error)
{
    struct evpq_stream *s = of_request(request);
    struct evpq_op *op = &s->waiter.op;
    if (evpq__op_finished(op)) {
        evpq_result_free(result);
        stream_off_slot(s, false);
        return;
    }
    if (!result && may_rerun(s, error)) {
        evpq__pool_rerun(&s->waiter);
        return;
    }
    s->ended = true;
    s->result = result;
    if (!result) {
        evpq__pool_statement_failed(s->waiter.slot, s->lease, request, error);
        evpq__error_move(&op->error, error);
    }
    evpq__loop_post(op->loop, EVPQ__SOON, &s->telling);
    stream_off_slot(s, !s->lease);
}

static void stream_on_slot(struct evpq_stream *s)
{
    s->request.deadline_us = s->waiter.op.deadline_us;
    evpq__op_ref(&s->waiter.op);
    evpq__conn_submit(s->waiter.slot->conn, &s->request);
}

static void stream_granted(struct evpq__waiter *waiter)
{
    evpq__list_push_back(&waiter->pool->running, &waiter->op.node);
    evpq__op_limit(&waiter->op, EVPQ__NO_DEADLINE);
    stream_on_slot(of_op(&waiter->op));
}

static void set_stopped_error(struct evpq_stream *s, evpq_code why, evpq_fate fate)
{
    struct evpq_error *err = &s->waiter.op.error;
    const char *where = fate == EVPQ_NOT_SENT ? "before the statement was sent"
                        : s->paused           ? "while the stream was paused"
                                              : "while the rows came";
    if (why == EVPQ_ETIMEOUT)
        evpq__error_set(err, why, fate, "the deadline of %u ms passed %s", s->waiter.timeout_ms,
                        where);
    else if (why == EVPQ_ENOMEM)
        evpq__error_set(err, why, fate, "no memory for the rows");
    else
        evpq__error_set(err, why, fate, "%s %s", why == EVPQ_ECLOSED ? "closed" : "cancelled",
                        where);
}

static void stream_stop(struct evpq_op *op, evpq_code why)
{
    struct evpq_stream *s = of_op(op);
    struct evpq__slot *slot = s->waiter.slot;
    bool of_pool = !s->lease;
    if (s->ended) {
        stream_unlink(s);
        /* All has been handed over: then it comes with the end that it had. */
        if (!s->first && !s->no_memory)
            return;
        /* The server is done with it. What it has said of a failure is more than we know. */
        evpq_result_free(s->result);
        s->result = NULL;
        set_stopped_error(s, why, EVPQ_UNKNOWN);
        return;
    }
    if (!slot) {
        evpq__pool_leave(&s->waiter, why);
        return;
    }
    stream_unlink(s);
    bool withdrawn = evpq__conn_abandon(slot->conn, &s->request);
    set_stopped_error(s, why, withdrawn ? EVPQ_NOT_SENT : EVPQ_UNKNOWN);
    if (withdrawn) {
        stream_off_slot(s, of_pool);
        return;
    }
    hold(s, false); /* what still comes is thrown away */
    if (of_pool)
        evpq__pool_give_back(slot);
}

static void stream_deliver(struct evpq_op *op)
{
    struct evpq_stream *s = of_op(op);
    evpq__loop_unpost(op->loop, &s->telling);
    drop_chunks(s);
    evpq__pool_count(&s->waiter);
    s->on_done(s->result, s->result ? NULL : &op->error, s->user);
}

static void stream_destroy(struct evpq_op *op)
{
    struct evpq_stream *s = of_op(op);
    evpq__pass_end(s->waiter.pass);
    evpq__pool_op_gone(s->waiter.pool);
    drop_chunks(s);
    evpq_result_free(s->result);
    evpq__statement_unref(s->request.statement);
    evpq__free(s);
}

static const struct evpq__taking stream_taking = {stream_granted, NULL};
static const struct evpq__op_class stream_class = {stream_stop, stream_deliver, stream_destroy,
                                                   &stream_taking};

/* ---- making one ---- */

static const char *options_read(evpq_stream_options *out, const evpq_stream_options *options)
{
    enum { MOST_ROWS = 10000, ROWS = 256, BYTES = 1024 * 1024 };
    static const evpq_stream_options all_defaults = {.size = sizeof(all_defaults)};
    const char *problem = evpq__options_read(out, sizeof(*out), options ? options : &all_defaults);
    if (problem)
        return problem;
    if (out->chunk_rows > MOST_ROWS)
        return "chunk_rows is more than 10,000";
    out->chunk_rows = out->chunk_rows ? out->chunk_rows : ROWS;
    out->buffer_bytes = out->buffer_bytes ? out->buffer_bytes : BYTES;
    return NULL;
}

static const char *stream_read(evpq_query *out, evpq_stream_options *set, const evpq_query *query,
                               const evpq_stream_options *options)
{
    const char *problem = evpq__query_read(out, query);
    if (problem)
        return problem;
    if (out->max_result_bytes)
        return "max_result_bytes is not for streams: buffer_bytes limits what is in hand";
    return options_read(set, options);
}

const char *evpq_stream_problem(const evpq_query *query, const evpq_stream_options *options)
{
    evpq_query complete;
    evpq_stream_options set;
    return stream_read(&complete, &set, query, options);
}

/* The stream, its parameters and its tag, in one block. */
static struct evpq_stream *stream_new(struct evpq_pool *pool, const evpq_query *query,
                                      const evpq_stream_options *options, const char *tag)
{
    size_t params_size = evpq__params_size(query->params, query->params_count);
    size_t tag_length = tag ? strnlen(tag, EVPQ__TAG_SIZE - 1) : 0;
    struct evpq__statement *statement = evpq__statements_get(&pool->statements, query);
    if (!statement)
        return NULL;
    struct evpq_stream *s = evpq__alloc(evpq__aligned(sizeof(*s)) + params_size + tag_length + 1);
    if (!s) {
        evpq__statement_unref(statement);
        return NULL;
    }
    char *block = (char *)s + evpq__aligned(sizeof(*s));
    evpq__params_write(&s->request.params, block, query->params, query->params_count);
    if (tag_length)
        s->waiter.tag = memcpy(block + params_size, tag, tag_length);
    s->request.statement = statement;
    s->request.binary_result = evpq__query_binary(query);
    s->request.server_timeout = evpq__pool_server_timeout(pool, query->server_timeout);
    s->request.prepare = query->prepare;
    s->request.alone = true;
    s->request.chunks.rows = options->chunk_rows;
    s->request.chunks.bytes = options->buffer_bytes;
    s->request.chunks.ready = chunk_ready;
    evpq__node_init(&s->request.node);
    s->request.done = request_done;
    s->request.sent = request_sent;
    evpq__task_init(&s->telling, stream_on_telling);
    return s;
}

static void call_back(struct evpq_stream *s, evpq_chunk_fn *on_chunk, evpq_result_fn *on_done,
                      void *user)
{
    s->on_chunk = on_chunk;
    s->on_done = on_done;
    s->user = user;
}

int evpq_pool_stream(evpq_stream **out, evpq_pool *pool, const evpq_query *query,
                     const evpq_stream_options *options, evpq_chunk_fn *on_chunk,
                     evpq_result_fn *on_done, void *user)
{
    evpq_query complete;
    evpq_stream_options set;
    if (!pool || !on_chunk || !on_done || stream_read(&complete, &set, query, options))
        return EVPQ_EINVALID;
    struct evpq__pass *pass;
    int refused = evpq__pool_admit(&pass, pool, complete.tag, false);
    if (refused)
        return refused;
    struct evpq_stream *s = stream_new(pool, &complete, &set, complete.tag);
    if (!s) {
        evpq__pass_end(pass);
        return EVPQ_ENOMEM;
    }
    call_back(s, on_chunk, on_done, user);
    s->waiter.pass = pass;
    evpq__pool_enter(pool, &s->waiter, &stream_class, evpq__pool_timeout(pool, complete.timeout_ms),
                     pool->options.acquire_timeout_ms);
    if (out)
        *out = s;
    return EVPQ_OK;
}

int evpq_lease_stream(evpq_stream **out, evpq_lease *lease, const evpq_query *query,
                      const evpq_stream_options *options, evpq_chunk_fn *on_chunk,
                      evpq_result_fn *on_done, void *user)
{
    evpq_query complete;
    evpq_stream_options set;
    if (!lease || !on_chunk || !on_done || stream_read(&complete, &set, query, options))
        return EVPQ_EINVALID;
    int refused = evpq__lease_admit(lease);
    if (refused)
        return refused;
    struct evpq_pool *pool = lease->pool;
    struct evpq_stream *s =
        stream_new(pool, &complete, &set, complete.tag ? complete.tag : lease->tag);
    if (!s)
        return EVPQ_ENOMEM;
    call_back(s, on_chunk, on_done, user);
    s->lease = lease;
    evpq__lease_enter(lease, &s->waiter, &stream_class,
                      evpq__pool_timeout(pool, complete.timeout_ms));
    stream_on_slot(s);
    if (out)
        *out = s;
    return EVPQ_OK;
}
