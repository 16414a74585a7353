/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_LIVE_PAGE_PROOF_H
#define EVPQ_TESTS_LIVE_PAGE_PROOF_H

/* One proof of an order at a time, waited for; and tables to prove orders of. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/lex.h"
#include "page/proof.h"
#include "support/live.h"

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

static inline void on_proof(void *user, const struct evpq__proof_facts *facts,
                            struct evpq_error *err)
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

static inline bool has_proven(struct live *live, void *arg)
{
    (void)live;
    return ((struct proof *)arg)->calls > 0;
}

static inline void fill(struct question *q, struct live *live, const char *sql,
                        const char *order_by)
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

static inline void start(struct proof *proof, const struct question *q)
{
    *proof = (struct proof){0};
    assert_int_equal(evpq__proof_start(&proof->handle, &q->ask, on_proof, proof), EVPQ_OK);
    assert_int_equal(proof->calls, 0);
}

static inline void wait_proof(struct live *live, struct proof *proof)
{
    live_until(live, has_proven, proof, 60.);
    assert_int_equal(proof->calls, 1);
}

static inline void prove(struct live *live, struct proof *proof, const struct question *q)
{
    start(proof, q);
    wait_proof(live, proof);
}

/* NULL: it is proven; else a part of the message that refuses it. */
static inline void check(struct live *live, const struct question *q, const char *refused)
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

static inline void check_total(struct live *live, const struct order *orders, size_t count)
{
    struct question q = {0};
    for (size_t i = 0; i < count; i++) {
        fill(&q, live, orders[i].sql, orders[i].order_by);
        q.ask.unique = true;
        check(live, &q, orders[i].refused);
    }
}

static inline void check_index(struct live *live, const struct order *orders, size_t count)
{
    struct question q = {0};
    for (size_t i = 0; i < count; i++) {
        fill(&q, live, orders[i].sql, orders[i].order_by);
        q.ask.unique = q.ask.index = true;
        check(live, &q, orders[i].refused);
    }
}

#define NO_KEY(table) "no unique, not-null key of table \"" table "\" is among the order columns"
#define COUNT(array)  (sizeof(array) / sizeof(*(array)))

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

static inline int make_schema(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(schema); i++)
        aside_int8(schema[i]);
    return 0;
}

static inline int drop_schema(void **state)
{
    (void)state;
    aside_int8("DROP SCHEMA IF EXISTS evpq_proof CASCADE");
    return 0;
}

static inline int64_t server_version(void)
{
    return aside_int8("SELECT current_setting('server_version_num')::int8");
}

#endif /* EVPQ_TESTS_LIVE_PAGE_PROOF_H */
