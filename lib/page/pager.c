/* SPDX-License-Identifier: MIT */

/*
 * A pager stands around one page, between two places: one before its first row, one behind its
 * last. Only a good page moves the places.
 *
 *                  before          behind
 *     ... rows ... | the page shown | ... rows ...
 *          <------ prev            next ------>
 *
 * A pager that was opened with a token knows one place only; the other way then includes the row
 * that the place is next to.
 */

#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "page/pager.h"

enum {
    PAGE_PARAMS = 2 * EVPQ__KEYS_MAX, /* where it begins, and where the walk ends */
    CURSOR_WALK_MS = 3600000,
};

void evpq__place_free(struct evpq__place *place)
{
    if (!place)
        return;
    evpq__free(place->position.keys);
    evpq__free(place->token);
    evpq__free(place);
}

struct evpq__place *evpq__place_new(const struct evpq__position *position, size_t columns)
{
    struct evpq__place *place = evpq__alloc(sizeof(*place));
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

void evpq__pager_ref(struct evpq_pager *pager)
{
    pager->refs++;
}

void evpq__pager_unref(struct evpq_pager *pager)
{
    if (--pager->refs > 0)
        return;
    evpq__place_free(pager->before);
    evpq__place_free(pager->behind);
    evpq__place_free(pager->until);
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

/* ---- open and close ---- */

/* The statement's parameters with room for a page's behind them, all owned. */
static evpq_value *copy_params(const evpq_value *params, size_t count)
{
    evpq_value *wide = evpq__alloc((count + PAGE_PARAMS) * sizeof(*wide));
    if (!wide)
        return NULL;
    for (size_t i = 0; i < count + PAGE_PARAMS; i++)
        wide[i] = i < count ? params[i] : evpq_null();
    evpq_value *copy = evpq__values_copy(wide, count + PAGE_PARAMS);
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
    evpq__list_init(&pager->asides);
    pager->mode = options->mode;
    pager->page_size = options->page_size;
    pager->timeout_ms = options->timeout_ms;
    pager->format = options->format;
    pager->prefetch_bytes = options->prefetch_bytes;
    pager->assume_unique = options->assume_unique;
    pager->require_index = options->require_index;
    pager->columns = setup->columns;
    setup->columns = NULL;
    pager->sql = evpq__strdup(options->sql);
    if (pager->sql)
        pager->sql[setup->sql_length] = '\0';
    pager->params = copy_params(options->params, options->params_count);
    size_t keys = setup->walk.columns;
    struct evpq__place **known = options->before ? &pager->before : &pager->behind;
    bool begins = options->after || options->before;
    if (begins)
        *known = evpq__place_new(&setup->token.position, keys);
    if (options->until)
        pager->until = evpq__place_new(&setup->until.position, keys);
    pager->paged = (struct evpq__paged){.sql = pager->sql,
                                        .sql_length = setup->sql_length,
                                        .columns = pager->columns,
                                        .params_count = options->params_count};
    return pager->sql && pager->params && copy_secrets(pager) && (!begins || *known) &&
           (!options->until || pager->until);
}

/* Its time begins. False without memory. */
static bool pager_start(struct evpq_pager *pager, uint32_t walk_ms)
{
    bool holds = pager->mode == EVPQ_PAGES_CURSOR;
    if (walk_ms == 0)
        walk_ms = holds ? CURSOR_WALK_MS : EVPQ_NEVER;
    pager->walk_ms = walk_ms;
    pager->deadline_us = evpq__loop_deadline(pager->pool->loop, walk_ms);
    if (holds)
        pager->cursor = evpq__cursor_new(pager->pool, &pager->paged, &pager->keyset, pager->params,
                                         pager->format, pager->deadline_us);
    return !holds || pager->cursor;
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
            evpq__pager_unref(pager);
            code = EVPQ_ENOMEM;
        }
    }
    evpq__free(setup.columns);
    if (code != EVPQ_OK)
        return code;
    evpq__pool_ref(pool);
    pager->pool = pool;
    if (!pager_start(pager, setup.options.walk_timeout_ms)) {
        evpq__pager_unref(pager);
        return EVPQ_ENOMEM;
    }
    *out = pager;
    return EVPQ_OK;
}

