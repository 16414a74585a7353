/* SPDX-License-Identifier: MIT */
/*
 * The ranges of a scan: cut at quantiles of a sample, or resumed from tokens.
 */
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "page/scan.h"

bool evpq__ranges_init(struct evpq_scan *scan, size_t resumed, uint32_t limit)
{
    scan->range_limit = limit;
    scan->range_room = resumed > limit ? (uint32_t)resumed : limit;
    scan->ranges = evpq__alloc(scan->range_room * sizeof(scan->ranges[0]));
    if (!scan->ranges)
        return false;
    for (uint32_t i = 0; i < scan->range_room; i++)
        evpq__list_init(&scan->ranges[i].chunks);
    scan->range_count = 1;
    return true;
}

void evpq__ranges_free(struct evpq_scan *scan)
{
    for (uint32_t i = 0; scan->ranges && i < scan->range_room; i++) {
        evpq__place_free(scan->ranges[i].stand);
        evpq__place_free(scan->ranges[i].until);
    }
    evpq__free(scan->ranges);
    scan->ranges = NULL;
}

static int read_token(struct evpq__place **out, const struct evpq_scan *scan, const char *token)
{
    struct evpq__token read;
    if (!token)
        return EVPQ_OK;
    int code = evpq__token_decode(&read, &scan->front->walk, token, false, time(NULL));
    if (code != EVPQ_OK)
        return code;
    *out = evpq__place_new(&read.position, evpq__pager_keys(scan->front));
    return *out ? EVPQ_OK : EVPQ_ENOMEM;
}

int evpq__ranges_resume(struct evpq_scan *scan, const evpq_scan_range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int code = read_token(&scan->ranges[i].stand, scan, ranges[i].after);
        if (code == EVPQ_OK)
            code = read_token(&scan->ranges[i].until, scan, ranges[i].until);
        if (code != EVPQ_OK)
            return code;
    }
    if (count > 0)
        scan->range_count = (uint32_t)count;
    return EVPQ_OK;
}

bool evpq__ranges_to_cut(const struct evpq_scan *scan)
{
    return scan->range_count == 1 && scan->range_limit > 1;
}

uint32_t evpq__ranges_sample(const struct evpq_scan *scan)
{
    uint32_t rows = 16 * scan->range_limit;
    return rows > EVPQ__SCAN_SAMPLE ? rows : EVPQ__SCAN_SAMPLE;
}

static bool same_keys(const PGresult *pg, int row, int other)
{
    for (int i = 0; i < PQnfields(pg); i++) {
        int length = PQgetlength(pg, row, i);
        if (PQgetisnull(pg, row, i) != PQgetisnull(pg, other, i) ||
            length != PQgetlength(pg, other, i) ||
            memcmp(PQgetvalue(pg, row, i), PQgetvalue(pg, other, i), (size_t)length) != 0)
            return false;
    }
    return true;
}

/* How many ranges a sample is good for: of a small table it is all rows. */
static uint32_t wanted(const struct evpq_scan *scan, uint32_t rows)
{
    uint32_t page = scan->front->page_size, limit = scan->range_limit;
    if (rows < evpq__ranges_sample(scan)) {
        uint32_t pages = (rows + page - 1) / page;
        limit = pages < limit ? pages : limit;
    }
    return limit > 0 ? limit : 1;
}

/* The range ends behind this row, and the next one begins there. */
static bool cut_at(struct evpq_scan *scan, const PGresult *sample, int row)
{
    int columns[EVPQ__KEYS_MAX];
    for (int i = 0; i < EVPQ__KEYS_MAX; i++)
        columns[i] = i;
    struct evpq__place *until = evpq__place_at(scan->front, 0, sample, row, columns, false);
    struct evpq__place *stand = evpq__place_at(scan->front, 0, sample, row, columns, false);
    if (!until || !stand) {
        evpq__place_free(until);
        evpq__place_free(stand);
        return false;
    }
    struct evpq__range *range = &scan->ranges[scan->range_count - 1];
    range[1].until = range->until;
    range->until = until;
    range[1].stand = stand;
    scan->range_count++;
    return true;
}

bool evpq__ranges_cut(struct evpq_scan *scan, const PGresult *sample)
{
    uint32_t rows = (uint32_t)PQntuples(sample);
    uint32_t count = wanted(scan, rows);
    int last = -1;
    for (uint32_t i = 1; i < count && rows > 0; i++) {
        int row = (int)((uint64_t)i * rows / count);
        if (last >= 0 && same_keys(sample, last, row))
            continue;
        if (!cut_at(scan, sample, row))
            return false;
        last = row;
    }
    return true;
}
