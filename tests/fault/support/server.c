/* SPDX-License-Identifier: MIT */
#include "support/server.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/live.h"

/* A crash of a backend must lose no commit (synchronous_commit); one of the machine may. */
static const char settings[] =
    "listen_addresses = '127.0.0.1'\n"
    "fsync = off\n"
    "full_page_writes = off\n"
    "shared_buffers = 16MB\n"
    "dynamic_shared_memory_type = mmap\n"
    "max_connections = 60\n"
    "logging_collector = off\n"
    "include = 'test.conf'\n";
static const char hba[] =
    "local all admin trust\n"
    "host all all 127.0.0.1/32 scram-sha-256\n";

static struct fault_server servers[2];
static char bindir[256];
static struct passwd *runs_as; /* as root; NULL: as who we are */

static bool find_binaries(void)
{
    char line[240] = "", initdb[256];
    FILE *pipe = popen("pg_config --bindir 2>/dev/null", "r");
    if (pipe) {
        if (fgets(line, sizeof(line), pipe))
            line[strcspn(line, "\n")] = '\0';
        pclose(pipe);
    }
    snprintf(initdb, sizeof(initdb), "%s/initdb", line);
    if (line[0] && access(initdb, X_OK) == 0) {
        snprintf(bindir, sizeof(bindir), "%s", line);
        return true;
    }
    glob_t found;
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) != 0)
        return false;
    const char *last = found.gl_pathv[found.gl_pathc - 1];
    snprintf(bindir, sizeof(bindir), "%.*s", (int)(strrchr(last, '/') - last), last);
    globfree(&found);
    return true;
}

/* Why no server can be made here; NULL when one can. */
static const char *missing(void)
{
    if (!bindir[0] && !find_binaries())
        return "no initdb by pg_config or in /usr/lib/postgresql";
    if (geteuid() == 0 && !runs_as)
        runs_as = getpwnam("postgres");
    return geteuid() == 0 && !runs_as ? "we are root, and there is no user postgres" : NULL;
}

static const struct keeper_setup *setup_of(const struct fault_server *server)
{
    static struct keeper_setup setup;
    setup = (struct keeper_setup){bindir, server->dir, runs_as ? runs_as->pw_uid : geteuid(),
                                  runs_as ? runs_as->pw_gid : getegid()};
    return &setup;
}

static void give(const char *path)
{
    if (runs_as)
        assert_int_equal(chown(path, runs_as->pw_uid, runs_as->pw_gid), 0);
}

/* A file of the data directory. */
static void write_file(const struct fault_server *server, const char *name, const char *mode,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

static void write_file(const struct fault_server *server, const char *name, const char *mode,
                       const char *format, ...)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/data/%s", server->dir, name);
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    va_list args;
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    fclose(file);
    give(path);
}

static unsigned random_number(unsigned below)
{
    unsigned value = 0;
    FILE *file = fopen("/dev/urandom", "r");
    if (!file || fread(&value, sizeof(value), 1, file) != 1)
        value = (unsigned)getpid();
    if (file)
        fclose(file);
    return value % below;
}

/* Below the range from which the kernel takes ports for outgoing connections. */
static int free_port(void)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        int port = 20000 + (int)random_number(12000);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool free = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
        close(fd);
        if (free)
            return port;
    }
    return 0;
}

/* The last words of the server. */
static void show_log(const struct fault_server *server)
{
    char path[64], line[300];
    snprintf(path, sizeof(path), "%s/log", server->dir);
    FILE *log = fopen(path, "r");
    if (log && fseek(log, -2000, SEEK_END) == 0)
        fgets(line, sizeof(line), log);
    while (log && fgets(line, sizeof(line), log))
        print_message("%s", line);
    if (log)
        fclose(log);
}

static void run_program(const struct fault_server *server, char *argv[])
{
    int status = -1;
    const char *name = argv[0];
    pid_t pid = fork();
    if (pid == 0)
        keeper_become(setup_of(server), argv);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0) {
        show_log(server);
        fail_msg("%s failed", name);
    }
}

static void run_initdb(const struct fault_server *server)
{
    char data[64];
    snprintf(data, sizeof(data), "%s/data", server->dir);
    char *argv[] = {"initdb",
                    "--no-sync",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--username=admin",
                    "--auth=trust",
                    "-D",
                    data,
                    NULL};
    run_program(server, argv);
}

void fault_forget_admins(void)
{
    for (int i = 0; i < 2; i++)
        fault_forget_admin(&servers[i]);
}

