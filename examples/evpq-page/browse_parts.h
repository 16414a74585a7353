/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_BROWSE_PARTS_H
#define EVPQ_PAGE_BROWSE_PARTS_H

#include <ev.h>

#include "count.h"
#include "keys.h"
#include "position.h"
#include "session.h"
#include "stats.h"
#include "view.h"

/*
 *            page            key          page, error, Ctrl-C
 *  OPENING --------> SHOWING ----> WAITING ----> SHOWING
 *     |                 |  ^
 *     | all fits,       v  |
 *     | error          HELP
 *     +------------------+-----> ENDING    q, a signal
 */
enum browse_state {
    BROWSE_OPENING, /* the first page is on its way, and the screen is not ours yet */
    BROWSE_SHOWING, /* a page is seen, keys are obeyed */
    BROWSE_WAITING, /* a page is seen, another one is on its way; other keys wait */
    BROWSE_HELP,    /* the keys are seen; any of them leads back */
    BROWSE_ENDING,  /* the terminal is as it was */
};

struct browse {
    enum browse_state state;
    struct session session;
    struct view view;
    struct position position;
    struct keys keys;
    struct count count;
    struct stats stats;
    enum move move;        /* the last one asked for */
    bool up;               /* it came from below: its last rows are to be seen */
    bool moved;            /* the pager is a new one, and no page of it has come */
    uint32_t page_size;    /* of the pager */
    char behind[4096 + 1]; /* tokens of the page that is seen; empty: there is none */
    char before[4096 + 1];
    char message[1024]; /* instead of the position, until the next key */
    evpq_op *op;        /* the page on its way */
    struct endings endings;
    ev_signal suspend, resume, resize; /* SIGTSTP, SIGCONT, SIGWINCH */
    ev_io input;
    ev_timer behind_others; /* looks whether we are in the foreground again */
    ev_timer waiting;       /* tells for how long */
};

/* browse.c */
void browse_go(struct browse *browse, enum move move);
void browse_end(struct browse *browse, int ending);

/* browse_show.c: what is seen */
void browse_draw(const struct browse *browse);
void browse_draw_waiting(const struct browse *browse);

/* browse_input.c: keys and signals */
void browse_watch(struct browse *browse);
void browse_unwatch(struct browse *browse);
/* The keys that wait, as far as the state allows. */
void browse_obey(struct browse *browse);

#endif /* EVPQ_PAGE_BROWSE_PARTS_H */
