/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/wheel.h"

enum { NODES = 500 };

static struct evpq__wheel wheel;
static struct evpq__wheel_node nodes[NODES];

static int begin(void **state)
{
    (void)state;
    evpq__wheel_init(&wheel, 1000000);
    for (int i = 0; i < NODES; i++)
        evpq__node_init(&nodes[i].node);
    return 0;
}

static int due(void)
{
    int count = 0;
    while (evpq__list_pop_front(&wheel.due))
        count++;
    return count;
}

static void each_comes_at_its_tick(void **state)
{
    (void)state;
    static const int64_t after[] = {1,        2,          63,         64,         65,
                                    127,      128,        4095,       4096,       4097,
                                    262143,   262144,     16777216,   30000,      3600000,
                                    86400000, 1073741823, 4294967294, 68719476735};
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
        int64_t at = wheel.now + after[i];
        int64_t look = evpq__wheel_add(&wheel, &nodes[0], at);
        assert_true(look <= at && look > wheel.now);
        assert_int_equal(look, evpq__wheel_next(&wheel));
        int looks = 0;
        for (; look < at; look = evpq__wheel_next(&wheel), looks++) {
            evpq__wheel_advance(&wheel, look);
            assert_int_equal(due(), 0);
        }
        assert_true(looks < 2 * EVPQ__WHEEL_LEVELS);
        evpq__wheel_advance(&wheel, at - 1);
        assert_int_equal(due(), 0);
        evpq__wheel_advance(&wheel, at);
        assert_int_equal(due(), 1);
        assert_true(evpq__wheel_next(&wheel) == EVPQ__WHEEL_NEVER);
    }
}

static void what_has_passed_comes_with_the_next_tick(void **state)
{
    (void)state;
    assert_int_equal(evpq__wheel_add(&wheel, &nodes[0], wheel.now), wheel.now + 1);
    evpq__wheel_add(&wheel, &nodes[1], INT64_MIN);
    evpq__wheel_advance(&wheel, wheel.now + 1);
    assert_int_equal(due(), 2);
}

static void what_is_taken_back_does_not_come(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        evpq__wheel_add(&wheel, &nodes[i], wheel.now + 1 + 1000 * i);
    for (int i = 0; i < 10; i += 2)
        evpq__node_unlink(&nodes[i].node);
    evpq__wheel_advance(&wheel, wheel.now + 100000);
    assert_int_equal(due(), 5);
    assert_true(evpq__wheel_next(&wheel) == EVPQ__WHEEL_NEVER);
}

static void a_clock_that_goes_back_is_not_heard(void **state)
{
    (void)state;
    int64_t now = wheel.now;
    evpq__wheel_advance(&wheel, now - 5000);
    assert_int_equal(wheel.now, now);
}

static void as_a_plain_list_would_do_it(void **state)
{
    (void)state;
    unsigned short random[3] = {1, 2, 3};
    for (int step = 0; step < 20000; step++) {
        int i = (int)(nrand48(random) % NODES);
        int64_t reach = (int64_t)1 << (nrand48(random) % 30);
        if (nrand48(random) % 3 > 0) {
            evpq__node_unlink(&nodes[i].node);
            evpq__wheel_add(&wheel, &nodes[i], wheel.now + 1 + nrand48(random) % reach);
            continue;
        }
        int64_t to =
            nrand48(random) % 2 ? evpq__wheel_next(&wheel) : wheel.now + nrand48(random) % reach;
        if (to == EVPQ__WHEEL_NEVER)
            continue;
        int wanted = 0;
        for (int n = 0; n < NODES; n++)
            wanted += evpq__node_linked(&nodes[n].node) && nodes[n].at <= to;
        evpq__wheel_advance(&wheel, to);
        int64_t last = 0;
        struct evpq__node *node;
        for (; (node = evpq__list_pop_front(&wheel.due)); wanted--) {
            int64_t at = evpq__container_of(node, struct evpq__wheel_node, node)->at;
            assert_true(at <= to && at >= last);
            last = at;
        }
        assert_int_equal(wanted, 0);
        assert_true(evpq__wheel_next(&wheel) > to);
    }
}

static void very_many_at_once_come_in_parts(void **state)
{
    (void)state;
    enum { MANY = 50000 };
    static struct evpq__wheel_node many[MANY];
    int64_t at = wheel.now + 2000; /* all in one slot of a high level */
    for (int i = 0; i < MANY; i++) {
        evpq__node_init(&many[i].node);
        evpq__wheel_add(&wheel, &many[i], at);
    }
    evpq__node_unlink(&many[0].node);
    int total = 0, calls = 0;
    for (; evpq__wheel_next(&wheel) <= at; calls++) {
        evpq__wheel_advance(&wheel, at);
        total += due();
        if (calls == 0)
            evpq__node_unlink(&many[MANY - 1].node); /* not sorted yet */
    }
    assert_true(calls > 4);
    assert_int_equal(total, MANY - 2);
    assert_true(evpq__wheel_next(&wheel) == EVPQ__WHEEL_NEVER);
}

#define wheel_test(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        wheel_test(each_comes_at_its_tick),
        wheel_test(what_has_passed_comes_with_the_next_tick),
        wheel_test(what_is_taken_back_does_not_come),
        wheel_test(a_clock_that_goes_back_is_not_heard),
        wheel_test(as_a_plain_list_would_do_it),
        wheel_test(very_many_at_once_come_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
