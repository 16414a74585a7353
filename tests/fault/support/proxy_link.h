/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_PROXY_LINK_H
#define EVPQ_TESTS_PROXY_LINK_H

/* One connection through the proxy: two sockets and the bytes between them. Knows no threads. */

#include "support/proxy.h"

#include <poll.h>

/* Some bytes that have been read and are not due yet, or not taken yet. */
struct piece {
    struct piece *next;
    double due;
    size_t length, sent;
    unsigned char bytes[];
};

/* One way. */
struct flow {
    struct proxy_rules rules;
    uint64_t seen; /* bytes read */
    struct piece *first, **last;
    size_t queued;
    double not_before; /* bytes_per_s: when the next may go */
    bool ended;        /* its source has closed */
    bool over;         /* and its destination knows, or never will */
    bool fired;        /* its fault has happened */
    bool lost;         /* bytes of it, or its end, were swallowed */
};

enum link_state {
    LINK_CONNECTING, /* to the server */
    LINK_OPEN,
    LINK_HUNG,   /* nothing passes */
    LINK_HELD,   /* never led anywhere */
    LINK_CLOSED, /* to be freed */
};

struct link {
    struct link *next;
    unsigned number;
    enum link_state state;
    int fd[2];           /* to the client, to the server */
    struct flow flow[2]; /* by enum proxy_way: flow[way] reads from fd[way] */
};

struct link *link_new(unsigned number, int client, int server);
void link_free(struct link *link);
void link_close(struct link *link, bool reset);
void link_rules(struct link *link, enum proxy_way way, const struct proxy_rules *rules);

/* What to wait for on each socket (fd -1: nothing), and no longer than until *wake. */
void link_wait(const struct link *link, struct pollfd wait[2], double *wake);
/* Reads and writes what there is. */
void link_serve(struct link *link, const struct pollfd wait[2]);

void socket_close(int fd, bool reset);
double proxy_now(void);

#endif /* EVPQ_TESTS_PROXY_LINK_H */
