/* SPDX-License-Identifier: MIT */
/*
 * One read as an operation: a standby, another one, at last the primary, each an *attempt* of the
 * pool there. What is known to go to the primary is an operation of its pool, and not seen here.
 *
 *   HELD ---------> ATTEMPT <===> ATTEMPT ---> DELIVERED
 *     waits for the      elsewhere
 *     first answers
 */
#include <string.h>

#include "base/mem.h"
#include "pg/result.h"
#include "pg/statement.h"
#include "route/router.h"

struct read {
    struct evpq_op op;          /* its node is of router->waiting, or of server->attempts */
    struct evpq_router *router; /* a reference */
    struct evpq__lag_bounds bounds;
    uint32_t tried;              /* standbys */
    struct evpq__timer patience; /* of being held */
    struct evpq__server *server; /* of the attempt */
    struct evpq_op *attempt;     /* under way: it has a reference; or NULL */
    bool leaves;                 /* the attempt was stopped to be made elsewhere */
    evpq_query query;            /* what it points to is owned */
    evpq_result_fn *on_result;
    void *user;
    struct evpq_result *result;
};

static struct read *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct read, op);
}

/* Attempts */

static void read_on_attempt(evpq_result *result, const evpq_error *err, void *user);

/* EVPQ_OK, and the attempt is under way; or as evpq_pool_query(). */
static int try_on(struct read *read, struct evpq__server *server, uint32_t timeout_ms, bool goes_on)
{
    struct evpq_router *router = read->router;
    evpq_query query = read->query;
    query.timeout_ms = timeout_ms;
    int code =
        evpq__pool_query(&read->attempt, server->pool, &query, goes_on, read_on_attempt, read);
    if (code != EVPQ_OK) {
        read->attempt = NULL;
        return code;
    }
    read->server = server;
    read->leaves = false;
    evpq__list_push_back(&server->attempts, &read->op.node);
    evpq__router_count(server);
    if (!evpq__server_is_primary(server))
        read->tried |= UINT32_C(1) << (server - router->standbys);
    evpq__op_ref(&read->op);
    return EVPQ_OK;
}

/* On a standby that is left, or the primary, for what is left of its time. */
static void go_on(struct read *read)
{
    struct evpq_router *router = read->router;
    struct evpq__server *server = evpq__router_choose(router, &read->bounds, read->tried);
    int code = try_on(read, server ? server : &router->primary,
                      evpq__loop_left(router->loop, read->op.deadline_us), true);
    if (code == EVPQ_OK)
        return;
    evpq__error_set(&read->op.error, (evpq_code)code, EVPQ_NOT_SENT, "%s", evpq_code_text(code));
    evpq__op_finish(&read->op);
}

/* Has the server failed, and not the statement? */
static bool may_move(const struct read *read, const struct evpq_error *err)
{
    const char *sqlstate = evpq_error_sqlstate(err);
    if (evpq__server_is_primary(read->server))
        return false;
    if (read->leaves)
        return true;
    switch (err->code) {
    case EVPQ_ECONNECT:
    case EVPQ_EDISCONNECTED:
    case EVPQ_ECLOSED:
        return true;
    case EVPQ_ETIMEOUT: /* there was no connection to wait for */
        return err->fate == EVPQ_NOT_SENT && !evpq__server_connected(read->server);
    case EVPQ_ESERVER: /* a conflict with what is to be replayed */
        return strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0;
    default:
        return false;
    }
}

static void read_on_attempt(evpq_result *result, const evpq_error *err, void *user)
{
    struct read *read = user;
    read->attempt = NULL;
    if (!evpq__op_finished(&read->op)) {
        evpq__node_unlink(&read->op.node);
        if (err && may_move(read, err)) {
            read->router->stats.moved++;
            go_on(read);
        } else {
            if (err)
                evpq__error_copy(&read->op.error, err);
            else
                read->result = evpq_result_keep(result);
            evpq__op_finish_now(&read->op);
        }
    }
    evpq__op_unref(&read->op);
}

void evpq__reads_leave(struct evpq__server *server)
{
    struct evpq__node *node = evpq__list_first(&server->attempts);
    for (; node; node = evpq__list_next(&server->attempts, node)) {
        struct read *read = of_op(evpq__container_of(node, struct evpq_op, node));
        if (read->attempt->state != EVPQ__OP_WAITING)
            continue;
        read->leaves = true;
        evpq__op_stop(read->attempt, EVPQ_ECANCELED);
    }
}

/* Holding */

static void release(struct read *read)
{
    evpq__timer_stop(&read->patience);
    evpq__node_unlink(&read->op.node);
    read->router->stats.waiting--;
}

static void on_patience(struct evpq__timer *timer)
{
    struct read *read = evpq__container_of(timer, struct read, patience);
    release(read);
    go_on(read);
}

static void hold(struct read *read)
{
    struct evpq__loop *loop = read->router->loop;
    int64_t now = evpq__loop_now(loop), deadline = read->op.deadline_us;
    evpq__list_push_back(&read->router->waiting, &read->op.node);
    read->router->stats.waiting++;
    evpq__timer_start(loop, &read->patience,
                      deadline == EVPQ__NO_DEADLINE ? deadline : now + (deadline - now) / 2);
}

