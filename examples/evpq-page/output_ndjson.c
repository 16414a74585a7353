/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_gen.h>

struct column {
    const unsigned char *name;
    size_t name_length;
    uint32_t type;
};

/* "NaN" and "Infinity" are numbers in PostgreSQL and none in JSON. */
static bool is_json_number(const evpq_text_view *text)
{
    const char *digit = text->data + (text->data[0] == '-');
    return *digit >= '0' && *digit <= '9';
}

/* The server has checked it. A line feed can only stand between its parts. */
static bool ndjson_raw(yajl_gen json, const evpq_text_view *text)
{
    if (!memchr(text->data, '\n', text->length) && !memchr(text->data, '\r', text->length)) {
        yajl_gen_number(json, text->data, text->length);
        return true;
    }
    char *line = malloc(text->length);
    if (!line)
        return false;
    for (size_t i = 0; i < text->length; i++) {
        char c = text->data[i];
        line[i] = c == '\n' || c == '\r' ? ' ' : c;
    }
    yajl_gen_number(json, line, text->length);
    free(line);
    return true;
}

static bool ndjson_value(yajl_gen json, const evpq_text_view *text, uint32_t type)
{
    switch (type) {
    case TYPE_BOOL:
        yajl_gen_bool(json, text->data[0] == 't');
        return true;
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
    case TYPE_NUMERIC:
        if (!is_json_number(text))
            break;
        yajl_gen_number(json, text->data, text->length);
        return true;
    case TYPE_JSON:
    case TYPE_JSONB:
        return ndjson_raw(json, text);
    default:
        break;
    }
    yajl_gen_string(json, (const unsigned char *)text->data, text->length);
    return true;
}

static bool ndjson_row(yajl_gen json, const evpq_result *page, uint32_t row,
                       const struct column *columns, uint32_t count)
{
    bool good = true;
    yajl_gen_map_open(json);
    for (uint32_t i = 0; i < count && good; i++) {
        evpq_text_view text;
        yajl_gen_string(json, columns[i].name, columns[i].name_length);
        if (evpq_result_text(page, row, i, &text) == EVPQ_OK)
            good = ndjson_value(json, &text, columns[i].type);
        else
            yajl_gen_null(json);
    }
    yajl_gen_map_close(json);
    return good;
}

/* Each row behind `before`, the very first one behind `first`. */
static bool rows_as_objects(FILE *out, const evpq_result *page, const char *first,
                            const char *before, const char *behind)
{
    uint32_t count = evpq_result_columns(page);
    struct column *columns = calloc(count ? count : 1, sizeof *columns);
    yajl_gen json = yajl_gen_alloc(NULL);
    bool good = columns && json;

    for (uint32_t i = 0; i < count && good; i++) {
        const char *name = evpq_result_column_name(page, i);
        columns[i].name = (const unsigned char *)name;
        columns[i].name_length = strlen(name);
        columns[i].type = evpq_result_column_type(page, i);
    }
    for (uint32_t row = 0, rows = evpq_result_rows(page); row < rows && good; row++) {
        const unsigned char *line;
        size_t length;
        good = ndjson_row(json, page, row, columns, count);
        yajl_gen_get_buf(json, &line, &length);
        fputs(row ? before : first, out);
        fwrite_unlocked(line, 1, length, out);
        fputs(behind, out);
        yajl_gen_clear(json);
        yajl_gen_reset(json, NULL);
    }
    if (json)
        yajl_gen_free(json);
    free(columns);
    return good;
}

bool output_ndjson(FILE *out, const evpq_result *page, const struct output_how *how)
{
    (void)how;
    return rows_as_objects(out, page, "", "", "\n");
}

/* One array: a line for each row, and a bracket before the first and behind the last. */
bool output_json(FILE *out, const evpq_result *page, const struct output_how *how)
{
    bool begins = how->first && !how->continued;
    if (begins)
        putc_unlocked('[', out);
    return rows_as_objects(out, page, begins ? "" : ",\n ", ",\n ", "");
}

void output_json_end(FILE *out)
{
    fputs("]\n", out);
}
