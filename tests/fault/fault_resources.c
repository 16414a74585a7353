/* SPDX-License-Identifier: MIT */
/* Section D of the catalogue: what the program itself runs out of. */
#include "support/server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/live.h"
#include "support/torture.h"

/* What all cases share */

static void open_pool(struct live *live, struct fault_server *server, const char *application,
                      const evpq_pool_options *options)
{
    char more[100];
    snprintf(more, sizeof(more), "application_name=%s", application);
    evpq_pool_options complete = *options;
    complete.conninfo = fault_conninfo(server, more);
    live_open(live, &complete);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Counts callbacks by their code. */
struct tally {
    int codes[16], all;
    evpq_code last;
};

static void count(evpq_result *result, const evpq_error *err, void *user)
{
    struct tally *tally = user;
    assert_true((result != NULL) == (err == NULL));
    tally->last = evpq_error_code(err);
    tally->codes[-tally->last]++;
    tally->all++;
}

static bool all_counted(struct live *live, void *arg)
{
    const int *wanted = ((void **)arg)[1];
    (void)live;
    return ((struct tally *)((void **)arg)[0])->all >= *wanted;
}

static void await_all(struct live *live, struct tally *tally, int wanted, double seconds)
{
    live_until(live, all_counted, (void *[]){tally, &wanted}, seconds);
    assert_int_equal(tally->all, wanted);
}

/* 40: descriptors */

static void set_descriptors(rlim_t soft)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = soft;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static rlim_t descriptors_allowed(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_cur;
}

/* The number that the next descriptor gets. */
static rlim_t next_descriptor(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
    return (rlim_t)fd;
}

/* So many statements are always under way. */
struct pressure {
    struct live *live;
    struct tally tally;
    bool ended;
    int under_way;
};

static void press_on(evpq_result *result, const evpq_error *err, void *user);

static void press(struct pressure *pressure)
{
    int code = evpq_pool_query(NULL, pressure->live->pool,
                               EVPQ_QUERY("SELECT pg_sleep(0.05)", .timeout_ms = 20000), press_on,
                               pressure);
    assert_int_equal(code, EVPQ_OK);
    pressure->under_way++;
}

static void press_on(evpq_result *result, const evpq_error *err, void *user)
{
    struct pressure *pressure = user;
    count(result, err, &pressure->tally);
    pressure->under_way--;
    if (!pressure->ended)
        press(pressure);
}

static bool relieved(struct live *live, void *arg)
{
    (void)live;
    return ((struct pressure *)arg)->under_way == 0;
}

static bool has_twenty(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).total >= 20;
}

static void case_40_a_pool_goes_on_with_the_descriptors_there_are(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    struct pressure pressure = {.live = &live};
    open_pool(&live, server, "descriptors", EVPQ_POOL_OPTIONS(.max_size = 30));
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    rlim_t before = descriptors_allowed();
    set_descriptors(next_descriptor() + 5);
    for (int i = 0; i < 30; i++)
        press(&pressure);
    live_run(&live, 1.);
    evpq_pool_stats first = live_stats(&live);
    double start = live_now(), cpu = cpu_seconds();
    live_run(&live, 3.);
    double seconds = live_now() - start;
    cpu = cpu_seconds() - cpu;
    evpq_pool_stats then = live_stats(&live);
    set_descriptors(before);
    uint64_t failed = then.dial_failures - first.dial_failures;
    print_message(
        "5 descriptors for 30 connections: %u open, %llu dials failed in %.1f s, %.1f %% "
        "of a CPU, %d statements\n",
        then.idle + then.busy, (unsigned long long)failed, seconds, cpu / seconds * 100.,
        pressure.tally.all);
    assert_true(then.dial_failures > 0);
    assert_true(then.idle + then.busy >= 2 && then.idle + then.busy <= 6);
    assert_true((double)failed <= 10. * seconds + 1.);
    assert_true(cpu < 0.3 * seconds * live_slow());
    assert_true(pressure.tally.all > 20);
    start = live_now();
    live_until(&live, has_twenty, NULL, 15.);
    print_message("20 connections %.2f s after the limit was lifted\n", live_now() - start);
    pressure.ended = true;
    live_until(&live, relieved, &pressure, 20.);
    assert_int_equal(pressure.tally.codes[0], pressure.tally.all);
    live_close(&live);
}

