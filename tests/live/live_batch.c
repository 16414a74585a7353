/* SPDX-License-Identifier: MIT */
/* Batches on a real server: results, order, and the truth about each statement. */
#include "support/live.h"
#include "support/pooler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 3000 };

/* What became of a batch, and of each of its statements. */
struct batch {
    struct outcome done;
    uint32_t told;
    int64_t values[MOST]; /* -1: it has no bigint */
    evpq_code codes[MOST];
    evpq_fate fates[MOST];
    uint32_t blamed[MOST]; /* evpq_error_statement() */
    uint32_t failed;       /* the same of on_done */
    void (*inside)(struct batch *);
    evpq_op *op;
    struct live *live;
    evpq_lease *lease;
};
static struct batch b;

static void on_result(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    struct batch *batch = user;
    assert_true(!result == (err != NULL));
    assert_int_equal(statement, batch->told);
    assert_int_equal(batch->done.calls, 0);
    batch->values[statement] = -1;
    if (result)
        (void)!evpq_result_int8(result, 0, 0, &batch->values[statement]);
    batch->codes[statement] = evpq_error_code(err);
    batch->fates[statement] = err ? evpq_error_fate(err) : 0;
    batch->blamed[statement] = evpq_error_statement(err);
    batch->told++;
    if (batch->inside)
        batch->inside(batch);
}

static void on_done(const evpq_error *err, void *user)
{
    struct batch *batch = user;
    batch->failed = evpq_error_statement(err);
    batch->done.calls++;
    batch->done.at = live_now();
    batch->done.code = evpq_error_code(err);
    batch->done.fate = err ? evpq_error_fate(err) : 0;
    snprintf(batch->done.message, sizeof(batch->done.message), "%s", evpq_error_message(err));
    snprintf(batch->done.sqlstate, sizeof(batch->done.sqlstate), "%s", evpq_error_sqlstate(err));
}

/* Fresh, but for what happens inside. */
static void fresh(struct live *live)
{
    void (*inside)(struct batch *) = b.inside;
    memset(&b, 0, sizeof(b));
    b.inside = inside;
    b.live = live;
}

static void start(struct live *live, const evpq_batch *batch)
{
    fresh(live);
    assert_null(evpq_batch_problem(batch, NULL));
    assert_int_equal(evpq_pool_batch(&b.op, live->pool, batch, on_result, on_done, &b), EVPQ_OK);
    assert_int_equal(b.told, 0);
}

static void run(struct live *live, const evpq_batch *batch)
{
    start(live, batch);
    live_wait(live, &b.done);
    assert_int_equal(b.told, batch->queries_count);
}

static void lease_run(struct live *live, evpq_lease *lease, const evpq_batch *batch)
{
    fresh(live);
    assert_int_equal(evpq_lease_batch(&b.op, lease, batch, on_result, on_done, &b), EVPQ_OK);
    live_wait(live, &b.done);
    assert_int_equal(b.told, batch->queries_count);
}

static void expect_all(evpq_code code, evpq_fate fate)
{
    for (uint32_t i = 0; i < b.told; i++) {
        if (b.codes[i] != code || b.fates[i] != fate)
            fail_msg("statement %u: %s, fate %d", i, evpq_code_name(b.codes[i]), b.fates[i]);
    }
    assert_int_equal(b.done.code, code);
}

static const char table[] = "evpq_batch";

static void make_table(struct live *live)
{
    struct outcome o;
    live_query(live, &o, EVPQ_QUERY("DROP TABLE IF EXISTS evpq_batch"));
    outcome_clear(&o);
    live_query(live, &o,
               EVPQ_QUERY("CREATE TABLE evpq_batch (id bigint PRIMARY KEY, "
                          "parent bigint REFERENCES evpq_batch "
                          "DEFERRABLE INITIALLY DEFERRED)"));
    assert_int_equal(o.code, EVPQ_OK);
    outcome_clear(&o);
}

static int64_t rows(void)
{
    char sql[64];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s", table);
    return aside_int8(sql);
}

static void open_with_table(struct live *live, evpq_pool_options options)
{
    if (options.max_size == 0)
        options.max_size = 1;
    live_open(live, &options);
    make_table(live);
}

static void end(struct live *live)
{
    struct outcome o;
    live_query(live, &o, EVPQ_QUERY("DROP TABLE IF EXISTS evpq_batch"));
    outcome_clear(&o);
    b.inside = NULL;
    live_close(live);
}

