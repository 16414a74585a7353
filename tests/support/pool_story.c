/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/pool_story.h"

evpq_pool *pool;
int pool_closed_calls;
struct call story_calls[STORY_CALLS];

static int accepted, called, orders;
static int opened, closed;

int story_begin(void **state)
{
    (void)state;
    fake_reset();
    fake_server(fake_server_simple);
    fake_dial_all_succeed();
    fake_cancels_obeyed(true);
    memset(story_calls, 0, sizeof(story_calls));
    pool = NULL;
    pool_closed_calls = accepted = called = orders = opened = closed = 0;
    return 0;
}

void story_finish(void)
{
    fake_dial_all_fail();
    for (int i = 0; i < 100; i++) {
        fake_helper_hold(false);
        fake_settle();
        while (fake_cancels_open() > 0)
            fake_cancel_over();
        while (fake_calls() > 0)
            fake_call_return();
        if (closed == opened)
            break;
        fake_advance(1000);
    }
    fake_settle();
    if (closed != opened)
        fail_msg("%d of %d pools are not closed", opened - closed, opened);
}

int story_end(void **state)
{
    if (pool)
        story_close(EVPQ_CLOSE_CANCEL, 0);
    story_finish();
    if (accepted != called)
        fail_msg("%d calls were accepted, %d called back", accepted, called);
    assert_int_equal(pool_closed_calls, opened);
    return fake_teardown(state);
}

int story_open(const evpq_pool_options *options)
{
    int failed = evpq_pool_open(&pool, fake_ev(), options);
    if (!failed)
        opened++;
    return failed;
}

void story_open_ok(const evpq_pool_options *options)
{
    assert_int_equal(story_open(options), EVPQ_OK);
}

static void called_back(struct call *call, const evpq_error *err)
{
    if (call->accepted != EVPQ_OK || call->calls++ > 0)
        fail_msg("a call that failed, or has called back, calls back");
    called++;
    call->code = evpq_error_code(err);
    call->fate = err ? evpq_error_fate(err) : 0;
    strncpy(call->sqlstate, evpq_error_sqlstate(err), sizeof(call->sqlstate) - 1);
    strncpy(call->message, evpq_error_message(err), sizeof(call->message) - 1);
    call->at_us = fake_now_us();
    call->order = ++orders;
}

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct call *call = user;
    assert_true(!result == (err != NULL));
    called_back(call, err);
    if (call->inside)
        call->inside(call);
}

static void on_acquired(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct call *call = user;
    assert_true(!lease == (err != NULL));
    call->lease = lease;
    called_back(call, err);
    if (call->inside)
        call->inside(call);
}

static void forget(struct call *call)
{
    void (*inside)(struct call *) = call->inside;
    *call = (struct call){.inside = inside, .accepted = EVPQ_EINVALID, .code = NOT_CALLED_BACK};
}

static int started(struct call *call, int code)
{
    call->accepted = code;
    if (code == EVPQ_OK)
        accepted++;
    return code;
}

/* The callback must not come before the call has returned: then `accepted` is not EVPQ_OK yet. */
int story_ask_with(struct call *call, const evpq_query *query)
{
    forget(call);
    return started(call, evpq_pool_query(&call->op, pool, query, on_result, call));
}

int story_ask(struct call *call, const char *sql, uint32_t timeout_ms)
{
    return story_ask_with(call, EVPQ_QUERY(sql, .timeout_ms = timeout_ms));
}

int story_acquire_tagged(struct call *call, const char *tag, uint32_t timeout_ms)
{
    forget(call);
    return started(call,
                   evpq_pool_acquire(&call->op, pool,
                                     EVPQ_ACQUIRE_OPTIONS(.timeout_ms = timeout_ms, .tag = tag),
                                     on_acquired, call));
}

int story_acquire(struct call *call, uint32_t timeout_ms)
{
    return story_acquire_tagged(call, NULL, timeout_ms);
}

int story_lease_ask(struct call *call, evpq_lease *lease, const char *sql, uint32_t timeout_ms)
{
    forget(call);
    return started(call,
                   evpq_lease_query(&call->op, lease, EVPQ_QUERY(sql, .timeout_ms = timeout_ms),
                                    on_result, call));
}

void story_run(struct call *call, const char *sql)
{
    assert_int_equal(story_ask(call, sql, 0), EVPQ_OK);
    fake_settle();
}

void story_release(struct call *call)
{
    evpq_lease_release(call->lease);
    call->lease = NULL;
}

static void on_closed(void *user)
{
    assert_ptr_equal(user, &pool_closed_calls);
    pool_closed_calls++;
    closed++;
}

int story_close(evpq_close_mode mode, uint32_t timeout_ms)
{
    int before = pool_closed_calls;
    int failed = evpq_pool_close(pool, mode, timeout_ms, on_closed, &pool_closed_calls);
    assert_int_equal(pool_closed_calls, before);
    if (!failed)
        pool = NULL;
    return failed;
}

evpq_pool_stats story_stats(void)
{
    evpq_pool_stats stats = {.size = sizeof(stats)};
    assert_int_equal(evpq_pool_stats_get(pool, &stats), EVPQ_OK);
    assert_int_equal(stats.total, stats.idle + stats.busy + stats.cleaning + stats.dialing);
    return stats;
}

void story_open_with_idle(int count, evpq_pool_options options)
{
    struct call *calls = &story_calls[STORY_CALLS - count];
    if (options.max_size == 0)
        options.max_size = (uint32_t)count;
    story_open_ok(&options);
    for (int i = 0; i < count; i++)
        assert_int_equal(story_acquire(&calls[i], 0), EVPQ_OK);
    fake_settle();
    for (int i = 0; i < count; i++)
        story_release(&calls[i]);
    fake_settle();
    assert_int_equal(story_stats().idle, count);
}
