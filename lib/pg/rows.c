/* SPDX-License-Identifier: MIT */
#include "pg/rows.h"

#include <string.h>

#include "base/mem.h"

enum { FIRST_BYTES = 16 * 1024, TABLE_CELLS = 32 * 1024 };

struct evpq__rows *evpq__rows_new(const PGresult *like, uint32_t most)
{
    uint32_t columns = (uint32_t)PQnfields(like);
    uint32_t fair = columns ? TABLE_CELLS / columns : most;
    uint32_t room = fair < 1 ? 1 : fair < most ? fair : most;
    size_t cells = (size_t)room * columns;
    struct evpq__rows *rows = evpq__alloc_raw(sizeof(*rows) + cells * sizeof(struct evpq__cell) +
                                              columns * sizeof(struct evpq__column));
    char *bytes = rows ? evpq__alloc_raw(FIRST_BYTES) : NULL;
    if (!bytes) {
        evpq__free(rows);
        return NULL;
    }
    *rows = (struct evpq__rows){.columns = columns,
                                .room = room,
                                .size = FIRST_BYTES,
                                .bytes = bytes,
                                .kinds = (struct evpq__column *)&rows->cells[cells]};
    for (uint32_t i = 0; i < columns; i++)
        rows->kinds[i] = (struct evpq__column){PQftype(like, (int)i), PQfformat(like, (int)i) == 1};
    return rows;
}

void evpq__rows_free(struct evpq__rows *rows)
{
    if (!rows)
        return;
    evpq__free(rows->bytes);
    evpq__free(rows);
}

static bool make_room(struct evpq__rows *rows, size_t more)
{
    size_t size = rows->size;
    while (size - rows->used < more)
        size *= 2;
    if (size == rows->size)
        return true;
    char *bytes = size <= UINT32_MAX ? evpq__alloc_raw(size) : NULL;
    if (!bytes)
        return false;
    memcpy(bytes, rows->bytes, rows->used);
    evpq__free(rows->bytes);
    rows->bytes = bytes;
    rows->size = size;
    return true;
}

bool evpq__rows_append(struct evpq__rows *rows, const PGresult *row)
{
    struct evpq__cell *cells = &rows->cells[(size_t)rows->count * rows->columns];
    for (uint32_t i = 0; i < rows->columns; i++) {
        int length = PQgetlength(row, 0, (int)i);
        if (!make_room(rows, (size_t)length + 1))
            return false;
        /* Only what is empty may be NULL. */
        bool null = length == 0 && PQgetisnull(row, 0, (int)i);
        cells[i] = (struct evpq__cell){(uint32_t)rows->used, null ? -1 : length};
        memcpy(rows->bytes + rows->used, PQgetvalue(row, 0, (int)i), (size_t)length + 1);
        rows->used += (size_t)length + 1;
    }
    rows->count++;
    return true;
}

PGresult *evpq__rows_as_result(const struct evpq__rows *rows, const PGresult *like)
{
    PGresult *all = PQcopyResult(like, PG_COPYRES_ATTRS | PG_COPYRES_NOTICEHOOKS);
    for (uint32_t row = 0; all && row < rows->count; row++) {
        for (uint32_t column = 0; all && column < rows->columns; column++) {
            const struct evpq__cell *cell = evpq__rows_cell(rows, row, column);
            char *value = cell->length < 0 ? NULL : rows->bytes + cell->start;
            if (PQsetvalue(all, (int)row, (int)column, value, cell->length))
                continue;
            PQclear(all);
            all = NULL;
        }
    }
    return all;
}
