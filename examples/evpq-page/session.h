/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_SESSION_H
#define EVPQ_PAGE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>
#include <evpq/evpq.h>

#include "options.h"

/* What every way to run has: a loop, a pool, where the pages come from, and an ending. */
struct session {
    const struct options *options;
    struct ev_loop *loop;
    evpq_pool *pool;
    evpq_pager *pager;
    evpq_scan *scan;    /* with --jobs; the pager then only counts */
    uint64_t opened_us; /* from here on --deadline counts */
    int ending;         /* -1: going on */
};

/* False: said why, and session->ending is set. session_run() is to be called in either case. */
bool session_open(struct session *session, uint32_t page_size);
/* Another pager in the place of the one there is, none of whose pages may be on its way: with
 * another page size, behind or before a token. False: the old one is still there. */
bool session_move(struct session *session, uint32_t page_size, const char *after,
                  const char *before);
/* The next page in the direction of the walk; --last: `from_the_end` the first time. */
int session_next(struct session *session, bool from_the_end, evpq_page_fn *on_page, void *user);
bool session_is_backward(const struct session *session);
/* An error of a page, on stderr: the library's, or that the deadline of the walk has passed. */
void session_say_error(const struct session *session, const evpq_error *err);
/* The same as a text of several lines, allocated; NULL without memory. `err` may be NULL: the walk
 * has no time left. */
char *session_error_text(const struct session *session, const evpq_error *err);
/* Lets go of everything; session_run() returns when it is gone. */
void session_end(struct session *session, int ending);
/* Runs the loop until the session has ended. Its ending. */
int session_run(struct session *session);

/* The signals that end a program in order. */
struct endings {
    ev_signal watchers[4]; /* SIGINT, SIGTERM, SIGHUP, SIGQUIT */
};

void endings_watch(struct endings *endings, struct ev_loop *loop,
                   void (*on_signal)(struct ev_loop *loop, ev_signal *watcher, int events),
                   void *data);

#endif /* EVPQ_PAGE_SESSION_H */
