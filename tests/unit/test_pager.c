/* SPDX-License-Identifier: MIT */
/* The pager on a pool that is played here: when a page comes, with which rows, and without memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/pager.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pg/result.h"
#include "pg/value.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pool.h"

/* Rows with (i, j): i from `first`, j = i / 2. False without memory. */
static bool answer(int first, int rows)
{
    char i[] = "i", j[] = "j";
    PGresAttDesc columns[] = {{.name = i, .typid = EVPQ__OID_INT4, .typlen = 4},
                              {.name = j, .typid = EVPQ__OID_INT4, .typlen = 4}};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, 2, columns), 1);
    for (int row = 0; row < rows; row++) {
        char text[16];
        int length = snprintf(text, sizeof(text), "%d", first + row);
        assert_int_equal(PQsetvalue(pg, row, 0, text, length), 1);
        length = snprintf(text, sizeof(text), "%d", (first + row) / 2);
        assert_int_equal(PQsetvalue(pg, row, 1, text, length), 1);
    }
    struct evpq_result *result = evpq__result_new(pg, NULL);
    if (!result)
        return false;
    fake_answer(fake_asked(), result);
    return true;
}

static void answer_error(evpq_code code)
{
    struct evpq_error error = {0};
    evpq__error_set(&error, code, EVPQ_NOT_SENT, "why not");
    fake_answer_error(fake_asked(), &error);
    evpq__error_clear(&error);
}

/* ---- what a page said ---- */

struct seen {
    int calls;
    evpq_code code;
    uint32_t rows;
    bool has_next;
    char token[256];
};

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct seen *seen = user;
    seen->calls++;
    seen->code = evpq_error_code(err);
    if (!page)
        return;
    seen->rows = evpq_page_rows(page);
    seen->has_next = evpq_page_has_next(page);
    const char *token = evpq_page_token(page);
    snprintf(seen->token, sizeof(seen->token), "%s", token ? token : "");
}

static const evpq_pager_options *options(const char *after)
{
    static evpq_value param;
    static evpq_pager_options made;
    param = evpq_int8(7);
    made = *EVPQ_PAGER_OPTIONS(.sql = "SELECT $1", .params = &param, .params_count = 1,
                               .order_by = "j DESC, i", .page_size = 2, .after = after,
                               .assume_unique = true);
    return &made;
}

static int reset(void **state)
{
    (void)state;
    fake_reset();
    fake_pool_begin();
    return 0;
}

static int nothing_left(void **state)
{
    (void)state;
    fake_pool_end();
    fake_nothing_left();
    return 0;
}

/* ---- tests ---- */

static void one_row_more_than_the_page_is_asked_for_and_not_shown(void **state)
{
    (void)state;
    struct seen seen = {0};
    evpq_pager *pager;
    assert_int_equal(fake_pager_open(&pager, options(NULL)), EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    assert_string_equal(fake_asked()->sql,
                        "SELECT * FROM (\nSELECT $1\n) AS evpq_page "
                        "ORDER BY \"j\" DESC, \"i\" LIMIT 3");
    assert_int_equal((int)fake_asked()->params_count, 1);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_EINVALID);
    assert_int_equal(fake_queries(), 1);
    assert_int_equal(seen.calls, 0);
    assert_true(answer(10, 3));
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.rows, 2);
    assert_true(seen.has_next);

    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    assert_non_null(strstr(fake_asked()->sql, "\"j\" = $2 AND \"i\" > $3"));
    assert_int_equal((int)fake_asked()->params_count, 3);
    assert_true(answer(12, 2));
    assert_int_equal(seen.calls, 2);
    assert_int_equal(seen.rows, 2);
    assert_false(seen.has_next);
    evpq_pager_close(pager);
}

