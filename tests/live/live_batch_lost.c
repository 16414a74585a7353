/* SPDX-License-Identifier: MIT */
/* Batches whose prepared statements were lost, or have outlived their tables: each statement on its
 * own runs once, in its place. The size of the cache is given: behind a pooler there is none. */
#include "support/live.h"
#include "support/pooler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 2000 };

static struct batch {
    struct outcome done;
    uint32_t told;
    int64_t values[MOST]; /* the first; -1: none */
    evpq_code codes[MOST];
    evpq_op *op;
} b;

static void on_result(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    struct batch *batch = user;
    assert_int_equal(statement, batch->told);
    batch->values[statement] = -1;
    if (result)
        (void)!evpq_result_int8(result, 0, 0, &batch->values[statement]);
    batch->codes[statement] = evpq_error_code(err);
    batch->told++;
}

static void on_done(const evpq_error *err, void *user)
{
    struct outcome *done = &((struct batch *)user)->done;
    done->calls++;
    done->code = evpq_error_code(err);
    done->retry_safe = evpq_error_retry_safe(err);
    snprintf(done->message, sizeof(done->message), "%s", evpq_error_message(err));
    snprintf(done->sqlstate, sizeof(done->sqlstate), "%s", evpq_error_sqlstate(err));
}

static void start(struct live *live, evpq_lease *lease, const evpq_batch *batch)
{
    memset(&b, 0, sizeof(b));
    assert_null(evpq_batch_problem(batch, NULL));
    int answer = lease ? evpq_lease_batch(&b.op, lease, batch, on_result, on_done, &b)
                       : evpq_pool_batch(&b.op, live->pool, batch, on_result, on_done, &b);
    assert_int_equal(answer, EVPQ_OK);
}

static void run(struct live *live, evpq_lease *lease, const evpq_batch *batch)
{
    start(live, lease, batch);
    live_wait(live, &b.done);
    assert_int_equal(b.told, batch->queries_count);
}

/* All is well, and each has told how many rows there were before it. */
static void expect_in_order(int64_t before, uint32_t every)
{
    if (b.done.code != EVPQ_OK)
        fail_msg("%s %s", b.done.sqlstate, b.done.message);
    for (uint32_t i = 0; i < b.told; i++)
        if (b.values[i] != before + (i + every - 1) / every)
            fail_msg("statement %u: %lld rows", i, (long long)b.values[i]);
}

static void say(struct live *live, const char *sql)
{
    struct outcome o;
    live_query(live, &o, EVPQ_QUERY(sql, .prepare = EVPQ_OFF));
    if (o.code != EVPQ_OK)
        fail_msg("%s: %s", sql, o.message);
    outcome_clear(&o);
}

static void open_with_table(struct live *live)
{
    live_open(live, EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = 256));
    say(live, "DROP TABLE IF EXISTS evpq_lost");
    say(live, "CREATE TABLE evpq_lost (n int8)");
}

static void end(struct live *live)
{
    say(live, "DROP TABLE IF EXISTS evpq_lost");
    live_close(live);
}

static int64_t prepared(struct live *live)
{
    return live_int8(live, EVPQ_QUERY("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE "
                                      "'evpq\\_%'",
                                      .prepare = EVPQ_OFF));
}

#define ADD                                                                                        \
    EVPQ_QUERY("INSERT INTO evpq_lost VALUES ((SELECT count(*) FROM evpq_lost)) RETURNING *",      \
               .prepare = EVPQ_ON)
#define COUNT EVPQ_QUERY("SELECT count(*) FROM evpq_lost", .prepare = EVPQ_ON)

/* The ways to lose it: all of them, or (from CHANGED on) that of INSERT only. */
static const char *const losses[] = {
    "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$",
    "DISCARD ALL",
    "DO $$ BEGIN EXECUTE 'ALTER TABLE evpq_lost ADD \"' || clock_timestamp() || '\" int'; END $$",
    "DO $$ DECLARE s text; BEGIN "
    "FOR s IN SELECT name FROM pg_prepared_statements WHERE statement LIKE 'INSERT%' LOOP "
    "EXECUTE 'DEALLOCATE ' || s; END LOOP; END $$",
};
enum { CHANGED = 2, LOSSES = sizeof(losses) / sizeof(losses[0]) };

