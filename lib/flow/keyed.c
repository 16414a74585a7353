/* SPDX-License-Identifier: MIT */
/*
 * A limiter for each key. The hash is uthash's (Debian's uthash-dev, a header):
 * intrusive, so that a key is one block with its limiter, and it can be told to
 * fail, without memory for a larger table, instead of ending the program.
 *
 * References: the user's, until close, and one for each key.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/options.h"
#include "flow/limiter.h"

struct entry;
static void no_memory_for(struct entry *entry);

#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) no_memory_for(entry)
#define uthash_malloc(size)        evpq__alloc(size)
#define uthash_free(memory, size)  evpq__free(memory)
#include <uthash.h>

enum { KEY_LENGTH = 1024, MAX_KEYS = 10000000 };

struct entry {
    struct evpq_limiter limiter;
    struct evpq_keyed_limiter *keyed;
    struct evpq__node node; /* of keyed->used */
    bool not_hashed;
    UT_hash_handle hh;
    size_t key_length;
    unsigned char key[];
};

struct evpq_keyed_limiter {
    unsigned refs;
    struct evpq__loop *loop;
    evpq_limiter_options each;
    uint32_t max_keys, keys;
    struct entry *table;
    struct evpq__list used; /* the longest unused first */
    uint64_t evicted, refused;
};

static void no_memory_for(struct entry *entry)
{
    entry->not_hashed = true;
}

/* uthash's arithmetic is not ours. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"

static struct entry *table_find(const struct evpq_keyed_limiter *keyed, const void *key,
                                size_t length)
{
    struct entry *entry;
    HASH_FIND(hh, keyed->table, key, length, entry);
    return entry;
}

/* False without memory. */
static bool table_add(struct evpq_keyed_limiter *keyed, struct entry *entry)
{
    HASH_ADD_KEYPTR(hh, keyed->table, entry->key, entry->key_length, entry);
    return !entry->not_hashed;
}

static void table_remove(struct evpq_keyed_limiter *keyed, struct entry *entry)
{
    HASH_DEL(keyed->table, entry);
}

#pragma GCC diagnostic pop

static void keyed_unref(struct evpq_keyed_limiter *keyed)
{
    assert(keyed->refs > 0);
    if (--keyed->refs > 0)
        return;
    evpq__loop_free(keyed->loop);
    evpq__free(keyed);
}

static void entry_gone(struct evpq_limiter *limiter)
{
    struct entry *entry = evpq__container_of(limiter, struct entry, limiter);
    struct evpq_keyed_limiter *keyed = entry->keyed;
    evpq__free(entry);
    keyed_unref(keyed);
}

/* The key is forgotten; its memory goes when the last who waits has been told. */
static void entry_drop(struct entry *entry)
{
    table_remove(entry->keyed, entry);
    evpq__node_unlink(&entry->node);
    entry->keyed->keys--;
    evpq_limiter_close(&entry->limiter);
}

/*
 * Room for one more key. What is used at all is at the end of the list, but for
 * keys whose waiters were admitted long after they had asked: it looks past a few.
 */
static bool make_room(struct evpq_keyed_limiter *keyed)
{
    enum { LOOKS = 8 };
    struct evpq__node *node = evpq__list_first(&keyed->used);
    if (keyed->keys < keyed->max_keys)
        return true;
    for (int looks = 0; node && looks < LOOKS; looks++) {
        struct entry *entry = evpq__container_of(node, struct entry, node);
        if (evpq__limiter_unused(&entry->limiter)) {
            entry_drop(entry);
            keyed->evicted++;
            return true;
        }
        node = evpq__list_next(&keyed->used, node);
    }
    keyed->refused++;
    return false;
}

static struct entry *entry_new(struct evpq_keyed_limiter *keyed, const void *key, size_t length)
{
    struct entry *entry = evpq__alloc(sizeof(*entry) + length);
    if (!entry)
        return NULL;
    entry->keyed = keyed;
    entry->key_length = length;
    memcpy(entry->key, key, length);
    if (!evpq__limiter_init(&entry->limiter, keyed->loop, &keyed->each, entry_gone)) {
        evpq__free(entry);
        return NULL;
    }
    if (!table_add(keyed, entry)) {
        evpq__window_done(&entry->limiter.window);
        evpq__free(entry);
        return NULL;
    }
    evpq__list_push_back(&keyed->used, &entry->node);
    keyed->keys++;
    keyed->refs++;
    return entry;
}

