/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <string.h>

/*
 * CSV as `psql --csv` writes it, byte for byte: quotes only where they are
 * needed, and a field that is just \. counts as such, for COPY reads that as
 * the end of data.
 */

static void csv_field(FILE *out, const char *data, size_t length, const char *null)
{
    static const bool special[256] = {[','] = true, ['"'] = true, ['\r'] = true, ['\n'] = true};

    bool quote = length == 2 && memcmp(data, "\\.", 2) == 0;
    if (null && strlen(null) == length && memcmp(data, null, length) == 0)
        quote = true; /* else nobody could tell it from NULL; COPY does so too */
    for (size_t i = 0; i < length && !quote; i++)
        quote = special[(unsigned char)data[i]];
    if (!quote) {
        fwrite_unlocked(data, 1, length, out);
        return;
    }
    putc_unlocked('"', out);
    for (size_t i = 0; i < length; i++) {
        if (data[i] == '"')
            putc_unlocked('"', out);
        putc_unlocked(data[i], out);
    }
    putc_unlocked('"', out);
}

/*
 * TSV as COPY writes its text format, so that COPY reads it (PostgreSQL manual,
 * COPY, "Text Format"): backslashes before what would end a field, \N is NULL.
 */
static void tsv_field(FILE *out, const char *data, size_t length, const char *null)
{
    (void)null; /* "\N" cannot come: its backslash is doubled */
    static const char letters[256] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r',
                                      ['\t'] = 't', ['\v'] = 'v', ['\\'] = '\\'};
    for (size_t i = 0; i < length; i++) {
        char letter = letters[(unsigned char)data[i]];
        if (letter)
            putc_unlocked('\\', out);
        putc_unlocked(letter ? letter : data[i], out);
    }
}

/* Lines without columns; of several psql writes none, COPY writes each. */
static uint32_t empty_rows(const evpq_result *page, char separator)
{
    return separator == '\t' ? evpq_result_rows(page) : 0;
}

typedef void field_fn(FILE *out, const char *data, size_t length, const char *null);

static void lines(FILE *out, const evpq_result *page, const struct output_how *how, char separator,
                  field_fn *field, const char *null)
{
    uint32_t columns = evpq_result_columns(page);
    uint32_t rows = columns ? evpq_result_rows(page) : empty_rows(page, separator);
    bool header = how->first && !how->resumed;

    for (uint32_t column = 0; column < columns && header; column++) {
        const char *name = evpq_result_column_name(page, column);
        if (column)
            putc_unlocked(separator, out);
        field(out, name, strlen(name), NULL);
    }
    if (header)
        putc_unlocked('\n', out);

    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t column = 0; column < columns; column++) {
            evpq_text_view text;
            if (column)
                putc_unlocked(separator, out);
            if (evpq_result_text(page, row, column, &text) == EVPQ_OK)
                field(out, text.data, text.length, how->null);
            else
                fputs(how->null ? how->null : null, out);
        }
        putc_unlocked('\n', out);
    }
}

bool output_csv(FILE *out, const evpq_result *page, const struct output_how *how)
{
    lines(out, page, how, ',', csv_field, "");
    return true;
}

bool output_tsv(FILE *out, const evpq_result *page, const struct output_how *how)
{
    lines(out, page, how, '\t', tsv_field, "\\N");
    return true;
}
