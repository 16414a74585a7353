/* SPDX-License-Identifier: MIT */
/* Section C of the catalogue, and B20: what a proxy can do to connections. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/front.h"

static const char *const door_names[] = {"open", "refuse", "deaf", "reset", "close", "hold"};

static bool none_is_cleaned(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).cleaning == 0;
}

/* B20. The statements run for longer than anybody waits, and their cancels get nowhere. */
static void cancel_requests_get_nowhere(enum proxy_door door)
{
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4, .cancel_timeout_ms = 500), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    /* Who is not cancelled goes on in the server, whoever waits. */
    front_allow(&front, 3 * front.max_size);
    front_fill(&front);
    proxy_door(front.proxy, door);
    double asked = live_now();
    for (int i = 0; i < 4; i++)
        ledger_ask(ledger, LEDGER_SLEEP(.seconds = 2., .timeout_ms = 300));
    ledger_drain(ledger);
    assert_int_equal(ledger_count(ledger, asked, live_now(), EVPQ_ETIMEOUT), 4);
    for (int i = ledger->asked - 4; i < ledger->asked; i++)
        assert_int_equal(ledger->entries[i]->fate, EVPQ_UNKNOWN);
    unsigned threads = front_threads();
    /* The slots are free again when the bounds on cleaning and on closing have passed. */
    ledger_until(ledger, none_is_cleaned, NULL, 1.2);
    double free_again = live_now() - asked - 0.3;
    double last = front_recovers(&front, 1.);
    ledger_figure(
        "cancels that meet \"%s\": slots free %.2f s after the deadline, served again "
        "%.2f s later, %d more threads",
        door_names[door], free_again, last, (int)threads - (int)front.threads);
    /* What was held is let go. */
    proxy_kill(front.proxy, 0, true);
    front_check(&front);
}

static void cancel_requests_that_are_refused(void **state)
{
    (void)state;
    cancel_requests_get_nowhere(PROXY_REFUSE);
}

static void cancel_requests_that_are_reset(void **state)
{
    (void)state;
    cancel_requests_get_nowhere(PROXY_RESET);
}

static void cancel_requests_that_are_accepted_and_closed(void **state)
{
    (void)state;
    cancel_requests_get_nowhere(PROXY_CLOSE);
}

static void cancel_requests_that_are_accepted_and_held(void **state)
{
    (void)state;
    cancel_requests_get_nowhere(PROXY_HOLD);
}

static void cancel_requests_that_get_no_answer(void **state)
{
    (void)state;
    cancel_requests_get_nowhere(PROXY_DEAF);
}

/* Calls into libpq that nobody waits for any more must not pile up for ever. */
static void many_cancel_requests_without_an_answer(void **state)
{
    (void)state;
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 8, .cancel_timeout_ms = 200), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    unsigned most = 0;
    front_allow(&front, 60);
    for (int i = 0; i < live_scaled(5); i++) {
        proxy_door(front.proxy, PROXY_OPEN);
        front_fill(&front);
        proxy_door(front.proxy, PROXY_DEAF);
        for (uint32_t n = 0; n < front.max_size; n++)
            ledger_ask(ledger, LEDGER_SLEEP(.seconds = 0.5, .timeout_ms = 100));
        ledger_run(ledger, 0.5);
        unsigned threads = front_threads();
        most = threads > most ? threads : most;
    }
    ledger_figure("%llu cancels without an answer: %d more threads at most",
                  (unsigned long long)ledger->stats.cancels, (int)most - (int)front.threads);
    front_recovers(&front, 1.);
    front_check(&front);
}

/* C26, established: in use and idle. */
static void connections_are_reset_under_load(void **state)
{
    (void)state;
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 8), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    front_fill(&front);
    ledger_load(ledger, live_scaled(200), LEDGER_WRITE(.seconds = 0.01, .timeout_ms = 5000));
    for (int i = 0; i < 5; i++) {
        ledger_run(ledger, 0.5);
        proxy_kill(front.proxy, 0, i % 2 == 0);
    }
    double last = front_recovers(&front, 1.);
    int failed = ledger->asked - ledger->codes[0];
    ledger_figure(
        "5 resets of all of 8 connections under load: %d of %d failed, the last %.2f s "
        "after the last reset",
        failed, ledger->asked, last);
    /* Only what was on its way: the others wait for new connections. */
    assert_int_equal(failed, ledger->codes[-EVPQ_EDISCONNECTED]);
    assert_true(failed <= 5 * 8);
    front_check(&front);
}

