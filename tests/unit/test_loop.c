/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ev.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "support/fake_mem.h"

static struct ev_loop *ev;
static struct evpq__loop *loop;

/* What has happened, in order. */
static char events[64];
static size_t event_count;

static void happened(char what)
{
    assert_true(event_count + 1 < sizeof(events));
    events[event_count++] = what;
    events[event_count] = '\0';
}

/* Watchdog: a test that waits for ever fails instead. */
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
    event_count = 0;
    events[0] = '\0';
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
    if (loop)
        evpq__loop_free(loop);
    loop = NULL;
    ev_timer_stop(ev, &watchdog);
    /* Nothing of ours keeps it going. */
    ev_run(ev, 0);
    ev_loop_destroy(ev);
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

static void stop_running(void)
{
    ev_break(ev, EVBREAK_ALL);
}

static void sleep_ms(int ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

/* Tasks */

struct named {
    struct evpq__task task;
    char name;
    bool last;
    int runs, again; /* again: how often it posts itself */
    enum evpq__phase phase;
    void (*more)(void);
};

static void named_run(struct evpq__task *task)
{
    struct named *n = evpq__container_of(task, struct named, task);
    n->runs++;
    if (event_count + 1 < sizeof(events))
        happened(n->name);
    if (n->again-- > 0)
        evpq__loop_post(loop, n->phase, task);
    if (n->more)
        n->more();
    if (n->last)
        stop_running();
}

static struct named a, b, c;

static void name(struct named *n, char as)
{
    *n = (struct named){.name = as};
    evpq__task_init(&n->task, named_run);
}

static void post(struct named *n, enum evpq__phase phase)
{
    n->phase = phase;
    evpq__loop_post(loop, phase, &n->task);
}

static int begin_tasks(void **state)
{
    begin(state);
    name(&a, 'a');
    name(&b, 'b');
    name(&c, 'c');
    return 0;
}

static void tasks_run_from_the_loop_in_order(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__SOON);
    post(&c, EVPQ__SOON);
    c.last = true;
    assert_string_equal(events, "");
    assert_true(evpq__task_posted(&a.task));
    ev_run(ev, 0);
    assert_string_equal(events, "abc");
    assert_false(evpq__task_posted(&a.task));
}

static void flush_comes_behind_soon_in_the_same_turn(void **state)
{
    (void)state;
    post(&c, EVPQ__FLUSH);
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__SOON);
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "abc");
}

static void post_c_to_flush(void)
{
    post(&c, EVPQ__FLUSH);
}

static void what_soon_posts_to_flush_runs_in_the_same_turn(void **state)
{
    (void)state;
    post(&b, EVPQ__FLUSH);
    post(&a, EVPQ__SOON);
    a.more = post_c_to_flush;
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "abc");
}

static void post_a_to_soon(void)
{
    post(&a, EVPQ__SOON);
}

static void what_flush_posts_to_soon_runs_in_the_next_turn(void **state)
{
    (void)state;
    post(&c, EVPQ__FLUSH);
    c.more = post_a_to_soon;
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "c");
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "ca");
}

static void on_late_prepare(struct ev_loop *l, ev_prepare *w, int revents)
{
    (void)revents;
    ev_prepare_stop(l, w);
    post(&a, EVPQ__SOON);
}

static void what_is_posted_when_tasks_have_been_does_not_wait(void **state)
{
    (void)state;
    post(&b, EVPQ__SOON);
    ev_run(ev, EVRUN_NOWAIT);
    ev_prepare prepare;
    ev_prepare_init(&prepare, on_late_prepare);
    ev_set_priority(&prepare, EV_MINPRI);
    ev_prepare_start(ev, &prepare);
    ev_run(ev, EVRUN_ONCE); /* would block until the watchdog comes */
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "ba");
}

/* A second loop of ours, on the same of libev's. */
static struct evpq__loop *neighbour;
static bool runs_nested;

static void to_second(void)
{
    if (runs_nested)
        ev_run(ev, EVRUN_NOWAIT);
    evpq__loop_post(neighbour, EVPQ__SOON, &b.task);
}

