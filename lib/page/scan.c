/* SPDX-License-Identifier: MIT */
/*
 *     NEW ---> [PROVING] ---> CUTTING ---> RUNNING ---> DONE
 *                  \             \            \
 *                   +-------------+------------+---> FAILED ---> OVER      the error has been told
 *
 * Workers fetch pages as *chunks*; a wait, an operation, hands them over one at
 * a time. With a page its range moves on: what is left of it is what its user
 * has not got. Whatever fails ends all workers and drops what was not handed
 * over; the ranges still stand where they stood.
 */
#include "page/scan.h"

#include <time.h>

#include "base/mem.h"

enum {
    WORKERS = 4,
    RANGES_EACH = 16,
    RANGES_EACH_ORDERED = 64, /* those ahead are read as far as the buffer goes, and no farther */
    PAGE_SIZE = 1000,
    WALK_MS = 3600000,
    BUFFER = 16 << 20,
};

/* Somebody waits for a page. */
struct evpq__wait {
    struct evpq_op op;
    struct evpq_scan *scan; /* a reference */
    evpq_page_fn *on_page;
    void *user;
    struct evpq_page page;
};

void evpq__chunk_free(struct evpq__chunk *chunk)
{
    evpq__node_unlink(&chunk->node);
    evpq_result_free(chunk->result);
    evpq__place_free(chunk->before);
    evpq__place_free(chunk->behind);
    evpq__place_free(chunk->stand);
    evpq__free(chunk);
}

static void drop_chunks(struct evpq_scan *scan, struct evpq__list *list)
{
    struct evpq__node *node;
    while ((node = evpq__list_first(list)))
        evpq__chunk_free(evpq__container_of(node, struct evpq__chunk, node));
    scan->buffered = 0;
}

static void drop_all_chunks(struct evpq_scan *scan)
{
    drop_chunks(scan, &scan->ready);
    for (uint32_t i = 0; scan->ranges && i < scan->range_room; i++)
        drop_chunks(scan, &scan->ranges[i].chunks);
}

void evpq__scan_ref(struct evpq_scan *scan)
{
    scan->refs++;
}

void evpq__scan_unref(struct evpq_scan *scan)
{
    if (--scan->refs > 0)
        return;
    drop_all_chunks(scan);
    evpq__ranges_free(scan);
    evpq_result_free(scan->shape);
    evpq__error_clear(&scan->error);
    evpq_pager_close(scan->front);
    evpq__free(scan->workers);
    evpq__pool_unref(scan->pool);
    evpq__free(scan);
}

/* ---- handing over ---- */

static struct evpq__list *next_chunks(struct evpq_scan *scan)
{
    while (scan->current < scan->range_count &&
           scan->ranges[scan->current].state == EVPQ__RANGE_DONE)
        scan->current++;
    if (scan->unordered)
        return &scan->ready;
    return &scan->ranges[scan->current < scan->range_count ? scan->current : 0].chunks;
}

static bool all_done(const struct evpq_scan *scan)
{
    return scan->state == EVPQ__SCAN_RUNNING && scan->current == scan->range_count;
}

void evpq__scan_wake(struct evpq_scan *scan)
{
    bool something = !evpq__list_empty(next_chunks(scan)) || all_done(scan);
    if (scan->wait && (something || scan->state > EVPQ__SCAN_RUNNING))
        evpq__op_finish(&scan->wait->op);
}

void evpq__scan_fail(struct evpq_scan *scan, const struct evpq_error *err)
{
    if (scan->state > EVPQ__SCAN_RUNNING)
        return;
    evpq__error_copy(&scan->error, err);
    scan->state = EVPQ__SCAN_FAILED;
    /* A pool that stops takes the connections itself, one after another. */
    if (scan->pool->state < EVPQ__POOL_STOPPING)
        evpq__workers_end(scan);
    drop_all_chunks(scan);
    evpq__scan_wake(scan);
}

/* The page is the front's, and its range moves behind it. */
static void hand_over(struct evpq__wait *wait, struct evpq__chunk *chunk)
{
    struct evpq_scan *scan = wait->scan;
    struct evpq_pager *front = scan->front;
    struct evpq__range *range = &scan->ranges[chunk->range];
    wait->page = (struct evpq_page){.pager = front, .result = chunk->result};
    wait->page.range = chunk->range;
    wait->page.has_next = true;
    wait->page.has_prev = front->before != NULL;
    evpq__place_free(front->before);
    evpq__place_free(front->behind);
    evpq__place_free(range->stand);
    front->before = chunk->before;
    front->behind = chunk->behind;
    range->stand = chunk->stand;
    if (chunk->last)
        range->state = EVPQ__RANGE_DONE;
    scan->buffered -= chunk->bytes;
    evpq__node_unlink(&chunk->node);
    evpq__free(chunk);
}

