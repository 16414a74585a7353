/* SPDX-License-Identifier: MIT */

/*
 * A pager is a place between two rows. A page is one query of the pool, whose operation is the
 * page's. It asks for one row more than it shows, which tells of the next page. Only a good page
 * moves the place.
 *
 * References: the user's, until close; and one for each query that has not called back yet.
 */

#include <string.h>

#include "base/mem.h"
#include "page/options.h"
#include "pg/result.h"
#include "pool/pool.h"

struct place {
    struct evpq__position position; /* its keys are owned */
    char *token;                    /* NULL until it is asked for */
};

struct evpq_page {
    const struct evpq_pager *pager;
    struct evpq_result *result;
    bool has_next;
};

struct evpq_pager {
    unsigned refs;
    bool closed;
    struct evpq_pool *pool;
    char *sql;
    struct evpq__paged paged;
    struct evpq__keyset keyset;
    struct evpq__walk walk;
    evpq_value *params; /* of the statement; then room for those of a page */
    uint32_t page_size;
    uint32_t timeout_ms;
    evpq_format format;

    struct place *place; /* behind the last good page; NULL: in front of the first row */
    struct evpq_op *op;  /* the page on its way, or NULL */
    evpq_page_fn *on_page;
    void *user;
    struct evpq_page page; /* while on_page runs */
};

static void place_free(struct place *place)
{
    if (!place)
        return;
    evpq__free(place->position.keys);
    evpq__free(place->token);
    evpq__free(place);
}

static struct place *place_new(const struct evpq__position *position, size_t columns)
{
    struct place *place = evpq__alloc(sizeof(*place));
    if (!place)
        return NULL;
    place->position = *position;
    place->position.keys = columns ? evpq__values_copy(position->keys, columns) : NULL;
    if (columns && !place->position.keys) {
        evpq__free(place);
        return NULL;
    }
    return place;
}

static void pager_unref(struct evpq_pager *pager)
{
    if (--pager->refs > 0)
        return;
    place_free(pager->place);
    evpq__free(pager->params);
    evpq__free(pager->sql);
    if (pager->pool)
        evpq__pool_unref(pager->pool);
    evpq__free(pager);
}

/* The statement's parameters with room for a page's behind them, all owned. */
static evpq_value *copy_params(const evpq_value *params, size_t count)
{
    evpq_value *wide = evpq__alloc((count + EVPQ__KEYS_MAX) * sizeof(*wide));
    if (!wide)
        return NULL;
    for (size_t i = 0; i < count + EVPQ__KEYS_MAX; i++)
        wide[i] = i < count ? params[i] : evpq_null();
    evpq_value *copy = evpq__values_copy(wide, count + EVPQ__KEYS_MAX);
    evpq__free(wide);
    return copy;
}

/* False without memory. */
static bool pager_init(struct evpq_pager *pager, const struct evpq__pager_setup *setup)
{
    const evpq_pager_options *options = &setup->options;
    pager->keyset = setup->keyset;
    pager->walk = setup->walk;
    pager->page_size = options->page_size;
    pager->timeout_ms = options->timeout_ms;
    pager->format = options->format;
    pager->sql = evpq__strdup(options->sql);
    pager->params = copy_params(options->params, options->params_count);
    if (options->after)
        pager->place = place_new(&setup->token.position, setup->keyset.count);
    pager->paged = (struct evpq__paged){.sql = pager->sql,
                                        .sql_length = setup->sql_length,
                                        .params_count = options->params_count,
                                        .rows = options->page_size + 1};
    return pager->sql && pager->params && (pager->place || !options->after);
}

int evpq_pager_open(evpq_pager **out, evpq_pool *pool, const evpq_pager_options *options)
{
    if (!out || !pool)
        return EVPQ_EINVALID;
    struct evpq__pager_setup setup;
    const char *problem;
    int code = evpq__pager_setup_read(&setup, options, &problem);
    if (code != EVPQ_OK)
        return code;
    struct evpq_pager *pager = evpq__alloc(sizeof(*pager));
    if (!pager)
        return EVPQ_ENOMEM;
    pager->refs = 1;
    if (!pager_init(pager, &setup)) {
        pager_unref(pager);
        return EVPQ_ENOMEM;
    }
    evpq__pool_ref(pool);
    pager->pool = pool;
    *out = pager;
    return EVPQ_OK;
}

