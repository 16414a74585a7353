/* SPDX-License-Identifier: MIT */
/*
 * Many statements as one operation. It waits for a slot, or in the line of its
 * lease, as a query does; then all of its *parts* are with the connection, which
 * sends them together:
 *
 *   EVPQ_BATCH_EACH          each is over with its own Sync, and told
 *   EVPQ_BATCH_TRANSACTION   BEGIN and COMMIT are parts too; all are over at once, and told
 *
 * Of EVPQ_BATCH_EACH, when a prepared statement was lost:
 *
 *   told, over      lost, held                    with the connection       not given
 *   ... ok  error   26000, 26000, 26000, ...      sent: lost as well        taken back
 *
 * When the connection has no more of them, all from the first that is held go
 * again, in their order. Mostly all are lost together. Where one behind it has run
 * it is too late, and the loss is told: to bring the text of each statement instead
 * would cost all such batches what few have use for.
 *
 * Parts end apart from the operation, as the request of a query does: its caller
 * hears at the deadline, they are over when the server has let go.
 */
#include <evpq/batch.h>
#include <string.h>

#include "base/mem.h"
#include "pool/pool.h"

struct part {
    struct evpq__request request;
    struct batch *batch;
    struct evpq_result *result;
    struct evpq_error error; /* its own; else it is told that of the operation */
    evpq_fate fate;          /* 0: that of the error */
};

struct batch {
    struct evpq__waiter waiter;
    struct evpq_lease *lease; /* NULL: of the pool; and once it has finished */
    evpq_batch_fn *on_result;
    evpq_done_fn *on_done;
    void *user;
    struct evpq__task telling;
    struct evpq_error first; /* of the first statement that failed on its own */
    bool transaction;
    uint32_t count;     /* statements */
    uint32_t over;      /* of them, whose outcome is known */
    uint32_t told;      /* of those */
    uint32_t held;      /* behind those `over`: lost, and to go again */
    uint32_t given;     /* parts that the connection has got; behind them none has been sent */
    uint32_t open;      /* parts that the connection has */
    uint32_t parts_len; /* with BEGIN and COMMIT */
    struct part parts[];
};

static struct batch *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct batch, waiter.op);
}

static struct part *statement_part(struct batch *b, uint32_t statement)
{
    return &b->parts[statement + b->transaction];
}

static struct part *last_part(struct batch *b)
{
    return &b->parts[b->parts_len - 1];
}

/* ---- telling ---- */

static void tell_one(struct batch *b)
{
    struct part *part = statement_part(b, b->told);
    struct evpq_result *result = part->result;
    struct evpq_error error = part->error.code != EVPQ_OK ? part->error : b->waiter.op.error;
    if (part->fate)
        error.fate = part->fate;
    part->result = NULL;
    uint32_t statement = b->told++;
    if (b->on_result)
        b->on_result(statement, result, result ? NULL : &error, b->user);
    evpq_result_free(result);
    evpq__error_clear(&part->error);
}

static void batch_on_telling(struct evpq__task *task)
{
    struct batch *b = evpq__container_of(task, struct batch, telling);
    /* A callback may end the batch: then delivery tells the rest. */
    while (b->told < b->over && !evpq__op_finished(&b->waiter.op))
        tell_one(b);
}

static void batch_deliver(struct evpq_op *op)
{
    struct batch *b = of_op(op);
    evpq__loop_unpost(op->loop, &b->telling);
    while (b->told < b->count)
        tell_one(b);
    evpq__pool_count(&b->waiter);
    b->on_done(op->error.code == EVPQ_OK ? NULL : &op->error, b->user);
}

/* ---- with the connection ---- */

static void batch_unlink(struct batch *b)
{
    evpq__node_unlink(&b->waiter.op.node);
    if (b->lease)
        b->lease->query_count--;
    b->lease = NULL;
}

