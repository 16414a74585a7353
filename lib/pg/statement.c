/* SPDX-License-Identifier: MIT */
#include "pg/statement.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* As much as the server takes in one message. */
#define SQL_LIMIT ((size_t)0x3fffffff)

/* Bytes of the statement, the NUL not counted. */
static size_t sql_length(const evpq_query *q)
{
    return q->sql_length ? q->sql_length : strlen(q->sql);
}

const char *evpq__query_read(evpq_query *out, const evpq_query *query)
{
    if (!query)
        return "the query is NULL";
    const char *problem = evpq__options_read(out, sizeof(*out), query);
    if (problem)
        return problem;
    if (!out->sql)
        return "sql is NULL or empty";
    size_t given = out->sql_length;
    out->sql_length = sql_length(out);
    if (out->sql_length == 0)
        return "sql is NULL or empty";
    if (out->sql_length > SQL_LIMIT)
        return "sql of more than 1 GiB";
    if (given && memchr(out->sql, '\0', out->sql_length))
        return "sql with a NUL inside";
    if (out->format < EVPQ_FORMAT_DEFAULT || out->format > EVPQ_TEXT)
        return "format is none of evpq_format";
    if (!evpq__switch_valid(out->server_timeout))
        return "server_timeout is none of evpq_switch";
    if (!evpq__switch_valid(out->prepare))
        return "prepare is none of evpq_switch";
    return evpq__params_problem(out->params, out->params_count);
}

const char *evpq_query_problem(const evpq_query *query)
{
    evpq_query complete;
    return evpq__query_read(&complete, query);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

/* Behind blanks, comments (which nest) and empty statements. */
static const char *first_word(const char *sql)
{
    unsigned depth = 0;
    for (; *sql; sql++) {
        if (strncmp(sql, "/*", 2) == 0) {
            depth++;
            sql++;
        } else if (depth > 0) {
            if (strncmp(sql, "*/", 2) == 0) {
                depth--;
                sql++;
            }
        } else if (strncmp(sql, "--", 2) == 0) {
            sql += strcspn(sql, "\r\n");
            if (!*sql)
                break;
        } else if (!strchr(" \t\r\n\v\f;", *sql)) {
            break;
        }
    }
    return sql;
}

enum evpq__statement_kind evpq__statement_kind_of(const char *sql)
{
    static const struct {
        const char *word;
        enum evpq__statement_kind kind;
    } words[] = {{"ABORT", EVPQ__OWN},   {"BEGIN", EVPQ__BEGINS}, {"COMMIT", EVPQ__COMMITS},
                 {"COPY", EVPQ__OWN},    {"END", EVPQ__COMMITS},  {"PREPARE", EVPQ__OWN},
                 {"RELEASE", EVPQ__OWN}, {"ROLLBACK", EVPQ__OWN}, {"SAVEPOINT", EVPQ__OWN},
                 {"START", EVPQ__BEGINS}};
    sql = first_word(sql);
    /* Most begin with SELECT, which needs no further look. */
    if ((sql[0] | 0x20) == 's' && (sql[1] | 0x20) == 'e')
        return EVPQ__ORDINARY;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t length = strlen(words[i].word);
        if ((sql[0] | 0x20) == (words[i].word[0] | 0x20) &&
            strncasecmp(sql, words[i].word, length) == 0 && !is_word(sql[length]))
            return words[i].kind;
    }
    return EVPQ__ORDINARY;
}
