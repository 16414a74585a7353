/* SPDX-License-Identifier: MIT */
/*
 * Which of libpq's functions evpq goes through, with the libpq that is loaded: this program has
 * them too, counts, and passes on.
 */
#include "support/live.h"
#include "support/pooler.h"

#include <dlfcn.h>
#include <libpq-fe.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum call {
    CANCEL,
    CANCEL_START,
    SYNC,
    SEND_SYNC,
    SINGLE_ROWS,
    CHUNKED_ROWS,
    CLOSE_PREPARED,
    CALLS
};
static atomic_int calls[CALLS];

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        fail_msg("libpq %d has no %s", PQlibVersion(), name);
    return found;
}

/* A pointer of dlsym() is copied, for ISO C has no cast from it to a function. */
#define COUNTED(call, name, parameters, ...)                                                       \
    int name parameters                                                                            \
    {                                                                                              \
        typedef int name##_fn parameters;                                                          \
        void *found = real(#name);                                                                 \
        name##_fn *function;                                                                       \
        memcpy(&function, &found, sizeof(function));                                               \
        atomic_fetch_add(&calls[call], 1);                                                         \
        return function(__VA_ARGS__);                                                              \
    }
COUNTED(CANCEL, PQcancel, (PGcancel * cancel, char *error, int size), cancel, error, size)
COUNTED(SYNC, PQpipelineSync, (PGconn * conn), conn)
COUNTED(SINGLE_ROWS, PQsetSingleRowMode, (PGconn * conn), conn)
#ifdef LIBPQ_HAS_ASYNC_CANCEL
COUNTED(CANCEL_START, PQcancelStart, (PGcancelConn * cancel), cancel)
#endif
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
COUNTED(SEND_SYNC, PQsendPipelineSync, (PGconn * conn), conn)
#endif
#ifdef LIBPQ_HAS_CHUNK_MODE
COUNTED(CHUNKED_ROWS, PQsetChunkedRowsMode, (PGconn * conn, int rows), conn, rows)
#endif
#ifdef LIBPQ_HAS_CLOSE_PREPARED
COUNTED(CLOSE_PREPARED, PQsendClosePrepared, (PGconn * conn, const char *name), conn, name)
#endif

static int reset(void **state)
{
    (void)state;
    for (int i = 0; i < CALLS; i++)
        calls[i] = 0;
    print_message("libpq %d.%d\n", PQlibVersion() / 10000, PQlibVersion() % 10000);
    return 0;
}

static void cancel_one(void)
{
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    /* Connected first, so that the statement is sent before its time is over. */
    live_int8(&live, EVPQ_QUERY("SELECT 1::int8"));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT pg_sleep(5)", .timeout_ms = 400));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    assert_int_equal(outcome.fate, EVPQ_UNKNOWN);
    outcome_clear(&outcome);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
    assert_int_equal(live_stats(&live).dialed, 1);
    live_close(&live);
}

static void need(bool condition, const char *what)
{
    if (condition)
        return;
    print_message("only with %s\n", what);
    skip();
}

static void cancels_go_by_PQcancelStart_since_17(void **state)
{
    (void)state;
#ifdef LIBPQ_HAS_ASYNC_CANCEL
    need(PQlibVersion() >= 170006, "libpq 17.6");
    cancel_one();
    assert_int_equal(calls[CANCEL_START], 1);
    assert_int_equal(calls[CANCEL], 0);
#else
    need(false, "headers of libpq 17");
#endif
}

static void cancels_go_by_PQcancel_before_17(void **state)
{
    (void)state;
    need(PQlibVersion() < 170006, "libpq before 17.6");
    cancel_one();
    assert_int_equal(calls[CANCEL], 1);
    assert_int_equal(calls[CANCEL_START], 0);
}

static void syncs_go_by_PQsendPipelineSync_since_17(void **state)
{
    (void)state;
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int i = 0; i < 10; i++)
        live_int8(&live, EVPQ_QUERY("SELECT 1::int8"));
    live_close(&live);
    assert_true(calls[SEND_SYNC] >= 10);
    assert_int_equal(calls[SYNC], 0);
#else
    need(false, "headers of libpq 17");
#endif
}

