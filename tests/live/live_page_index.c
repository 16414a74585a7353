/* SPDX-License-Identifier: MIT */
/*
 * What the server reads for a page where an index has its order: at any depth not more rows than
 * the page, the one behind it, and those of one group of equal keys. Looked at as
 * evpq_pager_explain() has it, and with the generic plan of a statement that is prepared, blocks
 * counted too.
 */
#include "page_oracle.h"
#include "support/pooler.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { ROWS = 100000, PAGE = 20, TIES = 120, BLOCKS_MOST = 120 };

/* Rows in front of the page; the walk that makes the tokens goes in such steps. */
static const int depths[] = {0,     1,     25,    9990,  19990, 29990, 39990,
                             49990, 59990, 69990, 79980, 89970, 99960, 99999};

static const char *const indexes[] = {
    "(g, id)",
    "(g DESC, id)",
    "(n, id)",
    "(n NULLS FIRST, id)",
    "(n DESC NULLS LAST, id)",
    "(g, n, id)",
    "(g, n DESC, id)",
    "(lower(t), id)",
    "(t COLLATE \"C\", id)",
    "(t, id)",
    "(at DESC, id)",
    "(mood, d DESC, id)",
    "(r, id)",
    "(pair, id)",
    "(t COLLATE \"de-x-icu\", id)",
};

/* Backward is the order turned round: so each is there both ways. */
static const struct order {
    const char *order, *keys;
    bool icu, loose; /* loose: measured, and not expected to be exact */
} orders[] = {
    {"id", "id", false, false},
    {"id DESC", "id", false, false},
    {"g, id", "g, id", false, false},
    {"g DESC, id DESC", "g, id", false, false},
    {"g DESC, id", "g, id", false, false},
    {"g, id DESC", "g, id", false, false},
    {"n, id", "n, id", false, false},
    {"n DESC, id DESC", "n, id", false, false},
    {"n NULLS FIRST, id", "n, id", false, false},
    {"n DESC NULLS LAST, id DESC", "n, id", false, false},
    {"n DESC NULLS LAST, id", "n, id", false, false},
    {"n NULLS FIRST, id DESC", "n, id", false, false},
    {"g, n, id", "g, n, id", false, false},
    {"g DESC, n DESC, id DESC", "g, n, id", false, false},
    {"g, n DESC, id", "g, n, id", false, false},
    {"g DESC, n, id DESC", "g, n, id", false, false},
    {"lower(t), id", "lower(t), id", false, false},
    {"lower(t) DESC, id DESC", "lower(t), id", false, false},
    {"t COLLATE \"C\", id", "t, id", false, false},
    {"t COLLATE \"C\" DESC, id DESC", "t, id", false, false},
    {"t, id", "t, id", false, false},
    {"t DESC, id DESC", "t, id", false, false},
    {"at DESC, id", "at, id", false, false},
    {"at, id DESC", "at, id", false, false},
    {"mood, d DESC, id", "mood, d, id", false, false},
    {"mood DESC, d, id DESC", "mood, d, id", false, false},
    {"r, id", "r, id", false, false},
    {"pair, id", "pair, id", false, true},
    {"t COLLATE \"de-x-icu\", id", "t, id", true, false},
    {"t COLLATE \"de-x-icu\" DESC, id DESC", "t, id", true, false},
};

static int drop_indexed(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_indexed");
    drop_types(state);
    return 0;
}

static int make_indexed(void **state)
{
    char sql[1024];
    oracle_run("DROP TABLE IF EXISTS evpq_indexed");
    make_types(state);
    oracle_run(
        "CREATE UNLOGGED TABLE evpq_indexed (id int8 PRIMARY KEY, g int NOT NULL, n int, "
        "t text NOT NULL, at timestamptz NOT NULL, mood evpq_mood NOT NULL, "
        "d evpq_even, r int4range NOT NULL, pair evpq_pair)");
    snprintf(
        sql, sizeof(sql),
        "INSERT INTO evpq_indexed SELECT i, hashint4(i) & 2047, CASE WHEN i %% 10 >= 3 THEN "
        "hashint4(i + 7) & 1023 END, 'Key ' || (hashint4(i + 1) & 2047), timestamptz "
        "'2024-01-01' + (i %% 2000) * interval '1 microsecond', (enum_range(NULL::evpq_mood))[1 "
        "+ i %% 3], nullif(2 * (i %% 1024), 0), int4range(i %% 2000, i %% 2000 + 5), ('(' || i "
        "%% 2000 || ',x)')::evpq_pair FROM generate_series(1, %d) AS i",
        ROWS);
    oracle_run(sql);
    for (size_t i = 0; i < COUNT(indexes); i++) {
        snprintf(sql, sizeof(sql), "CREATE INDEX ON evpq_indexed %s", indexes[i]);
        if (oracle_has_icu || !strstr(indexes[i], "icu"))
            oracle_run(sql);
    }
    oracle_run("VACUUM ANALYZE evpq_indexed");
    return 0;
}

