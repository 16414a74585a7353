/* SPDX-License-Identifier: MIT */
/* Who serves a read, on pools that are played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "support/router_story.h"

static void a_write_goes_to_the_primary_and_asks_nobody(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask_with(&seen, 1000, NULL);
    assert_int_equal(fake_probes(primary), 0);
    assert_string_equal(fake_statement(primary)->param, "p");
    answer(primary);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().writes, 1);
    assert_int_equal(stats().reads, 0);
}

static void a_read_goes_to_a_standby_as_it_was_asked(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    struct fake_ask *asked = fake_statement(one) ? fake_statement(one) : fake_statement(two);
    assert_string_equal(asked->sql, "SELECT $1");
    assert_string_equal(asked->param, "p");
    assert_string_equal(asked->tag, "tag");
    assert_int_equal(asked->timeout_ms, 1000);
    assert_false(asked->goes_on);
    answer(asked->pool);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().reads, 1);
    assert_int_equal(stats().to_primary, 0);
    assert_int_equal(fake_statements(primary), 0);
}

static void the_first_read_waits_for_the_first_answers(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    assert_int_equal(stats().waiting, 1);
    say(one, true, 1000);
    assert_null(fake_statement(one));
    say(primary, false, 1000);
    /* What the other standby says is not waited for. */
    assert_int_equal(stats().waiting, 0);
    answer(one);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void the_first_read_goes_to_the_primary_when_no_standby_will_do(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    say(primary, false, 1000);
    give(fake_probe(one), NULL);
    assert_null(fake_statement(primary));
    give(fake_probe(two), NULL);
    answer(primary);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().to_primary, 1);
    assert_int_equal(stats().probe_failures, 2);
}

static void the_first_read_waits_for_half_of_its_time_at_most(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask_with(&seen, 100, EVPQ_READ_ONLY());
    fake_advance(49);
    assert_null(fake_statement(primary));
    fake_advance(1);
    assert_int_equal(fake_statement(primary)->timeout_ms, 50);
    answer(primary);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void a_read_that_waits_can_be_cancelled(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    ask(&seen);
    evpq_op_cancel(seen.op);
    assert_int_equal(seen.calls, 0);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECANCELED);
    assert_int_equal(seen.fate, EVPQ_NOT_SENT);
}

static void a_read_that_runs_can_be_cancelled(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    evpq_op_cancel(seen.op);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECANCELED);
    assert_int_equal(seen.fate, EVPQ_UNKNOWN);
    assert_null(fake_statement(one));
    assert_null(fake_statement(two));
}

static void a_deadline_ends_it_wherever_it_is(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask_with(&seen, 100, EVPQ_READ_ONLY());
    fake_advance(100);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ETIMEOUT);
    assert_int_equal(fake_statements(primary), 0);
}

static void reads_are_shared_out(void **state)
{
    (void)state;
    struct seen seen[10];
    memset(seen, 0, sizeof(seen));
    open_fresh();
    for (int i = 0; i < 10; i++) {
        ask(&seen[i]);
        answer(fake_statement(one) ? one : two);
    }
    assert_int_equal(fake_statements(one), 5);
    assert_int_equal(fake_statements(two), 5);
}

static void the_one_with_less_to_do_is_chosen(void **state)
{
    (void)state;
    struct seen seen[10];
    memset(seen, 0, sizeof(seen));
    open_fresh();
    /* Three of eight are less than two of four. */
    one->slot_count[EVPQ__SLOT_BUSY] = 3;
    one->options.max_size = 8;
    two->slot_count[EVPQ__SLOT_BUSY] = 1;
    two->waiting = 1;
    for (int i = 0; i < 10; i++) {
        ask(&seen[i]);
        answer(one);
    }
    assert_int_equal(fake_statements(two), 0);
}

static void a_standby_that_lags_is_left_out(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    for (int i = 0; i < 5; i++) {
        fake_advance(1000);
        say(primary, false, 2000 + (uint64_t)i);
        say(one, true, 2000 + (uint64_t)i);
        say(two, true, 1500);
    }
    for (int i = 0; i < 4; i++) {
        ask(&seen);
        answer(one);
    }
    assert_int_equal(stats().standbys, 1);
    evpq_standby_stats of_two = {.size = sizeof(of_two)};
    assert_int_equal(evpq_router_standby_get(router, 1, &of_two), EVPQ_OK);
    assert_false(of_two.usable);
    assert_int_equal(of_two.lag_bytes, 504);
    assert_int_equal(of_two.lag_ms, 5000);
    assert_int_equal(of_two.replay_lsn, 1500);
}

static void a_read_may_set_bounds_of_its_own(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    fake_advance(500);
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_ms = 499)), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_ms = 500)), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.after_lsn = 1000)), primary);
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.after_lsn = 1001)), primary);
    ask_with(&seen, 1000, EVPQ_READ_ONLY(.after_lsn = 1001));
    answer(primary);
    assert_int_equal(seen.code, EVPQ_OK);
    fake_advance(500);
    say(primary, false, 1100);
    assert_ptr_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_bytes = 99)), primary);
    assert_ptr_not_equal(evpq_router_pool(router, EVPQ_READ_ONLY(.max_lag_bytes = 100)), primary);
}

static void what_a_standby_fails_another_does_and_then_the_primary(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    struct evpq_pool *first = fake_statement(one) ? one : two;
    struct evpq_pool *second = first == one ? two : one;
    fake_advance(100);
    refuse(first, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, "57P01");
    assert_int_equal(fake_statement(second)->timeout_ms, 900);
    assert_true(fake_statement(second)->goes_on);
    assert_string_equal(fake_statement(second)->param, "p");
    refuse(second, EVPQ_ECONNECT, EVPQ_NOT_SENT, NULL);
    answer(primary);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(stats().moved, 2);
    assert_int_equal(stats().to_primary, 1);
    assert_int_equal(fake_statements(first), 1);
}

