/* SPDX-License-Identifier: MIT */
/*
 *   COLLECTING ---> WAITED ---> (told, and gone)
 *        \
 *         +-------> CLOSED ---> (gone)
 *
 * Apart from that it is *decided* once, as its operation is finished: by its
 * members, its deadline, a cancel. Then the members that are left are stopped,
 * and when the last of them has called back the group is told.
 */
#include <evpq/group.h>

#include <assert.h>

#include "base/mem.h"
#include "base/options.h"
#include "flow/member.h"

enum group_state {
    GROUP_COLLECTING, /* takes members */
    GROUP_WAITED,     /* has its callback */
    GROUP_CLOSED,     /* is told to nobody */
};

struct part {
    struct evpq__member member;
    struct evpq_group *group;
    struct evpq_error error;
};

struct evpq_group {
    struct evpq_op op;
    enum group_state state;
    evpq_group_mode mode;
    uint32_t need, timeout_ms;
    struct part **parts;
    uint32_t size, room;
    uint32_t active, succeeded;
    const struct part *first_failed;
    evpq_group_fn *on_done;
    void *user;
};

/* When it is decided and nobody is under way, it is over. */
static void group_step(struct evpq_group *g)
{
    if (!evpq__op_finished(&g->op) || g->active > 0)
        return;
    if (g->state == GROUP_WAITED)
        evpq__op_post(&g->op);
    else if (g->state == GROUP_CLOSED)
        evpq__op_unref(&g->op);
}

static void stop_members(struct evpq_group *g)
{
    for (uint32_t i = 0; i < g->size; i++)
        if (g->parts[i]->member.op)
            evpq__op_stop(g->parts[i]->member.op, EVPQ_ECANCELED);
}

static void decide(struct evpq_group *g, bool failed)
{
    if (failed)
        evpq__error_copy(&g->op.error, &g->first_failed->error);
    evpq__op_decide(&g->op);
    stop_members(g);
}

/* Has its mode been met, or can it not be any more? */
static void judge(struct evpq_group *g)
{
    bool complete = g->state == GROUP_WAITED;
    uint32_t failed = g->size - g->active - g->succeeded;
    if (evpq__op_finished(&g->op))
        return;
    switch (g->mode) {
    case EVPQ_GROUP_FAIL_FAST:
        if (failed > 0) {
            decide(g, true);
            break;
        }
        /* fall through */
    case EVPQ_GROUP_ALL:
        if (complete && g->active == 0)
            decide(g, failed > 0);
        break;
    case EVPQ_GROUP_SOME:
        if (g->succeeded >= g->need)
            decide(g, false);
        else if (complete && g->size - failed < g->need)
            decide(g, true);
        break;
    }
}

static void part_over(struct part *part)
{
    struct evpq_group *g = part->group;
    g->active--;
    if (part->error.code == EVPQ_OK)
        g->succeeded++;
    else if (!g->first_failed)
        g->first_failed = part;
    judge(g);
    group_step(g);
}

static void on_member_over(struct evpq__member *member, const struct evpq_error *error)
{
    struct part *part = evpq__container_of(member, struct part, member);
    if (error->code != EVPQ_OK)
        evpq__error_copy(&part->error, error);
    part_over(part);
}

/* The operation */

static void group_stop(struct evpq_op *op, evpq_code why)
{
    struct evpq_group *g = evpq__container_of(op, struct evpq_group, op);
    if (why == EVPQ_ETIMEOUT)
        evpq__error_set(&op->error, why, EVPQ_UNKNOWN,
                        "the deadline of %u ms passed with %u of %u members under way",
                        g->timeout_ms, g->active, g->size);
    else
        evpq__error_set(&op->error, why, EVPQ_UNKNOWN, "the group was cancelled");
    evpq__op_decide(op);
    stop_members(g);
    group_step(g);
}

static void group_deliver(struct evpq_op *op)
{
    struct evpq_group *g = evpq__container_of(op, struct evpq_group, op);
    g->on_done(g, op->error.code == EVPQ_OK ? NULL : &op->error, g->user);
}

static void group_destroy(struct evpq_op *op)
{
    struct evpq_group *g = evpq__container_of(op, struct evpq_group, op);
    struct evpq__loop *loop = op->loop;
    for (uint32_t i = 0; i < g->size; i++) {
        evpq__error_clear(&g->parts[i]->error);
        evpq__free(g->parts[i]);
    }
    evpq__free(g->parts);
    evpq__free(g);
    evpq__loop_free(loop);
}

static const struct evpq__op_class group_class = {
    .stop = group_stop, .deliver = group_deliver, .destroy = group_destroy};

