/* SPDX-License-Identifier: MIT */
/* Bad input, tables that change between two pages, tokens that are not of this walk: each is right,
 * or a clear error. */
#include <time.h>

#include "page_oracle.h"
#include "support/pooler.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int make_bad(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_bad");
    oracle_run(
        "CREATE UNLOGGED TABLE evpq_bad AS SELECT i AS id, i % 3 AS n, 'row ' || i AS t, "
        "json '1' AS j, point (i, 1) AS p FROM generate_series(1, 9) AS i");
    oracle_run("ALTER TABLE evpq_bad ADD PRIMARY KEY (id)");
    return 0;
}

static int drop_bad(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_bad");
    oracle_end();
    return 0;
}

/* ---- statements and orders ---- */

/* What the first page says; rows: when it is EVPQ_OK. */
static const struct {
    const char *sql, *order_by;
    evpq_code code;
    const char *sqlstate;
    uint32_t rows;
} cases[] = {
    {"TABLE evpq_bad", "nowhere", EVPQ_ESERVER, "42703", 0},
    {"TABLE evpq_bad", "nowhere + 1", EVPQ_ESERVER, "42703", 0},
    {"TABLE evpq_bad", "nothing(id)", EVPQ_ESERVER, "42883", 0},
    {"TABLE evpq_bad", "id COLLATE \"C\"", EVPQ_ESERVER, "42804", 0},
    {"TABLE evpq_bad", "t COLLATE nowhere, id", EVPQ_ESERVER, "42704", 0},
    {"TABLE evpq_bad", "j, id", EVPQ_ESERVER, "42883", 0},
    {"TABLE evpq_bad", "p, id", EVPQ_ESERVER, "42883", 0},
    {"TABLE evpq_nowhere", "id", EVPQ_ESERVER, "42P01", 0},
    {"SELECT id, id AS id FROM evpq_bad", "id", EVPQ_ESERVER, "42702", 0},
    {"SELECT id, n, n FROM evpq_bad", "id", EVPQ_OK, "", 4},
    {"INSERT INTO evpq_bad (id) VALUES (100)", "id", EVPQ_ESERVER, NULL, 0},
    {"UPDATE evpq_bad SET n = 7 RETURNING id", "id", EVPQ_ESERVER, NULL, 0},
    {"WITH gone AS (DELETE FROM evpq_bad RETURNING id) TABLE gone", "id", EVPQ_ESERVER, NULL, 0},
    {"SELECT * INTO evpq_gone FROM evpq_bad", "id", EVPQ_ESERVER, NULL, 0},
    {"VACUUM evpq_bad", "id", EVPQ_ESERVER, NULL, 0},
    {"SHOW all", "name", EVPQ_ESERVER, NULL, 0},
    {"SELECT 1 AS id; SELECT 2 AS id", "id", EVPQ_ESERVER, "42601", 0},
    {"SELECT 1 AS id) AS a; DROP TABLE evpq_bad; --", "id", EVPQ_ESERVER, "42601", 0},
    {"SELECT 1 AS id /* open", "id", EVPQ_ESERVER, "42601", 0},
    {"SELECT 'open AS id", "id", EVPQ_ESERVER, "42601", 0},
    {"SELECT $1::int AS id", "id", EVPQ_ESERVER, NULL, 0},
    {"SELECT", "id", EVPQ_ESERVER, "42703", 0},
    {"SELECT id / 0 AS id FROM evpq_bad", "id", EVPQ_ESERVER, "22012", 0},
    {"TABLE evpq_bad;", "id", EVPQ_OK, "", 4},
    {"TABLE evpq_bad ; ;", "id", EVPQ_OK, "", 4},
    {"TABLE evpq_bad -- all", "id", EVPQ_OK, "", 4},
    {"TABLE evpq_bad /* ; */", "id", EVPQ_OK, "", 4},
    {"TABLE evpq_bad; -- done", "id", EVPQ_OK, "", 4},
    {"TABLE evpq_bad ;/* d */ ;", NULL, EVPQ_OK, "", 4},
    {"SELECT * FROM evpq_bad ORDER BY t DESC LIMIT 3", "id", EVPQ_OK, "", 3},
    {"SELECT FROM evpq_bad", NULL, EVPQ_OK, "", 4},
    {"TABLE evpq_bad", "ROW(n, id)", EVPQ_EINVALID, "", 0},
    {"TABLE evpq_bad", "(n, id) DESC", EVPQ_EINVALID, "", 0},
    {"SELECT id, ARRAY[ROW(n, id)] AS a FROM evpq_bad", "a", EVPQ_EINVALID, "", 0},
    {"TABLE evpq_bad", "random(), id", EVPQ_EINVALID, "", 0},
    {"SELECT id, random() AS r FROM evpq_bad", "r, id", EVPQ_EINVALID, "", 0},
    {"TABLE evpq_bad", "now() - '2020-01-01', id", EVPQ_EINVALID, "", 0},
};

