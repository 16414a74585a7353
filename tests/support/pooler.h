/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_POOLER_H
#define EVPQ_TESTS_POOLER_H

/*
 * The live tests through PgBouncer: EVPQ_TEST_POOLER is its pool_mode, "transaction" or "session",
 * and EVPQ_TEST_ASIDE a connection string that goes past it. What cannot work through a pooler is
 * the table in pooler.c; those cases are skipped, each with its reason.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum pooler {
    POOLER_NONE,
    POOLER_SESSION,
    POOLER_TRANSACTION,
};

/* The pooler between the tests and the server. */
enum pooler pooler_mode(void);

/* cmocka_run_group_tests_name(), less what cannot work through the pooler. */
#define pooler_run_group_tests_name(name, tests, setup, teardown)                                  \
    pooler_run(name, tests, sizeof(tests) / sizeof((tests)[0]), setup, teardown)
int pooler_run(const char *name, const struct CMUnitTest *tests, size_t count,
               CMFixtureFunction setup, CMFixtureFunction teardown);

#endif /* EVPQ_TESTS_POOLER_H */
