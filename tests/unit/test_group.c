/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <evpq/group.h>
#include <evpq/semaphore.h>

#include "base/op.h"
#include "support/flow_story.h"

/* Waits for a semaphore are the members: a release lets one succeed, in order. */
static evpq_semaphore *semaphore;
static evpq_group *group;

/* What the group's callback has heard. */
static struct {
    int calls;
    evpq_code code;
    char message[256];
    int order;
    uint32_t size, succeeded;
    evpq_code members[64];
    int64_t at_us;
} heard;

static int begin(void **state)
{
    flow_begin(state);
    memset(&heard, 0, sizeof(heard));
    assert_int_equal(
        evpq_semaphore_open(&semaphore, fake_ev(), EVPQ_SEMAPHORE_OPTIONS(.limit = 64)), EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 64), EVPQ_OK);
    return 0;
}

static int end(void **state)
{
    evpq_semaphore_stats s = {.size = sizeof(s)};
    fake_settle();
    assert_int_equal(evpq_semaphore_stats_get(semaphore, &s), EVPQ_OK);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(evpq_semaphore_release(semaphore, s.in_use), EVPQ_OK);
    evpq_semaphore_close(semaphore);
    return flow_end(state);
}

static void on_done(evpq_group *g, const evpq_error *err, void *user)
{
    assert_ptr_equal(user, &heard);
    heard.calls++;
    heard.code = evpq_error_code(err);
    strncpy(heard.message, evpq_error_message(err), sizeof(heard.message) - 1);
    heard.order = turns_called();
    heard.size = evpq_group_size(g);
    heard.succeeded = evpq_group_succeeded(g);
    heard.at_us = fake_now_us();
    for (uint32_t i = 0; i < heard.size && i < 64; i++)
        heard.members[i] = evpq_error_code(evpq_group_member_error(g, i));
    assert_null(evpq_group_member_error(g, heard.size));
}

static void open_group(const evpq_group_options *options)
{
    assert_int_equal(evpq_group_open(&group, fake_ev(), options), EVPQ_OK);
}

static int start(struct turn *turn, uint32_t timeout_ms)
{
    turn_begin(turn);
    return turn_started(turn,
                        evpq_semaphore_acquire(&turn->op, semaphore, 1, timeout_ms, on_turn, turn));
}

static void add(struct turn *turn, uint32_t timeout_ms)
{
    assert_int_equal(evpq_group_add(group, start(turn, timeout_ms), &turn->op), EVPQ_OK);
}

static evpq_op *wait_for_group(void)
{
    evpq_op *op;
    assert_int_equal(evpq_group_wait(&op, group, on_done, &heard), EVPQ_OK);
    assert_int_equal(heard.calls, 0);
    return op;
}

static void let_succeed(uint32_t members)
{
    assert_int_equal(evpq_semaphore_release(semaphore, members), EVPQ_OK);
}

static void all_members_are_waited_for_whatever_becomes_of_them(void **state)
{
    (void)state;
    open_group(NULL);
    for (int i = 0; i < 4; i++)
        add(&turns[i], i == 2 ? 100 : 10000);
    wait_for_group();
    let_succeed(2);
    fake_advance(500);
    assert_int_equal(turns[2].code, EVPQ_ETIMEOUT);
    assert_int_equal(heard.calls, 0);
    let_succeed(1);
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.order, 4);
    assert_int_equal(heard.size, 4);
    assert_int_equal(heard.succeeded, 3);
    assert_int_equal(heard.code, EVPQ_ETIMEOUT); /* the first, and only, that failed */
    assert_non_null(strstr(heard.message, "deadline of 100 ms"));
    assert_int_equal(heard.members[2], EVPQ_ETIMEOUT);
    assert_int_equal(heard.members[3], EVPQ_OK);
}

static void success_of_all_is_success(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.timeout_ms = 1000));
    for (int i = 0; i < 20; i++)
        add(&turns[i], 10000);
    let_succeed(5);
    fake_settle();
    wait_for_group();
    let_succeed(15);
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_OK);
    assert_int_equal(heard.succeeded, 20);
    assert_int_equal(fake_timers(), 0);
}

static void an_empty_group_completes_too(void **state)
{
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        heard.calls = 0;
        open_group(EVPQ_GROUP_OPTIONS(.mode = (evpq_group_mode)mode, .timeout_ms = 1000));
        wait_for_group();
        fake_settle();
        assert_int_equal(heard.calls, 1);
        assert_int_equal(heard.code, EVPQ_OK);
        assert_int_equal(heard.size, 0);
    }
}

