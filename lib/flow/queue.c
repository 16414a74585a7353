/* SPDX-License-Identifier: MIT */
/*
 *   job:   OUTSIDE ---> QUEUED ---> RUNNING ---> OVER
 *              \           \____________________^  cancel, deadline
 *               \_______________________________^
 *
 *   queue: OPEN ---> DRAINING ---> CLOSED
 *
 * Every event posts the pump, the one place that moves jobs forward and that
 * calls users: places first, then workers. Jobs that submit jobs go round with
 * the loop. A job that runs keeps its worker until it is over, though its
 * operation may have ended before.
 */
#include <evpq/queue.h>

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/options.h"
#include "flow/member.h"

enum { MAX_WORKERS = 1000000 };

/* State is membership: a job is on the list of its place, and job_move() is the only mover. */
enum place {
    PLACE_OUTSIDE, /* waits for room */
    PLACE_QUEUED,  /* waits for a worker */
    PLACE_RUNNING, /* has a worker */
    PLACES,
    PLACE_OVER = PLACES,
};

enum queue_state { QUEUE_OPEN, QUEUE_DRAINING, QUEUE_CLOSED };

struct evpq_job {
    struct evpq_op op;
    struct evpq_queue *queue;
    enum place place;
    evpq_job_fn *run;
    evpq_done_fn *on_queued, *on_done;
    void *user;
    struct evpq__member followed;
};

struct join {
    struct evpq_op op;
    struct evpq_queue *queue;
    evpq_done_fn *on_idle;
    void *user;
};

struct evpq_queue {
    enum queue_state state;
    struct evpq__loop *loop;
    uint32_t workers, capacity, max_waiters;
    struct evpq__list jobs[PLACES];
    uint32_t count[PLACES];
    struct evpq__list joins;
    uint32_t ops; /* operations that are not gone yet */
    struct evpq__task pump;
    struct evpq__timer close_limit;
    evpq_closed_fn *on_closed;
    void *on_closed_user;
    uint64_t done, failed, refused;
};

static struct evpq_job *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct evpq_job, op);
}

static void job_move(struct evpq_job *job, enum place place)
{
    struct evpq_queue *q = job->queue;
    if (job->place < PLACES && evpq__node_linked(&job->op.node)) {
        evpq__node_unlink(&job->op.node);
        q->count[job->place]--;
    }
    job->place = place;
    if (place < PLACES) {
        evpq__list_push_back(&q->jobs[place], &job->op.node);
        q->count[place]++;
    }
    evpq__loop_post(q->loop, EVPQ__SOON, &q->pump);
}

static bool queue_idle(const struct evpq_queue *q)
{
    return q->count[PLACE_OUTSIDE] + q->count[PLACE_QUEUED] + q->count[PLACE_RUNNING] == 0;
}

static struct evpq_job *first_of(struct evpq_queue *q, enum place place)
{
    struct evpq__node *node = evpq__list_first(&q->jobs[place]);
    return node ? evpq__container_of(node, struct evpq_job, op.node) : NULL;
}

/* Pumping. What it calls may close the queue, whose memory stays until the pump finds it idle. */

static void give_places(struct evpq_queue *q)
{
    struct evpq_job *job;
    while (q->count[PLACE_QUEUED] < q->capacity && (job = first_of(q, PLACE_OUTSIDE))) {
        job_move(job, PLACE_QUEUED);
        evpq__op_limit(&job->op, EVPQ__NO_DEADLINE);
        if (job->on_queued)
            job->on_queued(NULL, job->user);
    }
}

static void give_workers(struct evpq_queue *q)
{
    uint32_t most = q->count[PLACE_QUEUED];
    struct evpq_job *job;
    while (most-- > 0 && q->count[PLACE_RUNNING] < q->workers &&
           (job = first_of(q, PLACE_QUEUED))) {
        job_move(job, PLACE_RUNNING);
        evpq__op_ref(&job->op);
        evpq__op_sent(&job->op);
        job->run(job, job->user);
    }
}

