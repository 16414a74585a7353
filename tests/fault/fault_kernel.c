/* SPDX-License-Identifier: MIT */
/* Section D of the catalogue: the kernel does less than it was asked for, or says no. */
#include "support/server.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "support/live.h"

/* The kernel's answers, made worse: for all that link with us. */

static struct {
    atomic_int percent; /* of calls that are cut short, or put off */
    atomic_uint seed;
    atomic_long cut, put_off, broken_pipes, resets;
} kernel;

static bool by_chance(int percent)
{
    unsigned seed = atomic_fetch_add(&kernel.seed, 0x9E3779B9U);
    seed ^= seed >> 16;
    seed *= 0x85EBCA6BU;
    seed ^= seed >> 13;
    seed *= 0xC2B2AE35U;
    seed ^= seed >> 16;
    return seed % 100 < (unsigned)percent;
}

static bool blocks(int fd, int flags)
{
    return !(flags & MSG_DONTWAIT) && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* How much of it is done; 0: nothing, see errno. */
static size_t how_much(int fd, size_t length, int flags)
{
    if (length == 0 || kernel.percent == 0 || !by_chance(kernel.percent))
        return length;
    int kind = by_chance(50) ? 0 : by_chance(50) ? 1 : 2;
    if (kind == 0 && length > 1) {
        kernel.cut++;
        return by_chance(50) ? 1 : 1 + length / 3;
    }
    kernel.put_off++;
    errno = kind == 1 || blocks(fd, flags) ? EINTR : EAGAIN;
    return 0;
}

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    static ssize_t (*real)(int, const void *, size_t, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "send");
    size_t part = how_much(fd, length, flags);
    if (part == 0 && length > 0)
        return -1;
    ssize_t sent = real(fd, bytes, part, flags);
    kernel.broken_pipes += sent < 0 && errno == EPIPE;
    kernel.resets += sent < 0 && errno == ECONNRESET;
    return sent;
}

ssize_t recv(int fd, void *bytes, size_t length, int flags)
{
    static ssize_t (*real)(int, void *, size_t, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "recv");
    size_t part = how_much(fd, length, flags);
    return part == 0 && length > 0 ? -1 : real(fd, bytes, part, flags);
}

/* By its name in the object: in the headers its argument is a union of glibc's. */
int interrupted_connect(int fd, const struct sockaddr *address,
                        socklen_t length) __asm__("connect");

int interrupted_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "connect");
    int done = real(fd, address, length);
    /* It goes on all the same. */
    if (done < 0 && errno == EINPROGRESS && kernel.percent > 0 && by_chance(kernel.percent)) {
        kernel.put_off++;
        errno = EINTR;
    }
    return done;
}

