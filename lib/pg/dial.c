/* SPDX-License-Identifier: MIT */
/*
 *           hosts read      name known        address answers       set up
 *   START ------------> NEXT ------> LOOKUP -----> CONNECTING -----> SETUP ----> ENDED
 *     |                  ^  |          |               |               |           ^
 *     |                  |  | none     | time, error   | time, error   | error     |
 *     |                  +--|----------+---------------+               |           |
 *     +---------------------+------------------------------------------+-----------+
 *
 * NEXT is not a state but a decision, next_attempt(): the next address of this
 * host, or the next host, or, for prefer-standby, the list once more. An answer
 * of the server that is about us (a wrong password) ends the dial; only what is
 * about that server (refused, silent, starting up, of the wrong role) leads on.
 *
 * All of it runs on the helper. Home only starts, aborts and receives.
 */
#include "pg/dial.h"

#include <assert.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "pg/hosts.h"
#include "pg/pq.h"
#include "pg/result.h"
#include "pg/verify.h"

/* Column SETUP_PID of its row is the server's process. */
#define SETUP EVPQ__PQ_SESSION_SETUP ",pg_backend_pid()"
enum { SETUP_PID = 2 };

enum dial_state {
    DIAL_START,      /* on its way to the helper */
    DIAL_LOOKUP,     /* getaddrinfo() runs in a call */
    DIAL_CONNECTING, /* PQconnectPoll() decides what to wait for */
    DIAL_SETUP,      /* the session's settings have been sent */
    DIAL_ENDED,      /* the outcome is on its way home */
};

struct evpq__dial {
    struct evpq__loop *home, *loop; /* loop: the helper's */
    const char *conninfo;
    size_t first_host;
    int64_t deadline_us;
    evpq__dialed_fn *on_dialed;
    void *owner;
    unsigned awaited; /* at home: messages that the helper still owes */

    struct evpq__task start, abort; /* to the helper */
    struct evpq__task ended, acked; /* back home */

    enum dial_state state;
    struct evpq__hosts hosts;
    bool hosts_read;
    size_t host;                          /* the one being tried; hosts.count: none is left */
    bool second_pass;                     /* of prefer-standby: any server will do */
    bool remote;                          /* the address being tried is not of this machine */
    struct addrinfo *addresses, *address; /* of this host, and the next one to try */
    struct evpq__call *lookup;
    PGconn *pg;
    evpq__handshake *handshake; /* of pg */
    struct evpq__io io;
    struct evpq__timer timer;
    char *reasons; /* why the attempts so far failed */
    char sqlstate[6];
    struct evpq__dialed dialed;
};

static void dial_begin(struct evpq__task *task);
static void dial_on_abort(struct evpq__task *task);
static void dial_on_message(struct evpq__dial *dial);
static void dial_on_ended(struct evpq__task *task);
static void dial_on_acked(struct evpq__task *task);
static void dial_on_io(struct evpq__io *io, int events);
static void dial_on_timer(struct evpq__timer *timer);
static void next_attempt(struct evpq__dial *dial);
static void next_host(struct evpq__dial *dial);
static void shuffle_addresses(struct evpq__dial *dial);

/* At home */

struct evpq__dial *evpq__dial_start(struct evpq__helper *helper, struct evpq__loop *home,
                                    const char *conninfo, size_t first_host, int64_t deadline_us,
                                    evpq__dialed_fn *on_dialed, void *owner)
{
    struct evpq__dial *dial = evpq__alloc(sizeof(*dial));
    if (!dial)
        return NULL;
    dial->home = home;
    dial->loop = evpq__helper_loop(helper);
    dial->conninfo = conninfo;
    dial->first_host = first_host;
    dial->deadline_us = deadline_us;
    dial->on_dialed = on_dialed;
    dial->owner = owner;
    dial->awaited = 1;
    evpq__task_init(&dial->start, dial_begin);
    evpq__task_init(&dial->abort, dial_on_abort);
    evpq__task_init(&dial->ended, dial_on_ended);
    evpq__task_init(&dial->acked, dial_on_acked);
    evpq__io_init(&dial->io, dial_on_io);
    evpq__timer_init(&dial->timer, dial_on_timer);
    evpq__loop_send(dial->loop, &dial->start);
    return dial;
}

void evpq__dial_abort(struct evpq__dial *dial)
{
    assert(dial->awaited == 1);
    dial->awaited++;
    evpq__loop_send(dial->loop, &dial->abort);
}

