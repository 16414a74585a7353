/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_POOL_POOL_H
#define EVPQ_LIB_POOL_POOL_H

/*
 * The pool as its own files see it.
 *
 * A *slot* is room for one connection, from its dial to its end. A *waiter* is
 * an operation that wants one: a query of the pool, or an acquire. A *lease*
 * is a slot lent to the user.
 */

#include <evpq/pool.h>

#include "base/op.h"
#include "pg/conn.h"
#include "pool/codel.h"
#include "pool/gate.h"
#include "pool/memo.h"
#include "pool/trace.h"

/* State is membership: a slot is on the list of its state, and slot_move() is the only mover. */
enum evpq__slot_state {
    EVPQ__SLOT_DIALING,  /* its connection is being made */
    EVPQ__SLOT_IDLE,     /* ready; the list is LIFO, so the last is idle longest */
    EVPQ__SLOT_BUSY,     /* runs a query, or is lent */
    EVPQ__SLOT_CLEANING, /* waits out what was abandoned, rolls back */
    EVPQ__SLOT_CLOSING,  /* waits for the connection to be gone */
    EVPQ__SLOT_STATES,
};

struct evpq__slot {
    struct evpq__node node;
    enum evpq__slot_state state;
    struct evpq_pool *pool;
    struct evpq__node load;  /* of pool->loads, when it may take one more */
    uint32_t users;          /* BUSY: statements of the pool on it, or 1 for a lease */
    bool shared;             /* BUSY: it may have more than one */
    struct evpq__dial *dial; /* DIALING */
    struct evpq__conn *conn; /* all other states */
    struct evpq_lease *lease;
    uint64_t number;     /* for traces */
    uint32_t generation; /* of the pool, when it was dialed */
    size_t first_host;   /* DIALING: tried before the others; 0: none was */
    size_t host;         /* where its connection leads */
    bool stale;          /* IDLE: serves until its replacement is there; counted in pool->stale */
    const char *why;     /* why the pool closed it */
    int64_t dialed_us;   /* when that began; then, when it was done */
    int64_t idle_since_us;
    int64_t expires_us; /* max_lifetime, less some jitter */
};

enum evpq__pool_state {
    EVPQ__POOL_OPEN,
    EVPQ__POOL_DRAINING, /* closing: takes nothing new, finishes what it has */
    EVPQ__POOL_STOPPING, /* closing: everything has been told to end */
    EVPQ__POOL_ENDING,   /* closing: no connection is left, the helper has been told to end */
    EVPQ__POOL_CLOSED,   /* only the memory is left, for who still keeps it */
};

/* When to dial again, and how many at once. */
struct evpq__backoff {
    unsigned failures;  /* in a row */
    unsigned before;    /* failures in a row, then a success that has proved nothing yet */
    int64_t proven_us;  /* when it has, by having lived so long */
    unsigned allowance; /* dials at a time: 1, doubled by each success */
    int64_t not_before_us;
    struct evpq_error last_error; /* of the last failure in a row */
    unsigned short random[3];     /* erand48(): no global state */
};

/* Blocks that are kept for the next of their kind: query.c. */
struct evpq__spares {
    struct evpq__spare *first;
    uint32_t count;
};

struct evpq_pool {
    struct evpq_pool_options options; /* complete: no default is left to be looked up */
    char *conninfo;
    enum evpq__pool_state state;
    unsigned refs;      /* one is its own, until it is closed */
    struct ev_loop *ev; /* the user's, for gates */
    struct evpq__loop *loop;
    struct evpq__helper *helper; /* NULL until the first dial */

    struct evpq__list slots[EVPQ__SLOT_STATES];
    uint32_t slot_count[EVPQ__SLOT_STATES];
    struct evpq__list waiters; /* operations, FIFO */
    uint32_t waiting;
    struct evpq__list gated;   /* who waits for a limit; none of the rest knows them */
    struct evpq__gate *gates;  /* NULL: no limits */
    struct evpq__list running; /* queries of the pool that have a slot */
    /* Shared slots with n users, at n - 1, as long as n is less than pipeline_depth; none below
     * least_load. NULL when nothing is shared. */
    struct evpq__list *loads;
    uint32_t least_load;
    struct evpq__list leases;
    struct evpq__statements statements;
    struct evpq__spares spare_queries, spare_runs;
    uint32_t ops; /* operations that are not gone yet, queries of leases included */

