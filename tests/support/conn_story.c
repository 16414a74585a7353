/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/conn_story.h"

struct evpq__loop *loop;
struct evpq__helper *helper;
struct evpq__conn *conn;
PGconn *pg;
int cleans, losses;
struct asked a, b, c;

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

int64_t cancels_not_before_us;

static int64_t on_canceling(void *owner)
{
    assert_ptr_equal(owner, &conn);
    return cancels_not_before_us;
}

const struct evpq__conn_class conn_class = {on_clean, on_lost, on_canceling};
struct evpq__conn_rules conn_rules;

static struct evpq__conn *connect_now(void)
{
    pg = fake_pg_new();
    struct evpq__dialed dialed = {.pg = pg, .cancel = evpq__cancel_new(pg)};
    return evpq__conn_new(loop, helper, &dialed, &conn_rules, &conn_class, &conn);
}

int conn_begin_keeping(int libpq_version, uint32_t statements)
{
    fake_reset();
    fake_pq_version(libpq_version);
    cleans = losses = 0;
    cancels_not_before_us = 0;
    conn_rules = (struct evpq__conn_rules){.cancel_timeout_ms = CANCEL_TIMEOUT_MS,
                                           .depth = 1,
                                           .statements = statements,
                                           .statement_bytes = 1024 * 1024};
    loop = evpq__loop_new(fake_ev());
    helper = evpq__helper_start(loop);
    conn = connect_now();
    assert_non_null(conn);
    struct asked *all[] = {&a, &b, &c};
    static const char *const texts[] = {"A", "B", "C"};
    for (int i = 0; i < 3; i++) {
        *all[i] = (struct asked){
            .request = {.statement = &all[i]->statement, .done = on_done, .sent = on_sent},
            .statement = {.sql = texts[i], .sql_length = 1, .hash = (uint64_t)(i + 1), .refs = 1},
            .code = (evpq_code)-99};
        evpq__node_init(&all[i]->statement.node);
        evpq__node_init(&all[i]->request.node);
    }
    return 0;
}

int conn_begin_with(int libpq_version)
{
    return conn_begin_keeping(libpq_version, 0);
}

int conn_begin(void **state)
{
    (void)state;
    return conn_begin_with(170006);
}

int conn_begin_blocking(void **state)
{
    (void)state;
    return conn_begin_with(150015);
}

static void on_helper_stopped(struct evpq__task *task)
{
    (void)task;
}

bool cancel_under_way(void)
{
    return fake_cancels_open() + fake_calls() > 0;
}

/* The server has got the cancel request and closed its connection. */
void cancel_over(void)
{
    if (fake_calls() > 0)
        fake_call_return();
    else
        fake_cancel_over();
    fake_settle();
}

int conn_end(void **state)
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

void conn_submit(struct asked *asked)
{
    evpq__conn_submit(conn, &asked->request);
}

void conn_run(struct asked *asked)
{
    conn_submit(asked);
    fake_settle();
}

bool conn_is_idle(void)
{
    return evpq__conn_alive(conn) && evpq__conn_recycle(conn);
}
