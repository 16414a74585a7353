/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_CONN_H
#define EVPQ_LIB_PG_CONN_H

/*
 * One connection: statements in, answers out, in libpq's pipeline mode. It
 * alone drives a PGconn. Its owner (the pool) submits requests, hands the
 * connection back with evpq__conn_recycle(), and learns when it is clean again
 * or lost. No function here calls back before it returns.
 */

#include "pg/dial.h"
#include "pg/result.h"
#include "pg/statements.h"

struct evpq__conn;
struct evpq__prepared;
struct evpq__request;

/* Rows that are handed over before their result is complete: chunk.c. */
struct evpq__chunks {
    uint32_t rows; /* at most in one; 0: the whole result at once */
    size_t bytes;  /* from so many on a chunk is full */
    /* Some rows have come, to be owned; NULL: there was no memory for them. */
    void (*ready)(struct evpq__request *request, struct evpq_result *chunk);
    bool held; /* nothing more is taken, nor read; evpq__conn_hold() sets it, or `ready` */

    /* The connection's. */
    bool mode_set;
    uint64_t affected;           /* as libpq 17 tells it: with the last rows, not with the end */
    struct evpq__rows *gathered; /* of single rows, or NULL */
    PGresult *like;              /* the first of them */
};

/* One statement and its Sync. The memory is its owner's, until `done` has run or it was withdrawn.
 */
struct evpq__request {
    struct evpq__node node;
    struct evpq__statement *statement;
    struct evpq__params params;
    bool binary_result;
    int64_t deadline_us; /* what the server's timeout is derived from */
    bool server_timeout; /* wanted: statement_timeout travels ahead of it */
    size_t max_bytes;    /* of the result; 0: any */
    bool alone;          /* sent when nothing is in flight, and nothing is sent behind it; those of
                            one batch do not mind each other */
    const void *batch;   /* whose they are; NULL: of none */
    bool joined;         /* no Sync behind it: it shares that, and its outcome, with the next */
    bool no_result;      /* `done` gets none when it has succeeded, and no error */
    evpq_switch prepare; /* its statement: at the first use, never, or (default) at the second */
    /*
     * Once, from the loop: the statement is over. `result` (to be owned) or
     * `error` (to be moved from) says how; for an abandoned one it does not
     * matter any more.
     */
    void (*done)(struct evpq__request *request, struct evpq_result *result,
                 struct evpq_error *error);
    struct evpq__chunks chunks;
    /* At most once, from the loop: it is about to be sent. May be NULL. */
    void (*sent)(struct evpq__request *request);

    /* The connection's. */
    bool in_flight, abandoned;
    bool exposed;      /* a cancel request of ours was under way with it */
    bool cancel_tried; /* a cancel request has been meant for it */
    bool victim;       /* in `done`: our cancel of another one has hit it; it had no effect */
    bool prepares;     /* its Prepare goes ahead of it */
    bool stale;        /* it failed because its prepared statement is not what it was */
    bool failed; /* in `done`: the error is its own, and not of another that it is joined to */
    bool again;  /* for that reason it goes a second time, without */
    struct evpq__prepared *prepared; /* what it runs; NULL: it brings its text */
    unsigned preludes;               /* answers still to come that are not its own */
    uint32_t limit_ms;               /* the server's timeout; 0: none */
    int64_t limit_us;         /* the server cannot have stopped it for that before this moment */
    int64_t ran_us;           /* in `done`: for how long its answer was the next to come */
    uint64_t received_before; /* bytes on the connection, when its answer could begin */
    PGresult *answer;         /* joined: what has come for it, before the Sync */
};

/* How a connection is to behave; lives as long as its connections. */
struct evpq__conn_rules {
    uint32_t cancel_timeout_ms;
    evpq_cancel_policy cancel_policy;
    uint32_t depth;             /* statements in flight at most */
    bool reset;                 /* DISCARD ALL before the next user */
    uint32_t statements;        /* kept prepared on the server, at most; 0: none */
    uint32_t statements_pooled; /* the same behind a pooler */
    size_t statement_bytes;     /* of ours, for all of them */
};

struct evpq__conn_class {
    /* After evpq__conn_recycle(): idle, in sync, outside a transaction. */
    void (*clean)(void *owner);
    /* It is closed, all requests are done. The owner frees it. */
    void (*lost)(void *owner);
    /* A cancel request is about to leave: 0, or the moment before which it must not. */
    int64_t (*canceling)(void *owner);
};

/* Takes over what was dialed. NULL without memory: then the connection is closed. */
struct evpq__conn *evpq__conn_new(struct evpq__loop *loop, struct evpq__helper *helper,
                                  struct evpq__dialed *dialed, const struct evpq__conn_rules *rules,
                                  const struct evpq__conn_class *class_, void *owner);
/* Only when it is lost. */
void evpq__conn_free(struct evpq__conn *conn);

/* Statements run in this order, `depth` at a time. When the connection is gone, `done` says so. */
void evpq__conn_submit(struct evpq__conn *conn, struct evpq__request *request);
/* In `done`: it failed for its prepared statement only. Given again, it brings its text. Not in a
 * transaction, which has failed with it. */
bool evpq__conn_may_repeat(const struct evpq__conn *conn, const struct evpq__request *request);
/* Given again, before all that have not been sent; several from the last to the first. */
void evpq__conn_repeat(struct evpq__conn *conn, struct evpq__request *request);

/*
 * Nobody waits for this request any more. True: it had not been sent, is
 * withdrawn, and `done` will not run. False: it is stopped on the server as the
 * cancel policy says, and `done` runs when it is over there, or the connection is.
 */
bool evpq__conn_abandon(struct evpq__conn *conn, struct evpq__request *request);

/* Nothing more of its answer is taken, nor read from the socket; or it goes on. */
void evpq__conn_hold(struct evpq__conn *conn, struct evpq__request *request, bool held);

/*
 * The user is done with it. True: it is clean now. False: it is being cleaned;
 * `clean` or `lost` follows.
 */
bool evpq__conn_recycle(struct evpq__conn *conn);

/* Ends it: `lost` follows. What has been submitted is over with EDISCONNECTED. */
void evpq__conn_close(struct evpq__conn *conn);

/* Still there, as far as is known. */
bool evpq__conn_alive(const struct evpq__conn *conn);
/* Looks at the socket: the server has said nothing while the connection was idle. */
bool evpq__conn_quiet(const struct evpq__conn *conn);
/* It has handled something huge, and libpq does not give memory back: better a new one. */
bool evpq__conn_worn(const struct evpq__conn *conn);
/* It would take one more statement beside those it has, and run it soon. */
bool evpq__conn_shares(const struct evpq__conn *conn, int64_t now_us);
/* It has answered a statement. */
bool evpq__conn_proven(const struct evpq__conn *conn);
/* The server has said that it is a standby; that this session takes no writes. */
bool evpq__conn_in_standby(const struct evpq__conn *conn);
bool evpq__conn_read_only(const struct evpq__conn *conn);
int evpq__conn_backend_pid(const struct evpq__conn *conn);
/* It was ended by the server or the network, not by us. */
bool evpq__conn_broken(const struct evpq__conn *conn);
/* Why it was closed, in a few fixed words; "" while nothing is known. */
const char *evpq__conn_why(const struct evpq__conn *conn);

#endif /* EVPQ_LIB_PG_CONN_H */
