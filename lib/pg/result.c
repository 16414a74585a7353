/* SPDX-License-Identifier: MIT */
#include "pg/result.h"

#include <ctype.h>
#include <evpq/query.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pg/pq.h"

struct evpq_result *evpq__result_new(PGresult *pg, struct evpq__notices *notices)
{
    struct evpq_result *result = evpq__alloc(sizeof(*result));
    if (!result) {
        PQclear(pg);
        return NULL;
    }
    evpq__notices_ref(notices);
    *result = (struct evpq_result){.pg = pg,
                                   .columns = (uint32_t)PQnfields(pg),
                                   .rows = (uint32_t)PQntuples(pg),
                                   .refs = 1,
                                   .notices = notices};
    return result;
}

struct evpq_result *evpq__result_of_rows(PGresult *pg, struct evpq__rows *copied,
                                         struct evpq__notices *notices)
{
    struct evpq_result *result = evpq__result_new(pg, notices);
    if (!result) {
        evpq__rows_free(copied);
        return NULL;
    }
    result->copied = copied;
    result->rows = copied->count;
    return result;
}

size_t evpq__result_bytes(const struct evpq_result *result)
{
    return result->copied ? evpq__rows_bytes(result->copied) : PQresultMemorySize(result->pg);
}

void evpq__result_show(struct evpq_result *result, uint32_t rows, uint32_t columns, bool reversed)
{
    if (rows < result->rows)
        result->rows = rows;
    if (columns < result->columns)
        result->columns = columns;
    result->reversed = reversed;
}

evpq_result *evpq_result_keep(evpq_result *result)
{
    if (result)
        result->refs++;
    return result;
}

void evpq_result_free(evpq_result *result)
{
    if (!result || --result->refs > 0)
        return;
    PQclear(result->pg);
    evpq__rows_free(result->copied);
    evpq__notices_unref(result->notices);
    evpq__free(result);
}

/* ---- what it is; libpq reports a notice for an index out of range, so none goes there ---- */

uint32_t evpq_result_rows(const evpq_result *result)
{
    return result ? result->rows : 0;
}

uint32_t evpq_result_columns(const evpq_result *result)
{
    return result ? result->columns : 0;
}

uint64_t evpq_result_affected(const evpq_result *result)
{
    if (!result)
        return 0;
    return result->affected ? result->affected : strtoull(PQcmdTuples(result->pg), NULL, 10);
}

const char *evpq_result_column_name(const evpq_result *result, uint32_t column)
{
    return column < evpq_result_columns(result) ? PQfname(result->pg, (int)column) : NULL;
}

uint32_t evpq_result_column_type(const evpq_result *result, uint32_t column)
{
    return column < evpq_result_columns(result) ? PQftype(result->pg, (int)column) : 0;
}

int evpq_result_column_index(const evpq_result *result, const char *name)
{
    /* Not PQfnumber(): it folds case. */
    uint32_t columns = name ? evpq_result_columns(result) : 0;
    for (uint32_t i = 0; i < columns; i++)
        if (strcmp(PQfname(result->pg, (int)i), name) == 0)
            return (int)i;
    return -1;
}

int evpq_result_format(const evpq_result *result)
{
    if (!result)
        return EVPQ_FORMAT_DEFAULT;
    return evpq_result_columns(result) && !PQbinaryTuples(result->pg) ? EVPQ_TEXT : EVPQ_BINARY;
}

bool evpq_result_is_null(const evpq_result *result, uint32_t row, uint32_t column)
{
    if (row >= evpq_result_rows(result) || column >= evpq_result_columns(result))
        return true;
    if (result->copied)
        return evpq__rows_cell(result->copied, row, column)->length < 0;
    return PQgetisnull(result->pg, evpq__result_row(result, row), (int)column);
}

/* For who wants libpq's: the rows stay where they are, for texts may have been asked for. */
const struct pg_result *evpq_result_pgresult(const evpq_result *result)
{
    if (!result || !result->copied || PQntuples(result->pg) == (int)result->rows)
        return result ? result->pg : NULL;
    PGresult *all = evpq__rows_as_result(result->copied, result->pg);
    if (!all)
        return NULL;
    PQclear(result->pg);
    ((struct evpq_result *)result)->pg = all;
    return all;
}

/* ---- errors ---- */

/* A copy without white space at its end; NULL when nothing is left, or without memory. */
static char *trimmed(const char *text)
{
    char *copy = evpq__strdup(text);
    size_t length = copy ? strlen(copy) : 0;
    while (length && isspace((unsigned char)copy[length - 1]))
        copy[--length] = '\0';
    if (length)
        return copy;
    evpq__free(copy);
    return NULL;
}

void evpq__result_error(struct evpq_error *err, evpq_code code, evpq_fate fate, const PGresult *pg,
                        const char *message)
{
    const char *primary = PQresultErrorField(pg, PG_DIAG_MESSAGE_PRIMARY);
    const char *position = PQresultErrorField(pg, PG_DIAG_STATEMENT_POSITION);
    char tidy[512], sqlstate[6];
    evpq__pq_tidy_message(primary ? "" : PQresultErrorMessage(pg), tidy, sizeof(tidy), sqlstate);
    char *own = message ? NULL : trimmed(primary ? primary : tidy);
    evpq__error_set_report(err, code, fate,
                           &(struct evpq__server_report){
                               .message = message ? message : own,
                               .sqlstate = PQresultErrorField(pg, PG_DIAG_SQLSTATE),
                               .severity = evpq__pq_severity(pg),
                               .detail = PQresultErrorField(pg, PG_DIAG_MESSAGE_DETAIL),
                               .hint = PQresultErrorField(pg, PG_DIAG_MESSAGE_HINT),
                               .constraint = PQresultErrorField(pg, PG_DIAG_CONSTRAINT_NAME),
                               .position = position ? (uint32_t)strtoul(position, NULL, 10) : 0});
    evpq__free(own);
}

/* ---- notices ---- */

struct evpq__notices *evpq__notices_new(void)
{
    struct evpq__notices *notices = evpq__alloc(sizeof(*notices));
    if (notices)
        notices->refs = 1;
    return notices;
}

void evpq__notices_ref(struct evpq__notices *notices)
{
    if (notices)
        notices->refs++;
}

void evpq__notices_unref(struct evpq__notices *notices)
{
    if (notices && --notices->refs == 0)
        evpq__free(notices);
}

static bool any_of(const char *text, const char *const *list)
{
    for (; text && *list; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

/* "message type 0x44 arrived from server while idle": libpq may translate the words, not the
 * number. */
static bool lost_its_place(const char *message)
{
    return message && strstr(message, "0x");
}

void evpq__notices_receive(void *arg, const PGresult *notice)
{
    static const char *const severities[] = {"FATAL", "PANIC", NULL};
    /* admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped,
     * idle_session_timeout: the session ends, whatever the severity. */
    static const char *const states[] = {"57P01", "57P02", "57P03", "57P04", "57P05", NULL};
    struct evpq__notices *notices = arg;
    if (!notices)
        return;
    const char *sqlstate = PQresultErrorField(notice, PG_DIAG_SQLSTATE); /* NULL: libpq's own */
    if (any_of(evpq__pq_severity(notice), severities) ||
        any_of(sqlstate, states) ||
        (!sqlstate && lost_its_place(PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY))))
        notices->fatal = true;
}
