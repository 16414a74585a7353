/* SPDX-License-Identifier: MIT */
/* Section G of the catalogue: a pool is closed at any moment from anywhere; loops stop and go on.
 */
#include "support/ledger.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BOUND_MS = 120, CANCEL_MS = 300, ASKED_MOST = 16 };

/* An acquire or a page, and how often it was answered. */
struct asked {
    struct end *end;
    int accepted, calls;
    evpq_code code;
};

/* One end of one pool. */
struct end {
    struct ledger ledger;
    const char *state, *from;
    evpq_close_mode mode;
    struct asked asked[ASKED_MOST];
    int asked_count, closed, pending;
    evpq_lease *leases[ASKED_MOST];
    evpq_pager *pagers[ASKED_MOST];
    int lease_count, pager_count;
    double close_at, closed_at;
    bool close_inside; /* the next callback of `trigger` */
    ev_timer timer;
    ev_io io;
    int pipe[2];
    int stopped; /* processes of the server */
};

static void on_end(void *user)
{
    struct end *end = user;
    end->closed++;
    end->closed_at = live_now();
    /* It is the last thing they hear. */
    for (int i = 0; i < end->asked_count; i++)
        end->pending += end->asked[i].calls != 1;
    end->pending += end->ledger.asked - end->ledger.answered;
}

static void close_now(struct end *end)
{
    evpq_pool *pool = end->ledger.live.pool;
    struct outcome never = {0};
    if (!pool)
        return;
    end->ledger.live.pool = NULL;
    end->close_at = live_now();
    end->ledger.in_call = true;
    int code = evpq_pool_close(pool, end->mode, BOUND_MS, on_end, end);
    int again = evpq_pool_close(pool, end->mode, BOUND_MS, on_end, end);
    int query = evpq_pool_query(NULL, pool, EVPQ_QUERY("SELECT 1"), outcome_result, &never);
    int acquire = evpq_pool_acquire(NULL, pool, NULL, outcome_lease, &never);
    end->ledger.in_call = false;
    if (code != EVPQ_OK || again != EVPQ_ECLOSED || query != EVPQ_ECLOSED ||
        acquire != EVPQ_ECLOSED || never.calls)
        ledger_breach(&end->ledger, "closing said %s, then %s, a query %s, an acquire %s",
                      evpq_code_name(code), evpq_code_name(again), evpq_code_name(query),
                      evpq_code_name(acquire));
}

/* What is under way */

static struct asked *asked_new(struct end *end)
{
    struct asked *asked = &end->asked[end->asked_count++];
    assert_true(end->asked_count <= ASKED_MOST);
    asked->end = end;
    return asked;
}

static void note(struct asked *asked, const evpq_error *err)
{
    if (++asked->calls > 1 || asked->end->ledger.in_call || asked->end->closed)
        ledger_breach(&asked->end->ledger, "answered twice, inside a call, or after the close");
    asked->code = evpq_error_code(err);
}

static void on_asked_lease(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct asked *asked = user;
    struct end *end = asked->end;
    note(asked, err);
    if (lease)
        end->leases[end->lease_count++] = lease;
}

static void on_asked_page(evpq_page *page, const evpq_error *err, void *user)
{
    (void)page;
    note(user, err);
}

static void ask_lease(struct end *end, evpq_acquire_fn *on_lease, uint32_t timeout_ms)
{
    assert_int_equal(evpq_pool_acquire(NULL, end->ledger.live.pool,
                                       EVPQ_ACQUIRE_OPTIONS(.timeout_ms = timeout_ms), on_lease,
                                       asked_new(end)),
                     EVPQ_OK);
}

static void ask_page(struct end *end, evpq_page_fn *on_page, uint32_t timeout_ms)
{
    evpq_pager **pager = &end->pagers[end->pager_count++];
    assert_int_equal(evpq_pager_open(pager, end->ledger.live.pool,
                                     EVPQ_PAGER_OPTIONS(.sql = "SELECT 1 AS id FROM pg_sleep(0.02)",
                                                        .assume_unique = true, .order_by = "id",
                                                        .timeout_ms = timeout_ms)),
                     EVPQ_OK);
    assert_int_equal(evpq_pager_next(NULL, *pager, on_page, asked_new(end)), EVPQ_OK);
}

/* One of each: some end in time, some do not. */
static void ask_all(struct end *end)
{
    ledger_ask(&end->ledger, LEDGER_SLEEP(.seconds = 30.));
    ledger_ask(&end->ledger, LEDGER_WRITE(.seconds = 0.01));
    ask_lease(end, on_asked_lease, 0);
    ask_page(end, on_asked_page, 0);
    ledger_ask(&end->ledger, LEDGER_ECHO());
    ledger_ask(&end->ledger, LEDGER_WRITE(.seconds = 30.));
}

/* States */

