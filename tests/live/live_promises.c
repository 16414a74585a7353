/* SPDX-License-Identifier: MIT */
/*
 * The promises of evpq.h, one by one, on a real server. Each test is named
 * after its promise and fails when it is broken.
 */
#include "support/live.h"
#include "support/pooler.h"
#include "support/watchdog.h"

#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A name server that never answers: for this one name, for all that link with us. */
static int (*libc_getaddrinfo)(const char *, const char *, const struct addrinfo *,
                               struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    if (!libc_getaddrinfo)
        *(void **)&libc_getaddrinfo = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && strcmp(name, "silent.test") == 0 && !(hints && hints->ai_flags & AI_NUMERICHOST)) {
        struct timespec silence = {4, 0};
        nanosleep(&silence, NULL);
        return EAI_AGAIN;
    }
    return libc_getaddrinfo(name, service, hints, found);
}

/* Counts one operation's callbacks, by what they brought. */
struct tally {
    int ok, timeout, canceled, closed, server, other;
};

static void count(evpq_result *result, const evpq_error *err, void *user)
{
    struct tally *tally = user;
    (void)result;
    switch (evpq_error_code(err)) {
    case EVPQ_OK:
        tally->ok++;
        break;
    case EVPQ_ETIMEOUT:
        tally->timeout++;
        break;
    case EVPQ_ECANCELED:
        tally->canceled++;
        break;
    case EVPQ_ECLOSED:
        tally->closed++;
        break;
    case EVPQ_ESERVER:
        tally->server++;
        break;
    default:
        tally->other++;
    }
}

static int sum(const struct tally *t)
{
    return t->ok + t->timeout + t->canceled + t->closed + t->server + t->other;
}

static bool tally_is(struct live *live, void *arg)
{
    const int *wanted = ((void **)arg)[1];
    (void)live;
    return sum(((void **)arg)[0]) >= *wanted;
}

static void wait_for(struct live *live, struct tally *tally, int wanted)
{
    live_until(live, tally_is, (void *[]){tally, &wanted}, 60.);
}

static void promise_1_once_a_refused_call_never_calls_back(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    struct tally tally = {0};
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY(""), count, &tally),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_pool_query(NULL, live.pool, NULL, count, &tally), EVPQ_EINVALID);
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    assert_int_equal(sum(&tally), 0);
    live_close(&live);
}

static void promise_1_once_each_outcome_calls_back_once(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    struct tally tally = {0};
    evpq_op *op;
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), count, &tally), 0);
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELEC"), count, &tally), 0);
    assert_int_equal(evpq_pool_query(NULL, live.pool,
                                     EVPQ_QUERY("SELECT pg_sleep(30)", .timeout_ms = 300), count,
                                     &tally),
                     0);
    assert_int_equal(
        evpq_pool_query(&op, live.pool, EVPQ_QUERY("SELECT pg_sleep(30)"), count, &tally), 0);
    evpq_op_cancel(op);
    evpq_op_cancel(op);
    wait_for(&live, &tally, 4);
    assert_int_equal(
        evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(30)"), count, &tally), 0);
    live_run(&live, 0.1);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    live.pool = NULL;
    live_close(&live);
    assert_int_equal(tally.ok, 1);
    assert_int_equal(tally.server, 1);
    assert_int_equal(tally.timeout, 1);
    assert_int_equal(tally.canceled, 1);
    assert_int_equal(tally.closed, 1);
    assert_int_equal(sum(&tally), 5);
}

struct later {
    struct live *live;
    bool in_call;
    int depth;
};

static void check_later(evpq_result *result, const evpq_error *err, void *user)
{
    struct later *later = user;
    (void)result;
    (void)err;
    assert_false(later->in_call);
    if (later->depth-- == 0)
        return;
    /* From a callback: queries, one of which is refused at once, and a cancel. */
    later->in_call = true;
    evpq_op *op;
    assert_int_equal(
        evpq_pool_query(&op, later->live->pool, EVPQ_QUERY("SELECT 1"), check_later, later), 0);
    evpq_op_cancel(op);
    later->in_call = false;
}

static bool later_done(struct live *live, void *arg)
{
    (void)live;
    return ((struct later *)arg)->depth < 0;
}

static void promise_2_later_a_callback_never_runs_inside_the_call(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    struct later later = {.live = &live, .depth = 50};
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), check_later, &later),
                     0);
    live_until(&live, later_done, &later, 10.);
    live_close(&live);
}

