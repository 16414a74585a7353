/* SPDX-License-Identifier: MIT */

/*
 * The statement is wrapped and never edited; a line feed behind it ends a comment it may end with.
 * The page behind a boundary is the union of disjoint *branches*. Each says: these leading columns
 * equal the boundary, and the next is behind it. That makes each an exact range of an index, read
 * for one page at most, where the same condition written with OR would read the whole table.
 *
 * What is behind a value v, in the direction of the column:
 *
 *                     v is not NULL           v is NULL
 *     NULLS LAST      c > v, c IS NULL        nothing
 *     NULLS FIRST     c > v                   c IS NOT NULL
 *
 * The c > v of neighbours of one direction are one row comparison: (a, b) > (v, w) is true where
 * a > v, whatever b is, and where a = v and b > w; where a = v and b is NULL it is not true, and
 * the branch a = v AND b IS NULL has that row when NULLs are last.
 */

#include "page/keyset.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_word(char c)
{
    return is_word_start(c) || is_digit(c) || c == '$';
}

/* As PostgreSQL folds names; tolower() would ask the locale. */
static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static void skip_space(const char **at)
{
    while (is_space(**at))
        ++*at;
}

/* Takes the word when it comes next, in any case. */
static bool take_word(const char **at, const char *word)
{
    const char *c = *at;
    for (; *word; word++, c++)
        if (fold(*c) != *word)
            return false;
    if (is_word(*c))
        return false;
    *at = c;
    skip_space(at);
    return true;
}

static const char *parse_name(const char **at, char name[EVPQ__NAME_MAX + 1])
{
    bool quoted = **at == '"';
    if (quoted)
        ++*at;
    size_t length = 0;
    for (;; ++*at) {
        char c = **at;
        if (quoted && c == '"' && (*at)[1] == '"')
            ++*at;
        else if (quoted ? c == '"' || c == '\0' : !is_word(c))
            break;
        if (length == EVPQ__NAME_MAX)
            return "order_by has a name longer than 63 bytes";
        name[length++] = quoted ? c : fold(c);
    }
    name[length] = '\0';
    if (quoted && *(*at)++ == '\0')
        return "order_by has a quoted name that does not end";
    skip_space(at);
    return length == 0 ? "order_by has an empty name" : NULL;
}

static const char *parse_key(const char **at, struct evpq__key *key)
{
    if (**at == '\0' || **at == ',')
        return "order_by has an empty item";
    if (is_digit(**at))
        return "order_by takes names of columns, not numbers";
    if (!is_word_start(**at) && **at != '"')
        return "order_by takes names of columns: name the expression in the statement";
    const char *problem = parse_name(at, key->name);
    if (problem)
        return problem;

    if (take_word(at, "collate"))
        return "order_by takes no COLLATE: put it into the statement";
    if (take_word(at, "using"))
        return "order_by takes no USING, but ASC or DESC";
    if (take_word(at, "desc"))
        key->descending = true;
    else
        take_word(at, "asc");
    key->nulls_first = key->descending;
    if (take_word(at, "nulls")) {
        key->nulls_first = take_word(at, "first");
        if (!key->nulls_first && !take_word(at, "last"))
            return "order_by has NULLS without FIRST or LAST";
    }

    if (**at == '\0' || **at == ',')
        return NULL;
    if (is_word(**at) || **at == '"')
        return "order_by takes ASC, DESC, NULLS FIRST or NULLS LAST behind a name, then a comma";
    return "order_by takes names of columns: name the expression in the statement";
}

const char *evpq__keyset_parse(struct evpq__keyset *out, const char *order_by)
{
    *out = (struct evpq__keyset){0};
    const char *at = order_by;
    for (;;) {
        skip_space(&at);
        if (out->count == EVPQ__KEYS_MAX)
            return "order_by has more than 8 columns";
        struct evpq__key *key = &out->keys[out->count];
        const char *problem = parse_key(&at, key);
        if (problem)
            return problem;
        for (size_t i = 0; i < out->count; i++)
            if (strcmp(out->keys[i].name, key->name) == 0)
                return "order_by has a column twice";
        out->count++;
        if (*at++ == '\0')
            return NULL;
    }
}

size_t evpq__statement_length(const char *sql)
{
    size_t length = strlen(sql);
    while (length > 0 && (is_space(sql[length - 1]) || sql[length - 1] == ';'))
        length--;
    return length;
}

/* Written twice: first only measured, then into the memory for it. */
struct text {
    char *to; /* NULL: measured */
    size_t length;
};

static void put_bytes(struct text *text, const char *bytes, size_t length)
{
    if (text->to)
        memcpy(text->to + text->length, bytes, length);
    text->length += length;
}

static void put(struct text *text, const char *string)
{
    put_bytes(text, string, strlen(string));
}

static void put_number(struct text *text, const char *before, size_t number)
{
    char digits[24];
    snprintf(digits, sizeof(digits), "%zu", number);
    put(text, before);
    put(text, digits);
}

static void put_name(struct text *text, const struct evpq__key *key)
{
    put(text, "\"");
    for (const char *c = key->name; *c; c++)
        put_bytes(text, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1);
    put(text, "\"");
}

