/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_BASE_OP_H
#define EVPQ_LIB_BASE_OP_H

#include <evpq/op.h>

#include "base/error.h"
#include "base/list.h"
#include "base/loop.h"

/*
 * One operation: a deadline, a cancel, *finish* once (the first word wins),
 * *deliver* once from the loop. What kind it is (query, acquire, page) is its
 * class, and knows what it waits for.
 *
 *              start        finish            deliver
 *   WAITING <=========> SENT ------> FINISHED -------> DELIVERED
 *      |      again                    ^
 *      +-------------------------------+  also by deadline, cancel, close
 */
enum evpq__op_state {
    EVPQ__OP_WAITING,   /* in a queue of ours; nothing has been sent */
    EVPQ__OP_SENT,      /* somebody else has the word */
    EVPQ__OP_FINISHED,  /* its outcome is known; the callback is posted */
    EVPQ__OP_DELIVERED, /* the callback has run, or is running */
};

struct evpq__op_class {
    /*
     * It ends early: ETIMEOUT, ECANCELED or ECLOSED. Leave whatever it waits
     * in, and set the error. It is finished after that.
     */
    void (*stop)(struct evpq_op *op, evpq_code why);
    /* Run the user's callback. */
    void (*deliver)(struct evpq_op *op);
    /* The last reference is gone. */
    void (*destroy)(struct evpq_op *op);
    /* What its owner has to know of such operations, or NULL. */
    const void *of_owner;
};

struct evpq_op {
    const struct evpq__op_class *class_;
    struct evpq__loop *loop;
    enum evpq__op_state state;
    unsigned refs; /* one is the delivery's; others are of those who still point here */
    int64_t deadline_us;
    struct evpq_error error;
    struct evpq__node node; /* of its owner's */
    /* One place for both: 100,000 may wait. */
    union {
        struct evpq__timer timer;   /* until it is finished */
        struct evpq__task delivery; /* from then on */
    };
};

/* With one reference, which delivery takes away. */
void evpq__op_init(struct evpq_op *op, const struct evpq__op_class *class_, struct evpq__loop *loop,
                   int64_t deadline_us);
/* The same, but its timer has still to be set, with evpq__op_limit(): for who knows only then
 * whether it waits, and until when. */
void evpq__op_prepare(struct evpq_op *op, const struct evpq__op_class *class_,
                      struct evpq__loop *loop, int64_t deadline_us);
/* Is stopped with ETIMEOUT at this moment, at the latest: a stage shorter than the deadline. */
void evpq__op_limit(struct evpq_op *op, int64_t at_us);
void evpq__op_sent(struct evpq_op *op);
/* It had no effect there, and waits once more; its deadline stays. Also when it has finished, and
 * nobody was told yet. Its timer has to be set with evpq__op_limit(). */
void evpq__op_again(struct evpq_op *op);
static inline bool evpq__op_finished(const struct evpq_op *op)
{
    return op->state >= EVPQ__OP_FINISHED;
}
/* Its outcome is set. Does nothing when it had one. */
void evpq__op_finish(struct evpq_op *op);
/* The same, and calls back before it returns: only from a callback of another operation, which the
 * loop runs, and as the last that is done to it there. */
void evpq__op_finish_now(struct evpq_op *op);
/* The two halves of it, for one whose outcome is known before it may be told. */
void evpq__op_decide(struct evpq_op *op);
void evpq__op_post(struct evpq_op *op);
/* Ends it early, as a deadline or cancel does. Does nothing when it has finished. */
void evpq__op_stop(struct evpq_op *op, evpq_code why);
/* Takes back one that was never told to the caller: no callback, and one reference less. */
void evpq__op_discard(struct evpq_op *op);

void evpq__op_ref(struct evpq_op *op);
void evpq__op_unref(struct evpq_op *op);

#endif /* EVPQ_LIB_BASE_OP_H */