static void members_that_are_over_before_the_wait_count(void **state)
{
    (void)state;
    open_group(NULL);
    for (int i = 0; i < 3; i++)
        add(&turns[i], 10000);
    let_succeed(3);
    fake_advance(100);
    assert_int_equal(turns_called(), 3);
    wait_for_group();
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_OK);
}

static void the_first_error_cancels_the_rest(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_FAIL_FAST));
    for (int i = 0; i < 5; i++)
        add(&turns[i], i == 3 ? 100 : 10000);
    wait_for_group();
    let_succeed(1);
    fake_advance(100);
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_ETIMEOUT);
    assert_int_equal(heard.order, 5);
    assert_int_equal(turns[0].code, EVPQ_OK);
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
    assert_int_equal(turns[4].code, EVPQ_ECANCELED);
    assert_int_equal(heard.members[4], EVPQ_ECANCELED);
}

static void what_is_added_after_the_first_error_is_cancelled(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_FAIL_FAST));
    add(&turns[0], 100);
    fake_advance(100);
    add(&turns[1], 10000);
    fake_settle();
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
    wait_for_group();
    fake_settle();
    assert_int_equal(heard.code, EVPQ_ETIMEOUT);
}

static void a_call_that_could_not_start_is_a_member_that_failed(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_FAIL_FAST));
    evpq_op *untouched = NULL;
    add(&turns[0], 10000);
    assert_int_equal(evpq_group_add(group, EVPQ_EOVERLOADED, &untouched), EVPQ_OK);
    wait_for_group();
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_ECANCELED);
    assert_int_equal(heard.code, EVPQ_EOVERLOADED);
    assert_int_equal(heard.members[1], EVPQ_EOVERLOADED);
    assert_non_null(strstr(heard.message, "could not start"));
}

static void some_of_them_are_enough(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_SOME, .need = 2));
    for (int i = 0; i < 5; i++)
        add(&turns[i], i == 0 ? 50 : 10000);
    wait_for_group();
    fake_advance(50);
    let_succeed(1);
    fake_settle();
    assert_int_equal(heard.calls, 0);
    let_succeed(1);
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_OK);
    assert_int_equal(heard.order, 5);
    assert_int_equal(heard.succeeded, 2);
    assert_int_equal(turns[4].code, EVPQ_ECANCELED);
}

static void when_enough_cannot_succeed_the_rest_is_cancelled(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_SOME, .need = 3));
    for (int i = 0; i < 4; i++)
        add(&turns[i], i < 2 ? 100 + (uint32_t)i * 100 : 10000);
    fake_advance(100);
    wait_for_group();
    fake_advance(99);
    assert_int_equal(heard.calls, 0);
    fake_advance(1);
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_ETIMEOUT);
    assert_int_equal(turns[3].code, EVPQ_ECANCELED);
}

static void the_deadline_of_the_group_cancels_what_is_under_way(void **state)
{
    (void)state;
    int64_t start_us = fake_now_us();
    open_group(EVPQ_GROUP_OPTIONS(.timeout_ms = 250));
    for (int i = 0; i < 3; i++)
        add(&turns[i], 10000);
    let_succeed(1);
    fake_advance(100);
    wait_for_group();
    fake_advance(149);
    assert_int_equal(heard.calls, 0);
    fake_advance(1);
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_ETIMEOUT);
    assert_non_null(strstr(heard.message, "250 ms passed with 2 of 3"));
    assert_int_equal(heard.order, 3);
    assert_int_equal(heard.at_us - start_us, 250000);
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
}

static void a_deadline_before_the_wait_is_told_by_the_wait(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.timeout_ms = 250));
    add(&turns[0], 10000);
    fake_advance(300);
    assert_int_equal(turns[0].code, EVPQ_ECANCELED);
    assert_int_equal(heard.calls, 0);
    add(&turns[1], 10000);
    fake_settle();
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
    wait_for_group();
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_ETIMEOUT);
}

static void cancel_of_the_group_is_told_after_all_its_members(void **state)
{
    (void)state;
    open_group(NULL);
    for (int i = 0; i < 3; i++)
        add(&turns[i], 10000);
    evpq_op *op = wait_for_group();
    evpq_op_cancel(op);
    evpq_op_cancel(op);
    assert_int_equal(turns_called(), 0);
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_ECANCELED);
    assert_int_equal(heard.order, 3);
}

static evpq_group *outer;