static void case_40_without_any_descriptor_there_is_an_error(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    open_pool(&live, server, "none", EVPQ_POOL_OPTIONS(.max_size = 2));
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    rlim_t before = descriptors_allowed();
    set_descriptors(next_descriptor());
    assert_int_equal(open("/dev/null", O_RDONLY), -1);
    evpq_pool *second = NULL;
    evpq_pool_options options = {.size = sizeof(options),
                                 .conninfo = fault_conninfo(server, "application_name=second")};
    int code = evpq_pool_open(&second, live.loop, &options);
    struct tally tally = {0};
    if (code == EVPQ_OK) {
        assert_int_equal(evpq_pool_query(NULL, second, EVPQ_QUERY("SELECT 1", .timeout_ms = 1000),
                                         count, &tally),
                         EVPQ_OK);
        double cpu = cpu_seconds();
        await_all(&live, &tally, 1, 10.);
        cpu = cpu_seconds() - cpu;
        print_message("no descriptor: %s after %.0f ms of CPU\n", evpq_code_name(tally.last),
                      cpu * 1e3);
        assert_true(tally.last == EVPQ_ECONNECT || tally.last == EVPQ_ENOMEM);
        assert_true(cpu < 0.2 * live_slow());
    } else {
        assert_int_equal(code, EVPQ_ENOMEM);
    }
    /* What is connected already needs none. */
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    set_descriptors(before);
    if (!second)
        assert_int_equal(evpq_pool_open(&second, live.loop, &options), EVPQ_OK);
    assert_int_equal(evpq_pool_query(NULL, second, EVPQ_QUERY("SELECT 1"), count, &tally), EVPQ_OK);
    await_all(&live, &tally, tally.all + 1, 10.);
    assert_int_equal(tally.last, EVPQ_OK);
    assert_int_equal(evpq_pool_close(second, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_OK);
    live_close(&live);
}

/* 39: memory */

static long status_kib(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[200];
    long kib = -1;
    while (file && kib < 0 && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name) + 1, NULL, 10);
    if (file)
        fclose(file);
    return kib;
}

enum { TAKEN_IN = 3 }; /* all of the row, though it is over the limit */

/* In a program of its own, which ends with 0 when it went as it should. */
static int large_row(const char *conninfo, size_t max_result_bytes, rlim_t room_mib)
{
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = 1,
                                       .max_result_bytes = max_result_bytes));
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    long before = status_kib("VmHWM");
    rlim_t room = (rlim_t)status_kib("VmSize") * 1024 + room_mib * 1024 * 1024;
    if (setrlimit(RLIMIT_AS, &(struct rlimit){room, room}) != 0)
        return 2;
    live_query(&live, &outcome, EVPQ_QUERY("SELECT repeat('x', 200000000)"));
    long grown_mib = (status_kib("VmHWM") - before) / 1024;
    printf("a row of 200 MB, max_result_bytes %zu, room for %lu MiB: %s, grown by %ld MiB\n",
           max_result_bytes, (unsigned long)room_mib, evpq_code_name(outcome.code), grown_mib);
    bool enough = room_mib > 200, limited = max_result_bytes > 0;
    bool right = outcome.code == EVPQ_ETOOLARGE && limited;
    /* libpq makes room for a whole row before the first byte of it is there; or gives up. */
    if (!enough)
        right = right || outcome.code == EVPQ_ENOMEM || outcome.code == EVPQ_EDISCONNECTED;
    /* libpq reads on as long as the server is faster than it, before it lets anybody look. */
    if (limited && grown_mib > 180)
        return TAKEN_IN;
    /* The pool is not the worse for it. */
    if (live_int8(&live, EVPQ_QUERY("SELECT 42::int8")) != 42)
        return 4;
    live_close(&live);
    return right ? 0 : 1;
}

