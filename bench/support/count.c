/* SPDX-License-Identifier: MIT */
/*
 * Preloaded: counts allocations, and the system calls that a client of PostgreSQL makes for each
 * query. Allocations go on to what glibc calls its own functions, for the dynamic linker allocates
 * before it could find the next ones.
 */
#include "count.h"

#include <dlfcn.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#define EXPORT __attribute__((visibility("default")))

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

EXPORT bench_counts_fn bench_counts;

static atomic_ullong counts[BENCH_COUNT_KINDS];

atomic_ullong *bench_counts(void)
{
    return counts;
}

static void count(enum bench_count kind)
{
    atomic_fetch_add_explicit(&counts[kind], 1, memory_order_relaxed);
}

EXPORT void *malloc(size_t size)
{
    count(BENCH_COUNT_allocations);
    return __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
    count(BENCH_COUNT_allocations);
    return __libc_calloc(n, size);
}

EXPORT void *realloc(void *memory, size_t size)
{
    count(BENCH_COUNT_allocations);
    return __libc_realloc(memory, size);
}

/* What we hide, found once. */
#define NEXT(type, name)                                                                           \
    static _Atomic(type *) next;                                                                   \
    type *call = atomic_load_explicit(&next, memory_order_relaxed);                                \
    if (!call) {                                                                                   \
        *(void **)&call = dlsym(RTLD_NEXT, name);                                                  \
        atomic_store_explicit(&next, call, memory_order_relaxed);                                  \
    }

typedef ssize_t send_fn(int, const void *, size_t, int);
typedef ssize_t recv_fn(int, void *, size_t, int);
typedef int epoll_wait_fn(int, struct epoll_event *, int, int);
typedef int poll_fn(struct pollfd *, nfds_t, int);

EXPORT ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    NEXT(send_fn, "send")
    count(BENCH_COUNT_sends);
    return call(fd, bytes, length, flags);
}

EXPORT ssize_t recv(int fd, void *bytes, size_t length, int flags)
{
    NEXT(recv_fn, "recv")
    count(BENCH_COUNT_recvs);
    return call(fd, bytes, length, flags);
}

EXPORT int epoll_wait(int fd, struct epoll_event *events, int size, int timeout)
{
    NEXT(epoll_wait_fn, "epoll_wait")
    count(BENCH_COUNT_waits);
    return call(fd, events, size, timeout);
}

EXPORT int poll(struct pollfd *fds, nfds_t size, int timeout)
{
    NEXT(poll_fn, "poll")
    count(BENCH_COUNT_waits);
    return call(fds, size, timeout);
}
