/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <ev.h>
#include <evpq/await.h>
#include <evpq/queue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* On a loop of libev, without a server: what is waited for is flow control and sleep. */
static struct ev_loop *loop;
static evpq_await *await;
static evpq_semaphore *semaphore;
static char events[256];
static int over;

static void happened(char what)
{
    size_t length = strlen(events);
    assert_true(length + 1 < sizeof(events));
    events[length] = what;
}

static void on_over(void *user)
{
    (void)user;
    over++;
}

static int begin(void **state)
{
    (void)state;
    loop = ev_loop_new(EVFLAG_AUTO);
    memset(events, 0, sizeof(events));
    over = 0;
    assert_int_equal(evpq_await_open(&await, loop, NULL), EVPQ_OK);
    assert_int_equal(evpq_semaphore_open(&semaphore, loop, EVPQ_SEMAPHORE_OPTIONS(.limit = 1)),
                     EVPQ_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    evpq_await_close(await, NULL, NULL);
    ev_run(loop, 0);
    evpq_semaphore_close(semaphore);
    ev_run(loop, 0);
    ev_loop_destroy(loop);
    return 0;
}

static evpq_coroutine *start(evpq_coroutine_fn *run, void *user, uint32_t timeout_ms)
{
    evpq_coroutine *coroutine;
    assert_int_equal(evpq_await_start(&coroutine, await, run, user, timeout_ms, on_over), EVPQ_OK);
    return coroutine;
}

static void takes_turns(evpq_coroutine *self, void *user)
{
    const char *letters = user;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(evpq_await_semaphore(self, semaphore, 1, 0), EVPQ_OK);
        happened(letters[i]);
        assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    }
}

static void coroutines_take_turns_from_the_loop(void **state)
{
    (void)state;
    start(takes_turns, "abc", 0);
    start(takes_turns, "ABC", 0);
    assert_string_equal(events, "");
    assert_int_equal(evpq_await_count(await), 2);
    ev_run(loop, 0);
    assert_int_equal(strlen(events), 6);
    assert_true(strchr(events, 'A') < strchr(events, 'c') &&
                strchr(events, 'a') < strchr(events, 'C'));
    assert_int_equal(over, 2);
    assert_int_equal(evpq_await_count(await), 0);
}

static int code_heard;

static void waits_long(evpq_coroutine *self, void *user)
{
    int (*wait)(evpq_coroutine *) = *(int (**)(evpq_coroutine *))user;
    code_heard = wait(self);
    /* And from now on always. */
    assert_int_equal(evpq_await_sleep(self, 1), code_heard);
    assert_int_equal(evpq_await_semaphore(self, semaphore, 1, 0), code_heard);
    assert_null(evpq_await_error(self));
}

static int sleep_long(evpq_coroutine *self)
{
    return evpq_await_sleep(self, 60000);
}

static int wait_for_permit(evpq_coroutine *self)
{
    return evpq_await_semaphore(self, semaphore, 1, 60000);
}

static int (*const waits[])(evpq_coroutine *) = {sleep_long, wait_for_permit};

static void cancel_and_deadline_and_close_reach_into_it(void **state)
{
    (void)state;
    assert_int_equal(evpq_semaphore_try(semaphore, 1), EVPQ_OK);
    for (int wait = 0; wait < 2; wait++) {
        void *user = (void *)(uintptr_t)&waits[wait];
        evpq_coroutine *coroutine = start(waits_long, user, 0);
        ev_run(loop, EVRUN_NOWAIT);
        ev_run(loop, EVRUN_NOWAIT);
        code_heard = 0;
        evpq_await_cancel(coroutine);
        assert_int_equal(code_heard, 0); /* later */
        ev_run(loop, 0);
        assert_int_equal(code_heard, EVPQ_ECANCELED);
        start(waits_long, user, 20);
        ev_run(loop, 0);
        assert_int_equal(code_heard, EVPQ_ETIMEOUT);
        /* Cancelled before it began. */
        evpq_await_cancel(start(waits_long, user, 0));
        ev_run(loop, 0);
        assert_int_equal(code_heard, EVPQ_ECANCELED);
    }
    for (int wait = 0; wait < 2; wait++)
        start(waits_long, (void *)(uintptr_t)&waits[wait], 0);
    ev_run(loop, EVRUN_NOWAIT);
    ev_run(loop, EVRUN_NOWAIT);
    over = 0;
    evpq_await_close(await, on_over, NULL);
    ev_run(loop, 0);
    assert_int_equal(code_heard, EVPQ_ECLOSED);
    assert_int_equal(over, 3);
    assert_int_equal(evpq_await_open(&await, loop, NULL), EVPQ_OK);
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
}

