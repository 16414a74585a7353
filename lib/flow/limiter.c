/* SPDX-License-Identifier: MIT */
/*
 * A line in front of a window. The first of the line is served when the window
 * has room for all that it asks for; the timer is for that moment. A permit
 * counts from when it is told, which a slow callback before it may put off: in
 * between it is *granted*, and holds the oldest place of the window.
 *
 *     wait: in line ---> granted ---> told, and counts
 *     try:  ---------------------------^
 */
#include "flow/limiter.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/options.h"

enum { DEFAULT_TIMEOUT_MS = 30000 };

struct wait {
    struct evpq_op op;
    struct evpq_limiter *limiter;
    uint32_t weight, timeout_ms;
    evpq_done_fn *on_admitted;
    void *user;
};

static struct wait *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct wait, op);
}

static struct wait *first_in_line(const struct evpq_limiter *l)
{
    struct evpq__node *node = evpq__list_first(&l->waiters);
    return node ? evpq__container_of(node, struct wait, op.node) : NULL;
}

static void leave_line(struct wait *wait)
{
    evpq__node_unlink(&wait->op.node);
    wait->limiter->waiting--;
    wait->limiter->waiting_permits -= wait->weight;
}

/* The first moment for so many permits behind those who are granted theirs. */
static int64_t moment_for(struct evpq_limiter *l, int64_t now_us, uint64_t permits)
{
    return evpq__window_when(&l->window, now_us, l->granted + permits);
}

static void grant(struct wait *wait)
{
    wait->limiter->granted += wait->weight;
    evpq__op_finish(&wait->op);
}

/* Grants what can be granted now, and sets the timer for who comes next. */
static void serve(struct evpq_limiter *l)
{
    struct wait *first = first_in_line(l);
    int64_t now = first ? evpq__loop_now(l->loop) : 0;
    int64_t next_us = EVPQ__NO_DEADLINE;
    for (; first; first = first_in_line(l)) {
        next_us = moment_for(l, now, first->weight);
        if (next_us > now)
            break;
        next_us = EVPQ__NO_DEADLINE;
        leave_line(first);
        grant(first);
    }
    /* Those who are granted theirs count from when they are told, and then this runs again. */
    if (l->granted > 0)
        next_us = EVPQ__NO_DEADLINE;
    if (next_us == l->timer_us)
        return;
    l->timer_us = next_us;
    if (next_us == EVPQ__NO_DEADLINE)
        evpq__timer_stop(&l->timer);
    else
        evpq__timer_start(l->loop, &l->timer, next_us);
}

static void on_timer(struct evpq__timer *timer)
{
    struct evpq_limiter *l = evpq__container_of(timer, struct evpq_limiter, timer);
    l->timer_us = EVPQ__NO_DEADLINE;
    serve(l);
}

static void limiter_unref(struct evpq_limiter *l)
{
    assert(l->refs > 0);
    if (--l->refs > 0)
        return;
    evpq__window_done(&l->window);
    l->gone(l);
}

/* The operation */

/* Its text is made when it is told: a crowd may end at once. */
static void end(struct wait *wait, evpq_code why)
{
    leave_line(wait);
    wait->op.error = (struct evpq_error){.code = why, .fate = EVPQ_NOT_SENT};
}

static void explain(struct wait *wait)
{
    struct evpq_error *err = &wait->op.error;
    const struct evpq_limiter *l = wait->limiter;
    switch (err->code) {
    case EVPQ_ETIMEOUT:
        evpq__error_explain(err,
                            "the deadline of %u ms passed while it waited for %u of %u permits per "
                            "%u ms",
                            wait->timeout_ms, wait->weight, l->window.limit, l->window_ms);
        break;
    case EVPQ_EINVALID:
        evpq__error_explain(err, "a limit was set that is less than its %u permits", wait->weight);
        break;
    case EVPQ_ELIMITED:
        evpq__error_explain(err, "a limit was set that does not allow %u permits in its %u ms",
                            wait->weight, wait->timeout_ms);
        break;
    default:
        evpq__error_explain(err, "%s",
                            err->code == EVPQ_ECLOSED
                                ? "the limiter was closed"
                                : "cancelled while it waited for the rate limit");
    }
}

