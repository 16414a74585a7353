/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pg/result.h"
#include "pg/value.h"
#include "support/fake_loop.h"
#include "support/fake_pool.h"

enum { QUERIES = 5000, LEASES = 200 };

struct wish {
    struct evpq_op op;
    struct evpq_lease lease;
    enum { WISH_UNUSED, WISH_WANTED, WISH_OVER, WISH_HELD } state;
    evpq_acquire_fn *on_acquired;
    void *user;
};

struct evpq_pool fake_pool;
static struct fake_query asked[QUERIES];
static int queries;
static struct wish wishes[LEASES];
static int wished;

struct fake_query *fake_asked(void)
{
    assert_true(queries > 0);
    return &asked[queries - 1];
}

int fake_queries(void)
{
    return queries;
}

void fake_pool_begin(void)
{
    memset(&fake_pool, 0, sizeof(fake_pool));
    memset(asked, 0, sizeof(asked));
    memset(wishes, 0, sizeof(wishes));
    queries = wished = 0;
    fake_pool.loop = evpq__loop_new(fake_ev());
    fake_pool.options.query_timeout_ms = 30000;
}

void fake_pool_end(void)
{
    fake_settle();
    assert_int_equal(fake_pool.refs, 0);
    assert_int_equal(fake_pool.ops, 0);
    assert_int_equal(fake_leases_wanted(), 0);
    assert_int_equal(fake_leases_held(), 0);
    evpq__free(fake_pool.memo);
    evpq__loop_free(fake_pool.loop);
}

static struct fake_query *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct fake_query, op);
}

static void query_stop(struct evpq_op *op, evpq_code why)
{
    of_op(op)->stopped = why;
    evpq__node_unlink(&op->node);
    evpq__error_set(&op->error, why, EVPQ_UNKNOWN, "stopped");
}

static void query_deliver(struct evpq_op *op)
{
    struct fake_query *query = of_op(op);
    query->on_result(query->result, query->result ? NULL : &op->error, query->user);
}

static void query_destroy(struct evpq_op *op)
{
    fake_pool.ops--;
    evpq_result_free(of_op(op)->result);
}

static const struct evpq__op_class query_class = {
    .stop = query_stop, .deliver = query_deliver, .destroy = query_destroy};

static void copy_text(char out[24], const evpq_value *value)
{
    static max_align_t block[64];
    struct evpq__params params;
    if (evpq__params_size(value, 1) > sizeof(block))
        return;
    evpq__params_write(&params, block, value, 1);
    if (params.values[0] && params.formats[0] == 0)
        snprintf(out, 24, "%s", params.values[0]);
}

int evpq__pool_query(evpq_op **out, struct evpq_pool *pool, const evpq_query *query, bool goes_on,
                     evpq_result_fn *on_result, void *user)
{
    assert_ptr_equal(pool, &fake_pool);
    assert_null(evpq_query_problem(query));
    void *memory = evpq__alloc(1); /* as the true one, it may have none */
    if (!memory)
        return EVPQ_ENOMEM;
    evpq__free(memory);
    assert_in_range(queries, 0, QUERIES - 1);
    struct fake_query *q = &asked[queries++];
    snprintf(q->sql, sizeof(q->sql), "%s", query->sql);
    q->params_count = query->params_count;
    q->last = query->params_count ? query->params[query->params_count - 1] : evpq_null();
    for (size_t i = 0; i < query->params_count && i < 4; i++)
        copy_text(q->texts[i], &query->params[i]);
    q->timeout_ms = query->timeout_ms;
    q->max_result_bytes = query->max_result_bytes;
    q->goes_on = goes_on;
    q->on_result = on_result;
    q->user = user;
    fake_pool.ops++;
    evpq__op_init(&q->op, &query_class, fake_pool.loop, EVPQ__NO_DEADLINE);
    *out = &q->op;
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
    evpq_op *op;
    int code = evpq__pool_query(&op, &fake_pool, query, false, on_result, user);
    if (code != EVPQ_OK)
        return code;
    struct fake_query *q = of_op(op);
    q->lease = lease;
    evpq__list_push_back(&lease->queries, &op->node);
    if (out)
        *out = op;
    return EVPQ_OK;
}

void evpq__pool_ref(struct evpq_pool *pool)
{
    pool->refs++;
}

void evpq__pool_unref(struct evpq_pool *pool)
{
    pool->refs--;
}