#define INSERT(id)                                                                                 \
    EVPQ_QUERY("INSERT INTO evpq_batch VALUES ($1) RETURNING id", EVPQ_PARAMS(evpq_int8(id)))
#define SELECT(number) EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(number)))

/* ---- what it is for ---- */

static void a_transaction_happens_as_a_whole(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    run(&live,
        EVPQ_BATCH(EVPQ_BATCH_TRANSACTION,
                   EVPQ_QUERIES(INSERT(1), INSERT(2), EVPQ_QUERY("SELECT count(*) FROM evpq_batch"),
                                EVPQ_QUERY("SELECT txid_current()"),
                                EVPQ_QUERY("SELECT txid_current()"))));
    expect_all(EVPQ_OK, 0);
    assert_int_equal(b.values[0], 1);
    assert_int_equal(b.values[1], 2);
    assert_int_equal(b.values[2], 2);
    assert_int_equal(b.values[3], b.values[4]);
    assert_int_equal(rows(), 2);
    assert_int_equal(live_stats(&live).idle, 1);
    end(&live);
}

static void each_is_a_transaction_of_its_own(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    run(&live,
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY("SELECT txid_current()"), INSERT(1),
                                                 EVPQ_QUERY("SELECT 1 / 0"), INSERT(2), INSERT(1),
                                                 EVPQ_QUERY("SELECT txid_current()"))));
    assert_int_equal(b.codes[1], EVPQ_OK);
    assert_int_equal(b.codes[2], EVPQ_ESERVER);
    assert_int_equal(b.fates[2], EVPQ_ROLLED_BACK);
    assert_int_equal(b.blamed[2], 2);
    assert_int_equal(b.codes[3], EVPQ_OK);
    assert_int_equal(b.codes[4], EVPQ_ESERVER);
    assert_int_equal(b.blamed[4], 4);
    assert_true(b.values[5] > b.values[0]);
    assert_int_equal(b.done.code, EVPQ_ESERVER);
    assert_int_equal(b.failed, 2);
    assert_string_equal(b.done.sqlstate, "22012");
    assert_int_equal(rows(), 2);
    end(&live);
}

