/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pg/conn.h"
#include "support/fake_helper.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pq.h"

enum { CANCEL_TIMEOUT_MS = 2000 };

static struct evpq__loop *loop;
static struct evpq__helper *helper;
static struct evpq__conn *conn; /* NULL when it is lost */
static PGconn *pg;              /* of it; gone with it */
static int cleans, losses;

/* A request, and what became of it. */
struct asked {
    struct evpq__request request;
    int sent, done;
    evpq_code code;
    evpq_fate fate;
    char sqlstate[6];
    char message[128];
    void (*inside)(void);
};
static struct asked a, b, c;

static void on_sent(struct evpq__request *request)
{
    evpq__container_of(request, struct asked, request)->sent++;
}

static void on_done(struct evpq__request *request, struct evpq_result *result,
                    struct evpq_error *error)
{
    struct asked *asked = evpq__container_of(request, struct asked, request);
    assert_int_equal(asked->done++, 0);
    assert_true(!result == (error->code != EVPQ_OK));
    asked->code = error->code;
    asked->fate = result ? 0 : evpq_error_fate(error);
    strncpy(asked->sqlstate, evpq_error_sqlstate(error), 5);
    strncpy(asked->message, evpq_error_message(error), sizeof(asked->message) - 1);
    evpq_result_free(result);
    if (asked->inside)
        asked->inside();
}

static void on_clean(void *owner)
{
    assert_ptr_equal(owner, &conn);
    cleans++;
}

static void on_lost(void *owner)
{
    assert_ptr_equal(owner, &conn);
    losses++;
    evpq__conn_free(conn);
    conn = NULL;
}

static const struct evpq__conn_class conn_class = {on_clean, on_lost};

static struct evpq__conn *connect_now(void)
{
    pg = fake_pg_new();
    struct evpq__dialed dialed = {.pg = pg, .cancel = evpq__cancel_new(pg)};
    return evpq__conn_new(loop, helper, &dialed, CANCEL_TIMEOUT_MS, &conn_class, &conn);
}

static int begin_with(int libpq_version)
{
    fake_reset();
    fake_pq_version(libpq_version);
    cleans = losses = 0;
    loop = evpq__loop_new(fake_ev());
    helper = evpq__helper_start(loop);
    conn = connect_now();
    assert_non_null(conn);
    struct asked *all[] = {&a, &b, &c};
    static const char *const texts[] = {"A", "B", "C"};
    for (int i = 0; i < 3; i++) {
        *all[i] = (struct asked){
            .request = {.statement = {.sql = texts[i]}, .done = on_done, .sent = on_sent},
            .code = (evpq_code)-99}; /* until it is done */
        evpq__node_init(&all[i]->request.node);
    }
    return 0;
}

static int begin(void **state)
{
    (void)state;
    return begin_with(170006);
}

static int begin_blocking_cancels(void **state)
{
    (void)state;
    return begin_with(150015);
}

static void on_helper_stopped(struct evpq__task *task)
{
    (void)task;
}

static bool cancel_under_way(void)
{
    return fake_cancels_open() + fake_calls() > 0;
}

/* The server has got the cancel request and closed its connection. */
static void cancel_over(void)
{
    if (fake_calls() > 0)
        fake_call_return();
    else
        fake_cancel_over();
    fake_settle();
}

static int end(void **state)
{
    if (conn)
        evpq__conn_close(conn);
    fake_settle();
    while (cancel_under_way())
        cancel_over();
    assert_null(conn);
    assert_int_equal(losses, 1);
    static struct evpq__task stopped;
    evpq__task_init(&stopped, on_helper_stopped);
    evpq__helper_stop(helper, &stopped);
    fake_settle();
    evpq__loop_free(loop);
    return fake_teardown(state);
}

static void submit(struct asked *asked)
{
    evpq__conn_submit(conn, &asked->request);
}

static void run(struct asked *asked)
{
    submit(asked);
    fake_settle();
}

static bool idle(void)
{
    return evpq__conn_alive(conn) && evpq__conn_recycle(conn);
}

/* ---- answers ---- */

