/* SPDX-License-Identifier: MIT */
/*
 * All connections of a pool at once, until each is there; again and again, with a pool of its own
 * each time.
 */
#include "ours/ours.h"

struct run {
    struct ev_loop *loop;
    const struct bench_options *options;
    struct bench_meter meter;
    evpq_pool *pool;
    uint64_t dialed;
    int64_t began_ns;
};

static void on_trace(const evpq_trace *event, void *user)
{
    struct run *run = user;
    if (event->kind == EVPQ_TRACE_DIAL_FAILED)
        bench_fail("no connection: %s", event->sqlstate);
    bench_meter_latency(&run->meter, bench_now_ns() - run->began_ns);
    if (++run->dialed == run->options->connections)
        ev_break(run->loop, EVBREAK_ALL);
}

void bench_dials(const struct bench_options *options)
{
    static struct run run;
    static struct bench_turns turns;
    uint64_t rounds = options->count / options->connections;
    int64_t wall_ns = 0;
    run.loop = ev_default_loop(0);
    run.options = options;
    bench_turns_watch(run.loop, &turns, &run.meter);

    bench_meter_begin(&run.meter);
    for (uint64_t i = 0; i < rounds; i++) {
        run.dialed = 0;
        run.began_ns = bench_now_ns();
        bench_turn_begin(&run.meter);
        bench_check(evpq_pool_open(&run.pool, run.loop,
                                   EVPQ_POOL_OPTIONS(.conninfo = options->conninfo,
                                                     .min_size = (uint32_t)options->connections,
                                                     .max_size = (uint32_t)options->connections,
                                                     .on_trace = on_trace, .trace_user = &run,
                                                     .trace_kinds = EVPQ_TRACE_DIALED |
                                                                    EVPQ_TRACE_DIAL_FAILED)),
                    NULL);
        ev_run(run.loop, 0);
        wall_ns += bench_now_ns() - run.began_ns;
        bench_pool_close(run.loop, run.pool);
    }
    bench_meter_end(&run.meter);
    run.meter.wall_ns = wall_ns; /* of the dials only */
    bench_meter_print(&run.meter, rounds * options->connections);
}
