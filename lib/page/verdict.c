/* SPDX-License-Identifier: MIT */

/*
 * Two rows that are equal in all order columns cannot be told apart. That there are none is proven
 * in three steps.
 *
 * 1. The order columns come from one table, says the server: the description of a result names
 *    table and column of each output column that is one, through subqueries and WITH, though not
 *    through set operations; of a view it names the view's, whose rule is then looked into.
 * 2. The plan brings each row of that table at most once: it has no join, nothing that makes rows,
 *    and reads that table alone, or once each partitions of it. (The plan is that of a page with
 *    these parameters; another plan of the same statement gives the same rows.)
 * 3. A unique index of that table, whose columns take no NULL, has all its columns among them.
 *
 * A plan that reads no table, and has no input but one row of constants, is total by itself.
 *
 * A column of a table that takes no NULL has none, where nothing on the way adds rows that have
 * NULL for all columns of a table: outer joins do, and ROLLUP.
 *
 * An order column whose values differ from page to page has no next page. A column of a table keeps
 * its value; of anything else the plan tells what it is made of, views and functions in SQL
 * included: what its nodes put out is looked through for calls of volatile functions and of the
 * clock. Which output goes into which column it does not tell, so all of them count. Of rows of
 * VALUES, and of functions that are called for rows, it does not tell either.
 *
 * Names are qualified, and operators meet just the types that pg_catalog has them for: then nothing
 * that search_path names first takes their place.
 */

#include "page/verdict.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/*
 * The nodes of the plan through which rows reach the page; and what is among them: one that may
 * bring a row twice, one that sorts, several inputs in one, and rows of no table (of a Result that
 * has no input and does not say that it has no rows).
 */
static const char nodes_sql[] =
    "WITH RECURSIVE\n"
    "nodes(node, type) AS (\n"
    "  SELECT p.node, coalesce(pg_catalog.jsonb_extract_path_text(p.node, 'Node Type'), '?')\n"
    "  FROM (\n"
    "    SELECT pg_catalog.jsonb_extract_path(\n"
    "      $1::pg_catalog.text::pg_catalog.jsonb, '0', 'Plan')\n"
    "  ) AS p(node)\n"
    "  WHERE p.node IS NOT NULL\n"
    "  UNION ALL\n"
    "  SELECT c.node, coalesce(pg_catalog.jsonb_extract_path_text(c.node, 'Node Type'), '?')\n"
    "  FROM nodes AS n,\n"
    "    pg_catalog.jsonb_array_elements(\n"
    "      pg_catalog.jsonb_extract_path(n.node, 'Plans')) AS c(node)\n"
    "  WHERE coalesce(pg_catalog.jsonb_extract_path_text(c.node, 'Parent Relationship'), '')\n"
    "    NOT IN ('SubPlan', 'InitPlan')\n"
    "),\n"
    "plan AS (\n"
    "  SELECT\n"
    "    pg_catalog.min(type) FILTER (WHERE type NOT IN (\n"
    "      'Limit', 'Sort', 'Incremental Sort', 'Gather', 'Gather Merge', 'Result', 'Append',\n"
    "      'Merge Append', 'Seq Scan', 'Index Scan', 'Index Only Scan', 'Bitmap Heap Scan',\n"
    "      'Bitmap Index Scan', 'BitmapAnd', 'BitmapOr', 'Tid Scan', 'Tid Range Scan',\n"
    "      'Sample Scan', 'Subquery Scan', 'LockRows', 'Materialize', 'WindowAgg')) AS stranger,\n"
    "    coalesce(pg_catalog.bool_or(type = 'Sort'), false) AS sorts,\n"
    "    coalesce(pg_catalog.bool_or(\n"
    "      type IN ('Nested Loop', 'Hash Join', 'Merge Join')), false) AS joins,\n"
    "    coalesce(pg_catalog.bool_and(CASE\n"
    "      WHEN type IN ('Nested Loop', 'Hash Join', 'Merge Join')\n"
    "        THEN coalesce(pg_catalog.jsonb_extract_path_text(node, 'Join Type'), '')\n"
    "          IN ('Inner', 'Semi')\n"
    "      ELSE type IN ('Limit', 'Sort', 'Incremental Sort', 'Gather', 'Gather Merge', 'Append',\n"
    "        'Merge Append', 'Seq Scan', 'Index Scan', 'Index Only Scan', 'Bitmap Heap Scan',\n"
    "        'Bitmap Index Scan', 'BitmapAnd', 'BitmapOr', 'Tid Scan', 'Tid Range Scan',\n"
    "        'Sample Scan', 'Subquery Scan', 'LockRows', 'Materialize', 'Memoize', 'Hash',\n"
    "        'Unique', 'WindowAgg') END), false) AS keeps,\n"
    "    coalesce(pg_catalog.bool_or(type IN ('Append', 'Merge Append')), false) AS appends,\n"
    "    pg_catalog.count(*) FILTER (WHERE type = 'Result'\n"
    "      AND coalesce(pg_catalog.jsonb_extract_path_text(node, 'One-Time Filter'), '')\n"
    "        <> 'false'\n"
    "      AND NOT EXISTS (\n"
    "        SELECT FROM pg_catalog.jsonb_array_elements(\n"
    "          pg_catalog.jsonb_extract_path(node, 'Plans')) AS c(node)\n"
    "        WHERE pg_catalog.jsonb_extract_path_text(c.node, 'Parent Relationship')\n"
    "          NOT IN ('SubPlan', 'InitPlan'))) AS loose\n"
    "  FROM nodes\n"
    "),\n";