/* Both are kept prepared from before. */
static void prepare_both(struct live *live)
{
    struct outcome o;
    live_query(live, &o, ADD);
    assert_int_equal(o.code, EVPQ_OK);
    outcome_clear(&o);
    live_int8(live, COUNT);
    assert_true(prepared(live) >= 2);
}

static void lose(struct live *live, size_t how)
{
    say(live, losses[how]);
}

static void what_is_lost_as_a_whole_runs_again_in_its_place(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live);
    for (size_t how = 0; how < CHANGED; how++) {
        prepare_both(&live);
        lose(&live, how);
        int64_t before = aside_int8("SELECT count(*) FROM evpq_lost");
        run(&live, NULL,
            EVPQ_BATCH(EVPQ_BATCH_EACH,
                       EVPQ_QUERIES(ADD, COUNT, ADD, COUNT, ADD, COUNT, ADD, COUNT)));
        expect_in_order(before, 2);
        run(&live, NULL, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(COUNT, ADD, ADD)));
        assert_int_equal(b.done.code, EVPQ_OK);
        assert_int_equal(b.values[0], before + 4);
        assert_int_equal(b.values[2], before + 5);
    }
    end(&live);
}

/* Else it would be behind what stands behind it. The next batch knows. */
static void what_is_lost_before_another_is_told(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live);
    prepare_both(&live);
    lose(&live, CHANGED);
    int64_t before = aside_int8("SELECT count(*) FROM evpq_lost");
    run(&live, NULL, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(ADD, COUNT, ADD)));
    assert_int_equal(b.codes[0], EVPQ_ESERVER);
    assert_string_equal(b.done.sqlstate, "0A000");
    assert_true(b.done.retry_safe);
    assert_int_equal(b.values[1], before);
    assert_int_equal(b.values[2], before);
    run(&live, NULL, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(ADD, COUNT, ADD)));
    assert_int_equal(b.done.code, EVPQ_OK);
    assert_int_equal(b.values[2], before + 2);
    end(&live);
}

/* Many, all the same: they are prepared, and more than the server takes at once. */
static void many_of_one_run_again_in_their_order(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live);
    const evpq_query *queries[MOST];
    static char filler[4000];
    memset(filler, 'x', sizeof(filler) - 1);
    const evpq_query *add = EVPQ_QUERY(
        "INSERT INTO evpq_lost SELECT count(*) FROM evpq_lost "
        "WHERE $1 <> '' RETURNING *",
        EVPQ_PARAMS(evpq_text(filler)));
    for (int i = 0; i < MOST; i++)
        queries[i] = add;
    const evpq_batch *batch =
        EVPQ_BATCH(EVPQ_BATCH_EACH, .queries = queries, .queries_count = MOST, .timeout_ms = 60000);
    for (size_t how = 0; how < LOSSES; how++) {
        for (int again = 0; again < 2; again++) {
            run(&live, NULL, batch);
            assert_int_equal(b.done.code, EVPQ_OK);
        }
        assert_int_equal(prepared(&live), 1);
        lose(&live, how);
        int64_t before = aside_int8("SELECT count(*) FROM evpq_lost");
        run(&live, NULL, batch);
        expect_in_order(before, 1);
        assert_int_equal(aside_int8("SELECT count(*) FROM evpq_lost"), before + MOST);
        say(&live, "TRUNCATE evpq_lost");
    }
    end(&live);
}

