/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_LIVE_PAGE_STEP_H
#define EVPQ_TESTS_LIVE_PAGE_STEP_H

/* One page at a time, waited for; and a table to page over. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/live.h"

struct step {
    int calls;
    evpq_code code;
    char message[1200];
    char sqlstate[6];
    uint32_t position;
    uint32_t rows;
    bool has_next, has_prev;
    char token[4097], token_before[4097]; /* "" when there was none */
    evpq_result *result;                  /* kept; freed by the next step, and by step_clear() */
};

static inline void step_clear(struct step *step)
{
    evpq_result_free(step->result);
    *step = (struct step){0};
}

static inline void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct step *step = user;
    assert_true((page != NULL) == (err == NULL));
    step->calls++;
    step->code = evpq_error_code(err);
    snprintf(step->message, sizeof(step->message), "%s", evpq_error_message(err));
    snprintf(step->sqlstate, sizeof(step->sqlstate), "%s", evpq_error_sqlstate(err));
    step->position = evpq_error_position(err);
    if (!page)
        return;
    const char *token = evpq_page_token(page);
    snprintf(step->token, sizeof(step->token), "%s", token ? token : "");
    step->rows = evpq_page_rows(page);
    token = evpq_page_token_before(page);
    snprintf(step->token_before, sizeof(step->token_before), "%s", token ? token : "");
    step->has_next = evpq_page_has_next(page);
    step->has_prev = evpq_page_has_prev(page);
    step->result = evpq_result_keep(evpq_page_result(page));
    assert_int_equal(evpq_result_rows(step->result), step->rows);
}

static inline bool has_called(struct live *live, void *arg)
{
    (void)live;
    return ((struct step *)arg)->calls > 0;
}

static inline void wait_step(struct live *live, struct step *step)
{
    live_until(live, has_called, step, 60.);
    assert_int_equal(step->calls, 1);
}

static inline void next(struct live *live, evpq_pager *pager, struct step *step)
{
    step_clear(step);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, step), EVPQ_OK);
    assert_int_equal(step->calls, 0);
    wait_step(live, step);
}

static inline void next_good(struct live *live, evpq_pager *pager, struct step *step)
{
    next(live, pager, step);
    if (step->code != EVPQ_OK)
        fail_msg("%s %s", step->sqlstate, step->message);
}

static inline evpq_pager *opened(struct live *live, const evpq_pager_options *options)
{
    evpq_pager *pager = NULL;
    int code = evpq_pager_open(&pager, live->pool, options);
    if (code != EVPQ_OK)
        fail_msg("%s: %s", evpq_code_name(code), evpq_pager_options_problem(options));
    return pager;
}

/* A bigint of a result in either format; 0 for NULL. */
static inline int64_t int8_at(const evpq_result *result, uint32_t row, const char *name)
{
    int column = evpq_result_column_index(result, name);
    assert_true(column >= 0);
    int64_t value = 0;
    evpq_text_view text;
    if (evpq_result_is_null(result, row, (uint32_t)column))
        return 0;
    if (evpq_result_format(result) == EVPQ_BINARY)
        assert_int_equal(evpq_result_int8(result, row, (uint32_t)column, &value), EVPQ_OK);
    else if (evpq_result_text(result, row, (uint32_t)column, &text) == EVPQ_OK)
        value = strtoll(text.data, NULL, 10);
    return value;
}

/* Rows with `id` from 1 to `count`; `ord` is the same, and `tie` is not unique. */
static inline void make_rows(int count)
{
    char sql[512];
    aside_int8("DROP TABLE IF EXISTS evpq_page_rows");
    snprintf(sql, sizeof(sql),
             "CREATE UNLOGGED TABLE evpq_page_rows AS SELECT i::int8 AS id, i::int8 AS ord, "
             "(i %% 3)::int8 AS tie FROM generate_series(1, %d) AS i",
             count);
    aside_int8(sql);
    aside_int8("ALTER TABLE evpq_page_rows ADD PRIMARY KEY (id)");
}

static inline int drop_rows(void **state)
{
    (void)state;
    aside_int8("DROP TABLE IF EXISTS evpq_page_rows");
    return 0;
}

#endif /* EVPQ_TESTS_LIVE_PAGE_STEP_H */
