/* SPDX-License-Identifier: MIT */
#include "session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "screen.h"
#include "stats.h"

#define PREFETCH_BYTES ((size_t)16 * 1024 * 1024)

static void on_closed(void *user)
{
    struct session *session = user;
    session->pool = NULL;
    ev_break(session->loop, EVBREAK_ALL);
}

void session_end(struct session *session, int ending)
{
    if (session->ending < 0)
        session->ending = ending;
    evpq_scan_close(session->scan);
    evpq_pager_close(session->pager);
    session->scan = NULL;
    session->pager = NULL;
    if (session->pool)
        evpq_pool_close(session->pool, EVPQ_CLOSE_CANCEL, 0, on_closed, session);
}

int session_run(struct session *session)
{
    if (session->pool)
        ev_run(session->loop, 0);
    return session->ending;
}

static bool session_fail(struct session *session, const char *problem, int code)
{
    bool token = problem && strcmp(problem, EVPQ_TOKEN_PROBLEM) == 0;
    say_problem(problem ? problem : evpq_code_text(code));
    session_end(session, token ? END_TOKEN : END_USAGE);
    return false;
}

static bool open_pool(struct session *session)
{
    const struct options *options = session->options;
    /* Each job has a connection, and so has a count; who turns round while a page is on its way
     * does not wait until it is cleaned up. */
    uint32_t connections = options->jobs ? options->jobs : 1;
    if (options->interactive || options->prefetch)
        connections++;
    if (options->count)
        connections++;
    /* The one wait there is, for the connection, may take all of a page's time. */
    const evpq_pool_options *pool =
        EVPQ_POOL_OPTIONS(.conninfo = options->conninfo, .max_size = connections, .fail_fast = true,
                          .query_timeout_ms = options->timeout_ms,
                          .acquire_timeout_ms = options->timeout_ms);
    int code = evpq_pool_open(&session->pool, session->loop, pool);
    if (code == EVPQ_OK)
        return true;
    session->pool = NULL;
    return session_fail(session, evpq_pool_options_problem(pool), code);
}

/* The library's default for what holds a transaction. */
#define HELD_DEADLINE_MS 3600000

/* Of the whole walk; 0: none. */
static uint32_t walk_deadline_ms(const struct options *options)
{
    bool holds = options->jobs || options->mode == EVPQ_PAGES_CURSOR;
    return options->deadline_ms ? options->deadline_ms : holds ? HELD_DEADLINE_MS : 0;
}

/* What is left for a pager that takes the place of another. */
static uint32_t walk_left_ms(const struct session *session)
{
    uint32_t limit = session->options->deadline_ms;
    uint64_t passed = (now_us() - session->opened_us) / 1000;
    return passed < limit ? limit - (uint32_t)passed : limit > 0;
}

/* A page gets what the walk has left, in whole milliseconds: its timeout may come a little before
 * the walk's. */
static bool walk_is_over(const struct session *session)
{
    enum { ROUNDING_MS = 3 };
    uint64_t passed = (now_us() - session->opened_us) / 1000;
    uint32_t limit = walk_deadline_ms(session->options);
    return limit && passed + ROUNDING_MS >= limit;
}

char *session_error_text(const struct session *session, const evpq_error *err)
{
    static const char behind[] = " ms passed";
    if (err && (evpq_error_code(err) != EVPQ_ETIMEOUT || !walk_is_over(session)))
        return error_text(err, session->options);
    /* The library names what was left for the page; what follows, where it stood, is true. */
    const char *where = err ? strstr(evpq_error_message(err), behind) : NULL;
    char *text = NULL;
    if (asprintf(&text, "the walk's deadline of %u ms passed%s", walk_deadline_ms(session->options),
                 where ? where + strlen(behind) : "") < 0)
        return NULL;
    return text;
}

void session_say_error(const struct session *session, const evpq_error *err)
{
    char *text = session_error_text(session, err);
    say("%s", text ? text : "out of memory");
    free(text);
}

static evpq_pager_options pager_options(const struct session *session, uint32_t page_size,
                                        const char *after, const char *before)
{
    const struct options *options = session->options;
    return *EVPQ_PAGER_OPTIONS(.sql = options->sql, .params = options->params,
                               .params_count = options->params_count, .order_by = options->order_by,
                               .page_size = page_size, .timeout_ms = options->timeout_ms,
                               .after = after, .before = before, .columns = options->columns,
                               .walk_timeout_ms = walk_left_ms(session),
                               .secrets = options->secrets, .secrets_count = options->secrets_count,
                               .mode = options->mode, .assume_unique = options->assume_unique,
                               .require_index = options->require_index,
                               .prefetch_bytes = options->prefetch ? PREFETCH_BYTES : 0);
}

static bool open_scan(struct session *session, uint32_t page_size)
{
    const struct options *options = session->options;
    const evpq_scan_range behind = {.after = options->after};
    const evpq_scan_options *scan =
        EVPQ_SCAN_OPTIONS(.sql = options->sql, .params = options->params,
                          .params_count = options->params_count, .order_by = options->order_by,
                          .columns = options->columns, .assume_unique = options->assume_unique,
                          .secrets = options->secrets, .secrets_count = options->secrets_count,
                          .workers = options->jobs, .page_size = page_size,
                          .timeout_ms = options->timeout_ms,
                          .walk_timeout_ms = options->deadline_ms,
                          .resume = options->after ? &behind : NULL,
                          .resume_count = options->after ? 1 : 0);
    int code = evpq_scan_open(&session->scan, session->pool, scan);
    if (code == EVPQ_OK)
        return true;
    session->scan = NULL;
    return session_fail(session, evpq_scan_options_problem(scan), code);
}

bool session_open(struct session *session, uint32_t page_size)
{
    const struct options *options = session->options;
    session->ending = -1;
    if (!open_pool(session))
        return false;
    session->opened_us = now_us();
    evpq_pager_options pager = pager_options(session, page_size, options->after, options->before);
    int code = evpq_pager_open(&session->pager, session->pool, &pager);
    if (code != EVPQ_OK) {
        session->pager = NULL;
        return session_fail(session, evpq_pager_options_problem(&pager), code);
    }
    return !options->jobs || open_scan(session, page_size);
}

bool session_move(struct session *session, uint32_t page_size, const char *after,
                  const char *before)
{
    evpq_pager_options options = pager_options(session, page_size, after, before);
    evpq_pager *pager;
    if (evpq_pager_open(&pager, session->pool, &options) != EVPQ_OK)
        return false;
    evpq_pager_close(session->pager);
    session->pager = pager;
    return true;
}

bool session_is_backward(const struct session *session)
{
    return session->options->before || session->options->last;
}

int session_next(struct session *session, bool from_the_end, evpq_page_fn *on_page, void *user)
{
    if (session->scan)
        return evpq_scan_next(NULL, session->scan, on_page, user);
    if (from_the_end)
        return evpq_pager_last(NULL, session->pager, on_page, user);
    if (session_is_backward(session))
        return evpq_pager_prev(NULL, session->pager, on_page, user);
    return evpq_pager_next(NULL, session->pager, on_page, user);
}

void endings_watch(struct endings *endings, struct ev_loop *loop,
                   void (*on_signal)(struct ev_loop *loop, ev_signal *watcher, int events),
                   void *data)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        ev_signal_init(&endings->watchers[i], on_signal, numbers[i]);
        endings->watchers[i].data = data;
        ev_signal_start(loop, &endings->watchers[i]);
    }
}