static void a_group_is_a_member_of_another(void **state)
{
    (void)state;
    assert_int_equal(evpq_group_open(&outer, fake_ev(), EVPQ_GROUP_OPTIONS(.timeout_ms = 100)),
                     EVPQ_OK);
    open_group(NULL);
    add(&turns[0], 10000);
    evpq_op *op;
    assert_int_equal(evpq_group_add(outer, evpq_group_wait(&op, group, on_done, &heard), &op),
                     EVPQ_OK);
    assert_int_equal(evpq_group_wait(NULL, outer, on_done, &heard), EVPQ_OK);
    fake_advance(100);
    assert_int_equal(turns[0].code, EVPQ_ECANCELED);
    assert_int_equal(heard.calls, 2);
    assert_int_equal(heard.code, EVPQ_ETIMEOUT);
    assert_int_equal(heard.members[0], EVPQ_ECANCELED);
}

static void one_operation_may_be_in_two_groups(void **state)
{
    (void)state;
    assert_int_equal(evpq_group_open(&outer, fake_ev(), NULL), EVPQ_OK);
    open_group(NULL);
    add(&turns[0], 10000);
    assert_int_equal(evpq_group_add(outer, EVPQ_OK, &turns[0].op), EVPQ_OK);
    wait_for_group();
    assert_int_equal(evpq_group_wait(NULL, outer, on_done, &heard), EVPQ_OK);
    let_succeed(1);
    fake_settle();
    assert_int_equal(turns[0].calls, 1);
    assert_int_equal(heard.calls, 2);
}

/* Callbacks that call */

static void cancel_the_group(struct turn *turn)
{
    (void)turn;
    evpq_group_close(group);
}

static void a_member_may_give_up_the_group(void **state)
{
    (void)state;
    for (int waited = 0; waited < 2; waited++) {
        memset(&turns, 0, sizeof(turns));
        heard.calls = 0;
        int before = turns_called();
        open_group(NULL);
        turns[1].inside = cancel_the_group;
        for (int i = 0; i < 4; i++)
            add(&turns[i], 10000);
        if (waited)
            wait_for_group();
        let_succeed(2);
        fake_settle();
        assert_int_equal(turns_called() - before, 4);
        assert_int_equal(turns[3].code, EVPQ_ECANCELED);
        assert_int_equal(heard.calls, waited);
        assert_int_equal(heard.code, waited ? EVPQ_ECANCELED : EVPQ_OK);
    }
}

static void add_inside(struct turn *turn)
{
    if (turn < &turns[5])
        add(turn + 1, 10000);
    else
        wait_for_group();
}

static void a_member_may_add_another_and_wait(void **state)
{
    (void)state;
    open_group(NULL);
    for (int i = 0; i <= 5; i++)
        turns[i].inside = add_inside;
    add(&turns[0], 10000);
    let_succeed(6);
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_OK);
    assert_int_equal(heard.size, 6);
}

static void a_group_is_used_once(void **state)
{
    (void)state;
    open_group(NULL);
    add(&turns[0], 10000);
    wait_for_group();
    assert_int_equal(evpq_group_add(group, EVPQ_OK, &turns[0].op), EVPQ_EINVALID);
    assert_int_equal(evpq_group_wait(NULL, group, on_done, &heard), EVPQ_EINVALID);
    let_succeed(1);
    fake_settle();
    assert_int_equal(heard.calls, 1);

    open_group(NULL);
    memset(&heard, 0, sizeof(heard));
    evpq_op *op;
    assert_int_equal(evpq_group_wait(&op, group, on_done, &heard), EVPQ_OK);
    evpq_op_cancel(op);
    fake_settle();
    assert_int_equal(heard.calls, 1);
    assert_int_equal(heard.code, EVPQ_OK); /* it had completed */
}

