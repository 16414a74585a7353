/* SPDX-License-Identifier: MIT */
/*
 * bench-libpq KIND NAME=VALUE...: does one piece of work by libpq alone, and prints what it cost.
 */
#include <stdio.h>
#include <string.h>

#include "bare/bare.h"

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(const struct bench_options *options);
    } kinds[] = {
        {"point", bare_point}, {"mix", bare_point},     {"pages", bare_pages},
        {"dials", bare_dials}, {"stream", bare_stream},
    };
    struct bench_options options;
    bench_options_read(&options, argc, argv);
    if (options.plain && options.depth > 1)
        bench_fail("without pipeline mode the depth is 1");
    printf("libpq\t%d\n", PQlibVersion());
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, options.kind) == 0) {
            kinds[i].run(&options);
            return 0;
        }
    }
    bench_fail("no such kind: %s", options.kind);
}