/* The tables that are read, and of what they are partitions; and the keys. */
static const char tables_sql[] =
    "scans AS (\n"
    "  SELECT named.times, c.oid AS rel,\n"
    "    pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid AS root\n"
    "  FROM (\n"
    "    SELECT pg_catalog.jsonb_extract_path_text(node, 'Schema'),\n"
    "      pg_catalog.jsonb_extract_path_text(node, 'Relation Name'), pg_catalog.count(*)\n"
    "    FROM nodes\n"
    "    WHERE pg_catalog.jsonb_extract_path(node, 'Relation Name') IS NOT NULL\n"
    "    GROUP BY 1, 2\n"
    "  ) AS named(schema, name, times)\n"
    "  LEFT JOIN pg_catalog.pg_namespace AS s ON s.nspname = named.schema::pg_catalog.name\n"
    "    OR (named.schema = 'pg_temp' AND s.oid = pg_catalog.pg_my_temp_schema())\n"
    "  LEFT JOIN pg_catalog.pg_class AS c\n"
    "    ON c.relnamespace = s.oid AND c.relname = named.name::pg_catalog.name\n"
    "),\n"
    "keys AS (\n"
    "  SELECT n, type::pg_catalog.oid AS type, rel::pg_catalog.oid AS rel,\n"
    "    att::pg_catalog.int2 AS att, value,\n"
    "    CASE WHEN t.typcollation <> 0::pg_catalog.oid AND collated <> ''\n"
    "      THEN pg_catalog.to_regcollation(collated)::pg_catalog.oid END AS collation\n"
    "  FROM unnest($2::pg_catalog.int8[], $3::pg_catalog.int8[], $4::pg_catalog.int8[],\n"
    "    $5::pg_catalog.text[], $6::pg_catalog.text[])\n"
    "    WITH ORDINALITY AS k(type, rel, att, collated, value, n)\n"
    "  LEFT JOIN pg_catalog.pg_type AS t ON t.oid = k.type::pg_catalog.oid\n"
    "),\n";

/*
 * Where each key comes from. Of a view, where that comes from: it stands in the view's rule, in the
 * entries of the outermost target list, the only ones that are two braces deep. Then the columns of
 * tables among them, and the table whose unique keys count: the only one that is read; where the
 * plan may leave out partitions until it runs, the one that the keys come from.
 */
