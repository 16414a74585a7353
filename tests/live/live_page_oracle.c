/* SPDX-License-Identifier: MIT */
/*
 * Pages against the server's own order: random tables, types, orders and page
 * sizes, forward and backward, resumed by tokens, cut into ranges, by cursor,
 * row for row what SELECT ... ORDER BY says. EVPQ_TEST_SEED repeats a run.
 */
#include "page_step.h"

/* ---- chance ---- */

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

/* ---- what is paged over ---- */

/* Every btree type that behaves in its own way; of each, values that are hard to carry. */
static const struct {
    const char *type, *values;
} kinds[] = {
    {"bool", "true|false"},
    {"int2", "-32768|0|1|32767"},
    {"int8", "-9223372036854775808|-1|0|9007199254740993|9223372036854775807"},
    {"numeric", "NaN|0|0.1|1.5|-12345678901234567890.123456789|Infinity|-Infinity|1e-300"},
    {"float4", "NaN|0|1e-45|16777217|Infinity|-Infinity|0.1"},
    {"float8", "NaN|-0.5|0.30000000000000004|0.1|5e-324|1.7976931348623157e308|Infinity"},
    {"text", "|a|B|b|\\|aa|\"q\"|it's|z\xc3\xa9|\xf0\x9f\x90\x98|new\nline"},
    {"text COLLATE \"C\"", "|a|B|b|A|aa|\xc3\xa9"},
    {"varchar(9)", "|a|B|b c|d"},
    {"char(4)", "|a|ab|b|B"},
    {"bytea", "|\\x00|\\x0001|\\xff|\\x5c"},
    {"uuid",
     "00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff|"
     "123e4567-e89b-12d3-a456-426614174000"},
    {"date", "-infinity|infinity|4713-01-01 BC|2024-02-29|5874897-12-31"},
    {"timestamp",
     "-infinity|infinity|4713-01-01 00:00:00 BC|2024-01-01 00:00:00.000001|2024-01-01"},
    {"timestamptz",
     "-infinity|infinity|2024-01-01 00:00:00.000001+00|2024-01-01 00:00:00.000002+00|"
     "0044-03-15 12:00:00+00 BC"},
    {"interval", "0|1 day|1 mon|-1 year|23:59:59.999999"},
    {"time", "00:00|23:59:59.999999|24:00"},
    {"inet", "10.0.0.1|10.0.0.0/8|::1|2001:db8::/32|255.255.255.255"},
    {"macaddr", "08:00:2b:01:02:03|00:00:00:00:00:00"},
    {"bit varying(8)", "|0|1|0101|11111111"},
    {"jsonb", "null|1|\"a\"|[1,2]|{\"a\":1}|{}"},
    {"int4range", "empty|[1,2)|[1,)|(,5)|(,)"},
    {"int4[]", "{}|{1}|{1,NULL}|{2,1}|{NULL}"},
    {"evpq_mood", "sad|ok|happy"},
    {"evpq_even", "0|2|40"},
    {"evpq_pair", "(1,a)|(1,)|(,b)|(2,\"x,y\")"},
    {"oid", "0|1|4294967295"},
    {"money", "0|1.5|-3"},
    {"name", "|a|B|pg_class"},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]), COLUMNS = 3 };

static int64_t run(const char *sql)
{
    return aside_int8(sql);
}

static int make_types(void **state)
{
    (void)state;
    run("DROP TABLE IF EXISTS evpq_oracle");
    run("DROP TYPE IF EXISTS evpq_mood, evpq_pair");
    run("DROP DOMAIN IF EXISTS evpq_even");
    run("CREATE TYPE evpq_mood AS ENUM ('sad', 'ok', 'happy')");
    run("CREATE DOMAIN evpq_even AS int CHECK (value % 2 = 0)");
    run("CREATE TYPE evpq_pair AS (n int, t text)");
    return 0;
}

static int drop_types(void **state)
{
    (void)state;
    run("DROP TABLE IF EXISTS evpq_oracle");
    run("DROP TYPE IF EXISTS evpq_mood, evpq_pair");
    run("DROP DOMAIN IF EXISTS evpq_even");
    return 0;
}

