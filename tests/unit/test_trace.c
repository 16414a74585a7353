/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "pool/trace.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"

static struct evpq__loop *loop;
static struct evpq__tracer *tracer;
static int told;
static uint64_t lost, next;
static evpq_trace last;
static char last_tag[EVPQ__TAG_SIZE], last_sqlstate[6];
static int more; /* events that the callback adds */

static void add(uint64_t number)
{
    evpq__tracer_add(tracer, &(evpq_trace){.kind = EVPQ_TRACE_SENT, .operation = number}, NULL);
}

static void on_trace(const evpq_trace *event, void *user)
{
    assert_ptr_equal(user, &told);
    told++;
    lost += event->lost;
    last = *event;
    strcpy(last_tag, event->tag);
    strcpy(last_sqlstate, event->sqlstate);
    if (event->operation) {
        assert_true(event->operation > next);
        next = event->operation;
    }
    if (more > 0) {
        more--;
        add(next + 1000);
    }
}

static int begin(void **state)
{
    (void)state;
    fake_reset();
    loop = evpq__loop_new(fake_ev());
    told = more = 0;
    lost = next = 0;
    tracer = evpq__tracer_new(loop, on_trace, &told, 0);
    assert_non_null(tracer);
    return 0;
}

static int end(void **state)
{
    evpq__tracer_end(tracer);
    evpq__loop_free(loop);
    return fake_teardown(state);
}

static void events_are_told_later_and_in_order(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 100; i++)
        add(i);
    assert_int_equal(told, 0);
    fake_settle();
    assert_int_equal(told, 100);
    assert_int_equal(next, 100);
    assert_int_equal(lost, 0);
}

static void texts_are_copied_and_cut(void **state)
{
    (void)state;
    char tag[200];
    memset(tag, 'x', sizeof(tag) - 1);
    tag[sizeof(tag) - 1] = '\0';
    struct evpq_error error = {0};
    evpq__error_set_report(
        &error, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
        &(struct evpq__server_report){.message = "secret", .sqlstate = "23505-too-long"});
    evpq__tracer_add(tracer, &(evpq_trace){.kind = EVPQ_TRACE_FINISHED, .tag = tag}, &error);
    evpq__error_clear(&error);
    memset(tag, 'y', sizeof(tag) - 1);
    fake_settle();
    assert_int_equal(strlen(last_tag), EVPQ__TAG_SIZE - 1);
    assert_int_equal(strspn(last_tag, "x"), EVPQ__TAG_SIZE - 1);
    assert_string_equal(last_sqlstate, "23505");
    assert_int_equal(last.code, EVPQ_ESERVER);
    assert_int_equal(last.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(last.why, "");
}

static void what_finds_no_room_is_counted(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 5000; i++)
        add(i);
    fake_settle();
    assert_int_equal(told, 1024);
    assert_int_equal(lost, 0);
    add(6000);
    fake_settle();
    assert_int_equal(lost, 5000 - 1024);
    assert_int_equal(last.operation, 6000);
}

static void without_memory_events_are_lost_and_nothing_else(void **state)
{
    (void)state;
    fake_mem_fail_at(1);
    add(1);
    add(2);
    fake_settle();
    assert_true(fake_mem_has_failed());
    assert_int_equal(told, 1);
    assert_int_equal(lost, 1);
}

static void the_callback_may_cause_events(void **state)
{
    (void)state;
    more = 50;
    for (uint64_t i = 1; i <= 30; i++)
        add(i);
    fake_settle();
    assert_int_equal(told, 80);
}

static void the_end_tells_what_is_left(void **state)
{
    (void)state;
    add(1);
    add(2);
    evpq__tracer_end(tracer);
    tracer = NULL;
    assert_int_equal(told, 2);
}

static void a_set_of_kinds_is_a_choice(void **state)
{
    (void)state;
    assert_true(evpq__tracer_wants(tracer, EVPQ_TRACE_CLOSED));
    assert_false(evpq__tracer_wants(NULL, EVPQ_TRACE_CLOSED));
    struct evpq__tracer *two =
        evpq__tracer_new(loop, on_trace, &told, EVPQ_TRACE_DIALED | EVPQ_TRACE_CLOSED);
    assert_true(evpq__tracer_wants(two, EVPQ_TRACE_CLOSED));
    assert_false(evpq__tracer_wants(two, EVPQ_TRACE_SENT));
    evpq__tracer_end(two);
}

static void each_kind_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_DIALED), "dialed");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_DIAL_FAILED), "dial failed");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_ACQUIRED), "acquired");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_SENT), "sent");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_FINISHED), "finished");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_CANCELED), "canceled");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_RERUN), "rerun");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_CLOSED), "closed");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_EXPIRED), "expired");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_LEASE_OVERDUE), "lease overdue");
    assert_string_equal(evpq_trace_kind_name(EVPQ_TRACE_WARNING), "warning");
    assert_string_equal(evpq_trace_kind_name((evpq_trace_kind)0), "?");
    assert_string_equal(evpq_trace_kind_name((evpq_trace_kind)(1 << 20)), "?");
}

#define trace_test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        trace_test(events_are_told_later_and_in_order),
        trace_test(texts_are_copied_and_cut),
        trace_test(what_finds_no_room_is_counted),
        trace_test(without_memory_events_are_lost_and_nothing_else),
        trace_test(the_callback_may_cause_events),
        trace_test(the_end_tells_what_is_left),
        trace_test(a_set_of_kinds_is_a_choice),
        cmocka_unit_test(each_kind_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
