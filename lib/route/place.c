/* SPDX-License-Identifier: MIT */
/* The place in the primary's log behind a write. */
#include "base/mem.h"
#include "route/router.h"

struct place {
    evpq_lsn_fn *on_lsn;
    void *user;
};

static void place_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct place *place = user;
    uint64_t lsn = 0;
    struct evpq_error wrong = {0};
    if (!err && evpq_result_lsn(result, 0, 0, &lsn) != EVPQ_OK) {
        evpq__error_set(&wrong, EVPQ_ETYPE, EVPQ_ROLLED_BACK,
                        "the server told no place in its log");
        err = &wrong;
    }
    place->on_lsn(lsn, err, place->user);
    evpq__error_clear(&wrong);
    evpq__free(place);
}

int evpq_router_write_lsn(evpq_op **out, evpq_router *router, uint32_t timeout_ms,
                          evpq_lsn_fn *on_lsn, void *user)
{
    if (!router || !on_lsn)
        return EVPQ_EINVALID;
    struct place *place = evpq__alloc(sizeof(*place));
    if (!place)
        return EVPQ_ENOMEM;
    place->on_lsn = on_lsn;
    place->user = user;
    evpq_query query = {.size = sizeof(query),
                        .sql = "SELECT pg_catalog.pg_current_wal_insert_lsn()",
                        .timeout_ms = timeout_ms};
    int code = evpq_pool_query(out, router->primary.pool, &query, place_on_result, place);
    if (code != EVPQ_OK)
        evpq__free(place);
    return code;
}
