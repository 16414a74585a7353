/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_LIVE_PAGE_ORACLE_H
#define EVPQ_TESTS_LIVE_PAGE_ORACLE_H

/*
 * Random tables, orders and statements, and what the server itself says of them.
 * EVPQ_TEST_SEED repeats a run.
 */

#include <libpq-fe.h>

#include "page_step.h"

/* ---- chance ---- */

static unsigned short chance[3];

static inline unsigned below(unsigned limit)
{
    return (unsigned)(erand48(chance) * limit);
}

static inline bool one_in(unsigned count)
{
    return below(count) == 0;
}

static inline void start_chance(void)
{
    const char *given = getenv("EVPQ_TEST_SEED");
    unsigned number =
        given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)(uint64_t)(live_now() * 1e6);
    print_message("EVPQ_TEST_SEED=%u\n", number);
    chance[0] = (unsigned short)number;
    chance[1] = (unsigned short)(number >> 16);
    chance[2] = 0x330e;
}

/* ---- a connection beside the pool's, kept ---- */

static PGconn *oracle_conn;

static inline void ignore_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

static inline PGresult *ask_oracle(const char *sql)
{
    if (!oracle_conn) {
        oracle_conn = PQconnectdb(live_aside());
        PQsetNoticeReceiver(oracle_conn, ignore_notice, NULL);
    }
    PGresult *result = PQexec(oracle_conn, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(oracle_conn));
    return result;
}

static inline int64_t oracle_run(const char *sql)
{
    PGresult *result = ask_oracle(sql);
    int64_t value = PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return value;
}

static inline void oracle_end(void)
{
    PQfinish(oracle_conn);
    oracle_conn = NULL;
}

/* ---- what is paged over ---- */

enum { ORACLE_COLUMNS = 3, ORACLE_ROWS = 60 };

