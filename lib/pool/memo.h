/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_POOL_MEMO_H
#define EVPQ_LIB_POOL_MEMO_H

/*
 * What somebody wants to know of a pool's database for a while: a few bytes under a digest. At most
 * EVPQ__MEMO_ENTRIES of them; the oldest gives way. Pure: time is what it is told.
 */

#include <stdbool.h>
#include <stdint.h>

enum {
    EVPQ__MEMO_KEY = 32,    /* bytes of a digest, as of SHA-256 */
    EVPQ__MEMO_VALUE = 160, /* bytes */
    EVPQ__MEMO_ENTRIES = 256,
    EVPQ__MEMO_LIFE_US = 60 * 1000 * 1000,
};

struct evpq__memo;

/* What was put under the key, unless it is too old. `memo` may be NULL: it is empty. */
bool evpq__memo_get(const struct evpq__memo *memo, const unsigned char key[EVPQ__MEMO_KEY],
                    unsigned char value[EVPQ__MEMO_VALUE], int64_t now_us);
/* Puts it, in the place of what was there. *memo is made when it is NULL; without memory nothing
 * happens. To be given to evpq__free(). */
void evpq__memo_put(struct evpq__memo **memo, const unsigned char key[EVPQ__MEMO_KEY],
                    const unsigned char value[EVPQ__MEMO_VALUE], int64_t now_us);

#endif /* EVPQ_LIB_POOL_MEMO_H */
