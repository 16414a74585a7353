/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_RESULTS_H
#define EVPQ_TESTS_RESULTS_H

/* Results of libpq, made without a server. Include it behind cmocka.h. */

#include "pg/result.h"

/* A connection that never connects: it lends its notice receiver to results. Fixtures of a group.
 */
static PGconn *nowhere;
static int notices_seen;

static inline void count_notice(void *arg, const PGresult *notice)
{
    (void)arg, (void)notice;
    notices_seen++;
}

static inline int open_nowhere(void **state)
{
    (void)state;
    nowhere = PQconnectStart("host=/nonexistent");
    assert_non_null(nowhere);
    PQsetNoticeReceiver(nowhere, count_notice, NULL);
    return 0;
}

/* All ends well when libpq had nothing to complain about. */
static inline int close_nowhere(void **state)
{
    (void)state;
    PQfinish(nowhere);
    return notices_seen;
}

static inline PGresult *make_columns(int count, const char *const *names, uint32_t type, int format)
{
    PGresAttDesc columns[4] = {{0}};
    for (int i = 0; i < count; i++)
        columns[i] =
            (PGresAttDesc){.name = (char *)(uintptr_t)names[i], .typid = type, .format = format};
    PGresult *pg = PQmakeEmptyPGresult(nowhere, PGRES_TUPLES_OK);
    assert_non_null(pg);
    assert_int_equal(PQsetResultAttrs(pg, count, columns), 1);
    return pg;
}

static inline void put_value(PGresult *pg, int row, int column, const void *data, size_t length)
{
    assert_int_equal(PQsetvalue(pg, row, column, (char *)(uintptr_t)data, data ? (int)length : -1),
                     1);
}

/* One row and one column. data == NULL: SQL NULL. */
static inline evpq_result *make(uint32_t type, int format, const void *data, size_t length)
{
    PGresult *pg = make_columns(1, (const char *const[]){"value"}, type, format);
    put_value(pg, 0, 0, data, length);
    evpq_result *result = evpq__result_new(pg, NULL);
    assert_non_null(result);
    return result;
}

#endif /* EVPQ_TESTS_RESULTS_H */
