/* SPDX-License-Identifier: MIT */
/*
 * Cancel races: statements are cancelled around the moment they end, by
 * evpq_op_cancel() and by their deadline. Beside each runs a neighbour: on
 * another connection, in a lease, or behind it in the same one.
 */
#include "support/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIZE = 8,
    HOLDERS = 1,   /* leases that run transactions, and are never cancelled */
    OPEN_MOST = 8, /* for six connections: some wait behind others */
    LINE_MOST = 4,
};

/* How a race is run. */
struct plan {
    const char *name;
    evpq_pool_options options;
    int usual, for_long; /* statements to aim at */
    bool line;           /* some of them in a lease, with others behind */
    int calm;            /* of 10 targets so many are left alone */
    double longest;      /* statement; 0: a few milliseconds */
};

/* One that will be cancelled. */
struct aim {
    struct aim *next;
    struct race *race;
    struct ledger_entry *target;
    int turns; /* of the loop, until it is */
    ev_timer at;
};

struct holder {
    struct race *race;
    evpq_lease *lease;
    int step;
};

struct race {
    struct ledger *ledger;
    const struct plan *plan;
    int made, wanted;
    int cancels;          /* calls of evpq_op_cancel() */
    struct aim *by_turns; /* aims that count turns */
    int aims;             /* not shot yet */
    bool *aimed;          /* by entry: it may be cancelled */
    unsigned short random[3];
    ev_timer tick;
    ev_check turn;
    struct holder holders[HOLDERS];
    evpq_lease *line;
    int in_line, holding, transactions;
    double began;
};

static int random_below(struct race *race, int limit)
{
    return (int)(erand48(race->random) * limit);
}

static int index_of(const struct ledger_entry *entry)
{
    return (int)(entry->nonce - entry->ledger->first_nonce);
}

/* Aiming */

static void shoot(struct aim *aim)
{
    if (aim->target->op) {
        aim->race->cancels++;
        evpq_op_cancel(aim->target->op);
    }
    aim->race->aims--;
    free(aim);
}

static void on_aim(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    shoot(w->data);
}

/* Sockets have been read, callbacks have not run. */
static void on_turn(struct ev_loop *loop, ev_check *w, int events)
{
    struct race *race = w->data;
    (void)loop;
    (void)events;
    for (struct aim **at = &race->by_turns; *at;) {
        struct aim *aim = *at;
        if (--aim->turns > 0) {
            at = &aim->next;
            continue;
        }
        *at = aim->next;
        shoot(aim);
    }
}

/* Half of them by turns of the loop: a timer is too coarse for the shortest. */
static void aim_at(struct race *race, struct ledger_entry *target, double seconds)
{
    race->aimed[index_of(target)] = true;
    if (random_below(race, 10) < race->plan->calm)
        return;
    struct aim *aim = calloc(1, sizeof(*aim));
    assert_non_null(aim);
    aim->race = race;
    aim->target = target;
    race->aims++;
    if (random_below(race, 2)) {
        aim->turns = 1 + random_below(race, 12);
        aim->next = race->by_turns;
        race->by_turns = aim;
        return;
    }
    ev_timer_init(&aim->at, on_aim, erand48(race->random) * 2. * (seconds + 0.001), 0.);
    aim->at.data = aim;
    ev_timer_start(race->ledger->live.loop, &aim->at);
}

/* Statements that take from a fifth of a millisecond to some. */
static struct ledger_request some_request(struct race *race)
{
    double longest = race->plan->longest > 0. ? race->plan->longest : 0.003;
    struct ledger_request request = *LEDGER_ECHO();
    switch (random_below(race, 3)) {
    case 0:
        request = *LEDGER_SLEEP(.seconds = erand48(race->random) * longest);
        break;
    case 1:
        request = *LEDGER_WRITE(.seconds = erand48(race->random) * 0.002);
        break;
    }
    return request;
}

/* On the pool: a target, and a neighbour that gets a connection beside or behind it. */

