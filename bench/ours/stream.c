/* SPDX-License-Identifier: MIT */
#include "ours/ours.h"

void bench_stream(const struct bench_options *options)
{
    (void)options;
    bench_not_in_this_build("evpq/stream.h");
}
