/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_CONNINFO_H
#define EVPQ_LIB_PG_CONNINFO_H

/*
 * Connection strings and URIs, which libpq alone takes apart. Where it does not
 * know load_balance_hosts (before 16), the option goes through it by the name of
 * another, which has no effect but on Windows.
 */

#include <libpq-fe.h>
#include <stdbool.h>

/* Is it a connection string at all? No I/O. NULL: libpq's defaults, which is fine.
 * EVPQ_OK, EVPQ_EINVALID, EVPQ_ENOMEM. */
int evpq__conninfo_check(const char *conninfo);
/* The same, where lack of memory is no objection. */
bool evpq__conninfo_valid(const char *conninfo);

/* The string as libpq can read it, to be freed; NULL: just as it is. EVPQ_OK, EVPQ_ENOMEM. */
int evpq__conninfo_rename(char **out, const char *conninfo);
/* In the options that were read from such a string load_balance_hosts has its name again. */
void evpq__conninfo_name_back(PQconninfoOption *options);

#endif /* EVPQ_LIB_PG_CONNINFO_H */