/* Every btree type that behaves in its own way; of each, values that are hard to carry. */
static const struct kind {
    const char *type, *values;
    enum { PLAIN, IS_TEXT, NEEDS_ICU } needs;
} kinds[] = {
    {"bool", "true|false", PLAIN},
    {"int2", "-32768|0|1|32767", PLAIN},
    {"int8", "-9223372036854775808|-1|0|9007199254740993|9223372036854775807", PLAIN},
    {"numeric", "NaN|0|0.1|1.5|1.50|-12345678901234567890.123456789|Infinity|-Infinity|1e-300",
     PLAIN},
    {"float4", "NaN|0|-0|1e-45|16777217|Infinity|-Infinity|0.1", PLAIN},
    {"float8", "NaN|0|-0|-0.5|0.30000000000000004|0.1|5e-324|1.7976931348623157e308|Infinity",
     PLAIN},
    {"text", "|a|B|b|\\|aa|\"q\"|it's|z\xc3\xa9|\xf0\x9f\x90\x98|new\nline", IS_TEXT},
    {"text COLLATE \"C\"", "|a|B|b|A|aa|\xc3\xa9", IS_TEXT},
    {"text COLLATE \"de-x-icu\"", "|a|B|b|A|aa|\xc3\xa9|\xc3\xa4|ae|o-e|oe", NEEDS_ICU},
    {"text COLLATE evpq_nocase", "|a|B|b|A|aa|AA|Aa|\xc3\x89|\xc3\xa9", NEEDS_ICU},
    {"varchar(9)", "|a|B|b c|d", IS_TEXT},
    {"char(4)", "|a|ab|b|B", IS_TEXT},
    {"bytea", "|\\x00|\\x0001|\\xff|\\x5c", PLAIN},
    {"uuid",
     "00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff|"
     "123e4567-e89b-12d3-a456-426614174000",
     PLAIN},
    {"date", "-infinity|infinity|4713-01-01 BC|2024-02-29|5874897-12-31", PLAIN},
    {"timestamp", "-infinity|infinity|4713-01-01 00:00:00 BC|2024-01-01 00:00:00.000001|2024-01-01",
     PLAIN},
    {"timestamptz",
     "-infinity|infinity|2024-01-01 00:00:00.000001+00|2024-01-01 00:00:00.000002+00|"
     "0044-03-15 12:00:00+00 BC",
     PLAIN},
    {"interval", "0|1 day|24:00|1 mon|30 days|-1 year|23:59:59.999999", PLAIN},
    {"time", "00:00|23:59:59.999999|24:00", PLAIN},
    {"inet", "10.0.0.1|10.0.0.0/8|::1|2001:db8::/32|255.255.255.255", PLAIN},
    {"macaddr", "08:00:2b:01:02:03|00:00:00:00:00:00", PLAIN},
    {"bit varying(8)", "|0|1|0101|11111111", PLAIN},
    {"jsonb", "null|1|\"a\"|[1,2]|{\"a\":1}|{}", PLAIN},
    {"int4range", "empty|[1,2)|[1,)|(,5)|(,)", PLAIN},
    {"int4[]", "{}|{1}|{1,NULL}|{2,1}|{NULL}", PLAIN},
    {"evpq_mood", "sad|ok|happy", PLAIN},
    {"evpq_even", "0|2|40", PLAIN},
    {"evpq_pair", "(1,a)|(1,)|(,b)|(2,\"x,y\")", PLAIN},
    {"oid", "0|1|4294967295", PLAIN},
    {"money", "0|1.5|-3", PLAIN},
    {"name", "|a|B|pg_class", IS_TEXT},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static bool oracle_has_icu;

static inline int drop_types(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_oracle CASCADE");
    oracle_run("DROP TYPE IF EXISTS evpq_mood, evpq_pair");
    oracle_run("DROP DOMAIN IF EXISTS evpq_even");
    oracle_run("DROP COLLATION IF EXISTS evpq_nocase");
    oracle_end();
    return 0;
}

static inline int make_types(void **state)
{
    drop_types(state);
    oracle_run("CREATE TYPE evpq_mood AS ENUM ('sad', 'ok', 'happy')");
    oracle_run("CREATE DOMAIN evpq_even AS int CHECK (value % 2 = 0)");
    oracle_run("CREATE TYPE evpq_pair AS (n int, t text)");
    oracle_has_icu =
        oracle_run("SELECT count(*) FROM pg_collation WHERE collname = 'de-x-icu'") > 0;
    if (oracle_has_icu)
        oracle_run(
            "CREATE COLLATION evpq_nocase (provider = icu, locale = 'und-u-ks-level2', "
            "deterministic = false)");
    else
        print_message("figure: the server has no ICU: its collations are left out\n");
    return 0;
}

/* The nth of "a|b|c", as a literal. */
static inline void put_value(char *out, size_t capacity, const char *values, unsigned n)
{
    const char *start = values;
    for (; n > 0; start++)
        n -= *start == '|';
    size_t length = strcspn(start, "|"), at = 0;
    out[at++] = '\'';
    for (size_t i = 0; i < length && at + 4 < capacity; i++) {
        if (start[i] == '\'')
            out[at++] = '\'';
        out[at++] = start[i];
    }
    out[at++] = '\'';
    out[at] = '\0';
}

static inline unsigned count_values(const char *values)
{
    unsigned count = 1;
    for (const char *c = values; *c; c++)
        count += *c == '|';
    return count;
}

struct table {
    const struct kind *kind[ORACLE_COLUMNS];
    unsigned values[ORACLE_COLUMNS]; /* different ones: 1 makes a column of ties */
    unsigned nulls[ORACLE_COLUMNS];  /* of ten */
    unsigned rows;
    bool keyed; /* its id is a primary key */
};

static inline void fill_table(const struct table *table)
{
    static char sql[65536];
    size_t length = (size_t)snprintf(sql, sizeof(sql), "INSERT INTO evpq_oracle VALUES");
    for (unsigned row = 0; row < table->rows; row++) {
        length += (size_t)snprintf(sql + length, sizeof(sql) - length, "%s(%u", row ? ", " : " ",
                                   row * 7919 % 1009);
        for (int i = 0; i < ORACLE_COLUMNS; i++) {
            char value[128] = "NULL";
            if (below(10) >= table->nulls[i])
                put_value(value, sizeof(value), table->kind[i]->values, below(table->values[i]));
            length += (size_t)snprintf(sql + length, sizeof(sql) - length, ", %s", value);
        }
        length += (size_t)snprintf(sql + length, sizeof(sql) - length, ")");
    }
    if (table->rows > 0)
        oracle_run(sql);
}

static inline struct table make_table(void)
{
    static const unsigned nulls[] = {0, 2, 2, 9};
    struct table table = {.rows = below(ORACLE_ROWS), .keyed = below(2)};
    char sql[1024] =
        "DROP TABLE IF EXISTS evpq_oracle CASCADE; CREATE UNLOGGED TABLE evpq_oracle (id int8";
    size_t length = strlen(sql);
    for (int i = 0; i < ORACLE_COLUMNS; i++) {
        do
            table.kind[i] = &kinds[below(KINDS)];
        while (table.kind[i]->needs == NEEDS_ICU && !oracle_has_icu);
        table.values[i] = one_in(6) ? 1 : count_values(table.kind[i]->values);
        table.nulls[i] = nulls[below(4)];
        length += (size_t)snprintf(sql + length, sizeof(sql) - length, ", c%d %s%s", i,
                                   table.kind[i]->type,
                                   table.nulls[i] == 0 && one_in(2) ? " NOT NULL" : "");
    }
    snprintf(sql + length, sizeof(sql) - length, "%s)", table.keyed ? ", PRIMARY KEY (id)" : "");
    oracle_run(sql);
    oracle_run(
        "CREATE VIEW evpq_outer AS SELECT a.id, a.c0, b.c1, b.c2 FROM evpq_oracle AS a LEFT JOIN "
        "evpq_oracle AS b ON b.id = a.id AND b.id % 2 = 0");
    fill_table(&table);
    return table;
}

/* ---- orders ---- */

static inline void put_order_value(char out[64], const struct table *table, unsigned column)
{
    static const char *const collations[] = {"\"C\"", "\"de-x-icu\"", "evpq_nocase"};
    static const char *const expressions[] = {"(c%u IS NULL)", "c%u::text COLLATE \"C\"",
                                              "length(c%u::text)", "coalesce(c%u::text, 'b')"};
    if (table->kind[column]->needs != PLAIN && one_in(3))
        snprintf(out, 64, "c%u COLLATE %s", column, collations[oracle_has_icu ? below(3) : 0]);
    else if (one_in(6))
        snprintf(out, 64, expressions[below(4)], column);
    else
        snprintf(out, 64, "c%u", column);
}

/* An order that ends in something unique. True: in the column id itself. */
static inline bool make_order(char out[512], const struct table *table)
{
    static const char *const directions[] = {"", " ASC", " DESC"};
    static const char *const nulls[] = {"", "", " NULLS FIRST", " NULLS LAST"};
    static const char *const last[] = {"id", "id DESC", "-id", "(id * 2) DESC NULLS LAST",
                                       "id + 0"};
    size_t length = 0;
    unsigned first = below(ORACLE_COLUMNS), count = below(ORACLE_COLUMNS + 1), end = below(5);
    for (unsigned i = 0; i < count; i++) {
        char value[64];
        put_order_value(value, table, (first + i) % ORACLE_COLUMNS);
        length += (size_t)snprintf(out + length, 512 - length, "%s%s%s, ", value,
                                   directions[below(3)], nulls[below(4)]);
    }
    snprintf(out + length, 512 - length, "%s", last[end]);
    return end < 2;
}

/* ---- statements ---- */

/* Each has id and c0, c1, c2 of rows of the table. */
static const struct statement {
    const char *sql, *plain; /* without parameters; NULL: it has none */
    bool once;               /* as the catalogs tell, each row of the table comes once at most */
} statements[] = {
    {"TABLE evpq_oracle", NULL, true},
    {"SELECT * FROM evpq_oracle", NULL, true},
    {"SELECT * FROM evpq_oracle; ;\n", NULL, false},
    {"SELECT * FROM evpq_oracle -- all of it", NULL, false},
    {"SELECT c2, c1, id, c0 FROM evpq_oracle /* turned round */ ;", NULL, false},
    {"SELECT * FROM evpq_oracle WHERE id % $1 < $2", "SELECT * FROM evpq_oracle WHERE id % 5 < 3",
     true},
    {"SELECT $2::int8 AS \"my \"\"own\"\"\", * FROM evpq_oracle WHERE id <> $1",
     "SELECT 3::int8 AS \"my \"\"own\"\"\", * FROM evpq_oracle WHERE id <> 5", false},
    {"SELECT s.* FROM (SELECT * FROM evpq_oracle WHERE id > 9) AS s", NULL, false},
    {"SELECT * FROM evpq_oracle ORDER BY c1::text DESC NULLS LAST, id LIMIT 20", NULL, false},
    {"SELECT * FROM evpq_oracle ORDER BY id DESC LIMIT $1 OFFSET $2",
     "SELECT * FROM evpq_oracle ORDER BY id DESC LIMIT 5 OFFSET 3", false},
    {"SELECT a.* FROM evpq_oracle AS a JOIN evpq_oracle AS b USING (id)", NULL, false},
    {"SELECT a.id, a.c0, b.c1, b.c2 FROM evpq_oracle AS a LEFT JOIN evpq_oracle AS b "
     "ON b.id = a.id AND b.id > 100",
     NULL, false},
    {"WITH every AS MATERIALIZED (TABLE evpq_oracle), more AS (SELECT 1) SELECT * FROM every", NULL,
     false},
    {"WITH RECURSIVE r AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 2) "
     "SELECT id + n * 2000 AS id, c0, c1, c2 FROM evpq_oracle, r",
     NULL, false},
    {"SELECT * FROM evpq_oracle UNION ALL SELECT id + 2000, c0, c1, c2 FROM evpq_oracle", NULL,
     false},
    {"SELECT id, c0, c1, c2, count(*) FROM evpq_oracle GROUP BY id, c0, c1, c2", NULL, false},
    {"SELECT *, row_number() OVER (ORDER BY id) AS n FROM evpq_oracle", NULL, false},
    {"TABLE evpq_outer", NULL, false},
    {"SELECT a.* FROM (VALUES (1), (2)) AS v(i) LEFT JOIN evpq_oracle AS a ON i > 1", NULL, false},
};
enum { STATEMENTS = sizeof(statements) / sizeof(statements[0]) };

/* ---- what the server says ---- */

/* All rows, in text; `id` among its columns is unique. To be given to PQclear(). */
static inline PGresult *in_order(const char *sql, const char *order)
{
    char ordered[2048];
    size_t length = strlen(sql);
    while (length > 0 && strchr("; \n", sql[length - 1]))
        length--;
    snprintf(ordered, sizeof(ordered), "SELECT * FROM (\n%.*s\n) AS s ORDER BY %s", (int)length,
             sql, order);
    return ask_oracle(ordered);
}

/* Is the page the rows of `expected` from number `at` on, cell by cell? In binary only the ids. */
static inline bool page_is(const struct step *step, const PGresult *expected, int at)
{
    if (at < 0 || at + (int)step->rows > PQntuples(expected))
        return false;
    evpq_text_view text;
    for (uint32_t row = 0; row < step->rows; row++) {
        int there = at + (int)row;
        int64_t id = strtoll(PQgetvalue(expected, there, PQfnumber(expected, "id")), NULL, 10);
        if (int8_at(step->result, row, "id") != id)
            return false;
        bool is_text = evpq_result_format(step->result) == EVPQ_TEXT;
        for (uint32_t i = 0; is_text && i < evpq_result_columns(step->result); i++) {
            int column = -1;
            while (++column < PQnfields(expected) &&
                   strcmp(PQfname(expected, column), evpq_result_column_name(step->result, i)) != 0)
                ;
            if (evpq_result_is_null(step->result, row, i) != PQgetisnull(expected, there, column))
                return false;
            if (evpq_result_text(step->result, row, i, &text) == EVPQ_OK &&
                strcmp(text.data, PQgetvalue(expected, there, column)) != 0)
                return false;
        }
    }
    return true;
}

typedef int ask_fn(evpq_op **, evpq_pager *, evpq_page_fn *, void *);

static inline void good_page(struct live *live, evpq_pager *pager, struct step *step, ask_fn *ask,
                             const char *order)
{
    step_clear(step);
    assert_int_equal(ask(NULL, pager, on_page, step), EVPQ_OK);
    wait_step(live, step);
    if (step->code != EVPQ_OK)
        fail_msg("ORDER BY %s: %s %s %s", order, evpq_code_name(step->code), step->sqlstate,
                 step->message);
}

#endif /* EVPQ_TESTS_LIVE_PAGE_ORACLE_H */
