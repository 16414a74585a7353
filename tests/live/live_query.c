/* SPDX-License-Identifier: MIT */
/* Statements, parameters and readers against a real server. */
#include "support/live.h"
#include "support/pooler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the server makes of a parameter, as text. */
static void server_sees(struct live *live, const char *sql, evpq_value value, const char *wanted)
{
    struct outcome outcome;
    evpq_query query = {.size = sizeof(query), .sql = sql, .params = &value, .params_count = 1};
    live_query(live, &outcome, &query);
    if (outcome.code != EVPQ_OK)
        fail_msg("%s: %s", sql, outcome.message);
    evpq_text_view text = {0};
    int code = evpq_result_text(outcome.result, 0, 0, &text);
    if (!wanted) {
        assert_int_equal(code, EVPQ_NULL);
    } else {
        assert_int_equal(code, EVPQ_OK);
        assert_string_equal(text.data, wanted);
    }
    outcome_clear(&outcome);
}

static void parameters_mean_to_the_server_what_they_say(void **state)
{
    (void)state;
    static const unsigned char uuid[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                           0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    static const int64_t numbers[] = {1, -2, INT64_MAX};
    static const char *const texts[] = {"a,b", NULL, "", "\"q\"", "ü"};
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    const char *plain = "SELECT $1::text";
    server_sees(&live, "SELECT ($1::bool)::text", evpq_bool(true), "true");
    server_sees(&live, "SELECT ($1::int2)::text", evpq_int2(INT16_MIN), "-32768");
    server_sees(&live, "SELECT ($1::int4)::text", evpq_int4(INT32_MIN), "-2147483648");
    server_sees(&live, "SELECT ($1::int8)::text", evpq_int8(INT64_MIN), "-9223372036854775808");
    server_sees(&live, "SELECT ($1::float4)::text", evpq_float4(0.1F), "0.1");
    server_sees(&live, "SELECT ($1::float8)::text", evpq_float8(0.1), "0.1");
    server_sees(&live, "SELECT ($1::float8)::text", evpq_float8(-INFINITY), "-Infinity");
    server_sees(&live, plain, evpq_text("grün\n'; DROP TABLE x; --"), "grün\n'; DROP TABLE x; --");
    server_sees(&live, plain, evpq_text(""), "");
    server_sees(&live, plain, evpq_text(NULL), NULL);
    server_sees(&live, plain, evpq_null(), NULL);
    server_sees(&live, plain, evpq_text_n("abcdef", 3), "abc");
    server_sees(&live, "SELECT encode($1, 'hex')", evpq_bytea("\0\1\xff", 3), "0001ff");
    server_sees(&live, "SELECT ($1::uuid)::text", evpq_uuid(uuid),
                "00112233-4455-6677-8899-aabbccddeeff");
    server_sees(&live, "SELECT ($1 AT TIME ZONE 'UTC')::text", evpq_timestamptz(1700000000123456),
                "2023-11-14 22:13:20.123456");
    server_sees(&live, "SELECT ($1::timestamptz)::text",
                evpq_timestamptz(EVPQ_TIMESTAMP_NEG_INFINITY), "-infinity");
    server_sees(&live, "SELECT ($1::date)::text", evpq_date(-719529), "0002-12-31 BC");
    server_sees(&live, "SELECT ($1::numeric)::text", evpq_numeric("-12.5000"), "-12.5000");
    server_sees(&live, "SELECT ($1::jsonb)->>'a'", evpq_jsonb("{\"a\": 1}"), "1");
    server_sees(&live, "SELECT ($1::json)->>'a'", evpq_json("{\"a\": 2}"), "2");
    server_sees(&live, "SELECT ($1::inet)::text", evpq_untyped("::1"), "::1/128");
    server_sees(&live, "SELECT ($1::int8[])::text", evpq_int8_array(numbers, 3),
                "{1,-2,9223372036854775807}");
    server_sees(&live, "SELECT ($1::text[])::text", evpq_text_array(texts, 5),
                "{\"a,b\",NULL,\"\",\"\\\"q\\\"\",ü}");
    server_sees(&live, "SELECT ($1::int8[])::text", evpq_int8_array(NULL, 0), "{}");
    live_close(&live);
}

static void readers_read_what_the_server_has(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &o,
               EVPQ_QUERY("SELECT true, 7::int2, -7::int4, 7::int8, 1.5::float4, 'NaN'::float8, "
                          "'x'::varchar, '\\x00ff'::bytea, "
                          "'00112233-4455-6677-8899-aabbccddeeff'::uuid, "
                          "'2000-01-01 00:00:00.000001+00'::timestamptz, '1970-01-02'::date, "
                          "-123456789.000100::numeric, '{\"a\": [1]}'::jsonb, "
                          "'{1,2,3}'::int8[], '{a,NULL}'::text[], NULL::int4, "
                          "'16/B374D848'::pg_lsn"));
    assert_int_equal(o.code, EVPQ_OK);
    bool b;
    int16_t i2;
    int32_t i4;
    int64_t i8, items[3];
    float f4;
    double f8;
    evpq_text_view text, texts[2];
    const unsigned char *bytes;
    unsigned char uuid[16];
    char numeric[40];
    size_t length;
    assert_int_equal(evpq_result_bool(o.result, 0, 0, &b), EVPQ_OK);
    assert_true(b);
    assert_int_equal(evpq_result_int2(o.result, 0, 1, &i2), EVPQ_OK);
    assert_int_equal(i2, 7);
    assert_int_equal(evpq_result_int4(o.result, 0, 2, &i4), EVPQ_OK);
    assert_int_equal(i4, -7);
    assert_int_equal(evpq_result_int8(o.result, 0, 2, &i8), EVPQ_OK);
    assert_int_equal(i8, -7);
    assert_int_equal(evpq_result_float4(o.result, 0, 4, &f4), EVPQ_OK);
    assert_true(f4 == 1.5F);
    assert_int_equal(evpq_result_float8(o.result, 0, 5, &f8), EVPQ_OK);
    assert_true(isnan(f8));
    assert_int_equal(evpq_result_text(o.result, 0, 6, &text), EVPQ_OK);
    assert_string_equal(text.data, "x");
    assert_int_equal(evpq_result_bytea(o.result, 0, 7, &bytes, &length), EVPQ_OK);
    assert_int_equal(length, 2);
    assert_int_equal(bytes[1], 0xff);
    assert_int_equal(evpq_result_uuid(o.result, 0, 8, uuid), EVPQ_OK);
    assert_int_equal(uuid[15], 0xff);
    assert_int_equal(evpq_result_timestamptz(o.result, 0, 9, &i8), EVPQ_OK);
    assert_int_equal(i8, 946684800000001);
    assert_int_equal(evpq_result_date(o.result, 0, 10, &i4), EVPQ_OK);
    assert_int_equal(i4, 1);
    assert_int_equal(evpq_result_numeric(o.result, 0, 11, numeric, sizeof(numeric), &length),
                     EVPQ_OK);
    assert_string_equal(numeric, "-123456789.000100");
    assert_int_equal(evpq_result_text(o.result, 0, 12, &text), EVPQ_OK);
    assert_string_equal(text.data, "{\"a\": [1]}");
    assert_int_equal(evpq_result_int8_array(o.result, 0, 13, items, 3, &length), EVPQ_OK);
    assert_int_equal(length, 3);
    assert_int_equal(items[2], 3);
    assert_int_equal(evpq_result_text_array(o.result, 0, 14, texts, 2, &length), EVPQ_OK);
    assert_int_equal(length, 2);
    assert_null(texts[1].data);
    assert_int_equal(evpq_result_int4(o.result, 0, 15, &i4), EVPQ_NULL);
    assert_true(evpq_result_is_null(o.result, 0, 15));
    uint64_t lsn;
    assert_int_equal(evpq_result_lsn(o.result, 0, 16, &lsn), EVPQ_OK);
    assert_true(lsn == UINT64_C(0x16B374D848));

    /* The wrong type, a value that does not fit, a row and a column that are not there. */
    assert_int_equal(evpq_result_text(o.result, 0, 3, &text), EVPQ_ETYPE);
    assert_int_equal(evpq_result_int8(o.result, 0, 6, &i8), EVPQ_ETYPE);
    assert_int_equal(evpq_result_int8(o.result, 1, 3, &i8), EVPQ_EINVALID);
    assert_int_equal(evpq_result_int8(o.result, 0, 17, &i8), EVPQ_EINVALID);
    assert_int_equal(evpq_result_int8(o.result, 0, 3, NULL), EVPQ_EINVALID);
    outcome_clear(&o);
    live_close(&live);
}

