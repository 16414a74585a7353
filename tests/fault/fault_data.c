/* SPDX-License-Identifier: MIT */
/* Section F of the catalogue: what statements, parameters, tokens and connection strings may hold.
 */
#include "support/ledger.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t random_state;

static unsigned random_below(unsigned below)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return (unsigned)((z ^ (z >> 27)) >> 33) % below;
}

static int64_t backend(struct ledger *ledger)
{
    return live_int8(&ledger->live, EVPQ_QUERY("SELECT pg_backend_pid()::int8"));
}

/* F58: parameters that no text, no number, no type is. */

static evpq_value with_type(evpq_value value, uint32_t oid)
{
    value.type = oid;
    return value;
}

static void parameters_that_are_wrong_harm_only_their_statement(void **state)
{
    (void)state;
    struct ledger ledger;
    const char *text = "SELECT $1::text", *json = "SELECT $1";
    const struct {
        const char *sql;
        evpq_value value;
        const char *sqlstate; /* NULL: refused by the call */
    } cases[] = {
        {text, evpq_text_n("a\0b", 3), NULL},
        {text, evpq_text("\xff"), "22021"},
        {text, evpq_text("\xc0\x80"), "22021"},         /* NUL, overlong */
        {text, evpq_text("\xc1\xbf"), "22021"},         /* DEL, overlong */
        {text, evpq_text("\xed\xa0\x80"), "22021"},     /* half a surrogate */
        {text, evpq_text("\xf4\x90\x80\x80"), "22021"}, /* behind the last character */
        {text, evpq_text("\xe2\x82"), "22021"},         /* cut off */
        {text, evpq_untyped("\xff"), "22021"},
        {json, evpq_json("{\"a\": \"\xff\"}"), "22021"},
        {json, evpq_json("{"), "22P02"},
        {json, evpq_jsonb("\"\\u0000\""), "22P05"},
        {"SELECT $1::int8", evpq_untyped("1x"), "22P02"},
        {"SELECT $1::int2", evpq_int8(INT64_MAX), "22003"},
        {"SELECT 1 WHERE $1 = gen_random_uuid()", evpq_text("x"), "42883"},
        {"SELECT 1 WHERE $1", evpq_int8(1), "42804"},
        {"SELECT $1", with_type(evpq_bytea("\1\2\3", 3), 20), "08P01"},    /* a short bigint */
        {"SELECT $1", with_type(evpq_bytea("123456789", 9), 20), "22P03"}, /* a long one */
        {"SELECT $1", with_type(evpq_bytea("\2", 1), 1700), "08P01"},      /* half a numeric */
        {"SELECT $1", with_type(evpq_bytea("1", 1), 4000000000), "XX000"}, /* no such type */
        {"SELECT $2::int8", evpq_int8(1), "08P01"}, /* fewer than the statement has */
    };
    ledger_open(&ledger, fault_server(), EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t pid = backend(&ledger);
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct outcome outcome;
        evpq_query query = {.size = sizeof(query),
                            .sql = cases[i].sql,
                            .params = &cases[i].value,
                            .params_count = 1};
        if (!cases[i].sqlstate) {
            assert_int_equal(
                evpq_pool_query(NULL, ledger.live.pool, &query, outcome_result, &outcome),
                EVPQ_EINVALID);
            continue;
        }
        live_query(&ledger.live, &outcome, &query);
        if (outcome.code != EVPQ_ESERVER || strcmp(outcome.sqlstate, cases[i].sqlstate) != 0)
            ledger_breach(&ledger, "case %zu: %s %s %s", i, evpq_code_name(outcome.code),
                          outcome.sqlstate, outcome.message);
        assert_int_equal(outcome.fate, EVPQ_ROLLED_BACK);
        assert_false(outcome.retry_safe);
        outcome_clear(&outcome);
        assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_WRITE())->code, EVPQ_OK);
    }
    /* Nothing is not NULL. */
    assert_int_equal(
        live_int8(&ledger.live, EVPQ_QUERY("SELECT coalesce(octet_length($1), -1) + "
                                           "10 * coalesce(length($2), -1)::int8",
                                           EVPQ_PARAMS(evpq_bytea("", 0), evpq_text_n("x", 0)))),
        0);
    assert_int_equal(backend(&ledger), pid);
    ledger_check(&ledger);
}

