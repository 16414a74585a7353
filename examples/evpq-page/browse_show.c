/* SPDX-License-Identifier: MIT */
#include "browse_parts.h"

#include <stdio.h>
#include <string.h>

#include "terminal.h"

static const char *const keys[] = {" space next  p previous  g first  G last  ? help  q quit ",
                                   " ? help  q quit ", NULL};
static const char *const no_keys[] = {NULL};

static void put_position(const struct browse *browse, char *out, size_t size)
{
    char total[64], words[256];
    uint64_t first = 1, last = 0;
    count_words(&browse->count, total, sizeof total);
    view_rows(&browse->view, &first, &last);
    position_words(&browse->position, first, last, total, words, sizeof words);
    if (browse->view.skip)
        snprintf(out, size, " %s, from column %u", words, browse->view.skip + 1);
    else
        snprintf(out, size, " %s", words);
}

void browse_draw(const struct browse *browse)
{
    char left[1024 + 256];
    if (!terminal_in_front())
        return;
    switch (browse->state) {
    case BROWSE_SHOWING:
    case BROWSE_WAITING: /* how long is told later */
        if (*browse->message)
            snprintf(left, sizeof left, " %s", browse->message);
        else
            put_position(browse, left, sizeof left);
        view_draw(&browse->view, NULL, left, *browse->message ? no_keys : keys);
        break;
    case BROWSE_HELP:
        view_draw(&browse->view, keys_help, " any key leads back", no_keys);
        break;
    case BROWSE_OPENING:
    case BROWSE_ENDING:
        break;
    }
}

void browse_draw_waiting(const struct browse *browse)
{
    static const char *const names[] = {[MOVE_NEXT] = "next",
                                        [MOVE_PREV] = "previous",
                                        [MOVE_FIRST] = "first",
                                        [MOVE_LAST] = "last"};
    char line[160];
    double seconds = (double)(now_us() - browse->stats.started_us) / 1e6;
    if (!terminal_in_front())
        return;
    int length = snprintf(line, sizeof line, "%s waiting for the %s page, %.1f s: Ctrl-C %s",
                          browse->state == BROWSE_OPENING ? "\r\033[K" : "", names[browse->move],
                          seconds, browse->state == BROWSE_OPENING ? "ends" : "stops, q quits");
    if (browse->state == BROWSE_OPENING)
        terminal_write(line, (size_t)length);
    else
        view_draw_status(line, no_keys);
}
