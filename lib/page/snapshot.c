/* SPDX-License-Identifier: MIT */
/*
 *     OPENING ---> OPEN ---> OVER
 *        \____________________^   ended; a step failed; the deadline; the pool was closed
 *
 * The steps of its opening are operations: a lease, BEGIN, and what makes or
 * takes the snapshot. They are sent together, the first error counts.
 *
 * While it is open nothing of it is under way, and the pool does not wait for
 * it. So a pool that closes takes the lease away and says so, and a timer gives
 * it back at the deadline.
 *
 * References: the owner's, until evpq__snapshot_end(); and one for each step
 * that has not called back yet.
 */
#include "page/snapshot.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum snapshot_state { SNAPSHOT_OPENING, SNAPSHOT_OPEN, SNAPSHOT_OVER };

struct evpq__snapshot {
    unsigned refs;
    enum snapshot_state state;
    struct evpq_pool *pool;  /* a reference */
    struct evpq_op *acquire; /* NULL when it has called back */
    struct evpq_lease *lease;
    struct evpq__timer limit;
    int64_t open_by_us, deadline_us;
    unsigned steps; /* that have not called back */
    bool export;
    char id[EVPQ__SNAPSHOT_ID]; /* to import; then, the exported one */
    struct evpq_error error;    /* the first */
    evpq__snapshot_opened_fn *on_opened;
    evpq__snapshot_over_fn *on_over; /* NULL: the owner has ended it */
    void *user;
};

bool evpq__snapshot_id_valid(const char *id)
{
    size_t length = strspn(id, "0123456789ABCDEF-");
    return length > 0 && length < EVPQ__SNAPSHOT_ID && id[length] == '\0';
}

static void snapshot_unref(struct evpq__snapshot *snapshot)
{
    if (--snapshot->refs > 0)
        return;
    evpq__error_clear(&snapshot->error);
    evpq__pool_unref(snapshot->pool);
    evpq__free(snapshot);
}

/* The one door between states. */
static void snapshot_enter(struct evpq__snapshot *snapshot, enum snapshot_state next)
{
    snapshot->state = next;
    if (next != SNAPSHOT_OVER)
        return;
    evpq__timer_stop(&snapshot->limit);
    struct evpq_lease *lease = snapshot->lease;
    snapshot->lease = NULL;
    if (lease)
        lease->on_taken = NULL;
    evpq_lease_release(lease);
}

static void snapshot_over(struct evpq__snapshot *snapshot, evpq_code why)
{
    bool was_open = snapshot->state == SNAPSHOT_OPEN;
    if (snapshot->state == SNAPSHOT_OPENING && snapshot->error.code == EVPQ_OK)
        evpq__error_set(&snapshot->error, why, EVPQ_ROLLED_BACK, "%s", evpq_code_text(why));
    snapshot_enter(snapshot, SNAPSHOT_OVER);
    if (was_open && snapshot->on_over)
        snapshot->on_over(why, snapshot->user);
}

static void snapshot_on_limit(struct evpq__timer *timer)
{
    struct evpq__snapshot *snapshot = evpq__container_of(timer, struct evpq__snapshot, limit);
    evpq__lease_stop_queries(snapshot->lease, EVPQ_ETIMEOUT);
    snapshot_over(snapshot, EVPQ_ETIMEOUT);
}

static void snapshot_on_taken(struct evpq_lease *lease, void *user)
{
    (void)lease;
    snapshot_over(user, EVPQ_ECLOSED);
}

/* ---- opening ---- */

/* A step has called back; after the last one the owner hears. */
static void step_done(struct evpq__snapshot *snapshot, const struct evpq_error *err)
{
    if (err && snapshot->error.code == EVPQ_OK)
        evpq__error_copy(&snapshot->error, err);
    if (--snapshot->steps == 0 && snapshot->on_over) {
        bool good = snapshot->error.code == EVPQ_OK && snapshot->state == SNAPSHOT_OPENING;
        snapshot_enter(snapshot, good ? SNAPSHOT_OPEN : SNAPSHOT_OVER);
        snapshot->on_opened(good ? NULL : &snapshot->error, snapshot->user);
    }
    snapshot_unref(snapshot);
}

static void on_step(evpq_result *result, const evpq_error *err, void *user)
{
    (void)result;
    step_done(user, err);
}

static void on_exported(evpq_result *result, const evpq_error *err, void *user)
{
    struct evpq__snapshot *snapshot = user;
    evpq_text_view id = {.data = NULL};
    struct evpq_error unusable = {0};
    if (!err && evpq_result_text(result, 0, 0, &id) == EVPQ_OK && evpq__snapshot_id_valid(id.data))
        memcpy(snapshot->id, id.data, id.length + 1);
    else if (!err)
        evpq__error_set(&unusable, EVPQ_ETYPE, EVPQ_ROLLED_BACK,
                        "the server exported a snapshot under a name that is none");
    step_done(snapshot, err ? err : unusable.code ? &unusable : NULL);
    evpq__error_clear(&unusable);
}

