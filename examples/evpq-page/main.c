/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ev.h>
#include <evpq/evpq.h>

#include "options.h"
#include "progress.h"
#include "screen.h"

/*
 * One run: pages are asked for one after another, each when the one before is
 * written, so that a reader who takes his time costs no page its deadline.
 */
struct walk {
    const struct options *options;
    struct ev_loop *loop;
    evpq_pool *pool;
    evpq_pager *pager;
    struct progress progress;
    ev_signal signals[3]; /* SIGINT, SIGTERM, SIGHUP */
    uint64_t pages;       /* written */
    int ending;           /* -1: still walking */
};

static void on_closed(void *user)
{
    struct walk *walk = user;
    ev_break(walk->loop, EVBREAK_ALL);
}

static void walk_end(struct walk *walk, int ending)
{
    walk->ending = ending;
    evpq_pager_close(walk->pager);
    evpq_pool_close(walk->pool, EVPQ_CLOSE_CANCEL, 0, on_closed, walk);
}

static bool is_backward(const struct walk *walk)
{
    return walk->options->before || walk->options->last;
}

static void say_token(const struct walk *walk, const char *what)
{
    bool backward = is_backward(walk);
    const char *token =
        backward ? evpq_pager_token_before(walk->pager) : evpq_pager_token(walk->pager);
    if (!token && walk->pages == 0)
        token = backward ? walk->options->before : walk->options->after;
    if (token)
        say("%s with --%s %s", what, backward ? "before" : "after", token);
    else if (walk->pages == 0)
        say("no page was complete: there is nothing to resume");
    else
        say("no token to go on with: the order columns of the last row are too long");
}

static void say_error(const evpq_error *err)
{
    const char *severity = evpq_error_severity(err); /* only the server's own errors have one */
    const char *detail = evpq_error_detail(err);
    const char *hint = evpq_error_hint(err);
    say("%s%s%s%s%s%s%s%s%s", severity, *severity ? " " : "",
        *severity ? evpq_error_sqlstate(err) : "", *severity ? ": " : "", evpq_error_message(err),
        *detail ? "\nDETAIL: " : "", detail, *hint ? "\nHINT: " : "", hint);
}

static int ending_of(int code)
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

static void walk_fail(struct walk *walk, const evpq_error *err)
{
    int ending = ending_of(evpq_error_code(err));
    progress_end(&walk->progress);
    say_error(err);
    if (walk->pages || walk->options->after || walk->options->before || ending == END_DEADLINE)
        say_token(walk, "resume");
    walk_end(walk, ending);
}

/* False: the walk has ended. */
static bool walk_write(struct walk *walk, const evpq_page *page)
{
    progress_hide(&walk->progress);
    errno = 0;
    const struct output_how how = {.first = walk->pages == 0,
                                   .resumed = walk->options->after || walk->options->before,
                                   .null = walk->options->null};
    bool room = walk->options->output(stdout, evpq_page_result(page), &how);
    if (room && fflush(stdout) == 0 && !ferror(stdout)) {
        walk->pages++;
        progress_add(&walk->progress, evpq_page_rows(page));
        return true;
    }
    bool closed = errno == EPIPE;
    const char *problem = strerror(room ? errno : ENOMEM);
    progress_end(&walk->progress);
    if (!closed)
        say("cannot write: %s", problem);
    walk_end(walk, closed ? END_PIPE : END_USAGE);
    return false;
}

static void on_page(evpq_page *page, const evpq_error *err, void *user);

static void walk_next(struct walk *walk)
{
    bool from_the_end = walk->options->last && walk->pages == 0;
    int code = from_the_end        ? evpq_pager_last(NULL, walk->pager, on_page, walk)
               : is_backward(walk) ? evpq_pager_prev(NULL, walk->pager, on_page, walk)
                                   : evpq_pager_next(NULL, walk->pager, on_page, walk);
    if (code == EVPQ_OK)
        return;
    progress_end(&walk->progress);
    say("%s", code == EVPQ_ETIMEOUT ? "the deadline of the walk passed" : evpq_code_text(code));
    if (code == EVPQ_ETIMEOUT)
        say_token(walk, "resume");
    walk_end(walk, ending_of(code));
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct walk *walk = user;
    if (walk->ending >= 0)
        return;
    if (err) {
        walk_fail(walk, err);
        return;
    }
    if (!walk_write(walk, page))
        return;

    bool more = is_backward(walk) ? evpq_page_has_prev(page) : evpq_page_has_next(page);
    if (more && walk->pages != walk->options->pages) {
        walk_next(walk);
        return;
    }
    progress_end(&walk->progress);
    if (more)
        say_token(walk, "more rows: continue");
    walk_end(walk, END_COMPLETE);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    struct walk *walk = watcher->data;
    int ending = END_SIGNAL + watcher->signum;
    if (walk->ending >= 0) /* impatient: what is left is only to end politely */
        _exit(ending);
    progress_end(&walk->progress);
    say(watcher->signum == SIGINT ? "interrupted" : "terminated");
    say_token(walk, "resume");
    walk_end(walk, ending);
}

