/* SPDX-License-Identifier: MIT */
/* Section F of the catalogue: long walks among dying backends, and names that are no names. */
#include "support/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "live/page_step.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* F56: each row once, whatever becomes of the connections. */

struct long_walk {
    struct ledger *ledger;
    struct step step;
    evpq_pager *pager;
    char token[4097]; /* behind the last good page */
    uint32_t page_size;
    size_t prefetch_bytes;
    int64_t last;
    int pages, lost, resumed;
};

/* As another process would: all that it has is the token. */
static void resume(struct long_walk *walk)
{
    evpq_pager_close(walk->pager);
    walk->pager = opened(&walk->ledger->live,
                         EVPQ_PAGER_OPTIONS(.sql = "SELECT id, day FROM walk_rows",
                                            .order_by = "day DESC, id", .format = EVPQ_BINARY,
                                            .page_size = walk->page_size, .timeout_ms = 5000,
                                            .prefetch_bytes = walk->prefetch_bytes,
                                            .after = walk->token[0] ? walk->token : NULL));
    walk->resumed++;
}

/* False at the end. */
static bool take_page(struct long_walk *walk)
{
    struct step *step = &walk->step;
    next(&walk->ledger->live, walk->pager, step);
    if (step->code != EVPQ_OK) {
        if (step->code != EVPQ_EDISCONNECTED && step->code != EVPQ_ECONNECT)
            fail_msg("%s: %s", evpq_code_name(step->code), step->message);
        walk->lost++;
        resume(walk);
        return true;
    }
    walk->pages++;
    /* In that order the numbers are 1, 2, 3 ... */
    for (uint32_t row = 0; row < step->rows; row++) {
        int64_t id = int8_at(step->result, row, "id");
        if (id != ++walk->last)
            fail_msg("row %lld came instead of %lld, on page %d after %d losses", (long long)id,
                     (long long)walk->last, walk->pages, walk->lost);
    }
    snprintf(walk->token, sizeof(walk->token), "%s", step->token);
    if (walk->pages % 37 == 0)
        resume(walk);
    return step->has_next;
}

static void each_row_comes_once_while_backends_die(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    static const uint32_t sizes[] = {100, 1000, 10000};
    int64_t rows = live_scaled(fault_long() ? 1000000 : 300000);
    char sql[300];
    snprintf(sql, sizeof(sql),
             "CREATE UNLOGGED TABLE walk_rows AS SELECT i::int8 AS id, date '2020-01-01' - i / 7 "
             "AS day FROM generate_series(1, %lld) AS i",
             (long long)rows);
    fault_sql(server, sql);
    fault_sql(server, "CREATE UNIQUE INDEX ON walk_rows (day DESC, id)");
    fault_sql(server, "ALTER TABLE walk_rows ALTER day SET NOT NULL, ALTER id SET NOT NULL");
    fault_sql(server, "GRANT SELECT ON walk_rows TO evpq");
    for (size_t i = 0; i < COUNT(sizes) && 3 * sizes[i] < rows; i++) {
        struct ledger ledger;
        struct long_walk walk = {.ledger = &ledger, .page_size = sizes[i]};
        ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 2, .acquire_timeout_ms = 3000));
        ledger_load(&ledger, 100., LEDGER_WRITE(.timeout_ms = 5000));
        snprintf(sql, sizeof(sql),
                 "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                 "application_name = '%s' AND state = 'active' AND random() < 0.7",
                 ledger.application);
        resume(&walk);
        assert_true(take_page(&walk));
        double start = live_now();
        assert_true(take_page(&walk));
        /* Not faster than this machine pages, with room for a proof: or none would ever come. */
        double period = 3. * (live_now() - start);
        struct fault_every *killer = fault_every(server, sql, period > 0.005 ? period : 0.005);
        while (take_page(&walk))
            if (live_now() - start > 60. * live_slow())
                fail_msg("after a minute: row %lld, %d pages, %d lost", (long long)walk.last,
                         walk.pages, walk.lost);
        double took = live_now() - start;
        struct fault_tally kills = fault_every_end(killer);
        evpq_pager_close(walk.pager);
        step_clear(&walk.step);
        ledger_figure(
            "%lld rows by pages of %u in %.1f s: %d pages, %lld backends terminated, %d "
            "pages lost, %d times resumed",
            (long long)rows, sizes[i], took, walk.pages, (long long)kills.sum, walk.lost,
            walk.resumed);
        assert_int_equal(walk.last, rows);
        /* A few rows are paged over before anything is killed. */
        if (sizes[i] == 100 && rows >= 300000)
            assert_true(walk.lost > 0 || live_slow() > 1.);
        ledger_load(&ledger, 0., NULL);
        /* Ten thousand rows in one turn. */
        ledger.turn_cpu = 0.050;
        ledger_check(&ledger);
    }
    fault_sql(server, "DROP TABLE walk_rows");
}

