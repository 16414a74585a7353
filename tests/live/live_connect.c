/* SPDX-License-Identifier: MIT */
/* What becomes of connection strings, good and bad, and of servers that are not there. */
#include "support/live.h"
#include "support/pooler.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket that takes connections and never says a word. */
static int silent_server(int *port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(addr);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &length), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

/* A port that nobody listens on. */
static int closed_port(void)
{
    int port, fd = silent_server(&port);
    close(fd);
    return port;
}

/* Where the server under test is, as libpq sees it. */
static void server_address(char *host, char *port, size_t size)
{
    PGconn *conn = PQconnectdb(live_conninfo() ? live_conninfo() : "");
    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    snprintf(host, size, "%s", PQhost(conn));
    snprintf(port, size, "%s", PQport(conn));
    PQfinish(conn);
}

static void connect_fails(const char *conninfo, const char *sqlstate, const char *says)
{
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = conninfo, .fail_fast = true,
                                       .connect_timeout_ms = 2000));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    print_message("%s\n", outcome.message);
    assert_int_equal(outcome.code, EVPQ_ECONNECT);
    assert_int_equal(outcome.fate, EVPQ_NOT_SENT);
    assert_string_equal(outcome.sqlstate, sqlstate);
    if (says && !strstr(outcome.message, says))
        fail_msg("\"%s\" does not say \"%s\"", outcome.message, says);
    assert_null(strchr(outcome.message, '\n'));
    assert_null(strstr(outcome.message, "LOCATION"));
    outcome_clear(&outcome);
    live_close(&live);
}

static void a_server_that_is_not_there_is_a_connect_error(void **state)
{
    (void)state;
    char conninfo[100];
    snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d", closed_port());
    connect_fails(conninfo, "", "Connection refused");
}

static void a_socket_that_is_not_there_is_a_connect_error(void **state)
{
    (void)state;
    connect_fails("host=/nonexistent", "", "/nonexistent");
}

static void a_name_that_does_not_exist_is_a_connect_error(void **state)
{
    (void)state;
    connect_fails("host=no-such-host.invalid", "", "no-such-host.invalid");
}

static void an_unknown_database_is_refused_for_good(void **state)
{
    (void)state;
    connect_fails(live_conninfo_with("dbname=no_such_database"), "3D000", "no_such_database");
}

static void a_wrong_password_is_refused_for_good_and_told_at_once(void **state)
{
    (void)state;
    aside_int8("DROP ROLE IF EXISTS evpq_locked_out");
    aside_int8("CREATE ROLE evpq_locked_out LOGIN PASSWORD 'r1ght'");
    struct live live;
    struct outcome outcome;
    /* Not fail_fast: only because trying again would not help. */
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(
                                           "user=evpq_locked_out password=can4ry")));
    double start = live_now();
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    if (outcome.code == EVPQ_OK) {
        outcome_clear(&outcome);
        live_close(&live);
        print_message("the server under test asks for no password\n");
        skip();
    }
    assert_int_equal(outcome.code, EVPQ_ECONNECT);
    assert_string_equal(outcome.sqlstate, "28P01");
    assert_true(outcome.at - start < 5. * live_slow());
    assert_null(strstr(outcome.message, "can4ry"));
    outcome_clear(&outcome);
    live_close(&live);
    aside_int8("DROP ROLE evpq_locked_out");
}

static void a_silent_server_takes_only_its_share_of_the_time(void **state)
{
    (void)state;
    int silent_port, fd = silent_server(&silent_port);
    char host[500], port[500], conninfo[1200];
    server_address(host, port, sizeof(host));
    snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1,%s port=%d,%s", host, silent_port, port);
    struct live live;
    struct outcome outcome;
    /* The half that is left for the other one must do for a password's hash. */
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(conninfo),
                                       .connect_timeout_ms = live_slow() > 1. ? 8000 : 2000));
    double start = live_now();
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    print_message("past the silent host in %.2f s\n", outcome.at - start);
    assert_int_equal(outcome.code, EVPQ_OK);
    assert_true(outcome.at - start > 0.9 && outcome.at - start < 2.5 * live_slow());
    outcome_clear(&outcome);
    live_close(&live);
    close(fd);
}

