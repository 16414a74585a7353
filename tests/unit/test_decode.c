/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg/value.h"
#include "support/bytes.h"

static void integers_are_read_in_all_sizes(void **state)
{
    (void)state;
    const struct {
        const char *hex;
        int64_t value;
    } cases[] = {
        {"0000", 0},
        {"ffff", -1},
        {"8000", INT16_MIN},
        {"7fff", INT16_MAX},
        {"80000000", INT32_MIN},
        {"7fffffff", INT32_MAX},
        {"8000000000000000", INT64_MIN},
        {"7fffffffffffffff", INT64_MAX},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char bytes[8];
        int64_t value = 42;
        assert_true(evpq__read_int(bytes, unhex(bytes, cases[i].hex), &value));
        assert_true(value == cases[i].value);
    }
    for (size_t length = 0; length < 12; length++) {
        void *bytes = exact("\0\0\0\0\0\0\0\0\0\0\0", length);
        int64_t value;
        bool good = length == 2 || length == 4 || length == 8;
        assert_int_equal(evpq__read_int(bytes, length, &value), good);
        free(bytes);
    }
}

static void a_timestamp_that_no_int64_holds_is_not_read(void **state)
{
    (void)state;
    const struct {
        const char *hex;
        bool good;
    } cases[] = {
        {"7ffca2fec4c81ffe", true},                               /* INT64_MAX - 1 here */
        {"7ffca2fec4c81fff", false},                              /* would look like infinity */
        {"7fffffffffffffff", true},                               /* is infinity */
        {"7ffffffffffffffe", false}, {"fd0f7cc1411f9fff", false}, /* before 4714-11-24 BC */
        {"fd0f7cc1411fa000", true},  {"8000000000000001", false}, {"8000000000000000", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char bytes[8];
        int64_t value = 42;
        size_t length = unhex(bytes, cases[i].hex);
        assert_int_equal(evpq__read_timestamptz(bytes, length, &value), cases[i].good);
        if (!cases[i].good)
            assert_true(value == 42);
    }
}

static void dates_outside_the_range_of_the_server_are_not_read(void **state)
{
    (void)state;
    int32_t date = 42;
    assert_false(evpq__read_date("\x7f\xff\xff\xfe", 4, &date));
    assert_false(evpq__read_date("\x80\x00\x00\x01", 4, &date));
    assert_int_equal(date, 42);
}

static void fixed_sizes_are_insisted_on(void **state)
{
    (void)state;
    for (size_t length = 0; length < 20; length++) {
        void *bytes = exact("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", length);
        float single;
        double real;
        int64_t timestamp;
        int32_t date;
        assert_int_equal(evpq__read_float4(bytes, length, &single), length == 4);
        assert_int_equal(evpq__read_float8(bytes, length, &real), length == 8);
        assert_int_equal(evpq__read_timestamptz(bytes, length, &timestamp), length == 8);
        assert_int_equal(evpq__read_date(bytes, length, &date), length == 4);
        free(bytes);
    }
}

/* What PostgreSQL 15 sends for each text, and some it would not send. */
static const struct {
    const char *hex, *text;
} numerics[] = {
    {"0000 0000 0000 0000", "0"},
    {"0000 0000 0000 0003", "0.000"},
    {"0001 0000 0000 0000 0001", "1"},
    {"0001 0000 4000 0000 0001", "-1"},
    {"0001 0000 0000 0000 000a", "10"},
    {"0001 ffff 0000 0004 0001", "0.0001"},
    {"0001 fffe 4000 0008 0001", "-0.00000001"},
    {"0001 fffe 0000 0005 03e8", "0.00001"},
    {"0002 0000 0000 0002 000c 1388", "12.50"},
    {"0001 0001 0000 0000 0001", "10000"},
    {"0001 0005 0000 0000 0001", "100000000000000000000"},
    {"0003 0001 0000 0004 270f 270f 270f", "99999999.9999"},
    {"0003 0001 0000 0002 0001 0002 0bb8", "10002.30"},
    {"0002 0000 0000 0001 0001 270f", "1.9"},
    {"0000 0000 c000 0000", "NaN"},
    {"0000 0000 d000 0020", "Infinity"},
    {"0000 0000 f000 0020", "-Infinity"},
    {"0003 0002 0000 0000 0000 0000 0007", "7"}, /* zeros in front */
    {"0002 0001 4000 0002 0000 0000", "0.00"},   /* nothing but zeros */
    {"0000 7fff 0000 0000", "0"},
};

static void a_numeric_is_rendered_as_the_server_would(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(numerics); i++) {
        unsigned char bytes[64];
        char text[64];
        size_t length = unhex(bytes, numerics[i].hex), needed = 0;
        assert_true(evpq__read_numeric(bytes, length, text, sizeof(text), &needed));
        assert_string_equal(text, numerics[i].text);
        assert_int_equal(needed, strlen(numerics[i].text));
    }
}

