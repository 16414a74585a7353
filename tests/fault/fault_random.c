/* SPDX-License-Identifier: MIT */
/*
 * A random walk on a real server: calls and faults that nobody has thought of
 * together, from timers and from inside callbacks.
 *
 * What step n does is decided by the seed and n alone, so the same seed is the
 * same walk; what it meets is as the server is fast: EVPQ_TEST_SEED=n.
 */
#include "support/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Pools */

static void on_trace(const evpq_trace *event, void *user)
{
    (void)user;
    walk.traces++;
    look_for_secret(event->why);
    if (event->kind & (EVPQ_TRACE_CLOSED | EVPQ_TRACE_SENT))
        walk_inside();
}

static evpq_pool_options some_options(struct step *step)
{
    static const uint32_t lifetimes[] = {0, 3000, 500}, idles[] = {0, 1000, 50, EVPQ_NEVER},
                          waiters[] = {0, 0, 200, 20}, acquires[] = {0, 0, 1000, 100},
                          cancels[] = {0, 100000, 10, 1}, sheds[] = {0, 0, 0, 5};
    evpq_pool_options o =
        *EVPQ_POOL_OPTIONS(.max_size = roll(step, 2) ? SIZE_MOST : 2 + roll(step, SIZE_MOST - 1));
    o.min_size = roll(step, 2) ? roll(step, o.max_size + 1) : 0;
    o.max_waiters = waiters[roll(step, 4)];
    o.connect_timeout_ms = 200 + roll(step, 2000);
    o.acquire_timeout_ms = acquires[roll(step, 4)];
    o.query_timeout_ms = 1500;
    /* Longer than any statement here: so the server is seen to let go. */
    o.cancel_timeout_ms = 500 + roll(step, 500);
    o.idle_timeout_ms = idles[roll(step, 4)];
    o.max_lifetime_ms = lifetimes[roll(step, 3)];
    o.fail_fast = roll(step, 4) == 0;
    o.cancel_policy = (evpq_cancel_policy)roll(step, 3);
    o.cancels_per_s = cancels[roll(step, 4)];
    o.server_timeout = (evpq_switch)roll(step, 3);
    o.max_result_bytes = roll(step, 3) ? 0 : 1 << 20;
    o.reset_session = roll(step, 2);
    o.shed_target_ms = sheds[roll(step, 4)];
    o.lease_overdue_ms = roll(step, 2) ? 20 : 0;
    o.on_trace = roll(step, 2) ? on_trace : NULL;
    return o;
}

static void open_pool(const evpq_pool_options *options)
{
    struct ledger *ledger = walk.ledger;
    char more[200];
    evpq_pool_options o = *options;
    snprintf(more, sizeof(more), "port=%d application_name=%s", proxy_port(walk.front.proxy),
             ledger->application);
    o.conninfo = fault_conninfo(walk.front.server, more);
    assert_int_equal(evpq_pool_open(&ledger->live.pool, ledger->live.loop, &o), EVPQ_OK);
    walk.pools++;
    walk.cancel_timeout_ms = o.cancel_timeout_ms;
    /* Its numbers begin at nought. */
    for (int i = 0; i < 16; i++)
        ledger->others[i] = -ledger->codes[i];
    ledger->others[-EVPQ_EOVERLOADED] -= ledger->refused;
}

static evpq_pool_options options_to_come;

static void on_closed(void *user)
{
    struct ledger *ledger = walk.ledger;
    double late = live_now() - walk.close_due;
    (void)user;
    if (late > walk.close_longest)
        walk.close_longest = late;
    if (late > 0.25 * live_slow() + 2. * ledger->dog.starved)
        ledger_breach(ledger, "a close took %.0f ms longer than its bound", late * 1e3);
    if (ledger->asked != ledger->answered || walk.acquires_open || walk.pages_open)
        ledger_breach(ledger, "closed before %d requests, %d acquires and %d pages were answered",
                      ledger->asked - ledger->answered, walk.acquires_open, walk.pages_open);
    open_pool(&options_to_come);
    walk_inside();
}