static void idle_connections_that_are_reset_harm_nobody(void **state)
{
    (void)state;
    struct front front;
    for (int reset = 0; reset < 2; reset++) {
        front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4), NULL, NULL);
        front_fill(&front);
        proxy_kill(front.proxy, 0, reset);
        ledger_run(&front.ledger, 0.1 * live_slow());
        for (int i = 0; i < 20; i++)
            ledger_ask_and_wait(&front.ledger, LEDGER_WRITE(.timeout_ms = 2000));
        assert_int_equal(front.ledger.codes[0], front.ledger.asked);
        front_check(&front);
    }
}

/* C26 on SYN, and the other doors: nobody gets in for a while. */
static void nobody_gets_in(enum proxy_door door)
{
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 8, .connect_timeout_ms = 500), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    front_fill(&front);
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 600));
    ledger_run(ledger, 0.5);
    double began = live_now();
    proxy_door(front.proxy, door);
    proxy_kill(front.proxy, 0, true);
    ledger_run(ledger, 3.);
    double over = live_now();
    /* The dial under way, if its server was silent, and then 2 s. */
    double last = front_recovers(&front, 0.5 + 2.);
    int per_s = ledger_dials_per_s(ledger, began, over);
    ledger_figure(
        "nobody gets in (\"%s\") for 3 s: %d dials/s at most, %d waited in vain, "
        "recovered within %.2f s",
        door_names[door], per_s, ledger_count(ledger, began, over, EVPQ_ECONNECT), last);
    assert_true(per_s <= 10);
    /* Once a dial has failed there is one answer: no connection could be made. */
    assert_int_equal(ledger_count(ledger, began + 0.6, over - 0.7, EVPQ_ETIMEOUT), 0);
    assert_int_equal(ledger_count(ledger, began + 0.6, over - 0.7, EVPQ_OK), 0);
    front_check(&front);
}

static void dials_that_are_refused(void **state)
{
    (void)state;
    nobody_gets_in(PROXY_REFUSE);
}

static void dials_that_are_reset(void **state)
{
    (void)state;
    nobody_gets_in(PROXY_RESET);
}

static void dials_that_are_accepted_and_closed(void **state)
{
    (void)state;
    nobody_gets_in(PROXY_CLOSE);
}

static void dials_that_are_accepted_and_held(void **state)
{
    (void)state;
    nobody_gets_in(PROXY_HOLD);
}

static void dials_that_get_no_answer(void **state)
{
    (void)state;
    nobody_gets_in(PROXY_DEAF);
}

/* C30 */
static void one_way_is_lost(enum proxy_way way)
{
    struct front front;
    front_open(
        &front,
        EVPQ_POOL_OPTIONS(.max_size = 4, .connect_timeout_ms = 400, .cancel_timeout_ms = 300), NULL,
        NULL);
    struct ledger *ledger = &front.ledger;
    /* The server does not hear of a close, or cannot be heard to have ended: it may count more. */
    front_allow(&front, 60);
    front_fill(&front);
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.seconds = 0.005, .timeout_ms = 500));
    ledger_run(ledger, 0.5);
    double began = live_now();
    proxy_rules(front.proxy, way, &(struct proxy_rules){.swallow = true});
    ledger_run(ledger, 2.);
    double over = live_now();
    double last = front_recovers(&front, 0.4 + 2.);
    ledger_figure(
        "half-open, bytes to the %s lost for 2 s: %d timed out, %d no connection; "
        "recovered within %.2f s",
        way == PROXY_TO_SERVER ? "server" : "client",
        ledger_count(ledger, began, over, EVPQ_ETIMEOUT),
        ledger_count(ledger, began, over, EVPQ_ECONNECT), last);
    assert_true(ledger_count(ledger, began, over, EVPQ_ETIMEOUT) > 0);
    front_check(&front);
}

static void half_open_towards_the_server(void **state)
{
    (void)state;
    one_way_is_lost(PROXY_TO_SERVER);
}

static void half_open_towards_the_client(void **state)
{
    (void)state;
    one_way_is_lost(PROXY_TO_CLIENT);
}