static void make_target(struct race *race)
{
    struct ledger_request request = some_request(race);
    bool by_deadline = random_below(race, 3) == 0;
    if (by_deadline)
        request.timeout_ms = (uint32_t)(1 + random_below(race, 5));
    struct ledger_entry *target = ledger_ask(race->ledger, &request);
    assert_non_null(target);
    race->made++;
    if (by_deadline)
        race->aimed[index_of(target)] = true;
    else
        aim_at(race, target, request.seconds);
    request = some_request(race);
    assert_non_null(ledger_ask(race->ledger, &request));
}

/* In a lease: the same, one behind the other. */

static void on_line(evpq_result *result, const evpq_error *err, void *user)
{
    struct ledger_entry *entry = user;
    struct race *race = entry->ledger->live.loop ? ev_userdata(entry->ledger->live.loop) : NULL;
    assert_non_null(race);
    ledger_on_result(result, err, entry);
    race->in_line--;
    /* The pool counts a connection as acquired once for the whole lease. */
    if (!err)
        race->ledger->others[0]--;
}

static struct ledger_entry *ask_line(struct race *race, uint32_t timeout_ms)
{
    struct ledger_request request = some_request(race);
    struct ledger_entry *entry = ledger_enter(race->ledger, timeout_ms, request.writes);
    const evpq_query *query = EVPQ_QUERY(
        request.sql, .timeout_ms = timeout_ms,
        .params = (const evpq_value[]){evpq_int8(entry->nonce), evpq_float8(request.seconds)},
        .params_count = strstr(request.sql, "$2") ? 2 : 1);
    assert_int_equal(evpq_lease_query(&entry->op, race->line, query, on_line, entry), EVPQ_OK);
    race->in_line++;
    return entry;
}

static void make_line(struct race *race)
{
    bool by_deadline = random_below(race, 3) == 0;
    struct ledger_entry *target =
        ask_line(race, by_deadline ? (uint32_t)(1 + random_below(race, 5)) : 0);
    race->made++;
    if (by_deadline)
        race->aimed[index_of(target)] = true;
    else
        aim_at(race, target, 0.001);
    ask_line(race, 0);
}

/* A lease beside: transactions, of which no statement may fail. */

static void hold_on(struct holder *holder);

static void on_held(evpq_result *result, const evpq_error *err, void *user)
{
    struct holder *holder = user;
    (void)result;
    if (err) {
        ledger_breach(holder->race->ledger, "a statement in a transaction beside: %s",
                      evpq_error_message(err));
        evpq_lease_release(holder->lease);
        holder->lease = NULL;
        holder->race->holding--;
        return;
    }
    hold_on(holder);
}

static void on_held_number(evpq_result *result, const evpq_error *err, void *user)
{
    int64_t number = 0;
    if (!err && (evpq_result_int8(result, 0, 0, &number) != EVPQ_OK || number != 4711))
        ledger_breach(((struct holder *)user)->race->ledger,
                      "a transaction beside got the answer of another: %lld", (long long)number);
    on_held(result, err, user);
}

static void hold_on(struct holder *holder)
{
    static const char *const steps[] = {"BEGIN", "SELECT 4711::int8 FROM pg_sleep(0.001)",
                                        "COMMIT"};
    struct race *race = holder->race;
    int step = holder->step++ % 3;
    race->transactions += step == 2;
    if (step == 0 && race->made == race->wanted) {
        evpq_lease_release(holder->lease);
        holder->lease = NULL;
        race->holding--;
        return;
    }
    assert_int_equal(evpq_lease_query(NULL, holder->lease, EVPQ_QUERY(steps[step]),
                                      step == 1 ? on_held_number : on_held, holder),
                     EVPQ_OK);
}

/* The race */

static void on_race(struct ev_loop *loop, ev_timer *w, int events)
{
    struct race *race = w->data;
    struct ledger *ledger = race->ledger;
    (void)events;
    for (int i = 0; i < 4 && race->made < race->wanted; i++) {
        if (race->line && race->in_line < LINE_MOST && random_below(race, 2))
            make_line(race);
        else if (ledger->asked - ledger->answered < OPEN_MOST + race->in_line)
            make_target(race);
    }
    if (race->made == race->wanted)
        ev_timer_stop(loop, w);
}

