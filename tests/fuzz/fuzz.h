/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FUZZ_H
#define EVPQ_TESTS_FUZZ_H

/*
 * What fuzz targets share. A target is a function over any bytes: it must come
 * back, and what it checks must hold whatever they are. libFuzzer calls it, or
 * replay.c with the kept corpus.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
/* Once, before all. Not every target has it. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Also in release builds: what does not hold ends the program, and libFuzzer keeps the input. */
#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : fuzz_failed(__FILE__, __LINE__, "does not hold: " #condition))

static inline _Noreturn void fuzz_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    abort();
}

/* What is left of the bytes. Behind their end come zeros. */
struct fuzz_input {
    const unsigned char *at;
    size_t left;
};

static inline unsigned char fuzz_byte(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* A copy of exactly these bytes, so that a sanitizer sees a read behind them. To be freed. */
static inline void *fuzz_exact(const void *bytes, size_t length)
{
    void *copy = malloc(length ? length : 1);
    CHECK(copy);
    if (length)
        memcpy(copy, bytes, length);
    return copy;
}

/* The next bytes, as many as there are; exact, to be freed. */
static inline unsigned char *fuzz_bytes(struct fuzz_input *input, size_t length, size_t *got)
{
    *got = length < input->left ? length : input->left;
    unsigned char *copy = fuzz_exact(input->at, *got);
    input->at += *got;
    input->left -= *got;
    return copy;
}

/* The next bytes up to a NUL, or all, as a string; exact, to be freed. */
static inline char *fuzz_text(struct fuzz_input *input)
{
    size_t length = 0;
    while (length < input->left && input->at[length])
        length++;
    char *text = malloc(length + 1);
    CHECK(text);
    if (length)
        memcpy(text, input->at, length);
    text[length] = '\0';
    size_t taken = length < input->left ? length + 1 : length;
    input->at += taken;
    input->left -= taken;
    return text;
}

#endif /* EVPQ_TESTS_FUZZ_H */