static void dial_on_message(struct evpq__dial *dial)
{
    if (--dial->awaited > 0)
        return;
    struct evpq__dialed dialed = dial->dialed;
    evpq__dialed_fn *on_dialed = dial->on_dialed;
    void *owner = dial->owner;
    evpq__free(dial->reasons);
    evpq__free(dial);
    on_dialed(owner, &dialed);
}

static void dial_on_ended(struct evpq__task *task)
{
    dial_on_message(evpq__container_of(task, struct evpq__dial, ended));
}

static void dial_on_acked(struct evpq__task *task)
{
    dial_on_message(evpq__container_of(task, struct evpq__dial, acked));
}

/* On the helper, from here on. */

static void dial_enter(struct evpq__dial *dial, enum dial_state next)
{
    assert(dial->state != DIAL_ENDED);
    dial->state = next;
}

static void drop_addresses(struct evpq__dial *dial)
{
    if (dial->addresses)
        freeaddrinfo(dial->addresses);
    dial->addresses = dial->address = NULL;
}

/* Leaves the attempt under way, whatever it was waiting for. */
static void drop_attempt(struct evpq__dial *dial)
{
    evpq__timer_stop(&dial->timer);
    evpq__io_stop(&dial->io);
    if (dial->lookup)
        evpq__call_abandon(dial->lookup);
    dial->lookup = NULL;
    evpq__verify_drop(&dial->handshake);
    PQfinish(dial->pg);
    dial->pg = NULL;
}

static bool wants_read_write(const struct evpq__hosts *hosts)
{
    const char *role = evpq__hosts_option(hosts, "target_session_attrs");
    return strcmp(role, "read-write") == 0 || strcmp(role, "primary") == 0;
}

static void dial_end(struct evpq__dial *dial)
{
    drop_attempt(dial);
    drop_addresses(dial);
    if (dial->hosts_read) {
        dial->dialed.read_write = wants_read_write(&dial->hosts);
        evpq__hosts_free(&dial->hosts);
    }
    dial_enter(dial, DIAL_ENDED);
    evpq__loop_send(dial->home, &dial->ended);
}

/* PgBouncer has one SQLSTATE for all it refuses, also a password and, in 1.18, a database. */
static bool pooler_refused_for_good(const char *message)
{
    static const char *const words[] = {"authentication failed", " does not exist",
                                        "no such database", "no such user"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strstr(message, words[i]))
            return true;
    return false;
}

static bool is_of_pooler(const char *sqlstate)
{
    return strcmp(sqlstate, "08P01") == 0;
}

static void dial_fail(struct evpq__dial *dial, evpq_code code, const char *message)
{
    evpq__error_set_report(&dial->dialed.error, code, EVPQ_NOT_SENT,
                           &(struct evpq__server_report){.message = message,
                                                         .sqlstate = dial->sqlstate,
                                                         .stays = dial->dialed.refused_for_good});
    dial_end(dial);
}

static void dial_on_abort(struct evpq__task *task)
{
    struct evpq__dial *dial = evpq__container_of(task, struct evpq__dial, abort);
    if (dial->state != DIAL_ENDED)
        dial_fail(dial, EVPQ_ECANCELED, NULL);
    evpq__loop_send(dial->home, &dial->acked);
}

/* Remembers why an attempt failed; there may be many, so not for ever. */
static void add_reason(struct evpq__dial *dial, const char *reason)
{
    if (dial->reasons && (strlen(dial->reasons) > 600 || strstr(dial->reasons, reason)))
        return;
    char *all =
        dial->reasons ? evpq__format("%s; %s", dial->reasons, reason) : evpq__strdup(reason);
    if (!all)
        return;
    evpq__free(dial->reasons);
    dial->reasons = all;
}

/* A setting that only libpq reads, and has refused before it spoke to anybody: "invalid sslmode
 * value". In other languages than English it is tried again. */
static bool is_wrong_setting(const char *message)
{
    return strncmp(message, "invalid ", strlen("invalid ")) == 0;
}

static void add_libpq_reason(struct evpq__dial *dial)
{
    char tidy[512];
    evpq__pq_tidy_message(PQerrorMessage(dial->pg), tidy, sizeof(tidy), dial->sqlstate);
    const char *problem = dial->sqlstate[0] ? NULL : evpq__verify_problem(dial->handshake);
    dial->dialed.refused_for_good = evpq__pq_refused_for_good(dial->sqlstate) ||
                                    PQconnectionNeedsPassword(dial->pg) ||
                                    (!dial->sqlstate[0] && is_wrong_setting(tidy)) ||
                                    (is_of_pooler(dial->sqlstate) && pooler_refused_for_good(tidy));
    char *both = problem && tidy[0] ? evpq__format("%s: %s", tidy, problem) : NULL;
    add_reason(dial, both ? both : tidy[0] ? tidy : "libpq gave no reason");
    evpq__free(both);
}

