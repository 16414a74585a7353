/* SPDX-License-Identifier: MIT */
/*
 * Walks over the table by its primary key, all from its start, so many at once.
 */
#include <stdlib.h>

#include "ours/ours.h"

struct run {
    struct ev_loop *loop;
    const struct bench_options *options;
    struct bench_meter meter;
    uint64_t walking;
};

struct walker {
    struct run *run;
    evpq_pager *pager;
    uint64_t pages_left;
    int64_t began_ns;
};

static void next_page(struct walker *walker);

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct walker *walker = user;
    struct run *run = walker->run;
    bench_check(EVPQ_OK, err);
    if (evpq_page_rows(page) != run->options->page_size)
        bench_fail("a page of %u rows", evpq_page_rows(page));
    for (uint32_t row = 0; row < evpq_page_rows(page); row++)
        bench_text_row(&run->meter, evpq_page_result(page), row);
    bench_meter_latency(&run->meter, bench_now_ns() - walker->began_ns);
    if (--walker->pages_left > 0)
        next_page(walker);
    else if (--run->walking == 0)
        ev_break(run->loop, EVBREAK_ALL);
}

static void next_page(struct walker *walker)
{
    walker->began_ns = bench_now_ns();
    bench_check(evpq_pager_next(NULL, walker->pager, on_page, walker), NULL);
}

static void walk(struct run *run, evpq_pool *pool, uint64_t pages)
{
    uint64_t walkers = run->options->in_flight;
    struct walker *all = bench_alloc(walkers, sizeof(*all));
    run->walking = walkers;
    for (uint64_t i = 0; i < walkers; i++) {
        all[i].run = run;
        all[i].pages_left = pages;
        const evpq_pager_options *options =
            EVPQ_PAGER_OPTIONS(.sql = BENCH_STREAM_SQL, .order_by = "id",
                               .page_size = (uint32_t)run->options->page_size);
        bench_check(evpq_pager_open(&all[i].pager, pool, options), NULL);
        next_page(&all[i]);
    }
    ev_run(run->loop, 0);
    for (uint64_t i = 0; i < walkers; i++)
        evpq_pager_close(all[i].pager);
    free(all);
}

/* count is pages, each walker takes its share. */
void bench_pages(const struct bench_options *options)
{
    static struct run run;
    run.loop = ev_default_loop(0);
    run.options = options;
    evpq_pool *pool = bench_pool_open(run.loop, options);
    if (options->warmup)
        walk(&run, pool, options->warmup / options->in_flight + 1);
    struct bench_memory before = bench_memory_now();
    bench_meter_begin(&run.meter);
    walk(&run, pool, options->count / options->in_flight);
    bench_meter_end(&run.meter);
    bench_meter_print(&run.meter, options->count);
    bench_memory_print(before, options->count);
    bench_pool_close(run.loop, pool);
}
