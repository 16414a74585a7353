/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a way are read up to the place of its cut, wait in a queue until they
 * are due, and leave in the pieces that the rules allow. What lies behind a cut
 * stays with the kernel, so that what hangs can go on.
 */
#include "support/proxy_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_SIZE = 16384,
    QUEUE_SIZE = 1 << 20,
    SENDS_AT_ONCE = 256, /* of one way, before others have their turn */
};

double proxy_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void socket_close(int fd, bool reset)
{
    if (fd < 0)
        return;
    if (reset) {
        struct linger now = {.l_onoff = 1};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    } else {
        /* Unread bytes would make an RST of it. */
        char unread[READ_SIZE];
        shutdown(fd, SHUT_WR);
        while (recv(fd, unread, sizeof(unread), MSG_DONTWAIT) > 0)
            ;
    }
    close(fd);
}

struct link *link_new(unsigned number, int client, int server)
{
    struct link *link = calloc(1, sizeof(*link));
    if (!link)
        abort();
    link->number = number;
    link->state = server < 0 ? LINK_HELD : LINK_CONNECTING;
    link->fd[0] = client;
    link->fd[1] = server;
    for (int way = 0; way < 2; way++)
        link->flow[way].last = &link->flow[way].first;
    return link;
}

static void flow_drop(struct flow *flow)
{
    while (flow->first) {
        struct piece *piece = flow->first;
        flow->first = piece->next;
        free(piece);
    }
    flow->last = &flow->first;
    flow->queued = 0;
}

void link_close(struct link *link, bool reset)
{
    for (int way = 0; way < 2; way++) {
        socket_close(link->fd[way], reset);
        link->fd[way] = -1;
        flow_drop(&link->flow[way]);
    }
    link->state = LINK_CLOSED;
}

void link_free(struct link *link)
{
    link_close(link, true);
    free(link);
}

static bool is_cut(enum proxy_fault fault)
{
    return fault != PROXY_NO_FAULT && fault != PROXY_DUPLICATE && fault != PROXY_FLIP;
}

static void link_cut(struct link *link, enum proxy_way way)
{
    struct flow *flow = &link->flow[way];
    flow->fired = true;
    switch (flow->rules.fault) {
    case PROXY_CUT_CLOSE:
    case PROXY_CUT_RESET:
        link_close(link, flow->rules.fault == PROXY_CUT_RESET);
        break;
    case PROXY_CUT_HANG:
        link->state = LINK_HUNG;
        break;
    default:
        shutdown(link->fd[!way], SHUT_WR);
        flow->over = true; /* what its source says from here on is thrown away */
    }
}

void link_rules(struct link *link, enum proxy_way way, const struct proxy_rules *rules)
{
    struct flow *flow = &link->flow[way];
    flow->rules = *rules;
    flow->fired = false;
    if (link->state == LINK_OPEN && is_cut(rules->fault) && flow->seen >= rules->at) {
        flow_drop(flow);
        link_cut(link, way);
    }
}

static bool flow_reads(const struct flow *flow)
{
    if (flow->ended || flow->queued >= QUEUE_SIZE)
        return false;
    return flow->fired || !is_cut(flow->rules.fault) || flow->seen < flow->rules.at;
}

/* Where a way that has been shut, or is swallowed, leads to. */
static bool flow_is_void(const struct flow *flow)
{
    return flow->over || flow->rules.swallow;
}

/* Takes over what was read; the byte of the fault may become two, or another one. */
static void flow_push(struct flow *flow, unsigned char *bytes, size_t length)
{
    uint64_t start = flow->seen;
    flow->seen += length;
    if (flow_is_void(flow)) {
        flow->lost = true;
        return;
    }
    struct piece *piece = malloc(sizeof(*piece) + length + 1);
    if (!piece)
        abort();
    memcpy(piece->bytes, bytes, length);
    bool here = flow->rules.at >= start && flow->rules.at < flow->seen && !flow->fired;
    size_t place = here ? (size_t)(flow->rules.at - start) : 0;
    if (here && flow->rules.fault == PROXY_FLIP) {
        piece->bytes[place] ^= (unsigned char)(1U << flow->rules.bit);
        flow->fired = true;
    } else if (here && flow->rules.fault == PROXY_DUPLICATE) {
        memmove(piece->bytes + place + 1, piece->bytes + place, length - place);
        length++;
        flow->fired = true;
    }
    piece->next = NULL;
    piece->due = proxy_now() + flow->rules.delay_ms / 1e3;
    piece->length = length;
    piece->sent = 0;
    *flow->last = piece;
    flow->last = &piece->next;
    flow->queued += length;
}

