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

/* The command line, read and checked. Texts are argv's, except conninfo. */
struct options {
    char *conninfo; /* NULL: libpq's environment; allocated, and it may hold a password */
    const char *sql;
    const char *order_by; /* NULL: offset pages */
    const char *columns;  /* NULL: all */
    const char *after;    /* NULL: from the start */
    const char *before;   /* set: backward, from there */
    bool last;            /* backward, from the end */
    const char *null;     /* NULL: what the format has for it */
    evpq_value *params;   /* allocated */
    size_t params_count;
    evpq_secret secret; /* length 0: tokens are not signed; bytes are allocated */
    uint32_t page_size;
    uint32_t pages; /* 0: all */
    uint32_t timeout_ms;
    uint32_t deadline_ms; /* 0: none */
    output_fn *output;
    bool progress;
};

/* -1 when there is something to do; else the program has said all, and ends with this number. */
int options_read(struct options *options, int argc, char **argv);
void options_done(struct options *options);

#endif /* EVPQ_PAGE_OPTIONS_H */