    struct evpq__backoff backoff;
    size_t good_host; /* found by the last dial that went by their order; 0: the first of them */
    int64_t good_host_until_us;
    struct evpq__timer upkeep;
    int64_t upkeep_at_us; /* when it fires; EVPQ__NO_DEADLINE when it does not run */
    struct evpq__timer close_limit;
    struct evpq__task settle;
    struct evpq__task helper_stopped;
    evpq_closed_fn *on_closed;
    void *on_closed_user;

    struct evpq__conn_rules rules;
    uint32_t generation;   /* connections of an older one are to be replaced */
    uint32_t useless;      /* those of an older one than this must not be used at all */
    uint32_t stale;        /* idle slots that wait for their replacement */
    bool read_write;       /* the conninfo asks for a server that takes writes */
    unsigned warned;       /* a sum of evpq__dial_notice: what has been told */
    int64_t drifted_us;    /* when a server was found to take none, the last time */
    size_t doubted_host;   /* of a session that refused to write */
    int64_t doubted_us;    /* since when, if a dial is still to tell about it; or 0 */
    int64_t cancels_to_us; /* how far cancel requests have used up their budget */
    struct evpq__codel codel;
    uint64_t operations, connections; /* ever, to number them */
    struct evpq__tracer *tracer;      /* NULL when nobody listens */
    struct evpq__memo *memo;          /* of who is above the pool; NULL until it is used */

    struct evpq_pool_stats stats; /* the counters of it */
};

struct evpq__waiter;

/* How an operation takes a slot: of_owner of its class. */
struct evpq__taking {
    void (*granted)(struct evpq__waiter *waiter); /* slot is set */
    /* Before that: it takes the memory that it runs with. False: there is none. NULL: it has it. */
    bool (*equip)(struct evpq__waiter *waiter);
};

/* An operation that wants a slot. */
struct evpq__waiter {
    struct evpq_op op;
    struct evpq_pool *pool; /* counted in pool->ops as long as it lives */
    struct evpq__slot *slot;
    struct evpq__pass *pass; /* through the gates; NULL: there were none */
    uint32_t timeout_ms, acquire_ms;
    uint64_t number;
    int64_t started_us, waits_since_us;
    const char *tag; /* NULL when it has none */
    bool shares;     /* it may run beside others */
    bool first;      /* it waits before all others */
};

/* Through the class, of which a group has a copy for each of its members. */
static inline const struct evpq__taking *evpq__taking(const struct evpq__waiter *waiter)
{
    return waiter->op.class_->of_owner;
}

/* A slot lent to the user. It outlives its slot, and the pool, until it is released. */
struct evpq_lease {
    struct evpq__node node;    /* of pool->leases */
    struct evpq_pool *pool;    /* NULL when it is detached */
    struct evpq__slot *slot;   /* NULL when its connection is gone */
    struct evpq__list queries; /* operations, in the order of their calls */
    uint32_t query_count;
    struct evpq__pass *pass;      /* what it holds of the pool's limits, or NULL */
    struct evpq__waiter *granted; /* who asked for it and was not told yet, or NULL */
    int64_t since_us;
    bool overdue; /* and told so */
    char tag[EVPQ__TAG_SIZE];
    /* The pool that closes has taken its connection away; all that may be done is to release it.
     * For who lends it from us: nobody else is told. */
    void (*on_taken)(struct evpq_lease *lease, void *user);
    void *on_taken_user;
};

/* pool.c: membership. */

/* Is there room for one more operation? Its pass through the limits of the pool and of its tag,
 * NULL without any; EVPQ_ECLOSED, EVPQ_EOVERLOADED, EVPQ_ENOMEM. `goes_on`: also while the pool
 * drains. */
int evpq__pool_admit(struct evpq__pass **pass, struct evpq_pool *pool, const char *tag,
                     bool goes_on);
/*
 * It waits for a slot, and `granted` follows (perhaps before this returns).
 * of_owner of `class_` is an evpq__taking. `acquire_ms` limits the waiting; 0
 * is half of the timeout.
 */
void evpq__pool_enter(struct evpq_pool *pool, struct evpq__waiter *waiter,
                      const struct evpq__op_class *class_, uint32_t timeout_ms,
                      uint32_t acquire_ms);