static void a_numeric_never_passes_its_capacity(void **state)
{
    (void)state;
    unsigned char bytes[64];
    size_t length = unhex(bytes, "0003 0001 4000 0004 270f 270f 270f"), needed;
    const char *whole = "-99999999.9999";
    for (size_t capacity = 1; capacity < 20; capacity++) {
        char *text = malloc(capacity);
        assert_true(evpq__read_numeric(bytes, length, text, capacity, &needed));
        assert_int_equal(needed, strlen(whole));
        size_t kept = capacity <= needed ? capacity - 1 : needed;
        assert_int_equal(strlen(text), kept);
        assert_memory_equal(text, whole, kept);
        free(text);
    }
    assert_true(evpq__read_numeric(bytes, length, NULL, 0, &needed));
    assert_int_equal(needed, strlen(whole));
}

static void the_longest_numerics_are_counted_right(void **state)
{
    (void)state;
    const struct {
        const char *hex;
        size_t needed;
    } cases[] = {
        {"0001 7fff 0000 0000 0001", 131069}, /* 10 ^ 131068 */
        {"0001 7fff 4000 3fff 270f", 1 + 131072 + 1 + 16383},
        {"0001 8000 0000 3fff 270f", 2 + 16383},
        {"0002 8000 0000 0001 0000 0001", 3},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char bytes[64];
        size_t needed;
        char text[8];
        size_t length = unhex(bytes, cases[i].hex);
        assert_true(evpq__read_numeric(bytes, length, text, sizeof(text), &needed));
        assert_int_equal(needed, cases[i].needed);
    }
}

static void hostile_numerics_are_refused(void **state)
{
    (void)state;
    const char *const cases[] = {
        "0000 0000 8000 0000",                                       /* no such sign */
        "0000 0000 0001 0000",                                       /* no such sign */
        "0001 0000 c000 0000 0001",                                  /* NaN with digits */
        "0000 0000 0000 4000",                                       /* no such scale */
        "0000 0000 0000 ffff",                                       /* a negative scale */
        "0001 0000 0000 0000 2710",                                  /* a digit of 10000 */
        "0002 0000 0000 0000 0001 ffff", "0002 0000 0000 0000 0001", /* fewer digits than announced
                                                                      */
        "0001 0000 0000 0000 0001 0001", "ffff 0000 0000 0000",      "0000 0000 0000 0000 00",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char bytes[64];
        size_t length = unhex(bytes, cases[i]), needed = 42;
        char text[8] = "as was";
        void *copy = exact(bytes, length);
        assert_false(evpq__read_numeric(copy, length, text, sizeof(text), &needed));
        assert_int_equal(needed, 42);
        assert_string_equal(text, "as was");
        free(copy);
    }
}

static void a_numeric_cut_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(numerics); i++) {
        unsigned char bytes[64];
        size_t length = unhex(bytes, numerics[i].hex);
        for (size_t k = 0; k < length; k++) {
            char text[64];
            size_t needed;
            void *copy = exact(bytes, k);
            assert_false(evpq__read_numeric(copy, k, text, sizeof(text), &needed));
            free(copy);
        }
    }
}

static const struct {
    const char *hex;
    int items;
} arrays[] = {
    {"00000001 00000001 00000019 00000003 00000001 00000003 6f6e65 ffffffff 00000000", 3},
    {"00000001 00000000 00000014 00000001 fffffff0 00000008 8000000000000000", 1},
    {"00000000 00000000 00000014", 0},
};