static void batch_off_slot(struct batch *b, bool give_back)
{
    struct evpq__slot *slot = b->waiter.slot;
    b->waiter.slot = NULL;
    if (give_back)
        evpq__pool_give_back(slot);
    evpq__op_unref(&b->waiter.op);
}

static void batch_on_slot(struct batch *b)
{
    evpq__op_ref(&b->waiter.op);
    b->open = b->given = b->parts_len;
    for (uint32_t i = 0; i < b->parts_len; i++) {
        b->parts[i].request.deadline_us = b->waiter.op.deadline_us;
        evpq__conn_submit(b->waiter.slot->conn, &b->parts[i].request);
    }
}

static void batch_granted(struct evpq__waiter *waiter)
{
    evpq__list_push_back(&waiter->pool->running, &waiter->op.node);
    evpq__op_limit(&waiter->op, EVPQ__NO_DEADLINE);
    batch_on_slot(of_op(&waiter->op));
}

static void first_sent(struct evpq__request *request)
{
    struct batch *b = evpq__container_of(request, struct part, request)->batch;
    evpq__op_sent(&b->waiter.op);
    evpq__pool_trace_op(&b->waiter, EVPQ_TRACE_SENT, b->waiter.started_us);
}

/* The transaction has failed: the part that is the reason, and the error of all. */
static void transaction_failed(struct batch *b, struct part *reason)
{
    struct evpq_error *error = &b->waiter.op.error;
    bool committing = last_part(b)->error.fate != EVPQ_NOT_SENT;
    evpq__error_move(error, &reason->error);
    if (reason > b->parts && reason < last_part(b))
        evpq__error_of_statement(error, (uint32_t)(reason - b->parts - 1));
    /* Without a COMMIT the server undoes what it was sent. */
    if (!committing && error->fate == EVPQ_UNKNOWN)
        error->fate = EVPQ_ROLLED_BACK;
    for (uint32_t i = 0; i < b->parts_len; i++) {
        struct part *part = &b->parts[i];
        bool sent = part == reason || part->error.fate != EVPQ_NOT_SENT;
        part->fate = sent ? error->fate : EVPQ_NOT_SENT;
        evpq__error_clear(&part->error);
    }
}

/* It is committed; one of its results may have found no memory, or be too large. */
static void transaction_done(struct batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct evpq_error *error = &statement_part(b, i)->error;
        if (error->code == EVPQ_OK)
            continue;
        evpq__error_of_statement(error, i);
        evpq__error_copy(&b->waiter.op.error, error);
    }
}

/* The part that all of a transaction have failed for. */
static struct part *reason_of(struct batch *b)
{
    for (uint32_t i = 0; i < b->parts_len; i++)
        if (b->parts[i].request.failed)
            return &b->parts[i];
    return b->parts;
}

/* Nothing has happened, and nobody needs to know. */
static bool may_rerun(const struct batch *b, const struct part *reason)
{
    if (b->lease || b->told > 0 || b->waiter.pool->state > EVPQ__POOL_DRAINING)
        return false;
    return (b->parts[0].error.code == EVPQ_EDISCONNECTED &&
            b->parts[0].error.fate == EVPQ_NOT_SENT) ||
           (b->transaction && reason->request.stale && reason->error.fate == EVPQ_ROLLED_BACK);
}

static void rerun(struct batch *b, bool prepared)
{
    b->over = 0;
    evpq__error_clear(&b->first);
    for (uint32_t i = 0; i < b->parts_len; i++) {
        evpq__error_clear(&b->parts[i].error);
        b->parts[i].request.failed = b->parts[i].request.stale = false;
        if (!prepared)
            b->parts[i].request.prepare = EVPQ_OFF;
    }
    evpq__loop_unpost(b->waiter.op.loop, &b->telling);
    evpq__pool_rerun(&b->waiter);
}

