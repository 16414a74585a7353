/* SPDX-License-Identifier: MIT */
/* Many statements as one operation: what goes out, who is told what, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/batch.h>

#include "support/pool_story.h"

enum { MOST = 8 };

static struct {
    evpq_op *op;
    uint32_t told, failed;
    int done;
    evpq_code code, codes[MOST];
    evpq_fate fate, fates[MOST];
    uint32_t blamed[MOST];
    bool retry_safe;
    char hint[160];
    void (*inside)(void);
} b;

static void on_result(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    assert_ptr_equal(user, &b);
    assert_int_equal(statement, b.told);
    assert_int_equal(b.done, 0);
    assert_true(!result == (err != NULL));
    b.codes[statement] = evpq_error_code(err);
    b.fates[statement] = err ? evpq_error_fate(err) : 0;
    b.blamed[statement] = evpq_error_statement(err);
    b.told++;
    if (b.inside)
        b.inside();
}

static void on_done(const evpq_error *err, void *user)
{
    assert_ptr_equal(user, &b);
    b.done++;
    b.code = evpq_error_code(err);
    b.fate = err ? evpq_error_fate(err) : 0;
    b.failed = evpq_error_statement(err);
    b.retry_safe = evpq_error_retry_safe(err);
    snprintf(b.hint, sizeof(b.hint), "%s", evpq_error_hint(err));
}

static struct call *const call = &story_calls[0];

static void open_one(void)
{
    memset(&b, 0, sizeof(b));
    fake_server_statements(true);
    fake_dial_all_succeed();
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.statement_cache = EVPQ_NEVER));
}

static int start(evpq_lease *lease, evpq_batch_mode mode, uint32_t timeout_ms, const char *one,
                 const char *two, const char *three)
{
    void (*inside)(void) = b.inside;
    memset(&b, 0, sizeof(b));
    b.inside = inside;
    const evpq_batch *batch =
        EVPQ_BATCH(mode, EVPQ_QUERIES(EVPQ_QUERY(one), EVPQ_QUERY(two), EVPQ_QUERY(three)),
                   .timeout_ms = timeout_ms);
    return lease ? evpq_lease_batch(&b.op, lease, batch, on_result, on_done, &b)
                 : evpq_pool_batch(&b.op, pool, batch, on_result, on_done, &b);
}

static void run(evpq_batch_mode mode, const char *one, const char *two, const char *three)
{
    assert_int_equal(start(NULL, mode, 0, one, two, three), EVPQ_OK);
    assert_int_equal(b.told + (uint32_t)b.done, 0);
    fake_settle();
}

static void told(uint32_t statement, evpq_code code, evpq_fate fate)
{
    assert_true(statement < b.told);
    assert_int_equal(b.codes[statement], code);
    assert_int_equal(b.fates[statement], fate);
}

static void all_told(evpq_code code, evpq_fate fate)
{
    assert_int_equal(b.told, 3);
    for (uint32_t i = 0; i < 3; i++)
        told(i, code, fate);
    assert_int_equal(b.done, 1);
    assert_int_equal(b.code, code);
    assert_int_equal(b.fate, fate);
}

static void server_has(int first, const char *const *texts, int count)
{
    assert_int_equal(fake_pg_received(fake_pg(0)), first + count);
    for (int i = 0; i < count; i++)
        assert_string_equal(fake_pg_sql(fake_pg(0), first + i), texts[i]);
}

static void a_transaction_is_sent_at_once(void **state)
{
    (void)state;
    open_one();
    int flushes = fake_pg_flushes(fake_pg(0));
    run(EVPQ_BATCH_TRANSACTION, "A", "B", "C");
    server_has(0, (const char *const[]){"BEGIN", "A", "B", "C", "COMMIT"}, 5);
    all_told(EVPQ_OK, 0);
    assert_true(fake_pg_flushes(fake_pg(0)) <= flushes + 1);
    assert_int_equal(story_stats().idle, 1);
}

static void each_has_a_sync_of_its_own(void **state)
{
    (void)state;
    open_one();
    run(EVPQ_BATCH_EACH, "A", "FAIL", "C");
    server_has(0, (const char *const[]){"A", "FAIL", "C"}, 3);
    told(0, EVPQ_OK, 0);
    told(1, EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    told(2, EVPQ_OK, 0);
    assert_int_equal(b.blamed[1], 1);
    assert_int_equal(b.done, 1);
    assert_int_equal(b.code, EVPQ_ESERVER);
    assert_int_equal(b.failed, 1);
}

static void a_failed_transaction_is_rolled_back(void **state)
{
    (void)state;
    open_one();
    run(EVPQ_BATCH_TRANSACTION, "A", "FAIL", "C");
    all_told(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(b.blamed[i], 1);
    server_has(0, (const char *const[]){"BEGIN", "A", "FAIL", "C", "COMMIT", "ROLLBACK"}, 6);
    assert_int_equal(story_stats().idle, 1);
}

static void a_failed_commit_is_nobodys(void **state)
{
    (void)state;
    open_one();
    run(EVPQ_BATCH_TRANSACTION, "A", "DEFER", "C");
    all_told(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    assert_int_equal(b.failed, EVPQ_NO_STATEMENT);
    assert_int_equal(story_stats().idle, 1);
}

static void a_lease_is_rolled_back_before_its_next_statement(void **state)
{
    (void)state;
    open_one();
    story_acquire(call, 0);
    fake_settle();
    start(call->lease, EVPQ_BATCH_TRANSACTION, 0, "A", "FAIL", "C");
    struct call *next = &story_calls[1];
    story_lease_ask(next, call->lease, "NEXT", 0);
    fake_settle();
    all_told(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    assert_int_equal(next->code, EVPQ_OK);
    server_has(0, (const char *const[]){"BEGIN", "A", "FAIL", "C", "COMMIT", "ROLLBACK", "NEXT"},
               7);
    story_release(call);
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
}

static void release_inside(void)
{
    if (call->lease)
        story_release(call);
}

/* The ROLLBACK has not left yet then. */
static void a_lease_may_be_released_at_once(void **state)
{
    (void)state;
    open_one();
    story_acquire(call, 0);
    fake_settle();
    b.inside = release_inside;
    start(call->lease, EVPQ_BATCH_TRANSACTION, 0, "A", "FAIL", "C");
    fake_settle();
    b.inside = NULL;
    all_told(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    server_has(0, (const char *const[]){"BEGIN", "A", "FAIL", "C", "COMMIT", "ROLLBACK"}, 6);
    assert_int_equal(story_stats().idle, 1);
}

static void inside_a_transaction_it_is_not_sent(void **state)
{
    (void)state;
    open_one();
    story_acquire(call, 0);
    fake_settle();
    struct call *others = &story_calls[1];
    story_lease_ask(&others[0], call->lease, "BEGIN", 0);
    start(call->lease, EVPQ_BATCH_TRANSACTION, 0, "A", "B", "C");
    story_lease_ask(&others[1], call->lease, "NEXT", 0);
    fake_settle();
    all_told(EVPQ_EINVALID, EVPQ_NOT_SENT);
    assert_int_equal(others[1].code, EVPQ_OK);
    server_has(0, (const char *const[]){"BEGIN", "NEXT"}, 2);
    start(call->lease, EVPQ_BATCH_EACH, 0, "A", "B", "C");
    fake_settle();
    all_told(EVPQ_OK, 0);
    story_release(call);
}

static void statements_are_told_as_they_come(void **state)
{
    (void)state;
    open_one();
    run(EVPQ_BATCH_EACH, "A", "HANG", "C");
    assert_int_equal(b.told, 1);
    assert_int_equal(b.done, 0);
    evpq_op_cancel(b.op);
    assert_int_equal(b.told, 1);
    fake_settle();
    told(0, EVPQ_OK, 0);
    told(1, EVPQ_ECANCELED, EVPQ_UNKNOWN);
    told(2, EVPQ_ECANCELED, EVPQ_UNKNOWN);
    assert_int_equal(b.code, EVPQ_ECANCELED);
}

static void one_deadline_holds_for_all(void **state)
{
    (void)state;
    open_one();
    start(NULL, EVPQ_BATCH_TRANSACTION, 500, "A", "HANG", "C");
    fake_advance(499);
    assert_int_equal(b.told, 0);
    fake_advance(1);
    all_told(EVPQ_ETIMEOUT, EVPQ_UNKNOWN);
    assert_int_equal(b.failed, EVPQ_NO_STATEMENT);
}

static void what_waits_is_not_sent(void **state)
{
    (void)state;
    open_one();
    story_acquire(call, 0);
    fake_settle();
    start(NULL, EVPQ_BATCH_TRANSACTION, 500, "A", "B", "C");
    fake_advance(250);
    all_told(EVPQ_ETIMEOUT, EVPQ_NOT_SENT);
    start(NULL, EVPQ_BATCH_EACH, 500, "A", "B", "C");
    evpq_op_cancel(b.op);
    fake_settle();
    all_told(EVPQ_ECANCELED, EVPQ_NOT_SENT);
    story_release(call);
}

/* More than goes between two flushes, to a server that does not read. */
static void what_has_not_left_is_told_apart(void **state)
{
    (void)state;
    static char large[3][50000];
    for (evpq_batch_mode mode = EVPQ_BATCH_TRANSACTION; mode <= EVPQ_BATCH_EACH; mode++) {
        open_one();
        for (int i = 0; i < 3; i++)
            memset(large[i], 'A', sizeof(large[i]) - 1);
        fake_pg_block(fake_pg(0), true);
        run(mode, large[0], large[1], large[2]);
        assert_int_equal(b.told, 0);
        evpq_op_cancel(b.op);
        fake_settle();
        bool transaction = mode == EVPQ_BATCH_TRANSACTION;
        evpq_fate sent = transaction ? EVPQ_ROLLED_BACK : EVPQ_UNKNOWN;
        assert_int_equal(b.told, 3);
        told(0, EVPQ_ECANCELED, sent);
        told(1, EVPQ_ECANCELED, sent);
        told(2, EVPQ_ECANCELED, EVPQ_NOT_SENT);
        assert_int_equal(b.fate, sent);
        story_close(EVPQ_CLOSE_CANCEL, 0);
        story_finish();
    }
}

static void it_goes_on_when_the_server_reads_again(void **state)
{
    (void)state;
    static char large[3][50000];
    open_one();
    for (int i = 0; i < 3; i++)
        memset(large[i], 'A', sizeof(large[i]) - 1);
    PGconn *pg = fake_pg(0);
    fake_pg_block(pg, true);
    run(EVPQ_BATCH_TRANSACTION, large[0], large[1], large[2]);
    assert_int_equal(fake_socket_watched(PQsocket(pg)), EVPQ__READ | EVPQ__WRITE);
    fake_pg_block(pg, false);
    fake_settle();
    all_told(EVPQ_OK, 0);
}

static void a_lost_connection_is_unknown_for_what_was_sent(void **state)
{
    (void)state;
    open_one();
    run(EVPQ_BATCH_EACH, "A", "HANG", "C");
    told(0, EVPQ_OK, 0);
    fake_says_error(fake_pg(0), "FATAL", "57P01", "terminating connection");
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    told(1, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN);
    told(2, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN);
    assert_int_equal(b.blamed[2], EVPQ_NO_STATEMENT);
    assert_int_equal(b.failed, EVPQ_NO_STATEMENT);
    run(EVPQ_BATCH_TRANSACTION, "A", "DIE", "C");
    all_told(EVPQ_EDISCONNECTED, EVPQ_UNKNOWN);
    assert_int_equal(b.blamed[1], EVPQ_NO_STATEMENT);
    assert_int_equal(b.failed, EVPQ_NO_STATEMENT);
}

static void what_was_not_sent_runs_elsewhere(void **state)
{
    (void)state;
    open_one();
    start(NULL, EVPQ_BATCH_TRANSACTION, 0, "A", "B", "C");
    fake_pg_break(fake_pg(0));
    fake_advance(2000);
    all_told(EVPQ_OK, 0);
    assert_int_equal(story_stats().reruns, 1);
}

static void cancel_inside(void)
{
    evpq_op_cancel(b.op);
}

static void close_inside(void)
{
    if (pool)
        story_close(EVPQ_CLOSE_CANCEL, 0);
}

static void a_callback_may_end_it(void **state)
{
    (void)state;
    open_one();
    b.inside = cancel_inside;
    run(EVPQ_BATCH_EACH, "A", "HANG", "C");
    told(0, EVPQ_OK, 0);
    told(1, EVPQ_ECANCELED, EVPQ_UNKNOWN);
    /* In delivery there is nothing to cancel any more. */
    run(EVPQ_BATCH_TRANSACTION, "A", "B", "C");
    all_told(EVPQ_OK, 0);
    b.inside = close_inside;
    run(EVPQ_BATCH_EACH, "A", "HANG", "C");
    told(0, EVPQ_OK, 0);
    told(2, EVPQ_ECLOSED, EVPQ_UNKNOWN);
    assert_int_equal(b.done, 1);
    b.inside = NULL;
}

/* The nth allocation fails, for each n there is. */
static void tell_without_memory(evpq_batch_mode mode, const char *two)
{
    bool failed = true;
    for (int n = 1; failed; n++) {
        open_one();
        fake_mem_fail_at(n);
        int started = start(NULL, mode, 0, "A", two, "C");
        fake_settle();
        failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        assert_true(started == EVPQ_OK || started == EVPQ_ENOMEM);
        assert_int_equal(b.done, started == EVPQ_OK);
        assert_int_equal(b.told, started == EVPQ_OK ? 3 : 0);
        story_close(EVPQ_CLOSE_CANCEL, 0);
        story_finish();
    }
}

static void without_memory_each_is_told_all_the_same(void **state)
{
    (void)state;
    for (evpq_batch_mode mode = EVPQ_BATCH_TRANSACTION; mode <= EVPQ_BATCH_EACH; mode++) {
        tell_without_memory(mode, "B");
        tell_without_memory(mode, "FAIL");
        tell_without_memory(mode, "DIE");
    }
}

static void a_problem_names_its_statement(void **state)
{
    (void)state;
    const evpq_query *const none = NULL;
    const struct {
        const evpq_batch *batch;
        const char *problem; /* NULL: none */
        uint32_t statement;
    } cases[] = {
        {EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY("A"))), NULL, EVPQ_NO_STATEMENT},
        {NULL, "NULL", EVPQ_NO_STATEMENT},
        {EVPQ_BATCH(EVPQ_BATCH_EACH), "no statements", EVPQ_NO_STATEMENT},
        {EVPQ_BATCH((evpq_batch_mode)0, EVPQ_QUERIES(EVPQ_QUERY(""))), "mode", EVPQ_NO_STATEMENT},
        {EVPQ_BATCH(EVPQ_BATCH_EACH, .queries = &none, .queries_count = 1), "NULL", 0},
        {EVPQ_BATCH(EVPQ_BATCH_EACH,
                    EVPQ_QUERIES(EVPQ_QUERY("A"), EVPQ_QUERY("B", .tag = "x"), EVPQ_QUERY(""))),
         "tag", 1},
        {EVPQ_BATCH(EVPQ_BATCH_EACH,
                    EVPQ_QUERIES(EVPQ_QUERY("A"), EVPQ_QUERY("B"), EVPQ_QUERY("COMMIT"),
                                 EVPQ_QUERY("D", .tag = "x"))),
         "ends a transaction", 2},
        {EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY("PREPARE a AS TABLE b"))), "PREPARE",
         0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t statement = 77;
        const char *problem = evpq_batch_problem(cases[i].batch, &statement);
        assert_int_equal(!problem, !cases[i].problem);
        if (problem)
            assert_non_null(strstr(problem, cases[i].problem));
        assert_int_equal(statement, cases[i].statement);
    }
}

