/* SPDX-License-Identifier: MIT */

/*
 * A write on the primary, then a read that must see it: from the standby as soon as that has it.
 *
 *     standby PRIMARY STANDBY        connection strings
 */

#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>

static evpq_pool *primary, *standby;
static evpq_router *router;
static int status;

static void finish(const char *what, const evpq_error *err)
{
    if (err) {
        fprintf(stderr, "standby: %s: %s\n", what, evpq_error_message(err));
        status = 1;
    }
    evpq_router_close(router);
    evpq_pool_close(primary, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
    evpq_pool_close(standby, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

static void on_read(evpq_result *result, const evpq_error *err, void *user)
{
    bool from_standby;
    (void)user;
    if (!err && evpq_result_bool(result, 0, 0, &from_standby) == EVPQ_OK)
        printf("read from the %s\n", from_standby ? "standby" : "primary");
    finish("read", err);
}

static void on_lsn(uint64_t lsn, const evpq_error *err, void *user)
{
    const evpq_read *read = EVPQ_READ_ONLY(.after_lsn = lsn);
    (void)user;
    if (err || evpq_router_query(NULL, router, EVPQ_QUERY("SELECT pg_is_in_recovery()"), read,
                                 on_read, NULL))
        finish("place", err);
}

static void on_written(evpq_result *result, const evpq_error *err, void *user)
{
    (void)result;
    if (err || evpq_router_write_lsn(NULL, router, 0, on_lsn, user))
        finish("write", err);
}

int main(int argc, char **argv)
{
    struct ev_loop *loop = ev_default_loop(0);
    if (argc != 3) {
        fprintf(stderr, "Usage: standby PRIMARY STANDBY\n");
        return 1;
    }
    if (evpq_pool_open(&primary, loop, EVPQ_POOL_OPTIONS(.conninfo = argv[1])) != EVPQ_OK ||
        evpq_pool_open(&standby, loop, EVPQ_POOL_OPTIONS(.conninfo = argv[2])) != EVPQ_OK ||
        evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(standby),
                                                      .max_lag_ms = 2000)) != EVPQ_OK ||
        evpq_router_query(NULL, router, EVPQ_QUERY("SELECT txid_current()", .timeout_ms = 5000),
                          NULL, on_written, NULL) != EVPQ_OK)
        return 1;
    ev_run(loop, 0); /* returns when the pools have closed */
    return status;
}
