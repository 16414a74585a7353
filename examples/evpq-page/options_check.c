/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <stddef.h>

const char *options_problem(const struct options *o)
{
    bool cursor = o->mode == EVPQ_PAGES_CURSOR;
    bool keyset = o->mode == EVPQ_PAGES_KEYSET || (o->mode == EVPQ_PAGES_DEFAULT && o->order_by);
    const struct clash {
        bool is;
        const char *problem;
    } clashes[] = {
        {o->last + (o->after != NULL) + (o->before != NULL) > 1,
         "--after, --before and --last exclude each other"},
        {o->mode == EVPQ_PAGES_KEYSET && !o->order_by, "--mode keyset needs --order-by"},
        {o->last && !keyset && !cursor, "--last needs --order-by, or --mode cursor"},
        {o->assume_unique && !keyset, "--assume-unique is for keyset pages: it needs --order-by"},
        {o->require_index && !keyset, "--require-index is for keyset pages: it needs --order-by"},
        {cursor && (o->after || o->before || o->token_out),
         "--mode cursor has no tokens: no --after, --before, --token-out"},
        {cursor && o->prefetch, "--mode cursor and --prefetch exclude each other"},
        {cursor && o->explain, "--mode cursor and --explain exclude each other"},
        {o->explain && (o->last || o->before),
         "--explain shows a page forward: no --last, no --before"},
        {o->jobs && !keyset, "--jobs is for keyset pages: it needs --order-by"},
        {o->jobs && (o->last || o->before), "--jobs walks forward: no --last, no --before"},
        {o->jobs && o->prefetch, "--jobs reads ahead already: no --prefetch"},
        {o->jobs && o->require_index, "--jobs and --require-index exclude each other"},
        {o->jobs && o->explain, "--jobs and --explain exclude each other"},
        {o->rate && (o->jobs || o->prefetch),
         "--rate paces one page after another: no --jobs, no --prefetch"},
    };
    for (size_t i = 0; i < sizeof clashes / sizeof *clashes; i++)
        if (clashes[i].is)
            return clashes[i].problem;
    return NULL;
}
