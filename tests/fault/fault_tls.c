/* SPDX-License-Identifier: MIT */
/*
 * TLS and logins that must fail: each is a CONNECT error that says which it is, and no connection
 * is made with less than was asked for.
 */
#include "support/certificates.h"
#include "support/ledger.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fault_server *server;

/* In the server's folder, where it reads them. */
static const char *path(const char *name)
{
    static char paths[8][128];
    static int next;
    char *one = paths[next++ % 8];
    snprintf(one, sizeof(paths[0]), "%s/%s", server->dir, name);
    return one;
}

/* The server is another user than we are. */
static void give(const char *name)
{
    struct stat folder;
    char file[160];
    assert_int_equal(stat(server->dir, &folder), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof(file), "%s.%s", path(name), i ? "crt" : "key");
        assert_int_equal(chmod(file, 0600), 0);
        if (geteuid() == 0)
            assert_int_equal(chown(file, folder.st_uid, folder.st_gid), 0);
    }
}

static void make(const char *name, const char *dns, int days, const char *issuer)
{
    certificate_make(&(struct certificate_request){.path = path(name),
                                                   .name = dns ? dns : name,
                                                   .dns = dns,
                                                   .days = days,
                                                   .issuer = issuer ? path(issuer) : NULL});
}

static void make_all(void)
{
    static bool made;
    if (made)
        return;
    made = true;
    make("ca", NULL, 2, NULL);
    make("other-ca", NULL, 2, NULL);
    make("good", "localhost", 2, "ca");
    make("expired", "localhost", 0, "ca");
    make("foreign", "elsewhere.invalid", 2, "ca");
    make("stranger", "localhost", 2, "other-ca");
    make("self-signed", "localhost", 2, NULL);
    make("evpq", NULL, 2, "ca"); /* a client's; the name is the role */
    make("evpq-stranger", NULL, 2, "other-ca");
    static const char *const servers[] = {"good", "expired", "foreign", "stranger", "self-signed"};
    for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]); i++)
        give(servers[i]);
}

static bool takes_tls(void)
{
    return fault_sql(server, "SELECT (current_setting('ssl') = 'on')::int::bigint") == 1;
}

/* The server shows this certificate, or takes no TLS (NULL). `hba` is in front of what it has. */
static void serve(const char *certificate, const char *hba)
{
    server = fault_server();
    make_all();
    if (certificate) {
        char file[160];
        snprintf(file, sizeof(file), "%s.crt", path(certificate));
        fault_server_set(server, "ssl_cert_file", file);
        snprintf(file, sizeof(file), "%s.key", path(certificate));
        fault_server_set(server, "ssl_key_file", file);
        snprintf(file, sizeof(file), "%s.crt", path("ca"));
        fault_server_set(server, "ssl_ca_file", file);
        fault_server_set(server, "ssl", "on");
    }
    fault_server_hba(server, hba);
    fault_server_restart(server, FAULT_FAST);
    assert_int_equal(takes_tls(), certificate != NULL);
}

/* "localhost" is a name that has to be looked up. */
static const char *conninfo(const char *host, const char *more)
{
    static char buffer[1024];
    snprintf(buffer, sizeof(buffer),
             "host=%s port=%d user=evpq password=%s dbname=evpq sslrootcert=%s.crt "
             "sslcert=/nonexistent sslkey=/nonexistent %s",
             host, server->port, server->password, path("ca"), more);
    return buffer;
}

static void connects(const char *string, bool encrypted)
{
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = string, .max_size = 1));
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT ssl::int::int8 FROM pg_stat_ssl "
                                                 "WHERE pid = pg_backend_pid()")),
                     encrypted);
    live_close(&live);
}

/* Says so, and no connection was made, encrypted or not. */
static void fails(const char *string, const char *sqlstate, const char *says)
{
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = string, .max_size = 1, .fail_fast = true));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    print_message("%s\n", outcome.message);
    assert_int_equal(outcome.code, EVPQ_ECONNECT);
    assert_int_equal(outcome.fate, EVPQ_NOT_SENT);
    assert_string_equal(outcome.sqlstate, sqlstate);
    if (!strstr(outcome.message, says))
        fail_msg("\"%s\" does not say \"%s\"", outcome.message, says);
    assert_null(strstr(outcome.message, server->password));
    assert_null(strchr(outcome.message, '\n'));
    assert_int_equal(live_stats(&live).dialed, 0);
    outcome_clear(&outcome);
    live_close(&live);
}

