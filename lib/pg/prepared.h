/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_PREPARED_H
#define EVPQ_LIB_PG_PREPARED_H

/*
 * The statements that a connection keeps prepared on its server: which they
 * are, and which has to go. It talks to nobody; conn.c sends what follows.
 *
 *           add              the server's word
 *   (none) -----> ASKED ------------------------> READY
 *                   |  refused, or never begun      |  evicted, stale, or lost by the server
 *                   +------------> GONE <-----------+
 *
 * A name is made of what the statement says, so that one name never stands for
 * two statements, not even where a pooler lends the server's sessions around.
 */

#include "pg/statements.h"

enum evpq__prepared_state {
    EVPQ__PREPARED_ASKED, /* its Prepare is in flight: nobody else may rely on it */
    EVPQ__PREPARED_READY, /* the server has it */
    EVPQ__PREPARED_GONE, /* out of the cache; those sent with it, or its Close, are still to come */
};

enum { EVPQ__PREPARED_NAME_SIZE = 24 };

struct evpq__prepared {
    UT_hash_handle hh;
    struct evpq__node node; /* of the cache, the last used first; or of those to be closed */
    enum evpq__prepared_state state;
    unsigned refs; /* one is the cache's */
    uint64_t hash;
    char name[EVPQ__PREPARED_NAME_SIZE];
    size_t size; /* of this, the text and the types */
    struct evpq__statement *statement;
};

/* Of how many statements it is remembered that they have been seen once. */
enum { EVPQ__CACHE_SEEN = 256 };

struct evpq__cache {
    uint32_t max_count; /* 0: it keeps nothing */
    size_t max_bytes;
    struct evpq__prepared *table;
    struct evpq__list used;
    size_t count, bytes;
    struct evpq__list closing;       /* out of the cache, and to be closed on the server */
    unsigned strays;                 /* times that the server did not know what it should */
    uint32_t seen[EVPQ__CACHE_SEEN]; /* a part of their hashes, by another part */
};

void evpq__cache_init(struct evpq__cache *cache, uint32_t max_count, size_t max_bytes);
void evpq__cache_done(struct evpq__cache *cache);

/* The entry of the statement, now the last used; NULL when there is none. */
struct evpq__prepared *evpq__cache_find(struct evpq__cache *cache,
                                        const struct evpq__statement *statement);
/* Has one like it been here, some time before? Now it has. */
bool evpq__cache_seen(struct evpq__cache *cache, uint64_t hash);
/*
 * A new entry, ASKED. Up to `evictions` others become GONE and are to be closed
 * to make room. NULL when that is not enough, or without memory.
 */
struct evpq__prepared *evpq__cache_add(struct evpq__cache *cache, struct evpq__statement *statement,
                                       size_t evictions);
/* What its Prepare has come to. */
void evpq__cache_ready(struct evpq__prepared *prepared);
/* The entry is GONE; `close`: the server has it still. */
void evpq__cache_drop(struct evpq__cache *cache, struct evpq__prepared *prepared, bool close);
/* The server has dropped all that were READY. */
void evpq__cache_drop_all(struct evpq__cache *cache);
/*
 * The server did not know one of them, or knew it before it was asked to. When
 * that happens again and again the session is not ours alone, and the cache
 * keeps nothing any more.
 */
void evpq__cache_strayed(struct evpq__cache *cache);
/* The next that is to be closed on the server, to be given to evpq__prepared_unref(); or NULL. */
struct evpq__prepared *evpq__cache_next_close(struct evpq__cache *cache);

void evpq__prepared_ref(struct evpq__prepared *prepared);
/* NULL does nothing. */
void evpq__prepared_unref(struct evpq__prepared *prepared);

#endif /* EVPQ_LIB_PG_PREPARED_H */
