/* SPDX-License-Identifier: MIT */
#include "pg/value.h"

#include <string.h>

#include "base/mem.h"

/*
 * What evpq_value.kind says. It starts at no common number, so that memory which
 * no constructor has filled does not pass for a value.
 */
enum kind {
    KIND_NULL = 0x65767101,
    KIND_FIXED,      /* `length` bytes of bytes, as the wire has them */
    KIND_BINARY,     /* `length` bytes at data, as the wire has them */
    KIND_TEXT,       /* as KIND_BINARY, in text format */
    KIND_INT8_ARRAY, /* `length` items of int64_t at data */
    KIND_TEXT_ARRAY, /* `length` items of const char * at data */
    KIND_PROBLEM,    /* no value: data is a static text that says why */
};

/* PostgreSQL's MaxAllocSize: the server takes no longer message. */
#define LIMIT ((size_t)0x3fffffff)

static unsigned char *put(unsigned char *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0; value >>= 8)
        to[i] = (unsigned char)value;
    return to + bytes;
}

/* ---- constructors ---- */

static evpq_value fixed(uint32_t type, uint64_t bits, unsigned bytes)
{
    evpq_value value = {.kind = KIND_FIXED, .type = type, .length = bytes};
    put(value.bytes, bits, bytes);
    return value;
}

static evpq_value sized(enum kind kind, uint32_t type, const void *data, size_t length)
{
    if (!data)
        return (evpq_value){.kind = KIND_NULL, .type = type};
    return (evpq_value){.kind = kind, .type = type, .data = data, .length = length};
}

static evpq_value string(enum kind kind, uint32_t type, const char *text)
{
    return sized(kind, type, text, text ? strlen(text) : 0);
}

static evpq_value problem(const char *text)
{
    return (evpq_value){.kind = KIND_PROBLEM, .data = text};
}

evpq_value evpq_null(void)
{
    return sized(KIND_NULL, 0, NULL, 0);
}

evpq_value evpq_bool(bool value)
{
    return fixed(EVPQ__OID_BOOL, value, 1);
}

evpq_value evpq_int2(int16_t value)
{
    return fixed(EVPQ__OID_INT2, (uint64_t)value, 2);
}

evpq_value evpq_int4(int32_t value)
{
    return fixed(EVPQ__OID_INT4, (uint64_t)value, 4);
}

evpq_value evpq_int8(int64_t value)
{
    return fixed(EVPQ__OID_INT8, (uint64_t)value, 8);
}

evpq_value evpq_float4(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return fixed(EVPQ__OID_FLOAT4, bits, 4);
}

evpq_value evpq_float8(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return fixed(EVPQ__OID_FLOAT8, bits, 8);
}

evpq_value evpq_text(const char *value)
{
    return string(KIND_BINARY, EVPQ__OID_TEXT, value);
}

evpq_value evpq_text_n(const char *value, size_t length)
{
    return sized(KIND_BINARY, EVPQ__OID_TEXT, value, length);
}

evpq_value evpq_bytea(const void *value, size_t length)
{
    return sized(KIND_BINARY, EVPQ__OID_BYTEA, value, length);
}

evpq_value evpq_uuid(const unsigned char value[16])
{
    if (!value)
        return sized(KIND_NULL, EVPQ__OID_UUID, NULL, 0);
    evpq_value uuid = {.kind = KIND_FIXED, .type = EVPQ__OID_UUID, .length = 16};
    memcpy(uuid.bytes, value, 16);
    return uuid;
}

evpq_value evpq_timestamptz(int64_t unix_us)
{
    if (unix_us != EVPQ_TIMESTAMP_INFINITY && unix_us != EVPQ_TIMESTAMP_NEG_INFINITY) {
        if (unix_us < EVPQ__MIN_TIMESTAMP + EVPQ__EPOCH_US)
            return problem("timestamptz out of range");
        unix_us -= EVPQ__EPOCH_US;
    }
    return fixed(EVPQ__OID_TIMESTAMPTZ, (uint64_t)unix_us, 8);
}

evpq_value evpq_date(int32_t unix_days)
{
    if (unix_days != EVPQ_DATE_INFINITY && unix_days != EVPQ_DATE_NEG_INFINITY) {
        if (unix_days < EVPQ__MIN_DATE + EVPQ__EPOCH_DAYS ||
            unix_days >= EVPQ__END_DATE + EVPQ__EPOCH_DAYS)
            return problem("date out of range");
        unix_days -= EVPQ__EPOCH_DAYS;
    }
    return fixed(EVPQ__OID_DATE, (uint64_t)unix_days, 4);
}

evpq_value evpq_numeric(const char *decimal)
{
    return string(KIND_TEXT, EVPQ__OID_NUMERIC, decimal);
}