/* A server that starts again in the middle of a walk, a page fetched ahead or not. */
static void each_row_comes_once_while_the_server_restarts(void **state)
{
    (void)state;
    struct fault_server *server = fault_server();
    enum { ROWS = 5000, RESTARTS = 4 };
    char sql[300];
    /* Logged: what is not would be empty after a crash. */
    snprintf(sql, sizeof(sql),
             "DROP TABLE IF EXISTS walk_rows; CREATE TABLE walk_rows AS SELECT i::int8 AS id, "
             "date '2020-01-01' - i / 7 AS day FROM generate_series(1, %d) AS i",
             ROWS);
    fault_sql(server, sql);
    fault_sql(server, "ALTER TABLE walk_rows ADD PRIMARY KEY (id), ALTER day SET NOT NULL");
    fault_sql(server, "GRANT SELECT ON walk_rows TO evpq");
    for (int ahead = 0; ahead < 2; ahead++) {
        struct ledger ledger;
        struct long_walk walk = {
            .ledger = &ledger, .page_size = 200, .prefetch_bytes = ahead ? 1 << 20 : 0};
        ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 2, .acquire_timeout_ms = 3000));
        resume(&walk);
        int restarts = 0;
        do
            if (walk.pages / 5 > restarts && restarts < RESTARTS)
                fault_server_restart(server, restarts++ % 2 ? FAULT_IMMEDIATE : FAULT_FAST);
        while (take_page(&walk));
        evpq_pager_close(walk.pager);
        step_clear(&walk.step);
        ledger_figure("%d rows, %s: %d restarts, %d pages lost, %d times resumed", ROWS,
                      ahead ? "fetched ahead" : "not fetched ahead", restarts, walk.lost,
                      walk.resumed);
        assert_int_equal(walk.last, ROWS);
        assert_int_equal(restarts, RESTARTS);
        ledger_check(&ledger);
    }
    fault_sql(server, "DROP TABLE walk_rows");
}

/* F63: names of columns. */

static void quote(char *to, const char *name)
{
    *to++ = '"';
    for (; *name; name++) {
        if (*name == '"')
            *to++ = '"';
        *to++ = *name;
    }
    strcpy(to, "\"");
}

static const char name_of_63[] = "abcdefghijklmnopqrstuvwxyz0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ";

static void walk_by(struct live *live, const char *name)
{
    char quoted[200], sql[300], order_by[240];
    struct step step = {0};
    int64_t last = 0;
    quote(quoted, name);
    snprintf(sql, sizeof(sql), "SELECT i::int8 AS %s FROM generate_series(1, 25) AS i", quoted);
    snprintf(order_by, sizeof(order_by), "%s ASC", quoted);
    evpq_pager *pager = opened(live, EVPQ_PAGER_OPTIONS(.sql = sql, .order_by = order_by,
                                                        .page_size = 10, .assume_unique = true));
    do {
        next_good(live, pager, &step);
        for (uint32_t row = 0; row < step.rows; row++)
            assert_int_equal(int8_at(step.result, row, name), ++last);
    } while (step.has_next);
    assert_int_equal(last, 25);
    evpq_pager_close(pager);
    step_clear(&step);
}

static const char *const names[] = {
    "\"; DROP TABLE victim; --",
    "') ; DROP TABLE victim; --",
    "id\n; DROP TABLE victim; --",
    "a\"b",
    "\"\"",
    "'",
    "\\",
    "a,b",
    "id DESC",
    "$1",
    "%s%n%d",
    "select",
    "order",
    "evpq_page",
    "COLLATE",
    "/* */",
    "Gr\xc3\xbcn",
    "\xe2\x82\xac \xf0\x9f\x90\x98",
    " ",
    name_of_63,
};