static void close_inside(evpq_result *result, const evpq_error *err, void *user)
{
    struct live *live = user;
    assert_non_null(result);
    assert_null(err);
    assert_int_equal(evpq_pool_close(live->pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    /* Still ours to read. */
    int64_t value;
    assert_int_equal(evpq_result_int8(result, 0, 0, &value), EVPQ_OK);
    live->pool = NULL;
}

static void promise_2_later_a_pool_may_be_closed_from_its_own_callback(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    struct tally tally = {0};
    assert_int_equal(
        evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1::int8"), close_inside, &live), 0);
    assert_int_equal(
        evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(30)"), count, &tally), 0);
    wait_for(&live, &tally, 1);
    assert_null(live.pool);
    live_close(&live);
    assert_int_equal(tally.closed, 1);
}

static void check_turns(struct watchdog *dog, struct ev_loop *loop)
{
    watchdog_stop(dog, loop);
    print_message("longest turn of the loop: %.1f ms, the most CPU %.1f ms\n", dog->longest * 1e3,
                  dog->longest_cpu * 1e3);
    assert_true(watchdog_burnt(dog) < 0.010 * live_slow());
    assert_true(dog->longest < 0.250 * live_slow());
}

static void promise_3_never_blocks_while_connecting_running_cancelling_closing(void **state)
{
    (void)state;
    struct live live;
    struct watchdog dog;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 8));
    watchdog_start(&dog, live.loop);
    struct tally tally = {0};
    int n = live_scaled(400);
    for (int i = 0; i < n; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool,
                                         EVPQ_QUERY("SELECT pg_sleep(random() * 0.02)",
                                                    .timeout_ms = 1 + (uint32_t)i % 30),
                                         count, &tally),
                         EVPQ_OK);
    wait_for(&live, &tally, n);
    evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL);
    live.pool = NULL;
    live_run(&live, 1.);
    check_turns(&dog, live.loop);
    live_close(&live);
}

static void promise_3_never_blocks_on_a_name_server_that_never_answers(void **state)
{
    (void)state;
    struct live live;
    struct watchdog dog;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = "host=silent.test", .connect_timeout_ms = 300));
    watchdog_start(&dog, live.loop);
    struct outcome outcome;
    double start = live_now();
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1", .timeout_ms = 1000));
    assert_int_equal(outcome.code, EVPQ_ECONNECT);
    assert_int_equal(outcome.fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(outcome.message, "silent.test"));
    assert_true(outcome.at - start < 1.05 * live_slow());
    outcome_clear(&outcome);
    /* Closing does not wait for the name server either. */
    start = live_now();
    evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL);
    live.pool = NULL;
    check_turns(&dog, live.loop);
    live_close(&live);
    assert_true(live_now() - start < 1. * live_slow());
}

struct timed {
    double due, late;
    struct tally *tally;
};

static void on_timed(evpq_result *result, const evpq_error *err, void *user)
{
    struct timed *timed = user;
    timed->late = live_now() - timed->due;
    count(result, err, timed->tally);
}

/* Deadlines of 1 to 20 ms on 8 connections, half of them too short; how late the latest was. */
static double try_deadlines(struct live *live, int n)
{
    static struct timed timed[1000];
    struct tally tally = {0};
    for (int i = 0; i < n; i++) {
        uint32_t timeout_ms = 1 + (uint32_t)i % 20;
        timed[i] = (struct timed){.due = live_now() + timeout_ms / 1e3, .tally = &tally};
        assert_int_equal(evpq_pool_query(NULL, live->pool,
                                         EVPQ_QUERY("SELECT pg_sleep(random() * 0.02)",
                                                    .timeout_ms = timeout_ms),
                                         on_timed, &timed[i]),
                         EVPQ_OK);
        if (i % 10 == 9)
            live_run(live, 0.015);
    }
    wait_for(live, &tally, n);
    double latest = 0.;
    for (int i = 0; i < n; i++)
        latest = timed[i].late > latest ? timed[i].late : latest;
    print_message("%d callbacks: %d in time, %d timed out; the latest %.1f ms after its deadline\n",
                  sum(&tally), tally.ok, tally.timeout, latest * 1e3);
    assert_int_equal(sum(&tally), n);
    assert_int_equal(tally.ok + tally.timeout, n);
    assert_true(tally.timeout > 0);
    return latest;
}

static bool has_eight_idle(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == 8;
}

