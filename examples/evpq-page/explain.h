/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_EXPLAIN_H
#define EVPQ_PAGE_EXPLAIN_H

#include <ev.h>

#include "options.h"

/* Shows how the server makes a page, and warns of what costs more than the page. How the program
 * ends. */
int explain_run(const struct options *options, struct ev_loop *loop);

#endif /* EVPQ_PAGE_EXPLAIN_H */