evpq_value evpq_json(const char *json)
{
    return string(KIND_TEXT, EVPQ__OID_JSON, json);
}

evpq_value evpq_jsonb(const char *json)
{
    return string(KIND_TEXT, EVPQ__OID_JSONB, json);
}

evpq_value evpq_untyped(const char *value)
{
    return string(KIND_TEXT, 0, value);
}

evpq_value evpq_int8_array(const int64_t *items, size_t count)
{
    return (evpq_value){
        .kind = KIND_INT8_ARRAY, .type = EVPQ__OID_INT8_ARRAY, .data = items, .length = count};
}

evpq_value evpq_text_array(const char *const *items, size_t count)
{
    return (evpq_value){
        .kind = KIND_TEXT_ARRAY, .type = EVPQ__OID_TEXT_ARRAY, .data = items, .length = count};
}

evpq_value evpq__value_raw(uint32_t type, bool binary, const void *data, size_t length)
{
    return sized(binary ? KIND_BINARY : KIND_TEXT, type, data, length);
}

bool evpq__value_same(const evpq_value *a, const evpq_value *b)
{
    return a->kind == b->kind && a->type == b->type && a->length == b->length &&
           memcmp(a->data, b->data, a->length) == 0;
}

/* ---- parameters ---- */

/* Stops one above LIMIT, so that no sum of sizes overflows. */
static size_t sum(size_t a, size_t b)
{
    return a <= LIMIT && b <= LIMIT - a ? a + b : LIMIT + 1;
}

static size_t array_size(const evpq_value *v)
{
    size_t item = sizeof(int32_t) + (v->kind == KIND_INT8_ARRAY ? sizeof(int64_t) : 0);
    if (v->length > LIMIT / item)
        return LIMIT + 1;
    size_t size =
        sum(EVPQ__ARRAY_HEADER + (v->length ? EVPQ__ARRAY_DIMENSION : 0), item * v->length);
    if (v->kind == KIND_TEXT_ARRAY) {
        const char *const *texts = v->data;
        for (size_t i = 0; i < v->length && size <= LIMIT; i++)
            size = sum(size, texts[i] ? strlen(texts[i]) : 0);
    }
    return size;
}

/* Bytes of a value on the wire; more than LIMIT when it is too large. */
static size_t value_size(const evpq_value *v)
{
    switch (v->kind) {
    case KIND_NULL:
        return 0;
    case KIND_INT8_ARRAY:
    case KIND_TEXT_ARRAY:
        return array_size(v);
    default:
        return sum(0, v->length);
    }
}

static unsigned char *put_bytes(unsigned char *to, const void *data, size_t length)
{
    memcpy(to, data, length);
    return to + length;
}

static unsigned char *array_write(unsigned char *to, const evpq_value *v)
{
    const int64_t *integers = v->kind == KIND_INT8_ARRAY ? v->data : NULL;
    const char *const *texts = v->kind == KIND_TEXT_ARRAY ? v->data : NULL;
    bool nulls = false;
    for (size_t i = 0; texts && i < v->length; i++)
        nulls = nulls || !texts[i];

    to = put(to, v->length != 0, 4);
    to = put(to, nulls, 4);
    to = put(to, v->kind == KIND_INT8_ARRAY ? EVPQ__OID_INT8 : EVPQ__OID_TEXT, 4);
    if (v->length) {
        to = put(to, v->length, 4);
        to = put(to, 1, 4);
    }
    for (size_t i = 0; i < v->length; i++) {
        if (integers) {
            to = put(put(to, sizeof(int64_t), 4), (uint64_t)integers[i], sizeof(int64_t));
        } else if (texts[i]) {
            size_t length = strlen(texts[i]);
            to = put_bytes(put(to, length, 4), texts[i], length);
        } else {
            to = put(to, UINT32_MAX, 4);
        }
    }
    return to;
}

/* Writes value_size() bytes and returns the place behind them. */
static unsigned char *value_write(unsigned char *to, const evpq_value *v)
{
    switch (v->kind) {
    case KIND_NULL:
        return to;
    case KIND_INT8_ARRAY:
    case KIND_TEXT_ARRAY:
        return array_write(to, v);
    case KIND_FIXED:
        return put_bytes(to, v->bytes, v->length);
    default:
        return put_bytes(to, v->data, v->length);
    }
}

static const char *value_problem(const evpq_value *v)
{
    switch (v->kind) {
    case KIND_NULL:
    case KIND_FIXED:
        return NULL;
    case KIND_BINARY:
    case KIND_TEXT:
        if (v->length <= LIMIT && (v->kind == KIND_TEXT || v->type == EVPQ__OID_TEXT) &&
            memchr(v->data, '\0', v->length))
            return "text with a NUL inside";
        return NULL;
    case KIND_INT8_ARRAY:
    case KIND_TEXT_ARRAY:
        return v->length && !v->data ? "an array without items" : NULL;
    case KIND_PROBLEM:
        return v->data;
    default:
        return "a parameter that no function of value.h has made";
    }
}

