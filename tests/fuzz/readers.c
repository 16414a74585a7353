/* SPDX-License-Identifier: MIT */
#include "readers.h"

#include <libpq-fe.h>

#include "fuzz.h"
#include "pg/result.h"
#include "pg/value.h"

/* One value, as libpq has it. */
struct value {
    const evpq_result *result;
    uint32_t row, column, type;
    const char *data;
    size_t length;
    bool there, null, binary;
};

/* Good, or nothing was written. */
static bool good(const struct value *v, int code, const void *out, size_t size)
{
    CHECK(code == EVPQ_OK || code == EVPQ_NULL || code == EVPQ_ETYPE || code == EVPQ_EINVALID);
    CHECK(v->there == (code != EVPQ_EINVALID));
    CHECK(!v->null || code == EVPQ_NULL || code == EVPQ_ETYPE);
    CHECK(v->null || code != EVPQ_NULL);
    const unsigned char *bytes = out;
    for (size_t i = 0; code != EVPQ_OK && i < size; i++)
        CHECK(bytes[i] == 0xA5);
    return code == EVPQ_OK;
}

#define READ(v, reader, c_type, out)                                                               \
    c_type out;                                                                                    \
    memset(&out, 0xA5, sizeof(out));                                                               \
    bool out##_good =                                                                              \
        good(v, evpq_result_##reader((v)->result, (v)->row, (v)->column, &out), &out, sizeof(out))

/* What was read, sent back as a parameter, is what came. */
static void check_same(const struct value *v, evpq_value value)
{
    struct evpq__params params;
    CHECK(!evpq__params_problem(&value, 1));
    void *block = malloc(evpq__params_size(&value, 1));
    CHECK(block);
    evpq__params_write(&params, block, &value, 1);
    CHECK((size_t)params.lengths[0] == v->length &&
          memcmp(params.values[0], v->data, v->length) == 0);
    free(block);
}

static void check_integers(const struct value *v)
{
    READ(v, int2, int16_t, i2);
    READ(v, int4, int32_t, i4);
    READ(v, int8, int64_t, i8);
    CHECK(!i2_good || (i4_good && i4 == i2));
    CHECK(!i4_good || (i8_good && i8 == i4));
    CHECK(!i8_good || i4_good == (i8 >= INT32_MIN && i8 <= INT32_MAX));
    CHECK(!i8_good || i2_good == (i8 >= INT16_MIN && i8 <= INT16_MAX));
    if (i8_good)
        check_same(v, v->type == EVPQ__OID_INT2   ? evpq_int2(i2)
                      : v->type == EVPQ__OID_INT4 ? evpq_int4(i4)
                                                  : evpq_int8(i8));
}

static void check_others(const struct value *v)
{
    unsigned char boolean = 0xA5; /* a bool with other bits must not even be looked at */
    bool boolean_good =
        good(v, evpq_result_bool(v->result, v->row, v->column, (bool *)(void *)&boolean), &boolean,
             sizeof(boolean));
    READ(v, float4, float, f4);
    READ(v, float8, double, f8);
    READ(v, timestamptz, int64_t, timestamp);
    READ(v, date, int32_t, date);
    READ(v, lsn, uint64_t, lsn);
    CHECK(!lsn_good || v->length == 8);
    if (boolean_good)
        check_same(v, evpq_bool(boolean == 1));
    if (f4_good)
        check_same(v, evpq_float4(f4));
    CHECK(!f4_good || f8_good);
    if (f8_good && !f4_good)
        check_same(v, evpq_float8(f8));
    if (timestamp_good)
        check_same(v, evpq_timestamptz(timestamp));
    if (date_good)
        check_same(v, evpq_date(date));

    unsigned char uuid[16];
    memset(uuid, 0xA5, sizeof(uuid));
    if (good(v, evpq_result_uuid(v->result, v->row, v->column, uuid), uuid, sizeof(uuid)))
        check_same(v, evpq_uuid(uuid));
}

static void check_bytes(const struct value *v)
{
    READ(v, text, evpq_text_view, text);
    if (text_good) {
        bool numbered = v->binary && v->type == EVPQ__OID_JSONB;
        CHECK(text.data == v->data + numbered && text.length == v->length - numbered);
        CHECK(text.data[text.length] == '\0');
    }
    CHECK(!v->there || v->binary || v->null || text_good);

    const unsigned char *bytes;
    size_t length = 0;
    memset(&bytes, 0xA5, sizeof(bytes));
    if (good(v, evpq_result_bytea(v->result, v->row, v->column, &bytes, &length), &bytes,
             sizeof(bytes)))
        CHECK((const char *)bytes == v->data && length == v->length);
}

static bool is_decimal(const char *text)
{
    if (strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0)
        return true;
    text += *text == '-';
    size_t whole = strspn(text, "0123456789");
    if (whole == 0 || (whole > 1 && text[0] == '0'))
        return false;
    text += whole;
    size_t part = *text == '.' ? strspn(text + 1, "0123456789") : 0;
    return part > 0 ? text[1 + part] == '\0' : *text == '\0';
}

static void check_numeric(const struct value *v)
{
    size_t length = SIZE_MAX, again = SIZE_MAX;
    int code = evpq_result_numeric(v->result, v->row, v->column, NULL, 0, &length);
    CHECK(code != EVPQ_OK); /* the NUL has no room */
    if (code != EVPQ_ETYPE || length == SIZE_MAX)
        return;
    CHECK(length > 0 && length < 200000);
    char *whole = malloc(length + 1), *cut = malloc(length);
    CHECK(whole && cut);
    CHECK(evpq_result_numeric(v->result, v->row, v->column, whole, length + 1, &again) == EVPQ_OK);
    CHECK(again == length && strlen(whole) == length && is_decimal(whole));
    CHECK(evpq_result_numeric(v->result, v->row, v->column, cut, length, &again) == EVPQ_ETYPE);
    CHECK(again == length && strlen(cut) == length - 1 && memcmp(cut, whole, length - 1) == 0);
    free(whole);
    free(cut);
}

static void check_integer_array(const struct value *v)
{
    size_t count = SIZE_MAX, again = SIZE_MAX;
    int code = evpq_result_int8_array(v->result, v->row, v->column, NULL, 0, &count);
    if (!good(v, code, NULL, 0)) {
        CHECK(count == SIZE_MAX);
        return;
    }
    CHECK(count <= v->length / 12);
    int64_t *items = malloc((count + 1) * sizeof(*items));
    CHECK(items);
    CHECK(evpq_result_int8_array(v->result, v->row, v->column, items, count / 2, &again) ==
          EVPQ_OK);
    CHECK(evpq_result_int8_array(v->result, v->row, v->column, items, count, &again) == EVPQ_OK);
    CHECK(again == count);
    free(items);
}

static void check_text_array(const struct value *v)
{
    size_t count = SIZE_MAX, again = SIZE_MAX;
    int code = evpq_result_text_array(v->result, v->row, v->column, NULL, 0, &count);
    if (!good(v, code, NULL, 0)) {
        CHECK(count == SIZE_MAX);
        return;
    }
    CHECK(count <= v->length / 4);
    evpq_text_view *items = malloc((count + 1) * sizeof(*items));
    CHECK(items);
    CHECK(evpq_result_text_array(v->result, v->row, v->column, items, count, &again) == EVPQ_OK);
    CHECK(again == count);
    for (size_t i = 0; i < count; i++)
        CHECK(!items[i].data || (items[i].data >= v->data && items[i].length <= v->length &&
                                 items[i].data + items[i].length <= v->data + v->length));
    free(items);
}

void readers_check_value(const evpq_result *result, uint32_t row, uint32_t column)
{
    const PGresult *pg = (const PGresult *)evpq_result_pgresult(result);
    struct value v = {.result = result, .row = row, .column = column};
    v.there = row < evpq_result_rows(result) && column < evpq_result_columns(result);
    int raw = v.there ? evpq__result_row(result, row) : 0; /* a page backward is in reverse */
    v.null = v.there && PQgetisnull(pg, raw, (int)column);
    CHECK(evpq_result_is_null(result, row, column) == (v.null || !v.there));
    if (v.there) {
        v.type = PQftype(pg, (int)column);
        v.binary = PQfformat(pg, (int)column) == 1;
        v.data = PQgetvalue(pg, raw, (int)column);
        v.length = (size_t)PQgetlength(pg, raw, (int)column);
    }
    check_integers(&v);
    check_others(&v);
    check_bytes(&v);
    check_numeric(&v);
    check_integer_array(&v);
    check_text_array(&v);
}

void readers_check(const evpq_result *result)
{
    enum { ROWS = 8, COLUMNS = 8 };
    uint32_t rows = evpq_result_rows(result), columns = evpq_result_columns(result);
    (void)evpq_result_affected(result);
    (void)evpq_result_format(result);
    CHECK(!evpq_result_column_name(result, columns));
    CHECK(evpq_result_column_type(result, columns) == 0);
    for (uint32_t c = 0; c < columns && c < COLUMNS; c++) {
        const char *name = evpq_result_column_name(result, c);
        CHECK(name && evpq_result_column_index(result, name) <= (int)c);
        CHECK(evpq_result_column_index(result, name) >= 0);
        for (uint32_t r = 0; r < rows && r < ROWS; r++)
            readers_check_value(result, r, c);
        readers_check_value(result, rows, c);
    }
    readers_check_value(result, 0, columns);
    readers_check_value(result, UINT32_MAX, UINT32_MAX);
}