void evpq__reads_wake(struct evpq_router *router)
{
    bool more = evpq__probes_begin(router);
    struct evpq__node *next, *node = evpq__list_first(&router->waiting);
    for (; node; node = next) {
        struct read *read = of_op(evpq__container_of(node, struct evpq_op, node));
        next = evpq__list_next(&router->waiting, node);
        if (more && !evpq__router_choose(router, &read->bounds, 0))
            continue;
        release(read);
        go_on(read);
    }
}

/* The operation */

static void read_stop(struct evpq_op *op, evpq_code why)
{
    struct read *read = of_op(op);
    if (!read->attempt) {
        release(read);
        evpq__error_set(&op->error, why, EVPQ_NOT_SENT,
                        "%s while it was to be heard how far the standbys are",
                        why == EVPQ_ETIMEOUT ? "the deadline passed" : "cancelled");
        return;
    }
    struct evpq_op *attempt = read->attempt;
    evpq__node_unlink(&op->node);
    evpq__op_stop(attempt, why);
    if (attempt->error.code != EVPQ_OK)
        evpq__error_copy(&op->error, &attempt->error);
    else /* its answer had come, and nobody was told */
        evpq__error_set(&op->error, why, EVPQ_UNKNOWN, "%s", evpq_code_text(why));
}

static void read_deliver(struct evpq_op *op)
{
    struct read *read = of_op(op);
    read->on_result(read->result, read->result ? NULL : &op->error, read->user);
}

static void read_destroy(struct evpq_op *op)
{
    struct read *read = of_op(op);
    struct evpq_router *router = read->router;
    evpq_result_free(read->result);
    evpq__free((void *)(uintptr_t)read->query.params);
    evpq__free(read);
    evpq__router_unref(router);
}

static const struct evpq__op_class read_class = {
    .stop = read_stop, .deliver = read_deliver, .destroy = read_destroy};

/* The read with its statement and its tag, in one block; its parameters are in another. */
static struct read *read_new(struct evpq_router *router, const evpq_query *query,
                             uint32_t timeout_ms)
{
    size_t sql_length = query->sql_length ? query->sql_length : strlen(query->sql);
    size_t tag_length = query->tag ? strnlen(query->tag, EVPQ__TAG_SIZE - 1) : 0;
    struct read *read = evpq__alloc(sizeof(*read) + sql_length + 1 + tag_length + 1);
    evpq_value *params = NULL;
    if (read && query->params_count)
        params = evpq__values_copy(query->params, query->params_count);
    if (!read || (query->params_count && !params)) {
        evpq__free(read);
        return NULL;
    }
    char *sql = (char *)(read + 1), *tag = sql + sql_length + 1;
    read->query = *query;
    read->query.sql = memcpy(sql, query->sql, sql_length);
    read->query.params = params;
    if (query->tag)
        read->query.tag = memcpy(tag, query->tag, tag_length);
    read->router = router;
    evpq__router_ref(router);
    evpq__timer_init(&read->patience, on_patience);
    evpq__op_init(&read->op, &read_class, router->loop,
                  evpq__loop_deadline(router->loop, timeout_ms));
    return read;
}

/* On this standby; NULL: on the one that the first answers will tell of. */
static int read_start(evpq_op **out, struct evpq_router *router, struct evpq__server *server,
                      const evpq_query *query, const struct evpq__lag_bounds *bounds,
                      evpq_result_fn *on_result, void *user)
{
    uint32_t timeout_ms = evpq__pool_timeout(router->primary.pool, query->timeout_ms);
    struct read *read = read_new(router, query, timeout_ms);
    if (!read)
        return EVPQ_ENOMEM;
    read->bounds = *bounds;
    read->on_result = on_result;
    read->user = user;
    int code = EVPQ_OK;
    if (server)
        code = try_on(read, server, timeout_ms, false);
    else
        hold(read);
    if (code != EVPQ_OK) {
        evpq__op_discard(&read->op);
        return code;
    }
    if (out)
        *out = &read->op;
    return EVPQ_OK;
}

static int on_primary(evpq_op **out, struct evpq_router *router, const evpq_query *query,
                      evpq_result_fn *on_result, void *user)
{
    int code = evpq_pool_query(out, router->primary.pool, query, on_result, user);
    if (code == EVPQ_OK)
        evpq__router_count(&router->primary);
    return code;
}

int evpq_router_query(evpq_op **out, evpq_router *router, const evpq_query *query,
                      const evpq_read *read, evpq_result_fn *on_result, void *user)
{
    evpq_query complete;
    struct evpq__lag_bounds bounds;
    if (!router || !on_result || evpq__query_read(&complete, query) ||
        (read && !evpq__router_bounds(&bounds, router, read)))
        return EVPQ_EINVALID;
    if (!read) {
        int code = evpq_pool_query(out, router->primary.pool, query, on_result, user);
        router->stats.writes += code == EVPQ_OK;
        return code;
    }
    evpq__probes_wanted(router);
    struct evpq__server *server = evpq__router_choose(router, &bounds, 0);
    int code = server || evpq__probes_begin(router)
                   ? read_start(out, router, server, &complete, &bounds, on_result, user)
                   : on_primary(out, router, query, on_result, user);
    router->stats.reads += code == EVPQ_OK;
    return code;
}
