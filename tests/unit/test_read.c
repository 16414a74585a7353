/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/query.h>
#include <math.h>

#include "pg/value.h"
#include "support/bytes.h"
#include "support/results.h"

static evpq_result *make_hex(uint32_t type, const char *hex)
{
    unsigned char bytes[256];
    return make(type, 1, bytes, unhex(bytes, hex));
}

/* As the server would return the parameter. */
static evpq_result *make_echo(evpq_value value, uint32_t type)
{
    struct evpq__params params;
    assert_null(evpq__params_problem(&value, 1));
    void *block = malloc(evpq__params_size(&value, 1));
    assert_non_null(block);
    evpq__params_write(&params, block, &value, 1);
    evpq_result *result = make(type, 1, params.values[0], (size_t)params.lengths[0]);
    free(block);
    return result;
}

/* ---- all readers alike ---- */

union out {
    bool boolean;
    int16_t int2;
    int32_t int4;
    int64_t int8;
    uint64_t lsn;
    float float4;
    double float8;
    evpq_text_view text;
    unsigned char uuid[16];
};

#define FIXED_READER(name, member)                                                                 \
    static int read_##name(const evpq_result *r, uint32_t row, uint32_t column, union out *out)    \
    {                                                                                              \
        return evpq_result_##name(r, row, column, out ? &out->member : NULL);                      \
    }
FIXED_READER(bool, boolean)
FIXED_READER(int2, int2)
FIXED_READER(int4, int4)
FIXED_READER(int8, int8)
FIXED_READER(float4, float4)
FIXED_READER(float8, float8)
FIXED_READER(text, text)
FIXED_READER(timestamptz, int8)
FIXED_READER(date, int4)
FIXED_READER(lsn, lsn)

static int read_uuid(const evpq_result *r, uint32_t row, uint32_t column, union out *out)
{
    return evpq_result_uuid(r, row, column, out ? out->uuid : NULL);
}

static int read_bytea(const evpq_result *r, uint32_t row, uint32_t column, union out *out)
{
    const unsigned char *bytes;
    size_t length;
    return evpq_result_bytea(r, row, column, out ? &bytes : NULL, &length);
}

static int read_numeric(const evpq_result *r, uint32_t row, uint32_t column, union out *out)
{
    char text[32];
    size_t length;
    return evpq_result_numeric(r, row, column, text, sizeof(text), out ? &length : NULL);
}

#define ARRAY_READER(name, item_type)                                                              \
    static int read_##name(const evpq_result *r, uint32_t row, uint32_t column, union out *out)    \
    {                                                                                              \
        item_type items[4];                                                                        \
        size_t count;                                                                              \
        return evpq_result_##name(r, row, column, items, COUNT(items), out ? &count : NULL);       \
    }
ARRAY_READER(int8_array, int64_t)
ARRAY_READER(text_array, evpq_text_view)

/* Each reader with each type it reads, and good bytes of it. */
static const struct {
    int (*read)(const evpq_result *, uint32_t row, uint32_t column, union out *out);
    uint32_t type;
    const char *hex;
} readers[] = {
    {read_int2, EVPQ__OID_INT2, "0001"},
    {read_int2, EVPQ__OID_INT4, "00000001"},
    {read_int2, EVPQ__OID_INT8, "0000000000000001"},
    {read_int4, EVPQ__OID_INT2, "0001"},
    {read_int4, EVPQ__OID_INT4, "00000001"},
    {read_int4, EVPQ__OID_INT8, "0000000000000001"},
    {read_int8, EVPQ__OID_INT2, "0001"},
    {read_int8, EVPQ__OID_INT4, "00000001"},
    {read_int8, EVPQ__OID_INT8, "0000000000000001"},
    {read_bool, EVPQ__OID_BOOL, "01"},
    {read_float4, EVPQ__OID_FLOAT4, "3fc00000"},
    {read_float8, EVPQ__OID_FLOAT8, "3ff8000000000000"},
    {read_float8, EVPQ__OID_FLOAT4, "3fc00000"},
    {read_text, EVPQ__OID_TEXT, "61"},
    {read_text, EVPQ__OID_VARCHAR, "61"},
    {read_text, EVPQ__OID_BPCHAR, "61"},
    {read_text, EVPQ__OID_NAME, "61"},
    {read_text, EVPQ__OID_CHAR, "61"},
    {read_text, EVPQ__OID_JSON, "61"},
    {read_text, EVPQ__OID_XML, "61"},
    {read_text, EVPQ__OID_UNKNOWN, "61"},
    {read_text, EVPQ__OID_JSONB, "01"},
    {read_bytea, EVPQ__OID_BYTEA, "00ff"},
    {read_uuid, EVPQ__OID_UUID, "a0eebc999c0b4ef8bb6d6bb9bd380a11"},
    {read_timestamptz, EVPQ__OID_TIMESTAMPTZ, "0000000000000001"},
    {read_date, EVPQ__OID_DATE, "00000001"},
    {read_lsn, EVPQ__OID_LSN, "00000016b374d848"},
    {read_numeric, EVPQ__OID_NUMERIC, "0002 0000 0000 0002 000c 1388"},
    {read_int8_array, EVPQ__OID_INT8_ARRAY,
     "00000001 00000000 00000014 00000001 00000001 00000008 0000000000000001"},
    {read_text_array, EVPQ__OID_TEXT_ARRAY,
     "00000001 00000000 00000019 00000001 00000001 00000001 61"},
    {read_text_array, EVPQ__OID_VARCHAR_ARRAY,
     "00000001 00000000 00000413 00000001 00000001 00000001 61"},
};

