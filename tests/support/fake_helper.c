/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/fake_helper.h"

struct evpq__helper {
    struct evpq__loop *home, *loop;
    struct evpq__task stop, ended, *stopped;
};

struct evpq__call {
    struct evpq__node node; /* of `working` */
    const struct evpq__call_class *class_;
    void *arg;
    struct evpq__loop *loop;
    struct evpq__task returned;
    bool abandoned;
};

static struct evpq__list working;
static bool held, fails;
static struct evpq__helper *waiting; /* to be let go */

void fake_helper_reset(void)
{
    evpq__list_init(&working);
    held = fails = false;
    waiting = NULL;
}

void fake_helper_hold(bool hold)
{
    held = hold;
    if (!held && waiting)
        evpq__loop_send(waiting->home, &waiting->ended);
    if (!held)
        waiting = NULL;
}

void fake_helper_fails(bool now)
{
    fails = now;
}

static void helper_on_stop(struct evpq__task *task)
{
    struct evpq__helper *helper = evpq__container_of(task, struct evpq__helper, stop);
    if (held)
        waiting = helper;
    else
        evpq__loop_send(helper->home, &helper->ended);
}

static void helper_on_ended(struct evpq__task *task)
{
    struct evpq__helper *helper = evpq__container_of(task, struct evpq__helper, ended);
    evpq__loop_free(helper->loop);
    evpq__loop_post(helper->home, EVPQ__SOON, helper->stopped);
    evpq__free(helper);
}

struct evpq__helper *evpq__helper_start(struct evpq__loop *home)
{
    struct evpq__helper *helper = fails ? NULL : evpq__alloc(sizeof(*helper));
    if (!helper)
        return NULL;
    helper->home = home;
    helper->loop = evpq__loop_new_own();
    if (!helper->loop) {
        evpq__free(helper);
        return NULL;
    }
    evpq__task_init(&helper->stop, helper_on_stop);
    evpq__task_init(&helper->ended, helper_on_ended);
    return helper;
}

struct evpq__loop *evpq__helper_loop(struct evpq__helper *helper)
{
    return helper->loop;
}

void evpq__helper_stop(struct evpq__helper *helper, struct evpq__task *stopped)
{
    if (helper->stopped)
        fail_msg("the helper is stopped twice");
    helper->stopped = stopped;
    evpq__loop_send(helper->loop, &helper->stop);
}

/* Calls */

static void call_on_returned(struct evpq__task *task)
{
    struct evpq__call *call = evpq__container_of(task, struct evpq__call, returned);
    const struct evpq__call_class *class_ = call->class_;
    void *arg = call->arg;
    evpq__free(call);
    class_->done(arg);
}

struct evpq__call *evpq__call_start(struct evpq__loop *loop, const struct evpq__call_class *class_,
                                    void *arg)
{
    struct evpq__call *call = evpq__alloc(sizeof(*call));
    if (!call)
        return NULL;
    call->class_ = class_;
    call->arg = arg;
    call->loop = loop;
    evpq__task_init(&call->returned, call_on_returned);
    evpq__list_push_back(&working, &call->node);
    return call;
}

void evpq__call_abandon(struct evpq__call *call)
{
    if (evpq__node_linked(&call->node)) {
        if (call->abandoned)
            fail_msg("a call is abandoned twice");
        call->abandoned = true;
        return;
    }
    evpq__loop_unpost(call->loop, &call->returned);
    call->class_->dispose(call->arg);
    evpq__free(call);
}

int fake_calls(void)
{
    int count = 0;
    for (struct evpq__node *n = evpq__list_first(&working); n; n = evpq__list_next(&working, n))
        count++;
    return count;
}

void fake_call_return(void)
{
    struct evpq__node *first = evpq__list_pop_front(&working);
    if (!first)
        fail_msg("no call is under way");
    struct evpq__call *call = evpq__container_of(first, struct evpq__call, node);
    call->class_->work(call->arg);
    if (!call->abandoned) {
        evpq__loop_send(call->loop, &call->returned);
        return;
    }
    call->class_->dispose(call->arg);
    evpq__free(call);
}
