/* SPDX-License-Identifier: MIT */
#include "arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BOUND 10000
#define MAX_BOUND     UINT64_C(1000000000000)
#define MAX_RATE      1000000

/* Digits at the start of text, up to `limit`; *rest is what follows. */
static bool read_number(const char *text, uint64_t limit, uint64_t *number, const char **rest)
{
    size_t digits = strspn(text, "0123456789");
    *number = 0;
    *rest = text + digits;
    for (size_t i = 0; i < digits; i++) {
        *number = *number * 10 + (uint64_t)(text[i] - '0');
        if (*number > limit)
            return false;
    }
    return digits > 0;
}

bool read_count(const char *text, uint64_t limit, uint64_t *count)
{
    const char *rest;
    return read_number(text, limit, count, &rest) && !*rest && *count > 0;
}

bool read_duration(const char *text, uint32_t *ms)
{
    static const struct unit {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}};
    const uint64_t limit = EVPQ_NEVER - 1;

    uint64_t number;
    const char *rest;
    if (!read_number(text, limit, &number, &rest) || number == 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(rest, units[i].name) == 0 && number <= limit / units[i].ms) {
            *ms = (uint32_t)(number * units[i].ms);
            return true;
        }
    }
    return false;
}

bool read_rate(const char *text, uint32_t *limit, uint32_t *window_ms)
{
    uint64_t number;
    const char *rest;
    if (!read_number(text, MAX_RATE, &number, &rest) || number == 0 || *rest != '/')
        return false;
    *limit = (uint32_t)number;
    return read_duration(rest + 1, window_ms);
}

bool read_word(const char *text, const char *const *words, unsigned *index)
{
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

bool read_counting(const char *text, unsigned *kind, uint64_t *bound)
{
    static const char *const words[] = {[0] = "none",
                                        [EVPQ_COUNT_EXACT] = "exact",
                                        [EVPQ_COUNT_BOUNDED] = "bounded",
                                        [EVPQ_COUNT_ESTIMATE] = "estimate",
                                        NULL};
    static const char with_bound[] = "bounded:";
    if (strncmp(text, with_bound, strlen(with_bound)) == 0) {
        *kind = EVPQ_COUNT_BOUNDED;
        return read_count(text + strlen(with_bound), MAX_BOUND, bound);
    }
    if (!read_word(text, words, kind))
        return false;
    *bound = *kind == EVPQ_COUNT_BOUNDED ? DEFAULT_BOUND : 0;
    return true;
}

bool read_secret(const char *path, evpq_secret *secret)
{
    enum { LEAST = 16, MOST = 1024 };
    FILE *file = fopen(path, "r");
    char *bytes = file ? malloc(MOST + 2) : NULL;
    size_t length = bytes ? fread(bytes, 1, MOST + 2, file) : 0;
    if (file)
        fclose(file);
    if (length > 0 && bytes[length - 1] == '\n')
        length--;
    *secret = (evpq_secret){.id = 1, .bytes = bytes, .length = length};
    return length >= LEAST && length <= MOST;
}

char *read_conninfo(const char *text)
{
    if (strchr(text, '=') || strncmp(text, "postgresql://", 13) == 0 ||
        strncmp(text, "postgres://", 11) == 0)
        return strdup(text);

    static const char key[] = "dbname='";
    char *conninfo = malloc(sizeof key + 2 * strlen(text) + 2);
    if (!conninfo)
        return NULL;
    char *end = stpcpy(conninfo, key);
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            *end++ = '\\';
        *end++ = *text;
    }
    strcpy(end, "'");
    return conninfo;
}