static bool race_over(struct live *live, void *arg)
{
    const struct race *race = arg;
    (void)live;
    return race->made == race->wanted && race->holding == 0 && race->aims == 0 &&
           race->ledger->answered >= race->ledger->asked;
}

static evpq_lease *take_lease(struct race *race)
{
    struct outcome outcome;
    live_acquire(&race->ledger->live, &outcome);
    assert_int_equal(outcome.code, EVPQ_OK);
    return outcome.lease;
}

static bool is_full(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == SIZE;
}

static void race_begin(struct race *race, struct ledger *ledger, const struct plan *plan)
{
    *race = (struct race){.ledger = ledger, .plan = plan, .random = {4, 7, 1}};
    race->wanted = live_scaled(fault_long() ? plan->for_long : plan->usual);
    race->aimed = calloc(1000000, sizeof(bool));
    assert_non_null(race->aimed);
    ev_set_userdata(ledger->live.loop, race);
    for (int i = 0; i < HOLDERS; i++) {
        race->holders[i] = (struct holder){.race = race, .lease = take_lease(race)};
        race->holding++;
    }
    if (plan->line)
        race->line = take_lease(race);
    race->began = live_now();
    for (int i = 0; i < HOLDERS; i++)
        hold_on(&race->holders[i]);
    ev_check_init(&race->turn, on_turn);
    ev_set_priority(&race->turn, EV_MINPRI);
    race->turn.data = race;
    ev_check_start(ledger->live.loop, &race->turn);
    ev_timer_init(&race->tick, on_race, 0., 0.001);
    race->tick.data = race;
    ev_timer_start(ledger->live.loop, &race->tick);
}

static void check_each(struct race *race, int *aimed, int *sent, int *unharmed)
{
    struct ledger *ledger = race->ledger;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        *aimed += race->aimed[i];
        *sent += entry->code != EVPQ_OK && entry->fate != EVPQ_NOT_SENT;
        *unharmed += !race->aimed[i] && entry->code == EVPQ_OK;
        if (!race->aimed[i] && entry->code != EVPQ_OK)
            ledger_breach(ledger, "neighbour %lld was hit: %s %s", (long long)entry->nonce,
                          evpq_code_name(entry->code), entry->sqlstate);
        if (race->aimed[i] && entry->code != EVPQ_OK && entry->code != EVPQ_ECANCELED &&
            entry->code != EVPQ_ETIMEOUT)
            ledger_breach(ledger, "target %lld ended with %s %s", (long long)entry->nonce,
                          evpq_code_name(entry->code), entry->sqlstate);
    }
}

/*
 * What nobody waits for does not run on the server for long. Where the connection is closed instead
 * of drained it is the server that has to notice: what it has not is told, and fails nothing.
 */
static void await_no_orphan(struct ledger *ledger, evpq_cancel_policy policy)
{
    char sql[200];
    snprintf(sql, sizeof(sql),
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s' AND state = "
             "'active'",
             ledger->application);
    double start = live_now(), end = start + 2. * live_slow();
    while (fault_sql(ledger->server, sql) > 0 && live_now() < end)
        ledger_run(ledger, 0.01);
    int64_t left = fault_sql(ledger->server, sql);
    if (left > 0 && policy != EVPQ_CANCEL_AND_KEEP)
        ledger_figure("%lld closed connections still have a statement that runs", (long long)left);
    else if (left > 0)
        ledger_breach(ledger, "a statement still runs that nobody waits for");
}

