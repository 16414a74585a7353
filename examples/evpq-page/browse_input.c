/* SPDX-License-Identifier: MIT */
#include "browse_parts.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "screen.h"
#include "terminal.h"

/* ---- keys ---- */

static void obey(struct browse *browse, enum command command)
{
    struct view *view = &browse->view;
    int64_t screen = view_room();
    bool seen = true; /* there is something to draw */
    switch (command) {
    case COMMAND_SCREEN_DOWN:
        if (!view_scroll(view, screen))
            browse_go(browse, MOVE_NEXT);
        break;
    case COMMAND_SCREEN_UP:
        if (!view_scroll(view, -screen)) {
            browse_go(browse, MOVE_PREV);
            browse->up = true;
        }
        break;
    case COMMAND_NEXT:
        browse_go(browse, MOVE_NEXT);
        break;
    case COMMAND_PREV:
        browse_go(browse, MOVE_PREV);
        break;
    case COMMAND_FIRST:
        browse_go(browse, MOVE_FIRST);
        break;
    case COMMAND_LAST:
        browse_go(browse, MOVE_LAST);
        break;
    case COMMAND_AGAIN:
        browse_go(browse, browse->move);
        break;
    case COMMAND_ROW_DOWN:
        seen = view_scroll(view, 1);
        break;
    case COMMAND_ROW_UP:
        seen = view_scroll(view, -1);
        break;
    case COMMAND_COLUMN_LEFT:
        seen = view_shift(view, -1);
        break;
    case COMMAND_COLUMN_RIGHT:
        seen = view_shift(view, 1);
        break;
    case COMMAND_HELP:
        browse->state = BROWSE_HELP;
        break;
    case COMMAND_QUIT:
        browse_end(browse, END_COMPLETE);
        return;
    case COMMAND_REDRAW:
        break;
    case COMMAND_NONE:
        seen = false;
        break;
    }
    if (seen && browse->state != BROWSE_WAITING)
        browse_draw(browse);
}

void browse_obey(struct browse *browse)
{
    enum command command;
    bool waits = browse->state == BROWSE_WAITING || browse->state == BROWSE_OPENING;
    if (waits && keys_find(&browse->keys, COMMAND_QUIT)) {
        browse_end(browse, END_COMPLETE);
        return;
    }
    while ((browse->state == BROWSE_SHOWING || browse->state == BROWSE_HELP) &&
           keys_next(&browse->keys, &command)) {
        bool message = *browse->message != 0;
        *browse->message = 0;
        if (browse->state == BROWSE_HELP && command != COMMAND_QUIT) {
            browse->state = BROWSE_SHOWING;
            command = COMMAND_REDRAW;
        }
        if (command == COMMAND_NONE && message)
            command = COMMAND_REDRAW;
        obey(browse, command);
    }
}

static void on_input(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop, (void)events;
    struct browse *browse = watcher->data;
    if (keys_read(&browse->keys, watcher->fd))
        browse_obey(browse);
    else
        browse_end(browse, END_SIGNAL + SIGHUP);
}

/* ---- signals ---- */

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    struct browse *browse = watcher->data;
    if (browse->state == BROWSE_ENDING) /* impatient: what is left is only to end politely */
        _exit(END_SIGNAL + watcher->signum);
    if (watcher->signum == SIGINT && browse->state == BROWSE_WAITING) {
        evpq_op_cancel(browse->op);
        return;
    }
    browse_end(browse, END_SIGNAL + watcher->signum);
}

/* In the foreground: the terminal may have been anybody's in between. */
static void take_terminal(struct browse *browse)
{
    ev_timer_stop(browse->session.loop, &browse->behind_others);
    terminal_raw();
    ev_io_start(browse->session.loop, &browse->input);
    if (browse->state == BROWSE_OPENING)
        return;
    terminal_full();
    view_render(&browse->view);
    browse_draw(browse);
}

static void leave_terminal(struct browse *browse)
{
    ev_io_stop(browse->session.loop, &browse->input);
    terminal_restore();
}

static void come_back(struct browse *browse)
{
    if (terminal_in_front())
        take_terminal(browse);
    else
        ev_timer_again(browse->session.loop, &browse->behind_others);
}

static void on_suspend(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)events;
    struct browse *browse = watcher->data;
    if (browse->state == BROWSE_ENDING)
        return;
    leave_terminal(browse);
    ev_signal_stop(loop, watcher);
    raise(SIGTSTP); /* returns when we go on, or at once where no shell could make us */
    ev_signal_start(loop, watcher);
    come_back(browse);
}

static void on_resume(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    struct browse *browse = watcher->data;
    if (browse->state == BROWSE_ENDING)
        return;
    leave_terminal(browse); /* a shell has changed it, when we were stopped by SIGSTOP */
    come_back(browse);
}

/* A shell that brings back what runs in the background tells nobody. */
static void on_look(struct ev_loop *loop, ev_timer *timer, int events)
{
    (void)loop, (void)events;
    struct browse *browse = timer->data;
    if (terminal_in_front())
        take_terminal(browse);
}

static void on_resize(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop, (void)events;
    struct browse *browse = watcher->data;
    if (browse->state != BROWSE_OPENING && browse->state != BROWSE_ENDING &&
        view_render(&browse->view))
        browse_draw(browse);
}

static void watch_signal(struct browse *browse, ev_signal *watcher, int number,
                         void (*on_it)(struct ev_loop *, ev_signal *, int))
{
    ev_signal_init(watcher, on_it, number);
    watcher->data = browse;
    ev_signal_start(browse->session.loop, watcher);
}

void browse_watch(struct browse *browse)
{
    endings_watch(&browse->endings, browse->session.loop, on_signal, browse);
    watch_signal(browse, &browse->suspend, SIGTSTP, on_suspend);
    watch_signal(browse, &browse->resume, SIGCONT, on_resume);
    watch_signal(browse, &browse->resize, SIGWINCH, on_resize);
    ev_init(&browse->behind_others, on_look);
    browse->behind_others.repeat = 0.3;
    browse->behind_others.data = browse;
    ev_io_init(&browse->input, on_input, STDIN_FILENO, EV_READ);
    browse->input.data = browse;
    ev_io_start(browse->session.loop, &browse->input);
}

void browse_unwatch(struct browse *browse)
{
    ev_io_stop(browse->session.loop, &browse->input);
    ev_timer_stop(browse->session.loop, &browse->behind_others);
}