static void a_name_is_verified_behind_its_addresses(void **state)
{
    (void)state;
    serve("good", "");
    connects(conninfo("localhost", "sslmode=verify-full"), true);
    /* What is verified is the name that was asked for, not the address that it has. */
    fails(conninfo("127.0.0.1", "sslmode=verify-full"), "", "does not match host name");
    connects(conninfo("127.0.0.1", "sslmode=verify-ca"), true);
    connects(conninfo("localhost", "hostaddr=127.0.0.1 sslmode=verify-full"), true);
}

static void an_expired_certificate_is_told(void **state)
{
    (void)state;
    serve("expired", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "", "certificate has expired");
    fails(conninfo("localhost", "sslmode=verify-ca"), "", "certificate has expired");
}

static void a_certificate_of_another_host_is_told(void **state)
{
    (void)state;
    serve("foreign", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "",
          "certificate for \"elsewhere.invalid\" does not match host name \"localhost\"");
}

static void a_certificate_of_another_authority_is_told(void **state)
{
    (void)state;
    serve("stranger", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "", "unable to get local issuer");
    fails(conninfo("localhost", "sslmode=verify-ca"), "", "unable to get local issuer");
}

static void a_self_signed_certificate_is_told(void **state)
{
    (void)state;
    serve("self-signed", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "", "self-signed certificate");
}

static void a_server_without_tls_is_not_talked_to_where_it_is_required(void **state)
{
    (void)state;
    serve(NULL, "");
    static const char *const modes[] = {"require", "verify-ca", "verify-full"};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        char mode[32];
        snprintf(mode, sizeof(mode), "sslmode=%s", modes[i]);
        fails(conninfo("localhost", mode), "", "server does not support SSL");
    }
    connects(conninfo("localhost", "sslmode=prefer"), false);
}

static void a_server_that_wants_tls_refuses_to_go_without(void **state)
{
    (void)state;
    serve("good", "hostssl all all all scram-sha-256\nhost all all all reject\n");
    fails(conninfo("localhost", "sslmode=disable"), "28000", "pg_hba.conf rejects");
    connects(conninfo("localhost", "sslmode=require"), true);
}

static void a_client_shows_its_certificate(void **state)
{
    (void)state;
    serve("good", "hostssl all evpq all cert\n");
    char files[300];
    fails(conninfo("localhost", "sslmode=verify-full"), "28000",
          "requires a valid client certificate");
    snprintf(files, sizeof(files), "sslmode=verify-full sslcert=%s.crt sslkey=%s.key",
             path("evpq-stranger"), path("evpq-stranger"));
    fails(conninfo("localhost", files), "", "unknown ca");
    snprintf(files, sizeof(files), "sslmode=verify-full sslcert=%s.crt sslkey=%s.key", path("evpq"),
             path("evpq"));
    connects(conninfo("localhost", files), true);
}

static void a_wrong_password_over_tls_is_told(void **state)
{
    (void)state;
    serve("good", "");
    fails(conninfo("localhost", "sslmode=verify-full password=wr0ng"), "28P01",
          "password authentication failed");
}

static void channel_binding_is_required_or_nothing(void **state)
{
    (void)state;
    serve("good", "");
    connects(conninfo("localhost", "sslmode=require channel_binding=require"), true);
    /* Without TLS there is nothing to bind to. */
    fails(conninfo("localhost", "sslmode=disable channel_binding=require"), "", "channel binding");
    /* A server that asks for less than SCRAM could be anybody. */
    serve("good", "hostssl all evpq all password\n");
    fails(conninfo("localhost", "sslmode=require channel_binding=require"), "", "channel binding");
    serve("good", "hostssl all evpq all trust\n");
    fails(conninfo("localhost", "sslmode=require channel_binding=require"), "", "channel binding");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_is_verified_behind_its_addresses),
        cmocka_unit_test(an_expired_certificate_is_told),
        cmocka_unit_test(a_certificate_of_another_host_is_told),
        cmocka_unit_test(a_certificate_of_another_authority_is_told),
        cmocka_unit_test(a_self_signed_certificate_is_told),
        cmocka_unit_test(a_server_without_tls_is_not_talked_to_where_it_is_required),
        cmocka_unit_test(a_server_that_wants_tls_refuses_to_go_without),
        cmocka_unit_test(a_client_shows_its_certificate),
        cmocka_unit_test(a_wrong_password_over_tls_is_told),
        cmocka_unit_test(channel_binding_is_required_or_nothing),
    };
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