static void a_failure_names_its_statement_and_undoes_all(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    for (uint32_t bad = 0; bad < 4; bad++) {
        const evpq_query *queries[] = {INSERT(1), INSERT(2), INSERT(3), INSERT(4)};
        queries[bad] = EVPQ_QUERY("INSERT INTO evpq_batch VALUES (1 / 0)");
        evpq_batch batch = {.size = sizeof(batch),
                            .mode = EVPQ_BATCH_TRANSACTION,
                            .queries = queries,
                            .queries_count = 4};
        run(&live, &batch);
        expect_all(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
        assert_int_equal(b.failed, bad);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(b.blamed[i], bad);
        assert_string_equal(b.done.sqlstate, "22012");
        assert_int_equal(rows(), 0);
        /* And the connection is as before. */
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
    }
    assert_int_equal(live_stats(&live).dialed, 1);
    end(&live);
}

static void success_is_final(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    /* Deferred: it fails at the COMMIT, which is no statement of the batch. */
    run(&live, EVPQ_BATCH(EVPQ_BATCH_TRANSACTION,
                          EVPQ_QUERIES(INSERT(1), EVPQ_QUERY("INSERT INTO evpq_batch VALUES "
                                                             "(2, 99)"))));
    expect_all(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    assert_string_equal(b.done.sqlstate, "23503");
    assert_int_equal(b.failed, EVPQ_NO_STATEMENT);
    assert_int_equal(rows(), 0);
    run(&live, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(INSERT(1),
                                                        EVPQ_QUERY("INSERT INTO evpq_batch VALUES "
                                                                   "(2, 99)"),
                                                        INSERT(3))));
    assert_int_equal(b.codes[0], EVPQ_OK);
    assert_int_equal(b.codes[1], EVPQ_ESERVER);
    assert_int_equal(b.codes[2], EVPQ_OK);
    assert_int_equal(rows(), 2);
    end(&live);
}

static void it_takes_one_round_trip(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    /* In one transaction now() stands still; on their own the statements come one by one. */
    enum { COUNT = 50 };
    const evpq_query *now = EVPQ_QUERY("SELECT (extract(epoch FROM now()) * 1000000)::int8");
    const evpq_query *queries[COUNT];
    for (int i = 0; i < COUNT; i++)
        queries[i] = now;
    evpq_batch batch = {.size = sizeof(batch),
                        .mode = EVPQ_BATCH_TRANSACTION,
                        .queries = queries,
                        .queries_count = COUNT};
    run(&live, &batch);
    expect_all(EVPQ_OK, 0);
    assert_int_equal(b.values[0], b.values[COUNT - 1]);
    batch.mode = EVPQ_BATCH_EACH;
    live_acquire(&live, &lease);
    lease_run(&live, lease.lease, &batch);
    expect_all(EVPQ_OK, 0);
    assert_true(b.values[0] < b.values[COUNT - 1]);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void set_transaction_comes_first(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .server_timeout = EVPQ_ON));
    run(&live,
        EVPQ_BATCH(EVPQ_BATCH_TRANSACTION,
                   EVPQ_QUERIES(EVPQ_QUERY("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
                                EVPQ_QUERY("SELECT (current_setting('transaction_isolation') = "
                                           "'serializable')::int::int8"),
                                EVPQ_QUERY("SELECT setting::int8 FROM pg_settings WHERE name = "
                                           "'statement_timeout'")),
                   .timeout_ms = 20000));
    expect_all(EVPQ_OK, 0);
    assert_int_equal(b.values[1], 1);
    assert_in_range(b.values[2], 10000, 19900);
    /* And it ends with the batch. */
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT setting::int8 FROM pg_settings WHERE "
                                                 "name = 'statement_timeout'",
                                                 .server_timeout = EVPQ_OFF)),
                     0);
    live_close(&live);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    const evpq_query *none = NULL;
    static const char *const own[] = {"BEGIN", "commit", " /* x */ ROLLBACK", "SAVEPOINT a",
                                      "COPY pg_class TO STDOUT"};
    const evpq_batch *bad[] = {
        NULL,
        EVPQ_BATCH((evpq_batch_mode)0, EVPQ_QUERIES(SELECT(1))),
        EVPQ_BATCH((evpq_batch_mode)3, EVPQ_QUERIES(SELECT(1))),
        EVPQ_BATCH(EVPQ_BATCH_EACH),
        EVPQ_BATCH(EVPQ_BATCH_EACH, .queries = &none, .queries_count = 1),
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY(""))),
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(SELECT(1)), .server_timeout = (evpq_switch)7),
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY("SELECT 1", .timeout_ms = 5))),
        EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(EVPQ_QUERY("SELECT 1", .tag = "x"))),
        EVPQ_BATCH(EVPQ_BATCH_EACH, .queries = &none, .queries_count = EVPQ_BATCH_MAX + 1),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_non_null(evpq_batch_problem(bad[i], NULL));
        assert_int_equal(evpq_pool_batch(NULL, live.pool, bad[i], on_result, on_done, &b),
                         EVPQ_EINVALID);
    }
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        const evpq_batch *batch =
            EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(SELECT(1), EVPQ_QUERY(own[i])));
        uint32_t statement;
        assert_non_null(evpq_batch_problem(batch, &statement));
        assert_int_equal(statement, 1);
        assert_int_equal(evpq_pool_batch(NULL, live.pool, batch, on_result, on_done, &b),
                         EVPQ_EINVALID);
    }
    const evpq_batch *good = EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(SELECT(1)));
    assert_null(evpq_batch_problem(good, NULL));
    assert_int_equal(evpq_pool_batch(NULL, NULL, good, on_result, on_done, &b), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_batch(NULL, live.pool, good, on_result, NULL, &b), EVPQ_EINVALID);
    assert_int_equal(evpq_lease_batch(NULL, NULL, good, on_result, on_done, &b), EVPQ_EINVALID);
    live_close(&live);
}

/* ---- leases ---- */

