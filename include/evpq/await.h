/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_AWAIT_H
#define EVPQ_AWAIT_H

/**
 * @file
 * Reading top to bottom: coroutines
 * =================================
 *
 * A library of its own, evpq-await, on top of evpq: a function runs as a
 * coroutine on the loop and waits for operations, one after the other, while the
 * loop goes on.
 *
 *     static void transfer(evpq_coroutine *self, void *user)
 *     {
 *         evpq_result *result;
 *         if (evpq_await_query(self, pool, EVPQ_QUERY("SELECT ..."), &result) != EVPQ_OK)
 *             return; // evpq_await_error(self), where it has begun, says why
 *         ...
 *     }
 *
 *     evpq_await_open(&await, loop, NULL);
 *     evpq_await_start(NULL, await, transfer, app, 5000, NULL);
 *
 * A coroutine runs inside the callback of what it has waited for: what it got (a
 * result, a page, an error) is valid until it waits again or returns. It is not a
 * thread: nothing else runs while it does, and it must not block.
 *
 * Cancel and deadline of a coroutine reach into it: the operation it waits for is
 * cancelled, and this and each later wait return EVPQ_ECANCELED, EVPQ_ETIMEOUT or
 * EVPQ_ECLOSED at once, so that it can clean up and return.
 *
 * Stacks have a fixed size, with 64 kB below that cannot be touched: an overrun is
 * SIGSEGV there, and nothing is overwritten; evpq_await_report_overruns() makes it
 * say so. A coroutine that waits with less than 4 kB left is aborted with a message.
 * A thread may run many loops, each with its own evpq_await.
 */

#include <evpq/batch.h>
#include <evpq/group.h>
#include <evpq/limiter.h>
#include <evpq/pager.h>
#include <evpq/pool.h>
#include <evpq/router.h>
#include <evpq/semaphore.h>
#include <evpq/stream.h>

EVPQ_BEGIN_DECLS

struct ev_loop;

/** Coroutines of one loop. Yours from evpq_await_open() until evpq_await_close(). */
typedef struct evpq_await evpq_await;

/** One coroutine; valid until its function has returned. */
typedef struct evpq_coroutine evpq_coroutine;

/** What a coroutine does. It is over when it returns. */
typedef void evpq_coroutine_fn(evpq_coroutine *self, void *user);

/** How they are to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_await_options {
    /** sizeof(evpq_await_options); EVPQ_AWAIT_OPTIONS() sets it. */
    size_t size;
    /** Coroutines at once; more are EVPQ_EOVERLOADED. Default 1,000; at most 1,000,000. Each takes
     * two mappings of memory: Linux allows 65,530 in a process (vm.max_map_count). */
    uint32_t max_coroutines;
    /** Bytes of each stack, of which only what is used takes memory: a page (4 kB) where little is.
     * Default 65,536; 16,384 to 67,108,864. */
    uint32_t stack_size;
    /** Unused stacks that are kept. Default 64. */
    uint32_t max_idle_stacks;
} evpq_await_options;

/** Options in place: EVPQ_AWAIT_OPTIONS(.stack_size = 262144). C only. */
#define EVPQ_AWAIT_OPTIONS(...)                                                                    \
    (&(const evpq_await_options){.size = sizeof(evpq_await_options), __VA_ARGS__})

/** Open it. EVPQ_OK; EVPQ_EINVALID; EVPQ_ENOMEM. While no coroutine is under way it does not keep
 * ev_run() running. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_open(evpq_await **out, struct ev_loop *loop,
                                             const evpq_await_options *options);

/**
 * Start a coroutine. Its function begins from the loop, after this has returned.
 *
 * @param[out] out         a handle to cancel it with, valid until its function has returned; may
 * be NULL
 * @param      await       where it runs
 * @param      run         runs once, unless this call fails: when it was cancelled before, too
 * @param      user        passed to run and on_over as it is
 * @param      timeout_ms  from this call: then what it waits for is cancelled; 0: no deadline
 * @param      on_over     may be NULL; run has returned, and its stack is free
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_EOVERLOADED; EVPQ_ECLOSED; EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_start(evpq_coroutine **out, evpq_await *await,
                                              evpq_coroutine_fn *run, void *user,
                                              uint32_t timeout_ms, evpq_closed_fn *on_over);

/** Cancel a coroutine; from anywhere on its thread, itself too. It hears when it waits next. NULL
 * is allowed. */
EVPQ_API void evpq_await_cancel(evpq_coroutine *coroutine);

/** How many are under way. */
EVPQ_API uint32_t evpq_await_count(const evpq_await *await);

/**
 * Close it: each coroutine hears EVPQ_ECLOSED where it waits. Returns at once; the handle is gone.
 *
 * @param on_closed  may be NULL; when the last of them has returned
 */
EVPQ_API void evpq_await_close(evpq_await *await, evpq_closed_fn *on_closed, void *user);

