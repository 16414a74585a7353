/* SPDX-License-Identifier: MIT */
/*
 * C33, C34, C37: what stands between a connection string and a server: names,
 * the files of sockets, and strangers on the port. What a connection string alone
 * can do is in live_connect.c.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "support/front.h"

/* A name server of our own, for names that end in ".test", for all that link with us. */
static struct {
    _Atomic int delay_ms;   /* before it answers */
    _Atomic int error;      /* EAI_AGAIN; 0: the addresses */
    _Atomic unsigned first; /* 127.0.0.`first`, and then `second`; 0: none */
    _Atomic unsigned second;
    atomic_int asked, waiting, most_waiting;
} names;

static int (*libc_getaddrinfo)(const char *, const char *, const struct addrinfo *,
                               struct addrinfo **);

static int look_up(unsigned last, const char *service, const struct addrinfo *hints,
                   struct addrinfo **found)
{
    char address[16];
    snprintf(address, sizeof(address), "127.0.0.%u", last);
    return libc_getaddrinfo(address, service, hints, found);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    if (!libc_getaddrinfo)
        *(void **)&libc_getaddrinfo = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!name || !strstr(name, ".test") || (hints && hints->ai_flags & AI_NUMERICHOST))
        return libc_getaddrinfo(name, service, hints, found);
    atomic_fetch_add(&names.asked, 1);
    int waiting = atomic_fetch_add(&names.waiting, 1) + 1, most = names.most_waiting;
    while (waiting > most && !atomic_compare_exchange_weak(&names.most_waiting, &most, waiting))
        ;
    for (int waited = 0; waited < names.delay_ms; waited += 10)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    atomic_fetch_sub(&names.waiting, 1);
    if (names.error)
        return names.error;
    struct addrinfo *second = NULL;
    int failed = names.second ? look_up(names.second, service, hints, &second) : 0;
    if (!failed)
        failed = look_up(names.first, service, hints, found);
    if (!failed)
        (*found)->ai_next = second;
    return failed;
}

static void names_reset(void)
{
    names.delay_ms = names.error = 0;
    names.first = 1;
    names.second = 0;
    names.asked = names.waiting = names.most_waiting = 0;
}

/* A pool of which nobody but the name server knows where the server is. */
static void named_open(struct front *front, const evpq_pool_options *options)
{
    names_reset();
    front_open(front, options, "host=db.test", NULL);
    front_fill(front);
}

static void a_slow_name_server_slows_nothing_but_dials(void **state)
{
    (void)state;
    struct front front;
    named_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4));
    struct ledger *ledger = &front.ledger;
    names.delay_ms = 300;
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 2000));
    ledger_run(ledger, 0.5);
    /* Three of four go: the fourth serves all, and none is worse off than waiting. */
    unsigned last = proxy_accepted(front.proxy);
    for (unsigned number = last - 2; number <= last; number++)
        proxy_kill(front.proxy, number, true);
    ledger_run(ledger, 1.);
    ledger_drain(ledger);
    assert_int_equal(ledger->asked - ledger->codes[0], ledger->codes[-EVPQ_EDISCONNECTED]);
    assert_true(ledger->codes[-EVPQ_EDISCONNECTED] <= 3);
    assert_true(names.asked > 1);
    front_check(&front);
}

static void a_name_server_that_fails_for_a_while(void **state)
{
    (void)state;
    struct front front;
    named_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4));
    struct ledger *ledger = &front.ledger;
    names.error = EAI_AGAIN;
    double began = live_now();
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 600));
    ledger_run(ledger, 0.5);
    /* What is connected needs no name. */
    assert_int_equal(ledger->codes[0], ledger->answered);
    proxy_kill(front.proxy, 0, true);
    int asked = names.asked;
    ledger_run(ledger, 3.);
    double over = live_now();
    int lookups = names.asked - asked, per_s = ledger_dials_per_s(ledger, began, over);
    assert_true(ledger->codes[-EVPQ_ECONNECT] > 0);
    assert_non_null(strstr(ledger->texts[-EVPQ_ECONNECT], "db.test"));
    names.error = 0;
    double last = front_recovers(&front, 2.);
    ledger_figure(
        "a name server that fails for 3 s: %d lookups, %d dials/s at most, recovered "
        "within %.2f s",
        lookups, per_s, last);
    assert_true(per_s <= 10);
    front_check(&front);
}

