/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_CONN_PARTS_H
#define EVPQ_LIB_PG_CONN_PARTS_H

/*
 * The inside of a connection, for the six files that are it: send.c sends,
 * conn.c takes answers, segment.c those of several statements before one Sync,
 * chunk.c rows before their result is complete, drain.c cleans, closing.c ends.
 *
 *            submit              abandoned, or recycled unclean
 *   IDLE <===========> BUSY ----------------------> DRAINING
 *    |  last one done   |                            |    |
 *    |<-----------------|----------------------------+    | the bound, or
 *    |                  |     waited out, cleaned         | broken
 *    +------------------+-----> CLOSING <-----------------+
 *       broken, closed             |
 *                                  v  server and cancel request are done, or the bound
 *                               CLOSED
 */

#include "pg/conn.h"
#include "pg/prepared.h"

/* A result above this leaves libpq with a buffer of that size for good. */
enum { EVPQ__WORN_BYTES = 8 * 1024 * 1024 };

enum evpq__conn_state {
    EVPQ__CONN_IDLE,     /* nothing queued, nothing in flight */
    EVPQ__CONN_BUSY,     /* requests queued or in flight */
    EVPQ__CONN_DRAINING, /* an abandoned request is waited out, or the session cleaned */
    EVPQ__CONN_CLOSING,  /* goodbye has been said; the server, or a cancel request, is not done */
    EVPQ__CONN_CLOSED,   /* the owner has been told */
    EVPQ__CONN_STATES,
};

struct evpq__conn {
    struct evpq__loop *loop;
    struct evpq__helper *helper;
    const struct evpq__conn_rules *rules;
    const struct evpq__conn_class *class_;
    void *owner;
    enum evpq__conn_state state;
    PGconn *pg; /* NULL when the server has let go */
    int backend_pid;
    struct evpq__cancel *cancel;
    struct evpq__notices *notices;
    struct evpq__io io;
    struct evpq__task pump;
    bool *gone; /* of the handler that is delivering; set when we are freed meanwhile */
    struct evpq__list queued, sent;
    size_t in_flight;  /* length of sent */
    size_t streams;    /* of them, that hand rows over before their result is complete */
    const char *why;   /* set: it is closed, or the pump is to close it */
    bool hold_changed; /* the pump is to take what was held, or to read no more */
    bool unsent;       /* libpq has bytes that the socket did not take */
    bool worn, proven;
    PGTransactionStatusType transaction; /* when nothing was in flight, the last time */
    bool local_timeout;    /* in this transaction a statement_timeout of ours is set */
    uint64_t received;     /* bytes that have come, as far as somebody counts */
    size_t unread;         /* of them, in the socket after the last reading */
    int64_t head_since_us; /* the turn in which the head became it */
    uint64_t idle_before;  /* of them, when it was heard first while idle; 0: not yet */

    /* What has come for the first of `sent`, before its Sync. */
    size_t told; /* of libpq's error message has come as a result */
    PGresult *answer;
    struct evpq_error failure;
    struct evpq__node *answered; /* of those it is joined with, the last that has its answer */

    /* send.c */
    struct evpq__cache statements;
    struct evpq__request deallocation; /* of one that was evicted, before libpq 17 */
    struct evpq__statement deallocate;
    char deallocate_sql[16 + EVPQ__PREPARED_NAME_SIZE];

    /* drain.c */
    struct evpq__task cancel_over;
    struct evpq__timer drain_limit;  /* runs in DRAINING and CLOSING */
    struct evpq__timer cancel_again; /* runs in DRAINING, until the next request */
    int64_t drain_until_us;          /* 0: no bound yet */
    uint32_t cancel_pause_ms;
    bool overdue;                  /* the bound has passed: it is closed behind its company */
    bool recycled;                 /* given back by its user; DRAINING ends in `clean` */
    bool used;                     /* since it was clean: a statement was sent */
    unsigned resets;               /* steps of the reset that are done */
    struct evpq__request cleaning; /* one step of it at a time */
    struct evpq__statement cleaning_statement;
};

