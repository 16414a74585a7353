/* SPDX-License-Identifier: MIT */
#include <evpq/base.h>

const char *evpq_version(void)
{
    return EVPQ_VERSION;
}
