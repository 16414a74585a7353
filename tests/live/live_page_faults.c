/* SPDX-License-Identifier: MIT */
/* Pages that cannot be, fail, are cancelled or closed: a walk goes on from where it stood. */
#include "page_step.h"
#include "support/pooler.h"

/* ---- refusals ---- */

static void options_that_cannot_be_are_refused_with_a_reason(void **state)
{
    (void)state;
    struct live live;
    evpq_pager *pager = NULL;
    const struct {
        evpq_pager_options options;
        const char *problem;
    } cases[] = {
        {*EVPQ_PAGER_OPTIONS(.order_by = "id"), "sql is NULL or empty"},
        {*EVPQ_PAGER_OPTIONS(.sql = " ; "), "sql is NULL or empty"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .order_by = "lower(a"),
         "order_by has parentheses that do not match"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .order_by = "a", .columns = "a b"),
         "columns takes names of columns, with commas between them"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .after = "x", .before = "x"),
         "after and before are both set"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .secrets_count = 1),
         "secrets_count without secrets"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .secrets_count = 17), "more than 16 secrets"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t",
                             .secrets = (const evpq_secret[]){{.bytes = "short", .length = 5}},
                             .secrets_count = 1),
         "a secret has fewer than 16 or more than 1,024 bytes"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .before = ""), EVPQ_TOKEN_PROBLEM},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .page_size = 10001), "page_size is over 10,000"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .format = (evpq_format)3),
         "format is none of evpq_format"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .params_count = 65520),
         "more than 65,519 parameters"},
        {*EVPQ_PAGER_OPTIONS(.sql = "TABLE t", .after = ""), EVPQ_TOKEN_PROBLEM},
        {{.sql = "TABLE t"}, "the field `size` is not the size of the struct"},
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(evpq_pager_open(&pager, live.pool, &cases[i].options), EVPQ_EINVALID);
        assert_string_equal(evpq_pager_options_problem(&cases[i].options), cases[i].problem);
    }
    const evpq_pager_options *good = EVPQ_PAGER_OPTIONS(.sql = "TABLE t");
    assert_null(evpq_pager_options_problem(good));
    assert_int_equal(evpq_pager_open(&pager, NULL, good), EVPQ_EINVALID);
    assert_int_equal(evpq_pager_open(NULL, live.pool, good), EVPQ_EINVALID);
    assert_int_equal(evpq_pager_open(&pager, live.pool, NULL), EVPQ_EINVALID);
    assert_null(pager);
    live_close(&live);
}

static void rows_that_no_order_tells_apart_are_refused(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    char token[sizeof(step.token)];
    make_rows(9); /* tie is 0, 1 and 2 three times each */
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "tie", .page_size = 3,
                            .assume_unique = true);
    evpq_pager *pager = opened(&live, &options);
    next_good(&live, pager, &step);
    strcpy(token, step.token);
    evpq_pager_close(pager);

    options.after = token;
    options.page_size = 2;
    pager = opened(&live, &options);
    for (int i = 0; i < 2; i++) {
        next(&live, pager, &step);
        assert_int_equal(step.code, EVPQ_EINVALID);
        assert_string_equal(step.message,
                            "rows 2 and 3 are equal in all order columns: "
                            "add a unique column to order_by");
        assert_string_equal(evpq_pager_token(pager), token);
    }
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void null_is_not_taken_for_an_empty_text(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "VALUES (NULL), ('')", .order_by = "column1",
                                         .page_size = 1, .assume_unique = true));
    next_good(&live, pager, &step);
    assert_false(evpq_result_is_null(step.result, 0, 0));
    assert_true(step.has_next);
    next_good(&live, pager, &step);
    assert_true(evpq_result_is_null(step.result, 0, 0));
    assert_false(step.has_next);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void an_order_column_that_is_not_there_is_refused(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(3);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "nowhere"));
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_ESERVER);
    assert_string_equal(step.sqlstate, "42703");
    evpq_pager_close(pager);

    /* The name of the whole row, which the server can order by. */
    pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "evpq_page",
                                             .assume_unique = true));
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_EINVALID);
    assert_non_null(strstr(step.message, "an order column is a ROW"));
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void where_an_error_is_counts_in_the_statement_of_the_user(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const struct {
        const char *sql;
        uint32_t position;
    } cases[] = {
        {"SELECT nowhere", 8},
        {"SELECT '\u00e4\u20ac', nowhere", 14},
        {"SELECT (1", 0}, /* at the end of all */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        evpq_pager *pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = cases[i].sql));
        next(&live, pager, &step);
        assert_int_equal(step.code, EVPQ_ESERVER);
        assert_int_equal(step.position, cases[i].position);
        evpq_pager_close(pager);
    }
    step_clear(&step);
    live_close(&live);
}

