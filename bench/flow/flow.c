/* SPDX-License-Identifier: MIT */

/*
 * What flow control costs: takes through an uncontended limiter and semaphore,
 * what each of 100,000 that wait takes and how long it takes to tell them,
 * switches of coroutines and their memory. Rates are of CPU time.
 */
#include <ev.h>
#include <evpq/await.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TRIES = 5000000, WAITS = 1000000, BATCH = 1000, WAITING = 100000, COROUTINES = 10000 };

static struct ev_loop *loop;
static evpq_limiter *limiter;
static evpq_semaphore *semaphore;
static size_t told, told_of_any;

static void must(int code)
{
    if (code == EVPQ_OK)
        return;
    fprintf(stderr, "flow: %s\n", evpq_code_text(code));
    exit(1);
}

/* Seconds of CPU: a machine that is shared may stop us at any moment. */
static double busy(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void report(const char *what, double value, const char *unit)
{
    printf("%-52s %14.1f %s\n", what, value, unit);
}

static void on_told(const evpq_error *err, void *user)
{
    (void)user;
    told += !err;
    told_of_any++;
}

static void on_permit(const evpq_error *err, void *user)
{
    on_told(err, user);
    if (!err)
        must(evpq_semaphore_release(semaphore, 1));
}

static void tries(void)
{
    double start = busy();
    for (int i = 0; i < TRIES; i++)
        must(evpq_limiter_try(limiter, 1, NULL));
    report("limiter try", TRIES / (busy() - start), "/s");
    start = busy();
    for (int i = 0; i < TRIES; i++) {
        must(evpq_semaphore_try(semaphore, 1));
        must(evpq_semaphore_release(semaphore, 1));
    }
    report("semaphore try and release", TRIES / (busy() - start), "/s");
}

static void waits(void)
{
    double start = busy();
    for (int i = 0; i < WAITS / BATCH; i++) {
        for (int n = 0; n < BATCH; n++)
            must(evpq_limiter_wait(NULL, limiter, 1, 1000, on_told, NULL));
        ev_run(loop, 0);
    }
    report("limiter wait, told from the loop", WAITS / (busy() - start), "/s");
    start = busy();
    for (int i = 0; i < WAITS / BATCH; i++) {
        for (int n = 0; n < BATCH; n++)
            must(evpq_semaphore_acquire(NULL, semaphore, 1, 1000, on_permit, NULL));
        ev_run(loop, 0);
    }
    report("semaphore acquire, told from the loop, release", WAITS / (busy() - start), "/s");
    if (told != 2 * (size_t)WAITS)
        exit(1);
}

static size_t heap(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void waiting(void)
{
    evpq_semaphore *taken;
    evpq_limiter *used;
    must(evpq_semaphore_open(&taken, loop,
                             EVPQ_SEMAPHORE_OPTIONS(.limit = 1, .max_waiters = WAITING)));
    must(evpq_semaphore_try(taken, 1));
    size_t before = heap();
    for (int i = 0; i < WAITING; i++)
        must(evpq_semaphore_acquire(NULL, taken, 1, 600000, on_told, NULL));
    report("each of 100,000 waiting for a semaphore, of the heap",
           (double)(heap() - before) / WAITING, "bytes");
    double start = busy();
    evpq_semaphore_close(taken);
    report("the call that closes it", 1000 * (busy() - start), "ms of CPU");
    size_t before_all = told_of_any;
    double longest = 0;
    for (start = busy(); told_of_any < before_all + WAITING; start = busy()) {
        ev_run(loop, EVRUN_NOWAIT);
        longest = busy() - start > longest ? busy() - start : longest;
    }
    report("the longest turn of the loop while they are told", 1000 * longest, "ms of CPU");
    must(evpq_limiter_open(
        &used, loop, EVPQ_LIMITER_OPTIONS(.limit = 1, .window_ms = 1, .max_waiters = WAITING)));
    before = heap();
    for (int i = 0; i < WAITING; i++)
        must(evpq_limiter_wait(NULL, used, 1, EVPQ_NEVER, on_told, NULL));
    report("each of 100,000 waiting for a limiter, no deadline",
           (double)(heap() - before) / WAITING, "bytes");
    evpq_limiter_close(used);
    ev_run(loop, 0);
}

/* Coroutines */

static evpq_coroutine *switched;
static evpq_op *pending;
static int turns;

static void on_pending(const evpq_error *err, void *user)
{
    (void)err, (void)user;
}

static void switches(evpq_coroutine *self, void *user)
{
    (void)user;
    switched = self;
    for (turns = 0; turns < WAITS; turns++)
        must(evpq_await_op(self, EVPQ_OK, &pending));
}

static void sleeps(evpq_coroutine *self, void *user)
{
    (void)user;
    if (evpq_await_sleep(self, 60000) != EVPQ_ECLOSED)
        exit(1);
}

static size_t resident(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long total = 0, pages = 0;
    if (!file || fscanf(file, "%lu %lu", &total, &pages) != 2)
        exit(1);
    fclose(file);
    return pages * 4096;
}

static void coroutines(void)
{
    evpq_await *await;
    evpq_semaphore *taken;
    must(evpq_semaphore_open(&taken, loop, EVPQ_SEMAPHORE_OPTIONS(.limit = 1)));
    must(evpq_semaphore_try(taken, 1));
    must(evpq_semaphore_acquire(&pending, taken, 1, EVPQ_NEVER, on_pending, NULL));
    must(evpq_await_open(&await, loop, EVPQ_AWAIT_OPTIONS(.max_coroutines = COROUTINES)));
    must(evpq_await_start(NULL, await, switches, NULL, 0, NULL));
    while (!switched)
        ev_run(loop, EVRUN_NOWAIT);
    double start = busy();
    while (evpq_await_count(await) > 0)
        evpq_await_done(NULL, switched);
    report("a switch between coroutine and loop", (busy() - start) * 1e9 / (2.0 * WAITS), "ns");
    evpq_semaphore_close(taken);
    must(evpq_semaphore_release(taken, 1));
    ev_run(loop, 0);

    size_t before = resident();
    for (int i = 0; i < COROUTINES; i++)
        must(evpq_await_start(NULL, await, sleeps, NULL, 0, NULL));
    double until = ev_time() + 0.2;
    while (ev_time() < until)
        ev_run(loop, EVRUN_NOWAIT);
    report("each of 10,000 coroutines that wait, resident",
           (double)(resident() - before) / COROUTINES, "bytes");
    evpq_await_close(await, NULL, NULL);
    ev_run(loop, 0);
}

int main(void)
{
    loop = ev_default_loop(0);
    must(evpq_limiter_open(&limiter, loop,
                           EVPQ_LIMITER_OPTIONS(.limit = 10000000, .window_ms = 3600000)));
    must(evpq_semaphore_open(&semaphore, loop, EVPQ_SEMAPHORE_OPTIONS(.limit = 1000000)));
    tries();
    waits();
    waiting();
    coroutines();
    evpq_limiter_close(limiter);
    evpq_semaphore_close(semaphore);
    return 0;
}
