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

/** The version of the library that is running, as in EVPQ_VERSION. Static. */
EVPQ_API const char *evpq_version(void);

EVPQ_END_DECLS

#endif /* EVPQ_BASE_H */