/* The connection has let go of all parts. */
static void parts_over(struct batch *b)
{
    bool of_pool = !b->lease;
    struct evpq_op *op = &b->waiter.op;
    struct part *reason = reason_of(b);
    if (may_rerun(b, reason)) {
        rerun(b, !reason->request.stale);
        return;
    }
    if (!b->transaction)
        evpq__error_move(&op->error, &b->first);
    else if (last_part(b)->error.code != EVPQ_OK)
        transaction_failed(b, reason);
    else
        transaction_done(b);
    b->over = b->count;
    batch_unlink(b);
    evpq__op_finish(op);
    batch_off_slot(b, of_pool);
}

/* The next of those that are on their own. */
static void statement_over(struct batch *b)
{
    uint32_t statement = b->over++;
    struct part *part = &b->parts[statement];
    if (part->error.code != EVPQ_OK) {
        evpq__error_of_statement(&part->error, statement);
        evpq__error_copy(&b->first, &part->error);
    }
    evpq__loop_post(b->waiter.op.loop, EVPQ__SOON, &b->telling);
}

/* From the end: what has not been sent must not run before what is held. */
static void take_back(struct batch *b)
{
    struct part *last;
    while (b->given > b->over + b->held && !(last = &b->parts[b->given - 1])->request.in_flight) {
        (void)evpq__conn_abandon(b->waiter.slot->conn, &last->request);
        b->given--;
        b->open--;
    }
}

static void let_held_be_over(struct batch *b)
{
    for (; b->held > 0; b->held--)
        statement_over(b);
}

/* One that is on its own. */
static void part_of_each_done(struct batch *b, struct part *part)
{
    if (evpq__conn_may_repeat(b->waiter.slot->conn, &part->request)) {
        if (b->held++ == 0)
            take_back(b);
        return;
    }
    let_held_be_over(b); /* it has run, and they must not run behind it */
    statement_over(b);
}

/* The connection has no more of them. */
static void repeat_rest(struct batch *b)
{
    for (uint32_t i = b->parts_len; i-- > b->over;) {
        evpq__error_clear(&b->parts[i].error);
        evpq__conn_repeat(b->waiter.slot->conn, &b->parts[i].request);
        b->open++;
    }
    b->given = b->parts_len;
    b->held = 0;
}

static void lose_rest(struct batch *b)
{
    let_held_be_over(b);
    while (b->over < b->count) {
        evpq__error_set(&b->parts[b->over].error, EVPQ_EDISCONNECTED, EVPQ_NOT_SENT,
                        "the connection was lost before the statement was sent");
        statement_over(b);
    }
}

static void part_done(struct evpq__request *request, struct evpq_result *result,
                      struct evpq_error *error)
{
    struct part *part = evpq__container_of(request, struct part, request);
    struct batch *b = part->batch;
    b->open--;
    if (evpq__op_finished(&b->waiter.op)) {
        /* It was stopped before, and its slot has been given back then. */
        evpq_result_free(result);
        if (b->open == 0)
            batch_off_slot(b, false);
        return;
    }
    part->result = result;
    if (error->code != EVPQ_OK)
        evpq__pool_statement_failed(b->waiter.slot, b->lease, request, error);
    evpq__error_move(&part->error, error);
    if (!b->transaction)
        part_of_each_done(b, part);
    if (b->open > 0)
        return;
    bool rest = !b->transaction && b->over < b->count;
    if (rest && evpq__conn_alive(b->waiter.slot->conn)) {
        repeat_rest(b);
        return;
    }
    if (rest)
        lose_rest(b);
    parts_over(b);
}

/* ---- stopping ---- */

static void set_stopped_error(struct batch *b, evpq_code why, evpq_fate fate)
{
    struct evpq_error *err = &b->waiter.op.error;
    const char *where = fate == EVPQ_NOT_SENT ? "before the batch was sent" : "while the batch ran";
    if (why == EVPQ_ETIMEOUT)
        evpq__error_set(err, why, fate, "the deadline of %u ms passed %s", b->waiter.timeout_ms,
                        where);
    else
        evpq__error_set(err, why, fate, "%s %s", why == EVPQ_ECLOSED ? "closed" : "cancelled",
                        where);
}

