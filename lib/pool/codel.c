/* SPDX-License-Identifier: MIT */
#include "pool/codel.h"

enum { INTERVAL_US = 100 * 1000 };

bool evpq__codel_sheds(struct evpq__codel *codel, int64_t target_us, int64_t now_us,
                       int64_t waited_us)
{
    if (now_us > codel->interval_ends_us && !codel->fresh) {
        codel->interval_ends_us = now_us + INTERVAL_US;
        codel->overloaded = codel->shortest_us > target_us;
        codel->fresh = true;
    }
    if (codel->fresh) {
        codel->fresh = false;
        codel->shortest_us = waited_us;
        return false;
    }
    if (waited_us < codel->shortest_us)
        codel->shortest_us = waited_us;
    return codel->overloaded && waited_us > 2 * target_us;
}
