/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pg/conninfo.h"
#include "pg/hosts.h"
#include "support/bytes.h"
#include "support/fake_mem.h"

/* With the real libpq and no server: nothing here gets as far as a socket that answers. */

static char folder[] = "/tmp/evpq-hosts-XXXXXX";
static char service_file[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(service_file, sizeof(service_file), "%s/services", folder);
    FILE *file = fopen(service_file, "w");
    if (!file)
        return -1;
    fputs(
        "[one]\nhost=svc1,svc2\nport=99\nuser=sam\ntarget_session_attrs=prefer-standby\n"
        "[other]\nhost=elsewhere\n"
        "[bad]\nthis is no setting\n",
        file);
    return fclose(file);
}

static int remove_folder(void **state)
{
    (void)state;
    return remove(service_file) || rmdir(folder);
}

/* The environment of whoever runs the tests is none of their business. */
static int begin(void **state)
{
    (void)state;
    static const char *const variables[] = {
        "PGHOST",           "PGHOSTADDR",           "PGPORT",        "PGDATABASE",
        "PGUSER",           "PGPASSWORD",           "PGPASSFILE",    "PGSERVICE",
        "PGSERVICEFILE",    "PGSYSCONFDIR",         "PGOPTIONS",     "PGAPPNAME",
        "PGSSLMODE",        "PGGSSENCMODE",         "PGKRBSRVNAME",  "PGCONNECT_TIMEOUT",
        "PGCLIENTENCODING", "PGTARGETSESSIONATTRS", "PGREQUIREAUTH", "PGLOADBALANCEHOSTS"};
    for (size_t i = 0; i < COUNT(variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", folder, 1);
    setenv("PGSERVICEFILE", service_file, 1);
    fake_mem_reset();
    return 0;
}

static int end(void **state)
{
    (void)state;
    assert_int_equal(fake_mem_bytes(), 0);
    return 0;
}

/* "host|hostaddr|port", separated by blanks; or why not. */
static const char *read_all(const char *conninfo)
{
    static char all[512];
    struct evpq__hosts hosts;
    const char *problem = evpq__hosts_read(&hosts, conninfo);
    all[0] = '\0';
    for (size_t i = 0; !problem && i < hosts.count; i++) {
        size_t length = strlen(all);
        snprintf(all + length, sizeof(all) - length, "%s%s|%s|%s", i ? " " : "", hosts.list[i].host,
                 hosts.list[i].hostaddr, hosts.list[i].port);
    }
    evpq__hosts_free(&hosts);
    return problem ? problem : all;
}

static void lists_are_taken_apart(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {NULL, "||5432"},
        {"", "||5432"},
        {"host=a", "a||5432"},
        {"host=a,b port=1,2", "a||1 b||2"},
        {"host=a,b,c port=7", "a||7 b||7 c||7"},
        {"host=a,b", "a||5432 b||5432"},
        {"host=a,,b port=1,,3", "a||1 || b||3"},
        {"host=/tmp,@abstract,::1", "/tmp||5432 @abstract||5432 ::1||5432"},
        {"hostaddr=127.0.0.1", "|127.0.0.1|5432"},
        {"hostaddr=127.0.0.1,::1 port=1,2", "|127.0.0.1|1 |::1|2"},
        {"host=a,b hostaddr=127.0.0.1,", "a|127.0.0.1|5432 b||5432"},
        {"postgresql://", "||5432"},
        {"postgresql://u:p@a:1,b:2/db?sslmode=disable", "a||1 b||2"},
        {"postgresql://a,b:2/db", "a|| b||2"},
        {"postgres://[::1]:1,[fe80::1]/db", "::1||1 fe80::1||"},
        {"postgresql://%2ftmp/db", "/tmp||5432"},
        {"postgresql:///db?host=a,b&port=3", "a||3 b||3"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_string_equal(read_all(cases[i][0]), cases[i][1]);
}

static void what_does_not_fit_together_is_said(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"host=a port=http", "port in the connection string is not a number"},
        {"host=a connect_timeout=secret", "number in the connection string is not one"},
        {"host=a tcp_user_timeout=secret", "number in the connection string is not one"},
        {"host=a keepalives_idle=secret", "number in the connection string is not one"},
        {"host=a load_balance_hosts=secret", "neither \"random\" nor \"disable\""},
        {"service=none", "no such service"},
        {"service=bad", "service"},
        {"host='a", "the connection settings"},
        {"nosuchoption=secret", "the connection settings"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *said = read_all(cases[i][0]);
        if (!strstr(said, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], said);
        assert_null(strstr(said, "secret"));
    }
}

static void lists_of_different_lengths_are_refused(void **state)
{
    (void)state;
    static const char *const ports[] = {"host=a,b port=1,2,3", "host=a port=1,2",
                                        "hostaddr=127.0.0.1 port=1,2", "host=a,b,c port=1,2"};
    for (size_t i = 0; i < COUNT(ports); i++)
        assert_non_null(strstr(read_all(ports[i]), "numbers of hosts and of ports"));
    assert_non_null(strstr(read_all("host=a,b hostaddr=127.0.0.1"), "of hosts and of hostaddrs"));
}

static void half_of_a_password_is_never_repeated(void **state)
{
    (void)state;
    static const char *const mistyped[] = {
        "postgresql://bob:sec@ret@host/db", "postgresql://bob:sec/ret@host/db",
        "postgresql://bob:sec?ret@host/db", "postgresql://bob:sec#ret@host",
        "postgresql://bob:sec%ret@host/db", "postgresql://bob:sec[ret@host/db",
        "host=h password=sec ret",          "postgresql://bob:sec:ret,@host:x/db",
    };
    for (size_t i = 0; i < COUNT(mistyped); i++) {
        const char *said = read_all(mistyped[i]);
        if (strstr(said, "sec") && strstr(said, "|") == NULL)
            fail_msg("%s: %s", mistyped[i], said);
        assert_null(strstr(said, "ret@"));
    }
    assert_non_null(strstr(read_all(mistyped[0]), "%40"));
    assert_non_null(strstr(read_all(mistyped[1]), "not a number"));
}

static void the_environment_fills_in(void **state)
{
    (void)state;
    setenv("PGHOST", "env1,env2", 1);
    setenv("PGPORT", "1111", 1);
    assert_string_equal(read_all(NULL), "env1||1111 env2||1111");
    assert_string_equal(read_all("port=5"), "env1||5 env2||5");
    assert_string_equal(read_all("host=a"), "a||1111");
    setenv("PGHOSTADDR", "127.0.0.1,127.0.0.2", 1);
    assert_string_equal(read_all(NULL), "env1|127.0.0.1|1111 env2|127.0.0.2|1111");
}

static void the_service_file_fills_in(void **state)
{
    (void)state;
    assert_string_equal(read_all("service=one"), "svc1||99 svc2||99");
    assert_string_equal(read_all("service=one port=5"), "svc1||5 svc2||5");
    setenv("PGHOST", "env", 1);
    assert_string_equal(read_all("service=one"), "svc1||99 svc2||99");
    setenv("PGSERVICE", "other", 1);
    assert_string_equal(read_all(NULL), "elsewhere||5432");
    assert_string_equal(read_all("service=one"), "svc1||99 svc2||99");
    setenv("PGSERVICEFILE", "/nonexistent", 1);
    assert_non_null(strstr(read_all(NULL), "service"));
}

static void options_are_those_that_count(void **state)
{
    (void)state;
    struct evpq__hosts hosts;
    setenv("PGSSLMODE", "require", 1);
    setenv("PGAPPNAME", "from env", 1);
    assert_null(evpq__hosts_read(&hosts, "service=one password='a secret' application_name=mine"));
    assert_string_equal(evpq__hosts_option(&hosts, "user"), "sam");
    assert_string_equal(evpq__hosts_option(&hosts, "password"), "a secret");
    assert_string_equal(evpq__hosts_option(&hosts, "sslmode"), "require");
    assert_string_equal(evpq__hosts_option(&hosts, "application_name"), "mine");
    assert_string_equal(evpq__hosts_option(&hosts, "target_session_attrs"), "prefer-standby");
    assert_string_equal(evpq__hosts_option(&hosts, "no such option"), "");
    evpq__hosts_free(&hosts);
    evpq__hosts_free(&hosts); /* a second time: nothing */
}

static void one_host_can_be_put_before_the_others(void **state)
{
    (void)state;
    static const struct {
        size_t number;
        bool balanced;
        const char *order;
    } cases[] = {{0, false, "abcd"}, {1, false, "bacd"}, {2, false, "cabd"},
                 {3, false, "dabc"}, {4, false, "abcd"}, {2, true, "abcd"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct evpq__hosts hosts;
        assert_null(evpq__hosts_read(&hosts, "host=a,b,c,d user=u"));
        hosts.load_balance = cases[i].balanced;
        evpq__hosts_prefer(&hosts, cases[i].number);
        for (size_t place = 0; place < 4; place++) {
            char name = cases[i].order[place];
            assert_int_equal(hosts.list[place].host[0], name);
            assert_int_equal(evpq__hosts_number(&hosts, place), name - 'a');
        }
        evpq__hosts_free(&hosts);
    }
}

static void prefer_standby_is_noticed_wherever_it_stands(void **state)
{
    (void)state;
    static const struct {
        const char *conninfo, *env;
        bool prefer;
    } cases[] = {
        {"host=a", NULL, false},
        {"host=a target_session_attrs=prefer-standby", NULL, true},
        {"host=a target_session_attrs=standby", NULL, false},
        {"host=a", "prefer-standby", true},
        {"host=a target_session_attrs=any", "prefer-standby", false},
        {"service=one", NULL, true},
        {"postgresql://a,b/db?target_session_attrs=prefer-standby", NULL, true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct evpq__hosts hosts;
        if (cases[i].env)
            setenv("PGTARGETSESSIONATTRS", cases[i].env, 1);
        else
            unsetenv("PGTARGETSESSIONATTRS");
        assert_null(evpq__hosts_read(&hosts, cases[i].conninfo));
        assert_int_equal(hosts.prefer_standby, cases[i].prefer);
        evpq__hosts_free(&hosts);
    }
}

/* The option of a connection that has been started with the first host; static. */
static const char *started_with(const char *conninfo, const char *keyword)
{
    static char value[128];
    struct evpq__hosts hosts;
    assert_null(evpq__hosts_read(&hosts, conninfo));
    PGconn *pg = evpq__hosts_connect(&hosts, &hosts.list[0], NULL, "any");
    assert_non_null(pg);
    PQconninfoOption *options = PQconninfo(pg);
    assert_non_null(options);
    value[0] = '\0';
    for (PQconninfoOption *o = options; o->keyword; o++)
        if (strcmp(o->keyword, keyword) == 0 && o->val)
            snprintf(value, sizeof(value), "%s", o->val);
    PQconninfoFree(options);
    PQfinish(pg);
    evpq__hosts_free(&hosts);
    return value;
}

#define NOWHERE "host=/nonexistent port=1 user=u dbname=d"

static void a_balanced_load_meets_every_order(void **state)
{
    (void)state;
    static const char *const orders[] = {
        "a||1 b||2 c||3", "a||1 c||3 b||2", "b||2 a||1 c||3",
        "b||2 c||3 a||1", "c||3 a||1 b||2", "c||3 b||2 a||1",
    };
    int met[COUNT(orders)] = {0};
    for (int i = 0; i < 600; i++) {
        const char *order = read_all("host=a,b,c port=1,2,3 load_balance_hosts=random");
        size_t which = 0;
        while (which < COUNT(orders) && strcmp(orders[which], order) != 0)
            which++;
        assert_true(which < COUNT(orders));
        met[which]++;
    }
    /* 100 each on average; half of that is five standard deviations away. */
    for (size_t i = 0; i < COUNT(orders); i++)
        assert_in_range(met[i], 50, 150);
    assert_string_equal(read_all("host=a,b,c load_balance_hosts=disable"),
                        "a||5432 b||5432 c||5432");
}

/* Also by a libpq that does not know the option. */
static void a_balanced_load_is_asked_for_as_libpq_has_it(void **state)
{
    (void)state;
    static const struct {
        const char *conninfo, *env;
        bool balanced;
    } cases[] = {
        {"host=a load_balance_hosts=random", NULL, true},
        {"load_balance_hosts=random host=a", NULL, true},
        {"host=a load_balance_hosts = 'random'", NULL, true},
        {"host=a load_balance_hosts=disable", NULL, false},
        {"host=a load_balance_hosts=disable load_balance_hosts=random", NULL, true},
        {"host=a load_balance_hosts=random load_balance_hosts=disable", NULL, false},
        {"postgresql://a/db?load_balance_hosts=random", NULL, true},
        {"postgresql://a/db?load_balance_hosts=%72andom&connect_timeout=3", NULL, true},
        {"postgresql://a/db?connect_timeout=3&load_balance_hosts=random", NULL, true},
        {"postgres://load_balance_hosts:load_balance_hosts@a/db?load_balance_hosts=random", NULL,
         true},
        {"host=a", "random", true},
        {"host=a", "disable", false},
        {"host=a load_balance_hosts=disable", "random", false},
        {"host=a password='x load_balance_hosts=random'", NULL, false},
        {"postgresql://load_balance_hosts:load_balance_hosts@a/db", NULL, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct evpq__hosts hosts;
        if (cases[i].env)
            setenv("PGLOADBALANCEHOSTS", cases[i].env, 1);
        else
            unsetenv("PGLOADBALANCEHOSTS");
        assert_true(evpq__conninfo_valid(cases[i].conninfo));
        assert_null(evpq__hosts_read(&hosts, cases[i].conninfo));
        if (hosts.load_balance != cases[i].balanced)
            fail_msg("%s", cases[i].conninfo);
        assert_string_equal(hosts.list[0].host, "a");
        evpq__hosts_free(&hosts);
    }
}

static void what_only_looks_like_load_balance_hosts_is_left_alone(void **state)
{
    (void)state;
    static const char *const looks[] = {
        NOWHERE " password='x load_balance_hosts=random' load_balance_hosts=disable",
        NOWHERE " load_balance_hosts=random password='x load_balance_hosts=random'",
    };
    for (size_t i = 0; i < COUNT(looks); i++)
        assert_string_equal(started_with(looks[i], "password"), "x load_balance_hosts=random");
    assert_string_equal(started_with(NOWHERE " load_balance_hosts=random", "gsslib"), "");
    static const char *const wrong[] = {
        "load_balance_hosts",
        "host=a load_balance_hosts",
        "my_load_balance_hosts=random",
        "load_balance_hosts_too=random",
        "load_balance_hosts=random nosuchoption=1",
        "nosuchoption=1 load_balance_hosts=random",
        "password='load_balance_hosts=random",
        "postgresql://a/db?load_balance_hosts",
        "postgresql://a/db?load_balance_hosts=random&nosuchoption=1",
    };
    for (size_t i = 0; i < COUNT(wrong); i++)
        if (evpq__conninfo_valid(wrong[i]))
            fail_msg("%s", wrong[i]);
}

static void a_connection_has_what_evpq_wants_where_the_user_says_nothing(void **state)
{
    (void)state;
    static const char *const wanted[][2] = {
        {"host", "/nonexistent"},
        {"port", "1"},
        {"user", "u"},
        {"gssencmode", "disable"},
        {"keepalives_idle", "30"},
        {"keepalives_interval", "10"},
        {"keepalives_count", "3"},
        {"tcp_user_timeout", "30000"},
        {"client_encoding", "UTF8"},
        {"fallback_application_name", "evpq"},
        {"target_session_attrs", "any"},
    };
    for (size_t i = 0; i < COUNT(wanted); i++)
        assert_string_equal(started_with(NOWHERE, wanted[i][0]), wanted[i][1]);
}

static void what_the_user_says_stays(void **state)
{
    (void)state;
    assert_string_equal(started_with(NOWHERE " keepalives_idle=77", "keepalives_idle"), "77");
    assert_string_equal(started_with(NOWHERE " application_name=me", "application_name"), "me");
    assert_string_equal(started_with(NOWHERE " client_encoding=LATIN1", "client_encoding"), "UTF8");
    assert_string_equal(started_with(NOWHERE " sslmode=disable", "sslmode"), "disable");
    assert_string_equal(started_with(NOWHERE " password='it\\'s'", "user"), "u");
}

static void who_sets_keepalives_has_no_other_timeout(void **state)
{
    (void)state;
    static const char *const settings[] = {NOWHERE " keepalives_idle=1",
                                           NOWHERE " keepalives_count=2",
                                           NOWHERE " keepalives_interval=1"};
    for (size_t i = 0; i < COUNT(settings); i++)
        assert_string_not_equal(started_with(settings[i], "tcp_user_timeout"), "30000");
    assert_string_equal(
        started_with(NOWHERE " keepalives_count=2 tcp_user_timeout=5000", "tcp_user_timeout"),
        "5000");
}

static void gssencmode_is_disabled_unless_asked_for(void **state)
{
    (void)state;
    PGconn *pg = PQconnectStart(NOWHERE " gssencmode=prefer");
    bool has_gss = PQstatus(pg) != CONNECTION_BAD || !strstr(PQerrorMessage(pg), "gssencmode");
    PQfinish(pg);
    if (!has_gss)
        skip();
    assert_string_equal(started_with(NOWHERE " gssencmode=prefer", "gssencmode"), "prefer");
    setenv("PGGSSENCMODE", "prefer", 1);
    assert_string_equal(started_with(NOWHERE, "gssencmode"), "prefer");
}

static void an_address_goes_beside_the_name(void **state)
{
    (void)state;
    struct evpq__hosts hosts;
    /* An address of the discard prefix: nothing is sent, for libpq refuses the port first. */
    assert_null(evpq__hosts_read(&hosts, "host=name,other port=70000 user=u"));
    PGconn *pg = evpq__hosts_connect(&hosts, &hosts.list[1], "127.0.0.1", "read-write");
    PQconninfoOption *options = PQconninfo(pg);
    int seen = 0;
    for (PQconninfoOption *o = options; o->keyword; o++) {
        seen += strcmp(o->keyword, "host") == 0 && o->val && strcmp(o->val, "other") == 0;
        seen += strcmp(o->keyword, "hostaddr") == 0 && o->val && strcmp(o->val, "127.0.0.1") == 0;
        seen += strcmp(o->keyword, "target_session_attrs") == 0 && o->val &&
                strcmp(o->val, "read-write") == 0;
    }
    assert_int_equal(seen, 3);
    PQconninfoFree(options);
    PQfinish(pg);
    evpq__hosts_free(&hosts);
}

static void a_connection_string_is_checked_without_reading_anything(void **state)
{
    (void)state;
    setenv("PGSERVICEFILE", "/nonexistent", 1);
    assert_true(evpq__conninfo_valid(NULL));
    assert_true(evpq__conninfo_valid("host=a,b port=1,2,3 service=none"));
    assert_true(evpq__conninfo_valid("postgresql://u:p@h/db"));
    assert_false(evpq__conninfo_valid("nonsense"));
    assert_false(evpq__conninfo_valid("nosuchoption=1"));
    assert_false(evpq__conninfo_valid("postgresql://[::1/db"));
}

static void without_memory_it_says_so_and_keeps_nothing(void **state)
{
    (void)state;
    static const char *const strings[] = {
        "host=a,b hostaddr=127.0.0.1,::1 port=1,2",
        "host=a,b hostaddr=127.0.0.1,::1 port=1,2 load_balance_hosts=random",
    };
    for (size_t i = 0; i < COUNT(strings); i++) {
        for (int n = 1;; n++) {
            struct evpq__hosts hosts;
            fake_mem_fail_at(n);
            const char *problem = evpq__hosts_read(&hosts, strings[i]);
            evpq__hosts_free(&hosts);
            assert_int_equal(fake_mem_bytes(), 0);
            if (!problem)
                break;
            assert_string_equal(problem, "out of memory");
            assert_true(n <= 7 + (int)i);
        }
        fake_mem_fail_at(0);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(lists_are_taken_apart),
        test(what_does_not_fit_together_is_said),
        test(lists_of_different_lengths_are_refused),
        test(half_of_a_password_is_never_repeated),
        test(the_environment_fills_in),
        test(the_service_file_fills_in),
        test(options_are_those_that_count),
        test(a_balanced_load_meets_every_order),
        test(a_balanced_load_is_asked_for_as_libpq_has_it),
        test(what_only_looks_like_load_balance_hosts_is_left_alone),
        test(one_host_can_be_put_before_the_others),
        test(prefer_standby_is_noticed_wherever_it_stands),
        test(a_connection_has_what_evpq_wants_where_the_user_says_nothing),
        test(what_the_user_says_stays),
        test(who_sets_keepalives_has_no_other_timeout),
        test(gssencmode_is_disabled_unless_asked_for),
        test(an_address_goes_beside_the_name),
        test(a_connection_string_is_checked_without_reading_anything),
        test(without_memory_it_says_so_and_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