/* ---- asking for a page ---- */

uint32_t evpq__pager_own_timeout(const struct evpq_pager *pager)
{
    return evpq__pool_timeout(pager->pool, pager->timeout_ms);
}

bool evpq__pager_timeout(const struct evpq_pager *pager, uint32_t *timeout_ms)
{
    *timeout_ms = pager->timeout_ms;
    if (pager->deadline_us == EVPQ__NO_DEADLINE)
        return true;
    uint32_t own = evpq__pager_own_timeout(pager);
    int64_t left_ms = (pager->deadline_us - evpq__loop_now(pager->pool->loop)) / 1000;
    *timeout_ms = left_ms < own ? (uint32_t)left_ms : own;
    return left_ms > 0;
}

void evpq__pager_know(struct evpq_pager *pager, const struct evpq__proof_facts *facts)
{
    pager->proven = true;
    pager->facts = *facts;
    evpq__keyset_reset(&pager->keyset);
    for (size_t i = 0; i < pager->keyset.count; i++) {
        if (facts->collation[i])
            evpq__key_pin(&pager->keyset, i, evpq__facts_collation(facts, i));
        pager->keyset.keys[i].not_null = facts->not_null[i];
    }
}

bool evpq__place_fits(const struct evpq__place *place, const struct evpq__proof_facts *facts)
{
    return !place || memcmp(place->position.compare, facts->compare, EVPQ__COMPARE_SIZE) == 0;
}

bool evpq__pager_fits(const struct evpq_pager *pager, const struct evpq__proof_facts *facts)
{
    return evpq__place_fits(pager->before, facts) && evpq__place_fits(pager->behind, facts) &&
           evpq__place_fits(pager->until, facts);
}

void evpq__pager_recall(struct evpq_pager *pager)
{
    struct evpq__proof_facts facts;
    if (pager->mode == EVPQ_PAGES_KEYSET && !pager->proven &&
        evpq__proof_recall(&facts, pager->pool, &pager->walk, !pager->assume_unique,
                           pager->require_index) &&
        evpq__pager_fits(pager, &facts))
        evpq__pager_know(pager, &facts);
}

/* Behind `count` values: those of the keys that are not NULL. */
static size_t add_params(evpq_value *params, size_t count, const struct evpq__place *place,
                         size_t keys)
{
    for (size_t i = 0; place && i < keys; i++)
        if (!place->position.nulls[i])
            params[count++] = place->position.keys[i];
    return count;
}

/* Which keys are of a composite type: as was found out of that type, or as may be. */
static void find_composites(const struct evpq_pager *pager, const struct evpq__place *place,
                            bool composite[EVPQ__KEYS_MAX])
{
    for (size_t i = 0; place && i < evpq__pager_keys(pager); i++) {
        bool known = pager->proven && place->position.keys[i].type == pager->facts.types[i];
        composite[i] = known ? pager->facts.composite[i] : place->position.rows[i];
    }
}

/* Leading keys that are the same in both, as far as their bytes tell; not all of them. */
static size_t shared_keys(const struct evpq__position *a, const struct evpq__position *b,
                          size_t keys)
{
    size_t shared = 0;
    while (shared + 1 < keys && a->nulls[shared] == b->nulls[shared] &&
           (a->nulls[shared] || evpq__value_same(&a->keys[shared], &b->keys[shared])))
        shared++;
    return shared;
}

char *evpq__pager_sql(struct evpq_pager *pager, const struct evpq__ask *ask, size_t *count)
{
    size_t keys = evpq__pager_keys(pager);
    *count = pager->paged.params_count;
    pager->paged.rows = ask->rows ? ask->rows + 1 : 0;
    if (keys == 0)
        return evpq__offset_sql(&pager->paged, &pager->keyset, (size_t)ask->offset);
    const struct evpq__position *from = ask->from ? &ask->from->position : NULL;
    const struct evpq__position *until = pager->until ? &pager->until->position : NULL;
    bool composite[EVPQ__KEYS_MAX], until_composite[EVPQ__KEYS_MAX];
    find_composites(pager, ask->from, composite);
    find_composites(pager, pager->until, until_composite);
    *count = add_params(pager->params, *count, ask->from, keys);
    *count = add_params(pager->params, *count, pager->until, keys);
    return (ask->sample ? evpq__sample_sql : evpq__keyset_sql)(
        &pager->paged, &pager->keyset,
        &(struct evpq__cut){.backward = ask->backward,
                            .inclusive = ask->inclusive,
                            .rows = from ? composite : NULL,
                            .nulls = from ? from->nulls : NULL,
                            .until_nulls = until ? until->nulls : NULL,
                            .until_rows = until ? until_composite : NULL,
                            .until_shared = from && until ? shared_keys(from, until, keys) : 0});
}

