/* SPDX-License-Identifier: MIT */
#include "results.h"

#include <dlfcn.h>
#include <libpq-fe.h>

#include "fuzz.h"

enum { RESULTS = 256 };

static PGresult *alive[RESULTS];
static int count;

const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:PQisBusy\nleak:PQgetResult\n";
}

/* libpq's own, which ours hides. */
static void find(void *function, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    CHECK(found);
    memcpy(function, &found, sizeof(found));
}

PGresult *PQgetResult(PGconn *conn)
{
    static PGresult *(*get)(PGconn *);
    if (!get)
        find(&get, "PQgetResult");
    PGresult *result = get(conn);
    if (result) {
        CHECK(count < RESULTS);
        alive[count++] = result;
    }
    return result;
}

void PQclear(PGresult *result)
{
    static void (*clear)(PGresult *);
    if (!clear)
        find(&clear, "PQclear");
    for (int i = 0; i < count; i++)
        if (alive[i] == result) {
            alive[i] = alive[--count];
            break;
        }
    clear(result);
}

int results_alive(void)
{
    return count;
}

void results_forget(void)
{
    count = 0;
}
