/* SPDX-License-Identifier: MIT */
#include "base/helper.h"

#include <pthread.h>
#include <signal.h>

#include "base/mem.h"

/* A new thread inherits the mask, so signals stay the program's business. */
static int start_thread(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                        void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

struct evpq__helper {
    struct evpq__loop *home, *loop;
    pthread_t thread;
    struct evpq__task stop;  /* sent to the thread */
    struct evpq__task ended; /* sent home, as the last the thread does */
    struct evpq__task *stopped;
};

static void *helper_main(void *arg)
{
    struct evpq__helper *helper = arg;
    evpq__loop_run(helper->loop);
    evpq__loop_send(helper->home, &helper->ended);
    return NULL;
}

static void helper_on_stop(struct evpq__task *task)
{
    struct evpq__helper *helper = evpq__container_of(task, struct evpq__helper, stop);
    evpq__loop_break(helper->loop);
}

/* At home: the thread has nothing left to do, so that joining it takes no time. */
static void helper_on_ended(struct evpq__task *task)
{
    struct evpq__helper *helper = evpq__container_of(task, struct evpq__helper, ended);
    pthread_join(helper->thread, NULL);
    evpq__loop_free(helper->loop);
    evpq__loop_post(helper->home, EVPQ__SOON, helper->stopped);
    evpq__free(helper);
}

struct evpq__helper *evpq__helper_start(struct evpq__loop *home)
{
    struct evpq__helper *helper = evpq__alloc(sizeof(*helper));
    if (!helper)
        return NULL;
    helper->home = home;
    helper->loop = evpq__loop_new_own();
    evpq__task_init(&helper->stop, helper_on_stop);
    evpq__task_init(&helper->ended, helper_on_ended);
    if (helper->loop && start_thread(&helper->thread, NULL, helper_main, helper) == 0)
        return helper;
    if (helper->loop)
        evpq__loop_free(helper->loop);
    evpq__free(helper);
    return NULL;
}

struct evpq__loop *evpq__helper_loop(struct evpq__helper *helper)
{
    return helper->loop;
}

void evpq__helper_stop(struct evpq__helper *helper, struct evpq__task *stopped)
{
    helper->stopped = stopped;
    evpq__loop_send(helper->loop, &helper->stop);
}

/* Calls */

struct evpq__call {
    const struct evpq__call_class *class_;
    void *arg;
    struct evpq__loop *loop;
    struct evpq__task returned;
    pthread_mutex_t mutex;
    enum {
        CALL_WORKING,   /* the thread is in work() */
        CALL_RETURNED,  /* `returned` is on its way; the thread touches nothing any more */
        CALL_ABANDONED, /* nobody waits: the thread disposes */
    } state;            /* guarded by mutex */
};

static void call_free(struct evpq__call *call)
{
    pthread_mutex_destroy(&call->mutex);
    evpq__free(call);
}

static void *call_main(void *arg)
{
    struct evpq__call *call = arg;
    call->class_->work(call->arg);
    pthread_mutex_lock(&call->mutex);
    bool abandoned = call->state == CALL_ABANDONED;
    if (!abandoned) {
        call->state = CALL_RETURNED;
        evpq__loop_send(call->loop, &call->returned);
    }
    pthread_mutex_unlock(&call->mutex);
    if (abandoned) {
        call->class_->dispose(call->arg);
        call_free(call);
    }
    return NULL;
}

static void call_on_returned(struct evpq__task *task)
{
    struct evpq__call *call = evpq__container_of(task, struct evpq__call, returned);
    /* Wait for the thread's unlock: it is the last that it does with the call. */
    pthread_mutex_lock(&call->mutex);
    pthread_mutex_unlock(&call->mutex);
    const struct evpq__call_class *class_ = call->class_;
    void *its_arg = call->arg;
    call_free(call);
    class_->done(its_arg);
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
    call->state = CALL_WORKING;
    evpq__task_init(&call->returned, call_on_returned);
    pthread_attr_t attr;
    if (pthread_mutex_init(&call->mutex, NULL) != 0) {
        evpq__free(call);
        return NULL;
    }
    pthread_t thread;
    int failed = pthread_attr_init(&attr);
    if (!failed) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        failed = start_thread(&thread, &attr, call_main, call);
        pthread_attr_destroy(&attr);
    }
    if (failed) {
        call_free(call);
        return NULL;
    }
    return call;
}

void evpq__call_abandon(struct evpq__call *call)
{
    pthread_mutex_lock(&call->mutex);
    bool returned = call->state == CALL_RETURNED;
    call->state = CALL_ABANDONED;
    pthread_mutex_unlock(&call->mutex);
    if (!returned)
        return;
    evpq__loop_unpost(call->loop, &call->returned);
    call->class_->dispose(call->arg);
    call_free(call);
}
