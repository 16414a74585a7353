/* SPDX-License-Identifier: MIT */
/*
 * Pages against the server's own order: random tables, types, statements, orders and page sizes,
 * forward and backward, resumed by tokens, in ranges between two tokens, and to and fro: cell for
 * cell what SELECT ... ORDER BY says.
 */
#include "page_oracle.h"
#include "support/pooler.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One walk to check: what is asked for, and what must come. */
struct question {
    evpq_pager_options options;
    evpq_value params[2];
    char order[512], columns[64];
    const char *sql; /* without parameters */
    PGresult *expected;
};

static const evpq_secret secret = {.id = 1, .bytes = "sixteen bytes, or more", .length = 22};

/* Which of them were asked for. */
static struct {
    int walks, ranges, moves, cursors, pages;
} figures;

static uint32_t some_page_size(void)
{
    return 1 + below(one_in(3) ? 70 : 7);
}

static size_t some_prefetch(void)
{
    static const size_t bytes[] = {0, 0, 1, 3000, 1 << 20};
    return bytes[below(COUNT(bytes))];
}

/* The columns to hand over: the id, and some others. */
static const char *some_columns(char out[64])
{
    static const char *const columns[] = {"id", "id, c1", "c2, c0, \"id\"", "c1,id,c0"};
    snprintf(out, 64, "%s", columns[below(COUNT(columns))]);
    return one_in(2) ? out : NULL;
}

static void make_question(struct question *q, const struct table *table)
{
    const struct statement *statement = &statements[one_in(2) ? 0 : below(STATEMENTS)];
    bool by_id = make_order(q->order, table);
    q->sql = statement->plain ? statement->plain : statement->sql;
    q->params[0] = evpq_int8(5);
    q->params[1] = evpq_int8(3);
    q->options =
        *EVPQ_PAGER_OPTIONS(.sql = statement->sql, .order_by = q->order, .params = q->params,
                            .params_count = statement->plain ? 2 : 0, .page_size = some_page_size(),
                            .format = below(2) ? EVPQ_TEXT : EVPQ_BINARY,
                            .columns = some_columns(q->columns), .prefetch_bytes = some_prefetch());
    q->options.assume_unique = !(table->keyed && statement->once && by_id);
    if (one_in(2)) {
        q->options.secrets = &secret;
        q->options.secrets_count = 1;
    }
    q->expected = in_order(q->sql, q->order);
}

static void wrong(const struct question *q, const char *how, int at, const struct step *step)
{
    fail_msg(
        "%s ORDER BY %s, columns %s, %u a page, prefetch %zu, %s: not what the server has from "
        "row %d of %d: %u rows, prev %d, next %d",
        q->options.sql, q->order, q->options.columns ? q->options.columns : "all",
        q->options.page_size, q->options.prefetch_bytes, how, at, PQntuples(q->expected),
        step->rows, step->has_prev, step->has_next);
}

/* ---- from one end to the other ---- */

/* Between two pages the walk may go on in another pager, by the token. */
static void check_walk(struct live *live, const struct question *q, bool backward, bool resume)
{
    struct step step = {0};
    char token[4097];
    evpq_pager *pager = opened(live, &q->options);
    int rows = PQntuples(q->expected), at = backward ? rows : 0;
    bool more = true;
    for (bool first = true; more; first = false) {
        good_page(live, pager, &step,
                  backward ? (first ? evpq_pager_last : evpq_pager_prev) : evpq_pager_next,
                  q->order);
        at -= backward ? (int)step.rows : 0;
        more = backward ? step.has_prev : step.has_next;
        if (!page_is(&step, q->expected, at) || (more && step.rows != q->options.page_size))
            wrong(q, backward ? "backward" : "forward", at, &step);
        at += backward ? 0 : (int)step.rows;
        figures.pages++;
        if (!more || !resume)
            continue;
        snprintf(token, sizeof(token), "%s", backward ? step.token_before : step.token);
        assert_true(token[0] != '\0');
        evpq_pager_close(pager);
        evpq_pager_options again = q->options;
        *(backward ? &again.before : &again.after) = token;
        pager = opened(live, &again);
    }
    if (at != (backward ? 0 : rows))
        wrong(q, "at the end", at, &step);
    evpq_pager_close(pager);
    step_clear(&step);
    figures.walks++;
}

/* ---- ranges between two tokens ---- */

enum { CUTS_MOST = 4 };

struct cuts {
    char token[CUTS_MOST][4097];
    int at[CUTS_MOST]; /* rows before it */
    int count;
};