/* With the catalogs asked, and without: never rows that are not right, and nothing is written. */
static void check_case(struct live *live, size_t i, bool assume_unique)
{
    struct step step = {0};
    evpq_pager *pager = opened(
        live, EVPQ_PAGER_OPTIONS(.sql = cases[i].sql, .order_by = cases[i].order_by, .page_size = 4,
                                 .assume_unique = assume_unique && cases[i].order_by));
    next(live, pager, &step);
    bool refused = !assume_unique && step.code == EVPQ_EINVALID && step.message[0];
    bool same = step.code == cases[i].code && step.rows == cases[i].rows &&
                (!cases[i].sqlstate || strcmp(step.sqlstate, cases[i].sqlstate) == 0);
    if (refused ? cases[i].code == EVPQ_OK && strstr(step.message, "total") == NULL : !same)
        fail_msg("%s ORDER BY %s: %s %s %s, %u rows", cases[i].sql,
                 cases[i].order_by ? cases[i].order_by : "nothing", evpq_code_name(step.code),
                 step.sqlstate, step.message, step.rows);
    if (step.code != EVPQ_OK)
        assert_null(evpq_pager_token(pager));
    evpq_pager_close(pager);
    step_clear(&step);
}

static void what_cannot_be_paged_says_why(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int assume = 0; assume < 2; assume++)
            check_case(&live, i, assume);
    assert_int_equal(oracle_run("SELECT count(*) FROM evpq_bad"), 9);
    assert_int_equal(oracle_run("SELECT count(*) FROM evpq_bad WHERE n = 7"), 0);
    assert_int_equal(oracle_run("SELECT count(*) FROM pg_class WHERE relname = 'evpq_gone'"), 0);
    live_close(&live);
}

/* ---- a table that changes between two pages ---- */

static const struct {
    const char *change, *back;
    evpq_code code;
    const char *sqlstate;
} changes[] = {
    {"ADD COLUMN more int DEFAULT 5", "DROP COLUMN more", EVPQ_OK, ""},
    {"DROP COLUMN t", "ADD COLUMN t text", EVPQ_OK, ""},
    {"ALTER COLUMN t TYPE varchar(20)", "ALTER COLUMN t TYPE text", EVPQ_OK, ""},
    {"ALTER COLUMN id TYPE int8", "ALTER COLUMN id TYPE int4", EVPQ_OK, ""},
    {"ALTER COLUMN n TYPE numeric", "ALTER COLUMN n TYPE int4", EVPQ_OK, ""},
    {"ALTER COLUMN n TYPE text", "ALTER COLUMN n TYPE int4 USING n::int4", EVPQ_ESERVER, "42883"},
    {"RENAME COLUMN n TO m", "RENAME COLUMN m TO n", EVPQ_ESERVER, "42703"},
    {"DROP COLUMN n", "ADD COLUMN n int", EVPQ_ESERVER, "42703"},
    {"RENAME TO evpq_gone", NULL, EVPQ_ESERVER, "42P01"},
};

static void check_change(struct live *live, size_t i, size_t prefetch_bytes)
{
    struct step step = {0};
    char sql[256];
    int64_t ids[16];
    unsigned count = 0;
    make_bad(NULL);
    PGresult *expected = in_order("TABLE evpq_bad", "n DESC, id");
    evpq_pager *pager =
        opened(live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_bad", .order_by = "n DESC, id",
                                        .page_size = 2, .prefetch_bytes = prefetch_bytes));
    bool failed = false;
    do {
        next(live, pager, &step);
        if (step.code != EVPQ_OK) {
            if (failed || step.code != changes[i].code ||
                strcmp(step.sqlstate, changes[i].sqlstate) != 0)
                fail_msg("%s: %s %s %s", changes[i].change, evpq_code_name(step.code),
                         step.sqlstate, step.message);
            assert_non_null(strstr(step.message, "has been altered: "));
            failed = true;
            if (changes[i].back)
                break;
            oracle_run("ALTER TABLE evpq_gone RENAME TO evpq_bad");
            step.has_next = true;
            continue;
        }
        for (uint32_t row = 0; row < step.rows && count < COUNT(ids); row++)
            ids[count++] = int8_at(step.result, row, "id");
        if (count == 2) {
            live_run(live, 0.02); /* what is fetched ahead is of the table as it was */
            snprintf(sql, sizeof(sql), "ALTER TABLE evpq_bad %s", changes[i].change);
            oracle_run(sql);
        }
    } while (step.has_next);
    assert_int_equal(failed, changes[i].code != EVPQ_OK);
    for (unsigned row = 0; row < count; row++)
        assert_int_equal(ids[row], strtoll(PQgetvalue(expected, (int)row, 0), NULL, 10));
    if (!failed || !changes[i].back)
        assert_int_equal(count, 9);
    PQclear(expected);
    evpq_pager_close(pager);
    step_clear(&step);
}

