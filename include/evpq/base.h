/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_BASE_H
#define EVPQ_BASE_H

/**
 * @file
 * What every other header needs: export marks, limits and the version.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define EVPQ_BEGIN_DECLS extern "C" {
#define EVPQ_END_DECLS   }
#else
#define EVPQ_BEGIN_DECLS
#define EVPQ_END_DECLS
#endif

#if defined(__GNUC__) || defined(__clang__)
#define EVPQ_API        __attribute__((visibility("default")))
#define EVPQ_MUST_CHECK __attribute__((warn_unused_result))
#else
#define EVPQ_API
#define EVPQ_MUST_CHECK
#endif

EVPQ_BEGIN_DECLS

/** The version of the headers a program was compiled with. */
#define EVPQ_VERSION "0.1.0"

/** For every field named *_timeout_ms, *_lifetime_ms: no limit. Zero always means the default. */
#define EVPQ_NEVER UINT32_MAX

/** A choice that has a default. */
typedef enum evpq_switch {
    EVPQ_DEFAULT = 0,
    EVPQ_ON = 1,
    EVPQ_OFF = 2,
} evpq_switch;

/** The version of the library that is running, as in EVPQ_VERSION. Static. */
EVPQ_API const char *evpq_version(void);

/** Where evpq takes memory from. Both are called from any thread. */
typedef struct evpq_allocator {
    /** So many bytes, aligned as malloc() aligns, or NULL; never asked for 0. */
    void *(*allocate)(size_t size, void *user);
    /** Gives back what allocate() returned; never called with NULL. */
    void (*release)(void *memory, void *user);
    void *user;
} evpq_allocator;

/**
 * Take memory from somewhere else than malloc().
 *
 * For the whole process: results, errors and tokens outlive their pool and travel between threads,
 * so a pool's own allocator would have to be carried by each of them. It is the one setting that
 * is not an object's, and changes only while evpq holds no memory at all. Memory of libpq, libev,
 * OpenSSL and the C library is theirs.
 *
 * @param allocator  copied; NULL is malloc() and free() again
 *
 * @return EVPQ_OK; EVPQ_EINVALID for a missing function, or when evpq holds memory: open pools,
 * pagers, kept results or tokens, a name lookup that never ended
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_set_allocator(const evpq_allocator *allocator);

EVPQ_END_DECLS

#endif /* EVPQ_BASE_H */
