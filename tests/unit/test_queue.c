/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/queue.h>
#include <evpq/semaphore.h>

#include "base/op.h"
#include "support/flow_story.h"

static evpq_queue *queue;
/* The jobs that run, in the order of their start, by the number of their turn. */
static evpq_job *running[TURNS_MAX];
static int started[TURNS_MAX], starts, queued_calls, closed_calls;
static void (*inside_run)(evpq_job *job, struct turn *turn);

static int begin(void **state)
{
    flow_begin(state);
    memset(running, 0, sizeof(running));
    starts = queued_calls = closed_calls = 0;
    inside_run = NULL;
    return 0;
}

static void run(evpq_job *job, void *user)
{
    struct turn *turn = user;
    assert_int_equal(turn->accepted, EVPQ_OK);
    running[turn - turns] = job;
    started[starts++] = (int)(turn - turns);
    if (inside_run)
        inside_run(job, turn);
}

static void on_queued(const evpq_error *err, void *user)
{
    (void)user;
    assert_null(err);
    queued_calls++;
}

static void on_closed(void *user)
{
    (void)user;
    closed_calls++;
}

static void open_queue(uint32_t workers, uint32_t capacity)
{
    assert_int_equal(evpq_queue_open(&queue, fake_ev(),
                                     EVPQ_QUEUE_OPTIONS(.workers = workers, .capacity = capacity,
                                                        .max_waiters = 3)),
                     EVPQ_OK);
}

static void close_queue(evpq_close_mode mode, uint32_t timeout_ms)
{
    assert_int_equal(evpq_queue_close(queue, mode, timeout_ms, on_closed, NULL), EVPQ_OK);
    assert_int_equal(closed_calls, 0);
}

static int submit(struct turn *turn, uint32_t room_ms, uint32_t timeout_ms)
{
    turn_begin(turn);
    return turn_started(
        turn, evpq_queue_submit(&turn->op, queue,
                                EVPQ_JOB(run, .room_timeout_ms = room_ms, .timeout_ms = timeout_ms,
                                         .on_queued = room_ms ? on_queued : NULL),
                                on_turn, turn));
}

static int join(struct turn *turn, uint32_t timeout_ms)
{
    turn_begin(turn);
    return turn_started(turn, evpq_queue_join(&turn->op, queue, timeout_ms, on_turn, turn));
}

static void finish(int turn)
{
    assert_non_null(running[turn]);
    assert_int_equal(evpq_job_done(running[turn], NULL), EVPQ_OK);
    running[turn] = NULL;
}

static void as_many_jobs_as_workers_run_in_their_order(void **state)
{
    (void)state;
    open_queue(2, 10);
    for (int i = 0; i < 6; i++)
        assert_int_equal(submit(&turns[i], 0, 0), EVPQ_OK);
    assert_int_equal(starts, 0);
    for (int i = 0; i < 6; i++) {
        fake_settle();
        assert_int_equal(starts, i + 2 < 6 ? i + 2 : 6);
        assert_int_equal(started[i], i);
        finish(i);
        assert_int_equal(turns[i].calls, 0);
        fake_settle();
        assert_int_equal(turns[i].code, EVPQ_OK);
    }
    close_queue(EVPQ_CLOSE_FINISH, 0);
    fake_settle();
    assert_int_equal(closed_calls, 1);
}

