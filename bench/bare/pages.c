/* SPDX-License-Identifier: MIT */
/*
 * The statements that a pager makes, with its one row more than the page, which tells whether there
 * is another; in text, as pages come by default.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bare/bare.h"

struct run {
    struct bare bare;
    const struct bench_options *options;
    struct bench_meter meter;
    uint64_t walking;
};

struct walker {
    struct bare_op bare;
    struct run *run;
    uint64_t pages_left;
    int64_t began_ns;
    char after[24];
};

static void next_page(struct walker *walker)
{
    walker->began_ns = bench_now_ns();
    bare_send(&walker->run->bare, &walker->bare);
}

static void on_page(struct bare_op *op, const PGresult *result)
{
    struct walker *walker = (struct walker *)op;
    struct run *run = walker->run;
    int rows = (int)run->options->page_size;
    if (PQntuples(result) < rows)
        bench_fail("a page of %d rows", PQntuples(result));
    for (int row = 0; row < rows; row++)
        bare_row(&run->meter, result, row);
    walker->bare.length =
        snprintf(walker->after, sizeof(walker->after), "%s", PQgetvalue(result, rows - 1, 0));
    walker->bare.value = walker->after;
    walker->bare.statement = "next";
    bench_meter_latency(&run->meter, bench_now_ns() - walker->began_ns);
    if (--walker->pages_left > 0)
        next_page(walker);
    else if (--run->walking == 0)
        bare_stop(&run->bare);
}

static void walk(struct run *run, uint64_t pages)
{
    uint64_t walkers = run->options->in_flight;
    struct walker *all = bench_alloc(walkers, sizeof(*all));
    run->walking = walkers;
    for (uint64_t i = 0; i < walkers; i++) {
        all[i].run = run;
        all[i].pages_left = pages;
        all[i].bare = (struct bare_op){.statement = "first", .done = on_page};
        next_page(&all[i]);
    }
    bare_run(&run->bare, -1, NULL, NULL);
    free(all);
}

void bare_pages(const struct bench_options *options)
{
    static struct run run;
    char sql[512];
    int rows = (int)options->page_size + 1;
    run.options = options;
    bare_open(&run.bare, options);
    snprintf(sql, sizeof(sql), "%s%d", BENCH_FIRST_PAGE_SQL, rows);
    bare_prepare(&run.bare, "first", sql);
    snprintf(sql, sizeof(sql), "%s%d", BENCH_NEXT_PAGE_SQL, rows);
    bare_prepare(&run.bare, "next", sql);
    bare_ready(&run.bare);
    if (options->warmup)
        walk(&run, options->warmup / options->in_flight + 1);
    bench_meter_begin(&run.meter);
    walk(&run, options->count / options->in_flight);
    bench_meter_end(&run.meter);
    bench_meter_print(&run.meter, options->count);
    bare_close(&run.bare);
}
