/* SPDX-License-Identifier: MIT */
/* What a pool tells of itself: each event with its numbers, times and names, and its messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "support/pool_story.h"

enum { EVENTS = 200 };

/* An event, and copies of its texts. */
struct told {
    evpq_trace event;
    char tag[EVPQ__TAG_SIZE], sqlstate[6], why[32];
};

static struct told told[EVENTS];
static int told_count;
static struct call a, b, c;

static void on_trace(const evpq_trace *event, void *user)
{
    assert_ptr_equal(user, told);
    assert_true(told_count < EVENTS);
    struct told *t = &told[told_count++];
    *t = (struct told){.event = *event};
    strncpy(t->tag, event->tag, sizeof(t->tag) - 1);
    strncpy(t->sqlstate, event->sqlstate, sizeof(t->sqlstate) - 1);
    strncpy(t->why, event->why, sizeof(t->why) - 1);
}

static int begin(void **state)
{
    told_count = 0;
    return story_begin(state);
}

static void open_traced(evpq_pool_options options)
{
    options.on_trace = on_trace;
    options.trace_user = told;
    story_open_ok(&options);
}

static void ask_tagged(struct call *call, const char *sql, const char *tag)
{
    assert_int_equal(story_ask_with(call, EVPQ_QUERY(sql, .tag = tag, .timeout_ms = 1000)),
                     EVPQ_OK);
}

static void on_acquired(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct call *call = user;
    call->calls++;
    call->lease = lease;
    call->code = evpq_error_code(err);
}

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct call *call = user;
    assert_non_null(result);
    call->code = evpq_error_code(err);
}

/* Not counted by the story: it looks after itself. */
static void acquire_tagged(struct call *call, const char *tag)
{
    *call = (struct call){.code = NOT_CALLED_BACK};
    assert_int_equal(evpq_pool_acquire(NULL, pool,
                                       EVPQ_ACQUIRE_OPTIONS(.tag = tag, .timeout_ms = 1000),
                                       on_acquired, call),
                     EVPQ_OK);
}

static int pid_of(const PGconn *pg)
{
    return PQbackendPID(pg);
}

/* The only one of its kind, since the last forget_events(). */
static const struct told *the(evpq_trace_kind kind)
{
    const struct told *found = NULL;
    for (int i = 0; i < told_count; i++) {
        if (told[i].event.kind != kind)
            continue;
        if (found)
            fail_msg("two events are \"%s\"", evpq_trace_kind_name(kind));
        found = &told[i];
    }
    if (!found)
        fail_msg("no event is \"%s\"", evpq_trace_kind_name(kind));
    return found;
}

static void forget_events(void)
{
    told_count = 0;
}

/* ---- events ---- */

static void a_query_from_its_dial_to_its_end(void **state)
{
    (void)state;
    fake_dial_all_wait();
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    int64_t start = fake_now_us();
    ask_tagged(&a, "HANG", "first");
    fake_advance(30);
    fake_dial_succeeds();
    fake_settle();
    PGconn *pg = fake_pg(0);
    const struct told *dialed = the(EVPQ_TRACE_DIALED);
    assert_int_equal(dialed->event.at_us, start + 30000);
    assert_int_equal(dialed->event.took_us, 30000);
    assert_int_equal(dialed->event.connection, 1);
    assert_int_equal(dialed->event.backend_pid, pid_of(pg));
    assert_int_equal(dialed->event.operation, 0);
    assert_string_equal(dialed->why, "");
    assert_string_equal(dialed->tag, "");
    static const evpq_trace_kind kinds[] = {EVPQ_TRACE_ACQUIRED, EVPQ_TRACE_SENT};
    for (int i = 0; i < 2; i++) {
        const struct told *t = the(kinds[i]);
        assert_int_equal(t->event.at_us, start + 30000);
        assert_int_equal(t->event.took_us, 30000);
        assert_int_equal(t->event.operation, 1);
        assert_int_equal(t->event.connection, 1);
        assert_int_equal(t->event.backend_pid, pid_of(pg));
        assert_string_equal(t->tag, "first");
        assert_int_equal(t->event.code, EVPQ_OK);
        assert_int_equal(t->event.fate, 0);
    }
    fake_advance(20);
    fake_answers(pg);
    fake_settle();
    assert_int_equal(a.code, EVPQ_OK);
    const struct told *finished = the(EVPQ_TRACE_FINISHED);
    assert_int_equal(finished->event.at_us, start + 50000);
    assert_int_equal(finished->event.took_us, 50000);
    assert_int_equal(finished->event.operation, 1);
    assert_string_equal(finished->tag, "first");
    assert_int_equal(finished->event.code, EVPQ_OK);
    assert_int_equal(told_count, 4);
}

