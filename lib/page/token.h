/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_TOKEN_H
#define EVPQ_LIB_PAGE_TOKEN_H

/* Tokens: where a walk stands, as text for others to keep. Pure. The format is in token.c. */

#include <evpq/pager.h>

#include "page/keyset.h"

enum {
    EVPQ__FIRST_USER_TYPE = 16384,               /* OIDs below it are the server's own */
    EVPQ__TOKEN_MAX = 4096,                      /* characters */
    EVPQ__TOKEN_BYTES = EVPQ__TOKEN_MAX / 4 * 3, /* that they encode */
    EVPQ__COMPARE_SIZE = 16,                     /* bytes of a digest */
};

/* What a token is bound to, and what signs it. */
struct evpq__walk {
    unsigned char digest[32];
    unsigned char statement[32]; /* a digest, whatever the values of the parameters are */
    size_t columns;              /* of its order; 0: offset pages */
    /* The first signs, all are believed; none: tokens are not signed. Not owned. */
    const evpq_secret *secrets;
    size_t secrets_count;
    uint32_t ttl_s; /* 0: tokens do not expire */
};

/* False without memory. The values have no problem. */
bool evpq__walk_init(struct evpq__walk *out, const char *sql, size_t sql_length,
                     const struct evpq__keyset *keyset, const evpq_value *params, size_t count);

/* A digest of how the keys are compared: their types, and collations as `"schema"."name"`, "" for
 * none. False without memory. */
bool evpq__compare_digest(unsigned char out[EVPQ__COMPARE_SIZE], const uint32_t *types,
                          const char *const *collations, size_t count);

/* Where a walk stands: behind, or before, a row with these keys; or behind so many rows. */
struct evpq__position {
    bool before;
    evpq_value *keys;
    bool nulls[EVPQ__KEYS_MAX]; /* which of them are NULL */
    bool rows[EVPQ__KEYS_MAX];  /* which may be of a composite type */
    unsigned char compare[EVPQ__COMPARE_SIZE];
    int64_t offset;
};

/* EVPQ_OK: *out is to be given to evpq__free(). EVPQ_EINVALID: too long for a token. EVPQ_ENOMEM.
 * `now_s` is seconds of the Unix time. */
int evpq__token_encode(char **out, const struct evpq__walk *walk,
                       const struct evpq__position *position, int64_t now_s);

/* A token that was read; its position points into it. */
struct evpq__token {
    struct evpq__position position;
    evpq_value keys[EVPQ__KEYS_MAX];
    unsigned char bytes[EVPQ__TOKEN_BYTES];
};

/* EVPQ_OK; EVPQ_EINVALID for a token of any defect, of another walk or the other direction, of an
 * unknown secret, or expired; EVPQ_ENOMEM */
int evpq__token_decode(struct evpq__token *out, const struct evpq__walk *walk, const char *token,
                       bool before, int64_t now_s);

#endif /* EVPQ_LIB_PAGE_TOKEN_H */
