/* SPDX-License-Identifier: MIT */
#include "base/options.h"

#include <string.h>

/* No options struct comes near it: a size above was never set. */
#define OPTIONS_LIMIT 4096

const char *evpq__options_read(void *into, size_t known, const void *from)
{
    memset(into, 0, known);
    if (!from)
        return NULL;
    size_t size;
    memcpy(&size, from, sizeof(size));
    /* Each of these structs has pointers, so that its size is a multiple of theirs. */
    if (size < sizeof(size) || size > OPTIONS_LIMIT || size % sizeof(void *))
        return "the field `size` is not the size of the struct";
    const unsigned char *bytes = from;
    for (size_t i = known; i < size; i++)
        if (bytes[i])
            return "a field is set that this version of evpq does not know";
    memcpy(into, from, size < known ? size : known);
    return NULL;
}
