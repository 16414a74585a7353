/* SPDX-License-Identifier: MIT */

/*
 * Ten statements that take two seconds each: one after another on one
 * connection, then at the same time on ten. One thread, one loop.
 *
 *     concurrent [SECONDS]
 */

#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>
#include <stdlib.h>

#define QUERIES 10

struct run {
    struct ev_loop *loop;
    evpq_pool *pool;
    double started;
    double took;
    int done;
    bool failed;
};

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct run *run = user;
    (void)result;
    if (run->failed)
        return;
    if (err) {
        fprintf(stderr, "concurrent: %s\n", evpq_error_message(err));
        run->failed = true;
        evpq_pool_close(run->pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL);
        return;
    }
    run->took = ev_now(run->loop) - run->started;
    printf("  %2d of %d done after %4.1f s\n", ++run->done, QUERIES, run->took);
    if (run->done == QUERIES)
        evpq_pool_close(run->pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

/* True when all went well; *took is how long. */
static bool run_on(struct ev_loop *loop, uint32_t connections, double sleep_s, double *took)
{
    uint32_t timeout_ms = (uint32_t)(sleep_s * QUERIES * 1000) + 10000;
    struct run run = {.loop = loop, .started = ev_time()};

    if (evpq_pool_open(&run.pool, loop,
                       EVPQ_POOL_OPTIONS(.max_size = connections, .query_timeout_ms = timeout_ms,
                                         .acquire_timeout_ms = timeout_ms, .fail_fast = true)))
        return false;
    for (int i = 0; i < QUERIES; i++) {
        if (evpq_pool_query(NULL, run.pool,
                            EVPQ_QUERY("SELECT pg_sleep($1)", EVPQ_PARAMS(evpq_float8(sleep_s))),
                            on_result, &run))
            return false;
    }
    ev_run(loop, 0); /* until the pool is closed */
    *took = run.took;
    return !run.failed;
}

int main(int argc, char **argv)
{
    double sleep_s = argc > 1 ? strtod(argv[1], NULL) : 2;
    if (argc > 2 || !(sleep_s > 0 && sleep_s <= 60)) {
        fprintf(stderr, "Usage: concurrent [SECONDS]   (more than 0, at most 60; default 2)\n");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    struct ev_loop *loop = ev_default_loop(0);
    double one, ten;
    printf("%d times SELECT pg_sleep(%g), on one connection:\n", QUERIES, sleep_s);
    if (!run_on(loop, 1, sleep_s, &one))
        return 1;
    printf("\nThe same on ten connections:\n");
    if (!run_on(loop, 10, sleep_s, &ten))
        return 1;
    printf("\none connection   %5.1f s\nten connections  %5.1f s\n                 %5.1fx\n", one,
           ten, one / ten);
    return 0;
}