/* Opens an array and walks to its end; -1 when it is refused on the way. */
static int walk(const void *bytes, size_t length)
{
    struct evpq__array array;
    int items = 0;
    if (!evpq__array_open(&array, bytes, length))
        return -1;
    for (size_t left = array.count; left > 0; left--, items++) {
        const void *item;
        size_t size;
        if (!evpq__array_next(&array, &item, &size))
            return -1;
        /* Touches each byte: a sanitizer sees those that are not there. */
        for (size_t i = 0; item && i < size; i++)
            assert_in_range(((const unsigned char *)item)[i], 0, 255);
    }
    return items;
}

static void an_array_is_walked_item_by_item(void **state)
{
    (void)state;
    unsigned char bytes[64];
    size_t size = unhex(bytes, arrays[0].hex);
    struct evpq__array array;
    assert_true(evpq__array_open(&array, bytes, size));
    assert_int_equal(array.element_type, EVPQ__OID_TEXT);
    assert_int_equal(array.count, 3);
    const void *item;
    size_t length;
    assert_true(evpq__array_next(&array, &item, &length));
    assert_int_equal(length, 3);
    assert_memory_equal(item, "one", 3);
    assert_true(evpq__array_next(&array, &item, &length));
    assert_null(item);
    assert_true(evpq__array_next(&array, &item, &length));
    assert_non_null(item);
    assert_int_equal(length, 0);
    assert_false(evpq__array_next(&array, &item, &length));
}

static void an_array_cut_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(arrays); i++) {
        unsigned char bytes[64];
        size_t length = unhex(bytes, arrays[i].hex);
        assert_int_equal(walk(bytes, length), arrays[i].items);
        for (size_t k = 0; k < length; k++) {
            void *copy = exact(bytes, k);
            assert_int_equal(walk(copy, k), -1);
            free(copy);
        }
    }
}

static void hostile_arrays_are_refused(void **state)
{
    (void)state;
    const char *const cases[] = {
        "00000002 00000000 00000014 00000001 00000001 00000001 00000001 00000000", /* 2 dimensions
                                                                                    */
        "ffffffff 00000000 00000014 00000001 00000001 00000000",
        "00000001 00000002 00000014 00000001 00000001 00000000", /* no such flag */
        "00000001 00000000 00000014 ffffffff 00000001 00000000", /* more items than bytes */
        "00000001 00000000 00000014 7fffffff 00000001 00000000",
        "00000001 00000000 00000014 00000002 00000001 00000000",
        "00000001 00000000 00000014 00000001 00000001 7fffffff", /* an item longer than the rest */
        "00000001 00000000 00000014 00000001 00000001 fffffffe",
        "00000001 00000000 00000014 00000001 00000001 00000000 00", /* bytes behind the last */
        "00000000 00000000 00000014 00",
        "00000001 00000000 00000014 00000000 00000001 00",
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char bytes[64];
        size_t length = unhex(bytes, cases[i]);
        void *copy = exact(bytes, length);
        assert_int_equal(walk(copy, length), -1);
        free(copy);
    }
}

static void noise_is_survived(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        unsigned char bytes[40];
        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed = seed * 1664525 + 1013904223;
            /* Mostly small numbers: those get past the first checks. */
            bytes[i] = (unsigned char)(seed >> 24 & (seed & 0x10000 ? 0xff : 0x01));
        }
        size_t length = (seed >> 8) % (sizeof(bytes) + 1);
        void *copy = exact(bytes, length);
        char text[16];
        size_t needed;
        (void)walk(copy, length);
        if (evpq__read_numeric(copy, length, text, sizeof(text), &needed))
            assert_true(needed < sizeof(text) ? strlen(text) == needed
                                              : strlen(text) == sizeof(text) - 1);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_read_in_all_sizes),
        cmocka_unit_test(a_timestamp_that_no_int64_holds_is_not_read),
        cmocka_unit_test(dates_outside_the_range_of_the_server_are_not_read),
        cmocka_unit_test(fixed_sizes_are_insisted_on),
        cmocka_unit_test(a_numeric_is_rendered_as_the_server_would),
        cmocka_unit_test(a_numeric_never_passes_its_capacity),
        cmocka_unit_test(the_longest_numerics_are_counted_right),
        cmocka_unit_test(hostile_numerics_are_refused),
        cmocka_unit_test(a_numeric_cut_anywhere_is_refused),
        cmocka_unit_test(an_array_is_walked_item_by_item),
        cmocka_unit_test(an_array_cut_anywhere_is_refused),
        cmocka_unit_test(hostile_arrays_are_refused),
        cmocka_unit_test(noise_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
