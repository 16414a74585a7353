/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_REPORT_H
#define EVPQ_PAGE_REPORT_H

#include <evpq/evpq.h>

#include "options.h"

/* What went wrong, in the words of the command line. */

/* How the program ends with a code of evpq. */
int ending_of(int code);
/* The same with an error of a callback, which may be that of a token. */
int ending_of_error(const evpq_error *err);

/* An error as lines: the message, what it points at in the statement, its detail and its hint.
 * Without options, no more than is in the error. Allocated; NULL without memory. */
char *error_text(const evpq_error *err, const struct options *options);
/* That nobody gave an order. */
void say_offset(void);
/* What evpq_..._options_problem() has found. */
void say_problem(const char *problem);

#endif /* EVPQ_PAGE_REPORT_H */
