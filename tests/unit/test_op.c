/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/op.h"
#include "support/fake_loop.h"

static struct evpq__loop *loop;

/* An operation that remembers what is done to it. */
static struct {
    struct evpq_op op;
    int stops, deliveries, destroyed;
    evpq_code stopped_why, delivered_code;
    void (*in_callback)(void);
} seen;

static void on_stop(struct evpq_op *op, evpq_code why)
{
    seen.stops++;
    seen.stopped_why = why;
    evpq__error_set(&op->error, why, EVPQ_NOT_SENT, "stopped");
}

static void on_deliver(struct evpq_op *op)
{
    seen.deliveries++;
    seen.delivered_code = op->error.code;
    if (seen.in_callback)
        seen.in_callback();
}

static void on_destroy(struct evpq_op *op)
{
    (void)op;
    seen.destroyed++;
}

static const struct evpq__op_class class_ = {
    .stop = on_stop, .deliver = on_deliver, .destroy = on_destroy};

static int begin(void **state)
{
    (void)state;
    fake_reset();
    loop = evpq__loop_new(fake_ev());
    memset(&seen, 0, sizeof(seen));
    return 0;
}

static int end(void **state)
{
    evpq__loop_free(loop);
    return fake_teardown(state);
}

static void start(uint32_t timeout_ms)
{
    evpq__op_init(&seen.op, &class_, loop, evpq__loop_deadline(loop, timeout_ms));
}

static void cancel(void)
{
    evpq_op_cancel(&seen.op);
}

static void a_finished_operation_is_delivered_once_from_the_loop(void **state)
{
    (void)state;
    start(EVPQ_NEVER);
    assert_false(evpq__op_finished(&seen.op));
    evpq__op_finish(&seen.op);
    assert_true(evpq__op_finished(&seen.op));
    assert_int_equal(seen.deliveries, 0);
    fake_settle();
    assert_int_equal(seen.deliveries, 1);
    assert_int_equal(seen.delivered_code, EVPQ_OK);
    assert_int_equal(seen.destroyed, 1);
}

static void the_first_word_wins(void **state)
{
    (void)state;
    start(EVPQ_NEVER);
    evpq__error_set(&seen.op.error, EVPQ_ESERVER, EVPQ_ROLLED_BACK, "first");
    evpq__op_finish(&seen.op);
    evpq__op_finish(&seen.op);
    evpq__op_stop(&seen.op, EVPQ_ECLOSED);
    cancel();
    fake_settle();
    assert_int_equal(seen.stops, 0);
    assert_int_equal(seen.deliveries, 1);
    assert_int_equal(seen.delivered_code, EVPQ_ESERVER);
}

static void it_is_stopped_at_its_deadline(void **state)
{
    (void)state;
    start(250);
    fake_advance(249);
    assert_int_equal(seen.stops, 0);
    fake_advance(1);
    assert_int_equal(seen.stopped_why, EVPQ_ETIMEOUT);
    assert_int_equal(seen.deliveries, 1);
    assert_int_equal(seen.delivered_code, EVPQ_ETIMEOUT);
}

static void without_a_deadline_no_timer_runs(void **state)
{
    (void)state;
    start(EVPQ_NEVER);
    assert_int_equal(fake_timers(), 0);
    evpq__op_finish(&seen.op);
    fake_settle();
}

static void a_deadline_after_the_finish_is_none(void **state)
{
    (void)state;
    start(10);
    evpq__op_finish(&seen.op);
    assert_int_equal(fake_timers(), 0);
    fake_advance(20);
    assert_int_equal(seen.stops, 0);
    assert_int_equal(seen.deliveries, 1);
}

static void a_limit_comes_before_the_deadline(void **state)
{
    (void)state;
    start(1000);
    evpq__op_limit(&seen.op, evpq__loop_deadline(loop, 100));
    fake_advance(99);
    assert_int_equal(seen.stops, 0);
    fake_advance(1);
    assert_int_equal(seen.stopped_why, EVPQ_ETIMEOUT);
}

static void a_limit_behind_the_deadline_is_the_deadline(void **state)
{
    (void)state;
    start(1000);
    evpq__op_limit(&seen.op, evpq__loop_deadline(loop, 100));
    evpq__op_limit(&seen.op, EVPQ__NO_DEADLINE);
    fake_advance(999);
    assert_int_equal(seen.stops, 0);
    fake_advance(1);
    assert_int_equal(seen.stops, 1);
}

static void what_has_been_sent_has_until_its_deadline(void **state)
{
    (void)state;
    start(1000);
    evpq__op_limit(&seen.op, evpq__loop_deadline(loop, 100));
    evpq__op_sent(&seen.op);
    fake_advance(999);
    assert_int_equal(seen.stops, 0);
    fake_advance(1);
    assert_int_equal(seen.stops, 1);
}

static void cancel_while_it_waits(void **state)
{
    (void)state;
    start(1000);
    cancel();
    assert_int_equal(seen.stopped_why, EVPQ_ECANCELED);
    assert_int_equal(seen.deliveries, 0);
    fake_settle();
    assert_int_equal(seen.delivered_code, EVPQ_ECANCELED);
    assert_int_equal(seen.destroyed, 1);
}

