/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void read_number(uint64_t *out, const char *name, const char *value)
{
    char *end;
    *out = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end)
        bench_fail("%s is no number: %s", name, value);
}

void bench_options_read(struct bench_options *out, int argc, char **argv)
{
    struct bench_options o = {.connections = 1, .in_flight = 1, .depth = 1, .count = 1000};
    const struct {
        const char *name;
        uint64_t *to;
    } numbers[] = {
        {"connections", &o.connections},
        {"in_flight", &o.in_flight},
        {"depth", &o.depth},
        {"count", &o.count},
        {"warmup", &o.warmup},
        {"rows", &o.rows},
        {"page_size", &o.page_size},
        {"per_s", &o.per_s},
        {"timeout_ms", &o.timeout_ms},
    };
    if (argc < 2)
        bench_fail("usage: %s KIND NAME=VALUE...", argv[0]);
    o.kind = argv[1];
    for (int i = 2; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (!value)
            bench_fail("no value: %s", argv[i]);
        size_t length = (size_t)(value++ - argv[i]);
        bool known = false;
        if (length == strlen("conninfo") && strncmp(argv[i], "conninfo", length) == 0) {
            o.conninfo = value[0] ? value : NULL;
            known = true;
        }
        if (strcmp(argv[i], "plain=1") == 0)
            o.plain = known = true;
        for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++) {
            if (strlen(numbers[n].name) == length &&
                strncmp(argv[i], numbers[n].name, length) == 0) {
                read_number(numbers[n].to, numbers[n].name, value);
                known = true;
            }
        }
        if (!known)
            bench_fail("unknown: %s", argv[i]);
    }
    if (o.connections < 1 || o.in_flight < 1 || o.depth < 1 || o.count < 1)
        bench_fail("connections, in_flight, depth and count are at least 1");
    *out = o;
}

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void bench_not_in_this_build(const char *what)
{
    fprintf(stderr, "not in this build: %s\n", what);
    exit(BENCH_NOT_IN_THIS_BUILD);
}

int64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t bench_thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void *bench_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        bench_fail("no memory");
    return memory;
}
