/* SPDX-License-Identifier: MIT */
/* Scans on a pool that is played here: who fetches when, and the end in each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/scan.h>
#include <stdlib.h>
#include <string.h>

#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_rows.h"

enum { ROWS = 47 };

static struct {
    int calls;
    evpq_code code;
    uint32_t rows, range;
    int last; /* id that has come */
    bool seen[ROWS + 1];
    int count;
    bool in_order;
} seen;

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    (void)user;
    seen.calls++;
    seen.code = evpq_error_code(err);
    seen.rows = evpq_page_rows(page);
    seen.in_order = seen.in_order && (seen.rows == 0 || evpq_page_range(page) >= seen.range);
    seen.range = evpq_page_range(page);
    for (uint32_t row = 0; row < seen.rows; row++) {
        evpq_text_view text;
        assert_int_equal(evpq_result_text(evpq_page_result(page), row, 0, &text), EVPQ_OK);
        int id = atoi(text.data);
        assert_in_range(id, 1001, 1000 + ROWS);
        assert_false(seen.seen[id - 1000]);
        seen.seen[id - 1000] = true;
        seen.count++;
        seen.in_order = seen.in_order && id == seen.last + 1;
        seen.last = id;
    }
}

static evpq_scan *opened(size_t buffer_bytes, bool unordered)
{
    evpq_scan *scan = NULL;
    int code = evpq_scan_open(
        &scan, &fake_pool,
        EVPQ_SCAN_OPTIONS(.sql = "SELECT id", .order_by = "id", .page_size = 4, .workers = 3,
                          .ranges = 6, .assume_unique = true, .timeout_ms = 1000,
                          .buffer_bytes = buffer_bytes, .unordered = unordered));
    return code == EVPQ_OK ? scan : NULL;
}

static int begin(void **state)
{
    (void)state;
    fake_reset();
    fake_pool_begin();
    fake_pool.options.max_size = 3;
    fake_rows_begin(ROWS, 3);
    memset(&seen, 0, sizeof(seen));
    seen.in_order = true;
    seen.last = 1000;
    return 0;
}

static int end(void **state)
{
    (void)state;
    fake_pool_end();
    fake_nothing_left();
    return 0;
}

/* The code that the walk ended with. */
static evpq_code walk(evpq_scan *scan)
{
    for (;;) {
        int calls = seen.calls;
        int code = evpq_scan_next(NULL, scan, on_page, NULL);
        if (code != EVPQ_OK)
            return (evpq_code)code;
        fake_rows_serve(-1);
        assert_int_equal(seen.calls, calls + 1);
        if (seen.code != EVPQ_OK || seen.rows == 0)
            return seen.code;
    }
}

static void each_row_comes_once_and_in_order(void **state)
{
    (void)state;
    for (int connections = 1; connections <= 3; connections++) {
        begin(NULL);
        fake_rows_begin(ROWS, connections);
        evpq_scan *scan = opened(connections == 2 ? 1 : 0, false);
        assert_int_equal(walk(scan), EVPQ_OK);
        assert_int_equal(seen.count, ROWS);
        assert_true(seen.in_order);
        assert_int_equal(evpq_scan_ranges(scan), 6);
        assert_int_equal(fake_leases_held(), 0); /* also before it is closed */
        evpq_scan_close(scan);
        end(NULL);
    }
    begin(NULL);
}

static void unordered_each_row_comes_once(void **state)
{
    (void)state;
    evpq_scan *scan = opened(0, true);
    assert_int_equal(walk(scan), EVPQ_OK);
    assert_int_equal(seen.count, ROWS);
    evpq_scan_close(scan);
}

/* With a buffer of nothing each worker has one page at most, and the one of the range that is
 * handed over another. */
static void workers_wait_for_who_asks(void **state)
{
    (void)state;
    evpq_scan *scan = opened(1, false);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_OK);
    fake_rows_serve(-1);
    assert_int_equal(seen.calls, 1);
    int asked = fake_queries();
    fake_rows_serve(-1);
    assert_int_equal(fake_queries(), asked);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_OK);
    fake_rows_serve(-1);
    assert_in_range(fake_queries(), asked, asked + 3);
    evpq_scan_close(scan);
}

static void what_is_left_is_told_and_resumed(void **state)
{
    (void)state;
    static char tokens[12][200];
    evpq_scan_range left[6];
    size_t count = 0;
    evpq_scan *scan = opened(0, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_OK);
        fake_rows_serve(-1);
    }
    for (uint32_t i = 0; i < evpq_scan_ranges(scan); i++) {
        evpq_scan_range range;
        if (evpq_scan_range_get(scan, i, &range) != EVPQ_OK)
            continue;
        if (range.after)
            range.after = strcpy(tokens[2 * count], range.after);
        if (range.until)
            range.until = strcpy(tokens[2 * count + 1], range.until);
        left[count++] = range;
    }
    evpq_scan_close(scan);
    fake_settle();
    assert_in_range(count, 2, 6);
    assert_in_range(seen.count, 3, 12);
    assert_int_equal(evpq_scan_open(&scan, &fake_pool,
                                    EVPQ_SCAN_OPTIONS(.sql = "SELECT id", .order_by = "id",
                                                      .page_size = 5, .assume_unique = true,
                                                      .resume = left, .resume_count = count)),
                     EVPQ_OK);
    assert_int_equal(walk(scan), EVPQ_OK);
    assert_int_equal(seen.count, ROWS);
    evpq_scan_close(scan);
}

