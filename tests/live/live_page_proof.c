/* SPDX-License-Identifier: MIT */
/* What is known of an order before its first page: on a real server, whose catalogs prove it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/proof.h"
#include "support/live.h"

/* ---- one proof, waited for ---- */

struct proof {
    int calls;
    struct evpq__proof *handle;
    evpq_code code;
    evpq_fate fate;
    char message[400], hint[400], sqlstate[6];
    uint32_t position;
    struct evpq__proof_facts facts;
};

/* What is asked, in the memory that must stay. */
struct question {
    struct evpq__paged paged;
    struct evpq__keyset keyset;
    evpq_value params[4];
    struct evpq__proof_ask ask;
};

static void on_proof(void *user, const struct evpq__proof_facts *facts, struct evpq_error *err)
{
    struct proof *proof = user;
    proof->calls++;
    proof->handle = NULL;
    assert_true((facts != NULL) == (err->code == EVPQ_OK));
    proof->code = evpq_error_code(err);
    proof->fate = evpq_error_fate(err);
    snprintf(proof->message, sizeof(proof->message), "%s", evpq_error_message(err));
    snprintf(proof->hint, sizeof(proof->hint), "%s", evpq_error_hint(err));
    snprintf(proof->sqlstate, sizeof(proof->sqlstate), "%s", evpq_error_sqlstate(err));
    proof->position = evpq_error_position(err);
    if (facts)
        proof->facts = *facts;
}

static bool has_called(struct live *live, void *arg)
{
    (void)live;
    return ((struct proof *)arg)->calls > 0;
}

static void fill(struct question *q, struct live *live, const char *sql, const char *order_by)
{
    const char *problem = evpq__keyset_parse(&q->keyset, order_by);
    if (problem)
        fail_msg("%s: %s", order_by, problem);
    q->paged = (struct evpq__paged){
        .sql = sql, .sql_length = evpq__statement_length(sql), .columns = "", .rows = 11};
    q->ask = (struct evpq__proof_ask){.pool = live->pool,
                                      .paged = &q->paged,
                                      .keyset = &q->keyset,
                                      .params = q->params,
                                      .deadline_us = EVPQ__NO_DEADLINE};
}

static void start(struct proof *proof, const struct question *q)
{
    *proof = (struct proof){0};
    assert_int_equal(evpq__proof_start(&proof->handle, &q->ask, on_proof, proof), EVPQ_OK);
    assert_int_equal(proof->calls, 0);
}

static void wait_proof(struct live *live, struct proof *proof)
{
    live_until(live, has_called, proof, 60.);
    assert_int_equal(proof->calls, 1);
}

static void prove(struct live *live, struct proof *proof, const struct question *q)
{
    start(proof, q);
    wait_proof(live, proof);
}

/* NULL: it is proven; else a part of the message that refuses it. */
static void check(struct live *live, const struct question *q, const char *refused)
{
    struct proof proof;
    prove(live, &proof, q);
    if (!refused && proof.code != EVPQ_OK)
        fail_msg("%s | %s: %s %s", q->paged.sql, evpq__key_value(&q->keyset, 0), proof.sqlstate,
                 proof.message);
    if (!refused)
        return;
    if (proof.code != EVPQ_EINVALID || !strstr(proof.message, refused))
        fail_msg("%s | %s: not \"%s\", but %s: %s", q->paged.sql, evpq__key_value(&q->keyset, 0),
                 refused, evpq_code_name(proof.code), proof.message);
    assert_int_equal(proof.fate, EVPQ_ROLLED_BACK);
    assert_string_not_equal(proof.hint, "");
}

struct order {
    const char *sql, *order_by, *refused;
};

static void check_total(struct live *live, const struct order *orders, size_t count)
{
    struct question q = {0};
    for (size_t i = 0; i < count; i++) {
        fill(&q, live, orders[i].sql, orders[i].order_by);
        q.ask.unique = true;
        check(live, &q, orders[i].refused);
    }
}