static const char origins_sql[] =
    "origins(n, rel, att) AS (\n"
    "  SELECT n, rel, att FROM keys WHERE rel <> 0::pg_catalog.oid\n"
    "  UNION ALL\n"
    "  SELECT o.n, v.rel, v.att\n"
    "  FROM origins AS o\n"
    "  JOIN pg_catalog.pg_class AS c ON c.oid = o.rel AND c.relkind = 'v'::pg_catalog.\"char\"\n"
    "  JOIN pg_catalog.pg_rewrite AS r\n"
    "    ON r.ev_class = c.oid AND r.rulename = '_RETURN'::pg_catalog.name,\n"
    "  LATERAL (\n"
    "    SELECT m.entry[2]::pg_catalog.oid, m.entry[3]::pg_catalog.int2\n"
    "    FROM (\n"
    "      SELECT b.part[2], pg_catalog.sum(CASE b.part[1] WHEN '{' THEN 1 ELSE -1 END)\n"
    "        OVER (ORDER BY b.i)\n"
    "      FROM pg_catalog.regexp_matches(\n"
    "        pg_catalog.regexp_replace(r.ev_action::pg_catalog.text, '\\\\.', '', 'g'),\n"
    "        '([{}])([^{}]*)', 'g') WITH ORDINALITY AS b(part, i)\n"
    "    ) AS d(text, depth),\n"
    "    pg_catalog.regexp_match(d.text,\n"
    "      '^ :resno (\\d+) :resname .* :resorigtbl (\\d+) :resorigcol (\\d+) ') AS m(entry)\n"
    "    WHERE d.depth = 2 AND m.entry[1]::pg_catalog.int2 = o.att\n"
    "  ) AS v(rel, att)\n"
    "  WHERE v.rel <> 0::pg_catalog.oid\n"
    "),\n"
    "columns AS (\n"
    "  SELECT o.n, o.rel, pg_catalog.pg_partition_root(o.rel)::pg_catalog.oid AS root, a.attname\n"
    "  FROM origins AS o\n"
    "  JOIN pg_catalog.pg_class AS c ON c.oid = o.rel\n"
    "    AND c.relkind = ANY (ARRAY['r', 'p', 'm']::pg_catalog.\"char\"[])\n"
    "  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.rel AND a.attnum = o.att\n"
    "),\n"
    "targets(origin, rel) AS (\n"
    "  SELECT DISTINCT c.rel, CASE WHEN plan.appends THEN c.rel\n"
    "    ELSE (SELECT pg_catalog.min(s.rel) FROM scans AS s) END\n"
    "  FROM columns AS c, plan\n"
    "  WHERE NOT EXISTS (\n"
    "    SELECT FROM scans AS s\n"
    "    WHERE s.rel IS NULL OR NOT coalesce(s.rel = c.rel OR s.root = c.root, false))\n"
    "),\n";

/* Of a column, pg_attribute AS a. */
#define NOT_NULL                                                                                   \
    "a.attnotnull AND NOT EXISTS (\n"                                                              \
    "      SELECT FROM pg_catalog.pg_constraint AS con\n"                                          \
    "      WHERE con.conrelid = a.attrelid AND con.contype = 'n'::pg_catalog.\"char\"\n"           \
    "        AND NOT con.convalidated AND con.conkey[1] = a.attnum)"

/*
 * Indexes over columns of the order. What is equal in the order must be equal in the index: its
 * operator class is the one that ORDER BY takes for the type, and an order's collation that is not
 * the index's takes no two texts for equal.
 */
static const char proofs_sql[] =
    "counted AS (\n"
    "  SELECT t.rel, a.attnum, k.type, " NOT_NULL
    " AS not_null,\n"
    "    coalesce(k.collation, a.attcollation) AS collation\n"
    "  FROM targets AS t\n"
    "  JOIN columns AS c ON c.rel = t.origin\n"
    "  JOIN keys AS k ON k.n = c.n\n"
    "  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.rel AND a.attname = c.attname\n"
    "),\n"
    "proofs AS (\n"
    "  SELECT i.indexrelid\n"
    "  FROM targets AS t\n"
    "  JOIN pg_catalog.pg_index AS i ON i.indrelid = t.rel\n"
    "  JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid\n"
    "  JOIN pg_catalog.pg_am AS am ON am.oid = c.relam AND am.amname = 'btree'::pg_catalog.name\n"
    "  WHERE i.indisunique AND i.indisvalid AND i.indisready AND i.indislive AND i.indimmediate\n"
    "    AND i.indpred IS NULL AND i.indexprs IS NULL\n"
    "    AND NOT EXISTS (\n"
    "      SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS p(at)\n"
    "      WHERE NOT EXISTS (\n"
    "        SELECT FROM counted AS k\n"
    "        JOIN pg_catalog.pg_opclass AS op ON op.oid = i.indclass[p.at] AND op.opcdefault\n"
    "        WHERE k.rel = i.indrelid AND k.attnum = i.indkey[p.at]\n"
    "          AND (k.not_null OR coalesce(pg_catalog.jsonb_extract_path_text(\n"
    "            pg_catalog.to_jsonb(i), 'indnullsnotdistinct') = 'true', false))\n"
    "          AND (op.opcintype = k.type OR NOT EXISTS (\n"
    "            SELECT FROM pg_catalog.pg_opclass AS own\n"
    "            WHERE own.opcmethod = op.opcmethod AND own.opcdefault\n"
    "              AND own.opcintype = k.type))\n"
    "          AND (k.collation = 0::pg_catalog.oid OR k.collation = i.indcollation[p.at]\n"
    "            OR EXISTS (\n"
    "            SELECT FROM pg_catalog.pg_collation AS co\n"
    "            WHERE co.oid = k.collation AND co.collisdeterministic))))\n"
    "),\n";

