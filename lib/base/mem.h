/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_MEM_H
#define EVPQ_LIB_BASE_MEM_H

/*
 * Memory. The only place that calls malloc, so that tests can count and fail
 * every allocation.
 */

#include <stddef.h>

/* `size` zeroed bytes, or NULL. */
void *evpq__alloc(size_t size);
/* The same, with anything in them: for what is about to be written. */
void *evpq__alloc_raw(size_t size);
void evpq__free(void *memory);
/* A copy of a string, or NULL; also for NULL. */
char *evpq__strdup(const char *text);
/* As asprintf(), or NULL. */
char *evpq__format(const char *format, ...) __attribute__((format(__printf__, 1, 2)));

/* Up to where the next object of a block may begin, aligned as malloc() aligns. */
static inline size_t evpq__aligned(size_t size)
{
    size_t unit = _Alignof(max_align_t);
    return (size + unit - 1) / unit * unit;
}

#endif /* EVPQ_LIB_BASE_MEM_H */
