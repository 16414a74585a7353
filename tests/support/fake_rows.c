/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page/verdict.h"
#include "pg/result.h"
#include "pg/value.h"
#include "support/fake_loop.h"
#include "support/fake_rows.h"

enum { FIRST = 1001 };

static int rows, connections, cursors;
static long stands_on; /* the cursor; there is one at a time */
static const char *failing;
static evpq_code failing_code;

void fake_rows_begin(int row_count, int connection_count)
{
    rows = row_count;
    connections = connection_count;
    cursors = 0;
    stands_on = 0;
    failing = NULL;
}

void fake_rows_fail(const char *text, evpq_code code)
{
    failing = text;
    failing_code = code;
}

int fake_rows_cursors(void)
{
    return cursors;
}

static PGresult *ids(int from, int to)
{
    static char title[] = "id";
    PGresAttDesc attribute = {.name = title, .typid = EVPQ__OID_TEXT, .typlen = -1};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, 1, &attribute), 1);
    for (int id = from; id <= to; id++) {
        char text[16];
        int length = snprintf(text, sizeof(text), "%d", id);
        assert_int_equal(PQsetvalue(pg, id - from, 0, text, length), 1);
    }
    return pg;
}

/* The key of no row, behind its collation. */
static PGresult *shape(void)
{
    static char collation[] = "collation", key[] = "key";
    PGresAttDesc attributes[] = {{.name = collation, .typid = EVPQ__OID_TEXT, .typlen = -1},
                                 {.name = key, .typid = EVPQ__OID_TEXT, .typlen = -1}};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, 2, attributes), 1);
    for (int i = 0; i < 2; i++)
        assert_int_equal(PQsetvalue(pg, 0, i, NULL, -1), 1);
    return pg;
}

static PGresult *plan(void)
{
    static char title[] = "QUERY PLAN", none[] = "[]";
    PGresAttDesc attribute = {.name = title, .typid = EVPQ__OID_TEXT, .typlen = -1, .format = 1};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, 1, &attribute), 1);
    assert_int_equal(PQsetvalue(pg, 0, 0, none, 2), 1);
    return pg;
}

/* There is nothing to say against it. */
static PGresult *verdict(void)
{
    static char name[] = "verdict", total[] = EVPQ__VERDICT_TOTAL, no[] = "\0", yes[] = "\1",
                none[] = "0";
    static const struct {
        Oid type;
        char *value; /* NULL: SQL NULL */
        int length;
    } columns[EVPQ__VERDICT_COLUMNS] = {
        [EVPQ__VERDICT_WHY] = {EVPQ__OID_TEXT, total, sizeof(total) - 1},
        [EVPQ__VERDICT_OF] = {EVPQ__OID_TEXT, NULL, -1},
        [EVPQ__VERDICT_SORTS] = {EVPQ__OID_BOOL, no, 1},
        [EVPQ__VERDICT_COMPOSITE] = {EVPQ__OID_TEXT, none, 1},
        [EVPQ__VERDICT_ALWAYS] = {EVPQ__OID_BOOL, no, 1},
        [EVPQ__VERDICT_FOREIGN] = {EVPQ__OID_TEXT, NULL, -1},
        [EVPQ__VERDICT_MOVES] = {EVPQ__OID_TEXT, NULL, -1},
        [EVPQ__VERDICT_INDEXABLE] = {EVPQ__OID_BOOL, yes, 1},
        [EVPQ__VERDICT_COLLATIONS] = {EVPQ__OID_TEXT, none, 0},
        [EVPQ__VERDICT_NOT_NULL] = {EVPQ__OID_TEXT, none, 1},
    };
    PGresAttDesc attributes[EVPQ__VERDICT_COLUMNS];
    for (int i = 0; i < EVPQ__VERDICT_COLUMNS; i++)
        attributes[i] =
            (PGresAttDesc){.name = name, .typid = columns[i].type, .typlen = -1, .format = 1};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, EVPQ__VERDICT_COLUMNS, attributes), 1);
    for (int i = 0; i < EVPQ__VERDICT_COLUMNS; i++)
        assert_int_equal(PQsetvalue(pg, 0, i, columns[i].value, columns[i].length), 1);
    return pg;
}

static PGresult *exported(void)
{
    PGresult *pg = ids(1, 0);
    static char id[] = "00000003-0000001B-1";
    assert_int_equal(PQsetvalue(pg, 0, 0, id, (int)strlen(id)), 1);
    return pg;
}

static int limit_of(const char *sql)
{
    const char *at = strstr(sql, " LIMIT ");
    assert_non_null(at);
    return atoi(at + 7);
}

/* Behind its first parameter, if it has such a condition, and up to the next. */
static PGresult *page(const struct fake_query *query)
{
    int from = FIRST, to = FIRST + rows - 1, param = 0;
    if (strstr(query->sql, "\"id\" > $"))
        from = atoi(query->texts[param++]) + 1;
    if (strstr(query->sql, "\"id\" <= $") && atoi(query->texts[param]) < to)
        to = atoi(query->texts[param]);
    int limit = limit_of(query->sql);
    return ids(from, to - from + 1 > limit ? from + limit - 1 : to);
}

static PGresult *fetch(const char *sql)
{
    long count = strtol(sql + strlen("FETCH FORWARD "), NULL, 10);
    long to = stands_on + count < rows ? stands_on + count : rows;
    PGresult *pg = ids(FIRST + (int)stands_on, FIRST + (int)to - 1);
    stands_on = stands_on + count <= rows ? to : rows + 1;
    return pg;
}

static PGresult *answer_to(const struct fake_query *query)
{
    const char *sql = query->sql;
    if (strncmp(sql, "FETCH", 5) == 0)
        return fetch(sql);
    if (strncmp(sql, "WITH evpq_shape", 15) == 0)
        return shape();
    if (strncmp(sql, "EXPLAIN", 7) == 0)
        return plan();
    if (strncmp(sql, "WITH RECURSIVE", 14) == 0)
        return verdict();
    if (strstr(sql, "pg_export_snapshot"))
        return exported();
    if (strncmp(sql, "SELECT", 6) == 0)
        return page(query); /* a sample has all rows that it may be of */
    long number = strtol(sql + strcspn(sql, "0123456789"), NULL, 10);
    if (strncmp(sql, "DECLARE", 7) == 0) {
        cursors++;
        stands_on = 0;
    }
    if (strncmp(sql, "MOVE ABSOLUTE", 13) == 0)
        stands_on = number <= rows ? number : rows + 1;
    if (strncmp(sql, "MOVE BACKWARD 1 ", 16) == 0)
        stands_on--;
    return PQmakeEmptyPGresult(NULL, PGRES_COMMAND_OK);
}

static void answer(struct fake_query *query)
{
    struct evpq_error error = {0};
    bool fails = failing && strstr(query->sql, failing);
    struct evpq_result *result = fails ? NULL : evpq__result_new(answer_to(query), NULL);
    if (result) {
        fake_answer(query, result);
        return;
    }
    evpq__error_set(&error, fails ? failing_code : EVPQ_ENOMEM, EVPQ_ROLLED_BACK, "why not");
    fake_answer_error(query, &error);
    evpq__error_clear(&error);
}

bool fake_rows_serve(int steps)
{
    bool served = false;
    for (int i = 0; steps < 0 || i < steps; i++) {
        fake_settle();
        struct fake_query *query = fake_unanswered();
        if (query)
            answer(query);
        else if (fake_leases_wanted() > 0 && fake_leases_held() < connections)
            fake_lease_granted();
        else
            break;
        served = true;
    }
    fake_settle();
    return served;
}
