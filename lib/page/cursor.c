/* SPDX-License-Identifier: MIT */
/*
 * A cursor lives in a snapshot, which its first pull opens. A pull is a few
 * statements, sent together:
 *
 *     DECLARE                    the first time
 *     MOVE to the end            when the last rows are wanted: its tag counts
 *     MOVE to the offset         when the cursor stands elsewhere
 *     FETCH
 *
 *     NEW ---> OPENING ---> OPEN ---> OVER      by a failed pull, the deadline, the pool's end
 *
 * MOVE ABSOLUTE takes no more than an integer. It stands *on* a row, so that
 * the next FETCH begins behind it. A statement that fails makes those behind
 * it fail too (25P02), so the first error counts.
 */
#include "page/cursor.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "page/snapshot.h"

enum cursor_state { CURSOR_NEW, CURSOR_OPENING, CURSOR_OPEN, CURSOR_OVER };

enum { NAME_SIZE = 64 };

struct pull;

struct evpq__cursor {
    enum cursor_state state;
    struct evpq_pool *pool; /* a reference */
    const struct evpq__paged *paged;
    const struct evpq__keyset *keyset;
    const evpq_value *params;
    evpq_format format;
    int64_t deadline_us;
    uint64_t number; /* a name of its own, among all on one connection */
    struct evpq__snapshot *snapshot;
    int64_t stands_on; /* the row that it stands on, from 1; 0: before the first; -1: not known */
    int64_t count;     /* of all rows; -1: not known */
    int64_t offset;
    struct pull *pull; /* on its way, or NULL */
};

/* One pull, as an operation. It outlives the cursor where statements have not called back. */
struct pull {
    struct evpq_op op;
    struct evpq_pool *pool;
    struct evpq__cursor *cursor; /* NULL when it has finished */
    int64_t offset;
    uint32_t rows;
    uint32_t timeout_ms;
    struct evpq_result *result;
    evpq_result_fn *on_result;
    void *user;
};

static struct pull *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct pull, op);
}

void evpq__cursor_end(struct evpq__cursor *cursor)
{
    cursor->state = CURSOR_OVER;
    evpq__snapshot_end(cursor->snapshot);
    cursor->snapshot = NULL;
}

/* ---- the operation ---- */

/* The cursor lets go of it. */
static struct evpq__cursor *pull_leave(struct pull *pull)
{
    struct evpq__cursor *cursor = pull->cursor;
    if (cursor)
        cursor->pull = NULL;
    pull->cursor = NULL;
    return cursor;
}

static void pull_set_error(struct pull *pull, evpq_code code, evpq_fate fate)
{
    if (code == EVPQ_ETIMEOUT)
        evpq__error_set(&pull->op.error, code, fate,
                        "the deadline of %u ms passed while a page of the cursor was fetched",
                        pull->timeout_ms);
    else
        evpq__error_set(&pull->op.error, code, fate, "%s", evpq_code_text(code));
}

static void pull_stop(struct evpq_op *op, evpq_code why)
{
    struct pull *pull = of_op(op);
    pull_set_error(pull, why, EVPQ_ROLLED_BACK);
    evpq__cursor_end(pull_leave(pull));
}

static void pull_deliver(struct evpq_op *op)
{
    struct pull *pull = of_op(op);
    pull->on_result(pull->result, pull->result ? NULL : &op->error, pull->user);
}

static void pull_destroy(struct evpq_op *op)
{
    struct pull *pull = of_op(op);
    evpq_result_free(pull->result);
    evpq__pool_op_gone(pull->pool);
    evpq__free(pull);
}

static const struct evpq__op_class pull_class = {
    .stop = pull_stop, .deliver = pull_deliver, .destroy = pull_destroy};

static void pull_fail(struct pull *pull, const struct evpq_error *err)
{
    if (!pull->cursor)
        return; /* it was stopped */
    evpq__error_copy(&pull->op.error, err);
    evpq__cursor_end(pull_leave(pull));
    evpq__op_finish(&pull->op);
}

static void pull_fail_with(struct pull *pull, int code)
{
    struct evpq_error err = {0};
    evpq__error_set(&err, (evpq_code)code, EVPQ_NOT_SENT, "%s", evpq_code_text((evpq_code)code));
    pull_fail(pull, &err);
    evpq__error_clear(&err);
}

/* ---- its statements ---- */

static void pull_fetch(struct pull *pull);

static void on_moved(evpq_result *result, const evpq_error *err, void *user)
{
    struct pull *pull = user;
    (void)result;
    if (err)
        pull_fail(pull, err);
    evpq__op_unref(&pull->op);
}

