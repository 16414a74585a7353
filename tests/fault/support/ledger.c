/* SPDX-License-Identifier: MIT */
#include "support/ledger.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ledger_figure(const char *format, ...)
{
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    print_message("# figure: %s\n", text);
}

void ledger_breach(struct ledger *ledger, const char *format, ...)
{
    int room = sizeof(ledger->breaches) / sizeof(ledger->breaches[0]);
    if (ledger->broken++ >= room)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(ledger->breaches[ledger->broken - 1], sizeof(ledger->breaches[0]), format, args);
    va_end(args);
}

static void look_for_secret(struct ledger *ledger, const char *where, const char *text)
{
    if (ledger->secret && text && strstr(text, ledger->secret))
        ledger_breach(ledger, "a secret in %s: %s", where, text);
}

static double resident_mib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / 1048576.;
}

/* Requests */

static struct ledger_entry *entry_new(struct ledger *ledger, uint32_t timeout_ms, bool writes)
{
    if (ledger->asked == ledger->room) {
        ledger->room = ledger->room ? 2 * ledger->room : 1024;
        ledger->entries = realloc(ledger->entries, (size_t)ledger->room * sizeof(*ledger->entries));
        assert_non_null(ledger->entries);
    }
    struct ledger_entry *entry = calloc(1, sizeof(*entry));
    assert_non_null(entry);
    double asked = live_now();
    *entry = (struct ledger_entry){.ledger = ledger,
                                   .nonce = ledger->first_nonce + ledger->asked,
                                   .asked = asked,
                                   .due = timeout_ms ? asked + timeout_ms / 1e3 : 0.,
                                   .writes = writes};
    ledger->entries[ledger->asked++] = entry;
    return entry;
}

struct ledger_entry *ledger_enter(struct ledger *ledger, uint32_t timeout_ms, bool writes)
{
    return entry_new(ledger, timeout_ms, writes);
}

void ledger_on_result(evpq_result *result, const evpq_error *err, void *user)
{
    struct ledger_entry *entry = user;
    struct ledger *ledger = entry->ledger;
    long long nonce = entry->nonce;
    if (++entry->calls != 1)
        ledger_breach(ledger, "request %lld was answered %d times", nonce, entry->calls);
    if (ledger->in_call)
        ledger_breach(ledger, "request %lld was answered inside a call", nonce);
    if (ledger->closed)
        ledger_breach(ledger, "request %lld was answered after the close", nonce);
    if (!result != (err != NULL))
        ledger_breach(ledger, "request %lld: both or neither of result and error", nonce);
    entry->op = NULL;
    entry->answered = live_now();
    entry->code = evpq_error_code(err);
    entry->fate = evpq_error_fate(err);
    entry->retry_safe = evpq_error_retry_safe(err);
    snprintf(entry->sqlstate, sizeof(entry->sqlstate), "%s", evpq_error_sqlstate(err));
    ledger->answered++;
    ledger->codes[-(int)entry->code & 15]++;
    if (err) {
        if (entry->fate < EVPQ_NOT_SENT || entry->fate > EVPQ_UNKNOWN)
            ledger_breach(ledger, "request %lld failed without a fate", nonce);
        snprintf(ledger->texts[-(int)entry->code & 15], sizeof(ledger->texts[0]), "%s",
                 evpq_error_message(err));
        look_for_secret(ledger, "a message", evpq_error_message(err));
        look_for_secret(ledger, "a detail", evpq_error_detail(err));
        look_for_secret(ledger, "a hint", evpq_error_hint(err));
        return;
    }
    int64_t value = 0;
    evpq_text_view text;
    if (evpq_result_format(result) == EVPQ_TEXT) {
        if (evpq_result_text(result, 0, 0, &text) == EVPQ_OK)
            value = strtoll(text.data, NULL, 10);
    } else if (evpq_result_int8(result, 0, 0, &value) != EVPQ_OK) {
        value = 0;
    }
    if (value != entry->nonce)
        ledger_breach(ledger, "request %lld got the answer of %lld", nonce, (long long)value);
}