static void a_full_queue_refuses_or_lets_wait(void **state)
{
    (void)state;
    open_queue(1, 2);
    assert_int_equal(submit(&turns[0], 0, 0), EVPQ_OK);
    fake_settle();
    assert_int_equal(submit(&turns[1], 0, 0), EVPQ_OK);
    assert_int_equal(submit(&turns[2], 0, 0), EVPQ_OK);
    assert_int_equal(submit(&turns[3], 0, 0), EVPQ_EOVERLOADED);
    assert_int_equal(submit(&turns[4], 100, 0), EVPQ_OK);
    assert_int_equal(submit(&turns[5], 1000, 0), EVPQ_OK);
    assert_int_equal(submit(&turns[6], 1000, 0), EVPQ_OK);
    assert_int_equal(submit(&turns[7], 1000, 0), EVPQ_EOVERLOADED); /* max_waiters */
    fake_advance(100);
    assert_int_equal(turns[4].code, EVPQ_ETIMEOUT);
    assert_int_equal(queued_calls, 0);
    finish(0);
    fake_settle();
    assert_int_equal(queued_calls, 1);
    assert_int_equal(submit(&turns[8], 0, 0), EVPQ_EOVERLOADED); /* nobody overtakes */
    int next[] = {1, 2, 5, 6};
    for (int i = 0; i < 4; i++) {
        finish(next[i]);
        fake_advance(1);
    }
    assert_int_equal(queued_calls, 2);
    assert_int_equal(started[3], 5);
    evpq_queue_stats s = {.size = sizeof(s)};
    assert_int_equal(evpq_queue_stats_get(queue, &s), EVPQ_OK);
    assert_int_equal(s.done, 5);
    assert_int_equal(s.failed, 1);
    assert_int_equal(s.refused, 3);
    assert_int_equal(s.running + s.queued + s.waiting, 0);
    close_queue(EVPQ_CLOSE_CANCEL, 0);
}

static void cancel_and_deadline_at_every_place(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        bool cancel = round % 2;
        int who = round / 2; /* runs, is queued, is outside */
        memset(turns, 0, sizeof(turns));
        open_queue(1, 1);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(submit(&turns[i], 5000, i == who ? 200 : 0), EVPQ_OK);
            fake_settle();
        }
        if (cancel)
            evpq_op_cancel(turns[who].op);
        fake_advance(200);
        assert_int_equal(turns[who].code, cancel ? EVPQ_ECANCELED : EVPQ_ETIMEOUT);
        if (who == 0) { /* its worker is busy until it says so */
            assert_true(evpq_job_canceled(running[0]));
            assert_null(running[1]);
        }
        for (int i = 0; i < 3; i++)
            if (i == 0 || i != who) {
                finish(i);
                fake_settle();
            }
        for (int i = 0; i < 3; i++)
            assert_int_equal(turns[i].calls, 1);
        close_queue(EVPQ_CLOSE_FINISH, 0);
        fake_settle();
        closed_calls = 0;
    }
}

/* In a line of sixteen, of which half are in the queue and half wait for room. */
static void cancel_and_deadline_at_every_position(void **state)
{
    (void)state;
    enum { JOBS = 16 };
    for (int round = 0; round < 2 * JOBS; round++) {
        bool cancel = round % 2;
        int who = round / 2, next = 0;
        memset(turns, 0, sizeof(turns));
        starts = closed_calls = 0;
        assert_int_equal(evpq_queue_open(&queue, fake_ev(),
                                         EVPQ_QUEUE_OPTIONS(.workers = 1, .capacity = JOBS / 2)),
                         EVPQ_OK);
        assert_int_equal(submit(&turns[JOBS], 0, 0), EVPQ_OK); /* keeps the worker */
        fake_settle();
        for (int i = 0; i < JOBS; i++)
            assert_int_equal(submit(&turns[i], 60000, i == who ? 100 : 0), EVPQ_OK);
        fake_settle();
        if (cancel)
            evpq_op_cancel(turns[who].op);
        assert_int_equal(turns[who].calls, 0);
        fake_advance(100);
        assert_int_equal(turns[who].code, cancel ? EVPQ_ECANCELED : EVPQ_ETIMEOUT);
        finish(JOBS);
        for (int i = 1; i < JOBS; i++, next++) {
            next += next == who;
            fake_settle();
            assert_int_equal(started[i], next); /* the order of the others stays */
            finish(next);
        }
        close_queue(EVPQ_CLOSE_FINISH, 0);
        fake_settle();
        assert_int_equal(starts, JOBS);
        assert_int_equal(closed_calls, 1);
    }
}

