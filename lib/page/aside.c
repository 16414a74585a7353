/* SPDX-License-Identifier: MIT */
/*
 * What is asked beside the pages: how many rows there are, and how the server
 * makes a page. Each is one query of the pool, whose operation is theirs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/pager.h"

#define MAX_BOUND UINT64_C(1000000000000)

struct aside {
    struct evpq__node node;   /* of pager->asides */
    struct evpq_pager *pager; /* a reference */
    struct evpq_op *op;
    size_t head; /* characters of its query in front of the user's statement */
    evpq_count count;
    uint64_t bound;
    evpq_count_fn *on_count;
    evpq_explain_fn *on_explained;
    void *user;
    char *statement; /* of the page that is explained */
};

/* All of them one behind the other, to be given to evpq__free(); NULL without memory. */
static char *join(const char *const *parts, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += strlen(parts[i]);
    char *text = evpq__alloc(length + 1);
    char *end = text;
    for (size_t i = 0; text && i < count; i++)
        end = stpcpy(end, parts[i]);
    return text;
}

static void aside_free(struct aside *aside)
{
    evpq__node_unlink(&aside->node);
    evpq__pager_unref(aside->pager);
    evpq__free(aside->statement);
    evpq__free(aside);
}

static struct aside *aside_new(struct evpq_pager *pager, void *user)
{
    struct aside *aside = evpq__alloc(sizeof(*aside));
    if (!aside)
        return NULL;
    evpq__pager_ref(pager);
    aside->pager = pager;
    aside->user = user;
    evpq__list_push_back(&pager->asides, &aside->node);
    return aside;
}

/* Sends the query, whose SQL it frees. */
static int aside_ask(evpq_op **out, struct aside *aside, char *sql, size_t params_count,
                     evpq_result_fn *on_result)
{
    struct evpq_pager *pager = aside->pager;
    uint32_t timeout_ms;
    int code = EVPQ_ENOMEM;
    if (sql && !evpq__pager_timeout(pager, &timeout_ms))
        code = EVPQ_ETIMEOUT;
    else if (sql)
        code = evpq_pool_query(&aside->op, pager->pool,
                               &(evpq_query){.size = sizeof(evpq_query),
                                             .sql = sql,
                                             .params = pager->params,
                                             .params_count = params_count,
                                             .timeout_ms = timeout_ms,
                                             .format = EVPQ_TEXT},
                               on_result, aside);
    evpq__free(sql);
    if (code != EVPQ_OK)
        aside_free(aside);
    else if (out)
        *out = aside->op;
    return code;
}

void evpq__asides_close(struct evpq_pager *pager)
{
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(&pager->asides)))
        evpq__op_stop(evpq__container_of(node, struct aside, node)->op, EVPQ_ECLOSED);
}

/* The error its user hears; false when there is none. */
static bool aside_failed(const struct aside *aside, const evpq_error *err,
                         struct evpq_error *failure)
{
    if (err)
        evpq__failure_take(failure, err, &aside->pager->paged, aside->head);
    else if (aside->pager->closed)
        evpq__error_set(failure, EVPQ_ECLOSED, EVPQ_ROLLED_BACK, "the pager was closed");
    return failure->code != EVPQ_OK;
}

/* ---- counts ---- */

/* The top node's of EXPLAIN (FORMAT JSON): its first. The quotes of a name inside would be escaped.
 */
static uint64_t planned_rows(const char *plan)
{
    static const char key[] = "\"Plan Rows\": ";
    const char *at = strstr(plan, key);
    double rows = at ? strtod(at + sizeof(key) - 1, NULL) : 0;
    return rows >= 1e18 ? UINT64_C(1000000000000000000) : rows > 0 ? (uint64_t)rows : 0;
}

static void count_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct aside *aside = user;
    struct evpq_error failure = {0};
    evpq_count *count = &aside->count;
    evpq_text_view text;
    bool failed = aside_failed(aside, err, &failure);
    if (!failed && evpq_result_text(result, 0, 0, &text) == EVPQ_OK) {
        count->rows = count->kind == EVPQ_COUNT_ESTIMATE ? planned_rows(text.data)
                                                         : strtoull(text.data, NULL, 10);
        count->more = count->kind == EVPQ_COUNT_BOUNDED && count->rows > aside->bound;
        if (count->more)
            count->rows = aside->bound;
    }
    aside->on_count(failed ? NULL : count, failed ? &failure : NULL, aside->user);
    evpq__error_clear(&failure);
    aside_free(aside);
}

