/* SPDX-License-Identifier: MIT */
/* Cursor pages on a real server: one moment, both ways, and a connection that comes back. */
#include "page_step.h"
#include "support/pooler.h"

typedef int ask_fn(evpq_op **, evpq_pager *, evpq_page_fn *, void *);

static void page_of(struct live *live, evpq_pager *pager, struct step *step, ask_fn *ask)
{
    step_clear(step);
    assert_int_equal(ask(NULL, pager, on_page, step), EVPQ_OK);
    wait_step(live, step);
    if (step->code != EVPQ_OK)
        fail_msg("%s %s", step->sqlstate, step->message);
}

/* In the order of the table: a sort would compute all rows for the first page. */
static evpq_pager *opened_cursor(struct live *live, const char *sql, uint32_t page_size)
{
    return opened(
        live, EVPQ_PAGER_OPTIONS(.sql = sql, .page_size = page_size, .mode = EVPQ_PAGES_CURSOR));
}

/* Transactions that other connections of this test have open. */
static int64_t transactions(void)
{
    return aside_int8(
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
        "backend_type = 'client backend' AND datname = current_database() AND "
        "state LIKE '%in transaction%'");
}

static bool is_idle(struct live *live, void *arg)
{
    (void)arg;
    evpq_pool_stats stats = live_stats(live);
    return stats.busy == 0 && stats.cleaning == 0;
}

/* The connection is back, and clean. */
static void check_back(struct live *live)
{
    live_until(live, is_idle, NULL, 10. * live_slow());
    assert_int_equal(transactions(), 0);
}

static void there_and_back_again(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const struct {
        ask_fn *ask;
        int64_t first;
        uint32_t rows;
        bool has_prev, has_next;
    } steps[] = {
        {evpq_pager_prev, 0, 0, false, true}, /* it stands before the first row */
        {evpq_pager_next, 1, 4, false, true},  {evpq_pager_prev, 0, 0, false, true},
        {evpq_pager_next, 5, 4, true, true},   {evpq_pager_next, 9, 2, true, false},
        {evpq_pager_next, 0, 0, true, false},  {evpq_pager_prev, 5, 4, true, true},
        {evpq_pager_prev, 1, 4, false, true},  {evpq_pager_last, 7, 4, true, false},
        {evpq_pager_next, 0, 0, true, false},  {evpq_pager_prev, 3, 4, true, true},
        {evpq_pager_prev, 1, 2, false, true},  {evpq_pager_last, 7, 4, true, false},
        {evpq_pager_first, 1, 4, false, true}, {evpq_pager_next, 5, 4, true, true},
    };
    for (int format = EVPQ_BINARY; format <= EVPQ_TEXT; format++) {
        evpq_pager *pager =
            opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id",
                                             .page_size = 4, .format = (evpq_format)format,
                                             .mode = EVPQ_PAGES_CURSOR));
        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            page_of(&live, pager, &step, steps[i].ask);
            if (step.rows != steps[i].rows || step.has_prev != steps[i].has_prev ||
                step.has_next != steps[i].has_next)
                fail_msg("step %zu: %u rows, prev %d, next %d", i, step.rows, step.has_prev,
                         step.has_next);
            assert_int_equal(evpq_result_format(step.result), format);
            for (uint32_t row = 0; row < step.rows; row++)
                assert_int_equal(int8_at(step.result, row, "id"), steps[i].first + row);
        }
        evpq_pager_close(pager);
        check_back(&live);
    }
    step_clear(&step);
    live_close(&live);
}

