/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <math.h>

void bench_load_begin(struct bench_load *load, uint64_t count)
{
    load->begun = load->done = 0;
    load->end = count;
    load->due_ns = bench_now_ns();
    load->random = 1;
}

bool bench_load_has_next(const struct bench_load *load)
{
    return load->begun < load->end;
}

/* One in a hundred, at irregular distances; bench.py knows the same rule. */
static bool is_slow(uint64_t index)
{
    return index * 7919 % 10007 % 100 == 0;
}

void bench_load_next(struct bench_load *load, struct bench_op *op)
{
    uint64_t index = load->begun++;
    bool slow = load->options->per_s && is_slow(index);
    op->id = slow ? 0 : (int64_t)(1 + index * 104729 % load->options->rows);
    op->began_ns = bench_now_ns();
}

bool bench_load_done(struct bench_load *load, const struct bench_op *op)
{
    if (op->id)
        bench_meter_latency(load->meter, bench_now_ns() - op->began_ns);
    return ++load->done < load->end;
}

/* splitmix64, by Sebastiano Vigna: https://prng.di.unimi.it/splitmix64.c */
static double random_part(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return ((double)((z ^ (z >> 31)) >> 11) + 0.5) / (double)(UINT64_C(1) << 53);
}

bool bench_load_arrived(struct bench_load *load, int64_t now_ns, int64_t *wait_ns)
{
    *wait_ns = load->due_ns - now_ns;
    if (*wait_ns > 0)
        return false;
    double gap_s = -log(random_part(&load->random)) / (double)load->options->per_s;
    load->due_ns += (int64_t)(gap_s * 1e9);
    return true;
}
