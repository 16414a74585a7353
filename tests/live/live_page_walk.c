/* SPDX-License-Identifier: MIT */
/* Steps of a walk: where they lead, what they hand over, how long they may take. */
#include "page_step.h"
#include "support/pooler.h"

static void page_of(struct live *live, evpq_pager *pager, struct step *step,
                    int (*ask)(evpq_op **, evpq_pager *, evpq_page_fn *, void *), const char *order)
{
    step_clear(step);
    assert_int_equal(ask(NULL, pager, on_page, step), EVPQ_OK);
    wait_step(live, step);
    if (step->code != EVPQ_OK)
        fail_msg("ORDER BY %s: %s %s", order, step->sqlstate, step->message);
}

static void there_and_back_again(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(
        &live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 4));
    static const struct {
        int (*ask)(evpq_op **, evpq_pager *, evpq_page_fn *, void *);
        int64_t first;
        uint32_t rows;
        bool has_prev, has_next;
    } steps[] = {
        {evpq_pager_prev, 0, 0, false, false}, /* it stands before the first row */
        {evpq_pager_next, 1, 4, false, true},  {evpq_pager_prev, 0, 0, false, true},
        {evpq_pager_next, 5, 4, true, true},   {evpq_pager_next, 9, 2, true, false},
        {evpq_pager_next, 0, 0, true, false},  {evpq_pager_prev, 5, 4, true, true},
        {evpq_pager_prev, 1, 4, false, true},  {evpq_pager_last, 7, 4, true, false},
        {evpq_pager_prev, 3, 4, true, true},   {evpq_pager_prev, 1, 2, false, true},
        {evpq_pager_first, 1, 4, false, true}, {evpq_pager_next, 5, 4, true, true},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        page_of(&live, pager, &step, steps[i].ask, "id");
        if (step.rows != steps[i].rows || step.has_prev != steps[i].has_prev ||
            step.has_next != steps[i].has_next)
            fail_msg("step %zu: %u rows, prev %d, next %d", i, step.rows, step.has_prev,
                     step.has_next);
        for (uint32_t row = 0; row < step.rows; row++)
            assert_int_equal(int8_at(step.result, row, "id"), steps[i].first + row);
    }
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void offset_pages_go_back_too(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    char token[4097];
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM evpq_page_rows ORDER BY id", .page_size = 4);
    evpq_pager *pager = opened(&live, &options);
    assert_int_equal(evpq_pager_last(NULL, pager, on_page, &step), EVPQ_EINVALID);
    page_of(&live, pager, &step, evpq_pager_next, "");
    page_of(&live, pager, &step, evpq_pager_next, "");
    assert_int_equal(int8_at(step.result, 0, "id"), 5);
    assert_true(step.has_prev && step.has_next);
    snprintf(token, sizeof(token), "%s", step.token_before);
    page_of(&live, pager, &step, evpq_pager_prev, "");
    assert_int_equal(int8_at(step.result, 0, "id"), 1);
    assert_int_equal(step.rows, 4);
    assert_true(!step.has_prev && step.has_next);
    page_of(&live, pager, &step, evpq_pager_prev, "");
    assert_int_equal(step.rows, 0);
    evpq_pager_close(pager);
    options.before = token;
    options.page_size = 3;
    pager = opened(&live, &options);
    page_of(&live, pager, &step, evpq_pager_prev, "");
    assert_int_equal(int8_at(step.result, 0, "id"), 2);
    assert_int_equal(step.rows, 3);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_token_is_of_one_direction(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    char behind[4097], before[4097];
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 3);
    evpq_pager *pager = opened(&live, &options);
    next_good(&live, pager, &step);
    next_good(&live, pager, &step); /* 4, 5, 6 */
    snprintf(behind, sizeof(behind), "%s", step.token);
    snprintf(before, sizeof(before), "%s", step.token_before);
    evpq_pager_close(pager);
    options.after = before;
    assert_string_equal(evpq_pager_options_problem(&options), EVPQ_TOKEN_PROBLEM);
    options.after = NULL;
    options.before = behind;
    assert_string_equal(evpq_pager_options_problem(&options), EVPQ_TOKEN_PROBLEM);
    /* The other way the row next to the place belongs to the page. */
    options.before = before;
    pager = opened(&live, &options);
    page_of(&live, pager, &step, evpq_pager_next, "id");
    assert_int_equal(int8_at(step.result, 0, "id"), 4);
    evpq_pager_close(pager);
    options.before = NULL;
    options.after = behind;
    pager = opened(&live, &options);
    page_of(&live, pager, &step, evpq_pager_prev, "id");
    assert_int_equal(int8_at(step.result, 2, "id"), 6);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void hidden_columns_stay_hidden(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(5);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .columns = "tie, ord",
                                         .order_by = "-id, id", .page_size = 2));
    next_good(&live, pager, &step);
    next_good(&live, pager, &step);
    assert_int_equal(evpq_result_columns(step.result), 2);
    assert_string_equal(evpq_result_column_name(step.result, 0), "tie");
    assert_null(evpq_result_column_name(step.result, 2));
    assert_int_equal(evpq_result_column_index(step.result, "evpq_key_1"), -1);
    assert_int_equal(int8_at(step.result, 0, "ord"), 3);
    evpq_text_view text;
    assert_int_equal(evpq_result_text(step.result, 0, 2, &text), EVPQ_EINVALID);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_walk_has_a_deadline_of_its_own(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(5);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT id, pg_sleep(0.2) FROM evpq_page_rows",
                                         .order_by = "id", .page_size = 1, .walk_timeout_ms = 500));
    int code = EVPQ_OK;
    double start = live_now();
    for (int i = 0; i < 9 && code == EVPQ_OK; i++) {
        step_clear(&step);
        code = evpq_pager_next(NULL, pager, on_page, &step);
        if (code == EVPQ_OK)
            wait_step(&live, &step);
    }
    assert_int_equal(code, EVPQ_ETIMEOUT);
    assert_true(live_now() - start < 5. * live_slow());
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_deadline_that_passed_is_the_one_that_was_set(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(5);
    uint32_t timeout_ms = (uint32_t)(400 * live_slow());
    for (int walk = 0; walk < 2; walk++) {
        char expected[100];
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
        evpq_pager *pager =
            opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT id, pg_sleep(30) FROM evpq_page_rows",
                                             .order_by = "id", .page_size = 1,
                                             .timeout_ms = walk ? 0 : timeout_ms,
                                             .walk_timeout_ms = walk ? timeout_ms : 0));
        next(&live, pager, &step); /* behind the proof, which takes its part of it */
        assert_int_equal(step.code, EVPQ_ETIMEOUT);
        snprintf(expected, sizeof(expected), "the %sdeadline of %u ms passed",
                 walk ? "walk's " : "", timeout_ms);
        if (!strstr(step.message, expected))
            fail_msg("%s, not %s", step.message, expected);
        evpq_pager_close(pager);
        step_clear(&step);
        live_close(&live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_and_back_again),
        cmocka_unit_test(offset_pages_go_back_too),
        cmocka_unit_test(a_token_is_of_one_direction),
        cmocka_unit_test(hidden_columns_stay_hidden),
        cmocka_unit_test(a_walk_has_a_deadline_of_its_own),
        cmocka_unit_test(a_deadline_that_passed_is_the_one_that_was_set),
    };
    return pooler_run_group_tests_name("page_walk", tests, NULL, drop_rows);
}
