/* SPDX-License-Identifier: MIT */
/*
 * So many connections at once, by PQconnectStart() and PQconnectPoll() in one loop: so it is this
 * loop that looks up names and computes what passwords need.
 */
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bare/bare.h"

static void dial_step(int epoll, PGconn **slot, uint64_t *left)
{
    int before = PQsocket(*slot);
    /* libpq may go on with another socket of the same number, which is not known yet. */
    epoll_ctl(epoll, EPOLL_CTL_DEL, before, NULL);
    PostgresPollingStatusType next = PQconnectPoll(*slot);
    struct epoll_event event = {.events = next == PGRES_POLLING_READING ? EPOLLIN : EPOLLOUT,
                                .data.ptr = slot};
    if (next == PGRES_POLLING_FAILED)
        bare_fail(*slot, "PQconnectPoll");
    if (next == PGRES_POLLING_OK)
        --*left;
    else
        epoll_ctl(epoll, EPOLL_CTL_ADD, PQsocket(*slot), &event);
}

static void dial_all(const struct bench_options *options, struct bench_meter *meter, PGconn **all)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    uint64_t left = options->connections;
    int64_t began_ns = bench_now_ns();
    bench_turn_begin(meter);
    for (uint64_t i = 0; i < options->connections; i++) {
        all[i] = PQconnectStart(options->conninfo ? options->conninfo : "");
        if (PQstatus(all[i]) == CONNECTION_BAD)
            bare_fail(all[i], "PQconnectStart");
        struct epoll_event event = {.events = EPOLLOUT, .data.ptr = &all[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, PQsocket(all[i]), &event);
    }
    while (left > 0) {
        struct epoll_event events[64];
        bench_turn_end(meter);
        int count = epoll_wait(epoll, events, 64, -1);
        bench_turn_begin(meter);
        for (int i = 0; i < count; i++) {
            uint64_t before = left;
            dial_step(epoll, events[i].data.ptr, &left);
            if (left < before)
                bench_meter_latency(meter, bench_now_ns() - began_ns);
        }
    }
    bench_turn_end(meter);
    close(epoll);
}

void bare_dials(const struct bench_options *options)
{
    static struct bench_meter meter;
    PGconn **all = bench_alloc(options->connections, sizeof(PGconn *));
    uint64_t rounds = options->count / options->connections;
    int64_t wall_ns = 0;
    bench_meter_begin(&meter);
    for (uint64_t round = 0; round < rounds; round++) {
        int64_t began_ns = bench_now_ns();
        dial_all(options, &meter, all);
        wall_ns += bench_now_ns() - began_ns;
        for (uint64_t i = 0; i < options->connections; i++)
            PQfinish(all[i]);
    }
    bench_meter_end(&meter);
    meter.wall_ns = wall_ns; /* of the dials only */
    bench_meter_print(&meter, rounds * options->connections);
    free(all);
}
