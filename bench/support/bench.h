/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_BENCH_SUPPORT_BENCH_H
#define EVPQ_BENCH_SUPPORT_BENCH_H

/*
 * What the programs of the bench share: how they are told what to do, what is measured, and the
 * load: which statement is next, so that all of them do the same work.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The exit status of a program that cannot do what it is asked for. */
enum { BENCH_NOT_IN_THIS_BUILD = 77 };

/* PROGRAM KIND NAME=VALUE... */
struct bench_options {
    const char *kind;
    const char *conninfo; /* NULL: libpq's environment */
    uint64_t connections;
    uint64_t in_flight; /* operations at once: each is followed by the next */
    uint64_t depth;     /* statements under way on one connection */
    uint64_t count;     /* operations that are measured */
    uint64_t warmup;    /* operations before that */
    uint64_t rows;      /* of the table */
    uint64_t page_size;
    uint64_t per_s; /* arrivals; operations do not wait for each other then */
    uint64_t timeout_ms;
    bool plain; /* without pipeline mode */
};

void bench_options_read(struct bench_options *out, int argc, char **argv);

/* Says why on stderr, and ends the program. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(__printf__, 1, 2)));
_Noreturn void bench_not_in_this_build(const char *what);

/* CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID */
int64_t bench_now_ns(void);
int64_t bench_thread_cpu_ns(void);
void *bench_alloc(size_t count, size_t size);

/* The table, and what is asked of it */

#define BENCH_POINT_SQL  "SELECT id, amount, name FROM evpq_bench.items WHERE id = $1"
#define BENCH_SLOW_SQL   "SELECT pg_sleep(0.1)"
#define BENCH_STREAM_SQL "SELECT id, amount, name FROM evpq_bench.items"
/* What a pager makes of BENCH_STREAM_SQL and "id". */
#define BENCH_FIRST_PAGE_SQL                                                                       \
    "SELECT * FROM (\nSELECT id, amount, name FROM evpq_bench.items\n) AS evpq_page"               \
    " ORDER BY \"id\" LIMIT "
#define BENCH_NEXT_PAGE_SQL                                                                        \
    "SELECT * FROM (\nSELECT id, amount, name FROM evpq_bench.items\n) AS evpq_page"               \
    " WHERE \"id\" > $1 ORDER BY \"id\" LIMIT "

/* Measuring */

/*
 * Latencies, by size: exact to a hundredth, in memory that does not grow with their number. Up to
 * 256 ns each has its own bucket, above that each power of two has 128.
 */
enum { BENCH_BUCKETS = 256 + 128 * 32 };

struct bench_meter {
    uint64_t checksum; /* of all rows, in any order */
    uint64_t rows;
    int64_t wall_ns, cpu_ns;
    int64_t turn_began_ns, longest_turn_ns;
    int64_t turn_began_cpu_ns, longest_turn_cpu_ns; /* the same, without waiting for a processor */
    uint64_t counts[8];
    uint32_t latencies[BENCH_BUCKETS];
};

/* Everything from here to bench_meter_end() counts. */
void bench_meter_begin(struct bench_meter *meter);
void bench_meter_end(struct bench_meter *meter);
void bench_meter_latency(struct bench_meter *meter, int64_t ns);
void bench_meter_row(struct bench_meter *meter, int64_t id, int32_t amount, const char *name,
                     size_t length);
/* A turn of the loop: from the return of poll to its next call. */
void bench_turn_begin(struct bench_meter *meter);
void bench_turn_end(struct bench_meter *meter);

/* Lines of "metric<TAB>value" on stdout. */
void bench_meter_print(const struct bench_meter *meter, uint64_t operations);
void bench_print(const char *metric, double value);

/* The load */

/* A point select, or a slow statement, in the place that it has in the load. */
struct bench_op {
    int64_t id; /* 0: the slow statement */
    int64_t began_ns;
};

struct bench_load {
    const struct bench_options *options;
    struct bench_meter *meter;
    uint64_t begun, done, end;
    int64_t due_ns; /* of the next arrival */
    uint64_t random;
};

void bench_load_begin(struct bench_load *load, uint64_t count);
bool bench_load_has_next(const struct bench_load *load);
void bench_load_next(struct bench_load *load, struct bench_op *op);
/* False when it was the last one. A slow statement counts, but not its latency. */
bool bench_load_done(struct bench_load *load, const struct bench_op *op);
/* True when the next one has arrived; else *wait_ns is how long it takes. */
bool bench_load_arrived(struct bench_load *load, int64_t now_ns, int64_t *wait_ns);

#endif /* EVPQ_BENCH_SUPPORT_BENCH_H */
