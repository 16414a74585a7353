/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_SCREEN_H
#define EVPQ_PAGE_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * What a terminal may see. Data and messages may hold anything, escape
 * sequences included, and pass through here before a terminal gets them.
 */

/* Makes the width functions below know UTF-8, which is what evpq's sessions speak. */
void screen_init(void);

/*
 * Text as it can be shown, allocated; NULL without memory. Controls, what turns
 * the direction of writing, and what is no UTF-8 become \n, \x1b, \u202e; with
 * `lines`, line feeds and tabs stay.
 */
char *screen_text(const char *text, size_t length, bool lines);

/* Columns that a text of screen_text() takes. */
size_t screen_width(const char *text);
/* Cuts such a text to so many columns (one at least), with a mark at the end if it was longer. */
void screen_cut(char *text, size_t width);

/* Puts a line of such texts, cut likewise; colors, as "\033[1m", take no columns. */
void screen_put(FILE *out, const char *line, size_t width);

/* "evpq-page: ...", one line or more on stderr. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* EVPQ_PAGE_SCREEN_H */
