/* SPDX-License-Identifier: MIT */
/* What else is found out of an order before its first page: indexes, types; and what becomes of a
 * proof that fails, takes too long or is stopped. */
#include <pthread.h>

#include "page_proof.h"
#include "page_step.h"
#include "support/pooler.h"

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

    /* No index can have an expression that is not immutable. */
    static const struct {
        const char *order_by;
        bool indexable;
    } expressions[] = {
        {"lower(a), b", true},
        {"coalesce(a, 'x::date(now'), b + 1", true},
        {"a::int, b", false},
        {"cast(a AS int), b", false},
        {"to_date(a, 'YYYY'), b", false},
        {"to_timestamp(b) + '1 day', a", false},
        {"extract(day from to_timestamp(b)), a", false},
    };
    for (size_t i = 0; i < COUNT(expressions); i++) {
        fill(&q, &live, "TABLE evpq_proof.loose", expressions[i].order_by);
        q.ask.index = true;
        prove(&live, &proof, &q);
        assert_string_equal(proof.message, no_index);
        if ((strstr(proof.hint, "create an index on (") != NULL) != expressions[i].indexable)
            fail_msg("%s: %s", expressions[i].order_by, proof.hint);
    }

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
    fill(&q, &live,
         "SELECT *, ROW(1, id)::evpq_proof.pair AS r, ARRAY[pair] AS pairs FROM evpq_proof.t",
         "pair, id, pair_d DESC, r, pairs, name, (t_row)");
    q.paged.sql =
        "SELECT *, ROW(1, id)::evpq_proof.pair AS r, ARRAY[pair] AS pairs, t AS t_row FROM "
        "evpq_proof.t";
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

static void keys_that_are_never_null_are_told(void **state)
{
    (void)state;
    struct live live;
    struct proof proof;
    static const struct {
        const char *sql, *order_by, *not_null;
    } cases[] = {
        {"TABLE evpq_proof.t", "id, maybe, name DESC, lower(name), (grp)", "10101"},
        {"SELECT grp AS id, id AS maybe FROM evpq_proof.t LIMIT 5", "id, maybe", "11"},
        {"TABLE evpq_proof.vv", "a, b, m, next", "1100"},
        {"TABLE evpq_proof.log", "ts, id", "11"},
        {"TABLE evpq_proof.log_21_b", "ts, id", "11"},
        {"TABLE evpq_proof.parent", "id", "0"}, /* of a child it need not be so */
        {"TABLE evpq_proof.child", "id", "1"},
        {"SELECT t.id, u.a FROM evpq_proof.t JOIN evpq_proof.two AS u ON u.b = t.grp", "id, a",
         "11"},
        {"SELECT t.id, u.a FROM evpq_proof.t LEFT JOIN evpq_proof.two AS u ON u.b = t.grp", "id, a",
         "00"},
        {"SELECT t.id, u.a FROM evpq_proof.two AS u RIGHT JOIN evpq_proof.t ON false", "id, a",
         "00"},
        {"SELECT t.id, u.a FROM evpq_proof.t LEFT JOIN evpq_proof.two AS u ON u.b = t.grp WHERE "
         "u.a "
         "IS NULL",
         "a", "0"},
        {"SELECT t.id, u.a FROM evpq_proof.t FULL JOIN evpq_proof.two AS u ON u.b = t.grp", "id, a",
         "00"},
        {"TABLE evpq_proof.outer_joined", "id, a", "00"},
        {"SELECT * FROM evpq_proof.t WHERE EXISTS (SELECT FROM evpq_proof.two WHERE a = id)", "id",
         "1"},
        {"SELECT id, grp FROM evpq_proof.t GROUP BY ROLLUP (id, grp)", "id, grp", "00"},
        {"WITH w AS MATERIALIZED (TABLE evpq_proof.outer_joined) TABLE w", "a", "0"},
        {"SELECT id FROM evpq_proof.t UNION ALL SELECT NULL", "id", "0"},
        {"SELECT x.* FROM evpq_proof.two AS u, LATERAL (SELECT u.a AS id) AS x", "id", "1"},
        {"SELECT * FROM evpq_proof.empty WHERE false", "id", "0"},
    };
    aside_int8(
        "CREATE OR REPLACE VIEW evpq_proof.outer_joined AS SELECT t.id, u.a FROM "
        "evpq_proof.t LEFT JOIN evpq_proof.two AS u ON u.b = t.grp");
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct question q = {0};
        fill(&q, &live, cases[i].sql, cases[i].order_by);
        prove(&live, &proof, &q);
        assert_int_equal(proof.code, EVPQ_OK);
        for (size_t k = 0; k < q.keyset.count; k++)
            if (proof.facts.not_null[k] != (cases[i].not_null[k] == '1'))
                fail_msg("%s: %s, key %zu", cases[i].sql, cases[i].order_by, k + 1);
    }
    live_close(&live);
}