/* Tokens of some pages, and sometimes of one twice. */
static void make_cuts(struct live *live, const struct question *q, struct cuts *cuts)
{
    struct step step = {0};
    evpq_pager *pager = opened(live, &q->options);
    int at = 0;
    cuts->count = 0;
    do {
        good_page(live, pager, &step, evpq_pager_next, q->order);
        at += (int)step.rows;
        for (int same = 0; same < 2 && step.rows > 0 && cuts->count < CUTS_MOST && one_in(2);
             same++) {
            strcpy(cuts->token[cuts->count], step.token);
            cuts->at[cuts->count++] = at;
        }
    } while (step.has_next && cuts->count < CUTS_MOST);
    evpq_pager_close(pager);
    step_clear(&step);
}

static void check_range(struct live *live, const struct question *q, const char *after, int from,
                        const char *until, int to)
{
    struct step step = {0};
    evpq_pager_options options = q->options;
    options.after = after;
    options.until = until;
    options.page_size = some_page_size();
    options.prefetch_bytes = some_prefetch();
    evpq_pager *pager = opened(live, &options);
    int at = from;
    do {
        good_page(live, pager, &step, evpq_pager_next, q->order);
        int left = to > at ? to - at : 0;
        if (!page_is(&step, q->expected, at) ||
            (int)step.rows != (left < (int)options.page_size ? left : (int)options.page_size) ||
            step.has_next != (left > (int)step.rows))
            wrong(q, "in a range", at, &step);
        at += (int)step.rows;
        figures.pages++;
    } while (step.has_next);
    if (until) {
        assert_int_equal(evpq_pager_last(NULL, pager, on_page, &step), EVPQ_EINVALID);
        assert_int_equal(evpq_pager_prev(NULL, pager, on_page, &step), EVPQ_EINVALID);
    }
    evpq_pager_close(pager);
    step_clear(&step);
    figures.ranges++;
}

static void check_ranges(struct live *live, const struct question *q)
{
    static struct cuts cuts;
    make_cuts(live, q, &cuts);
    for (int i = 0; i <= cuts.count; i++)
        check_range(live, q, i > 0 ? cuts.token[i - 1] : NULL, i > 0 ? cuts.at[i - 1] : 0,
                    i < cuts.count ? cuts.token[i] : NULL,
                    i < cuts.count ? cuts.at[i] : PQntuples(q->expected));
    /* The same token at both ends, and the wrong way round: nothing. */
    if (cuts.count > 0) {
        int last = cuts.count - 1;
        check_range(live, q, cuts.token[last], cuts.at[last], cuts.token[last], cuts.at[last]);
        check_range(live, q, cuts.token[last], cuts.at[last], cuts.token[0], cuts.at[0]);
    }
}

/* ---- to and fro ---- */

/* Where a pager stands: rows before the page shown, and before what is behind it; -1: not known. */
struct model {
    int before, behind;
    bool by_offset;
};

static bool model_next(struct model *m, int rows, int size, int *at, int *count, bool flags[2])
{
    int from = m->behind >= 0 ? m->behind : m->before;
    *at = from < 0 ? 0 : from;
    *count = rows - *at < size ? rows - *at : size;
    flags[0] = m->by_offset ? *at > 0 : from >= 0;
    flags[1] = rows - *at > size;
    return true;
}

static bool model_prev(struct model *m, int rows, int size, int *at, int *count, bool flags[2])
{
    (void)rows;
    int end = m->before >= 0 ? m->before : m->behind;
    *count = end < 0 ? 0 : end < size ? end : size;
    *at = end < 0 ? 0 : end - *count;
    flags[0] = end > size;
    flags[1] = m->by_offset ? false : end >= 0;
    return true;
}

static bool model_first(struct model *m, int rows, int size, int *at, int *count, bool flags[2])
{
    struct model start = {-1, -1, m->by_offset};
    return model_next(&start, rows, size, at, count, flags);
}

static bool model_last(struct model *m, int rows, int size, int *at, int *count, bool flags[2])
{
    *count = rows < size ? rows : size;
    *at = rows - *count;
    flags[0] = rows > size;
    flags[1] = false;
    return !m->by_offset;
}

static const struct {
    ask_fn *ask;
    bool (*model)(struct model *, int, int, int *, int *, bool[2]);
    const char *name;
} moves[] = {
    {evpq_pager_next, model_next, "next"},    {evpq_pager_next, model_next, "next"},
    {evpq_pager_prev, model_prev, "prev"},    {evpq_pager_prev, model_prev, "prev"},
    {evpq_pager_first, model_first, "first"}, {evpq_pager_last, model_last, "last"},
};

/* Sometimes what is fetched ahead has come, sometimes it is on its way. */
static void let_pass(struct live *live)
{
    if (one_in(3))
        live_run(live, 0.002);
    else if (one_in(2))
        ev_run(live->loop, EVRUN_NOWAIT);
}

