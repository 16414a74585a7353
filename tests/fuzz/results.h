/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FUZZ_RESULTS_H
#define EVPQ_TESTS_FUZZ_RESULTS_H

/*
 * Results between libpq and its caller. libpq loses one of its own when the
 * server says ReadyForQuery in the middle of another (pqParseInput3, 'Z'), so
 * leaks of it are not looked for: but what it has handed out is to be cleared.
 */

/* Results that PQgetResult() has returned and PQclear() has not seen. */
int results_alive(void);
void results_forget(void);

#endif /* EVPQ_TESTS_FUZZ_RESULTS_H */
