/* SPDX-License-Identifier: MIT */

/*
 * One page of a service from three questions to the database, asked at the same
 * time: all answers, or none, within five seconds. The first that fails cancels the
 * others.
 *
 *     gather [DIVISOR]     with 0 the second question fails
 */

#include <ev.h>
#include <evpq/evpq.h>
#include <stdio.h>
#include <stdlib.h>

struct answers {
    evpq_pool *pool;
    int64_t numbers[3];
    int status;
};

/* As without a group: `user` is where the number goes. */
static void on_number(evpq_result *result, const evpq_error *err, void *user)
{
    int64_t *number = user;
    if (!err && evpq_result_int8(result, 0, 0, number) != EVPQ_OK)
        *number = -1;
}

static void on_all(evpq_group *group, const evpq_error *err, void *user)
{
    struct answers *answers = user;
    if (err) {
        fprintf(stderr, "gather: %s (%u of %u answered)\n", evpq_error_message(err),
                evpq_group_succeeded(group), evpq_group_size(group));
        answers->status = 1;
    } else {
        printf("%lld %lld %lld\n", (long long)answers->numbers[0], (long long)answers->numbers[1],
               (long long)answers->numbers[2]);
    }
    evpq_pool_close(answers->pool, EVPQ_CLOSE_FINISH, 0, NULL, NULL);
}

int main(int argc, char **argv)
{
    static const char *const questions[] = {
        "SELECT 1 + 0 * $1::int8",
        "SELECT 10 / $1::int8",
        "SELECT 100 + 0 * $1 FROM (SELECT pg_sleep(0.05)) AS slow",
    };
    struct ev_loop *loop = ev_default_loop(0);
    struct answers answers = {.status = 0};
    int64_t divisor = argc > 1 ? strtoll(argv[1], NULL, 10) : 5;
    evpq_group *group;

    if (evpq_pool_open(&answers.pool, loop, EVPQ_POOL_OPTIONS(.max_size = 3, .fail_fast = true)) ||
        evpq_group_open(&group, loop,
                        EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_FAIL_FAST, .timeout_ms = 5000)))
        return 1;
    for (int i = 0; i < 3; i++) {
        evpq_op *op;
        int started = evpq_pool_query(&op, answers.pool,
                                      EVPQ_QUERY(questions[i], EVPQ_PARAMS(evpq_int8(divisor))),
                                      on_number, &answers.numbers[i]);
        if (evpq_group_add(group, started, &op) != EVPQ_OK)
            return 1;
    }
    if (evpq_group_wait(NULL, group, on_all, &answers) != EVPQ_OK)
        return 1;
    ev_run(loop, 0); /* until the pool is closed */
    return answers.status;
}
