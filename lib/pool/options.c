/* SPDX-License-Identifier: MIT */
#include "pg/conninfo.h"
#include "pg/pq.h"
#include "pool/pool.h"

enum { MAX_CONNECTIONS = 10000, MAX_STATEMENTS = 10000, MAX_DEPTH = 1000 };

static void set_default(uint32_t *field, uint32_t value)
{
    if (*field == 0)
        *field = value;
}

const char *evpq__pool_options_read(struct evpq_pool_options *out,
                                    const struct evpq_pool_options *options)
{
    static const struct evpq_pool_options all_defaults = {.size = sizeof(all_defaults)};
    const char *problem = evpq__options_read(out, sizeof(*out), options ? options : &all_defaults);
    if (problem)
        return problem;
    if (out->conninfo && !out->conninfo[0])
        return "conninfo is empty; leave it NULL for libpq's environment and defaults";
    if (!evpq__conninfo_valid(out->conninfo))
        return "conninfo is no connection string or URI that libpq can read";
    set_default(&out->max_size, 10);
    set_default(&out->max_waiters, 10000);
    set_default(&out->connect_timeout_ms, 10000);
    set_default(&out->query_timeout_ms, 30000);
    set_default(&out->cancel_timeout_ms, 2000);
    set_default(&out->idle_timeout_ms, 600000);
    set_default(&out->max_lifetime_ms, 3600000);
    set_default(&out->cancels_per_s, 100);
    set_default(&out->lease_overdue_ms, 60000);
    set_default(&out->pipeline_depth, 1);
    if (out->statement_cache_bytes == 0)
        out->statement_cache_bytes = 1024 * 1024;
    if (out->max_size > MAX_CONNECTIONS)
        return "max_size is over 10,000";
    if (out->min_size > out->max_size)
        return "min_size is larger than max_size";
    if (out->connect_timeout_ms == EVPQ_NEVER)
        return "connect_timeout_ms cannot be EVPQ_NEVER";
    if (out->cancel_policy < EVPQ_CANCEL_AND_KEEP || out->cancel_policy > EVPQ_CLOSE_ONLY)
        return "cancel_policy is none of evpq_cancel_policy";
    if (out->trace_kinds >= 2 * (uint32_t)EVPQ_TRACE_WARNING)
        return "trace_kinds has one that is none of evpq_trace_kind";
    if (!evpq__switch_valid(out->server_timeout))
        return "server_timeout is none of evpq_switch";
    if (out->pipeline_depth > MAX_DEPTH)
        return "pipeline_depth is over 1,000";
    if (out->pipeline_depth > 1 && !evpq__pq_can_share())
        return "pipeline_depth needs a libpq that keeps its place when a pipeline fails: 14.11, "
               "15.6, 16.2 or later";
    if (out->pipeline_depth > 1 && out->cancel_policy != EVPQ_CANCEL_AND_KEEP)
        return "pipeline_depth needs EVPQ_CANCEL_AND_KEEP: another cancel_policy would end the "
               "statements of others";
    if (out->statement_cache > MAX_STATEMENTS && out->statement_cache != EVPQ_NEVER)
        return "statement_cache is over 10,000";
    if (out->cancel_timeout_ms == EVPQ_NEVER)
        return "cancel_timeout_ms cannot be EVPQ_NEVER";
    return NULL;
}

const char *evpq_pool_options_problem(const evpq_pool_options *options)
{
    struct evpq_pool_options complete;
    return evpq__pool_options_read(&complete, options);
}