static void promise_4_a_deadline_is_a_deadline(void **state)
{
    (void)state;
    struct live live;
    int n = live_scaled(1000);
    live_open(&live, EVPQ_POOL_OPTIONS(.min_size = 8, .max_size = 8));
    live_until(&live, has_eight_idle, NULL, 20.);
    /* A machine that takes the processor away for that long is given another chance. */
    double latest = 1.;
    for (int attempt = 0; attempt < 3 && latest >= 0.050 * live_slow(); attempt++)
        latest = try_deadlines(&live, n);
    assert_true(latest < 0.050 * live_slow());

    struct tally after = {0};
    for (int i = 0; i < n; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), count, &after),
                         EVPQ_OK);
    wait_for(&live, &after, n);
    assert_int_equal(after.ok, n);
    live_close(&live);
}

static void promise_4_a_deadline_holds_while_connecting(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = "host=silent.test"));
    struct outcome outcome;
    double start = live_now();
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1", .timeout_ms = 200));
    assert_true(outcome.at - start < 0.250 * live_slow());
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    assert_non_null(strstr(outcome.message, "1 connecting"));
    outcome_clear(&outcome);
    live_close(&live);
}

static void promise_5_the_error_tells_the_fate(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    struct outcome refused, unknown = {0}, waiting = {0}, lost;
    live_query(&live, &refused, EVPQ_QUERY("SELECT 1/0"));
    assert_int_equal(refused.code, EVPQ_ESERVER);
    assert_int_equal(refused.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(refused.sqlstate, "22012");
    assert_string_equal(refused.message, "division by zero");

    assert_int_equal(evpq_pool_query(NULL, live.pool,
                                     EVPQ_QUERY("SELECT pg_sleep(30)", .timeout_ms = 400),
                                     outcome_result, &unknown),
                     EVPQ_OK);
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1", .timeout_ms = 200),
                                     outcome_result, &waiting),
                     EVPQ_OK);
    live_wait(&live, &waiting);
    live_wait(&live, &unknown);
    assert_int_equal(waiting.code, EVPQ_ETIMEOUT);
    assert_int_equal(waiting.fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(waiting.message, "of max_size 1, 1 busy"));
    assert_int_equal(unknown.code, EVPQ_ETIMEOUT);
    assert_int_equal(unknown.fate, EVPQ_UNKNOWN);

    live_query(&live, &lost, EVPQ_QUERY("SELECT pg_terminate_backend(pg_backend_pid())"));
    assert_int_equal(lost.code, EVPQ_EDISCONNECTED);
    assert_int_equal(lost.fate, EVPQ_UNKNOWN);
    assert_string_equal(lost.sqlstate, "57P01");
    live_close(&live);
}

static void promise_6_success_is_final(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    struct outcome lease, outcome;
    live_acquire(&live, &lease);
    live_lease_query(&live, &outcome, lease.lease,
                     EVPQ_QUERY("CREATE TEMP TABLE deferred (id int UNIQUE "
                                "DEFERRABLE INITIALLY DEFERRED)"));
    outcome_clear(&outcome);
    /* The INSERT itself is accepted (COMMAND_OK); its Sync brings the violation. */
    live_lease_query(&live, &outcome, lease.lease,
                     EVPQ_QUERY("INSERT INTO deferred VALUES (1), (1)"));
    assert_int_equal(outcome.code, EVPQ_ESERVER);
    assert_string_equal(outcome.sqlstate, "23505");
    assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
    outcome_clear(&outcome);
    live_lease_query(&live, &outcome, lease.lease, EVPQ_QUERY("SELECT count(*) FROM deferred"));
    int64_t rows = -1;
    assert_int_equal(evpq_result_int8(outcome.result, 0, 0, &rows), EVPQ_OK);
    assert_int_equal(rows, 0);
    outcome_clear(&outcome);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void promise_7_clean_or_gone_never_more_than_max_size(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with("application_name=evpq_p7"),
                                       .max_size = 3));
    struct tally tally = {0};
    int n = live_scaled(300), most = 0;
    for (int i = 0; i < n; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool,
                                         EVPQ_QUERY("SELECT pg_sleep(0.05)",
                                                    .timeout_ms = 60 + 10 * ((uint32_t)i % 90)),
                                         count, &tally),
                         EVPQ_OK);
    while (sum(&tally) < n) {
        live_run(&live, 0.02);
        int seen = (int)aside_int8(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = 'evpq_p7'");
        most = seen > most ? seen : most;
    }
    print_message("connections seen by the server: at most %d of 3\n", most);
    assert_in_range(most, live_slow() > 1. || n < 300 ? 1 : 2, 3);
    live_close(&live);
}

