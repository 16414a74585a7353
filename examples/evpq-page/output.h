/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_PAGE_OUTPUT_H
#define EVPQ_PAGE_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

#include <evpq/result.h>

/* What a writer is told besides the rows. */
struct output_how {
    bool first;       /* nothing has been written yet */
    bool resumed;     /* what this is put behind has its header already */
    bool continued;   /* it is put behind, in the same file, and that was not ended */
    const char *null; /* what stands for SQL NULL; NULL: what the format has for it */
    bool color;
    size_t width;  /* of the terminal; 0: none, nothing is cut */
    uint32_t skip; /* so many columns at the left are not shown; tables only */
};

/*
 * Writes the rows of one page. False when there is no memory. Whether the
 * writing went well is the stream's to tell: ferror(), fflush().
 */
typedef bool output_fn(FILE *out, const evpq_result *page, const struct output_how *how);

output_fn output_table, output_csv, output_tsv, output_ndjson, output_json;

/* Ends what output_json() has begun, now or before. */
void output_json_end(FILE *out);

/* pg_type.oid of the types that are not just text here. They never change. */
enum {
    TYPE_BOOL = 16,
    TYPE_INT8 = 20,
    TYPE_INT2 = 21,
    TYPE_INT4 = 23,
    TYPE_OID = 26,
    TYPE_XID = 28,
    TYPE_CID = 29,
    TYPE_JSON = 114,
    TYPE_FLOAT4 = 700,
    TYPE_FLOAT8 = 701,
    TYPE_MONEY = 790,
    TYPE_NUMERIC = 1700,
    TYPE_JSONB = 3802,
    TYPE_XID8 = 5069,
};

#endif /* EVPQ_PAGE_OUTPUT_H */