static void numbers_count_from_one(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 2));
    ask_tagged(&a, "HANG", NULL);
    ask_tagged(&b, "SELECT 1", "second");
    fake_settle();
    const struct told *finished = the(EVPQ_TRACE_FINISHED);
    assert_int_equal(finished->event.operation, 2);
    assert_string_equal(finished->tag, "second");
    uint64_t connections = 0;
    for (int i = 0; i < told_count; i++)
        if (told[i].event.kind == EVPQ_TRACE_DIALED)
            connections = connections * 10 + told[i].event.connection;
    assert_int_equal(connections, 12);
    /* Another connection and another operation go on from there. */
    forget_events();
    fake_loses(fake_pg(0), true, "gone\n");
    ask_tagged(&c, "SELECT 1", NULL);
    fake_advance(1000);
    assert_string_equal(told[0].tag, "");
    ask_tagged(&a, "HANG", NULL);
    ask_tagged(&b, "HANG", NULL);
    fake_advance(500);
    uint64_t newest = 0, last = 0;
    for (int i = 0; i < told_count; i++) {
        newest = told[i].event.connection > newest ? told[i].event.connection : newest;
        last = told[i].event.operation > last ? told[i].event.operation : last;
    }
    assert_int_equal(newest, 3);
    assert_int_equal(last, 5);
}

static void a_failure_comes_with_its_reason(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    ask_tagged(&a, "FAIL", NULL);
    fake_settle();
    const struct told *finished = the(EVPQ_TRACE_FINISHED);
    assert_int_equal(finished->event.code, EVPQ_ESERVER);
    assert_int_equal(finished->event.fate, EVPQ_ROLLED_BACK);
    assert_string_equal(finished->sqlstate, "22012");
}

static void a_lease_gives_its_tag_to_its_statements(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    acquire_tagged(&a, "checkout");
    fake_settle();
    PGconn *pg = fake_pg(0);
    static const evpq_trace_kind kinds[] = {EVPQ_TRACE_ACQUIRED, EVPQ_TRACE_FINISHED};
    for (int i = 0; i < 2; i++) {
        const struct told *t = the(kinds[i]);
        assert_string_equal(t->tag, "checkout");
        assert_int_equal(t->event.operation, 1);
        assert_int_equal(t->event.connection, 1);
        assert_int_equal(t->event.backend_pid, pid_of(pg));
    }
    static const char *const tags[] = {NULL, "own"}, *const expected[] = {"checkout", "own"};
    for (int i = 0; i < 2; i++) {
        forget_events();
        b = (struct call){.code = NOT_CALLED_BACK};
        int64_t start = fake_now_us();
        assert_int_equal(evpq_lease_query(NULL, a.lease,
                                          EVPQ_QUERY("HANG", .tag = tags[i], .timeout_ms = 1000),
                                          on_result, &b),
                         EVPQ_OK);
        fake_settle();
        const struct told *sent = the(EVPQ_TRACE_SENT);
        assert_int_equal(sent->event.operation, 2 + i);
        assert_int_equal(sent->event.connection, 1);
        assert_string_equal(sent->tag, expected[i]);
        fake_advance(7);
        fake_answers(pg);
        fake_settle();
        const struct told *finished = the(EVPQ_TRACE_FINISHED);
        assert_string_equal(finished->tag, expected[i]);
        assert_int_equal(finished->event.took_us, 7000);
        assert_int_equal(finished->event.at_us, start + 7000);
        assert_int_equal(b.code, EVPQ_OK);
    }
    story_release(&a);
}

static void an_acquire_in_vain_has_its_tag_too(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    acquire_tagged(&a, "one");
    fake_settle();
    forget_events();
    acquire_tagged(&b, "two");
    fake_advance(1000);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    const struct told *finished = the(EVPQ_TRACE_FINISHED);
    assert_string_equal(finished->tag, "two");
    assert_int_equal(finished->event.code, EVPQ_ETIMEOUT);
    assert_int_equal(finished->event.fate, EVPQ_NOT_SENT);
    assert_int_equal(finished->event.took_us, 1000000);
    assert_int_equal(finished->event.connection, 0);
    assert_int_equal(finished->event.backend_pid, 0);
    story_release(&a);
}

