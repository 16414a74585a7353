/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/limiter.h>

#include "base/op.h"
#include "support/flow_story.h"

static evpq_keyed_limiter *keyed;

static int open_keyed(uint32_t max_keys)
{
    return evpq_keyed_limiter_open(
        &keyed, fake_ev(),
        EVPQ_KEYED_LIMITER_OPTIONS(.limit = 2, .window_ms = 1000, .max_keys = max_keys));
}

static int try_key(const char *key)
{
    return evpq_keyed_limiter_try(keyed, key, strlen(key), 1, NULL);
}

static int wait_key(struct turn *turn, const char *key)
{
    turn_begin(turn);
    return turn_started(
        turn, evpq_keyed_limiter_wait(&turn->op, keyed, key, strlen(key), 1, 60000, on_turn, turn));
}

static evpq_keyed_limiter_stats stats(void)
{
    evpq_keyed_limiter_stats s = {.size = sizeof(s)};
    assert_int_equal(evpq_keyed_limiter_stats_get(keyed, &s), EVPQ_OK);
    return s;
}

static void each_key_has_its_own_limit(void **state)
{
    (void)state;
    assert_int_equal(open_keyed(0), EVPQ_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(try_key("a"), i < 2 ? EVPQ_OK : EVPQ_ELIMITED);
        assert_int_equal(try_key("b"), i < 2 ? EVPQ_OK : EVPQ_ELIMITED);
    }
    uint32_t after = 0;
    assert_int_equal(evpq_keyed_limiter_try(keyed, "a", 1, 1, &after), EVPQ_ELIMITED);
    assert_int_equal(after, 1000);
    /* Any bytes are a key. */
    assert_int_equal(evpq_keyed_limiter_try(keyed, "a\0", 2, 2, NULL), EVPQ_OK);
    assert_int_equal(stats().keys, 3);
    fake_advance(1000);
    assert_int_equal(try_key("a"), EVPQ_OK);
    evpq_keyed_limiter_close(keyed);
}

static void waiters_of_one_key_do_not_hold_up_another(void **state)
{
    (void)state;
    assert_int_equal(open_keyed(0), EVPQ_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_key(&turns[i], "a"), EVPQ_OK);
    assert_int_equal(wait_key(&turns[4], "b"), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[1].code, EVPQ_OK);
    assert_int_equal(turns[2].calls, 0);
    assert_int_equal(turns[4].code, EVPQ_OK);
    fake_advance(1000);
    assert_int_equal(turns[3].code, EVPQ_OK);
    evpq_keyed_limiter_close(keyed);
}

static void the_longest_unused_key_makes_room_when_its_window_is_empty(void **state)
{
    (void)state;
    assert_int_equal(open_keyed(2), EVPQ_OK);
    assert_int_equal(try_key("a"), EVPQ_OK);
    fake_advance(600);
    assert_int_equal(try_key("b"), EVPQ_OK);
    /* Whoever comes under a new name does not get a new limit. */
    assert_int_equal(try_key("c"), EVPQ_EOVERLOADED);
    assert_int_equal(stats().refused, 1);
    fake_advance(400);
    assert_int_equal(try_key("c"), EVPQ_OK);
    assert_int_equal(stats().evicted, 1);
    assert_int_equal(try_key("b"), EVPQ_OK);
    assert_int_equal(try_key("b"), EVPQ_ELIMITED);
    assert_int_equal(try_key("a"), EVPQ_EOVERLOADED);
    assert_int_equal(stats().keys, 2);
    evpq_keyed_limiter_close(keyed);
}