struct ledger_entry *ledger_ask(struct ledger *ledger, const struct ledger_request *request)
{
    struct ledger_entry *entry = entry_new(ledger, request->timeout_ms, request->writes);
    evpq_query query = {
        .size = sizeof(query),
        .sql = request->sql,
        .params = (const evpq_value[]){evpq_int8(entry->nonce), evpq_float8(request->seconds)},
        .params_count = strstr(request->sql, "$2") ? 2 : 1,
        .timeout_ms = request->timeout_ms,
        .format = request->format,
        .server_timeout = request->server_timeout,
        .max_result_bytes = request->max_result_bytes};
    ledger->in_call = true;
    int code = evpq_pool_query(&entry->op, ledger->live.pool, &query, ledger_on_result, entry);
    ledger->in_call = false;
    if (code == EVPQ_OK)
        return entry;
    if (entry->calls)
        ledger_breach(ledger, "a refused request was answered");
    if (code == EVPQ_EOVERLOADED)
        ledger->refused++;
    else
        ledger_breach(ledger, "a request was refused: %s", evpq_code_name(code));
    ledger->asked--;
    free(entry);
    return NULL;
}

static bool is_answered(struct live *live, void *arg)
{
    (void)live;
    return ((struct ledger_entry *)arg)->calls > 0;
}

struct ledger_entry *ledger_ask_and_wait(struct ledger *ledger,
                                         const struct ledger_request *request)
{
    struct ledger_entry *entry = ledger_ask(ledger, request);
    assert_non_null(entry);
    ledger_until(ledger, is_answered, entry, 60.);
    return entry;
}

/* The load, and what is looked at every few milliseconds */

static void note_dials(struct ledger *ledger, uint64_t count)
{
    int used = ledger->dials.used;
    if (used && ledger->dials.count[used - 1] == count)
        return;
    if (used == ledger->dials.room) {
        int room = used ? 2 * used : 256;
        ledger->dials.at = realloc(ledger->dials.at, (size_t)room * sizeof(double));
        ledger->dials.count = realloc(ledger->dials.count, (size_t)room * sizeof(uint64_t));
        assert_true(ledger->dials.at && ledger->dials.count);
        ledger->dials.room = room;
    }
    ledger->dials.at[used] = live_now();
    ledger->dials.count[used] = count;
    ledger->dials.used++;
}

static void look_at_stats(struct ledger *ledger)
{
    evpq_pool_stats stats = {.size = sizeof(stats)};
    if (evpq_pool_stats_get(ledger->live.pool, &stats) != EVPQ_OK) {
        ledger_breach(ledger, "no stats");
        return;
    }
    ledger->stats = stats;
    if (stats.total != stats.idle + stats.busy + stats.cleaning + stats.dialing)
        ledger_breach(ledger, "stats: %u connections are %u idle, %u busy, %u cleaning, %u dialing",
                      stats.total, stats.idle, stats.busy, stats.cleaning, stats.dialing);
    if (stats.total > ledger->max_size)
        ledger_breach(ledger, "stats: %u connections of %u", stats.total, ledger->max_size);
    if (stats.total > ledger->most_total)
        ledger->most_total = stats.total;
    if (stats.waiting > ledger->most_waiting)
        ledger->most_waiting = stats.waiting;
    note_dials(ledger, stats.dialed + stats.dial_failures);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
    struct ledger *ledger = w->data;
    (void)loop;
    (void)events;
    if (!ledger->live.pool)
        return;
    look_at_stats(ledger);
    if (ledger->load.per_s <= 0.)
        return;
    int64_t wanted = (int64_t)((live_now() - ledger->load.began) * ledger->load.per_s);
    if (ledger->load.limit && wanted > ledger->load.limit)
        wanted = ledger->load.limit;
    /* After a pause not all at once: so much in one turn would be our own doing. */
    for (int i = 0; ledger->load.made < wanted && i < 50; i++, ledger->load.made++)
        ledger_ask(ledger, &ledger->load.request);
}

void ledger_load(struct ledger *ledger, double per_s, const struct ledger_request *request)
{
    ledger->load.per_s = per_s;
    ledger->load.began = live_now();
    ledger->load.made = ledger->load.limit = 0;
    if (request)
        ledger->load.request = *request;
}

