/* SPDX-License-Identifier: MIT */
/*
 * One page as an operation: a *fetch*. The first of a walk has the order proven
 * before it; each then waits for a *pull*, the query of the page, which may have
 * been sent ahead of it, and delivers.
 *
 *     fetch    proving ---> pulling ------------> DELIVERED: takes the page,
 *                 |            |  its pull lands      ^       sends the next pull ahead
 *                 +------------+----------------------+
 *                                stopped: by deadline, cancel, close
 *
 *     pull     flying ----> landed       ahead of a fetch, or for one
 *
 * A pull that was sent ahead and fails is nobody's error: the fetch sends
 * another, with the time that it has itself.
 */
#include "base/mem.h"
#include "page/pager.h"

struct evpq__fetch {
    struct evpq_op op;
    struct evpq_pager *pager; /* a reference */
    struct evpq__ask ask;
    uint32_t timeout_ms;
    struct evpq__proof_ask question;
    struct evpq__proof *proof; /* under way, or NULL; then it has a reference */
    evpq_page_fn *on_page;
    void *user;
    struct evpq_page page;
};

static struct evpq__fetch *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct evpq__fetch, op);
}

/* ---- pulls ---- */

static void pull_free(struct evpq__pull *pull)
{
    evpq_result_free(pull->result);
    evpq__error_clear(&pull->error);
    evpq__free(pull);
}

void evpq__pull_drop(struct evpq_pager *pager)
{
    struct evpq__pull *pull = pager->pull;
    if (!pull)
        return;
    pager->pull = NULL;
    pull->pager = NULL;
    if (pull->op)
        evpq__op_stop(pull->op, EVPQ_ECANCELED); /* its callback frees it */
    else
        pull_free(pull);
}

static void fetch_landed(struct evpq__fetch *fetch);

static void pull_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct evpq__pull *pull = user;
    struct evpq_pager *pager = pull->pager;
    pull->op = NULL;
    if (!pager) {
        pull_free(pull);
        return;
    }
    if (err)
        evpq__error_copy(&pull->error, err);
    else
        pull->result = evpq_result_keep(result);
    if (pager->fetch)
        fetch_landed(pager->fetch);
}

static size_t smaller_limit(size_t a, size_t b)
{
    return a && (a < b || !b) ? a : b;
}

static int pull_send(struct evpq__pull *pull, struct evpq_pager *pager, uint32_t timeout_ms)
{
    if (pager->cursor)
        return evpq__cursor_pull(&pull->op, pager->cursor, pull->ask.offset, pull->ask.rows,
                                 timeout_ms, pull_on_result, pull);
    size_t params_count;
    char *sql = evpq__pager_sql(pager, &pull->ask, &params_count);
    if (!sql)
        return EVPQ_ENOMEM;
    evpq_query query = {.size = sizeof(query),
                        .sql = sql,
                        .params = pager->params,
                        .params_count = params_count,
                        .timeout_ms = timeout_ms,
                        .format = pager->format};
    if (pager->until) /* a plan for any two boundaries cannot know how near they are */
        query.prepare = EVPQ_OFF;
    if (pull->ahead)
        query.max_result_bytes =
            smaller_limit(pager->prefetch_bytes, pager->pool->options.max_result_bytes);
    int code =
        pager->lease
            ? evpq_lease_query(&pull->op, pager->lease, &query, pull_on_result, pull)
            : evpq__pool_query(&pull->op, pager->pool, &query, !pull->ahead, pull_on_result, pull);
    evpq__free(sql);
    return code;
}

/* EVPQ_OK, and pager->pull is on its way; or as evpq_pool_query(). */
static int pull_start(struct evpq_pager *pager, const struct evpq__ask *ask, uint32_t timeout_ms,
                      bool ahead)
{
    struct evpq__pull *pull = evpq__alloc(sizeof(*pull));
    if (!pull)
        return EVPQ_ENOMEM;
    pull->pager = pager;
    pull->ask = *ask;
    pull->ahead = ahead;
    int code = pull_send(pull, pager, timeout_ms);
    if (code != EVPQ_OK) {
        evpq__free(pull);
        return code;
    }
    pager->pull = pull;
    return EVPQ_OK;
}

static bool same_page(const struct evpq__ask *a, const struct evpq__ask *b)
{
    return a->from == b->from && a->backward == b->backward && a->inclusive == b->inclusive &&
           a->offset == b->offset && a->rows == b->rows;
}

/* On a lease all that is to be proven was proven before. */
static bool wants_proof(const struct evpq_pager *pager)
{
    return pager->mode == EVPQ_PAGES_KEYSET && !pager->lease && !pager->proven;
}

