/* SPDX-License-Identifier: MIT */
/* Section G of the catalogue: loops that stop, go on, end, and know nothing of each other. */
#include "support/ledger.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A loop run piece by piece. */

struct breaker {
    struct ledger *ledger;
    unsigned short random[3];
    int made, wanted, breaks; /* breaks out of the loop, in callbacks */
};

static void break_sometimes(struct breaker *breaker)
{
    bool last = breaker->ledger->answered == breaker->wanted;
    if (last || erand48(breaker->random) < 0.3) {
        breaker->breaks++;
        ev_break(breaker->ledger->live.loop,
                 erand48(breaker->random) < 0.5 ? EVBREAK_ONE : EVBREAK_ALL);
    }
}

static void ask_some(struct breaker *breaker);

static void on_broken_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct ledger_entry *entry = user;
    struct breaker *breaker = ev_userdata(entry->ledger->live.loop);
    ledger_on_result(result, err, entry);
    ask_some(breaker);
    break_sometimes(breaker);
}

static void ask_some(struct breaker *breaker)
{
    struct ledger *ledger = breaker->ledger;
    while (breaker->made < breaker->wanted && ledger->asked - ledger->answered < 10) {
        double seconds = erand48(breaker->random) * 0.01;
        uint32_t timeout_ms = erand48(breaker->random) < 0.2 ? 4 : 5000;
        struct ledger_entry *entry = ledger_enter(ledger, timeout_ms, false);
        assert_int_equal(
            evpq_pool_query(&entry->op, ledger->live.pool,
                            EVPQ_QUERY("SELECT $1::int8 FROM pg_sleep($2)",
                                       EVPQ_PARAMS(evpq_int8(entry->nonce), evpq_float8(seconds)),
                                       .timeout_ms = timeout_ms),
                            on_broken_result, entry),
            EVPQ_OK);
        breaker->made++;
        if (erand48(breaker->random) < 0.1)
            evpq_op_cancel(entry->op);
    }
}

/* The loop is run piecewise, with these flags. */
static void piecewise(int flags, const char *name)
{
    struct ledger ledger;
    struct breaker breaker = {.ledger = &ledger, .random = {7, 1, 0}};
    breaker.wanted = live_scaled(2000);
    ledger_open(&ledger, fault_server(), EVPQ_POOL_OPTIONS(.max_size = 5));
    ev_set_userdata(ledger.live.loop, &breaker);
    int runs = 0;
    ask_some(&breaker);
    double end = live_now() + 120.;
    while (ledger.answered < breaker.wanted && live_now() < end) {
        watchdog_forget(&ledger.dog);
        ev_run(ledger.live.loop, flags);
        runs++;
        if (flags & EVRUN_NOWAIT)
            usleep(300);
    }
    assert_int_equal(ledger.answered, breaker.wanted);
    ledger_figure("ev_run(%s): %d statements in %d runs, broken out of in %d callbacks", name,
                  breaker.wanted, runs, breaker.breaks);
    assert_true(breaker.breaks > breaker.wanted / 10 && runs > breaker.wanted / 50);
    ledger_check(&ledger);
}

static void a_loop_may_be_broken_out_of_and_run_again(void **state)
{
    (void)state;
    piecewise(0, "0");
    piecewise(EVRUN_ONCE, "EVRUN_ONCE");
    piecewise(EVRUN_NOWAIT, "EVRUN_NOWAIT");
}

/* A thread that nobody waits for may need a moment to close its own. */
static void check_descriptors(int before)
{
    for (double end = live_now() + 5.; live_descriptors() > before && live_now() < end;)
        usleep(5000);
    assert_int_equal(live_descriptors(), before);
}

static void handles_outlive_the_loop(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, outcome;
    evpq_pager *pager = NULL;
    int64_t value = 0;
    const char *conninfo = fault_conninfo(fault_server(), NULL);
    fault_forget_admins();
    int descriptors = live_descriptors();
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = conninfo));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 71::int8"));
    assert_int_equal(evpq_pager_open(&pager, live.pool, EVPQ_PAGER_OPTIONS(.sql = "SELECT 1")),
                     EVPQ_OK);
    live_acquire(&live, &lease);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    live.pool = NULL;
    live_close(&live); /* the loop is destroyed */
    assert_int_equal(evpq_result_int8(outcome.result, 0, 0, &value), EVPQ_OK);
    assert_int_equal(value, 71);
    outcome_clear(&outcome);
    evpq_lease_release(lease.lease);
    evpq_pager_close(pager);
    check_descriptors(descriptors);
}

/* Two threads that know nothing of each other. No assertion leaves a thread. */

struct worker {
    pthread_t thread;
    char conninfo[512];
    struct ev_loop *loop;
    evpq_pool *pool;
    evpq_pager *pager;
    int64_t next;
    int wanted, asked, answered, good, failed, wrong, pages, leases, closed;
    unsigned short random[3];
    ev_timer tick;
};

struct job {
    struct worker *worker;
    int64_t number;
};

