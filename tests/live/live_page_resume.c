/* SPDX-License-Identifier: MIT */
/*
 * Walks that are broken off: the backend is killed in the middle of a page, a page expires, the
 * process dies. What comes after is exactly the rest.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "page_oracle.h"
#include "support/pooler.h"

enum { ROWS = 500 };

static const char *program;
static const evpq_secret secret = {.id = 3, .bytes = "sixteen bytes, or more", .length = 22};
static const char order[] = "n DESC NULLS LAST, id";

static int make_resumed(void **state)
{
    char sql[512];
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_resumed");
    snprintf(
        sql, sizeof(sql),
        "CREATE UNLOGGED TABLE evpq_resumed AS SELECT i::int8 AS id, nullif(i %% 7, 3) AS n FROM "
        "generate_series(1, %d) AS i",
        ROWS);
    oracle_run(sql);
    oracle_run("ALTER TABLE evpq_resumed ADD PRIMARY KEY (id)");
    return 0;
}

static int drop_resumed(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_resumed");
    oracle_end();
    return 0;
}

static evpq_pager_options walk_options(const char *token, uint32_t page_size)
{
    return *EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_resumed", .order_by = order,
                               .page_size = page_size, .secrets = &secret, .secrets_count = 1,
                               .after = token && token[0] ? token : NULL);
}

/* ---- faults in the middle of a page ---- */

enum fault { NO_FAULT, KILLED, EXPIRED, CANCELLED, FAULTS };

struct broken {
    struct live *live;
    evpq_pager *pager;
    struct step step;
    PGresult *expected;
    char token[4097];
    int at, faults[FAULTS];
    bool backward, more;
};

static const char kill_all[] =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
    "application_name = 'evpq resumed' AND pid <> pg_backend_pid()";

static void hold_table(void)
{
    oracle_run("BEGIN");
    oracle_run("LOCK TABLE evpq_resumed IN ACCESS EXCLUSIVE MODE");
}

static ask_fn *way(const struct broken *b)
{
    bool at_end = b->backward && b->at == ROWS;
    return at_end ? evpq_pager_last : b->backward ? evpq_pager_prev : evpq_pager_next;
}

static void take(struct broken *b)
{
    int rows = (int)b->step.rows;
    b->at -= b->backward ? rows : 0;
    if (!page_is(&b->step, b->expected, b->at))
        fail_msg("%s: not what is next behind row %d", b->backward ? "backward" : "forward", b->at);
    b->at += b->backward ? 0 : rows;
    b->more = b->backward ? b->step.has_prev : b->step.has_next;
    strcpy(b->token, b->backward ? b->step.token_before : b->step.token);
}

static const char *token_of(const struct broken *b)
{
    const char *token =
        b->backward ? evpq_pager_token_before(b->pager) : evpq_pager_token(b->pager);
    return token ? token : "";
}

/* A page that waits for the table until it is broken off. What was fetched ahead may be there. */
static void break_page(struct broken *b, enum fault fault)
{
    evpq_op *op = NULL;
    hold_table();
    step_clear(&b->step);
    assert_int_equal(way(b)(&op, b->pager, on_page, &b->step), EVPQ_OK);
    live_run(b->live, 0.01);
    bool was_there = b->step.calls > 0;
    if (fault == KILLED)
        oracle_run(kill_all);
    if (fault == CANCELLED && !was_there)
        evpq_op_cancel(op);
    if (fault == KILLED)
        oracle_run("COMMIT");
    wait_step(b->live, &b->step);
    if (fault != KILLED)
        oracle_run("COMMIT");
    if (b->step.code == EVPQ_OK) {
        take(b);
        return;
    }
    /* One that was killed before may be noticed only now. */
    bool lost = b->step.code == EVPQ_EDISCONNECTED || b->step.code == EVPQ_ECONNECT ||
                strcmp(b->step.sqlstate, "57P01") == 0;
    /* And the new one may not be there in time. */
    bool late = b->step.code == EVPQ_ETIMEOUT;
    if (!lost && !late && (fault != CANCELLED || b->step.code != EVPQ_ECANCELED))
        fail_msg("%s: %s", evpq_code_name(b->step.code), b->step.message);
    b->faults[lost ? KILLED : late ? EXPIRED : fault]++;
    assert_string_equal(token_of(b), b->token);
}