static void end_servers(void)
{
    fault_forget_admins();
    for (int i = 0; i < 2; i++)
        keeper_close(&servers[i].keeper);
}

static void make(struct fault_server *server)
{
    static bool registered;
    if (!registered) {
        /* A test that has failed leaves its pools, and their threads in the middle of a login: at
         * exit OpenSSL would take away what they use. */
        OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
        atexit(end_servers);
    }
    registered = true;
    *server = (struct fault_server){.database = "postgres"};
    snprintf(server->dir, sizeof(server->dir), "/tmp/evpq-fault.XXXXXX");
    assert_non_null(mkdtemp(server->dir));
    give(server->dir);
    server->keeper = keeper_open(setup_of(server));
    assert_true(server->keeper.pid > 0);
    snprintf(server->password, sizeof(server->password), "canary-pw-%08u%08u",
             random_number(100000000), random_number(100000000));
    server->port = free_port();
    run_initdb(server);
    write_file(server, "test.conf", "w", "%s", "");
    write_file(server, "postgresql.conf", "a", "%sport = %d\nunix_socket_directories = '%s'\n",
               settings, server->port, server->dir);
    write_file(server, "pg_hba.conf", "w", "%s", hba);
    fault_server_start(server);
    char sql[200];
    snprintf(sql, sizeof(sql), "CREATE ROLE evpq LOGIN PASSWORD '%s'", server->password);
    fault_sql(server, sql);
    fault_sql(server, "CREATE DATABASE evpq OWNER evpq");
    fault_forget_admin(server);
    server->database = "evpq";
    fault_sql(server, "CREATE TABLE effects (nonce bigint)");
    fault_sql(server, "GRANT ALL ON effects TO evpq");
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info;
    (void)type;
    (void)where;
    return remove(path);
}

struct fault_server *fault_server_follow(struct fault_server *primary)
{
    struct fault_server *standby = &servers[primary == &servers[0]];
    char data[64], conninfo[160];
    if (standby->keeper.pid <= 0)
        make(standby);
    if (standby->postmaster)
        fault_server_stop(standby, FAULT_IMMEDIATE);
    fault_forget_admin(standby);
    snprintf(data, sizeof(data), "%s/data", standby->dir);
    assert_int_equal(nftw(data, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    fault_server_hba(primary, "local replication admin trust\n");
    snprintf(conninfo, sizeof(conninfo), "host=%s port=%d user=admin application_name=standby",
             primary->dir, primary->port);
    char *argv[] = {"pg_basebackup",
                    "--no-sync",
                    "--checkpoint=fast",
                    "--write-recovery-conf",
                    "-D",
                    data,
                    "-d",
                    conninfo,
                    NULL};
    run_program(standby, argv);
    write_file(standby, "test.conf", "w", "%s", "");
    write_file(standby, "postgresql.conf", "a", "port = %d\nunix_socket_directories = '%s'\n",
               standby->port, standby->dir);
    memcpy(standby->password, primary->password, sizeof(standby->password));
    fault_server_start(standby);
    return standby;
}

static bool accepts_within(const struct fault_server *server, double seconds)
{
    double end = live_now() + seconds * live_slow();
    while (!fault_server_accepts(server)) {
        if (live_now() > end)
            return false;
        usleep(10000);
    }
    return true;
}

static void standby_file(const struct fault_server *server, char *path, size_t room)
{
    snprintf(path, room, "%s/data/standby.signal", server->dir);
}

/* What a case has left behind, also one that failed in the middle. */
static void restore(struct fault_server *server)
{
    char path[96];
    fault_server_signal(server, NULL, SIGCONT);
    fault_server_gone(server);
    write_file(server, "test.conf", "w", "%s", "");
    write_file(server, "pg_hba.conf", "w", "%s", hba);
    standby_file(server, path, sizeof(path));
    bool standby = access(path, F_OK) == 0;
    unlink(path);
    if (server->postmaster)
        kill(server->postmaster, SIGHUP);
    /* It may be stopping, and wait for somebody. */
    if (server->postmaster &&
        (standby || server->set_up || !accepts_within(server, 5. / live_slow())))
        fault_server_stop(server, FAULT_IMMEDIATE);
    if (!server->postmaster)
        fault_server_start(server);
    /* The pool of a case that failed is still there. */
    fault_sql_try(server,
                  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'evpq'",
                  NULL);
}

static struct fault_server *get(int index)
{
    const char *why = missing();
    if (why) {
        print_message("no server of our own: %s\n", why);
        return NULL;
    }
    if (servers[index].keeper.pid <= 0)
        make(&servers[index]);
    else
        restore(&servers[index]);
    return &servers[index];
}

struct fault_server *fault_server(void)
{
    struct fault_server *server = get(0);
    if (!server)
        skip();
    return server;
}

struct fault_server *fault_server_other(void)
{
    return get(1);
}

const char *fault_conninfo(const struct fault_server *server, const char *more)
{
    static char buffers[8][512];
    static int next;
    char *buffer = buffers[next++ % 8];
    snprintf(buffer, sizeof(buffers[0]),
             "host=127.0.0.1 port=%d user=evpq password=%s dbname=evpq sslmode=disable %s",
             server->port, server->password, more ? more : "");
    return buffer;
}

int fault_server_pids(const struct fault_server *server, const char *title, pid_t *pids, int room)
{
    pid_t all[512];
    int count = keeper_descendants(server->keeper.pid, all, 512), kept = 0;
    for (int i = 0; i < count && kept < room; i++) {
        char path[32], text[512] = "";
        snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)all[i]);
        int fd = title ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        ssize_t length = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
        if (fd >= 0)
            close(fd);
        for (ssize_t at = 0; at + 1 < length; at++)
            text[at] = text[at] ? text[at] : ' ';
        if (!title || strstr(text, title))
            pids[kept++] = all[i];
    }
    return kept;
}