static void watch_signals(struct walk *walk)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        ev_signal_init(&walk->signals[i], on_signal, numbers[i]);
        walk->signals[i].data = walk;
        ev_signal_start(walk->loop, &walk->signals[i]);
    }
}

static int open_pool(struct walk *walk)
{
    const struct options *options = walk->options;
    /* The one wait there is, for the connection, may take all of a page's time. */
    const evpq_pool_options *pool =
        EVPQ_POOL_OPTIONS(.conninfo = options->conninfo, .max_size = 1, .fail_fast = true,
                          .query_timeout_ms = options->timeout_ms,
                          .acquire_timeout_ms = options->timeout_ms);
    int code = evpq_pool_open(&walk->pool, walk->loop, pool);
    if (code == EVPQ_OK)
        return -1;
    const char *problem = evpq_pool_options_problem(pool);
    say("%s", problem ? problem : evpq_code_text(code));
    return END_USAGE;
}

/* In the words of the command line, where the library has its own. */
static void say_problem(const char *problem)
{
    static const char *const words[][2] = {{"order_by", "--order-by"}, {"columns", "--columns"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i][0]);
        if (strncmp(problem, words[i][0], length) == 0) {
            say("%s%s", words[i][1], problem + length);
            return;
        }
    }
    say("%s", problem);
}

static int open_pager(struct walk *walk)
{
    const struct options *options = walk->options;
    const evpq_pager_options *pager =
        EVPQ_PAGER_OPTIONS(.sql = options->sql, .order_by = options->order_by,
                           .page_size = options->page_size, .timeout_ms = options->timeout_ms,
                           .after = options->after, .before = options->before,
                           .columns = options->columns, .params = options->params,
                           .params_count = options->params_count,
                           .walk_timeout_ms = options->deadline_ms, .secrets = &options->secret,
                           .secrets_count = options->secret.length ? 1 : 0);
    int code = evpq_pager_open(&walk->pager, walk->pool, pager);
    if (code == EVPQ_OK)
        return -1;
    const char *problem = evpq_pager_options_problem(pager);
    say_problem(problem ? problem : evpq_code_text(code));
    return problem && strcmp(problem, EVPQ_TOKEN_PROBLEM) == 0 ? END_TOKEN : END_USAGE;
}

static int walk_run(struct walk *walk)
{
    int failed = open_pool(walk);
    if (failed >= 0)
        return failed;
    failed = open_pager(walk);
    if (failed >= 0) {
        walk_end(walk, failed);
    } else {
        if (evpq_pager_mode(walk->pager) == EVPQ_PAGES_OFFSET && !walk->options->last)
            say("no --order-by: offset pages, slow when deep, inexact when rows change");
        if (walk->options->progress)
            progress_start(&walk->progress, walk->loop);
        walk_next(walk);
    }
    ev_run(walk->loop, 0);
    if (walk->options->output == output_json && walk->ending != END_PIPE)
        output_json_end(stdout, walk->pages > 0);
    return walk->ending;
}

/* A socket must not get the number of a standard stream that was closed: rows would go to it. */
static void guard_standard_streams(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0 && fd <= STDERR_FILENO)
        ;
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    static char buffer[256 * 1024];
    mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024); /* each page needs the memory of the one before */
    guard_standard_streams();
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    screen_init();

    struct options options;
    int ending = options_read(&options, argc, argv);
    if (ending < 0) {
        struct walk walk = {.options = &options, .loop = ev_default_loop(0), .ending = -1};
        signal(SIGPIPE, SIG_IGN); /* write() fails instead, and we end in order */
        setenv("PGAPPNAME", "evpq-page", 0);
        watch_signals(&walk);
        ending = walk_run(&walk);
    }
    options_done(&options);
    return ending;
}
