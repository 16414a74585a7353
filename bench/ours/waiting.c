/* SPDX-License-Identifier: MIT */
/*
 * A great many operations wait for one connection that never comes free, until all their deadlines
 * pass at once.
 */
#include <stdlib.h>

#include "ours/ours.h"

struct run {
    struct ev_loop *loop;
    const struct bench_options *options;
    struct bench_meter meter;
    uint64_t left;
    int64_t latest_ns; /* how late the latest was */
};

struct waiter {
    struct run *run;
    int64_t due_ns;
};

static void on_expired(evpq_result *result, const evpq_error *err, void *user)
{
    struct waiter *waiter = user;
    struct run *run = waiter->run;
    int64_t late_ns = bench_now_ns() - waiter->due_ns;
    (void)result;
    if (evpq_error_code(err) != EVPQ_ETIMEOUT || evpq_error_fate(err) != EVPQ_NOT_SENT)
        bench_fail("not what a waiter hears at its deadline");
    if (late_ns < -1000000)
        bench_fail("%.3f ms before its deadline", (double)-late_ns / 1e6);
    bench_meter_latency(&run->meter, late_ns);
    if (late_ns > run->latest_ns)
        run->latest_ns = late_ns;
    if (--run->left == 0)
        ev_break(run->loop, EVBREAK_ALL);
}

static void on_blocker(evpq_result *result, const evpq_error *err, void *user)
{
    (void)result;
    (void)err;
    (void)user;
}

void bench_waiting(const struct bench_options *options)
{
    static struct run run;
    static struct bench_turns turns;
    uint64_t count = options->count;
    uint32_t timeout_ms = (uint32_t)options->timeout_ms;
    struct bench_options one = *options;
    one.connections = 1;
    run.loop = ev_default_loop(0);
    run.options = options;
    bench_memory_watch();
    evpq_pool *pool = bench_pool_open(run.loop, &one);
    struct waiter *all = bench_alloc(count, sizeof(*all));
    bench_check(evpq_pool_query(NULL, pool, EVPQ_QUERY("SELECT pg_sleep(3600)"), on_blocker, NULL),
                NULL);
    ev_run(run.loop, EVRUN_NOWAIT);

    bench_turns_watch(run.loop, &turns, &run.meter);

    struct bench_memory before = bench_memory_now();
    bench_meter_begin(&run.meter);
    run.left = count;
    int64_t submit_cpu_ns = bench_thread_cpu_ns();
    /* The acquire timeout is half of it by default: here it is the deadline that passes. */
    for (uint64_t i = 0; i < count; i++) {
        all[i].run = &run;
        all[i].due_ns = bench_now_ns() + (int64_t)timeout_ms / 2 * 1000000;
        bench_check(evpq_pool_query(NULL, pool,
                                    EVPQ_QUERY(BENCH_POINT_SQL, EVPQ_PARAMS(evpq_int8((int64_t)i)),
                                               .timeout_ms = timeout_ms),
                                    on_expired, &all[i]),
                    NULL);
    }
    int64_t submit_ns = bench_now_ns() - run.meter.wall_ns;
    submit_cpu_ns = bench_thread_cpu_ns() - submit_cpu_ns;
    struct bench_memory after = bench_memory_now();
    bench_turn_begin(&run.meter);
    ev_run(run.loop, 0);
    bench_meter_end(&run.meter);

    bench_meter_print(&run.meter, count);
    bench_print("submit_ns", (double)submit_ns / (double)count);
    bench_print("submit_cpu_ns", (double)submit_cpu_ns / (double)count);
    bench_print("own_bytes", (double)(after.bytes - before.bytes) / (double)count);
    bench_memory_print(before, count);
    bench_print("late_ms", (double)run.latest_ns / 1e6);
    bench_check(evpq_pool_close(pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), NULL);
    ev_run(run.loop, 0);
    free(all);
}
