/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_AWAIT_CHECKERS_H
#define EVPQ_LIB_AWAIT_CHECKERS_H

/* What AddressSanitizer and valgrind want to know of a switch of stacks; nothing without them. */

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EVPQ__ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define EVPQ__ASAN 1
#endif

#ifdef EVPQ__ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(start, size) ((void)(start), (void)(size))
static inline void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size)
{
    (void)save, (void)bottom, (void)size;
}
static inline void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size)
{
    (void)save, (void)bottom, (void)size;
}
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id)       ((void)(id))
#endif

#endif /* EVPQ_LIB_AWAIT_CHECKERS_H */
