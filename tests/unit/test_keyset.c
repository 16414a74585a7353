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
    return (struct evpq__paged){
        .sql = "SELECT 1", .sql_length = 8, .columns = "", .params_count = 2, .rows = 3};
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
        char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){0});
        assert_string_equal(sql, expected);
        evpq__free(sql);
    }
}

static void an_expression_is_passed_on_in_parentheses_of_its_own(void **state)
{
    (void)state;
    static const struct {
        const char *order_by, *order;
    } cases[] = {
        {"lower(name)", "(lower(name))"},
        {"lower( name )DESC", "(lower( name )) DESC"},
        {"(a)", "((a))"},
        {"a + 1, b", "(a + 1), \"b\""},
        {"a::text COLLATE \"C\" DESC NULLS LAST", "(a::text) COLLATE \"C\" DESC NULLS LAST"},
        {"doc->>'it''s' nulls first", "(doc->>'it''s') NULLS FIRST"},
        {"\"t\".a", "(\"t\".a)"},
        {"coalesce(a, b, 'x,y'), -c", "(coalesce(a, b, 'x,y')), (-c)"},
        {"(CASE WHEN a IS NULL THEN 1 ELSE 0 END)", "((CASE WHEN a IS NULL THEN 1 ELSE 0 END))"},
        {"a[1]  /\n 2.5", "(a[1] / 2.5)"},
        {"(a asc, b)", "((a asc, b))"}, /* the server's matter */
        {"extract(epoch from ts) desc", "(extract(epoch from ts)) DESC"},
        {"$1 * a", "($1 * a)"},
        {"a COLLATE \"C\"", "\"a\" COLLATE \"C\""},
        {"a collate pg_catalog.\"en-x-icu\" desc",
         "\"a\" COLLATE \"pg_catalog\".\"en-x-icu\" DESC"},
        {"selected(a)", "(selected(a))"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq__keyset keyset = parsed(cases[i].order_by);
        struct evpq__paged page = paged();
        char expected[512];
        snprintf(expected, sizeof(expected), PAGED " ORDER BY %s LIMIT 3", cases[i].order);
        char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){0});
        assert_string_equal(sql, expected);
        evpq__free(sql);
    }
}

static void what_is_no_order_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *order_by, *problem;
    } cases[] = {
        {"", "an empty item"},
        {" \n", "an empty item"},
        {",", "an empty item"},
        {"a,", "an empty item"},
        {"a, ", "an empty item"},
        {",a", "an empty item"},
        {"a,,b", "an empty item"},
        {"1", "not numbers"},
        {"a, 2", "not numbers"},
        {"2.5 desc", "not numbers"},
        {"a; DROP TABLE t", "in no expression"},
        {"lower(a); DROP TABLE t", "in no expression"},
        {"a + 1 -- b", "no comments"},
        {"a -- b", "no comments"},
        {"a /* b */", "no comments"},
        {"lower(a /* b */)", "no comments"},
        {"a DESC)", "behind a column"},
        {"lower(a", "do not match"},
        {"lower(a))", "do not match"},
        {"lower(a])", "do not match"},
        {")", "do not match"},
        {"U&\"a\"", "with a prefix"},
        {"a || E'x'", "with a prefix"},
        {"a || 'x", "does not end"},
        {"a || \"x", "does not end"},
        {"a || 'x\\'", "no backslash"},
        {"a || $$x$$", "in no expression"},
        {"a || $x$x$x$", "in no expression"},
        {"(SELECT pg_sleep(9))", "no SELECT"},
        {"lower((with x as (select 1) table x))", "no SELECT"},
        {"a COLLATE", "without a name"},
        {"a COLLATE 'C'", "without a name"},
        {"a COLLATE \"C", "does not end"},
        {"a USING <", "no USING"},
        {"a NULLS", "NULLS without"},
        {"a NULLS, b", "NULLS without"},
        {"a NULLS LASTLY", "NULLS without"},
        {"a DESC NULLS b", "NULLS without"},
        {"a b", "behind a column"},
        {"a \"b\"", "behind a column"},
        {"a IS NULL", "into parentheses"},
        {"a ASC DESC", "behind a column"},
        {"a DESC 1", "behind a column"},
        {"a NULLS FIRST DESC", "behind a column"},
        {"a, b, a", "twice"},
        {"a, A DESC", "twice"},
        {"a, \"a\"", "twice"},
        {"lower(a), lower(a) DESC", "twice"},
        {"\"", "does not end"},
        {"\"a", "does not end"},
        {"\"a\"\"", "does not end"},
        {"\"\"", "an empty name"},
        {"a,b,c,d,e,f,g,h,i", "more than 8"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct evpq__keyset keyset;
        const char *problem = evpq__keyset_parse(&keyset, cases[i].order_by);
        if (!problem || !strstr(problem, cases[i].problem))
            fail_msg("%s: %s", cases[i].order_by, problem ? problem : "accepted");
    }
}

