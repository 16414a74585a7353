/* SPDX-License-Identifier: MIT */
/*
 * The allocator is the process's: what is allocated travels between threads and
 * outlives the object that made it. It may change only while nothing is held,
 * so each block goes back to where it came from; `held` is how that is known.
 */
#include "base/mem.h"

#include <evpq/error.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static evpq_allocator hooks; /* both NULL: malloc() and free() */
static atomic_size_t held;

int evpq_set_allocator(const evpq_allocator *allocator)
{
    if (atomic_load(&held) > 0 || (allocator && (!allocator->allocate || !allocator->release)))
        return EVPQ_EINVALID;
    hooks = allocator ? *allocator : (evpq_allocator){0};
    return EVPQ_OK;
}

static void *counted(void *memory)
{
    if (memory)
        atomic_fetch_add_explicit(&held, 1, memory_order_relaxed);
    return memory;
}

void *evpq__alloc_raw(size_t size)
{
    if (size == 0)
        size = 1;
    return counted(hooks.allocate ? hooks.allocate(size, hooks.user) : malloc(size));
}

void *evpq__alloc(size_t size)
{
    /* calloc() is for what comes from the system as zeroes; it passes by glibc's caches. */
    enum { SMALL = 4096 };
    if (!hooks.allocate && size > SMALL)
        return counted(calloc(1, size));
    void *memory = evpq__alloc_raw(size);
    return memory ? memset(memory, 0, size) : NULL;
}

void evpq__free(void *memory)
{
    if (!memory)
        return;
    if (hooks.release)
        hooks.release(memory, hooks.user);
    else
        free(memory);
    atomic_fetch_sub_explicit(&held, 1, memory_order_relaxed);
}

char *evpq__strdup(const char *text)
{
    if (!text)
        return NULL;
    size_t size = strlen(text) + 1;
    char *copy = evpq__alloc(size);
    if (copy)
        memcpy(copy, text, size);
    return copy;
}

char *evpq__format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : evpq__alloc((size_t)length + 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}
