/* SPDX-License-Identifier: MIT */
/*
 * Several servers: the one under test, a primary, and a standby of it, whose host is
 * EVPQ_TEST_STANDBY. Without that only what needs one server.
 */
#include "support/live.h"
#include "support/pooler.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DIALS = 24 };

static char primary[256], port[16];

static void find_primary(void)
{
    PGconn *conn = PQconnectdb(live_conninfo() ? live_conninfo() : "");
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    snprintf(primary, sizeof(primary), "%s", PQhost(conn));
    snprintf(port, sizeof(port), "%s", PQport(conn));
    PQfinish(conn);
}

/* Hosts in this order, and more. */
static const char *hosts(const char *first, const char *second, const char *more)
{
    static char settings[1024];
    snprintf(settings, sizeof(settings), "host=%s,%s port=%s,%s %s", first, second, port, port,
             more);
    return live_conninfo_with(settings);
}

static const char *standby(void)
{
    const char *host = getenv("EVPQ_TEST_STANDBY");
    find_primary();
    if (!host || !host[0]) {
        print_message("EVPQ_TEST_STANDBY names no standby\n");
        skip();
    }
    return host;
}

/* Connections that lead to a standby, of so many. */
static int in_standby(const char *conninfo, int dials)
{
    int count = 0;
    for (int i = 0; i < dials; i++) {
        struct live live;
        live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = 1));
        count += live_int8(&live, EVPQ_QUERY("SELECT pg_is_in_recovery()::int::int8")) == 1;
        live_close(&live);
    }
    return count;
}

static void hosts_are_tried_in_their_order(void **state)
{
    (void)state;
    const char *other = standby();
    assert_int_equal(in_standby(hosts(primary, other, ""), 3), 0);
    assert_int_equal(in_standby(hosts(other, primary, ""), 3), 3);
}

/* How long it took to open so many connections. */
static double seconds_for(const char *conninfo, int connections)
{
    struct live live;
    struct outcome outcomes[4];
    double began = live_now();
    live_open(&live,
              EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = 4, .connect_timeout_ms = 2000));
    for (int i = 0; i < connections; i++) {
        live_acquire(&live, &outcomes[i]);
        assert_int_equal(outcomes[i].code, EVPQ_OK);
    }
    double took = live_now() - began;
    for (int i = 0; i < connections; i++)
        evpq_lease_release(outcomes[i].lease);
    live_close(&live);
    return took;
}

/* Somebody listens, and says nothing. */
static int listen_silently(char *silent_port, size_t room)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    snprintf(silent_port, room, "%d", ntohs(address.sin_port));
    return fd;
}

static void a_host_that_is_silent_is_waited_for_once(void **state)
{
    (void)state;
    char silent[16], settings[400];
    find_primary();
    int fd = listen_silently(silent, sizeof(silent));
    snprintf(settings, sizeof(settings), "host=127.0.0.1,%s port=%s,%s", primary, silent, port);
    /* The silent one has half of the two seconds. */
    double one = seconds_for(live_conninfo_with(settings), 1);
    double four = seconds_for(live_conninfo_with(settings), 4);
    close(fd);
    print_message("one connection in %.2f s, four in %.2f s\n", one, four);
    assert_true(one >= 0.9);
    assert_true(four < 3. * one);
}

static void target_session_attrs_chooses_the_server(void **state)
{
    (void)state;
    const char *other = standby();
    static const struct {
        const char *attrs;
        int standby; /* -1: whichever is first */
    } cases[] = {{"any", -1},    {"read-write", 0}, {"read-only", 1},
                 {"primary", 0}, {"standby", 1},    {"prefer-standby", 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char more[64];
        snprintf(more, sizeof(more), "target_session_attrs=%s", cases[i].attrs);
        int first = cases[i].standby < 0 ? 0 : cases[i].standby;
        int last = cases[i].standby < 0 ? 1 : cases[i].standby;
        assert_int_equal(in_standby(hosts(primary, other, more), 1), first);
        assert_int_equal(in_standby(hosts(other, primary, more), 1), last);
    }
}

static void a_uri_names_several_hosts(void **state)
{
    (void)state;
    const char *other = standby();
    char uri[1024];
    PGconn *conn = PQconnectdb(live_conninfo());
    snprintf(uri, sizeof(uri), "postgresql://%s:%s@%s:%s,%s:%s/%s?target_session_attrs=standby",
             PQuser(conn), PQpass(conn), primary, port, other, port, PQdb(conn));
    PQfinish(conn);
    assert_int_equal(in_standby(uri, 1), 1);
}

static void a_standby_is_no_place_to_write(void **state)
{
    (void)state;
    const char *other = standby();
    struct live live;
    struct outcome outcome;
    char settings[300];
    snprintf(settings, sizeof(settings), "host=%s", other);
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(settings)));
    live_query(&live, &outcome, EVPQ_QUERY("CREATE TABLE evpq_no_place (id int)"));
    assert_int_equal(outcome.code, EVPQ_ESERVER);
    assert_string_equal(outcome.sqlstate, "25006");
    assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
    outcome_clear(&outcome);
    live_close(&live);
}