static void closes_it(evpq_coroutine *self, void *user)
{
    evpq_await_close(await, on_over, user);
    assert_int_equal(evpq_await_sleep(self, 1), EVPQ_ECLOSED);
}

static void a_coroutine_may_close_what_it_runs_on(void **state)
{
    (void)state;
    start(closes_it, NULL, 0);
    ev_run(loop, 0);
    assert_int_equal(over, 2);
    assert_int_equal(evpq_await_open(&await, loop, NULL), EVPQ_OK);
}

static void job(evpq_job *job, void *user)
{
    (void)user;
    assert_int_equal(evpq_job_done(job, NULL), EVPQ_OK);
}

static void job_over(const evpq_error *err, void *user)
{
    (void)user;
    assert_null(err);
    happened('j');
}

static void waits_for_anything(evpq_coroutine *self, void *user)
{
    evpq_queue *queue;
    evpq_limiter *limiter;
    evpq_op *op;
    (void)user;
    assert_int_equal(
        evpq_limiter_open(&limiter, loop, EVPQ_LIMITER_OPTIONS(.limit = 1, .window_ms = 30)),
        EVPQ_OK);
    assert_int_equal(evpq_await_limiter(self, limiter, 1, 0), EVPQ_OK);
    assert_int_equal(evpq_await_limiter(self, limiter, 1, 1), EVPQ_ELIMITED);
    assert_int_equal(evpq_await_limiter(self, limiter, 1, 0), EVPQ_OK);
    evpq_limiter_close(limiter);
    assert_int_equal(evpq_queue_open(&queue, loop, EVPQ_QUEUE_OPTIONS(.workers = 1)), EVPQ_OK);
    assert_int_equal(evpq_queue_submit(NULL, queue, EVPQ_JOB(job), job_over, NULL), EVPQ_OK);
    assert_int_equal(
        evpq_await_op(self, evpq_queue_join(&op, queue, 0, evpq_await_done, self), &op), EVPQ_OK);
    happened('e');
    assert_int_equal(evpq_await_op(self, EVPQ_EOVERLOADED, NULL), EVPQ_EOVERLOADED);
    assert_int_equal(evpq_await_op(self, EVPQ_OK, NULL), EVPQ_EINVALID);
    evpq_queue_close(queue, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
    evpq_group *group;
    assert_int_equal(evpq_group_open(&group, loop, NULL), EVPQ_OK);
    assert_int_equal(evpq_group_add(group, EVPQ_ECLOSED, NULL), EVPQ_OK);
    assert_int_equal(evpq_await_group(self, group), EVPQ_ECLOSED);
    assert_non_null(strstr(evpq_error_message(evpq_await_error(self)), "could not start"));
    assert_int_equal(evpq_await_semaphore(self, semaphore, 1, 0), EVPQ_OK);
    assert_int_equal(evpq_await_semaphore(self, semaphore, 1, 20), EVPQ_ETIMEOUT);
    assert_int_equal(evpq_error_code(evpq_await_error(self)), EVPQ_ETIMEOUT);
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
}

static void any_operation_can_be_waited_for(void **state)
{
    (void)state;
    start(waits_for_anything, NULL, 0);
    ev_run(loop, 0);
    assert_string_equal(events, "je");
    assert_int_equal(over, 1);
}

static void fills_its_stack(evpq_coroutine *self, void *user)
{
    volatile char much[40000];
    memset((char *)(uintptr_t)much, (int)(uintptr_t)user, sizeof(much));
    assert_int_equal(evpq_await_sleep(self, 1), EVPQ_OK);
    for (size_t i = 0; i < sizeof(much); i++)
        assert_int_equal(much[i], (char)(uintptr_t)user);
}

static void many_keep_their_stacks_apart_and_stacks_are_used_again(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (uintptr_t i = 0; i < 200; i++)
            start(fills_its_stack, (void *)i, 0);
        ev_run(loop, 0);
        assert_int_equal(over, 200 * (round + 1));
    }
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    evpq_await *other;
    assert_int_equal(evpq_await_open(&other, loop, EVPQ_AWAIT_OPTIONS(.stack_size = 1000)),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_await_open(&other, loop, &(evpq_await_options){0}), EVPQ_EINVALID);
    assert_int_equal(evpq_await_open(&other, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_await_start(NULL, await, NULL, NULL, 0, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_await_start(NULL, NULL, takes_turns, NULL, 0, NULL), EVPQ_EINVALID);
    /* Outside of a coroutine. */
    assert_int_equal(evpq_await_sleep(NULL, 1), EVPQ_EINVALID);
    evpq_coroutine *coroutine = start(takes_turns, "abc", 0);
    assert_int_equal(evpq_await_sleep(coroutine, 1), EVPQ_EINVALID);
    assert_int_equal(evpq_await_semaphore(coroutine, semaphore, 1, 0), EVPQ_EINVALID);
    ev_run(loop, 0);
    evpq_await_cancel(NULL);
    assert_int_equal(evpq_await_open(&other, loop, EVPQ_AWAIT_OPTIONS(.max_coroutines = 1)),
                     EVPQ_OK);
    assert_int_equal(evpq_await_start(NULL, other, takes_turns, "abc", 0, NULL), EVPQ_OK);
    assert_int_equal(evpq_await_start(NULL, other, takes_turns, "abc", 0, NULL), EVPQ_EOVERLOADED);
    evpq_await_cancel(NULL);
    ev_run(loop, 0);
    evpq_await_close(other, NULL, NULL);
}

/* Ends of the program, each in a child */

static char last_words[4096];

/* What a child that does it dies of; 0: it lives. */
static int dies_of(void (*what)(void))
{
    int words[2];
    assert_int_equal(pipe(words), 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(words[1], STDERR_FILENO);
        close(words[0]);
        close(words[1]);
        what();
        _exit(0);
    }
    close(words[1]);
    size_t length = 0;
    for (ssize_t got;
         length < sizeof(last_words) - 1 &&
         (got = read(words[0], last_words + length, sizeof(last_words) - 1 - length)) > 0;)
        length += (size_t)got;
    last_words[length] = '\0';
    close(words[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) ? -WEXITSTATUS(status) : 0;
}

static void run_alone(evpq_coroutine_fn *run)
{
    if (evpq_await_start(NULL, await, run, NULL, 0, NULL) == EVPQ_OK)
        ev_run(loop, 0);
}

static void report_overruns(void)
{
    if (evpq_await_report_overruns() != EVPQ_OK)
        _exit(1);
}

static int recurse(int depth)
{
    volatile char frame[1024] = {0};
    frame[depth % 1024] = 1;
    return depth == 0 ? frame[0] : recurse(depth - 1) + frame[depth % 1024];
}

static void overruns(evpq_coroutine *self, void *user)
{
    (void)self, (void)user;
    recurse(1000000);
}

/* In one step over a page. */
static void overruns_far(evpq_coroutine *self, void *user)
{
    volatile char much[100000];
    (void)self, (void)user;
    much[0] = 1;
    (void)much[0];
}

static void waits_at_the_edge(evpq_coroutine *self, void *user)
{
    volatile char much[60000];
    (void)user;
    much[0] = much[59999] = 1;
    (void)!evpq_await_sleep(self, 1);
    much[0] = 2; /* it is still there */
}

static void wakes_itself(evpq_coroutine *self, void *user)
{
    (void)user;
    evpq_await_done(NULL, self);
}

static int *volatile nowhere = (int *)8;

static void faults(evpq_coroutine *self, void *user)
{
    (void)self, (void)user;
    *nowhere = 1;
}

static void overrun(void)
{
    signal(SIGSEGV, SIG_DFL);
    run_alone(overruns);
}

static void overrun_told(void)
{
    signal(SIGSEGV, SIG_DFL);
    report_overruns();
    report_overruns();
    run_alone(overruns);
}

static void overrun_far_told(void)
{
    signal(SIGSEGV, SIG_DFL);
    report_overruns();
    run_alone(overruns_far);
}

/* With an alternate stack that is its own. */
static void *thread_overruns(void *arg)
{
    (void)arg;
    report_overruns();
    run_alone(overruns);
    return NULL;
}

static void *thread_asks(void *arg)
{
    (void)arg;
    report_overruns();
    return NULL;
}

static void overrun_told_in_a_thread(void)
{
    pthread_t thread;
    signal(SIGSEGV, SIG_DFL);
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&thread, NULL, i == 0 ? thread_asks : thread_overruns, NULL) != 0)
            _exit(1);
        pthread_join(thread, NULL);
    }
}