static void refused_hosts_lead_on_to_the_next(void **state)
{
    (void)state;
    char host[500], port[500], conninfo[1200];
    server_address(host, port, sizeof(host));
    snprintf(conninfo, sizeof(conninfo), "host=/nonexistent,127.0.0.1,%s port=1,%d,%s", host,
             closed_port(), port);
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(conninfo)));
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 7::int8")), 7);
    live_close(&live);
}

static void a_role_that_no_host_has_is_a_connect_error(void **state)
{
    (void)state;
    connect_fails(live_conninfo_with("target_session_attrs=standby"), "", "standby");
}

static void prefer_standby_takes_a_primary_when_there_is_no_standby(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(
                                           "target_session_attrs=prefer-standby")));
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 7::int8")), 7);
    live_close(&live);
}

static void the_service_file_is_read(void **state)
{
    (void)state;
    char host[500], port[500], path[] = "/tmp/evpq-service-XXXXXX";
    server_address(host, port, sizeof(host));
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    fprintf(file, "[evpq_test]\nhost=%s\nport=%s\napplication_name=from_service\n", host, port);
    fclose(file);
    setenv("PGSERVICEFILE", path, 1);
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with("service=evpq_test")));
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT (current_setting('application_name') = "
                                                 "'from_service')::int")),
                     1);
    live_close(&live);
    connect_fails(live_conninfo_with("service=no_such_service"), "", "service");
    unsetenv("PGSERVICEFILE");
    unlink(path);
}

static void sessions_are_pinned_to_utf8_iso_and_exact_floats(void **state)
{
    (void)state;
    struct live live;
    setenv("PGDATESTYLE", "German", 1);
    setenv("PGCLIENTENCODING", "LATIN1", 1);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_int_equal(
        live_int8(&live, EVPQ_QUERY("SELECT (current_setting('client_encoding') = 'UTF8' AND "
                                    "current_setting('DateStyle') LIKE 'ISO%' AND "
                                    "current_setting('extra_float_digits') = '1')::int")),
        1);
    live_close(&live);
    unsetenv("PGDATESTYLE");
    unsetenv("PGCLIENTENCODING");
}

static void an_encrypted_session_works_like_any_other(void **state)
{
    (void)state;
    if (aside_int8("SELECT (current_setting('ssl') = 'on')::int") == 0) {
        print_message("the server under test has no TLS\n");
        skip();
    }
    struct live live;
    struct outcome outcome;
    live_open(&live,
              EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with("sslmode=require"), .max_size = 2));
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT ssl::int FROM pg_stat_ssl "
                                                 "WHERE pid = pg_backend_pid()")),
                     1);
    /* Records of many sizes: none may stay unseen in OpenSSL. */
    for (int i = 0; i < 60; i++) {
        live_query(&live, &outcome,
                   EVPQ_QUERY("SELECT repeat('x', $1)", EVPQ_PARAMS(evpq_int4(1 << (i % 20)))));
        assert_int_equal(outcome.code, EVPQ_OK);
        outcome_clear(&outcome);
    }
    live_query(&live, &outcome, EVPQ_QUERY("SELECT pg_sleep(30)", .timeout_ms = 100));
    assert_int_equal(outcome.code, EVPQ_ETIMEOUT);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 4::int8")), 4);
    live_close(&live);
}