/*
 * A type that looks like text and is ordered without regard to case, by operators of its own; where
 * they are not on the search_path, a page would compare texts, and lose rows.
 */
static void operators_that_are_not_found_are_refused(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    if (aside_int8("SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'") == 0)
        skip();
    aside_int8("CREATE SCHEMA evpq_hidden");
    aside_int8("CREATE EXTENSION IF NOT EXISTS citext SCHEMA evpq_hidden");
    aside_int8(
        "CREATE TABLE evpq_hidden.words AS SELECT w::evpq_hidden.citext AS word FROM "
        "unnest(ARRAY['a', 'B', 'c', 'D']) AS w");
    for (int visible = 0; visible < 2; visible++) {
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1,
                                           .conninfo = live_conninfo_with(
                                               visible ? "options=-csearch_path=public,evpq_hidden"
                                                       : "options=-csearch_path=public")));
        evpq_pager *pager =
            opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT word FROM evpq_hidden.words",
                                             .order_by = "word", .page_size = 1,
                                             .assume_unique = true, .prefetch_bytes = 1000));
        next(&live, pager, &step);
        if (!visible) {
            assert_int_equal(step.code, EVPQ_EINVALID);
            assert_non_null(strstr(step.message, "citext"));
        } else {
            static const char *const words[] = {"B", "c", "D"};
            assert_int_equal(step.code, EVPQ_OK);
            for (size_t i = 0; i < COUNT(words); i++) {
                evpq_text_view text;
                next_good(&live, pager, &step);
                assert_int_equal(evpq_result_text(step.result, 0, 0, &text), EVPQ_OK);
                assert_string_equal(text.data, words[i]);
            }
        }
        evpq_pager_close(pager);
        step_clear(&step);
        live_close(&live);
    }
    aside_int8("DROP SCHEMA evpq_hidden CASCADE");
}

/* ---- the user's errors ---- */

