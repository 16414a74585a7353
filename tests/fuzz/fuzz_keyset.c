/* SPDX-License-Identifier: MIT */

/*
 * order_by and the SQL made of it. Of columns there is nothing outside of quotes
 * but evpq's own words, and inside there are their names. An expression cannot
 * end before its parenthesis does.
 */

#include "base/mem.h"
#include "fuzz.h"
#include "page/keyset.h"
#include "page/lex.h"

static const char statement[] = "SELECT 1";

static const char *const words[] = {
    "SELECT", "FROM",  "AS",     "evpq_page", "WHERE", "AND", "IS",   "NOT",
    "NULL",   "NULLS", "FIRST",  "LAST",      "ORDER", "BY",  "DESC", "UNION",
    "ALL",    "LIMIT", "OFFSET", "false",     "1",     "100", "OR",
};

static int is_name_of(const struct evpq__keyset *keyset, const char *name)
{
    for (size_t i = 0; i < keyset->count; i++)
        if (strcmp(keyset->keys[i].name, name) == 0)
            return 1;
    return 0;
}

/* Reads a quoted name as the server does. */
static const char *read_quoted(const char *at, char name[EVPQ__NAME_MAX + 1])
{
    size_t length = 0;
    for (at++;; at++) {
        if (*at == '"' && *++at != '"')
            break;
        CHECK(*at && length < EVPQ__NAME_MAX);
        name[length++] = *at;
    }
    name[length] = '\0';
    return at;
}

/* The highest number of a parameter in it. */
static unsigned long check_sql(const char *sql, const struct evpq__keyset *keyset)
{
    unsigned long highest = 0;
    int depth = 0;
    for (const char *at = sql; *at;) {
        size_t length =
            strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
        if (*at == '"') {
            char name[EVPQ__NAME_MAX + 1];
            at = read_quoted(at, name);
            CHECK(is_name_of(keyset, name));
        } else if (*at == '$') {
            char *end;
            unsigned long number = strtoul(at + 1, &end, 10);
            CHECK(end > at + 1);
            highest = number > highest ? number : highest;
            at = end;
        } else if (length > 0) {
            size_t i = 0;
            while (i < sizeof(words) / sizeof(*words) &&
                   (strlen(words[i]) != length || strncmp(words[i], at, length) != 0))
                i++;
            CHECK(i < sizeof(words) / sizeof(*words));
            at += length;
        } else {
            CHECK(strchr(" \n(),*<>=", *at));
            depth += (*at == '(') - (*at == ')');
            CHECK(depth >= 0);
            at++;
        }
    }
    CHECK(depth == 0);
    return highest;
}

static bool all_columns(const struct evpq__keyset *keyset)
{
    for (size_t i = 0; i < keyset->count; i++)
        if (!keyset->keys[i].name[0] || evpq__key_collate(keyset, i)[0])
            return false;
    return true;
}

/* Reads it as the server would: quotes end, parentheses match, and nothing ends it early. */
static void check_closed(const char *sql)
{
    int depth = 0;
    for (const char *at = sql; *at; at++) {
        char quote = *at;
        CHECK(quote != ';' && quote != '\\');
        CHECK(!(at[0] == '-' && at[1] == '-') && !(at[0] == '/' && at[1] == '*'));
        depth += (quote == '(') - (quote == ')');
        CHECK(depth >= 0);
        if (quote != '\'' && quote != '"')
            continue;
        for (at++; *at != quote || at[1] == quote; at += *at == quote ? 2 : 1)
            CHECK(*at && !(*at == '\\' && quote == '\''));
    }
    CHECK(depth == 0);
}

static size_t values_in(const struct evpq__keyset *keyset, const bool *nulls)
{
    size_t count = 0;
    for (size_t i = 0; nulls && i < keyset->count; i++)
        count += !nulls[i];
    return count;
}

