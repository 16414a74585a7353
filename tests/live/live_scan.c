/* SPDX-License-Identifier: MIT */
/*
 * Parallel scans on a real server: each row once, in order where there is one,
 * all of one moment; what a scan leaves over, others finish. EVPQ_TEST_SEED
 * repeats a run.
 */
#include <evpq/scan.h>
#include <unistd.h>

#include "page_step.h"
#include "support/pooler.h"

static unsigned short seed[3];

static unsigned below(unsigned limit)
{
    return (unsigned)(erand48(seed) * limit);
}

static void start_chance(void)
{
    const char *given = getenv("EVPQ_TEST_SEED");
    unsigned number =
        given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)(uint64_t)(live_now() * 1e6);
    print_message("EVPQ_TEST_SEED=%u\n", number);
    seed[0] = (unsigned short)number;
    seed[1] = (unsigned short)(number >> 16);
    seed[2] = 0x330e;
}

static evpq_scan *scan_opened(struct live *live, const evpq_scan_options *options)
{
    evpq_scan *scan = NULL;
    int code = evpq_scan_open(&scan, live->pool, options);
    if (code != EVPQ_OK)
        fail_msg("%s: %s", evpq_code_name(code), evpq_scan_options_problem(options));
    return scan;
}

static void scan_next(struct live *live, evpq_scan *scan, struct step *step)
{
    step_clear(step);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, step), EVPQ_OK);
    assert_int_equal(step->calls, 0);
    wait_step(live, step);
}

static void scan_next_good(struct live *live, evpq_scan *scan, struct step *step)
{
    scan_next(live, scan, step);
    if (step->code != EVPQ_OK)
        fail_msg("%s %s %s", evpq_code_name(step->code), step->sqlstate, step->message);
}

static bool is_idle(struct live *live, void *arg)
{
    (void)arg;
    evpq_pool_stats stats = live_stats(live);
    return stats.busy == 0 && stats.cleaning == 0;
}

static bool are_several_busy(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).busy > 1;
}

static int64_t transactions(void)
{
    return aside_int8(
        "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
        "backend_type = 'client backend' AND datname = current_database() AND "
        "state LIKE '%in transaction%'");
}

/* All connections are back, and clean. */
static void check_back(struct live *live)
{
    live_until(live, is_idle, NULL, 10. * live_slow());
    assert_int_equal(transactions(), 0);
}

/* ---- rows that came ---- */

enum { ROWS = 3000 };

struct ids {
    int64_t id[ROWS];
    unsigned count;
};

static void ids_take(struct ids *ids, const struct step *step)
{
    assert_true(ids->count + step->rows <= ROWS);
    for (uint32_t row = 0; row < step->rows; row++)
        ids->id[ids->count++] = int8_at(step->result, row, "id");
}