static void tell_joins(struct evpq_queue *q)
{
    struct evpq__node *node;
    while (queue_idle(q) && (node = evpq__list_pop_front(&q->joins)))
        evpq__op_finish(evpq__container_of(node, struct evpq_op, node));
}

static void queue_closed(struct evpq_queue *q)
{
    evpq_closed_fn *on_closed = q->on_closed;
    void *user = q->on_closed_user;
    q->state = QUEUE_CLOSED;
    evpq__timer_stop(&q->close_limit);
    evpq__loop_unpost(q->loop, &q->pump);
    evpq__loop_free(q->loop);
    evpq__free(q);
    if (on_closed)
        on_closed(user);
}

static void on_pump(struct evpq__task *task)
{
    struct evpq_queue *q = evpq__container_of(task, struct evpq_queue, pump);
    q->ops++; /* it stays while we call */
    give_places(q);
    give_workers(q);
    tell_joins(q);
    q->ops--;
    if (q->state == QUEUE_DRAINING && q->ops == 0)
        queue_closed(q);
}

/* The operations */

static void op_gone(struct evpq_queue *q)
{
    q->ops--;
    if (q->state == QUEUE_DRAINING && q->ops == 0)
        evpq__loop_post(q->loop, EVPQ__SOON, &q->pump);
}

static void set_error(struct evpq_op *op, evpq_code why, enum place place)
{
    static const char *const where[] = {"while the job waited for a place in the queue",
                                        "while the job was queued", "while the job ran"};
    evpq__error_set(&op->error, why, place == PLACE_RUNNING ? EVPQ_UNKNOWN : EVPQ_NOT_SENT, "%s %s",
                    why == EVPQ_ETIMEOUT  ? "the deadline passed"
                    : why == EVPQ_ECLOSED ? "the queue was closed"
                                          : "cancelled",
                    where[place]);
}

static void job_stop(struct evpq_op *op, evpq_code why)
{
    struct evpq_job *job = of_op(op);
    set_error(op, why, job->place);
    if (job->place != PLACE_RUNNING)
        job_move(job, PLACE_OVER);
    else if (job->followed.op)
        evpq__op_stop(job->followed.op, EVPQ_ECANCELED);
}

static void job_deliver(struct evpq_op *op)
{
    struct evpq_job *job = of_op(op);
    bool good = op->error.code == EVPQ_OK;
    job->queue->done += good;
    job->queue->failed += !good;
    job->on_done(good ? NULL : &op->error, job->user);
}

static void job_destroy(struct evpq_op *op)
{
    struct evpq_queue *q = of_op(op)->queue;
    evpq__free(of_op(op));
    op_gone(q);
}

static const struct evpq__op_class job_class = {
    .stop = job_stop, .deliver = job_deliver, .destroy = job_destroy};

static void join_stop(struct evpq_op *op, evpq_code why)
{
    evpq__node_unlink(&op->node);
    evpq__error_set(&op->error, why, EVPQ_NOT_SENT, "%s while the queue had work",
                    why == EVPQ_ETIMEOUT ? "the deadline passed" : "cancelled");
}

static void join_deliver(struct evpq_op *op)
{
    struct join *join = evpq__container_of(op, struct join, op);
    join->on_idle(op->error.code == EVPQ_OK ? NULL : &op->error, join->user);
}

static void join_destroy(struct evpq_op *op)
{
    struct join *join = evpq__container_of(op, struct join, op);
    struct evpq_queue *q = join->queue;
    evpq__free(join);
    op_gone(q);
}

static const struct evpq__op_class join_class = {
    .stop = join_stop, .deliver = join_deliver, .destroy = join_destroy};

/* Jobs */

static bool is_full(const struct evpq_queue *q)
{
    return q->count[PLACE_OUTSIDE] > 0 || q->count[PLACE_QUEUED] >= q->capacity;
}

