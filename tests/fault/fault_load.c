/* SPDX-License-Identifier: MIT */
/* Section E of the catalogue: more load than there is capacity, for long, in waves, with faults. */
#include "support/front.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 10 };

static double usual_rate(double per_s)
{
    return live_slow() > 1. ? per_s / 5. : per_s;
}

static bool is_full(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == SIZE;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The spike: dials take long, statements do not. The first case of this program, see front_open().
 */

static bool is_filled(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).idle == 5;
}

static void a_spike_meets_slow_dials_and_opens_few_connections(void **state)
{
    (void)state;
    struct front front;
    enum { MIN = 5, REQUESTS = 50 };
    front_open(&front, EVPQ_POOL_OPTIONS(.min_size = MIN, .max_size = 50), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    ledger_until(ledger, is_filled, NULL, 20.);
    /* A login takes five answers of the server. */
    const struct proxy_rules slow = {.delay_ms = 30}, usual = {0};
    proxy_rules(front.proxy, PROXY_TO_CLIENT, &slow);
    for (unsigned i = 1; i <= proxy_accepted(front.proxy); i++)
        proxy_rules_of(front.proxy, i, PROXY_TO_CLIENT, &usual);
    double start = live_now(), last = 0.;
    for (int i = 0; i < REQUESTS; i++)
        ledger_ask(ledger, LEDGER_SLEEP(.seconds = 0.002, .timeout_ms = 5000));
    ledger_drain(ledger);
    for (int i = 0; i < REQUESTS; i++)
        last = ledger->entries[i]->answered > last ? ledger->entries[i]->answered : last;
    /* What was begun comes to its end. */
    ledger_run(ledger, 0.4 * live_slow());
    evpq_pool_stats stats = live_stats(&ledger->live);
    ledger_figure(
        "spike of %d on %d connections, dials of 150 ms: all answered after %.0f ms, %u "
        "connections in the end",
        REQUESTS, MIN, (last - start) * 1e3, stats.total);
    assert_int_equal(ledger->codes[0], REQUESTS);
    assert_true(last - start < 0.1 * live_slow());
    assert_true(stats.total >= MIN && stats.total <= MIN + 2);
    front_check(&front);
}

/* Twice what the pool can do, held back in each of the three ways. */

static double measure_capacity(struct fault_server *server, const struct ledger_request *request)
{
    struct ledger ledger;
    double span = fault_long() ? 10. : 2.5;
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE));
    ledger_until(&ledger, is_full, NULL, 20.);
    double start = live_now();
    while (live_now() - start < span) {
        while (ledger.asked - ledger.answered < 2 * SIZE)
            ledger_ask(&ledger, request);
        ledger_run(&ledger, 0.002);
    }
    double capacity = ledger_goodput(&ledger, start + 0.5, start + span) / (span - 0.5);
    ledger_check(&ledger);
    return capacity;
}

/* How long those waited who were told no, sorted; returns how many. */
static int waits_of_refused(const struct ledger *ledger, double **waits)
{
    int count = 0;
    *waits = calloc((size_t)ledger->asked + 1, sizeof(double));
    assert_non_null(*waits);
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        if (entry->code != EVPQ_OK)
            (*waits)[count++] = entry->answered - entry->asked;
    }
    qsort(*waits, (size_t)count, sizeof(double), compare);
    return count;
}

/* `told`: how callbacks say no; EVPQ_OK when only calls do. */
static void twice_the_capacity(const char *name, evpq_pool_options options, evpq_code told,
                               double told_within)
{
    struct ledger ledger;
    struct fault_server *server = fault_server();
    struct ledger_request request = *LEDGER_SLEEP(.seconds = 0.02, .timeout_ms = 1000);
    double seconds = fault_long() ? 60. : 7., *waits;
    double capacity = measure_capacity(server, &request);
    options.min_size = options.max_size = SIZE;
    ledger_open(&ledger, server, &options);
    ledger_until(&ledger, is_full, NULL, 20.);
    double start = live_now();
    ledger_load(&ledger, 2. * capacity, &request);
    ledger_run(&ledger, seconds);
    double goodput = ledger_goodput(&ledger, start + 1., start + seconds) / (seconds - 1.);
    ledger_drain(&ledger);
    int failed = waits_of_refused(&ledger, &waits);
    double half = failed ? waits[failed / 2] : 0., most = failed ? waits[failed * 99 / 100] : 0.;
    free(waits);
    ledger_figure(
        "%s: capacity %.0f/s; asked for %.0f/s for %.0f s, %.0f/s were answered in time: "
        "%.1f %%; %d refused by the call, %d by the callback as %s, after %.1f ms "
        "(median), %.1f ms (99 %%)",
        name, capacity, 2. * capacity, seconds, goodput, 100. * goodput / capacity, ledger.refused,
        failed, told ? evpq_code_name(told) : "nothing", half * 1e3, most * 1e3);
    assert_true(goodput >= (live_slow() > 1. ? 0.7 : 0.95) * capacity);
    /* Each hears which of the three it is, and that nothing was sent. */
    assert_true(told ? failed > 0 && ledger.refused == 0 : failed == 0 && ledger.refused > 0);
    for (int i = 0; i < ledger.asked; i++) {
        const struct ledger_entry *entry = ledger.entries[i];
        if (entry->code == EVPQ_OK)
            continue;
        assert_int_equal(entry->code, told);
        assert_int_equal(entry->fate, EVPQ_NOT_SENT);
        assert_true(entry->retry_safe);
    }
    if (told)
        assert_non_null(strstr(ledger.texts[-(int)told & 15], "of max_size 10"));
    assert_true(most <= told_within * live_slow());
    ledger_check(&ledger);
}

