/* SPDX-License-Identifier: MIT */
#include "base/op.h"

#include <assert.h>

/* The one door between states: forward, or back to WAITING before it was delivered. */
static void op_enter(struct evpq_op *op, enum evpq__op_state next)
{
    assert(next > op->state || (next == EVPQ__OP_WAITING && op->state != EVPQ__OP_DELIVERED));
    op->state = next;
}

static void op_on_timer(struct evpq__timer *timer)
{
    evpq__op_stop(evpq__container_of(timer, struct evpq_op, timer), EVPQ_ETIMEOUT);
}

static void op_on_delivery(struct evpq__task *task)
{
    struct evpq_op *op = evpq__container_of(task, struct evpq_op, delivery);
    op_enter(op, EVPQ__OP_DELIVERED);
    op->class_->deliver(op);
    evpq__op_unref(op);
}

void evpq__op_prepare(struct evpq_op *op, const struct evpq__op_class *class_,
                      struct evpq__loop *loop, int64_t deadline_us)
{
    op->class_ = class_;
    op->loop = loop;
    op->state = EVPQ__OP_WAITING;
    op->refs = 1;
    op->deadline_us = deadline_us;
    op->error = (struct evpq_error){0};
    evpq__node_init(&op->node);
    evpq__timer_init(&op->timer, op_on_timer);
}

void evpq__op_init(struct evpq_op *op, const struct evpq__op_class *class_, struct evpq__loop *loop,
                   int64_t deadline_us)
{
    evpq__op_prepare(op, class_, loop, deadline_us);
    evpq__op_limit(op, deadline_us);
}

void evpq__op_limit(struct evpq_op *op, int64_t at_us)
{
    assert(!evpq__op_finished(op));
    evpq__timer_start(op->loop, &op->timer, at_us < op->deadline_us ? at_us : op->deadline_us);
}

void evpq__op_sent(struct evpq_op *op)
{
    op_enter(op, EVPQ__OP_SENT);
    evpq__op_limit(op, op->deadline_us);
}

void evpq__op_again(struct evpq_op *op)
{
    if (evpq__op_finished(op)) {
        evpq__loop_unpost(op->loop, &op->delivery);
        evpq__timer_init(&op->timer, op_on_timer);
    }
    op_enter(op, EVPQ__OP_WAITING);
}

void evpq__op_decide(struct evpq_op *op)
{
    op_enter(op, EVPQ__OP_FINISHED);
    evpq__timer_stop(&op->timer);
    evpq__task_init(&op->delivery, op_on_delivery);
}

void evpq__op_post(struct evpq_op *op)
{
    assert(op->state == EVPQ__OP_FINISHED);
    evpq__loop_post(op->loop, EVPQ__SOON, &op->delivery);
}

void evpq__op_finish(struct evpq_op *op)
{
    if (evpq__op_finished(op))
        return;
    evpq__op_decide(op);
    evpq__op_post(op);
}

void evpq__op_finish_now(struct evpq_op *op)
{
    if (evpq__op_finished(op))
        return;
    evpq__op_decide(op);
    op_on_delivery(&op->delivery);
}

void evpq__op_stop(struct evpq_op *op, evpq_code why)
{
    if (evpq__op_finished(op))
        return;
    op->class_->stop(op, why);
    evpq__op_finish(op);
}

void evpq__op_discard(struct evpq_op *op)
{
    assert(op->state == EVPQ__OP_WAITING);
    evpq__timer_stop(&op->timer);
    evpq__op_unref(op);
}

void evpq__op_ref(struct evpq_op *op)
{
    op->refs++;
}

void evpq__op_unref(struct evpq_op *op)
{
    assert(op->refs > 0);
    if (--op->refs > 0)
        return;
    assert(!evpq__node_linked(&op->node));
    evpq__error_clear(&op->error);
    op->class_->destroy(op);
}

void evpq_op_cancel(evpq_op *op)
{
    if (op)
        evpq__op_stop(op, EVPQ_ECANCELED);
}
