/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_HASH_H
#define EVPQ_LIB_BASE_HASH_H

/*
 * uthash, whose tables take their memory where we do. An entry for which there
 * was none is not in the table: its hh.tbl is NULL.
 */

#include "base/mem.h"

#define uthash_malloc(size)        evpq__alloc(size)
#define uthash_free(memory, size)  evpq__free(memory)
#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((void)(entry))
#include <uthash.h>

#endif /* EVPQ_LIB_BASE_HASH_H */