static void put_declare(char out[NAME_SIZE], const struct evpq__cursor *cursor)
{
    snprintf(out, NAME_SIZE, "DECLARE evpq_page_%llu SCROLL CURSOR FOR\n",
             (unsigned long long)cursor->number);
}

/* The server counts from DECLARE on; a page's error is about what is behind it. */
static void on_declared(evpq_result *result, const evpq_error *err, void *user)
{
    struct pull *pull = user;
    (void)result;
    if (err && pull->cursor) {
        char declare[NAME_SIZE];
        put_declare(declare, pull->cursor);
        uint32_t position = evpq_error_position(err), before = (uint32_t)strlen(declare);
        struct evpq_error own = {0};
        evpq__error_set_report(
            &own, err->code, err->fate,
            &(struct evpq__server_report){.message = evpq_error_message(err),
                                          .sqlstate = evpq_error_sqlstate(err),
                                          .severity = evpq_error_severity(err),
                                          .detail = evpq_error_detail(err),
                                          .hint = evpq_error_hint(err),
                                          .constraint = evpq_error_constraint(err),
                                          .position = position > before ? position - before : 0});
        pull_fail(pull, &own);
        evpq__error_clear(&own);
    }
    evpq__op_unref(&pull->op);
}

static void on_counted(evpq_result *result, const evpq_error *err, void *user)
{
    struct pull *pull = user;
    if (err) {
        pull_fail(pull, err);
    } else if (pull->cursor) {
        pull->cursor->count = (int64_t)evpq_result_affected(result);
        pull->cursor->stands_on = -1;
        pull_fetch(pull);
    }
    evpq__op_unref(&pull->op);
}

static void on_fetched(evpq_result *result, const evpq_error *err, void *user)
{
    struct pull *pull = user;
    if (err) {
        pull_fail(pull, err);
    } else if (pull->cursor) {
        struct evpq__cursor *cursor = pull_leave(pull);
        bool full = evpq_result_rows(result) == pull->rows + 1;
        cursor->stands_on = full ? pull->offset + pull->rows + 1 : -1;
        cursor->offset = pull->offset;
        pull->result = evpq_result_keep(result);
        evpq__op_finish(&pull->op);
    }
    evpq__op_unref(&pull->op);
}

/* False: the pull has failed. */
static bool send(struct pull *pull, evpq_query *query, evpq_result_fn *on_result)
{
    query->size = sizeof(*query);
    query->timeout_ms = evpq__loop_left(pull->pool->loop, pull->op.deadline_us);
    query->server_timeout = EVPQ_OFF; /* it would end with the first of them */
    evpq__op_ref(&pull->op);
    int code = evpq_lease_query(NULL, evpq__snapshot_lease(pull->cursor->snapshot), query,
                                on_result, pull);
    if (code == EVPQ_OK)
        return true;
    pull_fail_with(pull, code);
    evpq__op_unref(&pull->op);
    return false;
}

static bool send_declare(struct pull *pull)
{
    const struct evpq__cursor *cursor = pull->cursor;
    char declare[NAME_SIZE];
    put_declare(declare, cursor);
    char *sql = evpq__cursor_sql(cursor->paged, cursor->keyset, declare);
    if (!sql) {
        pull_fail_with(pull, EVPQ_ENOMEM);
        return false;
    }
    evpq_query query = {
        .sql = sql, .params = cursor->params, .params_count = cursor->paged->params_count};
    bool sent = send(pull, &query, on_declared);
    evpq__free(sql);
    return sent;
}

static bool send_verb(struct pull *pull, const char *verb, int64_t rows, evpq_result_fn *on_result)
{
    char sql[128], count[24] = "ALL";
    if (rows >= 0)
        snprintf(count, sizeof(count), "%lld", (long long)rows);
    snprintf(sql, sizeof(sql), "%s %s IN evpq_page_%llu", verb, count,
             (unsigned long long)pull->cursor->number);
    return send(pull, &(evpq_query){.sql = sql, .format = pull->cursor->format}, on_result);
}

/* To stand on row `offset`. */
static bool send_moves(struct pull *pull)
{
    int64_t stands_on = pull->cursor->stands_on, offset = pull->offset;
    if (offset == stands_on)
        return true;
    if (offset == stands_on - 1)
        return send_verb(pull, "MOVE BACKWARD", 1, on_moved);
    int64_t reached = offset < INT32_MAX ? offset : INT32_MAX;
    if (!send_verb(pull, "MOVE ABSOLUTE", reached, on_moved))
        return false;
    while (reached < offset) {
        int64_t step = offset - reached < INT32_MAX ? offset - reached : INT32_MAX;
        if (!send_verb(pull, "MOVE FORWARD", step, on_moved))
            return false;
        reached += step;
    }
    return true;
}

