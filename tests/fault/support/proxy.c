/* SPDX-License-Identifier: MIT */
/*
 * The thread holds the lock except while it waits in poll(). A control knocks,
 * waits until the thread has left poll(), changes what it wants, and lets it go
 * on: so nothing is waited for that is gone, and a closed socket is closed.
 */
#include "support/proxy.h"

#include "support/proxy_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    LINKS = 2048,   /* open at once */
    TIMES = 16384,  /* of accepts, that are known */
    RECORDS = 4096, /* of connections, how many bytes they had */
    BACKLOG = 512,
};

struct record {
    unsigned number;
    uint64_t bytes[2];
};

struct proxy {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t left_poll, visited;
    bool polling, stopping;
    unsigned visitors;
    atomic_uint waiting; /* for the lock */
    int knock;
    int listener, port;
    int filler; /* PROXY_DEAF: the connection that fills the queue; else -1 */
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_un un;
    } server;
    socklen_t server_length;
    enum proxy_door door, door_next;
    unsigned door_next_count;
    struct proxy_rules rules[2], rules_next[2];
    bool has_next[2];
    struct link *links;
    unsigned accepted, open, most_open;
    uint64_t bytes[2]; /* of connections that are closed */
    double times[TIMES];
    struct record records[RECORDS];
};

/* A mutex is not fair: a proxy that has much to do would take it again each time, for a second. */
static void proxy_lock(struct proxy *proxy)
{
    atomic_fetch_add(&proxy->waiting, 1);
    pthread_mutex_lock(&proxy->lock);
    atomic_fetch_sub(&proxy->waiting, 1);
}

static void proxy_enter(struct proxy *proxy)
{
    proxy_lock(proxy);
    proxy->visitors++;
    eventfd_write(proxy->knock, 1);
    while (proxy->polling)
        pthread_cond_wait(&proxy->left_poll, &proxy->lock);
}

static void proxy_leave(struct proxy *proxy)
{
    if (--proxy->visitors == 0)
        pthread_cond_signal(&proxy->visited);
    pthread_mutex_unlock(&proxy->lock);
}

/* Connections */