/* conn.c */
void evpq__conn_enter(struct evpq__conn *conn, enum evpq__conn_state next);
void evpq__conn_post_pump(struct evpq__conn *conn);
/* The first in flight: who is answered now. */
struct evpq__request *evpq__conn_head(struct evpq__conn *conn);
/* A request has become the head: from here on its answer comes. */
void evpq__conn_head_begin(struct evpq__conn *conn);
/* The end of `request`, which is on no list any more. */
void evpq__conn_request_over(struct evpq__request *request, struct evpq_result *result,
                             struct evpq_error *error);
/* What the server keeps for it, as far as this request has told. */
void evpq__conn_keep_statements(struct evpq__conn *conn, const struct evpq__request *request,
                                PGresult *answer);
/* An answer whose Sync has come, as a result; NULL, and `failure` says why. */
struct evpq_result *evpq__conn_outcome(struct evpq__conn *conn, const struct evpq__request *request,
                                       PGresult *answer, struct evpq_error *failure);
/* An answer to COMMIT says that it was none: then that is the error. */
void evpq__conn_check_commit(const struct evpq__request *request, PGresult *answer,
                             struct evpq_error *err);
/* Of the head of those in flight: they are one fewer, and it is on no list. */
void evpq__conn_take_head(struct evpq__conn *conn, struct evpq__request *head);
/* Those that went with the Sync are gone: is it idle? Who is next? */
void evpq__conn_next_head(struct evpq__conn *conn);
/* The pump closes it, for this reason; the first reason stays. */
void evpq__conn_close_for(struct evpq__conn *conn, const char *why);

/* send.c */
void evpq__send_init(struct evpq__conn *conn);
/* What may go now, and what libpq still has. False: the connection cannot go on. */
bool evpq__send_queued(struct evpq__conn *conn);

/* segment.c */
/* Whose answer comes now: the head, or one that is joined to it; NULL when nothing is in flight. */
struct evpq__request *evpq__segment_now(const struct evpq__conn *conn);
/* An answer for one that is joined to the next, whose turn it is now. */
void evpq__segment_answer(struct evpq__conn *conn, struct evpq__request *request, PGresult *answer);
/* The Sync of several has come. */
void evpq__segment_over(struct evpq__conn *conn);
/* Those at the front of `queued` that are joined cannot go: a transaction is open. */
void evpq__segment_refuse(struct evpq__conn *conn);

/* chunk.c */
/* Before libpq looks at what has come: it is to be taken row by row. */
void evpq__chunk_set_mode(struct evpq__conn *conn);
/* `now`: whose answer comes, or NULL. Rows of a result that goes on? Then they are taken. */
bool evpq__chunk_take(struct evpq__conn *conn, struct evpq__request *now, PGresult *result);
/* What has been gathered is handed over. */
void evpq__chunk_flush(struct evpq__conn *conn);
/* The answer that comes now is held, and somebody waits for it. */
bool evpq__chunk_held(const struct evpq__conn *conn);

/* drain.c */
void evpq__drain_init(struct evpq__conn *conn);
void evpq__drain_stop_timers(struct evpq__conn *conn);
/* Ends the transaction that is open, before anything else is sent. */
void evpq__drain_roll_back(struct evpq__conn *conn);
/* Asks the server to stop what it runs, if the pool has a cancel request left. */
void evpq__drain_cancel(struct evpq__conn *conn);
/* One step towards a clean connection, when the time has come for it. Last in each handler. */
void evpq__drain_settle(struct evpq__conn *conn);

/* closing.c */
/* Everything under way is over, with what is known. Nothing may touch `conn` after it. */
void evpq__closing_begin(struct evpq__conn *conn, const char *message);
/* In CLOSING: the socket is readable. The same. */
void evpq__closing_read(struct evpq__conn *conn);
/* In CLOSING: the bound. The same. */
void evpq__closing_hang_up(struct evpq__conn *conn);
/* In CLOSING: a cancel request is over. The same. */
void evpq__closing_settle(struct evpq__conn *conn);

#endif /* EVPQ_LIB_PG_CONN_PARTS_H */
