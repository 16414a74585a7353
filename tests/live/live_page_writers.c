/* SPDX-License-Identifier: MIT */
/*
 * Walks while others write: rows come and go, rows are updated in place and
 * moved. Each row that is there from the first page to the last, with the same
 * key, comes exactly once and in its place.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "page_oracle.h"
#include "support/pooler.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { STAYING = 400, WRITERS = 3 };

static const char *const orders[] = {
    "id",
    "a, id",
    "a DESC, id",
    "b NULLS FIRST, a DESC, id",
    "b DESC NULLS LAST, id DESC",
    "at DESC, id",
    "lower(b) NULLS FIRST, at, id",
    "a % 3, b COLLATE \"C\" DESC, at, id DESC",
};

static int make_table_to_write(void **state)
{
    char sql[1024];
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_written");
    oracle_run(
        "CREATE UNLOGGED TABLE evpq_written (id int8 PRIMARY KEY, stays bool NOT NULL, a int, "
        "b text, at timestamptz, touched int NOT NULL DEFAULT 0, pad text)");
    /* Those that stay have even numbers; what comes and goes has odd ones, all over the place. */
    snprintf(
        sql, sizeof(sql),
        "INSERT INTO evpq_written SELECT i * 2, true, nullif(i %% 7, 0), "
        "CASE WHEN i %% 4 > 0 THEN chr(65 + i %% 26) END, timestamptz '2024-01-01 00:00:00+00' "
        "+ i %% 90 * interval '1 microsecond' FROM generate_series(1, %d) AS i",
        STAYING);
    oracle_run(sql);
    oracle_run("CREATE INDEX ON evpq_written (a, id)");
    oracle_run("CREATE INDEX ON evpq_written (touched)");
    return 0;
}

static int drop_table_written(void **state)
{
    (void)state;
    oracle_run("DROP TABLE IF EXISTS evpq_written");
    oracle_end();
    return 0;
}

/* ---- those who write ---- */

static struct writer {
    pthread_t thread;
    unsigned short seed[3];
    long statements, failures;
} writers[WRITERS];
static atomic_bool writing;

static void write_once(struct writer *writer, PGconn *conn)
{
    static const char *const kinds_of_write[] = {
        "INSERT INTO evpq_written (id, stays, a, b, at) VALUES (%d * 2 + 1, false, nullif(%d, 3), "
        "nullif(chr(65 + %d), 'C'), timestamptz '2024-01-01 00:00:00+00' + %d * interval '1 "
        "microsecond') ON CONFLICT DO NOTHING",
        "DELETE FROM evpq_written WHERE NOT stays AND id %% 13 = %d %% 13 AND a IS DISTINCT FROM "
        "%d",
        "UPDATE evpq_written SET touched = touched + 1, pad = repeat('x', %d) WHERE id %% 11 = %d",
        "UPDATE evpq_written SET pad = repeat('y', 10 * %d) WHERE stays AND a = %d",
        "UPDATE evpq_written SET a = %d, b = chr(97 + %d), at = at + interval '1 microsecond' "
        "WHERE NOT stays AND id %% 5 = %d %% 5",
        "BEGIN; DELETE FROM evpq_written WHERE id %% 7 = %d %% 7; INSERT INTO evpq_written (id, "
        "stays, a) VALUES (%d * 2 + 100001, false, 1) ON CONFLICT DO NOTHING; ROLLBACK",
    };
    char sql[512];
    int numbers[4];
    for (int i = 0; i < 4; i++)
        numbers[i] = (int)(erand48(writer->seed) * 12);
    unsigned kind = (unsigned)(erand48(writer->seed) * (double)(COUNT(kinds_of_write) + 3));
    bool inserts = kind == 0 || kind >= COUNT(kinds_of_write);
    if (inserts)
        numbers[0] = (int)(erand48(writer->seed) * STAYING);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(sql, sizeof(sql), kinds_of_write[inserts ? 0 : kind], numbers[0], numbers[1],
             numbers[2], numbers[3]);
#pragma GCC diagnostic pop
    PGresult *result = PQexec(conn, sql);
    writer->statements++;
    writer->failures += PQresultStatus(result) != PGRES_COMMAND_OK;
    PQclear(result);
    if (PQtransactionStatus(conn) != PQTRANS_IDLE) /* it was told between BEGIN and ROLLBACK */
        PQclear(PQexec(conn, "ROLLBACK"));
}

