/* SPDX-License-Identifier: MIT */

/*
 * The exercise that everybody knows: at most so many calls in a minute, wherever
 * the minute begins. Each call waits for its turn, then for a connection, then
 * for the answer; all of it within one deadline.
 *
 *     limited [CALLS LIMIT WINDOW_MS]
 */

#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>
#include <stdlib.h>

static struct ev_loop *loop;
static evpq_pool *pool;
static evpq_limiter *limiter;
static uint32_t calls = 250, limit = 100, window_ms = 60000;
static uint32_t over, failed;
static double started;

static void call_over(const evpq_error *err)
{
    if (err) {
        fprintf(stderr, "limited: %s\n", evpq_error_message(err));
        failed++;
    }
    if (++over % limit == 0 || over == calls)
        printf("%4u of %u calls done after %5.1f s\n", over, calls, ev_time() - started);
    if (over < calls)
        return;
    evpq_limiter_close(limiter);
    evpq_pool_close(pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    (void)result, (void)user;
    call_over(err);
}

static void on_my_turn(const evpq_error *err, void *user)
{
    if (err) {
        call_over(err);
        return;
    }
    if (evpq_pool_query(NULL, pool, EVPQ_QUERY("SELECT now()"), on_result, user) == EVPQ_OK)
        return;
    fprintf(stderr, "limited: the call could not start\n");
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        calls = (uint32_t)strtoul(argv[1], NULL, 10);
        limit = (uint32_t)strtoul(argv[2], NULL, 10);
        window_ms = (uint32_t)strtoul(argv[3], NULL, 10);
    }
    const evpq_limiter_options *options =
        EVPQ_LIMITER_OPTIONS(.limit = limit, .window_ms = window_ms, .max_waiters = calls);
    if ((argc != 1 && argc != 4) || calls == 0 || evpq_limiter_options_problem(options)) {
        fprintf(stderr, "Usage: limited [CALLS LIMIT WINDOW_MS]   (default 250 100 60000)\n");
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    loop = ev_default_loop(0);
    started = ev_time();
    if (evpq_limiter_open(&limiter, loop, options) != EVPQ_OK ||
        evpq_pool_open(&pool, loop, EVPQ_POOL_OPTIONS(.max_size = 4, .fail_fast = true)) != EVPQ_OK)
        return 1;
    for (uint32_t i = 0; i < calls; i++)
        if (evpq_limiter_wait(NULL, limiter, 1, EVPQ_NEVER, on_my_turn, NULL) != EVPQ_OK)
            return 1;
    ev_run(loop, 0); /* until the pool is closed */
    return failed > 0;
}