static void check_move(struct live *live, const struct question *q, evpq_pager *pager,
                       struct model *m, struct step *step)
{
    const unsigned move = below(COUNT(moves));
    int at, count, rows = PQntuples(q->expected);
    bool flags[2];
    if (!moves[move].model(m, rows, (int)q->options.page_size, &at, &count, flags)) {
        assert_int_equal(moves[move].ask(NULL, pager, on_page, step), EVPQ_EINVALID);
        return;
    }
    good_page(live, pager, step, moves[move].ask, q->order);
    /* An offset page that began behind the end, or is empty, says so by its offset alone. */
    if (!page_is(step, q->expected, at) || (int)step->rows != count || step->has_prev != flags[0] ||
        (!m->by_offset && step->has_next != flags[1]))
        wrong(q, moves[move].name, at, step);
    if (count > 0)
        *m = (struct model){at, at + count, m->by_offset};
    figures.moves++;
}

static void check_moves(struct live *live, const struct question *q)
{
    struct step step = {0};
    char token[4097];
    struct model model = {-1, -1, q->options.mode == EVPQ_PAGES_OFFSET};
    evpq_pager *pager = opened(live, &q->options);
    for (int i = 0; i < 16; i++) {
        check_move(live, q, pager, &model, &step);
        let_pass(live);
        if (!one_in(6) || model.before < 0 || model.behind < 0)
            continue;
        evpq_pager_options again = q->options;
        bool before = one_in(2);
        snprintf(token, sizeof(token), "%s",
                 before ? evpq_pager_token_before(pager) : evpq_pager_token(pager));
        *(before ? &again.before : &again.after) = token;
        *(before ? &model.behind : &model.before) = -1;
        evpq_pager_close(pager);
        pager = opened(live, &again);
    }
    evpq_pager_close(pager);
    step_clear(&step);
}

/* ---- at one moment ---- */

static bool is_idle(struct live *live, void *arg)
{
    (void)arg;
    evpq_pool_stats stats = live_stats(live);
    return stats.busy == 0 && stats.cleaning == 0;
}

static void check_cursor(struct live *live, struct question *q)
{
    q->options.mode = EVPQ_PAGES_CURSOR;
    q->options.prefetch_bytes = 0;
    check_walk(live, q, one_in(2), false);
    live_until(live, is_idle, NULL, 10. * live_slow()); /* its locks are gone */
    figures.walks--;
    figures.cursors++;
}

/* ---- all of it ---- */

/* In a pool of its own: another table of the same name is nothing that one expects. */
static void check_table(void)
{
    struct live pool, *live = &pool;
    struct table table = make_table();
    live_open(live, EVPQ_POOL_OPTIONS(.max_size = 2));
    for (int i = 0; i < 3; i++) {
        struct question q;
        make_question(&q, &table);
        check_walk(live, &q, false, one_in(2));
        check_walk(live, &q, true, one_in(2));
        check_ranges(live, &q);
        if (one_in(3))
            q.options.mode = EVPQ_PAGES_OFFSET;
        check_moves(live, &q);
        check_cursor(live, &q);
        PQclear(q.expected);
    }
    live_close(live);
}

static void pages_are_what_the_server_orders(void **state)
{
    (void)state;
    start_chance();
    int tables = live_scaled(80);
    for (int i = 0; i < tables; i++)
        check_table();
    print_message(
        "figure: %d tables, %d walks from end to end, %d ranges, %d moves to and fro, "
        "%d pages of walks and ranges\n",
        tables, figures.walks, figures.ranges, figures.moves, figures.pages);
}

/* VALUES has column1, column2, ...; nothing of it is in the catalogs. */
static void rows_of_values_are_paged(void **state)
{
    (void)state;
    struct live live;
    live_open(&live, EVPQ_POOL_OPTIONS(.max_size = 1));
    static const char sql[] =
        "VALUES (1, 'b', NULL::int8), (2, NULL, 7), (3, '', 7), (4, 'b', NULL)";
    for (uint32_t size = 1; size < 6; size++) {
        struct step step = {0};
        int at = 0;
        static const int wanted[] = {4, 1, 3, 2};
        evpq_pager *pager =
            opened(&live, EVPQ_PAGER_OPTIONS(.sql = sql,
                                             .order_by = "column2 DESC NULLS LAST, column1 DESC",
                                             .page_size = size, .assume_unique = true));
        do {
            next_good(&live, pager, &step);
            for (uint32_t row = 0; row < step.rows; row++)
                assert_int_equal(int8_at(step.result, row, "column1"), wanted[at++]);
        } while (step.has_next);
        assert_int_equal(at, 4);
        evpq_pager_close(pager);
        step_clear(&step);
    }
    live_close(&live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pages_are_what_the_server_orders, make_types, drop_types),
        cmocka_unit_test(rows_of_values_are_paged),
    };
    return pooler_run_group_tests_name("page_oracle", tests, NULL, NULL);
}