/**
 * Let an overrun of a stack be told: "a coroutine has overrun its stack" on stderr, then abort().
 *
 * Only for who asks, for it is the one exception to promise 12 of evpq.h. A stack that is full has
 * no room for telling, so this installs a handler of SIGSEGV for the process, once, and an
 * alternate signal stack for this thread, where it has none, until the thread ends. Every other
 * fault goes to the handler that was there before, or ends the program as if there were none. A
 * handler that is installed later takes its place. The library must not be unloaded any more.
 *
 * Call it in each thread that runs coroutines, before they do.
 *
 * @return EVPQ_OK; EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_report_overruns(void);

/**
 * Waiting
 * -------
 *
 * `self` is the coroutine that runs: anything else is EVPQ_EINVALID, outside of
 * coroutines too. Each returns EVPQ_OK, what the call that starts the operation
 * returns, or the code of its error; evpq_await_error() has the rest of it.
 */

/** The error of the last wait, valid until the next; NULL when it succeeded or could not start:
 * then evpq_code_text() of what it returned is all there is. Of a coroutine whose deadline has
 * passed, or that was closed, it is that of the operation, which was cancelled: EVPQ_ECANCELED,
 * with its fate. */
EVPQ_API const evpq_error *evpq_await_error(const evpq_coroutine *self);

/** evpq_pool_query(). *result is valid until self waits again; evpq_result_keep() keeps it. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_query(evpq_coroutine *self, evpq_pool *pool,
                                              const evpq_query *query, evpq_result **result);
/** evpq_router_query(), as above. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_router_query(evpq_coroutine *self, evpq_router *router,
                                                     const evpq_query *query, const evpq_read *read,
                                                     evpq_result **result);
/** evpq_lease_query(), as above. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_lease_query(evpq_coroutine *self, evpq_lease *lease,
                                                    const evpq_query *query, evpq_result **result);
/** evpq_pool_acquire(). The lease must be released. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_acquire(evpq_coroutine *self, evpq_pool *pool,
                                                const evpq_acquire_options *options,
                                                evpq_lease **lease);
/** evpq_pool_batch(). on_result runs as ever, from the loop, and not in the coroutine: it must not
 * wait. `user` is for on_result; both may be NULL. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_batch(evpq_coroutine *self, evpq_pool *pool,
                                              const evpq_batch *batch, evpq_batch_fn *on_result,
                                              void *user);
/** evpq_lease_batch(), as above. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_lease_batch(evpq_coroutine *self, evpq_lease *lease,
                                                    const evpq_batch *batch,
                                                    evpq_batch_fn *on_result, void *user);
/** evpq_pool_stream(). on_chunk runs as ever, from the loop, and not in the coroutine: it must not
 * wait; it may pause and close the stream. *result is that of on_done, without rows; NULL for who
 * does not ask. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_stream(evpq_coroutine *self, evpq_pool *pool,
                                               const evpq_query *query,
                                               const evpq_stream_options *options,
                                               evpq_chunk_fn *on_chunk, void *user,
                                               evpq_result **result);
/** evpq_lease_stream(), as above. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_lease_stream(evpq_coroutine *self, evpq_lease *lease,
                                                     const evpq_query *query,
                                                     const evpq_stream_options *options,
                                                     evpq_chunk_fn *on_chunk, void *user,
                                                     evpq_result **result);
/** evpq_pager_next(). *page is valid until self waits again. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_page(evpq_coroutine *self, evpq_pager *pager,
                                             evpq_page **page);
/** evpq_limiter_wait() */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_limiter(evpq_coroutine *self, evpq_limiter *limiter,
                                                uint32_t weight, uint32_t timeout_ms);
/** evpq_semaphore_acquire(). The permits must be released. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_semaphore(evpq_coroutine *self, evpq_semaphore *semaphore,
                                                  uint32_t weight, uint32_t timeout_ms);
/** evpq_group_wait(). What the group can be asked can be asked until self waits again. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_group(evpq_coroutine *self, evpq_group *group);
/** Let time pass. */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_sleep(evpq_coroutine *self, uint32_t ms);

/**
 * Wait for any other operation, started just now with evpq_await_done as its callback and `self`
 * as its user; or with a callback of your own that ends with evpq_await_done(err, self):
 *
 *     evpq_op *op;
 *     evpq_await_op(self, evpq_queue_join(&op, queue, 0, evpq_await_done, self), &op);
 *
 * @param started  what the call that started it answered
 * @param op       where that call has put the handle
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_await_op(evpq_coroutine *self, int started, evpq_op *const *op);

/** An evpq_done_fn: the coroutine `self` goes on. Aborts when it waits for nothing. */
EVPQ_API void evpq_await_done(const evpq_error *err, void *self);

EVPQ_END_DECLS

#endif /* EVPQ_AWAIT_H */
