/* SPDX-License-Identifier: MIT */
/* What other threads send to a loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>

#include "base/loop.h"
#include "support/fake_mem.h"

static struct ev_loop *ev;
static struct evpq__loop *loop;
static struct evpq__task one;
static int ones;

static void on_one(struct evpq__task *task)
{
    (void)task;
    ones++;
    ev_break(ev, EVBREAK_ALL);
}

/* A test that waits for ever fails instead. */
static ev_timer watchdog;

static void on_watchdog(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l, (void)w, (void)revents;
    fail_msg("it takes too long");
}

static int begin(void **state)
{
    (void)state;
    fake_mem_reset();
    ones = 0;
    ev = ev_loop_new(EVFLAG_AUTO);
    loop = evpq__loop_new(ev);
    assert_non_null(loop);
    ev_timer_init(&watchdog, on_watchdog, 60., 0.);
    ev_timer_start(ev, &watchdog);
    return 0;
}

static int end(void **state)
{
    (void)state;
    evpq__loop_free(loop);
    ev_timer_stop(ev, &watchdog);
    ev_run(ev, 0);
    ev_loop_destroy(ev);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

enum { SENDERS = 4, SENT_EACH = 2500 };

static struct sent {
    struct evpq__task task;
    int arrived;
} sent[SENDERS][SENT_EACH];
static int arrived;

static void on_arrival(struct evpq__task *task)
{
    evpq__container_of(task, struct sent, task)->arrived++;
    if (++arrived == SENDERS * SENT_EACH)
        ev_break(ev, EVBREAK_ALL);
}

static void *send_all(void *arg)
{
    struct sent *mine = arg;
    for (int i = 0; i < SENT_EACH; i++)
        evpq__loop_send(loop, &mine[i].task);
    return NULL;
}

static void what_other_threads_send_arrives_once(void **state)
{
    (void)state;
    pthread_t threads[SENDERS];
    arrived = 0;
    memset(sent, 0, sizeof(sent));
    for (int t = 0; t < SENDERS; t++)
        for (int i = 0; i < SENT_EACH; i++)
            evpq__task_init(&sent[t][i].task, on_arrival);
    for (int t = 0; t < SENDERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, send_all, sent[t]), 0);
    ev_run(ev, 0);
    for (int t = 0; t < SENDERS; t++)
        pthread_join(threads[t], NULL);
    ev_run(ev, EVRUN_NOWAIT);
    for (int t = 0; t < SENDERS; t++)
        for (int i = 0; i < SENT_EACH; i++)
            assert_int_equal(sent[t][i].arrived, 1);
}

static sem_t blocks; /* posted before each blocking */

static void on_block(struct ev_loop *l)
{
    (void)l;
    sem_post(&blocks);
}

static void on_unblock(struct ev_loop *l)
{
    (void)l;
}

static void *send_late(void *arg)
{
    while (sem_wait(&blocks) != 0)
        ;
    evpq__loop_send(loop, arg);
    return NULL;
}

static void a_sent_task_wakes_a_loop_that_blocks(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(sem_init(&blocks, 0, 0), 0);
    ev_set_loop_release_cb(ev, on_block, on_unblock);
    evpq__task_init(&one, on_one);
    assert_int_equal(pthread_create(&thread, NULL, send_late, &one), 0);
    ev_run(ev, 0);
    assert_int_equal(ones, 1);
    pthread_join(thread, NULL);
    ev_set_loop_release_cb(ev, NULL, NULL);
    sem_destroy(&blocks);
}

static void a_sent_task_can_be_taken_back(void **state)
{
    (void)state;
    evpq__task_init(&one, on_one);
    evpq__loop_send(loop, &one);
    assert_true(evpq__task_posted(&one));
    evpq__loop_unpost(loop, &one);
    ev_run(ev, EVRUN_NOWAIT);
    ev_run(ev, EVRUN_NOWAIT);
    assert_int_equal(ones, 0);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(what_other_threads_send_arrives_once),
        test(a_sent_task_wakes_a_loop_that_blocks),
        test(a_sent_task_can_be_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