static char *count_sql(struct aside *aside)
{
    char end[64] = "\n) AS evpq_page";
    const char *start = "SELECT pg_catalog.count(*) FROM (\n";
    switch (aside->count.kind) {
    case EVPQ_COUNT_EXACT:
        break;
    case EVPQ_COUNT_BOUNDED:
        start = "SELECT pg_catalog.count(*) FROM (SELECT FROM (\n";
        snprintf(end, sizeof(end), "\n) AS evpq_page LIMIT %" PRIu64 ") AS evpq_count",
                 aside->bound + 1);
        break;
    case EVPQ_COUNT_ESTIMATE:
        start = "EXPLAIN (FORMAT JSON) SELECT * FROM (\n";
        break;
    }
    aside->head = strlen(start);
    return join((const char *[]){start, aside->pager->sql, end}, 3);
}

int evpq_pager_count(evpq_op **out, evpq_pager *pager, evpq_count_kind kind, uint64_t bound,
                     evpq_count_fn *on_count, void *user)
{
    bool bounded = kind == EVPQ_COUNT_BOUNDED;
    if (!pager || !on_count || kind < EVPQ_COUNT_EXACT || kind > EVPQ_COUNT_ESTIMATE ||
        bound > MAX_BOUND || bounded != (bound > 0))
        return EVPQ_EINVALID;
    struct aside *aside = aside_new(pager, user);
    if (!aside)
        return EVPQ_ENOMEM;
    aside->count.kind = kind;
    aside->bound = bound;
    aside->on_count = on_count;
    return aside_ask(out, aside, count_sql(aside), pager->paged.params_count, count_on_result);
}

/* ---- explanations ---- */

/* Its lines with a line feed between them, to be given to evpq__free(); NULL without memory. */
static char *plan_text(const evpq_result *result)
{
    uint32_t rows = evpq_result_rows(result);
    size_t length = 1;
    evpq_text_view line;
    for (uint32_t row = 0; row < rows; row++)
        if (evpq_result_text(result, row, 0, &line) == EVPQ_OK)
            length += line.length + 1;
    char *plan = evpq__alloc(length);
    char *end = plan;
    for (uint32_t row = 0; plan && row < rows; row++) {
        if (evpq_result_text(result, row, 0, &line) != EVPQ_OK)
            continue;
        if (row > 0)
            *end++ = '\n';
        memcpy(end, line.data, line.length);
        end += line.length;
    }
    return plan;
}

static void explain_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct aside *aside = user;
    struct evpq_error failure = {0};
    char *plan = NULL;
    bool failed = aside_failed(aside, err, &failure);
    if (!failed) {
        plan = plan_text(result);
        failed = !plan;
        if (failed)
            evpq__error_set(&failure, EVPQ_ENOMEM, EVPQ_ROLLED_BACK, "%s",
                            evpq_code_text(EVPQ_ENOMEM));
    }
    const evpq_explanation explanation = {.statement = aside->statement, .plan = plan};
    aside->on_explained(failed ? NULL : &explanation, failed ? &failure : NULL, aside->user);
    evpq__error_clear(&failure);
    evpq__free(plan);
    aside_free(aside);
}

int evpq_pager_explain(evpq_op **out, evpq_pager *pager, unsigned flags,
                       evpq_explain_fn *on_explained, void *user)
{
    if (!pager || !on_explained || flags > (EVPQ_EXPLAIN_ANALYZE | EVPQ_EXPLAIN_JSON) ||
        pager->mode == EVPQ_PAGES_CURSOR)
        return EVPQ_EINVALID;
    struct aside *aside = aside_new(pager, user);
    if (!aside)
        return EVPQ_ENOMEM;
    aside->on_explained = on_explained;
    size_t params_count;
    struct evpq__ask ask = evpq__pager_next_ask(pager);
    evpq__pager_recall(pager);
    aside->statement = evpq__pager_sql(pager, &ask, &params_count);
    char start[64], *sql = NULL;
    size_t length = (size_t)snprintf(start, sizeof(start), "EXPLAIN (%sFORMAT %s) ",
                                     flags & EVPQ_EXPLAIN_ANALYZE ? "ANALYZE, " : "",
                                     flags & EVPQ_EXPLAIN_JSON ? "JSON" : "TEXT");
    size_t head = evpq__pager_head(pager, &ask);
    aside->head = head == EVPQ__NO_HEAD ? head : length + head;
    if (aside->statement)
        sql = join((const char *[]){start, aside->statement}, 2);
    return aside_ask(out, aside, sql, params_count, explain_on_result);
}
