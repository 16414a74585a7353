/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_BYTES_H
#define EVPQ_TESTS_BYTES_H

/* Bytes for tests of formats. Include it behind cmocka.h. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The bytes of "00ff 12"; returns how many. `to` must have room. */
static inline size_t unhex(unsigned char *to, const char *hex)
{
    size_t length = 0;
    for (; *hex; hex++) {
        unsigned byte;
        if (*hex == ' ')
            continue;
        assert_int_equal(sscanf(hex++, "%2x", &byte), 1);
        to[length++] = (unsigned char)byte;
    }
    return length;
}

/* A copy of exactly these bytes, so that a sanitizer sees a read behind them. To be freed. */
static inline void *exact(const void *bytes, size_t length)
{
    void *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, length);
    return copy;
}

#endif /* EVPQ_TESTS_BYTES_H */