/* Lookups cannot be stopped, so they must not pile up. */
static void a_silent_name_server_gathers_few_threads(void **state)
{
    (void)state;
    struct front front;
    named_open(&front, EVPQ_POOL_OPTIONS(.max_size = 8, .connect_timeout_ms = 250));
    struct ledger *ledger = &front.ledger;
    names.delay_ms = 3000;
    proxy_kill(front.proxy, 0, true);
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.timeout_ms = 300));
    ledger_run(ledger, 4.);
    unsigned threads = front_threads();
    names.delay_ms = 0;
    double last = front_recovers(&front, 2.);
    ledger_figure(
        "a silent name server for 4 s: %d lookups at once at most, %d more threads; "
        "recovered within %.2f s",
        names.most_waiting, (int)threads - (int)front.threads, last);
    /* 10 dials a second, of which each waits for 3 s. */
    assert_true(names.most_waiting >= 1 && names.most_waiting <= 30);
    front_check(&front);
}

/* A second way to the server: a proxy on 127.0.0.`last`, at the same port. */
static struct proxy *another_proxy(const struct front *front, unsigned last)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)proxy_port(front->proxy)),
                               .sin_addr = {htonl(0x7f000000U + last)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return proxy_start_on(fd, "127.0.0.1", front->server->port);
}

static void all_addresses_of_a_name_are_tried(enum proxy_door door)
{
    struct front front;
    named_open(&front, EVPQ_POOL_OPTIONS(.max_size = 2, .connect_timeout_ms = 2000));
    struct ledger *ledger = &front.ledger;
    struct proxy *dead = another_proxy(&front, 3);
    proxy_door(dead, door);
    names.first = 3;
    names.second = 1;
    unsigned before = proxy_accepted(front.proxy);
    proxy_kill(front.proxy, 0, true);
    ledger_run(ledger, 0.1 * live_slow());
    struct ledger_entry *entry = ledger_ask_and_wait(ledger, LEDGER_WRITE(.timeout_ms = 5000));
    ledger_figure("the first of two addresses %s: served after %.2f s",
                  door == PROXY_DEAF ? "gives no answer" : "refuses",
                  entry->answered - entry->asked);
    assert_int_equal(entry->code, EVPQ_OK);
    assert_true(proxy_accepted(front.proxy) > before);
    /* Half of connect_timeout_ms is the first one's share. */
    assert_true(entry->answered - entry->asked < 1. + 1. * live_slow());
    proxy_stop(dead);
    front_check(&front);
}

static void an_address_that_refuses_leads_on_to_the_next(void **state)
{
    (void)state;
    all_addresses_of_a_name_are_tried(PROXY_REFUSE);
}

static void an_address_that_is_silent_leads_on_to_the_next(void **state)
{
    (void)state;
    all_addresses_of_a_name_are_tried(PROXY_DEAF);
}

/* Failover by name: the next dial asks again. */
static void a_name_that_moves_is_followed(void **state)
{
    (void)state;
    struct front front;
    named_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4));
    struct ledger *ledger = &front.ledger;
    struct proxy *moved = another_proxy(&front, 3);
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 2000));
    ledger_run(ledger, 0.3);
    names.first = 3;
    proxy_door(front.proxy, PROXY_REFUSE);
    double began = live_now();
    proxy_kill(front.proxy, 0, true);
    ledger_run(ledger, 2.);
    ledger_drain(ledger);
    double last = ledger_last_failure(ledger) - began;
    ledger_figure(
        "a name that moves: %d connections at its new place, the last failure %.2f s "
        "after the move",
        (int)proxy_accepted(moved), last > 0. ? last : 0.);
    assert_true(proxy_accepted(moved) > 0);
    assert_true(last < 1. * live_slow());
    /* And back, so that nothing of the pool is left there. */
    names.first = 1;
    proxy_kill(moved, 0, true);
    front_recovers(&front, 2.);
    proxy_stop(moved);
    front_check(&front);
}