static void twice_the_capacity_refused_by_the_call(void **state)
{
    (void)state;
    twice_the_capacity("max_waiters", *EVPQ_POOL_OPTIONS(.max_waiters = 2 * SIZE), EVPQ_OK, 0.);
}

static void twice_the_capacity_shed(void **state)
{
    (void)state;
    twice_the_capacity("shed_target_ms", *EVPQ_POOL_OPTIONS(.shed_target_ms = 5), EVPQ_EOVERLOADED,
                       0.15);
}

static void twice_the_capacity_timed_out(void **state)
{
    (void)state;
    twice_the_capacity("acquire_timeout_ms", *EVPQ_POOL_OPTIONS(.acquire_timeout_ms = 200),
                       EVPQ_ETIMEOUT, 0.3);
}

/* Connections that live for a second only. */

struct churn {
    ev_timer look;
    struct ledger *ledger;
    uint32_t fewest;
};

static void on_churn(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct churn *churn = w->data;
    evpq_pool_stats stats = live_stats(&churn->ledger->live);
    if (stats.idle + stats.busy < churn->fewest)
        churn->fewest = stats.idle + stats.busy;
}

static void connections_of_a_second_are_replaced_unseen(void **state)
{
    (void)state;
    struct ledger ledger;
    struct churn churn = {.ledger = &ledger, .fewest = SIZE};
    struct fault_server *server = fault_server();
    double seconds = fault_long() ? 60. : 6., rate = usual_rate(800.);
    ledger_open(&ledger, server,
                EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE, .max_lifetime_ms = 1000));
    ledger_until(&ledger, is_full, NULL, 20.);
    double start = live_now();
    ev_timer_init(&churn.look, on_churn, 0., 0.002);
    churn.look.data = &churn;
    ev_timer_start(ledger.live.loop, &churn.look);
    ledger_load(&ledger, rate, LEDGER_SLEEP(.seconds = 0.002, .timeout_ms = 2000));
    ledger_run(&ledger, seconds);
    ledger_drain(&ledger);
    ev_timer_stop(ledger.live.loop, &churn.look);
    evpq_pool_stats stats = live_stats(&ledger.live);
    int in_a_moment = 0;
    for (double at = start; at < start + seconds; at += 0.005) {
        int dials = ledger_dials(&ledger, at, at + 0.02);
        in_a_moment = dials > in_a_moment ? dials : in_a_moment;
    }
    ledger_figure(
        "max_lifetime 1 s at %.0f/s for %.0f s: %llu connections retired, %d of %d "
        "answers good, %u of %d connections at least, %d dials within 20 ms at most",
        rate, seconds, (unsigned long long)stats.closed_lifetime, ledger.codes[0], ledger.asked,
        churn.fewest, SIZE, in_a_moment);
    assert_int_equal(ledger.codes[0], ledger.asked);
    assert_int_equal(stats.closed_broken, 0);
    assert_true((double)stats.closed_lifetime >= (seconds - 1.5) * SIZE * 0.8);
    assert_true(churn.fewest >= 2);
    assert_true(in_a_moment < SIZE);
    ledger_check(&ledger);
}

/* A thousand clients with pages, of whom some go away in the middle, and a thousand who dawdle. */

enum { CLIENTS = 1000, CLIENT_PAGES = 10, PAGE_ROWS = 20 };

