/* SPDX-License-Identifier: MIT */
/*
 *            a read                     unasked for ten rounds, or closed
 *   PAUSED ----------> rounds of probes ------------------------------> PAUSED
 *
 * In a round each server is asked that has no question under way. So there is never more than one
 * for each, whatever it does.
 */
#include "route/router.h"

enum { UNASKED_ROUNDS = 10 };

/*
 * One statement for either role, which is not known before. Its columns: is it a standby; how far
 * its log is written, or replayed; its clock, or the last commit it has replayed; its timeline, or
 * that of the log which it receives, of which only some roles are told.
 */
static const char question[] =
    "SELECT standby,\n"
    " CASE WHEN standby THEN pg_catalog.pg_last_wal_replay_lsn()\n"
    "  ELSE pg_catalog.pg_current_wal_lsn() END,\n"
    " CASE WHEN standby THEN pg_catalog.pg_last_xact_replay_timestamp()\n"
    "  ELSE pg_catalog.clock_timestamp() END,\n"
    " CASE WHEN standby THEN (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver)\n"
    "  ELSE ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()),"
    " 8))::pg_catalog.bit(32)::pg_catalog.int4 END\n"
    "FROM (SELECT pg_catalog.pg_is_in_recovery()) AS role (standby)";

struct answer {
    bool standby;
    uint64_t lsn;
    int64_t clock_us;
    int32_t timeline;
};

static bool read_answer(struct answer *out, const evpq_result *result)
{
    *out = (struct answer){.clock_us = EVPQ__NEVER_US};
    if (evpq_result_bool(result, 0, 0, &out->standby) != EVPQ_OK ||
        evpq_result_lsn(result, 0, 1, &out->lsn) != EVPQ_OK)
        return false;
    int clock = evpq_result_timestamptz(result, 0, 2, &out->clock_us);
    int timeline = evpq_result_int4(result, 0, 3, &out->timeline);
    return out->standby ? clock >= EVPQ_OK && timeline >= EVPQ_OK
                        : clock == EVPQ_OK && timeline == EVPQ_OK;
}

static void judge_all(struct evpq_router *router)
{
    for (size_t i = 0; i < router->options.standbys_count; i++)
        evpq__replay_judge(&router->standbys[i].replay, &router->wal);
}

static void primary_answered(struct evpq__server *server, const struct answer *answer)
{
    struct evpq_router *router = server->router;
    const struct evpq__wal_sample sample = {.asked_us = server->asked_us,
                                            .lsn = answer->lsn,
                                            .clock_us = answer->clock_us,
                                            .timeline = (uint32_t)answer->timeline};
    uint32_t max_lag_ms = router->options.max_lag_ms;
    int64_t window_us = max_lag_ms == EVPQ_NEVER ? 0 : (int64_t)max_lag_ms * 1000;
    evpq__wal_add(&router->wal, &sample, window_us * 2 / EVPQ__WAL_SAMPLES);
    judge_all(router);
}

static void standby_answered(struct evpq__server *server, const struct answer *answer)
{
    struct evpq_router *router = server->router;
    evpq__replay_report(&server->replay,
                        &(struct evpq__replay_report){.answered_us = evpq__loop_now(router->loop),
                                                      .lsn = answer->lsn,
                                                      .commit_us = answer->clock_us,
                                                      .timeline = (uint32_t)answer->timeline});
    server->broken = server->pool->stats.closed_broken;
    evpq__replay_judge(&server->replay, &router->wal);
}

/* It was promoted, or demoted. Where the conninfo of standbys asks for one, the next connections
 * find it. */
static void role_is_wrong(struct evpq__server *server)
{
    struct evpq_pool *pool = server->pool;
    server->replay.known = false;
    if (!server->wrong_role && !evpq__server_is_primary(server) && pool->state == EVPQ__POOL_OPEN) {
        evpq__pool_expire(pool, true, "no standby");
        evpq__loop_post(pool->loop, EVPQ__SOON, &pool->settle);
    }
    server->wrong_role = true;
}

/* All connections are taken: what was known before is not wrong for that, and grows old by itself.
 */
static bool never_asked(const struct evpq__server *server, const struct evpq_error *err)
{
    return err && err->code == EVPQ_ETIMEOUT && err->fate == EVPQ_NOT_SENT &&
           evpq__server_connected(server);
}

static void probe_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct evpq__server *server = user;
    struct evpq_router *router = server->router;
    struct answer answer;
    server->probe = NULL;
    server->answered = true;
    if (err || !read_answer(&answer, result)) {
        server->replay.known = server->replay.known && never_asked(server, err);
        server->probe_failures++;
        router->stats.probe_failures++;
        if (!evpq__server_is_primary(server) && !evpq__server_connected(server))
            evpq__reads_leave(server);
    } else {
        router->stats.probes++;
        if (answer.standby == evpq__server_is_primary(server)) {
            role_is_wrong(server);
        } else {
            server->wrong_role = false;
            if (answer.standby)
                standby_answered(server, &answer);
            else
                primary_answered(server, &answer);
        }
    }
    if (!router->closed)
        evpq__reads_wake(router);
    evpq__router_unref(router);
}

static void probe(struct evpq__server *server)
{
    struct evpq_router *router = server->router;
    if (server->probe)
        return;
    evpq_query query = {.size = sizeof(query),
                        .sql = question,
                        .timeout_ms = router->options.probe_timeout_ms,
                        .server_timeout = EVPQ_OFF};
    server->asked_us = evpq__loop_now(router->loop);
    if (evpq__pool_ask(&server->probe, server->pool, &query, probe_on_result, server) == EVPQ_OK) {
        evpq__router_ref(router);
        return;
    }
    server->probe = NULL;
    server->answered = true;
    server->replay.known = false;
    server->probe_failures++;
    router->stats.probe_failures++;
}

static void begin_round(struct evpq_router *router)
{
    int64_t interval_us = (int64_t)router->options.probe_interval_ms * 1000;
    evpq__timer_start(router->loop, &router->round, evpq__loop_now(router->loop) + interval_us);
    probe(&router->primary);
    for (size_t i = 0; i < router->options.standbys_count; i++)
        probe(&router->standbys[i]);
}

void evpq__probes_on_round(struct evpq__timer *timer)
{
    struct evpq_router *router = evpq__container_of(timer, struct evpq_router, round);
    if (router->unasked++ < UNASKED_ROUNDS && router->primary.pool->state == EVPQ__POOL_OPEN)
        begin_round(router);
}

void evpq__probes_wanted(struct evpq_router *router)
{
    router->unasked = 0;
    if (evpq__timer_runs(&router->round) || router->closed)
        return;
    router->primary.answered = false;
    for (size_t i = 0; i < router->options.standbys_count; i++)
        router->standbys[i].answered = false;
    begin_round(router);
}

bool evpq__probes_begin(const struct evpq_router *router)
{
    bool any = !router->primary.answered;
    for (size_t i = 0; i < router->options.standbys_count; i++)
        any = any || !router->standbys[i].answered;
    return any && evpq__timer_runs(&router->round);
}

void evpq__probes_stop(struct evpq_router *router)
{
    evpq__timer_stop(&router->round);
    evpq_op_cancel(router->primary.probe);
    for (size_t i = 0; i < router->options.standbys_count; i++)
        evpq_op_cancel(router->standbys[i].probe);
}