/* C31: each byte comes in time, and all together do not. */
static void a_login_that_trickles_ends_at_the_connect_timeout(void **state)
{
    (void)state;
    struct front front;
    front_open(&front,
               EVPQ_POOL_OPTIONS(.max_size = 2, .connect_timeout_ms = 500, .fail_fast = true), NULL,
               NULL);
    struct ledger *ledger = &front.ledger;
    proxy_rules(front.proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.bytes_per_s = 50});
    struct ledger_entry *entry = ledger_ask_and_wait(ledger, LEDGER_ECHO(.timeout_ms = 5000));
    double took = entry->answered - entry->asked;
    uint64_t came = proxy_bytes(front.proxy, 1, PROXY_TO_CLIENT);
    ledger_figure("a login at 50 bytes/s is given up after %.3f s", took);
    assert_int_equal(entry->code, EVPQ_ECONNECT);
    assert_int_equal(entry->fate, EVPQ_NOT_SENT);
    assert_true(came > 0); /* it did trickle */
    assert_true(took > 0.49 && took < 0.5 + 0.25 * live_slow());
    front_recovers(&front, 1.);
    front_check(&front);
}

static void a_row_that_trickles_ends_at_the_deadline(void **state)
{
    (void)state;
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 2, .cancel_timeout_ms = 300), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    front_fill(&front);
    proxy_rules(front.proxy, PROXY_TO_CLIENT, &(struct proxy_rules){.bytes_per_s = 500});
    struct ledger_entry *entry = ledger_ask_and_wait(
        ledger, LEDGER_REQUEST("SELECT $1::int8, repeat('x', 20000)", .timeout_ms = 700));
    assert_int_equal(entry->code, EVPQ_ETIMEOUT);
    assert_int_equal(entry->fate, EVPQ_UNKNOWN);
    front_recovers(&front, 1.);
    front_check(&front);
}

/* C35, both ways: 8000 bytes/s are 64 kbit. */
static void a_megabyte_through_a_thin_pipe(enum proxy_way way)
{
    static char sql[1100000];
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 3, .cancel_timeout_ms = 300), NULL, NULL);
    struct ledger *ledger = &front.ledger;
    /* What is still in the pipe keeps the server from seeing that it was closed. */
    front_allow(&front, 4 * front.max_size);
    front_fill(&front);
    snprintf(sql, sizeof(sql), "SELECT $1::int8, repeat('x', 1000000)");
    if (way == PROXY_TO_SERVER)
        snprintf(sql, sizeof(sql), "SELECT $1::int8 /* %01000000d */", 0);
    proxy_rules(front.proxy, way, &(struct proxy_rules){.bytes_per_s = 8000});
    double asked = live_now();
    for (int i = 0; i < 3; i++)
        ledger_ask(ledger, LEDGER_REQUEST(sql, .timeout_ms = 1000));
    ledger_drain(ledger);
    assert_int_equal(ledger_count(ledger, asked, live_now(), EVPQ_ETIMEOUT), 3);
    ledger_run(ledger, 0.5);
    front_recovers(&front, 1.);
    /* And without the bottleneck it is a statement like any other. */
    assert_int_equal(ledger_ask_and_wait(ledger, LEDGER_REQUEST(sql, .timeout_ms = 20000))->code,
                     EVPQ_OK);
    ledger->grown_mib += 16.;
    front_check(&front);
}

static void a_megabyte_of_rows_through_a_thin_pipe(void **state)
{
    (void)state;
    a_megabyte_through_a_thin_pipe(PROXY_TO_CLIENT);
}

static void a_megabyte_of_statement_through_a_thin_pipe(void **state)
{
    (void)state;
    a_megabyte_through_a_thin_pipe(PROXY_TO_SERVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancel_requests_that_are_refused),
        cmocka_unit_test(cancel_requests_that_are_reset),
        cmocka_unit_test(cancel_requests_that_are_accepted_and_closed),
        cmocka_unit_test(cancel_requests_that_are_accepted_and_held),
        cmocka_unit_test(cancel_requests_that_get_no_answer),
        cmocka_unit_test(many_cancel_requests_without_an_answer),
        cmocka_unit_test(connections_are_reset_under_load),
        cmocka_unit_test(idle_connections_that_are_reset_harm_nobody),
        cmocka_unit_test(dials_that_are_refused),
        cmocka_unit_test(dials_that_are_reset),
        cmocka_unit_test(dials_that_are_accepted_and_closed),
        cmocka_unit_test(dials_that_are_accepted_and_held),
        cmocka_unit_test(dials_that_get_no_answer),
        cmocka_unit_test(half_open_towards_the_server),
        cmocka_unit_test(half_open_towards_the_client),
        cmocka_unit_test(a_login_that_trickles_ends_at_the_connect_timeout),
        cmocka_unit_test(a_row_that_trickles_ends_at_the_deadline),
        cmocka_unit_test(a_megabyte_of_rows_through_a_thin_pipe),
        cmocka_unit_test(a_megabyte_of_statement_through_a_thin_pipe),
    };
    return cmocka_run_group_tests_name("network", tests, NULL, NULL);
}
