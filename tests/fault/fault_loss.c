/* SPDX-License-Identifier: MIT */
/*
 * C24, C25, C26: packets that are lost, on a cable of our own to a host of our
 * own, see netns.h. What the proxy cannot do: TCP itself is at a loss here.
 */
#include <stdio.h>
#include <string.h>

#include "support/front.h"

static struct netns *host_or_skip(void)
{
    const char *why;
    front_server();
    struct netns *host = netns_open(&why);
    if (!host) {
        print_message("no network of our own: %s\n", why);
        skip();
    }
    return host;
}

/* The server does not learn that a connection is gone while no packet gets through. */
enum { FORGOTTEN = 60 };

static bool none_is_left(struct live *live, void *arg)
{
    (void)arg;
    return live_stats(live).total == 0;
}

/* C24. Nobody asks for anything: TCP itself has to notice. */
static void pull_while_idle(const char *conninfo, double bound)
{
    struct netns *host = host_or_skip();
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4, .connect_timeout_ms = 500), conninfo, host);
    front_allow(&front, FORGOTTEN);
    front_fill(&front);
    netns_cable(host, 0);
    double pulled = live_now();
    ledger_until(&front.ledger, none_is_left, NULL, bound);
    double noticed = live_now() - pulled;
    netns_cable(host, 1);
    double last = front_recovers(&front, 2.);
    ledger_figure("cable pulled while idle: noticed after %.1f s (%s), recovered within %.2f s",
                  noticed, conninfo ? conninfo : "the defaults", last);
    front_check(&front);
    netns_close(host);
}

static void cable_pulled_while_idle(void **state)
{
    (void)state;
    /* With the user's timeout set, Linux does not look at keepalives_count. */
    pull_while_idle("keepalives_idle=1 keepalives_interval=1 tcp_user_timeout=2500", 10.);
    pull_while_idle("keepalives_idle=1 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=0",
                    10.);
}

static void cable_pulled_while_idle_with_the_defaults(void **state)
{
    (void)state;
    if (!fault_long()) {
        print_message("takes a minute: EVPQ_TEST_LONG=1\n");
        skip();
    }
    pull_while_idle(NULL, 70.);
}

/* C24. Statements wait for their answers, others for a connection. */
static void pull_while_waiting(double seconds)
{
    struct netns *host = host_or_skip();
    struct front front;
    front_open(
        &front,
        EVPQ_POOL_OPTIONS(.max_size = 4, .connect_timeout_ms = 500, .cancel_timeout_ms = 300), NULL,
        host);
    struct ledger *ledger = &front.ledger;
    front_allow(&front, FORGOTTEN);
    front_fill(&front);
    ledger_load(ledger, live_scaled(100), LEDGER_WRITE(.seconds = 0.02, .timeout_ms = 500));
    ledger_run(ledger, 0.5);
    netns_cable(host, 0);
    double pulled = live_now();
    ledger_run(ledger, seconds);
    netns_cable(host, 1);
    double over = live_now();
    /* The dial under way has lost its packets: it counts with its connect_timeout_ms. */
    double last = front_recovers(&front, 0.5 + 2.);
    ledger_figure(
        "cable pulled for %.0f s under load: %d timed out, %d no connection, %d lost; "
        "recovered within %.2f s",
        seconds, ledger_count(ledger, pulled, over, EVPQ_ETIMEOUT),
        ledger_count(ledger, pulled, over, EVPQ_ECONNECT),
        ledger_count(ledger, pulled, over, EVPQ_EDISCONNECTED), last);
    assert_true(ledger_count(ledger, pulled, over, EVPQ_ETIMEOUT) > 0);
    assert_true(ledger_dials_per_s(ledger, pulled, over) <= 10);
    front_check(&front);
    netns_close(host);
}

static void cable_pulled_while_waiting(void **state)
{
    (void)state;
    pull_while_waiting(5.);
}

static void cable_pulled_for_a_minute(void **state)
{
    (void)state;
    if (!fault_long()) {
        print_message("takes a minute: EVPQ_TEST_LONG=1\n");
        skip();
    }
    pull_while_waiting(60.);
}

