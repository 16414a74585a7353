/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool/codel.h"

enum { MS = 1000, TARGET = 5 * MS };

/* One leaves every `step_ms` after waiting so long; how many of `count` are shed. */
static int leave(struct evpq__codel *codel, int64_t *now, int count, int step_ms, int waited_ms)
{
    int shed = 0;
    for (int i = 0; i < count; i++) {
        *now += step_ms * MS;
        shed += evpq__codel_sheds(codel, TARGET, *now, waited_ms * MS);
    }
    return shed;
}

static void short_waits_are_never_shed(void **state)
{
    (void)state;
    struct evpq__codel codel = {0};
    int64_t now = 1;
    assert_int_equal(leave(&codel, &now, 1000, 1, 5), 0);
}

static void a_burst_shorter_than_an_interval_is_served(void **state)
{
    (void)state;
    struct evpq__codel codel = {0};
    int64_t now = 1;
    leave(&codel, &now, 200, 1, 0);
    assert_int_equal(leave(&codel, &now, 90, 1, 50), 0);
    assert_int_equal(leave(&codel, &now, 200, 1, 0), 0);
}

static void long_waits_are_shed_from_the_second_interval_on(void **state)
{
    (void)state;
    struct evpq__codel codel = {0};
    int64_t now = 1;
    leave(&codel, &now, 200, 1, 0);
    int shed = leave(&codel, &now, 1000, 1, 50);
    assert_in_range(shed, 700, 900);
    /* The first of each interval is served, so that there is something to measure. */
    assert_true(shed < 1000 - 1000 / 101);
}

static void while_overloaded_those_below_twice_the_target_are_served(void **state)
{
    (void)state;
    struct evpq__codel codel = {0};
    int64_t now = 1;
    leave(&codel, &now, 300, 1, 50);
    assert_int_equal(evpq__codel_sheds(&codel, TARGET, now, 10 * MS), 0);
    assert_int_equal(evpq__codel_sheds(&codel, TARGET, now, 10 * MS + 1), 1);
}

static void one_short_wait_in_an_interval_ends_the_overload(void **state)
{
    (void)state;
    struct evpq__codel codel = {0};
    int64_t now = 1;
    leave(&codel, &now, 300, 1, 50);
    leave(&codel, &now, 150, 1, 1);
    assert_int_equal(leave(&codel, &now, 50, 1, 50), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_waits_are_never_shed),
        cmocka_unit_test(a_burst_shorter_than_an_interval_is_served),
        cmocka_unit_test(long_waits_are_shed_from_the_second_interval_on),
        cmocka_unit_test(while_overloaded_those_below_twice_the_target_are_served),
        cmocka_unit_test(one_short_wait_in_an_interval_ends_the_overload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