static void a_key_may_be_pinned_to_a_collation(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("a, lower(b) COLLATE x DESC, c");
    struct evpq__paged page = paged();
    bool nulls[3] = {false};
    keyset.keys[1].hidden = true;
    for (int round = 0; round < 2; round++) {
        evpq__keyset_reset(&keyset);
        evpq__key_pin(&keyset, 0, "\"s\".\"a\"");
        evpq__key_pin(&keyset, 1, "\"pg_catalog\".\"C\"");
        char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){.nulls = nulls});
        assert_non_null(strstr(sql, "SELECT evpq_page.*, (lower(b)) AS evpq_key_2 FROM"));
        assert_non_null(strstr(sql,
                               "WHERE \"a\" COLLATE \"s\".\"a\" = $3 AND (lower(b)) COLLATE "
                               "\"pg_catalog\".\"C\" < $4 ORDER BY"));
        assert_non_null(strstr(sql,
                               ") AS evpq_page ORDER BY \"a\" COLLATE \"s\".\"a\", evpq_key_2 "
                               "COLLATE \"pg_catalog\".\"C\" DESC, \"c\" LIMIT 3"));
        evpq__free(sql);
        assert_string_equal(evpq__key_collation(&keyset, 0), "");
        assert_string_equal(evpq__key_collation(&keyset, 1), "\"x\"");
    }
    evpq__keyset_reset(&keyset);
    assert_string_equal(evpq__key_collate(&keyset, 1), " COLLATE \"x\"");

    char longest[EVPQ__COLLATION_SIZE]; /* two names of 63 quotes */
    memset(longest, '"', sizeof(longest));
    longest[128] = '.';
    longest[257] = '\0';
    keyset = parsed("a, b, c, d, e, f, g, h");
    for (size_t i = 0; i < EVPQ__KEYS_MAX; i++)
        evpq__key_pin(&keyset, i, longest);
    for (size_t i = 0; i < EVPQ__KEYS_MAX; i++)
        assert_string_equal(evpq__key_collate(&keyset, i) + strlen(" COLLATE "), longest);
}

static void an_order_has_an_end(void **state)
{
    (void)state;
    struct evpq__keyset keyset;
    char order_by[8000] = "a+";
    memset(order_by + 2, '1', sizeof(order_by) - 3);
    assert_string_equal(evpq__keyset_parse(&keyset, order_by), "order_by is too long");
    memset(order_by, '(', sizeof(order_by) - 1);
    assert_string_equal(evpq__keyset_parse(&keyset, order_by), "order_by has too many parentheses");
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
static void check_keys(const char *order_by, const char *order, const char *nulls, bool not_null,
                       const char *const *branches)
{
    struct evpq__keyset keyset = parsed(order_by);
    struct evpq__paged page = paged();
    bool null[EVPQ__KEYS_MAX];
    for (size_t i = 0; i < keyset.count; i++) {
        null[i] = nulls[i] == 'n';
        keyset.keys[i].not_null = not_null;
    }

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

    char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){.nulls = null});
    assert_string_equal(sql, expected);
    evpq__free(sql);
}

static void check_behind(const char *order_by, const char *order, const char *nulls,
                         const char *const *branches)
{
    check_keys(order_by, order, nulls, false, branches);
}

#define ORDER_ABC     " ORDER BY \"a\", \"b\", \"c\" LIMIT 3"
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

