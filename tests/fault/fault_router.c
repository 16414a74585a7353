/* SPDX-License-Identifier: MIT */
/*
 * Reads from a real standby: one that lags, that is cut off, that dies, that takes over. Who has
 * answered is told by the statement itself.
 */
#include "support/ledger.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BOUND_MS = 1000, PROBE_MS = 50 };

/* 1 of a standby, 0 of a primary; and what it sees. */
#define WHERE "SELECT pg_is_in_recovery()::int::int8"
#define SEES  "SELECT coalesce(max(nonce), 0) FROM effects"

static struct ev_loop *loop;
static struct fault_server *first, *second; /* the primary, its standby */
static evpq_pool *primary, *standby, *other;
static evpq_router *router;

static double bound(void)
{
    return live_slow() > 1. ? 3. * BOUND_MS / 1e3 : BOUND_MS / 1e3;
}

/* ---- the set-up ---- */

static evpq_pool *pool_of(const char *conninfo)
{
    evpq_pool *pool = NULL;
    assert_int_equal(evpq_pool_open(&pool, loop,
                                    EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = 4,
                                                      .cancel_timeout_ms = 500)),
                     EVPQ_OK);
    return pool;
}

static void open_router(void)
{
    char both[400];
    first = fault_server();
    fault_server_set(first, "autovacuum", "off"); /* it writes when it likes */
    second = fault_server_follow(first);
    fault_sql(first, "TRUNCATE effects");
    loop = ev_loop_new(EVFLAG_AUTO);
    snprintf(both, sizeof(both),
             "host=127.0.0.1,127.0.0.1 port=%d,%d user=evpq password=%s dbname=evpq "
             "sslmode=disable target_session_attrs=read-write",
             first->port, second->port, first->password);
    primary = pool_of(both);
    standby = pool_of(fault_conninfo(second, "target_session_attrs=standby"));
    other = pool_of(fault_conninfo(first, "target_session_attrs=standby"));
    assert_int_equal(
        evpq_router_open(&router,
                         EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(standby, other),
                                             .max_lag_ms = (uint32_t)(bound() * 1e3),
                                             .probe_interval_ms = PROBE_MS)),
        EVPQ_OK);
}

static void count_closed(void *user)
{
    ++*(int *)user;
}

static void close_router(void)
{
    int closed = 0;
    evpq_router_close(router);
    evpq_pool_close(primary, EVPQ_CLOSE_CANCEL, 0, count_closed, &closed);
    evpq_pool_close(standby, EVPQ_CLOSE_CANCEL, 0, count_closed, &closed);
    evpq_pool_close(other, EVPQ_CLOSE_CANCEL, 0, count_closed, &closed);
    ev_run(loop, 0);
    assert_int_equal(closed, 3);
    ev_loop_destroy(loop);
}

/* ---- what is asked ---- */

static void on_time(struct ev_loop *l, ev_timer *timer, int events)
{
    (void)timer, (void)events;
    ev_break(l, EVBREAK_ALL);
}

static void run(double seconds)
{
    ev_timer timer;
    ev_timer_init(&timer, on_time, seconds, 0.);
    ev_timer_start(loop, &timer);
    ev_run(loop, 0);
    ev_timer_stop(loop, &timer);
}

struct answer {
    int calls;
    evpq_code code;
    char message[400];
    int64_t value;
};

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct answer *answer = user;
    answer->calls++;
    answer->code = evpq_error_code(err);
    snprintf(answer->message, sizeof(answer->message), "%s", err ? evpq_error_message(err) : "");
    if (!result || evpq_result_int8(result, 0, 0, &answer->value) != EVPQ_OK)
        answer->value = -1;
    ev_break(loop, EVBREAK_ALL);
}

static void on_lsn(uint64_t lsn, const evpq_error *err, void *user)
{
    assert_null(err);
    *(uint64_t *)user = lsn;
    ev_break(loop, EVBREAK_ALL);
}

static struct answer ask(const evpq_query *query, const evpq_read *read)
{
    struct answer answer = {0};
    assert_int_equal(evpq_router_query(NULL, router, query, read, on_result, &answer), EVPQ_OK);
    while (answer.calls == 0)
        ev_run(loop, EVRUN_ONCE);
    return answer;
}

static int64_t value(const char *sql, const evpq_read *read)
{
    struct answer answer = ask(EVPQ_QUERY(sql), read);
    if (answer.code != EVPQ_OK)
        fail_msg("%s: %s", sql, answer.message);
    return answer.value;
}

