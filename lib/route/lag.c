/* SPDX-License-Identifier: MIT */
#include "route/lag.h"

#include <string.h>

static const struct evpq__wal_sample *newest(const struct evpq__wal *wal)
{
    return wal->count ? &wal->samples[wal->count - 1] : NULL;
}

void evpq__wal_add(struct evpq__wal *wal, const struct evpq__wal_sample *sample, int64_t spacing_us)
{
    const struct evpq__wal_sample *last = newest(wal);
    /* Another server, or the same from a backup: what the old one has written says nothing. */
    if (last && (sample->timeline != last->timeline || sample->lsn < last->lsn))
        wal->count = 0;
    if (wal->count > 1 && last->asked_us - last[-1].asked_us < spacing_us)
        wal->count--;
    if (wal->count == EVPQ__WAL_SAMPLES) {
        memmove(wal->samples, wal->samples + 1, sizeof(wal->samples) - sizeof(wal->samples[0]));
        wal->count--;
    }
    wal->samples[wal->count++] = *sample;
}

void evpq__replay_report(struct evpq__replay *replay, const struct evpq__replay_report *report)
{
    /* It never goes back but to start over. */
    if (!replay->known || report->lsn < replay->lsn)
        *replay = (struct evpq__replay){.known = true, .fresh_us = EVPQ__NEVER_US};
    replay->answered_us = report->answered_us;
    replay->lsn = report->lsn;
    replay->commit_us = report->commit_us;
    replay->timeline = report->timeline;
}

static void fresh_at(struct evpq__replay *replay, int64_t moment_us)
{
    if (replay->fresh_us < moment_us)
        replay->fresh_us = moment_us;
}

/* Not for certain, as long as it does not tell. */
static bool same_timeline(const struct evpq__replay *replay, const struct evpq__wal_sample *primary)
{
    return !replay->timeline || replay->timeline == primary->timeline;
}

/*
 * A standby has only what its primary has written before. When it had more than the primary has
 * later, the two have parted, as after a failover to one that was behind; and they stay parted when
 * the primary's place in the log has passed its own.
 */
static bool has_more(const struct evpq__replay *replay, const struct evpq__wal_sample *primary)
{
    return primary->asked_us >= replay->answered_us && primary->lsn < replay->lsn;
}

void evpq__replay_judge(struct evpq__replay *replay, const struct evpq__wal *wal)
{
    const struct evpq__wal_sample *last = newest(wal);
    if (!replay->known || !last)
        return;
    if (has_more(replay, last))
        replay->parted = true;
    if (replay->parted || !same_timeline(replay, last))
        return;
    unsigned i = wal->count;
    while (i > 0 && wal->samples[i - 1].lsn > replay->lsn)
        i--;
    if (i > 0)
        fresh_at(replay, wal->samples[i - 1].asked_us);
    /* A commit in the future is one of another clock, or the next sample will show it. */
    if (replay->commit_us != EVPQ__NEVER_US && replay->commit_us <= last->clock_us)
        fresh_at(replay, last->asked_us - (last->clock_us - replay->commit_us));
}

/* May it be one of another primary? */
static bool strange(const struct evpq__replay *replay, const struct evpq__wal *wal)
{
    const struct evpq__wal_sample *last = newest(wal);
    return !replay->known || replay->parted || (last && !same_timeline(replay, last));
}

uint64_t evpq__lag_bytes(const struct evpq__replay *replay, const struct evpq__wal *wal)
{
    const struct evpq__wal_sample *last = newest(wal);
    if (strange(replay, wal) || !last)
        return EVPQ__NO_BOUND;
    return last->lsn > replay->lsn ? last->lsn - replay->lsn : 0;
}

uint64_t evpq__lag_us(const struct evpq__replay *replay, const struct evpq__wal *wal,
                      int64_t now_us)
{
    if (evpq__lag_bytes(replay, wal) == EVPQ__NO_BOUND || replay->fresh_us == EVPQ__NEVER_US)
        return EVPQ__NO_BOUND;
    return now_us > replay->fresh_us ? (uint64_t)(now_us - replay->fresh_us) : 0;
}

static bool at_most(uint64_t lag, uint64_t bound)
{
    return bound == EVPQ__NO_BOUND || lag <= bound;
}

bool evpq__lag_within(const struct evpq__replay *replay, const struct evpq__wal *wal,
                      const struct evpq__lag_bounds *bounds, int64_t now_us)
{
    return !strange(replay, wal) && replay->lsn >= bounds->after_lsn &&
           at_most(evpq__lag_bytes(replay, wal), bounds->max_bytes) &&
           at_most(evpq__lag_us(replay, wal, now_us), bounds->max_us);
}
