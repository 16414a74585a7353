/* SPDX-License-Identifier: MIT */
#include "support/live.h"

#include <dirent.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *live_conninfo(void)
{
    const char *conninfo = getenv("EVPQ_TEST_CONNINFO");
    return conninfo && conninfo[0] ? conninfo : NULL;
}

const char *live_conninfo_with(const char *more)
{
    static char buffer[4096];
    const char *base = live_conninfo();
    if (base && strstr(base, "://"))
        /* A URI takes more settings as its query. */
        snprintf(buffer, sizeof(buffer), "%s%c%s", base, strchr(base, '?') ? '&' : '?', more);
    else
        snprintf(buffer, sizeof(buffer), "%s %s", base ? base : "", more);
    return buffer;
}

void live_open(struct live *live, const evpq_pool_options *options)
{
    evpq_pool_options o = *options;
    if (!o.conninfo)
        o.conninfo = live_conninfo();
    live->loop = ev_loop_new(EVFLAG_AUTO);
    assert_non_null(live->loop);
    assert_int_equal(evpq_pool_open(&live->pool, live->loop, &o), EVPQ_OK);
}

static void count_closed(void *user)
{
    ++*(int *)user;
}

static void on_guard(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)w;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

void live_close(struct live *live)
{
    int closed = 0;
    if (live->pool)
        assert_int_equal(
            evpq_pool_close(live->pool, EVPQ_CLOSE_FINISH, 10000, count_closed, &closed), EVPQ_OK);
    /* The guard does not keep the loop running: whatever else does shows itself. */
    ev_timer guard;
    ev_timer_init(&guard, on_guard, 60., 0.);
    ev_now_update(live->loop);
    ev_timer_start(live->loop, &guard);
    ev_unref(live->loop);
    ev_run(live->loop, 0);
    assert_true(ev_is_active(&guard));
    ev_ref(live->loop);
    ev_timer_stop(live->loop, &guard);
    assert_int_equal(closed, live->pool ? 1 : 0);
    ev_loop_destroy(live->loop);
    *live = (struct live){0};
}

void outcome_clear(struct outcome *outcome)
{
    evpq_result_free(outcome->result);
    *outcome = (struct outcome){0};
}

static void outcome_take(struct outcome *outcome, const evpq_error *err)
{
    outcome->calls++;
    outcome->at = live_now();
    outcome->code = evpq_error_code(err);
    outcome->fate = evpq_error_fate(err);
    outcome->retry_safe = evpq_error_retry_safe(err);
    snprintf(outcome->message, sizeof(outcome->message), "%s", evpq_error_message(err));
    snprintf(outcome->sqlstate, sizeof(outcome->sqlstate), "%s", evpq_error_sqlstate(err));
}

void outcome_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct outcome *outcome = user;
    assert_true((result != NULL) == (err == NULL));
    outcome_take(outcome, err);
    outcome->result = result ? evpq_result_keep(result) : NULL;
}

void outcome_lease(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct outcome *outcome = user;
    assert_true((lease != NULL) == (err == NULL));
    outcome_take(outcome, err);
    outcome->lease = lease;
}

/* Looks at a condition before the loop blocks, after evpq has called back. */
struct look {
    ev_prepare before_block;
    ev_timer limit;
    struct live *live;
    bool (*condition)(struct live *, void *);
    void *arg;
};

static void on_look(struct ev_loop *loop, ev_prepare *w, int events)
{
    struct look *look = w->data;
    (void)events;
    if (look->condition(look->live, look->arg))
        ev_break(loop, EVBREAK_ONE);
}

void live_until(struct live *live, bool (*condition)(struct live *, void *), void *arg,
                double seconds)
{
    struct look look = {.live = live, .condition = condition, .arg = arg};
    ev_prepare_init(&look.before_block, on_look);
    ev_set_priority(&look.before_block, EV_MINPRI);
    look.before_block.data = &look;
    ev_timer_init(&look.limit, on_guard, seconds * live_slow(), 0.);
    ev_now_update(live->loop);
    ev_prepare_start(live->loop, &look.before_block);
    ev_timer_start(live->loop, &look.limit);
    ev_run(live->loop, 0);
    ev_timer_stop(live->loop, &look.limit);
    ev_prepare_stop(live->loop, &look.before_block);
    assert_true(condition(live, arg));
}

static bool has_called(struct live *live, void *arg)
{
    (void)live;
    return ((struct outcome *)arg)->calls > 0;
}

void live_wait(struct live *live, struct outcome *outcome)
{
    live_until(live, has_called, outcome, 60.);
    assert_int_equal(outcome->calls, 1);
}

void live_run(struct live *live, double seconds)
{
    ev_timer guard;
    ev_timer_init(&guard, on_guard, seconds, 0.);
    ev_now_update(live->loop);
    ev_timer_start(live->loop, &guard);
    ev_run(live->loop, 0);
    ev_timer_stop(live->loop, &guard);
}

void live_query(struct live *live, struct outcome *outcome, const evpq_query *query)
{
    *outcome = (struct outcome){0};
    assert_int_equal(evpq_pool_query(NULL, live->pool, query, outcome_result, outcome), EVPQ_OK);
    assert_int_equal(outcome->calls, 0);
    live_wait(live, outcome);
}

int64_t live_int8(struct live *live, const evpq_query *query)
{
    struct outcome outcome;
    live_query(live, &outcome, query);
    if (outcome.code != EVPQ_OK)
        fail_msg("%s: %s", query->sql, outcome.message);
    int64_t value = 0;
    if (evpq_result_rows(outcome.result) > 0)
        assert_int_equal(evpq_result_int8(outcome.result, 0, 0, &value), EVPQ_OK);
    outcome_clear(&outcome);
    return value;
}

void live_acquire(struct live *live, struct outcome *outcome)
{
    *outcome = (struct outcome){0};
    assert_int_equal(evpq_pool_acquire(NULL, live->pool, NULL, outcome_lease, outcome), EVPQ_OK);
    live_wait(live, outcome);
}

void live_lease_query(struct live *live, struct outcome *outcome, evpq_lease *lease,
                      const evpq_query *query)
{
    *outcome = (struct outcome){0};
    assert_int_equal(evpq_lease_query(NULL, lease, query, outcome_result, outcome), EVPQ_OK);
    live_wait(live, outcome);
}

evpq_pool_stats live_stats(struct live *live)
{
    evpq_pool_stats stats = {.size = sizeof(stats)};
    assert_int_equal(evpq_pool_stats_get(live->pool, &stats), EVPQ_OK);
    return stats;
}

const char *live_aside(void)
{
    const char *aside = getenv("EVPQ_TEST_ASIDE");
    if (aside && aside[0])
        return aside;
    return live_conninfo() ? live_conninfo() : "";
}

int64_t aside_int8(const char *sql)
{
    PGconn *conn = PQconnectdb(live_aside());
    if (PQstatus(conn) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(conn));
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    int64_t value = PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    PQfinish(conn);
    return value;
}

double live_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int live_scaled(int count)
{
    const char *scale = getenv("EVPQ_TEST_SCALE");
    if (!scale || strcmp(scale, "small") != 0)
        return count;
    return count < 20 ? count : count / 20 > 20 ? count / 20 : 20;
}

double live_slow(void)
{
    const char *slow = getenv("EVPQ_TEST_SLOW");
    return slow && slow[0] == '1' ? 20. : 1.;
}

int live_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}
