/* SPDX-License-Identifier: MIT */
#include "place.h"

#include <string.h>

#include "screen.h"

static void place_take(struct place *place, const char *token)
{
    size_t length = token ? strlen(token) : 0;
    if (length >= sizeof place->token)
        length = 0;
    if (length)
        memcpy(place->token, token, length);
    place->token[length] = 0;
}

void place_begin(struct place *place, const struct options *options, evpq_page_mode mode)
{
    place->backward = options->before || options->last;
    place->tokenless = mode == EVPQ_PAGES_CURSOR;
    place_take(place, place->backward ? options->before : options->after);
}

void place_set(struct place *place, const evpq_page *page)
{
    if (evpq_page_rows(page) > 0 && !place->tokenless)
        place_take(place, place->backward ? evpq_page_token_before(page) : evpq_page_token(page));
}

void place_say(const struct place *place, const char *what, bool any)
{
    if (place->tokenless)
        say("cursor pages have no tokens: the walk starts again, or not at all");
    else if (*place->token)
        say("%s with --%s %s", what, place->backward ? "before" : "after", place->token);
    else if (any)
        say("no token to go on with: the order columns of the last row are too long");
    else
        say("no page was complete: there is nothing to resume");
}