/* ---- prepared statements that are lost ---- */

/* One connection, which keeps this statement prepared. */
static void open_prepared(const char *sql)
{
    memset(&b, 0, sizeof(b));
    fake_dial_all_succeed();
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.statement_cache = 16));
    for (int i = 0; i < 2; i++)
        story_run(call, sql);
    assert_int_equal(fake_pg_prepared(fake_pg(0)), 1);
}

static void says_stale(PGTransactionStatusType transaction)
{
    fake_says_error(fake_pg(0), "ERROR", "0A000", "cached plan must not change result type");
    fake_says_sync(fake_pg(0), transaction);
}

static void what_the_server_has_lost_runs_again(void **state)
{
    (void)state;
    open_prepared("A");
    int before = fake_pg_received(fake_pg(0));
    run(EVPQ_BATCH_EACH, "A", "A", "A");
    assert_true(fake_pg_executed_prepared(fake_pg(0)));
    fake_pg_forget_prepared(fake_pg(0));
    run(EVPQ_BATCH_EACH, "A", "A", "A");
    all_told(EVPQ_OK, 0);
    assert_false(fake_pg_executed_prepared(fake_pg(0)));
    server_has(before + 3, (const char *const[]){"A", "A", "A"}, 3);
    assert_int_equal(story_stats().idle, 1);
}

