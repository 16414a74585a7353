/* SPDX-License-Identifier: MIT */

/*
 * Values of results. The bytes make the columns (a type and a format each) and
 * the values of a result; every reader reads all of them. The decoders below
 * the readers get each value once more, alone in memory of its own, where a
 * sanitizer sees a read beside it.
 */

#include <libpq-fe.h>

#include "fuzz.h"
#include "pg/result.h"
#include "pg/value.h"
#include "readers.h"

static const uint32_t types[] = {
    EVPQ__OID_BOOL,          EVPQ__OID_BYTEA,          EVPQ__OID_CHAR,
    EVPQ__OID_NAME,          EVPQ__OID_INT8,           EVPQ__OID_INT2,
    EVPQ__OID_INT4,          EVPQ__OID_TEXT,           EVPQ__OID_JSON,
    EVPQ__OID_XML,           EVPQ__OID_FLOAT4,         EVPQ__OID_FLOAT8,
    EVPQ__OID_UNKNOWN,       EVPQ__OID_TEXT_ARRAY,     EVPQ__OID_INT8_ARRAY,
    EVPQ__OID_VARCHAR_ARRAY, EVPQ__OID_BPCHAR,         EVPQ__OID_VARCHAR,
    EVPQ__OID_DATE,          EVPQ__OID_TIMESTAMPTZ,    EVPQ__OID_NUMERIC,
    EVPQ__OID_UUID,          EVPQ__OID_JSONB,          0,
    1114 /* timestamp */,    1007 /* integer array */, UINT32_MAX,
};

enum { COLUMNS = 4, ROWS = 4 };

static void decode_alone(const void *bytes, size_t length)
{
    void *data = fuzz_exact(bytes, length);
    int64_t i8;
    int32_t i4;
    float f4;
    double f8;
    char text[16];
    size_t needed;
    CHECK(evpq__read_int(data, length, &i8) == (length == 2 || length == 4 || length == 8));
    CHECK(evpq__read_float4(data, length, &f4) == (length == 4));
    CHECK(evpq__read_float8(data, length, &f8) == (length == 8));
    CHECK(!evpq__read_timestamptz(data, length, &i8) || length == 8);
    CHECK(!evpq__read_date(data, length, &i4) || length == 4);
    CHECK(!evpq__read_numeric(data, length, text, sizeof(text), &needed) || length >= 8);

    struct evpq__array array;
    if (evpq__array_open(&array, data, length)) {
        const void *item;
        size_t size, items = 0, count = array.count;
        while (evpq__array_next(&array, &item, &size))
            items++;
        CHECK(items <= count && count <= length / 4);
    }
    free(data);
}

static void put_value(PGresult *pg, int row, int column, struct fuzz_input *input)
{
    unsigned shape = fuzz_byte(input);
    size_t length = shape & 0x80 ? (size_t)(shape & 0x7f) << 8 | fuzz_byte(input) : shape & 0x3f;
    bool null = (shape & 0xc0) == 0x40;
    size_t got;
    unsigned char *bytes = fuzz_bytes(input, null ? 0 : length, &got);
    CHECK(PQsetvalue(pg, row, column, null ? NULL : (char *)bytes, null ? -1 : (int)got));
    decode_alone(bytes, got);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct fuzz_input input = {data, size};
    PGresAttDesc columns[COLUMNS] = {{0}};
    static char names[COLUMNS][2] = {"a", "b", "a", ""};
    unsigned shape = fuzz_byte(&input);
    int count = 1 + (int)(shape & 3);
    int rows = (int)(shape >> 2 & 3);
    for (int i = 0; i < count; i++) {
        unsigned column = fuzz_byte(&input);
        columns[i] = (PGresAttDesc){
            .name = names[i],
            .typid = types[(column & 0x7f) % (sizeof(types) / sizeof(*types))],
            .format = column & 0x80 ? 0 : 1,
        };
    }
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    CHECK(pg && PQsetResultAttrs(pg, count, columns));
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < count; c++)
            put_value(pg, r, c, &input);
    evpq_result *result = evpq__result_new(pg, NULL);
    CHECK(result);
    evpq__result_show(result, shape >> 4 & 7, shape >> 7 ? 2 : 100, shape >> 3 & 1);
    readers_check(result);
    evpq_result_free(result);
    return 0;
}
