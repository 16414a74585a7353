/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_RESULT_H
#define EVPQ_LIB_PG_RESULT_H

#include <libpq-fe.h>

#include <evpq/result.h>

#include "base/error.h"
#include "pg/rows.h"

struct evpq__notices;

struct evpq_result {
    PGresult *pg;              /* of `copied`: the columns */
    struct evpq__rows *copied; /* has the rows; NULL: `pg` has them */
    uint32_t columns;
    uint32_t rows; /* that are shown: a page hides the one that tells of the next page */
    bool reversed; /* the last of those shown is the first: a page backward */
    unsigned refs;
    uint64_t affected;             /* where `pg` does not say: the end of a stream */
    struct evpq_result *next;      /* of a stream: the chunk that waits behind it */
    struct evpq__notices *notices; /* kept: libpq's result may still report to it */
};

/* Owns `pg` from here on, and clears it when there is no memory (NULL). One reference. */
struct evpq_result *evpq__result_new(PGresult *pg, struct evpq__notices *notices);
/* The rows of a stream that were copied, with the columns of `pg`. Owns both, and gives both back
 * when there is no memory. */
struct evpq_result *evpq__result_of_rows(PGresult *pg, struct evpq__rows *copied,
                                         struct evpq__notices *notices);
/* Memory that its rows take. */
size_t evpq__result_bytes(const struct evpq_result *result);
/* Shows the first `rows` and `columns` only; reversed: these rows from the last to the first. */
void evpq__result_show(struct evpq_result *result, uint32_t rows, uint32_t columns, bool reversed);
/* libpq's number of a row that is shown. */
static inline int evpq__result_row(const struct evpq_result *result, uint32_t row)
{
    return (int)(result->reversed ? result->rows - 1 - row : row);
}

/* What an error result of libpq says, as an error; `message` stands in for its message if given. */
void evpq__result_error(struct evpq_error *err, evpq_code code, evpq_fate fate, const PGresult *pg,
                        const char *message);

/*
 * Where libpq reports notices of one connection. It must outlive every PGresult
 * of the connection, for libpq copies the hook into each; so it is shared.
 */
struct evpq__notices {
    unsigned refs;
    bool fatal; /* the server said that this session is over, or libpq that it has lost its place */
};
struct evpq__notices *evpq__notices_new(void);
void evpq__notices_ref(struct evpq__notices *notices);
void evpq__notices_unref(struct evpq__notices *notices);
/* A PQnoticeReceiver; arg is a struct evpq__notices, or NULL. Never prints. */
void evpq__notices_receive(void *arg, const PGresult *notice);

#endif /* EVPQ_LIB_PG_RESULT_H */
