/* SPDX-License-Identifier: MIT */
/* Which orders are total: on a real server, whose catalogs prove it. */
#include "page_proof.h"
#include "support/pooler.h"

static void an_order_with_a_unique_key_of_its_table_is_total(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.t", "id", NULL},
        {"TABLE evpq_proof.t -- all of it;\n ; ", "grp DESC NULLS LAST, id", NULL},
        {"SELECT * FROM evpq_proof.t WHERE grp = 1 AND name > 'a'", "name DESC", NULL},
        {"SELECT id AS \"a b\", grp FROM evpq_proof.t", "grp, \"a b\"", NULL},
        {"SELECT * FROM evpq_proof.t", "(id)", NULL},
        {"SELECT * FROM evpq_proof.t", "code", NULL},
        {"SELECT * FROM evpq_proof.t", "num", NULL},
        {"SELECT * FROM evpq_proof.t", "\"We \"\"ird\"", NULL},
        {"SELECT * FROM evpq_proof.t", "lower(name), twice, grp, part, late, expr, id, num", NULL},
        {"SELECT * FROM evpq_proof.t", "name COLLATE \"C\"", NULL},
        {"SELECT * FROM evpq_proof.t", "name COLLATE pg_catalog.\"C\" DESC, grp", NULL},
        {"SELECT * FROM evpq_proof.t AS x(grp, id)", "grp", NULL},
        {"SELECT * FROM evpq_proof.t AS x(grp, id)", "id", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.t", "grp", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.t", "id + 1, grp", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.t", "id + 1", "no order column is a column of a table"},
        {"SELECT * FROM evpq_proof.t", "maybe", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.t", "part", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.t", "expr", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.t", "late", NO_KEY("t")},
        {"SELECT ctid, * FROM evpq_proof.t", "ctid", NO_KEY("t")},
        {"TABLE evpq_proof.two", "a, b", NULL},
        {"TABLE evpq_proof.two", "c, b DESC, a", NULL},
        {"TABLE evpq_proof.two", "a, c", NO_KEY("two")},
        {"TABLE evpq_proof.loose", "a, b", NO_KEY("loose")},
        {"TABLE evpq_proof.empty", "ts, id", NULL},
        {"TABLE evpq_proof.one_col", "b", NULL},
        {"TABLE evpq_proof.mat", "id", NO_KEY("mat")},
        {"SELECT * FROM evpq_proof.t FOR UPDATE", "id", NULL},
        {"SELECT * FROM evpq_proof.t ORDER BY name LIMIT 5", "id", NULL},
        {"SELECT id, rank() OVER (ORDER BY grp) FROM evpq_proof.t", "rank, id", NULL},
        {"SELECT * FROM evpq_proof.t TABLESAMPLE system (50)", "id", NULL},
        {"SELECT * FROM evpq_proof.t WHERE id = ANY (ARRAY(SELECT 3))", "id", NULL},
        {"SELECT id, (SELECT count(*) FROM evpq_proof.t) FROM evpq_proof.t", "id", NULL},
        {"SELECT * FROM evpq_proof.t WHERE id NOT IN (SELECT a FROM evpq_proof.two)", "id", NULL},
        {"WITH w AS (SELECT * FROM evpq_proof.t) SELECT * FROM w WHERE grp = 1", "id", NULL},
        {"SELECT u.id FROM evpq_proof.t AS u LEFT JOIN evpq_proof.two ON a = id AND b = 1", "id",
         NULL}, /* the planner leaves the join out */
        {"SELECT oid, relname FROM pg_class", "relname, oid", NULL},
        {"SELECT * FROM evpq_proof.guarded", "id", NULL},
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
}

static void rows_that_may_come_twice_are_refused(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"SELECT t.id FROM evpq_proof.t, evpq_proof.two", "id", "the statement joins"},
        {"SELECT * FROM evpq_proof.t WHERE id IN (SELECT a FROM evpq_proof.two)", "id",
         "the statement joins"},
        {"SELECT id FROM evpq_proof.t UNION ALL SELECT id FROM evpq_proof.t", "id",
         "its rows come from several tables"},
        {"SELECT id FROM evpq_proof.t UNION ALL SELECT 5", "id",
         "its rows come from several tables"},
        {"SELECT id FROM evpq_proof.log UNION ALL SELECT id FROM evpq_proof.log_20", "id",
         "its rows come from several tables"},
        {"SELECT id FROM evpq_proof.t UNION SELECT a FROM evpq_proof.two", "id", "the statement "},
        {"SELECT id FROM evpq_proof.t EXCEPT SELECT a FROM evpq_proof.two", "id",
         "the statement makes rows distinct"},
        {"SELECT DISTINCT grp FROM evpq_proof.t", "grp", "the statement "},
        {"SELECT grp, count(*) FROM evpq_proof.t GROUP BY grp", "grp", "the statement groups rows"},
        {"SELECT * FROM generate_series(1, 3) AS i", "i", "its rows come from a function"},
        {"SELECT id, generate_series(1, 3) AS i FROM evpq_proof.t", "id",
         "its rows come from a function"},
        {"VALUES (1), (2)", "column1", "its rows come from VALUES"},
        {"WITH w AS MATERIALIZED (TABLE evpq_proof.t) SELECT * FROM w", "id",
         "its rows come from a WITH query that is kept"},
        {"WITH RECURSIVE w(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM w WHERE i < 9) "
         "SELECT * FROM w",
         "i", "its rows come from a WITH query that is kept"},
        {"SELECT 1 AS a UNION ALL SELECT 1", "a", "its rows come from several tables"},
        {"TABLE evpq_proof.parent", "id", "its rows come from several tables"},
        {"SELECT * FROM ONLY evpq_proof.parent", "id", NULL},
        {"TABLE evpq_proof.child", "id", NULL},
        /* One row, or none. */
        {"SELECT 1 AS a", "a", NULL},
        {"VALUES (1)", "column1", NULL},
        {"SELECT max(id) AS a FROM evpq_proof.t", "a", NULL},
        {"SELECT * FROM evpq_proof.loose WHERE false", "a", NULL},
        {"SELECT * FROM generate_series(1, 3) AS i WHERE NULL", "i", NULL},
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
}

static void a_column_of_a_view_is_what_its_rule_says(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.v", "id", NULL},
        {"TABLE evpq_proof.v", "grp", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.vv WHERE b = 1", "b, a", NULL},
        {"TABLE evpq_proof.vv", "b", NO_KEY("t")},
        {"TABLE evpq_proof.vv", "m", "no order column is a column of a table"},
        {"TABLE evpq_proof.vv", "next", "no order column is a column of a table"},
        {"TABLE evpq_proof.swapped", "grp", NULL},
        {"TABLE evpq_proof.swapped", "id", NO_KEY("t")},
        {"TABLE evpq_proof.swapped", "name", NULL},
        {"TABLE evpq_proof.nested", "a, b", NO_KEY("t")},
        {"TABLE evpq_proof.hard", "id", NULL},
        {"TABLE evpq_proof.hard", "grp", NO_KEY("t")},
        {"SELECT * FROM evpq_proof.hard WHERE name > 'a'", "name", NULL},
        {"TABLE evpq_proof.renamed", "\"{a (b\\\"", NULL},
        {"TABLE evpq_proof.renamed", "g", NO_KEY("t")},
        {"TABLE evpq_proof.pairs", "id, other", "the statement joins"},
        {"TABLE evpq_proof.both", "id", "its rows come from several tables"},
        {"TABLE evpq_proof.recent", "ts, id", NULL},
        {"TABLE evpq_proof.recent", "id", NO_KEY("log")},
        {"SELECT * FROM evpq_proof.v AS a, LATERAL (SELECT a.id AS twin) AS b", "twin", NULL},
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
}

static void partitions_count_as_their_root_or_alone(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.log", "ts, id", NULL},
        {"TABLE evpq_proof.log", "id, ts DESC", NULL},
        {"TABLE evpq_proof.log", "id", NO_KEY("log")},
        {"TABLE evpq_proof.log_21", "ts, id", NULL},
        {"TABLE evpq_proof.log_21", "id", NO_KEY("log_21")},
        {"TABLE evpq_proof.log_21_b", "id", NULL},
        {"TABLE evpq_proof.log_21_b", "ts", NO_KEY("log_21_b")},
        {"SELECT * FROM evpq_proof.log WHERE ts = '2021-08-01'", "id", NULL},
        {"SELECT * FROM evpq_proof.log WHERE ts = '2021-02-01'", "id", NO_KEY("log_21_a")},
        {"SELECT * FROM evpq_proof.log WHERE ts = '2021-02-01'", "id, ts", NULL},
        {"SELECT * FROM evpq_proof.log WHERE ts = '2050-01-01'", "v", NULL}, /* no rows */
        {"SELECT * FROM evpq_proof.log WHERE ts > now() - '1 day'::interval", "ts, id", NULL},
        {"SELECT * FROM evpq_proof.log WHERE ts > now() - '1 day'::interval", "id", NO_KEY("log")},
        {"SELECT * FROM evpq_proof.log WHERE ts = (SELECT '2021-08-01'::date)", "id",
         NO_KEY("log")},
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));

    struct question q = {.params = {evpq_date(18840), evpq_text("x")}}; /* 2021-08-01 */
    fill(&q, &live, "SELECT *, $2 AS p FROM evpq_proof.log WHERE ts = $1", "id");
    q.paged.params_count = 2;
    q.ask.unique = true;
    check(&live, &q, NULL);
    q.params[0] = evpq_date(18290);
    check(&live, &q, NO_KEY("log_20"));
    live_close(&live);
}

