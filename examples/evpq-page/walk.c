/* SPDX-License-Identifier: MIT */
#include "walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "count.h"
#include "place.h"
#include "progress.h"
#include "report.h"
#include "screen.h"
#include "session.h"
#include "shape.h"
#include "stats.h"
#include "token_file.h"

/*
 * Pages are asked for one after another, each when the one before is written,
 * so that a reader who takes his time costs no page its deadline. With
 * --prefetch the library asks for the next one when a page has come, and sends
 * that behind on_page: writing then waits for another turn of the loop.
 */
struct walk {
    struct session session;
    struct progress progress;
    struct count count;
    struct stats stats;
    evpq_limiter *limiter; /* of --rate, or NULL */
    struct token_file token_file;
    struct place place; /* behind what was written */
    struct shape shape;
    struct endings endings;
    uint64_t pages;      /* written */
    bool complete;       /* nothing more to write: only the count is waited for */
    evpq_result *rows;   /* of the page to write, kept; NULL: there is none */
    struct place behind; /* where the walk stands when it is written */
    bool more;           /* others come behind it */
    ev_timer turn;       /* runs in another turn of the loop */
};

static void walk_end(struct walk *walk, int ending)
{
    progress_end(&walk->progress);
    if (ending == END_COMPLETE)
        count_say(&walk->count);
    if (walk->session.options->stats)
        stats_say(&walk->stats);
    evpq_limiter_close(walk->limiter);
    walk->limiter = NULL;
    ev_timer_stop(walk->session.loop, &walk->turn);
    session_end(&walk->session, ending);
}

static void walk_fail(struct walk *walk, int ending)
{
    const struct options *options = walk->session.options;
    if (walk->pages || options->after || options->before || ending == END_DEADLINE)
        place_say(&walk->place, "resume", walk->pages > 0);
    walk_end(walk, ending);
}

/* Whether the walk can get past an error by its last token. Not when that has just failed so and
 * nothing has passed since, nor when the statement does not fit its tables any more. */
static bool is_passable(const struct walk *walk, const evpq_error *err)
{
    const char *state = evpq_error_sqlstate(err);
    bool misfit = (strncmp(state, "42", 2) == 0 && strcmp(state, "42501") != 0) || /* privilege */
                  ending_of_error(err) == END_TOKEN;
    bool again = evpq_error_code(err) == EVPQ_ESERVER && walk->pages == 0;
    return !(misfit || again) || evpq_error_retry_safe(err);
}

static void on_counted(void *user)
{
    struct walk *walk = user;
    if (walk->complete)
        walk_end(walk, END_COMPLETE);
}

/* All is written that was to be. */
static void walk_finish(struct walk *walk, bool more)
{
    progress_end(&walk->progress);
    if (more)
        place_say(&walk->place, "more rows: continue", true);
    walk->complete = true;
    if (walk->count.state != COUNT_ASKED)
        walk_end(walk, END_COMPLETE);
}

static bool walk_write_failed(struct walk *walk, const char *problem)
{
    bool closed = errno == EPIPE;
    progress_end(&walk->progress);
    if (!closed)
        say("cannot write: %s", problem);
    walk_end(walk, closed ? END_PIPE : END_USAGE);
    return false;
}

static size_t terminal_width(void)
{
    struct winsize terminal;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &terminal) == 0 ? terminal.ws_col : 0;
}

