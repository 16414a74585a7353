/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PAGE_LETTERS_H
#define EVPQ_LIB_PAGE_LETTERS_H

/* Characters as the server's own lexer sorts them; those of ctype.h would ask the locale. */

#include <stdbool.h>

static inline bool evpq__is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static inline bool evpq__is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* What a name may begin with. */
static inline bool evpq__is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

/* What a name may go on with. */
static inline bool evpq__is_of_word(char c)
{
    return evpq__is_letter(c) || evpq__is_digit(c) || c == '$';
}

/* As PostgreSQL folds names. */
static inline char evpq__fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

#endif /* EVPQ_LIB_PAGE_LETTERS_H */
