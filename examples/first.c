/* SPDX-License-Identifier: MIT */
#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>

static evpq_pool *pool;
static evpq_pager *pager;
static int status;

static void on_answer(evpq_result *result, const evpq_error *err, void *user)
{
    int64_t answer;
    (void)user;
    if (err) {
        fprintf(stderr, "query: %s\n", evpq_error_message(err));
        status = 1;
    } else if (evpq_result_int8(result, 0, 0, &answer) == EVPQ_OK) {
        printf("answer: %lld\n", (long long)answer);
    }
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    evpq_text_view id;
    if (err) {
        fprintf(stderr, "page: %s\n", evpq_error_message(err));
        status = 1;
    }
    for (uint32_t row = 0; row < evpq_page_rows(page); row++)
        if (evpq_result_text(evpq_page_result(page), row, 0, &id) == EVPQ_OK)
            printf("%s%c", id.data, row + 1 < evpq_page_rows(page) ? ' ' : '\n');
    if (evpq_page_has_next(page) && evpq_pager_next(NULL, pager, on_page, user) == EVPQ_OK)
        return;
    evpq_pager_close(pager);
    evpq_pool_close(pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

int main(void)
{
    struct ev_loop *loop = ev_default_loop(0);
    const evpq_query *query =
        EVPQ_QUERY("SELECT 2 * $1", EVPQ_PARAMS(evpq_int8(21)), .timeout_ms = 2000);
    const evpq_pager_options *pages =
        EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM generate_series(1, 25) AS id", .order_by = "id",
                           .assume_unique = true, .page_size = 10, .timeout_ms = 2000);
    if (evpq_pool_open(&pool, loop, EVPQ_POOL_OPTIONS(.max_size = 4)) != EVPQ_OK ||
        evpq_pool_query(NULL, pool, query, on_answer, NULL) != EVPQ_OK ||
        evpq_pager_open(&pager, pool, pages) != EVPQ_OK ||
        evpq_pager_next(NULL, pager, on_page, NULL) != EVPQ_OK)
        return 1;
    ev_run(loop, 0); /* returns when the pool has closed */
    return status;
}