static void cancel_after_it_was_sent(void **state)
{
    (void)state;
    start(1000);
    evpq__op_sent(&seen.op);
    cancel();
    cancel();
    fake_settle();
    assert_int_equal(seen.stops, 1);
    assert_int_equal(seen.deliveries, 1);
    assert_int_equal(seen.delivered_code, EVPQ_ECANCELED);
}

static void cancel_of_what_has_finished_changes_nothing(void **state)
{
    (void)state;
    start(1000);
    evpq__op_finish(&seen.op);
    cancel();
    fake_settle();
    assert_int_equal(seen.stops, 0);
    assert_int_equal(seen.delivered_code, EVPQ_OK);
}

static void cancel_in_its_own_callback_does_nothing(void **state)
{
    (void)state;
    start(1000);
    seen.in_callback = cancel;
    evpq__op_finish(&seen.op);
    fake_settle();
    assert_int_equal(seen.stops, 0);
    assert_int_equal(seen.deliveries, 1);
    assert_int_equal(seen.destroyed, 1);
}

static void cancel_of_nothing_does_nothing(void **state)
{
    (void)state;
    evpq_op_cancel(NULL);
}

static void cancel_after_delivery_while_somebody_keeps_it_does_nothing(void **state)
{
    (void)state;
    start(1000);
    evpq__op_ref(&seen.op);
    evpq__op_finish(&seen.op);
    fake_settle();
    cancel();
    fake_settle();
    assert_int_equal(seen.deliveries, 1);
    evpq__op_unref(&seen.op);
}

static void the_memory_stays_for_who_still_points_here(void **state)
{
    (void)state;
    start(1000);
    evpq__op_ref(&seen.op);
    evpq__op_finish(&seen.op);
    fake_settle();
    assert_int_equal(seen.deliveries, 1);
    assert_int_equal(seen.destroyed, 0);
    evpq__op_unref(&seen.op);
    assert_int_equal(seen.destroyed, 1);
}

static void a_discarded_one_never_calls_back(void **state)
{
    (void)state;
    start(1000);
    evpq__op_discard(&seen.op);
    fake_advance(2000);
    assert_int_equal(seen.deliveries, 0);
    assert_int_equal(seen.stops, 0);
    assert_int_equal(seen.destroyed, 1);
}

static void a_finish_in_the_turn_of_the_deadline_wins(void **state)
{
    (void)state;
    start(10);
    fake_busy(20);
    evpq__op_finish(&seen.op);
    fake_settle();
    assert_int_equal(seen.stops, 0);
    assert_int_equal(seen.delivered_code, EVPQ_OK);
}

/* Its connection was lost before its caller was told. */
static void what_has_finished_may_wait_again_until_it_is_told(void **state)
{
    (void)state;
    start(1000);
    evpq__op_sent(&seen.op);
    evpq__op_again(&seen.op); /* what was sent, too: with its deadline */
    assert_int_equal(fake_timers(), 1);
    evpq__op_finish(&seen.op);
    evpq__op_again(&seen.op);
    fake_settle();
    assert_int_equal(seen.deliveries, 0);
    assert_int_equal(fake_timers(), 0);
    evpq__op_limit(&seen.op, EVPQ__NO_DEADLINE);
    fake_advance(999);
    assert_int_equal(seen.deliveries, 0);
    fake_advance(1);
    assert_int_equal(seen.stopped_why, EVPQ_ETIMEOUT);
    assert_int_equal(seen.deliveries, 1);
}

static void the_error_goes_with_the_operation(void **state)
{
    (void)state;
    start(10);
    evpq__error_set(&seen.op.error, EVPQ_ETYPE, EVPQ_UNKNOWN, "%s", "a text that is allocated");
    evpq__op_finish(&seen.op);
    fake_settle();
    assert_null(seen.op.error.details);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_finished_operation_is_delivered_once_from_the_loop),
        test(the_first_word_wins),
        test(it_is_stopped_at_its_deadline),
        test(without_a_deadline_no_timer_runs),
        test(a_deadline_after_the_finish_is_none),
        test(a_limit_comes_before_the_deadline),
        test(a_limit_behind_the_deadline_is_the_deadline),
        test(what_has_been_sent_has_until_its_deadline),
        test(cancel_while_it_waits),
        test(cancel_after_it_was_sent),
        test(cancel_of_what_has_finished_changes_nothing),
        test(cancel_in_its_own_callback_does_nothing),
        test(cancel_of_nothing_does_nothing),
        test(cancel_after_delivery_while_somebody_keeps_it_does_nothing),
        test(the_memory_stays_for_who_still_points_here),
        test(a_discarded_one_never_calls_back),
        test(a_finish_in_the_turn_of_the_deadline_wins),
        test(what_has_finished_may_wait_again_until_it_is_told),
        test(the_error_goes_with_the_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