void evpq__pool_op_gone(struct evpq_pool *pool)
{
    pool->ops--;
}

void fake_answer(struct fake_query *query, struct evpq_result *result)
{
    query->result = result;
    evpq__node_unlink(&query->op.node);
    evpq__op_finish_now(&query->op);
}

void fake_answer_error(struct fake_query *query, const struct evpq_error *error)
{
    evpq__error_copy(&query->op.error, error);
    evpq__node_unlink(&query->op.node);
    evpq__op_finish_now(&query->op);
}

struct fake_query *fake_unanswered(void)
{
    for (int i = 0; i < queries; i++)
        if (!evpq__op_finished(&asked[i].op))
            return &asked[i];
    return NULL;
}

/* ---- leases ---- */

static struct wish *wish_of(struct evpq_op *op)
{
    return evpq__container_of(op, struct wish, op);
}

static void wish_stop(struct evpq_op *op, evpq_code why)
{
    evpq__error_set(&op->error, why, EVPQ_NOT_SENT, "stopped");
}

static void wish_deliver(struct evpq_op *op)
{
    struct wish *wish = wish_of(op);
    bool good = op->error.code == EVPQ_OK;
    wish->state = good ? WISH_HELD : WISH_OVER;
    wish->on_acquired(good ? &wish->lease : NULL, good ? NULL : &op->error, wish->user);
}

static void wish_destroy(struct evpq_op *op)
{
    (void)op;
    fake_pool.ops--;
}

static const struct evpq__op_class wish_class = {
    .stop = wish_stop, .deliver = wish_deliver, .destroy = wish_destroy};

int evpq_pool_acquire(evpq_op **out, evpq_pool *pool, const evpq_acquire_options *options,
                      evpq_acquire_fn *on_acquired, void *user)
{
    assert_ptr_equal(pool, &fake_pool);
    assert_true(options->timeout_ms > 0);
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    void *memory = evpq__alloc(1);
    if (!memory)
        return EVPQ_ENOMEM;
    evpq__free(memory);
    assert_in_range(wished, 0, LEASES - 1);
    struct wish *wish = &wishes[wished++];
    wish->state = WISH_WANTED;
    wish->on_acquired = on_acquired;
    wish->user = user;
    evpq__list_init(&wish->lease.queries);
    pool->ops++;
    evpq__op_init(&wish->op, &wish_class, pool->loop,
                  evpq__loop_deadline(pool->loop, options->timeout_ms));
    if (out)
        *out = &wish->op;
    return EVPQ_OK;
}

void evpq__lease_stop_queries(struct evpq_lease *lease, evpq_code why)
{
    while (!evpq__list_empty(&lease->queries))
        evpq__op_stop(evpq__container_of(lease->queries.head.prev, struct evpq_op, node), why);
}

void evpq_lease_release(evpq_lease *lease)
{
    if (!lease)
        return;
    struct wish *wish = evpq__container_of(lease, struct wish, lease);
    assert_int_equal(wish->state, WISH_HELD);
    evpq__lease_stop_queries(lease, EVPQ_ECANCELED);
    wish->state = WISH_OVER;
}

static int count_wishes(int state)
{
    int count = 0;
    for (int i = 0; i < wished; i++)
        count += (int)wishes[i].state == state &&
                 (state != WISH_WANTED || !evpq__op_finished(&wishes[i].op));
    return count;
}

int fake_leases_wanted(void)
{
    return count_wishes(WISH_WANTED);
}

int fake_leases_held(void)
{
    return count_wishes(WISH_HELD);
}

static struct wish *oldest_wish(void)
{
    for (int i = 0; i < wished; i++)
        if (wishes[i].state == WISH_WANTED && !evpq__op_finished(&wishes[i].op))
            return &wishes[i];
    fail_msg("nobody wants a lease");
    return NULL;
}

void fake_lease_granted(void)
{
    evpq__op_finish_now(&oldest_wish()->op);
}

void fake_lease_refused(evpq_code code)
{
    evpq__op_stop(&oldest_wish()->op, code);
    fake_settle();
}

void fake_leases_taken(void)
{
    for (int i = 0; i < wished; i++) {
        struct evpq_lease *lease = &wishes[i].lease;
        if (wishes[i].state != WISH_HELD)
            continue;
        evpq__lease_stop_queries(lease, EVPQ_ECLOSED);
        if (lease->on_taken)
            lease->on_taken(lease, lease->on_taken_user);
    }
}
