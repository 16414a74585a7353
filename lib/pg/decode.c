/* SPDX-License-Identifier: MIT */

/* The readers of value.h. The bytes come from outside: nothing in them is believed. */

#include <string.h>

#include "pg/value.h"

static inline uint64_t get(const unsigned char *from, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | from[i];
    return value;
}

static inline int64_t get_signed(const unsigned char *from, size_t bytes)
{
    uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
    return (int64_t)((get(from, bytes) ^ sign) - sign);
}

bool evpq__read_int(const void *data, size_t length, int64_t *out)
{
    /* A constant number of bytes is one instruction. */
    if (length == 8)
        *out = get_signed(data, 8);
    else if (length == 4)
        *out = get_signed(data, 4);
    else if (length == 2)
        *out = get_signed(data, 2);
    else
        return false;
    return true;
}

bool evpq__read_float4(const void *data, size_t length, float *out)
{
    if (length != sizeof(*out))
        return false;
    uint32_t bits = (uint32_t)get(data, length);
    memcpy(out, &bits, sizeof(*out));
    return true;
}

bool evpq__read_float8(const void *data, size_t length, double *out)
{
    if (length != sizeof(*out))
        return false;
    uint64_t bits = get(data, length);
    memcpy(out, &bits, sizeof(*out));
    return true;
}

bool evpq__read_timestamptz(const void *data, size_t length, int64_t *unix_us)
{
    if (length != 8)
        return false;
    int64_t us = get_signed(data, length);
    if (us != EVPQ_TIMESTAMP_INFINITY && us != EVPQ_TIMESTAMP_NEG_INFINITY) {
        /* The last 30 years of PostgreSQL's range are beyond int64_t here. */
        if (us < EVPQ__MIN_TIMESTAMP || us >= EVPQ__END_TIMESTAMP ||
            us >= INT64_MAX - EVPQ__EPOCH_US)
            return false;
        us += EVPQ__EPOCH_US;
    }
    *unix_us = us;
    return true;
}

bool evpq__read_date(const void *data, size_t length, int32_t *unix_days)
{
    if (length != 4)
        return false;
    int64_t days = get_signed(data, length);
    if (days != EVPQ_DATE_INFINITY && days != EVPQ_DATE_NEG_INFINITY) {
        if (days < EVPQ__MIN_DATE || days >= EVPQ__END_DATE)
            return false;
        days += EVPQ__EPOCH_DAYS;
    }
    *unix_days = (int32_t)days;
    return true;
}

struct sink {
    char *out;
    size_t capacity, length;
};

static void emit(struct sink *sink, char c)
{
    if (sink->length < sink->capacity)
        sink->out[sink->length] = c;
    sink->length++;
}

static void emit_text(struct sink *sink, const char *text)
{
    while (*text)
        emit(sink, *text++);
}

/* Base-10000 digits; the first counts 10000^weight. */
struct numeric {
    const unsigned char *digits;
    int count, weight, scale;
    bool negative;
};

/* The decimal digit at a place, four to each digit of the number; zero beyond its ends. */
static char numeric_digit(const struct numeric *n, int place)
{
    static const unsigned powers[] = {1000, 100, 10, 1};
    int index = place / 4;
    uint64_t digit = place >= 0 && index < n->count ? get(n->digits + 2 * index, 2) : 0;
    return (char)('0' + digit / powers[place & 3] % 10);
}

static void numeric_emit(struct sink *sink, const struct numeric *n)
{
    int point = 4 * (n->weight + 1); /* the place behind the decimal point; may be negative */
    int place = 0;
    if (n->negative)
        emit(sink, '-');
    if (point <= 0)
        emit(sink, '0');
    while (place < point && numeric_digit(n, place) == '0')
        place++;
    while (place < point)
        emit(sink, numeric_digit(n, place++));
    if (n->scale)
        emit(sink, '.');
    for (int i = 0; i < n->scale; i++)
        emit(sink, numeric_digit(n, point + i));
}

/* A digit above 9999 is not of this format. Zeros in front are legal, though the server sends none.
 */
static bool numeric_normalize(struct numeric *n)
{
    for (int i = 0; i < n->count; i++)
        if (get(n->digits + 2 * i, 2) > 9999)
            return false;
    while (n->count && get(n->digits, 2) == 0) {
        n->digits += 2;
        n->count--;
        n->weight--;
    }
    if (!n->count) {
        n->weight = -1;
        n->negative = false;
    }
    return true;
}

bool evpq__read_numeric(const void *data, size_t length, char *out, size_t capacity, size_t *needed)
{
    const unsigned char *bytes = data;
    if (length < 8 || length != 8 + 2 * get(bytes, 2))
        return false;
    struct numeric n = {.digits = bytes + 8,
                        .count = (int)get(bytes, 2),
                        .weight = (int)get_signed(bytes + 2, 2),
                        .scale = (int)get(bytes + 6, 2)};
    uint64_t sign = get(bytes + 4, 2);
    n.negative = sign == 0x4000;

    const char *special = sign == 0xC000   ? "NaN"
                          : sign == 0xD000 ? "Infinity"
                          : sign == 0xF000 ? "-Infinity"
                                           : NULL;
    struct sink sink = {.out = out, .capacity = capacity};
    if (special && n.count == 0) {
        /* The scale of an infinity means nothing; PostgreSQL sends 32. */
        emit_text(&sink, special);
    } else {
        if ((sign != 0 && !n.negative) || n.scale > 0x3FFF || !numeric_normalize(&n))
            return false;
        numeric_emit(&sink, &n);
    }
    *needed = sink.length;
    if (capacity)
        out[sink.length < capacity ? sink.length : capacity - 1] = '\0';
    return true;
}

bool evpq__array_open(struct evpq__array *array, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    if (length < EVPQ__ARRAY_HEADER)
        return false;
    uint64_t dimensions = get(bytes, 4);
    size_t header = EVPQ__ARRAY_HEADER + (dimensions ? EVPQ__ARRAY_DIMENSION : 0);
    if (dimensions > 1 || get(bytes + 4, 4) > 1 || length < header)
        return false;
    *array = (struct evpq__array){.element_type = (uint32_t)get(bytes + 8, 4),
                                  .count = dimensions ? (size_t)get(bytes + 12, 4) : 0,
                                  .next = bytes + header,
                                  .end = bytes + length};
    size_t rest = length - header;
    return array->count ? array->count <= rest / 4 : rest == 0;
}

bool evpq__array_next(struct evpq__array *array, const void **item, size_t *length)
{
    if (!array->count || array->end - array->next < 4)
        return false;
    uint64_t size = get(array->next, 4);
    bool null = size == UINT32_MAX;
    array->next += 4;
    if (null)
        size = 0;
    if (size > (size_t)(array->end - array->next))
        return false;
    *item = null ? NULL : array->next;
    *length = (size_t)size;
    array->next += size;
    array->count--;
    return array->count || array->next == array->end;
}