/* What ASan says of it is not ours to say. */
static void overrun_told_beside_the_sanitizer(void)
{
    report_overruns();
    run_alone(overruns);
}

static void edge(void)
{
    run_alone(waits_at_the_edge);
}

static void waking(void)
{
    run_alone(wakes_itself);
}

static void a_fault(void)
{
    signal(SIGSEGV, SIG_DFL);
    report_overruns();
    run_alone(faults);
}

static void a_fault_outside(void)
{
    signal(SIGSEGV, SIG_DFL);
    report_overruns();
    *nowhere = 1;
}

static void a_signal_that_is_sent(void)
{
    signal(SIGSEGV, SIG_DFL);
    report_overruns();
    kill(getpid(), SIGSEGV);
}

static void on_fault(int signal_number)
{
    _exit(signal_number == SIGSEGV ? 77 : 1);
}

static void on_fault_info(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    _exit(signal_number == SIGSEGV && info->si_addr == nowhere ? 78 : 1);
}

static void a_fault_with_a_handler(void)
{
    signal(SIGSEGV, on_fault);
    report_overruns();
    run_alone(faults);
}

static void a_fault_with_a_handler_of_more(void)
{
    struct sigaction own = {.sa_sigaction = on_fault_info, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &own, NULL);
    report_overruns();
    run_alone(faults);
}

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

