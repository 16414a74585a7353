/* SPDX-License-Identifier: MIT */
#include "page/lex.h"

#include <string.h>

#include "page/letters.h"

/* ---- what is skipped, and what is quoted ---- */

/* Behind a comment in slashes, which may hold others; NULL: it does not end. */
static const char *behind_comment(const char *c)
{
    size_t depth = 0;
    do {
        bool opens = c[0] == '/' && c[1] == '*', closes = c[0] == '*' && c[1] == '/';
        depth = depth + opens - closes;
        c += opens || closes ? 2 : 1;
    } while (depth > 0 && *c);
    return depth > 0 ? NULL : c;
}

/* Behind white space and comments; NULL: the last one does not end. */
static const char *behind_space(const char *c)
{
    while (c && *c) {
        if (evpq__is_space(*c))
            c++;
        else if (c[0] == '-' && c[1] == '-')
            c += strcspn(c, "\n\r");
        else if (c[0] == '/' && c[1] == '*')
            c = behind_comment(c);
        else
            break;
    }
    return c;
}

/* Behind the quote that ends what this one begins; NULL: none does. */
static const char *behind_quote(const char *c, bool escapes)
{
    char quote = *c++;
    for (; *c; c++) {
        if (escapes && *c == '\\' && c[1])
            c++;
        else if (*c == quote && c[1] == quote)
            c++;
        else if (*c == quote)
            return c + 1;
    }
    return NULL;
}

/* Behind $tag$ and what it begins; `c` when it begins nothing; NULL: it does not end. */
static const char *behind_dollars(const char *c)
{
    size_t tag = 1;
    while (evpq__is_letter(c[tag]) || (tag > 1 && evpq__is_digit(c[tag])))
        tag++;
    if (c[tag++] != '$')
        return c;
    for (const char *end = c + tag; (end = strchr(end, '$')); end++)
        if (strncmp(end, c, tag) == 0)
            return end + tag;
    return NULL;
}

static const char *behind_word(const char *c)
{
    while (evpq__is_of_word(*c))
        c++;
    return c;
}

/* ---- lexemes ---- */

static struct evpq__lexeme lexeme(enum evpq__lexeme_kind kind, const char *start,
                                  const char *behind)
{
    if (!behind)
        kind = EVPQ__LEX_OPEN;
    size_t length = behind ? (size_t)(behind - start) : strlen(start);
    return (struct evpq__lexeme){kind, start, length};
}

static struct evpq__lexeme lexeme_at(const char *c)
{
    bool escapes = (c[0] == 'E' || c[0] == 'e') && c[1] == '\'';
    if (*c == '\0')
        return lexeme(EVPQ__LEX_END, c, c);
    if (escapes || *c == '\'' || *c == '"')
        return lexeme(EVPQ__LEX_QUOTED, c, behind_quote(c + escapes, escapes));
    const char *behind = *c == '$' ? behind_dollars(c) : c;
    if (behind != c)
        return lexeme(EVPQ__LEX_QUOTED, c, behind);
    behind = behind_word(c);
    return behind > c ? lexeme(EVPQ__LEX_WORD, c, behind) : lexeme(EVPQ__LEX_SYMBOL, c, c + 1);
}

struct evpq__lexeme evpq__lex(const char **at)
{
    const char *start = behind_space(*at);
    struct evpq__lexeme next = start ? lexeme_at(start) : lexeme(EVPQ__LEX_OPEN, *at, NULL);
    *at = next.start + next.length;
    return next;
}

static bool is_symbol(const struct evpq__lexeme *lexeme, char symbol)
{
    return lexeme->kind == EVPQ__LEX_SYMBOL && *lexeme->start == symbol;
}

static bool is_word(const struct evpq__lexeme *lexeme, const char *word)
{
    if (lexeme->kind != EVPQ__LEX_WORD || lexeme->length != strlen(word))
        return false;
    for (size_t i = 0; i < lexeme->length; i++)
        if (evpq__fold(lexeme->start[i]) != word[i])
            return false;
    return true;
}

static bool take_word(const char **at, const char *word)
{
    const char *behind = *at;
    struct evpq__lexeme next = evpq__lex(&behind);
    if (!is_word(&next, word))
        return false;
    *at = behind;
    return true;
}

/* ---- statements ---- */

size_t evpq__statement_length(const char *sql)
{
    const char *at = sql, *end = sql;
    bool ended = false; /* by a semicolon */
    for (;;) {
        struct evpq__lexeme next = evpq__lex(&at);
        if (next.kind == EVPQ__LEX_END)
            break;
        ended = is_symbol(&next, ';');
        if (!ended)
            end = at;
    }
    size_t length = ended ? (size_t)(end - sql) : strlen(sql);
    while (length > 0 && evpq__is_space(sql[length - 1]))
        length--;
    return length;
}

/* Behind FOR. */
static bool takes_lock(const char *at)
{
    if (take_word(&at, "no"))
        return take_word(&at, "key") && take_word(&at, "update");
    if (take_word(&at, "key"))
        return take_word(&at, "share");
    return take_word(&at, "update") || take_word(&at, "share");
}

static bool begins_query(const struct evpq__lexeme *lexeme)
{
    return is_word(lexeme, "select") || is_word(lexeme, "with") || is_word(lexeme, "table") ||
           is_word(lexeme, "values");
}

/* FOR may also be that of substring(a FOR share): so it counts in parentheses of queries only. */
bool evpq__statement_locks(const char *sql)
{
    enum { DEPTH_MAX = 100 }; /* deeper ones count as queries */
    bool query[DEPTH_MAX + 1] = {true}, nested[DEPTH_MAX + 1] = {false};
    size_t depth = 0;
    bool first = false; /* in its parentheses */
    for (;;) {
        struct evpq__lexeme next = evpq__lex(&sql);
        size_t level = depth < DEPTH_MAX ? depth : DEPTH_MAX;
        if (next.kind == EVPQ__LEX_END || next.kind == EVPQ__LEX_OPEN)
            return false;
        if (is_symbol(&next, '(')) {
            level = ++depth < DEPTH_MAX ? depth : DEPTH_MAX;
            query[level] = level == DEPTH_MAX;
            nested[level] = first;
            first = true;
            continue;
        }
        if (first && begins_query(&next))
            query[level] = true;
        first = false;
        if (is_symbol(&next, ')') && depth > 0) {
            depth--;
            if (depth < DEPTH_MAX && query[level] && nested[level])
                query[depth] = true;
        } else if (query[level] && is_word(&next, "for") && takes_lock(sql)) {
            return true;
        }
    }
}

bool evpq__statement_selects(const char *sql)
{
    struct evpq__lexeme next;
    do
        next = evpq__lex(&sql);
    while (is_symbol(&next, '('));
    return begins_query(&next);
}

bool evpq__statement_balanced(const char *sql)
{
    size_t depth = 0;
    for (;;) {
        struct evpq__lexeme next = evpq__lex(&sql);
        if (next.kind == EVPQ__LEX_END || next.kind == EVPQ__LEX_OPEN)
            return depth == 0;
        if (is_symbol(&next, '('))
            depth++;
        else if (is_symbol(&next, ')') && depth-- == 0)
            return false;
    }
}
