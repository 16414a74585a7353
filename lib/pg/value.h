/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_VALUE_H
#define EVPQ_LIB_PG_VALUE_H

/*
 * Values as the wire has them. Pure: no connection, no result. The binary
 * formats are those of PostgreSQL's send and receive functions
 * (src/backend/utils/adt): network byte order, epoch 2000-01-01.
 */

#include <evpq/value.h>

/* Type OIDs of src/include/catalog/pg_type.dat: fixed for ever. */
enum {
    EVPQ__OID_BOOL = 16,
    EVPQ__OID_BYTEA = 17,
    EVPQ__OID_CHAR = 18,
    EVPQ__OID_NAME = 19,
    EVPQ__OID_INT8 = 20,
    EVPQ__OID_INT2 = 21,
    EVPQ__OID_INT4 = 23,
    EVPQ__OID_TEXT = 25,
    EVPQ__OID_JSON = 114,
    EVPQ__OID_XML = 142,
    EVPQ__OID_FLOAT4 = 700,
    EVPQ__OID_FLOAT8 = 701,
    EVPQ__OID_UNKNOWN = 705,
    EVPQ__OID_TEXT_ARRAY = 1009,
    EVPQ__OID_VARCHAR_ARRAY = 1015,
    EVPQ__OID_INT8_ARRAY = 1016,
    EVPQ__OID_BPCHAR = 1042,
    EVPQ__OID_VARCHAR = 1043,
    EVPQ__OID_DATE = 1082,
    EVPQ__OID_TIMESTAMPTZ = 1184,
    EVPQ__OID_NUMERIC = 1700,
    EVPQ__OID_UUID = 2950,
    EVPQ__OID_LSN = 3220,
    EVPQ__OID_JSONB = 3802,
};

/* PostgreSQL counts from 2000-01-01, a program from 1970-01-01. */
#define EVPQ__EPOCH_US   INT64_C(946684800000000)
#define EVPQ__EPOCH_DAYS 10957

/* PostgreSQL's own range, from 4714-11-24 BC up to, not including, END (datatype/timestamp.h). */
#define EVPQ__MIN_TIMESTAMP INT64_C(-211813488000000000)
#define EVPQ__END_TIMESTAMP INT64_C(9223371331200000000)
#define EVPQ__MIN_DATE      (-2451545)
#define EVPQ__END_DATE      2145031949

/* Bytes of an array before its items: ndim, flags, element type; then for a dimension: its length
 * and lower bound. */
#define EVPQ__ARRAY_HEADER    12
#define EVPQ__ARRAY_DIMENSION 8

/* Parameters as PQsendQueryParams() takes them. */
struct evpq__params {
    int count;
    uint32_t *types;     /* Oid */
    const char **values; /* NULL: SQL NULL */
    int *lengths;
    int *formats; /* 0 text, 1 binary */
};

/*
 * A value as it came from the server, to be sent back as a parameter of the
 * same type: data == NULL is SQL NULL. In text format it may hold no NUL.
 */
evpq_value evpq__value_raw(uint32_t type, bool binary, const void *data, size_t length);

/* Two of those have the same type and the same bytes. */
bool evpq__value_same(const evpq_value *a, const evpq_value *b);

/* What is wrong with parameters; NULL when nothing is. */
const char *evpq__params_problem(const evpq_value *values, size_t count);

/* Bytes that evpq__params_write() needs. The values have no problem. */
size_t evpq__params_size(const evpq_value *values, size_t count);
/* Encodes into `block`, aligned as malloc() aligns; all pointers of `out` point into it. */
void evpq__params_write(struct evpq__params *out, void *block, const evpq_value *values,
                        size_t count);

/* The same in two steps, for who has to wait in between: the values in few bytes, and the pointers
 * to them that libpq wants. */
size_t evpq__packed_size(const evpq_value *values, size_t count);
void evpq__params_pack(uint32_t *packed, const evpq_value *values, size_t count);
/* Bytes that evpq__params_unpack() needs. */
size_t evpq__unpacked_size(size_t count);
/* The pointers go into `block`, aligned as malloc() aligns, and point into what was packed; without
 * types. */
void evpq__params_unpack(struct evpq__params *out, void *block, const uint32_t *packed,
                         size_t count);

/*
 * A deep copy in one block, to be given to evpq__free(); NULL without memory.
 * The values have no problem, count > 0. Arrays are encoded on the way.
 */
evpq_value *evpq__values_copy(const evpq_value *values, size_t count);

/* Readers of the binary format (decode.c): false when the bytes are not of that type. */
bool evpq__read_int(const void *data, size_t length, int64_t *out); /* 2, 4 or 8 bytes */
bool evpq__read_float4(const void *data, size_t length, float *out);
bool evpq__read_float8(const void *data, size_t length, double *out);
bool evpq__read_timestamptz(const void *data, size_t length, int64_t *unix_us);
bool evpq__read_date(const void *data, size_t length, int32_t *unix_days);
/* As snprintf(): writes up to `capacity` bytes, NUL included; *needed is without the NUL. */
bool evpq__read_numeric(const void *data, size_t length, char *out, size_t capacity,
                        size_t *needed);

/* Walks a one-dimensional array. */
struct evpq__array {
    uint32_t element_type;
    size_t count; /* items still to come */
    const unsigned char *next, *end;
};
/* False when it is no array of at most one dimension whose items fit into the bytes. */
bool evpq__array_open(struct evpq__array *array, const void *data, size_t length);
/* The next item: *item == NULL is SQL NULL. False when there is none, or the bytes do not end with
 * the last one. */
bool evpq__array_next(struct evpq__array *array, const void **item, size_t *length);

#endif /* EVPQ_LIB_PG_VALUE_H */