static void wait_take(struct evpq__wait *wait)
{
    struct evpq_scan *scan = wait->scan;
    struct evpq_error *error = &wait->op.error;
    if (scan->closed) {
        evpq__error_set(error, EVPQ_ECLOSED, EVPQ_ROLLED_BACK, "the scan was closed");
        return;
    }
    if (scan->state == EVPQ__SCAN_FAILED) {
        evpq__error_move(error, &scan->error);
        scan->state = EVPQ__SCAN_OVER;
        return;
    }
    struct evpq__node *node = evpq__list_first(next_chunks(scan));
    if (node) {
        hand_over(wait, evpq__container_of(node, struct evpq__chunk, node));
        next_chunks(scan); /* the next range may be the current one now */
        evpq__workers_drive(scan);
        return;
    }
    scan->state = EVPQ__SCAN_DONE;
    evpq__workers_end(scan);
    wait->page = (struct evpq_page){.pager = scan->front, .has_prev = scan->front->before != NULL};
    wait->page.result = scan->shape ? evpq_result_keep(scan->shape) : NULL;
}

static void wait_stop(struct evpq_op *op, evpq_code why)
{
    evpq__error_set(&op->error, why, EVPQ_ROLLED_BACK, "%s",
                    why == EVPQ_ETIMEOUT  ? "the deadline of the scan has passed"
                    : why == EVPQ_ECLOSED ? "the scan was closed"
                                          : evpq_code_text(why));
}

static void wait_deliver(struct evpq_op *op)
{
    struct evpq__wait *wait = evpq__container_of(op, struct evpq__wait, op);
    wait->scan->wait = NULL;
    if (op->error.code == EVPQ_OK)
        wait_take(wait);
    bool good = op->error.code == EVPQ_OK;
    wait->on_page(good ? &wait->page : NULL, good ? NULL : &op->error, wait->user);
}

static void wait_destroy(struct evpq_op *op)
{
    struct evpq__wait *wait = evpq__container_of(op, struct evpq__wait, op);
    evpq_result_free(wait->page.result);
    evpq__pool_op_gone(wait->scan->pool);
    evpq__scan_unref(wait->scan);
    evpq__free(wait);
}

static const struct evpq__op_class wait_class = {
    .stop = wait_stop, .deliver = wait_deliver, .destroy = wait_destroy};

int evpq_scan_next(evpq_op **out, evpq_scan *scan, evpq_page_fn *on_page, void *user)
{
    if (!scan || !on_page || scan->wait)
        return EVPQ_EINVALID;
    struct evpq_pool *pool = scan->pool;
    if (pool->state != EVPQ__POOL_OPEN || scan->state == EVPQ__SCAN_OVER)
        return EVPQ_ECLOSED;
    uint32_t timeout_ms;
    if (!evpq__pager_timeout(scan->front, &timeout_ms))
        return EVPQ_ETIMEOUT;
    struct evpq__wait *wait = evpq__alloc(sizeof(*wait));
    if (!wait)
        return EVPQ_ENOMEM;
    evpq__scan_ref(scan);
    wait->scan = scan;
    wait->on_page = on_page;
    wait->user = user;
    pool->ops++;
    evpq__op_init(&wait->op, &wait_class, pool->loop, scan->deadline_us);
    scan->wait = wait;
    if (scan->state == EVPQ__SCAN_NEW)
        evpq__workers_start(scan);
    evpq__scan_wake(scan);
    if (out)
        *out = &wait->op;
    return EVPQ_OK;
}

/* ---- open and close ---- */

struct setup {
    evpq_scan_options options;
    evpq_pager_options pager;
};

static const char *read_options(struct setup *out, const evpq_scan_options *options)
{
    evpq_scan_options *o = &out->options;
    const char *problem = evpq__options_read(o, sizeof(*o), options);
    if (problem)
        return problem;
    if (!o->order_by)
        return "a scan needs order_by";
    if (o->workers > EVPQ__SCAN_WORKERS)
        return "more than 64 workers";
    if (o->ranges > EVPQ__SCAN_RANGES || o->resume_count > EVPQ__SCAN_RANGES)
        return "more than 4,096 ranges";
    if (o->resume_count > 0 && !o->resume)
        return "resume_count without resume";
    out->pager = (evpq_pager_options){
        .size = sizeof(out->pager),
        .sql = o->sql,
        .params = o->params,
        .params_count = o->params_count,
        .order_by = o->order_by,
        .columns = o->columns,
        .format = o->format,
        .page_size = o->page_size ? o->page_size : PAGE_SIZE,
        .timeout_ms = o->timeout_ms,
        .walk_timeout_ms = o->walk_timeout_ms ? o->walk_timeout_ms : WALK_MS,
        .assume_unique = o->assume_unique,
        .token_ttl_s = o->token_ttl_s,
        .secrets = o->secrets,
        .secrets_count = o->secrets_count,
        .mode = EVPQ_PAGES_KEYSET,
    };
    return evpq_pager_options_problem(&out->pager);
}

