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
void evpq__free(void *memory);
/* A copy of a string, or NULL; also for NULL. */
char *evpq__strdup(const char *text);
/* As asprintf(), or NULL. */
char *evpq__format(const char *format, ...) __attribute__((format(__printf__, 1, 2)));

#endif /* EVPQ_LIB_BASE_MEM_H */
