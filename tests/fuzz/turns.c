/* SPDX-License-Identifier: MIT */
#include "turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuzz.h"
#include "server.h"
#include "support/fake_helper.h"
#include "support/fake_loop.h"

enum { TURNS = 20000 }; /* who needs more never becomes quiet */

bool turns_calls_hang;
int turns_most_sessions;

/* What is watched is low: descriptors are given out from the bottom. */
enum { DESCRIPTORS = 128 };

static void look_at_sockets(void)
{
    struct pollfd looks[DESCRIPTORS];
    size_t count = 0;
    for (int fd = 0, left = fake_ios(); fd < DESCRIPTORS && left > 0; fd++) {
        int watched = fake_socket_watched(fd);
        if (!watched)
            continue;
        left--;
        looks[count++] = (struct pollfd){.fd = fd,
                                         .events = (short)((watched & EVPQ__READ ? POLLIN : 0) |
                                                           (watched & EVPQ__WRITE ? POLLOUT : 0))};
    }
    look_at(looks, count);
    for (size_t i = 0; i < count; i++) {
        int events = looks[i].revents;
        CHECK(!(events & POLLNVAL));
        int broken = events & (POLLERR | POLLHUP) ? EVPQ__READ | EVPQ__WRITE : 0;
        fake_socket_quiet(looks[i].fd, EVPQ__READ | EVPQ__WRITE);
        fake_socket_ready(looks[i].fd, broken | (events & POLLIN ? EVPQ__READ : 0) |
                                           (events & POLLOUT ? EVPQ__WRITE : 0));
    }
}

static void quiet_sockets(void)
{
    for (int fd = 0; fd < DESCRIPTORS; fd++)
        fake_socket_quiet(fd, EVPQ__READ | EVPQ__WRITE);
}

bool turns_once(void)
{
    bool moved = server_step();
    CHECK(!turns_most_sessions || !server_has_more_than(turns_most_sessions));
    look_at_sockets();
    moved |= fake_turn();
    while (!turns_calls_hang && fake_calls() > 0) {
        fake_call_return();
        moved = true;
    }
    return moved;
}

void turns_run(void)
{
    for (int turn = 0; turns_once(); turn++)
        CHECK(turn < TURNS);
}

void turns_pass(uint32_t ms)
{
    quiet_sockets();
    fake_advance(ms);
    turns_run();
}

bool turns_pass_until(bool (*condition)(void), uint32_t limit_ms)
{
    turns_run();
    for (uint32_t step = 1; !condition() && limit_ms > 0; limit_ms -= step) {
        step = step < 20 ? step * 2 : 20;
        step = step < limit_ms ? step : limit_ms;
        turns_pass(step);
    }
    return condition();
}
