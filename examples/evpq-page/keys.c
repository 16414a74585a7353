/* SPDX-License-Identifier: MIT */
#include "keys.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ESCAPE '\033'

const char *const keys_help[] = {
    "space  PgDn     a screen further down; behind the last row, the next page",
    "b  PgUp         a screen further up; before the first row, the previous page",
    "n               next page",
    "p               previous page",
    "g  Home         first page",
    "G  End          last page",
    "j  k  up  down  a row down, up",
    "h  l  left  right  a column to the left, to the right",
    "r               try again what failed",
    "Ctrl-C          stop waiting for a page; end, when there is nothing to wait for",
    "Ctrl-Z          suspend; fg comes back",
    "Ctrl-L          draw again",
    "q               quit",
    NULL,
};

static enum command command_of_byte(char c)
{
    switch (c) {
    case ' ':
        return COMMAND_SCREEN_DOWN;
    case 'b':
        return COMMAND_SCREEN_UP;
    case 'n':
        return COMMAND_NEXT;
    case 'p':
        return COMMAND_PREV;
    case 'g':
    case '<':
        return COMMAND_FIRST;
    case 'G':
    case '>':
        return COMMAND_LAST;
    case 'j':
    case '\r':
    case '\n':
        return COMMAND_ROW_DOWN;
    case 'k':
        return COMMAND_ROW_UP;
    case 'h':
        return COMMAND_COLUMN_LEFT;
    case 'l':
        return COMMAND_COLUMN_RIGHT;
    case 'r':
        return COMMAND_AGAIN;
    case '?':
        return COMMAND_HELP;
    case 'L' & 0x1f:
        return COMMAND_REDRAW;
    case 'q':
    case 'Q':
    case 'D' & 0x1f:
        return COMMAND_QUIT;
    default:
        return COMMAND_NONE;
    }
}

/* ESC [ parameters final, or ESC O final (ECMA-48, 5.4; what xterm and its kin send). */
static enum command command_of_sequence(const char *sequence, size_t length)
{
    static const struct sequence {
        const char *rest;
        enum command command;
    } known[] = {
        {"A", COMMAND_ROW_UP},      {"B", COMMAND_ROW_DOWN},   {"C", COMMAND_COLUMN_RIGHT},
        {"D", COMMAND_COLUMN_LEFT}, {"H", COMMAND_FIRST},      {"F", COMMAND_LAST},
        {"1~", COMMAND_FIRST},      {"4~", COMMAND_LAST},      {"7~", COMMAND_FIRST},
        {"8~", COMMAND_LAST},       {"5~", COMMAND_SCREEN_UP}, {"6~", COMMAND_SCREEN_DOWN}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].rest) == length && memcmp(known[i].rest, sequence, length) == 0)
            return known[i].command;
    return COMMAND_NONE;
}

/* Bytes of the first key; 0: not all of it is here yet. */
static size_t key_length(const struct keys *keys)
{
    if (keys->bytes[0] != ESCAPE)
        return 1;
    if (keys->length < 2)
        return 0;
    if (keys->bytes[1] != '[' && keys->bytes[1] != 'O')
        return 1; /* the Escape key itself, or Alt before a key */
    for (size_t i = 2; i < keys->length; i++)
        if (keys->bytes[i] >= 0x40 && keys->bytes[i] <= 0x7e)
            return i + 1;
    return keys->length == sizeof keys->bytes ? keys->length : 0;
}

bool keys_read(struct keys *keys, int fd)
{
    char spare[64];
    size_t room = sizeof keys->bytes - keys->length;
    ssize_t length =
        read(fd, room ? keys->bytes + keys->length : spare, room ? room : sizeof spare);
    if (length > 0 && room)
        keys->length += (size_t)length;
    return length > 0 || (length < 0 && (errno == EINTR || errno == EAGAIN));
}

bool keys_next(struct keys *keys, enum command *command)
{
    size_t length = keys->length ? key_length(keys) : 0;
    if (length == 0)
        return false;
    *command = length == 1 ? command_of_byte(keys->bytes[0])
                           : command_of_sequence(keys->bytes + 2, length - 2);
    keys->length -= length;
    memmove(keys->bytes, keys->bytes + length, keys->length);
    return true;
}

bool keys_find(struct keys *keys, enum command wanted)
{
    struct keys rest = *keys;
    enum command command;
    while (keys_next(&rest, &command)) {
        if (command == wanted) {
            keys->length = 0;
            return true;
        }
    }
    return false;
}
