/* SPDX-License-Identifier: MIT */
/* Pages on a real server: walks are compared with what ORDER BY gives, row for row. */
#include "page_step.h"
#include "support/pooler.h"

/*
 * Walks to the end. The column `ord` numbers the rows in the order that is wanted, from 1: each
 * must come once, in its place. Now and then goes on in a new pager from a token, with another page
 * size.
 */
static void check_walk(struct live *live, evpq_pager_options options, int64_t total, int resume)
{
    struct step step = {0};
    char token[sizeof(step.token)];
    int64_t seen = 0;
    evpq_pager *pager = opened(live, &options);
    for (int pages = 1;; pages++) {
        next_good(live, pager, &step);
        assert_in_range(step.rows, 0, options.page_size);
        for (uint32_t row = 0; row < step.rows; row++)
            if (int8_at(step.result, row, "ord") != ++seen)
                fail_msg("%s: row %lld is not in its place", options.order_by, (long long)seen);
        assert_int_equal(step.has_next, seen < total);
        if (!step.has_next)
            break;
        assert_int_equal(step.rows, options.page_size);
        if (resume && pages % resume == 0) {
            strcpy(token, step.token);
            evpq_pager_close(pager);
            options.after = token;
            options.page_size = options.page_size % 7 + 1;
            pager = opened(live, &options);
            assert_string_equal(evpq_pager_token(pager), token);
        }
    }
    assert_int_equal(seen, total);
    next_good(live, pager, &step);
    assert_int_equal(step.rows, 0);
    evpq_pager_close(pager);
    step_clear(&step);
}

/* ---- walks ---- */

static void a_million_rows_come_once_and_in_order(void **state)
{
    (void)state;
    struct live live;
    char sql[512];
    int total = live_scaled(1000000);
    snprintf(sql, sizeof(sql),
             "CREATE UNLOGGED TABLE evpq_page_million AS "
             "SELECT *, row_number() OVER (ORDER BY grp DESC, id) AS ord FROM (SELECT i AS id, "
             "hashint4(i) & 1023 AS grp, 'row ' || i AS label FROM generate_series(1, %d) AS i) s",
             total);
    aside_int8("DROP TABLE IF EXISTS evpq_page_million");
    aside_int8(sql);
    aside_int8("CREATE INDEX ON evpq_page_million (grp DESC, id)");
    aside_int8("ALTER TABLE evpq_page_million ADD PRIMARY KEY (id)");
    aside_int8("ANALYZE evpq_page_million");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    check_walk(&live,
               *EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM evpq_page_million",
                                   .order_by = "grp DESC, id", .page_size = 10000),
               total, 0);
    check_walk(&live,
               *EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_million", .order_by = "grp DESC, id",
                                   .page_size = 1000, .format = EVPQ_BINARY),
               total, 0);
    live_close(&live);
    aside_int8("DROP TABLE evpq_page_million");
}

struct random {
    unsigned short seed[3];
};

static int below(struct random *random, int limit)
{
    return (int)(erand48(random->seed) * limit);
}

/* A table with a random order in `ord`; returns the rows it has. */
static int make_random_table(struct random *random, char order_by[512])
{
    static const char *const expressions[] = {
        "(%s %% 5)::int4",
        "(%s %% 3)::int8 * 5000000000",
        "(%s %% 4)::text || E'\"\\'\\\\ \\n\u00e4'",
        "(%s %% 7) / 3.0::float8",
        "(ARRAY['NaN', 'Infinity', '-Infinity', '-1.5', '1e300'])[1 + %s %% 5]::float8",
        "(ARRAY['NaN', '0.1', '-1.50', '123456789012345678901234567890'])[1 + %s %% 4]::numeric",
        "'2024-02-29 23:59:59.999999+00'::timestamptz + (%s %% 6) * '1 microsecond'::interval",
        "(ARRAY['infinity', '-infinity', '2000-01-01'])[1 + %s %% 3]::timestamptz",
        "'2024-01-01'::date + %s %% 4",
        "(%s %% 2 = 0)",
        "md5((%s %% 4)::text)::uuid",
        "decode(md5((%s %% 3)::text), 'hex')",
        "(ARRAY['a', 'B', 'c'])[1 + %s %% 3]::char(4)",
    };
    static const char *const names[] = {"a", "\"B\"", "\"we \"\"ird\"", "select_", "\"select\""};
    static const char *const directions[] = {"", " ASC", " DESC"};
    static const char *const placements[] = {"", " NULLS FIRST", " NULLS LAST"};

    char columns[4096] = "i AS id", sql[6000];
    order_by[0] = '\0';
    int count = 1 + below(random, 5);
    for (int i = 0; i <= count; i++) {
        strcat(order_by, i ? ", " : "");
        strcat(order_by, i < count ? names[i] : "id");
        strcat(order_by, directions[below(random, 3)]);
        strcat(order_by, placements[below(random, 3)]);
        if (i == count)
            break;
        char hash[64], value[256];
        snprintf(hash, sizeof(hash), "(hashint4(i + %d) & 65535)", below(random, 1000000));
        size_t kinds = sizeof(expressions) / sizeof(*expressions);
        snprintf(value, sizeof(value), expressions[below(random, (int)kinds)], hash);
        snprintf(columns + strlen(columns), sizeof(columns) - strlen(columns),
                 ", CASE WHEN %s %% 100 >= %d THEN %s END AS %s", hash, below(random, 3) * 30,
                 value, names[i]);
    }
    int rows = below(random, 150);
    aside_int8("DROP TABLE IF EXISTS evpq_page_random");
    snprintf(sql, sizeof(sql),
             "CREATE UNLOGGED TABLE evpq_page_random AS SELECT *, row_number() OVER (ORDER BY %s) "
             "AS ord FROM (SELECT %s FROM generate_series(1, %d) AS i) AS s",
             order_by, columns, rows);
    aside_int8(sql);
    aside_int8("ALTER TABLE evpq_page_random ADD PRIMARY KEY (id)");
    return rows;
}