static bool reads(size_t reader, uint32_t type)
{
    for (size_t i = 0; i < COUNT(readers); i++)
        if (readers[i].read == readers[reader].read && readers[i].type == type)
            return true;
    return false;
}

static void each_reader_reads_its_types_and_refuses_all_others(void **state)
{
    (void)state;
    for (size_t r = 0; r < COUNT(readers); r++) {
        evpq_result *result = make_hex(readers[r].type, readers[r].hex);
        for (size_t other = 0; other < COUNT(readers); other++) {
            union out out;
            int expected = reads(other, readers[r].type) ? EVPQ_OK : EVPQ_ETYPE;
            assert_int_equal(readers[other].read(result, 0, 0, &out), expected);
        }
        evpq_result_free(result);
    }
}

static void each_reader_tells_null_and_leaves_its_output(void **state)
{
    (void)state;
    for (size_t r = 0; r < COUNT(readers); r++) {
        union out out, before;
        memset(&out, 0xa5, sizeof(out));
        before = out;
        evpq_result *result = make(readers[r].type, 1, NULL, 0);
        assert_true(evpq_result_is_null(result, 0, 0));
        assert_int_equal(readers[r].read(result, 0, 0, &out), EVPQ_NULL);
        assert_memory_equal(&out, &before, sizeof(out));
        evpq_result_free(result);
    }
}

static void a_wrong_type_is_told_even_of_null(void **state)
{
    (void)state;
    int64_t value;
    evpq_result *result = make(EVPQ__OID_TEXT, 1, NULL, 0);
    assert_int_equal(evpq_result_int8(result, 0, 0, &value), EVPQ_ETYPE);
    evpq_result_free(result);
}

static void each_reader_refuses_what_is_not_there(void **state)
{
    (void)state;
    for (size_t r = 0; r < COUNT(readers); r++) {
        union out out;
        evpq_result *result = make_hex(readers[r].type, readers[r].hex);
        const uint32_t beyond[] = {1, INT32_MAX, (uint32_t)INT32_MAX + 1, UINT32_MAX};
        for (size_t i = 0; i < COUNT(beyond); i++) {
            assert_int_equal(readers[r].read(result, beyond[i], 0, &out), EVPQ_EINVALID);
            assert_int_equal(readers[r].read(result, 0, beyond[i], &out), EVPQ_EINVALID);
        }
        assert_int_equal(readers[r].read(result, 0, 0, NULL), EVPQ_EINVALID);
        assert_int_equal(readers[r].read(NULL, 0, 0, &out), EVPQ_EINVALID);
        evpq__result_show(result, 0, 100, false);
        assert_int_equal(readers[r].read(result, 0, 0, &out), EVPQ_EINVALID);
        evpq_result_free(result);
    }
}

static void each_reader_refuses_bytes_cut_anywhere(void **state)
{
    (void)state;
    for (size_t r = 0; r < COUNT(readers); r++) {
        unsigned char bytes[64];
        size_t length = unhex(bytes, readers[r].hex);
        /* Of these, whatever is left is a value, too. */
        bool any = (readers[r].read == read_text && readers[r].type != EVPQ__OID_JSONB) ||
                   readers[r].read == read_bytea;
        for (size_t k = 0; k < length && !any; k++) {
            union out out;
            evpq_result *result = make(readers[r].type, 1, bytes, k);
            assert_int_equal(readers[r].read(result, 0, 0, &out), EVPQ_ETYPE);
            evpq_result_free(result);
        }
    }
}

