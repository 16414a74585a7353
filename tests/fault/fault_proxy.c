/* SPDX-License-Identifier: MIT */
/* The proxy does what it says: else the tests that stand on it would prove nothing. */
#include "support/live.h"
#include "support/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A server that each test plays by hand: it listens, the test accepts. */
struct fixture {
    struct proxy *proxy;
    int listener, client, server, before;
};

static void set_up(struct fixture *f)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(addr);
    *f = (struct fixture){.client = -1, .server = -1, .before = live_descriptors()};
    f->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(f->listener, 16), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&addr, &length), 0);
    f->proxy = proxy_start("127.0.0.1", ntohs(addr.sin_port));
}

static int dial(struct fixture *f)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)proxy_port(f->proxy)),
                               .sin_addr = {htonl(INADDR_LOOPBACK)}};
    f->client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(f->client, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return 0;
    struct pollfd made = {.fd = f->client, .events = POLLOUT};
    if (poll(&made, 1, 300) == 0)
        return ETIMEDOUT;
    int error = 0;
    socklen_t length = sizeof(error);
    getsockopt(f->client, SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
}

static void through(struct fixture *f)
{
    assert_int_equal(dial(f), 0);
    f->server = accept(f->listener, NULL, NULL);
    assert_true(f->server >= 0);
}

static void hang_up(struct fixture *f)
{
    close(f->client);
    if (f->server >= 0)
        close(f->server);
    f->client = f->server = -1;
}

static void tear_down(struct fixture *f)
{
    hang_up(f);
    proxy_stop(f->proxy);
    close(f->listener);
    assert_int_equal(live_descriptors(), f->before);
}

/*
 * What arrives: bytes, and behind them "." for the end, "!" for a reset, "~" for silence, which
 * is listened to for a moment once all is there.
 */
static void hears(int fd, const char *expected)
{
    char text[200];
    size_t length = 0, wanted = strlen(expected) - 1;
    double end = live_now() + 2. * live_slow();
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        bool silence = expected[wanted] == '~' && length >= wanted;
        int left = silence ? 50 : (int)((end - live_now()) * 1e3);
        if (left <= 0 || poll(&wait, 1, left) == 0) {
            text[length++] = '~';
            break;
        }
        ssize_t n = recv(fd, text + length, sizeof(text) - 2 - length, MSG_DONTWAIT);
        if (n <= 0) {
            text[length++] = n == 0 ? '.' : '!';
            break;
        }
        length += (size_t)n;
    }
    text[length] = '\0';
    assert_string_equal(text, expected);
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void bytes_pass_both_ways_and_are_counted(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    through(&f);
    say(f.client, "question");
    hears(f.server, "question~");
    say(f.server, "answer");
    hears(f.client, "answer~");
    assert_int_equal(proxy_bytes(f.proxy, 1, PROXY_TO_SERVER), 8);
    assert_int_equal(proxy_bytes(f.proxy, 1, PROXY_TO_CLIENT), 6);
    shutdown(f.client, SHUT_WR);
    hears(f.server, ".");
    say(f.server, "more");
    hears(f.client, "more~");
    close(f.server);
    f.server = -1;
    hears(f.client, ".");
    assert_int_equal(proxy_accepted(f.proxy), 1);
    assert_int_equal(proxy_bytes(f.proxy, 0, PROXY_TO_CLIENT), 10);
    assert_int_equal(proxy_most_per_second(f.proxy, 0.), 1);
    tear_down(&f);
}

static void each_fault_happens_at_its_byte(void **state)
{
    (void)state;
    static const struct {
        enum proxy_fault fault;
        const char *client, *server; /* what they get */
    } cases[] = {
        {PROXY_NO_FAULT, "abcdef~", "ghi~"}, {PROXY_CUT_CLOSE, "abc.", "."},
        {PROXY_CUT_RESET, "abc!", "!"},      {PROXY_CUT_HANG, "abc~", "~"},
        {PROXY_CUT_SHUT, "abc.", "ghi~"},    {PROXY_DUPLICATE, "abcddef~", "ghi~"},
        {PROXY_FLIP, "abceef~", "ghi~"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        set_up(&f);
        proxy_rules_next(f.proxy, PROXY_TO_CLIENT,
                         &(struct proxy_rules){.fault = cases[i].fault, .at = 3});
        through(&f);
        say(f.server, "ab");
        hears(f.client, "ab~");
        say(f.server, "cdef");
        hears(f.client, cases[i].client + 2);
        if (strcmp(cases[i].server, "ghi~") == 0 || cases[i].fault == PROXY_CUT_HANG)
            say(f.client, "ghi");
        hears(f.server, cases[i].server);
        if (cases[i].fault == PROXY_CUT_HANG) {
            proxy_heal(f.proxy);
            hears(f.client, "def~");
            hears(f.server, "ghi~");
        }
        hang_up(&f);
        /* Only that connection. */
        through(&f);
        say(f.server, "abcdef");
        hears(f.client, "abcdef~");
        tear_down(&f);
    }
}

static void the_door_does_what_it_says_and_opens_again(void **state)
{
    (void)state;
    static const struct {
        enum proxy_door door;
        int error;
        const char *client;
    } cases[] = {
        {PROXY_REFUSE, ECONNREFUSED, NULL},
        {PROXY_DEAF, ETIMEDOUT, NULL},
        {PROXY_RESET, 0, "!"},
        {PROXY_CLOSE, 0, "."},
        {PROXY_HOLD, 0, "~"},
    };
    struct fixture f;
    set_up(&f);
    through(&f);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int client = f.client, server = f.server;
        proxy_door(f.proxy, cases[i].door);
        int error = dial(&f);
        bool already = cases[i].door == PROXY_RESET && error == ECONNRESET;
        assert_int_equal(already ? 0 : error, cases[i].error);
        if (cases[i].client && !already)
            hears(f.client, cases[i].client);
        close(f.client);
        /* What was open goes on. */
        say(client, "x");
        hears(server, "x~");
        f.client = client;
        f.server = server;
        hang_up(&f);
        proxy_door(f.proxy, PROXY_OPEN);
        through(&f);
        say(f.client, "y");
        hears(f.server, "y~");
    }
    tear_down(&f);
}

static void the_door_for_the_next_ones_is_theirs_only(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    proxy_door_next(f.proxy, PROXY_CLOSE, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dial(&f), 0);
        hears(f.client, ".");
        hang_up(&f);
    }
    through(&f);
    tear_down(&f);
}

