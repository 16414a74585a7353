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
#include "support/fake_pools.h"

enum { ASKS = 2000 };

struct evpq_pool fake_pools[FAKE_POOLS];
int fake_pools_code[FAKE_POOLS];
static struct fake_ask asks[ASKS];
static int asked;

void fake_pools_begin(void)
{
    memset(fake_pools, 0, sizeof(fake_pools));
    memset(fake_pools_code, 0, sizeof(fake_pools_code));
    memset(asks, 0, sizeof(asks));
    asked = 0;
    for (int i = 0; i < FAKE_POOLS; i++) {
        fake_pools[i].ev = fake_ev();
        fake_pools[i].loop = evpq__loop_new(fake_ev());
        fake_pools[i].options.query_timeout_ms = 30000;
        fake_pools[i].options.max_size = 4;
        fake_pools[i].slot_count[EVPQ__SLOT_IDLE] = 1;
    }
}

void fake_pools_end(void)
{
    fake_settle();
    for (int i = 0; i < FAKE_POOLS; i++) {
        assert_int_equal(fake_pools[i].refs, 0);
        assert_int_equal(fake_pools[i].ops, 0);
        evpq__loop_free(fake_pools[i].loop);
    }
}

static struct fake_ask *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct fake_ask, op);
}

static void ask_stop(struct evpq_op *op, evpq_code why)
{
    evpq__error_set(&op->error, why, EVPQ_UNKNOWN, "stopped in the pool");
}

static void ask_deliver(struct evpq_op *op)
{
    struct fake_ask *ask = of_op(op);
    ask->on_result(ask->result, ask->result ? NULL : &op->error, ask->user);
}

static void ask_destroy(struct evpq_op *op)
{
    of_op(op)->pool->ops--;
    evpq_result_free(of_op(op)->result);
}

static const struct evpq__op_class ask_class = {
    .stop = ask_stop, .deliver = ask_deliver, .destroy = ask_destroy};

static int ask(evpq_op **out, struct evpq_pool *pool, const evpq_query *query, bool probe,
               bool goes_on, evpq_result_fn *on_result, void *user)
{
    int code = fake_pools_code[pool - fake_pools];
    if (code != EVPQ_OK)
        return code;
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    void *memory = evpq__alloc(1); /* as the true one, it may have none */
    if (!memory)
        return EVPQ_ENOMEM;
    evpq__free(memory);
    assert_null(evpq_query_problem(query));
    assert_in_range(asked, 0, ASKS - 1);
    struct fake_ask *a = &asks[asked++];
    a->pool = pool;
    snprintf(a->sql, sizeof(a->sql), "%s", query->sql);
    snprintf(a->tag, sizeof(a->tag), "%s", query->tag ? query->tag : "");
    if (query->params_count == 1) {
        static max_align_t block[64];
        struct evpq__params params;
        assert_true(evpq__params_size(query->params, 1) <= sizeof(block));
        evpq__params_write(&params, block, query->params, 1);
        snprintf(a->param, sizeof(a->param), "%s", params.values[0]);
    }
    a->timeout_ms = query->timeout_ms;
    a->probe = probe;
    a->goes_on = goes_on;
    a->on_result = on_result;
    a->user = user;
    pool->ops++;
    evpq__op_init(&a->op, &ask_class, pool->loop,
                  evpq__loop_deadline(pool->loop, query->timeout_ms
                                                      ? query->timeout_ms
                                                      : pool->options.query_timeout_ms));
    if (out)
        *out = &a->op;
    return EVPQ_OK;
}

int evpq__pool_query(evpq_op **out, struct evpq_pool *pool, const evpq_query *query, bool goes_on,
                     evpq_result_fn *on_result, void *user)
{
    return ask(out, pool, query, false, goes_on, on_result, user);
}

int evpq__pool_ask(evpq_op **out, struct evpq_pool *pool, const evpq_query *query,
                   evpq_result_fn *on_result, void *user)
{
    return ask(out, pool, query, true, false, on_result, user);
}

int evpq_pool_query(evpq_op **out, evpq_pool *pool, const evpq_query *query,
                    evpq_result_fn *on_result, void *user)
{
    return ask(out, pool, query, false, false, on_result, user);
}

void evpq__pool_expire(struct evpq_pool *pool, bool useless, const char *why)
{
    assert_true(useless);
    assert_non_null(why);
    pool->stats.expired++;
}

void evpq__pool_ref(struct evpq_pool *pool)
{
    pool->refs++;
}

void evpq__pool_unref(struct evpq_pool *pool)
{
    assert_true(pool->refs > 0);
    pool->refs--;
}

static struct fake_ask *unanswered(const struct evpq_pool *pool, bool probe)
{
    for (int i = 0; i < asked; i++)
        if (asks[i].pool == pool && asks[i].probe == probe && !evpq__op_finished(&asks[i].op))
            return &asks[i];
    return NULL;
}

struct fake_ask *fake_statement(const struct evpq_pool *pool)
{
    return unanswered(pool, false);
}

struct fake_ask *fake_probe(const struct evpq_pool *pool)
{
    return unanswered(pool, true);
}

static int count(const struct evpq_pool *pool, bool probe)
{
    int found = 0;
    for (int i = 0; i < asked; i++)
        found += asks[i].pool == pool && asks[i].probe == probe;
    return found;
}

int fake_statements(const struct evpq_pool *pool)
{
    return count(pool, false);
}

int fake_probes(const struct evpq_pool *pool)
{
    return count(pool, true);
}

void fake_ask_answer(struct fake_ask *a, struct evpq_result *result)
{
    a->result = result;
    evpq__op_finish_now(&a->op);
}

void fake_ask_fail(struct fake_ask *a, evpq_code code, evpq_fate fate, const char *sqlstate)
{
    evpq__error_set_report(
        &a->op.error, code, fate,
        &(struct evpq__server_report){.message = "it failed", .sqlstate = sqlstate});
    evpq__op_finish_now(&a->op);
}
