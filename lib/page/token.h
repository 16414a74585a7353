/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_TOKEN_H
#define EVPQ_LIB_PAGE_TOKEN_H

/* Tokens: where a walk stands, as text for others to keep. Pure. The format is in token.c. */

#include <evpq/error.h>
#include <evpq/value.h>

#include "page/keyset.h"

enum {
    EVPQ__TOKEN_MAX = 4096,                     /* characters */
    EVPQ__TOKEN_BYTES = EVPQ__TOKEN_MAX / 4 * 3 /* that they encode */
};

/* What a token is bound to. */
struct evpq__walk {
    unsigned char digest[32];
    size_t columns; /* of its order; 0: offset pages */
};

/* False without memory. The values have no problem. */
bool evpq__walk_init(struct evpq__walk *out, const char *sql, size_t sql_length,
                     const struct evpq__keyset *keyset, const evpq_value *params, size_t count);

/* Where a walk stands: behind a row with these order columns, or behind so many rows. */
struct evpq__position {
    evpq_value *keys;
    bool nulls[EVPQ__KEYS_MAX]; /* which of them are NULL */
    int64_t offset;
};

/* EVPQ_OK: *out is to be given to evpq__free(). EVPQ_EINVALID: too long for a token. EVPQ_ENOMEM */
int evpq__token_encode(char **out, const struct evpq__walk *walk,
                       const struct evpq__position *position);

/* A token that was read; its position points into it. */
struct evpq__token {
    struct evpq__position position;
    evpq_value keys[EVPQ__KEYS_MAX];
    unsigned char bytes[EVPQ__TOKEN_BYTES];
};

/* EVPQ_OK; EVPQ_EINVALID for a token of any defect or of another walk; EVPQ_ENOMEM */
int evpq__token_decode(struct evpq__token *out, const struct evpq__walk *walk, const char *token);

#endif /* EVPQ_LIB_PAGE_TOKEN_H */