static void promise_7_clean_or_gone_a_slot_is_free_when_the_server_has_let_go(void **state)
{
    (void)state;
    /* The server itself counts: it refuses a second connection while the first one ends. */
    aside_int8("DROP ROLE IF EXISTS evpq_one");
    aside_int8("CREATE ROLE evpq_one LOGIN PASSWORD 'one' CONNECTION LIMIT 1");
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with("user=evpq_one password=one"),
                                       .max_size = 1, .max_lifetime_ms = 1, .fail_fast = true));
    for (int i = 0; i < 4; i++) {
        /* A session with much to clean up takes its time to end. */
        live_int8(&live, EVPQ_QUERY("DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE format("
                                    "'CREATE TEMP TABLE t%s (id int)', i); END LOOP; END $$"));
        live_run(&live, 0.01);
    }
    assert_int_equal(live_stats(&live).dialed, 4);
    assert_int_equal(live_stats(&live).dial_failures, 0);
    live_close(&live);
    aside_int8("DROP ROLE evpq_one");
}

static void promise_7_clean_or_gone_a_transaction_left_open_is_rolled_back(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    struct outcome lease, outcome;
    live_int8(&live, EVPQ_QUERY("DROP TABLE IF EXISTS evpq_left_open"));
    int64_t pid = live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()"));
    live_acquire(&live, &lease);
    const char *const left_open[] = {"BEGIN", "CREATE TABLE evpq_left_open (id int)"};
    for (size_t i = 0; i < 2; i++) {
        live_lease_query(&live, &outcome, lease.lease, EVPQ_QUERY(left_open[i]));
        assert_int_equal(outcome.code, EVPQ_OK);
        outcome_clear(&outcome);
    }
    evpq_lease_release(lease.lease);
    /* The same connection, clean. */
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()")), pid);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT count(*) FROM pg_class "
                                                 "WHERE relname = 'evpq_left_open'")),
                     0);
    /* Left open by a query of the pool. */
    live_int8(&live, EVPQ_QUERY("BEGIN"));
    live_run(&live, 0.1);
    assert_int_equal(live_stats(&live).idle, 1);
    assert_int_equal(aside_int8("SELECT count(*) FROM pg_stat_activity "
                                "WHERE state LIKE 'idle in transaction%'"),
                     0);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT pg_backend_pid()")), pid);
    live_close(&live);
}

static void promise_8_cancel_hits_its_target_only(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    struct tally victims = {0}, neighbours = {0};
    int n = live_scaled(600);
    for (int i = 0; i < n; i++) {
        evpq_op *op;
        assert_int_equal(
            evpq_pool_query(&op, live.pool, EVPQ_QUERY("SELECT pg_sleep(0.002)"), count, &victims),
            EVPQ_OK);
        assert_int_equal(
            evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), count, &neighbours), EVPQ_OK);
        /* Around the moment it ends. Its memory is ours to name only until it has called back. */
        live_run(&live, 0.0005 * (i % 6));
        if (sum(&victims) == i)
            evpq_op_cancel(op);
        wait_for(&live, &victims, i + 1);
    }
    wait_for(&live, &neighbours, n);
    print_message("%d cancelled, %d had ended; %d of %d neighbours unharmed\n", victims.canceled,
                  victims.ok, neighbours.ok, n);
    assert_int_equal(neighbours.ok, n);
    assert_int_equal(victims.ok + victims.canceled, n);
    live_close(&live);
}

static void promise_9_all_is_bounded_waiters(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .max_waiters = 5));
    struct tally tally = {0};
    int accepted = 0, refused = 0;
    for (int i = 0; i < 10; i++) {
        int code = evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), count, &tally);
        accepted += code == EVPQ_OK;
        refused += code == EVPQ_EOVERLOADED;
    }
    assert_int_equal(accepted, 5);
    assert_int_equal(refused, 5);
    wait_for(&live, &tally, accepted);
    assert_int_equal(tally.ok, accepted);
    assert_int_equal(live_stats(&live).overloaded, 5);
    live_close(&live);
}

