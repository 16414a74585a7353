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

static void make_client(const char *name, const char *role, int days, const char *issuer)
{
    certificate_make(&(struct certificate_request){
        .path = path(name), .name = role, .days = days, .issuer = path(issuer)});
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
    make("revoked", "localhost", 2, "ca");
    make_client("evpq", "evpq", 2, "ca"); /* the name is the role */
    make_client("evpq-stranger", "evpq", 2, "other-ca");
    make_client("evpq-expired", "evpq", 0, "ca");
    make_client("evpq-revoked", "evpq", 2, "ca");
    make_client("another", "another", 2, "ca");
    certificate_revoke(path("ca"),
                       (const char *const[]){path("revoked"), path("evpq-revoked"), NULL});
    certificate_revoke(path("other-ca"), (const char *const[]){NULL});
    static const char *const servers[] = {"good",     "expired",     "foreign",
                                          "stranger", "self-signed", "revoked"};
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
        snprintf(file, sizeof(file), "%s.crl", path("ca"));
        fault_server_set(server, "ssl_crl_file", file);
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

/* One failure: a CONNECT error, and no connection was made, encrypted or not. Says so? */
static bool fails_once(const char *string, const char *sqlstate, const char *says)
{
    struct live live;
    struct outcome outcome;
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = string, .max_size = 1, .fail_fast = true));
    live_query(&live, &outcome, EVPQ_QUERY("SELECT 1"));
    print_message("%s\n", outcome.message);
    assert_int_equal(live_stats(&live).dialed, 0);
    live_close(&live);
    assert_int_equal(outcome.code, EVPQ_ECONNECT);
    assert_int_equal(outcome.fate, EVPQ_NOT_SENT);
    assert_string_equal(outcome.sqlstate, sqlstate);
    assert_null(strstr(outcome.message, server->password));
    assert_null(strchr(outcome.message, '\n'));
    bool said = strstr(outcome.message, says) != NULL;
    bool race = strstr(outcome.message, "certificate verify failed") != NULL;
    outcome_clear(&outcome);
    if (!said && !race)
        fail_msg("it does not say \"%s\"", says);
    return said;
}

/*
 * Why a certificate was not believed is known where the handshake takes more than one call of
 * libpq. A client that is slower than its server may miss it, and says what libpq says.
 */
static void fails(const char *string, const char *sqlstate, const char *says)
{
    for (int attempt = 0; attempt < 10; attempt++)
        if (fails_once(string, sqlstate, says))
            return;
    if (live_slow() == 1.)
        fail_msg("it does not say \"%s\"", says);
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

static void a_certificate_of_another_host_is_told_where_names_are_verified(void **state)
{
    (void)state;
    serve("foreign", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "",
          "certificate for \"elsewhere.invalid\" does not match host name \"localhost\"");
    connects(conninfo("localhost", "sslmode=verify-ca"), true);
}

static void a_certificate_of_another_authority_is_told(void **state)
{
    (void)state;
    serve("stranger", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "", "unable to get local issuer");
    fails(conninfo("localhost", "sslmode=verify-ca"), "", "unable to get local issuer");
}

/* With a list of what is revoked, by the authority of this name. */
static const char *conninfo_with_list(const char *mode, const char *authority)
{
    char more[300];
    snprintf(more, sizeof(more), "sslmode=%s sslcrl=%s.crl", mode, path(authority));
    return conninfo("localhost", more);
}

static void a_revoked_certificate_is_told(void **state)
{
    (void)state;
    serve("revoked", "");
    fails(conninfo_with_list("verify-full", "ca"), "", "certificate revoked");
    fails(conninfo_with_list("verify-ca", "ca"), "", "certificate revoked");
    /* Without the list nobody can know. */
    connects(conninfo("localhost", "sslmode=verify-full"), true);
    serve("good", "");
    connects(conninfo_with_list("verify-full", "ca"), true);
    fails(conninfo_with_list("verify-full", "other-ca"), "", "unable to get certificate CRL");
}

static void a_self_signed_certificate_is_told(void **state)
{
    (void)state;
    serve("self-signed", "");
    fails(conninfo("localhost", "sslmode=verify-full"), "", "self-signed certificate");
    fails(conninfo("localhost", "sslmode=verify-ca"), "", "self-signed certificate");
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

/* A client with the certificate and the key of these names. */
static const char *conninfo_of_client(const char *certificate, const char *key)
{
    char more[300];
    snprintf(more, sizeof(more), "sslmode=verify-full sslcert=%s.crt sslkey=%s.key",
             path(certificate), path(key));
    return conninfo("localhost", more);
}

static void a_client_shows_its_certificate(void **state)
{
    (void)state;
    serve("good", "hostssl all evpq all cert\n");
    connects(conninfo_of_client("evpq", "evpq"), true);
    fails(conninfo("localhost", "sslmode=verify-full"), "28000",
          "requires a valid client certificate");
}

static void a_certificate_of_a_client_that_is_not_taken_is_told(void **state)
{
    (void)state;
    serve("good", "hostssl all evpq all cert\n");
    fails(conninfo_of_client("evpq-stranger", "evpq-stranger"), "", "unknown ca");
    fails(conninfo_of_client("evpq-expired", "evpq-expired"), "", "certificate expired");
    fails(conninfo_of_client("evpq-revoked", "evpq-revoked"), "", "certificate revoked");
    fails(conninfo_of_client("another", "another"), "28000",
          "certificate authentication failed for user \"evpq\"");
    fails(conninfo_of_client("evpq", "another"), "", "another.key");
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
        cmocka_unit_test(a_certificate_of_another_host_is_told_where_names_are_verified),
        cmocka_unit_test(a_certificate_of_another_authority_is_told),
        cmocka_unit_test(a_self_signed_certificate_is_told),
        cmocka_unit_test(a_revoked_certificate_is_told),
        cmocka_unit_test(a_server_without_tls_is_not_talked_to_where_it_is_required),
        cmocka_unit_test(a_server_that_wants_tls_refuses_to_go_without),
        cmocka_unit_test(a_client_shows_its_certificate),
        cmocka_unit_test(a_certificate_of_a_client_that_is_not_taken_is_told),
        cmocka_unit_test(a_wrong_password_over_tls_is_told),
        cmocka_unit_test(channel_binding_is_required_or_nothing),
    };
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
