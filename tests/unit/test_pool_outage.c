/* SPDX-License-Identifier: MIT */
/* What a server's behaviour means for all connections: writes refused, failures, a success. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "support/pool_story.h"

static struct call a;

/* ---- drift ---- */

static void server_refuses(PGconn *pg, const char *sql)
{
    fake_says_error(pg, "ERROR", sql, "no");
    fake_says_sync(pg, PQTRANS_IDLE);
}

static void only_a_refused_write_is_drift(void **state)
{
    (void)state;
    static const char *const states[] = {"22012", "25001", "25P02", "42501", "57014", "25007"};
    fake_dial_read_write(true);
    fake_server(server_refuses);
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1));
    fake_advance(2000);
    for (int i = 0; i < 6; i++) {
        story_run(&a, states[i]);
        assert_string_equal(a.sqlstate, states[i]);
        assert_int_equal(story_stats().expired, 0);
    }
    story_run(&a, "25006");
    assert_int_equal(story_stats().expired, 1);
    /* Once a second. */
    fake_advance(999);
    story_run(&a, "25006");
    assert_int_equal(story_stats().expired, 1);
    fake_advance(1);
    story_run(&a, "25006");
    assert_int_equal(story_stats().expired, 2);
}

static void a_session_without_writes_is_not_kept(void **state)
{
    (void)state;
    fake_dial_read_write(true);
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 2));
    fake_pg_parameter(fake_pg(0), "default_transaction_read_only", "on");
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(story_stats().closed_expired, 1);
    assert_int_equal(story_stats().idle, 1);
    assert_int_equal(story_stats().total, 1);
    assert_int_equal(story_stats().expired, 0);
    assert_int_equal(story_stats().reruns, 0); /* nothing was given to it */
    assert_int_equal(fake_dials(), 2);
}

/* ---- replaced twice ---- */

static void what_waits_for_its_replacement_is_not_expired_again(void **state)
{
    (void)state;
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.max_size = 3));
    fake_dial_all_wait();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
        fake_settle();
        assert_int_equal(story_stats().idle, 2);
        assert_int_equal(fake_dials_open(), 1);
    }
    assert_int_equal(story_stats().closed_expired, 0);
}

static void server_takes_no_writes(PGconn *pg, const char *sql)
{
    if (strcmp(sql, "WRITE") == 0)
        server_refuses(pg, "25006");
    else
        fake_server_simple(pg, sql);
}

static void drift_takes_those_that_wait_for_their_replacement(void **state)
{
    (void)state;
    fake_dial_read_write(true);
    fake_server(server_takes_no_writes);
    story_open_with_idle(2, *EVPQ_POOL_OPTIONS(.max_size = 5));
    fake_advance(2000);
    fake_dial_all_wait();
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().closed_expired, 1);
    assert_int_equal(pool->stale, 1);
    /* The new one finds out, while an old one is still there. */
    int before = fake_dials();
    story_run(&a, "WRITE");
    assert_string_equal(a.sqlstate, "25006");
    assert_int_equal(story_stats().expired, 2);
    assert_int_equal(story_stats().closed_expired, 3);
    assert_int_equal(story_stats().idle, 0);
    assert_int_equal(pool->stale, 0);
    /* Nobody waits: nothing is to be replaced. */
    while (fake_dials_open() > 0)
        fake_dial_fails(EVPQ_ECONNECT, NULL, "connection refused", false);
    fake_advance(20000);
    assert_int_equal(fake_dials(), before);
}

/* ---- what a success proves after failures ---- */

/* Fails so often, then one dial succeeds and serves nobody yet. */
static void come_back_after(int failures)
{
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.min_size = 3, .max_size = 3));
    fake_settle();
    for (int i = 0; i < failures; i++) {
        fake_dial_fails(EVPQ_ECONNECT, NULL, "connection refused", false);
        fake_advance(6000);
    }
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
}

static void after_an_outage_the_first_has_to_prove_itself(void **state)
{
    (void)state;
    come_back_after(3);
    int before = fake_dials();
    fake_advance(999);
    assert_int_equal(fake_dials(), before);
    fake_advance(1);
    assert_int_equal(fake_dials(), before + 2);
    /* That is enough: the next success is followed by all that are missing. */
    fake_dial_succeeds();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().idle, 3);
    assert_int_equal(pool->backoff.before, 0);
}

static void an_answer_is_proof_enough(void **state)
{
    (void)state;
    come_back_after(3);
    int before = fake_dials();
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
    assert_int_equal(fake_dials(), before + 2);
}

static void a_loss_before_the_proof_goes_on_with_the_pauses(void **state)
{
    (void)state;
    come_back_after(5);
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    assert_int_equal(pool->backoff.failures, 6);
    assert_int_equal(pool->backoff.before, 0);
    int before = fake_dials();
    fake_advance(100); /* a pause of 100 ms at least */
    assert_int_equal(fake_dials(), before);
    fake_advance(5000);
    assert_int_equal(fake_dials(), before + 1);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(pool->backoff.failures, 0);
    assert_int_equal(pool->backoff.before, 6);
}