static int run_large_row(const char *max_result_bytes, const char *room_mib)
{
    struct fault_server *server = fault_server();
    char conninfo[500];
    snprintf(conninfo, sizeof(conninfo), "%s", fault_conninfo(server, "application_name=large"));
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "fault_resources", "large-row", conninfo, max_result_bytes,
              room_mib, NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void check_large_row(const char *max_result_bytes, const char *room_mib)
{
    if (live_slow() > 1.) {
        print_message("skipped: a limit of memory is none under sanitizers or valgrind\n");
        skip();
    }
    /* A server that is always faster than libpq is so by chance. */
    int status = TAKEN_IN;
    for (int try = 0; try < 5 && status == TAKEN_IN; try++)
        status = run_large_row(max_result_bytes, room_mib);
    assert_int_equal(status, 0);
}

static void case_39_a_row_over_the_limit_is_not_taken_in(void **state)
{
    (void)state;
    check_large_row("10000000", "1000");
}

static void case_39_a_row_larger_than_memory_is_an_error(void **state)
{
    (void)state;
    check_large_row("10000000", "100");
}

static void case_39_without_a_limit_it_is_an_error_too(void **state)
{
    (void)state;
    check_large_row("0", "100");
}

/* 42: SIGTERM */

/* As a daemon would do it. */
struct daemon {
    struct live *live;
    double told, closed;
};

static void on_daemon_closed(void *user)
{
    ((struct daemon *)user)->closed = live_now();
}

static void on_sigterm(struct ev_loop *loop, ev_signal *w, int events)
{
    struct daemon *daemon = w->data;
    (void)events;
    daemon->told = live_now();
    ev_signal_stop(loop, w);
    assert_int_equal(
        evpq_pool_close(daemon->live->pool, EVPQ_CLOSE_FINISH, 500, on_daemon_closed, daemon),
        EVPQ_OK);
    daemon->live->pool = NULL;
}

static void case_42_sigterm_under_load_is_a_close_within_its_bound(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    struct tally brief = {0}, endless = {0};
    open_pool(&live, server, "term", EVPQ_POOL_OPTIONS(.max_size = 8, .cancel_timeout_ms = 500));
    struct daemon daemon = {.live = &live};
    ev_signal term;
    ev_signal_init(&term, on_sigterm, SIGTERM);
    term.data = &daemon;
    ev_signal_start(live.loop, &term);
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(30)"), count, &endless),
            EVPQ_OK);
    for (int i = 0; i < 12; i++)
        assert_int_equal(
            evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT pg_sleep(0.05)"), count, &brief),
            EVPQ_OK);
    live_run(&live, 0.02);
    /* To the process: no thread of the pool may take it. */
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    ev_run(live.loop, 0);
    print_message("SIGTERM: %d finished, %d closed, all over after %.0f ms\n", brief.codes[0],
                  endless.codes[-EVPQ_ECLOSED], (daemon.closed - daemon.told) * 1e3);
    assert_true(daemon.told > 0 && daemon.closed > 0);
    assert_true(daemon.closed - daemon.told < (0.5 + 2 * 0.5 + 0.25) * live_slow());
    assert_int_equal(brief.all, 12);
    assert_int_equal(endless.all, 2);
    assert_int_equal(endless.codes[-EVPQ_ECLOSED], 2);
    if (live_slow() <= 1.)
        assert_int_equal(brief.codes[0], 12);
    live_close(&live);
}

/* 45: no CPU */

enum { SPINNERS = 64 };

struct timed {
    double due;
    double late; /* its callback, after it was due */
    int calls;
    evpq_code code;
};

static void on_timed(evpq_result *result, const evpq_error *err, void *user)
{
    struct timed *timed = user;
    (void)result;
    timed->calls++;
    timed->code = evpq_error_code(err);
    timed->late = live_now() - timed->due;
}

static void spin(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (volatile unsigned n = 0;; n++)
        if (getppid() == 1)
            _exit(0);
}

static bool all_timed(struct live *live, void *arg)
{
    struct timed *const *range = arg;
    (void)live;
    for (struct timed *t = range[0]; t < range[1]; t++)
        if (t->calls == 0)
            return false;
    return true;
}

static void case_45_without_cpu_deadlines_are_a_little_late_and_nothing_breaks(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    pid_t spinners[SPINNERS];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int spinning = cpus * 4 < SPINNERS ? (int)cpus * 4 : SPINNERS;
    open_pool(&live, server, "starved", EVPQ_POOL_OPTIONS(.min_size = 8, .max_size = 8));
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    live_run(&live, 0.2);
    for (int i = 0; i < spinning; i++) {
        spinners[i] = fork();
        if (spinners[i] == 0)
            spin();
    }
    enum { MOST = 300 };
    static struct timed quick[MOST], slow[MOST];
    memset(quick, 0, sizeof(quick));
    memset(slow, 0, sizeof(slow));
    int asked = live_scaled(MOST), slow_asked = 0;
    for (int i = 0; i < asked; i++) {
        quick[i].due = live_now();
        assert_int_equal(evpq_pool_query(NULL, live.pool,
                                         EVPQ_QUERY("SELECT 1", .timeout_ms = 60000), on_timed,
                                         &quick[i]),
                         EVPQ_OK);
        if (i % 5 == 0) {
            struct timed *t = &slow[slow_asked++];
            t->due = live_now() + 0.2;
            assert_int_equal(evpq_pool_query(NULL, live.pool,
                                             EVPQ_QUERY("SELECT pg_sleep(60)", .timeout_ms = 200),
                                             on_timed, t),
                             EVPQ_OK);
        }
        live_run(&live, 0.01);
    }
    live_until(&live, all_timed, (struct timed *[]){quick, quick + asked}, 60.);
    live_until(&live, all_timed, (struct timed *[]){slow, slow + slow_asked}, 60.);
    evpq_pool_stats stats = live_stats(&live);
    for (int i = 0; i < spinning; i++) {
        kill(spinners[i], SIGKILL);
        waitpid(spinners[i], NULL, 0);
    }
    double latest = 0, slowest = 0;
    int wrong = 0;
    for (int i = 0; i < slow_asked; i++) {
        latest = slow[i].late > latest ? slow[i].late : latest;
        wrong += slow[i].calls != 1 || slow[i].code != EVPQ_ETIMEOUT;
    }
    for (int i = 0; i < asked; i++) {
        slowest = quick[i].late > slowest ? quick[i].late : slowest;
        wrong += quick[i].calls != 1 || quick[i].code != EVPQ_OK;
    }
    print_message(
        "%d busy loops on %ld CPUs: the latest of %d deadlines was %.0f ms late, the "
        "slowest of %d statements took %.0f ms, %llu connections lost\n",
        spinning, cpus, slow_asked, latest * 1e3, asked, slowest * 1e3,
        (unsigned long long)stats.closed_broken);
    assert_int_equal(wrong, 0);
    assert_true(latest < 0.5 * live_slow());
    assert_int_equal(stats.closed_broken, 0);
    assert_int_equal(stats.dial_failures, 0);
    live_close(&live);
}

