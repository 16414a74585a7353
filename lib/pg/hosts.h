/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_HOSTS_H
#define EVPQ_LIB_PG_HOSTS_H

/*
 * Where a connection string leads: libpq's options with everything it takes
 * from the environment and the service file, and its hosts one by one. libpq
 * would try them itself, but has no time limit for each when it does not block.
 */

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

struct evpq__host {
    char *host;     /* "" is libpq's default socket */
    char *hostaddr; /* "" when the name is to be looked up */
    char *port;     /* "" is libpq's default */
};

struct evpq__hosts {
    PQconninfoOption *options;
    struct evpq__host *list;
    size_t count;
    bool prefer_standby; /* target_session_attrs: two passes over the list */
    bool load_balance;   /* load_balance_hosts=random: the list is in random order, and the
                            addresses of a name are to be */
    unsigned short random[3];
    bool wrong;       /* what was given, and not for want of memory: reading it again is no help */
    size_t preferred; /* the number of the one that was put before the others; 0: none was */
};

/* Reads files (service file, .pgpass): not for the loop. NULL, or why not, fit to be passed on. */
const char *evpq__hosts_read(struct evpq__hosts *hosts, const char *conninfo);
void evpq__hosts_free(struct evpq__hosts *hosts);

/* Puts the host of this number before all others, whose order stays. Nothing happens when there is
 * no such host, or the order is random. */
void evpq__hosts_prefer(struct evpq__hosts *hosts, size_t number);
/* The number that the one at this place had before. */
size_t evpq__hosts_number(const struct evpq__hosts *hosts, size_t place);

/* Less than `below`, any of them. */
size_t evpq__hosts_random(struct evpq__hosts *hosts, size_t below);

/* The effective value of an option; "" when it is not set. */
const char *evpq__hosts_option(const struct evpq__hosts *hosts, const char *keyword);

/*
 * Starts a connection to one address of one host: PQconnectStartParams().
 * `address` is NULL for a socket in the file system.
 */
PGconn *evpq__hosts_connect(const struct evpq__hosts *hosts, const struct evpq__host *host,
                            const char *address, const char *target_session_attrs);

#endif /* EVPQ_LIB_PG_HOSTS_H */
