/* SPDX-License-Identifier: MIT */
/* Streams on a real server: rows as they come, pauses that the server feels, and every end. */
#include "support/live.h"
#include "support/pooler.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A stream, and what came of it. */
struct heard {
    struct outcome done;
    evpq_stream *stream;
    struct live *live;
    evpq_lease *lease;
    int64_t rows, sum, chunks;
    int64_t affected; /* of the end; -1: there was none */
    uint32_t most;    /* rows of a chunk */
    bool numbers;     /* the first column is 1, 2, 3, ... */
    void (*inside)(struct heard *);
};
static struct heard h;

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    struct heard *heard = user;
    uint32_t rows = evpq_result_rows(chunk);
    assert_ptr_equal(stream, heard->stream);
    assert_int_equal(heard->done.calls, 0);
    assert_true(rows > 0);
    for (uint32_t row = 0; row < rows; row++) {
        int64_t value = 0;
        if (heard->numbers) {
            assert_int_equal(evpq_result_int8(chunk, row, 0, &value), EVPQ_OK);
            assert_int_equal(value, heard->rows + row + 1);
        }
        heard->sum += value;
    }
    heard->rows += rows;
    heard->chunks++;
    if (rows > heard->most)
        heard->most = rows;
    if (heard->inside)
        heard->inside(heard);
}

static void on_done(evpq_result *result, const evpq_error *err, void *user)
{
    struct heard *heard = user;
    heard->affected = result ? (int64_t)evpq_result_affected(result) : -1;
    assert_int_equal(evpq_result_rows(result), 0);
    outcome_result(result, err, &heard->done);
}

static void fresh(struct live *live, void (*inside)(struct heard *))
{
    outcome_clear(&h.done);
    h = (struct heard){.live = live, .inside = inside, .numbers = true, .affected = -2};
}

static void start(struct live *live, const evpq_query *query, const evpq_stream_options *options,
                  void (*inside)(struct heard *))
{
    fresh(live, inside);
    assert_int_equal(evpq_pool_stream(&h.stream, live->pool, query, options, on_chunk, on_done, &h),
                     EVPQ_OK);
    assert_int_equal(h.chunks, 0);
}

static void run(struct live *live, const evpq_query *query, const evpq_stream_options *options,
                void (*inside)(struct heard *))
{
    start(live, query, options, inside);
    live_wait(live, &h.done);
}

static void finish(struct live *live)
{
    outcome_clear(&h.done);
    live_close(live);
}

#define NUMBERS(count)                                                                             \
    EVPQ_QUERY("SELECT generate_series(1::int8, " #count ")", .timeout_ms = 60000)
#define FOR_EVER EVPQ_QUERY("SELECT generate_series(1::int8, 1000000000)", .timeout_ms = 60000)

static void expect_idle(struct live *live)
{
    assert_int_equal(live_int8(live, EVPQ_QUERY("SELECT 4711::int8")), 4711);
    assert_int_equal(live_stats(live).total, live_stats(live).idle);
}

static bool has_chunks(struct live *live, void *count)
{
    (void)live;
    return h.chunks >= *(int64_t *)count || h.done.calls > 0;
}

static void wait_for_chunks(struct live *live, int64_t count)
{
    live_until(live, has_chunks, &count, 30.);
}

/* ---- rows ---- */

static void all_rows_come_in_their_order(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const uint32_t sizes[] = {0, 1, 2, 100, 10000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        run(&live, NUMBERS(10000), EVPQ_STREAM_OPTIONS(.chunk_rows = sizes[i]), NULL);
        assert_int_equal(h.done.code, EVPQ_OK);
        assert_int_equal(h.rows, 10000);
        assert_int_equal(h.affected, 10000);
        assert_true(h.most <= (sizes[i] ? sizes[i] : 256));
    }
    /* Prepared, in text, with a parameter, with NULLs and empty texts. */
    for (int i = 0; i < 3; i++) {
        run(&live,
            EVPQ_QUERY("SELECT n, NULL::text, '' FROM generate_series(1::int8, $1) AS n",
                       EVPQ_PARAMS(evpq_int8(1000)), .server_timeout = EVPQ_ON),
            NULL, NULL);
        assert_int_equal(h.rows, 1000);
    }
    assert_int_equal(live_stats(&live).dialed, 1);
    expect_idle(&live);
    finish(&live);
}

static void without_rows_there_is_only_the_end(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    run(&live, EVPQ_QUERY("SELECT 1 WHERE false"), NULL, NULL);
    assert_int_equal(h.done.code, EVPQ_OK);
    assert_int_equal(h.chunks, 0);
    assert_int_equal(h.affected, 0);
    assert_int_equal(evpq_result_columns(h.done.result), 1);
    run(&live, EVPQ_QUERY("CREATE TEMP TABLE evpq_stream (n bigint)"), NULL, NULL);
    assert_int_equal(h.done.code, EVPQ_OK);
    run(&live,
        EVPQ_QUERY("INSERT INTO evpq_stream SELECT generate_series(1::int8, 1000) RETURNING n"),
        NULL, NULL);
    assert_int_equal(h.rows, 1000);
    assert_int_equal(h.affected, 1000);
    finish(&live);
}

static evpq_result *kept[1000];
static uint32_t kept_count;

static void keep_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream, (void)user;
    kept[kept_count++] = evpq_result_keep(chunk);
}