static void close_pool(evpq_close_mode mode, uint32_t bound_ms)
{
    evpq_pool *pool = walk.ledger->live.pool;
    walk.ledger->live.pool = NULL;
    walk.closes++;
    walk.close_due = live_now() + (mode == EVPQ_CLOSE_FINISH ? bound_ms / 1e3 : 0.) +
                     2. * walk.cancel_timeout_ms / 1e3;
    assert_int_equal(evpq_pool_close(pool, mode, bound_ms, on_closed, NULL), EVPQ_OK);
    assert_int_equal(evpq_pool_close(pool, mode, bound_ms, on_closed, NULL), EVPQ_ECLOSED);
}

/* Faults */

static void by_admin(struct step *step, const char *function)
{
    char sql[300];
    snprintf(sql, sizeof(sql),
             "SELECT count(%s(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE application_name "
             "= '%s' ORDER BY pid OFFSET %u LIMIT %u) AS some_of_them",
             function, walk.ledger->application, roll(step, 4), 1 + roll(step, 2));
    fault_sql(walk.front.server, sql);
}

static void on_heal(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    proxy_heal(walk.front.proxy);
}

static void network(struct step *step)
{
    struct proxy *proxy = walk.front.proxy;
    const struct proxy_rules slow = {.delay_ms = 20}, bits = {.segment = 3},
                             hang = {.fault = PROXY_CUT_HANG};
    switch (roll(step, 8)) {
    case 0:
        proxy_kill(proxy, 0, true);
        break;
    case 1:
        proxy_kill(proxy, 0, false);
        break;
    case 2:
        proxy_kill(proxy, proxy_accepted(proxy) - roll(step, 4), true);
        break;
    case 3:
        proxy_door(proxy, PROXY_REFUSE);
        break;
    case 4:
        proxy_door(proxy, roll(step, 2) ? PROXY_RESET : PROXY_CLOSE);
        break;
    case 5:
        proxy_door_next(proxy, PROXY_HOLD, 1);
        break;
    case 6:
        proxy_rules(proxy, PROXY_TO_CLIENT, roll(step, 2) ? &slow : &bits);
        break;
    case 7:
        proxy_rules(proxy, PROXY_TO_SERVER, &hang);
        break;
    }
    ev_timer_stop(walk.ledger->live.loop, &walk.heal);
    ev_timer_set(&walk.heal, 0.1, 0.);
    ev_timer_start(walk.ledger->live.loop, &walk.heal);
}

/* Steps */

static void look_at_it(void)
{
    char text[600];
    size_t length = evpq_pool_describe(walk.ledger->live.pool, text, sizeof(text));
    if (length == 0 || length >= sizeof(text) || strlen(text) != length)
        ledger_breach(walk.ledger, "a description of %zu bytes", length);
    look_for_secret(text);
    if (live_stats(&walk.ledger->live).total > SIZE_MOST)
        ledger_breach(walk.ledger, "too many connections");
}

static void do_with_pool(struct step *step)
{
    switch (step->kind) {
    case KIND_ask:
    case KIND_ask_command:
        walk_ask(step, NULL);
        break;
    case KIND_burst:
        for (unsigned i = 5 + roll(step, 30); i > 0; i--)
            walk_ask(step, NULL);
        break;
    case KIND_acquire:
        walk_acquire(step);
        break;
    case KIND_expire:
        assert_int_equal(evpq_pool_expire(walk.ledger->live.pool), EVPQ_OK);
        break;
    case KIND_look:
        look_at_it();
        break;
    case KIND_reopen:
        if (roll(step, 2))
            break;
        options_to_come = some_options(step);
        close_pool(roll(step, 2) ? EVPQ_CLOSE_FINISH : EVPQ_CLOSE_CANCEL, 1 + roll(step, 600));
        break;
    default:
        break;
    }
}