static bool never(struct live *live, void *arg)
{
    (void)live;
    return live_now() >= *(double *)arg;
}

void ledger_until(struct ledger *ledger, bool (*condition)(struct live *, void *), void *arg,
                  double seconds)
{
    /* What the test did between two runs is no turn of the loop. */
    watchdog_forget(&ledger->dog);
    live_until(&ledger->live, condition, arg, seconds);
}

void ledger_run(struct ledger *ledger, double seconds)
{
    double end = live_now() + seconds;
    ledger_until(ledger, never, &end, seconds + 30.);
}

static bool all_made(struct live *live, void *arg)
{
    (void)live;
    const struct ledger *ledger = arg;
    return ledger->load.made >= ledger->load.limit;
}

void ledger_run_load(struct ledger *ledger, int requests)
{
    ledger->load.limit = requests;
    ledger_until(ledger, all_made, ledger, requests / ledger->load.per_s + 60.);
    ledger_load(ledger, 0., NULL);
}

static bool all_answered(struct live *live, void *arg)
{
    (void)live;
    const struct ledger *ledger = arg;
    return ledger->answered >= ledger->asked;
}

void ledger_drain(struct ledger *ledger)
{
    ledger_load(ledger, 0., NULL);
    ledger_until(ledger, all_answered, ledger, 60.);
}

/* Opening and the end */

void ledger_open(struct ledger *ledger, struct fault_server *server,
                 const evpq_pool_options *options)
{
    static int number;
    /* Of the whole program: an answer of an earlier case is no answer either. */
    static int64_t next_nonce = 1;
    *ledger = (struct ledger){.server = server, .grace = 0.050, .turn_cpu = 0.010, .turn = 0.250};
    ledger->grown_mib = 48.;
    ledger->first_nonce = next_nonce;
    next_nonce += 1000000;
    ledger->secret = server ? server->password : NULL;
    ledger->max_size = options->max_size ? options->max_size : 10;
    snprintf(ledger->application, sizeof(ledger->application), "case-%d", ++number);
    evpq_pool_options o = *options;
    char sql[200], conninfo[600];
    snprintf(sql, sizeof(sql),
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = '%s'",
             ledger->application);
    if (server && fault_server_accepts(server))
        /* A standby cannot, and will have been asked to write nothing. */
        fault_sql_try(server, "TRUNCATE effects", NULL);
    if (!o.conninfo && server)
        o.conninfo = fault_conninfo(server, NULL);
    if (o.conninfo && !strstr(o.conninfo, "://")) {
        snprintf(conninfo, sizeof(conninfo), "%s application_name=%s", o.conninfo,
                 ledger->application);
        o.conninfo = conninfo;
    }
    fault_forget_admins();
    ledger->descriptors = live_descriptors();
    ledger->rss = resident_mib();
    live_open(&ledger->live, &o);
    if (server)
        ledger->sampler = fault_every(server, sql, 0.02);
    watchdog_start(&ledger->dog, ledger->live.loop);
    ev_timer_init(&ledger->tick, on_tick, 0., watchdog_tick);
    ledger->tick.data = ledger;
    ev_timer_start(ledger->live.loop, &ledger->tick);
    look_at_stats(ledger);
}

static void check_answers(struct ledger *ledger)
{
    double excuse = 2. * ledger->dog.starved;
    int late = 0;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        if (entry->calls != 1)
            ledger_breach(ledger, "request %lld was answered %d times", (long long)entry->nonce,
                          entry->calls);
        if (entry->due > 0. && entry->answered - entry->due > ledger->latest)
            ledger->latest = entry->answered - entry->due;
        if (entry->due > 0. && entry->answered - entry->due > ledger->grace * live_slow() + excuse)
            late++;
    }
    if (late)
        ledger_breach(ledger, "%d answers were late, by %.1f ms (the loop was starved for %.1f ms)",
                      late, ledger->latest * 1e3, ledger->dog.starved * 1e3);
}