static void a_table_altered_between_two_pages_is_paged_on_or_says_why(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < COUNT(changes); i++)
        for (size_t ahead = 0; ahead < 2; ahead++)
            check_change(&live, i, ahead << 20);
    live_close(&live);
}

/* ---- a collation that changes ---- */

/* Texts that "C" and a language put in other orders; the collation is the other one from page to
 * page. */
static const char *const words[] = {"a", "B", "c", "D", "e", "F", "g", "H"};

static void make_words(void)
{
    oracle_run("DROP TABLE IF EXISTS evpq_words");
    oracle_run("CREATE TABLE evpq_words (t text COLLATE \"C\" PRIMARY KEY)");
    oracle_run(
        "INSERT INTO evpq_words SELECT unnest(ARRAY['a', 'B', 'c', 'D', 'e', 'F', 'g', 'H'])");
}

static void compare_words_by(const char *collation)
{
    char sql[128];
    snprintf(sql, sizeof(sql), "ALTER TABLE evpq_words ALTER t TYPE text COLLATE \"%s\"",
             collation);
    oracle_run(sql);
}

static const char *const word_orders[] = {"t", "lower(t) DESC, t", "(t || 'x')", "t COLLATE \"C\""};

static void a_collation_altered_between_two_pages_loses_no_row(void **state)
{
    (void)state;
    struct live live;
    if (oracle_run("SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'") == 0)
        skip();
    for (size_t i = 0; i < COUNT(word_orders); i++) {
        struct step step = {0};
        unsigned seen = 0, rows = 0;
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
        make_words();
        evpq_pager *pager =
            opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_words", .order_by = word_orders[i],
                                             .page_size = 2, .assume_unique = true));
        do {
            next_good(&live, pager, &step);
            for (uint32_t row = 0; row < step.rows; row++, rows++) {
                evpq_text_view text;
                assert_int_equal(evpq_result_text(step.result, row, 0, &text), EVPQ_OK);
                for (size_t w = 0; w < COUNT(words); w++)
                    seen |= (unsigned)(strcmp(text.data, words[w]) == 0) << w;
            }
            compare_words_by(rows % 4 ? "und-x-icu" : "C");
        } while (step.has_next);
        if (seen != (1 << COUNT(words)) - 1 || rows != COUNT(words))
            fail_msg("%s: %u rows, %x", word_orders[i], rows, seen);
        evpq_pager_close(pager);
        step_clear(&step);
        live_close(&live);
    }
}

static void next_resumed(struct live *live, const char *order, const char *after, const char *until,
                         struct step *step)
{
    evpq_pager *pager = opened(
        live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_words", .order_by = order, .page_size = 2,
                                 .assume_unique = true, .after = after, .until = until));
    next(live, pager, step);
    evpq_pager_close(pager);
}

static void a_token_is_bound_to_how_its_columns_are_compared(void **state)
{
    (void)state;
    struct live live;
    if (oracle_run("SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'") == 0)
        skip();
    static const char *const alters[] = {"ALTER t TYPE text COLLATE \"und-x-icu\"",
                                         "ALTER t TYPE varchar(9) COLLATE \"C\"", NULL};
    for (size_t i = 0; i < COUNT(word_orders); i++) {
        for (size_t change = 0; change < COUNT(alters); change++) {
            struct step step = {0};
            char token[4097], sql[128];
            make_words();
            live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
            next_resumed(&live, word_orders[i], NULL, NULL, &step);
            strcpy(token, step.token);
            snprintf(sql, sizeof(sql), "ALTER TABLE evpq_words %s", alters[change]);
            if (alters[change])
                oracle_run(sql);
            live_close(&live);
            live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1)); /* as another process */
            bool valid = !alters[change] || (change == 0 && i == 3) || (change == 1 && i == 2);
            for (int until = 0; until < 2; until++) {
                next_resumed(&live, word_orders[i], until ? NULL : token, until ? token : NULL,
                             &step);
                if (step.code != (valid ? EVPQ_OK : EVPQ_EINVALID) ||
                    (!valid && strcmp(step.message, EVPQ_TOKEN_PROBLEM) != 0))
                    fail_msg("%s, %s: %s %s", word_orders[i], sql, evpq_code_name(step.code),
                             step.message);
            }
            step_clear(&step);
            live_close(&live);
        }
    }
    oracle_run("DROP TABLE evpq_words");
}