/* A WHERE for each branch where no key is NULL. */
static void check_not_null(const char *order_by, const char *order, const char *const *branches)
{
    check_keys(order_by, order, "vvvvvvvv", true, branches);
}

static void keys_that_are_never_null_need_no_branch_for_it(void **state)
{
    (void)state;
    check_not_null("a", "\"a\"", BRANCHES("\"a\" > $3"));
    check_not_null("a DESC", "\"a\" DESC", BRANCHES("\"a\" < $3"));
    check_not_null("a DESC NULLS LAST", "\"a\" DESC NULLS LAST", BRANCHES("\"a\" < $3"));
    check_not_null("a, b, c", "\"a\", \"b\", \"c\"",
                   BRANCHES("(\"a\", \"b\", \"c\") > ($3, $4, $5)"));
    check_not_null("a DESC, b", "\"a\" DESC, \"b\"",
                   BRANCHES("\"a\" < $3", "\"a\" = $3 AND \"b\" > $4"));
}

static void each_key_is_never_null_by_itself(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("a, b, c");
    struct evpq__paged page = paged();
    bool nulls[3] = {false};
    keyset.keys[0].not_null = keyset.keys[2].not_null = true;
    char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){.nulls = nulls});
    assert_string_equal(sql, "SELECT * FROM (\n(" PAGED
                             " WHERE (\"a\", \"b\", \"c\") > ($3, $4, $5)" ORDER_ABC
                             ")\nUNION ALL\n(" PAGED " WHERE \"a\" = $3 AND \"b\" IS NULL" ORDER_ABC
                             ")\n) AS evpq_page" ORDER_ABC);
    evpq__free(sql);
    evpq__keyset_reset(&keyset);
    assert_false(keyset.keys[0].not_null);

    /* NULLs first are no range of their own before a second boundary. */
    keyset = parsed("a NULLS FIRST");
    keyset.keys[0].not_null = true;
    sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){.until_nulls = nulls});
    assert_string_equal(sql, PAGED " WHERE \"a\" <= $3 ORDER BY \"a\" NULLS FIRST LIMIT 3");
    evpq__free(sql);
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

static void backward_everything_is_turned_round(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("a DESC, b NULLS FIRST");
    struct evpq__paged page = paged();
    char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){.backward = true});
    assert_string_equal(sql, PAGED " ORDER BY \"a\", \"b\" DESC NULLS LAST LIMIT 3");
    evpq__free(sql);
}

static void an_offset_page_has_the_offset_as_parameter(void **state)
{
    (void)state;
    struct evpq__paged page = paged();
    char *sql = evpq__offset_sql(&page, &(struct evpq__keyset){0}, 7);
    assert_string_equal(sql, PAGED " LIMIT 3 OFFSET 7");
    evpq__free(sql);
}

static char *backward(const char *order_by, const bool *nulls, bool inclusive)
{
    struct evpq__keyset keyset = parsed(order_by);
    struct evpq__paged page = paged();
    return evpq__keyset_sql(
        &page, &keyset,
        &(struct evpq__cut){.backward = true, .nulls = nulls, .inclusive = inclusive});
}

static void backward_from_a_boundary_compares_the_other_way(void **state)
{
    (void)state;
    char *sql = backward("a, b", (const bool[]){false, false}, false);
    assert_string_equal(sql, PAGED
                        " WHERE (\"a\", \"b\") < ($3, $4) ORDER BY \"a\" DESC, \"b\" DESC LIMIT 3");
    evpq__free(sql);
    sql = backward("a", (const bool[]){true}, false);
    assert_string_equal(sql, PAGED " WHERE \"a\" IS NOT NULL ORDER BY \"a\" DESC LIMIT 3");
    evpq__free(sql);
}

