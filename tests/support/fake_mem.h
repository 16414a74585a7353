/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_MEM_H
#define EVPQ_TESTS_FAKE_MEM_H

/* Memory that is counted and can fail, in place of lib/base/mem.c. From any thread. */

#include <stdbool.h>
#include <stddef.h>

void fake_mem_reset(void);
/* Not freed yet. */
size_t fake_mem_bytes(void);
/* How many allocations there have been. */
int fake_mem_allocations(void);
/* The nth allocation from now on fails, once; 0: none does. */
void fake_mem_fail_at(int n);
/* All from the nth on fail. */
void fake_mem_fail_from(int n);
/* It has. */
bool fake_mem_has_failed(void);

#endif /* EVPQ_TESTS_FAKE_MEM_H */
