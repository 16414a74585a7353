/* SPDX-License-Identifier: MIT */
#include "pg/hosts.h"

#include <evpq/error.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "pg/conninfo.h"
#include "pg/pq.h"

static PQconninfoOption *find_option(PQconninfoOption *options, const char *keyword)
{
    for (PQconninfoOption *o = options; o && o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0)
            return o;
    return NULL;
}

const char *evpq__hosts_option(const struct evpq__hosts *hosts, const char *keyword)
{
    const PQconninfoOption *o = find_option(hosts->options, keyword);
    return o && o->val ? o->val : "";
}

/*
 * Only PQconnectStart() itself puts string, environment and service file
 * together. So it is asked to, with one option spoilt: it reads everything,
 * then gives up before it looks at any host, and tells what it has.
 */
static PQconninfoOption *effective_options(const char *conninfo, const char *spoilt)
{
    /* libpq takes what has no "=" for the name of a database, blanks too. */
    bool blank = !conninfo || !conninfo[strspn(conninfo, " \t\n\v\f\r")];
    const char *keywords[] = {"dbname", spoilt, NULL};
    const char *values[] = {blank ? "" : conninfo, "evpq", NULL};
    PGconn *conn = PQconnectStartParams(keywords, values, 1);
    PQconninfoOption *options = conn ? PQconninfo(conn) : NULL;
    PQfinish(conn);
    return options;
}

/*
 * Without memory libpq leaves settings out, some without a word. What is lost like this (the host,
 * sslmode) would be taken from the environment or be a default: so both readings have to agree.
 */
static bool same_readings(const PQconninfoOption *a, const PQconninfoOption *b)
{
    for (; a->keyword && b->keyword; a++, b++) {
        bool spoilt_in_one = strcmp(a->keyword, "target_session_attrs") == 0 ||
                             strcmp(a->keyword, "gssencmode") == 0;
        if (!a->val != !b->val || (a->val && !spoilt_in_one && strcmp(a->val, b->val) != 0))
            return false;
    }
    return true;
}

/*
 * Two readings, each with another option spoilt; the second knows the one that the first does not.
 * libpq looks at gssencmode behind all options whose default it fills in by itself (sslcertmode,
 * from libpq 16 on): spoilt earlier, the readings would never agree.
 */
static PQconninfoOption *read_options(const char *conninfo)
{
    PQconninfoOption *options = effective_options(conninfo, "target_session_attrs");
    PQconninfoOption *other = effective_options(conninfo, "gssencmode");
    PQconninfoOption *to = find_option(options, "target_session_attrs");
    PQconninfoOption *from = find_option(other, "target_session_attrs");
    if (to && from && same_readings(options, other)) {
        char *value = to->val;
        to->val = from->val;
        from->val = value;
    } else {
        PQconninfoFree(options);
        options = NULL;
    }
    PQconninfoFree(other);
    return options;
}

static size_t count_items(const char *list)
{
    size_t count = 1;
    for (; *list; list++)
        count += *list == ',';
    return count;
}

/* The i-th item of a comma-separated list; of a single item it is that one, where `shared`. */
static char *copy_item(const char *list, size_t i, bool shared)
{
    if (shared && !strchr(list, ','))
        i = 0;
    for (; i > 0; i--)
        list += strcspn(list, ",") + (list[strcspn(list, ",")] == ',');
    size_t length = strcspn(list, ",");
    char *item = evpq__alloc(length + 1);
    if (item)
        memcpy(item, list, length);
    return item;
}

static bool is_number(const char *text)
{
    return text[strspn(text, "-0123456789")] == '\0';
}

/*
 * What a mistyped connection string puts into these may be half of a password,
 * which libpq would quote in its message: "//bob:se/cret@h", "//bob:se@cret@h".
 */
static const char *host_problem(const struct evpq__host *host)
{
    if (!is_number(host->port))
        return "a port in the connection string is not a number";
    if (host->host[0] && strchr(host->host + 1, '@'))
        return "a host name in the connection string has an '@' in it: write %40 for one in a "
               "password";
    return NULL;
}