/* The time of one more attempt: what is left, shared with those that may follow. */
static void start_share(struct evpq__dial *dial)
{
    int64_t now = evpq__loop_now(dial->loop);
    int64_t left = dial->deadline_us - now;
    int64_t attempts = (int64_t)(dial->hosts.count - dial->host);
    for (const struct addrinfo *a = dial->address; a; a = a->ai_next)
        attempts++;
    if (dial->hosts.prefer_standby && !dial->second_pass)
        attempts += (int64_t)dial->hosts.count;
    int64_t share = left / attempts;
    /* libpq's own option limits each attempt (its manual, "connect_timeout"). */
    long seconds = strtol(evpq__hosts_option(&dial->hosts, "connect_timeout"), NULL, 10);
    if (seconds > 0 && share / 1000000 > seconds)
        share = (int64_t)seconds * 1000000;
    evpq__timer_start(dial->loop, &dial->timer, now + share);
}

static void dial_on_timer(struct evpq__timer *timer)
{
    struct evpq__dial *dial = evpq__container_of(timer, struct evpq__dial, timer);
    const struct evpq__host *host = &dial->hosts.list[dial->host];
    bool lookup = dial->state == DIAL_LOOKUP;
    char *reason = evpq__format(
        "%s \"%.200s\"%s%s: no answer in time", lookup ? "looking up host" : "connecting to",
        host->host[0] ? host->host : host->hostaddr, host->port[0] ? ", port " : "", host->port);
    add_reason(dial, reason ? reason : "no answer in time");
    evpq__free(reason);
    drop_attempt(dial);
    if (evpq__loop_now(dial->loop) >= dial->deadline_us)
        dial_fail(dial, EVPQ_ECONNECT, dial->reasons);
    else if (lookup)
        next_host(dial);
    else
        next_attempt(dial);
}

/* The server has said no: does that hold for every other address too? Not when it cannot connect
 * now (57P03), nor what a pooler refuses because it is full, or its server away. */
static bool is_about_us(const struct evpq__dial *dial)
{
    const char *sqlstate = dial->sqlstate;
    return sqlstate[0] && strcmp(sqlstate, "57P03") != 0 &&
           (dial->dialed.refused_for_good || !is_of_pooler(sqlstate));
}

static void attempt_failed(struct evpq__dial *dial)
{
    add_libpq_reason(dial);
    drop_attempt(dial);
    if (is_about_us(dial))
        dial_fail(dial, EVPQ_ECONNECT, dial->reasons);
    else
        next_attempt(dial);
}

/* The server's process is not the one that the handshake has named: a pooler stands between. */
static void look_for_pooler(struct evpq__dial *dial, const PGresult *result)
{
    if (PQntuples(result) == 1 && PQnfields(result) == SETUP_PID + 1 &&
        strtol(PQgetvalue(result, 0, SETUP_PID), NULL, 10) != PQbackendPID(dial->pg))
        dial->dialed.notices |= EVPQ__DIAL_POOLER;
}

static void look_for_proof(struct evpq__dial *dial)
{
    bool verified = PQsslInUse(dial->pg) &&
                    strcmp(evpq__hosts_option(&dial->hosts, "sslmode"), "verify-full") == 0;
    if (dial->remote && !verified && !PQgssEncInUse(dial->pg))
        dial->dialed.notices |= EVPQ__DIAL_UNVERIFIED;
}

/* The session is ready: it goes home as it is from here on. */
static void dial_succeed(struct evpq__dial *dial)
{
    dial->dialed.cancel = evpq__cancel_new(dial->pg);
    if (!dial->dialed.cancel || !PQenterPipelineMode(dial->pg)) {
        evpq__cancel_free(dial->dialed.cancel);
        dial->dialed.cancel = NULL;
        dial_fail(dial, EVPQ_ENOMEM, NULL);
        return;
    }
    PQsetErrorVerbosity(dial->pg, PQERRORS_DEFAULT);
    look_for_proof(dial);
    evpq__verify_drop(&dial->handshake);
    evpq__io_stop(&dial->io);
    dial->dialed.pg = dial->pg;
    dial->pg = NULL;
    /* Any server is what nobody has asked for: it is not to be the first of the next dial. */
    if (!dial->second_pass && !dial->hosts.load_balance)
        dial->dialed.host = evpq__hosts_number(&dial->hosts, dial->host);
    dial_end(dial);
}

