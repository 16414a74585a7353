/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_WATCHDOG_H
#define EVPQ_TESTS_WATCHDOG_H

/*
 * How long the turns of a loop are, from waking up to sleeping: by the clock, and by the processor
 * that they burn, as the machine may take the processor away meanwhile.
 */

#include <ev.h>

struct watchdog {
    double longest;                 /* turn, by the clock */
    double longest_cpu, second_cpu; /* that turn which burnt the most, and the next */
    double starved;                 /* the most that it waited for a processor at a time */

    /* Private. */
    ev_prepare before;
    ev_check after;
    double woke, woke_cpu, slept, delayed;
    int schedstat;
};

/* Who looks that often, in seconds, makes a sleep that is longer the machine's. */
extern const double watchdog_tick;

void watchdog_start(struct watchdog *dog, struct ev_loop *loop);
void watchdog_stop(struct watchdog *dog, struct ev_loop *loop);

/* The test goes on by itself until it runs the loop again: no turn. */
void watchdog_forget(struct watchdog *dog);

/*
 * What a turn burns: as much as the second longest, or a fifth of the longest.
 *
 * For a virtual processor that its host takes away is not always subtracted: beside other load 0.1
 * ms of work was charged 7 ms of CPU in 2 of 40,000 rounds, and a turn of a case with 24 statements
 * 11 ms. What is evpq's doing happens again, or is much longer.
 */
double watchdog_burnt(const struct watchdog *dog);

/* What this thread has burnt. */
double watchdog_thread_cpu(void);

/* One turn, as the two watchers see it; for the test of this. */
void watchdog_turn(struct watchdog *dog, double clock, double cpu);

#endif /* EVPQ_TESTS_WATCHDOG_H */