static void what_a_task_posts_to_another_loop_does_not_wait(void **state)
{
    (void)state;
    ev_run(ev, EVRUN_NOWAIT);
    neighbour = evpq__loop_new(ev);
    assert_non_null(neighbour);
    a.more = to_second;
    /* First with one that has never had a task, then one that has, then behind a nested run. */
    for (int i = 0; i < 4; i++) {
        runs_nested = i >= 2;
        post(&a, EVPQ__SOON);
        ev_run(ev, EVRUN_ONCE); /* would block until the watchdog comes */
        ev_run(ev, EVRUN_NOWAIT);
        assert_int_equal(event_count, 2 * (i + 1));
    }
    evpq__loop_free(neighbour);
}

static void a_task_posted_twice_runs_once(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    post(&a, EVPQ__SOON);
    post(&a, EVPQ__FLUSH);
    post(&b, EVPQ__SOON);
    b.last = true;
    ev_run(ev, 0);
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "ab");
}

static void a_task_taken_back_does_not_run(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__SOON);
    evpq__loop_unpost(loop, &a.task);
    evpq__loop_unpost(loop, &c.task);
    assert_false(evpq__task_posted(&a.task));
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "b");
}

static void take_back_b(void)
{
    evpq__loop_unpost(loop, &b.task);
}

static void a_task_may_take_back_the_next(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__SOON);
    post(&c, EVPQ__SOON);
    a.more = take_back_b;
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "ac");
}

static int reads, timers;
static char drop_byte;

static void stop_when_all_is_seen(void)
{
    if (reads == 3 && timers == 1)
        stop_running();
}

static void on_readable(struct evpq__io *io, int what)
{
    assert_int_equal(what, EVPQ__READ);
    assert_int_equal(read(io->fd, &drop_byte, 1), 1);
    reads++;
    stop_when_all_is_seen();
}

static void on_short_timer(struct evpq__timer *timer)
{
    (void)timer;
    timers++;
    stop_when_all_is_seen();
}

static void a_task_that_posts_itself_starves_neither_socket_nor_timer(void **state)
{
    (void)state;
    int pair[2];
    struct evpq__io io;
    struct evpq__timer timer;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(write(pair[1], "xyz", 3), 3);
    reads = timers = 0;
    a.again = INT32_MAX;
    post(&a, EVPQ__SOON);
    evpq__io_init(&io, on_readable);
    evpq__io_start(loop, &io, pair[0], EVPQ__READ);
    evpq__timer_init(&timer, on_short_timer);
    int64_t before = evpq__loop_now(loop);
    evpq__timer_start(loop, &timer, before + 5000);
    ev_run(ev, 0);
    assert_true(evpq__loop_now(loop) - before < 5000000);
    /* One byte is read in a turn, and in each turn the task runs. */
    assert_true(a.runs >= 3);
    evpq__loop_unpost(loop, &a.task);
    evpq__io_stop(&io);
    close(pair[0]);
    close(pair[1]);
}

static void free_loop(void)
{
    evpq__loop_free(loop);
    loop = NULL;
}

static void the_last_task_may_free_the_loop(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__FLUSH);
    b.more = free_loop;
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "ab");
    assert_int_equal(fake_mem_bytes(), 0);
}

static void run_nested(void)
{
    ev_run(ev, EVRUN_NOWAIT);
}

static void a_task_may_run_the_loop(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__SOON);
    post(&c, EVPQ__FLUSH);
    a.more = run_nested;
    c.last = true;
    ev_run(ev, 0);
    assert_string_equal(events, "abc");
    assert_int_equal(b.runs, 1);
}

static void run_nested_and_post_c(void)
{
    ev_run(ev, EVRUN_NOWAIT);
    post(&c, EVPQ__SOON);
    c.last = true;
}

static void what_is_posted_after_a_nested_run_is_run_too(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    a.more = run_nested_and_post_c;
    ev_run(ev, 0);
    assert_string_equal(events, "ac");
}

static void free_in_nested_run(void)
{
    post(&b, EVPQ__SOON);
    b.more = free_loop;
    ev_run(ev, EVRUN_NOWAIT);
}

