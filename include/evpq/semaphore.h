/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_SEMAPHORE_H
#define EVPQ_SEMAPHORE_H

/**
 * @file
 * Semaphores
 * ==========
 *
 * At most `limit` permits held at once. Who finds none waits, strictly in the
 * order of the calls: nobody overtakes, a try neither. Permits are given back
 * with evpq_semaphore_release(), by whoever holds them. It knows nothing of
 * databases and guards anything on the loop.
 *
 *     evpq_semaphore_acquire(NULL, semaphore, 1, 500, on_permit, me);
 *     ...
 *     evpq_semaphore_report(semaphore, err);   // only where it is adaptive
 *     evpq_semaphore_release(semaphore, 1);
 *
 * Adaptive
 * --------
 *
 * With `adaptive` the limit in force moves between min_limit and limit by what
 * evpq_semaphore_report() is told: additive increase, multiplicative decrease
 * (AIMD; Chiu and Jain 1989), on signals of overload only: EVPQ_ETIMEOUT,
 * EVPQ_EOVERLOADED, EVPQ_ECONNECT that may pass, and SQLSTATE 53xxx and 57P03.
 * A slow answer is no signal, for queries differ; nor is an error of SQL, or a
 * cancel. Each signal takes a tenth away, then none counts for as many reports as
 * permits were held: what fails together is one event. As many good reports as
 * the limit has permits, while half of them are in use, give one back.
 *
 * A semaphore belongs to one loop and to its thread. It does not keep ev_run()
 * running, but for the deadlines of those who wait.
 */

#include <evpq/op.h>

EVPQ_BEGIN_DECLS

struct ev_loop;

/** A semaphore. Yours from evpq_semaphore_open() until evpq_semaphore_close(). */
typedef struct evpq_semaphore evpq_semaphore;

/** How a semaphore is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_semaphore_options {
    /** sizeof(evpq_semaphore_options); EVPQ_SEMAPHORE_OPTIONS() sets it. */
    size_t size;
    /** Permits held at once. Must be set; at most 1,000,000,000. */
    uint32_t limit;
    /** Operations that may wait; more are EVPQ_EOVERLOADED. Default 10,000. */
    uint32_t max_waiters;
    /** The limit in force follows what evpq_semaphore_report() is told. */
    bool adaptive;
    /** With adaptive: it does not go below. Default 1. */
    uint32_t min_limit;
} evpq_semaphore_options;

/** Options in place: EVPQ_SEMAPHORE_OPTIONS(.limit = 8). C only. */
#define EVPQ_SEMAPHORE_OPTIONS(...)                                                                \
    (&(const evpq_semaphore_options){.size = sizeof(evpq_semaphore_options), __VA_ARGS__})

/** What a semaphore has and has done, at one moment. */
typedef struct evpq_semaphore_stats {
    size_t size;       /**< sizeof(evpq_semaphore_stats), set by the caller */
    uint32_t limit;    /**< in force: where it is adaptive, perhaps below what was set */
    uint32_t in_use;   /**< permits that are held */
    uint32_t waiting;  /**< operations that wait */
    uint64_t acquired; /**< tries and acquires that got their permits, ever */
    uint64_t refused;  /**< refused with EVPQ_EOVERLOADED */
    uint64_t timeouts; /**< acquires that ended with EVPQ_ETIMEOUT */
    uint64_t canceled; /**< acquires that ended with EVPQ_ECANCELED */
    uint64_t lowered;  /**< times that a report lowered the limit */
} evpq_semaphore_stats;

/**
 * Say what is wrong with options: the reason why evpq_semaphore_open() answers EVPQ_EINVALID.
 *
 * @return NULL when nothing is wrong; else a static text
 */
EVPQ_API const char *evpq_semaphore_options_problem(const evpq_semaphore_options *options);

/**
 * Open a semaphore.
 *
 * @param[out] out      the semaphore; yours until evpq_semaphore_close()
 * @param      loop     the loop its callbacks come from; must outlive what waits
 * @param      options  limit must be set
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_semaphore_options_problem()); EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_semaphore_open(evpq_semaphore **out, struct ev_loop *loop,
                                                 const evpq_semaphore_options *options);

/**
 * Take permits now, or not at all.
 *
 * @param weight  permits; 1 to the limit that was set
 *
 * @return EVPQ_OK: they are yours; EVPQ_EOVERLOADED; EVPQ_EINVALID for a weight of 0 or over the
 * limit
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_semaphore_try(evpq_semaphore *semaphore, uint32_t weight);

/**
 * Wait for permits.
 *
 * Cancelled, it leaves its place to those behind. Once they are granted the callback comes with
 * success, whatever is called in between: then they must be given back.
 *
 * @param[out] out          a handle to cancel with; may be NULL
 * @param      semaphore    the semaphore
 * @param      weight       permits; 1 to the limit that was set. While the limit in force is lower,
 * it is served when nobody else holds any
 * @param      timeout_ms   from the call to the callback; 0: 30 s; EVPQ_NEVER: no deadline
 * @param      on_acquired  runs once, from the loop, unless this call fails; err == NULL: they are
 * yours
 * @param      user         passed to on_acquired as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID for a weight of 0 or over the limit; EVPQ_EOVERLOADED when
 * max_waiters are waiting; EVPQ_ENOMEM. Everything else reaches on_acquired: EVPQ_ETIMEOUT,
 * EVPQ_ECANCELED, EVPQ_ECLOSED; EVPQ_EINVALID when evpq_semaphore_set_limit() made the limit less
 * than the weight
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_semaphore_acquire(evpq_op **out, evpq_semaphore *semaphore,
                                                    uint32_t weight, uint32_t timeout_ms,
                                                    evpq_done_fn *on_acquired, void *user);

/**
 * Give permits back; not necessarily as many as were taken together.
 *
 * @return EVPQ_OK; EVPQ_EINVALID for 0, or for more than are held: then nothing is given back
 */
EVPQ_API int evpq_semaphore_release(evpq_semaphore *semaphore, uint32_t weight);

/** Tell how it went: what the callback of the guarded operation got, NULL for success. Does nothing
 * where the semaphore is not adaptive. Before the release. */
EVPQ_API void evpq_semaphore_report(evpq_semaphore *semaphore, const evpq_error *outcome);

/**
 * Set another limit. Nothing that is held is taken away: a lower limit holds when enough has been
 * given back. Where the semaphore is adaptive, it starts from there.
 *
 * @return EVPQ_OK; EVPQ_EINVALID, as in evpq_semaphore_open()
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_semaphore_set_limit(evpq_semaphore *semaphore, uint32_t limit);

/** Fill in *stats, whose size the caller has set: a smaller one, of an older program, gets what it
 * has room for. EVPQ_EINVALID for NULL or a larger size. */
EVPQ_API EVPQ_MUST_CHECK int evpq_semaphore_stats_get(const evpq_semaphore *semaphore,
                                                      evpq_semaphore_stats *stats);

/**
 * Close a semaphore. Who waits calls back with EVPQ_ECLOSED. From any callback. From now on only
 * evpq_semaphore_release() may be called, for what is still held: the memory goes with the last of
 * it. NULL is allowed.
 */
EVPQ_API void evpq_semaphore_close(evpq_semaphore *semaphore);

EVPQ_END_DECLS

#endif /* EVPQ_SEMAPHORE_H */