/* Finds or makes the entry of a key. */
static int entry_of(struct evpq_keyed_limiter *keyed, const void *key, size_t length,
                    uint32_t weight, struct entry **out)
{
    if (!keyed || !key || length == 0 || length > KEY_LENGTH || weight == 0 ||
        weight > keyed->each.limit)
        return EVPQ_EINVALID;
    *out = table_find(keyed, key, length);
    if (*out)
        return EVPQ_OK;
    if (!make_room(keyed))
        return EVPQ_EOVERLOADED;
    *out = entry_new(keyed, key, length);
    return *out ? EVPQ_OK : EVPQ_ENOMEM;
}

/* A refusal is no use: who is refused all the time does not push others out. */
static int used(struct entry *entry, int code)
{
    if (code == EVPQ_OK) {
        evpq__node_unlink(&entry->node);
        evpq__list_push_back(&entry->keyed->used, &entry->node);
    }
    return code;
}

int evpq_keyed_limiter_try(evpq_keyed_limiter *keyed, const void *key, size_t key_length,
                           uint32_t weight, uint32_t *retry_after_ms)
{
    struct entry *entry;
    int code = entry_of(keyed, key, key_length, weight, &entry);
    if (code != EVPQ_OK)
        return code;
    return used(entry, evpq_limiter_try(&entry->limiter, weight, retry_after_ms));
}

int evpq_keyed_limiter_wait(evpq_op **out, evpq_keyed_limiter *keyed, const void *key,
                            size_t key_length, uint32_t weight, uint32_t timeout_ms,
                            evpq_done_fn *on_admitted, void *user)
{
    struct entry *entry;
    int code = on_admitted ? entry_of(keyed, key, key_length, weight, &entry) : (int)EVPQ_EINVALID;
    if (code != EVPQ_OK)
        return code;
    return used(entry,
                evpq_limiter_wait(out, &entry->limiter, weight, timeout_ms, on_admitted, user));
}

int evpq_keyed_limiter_stats_get(const evpq_keyed_limiter *keyed, evpq_keyed_limiter_stats *stats)
{
    if (!keyed || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    evpq_keyed_limiter_stats now = {.size = stats->size,
                                    .keys = keyed->keys,
                                    .evicted = keyed->evicted,
                                    .refused = keyed->refused};
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

static const char *keyed_options_read(evpq_keyed_limiter_options *out,
                                      const evpq_keyed_limiter_options *options)
{
    const char *problem = evpq__options_read(out, sizeof(*out), options);
    if (problem)
        return problem;
    if (out->max_waiters == 0)
        out->max_waiters = 1000;
    if (out->max_keys == 0)
        out->max_keys = 10000;
    if (out->max_keys > MAX_KEYS)
        return "max_keys is over 10,000,000";
    return evpq__window_problem(out->limit, out->window_ms, out->buckets);
}

const char *evpq_keyed_limiter_options_problem(const evpq_keyed_limiter_options *options)
{
    evpq_keyed_limiter_options complete;
    return keyed_options_read(&complete, options);
}

int evpq_keyed_limiter_open(evpq_keyed_limiter **out, struct ev_loop *loop,
                            const evpq_keyed_limiter_options *options)
{
    evpq_keyed_limiter_options complete;
    if (!out || !loop || keyed_options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_keyed_limiter *keyed = evpq__alloc(sizeof(*keyed));
    struct evpq__loop *own = keyed ? evpq__loop_new_quiet(loop) : NULL;
    if (!own) {
        evpq__free(keyed);
        return EVPQ_ENOMEM;
    }
    keyed->refs = 1;
    keyed->loop = own;
    keyed->each = (evpq_limiter_options){.limit = complete.limit,
                                         .window_ms = complete.window_ms,
                                         .buckets = complete.buckets,
                                         .max_waiters = complete.max_waiters};
    keyed->max_keys = complete.max_keys;
    evpq__list_init(&keyed->used);
    *out = keyed;
    return EVPQ_OK;
}

void evpq_keyed_limiter_close(evpq_keyed_limiter *keyed)
{
    struct evpq__node *node;
    while (keyed && (node = evpq__list_first(&keyed->used)))
        entry_drop(evpq__container_of(node, struct entry, node));
    if (keyed)
        keyed_unref(keyed);
}
