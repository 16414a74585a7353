/* SPDX-License-Identifier: MIT */
/* Statements that share a connection: when, which one, and who never does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/pool_story.h"

static struct call *const calls = story_calls;

static void open_with(uint32_t size, uint32_t depth)
{
    /* The fake server answers a Prepare at once, also when it owes an answer to another. */
    story_open_with_idle((int)size, *EVPQ_POOL_OPTIONS(.max_size = size, .pipeline_depth = depth,
                                                       .statement_cache = EVPQ_NEVER));
}

/* Statements that the test answers: the fake server leaves HANG alone. */
static void hang(int from, int count)
{
    for (int i = from; i < from + count; i++)
        story_ask(&calls[i], "HANG", 0);
    fake_settle();
}

static int received(int n)
{
    return fake_pg_received(fake_pg(n));
}

static void they_share_when_all_are_busy(void **state)
{
    (void)state;
    open_with(2, 3);
    hang(0, 2);
    assert_int_equal(received(0), 1);
    assert_int_equal(received(1), 1);
    hang(2, 4);
    assert_int_equal(received(0), 3);
    assert_int_equal(received(1), 3);
    assert_int_equal(story_stats().waiting, 0);
    hang(6, 1);
    assert_int_equal(story_stats().waiting, 1);
    fake_answers(fake_pg(1));
    fake_settle();
    assert_int_equal(story_stats().waiting, 0);
    assert_int_equal(received(1), 4);
}

static void the_least_loaded_is_taken(void **state)
{
    (void)state;
    open_with(3, 5);
    hang(0, 9);
    for (int n = 0; n < 3; n++)
        assert_int_equal(received(n), 3);
    fake_answers(fake_pg(1));
    fake_answers(fake_pg(1));
    fake_settle();
    hang(9, 2);
    assert_int_equal(received(1), 5);
}

static void a_pool_that_can_grow_grows(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 2, .pipeline_depth = 8));
    fake_dial_all_wait();
    story_ask(&calls[0], "HANG", 0);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    hang(1, 1);
    assert_int_equal(fake_dials_open(), 1);
    fake_dial_all_succeed();
    fake_dial_succeeds();
    fake_settle();
    hang(2, 1);
    assert_int_equal(received(0) + received(1), 3);
}

static void nobody_overtakes_who_waits_for_a_connection(void **state)
{
    (void)state;
    open_with(1, 8);
    hang(0, 2);
    story_acquire(&calls[10], 0);
    hang(2, 2);
    assert_int_equal(received(0), 2);
    assert_int_equal(story_stats().waiting, 3);
    fake_answers(fake_pg(0));
    fake_answers(fake_pg(0));
    fake_settle();
    assert_non_null(calls[10].lease);
    assert_int_equal(received(0), 2);
    story_release(&calls[10]);
    fake_settle();
    assert_int_equal(received(0), 4);
}

static void a_lease_is_not_shared(void **state)
{
    (void)state;
    open_with(1, 8);
    story_acquire(&calls[10], 0);
    fake_settle();
    hang(0, 1);
    assert_int_equal(received(0), 0);
    for (int i = 1; i < 3; i++)
        story_lease_ask(&calls[i], calls[10].lease, "HANG", 0);
    fake_settle();
    assert_int_equal(received(0), 1); /* not in one pipeline either */
    fake_answers(fake_pg(0));
    fake_settle();
    assert_int_equal(received(0), 2);
    story_release(&calls[10]);
}

static void what_needs_its_own_has_its_own(void **state)
{
    (void)state;
    static const char *const alone[] = {"/* a */ begin", "COPY t TO STDOUT", "-- x\nROLLBACK"};
    open_with(1, 8);
    for (int i = 0; i < 3; i++) {
        int before = received(0);
        hang(10 * i, 1);
        story_ask(&calls[10 * i + 1], alone[i], 0);
        hang(10 * i + 2, 1);
        assert_int_equal(received(0), before + 1);
        fake_answers(fake_pg(0));
        fake_settle();
        assert_int_equal(received(0), before + 3);
        assert_int_equal(calls[10 * i + 1].code, EVPQ_OK);
        fake_answers(fake_pg(0));
        fake_settle();
    }
    hang(39, 1);
    int before = received(0);
    story_ask_with(&calls[40], EVPQ_QUERY("HANG", .max_result_bytes = 10000));
    fake_settle();
    assert_int_equal(received(0), before);
    story_close(EVPQ_CLOSE_CANCEL, 0);
}

