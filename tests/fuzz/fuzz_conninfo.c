/* SPDX-License-Identifier: MIT */

/*
 * Connection strings. What libpq does not take is refused, what it takes leads
 * to its hosts, and no text that evpq may pass on holds the password: a canary
 * stands where the string of the fuzzer has its mark.
 *
 * Nothing is ever connected: connect() and the name service of this program
 * refuse.
 */

#include <errno.h>
#include <evpq/pool.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "fuzz.h"
#include "pg/conninfo.h"
#include "pg/hosts.h"
#include "pg/pq.h"

#define CANARY "Hunter2Zq"
enum { MARK = 1 };

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t length)
{
    (void)fd, (void)address, (void)length;
    errno = ECONNREFUSED;
    return -1;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const variables[] = {
        "PGHOST",           "PGHOSTADDR",           "PGPORT",        "PGDATABASE",
        "PGUSER",           "PGPASSWORD",           "PGPASSFILE",    "PGSERVICE",
        "PGSERVICEFILE",    "PGSYSCONFDIR",         "PGOPTIONS",     "PGAPPNAME",
        "PGSSLMODE",        "PGGSSENCMODE",         "PGKRBSRVNAME",  "PGCONNECT_TIMEOUT",
        "PGCLIENTENCODING", "PGTARGETSESSIONATTRS", "PGREQUIREAUTH", "PGLOADBALANCEHOSTS"};
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", "/nonexistent", 1);
    setenv("PGSERVICEFILE", "/nonexistent/services", 1);
    return 0;
}

static void no_canary(const char *text)
{
    if (text && strstr(text, CANARY)) {
        fprintf(stderr, "passed on: %s\n", text);
        fuzz_failed(__FILE__, __LINE__, "a password is in a text that is passed on");
    }
}

/* The mark becomes the canary. */
static char *with_canary(const char *text)
{
    size_t marks = 0;
    for (const char *c = text; *c; c++)
        marks += *c == MARK;
    char *all = malloc(strlen(text) + marks * strlen(CANARY) + 1), *to = all;
    CHECK(all);
    for (const char *c = text; *c; c++) {
        if (*c != MARK) {
            *to++ = *c;
            continue;
        }
        memcpy(to, CANARY, strlen(CANARY));
        to += strlen(CANARY);
    }
    *to = '\0';
    return all;
}

static char *join(const char *before, const char *text, const char *behind)
{
    size_t length = strlen(before) + strlen(text) + strlen(behind) + 1;
    char *all = malloc(length);
    CHECK(all);
    snprintf(all, length, "%s%s%s", before, text, behind);
    return all;
}

/* The texts of all failures of connecting, as a dial would pass them on. */
static void check_host(const struct evpq__hosts *hosts, const struct evpq__host *host, bool secret)
{
    const char *address = host->hostaddr[0]                             ? host->hostaddr
                          : !host->host[0] || strchr("/@", *host->host) ? NULL
                                                                        : "127.0.0.1";
    PGconn *pg = evpq__hosts_connect(hosts, host, address, "any");
    CHECK(pg && PQstatus(pg) == CONNECTION_BAD);
    char tidy[512], sqlstate[6];
    evpq__pq_tidy_message(PQerrorMessage(pg), tidy, sizeof(tidy), sqlstate);
    if (secret) {
        no_canary(tidy);
        no_canary(host->host);
        no_canary(host->hostaddr);
        no_canary(host->port);
    }
    PQfinish(pg);
}

/* The items of a list, joined, are the list; unless they have been shuffled. */
static void check_lists(const struct evpq__hosts *hosts)
{
    const char *names = evpq__hosts_option(hosts, "host");
    const char *at = names;
    if (hosts->load_balance)
        return;
    for (size_t i = 0; names[0] && i < hosts->count; i++) {
        size_t length = strlen(hosts->list[i].host);
        CHECK(strncmp(at, hosts->list[i].host, length) == 0);
        at += length;
        CHECK(*at == (i + 1 < hosts->count ? ',' : '\0'));
        at++;
    }
}

/* What the string says is what counts; what it does not say is libpq's default. */
static void check_options(const struct evpq__hosts *hosts, const PQconninfoOption *parsed)
{
    for (const PQconninfoOption *o = parsed; o->keyword; o++)
        if (o->val && o->val[0] && strcmp(o->keyword, "gssencmode") != 0)
            CHECK(strcmp(evpq__hosts_option(hosts, o->keyword), o->val) == 0);
        else if (strcmp(o->keyword, "dbname") == 0)
            CHECK(strcmp(evpq__hosts_option(hosts, "dbname"), evpq__hosts_option(hosts, "user")) ==
                  0);
}

static void check_string(const char *conninfo, bool secret)
{
    char *why = NULL, *renamed;
    CHECK(evpq__conninfo_rename(&renamed, conninfo) == EVPQ_OK);
    PQconninfoOption *parsed = PQconninfoParse(renamed ? renamed : conninfo, &why);
    if (renamed)
        evpq__conninfo_name_back(parsed);
    PQfreemem(why);
    evpq__free(renamed);
    CHECK(evpq__conninfo_valid(conninfo) == (parsed != NULL));
    const char *refused = evpq_pool_options_problem(EVPQ_POOL_OPTIONS(.conninfo = conninfo));
    CHECK((parsed && conninfo[0]) == !refused);
    no_canary(refused);

    struct evpq__hosts hosts = {0};
    const char *problem = refused ? refused : evpq__hosts_read(&hosts, conninfo);
    no_canary(problem);
    if (!problem) {
        CHECK(hosts.count > 0);
        check_lists(&hosts);
        check_options(&hosts, parsed);
        for (size_t i = 0; i < hosts.count && i < 4; i++)
            check_host(&hosts, &hosts.list[i], secret);
    }
    evpq__hosts_free(&hosts);
    PQconninfoFree(parsed);
}

/* What stands around a password; the fuzzer writes what is between, without what would end it. */
static const struct {
    const char *before, *behind, *ends;
} places[] = {
    {"", "", NULL},
    {"host=localhost user=bob password='", "' dbname=shop", "'\\"},
    {"host=localhost password=", " user=bob", "="},
    {"password=", "", "="},
    {"postgresql://bob:", "@localhost/shop", "="},
    {"postgresql://bob:", "@localhost:5433,other:5434/shop?sslmode=prefer", "="},
    {"postgresql://localhost/shop?user=bob&password=", "&connect_timeout=5", "="},
};

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct fuzz_input input = {data, size};
    size_t place = fuzz_byte(&input) % (sizeof(places) / sizeof(*places));
    char *text = fuzz_text(&input);
    char *canary = with_canary(text);
    char *conninfo = join(places[place].before, canary, places[place].behind);
    check_string(conninfo, places[place].ends && !strpbrk(text, places[place].ends));
    free(conninfo);
    free(canary);
    free(text);
    return 0;
}