static void chunks_can_be_kept_beyond_the_pool(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fresh(&live, NULL);
    kept_count = 0;
    assert_int_equal(evpq_pool_stream(NULL, live.pool,
                                      EVPQ_QUERY("SELECT n, 'text ' || n, NULL::int8 FROM "
                                                 "generate_series(1::int8, 5000) AS n"),
                                      NULL, keep_chunk, on_done, &h),
                     EVPQ_OK);
    live_wait(&live, &h.done);
    finish(&live);
    int64_t expected = 0;
    for (uint32_t i = 0; i < kept_count; i++) {
        evpq_result *chunk = kept[i];
        assert_int_equal(evpq_result_columns(chunk), 3);
        assert_string_equal(evpq_result_column_name(chunk, 0), "n");
        assert_int_equal(evpq_result_column_type(chunk, 0), 20);
        assert_int_equal(evpq_result_format(chunk), EVPQ_BINARY);
        assert_non_null(evpq_result_pgresult(chunk));
        for (uint32_t row = 0; row < evpq_result_rows(chunk); row++) {
            int64_t number;
            evpq_text_view text;
            char same[32];
            assert_int_equal(evpq_result_int8(chunk, row, 0, &number), EVPQ_OK);
            assert_int_equal(number, ++expected);
            assert_int_equal(evpq_result_text(chunk, row, 1, &text), EVPQ_OK);
            snprintf(same, sizeof(same), "text %lld", (long long)number);
            assert_string_equal(text.data, same);
            assert_true(evpq_result_is_null(chunk, row, 2));
        }
        evpq_result_free(chunk);
    }
    assert_int_equal(expected, 5000);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    const evpq_query *good = EVPQ_QUERY("SELECT 1"),
                     *limited = EVPQ_QUERY("SELECT 1", .max_result_bytes = 1);
    const evpq_stream_options *many = EVPQ_STREAM_OPTIONS(.chunk_rows = 10001);
#define REFUSED(pool, query, options, chunk, done)                                                 \
    assert_int_equal(evpq_pool_stream(NULL, pool, query, options, chunk, done, NULL), EVPQ_EINVALID)
    REFUSED(NULL, good, NULL, on_chunk, on_done);
    REFUSED(live.pool, NULL, NULL, on_chunk, on_done);
    REFUSED(live.pool, limited, NULL, on_chunk, on_done);
    REFUSED(live.pool, good, many, on_chunk, on_done);
    REFUSED(live.pool, good, NULL, NULL, on_done);
    REFUSED(live.pool, good, NULL, on_chunk, NULL);
    assert_int_equal(evpq_lease_stream(NULL, NULL, good, NULL, on_chunk, on_done, NULL),
                     EVPQ_EINVALID);
    evpq_stream_pause(NULL);
    evpq_stream_resume(NULL);
    evpq_stream_close(NULL);
    assert_null(evpq_stream_op(NULL));
    live_close(&live);
}

