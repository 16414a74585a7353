/* SPDX-License-Identifier: MIT */
#include "flow/member.h"

#include "base/mem.h"

static void member_deliver(struct evpq_op *op)
{
    struct evpq__member *member = evpq__container_of(op->class_, struct evpq__member, class_);
    op->class_ = member->own;
    op->class_->deliver(op);
    member->op = NULL;
    member->over(member, &op->error);
}

bool evpq__member_watch(struct evpq__member *member, struct evpq_op *op,
                        void (*over)(struct evpq__member *, const struct evpq_error *))
{
    if (op->state == EVPQ__OP_DELIVERED)
        return false;
    member->own = op->class_;
    member->class_ = *op->class_;
    member->class_.deliver = member_deliver;
    member->op = op;
    member->over = over;
    op->class_ = &member->class_;
    return true;
}