static void on_done_use_it_again(evpq_group *g, const evpq_error *err, void *user)
{
    (void)err, (void)user;
    heard.calls++;
    assert_int_equal(evpq_group_add(g, EVPQ_ECLOSED, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_group_wait(NULL, g, on_done, &heard), EVPQ_EINVALID);
    evpq_group_close(g);
}

static void nor_again_in_its_callback(void **state)
{
    (void)state;
    open_group(NULL);
    assert_int_equal(evpq_group_wait(NULL, group, on_done_use_it_again, NULL), EVPQ_OK);
    fake_settle();
    assert_int_equal(heard.calls, 1);
}

static void a_group_that_nobody_waits_for_is_given_up(void **state)
{
    (void)state;
    open_group(EVPQ_GROUP_OPTIONS(.timeout_ms = 1000));
    evpq_group_close(group);
    open_group(EVPQ_GROUP_OPTIONS(.timeout_ms = 1000));
    add(&turns[0], 10000);
    evpq_group_close(group);
    assert_int_equal(turns_called(), 0);
    fake_settle();
    assert_int_equal(turns[0].code, EVPQ_ECANCELED);
    /* Also one that is decided already. */
    open_group(EVPQ_GROUP_OPTIONS(.timeout_ms = 1000));
    add(&turns[1], 10000);
    fake_advance(1000);
    evpq_group_close(group);
    assert_int_equal(turns[1].code, EVPQ_ECANCELED);
    evpq_group_close(NULL);
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    static const struct {
        evpq_group_options options;
        const char *names;
    } bad[] = {
        {{.size = sizeof(evpq_group_options), .mode = (evpq_group_mode)3}, "mode"},
        {{.size = sizeof(evpq_group_options), .mode = EVPQ_GROUP_SOME}, "need"},
        {{.size = sizeof(evpq_group_options), .need = 1}, "need"},
        {{.need = 0}, "size"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(evpq_group_open(&group, fake_ev(), &bad[i].options), EVPQ_EINVALID);
        assert_non_null(strstr(evpq_group_options_problem(&bad[i].options), bad[i].names));
    }
    assert_null(evpq_group_options_problem(NULL));
    assert_int_equal(evpq_group_open(NULL, fake_ev(), NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_group_open(&group, NULL, NULL), EVPQ_EINVALID);
    open_group(EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_SOME, .need = 1));
    evpq_op *none = NULL;
    assert_int_equal(evpq_group_add(NULL, EVPQ_ECLOSED, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_group_add(group, EVPQ_OK, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_group_add(group, EVPQ_OK, &none), EVPQ_EINVALID);
    assert_int_equal(evpq_group_add(group, 1, &none), EVPQ_EINVALID);
    assert_int_equal(evpq_group_wait(NULL, group, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_group_wait(NULL, group, on_done, NULL), EVPQ_EINVALID); /* 1 of 0 */
    assert_int_equal(evpq_group_wait(NULL, NULL, on_done, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_group_size(NULL) + evpq_group_succeeded(NULL), 0);
    assert_null(evpq_group_member_error(NULL, 0));
    evpq_group_close(group);
}

static void tell_a_story(void)
{
    if (evpq_group_open(&group, fake_ev(), EVPQ_GROUP_OPTIONS(.timeout_ms = 500)) != EVPQ_OK)
        return;
    for (int i = 0; i < 20; i++) {
        int code = start(&turns[i], 1000);
        if (evpq_group_add(group, code, &turns[i].op) != EVPQ_OK && code == EVPQ_OK)
            evpq_op_cancel(turns[i].op);
    }
    wait_for_group();
    let_succeed(2);
    fake_advance(1000);
    assert_int_equal(heard.calls, 1);
    heard.calls = 0;
    evpq_semaphore_stats s = {.size = sizeof(s)};
    assert_int_equal(evpq_semaphore_stats_get(semaphore, &s), EVPQ_OK);
    if (s.in_use > 0)
        assert_int_equal(evpq_semaphore_release(semaphore, s.in_use), EVPQ_OK);
    assert_int_equal(evpq_semaphore_try(semaphore, 64), EVPQ_OK);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    int n = 1;
    for (;; n++) {
        fake_mem_fail_at(n);
        tell_a_story();
        if (!fake_mem_has_failed())
            break;
    }
    fake_mem_fail_at(0);
    assert_true(n > 40);
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(all_members_are_waited_for_whatever_becomes_of_them),
        test(success_of_all_is_success),
        test(an_empty_group_completes_too),
        test(members_that_are_over_before_the_wait_count),
        test(the_first_error_cancels_the_rest),
        test(what_is_added_after_the_first_error_is_cancelled),
        test(a_call_that_could_not_start_is_a_member_that_failed),
        test(some_of_them_are_enough),
        test(when_enough_cannot_succeed_the_rest_is_cancelled),
        test(the_deadline_of_the_group_cancels_what_is_under_way),
        test(a_deadline_before_the_wait_is_told_by_the_wait),
        test(cancel_of_the_group_is_told_after_all_its_members),
        test(a_group_is_a_member_of_another),
        test(one_operation_may_be_in_two_groups),
        test(a_member_may_give_up_the_group),
        test(a_member_may_add_another_and_wait),
        test(a_group_is_used_once),
        test(nor_again_in_its_callback),
        test(a_group_that_nobody_waits_for_is_given_up),
        test(nonsense_is_refused),
        test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