static void promise_9_all_is_bounded_time_of_close(void **state)
{
    (void)state;
    struct live live;
    struct tally tally = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    struct outcome lease;
    live_acquire(&live, &lease);
    assert_int_equal(
        evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(60)"), count, &tally), 0);
    live_run(&live, 0.1);
    double start = live_now();
    evpq_pool_close(live.pool, EVPQ_CLOSE_FINISH, 200, NULL, NULL);
    live.pool = NULL;
    live_close(&live);
    assert_true(live_now() - start < 2.5 * live_slow());
    assert_int_equal(tally.closed, 1);
    /* The lease is a handle still, without a connection. */
    assert_int_equal(evpq_lease_query(NULL, lease.lease, EVPQ_QUERY("SELECT 1"), count, &tally),
                     EVPQ_ECLOSED);
    evpq_lease_release(lease.lease);
}

static void promise_11_secrets_stay_secret(void **state)
{
    (void)state;
    static const char *const conninfos[] = {
        "host=127.0.0.1 port=1 password=can4ry user=x dbname=y",
        "postgresql://x:can4ry@127.0.0.1:1/y",
        "postgresql://x:can4ry/y@127.0.0.1/y",
        "postgresql://x:a@can4ry@127.0.0.1/y",
        "host=127.0.0.1 port=can4ry",
        "host=can4ry@127.0.0.1",
        "host=127.0.0.1 port=1 connect_timeout=can4ry",
        "password=a can4ry",
        "postgresql://x:can4ry%zz@127.0.0.1/y",
        "host=/nonexistent password='can4ry'",
    };
    for (size_t i = 0; i < sizeof(conninfos) / sizeof(conninfos[0]); i++) {
        const evpq_pool_options *options =
            EVPQ_POOL_OPTIONS(.conninfo = conninfos[i], .fail_fast = true);
        const char *problem = evpq_pool_options_problem(options);
        if (problem) {
            assert_null(strstr(problem, "can4ry"));
            continue;
        }
        struct live live;
        struct outcome outcome;
        live_open(&live, options);
        live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
        assert_int_equal(outcome.code, EVPQ_ECONNECT);
        if (strstr(outcome.message, "can4ry"))
            fail_msg("a secret in: %s", outcome.message);
        outcome_clear(&outcome);
        live_close(&live);
    }
}

static void promise_11_secrets_stay_secret_parameters(void **state)
{
    (void)state;
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &outcome,
               EVPQ_QUERY("SELECT pg_sleep(30), $1::text", EVPQ_PARAMS(evpq_text("can4ry")),
                          .timeout_ms = 100));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    assert_null(strstr(outcome.message, "can4ry"));
    live_close(&live);
}

static void promise_12_no_hidden_state_no_output(void **state)
{
    (void)state;
    struct live live;
    /* What anybody writes to stderr meanwhile ends in the file. */
    fflush(stderr);
    FILE *caught = tmpfile();
    int saved = dup(STDERR_FILENO);
    dup2(fileno(caught), STDERR_FILENO);
    int descriptors = live_descriptors();
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    struct outcome outcome;
    live_query(&live, &outcome,
               EVPQ_QUERY("DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'you'; END $$"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    live_close(&live);
    assert_int_equal(live_descriptors(), descriptors);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    fseek(caught, 0, SEEK_END);
    assert_int_equal(ftell(caught), 0);
    fclose(caught);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promise_1_once_a_refused_call_never_calls_back),
        cmocka_unit_test(promise_1_once_each_outcome_calls_back_once),
        cmocka_unit_test(promise_2_later_a_callback_never_runs_inside_the_call),
        cmocka_unit_test(promise_2_later_a_pool_may_be_closed_from_its_own_callback),
        cmocka_unit_test(promise_3_never_blocks_while_connecting_running_cancelling_closing),
        cmocka_unit_test(promise_3_never_blocks_on_a_name_server_that_never_answers),
        cmocka_unit_test(promise_4_a_deadline_is_a_deadline),
        cmocka_unit_test(promise_4_a_deadline_holds_while_connecting),
        cmocka_unit_test(promise_5_the_error_tells_the_fate),
        cmocka_unit_test(promise_6_success_is_final),
        cmocka_unit_test(promise_7_clean_or_gone_never_more_than_max_size),
        cmocka_unit_test(promise_7_clean_or_gone_a_slot_is_free_when_the_server_has_let_go),
        cmocka_unit_test(promise_7_clean_or_gone_a_transaction_left_open_is_rolled_back),
        cmocka_unit_test(promise_8_cancel_hits_its_target_only),
        cmocka_unit_test(promise_9_all_is_bounded_waiters),
        cmocka_unit_test(promise_9_all_is_bounded_time_of_close),
        cmocka_unit_test(promise_11_secrets_stay_secret),
        cmocka_unit_test(promise_11_secrets_stay_secret_parameters),
        cmocka_unit_test(promise_12_no_hidden_state_no_output),
    };
    return pooler_run_group_tests_name("promises", tests, NULL, NULL);
}