/* It has passed the gates: it joins the line. */
void evpq__pool_queue(struct evpq__waiter *waiter);
/* It had a slot, and what it asked for had no effect: it waits again, before all others. */
void evpq__pool_reenter(struct evpq__waiter *waiter);
/* The same for one that runs, with a reference for its slot: it lets go of both. */
void evpq__pool_rerun(struct evpq__waiter *waiter);
/* It stops waiting, and its error says why. */
void evpq__pool_leave(struct evpq__waiter *waiter, evpq_code why);
/* An operation is about to call back. */
void evpq__pool_count(const struct evpq__waiter *waiter);
/* The operation's memory is about to go. */
void evpq__pool_op_gone(struct evpq_pool *pool);
/* Who had the slot is done with it. */
void evpq__pool_give_back(struct evpq__slot *slot);
/* Decides what is to be done now. Calls nobody back. */
void evpq__pool_settle(struct evpq_pool *pool);
/* Ends a slot's connection, whatever it does. `why` is static. */
void evpq__pool_retire(struct evpq__slot *slot, uint64_t *counter, const char *why);
/* The idle slot is too old: it goes, or stays until its replacement is there. */
void evpq__pool_outdated(struct evpq__slot *slot);
/* All connections made so far are to be replaced; `useless`: at once. */
void evpq__pool_expire(struct evpq_pool *pool, bool useless, const char *why);
/* A statement on this slot has failed: what that says of the server, and what its caller should
 * know. */
void evpq__pool_statement_failed(struct evpq__slot *slot, bool leased,
                                 const struct evpq__request *request, struct evpq_error *error);
/* Of a pool for writing, and says that it takes none: then the others are looked at, too. */
bool evpq__pool_takes_no_writes(struct evpq__slot *slot);
/* This slot has been dialed: that may settle whether the host of another takes writes. */
void evpq__pool_settle_doubt(struct evpq__slot *slot);

/* The memory of a pool outlives its close while somebody keeps it (a pager). */
void evpq__pool_ref(struct evpq_pool *pool);
void evpq__pool_unref(struct evpq_pool *pool);

static inline uint32_t evpq__pool_total(const struct evpq_pool *pool)
{
    uint32_t total = 0;
    for (int state = 0; state < EVPQ__SLOT_STATES; state++)
        total += pool->slot_count[state];
    return total;
}

/* What was asked for; 0, or nothing: what the pool has for it. */
static inline uint32_t evpq__pool_timeout(const struct evpq_pool *pool, uint32_t timeout_ms)
{
    return timeout_ms ? timeout_ms : pool->options.query_timeout_ms;
}

static inline bool evpq__pool_server_timeout(const struct evpq_pool *pool, evpq_switch asked)
{
    return (asked ? asked : pool->options.server_timeout) == EVPQ_ON;
}

/* The default of acquire_timeout_ms: half of what the operation has (design: a pool whose waiters
 * wait until their deadline answers almost nobody in time when it is overloaded). */
static inline uint32_t evpq__pool_half(uint32_t timeout_ms)
{
    return timeout_ms == EVPQ_NEVER ? EVPQ_NEVER : timeout_ms - timeout_ms / 2;
}

/* close.c: the end of a pool. */

/* One step towards it, when nobody has anything under way. */
void evpq__pool_close_step(struct evpq_pool *pool);
void evpq__pool_on_close_limit(struct evpq__timer *timer);
void evpq__pool_on_helper_stopped(struct evpq__task *task);

/* stats.c: what a pool says of itself. */

/* As snprintf(). `waiter`, or NULL, has waited in vain. */
size_t evpq__pool_snapshot(const struct evpq_pool *pool, char *out, size_t capacity);
/* Sets the error of who has waited in vain. */
void evpq__pool_set_timeout(const struct evpq__waiter *waiter, struct evpq_error *err);
void evpq__pool_set_shed(const struct evpq__waiter *waiter, struct evpq_error *err);
/* Traces, when somebody listens. */
static inline void evpq__pool_trace(const struct evpq_pool *pool, const evpq_trace *event,
                                    const struct evpq_error *error)
{
    if (evpq__tracer_wants(pool->tracer, event->kind))
        evpq__tracer_add(pool->tracer, event, error);
}
void evpq__pool_trace_slot(const struct evpq__slot *slot, evpq_trace_kind kind, int64_t since_us,
                           const char *why);