static void a_lease_goes_on_behind_it(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, before = {0}, after = {0};
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    evpq_lease *l = lease.lease;
    /* One after the other, whatever they are; a failed transaction leaves none behind. */
    fresh(&live);
    assert_int_equal(
        evpq_lease_query(NULL, l, EVPQ_QUERY("SELECT pg_sleep(0.1)"), outcome_result, &before),
        EVPQ_OK);
    assert_int_equal(
        evpq_lease_batch(
            NULL, l,
            EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(INSERT(1), EVPQ_QUERY("SELECT 1 / 0"))),
            on_result, on_done, &b),
        EVPQ_OK);
    assert_int_equal(evpq_lease_query(NULL, l, EVPQ_QUERY("SELECT count(*) FROM evpq_batch"),
                                      outcome_result, &after),
                     EVPQ_OK);
    live_wait(&live, &after);
    assert_int_equal(before.code, EVPQ_OK);
    expect_all(EVPQ_ESERVER, EVPQ_ROLLED_BACK);
    int64_t count = -1;
    assert_int_equal(after.code, EVPQ_OK);
    assert_int_equal(evpq_result_int8(after.result, 0, 0, &count), EVPQ_OK);
    assert_int_equal(count, 0);
    assert_true(before.at <= b.done.at && b.done.at <= after.at);
    outcome_clear(&before);
    outcome_clear(&after);
    lease_run(&live, l, EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(INSERT(1), INSERT(2))));
    expect_all(EVPQ_OK, 0);
    evpq_lease_release(l);
    assert_int_equal(rows(), 2);
    assert_int_equal(live_stats(&live).dialed, 1);
    end(&live);
}

static void lease_says(struct live *live, evpq_lease *lease, const char *sql)
{
    struct outcome o;
    live_lease_query(live, &o, lease, EVPQ_QUERY(sql));
    assert_int_equal(o.code, EVPQ_OK);
    outcome_clear(&o);
}

static void in_an_open_transaction_each_is_a_part_of_it(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1, .server_timeout = EVPQ_ON));
    live_acquire(&live, &lease);
    evpq_lease *l = lease.lease;
    lease_says(&live, l, "BEGIN");
    lease_run(&live, l, EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(INSERT(1))));
    expect_all(EVPQ_EINVALID, EVPQ_NOT_SENT);
    lease_run(&live, l, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(INSERT(1), INSERT(2))));
    expect_all(EVPQ_OK, 0);
    assert_int_equal(rows(), 0);
    lease_says(&live, l, "COMMIT");
    assert_int_equal(rows(), 2);
    lease_says(&live, l, "BEGIN");
    lease_run(&live, l,
              EVPQ_BATCH(EVPQ_BATCH_EACH,
                         EVPQ_QUERIES(INSERT(3), EVPQ_QUERY("SELECT 1 / 0"), INSERT(4))));
    assert_int_equal(b.codes[0], EVPQ_OK);
    assert_int_equal(b.failed, 1);
    assert_int_equal(b.codes[2], EVPQ_ESERVER);
    lease_says(&live, l, "ROLLBACK");
    assert_int_equal(rows(), 2);
    /* The timeout that was set in the transaction is gone with it. */
    lease_run(&live, l,
              EVPQ_BATCH(EVPQ_BATCH_EACH,
                         EVPQ_QUERIES(EVPQ_QUERY("SELECT setting::int8 FROM pg_settings WHERE "
                                                 "name = 'statement_timeout'")),
                         .server_timeout = EVPQ_OFF));
    assert_int_equal(b.values[0], 0);
    evpq_lease_release(l);
    end(&live);
}

/* ---- size ---- */

/* Far more than the buffers of sockets take, in both directions. */
static void large_batches_do_not_stall(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    enum { COUNT = 300, BYTES = 60000 };
    int count = live_scaled(COUNT);
    char *text = malloc(BYTES + 1);
    const evpq_query *queries[COUNT];
    evpq_value value = evpq_text(text);
    assert_non_null(text);
    memset(text, 'x', BYTES);
    text[BYTES] = '\0';
    value = evpq_text(text);
    evpq_query query = {.size = sizeof(query),
                        .sql = "SELECT length($1)::int8, repeat($1, 2)",
                        .params = &value,
                        .params_count = 1};
    for (int i = 0; i < count; i++)
        queries[i] = &query;
    for (evpq_batch_mode mode = EVPQ_BATCH_TRANSACTION; mode <= EVPQ_BATCH_EACH; mode++) {
        evpq_batch batch = {.size = sizeof(batch),
                            .mode = mode,
                            .queries = queries,
                            .queries_count = (size_t)count};
        run(&live, &batch);
        expect_all(EVPQ_OK, 0);
        for (int i = 0; i < count; i++)
            assert_int_equal(b.values[i], BYTES);
    }
    free(text);
    live_close(&live);
}