static void setup_wait(struct evpq__dial *dial)
{
    int unsent = PQflush(dial->pg);
    if (unsent < 0 || PQstatus(dial->pg) == CONNECTION_BAD || PQsocket(dial->pg) < 0)
        attempt_failed(dial);
    else
        evpq__io_start(dial->loop, &dial->io, PQsocket(dial->pg),
                       unsent ? EVPQ__READ | EVPQ__WRITE : EVPQ__READ);
}

static void setup_step(struct evpq__dial *dial)
{
    bool alive = evpq__pq_consume(dial->pg);
    while (alive && !PQisBusy(dial->pg)) {
        PGresult *result = PQgetResult(dial->pg);
        bool over = !result;
        /* Also what is no answer: of a COPY libpq would tell for ever. */
        ExecStatusType status = PQresultStatus(result);
        look_for_pooler(dial, result);
        bool refused = result && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK;
        PQclear(result);
        if (refused) {
            attempt_failed(dial);
            return;
        }
        if (over) {
            dial_succeed(dial);
            return;
        }
    }
    if (alive)
        setup_wait(dial);
    else
        attempt_failed(dial);
}

static void setup_begin(struct evpq__dial *dial)
{
    dial_enter(dial, DIAL_SETUP);
    /* A statement, not the "options" of the handshake: PgBouncer refuses those. */
    if (PQsetnonblocking(dial->pg, 1) != 0 || !PQsendQuery(dial->pg, SETUP))
        attempt_failed(dial);
    else
        setup_wait(dial);
}

static void connect_step(struct evpq__dial *dial, PostgresPollingStatusType next)
{
    /* First: libpq may have closed the socket, or have another one under its number. */
    evpq__io_stop(&dial->io);
    evpq__verify_hold(&dial->handshake, dial->pg);
    if (next == PGRES_POLLING_OK)
        setup_begin(dial);
    else if (next == PGRES_POLLING_FAILED || PQsocket(dial->pg) < 0)
        attempt_failed(dial);
    else
        evpq__io_start(dial->loop, &dial->io, PQsocket(dial->pg),
                       next == PGRES_POLLING_READING ? EVPQ__READ : EVPQ__WRITE);
}

static void dial_on_io(struct evpq__io *io, int events)
{
    (void)events;
    struct evpq__dial *dial = evpq__container_of(io, struct evpq__dial, io);
    if (dial->state == DIAL_SETUP)
        setup_step(dial);
    else
        connect_step(dial, PQconnectPoll(dial->pg));
}

static const char *wanted_role(const struct evpq__dial *dial)
{
    if (dial->hosts.prefer_standby)
        return dial->second_pass ? "any" : "standby";
    return evpq__hosts_option(&dial->hosts, "target_session_attrs");
}

static bool is_remote(const char *address)
{
    return address && strncmp(address, "127.", 4) != 0 && strcmp(address, "::1") != 0;
}

/* `address` is NULL for a socket in the file system. */
static void connect_begin(struct evpq__dial *dial, const char *address)
{
    dial_enter(dial, DIAL_CONNECTING);
    dial->dialed.refused_for_good = false;
    dial->remote = is_remote(address);
    dial->dialed.notices = 0;
    start_share(dial);
    dial->pg = evpq__hosts_connect(&dial->hosts, &dial->hosts.list[dial->host], address,
                                   wanted_role(dial));
    if (!dial->pg) {
        dial_fail(dial, EVPQ_ENOMEM, NULL);
        return;
    }
    PQsetNoticeReceiver(dial->pg, evpq__notices_receive, NULL);
    /* A refusal has no SQLSTATE of its own; verbose errors put it into the text. */
    PQsetErrorVerbosity(dial->pg, PQERRORS_VERBOSE);
    connect_step(dial, PQstatus(dial->pg) == CONNECTION_BAD ? PGRES_POLLING_FAILED
                                                            : PGRES_POLLING_WRITING);
}

static void next_attempt(struct evpq__dial *dial)
{
    struct addrinfo *a = dial->address;
    char numeric[NI_MAXHOST];
    if (!a) {
        next_host(dial);
        return;
    }
    dial->address = a->ai_next;
    if (getnameinfo(a->ai_addr, a->ai_addrlen, numeric, sizeof(numeric), NULL, 0, NI_NUMERICHOST) ==
        0)
        connect_begin(dial, numeric);
    else
        next_attempt(dial);
}

/* Names */