struct clients;

struct client {
    struct clients *all;
    evpq_pager *pager;
    evpq_op *op;
    int64_t last; /* row */
    bool leaves;
    ev_timer leave;
};

struct clients {
    struct ledger *ledger;
    struct client *client;
    evpq_pager **idle;
    int count, open, pages, whole, left, wrong;
    bool over;
    unsigned short random[3];
    int descriptors;
};

static void client_begin(struct client *client);

static void client_end(struct client *client)
{
    evpq_pager_close(client->pager);
    client->pager = NULL;
    client->all->open--;
    if (!client->all->over)
        client_begin(client);
}

static void on_client_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct client *client = user;
    struct clients *all = client->all;
    int64_t row;
    client->op = NULL;
    ev_timer_stop(all->ledger->live.loop, &client->leave);
    if (err) {
        all->left += evpq_error_code(err) == EVPQ_ECANCELED;
        all->wrong += evpq_error_code(err) != EVPQ_ECANCELED || !client->leaves;
        all->ledger->others[-EVPQ_ECANCELED]++;
        client_end(client);
        return;
    }
    all->pages++;
    for (uint32_t i = 0; i < evpq_page_rows(page); i++)
        if (evpq_result_int8(evpq_page_result(page), i, 0, &row) != EVPQ_OK ||
            row != ++client->last)
            all->wrong++;
    all->whole += !evpq_page_has_next(page);
    if (!evpq_page_has_next(page) || all->over ||
        evpq_pager_next(&client->op, client->pager, on_client_page, client) != EVPQ_OK)
        client_end(client);
}

static void on_leave(struct ev_loop *loop, ev_timer *w, int events)
{
    struct client *client = w->data;
    (void)loop;
    (void)events;
    evpq_op_cancel(client->op);
}

static const evpq_pager_options *page_options(void)
{
    static evpq_pager_options options;
    options = *EVPQ_PAGER_OPTIONS(
            .sql = "SELECT i::int8 AS id FROM generate_series(1, 200) AS i, pg_sleep(0.003)",
            .assume_unique = true, .order_by = "id", .page_size = PAGE_ROWS, .format = EVPQ_BINARY);
    return &options;
}

static void client_begin(struct client *client)
{
    struct clients *all = client->all;
    client->last = 0;
    client->leaves = erand48(all->random) < 0.3;
    assert_int_equal(evpq_pager_open(&client->pager, all->ledger->live.pool, page_options()),
                     EVPQ_OK);
    assert_int_equal(evpq_pager_next(&client->op, client->pager, on_client_page, client), EVPQ_OK);
    all->open++;
    ev_timer_init(&client->leave, on_leave, erand48(all->random) * 0.5, 0.);
    client->leave.data = client;
    if (client->leaves)
        ev_timer_start(all->ledger->live.loop, &client->leave);
}

static bool clients_gone(struct live *live, void *arg)
{
    (void)live;
    return ((struct clients *)arg)->open == 0;
}

static void a_thousand_clients_use_what_the_pool_has(void **state)
{
    (void)state;
    struct ledger ledger;
    struct fault_server *server = fault_server();
    struct clients all = {.ledger = &ledger, .random = {5, 1, 0}};
    char active[200];
    all.count = live_scaled(CLIENTS);
    all.client = calloc((size_t)all.count, sizeof(struct client));
    all.idle = calloc((size_t)all.count, sizeof(evpq_pager *));
    assert_true(all.client && all.idle);
    ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.min_size = SIZE, .max_size = SIZE));
    snprintf(active, sizeof(active),
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s' AND state = "
             "'active'",
             ledger.application);
    ledger_until(&ledger, is_full, NULL, 20.);
    int descriptors = live_descriptors(), most = 0;
    /* Those who dawdle have a place and nothing else. */
    for (int i = 0; i < all.count; i++)
        assert_int_equal(evpq_pager_open(&all.idle[i], ledger.live.pool, page_options()), EVPQ_OK);
    struct fault_every *sampler = fault_every(server, active, 0.02);
    for (int i = 0; i < all.count; i++) {
        all.client[i].all = &all;
        client_begin(&all.client[i]);
    }
    for (double end = live_now() + (fault_long() ? 60. : 5.); live_now() < end;) {
        ledger_run(&ledger, 0.05);
        most = live_descriptors() > most ? live_descriptors() : most;
    }
    all.over = true;
    for (int i = 0; i < all.count; i++)
        if (all.client[i].op && (i % 2 || all.client[i].leaves)) {
            all.client[i].leaves = true;
            evpq_op_cancel(all.client[i].op);
        }
    ledger_until(&ledger, clients_gone, &all, 60.);
    double gone = live_now(), end = gone + 1. * live_slow();
    while (fault_sql(server, active) > 0 && live_now() < end)
        ledger_run(&ledger, 0.01);
    double left = live_now() - gone;
    struct fault_tally seen = fault_every_end(sampler);
    ledger_figure(
        "%d clients: %d pages, %d whole walks, %d left in the middle; %lld statements at "
        "a time at most, %d descriptors more at most, none runs %.0f ms after the end",
        all.count, all.pages, all.whole, all.left, (long long)seen.most, most - descriptors,
        left * 1e3);
    assert_int_equal(all.wrong, 0);
    assert_true(all.pages > 0 && all.left > 0);
    assert_true(seen.most <= SIZE);
    /* One for each cancel request under way, as many as leave in a moment. */
    assert_true(most - descriptors <= 60);
    assert_int_equal(fault_sql(server, active), 0);
    for (int i = 0; i < all.count; i++)
        evpq_pager_close(all.idle[i]);
    /* A thousand walks begin in one turn. */
    ledger.turn_cpu = 0.200;
    ledger_check(&ledger);
    free(all.client);
    free(all.idle);
}