/* 46: very many waiters */

static void case_46_a_hundred_thousand_waiters(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    struct outcome lease;
    struct tally tally = {0};
    int many = live_scaled(100000), tenth = many / 10;
    evpq_op **ops = calloc((size_t)many, sizeof(*ops));
    assert_non_null(ops);
    assert_true(torture_begin(TORTURE_EVPQ));
    open_pool(&live, server, "many",
              EVPQ_POOL_OPTIONS(.max_size = 1, .max_waiters = (uint32_t)many,
                                .query_timeout_ms = 600000));
    live_acquire(&live, &lease);
    long blocks = torture_blocks();
    size_t bytes = torture_bytes();
    double took[10];
    for (int i = 0; i < 10; i++) {
        double start = live_now();
        for (int k = i * tenth; k < (i + 1) * tenth; k++)
            assert_int_equal(
                evpq_pool_query(&ops[k], live.pool,
                                EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(k))), count,
                                &tally),
                EVPQ_OK);
        took[i] = live_now() - start;
    }
    many = 10 * tenth;
    bytes = (torture_bytes() - bytes) / (size_t)many;
    blocks = torture_blocks() - blocks;
    evpq_pool_stats stats = live_stats(&live);
    assert_int_equal(stats.waiting, many);

    /* One too many is told so by the call. */
    double start = live_now();
    int refused = 0;
    for (int i = 0; i < tenth; i++)
        refused += evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), count, &tally) ==
                   EVPQ_EOVERLOADED;
    double refusing = live_now() - start;
    if (many == live_scaled(100000))
        assert_int_equal(refused, tenth);
    assert_int_equal(tally.all, 0);

    start = live_now();
    for (int i = 0; i < many; i++)
        evpq_op_cancel(ops[i]);
    double canceling = live_now() - start;
    await_all(&live, &tally, many, 60.);
    double delivered = live_now() - start;
    print_message(
        "%d waiters: %.2f us each to ask for (first tenth %.2f, last %.2f), %zu bytes "
        "and %.2f blocks each; %.2f us to refuse one; all cancelled in %.1f ms, called "
        "back after %.1f ms\n",
        many, (took[0] + took[9]) / 2 / tenth * 1e6, took[0] / tenth * 1e6, took[9] / tenth * 1e6,
        bytes, (double)blocks / many, refusing / tenth * 1e6, canceling * 1e3, delivered * 1e3);
    assert_int_equal(tally.codes[-EVPQ_ECANCELED], many);
    assert_true(took[9] < 5. * took[0] + 0.05 * live_slow());
    assert_true(refusing < took[0] + 0.05 * live_slow());
    assert_true(bytes < 1000);
    assert_true(delivered < 1. * live_slow());
    evpq_lease_release(lease.lease);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 42::int8")), 42);
    live_close(&live);
    assert_int_equal(torture_blocks(), 0);
    assert_true(torture_end());
    free(ops);
}

/* 46, 47: what is told about it all */

struct book {
    bool in_call; /* of ours into evpq: nothing may be told then */
    uint64_t told, lost, finished;
    int64_t last_at;
    bool disordered;
};