static void errors_of_the_statement_are_told_as_the_users(void **state)
{
    (void)state;
    struct live live;
    static const char outside[] =
        "an order column is a column of the statement: add it to the SELECT, and leave it out of "
        "columns (evpq-page: --columns) when it is not to be handed over";
    static const char only[] =
        "it takes one SELECT (or TABLE, VALUES, WITH), and runs it as a subquery";
    static const char unbalanced[] =
        "a parenthesis of the statement is not closed, or was not opened";
    static const struct {
        const char *sql, *order_by, *sqlstate, *hint;
        uint32_t position;
    } cases[] = {
        {"SELECT nowhere", "a", "42703", "", 8},
        {"SELECT '\u00e4\u20ac', nowhere", "a", "42703", "", 14},
        {"SELECT 1 AS a", "b", "42703", outside, 0},
        {"SELECT name FROM evpq_proof.t", "id", "42703", outside, 0},
        {"SELECT grp AS idx FROM evpq_proof.t", "grp, id + 1", "42703", outside, 0},
        {"SELECT 1 AS a, 2 AS a", "a", "42702", "", 0},
        {"INSERT INTO evpq_proof.loose VALUES (1)", "a", "42601", only, 8},
        {"-- x\n/* /* y */ */ DELETE FROM evpq_proof.t RETURNING id", "id", "42601", only, 0},
        {"SELECT 1 AS a; SELECT 2", "a", "42601", only, 14},
        {"((SELECT 1 AS a", "a", "42601", unbalanced, 0},
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

/* The quickest of three. */
static double proof_takes(struct live *live, struct question *q)
{
    double best = 60.;
    for (int i = 0; i < 3; i++) {
        struct proof proof;
        double start_s = live_now();
        prove(live, &proof, q);
        double took = live_now() - start_s;
        assert_int_equal(proof.code, EVPQ_OK);
        best = took < best ? took : best;
    }
    return best;
}

/* Planner methods that are off make a statement look dear, and the server compiles dear ones. */
static void an_index_is_looked_for_without_compiling(void **state)
{
    (void)state;
    struct live live;
    struct question q = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    fill(&q, &live, "TABLE evpq_proof.t", "id");
    q.ask.unique = true;
    double without = proof_takes(&live, &q);
    q.ask.index = true;
    double with = proof_takes(&live, &q);
    print_message("# figure: a proof takes %.1f ms, with an index %.1f ms\n", without * 1e3,
                  with * 1e3);
    assert_true(with < 20. * without);
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
            struct evpq_error err = {0}, again = {0};
            evpq__proof_stop(proof.handle, whys[wait % 3], &err);
            evpq__proof_stop(proof.handle, EVPQ_ETIMEOUT, &again);
            assert_int_equal(err.code, whys[wait % 3]);
            assert_int_equal(again.code, err.code);
            evpq__error_clear(&err);
            evpq__error_clear(&again);
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
    const struct evpq__walk walk = {.digest = {1}, .statement = {3}},
                            other = {.digest = {2}, .statement = {4}};
    const struct evpq__proof_facts facts = {.composite = {1, 0, 0, 0, 0, 0, 0, 1}};
    struct evpq__proof_facts known = {.composite = {0}};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    assert_false(evpq__proof_recall(&known, live.pool, &walk, false, false));
    for (int proven = 0; proven < 4; proven++) {
        evpq__proof_remember(live.pool, &walk, proven & 1, proven & 2, &facts);
        for (int wanted = 0; wanted < 4; wanted++)
            assert_int_equal(evpq__proof_recall(&known, live.pool, &walk, wanted & 1, wanted & 2),
                             (wanted & ~proven) == 0);
    }
    assert_memory_equal(&known, &facts, sizeof(facts));
    assert_false(evpq__proof_recall(&known, live.pool, &other, false, false));
    live_close(&live);
}

/* How many connections a page takes: two where the order is proven first. */
static uint64_t acquired_by_page(struct live *live, const evpq_pager_options *options)
{
    struct step step = {0};
    uint64_t before = live_stats(live).acquired;
    evpq_pager *pager = opened(live, options);
    next_good(live, pager, &step);
    evpq_pager_close(pager);
    step_clear(&step);
    return live_stats(live).acquired - before;
}

static void other_parameters_need_no_proof_of_their_own(void **state)
{
    (void)state;
    struct live live;
    evpq_value param = evpq_int4(1);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM evpq_proof.t WHERE grp = $1", .params = &param,
                            .params_count = 1, .order_by = "id");
    assert_int_equal(acquired_by_page(&live, &options), 2);
    assert_int_equal(acquired_by_page(&live, &options), 1);
    param = evpq_int4(2);
    assert_int_equal(acquired_by_page(&live, &options), 1);
    options.require_index = true; /* a partial index may serve some of them */
    assert_int_equal(acquired_by_page(&live, &options), 2);
    param = evpq_int4(1);
    assert_int_equal(acquired_by_page(&live, &options), 2);

    /* A condition that is false leaves no table in the plan: that proves nothing for others. */
    param = evpq_int4(0);
    options.sql = "SELECT a.id FROM evpq_proof.t AS a, evpq_proof.t AS b WHERE $1 = 1";
    options.require_index = false;
    assert_int_equal(acquired_by_page(&live, &options), 2);
    param = evpq_int4(1);
    struct step step = {0};
    evpq_pager *pager = opened(&live, &options);
    next(&live, pager, &step);
    assert_int_equal(step.code, EVPQ_EINVALID);
    evpq_pager_close(pager);
    step_clear(&step);
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
        cmocka_unit_test(an_order_that_no_index_serves_is_refused_when_asked),
        cmocka_unit_test(keys_of_composite_types_are_told),
        cmocka_unit_test(keys_that_are_never_null_are_told),
        cmocka_unit_test(operators_that_are_not_found_are_refused),
        cmocka_unit_test(errors_of_the_statement_are_told_as_the_users),
        cmocka_unit_test(a_long_statement_and_any_parameters_are_proven),
        cmocka_unit_test(a_pool_of_one_is_free_when_the_proof_calls_back),
        cmocka_unit_test(the_deadline_ends_it_wherever_it_is),
        cmocka_unit_test(an_index_is_looked_for_without_compiling),
        cmocka_unit_test(stopped_at_any_step_it_calls_back_once),
        cmocka_unit_test(a_proof_ends_with_its_pool),
        cmocka_unit_test(what_was_proven_is_known_to_the_next_pager),
        cmocka_unit_test(other_parameters_need_no_proof_of_their_own),
        cmocka_unit_test(any_allocation_may_fail),
    };
    return pooler_run_group_tests_name("page_proof_steps", tests, make_schema, drop_schema);
}
