/* SPDX-License-Identifier: MIT */
/*
 * What a page brings: rows to show, and the places before the first of them and
 * behind the last. One row more than is shown tells of the page behind it.
 */
#include <evpq/scan.h>
#include <string.h>

#include "page/pager.h"

/* Where the keys are in a result. */
static bool find_columns(const struct evpq_pager *pager, const struct evpq_result *result,
                         int columns[EVPQ__KEYS_MAX], struct evpq_error *err)
{
    int hidden = (int)result->columns;
    for (size_t i = 0; i < evpq__pager_keys(pager); i++)
        hidden -= pager->keyset.keys[i].hidden;
    for (size_t i = 0; i < evpq__pager_keys(pager); i++) {
        const struct evpq__key *key = &pager->keyset.keys[i];
        columns[i] = key->hidden ? hidden++ : evpq_result_column_index(result, key->name);
        if (columns[i] >= 0)
            continue;
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "order column \"%s\" is not a column of the statement", key->name);
        return false;
    }
    return true;
}

static bool cells_equal(const PGresult *pg, int row, int other, int column)
{
    int length = PQgetlength(pg, row, column);
    return PQgetisnull(pg, row, column) == PQgetisnull(pg, other, column) &&
           length == PQgetlength(pg, other, column) &&
           memcmp(PQgetvalue(pg, row, column), PQgetvalue(pg, other, column), (size_t)length) == 0;
}

static bool rows_equal(const PGresult *pg, int row, int other, const int *columns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!cells_equal(pg, row, other, columns[i]))
            return false;
    return count > 0;
}

/* May the type be composite, as far as a result tells? Enums have a fixed size; ranges and what
 * extensions bring are taken for composite, too. */
static bool may_be_composite(const PGresult *pg, int column)
{
    return PQftype(pg, column) >= EVPQ__FIRST_USER_TYPE && PQfsize(pg, column) < 0;
}

struct evpq__place *evpq__place_at(const struct evpq_pager *pager, int64_t offset,
                                   const PGresult *pg, int row, const int *columns, bool before)
{
    evpq_value keys[EVPQ__KEYS_MAX];
    struct evpq__position position = {.keys = keys, .before = before};
    memcpy(position.compare, pager->facts.compare, sizeof(position.compare));
    for (size_t i = 0; i < evpq__pager_keys(pager); i++) {
        int column = columns[i];
        position.nulls[i] = PQgetisnull(pg, row, column);
        position.rows[i] = may_be_composite(pg, column);
        keys[i] = evpq__value_raw(PQftype(pg, column), PQfformat(pg, column) == 1,
                                  position.nulls[i] ? NULL : PQgetvalue(pg, row, column),
                                  (size_t)PQgetlength(pg, row, column));
    }
    position.offset = offset + row + (before ? 0 : 1);
    return evpq__place_new(&position, evpq__pager_keys(pager));
}

/* Around these rows of the result. False without memory. */
static bool move(struct evpq_pager *pager, const struct evpq__ask *ask, const PGresult *pg,
                 const int *columns, int first, int last)
{
    struct evpq__place *before = evpq__place_at(pager, ask->offset, pg, first, columns, true);
    struct evpq__place *behind =
        before ? evpq__place_at(pager, ask->offset, pg, last, columns, false) : NULL;
    if (!behind) {
        evpq__place_free(before);
        return false;
    }
    evpq__place_free(pager->before);
    evpq__place_free(pager->behind);
    pager->before = before;
    pager->behind = behind;
    return true;
}

static uint32_t hidden_columns(const struct evpq_pager *pager)
{
    uint32_t count = 0;
    for (size_t i = 0; i < evpq__pager_keys(pager); i++)
        count += pager->keyset.keys[i].hidden;
    return count;
}

void evpq__page_take(struct evpq_page *page, struct evpq_pager *pager, const struct evpq__ask *ask,
                     struct evpq_result *result, struct evpq_error *err)
{
    uint32_t rows = evpq_result_rows(result), columns_shown = evpq_result_columns(result);
    uint32_t shown = rows < ask->rows ? rows : ask->rows;
    int columns[EVPQ__KEYS_MAX];
    int last = (int)shown - 1;
    size_t keys = evpq__pager_keys(pager);
    bool began_inside = ask->from != NULL;
    if (!find_columns(pager, result, columns, err))
        return;
    if (rows > shown && shown > 0 && rows_equal(result->pg, last, last + 1, columns, keys)) {
        evpq__error_set(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                        "rows %u and %u are equal in all order columns: "
                        "add a unique column to order_by",
                        shown, shown + 1);
        return;
    }
    bool reversed = ask->backward && keys > 0;
    if (shown > 0 &&
        !move(pager, ask, result->pg, columns, reversed ? last : 0, reversed ? 0 : last)) {
        evpq__error_set(err, EVPQ_ENOMEM, EVPQ_ROLLED_BACK, "%s", evpq_code_text(EVPQ_ENOMEM));
        return;
    }
    evpq__result_show(result, shown, columns_shown - hidden_columns(pager), reversed);
    *page = (struct evpq_page){.pager = pager, .result = result};
    page->has_next = ask->backward && !pager->cursor ? began_inside : rows > shown;
    page->has_prev = reversed ? rows > shown : keys ? began_inside : ask->offset > 0;
}

/* ---- questions ---- */

uint32_t evpq_page_range(const evpq_page *page)
{
    return page ? page->range : 0;
}

evpq_result *evpq_page_result(const evpq_page *page)
{
    return page ? page->result : NULL;
}

uint32_t evpq_page_rows(const evpq_page *page)
{
    return evpq_result_rows(evpq_page_result(page));
}

bool evpq_page_has_next(const evpq_page *page)
{
    return page && page->has_next;
}

bool evpq_page_has_prev(const evpq_page *page)
{
    return page && page->has_prev;
}

const char *evpq_page_token(const evpq_page *page)
{
    return page ? evpq_pager_token(page->pager) : NULL;
}

const char *evpq_page_token_before(const evpq_page *page)
{
    return page ? evpq_pager_token_before(page->pager) : NULL;
}
