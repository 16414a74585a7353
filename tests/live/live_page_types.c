/* SPDX-License-Identifier: MIT */
/*
 * Boundaries of every type that a btree index can hold, as the catalogs of the server list them:
 * with pages of one row each value is one, in text and in binary, forward and backward, and goes
 * through a signed token into another pager.
 */
#include "page_oracle.h"
#include "support/pooler.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { WHERE_TAKEN = -1 };

/* Values that are hard to carry, equal ones of different looks, and the ends of each type. */
static const struct hard {
    const char *type;
    int since; /* of the server; or WHERE_TAKEN: it is asked */
    const char *values;
} hard[] = {
    {"bool", 0, "f|t"},
    {"bytea", 0, "|\\x00|\\x0001|\\xff|\\x5c|\\x5c7830"},
    {"char", 0, "|a|B|~"},
    {"name", 0, "|a|B|pg_class|\xc3\xbc\"'"},
    {"int2", 0, "-32768|-1|0|32767"},
    {"int4", 0, "-2147483648|-1|0|2147483647"},
    {"int8", 0, "-9223372036854775808|-1|0|9007199254740993|9223372036854775807"},
    {"oid", 0, "0|1|2147483648|4294967295"},
    {"text", 0,
     "|a|B|b|\\|aa|a |NULL|null|\"q\"|it's|\xc3\xa4|z\xcc\x88|\xf0\x9f\x90\x98|new\nline|\x01|$1"},
    {"varchar", 0, "|a|B|b c|c |\xf0\x9f\x90\x98"},
    {"bpchar", 0, "|a|a |ab|b|B|\xc3\xa9"},
    {"tid", 0, "(0,0)|(0,1)|(1,0)|(4294967295,65535)"},
    {"oidvector", 0,
     "1|1 2|2 1|4294967295"}, /* an empty one is refused by its own input in binary */
    {"float4", 0, "NaN|0|-0|1e-45|16777217|Infinity|-Infinity|0.1|3.4028235e38"},
    {"float8", 0,
     "NaN|0|-0|-0.5|0.30000000000000004|0.3|5e-324|1.7976931348623157e308|Infinity|-Infinity"},
    {"numeric", 0,
     "NaN|0|-0.0|1|1.0|1.00|0.1|-12345678901234567890.123456789|1e-300|1e300|1e-1000|9e999"},
    {"numeric", 140000, "Infinity|-Infinity"},
    {"money", 0, "0|1.5|-3|-92233720368547758.08|92233720368547758.07"},
    {"macaddr", 0, "08:00:2b:01:02:03|00:00:00:00:00:00|ff:ff:ff:ff:ff:ff"},
    {"macaddr8", 0, "08:00:2b:01:02:03:04:05|00:00:00:00:00:00:00:00"},
    {"inet", 0, "10.0.0.1|10.0.0.1/8|10.0.0.0/8|::1|2001:db8::/32|255.255.255.255|0.0.0.0/0"},
    {"cidr", 0, "10.0.0.0/8|0.0.0.0/0|::/0|2001:db8::/32|10.0.0.1/32"},
    {"date", 0, "-infinity|infinity|4713-01-01 BC|0001-12-31 BC|2024-02-29|5874897-12-31"},
    {"time", 0, "00:00|00:00:00.000001|23:59:59.999999|24:00"},
    {"timetz", 0, "00:00+14|23:59:59.999999-12|24:00+00|12:00+01|11:00+00|11:00:00.000001+00"},
    {"timestamp", 0,
     "-infinity|infinity|4713-01-01 00:00:00 BC|2024-01-01 00:00:00.000001|2024-01-01|"
     "294276-12-31 23:59:59.999999"},
    {"timestamptz", 0,
     "-infinity|infinity|2024-01-01 00:00:00.000001+00|2024-01-01 00:00:00.000002+00|"
     "2024-01-01 02:00:00.000001+02|0044-03-15 12:00:00+00 BC|294276-12-31 23:59:59.999999+00|"
     "1883-11-18 12:03:57.5-05"},
    {"interval", 0,
     "0|1 day|24:00|1 mon|30 days|720:00|-1 year|23:59:59.999999|-1 mon +1 day|178000000 years"},
    {"interval", 170000, "infinity|-infinity"},
    {"bit", 0, "0|1"},
    {"varbit", 0, "|0|1|00|0101|11111111|101010101010101010101"},
    {"uuid", 0,
     "00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff|"
     "123e4567-e89b-12d3-a456-426614174000"},
    {"pg_lsn", 0, "0/0|16/B374D848|FFFFFFFF/FFFFFFFF"},
    {"tsvector", 0, "|a|a:1A b:2|'it''s':3 'q q'"},
    {"tsquery", 0, "a|a & b|!a|a <-> b|a:*B"},
    {"tsquery", WHERE_TAKEN, ""},
    {"jsonb", 0,
     "null|1|1.0|1.00|\"a\"|\"\\u00e9\"|[]|[1,2]|[[]]|{}|{\"a\":1}|{\"a\":{\"b\":null}}|1e400|"
     "true"},
    {"xid8", 0, "0|1|9223372036854775808|18446744073709551615"},
    {"int4range", 0, "empty|[1,2)|[1,)|(,5)|(,)|[1,1]"},
    {"int8range", 0, "empty|[1,2)|[9223372036854775806,9223372036854775807)|(,5)|(,)"},
    {"numrange", 0, "empty|[1,2)|[1.0,2.00)|(1,2]|(1,2)|[1,NaN]|(,)"},
    {"tsrange", 0, "empty|[2024-01-01,infinity]|[2024-01-01,infinity)|[2024-01-01,)|(,)"},
    {"tstzrange", 0,
     "empty|[2024-01-01 00:00:00.000001+00,2024-01-02 00:00:00+00)|(,)|[-infinity,)"},
    {"daterange", 0, "empty|[2024-01-01,2024-02-29]|(,infinity)|(,infinity]|(,)"},
    {"int4multirange", 0, "{}|{[1,2)}|{[1,2),[5,6)}|{(,)}"},
    {"int8multirange", 0, "{}|{[1,2)}|{[1,2),[5,6)}|{(,)}"},
    {"nummultirange", 0, "{}|{[1.0,2)}|{[1,2.00)}|{[1,2),[5,NaN)}|{(,)}"},
    {"tsmultirange", 0, "{}|{[2024-01-01,2024-01-02)}|{(,)}|{[2024-01-01,infinity]}"},
    {"tstzmultirange", 0, "{}|{[2024-01-01 00:00:00.000001+00,2024-01-02 00:00:00+00)}|{(,)}"},
    {"datemultirange", 0, "{}|{[2024-01-01,2024-01-02)}|{(,)}"},
    {"regproc", 0, "-|now|pg_backend_pid"},
    {"regprocedure", 0, "-|now()|length(text)"},
    {"regoper", 0, "0|*<>|*<="},
    {"regoperator", 0, "0|+(integer,integer)|-(NONE,bigint)"},
    {"regclass", 0, "-|pg_class|pg_type|4294967295"},
    {"regtype", 0, "-|integer|double precision|character varying"},
    {"regcollation", 0, "-|\"C\"|\"POSIX\""},
    {"regconfig", 0, "simple|english"},
    {"regdictionary", 0, "simple|english_stem"},
    {"regrole", 0, "-|pg_monitor|pg_read_all_data"},
    {"regnamespace", 0, "-|pg_catalog|pg_toast"},
    {"citext", 0, "|a|A|b|B|\xc3\xa9|\xc3\x89"},
    {"ltree", 0, "|a|a.b|Top.Science"},
    {"cube", 0, "(0)|(-0)|(1,2)|(1,2),(3,4)|(-0.1)"},
    {"seg", 0, "1|1.00|1 .. 2|<1|~2.5|1 .."},
    {"mood", 0, "sad|it's|ha ppy|\xc3\xbc"},
    {"even", 0, "0|2|-40"},
    {"word", 0, "|a|B|A|b"},
    {"pair", 0, "(1,a)|(1,)|(,b)|(,)|(2,\"x,y\")|(2,\"q\"\"q\")|(2,\"\")"},
    {"nested", 0, "(1,\"(1,a)\")|(1,\"(,)\")|(1,)|(,)|(,\"(,b)\")"},
    {"couple", 0, "(1,a)|(2,)"},
    {"wordrange", 0, "empty|[a,b)|(a,b]|[\"\",\" \")|[\"x,y\",)|(,)"},
    {"wordmultirange", 0, "{}|{[a,b)}|{[a,b),[c,d)}|{(,)}"},
    /* Columns of a length or a precision. */
    {"char(4)", 0, "|a|a |ab|b|B"},
    {"varchar(3)", 0, "|a|a  |abc"},
    {"numeric(10,2)", 0, "1|1.005|-99999999.99"},
    {"timestamptz(0)", 0, "2024-01-01 00:00:00.4+00|2024-01-01 00:00:00.6+00|infinity"},
    {"timestamp(3)", 0, "2024-01-01 00:00:00.0004|2024-01-01 00:00:00.0006"},
    {"interval(2)", 0, "1.234 s|1.23 s|0"},
    {"bit(3)", 0, "000|101|111"},
    {"bit varying(5)", 0, "|0|10101"},
    {"text COLLATE \"de-x-icu\"", 0, "|a|B|A|\xc3\xa4|ae|o-e|oe|\xc3\x9f|ss"},
    {"text COLLATE evpq_exact.nocase", 0, "|a|A|b|\xc3\xa9|\xc3\x89|aa|aA"},
};

