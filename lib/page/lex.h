/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_LEX_H
#define EVPQ_LIB_PAGE_LEX_H

/* What a statement is made of, as the server would read it with standard_conforming_strings. Pure.
 */

#include <stdbool.h>
#include <stddef.h>

enum evpq__lexeme_kind {
    EVPQ__LEX_END,
    EVPQ__LEX_WORD,   /* a name, a keyword, a number, a parameter */
    EVPQ__LEX_QUOTED, /* a string or a quoted name */
    EVPQ__LEX_SYMBOL, /* one character of any other thing */
    EVPQ__LEX_OPEN,   /* something that does not end, to the end of the text */
};

struct evpq__lexeme {
    enum evpq__lexeme_kind kind;
    const char *start;
    size_t length;
};

/* The next one behind white space and comments; *at moves behind it. */
struct evpq__lexeme evpq__lex(const char **at);

/* The length of a statement without the white space at its end; nor the semicolons there, with what
 * is said behind them. */
size_t evpq__statement_length(const char *sql);

/* Does it lock rows: FOR UPDATE, FOR NO KEY UPDATE, FOR SHARE, FOR KEY SHARE, in it or in a part?
 */
bool evpq__statement_locks(const char *sql);

/* Does it begin, behind parentheses, as what returns rows and can stand in a FROM? */
bool evpq__statement_selects(const char *sql);

/* Is each parenthesis closed that was opened, and no other? */
bool evpq__statement_balanced(const char *sql);

#endif /* EVPQ_LIB_PAGE_LEX_H */