/* F59: what statements leave in their session, and the next one finds of it. */

/* What is not as the set-up left it. */
static const char probe[] =
    "SELECT concat_ws(' ', "
    "CASE WHEN current_setting('client_encoding') <> 'UTF8' THEN 'encoding' END, "
    "CASE WHEN current_setting('DateStyle') NOT LIKE 'ISO%' THEN 'datestyle' END, "
    "CASE WHEN current_setting('search_path') <> '\"$user\", public' THEN 'search_path' END, "
    "CASE WHEN current_setting('TimeZone') = 'Antarctica/Troll' THEN 'timezone' END, "
    "CASE WHEN current_setting('transaction_isolation') <> 'read committed' THEN 'open' END, "
    "CASE WHEN current_user <> 'evpq' OR session_user <> 'evpq' THEN 'user' END, "
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relname = 'left_behind' AND "
    "relnamespace = pg_my_temp_schema()) THEN 'temp' END, "
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = "
    "pg_backend_pid()) THEN 'lock' END, "
    "CASE WHEN EXISTS (SELECT FROM pg_listening_channels()) THEN 'listen' END, "
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql) THEN "
    "'prepared' END, "
    "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE name <> '') THEN 'cursor' END)";

static const struct {
    const char *sql;
    evpq_code code;
    const char *sqlstate, *stays; /* without reset_session */
} habits[] = {
    {"SELECT 1; SELECT 2", EVPQ_ESERVER, "42601", ""},
    {"BEGIN; SELECT 1", EVPQ_ESERVER, "42601", ""},
    {"COPY effects TO STDOUT", EVPQ_EINVALID, "", ""},
    {"COPY effects FROM STDIN", EVPQ_EINVALID, "", ""},
    {"SET SESSION AUTHORIZATION admin", EVPQ_ESERVER, "42501", ""},
    /* What libpq reports, and readers rely on, is seen to. */
    {"SET client_encoding = 'SJIS'", EVPQ_OK, "", ""},
    {"SET DateStyle = 'German'", EVPQ_OK, "", ""},
    {"BEGIN ISOLATION LEVEL SERIALIZABLE", EVPQ_OK, "", ""},
    {"DISCARD ALL", EVPQ_OK, "", ""},
    {"SET search_path = nowhere", EVPQ_OK, "", "search_path"},
    {"SET TimeZone = 'Antarctica/Troll'", EVPQ_OK, "", "timezone"},
    {"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", EVPQ_OK, "",
     "open"},
    {"SET ROLE other", EVPQ_OK, "", "user"},
    {"CREATE TEMP TABLE left_behind ()", EVPQ_OK, "", "temp"},
    {"SELECT pg_advisory_lock(4711)", EVPQ_OK, "", "lock"},
    {"LISTEN left_behind", EVPQ_OK, "", "listen"},
    {"PREPARE left_behind AS SELECT 1", EVPQ_OK, "", "prepared"},
    {"DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1", EVPQ_OK, "", "cursor"},
};

static void found_is(struct ledger *ledger, const char *after, const char *expected)
{
    struct outcome outcome;
    evpq_text_view text = {0};
    live_query(&ledger->live, &outcome, EVPQ_QUERY(probe));
    assert_int_equal(outcome.code, EVPQ_OK);
    assert_int_equal(evpq_result_text(outcome.result, 0, 0, &text), EVPQ_OK);
    if (strcmp(text.data, expected) != 0)
        ledger_breach(ledger, "after %s the next user found \"%s\", not \"%s\"", after, text.data,
                      expected);
    outcome_clear(&outcome);
}