const char *evpq_scan_options_problem(const evpq_scan_options *options)
{
    struct setup setup;
    const char *problem = read_options(&setup, options);
    for (size_t i = 0; !problem && i < setup.options.resume_count; i++) {
        setup.pager.after = setup.options.resume[i].after;
        setup.pager.until = setup.options.resume[i].until;
        problem = evpq_pager_options_problem(&setup.pager);
    }
    return problem;
}

/* EVPQ_OK, or as evpq_scan_open(). */
static int scan_init(struct evpq_scan *scan, const struct setup *setup)
{
    const evpq_scan_options *o = &setup->options;
    uint32_t most = scan->pool->options.max_size;
    uint32_t workers = o->workers ? o->workers : most < WORKERS ? most : WORKERS;
    if (workers > most)
        return EVPQ_EINVALID;
    int code = evpq_pager_open(&scan->front, scan->pool, &setup->pager);
    if (code != EVPQ_OK)
        return code;
    scan->deadline_us = scan->front->deadline_us;
    scan->unordered = o->unordered;
    scan->buffer_bytes = o->buffer_bytes ? o->buffer_bytes : BUFFER;
    uint32_t ranges = workers * (o->unordered ? RANGES_EACH : RANGES_EACH_ORDERED);
    if (!evpq__ranges_init(scan, o->resume_count, o->ranges ? o->ranges : ranges))
        return EVPQ_ENOMEM;
    code = evpq__ranges_resume(scan, o->resume, o->resume_count);
    scan->workers = evpq__alloc(workers * sizeof(scan->workers[0]));
    if (code == EVPQ_OK && !scan->workers)
        code = EVPQ_ENOMEM;
    for (uint32_t i = 0; code == EVPQ_OK && i < workers; i++) {
        scan->workers[i].scan = scan;
        scan->worker_count = i + 1;
        code = evpq_pager_open(&scan->workers[i].pager, scan->pool, &setup->pager);
    }
    return code;
}

int evpq_scan_open(evpq_scan **out, evpq_pool *pool, const evpq_scan_options *options)
{
    struct setup setup;
    if (!out || !pool || !options || read_options(&setup, options))
        return EVPQ_EINVALID;
    struct evpq_scan *scan = evpq__alloc(sizeof(*scan));
    if (!scan)
        return EVPQ_ENOMEM;
    evpq__pool_ref(pool);
    scan->pool = pool;
    scan->refs = 1;
    evpq__list_init(&scan->ready);
    int code = scan_init(scan, &setup);
    if (code != EVPQ_OK) {
        evpq_scan_close(scan);
        return code;
    }
    *out = scan;
    return EVPQ_OK;
}

void evpq_scan_close(evpq_scan *scan)
{
    if (!scan)
        return;
    scan->closed = true;
    if (scan->wait)
        evpq__op_stop(&scan->wait->op, EVPQ_ECLOSED);
    evpq__workers_end(scan);
    evpq__scan_unref(scan);
}

/* ---- questions ---- */

uint32_t evpq_scan_ranges(const evpq_scan *scan)
{
    return scan && scan->state >= EVPQ__SCAN_RUNNING ? scan->range_count : 0;
}

/* NULL for no place. */
static int token_of(const char **out, const struct evpq_scan *scan, struct evpq__place *place)
{
    int code = EVPQ_OK;
    *out = NULL;
    if (!place)
        return code;
    if (!place->token)
        code = evpq__token_encode(&place->token, &scan->front->walk, &place->position, time(NULL));
    *out = place->token;
    return code == EVPQ_EINVALID ? EVPQ_ETYPE : code;
}

int evpq_scan_range_get(evpq_scan *scan, uint32_t index, evpq_scan_range *out)
{
    if (!scan || !out || index >= scan->range_count ||
        scan->ranges[index].state == EVPQ__RANGE_DONE)
        return EVPQ_EINVALID;
    evpq_scan_range range;
    int code = token_of(&range.after, scan, scan->ranges[index].stand);
    if (code == EVPQ_OK)
        code = token_of(&range.until, scan, scan->ranges[index].until);
    if (code == EVPQ_OK)
        *out = range;
    return code;
}