static const char *const contrib[] = {"citext", "ltree", "cube", "seg"};

static const char *const own_types[] = {
    "CREATE TYPE mood AS ENUM ('sad', 'it''s', 'ha ppy', '\xc3\xbc')",
    "CREATE DOMAIN even AS int CHECK (value % 2 = 0)",
    "CREATE DOMAIN word AS text COLLATE \"C\"",
    "CREATE TYPE pair AS (n int, t text)",
    "CREATE TYPE nested AS (n int, p pair)",
    "CREATE DOMAIN couple AS pair CHECK ((value).n > 0)",
    "CREATE TYPE wordrange AS RANGE (subtype = text, collation = \"C\")",
};

static int drop_all(void **state)
{
    (void)state;
    oracle_run("DROP SCHEMA IF EXISTS evpq_exact CASCADE");
    oracle_end();
    return 0;
}

static int make_all(void **state)
{
    char sql[512];
    drop_all(state);
    oracle_run("CREATE SCHEMA evpq_exact");
    for (size_t i = 0; i < COUNT(contrib); i++) {
        snprintf(sql, sizeof(sql),
                 "DO $$ BEGIN CREATE EXTENSION %s SCHEMA evpq_exact; "
                 "EXCEPTION WHEN OTHERS THEN NULL; END $$",
                 contrib[i]);
        oracle_run(sql);
    }
    for (size_t i = 0; i < COUNT(own_types); i++) {
        snprintf(sql, sizeof(sql), "SET search_path = evpq_exact, public; %s", own_types[i]);
        oracle_run(sql);
    }
    oracle_has_icu =
        oracle_run("SELECT count(*) FROM pg_collation WHERE collname = 'de-x-icu'") > 0;
    if (oracle_has_icu)
        oracle_run(
            "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', "
            "deterministic = false)");
    return 0;
}

