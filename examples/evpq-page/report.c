/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "screen.h"

int ending_of(int code)
{
    switch (code) {
    case EVPQ_ECONNECT:
    case EVPQ_EDISCONNECTED:
        return END_CONNECTION;
    case EVPQ_ESERVER:
        return END_SQL;
    case EVPQ_ETIMEOUT:
        return END_DEADLINE;
    default:
        return END_USAGE;
    }
}

int ending_of_error(const evpq_error *err)
{
    bool token = evpq_error_code(err) == EVPQ_EINVALID &&
                 strcmp(evpq_error_message(err), EVPQ_TOKEN_PROBLEM) == 0;
    return token ? END_TOKEN : ending_of(evpq_error_code(err));
}

/* Where the library names its options and the command line has other names. */
static const struct word {
    const char *library, *here;
    bool first_only; /* it is plain English, too */
} words[] = {
    {"order_by", "--order-by", false},
    {"assume_unique", "--assume-unique", false},
    {"require_index", "--require-index", false},
    {"walk_timeout_ms", "--deadline", false},
    {"timeout_ms", "--timeout", false},
    {"query_timeout_ms", "--timeout", false},
    {"page_size", "--page-size", false},
    {"prefetch_bytes", "--prefetch", false},
    {"columns", "--columns", true},
    {"sql", "SQL", true},
};

static bool in_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '"';
}

static const struct word *word_at(const char *text, const char *start)
{
    if (text > start && in_name(text[-1]))
        return NULL;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i].library);
        if (strncmp(text, words[i].library, length) == 0 && !in_name(text[length]) &&
            (text == start || !words[i].first_only))
            return &words[i];
    }
    return NULL;
}

/* A remark for others, " (evpq-page: --here)". */
static size_t remark_length(const char *text, const char *here)
{
    static const char begins[] = " (evpq-page: ";
    size_t begin = strlen(begins), length = strlen(here);
    bool is = strncmp(text, begins, begin) == 0 && strncmp(text + begin, here, length) == 0 &&
              text[begin + length] == ')';
    return is ? begin + length + 1 : 0;
}

static void put_translated(FILE *out, const char *text)
{
    const char *start = text;
    while (*text) {
        const struct word *word = word_at(*text == '.' ? text + 1 : text, start);
        if (!word) {
            putc(*text++, out);
            continue;
        }
        fputs(word->here, out);
        text += (*text == '.') + strlen(word->library);
        text += remark_length(text, word->here);
    }
}

/* The server's words are its own. */
static void put_line(FILE *out, const char *label, const char *text, bool server)
{
    fputs(label, out);
    if (server)
        fputs(text, out);
    else
        put_translated(out, text);
}

/* The line of the statement that the server points at, and a mark below the place; long lines are
 * cut on both sides. `position` counts characters from 1. */
static void put_excerpt(FILE *out, const char *sql, uint32_t position)
{
    enum { BEFORE = 40, WIDTH = 70 };
    unsigned line = 1;
    const char *start = sql, *at = sql;
    for (uint32_t i = 1; i < position && *at; i++) {
        if (*at == '\n') {
            line++;
            start = at + 1;
        }
        do
            at++;
        while ((*at & 0xC0) == 0x80);
    }
    const char *from = start;
    for (const char *c = at; c > start && at - c <= BEFORE; c--)
        if ((*c & 0xC0) != 0x80)
            from = c;
    if (at - start <= BEFORE)
        from = start;

    char *before = screen_text(from, (size_t)(at - from), false);
    char *shown = screen_text(from, strcspn(from, "\n"), false);
    if (before && shown) {
        char label[32];
        screen_cut(shown, WIDTH);
        int width = snprintf(label, sizeof label, "LINE %u: %s", line, from > start ? "..." : "");
        fprintf(out, "\n%s%s\n%*s^", label, shown, width + (int)screen_width(before), "");
    }
    free(before);
    free(shown);
}

/* What the server does not say, as it knows nothing of the command line. */
static void put_own_hint(FILE *out, const evpq_error *err, const struct options *options)
{
    const char *state = evpq_error_sqlstate(err);
    bool too_few = strcmp(state, "08P01") == 0;
    if (too_few || strcmp(state, "42P18") == 0)
        fprintf(
            out, "\nHINT: --param, once for each, says what $1, $2, ... stand for; %zu %s given%s",
            options->params_count, options->params_count == 1 ? "was" : "were",
            too_few ? ""
                    : ". The statement must use all of them, and tell their types, as $1::text");
}

char *error_text(const evpq_error *err, const struct options *options)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;

    const char *severity = evpq_error_severity(err); /* only the server's own errors have one */
    const char *detail = evpq_error_detail(err);
    const char *hint = evpq_error_hint(err);
    bool server = *severity != 0;
    if (server)
        fprintf(out, "%s %s: ", severity, evpq_error_sqlstate(err));
    put_line(out, "", evpq_error_message(err), server);
    if (options && evpq_error_position(err) > 0)
        put_excerpt(out, options->sql, evpq_error_position(err));
    if (*detail)
        put_line(out, "\nDETAIL: ", detail, server);
    if (*hint)
        put_line(out, "\nHINT: ", hint, server);
    else if (options)
        put_own_hint(out, err, options);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

void say_offset(void)
{
    say("no --order-by: offset pages, slow when deep, inexact when rows change");
}

void say_problem(const char *problem)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out)
        put_translated(out, problem);
    say("%s", out && fclose(out) == 0 ? text : problem);
    free(text);
}