static void what_a_version_brings_counts_there(void **state)
{
    (void)state;
    if (server_version() < 150000)
        skip();
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.nulls", "a", NULL},
        {"TABLE evpq_proof.nulls", "b", NO_KEY("nulls")},
    };
    aside_int8("CREATE TABLE evpq_proof.nulls (a int4 UNIQUE NULLS NOT DISTINCT, b int4 UNIQUE)");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
    aside_int8("DROP TABLE evpq_proof.nulls");
}

static void texts_that_an_order_takes_for_equal_are_no_key(void **state)
{
    (void)state;
    if (aside_int8("SELECT count(*) FROM pg_collation WHERE collprovider = 'i'") == 0)
        skip();
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.words", "a", NULL},
        {"TABLE evpq_proof.words", "a COLLATE evpq_proof.blind", NO_KEY("words")},
        {"TABLE evpq_proof.words", "a COLLATE evpq_proof.other", NULL},
        {"TABLE evpq_proof.words", "b", NULL}, /* the index takes the same for equal */
        {"TABLE evpq_proof.words", "b COLLATE \"C\"", NULL},
        {"TABLE evpq_proof.words", "c", NO_KEY("words")}, /* its index is by bytes */
    };
    aside_int8(
        "CREATE COLLATION evpq_proof.blind (provider = icu, locale = 'und-u-ks-level2',"
        " deterministic = false)");
    aside_int8("CREATE COLLATION evpq_proof.other (provider = icu, locale = 'sv')");
    aside_int8(
        "CREATE TABLE evpq_proof.words (a text NOT NULL UNIQUE, b text COLLATE"
        " evpq_proof.blind NOT NULL UNIQUE, c text COLLATE evpq_proof.blind NOT NULL)");
    aside_int8("CREATE UNIQUE INDEX ON evpq_proof.words (c COLLATE \"C\")");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
    aside_int8("DROP TABLE evpq_proof.words");
}