/*
 * What is called: by what the plan puts out, where an order column may come from there (n = 0), and
 * by each expression of the order. As the server writes them: its syntax has capitals, names have
 * not. Strings are taken out first, and names of columns where words are looked for.
 */
static const char calls_sql[] =
    "texts(n, text) AS (\n"
    "  SELECT 0, pg_catalog.regexp_replace(\n"
    "    pg_catalog.jsonb_extract_path_text(o.text, VARIADIC '{}'::pg_catalog.text[]),\n"
    "    '(\"(?:[^\"]|\"\")*\")|''(?:[^'']|'''')*''', '\\1', 'g')\n"
    "  FROM pg_catalog.jsonb_path_query($1::pg_catalog.text::pg_catalog.jsonb,\n"
    "    '$.**.Output[*]') AS o(text)\n"
    "  WHERE (SELECT pg_catalog.count(DISTINCT n) FROM columns)\n"
    "    <> (SELECT pg_catalog.count(*) FROM keys)\n"
    "  UNION\n"
    "  SELECT n, pg_catalog.regexp_replace(\n"
    "    value, '(\"(?:[^\"]|\"\")*\")|''(?:[^'']|'''')*''', '\\1', 'g')\n"
    "  FROM keys WHERE pg_catalog.left(value, 1) = '('\n"
    "),\n"
    "calls(n, schema, name) AS (\n"
    "  SELECT DISTINCT t.n,\n"
    "    pg_catalog.replace(pg_catalog.btrim(m.part[1], '\"'), '\"\"', '\"'),\n"
    "    CASE WHEN t.n = 0 OR pg_catalog.left(m.part[2], 1) = '\"'\n"
    "      THEN pg_catalog.replace(pg_catalog.btrim(m.part[2], '\"'), '\"\"', '\"')\n"
    "      ELSE pg_catalog.lower(m.part[2]) END\n"
    "  FROM texts AS t, pg_catalog.regexp_matches(t.text,\n"
    "    '(?:(\"(?:[^\"]|\"\")+\"|[[:alpha:]_][[:alnum:]_$]*)\\.)?'\n"
    "    '(\"(?:[^\"]|\"\")+\"|[[:alpha:]_][[:alnum:]_$]*)\\s*\\(', 'g') AS m(part)\n"
    "),\n"
    "functions AS (\n"
    "  SELECT c.n, c.name,\n"
    "    pg_catalog.bool_and(p.provolatile = 'v'::pg_catalog.\"char\") AS volatile,\n"
    "    pg_catalog.bool_and(p.provolatile = 'i'::pg_catalog.\"char\") AS immutable,\n"
    "    pg_catalog.bool_or(s.nspname = 'pg_catalog'::pg_catalog.name) AS builtin\n"
    "  FROM calls AS c\n"
    "  JOIN pg_catalog.pg_proc AS p ON p.proname = c.name::pg_catalog.name\n"
    "  JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace\n"
    "  WHERE p.prorettype <> 'pg_catalog.void'::pg_catalog.regtype::pg_catalog.oid\n"
    "    AND CASE WHEN c.schema IS NULL THEN pg_catalog.pg_function_is_visible(p.oid)\n"
    "    ELSE s.nspname = c.schema::pg_catalog.name END\n"
    "  GROUP BY c.n, c.name\n"
    "),\n"
    "moves(what) AS (\n"
    "  SELECT name || '()' FROM functions\n"
    "  WHERE n = 0 AND (volatile OR (builtin AND name IN ('now', 'transaction_timestamp',\n"
    "    'statement_timestamp', 'txid_current', 'pg_current_xact_id', 'pg_backend_pid',\n"
    "    'mxid_age')))\n"
    "  UNION ALL\n"
    "  SELECT m.part[1]\n"
    "  FROM texts AS t, pg_catalog.regexp_matches(\n"
    "    pg_catalog.regexp_replace(t.text, '\"(?:[^\"]|\"\")*\"', '', 'g'),\n"
    "    '\\m(CURRENT_TIMESTAMP|CURRENT_DATE|CURRENT_TIME|LOCALTIMESTAMP|LOCALTIME)\\M', 'g')\n"
    "    AS m(part)\n"
    "  WHERE t.n = 0\n"
    "  UNION ALL\n"
    "  SELECT 'age()' FROM texts\n"
    "  WHERE n = 0 AND text ~ '\\mage\\((?:[^,()]|\\([^()]*\\))*\\)'\n"
    "),\n";

