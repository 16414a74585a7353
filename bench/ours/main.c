/* SPDX-License-Identifier: MIT */
/*
 * bench-evpq KIND NAME=VALUE...: does one piece of work by evpq, and prints what it cost.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ours/ours.h"
#include "support/count.h"

static bool watching;
static atomic_ullong allocations, bytes_held;

static void *allocate(size_t size, void *user)
{
    (void)user;
    void *memory = malloc(size);
    if (memory) {
        atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&bytes_held, malloc_usable_size(memory), memory_order_relaxed);
    }
    return memory;
}

static void release(void *memory, void *user)
{
    (void)user;
    atomic_fetch_sub_explicit(&bytes_held, malloc_usable_size(memory), memory_order_relaxed);
    free(memory);
}

void bench_memory_watch(void)
{
    watching = true;
    bench_check(evpq_set_allocator(&(evpq_allocator){.allocate = allocate, .release = release}),
                NULL);
}

struct bench_memory bench_memory_now(void)
{
    return (struct bench_memory){.allocations = allocations, .bytes = bytes_held};
}

void bench_memory_print(struct bench_memory before, uint64_t operations)
{
    uint64_t made = allocations - before.allocations;
    if (watching)
        bench_print("own_allocations", (double)made / (double)operations);
}

void bench_check(int code, const evpq_error *err)
{
    if (err)
        bench_fail("%s: %s", evpq_code_name(evpq_error_code(err)), evpq_error_message(err));
    if (code != EVPQ_OK)
        bench_fail("%s", evpq_code_name(code));
}

void bench_row(struct bench_meter *meter, const evpq_result *result, uint32_t row)
{
    int64_t id;
    int32_t amount;
    evpq_text_view name;
    bench_check(evpq_result_int8(result, row, 0, &id), NULL);
    bench_check(evpq_result_int4(result, row, 1, &amount), NULL);
    bench_check(evpq_result_text(result, row, 2, &name), NULL);
    bench_meter_row(meter, id, amount, name.data, name.length);
}

void bench_text_row(struct bench_meter *meter, const evpq_result *result, uint32_t row)
{
    evpq_text_view id, amount, name;
    bench_check(evpq_result_text(result, row, 0, &id), NULL);
    bench_check(evpq_result_text(result, row, 1, &amount), NULL);
    bench_check(evpq_result_text(result, row, 2, &name), NULL);
    bench_meter_row(meter, strtoll(id.data, NULL, 10), (int32_t)strtol(amount.data, NULL, 10),
                    name.data, name.length);
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)timer, (void)events;
}

evpq_pool *bench_pool_open(struct ev_loop *loop, const struct bench_options *options)
{
    evpq_pool *pool;
    uint32_t connections = (uint32_t)options->connections;
    evpq_pool_options o = {
        .size = sizeof(o),
        .conninfo = options->conninfo,
        .min_size = connections,
        .max_size = connections,
        .max_waiters = 1000000,
    };
#ifdef BENCH_HAS_PIPELINE_DEPTH
    o.pipeline_depth = (uint32_t)options->depth;
#else
    if (options->depth > 1)
        bench_not_in_this_build("pipeline_depth");
#endif
    bench_check(evpq_pool_open(&pool, loop, &o), NULL);
    /* All of them, so that no dial is measured along. */
    evpq_pool_stats stats = {.size = sizeof(stats)};
    ev_timer look; /* for a loop that blocks behind its callbacks */
    ev_timer_init(&look, on_look, 0.001, 0.001);
    ev_timer_start(loop, &look);
    while (stats.idle < connections) {
        /* Not EVRUN_ONCE: the last connection is there before the loop blocks, for a minute. */
        ev_run(loop, EVRUN_NOWAIT);
        usleep(1000);
        bench_check(evpq_pool_stats_get(pool, &stats), NULL);
        if (stats.dial_failures > 0)
            bench_fail("a connection could not be made");
    }
    ev_timer_stop(loop, &look);
    return pool;
}

void bench_pool_close(struct ev_loop *loop, evpq_pool *pool)
{
    bench_check(evpq_pool_close(pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL), NULL);
    ev_run(loop, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const struct bench_options *options);
    } kinds[] = {
        {"point", bench_point}, {"mix", bench_point},       {"pages", bench_pages},
        {"dials", bench_dials}, {"waiting", bench_waiting}, {"stream", bench_stream},
    };
    struct bench_options options;
    bench_options_read(&options, argc, argv);
    if (options.plain)
        bench_fail("evpq has no plain mode");
    if (dlsym(RTLD_DEFAULT, BENCH_COUNTS_SYMBOL))
        bench_memory_watch();
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, options.kind) == 0) {
            kinds[i].run(&options);
            return 0;
        }
    }
    bench_fail("no such kind: %s", options.kind);
}
