/* SPDX-License-Identifier: MIT */
#include "support/front.h"

#include <dirent.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

enum {
    PORT = 5432, /* on a host of its own */
};

unsigned front_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    return count;
}

/* Valgrind takes longer to log in than the cases let it. */
struct fault_server *front_server(void)
{
    struct fault_server *server = fault_server();
    static double least = 1e9;
    for (int i = 0; i < 3 && least > 0.1; i++) {
        double start = live_now();
        PGconn *conn = PQconnectdb(fault_conninfo(server, "application_name=admin"));
        assert_int_equal(PQstatus(conn), CONNECTION_OK);
        double took = live_now() - start;
        least = took < least ? took : least;
        PQfinish(conn);
    }
    if (least > 0.1) {
        print_message("a login takes %.0f ms here: too slow for deadlines of half a second\n",
                      least * 1e3);
        skip();
    }
    return server;
}

void front_open_direct(struct front *front, const evpq_pool_options *options, const char *conninfo)
{
    /* As the ledger counts its cases: that is how it finds their connections. */
    static int number;
    char application[32], more[500];
    snprintf(application, sizeof(application), "case-%d", ++number);
    snprintf(more, sizeof(more), "application_name=%s %s", application, conninfo);
    evpq_pool_options o = *options;
    o.conninfo = fault_conninfo(front->server, more);
    front->max_size = o.max_size ? o.max_size : 10;
    front->threads = front_threads();
    ledger_open(&front->ledger, front->server, &o);
    assert_string_equal(front->ledger.application, application);
}

void front_open(struct front *front, const evpq_pool_options *options, const char *more,
                struct netns *host)
{
    char conninfo[400];
    *front = (struct front){.server = front_server()};
    front->proxy = host ? proxy_start_on(netns_bind(host, PORT), "127.0.0.1", front->server->port)
                        : proxy_start("127.0.0.1", front->server->port);
    snprintf(conninfo, sizeof(conninfo), "host=%s port=%d sslmode=disable %s",
             host ? netns_address(host) : "127.0.0.1", proxy_port(front->proxy), more ? more : "");
    front_open_direct(front, options, conninfo);
}

void front_allow(struct front *front, uint32_t connections)
{
    front->ledger.max_size = connections;
}

/* The ledger counts descriptors when the pool is closed: those of the proxy, and of calls into
 * libpq that nobody waits for, are closed a bit later. */
static void on_fence(struct ev_loop *loop, ev_timer *w, int events)
{
    struct front *front = w->data;
    (void)events;
    unsigned others = 2; /* the pool's helper, and who counts connections */
    bool alone = (!front->proxy || proxy_open(front->proxy) == 0) &&
                 front_threads() <= front->threads + others;
    if (alone || live_now() > front->fence_end)
        ev_timer_stop(loop, w);
}

void front_check(struct front *front)
{
    struct ledger *ledger = &front->ledger;
    if (front->proxy)
        proxy_heal(front->proxy);
    ledger_drain(ledger);
    if (front->proxy && ledger->max_size > front->max_size)
        proxy_kill(front->proxy, 0, true);
    if (ledger->most_total > front->max_size)
        ledger_breach(ledger, "the pool had %u connections of %u", ledger->most_total,
                      front->max_size);
    ev_timer_init(&front->fence, on_fence, 0., 0.005);
    front->fence.data = front;
    front->fence_end = live_now() + 20. * live_slow();
    ev_timer_start(ledger->live.loop, &front->fence);
    ledger_check(ledger);
    if (front->proxy)
        proxy_stop(front->proxy);
}

static bool is_calm(struct live *live, void *arg)
{
    (void)arg;
    evpq_pool_stats stats = live_stats(live);
    return stats.idle == stats.total;
}

void front_fill(struct front *front)
{
    struct ledger *ledger = &front->ledger;
    /* Each for longer than it takes to dial, however slow that is here. */
    for (double seconds = 0.2; live_stats(&ledger->live).idle < front->max_size; seconds *= 2.) {
        assert_true(seconds < 10.);
        for (uint32_t i = 0; i < front->max_size; i++)
            ledger_ask(ledger, LEDGER_SLEEP(.seconds = seconds, .timeout_ms = 40000));
        ledger_drain(ledger);
        ledger_until(ledger, is_calm, NULL, 10.);
    }
}

/* As much as is asked succeeds, for a while now. */
static bool all_is_well(struct live *live, void *arg)
{
    (void)live;
    const struct ledger *ledger = arg;
    double now = live_now(), since = now - 0.4;
    int good = 0;
    for (int i = ledger->asked - 1; i >= 0; i--) {
        const struct ledger_entry *entry = ledger->entries[i];
        if (entry->calls && entry->answered >= since) {
            if (entry->code != EVPQ_OK)
                return false;
            good++;
        } else if (now - entry->asked > 20.) {
            break;
        }
    }
    return good >= 0.7 * 0.4 * ledger->load.per_s;
}

double front_recovers(struct front *front, double within)
{
    struct ledger *ledger = &front->ledger;
    double over = live_now();
    if (front->proxy)
        proxy_heal(front->proxy);
    if (ledger->load.per_s <= 0.)
        ledger_load(ledger, 50., LEDGER_WRITE(.timeout_ms = 2000));
    ledger_run(ledger, 0.4);
    ledger_until(ledger, all_is_well, ledger, within + 20.);
    ledger_drain(ledger);
    double last = ledger_last_failure(ledger) - over;
    if (last > within * live_slow())
        ledger_breach(ledger, "a request that was asked %.2f s after the fault failed", last);
    return last > 0. ? last : 0.;
}
