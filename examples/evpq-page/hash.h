/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_HASH_H
#define EVPQ_PAGE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* FNV-1a, 64 bits (isthe.com/chongo/tech/comp/fnv). */
#define HASH_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Lets each bit count in the highest ones (Knuth, TAOCP 3, 6.4: multiplicative hashing). */
static inline uint64_t hash_spread(uint64_t hash)
{
    return hash * UINT64_C(0x9e3779b97f4a7c15);
}

#endif /* EVPQ_PAGE_HASH_H */
