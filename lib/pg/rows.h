/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_ROWS_H
#define EVPQ_LIB_PG_ROWS_H

/*
 * Rows that libpq has handed out one by one, copied to one place: that is cheaper
 * than to put them into one result of libpq's, and than to keep all of its.
 */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evpq__cell {
    uint32_t start;
    int32_t length; /* -1: SQL NULL */
};

struct evpq__column {
    uint32_t type;
    bool binary;
};

struct evpq__rows {
    uint32_t count, columns;
    uint32_t room; /* of rows */
    size_t used, size;
    char *bytes; /* each value with a NUL behind it */
    struct evpq__column *kinds;
    struct evpq__cell cells[];
};

/* For rows like this one: up to `most`, or as many as a table of a fair size holds. NULL without
 * memory. */
struct evpq__rows *evpq__rows_new(const PGresult *like, uint32_t most);
/* NULL is allowed. */
void evpq__rows_free(struct evpq__rows *rows);
/* Copies the first row of it; there must be room. False without memory. */
bool evpq__rows_append(struct evpq__rows *rows, const PGresult *row);
static inline size_t evpq__rows_bytes(const struct evpq__rows *rows)
{
    return sizeof(*rows) + (size_t)rows->count * rows->columns * sizeof(struct evpq__cell) +
           rows->used;
}
static inline const struct evpq__cell *evpq__rows_cell(const struct evpq__rows *rows, uint32_t row,
                                                       uint32_t column)
{
    return &rows->cells[(size_t)row * rows->columns + column];
}
/* All of them as a result of libpq, with the columns of `like`. NULL without memory. */
PGresult *evpq__rows_as_result(const struct evpq__rows *rows, const PGresult *like);

#endif /* EVPQ_LIB_PG_ROWS_H */