/* Expressions that no index can have, or may not: of casts and operators it depends on the types.
 */
static const char mutable_sql[] =
    "mutable(n) AS (\n"
    "  SELECT n FROM functions WHERE n > 0 AND NOT immutable\n"
    "  UNION ALL\n"
    "  SELECT n FROM texts\n"
    "  WHERE n > 0 AND pg_catalog.regexp_replace(text, '\"(?:[^\"]|\"\")*\"', '', 'g')\n"
    "    ~* "
    "'::|\\m(cast|current_timestamp|current_date|current_time|localtimestamp|localtime)\\M'\n"
    "  UNION ALL\n"
    "  SELECT t.n\n"
    "  FROM texts AS t\n"
    "  JOIN keys AS k ON k.n = t.n,\n"
    "  LATERAL pg_catalog.regexp_matches(t.text, '[-+*/<>=~!@#%^&|`?]+', 'g') AS m(name)\n"
    "  JOIN pg_catalog.pg_operator AS o ON o.oprname = m.name[1]::pg_catalog.name\n"
    "  JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode::pg_catalog.oid\n"
    "  WHERE o.oprresult = k.type AND p.provolatile <> 'i'::pg_catalog.\"char\"\n"
    "),\n";

/*
 * The row. In it a type whose order is not that of "<", "=" and ">": ORDER BY takes the
 * operators of the type's own operator class, wherever they are, while those of a page's conditions
 * are looked for along search_path, and another type's may be found, with another order.
 */