/* Tells of a connection's evpq__dial_notice, each once for the pool. */
void evpq__pool_warn(const struct evpq__slot *slot, unsigned notices);
void evpq__pool_tell_op(const struct evpq__waiter *waiter, evpq_trace_kind kind, int64_t since_us);
static inline void evpq__pool_trace_op(const struct evpq__waiter *waiter, evpq_trace_kind kind,
                                       int64_t since_us)
{
    const struct evpq__tracer *tracer = waiter->pool->tracer;
    if (tracer && evpq__tracer_wants(tracer, kind))
        evpq__pool_tell_op(waiter, kind, since_us);
}

/* options.c: `out` gets what the user set and the defaults of the rest; a problem, or NULL. */
const char *evpq__pool_options_read(struct evpq_pool_options *out,
                                    const struct evpq_pool_options *options);

/* upkeep.c: time. */

void evpq__upkeep_init(struct evpq_pool *pool);
void evpq__upkeep_done(struct evpq_pool *pool);
/* The moment at which a connection made now is too old. */
int64_t evpq__upkeep_expiry(struct evpq_pool *pool);
/* Wakes up for this slot, which has just become idle. */
void evpq__upkeep_watch(struct evpq_pool *pool, const struct evpq__slot *slot);
/* The host that a dial is to try first, and the one that such a dial has found. */
size_t evpq__upkeep_first_host(struct evpq_pool *pool);
void evpq__upkeep_host_found(struct evpq_pool *pool, size_t first_host, size_t found);
/* How many dials may start now. When none may yet, upkeep will settle the pool at the time. */
uint32_t evpq__upkeep_dials(struct evpq_pool *pool);
void evpq__upkeep_dial_failed(struct evpq_pool *pool, struct evpq__dialed *dialed);
void evpq__upkeep_dial_succeeded(struct evpq_pool *pool);
/* The server has ended a connection, in its words or without. */
void evpq__upkeep_lost(struct evpq_pool *pool, const struct evpq__slot *slot);
/* A connection has answered a statement. */
void evpq__upkeep_proven(struct evpq_pool *pool);
/* Wakes up when this lease, the youngest, is overdue. */
void evpq__upkeep_watch_lease(struct evpq_pool *pool, const struct evpq_lease *lease);
/* A cancel request wants to leave: 0, and it counts; or the moment before which it must not. */
int64_t evpq__upkeep_may_cancel(struct evpq_pool *pool);
/* Is the idle slot too old, by its age or its generation? */
bool evpq__upkeep_outdated(const struct evpq__slot *slot, int64_t now_us);

/* query.c: one statement, of the pool or of a lease. */

/* As evpq_pool_query(); goes_on: it is a step of an operation that is under way, which a pool that
 * closes lets finish. */
int evpq__pool_query(evpq_op **out, struct evpq_pool *pool, const evpq_query *query, bool goes_on,
                     evpq_result_fn *on_result, void *user);
/* A question of ours about the server, which must not wait for as long as users do: before all who
 * wait, past the limits, for all of its time. */
int evpq__pool_ask(evpq_op **out, struct evpq_pool *pool, const evpq_query *query,
                   evpq_result_fn *on_result, void *user);

/* The limit of a result's bytes: what was asked for, or the pool's. 0: none. */
size_t evpq__pool_result_limit(const struct evpq_pool *pool, size_t bytes);
void evpq__query_free_spares(struct evpq_pool *pool);

/* lease.c */

/* May it be given one more operation? Else what the call answers. */
int evpq__lease_admit(const struct evpq_lease *lease);
/* It has its slot at once, and waits in the line of its connection. Counted until its node is
 * unlinked and query_count lowered. */
void evpq__lease_enter(struct evpq_lease *lease, struct evpq__waiter *waiter,
                       const struct evpq__op_class *class_, uint32_t timeout_ms);
/* Stops what has not finished. */
void evpq__lease_stop_queries(struct evpq_lease *lease, evpq_code why);
/* Its connection is gone, or taken away; the handle stays with the user. */
void evpq__lease_detach(struct evpq_lease *lease);

#endif /* EVPQ_LIB_POOL_POOL_H */
