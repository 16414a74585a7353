/* SPDX-License-Identifier: MIT */
/*
 * C28 and C29: the same exchange, login and all, in pieces of one byte, and cut,
 * doubled or changed at each of its bytes. Many pools at once, each with a proxy
 * of its own, so that those that hang do not take for ever.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "support/front.h"

enum {
    LANES = 24,
    ROWS = 4,
    FILL = 100,      /* bytes of text in each */
    FIRST_MS = 1000, /* for the statement that meets the fault */
    LATER_MS = 8000, /* for those after it */
    LATER_MOST = 3,  /* of them; the last has to succeed */
    TERMINATE = 5,   /* bytes of that message */
    DIGITS = 6,      /* by which the numbers of two processes may differ */
};

static const char statement[] =
    "WITH new AS (INSERT INTO effects VALUES ($1::int8) RETURNING nonce) SELECT nonce, "
    "repeat(chr(96 + g), 100), NULL::text, g FROM new, generate_series(1, 4) AS g";

static const char *const fault_names[] = {"no fault", "cut and closed", "cut and reset", "hung",
                                          "shut",     "doubled",        "flipped"};

struct trial {
    enum proxy_fault fault;
    enum proxy_way way;
    uint64_t at;
};

/* A statement, to be compared with what the server has done. */
struct record {
    int64_t nonce;
    evpq_code code;
    evpq_fate fate;
    bool doubtful; /* a byte was changed: what was heard, or said, is not what was meant */
    int effects;
};

struct bench;

struct lane {
    struct bench *bench;
    struct proxy *proxy;
    evpq_pool *pool;
    struct trial trial;
    unsigned connection; /* the proxy's number of the one that meets the fault */
    int attempt, answers;
    size_t record; /* of the statement under way */
    double due;
};

struct bench {
    struct live live;
    struct fault_server *server;
    struct lane lanes[LANES];
    int running;
    struct trial *trials;
    size_t trials_count, next;
    uint64_t login[2], whole[2]; /* bytes of the exchange */
    struct record *records;
    size_t records_count, records_room;
    int codes[16], met, garbled, later_failed;
    double latest;
    struct watchdog dog;
};

static void lane_ask(struct lane *lane);
static void lane_next(struct lane *lane);

/* Numbers of which no other is one bit away. */
static int64_t nonce_new(void)
{
    static uint64_t state;
    uint64_t z = state += 0x9e3779b97f4a7c15U;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return (int64_t)((z ^ z >> 31) >> 2);
}

static bool is_cut(enum proxy_fault fault)
{
    return fault == PROXY_CUT_CLOSE || fault == PROXY_CUT_RESET || fault == PROXY_CUT_HANG;
}

static bool is_right(evpq_result *result, int64_t nonce)
{
    if (evpq_result_rows(result) != ROWS || evpq_result_columns(result) != 4)
        return false;
    for (uint32_t row = 0; row < ROWS; row++) {
        int64_t number = 0, g = 0;
        evpq_text_view text;
        if (evpq_result_int8(result, row, 0, &number) != EVPQ_OK || number != nonce ||
            evpq_result_text(result, row, 1, &text) != EVPQ_OK || text.length != FILL ||
            !evpq_result_is_null(result, row, 2) ||
            evpq_result_int8(result, row, 3, &g) != EVPQ_OK || g != row + 1)
            return false;
        for (size_t i = 0; i < FILL; i++)
            if (text.data[i] != (char)('a' + row))
                return false;
    }
    return true;
}

static void lane_fail(const struct lane *lane, const char *what, const char *message)
{
    fail_msg("%s at byte %llu to the %s, statement %d: %s: %s", fault_names[lane->trial.fault],
             (unsigned long long)lane->trial.at,
             lane->trial.way == PROXY_TO_SERVER ? "server" : "client", lane->attempt, what,
             message);
}

