/* SPDX-License-Identifier: MIT */
#include "view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "screen.h"
#include "terminal.h"

#define HEADER_LINES 2
#define STATUS_LINES 1

#define MAX_PAGE_SIZE 10000

uint32_t view_room(void)
{
    unsigned rows = terminal_size().rows, used = HEADER_LINES + STATUS_LINES;
    if (rows <= used)
        return 1;
    return rows - used < MAX_PAGE_SIZE ? rows - used : MAX_PAGE_SIZE;
}

static size_t view_count(const struct view *view)
{
    return view->line_count > HEADER_LINES ? view->line_count - HEADER_LINES : 0;
}

/* The top from which the last row is just seen. */
static size_t view_bottom(const struct view *view)
{
    size_t room = view_room(), count = view_count(view);
    return count > room ? count - room : 0;
}

static bool split(struct view *view, char *text)
{
    size_t count = 0;
    for (const char *c = text; *c; c++)
        count += *c == '\n';
    char **lines = calloc(count ? count : 1, sizeof *lines);
    if (!lines)
        return false;
    for (size_t i = 0; i < count; i++) {
        lines[i] = text;
        text = strchr(text, '\n');
        *text++ = 0;
    }
    free(view->lines);
    view->lines = lines;
    view->line_count = count;
    return true;
}

bool view_render(struct view *view)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return false;
    const struct output_how how = {.first = true,
                                   .null = view->null,
                                   .color = view->color,
                                   .width = terminal_size().columns,
                                   .skip = view->skip};
    bool good = output_table(out, view->rows, &how);
    good = fclose(out) == 0 && good && split(view, text);
    if (!good) {
        free(text);
        return false;
    }
    free(view->text);
    view->text = text;
    if (view->top > view_bottom(view))
        view->top = view_bottom(view);
    return true;
}

bool view_set(struct view *view, evpq_result *rows, bool from_the_end)
{
    struct view next = {.rows = evpq_result_keep(rows),
                        .skip = view->skip,
                        .null = view->null,
                        .color = view->color};
    if (next.skip >= evpq_result_columns(rows))
        next.skip = 0;
    if (!view_render(&next)) {
        view_done(&next);
        return false;
    }
    if (from_the_end)
        next.top = view_bottom(&next);
    view_done(view);
    *view = next;
    return true;
}

void view_done(struct view *view)
{
    evpq_result_free(view->rows);
    free(view->lines);
    free(view->text);
    view->rows = NULL;
    view->lines = NULL;
    view->text = NULL;
    view->line_count = 0;
}

bool view_fits(const struct view *view)
{
    return view->line_count + STATUS_LINES <= terminal_size().rows;
}

bool view_scroll(struct view *view, int64_t rows)
{
    size_t top = view->top, bottom = view_bottom(view);
    if (rows < 0)
        view->top = top > (size_t)-rows ? top - (size_t)-rows : 0;
    else
        view->top = bottom - top > (size_t)rows ? top + (size_t)rows : bottom;
    return view->top != top;
}

bool view_shift(struct view *view, int columns)
{
    uint32_t skip = view->skip, count = evpq_result_columns(view->rows);
    if (columns < 0 ? skip == 0 : skip + 1 >= count)
        return false;
    view->skip = columns < 0 ? skip - 1 : skip + 1;
    if (view_render(view))
        return true;
    view->skip = skip;
    return false;
}

bool view_rows(const struct view *view, uint64_t *first, uint64_t *last)
{
    size_t room = view_room(), left = view_count(view) - view->top;
    *first = view->top;
    *last = view->top + (left < room ? left : room) - 1;
    return left > 0;
}

/* Erases first: behind a line as wide as the terminal its last character would be erased. */
static void put_line(FILE *out, const char *line, unsigned columns)
{
    fputs("\033[K", out);
    screen_put(out, line, columns);
    fputs("\033[0m\r\n", out);
}

/* Left and right on one line; of the right ones the first that there is room for. */
static void put_status(FILE *out, const char *left, const char *const *rights,
                       struct terminal_size size)
{
    char *text = screen_text(left, strlen(left), false);
    fprintf(out, "\033[%u;1H\033[7m", size.rows);
    if (text) {
        screen_cut(text, size.columns);
        size_t used = screen_width(text);
        while (*rights && used + screen_width(*rights) > size.columns)
            rights++;
        const char *right = *rights ? *rights : "";
        fprintf(out, "%s%*s%s", text, (int)(size.columns - used - screen_width(right)), "", right);
        free(text);
    }
    fputs("\033[0m", out);
}

static void send(FILE *out, char **text, const size_t *size)
{
    if (fclose(out) == 0)
        terminal_write(*text, *size);
    free(*text);
}

void view_draw(const struct view *view, const char *const *instead, const char *left,
               const char *const *rights)
{
    struct terminal_size size = terminal_size();
    char *text = NULL;
    size_t length, used = 0, most = size.rows > STATUS_LINES ? size.rows - STATUS_LINES : 0;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        return;
    fputs("\033[H", out);
    for (; instead && instead[used] && used < most; used++)
        put_line(out, instead[used], size.columns);
    for (; !instead && used < HEADER_LINES && used < view->line_count && used < most; used++)
        put_line(out, view->lines[used], size.columns);
    for (size_t row = view->top; !instead && row < view_count(view) && used < most; row++, used++)
        put_line(out, view->lines[HEADER_LINES + row], size.columns);
    fputs("\033[J", out);
    put_status(out, left, rights, size);
    send(out, &text, &length);
}

void view_draw_status(const char *left, const char *const *rights)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (!out)
        return;
    put_status(out, left, rights, terminal_size());
    send(out, &text, &length);
}
