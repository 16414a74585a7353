/* SPDX-License-Identifier: MIT */
/*
 * Point selects: so many callers, each of which asks again when it has its answer. With per_s they
 * come by a clock instead, and one in a hundred is slow.
 */
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "ours/ours.h"

struct run {
    struct ev_loop *loop;
    evpq_pool *pool;
    struct bench_meter meter;
    struct bench_load load;
};

struct caller {
    struct run *run;
    struct bench_op op;
};

static void submit(struct caller *caller);

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct caller *caller = user;
    struct run *run = caller->run;
    int64_t id;
    bench_check(EVPQ_OK, err);
    if (caller->op.id) {
        if (evpq_result_rows(result) != 1 || evpq_result_int8(result, 0, 0, &id) != EVPQ_OK ||
            id != caller->op.id)
            bench_fail("another row than asked for");
        bench_row(&run->meter, result, 0);
    }
    if (!bench_load_done(&run->load, &caller->op))
        ev_break(run->loop, EVBREAK_ALL);
    else if (!run->load.options->per_s && bench_load_has_next(&run->load))
        submit(caller);
}

static void submit(struct caller *caller)
{
    struct run *run = caller->run;
    bench_load_next(&run->load, &caller->op);
    const evpq_query *query =
        caller->op.id ? EVPQ_QUERY(BENCH_POINT_SQL, EVPQ_PARAMS(evpq_int8(caller->op.id)))
                      : EVPQ_QUERY(BENCH_SLOW_SQL);
    bench_check(evpq_pool_query(NULL, run->pool, query, on_result, caller), NULL);
}

/* Each caller goes on until there is nothing left. */
static void run_closed(struct run *run, uint64_t count)
{
    uint64_t callers = run->load.options->in_flight < count ? run->load.options->in_flight : count;
    struct caller *all = bench_alloc(callers, sizeof(*all));
    bench_load_begin(&run->load, count);
    for (uint64_t i = 0; i < callers; i++) {
        all[i].run = run;
        submit(&all[i]);
    }
    ev_run(run->loop, 0);
    free(all);
}

struct arrivals {
    ev_io io;
    struct run *run;
    struct caller *next;
};

/* libev's own timers are as fine as a millisecond. */
static void on_arrival(struct ev_loop *loop, ev_io *io, int events)
{
    struct arrivals *arrivals = (struct arrivals *)io;
    struct run *run = arrivals->run;
    int64_t wait_ns = 0;
    (void)events;
    while (bench_load_has_next(&run->load) &&
           bench_load_arrived(&run->load, bench_now_ns(), &wait_ns)) {
        arrivals->next->run = run;
        submit(arrivals->next++);
    }
    if (!bench_load_has_next(&run->load)) {
        ev_io_stop(loop, io);
        return;
    }
    struct itimerspec when = {
        .it_value = {.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000}};
    timerfd_settime(io->fd, 0, &when, NULL);
}

static void run_open(struct run *run, uint64_t count)
{
    struct caller *all = bench_alloc(count, sizeof(*all));
    struct arrivals arrivals = {.run = run, .next = all};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0)
        bench_fail("no timerfd");
    bench_load_begin(&run->load, count);
    ev_io_init(&arrivals.io, on_arrival, fd, EV_READ);
    ev_io_start(run->loop, &arrivals.io);
    on_arrival(run->loop, &arrivals.io, 0);
    ev_run(run->loop, 0);
    close(fd);
    free(all);
}

void bench_point(const struct bench_options *options)
{
    static struct run run;
    void (*go)(struct run *, uint64_t) = options->per_s ? run_open : run_closed;
    run.loop = ev_default_loop(0);
    run.load = (struct bench_load){.options = options, .meter = &run.meter};
    run.pool = bench_pool_open(run.loop, options);
    if (options->warmup)
        go(&run, options->warmup);
    struct bench_memory before = bench_memory_now();
    bench_meter_begin(&run.meter);
    go(&run, options->count);
    bench_meter_end(&run.meter);
    bench_meter_print(&run.meter, options->count);
    bench_memory_print(before, options->count);
    bench_pool_close(run.loop, run.pool);
}
