/* SPDX-License-Identifier: MIT */
#include "bare/bare.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct bare_link {
    PGconn *pg;
    uint64_t in_flight;
    struct bare_op *first, **last; /* those that are sent */
    PGresult *answer;
    bool unflushed; /* something may be left in libpq */
    bool writing;   /* the socket is full, and watched for room */
};

void bare_fail(const PGconn *pg, const char *where)
{
    bench_fail("%s: %s", where, PQerrorMessage(pg));
}

int64_t bare_int8(const PGresult *result, int row, int column)
{
    const char *value = PQgetvalue(result, row, column);
    uint64_t big;
    if (PQfformat(result, column) == 0)
        return strtoll(value, NULL, 10);
    memcpy(&big, value, sizeof(big));
    return (int64_t)be64toh(big);
}

void bare_row(struct bench_meter *meter, const PGresult *result, int row)
{
    const char *value = PQgetvalue(result, row, 1);
    int32_t amount;
    if (PQfformat(result, 1) == 0) {
        amount = (int32_t)strtol(value, NULL, 10);
    } else {
        uint32_t big;
        memcpy(&big, value, sizeof(big));
        amount = (int32_t)be32toh(big);
    }
    bench_meter_row(meter, bare_int8(result, row, 0), amount, PQgetvalue(result, row, 2),
                    (size_t)PQgetlength(result, row, 2));
}

static void watch(struct bare *bare, struct bare_link *link, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (link->writing ? EPOLLOUT : 0),
                                .data.ptr = link};
    if (epoll_ctl(bare->epoll, how, PQsocket(link->pg), &event) != 0)
        bench_fail("epoll_ctl");
}

void bare_open(struct bare *bare, const struct bench_options *options)
{
    *bare = (struct bare){
        .epoll = epoll_create1(EPOLL_CLOEXEC),
        .depth = options->depth,
        .plain = options->plain,
        .count = options->connections,
        .links = bench_alloc(options->connections, sizeof(*bare->links)),
    };
    bare->last = &bare->first;
    for (uint64_t i = 0; i < bare->count; i++) {
        struct bare_link *link = &bare->links[i];
        link->last = &link->first;
        link->pg = PQconnectdb(options->conninfo ? options->conninfo : "");
        if (PQstatus(link->pg) != CONNECTION_OK)
            bare_fail(link->pg, "connect");
        if (PQsetnonblocking(link->pg, 1) != 0)
            bare_fail(link->pg, "PQsetnonblocking");
        watch(bare, link, EPOLL_CTL_ADD);
    }
}

void bare_prepare(struct bare *bare, const char *name, const char *sql)
{
    for (uint64_t i = 0; i < bare->count; i++) {
        PGconn *pg = bare->links[i].pg;
        PGresult *result = PQprepare(pg, name, sql, 0, NULL);
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            bare_fail(pg, "PQprepare");
        PQclear(result);
    }
}

void bare_ready(struct bare *bare)
{
    for (uint64_t i = 0; !bare->plain && i < bare->count; i++)
        if (!PQenterPipelineMode(bare->links[i].pg))
            bare_fail(bare->links[i].pg, "PQenterPipelineMode");
}

static void link_send(struct bare *bare, struct bare_link *link, struct bare_op *op)
{
    if (!PQsendQueryPrepared(link->pg, op->statement, op->value ? 1 : 0, &op->value, &op->length,
                             &op->format, op->format))
        bare_fail(link->pg, "PQsendQueryPrepared");
    if (!bare->plain &&
        !(PQsendPipelineSync ? PQsendPipelineSync(link->pg) : PQpipelineSync(link->pg)))
        bare_fail(link->pg, "Sync");
    link->unflushed = true;
    link->in_flight++;
    op->next = NULL;
    *link->last = op;
    link->last = &op->next;
}

static struct bare_link *least_in_flight(struct bare *bare)
{
    struct bare_link *least = &bare->links[0];
    for (uint64_t i = 1; i < bare->count && least->in_flight > 0; i++)
        if (bare->links[i].in_flight < least->in_flight)
            least = &bare->links[i];
    return least->in_flight < bare->depth ? least : NULL;
}

void bare_send(struct bare *bare, struct bare_op *op)
{
    /* The connection that is being read has room: it takes the first in line when we return. */
    struct bare_link *link = bare->reading || bare->first ? NULL : least_in_flight(bare);
    if (link) {
        link_send(bare, link, op);
        return;
    }
    op->next = NULL;
    *bare->last = op;
    bare->last = &op->next;
}

static void link_over(struct bare *bare, struct bare_link *link)
{
    struct bare_op *op = link->first;
    PGresult *answer = link->answer;
    link->answer = NULL;
    link->first = op->next;
    if (!link->first)
        link->last = &link->first;
    link->in_flight--;
    bare->reading = link;
    op->done(op, answer);
    bare->reading = NULL;
    PQclear(answer);
    while (bare->first && link->in_flight < bare->depth) {
        struct bare_op *next = bare->first;
        bare->first = next->next;
        if (!bare->first)
            bare->last = &bare->first;
        link_send(bare, link, next);
    }
}

static void link_read(struct bare *bare, struct bare_link *link)
{
    if (!PQconsumeInput(link->pg))
        bare_fail(link->pg, "PQconsumeInput");
    while (link->in_flight > 0 && !PQisBusy(link->pg)) {
        PGresult *result = PQgetResult(link->pg);
        if (!result) {
            if (PQstatus(link->pg) != CONNECTION_OK)
                bare_fail(link->pg, "PQgetResult");
            if (bare->plain)
                link_over(bare, link);
            continue;
        }
        switch (PQresultStatus(result)) {
        case PGRES_TUPLES_OK:
            link->answer = result;
            break;
        case PGRES_PIPELINE_SYNC:
            PQclear(result);
            link_over(bare, link);
            break;
        default:
            bare_fail(link->pg, "result");
        }
    }
}

static void link_flush(struct bare *bare, struct bare_link *link)
{
    int left = PQflush(link->pg);
    if (left < 0)
        bare_fail(link->pg, "PQflush");
    link->unflushed = left > 0;
    if (link->writing != link->unflushed) {
        link->writing = link->unflushed;
        watch(bare, link, EPOLL_CTL_MOD);
    }
}

static void flush_all(struct bare *bare)
{
    for (uint64_t i = 0; i < bare->count; i++)
        if (bare->links[i].unflushed)
            link_flush(bare, &bare->links[i]);
}

void bare_run(struct bare *bare, int fd, void (*readable)(void *user), void *user)
{
    struct epoll_event other = {.events = EPOLLIN}, events[64];
    if (fd >= 0 && epoll_ctl(bare->epoll, EPOLL_CTL_ADD, fd, &other) != 0)
        bench_fail("epoll_ctl");
    bare->stopped = false;
    flush_all(bare);
    while (!bare->stopped) {
        int count = epoll_wait(bare->epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            struct bare_link *link = events[i].data.ptr;
            if (!link) {
                readable(user);
                continue;
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT)
                link_read(bare, link);
            if (link->unflushed)
                link_flush(bare, link);
        }
        if (fd >= 0)
            flush_all(bare);
    }
    if (fd >= 0)
        epoll_ctl(bare->epoll, EPOLL_CTL_DEL, fd, NULL);
}

void bare_stop(struct bare *bare)
{
    bare->stopped = true;
}

void bare_close(struct bare *bare)
{
    for (uint64_t i = 0; i < bare->count; i++)
        PQfinish(bare->links[i].pg);
    free(bare->links);
    close(bare->epoll);
}