static void run(const struct plan *plan)
{
    struct ledger ledger;
    struct race race;
    struct fault_server *server = fault_server();
    ledger_open(&ledger, server, &plan->options);
    ledger_until(&ledger, is_full, NULL, 20.);
    race_begin(&race, &ledger, plan);
    ledger_until(&ledger, race_over, &race, 60. + race.wanted / 50.);
    double seconds = live_now() - race.began;
    evpq_lease_release(race.line);
    ev_check_stop(ledger.live.loop, &race.turn);
    await_no_orphan(&ledger, plan->options.cancel_policy);
    int aimed = 0, sent = 0, unharmed = 0;
    check_each(&race, &aimed, &sent, &unharmed);
    evpq_pool_stats stats = live_stats(&ledger.live);
    ledger_figure(
        "%s: %d aimed at in %.1f s, %d cancelled and %d timed out in time, %d of them while "
        "they ran, %llu cancel requests, %llu dials; %d of %d neighbours and %d "
        "transactions unharmed",
        plan->name, aimed, seconds, ledger.codes[-EVPQ_ECANCELED], ledger.codes[-EVPQ_ETIMEOUT],
        sent, (unsigned long long)stats.cancels, (unsigned long long)stats.dialed, unharmed,
        ledger.asked - aimed, race.transactions);
    assert_int_equal(aimed, race.wanted);
    assert_int_equal(unharmed, ledger.asked - aimed);
    /* There was a race: some were ahead of the cancel, and some not. */
    assert_true(ledger.codes[-EVPQ_ECANCELED] > 0 && ledger.codes[-EVPQ_ETIMEOUT] > 0);
    assert_true(ledger.codes[0] > ledger.asked - aimed || race.wanted < 500);
    uint32_t per_s = plan->options.cancels_per_s;
    assert_true((double)stats.cancels <= per_s * (seconds + 1.));
    assert_true(plan->options.cancel_policy == EVPQ_CLOSE_ONLY ? stats.cancels == 0
                                                               : stats.cancels > 0);
    if (plan->options.cancel_policy == EVPQ_CANCEL_AND_KEEP)
        assert_int_equal(stats.closed_broken, 0);
    free(race.aimed);
    ledger_check(&ledger);
}

static void cancelled_and_kept_harms_nobody(void **state)
{
    (void)state;
    run(&(struct plan){
        .name = "cancel and keep",
        .options = *EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE, .cancels_per_s = 100000),
        .usual = 8000,
        .for_long = 100000,
        .line = true});
}

static void beside_others_on_its_connection_it_harms_nobody(void **state)
{
    (void)state;
    run(&(struct plan){.name = "16 on a connection",
                       .options = *EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE,
                                                     .cancels_per_s = 100000, .pipeline_depth = 16),
                       .usual = 8000,
                       .for_long = 100000,
                       .line = true});
}

static void cancelled_and_closed_harms_nobody(void **state)
{
    (void)state;
    run(&(struct plan){.name = "cancel and close",
                       .options = *EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE,
                                                     .cancels_per_s = 100000,
                                                     .cancel_policy = EVPQ_CANCEL_AND_CLOSE),
                       .usual = 1500,
                       .for_long = 20000});
}

static void closed_only_harms_nobody(void **state)
{
    (void)state;
    run(&(struct plan){.name = "close only",
                       .options =
                           *EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE,
                                              .cancels_per_s = 1, .cancel_policy = EVPQ_CLOSE_ONLY),
                       .usual = 600,
                       .for_long = 10000,
                       /* While the server still runs them, they count. */
                       .longest = 0.1});
}

static void a_small_budget_of_cancels_harms_nobody(void **state)
{
    (void)state;
    run(&(struct plan){
        .name = "20 cancels a second",
        .options = *EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE, .cancels_per_s = 20),
        .usual = 3000,
        .for_long = 20000,
        .line = true});
}

static void beside_the_servers_own_timeout_nobody_is_harmed(void **state)
{
    (void)state;
    run(&(struct plan){.name = "server timeout",
                       .options =
                           *EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE,
                                              .cancels_per_s = 100000, .server_timeout = EVPQ_ON),
                       .usual = 4000,
                       .for_long = 50000,
                       .line = true,
                       .calm = 5});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancelled_and_kept_harms_nobody),
        cmocka_unit_test(beside_others_on_its_connection_it_harms_nobody),
        cmocka_unit_test(cancelled_and_closed_harms_nobody),
        cmocka_unit_test(closed_only_harms_nobody),
        cmocka_unit_test(a_small_budget_of_cancels_harms_nobody),
        cmocka_unit_test(beside_the_servers_own_timeout_nobody_is_harmed),
    };
    return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