/* "//bob:se@cr/et@h" has the host "cr", and would name it. */
static bool uri_has_another_at(const char *conninfo)
{
    static const char *const schemes[] = {"postgresql://", "postgres://"};
    for (size_t i = 0; conninfo && i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(conninfo, schemes[i], strlen(schemes[i])) != 0)
            continue;
        const char *at = conninfo + strlen(schemes[i]);
        size_t user = strcspn(at, "@/");
        at += user + (at[user] == '@');
        return at[strcspn(at, "@?")] == '@';
    }
    return false;
}

static const char no_memory[] = "out of memory";

static const char *split_hosts(struct evpq__hosts *hosts)
{
    const char *names = evpq__hosts_option(hosts, "host");
    const char *addresses = evpq__hosts_option(hosts, "hostaddr");
    const char *ports = evpq__hosts_option(hosts, "port");
    size_t count = count_items(addresses[0] ? addresses : names);
    if (addresses[0] && names[0] && count_items(names) != count)
        return "the connection string has different numbers of hosts and of hostaddrs";
    if (count_items(ports) != 1 && count_items(ports) != count)
        return "the connection string has different numbers of hosts and of ports";
    hosts->list = evpq__alloc(count * sizeof(*hosts->list));
    if (!hosts->list)
        return no_memory;
    hosts->count = count;
    for (size_t i = 0; i < hosts->count; i++) {
        struct evpq__host *h = &hosts->list[i];
        h->host = copy_item(names, names[0] ? i : 0, false);
        h->hostaddr = copy_item(addresses, addresses[0] ? i : 0, false);
        h->port = copy_item(ports, i, true);
        if (!h->host || !h->hostaddr || !h->port)
            return no_memory;
        const char *problem = host_problem(h);
        if (problem)
            return problem;
    }
    return NULL;
}

size_t evpq__hosts_random(struct evpq__hosts *hosts, size_t below)
{
    return (size_t)(erand48(hosts->random) * (double)below);
}

/* As libpq does (PQconnectOptions2): each order is as likely. */
static void shuffle_hosts(struct evpq__hosts *hosts)
{
    /* Not for secrets; where the kernel gives nothing, the order is the same each time. */
    if (getrandom(hosts->random, sizeof(hosts->random), GRND_NONBLOCK) < 0)
        return;
    for (size_t i = hosts->count; i > 1; i--) {
        size_t other = evpq__hosts_random(hosts, i);
        struct evpq__host host = hosts->list[i - 1];
        hosts->list[i - 1] = hosts->list[other];
        hosts->list[other] = host;
    }
}

/* No libpq reads a variable of the environment whose option it does not know. */
static const char *balance_of(const struct evpq__hosts *hosts)
{
    const char *said = evpq__hosts_option(hosts, "load_balance_hosts");
    const char *environment = evpq__pq_has_load_balance() ? NULL : getenv("PGLOADBALANCEHOSTS");
    return said[0] || !environment ? said : environment;
}

const char *evpq__hosts_read(struct evpq__hosts *hosts, const char *conninfo)
{
    *hosts = (struct evpq__hosts){0};
    char *renamed;
    if (evpq__conninfo_rename(&renamed, conninfo) != EVPQ_OK)
        return no_memory;
    hosts->options = read_options(renamed ? renamed : conninfo);
    if (renamed)
        evpq__conninfo_name_back(hosts->options);
    evpq__free(renamed);
    if (!hosts->options)
        return "libpq could not read the connection settings";
    /* libpq stops before it has filled in anything when there is no such service. */
    const PQconninfoOption *user = find_option(hosts->options, "user");
    if (!user || !user->val)
        return "the service file of the connection settings has no such service, or errors";
    const char *problem = NULL;
    static const char *const numbers[] = {"connect_timeout",  "keepalives",
                                          "keepalives_idle",  "keepalives_interval",
                                          "keepalives_count", "tcp_user_timeout"};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (!is_number(evpq__hosts_option(hosts, numbers[i])))
            problem = "a number in the connection string is not one";
    hosts->prefer_standby =
        strcmp(evpq__hosts_option(hosts, "target_session_attrs"), "prefer-standby") == 0;
    /* libpq's default is to look for Kerberos tickets on every connect. */
    PQconninfoOption *gss = find_option(hosts->options, "gssencmode");
    if (gss && gss->val && strcmp(gss->val, "prefer") == 0 && !getenv("PGGSSENCMODE") &&
        !(conninfo && strstr(conninfo, "gssencmode")))
        strcpy(gss->val, "");
    const char *balance = balance_of(hosts);
    if (!problem)
        problem = split_hosts(hosts);
    hosts->load_balance = strcmp(balance, "random") == 0;
    if (!problem && !hosts->load_balance && balance[0] && strcmp(balance, "disable") != 0)
        problem = "load_balance_hosts is neither \"random\" nor \"disable\"";
    if (!problem && hosts->load_balance)
        shuffle_hosts(hosts);
    if (!problem && uri_has_another_at(conninfo))
        problem =
            "the connection string has an '@' too many: write %40 for one in a password, and "
            "%2F for a '/'";
    hosts->wrong = problem && problem != no_memory;
    return problem;
}

