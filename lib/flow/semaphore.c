/* SPDX-License-Identifier: MIT */
/*
 * A line in front of a count. The first of the line is granted its permits as
 * soon as they fit below the limit, or nobody else holds any: who weighs more
 * than the limit in force would wait for ever otherwise.
 *
 *     acquire: in line ---> granted, and told later ---> released
 *     try:     ---------------^
 *
 * References: the user's until close, one for each acquire, and one while any
 * permit is held.
 */
#include <evpq/semaphore.h>

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/op.h"
#include "base/options.h"

enum { DEFAULT_TIMEOUT_MS = 30000, MAX_LIMIT = 1000000000 };

struct evpq_semaphore {
    unsigned refs;
    struct evpq__loop *loop;
    bool adaptive;
    uint32_t max_limit, min_limit, max_waiters;
    uint32_t limit; /* in force */
    uint32_t in_use;
    struct evpq__list waiters; /* operations, FIFO */
    uint32_t waiting;
    uint32_t deaf;    /* reports until a signal counts again */
    uint32_t credits; /* good reports since the limit has changed */
    uint64_t acquired, refused, timeouts, canceled, lowered;
};

struct wait {
    struct evpq_op op;
    struct evpq_semaphore *semaphore;
    uint32_t weight, timeout_ms;
    evpq_done_fn *on_acquired;
    void *user;
};

static struct wait *of_op(struct evpq_op *op)
{
    return evpq__container_of(op, struct wait, op);
}

static struct wait *first_in_line(const struct evpq_semaphore *s)
{
    struct evpq__node *node = evpq__list_first(&s->waiters);
    return node ? evpq__container_of(node, struct wait, op.node) : NULL;
}

static void leave_line(struct wait *wait)
{
    evpq__node_unlink(&wait->op.node);
    wait->semaphore->waiting--;
}

static bool fits(const struct evpq_semaphore *s, uint32_t weight)
{
    return s->in_use == 0 || (s->in_use < s->limit && weight <= s->limit - s->in_use);
}

static void semaphore_unref(struct evpq_semaphore *s)
{
    assert(s->refs > 0);
    if (--s->refs > 0)
        return;
    evpq__loop_free(s->loop);
    evpq__free(s);
}

static void take(struct evpq_semaphore *s, uint32_t weight)
{
    s->refs += s->in_use == 0;
    s->in_use += weight;
    s->acquired++;
}

static void serve(struct evpq_semaphore *s)
{
    struct wait *first;
    while ((first = first_in_line(s)) && fits(s, first->weight)) {
        leave_line(first);
        take(s, first->weight);
        evpq__op_finish(&first->op);
    }
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
    const struct evpq_semaphore *s = wait->semaphore;
    switch (err->code) {
    case EVPQ_ETIMEOUT:
        evpq__error_explain(err,
                            "the deadline of %u ms passed while it waited for %u of %u permits, of "
                            "which %u are held",
                            wait->timeout_ms, wait->weight, s->limit, s->in_use);
        break;
    case EVPQ_EINVALID:
        evpq__error_explain(err, "a limit was set that is less than its %u permits", wait->weight);
        break;
    default:
        evpq__error_explain(err, "%s",
                            err->code == EVPQ_ECLOSED
                                ? "the semaphore was closed"
                                : "cancelled while it waited for the semaphore");
    }
}

static void wait_stop(struct evpq_op *op, evpq_code why)
{
    struct wait *wait = of_op(op);
    struct evpq_semaphore *s = wait->semaphore;
    end(wait, why);
    s->timeouts += why == EVPQ_ETIMEOUT;
    s->canceled += why == EVPQ_ECANCELED;
    serve(s);
}

static void wait_deliver(struct evpq_op *op)
{
    struct wait *wait = of_op(op);
    if (op->error.code != EVPQ_OK)
        explain(wait);
    wait->on_acquired(op->error.code == EVPQ_OK ? NULL : &op->error, wait->user);
}

static void wait_destroy(struct evpq_op *op)
{
    struct wait *wait = of_op(op);
    struct evpq_semaphore *s = wait->semaphore;
    evpq__free(wait);
    semaphore_unref(s);
}

static const struct evpq__op_class wait_class = {
    .stop = wait_stop, .deliver = wait_deliver, .destroy = wait_destroy};

int evpq_semaphore_try(evpq_semaphore *s, uint32_t weight)
{
    if (!s || weight == 0 || weight > s->max_limit)
        return EVPQ_EINVALID;
    if (s->waiting > 0 || !fits(s, weight)) {
        s->refused++;
        return EVPQ_EOVERLOADED;
    }
    take(s, weight);
    return EVPQ_OK;
}

int evpq_semaphore_acquire(evpq_op **out, evpq_semaphore *s, uint32_t weight, uint32_t timeout_ms,
                           evpq_done_fn *on_acquired, void *user)
{
    if (!s || !on_acquired || weight == 0 || weight > s->max_limit)
        return EVPQ_EINVALID;
    if (s->waiting >= s->max_waiters) {
        s->refused++;
        return EVPQ_EOVERLOADED;
    }
    struct wait *wait = evpq__alloc(sizeof(*wait));
    if (!wait)
        return EVPQ_ENOMEM;
    bool now = s->waiting == 0 && fits(s, weight);
    wait->semaphore = s;
    wait->weight = weight;
    wait->timeout_ms = timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS;
    wait->on_acquired = on_acquired;
    wait->user = user;
    evpq__op_init(&wait->op, &wait_class, s->loop,
                  now ? EVPQ__NO_DEADLINE : evpq__loop_deadline(s->loop, wait->timeout_ms));
    s->refs++;
    if (now) {
        take(s, weight);
        evpq__op_finish(&wait->op);
    } else {
        evpq__list_push_back(&s->waiters, &wait->op.node);
        s->waiting++;
    }
    if (out)
        *out = &wait->op;
    return EVPQ_OK;
}

