/* SPDX-License-Identifier: MIT */
#include "browse.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "browse_parts.h"
#include "place.h"
#include "report.h"
#include "screen.h"
#include "terminal.h"

#define WAITING_AFTER 0.3 /* seconds; what comes sooner needs no words */
#define WAITING_EVERY 0.1

void browse_end(struct browse *browse, int ending)
{
    const struct options *options = browse->session.options;
    bool opening = browse->state == BROWSE_OPENING;
    browse->state = BROWSE_ENDING;
    browse_unwatch(browse);
    ev_timer_stop(browse->session.loop, &browse->waiting);
    if (opening)
        terminal_write("\r\033[K", 4);
    terminal_restore();
    if (ending > END_SIGNAL)
        say(ending == END_SIGNAL + SIGINT ? "interrupted" : "terminated");
    if (*browse->behind && browse->position.has_next)
        say("%s with --after %s", ending > END_SIGNAL ? "resume" : "more rows: continue",
            browse->behind);
    count_say(&browse->count);
    if (options->stats)
        stats_say(&browse->stats);
    session_end(&browse->session, ending);
}

static void keep_token(char *kept, size_t size, const char *token)
{
    size_t length = token ? strlen(token) : 0;
    if (length >= size)
        length = 0;
    if (length)
        memcpy(kept, token, length);
    kept[length] = 0;
}

/* All there is, and it fits: as `less -F` does. */
static bool is_all(const struct browse *browse)
{
    return !browse->position.has_next && !browse->position.has_prev && view_fits(&browse->view);
}

static void print_all(struct browse *browse, evpq_result *rows)
{
    const struct options *options = browse->session.options;
    const struct output_how how = {.first = true,
                                   .null = options->null,
                                   .color = options->color,
                                   .width = terminal_size().columns};
    terminal_write("\r\033[K", 4);
    terminal_restore();
    bool good = output_table(stdout, rows, &how) && fflush(stdout) == 0;
    browse_end(browse, good ? END_COMPLETE : END_USAGE);
}

/* The page is there, or there is none in this direction. */
static void take_page(struct browse *browse, evpq_page *page)
{
    static const char *const ends[] = {[MOVE_NEXT] = "no rows behind this page",
                                       [MOVE_PREV] = "no rows before this page",
                                       [MOVE_FIRST] = "no rows any more",
                                       [MOVE_LAST] = "no rows any more"};
    const struct options *options = browse->session.options;
    bool opening = browse->state == BROWSE_OPENING;
    stats_add(&browse->stats, evpq_page_rows(page));
    browse->moved = false;
    browse->state = BROWSE_SHOWING;
    if (!opening && evpq_page_rows(page) == 0) {
        snprintf(browse->message, sizeof browse->message, "%s", ends[browse->move]);
        if (browse->move == MOVE_NEXT)
            browse->position.has_next = false;
        return;
    }
    if (!view_set(&browse->view, evpq_page_result(page), browse->up)) {
        snprintf(browse->message, sizeof browse->message, "out of memory");
        return;
    }
    position_move(&browse->position, browse->move, opening && (options->after || options->before),
                  page);
    keep_token(browse->behind, sizeof browse->behind, evpq_page_token(page));
    keep_token(browse->before, sizeof browse->before, evpq_page_token_before(page));
    if (!opening)
        return;
    if (is_all(browse)) {
        browse->state = BROWSE_OPENING;
        print_all(browse, evpq_page_result(page));
        return;
    }
    terminal_write("\r\033[K", 4);
    terminal_full();
}

static void take_error(struct browse *browse, const evpq_error *err)
{
    int code = evpq_error_code(err);
    if (browse->state == BROWSE_OPENING) {
        terminal_write("\r\033[K", 4);
        terminal_restore();
        session_say_error(&browse->session, err);
        browse_end(browse, ending_of_error(err));
        return;
    }
    browse->state = BROWSE_SHOWING;
    browse->keys.length = 0; /* they were pressed for pages behind this one */
    if (code == EVPQ_ECANCELED) {
        snprintf(browse->message, sizeof browse->message, "stopped; r tries again");
        return;
    }
    char *text = session_error_text(&browse->session, err);
    snprintf(browse->message, sizeof browse->message, "failed, r tries again: %.*s",
             text ? (int)strcspn(text, "\n") : 13, text ? text : "out of memory");
    free(text);
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct browse *browse = user;
    browse->op = NULL;
    if (browse->state == BROWSE_ENDING)
        return;
    ev_timer_stop(browse->session.loop, &browse->waiting);
    if (err)
        take_error(browse, err);
    else
        take_page(browse, page);
    browse->up = false;
    browse_draw(browse);
    browse_obey(browse);
}