static void the_loop_may_be_freed_inside_a_nested_run(void **state)
{
    (void)state;
    post(&a, EVPQ__SOON);
    a.more = free_in_nested_run;
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "ab");
    assert_int_equal(fake_mem_bytes(), 0);
}

static void free_from_timer(struct evpq__timer *timer)
{
    (void)timer;
    free_loop();
    stop_running();
}

static void a_timer_may_free_the_loop(void **state)
{
    (void)state;
    struct evpq__timer timer;
    evpq__timer_init(&timer, free_from_timer);
    evpq__timer_start(loop, &timer, evpq__loop_now(loop));
    ev_run(ev, 0);
    assert_null(loop);
}

/* Each takes a millisecond. */
static int crowd_ran;

static void crowd_run(struct evpq__task *task)
{
    (void)task;
    crowd_ran++;
    sleep_ms(1);
}

static void a_crowd_of_tasks_lets_the_loop_look_around(void **state)
{
    (void)state;
    enum { CROWD = 200 };
    static struct evpq__task crowd[CROWD];
    crowd_ran = 0;
    for (int i = 0; i < CROWD; i++) {
        evpq__task_init(&crowd[i], crowd_run);
        evpq__loop_post(loop, EVPQ__SOON, &crowd[i]);
    }
    post(&a, EVPQ__SOON);
    post(&b, EVPQ__FLUSH);
    ev_run(ev, EVRUN_NOWAIT);
    assert_in_range(crowd_ran, 1, CROWD - 1);
    for (int i = 0; i < CROWD; i++) /* the first of them, and no other */
        assert_int_equal(evpq__task_posted(&crowd[i]), i >= crowd_ran);
    assert_string_equal(events, "b"); /* the other phase has its turn */
    evpq__loop_unpost(loop, &crowd[CROWD - 1]);
    a.last = true;
    ev_run(ev, 0); /* it does not block before the end of them */
    assert_string_equal(events, "ba");
    assert_int_equal(crowd_ran, CROWD - 1);
}

/* Timers */

static int64_t fired_at;

static void on_fire(struct evpq__timer *timer)
{
    (void)timer;
    fired_at = evpq__loop_now(loop);
    stop_running();
}

static struct evpq__timer late;
static int64_t late_due;

static void start_after_being_busy(void)
{
    sleep_ms(50);
    late_due = evpq__loop_now(loop) + 30000;
    evpq__timer_start(loop, &late, late_due);
}

static void a_timer_started_after_long_work_does_not_fire_early(void **state)
{
    (void)state;
    evpq__timer_init(&late, on_fire);
    a.more = start_after_being_busy;
    post(&a, EVPQ__SOON);
    ev_run(ev, 0);
    assert_true(fired_at >= late_due);
    assert_false(evpq__timer_runs(&late));
}

static void a_moment_in_the_past_is_now(void **state)
{
    (void)state;
    evpq__timer_init(&late, on_fire);
    evpq__timer_start(loop, &late, 0);
    ev_run(ev, EVRUN_ONCE);
    assert_false(evpq__timer_runs(&late));
}

static int fired, fired_in_turn, most_in_turn;

static void count_fired(struct evpq__timer *timer)
{
    (void)timer;
    fired++;
    fired_in_turn++;
}

static void very_many_moments_at_once_take_several_turns(void **state)
{
    (void)state;
    enum { MANY = 30000 };
    static struct evpq__timer crowd[MANY];
    fired = most_in_turn = 0;
    for (int i = 0; i < MANY; i++) {
        evpq__timer_init(&crowd[i], count_fired);
        evpq__timer_start(loop, &crowd[i], evpq__loop_now(loop));
    }
    while (fired < MANY) {
        fired_in_turn = 0;
        ev_run(ev, EVRUN_ONCE);
        most_in_turn = fired_in_turn > most_in_turn ? fired_in_turn : most_in_turn;
    }
    assert_true(most_in_turn <= MANY / 10);
}