/* Neither a name nor an expression that ends where it ends. */
static const char *const no_names[] = {
    "id; DROP TABLE victim",
    "id) DROP TABLE victim",
    "lower(id)) FROM victim; DROP TABLE victim; (",
    "lower(id); DROP TABLE victim",
    "(id",
    "[id)",
    "id -- ",
    "id /* */",
    "(id) -- ",
    "(id /* ) */)",
    "(SELECT 1)",
    "(id + (TABLE victim))",
    "(WITH a AS (DELETE FROM victim RETURNING 1) TABLE a)",
    "('a\\' || ')')",
    "(E'\\'; DROP TABLE victim; --')",
    "(b'1')",
    "(U&\"id\")",
    "($$a$$)",
    "($a$)$a$)",
    "(id {)",
    "'id",
    "\"id",
    "id\"",
    "\"id\" \"id\"",
    "\"\"",
    "",
    "1",
    "id, id",
    "id ASC DESC",
    "id NULLS",
    "id COLLATE",
    "id COLLATE \"C\" DROP",
    "id USING >",
    "id,",
    ",id",
    "a, b, c, d, e, f, g, h, i",
    "abcdefghijklmnopqrstuvwxyz0123456789_abcdefghijklmnopqrstuvwxyz_64",
    "\"abcdefghijklmnopqrstuvwxyz0123456789_abcdefghijklmnopqrstuvwxyz_64\"",
};

/* Where the server can say what it has been asked: nothing but pages, and what its catalogs say of
 * their order, by parameters. */
static void check_shapes(struct fault_server *server)
{
    static const char of_ours[] =
        "FROM pg_stat_statements AS s JOIN pg_roles AS r ON r.oid = s.userid WHERE rolname = "
        "'evpq'";
    char sql[400];
    snprintf(sql, sizeof(sql), "SELECT count(*) %s AND query LIKE '%%evpq_page%%'", of_ours);
    int64_t pages = fault_sql(server, sql);
    snprintf(sql, sizeof(sql),
             "SELECT count(*) %s AND query NOT LIKE '%%evpq_page%%' AND query NOT ILIKE 'SET %%' "
             "AND query NOT LIKE 'WITH RECURSIVE%%pg_catalog%%' "
             "AND query NOT LIKE 'SELECT set_config%%' AND query NOT LIKE 'SELECT pg_catalog.%%'",
             of_ours);
    int64_t others = fault_sql(server, sql);
    print_message("# the server has seen %lld shapes of pages, and %lld others\n", (long long)pages,
                  (long long)others);
    /* A first page and one behind a boundary; it does not tell names apart. */
    assert_true(pages >= 2);
    assert_int_equal(others, 0);
}

static void names_of_columns_are_names_or_refused(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    bool statements = fault_sql(server,
                                "SELECT count(*) FROM pg_available_extensions WHERE name = "
                                "'pg_stat_statements'") > 0;
    if (statements) {
        fault_server_set(server, "shared_preload_libraries", "pg_stat_statements");
        fault_server_restart(server, FAULT_FAST);
        fault_sql(server, "CREATE EXTENSION pg_stat_statements");
    } else {
        print_message("the server has no pg_stat_statements to say what it was asked\n");
    }
    fault_sql(server, "CREATE TABLE victim AS SELECT generate_series(1, 3)");
    fault_sql(server, "ALTER TABLE victim OWNER TO evpq");
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (size_t i = 0; i < COUNT(names); i++)
        walk_by(&ledger.live, names[i]);
    for (size_t i = 0; i < COUNT(no_names); i++) {
        evpq_pager *pager = NULL;
        const evpq_pager_options *options =
            EVPQ_PAGER_OPTIONS(.sql = "TABLE victim", .order_by = no_names[i]);
        const char *problem = evpq_pager_options_problem(options);
        if (!problem)
            fail_msg("taken for a name: %s", no_names[i]);
        assert_int_equal(evpq_pager_open(&pager, ledger.live.pool, options), EVPQ_EINVALID);
        assert_null(pager);
    }
    assert_int_equal(fault_sql(server, "SELECT count(*) FROM victim"), 3);
    if (statements)
        check_shapes(server);
    ledger_check(&ledger);
    fault_sql(server, "DROP TABLE victim");
    if (statements)
        fault_sql(server, "DROP EXTENSION pg_stat_statements");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_comes_once_while_backends_die),
        cmocka_unit_test(each_row_comes_once_while_the_server_restarts),
        cmocka_unit_test(names_of_columns_are_names_or_refused),
    };
    return cmocka_run_group_tests_name("data walk", tests, NULL, NULL);
}
