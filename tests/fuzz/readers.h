/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_READERS_H
#define EVPQ_TESTS_READERS_H

#include <evpq/result.h>

/* Reads a value in every way there is, and checks what result.h says of readers. */
void readers_check_value(const evpq_result *result, uint32_t row, uint32_t column);
/* Some of a result, and beside it. */
void readers_check(const evpq_result *result);

#endif /* EVPQ_TESTS_READERS_H */