static void pull_fetch(struct pull *pull)
{
    if (pull->offset == EVPQ__CURSOR_LAST)
        pull->offset = pull->cursor->count > pull->rows ? pull->cursor->count - pull->rows : 0;
    if (send_moves(pull))
        (void)send_verb(pull, "FETCH FORWARD", (int64_t)pull->rows + 1, on_fetched);
}

static void pull_run(struct pull *pull)
{
    const struct evpq__cursor *cursor = pull->cursor;
    if (pull->offset != EVPQ__CURSOR_LAST || cursor->count >= 0)
        pull_fetch(pull);
    else if (cursor->stands_on == 0 || send_verb(pull, "MOVE ABSOLUTE", 0, on_moved))
        (void)send_verb(pull, "MOVE FORWARD", -1, on_counted);
}

/* ---- the cursor ---- */

static void cursor_on_opened(const struct evpq_error *err, void *user)
{
    struct evpq__cursor *cursor = user;
    struct pull *pull = cursor->pull;
    if (err) {
        pull_fail(pull, err);
        return;
    }
    cursor->state = CURSOR_OPEN;
    if (send_declare(pull))
        pull_run(pull);
}

static void cursor_on_over(evpq_code why, void *user)
{
    struct evpq__cursor *cursor = user;
    if (cursor->pull)
        evpq__op_stop(&cursor->pull->op, why);
    else
        evpq__cursor_end(cursor);
}

static int cursor_open(struct evpq__cursor *cursor, int64_t by_us)
{
    struct evpq__snapshot_options options = {
        .open_by_us = by_us, .deadline_us = cursor->deadline_us, .tag = "evpq cursor"};
    cursor->number = ++cursor->pool->operations;
    int code = evpq__snapshot_open(&cursor->snapshot, cursor->pool, &options, cursor_on_opened,
                                   cursor_on_over, cursor);
    if (code == EVPQ_OK)
        cursor->state = CURSOR_OPENING;
    return code;
}

int evpq__cursor_pull(evpq_op **out, struct evpq__cursor *cursor, int64_t offset, uint32_t rows,
                      uint32_t timeout_ms, evpq_result_fn *on_result, void *user)
{
    if (cursor->state == CURSOR_OVER)
        return EVPQ_ECLOSED;
    struct evpq_pool *pool = cursor->pool;
    struct pull *pull = evpq__alloc(sizeof(*pull));
    if (!pull)
        return EVPQ_ENOMEM;
    int64_t deadline_us = evpq__loop_deadline(pool->loop, evpq__pool_timeout(pool, timeout_ms));
    int code = cursor->state == CURSOR_NEW ? cursor_open(cursor, deadline_us) : EVPQ_OK;
    if (code != EVPQ_OK) {
        evpq__free(pull);
        return code;
    }
    *pull = (struct pull){.pool = pool, .cursor = cursor, .offset = offset, .rows = rows};
    pull->timeout_ms = timeout_ms;
    pull->on_result = on_result;
    pull->user = user;
    pool->ops++;
    evpq__op_init(&pull->op, &pull_class, pool->loop, deadline_us);
    cursor->pull = pull;
    if (cursor->state == CURSOR_OPEN)
        pull_run(pull);
    *out = &pull->op;
    return EVPQ_OK;
}

struct evpq__cursor *evpq__cursor_new(struct evpq_pool *pool, const struct evpq__paged *paged,
                                      const struct evpq__keyset *keyset, const evpq_value *params,
                                      evpq_format format, int64_t deadline_us)
{
    struct evpq__cursor *cursor = evpq__alloc(sizeof(*cursor));
    if (!cursor)
        return NULL;
    *cursor = (struct evpq__cursor){.pool = pool, .paged = paged, .keyset = keyset};
    cursor->params = params;
    cursor->format = format;
    cursor->deadline_us = deadline_us;
    cursor->count = -1;
    evpq__pool_ref(pool);
    return cursor;
}

bool evpq__cursor_over(const struct evpq__cursor *cursor)
{
    return cursor->state == CURSOR_OVER;
}

int64_t evpq__cursor_offset(const struct evpq__cursor *cursor)
{
    return cursor->offset;
}

void evpq__cursor_close(struct evpq__cursor *cursor)
{
    if (!cursor)
        return;
    if (cursor->pull)
        evpq__op_stop(&cursor->pull->op, EVPQ_ECLOSED);
    else
        evpq__cursor_end(cursor);
    evpq__pool_unref(cursor->pool);
    evpq__free(cursor);
}