int fault_server_signal(const struct fault_server *server, const char *title, int signal)
{
    pid_t pids[512];
    int count = fault_server_pids(server, title, pids, 512);
    for (int i = 0; i < count; i++)
        kill(pids[i], signal);
    return count;
}

void fault_server_launch(struct fault_server *server)
{
    assert_int_equal(server->postmaster, 0);
    char path[96];
    struct stat set;
    snprintf(path, sizeof(path), "%s/data/test.conf", server->dir);
    server->set_up = stat(path, &set) == 0 && set.st_size > 0;
    server->postmaster = keeper_start(&server->keeper);
    assert_true(server->postmaster > 0);
}

void fault_server_start(struct fault_server *server)
{
    fault_server_launch(server);
    fault_server_await(server, 30.);
}

void fault_server_tell_stop(struct fault_server *server, enum fault_stop mode)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT};
    /* A smart stop waits for all clients, us too. */
    fault_forget_admin(server);
    kill(server->postmaster, signals[mode]);
}

bool fault_server_gone(struct fault_server *server)
{
    pid_t pid;
    if (keeper_descendants(server->keeper.pid, &pid, 1) > 0)
        return false;
    fault_forget_admin(server);
    server->postmaster = 0;
    return true;
}

static void await_gone(struct fault_server *server)
{
    double end = live_now() + 60.;
    while (!fault_server_gone(server)) {
        assert_true(live_now() < end);
        usleep(5000);
    }
}

void fault_server_stop(struct fault_server *server, enum fault_stop mode)
{
    fault_server_tell_stop(server, mode);
    await_gone(server);
}

void fault_server_restart(struct fault_server *server, enum fault_stop mode)
{
    fault_server_stop(server, mode);
    fault_server_start(server);
}

void fault_server_kill(struct fault_server *server)
{
    kill(server->postmaster, SIGKILL);
    await_gone(server);
}

bool fault_server_accepts(const struct fault_server *server)
{
    return PQping(fault_admin_conninfo(server)) == PQPING_OK;
}

void fault_server_await(const struct fault_server *server, double seconds)
{
    if (accepts_within(server, seconds))
        return;
    show_log(server);
    fail_msg("the server does not accept after %.0f s", seconds);
}

void fault_server_set(struct fault_server *server, const char *name, const char *value)
{
    write_file(server, "test.conf", "a", "%s = '%s'\n", name, value);
    if (server->postmaster)
        kill(server->postmaster, SIGHUP);
}

void fault_server_hba(struct fault_server *server, const char *lines)
{
    write_file(server, "pg_hba.conf", "w", "%s\n%s", lines, hba);
    if (server->postmaster)
        kill(server->postmaster, SIGHUP);
}

void fault_server_standby(struct fault_server *server, bool standby)
{
    char path[96];
    standby_file(server, path, sizeof(path));
    if (standby)
        write_file(server, "standby.signal", "w", "%s", "");
    else
        unlink(path);
}

bool fault_long(void)
{
    const char *asked = getenv("EVPQ_TEST_LONG");
    return asked && strcmp(asked, "1") == 0;
}