static void put_paged(struct text *text, const struct evpq__paged *paged)
{
    put(text, EVPQ__PAGE_HEAD);
    put_bytes(text, paged->sql, paged->sql_length);
    put(text, "\n) AS evpq_page");
}

static void put_order(struct text *text, const struct evpq__paged *paged,
                      const struct evpq__keyset *keyset)
{
    for (size_t i = 0; i < keyset->count; i++) {
        const struct evpq__key *key = &keyset->keys[i];
        put(text, i == 0 ? " ORDER BY " : ", ");
        put_name(text, key);
        put(text, key->descending ? " DESC" : "");
        if (key->nulls_first != key->descending)
            put(text, key->nulls_first ? " NULLS FIRST" : " NULLS LAST");
    }
    put_number(text, " LIMIT ", paged->rows);
}

struct boundary {
    const struct evpq__paged *paged;
    const struct evpq__keyset *keyset;
    const bool *nulls;
};

struct branch {
    size_t equal; /* leading columns that equal the boundary */
    enum { BRANCH_COMPARE, BRANCH_IS_NULL, BRANCH_IS_NOT_NULL } next;
    size_t compared; /* columns of the row comparison */
};

/* At most two for a column. */
static size_t plan_branches(struct branch *out, const struct boundary *b)
{
    const struct evpq__key *keys = b->keyset->keys;
    size_t count = 0;
    struct branch *compare = NULL;
    for (size_t i = 0; i < b->keyset->count; i++) {
        if (b->nulls[i]) {
            compare = NULL;
            if (keys[i].nulls_first)
                out[count++] = (struct branch){i, BRANCH_IS_NOT_NULL, 0};
            continue;
        }
        if (!compare || keys[i].descending != keys[i - 1].descending) {
            compare = &out[count++];
            *compare = (struct branch){i, BRANCH_COMPARE, 0};
        }
        compare->compared++;
        if (!keys[i].nulls_first)
            out[count++] = (struct branch){i, BRANCH_IS_NULL, 0};
    }
    return count;
}

static void put_param(struct text *text, const struct boundary *b, size_t column)
{
    size_t number = b->paged->params_count + 1;
    for (size_t i = 0; i < column; i++)
        number += b->nulls[i] ? 0 : 1;
    put_number(text, "$", number);
}

static void put_compare(struct text *text, const struct boundary *b, size_t first, size_t count)
{
    const struct evpq__key *keys = &b->keyset->keys[first];
    put(text, count > 1 ? "(" : "");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? ", " : "");
        put_name(text, &keys[i]);
    }
    put(text, count > 1 ? ")" : "");
    put(text, keys->descending ? " < " : " > ");
    put(text, count > 1 ? "(" : "");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? ", " : "");
        put_param(text, b, first + i);
    }
    put(text, count > 1 ? ")" : "");
}

static void put_branch(struct text *text, const struct boundary *b, const struct branch *branch)
{
    put_paged(text, b->paged);
    put(text, " WHERE ");
    for (size_t i = 0; i < branch->equal; i++) {
        put_name(text, &b->keyset->keys[i]);
        put(text, b->nulls[i] ? " IS NULL" : " = ");
        if (!b->nulls[i])
            put_param(text, b, i);
        put(text, " AND ");
    }
    if (branch->next == BRANCH_COMPARE) {
        put_compare(text, b, branch->equal, branch->compared);
    } else {
        put_name(text, &b->keyset->keys[branch->equal]);
        put(text, branch->next == BRANCH_IS_NULL ? " IS NULL" : " IS NOT NULL");
    }
    put_order(text, b->paged, b->keyset);
}

static void put_behind(struct text *text, const struct boundary *b)
{
    struct branch branches[2 * EVPQ__KEYS_MAX];
    size_t count = plan_branches(branches, b);
    if (count == 0) { /* the boundary is NULL in all columns, and NULLs are last */
        put_paged(text, b->paged);
        put(text, " WHERE false");
        put_order(text, b->paged, b->keyset);
        return;
    }
    if (count == 1) {
        put_branch(text, b, branches);
        return;
    }
    put(text, EVPQ__PAGE_HEAD);
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? "\nUNION ALL\n(" : "(");
        put_branch(text, b, &branches[i]);
        put(text, ")");
    }
    put(text, "\n) AS evpq_page");
    put_order(text, b->paged, b->keyset);
}

static void put_page(struct text *text, const struct boundary *b)
{
    if (b->nulls) {
        put_behind(text, b);
        return;
    }
    put_paged(text, b->paged);
    put_order(text, b->paged, b->keyset);
    if (b->keyset->count == 0)
        put_number(text, " OFFSET $", b->paged->params_count + 1);
}

static char *page_sql(const struct boundary *b)
{
    struct text text = {0};
    put_page(&text, b);
    text = (struct text){.to = evpq__alloc(text.length + 1)};
    if (text.to)
        put_page(&text, b);
    return text.to;
}

char *evpq__keyset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const bool *nulls)
{
    return page_sql(&(struct boundary){paged, keyset, nulls});
}

char *evpq__offset_sql(const struct evpq__paged *paged)
{
    return page_sql(&(struct boundary){paged, &(struct evpq__keyset){0}, NULL});
}
