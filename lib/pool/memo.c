/* SPDX-License-Identifier: MIT */
#include "pool/memo.h"

#include <stddef.h>
#include <string.h>

#include "base/mem.h"

struct entry {
    unsigned char key[EVPQ__MEMO_KEY], value[EVPQ__MEMO_VALUE];
    int64_t expires_us;
};

struct evpq__memo {
    unsigned used, next; /* entries; the one to be written next, the oldest when all are used */
    struct entry entries[EVPQ__MEMO_ENTRIES];
};

static const struct entry *find(const struct evpq__memo *memo, const unsigned char *key)
{
    for (unsigned i = 0; i < memo->used; i++)
        if (memcmp(memo->entries[i].key, key, EVPQ__MEMO_KEY) == 0)
            return &memo->entries[i];
    return NULL;
}

bool evpq__memo_get(const struct evpq__memo *memo, const unsigned char key[EVPQ__MEMO_KEY],
                    unsigned char value[EVPQ__MEMO_VALUE], int64_t now_us)
{
    const struct entry *entry = memo ? find(memo, key) : NULL;
    if (!entry || now_us >= entry->expires_us)
        return false;
    memcpy(value, entry->value, EVPQ__MEMO_VALUE);
    return true;
}

void evpq__memo_put(struct evpq__memo **memo, const unsigned char key[EVPQ__MEMO_KEY],
                    const unsigned char value[EVPQ__MEMO_VALUE], int64_t now_us)
{
    struct evpq__memo *m = *memo ? *memo : evpq__alloc(sizeof(*m));
    if (!m)
        return;
    *memo = m;
    const struct entry *known = find(m, key);
    struct entry *entry = &m->entries[known ? (unsigned)(known - m->entries) : m->next];
    if (!known) {
        m->next = (m->next + 1) % EVPQ__MEMO_ENTRIES;
        m->used += m->used < EVPQ__MEMO_ENTRIES;
    }
    memcpy(entry->key, key, EVPQ__MEMO_KEY);
    memcpy(entry->value, value, EVPQ__MEMO_VALUE);
    entry->expires_us = now_us + EVPQ__MEMO_LIFE_US;
}
