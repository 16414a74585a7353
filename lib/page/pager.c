/* SPDX-License-Identifier: MIT */

/*
 * A pager stands around one page, between two places: one before its first row, one behind its
 * last. A page is one query of the pool, whose operation is the page's. It asks for one row more
 * than it shows, which tells of the page behind it. Only a good page moves the places.
 *
 *                  before          behind
 *     ... rows ... | the page shown | ... rows ...
 *          <------ prev            next ------>
 *
 * A pager that was opened with a token knows one place only; the other way then includes the row
 * that the place is next to.
 *
 * References: the user's, until close; and one for each query that has not called back yet.
 */

#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "page/options.h"
#include "pg/result.h"
#include "pool/pool.h"

/* A place between two rows. */
struct place {
    struct evpq__position position; /* its keys are owned */
    char *token;                    /* NULL until it is asked for */
};

struct evpq_page {
    const struct evpq_pager *pager;
    struct evpq_result *result;
    bool has_next, has_prev;
};

/* How the page on its way was asked for. */
struct ask {
    bool backward, inclusive;
    const struct place *from; /* NULL: from the start, or the end */
    int64_t offset;           /* of an offset page */
    uint32_t rows;            /* to show at most */
};

struct evpq_pager {
    unsigned refs;
    bool closed;
    struct evpq_pool *pool;
    char *sql, *columns;
    struct evpq__paged paged;
    struct evpq__keyset keyset;
    struct evpq__walk walk;
    evpq_secret *secrets; /* with their bytes behind them; wiped at the end */
    size_t secrets_size;
    evpq_value *params; /* of the statement; then room for those of a page */
    uint32_t page_size;
    uint32_t timeout_ms;
    int64_t deadline_us; /* of the walk */
    evpq_format format;