/* ---- failures: the walk goes on from where it stood ---- */

static void an_sql_error_moves_nothing(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(6);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(
        &live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 2));
    next_good(&live, pager, &step);
    aside_int8("ALTER TABLE evpq_page_rows RENAME TO evpq_page_gone");
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_ESERVER);
    assert_string_equal(step.sqlstate, "42P01");
    aside_int8("ALTER TABLE evpq_page_gone RENAME TO evpq_page_rows");
    next_good(&live, pager, &step);
    assert_int_equal(int8_at(step.result, 0, "id"), 3);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

/* A page that waits for a lock, until unlock(). */
static void lock(struct live *live, struct outcome *lease)
{
    struct outcome outcome;
    live_acquire(live, lease);
    live_lease_query(live, &outcome, lease->lease, EVPQ_QUERY("BEGIN"));
    outcome_clear(&outcome);
    live_lease_query(live, &outcome, lease->lease,
                     EVPQ_QUERY("LOCK TABLE evpq_page_rows IN ACCESS EXCLUSIVE MODE"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
}

static void unlock(struct outcome *lease)
{
    evpq_lease_release(lease->lease);
}

static void a_page_past_its_deadline_or_cancelled_comes_again(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    struct step step = {0};
    char token[sizeof(step.token)];
    make_rows(9);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    live_int8(&live, EVPQ_QUERY("SELECT 1::int8")); /* connected, however long TLS takes */
    evpq_pager *pager = opened(
        &live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 3,
                                  .timeout_ms = (uint32_t)(300 * live_slow())));
    next_good(&live, pager, &step);
    strcpy(token, step.token);

    lock(&live, &lease);
    double start = live_now();
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_ETIMEOUT);
    assert_true(live_now() - start < 0.8 * live_slow());
    assert_string_equal(evpq_pager_token(pager), token);

    evpq_op *op = NULL;
    step_clear(&step);
    assert_int_equal(evpq_pager_next(&op, pager, on_page, &step), EVPQ_OK);
    evpq_op_cancel(op);
    assert_int_equal(step.calls, 0);
    wait_step(&live, &step);
    assert_int_equal(step.code, EVPQ_ECANCELED);
    unlock(&lease);

    for (int64_t id = 4; id <= 7; id += 3) {
        next_good(&live, pager, &step);
        assert_int_equal(step.rows, 3);
        assert_int_equal(int8_at(step.result, 0, "id"), id);
    }
    assert_false(step.has_next);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void one_page_at_a_time(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0}, second = {0};
    make_rows(9);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .page_size = 2));
    assert_int_equal(evpq_pager_mode(pager), EVPQ_PAGES_OFFSET);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &second), EVPQ_EINVALID);
    assert_int_equal(evpq_pager_next(NULL, pager, NULL, &second), EVPQ_EINVALID);
    wait_step(&live, &step);
    next_good(&live, pager, &step);
    assert_int_equal(second.calls, 0);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

/* ---- closing ---- */

struct inside {
    struct step step;
    struct step again;
    evpq_pager *pager;
    bool ask_again;
};

static void close_inside(evpq_page *page, const evpq_error *err, void *user)
{
    struct inside *inside = user;
    if (inside->ask_again)
        assert_int_equal(evpq_pager_next(NULL, inside->pager, on_page, &inside->again), EVPQ_OK);
    evpq_pager_close(inside->pager);
    on_page(page, err, &inside->step);
}

static void a_pager_may_be_closed_by_its_callback(void **state)
{
    (void)state;
    struct live live;
    make_rows(9);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int ask_again = 0; ask_again < 2; ask_again++) {
        struct inside inside = {.ask_again = ask_again};
        inside.pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows",
                                                        .order_by = "id", .page_size = 2));
        assert_int_equal(evpq_pager_next(NULL, inside.pager, close_inside, &inside), EVPQ_OK);
        wait_step(&live, &inside.step);
        assert_int_equal(inside.step.code, EVPQ_OK);
        assert_int_equal(inside.step.rows, 2);
        assert_string_not_equal(inside.step.token, "");
        if (ask_again) {
            wait_step(&live, &inside.again);
            assert_int_equal(inside.again.code, EVPQ_ECLOSED);
        }
        step_clear(&inside.step);
    }
    live_close(&live);
}

