/* SPDX-License-Identifier: MIT */
/* How far behind a standby is: from what it and its primary have said, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "route/lag.h"

/* Our clock is small, the primary's is not. */
#define CLOCK INT64_C(1700000000000000)
enum { MS = 1000, SECOND = 1000 * MS };

static struct evpq__wal wal;
static struct evpq__replay standby;

static int setup(void **state)
{
    (void)state;
    wal = (struct evpq__wal){0};
    standby = (struct evpq__replay){0};
    return 0;
}

/* At this moment the primary was asked; its clock goes as ours. */
static void primary_of(int64_t asked_us, uint64_t lsn, uint32_t timeline)
{
    evpq__wal_add(
        &wal,
        &(struct evpq__wal_sample){
            .asked_us = asked_us, .lsn = lsn, .clock_us = CLOCK + asked_us, .timeline = timeline},
        0);
    evpq__replay_judge(&standby, &wal);
}

static void primary(int64_t asked_us, uint64_t lsn)
{
    primary_of(asked_us, lsn, 1);
}

/* At this moment the standby answered; commit_us is of our clock, or EVPQ__NEVER_US. */
static void replayed_of(int64_t answered_us, uint64_t lsn, int64_t commit_us, uint32_t timeline)
{
    evpq__replay_report(
        &standby, &(struct evpq__replay_report){
                      .answered_us = answered_us,
                      .lsn = lsn,
                      .commit_us = commit_us == EVPQ__NEVER_US ? commit_us : CLOCK + commit_us,
                      .timeline = timeline});
    evpq__replay_judge(&standby, &wal);
}

static void replayed(int64_t answered_us, uint64_t lsn, int64_t commit_us)
{
    replayed_of(answered_us, lsn, commit_us, 0);
}

static bool within(uint64_t max_us, uint64_t max_bytes, uint64_t after_lsn, int64_t now_us)
{
    const struct evpq__lag_bounds bounds = {max_us, max_bytes, after_lsn};
    return evpq__lag_within(&standby, &wal, &bounds, now_us);
}

static void nothing_is_known_of_a_standby_that_has_not_answered(void **state)
{
    (void)state;
    primary(SECOND, 100);
    assert_true(evpq__lag_us(&standby, &wal, SECOND) == EVPQ__NO_BOUND);
    assert_true(evpq__lag_bytes(&standby, &wal) == EVPQ__NO_BOUND);
    assert_false(within(EVPQ__NO_BOUND, EVPQ__NO_BOUND, 0, SECOND));
}

static void nothing_is_known_of_one_whose_primary_has_not_answered(void **state)
{
    (void)state;
    replayed(SECOND, 100, SECOND);
    assert_true(evpq__lag_us(&standby, &wal, SECOND) == EVPQ__NO_BOUND);
    assert_false(within(3600ULL * SECOND, EVPQ__NO_BOUND, 0, SECOND));
    assert_false(within(EVPQ__NO_BOUND, 1000, 0, SECOND));
    /* Who asks for no bound needs no primary. */
    assert_true(within(EVPQ__NO_BOUND, EVPQ__NO_BOUND, 100, SECOND));
}

static void all_replayed_is_up_to_date_however_old_the_last_commit_is(void **state)
{
    (void)state;
    primary(100 * SECOND, 500);
    replayed(100 * SECOND + MS, 500, 3 * SECOND);
    assert_int_equal(evpq__lag_us(&standby, &wal, 100 * SECOND + 2 * MS), 2 * MS);
    assert_int_equal(evpq__lag_bytes(&standby, &wal), 0);
}

static void what_is_known_grows_old(void **state)
{
    (void)state;
    primary(100 * SECOND, 500);
    replayed(100 * SECOND + MS, 500, EVPQ__NEVER_US);
    assert_true(within(2 * SECOND, 0, 0, 102 * SECOND));
    assert_false(within(2 * SECOND, 0, 0, 102 * SECOND + 1));
    primary(103 * SECOND, 500);
    assert_true(within(2 * SECOND, 0, 0, 104 * SECOND));
}

