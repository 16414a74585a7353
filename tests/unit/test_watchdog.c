/* SPDX-License-Identifier: MIT */
#include "support/watchdog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void what_burns_twice_is_found(void **state)
{
    (void)state;
    struct watchdog dog = {0};
    watchdog_turn(&dog, 0.012, 0.012);
    watchdog_turn(&dog, 0.001, 0.001);
    assert_true(watchdog_burnt(&dog) < 0.010);
    watchdog_turn(&dog, 0.011, 0.011);
    assert_true(watchdog_burnt(&dog) > 0.010);
    assert_true(dog.longest_cpu == 0.012 && dog.longest == 0.012);
    watchdog_turn(&dog, 0.013, 0.013);
    assert_true(dog.longest_cpu == 0.013 && dog.second_cpu == 0.012);
}

static void what_burns_very_long_is_found_at_once(void **state)
{
    (void)state;
    struct watchdog dog = {0};
    watchdog_turn(&dog, 0.060, 0.060);
    assert_true(watchdog_burnt(&dog) > 0.010);
}

static void burn(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)w;
    (void)events;
    for (double end = watchdog_thread_cpu() + 0.012; watchdog_thread_cpu() < end;)
        ;
    ev_break(loop, EVBREAK_ONE);
}

static void turns_of_a_loop_are_seen(void **state)
{
    (void)state;
    struct watchdog dog;
    ev_timer timer;
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    assert_non_null(loop);
    watchdog_start(&dog, loop);
    for (int i = 0; i < 3; i++) {
        ev_timer_init(&timer, burn, 0.001, 0.);
        ev_timer_start(loop, &timer);
        ev_run(loop, 0);
    }
    /* A turn ends where the next sleep begins: the last one is not over. */
    assert_true(dog.second_cpu >= 0.012);
    assert_true(dog.longest >= 0.012);
    watchdog_stop(&dog, loop);
    ev_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_burns_twice_is_found),
        cmocka_unit_test(what_burns_very_long_is_found_at_once),
        cmocka_unit_test(turns_of_a_loop_are_seen),
    };
    return cmocka_run_group_tests_name("watchdog", tests, NULL, NULL);
}
