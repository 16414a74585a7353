/* SPDX-License-Identifier: MIT */

/* The readers of evpq/result.h. */

#include <string.h>

#include "pg/result.h"
#include "pg/value.h"

#define TYPES(...) ((const uint32_t[]){__VA_ARGS__, 0})

/* What travels as its own text, or nearly so. Its reader takes text format, too: of every type. */
static const uint32_t textual[] = {
    EVPQ__OID_TEXT, EVPQ__OID_VARCHAR, EVPQ__OID_BPCHAR,  EVPQ__OID_NAME,  EVPQ__OID_CHAR,
    EVPQ__OID_JSON, EVPQ__OID_XML,     EVPQ__OID_UNKNOWN, EVPQ__OID_JSONB, 0};

/* One value, not NULL. */
struct cell {
    uint32_t type; /* of a binary value */
    bool binary;
    const unsigned char *data;
    size_t length;
};

static bool among(uint32_t type, const uint32_t *types)
{
    while (*types && *types != type)
        types++;
    return *types != 0;
}

/* The same of a chunk's rows, which are many. */
static int find_copied(struct cell *cell, const struct evpq__rows *rows, uint32_t row,
                       uint32_t column, const uint32_t *types)
{
    const struct evpq__cell *c = evpq__rows_cell(rows, row, column);
    cell->binary = rows->kinds[column].binary;
    cell->type = cell->binary ? rows->kinds[column].type : 0;
    if (cell->binary ? !among(cell->type, types) : types != textual)
        return EVPQ_ETYPE;
    if (c->length < 0)
        return EVPQ_NULL;
    cell->length = (size_t)c->length;
    cell->data = (const unsigned char *)rows->bytes + c->start;
    return EVPQ_OK;
}

/*
 * Finds a value for a reader of these types: EVPQ_OK, or what the reader
 * returns. The type is looked at before NULL: a wrong one should not wait for
 * the first value to be noticed.
 */
static int find(struct cell *cell, const evpq_result *result, uint32_t row, uint32_t column,
                const void *out, const uint32_t *types)
{
    if (!out || !result || row >= result->rows || column >= result->columns)
        return EVPQ_EINVALID;
    if (result->copied)
        return find_copied(cell, result->copied, row, column, types);
    const PGresult *pg = result->pg;
    int r = evpq__result_row(result, row), c = (int)column;
    cell->binary = PQfformat(pg, c) == 1;
    cell->type = cell->binary ? PQftype(pg, c) : 0;
    if (cell->binary ? !among(cell->type, types) : types != textual)
        return EVPQ_ETYPE;
    /* Few values are empty, and only those may be NULL: a walk over many asks once less. */
    cell->length = (size_t)PQgetlength(pg, r, c);
    if (cell->length == 0 && PQgetisnull(pg, r, c))
        return EVPQ_NULL;
    cell->data = (const unsigned char *)PQgetvalue(pg, r, c);
    return EVPQ_OK;
}

static int type_unless(bool good)
{
    return good ? EVPQ_OK : EVPQ_ETYPE;
}

static int read_integer(const evpq_result *result, uint32_t row, uint32_t column, const void *out,
                        int64_t min, int64_t max, int64_t *value)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out,
                  TYPES(EVPQ__OID_INT2, EVPQ__OID_INT4, EVPQ__OID_INT8));
    if (rc)
        return rc;
    size_t size = cell.type == EVPQ__OID_INT8 ? 8 : cell.type == EVPQ__OID_INT4 ? 4 : 2;
    return type_unless(cell.length == size && evpq__read_int(cell.data, size, value) &&
                       *value >= min && *value <= max);
}

#define INTEGER_READER(name, c_type, min, max)                                                     \
    int evpq_result_##name(const evpq_result *result, uint32_t row, uint32_t column, c_type *out)  \
    {                                                                                              \
        int64_t value;                                                                             \
        int rc = read_integer(result, row, column, out, min, max, &value);                         \
        if (rc == EVPQ_OK)                                                                         \
            *out = (c_type)value;                                                                  \
        return rc;                                                                                 \
    }
INTEGER_READER(int2, int16_t, INT16_MIN, INT16_MAX)
INTEGER_READER(int4, int32_t, INT32_MIN, INT32_MAX)
INTEGER_READER(int8, int64_t, INT64_MIN, INT64_MAX)
#undef INTEGER_READER

#define READER(name, c_type, oid)                                                                  \
    int evpq_result_##name(const evpq_result *result, uint32_t row, uint32_t column, c_type *out)  \
    {                                                                                              \
        struct cell cell;                                                                          \
        int rc = find(&cell, result, row, column, out, TYPES(oid));                                \
        return rc ? rc : type_unless(evpq__read_##name(cell.data, cell.length, out));              \
    }
READER(float4, float, EVPQ__OID_FLOAT4)
READER(timestamptz, int64_t, EVPQ__OID_TIMESTAMPTZ)
READER(date, int32_t, EVPQ__OID_DATE)
#undef READER

int evpq_result_bool(const evpq_result *result, uint32_t row, uint32_t column, bool *out)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out, TYPES(EVPQ__OID_BOOL));
    if (rc)
        return rc;
    if (cell.length != 1 || cell.data[0] > 1)
        return EVPQ_ETYPE;
    *out = cell.data[0];
    return EVPQ_OK;
}