static void a_result_is_handed_over_at_its_sync(void **state)
{
    (void)state;
    run(&a);
    assert_int_equal(a.sent, 1);
    assert_int_equal(fake_pg_received(pg), 1);
    fake_says_rows(pg, 1);
    fake_settle();
    assert_int_equal(a.done, 0);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(a.code, EVPQ_OK);
    assert_true(idle());
}

static void an_error_behind_a_result_is_an_error(void **state)
{
    (void)state;
    run(&a);
    fake_says(pg, PGRES_COMMAND_OK);
    fake_settle();
    fake_says_error(pg, "ERROR", "23505", "duplicate key");
    fake_settle();
    assert_int_equal(a.done, 0);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.sqlstate, "23505");
    assert_true(idle());
}

static void an_error_of_the_server_leaves_the_connection_as_it_is(void **state)
{
    (void)state;
    run(&a);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(a.message, "division by zero");
    assert_true(idle());
    run(&b);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

static void an_empty_statement_has_a_result(void **state)
{
    (void)state;
    run(&a);
    fake_says(pg, PGRES_EMPTY_QUERY);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(a.done, 1);
}

static void a_sync_without_a_result_is_an_error(void **state)
{
    (void)state;
    run(&a);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
}

static void libpq_without_memory_is_no_memory(void **state)
{
    (void)state;
    run(&a);
    fake_says_error(pg, NULL, NULL, "out of memory for query result\n");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ENOMEM);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_true(idle());
}

static void a_result_without_memory_for_it_is_no_memory(void **state)
{
    (void)state;
    run(&a);
    fake_answers(pg);
    fake_mem_fail_at(1);
    fake_settle();
    assert_true(fake_mem_has_failed());
    assert_int_equal(a.code, EVPQ_ENOMEM);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_true(idle());
}

static void a_second_result_of_one_statement_closes(void **state)
{
    (void)state;
    run(&a);
    fake_says_rows(pg, 1);
    fake_settle();
    fake_says_rows(pg, 1);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(losses, 1);
}

static void copy_closes(void **state)
{
    (void)state;
    static const ExecStatusType kinds[] = {PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH};
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            begin(state);
        run(&a);
        fake_says(pg, kinds[i]);
        fake_settle();
        assert_int_equal(a.code, EVPQ_EINVALID);
        assert_int_equal(losses, 1);
        if (i < 2)
            end(state);
    }
}

static void notifications_are_dropped(void **state)
{
    (void)state;
    fake_says_notification(pg);
    fake_says_notification(pg);
    fake_settle();
    assert_int_equal(fake_pg_notifications(pg), 0);
    assert_true(idle());
    run(&a);
    fake_says_notification(pg);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void a_huge_result_wears_the_connection(void **state)
{
    (void)state;
    run(&a);
    fake_pg_result_bytes(pg, 8 * 1024 * 1024);
    fake_answers(pg);
    fake_settle();
    assert_false(evpq__conn_worn(conn));
    run(&b);
    fake_pg_result_bytes(pg, 8 * 1024 * 1024 + 1);
    fake_answers(pg);
    fake_settle();
    assert_true(evpq__conn_worn(conn));
}

/* ---- order ---- */

static void statements_go_one_at_a_time(void **state)
{
    (void)state;
    submit(&a);
    submit(&b);
    submit(&c);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 1);
    assert_int_equal(b.sent, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(b.done, 0);
    assert_int_equal(fake_pg_received(pg), 2);
    fake_answers(pg);
    fake_settle();
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.done, 1);
    assert_string_equal(fake_pg_sql(pg, 0), "A");
    assert_string_equal(fake_pg_sql(pg, 1), "B");
    assert_string_equal(fake_pg_sql(pg, 2), "C");
}

static void nothing_is_done_before_the_loop_runs(void **state)
{
    (void)state;
    int flushes = fake_pg_flushes(pg);
    submit(&a);
    assert_int_equal(a.sent, 0);
    assert_int_equal(fake_pg_flushes(pg), flushes);
    run(&b);
    fake_answers(pg);
    fake_settle();
    fake_answers(pg);
    fake_settle();
}

static void what_the_socket_does_not_take_waits_for_it(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    run(&a);
    assert_int_equal(fake_pg_received(pg), 0);
    assert_int_equal(fake_socket_watched(PQsocket(pg)), EVPQ__READ | EVPQ__WRITE);
    fake_pg_block(pg, false);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 1);
    assert_int_equal(fake_socket_watched(PQsocket(pg)), EVPQ__READ);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
}

