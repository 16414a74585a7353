/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_KEYS_H
#define EVPQ_PAGE_KEYS_H

#include <stdbool.h>
#include <stddef.h>

/* What a key asks for. */
enum command {
    COMMAND_NONE, /* a key that means nothing */
    COMMAND_NEXT,
    COMMAND_PREV,
    COMMAND_FIRST,
    COMMAND_LAST,
    COMMAND_AGAIN,
    COMMAND_SCREEN_DOWN, /* a screen further, then the next page */
    COMMAND_SCREEN_UP,
    COMMAND_ROW_DOWN,
    COMMAND_ROW_UP,
    COMMAND_COLUMN_LEFT,
    COMMAND_COLUMN_RIGHT,
    COMMAND_REDRAW,
    COMMAND_HELP,
    COMMAND_QUIT,
};

/* Keys that were pressed and not looked at yet. */
struct keys {
    char bytes[256];
    size_t length;
};

/* What there is to read; more than there is room for is lost. False: the terminal is gone. */
bool keys_read(struct keys *keys, int fd);
/* Takes the next key. False: there is none, or not all of it yet. */
bool keys_next(struct keys *keys, enum command *command);
/* True when there is a key of this command; all are forgotten then. */
bool keys_find(struct keys *keys, enum command wanted);

/* The lines of the help. */
extern const char *const keys_help[];

#endif /* EVPQ_PAGE_KEYS_H */
