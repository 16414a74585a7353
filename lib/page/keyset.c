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
 * Where a column is never NULL there is only c > v, so that an order of one direction is one range.
 *
 * "IS NULL" looks into a row: ROW(1, NULL) is neither NULL nor NOT NULL, and has its place among
 * the values. So where a key may be of a composite type it is "IS NOT DISTINCT FROM NULL", which no
 * index serves.
 *
 * A page backward is the page of the opposite order: every direction and every place of NULLs is
 * turned round. One that includes its boundary compares with "or equal" where it ends in a
 * comparison, and has one more branch else, in which all keys equal it.
 *
 * A page that must not pass a second boundary, *until*, is cut off exactly by the rows backward
 * from there, itself included: their branches, with OR between them, are a filter of each branch.
 * So that no branch reads on behind it, the first key in which both boundaries differ gets a bound
 * of its own, and those before it are known to be equal. Where the filter is one comparison it is
 * that bound. What a page may read in vain is rows that equal `until` in that one key; the next
 * page has it among the equal ones.
 */

#include "page/keyset.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

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

/* A boundary, and on which side of it rows are wanted. */
struct side {
    const bool *nulls, *rows; /* nulls == NULL: there is no such boundary */
    bool backward, inclusive;
    size_t params; /* in front of its own */
};

/* All that a page's statement is made of. */
struct page {
    const struct evpq__paged *paged;
    const struct evpq__keyset *keyset;
    struct side behind, until;
    size_t shared; /* leading keys that are the same in both */
    bool by_offset;
    size_t offset;
    bool keys_only; /* all of them, in no order and without an end */
};

static bool side_descends(const struct page *p, const struct side *side, size_t i)
{
    return p->keyset->keys[i].descending != side->backward;
}

static bool side_nulls_first(const struct page *p, const struct side *side, size_t i)
{
    return p->keyset->keys[i].nulls_first != side->backward;
}

static bool descends(const struct page *p, size_t i)
{
    return side_descends(p, &p->behind, i);
}

static bool nulls_first(const struct page *p, size_t i)
{
    return side_nulls_first(p, &p->behind, i);
}

static void put_key(struct text *text, const struct page *p, size_t i)
{
    put(text, evpq__key_value(p->keyset, i));
    put(text, evpq__key_collate(p->keyset, i));
}

/* The key outside the page's own SELECT: a hidden one goes by the name it was given. */
static void put_outer_key(struct text *text, const struct page *p, size_t i)
{
    if (!p->keyset->keys[i].hidden && !p->keys_only) {
        put_key(text, p, i);
        return;
    }
    put_number(text, "evpq_key_", i + 1);
    put(text, evpq__key_collate(p->keyset, i));
}

/* Whatever is handed over, as evpq_key_1, evpq_key_2, ... */
static void put_keys_head(struct text *text, const struct page *p)
{
    for (size_t i = 0; i < p->keyset->count; i++) {
        put(text, i == 0 ? "SELECT " : ", ");
        put(text, evpq__key_value(p->keyset, i));
        put_number(text, " AS evpq_key_", i + 1);
    }
    put(text, " FROM (\n");
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
    if (p->keys_only)
        put_keys_head(text, p);
    else
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
}

static void put_order_and_limit(struct text *text, const struct page *p, put_key_fn *put_it)
{
    put_order(text, p, put_it);
    put_number(text, " LIMIT ", p->paged->rows);
}

struct branch {
    size_t equal; /* leading keys that equal the boundary */
    enum { BRANCH_COMPARE, BRANCH_IS_NULL, BRANCH_IS_NOT_NULL, BRANCH_EQUAL, BRANCH_ALL } next;
    size_t compared; /* keys of the row comparison */
    bool or_equal;
};

enum { BRANCHES_MAX = 2 * EVPQ__KEYS_MAX + 1 };