static void submit_next(struct turn *turn)
{
    assert_int_equal(submit(turn + 1, 0, 0), EVPQ_OK);
}

static void cancel_next(struct turn *turn)
{
    evpq_op_cancel(turn[1].op);
}

static void close_now(struct turn *turn)
{
    (void)turn;
    close_queue(EVPQ_CLOSE_CANCEL, 0);
}

static void callbacks_may_submit_cancel_and_close(void **state)
{
    (void)state;
    open_queue(1, 10);
    turns[0].inside = submit_next;
    turns[1].inside = NULL;
    assert_int_equal(submit(&turns[0], 0, 0), EVPQ_OK);
    for (int i = 0; i < 2; i++) {
        fake_settle();
        finish(i);
    }
    fake_settle();
    assert_int_equal(turns[1].code, EVPQ_OK);
    turns[10].inside = cancel_next;
    turns[12].inside = close_now;
    for (int i = 10; i < 16; i++)
        assert_int_equal(submit(&turns[i], 0, 0), EVPQ_OK);
    fake_settle();
    finish(10);
    fake_settle(); /* who has got the worker by then keeps it */
    for (int i = 11; i < 13; i++)
        if (running[i]) {
            finish(i);
            fake_settle();
        }
    assert_int_equal(turns[11].code, EVPQ_ECANCELED);
    assert_int_equal(turns[12].code, EVPQ_OK);
    if (running[13])
        finish(13);
    fake_settle();
    for (int i = 13; i < 16; i++)
        assert_int_equal(turns[i].code, EVPQ_ECLOSED);
    assert_int_equal(closed_calls, 1);
}

static void join_waits_until_there_is_nothing(void **state)
{
    (void)state;
    open_queue(1, 10);
    assert_int_equal(join(&turns[100], 0), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[100].code, EVPQ_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(submit(&turns[i], 0, 0), EVPQ_OK);
    assert_int_equal(join(&turns[101], 0), EVPQ_OK);
    assert_int_equal(join(&turns[102], 100), EVPQ_OK);
    fake_advance(100);
    assert_int_equal(turns[102].code, EVPQ_ETIMEOUT);
    finish(0);
    fake_settle();
    assert_int_equal(turns[101].calls, 0);
    finish(1);
    fake_settle();
    assert_int_equal(turns[101].code, EVPQ_OK);
    assert_true(turns[101].order > turns[1].order);
    close_queue(EVPQ_CLOSE_FINISH, 0);
}

static void cancel_all_leaves_the_queue_open(void **state)
{
    (void)state;
    open_queue(1, 2);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(submit(&turns[i], 1000, 0), EVPQ_OK);
        fake_settle();
    }
    evpq_queue_cancel(queue);
    fake_settle();
    for (int i = 0; i < 5; i++)
        assert_int_equal(turns[i].code, EVPQ_ECANCELED);
    assert_int_equal(submit(&turns[5], 0, 0), EVPQ_OK);
    finish(0);
    fake_settle();
    finish(5);
    fake_settle();
    assert_int_equal(turns[5].code, EVPQ_OK);
    close_queue(EVPQ_CLOSE_FINISH, 0);
}

static void close_drains_within_its_bound(void **state)
{
    (void)state;
    open_queue(1, 10);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(&turns[i], 0, 0), EVPQ_OK);
    close_queue(EVPQ_CLOSE_FINISH, 500);
    assert_int_equal(submit(&turns[9], 0, 0), EVPQ_ECLOSED);
    assert_int_equal(join(&turns[9], 0), EVPQ_ECLOSED);
    assert_int_equal(evpq_queue_close(queue, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_ECLOSED);
    fake_settle();
    finish(0);
    fake_advance(499);
    assert_int_equal(turns[1].calls, 0);
    fake_advance(1);
    assert_int_equal(turns[0].code, EVPQ_OK);
    assert_int_equal(turns[1].code, EVPQ_ECLOSED);
    assert_int_equal(turns[2].code, EVPQ_ECLOSED);
    assert_int_equal(closed_calls, 0); /* one still runs */
    finish(1);
    fake_settle();
    assert_int_equal(closed_calls, 1);
}

