/* SPDX-License-Identifier: MIT */

/*
 *   ACQUIRING --> SHAPE --> BEGINNING --> SETTING --> PLANNING --> JUDGING --> ENDED
 *        ^          |          only for an index
 *        +----------+
 *        the connection was lost before anything was sent
 *
 * One operation is under way in each state, and its end leads to the next one; any failure, and a
 * stop, leads to ENDED. The lease is given back before anybody is told.
 */

#include "page/proof.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "page/failure.h"
#include "page/verdict.h"
#include "pg/result.h"

enum proof_state {
    PROOF_ACQUIRING, /* a connection is asked for */
    PROOF_SHAPE,     /* the keys, as a result without rows describes them */
    PROOF_BEGINNING, /* a transaction, so that what follows ends with it */
    PROOF_SETTING,   /* the planner is to sort only where it must, on small tables too */
    PROOF_PLANNING,  /* the plan of a page */
    PROOF_JUDGING,   /* what the catalogs make of it */
    PROOF_ENDED,
};

struct evpq__proof {
    struct evpq__proof_ask ask;
    enum proof_state state;
    struct evpq_op *op; /* under way; NULL in its callback */
    evpq_code stopped;  /* EVPQ_OK: it was not */
    evpq_lease *lease;
    evpq__proof_fn *done;
    void *user;
    struct evpq__keyset shown; /* the keys as columns of their own */
    int64_t types[EVPQ__KEYS_MAX], tables[EVPQ__KEYS_MAX], attributes[EVPQ__KEYS_MAX];
    struct evpq_result *shape, *plan;
    struct evpq__proof_facts facts;
};

#define SHAPE   "WITH evpq_shape AS NOT MATERIALIZED (\n"
#define EXPLAIN "EXPLAIN (FORMAT JSON, VERBOSE, COSTS off) "

/* A plan over thousands of partitions has some megabytes. */
enum { ANSWER_BYTES = 64 << 20 };

/* Types of ROW(...), and of arrays of them. */
enum { RECORD = 2249, RECORD_ARRAY = 2287 };

/* A page of so many rows when the caller does not say. */
enum { SOME_ROWS = 100 };

/* The same statement with just the keys as its columns, behind one that is not looked at. */
static struct evpq__paged narrowed(const struct evpq__proof *p, uint32_t rows)
{
    struct evpq__paged paged = *p->ask.paged;
    paged.columns = "NULL";
    paged.rows = rows;
    return paged;
}

static char *page_sql(const struct evpq__proof *p, uint32_t rows)
{
    static const struct evpq__cut from_the_start;
    struct evpq__paged paged = narrowed(p, rows);
    return evpq__keyset_sql(&paged, &p->shown, &from_the_start);
}

/* ---- the end ---- */

static void proof_free(struct evpq__proof *p)
{
    evpq_lease_release(p->lease);
    evpq_result_free(p->shape);
    evpq_result_free(p->plan);
    evpq__free(p);
}

/* Takes what the error holds. */
static void proof_end(struct evpq__proof *p, struct evpq_error *err)
{
    evpq__proof_fn *done = p->done;
    void *user = p->user;
    struct evpq__proof_facts facts = p->facts;
    p->state = PROOF_ENDED;
    proof_free(p);
    done(user, err->code == EVPQ_OK ? &facts : NULL, err);
    evpq__error_clear(err);
}

static void set_code(struct evpq_error *err, evpq_code code)
{
    evpq__error_set(err, code, EVPQ_NOT_SENT, "%s", evpq_code_text(code));
}

static void set_stopped(struct evpq_error *err, evpq_code why)
{
    evpq__error_set(err, why, EVPQ_NOT_SENT, "%s while the order was proven",
                    why == EVPQ_ECLOSED     ? "closed"
                    : why == EVPQ_ECANCELED ? "cancelled"
                                            : "the deadline passed");
}

/* ---- what is asked ---- */

static void proof_on_result(evpq_result *result, const evpq_error *err, void *user);

static int ask(struct evpq__proof *p, const char *sql, const evpq_value *params, size_t count)
{
    /* Of the keys no binary form need be known. */
    evpq_format format = p->state == PROOF_SHAPE ? EVPQ_TEXT : EVPQ_BINARY;
    return evpq_lease_query(
        &p->op, p->lease,
        EVPQ_QUERY(sql, .params = params, .params_count = count,
                   .timeout_ms = evpq__loop_left(p->ask.pool->loop, p->ask.deadline_us),
                   .format = format, .max_result_bytes = ANSWER_BYTES),
        proof_on_result, p);
}