static void check_index(struct live *live, const struct order *orders, size_t count)
{
    struct question q = {0};
    for (size_t i = 0; i < count; i++) {
        fill(&q, live, orders[i].sql, orders[i].order_by);
        q.ask.unique = q.ask.index = true;
        check(live, &q, orders[i].refused);
    }
}

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const char *const schema[] = {
    "DROP SCHEMA IF EXISTS evpq_proof CASCADE",
    "CREATE SCHEMA evpq_proof",
    "CREATE TYPE evpq_proof.pair AS (x int4, y int4)",
    "CREATE DOMAIN evpq_proof.pair_domain AS evpq_proof.pair",
    "CREATE DOMAIN evpq_proof.number AS int4",
    "CREATE TABLE evpq_proof.t (id int4 PRIMARY KEY, grp int4 NOT NULL, maybe int4 UNIQUE,"
    " name text NOT NULL UNIQUE, part int4 NOT NULL, expr text NOT NULL, late int4 NOT NULL"
    " UNIQUE DEFERRABLE, code varchar(9) NOT NULL UNIQUE, num evpq_proof.number NOT NULL UNIQUE,"
    " pair evpq_proof.pair, pair_d evpq_proof.pair_domain, \"We \"\"ird\" int4 NOT NULL UNIQUE,"
    " twice int4 NOT NULL GENERATED ALWAYS AS (id * 2) STORED)",
    "CREATE UNIQUE INDEX ON evpq_proof.t (part) WHERE id > 0",
    "CREATE UNIQUE INDEX ON evpq_proof.t (lower(expr))",
    "INSERT INTO evpq_proof.t SELECT i, i % 3, i, 'n' || i, i, 'e' || i, i, 'c' || i, i, NULL,"
    " NULL, i FROM generate_series(1, 20) AS i",
    "CREATE TABLE evpq_proof.two (a int4, b int4, c int4, PRIMARY KEY (b, a) INCLUDE (c))",
    "CREATE TABLE evpq_proof.loose (a int4, b int4)",
    "CREATE INDEX ON evpq_proof.loose (a)",
    "CREATE TABLE evpq_proof.empty (id int8 PRIMARY KEY, ts timestamptz NOT NULL, tag text)",
    "CREATE INDEX ON evpq_proof.empty (tag, ts DESC, id)",
    /* Views: what x calls id is grp in t, and the other way round. */
    "CREATE VIEW evpq_proof.v AS SELECT id, grp, name FROM evpq_proof.t WHERE grp > 0",
    "CREATE VIEW evpq_proof.vv AS SELECT grp AS b, (SELECT max(id) FROM evpq_proof.t) AS m,"
    " id AS a, id + 1 AS next FROM evpq_proof.v",
    "CREATE VIEW evpq_proof.nested AS SELECT grp AS a, (SELECT id FROM evpq_proof.t LIMIT 1) AS b"
    " FROM evpq_proof.t",
    "CREATE VIEW evpq_proof.swapped AS SELECT x.id, x.grp, x.name FROM evpq_proof.t"
    " AS x(grp, id)",
    "CREATE VIEW evpq_proof.hard WITH (security_barrier) AS SELECT * FROM evpq_proof.t"
    " WHERE grp > 0",
    "CREATE VIEW evpq_proof.pairs AS SELECT t.id, u.id AS other FROM evpq_proof.t"
    " JOIN evpq_proof.t AS u ON u.grp = t.grp",
    "CREATE VIEW evpq_proof.both AS SELECT id FROM evpq_proof.t"
    " UNION ALL SELECT id FROM evpq_proof.t",
    "CREATE VIEW evpq_proof.renamed AS SELECT id AS \"{a (b\\\", grp FROM evpq_proof.t",
    "ALTER VIEW evpq_proof.renamed RENAME COLUMN grp TO g",
    "CREATE MATERIALIZED VIEW evpq_proof.mat AS SELECT id, grp FROM evpq_proof.t",
    "CREATE TABLE evpq_proof.log (id int8 NOT NULL, ts date NOT NULL, v int4 NOT NULL,"
    " PRIMARY KEY (ts, id)) PARTITION BY RANGE (ts)",
    "CREATE TABLE evpq_proof.log_20 PARTITION OF evpq_proof.log"
    " FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
    "CREATE TABLE evpq_proof.log_21 PARTITION OF evpq_proof.log"
    " FOR VALUES FROM ('2021-01-01') TO ('2022-01-01') PARTITION BY RANGE (ts)",
    "CREATE TABLE evpq_proof.log_21_a PARTITION OF evpq_proof.log_21"
    " FOR VALUES FROM ('2021-01-01') TO ('2021-07-01')",
    "CREATE TABLE evpq_proof.log_21_b (v int4 NOT NULL, gone text, ts date NOT NULL,"
    " id int8 NOT NULL)",
    "ALTER TABLE evpq_proof.log_21_b DROP COLUMN gone",
    "ALTER TABLE evpq_proof.log_21 ATTACH PARTITION evpq_proof.log_21_b"
    " FOR VALUES FROM ('2021-07-01') TO ('2022-01-01')",
    "CREATE UNIQUE INDEX ON evpq_proof.log_21_b (id)",
    "CREATE VIEW evpq_proof.recent AS SELECT * FROM evpq_proof.log"
    " WHERE ts > now() - '1 day'::interval",
    "CREATE TABLE evpq_proof.parent (id int4 PRIMARY KEY)",
    "CREATE TABLE evpq_proof.child (PRIMARY KEY (id)) INHERITS (evpq_proof.parent)",
    "CREATE TABLE evpq_proof.one_col (a int4 PRIMARY KEY, b evpq_proof.pair NOT NULL UNIQUE)",
    "CREATE TABLE evpq_proof.guarded (id int4 PRIMARY KEY, owner text NOT NULL)",
    "ALTER TABLE evpq_proof.guarded ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE evpq_proof.guarded FORCE ROW LEVEL SECURITY",
    "CREATE POLICY own ON evpq_proof.guarded USING (owner = current_user)",
    "ANALYZE evpq_proof.t",
};