    struct place *before, *behind; /* NULL: not known, or the start of the walk */
    struct ask ask;
    struct evpq_op *op; /* the page on its way, or NULL */
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
    place_free(pager->before);
    place_free(pager->behind);
    if (pager->secrets)
        OPENSSL_cleanse(pager->secrets, pager->secrets_size);
    evpq__free(pager->secrets);
    evpq__free(pager->params);
    evpq__free(pager->columns);
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
static bool copy_secrets(struct evpq_pager *pager)
{
    struct evpq__walk *walk = &pager->walk;
    if (walk->secrets_count == 0)
        return true;
    size_t size = walk->secrets_count * sizeof(evpq_secret);
    for (size_t i = 0; i < walk->secrets_count; i++)
        size += walk->secrets[i].length;
    pager->secrets = evpq__alloc(size);
    if (!pager->secrets)
        return false;
    pager->secrets_size = size;
    unsigned char *bytes = (unsigned char *)(pager->secrets + walk->secrets_count);
    for (size_t i = 0; i < walk->secrets_count; i++) {
        pager->secrets[i] = walk->secrets[i];
        pager->secrets[i].bytes = memcpy(bytes, walk->secrets[i].bytes, walk->secrets[i].length);
        bytes += walk->secrets[i].length;
    }
    walk->secrets = pager->secrets;
    return true;
}

/* False without memory. Takes the columns. */
static bool pager_init(struct evpq_pager *pager, struct evpq__pager_setup *setup)
{
    const evpq_pager_options *options = &setup->options;
    pager->keyset = setup->keyset;
    pager->walk = setup->walk;
    pager->page_size = options->page_size;
    pager->timeout_ms = options->timeout_ms;
    pager->format = options->format;
    pager->columns = setup->columns;
    setup->columns = NULL;
    pager->sql = evpq__strdup(options->sql);
    pager->params = copy_params(options->params, options->params_count);
    struct place **known = options->after    ? &pager->behind
                           : options->before ? &pager->before
                                             : NULL;
    if (known)
        *known = place_new(&setup->token.position, setup->keyset.count);
    pager->paged = (struct evpq__paged){.sql = pager->sql,
                                        .sql_length = setup->sql_length,
                                        .columns = pager->columns,
                                        .params_count = options->params_count};
    return pager->sql && pager->params && copy_secrets(pager) && (!known || *known);
}

int evpq_pager_open(evpq_pager **out, evpq_pool *pool, const evpq_pager_options *options)
{
    if (!out || !pool)
        return EVPQ_EINVALID;
    struct evpq__pager_setup setup;
    const char *problem;
    int code = evpq__pager_setup_read(&setup, options, &problem);
    struct evpq_pager *pager = code == EVPQ_OK ? evpq__alloc(sizeof(*pager)) : NULL;
    if (code == EVPQ_OK && !pager)
        code = EVPQ_ENOMEM;
    if (pager) {
        pager->refs = 1;
        if (!pager_init(pager, &setup)) {
            pager_unref(pager);
            code = EVPQ_ENOMEM;
        }
    }
    evpq__free(setup.columns);
    if (code != EVPQ_OK)
        return code;
    uint32_t walk_ms = setup.options.walk_timeout_ms;
    pager->deadline_us = evpq__loop_deadline(pool->loop, walk_ms ? walk_ms : EVPQ_NEVER);
    evpq__pool_ref(pool);
    pager->pool = pool;
    *out = pager;
    return EVPQ_OK;
}

/* ---- what a page brings ---- */

/* Where the keys are in a result. */
static bool find_columns(const struct evpq_pager *pager, const struct evpq_result *result,
                         int columns[EVPQ__KEYS_MAX], struct evpq_error *err)
{
    int hidden = (int)result->columns;
    for (size_t i = 0; i < pager->keyset.count; i++)
        hidden -= pager->keyset.keys[i].hidden;
    for (size_t i = 0; i < pager->keyset.count; i++) {
        const struct evpq__key *key = &pager->keyset.keys[i];
        columns[i] = key->hidden ? hidden++ : evpq_result_column_index(result, key->name);
        if (columns[i] >= 0)
            continue;
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "order column \"%s\" is not a column of the statement", key->name);
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

/* The place next to a row; NULL without memory. */
static struct place *place_at(const struct evpq_pager *pager, const PGresult *pg, int row,
                              const int *columns, bool before)
{
    evpq_value keys[EVPQ__KEYS_MAX];
    struct evpq__position position = {.keys = keys, .before = before};
    for (size_t i = 0; i < pager->keyset.count; i++) {
        int column = columns[i];
        position.nulls[i] = PQgetisnull(pg, row, column);
        /* Enums have a fixed size; ranges and what extensions bring are taken for rows, too. */
        position.rows[i] = PQftype(pg, column) >= EVPQ__FIRST_USER_TYPE && PQfsize(pg, column) < 0;
        keys[i] = evpq__value_raw(PQftype(pg, column), PQfformat(pg, column) == 1,
                                  position.nulls[i] ? NULL : PQgetvalue(pg, row, column),
                                  (size_t)PQgetlength(pg, row, column));
    }
    position.offset = pager->ask.offset + row + (before ? 0 : 1);
    return place_new(&position, pager->keyset.count);
}

/* Around these rows of the result. False without memory. */
static bool move(struct evpq_pager *pager, const PGresult *pg, const int *columns, int first,
                 int last)
{
    struct place *before = place_at(pager, pg, first, columns, true);
    struct place *behind = before ? place_at(pager, pg, last, columns, false) : NULL;
    if (!behind) {
        place_free(before);
        return false;
    }
    place_free(pager->before);
    place_free(pager->behind);
    pager->before = before;
    pager->behind = behind;
    return true;
}

/* Moves the pager around the page, or sets the error. */
static void take_page(struct evpq_pager *pager, struct evpq_result *result, struct evpq_error *err)
{
    const struct ask *ask = &pager->ask;
    uint32_t rows = evpq_result_rows(result), columns_shown = evpq_result_columns(result);
    uint32_t shown = rows < ask->rows ? rows : ask->rows;
    int columns[EVPQ__KEYS_MAX];
    int last = (int)shown - 1;
    size_t count = pager->keyset.count;
    if (!find_columns(pager, result, columns, err))
        return;
    if (count && rows > shown && shown > 0 &&
        rows_equal(result->pg, last, last + 1, columns, count)) {
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "rows %u and %u are equal in all order columns: "
                        "add a unique column to order_by",
                        shown, shown + 1);
        return;
    }
    bool reversed = ask->backward && count > 0;
    if (shown > 0 && !move(pager, result->pg, columns, reversed ? last : 0, reversed ? 0 : last)) {
        evpq__error_set(err, EVPQ_ENOMEM, EVPQ_ROLLED_BACK, "%s", evpq_code_text(EVPQ_ENOMEM));
        return;
    }
    for (size_t i = 0; i < count; i++)
        columns_shown -= pager->keyset.keys[i].hidden;
    evpq__result_show(result, shown, columns_shown, reversed);
    pager->page = (struct evpq_page){.pager = pager, .result = result};
    pager->page.has_next = ask->backward ? ask->from != NULL : rows > shown;
    pager->page.has_prev = ask->backward && count ? rows > shown
                           : count                ? ask->from != NULL
                                                  : ask->offset > 0;
}

/* The server counts in the statement as it was wrapped, the user in theirs. 0: not there. */
static uint32_t own_position(const struct evpq_pager *pager, uint32_t position)
{
    size_t characters = 0;
    if (pager->keyset.count && pager->ask.from)
        return 0; /* there may be copies of it */
    size_t before = evpq__page_head(&pager->paged, &pager->keyset);
    for (size_t i = 0; i < pager->paged.sql_length; i++)
        characters += (pager->sql[i] & 0xC0) != 0x80;
    return position > before && position - before <= characters ? position - (uint32_t)before : 0;
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
    struct evpq_op *op = pager->op;
    pager->op = NULL;
    if (err)
        take_failure(pager, err, &failure);
    else if (pager->closed)
        evpq__error_set(&failure, EVPQ_ECLOSED, EVPQ_ROLLED_BACK, "the pager was closed");
    else
        take_page(pager, result, &failure);
    bool good = failure.code == EVPQ_OK;
    if (!good && op->error.code == EVPQ_OK) /* for who watches the operation */
        evpq__error_copy(&op->error, &failure);
    pager->on_page(good ? &pager->page : NULL, good ? NULL : &failure, pager->user);
    evpq__error_clear(&failure);
    pager_unref(pager);
}

/* ---- asking for a page ---- */

/* Writes the parameters that tell where it begins; how many. */
static size_t page_params(const struct evpq_pager *pager, const struct ask *ask, evpq_value *out)
{
    size_t count = 0;
    if (pager->keyset.count == 0)
        out[count++] = evpq_int8(ask->offset);
    else if (ask->from)
        for (size_t i = 0; i < pager->keyset.count; i++)
            if (!ask->from->position.nulls[i])
                out[count++] = ask->from->position.keys[i];
    return count;
}

static char *page_sql(struct evpq_pager *pager, const struct ask *ask)
{
    pager->paged.rows = ask->rows ? ask->rows + 1 : 0;
    if (pager->keyset.count == 0)
        return evpq__offset_sql(&pager->paged);
    return evpq__keyset_sql(
        &pager->paged, &pager->keyset,
        &(struct evpq__cut){.backward = ask->backward,
                            .inclusive = ask->inclusive,
                            .rows = ask->from ? ask->from->position.rows : NULL,
                            .nulls = ask->from ? ask->from->position.nulls : NULL});
}

/* The time of a page: its own, or what the walk has left. False: that is nothing. */
static bool page_timeout(const struct evpq_pager *pager, uint32_t *timeout_ms)
{
    *timeout_ms = pager->timeout_ms;
    if (pager->deadline_us == EVPQ__NO_DEADLINE)
        return true;
    uint32_t own = pager->timeout_ms ? pager->timeout_ms : pager->pool->options.query_timeout_ms;
    int64_t left_ms = (pager->deadline_us - evpq__loop_now(pager->pool->loop)) / 1000;
    *timeout_ms = left_ms < own ? (uint32_t)left_ms : own;
    return left_ms > 0;
}

static int ask_for_page(struct evpq_pager *pager, const struct ask *ask, evpq_op **out,
                        evpq_page_fn *on_page, void *user)
{
    if (pager->pool->state != EVPQ__POOL_OPEN)
        return EVPQ_ECLOSED;
    uint32_t timeout_ms;
    if (!page_timeout(pager, &timeout_ms))
        return EVPQ_ETIMEOUT;
    char *sql = page_sql(pager, ask);
    if (!sql)
        return EVPQ_ENOMEM;
    size_t own = pager->paged.params_count;
    evpq_query query = {.size = sizeof(query),
                        .sql = sql,
                        .params = pager->params,
                        .params_count = own + page_params(pager, ask, pager->params + own),
                        .timeout_ms = timeout_ms,
                        .format = pager->format};
    int code = evpq_pool_query(&pager->op, pager->pool, &query, pager_on_result, pager);
    evpq__free(sql);
    if (code != EVPQ_OK)
        return code;
    pager->refs++;
    pager->ask = *ask;
    pager->on_page = on_page;
    pager->user = user;
    if (out)
        *out = pager->op;
    return EVPQ_OK;
}

static bool may_ask(const struct evpq_pager *pager, evpq_page_fn *on_page)
{
    return pager && on_page && !pager->op;
}

int evpq_pager_next(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page))
        return EVPQ_EINVALID;
    struct ask ask = {.from = pager->behind, .rows = pager->page_size};
    if (!ask.from) {
        ask.from = pager->before;
        ask.inclusive = ask.from != NULL;
    }
    ask.offset = ask.from ? ask.from->position.offset : 0;
    return ask_for_page(pager, &ask, out, on_page, user);
}

