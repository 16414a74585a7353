/* SPDX-License-Identifier: MIT */
/* Section F of the catalogue: conflicts, a full disk, a corrupt page: the server's own troubles. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/ledger.h"

/* F65: what may be tried again is said by the error, and trying again does it once. */

enum { WRITERS = 6, ACCOUNTS = 3 };

struct writers;

/* One that moves money between two accounts in a lease, again and again. */
struct writer {
    struct writers *all;
    evpq_lease *lease;
    int step, from, to, moved;
};

struct writers {
    struct ledger *ledger;
    const char *begin;
    struct writer writer[WRITERS];
    int wanted, open, again, serialization, deadlocks, unsafe;
    unsigned short random[3];
};

static void writer_step(struct writer *writer);

static void on_written(evpq_result *result, const evpq_error *err, void *user)
{
    struct writer *writer = user;
    struct writers *all = writer->all;
    (void)result;
    if (!err) {
        writer->step++;
        writer_step(writer);
        return;
    }
    all->serialization += strcmp(evpq_error_sqlstate(err), "40001") == 0;
    all->deadlocks += strcmp(evpq_error_sqlstate(err), "40P01") == 0;
    if (!evpq_error_retry_safe(err) || evpq_error_fate(err) != EVPQ_ROLLED_BACK) {
        print_message("  %s %s\n", evpq_error_sqlstate(err), evpq_error_message(err));
        all->unsafe++;
    }
    all->again++;
    writer->step = -1;
    writer_step(writer);
}

static void writer_step(struct writer *writer)
{
    struct writers *all = writer->all;
    if (writer->step == 5) {
        writer->moved++;
        writer->step = 0;
        if (writer->moved == all->wanted) {
            evpq_lease_release(writer->lease);
            all->open--;
            return;
        }
        writer->from = (int)(erand48(all->random) * ACCOUNTS);
        writer->to = (writer->from + 1 + (int)(erand48(all->random) * (ACCOUNTS - 1))) % ACCOUNTS;
    }
    /* The transaction has failed: from its beginning. */
    const char *const sql[] = {"ROLLBACK",
                               all->begin,
                               "UPDATE accounts SET balance = balance - 1 WHERE id = $1",
                               "SELECT pg_sleep(0.001)",
                               "UPDATE accounts SET balance = balance + 1, moves = moves + 1 "
                               "WHERE id = $1",
                               "COMMIT"};
    int step = writer->step + 1;
    const evpq_value id = evpq_int4(step == 2 ? writer->from : writer->to);
    const evpq_query query = {.size = sizeof(query),
                              .sql = sql[step],
                              .params = &id,
                              .params_count = step == 2 || step == 4};
    assert_int_equal(evpq_lease_query(NULL, writer->lease, &query, on_written, writer), EVPQ_OK);
}

static bool writers_done(struct live *live, void *arg)
{
    (void)live;
    return ((struct writers *)arg)->open == 0;
}

static void write_by(const char *begin, bool deadlocks)
{
    struct ledger ledger;
    struct fault_server *server = fault_server();
    struct writers all = {.ledger = &ledger, .begin = begin, .random = {6, 5, 0}};
    fault_server_set(server, "deadlock_timeout", "10ms");
    fault_sql(server,
              "CREATE TABLE accounts AS SELECT id::int4, 0::int8 AS balance, 0::int8 AS "
              "moves FROM generate_series(0, 2) AS id");
    fault_sql(server, "GRANT ALL ON accounts TO evpq");
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = WRITERS));
    all.wanted = live_scaled(fault_long() ? 500 : 40);
    for (int i = 0; i < WRITERS; i++) {
        struct outcome lease;
        live_acquire(&ledger.live, &lease);
        all.writer[i] = (struct writer){.all = &all, .lease = lease.lease, .from = 0, .to = 1};
        all.open++;
    }
    for (int i = 0; i < WRITERS; i++)
        writer_step(&all.writer[i]);
    ledger_until(&ledger, writers_done, &all, 120.);
    int64_t moves = fault_sql(server, "SELECT sum(moves) FROM accounts");
    ledger_figure("%s: %d moves, %d serialization failures, %d deadlocks, all tried again", begin,
                  WRITERS * all.wanted, all.serialization, all.deadlocks);
    assert_true(deadlocks ? all.deadlocks > 0 : all.serialization > 0);
    assert_int_equal(all.unsafe, 0);
    assert_int_equal(all.again, all.serialization + all.deadlocks);
    assert_int_equal(moves, WRITERS * all.wanted);
    assert_int_equal(fault_sql(server, "SELECT sum(balance) FROM accounts"), 0);
    /* The pool itself tries nothing again that was sent. */
    assert_int_equal(live_stats(&ledger.live).reruns, 0);
    ledger_check(&ledger);
    fault_sql(server, "DROP TABLE accounts");
}