static void a_text_result_is_for_the_reader_of_text_only(void **state)
{
    (void)state;
    for (size_t r = 0; r < COUNT(readers); r++) {
        union out out;
        evpq_result *result = make(readers[r].type, 0, "1", 1);
        bool text = readers[r].read == read_text;
        assert_int_equal(readers[r].read(result, 0, 0, &out), text ? EVPQ_OK : EVPQ_ETYPE);
        assert_int_equal(read_text(result, 0, 0, &out), EVPQ_OK);
        assert_int_equal(out.text.length, 1);
        assert_string_equal(out.text.data, "1");
        assert_int_equal(evpq_result_format(result), EVPQ_TEXT);
        evpq_result_free(result);
    }
}

/* ---- each reader alone ---- */

static void integers_narrow_only_when_they_fit(void **state)
{
    (void)state;
    const struct {
        int64_t value;
        int as_int2, as_int4;
    } cases[] = {
        {INT16_MAX, EVPQ_OK, EVPQ_OK},
        {INT16_MIN, EVPQ_OK, EVPQ_OK},
        {INT16_MAX + 1, EVPQ_ETYPE, EVPQ_OK},
        {INT16_MIN - 1, EVPQ_ETYPE, EVPQ_OK},
        {INT32_MAX, EVPQ_ETYPE, EVPQ_OK},
        {INT32_MIN, EVPQ_ETYPE, EVPQ_OK},
        {INT64_C(1) + INT32_MAX, EVPQ_ETYPE, EVPQ_ETYPE},
        {INT64_C(-1) + INT32_MIN, EVPQ_ETYPE, EVPQ_ETYPE},
        {INT64_MIN, EVPQ_ETYPE, EVPQ_ETYPE},
        {INT64_MAX, EVPQ_ETYPE, EVPQ_ETYPE},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t eight = 42;
        int32_t four = 42;
        int16_t two = 42;
        evpq_result *result = make_echo(evpq_int8(cases[i].value), EVPQ__OID_INT8);
        assert_int_equal(evpq_result_int8(result, 0, 0, &eight), EVPQ_OK);
        assert_true(eight == cases[i].value);
        assert_int_equal(evpq_result_int4(result, 0, 0, &four), cases[i].as_int4);
        assert_true(four == (cases[i].as_int4 == EVPQ_OK ? cases[i].value : 42));
        assert_int_equal(evpq_result_int2(result, 0, 0, &two), cases[i].as_int2);
        assert_true(two == (cases[i].as_int2 == EVPQ_OK ? cases[i].value : 42));
        evpq_result_free(result);
    }
}

static void an_integer_must_have_the_size_of_its_type(void **state)
{
    (void)state;
    int64_t value;
    evpq_result *result = make_hex(EVPQ__OID_INT8, "00000001");
    assert_int_equal(evpq_result_int8(result, 0, 0, &value), EVPQ_ETYPE);
    evpq_result_free(result);
}