static void habits_of(bool reset, bool leased)
{
    struct fault_server *server = fault_server();
    fault_sql(server, "DROP ROLE IF EXISTS other");
    fault_sql(server, "CREATE ROLE other");
    fault_sql(server, "GRANT other TO evpq");
    fault_sql(server, "GRANT SELECT ON effects TO other");
    for (size_t i = 0; i < COUNT(habits); i++) {
        struct ledger ledger;
        struct outcome outcome, lease = {0};
        ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1, .reset_session = reset));
        found_is(&ledger, "nothing", "");
        if (leased) {
            live_acquire(&ledger.live, &lease);
            live_lease_query(&ledger.live, &outcome, lease.lease, EVPQ_QUERY(habits[i].sql));
            evpq_lease_release(lease.lease);
        } else {
            live_query(&ledger.live, &outcome, EVPQ_QUERY(habits[i].sql));
        }
        if (outcome.code != habits[i].code || strcmp(outcome.sqlstate, habits[i].sqlstate) != 0)
            ledger_breach(&ledger, "%s: %s %s %s", habits[i].sql, evpq_code_name(outcome.code),
                          outcome.sqlstate, outcome.message);
        outcome_clear(&outcome);
        found_is(&ledger, habits[i].sql, reset ? "" : habits[i].stays);
        assert_int_equal(ledger_ask_and_wait(&ledger, LEDGER_ECHO())->code, EVPQ_OK);
        ledger_check(&ledger);
    }
    fault_sql(server, "DROP OWNED BY other");
    fault_sql(server, "DROP ROLE other");
}

static void nothing_of_a_session_is_left_after_a_reset(void **state)
{
    (void)state;
    habits_of(true, false);
    habits_of(true, true);
}

static void without_a_reset_it_is_as_documented(void **state)
{
    (void)state;
    habits_of(false, false);
    habits_of(false, true);
}

static void floods_drown_nobody(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    char sql[300];
    int notices = live_scaled(fault_long() ? 1000000 : 100000), notifies = live_scaled(100000);
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 2, .query_timeout_ms = 120000));
    ledger_load(&ledger, 50., LEDGER_WRITE(.timeout_ms = 5000));
    /* What the server has to say while a statement runs. */
    snprintf(sql, sizeof(sql),
             "DO $$ BEGIN FOR i IN 1..%d LOOP RAISE NOTICE 'of many %%', i; END LOOP; END $$",
             notices);
    double start = live_now();
    (void)live_int8(&ledger.live, EVPQ_QUERY(sql));
    double took = live_now() - start;
    /* Settings that are reported, one after another. */
    for (int i = 0; i < live_scaled(2000); i++) {
        snprintf(sql, sizeof(sql), "SET IntervalStyle = '%s'", i % 2 ? "iso_8601" : "postgres");
        (void)live_int8(&ledger.live, EVPQ_QUERY(sql));
    }
    /* And what comes to connections that are idle. */
    for (int i = 0; i < 10; i++)
        (void)live_int8(&ledger.live, EVPQ_QUERY("LISTEN flood"));
    snprintf(sql, sizeof(sql),
             "SELECT count(pg_notify('flood', repeat('x', 100) || i)) FROM generate_series(1, %d) "
             "AS i",
             notifies);
    struct fault_every *flood = fault_every(server, sql, 3600.);
    ledger_run(&ledger, 4.);
    struct fault_tally sent = fault_every_end(flood);
    evpq_pool_stats stats = live_stats(&ledger.live);
    ledger_figure(
        "%d notices in %.2f s, %lld notifications; %llu connections closed; the longest "
        "turn took %.1f ms of CPU",
        notices, took, (long long)sent.sum, (unsigned long long)stats.closed_broken,
        ledger.dog.longest_cpu * 1e3);
    assert_int_equal(sent.sum, notifies);
    ledger_drain(&ledger);
    assert_int_equal(ledger.codes[0], ledger.asked);
    ledger_check(&ledger);
}

/* F61: tokens. The fuzzers do it for longer. */

struct first_page {
    int calls;
    char token[4097];
};

static void on_first_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct first_page *first = user;
    const char *token = page ? evpq_page_token(page) : NULL;
    first->calls++;
    assert_null(err);
    assert_non_null(token);
    snprintf(first->token, sizeof(first->token), "%s", token);
}

static bool has_page(struct live *live, void *arg)
{
    (void)live;
    return ((struct first_page *)arg)->calls > 0;
}