static void load_is_balanced_over_the_hosts(void **state)
{
    (void)state;
    const char *other = standby();
    const char *conninfo = hosts(primary, other, "load_balance_hosts=random");
    int count = in_standby(conninfo, DIALS);
    print_message("%d of %d dials led to the standby\n", count, DIALS);
    /* Each side fails to be met once in 2^24. */
    assert_true(count > 0 && count < DIALS);
}

static void on_lsn(uint64_t lsn, const evpq_error *err, void *user)
{
    assert_null(err);
    *(uint64_t *)user = lsn;
}

static bool is_set(struct live *live, void *lsn)
{
    (void)live;
    return *(uint64_t *)lsn > 0;
}

static bool is_usable(struct live *live, void *router)
{
    evpq_standby_stats stats = {.size = sizeof(stats)};
    (void)live;
    assert_non_null(evpq_router_pool(router, EVPQ_READ_ONLY()));
    assert_int_equal(evpq_router_standby_get(router, 0, &stats), EVPQ_OK);
    return stats.usable;
}

/* Every version of the server understands what it is asked. */
static void a_router_reads_from_the_standby(void **state)
{
    (void)state;
    const char *other = standby();
    char settings[300];
    struct live live;
    struct outcome outcome = {0};
    evpq_pool *of_standby = NULL;
    evpq_router *router = NULL;
    bool from_standby = false;
    uint64_t lsn = 0;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    snprintf(settings, sizeof(settings), "host=%s", other);
    assert_int_equal(evpq_pool_open(&of_standby, live.loop,
                                    EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(settings))),
                     EVPQ_OK);
    assert_int_equal(evpq_router_open(&router, EVPQ_ROUTER_OPTIONS(.primary = live.pool,
                                                                   EVPQ_STANDBYS(of_standby))),
                     EVPQ_OK);
    live_until(&live, is_usable, router, 20. * live_slow());
    live_query(&live, &outcome, EVPQ_QUERY("SELECT txid_current()"));
    assert_int_equal(outcome.code, EVPQ_OK);
    outcome_clear(&outcome);
    assert_int_equal(evpq_router_write_lsn(NULL, router, 0, on_lsn, &lsn), EVPQ_OK);
    live_until(&live, is_set, &lsn, 20. * live_slow());
    outcome = (struct outcome){0};
    assert_int_equal(evpq_router_query(NULL, router, EVPQ_QUERY("SELECT pg_is_in_recovery()"),
                                       EVPQ_READ_ONLY(), outcome_result, &outcome),
                     EVPQ_OK);
    live_wait(&live, &outcome);
    assert_int_equal(outcome.code, EVPQ_OK);
    assert_int_equal(evpq_result_bool(outcome.result, 0, 0, &from_standby), EVPQ_OK);
    assert_true(from_standby);
    outcome_clear(&outcome);
    evpq_router_close(router);
    assert_int_equal(evpq_pool_close(of_standby, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_OK);
    live_close(&live);
}

struct heard {
    int unverified, others;
};

static void on_warning(const evpq_trace *event, void *user)
{
    struct heard *heard = user;
    if (strcmp(event->why, "unverified") == 0)
        heard->unverified++;
    else
        heard->others++;
}

static void a_remote_server_that_is_not_verified_is_told_of_once(void **state)
{
    (void)state;
    struct live live;
    struct heard heard = {0};
    struct outcome leases[2];
    PGconn *conn = PQconnectdb(live_conninfo() ? live_conninfo() : "");
    const char *address = PQhostaddr(conn);
    const char *mode = "";
    PQconninfoOption *options = PQconninfo(conn);
    for (PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, "sslmode") == 0)
            mode = o->val ? o->val : "";
    bool remote = address[0] && strncmp(address, "127.", 4) != 0 && strcmp(address, "::1") != 0;
    int expected = remote && strcmp(mode, "verify-full") != 0;
    print_message("%s, sslmode %s\n", remote ? "remote" : "local", mode);
    PQconninfoFree(options);
    PQfinish(conn);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2, .on_trace = on_warning, .trace_user = &heard,
                                       .trace_kinds = EVPQ_TRACE_WARNING));
    live_acquire(&live, &leases[0]);
    live_acquire(&live, &leases[1]);
    evpq_lease_release(leases[0].lease);
    evpq_lease_release(leases[1].lease);
    live_close(&live);
    assert_int_equal(heard.unverified, expected);
    assert_int_equal(heard.others, pooler_mode() != POOLER_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_are_tried_in_their_order),
        cmocka_unit_test(a_host_that_is_silent_is_waited_for_once),
        cmocka_unit_test(target_session_attrs_chooses_the_server),
        cmocka_unit_test(a_uri_names_several_hosts),
        cmocka_unit_test(a_standby_is_no_place_to_write),
        cmocka_unit_test(load_is_balanced_over_the_hosts),
        cmocka_unit_test(a_router_reads_from_the_standby),
        cmocka_unit_test(a_remote_server_that_is_not_verified_is_told_of_once),
    };
    return pooler_run_group_tests_name("hosts", tests, NULL, NULL);
}
