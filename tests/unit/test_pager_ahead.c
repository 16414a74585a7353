/* SPDX-License-Identifier: MIT */
/* Pages fetched ahead, and what is asked beside the pages, on a pool that is played here. */
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

/* One column of text; NULL without memory. */
static struct evpq_result *column(const char *name, int rows, const char *const *values)
{
    char title[32];
    snprintf(title, sizeof(title), "%s", name);
    PGresAttDesc attribute = {.name = title, .typid = EVPQ__OID_TEXT, .typlen = -1};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, 1, &attribute), 1);
    for (int row = 0; row < rows; row++) {
        char text[200];
        int length = snprintf(text, sizeof(text), "%s", values[row]);
        assert_int_equal(PQsetvalue(pg, row, 0, text, length), 1);
    }
    return evpq__result_new(pg, NULL);
}

static void answer_error(struct fake_query *query, evpq_code code)
{
    struct evpq_error error = {0};
    evpq__error_set(&error, code, EVPQ_NOT_SENT, "why not");
    fake_answer_error(query, &error);
    evpq__error_clear(&error);
}

/* Rows 'a', 'b', ... from `first`; without memory that error. */
static void answer(struct fake_query *query, char first, int rows)
{
    char texts[3][2] = {{first}, {(char)(first + 1)}, {(char)(first + 2)}};
    const char *values[] = {texts[0], texts[1], texts[2]};
    struct evpq_result *result = column("value", rows, values);
    if (result)
        fake_answer(query, result);
    else
        answer_error(query, EVPQ_ENOMEM);
}

static struct seen {
    int calls;
    evpq_code code;
    uint32_t rows, position;
    char first;
    int asked_before; /* queries that had been asked when it was told */
    evpq_pager *close;
    evpq_count count;
    char statement[1000], plan[200];
} seen;

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    (void)user;
    seen.calls++;
    seen.code = evpq_error_code(err);
    seen.rows = evpq_page_rows(page);
    seen.asked_before = fake_queries();
    evpq_text_view text;
    seen.first = '-';
    if (seen.rows > 0 && evpq_result_text(evpq_page_result(page), 0, 0, &text) == EVPQ_OK)
        seen.first = text.data[0];
    evpq_pager_close(seen.close);
    seen.close = NULL;
}

static evpq_pager *open_ahead(size_t bytes)
{
    evpq_pager *pager = NULL;
    assert_int_equal(
        fake_pager_open(&pager, EVPQ_PAGER_OPTIONS(.sql = "SELECT value", .order_by = "value",
                                                   .page_size = 2, .assume_unique = true,
                                                   .prefetch_bytes = bytes, .timeout_ms = 1000)),
        EVPQ_OK);
    return pager;
}

static void ask(evpq_pager *pager)
{
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, NULL), EVPQ_OK);
}

static void expect(int calls, char first)
{
    assert_int_equal(seen.calls, calls);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(seen.first, first);
}

static int begin(void **state)
{
    (void)state;
    fake_reset();
    fake_pool_begin();
    memset(&seen, 0, sizeof(seen));
    return 0;
}

static int end(void **state)
{
    (void)state;
    fake_pool_end();
    fake_nothing_left();
    return 0;
}

/* ---- fetched ahead ---- */

static void the_next_page_is_asked_for_before_this_one_is_told(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    assert_int_equal(fake_asked()->max_result_bytes, 0);
    answer(fake_asked(), 'a', 3);
    expect(1, 'a');
    assert_int_equal(seen.asked_before, 2);
    assert_int_equal(fake_asked()->max_result_bytes, 100000);
    assert_non_null(strstr(fake_asked()->sql, "\"value\" > $1"));
    evpq_pager_close(pager);
    assert_int_equal(fake_asked()->stopped, EVPQ_ECANCELED);
}

static void a_page_that_is_there_is_told_later_and_asks_for_nothing(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    answer(fake_asked(), 'c', 3);
    assert_int_equal(seen.calls, 1);
    ask(pager);
    assert_int_equal(fake_queries(), 2);
    assert_int_equal(seen.calls, 1);
    fake_settle();
    expect(2, 'c');
    assert_int_equal(fake_queries(), 3); /* the third, ahead */
    evpq_pager_close(pager);
}

static void a_page_on_its_way_is_waited_for(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    ask(pager);
    assert_int_equal(fake_queries(), 2);
    answer(fake_asked(), 'c', 1);
    expect(2, 'c');
    assert_int_equal(seen.rows, 1);
    assert_int_equal(fake_queries(), 2); /* nothing behind it */
    evpq_pager_close(pager);
}

