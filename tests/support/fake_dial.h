/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_DIAL_H
#define EVPQ_TESTS_FAKE_DIAL_H

/*
 * Dials without a network, in place of lib/pg/dial.c: they end when the test
 * says so, or by themselves with what the test has announced.
 */

#include <stdbool.h>
#include <stddef.h>

#include <evpq/error.h>

void fake_dial_reset(void);
/* Started, ever; and under way. */
int fake_dials(void);
int fake_dials_open(void);
/* The oldest one under way ends. */
void fake_dial_succeeds(void);
void fake_dial_fails(evpq_code code, const char *sqlstate, const char *message, bool for_good);
/* Each ends as soon as the loop runs: by itself, with success or failure. Off at first. */
void fake_dial_all_succeed(void);
void fake_dial_all_fail(void);
void fake_dial_all_wait(void);

/* What each that succeeds says from now on: a sum of evpq__dial_notice. */
void fake_dial_notices(unsigned notices);
/* The host that each leads to from now on; and the one that the last was told to try first. */
void fake_dial_host(size_t number);
size_t fake_dial_first_host(void);
/* The conninfo asks for a server that takes writes. */
void fake_dial_read_write(bool wanted);

#endif /* EVPQ_TESTS_FAKE_DIAL_H */