static int make_schema(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(schema); i++)
        aside_int8(schema[i]);
    return 0;
}

static int drop_schema(void **state)
{
    (void)state;
    aside_int8("DROP SCHEMA IF EXISTS evpq_proof CASCADE");
    return 0;
}

static int64_t server_version(void)
{
    return aside_int8("SELECT current_setting('server_version_num')::int8");
}

/* ---- total orders ---- */

#define NO_KEY(table) "no unique, not-null key of table \"" table "\" is among the order columns"

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

/* ---- indexes ---- */

static void an_order_that_no_index_serves_is_refused_when_asked(void **state)
{
    (void)state;
    struct live live;
    static const char no_index[] = "no index serves this order";
    static const struct order orders[] = {
        {"TABLE evpq_proof.t", "id", NULL}, /* small: the planner would sort it */
        {"TABLE evpq_proof.t", "id DESC", NULL},
        {"TABLE evpq_proof.t", "name, grp", NULL}, /* a tie group is sorted */
        {"TABLE evpq_proof.t", "grp, id", no_index},
        {"TABLE evpq_proof.t", "id DESC NULLS LAST", no_index},
        {"TABLE evpq_proof.empty", "id", NULL},
        {"TABLE evpq_proof.empty", "ts DESC, id", no_index},
        {"SELECT * FROM evpq_proof.empty WHERE tag = 'a'", "ts DESC, id", NULL},
        {"SELECT * FROM evpq_proof.empty WHERE tag = 'a'", "ts, id DESC", NULL},
        {"SELECT * FROM evpq_proof.empty WHERE tag > 'a'", "ts DESC, id", no_index},
        {"TABLE evpq_proof.empty", "tag, id", NULL},
        {"TABLE evpq_proof.log", "ts, id", NULL},
        {"TABLE evpq_proof.log", "id, ts", no_index},
        {"TABLE evpq_proof.v", "id", NULL},
        {"TABLE evpq_proof.hard", "id", no_index}, /* nothing passes its barrier */
        {"TABLE evpq_proof.t", "name COLLATE \"POSIX\"", no_index},
        {"TABLE evpq_proof.t", "grp", NO_KEY("t")}, /* that comes first */
    };
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    check_index(&live, orders, COUNT(orders));

    struct question q = {0};
    struct proof proof;
    fill(&q, &live, "TABLE evpq_proof.loose", "b DESC, a COLLATE \"C\" NULLS FIRST");
    aside_int8("ALTER TABLE evpq_proof.loose ALTER a TYPE text");
    q.ask.index = true;
    prove(&live, &proof, &q);
    assert_string_equal(proof.message, no_index);
    assert_string_equal(proof.hint,
                        "create an index on (\"b\" DESC, \"a\" COLLATE \"C\" NULLS FIRST)");
    fill(&q, &live, "TABLE evpq_proof.loose", "a, b");
    q.ask.index = true;
    check(&live, &q, NULL);

    /* What was set for the plan is gone with it. */
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT count(*) FROM pg_settings WHERE name IN "
                                                 "('enable_seqscan', 'enable_sort') AND "
                                                 "setting = 'on'")),
                     2);
    live_close(&live);
}