static void a_loss_behind_the_proof_starts_with_a_small_one(void **state)
{
    (void)state;
    come_back_after(5);
    story_run(&a, "SELECT 1");
    assert_int_equal(pool->backoff.before, 0);
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    assert_int_equal(pool->backoff.failures, 0);
}

static void a_failure_beside_a_success_that_is_proven_is_forgotten(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 4));
    static const char *const statements[] = {"HANG", "SELECT 1", "HANG", "HANG"};
    for (int i = 0; i < 4; i++)
        story_ask(&story_calls[i], statements[i], 60000);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 2);
    fake_dial_fails(EVPQ_ECONNECT, NULL, "connection refused", false);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_calls[1].code, EVPQ_OK);
    assert_int_equal(fake_dials_open(), 1); /* for the fourth, without a pause */
}

static void want_of_memory_here_spares_nobody_there(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1, .min_size = 1));
    fake_settle();
    for (int i = 0; i < 10; i++) {
        assert_int_equal(fake_dials_open(), 1);
        fake_dial_fails(EVPQ_ENOMEM, NULL, NULL, false);
        fake_settle();
        assert_int_equal(pool->backoff.failures, 1);
        fake_advance(200); /* the first pause, each time */
    }
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(story_stats().idle, 1);
}

static void the_ramp_goes_on_while_dials_are_under_way(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20));
    for (int i = 0; i < 3; i++)
        story_ask(&story_calls[i], "HANG", 60000);
    fake_settle();
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 2);
    fake_answers(fake_pg(0)); /* one of the two who wait gets it: nothing is missing now */
    fake_settle();
    assert_int_equal(story_stats().waiting, 1);
    for (int i = 3; i < 12; i++)
        story_ask(&story_calls[i], "HANG", 60000);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 4);
}

static void a_loss_ends_the_ramp(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 20));
    for (int i = 0; i < 20; i++)
        story_ask(&story_calls[i], "HANG", 60000);
    fake_settle();
    for (int i = 0; i < 3; i++) {
        fake_dial_succeeds();
        fake_settle();
    }
    assert_int_equal(fake_dials_open(), 8);
    fake_advance(1500);
    fake_loses(fake_pg(0), true, "gone\n"); /* old enough to be no failed dial */
    fake_settle();
    assert_int_equal(pool->backoff.failures, 0);
    fake_dial_succeeds();
    fake_settle();
    assert_int_equal(fake_dials_open(), 7); /* of two at a time there are enough */
}

static void pools_that_start_together_do_not_stay_together(void **state)
{
    (void)state;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pool *first = pool;
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_memory_not_equal(first->backoff.random, pool->backoff.random,
                            sizeof(pool->backoff.random));
    story_close(EVPQ_CLOSE_CANCEL, 0);
    pool = first;
}

static void the_last_failure_is_named_with_its_sqlstate(void **state)
{
    (void)state;
    fake_dial_all_wait();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    story_ask(&a, "SELECT 1", 1000);
    fake_settle();
    fake_dial_fails(EVPQ_ECONNECT, "57P03", "the database system is starting up", false);
    fake_dial_all_wait();
    fake_advance(500);
    assert_int_equal(a.code, EVPQ_ECONNECT);
    assert_string_equal(a.sqlstate, "57P03");
    assert_string_equal(a.message,
                        "no connection within 500 ms, 1 attempt failed: the database system is "
                        "starting up");
    /* And of several the last. */
    story_ask(&a, "SELECT 1", 1000);
    while (fake_dials_open() == 0)
        fake_advance(100);
    fake_dial_fails(EVPQ_ECONNECT, NULL, "connection refused", false);
    fake_advance(500);
    assert_string_equal(a.message,
                        "no connection within 500 ms, 2 attempts failed: connection refused");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        story_test(only_a_refused_write_is_drift),
        story_test(a_session_without_writes_is_not_kept),
        story_test(what_waits_for_its_replacement_is_not_expired_again),
        story_test(drift_takes_those_that_wait_for_their_replacement),
        story_test(after_an_outage_the_first_has_to_prove_itself),
        story_test(an_answer_is_proof_enough),
        story_test(a_loss_before_the_proof_goes_on_with_the_pauses),
        story_test(a_loss_behind_the_proof_starts_with_a_small_one),
        story_test(a_failure_beside_a_success_that_is_proven_is_forgotten),
        story_test(want_of_memory_here_spares_nobody_there),
        story_test(the_ramp_goes_on_while_dials_are_under_way),
        story_test(a_loss_ends_the_ramp),
        story_test(pools_that_start_together_do_not_stay_together),
        story_test(the_last_failure_is_named_with_its_sqlstate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