static void check_first(struct lane *lane, evpq_code code, evpq_fate fate, const char *message)
{
    struct bench *bench = lane->bench;
    const struct trial *trial = &lane->trial;
    if (!is_cut(trial->fault))
        return;
    if (code != EVPQ_OK && code != EVPQ_ETIMEOUT && code != EVPQ_ECONNECT &&
        code != EVPQ_EDISCONNECTED)
        lane_fail(lane, evpq_code_name(code), message);
    /* On a busy machine the login may have been given up before. */
    if (proxy_bytes(lane->proxy, lane->connection, trial->way) < trial->at)
        return;
    bench->met++;
    /* Behind the login and before the last byte: it cannot have succeeded, nor be known to fail. A
     * login that was given up at its end says Terminate; the server's answer to it has the digits
     * of a process's number. */
    uint64_t login = bench->login[trial->way], whole = bench->whole[trial->way];
    login += trial->way == PROXY_TO_SERVER ? TERMINATE : DIGITS;
    whole -= trial->way == PROXY_TO_SERVER ? 0 : DIGITS;
    if (trial->at > login && trial->at < whole && (code == EVPQ_OK || fate != EVPQ_UNKNOWN))
        lane_fail(lane, "is known to have ended", evpq_code_name(code));
}

static void lane_closed(void *user)
{
    struct lane *lane = user;
    proxy_kill(lane->proxy, 0, true);
    lane_next(lane);
}

static void lane_end(struct lane *lane)
{
    evpq_close_mode mode = lane->trial.at % 2 ? EVPQ_CLOSE_CANCEL : EVPQ_CLOSE_FINISH;
    assert_int_equal(evpq_pool_close(lane->pool, mode, 0, lane_closed, lane), EVPQ_OK);
    lane->pool = NULL;
}

static void on_answer(evpq_result *result, const evpq_error *err, void *user)
{
    struct lane *lane = user;
    struct bench *bench = lane->bench;
    struct record *record = &bench->records[lane->record];
    const char *message = evpq_error_message(err);
    if (++lane->answers != 1)
        lane_fail(lane, "answered twice", message);
    double late = live_now() - lane->due;
    bench->latest = late > bench->latest ? late : bench->latest;
    if (late > 0.250 * live_slow())
        lane_fail(lane, "late", message);
    if (strstr(message, bench->server->password) ||
        strstr(evpq_error_detail(err), bench->server->password))
        lane_fail(lane, "tells the password", message);
    record->code = evpq_error_code(err);
    record->fate = evpq_error_fate(err);
    record->doubtful = !is_cut(lane->trial.fault);
    bench->codes[-(int)record->code & 15] += lane->attempt == 0;
    if (result && !is_right(result, record->nonce)) {
        if (!record->doubtful)
            lane_fail(lane, "a wrong result", "");
        bench->garbled++;
    }
    if (lane->attempt == 0)
        check_first(lane, record->code, record->fate, message);
    lane->attempt++;
    /* One that comes after a success may be the first to meet the fault. */
    if (lane->attempt == 1 || record->code != EVPQ_OK) {
        if (lane->attempt > 1)
            bench->later_failed++;
        if (lane->attempt > LATER_MOST)
            lane_fail(lane, "no recovery", message);
        lane_ask(lane);
    } else {
        lane_end(lane);
    }
}

static void lane_ask(struct lane *lane)
{
    struct bench *bench = lane->bench;
    if (bench->records_count == bench->records_room) {
        bench->records_room = bench->records_room ? 2 * bench->records_room : 4096;
        bench->records = realloc(bench->records, bench->records_room * sizeof(*bench->records));
        assert_non_null(bench->records);
    }
    uint32_t timeout_ms = (uint32_t)((lane->attempt ? LATER_MS : FIRST_MS) * live_slow());
    lane->record = bench->records_count++;
    lane->answers = 0;
    bench->records[lane->record] = (struct record){.nonce = nonce_new()};
    lane->due = live_now() + timeout_ms / 1e3;
    assert_int_equal(
        evpq_pool_query(NULL, lane->pool,
                        EVPQ_QUERY(statement,
                                   EVPQ_PARAMS(evpq_int8(bench->records[lane->record].nonce)),
                                   .timeout_ms = timeout_ms),
                        on_answer, lane),
        EVPQ_OK);
}

static void pool_open(struct bench *bench, evpq_pool **pool, const struct proxy *proxy,
                      uint32_t min_size)
{
    char more[200];
    snprintf(more, sizeof(more), "port=%d sslmode=disable application_name=bytes",
             proxy_port(proxy));
    uint32_t slow = (uint32_t)live_slow();
    assert_int_equal(
        evpq_pool_open(pool, bench->live.loop,
                       EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(bench->server, more),
                                         .min_size = min_size, .max_size = 1,
                                         .connect_timeout_ms = 400 * slow,
                                         .cancel_timeout_ms = 100 * slow)),
        EVPQ_OK);
}

