/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "base/mem.h"
#include "pg/value.h"
#include "support/bytes.h"

#define US_PER_SECOND INT64_C(1000000)

/* Packed, and then unpacked, they are the same; each in memory of the exact size. */
static void check_packed(const struct evpq__params *params, const evpq_value *values, size_t count)
{
    size_t size = evpq__packed_size(values, count), pointers = evpq__unpacked_size(count);
    uint32_t *packed = malloc(size ? size : 1);
    void *block = malloc(pointers ? pointers : 1);
    struct evpq__params unpacked;
    evpq__params_pack(packed, values, count);
    evpq__params_unpack(&unpacked, block, packed, count);
    assert_int_equal(unpacked.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(unpacked.formats[i], params->formats[i]);
        assert_int_equal(unpacked.lengths[i], params->lengths[i]);
        assert_int_equal(!unpacked.values[i], !params->values[i]);
        if (params->values[i])
            assert_memory_equal(unpacked.values[i], params->values[i],
                                (size_t)params->lengths[i] + 1);
    }
    free(block);
    free(packed);
}

static void encode(struct evpq__params *params, const evpq_value *values, size_t count)
{
    assert_null(evpq__params_problem(values, count));
    void *block = malloc(evpq__params_size(values, count));
    assert_non_null(block);
    evpq__params_write(params, block, values, count);
    assert_ptr_equal(params->values, block);
    assert_int_equal(params->count, count);
    check_packed(params, values, count);
}

static void check_encoding(evpq_value value, uint32_t type, int format, const char *hex)
{
    unsigned char expected[256];
    size_t length = unhex(expected, hex);
    struct evpq__params params;
    encode(&params, &value, 1);
    assert_int_equal(params.types[0], type);
    assert_int_equal(params.formats[0], format);
    assert_int_equal(params.lengths[0], length);
    assert_non_null(params.values[0]);
    assert_memory_equal(params.values[0], expected, length);
    assert_int_equal(params.values[0][length], '\0');
    free(params.values);
}

