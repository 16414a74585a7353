/* SPDX-License-Identifier: MIT */
/* Cursor pages on a pool that is played here: each step, and the end in each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/pager.h>
#include <string.h>

#include "page/snapshot.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_rows.h"

static struct {
    int calls;
    evpq_code code;
    uint32_t rows;
    bool has_prev, has_next;
} seen;

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    (void)user;
    seen.calls++;
    seen.code = evpq_error_code(err);
    seen.rows = evpq_page_rows(page);
    seen.has_prev = evpq_page_has_prev(page);
    seen.has_next = evpq_page_has_next(page);
}

static evpq_pager *opened(uint32_t walk_ms)
{
    evpq_pager *pager = NULL;
    int code = evpq_pager_open(&pager, &fake_pool,
                               EVPQ_PAGER_OPTIONS(.sql = "SELECT id", .order_by = "id",
                                                  .page_size = 3, .mode = EVPQ_PAGES_CURSOR,
                                                  .timeout_ms = 1000, .walk_timeout_ms = walk_ms));
    return code == EVPQ_OK ? pager : NULL;
}

static int begin(void **state)
{
    (void)state;
    fake_reset();
    fake_pool_begin();
    fake_rows_begin(8, 1);
    memset(&seen, 0, sizeof(seen));
    return 0;
}

static int end(void **state)
{
    (void)state;
    fake_pool_end();
    fake_nothing_left();
    return 0;
}

static void next(evpq_pager *pager, uint32_t rows, bool has_next)
{
    int calls = seen.calls;
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, NULL), EVPQ_OK);
    fake_rows_serve(-1);
    assert_int_equal(seen.calls, calls + 1);
    assert_int_equal(seen.code, EVPQ_OK);
    assert_int_equal(seen.rows, rows);
    assert_int_equal(seen.has_next, has_next);
}

static void the_first_page_begins_declares_and_fetches(void **state)
{
    (void)state;
    evpq_pager *pager = opened(0);
    next(pager, 3, true);
    assert_int_equal(fake_queries(), 3); /* BEGIN, DECLARE, FETCH */
    assert_int_equal(fake_rows_cursors(), 1);
    next(pager, 3, true);
    assert_int_equal(fake_queries(), 5); /* MOVE, for one row too many was fetched; FETCH */
    next(pager, 2, false);
    assert_int_equal(fake_leases_held(), 1);
    evpq_pager_close(pager);
    assert_int_equal(fake_leases_held(), 0);
}

static void nobody_calls_and_its_deadline_gives_the_connection_back(void **state)
{
    (void)state;
    evpq_pager *pager = opened(5000);
    next(pager, 3, true);
    fake_advance(4900);
    assert_int_equal(fake_leases_held(), 1);
    fake_advance(200);
    assert_int_equal(fake_leases_held(), 0);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, NULL), EVPQ_ETIMEOUT);
    evpq_pager_close(pager);
}

static void the_default_deadline_is_an_hour(void **state)
{
    (void)state;
    evpq_pager *pager = opened(0);
    next(pager, 3, true);
    fake_advance(3599000);
    assert_int_equal(fake_leases_held(), 1);
    fake_advance(1100);
    assert_int_equal(fake_leases_held(), 0);
    evpq_pager_close(pager);
}

static void a_pool_that_closes_takes_it_away(void **state)
{
    (void)state;
    evpq_pager *pager = opened(0);
    next(pager, 3, true);
    fake_leases_taken();
    assert_int_equal(fake_leases_held(), 0);
    assert_int_equal(evpq_pager_next(NULL, pager, on_page, NULL), EVPQ_ECLOSED);
    evpq_pager_close(pager);
}

/* In each step of a page that goes there and to the end: its deadline, a cancel, close, a failure,
 * the pool's end. The page ends once, the connection is back, and the walk is over. */