static int compare_ids(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void ids_sort(struct ids *ids)
{
    qsort(ids->id, ids->count, sizeof(ids->id[0]), compare_ids);
}

static void ids_check(const struct ids *got, const struct ids *expected, const char *how)
{
    if (got->count != expected->count ||
        memcmp(got->id, expected->id, got->count * sizeof(got->id[0])) != 0)
        fail_msg("%s: %u rows came, %u were expected, or others", how, got->count, expected->count);
}

static void ask_server(struct live *live, const char *order, struct ids *out)
{
    struct outcome outcome;
    char sql[500];
    snprintf(sql, sizeof(sql), "SELECT id FROM evpq_scan_rows ORDER BY %s", order);
    live_query(live, &outcome, EVPQ_QUERY(sql));
    if (outcome.code != EVPQ_OK)
        fail_msg("%s", outcome.message);
    out->count = evpq_result_rows(outcome.result);
    for (unsigned i = 0; i < out->count; i++)
        assert_int_equal(evpq_result_int8(outcome.result, i, 0, &out->id[i]), EVPQ_OK);
    outcome_clear(&outcome);
}

/* To its end, or until so many pages have come. */
static void scan_walk(struct live *live, evpq_scan *scan, unsigned pages, struct ids *out)
{
    struct step step = {0};
    for (unsigned i = 0; i < pages; i++) {
        scan_next_good(live, scan, &step);
        assert_true(step.has_next == (step.rows > 0));
        if (step.rows == 0)
            break;
        ids_take(out, &step);
    }
    step_clear(&step);
}

/* ---- tables ---- */

static int drop_scan_rows(void **state)
{
    (void)state;
    aside_int8("SET lock_timeout = '30s'"); /* a scan that is not over fails its test, no more */
    aside_int8("DROP TABLE IF EXISTS evpq_scan_rows");
    return 0;
}

/* `a` has few values and NULLs, `b` is text with NULLs, `n` numeric without scale. */
static void make_scan_rows(unsigned count)
{
    char sql[500];
    drop_scan_rows(NULL);
    snprintf(sql, sizeof(sql),
             "CREATE UNLOGGED TABLE evpq_scan_rows AS SELECT ((i * 7919) %% 100003)::int8 AS id, "
             "nullif(i %% 4, 0)::int AS a, nullif('x' || i %% 17, 'x3') AS b, "
             "(i %% 50) / 8.0::numeric AS n FROM generate_series(1, %u) AS i",
             count);
    aside_int8(sql);
    aside_int8("ALTER TABLE evpq_scan_rows ADD PRIMARY KEY (id)");
    if (below(2))
        aside_int8("CREATE INDEX ON evpq_scan_rows (a, b, id)");
    aside_int8("ANALYZE evpq_scan_rows");
}

static const char *const orders[] = {
    "id",
    "id DESC",
    "a, id",
    "a DESC NULLS LAST, id DESC",
    "a NULLS FIRST, b DESC, id",
    "a DESC, id",
    "b COLLATE \"C\" NULLS FIRST, id",
    "n DESC, a NULLS FIRST, id",
    "-id",
    "(id % 10), b DESC NULLS LAST, id DESC",
    "a, b, n, id",
};
enum { ORDERS = sizeof(orders) / sizeof(orders[0]) };

static evpq_scan_options random_options(const char *order)
{
    evpq_scan_options options =
        *EVPQ_SCAN_OPTIONS(.sql = "SELECT * FROM evpq_scan_rows", .order_by = order,
                           .page_size = 1 + below(below(4) ? 100 : 8),
                           .format = below(2) ? EVPQ_TEXT : EVPQ_BINARY);
    options.assume_unique = below(3) == 0 || strcmp(order, "-id") == 0; /* no proof knows that */
    options.workers = below(2) ? 0 : 1 + below(4);
    options.ranges = below(2) ? 0 : 1 + below(40);
    options.unordered = below(2);
    options.buffer_bytes = below(2) ? 0 : 1 + below(100000);
    if (below(3) == 0)
        options.columns = "id";
    return options;
}

/* What is left of a scan, to be resumed. */
struct left {
    evpq_scan_range ranges[300];
    char tokens[600][600];
    unsigned count;
};

static void take_left(evpq_scan *scan, struct left *left)
{
    left->count = 0;
    for (uint32_t i = 0; i < evpq_scan_ranges(scan); i++) {
        evpq_scan_range range;
        if (evpq_scan_range_get(scan, i, &range) != EVPQ_OK)
            continue;
        assert_true(left->count < 300);
        char *after = left->tokens[2 * left->count], *until = left->tokens[2 * left->count + 1];
        snprintf(after, 600, "%s", range.after ? range.after : "");
        snprintf(until, 600, "%s", range.until ? range.until : "");
        left->ranges[left->count++] =
            (evpq_scan_range){range.after ? after : NULL, range.until ? until : NULL};
    }
}

static void finish_by_pagers(struct live *live, const evpq_scan_options *o, const struct left *left,
                             struct ids *out)
{
    struct step step = {0};
    for (unsigned i = 0; i < left->count; i++) {
        evpq_pager *pager =
            opened(live, EVPQ_PAGER_OPTIONS(.sql = o->sql, .order_by = o->order_by,
                                            .columns = o->columns, .format = o->format,
                                            .page_size = 500, .assume_unique = o->assume_unique,
                                            .after = left->ranges[i].after,
                                            .until = left->ranges[i].until));
        do {
            next_good(live, pager, &step);
            ids_take(out, &step);
        } while (step.has_next);
        evpq_pager_close(pager);
    }
    step_clear(&step);
}

static void check_one(struct live *live, const char *order)
{
    static struct ids expected, got;
    static struct left left;
    evpq_scan_options options = random_options(order);
    ask_server(live, order, &expected);
    got.count = 0;
    evpq_scan *scan = scan_opened(live, &options);
    bool stops = below(2);
    scan_walk(live, scan, stops ? 1 + below(10) : ROWS + 1, &got);
    if (stops) {
        take_left(scan, &left);
        evpq_scan_close(scan);
        options.resume = left.ranges;
        options.resume_count = left.count;
        scan = NULL;
        if (left.count > 0 && below(2)) {
            finish_by_pagers(live, &options, &left, &got);
        } else if (left.count > 0) {
            options.workers = 1 + below(4);
            scan = scan_opened(live, &options);
            scan_walk(live, scan, ROWS + 1, &got);
        }
    }
    evpq_scan_close(scan);
    if (options.unordered) {
        ids_sort(&got);
        ids_sort(&expected);
    }
    char how[300];
    snprintf(how, sizeof(how), "ORDER BY %s, %s, %u workers, %u ranges, page %u%s", order,
             options.unordered ? "unordered" : "ordered", options.workers, options.ranges,
             options.page_size, stops ? ", stopped and resumed" : "");
    ids_check(&got, &expected, how);
}

static void each_row_comes_once(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    start_chance();
    int tables = live_scaled(20);
    for (int i = 0; i < tables; i++) {
        make_scan_rows(below(4) == 0 ? below(20) : below(600));
        for (int j = 0; j < 10; j++)
            check_one(&live, orders[below(ORDERS)]);
        check_back(&live);
    }
    print_message("figure: %d tables, 10 scans each\n", tables);
    live_close(&live);
}

/* ---- one by one ---- */

static void an_empty_table_has_one_page_without_rows(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_scan_rows(0);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    evpq_scan *scan =
        scan_opened(&live, EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id"));
    assert_int_equal(evpq_scan_ranges(scan), 0);
    for (int i = 0; i < 2; i++) {
        scan_next_good(&live, scan, &step);
        assert_int_equal(step.rows, 0);
        assert_false(step.has_next);
        assert_int_equal(evpq_result_columns(step.result), 4);
    }
    check_back(&live); /* the scan is not closed, and has ended */
    evpq_scan_close(scan);
    step_clear(&step);
    live_close(&live);
}

static void all_workers_see_one_moment(void **state)
{
    (void)state;
    static struct ids expected, got;
    struct live live;
    make_scan_rows(2000);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    ask_server(&live, "id", &expected);
    evpq_scan *scan =
        scan_opened(&live, EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id",
                                             .page_size = 20, .buffer_bytes = 1));
    got.count = 0;
    scan_walk(&live, scan, 3, &got);
    live_until(&live, are_several_busy, NULL, 10. * live_slow());
    aside_int8("DELETE FROM evpq_scan_rows WHERE id % 3 = 0");
    aside_int8("UPDATE evpq_scan_rows SET id = -id WHERE id % 3 = 1");
    aside_int8("INSERT INTO evpq_scan_rows SELECT 200000 + i FROM generate_series(1, 500) AS i");
    scan_walk(&live, scan, ROWS, &got);
    ids_check(&got, &expected, "with writers");
    evpq_scan_close(scan);
    check_back(&live);
    live_close(&live);
}

static void a_pool_smaller_than_the_workers_is_enough(void **state)
{
    (void)state;
    static struct ids expected, got;
    struct live live;
    struct outcome held[2];
    make_scan_rows(2000);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 3, .acquire_timeout_ms = 300));
    ask_server(&live, "id", &expected);
    evpq_scan_options options =
        *EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id", .page_size = 50);
    options.workers = 4;
    evpq_scan *scan = NULL;
    assert_int_equal(evpq_scan_open(&scan, live.pool, &options), EVPQ_EINVALID);
    options.workers = 3;
    live_acquire(&live, &held[0]);
    live_acquire(&live, &held[1]);
    scan = scan_opened(&live, &options);
    got.count = 0;
    double start = live_now();
    scan_walk(&live, scan, ROWS, &got);
    assert_true(live_now() - start < 5. * live_slow());
    ids_check(&got, &expected, "with one connection");
    evpq_scan_close(scan);
    for (int i = 0; i < 2; i++) {
        evpq_lease_release(held[i].lease);
        held[i].lease = NULL;
        outcome_clear(&held[i]);
    }
    check_back(&live);
    live_close(&live);
}

