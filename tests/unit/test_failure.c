/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "page/failure.h"
#include "page/verdict.h"

static const char only[] =
    "it takes one SELECT (or TABLE, VALUES, WITH), and runs it as a subquery";

static const char parentheses[] = "a parenthesis of the statement is not closed, or was not opened";

static void a_position_counts_in_the_statement_of_the_user(void **state)
{
    (void)state;
    static const struct {
        size_t head;
        uint32_t position, own;
    } cases[] = {
        {15, 0, 0},  {15, 15, 0}, {15, 16, 1},           {15, 26, 11},
        {15, 27, 0}, {0, 3, 3},   {EVPQ__NO_HEAD, 3, 0},
    };
    const char *sql = "SELECT '\u00e4\u20ac'  -- behind it";
    struct evpq__paged paged = {.sql = sql, .sql_length = strlen("SELECT '\u00e4\u20ac'")};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq_error from = {0}, to = {0};
        evpq__error_set_report(&from, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
                               &(struct evpq__server_report){.message = "why",
                                                             .sqlstate = "22012",
                                                             .severity = "ERROR",
                                                             .detail = "d",
                                                             .hint = "h",
                                                             .constraint = "c",
                                                             .position = cases[i].position});
        evpq__failure_take(&to, &from, &paged, cases[i].head);
        assert_int_equal(evpq_error_position(&to), cases[i].own);
        assert_int_equal(to.code, EVPQ_ESERVER);
        assert_int_equal(to.fate, EVPQ_ROLLED_BACK);
        assert_string_equal(evpq_error_message(&to), "why");
        assert_string_equal(evpq_error_sqlstate(&to), "22012");
        assert_string_equal(evpq_error_severity(&to), "ERROR");
        assert_string_equal(evpq_error_detail(&to), "d");
        assert_string_equal(evpq_error_hint(&to), "h");
        assert_string_equal(evpq_error_constraint(&to), "c");
        evpq__error_clear(&from);
        evpq__error_clear(&to);
    }
}

static void a_column_that_is_not_there_is_hinted_at_by_where_it_is_missed(void **state)
{
    (void)state;
    static const struct {
        size_t head;
        uint32_t position;
        const char *of_server, *hint;
    } cases[] = {
        {15, 16, "Perhaps you meant \"x\".", "Perhaps you meant \"x\"."},
        {15, 8, "Perhaps you meant \"evpq_page.x\".", "add it to the SELECT"},
        {15, 99, "", "add it to the SELECT"},
        {EVPQ__NO_HEAD, 99, "", ""},
        {EVPQ__NO_HEAD, 99, "Perhaps you meant \"evpq_page.x\".", ""},
    };
    struct evpq__paged paged = {.sql = "SELECT y", .sql_length = 8};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq_error from = {0}, to = {0};
        evpq__error_set_report(&from, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
                               &(struct evpq__server_report){.message = "why",
                                                             .sqlstate = "42703",
                                                             .hint = cases[i].of_server,
                                                             .position = cases[i].position});
        evpq__failure_take(&to, &from, &paged, cases[i].head);
        if (cases[i].hint[0])
            assert_non_null(strstr(evpq_error_hint(&to), cases[i].hint));
        else
            assert_string_equal(evpq_error_hint(&to), "");
        evpq__error_clear(&from);
        evpq__error_clear(&to);
    }
}

static void a_change_is_told_with_all_that_the_server_says(void **state)
{
    (void)state;
    struct evpq_error err = {0};
    evpq__error_set_report(&err, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
                           &(struct evpq__server_report){.message = "operator does not exist",
                                                         .sqlstate = "42883",
                                                         .severity = "ERROR",
                                                         .detail = "d",
                                                         .hint = "h",
                                                         .constraint = "c",
                                                         .position = 7});
    assert_true(evpq__failure_is_change(&err));
    evpq__failure_tell_change(&err);
    assert_string_equal(evpq_error_message(&err),
                        "what is paged over has been altered: operator does not exist");
    assert_string_equal(evpq_error_hint(&err), "begin anew, without a token of this walk");
    assert_string_equal(evpq_error_sqlstate(&err), "42883");
    assert_string_equal(evpq_error_detail(&err), "d");
    assert_int_equal(evpq_error_position(&err), 7);
    assert_int_equal(err.code, EVPQ_ESERVER);
    evpq__error_clear(&err);
    evpq__error_set(&err, EVPQ_ETIMEOUT, EVPQ_NOT_SENT, "why");
    assert_false(evpq__failure_is_change(&err));
    evpq__error_clear(&err);
}

