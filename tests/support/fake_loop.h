/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_LOOP_H
#define EVPQ_TESTS_FAKE_LOOP_H

/*
 * The loop without libev, in place of lib/base/loop.c: the clock stands until a
 * test moves it, sockets are ready when a test says so. Turns are as the real
 * ones: tasks of `soon`, tasks of `flush`, then what other threads sent,
 * sockets, and timers last. All loops of a test share the clock and take turns.
 *
 * Include it behind cmocka.h.
 */

#include "base/loop.h"

/* Forgets everything. */
void fake_reset(void);
/* No loop, timer, socket, task, libpq object or byte is left. */
void fake_nothing_left(void);

/* A test that begins with the one and ends with the other. */
#define fake_test(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
int fake_setup(void **state);
int fake_teardown(void **state);

/* Any pointer does for a loop of the user's. */
struct ev_loop *fake_ev(void);

/* Turns until there is nothing to do without the clock. */
void fake_settle(void);
/* One turn of each loop; false when there was nothing to do. */
bool fake_turn(void);
/* Lets time pass: every timer fires at its moment, and all is settled after it. */
void fake_advance(uint32_t ms);
/* Somebody keeps the thread busy: time passes, and the loop sees nothing of it. */
void fake_busy(uint32_t ms);
int64_t fake_now_us(void);

/* Level-triggered: ready until it is quiet. */
void fake_socket_ready(int fd, int events);
void fake_socket_quiet(int fd, int events);
/* The descriptor is closed: after the callback under way nobody may watch it. */
void fake_socket_closed(int fd);
/* What is watched of it; 0: nothing. */
int fake_socket_watched(int fd);

int fake_timers(void);
int fake_ios(void);

#endif /* EVPQ_TESTS_FAKE_LOOP_H */
