/* SPDX-License-Identifier: MIT */
#include "pool/trace.h"

#include <string.h>

#include "base/mem.h"

enum { ROOM_FIRST = 32, ROOM_MAX = 1024 };

/* An event with its texts; `why` is static. */
struct kept {
    evpq_trace event;
    char tag[EVPQ__TAG_SIZE];
    char sqlstate[6];
};

struct evpq__tracer {
    struct evpq__loop *loop;
    evpq_trace_fn *on_trace;
    void *user;
    uint32_t kinds;
    struct evpq__task deliver;
    struct kept *ring; /* grows to ROOM_MAX, a power of two */
    size_t room, first, count;
    uint64_t lost; /* since the last one that was kept */
};

const char *evpq_trace_kind_name(evpq_trace_kind kind)
{
    static const char *const names[] = {"dialed",   "dial failed",   "acquired", "sent",
                                        "finished", "canceled",      "rerun",    "closed",
                                        "expired",  "lease overdue", "warning"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((unsigned)kind == 1u << i)
            return names[i];
    return "?";
}

/* The oldest is copied out first: the callback may cause events, and the ring may move. */
static void tell_one(struct evpq__tracer *tracer)
{
    struct kept kept = tracer->ring[tracer->first];
    tracer->first = (tracer->first + 1) & (tracer->room - 1);
    tracer->count--;
    kept.event.tag = kept.tag;
    kept.event.sqlstate = kept.sqlstate;
    tracer->on_trace(&kept.event, tracer->user);
}

static void tracer_on_deliver(struct evpq__task *task)
{
    struct evpq__tracer *tracer = evpq__container_of(task, struct evpq__tracer, deliver);
    /* Those that are added meanwhile have a turn of their own. */
    for (size_t n = tracer->count; n > 0; n--)
        tell_one(tracer);
}

struct evpq__tracer *evpq__tracer_new(struct evpq__loop *loop, evpq_trace_fn *on_trace, void *user,
                                      uint32_t kinds)
{
    struct evpq__tracer *tracer = evpq__alloc(sizeof(*tracer));
    if (!tracer)
        return NULL;
    tracer->loop = loop;
    tracer->on_trace = on_trace;
    tracer->user = user;
    tracer->kinds = kinds ? kinds : UINT32_MAX;
    evpq__task_init(&tracer->deliver, tracer_on_deliver);
    return tracer;
}

void evpq__tracer_end(struct evpq__tracer *tracer)
{
    if (!tracer)
        return;
    evpq__loop_unpost(tracer->loop, &tracer->deliver);
    while (tracer->count > 0)
        tell_one(tracer);
    evpq__free(tracer->ring);
    evpq__free(tracer);
}

bool evpq__tracer_wants(const struct evpq__tracer *tracer, evpq_trace_kind kind)
{
    return tracer && (tracer->kinds & kind);
}

/* False: no room is left. */
static bool make_room(struct evpq__tracer *tracer)
{
    if (tracer->count < tracer->room)
        return true;
    size_t room = tracer->room ? tracer->room * 2 : ROOM_FIRST;
    struct kept *ring = room <= ROOM_MAX ? evpq__alloc(room * sizeof(*ring)) : NULL;
    if (!ring)
        return false;
    for (size_t i = 0; i < tracer->count; i++)
        ring[i] = tracer->ring[(tracer->first + i) & (tracer->room - 1)];
    evpq__free(tracer->ring);
    tracer->ring = ring;
    tracer->room = room;
    tracer->first = 0;
    return true;
}

static void copy_text(char *out, size_t capacity, const char *text)
{
    size_t length = text ? strnlen(text, capacity - 1) : 0;
    if (length)
        memcpy(out, text, length);
    out[length] = '\0';
}

void evpq__tracer_add(struct evpq__tracer *tracer, const evpq_trace *event,
                      const struct evpq_error *error)
{
    if (!make_room(tracer)) {
        tracer->lost++;
        return;
    }
    struct kept *kept = &tracer->ring[(tracer->first + tracer->count++) & (tracer->room - 1)];
    kept->event = *event;
    kept->event.at_us = evpq__loop_now(tracer->loop);
    kept->event.lost = tracer->lost;
    tracer->lost = 0;
    if (!event->why)
        kept->event.why = "";
    if (error && error->code != EVPQ_OK) {
        kept->event.code = error->code;
        kept->event.fate = error->fate;
    }
    copy_text(kept->tag, sizeof(kept->tag), event->tag);
    copy_text(kept->sqlstate, sizeof(kept->sqlstate), error ? evpq_error_sqlstate(error) : NULL);
    evpq__loop_post(tracer->loop, EVPQ__SOON, &tracer->deliver);
}