static void many_statements_come_in_their_order(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    uint32_t count = (uint32_t)live_scaled(MOST);
    static evpq_query queries[MOST];
    static const evpq_query *pointers[MOST];
    static evpq_value values[MOST];
    for (uint32_t i = 0; i < count; i++) {
        values[i] = evpq_int8(i);
        queries[i] = (evpq_query){.size = sizeof(evpq_query),
                                  .sql = "SELECT $1::int8",
                                  .params = &values[i],
                                  .params_count = 1};
        pointers[i] = &queries[i];
    }
    /* Unnamed, then prepared by itself, then prepared before. */
    for (int round = 0; round < 6; round++) {
        evpq_batch batch = {.size = sizeof(batch),
                            .mode = round % 2 ? EVPQ_BATCH_TRANSACTION : EVPQ_BATCH_EACH,
                            .queries = pointers,
                            .queries_count = count};
        run(&live, &batch);
        expect_all(EVPQ_OK, 0);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(b.values[i], i);
    }
    live_close(&live);
}

static void results_are_limited(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
#define LONG(bytes) EVPQ_QUERY("SELECT repeat('x', " #bytes ")")
    run(&live, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(LONG(100), LONG(90000), LONG(100)),
                          .max_result_bytes = 20000));
    assert_int_equal(b.codes[0], EVPQ_OK);
    assert_int_equal(b.codes[1], EVPQ_ETOOLARGE);
    assert_int_equal(b.done.code, EVPQ_ETOOLARGE);
    assert_int_equal(b.failed, 1);
    /* A transaction is held in memory until it is committed: its limit is that of all. */
    run(&live, EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(LONG(9000), LONG(9000), LONG(9000)),
                          .max_result_bytes = 20000));
    assert_int_equal(b.done.code, EVPQ_ETOOLARGE);
    run(&live, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(LONG(9000), LONG(9000), LONG(9000)),
                          .max_result_bytes = 20000));
    expect_all(EVPQ_OK, 0);
    /* What is small on its way counts for nothing when it is committed, whatever libpq makes of it.
     */
    run(&live, EVPQ_BATCH(EVPQ_BATCH_TRANSACTION,
                          EVPQ_QUERIES(INSERT(1), INSERT(2), INSERT(3), INSERT(4), INSERT(5)),
                          .max_result_bytes = 4096));
    expect_all(EVPQ_OK, 0);
    assert_int_equal(rows(), 5);
    end(&live);
}

/* ---- ends ---- */

static void on_their_own_they_come_one_by_one(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    start(&live,
          EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(SELECT(1), SELECT(2),
                                                   EVPQ_QUERY("SELECT pg_sleep(1)"), SELECT(3))));
    live_run(&live, 0.5);
    assert_int_equal(b.told, 2);
    live_wait(&live, &b.done);
    assert_int_equal(b.told, 4);
    expect_all(EVPQ_OK, 0);
    live_close(&live);
}

static void one_deadline_holds_for_all(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    for (evpq_batch_mode mode = EVPQ_BATCH_TRANSACTION; mode <= EVPQ_BATCH_EACH; mode++) {
        double began = live_now();
        run(&live, EVPQ_BATCH(mode,
                              EVPQ_QUERIES(INSERT(mode), EVPQ_QUERY("SELECT pg_sleep(0.4)"),
                                           EVPQ_QUERY("SELECT pg_sleep(0.4)"), INSERT(3)),
                              .timeout_ms = 600));
        assert_int_equal(b.done.code, EVPQ_ETIMEOUT);
        assert_true(b.done.at - began < 0.6 + 0.3 * live_slow());
        bool transaction = mode == EVPQ_BATCH_TRANSACTION;
        for (uint32_t i = transaction ? 0 : 2; i < 4; i++) {
            assert_int_equal(b.codes[i], EVPQ_ETIMEOUT);
            assert_int_equal(b.fates[i], EVPQ_UNKNOWN);
        }
        assert_int_equal(b.codes[0], transaction ? EVPQ_ETIMEOUT : EVPQ_OK);
        assert_int_equal(b.failed, EVPQ_NO_STATEMENT);
    }
    /* The connection has been cleaned; the transaction never happened. */
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT count(*) FROM evpq_batch WHERE id = 1")),
                     0);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT count(*) FROM evpq_batch WHERE id = 2")),
                     1);
    assert_int_equal(live_stats(&live).dialed, 1);
    end(&live);
}

