/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_QUEUE_H
#define EVPQ_QUEUE_H

/**
 * @file
 * Work queues
 * ===========
 *
 * A bounded queue of jobs, of which so many run at once. A job is a function that
 * starts something and returns; it is over when evpq_job_done() says so, or the
 * operation that it has started:
 *
 *     static void import_file(evpq_job *job, void *user)
 *     {
 *         evpq_op *op;
 *         evpq_job_follow(job, evpq_pool_query(&op, pool, insert, on_inserted, user), &op);
 *     }
 *
 *     evpq_queue_submit(NULL, queue, EVPQ_JOB(import_file), on_imported, file);
 *
 * A full queue refuses, with EVPQ_EOVERLOADED; or, with room_timeout_ms, lets the
 * job wait for a place, and tells on_queued when it has one: that is the moment
 * to submit the next (backpressure).
 *
 * A queue belongs to one loop and to its thread. It does not keep ev_run()
 * running, but for its deadlines.
 */

#include <evpq/op.h>

EVPQ_BEGIN_DECLS

struct ev_loop;

/** A work queue. Yours from evpq_queue_open() until evpq_queue_close(). */
typedef struct evpq_queue evpq_queue;

/** A job that runs: from evpq_job_fn until evpq_job_done(), or until what it follows is over. */
typedef struct evpq_job evpq_job;

/** Do the job, or start it. Runs once, from the loop, when a worker is free. Exactly one of
 * evpq_job_done() and evpq_job_follow() must be called for it, now or later. */
typedef void evpq_job_fn(evpq_job *job, void *user);

/** How a queue is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_queue_options {
    /** sizeof(evpq_queue_options); EVPQ_QUEUE_OPTIONS() sets it. */
    size_t size;
    /** Jobs that run at once. Must be set; at most 1,000,000. */
    uint32_t workers;
    /** Jobs that are queued and do not run yet. Default 1,000. */
    uint32_t capacity;
    /** Jobs that wait for a place in the full queue; more are EVPQ_EOVERLOADED. Default 1,000. */
    uint32_t max_waiters;
} evpq_queue_options;

/** Options in place: EVPQ_QUEUE_OPTIONS(.workers = 4). C only. */
#define EVPQ_QUEUE_OPTIONS(...)                                                                    \
    (&(const evpq_queue_options){.size = sizeof(evpq_queue_options), __VA_ARGS__})

/** A job to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_job_options {
    /** sizeof(evpq_job_options); EVPQ_JOB() sets it. */
    size_t size;
    /** Must be set. */
    evpq_job_fn *run;
    /** From the call until a place is found in a full queue. 0: a full queue refuses. */
    uint32_t room_timeout_ms;
    /** From the call to on_done. 0: no deadline. */
    uint32_t timeout_ms;
    /** It has got its place; runs at most once, before `run` and on_done, with err == NULL. */
    evpq_done_fn *on_queued;
} evpq_job_options;

/** A job in place: EVPQ_JOB(run, .timeout_ms = 1000). C only. */
#define EVPQ_JOB(...)                                                                              \
    (&(const evpq_job_options){.size = sizeof(evpq_job_options), .run = __VA_ARGS__})

/** What a queue has and has done, at one moment. */
typedef struct evpq_queue_stats {
    size_t size;      /**< sizeof(evpq_queue_stats), set by the caller */
    uint32_t running; /**< workers that are busy */
    uint32_t queued;  /**< jobs that have a place */
    uint32_t waiting; /**< jobs that wait for a place */
    uint64_t done;    /**< jobs that have succeeded, ever */
    uint64_t failed;  /**< that have not */
    uint64_t refused; /**< refused with EVPQ_EOVERLOADED */
} evpq_queue_stats;

/** What is wrong with options, a static text; or NULL. */
EVPQ_API const char *evpq_queue_options_problem(const evpq_queue_options *options);

/** Open a queue, on a loop that must outlive it. EVPQ_OK; EVPQ_EINVALID (ask
 * evpq_queue_options_problem()); EVPQ_ENOMEM. */
EVPQ_API EVPQ_MUST_CHECK int evpq_queue_open(evpq_queue **out, struct ev_loop *loop,
                                             const evpq_queue_options *options);

/**
 * Submit a job.
 *
 * Jobs start in the order of the calls. Cancelled, or at its deadline, a job that does not run is
 * taken out; of one that runs the followed operation is cancelled. on_done comes at once, while the
 * worker stays busy until the job is over: evpq_job_canceled() tells it.
 *
 * @param[out] out      a handle to cancel with; may be NULL
 * @param      queue    the queue
 * @param      job      read before the call returns
 * @param      on_done  the job is over (err == NULL), or why not; runs once, from the loop, unless
 * this call fails
 * @param      user     passed to run, on_queued and on_done as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_EOVERLOADED when it is full; EVPQ_ECLOSED; EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_queue_submit(evpq_op **out, evpq_queue *queue,
                                               const evpq_job_options *job, evpq_done_fn *on_done,
                                               void *user);

/**
 * The job is over. Its handle is gone.
 *
 * @param err  NULL for success; else copied for on_done, as from the callback of an operation
 *
 * @return EVPQ_OK; EVPQ_EINVALID while it follows an operation
 */
EVPQ_API int evpq_job_done(evpq_job *job, const evpq_error *err);

/**
 * The job is over when this operation is, which was started just now, and as it ends. A call that
 * could not start is a job that has failed so. The handle of the job is gone.
 *
 * @param started  what the call that started the operation answered
 * @param op       where that call has put the handle
 *
 * @return EVPQ_OK; EVPQ_EINVALID
 */
EVPQ_API int evpq_job_follow(evpq_job *job, int started, evpq_op *const *op);

/** True when nobody waits for it any more: it may as well end. */
EVPQ_API bool evpq_job_canceled(const evpq_job *job);

/** Wait until nothing runs, is queued, or waits for a place: also what is submitted meanwhile.
 * Parameters and errors as of evpq_queue_submit(); timeout_ms 0: no deadline. */
EVPQ_API EVPQ_MUST_CHECK int evpq_queue_join(evpq_op **out, evpq_queue *queue, uint32_t timeout_ms,
                                             evpq_done_fn *on_idle, void *user);

/** Cancel all jobs, those that run too; the queue stays open. */
EVPQ_API void evpq_queue_cancel(evpq_queue *queue);

/** Fill in *stats, whose size the caller has set. EVPQ_EINVALID for NULL or a larger size. */
EVPQ_API EVPQ_MUST_CHECK int evpq_queue_stats_get(const evpq_queue *queue, evpq_queue_stats *stats);

/**
 * Close a queue; from any callback. The handle is gone. FINISH drains it: what is in it still runs,
 * and nothing new is taken; CANCEL ends everything with EVPQ_ECLOSED.
 *
 * @param timeout_ms  the bound of finishing, then the rest is cancelled; 0 or EVPQ_NEVER: none
 * @param on_closed   may be NULL; after the last job is over, those that were cancelled too
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_ECLOSED when it is closing already
 */
EVPQ_API int evpq_queue_close(evpq_queue *queue, evpq_close_mode mode, uint32_t timeout_ms,
                              evpq_closed_fn *on_closed, void *user);

EVPQ_END_DECLS

#endif /* EVPQ_QUEUE_H */