/* ---- types ---- */

static void keys_of_composite_types_are_told(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    struct proof proof;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fill(&q, &live, "SELECT *, ROW(1, id) AS r, ARRAY[pair] AS pairs FROM evpq_proof.t",
         "pair, id, pair_d DESC, r, pairs, name, (t_row)");
    q.paged.sql = "SELECT *, ROW(1, id) AS r, ARRAY[pair] AS pairs, t AS t_row FROM evpq_proof.t";
    q.paged.sql_length = strlen(q.paged.sql);
    for (int unique = 0; unique < 2; unique++) {
        q.ask.unique = unique;
        prove(&live, &proof, &q);
        assert_int_equal(proof.code, EVPQ_OK);
        static const bool composite[EVPQ__KEYS_MAX] = {1, 0, 1, 1, 0, 0, 1, 0};
        assert_memory_equal(proof.facts.composite, composite, sizeof(composite));
    }
    live_close(&live);
}

/* ---- the user's errors ---- */

static void errors_of_the_statement_are_told_as_the_users(void **state)
{
    (void)state;
    struct live live;
    static const char only[] = "only one SELECT, VALUES, TABLE or WITH can be paged";
    static const struct {
        const char *sql, *order_by, *sqlstate, *hint;
        uint32_t position;
    } cases[] = {
        {"SELECT nowhere", "a", "42703", "", 8},
        {"SELECT '\u00e4\u20ac', nowhere", "a", "42703", "", 14},
        {"SELECT 1 AS a", "b", "42703", "", 0},
        {"SELECT 1 AS a, 2 AS a", "a", "42702", "", 0},
        {"INSERT INTO evpq_proof.loose VALUES (1)", "a", "42601", only, 8},
        {"-- x\n/* /* y */ */ DELETE FROM evpq_proof.t RETURNING id", "id", "42601", only, 0},
        {"SELECT 1 AS a; SELECT 2", "a", "42601", only, 14},
        {"((SELECT 1 AS a", "a", "42601", "", 0},
        {"SELECT 1 AS a WHERE", "a", "42601", "", 0},
        {"SELECT FROM evpq_proof.t", "id", "42703", NULL, 0},
        {"SELECT '1'::json AS a", "a", "42883", NULL, 0},
        {"SELECT '(1,2)'::point AS a", "a", "42883", NULL, 0},
        {"SELECT 1 / 0 AS a", "a", "22012", "", 0},
        {"SELECT $1 AS a", "a", "08P01", NULL, 0},
        {"SELECT 'x'::text AS a", "a COLLATE nowhere", "42704", "", 0},
    };
    struct question q = {0};
    struct proof proof;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < COUNT(cases); i++) {
        fill(&q, &live, cases[i].sql, cases[i].order_by);
        q.ask.unique = true;
        prove(&live, &proof, &q);
        assert_int_equal(proof.code, EVPQ_ESERVER);
        if (strcmp(proof.sqlstate, cases[i].sqlstate) != 0)
            fail_msg("%s: %s %s", cases[i].sql, proof.sqlstate, proof.message);
        if (cases[i].position)
            assert_int_equal(proof.position, cases[i].position);
        if (cases[i].hint)
            assert_string_equal(proof.hint, cases[i].hint);
    }
    live_close(&live);
}

