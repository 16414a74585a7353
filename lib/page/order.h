/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_ORDER_H
#define EVPQ_LIB_PAGE_ORDER_H

/* What order_by and columns say. Pure: text in, text out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EVPQ__KEYS_MAX = 8,
    EVPQ__NAME_MAX = 63,    /* bytes of an identifier, NAMEDATALEN - 1 */
    EVPQ__ORDER_TEXT = 3000 /* bytes of all keys as SQL */
};

/* The texts stand in the keyset: value is `"name"` or `(expression)`, collate `` or ` COLLATE "x"`.
 */
struct evpq__key {
    char name[EVPQ__NAME_MAX + 1]; /* of the output column; "" for an expression */
    uint16_t value_at, collate_at;
    bool descending, nulls_first;
    bool hidden; /* fetched as a column of its own, behind those that are handed over */
};

struct evpq__keyset {
    size_t count; /* 0: there is no order, pages are by offset */
    struct evpq__key keys[EVPQ__KEYS_MAX];
    char text[EVPQ__ORDER_TEXT];
    size_t text_length;
};

static inline const char *evpq__key_value(const struct evpq__keyset *keyset, size_t i)
{
    return keyset->text + keyset->keys[i].value_at;
}

static inline const char *evpq__key_collate(const struct evpq__keyset *keyset, size_t i)
{
    return keyset->text + keyset->keys[i].collate_at;
}

/*
 * Reads an order_by. NULL when nothing is wrong; else a static text.
 *
 * A column is quoted. An expression is passed on token by token, in parentheses
 * of its own: names, numbers, plain strings, operators, calls. Comments,
 * semicolons, backslashes, prefixed strings and SELECT are refused, so that it
 * cannot end before its parenthesis does.
 */
const char *evpq__keyset_parse(struct evpq__keyset *out, const char *order_by);

/*
 * Reads a list of columns, and hides the keys that are not among them; without
 * a list only expressions are hidden. `sql` gets the list quoted, for at most
 * `capacity` bytes; "" without one. NULL when nothing is wrong; else a static text.
 */
const char *evpq__columns_parse(char *sql, size_t capacity, struct evpq__keyset *keyset,
                                const char *columns);
/* Bytes that the quoted list may take. */
size_t evpq__columns_size(const char *columns);

#endif /* EVPQ_LIB_PAGE_ORDER_H */