static void step_start(struct evpq__snapshot *snapshot, const char *sql, evpq_result_fn *on_result)
{
    evpq_query query = {
        .size = sizeof(query),
        .sql = sql,
        .timeout_ms = evpq__loop_left(snapshot->pool->loop, snapshot->open_by_us),
        .format = EVPQ_TEXT,
        .server_timeout = EVPQ_OFF, /* it would be a transaction of its own, around BEGIN */
    };
    snapshot->refs++;
    snapshot->steps++;
    int code = evpq_lease_query(NULL, snapshot->lease, &query, on_result, snapshot);
    if (code == EVPQ_OK)
        return;
    snapshot->refs--;
    snapshot->steps--;
    if (snapshot->error.code == EVPQ_OK)
        evpq__error_set(&snapshot->error, (evpq_code)code, EVPQ_NOT_SENT, "%s",
                        evpq_code_text((evpq_code)code));
}

static void send_steps(struct evpq__snapshot *snapshot)
{
    step_start(snapshot, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", on_step);
    if (snapshot->id[0]) {
        char sql[EVPQ__SNAPSHOT_ID + 64];
        snprintf(sql, sizeof(sql), "SET TRANSACTION SNAPSHOT '%s'", snapshot->id);
        step_start(snapshot, sql, on_step);
    }
    if (snapshot->export)
        step_start(snapshot, "SELECT pg_catalog.pg_export_snapshot()", on_exported);
}

static void on_acquired(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct evpq__snapshot *snapshot = user;
    snapshot->acquire = NULL;
    if (lease && snapshot->state == SNAPSHOT_OVER) {
        evpq_lease_release(lease);
    } else if (lease) {
        snapshot->lease = lease;
        lease->on_taken = snapshot_on_taken;
        lease->on_taken_user = snapshot;
        evpq__timer_start(snapshot->pool->loop, &snapshot->limit, snapshot->deadline_us);
        send_steps(snapshot);
    }
    step_done(snapshot, err);
}

int evpq__snapshot_open(struct evpq__snapshot **out, struct evpq_pool *pool,
                        const struct evpq__snapshot_options *options,
                        evpq__snapshot_opened_fn *on_opened, evpq__snapshot_over_fn *on_over,
                        void *user)
{
    if (options->import && !evpq__snapshot_id_valid(options->import))
        return EVPQ_EINVALID;
    struct evpq__snapshot *snapshot = evpq__alloc(sizeof(*snapshot));
    if (!snapshot)
        return EVPQ_ENOMEM;
    evpq__pool_ref(pool);
    snapshot->pool = pool;
    snapshot->refs = 2;
    snapshot->steps = 1; /* the lease */
    snapshot->export = options->export;
    snapshot->open_by_us =
        options->open_by_us < options->deadline_us ? options->open_by_us : options->deadline_us;
    snapshot->deadline_us = options->deadline_us;
    if (options->import)
        strcpy(snapshot->id, options->import);
    snapshot->on_opened = on_opened;
    snapshot->on_over = on_over;
    snapshot->user = user;
    evpq__timer_init(&snapshot->limit, snapshot_on_limit);
    evpq_acquire_options acquire = {
        .size = sizeof(acquire),
        .timeout_ms = evpq__loop_left(pool->loop, snapshot->open_by_us),
        .tag = options->tag,
    };
    int code = evpq_pool_acquire(&snapshot->acquire, pool, &acquire, on_acquired, snapshot);
    if (code != EVPQ_OK) {
        snapshot->refs = 1;
        snapshot_unref(snapshot);
        return code;
    }
    *out = snapshot;
    return EVPQ_OK;
}

struct evpq_lease *evpq__snapshot_lease(const struct evpq__snapshot *snapshot)
{
    return snapshot->state == SNAPSHOT_OPEN ? snapshot->lease : NULL;
}

const char *evpq__snapshot_id(const struct evpq__snapshot *snapshot)
{
    return snapshot->export && snapshot->state == SNAPSHOT_OPEN ? snapshot->id : "";
}

void evpq__snapshot_end(struct evpq__snapshot *snapshot)
{
    if (!snapshot)
        return;
    snapshot->on_over = NULL;
    if (snapshot->acquire)
        evpq_op_cancel(snapshot->acquire);
    if (snapshot->state != SNAPSHOT_OVER)
        snapshot_enter(snapshot, SNAPSHOT_OVER);
    snapshot_unref(snapshot);
}