/* C34. A directory of our own, where the server's socket is a symbolic link. */
struct place {
    char dir[160], file[200], server[200];
    int listener, client; /* of a socket nobody serves; else -1 */
};

static void place_make(struct place *place, const struct fault_server *server, const char *dir)
{
    *place = (struct place){.listener = -1, .client = -1};
    snprintf(place->dir, sizeof(place->dir), "/tmp/evpq-place.XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    if (dir) {
        strncat(place->dir, "/", sizeof(place->dir) - strlen(place->dir) - 1);
        strncat(place->dir, dir, sizeof(place->dir) - strlen(place->dir) - 1);
        assert_int_equal(mkdir(place->dir, 0755), 0);
    }
    snprintf(place->file, sizeof(place->file), "%s/.s.PGSQL.%d", place->dir, server->port);
    snprintf(place->server, sizeof(place->server), "%s/.s.PGSQL.%d", server->dir, server->port);
}

static void place_remove(struct place *place)
{
    unlink(place->file);
    rmdir(place->dir);
    char *slash = strrchr(place->dir, '/');
    *slash = '\0';
    if (strcmp(place->dir, "/tmp") != 0)
        rmdir(place->dir);
}

/* Somebody has bound it: `listens` with a full queue, or not at all any more. */
static void place_bind(struct place *place, bool listens)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t length = strlen(place->file);
    assert_true(length < sizeof(addr.sun_path));
    memcpy(addr.sun_path, place->file, length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    if (!listens) {
        close(fd);
        return;
    }
    assert_int_equal(listen(fd, 0), 0);
    place->listener = fd;
    place->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(place->client, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

/* The server comes. */
static void place_serve(struct place *place)
{
    unlink(place->file);
    assert_int_equal(symlink(place->server, place->file), 0);
    if (place->listener >= 0) {
        close(place->listener);
        close(place->client);
    }
}

enum obstacle { NO_FILE, STALE_FILE, FULL_QUEUE, NOT_ALLOWED };

/* Root may all: it becomes nobody for a while. */
static void become_nobody(bool nobody)
{
    if (getuid() != 0)
        return;
    assert_int_equal(seteuid(nobody ? 65534 : 0), 0);
    prctl(PR_SET_DUMPABLE, 1); /* else we could not look at ourselves any more */
}

static void a_socket_in_the_way(enum obstacle obstacle, const char *says)
{
    struct front front = {.server = front_server()};
    struct place place;
    char conninfo[300];
    place_make(&place, front.server, NULL);
    chmod(place.dir, obstacle == NOT_ALLOWED ? 0 : 0755);
    snprintf(conninfo, sizeof(conninfo), "host=%s port=%d user=admin", place.dir,
             front.server->port);
    front_open_direct(&front, EVPQ_POOL_OPTIONS(.max_size = 4, .connect_timeout_ms = 1000),
                      conninfo);
    struct ledger *ledger = &front.ledger;
    if (obstacle == STALE_FILE || obstacle == FULL_QUEUE)
        place_bind(&place, obstacle == FULL_QUEUE);
    become_nobody(obstacle == NOT_ALLOWED);
    ledger_load(ledger, live_scaled(50), LEDGER_WRITE(.timeout_ms = 600));
    double began = live_now();
    ledger_run(ledger, 2.);
    become_nobody(false);
    double over = live_now();
    int per_s = ledger_dials_per_s(ledger, began, over);
    /* All of them, in the same words as the C library's. */
    assert_int_equal(ledger->answered, ledger->codes[-EVPQ_ECONNECT]);
    if (!strstr(ledger->texts[-EVPQ_ECONNECT], says))
        fail_msg("\"%s\" does not say \"%s\"", ledger->texts[-EVPQ_ECONNECT], says);
    chmod(place.dir, 0755);
    place_serve(&place);
    double last = front_recovers(&front, 2.);
    ledger_figure("\"%s\" for 2 s: %d dials/s at most, recovered within %.2f s", says, per_s, last);
    assert_true(per_s <= 10);
    front_check(&front);
    place_remove(&place);
}

static void a_socket_that_is_missing(void **state)
{
    (void)state;
    a_socket_in_the_way(NO_FILE, "No such file or directory");
}

static void a_socket_that_nobody_serves(void **state)
{
    (void)state;
    a_socket_in_the_way(STALE_FILE, "Connection refused");
}

static void a_socket_that_is_forbidden(void **state)
{
    (void)state;
    a_socket_in_the_way(NOT_ALLOWED, "Permission denied");
}

/* As of a postmaster that is stopped: connect() answers EAGAIN. */
static void a_socket_whose_queue_is_full(void **state)
{
    (void)state;
    a_socket_in_the_way(FULL_QUEUE, "connect");
}

/* 107 bytes are the most that a socket's path can have. */
static void the_longest_path_of_a_socket(void **state)
{
    (void)state;
    for (int longer = 0; longer < 2; longer++) {
        struct front front = {.server = front_server()};
        struct place place;
        char conninfo[400], name[120], tail[30];
        snprintf(tail, sizeof(tail), "/.s.PGSQL.%d", front.server->port);
        int room = 107 - (int)strlen("/tmp/evpq-place.XXXXXX/") - (int)strlen(tail);
        snprintf(name, sizeof(name), "%0*d", room + longer, 0);
        place_make(&place, front.server, name);
        place_serve(&place);
        snprintf(conninfo, sizeof(conninfo), "host=%s port=%d user=admin", place.dir,
                 front.server->port);
        front_open_direct(&front, EVPQ_POOL_OPTIONS(.max_size = 1), conninfo);
        struct ledger_entry *entry =
            ledger_ask_and_wait(&front.ledger, LEDGER_WRITE(.timeout_ms = 1000));
        assert_int_equal(entry->code, longer ? EVPQ_ECONNECT : EVPQ_OK);
        if (longer)
            assert_non_null(strstr(front.ledger.texts[-EVPQ_ECONNECT], "too long"));
        front_check(&front);
        place_remove(&place);
    }
}

/* C37. Somebody else has the port. */
struct stranger {
    const char *name;
    bool first;  /* speaks before it is spoken to */
    bool leaves; /* hangs up when it has spoken */
    bool endless;
    size_t length;
    const char *says;
};

struct street {
    pthread_t thread;
    int listener, port;
    atomic_bool over;
    const struct stranger *stranger;
};

static void stranger_speak(const struct stranger *stranger, int fd)
{
    char heard[4096];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (!stranger->first && (poll(&wait, 1, 1000) <= 0 || recv(fd, heard, sizeof(heard), 0) <= 0))
        return;
    do {
        if (send(fd, stranger->says, stranger->length, MSG_NOSIGNAL) < 0)
            return;
    } while (stranger->endless);
    if (stranger->leaves)
        return;
    while (poll(&wait, 1, 3000) > 0 && recv(fd, heard, sizeof(heard), 0) > 0)
        ;
}

static void *street_run(void *arg)
{
    struct street *street = arg;
    struct pollfd wait = {.fd = street->listener, .events = POLLIN};
    while (!street->over) {
        if (poll(&wait, 1, 10) <= 0)
            continue;
        int fd = accept(street->listener, NULL, NULL);
        stranger_speak(street->stranger, fd);
        close(fd);
    }
    return NULL;
}

static void street_open(struct street *street, const struct stranger *stranger)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(addr);
    *street = (struct street){.stranger = stranger};
    street->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(street->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(street->listener, 16), 0);
    assert_int_equal(getsockname(street->listener, (struct sockaddr *)&addr, &length), 0);
    street->port = ntohs(addr.sin_port);
    assert_int_equal(pthread_create(&street->thread, NULL, street_run, street), 0);
}

static void street_close(struct street *street)
{
    street->over = true;
    pthread_join(street->thread, NULL);
    close(street->listener);
}

static bool is_readable(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' && *text != '\n' && *text != '\t')
            return false;
    return true;
}

#define SAYS(text) .length = sizeof(text) - 1, .says = (text)

static void a_port_that_speaks_another_protocol(void **state)
{
    (void)state;
    static char zeros[65536];
    static const struct stranger strangers[] = {
        {.name = "HTTP",
         .leaves = true,
         SAYS("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<html></html>")},
        {.name = "SSH", .first = true, SAYS("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")},
        {.name = "SMTP", .first = true, SAYS("220 mail.example ESMTP\r\n")},
        {.name = "MySQL",
         .first = true,
         SAYS("J\0\0\0\n8.0.33\0\b\0\0\0abcdefgh\0\377\367\377\002\0\377\337\025")},
        {.name = "a TLS alert", .leaves = true, SAYS("\025\003\001\000\002\002\050")},
        {.name = "an old error", .leaves = true, SAYS("EFATAL:  go away\n")},
        {.name = "a long error", .leaves = true, SAYS("E\377\377\377\377go away")},
        {.name = "authentication that nobody knows", SAYS("R\0\0\0\010\0\0\0c")},
        {.name = "bytes without an end",
         .first = true,
         .endless = true,
         .length = sizeof(zeros),
         .says = zeros},
    };
    static const char *const modes[] = {"sslmode=disable", "sslmode=prefer"};
    for (size_t i = 0; i < 2 * sizeof(strangers) / sizeof(strangers[0]); i++) {
        struct front front;
        struct street street;
        front_server();
        const struct stranger *stranger = &strangers[i / 2];
        street_open(&street, stranger);
        front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4, .connect_timeout_ms = 300),
                   modes[i % 2], NULL);
        struct ledger *ledger = &front.ledger;
        proxy_lead(front.proxy, "127.0.0.1", street.port);
        double began = live_now();
        ledger_load(ledger, live_scaled(50), LEDGER_WRITE(.timeout_ms = 800));
        ledger_run(ledger, 0.8);
        int per_s = ledger_dials_per_s(ledger, began, live_now());
        const char *message = ledger->texts[-EVPQ_ECONNECT];
        print_message("  %s, %s: %s\n", stranger->name, modes[i % 2], message);
        assert_true(ledger->codes[-EVPQ_ECONNECT] > 0);
        assert_int_equal(ledger->answered, ledger->codes[-EVPQ_ECONNECT]);
        assert_true(is_readable(message));
        assert_true(per_s <= 10);
        proxy_lead(front.proxy, "127.0.0.1", front.server->port);
        front_recovers(&front, 2.);
        front_check(&front);
        street_close(&street);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_name_server_slows_nothing_but_dials),
        cmocka_unit_test(a_name_server_that_fails_for_a_while),
        cmocka_unit_test(a_silent_name_server_gathers_few_threads),
        cmocka_unit_test(an_address_that_refuses_leads_on_to_the_next),
        cmocka_unit_test(an_address_that_is_silent_leads_on_to_the_next),
        cmocka_unit_test(a_name_that_moves_is_followed),
        cmocka_unit_test(a_socket_that_is_missing),
        cmocka_unit_test(a_socket_that_nobody_serves),
        cmocka_unit_test(a_socket_that_is_forbidden),
        cmocka_unit_test(a_socket_whose_queue_is_full),
        cmocka_unit_test(the_longest_path_of_a_socket),
        cmocka_unit_test(a_port_that_speaks_another_protocol),
    };
    return cmocka_run_group_tests_name("names", tests, NULL, NULL);
}