/* The nth of "a|b|c"; a bar of its own is written as two characters, backslash and bar. */
static void put_value(char *out, size_t capacity, const char *values)
{
    unsigned count = 1, n;
    for (const char *c = values; *c; c++)
        count += *c == '|';
    n = below(count);
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

struct table {
    int kind[COLUMNS];
    unsigned rows;
};

static struct table make_table(void)
{
    struct table table = {.rows = below(60)};
    char sql[1024];
    size_t length = 0;
    run("DROP TABLE IF EXISTS evpq_oracle");
    length += (size_t)snprintf(sql, sizeof(sql), "CREATE UNLOGGED TABLE evpq_oracle (id int8");
    for (int i = 0; i < COLUMNS; i++) {
        table.kind[i] = (int)below(KINDS);
        length += (size_t)snprintf(sql + length, sizeof(sql) - length, ", c%d %s", i,
                                   kinds[table.kind[i]].type);
    }
    snprintf(sql + length, sizeof(sql) - length, ")");
    run(sql);
    static char insert[65536];
    length = (size_t)snprintf(insert, sizeof(insert), "INSERT INTO evpq_oracle VALUES");
    for (unsigned row = 0; row < table.rows; row++) {
        length += (size_t)snprintf(insert + length, sizeof(insert) - length, "%s(%u",
                                   row ? ", " : " ", row * 7919 % 1009);
        for (int i = 0; i < COLUMNS; i++) {
            char value[128] = "NULL";
            if (below(5) > 0)
                put_value(value, sizeof(value), kinds[table.kind[i]].values);
            length += (size_t)snprintf(insert + length, sizeof(insert) - length, ", %s", value);
        }
        length += (size_t)snprintf(insert + length, sizeof(insert) - length, ")");
    }
    if (table.rows > 0)
        run(insert);
    return table;
}

/* An order that ends in something unique. */
static void make_order(char out[512])
{
    static const char *const directions[] = {"", " ASC", " DESC"};
    static const char *const nulls[] = {"", "", " NULLS FIRST", " NULLS LAST"};
    size_t length = 0;
    unsigned first = below(COLUMNS), count = below(COLUMNS + 1);
    for (unsigned i = 0; i < count; i++)
        length += (size_t)snprintf(out + length, 512 - length, "c%u%s%s, ", (first + i) % COLUMNS,
                                   directions[below(3)], nulls[below(4)]);
    static const char *const last[] = {"id", "id DESC", "-id", "(id * 2) DESC NULLS LAST",
                                       "id + 0"};
    snprintf(out + length, 512 - length, "%s", last[below(5)]);
}

/* ---- what came ---- */

struct rows {
    int64_t id[64];
    unsigned count;
};

static void take(struct rows *rows, const struct step *step, bool in_front)
{
    assert_true(rows->count + step->rows <= 64);
    if (in_front)
        memmove(rows->id + step->rows, rows->id, rows->count * sizeof(rows->id[0]));
    for (uint32_t i = 0; i < step->rows; i++)
        rows->id[in_front ? i : rows->count + i] = int8_at(step->result, i, "id");
    rows->count += step->rows;
}

static void check(const struct rows *got, const struct rows *expected, const char *order,
                  const char *how)
{
    bool same = got->count == expected->count &&
                memcmp(got->id, expected->id, got->count * sizeof(got->id[0])) == 0;
    if (!same)
        fail_msg("ORDER BY %s, %s: %u rows came, %u were expected, or in another order", order, how,
                 got->count, expected->count);
}

static void ask_server(struct live *live, const char *order, struct rows *out)
{
    struct outcome outcome;
    char sql[1024];
    snprintf(sql, sizeof(sql), "SELECT id FROM evpq_oracle ORDER BY %s", order);
    live_query(live, &outcome, EVPQ_QUERY(sql));
    if (outcome.code != EVPQ_OK)
        fail_msg("%s: %s", sql, outcome.message);
    out->count = evpq_result_rows(outcome.result);
    for (unsigned i = 0; i < out->count; i++)
        assert_int_equal(evpq_result_int8(outcome.result, i, 0, &out->id[i]), EVPQ_OK);
    outcome_clear(&outcome);
}

static void page_of(struct live *live, evpq_pager *pager, struct step *step,
                    int (*ask)(evpq_op **, evpq_pager *, evpq_page_fn *, void *), const char *order)
{
    step_clear(step);
    assert_int_equal(ask(NULL, pager, on_page, step), EVPQ_OK);
    wait_step(live, step);
    if (step->code != EVPQ_OK)
        fail_msg("ORDER BY %s: %s %s", order, step->sqlstate, step->message);
}

/* Walks to the end; between two pages the walk may go on in another pager, by the token. */
static void walk(struct live *live, evpq_pager_options *options, bool backward, bool resume,
                 struct rows *out)
{
    struct step step = {0};
    char token[4097];
    evpq_pager *pager = opened(live, options);
    bool more = true;
    out->count = 0;
    for (bool first = true; more; first = false) {
        page_of(live, pager, &step,
                backward ? (first ? evpq_pager_last : evpq_pager_prev) : evpq_pager_next,
                options->order_by);
        take(out, &step, backward);
        more = backward ? step.has_prev : step.has_next;
        if (!more || !resume)
            continue;
        snprintf(token, sizeof(token), "%s", backward ? step.token_before : step.token);
        assert_true(token[0] != '\0');
        evpq_pager_close(pager);
        evpq_pager_options again = *options;
        *(backward ? &again.before : &again.after) = token;
        pager = opened(live, &again);
    }
    evpq_pager_close(pager);
    step_clear(&step);
}

/* Cut into ranges by tokens of a walk, each with a pager of its own. */
static void walk_ranges(struct live *live, const evpq_pager_options *options, struct rows *out)
{
    static char tokens[64][4097];
    struct step step = {0};
    struct rows part;
    unsigned cuts = 0;
    evpq_pager *pager = opened(live, options);
    for (bool more = true; more; more = step.has_next) {
        page_of(live, pager, &step, evpq_pager_next, options->order_by);
        if (step.rows > 0 && below(3) > 0)
            memcpy(tokens[cuts++], step.token, sizeof(tokens[0]));
    }
    evpq_pager_close(pager);
    step_clear(&step);
    out->count = 0;
    for (unsigned i = 0; i <= cuts; i++) {
        evpq_pager_options range = *options;
        range.after = i > 0 ? tokens[i - 1] : NULL;
        range.until = i < cuts ? tokens[i] : NULL;
        range.page_size = 1 + below(9);
        walk(live, &range, false, below(2), &part);
        assert_true(out->count + part.count <= 64);
        memcpy(out->id + out->count, part.id, part.count * sizeof(part.id[0]));
        out->count += part.count;
    }
}

static bool is_idle(struct live *live, void *arg)
{
    (void)arg;
    evpq_pool_stats stats = live_stats(live);
    return stats.busy == 0 && stats.cleaning == 0;
}

static void check_table(struct live *live)
{
    static const evpq_secret secret = {.id = 1, .bytes = "sixteen bytes, or more", .length = 22};
    make_table();
    for (int i = 0; i < 4; i++) {
        char order[512];
        struct rows expected, got;
        make_order(order);
        ask_server(live, order, &expected);
        evpq_pager_options options =
            *EVPQ_PAGER_OPTIONS(.sql = "SELECT * FROM evpq_oracle", .order_by = order,
                                .page_size = 1 + below(below(2) ? 5 : 70),
                                .format = below(2) ? EVPQ_TEXT : EVPQ_BINARY);
        if (below(2))
            options.columns = "id";
        if (below(2)) {
            options.secrets = &secret;
            options.secrets_count = 1;
        }
        bool resume = below(2);
        walk(live, &options, false, resume, &got);
        check(&got, &expected, order, "forward");
        walk(live, &options, true, resume, &got);
        check(&got, &expected, order, "backward");
        walk_ranges(live, &options, &got);
        check(&got, &expected, order, "in ranges");
        options.mode = EVPQ_PAGES_CURSOR;
        bool backward = below(2);
        walk(live, &options, backward, false, &got);
        check(&got, &expected, order, backward ? "by cursor, backward" : "by cursor");
        live_until(live, is_idle, NULL, 10. * live_slow()); /* its locks are gone */
    }
}

static void pages_are_what_the_server_orders(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    start_chance();
    int tables = live_scaled(300);
    for (int i = 0; i < tables; i++)
        check_table(&live);
    print_message("figure: %d tables, 4 orders each, both ways\n", tables);
    live_close(&live);
}

static void there_and_back_again(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager = opened(
        &live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 4));
    static const struct {
        int (*ask)(evpq_op **, evpq_pager *, evpq_page_fn *, void *);
        int64_t first;
        uint32_t rows;
        bool has_prev, has_next;
    } steps[] = {
        {evpq_pager_prev, 0, 0, false, false}, /* it stands before the first row */
        {evpq_pager_next, 1, 4, false, true},  {evpq_pager_prev, 0, 0, false, true},
        {evpq_pager_next, 5, 4, true, true},   {evpq_pager_next, 9, 2, true, false},
        {evpq_pager_next, 0, 0, true, false},  {evpq_pager_prev, 5, 4, true, true},
        {evpq_pager_prev, 1, 4, false, true},  {evpq_pager_last, 7, 4, true, false},
        {evpq_pager_prev, 3, 4, true, true},   {evpq_pager_prev, 1, 2, false, true},
        {evpq_pager_first, 1, 4, false, true}, {evpq_pager_next, 5, 4, true, true},
    };
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        page_of(&live, pager, &step, steps[i].ask, "id");
        if (step.rows != steps[i].rows || step.has_prev != steps[i].has_prev ||
            step.has_next != steps[i].has_next)
            fail_msg("step %zu: %u rows, prev %d, next %d", i, step.rows, step.has_prev,
                     step.has_next);
        for (uint32_t row = 0; row < step.rows; row++)
            assert_int_equal(int8_at(step.result, row, "id"), steps[i].first + row);
    }
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void offset_pages_go_back_too(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    char token[4097];
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM evpq_page_rows ORDER BY id", .page_size = 4);
    evpq_pager *pager = opened(&live, &options);
    assert_int_equal(evpq_pager_last(NULL, pager, on_page, &step), EVPQ_EINVALID);
    page_of(&live, pager, &step, evpq_pager_next, "");
    page_of(&live, pager, &step, evpq_pager_next, "");
    assert_int_equal(int8_at(step.result, 0, "id"), 5);
    assert_true(step.has_prev && step.has_next);
    snprintf(token, sizeof(token), "%s", step.token_before);
    page_of(&live, pager, &step, evpq_pager_prev, "");
    assert_int_equal(int8_at(step.result, 0, "id"), 1);
    assert_int_equal(step.rows, 4);
    assert_true(!step.has_prev && step.has_next);
    page_of(&live, pager, &step, evpq_pager_prev, "");
    assert_int_equal(step.rows, 0);
    evpq_pager_close(pager);
    options.before = token;
    options.page_size = 3;
    pager = opened(&live, &options);
    page_of(&live, pager, &step, evpq_pager_prev, "");
    assert_int_equal(int8_at(step.result, 0, "id"), 2);
    assert_int_equal(step.rows, 3);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_token_is_of_one_direction(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    char behind[4097], before[4097];
    make_rows(10);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager_options options =
        *EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .order_by = "id", .page_size = 3);
    evpq_pager *pager = opened(&live, &options);
    next_good(&live, pager, &step);
    next_good(&live, pager, &step); /* 4, 5, 6 */
    snprintf(behind, sizeof(behind), "%s", step.token);
    snprintf(before, sizeof(before), "%s", step.token_before);
    evpq_pager_close(pager);
    options.after = before;
    assert_string_equal(evpq_pager_options_problem(&options), EVPQ_TOKEN_PROBLEM);
    options.after = NULL;
    options.before = behind;
    assert_string_equal(evpq_pager_options_problem(&options), EVPQ_TOKEN_PROBLEM);
    /* The other way the row next to the place belongs to the page. */
    options.before = before;
    pager = opened(&live, &options);
    page_of(&live, pager, &step, evpq_pager_next, "id");
    assert_int_equal(int8_at(step.result, 0, "id"), 4);
    evpq_pager_close(pager);
    options.before = NULL;
    options.after = behind;
    pager = opened(&live, &options);
    page_of(&live, pager, &step, evpq_pager_prev, "id");
    assert_int_equal(int8_at(step.result, 2, "id"), 6);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void hidden_columns_stay_hidden(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(5);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "TABLE evpq_page_rows", .columns = "tie, ord",
                                         .order_by = "-id, id", .page_size = 2));
    next_good(&live, pager, &step);
    next_good(&live, pager, &step);
    assert_int_equal(evpq_result_columns(step.result), 2);
    assert_string_equal(evpq_result_column_name(step.result, 0), "tie");
    assert_null(evpq_result_column_name(step.result, 2));
    assert_int_equal(evpq_result_column_index(step.result, "evpq_key_1"), -1);
    assert_int_equal(int8_at(step.result, 0, "ord"), 3);
    evpq_text_view text;
    assert_int_equal(evpq_result_text(step.result, 0, 2, &text), EVPQ_EINVALID);
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