static size_t plan_branches(struct branch *out, const struct page *p, const struct side *side)
{
    size_t count = 0;
    struct branch *compare = NULL;
    for (size_t i = p->shared; i < p->keyset->count; i++) {
        if (side->nulls[i]) {
            compare = NULL;
            if (side_nulls_first(p, side, i))
                out[count++] = (struct branch){.equal = i, .next = BRANCH_IS_NOT_NULL};
            continue;
        }
        if (!compare || side_descends(p, side, i) != side_descends(p, side, i - 1)) {
            compare = &out[count++];
            *compare = (struct branch){.equal = i, .next = BRANCH_COMPARE};
        }
        compare->compared++;
        if (!side_nulls_first(p, side, i) && !p->keyset->keys[i].not_null)
            out[count++] = (struct branch){.equal = i, .next = BRANCH_IS_NULL};
    }
    if (side->inclusive && compare)
        compare->or_equal = true;
    else if (side->inclusive)
        out[count++] = (struct branch){.equal = p->keyset->count, .next = BRANCH_EQUAL};
    return count;
}

/* From the start: NULLs that come first are a range of their own. */
static size_t plan_start(struct branch *out, const struct page *p)
{
    if (!p->until.nulls || !nulls_first(p, 0) || p->keyset->keys[0].not_null) {
        out[0] = (struct branch){.next = BRANCH_ALL};
        return 1;
    }
    out[0] = (struct branch){.next = BRANCH_IS_NULL};
    out[1] = (struct branch){.next = BRANCH_IS_NOT_NULL};
    return p->until.nulls[0] ? 1 : 2;
}

/* Are all rows of the branch behind `until`? The first key in which it differs is NULL in them and
 * not there, and NULLs come last. */
static bool is_beyond(const struct page *p, const struct branch *branch)
{
    return p->until.nulls && branch->next == BRANCH_IS_NULL && branch->equal == p->shared &&
           !p->until.nulls[p->shared] && !nulls_first(p, p->shared);
}

static size_t plan(struct branch out[BRANCHES_MAX], const struct page *p)
{
    size_t count = p->behind.nulls ? plan_branches(out, p, &p->behind) : plan_start(out, p);
    size_t left = 0;
    for (size_t i = 0; i < count; i++)
        if (!is_beyond(p, &out[i]))
            out[left++] = out[i];
    return left;
}

static void put_param(struct text *text, const struct page *p, const struct side *side, size_t key)
{
    size_t number = p->paged->params_count + side->params + 1;
    for (size_t i = 0; i < key; i++)
        number += side->nulls[i] ? 0 : 1;
    put_number(text, "$", number);
}

static void put_compare(struct text *text, const struct page *p, const struct side *side,
                        const struct branch *branch)
{
    size_t first = branch->equal, count = branch->compared;
    put(text, count > 1 ? "(" : "");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? ", " : "");
        put_key(text, p, first + i);
    }
    put(text, count > 1 ? ")" : "");
    put(text, side_descends(p, side, first) ? " <" : " >");
    put(text, branch->or_equal ? "= " : " ");
    put(text, count > 1 ? "(" : "");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? ", " : "");
        put_param(text, p, side, first + i);
    }
    put(text, count > 1 ? ")" : "");
}

static void put_null_test(struct text *text, const struct page *p, size_t i, bool is_null)
{
    put_key(text, p, i);
    if ((p->behind.rows && p->behind.rows[i]) || (p->until.rows && p->until.rows[i]))
        put(text, is_null ? " IS NOT DISTINCT FROM NULL" : " IS DISTINCT FROM NULL");
    else
        put(text, is_null ? " IS NULL" : " IS NOT NULL");
}

/* What its rows have in common, but for the first `known` keys. */
static void put_condition(struct text *text, const struct page *p, const struct side *side,
                          const struct branch *branch, size_t known)
{
    for (size_t i = known; i < branch->equal; i++) {
        put(text, i > known ? " AND " : "");
        if (side->nulls[i]) {
            put_null_test(text, p, i, true);
        } else {
            put_key(text, p, i);
            put(text, " = ");
            put_param(text, p, side, i);
        }
    }
    put(text, branch->equal > known && branch->next != BRANCH_EQUAL ? " AND " : "");
    if (branch->next == BRANCH_COMPARE)
        put_compare(text, p, side, branch);
    else if (branch->next != BRANCH_EQUAL)
        put_null_test(text, p, branch->equal, branch->next == BRANCH_IS_NULL);
}

/* The first key in which the boundaries differ is at most that of `until`, where the branch has it
 * as a range. */
