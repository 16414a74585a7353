/* SPDX-License-Identifier: MIT */
/* Where a walk stands: offsets that add up, page ends between NULL and nothing, places of errors.
 * The pool is played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/pager.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "page/token.h"
#include "pg/result.h"
#include "pg/value.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pool.h"

/* Rows of one column of text, "value"; NULL is SQL NULL. */
static void answer(int rows, const char *const *values)
{
    char name[] = "value";
    PGresAttDesc column = {.name = name, .typid = EVPQ__OID_TEXT, .typlen = -1};
    PGresult *pg = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    assert_int_equal(PQsetResultAttrs(pg, 1, &column), 1);
    for (int row = 0; row < rows; row++) {
        const char *value = values[row];
        char text[16];
        snprintf(text, sizeof(text), "%s", value ? value : "");
        assert_int_equal(PQsetvalue(pg, row, 0, text, value ? (int)strlen(text) : -1), 1);
    }
    struct evpq_result *result = evpq__result_new(pg, NULL);
    assert_non_null(result);
    fake_answer(fake_asked(), result);
}

static void answer_rows(int rows)
{
    static const char *const values[] = {"a", "b", "c", "d"};
    answer(rows, values);
}

static void answer_error_at(uint32_t position)
{
    struct evpq_error error = {0};
    evpq__error_set_report(&error, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
                           &(struct evpq__server_report){.message = "no such luck",
                                                         .sqlstate = "22012",
                                                         .severity = "ERROR",
                                                         .detail = "detail",
                                                         .hint = "hint",
                                                         .constraint = "constraint",
                                                         .position = position});
    fake_answer_error(fake_asked(), &error);
    evpq__error_clear(&error);
}

/* ---- what a page said ---- */

static struct seen {
    int calls;
    evpq_code code;
    uint32_t rows, position;
    bool has_next;
    char token[256], message[200], texts[100];
} seen;

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    assert_ptr_equal(user, &seen);
    seen.calls++;
    seen.code = evpq_error_code(err);
    seen.position = evpq_error_position(err);
    snprintf(seen.message, sizeof(seen.message), "%s", evpq_error_message(err));
    snprintf(seen.texts, sizeof(seen.texts), "%s %s %s %s %s", evpq_error_sqlstate(err),
             evpq_error_severity(err), evpq_error_detail(err), evpq_error_hint(err),
             evpq_error_constraint(err));
    if (!page)
        return;
    seen.rows = evpq_page_rows(page);
    seen.has_next = evpq_page_has_next(page);
    snprintf(seen.token, sizeof(seen.token), "%s", evpq_page_token(page));
}

static evpq_pager *open_pager(const char *sql, const char *order_by, const char *after)
{
    evpq_pager *pager = NULL;
    assert_int_equal(fake_pager_open(&pager, EVPQ_PAGER_OPTIONS(.sql = sql, .order_by = order_by,
                                                                .page_size = 2, .after = after,
                                                                .assume_unique = order_by != NULL)),
                     EVPQ_OK);
    return pager;
}

static void next(evpq_pager *pager)
{
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, &seen), EVPQ_OK);
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

/* ---- offsets ---- */

/* Written out: a parameter of ours would stand in for one that the user forgot to give. */
static void assert_offset(int64_t expected)
{
    char end[64];
    int length = snprintf(end, sizeof(end), " LIMIT 3 OFFSET %lld", (long long)expected);
    size_t at = strlen(fake_asked()->sql) - (size_t)length;
    assert_string_equal(fake_asked()->sql + at, end);
    assert_int_equal(fake_asked()->params_count, 0);
}

static void offsets_add_up_over_pages(void **state)
{
    (void)state;
    evpq_pager *pager = open_pager("SELECT value", NULL, NULL);
    for (int page = 0; page < 4; page++) {
        next(pager);
        assert_offset(2 * page);
        answer_rows(3);
        assert_int_equal(seen.code, EVPQ_OK);
        assert_int_equal(seen.rows, 2);
        assert_true(seen.has_next);
    }
    /* A failed page moves nothing, nor does an empty one. */
    next(pager);
    assert_offset(8);
    answer_error_at(0);
    assert_int_equal(seen.code, EVPQ_ESERVER);
    next(pager);
    assert_offset(8);
    answer_rows(1);
    assert_int_equal(seen.rows, 1);
    assert_false(seen.has_next);
    next(pager);
    assert_offset(9);
    answer_rows(0);
    assert_int_equal(seen.rows, 0);
    next(pager);
    assert_offset(9);
    answer_rows(0);
    evpq_pager_close(pager);
}

static void an_offset_goes_on_behind_its_token(void **state)
{
    (void)state;
    evpq_pager *pager = open_pager("SELECT value", NULL, NULL);
    next(pager);
    answer_rows(3);
    next(pager);
    answer_rows(3);
    evpq_pager_close(pager);
    pager = open_pager("SELECT value", NULL, seen.token);
    next(pager);
    assert_offset(4);
    answer_rows(3);
    next(pager);
    assert_offset(6);
    answer_rows(0);
    evpq_pager_close(pager);
}

static int token_of_offset(int64_t offset)
{
    struct evpq__walk walk = {.columns = 0};
    struct evpq__token token;
    char *text = NULL;
    assert_int_equal(
        evpq__token_encode(&text, &walk, &(struct evpq__position){.offset = offset}, 0), EVPQ_OK);
    int code = evpq__token_decode(&token, &walk, text, false, 0);
    if (code == EVPQ_OK)
        assert_true(token.position.offset == offset);
    evpq__free(text);
    return code;
}