int evpq_queue_submit(evpq_op **out, evpq_queue *q, const evpq_job_options *options,
                      evpq_done_fn *on_done, void *user)
{
    evpq_job_options complete;
    if (!q || !on_done || !options || evpq__options_read(&complete, sizeof(complete), options) ||
        !complete.run)
        return EVPQ_EINVALID;
    if (q->state != QUEUE_OPEN)
        return EVPQ_ECLOSED;
    bool full = is_full(q);
    if (full && (!complete.room_timeout_ms || q->count[PLACE_OUTSIDE] >= q->max_waiters)) {
        q->refused++;
        return EVPQ_EOVERLOADED;
    }
    struct evpq_job *job = evpq__alloc(sizeof(*job));
    if (!job)
        return EVPQ_ENOMEM;
    job->queue = q;
    job->run = complete.run;
    job->on_queued = complete.on_queued;
    job->on_done = on_done;
    job->user = user;
    q->ops++;
    evpq__op_init(
        &job->op, &job_class, q->loop,
        evpq__loop_deadline(q->loop, complete.timeout_ms ? complete.timeout_ms : EVPQ_NEVER));
    /* Who is told of the place gets it from the pump, as all who wait do. */
    job_move(job, full || job->on_queued ? PLACE_OUTSIDE : PLACE_QUEUED);
    if (full)
        evpq__op_limit(&job->op, evpq__loop_deadline(q->loop, complete.room_timeout_ms));
    if (out)
        *out = &job->op;
    return EVPQ_OK;
}

/* The worker is free. */
static void job_over(struct evpq_job *job, const evpq_error *err)
{
    if (err && !evpq__op_finished(&job->op))
        evpq__error_copy(&job->op.error, err);
    job_move(job, PLACE_OVER);
    evpq__op_finish(&job->op);
    evpq__op_unref(&job->op);
}

static void on_followed_over(struct evpq__member *member, const struct evpq_error *error)
{
    job_over(evpq__container_of(member, struct evpq_job, followed),
             error->code == EVPQ_OK ? NULL : error);
}

int evpq_job_done(evpq_job *job, const evpq_error *err)
{
    if (!job || job->place != PLACE_RUNNING || job->followed.op)
        return EVPQ_EINVALID;
    job_over(job, err);
    return EVPQ_OK;
}

int evpq_job_follow(evpq_job *job, int started, evpq_op *const *op)
{
    if (!job || job->place != PLACE_RUNNING || job->followed.op || started > EVPQ_OK ||
        (started == EVPQ_OK && (!op || !*op)))
        return EVPQ_EINVALID;
    if (started != EVPQ_OK) {
        struct evpq_error err = {0};
        evpq__error_set(&err, (evpq_code)started, EVPQ_NOT_SENT, "could not start: %s",
                        evpq_code_text(started));
        job_over(job, &err);
        evpq__error_clear(&err);
        return EVPQ_OK;
    }
    if (!evpq__member_watch(&job->followed, *op, on_followed_over))
        return EVPQ_EINVALID;
    if (evpq__op_finished(&job->op))
        evpq__op_stop(*op, EVPQ_ECANCELED);
    return EVPQ_OK;
}

bool evpq_job_canceled(const evpq_job *job)
{
    return job && evpq__op_finished(&job->op);
}

int evpq_queue_join(evpq_op **out, evpq_queue *q, uint32_t timeout_ms, evpq_done_fn *on_idle,
                    void *user)
{
    if (!q || !on_idle)
        return EVPQ_EINVALID;
    if (q->state != QUEUE_OPEN)
        return EVPQ_ECLOSED;
    struct join *join = evpq__alloc(sizeof(*join));
    if (!join)
        return EVPQ_ENOMEM;
    join->queue = q;
    join->on_idle = on_idle;
    join->user = user;
    q->ops++;
    evpq__op_init(&join->op, &join_class, q->loop,
                  evpq__loop_deadline(q->loop, timeout_ms ? timeout_ms : EVPQ_NEVER));
    evpq__list_push_back(&q->joins, &join->op.node);
    evpq__loop_post(q->loop, EVPQ__SOON, &q->pump);
    if (out)
        *out = &join->op;
    return EVPQ_OK;
}

