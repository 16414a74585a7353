/* SPDX-License-Identifier: MIT */
#include "pg/conninfo.h"

#include <evpq/error.h>
#include <string.h>

#include "base/mem.h"
#include "pg/pq.h"

static char balance[] = "load_balance_hosts";
static const char probe[] = "Load_balance_hosts", carrier[] = "gsslib";

static bool parses(const char *conninfo)
{
    char *quotes_secrets = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &quotes_secrets);
    PQfreemem(quotes_secrets);
    PQconninfoFree(options);
    return options != NULL;
}

static bool complains_of(const char *conninfo, const char *keyword)
{
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &why);
    bool so = !options && why && strstr(why, keyword);
    PQfreemem(why);
    PQconninfoFree(options);
    return so;
}

/*
 * Whether a word is a keyword or part of a value is told by libpq itself: it reads from left to
 * right and names the first keyword that it does not know. So each word is spoilt in its turn,
 * when no keyword before it is left to complain of.
 */
int evpq__conninfo_rename(char **out, const char *conninfo)
{
    *out = NULL;
    if (evpq__pq_has_load_balance() || !conninfo || !strstr(conninfo, balance))
        return EVPQ_OK;
    char *text = evpq__strdup(conninfo);
    if (!text)
        return EVPQ_ENOMEM;
    for (char *at = text; (at = strstr(at, balance)); at++) {
        *at = probe[0];
        bool is_keyword = complains_of(text, probe);
        *at = balance[0];
        if (!is_keyword)
            continue;
        memcpy(at, carrier, strlen(carrier));
        memmove(at + strlen(carrier), at + strlen(balance), strlen(at + strlen(balance)) + 1);
    }
    *out = text;
    return EVPQ_OK;
}

void evpq__conninfo_name_back(PQconninfoOption *options)
{
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, carrier) == 0)
            o->keyword = balance;
}

static int check_once(const char *conninfo)
{
    char *renamed;
    if (evpq__conninfo_rename(&renamed, conninfo) != EVPQ_OK)
        return EVPQ_ENOMEM;
    bool valid = parses(renamed ? renamed : conninfo);
    evpq__free(renamed);
    return valid ? EVPQ_OK : EVPQ_EINVALID;
}

int evpq__conninfo_check(const char *conninfo)
{
    int code = conninfo ? check_once(conninfo) : EVPQ_OK;
    if (code != EVPQ_EINVALID)
        return code;
    /* libpq tells lack of memory in words only; it needs some for the shortest string, too. */
    return parses("") ? check_once(conninfo) : EVPQ_ENOMEM;
}

bool evpq__conninfo_valid(const char *conninfo)
{
    return evpq__conninfo_check(conninfo) != EVPQ_EINVALID;
}