static void do_step(struct step *step)
{
    unsigned i = roll(step, LEASES);
    struct ledger_entry *entry = walk.recent[roll(step, RECENT)];
    struct asked_lease *asked =
        &walk.acquires[walk.acquires_made > 3 ? walk.acquires_made - 1 - (int)roll(step, 3) : 0];
    switch (step->kind) {
    case KIND_lease_ask:
        if (walk.leases[i])
            walk_ask(step, walk.leases[i]);
        break;
    case KIND_release:
        walk_release((int)i);
        break;
    case KIND_page:
        walk_page(step);
        break;
    case KIND_page_close:
        walk_page_close(&walk.walkers[roll(step, PAGERS)]);
        break;
    case KIND_cancel:
        if (roll(step, 5) == 0)
            evpq_op_cancel(walk.walkers[roll(step, PAGERS)].op);
        else if (roll(step, 5) == 0)
            evpq_op_cancel(asked->op);
        else if (entry)
            evpq_op_cancel(entry->op);
        break;
    case KIND_terminate:
        by_admin(step, "pg_terminate_backend");
        break;
    case KIND_cancel_by_admin:
        by_admin(step, "pg_cancel_backend");
        break;
    case KIND_network:
        if (walk.on_network && roll(step, 4) == 0)
            network(step);
        break;
    default:
        if (walk.ledger->live.pool)
            do_with_pool(step);
        else
            walk.impossible++;
    }
}

static void prepare_next(void)
{
    if (walk.done == walk.steps)
        return;
    walk.next = step_of(walk.seed, walk.done);
    /* A callback is not waited for without an end. */
    double pause = walk.next.inside ? 0.004 : walk.next.pause_us / 1e6;
    ev_timer_set(&walk.timer, pause, 0.);
    ev_timer_start(walk.ledger->live.loop, &walk.timer);
}

void walk_step(void)
{
    struct step step = walk.next;
    walk.next.inside = false;
    walk.digest = digest_of(walk.digest, &step);
    walk.done++;
    do_step(&step);
    prepare_next();
}

static void on_step(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)w;
    (void)events;
    walk_step();
}

/* The walk */

static bool is_walked(struct live *live, void *arg)
{
    (void)live;
    (void)arg;
    return walk.done == walk.steps && walk.ledger->live.pool;
}

static bool is_quiet(struct live *live, void *arg)
{
    (void)live;
    (void)arg;
    return walk.ledger->live.pool && walk.ledger->asked == walk.ledger->answered &&
           walk.acquires_open == 0 && walk.pages_open == 0;
}

/* The sums of a pool that has been through it, when all is over. */
static void check_last_pool(void)
{
    struct ledger *ledger = walk.ledger;
    evpq_pool_stats stats = live_stats(&ledger->live);
    const struct {
        const char *name;
        uint64_t is;
        int code, more;
    } sums[] = {
        {"timeouts", stats.timeouts, -EVPQ_ETIMEOUT, 0},
        {"canceled", stats.canceled, -EVPQ_ECANCELED, 0},
        {"overloaded", stats.overloaded + stats.shed, -EVPQ_EOVERLOADED, ledger->refused},
        {"waiting", stats.waiting, 15, 0},
    };
    for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
        int ought = ledger->codes[sums[i].code] + ledger->others[sums[i].code] + sums[i].more;
        if ((uint64_t)ought != sums[i].is)
            ledger_breach(ledger, "%s is %llu, and was seen %d times", sums[i].name,
                          (unsigned long long)sums[i].is, ought);
    }
}

