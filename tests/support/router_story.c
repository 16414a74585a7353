/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "support/router_story.h"

struct evpq_pool *const primary = &fake_pools[0], *const one = &fake_pools[1],
                        *const two = &fake_pools[2];
evpq_router *router;

/* ---- answers ---- */

static void put(unsigned char *to, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (unsigned char)(value >> 8 * (size - 1 - i));
}

/* A row of `count` columns in binary; a size of 0 is NULL. Without memory, NULL. */
struct evpq_result *row(int count, const uint32_t *types, const size_t *sizes,
                        const uint64_t *values)
{
    PGresAttDesc columns[4] = {{0}};
    char name[] = "value";
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    for (int i = 0; i < count; i++)
        columns[i] = (PGresAttDesc){.name = name, .typid = types[i], .format = 1};
    assert_int_equal(PQsetResultAttrs(pg, count, columns), 1);
    for (int i = 0; i < count; i++) {
        unsigned char bytes[8];
        put(bytes, values[i], sizes[i]);
        assert_int_equal(PQsetvalue(pg, 0, i, (char *)bytes, sizes[i] ? (int)sizes[i] : -1), 1);
    }
    return evpq__result_new(pg, NULL);
}

void give(struct fake_ask *ask, struct evpq_result *result)
{
    assert_non_null(ask);
    if (result)
        fake_ask_answer(ask, result);
    else
        fake_ask_fail(ask, EVPQ_ENOMEM, EVPQ_ROLLED_BACK, NULL);
    fake_settle();
}

/* The probe of a pool hears of a server in this role; its last commit or clock is now. */
void say(struct evpq_pool *pool, bool standby, uint64_t lsn)
{
    uint64_t now = (uint64_t)fake_now_us() + UINT64_C(800000000000000);
    give(fake_probe(pool), row(4,
                               (const uint32_t[]){EVPQ__OID_BOOL, EVPQ__OID_LSN,
                                                  EVPQ__OID_TIMESTAMPTZ, EVPQ__OID_INT4},
                               (const size_t[]){1, 8, standby ? 0 : 8, standby ? 0 : 4},
                               (const uint64_t[]){standby, lsn, now, 1}));
}

void answer(struct evpq_pool *pool)
{
    give(fake_statement(pool),
         row(1, (const uint32_t[]){EVPQ__OID_INT4}, (const size_t[]){4}, (const uint64_t[]){42}));
}

void refuse(struct evpq_pool *pool, evpq_code code, evpq_fate fate, const char *sqlstate)
{
    struct fake_ask *ask = fake_statement(pool);
    assert_non_null(ask);
    fake_ask_fail(ask, code, fate, sqlstate);
    fake_settle();
}

/* ---- questions ---- */

void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct seen *seen = user;
    assert_true(!result == !!err);
    seen->calls++;
    seen->code = evpq_error_code(err);
    seen->fate = evpq_error_fate(err);
    if (seen->close) {
        evpq_router_close(router);
        router = NULL;
    }
}

void ask_with(struct seen *seen, uint32_t timeout_ms, const evpq_read *how)
{
    bool close = seen->close;
    *seen = (struct seen){.close = close};
    assert_int_equal(evpq_router_query(&seen->op, router,
                                       EVPQ_QUERY("SELECT $1", EVPQ_PARAMS(evpq_untyped("p")),
                                                  .timeout_ms = timeout_ms, .tag = "tag"),
                                       how, on_result, seen),
                     EVPQ_OK);
    fake_settle();
}

void ask(struct seen *seen)
{
    ask_with(seen, 1000, EVPQ_READ_ONLY());
}

/* A router of two standbys, that nobody has asked. */
void open_idle(void)
{
    assert_int_equal(
        evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = primary, EVPQ_STANDBYS(one, two),
                                                      .max_lag_ms = 4000)),
        EVPQ_OK);
}

/* Which knows that both are up to date. */
void open_fresh(void)
{
    open_idle();
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY()), primary);
    say(primary, false, 1000);
    say(one, true, 1000);
    say(two, true, 1000);
}

evpq_router_stats stats(void)
{
    evpq_router_stats now = {.size = sizeof(now)};
    assert_int_equal(evpq_router_stats_get(router, &now), EVPQ_OK);
    return now;
}

int router_begin(void **state)
{
    (void)state;
    fake_reset();
    fake_pools_begin();
    router = NULL;
    return 0;
}

int router_end(void **state)
{
    (void)state;
    evpq_router_close(router);
    fake_settle();
    fake_pools_end();
    fake_nothing_left();
    return 0;
}
