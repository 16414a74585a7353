/* SPDX-License-Identifier: MIT */
#include "support/fake_mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t bytes;
static atomic_int allocations, fail_at, failures;
static atomic_bool for_good;

void fake_mem_reset(void)
{
    bytes = 0;
    allocations = fail_at = failures = 0;
    for_good = false;
}

size_t fake_mem_bytes(void)
{
    return bytes;
}

int fake_mem_allocations(void)
{
    return allocations;
}

static void fail_when(int n, bool from_there_on)
{
    for_good = from_there_on;
    failures = 0;
    fail_at = n > 0 ? allocations + n : 0;
}

void fake_mem_fail_at(int n)
{
    fail_when(n, false);
}

void fake_mem_fail_from(int n)
{
    fail_when(n, true);
}

bool fake_mem_has_failed(void)
{
    return failures > 0;
}

/* The size stands before each block, in room that keeps it aligned. */
enum { HEADER = 16 };

static void *counted_calloc(size_t count, size_t size)
{
    int n = ++allocations;
    if (fail_at > 0 && (n == fail_at || (for_good && n > fail_at))) {
        failures++;
        return NULL;
    }
    size *= count;
    char *block = malloc(HEADER + size);
    if (!block)
        abort();
    memcpy(block, &size, sizeof(size));
    bytes += size;
    return memset(block + HEADER, 0, size);
}

static void counted_free(void *memory)
{
    if (!memory)
        return;
    char *block = (char *)memory - HEADER;
    size_t size;
    memcpy(&size, block, sizeof(size));
    bytes -= size;
    memset(block, 0xdd, HEADER + size);
    free(block);
}

/* The real thing, on top of these. */
#define calloc       counted_calloc
#define malloc(size) counted_calloc(1, size)
#define free         counted_free
#include "base/mem.c"