/* ---- errors ---- */

static void rows_so_far_then_an_error_is_not_complete(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const int places[] = {1, 2, 255, 256, 257, 5000};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        run(&live,
            EVPQ_QUERY("SELECT n + 0 / ($1 - n) FROM generate_series(1::int8, 10000) AS n",
                       EVPQ_PARAMS(evpq_int8(places[i]))),
            NULL, NULL);
        assert_int_equal(h.done.code, EVPQ_ESERVER);
        assert_int_equal(h.done.fate, EVPQ_ROLLED_BACK);
        assert_string_equal(h.done.sqlstate, "22012");
        /* libpq 17 loses what it has gathered of the last chunk. */
        assert_in_range(h.rows, (places[i] - 1) / 256 * 256, places[i] - 1);
    }
    run(&live, EVPQ_QUERY("SELECT nonsense"), NULL, NULL);
    assert_int_equal(h.done.code, EVPQ_ESERVER);
    assert_string_equal(h.done.sqlstate, "42703");
    assert_int_equal(h.chunks, 0);
    assert_int_equal(live_stats(&live).dialed, 1);
    expect_idle(&live);
    finish(&live);
}

static void success_is_final(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &o,
               EVPQ_QUERY("CREATE TEMP TABLE evpq_stream (n bigint UNIQUE DEFERRABLE INITIALLY "
                          "DEFERRED)"));
    outcome_clear(&o);
    fresh(&live, NULL);
    h.numbers = false;
    assert_int_equal(evpq_pool_stream(&h.stream, live.pool,
                                      EVPQ_QUERY("INSERT INTO evpq_stream SELECT n / 2 FROM "
                                                 "generate_series(1, 1000) AS n RETURNING n"),
                                      NULL, on_chunk, on_done, &h),
                     EVPQ_OK);
    live_wait(&live, &h.done);
    assert_int_equal(h.rows, 1000);
    assert_int_equal(h.done.code, EVPQ_ESERVER);
    assert_string_equal(h.done.sqlstate, "23505");
    finish(&live);
}

static void copy_is_refused(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    run(&live, EVPQ_QUERY("COPY (SELECT 1) TO STDOUT"), NULL, NULL);
    assert_int_equal(h.done.code, EVPQ_EINVALID);
    expect_idle(&live);
    finish(&live);
}

/* ---- early ends ---- */

static int64_t close_at;

static void close_inside(struct heard *heard)
{
    if (heard->rows >= close_at) {
        evpq_stream_close(heard->stream);
        heard->inside = NULL;
    }
}

static void it_can_be_closed_at_each_place(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const int64_t places[] = {1, 256, 5000, 100000};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        close_at = places[i];
        double began = live_now();
        run(&live, FOR_EVER, EVPQ_STREAM_OPTIONS(.chunk_rows = 100), close_inside);
        assert_int_equal(h.done.code, EVPQ_ECANCELED);
        assert_int_equal(h.done.fate, EVPQ_UNKNOWN);
        assert_in_range(h.rows, close_at, close_at + 99);
        assert_true(live_now() - began < 20. * live_slow());
        /* And the same connection serves the next. */
        expect_idle(&live);
    }
    /* Before it is sent; right behind that; while it is paused. */
    start(&live, FOR_EVER, NULL, NULL);
    evpq_stream_close(h.stream);
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_ECANCELED);
    assert_int_equal(h.done.fate, EVPQ_NOT_SENT);
    start(&live, FOR_EVER, NULL, NULL);
    live_run(&live, 0.001);
    evpq_op_cancel(evpq_stream_op(h.stream));
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_ECANCELED);
    expect_idle(&live);
    start(&live, FOR_EVER, NULL, NULL);
    evpq_stream_pause(h.stream);
    live_run(&live, 0.3);
    assert_int_equal(h.chunks, 0);
    evpq_stream_close(h.stream);
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_ECANCELED);
    expect_idle(&live);
    assert_int_equal(live_stats(&live).dialed, 1);
    finish(&live);
}