static void a_bool_is_one_byte_of_0_or_1(void **state)
{
    (void)state;
    const struct {
        const char *hex;
        int rc;
        bool value;
    } cases[] = {
        {"00", EVPQ_OK, false},    {"01", EVPQ_OK, true},       {"02", EVPQ_ETYPE, false},
        {"ff", EVPQ_ETYPE, false}, {"0001", EVPQ_ETYPE, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool value = !cases[i].value;
        evpq_result *result = make_hex(EVPQ__OID_BOOL, cases[i].hex);
        assert_int_equal(evpq_result_bool(result, 0, 0, &value), cases[i].rc);
        if (cases[i].rc == EVPQ_OK)
            assert_int_equal(value, cases[i].value);
        evpq_result_free(result);
    }
}

static void floats_pass_as_they_are(void **state)
{
    (void)state;
    const float cases[] = {0.0F, -0.0F, 1.5F, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < COUNT(cases); i++) {
        float single;
        double real;
        evpq_result *result = make_echo(evpq_float4(cases[i]), EVPQ__OID_FLOAT4);
        assert_int_equal(evpq_result_float4(result, 0, 0, &single), EVPQ_OK);
        assert_memory_equal(&single, &cases[i], sizeof(single));
        assert_int_equal(evpq_result_float8(result, 0, 0, &real), EVPQ_OK);
        assert_true(isnan(real) ? isnan(cases[i]) : real == (double)cases[i]);
        assert_int_equal(!signbit(real), !signbit(cases[i]));
        evpq_result_free(result);
    }
}

static void empty_text_is_not_null(void **state)
{
    (void)state;
    const uint32_t types[] = {EVPQ__OID_TEXT, EVPQ__OID_BPCHAR};
    for (int format = 0; format < 2; format++) {
        for (size_t i = 0; i < COUNT(types); i++) {
            evpq_text_view text = {0};
            evpq_result *result = make(types[i], format, "", 0);
            assert_false(evpq_result_is_null(result, 0, 0));
            assert_int_equal(evpq_result_text(result, 0, 0, &text), EVPQ_OK);
            assert_non_null(text.data);
            assert_int_equal(text.length, 0);
            assert_string_equal(text.data, "");
            evpq_result_free(result);
        }
    }
}

static void jsonb_comes_without_the_number_of_its_format(void **state)
{
    (void)state;
    const struct {
        const char *bytes;
        int rc;
        const char *text;
    } cases[] = {
        {"\1{}", EVPQ_OK, "{}"},  {"\1", EVPQ_OK, ""},    {"\2{}", EVPQ_ETYPE, NULL},
        {"{}", EVPQ_ETYPE, NULL}, {"", EVPQ_ETYPE, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        evpq_text_view text;
        evpq_result *result = make(EVPQ__OID_JSONB, 1, cases[i].bytes, strlen(cases[i].bytes));
        assert_int_equal(evpq_result_text(result, 0, 0, &text), cases[i].rc);
        if (cases[i].text) {
            assert_string_equal(text.data, cases[i].text);
            assert_int_equal(text.length, strlen(cases[i].text));
        }
        evpq_result_free(result);
    }
}

static void bytes_come_with_their_length(void **state)
{
    (void)state;
    const unsigned char *bytes;
    size_t length;
    evpq_result *result = make_echo(evpq_bytea("\0a\0", 3), EVPQ__OID_BYTEA);
    assert_int_equal(evpq_result_bytea(result, 0, 0, &bytes, &length), EVPQ_OK);
    assert_int_equal(length, 3);
    assert_memory_equal(bytes, "\0a\0", 3);
    assert_int_equal(evpq_result_bytea(result, 0, 0, &bytes, NULL), EVPQ_EINVALID);
    evpq_result_free(result);
}

static void uuids_and_times_come_back_as_they_went(void **state)
{
    (void)state;
    static const unsigned char uuid[16] = "0123456789abcde";
    unsigned char uuid_back[16];
    evpq_result *result = make_echo(evpq_uuid(uuid), EVPQ__OID_UUID);
    assert_int_equal(evpq_result_uuid(result, 0, 0, uuid_back), EVPQ_OK);
    assert_memory_equal(uuid_back, uuid, 16);
    evpq_result_free(result);

    int64_t us;
    result = make_echo(evpq_timestamptz(1700000000123456), EVPQ__OID_TIMESTAMPTZ);
    assert_int_equal(evpq_result_timestamptz(result, 0, 0, &us), EVPQ_OK);
    assert_true(us == 1700000000123456);
    evpq_result_free(result);

    int32_t days;
    result = make_echo(evpq_date(-719893), EVPQ__OID_DATE);
    assert_int_equal(evpq_result_date(result, 0, 0, &days), EVPQ_OK);
    assert_int_equal(days, -719893);
    evpq_result_free(result);
}

static void a_numeric_that_does_not_fit_tells_its_length(void **state)
{
    (void)state;
    evpq_result *result = make_hex(EVPQ__OID_NUMERIC, "0002 0000 4000 0002 000c 1388");
    for (size_t capacity = 0; capacity < 10; capacity++) {
        char text[10] = "";
        size_t length = 42;
        bool fits = capacity > strlen("-12.50");
        assert_int_equal(
            evpq_result_numeric(result, 0, 0, capacity ? text : NULL, capacity, &length),
            fits ? EVPQ_OK : EVPQ_ETYPE);
        assert_int_equal(length, strlen("-12.50"));
        if (fits)
            assert_string_equal(text, "-12.50");
    }
    size_t length;
    assert_int_equal(evpq_result_numeric(result, 0, 0, NULL, 10, &length), EVPQ_EINVALID);
    evpq_result_free(result);
}

static void an_array_is_read_up_to_the_capacity(void **state)
{
    (void)state;
    const int64_t items[] = {1, INT64_MIN, 3};
    evpq_result *result = make_echo(evpq_int8_array(items, 3), EVPQ__OID_INT8_ARRAY);
    for (size_t capacity = 0; capacity < 5; capacity++) {
        int64_t back[5] = {42, 42, 42, 42, 42};
        size_t count;
        assert_int_equal(
            evpq_result_int8_array(result, 0, 0, capacity ? back : NULL, capacity, &count),
            EVPQ_OK);
        assert_int_equal(count, 3);
        for (size_t i = 0; i < 5; i++)
            assert_true(back[i] == (i < 3 && i < capacity ? items[i] : 42));
    }
    int64_t back[1];
    size_t count;
    assert_int_equal(evpq_result_int8_array(result, 0, 0, NULL, 1, &count), EVPQ_EINVALID);
    assert_int_equal(evpq_result_int8_array(result, 0, 0, back, 1, NULL), EVPQ_EINVALID);
    evpq_result_free(result);
}

static void an_array_may_be_empty_but_not_of_another_type(void **state)
{
    (void)state;
    int64_t items[1];
    size_t count = 42;
    evpq_result *result = make_echo(evpq_int8_array(NULL, 0), EVPQ__OID_INT8_ARRAY);
    assert_int_equal(evpq_result_int8_array(result, 0, 0, items, 1, &count), EVPQ_OK);
    assert_int_equal(count, 0);
    evpq_result_free(result);

    result = make_hex(EVPQ__OID_INT8_ARRAY, "00000000 00000000 00000017");
    assert_int_equal(evpq_result_int8_array(result, 0, 0, items, 1, &count), EVPQ_ETYPE);
    evpq_result_free(result);
}

static void a_text_array_may_hold_null_and_a_bigint_array_not(void **state)
{
    (void)state;
    const char *const texts[] = {"one", NULL, ""};
    evpq_text_view views[3];
    int64_t items[1];
    size_t count;
    evpq_result *result = make_echo(evpq_text_array(texts, 3), EVPQ__OID_TEXT_ARRAY);
    assert_int_equal(evpq_result_text_array(result, 0, 0, views, 3, &count), EVPQ_OK);
    assert_int_equal(count, 3);
    assert_int_equal(views[0].length, 3);
    assert_memory_equal(views[0].data, "one", 3);
    assert_null(views[1].data);
    assert_non_null(views[2].data);
    assert_int_equal(views[2].length, 0);
    evpq_result_free(result);

    result =
        make_hex(EVPQ__OID_INT8_ARRAY, "00000001 00000001 00000014 00000001 00000001 ffffffff");
    assert_int_equal(evpq_result_int8_array(result, 0, 0, items, 1, &count), EVPQ_ETYPE);
    evpq_result_free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reader_reads_its_types_and_refuses_all_others),
        cmocka_unit_test(each_reader_tells_null_and_leaves_its_output),
        cmocka_unit_test(a_wrong_type_is_told_even_of_null),
        cmocka_unit_test(each_reader_refuses_what_is_not_there),
        cmocka_unit_test(each_reader_refuses_bytes_cut_anywhere),
        cmocka_unit_test(a_text_result_is_for_the_reader_of_text_only),
        cmocka_unit_test(integers_narrow_only_when_they_fit),
        cmocka_unit_test(an_integer_must_have_the_size_of_its_type),
        cmocka_unit_test(a_bool_is_one_byte_of_0_or_1),
        cmocka_unit_test(floats_pass_as_they_are),
        cmocka_unit_test(empty_text_is_not_null),
        cmocka_unit_test(jsonb_comes_without_the_number_of_its_format),
        cmocka_unit_test(bytes_come_with_their_length),
        cmocka_unit_test(uuids_and_times_come_back_as_they_went),
        cmocka_unit_test(a_numeric_that_does_not_fit_tells_its_length),
        cmocka_unit_test(an_array_is_read_up_to_the_capacity),
        cmocka_unit_test(an_array_may_be_empty_but_not_of_another_type),
        cmocka_unit_test(a_text_array_may_hold_null_and_a_bigint_array_not),
    };
    return cmocka_run_group_tests(tests, open_nowhere, close_nowhere);
}