static void a_long_statement_and_any_parameters_are_proven(void **state)
{
    (void)state;
    struct live live;
    struct question q = {
        .params = {evpq_null(), evpq_untyped("{1,2}"), evpq_int8(1), evpq_bytea("\0x", 2)}};
    char *sql = malloc(120000);
    strcpy(sql,
           "SELECT *, $1::text AS n, $2::int4[] AS u, $4::bytea AS b, $3::int8 AS i FROM "
           "evpq_proof.t WHERE name NOT IN ('x'");
    size_t length = strlen(sql);
    while (length < 110000)
        length += (size_t)sprintf(sql + length, ", 'name of some length %zu'", length);
    strcpy(sql + length, ") -- and so on");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fill(&q, &live, sql, "id");
    q.paged.params_count = 4;
    q.ask.unique = q.ask.index = true;
    check(&live, &q, NULL);
    live_close(&live);
    free(sql);
}

/* ---- time ---- */

static void a_pool_of_one_is_free_when_the_proof_calls_back(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    struct proof proof;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fill(&q, &live, "TABLE evpq_proof.t", "id");
    q.ask.unique = true;
    for (int index = 0; index < 2; index++) {
        q.ask.index = index;
        prove(&live, &proof, &q);
        assert_int_equal(proof.code, EVPQ_OK);
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 7::int8", .timeout_ms = 5000)), 7);
    }
    live_close(&live);
}

static void the_deadline_ends_it_wherever_it_is(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    struct proof proof;
    struct outcome holder;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_acquire(&live, &holder);
    fill(&q, &live, "TABLE evpq_proof.t", "id");
    q.ask.unique = true;
    q.ask.deadline_us = (int64_t)(live_now() * 1e6) + 100000;
    prove(&live, &proof, &q);
    assert_int_equal(proof.code, EVPQ_ETIMEOUT);
    assert_int_equal(proof.fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(proof.message, "max_size 1")); /* who has them all */
    evpq_lease_release(holder.lease);

    /* A function that the planner runs, and that takes its time. */
    aside_int8(
        "CREATE FUNCTION evpq_proof.slow() RETURNS int4 IMMUTABLE LANGUAGE plpgsql "
        "AS 'BEGIN PERFORM pg_sleep(30); RETURN 1; END'");
    fill(&q, &live, "SELECT id FROM evpq_proof.t WHERE id > evpq_proof.slow()", "id");
    q.ask.unique = true;
    double start_s = live_now();
    q.ask.deadline_us = (int64_t)(start_s * 1e6) + 300000;
    prove(&live, &proof, &q);
    assert_int_equal(proof.code, EVPQ_ETIMEOUT);
    assert_true(live_now() - start_s < 5 * live_slow());
    assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 7::int8")), 7);
    live_close(&live);
}

static bool turns_are_over(struct live *live, void *arg)
{
    (void)live;
    return --*(int *)arg <= 0;
}

static void stopped_at_any_step_it_calls_back_once(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fill(&q, &live, "TABLE evpq_proof.t", "id");
    q.ask.unique = q.ask.index = true;
    static const evpq_code whys[] = {EVPQ_ECANCELED, EVPQ_ECLOSED, EVPQ_ETIMEOUT};
    for (int wait = 0, over = 0; !over; wait++) {
        struct proof proof;
        start(&proof, &q);
        int turns = wait + 1;
        if (wait > 0)
            live_until(&live, turns_are_over, &turns, 60.);
        over = proof.calls > 0;
        if (!over) {
            evpq__proof_stop(proof.handle, whys[wait % 3]);
            evpq__proof_stop(proof.handle, EVPQ_ETIMEOUT);
            assert_int_equal(proof.calls, 0);
            wait_proof(&live, &proof);
            assert_int_equal(proof.code, whys[wait % 3]);
        }
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 7::int8")), 7);
        assert_in_range(wait, 0, 1000);
    }
    live_close(&live);
}