static void a_failed_page_leaves_the_walk_where_it_stood(void **state)
{
    (void)state;
    struct seen seen = {0};
    evpq_pager *pager;
    assert_int_equal(fake_pager_open(&pager, options(NULL)), EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    assert_true(answer(10, 3));
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    char sql[sizeof(fake_asked()->sql)];
    strcpy(sql, fake_asked()->sql);
    answer_error(EVPQ_ETIMEOUT);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(seen.code, EVPQ_ETIMEOUT);
    assert_string_equal(evpq_pager_token(pager), seen.token);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    assert_string_equal(fake_asked()->sql, sql);
    assert_int_equal((int)fake_asked()->params_count, 3);
    answer_error(EVPQ_ECANCELED);
    evpq_pager_close(pager);
}

static void a_page_on_its_way_is_closed_with_its_pager(void **state)
{
    (void)state;
    struct seen seen = {0};
    evpq_pager *pager;
    assert_int_equal(fake_pager_open(&pager, options(NULL)), EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    evpq_pager_close(pager);
    assert_int_equal(fake_asked()->stopped, EVPQ_ECLOSED);
    assert_int_equal(seen.calls, 0);
    assert_int_equal(fake_pool.refs, 1);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECLOSED);
}

static void a_parameter_that_cannot_be_is_refused_at_open(void **state)
{
    (void)state;
    evpq_pager *pager = NULL;
    evpq_pager_options wrong = *options(NULL);
    evpq_value text = evpq_text_n("a\0b", 3);
    wrong.params = &text;
    assert_int_equal(fake_pager_open(&pager, &wrong), EVPQ_EINVALID);
    assert_string_equal(evpq_pager_options_problem(&wrong), "text with a NUL inside");

    static const char locks[] =
        "a statement with FOR UPDATE or FOR SHARE may lock all its rows for one page";
    wrong = *EVPQ_PAGER_OPTIONS(.sql = "TABLE t FOR UPDATE", .order_by = "id");
    assert_string_equal(evpq_pager_options_problem(&wrong), locks);
    wrong.order_by = NULL;
    assert_string_equal(evpq_pager_options_problem(&wrong), locks);
    wrong.mode = EVPQ_PAGES_CURSOR; /* the server's matter: its transaction is read-only */
    assert_null(evpq_pager_options_problem(&wrong));
    assert_null(pager);
}

static void nothing_of_the_callers_is_kept(void **state)
{
    (void)state;
    struct seen seen = {0};
    evpq_pager *pager;
    char sql[] = "SELECT $1", order_by[] = "j DESC, i", text[] = "text";
    evpq_value param = evpq_text(text);
    evpq_pager_options made =
        *EVPQ_PAGER_OPTIONS(.sql = sql, .params = &param, .params_count = 1, .order_by = order_by,
                            .page_size = 2, .assume_unique = true);
    assert_int_equal(fake_pager_open(&pager, &made), EVPQ_OK);
    memset(sql, '?', sizeof(sql) - 1);
    memset(order_by, '?', sizeof(order_by) - 1);
    memset(text, 0, sizeof(text));
    memset(&param, 0, sizeof(param));
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    assert_non_null(
        strstr(fake_asked()->sql, "SELECT $1\n) AS evpq_page ORDER BY \"j\" DESC, \"i\""));
    assert_true(answer(10, 1));
    char token[sizeof(seen.token)];
    strcpy(token, evpq_pager_token(pager));
    evpq_pager_close(pager);

    param = evpq_text("text");
    made.sql = "SELECT $1";
    made.order_by = "j DESC, i";
    made.after = token;
    assert_null(evpq_pager_options_problem(&made));
}

/* Opens behind a token, takes two pages and closes; what fails for want of memory, again. */
static void walk_on(const char *after)
{
    struct seen seen = {0};
    evpq_pager *pager = NULL;
    int code = fake_pager_open(&pager, options(after));
    if (code == EVPQ_ENOMEM)
        code = fake_pager_open(&pager, options(after));
    assert_int_equal(code, EVPQ_OK);
    for (int first = 12; first < 16;) {
        code = evpq_pager_next(NULL, pager, on_page, &seen);
        if (code == EVPQ_ENOMEM)
            code = evpq_pager_next(NULL, pager, on_page, &seen);
        assert_int_equal(code, EVPQ_OK);
        if (!answer(first, 3))
            answer_error(EVPQ_ENOMEM);
        if (seen.code == EVPQ_OK)
            first += 2;
        else
            assert_int_equal(seen.code, EVPQ_ENOMEM);
    }
    assert_int_equal(seen.calls, fake_queries());
    if (!evpq_pager_token(pager))
        assert_non_null(evpq_pager_token(pager));
    evpq_pager_close(pager);
}

static void any_allocation_may_fail(void **state)
{
    struct seen seen = {0};
    evpq_pager *pager;
    assert_int_equal(fake_pager_open(&pager, options(NULL)), EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
    assert_true(answer(10, 3));
    evpq_pager_close(pager);

    bool failed = true;
    for (int n = 1; failed; n++) {
        nothing_left(state);
        reset(state);
        fake_mem_fail_at(n);
        walk_on(seen.token);
        failed = fake_mem_has_failed();
        assert_in_range(n, 1, 100);
    }

    nothing_left(state);
    reset(state);
    fake_mem_fail_from(1);
    assert_int_equal(fake_pager_open(&pager, options(seen.token)), EVPQ_ENOMEM);
    assert_string_equal(evpq_pager_options_problem(options(seen.token)),
                        evpq_code_text(EVPQ_ENOMEM));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, nothing_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_row_more_than_the_page_is_asked_for_and_not_shown),
        TEST(a_failed_page_leaves_the_walk_where_it_stood),
        TEST(a_page_on_its_way_is_closed_with_its_pager),
        TEST(a_parameter_that_cannot_be_is_refused_at_open),
        TEST(nothing_of_the_callers_is_kept),
        TEST(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