/* ---- a table of one type ---- */

static int put_values(const char *values)
{
    char sql[1024], value[256];
    unsigned count = count_values(values);
    for (unsigned i = 0; i < count; i++) {
        put_value(value, sizeof(value), values, i);
        snprintf(sql, sizeof(sql), "INSERT INTO exact (v) VALUES (%s), (%s)", value, value);
        oracle_run(sql);
    }
    return (int)count;
}

/* Minors before August 2026 refuse in binary what they have sent in binary. */
static bool takes_empty_tsquery(void)
{
    const char *values[] = {"\0\0\0"};
    PGresult *result =
        PQexecParams(oracle_conn, "SELECT $1::tsquery", 1, NULL, values, (int[]){4}, (int[]){1}, 0);
    bool taken = PQresultStatus(result) == PGRES_TUPLES_OK;
    PQclear(result);
    return taken;
}

static bool applies(const struct hard *h, const char *name)
{
    if (strcmp(h->type, name) != 0)
        return false;
    if (h->since == WHERE_TAKEN)
        return takes_empty_tsquery();
    return h->since <= PQserverVersion(oracle_conn);
}

/* How many values there are; each is there twice, and NULL too. */
static int make_table_of(const char *name, const char *spelled)
{
    char sql[512];
    int count = 0;
    snprintf(sql, sizeof(sql),
             "DROP TABLE IF EXISTS exact; CREATE UNLOGGED TABLE exact "
             "(id int8 PRIMARY KEY GENERATED ALWAYS AS IDENTITY, v %s)",
             spelled);
    oracle_run(sql);
    for (size_t i = 0; i < COUNT(hard); i++)
        if (applies(&hard[i], name))
            count += put_values(hard[i].values);
    oracle_run("INSERT INTO exact (v) VALUES (NULL), (NULL)");
    return count;
}

