/* SPDX-License-Identifier: MIT */
/*
 * The workers of a scan. When the order is proven to be total the first one
 * exports its snapshot and takes the sample that cuts the order into ranges;
 * then the others import the snapshot. Each takes one range after another and
 * pages through it.
 *
 *     NEW ---> OPENING ---> [SAMPLING] ---> READY <===> FETCHING
 *                 \             \             |            |
 *                  +-------------+---> OVER <-+------------+
 *
 * Which of them may fetch decides evpq__workers_drive(), whenever something has
 * happened. In order, the range whose pages are handed over may always have one
 * page more, or all would wait for each other.
 */
#include "base/mem.h"
#include "page/scan.h"

static void worker_end(struct evpq__worker *worker)
{
    worker->state = EVPQ__WORKER_OVER;
    struct evpq_pager *pager = worker->pager;
    worker->pager = NULL;
    evpq_pager_close(pager);
    evpq__snapshot_end(worker->snapshot);
    worker->snapshot = NULL;
}

void evpq__workers_end(struct evpq_scan *scan)
{
    struct evpq_error ignored = {0};
    if (scan->proof)
        evpq__proof_stop(scan->proof, EVPQ_ECLOSED, &ignored);
    evpq__error_clear(&ignored);
    for (uint32_t i = 0; i < scan->worker_count; i++)
        worker_end(&scan->workers[i]);
}

static void fail_with(struct evpq_scan *scan, evpq_code code)
{
    struct evpq_error err = {0};
    evpq__error_set(&err, code, EVPQ_ROLLED_BACK, "%s", evpq_code_text(code));
    evpq__scan_fail(scan, &err);
    evpq__error_clear(&err);
}

static bool is_over(const struct evpq_scan *scan)
{
    return scan->closed || scan->state > EVPQ__SCAN_RUNNING;
}

/* ---- fetching ---- */

/* NULL without memory. */
static struct evpq__chunk *chunk_new(struct evpq__worker *worker, evpq_page *page)
{
    struct evpq_scan *scan = worker->scan;
    const struct evpq_pager *pager = worker->pager;
    size_t keys = evpq__pager_keys(pager);
    struct evpq__chunk *chunk = evpq__alloc(sizeof(*chunk));
    if (!chunk)
        return NULL;
    evpq__node_init(&chunk->node);
    chunk->result = evpq_result_keep(page->result);
    chunk->before = evpq__place_new(&pager->before->position, keys);
    chunk->behind = evpq__place_new(&pager->behind->position, keys);
    chunk->stand = evpq__place_new(&pager->behind->position, keys);
    chunk->range = (uint32_t)(worker->range - scan->ranges);
    chunk->bytes = PQresultMemorySize(page->result->pg);
    chunk->last = !page->has_next;
    if (chunk->before && chunk->behind && chunk->stand)
        return chunk;
    evpq__chunk_free(chunk);
    return NULL;
}

/* The columns, for the page without rows at the end; without memory there are none. */
static void keep_shape(struct evpq_scan *scan, const struct evpq_result *result)
{
    if (scan->shape)
        return;
    PGresult *pg = PQcopyResult(result->pg, PG_COPYRES_ATTRS);
    scan->shape = pg ? evpq__result_new(pg, NULL) : NULL;
    if (scan->shape)
        evpq__result_show(scan->shape, 0, result->columns, false);
}

static void take_page(struct evpq__worker *worker, evpq_page *page)
{
    struct evpq_scan *scan = worker->scan;
    struct evpq__range *range = worker->range;
    keep_shape(scan, page->result);
    if (evpq_page_rows(page) > 0) {
        struct evpq__chunk *chunk = chunk_new(worker, page);
        if (!chunk) {
            fail_with(scan, EVPQ_ENOMEM);
            return;
        }
        scan->buffered += chunk->bytes;
        evpq__list_push_back(scan->unordered ? &scan->ready : &range->chunks, &chunk->node);
        range->state = chunk->last ? EVPQ__RANGE_READ : EVPQ__RANGE_TAKEN;
    } else {
        range->state = EVPQ__RANGE_DONE; /* nothing of it is to be handed over */
    }
    if (range->state != EVPQ__RANGE_TAKEN)
        worker->range = NULL;
    worker->state = EVPQ__WORKER_READY;
    evpq__scan_wake(scan);
    evpq__workers_drive(scan);
}

static void worker_on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct evpq__worker *worker = user;
    struct evpq_scan *scan = worker->scan;
    if (is_over(scan))
        ;
    else if (err)
        evpq__scan_fail(scan, err);
    else
        take_page(worker, page);
    evpq__scan_unref(scan);
}