static void one_that_is_cut_off_falls_behind_with_the_first_write(void **state)
{
    (void)state;
    primary(10 * SECOND, 500);
    replayed(10 * SECOND + MS, 500, 9 * SECOND);
    primary(11 * SECOND, 540);
    replayed(11 * SECOND + MS, 500, 9 * SECOND);
    assert_int_equal(evpq__lag_bytes(&standby, &wal), 40);
    /* All that was there at 10 s is there. */
    assert_int_equal(evpq__lag_us(&standby, &wal, 12 * SECOND), 2 * SECOND);
}

static void a_commit_tells_the_time_where_the_log_does_not(void **state)
{
    (void)state;
    primary(10 * SECOND, 1000);
    replayed(10 * SECOND + MS, 900, 10 * SECOND - 30 * MS);
    assert_int_equal(evpq__lag_us(&standby, &wal, 10 * SECOND), 30 * MS);
    assert_int_equal(evpq__lag_bytes(&standby, &wal), 100);
}

static void a_long_transaction_is_seen_in_the_log(void **state)
{
    (void)state;
    for (int i = 0; i <= 10; i++)
        primary((10 + i) * SECOND, 1000 + 100 * (uint64_t)i);
    /* Its last commit is old; it is three seconds behind in the log. */
    replayed(20 * SECOND + MS, 1750, 5 * SECOND);
    assert_int_equal(evpq__lag_us(&standby, &wal, 20 * SECOND), 3 * SECOND);
}

static void a_commit_of_the_future_is_no_proof(void **state)
{
    (void)state;
    primary(10 * SECOND, 1000);
    replayed(10 * SECOND + MS, 900, 11 * SECOND);
    assert_true(evpq__lag_us(&standby, &wal, 10 * SECOND) == EVPQ__NO_BOUND);
    /* The next sample has a later clock. */
    primary(12 * SECOND, 2000);
    assert_int_equal(evpq__lag_us(&standby, &wal, 12 * SECOND), SECOND);
}

static void a_read_after_a_write_wants_it_replayed(void **state)
{
    (void)state;
    primary(10 * SECOND, 1000);
    replayed(10 * SECOND + MS, 1000, EVPQ__NEVER_US);
    assert_true(within(SECOND, 0, 1000, 10 * SECOND));
    assert_false(within(SECOND, 0, 1001, 10 * SECOND));
    replayed(10 * SECOND + 2 * MS, 1001, EVPQ__NEVER_US);
    assert_true(within(SECOND, 0, 1001, 10 * SECOND));
}

static void both_bounds_hold(void **state)
{
    (void)state;
    primary(10 * SECOND, 1000);
    replayed(10 * SECOND + MS, 900, 10 * SECOND - 30 * MS);
    assert_true(within(30 * MS, 100, 0, 10 * SECOND));
    assert_false(within(29 * MS, 100, 0, 10 * SECOND));
    assert_false(within(30 * MS, 99, 0, 10 * SECOND));
}

static void who_has_more_than_the_primary_has_parted_from_it(void **state)
{
    (void)state;
    primary(10 * SECOND, 1000);
    replayed(10 * SECOND + MS, 1000, EVPQ__NEVER_US);
    assert_true(within(60 * SECOND, EVPQ__NO_BOUND, 0, 11 * SECOND));
    /* Another took over, which had less. */
    primary(11 * SECOND, 920);
    assert_false(within(EVPQ__NO_BOUND, EVPQ__NO_BOUND, 0, 11 * SECOND));
    /* Its log passes that of the standby, which looks as if it had caught up. */
    primary(12 * SECOND, 1000);
    replayed(12 * SECOND + MS, 1000, EVPQ__NEVER_US);
    primary(13 * SECOND, 1200);
    assert_false(within(EVPQ__NO_BOUND, EVPQ__NO_BOUND, 0, 13 * SECOND));
    assert_true(evpq__lag_us(&standby, &wal, 13 * SECOND) == EVPQ__NO_BOUND);
    /* Rewound and started anew it has less, and counts again. */
    replayed(14 * SECOND, 900, EVPQ__NEVER_US);
    replayed(15 * SECOND, 1200, EVPQ__NEVER_US);
    assert_true(within(3 * SECOND, 0, 0, 15 * SECOND));
}