static void an_offset_has_room_for_another(void **state)
{
    (void)state;
    assert_int_equal(token_of_offset(0), EVPQ_OK);
    assert_int_equal(token_of_offset(INT64_MAX / 2), EVPQ_OK);
    assert_int_equal(token_of_offset(INT64_MAX / 2 + 1), EVPQ_EINVALID);
    assert_int_equal(token_of_offset(INT64_MAX), EVPQ_EINVALID);
    assert_int_equal(token_of_offset(-1), EVPQ_EINVALID);
    assert_int_equal(token_of_offset(INT64_MIN), EVPQ_EINVALID);
}

/* ---- the end of a page ---- */

/* Three rows, the last of which is only looked at. */
static evpq_code end_between(const char *shown, const char *hidden)
{
    evpq_pager *pager = open_pager("SELECT value", "value", NULL);
    const char *values[] = {"first", shown, hidden};
    next(pager);
    answer(3, values);
    evpq_pager_close(pager);
    return seen.code;
}

static void a_page_may_end_between_null_and_an_empty_text(void **state)
{
    (void)state;
    assert_int_equal(end_between(NULL, ""), EVPQ_OK);
    assert_true(seen.has_next);
    assert_int_equal(end_between("", NULL), EVPQ_OK);
    assert_int_equal(end_between("a", "b"), EVPQ_OK);
    assert_int_equal(end_between("a", "aa"), EVPQ_OK);
    assert_int_equal(end_between("aa", "a"), EVPQ_OK);
}

static void a_page_may_not_end_between_equal_rows(void **state)
{
    (void)state;
    assert_int_equal(end_between(NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(end_between("", ""), EVPQ_EINVALID);
    assert_int_equal(end_between("a", "a"), EVPQ_EINVALID);
    assert_non_null(strstr(seen.message, "rows 2 and 3 are equal in all order columns"));
}

static void a_null_at_the_end_is_no_empty_text_to_the_next_page(void **state)
{
    (void)state;
    static const char *const nulls[] = {"a", NULL, ""}, *const empty[] = {"a", "", NULL};
    evpq_pager *pager = open_pager("SELECT value", "value", NULL);
    next(pager);
    answer(3, empty);
    next(pager);
    assert_int_equal(fake_asked()->last.type, EVPQ__OID_TEXT);
    assert_non_null(strstr(fake_asked()->sql, "\"value\" > $1"));
    answer(3, nulls);
    next(pager);
    assert_null(
        strstr(fake_asked()->sql, "$1")); /* behind a NULL there is nothing to compare with */
    answer(0, nulls);
    evpq_pager_close(pager);
}

/* ---- errors ---- */

/* What the user hears of an error there, in characters of the whole; 0 is the head's last one. */
static uint32_t heard_at(evpq_pager *pager, int behind_head)
{
    next(pager);
    const char *own = strstr(fake_asked()->sql, "SELECT value");
    assert_non_null(own);
    answer_error_at((uint32_t)((int)(own - fake_asked()->sql) + behind_head));
    assert_int_equal(seen.code, EVPQ_ESERVER);
    return seen.position;
}

static void an_error_is_placed_in_the_users_statement(void **state)
{
    (void)state;
    static const char *const orders[] = {NULL, "value"};
    for (int i = 0; i < 2; i++) {
        evpq_pager *pager = open_pager("SELECT value, '\303\244\342\202\254' ; ", orders[i], NULL);
        assert_int_equal(heard_at(pager, -20), 0);
        assert_int_equal(heard_at(pager, 0), 0);
        assert_int_equal(heard_at(pager, 1), 1);
        assert_int_equal(heard_at(pager, 8), 8);
        assert_int_equal(heard_at(pager, 18), 18); /* of 18 characters, in 21 bytes */
        assert_int_equal(heard_at(pager, 19), 0);
        assert_int_equal(heard_at(pager, 21), 0);
        next(pager);
        answer_error_at(0);
        assert_int_equal(seen.position, 0);
        evpq_pager_close(pager);
    }
}

static void behind_a_boundary_an_error_has_no_place(void **state)
{
    (void)state;
    evpq_pager *pager = open_pager("SELECT value", "value", NULL);
    next(pager);
    answer_rows(3);
    for (uint32_t position = 0; position < 60; position += 3) {
        next(pager);
        answer_error_at(position);
        assert_int_equal(seen.code, EVPQ_ESERVER);
        assert_int_equal(seen.position, 0);
    }
    evpq_pager_close(pager);
    pager = open_pager("SELECT value", NULL, NULL);
    next(pager);
    answer_rows(3);
    assert_int_equal(heard_at(pager, 8), 8); /* by offset there is one copy */
    evpq_pager_close(pager);
}

static void all_of_an_error_reaches_the_user(void **state)
{
    (void)state;
    evpq_pager *pager = open_pager("SELECT value", NULL, NULL);
    next(pager);
    answer_error_at(0);
    assert_string_equal(seen.message, "no such luck");
    assert_string_equal(seen.texts, "22012 ERROR detail hint constraint");
    evpq_pager_close(pager);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(offsets_add_up_over_pages),
        TEST(an_offset_goes_on_behind_its_token),
        TEST(an_offset_has_room_for_another),
        TEST(a_page_may_end_between_null_and_an_empty_text),
        TEST(a_page_may_not_end_between_equal_rows),
        TEST(a_null_at_the_end_is_no_empty_text_to_the_next_page),
        TEST(an_error_is_placed_in_the_users_statement),
        TEST(behind_a_boundary_an_error_has_no_place),
        TEST(all_of_an_error_reaches_the_user),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
