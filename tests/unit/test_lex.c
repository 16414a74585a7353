/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "page/lex.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Lexemes with a letter each: w word, q quoted, s symbol, o open. */
static void a_statement_is_read_as_the_server_would(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *lexemes;
    } cases[] = {
        {"", ""},
        {" \t\r\n\v\f", ""},
        {"SELECT a, 1.5", "w[SELECT]w[a]s[,]w[1]s[.]w[5]"},
        {"a-- b\nc", "w[a]w[c]"},
        {"a--b", "w[a]"},
        {"a /* /* b */ c */ d", "w[a]w[d]"},
        {"a /* /* b */ c", "w[a]o[ /* /* b */ c]"},
        {"'it''s' b", "q['it''s']w[b]"},
        {"'a\\' b", "q['a\\']w[b]"},
        {"E'a\\' b' c", "q[E'a\\' b']w[c]"},
        {"e'\\\\' c", "q[e'\\\\']w[c]"},
        {"ne'a\\' c", "w[ne]q['a\\']w[c]"},
        {"E'a\\", "o[E'a\\]"},
        {"\"a \"\" b\" c", "q[\"a \"\" b\"]w[c]"},
        {"'a", "o['a]"},
        {"$1 + $2", "w[$1]s[+]w[$2]"},
        {"$$a ' $b$ $$ c", "q[$$a ' $b$ $$]w[c]"},
        {"$t_1$a $$ $t$ $t_1$;", "q[$t_1$a $$ $t$ $t_1$]s[;]"},
        {"$t$a $t", "o[$t$a $t]"},
        {"a$$b$$", "w[a$$b$$]"},
        {"\xc3\xa4$ b", "w[\xc3\xa4$]w[b]"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char found[256] = "";
        const char *at = cases[i].sql;
        for (;;) {
            struct evpq__lexeme next = evpq__lex(&at);
            if (next.kind == EVPQ__LEX_END)
                break;
            size_t length = strlen(found);
            snprintf(found + length, sizeof(found) - length, "%c[%.*s]", " wqso"[next.kind],
                     (int)next.length, next.start);
        }
        assert_string_equal(found, cases[i].lexemes);
        assert_string_equal(at, "");
    }
}

static void semicolons_at_the_end_and_what_is_behind_are_not_part_of_a_statement(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *statement;
    } cases[] = {
        {"SELECT 1", "SELECT 1"},
        {"SELECT 1; \n;\t", "SELECT 1"},
        {"SELECT 1 -- why", "SELECT 1 -- why"},
        {"SELECT 1 -- why;", "SELECT 1 -- why;"},
        {"SELECT 1; -- done", "SELECT 1"},
        {"SELECT 1 ;/* d */", "SELECT 1"},
        {"SELECT 1 /* a */; /* b; */ ; -- c\n", "SELECT 1"},
        {"SELECT 1; SELECT 2;", "SELECT 1; SELECT 2"},
        {"SELECT ';' ", "SELECT ';'"},
        {"SELECT '; -- ", "SELECT '; --"},
        {"SELECT 1; /* open", "SELECT 1; /* open"},
        {"SELECT $$;$$;", "SELECT $$;$$"},
        {" ;\n", ""},
        {"-- nothing\n;", ""},
        {"", ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t length = evpq__statement_length(cases[i].sql);
        if (length != strlen(cases[i].statement) ||
            strncmp(cases[i].sql, cases[i].statement, length) != 0)
            fail_msg("%s: %zu", cases[i].sql, length);
    }
}

static void locks_of_rows_are_found_in_queries_only(void **state)
{
    (void)state;
    static const char *const locking[] = {
        "SELECT * FROM t FOR UPDATE",
        "select * from t for\n/* x */ no key update skip locked",
        "SELECT * FROM t FOR SHARE OF t NOWAIT;",
        "SELECT * FROM t fOr KEY sHaRe",
        "(SELECT * FROM t FOR UPDATE)",
        "((SELECT * FROM t) FOR UPDATE) -- x",
        "SELECT * FROM (SELECT * FROM t FOR SHARE) AS s",
        "WITH w AS (TABLE t FOR UPDATE) TABLE w",
        "WITH w AS ( ( TABLE t ) FOR UPDATE) TABLE w",
        "SELECT substring(a FOR b) FROM t FOR UPDATE",
        "SELECT (SELECT id FROM t LIMIT 1 FOR UPDATE)",
    };
    static const char *const reading[] = {
        "SELECT 'FOR UPDATE', \"FOR UPDATE\", $$ FOR UPDATE $$",
        "SELECT 1 -- FOR UPDATE\n",
        "SELECT 1 /* FOR UPDATE */",
        "SELECT substring(a FROM 2 FOR share) FROM t",
        "SELECT substring((a) FOR update) FROM t",
        "SELECT x.for, update FROM t AS x",
        "SELECT for_update FROM t",
        "SELECT \"for\" update FROM t",
        "SELECT 1 FOR",
        "SELECT 1 FOR NO UPDATE",
        "SELECT 'FOR UPDATE",
        "",
        ")) FOR",
    };
    for (size_t i = 0; i < COUNT(locking); i++)
        if (!evpq__statement_locks(locking[i]))
            fail_msg("%s", locking[i]);
    for (size_t i = 0; i < COUNT(reading); i++)
        if (evpq__statement_locks(reading[i]))
            fail_msg("%s", reading[i]);

    char deep[1024];
    memset(deep, '(', 400);
    strcpy(deep + 400, "TABLE t FOR UPDATE");
    assert_true(evpq__statement_locks(deep));
    memset(deep, ')', 400);
    assert_true(evpq__statement_locks(deep));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_statement_is_read_as_the_server_would),
        cmocka_unit_test(semicolons_at_the_end_and_what_is_behind_are_not_part_of_a_statement),
        cmocka_unit_test(locks_of_rows_are_found_in_queries_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