static void a_slow_one_is_left_alone(void **state)
{
    (void)state;
    open_with(2, 8);
    hang(0, 1);
    fake_advance(50);
    hang(1, 3);
    assert_int_equal(received(0) + received(1), 4);
    assert_int_equal(received(0) == 1 ? received(1) : received(0), 3);
}

static void a_cancelled_one_harms_no_neighbour(void **state)
{
    (void)state;
    open_with(1, 8);
    fake_cancels_obeyed(true);
    hang(0, 1);
    for (int i = 1; i < 4; i++)
        story_ask(&calls[i], "SELECT 1", 0);
    fake_server(NULL);
    fake_settle();
    evpq_op_cancel(calls[0].op);
    fake_settle();
    assert_int_equal(calls[0].code, EVPQ_ECANCELED);
    /* It was not at all the one that the cancel hit. */
    fake_says_error(fake_pg(0), "ERROR", "57014", "canceled");
    fake_says_sync(fake_pg(0), PQTRANS_IDLE);
    fake_server(fake_server_simple);
    for (int i = 0; i < 2; i++)
        fake_answers(fake_pg(0));
    fake_settle();
    for (int i = 1; i < 4; i++) {
        assert_int_equal(calls[i].calls, 1);
        assert_int_equal(calls[i].code, EVPQ_OK);
    }
    assert_int_equal(story_stats().reruns, 1);
    assert_int_equal(fake_pg_count(), 1);
}

static void a_loss_is_unknown_to_all_that_were_sent(void **state)
{
    (void)state;
    open_with(1, 8);
    hang(0, 3);
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(calls[i].code, EVPQ_EDISCONNECTED);
        assert_int_equal(calls[i].fate, EVPQ_UNKNOWN);
    }
}

static void a_connection_that_is_too_old_empties(void **state)
{
    (void)state;
    open_with(1, 8);
    hang(0, 2);
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    hang(2, 1);
    assert_int_equal(story_stats().waiting, 1);
    fake_answers(fake_pg(0));
    fake_answers(fake_pg(0));
    fake_settle();
    assert_int_equal(calls[1].calls, 1);
    fake_advance(100);
    assert_int_equal(received(0), 1);
    assert_int_equal(story_stats().closed_expired, 1);
}

static void a_slot_that_is_used_again_forgets_what_it_was(void **state)
{
    (void)state;
    open_with(1, 2);
    for (int i = 0; i < 10; i += 2) {
        hang(i, 2);
        fake_answers(fake_pg(0));
        fake_answers(fake_pg(0));
        fake_settle();
        assert_int_equal(story_stats().idle, 1);
        story_acquire(&calls[20 + i], 0);
        fake_settle();
        hang(40 + i, 1);
        assert_int_equal(story_stats().waiting, 1);
        story_release(&calls[20 + i]);
        fake_settle();
        fake_answers(fake_pg(0));
        fake_settle();
    }
}

static void closing_ends_them_all(void **state)
{
    (void)state;
    open_with(2, 4);
    hang(0, 8);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    fake_settle();
    for (int i = 0; i < 8; i++)
        assert_int_equal(calls[i].code, EVPQ_ECLOSED);
}

static void what_cannot_share_says_so(void **state)
{
    (void)state;
    static const struct {
        int version;
        bool can;
    } libpqs[] = {{140010, false}, {140011, true}, {150005, false}, {150006, true},
                  {160001, false}, {160002, true}, {170000, true},  {180000, true}};
    for (size_t i = 0; i < sizeof(libpqs) / sizeof(libpqs[0]); i++) {
        fake_pq_version(libpqs[i].version);
        assert_int_equal(!evpq_pool_options_problem(EVPQ_POOL_OPTIONS(.pipeline_depth = 2)),
                         libpqs[i].can);
        assert_null(evpq_pool_options_problem(EVPQ_POOL_OPTIONS(.pipeline_depth = 1)));
    }
    assert_non_null(evpq_pool_options_problem(EVPQ_POOL_OPTIONS(.pipeline_depth = 1001)));
    assert_non_null(evpq_pool_options_problem(
        EVPQ_POOL_OPTIONS(.pipeline_depth = 2, .cancel_policy = EVPQ_CLOSE_ONLY)));
    assert_int_equal(story_open(EVPQ_POOL_OPTIONS(.pipeline_depth = 1001)), EVPQ_EINVALID);
}

