/* SPDX-License-Identifier: MIT */
#include "support/watchdog.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

const double watchdog_tick = 0.004;

static double seconds_of(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

double watchdog_thread_cpu(void)
{
    return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

static double now(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

/* How long this thread has been runnable and did not run, says the kernel. */
static double thread_delay(const struct watchdog *dog)
{
    char text[100];
    unsigned long long ran, delayed = 0;
    ssize_t length = dog->schedstat >= 0 ? pread(dog->schedstat, text, sizeof(text) - 1, 0) : 0;
    if (length <= 0)
        return 0.;
    text[length] = '\0';
    return sscanf(text, "%llu %llu", &ran, &delayed) == 2 ? (double)delayed / 1e9 : 0.;
}

static void starved_for(struct watchdog *dog, double seconds)
{
    dog->starved = seconds > dog->starved ? seconds : dog->starved;
}

/* Between two turns only poll runs: all that it slept longer than a tick is the machine's. */
static void on_woke(struct ev_loop *loop, ev_check *w, int events)
{
    (void)loop;
    (void)events;
    struct watchdog *dog = w->data;
    dog->woke = now();
    dog->woke_cpu = watchdog_thread_cpu();
    if (dog->slept != 0.)
        starved_for(dog, dog->woke - dog->slept - watchdog_tick);
}

void watchdog_turn(struct watchdog *dog, double clock, double cpu)
{
    dog->longest = clock > dog->longest ? clock : dog->longest;
    if (cpu > dog->longest_cpu) {
        dog->second_cpu = dog->longest_cpu;
        dog->longest_cpu = cpu;
    } else if (cpu > dog->second_cpu) {
        dog->second_cpu = cpu;
    }
}

static void on_blocks(struct ev_loop *loop, ev_prepare *w, int events)
{
    (void)loop;
    (void)events;
    struct watchdog *dog = w->data;
    double delay = thread_delay(dog);
    starved_for(dog, delay - dog->delayed);
    dog->delayed = delay;
    dog->slept = now();
    if (dog->woke != 0.)
        watchdog_turn(dog, dog->slept - dog->woke, watchdog_thread_cpu() - dog->woke_cpu);
    dog->woke = 0.;
}

void watchdog_start(struct watchdog *dog, struct ev_loop *loop)
{
    *dog =
        (struct watchdog){.schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)};
    dog->delayed = thread_delay(dog);
    ev_prepare_init(&dog->before, on_blocks);
    ev_check_init(&dog->after, on_woke);
    dog->before.data = dog->after.data = dog;
    /* Before blocking: last of all, so that what evpq does there counts. */
    ev_set_priority(&dog->before, EV_MINPRI);
    ev_set_priority(&dog->after, EV_MAXPRI);
    ev_prepare_start(loop, &dog->before);
    ev_check_start(loop, &dog->after);
}

void watchdog_stop(struct watchdog *dog, struct ev_loop *loop)
{
    ev_prepare_stop(loop, &dog->before);
    ev_check_stop(loop, &dog->after);
    if (dog->schedstat >= 0)
        close(dog->schedstat);
    dog->schedstat = -1;
}

void watchdog_forget(struct watchdog *dog)
{
    dog->woke = 0.;
}

double watchdog_burnt(const struct watchdog *dog)
{
    double alone = dog->longest_cpu / 5.;
    return dog->second_cpu > alone ? dog->second_cpu : alone;
}
