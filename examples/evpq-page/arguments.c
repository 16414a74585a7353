/* SPDX-License-Identifier: MIT */
#include "arguments.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"

#define DEFAULT_BOUND 10000
#define MAX_BOUND     UINT64_C(1000000000000)
#define MAX_RATE      1000000
#define MAX_FRACTION  9 /* digits */

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

/* ".25" of a unit, in milliseconds; false where that is not a whole number. *rest is what follows,
 * all of text when there is no fraction. */
static bool read_fraction(const char *text, uint64_t unit, uint64_t *ms, const char **rest)
{
    *ms = 0;
    *rest = text;
    if (*text != '.')
        return true;
    size_t digits = strspn(text + 1, "0123456789");
    uint64_t power = 1;
    uint64_t sum = 0;
    if (digits == 0 || digits > MAX_FRACTION)
        return false;
    for (size_t i = 1; i <= digits; i++) {
        power *= 10;
        sum = sum * 10 + unit * (uint64_t)(text[i] - '0');
    }
    *rest = text + 1 + digits;
    *ms = sum / power;
    return sum % power == 0;
}

bool read_duration(const char *text, uint32_t *ms)
{
    static const struct unit {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}};
    const uint64_t limit = EVPQ_NEVER - 1;

    uint64_t number, part;
    const char *fraction, *rest;
    if (!read_number(text, limit, &number, &fraction))
        return false;
    const char *name = fraction + strspn(fraction, ".0123456789");
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(name, units[i].name) != 0)
            continue;
        if (!read_fraction(fraction, units[i].ms, &part, &rest) || rest != name ||
            number > (limit - part) / units[i].ms)
            return false;
        *ms = (uint32_t)(number * units[i].ms + part);
        return *ms > 0;
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

const char *read_secret(const char *path, evpq_secret *secret)
{
    enum { LEAST = 16, MOST = 1024 };
    static char problem[512];
    *secret = (evpq_secret){0};
    char *bytes = malloc(MOST + 2);
    if (!bytes)
        return "out of memory";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && length < MOST + 2) {
        got = read(fd, bytes + length, MOST + 2 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    const char *reason = got < 0 ? strerror(errno) : NULL;
    if (fd >= 0)
        close(fd);
    if (length > 0 && bytes[length - 1] == '\n')
        length--;
    if (!reason && (length < LEAST || length > MOST))
        reason = "it takes 16 to 1,024 bytes";
    if (reason) {
        snprintf(problem, sizeof problem, "--secret-file %s: %s", path, reason);
        explicit_bzero(bytes, MOST + 2);
        free(bytes);
        return problem;
    }
    /* The place of the option changes when secrets are rotated: the id comes from the secret. */
    uint64_t hash = hash_bytes(HASH_START, bytes, length);
    *secret =
        (evpq_secret){.id = (uint8_t)(hash_spread(hash) >> 56), .bytes = bytes, .length = length};
    return NULL;
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