/* From the end: what has not been sent goes before what runs. Returns what became of the whole. */
static evpq_fate abandon_parts(struct batch *b)
{
    struct evpq__conn *conn = b->waiter.slot->conn;
    evpq_fate sent = EVPQ_UNKNOWN;
    uint32_t with_it = b->over + b->held;
    for (uint32_t i = b->given; i < b->parts_len; i++)
        b->parts[i].fate = EVPQ_NOT_SENT;
    for (uint32_t i = b->given; i-- > with_it;) {
        struct part *part = &b->parts[i];
        bool withdrawn = evpq__conn_abandon(conn, &part->request);
        if (withdrawn && b->transaction && part == last_part(b))
            sent = EVPQ_ROLLED_BACK; /* it will never be committed */
        b->open -= withdrawn;
        part->fate = withdrawn ? EVPQ_NOT_SENT : sent;
    }
    for (uint32_t i = b->over; i < with_it; i++) {
        evpq__error_clear(&b->parts[i].error);
        b->parts[i].fate = EVPQ_ROLLED_BACK;
    }
    return b->parts[with_it].fate; /* some are with the connection */
}

static void batch_stop(struct evpq_op *op, evpq_code why)
{
    struct batch *b = of_op(op);
    struct evpq__slot *slot = b->waiter.slot;
    if (!slot) {
        evpq__pool_leave(&b->waiter, why);
        return;
    }
    bool of_pool = !b->lease;
    batch_unlink(b);
    set_stopped_error(b, why, abandon_parts(b));
    if (b->open == 0)
        batch_off_slot(b, of_pool);
    else if (of_pool)
        evpq__pool_give_back(slot);
}

static void batch_free(struct batch *b)
{
    for (uint32_t i = 0; i < b->parts_len; i++)
        evpq__statement_unref(b->parts[i].request.statement);
    evpq__free(b);
}

static void batch_destroy(struct evpq_op *op)
{
    struct batch *b = of_op(op);
    evpq__pass_end(b->waiter.pass);
    evpq__pool_op_gone(b->waiter.pool);
    for (uint32_t i = 0; i < b->parts_len; i++) {
        evpq_result_free(b->parts[i].result);
        evpq__error_clear(&b->parts[i].error);
    }
    evpq__error_clear(&b->first);
    batch_free(b);
}

static const struct evpq__taking batch_taking = {batch_granted, NULL};
static const struct evpq__op_class batch_class = {batch_stop, batch_deliver, batch_destroy,
                                                  &batch_taking};

/* ---- making one ---- */

static const char *statement_problem(const evpq_query *query)
{
    evpq_query q;
    const char *problem = evpq__query_read(&q, query);
    if (problem)
        return problem;
    if (q.timeout_ms || q.tag || q.server_timeout || q.max_result_bytes)
        return "timeout_ms, tag, server_timeout and max_result_bytes are the batch's";
    return NULL;
}

/* But for its statements. */
static const char *head_read(evpq_batch *out, const evpq_batch *batch)
{
    if (!batch)
        return "the batch is NULL";
    const char *problem = evpq__options_read(out, sizeof(*out), batch);
    if (problem)
        return problem;
    if (out->mode != EVPQ_BATCH_TRANSACTION && out->mode != EVPQ_BATCH_EACH)
        return "mode must be EVPQ_BATCH_TRANSACTION or EVPQ_BATCH_EACH";
    if (!out->queries || out->queries_count == 0)
        return "no statements";
    if (out->queries_count > EVPQ_BATCH_MAX)
        return "more than 10,000 statements";
    if (!evpq__switch_valid(out->server_timeout))
        return "server_timeout is none of evpq_switch";
    return NULL;
}

static const char *batch_read(evpq_batch *out, const evpq_batch *batch)
{
    const char *problem = head_read(out, batch);
    for (size_t i = 0; !problem && i < out->queries_count; i++)
        problem = statement_problem(out->queries[i]);
    return problem;
}