void evpq__hosts_prefer(struct evpq__hosts *hosts, size_t number)
{
    if (number >= hosts->count || hosts->load_balance)
        return;
    struct evpq__host host = hosts->list[number];
    memmove(hosts->list + 1, hosts->list, number * sizeof(host));
    hosts->list[0] = host;
    hosts->preferred = number;
}

size_t evpq__hosts_number(const struct evpq__hosts *hosts, size_t place)
{
    return place == 0 ? hosts->preferred : place <= hosts->preferred ? place - 1 : place;
}

void evpq__hosts_free(struct evpq__hosts *hosts)
{
    for (size_t i = 0; i < hosts->count; i++) {
        evpq__free(hosts->list[i].host);
        evpq__free(hosts->list[i].hostaddr);
        evpq__free(hosts->list[i].port);
    }
    evpq__free(hosts->list);
    PQconninfoFree(hosts->options);
    *hosts = (struct evpq__hosts){0};
}

/*
 * What evpq wants where the user says nothing. Without a password of any kind
 * OpenSSL would ask the terminal for that of an encrypted key, and wait.
 */
static const char *const defaults[][2] = {
    {"gssencmode", "disable"}, {"keepalives_idle", "30"},     {"keepalives_interval", "10"},
    {"keepalives_count", "3"}, {"tcp_user_timeout", "30000"}, {"fallback_application_name", "evpq"},
    {"sslpassword", "none"},
};

/* Who sets keepalives means them: tcp_user_timeout would take the place of their count (tcp(7)). */
static bool sets_keepalives(const struct evpq__hosts *hosts)
{
    return evpq__hosts_option(hosts, "keepalives_idle")[0] ||
           evpq__hosts_option(hosts, "keepalives_interval")[0] ||
           evpq__hosts_option(hosts, "keepalives_count")[0];
}

static const char *default_of(const struct evpq__hosts *hosts, const char *keyword)
{
    if (strcmp(keyword, "tcp_user_timeout") == 0 && sets_keepalives(hosts))
        return NULL;
    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++)
        if (strcmp(defaults[i][0], keyword) == 0)
            return defaults[i][1];
    return NULL;
}

enum { MAX_OPTIONS = 128 };

PGconn *evpq__hosts_connect(const struct evpq__hosts *hosts, const struct evpq__host *host,
                            const char *address, const char *target_session_attrs)
{
    const char *const ours[][2] = {
        {"host", host->host},        {"hostaddr", address ? address : ""},
        {"port", host->port},        {"target_session_attrs", target_session_attrs},
        {"client_encoding", "UTF8"}, {"service", ""},
        {"load_balance_hosts", ""},
    };
    const char *keywords[MAX_OPTIONS + 1], *values[MAX_OPTIONS + 1];
    size_t count = 0;
    for (const PQconninfoOption *o = hosts->options; o->keyword && count < MAX_OPTIONS; o++) {
        const char *value = o->val && o->val[0] ? o->val : default_of(hosts, o->keyword);
        for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
            if (strcmp(ours[i][0], o->keyword) == 0)
                value = ours[i][1];
        if (!value || !value[0])
            continue;
        keywords[count] = o->keyword;
        values[count++] = value;
    }
    keywords[count] = values[count] = NULL;
    return PQconnectStartParams(keywords, values, 0);
}