static void what_the_primary_fails_is_told(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    ask(&seen);
    refuse(fake_statement(one) ? one : two, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "40001");
    refuse(fake_statement(one) ? one : two, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "40001");
    refuse(primary, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, NULL);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_EDISCONNECTED);
}

static void what_a_statement_fails_is_told_at_once(void **state)
{
    (void)state;
    static const struct {
        evpq_code code;
        evpq_fate fate;
        const char *sqlstate;
    } failures[] = {
        {EVPQ_ESERVER, EVPQ_ROLLED_BACK, "25006"}, /* it writes */
        {EVPQ_ESERVER, EVPQ_ROLLED_BACK, "22012"}, {EVPQ_ETOOLARGE, EVPQ_ROLLED_BACK, NULL},
        {EVPQ_EOVERLOADED, EVPQ_NOT_SENT, NULL},   {EVPQ_ETIMEOUT, EVPQ_UNKNOWN, NULL},
        {EVPQ_ETIMEOUT, EVPQ_NOT_SENT, NULL}, /* all connections were taken */
    };
    open_fresh();
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        struct seen seen = {0};
        ask(&seen);
        refuse(fake_statement(one) ? one : two, failures[i].code, failures[i].fate,
               failures[i].sqlstate);
        assert_int_equal(seen.calls, 1);
        assert_int_equal(seen.code, failures[i].code);
    }
    assert_int_equal(stats().moved, 0);
    assert_int_equal(fake_statements(primary), 0);
}

static void where_there_is_no_connection_waiting_ends_elsewhere(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_fresh();
    one->slot_count[EVPQ__SLOT_IDLE] = two->slot_count[EVPQ__SLOT_IDLE] = 0;
    one->slot_count[EVPQ__SLOT_DIALING] = two->slot_count[EVPQ__SLOT_DIALING] = 1;
    ask(&seen);
    refuse(fake_statement(one) ? one : two, EVPQ_ETIMEOUT, EVPQ_NOT_SENT, NULL);
    answer(fake_statement(one) ? one : two);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void the_overload_of_a_standby_is_told_by_the_call(void **state)
{
    (void)state;
    open_fresh();
    fake_pools_code[1] = fake_pools_code[2] = EVPQ_EOVERLOADED;
    struct seen seen = {0};
    assert_int_equal(
        evpq_router_query(NULL, router, EVPQ_QUERY("SELECT 1"), EVPQ_READ_ONLY(), on_result, &seen),
        EVPQ_EOVERLOADED);
    fake_settle();
    assert_int_equal(seen.calls, 0);
    assert_int_equal(stats().reads, 0);
}

static void an_empty_tag_is_copied_too(void **state)
{
    (void)state;
    struct seen seen = {0};
    char *tag = evpq__strdup("");
    open_idle();
    assert_int_equal(evpq_router_query(NULL, router, EVPQ_QUERY("SELECT 1", .tag = tag),
                                       EVPQ_READ_ONLY(), on_result, &seen),
                     EVPQ_OK);
    evpq__free(tag);
    say(primary, false, 1000);
    say(one, true, 1000);
    answer(one);
    assert_int_equal(seen.code, EVPQ_OK);
}

static void on_lsn(uint64_t lsn, const evpq_error *err, void *user)
{
    struct seen *seen = user;
    seen->calls++;
    seen->code = evpq_error_code(err);
    seen->lsn = lsn;
}

static void the_place_of_a_write_is_asked_of_the_primary(void **state)
{
    (void)state;
    struct seen seen = {0};
    open_idle();
    assert_int_equal(evpq_router_write_lsn(NULL, router, 250, on_lsn, &seen), EVPQ_OK);
    assert_int_equal(fake_statement(primary)->timeout_ms, 250);
    give(fake_statement(primary), row(1, (const uint32_t[]){EVPQ__OID_LSN}, (const size_t[]){8},
                                      (const uint64_t[]){UINT64_C(0x16B374D848)}));
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_true(seen.lsn == UINT64_C(0x16B374D848));
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, on_lsn, &seen), EVPQ_OK);
    refuse(primary, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "55000");
    assert_int_equal(seen.code, EVPQ_ESERVER);
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, on_lsn, &seen), EVPQ_OK);
    answer(primary);
    assert_int_equal(seen.code, EVPQ_ETYPE);
    assert_int_equal(seen.calls, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        router_test(a_write_goes_to_the_primary_and_asks_nobody),
        router_test(a_read_goes_to_a_standby_as_it_was_asked),
        router_test(the_first_read_waits_for_the_first_answers),
        router_test(the_first_read_goes_to_the_primary_when_no_standby_will_do),
        router_test(the_first_read_waits_for_half_of_its_time_at_most),
        router_test(a_read_that_waits_can_be_cancelled),
        router_test(a_read_that_runs_can_be_cancelled),
        router_test(a_deadline_ends_it_wherever_it_is),
        router_test(reads_are_shared_out),
        router_test(the_one_with_less_to_do_is_chosen),
        router_test(a_standby_that_lags_is_left_out),
        router_test(a_read_may_set_bounds_of_its_own),
        router_test(what_a_standby_fails_another_does_and_then_the_primary),
        router_test(what_the_primary_fails_is_told),
        router_test(what_a_statement_fails_is_told_at_once),
        router_test(where_there_is_no_connection_waiting_ends_elsewhere),
        router_test(the_overload_of_a_standby_is_told_by_the_call),
        router_test(an_empty_tag_is_copied_too),
        router_test(the_place_of_a_write_is_asked_of_the_primary),
    };
    return cmocka_run_group_tests_name("router", tests, NULL, NULL);
}