static void lane_next(struct lane *lane)
{
    struct bench *bench = lane->bench;
    if (bench->next == bench->trials_count) {
        bench->running--;
        return;
    }
    lane->trial = bench->trials[bench->next++];
    lane->attempt = 0;
    lane->connection = proxy_accepted(lane->proxy) + 1;
    proxy_rules_next(lane->proxy, lane->trial.way,
                     &(struct proxy_rules){.fault = lane->trial.fault,
                                           .at = lane->trial.at,
                                           .bit = (unsigned)(lane->trial.at % 8)});
    pool_open(bench, &lane->pool, lane->proxy, 0);
    lane_ask(lane);
}

static void bench_open(struct bench *bench)
{
    *bench = (struct bench){.server = front_server()};
    fault_sql(bench->server, "TRUNCATE effects");
    bench->live.loop = ev_loop_new(EVFLAG_AUTO);
    assert_non_null(bench->live.loop);
    watchdog_start(&bench->dog, bench->live.loop);
    for (int i = 0; i < LANES; i++)
        bench->lanes[i] =
            (struct lane){.bench = bench, .proxy = proxy_start("127.0.0.1", bench->server->port)};
}

static bool is_idle(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == 1;
}

/* How many bytes go each way, without a fault. */
static void bench_measure(struct bench *bench)
{
    struct proxy *proxy = proxy_start("127.0.0.1", bench->server->port);
    pool_open(bench, &bench->live.pool, proxy, 1);
    live_until(&bench->live, is_idle, NULL, 20.);
    for (int way = 0; way < 2; way++)
        bench->login[way] = proxy_bytes(proxy, 1, way ? PROXY_TO_CLIENT : PROXY_TO_SERVER);
    int64_t nonce = nonce_new();
    struct outcome outcome;
    live_query(&bench->live, &outcome,
               EVPQ_QUERY(statement, EVPQ_PARAMS(evpq_int8(nonce)), .timeout_ms = 20000));
    assert_int_equal(outcome.code, EVPQ_OK);
    assert_true(is_right(outcome.result, nonce));
    outcome_clear(&outcome);
    for (int way = 0; way < 2; way++)
        bench->whole[way] = proxy_bytes(proxy, 1, way ? PROXY_TO_CLIENT : PROXY_TO_SERVER);
    int closed = 0;
    assert_int_equal(evpq_pool_close(bench->live.pool, EVPQ_CLOSE_FINISH, 0, NULL, &closed),
                     EVPQ_OK);
    bench->live.pool = NULL;
    live_run(&bench->live, 0.2);
    proxy_stop(proxy);
    assert_true(bench->login[0] > 100 && bench->whole[0] > bench->login[0] + 100);
    assert_true(bench->login[1] > 300 && bench->whole[1] > bench->login[1] + ROWS * FILL);
}

static bool has_ended(struct live *live, void *arg)
{
    (void)live;
    return ((struct bench *)arg)->running == 0;
}

static int by_nonce(const void *a, const void *b)
{
    int64_t x = ((const struct record *)a)->nonce, y = ((const struct record *)b)->nonce;
    return x < y ? -1 : x > y;
}

static void count_effect(int64_t nonce, void *arg)
{
    struct bench *bench = arg;
    struct record *record = bsearch(&(struct record){.nonce = nonce}, bench->records,
                                    bench->records_count, sizeof(*bench->records), by_nonce);
    if (record)
        record->effects++;
}

/* The fates were true: what succeeded was done once, what was not sent or rolled back never. */
static void bench_compare(struct bench *bench)
{
    qsort(bench->records, bench->records_count, sizeof(*bench->records), by_nonce);
    fault_sql_each(bench->server, "SELECT nonce FROM effects", count_effect, bench);
    for (size_t i = 0; i < bench->records_count; i++) {
        const struct record *r = &bench->records[i];
        int least = r->code == EVPQ_OK;
        int most = r->code == EVPQ_OK || r->fate == EVPQ_UNKNOWN;
        if (r->effects > 1 || (!r->doubtful && (r->effects < least || r->effects > most)))
            fail_msg("%s with fate %d, and done %d times", evpq_code_name(r->code), (int)r->fate,
                     r->effects);
    }
}

