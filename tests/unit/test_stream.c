/* SPDX-License-Identifier: MIT */
/* Rows as they come: when they are taken, held, told and dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/limits.h>
#include <evpq/stream.h>

#include "support/pool_story.h"

static struct {
    evpq_stream *stream;
    int chunks, done;
    uint32_t rows;
    evpq_code code;
    evpq_fate fate;
    void (*inside)(void);
} s;

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    assert_ptr_equal(stream, s.stream);
    assert_ptr_equal(user, &s);
    assert_int_equal(s.done, 0);
    assert_true(evpq_result_rows(chunk) > 0);
    s.chunks++;
    s.rows += evpq_result_rows(chunk);
    if (s.inside)
        s.inside();
}

static void on_done(evpq_result *result, const evpq_error *err, void *user)
{
    assert_ptr_equal(user, &s);
    assert_true(!result == (err != NULL));
    s.done++;
    s.code = evpq_error_code(err);
    s.fate = err ? evpq_error_fate(err) : 0;
}

static bool single; /* this libpq hands out rows one by one */

static PGconn *pg(void)
{
    return fake_pg(0);
}

static int start(evpq_lease *lease, uint32_t timeout_ms, const evpq_stream_options *options,
                 void (*inside)(void))
{
    memset(&s, 0, sizeof(s));
    s.inside = inside;
    const evpq_query *query = EVPQ_QUERY("ROWS", .timeout_ms = timeout_ms);
    return lease ? evpq_lease_stream(&s.stream, lease, query, options, on_chunk, on_done, &s)
                 : evpq_pool_stream(&s.stream, pool, query, options, on_chunk, on_done, &s);
}

static void open_one(int version)
{
    fake_pq_version(version);
    single = version < 170000;
    fake_dial_all_succeed();
    fake_server(fake_server_simple);
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .statement_cache = EVPQ_NEVER));
    fake_server(NULL);
}

/* One that is with a server which the test speaks for. */
static void stream(int version, const evpq_stream_options *options, void (*inside)(void))
{
    open_one(version);
    assert_int_equal(start(NULL, 0, options, inside), EVPQ_OK);
    fake_settle();
    assert_int_equal(fake_pg_received(pg()), 1);
}

static void say_rows(int count)
{
    if (single)
        fake_says_single_rows(pg(), count);
    else
        fake_says_chunk(pg(), count);
}

static void rows(int count)
{
    say_rows(count);
    fake_settle();
}

static void the_end(void)
{
    fake_says_rows(pg(), 0);
    fake_says_sync(pg(), PQTRANS_IDLE);
    fake_settle();
}

static const int versions[] = {150015, 170006};
#define FOR_EACH_LIBPQ(v) for (int v = 0; v < 2; v++, again())

static void again(void)
{
    story_close(EVPQ_CLOSE_CANCEL, 0);
    story_finish();
}

static void rows_are_told_as_they_come(void **state)
{
    (void)state;
    FOR_EACH_LIBPQ(v)
    {
        stream(versions[v], NULL, NULL);
        rows(3);
        assert_int_equal(s.rows, 3);
        rows(2);
        assert_int_equal(s.rows, 5);
        assert_int_equal(s.done, 0);
        the_end();
        assert_int_equal(s.rows, 5);
        assert_int_equal(s.done, 1);
        assert_int_equal(s.code, EVPQ_OK);
        assert_int_equal(story_stats().idle, 1);
    }
}

static void libpq_17_gathers_and_we_do_before(void **state)
{
    (void)state;
    stream(170006, EVPQ_STREAM_OPTIONS(.chunk_rows = 7), NULL);
    rows(7);
    assert_int_equal(fake_pg_row_mode(pg()), 7);
    the_end();
    again();
    stream(150015, EVPQ_STREAM_OPTIONS(.chunk_rows = 7), NULL);
    rows(17);
    assert_int_equal(fake_pg_row_mode(pg()), 1);
    assert_int_equal(s.rows, 17);
    assert_int_equal(s.chunks, 3); /* 7, 7, and what has come */
    the_end();
}

static void an_end_is_told_only_with_its_sync(void **state)
{
    (void)state;
    FOR_EACH_LIBPQ(v)
    {
        stream(versions[v], NULL, NULL);
        rows(3);
        fake_says_rows(pg(), 0);
        fake_settle();
        assert_int_equal(s.done, 0);
        fake_says_error(pg(), "ERROR", "23505", "deferred");
        fake_says_sync(pg(), PQTRANS_IDLE);
        fake_settle();
        assert_int_equal(s.code, EVPQ_ESERVER);
        assert_int_equal(s.fate, EVPQ_ROLLED_BACK);
    }
}

static void rows_before_an_error_are_told(void **state)
{
    (void)state;
    FOR_EACH_LIBPQ(v)
    {
        stream(versions[v], NULL, NULL);
        say_rows(3);
        fake_says_error(pg(), "ERROR", "22012", "division by zero");
        fake_says_sync(pg(), PQTRANS_IDLE);
        fake_settle();
        assert_int_equal(s.rows, 3);
        assert_int_equal(s.done, 1);
        assert_int_equal(s.code, EVPQ_ESERVER);
    }
}

