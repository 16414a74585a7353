/* SPDX-License-Identifier: MIT */

/*
 * Moves an amount from one account to another: both changes, or none, in one
 * round trip.
 *
 *     batch [AMOUNT]     more than 100 is more than there is, and changes nothing
 */

#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>
#include <stdlib.h>

static evpq_pool *pool;
static int status;

/* Once for each statement, when all are committed, or when it is known that none is. */
static void on_result(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    int64_t balance;
    (void)user;
    if (err && evpq_error_statement(err) == statement)
        fprintf(stderr, "batch: statement %u: %s\n", statement, evpq_error_message(err));
    if (evpq_result_int8(result, 0, 0, &balance) == EVPQ_OK)
        printf("balance: %lld\n", (long long)balance);
}

static void on_done(const evpq_error *err, void *user)
{
    (void)user;
    if (err) {
        fprintf(stderr, "batch: %s: %s\n",
                evpq_error_fate(err) == EVPQ_UNKNOWN ? "it may have happened"
                                                     : "nothing was changed",
                evpq_error_message(err));
        status = 1;
    }
    evpq_pool_close(pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

int main(int argc, char **argv)
{
    static const char change[] =
        "UPDATE account SET balance = balance + $1 WHERE id = $2 RETURNING balance";
    struct ev_loop *loop = ev_default_loop(0);
    int64_t amount = argc > 1 ? strtoll(argv[1], NULL, 10) : 30;
    /* clang-format off */
    const evpq_batch *batch = EVPQ_BATCH(EVPQ_BATCH_TRANSACTION, EVPQ_QUERIES(
        EVPQ_QUERY("CREATE TEMP TABLE account (id bigint, balance bigint CHECK (balance >= 0)) "
                   "ON COMMIT DROP"),
        EVPQ_QUERY("INSERT INTO account VALUES (1, 100), (2, 100)"),
        EVPQ_QUERY(change, EVPQ_PARAMS(evpq_int8(-amount), evpq_int8(1))),
        EVPQ_QUERY(change, EVPQ_PARAMS(evpq_int8(amount), evpq_int8(2)))),
        .timeout_ms = 2000);
    /* clang-format on */

    if (evpq_pool_open(&pool, loop, EVPQ_POOL_OPTIONS(.max_size = 1, .fail_fast = true)) ||
        evpq_pool_batch(NULL, pool, batch, on_result, on_done, NULL) != EVPQ_OK)
        return 1;
    ev_run(loop, 0); /* until the pool is closed */
    return status;
}