static void a_deadline_holds_for_the_whole(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int paused = 0; paused < 2; paused++) {
        double began = live_now();
        start(&live, EVPQ_QUERY("SELECT generate_series(1::int8, 1000000000)", .timeout_ms = 1000),
              NULL, NULL);
        if (paused) {
            wait_for_chunks(&live, 1);
            evpq_stream_pause(h.stream);
        }
        live_wait(&live, &h.done);
        assert_int_equal(h.done.code, EVPQ_ETIMEOUT);
        assert_int_equal(h.done.fate, EVPQ_UNKNOWN);
        assert_true(h.done.at - began >= 0.999 && h.done.at - began < 1. + 2. * live_slow());
        assert_true(h.rows > 0);
        assert_true(!paused || strstr(h.done.message, "paused"));
        expect_idle(&live);
    }
    finish(&live);
}

static void pause_inside(struct heard *heard)
{
    evpq_stream_pause(heard->stream);
}

/* What has come may all be in hand when the end is, and the pool is closed. */
static void the_end_waits_for_who_is_paused(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    start(&live, NUMBERS(100), EVPQ_STREAM_OPTIONS(.chunk_rows = 10), pause_inside);
    for (int64_t chunks = 1; chunks <= 10; chunks++) {
        wait_for_chunks(&live, chunks);
        live_run(&live, 0.01);
        assert_int_equal(h.chunks, chunks);
        assert_int_equal(h.done.calls, 0);
        evpq_stream_resume(h.stream);
    }
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_OK);
    assert_int_equal(h.rows, 100);
    start(&live, NUMBERS(100), EVPQ_STREAM_OPTIONS(.chunk_rows = 10), pause_inside);
    wait_for_chunks(&live, 1);
    live_run(&live, 0.05);
    assert_int_equal(h.rows, 10);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    ev_run(live.loop, 0);
    assert_int_equal(h.done.calls, 1);
    assert_int_equal(h.done.code, EVPQ_ECLOSED);
    outcome_clear(&h.done);
    ev_loop_destroy(live.loop);
}

static void close_pool_inside(struct heard *heard)
{
    if (heard->live->pool)
        assert_int_equal(evpq_pool_close(heard->live->pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL),
                         EVPQ_OK);
    heard->live->pool = NULL;
}

static void the_pool_can_be_closed_inside(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    start(&live, FOR_EVER, NULL, close_pool_inside);
    ev_run(live.loop, 0);
    assert_int_equal(h.done.calls, 1);
    assert_int_equal(h.done.code, EVPQ_ECLOSED);
    assert_int_equal(h.chunks, 1);
    outcome_clear(&h.done);
    ev_loop_destroy(live.loop);
}

/* ---- leases, and others ---- */

static void release_inside(struct heard *heard)
{
    if (heard->lease)
        evpq_lease_release(heard->lease);
    heard->lease = NULL;
}

static void a_lease_streams_in_its_transaction(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, o, next = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    evpq_lease *l = lease.lease;
    live_lease_query(&live, &o, l, EVPQ_QUERY("BEGIN"));
    outcome_clear(&o);
    live_lease_query(&live, &o, l,
                     EVPQ_QUERY("CREATE TEMP TABLE evpq_streamed AS "
                                "SELECT generate_series(1::int8, 3000) AS n"));
    outcome_clear(&o);
    fresh(&live, NULL);
    assert_int_equal(evpq_lease_stream(&h.stream, l, EVPQ_QUERY("TABLE evpq_streamed"), NULL,
                                       on_chunk, on_done, &h),
                     EVPQ_OK);
    assert_int_equal(evpq_lease_query(NULL, l, EVPQ_QUERY("ROLLBACK"), outcome_result, &next),
                     EVPQ_OK);
    live_wait(&live, &next);
    assert_int_equal(h.done.code, EVPQ_OK);
    assert_int_equal(h.rows, 3000);
    assert_int_equal(next.code, EVPQ_OK);
    outcome_clear(&next);
    /* Released in the middle of one: the connection comes back clean. */
    fresh(&live, release_inside);
    h.lease = l;
    assert_int_equal(evpq_lease_stream(&h.stream, l, FOR_EVER, NULL, on_chunk, on_done, &h),
                     EVPQ_OK);
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_ECANCELED);
    expect_idle(&live);
    assert_int_equal(live_stats(&live).dialed, 1);
    finish(&live);
}