static void a_killed_worker_ends_the_scan_and_the_rest_is_resumed(void **state)
{
    (void)state;
    static struct ids expected, got;
    static struct left left;
    struct live live;
    struct step step = {0};
    make_scan_rows(2500);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    ask_server(&live, "id", &expected);
    evpq_scan_options options = *EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id",
                                                   .page_size = 30, .buffer_bytes = 1);
    evpq_scan *scan = scan_opened(&live, &options);
    got.count = 0;
    scan_walk(&live, scan, 5, &got);
    aside_int8(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> "
        "pg_backend_pid() AND state LIKE 'idle in transaction%' AND datname = "
        "current_database()");
    int pages = 0;
    for (;; pages++) {
        scan_next(&live, scan, &step);
        if (step.code != EVPQ_OK)
            break;
        assert_true(step.rows > 0);
        ids_take(&got, &step);
    }
    assert_int_equal(step.code, EVPQ_EDISCONNECTED);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_ECLOSED);
    take_left(scan, &left);
    assert_true(left.count > 1);
    evpq_scan_close(scan);
    check_back(&live);
    options.resume = left.ranges;
    options.resume_count = left.count;
    scan = scan_opened(&live, &options);
    scan_walk(&live, scan, ROWS, &got);
    ids_check(&got, &expected, "resumed");
    evpq_scan_close(scan);
    step_clear(&step);
    check_back(&live);
    live_close(&live);
}

