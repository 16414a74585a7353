/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_OPTIONS_H
#define EVPQ_LIB_PAGE_OPTIONS_H

#include <evpq/pager.h>

#include "page/token.h"

/* The options of a pager, checked and complete. It points into what it was read from. */
struct evpq__pager_setup {
    evpq_pager_options options;
    size_t sql_length;
    char *columns; /* quoted; to be given to evpq__free() */
    struct evpq__keyset keyset;
    struct evpq__walk walk;
    struct evpq__token token; /* where options.after or options.before is set */
    struct evpq__token until; /* where options.until is set */
};

/* EVPQ_OK; EVPQ_EINVALID, and *problem says why; EVPQ_ENOMEM. `columns` is set in any case. */
int evpq__pager_setup_read(struct evpq__pager_setup *out, const evpq_pager_options *options,
                           const char **problem);

#endif /* EVPQ_LIB_PAGE_OPTIONS_H */
