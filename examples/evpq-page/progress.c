/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool progress_wanted(void)
{
    struct stat out, err;
    if (!isatty(STDERR_FILENO))
        return false;
    return !isatty(STDOUT_FILENO) || fstat(STDOUT_FILENO, &out) != 0 ||
           fstat(STDERR_FILENO, &err) != 0 || out.st_rdev != err.st_rdev;
}

/* Seconds until the end at the present rate. False: nobody knows, as when the walk began elsewhere
 * than at an end of the rows that were counted. */
static bool progress_left(const struct progress *progress, double rate, uint64_t *seconds)
{
    const struct options *options = progress->options;
    uint64_t total;
    if (!count_total(progress->count, &total) || options->after || options->before || rate <= 0)
        return false;
    uint64_t wanted = (uint64_t)options->pages * options->page_size;
    if (wanted && wanted < total)
        total = wanted;
    if (total < progress->rows) /* an estimate */
        return false;
    *seconds = (uint64_t)((double)(total - progress->rows) / rate + 0.5);
    return true;
}

static void progress_print(struct progress *progress, bool last)
{
    double elapsed = ev_time() - progress->started;
    double rate = elapsed > 0 ? (double)progress->rows / elapsed : 0;
    char total[64], left[64] = "", line[256];
    uint64_t seconds;
    count_words(progress->count, total, sizeof total);
    if (!last && progress_left(progress, rate, &seconds))
        snprintf(left, sizeof left, ", ETA %" PRIu64 ":%02" PRIu64, seconds / 60, seconds % 60);
    int width = snprintf(
        line, sizeof line, "%" PRIu64 "%s%s%s, %" PRIu64 " page%s, %.0f rows/s, %.1f s%s",
        progress->rows, *total ? " of " : " row", total, *total || progress->rows == 1 ? "" : "s",
        progress->pages, progress->pages == 1 ? "" : "s", rate, elapsed, left);
    if (progress->terminal) {
        fprintf(stderr, "\r%-*s", progress->width, line);
        progress->width = width;
    } else {
        fprintf(stderr, "evpq-page: %s\n", line);
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    progress_print(timer->data, false);
}

void progress_start(struct progress *progress, struct ev_loop *loop, const struct count *count,
                    const struct options *options)
{
    progress->count = count;
    progress->options = options;
    progress->on = true;
    progress->terminal = isatty(STDERR_FILENO);
    progress->shared = progress->terminal && isatty(STDOUT_FILENO);
    progress->started = ev_time();
    progress->loop = loop;
    double every = progress->terminal ? 0.1 : 1;
    ev_timer_init(&progress->timer, on_timer, every, every);
    progress->timer.data = progress;
    ev_timer_start(loop, &progress->timer);
}

void progress_add(struct progress *progress, uint32_t rows)
{
    progress->rows += rows;
    progress->pages++;
}

void progress_hide(struct progress *progress)
{
    if (!progress->on || !progress->shared)
        return;
    fprintf(stderr, "\r%-*s\r", progress->width, "");
    progress->width = 0;
}

void progress_end(struct progress *progress)
{
    if (!progress->on)
        return;
    progress_print(progress, true);
    if (progress->terminal)
        fputc('\n', stderr);
    ev_timer_stop(progress->loop, &progress->timer);
    progress->on = false;
}