static void serialization_failures_may_be_tried_again(void **state)
{
    (void)state;
    write_by("BEGIN ISOLATION LEVEL SERIALIZABLE", false);
}

static void deadlocks_may_be_tried_again(void **state)
{
    (void)state;
    write_by("BEGIN", true);
}

/* F66: a disk of some megabytes. */

static bool own_mounts; /* this process has a mount namespace of its own */
static char disk[64];

/* Before the server is started, which is to see the same. */
static void take_own_mounts(void)
{
    own_mounts =
        unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void end_disk(void)
{
    if (!disk[0])
        return;
    umount2(disk, MNT_DETACH);
    rmdir(disk);
    disk[0] = '\0';
}

/* False, with a reason printed, where this machine makes none. */
static bool make_disk(const struct fault_server *server)
{
    struct stat owner;
    char options[80];
    if (!own_mounts) {
        print_message("no mount namespace of our own\n");
        return false;
    }
    assert_int_equal(stat(server->dir, &owner), 0);
    snprintf(disk, sizeof(disk), "/tmp/evpq-disk.XXXXXX");
    assert_non_null(mkdtemp(disk));
    atexit(end_disk);
    snprintf(options, sizeof(options), "size=8m,mode=0700,uid=%u,gid=%u", (unsigned)owner.st_uid,
             (unsigned)owner.st_gid);
    if (mount("tmpfs", disk, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0)
        return true;
    print_message("no tmpfs can be mounted\n");
    end_disk();
    return false;
}

static int expect_full(struct ledger *ledger, const char *sql)
{
    struct outcome outcome;
    live_query(&ledger->live, &outcome, EVPQ_QUERY(sql));
    if (outcome.code != EVPQ_ESERVER || strcmp(outcome.sqlstate, "53100") != 0)
        ledger_breach(ledger, "%s: %s %s %s", sql, evpq_code_name(outcome.code), outcome.sqlstate,
                      outcome.message);
    assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
    /* Class 53: it may pass. */
    assert_true(outcome.retry_safe);
    outcome_clear(&outcome);
    return 1;
}

static void a_full_disk_is_an_error_and_no_more(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    if (!make_disk(server))
        skip();
    char sql[200];
    snprintf(sql, sizeof(sql), "CREATE TABLESPACE small LOCATION '%s'", disk);
    fault_sql(server, sql);
    fault_sql(server, "CREATE TABLE bulk (id bigint, text text) TABLESPACE small");
    fault_sql(server, "GRANT ALL ON TABLESPACE small TO evpq");
    fault_sql(server, "GRANT ALL ON bulk TO evpq");
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t pid = live_int8(&ledger.live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
    int full = 0;
    for (int i = 0; i < 3; i++) {
        full += expect_full(&ledger,
                            "INSERT INTO bulk SELECT i, repeat(md5(i::text), 30) FROM "
                            "generate_series(1, 100000) AS i");
        assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_WRITE())->code, EVPQ_OK);
    }
    /* A sort that does not fit into memory goes there too. */
    struct outcome lease, outcome;
    fault_sql(server, "DROP TABLE bulk");
    live_acquire(&ledger.live, &lease);
    live_lease_query(&ledger.live, &outcome, lease.lease,
                     EVPQ_QUERY("SELECT set_config('temp_tablespaces', 'small', false), "
                                "set_config('work_mem', '64kB', false)"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    evpq_lease_release(lease.lease);
    for (int i = 0; i < 3; i++) {
        full += expect_full(&ledger,
                            "SELECT count(*) FROM (SELECT repeat(md5(i::text), 10) AS t "
                            "FROM generate_series(1, 200000) AS i ORDER BY t) AS sorted");
        assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_WRITE())->code, EVPQ_OK);
    }
    assert_int_equal(live_int8(&ledger.live, EVPQ_QUERY("SELECT pg_backend_pid()::int8")), pid);
    assert_int_equal(live_stats(&ledger.live).reruns, 0);
    ledger_figure("a full disk: %d statements ended with 53100, on one connection", full);
    ledger_check(&ledger);
    fault_sql(server, "DROP TABLESPACE small");
    end_disk();
}

/* F67: a page that is not what was written. */

/* Runs a program of the server's, as the server. False when there is none, or it failed. */
static bool run_tool(const struct fault_server *server, const char *bindir, const char *name,
                     const char *option)
{
    struct stat owner;
    char data[64];
    assert_int_equal(stat(server->dir, &owner), 0);
    snprintf(data, sizeof(data), "%s/data", server->dir);
    char *argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)option, (char *)(uintptr_t) "-D",
                    data, NULL};
    const struct keeper_setup setup = {bindir, server->dir, owner.st_uid, owner.st_gid};
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        keeper_become(&setup, argv);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int64_t told_in_log(const struct fault_server *server, const char *words)
{
    char path[96], line[1000];
    int64_t count = 0;
    snprintf(path, sizeof(path), "%s/log", server->dir);
    FILE *log = fopen(path, "r");
    while (log && fgets(line, sizeof(line), log))
        count += strstr(line, words) && strstr(line, "ERROR");
    if (log)
        fclose(log);
    return count;
}