static void check_stats(struct ledger *ledger)
{
    const evpq_pool_stats *s = &ledger->stats;
    int codes[16];
    for (int i = 0; i < 16; i++)
        codes[i] = ledger->codes[i] + ledger->others[i];
    const struct {
        const char *name;
        uint64_t is, ought;
    } sums[] = {
        {"waiting", s->waiting, 0},
        {"timeouts", s->timeouts, (uint64_t)codes[-EVPQ_ETIMEOUT]},
        {"canceled", s->canceled, (uint64_t)codes[-EVPQ_ECANCELED]},
        {"overloaded and shed", s->overloaded + s->shed,
         (uint64_t)(ledger->refused + codes[-EVPQ_EOVERLOADED])},
        {"too_large", s->too_large, (uint64_t)codes[-EVPQ_ETOOLARGE]},
    };
    for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++)
        if (sums[i].is != sums[i].ought)
            ledger_breach(ledger, "stats: %s is %llu, and was seen %llu times", sums[i].name,
                          (unsigned long long)sums[i].is, (unsigned long long)sums[i].ought);
    if (s->acquired < (uint64_t)codes[0])
        ledger_breach(ledger, "stats: acquired is less than what succeeded");
    if (s->total > s->dialed + s->dialing)
        ledger_breach(ledger, "stats: more connections than were ever made");
}

static void count_effect(int64_t nonce, void *arg)
{
    struct ledger *ledger = arg;
    int64_t index = nonce - ledger->first_nonce;
    if (index < 0 || index >= ledger->asked) {
        ledger_breach(ledger, "request %lld of another case has written", (long long)nonce);
        return;
    }
    ledger->effects[index]++;
}

/* What was written tells whether the fates were true. */
static void check_effects(struct ledger *ledger)
{
    bool writes = false;
    for (int i = 0; i < ledger->asked; i++)
        writes = writes || ledger->entries[i]->writes;
    if (!writes)
        return;
    ledger->effects = calloc((size_t)ledger->asked, sizeof(*ledger->effects));
    assert_non_null(ledger->effects);
    fault_sql_each(ledger->server, "SELECT nonce FROM effects", count_effect, ledger);
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        int least = entry->writes && entry->code == EVPQ_OK;
        int most = entry->writes && (entry->code == EVPQ_OK || entry->fate == EVPQ_UNKNOWN);
        if (ledger->effects[i] < least || ledger->effects[i] > most)
            ledger_breach(ledger, "request %lld (%s, fate %d, SQLSTATE %s) was run %d times",
                          (long long)entry->nonce, evpq_code_name(entry->code), (int)entry->fate,
                          entry->sqlstate, ledger->effects[i]);
    }
    free(ledger->effects);
}

void ledger_end_sampling(struct ledger *ledger)
{
    if (!ledger->sampler)
        return;
    struct fault_tally seen = fault_every_end(ledger->sampler);
    ledger->sampler = NULL;
    if (seen.most > ledger->server_most)
        ledger->server_most = (int)seen.most;
}

/* The server may need a moment to see that a connection is gone. */
static void check_server(struct ledger *ledger)
{
    ledger_end_sampling(ledger);
    if (ledger->server_most > (int)ledger->max_size + ledger->server_extra)
        ledger_breach(ledger, "the server saw %d connections of %u", ledger->server_most,
                      ledger->max_size);
    if (!ledger->server->postmaster || !fault_server_accepts(ledger->server))
        return;
    int left = 1;
    for (double end = live_now() + 5. * live_slow(); left && live_now() < end; usleep(5000))
        left = fault_connections(ledger->server, ledger->application);
    if (left)
        ledger_breach(ledger, "the server still has %d connections", left);
    check_effects(ledger);
}

static void check_machine(struct ledger *ledger)
{
    const struct watchdog *dog = &ledger->dog;
    if (watchdog_burnt(dog) > ledger->turn_cpu * live_slow())
        ledger_breach(ledger, "turns of the loop took %.1f and %.1f ms of CPU",
                      dog->longest_cpu * 1e3, dog->second_cpu * 1e3);
    if (dog->longest > ledger->turn * live_slow() + dog->starved)
        ledger_breach(ledger, "a turn of the loop took %.1f ms", dog->longest * 1e3);
    fault_forget_admins();
    /* A cancel request that gets no answer (libpq before 17) keeps its socket for a while. */
    for (double end = live_now() + 10.; live_now() < end; usleep(10000))
        if (live_descriptors() <= ledger->descriptors)
            break;
    if (live_descriptors() > ledger->descriptors)
        ledger_breach(ledger, "%d descriptors, %d at first", live_descriptors(),
                      ledger->descriptors);
    /* Sanitizers and valgrind keep what is freed. */
    double grown = resident_mib() - ledger->rss;
    if (live_slow() <= 1. && grown > ledger->grown_mib)
        ledger_breach(ledger, "memory has grown by %.1f MiB", grown);
}