static void a_pause_stops_the_reading(void **state)
{
    (void)state;
    FOR_EACH_LIBPQ(v)
    {
        stream(versions[v], NULL, NULL);
        rows(3);
        evpq_stream_pause(s.stream);
        fake_settle();
        assert_int_equal(fake_socket_watched(PQsocket(pg())), 0);
        rows(4);
        assert_int_equal(s.rows, 3);
        evpq_stream_pause(s.stream);
        evpq_stream_resume(s.stream);
        assert_int_equal(s.rows, 3);
        fake_settle();
        assert_int_equal(s.rows, 7);
        assert_int_equal(fake_socket_watched(PQsocket(pg())), EVPQ__READ);
        the_end();
        assert_int_equal(s.code, EVPQ_OK);
    }
}

static void pause_inside(void)
{
    evpq_stream_pause(s.stream);
}

static void who_pauses_in_a_callback_hears_no_more(void **state)
{
    (void)state;
    stream(170006, NULL, pause_inside);
    fake_says_chunk(pg(), 1);
    fake_says_chunk(pg(), 1);
    fake_says_rows(pg(), 0);
    fake_says_sync(pg(), PQTRANS_IDLE);
    fake_settle();
    /* All has come in one reading: the connection is free, and the end waits. */
    assert_int_equal(s.chunks, 1);
    assert_int_equal(s.done, 0);
    assert_int_equal(story_stats().idle, 1);
    evpq_stream_resume(s.stream);
    fake_settle();
    assert_int_equal(s.chunks, 2);
    evpq_stream_resume(s.stream);
    fake_settle();
    assert_int_equal(s.done, 1);
    assert_int_equal(s.code, EVPQ_OK);
}

static void so_many_bytes_are_in_hand_and_no_more(void **state)
{
    (void)state;
    stream(170006, EVPQ_STREAM_OPTIONS(.buffer_bytes = 1000), pause_inside);
    fake_pg_result_bytes(pg(), 600);
    int gets = fake_pq_gets();
    for (int i = 0; i < 10; i++)
        fake_says_chunk(pg(), 1);
    fake_settle();
    assert_int_equal(s.chunks, 1);
    assert_in_range(fake_pq_gets(), gets + 2, gets + 3);
    s.inside = NULL;
    evpq_stream_resume(s.stream);
    fake_settle();
    assert_int_equal(s.chunks, 10);
    the_end();
    assert_int_equal(s.code, EVPQ_OK);
}

static void what_is_closed_is_thrown_away(void **state)
{
    (void)state;
    FOR_EACH_LIBPQ(v)
    {
        fake_cancels_obeyed(false);
        stream(versions[v], NULL, NULL);
        rows(3);
        evpq_stream_pause(s.stream);
        fake_settle();
        evpq_stream_close(s.stream);
        assert_int_equal(s.done, 0);
        fake_settle();
        assert_int_equal(s.done, 1);
        assert_int_equal(s.code, EVPQ_ECANCELED);
        assert_int_equal(s.fate, EVPQ_UNKNOWN);
        /* It is read again, or the server would never come to the end of it. */
        assert_int_equal(fake_socket_watched(PQsocket(pg())), EVPQ__READ);
        rows(100);
        fake_says_error(pg(), "ERROR", "57014", "canceling statement due to user request");
        fake_says_sync(pg(), PQTRANS_IDLE);
        while (fake_cancels_open() > 0)
            fake_cancel_over();
        while (fake_calls() > 0)
            fake_call_return();
        fake_settle();
        assert_int_equal(s.rows, 3);
        assert_int_equal(story_stats().idle, 1);
    }
}

static void a_deadline_goes_on_in_a_pause(void **state)
{
    (void)state;
    open_one(170006);
    start(NULL, 500, NULL, NULL);
    fake_settle();
    rows(3);
    evpq_stream_pause(s.stream);
    fake_advance(499);
    assert_int_equal(s.done, 0);
    fake_advance(1);
    assert_int_equal(s.code, EVPQ_ETIMEOUT);
    assert_int_equal(s.fate, EVPQ_UNKNOWN);
}

static void close_inside(void)
{
    evpq_stream_close(s.stream);
}

static void close_pool_inside(void)
{
    if (pool)
        story_close(EVPQ_CLOSE_CANCEL, 0);
}

static void a_callback_may_end_it(void **state)
{
    (void)state;
    stream(170006, NULL, close_inside);
    fake_says_chunk(pg(), 1);
    fake_says_chunk(pg(), 1);
    fake_settle();
    assert_int_equal(s.chunks, 1);
    assert_int_equal(s.code, EVPQ_ECANCELED);
    again();
    stream(170006, NULL, close_pool_inside);
    fake_says_chunk(pg(), 1);
    fake_says_chunk(pg(), 1);
    fake_settle();
    assert_int_equal(s.chunks, 1);
    assert_int_equal(s.code, EVPQ_ECLOSED);
}