static uint64_t write_lsn(void)
{
    uint64_t lsn = 0;
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, on_lsn, &lsn), EVPQ_OK);
    while (lsn == 0)
        ev_run(loop, EVRUN_ONCE);
    return lsn;
}

static void write_nonce(int64_t nonce)
{
    struct answer answer = ask(EVPQ_QUERY("INSERT INTO effects VALUES ($1) RETURNING 1::int8",
                                          EVPQ_PARAMS(evpq_int8(nonce))),
                               NULL);
    if (answer.code != EVPQ_OK)
        fail_msg("INSERT: %s", answer.message);
}

static evpq_standby_stats about(size_t index)
{
    evpq_standby_stats stats = {.size = sizeof(stats)};
    assert_int_equal(evpq_router_standby_get(router, index, &stats), EVPQ_OK);
    return stats;
}

static evpq_router_stats stats(void)
{
    evpq_router_stats now = {.size = sizeof(now)};
    assert_int_equal(evpq_router_stats_get(router, &now), EVPQ_OK);
    return now;
}

/* Asks until reads are served there; fails after so many seconds. */
static double until_served_by(int where, double seconds)
{
    double began = live_now();
    while (value(WHERE, EVPQ_READ_ONLY()) != where) {
        assert_true(live_now() - began < seconds * live_slow());
        run(0.01);
    }
    return live_now() - began;
}

/* ---- cases ---- */

static void reads_are_the_standbys_and_writes_the_primarys(void **state)
{
    (void)state;
    open_router();
    assert_int_equal(value(WHERE, NULL), 0);
    until_served_by(1, 5.);
    /* Nothing is written for longer than the bound: it is as good as on the first day. */
    double end = live_now() + 2.5 * bound();
    int reads = 0;
    while (live_now() < end) {
        assert_int_equal(value(WHERE, EVPQ_READ_ONLY()), 1);
        reads++;
        run(0.02);
    }
    assert_true(reads > 20);
    assert_int_equal(about(0).lag_bytes, 0);
    /* The wrong mark is an error of the caller's, not a write of the primary's. */
    struct answer answer = ask(EVPQ_QUERY("INSERT INTO effects VALUES (1)"), EVPQ_READ_ONLY());
    assert_int_equal(answer.code, EVPQ_ESERVER);
    assert_int_equal(value(SEES, NULL), 0);
    close_router();
}

static void a_standby_that_stops_to_replay_is_left_in_time(void **state)
{
    (void)state;
    open_router();
    until_served_by(1, 5.);
    fault_sql(second, "SELECT 1 FROM (SELECT pg_wal_replay_pause()) AS pause");
    double paused = live_now(), written = 0.;
    int stale = 0, fresh = 0;
    for (int64_t nonce = 1; live_now() < paused + 2.5 * bound(); nonce++) {
        write_nonce(nonce);
        if (written == 0.)
            written = live_now();
        double asked = live_now();
        int64_t seen = value(SEES, EVPQ_READ_ONLY());
        bool is_stale = seen < nonce;
        stale += is_stale;
        fresh += !is_stale;
        /* The promise: all that was committed `bound` before the call. */
        if (is_stale)
            assert_true(asked - written < bound());
        run(0.005);
    }
    assert_true(stale > 0 && fresh > 0);
    assert_int_equal(value(WHERE, EVPQ_READ_ONLY()), 0);
    assert_false(about(0).usable);
    assert_true(about(0).lag_bytes > 0);
    assert_true(about(0).lag_ms >= bound() * 1e3);
    /* Who does not mind, and who does by bytes. */
    assert_int_equal(value(WHERE, EVPQ_READ_ONLY(.max_lag_ms = EVPQ_NEVER)), 1);
    assert_int_equal(value(WHERE, EVPQ_READ_ONLY(.max_lag_ms = EVPQ_NEVER, .max_lag_bytes = 1)), 0);
    fault_sql(second, "SELECT 1 FROM (SELECT pg_wal_replay_resume()) AS resume");
    double back = until_served_by(1, 5.);
    ledger_figure("paused: %d stale reads within the bound of %.0f ms, %d fresh; back in %.0f ms",
                  stale, bound() * 1e3, fresh, back * 1e3);
    close_router();
}

