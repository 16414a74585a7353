/* SPDX-License-Identifier: MIT */
/*
 * Ten million rows: what a walk keeps in memory, what a page at its end costs,
 * and what it brings to fetch the next page while one works on this one.
 */
#include "page_oracle.h"

#include "support/pooler.h"
#include "support/proxy.h"

enum { ROWS = 10000000, DEEP = 9900000, PAGE_BIG = 10000, TRIES = 5 };

#if defined(__SANITIZE_ADDRESS__)
#define MEASURES_MEMORY false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEASURES_MEMORY false
#endif
#endif
#ifndef MEASURES_MEMORY
#define MEASURES_MEMORY true
#endif

static char deep[4097]; /* behind row DEEP */

static int make_deep(void **state)
{
    char sql[256];
    (void)state;
    if (live_scaled(100) < 100)
        return 0;
    double start = live_now();
    oracle_run("DROP TABLE IF EXISTS evpq_deep");
    snprintf(sql, sizeof(sql),
             "CREATE UNLOGGED TABLE evpq_deep AS SELECT i::int8 AS id, i %% 1000 AS n "
             "FROM generate_series(1, %d) AS i",
             ROWS);
    oracle_run(sql);
    oracle_run("SET maintenance_work_mem = '256MB'");
    oracle_run("ALTER TABLE evpq_deep ADD PRIMARY KEY (id)");
    oracle_run("ANALYZE evpq_deep");
    print_message("figure: %d rows were made in %.0f s\n", ROWS, live_now() - start);
    return 0;
}

static int drop_deep(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_deep");
    oracle_end();
    return 0;
}

static void skip_where_small(void)
{
    if (live_scaled(100) < 100)
        skip();
}

/* ---- memory ---- */

/* The most that was resident since forget_peak(), in MB. */
static double peak_mb(void)
{
    char line[256];
    double kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kb = strtod(line + 6, NULL);
    if (file)
        fclose(file);
    return kb / 1024;
}

static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

static void a_walk_over_ten_million_rows_needs_few_megabytes(void **state)
{
    (void)state;
    skip_where_small();
    struct live live;
    struct step step = {0};
    int64_t rows = 0;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_deep", .order_by = "id",
                                         .page_size = PAGE_BIG, .format = EVPQ_BINARY));
    forget_peak();
    double start = live_now();
    do {
        next_good(&live, pager, &step);
        if (step.rows > 0)
            assert_int_equal(int8_at(step.result, step.rows - 1, "id"), rows + step.rows);
        rows += step.rows;
        if (rows == DEEP)
            strcpy(deep, step.token);
    } while (step.has_next);
    double took = live_now() - start, peak = peak_mb();
    print_message(
        "figure: %lld rows by pages of %d in %.1f s, %.0f rows/s, at most %.1f MB resident\n",
        (long long)rows, PAGE_BIG, took, (double)rows / took, peak);
    assert_int_equal(rows, ROWS);
    if (MEASURES_MEMORY)
        assert_true(peak <= 16.);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

/* ---- depth ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double page_seconds(struct live *live, const char *after)
{
    struct step step = {0};
    evpq_pager *pager = opened(
        live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_deep", .order_by = "id", .after = after));
    double start = live_now();
    next_good(live, pager, &step);
    double took = live_now() - start;
    assert_int_equal(step.rows, 100);
    assert_int_equal(int8_at(step.result, 0, "id"), after ? DEEP + 1 : 1);
    evpq_pager_close(pager);
    step_clear(&step);
    return took;
}

static void a_page_at_the_end_costs_what_the_first_one_costs(void **state)
{
    (void)state;
    enum { PAGES = 101 };
    skip_where_small();
    struct live live;
    double ratio = 99;
    assert_true(deep[0] != '\0');
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    for (int try = 0; try < TRIES && ratio > 2; try++) {
        double first[PAGES], last[PAGES];
        for (int i = 0; i < PAGES; i++) {
            first[i] = page_seconds(&live, NULL);
            last[i] = page_seconds(&live, deep);
        }
        qsort(first, PAGES, sizeof(double), by_value);
        qsort(last, PAGES, sizeof(double), by_value);
        ratio = last[PAGES / 2] / first[PAGES / 2];
        print_message(
            "figure: medians of %d: the first page %.2f ms, behind %d rows %.2f ms, %.2f "
            "times\n",
            PAGES, first[PAGES / 2] * 1e3, DEEP, last[PAGES / 2] * 1e3, ratio);
    }
    assert_true(ratio <= 2);
    live_close(&live);
}

/* ---- prefetch ---- */