struct lookup {
    struct evpq__dial *dial;
    char *name;
    struct addrinfo *found;
    int failed;
};

static int look_up(const char *name, int flags, struct addrinfo **found)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
    return getaddrinfo(name, NULL, &hints, found);
}

static void lookup_work(void *arg)
{
    struct lookup *lookup = arg;
    lookup->failed = look_up(lookup->name, 0, &lookup->found);
}

static void lookup_dispose(void *arg)
{
    struct lookup *lookup = arg;
    if (!lookup->failed && lookup->found)
        freeaddrinfo(lookup->found);
    evpq__free(lookup->name);
    evpq__free(lookup);
}

static void lookup_done(void *arg)
{
    struct lookup *lookup = arg;
    struct evpq__dial *dial = lookup->dial;
    dial->lookup = NULL;
    evpq__timer_stop(&dial->timer);
    if (lookup->failed) {
        char *reason = evpq__format("could not look up host \"%.200s\": %s", lookup->name,
                                    gai_strerror(lookup->failed));
        add_reason(dial, reason ? reason : "could not look up a host");
        evpq__free(reason);
    } else {
        dial->addresses = dial->address = lookup->found;
        lookup->found = NULL;
        if (dial->hosts.load_balance)
            shuffle_addresses(dial);
    }
    lookup_dispose(lookup);
    next_attempt(dial);
}

static void lookup_begin(struct evpq__dial *dial, const char *name)
{
    static const struct evpq__call_class lookup_class = {lookup_work, lookup_done, lookup_dispose};
    dial_enter(dial, DIAL_LOOKUP);
    dial->dialed.refused_for_good = false;
    start_share(dial);
    struct lookup *lookup = evpq__alloc(sizeof(*lookup));
    if (lookup) {
        lookup->dial = dial;
        lookup->name = evpq__strdup(name);
        if (lookup->name)
            dial->lookup = evpq__call_start(dial->loop, &lookup_class, lookup);
        if (!dial->lookup)
            lookup_dispose(lookup);
    }
    if (!dial->lookup)
        dial_fail(dial, EVPQ_ENOMEM, NULL);
}

/* Of load_balance_hosts: the addresses of a name in any order, as libpq does (its manual, 34.1.2).
 */
static void shuffle_addresses(struct evpq__dial *dial)
{
    struct addrinfo *rest = dial->addresses, *shuffled = NULL;
    size_t count = 0;
    for (const struct addrinfo *a = rest; a; a = a->ai_next)
        count++;
    for (; rest; count--) {
        struct addrinfo **taken = &rest;
        for (size_t skip = evpq__hosts_random(&dial->hosts, count); skip > 0; skip--)
            taken = &(*taken)->ai_next;
        struct addrinfo *one = *taken;
        *taken = one->ai_next;
        one->ai_next = shuffled;
        shuffled = one;
    }
    dial->addresses = dial->address = shuffled;
}

static bool is_socket_path(const char *host)
{
    return !host[0] || host[0] == '/' || host[0] == '@';
}

/* Starts with the host that dial->host says. */
static void begin_host(struct evpq__dial *dial)
{
    const struct evpq__host *host = &dial->hosts.list[dial->host];
    drop_addresses(dial);
    if (host->hostaddr[0])
        connect_begin(dial, host->hostaddr);
    else if (is_socket_path(host->host))
        connect_begin(dial, NULL);
    else if (look_up(host->host, AI_NUMERICHOST, &dial->addresses) == 0) {
        dial->address = dial->addresses;
        next_attempt(dial);
    } else {
        dial->addresses = NULL;
        lookup_begin(dial, host->host);
    }
}

static void next_host(struct evpq__dial *dial)
{
    if (dial->host + 1 < dial->hosts.count) {
        dial->host++;
        begin_host(dial);
    } else if (dial->hosts.prefer_standby && !dial->second_pass) {
        dial->second_pass = true;
        dial->host = 0;
        begin_host(dial);
    } else {
        dial_fail(dial, EVPQ_ECONNECT, dial->reasons);
    }
}

static void dial_begin(struct evpq__task *task)
{
    struct evpq__dial *dial = evpq__container_of(task, struct evpq__dial, start);
    const char *problem = evpq__hosts_read(&dial->hosts, dial->conninfo);
    dial->hosts_read = true;
    if (problem) {
        dial->dialed.refused_for_good = dial->hosts.wrong;
        dial_fail(dial, EVPQ_ECONNECT, problem);
        return;
    }
    evpq__hosts_prefer(&dial->hosts, dial->first_host);
    begin_host(dial);
}