static void a_lease_that_nobody_was_told_of_has_no_tag_any_more(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    story_run(&c, "SELECT 1");
    forget_events();
    acquire_tagged(&a, "checkout");
    assert_int_equal(story_stats().busy, 1);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    fake_settle();
    assert_int_equal(a.code, EVPQ_ECLOSED);
    assert_null(a.lease);
    assert_string_equal(the(EVPQ_TRACE_ACQUIRED)->tag, "checkout");
    assert_string_equal(the(EVPQ_TRACE_FINISHED)->tag, "");
    assert_int_equal(the(EVPQ_TRACE_FINISHED)->event.code, EVPQ_ECLOSED);
}

static void a_lease_that_is_held_for_long_is_told_of(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1, .lease_overdue_ms = 700));
    fake_advance(100);
    acquire_tagged(&a, "checkout");
    fake_settle();
    int64_t start = fake_now_us();
    fake_advance(2000);
    const struct told *overdue = the(EVPQ_TRACE_LEASE_OVERDUE);
    assert_int_equal(overdue->event.at_us, start + 700000);
    assert_int_equal(overdue->event.took_us, 700000);
    assert_int_equal(overdue->event.connection, 1);
    assert_string_equal(overdue->tag, "checkout");
    story_release(&a);
}

static void a_lease_without_a_connection_is_overdue_all_the_same(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1, .lease_overdue_ms = 700));
    acquire_tagged(&a, "checkout");
    fake_settle();
    fake_loses(fake_pg(0), true, "gone\n");
    fake_advance(700);
    assert_int_equal(the(EVPQ_TRACE_LEASE_OVERDUE)->event.connection, 0);
    story_release(&a);
}

static void a_dial_that_fails_says_why(void **state)
{
    (void)state;
    fake_dial_all_wait();
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    ask_tagged(&a, "SELECT 1", NULL);
    fake_advance(5);
    fake_dial_fails(EVPQ_ECONNECT, "28P01", "password authentication failed", true);
    fake_settle();
    const struct told *failed = the(EVPQ_TRACE_DIAL_FAILED);
    assert_int_equal(failed->event.code, EVPQ_ECONNECT);
    assert_string_equal(failed->sqlstate, "28P01");
    assert_int_equal(failed->event.at_us, fake_now_us());
    assert_int_equal(the(EVPQ_TRACE_FINISHED)->event.code, EVPQ_ECONNECT);
}

static void each_end_of_a_connection_has_its_reason(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1, .idle_timeout_ms = 300));
    ask_tagged(&a, "SELECT 1", NULL);
    fake_settle();
    int pid = pid_of(fake_pg(0));
    fake_advance(1000);
    const struct told *closed = the(EVPQ_TRACE_CLOSED);
    assert_string_equal(closed->why, "idle_timeout");
    assert_int_equal(closed->event.took_us, 300000); /* since it was made */
    assert_int_equal(closed->event.connection, 1);
    assert_int_equal(closed->event.backend_pid, pid);
    forget_events();
    ask_tagged(&a, "HANG", NULL);
    fake_settle();
    fake_loses(fake_pg(0), true, "gone\n");
    fake_settle();
    closed = the(EVPQ_TRACE_CLOSED);
    assert_string_equal(closed->why, "broken");
    assert_int_equal(closed->event.connection, 2);
    forget_events();
    fake_advance(1000);
    ask_tagged(&a, "SELECT 1", NULL);
    fake_settle();
    assert_int_equal(evpq_pool_expire(pool), EVPQ_OK);
    fake_settle();
    assert_string_equal(the(EVPQ_TRACE_EXPIRED)->why, "asked for");
    assert_string_equal(the(EVPQ_TRACE_CLOSED)->why, "expired");
    forget_events();
    ask_tagged(&a, "SELECT 1", NULL);
    fake_settle();
    story_close(EVPQ_CLOSE_FINISH, 0);
    fake_settle();
    assert_string_equal(the(EVPQ_TRACE_CLOSED)->why, "pool closed");
}

static void a_cancel_names_whom_it_went_to(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    ask_tagged(&a, "HANG", NULL);
    fake_settle();
    evpq_op_cancel(a.op);
    fake_settle();
    const struct told *canceled = the(EVPQ_TRACE_CANCELED);
    assert_int_equal(canceled->event.connection, 1);
    assert_int_equal(canceled->event.backend_pid, pid_of(fake_pg(0)));
    assert_int_equal(canceled->event.took_us, 0);
    assert_int_equal(the(EVPQ_TRACE_FINISHED)->event.code, EVPQ_ECANCELED);
}

