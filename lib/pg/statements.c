/* SPDX-License-Identifier: MIT */
#include "pg/statements.h"

#include <assert.h>
#include <string.h>

void evpq__statements_init(struct evpq__statements *all, size_t max_count, size_t max_bytes)
{
    *all = (struct evpq__statements){.max_count = max_count, .max_bytes = max_bytes};
    evpq__list_init(&all->unused);
}

static size_t types_size(size_t count)
{
    return count * sizeof(uint32_t);
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo), over the types and then the text. */
static uint64_t hash_of(const evpq_query *query)
{
    uint64_t hash = 0xcbf29ce484222325, prime = 0x100000001b3;
    for (size_t i = 0; i < query->params_count; i++)
        hash = (hash ^ query->params[i].type) * prime;
    for (size_t i = 0; i < query->sql_length; i++)
        hash = (hash ^ (unsigned char)query->sql[i]) * prime;
    return hash;
}

static bool says(const struct evpq__statement *s, const evpq_query *query)
{
    if (s->sql_length != query->sql_length || (size_t)s->count != query->params_count ||
        memcmp(s->sql, query->sql, s->sql_length) != 0)
        return false;
    for (int i = 0; i < s->count; i++)
        if (s->types[i] != query->params[i].type)
            return false;
    return true;
}

bool evpq__statement_same(const struct evpq__statement *a, const struct evpq__statement *b)
{
    if (a == b)
        return true;
    return a->hash == b->hash && a->sql_length == b->sql_length && a->count == b->count &&
           memcmp(a->sql, b->sql, a->sql_length) == 0 &&
           (a->count == 0 || memcmp(a->types, b->types, types_size((size_t)a->count)) == 0);
}

static void statement_free(struct evpq__statement *s)
{
    if (s->all->last == s)
        s->all->last = NULL;
    if (s->hh.tbl)
        HASH_DELETE(hh, s->all->table, s);
    evpq__free(s);
}

static struct evpq__statement *statement_new(struct evpq__statements *all, const evpq_query *query,
                                             uint64_t hash)
{
    size_t before_sql = sizeof(struct evpq__statement) + types_size(query->params_count);
    size_t size = before_sql + query->sql_length + 1;
    struct evpq__statement *s = evpq__alloc(size);
    if (!s)
        return NULL;
    uint32_t *types = (uint32_t *)(s + 1);
    for (size_t i = 0; i < query->params_count; i++)
        types[i] = query->params[i].type;
    s->sql = memcpy((char *)s + before_sql, query->sql, query->sql_length);
    s->sql_length = query->sql_length;
    s->types = types;
    s->count = (int)query->params_count;
    s->kind = evpq__statement_kind_of(s->sql);
    s->hash = hash;
    s->size = size;
    s->all = all;
    evpq__node_init(&s->node);
    return s;
}

static struct evpq__statement *look_up(struct evpq__statements *all, const evpq_query *query)
{
    uint64_t hash = hash_of(query);
    struct evpq__statement *found = NULL;
    HASH_FIND_BYHASHVALUE(hh, all->table, &hash, sizeof(hash), (unsigned)hash, found);
    if (found && says(found, query))
        return found;
    struct evpq__statement *s = statement_new(all, query, hash);
    if (!s || found)
        return s;
    HASH_ADD_BYHASHVALUE(hh, all->table, hash, sizeof(s->hash), (unsigned)hash, s);
    if (s->hh.tbl)
        return s;
    evpq__free(s);
    return NULL;
}

struct evpq__statement *evpq__statements_get(struct evpq__statements *all, const evpq_query *query)
{
    assert(query->sql_length > 0); /* it is complete */
    struct evpq__statement *s = all->last;
    if (!s || !says(s, query))
        s = look_up(all, query);
    if (!s)
        return NULL;
    evpq__statement_ref(s);
    all->last = s;
    return s;
}

static void take_out(struct evpq__statement *s)
{
    evpq__node_unlink(&s->node);
    s->all->unused_count--;
    s->all->unused_bytes -= s->size;
}

static struct evpq__statement *longest_unused(const struct evpq__statements *all)
{
    return evpq__container_of(all->unused.head.prev, struct evpq__statement, node);
}

static void forget_longest_unused(struct evpq__statements *all)
{
    struct evpq__statement *s = longest_unused(all);
    take_out(s);
    statement_free(s);
}

void evpq__statement_ref(struct evpq__statement *statement)
{
    if (statement->refs++ == 0 && evpq__node_linked(&statement->node))
        take_out(statement);
}

void evpq__statement_unref(struct evpq__statement *statement)
{
    if (!statement || --statement->refs > 0)
        return;
    struct evpq__statements *all = statement->all;
    if (!statement->hh.tbl) {
        statement_free(statement);
        return;
    }
    evpq__list_push_front(&all->unused, &statement->node);
    all->unused_count++;
    all->unused_bytes += statement->size;
    while (all->unused_count > all->max_count || all->unused_bytes > all->max_bytes)
        forget_longest_unused(all);
}

void evpq__statements_done(struct evpq__statements *all)
{
    while (all->unused_count > 0)
        forget_longest_unused(all);
    assert(!all->table);
}

void evpq__statement_ran(struct evpq__statement *statement, int64_t ran_us)
{
    enum { LONG_US = 20000 }; /* above what a busy machine makes of a fast one */
    statement->slow = ran_us > LONG_US;
}