/* ---- walks ---- */

static int pages;

static bool is_small(void)
{
    return live_scaled(100) < 100;
}

/* With each page in a pager of its own. */
static void check_walk(struct live *live, const char *type, const evpq_pager_options *options,
                       const PGresult *expected, bool backward)
{
    struct step step = {0};
    char token[4097];
    int rows = PQntuples(expected);
    evpq_pager_options here = *options;
    for (int i = 0; i < rows; i++) {
        evpq_pager *pager = opened(live, &here);
        int at = backward ? rows - 1 - i : i;
        ask_fn *ask = backward ? (i == 0 ? evpq_pager_last : evpq_pager_prev) : evpq_pager_next;
        step_clear(&step);
        assert_int_equal(ask(NULL, pager, on_page, &step), EVPQ_OK);
        wait_step(live, &step);
        bool more = i + 1 < rows;
        if (step.code != EVPQ_OK || step.rows != 1 || !page_is(&step, expected, at) ||
            (backward ? step.has_prev : step.has_next) != more)
            fail_msg("%s, ORDER BY %s, %s, %s: row %d of %d (%s) did not come: %s", type,
                     options->order_by, options->format == EVPQ_TEXT ? "text" : "binary",
                     backward ? "backward" : "forward", at, rows,
                     PQgetvalue(expected, at, PQfnumber(expected, "v")), step.message);
        assert_true(step.token[0] != '\0' && step.token_before[0] != '\0');
        strcpy(token, backward ? step.token_before : step.token);
        *(backward ? &here.before : &here.after) = token;
        evpq_pager_close(pager);
        pages++;
    }
    step_clear(&step);
}

static void check_orders(struct live *live, const char *type, const char *table, bool in_binary)
{
    static const evpq_secret secret = {.id = 7, .bytes = "sixteen bytes, or more", .length = 22};
    static const char *const orders[] = {"v, id", "v DESC NULLS LAST, id"};
    char sql[128];
    snprintf(sql, sizeof(sql), "TABLE evpq_exact.%s", table);
    for (size_t i = 0; i < COUNT(orders); i++) {
        PGresult *expected = in_order(sql, orders[i]);
        for (int n = 0; n < 4; n++) {
            bool binary = n & 1, backward = n & 2;
            /* On a small scale one of them with each order. */
            if ((binary && !in_binary) || (is_small() && n != (i == 0 ? 0 : 3)))
                continue;
            check_walk(live, type,
                       EVPQ_PAGER_OPTIONS(.sql = sql, .order_by = orders[i], .page_size = 1,
                                          .format = binary ? EVPQ_BINARY : EVPQ_TEXT,
                                          .secrets = &secret, .secrets_count = 1),
                       expected, backward);
        }
        PQclear(expected);
    }
}