static void a_corrupt_page_is_an_error_and_no_loop(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    char link[64], bindir[256] = "", path[200];
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)server->postmaster);
    if (readlink(link, bindir, sizeof(bindir) - 1) < 0 || !strrchr(bindir, '/')) {
        print_message("where the server's programs are is not to be seen\n");
        skip();
    }
    *strrchr(bindir, '/') = '\0';
    fault_sql(server,
              "CREATE TABLE pages AS SELECT i::int8 AS id FROM generate_series(1, 5000) "
              "AS i");
    fault_sql(server, "GRANT ALL ON pages TO evpq");
    int64_t node = fault_sql(server, "SELECT pg_relation_filenode('pages')::int8"),
            base = fault_sql(server, "SELECT oid::int8 FROM pg_database WHERE datname = 'evpq'");
    fault_server_stop(server, FAULT_FAST);
    if (!run_tool(server, bindir, "pg_checksums", "--enable")) {
        fault_server_start(server);
        fault_sql(server, "DROP TABLE pages");
        print_message("pg_checksums does not work here\n");
        skip();
    }
    snprintf(path, sizeof(path), "%s/data/base/%lld/%lld", server->dir, (long long)base,
             (long long)node);
    /* In the third page; all zeroes would be a page that was never written. */
    int file = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0 && pwrite(file, "nonsense", 8, 2 * 8192 + 5000) == 8);
    close(file);
    fault_server_start(server);
    int64_t told = told_in_log(server, "invalid page");
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t pid = live_int8(&ledger.live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
    for (int i = 0; i < 5; i++) {
        struct outcome outcome;
        live_query(&ledger.live, &outcome, EVPQ_QUERY("SELECT sum(id)::int8 FROM pages"));
        assert_int_equal(outcome.code, EVPQ_ESERVER);
        assert_string_equal(outcome.sqlstate, "XX001");
        assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
        /* Of itself it does not pass. */
        assert_false(outcome.retry_safe);
        outcome_clear(&outcome);
        assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_WRITE())->code, EVPQ_OK);
    }
    assert_int_equal(live_int8(&ledger.live, EVPQ_QUERY("SELECT pg_backend_pid()::int8")), pid);
    /* Asked five times, read five times. */
    told = told_in_log(server, "invalid page") - told;
    ledger_figure("a corrupt page: asked for 5 times, read %lld times", (long long)told);
    assert_int_equal(told, 5);
    assert_int_equal(live_stats(&ledger.live).reruns, 0);
    ledger_check(&ledger);
    fault_sql(server, "DROP TABLE pages");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(serialization_failures_may_be_tried_again),
        cmocka_unit_test(deadlocks_may_be_tried_again),
        cmocka_unit_test(a_full_disk_is_an_error_and_no_more),
        cmocka_unit_test(a_corrupt_page_is_an_error_and_no_loop),
    };
    take_own_mounts();
    return cmocka_run_group_tests_name("data disk", tests, NULL, NULL);
}