static void delay_rate_segments_and_swallowing_hold(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    through(&f);
    proxy_rules(f.proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.delay_ms = 100});
    double start = live_now();
    say(f.server, "late");
    hears(f.client, "late~");
    assert_true(live_now() - start > 0.14); /* and 50 ms of silence */
    proxy_rules(f.proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.bytes_per_s = 20});
    start = live_now();
    say(f.server, "0123456789");
    hears(f.client, "0123456789~");
    assert_true(live_now() - start > 0.4);
    proxy_rules(f.proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.segment = 1});
    say(f.server, "piece by piece");
    hears(f.client, "piece by piece~");
    proxy_rules(f.proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.swallow = true});
    say(f.server, "lost");
    hears(f.client, "~");
    say(f.client, "heard");
    hears(f.server, "heard~");
    close(f.server);
    f.server = -1;
    hears(f.client, "~");
    tear_down(&f);
}

static void killing_ends_one_or_all(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    through(&f);
    int client = f.client, server = f.server;
    through(&f);
    proxy_kill(f.proxy, 1, true);
    hears(client, "!");
    hears(f.client, "~");
    proxy_kill(f.proxy, 0, false);
    hears(f.client, ".");
    assert_int_equal(proxy_open(f.proxy), 0);
    assert_int_equal(proxy_most_open(f.proxy), 2);
    close(client);
    close(server);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_both_ways_and_are_counted),
        cmocka_unit_test(each_fault_happens_at_its_byte),
        cmocka_unit_test(the_door_does_what_it_says_and_opens_again),
        cmocka_unit_test(the_door_for_the_next_ones_is_theirs_only),
        cmocka_unit_test(delay_rate_segments_and_swallowing_hold),
        cmocka_unit_test(killing_ends_one_or_all),
    };
    return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