int evpq_result_lsn(const evpq_result *result, uint32_t row, uint32_t column, uint64_t *out)
{
    struct cell cell;
    int64_t value;
    int rc = find(&cell, result, row, column, out, TYPES(EVPQ__OID_LSN));
    if (rc)
        return rc;
    if (cell.length != 8 || !evpq__read_int(cell.data, cell.length, &value))
        return EVPQ_ETYPE;
    *out = (uint64_t)value;
    return EVPQ_OK;
}

int evpq_result_float8(const evpq_result *result, uint32_t row, uint32_t column, double *out)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out, TYPES(EVPQ__OID_FLOAT8, EVPQ__OID_FLOAT4));
    if (rc)
        return rc;
    if (cell.type == EVPQ__OID_FLOAT8)
        return type_unless(evpq__read_float8(cell.data, cell.length, out));
    float single;
    if (!evpq__read_float4(cell.data, cell.length, &single))
        return EVPQ_ETYPE;
    *out = (double)single;
    return EVPQ_OK;
}

int evpq_result_text(const evpq_result *result, uint32_t row, uint32_t column, evpq_text_view *out)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out, textual);
    if (rc)
        return rc;
    /* A jsonb is the number of its format, then text. */
    bool numbered = cell.binary && cell.type == EVPQ__OID_JSONB;
    if (numbered && (cell.length < 1 || cell.data[0] != 1))
        return EVPQ_ETYPE;
    *out = (evpq_text_view){.data = (const char *)cell.data + numbered,
                            .length = cell.length - numbered};
    return EVPQ_OK;
}

int evpq_result_bytea(const evpq_result *result, uint32_t row, uint32_t column,
                      const unsigned char **out, size_t *length)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, length ? out : NULL, TYPES(EVPQ__OID_BYTEA));
    if (rc)
        return rc;
    *out = cell.data;
    *length = cell.length;
    return EVPQ_OK;
}

int evpq_result_uuid(const evpq_result *result, uint32_t row, uint32_t column,
                     unsigned char out[16])
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out, TYPES(EVPQ__OID_UUID));
    if (rc)
        return rc;
    if (cell.length != 16)
        return EVPQ_ETYPE;
    memcpy(out, cell.data, 16);
    return EVPQ_OK;
}

int evpq_result_numeric(const evpq_result *result, uint32_t row, uint32_t column, char *out,
                        size_t capacity, size_t *length)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out || !capacity ? length : NULL,
                  TYPES(EVPQ__OID_NUMERIC));
    if (rc)
        return rc;
    return type_unless(evpq__read_numeric(cell.data, cell.length, out, capacity, length) &&
                       *length < capacity);
}

/* Opens an array of one of these element types. */
static int find_array(struct evpq__array *array, const evpq_result *result, uint32_t row,
                      uint32_t column, const void *out, const uint32_t *types,
                      const uint32_t *element_types)
{
    struct cell cell;
    int rc = find(&cell, result, row, column, out, types);
    if (rc)
        return rc;
    return type_unless(evpq__array_open(array, cell.data, cell.length) &&
                       among(array->element_type, element_types));
}

int evpq_result_int8_array(const evpq_result *result, uint32_t row, uint32_t column, int64_t *items,
                           size_t capacity, size_t *count)
{
    struct evpq__array array;
    int rc = find_array(&array, result, row, column, items || !capacity ? count : NULL,
                        TYPES(EVPQ__OID_INT8_ARRAY), TYPES(EVPQ__OID_INT8));
    if (rc)
        return rc;
    size_t total = array.count;
    for (size_t i = 0; i < total; i++) {
        const void *item;
        size_t length;
        int64_t value;
        if (!evpq__array_next(&array, &item, &length) || !item || length != sizeof(value) ||
            !evpq__read_int(item, length, &value))
            return EVPQ_ETYPE;
        if (i < capacity)
            items[i] = value;
    }
    *count = total;
    return EVPQ_OK;
}

int evpq_result_text_array(const evpq_result *result, uint32_t row, uint32_t column,
                           evpq_text_view *items, size_t capacity, size_t *count)
{
    struct evpq__array array;
    int rc = find_array(&array, result, row, column, items || !capacity ? count : NULL,
                        TYPES(EVPQ__OID_TEXT_ARRAY, EVPQ__OID_VARCHAR_ARRAY),
                        TYPES(EVPQ__OID_TEXT, EVPQ__OID_VARCHAR));
    if (rc)
        return rc;
    size_t total = array.count;
    for (size_t i = 0; i < total; i++) {
        const void *item;
        size_t length;
        if (!evpq__array_next(&array, &item, &length))
            return EVPQ_ETYPE;
        if (i < capacity)
            items[i] = (evpq_text_view){.data = item, .length = length};
    }
    *count = total;
    return EVPQ_OK;
}