static void bench_close(struct bench *bench)
{
    watchdog_stop(&bench->dog, bench->live.loop);
    for (int i = 0; i < LANES; i++)
        proxy_stop(bench->lanes[i].proxy);
    live_close(&bench->live);
    free(bench->trials);
    free(bench->records);
}

/* One kind of fault at each byte of both ways, or at every so many. */
static void each_byte(enum proxy_fault fault, uint64_t stride)
{
    static struct bench bench;
    bench_open(&bench);
    bench_measure(&bench);
    int before = live_descriptors();
    if (fault_long())
        stride = 1;
    if (live_scaled(1000) < 1000)
        stride *= 6;
    bench.trials = calloc(bench.whole[0] + bench.whole[1] + 2, sizeof(*bench.trials));
    assert_non_null(bench.trials);
    for (int way = 0; way < 2; way++)
        for (uint64_t at = (uint64_t)fault % stride; at <= bench.whole[way]; at += stride)
            bench.trials[bench.trials_count++] =
                (struct trial){fault, way ? PROXY_TO_CLIENT : PROXY_TO_SERVER, at};
    double start = live_now();
    bench.running = LANES;
    for (int i = 0; i < LANES; i++)
        lane_next(&bench.lanes[i]);
    live_until(&bench.live, has_ended, &bench, 250.);
    print_message("# figure: %s at %d of %d bytes in %.1f s:", fault_names[fault],
                  (int)bench.trials_count, (int)(bench.whole[0] + bench.whole[1]),
                  live_now() - start);
    for (int i = 0; i < 16; i++)
        if (bench.codes[i])
            print_message(" %d %s", bench.codes[i], evpq_code_name(-i));
    print_message(
        "; %d with other data, %d later ones failed; latest %+.1f ms, longest turn %.1f "
        "ms CPU\n",
        bench.garbled, bench.later_failed, bench.latest * 1e3, bench.dog.longest_cpu * 1e3);
    if (is_cut(fault))
        assert_true(bench.met > (int)bench.trials_count * 3 / 4);
    assert_true(watchdog_burnt(&bench.dog) < 0.010 * live_slow());
    for (double end = live_now() + 10. * live_slow();
         (live_descriptors() > before || fault_connections(bench.server, "bytes") > 0) &&
         live_now() < end;)
        live_run(&bench.live, 0.01);
    assert_int_equal(live_descriptors(), before);
    assert_int_equal(fault_connections(bench.server, "bytes"), 0);
    bench_compare(&bench);
    bench_close(&bench);
}

/* C28 */

static uint64_t digest_of(uint64_t digest, const void *data, size_t length)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < length; i++)
        digest = (digest ^ bytes[i]) * 0x100000001b3U;
    return digest;
}

static uint64_t digest_outcome(const struct outcome *outcome)
{
    uint64_t digest = digest_of(0xcbf29ce484222325U, &outcome->code, sizeof(outcome->code));
    digest = digest_of(digest, outcome->message, strlen(outcome->message));
    digest = digest_of(digest, outcome->sqlstate, strlen(outcome->sqlstate));
    if (!outcome->result)
        return digest;
    const PGresult *pg = evpq_result_pgresult(outcome->result);
    uint64_t affected = evpq_result_affected(outcome->result);
    digest = digest_of(digest, &affected, sizeof(affected));
    for (int column = 0; column < PQnfields(pg); column++) {
        Oid type = PQftype(pg, column);
        digest = digest_of(digest, &type, sizeof(type));
        digest = digest_of(digest, PQfname(pg, column), strlen(PQfname(pg, column)));
    }
    for (int row = 0; row < PQntuples(pg); row++)
        for (int column = 0; column < PQnfields(pg); column++) {
            int length = PQgetisnull(pg, row, column) ? -1 : PQgetlength(pg, row, column);
            digest = digest_of(digest, &length, sizeof(length));
            if (length > 0)
                digest = digest_of(digest, PQgetvalue(pg, row, column), (size_t)length);
        }
    return digest;
}

