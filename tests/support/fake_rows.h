/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_ROWS_H
#define EVPQ_TESTS_FAKE_ROWS_H

/*
 * A table behind fake_pool.c: rows with one column `id` of text, 1001, 1002, ...
 * It answers transactions, cursors, samples and keyset pages in that order.
 * Include it behind cmocka.h.
 */

#include "support/fake_pool.h"

/* How many rows, and connections, there are. */
void fake_rows_begin(int rows, int connections);
/* Grants leases and answers queries, one after another, until there is nothing to do; or, with
 * steps >= 0, so many times. False when there was nothing to do. */
bool fake_rows_serve(int steps);
/* What has a text like this is answered with this error; NULL: nothing is. */
void fake_rows_fail(const char *text, evpq_code code);
/* How many cursors were declared, ever. */
int fake_rows_cursors(void);

#endif /* EVPQ_TESTS_FAKE_ROWS_H */