/* Small buffers: the end has come with the rows that are held. */
static void what_waits_behind_it_in_a_lease_goes_on(void **state)
{
    (void)state;
    static const evpq_stream_options sizes[] = {
        {.size = sizeof(sizes[0]), .buffer_bytes = 1},
        {.size = sizeof(sizes[0]), .buffer_bytes = 4096, .chunk_rows = 100}};
    for (int i = 0; i < 4; i++) {
        struct live live;
        struct outcome lease, next = {0};
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
        live_acquire(&live, &lease);
        fresh(&live, NULL);
        assert_int_equal(evpq_lease_stream(&h.stream, lease.lease,
                                           i < 2 ? NUMBERS(20) : NUMBERS(20000), &sizes[i % 2],
                                           on_chunk, on_done, &h),
                         EVPQ_OK);
        assert_int_equal(
            evpq_lease_query(NULL, lease.lease, EVPQ_QUERY("SELECT 1"), outcome_result, &next),
            EVPQ_OK);
        double began = live_now();
        live_wait(&live, &next);
        live_wait(&live, &h.done);
        assert_int_equal(next.code, EVPQ_OK);
        assert_int_equal(h.done.code, EVPQ_OK);
        assert_true(live_now() - began < 5. * live_slow());
        outcome_clear(&next);
        evpq_lease_release(lease.lease);
        finish(&live);
    }
}

/* All rows have been handed over, and the end is there: it is not told otherwise. */
static void a_stream_that_is_over_keeps_its_end(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    start(&live, NUMBERS(20), NULL, pause_inside);
    wait_for_chunks(&live, 1);
    live_run(&live, 0.3);
    assert_int_equal(h.done.calls, 0);
    evpq_stream_close(h.stream);
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_OK);
    assert_int_equal(h.affected, 20);
    expect_idle(&live);
    finish(&live);
}

static void neighbours_do_not_notice(void **state)
{
    (void)state;
    struct live live;
    struct outcome others[40] = {{0}};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2, .pipeline_depth = 16));
    close_at = 20000;
    start(&live, FOR_EVER, NULL, close_inside);
    for (int i = 0; i < 40; i++)
        assert_int_equal(evpq_pool_query(NULL, live.pool,
                                         EVPQ_QUERY("SELECT 1 FROM pg_sleep(0.01)"), outcome_result,
                                         &others[i]),
                         EVPQ_OK);
    live_wait(&live, &h.done);
    for (int i = 0; i < 40; i++) {
        if (others[i].calls == 0)
            live_wait(&live, &others[i]);
        assert_int_equal(others[i].code, EVPQ_OK);
        outcome_clear(&others[i]);
    }
    assert_int_equal(h.done.code, EVPQ_ECANCELED);
    finish(&live);
}

/* ---- pauses ---- */