static void a_key_with_waiters_is_never_dropped(void **state)
{
    (void)state;
    assert_int_equal(open_keyed(1), EVPQ_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(wait_key(&turns[i], "a"), EVPQ_OK);
    for (int ms = 0; ms < 3000; ms += 100) {
        assert_int_equal(try_key("b"), EVPQ_EOVERLOADED);
        fake_advance(100);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(turns[i].code, EVPQ_OK);
    assert_int_equal(try_key("b"), EVPQ_OK);
    evpq_keyed_limiter_close(keyed);
}

static void refusals_are_no_use_of_a_key(void **state)
{
    (void)state;
    static const char *const others[] = {"b", "c", "d", "e", "f", "g", "h", "i", "j"};
    assert_int_equal(open_keyed(10), EVPQ_OK);
    assert_int_equal(try_key("a"), EVPQ_OK);
    assert_int_equal(try_key("a"), EVPQ_OK);
    fake_advance(10);
    for (int i = 0; i < 9; i++)
        assert_int_equal(try_key(others[i]), EVPQ_OK);
    assert_int_equal(try_key("a"), EVPQ_ELIMITED);
    fake_advance(990);
    assert_int_equal(try_key("k"), EVPQ_OK); /* in place of a */
    for (int i = 0; i < 9; i++)
        assert_int_equal(try_key(others[i]), EVPQ_OK);
    evpq_keyed_limiter_close(keyed);
}

static void many_keys_come_and_go(void **state)
{
    (void)state;
    assert_int_equal(open_keyed(100), EVPQ_OK);
    char key[16];
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 100; i++) {
            snprintf(key, sizeof(key), "%d/%d", round, i);
            assert_int_equal(try_key(key), EVPQ_OK);
        }
        fake_advance(1000);
    }
    assert_int_equal(stats().keys, 100);
    assert_int_equal(stats().evicted, 4900);
    evpq_keyed_limiter_close(keyed);
}

static void close_inside(struct turn *turn)
{
    (void)turn;
    evpq_keyed_limiter_close(keyed);
}

static void close_tells_the_waiters_of_all_keys_also_from_inside(void **state)
{
    (void)state;
    assert_int_equal(open_keyed(0), EVPQ_OK);
    turns[0].inside = close_inside;
    for (int i = 0; i < 10; i++)
        assert_int_equal(wait_key(&turns[i], i % 2 ? "a" : "b"), EVPQ_OK);
    fake_settle();
    for (int i = 0; i < 10; i++)
        assert_int_equal(turns[i].code, i < 4 ? EVPQ_OK : EVPQ_ECLOSED);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const char long_key[1025];
    assert_non_null(evpq_keyed_limiter_options_problem(NULL));
    assert_non_null(
        strstr(evpq_keyed_limiter_options_problem(
                   EVPQ_KEYED_LIMITER_OPTIONS(.limit = 1, .window_ms = 1, .max_keys = 10000001)),
               "max_keys"));
    assert_int_equal(evpq_keyed_limiter_open(&keyed, fake_ev(), EVPQ_KEYED_LIMITER_OPTIONS(0)),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_keyed_limiter_open(
                         &keyed, NULL, EVPQ_KEYED_LIMITER_OPTIONS(.limit = 1, .window_ms = 1)),
                     EVPQ_EINVALID);
    assert_int_equal(open_keyed(1), EVPQ_OK);
    assert_int_equal(evpq_keyed_limiter_try(keyed, "a", 0, 1, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_keyed_limiter_try(keyed, NULL, 1, 1, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_keyed_limiter_try(NULL, "a", 1, 1, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_keyed_limiter_try(keyed, long_key, 1025, 1, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_keyed_limiter_try(keyed, "a", 1, 3, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_keyed_limiter_wait(NULL, keyed, "a", 1, 1, 0, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(stats().keys, 0);
    assert_int_equal(evpq_keyed_limiter_try(keyed, long_key, 1024, 1, NULL), EVPQ_OK);
    evpq_keyed_limiter_close(keyed);
    evpq_keyed_limiter_close(NULL);
}

static void tell_a_story(void)
{
    if (open_keyed(300) != EVPQ_OK)
        return;
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "%d", i);
        (void)try_key(key);
    }
    (void)wait_key(&turns[0], "1");
    (void)wait_key(&turns[1], "1");
    (void)wait_key(&turns[2], "another");
    fake_advance(1);
    evpq_keyed_limiter_close(keyed);
    fake_settle();
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    int n = 1;
    for (;; n++) {
        fake_mem_fail_at(n);
        tell_a_story();
        if (!fake_mem_has_failed())
            break;
    }
    fake_mem_fail_at(0);
    assert_true(n > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        flow_test(each_key_has_its_own_limit),
        flow_test(waiters_of_one_key_do_not_hold_up_another),
        flow_test(the_longest_unused_key_makes_room_when_its_window_is_empty),
        flow_test(a_key_with_waiters_is_never_dropped),
        flow_test(refusals_are_no_use_of_a_key),
        flow_test(many_keys_come_and_go),
        flow_test(close_tells_the_waiters_of_all_keys_also_from_inside),
        flow_test(nonsense_is_refused),
        flow_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