void ledger_show(const struct ledger *ledger)
{
    print_message("  %d asked, %d refused:", ledger->asked + ledger->refused, ledger->refused);
    for (int i = 0; i < 16; i++)
        if (ledger->codes[i])
            print_message(" %d %s", ledger->codes[i], evpq_code_name(-i));
    print_message(
        "; %llu dials, %d connections at most; latest answer %+.1f ms, longest turn %.1f "
        "ms CPU, %.1f ms\n",
        (unsigned long long)(ledger->stats.dialed + ledger->stats.dial_failures),
        ledger->server_most, ledger->latest * 1e3, ledger->dog.longest_cpu * 1e3,
        ledger->dog.longest * 1e3);
    for (int i = 0; i < 16; i++)
        if (ledger->texts[i][0])
            print_message("  the last %s: %s\n", evpq_code_name(-i), ledger->texts[i]);
}

void ledger_check(struct ledger *ledger)
{
    struct live *live = &ledger->live;
    if (live->pool) {
        ledger_drain(ledger);
        look_at_stats(ledger);
        check_stats(ledger);
    }
    ev_timer_stop(live->loop, &ledger->tick);
    watchdog_stop(&ledger->dog, live->loop);
    live_close(live);
    ledger->closed = true;
    check_answers(ledger);
    if (ledger->server)
        check_server(ledger);
    check_machine(ledger);
    ledger_show(ledger);
    int broken = ledger->broken, shown = sizeof(ledger->breaches) / sizeof(ledger->breaches[0]);
    for (int i = 0; i < broken && i < shown; i++)
        print_message("  broken: %s\n", ledger->breaches[i]);
    for (int i = 0; i < ledger->asked; i++)
        free(ledger->entries[i]);
    free(ledger->entries);
    free(ledger->dials.at);
    free(ledger->dials.count);
    ledger->entries = NULL;
    assert_int_equal(broken, 0);
}

/* Figures */

int ledger_count(const struct ledger *ledger, double from, double to, evpq_code code)
{
    int count = 0;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        count += entry->calls && entry->code == code && entry->asked >= from && entry->asked < to;
    }
    return count;
}

int ledger_goodput(const struct ledger *ledger, double from, double to)
{
    int count = 0;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        count += entry->calls && entry->code == EVPQ_OK && entry->answered >= from &&
                 entry->answered < to;
    }
    return count;
}

double ledger_last_failure(const struct ledger *ledger)
{
    double last = 0.;
    for (int i = 0; i < ledger->asked; i++) {
        const struct ledger_entry *entry = ledger->entries[i];
        if (entry->calls && entry->code != EVPQ_OK && entry->answered > last)
            last = entry->answered;
    }
    return last;
}

/* The number of dials that had ended at that time. */
static uint64_t dials_at(const struct ledger *ledger, double at)
{
    uint64_t count = 0;
    for (int i = 0; i < ledger->dials.used && ledger->dials.at[i] < at; i++)
        count = ledger->dials.count[i];
    return count;
}

int ledger_dials(const struct ledger *ledger, double from, double to)
{
    return (int)(dials_at(ledger, to) - dials_at(ledger, from));
}

int ledger_dials_per_s(const struct ledger *ledger, double from, double to)
{
    int most = 0;
    for (int i = 0; i < ledger->dials.used; i++) {
        double at = ledger->dials.at[i];
        int count =
            at >= from && at < to ? ledger_dials(ledger, at, at + 1. < to ? at + 1. : to) : 0;
        most = count > most ? count : most;
    }
    return most;
}