static void more_than_the_primary_had_before_is_nothing_strange(void **state)
{
    (void)state;
    primary(10 * SECOND, 1000);
    replayed(10 * SECOND + MS, 1010, EVPQ__NEVER_US);
    assert_true(within(SECOND, 0, 0, 10 * SECOND));
    primary(11 * SECOND, 1020);
    assert_true(within(2 * SECOND, 10, 0, 11 * SECOND));
}

static void another_timeline_counts_when_it_is_followed(void **state)
{
    (void)state;
    primary_of(10 * SECOND, 1000, 1);
    replayed_of(10 * SECOND + MS, 1000, EVPQ__NEVER_US, 1);
    assert_true(within(SECOND, 0, 0, 10 * SECOND));
    primary_of(11 * SECOND, 1100, 2);
    replayed_of(11 * SECOND + MS, 1100, 11 * SECOND, 1);
    assert_false(within(EVPQ__NO_BOUND, EVPQ__NO_BOUND, 0, 11 * SECOND));
    replayed_of(12 * SECOND, 1100, 11 * SECOND, 2);
    assert_true(within(SECOND, 0, 0, 12 * SECOND));
}

static void what_another_primary_had_written_is_forgotten(void **state)
{
    (void)state;
    primary_of(10 * SECOND, 1000, 1);
    primary_of(11 * SECOND, 1100, 2);
    replayed_of(11 * SECOND + MS, 1050, EVPQ__NEVER_US, 2);
    assert_true(evpq__lag_us(&standby, &wal, 12 * SECOND) == EVPQ__NO_BOUND);
}

static void samples_are_kept_at_a_distance(void **state)
{
    (void)state;
    for (int i = 0; i <= 1000; i++)
        evpq__wal_add(&wal, &(struct evpq__wal_sample){.asked_us = i * MS, .lsn = (uint64_t)i + 1},
                      100 * MS);
    assert_in_range(wal.count, 8, 13);
    assert_int_equal(wal.samples[wal.count - 1].asked_us, 1000 * MS);
    for (int i = 1001; i <= 9000; i++)
        evpq__wal_add(&wal, &(struct evpq__wal_sample){.asked_us = i * MS, .lsn = (uint64_t)i + 1},
                      100 * MS);
    assert_int_equal(wal.count, EVPQ__WAL_SAMPLES);
    assert_in_range(wal.samples[0].asked_us, 5000 * MS, 6500 * MS);
}

#define lag_test(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        lag_test(nothing_is_known_of_a_standby_that_has_not_answered),
        lag_test(nothing_is_known_of_one_whose_primary_has_not_answered),
        lag_test(all_replayed_is_up_to_date_however_old_the_last_commit_is),
        lag_test(what_is_known_grows_old),
        lag_test(one_that_is_cut_off_falls_behind_with_the_first_write),
        lag_test(a_commit_tells_the_time_where_the_log_does_not),
        lag_test(a_long_transaction_is_seen_in_the_log),
        lag_test(a_commit_of_the_future_is_no_proof),
        lag_test(a_read_after_a_write_wants_it_replayed),
        lag_test(both_bounds_hold),
        lag_test(who_has_more_than_the_primary_has_parted_from_it),
        lag_test(more_than_the_primary_had_before_is_nothing_strange),
        lag_test(another_timeline_counts_when_it_is_followed),
        lag_test(what_another_primary_had_written_is_forgotten),
        lag_test(samples_are_kept_at_a_distance),
    };
    return cmocka_run_group_tests_name("lag", tests, NULL, NULL);
}