int evpq_pager_prev(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page))
        return EVPQ_EINVALID;
    struct ask ask = {.backward = true, .from = pager->before, .rows = pager->page_size};
    if (!ask.from) {
        ask.from = pager->behind;
        ask.inclusive = ask.from != NULL;
    }
    int64_t rows_before = ask.from ? ask.from->position.offset : 0;
    if (pager->keyset.count == 0) {
        if (rows_before < ask.rows)
            ask.rows = (uint32_t)rows_before;
        ask.offset = rows_before - ask.rows;
    } else if (!ask.from) {
        ask.rows = 0; /* it stands before the first row */
    }
    return ask_for_page(pager, &ask, out, on_page, user);
}

int evpq_pager_first(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page))
        return EVPQ_EINVALID;
    return ask_for_page(pager, &(struct ask){.rows = pager->page_size}, out, on_page, user);
}

int evpq_pager_last(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page) || pager->keyset.count == 0)
        return EVPQ_EINVALID;
    return ask_for_page(pager, &(struct ask){.backward = true, .rows = pager->page_size}, out,
                        on_page, user);
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

static const char *token_of(const struct evpq_pager *pager, struct place *place)
{
    if (place && !place->token)
        (void)evpq__token_encode(&place->token, &pager->walk, &place->position, time(NULL));
    return place ? place->token : NULL;
}

const char *evpq_pager_token(const evpq_pager *pager)
{
    return pager ? token_of(pager, pager->behind) : NULL;
}

const char *evpq_pager_token_before(const evpq_pager *pager)
{
    return pager ? token_of(pager, pager->before) : NULL;
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

bool evpq_page_has_prev(const evpq_page *page)
{
    return page && page->has_prev;
}

const char *evpq_page_token(const evpq_page *page)
{
    return page ? evpq_pager_token(page->pager) : NULL;
}

const char *evpq_page_token_before(const evpq_page *page)
{
    return page ? evpq_pager_token_before(page->pager) : NULL;
}