static void a_page_that_failed_ahead_is_asked_for_again(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    answer_error(fake_asked(), EVPQ_ETOOLARGE); /* before it is wanted */
    assert_int_equal(seen.calls, 1);
    ask(pager);
    assert_int_equal(fake_queries(), 3);
    assert_int_equal(fake_asked()->max_result_bytes, 0);
    answer(fake_asked(), 'c', 3);
    expect(2, 'c');
    ask(pager); /* it is on its way when it fails */
    fake_advance(400);
    answer_error(fake_asked(), EVPQ_EDISCONNECTED);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(fake_queries(), 5);
    assert_true(fake_asked()->goes_on);
    assert_int_equal(fake_asked()->timeout_ms, 600); /* what is left */
    answer_error(fake_asked(), EVPQ_EDISCONNECTED);
    assert_int_equal(seen.calls, 3);
    assert_int_equal(seen.code, EVPQ_EDISCONNECTED);
    evpq_pager_close(pager);
}

static void another_page_drops_the_one_ahead(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    struct fake_query *ahead = fake_asked();
    assert_int_equal(evpq_pager_last(NULL, pager, on_page, NULL), EVPQ_OK);
    assert_int_equal(ahead->stopped, EVPQ_ECANCELED);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    answer(fake_asked(), 'y', 3); /* backward: z, y are shown as y, z */
    expect(2, 'z');
    assert_non_null(strstr(fake_asked()->sql, "\"value\" < $1"));
    evpq_pager_close(pager);
}

static void a_page_larger_than_allowed_is_not_followed(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(10);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    expect(1, 'a');
    assert_int_equal(fake_queries(), 1);
    evpq_pager_close(pager);
}

static void a_fetch_ends_at_its_own_deadline(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    fake_advance(700);
    ask(pager);
    fake_advance(999);
    assert_int_equal(seen.calls, 1);
    fake_advance(1);
    assert_int_equal(seen.calls, 2);
    assert_int_equal(seen.code, EVPQ_ETIMEOUT);
    assert_int_equal(fake_asked()->stopped, EVPQ_ETIMEOUT);
    ask(pager); /* it stands where it stood */
    answer(fake_asked(), 'c', 2);
    expect(3, 'c');
    evpq_pager_close(pager);
}

static void closing_inside_sends_nothing_and_leaves_nothing(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    seen.close = pager;
    answer(fake_asked(), 'a', 3);
    expect(1, 'a');
    assert_int_equal(fake_asked()->stopped, EVPQ_ECANCELED);
}

static void closed_before_a_page_that_was_there_is_told(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(100000);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    answer(fake_asked(), 'c', 3);
    ask(pager);
    evpq_pager_close(pager);
    fake_settle();
    assert_int_equal(seen.calls, 2);
    assert_int_equal(seen.code, EVPQ_ECLOSED);
}

static void a_cancelled_fetch_may_be_asked_for_again(void **state)
{
    (void)state;
    evpq_op *op;
    evpq_pager *pager = open_ahead(100000);
    assert_int_equal(evpq_pager_next(&op, pager, on_page, NULL), EVPQ_OK);
    evpq_op_cancel(op);
    evpq_op_cancel(op);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, NULL), EVPQ_EINVALID);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECANCELED);
    ask(pager);
    answer(fake_asked(), 'a', 1);
    expect(2, 'a');
    evpq_pager_close(pager);
}

/* ---- beside the pages ---- */

static void on_count(const evpq_count *count, const evpq_error *err, void *user)
{
    (void)user;
    seen.calls++;
    seen.code = evpq_error_code(err);
    seen.position = evpq_error_position(err);
    if (count)
        seen.count = *count;
}

static void count(evpq_pager *pager, evpq_count_kind kind, uint64_t bound, const char *text)
{
    assert_int_equal(evpq_pager_count(NULL, pager, kind, bound, on_count, NULL), EVPQ_OK);
    fake_answer(fake_asked(), column("count", 1, &text));
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(seen.count.kind, kind);
}

static void counts_say_which_they_are(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(0);
    count(pager, EVPQ_COUNT_EXACT, 0, "12345678901");
    assert_string_equal(fake_asked()->sql,
                        "SELECT pg_catalog.count(*) FROM (\nSELECT value\n) AS evpq_page");
    assert_true(seen.count.rows == UINT64_C(12345678901) && !seen.count.more);
    count(pager, EVPQ_COUNT_BOUNDED, 10, "11");
    assert_string_equal(fake_asked()->sql,
                        "SELECT pg_catalog.count(*) FROM (SELECT FROM (\nSELECT value\n) AS "
                        "evpq_page LIMIT 11) AS evpq_count");
    assert_true(seen.count.rows == 10 && seen.count.more);
    count(pager, EVPQ_COUNT_BOUNDED, 10, "10");
    assert_true(seen.count.rows == 10 && !seen.count.more);
    count(pager, EVPQ_COUNT_ESTIMATE, 0,
          "[{\"Plan\": {\"Alias\": \"\\\"Plan Rows\\\": 7\", \"Plan Rows\": 2550, "
          "\"Plans\": [{\"Plan Rows\": 1}]}}]");
    assert_true(seen.count.rows == 2550 && !seen.count.more);
    count(pager, EVPQ_COUNT_ESTIMATE, 0, "{}");
    assert_true(seen.count.rows == 0);
    evpq_pager_close(pager);
}

