/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_RESULT_H
#define EVPQ_RESULT_H

/**
 * @file
 * Results
 * =======
 *
 * What a statement returned: rows and columns, counted from 0. A result and
 * all it points to is valid until the callback that received it returns, or,
 * after evpq_result_keep(), until evpq_result_free().
 *
 * Readers check and never guess. Each returns
 *
 *     EVPQ_OK        the value is in *out
 *     EVPQ_NULL      it is SQL NULL; *out is as it was
 *     EVPQ_ETYPE     the column is of another type (also where the value is
 *                    NULL), the value does not fit, or the result has the
 *                    wrong format
 *     EVPQ_EINVALID  there is no such row or column, or an argument is NULL
 *
 * The typed readers need a binary result, which is a query's default.
 * evpq_result_text() reads text in either format, and everything in a text
 * result.
 */

#include <evpq/base.h>
#include <evpq/error.h>

EVPQ_BEGIN_DECLS

struct pg_result; /* libpq's PGresult */

/** What a statement returned. Owned by its operation, or by you after evpq_result_keep(). */
typedef struct evpq_result evpq_result;

/** What a reader returns for SQL NULL. */
#define EVPQ_NULL 1

/** Some text inside a result: `length` bytes, and a NUL behind them that is not counted. data ==
 * NULL: SQL NULL. */
typedef struct evpq_text_view {
    const char *data;
    size_t length;
} evpq_text_view;

/** Keep a result beyond its callback. Returns it; give it back with evpq_result_free(). From the
 * loop's thread only. */
EVPQ_API evpq_result *evpq_result_keep(evpq_result *result);
/** Give back a result that was kept. NULL is allowed. It may outlive its pool. */
EVPQ_API void evpq_result_free(evpq_result *result);

/** How many rows; 0 for a statement that returns none. */
EVPQ_API uint32_t evpq_result_rows(const evpq_result *result);
/** How many columns. */
EVPQ_API uint32_t evpq_result_columns(const evpq_result *result);
/** Rows that an INSERT, UPDATE, DELETE, MERGE, SELECT or the like counted in its command tag; 0
 * otherwise. */
EVPQ_API uint64_t evpq_result_affected(const evpq_result *result);
/** A column's name; NULL when there is no such column. */
EVPQ_API const char *evpq_result_column_name(const evpq_result *result, uint32_t column);
/** A column's type OID (pg_type.oid; of a domain: its base type); 0 when there is no such column.
 */
EVPQ_API uint32_t evpq_result_column_type(const evpq_result *result, uint32_t column);
/** The first column of that very name (no case folding); -1 when there is none. */
EVPQ_API int evpq_result_column_index(const evpq_result *result, const char *name);
/** EVPQ_BINARY or EVPQ_TEXT, as it was asked for. */
EVPQ_API int evpq_result_format(const evpq_result *result);

/** True for SQL NULL, also for a row or column that is not there. */
EVPQ_API bool evpq_result_is_null(const evpq_result *result, uint32_t row, uint32_t column);

/** `boolean` */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_bool(const evpq_result *result, uint32_t row,
                                              uint32_t column, bool *out);
/** Any of `smallint`, `integer`, `bigint` that fits. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_int2(const evpq_result *result, uint32_t row,
                                              uint32_t column, int16_t *out);
/** Any of `smallint`, `integer`, `bigint` that fits. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_int4(const evpq_result *result, uint32_t row,
                                              uint32_t column, int32_t *out);
/** Any of `smallint`, `integer`, `bigint`. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_int8(const evpq_result *result, uint32_t row,
                                              uint32_t column, int64_t *out);
/** `real` */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_float4(const evpq_result *result, uint32_t row,
                                                uint32_t column, float *out);
/** `double precision` or `real` */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_float8(const evpq_result *result, uint32_t row,
                                                uint32_t column, double *out);
/**
 * Text. In a binary result `text`, `varchar`, `char(n)`, `name`, `"char"`, `json`, `jsonb`, `xml`,
 * `unknown`; in a text result every type, as the server writes it. The bytes are the result's.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_text(const evpq_result *result, uint32_t row,
                                              uint32_t column, evpq_text_view *out);
/** `bytea`; the bytes are the result's. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_bytea(const evpq_result *result, uint32_t row,
                                               uint32_t column, const unsigned char **out,
                                               size_t *length);
/** `uuid`, 16 bytes in the order they are written. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_uuid(const evpq_result *result, uint32_t row,
                                              uint32_t column, unsigned char out[16]);
/** `timestamptz` as microseconds since 1970-01-01 00:00:00 UTC, or EVPQ_TIMESTAMP_*INFINITY. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_timestamptz(const evpq_result *result, uint32_t row,
                                                     uint32_t column, int64_t *out);
/** `date` as days since 1970-01-01, or EVPQ_DATE_*INFINITY. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_date(const evpq_result *result, uint32_t row,
                                              uint32_t column, int32_t *out);
/** `pg_lsn`: a place in the write-ahead log, in bytes from its start. "16/B374D848" is
 * 0x16B374D848. */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_lsn(const evpq_result *result, uint32_t row,
                                             uint32_t column, uint64_t *out);
/**
 * `numeric` as decimal text, exactly as the server would write it.
 *
 * Works as snprintf: at most `capacity` bytes are written, NUL included, and *length is what it
 * takes without the NUL. When it does not fit, the text is cut, *length is set and EVPQ_ETYPE
 * returned. With a capacity of 0, `out` may be NULL.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_numeric(const evpq_result *result, uint32_t row,
                                                 uint32_t column, char *out, size_t capacity,
                                                 size_t *length);
/**
 * `bigint[]` of one dimension. Up to `capacity` items are written; *count is how many there are,
 * which may be more. A NULL inside is EVPQ_ETYPE.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_int8_array(const evpq_result *result, uint32_t row,
                                                    uint32_t column, int64_t *items,
                                                    size_t capacity, size_t *count);
/**
 * `text[]` or `varchar[]` of one dimension. Up to `capacity` items are written; *count is how many
 * there are, which may be more. The bytes are the result's and have no NUL behind them; a NULL
 * inside has data == NULL.
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_result_text_array(const evpq_result *result, uint32_t row,
                                                    uint32_t column, evpq_text_view *items,
                                                    size_t capacity, size_t *count);

/** libpq's result, for what evpq does not cover. Never PQclear() it; it lives as long as this
 * result. NULL for NULL; of a chunk of a stream also when there is no memory, for before libpq 17
 * it is made when it is first asked for. */
EVPQ_API const struct pg_result *evpq_result_pgresult(const evpq_result *result);

EVPQ_END_DECLS

#endif /* EVPQ_RESULT_H */
