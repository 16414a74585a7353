/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_TORTURE_H
#define EVPQ_TESTS_TORTURE_H

/*
 * Memory that is counted and runs out when it is told to, from any thread. Two
 * layers: evpq's own, through evpq_set_allocator(); or all that libpq and evpq
 * ask of the C library, by a malloc() of the program's own that looks at who
 * calls. Others always get what they ask for: libev and libc give up by
 * themselves without memory.
 */

#include <stdbool.h>
#include <stddef.h>

enum torture_layer {
    TORTURE_EVPQ,
    TORTURE_LIBPQ,
};

/* Why a layer cannot be had in this program; NULL when it can. */
const char *torture_unavailable(enum torture_layer layer);

/* From here on this layer is counted. TORTURE_EVPQ: false when evpq holds memory already. */
bool torture_begin(enum torture_layer layer);
/* TORTURE_EVPQ: false when evpq still holds memory. */
bool torture_end(void);

/* The nth allocation from now on fails, once; or all from the nth on. */
void torture_fail_at(long n);
void torture_fail_from(long n);
/* None fails any more. */
void torture_heal(void);
/* Allocations that failed since the last torture_fail_*(). */
long torture_failures(void);

/* What has been allocated since torture_begin() and is not freed yet; bytes: TORTURE_EVPQ only. */
long torture_blocks(void);
size_t torture_bytes(void);

#endif /* EVPQ_TESTS_TORTURE_H */