/* In a lease others wait behind it. */
static void what_waits_in_its_lease_comes_after_it(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, next = {0};
    open_with_table(&live);
    prepare_both(&live);
    lose(&live, 0);
    int64_t before = aside_int8("SELECT count(*) FROM evpq_lost");
    live_acquire(&live, &lease);
    start(&live, lease.lease, EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(ADD, ADD, ADD)));
    assert_int_equal(evpq_lease_query(NULL, lease.lease, COUNT, outcome_result, &next), EVPQ_OK);
    live_wait(&live, &next);
    expect_in_order(before, 1);
    if (next.code != EVPQ_OK)
        fail_msg("%s", next.message);
    int64_t count;
    assert_int_equal(evpq_result_int8(next.result, 0, 0, &count), EVPQ_OK);
    assert_int_equal(count, before + 3);
    outcome_clear(&next);
    evpq_lease_release(lease.lease);
    end(&live);
}

/* One of them loses what those behind it use. */
static void a_batch_that_drops_its_own_goes_on(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live);
    for (size_t how = 0; how < LOSSES; how++) {
        prepare_both(&live);
        int64_t before = aside_int8("SELECT count(*) FROM evpq_lost");
        run(&live, NULL,
            EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(ADD, EVPQ_QUERY(losses[how]), ADD, ADD, ADD)));
        assert_int_equal(b.done.code, EVPQ_OK);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(b.values[i ? i + 1 : 0], before + i);
    }
    end(&live);
}

/* As one transaction of a lease it is told, and may be run again. */
static void a_transaction_of_a_lease_may_run_again(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    open_with_table(&live);
    const evpq_batch *batch = EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(ADD, COUNT, ADD));
    for (size_t how = 0; how <= CHANGED; how++) {
        prepare_both(&live);
        lose(&live, how);
        int64_t before = aside_int8("SELECT count(*) FROM evpq_lost");
        live_acquire(&live, &lease);
        run(&live, lease.lease, batch);
        if (b.done.code != EVPQ_OK) { /* DISCARD ALL has told of itself */
            assert_int_equal(b.done.code, EVPQ_ESERVER);
            assert_true(b.done.retry_safe);
            run(&live, lease.lease, batch);
        } else {
            assert_string_equal(losses[how], "DISCARD ALL");
        }
        if (b.done.code != EVPQ_OK)
            fail_msg("behind %s: %s %s", losses[how], b.done.sqlstate, b.done.message);
        assert_int_equal(b.values[2], before + 1);
        evpq_lease_release(lease.lease);
    }
    end(&live);
}

/* It is over at any place: what has been told is so, the rest is not doubled. */
static void a_cancel_meanwhile_doubles_nothing(void **state)
{
    (void)state;
    struct live live;
    open_with_table(&live);
    for (int i = 0; i < 40; i++) {
        prepare_both(&live);
        lose(&live, CHANGED); /* not one of those that make a connection give its cache up */
        say(&live, "TRUNCATE evpq_lost");
        start(&live, NULL,
              EVPQ_BATCH(EVPQ_BATCH_EACH, EVPQ_QUERIES(ADD, ADD, ADD, ADD, ADD, ADD, ADD, ADD)));
        live_run(&live, i % 4 * 0.001);
        if (b.done.calls == 0)
            evpq_op_cancel(b.op);
        live_wait(&live, &b.done);
        assert_int_equal(b.told, 8);
        int64_t sure = 0;
        for (uint32_t s = 0; s < 8; s++)
            sure += b.codes[s] == EVPQ_OK;
        int64_t rows = live_int8(&live, COUNT);
        assert_in_range(rows, sure, 8);
        assert_int_equal(aside_int8("SELECT count(DISTINCT n) FROM evpq_lost"), rows);
    }
    end(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_lost_as_a_whole_runs_again_in_its_place),
        cmocka_unit_test(what_is_lost_before_another_is_told),
        cmocka_unit_test(many_of_one_run_again_in_their_order),
        cmocka_unit_test(what_waits_in_its_lease_comes_after_it),
        cmocka_unit_test(a_batch_that_drops_its_own_goes_on),
        cmocka_unit_test(a_transaction_of_a_lease_may_run_again),
        cmocka_unit_test(a_cancel_meanwhile_doubles_nothing),
    };
    return pooler_run_group_tests_name("batch_lost", tests, NULL, NULL);
}
