/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAULT_KEEPER_H
#define EVPQ_TESTS_FAULT_KEEPER_H

/*
 * A process that holds a server's processes together. It lives until the other
 * end of its pipe closes, by which way ever: then it ends all that descends from
 * it, stopped ones too, and removes the directory.
 */

#include <sys/types.h>

/* How to run a program of the server; PostgreSQL does not run as root. */
struct keeper_setup {
    const char *bindir, *dir;
    uid_t uid;
    gid_t gid;
};

struct keeper {
    pid_t pid;
    int pipe;
};

/* Starts one; pid is -1 when that failed. */
struct keeper keeper_open(const struct keeper_setup *setup);
/* Starts a postmaster under it; -1 when that failed. */
pid_t keeper_start(const struct keeper *keeper);
/* Ends it and all below it; returns when that is done. */
void keeper_close(struct keeper *keeper);

/* The descendants of a process, without itself, parents first. Returns how many. */
int keeper_descendants(pid_t of, pid_t *pids, int room);
/* In a child: runs a program as the server's user, with its output in DIR/log. Never returns. */
void keeper_become(const struct keeper_setup *setup, char *argv[]) __attribute__((noreturn));

#endif /* EVPQ_TESTS_FAULT_KEEPER_H */