/* The page after this one, in its direction, while its user works on it. */
static void pull_ahead(struct evpq_pager *pager, const struct evpq__ask *ask,
                       const struct evpq_page *page)
{
    bool more = ask->backward ? page->has_prev : page->has_next;
    uint32_t timeout_ms;
    if (!more || pager->prefetch_bytes == 0 || !evpq__pager_timeout(pager, &timeout_ms))
        return;
    if (PQresultMemorySize(page->result->pg) > pager->prefetch_bytes)
        return; /* so will be the next */
    struct evpq__ask next =
        ask->backward ? evpq__pager_prev_ask(pager) : evpq__pager_next_ask(pager);
    if (!wants_proof(pager))
        (void)pull_start(pager, &next, timeout_ms, true);
}

/* ---- fetches ---- */

static void set_failed(struct evpq_op *op, evpq_code code)
{
    evpq__error_set(&op->error, code, EVPQ_NOT_SENT, "%s", evpq_code_text(code));
}

/* Sends another, for what is left of its time. */
static void pull_again(struct evpq__fetch *fetch)
{
    struct evpq_pager *pager = fetch->pager;
    uint32_t left_ms = evpq__loop_left(pager->pool->loop, fetch->op.deadline_us);
    evpq__pull_drop(pager);
    int code = pull_start(pager, &fetch->ask, left_ms, false);
    if (code == EVPQ_OK)
        return;
    set_failed(&fetch->op, (evpq_code)code);
    evpq__op_finish_now(&fetch->op);
}

static void fetch_landed(struct evpq__fetch *fetch)
{
    struct evpq__pull *pull = fetch->pager->pull;
    if (pull->ahead && !pull->result)
        pull_again(fetch);
    else
        evpq__op_finish_now(&fetch->op);
}

static void fetch_stop(struct evpq_op *op, evpq_code why)
{
    struct evpq__fetch *fetch = of_op(op);
    struct evpq_pager *pager = fetch->pager;
    if (fetch->proof) {
        evpq__proof_stop(fetch->proof, why, &op->error);
        return;
    }
    struct evpq_op *query = pager->pull->op;
    evpq__op_stop(query, why);
    if (query->error.code != EVPQ_OK)
        evpq__error_copy(&op->error, &query->error);
    else /* its answer had come, and nobody was told */
        evpq__error_set(&op->error, why, EVPQ_ROLLED_BACK, "%s", evpq_code_text(why));
    evpq__pull_drop(pager);
}

/* What was proven is of a table as it was. */
static void tell_change(struct evpq_pager *pager, struct evpq_error *error)
{
    if (!pager->proven || !evpq__failure_is_change(error))
        return;
    evpq__failure_tell_change(error);
    evpq__proof_forget(pager->pool, &pager->walk);
    pager->proven = pager->lease != NULL;
}

/* What the pull brought. */
static void fetch_take(struct evpq__fetch *fetch)
{
    struct evpq_pager *pager = fetch->pager;
    struct evpq__pull *pull = pager->pull;
    struct evpq_error *error = &fetch->op.error;
    if (error->code != EVPQ_OK)
        return;
    pager->pull = NULL;
    if (pager->cursor)
        fetch->ask.offset = evpq__cursor_offset(pager->cursor);
    if (pager->closed)
        evpq__error_set(error, EVPQ_ECLOSED, EVPQ_ROLLED_BACK, "the pager was closed");
    else if (pull->result)
        evpq__page_take(&fetch->page, pager, &fetch->ask, pull->result, error);
    else
        evpq__failure_take(error, &pull->error, &pager->paged,
                           evpq__pager_head(pager, &fetch->ask));
    tell_change(pager, error);
    if (fetch->page.result)
        pull->result = NULL; /* the page's now */
    pull_free(pull);
}

/* Its steps have what those before have left of it. */
static void name_deadline(const struct evpq__fetch *fetch, struct evpq_error *error)
{
    const struct evpq_pager *pager = fetch->pager;
    uint32_t own = evpq__pager_own_timeout(pager);
    if (fetch->timeout_ms && fetch->timeout_ms < own)
        evpq__failure_name_deadline(error, "walk's ", pager->walk_ms);
    else
        evpq__failure_name_deadline(error, "", own);
}

static void fetch_deliver(struct evpq_op *op)
{
    struct evpq__fetch *fetch = of_op(op);
    struct evpq_pager *pager = fetch->pager;
    fetch_take(fetch);
    name_deadline(fetch, &op->error);
    pager->fetch = NULL;
    bool good = op->error.code == EVPQ_OK;
    if (good)
        pull_ahead(pager, &fetch->ask, &fetch->page);
    else if (pager->cursor)
        evpq__cursor_end(pager->cursor);
    fetch->on_page(good ? &fetch->page : NULL, good ? NULL : &op->error, fetch->user);
}