static int socket_set_up(int fd)
{
    int on = 1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static int server_connect(const struct proxy *proxy)
{
    int fd = socket_set_up(socket(proxy->server.any.sa_family, SOCK_STREAM, 0));
    if (fd >= 0 && connect(fd, &proxy->server.any, proxy->server_length) != 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static enum proxy_door door_now(struct proxy *proxy)
{
    if (proxy->door_next_count == 0)
        return proxy->door;
    proxy->door_next_count--;
    return proxy->door_next;
}

static void link_add(struct proxy *proxy, int client, int server)
{
    struct link *link = link_new(proxy->accepted, client, server);
    for (int way = 0; way < 2; way++) {
        link->flow[way].rules = proxy->has_next[way] ? proxy->rules_next[way] : proxy->rules[way];
        proxy->has_next[way] = false;
    }
    link->next = proxy->links;
    proxy->links = link;
    if (++proxy->open > proxy->most_open)
        proxy->most_open = proxy->open;
}

static void admit(struct proxy *proxy, int client)
{
    proxy->times[proxy->accepted++ % TIMES] = proxy_now();
    enum proxy_door door = door_now(proxy);
    int server = door == PROXY_OPEN ? server_connect(proxy) : -1;
    if (door == PROXY_HOLD || server >= 0)
        link_add(proxy, socket_set_up(client), server);
    else
        socket_close(client, door != PROXY_CLOSE);
}

static bool is_filler(const struct proxy *proxy, const struct sockaddr_in *peer)
{
    struct sockaddr_in own;
    socklen_t length = sizeof(own);
    return proxy->filler >= 0 &&
           getsockname(proxy->filler, (struct sockaddr *)&own, &length) == 0 &&
           own.sin_port == peer->sin_port;
}

static void accept_all(struct proxy *proxy)
{
    struct sockaddr_in peer;
    socklen_t length = sizeof(peer);
    int client;
    while (proxy->open < LINKS &&
           (client = accept(proxy->listener, (struct sockaddr *)&peer, &length)) >= 0) {
        if (is_filler(proxy, &peer))
            socket_close(client, true);
        else
            admit(proxy, client);
    }
}

/* Forgets what is closed. */
static void links_sweep(struct proxy *proxy)
{
    for (struct link **at = &proxy->links; *at;) {
        struct link *link = *at;
        struct record *record = &proxy->records[link->number % RECORDS];
        record->number = link->number;
        for (int way = 0; way < 2; way++)
            record->bytes[way] = link->flow[way].seen;
        if (link->state != LINK_CLOSED) {
            at = &link->next;
            continue;
        }
        for (int way = 0; way < 2; way++)
            proxy->bytes[way] += link->flow[way].seen;
        *at = link->next;
        proxy->open--;
        link_free(link);
    }
}

/* The thread */

static bool door_listens(const struct proxy *proxy)
{
    return proxy->door != PROXY_REFUSE && proxy->door != PROXY_DEAF;
}

static size_t wait_list(const struct proxy *proxy, struct pollfd *waits, double *wake)
{
    size_t count = 2;
    waits[0] = (struct pollfd){.fd = proxy->knock, .events = POLLIN};
    waits[1] = (struct pollfd){
        .fd = door_listens(proxy) && proxy->open < LINKS ? proxy->listener : -1, .events = POLLIN};
    for (const struct link *link = proxy->links; link; link = link->next, count += 2)
        link_wait(link, waits + count, wake);
    return count;
}

static void *proxy_run(void *arg)
{
    static const double for_ever = 1e300;
    struct proxy *proxy = arg;
    struct pollfd *waits = calloc(2 + 2 * LINKS, sizeof(*waits));
    pthread_mutex_lock(&proxy->lock);
    while (waits && !proxy->stopping) {
        double wake = for_ever;
        size_t count = wait_list(proxy, waits, &wake);
        double left = wake - proxy_now();
        struct timespec limit = {.tv_sec = 0};
        if (wake < for_ever && left > 0) {
            limit.tv_sec = (time_t)left;
            limit.tv_nsec = (long)((left - (double)limit.tv_sec) * 1e9);
        }
        proxy->polling = true;
        pthread_mutex_unlock(&proxy->lock);
        int ready = ppoll(waits, count, wake < for_ever ? &limit : NULL, NULL);
        while (atomic_load(&proxy->waiting) > 0)
            sched_yield();
        pthread_mutex_lock(&proxy->lock);
        proxy->polling = false;
        if (ready > 0 && waits[0].revents) {
            eventfd_t knocks;
            eventfd_read(proxy->knock, &knocks);
        }
        bool visited = proxy->visitors > 0;
        pthread_cond_broadcast(&proxy->left_poll);
        while (proxy->visitors > 0)
            pthread_cond_wait(&proxy->visited, &proxy->lock);
        if (visited)
            continue; /* what was waited for may be gone */
        struct pollfd *wait = waits + 2;
        for (struct link *link = proxy->links; link; link = link->next, wait += 2)
            link_serve(link, wait);
        links_sweep(proxy);
        if (ready > 0 && waits[1].revents)
            accept_all(proxy);
    }
    pthread_mutex_unlock(&proxy->lock);
    free(waits);
    return NULL;
}

/* Start and stop */

static void server_set(struct proxy *proxy, const char *host, int port)
{
    memset(&proxy->server, 0, sizeof(proxy->server));
    if (host[0] == '/') {
        proxy->server.un.sun_family = AF_UNIX;
        proxy->server_length = sizeof(proxy->server.un);
        int n = snprintf(proxy->server.un.sun_path, sizeof(proxy->server.un.sun_path),
                         "%s/.s.PGSQL.%d", host, port);
        assert_true(n > 0 && (size_t)n < sizeof(proxy->server.un.sun_path));
    } else {
        proxy->server.in.sin_family = AF_INET;
        proxy->server.in.sin_port = htons((uint16_t)port);
        proxy->server_length = sizeof(proxy->server.in);
        if (inet_pton(AF_INET, host, &proxy->server.in.sin_addr) != 1)
            fail_msg("the proxy needs a numeric address or a directory, not \"%s\"", host);
    }
}

struct proxy *proxy_start_on(int listener, const char *host, int port)
{
    struct sockaddr_in own;
    socklen_t length = sizeof(own);
    struct proxy *proxy = calloc(1, sizeof(*proxy));
    assert_non_null(proxy);
    server_set(proxy, host, port);
    proxy->listener = socket_set_up(listener);
    proxy->filler = -1;
    assert_int_equal(listen(listener, BACKLOG), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&own, &length), 0);
    proxy->port = ntohs(own.sin_port);
    proxy->knock = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(proxy->knock >= 0);
    pthread_mutex_init(&proxy->lock, NULL);
    pthread_cond_init(&proxy->left_poll, NULL);
    pthread_cond_init(&proxy->visited, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    assert_int_equal(pthread_create(&proxy->thread, NULL, proxy_run, proxy), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return proxy;
}

struct proxy *proxy_start(const char *host, int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    /* Below the ports of outgoing connections, one of which might meet itself here; and named, so
     * that it stays ours while nobody listens. */
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int on = 1, try = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    do {
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        addr.sin_port = htons((uint16_t)(20000 + (ts.tv_nsec / 64 + getpid()) % 12000));
    } while (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 && ++try < 1000);
    assert_true(try < 1000);
    return proxy_start_on(fd, host, port);
}

static void filler_close(struct proxy *proxy)
{
    socket_close(proxy->filler, true);
    proxy->filler = -1;
}

void proxy_stop(struct proxy *proxy)
{
    proxy_enter(proxy);
    proxy->stopping = true;
    proxy_leave(proxy);
    pthread_join(proxy->thread, NULL);
    while (proxy->links) {
        struct link *link = proxy->links;
        proxy->links = link->next;
        link_free(link);
    }
    filler_close(proxy);
    close(proxy->listener);
    close(proxy->knock);
    pthread_cond_destroy(&proxy->left_poll);
    pthread_cond_destroy(&proxy->visited);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

int proxy_port(const struct proxy *proxy)
{
    return proxy->port;
}

/* Controls */

void proxy_lead(struct proxy *proxy, const char *host, int port)
{
    proxy_enter(proxy);
    server_set(proxy, host, port);
    proxy_leave(proxy);
}

/* A queue with no room left drops what knocks. One connection of our own fills it. */
static void door_deafen(struct proxy *proxy)
{
    struct sockaddr_in own;
    socklen_t length = sizeof(own);
    listen(proxy->listener, 0);
    getsockname(proxy->listener, (struct sockaddr *)&own, &length);
    proxy->filler = socket_set_up(socket(AF_INET, SOCK_STREAM, 0));
    connect(proxy->filler, (struct sockaddr *)&own, sizeof(own));
    struct pollfd made = {.fd = proxy->filler, .events = POLLOUT};
    poll(&made, 1, 1000); /* not made: another one fills the queue */
}

static void door_set(struct proxy *proxy, enum proxy_door door)
{
    if (proxy->door == door)
        return;
    if (proxy->door == PROXY_DEAF || door_listens(proxy))
        accept_all(proxy); /* by the old rules */
    filler_close(proxy);
    proxy->door = door;
    if (door == PROXY_REFUSE)
        shutdown(proxy->listener, SHUT_RD); /* the port stays bound, and refuses */
    else if (door == PROXY_DEAF)
        door_deafen(proxy);
    else
        assert_int_equal(listen(proxy->listener, BACKLOG), 0);
}

void proxy_door(struct proxy *proxy, enum proxy_door door)
{
    proxy_enter(proxy);
    door_set(proxy, door);
    proxy_leave(proxy);
}

void proxy_door_next(struct proxy *proxy, enum proxy_door door, unsigned count)
{
    assert_true(door != PROXY_REFUSE && door != PROXY_DEAF);
    proxy_enter(proxy);
    proxy->door_next = door;
    proxy->door_next_count = count;
    proxy_leave(proxy);
}

void proxy_rules(struct proxy *proxy, enum proxy_way way, const struct proxy_rules *rules)
{
    proxy_enter(proxy);
    proxy->rules[way] = *rules;
    for (struct link *link = proxy->links; link; link = link->next)
        link_rules(link, way, rules);
    links_sweep(proxy);
    proxy_leave(proxy);
}

void proxy_rules_of(struct proxy *proxy, unsigned number, enum proxy_way way,
                    const struct proxy_rules *rules)
{
    proxy_enter(proxy);
    for (struct link *link = proxy->links; link; link = link->next)
        if (link->number == number)
            link_rules(link, way, rules);
    links_sweep(proxy);
    proxy_leave(proxy);
}

void proxy_rules_next(struct proxy *proxy, enum proxy_way way, const struct proxy_rules *rules)
{
    proxy_enter(proxy);
    proxy->rules_next[way] = *rules;
    proxy->has_next[way] = true;
    proxy_leave(proxy);
}

void proxy_heal(struct proxy *proxy)
{
    static const struct proxy_rules none;
    proxy_enter(proxy);
    door_set(proxy, PROXY_OPEN);
    proxy->door_next_count = 0;
    for (int way = 0; way < 2; way++) {
        proxy->rules[way] = none;
        proxy->has_next[way] = false;
    }
    for (struct link *link = proxy->links; link; link = link->next) {
        if (link->state == LINK_HUNG)
            link->state = LINK_OPEN;
        link->flow[0].rules = link->flow[1].rules = none;
        if (link->flow[0].lost || link->flow[1].lost)
            link_close(link, true);
    }
    links_sweep(proxy);
    proxy_leave(proxy);
}

void proxy_kill(struct proxy *proxy, unsigned number, bool reset)
{
    proxy_enter(proxy);
    for (struct link *link = proxy->links; link; link = link->next)
        if (number == 0 || link->number == number)
            link_close(link, reset);
    links_sweep(proxy);
    proxy_leave(proxy);
}

unsigned proxy_accepted(struct proxy *proxy)
{
    proxy_lock(proxy);
    unsigned accepted = proxy->accepted;
    pthread_mutex_unlock(&proxy->lock);
    return accepted;
}

unsigned proxy_open(struct proxy *proxy)
{
    proxy_lock(proxy);
    unsigned open = proxy->open;
    pthread_mutex_unlock(&proxy->lock);
    return open;
}

unsigned proxy_most_open(struct proxy *proxy)
{
    proxy_lock(proxy);
    unsigned most = proxy->most_open;
    pthread_mutex_unlock(&proxy->lock);
    return most;
}

unsigned proxy_most_per_second(struct proxy *proxy, double since)
{
    proxy_lock(proxy);
    unsigned most = 0;
    unsigned first = proxy->accepted > TIMES ? proxy->accepted - TIMES : 0;
    for (unsigned end = first; end < proxy->accepted; end++) {
        while (proxy->times[first % TIMES] < since ||
               proxy->times[first % TIMES] < proxy->times[end % TIMES] - 1.)
            if (++first > end)
                break;
        if (first <= end && end - first + 1 > most)
            most = end - first + 1;
    }
    pthread_mutex_unlock(&proxy->lock);
    return most;
}

uint64_t proxy_bytes(struct proxy *proxy, unsigned number, enum proxy_way way)
{
    proxy_lock(proxy);
    uint64_t bytes = 0;
    if (number > 0) {
        const struct record *record = &proxy->records[number % RECORDS];
        bytes = record->number == number ? record->bytes[way] : 0;
    } else {
        bytes = proxy->bytes[way];
        for (const struct link *link = proxy->links; link; link = link->next)
            bytes += link->flow[way].seen;
    }
    pthread_mutex_unlock(&proxy->lock);
    return bytes;
}
