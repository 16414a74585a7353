/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_NETNS_H
#define EVPQ_TESTS_NETNS_H

/*
 * A host that is not ours, at the end of a cable: a network namespace with a
 * virtual cable to us, in which packets can be lost (nftables) and which can be
 * pulled. It has no name and no file: it is gone with the process.
 *
 * A proxy that listens there is the server for the program under test, and leads
 * to the real one through our own network. Linux, root, iproute2 and nftables.
 */

struct netns;

/* A new host. NULL when this machine has no such thing; *why then says what is missing. */
struct netns *netns_open(const char **why);
void netns_close(struct netns *net);

/* The numeric address of the host. */
const char *netns_address(const struct netns *net);
/* A socket bound there, for proxy_start_on(). */
int netns_bind(struct netns *net, int port);

/* Plugs the cable in (true) or pulls it. */
void netns_cable(struct netns *net, int plugged);
/*
 * What happens to packets that come to the host, and to those that leave it: nft's
 * words for one rule each ("tcp dport 5432 drop"); NULL: nothing. Replaces what
 * was there.
 */
void netns_rules(struct netns *net, const char *in, const char *out);

#endif /* EVPQ_TESTS_NETNS_H */