static void a_page_of_a_closed_pager_ends_with_closed(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    struct step waiting = {0}, sent = {0};
    make_rows(9);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    const evpq_pager_options *options =
        EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 2);
    evpq_pager_close(opened(&live, options));
    evpq_pager_close(NULL);

    evpq_pager *pager = opened(&live, options);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &waiting), EVPQ_OK);
    evpq_pager_close(pager);
    assert_int_equal(waiting.calls, 0);
    wait_step(&live, &waiting);
    assert_int_equal(waiting.code, EVPQ_ECLOSED);

    lock(&live, &lease);
    pager = opened(&live, options);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &sent), EVPQ_OK);
    live_run(&live, 0.1);
    evpq_pager_close(pager);
    assert_int_equal(sent.calls, 0);
    wait_step(&live, &sent);
    assert_int_equal(sent.code, EVPQ_ECLOSED);
    unlock(&lease);
    live_close(&live);
}

struct closing {
    ev_check check;
    evpq_pager *pager;
    struct step *step;
    int turns; /* until it is closed */
    int calls_before;
};

/* Runs after the sockets of a turn have been read, and before callbacks. */
static void close_at_turn(struct ev_loop *loop, ev_check *check, int events)
{
    struct closing *closing = check->data;
    (void)events;
    if (--closing->turns > 0)
        return;
    ev_check_stop(loop, check);
    closing->calls_before = closing->step->calls;
    evpq_pager_close(closing->pager);
}

static void a_pager_closed_at_any_turn_calls_back_once(void **state)
{
    (void)state;
    struct live live;
    make_rows(9);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1, .min_size = 1));
    (void)live_int8(&live, EVPQ_QUERY("SELECT 1"));
    for (int turns = 1; turns < 15; turns++) {
        struct step step = {0};
        struct closing closing = {.step = &step, .turns = turns};
        closing.pager = opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows",
                                                         .order_by = "id", .page_size = 2));
        assert_int_equal(evpq_pager_next(NULL, closing.pager, on_page, &step), EVPQ_OK);
        ev_check_init(&closing.check, close_at_turn);
        closing.check.data = &closing;
        ev_set_priority(&closing.check, EV_MINPRI);
        ev_check_start(live.loop, &closing.check);
        wait_step(&live, &step);
        live_run(&live, 0.05);
        if (ev_is_active(&closing.check)) {
            ev_check_stop(live.loop, &closing.check);
            evpq_pager_close(closing.pager);
            closing.calls_before = 1;
        }
        assert_int_equal(step.calls, 1);
        assert_int_equal(step.code, closing.calls_before ? EVPQ_OK : EVPQ_ECLOSED);
        step_clear(&step);
    }
    live_close(&live);
}

static void a_pager_outlives_its_pool(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease;
    struct step step = {0};
    make_rows(9);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    evpq_pager *pager = opened(
        &live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 2));
    next_good(&live, pager, &step);
    lock(&live, &lease);
    step_clear(&step);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_OK);
    live_run(&live, 0.1);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    live.pool = NULL;
    assert_int_equal(step.calls, 0);
    wait_step(&live, &step);
    assert_int_equal(step.code, EVPQ_ECLOSED);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ECLOSED);
    unlock(&lease);

    live_close(&live); /* the loop has ended, and with it all of the pool */
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &step), EVPQ_ECLOSED);
    assert_non_null(evpq_pager_token(pager));
    evpq_pager_close(pager);
    assert_int_equal(step.calls, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_cannot_be_are_refused_with_a_reason),
        cmocka_unit_test(rows_that_no_order_tells_apart_are_refused),
        cmocka_unit_test(null_is_not_taken_for_an_empty_text),
        cmocka_unit_test(an_order_column_that_is_not_there_is_refused),
        cmocka_unit_test(where_an_error_is_counts_in_the_statement_of_the_user),
        cmocka_unit_test(an_sql_error_moves_nothing),
        cmocka_unit_test(a_page_past_its_deadline_or_cancelled_comes_again),
        cmocka_unit_test(one_page_at_a_time),
        cmocka_unit_test(a_pager_may_be_closed_by_its_callback),
        cmocka_unit_test(a_page_of_a_closed_pager_ends_with_closed),
        cmocka_unit_test(a_pager_closed_at_any_turn_calls_back_once),
        cmocka_unit_test(a_pager_outlives_its_pool),
    };
    return pooler_run_group_tests_name("page_faults", tests, NULL, drop_rows);
}
