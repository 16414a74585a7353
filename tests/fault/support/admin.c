/* SPDX-License-Identifier: MIT */
/* What a test asks the server behind the pool's back, never waiting for it without an end. */
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/live.h"
#include "support/server.h"

const char *fault_admin_conninfo(const struct fault_server *server)
{
    static _Thread_local char buffer[200];
    snprintf(buffer, sizeof(buffer),
             "host=%s port=%d user=admin dbname=%s connect_timeout=5 application_name=admin",
             server->dir, server->port, server->database);
    return buffer;
}

void fault_forget_admin(struct fault_server *server)
{
    PQfinish(server->admin);
    server->admin = NULL;
}

/* Waits for the socket; false at the end of time. */
static bool wait_socket(PGconn *conn, short events, double end, atomic_bool *stop)
{
    while (!stop || !atomic_load(stop)) {
        struct pollfd fd = {PQsocket(conn), events, 0};
        double left = end - live_now();
        if (left <= 0. || fd.fd < 0)
            return false;
        if (poll(&fd, 1, left < 0.05 ? (int)(left * 1e3) + 1 : 50) > 0)
            return true;
    }
    return false;
}

static void ignore_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

/* Neither blocks, where libpq would, on a server that is stopped. */
static PGconn *connect_within(const char *conninfo, double seconds, atomic_bool *stop)
{
    PGconn *conn = PQconnectStart(conninfo);
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    double end = live_now() + seconds;
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK) {
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(conn, events, end, stop))
            break;
        status = PQconnectPoll(conn);
    }
    if (status == PGRES_POLLING_OK)
        return conn;
    PQfinish(conn);
    return NULL;
}

/* The last result, or NULL. */
static PGresult *query_within(PGconn *conn, const char *sql, double seconds, atomic_bool *stop)
{
    double end = live_now() + seconds;
    PGresult *last = NULL;
    if (!PQsendQuery(conn, sql))
        return NULL;
    for (;;) {
        while (PQisBusy(conn))
            if (!wait_socket(conn, POLLIN, end, stop) || !PQconsumeInput(conn)) {
                PQclear(last);
                return NULL;
            }
        PGresult *result = PQgetResult(conn);
        if (!result)
            return last;
        PQclear(last);
        last = result;
    }
}

static bool good(const PGresult *result)
{
    return PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
}

static PGresult *admin_query(struct fault_server *server, const char *sql)
{
    if (PQstatus(server->admin) != CONNECTION_OK) {
        PQfinish(server->admin);
        server->admin = connect_within(fault_admin_conninfo(server), 10. * live_slow(), NULL);
    }
    PGresult *result =
        server->admin ? query_within(server->admin, sql, 10. * live_slow(), NULL) : NULL;
    if (!result) {
        PQfinish(server->admin);
        server->admin = NULL;
    }
    return result;
}

static int64_t first_value(const PGresult *result)
{
    return PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
}

bool fault_sql_try(struct fault_server *server, const char *sql, int64_t *value)
{
    PGresult *result = admin_query(server, sql);
    bool done = result && good(result);
    if (done && value)
        *value = first_value(result);
    PQclear(result);
    return done;
}

int64_t fault_sql(struct fault_server *server, const char *sql)
{
    PGresult *result = NULL;
    /* The connection may have been lost since it was last used. */
    for (int attempt = 0; attempt < 2 && !result; attempt++)
        result = admin_query(server, sql);
    if (!result || !good(result))
        fail_msg("%s: %s", sql, result ? PQresultErrorMessage(result) : "no answer");
    int64_t value = first_value(result);
    PQclear(result);
    return value;
}

void fault_sql_each(struct fault_server *server, const char *sql,
                    void (*take)(int64_t value, void *arg), void *arg)
{
    PGresult *result = NULL;
    for (int attempt = 0; attempt < 2 && !result; attempt++)
        result = admin_query(server, sql);
    if (!result || !good(result))
        fail_msg("%s: %s", sql, result ? PQresultErrorMessage(result) : "no answer");
    for (int i = 0; i < PQntuples(result); i++)
        take(strtoll(PQgetvalue(result, i, 0), NULL, 10), arg);
    PQclear(result);
}

int fault_connections(struct fault_server *server, const char *application)
{
    char sql[200];
    snprintf(sql, sizeof(sql),
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s'", application);
    return (int)fault_sql(server, sql);
}

struct fault_every {
    pthread_t thread;
    atomic_bool stop;
    bool up;
    double seconds;
    struct fault_tally tally;
    char conninfo[200], sql[400];
};

static void *run_every(void *arg)
{
    struct fault_every *every = arg;
    PGconn *conn = NULL;
    double next = live_now();
    while (!atomic_load(&every->stop)) {
        double left = next - live_now();
        if (left > 0.) {
            usleep(left < 0.02 ? (useconds_t)(left * 1e6) : 20000);
            continue;
        }
        next = live_now() + every->seconds;
        if (!conn)
            conn = connect_within(every->conninfo, 2., &every->stop);
        PGresult *result = conn ? query_within(conn, every->sql, 2., &every->stop) : NULL;
        if (result && good(result)) {
            int64_t value = first_value(result);
            every->tally.runs++;
            if (!every->up)
                every->tally.back = live_now();
            every->up = true;
            every->tally.sum += value;
            if (value > every->tally.most)
                every->tally.most = value;
        } else {
            PQfinish(conn);
            conn = NULL;
            every->tally.failures++;
            every->up = false;
            if (every->tally.lost == 0.)
                every->tally.lost = live_now();
        }
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

struct fault_every *fault_every(const struct fault_server *server, const char *sql, double seconds)
{
    struct fault_every *every = calloc(1, sizeof(*every));
    assert_non_null(every);
    every->up = true;
    every->seconds = seconds;
    snprintf(every->conninfo, sizeof(every->conninfo), "%s", fault_admin_conninfo(server));
    snprintf(every->sql, sizeof(every->sql), "%s", sql);
    assert_int_equal(pthread_create(&every->thread, NULL, run_every, every), 0);
    return every;
}

struct fault_tally fault_every_end(struct fault_every *every)
{
    atomic_store(&every->stop, true);
    pthread_join(every->thread, NULL);
    struct fault_tally tally = every->tally;
    free(every);
    return tally;
}
