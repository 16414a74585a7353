/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_PROOF_H
#define EVPQ_LIB_PAGE_PROOF_H

/*
 * What has to be known of a statement before its first page, asked of the server on one lease: is
 * its order total, does an index serve it, how are its keys compared, which may be NULL. See
 * verdict.c for how that is proven.
 */

#include "page/token.h"
#include "pool/pool.h"

struct evpq__proof_ask {
    struct evpq_pool *pool;
    const struct evpq__paged *paged;
    const struct evpq__keyset *keyset;
    const evpq_value *params; /* paged->params_count of them: the user's */
    bool unique;              /* refuse an order that is not proven total */
    bool index;               /* refuse an order that no index serves */
    int64_t deadline_us;      /* of evpq__loop_now(); all steps within it */
};

/* Of each key. What is remembered may be of a table that has been changed since: a fact about a
 * type holds for values of that type. */
struct evpq__proof_facts {
    uint32_t types[EVPQ__KEYS_MAX];
    bool composite[EVPQ__KEYS_MAX]; /* NULL tests look into values of this type */
    bool not_null[EVPQ__KEYS_MAX];  /* no value is NULL */
    bool always;                    /* the order is total for other parameters, too */
    unsigned char compare[EVPQ__COMPARE_SIZE];
    /* Where in `collations` that of the key begins, `"schema"."name"`, from 1; 0: it has none. */
    uint16_t collation[EVPQ__KEYS_MAX];
    uint16_t collations_length;
    char collations[EVPQ__KEYS_MAX * EVPQ__COLLATION_SIZE]; /* each once */
};

/* "" for none. */
static inline const char *evpq__facts_collation(const struct evpq__proof_facts *facts, size_t i)
{
    return facts->collation[i] ? facts->collations + facts->collation[i] - 1 : "";
}

/* Facts, or NULL and an error (to be moved from). Once, from the loop, never before start() has
 * returned; the proof is gone by then. */
typedef void evpq__proof_fn(void *user, const struct evpq__proof_facts *facts,
                            struct evpq_error *err);

struct evpq__proof;

/* What `ask` points to must stay until `done` has run. EVPQ_OK, or as evpq_pool_acquire(). */
int evpq__proof_start(struct evpq__proof **out, const struct evpq__proof_ask *ask,
                      evpq__proof_fn *done, void *user);

/* Ends it early: `done` follows from the loop with this code. Sets the error that it will have. */
void evpq__proof_stop(struct evpq__proof *proof, evpq_code why, struct evpq_error *err);

/*
 * What was proven, for the next pager of the same walk. The pool remembers it for a minute: for
 * these parameters, and for any where that makes no difference. Something proven with `unique` or
 * `index` is known without them, too. What has long names of collations is not remembered.
 */
bool evpq__proof_recall(struct evpq__proof_facts *facts, struct evpq_pool *pool,
                        const struct evpq__walk *walk, bool unique, bool index);
void evpq__proof_forget(struct evpq_pool *pool, const struct evpq__walk *walk);
/* Without memory it is forgotten. */
void evpq__proof_remember(struct evpq_pool *pool, const struct evpq__walk *walk, bool unique,
                          bool index, const struct evpq__proof_facts *facts);

#endif /* EVPQ_LIB_PAGE_PROOF_H */
