/* SPDX-License-Identifier: MIT */
#include "support/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct process {
    pid_t pid, parent;
};

static int all_processes(struct process *list, int room)
{
    DIR *proc = opendir("/proc");
    int count = 0;
    for (struct dirent *entry; proc && (entry = readdir(proc)) && count < room;) {
        char path[300], text[512], status;
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        int parent, fd = entry->d_name[0] <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t length = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
        if (fd >= 0)
            close(fd);
        if (length <= 0)
            continue;
        text[length] = '\0';
        /* "pid (a name) state parent ..." */
        const char *behind = strrchr(text, ')');
        if (behind && sscanf(behind + 1, " %c %d", &status, &parent) == 2 && status != 'Z')
            list[count++] = (struct process){(pid_t)atoi(entry->d_name), parent};
    }
    if (proc)
        closedir(proc);
    return count;
}

int keeper_descendants(pid_t of, pid_t *pids, int room)
{
    static _Thread_local struct process list[8192];
    int count = all_processes(list, 8192), found = 0;
    for (int next = -1; next < found; next++) {
        pid_t parent = next < 0 ? of : pids[next];
        for (int i = 0; i < count && found < room; i++)
            if (list[i].parent == parent)
                pids[found++] = list[i].pid;
    }
    return found;
}

static void log_to(const char *dir)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/log", dir);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
}

void keeper_become(const struct keeper_setup *setup, char *argv[])
{
    char program[300];
    snprintf(program, sizeof(program), "%s/%s", setup->bindir, argv[0]);
    argv[0] = program;
    log_to(setup->dir);
    /* Keeps libpq's variables and the locale's away from the server. */
    char *environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    bool changed = setup->uid == geteuid() || (setgid(setup->gid) == 0 && setuid(setup->uid) == 0);
    if (changed && chdir(setup->dir) == 0)
        execve(program, argv, environment);
    _exit(127);
}

/* The shared memory that a postmaster leaves behind that was killed: line 7 of its file. */
static void remove_shared_memory(const char *dir)
{
    char path[64], line[128];
    snprintf(path, sizeof(path), "%s/data/postmaster.pid", dir);
    FILE *file = fopen(path, "r");
    int id = -1;
    for (int i = 1; file && fgets(line, sizeof(line), file); i++)
        if (i == 7 && sscanf(line, "%*u %d", &id) == 1)
            shmctl(id, IPC_RMID, NULL);
    if (file)
        fclose(file);
}

static void end_all(const struct keeper_setup *setup)
{
    pid_t pids[512];
    for (int attempt = 0; attempt < 300; attempt++) {
        int count = keeper_descendants(getpid(), pids, 512);
        for (int i = 0; i < count; i++) {
            kill(pids[i], SIGCONT);
            if (attempt % 100 == 0)
                kill(pids[i], attempt < 100 ? SIGQUIT : SIGKILL);
        }
        if (count == 0)
            break;
        usleep(10000);
    }
    remove_shared_memory(setup->dir);
    signal(SIGCHLD, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/rm", "rm", "-rf", "--", setup->dir, (char *)NULL);
        _exit(127);
    }
    waitpid(pid, NULL, 0);
}

static pid_t start_postmaster(const struct keeper_setup *setup)
{
    char data[64];
    snprintf(data, sizeof(data), "%s/data", setup->dir);
    char *argv[] = {"postgres", "-D", data, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGCHLD, SIG_DFL);
        keeper_become(setup, argv);
    }
    return pid;
}

static void keep(const struct keeper_setup *setup, int fd)
{
    setsid();
    /* Orphaned backends become our children, and are reaped by the kernel. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    log_to(setup->dir);
    for (int other = 3; other < 1024; other++)
        if (other != fd)
            close(other);
    for (char byte; read(fd, &byte, 1) == 1;) {
        pid_t pid = start_postmaster(setup);
        if (write(fd, &pid, sizeof(pid)) != sizeof(pid))
            break;
    }
    end_all(setup);
    /* Not _exit(): a leak checker would report what the fork has inherited. */
    kill(getpid(), SIGKILL);
}

struct keeper keeper_open(const struct keeper_setup *setup)
{
    struct keeper keeper = {-1, -1};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return keeper;
    fflush(NULL);
    keeper.pid = fork();
    if (keeper.pid == 0)
        keep(setup, pair[1]);
    keeper.pipe = pair[0];
    close(pair[1]);
    return keeper;
}

pid_t keeper_start(const struct keeper *keeper)
{
    pid_t pid = -1;
    if (write(keeper->pipe, "s", 1) != 1 ||
        read(keeper->pipe, &pid, sizeof(pid)) != (ssize_t)sizeof(pid))
        return -1;
    return pid;
}

void keeper_close(struct keeper *keeper)
{
    if (keeper->pid <= 0)
        return;
    close(keeper->pipe);
    while (waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *keeper = (struct keeper){0};
}