static int64_t resident_kb(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return (int64_t)resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* The backend of the stream does nothing but wait for us. */
static int64_t waits_to_write(void)
{
    return aside_int8(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND "
        "query LIKE '%evpq wide%'");
}

/* 1 GB in rows of a kilobyte: nobody has it in memory. */
static void a_pause_reaches_the_server(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fresh(&live, NULL);
    int64_t before = resident_kb();
    assert_int_equal(evpq_pool_stream(&h.stream, live.pool,
                                      EVPQ_QUERY("SELECT n, repeat('evpq wide', 110) FROM "
                                                 "generate_series(1::int8, 1000000) AS n",
                                                 .timeout_ms = 120000),
                                      NULL, on_chunk, on_done, &h),
                     EVPQ_OK);
    for (int i = 0; i < 3; i++) {
        wait_for_chunks(&live, h.chunks + 100);
        evpq_stream_pause(h.stream);
        int64_t rows = h.rows;
        live_run(&live, 1.);
        assert_int_equal(h.rows, rows);
        assert_int_equal(h.done.calls, 0);
        assert_int_equal(waits_to_write(), 1);
        assert_true(resident_kb() - before < 16 * 1024);
        evpq_stream_resume(h.stream);
    }
    wait_for_chunks(&live, h.chunks + 100);
    evpq_stream_close(h.stream);
    live_wait(&live, &h.done);
    expect_idle(&live);
    finish(&live);
}

static void pause_and_resume(struct heard *heard)
{
    evpq_stream_pause(heard->stream);
    if (heard->chunks % 3)
        evpq_stream_pause(heard->stream);
    evpq_stream_resume(heard->stream);
}

static void pauses_lose_nothing(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    run(&live, NUMBERS(100000), EVPQ_STREAM_OPTIONS(.chunk_rows = 50), pause_and_resume);
    assert_int_equal(h.done.code, EVPQ_OK);
    assert_int_equal(h.rows, 100000);
    /* With next to nothing in hand. */
    run(&live, NUMBERS(20000), EVPQ_STREAM_OPTIONS(.buffer_bytes = 1), NULL);
    assert_int_equal(h.done.code, EVPQ_OK);
    assert_int_equal(h.rows, 20000);
    /* Paused before it has a connection. */
    start(&live, NUMBERS(1000), NULL, NULL);
    evpq_stream_pause(h.stream);
    live_run(&live, 0.1);
    assert_int_equal(h.chunks, 0);
    evpq_stream_resume(h.stream);
    live_wait(&live, &h.done);
    assert_int_equal(h.rows, 1000);
    finish(&live);
}

/* ---- loss ---- */

static void kill_inside(struct heard *heard)
{
    heard->inside = NULL;
    assert_true(
        aside_int8("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE "
                   "'%evpq to be killed%' AND state = 'active' AND pid <> pg_backend_pid()") > 0);
}

static void kill_paused(struct heard *heard)
{
    evpq_stream_pause(heard->stream);
    kill_inside(heard);
}

static void a_lost_connection_is_not_complete(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    const evpq_query *query = EVPQ_QUERY(
        "SELECT generate_series(1::int8, 1000000000) /* evpq to "
        "be killed */",
        .timeout_ms = 60000);
    run(&live, query, NULL, kill_inside);
    assert_int_equal(h.done.code, EVPQ_EDISCONNECTED);
    assert_int_equal(h.done.fate, EVPQ_UNKNOWN);
    assert_true(h.rows > 0);
    expect_idle(&live);
    /* Who is paused hears of it when it goes on. */
    start(&live, query, NULL, kill_paused);
    wait_for_chunks(&live, 1);
    live_run(&live, 0.5);
    assert_int_equal(h.done.calls, 0);
    evpq_stream_resume(h.stream);
    live_wait(&live, &h.done);
    assert_int_equal(h.done.code, EVPQ_EDISCONNECTED);
    expect_idle(&live);
    finish(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_rows_come_in_their_order),
        cmocka_unit_test(without_rows_there_is_only_the_end),
        cmocka_unit_test(chunks_can_be_kept_beyond_the_pool),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(rows_so_far_then_an_error_is_not_complete),
        cmocka_unit_test(success_is_final),
        cmocka_unit_test(copy_is_refused),
        cmocka_unit_test(it_can_be_closed_at_each_place),
        cmocka_unit_test(a_deadline_holds_for_the_whole),
        cmocka_unit_test(the_end_waits_for_who_is_paused),
        cmocka_unit_test(the_pool_can_be_closed_inside),
        cmocka_unit_test(a_lease_streams_in_its_transaction),
        cmocka_unit_test(what_waits_behind_it_in_a_lease_goes_on),
        cmocka_unit_test(a_stream_that_is_over_keeps_its_end),
        cmocka_unit_test(neighbours_do_not_notice),
        cmocka_unit_test(a_pause_reaches_the_server),
        cmocka_unit_test(pauses_lose_nothing),
        cmocka_unit_test(a_lost_connection_is_not_complete),
    };
    return pooler_run_group_tests_name("stream", tests, NULL, NULL);
}
