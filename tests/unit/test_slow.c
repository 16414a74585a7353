/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pool/slow.h"

static uint32_t mark(const char *sql)
{
    return evpq__slow_mark(sql, strlen(sql));
}

static void statements_have_marks_of_their_own(void **state)
{
    (void)state;
    static const char *const statements[] = {
        "x",
        "SELECT 1",
        "SELECT 12",
        "SELECT pg_sleep(0.1)",
        "SELECT pg_sleep(0.2)",
        "SELECT a FROM t WHERE id = $1",
        "SELECT a FROM t WHERE id = $2",
        "SELECT a FROM t WHERE id = $12",
    };
    enum { COUNT = sizeof(statements) / sizeof(statements[0]) };
    for (int i = 0; i < COUNT; i++) {
        assert_true(mark(statements[i]) != 0);
        for (int j = 0; j < i; j++)
            assert_true(mark(statements[i]) != mark(statements[j]));
    }
}

static void what_took_long_is_slow_until_it_does_not(void **state)
{
    (void)state;
    struct evpq__slow slow = {0};
    uint32_t a = mark("SELECT pg_sleep(0.1)"), b = mark("SELECT 1");
    assert_false(evpq__slow_is(&slow, a));
    evpq__slow_note(&slow, a, 100000);
    evpq__slow_note(&slow, b, 5000);
    assert_true(evpq__slow_is(&slow, a));
    assert_false(evpq__slow_is(&slow, b));
    evpq__slow_note(&slow, a, 1000);
    assert_false(evpq__slow_is(&slow, a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statements_have_marks_of_their_own),
        cmocka_unit_test(what_took_long_is_slow_until_it_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
