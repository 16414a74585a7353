/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAULT_SERVER_H
#define EVPQ_TESTS_FAULT_SERVER_H

/*
 * A PostgreSQL server of the test's own, to be stopped, killed and refused by.
 *
 * Nothing of it outlives this process, see keeper.h. Two ways lead in: for the
 * pool TCP, a role without rights and a password that no message may hold; for
 * the test the socket and a superuser.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "support/keeper.h"

struct pg_conn;

struct fault_server {
    char dir[32];         /* of its own, removed at the end */
    char password[40];    /* "canary-pw-..." */
    const char *database; /* of the superuser's connection */
    int port;
    pid_t postmaster; /* 0: not started, or stopped */
    struct pg_conn *admin;
    struct keeper keeper;
    bool set_up; /* started with settings of a case */
};

enum fault_stop { FAULT_SMART, FAULT_FAST, FAULT_IMMEDIATE };

/*
 * The server of this program, running, with its own settings and roles: whatever the last case did
 * to it is undone. Made at the first call. Skips the case, with a reason, where none can be made.
 */
struct fault_server *fault_server(void);
/* A second one. Made at the first call; NULL where none can be made. */
struct fault_server *fault_server_other(void);

/*
 * The other of the two as a streaming standby of this one, running: a new copy of it, whatever it
 * held before. It has the password of the first.
 */
struct fault_server *fault_server_follow(struct fault_server *primary);

/* "host=127.0.0.1 port=... user=evpq password=... dbname=evpq" and more. A buffer of eight. */
const char *fault_conninfo(const struct fault_server *server, const char *more);
/* The superuser's, over the socket. A buffer of each thread. */
const char *fault_admin_conninfo(const struct fault_server *server);

/* Starts it and waits until it accepts. */
void fault_server_start(struct fault_server *server);
/* The same without waiting. */
void fault_server_launch(struct fault_server *server);
/* Tells it to stop, and waits for its last process. */
void fault_server_stop(struct fault_server *server, enum fault_stop mode);
/* The same without waiting: fault_server_gone() and _launch() are for then. */
void fault_server_tell_stop(struct fault_server *server, enum fault_stop mode);
/* True when no process of it is left; takes note of it. */
bool fault_server_gone(struct fault_server *server);
void fault_server_restart(struct fault_server *server, enum fault_stop mode);
/* kill -9 of the postmaster; its backends end by themselves. */
void fault_server_kill(struct fault_server *server);
/* Looks, without waiting for long, whether it lets a superuser in. */
bool fault_server_accepts(const struct fault_server *server);
/* Waits until it does; fails after so many seconds. */
void fault_server_await(const struct fault_server *server, double seconds);

/*
 * Its processes whose title holds `title`, as "evpq evpq" for the backends of the pool; NULL: all,
 * the postmaster first. Returns how many, at most `room`.
 */
int fault_server_pids(const struct fault_server *server, const char *title, pid_t *pids, int room);
/* A signal to all those: SIGSTOP stops a server, SIGCONT lets it go on. Returns how many. */
int fault_server_signal(const struct fault_server *server, const char *title, int signal);

/* One setting, by reload, or at the next start; fault_server() takes all back. */
void fault_server_set(struct fault_server *server, const char *name, const char *value);
/* Lines in front of pg_hba.conf, by reload. "" takes them back. */
void fault_server_hba(struct fault_server *server, const char *lines);
/* Whether it is a standby when it starts next: read-only, in_hot_standby is on. */
void fault_server_standby(struct fault_server *server, bool standby);

/* The superuser's statement, within 10 s; its first value, 0 when there is none. Fails the case. */
int64_t fault_sql(struct fault_server *server, const char *sql);
/* The same, that says whether it worked. */
bool fault_sql_try(struct fault_server *server, const char *sql, int64_t *value);
/* The rows of a statement with one bigint column; gives each to `take`. */
void fault_sql_each(struct fault_server *server, const char *sql,
                    void (*take)(int64_t value, void *arg), void *arg);
/* Closes the superuser's connection, of one or both; the next statement opens it again. */
void fault_forget_admin(struct fault_server *server);
void fault_forget_admins(void);
/* Connections of that application, as the server counts them. */
int fault_connections(struct fault_server *server, const char *application);

/*
 * The superuser's statement every so often, on a thread and a connection of its own: what a case
 * does, or looks at, while its loop runs.
 */
struct fault_every;
struct fault_tally {
    int64_t most, sum; /* of the first value */
    int runs, failures;
    double lost,
        back; /* live_now() of the first failure, of the first success after the last; or 0 */
};
struct fault_every *fault_every(const struct fault_server *server, const char *sql, double seconds);
struct fault_tally fault_every_end(struct fault_every *every);

/* Runs of minutes are asked for: EVPQ_TEST_LONG=1. */
bool fault_long(void);

#endif /* EVPQ_TESTS_FAULT_SERVER_H */