static void a_single_range_is_cut_again_and_ends_where_it_did(void **state)
{
    (void)state;
    char after[200], until[200];
    evpq_scan_range range;
    evpq_scan *scan = opened(0, false);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_OK);
    fake_rows_serve(-1);
    assert_int_equal(evpq_scan_range_get(scan, 2, &range), EVPQ_OK);
    range.after = strcpy(after, range.after);
    range.until = strcpy(until, range.until);
    evpq_scan_close(scan);
    fake_settle();
    int before = seen.count;
    seen.last = 1016; /* the range is that of 1017 to 1024 */
    assert_int_equal(evpq_scan_open(&scan, &fake_pool,
                                    EVPQ_SCAN_OPTIONS(.sql = "SELECT id", .order_by = "id",
                                                      .page_size = 2, .assume_unique = true,
                                                      .resume = &range, .resume_count = 1)),
                     EVPQ_OK);
    assert_int_equal(walk(scan), EVPQ_OK);
    assert_in_range(evpq_scan_ranges(scan), 2, 8);
    assert_int_equal(seen.count - before, 8);
    assert_true(seen.in_order);
    assert_int_equal(seen.last, 1024);
    evpq_scan_close(scan);
}

static void a_failure_is_told_once(void **state)
{
    (void)state;
    evpq_scan *scan = opened(1, false);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_OK);
    fake_rows_serve(-1);
    fake_rows_fail("", EVPQ_ESERVER);
    assert_int_equal(walk(scan), EVPQ_ESERVER);
    assert_int_equal(fake_leases_held(), 0);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_ECLOSED);
    evpq_scan_range range;
    assert_int_equal(evpq_scan_range_get(scan, 5, &range), EVPQ_OK);
    assert_non_null(range.after);
    assert_null(range.until);
    evpq_scan_close(scan);
}

/* After so many steps: cancelled (and it goes on), closed, taken away. */
static void it_may_end_in_each_step(void **state)
{
    (void)state;
    enum { CANCEL, CLOSE, TAKEN, WAYS };
    for (int way = 0; way < WAYS; way++) {
        for (int steps = 0, done = 0; !done; steps++) {
            begin(NULL);
            evpq_scan *scan = opened(1, steps % 2);
            evpq_op *op = NULL;
            assert_int_equal(evpq_scan_next(&op, scan, on_page, NULL), EVPQ_OK);
            fake_rows_serve(steps);
            done = seen.calls > 0;
            if (!done && way == CANCEL) {
                evpq_op_cancel(op);
                fake_settle();
                assert_int_equal(seen.code, EVPQ_ECANCELED);
                assert_int_equal(walk(scan), EVPQ_OK);
                assert_int_equal(seen.count, ROWS);
            } else if (way == CLOSE) {
                evpq_scan_close(scan);
                fake_settle();
                assert_int_equal(seen.calls, 1);
                assert_int_equal(seen.code, done ? EVPQ_OK : EVPQ_ECLOSED);
                scan = NULL;
            } else if (way == TAKEN) {
                while (fake_leases_wanted() > 0)
                    fake_lease_refused(EVPQ_ECLOSED);
                fake_pool.state = EVPQ__POOL_STOPPING;
                fake_leases_taken();
                fake_settle();
                assert_int_equal(seen.calls, 1);
                assert_int_equal(seen.code, done ? EVPQ_OK : EVPQ_ECLOSED);
                assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_ECLOSED);
            }
            evpq_scan_close(scan);
            end(NULL);
        }
    }
    begin(NULL);
}

static void its_deadline_gives_all_back(void **state)
{
    (void)state;
    evpq_scan *scan = opened(1, false);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_OK);
    fake_rows_serve(-1);
    assert_int_equal(fake_leases_held(), 3);
    fake_advance(3600000);
    assert_int_equal(fake_leases_held(), 0);
    assert_int_equal(evpq_scan_next(NULL, scan, on_page, NULL), EVPQ_ETIMEOUT);
    evpq_scan_close(scan);
}

static void without_memory_it_fails_and_leaks_nothing(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        begin(NULL);
        fake_mem_fail_at(n);
        evpq_scan *scan = opened(0, false);
        evpq_code code = scan ? walk(scan) : EVPQ_ENOMEM;
        if (code == EVPQ_OK)
            assert_int_equal(seen.count, ROWS);
        else
            assert_int_equal(code, EVPQ_ENOMEM);
        evpq_scan_close(scan);
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        end(NULL);
        if (!failed)
            break;
        assert_true(n < 2000);
    }
    begin(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_row_comes_once_and_in_order, NULL, end),
        cmocka_unit_test_setup_teardown(unordered_each_row_comes_once, begin, end),
        cmocka_unit_test_setup_teardown(workers_wait_for_who_asks, begin, end),
        cmocka_unit_test_setup_teardown(what_is_left_is_told_and_resumed, begin, end),
        cmocka_unit_test_setup_teardown(a_single_range_is_cut_again_and_ends_where_it_did, begin,
                                        end),
        cmocka_unit_test_setup_teardown(a_failure_is_told_once, begin, end),
        cmocka_unit_test_setup_teardown(it_may_end_in_each_step, NULL, end),
        cmocka_unit_test_setup_teardown(its_deadline_gives_all_back, begin, end),
        cmocka_unit_test_setup_teardown(without_memory_it_fails_and_leaks_nothing, NULL, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