/* False: the walk has ended. */
static bool walk_write(struct walk *walk)
{
    const struct options *options = walk->session.options;
    const evpq_result *rows = walk->rows;
    if (!shape_keep(&walk->shape, rows, options->output)) {
        say("the columns of the statement have changed since the first page");
        walk_fail(walk, END_USAGE);
        return false;
    }
    progress_hide(&walk->progress);
    const struct output_how how = {.first = walk->pages == 0,
                                   .resumed = options->after || options->before,
                                   .continued = options->continued,
                                   .null = options->null,
                                   .color = options->color,
                                   .width = terminal_width()};
    errno = 0;
    if (!options->output(stdout, rows, &how)) {
        errno = ENOMEM;
        return walk_write_failed(walk, strerror(ENOMEM));
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return walk_write_failed(walk, strerror(errno));

    walk->pages++;
    walk->place = walk->behind;
    progress_add(&walk->progress, evpq_result_rows(rows));
    if ((*walk->place.token || evpq_result_rows(rows)) &&
        !token_file_write(&walk->token_file, *walk->place.token ? walk->place.token : NULL)) {
        walk_fail(walk, END_USAGE);
        return false;
    }
    return true;
}

static void on_page(evpq_page *page, const evpq_error *err, void *user);

static void walk_ask(struct walk *walk)
{
    const struct options *options = walk->session.options;
    stats_ask(&walk->stats);
    int code = session_next(&walk->session, options->last && walk->pages == 0, on_page, walk);
    if (code == EVPQ_OK)
        return;
    progress_end(&walk->progress);
    if (code == EVPQ_ETIMEOUT)
        session_say_error(&walk->session, NULL);
    else
        say("%s", evpq_code_text(code));
    walk_fail(walk, ending_of(code));
}

static void on_admitted(const evpq_error *err, void *user)
{
    struct walk *walk = user;
    if (!err && walk->session.ending < 0)
        walk_ask(walk);
}

/* As soon as --rate allows. */
static void walk_next(struct walk *walk)
{
    if (!walk->limiter) {
        walk_ask(walk);
        return;
    }
    int code = evpq_limiter_wait(NULL, walk->limiter, 1, EVPQ_NEVER, on_admitted, walk);
    if (code == EVPQ_OK)
        return;
    progress_end(&walk->progress);
    say("%s", evpq_code_text(code));
    walk_fail(walk, END_USAGE);
}

/* Writes the page that was taken, and asks for the next one. */
static void walk_go_on(struct walk *walk)
{
    const struct options *options = walk->session.options;
    bool written = walk_write(walk);
    evpq_result_free(walk->rows);
    walk->rows = NULL;
    if (!written)
        return;
    bool enough = options->pages && walk->pages == options->pages;
    if (walk->more && (!enough || walk->session.scan))
        walk_next(walk);
    else
        walk_finish(walk, walk->more);
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    walk_go_on(timer->data);
}

static void walk_take(struct walk *walk, evpq_page *page)
{
    bool backward = session_is_backward(&walk->session);
    walk->rows = evpq_result_keep(evpq_page_result(page));
    walk->more = backward ? evpq_page_has_prev(page) : evpq_page_has_next(page);
    walk->behind = walk->place;
    place_set(&walk->behind, page);
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct walk *walk = user;
    if (walk->session.ending >= 0)
        return;
    if (err) {
        progress_end(&walk->progress);
        session_say_error(&walk->session, err);
        if (is_passable(walk, err))
            walk_fail(walk, ending_of_error(err));
        else
            walk_end(walk, ending_of_error(err));
        return;
    }
    const struct options *options = walk->session.options;
    bool scan_over = walk->session.scan && evpq_page_rows(page) == 0;
    if (scan_over && walk->pages > 0) {
        walk_finish(walk, false);
        return;
    }
    if (options->pages &&
        walk->pages == options->pages) { /* of a scan: looked whether it is over */
        walk_finish(walk, true);
        return;
    }
    stats_add(&walk->stats, evpq_page_rows(page));
    walk_take(walk, page);
    if (scan_over)
        walk->more = false;
    if (options->prefetch)
        ev_timer_start(walk->session.loop, &walk->turn);
    else
        walk_go_on(walk);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    struct walk *walk = watcher->data;
    int ending = END_SIGNAL + watcher->signum;
    if (walk->session.ending >= 0) /* impatient: what is left is only to end politely */
        _exit(ending);
    progress_end(&walk->progress);
    say(watcher->signum == SIGINT ? "interrupted" : "terminated");
    place_say(&walk->place, "resume", walk->pages > 0);
    walk_end(walk, ending);
}

static void walk_begin(struct walk *walk)
{
    const struct options *options = walk->session.options;
    evpq_page_mode mode = evpq_pager_mode(walk->session.pager);
    if (mode == EVPQ_PAGES_OFFSET && options->mode == EVPQ_PAGES_DEFAULT)
        say_offset();
    place_begin(&walk->place, options, mode);
    ev_timer_init(&walk->turn, on_turn, 0, 0);
    walk->turn.data = walk;
    if (options->progress)
        progress_start(&walk->progress, walk->session.loop, &walk->count, options);
    if (options->rate &&
        evpq_limiter_open(&walk->limiter, walk->session.loop,
                          EVPQ_LIMITER_OPTIONS(.limit = options->rate,
                                               .window_ms = options->rate_ms)) != EVPQ_OK) {
        say("out of memory");
        walk_end(walk, END_USAGE);
        return;
    }
    count_start(&walk->count, options, walk->session.pager, on_counted, walk);
    walk_next(walk);
}

int walk_run(const struct options *options, struct ev_loop *loop)
{
    struct walk *walk = calloc(1, sizeof *walk);
    if (!walk || !token_file_open(&walk->token_file, options->token_out, options->format)) {
        free(walk);
        return END_USAGE;
    }
    walk->session = (struct session){.options = options, .loop = loop};
    endings_watch(&walk->endings, loop, on_signal, walk);
    if (session_open(&walk->session, options->page_size))
        walk_begin(walk);
    int ending = session_run(&walk->session);
    bool begun = walk->pages > 0 || options->continued;
    if (options->output == output_json && begun && ending != END_PIPE) {
        output_json_end(stdout);
        if (fflush(stdout) != 0 && ending == END_COMPLETE)
            ending = END_USAGE;
    }
    evpq_result_free(walk->rows);
    token_file_close(&walk->token_file);
    count_done(&walk->count);
    free(walk);
    return ending;
}