static void wait_stop(struct evpq_op *op, evpq_code why)
{
    struct wait *wait = of_op(op);
    struct evpq_limiter *l = wait->limiter;
    if (why == EVPQ_ETIMEOUT)
        serve(l); /* its moment may be now, too */
    if (evpq__op_finished(op))
        return;
    end(wait, why);
    l->timeouts += why == EVPQ_ETIMEOUT;
    l->canceled += why == EVPQ_ECANCELED;
    serve(l);
}

static void wait_deliver(struct evpq_op *op)
{
    struct wait *wait = of_op(op);
    struct evpq_limiter *l = wait->limiter;
    bool admitted = op->error.code == EVPQ_OK;
    if (admitted) {
        l->granted -= wait->weight;
        evpq__window_take(&l->window, evpq__loop_now(l->loop), wait->weight);
        l->admitted++;
        if (l->granted == 0)
            serve(l);
    } else {
        explain(wait);
    }
    wait->on_admitted(admitted ? NULL : &op->error, wait->user);
}

static void wait_destroy(struct evpq_op *op)
{
    struct wait *wait = of_op(op);
    struct evpq_limiter *l = wait->limiter;
    evpq__free(wait);
    limiter_unref(l);
}

static const struct evpq__op_class wait_class = {
    .stop = wait_stop, .deliver = wait_deliver, .destroy = wait_destroy};

static int refuse(struct evpq_limiter *l, int code)
{
    l->refused++;
    return code;
}

int evpq_limiter_wait(evpq_op **out, evpq_limiter *l, uint32_t weight, uint32_t timeout_ms,
                      evpq_done_fn *on_admitted, void *user)
{
    if (!l || !on_admitted || weight == 0 || weight > l->window.limit)
        return EVPQ_EINVALID;
    serve(l);
    if (l->waiting >= l->max_waiters)
        return refuse(l, EVPQ_EOVERLOADED);
    timeout_ms = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
    int64_t now = evpq__loop_now(l->loop);
    int64_t at = moment_for(l, now, l->waiting_permits + weight);
    int64_t deadline_us =
        timeout_ms == EVPQ_NEVER ? EVPQ__NO_DEADLINE : now + (int64_t)timeout_ms * 1000;
    if (at > deadline_us)
        return refuse(l, EVPQ_ELIMITED);
    struct wait *wait = evpq__alloc(sizeof(*wait));
    if (!wait)
        return EVPQ_ENOMEM;
    bool now_is_the_time = at <= now && l->waiting == 0;
    evpq__op_init(&wait->op, &wait_class, l->loop,
                  now_is_the_time ? EVPQ__NO_DEADLINE : deadline_us);
    l->refs++;
    wait->limiter = l;
    wait->weight = weight;
    wait->timeout_ms = timeout_ms;
    wait->on_admitted = on_admitted;
    wait->user = user;
    if (now_is_the_time) {
        grant(wait);
    } else {
        evpq__list_push_back(&l->waiters, &wait->op.node);
        l->waiting++;
        l->waiting_permits += weight;
        if (l->waiting == 1)
            serve(l);
    }
    if (out)
        *out = &wait->op;
    return EVPQ_OK;
}

static uint32_t ms_until(int64_t now_us, int64_t at_us)
{
    int64_t ms = (at_us - now_us) / 1000 + ((at_us - now_us) % 1000 != 0);
    return ms < EVPQ_NEVER ? (uint32_t)ms : EVPQ_NEVER;
}

int evpq_limiter_try(evpq_limiter *l, uint32_t weight, uint32_t *retry_after_ms)
{
    if (!l || weight == 0 || weight > l->window.limit)
        return EVPQ_EINVALID;
    if (l->waiting > 0)
        serve(l);
    int64_t now = evpq__loop_now(l->loop);
    int64_t at = moment_for(l, now, l->waiting_permits + weight);
    if (l->waiting == 0 && at <= now) {
        evpq__window_take(&l->window, now, weight);
        l->admitted++;
        return EVPQ_OK;
    }
    if (retry_after_ms)
        *retry_after_ms = ms_until(now, at);
    return refuse(l, EVPQ_ELIMITED);
}

/* Changing */

/* It cannot be served in time, or ever, as the limit is now. */
static void refuse_waiter(struct wait *wait)
{
    struct evpq_limiter *l = wait->limiter;
    end(wait, wait->weight > l->window.limit ? EVPQ_EINVALID : EVPQ_ELIMITED);
    l->refused++;
    evpq__op_finish(&wait->op);
}

