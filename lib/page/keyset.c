/* SPDX-License-Identifier: MIT */

/*
 * The statement is wrapped and never edited; a line feed behind it ends a comment it may end with.
 * The page behind a boundary is the union of disjoint *branches*. Each says: these leading keys
 * equal the boundary, and the next is behind it. That makes each an exact range of an index, read
 * for one page at most, where the same condition written with OR would read the whole table.
 *
 * What is behind a value v, in the direction of the key:
 *
 *                     v is not NULL           v is NULL
 *     NULLS LAST      c > v, c IS NULL        nothing
 *     NULLS FIRST     c > v                   c IS NOT NULL
 *
 * The c > v of neighbours of one direction are one row comparison: (a, b) > (v, w) is true where
 * a > v, whatever b is, and where a = v and b > w; where a = v and b is NULL it is not true, and
 * the branch a = v AND b IS NULL has that row when NULLs are last.
 *
 * "IS NULL" looks into a row: ROW(1, NULL) is neither NULL nor NOT NULL, and has its place among
 * the values. So where a key may be of a composite type it is "IS NOT DISTINCT FROM NULL", which no
 * index serves.
 *
 * A page backward is the page of the opposite order: every direction and every place of NULLs is
 * turned round. One that includes its boundary has one more branch, in which all keys equal it.
 */

#include "page/keyset.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

size_t evpq__statement_length(const char *sql)
{
    size_t length = strlen(sql);
    while (length > 0 && strchr(" \t\n\v\f\r;", sql[length - 1]))
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

/* All that a page's statement is made of. */
struct page {
    const struct evpq__paged *paged;
    const struct evpq__keyset *keyset;
    const struct evpq__cut *cut;
};

static bool descends(const struct page *p, size_t i)
{
    return p->keyset->keys[i].descending != p->cut->backward;
}

static bool nulls_first(const struct page *p, size_t i)
{
    return p->keyset->keys[i].nulls_first != p->cut->backward;
}

static void put_key(struct text *text, const struct page *p, size_t i)
{
    put(text, evpq__key_value(p->keyset, i));
    put(text, evpq__key_collate(p->keyset, i));
}

/* The key outside the page's own SELECT: a hidden one goes by the name it was given. */
static void put_outer_key(struct text *text, const struct page *p, size_t i)
{
    if (!p->keyset->keys[i].hidden) {
        put_key(text, p, i);
        return;
    }
    put_number(text, "evpq_key_", i + 1);
    put(text, evpq__key_collate(p->keyset, i));
}

static void put_head(struct text *text, const struct page *p)
{
    bool hides = false;
    for (size_t i = 0; i < p->keyset->count; i++)
        hides = hides || p->keyset->keys[i].hidden;
    put(text, "SELECT ");
    put(text, p->paged->columns[0] ? p->paged->columns : hides ? "evpq_page.*" : "*");
    for (size_t i = 0; i < p->keyset->count; i++) {
        if (!p->keyset->keys[i].hidden)
            continue;
        put(text, ", ");
        put(text, evpq__key_value(p->keyset, i));
        put_number(text, " AS evpq_key_", i + 1);
    }
    put(text, " FROM (\n");
}

static void put_paged(struct text *text, const struct page *p)
{
    put_head(text, p);
    put_bytes(text, p->paged->sql, p->paged->sql_length);
    put(text, "\n) AS evpq_page");
}

typedef void put_key_fn(struct text *text, const struct page *p, size_t i);

static void put_order(struct text *text, const struct page *p, put_key_fn *put_it)
{
    for (size_t i = 0; i < p->keyset->count; i++) {
        put(text, i == 0 ? " ORDER BY " : ", ");
        put_it(text, p, i);
        put(text, descends(p, i) ? " DESC" : "");
        if (nulls_first(p, i) != descends(p, i))
            put(text, nulls_first(p, i) ? " NULLS FIRST" : " NULLS LAST");
    }
    put_number(text, " LIMIT ", p->paged->rows);
}

struct branch {
    size_t equal; /* leading keys that equal the boundary */
    enum { BRANCH_COMPARE, BRANCH_IS_NULL, BRANCH_IS_NOT_NULL, BRANCH_EQUAL } next;
    size_t compared; /* keys of the row comparison */
};

enum { BRANCHES_MAX = 2 * EVPQ__KEYS_MAX + 1 };

static size_t plan_branches(struct branch *out, const struct page *p)
{
    size_t count = 0;
    struct branch *compare = NULL;
    if (p->cut->inclusive)
        out[count++] = (struct branch){p->keyset->count, BRANCH_EQUAL, 0};
    for (size_t i = 0; i < p->keyset->count; i++) {
        if (p->cut->nulls[i]) {
            compare = NULL;
            if (nulls_first(p, i))
                out[count++] = (struct branch){i, BRANCH_IS_NOT_NULL, 0};
            continue;
        }
        if (!compare || descends(p, i) != descends(p, i - 1)) {
            compare = &out[count++];
            *compare = (struct branch){i, BRANCH_COMPARE, 0};
        }
        compare->compared++;
        if (!nulls_first(p, i))
            out[count++] = (struct branch){i, BRANCH_IS_NULL, 0};
    }
    return count;
}

static void put_param(struct text *text, const struct page *p, size_t key)
{
    size_t number = p->paged->params_count + 1;
    for (size_t i = 0; i < key; i++)
        number += p->cut->nulls[i] ? 0 : 1;
    put_number(text, "$", number);
}

static void put_compare(struct text *text, const struct page *p, size_t first, size_t count)
{
    put(text, count > 1 ? "(" : "");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? ", " : "");
        put_key(text, p, first + i);
    }
    put(text, count > 1 ? ")" : "");
    put(text, descends(p, first) ? " < " : " > ");
    put(text, count > 1 ? "(" : "");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? ", " : "");
        put_param(text, p, first + i);
    }
    put(text, count > 1 ? ")" : "");
}