static void put_bound(struct text *text, const struct page *p, const struct branch *branch)
{
    if (branch->equal != p->shared || branch->next == BRANCH_IS_NULL || p->until.nulls[p->shared])
        return;
    struct branch bound = {
        .equal = p->shared, .next = BRANCH_COMPARE, .compared = 1, .or_equal = true};
    put_compare(text, p, &p->until, &bound);
    put(text, " AND ");
}

static void put_until(struct text *text, const struct page *p, const struct branch *branch)
{
    struct branch ends[BRANCHES_MAX];
    size_t count = plan_branches(ends, p, &p->until);
    if (count > 1) {
        put_bound(text, p, branch);
        put(text, "(");
    }
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? " OR " : "");
        put_condition(text, p, &p->until, &ends[i], p->shared);
    }
    put(text, count > 1 ? ")" : "");
}

static void put_branch(struct text *text, const struct page *p, const struct branch *branch)
{
    put_paged(text, p);
    if (branch->next != BRANCH_ALL) {
        put(text, " WHERE ");
        put_condition(text, p, &p->behind, branch, 0);
    }
    if (p->until.nulls && p->shared < p->keyset->count) {
        put(text, branch->next != BRANCH_ALL ? " AND " : " WHERE ");
        put_until(text, p, branch);
    }
    if (!p->keys_only)
        put_order_and_limit(text, p, put_key);
}

static void put_ordered(struct text *text, const struct page *p)
{
    struct branch branches[BRANCHES_MAX];
    size_t count = plan(branches, p);
    if (count == 0) { /* nothing comes after a boundary that is NULL in all keys, NULLs last */
        put_paged(text, p);
        put(text, " WHERE false");
        put_order_and_limit(text, p, put_key);
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
    put_order_and_limit(text, p, put_outer_key);
}

static void put_sample(struct text *text, const struct page *p)
{
    struct branch branches[BRANCHES_MAX];
    size_t count = plan(branches, p);
    put(text, "SELECT * FROM (SELECT * FROM (\n");
    for (size_t i = 0; i < count; i++) {
        put(text, i > 0 ? "\nUNION ALL\n(" : "(");
        put_branch(text, p, &branches[i]);
        put(text, ")");
    }
    if (count == 0) { /* as for a page */
        put_paged(text, p);
        put(text, " WHERE false");
    }
    put_number(text, "\n) AS evpq_page ORDER BY pg_catalog.random() LIMIT ", p->paged->rows);
    put(text, ") AS evpq_sample");
    put_order(text, p, put_outer_key);
}

static void put_page(struct text *text, const struct page *p)
{
    if (p->keys_only) {
        put_sample(text, p);
        return;
    }
    if (!p->by_offset) {
        put_ordered(text, p);
        return;
    }
    put_paged(text, p);
    put_order_and_limit(text, p, put_key);
    put_number(text, " OFFSET ", p->offset);
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

static char *between_sql(struct page page, const struct evpq__cut *cut)
{
    const struct evpq__keyset *keyset = page.keyset;
    page.behind = (struct side){cut->nulls, cut->rows, cut->backward, cut->inclusive, 0};
    page.until = (struct side){cut->until_nulls, cut->until_rows, true, true, 0};
    for (size_t i = 0; cut->nulls && i < keyset->count; i++)
        page.until.params += !cut->nulls[i];
    page.shared = cut->nulls && cut->until_nulls ? cut->until_shared : 0;
    return page_sql(&page);
}

char *evpq__keyset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const struct evpq__cut *cut)
{
    return between_sql((struct page){.paged = paged, .keyset = keyset}, cut);
}

char *evpq__sample_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const struct evpq__cut *cut)
{
    return between_sql((struct page){.paged = paged, .keyset = keyset, .keys_only = true}, cut);
}

char *evpq__offset_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       size_t offset)
{
    return page_sql(
        &(struct page){.paged = paged, .keyset = keyset, .by_offset = true, .offset = offset});
}

char *evpq__cursor_sql(const struct evpq__paged *paged, const struct evpq__keyset *keyset,
                       const char *declare)
{
    struct page page = {.paged = paged, .keyset = keyset};
    struct text text = {.to = NULL};
    for (int pass = 0; pass < 2; pass++) {
        put(&text, declare);
        put_paged(&text, &page);
        put_order(&text, &page, put_key);
        if (pass == 0)
            text = (struct text){.to = evpq__alloc(text.length + 1)};
        if (!text.to)
            return NULL;
    }
    return text.to;
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