static const char verdict_sql[] =
    "verdict(why) AS MATERIALIZED (\n"
    "  SELECT CASE\n"
    "    WHEN stranger IS NOT NULL OR NOT EXISTS (SELECT FROM nodes) THEN 'node'\n"
    "    WHEN loose > 1 OR (loose > 0 AND appends) THEN 'several'\n"
    "    WHEN NOT appends AND NOT EXISTS (SELECT FROM scans) THEN 'total'\n"
    "    WHEN EXISTS (SELECT FROM scans WHERE times > 1)\n"
    "      OR (SELECT pg_catalog.count(DISTINCT coalesce(root, rel)) FROM scans) > 1\n"
    "      THEN 'several'\n"
    "    WHEN NOT EXISTS (SELECT FROM columns) THEN 'column'\n"
    "    WHEN NOT EXISTS (SELECT FROM targets) THEN 'several'\n"
    "    WHEN EXISTS (SELECT FROM proofs) THEN 'total'\n"
    "    ELSE 'key' END\n"
    "  FROM plan\n"
    ")\n"
    "SELECT why,\n"
    "  CASE why WHEN 'node' THEN stranger WHEN 'key' THEN (\n"
    "    SELECT pg_catalog.min(c.relname::pg_catalog.text)\n"
    "    FROM targets AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.rel) END,\n"
    "  sorts,\n"
    "  (SELECT pg_catalog.string_agg(CASE WHEN t.typtype = 'c'::pg_catalog.\"char\"\n"
    "      THEN '1' ELSE '0' END,\n"
    "    '' ORDER BY k.n)\n"
    "   FROM keys AS k LEFT JOIN pg_catalog.pg_type AS t ON t.oid = k.type),\n"
    "  EXISTS (SELECT FROM scans)\n"
    "    AND (appends OR NOT EXISTS (SELECT FROM scans WHERE root IS NOT NULL))\n"
    "    AND NOT joins,\n"
    "  (SELECT pg_catalog.min(pg_catalog.format_type(k.type, NULL))\n"
    "   FROM keys AS k\n"
    "   JOIN pg_catalog.pg_opclass AS op ON op.opcdefault AND op.opcintype = k.type\n"
    "   JOIN pg_catalog.pg_am AS am\n"
    "     ON am.oid = op.opcmethod AND am.amname = 'btree'::pg_catalog.name\n"
    "   JOIN pg_catalog.pg_amop AS a ON a.amopfamily = op.opcfamily\n"
    "     AND a.amoplefttype = k.type AND a.amoprighttype = k.type\n"
    "   JOIN pg_catalog.pg_operator AS o ON o.oid = a.amopopr\n"
    "   WHERE a.amopstrategy <> 2 AND a.amopstrategy <> 4\n"
    "     AND NOT (pg_catalog.pg_operator_is_visible(o.oid) AND o.oprname = CASE a.amopstrategy\n"
    "       WHEN 1 THEN '<'::pg_catalog.name WHEN 3 THEN '=' ELSE '>' END)),\n"
    "  (SELECT pg_catalog.min(what) FROM moves),\n"
    "  NOT EXISTS (SELECT FROM mutable),\n"
    "  (SELECT pg_catalog.string_agg(coalesce(\n"
    "      '\"' || pg_catalog.replace(s.nspname::pg_catalog.text, '\"', '\"\"') || '\".\"'\n"
    "      || pg_catalog.replace(co.collname::pg_catalog.text, '\"', '\"\"') || '\"', ''),\n"
    "    ',' ORDER BY k.n)\n"
    "   FROM keys AS k\n"
    "   LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = k.collation\n"
    "   LEFT JOIN pg_catalog.pg_namespace AS s ON s.oid = co.collnamespace),\n"
    "  (SELECT pg_catalog.string_agg(CASE WHEN keeps AND EXISTS (\n"
    "      SELECT FROM columns AS c\n"
    "      JOIN pg_catalog.pg_class AS t ON t.oid = c.rel AND NOT (t.relhassubclass\n"
    "        AND t.relkind <> 'p'::pg_catalog.\"char\")\n"
    "      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.rel AND a.attname = c.attname\n"
    "      JOIN scans AS s ON s.rel = c.rel OR s.root = c.root\n"
    "      WHERE c.n = k.n AND " NOT_NULL
    ") THEN '1' ELSE '0' END, '' ORDER BY k.n)\n"
    "   FROM keys AS k)\n"
    "FROM verdict, plan\n";

/* In pieces: C promises strings of 4,095 bytes. */
char *evpq__verdict_sql(void)
{
    return evpq__format("%s%s%s%s%s%s%s", nodes_sql, tables_sql, origins_sql, proofs_sql, calls_sql,
                        mutable_sql, verdict_sql);
}

/* What a node says about where rows come from. */
static const char *node_words(const char *node)
{
    static const struct {
        const char *node, *words;
    } known[] = {
        {"Nested Loop", "the statement joins"},
        {"Hash Join", "the statement joins"},
        {"Merge Join", "the statement joins"},
        {"Aggregate", "the statement groups rows"},
        {"Group", "the statement groups rows"},
        {"Unique", "the statement makes rows distinct"},
        {"SetOp", "the statement makes rows distinct"},
        {"CTE Scan", "its rows come from a WITH query that is kept"},
        {"Recursive Union", "its rows come from a WITH query that is kept"},
        {"Values Scan", "its rows come from VALUES"},
        {"Function Scan", "its rows come from a function"},
        {"Table Function Scan", "its rows come from a function"},
        {"ProjectSet", "its rows come from a function"},
        {"Foreign Scan", "its rows come from a foreign table"},
    };
    for (size_t i = 0; node && i < sizeof(known) / sizeof(*known); i++)
        if (strcmp(known[i].node, node) == 0)
            return known[i].words;
    return NULL;
}

