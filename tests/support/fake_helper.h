/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_HELPER_H
#define EVPQ_TESTS_FAKE_HELPER_H

/*
 * The helper without threads, in place of lib/base/helper.c: its loop is one
 * more fake loop, and a call returns when a test says so.
 */

#include "base/helper.h"

void fake_helper_reset(void);
/* The helper does not end while it is held. */
void fake_helper_hold(bool hold);
/* Starting one fails. */
void fake_helper_fails(bool fails);
/* Calls whose work has not returned, abandoned ones included. */
int fake_calls(void);
/* The work of the oldest call is done and returns. */
void fake_call_return(void);

#endif /* EVPQ_TESTS_FAKE_HELPER_H */