/* ---- what a page brings ---- */

/* Where the order columns are in a result. */
static bool find_columns(const struct evpq_pager *pager, const struct evpq_result *result,
                         int columns[EVPQ__KEYS_MAX], struct evpq_error *err)
{
    for (size_t i = 0; i < pager->keyset.count; i++) {
        const char *name = pager->keyset.keys[i].name;
        columns[i] = evpq_result_column_index(result, name);
        if (columns[i] >= 0)
            continue;
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "order column \"%s\" is not a column of the statement", name);
        return false;
    }
    return true;
}

static bool cells_equal(const PGresult *pg, int row, int other, int column)
{
    int length = PQgetlength(pg, row, column);
    return PQgetisnull(pg, row, column) == PQgetisnull(pg, other, column) &&
           length == PQgetlength(pg, other, column) &&
           memcmp(PQgetvalue(pg, row, column), PQgetvalue(pg, other, column), (size_t)length) == 0;
}

static bool rows_equal(const PGresult *pg, int row, int other, const int *columns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!cells_equal(pg, row, other, columns[i]))
            return false;
    return true;
}

/* The place behind a row; NULL without memory. */
static struct place *place_behind(const struct evpq_pager *pager, const PGresult *pg, int row,
                                  const int *columns)
{
    evpq_value keys[EVPQ__KEYS_MAX];
    struct evpq__position position = {.keys = keys};
    for (size_t i = 0; i < pager->keyset.count; i++) {
        int column = columns[i];
        position.nulls[i] = PQgetisnull(pg, row, column);
        keys[i] = evpq__value_raw(PQftype(pg, column), PQfformat(pg, column) == 1,
                                  position.nulls[i] ? NULL : PQgetvalue(pg, row, column),
                                  (size_t)PQgetlength(pg, row, column));
    }
    position.offset = (pager->place ? pager->place->position.offset : 0) + row + 1;
    return place_new(&position, pager->keyset.count);
}

/* Moves the pager behind the page, or sets the error. */
static void take_page(struct evpq_pager *pager, struct evpq_result *result, struct evpq_error *err)
{
    uint32_t rows = evpq_result_rows(result);
    uint32_t shown = rows < pager->page_size ? rows : pager->page_size;
    int columns[EVPQ__KEYS_MAX];
    int last = (int)shown - 1;
    size_t count = pager->keyset.count;
    if (!find_columns(pager, result, columns, err))
        return;
    if (count && rows > shown && rows_equal(result->pg, last, last + 1, columns, count)) {
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "rows %u and %u are equal in all order columns: "
                        "add a unique column to order_by",
                        shown, shown + 1);
        return;
    }
    if (shown > 0) {
        struct place *place = place_behind(pager, result->pg, last, columns);
        if (!place) {
            evpq__error_set(err, EVPQ_ENOMEM, EVPQ_ROLLED_BACK, "%s", evpq_code_text(EVPQ_ENOMEM));
            return;
        }
        place_free(pager->place);
        pager->place = place;
    }
    evpq__result_show_rows(result, shown);
    pager->page = (struct evpq_page){pager, result, rows > shown};
}

/* The server counts in the statement as it was wrapped, the user in theirs. 0: not there. */
static uint32_t own_position(const struct evpq_pager *pager, uint32_t position)
{
    uint32_t before = sizeof(EVPQ__PAGE_HEAD) - 1, characters = 0;
    if (pager->keyset.count && pager->place)
        return 0; /* there may be copies of it */
    for (size_t i = 0; i < pager->paged.sql_length; i++)
        characters += (pager->sql[i] & 0xC0) != 0x80;
    return position > before && position - before <= characters ? position - before : 0;
}