size_t evpq__pager_head(const struct evpq_pager *pager, const struct evpq__ask *ask)
{
    bool may_repeat = evpq__pager_keys(pager) && (ask->from || pager->until);
    return may_repeat ? EVPQ__NO_HEAD : evpq__page_head(&pager->paged, &pager->keyset);
}

struct evpq__ask evpq__pager_next_ask(const struct evpq_pager *pager)
{
    struct evpq__ask ask = {.from = pager->behind, .rows = pager->page_size};
    if (!ask.from) {
        ask.from = pager->before;
        ask.inclusive = ask.from != NULL;
    }
    ask.offset = ask.from ? ask.from->position.offset : 0;
    return ask;
}

struct evpq__ask evpq__pager_prev_ask(const struct evpq_pager *pager)
{
    struct evpq__ask ask = {.backward = true, .from = pager->before, .rows = pager->page_size};
    if (!ask.from) {
        ask.from = pager->behind;
        ask.inclusive = ask.from != NULL;
    }
    int64_t rows_before = ask.from ? ask.from->position.offset : 0;
    if (evpq__pager_keys(pager) == 0) {
        if (rows_before < ask.rows)
            ask.rows = (uint32_t)rows_before;
        ask.offset = rows_before - ask.rows;
    } else if (!ask.from) {
        ask.rows = 0; /* it stands before the first row */
    }
    return ask;
}

static bool may_ask(const struct evpq_pager *pager, evpq_page_fn *on_page)
{
    return pager && on_page && !pager->fetch;
}

int evpq_pager_next(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page))
        return EVPQ_EINVALID;
    struct evpq__ask ask = evpq__pager_next_ask(pager);
    return evpq__fetch_start(out, pager, &ask, on_page, user);
}

int evpq_pager_prev(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page) || pager->until)
        return EVPQ_EINVALID;
    struct evpq__ask ask = evpq__pager_prev_ask(pager);
    return evpq__fetch_start(out, pager, &ask, on_page, user);
}

int evpq_pager_first(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    if (!may_ask(pager, on_page))
        return EVPQ_EINVALID;
    struct evpq__ask ask = {.rows = pager->page_size};
    return evpq__fetch_start(out, pager, &ask, on_page, user);
}

int evpq_pager_last(evpq_op **out, evpq_pager *pager, evpq_page_fn *on_page, void *user)
{
    bool counts = evpq_pager_mode(pager) == EVPQ_PAGES_OFFSET;
    if (!may_ask(pager, on_page) || pager->until || counts)
        return EVPQ_EINVALID;
    struct evpq__ask ask = {.backward = true, .rows = pager->page_size};
    if (pager->cursor)
        ask.offset = EVPQ__CURSOR_LAST;
    return evpq__fetch_start(out, pager, &ask, on_page, user);
}

void evpq_pager_close(evpq_pager *pager)
{
    if (!pager)
        return;
    pager->closed = true;
    if (pager->fetch)
        evpq__fetch_close(pager->fetch);
    else
        evpq__pull_drop(pager);
    evpq__cursor_close(pager->cursor);
    pager->cursor = NULL;
    evpq__asides_close(pager);
    evpq__pager_unref(pager);
}

/* ---- questions ---- */

static const char *token_of(const struct evpq_pager *pager, struct evpq__place *place)
{
    if (pager->mode == EVPQ_PAGES_CURSOR)
        return NULL;
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

evpq_page_mode evpq_pager_mode(const evpq_pager *pager)
{
    return pager ? pager->mode : EVPQ_PAGES_DEFAULT;
}
