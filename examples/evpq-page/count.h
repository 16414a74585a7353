/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_COUNT_H
#define EVPQ_PAGE_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <evpq/evpq.h>

#include "options.h"

enum count_state {
    COUNT_OFF,    /* nobody wants to know */
    COUNT_ASKED,  /* on its way */
    COUNT_KNOWN,  /* `count` holds it */
    COUNT_FAILED, /* `problem` says why */
};

/* How many rows the whole statement has, asked for beside the first page. Zeroed it is off. */
struct count {
    enum count_state state;
    evpq_count count;
    char *problem; /* allocated */
    evpq_op *op;
    void (*on_counted)(void *user);
    void *user;
};

/* on_counted runs once, from the loop, unless the pager is closed before. */
void count_start(struct count *count, const struct options *options, evpq_pager *pager,
                 void (*on_counted)(void *user), void *user);
void count_done(struct count *count);

/* "1000 rows", "about 1000 rows", "more than 1000 rows". Empty while it is not known. */
void count_words(const struct count *count, char *out, size_t size);
/* The same on stderr with where it comes from, or why there is none. */
void count_say(const struct count *count);
/* True when it is known well enough to tell how long the rest takes. */
bool count_total(const struct count *count, uint64_t *rows);

#endif /* EVPQ_PAGE_COUNT_H */