/* Runs them all; returns the CPU time of the loop's thread for a fixed number of requests. */
static double run_exchange(struct live *live, uint64_t *digests, int count)
{
    static const char *const statements[] = {
        "SELECT g, repeat('\u00e9', g), NULL AS nothing FROM generate_series(1, 300) AS g",
        "SELECT decode(repeat('00ff', 20000), 'hex') AS bytes",
        "SELECT 1 WHERE false",
        "SELECT",
        "SELECT 1 / 0",
        "SELECT 1 / (g - 200) FROM generate_series(1, 300) AS g",
        "INSERT INTO effects VALUES (1), (2), (3)",
        "SET work_mem = '1MB'",
        "LISTEN one_byte",
        "DO $$ BEGIN RAISE NOTICE '%', repeat('n', 3000); END $$",
        "SELECT string_agg(md5(g::text), '' ORDER BY g) FROM generate_series(1, 1000) AS g",
        "no statement",
    };
    struct outcome outcome;
    int i = 0;
    for (; i < count && i < (int)(sizeof(statements) / sizeof(statements[0])); i++) {
        evpq_query query = {.size = sizeof(query), .sql = statements[i], .timeout_ms = 60000};
        live_query(live, &outcome, &query);
        digests[i] = digest_outcome(&outcome);
        outcome_clear(&outcome);
    }
    assert_int_equal(i, count);
    double cpu = watchdog_thread_cpu();
    for (i = 0; i < live_scaled(200); i++)
        live_int8(live,
                  EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(i)), .timeout_ms = 60000));
    return watchdog_thread_cpu() - cpu;
}

static void one_byte_in_each_segment_changes_nothing(void **state)
{
    (void)state;
    enum {
        COUNT = 12,
        RUNS = 3,
    };
    uint64_t digests[2][COUNT];
    double least[2] = {1e9, 1e9};
    struct fault_server *server = fault_server();
    struct proxy *proxy = proxy_start("127.0.0.1", server->port);
    struct live live;
    char more[100];
    snprintf(more, sizeof(more), "port=%d sslmode=disable", proxy_port(proxy));
    for (int run = 0; run < 2 * RUNS; run++) {
        int small = run % 2;
        for (int way = 0; way < 2; way++)
            proxy_rules(proxy, way ? PROXY_TO_CLIENT : PROXY_TO_SERVER,
                        &(struct proxy_rules){.segment = (unsigned)small});
        live_open(&live, EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, more), .max_size = 1,
                                           .connect_timeout_ms = 60000));
        double cpu = run_exchange(&live, digests[small], COUNT);
        least[small] = cpu < least[small] ? cpu : least[small];
        live_close(&live);
    }
    for (int i = 0; i < COUNT; i++)
        assert_true(digests[0][i] == digests[1][i]);
    for (int i = 1; i < COUNT; i++)
        assert_true(digests[0][i] != digests[0][0]);
    print_message(
        "# figure: one byte in each segment: %.3f ms of CPU in the loop, %.3f ms without; "
        "%.1f times\n",
        least[1] * 1e3 / live_scaled(200), least[0] * 1e3 / live_scaled(200), least[1] / least[0]);
    assert_true(least[1] < 20. * least[0]);
    proxy_stop(proxy);
}

static void cut_and_closed_at_each_byte(void **state)
{
    (void)state;
    each_byte(PROXY_CUT_CLOSE, 3);
}

static void cut_and_reset_at_each_byte(void **state)
{
    (void)state;
    each_byte(PROXY_CUT_RESET, 3);
}

static void hung_at_each_byte(void **state)
{
    (void)state;
    each_byte(PROXY_CUT_HANG, 8);
}

static void doubled_at_each_byte(void **state)
{
    (void)state;
    each_byte(PROXY_DUPLICATE, 4);
}

static void flipped_at_each_byte(void **state)
{
    (void)state;
    each_byte(PROXY_FLIP, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_byte_in_each_segment_changes_nothing),
        cmocka_unit_test(cut_and_closed_at_each_byte),
        cmocka_unit_test(cut_and_reset_at_each_byte),
        cmocka_unit_test(hung_at_each_byte),
        cmocka_unit_test(doubled_at_each_byte),
        cmocka_unit_test(flipped_at_each_byte),
    };
    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