static void what_was_slow_the_last_time_is_alone_until_it_is_fast(void **state)
{
    (void)state;
    open_with(1, 8);
    hang(0, 1);
    fake_advance(30);
    fake_answers(fake_pg(0));
    fake_settle();
    hang(1, 1);
    story_ask(&calls[2], "SELECT 1", 0);
    fake_settle();
    assert_int_equal(story_stats().waiting, 1);
    fake_answers(fake_pg(0));
    fake_settle();
    assert_int_equal(calls[2].code, EVPQ_OK);
    /* That was fast. */
    hang(3, 1);
    story_ask(&calls[4], "SELECT 1", 0);
    fake_settle();
    assert_int_equal(story_stats().waiting, 0);
    fake_answers(fake_pg(0));
    fake_settle();
    assert_int_equal(calls[4].code, EVPQ_OK);
}

static void expire_and_run_on(struct call *call)
{
    (void)call;
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
}

static void a_callback_may_outlive_the_connection_it_has_its_answer_from(void **state)
{
    (void)state;
    open_with(1, 4);
    for (int i = 0; i < 3; i++)
        story_ask(&calls[i], "HANG", 0);
    fake_settle();
    calls[2].inside = expire_and_run_on;
    for (int i = 0; i < 3; i++)
        fake_answers(fake_pg(0));
    fake_settle();
    story_run(&calls[3], "SELECT 1");
    for (int i = 0; i < 4; i++)
        assert_int_equal(calls[i].code, EVPQ_OK);
    assert_int_equal(story_stats().closed_expired, 1);
    assert_int_equal(story_stats().total, 1);
}

/* Its result; and where no blocks are kept, as with a tool that looks for use after free, the query
 * and its run. */
static void a_statement_takes_one_allocation(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .pipeline_depth = 4));
    for (int i = 0; i < 20; i++) {
        int before = fake_mem_allocations();
        story_run(&calls[i], "SELECT 1");
        assert_int_equal(calls[i].code, EVPQ_OK);
        int most = pool->spare_runs.count > 0 ? 1 : 3;
        assert_true(i < 2 || fake_mem_allocations() - before <= most);
    }
}

static void run_with(struct call *call, const evpq_value *values, size_t count)
{
    story_ask_with(call, EVPQ_QUERY("SELECT 1", .params = values, .params_count = count));
    fake_settle();
    assert_int_equal(call->code, EVPQ_OK);
}

static void a_block_serves_what_fits_into_it(void **state)
{
    (void)state;
    static char text[5000];
    memset(text, 'x', sizeof(text) - 1);
    evpq_value values[20];
    for (size_t i = 0; i < 20; i++)
        values[i] = evpq_text_n(text, 20);
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .pipeline_depth = 4));
    run_with(&calls[0], values, 1);
    run_with(&calls[1], values, 20);
    run_with(&calls[2], values, 1);
    run_with(&calls[3], &(evpq_value){0}, 0);
    run_with(&calls[4], (const evpq_value[]){evpq_text(text)}, 1);
    run_with(&calls[5], values, 20);
}

static void without_memory_it_is_not_open(void **state)
{
    (void)state;
    for (int n = 1; n < 10; n++) {
        fake_mem_fail_at(n);
        int code = story_open(EVPQ_POOL_OPTIONS(.pipeline_depth = 4));
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        assert_int_equal(code, failed ? EVPQ_ENOMEM : EVPQ_OK);
        if (!failed)
            return;
    }
    fail_msg("it allocates for ever");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(they_share_when_all_are_busy),
        story_test(the_least_loaded_is_taken),
        story_test(a_pool_that_can_grow_grows),
        story_test(nobody_overtakes_who_waits_for_a_connection),
        story_test(a_lease_is_not_shared),
        story_test(what_needs_its_own_has_its_own),
        story_test(a_slow_one_is_left_alone),
        story_test(a_cancelled_one_harms_no_neighbour),
        story_test(a_loss_is_unknown_to_all_that_were_sent),
        story_test(a_connection_that_is_too_old_empties),
        story_test(a_slot_that_is_used_again_forgets_what_it_was),
        story_test(closing_ends_them_all),
        story_test(what_cannot_share_says_so),
        story_test(what_was_slow_the_last_time_is_alone_until_it_is_fast),
        story_test(a_callback_may_outlive_the_connection_it_has_its_answer_from),
        story_test(a_statement_takes_one_allocation),
        story_test(a_block_serves_what_fits_into_it),
        story_test(without_memory_it_is_not_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