static void a_page_may_include_its_boundary(void **state)
{
    (void)state;
    char *sql = backward("a, b", (const bool[]){false, false}, true);
    assert_string_equal(
        sql, PAGED " WHERE (\"a\", \"b\") <= ($3, $4) ORDER BY \"a\" DESC, \"b\" DESC LIMIT 3");
    evpq__free(sql);
    sql = backward("a, b DESC NULLS LAST", (const bool[]){false, false}, true);
    assert_non_null(strstr(sql, "(" PAGED " WHERE \"a\" < $3 ORDER"));
    assert_non_null(strstr(sql, "(" PAGED " WHERE \"a\" = $3 AND \"b\" >= $4 ORDER"));
    evpq__free(sql);
    sql = backward("a DESC NULLS LAST", (const bool[]){true}, true);
    assert_non_null(strstr(sql, "WHERE \"a\" IS NULL ORDER BY"));
    evpq__free(sql);
}

/* The conditions of a page that ends at a second boundary. Letters as in check_behind(), "" for
 * no first one; a capital letter: the same in both. */
static void check_until(const char *order_by, const char *nulls, const char *until,
                        const char *const *branches)
{
    struct evpq__keyset keyset = parsed(order_by);
    struct evpq__paged page = paged();
    bool null[EVPQ__KEYS_MAX], until_null[EVPQ__KEYS_MAX];
    struct evpq__cut cut = {.nulls = nulls[0] ? null : NULL, .until_nulls = until_null};
    for (size_t i = 0; i < keyset.count; i++) {
        null[i] = nulls[0] && nulls[i] == 'n';
        until_null[i] = until[i] == 'n' || until[i] == 'N';
        cut.until_shared += until[i] == 'N' || until[i] == 'V';
    }
    char *sql = evpq__keyset_sql(&page, &keyset, &cut);
    const char *at = sql;
    for (size_t i = 0; branches[i]; i++) {
        at = strstr(at, PAGED " WHERE ");
        if (!at)
            fail_msg("%s: no branch %s in %s", order_by, branches[i], sql);
        at += strlen(PAGED " WHERE ");
        size_t length = (size_t)(strstr(at, " ORDER BY") - at);
        if (length != strlen(branches[i]) || memcmp(at, branches[i], length) != 0)
            fail_msg("%s: %.*s, not %s", order_by, (int)length, at, branches[i]);
    }
    assert_null(strstr(at, PAGED));
    evpq__free(sql);
}

#define A  "\"a\""
#define B  "\"b\""
#define AB "(\"a\", \"b\")"

static void until_is_one_comparison_where_it_can_be(void **state)
{
    (void)state;
    check_until("a", "", "v", BRANCHES(A " <= $3"));
    check_until("a", "v", "v", BRANCHES(A " > $3 AND " A " <= $4"));
    check_until("a, b", "", "vv", BRANCHES(AB " <= ($3, $4)"));
    check_until("a, b", "vv", "vv",
                BRANCHES(AB " > ($3, $4) AND " AB " <= ($5, $6)",
                         A " = $3 AND " B " IS NULL AND " AB " <= ($5, $6)"));
    check_until("a DESC NULLS LAST, b DESC NULLS LAST", "", "vv", BRANCHES(AB " >= ($3, $4)"));
    check_until("a NULLS FIRST", "n", "n", BRANCHES(A " IS NOT NULL AND " A " IS NULL"));
}

static void until_is_a_filter_and_a_bound_elsewhere(void **state)
{
    (void)state;
#define END    A " >= $5 AND (" A " > $5 OR " A " IS NULL OR " A " = $5 AND " B " <= $6)"
#define FILTER "(" A " > $5 OR " A " IS NULL OR " A " = $5 AND " B " <= $6)"
    check_until("a DESC, b", "vv", "vv",
                BRANCHES(A " < $3 AND " END, A " = $3 AND " B " > $4 AND " FILTER,
                         A " = $3 AND " B " IS NULL AND " FILTER));
#undef END
#undef FILTER
    check_until("a DESC", "v", "v",
                BRANCHES(A " < $3 AND " A " >= $4 AND (" A " >= $4 OR " A " IS NULL)"));
    check_until("a, b", "vv", "vn",
                BRANCHES(AB " > ($3, $4) AND " A " <= $5 AND (" A " < $5 OR " A " = $5 AND " B
                            " IS NOT NULL OR " A " = $5 AND " B " IS NULL)",
                         A " = $3 AND " B " IS NULL AND (" A " < $5 OR " A " = $5 AND " B
                           " IS NOT NULL OR " A " = $5 AND " B " IS NULL)"));
}