static void one_token_resumes_a_scan_in_order(void **state)
{
    (void)state;
    static struct ids expected, got;
    struct live live;
    struct step step = {0};
    make_scan_rows(2500);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    ask_server(&live, "a DESC, id", &expected);
    evpq_scan_options options = *EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows",
                                                   .order_by = "a DESC, id", .page_size = 30);
    evpq_scan *scan = scan_opened(&live, &options);
    got.count = 0;
    for (int i = 0; i < 7; i++) {
        scan_next_good(&live, scan, &step);
        ids_take(&got, &step);
    }
    evpq_scan_close(scan);
    options.resume = &(evpq_scan_range){.after = step.token};
    options.resume_count = 1;
    scan = scan_opened(&live, &options);
    struct step first = {0};
    scan_next_good(&live, scan, &first);
    assert_true(evpq_scan_ranges(scan) > 1); /* it is cut again */
    ids_take(&got, &first);
    scan_walk(&live, scan, ROWS, &got);
    ids_check(&got, &expected, "resumed by one token");
    evpq_scan_close(scan);
    step_clear(&first);
    step_clear(&step);
    check_back(&live);
    live_close(&live);
}

static void its_deadline_gives_the_connections_back(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_scan_rows(2500);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    evpq_scan *scan = scan_opened(
        &live, EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id", .page_size = 30,
                                 .ranges = 4, .buffer_bytes = 1, .walk_timeout_ms = 1500));
    scan_next_good(&live, scan, &step);
    live_until(&live, are_several_busy, NULL, 10. * live_slow());
    live_until(&live, is_idle, NULL, 10. * live_slow()); /* nobody asks for anything */
    assert_int_equal(transactions(), 0);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_ETIMEOUT);
    evpq_scan_range range;
    assert_int_equal(evpq_scan_range_get(scan, 0, &range), EVPQ_OK);
    assert_string_equal(range.after, step.token);
    evpq_scan_close(scan);
    step_clear(&step);
    live_close(&live);
}

