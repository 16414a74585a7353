/* SPDX-License-Identifier: MIT */
#include "screen.h"

#include <locale.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define CUT_MARK "\u2026"
#define JOINER   0x200d /* zero width joiner */
#define ESCAPE   0x1b

#define JOINER_TEXT "\u200d"

/* Longest that one byte of text grows to ("\x1b"), and room for the mark. */
#define GROWTH 4
#define SPARE  sizeof(CUT_MARK)

void screen_init(void)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        setlocale(LC_CTYPE, "");
}

/* The bidirectional controls of Unicode (UAX #9, 2): embeddings, overrides, isolates, marks. */
static bool turns_direction(wchar_t c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e ||
           c == 0x200f || c == 0x061c;
}

/* Bytes of the next character (at least 1), and its columns; -1: not to be shown as it is. */
static size_t next_char(const char *text, size_t length, wchar_t *c, int *width)
{
    if ((unsigned char)*text < 0x80) {
        *c = (unsigned char)*text;
        *width = *c < 0x20 || *c == 0x7f ? -1 : 1;
        return 1;
    }
    mbstate_t state = {0};
    size_t bytes = mbrtowc(c, text, length, &state);
    if (bytes == 0 || bytes > length) {
        *c = (unsigned char)*text;
        *width = -1;
        return 1;
    }
    *width = turns_direction(*c) ? -1 : wcwidth(*c);
    return bytes;
}

static size_t escape(char *out, wchar_t c, size_t bytes)
{
    static const char names[][3] = {['\n'] = "\\n", ['\r'] = "\\r", ['\t'] = "\\t"};
    uint32_t code = (uint32_t)c;
    if (code < sizeof names / sizeof *names && names[code][0])
        return (size_t)sprintf(out, "%s", names[code]);
    if (bytes == 1)
        return (size_t)sprintf(out, "\\x%02x", code);
    return (size_t)sprintf(out, code <= 0xffff ? "\\u%04x" : "\\U%08x", code);
}

char *screen_text(const char *text, size_t length, bool lines)
{
    if (length > (SIZE_MAX - SPARE) / GROWTH)
        return NULL;
    char *shown = malloc(length * GROWTH + SPARE);
    if (!shown)
        return NULL;

    char *end = shown;
    for (size_t i = 0, bytes; i < length; i += bytes) {
        wchar_t c;
        int width;
        bytes = next_char(text + i, length - i, &c, &width);
        if (width >= 0 || (lines && (c == '\n' || c == '\t')))
            end = mempcpy(end, text + i, bytes);
        else
            end += escape(end, c, bytes);
    }
    *end = 0;
    return shown;
}

size_t screen_width(const char *text)
{
    size_t all = 0;
    for (size_t left = strlen(text), bytes; left; text += bytes, left -= bytes) {
        wchar_t c;
        int width;
        bytes = next_char(text, left, &c, &width);
        all += width > 0 ? (size_t)width : 0;
    }
    return all;
}

void screen_cut(char *text, size_t width)
{
    size_t used = 0;
    char *fits = text; /* so much leaves one column for the mark */
    for (size_t left = strlen(text), bytes; left; text += bytes, left -= bytes) {
        wchar_t c;
        int columns;
        bytes = next_char(text, left, &c, &columns);
        used += columns > 0 ? (size_t)columns : 0;
        if (used > width) {
            strcpy(fits, CUT_MARK);
            return;
        }
        if (used < width && c != JOINER) /* which would join the mark */
            fits = text + bytes;
    }
}

/* Bytes of a line that take so many columns at most. */
static size_t line_prefix(const char *line, size_t width)
{
    size_t used = 0, all = strlen(line), fits = 0;
    while (fits < all) {
        wchar_t c;
        int columns;
        size_t bytes = next_char(line + fits, all - fits, &c, &columns);
        if (c == ESCAPE) {
            bytes = strcspn(line + fits, "m");
            bytes += fits + bytes < all;
            columns = 0;
        }
        used += columns > 0 ? (size_t)columns : 0;
        if (used > width)
            break;
        fits += bytes;
    }
    return fits;
}

void screen_put(FILE *out, const char *line, size_t width)
{
    static const char joiner[] = JOINER_TEXT;
    const size_t joiner_length = sizeof joiner - 1;
    size_t fits = line_prefix(line, width);
    if (!line[fits]) {
        fputs(line, out);
        return;
    }
    fits = line_prefix(line, width - 1);
    if (fits >= joiner_length && memcmp(line + fits - joiner_length, joiner, joiner_length) == 0)
        fits -= joiner_length; /* which would join the mark */
    fwrite(line, 1, fits, out);
    fputs(CUT_MARK, out);
}

void say(const char *format, ...)
{
    char *text;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    char *shown = length < 0 ? NULL : screen_text(text, (size_t)length, true);
    fprintf(stderr, "evpq-page: %s\n", shown ? shown : "out of memory");
    free(shown);
    if (length >= 0)
        free(text);
}