/* MOVE counts, and the first page is the last. */
static void the_last_page_may_come_first(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened_cursor(&live, "TABLE evpq_page_rows", 4);
    page_of(&live, pager, &step, evpq_pager_last);
    assert_int_equal(int8_at(step.result, 0, "id"), 7);
    assert_int_equal(step.rows, 4);
    assert_true(step.has_prev && !step.has_next);
    evpq_pager_close(pager);
    pager = opened_cursor(&live, "SELECT * FROM evpq_page_rows WHERE id < 0", 4);
    page_of(&live, pager, &step, evpq_pager_last);
    assert_int_equal(step.rows, 0);
    assert_true(!step.has_prev && !step.has_next);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_cursor_takes_parameters_any_order_and_columns(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(
        &live,
        EVPQ_PAGER_OPTIONS(.sql = "SELECT id, ord, tie FROM evpq_page_rows WHERE id > $1 AND "
                                  "$2::text = 'it''s; a -- value' -- and a comment",
                           EVPQ_PARAMS(evpq_int8(5), evpq_text("it's; a -- value")),
                           .order_by = "tie DESC, (id * 0)", .columns = "id, tie", .page_size = 3,
                           .mode = EVPQ_PAGES_CURSOR));
    page_of(&live, pager, &step, evpq_pager_next);
    assert_int_equal(step.rows, 3);
    assert_int_equal(evpq_result_columns(step.result), 2);
    assert_int_equal(int8_at(step.result, 0, "tie"), 2);
    page_of(&live, pager, &step, evpq_pager_next);
    assert_int_equal(step.rows, 2);
    assert_int_equal(int8_at(step.result, 1, "tie"), 0);
    evpq_pager_close(pager);
    pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT 1 AS id UNION ALL SELECT 2",
                                             .page_size = 1, .mode = EVPQ_PAGES_CURSOR));
    page_of(&live, pager, &step, evpq_pager_next);
    page_of(&live, pager, &step, evpq_pager_next);
    assert_int_equal(int8_at(step.result, 0, "id"), 2);
    assert_true(step.has_prev && !step.has_next);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void all_pages_see_one_moment(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened_cursor(&live, "TABLE evpq_page_rows", 4);
    page_of(&live, pager, &step, evpq_pager_next);
    aside_int8("DELETE FROM evpq_page_rows WHERE id IN (1, 6, 10)");
    aside_int8("UPDATE evpq_page_rows SET id = 100 WHERE id = 7");
    aside_int8("INSERT INTO evpq_page_rows VALUES (0, 0, 0), (11, 0, 0)");
    for (int64_t id = 5; id <= 10;) {
        page_of(&live, pager, &step, evpq_pager_next);
        for (uint32_t row = 0; row < step.rows; row++)
            assert_int_equal(int8_at(step.result, row, "id"), id++);
    }
    assert_false(step.has_next);
    page_of(&live, pager, &step, evpq_pager_first);
    assert_int_equal(int8_at(step.result, 0, "id"), 1);
    evpq_pager_close(pager);
    check_back(&live);
    step_clear(&step);
    live_close(&live);
}

static void it_has_no_tokens_and_no_explanation_but_counts(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(3);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .mode = EVPQ_PAGES_CURSOR);
    evpq_pager *pager = opened(&live, &options);
    assert_int_equal(evpq_pager_mode(pager), EVPQ_PAGES_CURSOR);
    page_of(&live, pager, &step, evpq_pager_next);
    assert_string_equal(step.token, "");
    assert_string_equal(step.token_before, "");
    assert_null(evpq_pager_token(pager));
    assert_int_equal(evpq_pager_explain(NULL, pager, 0, (evpq_explain_fn *)on_page, &step),
                     EVPQ_EINVALID);
    evpq_pager_close(pager);
    options.after = "x";
    assert_non_null(evpq_pager_options_problem(&options));
    step_clear(&step);
    live_close(&live);
}

static void a_failed_page_ends_the_walk(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened_cursor(&live, "SELECT id, 1 / (id - 6) FROM evpq_page_rows", 4);
    page_of(&live, pager, &step, evpq_pager_next);
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_ESERVER);
    assert_string_equal(step.sqlstate, "22012");
    step_clear(&step);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ECLOSED);
    check_back(&live);
    evpq_pager_close(pager);

    /* Of a statement that the server refuses the place is told. */
    pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT nothere", .mode = EVPQ_PAGES_CURSOR));
    next(&live, pager, &step);
    assert_string_equal(step.sqlstate, "42703");
    assert_int_equal(step.position, 8);
    evpq_pager_close(pager);
    /* It is read-only. */
    pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM evpq_page_rows FOR UPDATE",
                                             .mode = EVPQ_PAGES_CURSOR));
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_ESERVER);
    evpq_pager_close(pager);
    check_back(&live);
    step_clear(&step);
    live_close(&live);
}

