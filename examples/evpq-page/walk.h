/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_WALK_H
#define EVPQ_PAGE_WALK_H

#include <ev.h>

#include "options.h"

/* Writes the pages one after another. How the program ends. */
int walk_run(const struct options *options, struct ev_loop *loop);

#endif /* EVPQ_PAGE_WALK_H */