static void what_waits_for_a_connection_is_not_sent(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    start(&live,
          EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(SELECT(1), SELECT(2)), .timeout_ms = 5000));
    evpq_op_cancel(b.op);
    live_wait(&live, &b.done);
    expect_all(EVPQ_ECANCELED, EVPQ_NOT_SENT);
    run(&live,
        EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(SELECT(1), SELECT(2)), .timeout_ms = 100));
    expect_all(EVPQ_ETIMEOUT, EVPQ_NOT_SENT);
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void cancel_when_told(struct batch *batch)
{
    if (batch->told == 2)
        evpq_op_cancel(batch->op);
}

static void a_cancel_hits_only_the_batch(void **state)
{
    (void)state;
    struct live live;
    struct outcome others[20] = {{0}};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2, .pipeline_depth = 8));
    b.inside = cancel_when_told;
    start(&live, EVPQ_BATCH(EVPQ_BATCH_EACH,
                            EVPQ_QUERIES(SELECT(1), SELECT(2), EVPQ_QUERY("SELECT pg_sleep(30)"),
                                         EVPQ_QUERY("SELECT pg_sleep(30)"))));
    for (int i = 0; i < 20; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool,
                                         EVPQ_QUERY("SELECT 1 FROM pg_sleep(0.02)"), outcome_result,
                                         &others[i]),
                         EVPQ_OK);
    live_wait(&live, &b.done);
    assert_int_equal(b.done.code, EVPQ_ECANCELED);
    assert_int_equal(b.codes[1], EVPQ_OK);
    assert_int_equal(b.codes[2], EVPQ_ECANCELED);
    assert_int_equal(b.fates[2], EVPQ_UNKNOWN);
    for (int i = 0; i < 20; i++) {
        if (others[i].calls == 0)
            live_wait(&live, &others[i]);
        assert_int_equal(others[i].code, EVPQ_OK);
        outcome_clear(&others[i]);
    }
    b.inside = NULL;
    live_close(&live);
}

static bool all_idle(struct live *live, void *arg)
{
    (void)arg;
    evpq_pool_stats stats = live_stats(live);
    return stats.idle == stats.total;
}

/* Wherever it is hit: each is told once, and what it says of the table is true. */
static void a_cancel_at_any_place_tells_the_truth(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    int rounds = live_scaled(200);
    for (int round = 0; round < rounds; round++) {
        bool transaction = round % 2;
        int64_t first = 1000 + round * 10;
        start(&live, EVPQ_BATCH(transaction ? EVPQ_BATCH_TRANSACTION : EVPQ_BATCH_EACH,
                                EVPQ_QUERIES(INSERT(first), INSERT(first + 1), INSERT(first + 2),
                                             INSERT(first + 3))));
        live_run(&live, round * 0.00001);
        if (b.done.calls == 0) {
            evpq_op_cancel(b.op);
            live_wait(&live, &b.done);
        }
        assert_int_equal(b.told, 4);
        live_until(&live, all_idle, NULL, 10. * live_slow());
        char sql[128];
        int found = 0, done = 0, unknown = 0;
        for (int i = 0; i < 4; i++) {
            snprintf(sql, sizeof(sql), "SELECT count(*) FROM evpq_batch WHERE id = %lld",
                     (long long)first + i);
            int there = (int)live_int8(&live, EVPQ_QUERY(sql, .prepare = EVPQ_OFF));
            if (b.codes[i] == EVPQ_OK)
                assert_int_equal(there, 1);
            else if (b.fates[i] != EVPQ_UNKNOWN)
                assert_int_equal(there, 0);
            found += there;
            done += b.codes[i] == EVPQ_OK;
            unknown += b.fates[i] == EVPQ_UNKNOWN;
        }
        if (transaction) {
            assert_true(found == 0 || found == 4);
            assert_true(done == 0 || done == 4);
        }
        assert_in_range(found, done, done + unknown);
    }
    end(&live);
}