/* The pager stands where the range does, or behind what has been fetched of it. */
static bool worker_take(struct evpq__worker *worker, struct evpq__range *range)
{
    struct evpq_pager *pager = worker->pager;
    size_t keys = evpq__pager_keys(pager);
    evpq__place_free(pager->before);
    evpq__place_free(pager->behind);
    evpq__place_free(pager->until);
    pager->before = NULL;
    pager->behind = range->stand ? evpq__place_new(&range->stand->position, keys) : NULL;
    pager->until = range->until ? evpq__place_new(&range->until->position, keys) : NULL;
    if (!pager->behind != !range->stand || !pager->until != !range->until)
        return false;
    range->state = EVPQ__RANGE_TAKEN;
    worker->range = range;
    return true;
}

static bool may_fetch(const struct evpq_scan *scan, const struct evpq__range *range)
{
    if (scan->buffered < scan->buffer_bytes)
        return true;
    return !scan->unordered && range == &scan->ranges[scan->current] &&
           evpq__list_empty(&range->chunks);
}

static void worker_step(struct evpq__worker *worker)
{
    struct evpq_scan *scan = worker->scan;
    struct evpq__range *range = worker->range;
    if (!range && scan->next_free == scan->range_count) {
        worker_end(worker);
        return;
    }
    if (!may_fetch(scan, range ? range : &scan->ranges[scan->next_free]))
        return;
    if (!range && !worker_take(worker, &scan->ranges[scan->next_free++])) {
        fail_with(scan, EVPQ_ENOMEM);
        return;
    }
    evpq__scan_ref(scan);
    worker->state = EVPQ__WORKER_FETCHING;
    int code = evpq_pager_next(NULL, worker->pager, worker_on_page, worker);
    if (code == EVPQ_OK)
        return;
    fail_with(scan, (evpq_code)code);
    evpq__scan_unref(scan);
}

void evpq__workers_drive(struct evpq_scan *scan)
{
    /* Those that have a range first: it may be the one that all wait for. */
    for (uint32_t i = 0; i < scan->worker_count && !is_over(scan); i++)
        if (scan->workers[i].state == EVPQ__WORKER_READY && scan->workers[i].range)
            worker_step(&scan->workers[i]);
    for (uint32_t i = 0; i < scan->worker_count && !is_over(scan); i++)
        if (scan->workers[i].state == EVPQ__WORKER_READY && !scan->workers[i].range)
            worker_step(&scan->workers[i]);
    /* Who has not begun is not needed any more. */
    for (uint32_t i = 0; i < scan->worker_count && !is_over(scan); i++)
        if (scan->workers[i].state == EVPQ__WORKER_OPENING && scan->state == EVPQ__SCAN_RUNNING &&
            scan->next_free == scan->range_count)
            worker_end(&scan->workers[i]);
}

/* ---- beginning ---- */

static void worker_on_over(evpq_code why, void *user)
{
    struct evpq__worker *worker = user;
    struct evpq_error err = {0};
    if (is_over(worker->scan))
        return;
    evpq__error_set(&err, why, EVPQ_ROLLED_BACK, "%s",
                    why == EVPQ_ETIMEOUT ? "the deadline of the scan has passed"
                                         : "the pool was closed");
    evpq__scan_fail(worker->scan, &err);
    evpq__error_clear(&err);
}

/* Of a step before the first page. */
static int64_t step_deadline(const struct evpq_scan *scan)
{
    uint32_t ms = evpq__pool_timeout(scan->pool, scan->front->timeout_ms);
    int64_t at_us = evpq__loop_deadline(scan->pool->loop, ms);
    return at_us < scan->deadline_us ? at_us : scan->deadline_us;
}

static int worker_open(struct evpq__worker *worker, const char *import,
                       evpq__snapshot_opened_fn *on_opened)
{
    struct evpq_scan *scan = worker->scan;
    struct evpq__snapshot_options options = {
        .import = import,
        .export = !import && scan->worker_count > 1,
        .open_by_us = step_deadline(scan),
        .deadline_us = scan->deadline_us,
        .tag = "evpq scan",
    };
    int code = evpq__snapshot_open(&worker->snapshot, scan->pool, &options, on_opened,
                                   worker_on_over, worker);
    if (code == EVPQ_OK)
        worker->state = EVPQ__WORKER_OPENING;
    return code;
}

static void worker_ready(struct evpq__worker *worker)
{
    worker->pager->lease = evpq__snapshot_lease(worker->snapshot);
    worker->state = EVPQ__WORKER_READY;
    evpq__workers_drive(worker->scan);
}

/* A connection that cannot be had is one worker less, and no failure. */
static void other_on_opened(const struct evpq_error *err, void *user)
{
    struct evpq__worker *worker = user;
    if (err)
        worker_end(worker);
    else
        worker_ready(worker);
}

static void run(struct evpq_scan *scan)
{
    struct evpq__worker *first = &scan->workers[0];
    scan->state = EVPQ__SCAN_RUNNING;
    const char *id = evpq__snapshot_id(first->snapshot);
    for (uint32_t i = 1; i < scan->worker_count; i++)
        if (i >= scan->range_count || worker_open(&scan->workers[i], id, other_on_opened))
            worker_end(&scan->workers[i]);
    worker_ready(first);
}