static void a_timer_without_a_deadline_does_not_run(void **state)
{
    (void)state;
    evpq__timer_init(&late, on_fire);
    evpq__timer_start(loop, &late, evpq__loop_now(loop));
    evpq__timer_start(loop, &late, EVPQ__NO_DEADLINE);
    assert_false(evpq__timer_runs(&late));
    fired_at = 0;
    ev_run(ev, EVRUN_NOWAIT);
    assert_int_equal(fired_at, 0);
}

static void a_timer_started_again_has_the_new_moment(void **state)
{
    (void)state;
    evpq__timer_init(&late, on_fire);
    int64_t now = evpq__loop_now(loop);
    evpq__timer_start(loop, &late, now + 60000000);
    evpq__timer_start(loop, &late, now + 10000);
    ev_run(ev, 0);
    assert_true(fired_at >= now + 10000);
    assert_true(fired_at < now + 30000000);
}

static void a_stopped_timer_does_not_fire(void **state)
{
    (void)state;
    evpq__timer_init(&late, on_fire);
    evpq__timer_start(loop, &late, evpq__loop_now(loop));
    evpq__timer_stop(&late);
    evpq__timer_stop(&late);
    fired_at = 0;
    ev_run(ev, EVRUN_NOWAIT);
    assert_int_equal(fired_at, 0);
}

static void never_is_no_deadline(void **state)
{
    (void)state;
    assert_true(evpq__loop_deadline(loop, EVPQ_NEVER) == EVPQ__NO_DEADLINE);
    int64_t now = evpq__loop_now(loop);
    int64_t longest = evpq__loop_deadline(loop, EVPQ_NEVER - 1);
    assert_true(longest - now >= (int64_t)(EVPQ_NEVER - 1) * 1000);
}

/* Sockets */

static void io_happened(struct evpq__io *io, int what)
{
    happened(what & EVPQ__READ ? 'r' : 'w');
    evpq__io_stop(io);
}

static void timer_happened(struct evpq__timer *timer)
{
    (void)timer;
    happened('t');
}

static void a_socket_comes_before_a_timer_of_the_same_turn(void **state)
{
    (void)state;
    int pair[2];
    struct evpq__io io;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    evpq__timer_init(&late, timer_happened);
    evpq__timer_start(loop, &late, evpq__loop_now(loop) + 1000);
    evpq__io_init(&io, io_happened);
    evpq__io_start(loop, &io, pair[0], EVPQ__READ);
    assert_int_equal(write(pair[1], "x", 1), 1);
    sleep_ms(5);
    ev_run(ev, EVRUN_ONCE);
    assert_string_equal(events, "rt");
    close(pair[0]);
    close(pair[1]);
}

static void another_socket_under_the_same_number_is_seen(void **state)
{
    (void)state;
    int first[2], second[2];
    struct evpq__io io;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, first), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, second), 0);
    evpq__io_init(&io, io_happened);
    evpq__io_start(loop, &io, first[0], EVPQ__READ);
    ev_run(ev, EVRUN_NOWAIT); /* epoll knows of the first by now */
    assert_true(dup2(second[0], first[0]) >= 0);
    evpq__io_start(loop, &io, first[0], EVPQ__READ);
    assert_int_equal(write(second[1], "x", 1), 1);
    ev_run(ev, EVRUN_ONCE);
    assert_string_equal(events, "r");
    for (int i = 0; i < 2; i++) {
        close(first[i]);
        close(second[i]);
    }
}

static void the_events_of_a_socket_can_be_changed(void **state)
{
    (void)state;
    int pair[2];
    struct evpq__io io;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    evpq__io_init(&io, io_happened);
    evpq__io_change(&io, EVPQ__WRITE); /* not watched: nothing */
    assert_null(io.loop);
    evpq__io_start(loop, &io, pair[0], EVPQ__READ);
    ev_run(ev, EVRUN_NOWAIT);
    assert_string_equal(events, "");
    evpq__io_change(&io, EVPQ__READ | EVPQ__WRITE);
    ev_run(ev, EVRUN_ONCE);
    assert_string_equal(events, "w");
    assert_null(io.loop);
    close(pair[0]);
    close(pair[1]);
}

