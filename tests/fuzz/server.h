/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FUZZ_SERVER_H
#define EVPQ_TESTS_FUZZ_SERVER_H

/*
 * A PostgreSQL server that lives in the thread of its client: it does something
 * when it is called. It answers as a server does, or waits to be told what to
 * say: a connection is *scripted* from its first Parse message on.
 */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

/* What is ready now; libFuzzer's signals do not count. */
void look_at(struct pollfd *looks, size_t count);

/* What the connections of one execution are to meet. */
struct server_manners {
    bool raw;  /* they are scripted from the first byte, before the handshake */
    bool deaf; /* the end of the client is not answered with the end of the server */
};

/* Listens on a socket without a name in the file system; once. */
void server_listen(void);
/* For a connection string: its "host". */
const char *server_host(void);

/* Forgets all connections. */
void server_reset(const struct server_manners *manners);
/* Takes new connections and what they say, and answers where that is its own business. False when
 * there was nothing. */
bool server_step(void);
/* From now on all is answered well; deaf is over as well. */
void server_be_good(void);

/* Scripted connections; one of them is the one that is talked to. */
bool server_has_script(void);
void server_pick(unsigned which);
/* Takes one that has not asked for anything yet. */
void server_take_idle(void);
void server_say(const void *bytes, size_t length);
/* The next message of the client is answered well. */
void server_answer(void);
void server_hang_up(void);
/* No more will be said, and all is still heard. */
void server_half_close(void);

/* More sessions of which neither end is closed. */
bool server_has_more_than(int sessions);
/* Connections that there have been. */
int server_accepted(void);
/* Sockets that the client has not closed. */
int server_clients(void);

#endif /* EVPQ_TESTS_FUZZ_SERVER_H */