static void a_deadline_has_the_name_that_it_was_given(void **state)
{
    (void)state;
    static const struct {
        evpq_code code;
        const char *text, *whose, *named;
    } cases[] = {
        {EVPQ_ETIMEOUT, "the deadline of 308 ms passed while it ran", "",
         "the deadline of 400 ms passed while it ran"},
        {EVPQ_ETIMEOUT, "the deadline of 308 ms passed while it ran", "walk's ",
         "the walk's deadline of 400 ms passed while it ran"},
        {EVPQ_ETIMEOUT, "no connection within 154 ms", "", "no connection within 154 ms"},
        {EVPQ_ESERVER, "the deadline of 3 ms passed", "", "the deadline of 3 ms passed"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq_error err = {0};
        evpq__error_set(&err, cases[i].code, EVPQ_UNKNOWN, "%s", cases[i].text);
        evpq__failure_name_deadline(&err, cases[i].whose, 400);
        assert_string_equal(evpq_error_message(&err), cases[i].named);
        assert_int_equal(err.code, cases[i].code);
        assert_int_equal(err.fate, EVPQ_UNKNOWN);
        evpq__error_clear(&err);
    }
}

static void what_cannot_be_paged_gets_a_hint(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *sqlstate;
        uint32_t position;
        const char *hint;
    } cases[] = {
        {"INSERT INTO t VALUES (1)", "42601", 8, only},
        {"INSERT INTO t VALUES (1)", "42P01", 8, ""},
        {"select 1 x y", "42601", 12, ""},
        {"Select", "42601", 0, ""},
        {"selects", "42601", 0, only},
        {"sel", "42601", 0, only},
        {"VALUES(1", "42601", 0, parentheses},
        {" ( \n( TABLE t", "42601", 0, parentheses},
        {"with w as (", "42601", 0, parentheses},
        {"-- a\n/* /* b */ select */ SELECT (", "42601", 0, parentheses},
        {"-- SELECT\nDELETE FROM t", "42601", 0, only},
        {"/* SELECT", "42601", 0, only},
        {"/* SELECT *", "42601", 0, only},
        {"-- SELECT", "42601", 0, only},
        {"(", "42601", 0, only},
        {"SELECT 1; SELECT 2", "42601", 9, only},
        {"SELECT '\u00e4'; SELECT 2", "42601", 11, only},
        {"SELECT ';' x y", "42601", 14, ""},
        {"SELECT ')' /* ( */", "42601", 0, ""},
        {"SELECT 1)", "42601", 9, parentheses},
        {"SELECT 1) x (", "42601", 9, parentheses},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq_error from = {0}, to = {0};
        struct evpq__paged paged = {.sql = cases[i].sql, .sql_length = strlen(cases[i].sql)};
        evpq__error_set_report(&from, EVPQ_ESERVER, EVPQ_ROLLED_BACK,
                               &(struct evpq__server_report){
                                   .sqlstate = cases[i].sqlstate,
                                   .position = cases[i].position ? cases[i].position + 5 : 0});
        evpq__failure_take(&to, &from, &paged, 5);
        if (strcmp(evpq_error_hint(&to), cases[i].hint) != 0)
            fail_msg("%s: \"%s\"", cases[i].sql, evpq_error_hint(&to));
        evpq__error_clear(&from);
        evpq__error_clear(&to);
    }
}

static void a_refusal_says_why_and_what_to_do(void **state)
{
    (void)state;
    static const struct {
        const char *why, *of, *message;
    } cases[] = {
        {"node", "Hash Join", "the order may not be total: the statement joins"},
        {"node", "Custom Scan", "the order may not be total: its plan has a node \"Custom Scan\""},
        {"node", NULL, "the order may not be total: its plan has a node \"?\""},
        {"several", NULL, "the order may not be total: its rows come from several tables"},
        {"column", NULL, "the order may not be total: no order column is a column of a table"},
        {"key", "t \"x\"",
         "the order may not be total: no unique, not-null key of table \"t \"x\"\" is among the "
         "order columns"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq_error err = {0};
        evpq__verdict_set_partial(&err, cases[i].why, cases[i].of);
        assert_int_equal(err.code, EVPQ_EINVALID);
        assert_int_equal(err.fate, EVPQ_ROLLED_BACK);
        assert_string_equal(evpq_error_message(&err), cases[i].message);
        assert_non_null(strstr(evpq_error_hint(&err), "assume_unique"));
        evpq__error_clear(&err);
    }
}

static void the_longest_order_fits_into_the_hint(void **state)
{
    (void)state;
    static struct evpq__keyset keyset;
    static char order_by[4000];
    order_by[0] = '\0';
    for (int i = 0; i < EVPQ__KEYS_MAX; i++) {
        char item[400];
        memset(item, 'a' + i, 340);
        memcpy(item, i ? ", f(" : "f(", i ? 4 : 2);
        strcpy(item + 340, ") DESC NULLS LAST");
        strcat(order_by, item);
    }
    assert_null(evpq__keyset_parse(&keyset, order_by));
    struct evpq_error err = {0};
    evpq__verdict_set_sorts(&err, &keyset, true);
    const char *hint = evpq_error_hint(&err);
    assert_string_equal(evpq_error_message(&err), "no index serves this order");
    assert_non_null(strstr(hint, "hh)) DESC NULLS LAST)"));
    evpq__error_clear(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_counts_in_the_statement_of_the_user),
        cmocka_unit_test(a_column_that_is_not_there_is_hinted_at_by_where_it_is_missed),
        cmocka_unit_test(a_change_is_told_with_all_that_the_server_says),
        cmocka_unit_test(a_deadline_has_the_name_that_it_was_given),
        cmocka_unit_test(what_cannot_be_paged_gets_a_hint),
        cmocka_unit_test(a_refusal_says_why_and_what_to_do),
        cmocka_unit_test(the_longest_order_fits_into_the_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