static void it_reads_while_it_cannot_write(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    run(&a);
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_string_equal(a.sqlstate, "57P01");
    assert_int_equal(losses, 1);
}

static void what_a_flush_reads_is_taken_too(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    submit(&a);
    fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
    fake_turn();
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(losses, 1);
}

/* ---- loss ---- */

static void the_first_error_of_a_lost_connection_wins(void **state)
{
    (void)state;
    run(&a);
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_says_error(pg, NULL, NULL, "server closed the connection unexpectedly");
    fake_loses(pg, true, "server closed the connection unexpectedly\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.sqlstate, "57P01");
    assert_string_equal(a.message, "terminating connection");
    assert_int_equal(losses, 1);
}

static void a_result_read_together_with_the_loss_is_not_believed(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        if (closes)
            begin(state);
        run(&a);
        fake_says(pg, PGRES_COMMAND_OK);
        fake_says_sync(pg, PQTRANS_IDLE);
        fake_loses(pg, closes, "connection reset by peer\n");
        fake_settle();
        assert_int_equal(a.code, EVPQ_EDISCONNECTED);
        assert_int_equal(a.fate, EVPQ_UNKNOWN);
        assert_string_equal(a.message, "connection reset by peer");
        if (!closes)
            end(state);
    }
}

static void a_result_behind_the_loss_is_not_believed(void **state)
{
    (void)state;
    run(&a);
    fake_loses_later(pg, "connection reset by peer\n");
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
}

static void the_error_behind_the_loss_is_the_reason(void **state)
{
    (void)state;
    run(&a);
    fake_loses_later(pg, "connection reset by peer\n");
    fake_says_error(pg, "FATAL", "57P01", "terminating connection");
    fake_settle();
    assert_string_equal(a.sqlstate, "57P01");
}

static void a_result_whose_sync_is_lost_is_unknown(void **state)
{
    (void)state;
    run(&a);
    fake_says(pg, PGRES_COMMAND_OK);
    fake_settle();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
}

static void an_error_of_the_server_stays_so_when_its_sync_is_lost(void **state)
{
    (void)state;
    run(&a);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_settle();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.code, EVPQ_ESERVER);
    assert_int_equal(a.fate, EVPQ_ROLLED_BACK);
}

static void nulls_for_ever_end_soon(void **state)
{
    (void)state;
    run(&a);
    int gets = fake_pq_gets();
    fake_loses(pg, true, NULL);
    fake_settle();
    assert_true(fake_pq_gets() - gets <= 4);
    assert_string_equal(a.message, "the connection was lost");
}

static void what_was_not_sent_when_it_is_lost_is_safe(void **state)
{
    (void)state;
    submit(&a);
    submit(&b);
    fake_settle();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
}

