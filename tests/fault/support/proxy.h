/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_PROXY_H
#define EVPQ_TESTS_PROXY_H

/*
 * A TCP proxy between the program under test and its server, for faults to the
 * byte. It runs in a thread of its own. Every function here may be called from
 * any thread at any time and has taken effect when it returns.
 *
 * Connections are numbered in the order they were accepted, from 1. Bytes are
 * counted per connection and way, from 0.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum proxy_way {
    PROXY_TO_SERVER = 0,
    PROXY_TO_CLIENT = 1,
};

/* What a new connection meets. Those that are open go on. */
enum proxy_door {
    PROXY_OPEN,   /* it is led to the server */
    PROXY_REFUSE, /* nobody listens; such connections are not counted */
    PROXY_DEAF,   /* its SYN gets no answer, as from a host that is gone; not counted */
    PROXY_RESET,  /* it is accepted and reset */
    PROXY_CLOSE,  /* it is accepted and closed in good order */
    PROXY_HOLD,   /* it is accepted, and then nothing more; also not when the door opens */
};

/* What happens to byte number `at` of one way. */
enum proxy_fault {
    PROXY_NO_FAULT,
    PROXY_CUT_CLOSE, /* all before it arrives, then both sides are closed */
    PROXY_CUT_RESET, /* the same, with RST */
    PROXY_CUT_HANG,  /* nothing passes any more, in either way */
    PROXY_CUT_SHUT,  /* this way is closed (shutdown), the other goes on */
    PROXY_DUPLICATE, /* it arrives twice */
    PROXY_FLIP,      /* it arrives with one bit changed */
};

/* How the bytes of one way travel. All zero: as they come. */
struct proxy_rules {
    unsigned delay_ms;    /* each arrives so much later */
    unsigned bytes_per_s; /* at most; 1 is a byte a second */
    unsigned segment;     /* bytes that go out in one piece at most */
    bool swallow;         /* they are read and thrown away, the end of the stream too: half-open */
    enum proxy_fault fault;
    uint64_t at;  /* the fault's place; for a cut that lies behind already: now */
    unsigned bit; /* of PROXY_FLIP, 0 to 7 */
};

struct proxy;

/*
 * Listens on a free port of 127.0.0.1 and leads to the server there: a host's
 * numeric address, or the directory of its socket. Fails the test when it cannot.
 */
struct proxy *proxy_start(const char *host, int port);
/* The same on a listening socket of the caller's, which becomes the proxy's: of another network,
 * say. Knows neither PROXY_REFUSE nor PROXY_DEAF. */
struct proxy *proxy_start_on(int listener, const char *host, int port);
/* Resets what is open. */
void proxy_stop(struct proxy *proxy);
int proxy_port(const struct proxy *proxy);

/* Where it leads from now on, as proxy_start(). */
void proxy_lead(struct proxy *proxy, const char *host, int port);

void proxy_door(struct proxy *proxy, enum proxy_door door);
/* Only for the next so many, whatever the door is then: PROXY_OPEN, _RESET, _CLOSE or _HOLD. */
void proxy_door_next(struct proxy *proxy, enum proxy_door door, unsigned count);

/* For all connections, those that are open and those to come. */
void proxy_rules(struct proxy *proxy, enum proxy_way way, const struct proxy_rules *rules);
/* For one that is open; nothing when it is not. */
void proxy_rules_of(struct proxy *proxy, unsigned number, enum proxy_way way,
                    const struct proxy_rules *rules);
/* For the next one only. */
void proxy_rules_next(struct proxy *proxy, enum proxy_way way, const struct proxy_rules *rules);
/* The fault is over: the door is open, all rules are gone, what hangs goes on. What has lost bytes
 * is reset. */
void proxy_heal(struct proxy *proxy);

/* Ends connections, both sides: number, or 0 for all that are open. */
void proxy_kill(struct proxy *proxy, unsigned number, bool reset);

/* Connections accepted ever; the number of the last one. */
unsigned proxy_accepted(struct proxy *proxy);
/* Connections that are open now, and at most at any time. */
unsigned proxy_open(struct proxy *proxy);
unsigned proxy_most_open(struct proxy *proxy);
/* The most that were accepted within any second since then (live_now()); the last 16,384 are known.
 */
unsigned proxy_most_per_second(struct proxy *proxy, double since);
/* Bytes read of one way of a connection; number 0: of all there ever were. */
uint64_t proxy_bytes(struct proxy *proxy, unsigned number, enum proxy_way way);

#endif /* EVPQ_TESTS_PROXY_H */