static void a_rerun_is_told_of(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    ask_tagged(&a, "SELECT 1", NULL);
    fake_settle();
    forget_events();
    fake_advance(1);
    ask_tagged(&b, "SELECT 1", "again");
    fake_pg_break(fake_pg(0));
    fake_advance(500);
    assert_int_equal(b.code, EVPQ_OK);
    const struct told *rerun = the(EVPQ_TRACE_RERUN);
    assert_int_equal(rerun->event.operation, 2);
    assert_string_equal(rerun->tag, "again");
    assert_int_equal(rerun->event.connection, 0);
    assert_int_equal(the(EVPQ_TRACE_FINISHED)->event.operation, 2);
}

static void only_what_was_chosen_is_told(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1, .idle_timeout_ms = 300,
                                   .trace_kinds = EVPQ_TRACE_CLOSED | EVPQ_TRACE_SENT));
    ask_tagged(&a, "SELECT 1", NULL);
    fake_advance(1000);
    assert_int_equal(told_count, 2);
    assert_int_equal(told[0].event.kind, EVPQ_TRACE_SENT);
    assert_int_equal(told[1].event.kind, EVPQ_TRACE_CLOSED);
}

/* ---- memory ---- */

static void only_who_listens_pays_for_it(void **state)
{
    (void)state;
    int before = fake_mem_allocations();
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    int silent = fake_mem_allocations() - before;
    story_close(EVPQ_CLOSE_FINISH, 0);
    story_finish();
    for (int n = 1; n <= silent + 2; n++) { /* one more for the conninfo */
        fake_mem_fail_at(n);
        evpq_pool_options options =
            *EVPQ_POOL_OPTIONS(.conninfo = "host=/tmp", .on_trace = on_trace, .trace_user = told);
        assert_int_equal(story_open(&options), EVPQ_ENOMEM);
    }
    fake_mem_fail_at(silent + 1);
    story_open_ok(EVPQ_POOL_OPTIONS(.max_size = 1));
    fake_mem_fail_at(0);
    fake_dial_all_succeed();
    story_run(&a, "SELECT 1");
    assert_int_equal(a.code, EVPQ_OK);
}

static void what_was_lost_is_told_once(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    fake_mem_fail_at(1);
    for (int i = 0; i < 4; i++)
        evpq__pool_trace(pool, &(evpq_trace){.kind = EVPQ_TRACE_SENT}, NULL);
    fake_settle();
    assert_int_equal(told_count, 3);
    assert_int_equal(told[0].event.lost, 1);
    assert_int_equal(told[1].event.lost, 0);
    assert_int_equal(told[2].event.lost, 0);
}

/* ---- messages ---- */

static void nothing_is_written_where_there_is_no_room(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    char line[200];
    assert_int_equal(evpq_pool_describe(NULL, NULL, 0), 0);
    size_t length = evpq_pool_describe(pool, line, sizeof(line));
    assert_int_equal(length, strlen(line));
    assert_int_equal(evpq_pool_describe(pool, NULL, 0), length);
}

static void a_dial_without_an_answer_is_the_reason(void **state)
{
    (void)state;
    fake_dial_all_wait();
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 2));
    story_ask(&a, "SELECT 1", 1000);
    fake_advance(500);
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_string_equal(a.message, "no connection within 500 ms: 1 connecting, no answer yet");
}

static void the_oldest_lease_is_named(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    acquire_tagged(&a, "checkout");
    fake_settle();
    fake_advance(1000);
    story_ask(&b, "SELECT 1", 1000);
    fake_advance(500);
    assert_int_equal(b.code, EVPQ_ETIMEOUT);
    assert_string_equal(b.message,
                        "no connection was free within 500 ms: of max_size 1, 1 busy, 0 idle, 0 "
                        "cleaning, 0 connecting; 1 waiting; the oldest lease \"checkout\" is held "
                        "for 1.5 s; every connection is lent and none runs a statement: does a "
                        "holder wait for a second?");
    story_release(&a);
}

static void who_is_shed_hears_how_long_it_waited(void **state)
{
    (void)state;
    story_open_with_idle(1, *EVPQ_POOL_OPTIONS(.max_size = 1, .shed_target_ms = 5));
    story_acquire(&a, 0);
    fake_settle();
    story_ask(&b, "SELECT 1", 1000);
    story_ask(&c, "SELECT 1", 1000);
    fake_advance(12);
    pool->codel = (struct evpq__codel){.interval_ends_us = INT64_MAX, .overloaded = true};
    story_release(&a);
    fake_settle();
    assert_int_equal(b.code, EVPQ_EOVERLOADED);
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_non_null(strstr(
        b.message, "shed after 12 ms of waiting, above shed_target_ms 5 for a while: of max_size"));
}