/* C24. A statement is on its way, and larger than all buffers between. */
static void cable_pulled_while_sending(void **state)
{
    (void)state;
    static char sql[8000100];
    struct netns *host = host_or_skip();
    struct front front;
    front_open(
        &front,
        EVPQ_POOL_OPTIONS(.max_size = 2, .connect_timeout_ms = 500, .cancel_timeout_ms = 300), NULL,
        host);
    struct ledger *ledger = &front.ledger;
    front_allow(&front, FORGOTTEN);
    ledger->grown_mib += 64.;
    ledger->turn_cpu += 0.020; /* eight megabytes are copied */
    front_fill(&front);
    snprintf(sql, sizeof(sql), "SELECT $1::int8 /* %08000000d */", 0);
    /* It has begun, and is held up. */
    proxy_rules(front.proxy, PROXY_TO_SERVER, &(struct proxy_rules){.bytes_per_s = 2000000});
    struct ledger_entry *entry = ledger_ask(ledger, LEDGER_REQUEST(sql, .timeout_ms = 1500));
    ledger_run(ledger, 0.3);
    assert_true(proxy_bytes(front.proxy, 0, PROXY_TO_SERVER) > 10000);
    netns_cable(host, 0);
    ledger_drain(ledger);
    assert_int_equal(entry->code, EVPQ_ETIMEOUT);
    assert_int_equal(entry->fate, EVPQ_UNKNOWN);
    ledger_run(ledger, 0.7 * live_slow());
    netns_cable(host, 1);
    double last = front_recovers(&front, 2.);
    ledger_figure("cable pulled while sending: recovered within %.2f s", last);
    assert_int_equal(ledger_ask_and_wait(ledger, LEDGER_REQUEST(sql, .timeout_ms = 20000))->code,
                     EVPQ_OK);
    front_check(&front);
    netns_close(host);
}

/* The same with tcp_user_timeout: the loss is noticed before the deadline. */
static void a_user_timeout_of_tcp_is_heard_before_the_deadline(void **state)
{
    (void)state;
    struct netns *host = host_or_skip();
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 1, .connect_timeout_ms = 500),
               "tcp_user_timeout=1000", host);
    struct ledger *ledger = &front.ledger;
    front_allow(&front, FORGOTTEN);
    front_fill(&front);
    netns_cable(host, 0);
    struct ledger_entry *entry = ledger_ask_and_wait(ledger, LEDGER_WRITE(.timeout_ms = 10000));
    ledger_figure("tcp_user_timeout=1000: heard after %.2f s", entry->answered - entry->asked);
    assert_int_equal(entry->code, EVPQ_EDISCONNECTED);
    assert_int_equal(entry->fate, EVPQ_UNKNOWN);
    assert_true(entry->answered - entry->asked < 5. * live_slow());
    netns_cable(host, 1);
    front_recovers(&front, 2.);
    front_check(&front);
    netns_close(host);
}

/* How many of a hundred succeed. */
static int lose_a_fifth(struct netns *host)
{
    struct front front;
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 8, .connect_timeout_ms = 10000), NULL, host);
    struct ledger *ledger = &front.ledger;
    front_allow(&front, FORGOTTEN);
    front_fill(&front);
    netns_rules(host, "numgen random mod 100 < 20 drop", "numgen random mod 100 < 20 drop");
    double began = live_now();
    int first = ledger->asked;
    ledger_load(ledger, live_scaled(20), LEDGER_WRITE(.timeout_ms = 8000));
    ledger_run(ledger, 3.);
    proxy_kill(front.proxy, 0, true); /* to see logins through it as well */
    ledger_run(ledger, 3.);
    ledger_drain(ledger);
    double over = live_now(), slowest = 0.;
    int asked = ledger->asked - first, good = ledger_count(ledger, began, over, EVPQ_OK);
    for (int i = first; i < ledger->asked; i++) {
        double took = ledger->entries[i]->answered - ledger->entries[i]->asked;
        slowest = took > slowest ? took : slowest;
    }
    netns_rules(host, NULL, NULL);
    ledger_load(ledger, live_scaled(50), LEDGER_WRITE(.timeout_ms = 2000));
    double last = front_recovers(&front, 2.);
    ledger_figure(
        "20%% loss each way: %d of %d succeeded, the slowest in %.2f s; recovered within "
        "%.2f s",
        good, asked, slowest, last);
    assert_true(slowest > 0.15); /* something was lost, and sent again */
    front_check(&front);
    return good * 100 / asked;
}

/* TCP repairs what is lost: slower, and none the wiser. That all logins lose their first packets is
 * a chance that is left. */
static void a_fifth_of_all_packets_is_lost(void **state)
{
    (void)state;
    struct netns *host = host_or_skip();
    int good = 0;
    for (int try = 0; try < 3 && good < 90; try++)
        good = lose_a_fifth(host);
    assert_true(good >= 90);
    netns_close(host);
}