static void a_standby_that_has_lost_its_primary_is_left_in_time(void **state)
{
    (void)state;
    open_router();
    until_served_by(1, 5.);
    fault_server_hba(first, "local replication admin reject\n");
    fault_sql(first, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication");
    /* What it has received is replayed, and it has nothing to complain about. */
    run(2. * bound());
    write_nonce(1);
    double written = live_now();
    while (value(SEES, EVPQ_READ_ONLY()) != 1) {
        assert_true(live_now() - written < bound() + 0.2 * live_slow());
        run(0.01);
    }
    assert_int_equal(fault_sql(second,
                               "SELECT (pg_last_wal_receive_lsn() IS NULL OR "
                               "pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn())"
                               "::int::int8"),
                     1);
    assert_int_equal(value(WHERE, EVPQ_READ_ONLY()), 0);
    close_router();
}

static void a_read_sees_the_write_whose_place_it_carries(void **state)
{
    (void)state;
    open_router();
    until_served_by(1, 5.);
    evpq_router_stats before = stats();
    int rounds = live_scaled(300), blind = 0;
    for (int64_t nonce = 1; nonce <= rounds; nonce++) {
        write_nonce(nonce);
        blind += value(SEES, EVPQ_READ_ONLY()) < nonce;
        uint64_t lsn = write_lsn();
        if (nonce % 3 == 0)
            run(2e-3 * PROBE_MS); /* the standby has been asked */
        assert_int_equal(value(SEES, EVPQ_READ_ONLY(.after_lsn = lsn)), nonce);
    }
    evpq_router_stats after = stats();
    ledger_figure(
        "%d writes read back with their place: %llu from the primary; without it %d of "
        "%d did not see theirs",
        rounds, (unsigned long long)(after.to_primary - before.to_primary), blind, rounds);
    /* Some from each, or nothing was tested. */
    assert_in_range(after.to_primary - before.to_primary, 1, rounds - 1);
    fault_sql(second, "SELECT 1 FROM (SELECT pg_wal_replay_pause()) AS pause");
    write_nonce(rounds + 1);
    uint64_t lsn = write_lsn();
    assert_int_equal(value(SEES, EVPQ_READ_ONLY(.max_lag_ms = EVPQ_NEVER)), rounds);
    assert_int_equal(value(SEES, EVPQ_READ_ONLY(.after_lsn = lsn, .max_lag_ms = EVPQ_NEVER)),
                     rounds + 1);
    close_router();
}

/* Many at once, each with its own answer. */
enum { LOAD = 2000 };
static struct answer load[LOAD];
static int asked, answered;
static evpq_read load_read;

static void on_loaded(evpq_result *result, const evpq_error *err, void *user)
{
    struct answer *answer = user;
    answered++;
    answer->calls++;
    answer->code = evpq_error_code(err);
    snprintf(answer->message, sizeof(answer->message), "%s", err ? evpq_error_message(err) : "");
    if (!result || evpq_result_int8(result, 0, 0, &answer->value) != EVPQ_OK)
        answer->value = -1;
}

static void on_load(struct ev_loop *l, ev_timer *timer, int events)
{
    (void)l, (void)timer, (void)events;
    if (asked == LOAD)
        return;
    struct answer *answer = &load[asked];
    *answer = (struct answer){0};
    int code =
        evpq_router_query(NULL, router,
                          EVPQ_QUERY("SELECT pg_is_in_recovery()::int::int8 FROM pg_sleep(0.005)",
                                     .timeout_ms = 5000),
                          &load_read, on_loaded, answer);
    assert_int_equal(code, EVPQ_OK);
    asked++;
}

static ev_timer ticking;

static void begin_load(double per_s, const evpq_read *read)
{
    load_read = *read;
    asked = answered = 0;
    ev_timer_init(&ticking, on_load, 0., live_slow() / per_s);
    ev_timer_start(loop, &ticking);
}

/* Each has called back once, and well; returns how many were served by a standby. */
static int end_load(void)
{
    int by_standby = 0;
    ev_timer_stop(loop, &ticking);
    double end = live_now() + 10. * live_slow();
    while (answered < asked && live_now() < end)
        run(0.02);
    assert_int_equal(answered, asked);
    for (int i = 0; i < asked; i++) {
        assert_int_equal(load[i].calls, 1);
        if (load[i].code != EVPQ_OK)
            fail_msg("read %d: %s", i, load[i].message);
        by_standby += load[i].value == 1;
    }
    return by_standby;
}

static void no_read_fails_when_the_standby_is_killed(void **state)
{
    (void)state;
    open_router();
    until_served_by(1, 5.);
    begin_load(200., EVPQ_READ_ONLY());
    run(0.5 * live_slow());
    fault_forget_admin(second);
    fault_server_kill(second);
    run(1. * live_slow());
    fault_server_gone(second);
    fault_server_start(second);
    run(2. * live_slow());
    int by_standby = end_load();
    ledger_figure("standby killed and started: %d reads, %d by the standby, %llu moved", asked,
                  by_standby, (unsigned long long)stats().moved);
    assert_true(stats().moved > 0);
    assert_in_range(by_standby, 20, asked - 20);
    assert_int_equal(load[asked - 1].value, 1);
    close_router();
}

static void a_read_that_is_in_the_way_of_replay_runs_on_the_primary(void **state)
{
    (void)state;
    open_router();
    fault_server_set(second, "max_standby_streaming_delay", "0");
    until_served_by(1, 5.);
    struct answer answer = {0};
    assert_int_equal(evpq_router_query(NULL, router,
                                       EVPQ_QUERY("SELECT count(*) FROM effects, pg_sleep(0.5)",
                                                  .timeout_ms = 10000),
                                       EVPQ_READ_ONLY(), on_result, &answer),
                     EVPQ_OK);
    run(0.2);
    fault_sql(first, "BEGIN; LOCK TABLE effects IN ACCESS EXCLUSIVE MODE; COMMIT");
    while (answer.calls == 0)
        ev_run(loop, EVRUN_ONCE);
    if (answer.code != EVPQ_OK)
        fail_msg("%s", answer.message);
    assert_int_equal(stats().moved, 1);
    close_router();
}

static void a_promoted_standby_becomes_the_primary_and_the_old_one_a_standby(void **state)
{
    (void)state;
    open_router();
    until_served_by(1, 5.);
    /* While there is no primary, its bound would run out. */
    begin_load(100., EVPQ_READ_ONLY(.max_lag_ms = EVPQ_NEVER));
    run(0.3 * live_slow());
    fault_forget_admin(first);
    fault_server_kill(first);
    run(0.3 * live_slow());
    assert_true(fault_server_gone(first));
    assert_int_equal(fault_sql(second, "SELECT pg_promote(false)::int::bigint"), 1);
    double promoted = live_now();
    struct answer answer;
    do
        answer = ask(EVPQ_QUERY("INSERT INTO effects VALUES (1) RETURNING "
                                "pg_is_in_recovery()::int::int8",
                                .timeout_ms = 1000),
                     NULL);
    while (answer.code != EVPQ_OK && live_now() < promoted + 10. * live_slow());
    double writes = live_now() - promoted;
    assert_int_equal(answer.code, EVPQ_OK);
    int before = end_load();
    assert_true(before > 0);
    /* There is no standby, and nobody takes the new primary for one. */
    until_served_by(0, 5.);
    run(0.5 * live_slow());
    assert_int_equal(stats().standbys, 0);

    struct fault_server *was = first;
    assert_ptr_equal(fault_server_follow(second), was);
    double back = until_served_by(1, 10.);
    assert_false(about(0).usable);
    assert_true(about(1).usable);
    for (int64_t nonce = 2; nonce < 20; nonce++) {
        write_nonce(nonce);
        assert_int_equal(value(SEES, EVPQ_READ_ONLY(.after_lsn = write_lsn())), nonce);
    }
    assert_int_equal(value(WHERE, NULL), 0);
    ledger_figure(
        "promoted: writes flow after %.0f ms; reads are the new standby's %.0f ms after "
        "it was there",
        writes * 1e3, back * 1e3);
    close_router();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_are_the_standbys_and_writes_the_primarys),
        cmocka_unit_test(a_standby_that_stops_to_replay_is_left_in_time),
        cmocka_unit_test(a_standby_that_has_lost_its_primary_is_left_in_time),
        cmocka_unit_test(a_read_sees_the_write_whose_place_it_carries),
        cmocka_unit_test(no_read_fails_when_the_standby_is_killed),
        cmocka_unit_test(a_read_that_is_in_the_way_of_replay_runs_on_the_primary),
        cmocka_unit_test(a_promoted_standby_becomes_the_primary_and_the_old_one_a_standby),
    };
    return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