/* Takes the statement of a page, which may be NULL: there was no memory. */
static int ask_of_page(struct evpq__proof *p, char *sql)
{
    int code = sql ? ask(p, sql, p->ask.params, p->ask.paged->params_count) : EVPQ_ENOMEM;
    evpq__free(sql);
    return code;
}

/*
 * The keys as columns, behind the collation of each, in one row: of no row, which has NULL for each
 * of them. What has no collation gets one by the cast; its type tells.
 */
static char *shape_sql(const struct evpq__proof *p)
{
    char list[EVPQ__KEYS_MAX * 100], *page = page_sql(p, 0);
    size_t length = 0;
    for (size_t i = 1; i <= p->shown.count; i++)
        length += (size_t)snprintf(
            list + length, sizeof(list) - length,
            "%s pg_catalog.pg_collation_for(s.evpq_key_%zu::pg_catalog.text), s.evpq_key_%zu",
            i > 1 ? "," : "", i, i);
    char *sql = page ? evpq__format(SHAPE
                                    "%s\n) SELECT%s FROM (SELECT) AS evpq_one"
                                    " LEFT JOIN evpq_shape AS s ON true",
                                    page, list)
                     : NULL;
    evpq__free(page);
    return sql;
}

static int ask_shape(struct evpq__proof *p)
{
    return ask_of_page(p, shape_sql(p));
}

static int ask_begin(struct evpq__proof *p)
{
    return ask(p, "BEGIN READ ONLY", NULL, 0);
}

/* With methods off, costs are huge (before PostgreSQL 18), and what is dear would be compiled. */
static int ask_settings(struct evpq__proof *p)
{
    return ask(p,
               "SELECT pg_catalog.set_config('enable_seqscan', 'off', true),"
               " pg_catalog.set_config('enable_bitmapscan', 'off', true),"
               " pg_catalog.set_config('enable_sort', 'off', true),"
               " pg_catalog.set_config('jit', 'off', true)",
               NULL, 0);
}

static int ask_plan(struct evpq__proof *p)
{
    char *page = page_sql(p, p->ask.paged->rows ? p->ask.paged->rows : SOME_ROWS);
    char *sql = page ? evpq__format(EXPLAIN "%s", page) : NULL;
    evpq__free(page);
    return ask_of_page(p, sql);
}

/* As the order has it, or else as its value has it; "" for none. */
static const char *collation(const struct evpq__proof *p, size_t i)
{
    const char *own = evpq__key_collation(p->ask.keyset, i);
    evpq_text_view found;
    if (own[0] || evpq_result_text(p->shape, 0, (uint32_t)(2 * i), &found) != EVPQ_OK)
        return own;
    return found.data;
}

static int ask_verdict(struct evpq__proof *p)
{
    const struct evpq__keyset *keyset = p->ask.keyset;
    const char *collations[EVPQ__KEYS_MAX], *values[EVPQ__KEYS_MAX];
    for (size_t i = 0; i < keyset->count; i++) {
        collations[i] = collation(p, i);
        values[i] = evpq__key_value(keyset, i);
    }
    evpq_text_view plan = {NULL, 0};
    if (p->plan && evpq_result_text(p->plan, 0, 0, &plan) != EVPQ_OK)
        return EVPQ_ETYPE;
    char *sql = evpq__verdict_sql();
    const evpq_value params[] = {
        evpq_text_n(plan.data, plan.length),        evpq_int8_array(p->types, keyset->count),
        evpq_int8_array(p->tables, keyset->count),  evpq_int8_array(p->attributes, keyset->count),
        evpq_text_array(collations, keyset->count), evpq_text_array(values, keyset->count),
    };
    int code = sql ? ask(p, sql, params, sizeof(params) / sizeof(*params)) : EVPQ_ENOMEM;
    evpq__free(sql);
    return code;
}

/* ---- what is answered ---- */

static void set_not_understood(struct evpq_error *err)
{
    evpq__error_set(err, EVPQ_ETYPE, EVPQ_ROLLED_BACK,
                    "what the server says of the order cannot be understood");
}

