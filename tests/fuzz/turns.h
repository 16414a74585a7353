/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FUZZ_TURNS_H
#define EVPQ_TESTS_FUZZ_TURNS_H

/*
 * Turns of the fake loops over real sockets, with the server of this thread at
 * the other end: fake_settle() and fake_advance() for a libpq that is real.
 */

#include <stdbool.h>
#include <stdint.h>

/* Calls of the helper do not return. */
extern bool turns_calls_hang;
/* The server never sees more sessions. 0: it may. */
extern int turns_most_sessions;

/* False when nothing moved. */
bool turns_once(void);
/* Until nothing moves without the clock. */
void turns_run(void);
void turns_pass(uint32_t ms);
/* Lets time pass until it holds; false when it does not in that time. */
bool turns_pass_until(bool (*condition)(void), uint32_t limit_ms);

#endif /* EVPQ_TESTS_FUZZ_TURNS_H */
