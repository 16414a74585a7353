/* SPDX-License-Identifier: MIT */
/* 100,000 who wait for flow control, on a loop of libev: what they cost, and who else is heard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <ev.h>
#include <evpq/limiter.h>
#include <evpq/semaphore.h>
#include <malloc.h>
#include <time.h>

enum { CROWD = 100000, MOST_BYTES = 200 };

static struct ev_loop *loop;
static evpq_semaphore *semaphore;
static evpq_limiter *limiter;
static size_t bytes; /* of the heap, evpq's and libev's together */
static int told;

/* What malloc() has taken for a block: its own word in front of each counts, too. */
static size_t taken_for(void *block)
{
    return block ? malloc_usable_size(block) + sizeof(size_t) : 0;
}

static void *counted_allocate(size_t size, void *user)
{
    (void)user;
    void *block = malloc(size);
    bytes += taken_for(block);
    return block;
}

static void counted_release(void *block, void *user)
{
    (void)user;
    bytes -= taken_for(block);
    free(block);
}

static void *counted_realloc(void *block, long size)
{
    bytes -= taken_for(block);
    if (size == 0) {
        free(block);
        return NULL;
    }
    block = realloc(block, (size_t)size);
    bytes += taken_for(block);
    return block;
}

static int begin(void **state)
{
    (void)state;
    told = 0;
    assert_int_equal(evpq_set_allocator(&(evpq_allocator){counted_allocate, counted_release, NULL}),
                     EVPQ_OK);
    loop = ev_loop_new(EVFLAG_AUTO);
    assert_int_equal(evpq_semaphore_open(&semaphore, loop,
                                         EVPQ_SEMAPHORE_OPTIONS(.limit = 1, .max_waiters = CROWD)),
                     EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
    assert_int_equal(evpq_limiter_open(&limiter, loop,
                                       EVPQ_LIMITER_OPTIONS(.limit = 1, .window_ms = 600000,
                                                            .max_waiters = CROWD)),
                     EVPQ_OK);
    assert_int_equal(evpq_limiter_try(limiter, 1, NULL), EVPQ_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    evpq_limiter_close(limiter);
    evpq_semaphore_close(semaphore);
    ev_run(loop, 0);
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    ev_loop_destroy(loop);
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_OK); /* nothing is held */
    return 0;
}

static void on_told(const evpq_error *err, void *user)
{
    (void)err, (void)user;
    told++;
}

static void each_waits_in_a_few_bytes(void **state)
{
    (void)state;
    size_t before = bytes;
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(evpq_semaphore_acquire(NULL, semaphore, 1, 600000, on_told, NULL),
                         EVPQ_OK);
    size_t of_semaphore = (bytes - before) / CROWD;
    before = bytes;
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(evpq_limiter_wait(NULL, limiter, 1, EVPQ_NEVER, on_told, NULL), EVPQ_OK);
    size_t of_limiter = (bytes - before) / CROWD;
    print_message("a waiter takes %zu bytes, %zu without a deadline\n", of_semaphore, of_limiter);
    assert_in_range(of_semaphore, 1, MOST_BYTES);
    assert_in_range(of_limiter, 1, MOST_BYTES);
}

static int64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A microsecond each: a tenth of a second for all. */
static void on_told_in_order(const evpq_error *err, void *user)
{
    assert_int_equal(evpq_error_code(err), EVPQ_ECLOSED);
    assert_string_equal(evpq_error_message(err), "the semaphore was closed");
    assert_int_equal(told++, (int)(uintptr_t)user);
    for (int64_t until = now_ns() + 1000; now_ns() < until;)
        ;
}

static void on_heard(struct ev_loop *l, ev_timer *timer, int events)
{
    (void)l, (void)events;
    ++*(int *)timer->data;
}

static void a_crowd_that_is_told_together_lets_others_be_heard(void **state)
{
    (void)state;
    int heard = 0;
    ev_timer other;
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(evpq_semaphore_acquire(NULL, semaphore, 1, 600000, on_told_in_order,
                                                (void *)(uintptr_t)i),
                         EVPQ_OK);
    evpq_semaphore_close(semaphore);
    ev_timer_init(&other, on_heard, 0.0001, 0.0001);
    other.data = &heard;
    ev_now_update(loop);
    ev_timer_start(loop, &other);
    while (told < CROWD)
        ev_run(loop, EVRUN_NOWAIT);
    ev_timer_stop(loop, &other);
    assert_true(heard >= 10);
    /* For the end of the test. */
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    assert_int_equal(evpq_semaphore_open(&semaphore, loop, EVPQ_SEMAPHORE_OPTIONS(.limit = 1)),
                     EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
}

int main(void)
{
    ev_set_allocator(counted_realloc);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_waits_in_a_few_bytes, begin, end),
        cmocka_unit_test_setup_teardown(a_crowd_that_is_told_together_lets_others_be_heard, begin,
                                        end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