static void on_job(evpq_result *result, const evpq_error *err, void *user)
{
    struct job *job = user;
    int64_t value = 0;
    job->worker->answered++;
    job->worker->good += !err;
    job->worker->failed +=
        err && evpq_error_code(err) != EVPQ_ETIMEOUT && evpq_error_code(err) != EVPQ_ECANCELED;
    if (result && (evpq_result_int8(result, 0, 0, &value) != EVPQ_OK || value != job->number))
        job->worker->wrong++;
    free(job);
}

static void on_job_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct worker *worker = user;
    worker->answered++;
    worker->failed += err != NULL;
    worker->pages += page != NULL;
    evpq_pager_close(worker->pager);
    worker->pager = NULL;
}

static void on_job_lease(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct worker *worker = user;
    worker->answered++;
    worker->failed += err && evpq_error_code(err) != EVPQ_ETIMEOUT;
    worker->leases += lease != NULL;
    evpq_lease_release(lease);
}

static void ask_job(struct worker *worker)
{
    struct job *job = calloc(1, sizeof(*job));
    evpq_op *op = NULL;
    if (!job)
        return;
    *job = (struct job){worker, worker->next++};
    uint32_t timeout_ms = erand48(worker->random) < 0.1 ? 3 : 10000;
    const evpq_query *query = EVPQ_QUERY(
        "SELECT $1::int8 FROM pg_sleep($2)",
        EVPQ_PARAMS(evpq_int8(job->number), evpq_float8(erand48(worker->random) * 0.005)),
        .timeout_ms = timeout_ms);
    if (evpq_pool_query(&op, worker->pool, query, on_job, job) != EVPQ_OK) {
        free(job);
        worker->failed++;
        worker->answered++;
    } else if (erand48(worker->random) < 0.1) {
        evpq_op_cancel(op);
    }
}

static void on_work(struct ev_loop *loop, ev_timer *w, int events)
{
    struct worker *worker = w->data;
    (void)events;
    for (; worker->asked < worker->wanted && worker->asked - worker->answered < 8;
         worker->asked++) {
        bool paging = erand48(worker->random) < 0.1, leasing = erand48(worker->random) < 0.1;
        if (paging && !worker->pager &&
            evpq_pager_open(&worker->pager, worker->pool,
                            EVPQ_PAGER_OPTIONS(.sql = "SELECT 1 AS a", .assume_unique = true,
                                               .order_by = "a")) == EVPQ_OK &&
            evpq_pager_next(NULL, worker->pager, on_job_page, worker) == EVPQ_OK)
            continue;
        if (leasing && evpq_pool_acquire(NULL, worker->pool, NULL, on_job_lease, worker) == EVPQ_OK)
            continue;
        ask_job(worker);
    }
    if (worker->answered == worker->wanted) {
        ev_timer_stop(loop, w);
        worker->failed += evpq_pool_close(worker->pool, EVPQ_CLOSE_FINISH, 1000, NULL, NULL) != 0;
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    worker->loop = ev_loop_new(EVFLAG_AUTO);
    if (!worker->loop ||
        evpq_pool_open(&worker->pool, worker->loop,
                       EVPQ_POOL_OPTIONS(.conninfo = worker->conninfo, .max_size = 4)) != EVPQ_OK)
        return NULL;
    ev_timer_init(&worker->tick, on_work, 0., 0.001);
    worker->tick.data = worker;
    ev_timer_start(worker->loop, &worker->tick);
    ev_run(worker->loop, 0);
    worker->closed = 1;
    ev_loop_destroy(worker->loop);
    return NULL;
}

static void two_loops_in_two_threads_do_not_know_each_other(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct worker workers[2] = {0};
    int descriptors = live_descriptors();
    for (int i = 0; i < 2; i++) {
        struct worker *worker = &workers[i];
        snprintf(worker->conninfo, sizeof(worker->conninfo), "%s", fault_conninfo(server, NULL));
        worker->wanted = live_scaled(fault_long() ? 50000 : 3000);
        worker->next = 1 + i * 1000000;
        worker->random[0] = (unsigned short)(i + 1);
        assert_int_equal(pthread_create(&worker->thread, NULL, work, worker), 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < 2; i++) {
        const struct worker *worker = &workers[i];
        ledger_figure("loop %d: %d asked, %d good, %d pages, %d leases", i + 1, worker->asked,
                      worker->good, worker->pages, worker->leases);
        assert_int_equal(worker->closed, 1);
        assert_int_equal(worker->answered, worker->wanted);
        assert_int_equal(worker->wrong, 0);
        assert_int_equal(worker->failed, 0);
        assert_true(worker->good > worker->wanted / 2 && worker->pages > 0 && worker->leases > 0);
    }
    check_descriptors(descriptors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_may_be_broken_out_of_and_run_again),
        cmocka_unit_test(handles_outlive_the_loop),
        cmocka_unit_test(two_loops_in_two_threads_do_not_know_each_other),
    };
    return cmocka_run_group_tests_name("loops", tests, NULL, NULL);
}
