/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_BENCH_OURS_OURS_H
#define EVPQ_BENCH_OURS_OURS_H

/* The work of the bench, done by evpq. What the library does not have yet is compiled out. */

#include <ev.h>
#include <evpq/evpq.h>

#include "support/bench.h"

/* One function for each kind. */
void bench_point(const struct bench_options *options);
void bench_pages(const struct bench_options *options);
void bench_stream(const struct bench_options *options);
void bench_dials(const struct bench_options *options);
void bench_waiting(const struct bench_options *options);

/* Opens a pool of options->connections, and waits until they are there. */
evpq_pool *bench_pool_open(struct ev_loop *loop, const struct bench_options *options);
void bench_pool_close(struct ev_loop *loop, evpq_pool *pool);
void bench_check(int code, const evpq_error *err);
/* The row of a point select, of a page, of a stream. */
void bench_row(struct bench_meter *meter, const evpq_result *result, uint32_t row);
void bench_text_row(struct bench_meter *meter, const evpq_result *result, uint32_t row);

/* Measures the turns of the loop, from now on. */
struct bench_turns {
    ev_check first;
    ev_prepare last;
};
void bench_turns_watch(struct ev_loop *loop, struct bench_turns *turns, struct bench_meter *meter);

/* What evpq itself allocates: counted where bench-count is preloaded, or when asked for. */
struct bench_memory {
    uint64_t allocations;
    uint64_t bytes; /* held now */
};
void bench_memory_watch(void);
struct bench_memory bench_memory_now(void);
/* Of each operation since then, where it is watched. */
void bench_memory_print(struct bench_memory before, uint64_t operations);

#endif /* EVPQ_BENCH_OURS_OURS_H */
