/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_PROGRESS_H
#define EVPQ_PAGE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include <ev.h>

#include "count.h"
#include "options.h"

/* How far the walk has come, on stderr. Zeroed it is off, and each call does nothing. */
struct progress {
    bool on;
    bool terminal; /* one line, rewritten; else a line each second */
    bool shared;   /* the data goes to a terminal as well */
    int width;     /* columns the line takes now */
    double started;
    uint64_t rows;
    uint64_t pages;
    const struct count *count; /* of all rows */
    const struct options *options;
    ev_timer timer;
    struct ev_loop *loop;
};

/* False for the progress nobody asked for: no terminal, or one that the data goes to. */
bool progress_wanted(void);
void progress_start(struct progress *progress, struct ev_loop *loop, const struct count *count,
                    const struct options *options);
void progress_add(struct progress *progress, uint32_t rows);
/* Makes room on a shared terminal. */
void progress_hide(struct progress *progress);
/* The last word; off from here on. */
void progress_end(struct progress *progress);

#endif /* EVPQ_PAGE_PROGRESS_H */