static void until_among_the_nulls(void **state)
{
    (void)state;
    /* NULLs last: both ranges of the page may have rows. */
    check_until("a", "v", "n",
                BRANCHES(A " > $3 AND (" A " IS NOT NULL OR " A " IS NULL)",
                         A " IS NULL AND (" A " IS NOT NULL OR " A " IS NULL)"));
    /* NULLs first: those that come before a value are a range of their own. */
    check_until("a NULLS FIRST", "", "v",
                BRANCHES(A " IS NULL AND (" A " <= $3 OR " A " IS NULL)",
                         A " IS NOT NULL AND " A " <= $3 AND (" A " <= $3 OR " A " IS NULL)"));
    check_until("a NULLS FIRST", "", "n", BRANCHES(A " IS NULL AND " A " IS NULL"));
    check_until("a NULLS FIRST, b NULLS FIRST", "nv", "vv",
                BRANCHES(A " IS NOT NULL AND " A " <= $4 AND (" AB " <= ($4, $5) OR " A
                           " IS NULL OR " A " = $4 AND " B " IS NULL)",
                         A " IS NULL AND " B " > $3 AND (" AB " <= ($4, $5) OR " A " IS NULL OR " A
                           " = $4 AND " B " IS NULL)"));
}

static void keys_that_both_boundaries_share_are_known(void **state)
{
    (void)state;
    check_until("a, b", "vv", "Vv", BRANCHES(A " = $3 AND " B " > $4 AND " B " <= $6"));
    check_until("a DESC, b", "vv", "Vv", BRANCHES(A " = $3 AND " B " > $4 AND " B " <= $6"));
    check_until("a, b", "nv", "Nv", BRANCHES(A " IS NULL AND " B " > $3 AND " B " <= $4"));
    check_until("a DESC, b DESC", "vn", "Vv",
                BRANCHES(A " = $3 AND " B " IS NOT NULL AND " B " >= $5 AND (" B " >= $5 OR " B
                           " IS NULL)"));
    check_until("a, b", "vv", "VV", BRANCHES("false"));
}

static void until_may_be_the_boundary_that_belongs_to_the_page(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("a, b");
    struct evpq__paged page = paged();
    const bool nulls[] = {false, false};
    char *sql = evpq__keyset_sql(
        &page, &keyset,
        &(struct evpq__cut){
            .nulls = nulls, .inclusive = true, .until_nulls = nulls, .until_shared = 2});
    assert_string_equal(sql,
                        PAGED " WHERE " A " = $3 AND " B " = $4 ORDER BY " A ", " B " LIMIT 3");
    evpq__free(sql);
}

static void until_of_a_row_type_looks_into_no_row(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("a NULLS FIRST");
    struct evpq__paged page = paged();
    char *sql = evpq__keyset_sql(&page, &keyset,
                                 &(struct evpq__cut){.until_nulls = (const bool[]){false},
                                                     .until_rows = (const bool[]){true}});
    assert_null(strstr(sql, "IS NULL"));
    assert_null(strstr(sql, "IS NOT NULL"));
    assert_non_null(strstr(sql, A " IS NOT DISTINCT FROM NULL AND "));
    assert_non_null(strstr(sql, A " IS DISTINCT FROM NULL AND " A " <= $3"));
    evpq__free(sql);
}

#define HIDING                                                                                     \
    "SELECT \"b\", \"x y\", (lower(a)) AS evpq_key_1, \"id\" AS evpq_key_3 FROM (\nSELECT 1\n) "   \
    "AS evpq_page"