static void misuse_ends_the_program_and_says_why(void **state)
{
    (void)state;
    assert_int_equal(dies_of(waking), SIGABRT);
    assert_non_null(strstr(last_words, "does not wait for"));
    if (WITH_ASAN) /* the large frame is not on the stack */
        return;
    assert_int_equal(dies_of(edge), SIGABRT);
    assert_non_null(strstr(last_words, "all but overrun its stack; raise stack_size"));
}

static void an_overrun_touches_nothing_and_is_told_on_demand(void **state)
{
    (void)state;
    static const char told[] = "evpq_await: a coroutine has overrun its stack; raise stack_size\n";
    static void (*const ways[])(void) = {overrun_told, overrun_told_in_a_thread,
                                         overrun_told_beside_the_sanitizer, overrun_far_told};
    assert_int_equal(dies_of(overrun), SIGSEGV);
    assert_null(strstr(last_words, told));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) - WITH_ASAN; i++) {
        int end = dies_of(ways[i]);
        if (end != SIGABRT || !strstr(last_words, told))
            fail_msg("way %zu ended with %d: %s", i, end, last_words);
    }
}

static void other_faults_are_as_if_nobody_had_asked(void **state)
{
    (void)state;
    if (getenv("EVPQ_TEST_SLOW") && !WITH_ASAN) /* they are errors for valgrind */
        skip();
    assert_int_equal(dies_of(a_fault), SIGSEGV);
    assert_int_equal(dies_of(a_fault_outside), SIGSEGV);
    assert_int_equal(dies_of(a_signal_that_is_sent), SIGSEGV);
    assert_int_equal(dies_of(a_fault_with_a_handler), -77);
    assert_int_equal(dies_of(a_fault_with_a_handler_of_more), -78);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(coroutines_take_turns_from_the_loop),
        test(cancel_and_deadline_and_close_reach_into_it),
        test(a_coroutine_may_close_what_it_runs_on),
        test(any_operation_can_be_waited_for),
        test(many_keep_their_stacks_apart_and_stacks_are_used_again),
        test(nonsense_is_refused),
        test(misuse_ends_the_program_and_says_why),
        test(an_overrun_touches_nothing_and_is_told_on_demand),
        test(other_faults_are_as_if_nobody_had_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