/* Packets of the server's port: lost, or answered with a reset. */
static void port_rule(struct netns *host, const struct front *front, const char *what)
{
    char in[100], out[100];
    snprintf(in, sizeof(in), "tcp dport %d %s", proxy_port(front->proxy), what);
    snprintf(out, sizeof(out), "tcp sport %d drop", proxy_port(front->proxy));
    netns_rules(host, in, strcmp(what, "drop") == 0 ? out : NULL);
}

/* C25, after PgBouncer's conntest: 12 s of losses, 12 s of peace, 3 s of resets, 6 s of peace. */
static void losses_and_resets_in_turn(void **state)
{
    (void)state;
    struct netns *host = host_or_skip();
    struct front front;
    double unit = fault_long() ? 1. : 0.25, rate = live_scaled(500);
    int rounds = fault_long() ? 3 : 1;
    front_open(
        &front,
        EVPQ_POOL_OPTIONS(.max_size = 10, .connect_timeout_ms = 1000, .cancel_timeout_ms = 500),
        NULL, host);
    struct ledger *ledger = &front.ledger;
    front_allow(&front, FORGOTTEN);
    front_fill(&front);
    ledger_load(ledger, rate, LEDGER_WRITE(.seconds = 0.002, .timeout_ms = 1000));
    double began = live_now(), worst = 0.;
    int dials = 0;
    for (int round = 0; round < rounds; round++) {
        for (int resets = 0; resets < 2; resets++) {
            double fault = live_now();
            port_rule(host, &front, resets ? "reject with tcp reset" : "drop");
            ledger_run(ledger, (resets ? 3. : 12.) * unit);
            int per_s = ledger_dials_per_s(ledger, fault + 0.2, live_now());
            dials = per_s > dials ? per_s : dials;
            netns_rules(host, NULL, NULL);
            double over = live_now();
            /* Long enough to recover in. */
            double peace = (resets ? 6. : 12.) * unit;
            ledger_run(ledger, peace > 4. ? peace : 4.);
            double last = ledger_last_failure(ledger) - over;
            worst = last > worst ? last : worst;
        }
    }
    ledger_drain(ledger);
    ledger_figure(
        "losses and resets in turn for %.0f s at %.0f/s: %d asked, %d ok, %d timed out, %d "
        "no connection, %d lost; %d dials/s at most; recovered within %.2f s",
        live_now() - began, rate, ledger->asked, ledger->codes[0], ledger->codes[-EVPQ_ETIMEOUT],
        ledger->codes[-EVPQ_ECONNECT], ledger->codes[-EVPQ_EDISCONNECTED], dials, worst);
    assert_true(dials <= 10);
    assert_true(worst <= (1. + 2.) * live_slow()); /* connect_timeout_ms, and then */
    front_check(&front);
    netns_close(host);
}

/* B20 with packets: the statement's own connection works, a new one gets no answer to its SYN. */
static void cancel_requests_whose_packets_are_lost(void **state)
{
    (void)state;
    struct netns *host = host_or_skip();
    struct front front;
    char in[100];
    front_open(&front, EVPQ_POOL_OPTIONS(.max_size = 4, .cancel_timeout_ms = 500), NULL, host);
    struct ledger *ledger = &front.ledger;
    front_allow(&front, FORGOTTEN);
    front_fill(&front);
    snprintf(in, sizeof(in), "tcp dport %d tcp flags syn drop", proxy_port(front.proxy));
    netns_rules(host, in, NULL);
    double asked = live_now();
    for (int i = 0; i < 4; i++)
        ledger_ask(ledger, LEDGER_SLEEP(.seconds = 0.6, .timeout_ms = 300));
    ledger_drain(ledger);
    assert_int_equal(ledger_count(ledger, asked, live_now(), EVPQ_ETIMEOUT), 4);
    ledger_run(ledger, 1.1 * live_slow());
    netns_rules(host, NULL, NULL);
    double last = front_recovers(&front, 2.);
    ledger_figure("cancels whose SYN is lost: served again %.2f s later", last);
    front_check(&front);
    netns_close(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cable_pulled_while_idle),
        cmocka_unit_test(cable_pulled_while_idle_with_the_defaults),
        cmocka_unit_test(cable_pulled_while_waiting),
        cmocka_unit_test(cable_pulled_for_a_minute),
        cmocka_unit_test(cable_pulled_while_sending),
        cmocka_unit_test(a_user_timeout_of_tcp_is_heard_before_the_deadline),
        cmocka_unit_test(a_fifth_of_all_packets_is_lost),
        cmocka_unit_test(losses_and_resets_in_turn),
        cmocka_unit_test(cancel_requests_whose_packets_are_lost),
    };
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