/* ---- what was read ---- */

struct explained {
    int calls;
    char message[256];
    char *statement, *plan;
};

static void on_explained(const evpq_explanation *explanation, const evpq_error *err, void *user)
{
    struct explained *explained = user;
    explained->calls++;
    snprintf(explained->message, sizeof(explained->message), "%s", evpq_error_message(err));
    if (!explanation)
        return;
    explained->statement = strdup(explanation->statement);
    explained->plan = strdup(explanation->plan);
}

static bool has_explained(struct live *live, void *arg)
{
    (void)live;
    return ((struct explained *)arg)->calls > 0;
}

struct reading {
    double rows, blocks;
};

/* What the nodes that read the table have read, passed on or not. */
static struct reading read_of(const char *plan)
{
    static const char sql[] =
        "WITH RECURSIVE nodes AS (SELECT $1::jsonb -> 0 -> 'Plan' AS n UNION ALL SELECT "
        "jsonb_array_elements(n -> 'Plans') FROM nodes WHERE n ? 'Plans') SELECT coalesce(sum(((n "
        "->> "
        "'Actual Rows')::float8 + coalesce((n ->> 'Rows Removed by Filter')::float8, 0) + "
        "coalesce((n ->> 'Rows Removed by Index Recheck')::float8, 0)) * (n ->> 'Actual "
        "Loops')::float8), 0), coalesce(($1::jsonb #>> '{0,Plan,Shared Hit Blocks}')::float8, 0) + "
        "coalesce(($1::jsonb #>> '{0,Plan,Shared Read Blocks}')::float8, 0) FROM nodes "
        "WHERE n ? 'Relation Name'";
    PGresult *result =
        PQexecParams(oracle_conn, sql, 1, NULL, (const char *const[]){plan}, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s\n%s", PQerrorMessage(oracle_conn), plan);
    struct reading reading = {strtod(PQgetvalue(result, 0, 0), NULL),
                              strtod(PQgetvalue(result, 0, 1), NULL)};
    PQclear(result);
    return reading;
}

/* Parameters of a statement, as SQL. */
struct params {
    char types[512], values[512];
};

static void put_item(char out[512], const char *quote, const char *item)
{
    size_t length = strlen(out);
    if (item[0] == '\0' && quote[0] == '\0')
        return;
    snprintf(out + length, 512 - length, "%s%s%s%s", length > 0 ? ", " : "", quote, item, quote);
}

/* The keys of the row at the end of the first `depth`, without those that are NULL. */
static void put_keys(struct params *params, const struct order *order, int depth)
{
    char sql[512];
    snprintf(sql, sizeof(sql), "SELECT %s FROM evpq_indexed ORDER BY %s OFFSET %d LIMIT 1",
             order->keys, order->order, depth - 1);
    PGresult *result = ask_oracle(sql);
    for (int i = 0; i < PQnfields(result); i++) {
        if (PQgetisnull(result, 0, i))
            continue;
        snprintf(sql, sizeof(sql), "SELECT %u::regtype", PQftype(result, i));
        PGresult *type = ask_oracle(sql);
        put_item(params->types, "", PQgetvalue(type, 0, 0));
        put_item(params->values, "'", PQgetvalue(result, 0, i));
        PQclear(type);
    }
    PQclear(result);
}

/* By the plan that a statement gets which has been prepared for long. */
static struct reading read_in_general(const char *statement, const struct params *params)
{
    char *sql = malloc(strlen(statement) + 1024);
    bool any = params->values[0];
    assert_non_null(sql);
    oracle_run("DEALLOCATE ALL; SET plan_cache_mode = force_generic_plan");
    sprintf(sql, "PREPARE page%s%s%s AS %s", any ? "(" : "", params->types, any ? ")" : "",
            statement);
    oracle_run(sql);
    snprintf(sql, 1024, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page%s%s%s",
             any ? "(" : "", params->values, any ? ")" : "");
    PGresult *result = ask_oracle(sql);
    struct reading reading = read_of(PQgetvalue(result, 0, 0));
    PQclear(result);
    free(sql);
    return reading;
}

/* ---- pages at a depth ---- */

static struct token {
    char text[4097];
    struct params keys;
} tokens[COUNT(depths)];

static void make_tokens(struct live *live, const struct order *order)
{
    struct step step = {0};
    for (size_t i = 1; i < COUNT(depths); i++) {
        evpq_pager *pager =
            opened(live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_indexed", .order_by = order->order,
                                            .columns = "id", .assume_unique = true,
                                            .page_size = (uint32_t)(depths[i] - depths[i - 1]),
                                            .after = i > 1 ? tokens[i - 1].text : NULL));
        next_good(live, pager, &step);
        assert_int_equal(step.rows, depths[i] - depths[i - 1]);
        strcpy(tokens[i].text, step.token);
        tokens[i].keys = (struct params){"", ""};
        put_keys(&tokens[i].keys, order, depths[i]);
        evpq_pager_close(pager);
    }
    step_clear(&step);
}