static void take_shape(struct evpq__proof *p, struct evpq_result *result, struct evpq_error *err)
{
    size_t count = p->ask.keyset->count;
    if (evpq_result_columns(result) != 2 * count || evpq_result_rows(result) != 1) {
        set_not_understood(err);
        return;
    }
    p->shape = evpq_result_keep(result);
    for (size_t i = 0; i < count; i++) {
        int column = 2 * (int)i + 1;
        p->types[i] = PQftype(result->pg, column);
        if (p->types[i] == RECORD || p->types[i] == RECORD_ARRAY)
            evpq__verdict_set_record(err);
        p->tables[i] = PQftable(result->pg, column);
        p->attributes[i] = p->tables[i] ? PQftablecol(result->pg, column) : 0;
    }
}

static void take_plan(struct evpq__proof *p, struct evpq_result *result, struct evpq_error *err)
{
    evpq_text_view plan;
    if (evpq_result_text(result, 0, 0, &plan) != EVPQ_OK)
        set_not_understood(err);
    else
        p->plan = evpq_result_keep(result);
}

/* Where the name behind this one begins: they are quoted, with commas between them. */
static const char *behind_name(const char *name)
{
    bool quoted = false;
    for (; *name && (quoted || *name != ','); name++)
        quoted = quoted != (*name == '"');
    return name;
}

static uint16_t keep_collation(struct evpq__proof_facts *facts, const char *name, size_t length)
{
    const char *at = facts->collations, *end = at + facts->collations_length;
    for (; at < end; at += strlen(at) + 1)
        if (strlen(at) == length && memcmp(at, name, length) == 0)
            return (uint16_t)(at - facts->collations + 1);
    memcpy(facts->collations + facts->collations_length, name, length);
    facts->collations[facts->collations_length + length] = '\0';
    facts->collations_length = (uint16_t)(facts->collations_length + length + 1);
    return (uint16_t)(end - facts->collations + 1);
}

/* False: that is not understood. */
static bool take_collations(struct evpq__proof *p, const char *names)
{
    struct evpq__proof_facts *facts = &p->facts;
    facts->collations_length = 0;
    for (size_t i = 0; i < p->ask.keyset->count; i++) {
        const char *end = behind_name(names);
        if (end - names >= EVPQ__COLLATION_SIZE)
            return false;
        facts->collation[i] = 0;
        if (end > names)
            facts->collation[i] = keep_collation(facts, names, (size_t)(end - names));
        names = *end ? end + 1 : end;
    }
    return *names == '\0';
}

static int make_compare(struct evpq__proof_facts *facts, size_t count)
{
    const char *collations[EVPQ__KEYS_MAX];
    for (size_t i = 0; i < count; i++)
        collations[i] = evpq__facts_collation(facts, i);
    return evpq__compare_digest(facts->compare, facts->types, collations, count) ? EVPQ_OK
                                                                                 : EVPQ_ENOMEM;
}