static void the_texts_tell_cancelled_from_closed(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1));
    story_ask(&a, "HANG", 1000);
    fake_settle();
    story_ask(&b, "SELECT 1", 1000);
    evpq_op_cancel(a.op);
    evpq_op_cancel(b.op);
    fake_settle();
    assert_string_equal(a.message, "cancelled while the statement ran");
    assert_string_equal(b.message, "cancelled while it waited for a connection");
    story_ask(&c, "SELECT 1", 1000); /* with its connection, not sent */
    assert_int_equal(story_stats().busy, 1);
    evpq_op_cancel(c.op);
    fake_settle();
    assert_string_equal(c.message, "cancelled before the statement was sent");
    story_ask(&a, "HANG", 1000);
    fake_settle();
    story_ask(&b, "SELECT 1", 1000);
    story_close(EVPQ_CLOSE_CANCEL, 0);
    fake_settle();
    assert_string_equal(a.message, "closed while the statement ran");
    assert_int_equal(a.code, EVPQ_ECLOSED);
    assert_string_equal(b.message, "the pool was closed");
    assert_int_equal(b.code, EVPQ_ECLOSED);
}

static void a_deadline_says_where_it_passed(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 1, .cancel_timeout_ms = 100));
    story_acquire(&c, 0);
    fake_settle();
    story_lease_ask(&a, c.lease, "HANG", 400);
    story_lease_ask(&b, c.lease, "SELECT 1", 300);
    fake_advance(400);
    assert_int_equal(a.code, EVPQ_ETIMEOUT);
    assert_int_equal(a.fate, EVPQ_UNKNOWN);
    assert_string_equal(a.message, "the deadline of 400 ms passed while the statement ran");
    assert_int_equal(b.fate, EVPQ_NOT_SENT);
    assert_string_equal(b.message, "the deadline of 300 ms passed before the statement was sent");
    story_release(&c);
    fake_settle();
    story_ask(&a, "HANG", 700);
    fake_advance(700);
    assert_string_equal(a.message, "the deadline of 700 ms passed while the statement ran");
}

static int warnings(const char *why)
{
    int count = 0;
    for (int i = 0; i < told_count; i++)
        count += told[i].event.kind == EVPQ_TRACE_WARNING && strcmp(told[i].why, why) == 0;
    return count;
}

static void a_warning_is_told_once_for_each_reason(void **state)
{
    (void)state;
    open_traced(*EVPQ_POOL_OPTIONS(.max_size = 4));
    story_acquire(&a, 0);
    fake_settle();
    assert_int_equal(warnings("pooler") + warnings("unverified"), 0);
    fake_dial_notices(EVPQ__DIAL_POOLER);
    story_acquire(&b, 0);
    fake_settle();
    assert_int_equal(warnings("pooler"), 1);
    assert_int_equal(warnings("unverified"), 0);
    fake_dial_notices(EVPQ__DIAL_POOLER | EVPQ__DIAL_UNVERIFIED);
    story_acquire(&c, 0);
    fake_settle();
    assert_int_equal(warnings("pooler"), 1);
    assert_int_equal(warnings("unverified"), 1);
    story_release(&a);
    story_release(&b);
    story_release(&c);
    fake_settle();
}

#define trace_test(name) cmocka_unit_test_setup_teardown(name, begin, story_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        trace_test(a_query_from_its_dial_to_its_end),
        trace_test(numbers_count_from_one),
        trace_test(a_failure_comes_with_its_reason),
        trace_test(a_lease_gives_its_tag_to_its_statements),
        trace_test(an_acquire_in_vain_has_its_tag_too),
        trace_test(a_lease_that_nobody_was_told_of_has_no_tag_any_more),
        trace_test(a_lease_that_is_held_for_long_is_told_of),
        trace_test(a_lease_without_a_connection_is_overdue_all_the_same),
        trace_test(a_dial_that_fails_says_why),
        trace_test(each_end_of_a_connection_has_its_reason),
        trace_test(a_cancel_names_whom_it_went_to),
        trace_test(a_rerun_is_told_of),
        trace_test(only_what_was_chosen_is_told),
        trace_test(only_who_listens_pays_for_it),
        trace_test(what_was_lost_is_told_once),
        trace_test(nothing_is_written_where_there_is_no_room),
        trace_test(a_dial_without_an_answer_is_the_reason),
        trace_test(the_oldest_lease_is_named),
        trace_test(who_is_shed_hears_how_long_it_waited),
        trace_test(the_texts_tell_cancelled_from_closed),
        trace_test(a_deadline_says_where_it_passed),
        trace_test(a_warning_is_told_once_for_each_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