static void a_cancelled_page_comes_with_the_next_call(void **state)
{
    (void)state;
    static struct ids expected, got;
    struct live live;
    struct step step = {0};
    make_scan_rows(1000);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    ask_server(&live, "id", &expected);
    evpq_scan *scan = scan_opened(
        &live, EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id", .page_size = 30));
    got.count = 0;
    for (bool more = true; more;) {
        evpq_op *op = NULL;
        step_clear(&step);
        assert_int_equal(evpq_scan_next(&op, scan, on_page, &step), EVPQ_OK);
        assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_EINVALID);
        evpq_op_cancel(op);
        wait_step(&live, &step);
        if (step.code == EVPQ_OK) { /* it was there already */
            ids_take(&got, &step);
            more = step.has_next;
            continue;
        }
        assert_int_equal(step.code, EVPQ_ECANCELED);
        scan_next_good(&live, scan, &step);
        ids_take(&got, &step);
        more = step.has_next;
    }
    ids_check(&got, &expected, "each page cancelled once");
    evpq_scan_close(scan);
    step_clear(&step);
    check_back(&live);
    live_close(&live);
}

static void a_failing_statement_is_told_once(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_scan_rows(500);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    static const struct {
        const char *sql, *sqlstate;
    } cases[] = {
        {"SELECT nothere AS id", "42703"},
        {"SELECT id, 1 / (id - 47514) AS x FROM evpq_scan_rows", "22012"},
        {"SELECT id FROM nowhere", "42P01"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        evpq_scan *scan =
            scan_opened(&live, EVPQ_SCAN_OPTIONS(.sql = cases[i].sql, .order_by = "id",
                                                 .page_size = 10, .assume_unique = true));
        do
            scan_next(&live, scan, &step);
        while (step.code == EVPQ_OK && step.rows > 0);
        assert_int_equal(step.code, EVPQ_ESERVER);
        assert_string_equal(step.sqlstate, cases[i].sqlstate);
        assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_ECLOSED);
        check_back(&live);
        evpq_scan_close(scan);
    }
    step_clear(&step);
    live_close(&live);
}

static void an_order_that_may_not_be_total_is_refused(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_scan_rows(500);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    evpq_scan_options options =
        *EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "a, b", .page_size = 10);
    evpq_scan *scan = scan_opened(&live, &options);
    scan_next(&live, scan, &step);
    assert_int_equal(step.code, EVPQ_EINVALID);
    assert_non_null(strstr(step.message, "may not be total"));
    evpq_scan_close(scan);
    check_back(&live);
    /* Who says that it is, and is wrong, is told by the first page that it would cost a row. */
    options.assume_unique = true;
    scan = scan_opened(&live, &options);
    do
        scan_next(&live, scan, &step);
    while (step.code == EVPQ_OK && step.rows > 0);
    assert_int_equal(step.code, EVPQ_EINVALID);
    evpq_scan_close(scan);

    options.order_by = "random(), id";
    scan = scan_opened(&live, &options);
    scan_next(&live, scan, &step);
    assert_int_equal(step.code, EVPQ_EINVALID);
    assert_non_null(strstr(step.message, "change from page to page"));
    evpq_scan_close(scan);
    step_clear(&step);
    check_back(&live);
    live_close(&live);
}

/* In each state that it may be met in: after so many turns of the loop. */
static void it_may_be_closed_at_any_moment(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_scan_rows(1500);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
    int turns = live_scaled(60);
    for (int i = 0; i < turns; i++) {
        evpq_scan *scan =
            scan_opened(&live, EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id",
                                                 .page_size = 30, .unordered = i % 2));
        step_clear(&step);
        assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_OK);
        for (int turn = 0; turn < i; turn++) {
            usleep(200);
            ev_run(live.loop, EVRUN_NOWAIT);
            if (step.calls > 0 && step.code == EVPQ_OK && step.has_next) {
                step_clear(&step);
                assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_OK);
            } else if (step.calls > 0) {
                break;
            }
        }
        evpq_scan_close(scan);
        wait_step(&live, &step);
        assert_true(step.code == EVPQ_ECLOSED || step.code == EVPQ_OK);
        check_back(&live);
    }
    step_clear(&step);
    live_close(&live);
}

