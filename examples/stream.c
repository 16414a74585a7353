/* SPDX-License-Identifier: MIT */

/*
 * Adds up more rows than one would like to have in memory, and takes a break
 * after each 100,000: the server waits meanwhile.
 *
 *     stream [ROWS]
 */

#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>
#include <stdlib.h>

struct sum {
    evpq_pool *pool;
    evpq_stream *stream;
    ev_timer rest;
    int64_t rows, total, next_rest;
    int status;
};

static void on_rested(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct sum *sum = timer->data;
    (void)loop, (void)events;
    evpq_stream_resume(sum->stream);
}

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    struct sum *sum = user;
    for (uint32_t row = 0; row < evpq_result_rows(chunk); row++) {
        int64_t n;
        if (evpq_result_int8(chunk, row, 0, &n) == EVPQ_OK)
            sum->total += n;
    }
    sum->rows += evpq_result_rows(chunk);
    if (sum->rows < sum->next_rest)
        return;
    sum->next_rest += 100000;
    evpq_stream_pause(stream);
    ev_timer_set(&sum->rest, 0.01, 0.);
    ev_timer_start(ev_default_loop(0), &sum->rest);
}

/* A result: these were all rows. An error: they were not. */
static void on_done(evpq_result *result, const evpq_error *err, void *user)
{
    struct sum *sum = user;
    (void)result;
    ev_timer_stop(ev_default_loop(0), &sum->rest);
    if (err) {
        fprintf(stderr, "stream: %s, after %lld rows\n", evpq_error_message(err),
                (long long)sum->rows);
        sum->status = 1;
    } else {
        printf("%lld rows, %lld\n", (long long)sum->rows, (long long)sum->total);
    }
    evpq_pool_close(sum->pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

int main(int argc, char **argv)
{
    struct ev_loop *loop = ev_default_loop(0);
    struct sum sum = {.next_rest = 100000};
    int64_t rows = argc > 1 ? strtoll(argv[1], NULL, 10) : 1000000;

    ev_timer_init(&sum.rest, on_rested, 0.01, 0.);
    sum.rest.data = &sum;
    if (evpq_pool_open(&sum.pool, loop, EVPQ_POOL_OPTIONS(.max_size = 1, .fail_fast = true)) ||
        evpq_pool_stream(&sum.stream, sum.pool,
                         EVPQ_QUERY("SELECT generate_series(1, $1)", EVPQ_PARAMS(evpq_int8(rows)),
                                    .timeout_ms = 60000),
                         NULL, on_chunk, on_done, &sum) != EVPQ_OK)
        return 1;
    ev_run(loop, 0); /* until the pool is closed */
    return sum.status;
}