const char *evpq__params_problem(const evpq_value *values, size_t count)
{
    if (count > 65535)
        return "more than 65,535 parameters";
    if (count && !values)
        return "params is NULL, params_count is not 0";
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const char *wrong = value_problem(&values[i]);
        if (wrong)
            return wrong;
        total = sum(total, value_size(&values[i]));
        if (total > LIMIT)
            return "parameters of more than 1 GiB";
    }
    return NULL;
}

/* Each value has a NUL behind it: libpq takes text up to there. */
static size_t values_size(const evpq_value *values, size_t count)
{
    size_t size = count;
    for (size_t i = 0; i < count; i++)
        size += value_size(&values[i]);
    return size;
}

size_t evpq__params_size(const evpq_value *values, size_t count)
{
    const struct evpq__params *p = NULL;
    return count * (sizeof(*p->values) + sizeof(*p->types) + sizeof(*p->lengths) +
                    sizeof(*p->formats)) +
           values_size(values, count);
}

void evpq__params_write(struct evpq__params *out, void *block, const evpq_value *values,
                        size_t count)
{
    out->count = (int)count;
    out->values = block;
    out->types = (uint32_t *)(out->values + count);
    out->lengths = (int *)(out->types + count);
    out->formats = out->lengths + count;
    unsigned char *place = (unsigned char *)(out->formats + count);
    for (size_t i = 0; i < count; i++) {
        const evpq_value *v = &values[i];
        unsigned char *end = value_write(place, v);
        out->types[i] = v->type;
        out->values[i] = v->kind == KIND_NULL ? NULL : (const char *)place;
        out->lengths[i] = (int)(end - place);
        /* NULL as text: not every type that the server may infer has a binary form. */
        out->formats[i] = v->kind != KIND_TEXT && v->kind != KIND_NULL;
        *end = '\0';
        place = end + 1;
    }
}

/* A word for each value: its length, which is LIMIT at most, and two bits. Then their bytes. */
enum { PACKED_NULL = 1, PACKED_BINARY = 2, PACKED_BITS = 2 };

size_t evpq__packed_size(const evpq_value *values, size_t count)
{
    return count * sizeof(uint32_t) + values_size(values, count);
}

void evpq__params_pack(uint32_t *packed, const evpq_value *values, size_t count)
{
    unsigned char *place = (unsigned char *)(packed + count);
    for (size_t i = 0; i < count; i++) {
        const evpq_value *v = &values[i];
        unsigned char *end = value_write(place, v);
        packed[i] = (uint32_t)(end - place) << PACKED_BITS;
        if (v->kind == KIND_NULL)
            packed[i] |= PACKED_NULL;
        else if (v->kind != KIND_TEXT)
            packed[i] |= PACKED_BINARY;
        *end = '\0';
        place = end + 1;
    }
}

size_t evpq__unpacked_size(size_t count)
{
    const struct evpq__params *p = NULL;
    return count * (sizeof(*p->values) + sizeof(*p->lengths) + sizeof(*p->formats));
}

void evpq__params_unpack(struct evpq__params *out, void *block, const uint32_t *packed,
                         size_t count)
{
    out->count = (int)count;
    out->types = NULL;
    out->values = block;
    out->lengths = (int *)(out->values + count);
    out->formats = out->lengths + count;
    const char *place = (const char *)(packed + count);
    for (size_t i = 0; i < count; i++) {
        out->values[i] = packed[i] & PACKED_NULL ? NULL : place;
        out->lengths[i] = (int)(packed[i] >> PACKED_BITS);
        out->formats[i] = (packed[i] & PACKED_BINARY) != 0;
        place += out->lengths[i] + 1;
    }
}

evpq_value *evpq__values_copy(const evpq_value *values, size_t count)
{
    evpq_value *copy = evpq__alloc(count * sizeof(*copy) + values_size(values, count));
    if (!copy)
        return NULL;
    unsigned char *place = (unsigned char *)(copy + count);
    for (size_t i = 0; i < count; i++) {
        copy[i] = values[i];
        if (values[i].kind == KIND_NULL || values[i].kind == KIND_FIXED)
            continue;
        unsigned char *end = value_write(place, &values[i]);
        copy[i] = evpq__value_raw(values[i].type, values[i].kind != KIND_TEXT, place,
                                  (size_t)(end - place));
        place = end + 1; /* the block is zeroed: a NUL is there */
    }
    return copy;
}
