/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "pool/memo.h"
#include "support/fake_mem.h"

enum { LIFE = EVPQ__MEMO_LIFE_US, MANY = EVPQ__MEMO_ENTRIES };

static struct evpq__memo *memo;
static unsigned char key_bytes[EVPQ__MEMO_KEY];

/* The nth key; they differ in their last bytes only. */
static const unsigned char *key(int n)
{
    memset(key_bytes, 7, sizeof(key_bytes));
    key_bytes[EVPQ__MEMO_KEY - 1] = (unsigned char)n;
    key_bytes[EVPQ__MEMO_KEY - 2] = (unsigned char)(n >> 8);
    return key_bytes;
}

static void put(int n, unsigned char value, int64_t now)
{
    unsigned char bytes[EVPQ__MEMO_VALUE];
    memset(bytes, value, sizeof(bytes));
    evpq__memo_put(&memo, key(n), bytes, now);
}

/* -1: nothing is known. */
static int get(int n, int64_t now)
{
    unsigned char bytes[EVPQ__MEMO_VALUE];
    if (!evpq__memo_get(memo, key(n), bytes, now))
        return -1;
    assert_int_equal(bytes[0], bytes[EVPQ__MEMO_VALUE - 1]);
    return bytes[0];
}

static int setup(void **state)
{
    (void)state;
    fake_mem_reset();
    memo = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    evpq__free(memo);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

static void what_was_put_is_there_until_its_time_is_over(void **state)
{
    (void)state;
    assert_int_equal(get(1, 0), -1);
    put(1, 11, 0);
    put(2, 22, 1000);
    assert_int_equal(get(1, LIFE - 1), 11);
    assert_int_equal(get(1, LIFE), -1);
    assert_int_equal(get(2, LIFE), 22);
    assert_int_equal(get(3, 0), -1);
    assert_int_equal(fake_mem_allocations(), 1);
}

static void the_same_key_is_put_into_its_place(void **state)
{
    (void)state;
    put(0, 1, 0);
    for (int i = 0; i < 3 * MANY; i++)
        put(1, 2, i);
    assert_int_equal(get(0, 0), 1);
    assert_int_equal(get(1, LIFE), 2);
}

static void the_oldest_gives_way(void **state)
{
    (void)state;
    for (int i = 0; i < MANY + 10; i++)
        put(i, (unsigned char)i, 0);
    for (int i = 0; i < MANY + 10; i++)
        assert_int_equal(get(i, 0), i < 10 ? -1 : (unsigned char)i);
}

static void without_memory_nothing_is_known(void **state)
{
    (void)state;
    fake_mem_fail_at(1);
    put(1, 1, 0);
    assert_null(memo);
    assert_int_equal(get(1, 0), -1);
    put(1, 1, 0);
    assert_int_equal(get(1, 0), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_put_is_there_until_its_time_is_over),
        TEST(the_same_key_is_put_into_its_place),
        TEST(the_oldest_gives_way),
        TEST(without_memory_nothing_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
