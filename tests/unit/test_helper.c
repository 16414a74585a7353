/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/helper.h"
#include "support/fake_mem.h"

static struct ev_loop *ev;
static struct evpq__loop *home;
static pthread_t home_thread;
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
    ev = ev_loop_new(EVFLAG_AUTO);
    home = evpq__loop_new(ev);
    assert_non_null(home);
    home_thread = pthread_self();
    ev_timer_init(&watchdog, on_watchdog, 60., 0.);
    ev_timer_start(ev, &watchdog);
    return 0;
}

static void sleep_ms(int ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

static int end(void **state)
{
    (void)state;
    evpq__loop_free(home);
    ev_timer_stop(ev, &watchdog);
    ev_run(ev, 0);
    ev_loop_destroy(ev);
    /* A thread that was abandoned may be about to end. */
    for (int i = 0; fake_mem_bytes() > 0 && i < 5000; i++)
        sleep_ms(1);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

/* The thread */

struct errand {
    struct evpq__task task, back;
    pthread_t ran_on;
    bool signals_blocked;
    int runs;
};

static int returned_count, expected;

static void errand_back(struct evpq__task *task)
{
    (void)task;
    assert_true(pthread_equal(pthread_self(), home_thread));
    if (++returned_count == expected)
        ev_break(ev, EVBREAK_ALL);
}

static bool all_signals_blocked(void)
{
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    static const int some[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGPIPE, SIGALRM, SIGUSR1};
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        if (!sigismember(&mask, some[i]))
            return false;
    return true;
}

static void errand_run(struct evpq__task *task)
{
    struct errand *errand = evpq__container_of(task, struct errand, task);
    errand->ran_on = pthread_self();
    errand->signals_blocked = all_signals_blocked();
    errand->runs++;
    evpq__loop_send(home, &errand->back);
}

static void send_errand(struct evpq__helper *helper, struct errand *errand)
{
    memset(errand, 0, sizeof(*errand));
    evpq__task_init(&errand->task, errand_run);
    evpq__task_init(&errand->back, errand_back);
    evpq__loop_send(evpq__helper_loop(helper), &errand->task);
}

static int stopped_count;

static void on_stopped(struct evpq__task *task)
{
    (void)task;
    stopped_count++;
    ev_break(ev, EVBREAK_ALL);
}

static void stop(struct evpq__helper *helper)
{
    static struct evpq__task stopped;
    evpq__task_init(&stopped, on_stopped);
    stopped_count = 0;
    evpq__helper_stop(helper, &stopped);
    assert_int_equal(stopped_count, 0);
    while (stopped_count == 0)
        ev_run(ev, 0);
}

static void tasks_run_on_another_thread_and_come_back(void **state)
{
    (void)state;
    struct errand errands[10];
    struct evpq__helper *helper = evpq__helper_start(home);
    assert_non_null(helper);
    returned_count = 0;
    expected = 10;
    for (int i = 0; i < 10; i++)
        send_errand(helper, &errands[i]);
    ev_run(ev, 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(errands[i].runs, 1);
        assert_false(pthread_equal(errands[i].ran_on, home_thread));
        assert_true(pthread_equal(errands[i].ran_on, errands[0].ran_on));
    }
    stop(helper);
}

static void all_signals_are_blocked_there_and_none_here(void **state)
{
    (void)state;
    struct errand errand;
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    struct evpq__helper *helper = evpq__helper_start(home);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
    assert_false(all_signals_blocked());
    returned_count = 0;
    expected = 1;
    send_errand(helper, &errand);
    ev_run(ev, 0);
    assert_true(errand.signals_blocked);
    stop(helper);
}

static void what_was_sent_before_the_stop_is_done(void **state)
{
    (void)state;
    static struct errand errands[100];
    struct evpq__helper *helper = evpq__helper_start(home);
    returned_count = 0;
    expected = -1;
    for (int i = 0; i < 100; i++)
        send_errand(helper, &errands[i]);
    stop(helper);
    for (int i = 0; i < 100; i++)
        assert_int_equal(errands[i].runs, 1);
    assert_int_equal(returned_count, 100);
}

static void stopped_comes_once_and_later(void **state)
{
    (void)state;
    struct evpq__helper *helper = evpq__helper_start(home);
    stop(helper);
    ev_run(ev, EVRUN_NOWAIT);
    ev_run(ev, EVRUN_NOWAIT);
    assert_int_equal(stopped_count, 1);
}

static void no_memory_for_a_helper_is_no_helper(void **state)
{
    (void)state;
    for (int n = 1; n <= 2; n++) {
        fake_mem_fail_at(n);
        assert_null(evpq__helper_start(home));
        assert_true(fake_mem_has_failed());
    }
}

/* Calls */

static struct {
    sem_t may_return, has_disposed;
    pthread_t worked_on, done_on, disposed_on;
    int done, disposed;
    bool signals_blocked;
    struct evpq__call *call;
} seen;

static void work(void *arg)
{
    (void)arg;
    seen.worked_on = pthread_self();
    seen.signals_blocked = all_signals_blocked();
    while (sem_wait(&seen.may_return) != 0)
        ;
}

static void done(void *arg)
{
    assert_ptr_equal(arg, &seen);
    seen.done++;
    seen.done_on = pthread_self();
    ev_break(ev, EVBREAK_ALL);
}

static void dispose(void *arg)
{
    (void)arg;
    seen.disposed++;
    seen.disposed_on = pthread_self();
    sem_post(&seen.has_disposed);
}

static const struct evpq__call_class call_class = {work, done, dispose};

static int begin_call(void **state)
{
    begin(state);
    memset(&seen, 0, sizeof(seen));
    sem_init(&seen.may_return, 0, 0);
    sem_init(&seen.has_disposed, 0, 0);
    seen.call = evpq__call_start(home, &call_class, &seen);
    assert_non_null(seen.call);
    return 0;
}

static int end_call(void **state)
{
    int failed = end(state);
    sem_destroy(&seen.may_return);
    sem_destroy(&seen.has_disposed);
    return failed;
}

static void run_for_ms(int ms)
{
    int64_t until = evpq__loop_now(home) + ms * 1000;
    while (evpq__loop_now(home) < until) {
        ev_run(ev, EVRUN_NOWAIT);
        sleep_ms(1);
    }
}

static void done_comes_on_the_loop_when_the_work_returns(void **state)
{
    (void)state;
    run_for_ms(10);
    assert_int_equal(seen.done, 0);
    sem_post(&seen.may_return);
    ev_run(ev, 0);
    assert_int_equal(seen.done, 1);
    assert_int_equal(seen.disposed, 0);
    assert_true(pthread_equal(seen.done_on, home_thread));
    assert_false(pthread_equal(seen.worked_on, home_thread));
    assert_true(seen.signals_blocked);
}

static void abandoned_before_it_returns_it_disposes_when_it_does(void **state)
{
    (void)state;
    evpq__call_abandon(seen.call);
    assert_int_equal(seen.disposed, 0);
    sem_post(&seen.may_return);
    while (sem_wait(&seen.has_disposed) != 0)
        ;
    run_for_ms(10);
    assert_int_equal(seen.disposed, 1);
    assert_false(pthread_equal(seen.disposed_on, home_thread));
    assert_int_equal(seen.done, 0);
}

static void abandoned_after_it_returned_it_disposes_at_once(void **state)
{
    (void)state;
    sem_post(&seen.may_return);
    sleep_ms(100); /* it returns; the loop has not looked */
    evpq__call_abandon(seen.call);
    while (sem_wait(&seen.has_disposed) != 0)
        ;
    assert_int_equal(seen.disposed, 1);
    run_for_ms(10);
    assert_int_equal(seen.done, 0);
    assert_int_equal(seen.disposed, 1);
}

static void an_abandoned_call_may_outlive_its_loop(void **state)
{
    (void)state;
    evpq__call_abandon(seen.call);
    evpq__loop_free(home);
    home = evpq__loop_new(ev);
    sem_post(&seen.may_return);
    while (sem_wait(&seen.has_disposed) != 0)
        ;
    assert_int_equal(seen.done, 0);
}

static void no_memory_for_a_call_is_no_call(void **state)
{
    (void)state;
    fake_mem_fail_at(1);
    assert_null(evpq__call_start(home, &call_class, &seen));
    assert_int_equal(fake_mem_bytes() > 0, 1); /* home's */
}

#define test(name)      cmocka_unit_test_setup_teardown(name, begin, end)
#define test_call(name) cmocka_unit_test_setup_teardown(name, begin_call, end_call)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(tasks_run_on_another_thread_and_come_back),
        test(all_signals_are_blocked_there_and_none_here),
        test(what_was_sent_before_the_stop_is_done),
        test(stopped_comes_once_and_later),
        test(no_memory_for_a_helper_is_no_helper),
        test(no_memory_for_a_call_is_no_call),
        test_call(done_comes_on_the_loop_when_the_work_returns),
        test_call(abandoned_before_it_returns_it_disposes_when_it_does),
        test_call(abandoned_after_it_returned_it_disposes_at_once),
        test_call(an_abandoned_call_may_outlive_its_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