static struct call *const call = &story_calls[0];

static void release_inside(void)
{
    if (call->lease)
        story_release(call);
}

static void a_lease_may_go_before_its_rows_are_told(void **state)
{
    (void)state;
    open_one(170006);
    fake_server(fake_server_simple);
    story_acquire(call, 0);
    fake_settle();
    fake_server(NULL);
    start(call->lease, 0, NULL, release_inside);
    fake_settle();
    fake_says_chunk(pg(), 1);
    fake_says_chunk(pg(), 1);
    the_end();
    assert_int_equal(s.chunks, 1);
    assert_int_equal(s.code, EVPQ_ECANCELED);
    assert_int_equal(story_stats().idle, 1);
}

static void a_lost_connection_is_not_complete(void **state)
{
    (void)state;
    FOR_EACH_LIBPQ(v)
    {
        stream(versions[v], NULL, NULL);
        rows(3);
        fake_loses(pg(), true, "gone\n");
        fake_settle();
        assert_int_equal(s.rows, 3);
        assert_int_equal(s.code, EVPQ_EDISCONNECTED);
        assert_int_equal(s.fate, EVPQ_UNKNOWN);
    }
}

static void without_memory_it_ends_and_says_so(void **state)
{
    (void)state;
    for (int v = 0; v < 2; v++) {
        bool failed = true;
        for (int n = 1; failed; n++) {
            open_one(versions[v]);
            fake_cancels_obeyed(true);
            fake_mem_fail_at(n);
            int started = start(NULL, 0, NULL, NULL);
            fake_settle();
            if (started == EVPQ_OK && fake_pg_count() > 0 && fake_pg_received(pg()) > 0) {
                rows(3);
                rows(3);
                if (s.done == 0)
                    the_end();
            }
            fake_settle();
            failed = fake_mem_has_failed();
            fake_mem_fail_at(0);
            fake_advance(3000);
            assert_true(started == EVPQ_OK || started == EVPQ_ENOMEM);
            assert_int_equal(s.done, started == EVPQ_OK);
            if (s.done && s.code == EVPQ_OK)
                assert_int_equal(s.rows, 6);
            if (started == EVPQ_OK && !failed)
                assert_int_equal(s.code, EVPQ_OK);
            again();
        }
    }
}

static void a_problem_is_told(void **state)
{
    (void)state;
    const evpq_query *good = EVPQ_QUERY("ROWS");
    evpq_stream_options unsized = {.chunk_rows = 1};
    const struct {
        const evpq_query *query;
        const evpq_stream_options *options;
        const char *problem;
    } cases[] = {
        {NULL, NULL, "the query is NULL"},
        {EVPQ_QUERY(""), NULL, "sql"},
        {EVPQ_QUERY("ROWS", .max_result_bytes = 1), NULL, "max_result_bytes"},
        {good, EVPQ_STREAM_OPTIONS(.chunk_rows = 10001), "chunk_rows"},
        {good, &unsized, "size"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_non_null(
            strstr(evpq_stream_problem(cases[i].query, cases[i].options), cases[i].problem));
    assert_null(evpq_stream_problem(good, NULL));
    assert_null(evpq_stream_problem(good, EVPQ_STREAM_OPTIONS(.chunk_rows = 10000)));
}

/* Its connection has gone on, and it has not. */
static void a_paused_stream_is_one_at_once(void **state)
{
    (void)state;
    open_one(170006);
    assert_int_equal(evpq_pool_limit(pool, EVPQ_POOL_LIMITS(.max_concurrent = 1)), EVPQ_OK);
    assert_int_equal(start(NULL, 0, NULL, pause_inside), EVPQ_OK);
    fake_settle();
    say_rows(2);
    the_end();
    assert_int_equal(s.done, 0);
    assert_int_equal(story_stats().idle, 1);
    struct call *other = &story_calls[0];
    story_ask(other, "NEXT", 0);
    fake_settle();
    assert_int_equal(fake_pg_received(pg()), 1);
    s.inside = NULL;
    evpq_stream_resume(s.stream);
    fake_server(fake_server_simple);
    fake_settle();
    assert_int_equal(s.done, 1);
    assert_int_equal(other->code, EVPQ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(rows_are_told_as_they_come),
        story_test(libpq_17_gathers_and_we_do_before),
        story_test(an_end_is_told_only_with_its_sync),
        story_test(rows_before_an_error_are_told),
        story_test(a_pause_stops_the_reading),
        story_test(who_pauses_in_a_callback_hears_no_more),
        story_test(so_many_bytes_are_in_hand_and_no_more),
        story_test(what_is_closed_is_thrown_away),
        story_test(a_deadline_goes_on_in_a_pause),
        story_test(a_callback_may_end_it),
        story_test(a_lease_may_go_before_its_rows_are_told),
        story_test(a_lost_connection_is_not_complete),
        story_test(without_memory_it_ends_and_says_so),
        story_test(a_problem_is_told),
        story_test(a_paused_stream_is_one_at_once),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
