/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_OPTIONS_H
#define EVPQ_LIB_BASE_OPTIONS_H

#include <evpq/base.h>

/*
 * Reads an options struct, whose first field is its size, as a program of
 * another version may have filled it. What it lacks is zero in `into`, which
 * has `known` bytes; `from` == NULL is all zero. What evpq does not know must
 * be zero. Returns what is wrong, a static text, and then `into` is all zero;
 * NULL when nothing is.
 */
const char *evpq__options_read(void *into, size_t known, const void *from);

static inline bool evpq__switch_valid(evpq_switch choice)
{
    return choice >= EVPQ_DEFAULT && choice <= EVPQ_OFF;
}

#endif /* EVPQ_LIB_BASE_OPTIONS_H */