/* What stands before another one would run behind it. */
static void before_another_that_has_run_it_is_told(void **state)
{
    (void)state;
    open_prepared("A");
    fake_server(NULL);
    run(EVPQ_BATCH_EACH, "A", "B", "A");
    assert_true(fake_pg_executed_prepared(fake_pg(0)));
    says_stale(PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.told, 0);
    fake_answers(fake_pg(0));
    says_stale(PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.told, 2);
    told(0, EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    told(1, EVPQ_OK, 0);
    fake_answers(fake_pg(0));
    fake_settle();
    told(2, EVPQ_OK, 0);
    assert_int_equal(b.done, 1);
    assert_int_equal(b.failed, 0);
}

static void what_waits_behind_it_in_a_lease_stays_there(void **state)
{
    (void)state;
    open_prepared("A");
    struct call *lease = &story_calls[1], *next = &story_calls[2];
    story_acquire(lease, 0);
    fake_settle();
    fake_server(NULL);
    start(lease->lease, EVPQ_BATCH_EACH, 0, "A", "A", "A");
    story_lease_ask(next, lease->lease, "NEXT", 0);
    fake_settle();
    for (int i = 0; i < 3; i++)
        says_stale(PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.told, 0);
    server_has(2 + 3, (const char *const[]){"A", "A", "A"}, 3);
    fake_server(fake_server_simple);
    for (int i = 0; i < 3; i++)
        fake_answers(fake_pg(0));
    fake_settle();
    all_told(EVPQ_OK, 0);
    assert_int_equal(next->code, EVPQ_OK);
    server_has(2 + 6, (const char *const[]){"NEXT"}, 1);
    story_release(lease);
}

static void in_a_transaction_it_is_told_that_it_may_run_again(void **state)
{
    (void)state;
    open_prepared("A");
    struct call *lease = &story_calls[1];
    story_acquire(lease, 0);
    fake_settle();
    fake_pg_transaction(fake_pg(0), PQTRANS_INTRANS);
    fake_server(NULL);
    start(lease->lease, EVPQ_BATCH_EACH, 0, "A", "A", "A");
    fake_settle();
    says_stale(PQTRANS_INERROR);
    for (int i = 0; i < 2; i++) {
        fake_says_error(fake_pg(0), "ERROR", "25P02", "transaction is aborted");
        fake_says_sync(fake_pg(0), PQTRANS_INERROR);
    }
    fake_settle();
    all_told(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    assert_true(b.retry_safe);
    assert_non_null(strstr(b.hint, "altered"));
    fake_server(fake_server_simple);
    story_release(lease);
}

/* A plan that is good again at once: nothing may run behind what stood behind it. */
static void behind_what_has_run_it_is_too_late(void **state)
{
    (void)state;
    open_prepared("A");
    fake_server(NULL);
    run(EVPQ_BATCH_EACH, "A", "A", "A");
    says_stale(PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.told, 0);
    fake_answers(fake_pg(0));
    fake_settle();
    assert_int_equal(b.told, 2);
    told(0, EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    told(1, EVPQ_OK, 0);
    says_stale(PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(b.told, 2);
    fake_answers(fake_pg(0));
    fake_settle();
    told(2, EVPQ_OK, 0);
    assert_int_equal(b.done, 1);
    assert_int_equal(b.failed, 0);
}

static void while_it_waits_for_its_turn_it_may_end(void **state)
{
    (void)state;
    open_prepared("A");
    fake_server(NULL);
    run(EVPQ_BATCH_EACH, "A", "A", "A");
    says_stale(PQTRANS_IDLE);
    fake_settle();
    evpq_op_cancel(b.op);
    fake_settle();
    assert_int_equal(b.told, 3);
    told(0, EVPQ_ECANCELED, EVPQ_ROLLED_BACK);
    told(1, EVPQ_ECANCELED, EVPQ_UNKNOWN);
    told(2, EVPQ_ECANCELED, EVPQ_UNKNOWN);
    assert_int_equal(b.fate, EVPQ_UNKNOWN);
}

/* Two have been answered already, when they reach it. */
static int answered;

static void server_behind_those(PGconn *pg, const char *sql)
{
    if (answered > 0)
        answered--;
    else
        fake_server_simple(pg, sql);
}

/* The third has not left. It must not run before the others, nor be forgotten. */
static void what_has_not_left_waits_for_it(void **state)
{
    (void)state;
    static char large[50000];
    memset(large, 'A', sizeof(large) - 1);
    for (int ending = 0; ending < 3; ending++) {
        fake_server(fake_server_simple);
        open_prepared(large);
        PGconn *pg = fake_pg(0);
        fake_server(NULL);
        fake_pg_block(pg, true);
        run(EVPQ_BATCH_EACH, large, large, large);
        says_stale(PQTRANS_IDLE);
        fake_settle();
        if (ending == 0) {
            says_stale(PQTRANS_IDLE);
            fake_settle();
            answered = 2;
            fake_server(server_behind_those);
            fake_pg_block(pg, false);
            fake_settle();
            all_told(EVPQ_OK, 0);
        } else if (ending == 1) {
            evpq_op_cancel(b.op);
            fake_settle();
            told(0, EVPQ_ECANCELED, EVPQ_ROLLED_BACK);
            told(1, EVPQ_ECANCELED, EVPQ_UNKNOWN);
            told(2, EVPQ_ECANCELED, EVPQ_NOT_SENT);
        } else {
            fake_loses(pg, true, "gone\n");
            fake_settle();
            told(0, EVPQ_ESERVER, EVPQ_ROLLED_BACK);
            told(1, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN);
            told(2, EVPQ_EDISCONNECTED, EVPQ_NOT_SENT);
        }
        assert_int_equal(b.done, 1);
        story_close(EVPQ_CLOSE_CANCEL, 0);
        story_finish();
    }
}

static void without_memory_what_is_lost_is_told_all_the_same(void **state)
{
    (void)state;
    bool failed = true;
    for (int n = 1; failed; n++) {
        open_prepared("A");
        fake_pg_forget_prepared(fake_pg(0));
        fake_mem_fail_at(n);
        int started = start(NULL, EVPQ_BATCH_EACH, 0, "A", "A", "A");
        fake_settle();
        failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        assert_int_equal(b.done, started == EVPQ_OK);
        assert_int_equal(b.told, started == EVPQ_OK ? 3 : 0);
        story_close(EVPQ_CLOSE_CANCEL, 0);
        story_finish();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(a_transaction_is_sent_at_once),
        story_test(each_has_a_sync_of_its_own),
        story_test(a_failed_transaction_is_rolled_back),
        story_test(a_failed_commit_is_nobodys),
        story_test(a_lease_is_rolled_back_before_its_next_statement),
        story_test(a_lease_may_be_released_at_once),
        story_test(inside_a_transaction_it_is_not_sent),
        story_test(statements_are_told_as_they_come),
        story_test(one_deadline_holds_for_all),
        story_test(what_waits_is_not_sent),
        story_test(what_has_not_left_is_told_apart),
        story_test(it_goes_on_when_the_server_reads_again),
        story_test(a_lost_connection_is_unknown_for_what_was_sent),
        story_test(what_was_not_sent_runs_elsewhere),
        story_test(a_callback_may_end_it),
        story_test(without_memory_each_is_told_all_the_same),
        story_test(a_problem_names_its_statement),
        story_test(what_the_server_has_lost_runs_again),
        story_test(before_another_that_has_run_it_is_told),
        story_test(what_waits_behind_it_in_a_lease_stays_there),
        story_test(in_a_transaction_it_is_told_that_it_may_run_again),
        story_test(behind_what_has_run_it_is_too_late),
        story_test(while_it_waits_for_its_turn_it_may_end),
        story_test(what_has_not_left_waits_for_it),
        story_test(without_memory_what_is_lost_is_told_all_the_same),
    };
    return cmocka_run_group_tests_name("pool_batch", tests, NULL, NULL);
}