static const evpq_query *const begin = EVPQ_QUERY("BEGIN", .prepare = EVPQ_OFF);
static const evpq_query *const commit = EVPQ_QUERY("COMMIT", .prepare = EVPQ_OFF);

/* Complete. It has been read before without a problem. */
static evpq_query complete_query(const evpq_query *query)
{
    evpq_query complete;
    evpq__query_read(&complete, query);
    return complete;
}

static bool needs_own(const evpq_query *query)
{
    evpq_query q = complete_query(query);
    char *sql = evpq__alloc(q.sql_length + 1);
    if (!sql)
        return false;
    memcpy(sql, q.sql, q.sql_length);
    bool yes = evpq__statement_kind_of(sql) != EVPQ__ORDINARY;
    evpq__free(sql);
    return yes;
}

const char *evpq_batch_problem(const evpq_batch *batch, uint32_t *statement)
{
    evpq_batch complete;
    const char *problem = head_read(&complete, batch);
    uint32_t wrong = EVPQ_NO_STATEMENT;
    for (uint32_t i = 0; !problem && i < complete.queries_count; i++) {
        problem = statement_problem(complete.queries[i]);
        if (!problem && needs_own(complete.queries[i]))
            problem = "COPY, PREPARE, or a statement that begins or ends a transaction";
        if (problem)
            wrong = i;
    }
    if (statement)
        *statement = wrong;
    return problem;
}

static size_t params_size(const evpq_query *complete)
{
    return evpq__aligned(evpq__params_size(complete->params, complete->params_count));
}

/* Adds what a statement's parameters take; false when that is too much. */
static bool add_size(size_t *size, const evpq_query *query)
{
    evpq_query complete = complete_query(query);
    size_t more = params_size(&complete);
    if (more > SIZE_MAX - *size)
        return false;
    *size += more;
    return true;
}

/* Bytes of all, in one block; 0 when there are too many. */
static size_t batch_size(const evpq_batch *batch, size_t parts)
{
    size_t size =
        evpq__aligned(sizeof(struct batch) + parts * sizeof(struct part)) + EVPQ__TAG_SIZE;
    bool fits = true;
    for (size_t i = 0; fits && i < batch->queries_count; i++)
        fits = add_size(&size, batch->queries[i]);
    return fits ? size : 0;
}

static void part_init(struct batch *b, struct part *part, const struct evpq_pool *pool,
                      const evpq_batch *batch)
{
    part->batch = b;
    part->request.server_timeout = evpq__pool_server_timeout(pool, batch->server_timeout);
    part->request.max_bytes = evpq__pool_result_limit(pool, batch->max_result_bytes);
    part->request.alone = true;
    part->request.batch = b;
    part->request.joined = b->transaction && part != last_part(b);
    part->request.done = part_done;
    evpq__node_init(&part->request.node);
}

/* Its parameters go to `block`, and what is behind them comes back. Without memory it has no
 * statement. */
static char *write_statement(struct part *part, struct evpq_pool *pool, char *block,
                             const evpq_query *query)
{
    struct evpq__request *request = &part->request;
    evpq_query complete = complete_query(query);
    request->statement = evpq__statements_get(&pool->statements, &complete);
    evpq__params_write(&request->params, block, complete.params, complete.params_count);
    request->binary_result = evpq__query_binary(&complete);
    request->prepare = complete.prepare;
    return block + params_size(&complete);
}

static char *write_bracket(struct part *part, struct evpq_pool *pool, char *block,
                           const evpq_query *query)
{
    part->request.no_result = true;
    return write_statement(part, pool, block, query);
}

/* EVPQ_OK; EVPQ_EINVALID, EVPQ_ENOMEM. */
static int statements_problem(struct batch *b)
{
    for (uint32_t i = 0; i < b->parts_len; i++)
        if (!b->parts[i].request.statement)
            return EVPQ_ENOMEM;
    for (uint32_t i = 0; i < b->count; i++)
        if (statement_part(b, i)->request.statement->kind != EVPQ__ORDINARY)
            return EVPQ_EINVALID;
    return EVPQ_OK;
}

