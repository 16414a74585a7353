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
#include "support/fake_loop.h"
#include "support/fake_pool.h"

enum { QUERIES = 1000 };

struct evpq_pool fake_pool;
static struct fake_query asked[QUERIES];
static int queries;

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
    queries = 0;
    fake_pool.loop = evpq__loop_new(fake_ev());
    fake_pool.options.query_timeout_ms = 30000;
}

void fake_pool_end(void)
{
    fake_settle();
    assert_int_equal(fake_pool.refs, 0);
    assert_int_equal(fake_pool.ops, 0);
    evpq__loop_free(fake_pool.loop);
}

static struct fake_query *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct fake_query, op);
}

static void query_stop(struct evpq_op *op, evpq_code why)
{
    of_op(op)->stopped = why;
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

static const struct evpq__op_class query_class = {query_stop, query_deliver, query_destroy};

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
    (void)lease;
    return evpq__pool_query(out, &fake_pool, query, false, on_result, user);
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
    evpq__op_finish_now(&query->op);
}

void fake_answer_error(struct fake_query *query, const struct evpq_error *error)
{
    evpq__error_copy(&query->op.error, error);
    evpq__op_finish_now(&query->op);
}