/* All at once, for long. */

struct soak {
    struct front *front;
    ev_timer tick, fault, look;
    double fault_pause, began;
    unsigned short random[3];
    int faults, leases, cancels, samples;
    double first_mib, last_mib;
    double t, m, tt, tm; /* sums for the slope */
};

static double soak_mib(const struct ledger *ledger)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    /* What the book itself takes: an entry, what malloc() keeps of it, and its place. */
    double book = (double)ledger->asked * (double)(sizeof(struct ledger_entry) + 24);
    return ((double)pages * (double)sysconf(_SC_PAGESIZE) - book) / 1048576.;
}

static void on_soak_look(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct soak *soak = w->data;
    double t = (live_now() - soak->began) / 60., m = soak_mib(&soak->front->ledger);
    if (soak->samples++ == 0)
        soak->first_mib = m;
    soak->last_mib = m;
    soak->t += t;
    soak->m += m;
    soak->tt += t * t;
    soak->tm += t * m;
}

/* MiB a minute: least squares. */
static double soak_slope(const struct soak *soak)
{
    double n = soak->samples, below = n * soak->tt - soak->t * soak->t;
    return below > 0. ? (n * soak->tm - soak->t * soak->m) / below : 0.;
}

struct soak_lease {
    struct soak *soak;
    evpq_lease *lease;
};

static void on_soak_query(evpq_result *result, const evpq_error *err, void *user)
{
    struct ledger_entry *entry = user;
    ledger_on_result(result, err, entry);
    if (!err)
        entry->ledger->others[0]--;
}

static void on_soak_lease(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct ledger *ledger = user;
    ledger->others[-(int)evpq_error_code(err) & 15]++;
    if (err)
        return;
    struct ledger_entry *entry = ledger_enter(ledger, 1000, true);
    const evpq_query *query = EVPQ_QUERY("INSERT INTO effects VALUES ($1::int8) RETURNING nonce",
                                         EVPQ_PARAMS(evpq_int8(entry->nonce)), .timeout_ms = 1000);
    int code = evpq_lease_query(&entry->op, lease, query, on_soak_query, entry);
    if (code != EVPQ_OK) {
        /* Lost in this very turn. */
        ledger->asked--;
        free(entry);
    }
    /* Sometimes with the statement still running: it is cancelled. */
    evpq_lease_release(lease);
}

static void on_soak(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct soak *soak = w->data;
    struct ledger *ledger = &soak->front->ledger;
    struct ledger_entry *entry;
    switch ((int)(erand48(soak->random) * 4.)) {
    case 0:
        soak->leases +=
            evpq_pool_acquire(NULL, ledger->live.pool, EVPQ_ACQUIRE_OPTIONS(.timeout_ms = 1000),
                              on_soak_lease, ledger) == EVPQ_OK;
        break;
    case 1:
        entry = ledger_ask(ledger, LEDGER_SLEEP(.seconds = 0.01, .timeout_ms = 1000));
        if (entry && erand48(soak->random) < 0.3) {
            soak->cancels++;
            evpq_op_cancel(entry->op);
        }
        break;
    case 2:
        ledger_ask(ledger, LEDGER_SLEEP(.seconds = 5., .timeout_ms = 30));
        break;
    default:
        ledger_ask(ledger, LEDGER_REQUEST("SELECT $1::int8, repeat('x', 1000) FROM "
                                          "generate_series(1, 300)",
                                          .timeout_ms = 1000));
    }
}