/* A pager for the terminal as it is now, and one that stands where the page is that is seen. */
static void refit(struct browse *browse, enum move move)
{
    uint32_t size = browse->session.options->page_size ? browse->page_size : view_room();
    const char *after = move == MOVE_NEXT ? browse->behind : NULL;
    const char *before = move == MOVE_PREV ? browse->before : NULL;
    if (browse->state == BROWSE_OPENING || (size == browse->page_size && !browse->moved) ||
        (after && !*after) || (before && !*before) ||
        !session_move(&browse->session, size, after, before))
        return;
    browse->page_size = size;
    browse->moved = true;
}

void browse_go(struct browse *browse, enum move move)
{
    static int (*const calls[])(evpq_op **, evpq_pager *, evpq_page_fn *,
                                void *) = {[MOVE_NEXT] = evpq_pager_next,
                                           [MOVE_PREV] = evpq_pager_prev,
                                           [MOVE_FIRST] = evpq_pager_first,
                                           [MOVE_LAST] = evpq_pager_last};
    refit(browse, move);
    stats_ask(&browse->stats);
    int code = calls[move](&browse->op, browse->session.pager, on_page, browse);
    if (code == EVPQ_OK) {
        browse->move = move;
        if (browse->state != BROWSE_OPENING)
            browse->state = BROWSE_WAITING;
        browse->waiting.repeat = WAITING_AFTER;
        ev_timer_again(browse->session.loop, &browse->waiting);
        return;
    }
    const char *problem = evpq_code_text(code);
    char *deadline = NULL;
    if (code == EVPQ_EINVALID)
        problem = "offset pages have no last one";
    else if (code == EVPQ_ETIMEOUT)
        problem = (deadline = session_error_text(&browse->session, NULL));
    else if (code == EVPQ_ECLOSED)
        problem = "the transaction of the cursor is over";
    snprintf(browse->message, sizeof browse->message, "%s", problem ? problem : "out of memory");
    free(deadline);
    if (browse->state == BROWSE_OPENING) {
        say("%s", browse->message);
        browse_end(browse, ending_of(code));
    }
}

static void on_waiting(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)events;
    timer->repeat = WAITING_EVERY;
    ev_timer_again(loop, timer);
    browse_draw_waiting(timer->data);
}

static void on_counted(void *user)
{
    struct browse *browse = user;
    if (browse->state == BROWSE_SHOWING)
        browse_draw(browse);
}

static void browse_begin(struct browse *browse)
{
    const struct options *options = browse->session.options;
    ev_init(&browse->waiting, on_waiting);
    browse->waiting.data = browse;
    if (evpq_pager_mode(browse->session.pager) == EVPQ_PAGES_OFFSET &&
        options->mode == EVPQ_PAGES_DEFAULT)
        say_offset();
    count_start(&browse->count, options, browse->session.pager, on_counted, browse);
    browse_go(browse, options->last ? MOVE_LAST : options->before ? MOVE_PREV : MOVE_NEXT);
}

int browse_run(const struct options *options, struct ev_loop *loop)
{
    struct browse *browse = calloc(1, sizeof *browse);
    if (!browse)
        return END_USAGE;
    browse->session = (struct session){.options = options, .loop = loop};
    browse->view.null = options->null;
    browse->view.color = options->color;
    browse->page_size = options->page_size ? options->page_size : view_room();
    terminal_raw();
    if (session_open(&browse->session, browse->page_size)) {
        browse_watch(browse);
        browse_begin(browse);
    } else {
        terminal_restore();
    }
    int ending = session_run(&browse->session);
    terminal_restore();
    view_done(&browse->view);
    count_done(&browse->count);
    free(browse);
    return ending;
}
