/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_EVPQ_H
#define EVPQ_EVPQ_H

/**
 * @file
 * evpq: asynchronous PostgreSQL for programs with a libev loop
 * ============================================================
 *
 * A pool of nonblocking libpq connections on your loop, queries with deadlines,
 * pages over large results, cancellation.
 *
 *     #include <ev.h>
 *     #include <evpq/evpq.h>
 *
 * What evpq promises
 * ------------------
 *
 * 1. **Once.** A call that returns a negative code has done nothing and never calls back. A call
 * that returns `EVPQ_OK` calls back exactly once: result, error, timeout, cancel or close.
 * 2. **Later.** A callback runs from the loop, never before the call that caused it has returned.
 * Inside a callback anything may be called, also closing the object that is calling.
 * 3. **Never blocks.** Not for DNS, connecting, TLS, cancelling, closing, or a peer that stops
 * reading.
 * 4. **A deadline is a deadline.** It counts from the call to the callback: queue, connecting,
 * running, cleaning up. The callback comes within the deadline plus one turn of the loop, whatever
 * the server or network does. A retry or re-queue keeps the first deadline.
 * 5. **The error tells the fate.** For each failed statement: *not sent* (safe to run again),
 * *rolled back* (the server refused it), or *unknown* (sent, no answer seen). And what to do is one
 * code; SQLSTATE, detail, hint, constraint are questions to ask it. A pool timeout says why: size,
 * idle, busy, connecting, waiting, the last connect error, who holds the oldest lease and for how
 * long.
 * 6. **Success is final.** A statement has succeeded only when its Sync is answered: a deferred
 * constraint may fail after COMMAND_OK.
 * 7. **Clean or gone.** A connection goes back to the pool only when it is known to be idle,
 * outside a transaction and in sync. Otherwise it is cleaned within a bound, or closed; its slot is
 * freed only then, so the server never sees more than `max_size` connections.
 * 8. **Cancel hits its target only.** No other request sees an error because this one was
 * cancelled.
 * 9. **All is bounded:** connections, waiters, requests in flight, cached statements, bytes of a
 * result (when asked), time of close.
 * 10. **Failure of malloc is an error, not a crash.** Nothing leaks on any path.
 * 11. **Secrets stay secret.** Passwords and parameter values appear in no message and no trace; a
 * page token holds the order key of its boundary and nothing else of a row.
 * 12. **No hidden state.** No globals, no environment beyond libpq's own, no signal handlers, no
 * output.
 *
 * The loop
 * --------
 *
 * Callbacks run right before the loop blocks, in libev's prepare phase; ev_break() works there.
 * When very many come together they are told in slices of some milliseconds, in their order, and
 * the loop looks at sockets and timers in between: nobody waits longer for it, and others do not
 * wait for all of them.
 * With ev_run(loop, EVRUN_ONCE) the loop still blocks once after them: a program that waits for a
 * callback should break out of ev_run(loop, 0) in it.
 *
 * Threads
 * -------
 *
 * Everything belongs to one loop and one thread; nothing is locked. Different loops may live in
 * different threads. A pool has a thread of its own for what would block: names, handshakes,
 * cancels. No callback ever runs there. All signals are blocked in it. After fork() only exec() or
 * _exit() are allowed in the child. A name lookup that gets no answer may outlive its pool, on a
 * thread that cleans up after itself: do not dlclose() evpq. Close pools before exit(): a login
 * under way on their thread would meet OpenSSL while it is taken down.
 *
 * Options
 * -------
 *
 * Options are structs whose first field is their size, made by macros: EVPQ_POOL_OPTIONS(.max_size
 * = 8). Zero is the default of every field. A struct of a newer evpq is accepted as long as the
 * fields that this one does not know are zero. Nothing of the caller's is kept. In C++ fill the
 * struct: the macros are C.
 */

#include <evpq/base.h>
#include <evpq/batch.h>
#include <evpq/error.h>
#include <evpq/group.h>
#include <evpq/limiter.h>
#include <evpq/limits.h>
#include <evpq/op.h>
#include <evpq/pager.h>
#include <evpq/pool.h>
#include <evpq/query.h>
#include <evpq/queue.h>
#include <evpq/result.h>
#include <evpq/router.h>
#include <evpq/scan.h>
#include <evpq/semaphore.h>
#include <evpq/stream.h>
#include <evpq/trace.h>
#include <evpq/value.h>

#endif /* EVPQ_EVPQ_H */