static void take_a_walk(uint64_t seed, int steps, bool on_network)
{
    walk = (struct walk){.seed = seed, .steps = steps, .on_network = on_network};
    walk.close_longest = -1e9;
    uint64_t digest = 0;
    for (int i = 0; i < steps; i++) {
        struct step step = step_of(seed, i);
        digest = digest_of(digest, &step);
    }
    print_message("# seed: EVPQ_TEST_SEED=%llu, %d steps, digest %016llx\n",
                  (unsigned long long)seed, steps, (unsigned long long)digest);
    struct step first = step_of(seed, -1);
    evpq_pool_options options = some_options(&first);
    options.max_size = SIZE_MOST;
    walk.ledger = &walk.front.ledger;
    front_open(&walk.front, &options, NULL, NULL); /* it may skip */
    walk.acquires = calloc((size_t)steps + 1, sizeof(*walk.acquires));
    assert_non_null(walk.acquires);
    walk.cancel_timeout_ms = options.cancel_timeout_ms;
    struct ledger *ledger = walk.ledger;
    /* A reset hides from the server that a connection is gone, while it runs a statement. */
    if (on_network)
        front_allow(&walk.front, 50);
    fault_server_set(walk.front.server, "client_connection_check_interval", "100ms");
    /* The superuser's statements, and two megabytes of rows, are in the loop. */
    ledger->turn_cpu = 0.060;
    ledger->grown_mib = 120.;
    ev_timer_init(&walk.timer, on_step, 0., 0.);
    ev_timer_init(&walk.heal, on_heal, 0., 0.);
    walk.pools = 1;
    double start = live_now();
    prepare_next();
    ledger_until(ledger, is_walked, NULL, 60. + steps / 50.);
    double took = live_now() - start;
    ev_timer_stop(ledger->live.loop, &walk.heal);
    proxy_heal(walk.front.proxy);
    ledger_until(ledger, is_quiet, NULL, 30.);
    check_last_pool();
    for (int i = 0; i < LEASES; i++)
        walk_release(i);
    for (int i = 0; i < PAGERS; i++)
        walk_page_close(&walk.walkers[i]);
    /* And after all that, a pool as any other. */
    options_to_come = *EVPQ_POOL_OPTIONS(.max_size = SIZE_MOST, .cancel_timeout_ms = 1000);
    close_pool(EVPQ_CLOSE_FINISH, 1000);
    ledger_until(ledger, is_quiet, NULL, 30.);
    for (int i = 0; i < 20; i++)
        assert_int_equal(ledger_ask_and_wait(ledger, LEDGER_WRITE(.timeout_ms = 2000))->code,
                         EVPQ_OK);
    ledger_figure(
        "%d steps in %.1f s, %d of them in callbacks: %d statements, %d acquires, %d of "
        "%d pages, %d pools, %llu traces; the latest close %+.0f ms after its bound",
        walk.done, took, walk.inside, ledger->asked, walk.acquires_made, walk.pages,
        walk.pages_made, walk.pools, (unsigned long long)walk.traces, walk.close_longest * 1e3);
    assert_true(walk.digest == digest);
    for (int i = 0; i < walk.acquires_made; i++)
        if (walk.acquires[i].calls != 1)
            ledger_breach(ledger, "acquire %d was answered %d times", i, walk.acquires[i].calls);
    assert_true(walk.inside > steps / 20 && walk.pages_made > 0 && walk.acquires_made > 0);
    /* In a second of failures all of some twenty pages may fail. */
    assert_true(walk.pages > 0 || steps < 5000);
    free(walk.acquires);
    front_check(&walk.front);
}

static void walks(bool on_network, uint64_t usual_seed)
{
    const char *one = getenv("EVPQ_TEST_SEED");
    int steps = live_scaled(10000);
    if (one)
        take_a_walk(strtoull(one, NULL, 10), steps, on_network);
    else if (!fault_long())
        take_a_walk(usual_seed, steps, on_network);
    else
        for (uint64_t i = 0; i < 10; i++)
            take_a_walk((uint64_t)time(NULL) * 16 + i, steps, on_network);
}

static void a_walk_among_dying_backends(void **state)
{
    (void)state;
    walks(false, 1);
}

static void a_walk_on_a_failing_network(void **state)
{
    (void)state;
    walks(true, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_among_dying_backends),
        cmocka_unit_test(a_walk_on_a_failing_network),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
