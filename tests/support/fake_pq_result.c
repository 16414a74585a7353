/* SPDX-License-Identifier: MIT */
/* Results of the fake libpq, and what libpq says of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/fake_pq.h"
#include "support/fake_pq_private.h"

struct pg_result {
    ExecStatusType status;
    int rows;
    size_t bytes;
    char *severity, *sqlstate, *message;
};

char *fake_copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

PGresult *fake_result_new(ExecStatusType status, int rows, size_t bytes)
{
    PGresult *result = fake_pq_make(sizeof(*result));
    result->status = status;
    result->rows = rows;
    result->bytes = bytes;
    return result;
}

PGresult *fake_error_new(ExecStatusType status, const char *severity, const char *sqlstate,
                         const char *message)
{
    PGresult *result = fake_result_new(status, 0, 0);
    result->severity = fake_copy(severity);
    result->sqlstate = fake_copy(sqlstate);
    result->message = fake_copy(message);
    return result;
}

void PQclear(PGresult *result)
{
    if (!result)
        return;
    free(result->severity);
    free(result->sqlstate);
    free(result->message);
    fake_pq_destroy(result);
}

ExecStatusType PQresultStatus(const PGresult *result)
{
    return result ? result->status : PGRES_FATAL_ERROR;
}

char *PQresultErrorField(const PGresult *result, int field)
{
    switch (field) {
    case PG_DIAG_SEVERITY_NONLOCALIZED: /* not of PgBouncer's errors, which all have this SQLSTATE */
        return result->sqlstate && strcmp(result->sqlstate, "08P01") == 0 ? NULL : result->severity;
    case PG_DIAG_SEVERITY:
        return result->severity;
    case PG_DIAG_SQLSTATE:
        return result->sqlstate;
    case PG_DIAG_MESSAGE_PRIMARY:
        return result->message;
    default:
        return NULL;
    }
}

char *PQresultErrorMessage(const PGresult *result)
{
    static char none[] = "";
    return result->message ? result->message : none;
}

size_t PQresultMemorySize(const PGresult *result)
{
    return result->bytes;
}

int PQntuples(const PGresult *result)
{
    return result->rows;
}

int PQnfields(const PGresult *result)
{
    return result->status != PGRES_COMMAND_OK;
}

int PQgetlength(const PGresult *result, int row, int column)
{
    (void)result, (void)row, (void)column;
    return 0;
}

char *PQgetvalue(const PGresult *result, int row, int column)
{
    static char empty[] = "";
    (void)result, (void)row, (void)column;
    return empty;
}

char *PQfname(const PGresult *result, int column)
{
    static char name[] = "value";
    (void)result, (void)column;
    return name;
}

Oid PQftype(const PGresult *result, int column)
{
    (void)result, (void)column;
    return 20;
}

int PQbinaryTuples(const PGresult *result)
{
    (void)result;
    return 1;
}

int PQgetisnull(const PGresult *result, int row, int column)
{
    (void)result, (void)row, (void)column;
    return 1;
}

char *PQcmdTuples(PGresult *result)
{
    static char none[] = "";
    (void)result;
    return none;
}

char *PQcmdStatus(PGresult *result)
{
    static char none[] = "";
    return result->status == PGRES_COMMAND_OK && result->message ? result->message : none;
}