static void keys_that_are_not_asked_for_are_fetched_hidden(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("lower(a) DESC, b, id");
    char columns[64];
    assert_null(evpq__columns_parse(columns, sizeof(columns), &keyset, "B, \"x y\""));
    assert_string_equal(columns, "\"b\", \"x y\"");
    struct evpq__paged page = paged();
    page.columns = columns;
    char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){0});
    assert_string_equal(sql, HIDING " ORDER BY (lower(a)) DESC, \"b\", \"id\" LIMIT 3");
    evpq__free(sql);
    sql = evpq__keyset_sql(&page, &keyset,
                           &(struct evpq__cut){.nulls = (const bool[]){true, true, true}});
    /* The first column is NULL, and NULLs come first. */
    assert_non_null(strstr(sql, HIDING " WHERE (lower(a)) IS NOT NULL ORDER BY"));
    evpq__free(sql);
    sql = evpq__keyset_sql(&page, &keyset,
                           &(struct evpq__cut){.nulls = (const bool[]){false, false, false}});
    assert_non_null(
        strstr(sql, "\n) AS evpq_page ORDER BY evpq_key_1 DESC, \"b\", evpq_key_3 LIMIT 3"));
    evpq__free(sql);
    assert_int_equal(evpq__page_head(&page, &keyset), strstr(HIDING, "SELECT 1") - HIDING);
}

static void without_columns_only_expressions_are_hidden(void **state)
{
    (void)state;
    struct evpq__keyset keyset = parsed("lower(a), id");
    char columns[1];
    assert_null(evpq__columns_parse(columns, sizeof(columns), &keyset, NULL));
    assert_string_equal(columns, "");
    assert_true(keyset.keys[0].hidden);
    assert_false(keyset.keys[1].hidden);
    struct evpq__paged page = paged();
    char *sql = evpq__keyset_sql(&page, &keyset, &(struct evpq__cut){0});
    assert_string_equal(sql,
                        "SELECT evpq_page.*, (lower(a)) AS evpq_key_1 FROM (\nSELECT 1\n) AS "
                        "evpq_page ORDER BY (lower(a)), \"id\" LIMIT 3");
    evpq__free(sql);
}

static void columns_are_names_and_nothing_else(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",     " ",        "a,",  "a b",  "1",
                                        "a; b", "lower(a)", "\"a", "\"\"", "*"};
    struct evpq__keyset keyset = parsed("a");
    char columns[64];
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_non_null(evpq__columns_parse(columns, sizeof(columns), &keyset, wrong[i]));
    assert_string_equal(evpq__columns_parse(columns, 8, &keyset, "abc, def"),
                        "columns is too long");
    assert_true(evpq__columns_size("a,b") > strlen("\"a\", \"b\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_page_orders_the_wrapped_statement),
        cmocka_unit_test(an_expression_is_passed_on_in_parentheses_of_its_own),
        cmocka_unit_test(what_is_no_order_is_refused_with_a_reason),
        cmocka_unit_test(a_key_may_be_pinned_to_a_collation),
        cmocka_unit_test(an_order_has_an_end),
        cmocka_unit_test(backward_everything_is_turned_round),
        cmocka_unit_test(backward_from_a_boundary_compares_the_other_way),
        cmocka_unit_test(a_page_may_include_its_boundary),
        cmocka_unit_test(until_is_one_comparison_where_it_can_be),
        cmocka_unit_test(until_is_a_filter_and_a_bound_elsewhere),
        cmocka_unit_test(until_among_the_nulls),
        cmocka_unit_test(keys_that_both_boundaries_share_are_known),
        cmocka_unit_test(until_may_be_the_boundary_that_belongs_to_the_page),
        cmocka_unit_test(until_of_a_row_type_looks_into_no_row),
        cmocka_unit_test(keys_that_are_not_asked_for_are_fetched_hidden),
        cmocka_unit_test(without_columns_only_expressions_are_hidden),
        cmocka_unit_test(columns_are_names_and_nothing_else),
        cmocka_unit_test(a_name_has_at_most_63_bytes),
        cmocka_unit_test(one_column_behind_a_value),
        cmocka_unit_test(one_column_behind_null),
        cmocka_unit_test(keys_that_are_never_null_need_no_branch_for_it),
        cmocka_unit_test(each_key_is_never_null_by_itself),
        cmocka_unit_test(neighbours_of_one_direction_are_one_row_comparison),
        cmocka_unit_test(each_change_of_direction_is_a_branch),
        cmocka_unit_test(a_null_of_the_boundary_has_no_parameter),
        cmocka_unit_test(an_offset_page_has_the_offset_as_parameter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