static void an_idle_connection_notices_its_loss_at_once(void **state)
{
    (void)state;
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_result_while_idle_closes(void **state)
{
    (void)state;
    fake_says_rows(pg, 1);
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_sync_while_idle_closes(void **state)
{
    (void)state;
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(losses, 1);
}

static void last_words_while_idle_close(void **state)
{
    static const char *const words[][2] = {
        {"FATAL", "57P01"}, {"FATAL", "25P03"}, {"PANIC", "XX000"}, {"WARNING", "57P02"}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (i > 0)
            begin(state);
        fake_says_notice(pg, words[i][0], words[i][1], "the end");
        fake_settle();
        assert_int_equal(losses, 1);
        if (i + 1 < sizeof(words) / sizeof(words[0]))
            end(state);
    }
}

static void libpq_that_has_lost_its_place_closes(void **state)
{
    (void)state;
    fake_says_notice(pg, NULL, NULL, "message type 0x44 arrived from server while idle\n");
    fake_settle();
    assert_int_equal(losses, 1);
}

static void a_warning_is_no_reason_to_close(void **state)
{
    (void)state;
    fake_says_notice(pg, "WARNING", "25P01", "there is no transaction in progress");
    fake_settle();
    assert_true(idle());
}

static void a_statement_that_libpq_does_not_take_closes(void **state)
{
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            begin(state);
        if (i == 0)
            fake_pg_fail_send(pg);
        else if (i == 1)
            fake_pg_fail_sync(pg);
        else
            fake_pg_fail_flush(pg);
        run(&a);
        assert_int_equal(a.done, 1);
        assert_int_equal(a.code, EVPQ_EDISCONNECTED);
        assert_int_equal(losses, 1);
        if (i < 2)
            end(state);
    }
}

static void submit_b(void)
{
    submit(&b);
}

static void what_is_submitted_as_it_ends_is_not_sent(void **state)
{
    (void)state;
    run(&a);
    a.inside = submit_b;
    fake_answers(pg);
    fake_says_notice(pg, "FATAL", "57P01", "terminating connection");
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(b.code, EVPQ_EDISCONNECTED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(losses, 1);
}

/* ---- close ---- */

static void close_ends_what_runs_and_what_waits(void **state)
{
    (void)state;
    submit(&a);
    submit(&b);
    fake_settle();
    evpq__conn_close(conn);
    assert_false(evpq__conn_alive(conn));
    assert_int_equal(a.done, 0);
    fake_settle();
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_int_equal(losses, 1);
}

static void what_is_submitted_while_it_closes_is_not_sent(void **state)
{
    (void)state;
    evpq__conn_close(conn);
    run(&a);
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
    assert_int_equal(a.fate, EVPQ_NOT_SENT);
    assert_int_equal(a.sent, 0);
}

static void close_waits_for_the_cancel_request(void **state)
{
    (void)state;
    run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_true(cancel_under_way());
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(fake_pg_count(), 0);
    assert_int_equal(losses, 0);
    assert_false(evpq__conn_alive(conn));
    assert_false(evpq__conn_recycle(conn));
    cancel_over();
    assert_int_equal(losses, 1);
}

static void close_before_the_cancel_request_has_left_waits_too(void **state)
{
    (void)state;
    run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(losses, 0);
    cancel_over();
    assert_int_equal(losses, 1);
}

static void without_memory_what_was_dialed_is_closed(void **state)
{
    (void)state;
    int alive = fake_pq_alive();
    for (int n = 1; n <= 2; n++) {
        PGconn *another = fake_pg_new();
        struct evpq__dialed dialed = {.pg = another, .cancel = evpq__cancel_new(another)};
        fake_mem_fail_at(n);
        assert_null(evpq__conn_new(loop, helper, &dialed, 1, &conn_class, &conn));
        assert_int_equal(fake_pq_alive(), alive);
    }
}

/* ---- abandoned ---- */

static void what_was_not_sent_is_withdrawn(void **state)
{
    (void)state;
    submit(&a);
    assert_true(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(a.done, 0);
    assert_int_equal(fake_pg_received(pg), 0);
    assert_true(idle());
}

static void what_waits_behind_another_is_withdrawn(void **state)
{
    (void)state;
    submit(&a);
    submit(&b);
    submit(&c);
    fake_settle();
    assert_true(evpq__conn_abandon(conn, &b.request));
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_string_equal(fake_pg_sql(pg, 1), "C");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.done, 0);
    assert_int_equal(c.done, 1);
    assert_false(cancel_under_way());
}

static void abandon_running(void)
{
    run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_true(cancel_under_way());
}

static void server_cancels(void)
{
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
}

static void it_is_clean_only_after_sync_and_then_cancel(void **state)
{
    (void)state;
    abandon_running();
    server_cancels();
    assert_int_equal(a.done, 1);
    assert_int_equal(cleans, 0);
    cancel_over();
    assert_int_equal(cleans, 1);
    assert_int_equal(fake_timers(), 0);
    assert_true(idle());
}

static void it_is_clean_only_after_cancel_and_then_sync(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    assert_int_equal(a.done, 0);
    assert_int_equal(cleans, 0);
    server_cancels();
    assert_int_equal(a.done, 1);
    assert_int_equal(cleans, 1);
    assert_true(idle());
}

static void a_statement_that_was_faster_than_its_cancel_is_over(void **state)
{
    (void)state;
    abandon_running();
    fake_answers(pg);
    fake_settle();
    cancel_over();
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(cleans, 1);
}

static void it_can_be_cancelled_again_and_again(void **state)
{
    (void)state;
    struct asked *all[] = {&a, &b, &c};
    for (int i = 0; i < 3; i++) {
        run(all[i]);
        assert_false(evpq__conn_abandon(conn, &all[i]->request));
        assert_false(evpq__conn_recycle(conn));
        fake_settle();
        server_cancels();
        cancel_over();
        assert_int_equal(cleans, i + 1);
    }
    assert_int_equal(fake_cancels(), 3);
}

static void a_request_that_was_lost_is_repeated_after_growing_pauses(void **state)
{
    (void)state;
    abandon_running();
    for (uint32_t pause = 50; pause <= 400; pause *= 2) {
        int before = fake_cancels();
        cancel_over(); /* the server had not begun the statement: it was for nothing */
        fake_advance(pause - 1);
        assert_int_equal(fake_cancels(), before);
        fake_advance(1);
        assert_int_equal(fake_cancels(), before + 1);
    }
    server_cancels();
    cancel_over();
    assert_int_equal(cleans, 1);
    int cancels = fake_cancels();
    fake_advance(10000);
    assert_int_equal(fake_cancels(), cancels);
    assert_int_equal(losses, 0);
}

static void what_comes_next_is_not_cancelled(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    fake_answers(pg); /* in the pause before the next request */
    fake_settle();
    assert_int_equal(cleans, 1);
    run(&b);
    fake_advance(CANCEL_TIMEOUT_MS * 2);
    assert_int_equal(fake_cancels(), 1);
    assert_int_equal(b.done, 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
}

static void the_rollback_is_not_cancelled(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(fake_cancels(), 1);
    assert_int_equal(losses, 0);
}

static void a_second_draining_does_not_believe_it_was_recycled(void **state)
{
    (void)state;
    abandon_running();
    server_cancels();
    cancel_over();
    assert_int_equal(cleans, 1);
    run(&b); /* by a lease, which goes on after it */
    assert_false(evpq__conn_abandon(conn, &b.request));
    fake_settle();
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    cancel_over();
    assert_int_equal(cleans, 1);
    assert_int_equal(fake_pg_received(pg), 2);
    run(&c);
    assert_int_equal(fake_pg_received(pg), 3);
}

/* What ends it comes after so many turns of a cancel request on its way back. */
static void end_at_every_moment(void (*ending)(void), bool blocking)
{
    for (int turns = 0; turns < 8; turns++) {
        begin_with(blocking ? 150015 : 170006);
        abandon_running();
        if (fake_calls() > 0)
            fake_call_return();
        else
            fake_cancel_over();
        for (int i = 0; i < turns; i++)
            fake_turn();
        ending();
        fake_settle();
        if (turns < 7)
            end(NULL);
    }
}

static void lose_it(void)
{
    fake_loses(pg, true, "gone\n");
}

static void close_it(void)
{
    evpq__conn_close(conn);
}

static void loss_at_any_moment_of_a_cancel(void **state)
{
    end(state);
    end_at_every_moment(lose_it, false);
}

static void close_at_any_moment_of_a_cancel(void **state)
{
    end(state);
    end_at_every_moment(close_it, false);
}

static void loss_at_any_moment_of_a_blocking_cancel(void **state)
{
    end(state);
    end_at_every_moment(lose_it, true);
}

static void what_comes_behind_an_abandoned_one_waits_for_the_cancel(void **state)
{
    (void)state;
    submit(&a);
    submit(&b);
    fake_settle();
    assert_false(evpq__conn_abandon(conn, &a.request));
    submit(&c);
    fake_settle();
    server_cancels();
    assert_int_equal(a.done, 1);
    assert_int_equal(fake_pg_received(pg), 1);
    cancel_over();
    assert_int_equal(fake_pg_received(pg), 2);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(b.code, EVPQ_OK);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(c.code, EVPQ_OK);
}

static void a_statement_that_does_not_end_is_closed_at_the_limit(void **state)
{
    (void)state;
    abandon_running();
    cancel_over();
    fake_advance(CANCEL_TIMEOUT_MS - 1);
    assert_int_equal(losses, 0);
    fake_advance(1);
    assert_int_equal(losses, 1);
    assert_int_equal(a.done, 1);
    assert_int_equal(a.code, EVPQ_EDISCONNECTED);
}

static void a_cancel_request_that_does_not_end_is_closed_at_the_limit(void **state)
{
    (void)state;
    abandon_running();
    server_cancels();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
}

static void a_silent_server_holds_nothing_beyond_the_limit(void **state)
{
    (void)state;
    abandon_running();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
    assert_int_equal(a.done, 1);
    assert_int_equal(fake_pg_count(), 0);
}

static void a_loss_while_draining_is_the_end(void **state)
{
    (void)state;
    abandon_running();
    fake_loses(pg, true, "gone\n");
    fake_settle();
    assert_int_equal(a.done, 1);
    cancel_over();
    assert_int_equal(losses, 1);
    assert_int_equal(cleans, 0);
}

static void half_of_a_statement_cannot_be_cancelled(void **state)
{
    (void)state;
    fake_pg_block(pg, true);
    run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    fake_settle();
    assert_int_equal(a.done, 1);
    assert_int_equal(losses, 1);
    assert_int_equal(fake_cancels(), 0);
}

static void a_cancel_without_memory_waits_for_the_statement(void **state)
{
    (void)state;
    run(&a);
    assert_false(evpq__conn_abandon(conn, &a.request));
    assert_false(evpq__conn_recycle(conn));
    fake_mem_fail_at(1);
    fake_settle();
    assert_int_equal(fake_calls(), 0);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

/* ---- recycled ---- */

static void an_idle_connection_is_clean_at_once(void **state)
{
    (void)state;
    assert_true(evpq__conn_recycle(conn));
    fake_settle();
    assert_int_equal(cleans, 0);
    assert_int_equal(fake_pg_received(pg), 0);
}

static void leave_transaction_open(void)
{
    run(&a);
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 2);
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    assert_int_equal(cleans, 0);
}

static void an_open_transaction_is_rolled_back(void **state)
{
    (void)state;
    leave_transaction_open();
    fake_says(pg, PGRES_COMMAND_OK);
    fake_says_sync(pg, PQTRANS_IDLE);
    fake_settle();
    assert_int_equal(cleans, 1);
    assert_int_equal(fake_timers(), 0);
    assert_true(idle());
}

static void a_failed_transaction_is_rolled_back(void **state)
{
    (void)state;
    run(&a);
    fake_says_error(pg, "ERROR", "22012", "division by zero");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_false(evpq__conn_recycle(conn));
    fake_settle();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

static void a_rollback_that_fails_closes(void **state)
{
    (void)state;
    leave_transaction_open();
    fake_says_error(pg, "ERROR", "XX000", "no");
    fake_says_sync(pg, PQTRANS_INTRANS);
    fake_settle();
    assert_int_equal(losses, 1);
    assert_int_equal(cleans, 0);
}

static void a_rollback_that_changes_nothing_is_bounded(void **state)
{
    (void)state;
    leave_transaction_open();
    for (int i = 0; i < 20 && losses == 0; i++) {
        fake_says(pg, PGRES_COMMAND_OK);
        fake_says_sync(pg, PQTRANS_INTRANS);
        fake_advance(CANCEL_TIMEOUT_MS / 10);
    }
    assert_int_equal(losses, 1);
}

static void a_rollback_without_an_answer_closes_at_the_limit(void **state)
{
    (void)state;
    leave_transaction_open();
    fake_advance(CANCEL_TIMEOUT_MS);
    assert_int_equal(losses, 1);
}

static void an_abandoned_statement_in_a_transaction_is_waited_out_and_rolled_back(void **state)
{
    (void)state;
    abandon_running();
    fake_says_error(pg, "ERROR", "57014", "canceling statement due to user request");
    fake_says_sync(pg, PQTRANS_INERROR);
    fake_settle();
    assert_int_equal(fake_pg_received(pg), 1); /* the cancel may still be on its way */
    cancel_over();
    assert_string_equal(fake_pg_sql(pg, 1), "ROLLBACK");
    fake_answers(pg);
    fake_settle();
    assert_int_equal(cleans, 1);
}

static void close_while_it_rolls_back(void **state)
{
    (void)state;
    leave_transaction_open();
    evpq__conn_close(conn);
    fake_settle();
    assert_int_equal(losses, 1);
    assert_int_equal(cleans, 0);
}

#define test(name)          cmocka_unit_test_setup_teardown(name, begin, end)
#define test_blocking(name) cmocka_unit_test_setup_teardown(name, begin_blocking_cancels, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_result_is_handed_over_at_its_sync),
        test(an_error_behind_a_result_is_an_error),
        test(an_error_of_the_server_leaves_the_connection_as_it_is),
        test(an_empty_statement_has_a_result),
        test(a_sync_without_a_result_is_an_error),
        test(libpq_without_memory_is_no_memory),
        test(a_result_without_memory_for_it_is_no_memory),
        test(a_second_result_of_one_statement_closes),
        test(copy_closes),
        test(notifications_are_dropped),
        test(a_huge_result_wears_the_connection),
        test(statements_go_one_at_a_time),
        test(nothing_is_done_before_the_loop_runs),
        test(what_the_socket_does_not_take_waits_for_it),
        test(it_reads_while_it_cannot_write),
        test(what_a_flush_reads_is_taken_too),
        test(the_first_error_of_a_lost_connection_wins),
        test(a_result_read_together_with_the_loss_is_not_believed),
        test(a_result_behind_the_loss_is_not_believed),
        test(the_error_behind_the_loss_is_the_reason),
        test(a_result_whose_sync_is_lost_is_unknown),
        test(an_error_of_the_server_stays_so_when_its_sync_is_lost),
        test(nulls_for_ever_end_soon),
        test(what_was_not_sent_when_it_is_lost_is_safe),
        test(an_idle_connection_notices_its_loss_at_once),
        test(a_result_while_idle_closes),
        test(a_sync_while_idle_closes),
        test(last_words_while_idle_close),
        test(libpq_that_has_lost_its_place_closes),
        test(a_warning_is_no_reason_to_close),
        test(a_statement_that_libpq_does_not_take_closes),
        test(what_is_submitted_as_it_ends_is_not_sent),
        test(close_ends_what_runs_and_what_waits),
        test(what_is_submitted_while_it_closes_is_not_sent),
        test(close_waits_for_the_cancel_request),
        test_blocking(close_waits_for_the_cancel_request),
        test(close_before_the_cancel_request_has_left_waits_too),
        test(without_memory_what_was_dialed_is_closed),
        test(what_was_not_sent_is_withdrawn),
        test(what_waits_behind_another_is_withdrawn),
        test(it_is_clean_only_after_sync_and_then_cancel),
        test_blocking(it_is_clean_only_after_sync_and_then_cancel),
        test(it_is_clean_only_after_cancel_and_then_sync),
        test_blocking(it_is_clean_only_after_cancel_and_then_sync),
        test(a_statement_that_was_faster_than_its_cancel_is_over),
        test(it_can_be_cancelled_again_and_again),
        test_blocking(it_can_be_cancelled_again_and_again),
        test(a_request_that_was_lost_is_repeated_after_growing_pauses),
        test(what_comes_next_is_not_cancelled),
        test(the_rollback_is_not_cancelled),
        test(a_second_draining_does_not_believe_it_was_recycled),
        test(loss_at_any_moment_of_a_cancel),
        test(close_at_any_moment_of_a_cancel),
        test(loss_at_any_moment_of_a_blocking_cancel),
        test(what_comes_behind_an_abandoned_one_waits_for_the_cancel),
        test(a_statement_that_does_not_end_is_closed_at_the_limit),
        test(a_cancel_request_that_does_not_end_is_closed_at_the_limit),
        test_blocking(a_cancel_request_that_does_not_end_is_closed_at_the_limit),
        test(a_silent_server_holds_nothing_beyond_the_limit),
        test_blocking(a_silent_server_holds_nothing_beyond_the_limit),
        test(a_loss_while_draining_is_the_end),
        test(half_of_a_statement_cannot_be_cancelled),
        test_blocking(a_cancel_without_memory_waits_for_the_statement),
        test(an_idle_connection_is_clean_at_once),
        test(an_open_transaction_is_rolled_back),
        test(a_failed_transaction_is_rolled_back),
        test(a_rollback_that_fails_closes),
        test(a_rollback_that_changes_nothing_is_bounded),
        test(a_rollback_without_an_answer_closes_at_the_limit),
        test(an_abandoned_statement_in_a_transaction_is_waited_out_and_rolled_back),
        test(close_while_it_rolls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
