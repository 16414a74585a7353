/* SPDX-License-Identifier: MIT */
/* A backend is killed in the middle of a stream, and of a batch: what came is true, the rest told.
 */
#include "support/server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "support/live.h"

static struct fault_server *server;

struct told {
    struct outcome done;
    int64_t rows;
    int results, failed;
    evpq_fate fates[100];
};
static struct told t;

static void open_pool(struct live *live)
{
    live_open(live, EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, ""), .max_size = 1,
                                      .query_timeout_ms = 20000));
    t = (struct told){0};
}

static void kill_backends(void)
{
    /* Not SIGKILL, which takes the whole server through recovery. */
    assert_true(fault_server_signal(server, "evpq evpq", SIGTERM) > 0);
}

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream, (void)user;
    for (uint32_t row = 0; row < evpq_result_rows(chunk); row++) {
        int64_t n;
        assert_int_equal(evpq_result_int8(chunk, row, 0, &n), EVPQ_OK);
        assert_int_equal(n, ++t.rows);
    }
}

static void on_end(evpq_result *result, const evpq_error *err, void *user)
{
    (void)user;
    outcome_result(result, err, &t.done);
}

static void on_done(const evpq_error *err, void *user)
{
    (void)user;
    t.done.calls++;
    t.done.code = evpq_error_code(err);
    t.done.fate = err ? evpq_error_fate(err) : 0;
}

static void on_result(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    (void)user;
    t.results += result != NULL;
    t.failed += err != NULL;
    t.fates[statement] = err ? evpq_error_fate(err) : 0;
}

static void a_stream_whose_backend_is_killed_is_not_complete(void **state)
{
    (void)state;
    struct live live;
    server = fault_server();
    open_pool(&live);
    for (int round = 0; round < live_scaled(10) + 2; round++) {
        t = (struct told){0};
        assert_int_equal(evpq_pool_stream(NULL, live.pool,
                                          EVPQ_QUERY("SELECT generate_series(1::int8, 1000000000)"),
                                          NULL, on_chunk, on_end, NULL),
                         EVPQ_OK);
        while (t.rows == 0 && t.done.calls == 0)
            live_run(&live, 0.01);
        live_run(&live, round * 0.003);
        kill_backends();
        live_wait(&live, &t.done);
        assert_int_equal(t.done.code, EVPQ_EDISCONNECTED);
        assert_int_equal(t.done.fate, EVPQ_UNKNOWN);
        assert_true(t.rows > 0);
        outcome_clear(&t.done);
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
    }
    live_close(&live);
}

/* Each statement that is said to be done is there; each *rolled back* or *not sent* is not. */
static void a_batch_whose_backend_is_killed_tells_the_truth(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    struct live live;
    server = fault_server();
    fault_sql(server, "DROP TABLE IF EXISTS evpq_killed");
    fault_sql(server, "CREATE TABLE evpq_killed (n bigint)");
    fault_sql(server, "GRANT ALL ON evpq_killed TO evpq");
    open_pool(&live);
    for (int round = 0; round < live_scaled(20) + 2; round++) {
        evpq_value values[COUNT];
        evpq_query queries[COUNT];
        const evpq_query *pointers[COUNT];
        for (int i = 0; i < COUNT; i++) {
            values[i] = evpq_int8(round * 1000 + i);
            queries[i] = (evpq_query){.size = sizeof(evpq_query),
                                      .sql =
                                          "INSERT INTO evpq_killed SELECT $1 FROM "
                                          "pg_sleep(0.0005)",
                                      .params = &values[i],
                                      .params_count = 1};
            pointers[i] = &queries[i];
        }
        bool transaction = round % 2;
        t = (struct told){0};
        assert_int_equal(
            evpq_pool_batch(NULL, live.pool,
                            EVPQ_BATCH(transaction ? EVPQ_BATCH_TRANSACTION : EVPQ_BATCH_EACH,
                                       .queries = pointers, .queries_count = COUNT),
                            on_result, on_done, NULL),
            EVPQ_OK);
        live_run(&live, 0.01 + round * 0.004);
        fault_server_signal(server, "evpq evpq", SIGTERM);
        live_wait(&live, &t.done);
        assert_int_equal(t.results + t.failed, COUNT);
        assert_true(!transaction || t.results == 0 || t.failed == 0);
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
        for (int i = 0; i < COUNT; i++) {
            char sql[100];
            snprintf(sql, sizeof(sql), "SELECT count(*) FROM evpq_killed WHERE n = %d",
                     round * 1000 + i);
            int there = (int)fault_sql(server, sql);
            if (t.fates[i] == 0)
                assert_int_equal(there, 1);
            else if (t.fates[i] != EVPQ_UNKNOWN)
                assert_int_equal(there, 0);
        }
    }
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_whose_backend_is_killed_is_not_complete),
        cmocka_unit_test(a_batch_whose_backend_is_killed_tells_the_truth),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
