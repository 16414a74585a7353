/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_ARGUMENTS_H
#define EVPQ_PAGE_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include <evpq/evpq.h>

/*
 * What options take, read from their text. False: it is none, and the rest is
 * not to be looked at.
 */

/* 1 to limit. */
bool read_count(const char *text, uint64_t limit, uint64_t *count);
/* 500ms, 1.5s, 2min, 1h: whole milliseconds, 1 at least. */
bool read_duration(const char *text, uint32_t *ms);
/* 100/60s: so many in any such time. */
bool read_rate(const char *text, uint32_t *limit, uint32_t *window_ms);
/* One of some words: its place among them. The list ends with NULL. */
bool read_word(const char *text, const char *const *words, unsigned *index);
/* none, estimate, exact, bounded, bounded:N; kind 0 is none. */
bool read_counting(const char *text, unsigned *kind, uint64_t *bound);
/* The bytes of a file, 16 to 1,024 without a line feed at the end. NULL: secret->bytes is
 * allocated; else what is wrong, valid until the next call. */
const char *read_secret(const char *path, evpq_secret *secret);

/* As psql and libpq do: what is no connection string is the name of a database. Allocated; NULL
 * without memory. */
char *read_conninfo(const char *text);

#endif /* EVPQ_PAGE_ARGUMENTS_H */
