/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_OPTIONS_H
#define EVPQ_PAGE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <evpq/evpq.h>

#include "output.h"

/* How the program may end. */
enum ending {
    END_COMPLETE = 0,
    END_USAGE = 1, /* and whatever has no number of its own */
    END_CONNECTION = 2,
    END_SQL = 3,
    END_DEADLINE = 4,
    END_TOKEN = 5,
    END_SIGNAL = 128, /* and the number of the signal: 130 for Ctrl-C */
    END_PIPE = 141,
};

enum explain { EXPLAIN_NOT, EXPLAIN_PLAN, EXPLAIN_ANALYZE };

enum color { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/* The command line, read and checked. Texts are argv's, except where they are allocated. */
struct options {
    char *conninfo; /* NULL: libpq's environment; allocated, and it may hold a password */
    const char *sql;
    const char *order_by;
    const char *columns;   /* NULL: all */
    const char *after;     /* NULL: from the start */
    const char *before;    /* set: backward, from there */
    char *token;           /* allocated: what a file held for after or before */
    bool continued;        /* the token and the end of stdout belong together */
    bool last;             /* backward, from the end */
    const char *token_out; /* NULL: none */
    const char *null;      /* NULL: what the format has for it */
    evpq_value *params;    /* allocated */
    size_t params_count;
    evpq_secret secrets[16]; /* the first signs tokens; bytes are allocated */
    size_t secrets_count;    /* 0: tokens are not signed */
    evpq_page_mode mode;
    bool assume_unique;
    bool require_index;
    bool prefetch;
    uint32_t jobs;      /* 0: one pager instead of a scan */
    uint32_t page_size; /* 0: what fits the terminal */
    uint32_t pages;     /* 0: all */
    uint32_t rate;      /* pages in any rate_ms; 0: as fast as they come */
    uint32_t rate_ms;
    uint32_t timeout_ms;
    uint32_t deadline_ms; /* 0: the default */
    unsigned count;       /* of evpq_count_kind; 0: none */
    uint64_t count_bound;
    enum explain explain;
    output_fn *output;
    const char *format; /* its name */
    enum color color_when;
    bool color; /* what came of it */
    bool progress;
    bool stats;
    bool interactive;
};

/* -1 when there is something to do; else the program has said all, and ends with this number. */
int options_read(struct options *options, int argc, char **argv);
/* The first thing that does not go with another, as the command line calls it; NULL: none. */
const char *options_problem(const struct options *options);
void options_done(struct options *options);

extern const char help[];

#endif /* EVPQ_PAGE_OPTIONS_H */