/* What a job follows. */
static evpq_semaphore *semaphore;
static struct turn inner;

static void follow(evpq_job *job, struct turn *turn)
{
    (void)turn;
    turn_begin(&inner);
    int code =
        turn_started(&inner, evpq_semaphore_acquire(&inner.op, semaphore, 1, 300, on_turn, &inner));
    assert_int_equal(evpq_job_follow(job, code, &inner.op), EVPQ_OK);
    if (code == EVPQ_OK) {
        assert_int_equal(evpq_job_done(job, NULL), EVPQ_EINVALID);
        assert_int_equal(evpq_job_follow(job, code, &inner.op), EVPQ_EINVALID);
    }
}

static void a_job_ends_as_what_it_follows(void **state)
{
    (void)state;
    assert_int_equal(evpq_semaphore_open(&semaphore, fake_ev(),
                                         EVPQ_SEMAPHORE_OPTIONS(.limit = 1, .max_waiters = 1)),
                     EVPQ_OK);
    open_queue(1, 10);
    inside_run = follow;
    assert_int_equal(submit(&turns[0], 0, 0), EVPQ_OK); /* gets the permit */
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_OK);
    assert_int_equal(submit(&turns[1], 0, 0), EVPQ_OK); /* finds none */
    fake_advance(300);
    assert_int_equal(turns[1].code, EVPQ_ETIMEOUT);
    assert_int_equal(submit(&turns[2], 0, 0), EVPQ_OK); /* is cancelled */
    fake_settle();
    evpq_op_cancel(turns[2].op);
    fake_settle();
    assert_int_equal(inner.code, EVPQ_ECANCELED);
    assert_int_equal(turns[2].code, EVPQ_ECANCELED);
    turn_begin(&turns[4]);
    assert_int_equal(turn_started(&turns[4], evpq_semaphore_acquire(NULL, semaphore, 1, 1000,
                                                                    on_turn, &turns[4])),
                     EVPQ_OK);
    assert_int_equal(submit(&turns[3], 0, 0), EVPQ_OK); /* cannot start */
    fake_settle();
    assert_int_equal(turns[3].code, EVPQ_EOVERLOADED);
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    fake_settle();
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    evpq_semaphore_close(semaphore);
    close_queue(EVPQ_CLOSE_FINISH, 0);
}

static void do_at_once(evpq_job *job, struct turn *turn)
{
    assert_int_equal(evpq_job_done(job, NULL), EVPQ_OK);
    if (turn < &turns[200])
        assert_int_equal(submit(turn + 1, 0, 0), EVPQ_OK);
    else
        close_queue(EVPQ_CLOSE_CANCEL, 0);
}

static void cancel_itself(evpq_job *job, struct turn *turn)
{
    evpq_op_cancel(turn->op);
    assert_true(evpq_job_canceled(job));
    assert_int_equal(evpq_job_done(job, NULL), EVPQ_OK);
}

static void close_it(evpq_job *job, struct turn *turn)
{
    (void)turn;
    close_queue(EVPQ_CLOSE_CANCEL, 0);
    assert_int_equal(evpq_job_done(job, NULL), EVPQ_OK);
}