static void fetch_destroy(struct evpq_op *op)
{
    struct evpq__fetch *fetch = of_op(op);
    evpq_result_free(fetch->page.result);
    evpq__pool_op_gone(fetch->pager->pool);
    evpq__pager_unref(fetch->pager);
    evpq__free(fetch);
}

static const struct evpq__op_class fetch_class = {
    .stop = fetch_stop, .deliver = fetch_deliver, .destroy = fetch_destroy};

/* Its pull, which may be there already. */
static int fetch_pull(struct evpq__fetch *fetch)
{
    struct evpq_pager *pager = fetch->pager;
    if (pager->pull && same_page(&pager->pull->ask, &fetch->ask)) {
        bool failed = !pager->pull->op && !pager->pull->result;
        if (!failed)
            return EVPQ_OK;
    }
    evpq__pull_drop(pager);
    return pull_start(pager, &fetch->ask, fetch->timeout_ms, false);
}

static void fetch_proven(void *user, const struct evpq__proof_facts *facts, struct evpq_error *err)
{
    struct evpq__fetch *fetch = user;
    struct evpq_pager *pager = fetch->pager;
    fetch->proof = NULL;
    if (facts) {
        evpq__proof_remember(pager->pool, &pager->walk, !pager->assume_unique, pager->require_index,
                             facts);
        if (evpq__pager_fits(pager, facts))
            evpq__pager_know(pager, facts);
        else
            evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK, "%s", EVPQ_TOKEN_PROBLEM);
    }
    if (!evpq__op_finished(&fetch->op)) {
        if (pager->proven) {
            pull_again(fetch);
        } else {
            evpq__error_move(&fetch->op.error, err);
            evpq__op_finish_now(&fetch->op);
        }
    }
    evpq__op_unref(&fetch->op);
}

static int fetch_prove(struct evpq__fetch *fetch)
{
    struct evpq_pager *pager = fetch->pager;
    fetch->question = (struct evpq__proof_ask){.pool = pager->pool,
                                               .paged = &pager->paged,
                                               .keyset = &pager->keyset,
                                               .params = pager->params,
                                               .unique = !pager->assume_unique,
                                               .index = pager->require_index,
                                               .deadline_us = fetch->op.deadline_us};
    int code = evpq__proof_start(&fetch->proof, &fetch->question, fetch_proven, fetch);
    if (code == EVPQ_OK)
        evpq__op_ref(&fetch->op);
    return code;
}

/* The first step. */
static int fetch_begin(struct evpq__fetch *fetch)
{
    struct evpq_pager *pager = fetch->pager;
    if (wants_proof(pager))
        evpq__pager_recall(pager);
    return wants_proof(pager) ? fetch_prove(fetch) : fetch_pull(fetch);
}

int evpq__fetch_start(evpq_op **out, struct evpq_pager *pager, const struct evpq__ask *ask,
                      evpq_page_fn *on_page, void *user)
{
    struct evpq_pool *pool = pager->pool;
    if (pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    uint32_t timeout_ms;
    if (!evpq__pager_timeout(pager, &timeout_ms))
        return EVPQ_ETIMEOUT;
    if (pager->cursor && evpq__cursor_over(pager->cursor))
        return EVPQ_ECLOSED;
    struct evpq__fetch *fetch = evpq__alloc(sizeof(*fetch));
    if (!fetch)
        return EVPQ_ENOMEM;
    fetch->pager = pager;
    fetch->ask = *ask;
    fetch->timeout_ms = timeout_ms;
    fetch->on_page = on_page;
    fetch->user = user;
    evpq__pager_ref(pager);
    pool->ops++;
    evpq__op_init(&fetch->op, &fetch_class, pool->loop,
                  evpq__loop_deadline(pool->loop, evpq__pool_timeout(pool, timeout_ms)));
    int code = fetch_begin(fetch);
    if (code != EVPQ_OK) {
        evpq__op_discard(&fetch->op);
        return code;
    }
    pager->fetch = fetch;
    if (!fetch->proof && !pager->pull->op)
        evpq__op_finish(&fetch->op); /* it has landed */
    if (out)
        *out = &fetch->op;
    return EVPQ_OK;
}

void evpq__fetch_close(struct evpq__fetch *fetch)
{
    evpq__op_stop(&fetch->op, EVPQ_ECLOSED);
}