/* Members */

static struct part *part_new(struct evpq_group *g)
{
    if (g->size == g->room) {
        uint32_t room = g->room ? 2 * g->room : 8;
        struct part **parts = evpq__alloc(room * sizeof(*parts));
        if (!parts)
            return NULL;
        for (uint32_t i = 0; i < g->size; i++)
            parts[i] = g->parts[i];
        evpq__free(g->parts);
        g->parts = parts;
        g->room = room;
    }
    struct part *part = evpq__alloc(sizeof(*part));
    if (part)
        part->group = g;
    return part;
}

int evpq_group_add(evpq_group *g, int started, evpq_op *const *op)
{
    if (!g || g->state != GROUP_COLLECTING || started > EVPQ_OK ||
        (started == EVPQ_OK && (!op || !*op)))
        return EVPQ_EINVALID;
    struct part *part = part_new(g);
    if (!part)
        return EVPQ_ENOMEM;
    if (started == EVPQ_OK && !evpq__member_watch(&part->member, *op, on_member_over)) {
        evpq__free(part);
        return EVPQ_EINVALID;
    }
    g->parts[g->size++] = part;
    g->active++;
    if (started != EVPQ_OK) {
        evpq__error_set(&part->error, (evpq_code)started, EVPQ_NOT_SENT, "could not start: %s",
                        evpq_code_text(started));
        part_over(part);
    } else if (evpq__op_finished(&g->op)) {
        evpq__op_stop(*op, EVPQ_ECANCELED);
    }
    return EVPQ_OK;
}

int evpq_group_wait(evpq_op **out, evpq_group *g, evpq_group_fn *on_done, void *user)
{
    if (!g || !on_done || g->state != GROUP_COLLECTING || g->need > g->size)
        return EVPQ_EINVALID;
    g->state = GROUP_WAITED;
    g->on_done = on_done;
    g->user = user;
    if (out)
        *out = &g->op;
    judge(g);
    group_step(g);
    return EVPQ_OK;
}

void evpq_group_close(evpq_group *g)
{
    if (!g)
        return;
    if (g->state == GROUP_WAITED) {
        evpq_op_cancel(&g->op);
        return;
    }
    assert(g->state == GROUP_COLLECTING);
    g->state = GROUP_CLOSED;
    if (evpq__op_finished(&g->op))
        group_step(g);
    else
        group_stop(&g->op, EVPQ_ECLOSED);
}

/* Asking */

uint32_t evpq_group_size(const evpq_group *g)
{
    return g ? g->size : 0;
}

uint32_t evpq_group_succeeded(const evpq_group *g)
{
    return g ? g->succeeded : 0;
}

const evpq_error *evpq_group_member_error(const evpq_group *g, uint32_t index)
{
    if (!g || index >= g->size || g->parts[index]->error.code == EVPQ_OK)
        return NULL;
    return &g->parts[index]->error;
}

/* Opening */

static const char *options_read(evpq_group_options *out, const evpq_group_options *options)
{
    static const evpq_group_options all_defaults = {.size = sizeof(all_defaults)};
    const char *problem = evpq__options_read(out, sizeof(*out), options ? options : &all_defaults);
    if (problem)
        return problem;
    if (out->timeout_ms == 0)
        out->timeout_ms = EVPQ_NEVER;
    if (out->mode < EVPQ_GROUP_ALL || out->mode > EVPQ_GROUP_SOME)
        return "mode is none of evpq_group_mode";
    if (out->mode == EVPQ_GROUP_SOME && out->need == 0)
        return "need is not set";
    if (out->mode != EVPQ_GROUP_SOME && out->need > 0)
        return "need is for EVPQ_GROUP_SOME";
    return NULL;
}

const char *evpq_group_options_problem(const evpq_group_options *options)
{
    evpq_group_options complete;
    return options_read(&complete, options);
}

int evpq_group_open(evpq_group **out, struct ev_loop *loop, const evpq_group_options *options)
{
    evpq_group_options complete;
    if (!out || !loop || options_read(&complete, options))
        return EVPQ_EINVALID;
    struct evpq_group *g = evpq__alloc(sizeof(*g));
    struct evpq__loop *own = g ? evpq__loop_new_quiet(loop) : NULL;
    if (!own) {
        evpq__free(g);
        return EVPQ_ENOMEM;
    }
    g->mode = complete.mode;
    g->need = complete.need;
    g->timeout_ms = complete.timeout_ms;
    evpq__op_init(&g->op, &group_class, own, evpq__loop_deadline(own, g->timeout_ms));
    *out = g;
    return EVPQ_OK;
}