static void put_null_test(struct text *text, const struct page *p, size_t i, bool is_null)
{
    put_key(text, p, i);
    if (p->cut->rows && p->cut->rows[i])
        put(text, is_null ? " IS NOT DISTINCT FROM NULL" : " IS DISTINCT FROM NULL");
    else
        put(text, is_null ? " IS NULL" : " IS NOT NULL");
}

static void put_branch(struct text *text, const struct page *p, const struct branch *branch)
{
    put_paged(text, p);
    put(text, " WHERE ");
    for (size_t i = 0; i < branch->equal; i++) {
        put(text, i > 0 ? " AND " : "");
        if (p->cut->nulls[i]) {
            put_null_test(text, p, i, true);
        } else {
            put_key(text, p, i);
            put(text, " = ");
            put_param(text, p, i);
        }
    }
    put(text, branch->equal && branch->next != BRANCH_EQUAL ? " AND " : "");
    if (branch->next == BRANCH_COMPARE)
        put_compare(text, p, branch->equal, branch->compared);
    else if (branch->next != BRANCH_EQUAL)
        put_null_test(text, p, branch->equal, branch->next == BRANCH_IS_NULL);
    put_order(text, p, put_key);
}

static void put_behind(struct text *text, const struct page *p)
{
    struct branch branches[BRANCHES_MAX];
    size_t count = plan_branches(branches, p);
    if (count == 0) { /* the boundary is NULL in all keys, and NULLs are last */
        put_paged(text, p);
        put(text, " WHERE false");
        put_order(text, p, put_key);
        return;
    }
    if (count == 1) {
        put_branch(text, p, branches);
        return;
    }
    put(text, "SELECT * FROM (\n");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? "\nUNION ALL\n(" : "(");
        put_branch(text, p, &branches[i]);
        put(text, ")");
    }
    put(text, "\n) AS evpq_page");
    put_order(text, p, put_outer_key);
}

static void put_page(struct text *text, const struct page *p)
{
    if (p->cut->nulls) {
        put_behind(text, p);
        return;
    }
    put_paged(text, p);
    put_order(text, p, put_key);
    if (p->cut->by_offset)
        put_number(text, " OFFSET $", p->paged->params_count + 1);
}

static char *page_sql(const struct page *p)
{
    struct text text = {0};
    put_page(&text, p);
    text = (struct text){.to = evpq__alloc(text.length + 1)};
    if (text.to)
        put_page(&text, p);
    return text.to;
}

char *evpq__keyset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const struct evpq__cut *cut)
{
    return page_sql(&(struct page){paged, keyset, cut});
}

char *evpq__offset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset)
{
    return page_sql(&(struct page){paged, keyset, &(struct evpq__cut){.by_offset = true}});
}

size_t evpq__page_head(const struct evpq__paged *paged, const struct evpq__keyset *keyset)
{
    char head[8192];
    struct text text = {.to = NULL};
    struct page page = {.paged = paged, .keyset = keyset};
    put_head(&text, &page);
    if (text.length > sizeof(head))
        return text.length;
    text = (struct text){.to = head};
    put_head(&text, &page);
    size_t characters = 0;
    for (size_t i = 0; i < text.length; i++)
        characters += (head[i] & 0xC0) != 0x80;
    return characters;
}
