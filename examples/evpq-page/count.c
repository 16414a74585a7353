/* SPDX-License-Identifier: MIT */
#include "count.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "screen.h"

static void on_count(const evpq_count *found, const evpq_error *err, void *user)
{
    struct count *count = user;
    count->op = NULL;
    if (err && evpq_error_code(err) == EVPQ_ECLOSED) {
        count->state = COUNT_OFF; /* the walk has ended */
        return;
    }
    count->state = err ? COUNT_FAILED : COUNT_KNOWN;
    if (err)
        count->problem = error_text(err, NULL);
    else
        count->count = *found;
    count->on_counted(count->user);
}

void count_start(struct count *count, const struct options *options, evpq_pager *pager,
                 void (*on_counted)(void *user), void *user)
{
    if (!options->count)
        return;
    count->on_counted = on_counted;
    count->user = user;
    int code = evpq_pager_count(&count->op, pager, (evpq_count_kind)options->count,
                                options->count_bound, on_count, count);
    count->state = code == EVPQ_OK ? COUNT_ASKED : COUNT_FAILED;
    if (code != EVPQ_OK) {
        count->problem = strdup(evpq_code_text(code));
        on_counted(user);
    }
}

void count_done(struct count *count)
{
    free(count->problem);
    count->problem = NULL;
}

void count_words(const struct count *count, char *out, size_t size)
{
    const char *how = "";
    *out = 0;
    if (count->state != COUNT_KNOWN)
        return;
    if (count->count.kind == EVPQ_COUNT_ESTIMATE)
        how = "about ";
    else if (count->count.more)
        how = "more than ";
    snprintf(out, size, "%s%" PRIu64 " row%s", how, count->count.rows,
             count->count.rows == 1 ? "" : "s");
}

void count_say(const struct count *count)
{
    static const char *const sources[] = {
        [EVPQ_COUNT_EXACT] = "counted",
        [EVPQ_COUNT_BOUNDED] = "counted up to a bound",
        [EVPQ_COUNT_ESTIMATE] = "estimated by the planner",
    };
    char words[64];
    count_words(count, words, sizeof words);
    if (count->state == COUNT_KNOWN)
        say("count: %s in all, %s", words, sources[count->count.kind]);
    else if (count->state == COUNT_FAILED)
        say("no count: %s", count->problem ? count->problem : "out of memory");
}

bool count_total(const struct count *count, uint64_t *rows)
{
    *rows = count->count.rows;
    return count->state == COUNT_KNOWN && !count->count.more;
}