static void a_pool_works_as_soon_as_its_server_does(void **state)
{
    (void)state;
    /* A relay on a port of ours that starts late: the listener is there, the server behind comes.
     */
    int port, fd = silent_server(&port);
    close(fd);
    char conninfo[100];
    snprintf(conninfo, sizeof(conninfo), "host=127.0.0.1 port=%d", port);
    struct live live;
    struct outcome outcome = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = 4));
    double start = live_now();
    for (int i = 0; i < 3; i++) {
        live_query(&live, &outcome, EVPQ_QUERY("SELECT 1", .timeout_ms = 700));
        assert_int_equal(outcome.code, EVPQ_ECONNECT);
        assert_non_null(strstr(outcome.message, "refused"));
        outcome_clear(&outcome);
    }
    double seconds = live_now() - start;
    evpq_pool_stats stats = live_stats(&live);
    print_message("%d dials in %.1f s of outage\n", (int)stats.dial_failures, seconds);
    assert_true((double)stats.dial_failures <= 10. * seconds + 1.);
    assert_true(stats.dial_failures >= 2);
    live_close(&live);
}

static void bad_options_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        evpq_pool_options options;
        const char *says;
    } cases[] = {
        {{.size = 0}, "size"},
        {{.size = sizeof(evpq_pool_options), .min_size = 3, .max_size = 2}, "min_size"},
        {{.size = sizeof(evpq_pool_options), .min_size = 11}, "min_size"},
        {{.size = sizeof(evpq_pool_options), .max_size = 10001}, "max_size"},
        {{.size = sizeof(evpq_pool_options), .conninfo = ""}, "empty"},
        {{.size = sizeof(evpq_pool_options), .conninfo = "nonsense"}, "conninfo"},
        {{.size = sizeof(evpq_pool_options), .conninfo = "hots=x"}, "conninfo"},
        {{.size = sizeof(evpq_pool_options), .cancel_timeout_ms = EVPQ_NEVER}, "cancel_timeout_ms"},
    };
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    evpq_pool *pool = NULL;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *problem = evpq_pool_options_problem(&cases[i].options);
        assert_non_null(problem);
        assert_non_null(strstr(problem, cases[i].says));
        assert_int_equal(evpq_pool_open(&pool, loop, &cases[i].options), EVPQ_EINVALID);
        assert_null(pool);
    }
    struct {
        evpq_pool_options known;
        int of_the_future;
    } newer = {.known = {.size = sizeof(newer), .max_size = 2}};
    assert_null(evpq_pool_options_problem(&newer.known));
    newer.of_the_future = 1;
    assert_non_null(evpq_pool_options_problem(&newer.known));
    assert_null(evpq_pool_options_problem(NULL));
    assert_int_equal(evpq_pool_open(NULL, loop, NULL), EVPQ_EINVALID);
    assert_int_equal(evpq_pool_open(&pool, NULL, NULL), EVPQ_EINVALID);
    ev_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_is_not_there_is_a_connect_error),
        cmocka_unit_test(a_socket_that_is_not_there_is_a_connect_error),
        cmocka_unit_test(a_name_that_does_not_exist_is_a_connect_error),
        cmocka_unit_test(an_unknown_database_is_refused_for_good),
        cmocka_unit_test(a_wrong_password_is_refused_for_good_and_told_at_once),
        cmocka_unit_test(a_silent_server_takes_only_its_share_of_the_time),
        cmocka_unit_test(refused_hosts_lead_on_to_the_next),
        cmocka_unit_test(a_role_that_no_host_has_is_a_connect_error),
        cmocka_unit_test(prefer_standby_takes_a_primary_when_there_is_no_standby),
        cmocka_unit_test(the_service_file_is_read),
        cmocka_unit_test(sessions_are_pinned_to_utf8_iso_and_exact_floats),
        cmocka_unit_test(an_encrypted_session_works_like_any_other),
        cmocka_unit_test(a_pool_works_as_soon_as_its_server_does),
        cmocka_unit_test(bad_options_are_refused_with_a_reason),
    };
    return pooler_run_group_tests_name("connect", tests, NULL, NULL);
}