static void syncs_go_by_PQpipelineSync_before_17(void **state)
{
    (void)state;
    need(PQlibVersion() < 170000, "libpq before 17");
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int i = 0; i < 10; i++)
        live_int8(&live, EVPQ_QUERY("SELECT 1::int8"));
    live_close(&live);
    assert_true(calls[SYNC] >= 10);
    assert_int_equal(calls[SEND_SYNC], 0);
}

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream;
    *(uint32_t *)user += evpq_result_rows(chunk);
}

static void on_end(evpq_result *result, const evpq_error *err, void *user)
{
    (void)err;
    *(uint32_t *)user += evpq_result_affected(result) == 1000 ? 1000000 : 0;
}

static bool has_ended(struct live *live, void *rows)
{
    (void)live;
    return *(uint32_t *)rows >= 1000000;
}

static void stream_some(void)
{
    struct live live;
    uint32_t rows = 0;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_int_equal(evpq_pool_stream(NULL, live.pool,
                                      EVPQ_QUERY("SELECT generate_series(1::int8, 1000)"), NULL,
                                      on_chunk, on_end, &rows),
                     EVPQ_OK);
    live_until(&live, has_ended, &rows, 20.);
    assert_int_equal(rows, 1001000);
    live_close(&live);
}

static void rows_come_in_chunks_of_libpq_since_17(void **state)
{
    (void)state;
#ifdef LIBPQ_HAS_CHUNK_MODE
    stream_some();
    assert_int_equal(calls[CHUNKED_ROWS], 1);
    assert_int_equal(calls[SINGLE_ROWS], 0);
#else
    need(false, "headers of libpq 17");
#endif
}

static void rows_come_one_by_one_before_17(void **state)
{
    (void)state;
    need(PQlibVersion() < 170000, "libpq before 17");
    stream_some();
    assert_int_equal(calls[SINGLE_ROWS], 1);
    assert_int_equal(calls[CHUNKED_ROWS], 0);
}

/* One place for two statements: each puts the other out. */
static void evict(void)
{
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 1));
    for (int i = 0; i < 10; i++) {
        live_int8(&live, EVPQ_QUERY("SELECT 1::int8", .prepare = EVPQ_ON));
        live_int8(&live, EVPQ_QUERY("SELECT 2::int8", .prepare = EVPQ_ON));
    }
    assert_in_range(live_int8(&live, EVPQ_QUERY("SELECT count(*) FROM pg_prepared_statements",
                                                .prepare = EVPQ_OFF)),
                    1, 2);
    live_close(&live);
}

static void what_is_evicted_goes_by_PQsendClosePrepared_since_17(void **state)
{
    (void)state;
#ifdef LIBPQ_HAS_CLOSE_PREPARED
    evict();
    assert_true(calls[CLOSE_PREPARED] >= 10);
#else
    need(false, "headers of libpq 17");
#endif
}

static void what_is_evicted_goes_by_DEALLOCATE_before_17(void **state)
{
    (void)state;
    need(PQlibVersion() < 170000, "libpq before 17");
    evict();
    assert_int_equal(calls[CLOSE_PREPARED], 0);
}

/* EVPQ_TEST_LIBPQ: the major version that is to be loaded. */
static void the_library_is_the_one_that_is_tested(void **state)
{
    (void)state;
    const char *wanted = getenv("EVPQ_TEST_LIBPQ");
    if (wanted)
        assert_int_equal(PQlibVersion() / 10000, atoi(wanted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_is_the_one_that_is_tested),
        cmocka_unit_test_setup(cancels_go_by_PQcancelStart_since_17, reset),
        cmocka_unit_test_setup(cancels_go_by_PQcancel_before_17, reset),
        cmocka_unit_test_setup(syncs_go_by_PQsendPipelineSync_since_17, reset),
        cmocka_unit_test_setup(syncs_go_by_PQpipelineSync_before_17, reset),
        cmocka_unit_test_setup(rows_come_in_chunks_of_libpq_since_17, reset),
        cmocka_unit_test_setup(rows_come_one_by_one_before_17, reset),
        cmocka_unit_test_setup(what_is_evicted_goes_by_PQsendClosePrepared_since_17, reset),
        cmocka_unit_test_setup(what_is_evicted_goes_by_DEALLOCATE_before_17, reset),
    };
    return pooler_run_group_tests_name("libpq", tests, NULL, NULL);
}