/* Reads what there is. False: the connection is broken. */
static bool flow_read(struct flow *flow, int from)
{
    unsigned char bytes[READ_SIZE];
    while (flow_reads(flow)) {
        size_t most = sizeof(bytes);
        if (is_cut(flow->rules.fault) && !flow->fired && flow->rules.at - flow->seen < most)
            most = (size_t)(flow->rules.at - flow->seen);
        ssize_t n = recv(from, bytes, most, MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            flow->ended = true;
        else
            flow_push(flow, bytes, (size_t)n);
    }
    return true;
}

static double flow_due(const struct flow *flow)
{
    return flow->first->due > flow->not_before ? flow->first->due : flow->not_before;
}

/* How much of the first piece may go now. */
static size_t flow_portion(const struct flow *flow)
{
    size_t most = flow->first->length - flow->first->sent;
    if (flow->rules.segment > 0 && most > flow->rules.segment)
        most = flow->rules.segment;
    if (flow->rules.bytes_per_s > 0) {
        size_t slice = flow->rules.bytes_per_s / 50 + 1;
        most = most < slice ? most : slice;
    }
    return most;
}

/* Sends what is due. False: the connection is broken. */
static bool flow_write(struct flow *flow, int to)
{
    for (int i = 0; i < SENDS_AT_ONCE && flow->first; i++) {
        double now = proxy_now();
        if (flow_due(flow) > now)
            return true;
        struct piece *piece = flow->first;
        ssize_t n =
            send(to, piece->bytes + piece->sent, flow_portion(flow), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        piece->sent += (size_t)n;
        flow->queued -= (size_t)n;
        if (flow->rules.bytes_per_s > 0)
            flow->not_before = now + (double)n / flow->rules.bytes_per_s;
        if (piece->sent == piece->length) {
            flow->first = piece->next;
            if (!flow->first)
                flow->last = &flow->first;
            free(piece);
        }
    }
    return true;
}

static void link_serve_way(struct link *link, enum proxy_way way, bool readable)
{
    struct flow *flow = &link->flow[way];
    if ((readable && !flow_read(flow, link->fd[way])) || !flow_write(flow, link->fd[!way])) {
        if (!flow->rules.swallow) {
            link_close(link, true);
            return;
        }
        flow->ended = true;
        flow_drop(flow);
    }
    if (flow->first)
        return;
    if (is_cut(flow->rules.fault) && !flow->fired && flow->seen >= flow->rules.at) {
        link_cut(link, way);
    } else if (flow->ended && !flow->over) {
        flow->over = true;
        if (flow->rules.swallow)
            flow->lost = true;
        else
            shutdown(link->fd[!way], SHUT_WR);
    }
}

void link_wait(const struct link *link, struct pollfd wait[2], double *wake)
{
    for (int way = 0; way < 2; way++)
        wait[way] = (struct pollfd){.fd = -1};
    if (link->state == LINK_CONNECTING) {
        wait[1] = (struct pollfd){.fd = link->fd[1], .events = POLLOUT};
        return;
    }
    if (link->state == LINK_HELD)
        wait[0] = (struct pollfd){.fd = link->fd[0], .events = POLLIN};
    if (link->state != LINK_OPEN)
        return;
    double now = proxy_now();
    for (int way = 0; way < 2; way++) {
        const struct flow *flow = &link->flow[way];
        if (flow_reads(flow))
            wait[way].events |= POLLIN;
        if (!flow->first)
            continue;
        double due = flow_due(flow);
        if (due <= now)
            wait[!way].events |= POLLOUT;
        else if (due < *wake)
            *wake = due;
    }
    /* A closed socket would be reported even when nothing is asked for. */
    for (int way = 0; way < 2; way++)
        wait[way].fd = wait[way].events ? link->fd[way] : -1;
}

static void link_connected(struct link *link)
{
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(link->fd[1], SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        link_close(link, true);
    else
        link->state = LINK_OPEN;
}

void link_serve(struct link *link, const struct pollfd wait[2])
{
    if (link->state == LINK_CONNECTING && wait[1].revents)
        link_connected(link);
    if (link->state == LINK_HELD && wait[0].revents) {
        char ignored[READ_SIZE];
        ssize_t n = recv(link->fd[0], ignored, sizeof(ignored), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            link_close(link, true);
    }
    for (int way = 0; way < 2 && link->state == LINK_OPEN; way++)
        link_serve_way(link, way ? PROXY_TO_CLIENT : PROXY_TO_SERVER, wait[way].revents != 0);
    if (link->state == LINK_OPEN && link->flow[0].over && link->flow[1].over)
        link_close(link, false);
}
