/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg/statement.h"
#include "support/bytes.h"

static void check_problem(const evpq_query *query, const char *expected)
{
    const char *problem = evpq_query_problem(query);
    if (problem && expected)
        assert_string_equal(problem, expected);
    else
        assert_ptr_equal(problem, expected);
}

static void a_good_query_has_no_problem(void **state)
{
    (void)state;
    check_problem(EVPQ_QUERY("SELECT 1"), NULL);
    check_problem(EVPQ_QUERY("SELECT 1 ignored", .sql_length = 8), NULL);
    check_problem(EVPQ_QUERY("SELECT $1", EVPQ_PARAMS(evpq_int8(1)), .format = EVPQ_TEXT,
                             .timeout_ms = EVPQ_NEVER),
                  NULL);
}

static void what_is_wrong_with_a_query_is_said(void **state)
{
    (void)state;
    check_problem(NULL, "the query is NULL");
    check_problem(EVPQ_QUERY(NULL), "sql is NULL or empty");
    check_problem(EVPQ_QUERY(NULL, .sql_length = 8), "sql is NULL or empty");
    check_problem(EVPQ_QUERY(""), "sql is NULL or empty");
    check_problem(EVPQ_QUERY("a\0b", .sql_length = 3), "sql with a NUL inside");
    check_problem(EVPQ_QUERY("", .sql_length = SIZE_MAX), "sql of more than 1 GiB");
    check_problem(EVPQ_QUERY("", .sql_length = 0x40000000), "sql of more than 1 GiB");
    check_problem(EVPQ_QUERY("SELECT 1", .format = (evpq_format)3),
                  "format is none of evpq_format");
    check_problem(EVPQ_QUERY("SELECT 1", .format = (evpq_format)-1),
                  "format is none of evpq_format");
    check_problem(EVPQ_QUERY("SELECT 1", .params_count = 1),
                  "params is NULL, params_count is not 0");
    check_problem(EVPQ_QUERY("SELECT 1", .params_count = 65536), "more than 65,535 parameters");
    check_problem(EVPQ_QUERY("SELECT $1", EVPQ_PARAMS(evpq_text_n("a\0", 2))),
                  "text with a NUL inside");
}

static void a_size_that_was_never_set_is_refused(void **state)
{
    (void)state;
    static const char expected[] = "the field `size` is not the size of the struct";
    const size_t sizes[] = {0, 1, sizeof(size_t) - 1, sizeof(evpq_query) + 1, 4104, SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++)
        check_problem(&(evpq_query){.size = sizes[i], .sql = "SELECT 1"}, expected);
}

static void a_newer_query_passes_when_it_sets_nothing_new(void **state)
{
    (void)state;
    struct {
        evpq_query query;
        unsigned char more[16];
    } newer = {.query = {.size = sizeof(newer), .sql = "SELECT 1"}};
    check_problem(&newer.query, NULL);
    for (size_t i = 0; i < sizeof(newer.more); i++) {
        newer.more[i] = 1;
        check_problem(&newer.query, "a field is set that this version of evpq does not know");
        newer.more[i] = 0;
    }
}

static void an_older_query_lacks_fields_which_are_zero(void **state)
{
    (void)state;
    /* What is behind its end belongs to somebody else. */
    const size_t older = offsetof(evpq_query, params);
    evpq_query query = {.size = older, .sql = "SELECT 1", .format = EVPQ_TEXT, .params_count = 9};
    evpq_query *exactly = exact(&query, older);
    evpq_query complete;
    assert_null(evpq__query_read(&complete, exactly));
    assert_int_equal(complete.params_count, 0);
    assert_true(evpq__query_binary(&complete));
    assert_string_equal(complete.sql, "SELECT 1");
    free(exactly);

    exactly = exact(&(size_t){sizeof(size_t)}, sizeof(size_t));
    check_problem(exactly, "sql is NULL or empty");
    free(exactly);
}

static void options_that_are_refused_or_missing_read_as_zero(void **state)
{
    (void)state;
    evpq_query query = {.size = 3, .sql = "SELECT 1"}, into;
    static const evpq_query zero;
    memset(&into, 0xa5, sizeof(into));
    assert_non_null(evpq__options_read(&into, sizeof(into), &query));
    assert_memory_equal(&into, &zero, sizeof(into));
    memset(&into, 0xa5, sizeof(into));
    assert_null(evpq__options_read(&into, sizeof(into), NULL));
    assert_memory_equal(&into, &zero, sizeof(into));
}

static void a_result_is_binary_unless_text_is_asked_for(void **state)
{
    (void)state;
    const struct {
        evpq_format format;
        bool binary;
    } cases[] = {{EVPQ_FORMAT_DEFAULT, true}, {EVPQ_BINARY, true}, {EVPQ_TEXT, false}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        const evpq_query *query = EVPQ_QUERY("SELECT 1", .format = cases[i].format);
        assert_int_equal(evpq__query_binary(query), cases[i].binary);
    }
}

static void what_begins_a_transaction_is_known(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        bool begins;
    } cases[] = {{"BEGIN", true},
                 {" begin isolation level serializable", true},
                 {"START TRANSACTION", true},
                 {"\n\tBegin;", true},
                 {"BEGINNING", false},
                 {"", false},
                 {"SELECT 'BEGIN'", false},
                 {"COMMIT", false},
                 {"-- first\n/* a /* nested */ one */;; BEGIN", true},
                 {"--BEGIN", false},
                 {"/* BEGIN", false},
                 {"BEGIN/**/", true},
                 {"begin_", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(evpq__statement_kind_of(cases[i].sql) == EVPQ__BEGINS, cases[i].begins);
}

static void what_needs_a_connection_of_its_own_is_known(void **state)
{
    (void)state;
    static const char *const own[] = {
        "begin",       "COMMIT;",       " rollback to a",          "COPY t FROM x",
        "SAVEPOINT a", "/**/release a", "PREPARE TRANSACTION 'a'", "end",
        "abort"};
    static const char *const not_own[] = {
        "SELECT 1", "copying", "(SELECT 1)", "WITH a AS (SELECT 1) SELECT",
        "ENDING",   "SE",      "s",          ""};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        assert_true(evpq__statement_kind_of(own[i]) != EVPQ__ORDINARY);
    for (size_t i = 0; i < sizeof(not_own) / sizeof(not_own[0]); i++)
        assert_int_equal(evpq__statement_kind_of(not_own[i]), EVPQ__ORDINARY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_query_has_no_problem),
        cmocka_unit_test(what_is_wrong_with_a_query_is_said),
        cmocka_unit_test(a_size_that_was_never_set_is_refused),
        cmocka_unit_test(a_newer_query_passes_when_it_sets_nothing_new),
        cmocka_unit_test(an_older_query_lacks_fields_which_are_zero),
        cmocka_unit_test(options_that_are_refused_or_missing_read_as_zero),
        cmocka_unit_test(a_result_is_binary_unless_text_is_asked_for),
        cmocka_unit_test(what_begins_a_transaction_is_known),
        cmocka_unit_test(what_needs_a_connection_of_its_own_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