int epoll_wait(int fd, struct epoll_event *events, int room, int timeout)
{
    static int (*real)(int, struct epoll_event *, int, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_wait");
    if (kernel.percent > 0 && by_chance(kernel.percent)) {
        errno = EINTR;
        return -1;
    }
    return real(fd, events, room, timeout);
}

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

/* 41: short reads and writes, EAGAIN, EINTR */

struct echo {
    int64_t nonce;
    char *text;
    int calls;
};

static uint64_t hash(uint64_t so_far, const void *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        so_far = (so_far ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001B3);
    return so_far;
}

static void on_echo(evpq_result *result, const evpq_error *err, void *user)
{
    struct echo *echo = user;
    int64_t nonce = 0;
    evpq_text_view text = {0};
    if (err)
        fail_msg("%s: %s", evpq_code_name(evpq_error_code(err)), evpq_error_message(err));
    echo->calls++;
    assert_int_equal(evpq_result_int8(result, 0, 0, &nonce), EVPQ_OK);
    assert_int_equal(nonce, echo->nonce);
    assert_int_equal(evpq_result_text(result, 0, 1, &text), EVPQ_OK);
    size_t length = strlen(echo->text);
    assert_int_equal(text.length, 2 * length);
    assert_memory_equal(text.data, echo->text, length);
    assert_memory_equal(text.data + length, echo->text, length);
}

struct walk {
    int64_t last;
    uint64_t hash;
    bool more;
    int calls;
};

static void on_walk(evpq_page *page, const evpq_error *err, void *user)
{
    struct walk *walk = user;
    if (err)
        fail_msg("%s", evpq_error_message(err));
    walk->calls++;
    walk->more = evpq_page_has_next(page);
    for (uint32_t row = 0; row < evpq_page_rows(page); row++) {
        evpq_text_view id, text;
        assert_int_equal(evpq_result_text(evpq_page_result(page), row, 0, &id), EVPQ_OK);
        assert_int_equal(evpq_result_text(evpq_page_result(page), row, 1, &text), EVPQ_OK);
        assert_int_equal(strtoll(id.data, NULL, 10), ++walk->last);
        walk->hash = hash(walk->hash, text.data, text.length);
    }
}

static bool walk_called(struct live *live, void *arg)
{
    (void)live;
    return ((struct walk *)arg)->calls > 0;
}

static uint64_t walk_all(struct live *live)
{
    struct walk walk = {.more = true};
    evpq_pager *pager;
    const evpq_pager_options *options = EVPQ_PAGER_OPTIONS(
            .sql = "SELECT id, repeat(md5(id::text), 20) AS t FROM generate_series(1, 500) AS id",
            .assume_unique = true, .order_by = "id", .page_size = 50);
    assert_int_equal(evpq_pager_open(&pager, live->pool, options), EVPQ_OK);
    while (walk.more) {
        walk.calls = 0;
        assert_int_equal(evpq_pager_next(NULL, pager, on_walk, &walk), EVPQ_OK);
        live_until(live, walk_called, &walk, 60.);
    }
    assert_int_equal(walk.last, 500);
    evpq_pager_close(pager);
    return walk.hash;
}

static bool echoes_done(struct live *live, void *arg)
{
    struct echo *const *echoes = arg;
    (void)live;
    for (; *echoes; echoes++)
        if ((*echoes)->calls == 0)
            return false;
    return true;
}

/* Statements of all sizes at once; each checks its own answer. */
static void echo_all(struct live *live, int wanted)
{
    struct echo *echoes = calloc((size_t)wanted, sizeof(*echoes));
    struct echo **list = calloc((size_t)wanted + 1, sizeof(*list));
    assert_true(echoes && list);
    for (int i = 0; i < wanted; i++) {
        struct echo *echo = list[i] = &echoes[i];
        size_t length = i % 50 == 49 ? 300000 : (size_t)(i * 7919 % 5000);
        echo->nonce = i * INT64_C(1000003);
        echo->text = malloc(length + 1);
        assert_non_null(echo->text);
        for (size_t k = 0; k < length; k++)
            echo->text[k] = (char)('a' + (k * 31 + (size_t)i) % 26);
        echo->text[length] = '\0';
        assert_int_equal(
            evpq_pool_query(NULL, live->pool,
                            EVPQ_QUERY("SELECT $1::int8, $2 || $2",
                                       EVPQ_PARAMS(evpq_int8(echo->nonce), evpq_text(echo->text)),
                                       .timeout_ms = 120000),
                            on_echo, echo),
            EVPQ_OK);
    }
    live_until(live, echoes_done, list, 120.);
    for (int i = 0; i < wanted; i++) {
        assert_int_equal(echoes[i].calls, 1);
        free(echoes[i].text);
    }
    free(list);
    free(echoes);
}

static bool all_idle(struct live *live, void *arg)
{
    evpq_pool_stats stats = live_stats(live);
    (void)arg;
    return stats.idle == stats.total;
}

static void case_41_short_and_interrupted_calls_change_nothing(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct live live;
    open_pool(&live, server, "short", EVPQ_POOL_OPTIONS(.max_size = 4, .query_timeout_ms = 60000));
    uint64_t undisturbed = walk_all(&live);
    live_close(&live);

    /* From the first byte of the first dial on. */
    kernel.cut = kernel.put_off = 0;
    kernel.percent = 30;
    double start = live_now();
    open_pool(&live, server, "short", EVPQ_POOL_OPTIONS(.max_size = 4, .query_timeout_ms = 60000));
    echo_all(&live, live_scaled(4000));
    uint64_t disturbed = walk_all(&live);
    struct tally tally = {0};
    int canceled = 4 * live_scaled(10);
    while (tally.all < canceled) {
        for (int i = 0; i < 4; i++)
            assert_int_equal(evpq_pool_query(NULL, live.pool,
                                             EVPQ_QUERY("SELECT pg_sleep(30)", .timeout_ms = 50),
                                             count, &tally),
                             EVPQ_OK);
        await_all(&live, &tally, tally.all + 4, 30.);
        live_until(&live, all_idle, NULL, 30.);
    }
    live_int8(&live, EVPQ_QUERY("SELECT 1"));
    evpq_pool_stats stats = live_stats(&live);
    live_close(&live);
    kernel.percent = 0;
    print_message(
        "%ld calls cut short, %ld put off, in %.1f s: %llu cancels, %llu connections "
        "made, %llu lost\n",
        (long)kernel.cut, (long)kernel.put_off, live_now() - start,
        (unsigned long long)stats.cancels, (unsigned long long)stats.dialed,
        (unsigned long long)stats.closed_broken);
    assert_true(disturbed == undisturbed);
    assert_int_equal(tally.codes[-EVPQ_ETIMEOUT], canceled);
    assert_true(stats.cancels > 0);
    assert_true(kernel.cut > 100 && kernel.put_off > 100);
    assert_int_equal(stats.dial_failures, 0);
    assert_int_equal(stats.closed_broken, 0);
}

/* 42: SIGPIPE */

static atomic_int pipe_signals;

static void on_sigpipe(int number)
{
    (void)number;
    pipe_signals++;
}

static bool four_idle(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == 4;
}

/* Of `title` are the backends of the pool, and nobody else. */
static void lose_while_writing(struct fault_server *server, const char *conninfo, const char *title)
{
    kernel.broken_pipes = kernel.resets = 0;
    pipe_signals = 0;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = conninfo, .min_size = 4, .max_size = 4,
                                       .cancel_timeout_ms = 500));
    size_t length = 20000000;
    char *text = malloc(length + 1);
    assert_non_null(text);
    memset(text, 'x', length);
    text[length] = '\0';
    int rounds = live_scaled(5);
    struct tally tally = {0};
    for (int round = 0; round < rounds; round++) {
        live_until(&live, four_idle, NULL, 20.);
        /* They do not read any more: the statement is stuck in the middle. */
        assert_int_equal(fault_server_signal(server, title, SIGSTOP), 4);
        for (int i = 0; i < 4; i++)
            assert_int_equal(
                evpq_pool_query(NULL, live.pool,
                                EVPQ_QUERY("SELECT length($1)", EVPQ_PARAMS(evpq_text(text))),
                                count, &tally),
                EVPQ_OK);
        live_run(&live, 0.05);
        fault_sql(server,
                  "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                  "WHERE application_name = 'pipe'");
        fault_server_signal(server, title, SIGCONT);
        await_all(&live, &tally, 4 * (round + 1), 20.);
    }
    live_close(&live);
    free(text);
    print_message(
        "%s: %d statements lost while they were written: EPIPE %ld times, ECONNRESET "
        "%ld times, SIGPIPE %d times\n",
        title, tally.codes[-EVPQ_EDISCONNECTED], (long)kernel.broken_pipes, (long)kernel.resets,
        (int)pipe_signals);
    assert_int_equal(tally.codes[-EVPQ_EDISCONNECTED], tally.all);
    assert_true(kernel.broken_pipes + kernel.resets > 0);
    assert_int_equal(pipe_signals, 0);
}

static void case_42_a_server_that_goes_while_we_write_sends_no_signal(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    struct sigaction before;
    const struct sigaction counted = {.sa_handler = on_sigpipe};
    assert_int_equal(sigaction(SIGPIPE, &counted, &before), 0);
    lose_while_writing(server, fault_conninfo(server, "application_name=pipe"), "evpq evpq");
    /* A socket in the file system says EPIPE, where TCP mostly says ECONNRESET. */
    char conninfo[400];
    snprintf(conninfo, sizeof(conninfo), "%s dbname=postgres application_name=pipe",
             fault_admin_conninfo(server));
    lose_while_writing(server, conninfo, "admin postgres");
    assert_true(kernel.broken_pipes > 0);
    sigaction(SIGPIPE, &before, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_41_short_and_interrupted_calls_change_nothing),
        cmocka_unit_test(case_42_a_server_that_goes_while_we_write_sends_no_signal),
    };
    return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