static void a_lost_connection_is_unknown_for_what_was_sent(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1));
    for (evpq_batch_mode mode = EVPQ_BATCH_TRANSACTION; mode <= EVPQ_BATCH_EACH; mode++) {
        run(&live, EVPQ_BATCH(mode, EVPQ_QUERIES(INSERT(mode),
                                                 EVPQ_QUERY("SELECT pg_terminate_backend("
                                                            "pg_backend_pid())"),
                                                 INSERT(3))));
        assert_int_equal(b.done.code, EVPQ_EDISCONNECTED);
        assert_string_equal(b.done.sqlstate, "57P01");
        assert_int_equal(b.fates[1], EVPQ_UNKNOWN);
        assert_int_equal(b.fates[2], EVPQ_UNKNOWN);
        /* Where all came in one breath, nothing but the last word is believed. */
        if (b.codes[0] != EVPQ_OK || mode == EVPQ_BATCH_TRANSACTION)
            assert_int_equal(b.fates[0], EVPQ_UNKNOWN);
    }
    assert_int_equal(rows(), 1);
    end(&live);
}

static void what_the_server_has_forgotten_runs_again(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live, *EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    const evpq_batch *batch =
        EVPQ_BATCH(EVPQ_BATCH_TRANSACTION,
                   EVPQ_QUERIES(EVPQ_QUERY("INSERT INTO evpq_batch SELECT count(*) FROM evpq_batch "
                                           "RETURNING id",
                                           .prepare = EVPQ_ON),
                                EVPQ_QUERY("SELECT count(*) FROM evpq_batch", .prepare = EVPQ_ON)));
    for (int i = 0; i < 2; i++) {
        run(&live, batch);
        expect_all(EVPQ_OK, 0);
    }
    /* Behind our back: no command tag tells of it. */
    struct outcome o;
    live_query(&live, &o, EVPQ_QUERY("DO 'BEGIN DEALLOCATE ALL; END'"));
    assert_int_equal(o.code, EVPQ_OK);
    outcome_clear(&o);
    run(&live, batch);
    expect_all(EVPQ_OK, 0);
    assert_int_equal(b.values[1], 3);
    assert_int_equal(live_stats(&live).reruns, 1);
    end(&live);
}

static void release_inside(struct batch *batch)
{
    if (batch->told == 1) {
        evpq_lease_release(batch->lease);
        batch->lease = NULL;
    }
}

static void close_inside(struct batch *batch)
{
    if (batch->told == 1) {
        assert_int_equal(evpq_pool_close(batch->live->pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL),
                         EVPQ_OK);
        batch->live->pool = NULL;
    }
}

static void anything_may_be_closed_inside(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    b.inside = release_inside;
    fresh(&live);
    b.lease = lease.lease;
    const evpq_batch *batch = EVPQ_BATCH(
        EVPQ_BATCH_EACH, EVPQ_QUERIES(SELECT(1), EVPQ_QUERY("SELECT pg_sleep(30)"), SELECT(3)));
    assert_int_equal(evpq_lease_batch(&b.op, lease.lease, batch, on_result, on_done, &b), EVPQ_OK);
    live_wait(&live, &b.done);
    assert_int_equal(b.done.code, EVPQ_ECANCELED);
    assert_int_equal(b.told, 3);
    b.inside = close_inside;
    start(&live, batch);
    ev_run(live.loop, 0);
    assert_int_equal(b.done.calls, 1);
    assert_int_equal(b.done.code, EVPQ_ECLOSED);
    assert_int_equal(b.told, 3);
    b.inside = NULL;
    ev_loop_destroy(live.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_happens_as_a_whole),
        cmocka_unit_test(each_is_a_transaction_of_its_own),
        cmocka_unit_test(a_failure_names_its_statement_and_undoes_all),
        cmocka_unit_test(success_is_final),
        cmocka_unit_test(it_takes_one_round_trip),
        cmocka_unit_test(set_transaction_comes_first),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(a_lease_goes_on_behind_it),
        cmocka_unit_test(in_an_open_transaction_each_is_a_part_of_it),
        cmocka_unit_test(large_batches_do_not_stall),
        cmocka_unit_test(many_statements_come_in_their_order),
        cmocka_unit_test(results_are_limited),
        cmocka_unit_test(on_their_own_they_come_one_by_one),
        cmocka_unit_test(one_deadline_holds_for_all),
        cmocka_unit_test(what_waits_for_a_connection_is_not_sent),
        cmocka_unit_test(a_cancel_hits_only_the_batch),
        cmocka_unit_test(a_cancel_at_any_place_tells_the_truth),
        cmocka_unit_test(a_lost_connection_is_unknown_for_what_was_sent),
        cmocka_unit_test(what_the_server_has_forgotten_runs_again),
        cmocka_unit_test(anything_may_be_closed_inside),
    };
    return pooler_run_group_tests_name("batch", tests, NULL, NULL);
}
