/* SPDX-License-Identifier: MIT */
#include <endian.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bare/bare.h"

struct run {
    struct bare bare;
    struct bench_meter meter;
    struct bench_load load;
};

struct caller {
    struct bare_op bare;
    struct run *run;
    struct bench_op op;
    uint64_t id; /* in network order */
};

static void submit(struct caller *caller);

static void on_done(struct bare_op *op, const PGresult *result)
{
    struct caller *caller = (struct caller *)op;
    struct run *run = caller->run;
    if (caller->op.id) {
        if (PQntuples(result) != 1 || bare_int8(result, 0, 0) != caller->op.id)
            bench_fail("another row than asked for");
        bare_row(&run->meter, result, 0);
    }
    if (!bench_load_done(&run->load, &caller->op))
        bare_stop(&run->bare);
    else if (!run->load.options->per_s && bench_load_has_next(&run->load))
        submit(caller);
}

static void submit(struct caller *caller)
{
    bench_load_next(&caller->run->load, &caller->op);
    caller->id = htobe64((uint64_t)caller->op.id);
    caller->bare.statement = caller->op.id ? "point" : "slow";
    caller->bare.value = caller->op.id ? (const char *)&caller->id : NULL;
    bare_send(&caller->run->bare, &caller->bare);
}

static void caller_init(struct caller *caller, struct run *run)
{
    caller->run = run;
    caller->bare = (struct bare_op){.length = sizeof(caller->id), .format = 1, .done = on_done};
}

static void run_closed(struct run *run, uint64_t count)
{
    uint64_t callers = run->load.options->in_flight < count ? run->load.options->in_flight : count;
    struct caller *all = bench_alloc(callers, sizeof(*all));
    bench_load_begin(&run->load, count);
    for (uint64_t i = 0; i < callers; i++) {
        caller_init(&all[i], run);
        submit(&all[i]);
    }
    bare_run(&run->bare, -1, NULL, NULL);
    free(all);
}

struct arrivals {
    int fd;
    struct run *run;
    struct caller *next;
};

static void on_arrival(void *user)
{
    struct arrivals *arrivals = user;
    struct run *run = arrivals->run;
    int64_t wait_ns = 0;
    struct itimerspec when = {0};
    while (bench_load_has_next(&run->load) &&
           bench_load_arrived(&run->load, bench_now_ns(), &wait_ns)) {
        caller_init(arrivals->next, run);
        submit(arrivals->next++);
    }
    if (bench_load_has_next(&run->load)) {
        when.it_value.tv_sec = wait_ns / 1000000000;
        when.it_value.tv_nsec = wait_ns % 1000000000;
    }
    timerfd_settime(arrivals->fd, 0, &when, NULL);
}

static void run_open(struct run *run, uint64_t count)
{
    struct caller *all = bench_alloc(count, sizeof(*all));
    struct arrivals arrivals = {.run = run, .next = all};
    arrivals.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (arrivals.fd < 0)
        bench_fail("no timerfd");
    bench_load_begin(&run->load, count);
    on_arrival(&arrivals);
    bare_run(&run->bare, arrivals.fd, on_arrival, &arrivals);
    close(arrivals.fd);
    free(all);
}

void bare_point(const struct bench_options *options)
{
    static struct run run;
    void (*go)(struct run *, uint64_t) = options->per_s ? run_open : run_closed;
    run.load = (struct bench_load){.options = options, .meter = &run.meter};
    bare_open(&run.bare, options);
    bare_prepare(&run.bare, "point", BENCH_POINT_SQL);
    bare_prepare(&run.bare, "slow", BENCH_SLOW_SQL);
    bare_ready(&run.bare);
    if (options->warmup)
        go(&run, options->warmup);
    bench_meter_begin(&run.meter);
    go(&run, options->count);
    bench_meter_end(&run.meter);
    bench_meter_print(&run.meter, options->count);
    bare_close(&run.bare);
}