int evpq_limiter_set_limit(evpq_limiter *l, uint32_t limit, uint32_t window_ms)
{
    if (!l || evpq__window_problem(limit, window_ms, l->window.buckets))
        return EVPQ_EINVALID;
    int64_t now = evpq__loop_now(l->loop);
    if (!evpq__window_resize(&l->window, limit, window_ms, now))
        return EVPQ_ENOMEM;
    l->window_ms = window_ms;
    uint64_t before = 0;
    struct evpq__node *next;
    for (struct evpq__node *node = evpq__list_first(&l->waiters); node; node = next) {
        next = evpq__list_next(&l->waiters, node);
        struct wait *wait = evpq__container_of(node, struct wait, op.node);
        if (wait->weight > limit ||
            moment_for(l, now, before + wait->weight) > wait->op.deadline_us)
            refuse_waiter(wait);
        else
            before += wait->weight;
    }
    serve(l);
    return EVPQ_OK;
}

int evpq_limiter_stats_get(evpq_limiter *l, evpq_limiter_stats *stats)
{
    if (!l || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    int64_t now_us = evpq__loop_now(l->loop);
    evpq_limiter_stats now = {
        .size = stats->size,
        .limit = l->window.limit,
        .window_ms = l->window_ms,
        .used = evpq__window_used(&l->window, now_us) + (uint32_t)l->granted,
        .waiting = l->waiting,
        .retry_after_ms = ms_until(now_us, moment_for(l, now_us, l->waiting_permits + 1)),
        .admitted = l->admitted,
        .refused = l->refused,
        .timeouts = l->timeouts,
        .canceled = l->canceled,
    };
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

/* Opening, closing */

const char *evpq__limiter_options_read(evpq_limiter_options *out,
                                       const evpq_limiter_options *options)
{
    const char *problem = evpq__options_read(out, sizeof(*out), options);
    if (problem)
        return problem;
    if (out->max_waiters == 0)
        out->max_waiters = 10000;
    return evpq__window_problem(out->limit, out->window_ms, out->buckets);
}

const char *evpq_limiter_options_problem(const evpq_limiter_options *options)
{
    evpq_limiter_options complete;
    return evpq__limiter_options_read(&complete, options);
}

bool evpq__limiter_init(struct evpq_limiter *l, struct evpq__loop *loop,
                        const evpq_limiter_options *options, void (*gone)(struct evpq_limiter *))
{
    if (!evpq__window_init(&l->window, options->limit, options->window_ms, options->buckets,
                           evpq__loop_now(loop)))
        return false;
    l->refs = 1;
    l->loop = loop;
    l->window_ms = options->window_ms;
    l->max_waiters = options->max_waiters;
    evpq__list_init(&l->waiters);
    evpq__timer_init(&l->timer, on_timer);
    l->timer_us = EVPQ__NO_DEADLINE;
    l->gone = gone;
    return true;
}

bool evpq__limiter_unused(struct evpq_limiter *l)
{
    return l->waiting == 0 && l->granted == 0 &&
           evpq__window_used(&l->window, evpq__loop_now(l->loop)) == 0;
}

static void limiter_gone(struct evpq_limiter *l)
{
    evpq__loop_free(l->loop);
    evpq__free(l);
}

int evpq_limiter_open(evpq_limiter **out, struct ev_loop *loop, const evpq_limiter_options *options)
{
    evpq_limiter_options complete;
    if (!out || !loop || evpq__limiter_options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_limiter *l = evpq__alloc(sizeof(*l));
    struct evpq__loop *own = l ? evpq__loop_new_quiet(loop) : NULL;
    if (!own || !evpq__limiter_init(l, own, &complete, limiter_gone)) {
        if (own)
            evpq__loop_free(own);
        evpq__free(l);
        return EVPQ_ENOMEM;
    }
    *out = l;
    return EVPQ_OK;
}

void evpq_limiter_close(evpq_limiter *l)
{
    if (!l)
        return;
    struct wait *first;
    while ((first = first_in_line(l))) {
        end(first, EVPQ_ECLOSED);
        evpq__op_finish(&first->op);
    }
    serve(l);
    limiter_unref(l);
}