static void on_sample(evpq_result *result, const evpq_error *err, void *user)
{
    struct evpq_scan *scan = user;
    if (is_over(scan))
        ;
    else if (err) {
        struct evpq_error own = {0};
        evpq__failure_take(&own, err, &scan->front->paged, EVPQ__NO_HEAD);
        evpq__scan_fail(scan, &own);
        evpq__error_clear(&own);
    } else if (!evpq__ranges_cut(scan, result->pg)) {
        fail_with(scan, EVPQ_ENOMEM);
    } else {
        run(scan);
    }
    evpq__scan_unref(scan);
}

static int ask_sample(struct evpq_scan *scan)
{
    struct evpq__worker *first = &scan->workers[0];
    struct evpq_pager *pager = first->pager;
    if (!worker_take(first, &scan->ranges[0])) /* for the places: it is not cut yet */
        return EVPQ_ENOMEM;
    first->range = NULL;
    scan->ranges[0].state = EVPQ__RANGE_FREE;
    size_t params_count;
    struct evpq__ask ask = {
        .from = pager->behind, .sample = true, .rows = evpq__ranges_sample(scan) - 1};
    char *sql = evpq__pager_sql(pager, &ask, &params_count);
    if (!sql)
        return EVPQ_ENOMEM;
    evpq_query query = {.size = sizeof(query),
                        .sql = sql,
                        .params = pager->params,
                        .params_count = params_count,
                        .timeout_ms = evpq__loop_left(scan->pool->loop, step_deadline(scan)),
                        .format = pager->format};
    evpq__scan_ref(scan);
    first->state = EVPQ__WORKER_SAMPLING;
    int code =
        evpq_lease_query(NULL, evpq__snapshot_lease(first->snapshot), &query, on_sample, scan);
    evpq__free(sql);
    if (code != EVPQ_OK)
        evpq__scan_unref(scan);
    return code;
}

static void first_on_opened(const struct evpq_error *err, void *user)
{
    struct evpq__worker *worker = user;
    struct evpq_scan *scan = worker->scan;
    if (err) {
        evpq__scan_fail(scan, err);
        return;
    }
    if (!evpq__ranges_to_cut(scan)) {
        run(scan);
        return;
    }
    int code = ask_sample(scan);
    if (code != EVPQ_OK)
        fail_with(scan, (evpq_code)code);
}

static void open_first(struct evpq_scan *scan)
{
    scan->state = EVPQ__SCAN_CUTTING;
    int code = worker_open(&scan->workers[0], NULL, first_on_opened);
    if (code != EVPQ_OK)
        fail_with(scan, (evpq_code)code);
}

/* Do all ranges stand where this order has them? */
static bool fits(const struct evpq_scan *scan, const struct evpq__proof_facts *facts)
{
    for (uint32_t i = 0; i < scan->range_count; i++)
        if (!evpq__place_fits(scan->ranges[i].stand, facts) ||
            !evpq__place_fits(scan->ranges[i].until, facts))
            return false;
    return true;
}

static void take_facts(struct evpq_scan *scan, const struct evpq__proof_facts *facts)
{
    evpq__pager_know(scan->front, facts);
    for (uint32_t i = 0; i < scan->worker_count; i++)
        evpq__pager_know(scan->workers[i].pager, facts);
}

static void on_proven(void *user, const struct evpq__proof_facts *facts, struct evpq_error *err)
{
    struct evpq_scan *scan = user;
    scan->proof = NULL;
    if (facts)
        evpq__proof_remember(scan->pool, &scan->front->walk, !scan->front->assume_unique, false,
                             facts);
    if (facts && !fits(scan, facts))
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK, "%s", EVPQ_TOKEN_PROBLEM);
    if (!is_over(scan) && err->code == EVPQ_OK) {
        take_facts(scan, facts);
        open_first(scan);
    } else if (!is_over(scan)) {
        evpq__scan_fail(scan, err);
    }
    evpq__scan_unref(scan);
}

void evpq__workers_start(struct evpq_scan *scan)
{
    struct evpq_pager *front = scan->front;
    struct evpq__proof_facts facts;
    if (evpq__proof_recall(&facts, scan->pool, &front->walk, !front->assume_unique, false) &&
        fits(scan, &facts)) {
        take_facts(scan, &facts);
        open_first(scan);
        return;
    }
    scan->state = EVPQ__SCAN_PROVING;
    scan->question = (struct evpq__proof_ask){.pool = scan->pool,
                                              .paged = &front->paged,
                                              .keyset = &front->keyset,
                                              .params = front->params,
                                              .unique = !front->assume_unique,
                                              .deadline_us = step_deadline(scan)};
    int code = evpq__proof_start(&scan->proof, &scan->question, on_proven, scan);
    if (code == EVPQ_OK)
        evpq__scan_ref(scan);
    else
        fail_with(scan, (evpq_code)code);
}