static void take_failure(const struct evpq_pager *pager, const struct evpq_error *from,
                         struct evpq_error *to)
{
    evpq__error_set_report(
        to, from->code, from->fate,
        &(struct evpq__server_report){.message = evpq_error_message(from),
                                      .sqlstate = evpq_error_sqlstate(from),
                                      .severity = evpq_error_severity(from),
                                      .detail = evpq_error_detail(from),
                                      .hint = evpq_error_hint(from),
                                      .constraint = evpq_error_constraint(from),
                                      .position = own_position(pager, evpq_error_position(from))});
}

static void pager_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct evpq_pager *pager = user;
    struct evpq_error failure = {0};
    pager->op = NULL;
    if (err)
        take_failure(pager, err, &failure);
    else if (pager->closed)
        evpq__error_set(&failure, EVPQ_ECLOSED, EVPQ_ROLLED_BACK, "the pager was closed");
    else
        take_page(pager, result, &failure);
    bool good = failure.code == EVPQ_OK;
    pager->on_page(good ? &pager->page : NULL, good ? NULL : &failure, pager->user);
    evpq__error_clear(&failure);
    pager_unref(pager);
}

/* ---- the next page ---- */

/* Writes the parameters that tell where it begins; how many. */
static size_t page_params(const struct evpq_pager *pager, evpq_value *out)
{
    const struct place *place = pager->place;
    size_t count = 0;
    if (pager->keyset.count == 0)
        out[count++] = evpq_int8(place ? place->position.offset : 0);
    else if (place)
        for (size_t i = 0; i < pager->keyset.count; i++)
            if (!place->position.nulls[i])
                out[count++] = place->position.keys[i];
    return count;
}

static char *page_sql(const struct evpq_pager *pager)
{
    if (pager->keyset.count == 0)
        return evpq__offset_sql(&pager->paged);
    return evpq__keyset_sql(&pager->paged, &pager->keyset,
                            pager->place ? pager->place->position.nulls : NULL);
}

int evpq_pager_next(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!pager || !on_page || pager->op)
        return EVPQ_EINVALID;
    char *sql = page_sql(pager);
    if (!sql)
        return EVPQ_ENOMEM;
    size_t own = pager->paged.params_count;
    evpq_query query = {.size = sizeof(query),
                        .sql = sql,
                        .params = pager->params,
                        .params_count = own + page_params(pager, pager->params + own),
                        .timeout_ms = pager->timeout_ms,
                        .format = pager->format};
    int code = evpq_pool_query(&pager->op, pager->pool, &query, pager_on_result, pager);
    evpq__free(sql);
    if (code != EVPQ_OK)
        return code;
    pager->refs++;
    pager->on_page = on_page;
    pager->user = user;
    if (out)
        *out = pager->op;
    return EVPQ_OK;
}

void evpq_pager_close(evpq_pager *pager)
{
    if (!pager)
        return;
    pager->closed = true;
    if (pager->op)
        evpq__op_stop(pager->op, EVPQ_ECLOSED);
    pager_unref(pager);
}

/* ---- questions ---- */

const char *evpq_pager_token(const evpq_pager *pager)
{
    struct place *place = pager ? pager->place : NULL;
    if (place && !place->token)
        (void)evpq__token_encode(&place->token, &pager->walk, &place->position);
    return place ? place->token : NULL;
}

bool evpq_pager_is_keyset(const evpq_pager *pager)
{
    return pager && pager->keyset.count > 0;
}

evpq_result *evpq_page_result(const evpq_page *page)
{
    return page ? page->result : NULL;
}

uint32_t evpq_page_rows(const evpq_page *page)
{
    return evpq_result_rows(evpq_page_result(page));
}

bool evpq_page_has_next(const evpq_page *page)
{
    return page && page->has_next;
}

const char *evpq_page_token(const evpq_page *page)
{
    return page ? evpq_pager_token(page->pager) : NULL;
}