static void check_page(const struct evpq__keyset *keyset, const bool *nulls, const bool *until,
                       size_t params)
{
    struct evpq__paged paged = {.sql = statement,
                                .sql_length = strlen(statement),
                                .columns = "",
                                .params_count = params,
                                .rows = 100};
    size_t alike = 0;
    while (nulls && until && alike < keyset->count && nulls[alike] == until[alike])
        alike++;
    for (size_t way = 0; way < 4 + alike; way++) {
        struct evpq__cut cut = {
            .backward = !until && (way & 1), .inclusive = nulls && (way & 2), .nulls = nulls};
        cut.until_nulls = until;
        cut.until_shared = way > 3 ? way - 3 : 0;
        char *sql = evpq__keyset_sql(&paged, keyset, &cut);
        CHECK(sql);
        size_t most = params + values_in(keyset, nulls) + values_in(keyset, until);
        check_closed(sql);
        CHECK(!all_columns(keyset) || check_sql(sql, keyset) <= most);
        evpq__free(sql);
    }
}

/* What was made of it means the same when it is read again; an expression has got parentheses. */
static void check_again(const struct evpq__keyset *keyset)
{
    char order_by[EVPQ__ORDER_TEXT + EVPQ__KEYS_MAX * 32], *to = order_by;
    struct evpq__keyset again;
    for (size_t i = 0; i < keyset->count; i++)
        to += sprintf(to, "%s%s%s %s NULLS %s", i ? "," : "", evpq__key_value(keyset, i),
                      evpq__key_collate(keyset, i), keyset->keys[i].descending ? "DESC" : "ASC",
                      keyset->keys[i].nulls_first ? "FIRST" : "LAST");
    if (strlen(order_by) > EVPQ__ORDER_TEXT / 2)
        return; /* it may have become too long */
    CHECK(!evpq__keyset_parse(&again, order_by));
    CHECK(again.count == keyset->count);
    for (size_t i = 0; i < again.count; i++) {
        const char *value = evpq__key_value(&again, i), *was = evpq__key_value(keyset, i);
        bool column = keyset->keys[i].name[0];
        CHECK(strlen(value) == strlen(was) + (column ? 0 : 2));
        CHECK(strncmp(value + (column ? 0 : 1), was, strlen(was)) == 0);
        CHECK(strcmp(evpq__key_collate(&again, i), evpq__key_collate(keyset, i)) == 0);
        CHECK(strcmp(again.keys[i].name, keyset->keys[i].name) == 0 &&
              again.keys[i].descending == keyset->keys[i].descending &&
              again.keys[i].nulls_first == keyset->keys[i].nulls_first);
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct fuzz_input input = {data, size};
    unsigned mask = fuzz_byte(&input);
    size_t params = fuzz_byte(&input);
    char *text = fuzz_text(&input);
    size_t length = evpq__statement_length(text);
    /* Perhaps a semicolon: of a string that does not end. */
    CHECK(length <= strlen(text) && (length == 0 || !strchr(" \t\n\v\f\r", text[length - 1])));

    struct evpq__keyset keyset;
    const char *problem = evpq__keyset_parse(&keyset, text);
    if (!problem) {
        bool nulls[EVPQ__KEYS_MAX], until[EVPQ__KEYS_MAX];
        CHECK(keyset.count >= 1 && keyset.count <= EVPQ__KEYS_MAX);
        for (size_t i = 0; i < keyset.count; i++) {
            nulls[i] = mask >> i & 1;
            until[i] = params >> i & 1;
            CHECK(strlen(keyset.keys[i].name) <= EVPQ__NAME_MAX);
            for (size_t j = 0; j < i; j++)
                CHECK(strcmp(evpq__key_value(&keyset, i), evpq__key_value(&keyset, j)) != 0 ||
                      strcmp(evpq__key_collate(&keyset, i), evpq__key_collate(&keyset, j)) != 0);
        }
        char columns[1];
        CHECK(!evpq__columns_parse(columns, sizeof(columns), &keyset, NULL));
        check_page(&keyset, NULL, NULL, params);
        check_page(&keyset, nulls, NULL, params);
        check_page(&keyset, NULL, until, params);
        check_page(&keyset, nulls, until, params);
        check_again(&keyset);
    }
    free(text);
    return 0;
}