static void a_page_in_vain_ends_the_walk(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const char slow[] =
        "SELECT id, pg_sleep(CASE WHEN id > 4 THEN 5 ELSE 0 END) FROM "
        "evpq_page_rows";
    evpq_pager *pager = opened_cursor(&live, slow, 2);
    page_of(&live, pager, &step, evpq_pager_next);
    step_clear(&step);
    evpq_op *op = NULL;
    assert_int_equal(evpq_pager_next(&op, pager, on_page, &step), EVPQ_OK);
    live_run(&live, 0.2);
    evpq_op_cancel(op);
    wait_step(&live, &step);
    assert_int_equal(step.code, EVPQ_ECANCELED);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ECLOSED);
    check_back(&live);
    evpq_pager_close(pager);

    pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = slow, .page_size = 10, .timeout_ms = 500,
                                             .mode = EVPQ_PAGES_CURSOR));
    double start = live_now();
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_ETIMEOUT);
    assert_true(live_now() - start < 2. * live_slow());
    evpq_pager_close(pager);
    check_back(&live);

    /* Closed while a page is on its way. */
    pager = opened_cursor(&live, slow, 10);
    step_clear(&step);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_OK);
    live_run(&live, 0.2);
    evpq_pager_close(pager);
    wait_step(&live, &step);
    assert_int_equal(step.code, EVPQ_ECLOSED);
    check_back(&live);
    step_clear(&step);
    live_close(&live);
}

static void a_killed_backend_ends_the_walk(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened_cursor(&live, "SELECT id, pg_backend_pid()::int8 AS pid FROM evpq_page_rows", 4);
    page_of(&live, pager, &step, evpq_pager_next);
    char sql[100];
    snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d)::int",
             (int)int8_at(step.result, 0, "pid"));
    aside_int8(sql);
    live_run(&live, 0.3);
    int code = evpq_pager_next(NULL, pager, on_page, &step);
    if (code == EVPQ_OK) {
        step_clear(&step);
        wait_step(&live, &step);
        code = step.code;
    }
    assert_int_equal(code, EVPQ_EDISCONNECTED);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ECLOSED);
    evpq_pager_close(pager);
    check_back(&live);
    step_clear(&step);
    live_close(&live);
}

static void its_deadline_gives_the_connection_back(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .page_size = 2,
                                         .walk_timeout_ms = 1000, .mode = EVPQ_PAGES_CURSOR));
    page_of(&live, pager, &step, evpq_pager_next);
    assert_int_equal(live_stats(&live).busy, 1);
    assert_int_equal(transactions(), 1);
    /* Nobody asks for anything. */
    live_until(&live, is_idle, NULL, 10. * live_slow());
    assert_int_equal(transactions(), 0);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ETIMEOUT);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_pool_that_closes_takes_the_connection(void **state)
{
    (void)state;
    make_rows(10);
    for (int mode = EVPQ_CLOSE_FINISH; mode <= EVPQ_CLOSE_CANCEL; mode++) {
        struct live live;
        struct step step = {0};
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
        evpq_pager *pager = opened_cursor(&live, "TABLE evpq_page_rows", 2);
        page_of(&live, pager, &step, evpq_pager_next);
        assert_int_equal(evpq_pool_close(live.pool, (evpq_close_mode)mode, 300, NULL, NULL),
                         EVPQ_OK);
        live.pool = NULL;
        assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ECLOSED);
        double start = live_now();
        ev_run(live.loop, 0); /* until nothing is left to do */
        assert_true(live_now() - start < 8. * live_slow());
        assert_int_equal(transactions(), 0);
        evpq_pager_close(pager);
        step_clear(&step);
        ev_loop_destroy(live.loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(there_and_back_again, drop_rows),
        cmocka_unit_test_teardown(the_last_page_may_come_first, drop_rows),
        cmocka_unit_test_teardown(a_cursor_takes_parameters_any_order_and_columns, drop_rows),
        cmocka_unit_test_teardown(all_pages_see_one_moment, drop_rows),
        cmocka_unit_test_teardown(it_has_no_tokens_and_no_explanation_but_counts, drop_rows),
        cmocka_unit_test_teardown(a_failed_page_ends_the_walk, drop_rows),
        cmocka_unit_test_teardown(a_page_in_vain_ends_the_walk, drop_rows),
        cmocka_unit_test_teardown(a_killed_backend_ends_the_walk, drop_rows),
        cmocka_unit_test_teardown(its_deadline_gives_the_connection_back, drop_rows),
        cmocka_unit_test_teardown(a_pool_that_closes_takes_the_connection, drop_rows),
    };
    return pooler_run_group_tests_name("cursor", tests, NULL, NULL);
}