static void write_down(const evpq_trace *event, void *user)
{
    struct book *book = user;
    assert_false(book->in_call);
    book->told++;
    book->lost += event->lost;
    book->finished += event->kind == EVPQ_TRACE_FINISHED;
    book->disordered |= event->at_us < book->last_at;
    book->last_at = event->at_us;
}

static void case_46_traces_are_bounded_and_say_what_was_lost(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    struct outcome lease;
    struct tally tally = {0};
    struct book book = {0};
    int many = live_scaled(100000);
    evpq_op **ops = calloc((size_t)many, sizeof(*ops));
    assert_non_null(ops);
    assert_true(torture_begin(TORTURE_EVPQ));
    open_pool(&live, server, "traced",
              EVPQ_POOL_OPTIONS(.max_size = 1, .max_waiters = (uint32_t)many,
                                .query_timeout_ms = 600000, .on_trace = write_down,
                                .trace_user = &book, .trace_kinds = EVPQ_TRACE_FINISHED));
    live_acquire(&live, &lease);
    live_run(&live, 0.01);
    uint64_t before = book.told;
    for (int i = 0; i < many; i++)
        assert_int_equal(evpq_pool_query(&ops[i], live.pool, EVPQ_QUERY("SELECT 1"), count, &tally),
                         EVPQ_OK);
    size_t bytes = torture_bytes();
    book.in_call = true;
    for (int i = 0; i < many; i++)
        evpq_op_cancel(ops[i]);
    book.in_call = false;
    await_all(&live, &tally, many, 60.);
    /* The next event tells of those that found no room. */
    evpq_lease_release(lease.lease);
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    live_run(&live, 0.01);
    size_t held = torture_bytes();
    live_close(&live);
    print_message(
        "%d operations ended in one turn: %llu events told, %llu lost, %zu KiB held "
        "after it\n",
        many, (unsigned long long)(book.told - before), (unsigned long long)book.lost, held / 1024);
    /* Each operation, the acquire, and the last statement. */
    assert_int_equal(book.told + book.lost, (uint64_t)many + 2);
    assert_true(book.told - before >= 1024 || many < 1024);
    assert_true(many < 5000 || book.lost > 0);
    assert_false(book.disordered);
    assert_true(held < bytes);
    assert_true(held < 1024 * 1024);
    assert_int_equal(torture_blocks(), 0);
    assert_true(torture_end());
    free(ops);
}

static void case_47_nothing_is_written_anywhere(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live, nowhere;
    struct outcome outcome, refused;
    int ends[2], written = -1;
    fflush(stdout);
    fflush(stderr);
    assert_int_equal(pipe(ends), 0);
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    assert_true(out >= 0 && err >= 0);
    /* A reader that never reads: whoever fills this pipe is blocked. */
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    open_pool(&live, server, "silent", EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &outcome,
               EVPQ_QUERY("DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE WARNING 'a warning of some "
                          "length, number %', i; END LOOP; END $$"));
    live_query(&live, &refused, EVPQ_QUERY("SELECT no_such_column"));
    live_open(&nowhere, EVPQ_POOL_OPTIONS(.conninfo = "host=127.0.0.1 port=1", .fail_fast = true));
    struct outcome failed;
    live_query(&nowhere, &failed, EVPQ_QUERY("SELECT 1"));
    live_close(&nowhere);
    live_close(&live);
    fflush(stdout);
    fflush(stderr);
    ioctl(ends[0], FIONREAD, &written);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(outcome.code, EVPQ_OK);
    assert_int_equal(refused.code, EVPQ_ESERVER);
    assert_int_equal(failed.code, EVPQ_ECONNECT);
    outcome_clear(&outcome);
    assert_int_equal(written, 0);
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "large-row") == 0)
        return large_row(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_39_a_row_over_the_limit_is_not_taken_in),
        cmocka_unit_test(case_39_a_row_larger_than_memory_is_an_error),
        cmocka_unit_test(case_39_without_a_limit_it_is_an_error_too),
        cmocka_unit_test(case_40_a_pool_goes_on_with_the_descriptors_there_are),
        cmocka_unit_test(case_40_without_any_descriptor_there_is_an_error),
        cmocka_unit_test(case_42_sigterm_under_load_is_a_close_within_its_bound),
        cmocka_unit_test(case_45_without_cpu_deadlines_are_a_little_late_and_nothing_breaks),
        cmocka_unit_test(case_46_a_hundred_thousand_waiters),
        cmocka_unit_test(case_46_traces_are_bounded_and_say_what_was_lost),
        cmocka_unit_test(case_47_nothing_is_written_anywhere),
    };
    return cmocka_run_group_tests_name("resources", tests, NULL, NULL);
}