static void put_words(char *out, size_t capacity, const char *why, const char *of)
{
    const char *words = strcmp(why, "node") == 0 ? node_words(of) : NULL;
    if (words)
        snprintf(out, capacity, "%s", words);
    else if (strcmp(why, "key") == 0)
        snprintf(out, capacity,
                 "no unique, not-null key of table \"%s\" is among the order columns", of);
    else if (strcmp(why, "column") == 0)
        snprintf(out, capacity, "no order column is a column of a table");
    else if (strcmp(why, "several") == 0)
        snprintf(out, capacity, "its rows come from several tables");
    else
        snprintf(out, capacity, "its plan has a node \"%s\"", of);
}

void evpq__verdict_set_partial(struct evpq_error *err, const char *why, const char *of)
{
    char words[256], message[320];
    put_words(words, sizeof(words), why, of ? of : "?");
    snprintf(message, sizeof(message), "the order may not be total: %s", words);
    evpq__error_set_report(
        err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
        &(struct evpq__server_report){
            .message = message,
            .hint = "add a unique, not-null column to order_by, or set assume_unique (evpq-page: "
                    "--assume-unique) when you know that no two rows are equal in all order "
                    "columns"});
}

void evpq__verdict_set_foreign(struct evpq_error *err, const char *type)
{
    char message[256];
    snprintf(
        message, sizeof(message),
        "the operators by which \"%s\" is ordered are not called <, = and >, or are not on the "
        "search_path",
        type);
    evpq__error_set_report(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                           &(struct evpq__server_report){
                               .message = message,
                               .hint = "add the schema of the type to the search_path of the "
                                       "connection, or order by an expression of another type",
                           });
}

void evpq__verdict_set_record(struct evpq_error *err)
{
    evpq__error_set_report(
        err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
        &(struct evpq__server_report){
            .message = "an order column is a ROW(...) without a type of its own: the server takes "
                       "no such value back as the start of a page",
            .hint = "order by its columns one by one, or cast it to a composite type",
        });
}

void evpq__verdict_set_moves(struct evpq_error *err, const char *what)
{
    char message[256];
    snprintf(message, sizeof(message),
             "values of the order change from page to page: they are made with %s", what);
    evpq__error_set_report(
        err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
        &(struct evpq__server_report){
            .message = message,
            .hint = "order by columns of tables, for example by created_at DESC instead of now() - "
                    "created_at; a function that keeps its result can be declared STABLE",
        });
}

/* For an index with these columns. */
static void put_index_hint(char *hint, size_t capacity, const struct evpq__keyset *keyset)
{
    size_t length = (size_t)snprintf(hint, capacity, "create an index on (");
    for (size_t i = 0; i < keyset->count; i++) {
        const struct evpq__key *key = &keyset->keys[i];
        const char *nulls = key->nulls_first ? " NULLS FIRST" : " NULLS LAST";
        length += (size_t)snprintf(hint + length, capacity - length, "%s%s%s%s%s", i ? ", " : "",
                                   evpq__key_value(keyset, i), evpq__key_collate(keyset, i),
                                   key->descending ? " DESC" : "",
                                   key->nulls_first == key->descending ? "" : nulls);
    }
    snprintf(hint + length, capacity - length, ")");
}

void evpq__verdict_set_sorts(struct evpq_error *err, const struct evpq__keyset *keyset,
                             bool indexable)
{
    char hint[EVPQ__ORDER_TEXT + EVPQ__KEYS_MAX * 32] =
        "order by columns that an index has: an expression of the order may not be immutable, and "
        "then no index can have it";
    if (indexable)
        put_index_hint(hint, sizeof(hint), keyset);
    evpq__error_set_report(err, EVPQ_EINVALID, EVPQ_ROLLED_BACK,
                           &(struct evpq__server_report){
                               .message = "no index serves this order",
                               .hint = hint,
                           });
}