/* ---- tokens ---- */

static void refused(evpq_pager_options options, const char *how)
{
    const char *problem = evpq_pager_options_problem(&options);
    if (!problem || strcmp(problem, EVPQ_TOKEN_PROBLEM) != 0)
        fail_msg("%s: %s", how, problem ? problem : "taken");
}

/* The token with one bit of character i changed. */
static void refused_flipped(evpq_pager_options options, const char *good)
{
    char token[4097];
    size_t length = strlen(good);
    for (size_t i = 0; i < length; i++)
        for (int bit = 0; bit < 8; bit++) {
            strcpy(token, good);
            token[i] = (char)(token[i] ^ 1 << bit);
            evpq_pager_options with = options;
            if (options.until)
                with.until = token;
            else
                with.after = token;
            refused(with, "a bit was changed");
        }
    for (size_t i = 0; i < length; i++) {
        snprintf(token, sizeof(token), "%.*s", (int)i, good);
        options.after = token;
        options.until = NULL;
        refused(options, "it was cut off");
    }
}

static void a_token_of_another_walk_has_one_text(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    static char good[4097];
    static const evpq_secret secrets[] = {{.id = 1, .bytes = "the first of them", .length = 17},
                                          {.id = 2, .bytes = "the second of them", .length = 18},
                                          {.id = 1, .bytes = "another of that id", .length = 18}};
    evpq_value params[] = {evpq_int8(0), evpq_text("x")};
    evpq_value other_params[] = {evpq_int8(1), evpq_text("x")};
    evpq_value null_params[] = {evpq_int8(0), evpq_null()};
    evpq_pager_options walk =
        *EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM evpq_bad WHERE id > $1 AND t <> $2",
                            .order_by = "n DESC, id", .page_size = 2, .params = params,
                            .params_count = 2, .secrets = secrets, .secrets_count = 1,
                            .token_ttl_s = 2);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(&live, &walk);
    next_good(&live, pager, &step);
    strcpy(good, step.token);
    time_t made = time(NULL);
    evpq_pager_options with = walk;
    with.after = good;
    with.page_size = 7;
    with.format = EVPQ_BINARY;
    assert_null(evpq_pager_options_problem(&with));
    with.until = good;
    assert_null(evpq_pager_options_problem(&with));
    with.after = NULL;
    refused_flipped(with, good);
    with.until = NULL;
    refused_flipped(with, good);

    with = walk;
    with.after = good;
#define REFUSED(...)                                                                               \
    do {                                                                                           \
        evpq_pager_options other = with;                                                           \
        __VA_ARGS__;                                                                               \
        refused(other, #__VA_ARGS__);                                                              \
    } while (0)
    REFUSED(other.sql = "SELECT * FROM evpq_bad WHERE id > $1 AND t <> $2 OR true");
    REFUSED(other.params = other_params);
    REFUSED(other.params = null_params);
    REFUSED(other.params_count = 1);
    REFUSED(other.order_by = "n, id");
    REFUSED(other.order_by = "n DESC NULLS LAST, id");
    REFUSED(other.order_by = "n DESC, id DESC");
    REFUSED(other.order_by = "n DESC, t COLLATE \"C\", id");
    REFUSED(other.order_by = "id, n DESC");
    REFUSED(other.order_by = NULL);
    REFUSED(other.mode = EVPQ_PAGES_OFFSET);
    REFUSED(other.after = NULL, other.before = good);
    REFUSED(other.secrets = &secrets[1]);
    REFUSED(other.secrets = &secrets[2]);
    REFUSED(other.secrets = NULL, other.secrets_count = 0);
    REFUSED(other.after = step.token_before);
    with.secrets_count = 2; /* rotated: a new one behind it, and in front of it */
    assert_null(evpq_pager_options_problem(&with));
    with.secrets = (const evpq_secret[]){secrets[1], secrets[0]};
    assert_null(evpq_pager_options_problem(&with));
    with = walk;
    with.after = good;
    while (time(NULL) < made + 3)
        live_run(&live, 0.2);
    refused(with, "it expired");
    with.token_ttl_s = 0;
    refused(with, "it expired, whatever the pager says");
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_cannot_be_paged_says_why, make_bad),
        cmocka_unit_test(a_table_altered_between_two_pages_is_paged_on_or_says_why),
        cmocka_unit_test(a_collation_altered_between_two_pages_loses_no_row),
        cmocka_unit_test(a_token_is_bound_to_how_its_columns_are_compared),
        cmocka_unit_test_setup(a_token_of_another_walk_has_one_text, make_bad),
    };
    return pooler_run_group_tests_name("page_bad", tests, NULL, drop_bad);
}
