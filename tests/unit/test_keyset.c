/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "page/keyset.h"

static struct evpq__keyset parsed(const char *order_by)
{
    struct evpq__keyset keyset;
    const char *problem = evpq__keyset_parse(&keyset, order_by);
    if (problem)
        fail_msg("%s: %s", order_by, problem);
    return keyset;
}

/* Pages of "SELECT 1" with two parameters and 3 rows. */
static struct evpq__paged paged(void)
{
    return (struct evpq__paged){.sql = "SELECT 1", .sql_length = 8, .params_count = 2, .rows = 3};
}

#define PAGED "SELECT * FROM (\nSELECT 1\n) AS evpq_page"

static void the_first_page_orders_the_wrapped_statement(void **state)
{
    (void)state;
    static const struct {
        const char *order_by, *order;
    } cases[] = {
        {"id", "\"id\""},
        {"id ASC", "\"id\""},
        {"id DESC", "\"id\" DESC"},
        {"id NULLS LAST", "\"id\""},
        {"id NULLS FIRST", "\"id\" NULLS FIRST"},
        {"id DESC NULLS FIRST", "\"id\" DESC"},
        {"id DESC NULLS LAST", "\"id\" DESC NULLS LAST"},
        {" \t\n ts\r\n desc\fnulls\vlast , Id aSC ", "\"ts\" DESC NULLS LAST, \"id\""},
        {"ts desc,id", "\"ts\" DESC, \"id\""},
        {"MixedCase, \"MixedCase\"", "\"mixedcase\", \"MixedCase\""},
        {"\"a \"\"b\"\", c\"desc", "\"a \"\"b\"\", c\" DESC"},
        {"\"\"\"\"", "\"\"\"\""},
        {"_a$1", "\"_a$1\""},
        {"descendant, nullsx, collated, usingit",
         "\"descendant\", \"nullsx\", \"collated\", \"usingit\""},
        {"stra\xc3\x9f\x65 DESC", "\"stra\xc3\x9f\x65\" DESC"},
        {"a,b,c,d,e,f,g,h", "\"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq__keyset keyset = parsed(cases[i].order_by);
        struct evpq__paged page = paged();
        char expected[512];
        snprintf(expected, sizeof(expected), PAGED " ORDER BY %s LIMIT 3", cases[i].order);
        char *sql = evpq__keyset_sql(&page, &keyset, NULL);
        assert_string_equal(sql, expected);
        evpq__free(sql);
    }
}

static void what_is_no_list_of_columns_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const char empty[] = "order_by has an empty item";
    static const char expression[] =
        "order_by takes names of columns: name the expression in the statement";
    static const char number[] = "order_by takes names of columns, not numbers";
    static const char collate[] = "order_by takes no COLLATE: put it into the statement";
    static const char using[] = "order_by takes no USING, but ASC or DESC";
    static const char nulls[] = "order_by has NULLS without FIRST or LAST";
    static const char behind[] =
        "order_by takes ASC, DESC, NULLS FIRST or NULLS LAST behind a name, then a comma";
    static const char twice[] = "order_by has a column twice";
    static const char unended[] = "order_by has a quoted name that does not end";
    static const struct {
        const char *order_by, *problem;
    } cases[] = {
        {"", empty},
        {" \n", empty},
        {",", empty},
        {"a,", empty},
        {"a, ", empty},
        {",a", empty},
        {"a,,b", empty},
        {"1", number},
        {"a, 2", number},
        {"-1", expression},
        {"$1", expression},
        {"(a)", expression},
        {"lower(a)", expression},
        {"a + 1", expression},
        {"a::text", expression},
        {"t.a", expression},
        {"'a'", expression},
        {"a; DROP TABLE t", expression},
        {"a -- b", expression},
        {"a /* b */", expression},
        {"a DESC)", expression},
        {"U&\"a\"", expression},
        {"a COLLATE \"C\"", collate},
        {"a collate x desc", collate},
        {"a USING <", using},
        {"a NULLS", nulls},
        {"a NULLS, b", nulls},
        {"a NULLS LASTLY", nulls},
        {"a DESC NULLS b", nulls},
        {"a b", behind},
        {"a \"b\"", behind},
        {"a ASC DESC", behind},
        {"a DESC 1", behind},
        {"a NULLS FIRST DESC", behind},
        {"a, b, a", twice},
        {"a, A DESC", twice},
        {"a, \"a\"", twice},
        {"\"", unended},
        {"\"a", unended},
        {"\"a\"\"", unended},
        {"\"\"", "order_by has an empty name"},
        {"a,b,c,d,e,f,g,h,i", "order_by has more than 8 columns"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq__keyset keyset;
        const char *problem = evpq__keyset_parse(&keyset, cases[i].order_by);
        if (!problem || strcmp(problem, cases[i].problem) != 0)
            fail_msg("%s: %s", cases[i].order_by, problem ? problem : "accepted");
    }
}

static void a_name_has_at_most_63_bytes(void **state)
{
    (void)state;
    static const char too_long[] = "order_by has a name longer than 63 bytes";
    struct evpq__keyset keyset;
    char name[67];
    memset(name, 'a', sizeof(name));
    name[63] = '\0';
    assert_null(evpq__keyset_parse(&keyset, name));
    assert_string_equal(keyset.keys[0].name, name);
    strcpy(name + 63, "a");
    assert_string_equal(evpq__keyset_parse(&keyset, name), too_long);

    name[0] = '"';
    strcpy(name + 62, "\"\"\""); /* 61 and a quote */
    assert_null(evpq__keyset_parse(&keyset, name));
    assert_int_equal(strlen(keyset.keys[0].name), 62);
    strcpy(name + 62, "aa\""); /* 63 */
    assert_null(evpq__keyset_parse(&keyset, name));
    assert_int_equal(strlen(keyset.keys[0].name), 63);
    strcpy(name + 62, "aaa\"");
    assert_string_equal(evpq__keyset_parse(&keyset, name), too_long);
}

/* A WHERE for each branch; `nulls` has one letter a column: v a value, n NULL. */
static void check_behind(const char *order_by, const char *order, const char *nulls,
                         const char *const *branches)
{
    struct evpq__keyset keyset = parsed(order_by);
    struct evpq__paged page = paged();
    bool null[EVPQ__KEYS_MAX];
    for (size_t i = 0; i < keyset.count; i++)
        null[i] = nulls[i] == 'n';

    char expected[4096] = "";
    size_t length = 0;
#define ADD(...)                                                                                   \
    length += (size_t)snprintf(expected + length, sizeof(expected) - length, __VA_ARGS__)
    if (branches[1])
        ADD("SELECT * FROM (\n");
    for (size_t i = 0; branches[i]; i++) {
        const char *before = i ? "\nUNION ALL\n(" : branches[1] ? "(" : "";
        ADD("%s" PAGED " WHERE %s ORDER BY %s LIMIT 3%s", before, branches[i], order,
            branches[1] ? ")" : "");
    }
    if (branches[1])
        ADD("\n) AS evpq_page ORDER BY %s LIMIT 3", order);
#undef ADD

    char *sql = evpq__keyset_sql(&page, &keyset, null);
    assert_string_equal(sql, expected);
    evpq__free(sql);
}

#define BRANCHES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void one_column_behind_a_value(void **state)
{
    (void)state;
    check_behind("a", "\"a\"", "v", BRANCHES("\"a\" > $3", "\"a\" IS NULL"));
    check_behind("a DESC", "\"a\" DESC", "v", BRANCHES("\"a\" < $3"));
    check_behind("a NULLS FIRST", "\"a\" NULLS FIRST", "v", BRANCHES("\"a\" > $3"));
    check_behind("a DESC NULLS LAST", "\"a\" DESC NULLS LAST", "v",
                 BRANCHES("\"a\" < $3", "\"a\" IS NULL"));
}

static void one_column_behind_null(void **state)
{
    (void)state;
    check_behind("a", "\"a\"", "n", BRANCHES("false"));
    check_behind("a DESC NULLS LAST", "\"a\" DESC NULLS LAST", "n", BRANCHES("false"));
    check_behind("a DESC", "\"a\" DESC", "n", BRANCHES("\"a\" IS NOT NULL"));
    check_behind("a NULLS FIRST", "\"a\" NULLS FIRST", "n", BRANCHES("\"a\" IS NOT NULL"));
}

static void neighbours_of_one_direction_are_one_row_comparison(void **state)
{
    (void)state;
    check_behind("a DESC, b DESC, c DESC", "\"a\" DESC, \"b\" DESC, \"c\" DESC", "vvv",
                 BRANCHES("(\"a\", \"b\", \"c\") < ($3, $4, $5)"));
    check_behind(
        "a, b", "\"a\", \"b\"", "vv",
        BRANCHES("(\"a\", \"b\") > ($3, $4)", "\"a\" IS NULL", "\"a\" = $3 AND \"b\" IS NULL"));
    check_behind("a DESC, b DESC NULLS LAST", "\"a\" DESC, \"b\" DESC NULLS LAST", "vv",
                 BRANCHES("(\"a\", \"b\") < ($3, $4)", "\"a\" = $3 AND \"b\" IS NULL"));
}

static void each_change_of_direction_is_a_branch(void **state)
{
    (void)state;
    check_behind(
        "a DESC, b", "\"a\" DESC, \"b\"", "vv",
        BRANCHES("\"a\" < $3", "\"a\" = $3 AND \"b\" > $4", "\"a\" = $3 AND \"b\" IS NULL"));
    check_behind("a DESC, b NULLS FIRST, c NULLS FIRST, d DESC",
                 "\"a\" DESC, \"b\" NULLS FIRST, \"c\" NULLS FIRST, \"d\" DESC", "vvvv",
                 BRANCHES("\"a\" < $3", "\"a\" = $3 AND (\"b\", \"c\") > ($4, $5)",
                          "\"a\" = $3 AND \"b\" = $4 AND \"c\" = $5 AND \"d\" < $6"));
}

static void a_null_of_the_boundary_has_no_parameter(void **state)
{
    (void)state;
    check_behind("a DESC, b DESC", "\"a\" DESC, \"b\" DESC", "nv",
                 BRANCHES("\"a\" IS NOT NULL", "\"a\" IS NULL AND \"b\" < $3"));
    check_behind("a, b", "\"a\", \"b\"", "nv",
                 BRANCHES("\"a\" IS NULL AND \"b\" > $3", "\"a\" IS NULL AND \"b\" IS NULL"));
    check_behind("a DESC, b DESC, c DESC", "\"a\" DESC, \"b\" DESC, \"c\" DESC", "vnv",
                 BRANCHES("\"a\" < $3", "\"a\" = $3 AND \"b\" IS NOT NULL",
                          "\"a\" = $3 AND \"b\" IS NULL AND \"c\" < $4"));
    check_behind("a, b DESC NULLS LAST", "\"a\", \"b\" DESC NULLS LAST", "nn", BRANCHES("false"));
}

static void an_offset_page_has_the_offset_as_parameter(void **state)
{
    (void)state;
    struct evpq__paged page = paged();
    char *sql = evpq__offset_sql(&page);
    assert_string_equal(sql, PAGED " LIMIT 3 OFFSET $3");
    evpq__free(sql);
}

static void semicolons_and_space_at_the_end_are_not_part_of_the_statement(void **state)
{
    (void)state;
    assert_int_equal(evpq__statement_length("SELECT 1"), 8);
    assert_int_equal(evpq__statement_length("SELECT 1; \n;\t"), 8);
    assert_int_equal(evpq__statement_length("SELECT 1 -- why"), 15);
    assert_int_equal(evpq__statement_length(" ;\n"), 0);
    assert_int_equal(evpq__statement_length(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_page_orders_the_wrapped_statement),
        cmocka_unit_test(what_is_no_list_of_columns_is_refused_with_a_reason),
        cmocka_unit_test(a_name_has_at_most_63_bytes),
        cmocka_unit_test(one_column_behind_a_value),
        cmocka_unit_test(one_column_behind_null),
        cmocka_unit_test(neighbours_of_one_direction_are_one_row_comparison),
        cmocka_unit_test(each_change_of_direction_is_a_branch),
        cmocka_unit_test(a_null_of_the_boundary_has_no_parameter),
        cmocka_unit_test(an_offset_page_has_the_offset_as_parameter),
        cmocka_unit_test(semicolons_and_space_at_the_end_are_not_part_of_the_statement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