static void a_pool_that_closes_ends_the_scan(void **state)
{
    (void)state;
    make_scan_rows(2500);
    for (int i = 0; i < 4; i++) {
        struct live live;
        struct step step = {0};
        live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 4));
        evpq_scan *scan =
            scan_opened(&live, EVPQ_SCAN_OPTIONS(.sql = "TABLE evpq_scan_rows", .order_by = "id",
                                                 .page_size = 30, .buffer_bytes = 1));
        if (i < 2)
            scan_next_good(&live, scan, &step);
        step_clear(&step);
        if (i % 2)
            assert_int_equal(evpq_scan_next(NULL, scan, on_page, &step), EVPQ_OK);
        assert_int_equal(evpq_pool_close(live.pool, i < 2 ? EVPQ_CLOSE_FINISH : EVPQ_CLOSE_CANCEL,
                                         300, NULL, NULL),
                         EVPQ_OK);
        live.pool = NULL;
        double start = live_now();
        ev_run(live.loop, 0);
        assert_true(live_now() - start < 8. * live_slow());
        assert_int_equal(step.calls, i % 2);
        assert_int_equal(transactions(), 0);
        evpq_scan_close(scan);
        step_clear(&step);
        ev_loop_destroy(live.loop);
    }
}

static void options_are_checked(void **state)
{
    (void)state;
    struct live live;
    evpq_scan *scan = NULL;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    evpq_scan_options right = *EVPQ_SCAN_OPTIONS(.sql = "SELECT 1 AS id", .order_by = "id");
    assert_null(evpq_scan_options_problem(&right));
    evpq_scan_options wrong[] = {right, right, right, right, right, right, right, right};
    wrong[0].order_by = NULL;
    wrong[1].workers = 65;
    wrong[2].ranges = 4097;
    wrong[3].page_size = 10001;
    wrong[4].resume_count = 1;
    wrong[5].resume = &(evpq_scan_range){.after = "nothing"};
    wrong[5].resume_count = 1;
    wrong[6].sql = " ; ";
    wrong[7].size = 3;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_non_null(evpq_scan_options_problem(&wrong[i]));
        assert_int_equal(evpq_scan_open(&scan, live.pool, &wrong[i]), EVPQ_EINVALID);
    }
    assert_string_equal(evpq_scan_options_problem(&wrong[5]), EVPQ_TOKEN_PROBLEM);
    evpq_scan_close(NULL);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test_teardown(an_empty_table_has_one_page_without_rows, drop_scan_rows),
        cmocka_unit_test_teardown(each_row_comes_once, drop_scan_rows),
        cmocka_unit_test_teardown(all_workers_see_one_moment, drop_scan_rows),
        cmocka_unit_test_teardown(a_pool_smaller_than_the_workers_is_enough, drop_scan_rows),
        cmocka_unit_test_teardown(a_killed_worker_ends_the_scan_and_the_rest_is_resumed,
                                  drop_scan_rows),
        cmocka_unit_test_teardown(one_token_resumes_a_scan_in_order, drop_scan_rows),
        cmocka_unit_test_teardown(its_deadline_gives_the_connections_back, drop_scan_rows),
        cmocka_unit_test_teardown(a_cancelled_page_comes_with_the_next_call, drop_scan_rows),
        cmocka_unit_test_teardown(a_failing_statement_is_told_once, drop_scan_rows),
        cmocka_unit_test_teardown(an_order_that_may_not_be_total_is_refused, drop_scan_rows),
        cmocka_unit_test_teardown(it_may_be_closed_at_any_moment, drop_scan_rows),
        cmocka_unit_test_teardown(a_pool_that_closes_ends_the_scan, drop_scan_rows),
    };
    return pooler_run_group_tests_name("scan", tests, NULL, NULL);
}
