/* SPDX-License-Identifier: MIT */
/*
 * Two ways, one machine on the helper's loop. libpq 17 sends the request in
 * steps, encrypted as the connection is. Before that there is only PQcancel(),
 * which blocks until the server closes, for ever when the postmaster is
 * stopped: it gets a call of its own, which can be abandoned.
 */
#include "pg/cancel.h"

#include "base/mem.h"
#include "pg/pq.h"

struct evpq__cancel {
    PGcancelConn *async; /* libpq 17 */
    PGcancel *blocking;  /* before; NULL also after a call was abandoned, which took it along */

    struct evpq__loop *home, *loop; /* loop: the helper's */
    int64_t deadline_us;
    struct evpq__task *done; /* the owner's; NULL while no request is under way */
    struct evpq__task start; /* to the helper */
    struct evpq__task over;  /* back home */
    struct evpq__timer timer;
    struct evpq__io io;
    struct evpq__call *call;
};

struct blocking_call {
    struct evpq__cancel *cancel;
    PGcancel *request;
};

static void cancel_begin(struct evpq__task *task);
static void cancel_on_over(struct evpq__task *task);
static void cancel_on_timer(struct evpq__timer *timer);
static void cancel_on_io(struct evpq__io *io, int events);

struct evpq__cancel *evpq__cancel_new(PGconn *conn)
{
    struct evpq__cancel *cancel = evpq__alloc(sizeof(*cancel));
    if (!cancel)
        return NULL;
    if (evpq__pq_has_async_cancel())
        cancel->async = PQcancelCreate(conn);
    else
        cancel->blocking = PQgetCancel(conn);
    if (!cancel->async && !cancel->blocking) {
        evpq__free(cancel);
        return NULL;
    }
    evpq__task_init(&cancel->start, cancel_begin);
    evpq__task_init(&cancel->over, cancel_on_over);
    evpq__timer_init(&cancel->timer, cancel_on_timer);
    evpq__io_init(&cancel->io, cancel_on_io);
    return cancel;
}

void evpq__cancel_free(struct evpq__cancel *cancel)
{
    if (!cancel)
        return;
    if (cancel->async)
        PQcancelFinish(cancel->async);
    PQfreeCancel(cancel->blocking);
    evpq__free(cancel);
}

void evpq__cancel_start(struct evpq__cancel *cancel, struct evpq__helper *helper,
                        struct evpq__loop *home, int64_t deadline_us, struct evpq__task *done)
{
    cancel->home = home;
    cancel->loop = evpq__helper_loop(helper);
    cancel->deadline_us = deadline_us;
    cancel->done = done;
    evpq__loop_send(cancel->loop, &cancel->start);
}

bool evpq__cancel_running(const struct evpq__cancel *cancel)
{
    return cancel && cancel->done;
}

static void cancel_on_over(struct evpq__task *task)
{
    struct evpq__cancel *cancel = evpq__container_of(task, struct evpq__cancel, over);
    struct evpq__task *done = cancel->done;
    cancel->done = NULL;
    evpq__loop_post(cancel->home, EVPQ__SOON, done);
}

/* On the helper, from here on. */

static void cancel_end(struct evpq__cancel *cancel)
{
    evpq__timer_stop(&cancel->timer);
    evpq__io_stop(&cancel->io);
    if (cancel->async)
        PQcancelReset(cancel->async);
    evpq__loop_send(cancel->home, &cancel->over);
}

static void cancel_on_timer(struct evpq__timer *timer)
{
    struct evpq__cancel *cancel = evpq__container_of(timer, struct evpq__cancel, timer);
    if (cancel->call) {
        cancel->blocking = NULL;
        evpq__call_abandon(cancel->call);
        cancel->call = NULL;
    }
    cancel_end(cancel);
}

static void cancel_step(struct evpq__cancel *cancel, PostgresPollingStatusType next)
{
    /* Before anything else: libpq may have another socket under the same number. */
    evpq__io_stop(&cancel->io);
    if (next != PGRES_POLLING_READING && next != PGRES_POLLING_WRITING)
        cancel_end(cancel);
    else
        evpq__io_start(cancel->loop, &cancel->io, PQcancelSocket(cancel->async),
                       next == PGRES_POLLING_READING ? EVPQ__READ : EVPQ__WRITE);
}

static void cancel_on_io(struct evpq__io *io, int events)
{
    (void)events;
    struct evpq__cancel *cancel = evpq__container_of(io, struct evpq__cancel, io);
    cancel_step(cancel, PQcancelPoll(cancel->async));
}

static void call_work(void *arg)
{
    char error[256];
    PQcancel(((struct blocking_call *)arg)->request, error, sizeof(error));
}

static void call_done(void *arg)
{
    struct evpq__cancel *cancel = ((struct blocking_call *)arg)->cancel;
    evpq__free(arg);
    cancel->call = NULL;
    cancel_end(cancel);
}

static void call_dispose(void *arg)
{
    PQfreeCancel(((struct blocking_call *)arg)->request);
    evpq__free(arg);
}

static void cancel_start_call(struct evpq__cancel *cancel)
{
    static const struct evpq__call_class call_class = {call_work, call_done, call_dispose};
    struct blocking_call *arg = cancel->blocking ? evpq__alloc(sizeof(*arg)) : NULL;
    if (arg) {
        arg->cancel = cancel;
        arg->request = cancel->blocking;
        cancel->call = evpq__call_start(cancel->loop, &call_class, arg);
        if (!cancel->call)
            evpq__free(arg);
    }
    if (!cancel->call)
        cancel_end(cancel);
}

static void cancel_begin(struct evpq__task *task)
{
    struct evpq__cancel *cancel = evpq__container_of(task, struct evpq__cancel, start);
    evpq__timer_start(cancel->loop, &cancel->timer, cancel->deadline_us);
    if (cancel->async)
        cancel_step(cancel,
                    PQcancelStart(cancel->async) ? PGRES_POLLING_WRITING : PGRES_POLLING_FAILED);
    else
        cancel_start_call(cancel);
}