/* EVPQ_OK; EVPQ_EINVALID, EVPQ_ENOMEM. */
static int batch_new(struct batch **out, struct evpq_pool *pool, const evpq_batch *batch,
                     const char *tag)
{
    bool transaction = batch->mode == EVPQ_BATCH_TRANSACTION;
    size_t parts = batch->queries_count + (transaction ? 2 : 0);
    size_t size = batch_size(batch, parts);
    struct batch *b = size ? evpq__alloc(size) : NULL;
    if (!b)
        return EVPQ_ENOMEM;
    b->transaction = transaction;
    b->count = (uint32_t)batch->queries_count;
    b->parts_len = (uint32_t)parts;
    char *block = (char *)b + evpq__aligned(sizeof(struct batch) + parts * sizeof(struct part));
    for (uint32_t i = 0; i < b->parts_len; i++)
        part_init(b, &b->parts[i], pool, batch);
    for (uint32_t i = 0; i < b->count; i++)
        block = write_statement(statement_part(b, i), pool, block, batch->queries[i]);
    if (transaction) {
        block = write_bracket(&b->parts[0], pool, block, begin);
        block = write_bracket(last_part(b), pool, block, commit);
    }
    b->parts[0].request.sent = first_sent;
    size_t tag_length = tag ? strnlen(tag, EVPQ__TAG_SIZE - 1) : 0;
    if (tag_length)
        b->waiter.tag = memcpy(block, tag, tag_length);
    evpq__task_init(&b->telling, batch_on_telling);
    int problem = statements_problem(b);
    if (problem) {
        batch_free(b);
        return problem;
    }
    *out = b;
    return EVPQ_OK;
}

static void call_back(struct batch *b, evpq_batch_fn *on_result, evpq_done_fn *on_done, void *user)
{
    b->on_result = on_result;
    b->on_done = on_done;
    b->user = user;
}

int evpq_pool_batch(evpq_op **out, evpq_pool *pool, const evpq_batch *batch,
                    evpq_batch_fn *on_result, evpq_done_fn *on_done, void *user)
{
    evpq_batch complete;
    if (!pool || !on_done || batch_read(&complete, batch))
        return EVPQ_EINVALID;
    struct evpq__pass *pass;
    int refused = evpq__pool_admit(&pass, pool, complete.tag, false);
    if (refused)
        return refused;
    struct batch *b;
    int failed = batch_new(&b, pool, &complete, complete.tag);
    if (failed) {
        evpq__pass_end(pass);
        return failed;
    }
    call_back(b, on_result, on_done, user);
    b->waiter.pass = pass;
    evpq__pool_enter(pool, &b->waiter, &batch_class, evpq__pool_timeout(pool, complete.timeout_ms),
                     pool->options.acquire_timeout_ms);
    if (out)
        *out = &b->waiter.op;
    return EVPQ_OK;
}

int evpq_lease_batch(evpq_op **out, evpq_lease *lease, const evpq_batch *batch,
                     evpq_batch_fn *on_result, evpq_done_fn *on_done, void *user)
{
    evpq_batch complete;
    if (!lease || !on_done || batch_read(&complete, batch))
        return EVPQ_EINVALID;
    int refused = evpq__lease_admit(lease);
    if (refused)
        return refused;
    struct batch *b;
    const char *tag = complete.tag ? complete.tag : lease->tag;
    int failed = batch_new(&b, lease->pool, &complete, tag);
    if (failed)
        return failed;
    call_back(b, on_result, on_done, user);
    b->lease = lease;
    evpq__lease_enter(lease, &b->waiter, &batch_class,
                      evpq__pool_timeout(lease->pool, complete.timeout_ms));
    batch_on_slot(b);
    if (out)
        *out = &b->waiter.op;
    return EVPQ_OK;
}