static void any_order_with_nulls_gives_what_order_by_gives(void **state)
{
    (void)state;
    struct live live;
    struct random random = {{20, 24, 11}};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    for (int round = 0; round < live_scaled(60); round++) {
        char order_by[512];
        int rows = make_random_table(&random, order_by);
        check_walk(
            &live,
            *EVPQ_PAGER_OPTIONS(.sql = "SELECT *, $1::text AS p FROM evpq_page_random -- all of it",
                                EVPQ_PARAMS(evpq_text("param")), .order_by = order_by,
                                .page_size = (uint32_t)(1 + below(&random, 20)),
                                .format = below(&random, 2) ? EVPQ_TEXT : EVPQ_BINARY),
            rows, below(&random, 4));
    }
    live_close(&live);
    aside_int8("DROP TABLE evpq_page_random");
}

static void offset_pages_walk_and_resume_too(void **state)
{
    (void)state;
    struct live live;
    make_rows(100);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (uint32_t page_size = 1; page_size < 130; page_size += 9)
        check_walk(&live,
                   *EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM evpq_page_rows WHERE id > $1 ORDER BY "
                                              "id;  ; ",
                                       EVPQ_PARAMS(evpq_int8(0)), .page_size = page_size),
                   100, 3);
    live_close(&live);
}

/* ---- ends ---- */

static void an_empty_result_is_an_empty_page_without_token(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(0);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id"));
    assert_int_equal(evpq_pager_mode(pager), EVPQ_PAGES_KEYSET);
    assert_null(evpq_pager_token(pager));
    next_good(&live, pager, &step);
    assert_int_equal(step.rows, 0);
    assert_false(step.has_next);
    assert_string_equal(step.token, "");
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_full_last_page_has_no_next_and_later_rows_still_come(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    char token[sizeof(step.token)];
    make_rows(5);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(
        &live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 5));
    next_good(&live, pager, &step);
    assert_int_equal(step.rows, 5);
    assert_false(step.has_next);
    strcpy(token, step.token);
    assert_string_not_equal(token, "");

    next_good(&live, pager, &step);
    assert_int_equal(step.rows, 0);
    assert_string_equal(step.token, token);

    aside_int8("INSERT INTO evpq_page_rows VALUES (6, 6, 0)");
    next_good(&live, pager, &step);
    assert_int_equal(step.rows, 1);
    assert_int_equal(int8_at(step.result, 0, "id"), 6);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

/* ---- tokens ---- */

static void a_token_of_another_walk_or_a_broken_one_is_refused(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM evpq_page_rows WHERE id > $1",
                            EVPQ_PARAMS(evpq_int8(0)), .order_by = "tie, id", .page_size = 3);
    evpq_pager *pager = opened(&live, &options);
    next_good(&live, pager, &step);
    evpq_pager_close(pager);

    evpq_value other = evpq_int8(1);
    evpq_pager_options others[] = {options, options, options, options, options};
    others[0].sql = "SELECT id, ord, tie FROM evpq_page_rows WHERE id > $1";
    others[1].params = &other;
    others[2].order_by = "tie DESC, id";
    others[3].order_by = NULL;
    for (int i = 0; i < 4; i++)
        others[i].after = step.token;
    char broken[sizeof(step.token)];
    strcpy(broken, step.token);
    broken[strlen(broken) / 2] ^= 1;
    others[4].after = broken;
    for (int i = 0; i < 5; i++) {
        pager = NULL;
        assert_int_equal(evpq_pager_open(&pager, live.pool, &others[i]), EVPQ_EINVALID);
        assert_null(pager);
        assert_string_equal(evpq_pager_options_problem(&others[i]), EVPQ_TOKEN_PROBLEM);
    }
    step_clear(&step);
    live_close(&live);
}

static void order_columns_too_long_for_a_token_are_walked_without(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(
        &live,
        EVPQ_PAGER_OPTIONS(.sql = "SELECT repeat('x', 5000 * (i % 2)) || i AS a, i::int8 AS id "
                                  "FROM generate_series(1, 3) AS i",
                           .order_by = "id, a", .page_size = 1, .assume_unique = true));
    for (int64_t id = 1; id <= 3; id++) {
        next_good(&live, pager, &step);
        assert_int_equal(int8_at(step.result, 0, "id"), id);
        assert_int_equal(step.token[0] == '\0', id % 2);
        assert_int_equal(evpq_pager_token(pager) == NULL, id % 2);
    }
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_rows_come_once_and_in_order),
        cmocka_unit_test(any_order_with_nulls_gives_what_order_by_gives),
        cmocka_unit_test(offset_pages_walk_and_resume_too),
        cmocka_unit_test(an_empty_result_is_an_empty_page_without_token),
        cmocka_unit_test(a_full_last_page_has_no_next_and_later_rows_still_come),
        cmocka_unit_test(a_token_of_another_walk_or_a_broken_one_is_refused),
        cmocka_unit_test(order_columns_too_long_for_a_token_are_walked_without),
    };
    return pooler_run_group_tests_name("page", tests, NULL, drop_rows);
}
