/* SPDX-License-Identifier: MIT */
#include "pool/slow.h"

#include <string.h>

/* Above what a busy machine makes of a fast one. */
enum { LONG_US = 20000 };

static uint64_t bytes_at(const char *from, size_t count)
{
    uint64_t bytes = 0;
    memcpy(&bytes, from, count);
    return bytes;
}

/* Its length, and eight bytes of its start, its middle and its end. */
uint32_t evpq__slow_mark(const char *sql, size_t length)
{
    size_t count = length < 8 ? length : 8;
    uint64_t mark = length;
    mark = mark * 0x9e3779b97f4a7c15 + bytes_at(sql, count);
    mark = mark * 0x9e3779b97f4a7c15 + bytes_at(sql + (length - count) / 2, count);
    mark = mark * 0x9e3779b97f4a7c15 + bytes_at(sql + length - count, count);
    return (uint32_t)((mark * 0x9e3779b97f4a7c15) >> 32) | 1;
}

static uint32_t place_of(uint32_t mark)
{
    return mark >> 1 & (EVPQ__SLOW_PLACES - 1);
}

bool evpq__slow_is(const struct evpq__slow *slow, uint32_t mark)
{
    return slow->marks[place_of(mark)] == mark;
}

void evpq__slow_note(struct evpq__slow *slow, uint32_t mark, int64_t ran_us)
{
    uint32_t *place = &slow->marks[place_of(mark)];
    if (ran_us > LONG_US)
        *place = mark;
    else if (*place == mark)
        *place = 0;
}
