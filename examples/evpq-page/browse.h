/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_BROWSE_H
#define EVPQ_PAGE_BROWSE_H

#include <ev.h>

#include "options.h"

/* Shows one page after another on a terminal, as keys ask for them. How the program ends. */
int browse_run(const struct options *options, struct ev_loop *loop);

#endif /* EVPQ_PAGE_BROWSE_H */