/* One who takes a page, works on it for a time, and asks for the next. */
struct consumer {
    struct live *live;
    evpq_pager *pager;
    ev_timer work;
    double seconds;
    int pages, wanted;
    int64_t rows;
};

static void consume(evpq_page *page, const evpq_error *err, void *user);

static void ask_for_more(struct ev_loop *loop, ev_timer *timer, int events)
{
    struct consumer *consumer = timer->data;
    (void)loop;
    (void)events;
    assert_int_equal(evpq_pager_next(NULL, consumer->pager, consume, consumer), EVPQ_OK);
}

static void consume(evpq_page *page, const evpq_error *err, void *user)
{
    struct consumer *consumer = user;
    if (err)
        fail_msg("%s", evpq_error_message(err));
    consumer->pages++;
    consumer->rows += evpq_page_rows(page);
    if (consumer->pages == consumer->wanted)
        return;
    ev_now_update(consumer->live->loop);
    ev_timer_set(&consumer->work, consumer->seconds, 0.);
    ev_timer_start(consumer->live->loop, &consumer->work);
}

static bool has_all(struct live *live, void *arg)
{
    struct consumer *consumer = arg;
    (void)live;
    return consumer->pages == consumer->wanted;
}

/* Seconds a page. */
static double consumed(struct live *live, size_t prefetch_bytes, double work, int pages)
{
    struct consumer consumer = {.live = live, .seconds = work, .wanted = pages + 1};
    consumer.pager = opened(live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_deep", .order_by = "id",
                                                     .prefetch_bytes = prefetch_bytes));
    ev_timer_init(&consumer.work, ask_for_more, 0., 0.);
    consumer.work.data = &consumer;
    double start = live_now();
    ask_for_more(live->loop, &consumer.work, 0);
    live_until(live, has_all, &consumer, 60.);
    double took = live_now() - start;
    assert_int_equal(consumer.rows, 100 * (pages + 1));
    evpq_pager_close(consumer.pager);
    return took / (pages + 1);
}

static void to_fetch_ahead_hides_the_way_to_the_server(void **state)
{
    (void)state;
    enum { PAGES = 200 };
    skip_where_small();
    struct live live;
    double best = 0;
    oracle_run("SELECT 1");
    const char *host = PQhost(oracle_conn);
    struct proxy *proxy = proxy_start(
        host[0] == '/' || PQhostaddr(oracle_conn)[0] == '\0' ? host : PQhostaddr(oracle_conn),
        atoi(PQport(oracle_conn)));
    char more[64];
    snprintf(more, sizeof(more), "host=127.0.0.1 port=%d", proxy_port(proxy));
    live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = live_conninfo_with(more), .max_size = 2));
    proxy_rules(proxy, PROXY_TO_SERVER, &(struct proxy_rules){.delay_ms = 1});
    proxy_rules(proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.delay_ms = 1});
    (void)consumed(&live, 0, 0, 20);
    for (int try = 0; try < 2 * TRIES && best < 1.6; try++) {
        double server = consumed(&live, 0, 0, PAGES);
        double without = consumed(&live, 0, server, PAGES);
        double with = consumed(&live, 1 << 20, server, PAGES);
        print_message(
            "figure: 1 ms each way, a page of 100 rows takes %.2f ms and as long to work on: "
            "%.0f rows/s, fetched ahead %.0f rows/s, %.2f times\n",
            server * 1e3, 100 / without, 100 / with, without / with);
        if (without / with > best)
            best = without / with;
    }
    assert_true(best >= 1.6);
    live_close(&live);
    proxy_stop(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_over_ten_million_rows_needs_few_megabytes),
        cmocka_unit_test(a_page_at_the_end_costs_what_the_first_one_costs),
        cmocka_unit_test(to_fetch_ahead_hides_the_way_to_the_server),
    };
    return pooler_run_group_tests_name("page_depth", tests, make_deep, drop_deep);
}