static void on_soak_fault(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)events;
    struct soak *soak = w->data;
    struct front *front = soak->front;
    const struct proxy_rules slow = {.delay_ms = 40};
    proxy_heal(front->proxy);
    switch (soak->faults++ % 7) {
    case 0:
        fault_sql(front->server,
                  "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM "
                  "pg_stat_activity WHERE usename = 'evpq' ORDER BY random() "
                  "LIMIT 3) AS three");
        fault_forget_admins();
        break;
    case 1:
        proxy_kill(front->proxy, 0, true);
        break;
    case 2:
        proxy_door(front->proxy, PROXY_REFUSE);
        proxy_kill(front->proxy, 0, false);
        break;
    case 3:
        proxy_rules(front->proxy, PROXY_TO_CLIENT, &slow);
        break;
    case 4:
        proxy_door(front->proxy, PROXY_RESET);
        evpq_pool_expire(front->ledger.live.pool);
        break;
    case 5:
        fault_server_signal(front->server, "evpq evpq", SIGSTOP);
        break;
    default:
        fault_server_signal(front->server, "evpq evpq", SIGCONT);
        evpq_pool_expire(front->ledger.live.pool);
    }
    ev_timer_set(w, soak->fault_pause, 0.);
    ev_timer_start(loop, w);
}

static void a_mixed_load_with_faults_ends_as_it_began(void **state)
{
    (void)state;
    struct front front;
    struct soak soak = {.front = &front, .random = {1, 2, 3}};
    double seconds = fault_long() ? 600. : 10.;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = SIZE, .cancel_timeout_ms = 500), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    /* A reset by the proxy leaves the server with what it runs: statements of a few seconds. */
    front_allow(&front, 55);
    fault_server_set(front.server, "client_connection_check_interval", "100ms");
    soak.fault_pause = fault_long() ? 5. : 1.2;
    ev_timer_init(&soak.tick, on_soak, 0.01, 0.01);
    ev_timer_init(&soak.fault, on_soak_fault, 0.3, 0.);
    soak.tick.data = soak.fault.data = soak.look.data = &soak;
    ledger_load(ledger, usual_rate(200.), LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 1000));
    ev_timer_start(ledger->live.loop, &soak.tick);
    ev_timer_start(ledger->live.loop, &soak.fault);
    /* Until all has been seen once, memory grows by right. */
    ledger_run(ledger, seconds * 0.3);
    soak.began = live_now();
    ev_timer_init(&soak.look, on_soak_look, 0., 0.1);
    ev_timer_start(ledger->live.loop, &soak.look);
    ledger_run(ledger, seconds * 0.7);
    ev_timer_stop(ledger->live.loop, &soak.look);
    ev_timer_stop(ledger->live.loop, &soak.tick);
    ev_timer_stop(ledger->live.loop, &soak.fault);
    fault_server_signal(front.server, "evpq evpq", SIGCONT);
    double slope = soak_slope(&soak);
    double recovered = front_recovers(&front, 2.);
    ledger_figure(
        "soak of %.0f s with %d faults: %d requests, %d leases, %d cancels; memory "
        "%.1f to %.1f MiB, %+.2f MiB/min; all well %.2f s after the last fault",
        seconds, soak.faults, ledger->asked, soak.leases, soak.cancels, soak.first_mib,
        soak.last_mib, slope, recovered);
    assert_true(ledger->codes[0] > ledger->asked / 4);
    if (fault_long())
        assert_true(slope < 0.3);
    else if (live_slow() <= 1.)
        assert_true(soak.last_mib - soak.first_mib < 8.);
    /* Looking for processes, and the superuser's statement, are in the loop. */
    ledger->turn_cpu = 0.050;
    ledger->grown_mib += (double)ledger->asked * 250. / 1048576.;
    front_check(&front);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spike_meets_slow_dials_and_opens_few_connections),
        cmocka_unit_test(a_mixed_load_with_faults_ends_as_it_began),
        cmocka_unit_test(twice_the_capacity_refused_by_the_call),
        cmocka_unit_test(twice_the_capacity_shed),
        cmocka_unit_test(twice_the_capacity_timed_out),
        cmocka_unit_test(connections_of_a_second_are_replaced_unseen),
        cmocka_unit_test(a_thousand_clients_use_what_the_pool_has),
    };
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