static void jobs_may_end_submit_cancel_and_close_inside(void **state)
{
    (void)state;
    open_queue(1, 10);
    inside_run = do_at_once;
    assert_int_equal(submit(&turns[0], 0, 0), EVPQ_OK);
    fake_settle();
    assert_int_equal(starts, 201);
    assert_int_equal(closed_calls, 1);
    closed_calls = 0;
    open_queue(1, 10);
    inside_run = cancel_itself;
    assert_int_equal(submit(&turns[300], 0, 0), EVPQ_OK);
    fake_settle();
    assert_int_equal(turns[300].code, EVPQ_ECANCELED);
    inside_run = close_it;
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(&turns[310 + i], 1000, 0), EVPQ_OK);
    fake_settle();
    for (int i = 0; i < 3; i++)
        assert_int_equal(turns[310 + i].code, EVPQ_ECLOSED);
    assert_int_equal(closed_calls, 1);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    assert_non_null(evpq_queue_options_problem(NULL));
    assert_non_null(strstr(evpq_queue_options_problem(EVPQ_QUEUE_OPTIONS(0)), "workers"));
    assert_non_null(
        strstr(evpq_queue_options_problem(EVPQ_QUEUE_OPTIONS(.workers = 1000001)), "workers"));
    assert_int_equal(evpq_queue_open(&queue, fake_ev(), EVPQ_QUEUE_OPTIONS(0)), EVPQ_EINVALID);
    assert_int_equal(evpq_queue_open(NULL, fake_ev(), EVPQ_QUEUE_OPTIONS(.workers = 1)),
                     EVPQ_EINVALID);
    open_queue(1, 1);
    assert_int_equal(evpq_queue_submit(NULL, queue, NULL, on_turn, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_queue_submit(NULL, queue, EVPQ_JOB(NULL), on_turn, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_queue_submit(NULL, queue, EVPQ_JOB(run), NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_queue_submit(NULL, NULL, EVPQ_JOB(run), on_turn, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_queue_join(NULL, queue, 0, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_queue_join(NULL, NULL, 0, on_turn, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_job_done(NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_job_follow(NULL, EVPQ_OK, NULL), EVPQ_EINVALID);
    assert_false(evpq_job_canceled(NULL));
    assert_int_equal(evpq_queue_close(queue, (evpq_close_mode)2, 0, NULL, NULL), EVPQ_EINVALID);
    evpq_queue_stats s = {.size = sizeof(s) + 1};
    assert_int_equal(evpq_queue_stats_get(queue, &s), EVPQ_EINVALID);
    evpq_queue_cancel(NULL);
    close_queue(EVPQ_CLOSE_CANCEL, 0);
}

static void tell_a_story(void)
{
    if (evpq_queue_open(&queue, fake_ev(), EVPQ_QUEUE_OPTIONS(.workers = 2, .capacity = 2)))
        return;
    inside_run = NULL;
    memset(running, 0, sizeof(running));
    starts = closed_calls = 0;
    for (int i = 0; i < 6; i++)
        (void)submit(&turns[i], 1000, 0);
    (void)join(&turns[50], 5000);
    fake_settle();
    close_queue(EVPQ_CLOSE_FINISH, 100);
    fake_advance(100);
    for (int i = 0; i < 6; i++)
        if (running[i])
            finish(i);
    fake_settle();
    assert_int_equal(closed_calls, 1);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    int n = 1;
    for (;; n++) {
        fake_mem_fail_at(n);
        tell_a_story();
        if (!fake_mem_has_failed())
            break;
    }
    fake_mem_fail_at(0);
    assert_true(n > 8);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, flow_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(as_many_jobs_as_workers_run_in_their_order),
        test(a_full_queue_refuses_or_lets_wait),
        test(cancel_and_deadline_at_every_place),
        test(cancel_and_deadline_at_every_position),
        test(callbacks_may_submit_cancel_and_close),
        test(join_waits_until_there_is_nothing),
        test(cancel_all_leaves_the_queue_open),
        test(close_drains_within_its_bound),
        test(a_job_ends_as_what_it_follows),
        test(jobs_may_end_submit_cancel_and_close_inside),
        test(nonsense_is_refused),
        test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