static void check_broken(struct live *live, bool backward, size_t prefetch_bytes,
                         int faults[FAULTS])
{
    struct broken b = {.live = live, .backward = backward, .at = backward ? ROWS : 0, .more = true};
    evpq_pager_options options = walk_options(NULL, 1 + below(30));
    options.prefetch_bytes = prefetch_bytes;
    options.timeout_ms = (uint32_t)(100 * live_slow());
    b.expected = in_order("TABLE evpq_resumed", order);
    b.pager = opened(live, &options);
    while (b.more) {
        enum fault fault = one_in(4) ? 1 + below(FAULTS - 1) : NO_FAULT;
        if (fault != NO_FAULT) {
            break_page(&b, fault);
            continue;
        }
        step_clear(&b.step);
        assert_int_equal(way(&b)(NULL, b.pager, on_page, &b.step), EVPQ_OK);
        wait_step(live, &b.step);
        if (b.step.code == EVPQ_OK)
            take(&b);
        else if (b.step.code != EVPQ_ETIMEOUT && b.step.code != EVPQ_ECONNECT &&
                 b.step.code != EVPQ_EDISCONNECTED && strcmp(b.step.sqlstate, "57P01") != 0)
            fail_msg("%s: %s", evpq_code_name(b.step.code), b.step.message);
        if (!one_in(8) || b.token[0] == '\0' || !b.more)
            continue;
        /* As another process would. */
        evpq_pager_options again = options;
        *(backward ? &again.before : &again.after) = b.token;
        evpq_pager_close(b.pager);
        b.pager = opened(live, &again);
    }
    assert_int_equal(b.at, backward ? 0 : ROWS);
    for (int i = 0; i < FAULTS; i++)
        faults[i] += b.faults[i];
    evpq_pager_close(b.pager);
    step_clear(&b.step);
    PQclear(b.expected);
}

static void a_walk_goes_on_where_a_page_was_broken_off(void **state)
{
    (void)state;
    struct live live;
    int faults[FAULTS] = {0}, walks = 12;
    start_chance();
    live_open(&live,
              EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with("application_name='evpq resumed'"),
                                .max_size = 2));
    for (int i = 0; i < walks; i++)
        check_broken(&live, i & 1, i & 2 ? 1 << 20 : 0, faults);
    print_message(
        "figure: %d walks, in which %d backends were killed in a page, %d pages expired, %d "
        "were cancelled\n",
        walks, faults[KILLED], faults[EXPIRED], faults[CANCELLED]);
    assert_true(faults[KILLED] > 0 && faults[EXPIRED] > 0 && faults[CANCELLED] > 0);
    live_close(&live);
}

/* ---- another process ---- */

/* Says what it has got, a line for each page, and is killed while it waits for one. */
static int walk_and_die(const char *token, unsigned pages)
{
    struct live live;
    struct step step = {0};
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    evpq_pager_options options = walk_options(token, 7 + pages);
    options.prefetch_bytes = pages % 2 ? 1 << 20 : 0;
    evpq_pager *pager = opened(&live, &options);
    for (unsigned i = 0; i < pages; i++) {
        next_good(&live, pager, &step);
        for (uint32_t row = 0; row < step.rows; row++)
            printf("%lld ", (long long)int8_at(step.result, row, "id"));
        printf("%s\n", step.has_next ? step.token : "end");
        fflush(stdout);
        if (!step.has_next)
            break;
    }
    step_clear(&step);
    if (evpq_pager_next(NULL, pager, on_page, &step) == EVPQ_OK)
        ev_run(live.loop, EVRUN_NOWAIT);
    raise(SIGKILL);
    return 1;
}

/* The line of a page: checks its ids, and leaves the token, or "end". */
static void read_page(char *line, const PGresult *expected, int *at, char token[4097])
{
    char *rest = NULL;
    for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        if (strlen(word) > 20 || strcmp(word, "end") == 0) {
            snprintf(token, 4097, "%s", word);
            return;
        }
        assert_true(*at < PQntuples(expected));
        assert_string_equal(word, PQgetvalue(expected, (*at)++, 0));
    }
    fail_msg("a page without a token");
}

static void a_walk_goes_on_in_another_process(void **state)
{
    (void)state;
    static char token[4097], line[65536], command[8192];
    int at = 0, processes = 0;
    PGresult *expected = in_order("TABLE evpq_resumed", order);
    token[0] = '\0';
    while (strcmp(token, "end") != 0) {
        snprintf(command, sizeof(command), "exec '%s' walk '%s' %u", program, token, 1 + below(9));
        FILE *pages = popen(command, "r");
        assert_non_null(pages);
        while (fgets(line, sizeof(line), pages))
            if (strchr(line, '\n'))
                read_page(line, expected, &at, token);
        int status = pclose(pages);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        processes++;
    }
    assert_int_equal(at, ROWS);
    print_message("figure: %d rows by %d processes, each killed in the middle of a page\n", ROWS,
                  processes);
    PQclear(expected);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_goes_on_where_a_page_was_broken_off),
        cmocka_unit_test(a_walk_goes_on_in_another_process),
    };
    program = argv[0];
    if (argc == 4 && strcmp(argv[1], "walk") == 0)
        return walk_and_die(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    return pooler_run_group_tests_name("page_resume", tests, make_resumed, drop_resumed);
}
