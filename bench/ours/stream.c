/* SPDX-License-Identifier: MIT */
/* One statement whose rows are taken as they come. */
#include "ours/ours.h"

static struct bench_meter meter;

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream, (void)user;
    uint32_t rows = evpq_result_rows(chunk);
    for (uint32_t row = 0; row < rows; row++)
        bench_row(&meter, chunk, row);
}

static void on_done(evpq_result *result, const evpq_error *err, void *user)
{
    (void)result;
    bench_check(EVPQ_OK, err);
    ev_break(user, EVBREAK_ALL);
}

void bench_stream(const struct bench_options *options)
{
    struct ev_loop *loop = ev_default_loop(0);
    evpq_pool *pool = bench_pool_open(loop, options);
    bench_meter_begin(&meter);
    bench_check(evpq_pool_stream(NULL, pool, EVPQ_QUERY(BENCH_STREAM_SQL, .timeout_ms = EVPQ_NEVER),
                                 NULL, on_chunk, on_done, loop),
                NULL);
    ev_run(loop, 0);
    bench_meter_end(&meter);
    bench_meter_print(&meter, 1);
    bench_pool_close(loop, pool);
}
