/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <stdlib.h>
#include <string.h>

#include <libsmartcols.h>

#include "screen.h"

/* Between two columns. */
#define GAP       "  "
#define GAP_WIDTH (sizeof(GAP) - 1)

/* A column is not cut below this, even where the lines are then longer than the terminal. */
#define MIN_WIDTH 6

/* Neither nothing nor a value; as pgcli has it. */
#define NULL_TEXT "<null>"

#define BOLD "\033[1m"
#define DIM  "\033[2m"

/* A page as shown: row 0 holds the names, row 1 the rule below them. */
struct grid {
    size_t rows, columns;
    uint32_t skip; /* columns of the page that are left out before the first */
    char **cells;
    size_t *widths;
};

static char **grid_cell(struct grid *grid, size_t row, size_t column)
{
    return &grid->cells[row * grid->columns + column];
}

static bool grid_set(struct grid *grid, size_t row, size_t column, const char *text, size_t length)
{
    char *shown = screen_text(text, length, false);
    if (!shown)
        return false;
    size_t width = screen_width(shown);
    if (width > grid->widths[column])
        grid->widths[column] = width;
    *grid_cell(grid, row, column) = shown;
    return true;
}

static bool grid_fill(struct grid *grid, const evpq_result *page, const char *null)
{
    for (uint32_t column = 0; column < grid->columns; column++) {
        const char *name = evpq_result_column_name(page, grid->skip + column);
        if (!grid_set(grid, 0, column, name, strlen(name)))
            return false;
    }
    for (uint32_t row = 0; row < grid->rows - 2; row++) {
        for (uint32_t column = 0; column < grid->columns; column++) {
            evpq_text_view text;
            int code = evpq_result_text(page, row, grid->skip + column, &text);
            if (code != EVPQ_OK)
                text = (evpq_text_view){null, strlen(null)};
            if (!grid_set(grid, row + 2, column, text.data, text.length))
                return false;
        }
    }
    return true;
}

static size_t grid_width(const struct grid *grid, size_t limit)
{
    size_t all = (grid->columns - 1) * GAP_WIDTH;
    for (size_t i = 0; i < grid->columns; i++)
        all += grid->widths[i] < limit ? grid->widths[i] : limit;
    return all;
}

/* One limit for all columns, so that the narrow ones stay whole. */
static void grid_fit(struct grid *grid, size_t width)
{
    size_t limit = width > MIN_WIDTH ? width : MIN_WIDTH;
    while (limit > MIN_WIDTH && grid_width(grid, limit) > width)
        limit--;
    for (size_t i = 0; i < grid->columns; i++) {
        if (grid->widths[i] <= limit)
            continue;
        grid->widths[i] = limit;
        for (size_t row = 0; row < grid->rows; row++)
            if (*grid_cell(grid, row, i))
                screen_cut(*grid_cell(grid, row, i), limit);
    }
}

static bool grid_rule(struct grid *grid)
{
    for (size_t i = 0; i < grid->columns; i++) {
        char *rule = malloc(grid->widths[i] + 1);
        if (!rule)
            return false;
        memset(rule, '-', grid->widths[i]);
        rule[grid->widths[i]] = 0;
        *grid_cell(grid, 1, i) = rule;
    }
    return true;
}

static bool is_right(uint32_t type)
{
    switch (type) {
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
    case TYPE_OID:
    case TYPE_XID:
    case TYPE_XID8:
    case TYPE_CID:
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
    case TYPE_MONEY:
    case TYPE_NUMERIC:
        return true;
    default:
        return false;
    }
}

/* NULL: what is neither the header nor SQL NULL has none. */
static const char *color_of(const evpq_result *page, size_t row, uint32_t column)
{
    if (row == 0)
        return BOLD;
    return row == 1 || evpq_result_is_null(page, (uint32_t)row - 2, column) ? DIM : NULL;
}

static bool grid_line(struct grid *grid, struct libscols_line *line, size_t row,
                      const evpq_result *page, bool color)
{
    for (uint32_t i = 0; i < grid->columns; i++) {
        char **cell = grid_cell(grid, row, i);
        const char *escape = color ? color_of(page, row, grid->skip + i) : NULL;
        if (scols_line_refer_data(line, i, *cell) != 0)
            return false;
        *cell = NULL; /* the line's now */
        if (escape && scols_cell_set_color(scols_line_get_cell(line, i), escape) != 0)
            return false;
    }
    return true;
}

static bool grid_print(struct grid *grid, const evpq_result *page, FILE *out, bool color)
{
    struct libscols_table *table = scols_new_table();
    if (!table)
        return false;
    /* The cells are cut to fit and safe to show: smartcols is to change nothing. */
    scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
    scols_table_enable_noencoding(table, 1);
    scols_table_enable_noheadings(table, 1);
    scols_table_enable_colors(table, color);
    scols_table_set_column_separator(table, GAP);
    scols_table_set_stream(table, out);

    bool good = true;
    for (uint32_t i = 0; i < grid->columns && good; i++) {
        uint32_t type = evpq_result_column_type(page, grid->skip + i);
        good = scols_table_new_column(table, NULL, 0, is_right(type) ? SCOLS_FL_RIGHT : 0) != NULL;
    }
    for (size_t row = 0; row < grid->rows && good; row++) {
        struct libscols_line *line = scols_table_new_line(table, NULL);
        good = line && grid_line(grid, line, row, page, color);
    }
    good = good && scols_print_table(table) == 0;
    scols_unref_table(table);
    return good;
}

/* No columns, and yet so many rows: a line for each, below the rule that psql draws too. */
static void put_nothing(FILE *out, size_t rows)
{
    fputs("\n--\n", out);
    for (size_t i = 0; i < rows; i++)
        putc_unlocked('\n', out);
}

bool output_table(FILE *out, const evpq_result *page, const struct output_how *how)
{
    uint32_t columns = evpq_result_columns(page);
    struct grid grid = {.rows = evpq_result_rows(page) + (size_t)2,
                        .columns = how->skip < columns ? columns - how->skip : 0,
                        .skip = how->skip};
    if (!how->first)
        putc_unlocked('\n', out);
    if (grid.columns == 0) {
        put_nothing(out, grid.rows - 2);
        return true;
    }

    grid.cells = calloc(grid.rows * grid.columns, sizeof *grid.cells);
    grid.widths = calloc(grid.columns, sizeof *grid.widths);
    bool good =
        grid.cells && grid.widths && grid_fill(&grid, page, how->null ? how->null : NULL_TEXT);
    if (good && how->width)
        grid_fit(&grid, how->width);
    good = good && grid_rule(&grid) && grid_print(&grid, page, out, how->color);

    for (size_t i = 0; grid.cells && i < grid.rows * grid.columns; i++)
        free(grid.cells[i]);
    free(grid.cells);
    free(grid.widths);
    return good;
}
