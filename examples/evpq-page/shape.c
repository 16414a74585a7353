/* SPDX-License-Identifier: MIT */
#include "shape.h"

#include <string.h>

#include "hash.h"
#include "screen.h"

static uint64_t hash_columns(const evpq_result *page)
{
    uint64_t hash = HASH_START;
    for (uint32_t i = 0; i < evpq_result_columns(page); i++) {
        const char *name = evpq_result_column_name(page, i);
        uint32_t type = evpq_result_column_type(page, i);
        hash = hash_bytes(hash, name, strlen(name) + 1);
        hash = hash_bytes(hash, &type, sizeof type);
    }
    return hash;
}

/* Objects with one name twice are JSON, and most readers keep the last. */
static void tell_twins(const evpq_result *page)
{
    uint32_t count = evpq_result_columns(page);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = evpq_result_column_name(page, i);
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(name, evpq_result_column_name(page, j)) == 0) {
                say("more than one column is named \"%s\": most readers of JSON keep one", name);
                return;
            }
        }
    }
}

bool shape_keep(struct shape *shape, const evpq_result *page, output_fn *output)
{
    uint64_t hash = hash_columns(page);
    if (!shape->known) {
        *shape = (struct shape){.known = true, .hash = hash};
        if (output == output_json || output == output_ndjson)
            tell_twins(page);
        return true;
    }
    bool names_each_page = output != output_csv && output != output_tsv;
    return names_each_page || hash == shape->hash;
}