/* Columns that are never NULL, in one direction. */
static bool is_one_range(const struct order *order)
{
    static const char *const ranges[] = {"id", "id DESC", "g, id", "t, id"};
    for (size_t i = 0; i < COUNT(ranges); i++)
        if (strcmp(ranges[i], order->order) == 0)
            return true;
    return false;
}

static struct most {
    struct reading explained, general, range;
    int pages;
} most;

static double more_of(double a, double b)
{
    return a > b ? a : b;
}

/* The page behind depths[from], cut off at depths[until]; until 0: to the end. */
static void check_page(struct live *live, const struct order *order, size_t from, size_t until,
                       bool strict)
{
    struct explained explained = {0};
    struct params params = {"", ""};
    evpq_pager *pager =
        opened(live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_indexed", .order_by = order->order,
                                        .page_size = PAGE, .assume_unique = true,
                                        .after = from ? tokens[from].text : NULL,
                                        .until = until ? tokens[until].text : NULL));
    assert_int_equal(evpq_pager_explain(NULL, pager, EVPQ_EXPLAIN_ANALYZE | EVPQ_EXPLAIN_JSON,
                                        on_explained, &explained),
                     EVPQ_OK);
    live_until(live, has_explained, &explained, 60.);
    if (!explained.plan)
        fail_msg("ORDER BY %s: %s", order->order, explained.message);
    for (int i = 0; i < 2; i++) {
        put_item(params.types, "", tokens[i ? until : from].keys.types);
        put_item(params.values, "", tokens[i ? until : from].keys.values);
    }
    if (is_one_range(order))
        assert_null(strstr(explained.statement, "UNION ALL"));
    struct reading here = read_of(explained.plan);
    struct reading general = read_in_general(explained.statement, &params);
    bool few = here.rows <= PAGE + 1 + TIES;
    /* Of a range between two parameters the planner does not know how short it is. */
    if (!until)
        few = few && general.rows <= PAGE + 1 + TIES && general.blocks <= BLOCKS_MOST;
    if (!few && strict)
        fail_msg(
            "ORDER BY %s behind %d rows, until %d: %.0f rows read, with the generic plan %.0f "
            "rows of %.0f blocks\n%s\n%s",
            order->order, depths[from], depths[until], here.rows, general.rows, general.blocks,
            explained.statement, explained.plan);
    most.explained.rows = more_of(most.explained.rows, here.rows);
    struct reading *m = until ? &most.range : &most.general;
    m->rows = more_of(m->rows, general.rows);
    m->blocks = more_of(m->blocks, general.blocks);
    most.pages++;
    evpq_pager_close(pager);
    free(explained.statement);
    free(explained.plan);
}

static bool is_small(void)
{
    return live_scaled(100) < 100;
}

static void check_order(struct live *live, const struct order *order, bool strict)
{
    make_tokens(live, order);
    for (size_t from = 0; from < COUNT(depths); from += is_small() ? 3 : 1) {
        check_page(live, order, from, 0, strict);
        if (from + 1 < COUNT(depths))
            check_page(live, order, from, from + 1, strict);
        if (from + 4 < COUNT(depths))
            check_page(live, order, from, from + 4, strict);
        if (from == 3)
            check_page(live, order, from, from, strict);
    }
}

static void a_page_reads_its_rows_and_one_group_of_ties(void **state)
{
    (void)state;
    struct live live;
    struct most all = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < COUNT(orders); i++) {
        if (orders[i].icu && !oracle_has_icu)
            continue;
        most = (struct most){0};
        check_order(&live, &orders[i], !orders[i].loose);
        print_message(
            "figure: ORDER BY %s: at most %.0f rows read for a page of %d; by the generic "
            "plan %.0f of %.0f blocks, with until %.0f of %.0f blocks\n",
            orders[i].order, most.explained.rows, PAGE, most.general.rows, most.general.blocks,
            most.range.rows, most.range.blocks);
        all.pages += most.pages;
    }
    print_message("figure: %d pages explained at depths up to %d\n", all.pages, ROWS);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_reads_its_rows_and_one_group_of_ties, make_indexed,
                                        drop_indexed),
    };
    return pooler_run_group_tests_name("page_index", tests, NULL, NULL);
}
