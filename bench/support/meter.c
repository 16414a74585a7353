/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <dlfcn.h>
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#ifdef BENCH_CALLGRIND
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION ((void)0)
#define CALLGRIND_STOP_INSTRUMENTATION  ((void)0)
#endif

#include "count.h"

/* Of this program: ru_maxrss would be that of the one that started us, if that was larger. */
static double peak_rss_mb(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long kb = 0;
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "VmHWM: %lu", &kb) == 1)
            break;
    if (file)
        fclose(file);
    return (double)kb / 1024;
}

static const char *const count_names[] = {
#define COUNT_NAME(name) #name,
    BENCH_COUNTS(COUNT_NAME)
#undef COUNT_NAME
};

static bench_counts_fn *counting(void)
{
    bench_counts_fn *fn;
    *(void **)&fn = dlsym(RTLD_DEFAULT, BENCH_COUNTS_SYMBOL);
    return fn;
}

static int64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    int64_t seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
    return (seconds * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

void bench_meter_begin(struct bench_meter *meter)
{
    bench_counts_fn *counts = counting();
    *meter = (struct bench_meter){0};
    for (int i = 0; counts && i < BENCH_COUNT_KINDS; i++)
        meter->counts[i] = counts()[i];
    meter->cpu_ns = cpu_ns();
    meter->wall_ns = bench_now_ns();
    CALLGRIND_START_INSTRUMENTATION;
}

void bench_meter_end(struct bench_meter *meter)
{
    CALLGRIND_STOP_INSTRUMENTATION;
    bench_counts_fn *counts = counting();
    meter->wall_ns = bench_now_ns() - meter->wall_ns;
    meter->cpu_ns = cpu_ns() - meter->cpu_ns;
    for (int i = 0; counts && i < BENCH_COUNT_KINDS; i++)
        meter->counts[i] = counts()[i] - meter->counts[i];
}

/* 128 buckets for each power of two: the seven bits behind the first one. */
static size_t bucket_of(uint64_t ns)
{
    if (ns < 256)
        return ns;
    int shift = 63 - __builtin_clzll(ns) - 7;
    size_t bucket = 128 + 128 * (size_t)shift + (size_t)(ns >> shift) - 128;
    return bucket < BENCH_BUCKETS ? bucket : BENCH_BUCKETS - 1;
}

/* The middle of what falls into it. */
static double bucket_ns(size_t bucket)
{
    if (bucket < 256)
        return (double)bucket;
    size_t shift = (bucket - 128) / 128;
    return ((double)((bucket - 128) % 128 + 128) + 0.5) * (double)(UINT64_C(1) << shift);
}

void bench_meter_latency(struct bench_meter *meter, int64_t ns)
{
    meter->latencies[bucket_of(ns < 0 ? 0 : (uint64_t)ns)]++;
}

static double percentile_us(const struct bench_meter *meter, double part)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < BENCH_BUCKETS; i++)
        total += meter->latencies[i];
    for (size_t i = 0; i < BENCH_BUCKETS; i++) {
        seen += meter->latencies[i];
        if (seen > 0 && (double)seen >= part * (double)total)
            return bucket_ns(i) / 1000;
    }
    return 0;
}

void bench_meter_row(struct bench_meter *meter, int64_t id, int32_t amount, const char *name,
                     size_t length)
{
    uint64_t head = 0;
    memcpy(&head, name, length < sizeof(head) ? length : sizeof(head));
    uint64_t hash = (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15) +
                    (uint64_t)amount * UINT64_C(0xC2B2AE3D27D4EB4F) + be64toh(head) + length;
    meter->checksum += hash ^ (hash >> 29);
    meter->rows++;
}

void bench_turn_begin(struct bench_meter *meter)
{
    meter->turn_began_cpu_ns = bench_thread_cpu_ns();
    meter->turn_began_ns = bench_now_ns();
}

void bench_turn_end(struct bench_meter *meter)
{
    if (!meter->turn_began_ns)
        return;
    int64_t took_ns = bench_now_ns() - meter->turn_began_ns;
    int64_t took_cpu_ns = bench_thread_cpu_ns() - meter->turn_began_cpu_ns;
    meter->turn_began_ns = 0;
    if (took_ns > meter->longest_turn_ns)
        meter->longest_turn_ns = took_ns;
    if (took_cpu_ns > meter->longest_turn_cpu_ns)
        meter->longest_turn_cpu_ns = took_cpu_ns;
}

void bench_print(const char *metric, double value)
{
    printf("%s\t%.6g\n", metric, value);
}

void bench_meter_print(const struct bench_meter *meter, uint64_t operations)
{
    double each = operations ? 1.0 / (double)operations : 0;
    printf("checksum\t%" PRIu64 "\n", meter->checksum);
    printf("operations\t%" PRIu64 "\n", operations);
    bench_print("wall_s", (double)meter->wall_ns / 1e9);
    bench_print("per_s", (double)operations / ((double)meter->wall_ns / 1e9));
    bench_print("cpu_us", (double)meter->cpu_ns / 1e3 * each);
    if (peak_rss_mb() > 0) /* else there is no /proc */
        bench_print("rss_mb", peak_rss_mb());
    if (meter->rows) {
        bench_print("rows_per_s", (double)meter->rows / ((double)meter->wall_ns / 1e9));
        bench_print("cpu_ns_per_row", (double)meter->cpu_ns / (double)meter->rows);
    }
    if (percentile_us(meter, 1) > 0) {
        bench_print("p50_us", percentile_us(meter, 0.5));
        bench_print("p99_us", percentile_us(meter, 0.99));
    }
    if (meter->longest_turn_ns) {
        bench_print("turn_ms", (double)meter->longest_turn_ns / 1e6);
        bench_print("turn_cpu_ms", (double)meter->longest_turn_cpu_ns / 1e6);
    }
    for (int i = 0; counting() && i < BENCH_COUNT_KINDS; i++)
        bench_print(count_names[i], (double)meter->counts[i] * each);
}