static void mutate(char *text, size_t room)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \n\x80";
    for (unsigned changes = 1 + random_below(3); changes > 0; changes--) {
        size_t length = strlen(text), at = length ? random_below((unsigned)length) : 0;
        switch (random_below(5)) {
        case 0:
            text[at] = digits[random_below(sizeof(digits) - 1)];
            break;
        case 1:
            text[at] = (char)(text[at] ^ (1 << random_below(7)));
            break;
        case 2:
            text[at] = '\0';
            break;
        case 3:
            memmove(text + at, text + at + 1, length - at);
            break;
        default:
            if (length + 2 < room) {
                memmove(text + at + 1, text + at, length - at + 1);
                text[at] = digits[random_below(sizeof(digits) - 1)];
            }
        }
    }
}

/* The token of a first page; it comes back in options. */
static void tokens_of(evpq_pager_options *options, struct first_page *first)
{
    struct ledger ledger;
    evpq_pager *pager = NULL;
    *first = (struct first_page){0};
    ledger_open(&ledger, fault_server(), EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_int_equal(evpq_pager_open(&pager, ledger.live.pool, options), EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, pager, on_first_page, first), EVPQ_OK);
    ledger_until(&ledger, has_page, first, 10.);
    evpq_pager_close(pager);
    options->after = first->token;
    assert_null(evpq_pager_options_problem(options));
    ledger_check(&ledger);
}

static void a_token_with_any_change_is_refused(void **state)
{
    (void)state;
    struct first_page first;
    const evpq_secret secrets[] = {{1, "0123456789abcdef", 16}, {2, "fedcba9876543210", 16}};
    evpq_pager_options plain =
        *EVPQ_PAGER_OPTIONS(.sql =
                                "SELECT i AS a, 'n' || i AS b, $1::int8 AS c FROM "
                                "generate_series(1, 10) AS i",
                            EVPQ_PARAMS(evpq_int8(7)), .assume_unique = true,
                            .order_by = "a DESC, b", .page_size = 3);
    evpq_pager_options options = plain;
    random_state = 61;
    int tried = live_scaled(fault_long() ? 1000000 : 100000), same = 0;
    for (int secret = 0; secret < 3; secret++) {
        options = plain;
        options.secrets = secret ? &secrets[secret - 1] : NULL;
        options.secrets_count = secret ? 1 : 0;
        tokens_of(&options, &first);
        /* With another secret, or none, it is nothing. */
        evpq_pager_options other = options;
        other.secrets = secret == 1 ? &secrets[1] : &secrets[0];
        other.secrets_count = 1;
        assert_string_equal(evpq_pager_options_problem(&other), EVPQ_TOKEN_PROBLEM);
        for (int i = 0; i < tried; i++) {
            char token[5000];
            snprintf(token, sizeof(token), "%s", first.token);
            mutate(token, sizeof(token));
            same += strcmp(token, first.token) == 0;
            options.after = token;
            const char *problem = evpq_pager_options_problem(&options);
            if (strcmp(token, first.token) != 0 &&
                (!problem || strcmp(problem, EVPQ_TOKEN_PROBLEM) != 0))
                fail_msg("a token of another text was taken: %s", token);
        }
    }
    assert_true(same < tried / 10);
    char *large = calloc(1, 1 << 20);
    assert_non_null(large);
    memset(large, 'A', (1 << 20) - 1);
    options.after = large;
    assert_string_equal(evpq_pager_options_problem(&options), EVPQ_TOKEN_PROBLEM);
    free(large);
    print_message("# %d changed tokens refused\n", 3 * tried - same);
}

/* F62: connection strings, and the secret in them. */

static const char canary[] = "canary5ecret";

/* One that is nearly good. */
static void some_conninfo(char *text, size_t room)
{
    static const char *const parts[] = {
        "host=127.0.0.1 ",
        "port=1 ",
        "port=canary5ecret ",
        "password=canary5ecret ",
        "password='canary5ecret x' ",
        "password=canary5ecret\\ x ",
        "password = canary5ecret",
        "user=me ",
        "dbname=db ",
        "dbname='host=canary5ecret' ",
        "sslmode=disable ",
        "sslmode=canary5ecret ",
        "canary5ecret=1 ",
        "canary5ecret ",
        "connect_timeout=1 ",
        "options='-c work_mem=1MB' ",
        "postgresql://me:canary5ecret@127.0.0.1:1/db",
        "postgresql://me:canary%35ecret@127.0.0.1:1/db",
        "postgresql://me:canary5ecret%zz@127.0.0.1/db",
        "postgres:/me:canary5ecret@127.0.0.1/db",
        "postgresql://127.0.0.1:canary5ecret/db",
        "postgresql:///db?host=127.0.0.1&port=1&password=canary5ecret",
        "'",
        "\\",
        "=",
        "&",
        "%00",
    };
    text[0] = '\0';
    for (unsigned count = 1 + random_below(5); count > 0; count--) {
        size_t length = strlen(text);
        snprintf(text + length, room - length, "%s", parts[random_below(COUNT(parts))]);
    }
}