static void a_count_that_cannot_be_is_refused(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(0);
    static const struct {
        int kind;
        uint64_t bound;
    } wrong[] = {{0, 0},
                 {4, 0},
                 {EVPQ_COUNT_BOUNDED, 0},
                 {EVPQ_COUNT_EXACT, 1},
                 {EVPQ_COUNT_BOUNDED, UINT64_C(1000000000001)}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(evpq_pager_count(NULL, pager, (evpq_count_kind)wrong[i].kind,
                                          wrong[i].bound, on_count, NULL),
                         EVPQ_EINVALID);
    assert_int_equal(evpq_pager_count(NULL, NULL, EVPQ_COUNT_EXACT, 0, on_count, NULL),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_pager_count(NULL, pager, EVPQ_COUNT_EXACT, 0, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(fake_queries(), 0);
    evpq_pager_close(pager);
}

/* An error in the user's fifth character. */
static void fail_at_fifth(void)
{
    const char *own = strstr(fake_asked()->sql, "SELECT value");
    struct evpq_error error = {0};
    evpq__error_set_report(
        &error, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
        &(struct evpq__server_report){.message = "no",
                                      .position = (uint32_t)(own - fake_asked()->sql) + 5});
    fake_answer_error(fake_asked(), &error);
    evpq__error_clear(&error);
    assert_int_equal(seen.code, EVPQ_ESERVER);
}

static void on_explained(const evpq_explanation *explanation, const evpq_error *err, void *user);

static void an_error_is_placed_in_the_users_statement(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(0);
    for (int kind = EVPQ_COUNT_EXACT; kind <= EVPQ_COUNT_ESTIMATE; kind++) {
        assert_int_equal(evpq_pager_count(NULL, pager, (evpq_count_kind)kind,
                                          kind == EVPQ_COUNT_BOUNDED, on_count, NULL),
                         EVPQ_OK);
        fail_at_fifth();
        assert_int_equal(seen.position, 5);
    }
    assert_int_equal(evpq_pager_explain(NULL, pager, EVPQ_EXPLAIN_JSON, on_explained, NULL),
                     EVPQ_OK);
    fail_at_fifth();
    assert_int_equal(seen.position, 5);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    assert_int_equal(evpq_pager_explain(NULL, pager, 0, on_explained, NULL), EVPQ_OK);
    fail_at_fifth();
    assert_int_equal(seen.position, 0); /* there may be copies */
    evpq_pager_close(pager);
}

static void a_count_is_closed_with_its_pager_and_fails_as_its_query(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(0);
    assert_int_equal(evpq_pager_count(NULL, pager, EVPQ_COUNT_EXACT, 0, on_count, NULL), EVPQ_OK);
    answer_error(fake_asked(), EVPQ_EDISCONNECTED);
    assert_int_equal(seen.code, EVPQ_EDISCONNECTED);
    assert_int_equal(evpq_pager_count(NULL, pager, EVPQ_COUNT_EXACT, 0, on_count, NULL), EVPQ_OK);
    assert_int_equal(evpq_pager_count(NULL, pager, EVPQ_COUNT_ESTIMATE, 0, on_count, NULL),
                     EVPQ_OK);
    evpq_pager_close(pager);
    assert_int_equal(seen.calls, 1);
    fake_settle();
    assert_int_equal(seen.calls, 3);
    assert_int_equal(seen.code, EVPQ_ECLOSED);
}

static void on_explained(const evpq_explanation *explanation, const evpq_error *err, void *user)
{
    (void)user;
    seen.calls++;
    seen.code = evpq_error_code(err);
    seen.position = evpq_error_position(err);
    if (!explanation)
        return;
    snprintf(seen.statement, sizeof(seen.statement), "%s", explanation->statement);
    snprintf(seen.plan, sizeof(seen.plan), "%s", explanation->plan);
}

static void an_explanation_is_of_the_next_page(void **state)
{
    (void)state;
    static const char *const lines[] = {"Limit", "  ->  Index Scan", ""};
    evpq_pager *pager = open_ahead(0);
    ask(pager);
    answer(fake_asked(), 'a', 3);
    assert_int_equal(evpq_pager_explain(NULL, pager, EVPQ_EXPLAIN_ANALYZE | EVPQ_EXPLAIN_JSON,
                                        on_explained, NULL),
                     EVPQ_OK);
    assert_non_null(strstr(fake_asked()->sql, "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM (\n"));
    answer_error(fake_asked(), EVPQ_ESERVER);
    assert_int_equal(seen.code, EVPQ_ESERVER);
    assert_int_equal(evpq_pager_explain(NULL, pager, 4, on_explained, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_pager_explain(NULL, pager, 0, on_explained, NULL), EVPQ_OK);
    assert_int_equal(fake_asked()->params_count, 1);
    fake_answer(fake_asked(), column("QUERY PLAN", 3, lines));
    assert_string_equal(seen.plan, "Limit\n  ->  Index Scan\n");
    assert_string_equal(fake_asked()->sql + strlen("EXPLAIN (FORMAT TEXT) "), seen.statement);
    assert_non_null(strstr(seen.statement, "\"value\" > $1"));
    evpq_pager_close(pager);
}

/* ---- memory ---- */

/* Two pages, the second fetched ahead, a count and an explanation; what fails, again. */
static void walk_ahead(void)
{
    evpq_pager *pager = NULL;
    const evpq_pager_options *options =
        EVPQ_PAGER_OPTIONS(.sql = "SELECT value", .order_by = "value", .page_size = 2,
                           .assume_unique = true, .prefetch_bytes = 100000);
    int code = fake_pager_open(&pager, options);
    if (code == EVPQ_ENOMEM)
        code = fake_pager_open(&pager, options);
    assert_int_equal(code, EVPQ_OK);
    for (char first = 'a'; first < 'e';) {
        seen.calls = 0;
        code = evpq_pager_next(NULL, pager, on_page, NULL);
        if (code == EVPQ_ENOMEM)
            code = evpq_pager_next(NULL, pager, on_page, NULL);
        assert_int_equal(code, EVPQ_OK);
        fake_settle();
        for (int i = 0; i < 2 && seen.calls == 0; i++) /* what fails ahead is asked for again */
            answer(fake_asked(), first, 3);
        assert_int_equal(seen.calls, 1);
        if (seen.code == EVPQ_OK) {
            assert_int_equal(seen.first, first);
            first = (char)(first + 2);
        }
    }
    static const char *const text[] = {"5"};
    for (int i = 0; i < 2; i++) {
        int calls = seen.calls;
        code = i ? evpq_pager_explain(NULL, pager, 0, on_explained, NULL)
                 : evpq_pager_count(NULL, pager, EVPQ_COUNT_EXACT, 0, on_count, NULL);
        if (code != EVPQ_OK) {
            assert_int_equal(code, EVPQ_ENOMEM);
            continue;
        }
        struct evpq_result *result = column("x", 1, text);
        if (result)
            fake_answer(fake_asked(), result);
        else
            answer_error(fake_asked(), EVPQ_ENOMEM);
        assert_int_equal(seen.calls, calls + 1);
    }
    evpq_pager_close(pager);
}

static void any_allocation_may_fail(void **state)
{
    bool failed = true;
    for (int n = 1; failed; n++) {
        end(state);
        begin(state);
        fake_mem_fail_at(n);
        walk_ahead();
        failed = fake_mem_has_failed();
        assert_in_range(n, 1, 200);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

static void a_page_may_be_closed_when_its_answer_has_come(void **state)
{
    (void)state;
    evpq_pager *pager = open_ahead(0);
    ask(pager);
    struct fake_query *query = fake_asked();
    query->result = column("value", 0, NULL);
    evpq__op_finish(&query->op); /* and nobody was told */
    evpq_pager_close(pager);
    fake_settle();
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.code, EVPQ_ECLOSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_next_page_is_asked_for_before_this_one_is_told),
        TEST(a_page_that_is_there_is_told_later_and_asks_for_nothing),
        TEST(a_page_on_its_way_is_waited_for),
        TEST(a_page_that_failed_ahead_is_asked_for_again),
        TEST(another_page_drops_the_one_ahead),
        TEST(a_page_larger_than_allowed_is_not_followed),
        TEST(a_fetch_ends_at_its_own_deadline),
        TEST(closing_inside_sends_nothing_and_leaves_nothing),
        TEST(closed_before_a_page_that_was_there_is_told),
        TEST(a_page_may_be_closed_when_its_answer_has_come),
        TEST(a_cancelled_fetch_may_be_asked_for_again),
        TEST(counts_say_which_they_are),
        TEST(an_error_is_placed_in_the_users_statement),
        TEST(a_count_that_cannot_be_is_refused),
        TEST(a_count_is_closed_with_its_pager_and_fails_as_its_query),
        TEST(an_explanation_is_of_the_next_page),
        TEST(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
