/* SPDX-License-Identifier: MIT */
#include "support/torture.h"

#include <assert.h>
#include <evpq/evpq.h>
#include <libpq-fe.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static enum torture_layer layer;
static atomic_bool watching; /* calls of malloc() */
static atomic_long allocations, fail_at, failures, blocks;
static atomic_bool for_good;
static atomic_size_t bytes;

static void fail_when(long n, bool from_there_on)
{
    fail_at = 0;
    for_good = from_there_on;
    failures = 0;
    allocations = 0;
    fail_at = n;
}

void torture_fail_at(long n)
{
    fail_when(n, false);
}

void torture_fail_from(long n)
{
    fail_when(n, true);
}

void torture_heal(void)
{
    fail_at = 0;
}

long torture_failures(void)
{
    return failures;
}

long torture_blocks(void)
{
    return blocks;
}

size_t torture_bytes(void)
{
    return bytes;
}

static bool fails(void)
{
    long n = ++allocations, at = fail_at;
    bool it_does = at > 0 && (n == at || (for_good && n > at));
    failures += it_does;
    return it_does;
}

/* evpq's own: the size stands before each block, in room that keeps it aligned. */

enum { HEADER = 16 };

static void *evpq_allocate(size_t size, void *user)
{
    (void)user;
    char *block = fails() ? NULL : malloc(HEADER + size);
    if (!block)
        return NULL;
    memcpy(block, &size, sizeof(size));
    bytes += size;
    blocks++;
    return memset(block + HEADER, 0xa5, size);
}

static void evpq_release(void *memory, void *user)
{
    (void)user;
    char *block = (char *)memory - HEADER;
    size_t size;
    memcpy(&size, block, sizeof(size));
    bytes -= size;
    blocks--;
    memset(block, 0xdd, HEADER + size);
    free(block);
}

/* The C library's. Sanitizers have a malloc() of their own, and so has valgrind. */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ANOTHER_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer) || __has_feature(leak_sanitizer)
#define ANOTHER_MALLOC 1
#endif
#endif

#if defined(__GLIBC__) && !defined(ANOTHER_MALLOC)

/* Where the code of the two libraries lies. */
static struct {
    uintptr_t from, to;
} code[8];
static size_t code_count;

static int find_code(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    if (!strstr(info->dlpi_name, "/libpq.so") && !strstr(info->dlpi_name, "/libevpq.so"))
        return 0;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        assert(code_count < sizeof(code) / sizeof(code[0]));
        code[code_count].from = info->dlpi_addr + segment->p_vaddr;
        code[code_count].to = code[code_count].from + segment->p_memsz;
        code_count++;
    }
    return 0;
}

static bool is_ours(const void *caller)
{
    for (size_t i = 0; i < code_count; i++)
        if ((uintptr_t)caller >= code[i].from && (uintptr_t)caller < code[i].to)
            return true;
    return false;
}

/* The blocks that our libraries hold, whoever frees them: a hash table with linear probing. */
enum { TABLE = 1 << 18 };
static void *held[TABLE];
static pthread_mutex_t held_mutex = PTHREAD_MUTEX_INITIALIZER;

static size_t home_of(const void *memory)
{
    return (size_t)(((uintptr_t)memory >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 46);
}

static size_t place_of(const void *memory)
{
    size_t i = home_of(memory);
    while (held[i] && held[i] != memory)
        i = (i + 1) % TABLE;
    return i;
}

static void hold(void *memory)
{
    pthread_mutex_lock(&held_mutex);
    assert(blocks < TABLE / 2);
    held[place_of(memory)] = memory;
    blocks++;
    pthread_mutex_unlock(&held_mutex);
}

static bool let_go(const void *memory)
{
    pthread_mutex_lock(&held_mutex);
    size_t gap = place_of(memory);
    bool found = held[gap] != NULL;
    if (found) {
        blocks--;
        held[gap] = NULL;
        /* What follows may have been pushed on by what has gone. */
        for (size_t i = (gap + 1) % TABLE; held[i]; i = (i + 1) % TABLE) {
            if ((i - home_of(held[i])) % TABLE < (i - gap) % TABLE)
                continue;
            held[gap] = held[i];
            held[i] = NULL;
            gap = i;
        }
    }
    pthread_mutex_unlock(&held_mutex);
    return found;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void __libc_free(void *memory);

/* Valgrind puts its own in the place of some. */
enum { MALLOC = 1, FREE = 2 };
static atomic_int called;

#define CALLER_IS_OURS() (watching && is_ours(__builtin_return_address(0)))

void *malloc(size_t size)
{
    if (!(called & MALLOC))
        called |= MALLOC;
    bool ours = CALLER_IS_OURS();
    void *memory = ours && fails() ? NULL : __libc_malloc(size);
    if (ours && memory)
        hold(memory);
    return memory;
}

void *calloc(size_t count, size_t size)
{
    bool ours = CALLER_IS_OURS();
    void *memory = ours && fails() ? NULL : __libc_calloc(count, size);
    if (ours && memory)
        hold(memory);
    return memory;
}

void *realloc(void *old, size_t size)
{
    bool ours = CALLER_IS_OURS();
    if (ours && fails())
        return NULL;
    /* Before: another thread may get the old place at once. */
    bool was_held = watching && old && let_go(old);
    void *memory = __libc_realloc(old, size);
    if (memory && (ours || was_held))
        hold(memory);
    else if (!memory && was_held)
        hold(old);
    return memory;
}

char *strdup(const char *text)
{
    bool ours = CALLER_IS_OURS();
    size_t size = strlen(text) + 1;
    char *copy = ours && fails() ? NULL : __libc_malloc(size);
    if (copy)
        memcpy(copy, text, size);
    if (ours && copy)
        hold(copy);
    return copy;
}

void free(void *memory)
{
    if (!(called & FREE))
        called |= FREE;
    if (watching && memory)
        let_go(memory);
    __libc_free(memory);
}

static void watch(bool on)
{
    if (on)
        memset(held, 0, sizeof(held));
    watching = on;
}

static const char *libpq_unavailable(void)
{
    if (code_count == 0)
        dl_iterate_phdr(find_code, NULL);
    if (code_count < 2)
        return "libpq or evpq is no shared library here";
    called = 0;
    PQconninfoFree(PQconninfoParse("", NULL));
    return called == (MALLOC | FREE) ? NULL : "malloc() is somebody else's here: valgrind's";
}

#else

static void watch(bool on)
{
    watching = on;
}

static const char *libpq_unavailable(void)
{
    return "malloc() is somebody else's here: a sanitizer's, or another C library's";
}

#endif

const char *torture_unavailable(enum torture_layer which)
{
    return which == TORTURE_LIBPQ ? libpq_unavailable() : NULL;
}

bool torture_begin(enum torture_layer which)
{
    static const evpq_allocator ours = {evpq_allocate, evpq_release, NULL};
    layer = which;
    torture_heal();
    blocks = 0;
    bytes = 0;
    if (layer == TORTURE_LIBPQ)
        watch(true);
    return layer == TORTURE_LIBPQ || evpq_set_allocator(&ours) == EVPQ_OK;
}

bool torture_end(void)
{
    torture_heal();
    watch(false);
    return layer == TORTURE_LIBPQ || evpq_set_allocator(NULL) == EVPQ_OK;
}
