/* SPDX-License-Identifier: MIT */
#include "pg/prepared.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* A pooler's session, or a program that drops behind our back all the time. */
enum { STRAYS_MAX = 5 };

void evpq__cache_init(struct evpq__cache *cache, uint32_t max_count, size_t max_bytes)
{
    *cache = (struct evpq__cache){.max_count = max_count, .max_bytes = max_bytes};
    evpq__list_init(&cache->used);
    evpq__list_init(&cache->closing);
}

void evpq__prepared_ref(struct evpq__prepared *prepared)
{
    prepared->refs++;
}

void evpq__prepared_unref(struct evpq__prepared *prepared)
{
    if (!prepared || --prepared->refs > 0)
        return;
    evpq__statement_unref(prepared->statement);
    evpq__free(prepared);
}

static struct evpq__prepared *of_node(struct evpq__node *node)
{
    return evpq__container_of(node, struct evpq__prepared, node);
}

/* Its reference of the cache is the caller's now. */
static void take_out(struct evpq__cache *cache, struct evpq__prepared *prepared)
{
    HASH_DELETE(hh, cache->table, prepared);
    evpq__node_unlink(&prepared->node);
    cache->count--;
    cache->bytes -= prepared->size;
    prepared->state = EVPQ__PREPARED_GONE;
}

void evpq__cache_done(struct evpq__cache *cache)
{
    struct evpq__node *node;
    while ((node = evpq__list_first(&cache->used))) {
        struct evpq__prepared *prepared = of_node(node);
        take_out(cache, prepared);
        evpq__prepared_unref(prepared);
    }
    while ((node = evpq__list_pop_front(&cache->closing)))
        evpq__prepared_unref(of_node(node));
}

struct evpq__prepared *evpq__cache_find(struct evpq__cache *cache,
                                        const struct evpq__statement *statement)
{
    /* The same as the last time needs no look-up. */
    struct evpq__node *first = evpq__list_first(&cache->used);
    if (first && of_node(first)->statement == statement)
        return of_node(first);
    uint64_t hash = statement->hash;
    struct evpq__prepared *found = NULL;
    HASH_FIND_BYHASHVALUE(hh, cache->table, &hash, sizeof(hash), (unsigned)hash, found);
    if (!found || !evpq__statement_same(found->statement, statement))
        return NULL;
    evpq__node_unlink(&found->node);
    evpq__list_push_front(&cache->used, &found->node);
    return found;
}

bool evpq__cache_seen(struct evpq__cache *cache, uint64_t hash)
{
    uint32_t *place = &cache->seen[hash % EVPQ__CACHE_SEEN];
    uint32_t mark = (uint32_t)(hash >> 32) | 1; /* 0 is nobody's */
    bool seen = *place == mark;
    *place = mark;
    return seen;
}

/* The longest unused one that the server has. */
static struct evpq__prepared *victim(const struct evpq__cache *cache)
{
    const struct evpq__node *end = &cache->used.head;
    for (struct evpq__node *node = end->prev; node != end; node = node->prev)
        if (of_node(node)->state == EVPQ__PREPARED_READY)
            return of_node(node);
    return NULL;
}

static bool fits(const struct evpq__cache *cache, size_t size)
{
    return cache->count < cache->max_count && size <= cache->max_bytes - cache->bytes;
}

static bool make_room(struct evpq__cache *cache, size_t size, size_t evictions)
{
    if (cache->max_count == 0 || size > cache->max_bytes)
        return false;
    for (; !fits(cache, size); evictions--) {
        struct evpq__prepared *last = evictions > 0 ? victim(cache) : NULL;
        if (!last)
            return false;
        evpq__cache_drop(cache, last, true);
    }
    return true;
}

struct evpq__prepared *evpq__cache_add(struct evpq__cache *cache, struct evpq__statement *statement,
                                       size_t evictions)
{
    uint64_t hash = statement->hash;
    size_t size = sizeof(struct evpq__prepared) + (size_t)statement->count * sizeof(uint32_t) +
                  statement->sql_length + 1;
    struct evpq__prepared *other = NULL;
    HASH_FIND_BYHASHVALUE(hh, cache->table, &hash, sizeof(hash), (unsigned)hash, other);
    if (other || !make_room(cache, size, evictions))
        return NULL;
    struct evpq__prepared *added = evpq__alloc(sizeof(*added));
    if (!added)
        return NULL;
    added->state = EVPQ__PREPARED_ASKED;
    added->refs = 1;
    added->hash = hash;
    added->size = size;
    added->statement = statement;
    snprintf(added->name, sizeof(added->name), "evpq_%016llx", (unsigned long long)hash);
    evpq__node_init(&added->node);
    HASH_ADD_BYHASHVALUE(hh, cache->table, hash, sizeof(added->hash), (unsigned)hash, added);
    if (!added->hh.tbl) {
        evpq__free(added);
        return NULL;
    }
    evpq__statement_ref(statement);
    evpq__list_push_front(&cache->used, &added->node);
    cache->count++;
    cache->bytes += size;
    return added;
}

void evpq__cache_ready(struct evpq__prepared *prepared)
{
    if (prepared->state == EVPQ__PREPARED_ASKED)
        prepared->state = EVPQ__PREPARED_READY;
}

void evpq__cache_drop(struct evpq__cache *cache, struct evpq__prepared *prepared, bool close)
{
    if (prepared->state == EVPQ__PREPARED_GONE)
        return;
    take_out(cache, prepared);
    if (close)
        evpq__list_push_back(&cache->closing, &prepared->node);
    else
        evpq__prepared_unref(prepared);
}

void evpq__cache_drop_all(struct evpq__cache *cache)
{
    struct evpq__prepared *prepared;
    while ((prepared = victim(cache)))
        evpq__cache_drop(cache, prepared, false);
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(&cache->closing)))
        evpq__prepared_unref(of_node(node));
}

void evpq__cache_strayed(struct evpq__cache *cache)
{
    if (++cache->strays >= STRAYS_MAX)
        cache->max_count = 0;
}

struct evpq__prepared *evpq__cache_next_close(struct evpq__cache *cache)
{
    struct evpq__node *node = evpq__list_pop_front(&cache->closing);
    return node ? of_node(node) : NULL;
}