static void a_proof_ends_with_its_pool(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    struct proof proof;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fill(&q, &live, "TABLE evpq_proof.t", "id");
    start(&proof, &q);
    assert_int_equal(evpq_pool_close(live.pool, EVPQ_CLOSE_CANCEL, 0, NULL, NULL), EVPQ_OK);
    live.pool = NULL;
    live_close(&live);
    assert_int_equal(proof.calls, 1);
    assert_int_equal(proof.code, EVPQ_ECLOSED);
}

static void what_was_proven_is_known_to_the_next_pager(void **state)
{
    (void)state;
    struct live live;
    const unsigned char walk[EVPQ__MEMO_KEY] = {1}, other[EVPQ__MEMO_KEY] = {2};
    const struct evpq__proof_facts facts = {.composite = {1, 0, 0, 0, 0, 0, 0, 1}};
    struct evpq__proof_facts known = {{0}};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_false(evpq__proof_recall(&known, live.pool, walk, false, false));
    for (int proven = 0; proven < 4; proven++) {
        evpq__proof_remember(live.pool, walk, proven & 1, proven & 2, &facts);
        for (int wanted = 0; wanted < 4; wanted++)
            assert_int_equal(evpq__proof_recall(&known, live.pool, walk, wanted & 1, wanted & 2),
                             (wanted & ~proven) == 0);
    }
    assert_memory_equal(&known, &facts, sizeof(facts));
    assert_false(evpq__proof_recall(&known, live.pool, other, false, false));
    live_close(&live);
}

/* ---- memory ---- */

/* The pool's thread allocates too: only what this one asks for fails. */
static struct {
    pthread_t thread;
    long countdown; /* the allocation that fails; 0: none */
} memory;

static void *allocate(size_t size, void *user)
{
    (void)user;
    if (pthread_equal(pthread_self(), memory.thread) && memory.countdown > 0 &&
        --memory.countdown == 0)
        return NULL;
    return malloc(size);
}

static void release(void *block, void *user)
{
    (void)user;
    free(block);
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    struct proof proof = {0};
    memory.thread = pthread_self();
    assert_int_equal(
        evpq_set_allocator(&(evpq_allocator){.allocate = allocate, .release = release}), EVPQ_OK);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    live_int8(&live, EVPQ_QUERY("SELECT 7::int8"));
    fill(&q, &live, "TABLE evpq_proof.t", "grp, id");
    q.ask.unique = true;
    int failures = 0;
    for (long n = 1;; n++) {
        proof = (struct proof){0};
        memory.countdown = n;
        int code = evpq__proof_start(&proof.handle, &q.ask, on_proof, &proof);
        if (code == EVPQ_OK)
            wait_proof(&live, &proof);
        bool failed = memory.countdown == 0;
        memory.countdown = 0;
        code = code == EVPQ_OK ? (int)proof.code : code;
        failures += code == EVPQ_ENOMEM;
        assert_true(code == EVPQ_OK || failed);
        assert_int_equal(live_int8(&live, EVPQ_QUERY("SELECT 7::int8")), 7);
        assert_in_range(n, 1, 500);
        if (!failed)
            break;
    }
    assert_int_equal(proof.code, EVPQ_OK);
    assert_in_range(failures, 8, 500);
    live_close(&live);
    /* Nothing is held any more, or it would refuse. */
    assert_int_equal(evpq_set_allocator(NULL), EVPQ_OK);
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
        cmocka_unit_test(an_order_that_no_index_serves_is_refused_when_asked),
        cmocka_unit_test(keys_of_composite_types_are_told),
        cmocka_unit_test(errors_of_the_statement_are_told_as_the_users),
        cmocka_unit_test(a_long_statement_and_any_parameters_are_proven),
        cmocka_unit_test(a_pool_of_one_is_free_when_the_proof_calls_back),
        cmocka_unit_test(the_deadline_ends_it_wherever_it_is),
        cmocka_unit_test(stopped_at_any_step_it_calls_back_once),
        cmocka_unit_test(a_proof_ends_with_its_pool),
        cmocka_unit_test(what_was_proven_is_known_to_the_next_pager),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_schema, drop_schema);
}
