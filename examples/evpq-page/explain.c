/* SPDX-License-Identifier: MIT */
#include "explain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "screen.h"
#include "session.h"

/* What makes a page read more rows than it has, by how its line of the plan begins (PostgreSQL
 * manual, "Using EXPLAIN"). */
static const struct sign {
    const char *begins, *warning;
} signs[] = {
    {"Sort  (", "the plan sorts: each page reads all rows; an index over the order would serve"},
    {"Incremental Sort  (",
     "the plan sorts in part: each page reads all rows that are equal in"
     " the first order columns"},
    {"Filter: ", "the plan filters: a page reads rows that it does not show, until it is full"},
    {"Join Filter: ", "the plan filters a join: a page reads rows that it does not show"},
    {"Rows Removed by ", NULL}, /* the line says it */
};

static void warn(const struct sign *sign, const char *line, size_t length)
{
    if (sign->warning)
        say("warning: %s", sign->warning);
    say("%s%.*s", sign->warning ? "  " : "warning: ", (int)length, line);
}

static void look_at(const char *plan)
{
    bool told[sizeof signs / sizeof *signs] = {false};
    while (*plan) {
        plan += strspn(plan, " ");
        if (strncmp(plan, "->  ", 4) == 0)
            plan += 4;
        size_t length = strcspn(plan, "\n");
        for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
            if (!told[i] && strncmp(plan, signs[i].begins, strlen(signs[i].begins)) == 0) {
                warn(&signs[i], plan, length);
                told[i] = true;
            }
        }
        plan += length + (plan[length] == '\n');
    }
}

static void put_text(const char *text)
{
    char *shown = screen_text(text, strlen(text), true);
    puts(shown ? shown : "out of memory");
    free(shown);
}

static void on_explained(const evpq_explanation *explanation, const evpq_error *err, void *user)
{
    struct session *session = user;
    if (session->ending >= 0)
        return;
    if (err) {
        session_say_error(session, err);
        session_end(session, ending_of_error(err));
        return;
    }
    put_text(explanation->statement);
    putchar('\n');
    put_text(explanation->plan);
    if (fflush(stdout) != 0) {
        bool closed = errno == EPIPE;
        if (!closed)
            say("cannot write: %s", strerror(errno));
        session_end(session, closed ? END_PIPE : END_USAGE);
        return;
    }
    look_at(explanation->plan);
    session_end(session, END_COMPLETE);
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    session_end(watcher->data, END_SIGNAL + watcher->signum);
}

int explain_run(const struct options *options, struct ev_loop *loop)
{
    struct session session = {.options = options, .loop = loop};
    struct endings endings;
    endings_watch(&endings, loop, on_signal, &session);
    if (session_open(&session, options->page_size)) {
        unsigned flags = options->explain == EXPLAIN_ANALYZE ? EVPQ_EXPLAIN_ANALYZE : 0;
        int code = evpq_pager_explain(NULL, session.pager, flags, on_explained, &session);
        if (code != EVPQ_OK) {
            say("%s", evpq_code_text(code));
            session_end(&session, ending_of(code));
        }
    }
    return session_run(&session);
}