static void take_verdict(struct evpq__proof *p, struct evpq_result *result, struct evpq_error *err)
{
    evpq_text_view why, of, composite, not_null, collations, foreign, moving;
    bool sorts, indexable;
    size_t count = p->ask.keyset->count;
    int none = evpq_result_text(result, 0, EVPQ__VERDICT_OF, &of);
    int alike = evpq_result_text(result, 0, EVPQ__VERDICT_FOREIGN, &foreign);
    int stays = evpq_result_text(result, 0, EVPQ__VERDICT_MOVES, &moving);
    if (evpq_result_text(result, 0, EVPQ__VERDICT_WHY, &why) != EVPQ_OK ||
        (alike != EVPQ_OK && alike != EVPQ_NULL) || (stays != EVPQ_OK && stays != EVPQ_NULL) ||
        evpq_result_bool(result, 0, EVPQ__VERDICT_INDEXABLE, &indexable) != EVPQ_OK ||
        (none != EVPQ_OK && none != EVPQ_NULL) ||
        evpq_result_bool(result, 0, EVPQ__VERDICT_SORTS, &sorts) != EVPQ_OK ||
        evpq_result_text(result, 0, EVPQ__VERDICT_COMPOSITE, &composite) != EVPQ_OK ||
        evpq_result_bool(result, 0, EVPQ__VERDICT_ALWAYS, &p->facts.always) != EVPQ_OK ||
        evpq_result_text(result, 0, EVPQ__VERDICT_COLLATIONS, &collations) != EVPQ_OK ||
        evpq_result_text(result, 0, EVPQ__VERDICT_NOT_NULL, &not_null) != EVPQ_OK ||
        not_null.length != count || composite.length != count ||
        !take_collations(p, collations.data)) {
        set_not_understood(err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        p->facts.types[i] = (uint32_t)p->types[i];
        p->facts.composite[i] = composite.data[i] == '1';
        p->facts.not_null[i] = not_null.data[i] == '1';
    }
    if (make_compare(&p->facts, count) != EVPQ_OK)
        set_code(err, EVPQ_ENOMEM);
    else if (alike == EVPQ_OK)
        evpq__verdict_set_foreign(err, foreign.data);
    else if (stays == EVPQ_OK)
        evpq__verdict_set_moves(err, moving.data);
    else if (p->ask.unique && strcmp(why.data, EVPQ__VERDICT_TOTAL) != 0)
        evpq__verdict_set_partial(err, why.data, none == EVPQ_OK ? of.data : NULL);
    else if (p->ask.index && sorts)
        evpq__verdict_set_sorts(err, p->ask.keyset, indexable);
}

/* ---- from state to state ---- */

static bool always(const struct evpq__proof_ask *ask)
{
    (void)ask;
    return true;
}

static bool for_index(const struct evpq__proof_ask *ask)
{
    return ask->index;
}

typedef void take_fn(struct evpq__proof *p, struct evpq_result *result, struct evpq_error *err);

/* clang-format off */
static const struct {
    bool (*wanted)(const struct evpq__proof_ask *ask);
    int (*ask)(struct evpq__proof *p);
    take_fn *take;    /* NULL: nothing is of interest */
    const char *head; /* in front of the page's statement; NULL: it is not in it */
} steps[] = {
    [PROOF_SHAPE]     = {always,    ask_shape,    take_shape,   SHAPE},
    [PROOF_BEGINNING] = {for_index, ask_begin,    NULL,         NULL},
    [PROOF_SETTING]   = {for_index, ask_settings, NULL,         NULL},
    [PROOF_PLANNING]  = {always,    ask_plan,     take_plan,    EXPLAIN},
    [PROOF_JUDGING]   = {always,    ask_verdict,  take_verdict, NULL},
};
/* clang-format on */

static int acquire(struct evpq__proof *p);

/* The connection is gone, and nothing was sent: another one will do. */
static void proof_again(struct evpq__proof *p)
{
    struct evpq_error err = {0};
    evpq_lease_release(p->lease);
    evpq_result_free(p->shape);
    evpq_result_free(p->plan);
    p->lease = NULL;
    p->shape = p->plan = NULL;
    p->state = PROOF_ACQUIRING;
    int code = acquire(p);
    if (code == EVPQ_OK)
        return;
    set_code(&err, (evpq_code)code);
    proof_end(p, &err);
}

static void proof_go_on(struct evpq__proof *p)
{
    struct evpq_error err = {0};
    do
        p->state++;
    while (p->state < PROOF_ENDED && !steps[p->state].wanted(&p->ask));
    int code = p->state < PROOF_ENDED ? steps[p->state].ask(p) : EVPQ_OK;
    if (code == EVPQ_OK && p->state < PROOF_ENDED)
        return;
    if (code == EVPQ_EDISCONNECTED) {
        proof_again(p);
        return;
    }
    if (code != EVPQ_OK)
        set_code(&err, (evpq_code)code);
    proof_end(p, &err);
}

/* The user's statement failed, or one of ours. */
static void take_failure(const struct evpq__proof *p, const struct evpq_error *from,
                         struct evpq_error *to)
{
    const char *in_front = steps[p->state].head;
    struct evpq__paged paged = narrowed(p, 0);
    size_t head = in_front ? strlen(in_front) + evpq__page_head(&paged, &p->shown) : EVPQ__NO_HEAD;
    if (in_front)
        evpq__failure_take(to, from, p->ask.paged, head);
    else
        evpq__error_copy(to, from);
}

static void proof_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct evpq__proof *p = user;
    struct evpq_error failure = {0};
    p->op = NULL;
    if (p->stopped && evpq_error_code(err) != p->stopped) {
        set_stopped(&failure, p->stopped);
    } else if (!p->stopped && evpq_error_code(err) == EVPQ_EDISCONNECTED &&
               evpq_error_fate(err) == EVPQ_NOT_SENT) {
        proof_again(p);
        return;
    } else if (err) {
        take_failure(p, err, &failure);
    } else if (steps[p->state].take) {
        steps[p->state].take(p, result, &failure);
    }
    if (failure.code != EVPQ_OK)
        proof_end(p, &failure);
    else
        proof_go_on(p);
}

