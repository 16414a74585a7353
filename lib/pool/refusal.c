/* SPDX-License-Identifier: MIT */
/* What a statement that was refused says of its server, which may take no writes any more, and what
 * its caller should know. */
#include <string.h>

#include "pg/conn.h"
#include "pool/pool.h"

/* At most once a second: a program that only ever meets refusals must not redial for each. */
static void server_takes_no_writes(struct evpq__slot *slot)
{
    enum { PAUSE_US = 1000000 };
    struct evpq_pool *pool = slot->pool;
    int64_t now = evpq__loop_now(pool->loop);
    if (slot->generation != pool->generation || now - pool->drifted_us < PAUSE_US)
        return;
    pool->drifted_us = now;
    evpq__pool_expire(pool, true, "server takes no writes");
}

/* It may be this session only, which is not handed out again. The next dial tells. */
static void session_takes_no_writes(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    if (slot->generation != pool->generation)
        return;
    pool->doubted_host = slot->host;
    pool->doubted_us = evpq__loop_now(pool->loop);
}

bool evpq__pool_takes_no_writes(struct evpq__slot *slot)
{
    if (!slot->pool->read_write)
        return false;
    if (evpq__conn_in_standby(slot->conn))
        server_takes_no_writes(slot);
    else if (evpq__conn_read_only(slot->conn))
        session_takes_no_writes(slot);
    else
        return false;
    return true;
}

static void refused_write(struct evpq__slot *slot, bool leased)
{
    if (!slot->pool->read_write)
        return;
    /* In a lease it may be the user's own transaction: the server's word counts. */
    if (evpq__conn_in_standby(slot->conn) || (!leased && !evpq__conn_read_only(slot->conn)))
        server_takes_no_writes(slot);
    else if (!leased)
        session_takes_no_writes(slot);
}

void evpq__pool_statement_failed(struct evpq__slot *slot, bool leased,
                                 const struct evpq__request *request, struct evpq_error *error)
{
    const char *sqlstate = evpq_error_sqlstate(error);
    if (strcmp(sqlstate, "25006") == 0) /* read_only_sql_transaction */
        refused_write(slot, leased);
    if (request->stale && strcmp(sqlstate, "26000") == 0) /* invalid_sql_statement_name */
        evpq__error_passes(error,
                           "what evpq had prepared on the server was dropped: the "
                           "statement, or its transaction, may be run again");
    if (request->stale && strcmp(sqlstate, "42P05") == 0) /* duplicate_prepared_statement */
        evpq__error_passes(error,
                           "the server had kept what evpq was to prepare: the statement, or "
                           "its transaction, may be run again");
    if (request->stale && strcmp(sqlstate, "0A000") == 0) /* feature_not_supported */
        evpq__error_passes(error,
                           "a table was altered after evpq had prepared the statement: it, "
                           "or its transaction, may be run again");
}

/*
 * A dial that began after a session took no writes has passed over that session's
 * host: so no session of it takes any, and most have not been asked yet.
 */
void evpq__pool_settle_doubt(struct evpq__slot *slot)
{
    struct evpq_pool *pool = slot->pool;
    int64_t began_us = slot->dialed_us;
    if (!pool->doubted_us || began_us < pool->doubted_us)
        return;
    pool->doubted_us = 0;
    if (slot->host == pool->doubted_host)
        return;
    uint32_t before = pool->generation;
    server_takes_no_writes(slot);
    if (pool->generation == before)
        return;
    slot->generation = pool->generation;
    struct evpq__list *dialing = &pool->slots[EVPQ__SLOT_DIALING];
    for (struct evpq__node *node = evpq__list_first(dialing); node;
         node = evpq__list_next(dialing, node)) {
        struct evpq__slot *other = evpq__container_of(node, struct evpq__slot, node);
        if (other->dialed_us >= began_us)
            other->generation = pool->generation;
    }
}