static void each_constructor_writes_the_bytes_of_its_type(void **state)
{
    (void)state;
    static const unsigned char uuid[16] = {0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8,
                                           0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11};
    const int64_t integers[] = {1, INT64_MIN};
    const char *const texts[] = {"ab", NULL, ""};
    const struct {
        evpq_value value;
        uint32_t type;
        int format;
        const char *hex;
    } cases[] = {
        {evpq_bool(true), EVPQ__OID_BOOL, 1, "01"},
        {evpq_bool(false), EVPQ__OID_BOOL, 1, "00"},
        {evpq_int2(-2), EVPQ__OID_INT2, 1, "fffe"},
        {evpq_int2(INT16_MIN), EVPQ__OID_INT2, 1, "8000"},
        {evpq_int4(258), EVPQ__OID_INT4, 1, "00000102"},
        {evpq_int4(INT32_MIN), EVPQ__OID_INT4, 1, "80000000"},
        {evpq_int8(-1), EVPQ__OID_INT8, 1, "ffffffffffffffff"},
        {evpq_int8(INT64_MIN), EVPQ__OID_INT8, 1, "8000000000000000"},
        {evpq_int8(INT64_MAX), EVPQ__OID_INT8, 1, "7fffffffffffffff"},
        {evpq_float4(1.5F), EVPQ__OID_FLOAT4, 1, "3fc00000"},
        {evpq_float4(-0.0F), EVPQ__OID_FLOAT4, 1, "80000000"},
        {evpq_float8(1.5), EVPQ__OID_FLOAT8, 1, "3ff8000000000000"},
        {evpq_float8(-0.0), EVPQ__OID_FLOAT8, 1, "8000000000000000"},
        {evpq_float8(-INFINITY), EVPQ__OID_FLOAT8, 1, "fff0000000000000"},
        {evpq_text("h\xc3\xa9"), EVPQ__OID_TEXT, 1, "68c3a9"},
        {evpq_text(""), EVPQ__OID_TEXT, 1, ""},
        {evpq_text_n("abc", 2), EVPQ__OID_TEXT, 1, "6162"},
        {evpq_bytea("\0\xff", 2), EVPQ__OID_BYTEA, 1, "00ff"},
        {evpq_bytea("", 0), EVPQ__OID_BYTEA, 1, ""},
        {evpq_uuid(uuid), EVPQ__OID_UUID, 1, "a0eebc999c0b4ef8bb6d6bb9bd380a11"},
        {evpq_timestamptz(0), EVPQ__OID_TIMESTAMPTZ, 1, "fffca2fec4c82000"},
        {evpq_timestamptz(946684800 * US_PER_SECOND + 1), EVPQ__OID_TIMESTAMPTZ, 1,
         "0000000000000001"},
        {evpq_timestamptz(EVPQ_TIMESTAMP_INFINITY), EVPQ__OID_TIMESTAMPTZ, 1, "7fffffffffffffff"},
        {evpq_timestamptz(EVPQ_TIMESTAMP_NEG_INFINITY), EVPQ__OID_TIMESTAMPTZ, 1,
         "8000000000000000"},
        {evpq_date(0), EVPQ__OID_DATE, 1, "ffffd533"},
        {evpq_date(10957), EVPQ__OID_DATE, 1, "00000000"},
        {evpq_date(EVPQ_DATE_INFINITY), EVPQ__OID_DATE, 1, "7fffffff"},
        {evpq_date(EVPQ_DATE_NEG_INFINITY), EVPQ__OID_DATE, 1, "80000000"},
        {evpq_numeric("-12.5"), EVPQ__OID_NUMERIC, 0, "2d31322e35"},
        {evpq_json("{}"), EVPQ__OID_JSON, 0, "7b7d"},
        {evpq_jsonb("[]"), EVPQ__OID_JSONB, 0, "5b5d"},
        {evpq_untyped("x"), 0, 0, "78"},
        {evpq_untyped(""), 0, 0, ""},
        {evpq_int8_array(integers, 2), EVPQ__OID_INT8_ARRAY, 1,
         "00000001 00000000 00000014 00000002 00000001"
         "00000008 0000000000000001 00000008 8000000000000000"},
        {evpq_int8_array(NULL, 0), EVPQ__OID_INT8_ARRAY, 1, "00000000 00000000 00000014"},
        {evpq_text_array(texts, 3), EVPQ__OID_TEXT_ARRAY, 1,
         "00000001 00000001 00000019 00000003 00000001 00000002 6162 ffffffff 00000000"},
        {evpq_text_array(texts, 1), EVPQ__OID_TEXT_ARRAY, 1,
         "00000001 00000000 00000019 00000001 00000001 00000002 6162"},
        {evpq_text_array(NULL, 0), EVPQ__OID_TEXT_ARRAY, 1, "00000000 00000000 00000019"},
        {evpq__value_raw(1700, true, "\1\0\2", 3), 1700, 1, "010002"},
        {evpq__value_raw(1700, false, "17.0", 4), 1700, 0, "31372e30"},
        {evpq__value_raw(25, true, "", 0), 25, 1, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        check_encoding(cases[i].value, cases[i].type, cases[i].format, cases[i].hex);
}

static void null_has_no_bytes_and_goes_as_text_which_every_type_has(void **state)
{
    (void)state;
    const struct {
        evpq_value value;
        uint32_t type;
    } cases[] = {
        {evpq_null(), 0},
        {evpq_untyped(NULL), 0},
        {evpq_text(NULL), EVPQ__OID_TEXT},
        {evpq_text_n(NULL, 3), EVPQ__OID_TEXT},
        {evpq_bytea(NULL, 3), EVPQ__OID_BYTEA},
        {evpq_uuid(NULL), EVPQ__OID_UUID},
        {evpq_numeric(NULL), EVPQ__OID_NUMERIC},
        {evpq_json(NULL), EVPQ__OID_JSON},
        {evpq_jsonb(NULL), EVPQ__OID_JSONB},
        {evpq__value_raw(20, true, NULL, 8), EVPQ__OID_INT8},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct evpq__params params;
        encode(&params, &cases[i].value, 1);
        assert_null(params.values[0]);
        assert_int_equal(params.types[0], cases[i].type);
        assert_int_equal(params.lengths[0], 0);
        assert_int_equal(params.formats[0], 0);
        free(params.values);
    }
}

static void many_parameters_share_one_block(void **state)
{
    (void)state;
    evpq_value values[] = {evpq_int8(7), evpq_null(), evpq_text("x"), evpq_numeric("1")};
    struct evpq__params params;
    encode(&params, values, COUNT(values));
    assert_memory_equal(params.values[0], "\0\0\0\0\0\0\0\7", 8);
    assert_null(params.values[1]);
    assert_string_equal(params.values[2], "x");
    assert_string_equal(params.values[3], "1");
    free(params.values);
}

static void no_parameters_are_no_problem(void **state)
{
    (void)state;
    struct evpq__params params;
    max_align_t block;
    assert_null(evpq__params_problem(NULL, 0));
    assert_int_equal(evpq__params_size(NULL, 0), 0);
    evpq__params_write(&params, &block, NULL, 0);
    assert_int_equal(params.count, 0);
    check_packed(&params, NULL, 0);
}

static void a_wrong_parameter_is_named(void **state)
{
    (void)state;
    static evpq_value many[65536];
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = evpq_null();
    const evpq_value half[] = {evpq_bytea("", 0x20000000), evpq_bytea("", 0x20000000)};
    evpq_value garbage;
    memset(&garbage, 0xa5, sizeof(garbage));
    const evpq_value zero = {0};
    const evpq_value nul_text = evpq_text_n("a\0b", 3);
    const evpq_value nul_raw = evpq__value_raw(EVPQ__OID_VARCHAR, false, "a\0b", 3);
    const evpq_value no_items = evpq_int8_array(NULL, 1);
    const evpq_value no_texts = evpq_text_array(NULL, 1);
    const int64_t item = 1;
    const char *const text = "";
    const evpq_value too_many_items = evpq_int8_array(&item, SIZE_MAX);
    const evpq_value too_many_texts = evpq_text_array(&text, SIZE_MAX / 4);
    const evpq_value huge = evpq_bytea("", SIZE_MAX);
    const evpq_value huge_text = evpq_text_n("", SIZE_MAX);
    const evpq_value early = evpq_timestamptz(EVPQ_TIMESTAMP_NEG_INFINITY + 1);
    const evpq_value early_date = evpq_date(-2440589);
    const evpq_value late_date = evpq_date(2145042906);
    const struct {
        const evpq_value *values;
        size_t count;
        const char *problem;
    } cases[] = {
        {NULL, 1, "params is NULL, params_count is not 0"},
        {many, 65535, NULL},
        {many, 65536, "more than 65,535 parameters"},
        {NULL, SIZE_MAX, "more than 65,535 parameters"},
        {&garbage, 1, "a parameter that no function of value.h has made"},
        {&zero, 1, "a parameter that no function of value.h has made"},
        {&nul_text, 1, "text with a NUL inside"},
        {&nul_raw, 1, "text with a NUL inside"},
        {&no_items, 1, "an array without items"},
        {&no_texts, 1, "an array without items"},
        {&too_many_items, 1, "parameters of more than 1 GiB"},
        {&too_many_texts, 1, "parameters of more than 1 GiB"},
        {&huge, 1, "parameters of more than 1 GiB"},
        {&huge_text, 1, "parameters of more than 1 GiB"},
        {half, 1, NULL},
        {half, 2, "parameters of more than 1 GiB"},
        {&early, 1, "timestamptz out of range"},
        {&early_date, 1, "date out of range"},
        {&late_date, 1, "date out of range"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *problem = evpq__params_problem(cases[i].values, cases[i].count);
        if (cases[i].problem && problem)
            assert_string_equal(problem, cases[i].problem);
        else
            assert_ptr_equal(problem, cases[i].problem);
    }
}

static void a_copy_needs_nothing_of_the_original(void **state)
{
    (void)state;
    char text[] = "text", item[] = "item", json[] = "[1]";
    int64_t integers[] = {1, 2};
    const char *items[] = {item, NULL};
    evpq_value values[] = {
        evpq_text(text),
        evpq_null(),
        evpq_int8_array(integers, 2),
        evpq_text_array(items, 2),
        evpq_json(json),
        evpq_int4(4),
        evpq_text(""),
        evpq_int8_array(NULL, 0),
    };
    struct evpq__params before, after;
    encode(&before, values, COUNT(values));
    evpq_value *copy = evpq__values_copy(values, COUNT(values));
    assert_non_null(copy);
    memset(text, 'z', sizeof(text));
    memset(item, 'z', sizeof(item));
    memset(json, 'z', sizeof(json));
    memset(integers, 'z', sizeof(integers));
    memset(items, 0, sizeof(items));
    memset(values, 0, sizeof(values));
    encode(&after, copy, COUNT(values));
    for (size_t i = 0; i < COUNT(values); i++) {
        assert_int_equal(before.types[i], after.types[i]);
        assert_int_equal(before.formats[i], after.formats[i]);
        assert_int_equal(before.lengths[i], after.lengths[i]);
        assert_int_equal(!before.values[i], !after.values[i]);
        if (before.values[i])
            assert_memory_equal(before.values[i], after.values[i], (size_t)before.lengths[i]);
    }
    evpq__free(copy);
    free(before.values);
    free(after.values);
}

static void floats_come_back_as_they_went(void **state)
{
    (void)state;
    const double cases[] = {0.0, -0.0, 1.5, -1e300, INFINITY, -INFINITY, NAN, 5e-324};
    for (size_t i = 0; i < COUNT(cases); i++) {
        evpq_value value = evpq_float8(cases[i]);
        struct evpq__params params;
        double back;
        encode(&params, &value, 1);
        assert_true(evpq__read_float8(params.values[0], 8, &back));
        assert_memory_equal(&back, &cases[i], sizeof(back));
        free(params.values);

        const float single = (float)cases[i];
        float single_back;
        value = evpq_float4(single);
        encode(&params, &value, 1);
        assert_true(evpq__read_float4(params.values[0], 4, &single_back));
        assert_memory_equal(&single_back, &single, sizeof(single));
        free(params.values);
    }
}

static void timestamps_come_back_as_they_went(void **state)
{
    (void)state;
    const int64_t cases[] = {
        0,
        -1,
        1700000000 * US_PER_SECOND + 123456,
        -62135596800 * US_PER_SECOND - 1, /* 1 BC */
        -210866803200 * US_PER_SECOND,    /* 4714-11-24 BC, the first */
        INT64_MAX - 1,
        EVPQ_TIMESTAMP_INFINITY,
        EVPQ_TIMESTAMP_NEG_INFINITY,
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        evpq_value value = evpq_timestamptz(cases[i]);
        struct evpq__params params;
        int64_t back;
        encode(&params, &value, 1);
        assert_true(evpq__read_timestamptz(params.values[0], 8, &back));
        assert_true(back == cases[i]);
        free(params.values);
    }
}

static void dates_come_back_as_they_went(void **state)
{
    (void)state;
    const int32_t cases[] = {0,
                             -1,
                             20000,
                             -719893, /* BC */
                             -2440588,
                             2145042905,
                             EVPQ_DATE_INFINITY,
                             EVPQ_DATE_NEG_INFINITY};
    for (size_t i = 0; i < COUNT(cases); i++) {
        evpq_value value = evpq_date(cases[i]);
        struct evpq__params params;
        int32_t back;
        encode(&params, &value, 1);
        assert_true(evpq__read_date(params.values[0], 4, &back));
        assert_int_equal(back, cases[i]);
        free(params.values);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_constructor_writes_the_bytes_of_its_type),
        cmocka_unit_test(null_has_no_bytes_and_goes_as_text_which_every_type_has),
        cmocka_unit_test(many_parameters_share_one_block),
        cmocka_unit_test(no_parameters_are_no_problem),
        cmocka_unit_test(a_wrong_parameter_is_named),
        cmocka_unit_test(a_copy_needs_nothing_of_the_original),
        cmocka_unit_test(floats_come_back_as_they_went),
        cmocka_unit_test(timestamps_come_back_as_they_went),
        cmocka_unit_test(dates_come_back_as_they_went),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