static void a_walk_has_a_deadline_of_its_own(void **state)
{
    (void)state;
    struct live live;
    struct step step = {0};
    make_rows(5);
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    evpq_pager *pager =
        opened(&live, EVPQ_PAGER_OPTIONS(.sql = "SELECT id, pg_sleep(0.2) FROM evpq_page_rows",
                                         .order_by = "id", .page_size = 1, .walk_timeout_ms = 500));
    int code = EVPQ_OK;
    double start = live_now();
    for (int i = 0; i < 9 && code == EVPQ_OK; i++) {
        step_clear(&step);
        code = evpq_pager_next(NULL, pager, on_page, &step);
        if (code == EVPQ_OK)
            wait_step(&live, &step);
    }
    assert_int_equal(code, EVPQ_ETIMEOUT);
    assert_true(live_now() - start < 5. * live_slow());
    evpq_pager_close(pager);
    step_clear(&step);
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_are_what_the_server_orders, make_types, drop_types),
        cmocka_unit_test_teardown(there_and_back_again, drop_rows),
        cmocka_unit_test_teardown(offset_pages_go_back_too, drop_rows),
        cmocka_unit_test_teardown(a_token_is_of_one_direction, drop_rows),
        cmocka_unit_test_teardown(hidden_columns_stay_hidden, drop_rows),
        cmocka_unit_test_teardown(a_walk_has_a_deadline_of_its_own, drop_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