/* The queue */

static void stop_all(struct evpq_queue *q, evpq_code why)
{
    struct evpq_job *job;
    for (int place = PLACE_OUTSIDE; place < PLACE_RUNNING; place++)
        while ((job = first_of(q, (enum place)place)))
            evpq__op_stop(&job->op, why);
    struct evpq__node *node = evpq__list_first(&q->jobs[PLACE_RUNNING]);
    for (; node; node = evpq__list_next(&q->jobs[PLACE_RUNNING], node))
        evpq__op_stop(evpq__container_of(node, struct evpq_op, node), why);
}

void evpq_queue_cancel(evpq_queue *q)
{
    if (q)
        stop_all(q, EVPQ_ECANCELED);
}

int evpq_queue_stats_get(const evpq_queue *q, evpq_queue_stats *stats)
{
    if (!q || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    evpq_queue_stats now = {
        .size = stats->size,
        .running = q->count[PLACE_RUNNING],
        .queued = q->count[PLACE_QUEUED],
        .waiting = q->count[PLACE_OUTSIDE],
        .done = q->done,
        .failed = q->failed,
        .refused = q->refused,
    };
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

static void on_close_limit(struct evpq__timer *timer)
{
    stop_all(evpq__container_of(timer, struct evpq_queue, close_limit), EVPQ_ECLOSED);
}

int evpq_queue_close(evpq_queue *q, evpq_close_mode mode, uint32_t timeout_ms,
                     evpq_closed_fn *on_closed, void *user)
{
    if (!q || (mode != EVPQ_CLOSE_FINISH && mode != EVPQ_CLOSE_CANCEL))
        return EVPQ_EINVALID;
    if (q->state != QUEUE_OPEN)
        return EVPQ_ECLOSED;
    q->state = QUEUE_DRAINING;
    q->on_closed = on_closed;
    q->on_closed_user = user;
    if (mode == EVPQ_CLOSE_CANCEL)
        stop_all(q, EVPQ_ECLOSED);
    else
        evpq__timer_start(q->loop, &q->close_limit,
                          evpq__loop_deadline(q->loop, timeout_ms ? timeout_ms : EVPQ_NEVER));
    evpq__loop_post(q->loop, EVPQ__SOON, &q->pump);
    return EVPQ_OK;
}

static const char *options_read(evpq_queue_options *out, const evpq_queue_options *options)
{
    const char *problem = evpq__options_read(out, sizeof(*out), options);
    if (problem)
        return problem;
    if (out->capacity == 0)
        out->capacity = 1000;
    if (out->max_waiters == 0)
        out->max_waiters = 1000;
    if (out->workers == 0)
        return "workers is not set";
    if (out->workers > MAX_WORKERS)
        return "workers is over 1,000,000";
    return NULL;
}

const char *evpq_queue_options_problem(const evpq_queue_options *options)
{
    evpq_queue_options complete;
    return options_read(&complete, options);
}

int evpq_queue_open(evpq_queue **out, struct ev_loop *loop, const evpq_queue_options *options)
{
    evpq_queue_options complete;
    if (!out || !loop || options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_queue *q = evpq__alloc(sizeof(*q));
    if (!q)
        return EVPQ_ENOMEM;
    q->loop = evpq__loop_new_quiet(loop);
    if (!q->loop) {
        evpq__free(q);
        return EVPQ_ENOMEM;
    }
    q->workers = complete.workers;
    q->capacity = complete.capacity;
    q->max_waiters = complete.max_waiters;
    for (int place = 0; place < PLACES; place++)
        evpq__list_init(&q->jobs[place]);
    evpq__list_init(&q->joins);
    evpq__task_init(&q->pump, on_pump);
    evpq__timer_init(&q->close_limit, on_close_limit);
    *out = q;
    return EVPQ_OK;
}