static void idle(struct end *end)
{
    assert_int_equal(ledger_ask_and_wait(&end->ledger, LEDGER_ECHO())->code, EVPQ_OK);
}

static void connecting(struct end *end)
{
    ask_all(end);
}

static void in_flight(struct end *end)
{
    idle(end);
    ledger_ask(&end->ledger, LEDGER_SLEEP(.seconds = 30.));
    ledger_ask(&end->ledger, LEDGER_WRITE(.seconds = 0.03));
    ledger_run(&end->ledger, 0.01);
}

static void queued(struct end *end)
{
    in_flight(end);
    ask_all(end);
}

static bool has_lease(struct live *live, void *arg)
{
    (void)live;
    return ((struct end *)arg)->lease_count > 0;
}

static void take_lease(struct end *end)
{
    ask_lease(end, on_asked_lease, 5000);
    ledger_until(&end->ledger, has_lease, end, 10.);
}

static void lease_ask(struct end *end, const char *sql)
{
    struct ledger_entry *entry = ledger_enter(&end->ledger, 0, false);
    assert_int_equal(evpq_lease_query(&entry->op, end->leases[0],
                                      EVPQ_QUERY(sql, EVPQ_PARAMS(evpq_int8(entry->nonce))),
                                      ledger_on_result, entry),
                     EVPQ_OK);
}

static void lent(struct end *end)
{
    take_lease(end);
    ask_all(end);
}

static void lent_and_running(struct end *end)
{
    take_lease(end);
    lease_ask(end, "SELECT $1::int8");
    lease_ask(end, "SELECT $1::int8 FROM pg_sleep(30)");
    lease_ask(end, "SELECT $1::int8");
    ledger_run(&end->ledger, 0.01);
}

static void cleaning(struct end *end)
{
    idle(end);
    struct ledger_entry *entry = ledger_ask(&end->ledger, LEDGER_SLEEP(.seconds = 30.));
    ledger_run(&end->ledger, 0.01);
    evpq_op_cancel(entry->op);
    ask_all(end);
}

static void stopped(struct end *end)
{
    queued(end);
    end->stopped = fault_server_signal(end->ledger.server, "evpq evpq", SIGSTOP);
    assert_true(end->stopped > 0);
}

static void unreachable(struct end *end)
{
    ask_all(end);
    ledger_run(&end->ledger, 0.15);
}

static const struct {
    const char *name;
    void (*make)(struct end *end);
    const char *more; /* of the conninfo */
    bool reset;
} states[] = {
    {"idle", idle, "", false},
    {"connecting", connecting, "", false},
    {"in flight", in_flight, "", false},
    {"queued", queued, "", true},
    {"lent", lent, "", false},
    {"lent and running", lent_and_running, "", true},
    {"cleaning", cleaning, "", false},
    {"stopped", stopped, "", false},
    {"unreachable", unreachable, "port=1", false},
};

/* Where it is closed from */

static void on_close_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    close_now(w->data);
}

static void on_close_io(struct ev_loop *loop, ev_io *w, int events)
{
    (void)events;
    ev_io_stop(loop, w);
    close_now(w->data);
}

static void on_close_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct ledger_entry *entry = user;
    close_now(ev_userdata(entry->ledger->live.loop));
    ledger_on_result(result, err, user);
}

static void on_close_lease(evpq_lease *lease, const evpq_error *err, void *user)
{
    close_now(((struct asked *)user)->end);
    on_asked_lease(lease, err, user);
}

static void on_close_page(evpq_page *page, const evpq_error *err, void *user)
{
    close_now(((struct asked *)user)->end);
    on_asked_page(page, err, user);
}

static void on_trace(const evpq_trace *event, void *user)
{
    struct end *end = user;
    if (end->close_inside && event->kind == EVPQ_TRACE_FINISHED)
        close_now(end);
}

static void from_here(struct end *end)
{
    close_now(end);
}

static void from_timer(struct end *end)
{
    ev_timer_init(&end->timer, on_close_timer, 0.005, 0.);
    ev_timer_start(end->ledger.live.loop, &end->timer);
}

static void from_io(struct end *end)
{
    ev_io_init(&end->io, on_close_io, end->pipe[0], EV_READ);
    ev_io_start(end->ledger.live.loop, &end->io);
    assert_int_equal(write(end->pipe[1], "x", 1), 1);
}

/* A statement that ends soon, one way or the other. */
static void ask_soon(struct end *end, evpq_result_fn *on_result)
{
    struct ledger_entry *entry = ledger_enter(&end->ledger, 30, false);
    assert_int_equal(
        evpq_pool_query(
            &entry->op, end->ledger.live.pool,
            EVPQ_QUERY("SELECT $1::int8", EVPQ_PARAMS(evpq_int8(entry->nonce)), .timeout_ms = 30),
            on_result, entry),
        EVPQ_OK);
}