static void check_arrays(struct live *live, const char *type, bool in_binary)
{
    oracle_run("DROP TABLE IF EXISTS exact_arrays");
    oracle_run(
        "CREATE UNLOGGED TABLE exact_arrays AS SELECT row_number() OVER () AS id, v FROM "
        "(SELECT ARRAY[v] AS v FROM exact WHERE id % 2 = 0 UNION ALL "
        "(SELECT ARRAY[v, NULL] FROM exact LIMIT 2) UNION ALL "
        "(SELECT ARRAY[[v, v], [v, v]] FROM exact LIMIT 2)) AS s");
    oracle_run("INSERT INTO exact_arrays VALUES (1001, '{}'), (1002, NULL)");
    oracle_run("ALTER TABLE exact_arrays ADD PRIMARY KEY (id)");
    check_orders(live, type, "exact_arrays", in_binary);
}

/* ---- the types ---- */

/* What a default btree operator class takes, itself or by a cast that changes nothing; and all
 * that are ranges, or of the schema of this test. Not those that nobody can write. */
static const char all_types[] =
    "SELECT t.typname, format('%I.%I', n.nspname, t.typname), t.typsend <> 0 AND t.typreceive <> "
    "0, t.typarray <> 0, "
    "n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace "
    "LEFT JOIN pg_class AS c ON c.oid = t.typrelid "
    "WHERE t.typname NOT IN ('pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list') "
    "AND (t.typtype IN ('r', 'm') OR (n.nspname = 'evpq_exact' AND t.typtype IN ('e', 'd', 'c') "
    "AND coalesce(c.relkind, 'c') = 'c') OR (t.typtype = 'b' AND EXISTS (SELECT FROM pg_opclass AS "
    "o JOIN pg_am AS a ON a.oid = o.opcmethod WHERE a.amname = 'btree' AND o.opcdefault AND "
    "(o.opcintype = t.oid OR EXISTS (SELECT FROM pg_cast WHERE castsource = t.oid AND casttarget = "
    "o.opcintype AND castmethod = 'b' AND castcontext = 'i'))))) ORDER BY t.oid";

static bool is_of_catalog(PGresult *types, const char *name)
{
    for (int i = 0; i < PQntuples(types); i++)
        if (strcmp(PQgetvalue(types, i, 0), name) == 0)
            return true;
    return false;
}

static void every_type_of_the_server_makes_exact_boundaries(void **state)
{
    (void)state;
    struct live live;
    int with = 0, without = 0;
    /* The operators of a type are found by the search path. */
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(
                                           "options=-csearch_path=evpq_exact,public"),
                                       .max_size = 1));
    PGresult *types = ask_oracle(all_types);
    for (int i = 0; i < PQntuples(types); i++) {
        const char *name = PQgetvalue(types, i, 0);
        bool in_binary = PQgetvalue(types, i, 2)[0] == 't';
        if (make_table_of(name, PQgetvalue(types, i, 1)) == 0) {
            print_message("figure: no hard values of %s\n", name);
            without++;
            /* Of the server's own none may be forgotten. */
            if (PQserverVersion(oracle_conn) < 190000)
                assert_string_not_equal(PQgetvalue(types, i, 4), "pg_catalog");
            continue;
        }
        check_orders(&live, name, "exact", in_binary);
        if (PQgetvalue(types, i, 3)[0] == 't' && !is_small())
            check_arrays(&live, name, in_binary);
        with++;
    }
    for (size_t i = 0; i < COUNT(hard); i++) {
        const char *name = hard[i].type;
        if (is_of_catalog(types, name) || !strpbrk(name, "( ") ||
            (strstr(name, "COLLATE") && !oracle_has_icu))
            continue;
        make_table_of(name, name);
        check_orders(&live, name, "exact", true);
        with++;
    }
    print_message("figure: %d types, %d without hard values, %d pages of one row\n", with, without,
                  pages);
    PQclear(types);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_type_of_the_server_makes_exact_boundaries, make_all,
                                        drop_all),
    };
    return pooler_run_group_tests_name("page_types", tests, NULL, NULL);
}