static void connection_strings_are_read_as_libpq_does_and_told_to_nobody(void **state)
{
    (void)state;
    int tried = live_scaled(20000), good = 0;
    random_state = 62;
    for (int i = 0; i < tried; i++) {
        char text[600], *secret = NULL;
        some_conninfo(text, sizeof(text));
        if (random_below(2))
            mutate(text, sizeof(text));
        if (!text[0])
            continue;
        PQconninfoOption *options = PQconninfoParse(text, &secret);
        const char *problem = evpq_pool_options_problem(EVPQ_POOL_OPTIONS(.conninfo = text));
        if (!options != (problem != NULL))
            fail_msg("libpq and evpq differ about: %s", text);
        if (problem && strstr(problem, "canary"))
            fail_msg("a secret in: %s", problem);
        good += options != NULL;
        PQconninfoFree(options);
        PQfreemem(secret);
    }
    print_message("# %d connection strings, %d of them good\n", tried, good);
    assert_true(good > tried / 100 && good < tried);
}

static void a_password_is_in_no_error(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    static const char *const texts[] = {
        "host=127.0.0.1 port=%d user=evpq dbname=evpq password=canary5ecret",
        "host=127.0.0.1 port=%d user=canary5ecret dbname=evpq password=canary5ecret2",
        "host=127.0.0.1 port=%d user=evpq dbname=nowhere password='canary5ecret \\' x'",
        "postgresql://evpq:canary5ecret@127.0.0.1:%d/evpq",
        "postgresql://evpq:canary%%35ecret@127.0.0.1:%d/evpq?connect_timeout=3",
        "postgresql://evpq@127.0.0.1:%d/evpq?password=canary5ecret",
        "host=127.0.0.1 port=1 user=evpq dbname=evpq password=canary5ecret keepalives=%d",
        "host=/nowhere port=%d user=evpq dbname=evpq password=canary5ecret",
        "host=127.0.0.1 port=%d sslmode=require user=evpq dbname=evpq password=canary5ecret",
        "host=127.0.0.1 port=%d sslmode=verify-full user=evpq password=canary5ecret",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        struct ledger ledger;
        struct outcome outcome;
        char conninfo[300], description[1000];
        snprintf(conninfo, sizeof(conninfo), texts[i], server->port);
        ledger_open(&ledger, NULL, EVPQ_POOL_OPTIONS(.max_size = 1, .conninfo = conninfo));
        /* A role may be told: it is not the secret. */
        ledger.secret = i == 1 ? "canary5ecret2" : canary;
        struct ledger_entry *entry = ledger_ask_and_wait(&ledger, LEDGER_ECHO(.timeout_ms = 500));
        assert_true(entry->code == EVPQ_ECONNECT);
        live_query(&ledger.live, &outcome, EVPQ_QUERY("SELECT 1", .timeout_ms = 500));
        assert_null(strstr(outcome.message, ledger.secret));
        outcome_clear(&outcome);
        evpq_pool_describe(ledger.live.pool, description, sizeof(description));
        assert_null(strstr(description, ledger.secret));
        ledger_check(&ledger);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_that_are_wrong_harm_only_their_statement),
        cmocka_unit_test(nothing_of_a_session_is_left_after_a_reset),
        cmocka_unit_test(without_a_reset_it_is_as_documented),
        cmocka_unit_test(floods_drown_nobody),
        cmocka_unit_test(a_token_with_any_change_is_refused),
        cmocka_unit_test(connection_strings_are_read_as_libpq_does_and_told_to_nobody),
        cmocka_unit_test(a_password_is_in_no_error),
    };
    return cmocka_run_group_tests_name("data", tests, NULL, NULL);
}