static void no_descriptor_for_a_loop_is_no_loop(void **state)
{
    (void)state;
    struct ev_loop *fresh = ev_loop_new(EVBACKEND_POLL);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct evpq__loop *refused = evpq__loop_new(fresh);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(refused);
    ev_loop_destroy(fresh);
}

static void no_memory_for_a_loop_is_no_loop(void **state)
{
    (void)state;
    fake_mem_fail_at(1);
    assert_null(evpq__loop_new(ev));
    fake_mem_fail_at(1);
    assert_null(evpq__loop_new_own());
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)
static void count_task(struct evpq__task *task)
{
    (void)task;
    happened('t');
}

static void count_timer(struct evpq__timer *timer)
{
    (void)timer;
    happened('T');
}

static void a_quiet_loop_keeps_nothing_running_and_outlives_the_user_s(void **state)
{
    (void)state;
    struct ev_loop *other = ev_loop_new(EVFLAG_AUTO);
    struct evpq__loop *quiet = evpq__loop_new_quiet(other);
    struct evpq__task task;
    struct evpq__timer timer;
    assert_non_null(quiet);
    ev_run(other, 0);
    evpq__task_init(&task, count_task);
    evpq__timer_init(&timer, count_timer);
    evpq__loop_post(quiet, EVPQ__SOON, &task);
    evpq__timer_start(quiet, &timer, evpq__loop_now(quiet) + 1000);
    ev_run(other, 0);
    assert_string_equal(events, "tT");
    /* Also one that is stopped before its time, and leaves an empty place behind. */
    evpq__timer_start(quiet, &timer, evpq__loop_now(quiet) + 3600 * INT64_C(1000000));
    evpq__timer_stop(&timer);
    ev_run(other, 0);
    evpq__timer_start(quiet, &timer, evpq__loop_now(quiet) + 3600 * INT64_C(1000000));
    evpq__timer_stop(&timer);
    evpq__timer_start(quiet, &timer, evpq__loop_now(quiet) + 1000);
    ev_run(other, 0);
    assert_string_equal(events, "tTT");
    evpq__timer_start(quiet, &timer, evpq__loop_now(quiet) + 3600 * INT64_C(1000000));
    evpq__timer_stop(&timer);
    ev_loop_destroy(other);
    evpq__loop_free(quiet);
}

#define test_tasks(name) cmocka_unit_test_setup_teardown(name, begin_tasks, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_quiet_loop_keeps_nothing_running_and_outlives_the_user_s),
        test_tasks(tasks_run_from_the_loop_in_order),
        test_tasks(flush_comes_behind_soon_in_the_same_turn),
        test_tasks(what_soon_posts_to_flush_runs_in_the_same_turn),
        test_tasks(what_flush_posts_to_soon_runs_in_the_next_turn),
        test_tasks(what_is_posted_when_tasks_have_been_does_not_wait),
        test_tasks(what_a_task_posts_to_another_loop_does_not_wait),
        test_tasks(a_task_posted_twice_runs_once),
        test_tasks(a_task_taken_back_does_not_run),
        test_tasks(a_task_may_take_back_the_next),
        test_tasks(a_task_that_posts_itself_starves_neither_socket_nor_timer),
        test_tasks(the_last_task_may_free_the_loop),
        test_tasks(a_task_may_run_the_loop),
        test_tasks(what_is_posted_after_a_nested_run_is_run_too),
        test_tasks(the_loop_may_be_freed_inside_a_nested_run),
        test_tasks(a_crowd_of_tasks_lets_the_loop_look_around),
        test(a_timer_may_free_the_loop),
        test_tasks(a_timer_started_after_long_work_does_not_fire_early),
        test(a_moment_in_the_past_is_now),
        test(very_many_moments_at_once_take_several_turns),
        test(a_timer_without_a_deadline_does_not_run),
        test(a_timer_started_again_has_the_new_moment),
        test(a_stopped_timer_does_not_fire),
        test(never_is_no_deadline),
        test(a_socket_comes_before_a_timer_of_the_same_turn),
        test(another_socket_under_the_same_number_is_seen),
        test(the_events_of_a_socket_can_be_changed),
        test(no_descriptor_for_a_loop_is_no_loop),
        test(no_memory_for_a_loop_is_no_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