static void a_text_result_reads_as_text_of_every_type(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    evpq_text_view text;
    int64_t number;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &o,
               EVPQ_QUERY("SELECT 42, '10.0.0.0/8'::cidr, ROW(1, 'x')", .format = EVPQ_TEXT));
    static const char *const wanted[] = {"42", "10.0.0.0/8", "(1,x)"};
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(evpq_result_text(o.result, 0, i, &text), EVPQ_OK);
        assert_string_equal(text.data, wanted[i]);
    }
    /* A typed reader does not guess what a text means. */
    assert_int_equal(evpq_result_int8(o.result, 0, 0, &number), EVPQ_ETYPE);
    outcome_clear(&o);
    live_close(&live);
}

static void statements_of_every_kind_have_their_result(void **state)
{
    (void)state;
    struct live live;
    struct outcome o, lease;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    static const struct {
        const char *sql;
        uint32_t rows, columns;
        uint64_t affected;
    } cases[] = {
        {"CREATE TEMP TABLE kinds (id int PRIMARY KEY, t text)", 0, 0, 0},
        {"INSERT INTO kinds SELECT i, 'x' FROM generate_series(1, 100) i", 0, 0, 100},
        {"UPDATE kinds SET t = 'y' WHERE id <= 10", 0, 0, 10},
        {"DELETE FROM kinds WHERE id > 90 RETURNING id", 10, 1, 10},
        {"SELECT * FROM kinds WHERE false", 0, 2, 0},
        {"SELECT FROM kinds LIMIT 3", 3, 0, 3},
        {"-- only a comment", 0, 0, 0},
        {"VACUUM kinds", 0, 0, 0},
        {"DO $$ BEGIN PERFORM 1; END $$", 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        live_lease_query(&live, &o, lease.lease, EVPQ_QUERY(cases[i].sql));
        if (o.code != EVPQ_OK)
            fail_msg("%s: %s", cases[i].sql, o.message);
        assert_int_equal(evpq_result_rows(o.result), cases[i].rows);
        assert_int_equal(evpq_result_columns(o.result), cases[i].columns);
        assert_int_equal(evpq_result_affected(o.result), cases[i].affected);
        outcome_clear(&o);
    }
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void what_no_query_can_be_is_refused_before_the_server_sees_it(void **state)
{
    (void)state;
    static evpq_value many[65536];
    struct live live;
    struct outcome never = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < 65536; i++)
        many[i] = evpq_int4(1);
    const evpq_query cases[] = {
        {.size = sizeof(evpq_query), .sql = NULL},
        {.size = sizeof(evpq_query), .sql = ""},
        {.size = 0, .sql = "SELECT 1"},
        {.size = sizeof(evpq_query), .sql = "SELECT 1\0, 2", .sql_length = 12},
        {.size = sizeof(evpq_query), .sql = "SELECT 1", .params = many, .params_count = 65536},
        {.size = sizeof(evpq_query), .sql = "SELECT $1", .params = NULL, .params_count = 1},
        {.size = sizeof(evpq_query), .sql = "SELECT 1", .format = (evpq_format)7},
        {.size = sizeof(evpq_query),
         .sql = "SELECT $1",
         .params = (evpq_value[]){evpq_text_n("a\0b", 3)},
         .params_count = 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_non_null(evpq_query_problem(&cases[i]));
        assert_int_equal(evpq_pool_query(NULL, live.pool, &cases[i], outcome_result, &never),
                         EVPQ_EINVALID);
    }
    assert_int_equal(evpq_pool_query(NULL, live.pool, EVPQ_QUERY("SELECT 1"), NULL, NULL),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_pool_query(NULL, NULL, EVPQ_QUERY("SELECT 1"), outcome_result, &never),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_lease_query(NULL, NULL, EVPQ_QUERY("SELECT 1"), outcome_result, &never),
                     EVPQ_EINVALID);
    assert_int_equal(evpq_pool_acquire(NULL, live.pool, NULL, NULL, NULL), EVPQ_EINVALID);
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 1::int8")), 1);
    assert_int_equal(never.calls, 0);
    live_close(&live);
}

static void most_parameters_there_can_be(void **state)
{
    (void)state;
    enum { N = 65535 };
    struct live live;
    evpq_value *values = malloc(N * sizeof(*values));
    char *sql = malloc(N * 8 + 100), *end = sql;
    end += sprintf(end, "SELECT (0");
    for (int i = 0; i < N; i++) {
        values[i] = evpq_int4(1);
        /* Adding up all of them would be too deep for the server; naming the last is enough. */
        if (i == N - 1)
            end += sprintf(end, " + $%d", i + 1);
    }
    sprintf(end, ")::int8");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_query query = {.size = sizeof(query), .sql = sql, .params = values, .params_count = N};
    assert_int_equal(live_int8(&live, &query), 1);
    free(values);
    free(sql);
    live_close(&live);
}

static void a_server_error_has_all_its_fields(void **state)
{
    (void)state;
    struct live live;
    struct outcome lease, o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &lease);
    live_lease_query(&live, &o, lease.lease, EVPQ_QUERY("CREATE TEMP TABLE u (id int UNIQUE)"));
    outcome_clear(&o);
    live_lease_query(&live, &o, lease.lease, EVPQ_QUERY("INSERT INTO u VALUES (1), (1)"));
    assert_int_equal(o.code, EVPQ_ESERVER);
    assert_string_equal(o.sqlstate, "23505");
    assert_int_equal(o.fate, EVPQ_ROLLED_BACK);
    assert_non_null(strstr(o.message, "u_id_key"));
    evpq_lease_release(lease.lease);
    live_close(&live);
}

static void a_big_statement_goes_out_while_the_socket_is_full(void **state)
{
    (void)state;
    /* Far more than the socket takes at once, with an answer as long. */
    size_t size = 30 * 1000 * 1000;
    char *text = malloc(size + 1);
    memset(text, 'x', size);
    text[size] = '\0';
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &o, EVPQ_QUERY("SELECT $1::text", EVPQ_PARAMS(evpq_text_n(text, size))));
    assert_int_equal(o.code, EVPQ_OK);
    evpq_text_view back;
    assert_int_equal(evpq_result_text(o.result, 0, 0, &back), EVPQ_OK);
    assert_int_equal(back.length, size);
    outcome_clear(&o);
    free(text);
    live_close(&live);
}

static void a_result_may_be_kept_beyond_its_pool(void **state)
{
    (void)state;
    struct live live;
    struct outcome o;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_query(&live, &o, EVPQ_QUERY("SELECT 'kept'"));
    live_close(&live);
    evpq_text_view text;
    assert_int_equal(evpq_result_text(o.result, 0, 0, &text), EVPQ_OK);
    assert_string_equal(text.data, "kept");
    outcome_clear(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_mean_to_the_server_what_they_say),
        cmocka_unit_test(readers_read_what_the_server_has),
        cmocka_unit_test(a_text_result_reads_as_text_of_every_type),
        cmocka_unit_test(statements_of_every_kind_have_their_result),
        cmocka_unit_test(what_no_query_can_be_is_refused_before_the_server_sees_it),
        cmocka_unit_test(most_parameters_there_can_be),
        cmocka_unit_test(a_server_error_has_all_its_fields),
        cmocka_unit_test(a_big_statement_goes_out_while_the_socket_is_full),
        cmocka_unit_test(a_result_may_be_kept_beyond_its_pool),
    };
    return pooler_run_group_tests_name("query", tests, NULL, NULL);
}
