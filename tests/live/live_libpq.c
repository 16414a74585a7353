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

static atomic_int cancels, async_cancels, syncs, queued_syncs;

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        fail_msg("libpq %d has no %s", PQlibVersion(), name);
    return found;
}

/* Calls from a pointer of dlsym(), which ISO C has no cast for. */
#define PASS_ON(type, name)                                                                        \
    void *found = real(name);                                                                      \
    type *function;                                                                                \
    memcpy(&function, &found, sizeof(function))

int PQcancel(PGcancel *cancel, char *error, int size)
{
    typedef int cancel_fn(PGcancel *, char *, int);
    PASS_ON(cancel_fn, "PQcancel");
    atomic_fetch_add(&cancels, 1);
    return function(cancel, error, size);
}

int PQpipelineSync(PGconn *conn)
{
    typedef int sync_fn(PGconn *);
    PASS_ON(sync_fn, "PQpipelineSync");
    atomic_fetch_add(&syncs, 1);
    return function(conn);
}

#ifdef LIBPQ_HAS_ASYNC_CANCEL
int PQcancelStart(PGcancelConn *cancel)
{
    typedef int start_fn(PGcancelConn *);
    PASS_ON(start_fn, "PQcancelStart");
    atomic_fetch_add(&async_cancels, 1);
    return function(cancel);
}
#endif

#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
int PQsendPipelineSync(PGconn *conn)
{
    typedef int sync_fn(PGconn *);
    PASS_ON(sync_fn, "PQsendPipelineSync");
    atomic_fetch_add(&queued_syncs, 1);
    return function(conn);
}
#endif

static int reset(void **state)
{
    (void)state;
    cancels = async_cancels = syncs = queued_syncs = 0;
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
    assert_int_equal(async_cancels, 1);
    assert_int_equal(cancels, 0);
#else
    need(false, "headers of libpq 17");
#endif
}

static void cancels_go_by_PQcancel_before_17(void **state)
{
    (void)state;
    need(PQlibVersion() < 170006, "libpq before 17.6");
    cancel_one();
    assert_int_equal(cancels, 1);
    assert_int_equal(async_cancels, 0);
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
    assert_true(queued_syncs >= 10);
    assert_int_equal(syncs, 0);
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
    assert_true(syncs >= 10);
    assert_int_equal(queued_syncs, 0);
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
    };
    return pooler_run_group_tests_name("libpq", tests, NULL, NULL);
}
