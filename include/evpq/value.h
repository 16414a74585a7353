/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_VALUE_H
#define EVPQ_VALUE_H

/**
 * @file
 * Parameters
 * ==========
 *
 * A parameter is a typed value. It travels beside the statement, in the
 * server's binary format where that is stable, and is never pasted into it:
 *
 *     EVPQ_QUERY("SELECT name FROM users WHERE id = $1 AND active = $2",
 *                EVPQ_PARAMS(evpq_int8(42), evpq_bool(true)))
 *
 * A value only points at what it was made from. The call that takes the query
 * copies it, so text and arrays need to live until that call returns.
 *
 * A value that PostgreSQL does not have (a NUL in a text, a date out of range)
 * makes the query EVPQ_EINVALID; evpq_query_problem() says why.
 *
 * The SQL type is part of a value: evpq_text() is `text`, and the server does
 * not compare text with a uuid. For types without a function here use
 * evpq_untyped(): the server reads it as it reads a quoted literal.
 */

#include <evpq/base.h>

EVPQ_BEGIN_DECLS

/** A parameter. Made by the functions below; its fields are private. */
typedef struct evpq_value {
    uint32_t kind;
    uint32_t type;
    size_t length;
    const void *data;
    unsigned char bytes[16];
} evpq_value;

/** A timestamptz or date before, or after, all others: PostgreSQL's -infinity and infinity. */
#define EVPQ_TIMESTAMP_INFINITY     INT64_MAX
#define EVPQ_TIMESTAMP_NEG_INFINITY INT64_MIN
#define EVPQ_DATE_INFINITY          INT32_MAX
#define EVPQ_DATE_NEG_INFINITY      INT32_MIN

/** SQL NULL; the server infers its type. */
EVPQ_API evpq_value evpq_null(void);
/** `boolean` */
EVPQ_API evpq_value evpq_bool(bool value);
/** `smallint` */
EVPQ_API evpq_value evpq_int2(int16_t value);
/** `integer` */
EVPQ_API evpq_value evpq_int4(int32_t value);
/** `bigint` */
EVPQ_API evpq_value evpq_int8(int64_t value);
/** `real` */
EVPQ_API evpq_value evpq_float4(float value);
/** `double precision` */
EVPQ_API evpq_value evpq_float8(double value);
/** `text`, UTF-8, ended by NUL; NULL is SQL NULL. */
EVPQ_API evpq_value evpq_text(const char *value);
/** `text` of so many bytes of UTF-8. A NUL inside makes the query EVPQ_EINVALID: PostgreSQL has no
 * such text. */
EVPQ_API evpq_value evpq_text_n(const char *value, size_t length);
/** `bytea`: any bytes; NULL is SQL NULL. */
EVPQ_API evpq_value evpq_bytea(const void *value, size_t length);
/** `uuid`: 16 bytes in the order they are written. They are copied; NULL is SQL NULL. */
EVPQ_API evpq_value evpq_uuid(const unsigned char value[16]);
/** `timestamptz`: microseconds since 1970-01-01 00:00:00 UTC, or one of EVPQ_TIMESTAMP_*INFINITY.
 */
EVPQ_API evpq_value evpq_timestamptz(int64_t unix_us);
/** `date`: days since 1970-01-01, or one of EVPQ_DATE_*INFINITY. */
EVPQ_API evpq_value evpq_date(int32_t unix_days);
/** `numeric`, as decimal text ("-12.50", "NaN"); NULL is SQL NULL. */
EVPQ_API evpq_value evpq_numeric(const char *decimal);
/** `json`, as text; NULL is SQL NULL. */
EVPQ_API evpq_value evpq_json(const char *json);
/** `jsonb`, as text; NULL is SQL NULL. */
EVPQ_API evpq_value evpq_jsonb(const char *json);
/** Text of which the server infers the type, as of a quoted literal: any type there is. NULL is SQL
 * NULL. */
EVPQ_API evpq_value evpq_untyped(const char *value);
/** `bigint[]`, one dimension, no NULLs inside. `items` may be NULL when count is 0. */
EVPQ_API evpq_value evpq_int8_array(const int64_t *items, size_t count);
/** `text[]`, one dimension; a NULL item is SQL NULL. `items` may be NULL when count is 0. */
EVPQ_API evpq_value evpq_text_array(const char *const *items, size_t count);

EVPQ_END_DECLS

#endif /* EVPQ_VALUE_H */