int evpq_semaphore_release(evpq_semaphore *s, uint32_t weight)
{
    if (!s || weight == 0 || weight > s->in_use)
        return EVPQ_EINVALID;
    s->in_use -= weight;
    bool none = s->in_use == 0;
    serve(s);
    if (none)
        semaphore_unref(s);
    return EVPQ_OK;
}

/* Limits */

/* It fails for what is too much at the moment, and not for itself. */
static bool is_overload(const evpq_error *outcome)
{
    const char *sqlstate = evpq_error_sqlstate(outcome);
    switch (evpq_error_code(outcome)) {
    case EVPQ_ETIMEOUT:
    case EVPQ_EOVERLOADED:
        return true;
    case EVPQ_ECONNECT: /* a refusal that may pass */
        return evpq_error_retry_safe(outcome);
    default: /* insufficient resources, cannot_connect_now */
        return strncmp(sqlstate, "53", 2) == 0 || strcmp(sqlstate, "57P03") == 0;
    }
}

static void set_limit(struct evpq_semaphore *s, uint32_t limit)
{
    s->limit = limit;
    s->credits = 0;
}

static void lower(struct evpq_semaphore *s)
{
    uint32_t less = s->limit - (s->limit + 9) / 10;
    s->deaf = s->in_use;
    s->lowered++;
    set_limit(s, less > s->min_limit ? less : s->min_limit);
}

static void raise(struct evpq_semaphore *s)
{
    /* Whoever uses less than half of what there is does not learn whether more would do. */
    if (s->limit >= s->max_limit || s->in_use < s->limit - s->limit / 2)
        return;
    if (++s->credits < s->limit)
        return;
    set_limit(s, s->limit + 1);
    serve(s);
}

void evpq_semaphore_report(evpq_semaphore *s, const evpq_error *outcome)
{
    if (!s || !s->adaptive)
        return;
    if (s->deaf > 0)
        s->deaf--;
    else if (is_overload(outcome))
        lower(s);
    else if (!outcome)
        raise(s);
}

int evpq_semaphore_set_limit(evpq_semaphore *s, uint32_t limit)
{
    if (!s || limit == 0 || limit > MAX_LIMIT || limit < s->min_limit)
        return EVPQ_EINVALID;
    s->max_limit = limit;
    set_limit(s, limit);
    struct evpq__node *next;
    for (struct evpq__node *node = evpq__list_first(&s->waiters); node; node = next) {
        next = evpq__list_next(&s->waiters, node);
        struct wait *wait = evpq__container_of(node, struct wait, op.node);
        if (wait->weight <= limit)
            continue;
        end(wait, EVPQ_EINVALID);
        evpq__op_finish(&wait->op);
    }
    serve(s);
    return EVPQ_OK;
}

int evpq_semaphore_stats_get(const evpq_semaphore *s, evpq_semaphore_stats *stats)
{
    if (!s || !stats || stats->size < sizeof(stats->size) || stats->size > sizeof(*stats))
        return EVPQ_EINVALID;
    evpq_semaphore_stats now = {
        .size = stats->size,
        .limit = s->limit,
        .in_use = s->in_use,
        .waiting = s->waiting,
        .acquired = s->acquired,
        .refused = s->refused,
        .timeouts = s->timeouts,
        .canceled = s->canceled,
        .lowered = s->lowered,
    };
    memcpy(stats, &now, now.size);
    return EVPQ_OK;
}

/* Opening, closing */

static const char *options_read(evpq_semaphore_options *out, const evpq_semaphore_options *options)
{
    const char *problem = evpq__options_read(out, sizeof(*out), options);
    if (problem)
        return problem;
    if (out->max_waiters == 0)
        out->max_waiters = 10000;
    if (out->min_limit == 0)
        out->min_limit = 1;
    if (out->limit == 0)
        return "limit is not set";
    if (out->limit > MAX_LIMIT)
        return "limit is over 1,000,000,000";
    if (out->min_limit > out->limit)
        return "min_limit is larger than limit";
    if (out->min_limit > 1 && !out->adaptive)
        return "min_limit is for adaptive";
    return NULL;
}

const char *evpq_semaphore_options_problem(const evpq_semaphore_options *options)
{
    evpq_semaphore_options complete;
    return options_read(&complete, options);
}

int evpq_semaphore_open(evpq_semaphore **out, struct ev_loop *loop,
                        const evpq_semaphore_options *options)
{
    evpq_semaphore_options complete;
    if (!out || !loop || options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_semaphore *s = evpq__alloc(sizeof(*s));
    if (!s)
        return EVPQ_ENOMEM;
    s->loop = evpq__loop_new_quiet(loop);
    if (!s->loop) {
        evpq__free(s);
        return EVPQ_ENOMEM;
    }
    s->refs = 1;
    s->adaptive = complete.adaptive;
    s->max_limit = s->limit = complete.limit;
    s->min_limit = complete.min_limit;
    s->max_waiters = complete.max_waiters;
    evpq__list_init(&s->waiters);
    *out = s;
    return EVPQ_OK;
}

void evpq_semaphore_close(evpq_semaphore *s)
{
    if (!s)
        return;
    struct wait *first;
    while ((first = first_in_line(s))) {
        end(first, EVPQ_ECLOSED);
        evpq__op_finish(&first->op);
    }
    semaphore_unref(s);
}