static void it_may_end_in_each_step(void **state)
{
    (void)state;
    enum { DEADLINE, CANCEL, CLOSE, LOST, TAKEN, WAYS };
    static const evpq_code codes[] = {EVPQ_ETIMEOUT, EVPQ_ECANCELED, EVPQ_ECLOSED,
                                      EVPQ_EDISCONNECTED, EVPQ_ECLOSED};
    for (int way = 0; way < WAYS; way++) {
        for (int steps = 0;; steps++) {
            begin(NULL);
            evpq_pager *pager = opened(0);
            evpq_op *op = NULL;
            assert_int_equal(evpq_pager_last(&op, pager, on_page, NULL), EVPQ_OK);
            fake_rows_serve(steps);
            bool done = seen.calls > 0;
            if (!done && way == DEADLINE)
                fake_advance(1001);
            if (!done && way == CANCEL)
                evpq_op_cancel(op);
            if (!done && way == LOST) {
                fake_rows_fail("", EVPQ_EDISCONNECTED);
                if (fake_unanswered())
                    fake_rows_serve(1);
                else
                    fake_lease_refused(EVPQ_EDISCONNECTED);
            }
            if (!done && way == TAKEN) {
                if (fake_leases_held() == 0)
                    fake_lease_refused(EVPQ_ECLOSED);
                fake_leases_taken();
            }
            if (!done && way == CLOSE) {
                evpq_pager_close(pager);
                pager = NULL;
            }
            fake_settle();
            assert_int_equal(seen.calls, 1);
            assert_int_equal(seen.code, done ? EVPQ_OK : codes[way]);
            if (!done) {
                assert_int_equal(fake_leases_held(), 0);
                if (pager)
                    assert_int_equal(evpq_pager_next(NULL, pager, on_page, NULL), EVPQ_ECLOSED);
            }
            evpq_pager_close(pager);
            end(NULL);
            if (done)
                break;
        }
    }
    begin(NULL);
}

static void without_memory_it_fails_and_leaks_nothing(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        begin(NULL);
        fake_mem_fail_at(n);
        evpq_pager *pager = opened(0);
        int code = pager ? evpq_pager_last(NULL, pager, on_page, NULL) : EVPQ_ENOMEM;
        fake_rows_serve(-1);
        if (code == EVPQ_OK) {
            assert_int_equal(seen.calls, 1);
            assert_true(seen.code == EVPQ_OK || seen.code == EVPQ_ENOMEM);
        }
        evpq_pager_close(pager);
        bool failed = fake_mem_has_failed();
        fake_mem_fail_at(0);
        end(NULL);
        if (!failed)
            break;
        assert_true(n < 500);
    }
    begin(NULL);
}

static void a_snapshot_goes_by_hexadecimal_digits_only(void **state)
{
    (void)state;
    assert_true(evpq__snapshot_id_valid("00000003-0000001B-1"));
    assert_false(evpq__snapshot_id_valid(""));
    assert_false(evpq__snapshot_id_valid("0'; DROP TABLE t; --"));
    assert_false(evpq__snapshot_id_valid("abcdef"));
    char id[EVPQ__SNAPSHOT_ID + 1];
    memset(id, '1', sizeof(id));
    id[EVPQ__SNAPSHOT_ID] = '\0';
    assert_false(evpq__snapshot_id_valid(id));
    id[EVPQ__SNAPSHOT_ID - 1] = '\0';
    assert_true(evpq__snapshot_id_valid(id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_page_begins_declares_and_fetches, begin, end),
        cmocka_unit_test_setup_teardown(nobody_calls_and_its_deadline_gives_the_connection_back,
                                        begin, end),
        cmocka_unit_test_setup_teardown(the_default_deadline_is_an_hour, begin, end),
        cmocka_unit_test_setup_teardown(a_pool_that_closes_takes_it_away, begin, end),
        cmocka_unit_test_setup_teardown(it_may_end_in_each_step, NULL, end),
        cmocka_unit_test_setup_teardown(without_memory_it_fails_and_leaks_nothing, NULL, end),
        cmocka_unit_test(a_snapshot_goes_by_hexadecimal_digits_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