static void from_result(struct end *end)
{
    ask_soon(end, on_close_result);
}

static void from_lease(struct end *end)
{
    ask_lease(end, on_close_lease, 30);
}

static void from_page(struct end *end)
{
    ask_page(end, on_close_page, 60);
}

static void from_trace(struct end *end)
{
    end->close_inside = true;
    ask_soon(end, ledger_on_result);
}

static const struct {
    const char *name;
    void (*arm)(struct end *end);
} triggers[] = {
    {"the program", from_here}, {"a timer", from_timer}, {"an io watcher", from_io},
    {"a result", from_result},  {"a lease", from_lease}, {"a page", from_page},
    {"a trace", from_trace},
};

static bool is_over(struct live *live, void *arg)
{
    (void)live;
    return ((struct end *)arg)->closed > 0;
}

/* How long after its bound the pool was gone, negative when before; its last moments too. */
static double one_end(struct fault_server *server, size_t state, size_t trigger,
                      evpq_close_mode mode)
{
    struct end end = {.state = states[state].name, .from = triggers[trigger].name, .mode = mode};
    struct ledger *ledger = &end.ledger;
    /* The ledger counts descriptors, so ours come before. */
    assert_int_equal(pipe(end.pipe), 0);
    ledger_open(ledger, server,
                EVPQ_POOL_OPTIONS(.conninfo = fault_conninfo(server, states[state].more),
                                  .max_size = 2, .cancel_timeout_ms = CANCEL_MS,
                                  .query_timeout_ms = 20000, .reset_session = states[state].reset,
                                  .on_trace = on_trace, .trace_user = &end));
    ev_set_userdata(ledger->live.loop, &end);
    end.timer.data = end.io.data = &end;
    states[state].make(&end);
    triggers[trigger].arm(&end);
    ledger_until(ledger, is_over, &end, 20.);
    double bound = mode == EVPQ_CLOSE_FINISH ? BOUND_MS / 1e3 : 0.;
    double late = end.closed_at - end.close_at - bound;
    if (late > 2. * CANCEL_MS / 1e3 * live_slow() + 0.1)
        ledger_breach(ledger, "the pool was closed %.0f ms after its bound", late * 1e3);
    if (end.pending)
        ledger_breach(ledger, "%d were not answered before the end", end.pending);
    if (end.stopped)
        fault_server_signal(server, "evpq evpq", SIGCONT);
    /* The handles of what is gone are still ours. */
    for (int i = 0; i < end.pager_count; i++)
        evpq_pager_close(end.pagers[i]);
    for (int i = 0; i < end.lease_count; i++) {
        struct outcome never = {0};
        int code =
            evpq_lease_query(NULL, end.leases[i], EVPQ_QUERY("SELECT 1"), outcome_result, &never);
        if (code != EVPQ_ECLOSED && code != EVPQ_EDISCONNECTED)
            ledger_breach(ledger, "a lease of a closed pool said %s", evpq_code_name(code));
        evpq_lease_release(end.leases[i]);
    }
    /* Looking for the server's processes takes its time. */
    ledger->turn_cpu = 0.050;
    int broken = ledger->broken;
    if (broken)
        print_message("  closed (%s) from %s, when %s:\n",
                      mode == EVPQ_CLOSE_FINISH ? "finish" : "cancel", end.from, end.state);
    ledger_check(ledger);
    close(end.pipe[0]);
    close(end.pipe[1]);
    return late;
}

static void ends(evpq_close_mode mode)
{
    struct fault_server *server = fault_server();
    size_t state_count = sizeof(states) / sizeof(states[0]);
    double latest = -1e9;
    const char *latest_state = "";
    for (size_t state = 0; state < state_count; state++)
        for (size_t i = 0; i < sizeof(triggers) / sizeof(triggers[0]); i++) {
            double late = one_end(server, state, i, mode);
            latest_state = late > latest ? states[state].name : latest_state;
            latest = late > latest ? late : latest;
        }
    ledger_figure(
        "closed (%s) in %zu states from %zu places: gone %.0f ms after the bound at "
        "most, when %s",
        mode == EVPQ_CLOSE_FINISH ? "finish" : "cancel", state_count,
        sizeof(triggers) / sizeof(triggers[0]), latest * 1e3, latest_state);
}

static void closed_to_finish_from_anywhere_in_any_state(void **state)
{
    (void)state;
    ends(EVPQ_CLOSE_FINISH);
}

static void closed_to_cancel_from_anywhere_in_any_state(void **state)
{
    (void)state;
    ends(EVPQ_CLOSE_CANCEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_to_finish_from_anywhere_in_any_state),
        cmocka_unit_test(closed_to_cancel_from_anywhere_in_any_state),
    };
    return cmocka_run_group_tests_name("lifecycle", tests, NULL, NULL);
}