static void an_index_of_another_operator_class_is_no_key(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.class", "a", NO_KEY("class")},
        {"TABLE evpq_proof.class", "b", NULL},
    };
    aside_int8("CREATE TABLE evpq_proof.class (a text NOT NULL, b cidr NOT NULL UNIQUE)");
    aside_int8("CREATE UNIQUE INDEX ON evpq_proof.class (a text_pattern_ops)");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
    aside_int8("DROP TABLE evpq_proof.class");
}

static void a_temporary_table_is_proven_on_its_own_connection(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof_temp", "a", NULL},
        {"TABLE evpq_proof_temp", "b", NO_KEY("evpq_proof_temp")},
        {"SELECT * FROM pg_temp.evpq_proof_temp", "b, a", NULL},
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_int8(&live, EVPQ_QUERY("CREATE TEMP TABLE evpq_proof_temp (a int4 PRIMARY KEY, b int4)"));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
}

static void what_a_search_path_puts_first_changes_nothing(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.t", "id", NULL},
        {"TABLE evpq_proof.t", "grp", NO_KEY("t")},
        {"TABLE evpq_proof.vv", "b", NO_KEY("t")},
        {"TABLE evpq_proof.log", "ts, id", NULL},
    };
    /* Exact for types that pg_catalog takes only by way of others. */
    static const char *const traps[] = {
        "CREATE FUNCTION evpq_proof.yes(anyelement, anyelement) RETURNS bool"
        " LANGUAGE sql AS 'SELECT true'",
        "CREATE FUNCTION evpq_proof.yes(regclass, oid) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE FUNCTION evpq_proof.yes(oid, int4) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE FUNCTION evpq_proof.yes(name, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE FUNCTION evpq_proof.yes(\"char\", text) RETURNS bool LANGUAGE sql"
        " AS 'SELECT true'",
        "CREATE FUNCTION evpq_proof.yes(int2, int8) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR evpq_proof.= (leftarg = anyelement, rightarg = anyelement,"
        " function = evpq_proof.yes)",
        "CREATE OPERATOR evpq_proof.= (leftarg = regclass, rightarg = oid,"
        " function = evpq_proof.yes)",
        "CREATE OPERATOR evpq_proof.= (leftarg = oid, rightarg = int4, function = evpq_proof.yes)",
        "CREATE OPERATOR evpq_proof.= (leftarg = name, rightarg = text,"
        " function = evpq_proof.yes)",
        "CREATE OPERATOR evpq_proof.= (leftarg = \"char\", rightarg = text,"
        " function = evpq_proof.yes)",
        "CREATE OPERATOR evpq_proof.= (leftarg = int2, rightarg = int8,"
        " function = evpq_proof.yes)",
        "CREATE FUNCTION evpq_proof.count(text) RETURNS int4 LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE evpq_proof.pg_index (LIKE pg_catalog.pg_index)",
        "CREATE FUNCTION evpq_proof.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql"
        " AS $$SELECT '{\"indnullsnotdistinct\": true}'::jsonb$$",
    };
    for (size_t i = 0; i < COUNT(traps); i++)
        aside_int8(traps[i]);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_int8(&live, EVPQ_QUERY("SET search_path = evpq_proof"));
    check_total(&live, orders, COUNT(orders));
    live_close(&live);
    aside_int8(
        "DROP FUNCTION evpq_proof.yes(anyelement, anyelement), evpq_proof.yes(regclass,"
        " oid), evpq_proof.yes(oid, int4), evpq_proof.yes(name, text),"
        " evpq_proof.yes(\"char\", text), evpq_proof.yes(int2, int8),"
        " evpq_proof.count(text), evpq_proof.to_jsonb(anyelement) CASCADE");
    aside_int8("DROP TABLE evpq_proof.pg_index");
}