/* Two that wait for each other are told so by the server (40P01): that is not looked at. */
static void *write_on(void *arg)
{
    struct writer *writer = arg;
    PGconn *conn = PQconnectdb(live_conninfo() ? live_conninfo() : "");
    while (atomic_load(&writing) && PQstatus(conn) == CONNECTION_OK)
        write_once(writer, conn);
    PQfinish(conn);
    return NULL;
}

static void start_writing(void)
{
    atomic_store(&writing, true);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.seed = {(unsigned short)below(65536), (unsigned short)i, 1}};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_on, &writers[i]), 0);
    }
}

static long end_writing(void)
{
    long written = 0, failures = 0;
    atomic_store(&writing, false);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        written += writers[i].statements;
        failures += writers[i].failures;
    }
    assert_true(failures * 2 < written);
    return written;
}

/* ---- those who read ---- */

struct came {
    int64_t id[STAYING + 1];
    int count;
    int others;
};

/* In the order in which they came; a page backward from its end. */
static void take_page(struct came *came, const struct step *step, bool backward)
{
    for (uint32_t i = 0; i < step->rows; i++) {
        uint32_t row = backward ? step->rows - 1 - i : i;
        int64_t id = int8_at(step->result, row, "id");
        if (id % 2 != 0)
            came->others++;
        else if (came->count <= STAYING)
            came->id[came->count++] = id;
    }
}

static void check_walk(struct live *live, const char *order, bool backward, struct came *came)
{
    struct step step = {0};
    char token[4097];
    static const char sql[] = "SELECT id, a, b, at FROM evpq_written";
    PGresult *expected = in_order("SELECT id, a, b, at FROM evpq_written WHERE stays", order);
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = sql, .order_by = order, .page_size = 1 + below(40),
                            .columns = "id", .prefetch_bytes = one_in(2) ? 1 << 20 : 0,
                            .format = one_in(2) ? EVPQ_TEXT : EVPQ_BINARY);
    evpq_pager *pager = opened(live, &options);
    bool more = true;
    *came = (struct came){0};
    for (bool first = true; more; first = false) {
        good_page(live, pager, &step,
                  backward ? (first ? evpq_pager_last : evpq_pager_prev) : evpq_pager_next, order);
        take_page(came, &step, backward);
        more = backward ? step.has_prev : step.has_next;
        if (one_in(4))
            live_run(live, 0.001 * below(4));
        if (!more || !one_in(5))
            continue;
        snprintf(token, sizeof(token), "%s", backward ? step.token_before : step.token);
        evpq_pager_close(pager);
        *(backward ? &options.before : &options.after) = token;
        pager = opened(live, &options);
    }
    evpq_pager_close(pager);
    step_clear(&step);
    for (int i = 0; i < STAYING; i++) {
        int64_t id = strtoll(PQgetvalue(expected, backward ? STAYING - 1 - i : i, 0), NULL, 10);
        if (i >= came->count || came->id[i] != id)
            fail_msg(
                "ORDER BY %s, %s, %u a page, prefetch %zu: row %d of those that stay is %lld, "
                "not %lld; %d came",
                order, backward ? "backward" : "forward", options.page_size, options.prefetch_bytes,
                i, i < came->count ? (long long)came->id[i] : -1, (long long)id, came->count);
    }
    assert_int_equal(came->count, STAYING);
    PQclear(expected);
}

static void rows_that_stay_come_once_whatever_others_write(void **state)
{
    (void)state;
    struct live live;
    int walks = 0, others = 0;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 2));
    start_chance();
    start_writing();
    /* Each order in turn, both ways, until there were enough. */
    while (walks < live_scaled(160) || walks < (int)(2 * COUNT(orders)))
        for (size_t i = 0; i < COUNT(orders); i++)
            for (int backward = 0; backward < 2; backward++, walks++) {
                struct came came;
                check_walk(&live, orders[i], backward, &came);
                others += came.others;
            }
    long written = end_writing();
    print_message(
        "figure: %d walks over %d rows that stay, among %ld statements of %d writers, "
        "whose rows were seen %d times\n",
        walks, STAYING, written, WRITERS, others);
    assert_true(written > 50);
    assert_true(others > 0);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rows_that_stay_come_once_whatever_others_write,
                                        make_table_to_write, drop_table_written),
    };
    return pooler_run_group_tests_name("page_writers", tests, NULL, NULL);
}
