/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_BENCH_SUPPORT_COUNT_H
#define EVPQ_BENCH_SUPPORT_COUNT_H

/*
 * Calls of the C library, counted by libbench-count.so where that is preloaded. So programs are
 * counted in runs of their own, and measured as they are.
 */

#include <stdatomic.h>

/* X(name) in the order of bench_meter.counts */
#define BENCH_COUNTS(X)                                                                            \
    X(allocations)                                                                                 \
    X(sends)                                                                                       \
    X(recvs)                                                                                       \
    X(waits)

enum bench_count {
#define BENCH_COUNT_ENUM(name) BENCH_COUNT_##name,
    BENCH_COUNTS(BENCH_COUNT_ENUM)
#undef BENCH_COUNT_ENUM
        BENCH_COUNT_KINDS
};

/* By dlsym(): NULL where nothing counts. */
typedef atomic_ullong *bench_counts_fn(void);
#define BENCH_COUNTS_SYMBOL "bench_counts"

#endif /* EVPQ_BENCH_SUPPORT_COUNT_H */
