/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_ORDER_H
#define EVPQ_LIB_PAGE_ORDER_H

/* What order_by and columns say. Pure: text in, text out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EVPQ__KEYS_MAX = 8,
    EVPQ__NAME_MAX = 63,                           /* bytes of an identifier, NAMEDATALEN - 1 */
    EVPQ__ORDER_TEXT = 3000,                       /* bytes of all keys as SQL */
    EVPQ__COLLATION_SIZE = 4 * EVPQ__NAME_MAX + 6, /* of `"schema"."name"` and its end */
    EVPQ__PIN_SIZE = EVPQ__COLLATION_SIZE + 9
};

/* The texts stand in the keyset: value is `"name"` or `(expression)`, collate `` or ` COLLATE "x"`.
 */
struct evpq__key {
    char name[EVPQ__NAME_MAX + 1]; /* of the output column; "" for an expression */
    uint16_t value_at, collate_at;
    bool descending, nulls_first;
    uint16_t pin_at;
    bool pinned;
    bool not_null; /* no value is NULL */
    bool hidden;   /* fetched as a column of its own, behind those that are handed over */
};

struct evpq__keyset {
    size_t count; /* 0: there is no order, pages are by offset */
    struct evpq__key keys[EVPQ__KEYS_MAX];
    char text[EVPQ__ORDER_TEXT];
    size_t text_length;
    char pins[EVPQ__KEYS_MAX * EVPQ__PIN_SIZE]; /* collations, in the place of those in text */
    size_t pins_length;
};

static inline const char *evpq__key_value(const struct evpq__keyset *keyset, size_t i)
{
    return keyset->text + keyset->keys[i].value_at;
}

static inline const char *evpq__key_collate(const struct evpq__keyset *keyset, size_t i)
{
    const struct evpq__key *key = &keyset->keys[i];
    return key->pinned ? keyset->pins + key->pin_at : keyset->text + key->collate_at;
}

/* The name of the collation that order_by gives the key; "" for none. */
const char *evpq__key_collation(const struct evpq__keyset *keyset, size_t i);

/* From now on the key has this collation, `"schema"."name"`. */
void evpq__key_pin(struct evpq__keyset *keyset, size_t i, const char *collation);
/* The keys are again as they were read: not pinned, and may be NULL. */
void evpq__keyset_reset(struct evpq__keyset *keyset);

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