static void proof_on_acquired(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct evpq__proof *p = user;
    struct evpq_error failure = {0};
    p->op = NULL;
    p->lease = lease;
    if (p->stopped && evpq_error_code(err) != p->stopped)
        set_stopped(&failure, p->stopped);
    else if (err)
        evpq__error_copy(&failure, err);
    if (failure.code != EVPQ_OK)
        proof_end(p, &failure);
    else
        proof_go_on(p);
}

/* It may wait as long as a query of the pool. */
static int acquire(struct evpq__proof *p)
{
    uint32_t left = evpq__loop_left(p->ask.pool->loop, p->ask.deadline_us),
             wait = p->ask.pool->options.acquire_timeout_ms;
    if (wait == 0)
        wait = evpq__pool_half(left);
    return evpq_pool_acquire(
        &p->op, p->ask.pool,
        EVPQ_ACQUIRE_OPTIONS(.timeout_ms = wait < left ? wait : left, .tag = "order of pages"),
        proof_on_acquired, p);
}

int evpq__proof_start(struct evpq__proof **out, const struct evpq__proof_ask *ask_,
                      evpq__proof_fn *done, void *user)
{
    struct evpq__proof *p = evpq__alloc(sizeof(*p));
    if (!p)
        return EVPQ_ENOMEM;
    p->ask = *ask_;
    p->done = done;
    p->user = user;
    p->shown = *ask_->keyset;
    evpq__keyset_reset(&p->shown);
    for (size_t i = 0; i < p->shown.count; i++)
        p->shown.keys[i].hidden = true;
    int code = acquire(p);
    if (code != EVPQ_OK)
        evpq__free(p);
    else
        *out = p;
    return code;
}

void evpq__proof_stop(struct evpq__proof *p, evpq_code why, struct evpq_error *err)
{
    if (!p->stopped) {
        p->stopped = why;
        evpq__op_stop(p->op, why);
    }
    if (p->op->error.code == p->stopped)
        evpq__error_copy(err, &p->op->error);
    else
        set_stopped(err, p->stopped);
}

/* ---- what is known already ---- */

/* As the pool remembers it: as much of the facts as there is. */
struct remembered {
    uint8_t known, unique, index;
    struct evpq__proof_facts facts;
};

static size_t remembered_size(const struct remembered *known)
{
    return offsetof(struct remembered, facts.collations) + known->facts.collations_length;
}

static bool recall(struct remembered *known, const struct evpq_pool *pool,
                   const unsigned char digest[EVPQ__MEMO_KEY])
{
    _Static_assert(sizeof(*known) >= EVPQ__MEMO_VALUE, "what a memo has fits into a proof");
    *known = (struct remembered){0};
    return evpq__memo_get(pool->memo, digest, (unsigned char *)known, evpq__loop_now(pool->loop)) &&
           known->known;
}

static void remember(struct evpq_pool *pool, const unsigned char digest[EVPQ__MEMO_KEY],
                     const struct remembered *known)
{
    if (remembered_size(known) <= EVPQ__MEMO_VALUE)
        evpq__memo_put(&pool->memo, digest, (const unsigned char *)known,
                       evpq__loop_now(pool->loop));
}

bool evpq__proof_recall(struct evpq__proof_facts *facts, struct evpq_pool *pool,
                        const struct evpq__walk *walk, bool unique, bool index)
{
    struct remembered known;
    if (pool->state != EVPQ__POOL_OPEN)
        return false;
    if (!recall(&known, pool, walk->digest) && (index || !recall(&known, pool, walk->statement)))
        return false;
    if ((unique && !known.unique) || (index && !known.index))
        return false;
    *facts = known.facts;
    return true;
}

void evpq__proof_remember(struct evpq_pool *pool, const struct evpq__walk *walk, bool unique,
                          bool index, const struct evpq__proof_facts *facts)
{
    struct remembered known = {.known = true, .unique = unique, .index = index, .facts = *facts};
    if (pool->state != EVPQ__POOL_OPEN)
        return;
    remember(pool, walk->digest, &known);
    known.index = false;
    if (facts->always && memcmp(walk->digest, walk->statement, EVPQ__MEMO_KEY) != 0)
        remember(pool, walk->statement, &known);
}

void evpq__proof_forget(struct evpq_pool *pool, const struct evpq__walk *walk)
{
    static const struct remembered nothing;
    remember(pool, walk->digest, &nothing);
    remember(pool, walk->statement, &nothing);
}