static void an_order_whose_values_change_from_page_to_page_is_refused(void **state)
{
    (void)state;
    struct live live;
    static const struct order orders[] = {
        {"TABLE evpq_proof.log", "now() - ts, ts, id", "made with now()"},
        {"TABLE evpq_proof.log", "random(), ts, id", "made with random()"},
        {"TABLE evpq_proof.log", "clock_timestamp() - ts, ts, id", "made with clock_timestamp()"},
        {"TABLE evpq_proof.log", "pg_catalog . now ( ) - ts, ts, id", "made with now()"},
        {"TABLE evpq_proof.log", "(current_date - ts), ts, id", "made with CURRENT_DATE"},
        {"TABLE evpq_proof.log", "(localtimestamp - ts), ts, id", "made with LOCALTIMESTAMP"},
        {"TABLE evpq_proof.log", "age(ts), ts, id", "made with CURRENT_DATE"},
        {"SELECT age(xmin) AS a, id FROM evpq_proof.t", "a, id", "made with age()"},
        {"SELECT id, random() AS r FROM evpq_proof.t", "r, id", "made with random()"},
        {"SELECT id, (SELECT random()) AS r FROM evpq_proof.t", "r, id", "made with random()"},
        {"SELECT id, coalesce(NULL, 1 - random()) AS r FROM evpq_proof.t", "r, id",
         "with random()"},
        {"SELECT s.* FROM (SELECT id, now() AS r FROM evpq_proof.t) AS s", "r, id", "with now()"},
        {"SELECT id, evpq_proof.\"Moves (\"() AS r FROM evpq_proof.t", "r, id", "with Moves (()"},
        {"TABLE evpq_proof.ages", "age, id", "made with now()"},
        {"SELECT age AS a, id FROM evpq_proof.ages", "id, a", "made with now()"},
        {"SELECT 1 AS a, pg_sleep(0) AS nothing", "a", NULL},
        /* A column of a table stays. */
        {"SELECT id, random() AS r FROM evpq_proof.t", "id", NULL},
        {"TABLE evpq_proof.ages", "id", NULL},
        {"SELECT * FROM evpq_proof.log WHERE ts > now() - interval '1 day'", "ts, id", NULL},
        {"SELECT id, lower(name) AS l, now() AS n FROM evpq_proof.t WHERE now() > '2020-01-01'",
         "l, id", NULL},
        {"SELECT id, age('2020-01-02'::timestamp, '2020-01-01'::timestamp) AS a FROM evpq_proof.t",
         "a, id", NULL},
        {"SELECT id, name || 'now() random() it''s now()' AS l FROM evpq_proof.t", "l, id", NULL},
        {"SELECT id, lower(\"CURRENT_DATE\") AS l FROM (SELECT id, name AS \"CURRENT_DATE\" FROM "
         "evpq_proof.t LIMIT 9) AS s",
         "l, id", NULL},
        {"TABLE evpq_proof.t", "evpq_proof.stays(name), id", NULL},
    };
    aside_int8(
        "CREATE FUNCTION evpq_proof.\"Moves (\"() RETURNS int4 LANGUAGE sql VOLATILE AS "
        "'SELECT 1 FROM pg_sleep(0)'");
    aside_int8(
        "CREATE FUNCTION evpq_proof.stays(text) RETURNS text LANGUAGE plpgsql STABLE AS "
        "'BEGIN RETURN $1; END'");
    aside_int8("CREATE VIEW evpq_proof.ages AS SELECT id, now() - ts AS age FROM evpq_proof.empty");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int unique = 0; unique < 2; unique++) {
        struct question q = {0};
        for (size_t i = 0; i < COUNT(orders); i++) {
            fill(&q, &live, orders[i].sql, orders[i].order_by);
            q.ask.unique = unique;
            check(&live, &q, orders[i].refused);
        }
    }
    live_close(&live);
    aside_int8("DROP VIEW evpq_proof.ages");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_order_with_a_unique_key_of_its_table_is_total),
        cmocka_unit_test(rows_that_may_come_twice_are_refused),
        cmocka_unit_test(a_column_of_a_view_is_what_its_rule_says),
        cmocka_unit_test(partitions_count_as_their_root_or_alone),
        cmocka_unit_test(what_a_version_brings_counts_there),
        cmocka_unit_test(texts_that_an_order_takes_for_equal_are_no_key),
        cmocka_unit_test(an_index_of_another_operator_class_is_no_key),
        cmocka_unit_test(a_temporary_table_is_proven_on_its_own_connection),
        cmocka_unit_test(what_a_search_path_puts_first_changes_nothing),
        cmocka_unit_test(an_order_whose_values_change_from_page_to_page_is_refused),
    };
    return pooler_run_group_tests_name("page_proof", tests, make_schema, drop_schema);
}
