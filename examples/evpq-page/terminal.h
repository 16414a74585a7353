/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_TERMINAL_H
#define EVPQ_PAGE_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The one terminal of the program. Whatever was changed is put back by
 * terminal_restore(), which also runs at exit and when the program crashes.
 */

struct terminal_size {
    unsigned rows, columns;
};

struct terminal_size terminal_size(void);

/* Keys come as they are pressed and are not shown; Ctrl-C, Ctrl-Z and Ctrl-\ stay signals. False:
 * it is no terminal that can do this. */
bool terminal_raw(void);
/* The whole screen is ours, what was on it comes back later. Nothing in the background. */
void terminal_full(void);
/* As it was before; both may be called again. Safe in a signal handler. */
void terminal_restore(void);

/* False while a shell runs us in the background. */
bool terminal_in_front(void);

/* All of it, however long the terminal takes; nothing when it is gone. */
void terminal_write(const char *bytes, size_t length);

#endif /* EVPQ_PAGE_TERMINAL_H */
