/* SPDX-License-Identifier: MIT */
#include "support/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk walk;

/* Numbers: splitmix64 (Steele, Lea, Flood, 2014). */

static uint64_t mix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned roll(struct step *step, unsigned below)
{
    return (unsigned)(mix(&step->random) >> 33) % below;
}

struct step step_of(uint64_t seed, int number)
{
    static const int often[] = {
#define KIND_OFTEN(name, often) often,
        KINDS(KIND_OFTEN)
#undef KIND_OFTEN
    };
    int sum = 0;
    struct step step = {.random = seed * 1000003u + (uint64_t)number};
    for (int i = 0; i < KIND_COUNT; i++)
        sum += often[i];
    int at = (int)roll(&step, (unsigned)sum);
    while ((at -= often[step.kind]) >= 0)
        step.kind++;
    step.inside = roll(&step, 3) == 0;
    step.pause_us = roll(&step, 1600);
    return step;
}

uint64_t digest_of(uint64_t digest, const struct step *step)
{
    return (digest ^ step->random ^ (uint64_t)step->kind) * 0x100000001b3u;
}

void walk_inside(void)
{
    if (!walk.next.inside || walk.done == walk.steps)
        return;
    walk.inside++;
    ev_timer_stop(walk.ledger->live.loop, &walk.timer);
    walk_step();
}

void look_for_secret(const char *text)
{
    if (strstr(text, walk.front.server->password))
        ledger_breach(walk.ledger, "a secret in a message: %s", text);
}

/* Statements */

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    ledger_on_result(result, err, user);
    walk_inside();
}

static void on_lease_result(evpq_result *result, const evpq_error *err, void *user)
{
    /* The pool counts a connection as acquired once for the whole lease. */
    if (!err)
        walk.ledger->others[0]--;
    on_result(result, err, user);
}

/* Of a statement that brings no number back. */
static void on_command(evpq_result *result, const evpq_error *err, void *user)
{
    struct ledger_entry *entry = user;
    if (err) {
        on_result(result, err, user);
        return;
    }
    entry->op = NULL;
    entry->calls++;
    entry->answered = live_now();
    walk.ledger->answered++;
    walk.ledger->codes[0]++;
    walk_inside();
}

static void on_lease_command(evpq_result *result, const evpq_error *err, void *user)
{
    if (!err)
        walk.ledger->others[0]--;
    on_command(result, err, user);
}

static const struct ledger_request *some_request(struct step *step, bool leased)
{
    static struct ledger_request request;
    static const char *const odd[] = {
        "SELECT $1::int8 / 0",
        "SELEC $1::int8",
        "INSERT INTO nowhere VALUES ($1::int8)",
        "SELECT $1::int8 FROM pg_terminate_backend(pg_backend_pid())",
        "SELECT $1::int8 FROM pg_cancel_backend(pg_backend_pid()), pg_sleep(0.01)",
        "SELECT $1::int8 FROM set_config('client_encoding', 'SJIS', false)",
        "SELECT $1::int8 FROM set_config('DateStyle', 'German', false)",
        "SELECT $1::int8 FROM set_config('search_path', 'nowhere', false)",
        "SELECT $1::int8 FROM set_config('default_transaction_read_only', 'on', false)",
        "SELECT $1::int8 FROM set_config('statement_timeout', '20', false)",
        "SELECT $1::int8 FROM pg_try_advisory_lock(1)",
    };
    request = *LEDGER_ECHO();
    switch (roll(step, 10)) {
    case 0:
    case 1:
        request = *LEDGER_WRITE();
        break;
    case 2:
        request = *LEDGER_WRITE(.seconds = roll(step, 20) / 1e3);
        break;
    case 3:
        request = *LEDGER_SLEEP(.seconds = roll(step, 150) / 1e3);
        break;
    case 4:
        request.sql = odd[roll(step, sizeof(odd) / sizeof(odd[0]))];
        break;
    case 5:
        request = *LEDGER_REQUEST(
            "WITH new AS (INSERT INTO effects VALUES ($1::int8) RETURNING "
            "nonce) SELECT nonce / 0 FROM new",
            .writes = true);
        break;
    case 6:
        if (roll(step, 4) == 0) {
            request.sql = "SELECT $1::int8, repeat('x', 1000) FROM generate_series(1, 2000)";
            request.max_result_bytes = roll(step, 2) ? 1 << 20 : 0;
        }
        break;
    }
    /* In a lease it may be in a transaction that is rolled back. */
    if (leased && request.writes)
        request = *LEDGER_ECHO();
    static const uint32_t timeouts[] = {0, 0, 1500, 1500, 300, 20, 5, 1};
    request.timeout_ms = timeouts[roll(step, 8)];
    request.server_timeout = (evpq_switch)roll(step, 3);
    request.format = roll(step, 4) ? EVPQ_BINARY : EVPQ_TEXT;
    return &request;
}

/* On the pool, or in a lease. */
void walk_ask(struct step *step, evpq_lease *lease)
{
    const struct ledger_request *request = some_request(step, lease != NULL);
    struct ledger *ledger = walk.ledger;
    struct ledger_entry *entry = ledger_enter(ledger, request->timeout_ms, request->writes);
    static const char *const commands[] = {
        "BEGIN",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "COMMIT",
        "ROLLBACK",
        "LISTEN walk",
        "NOTIFY walk",
        "CREATE TEMP TABLE walk ()",
        "SET work_mem = '1MB'",
        "COPY effects TO STDOUT",
        "COPY effects FROM STDIN",
        "DISCARD ALL",
        "PREPARE walk AS SELECT 1",
        "DECLARE walk CURSOR WITH HOLD FOR SELECT 1",
        "DO $$ BEGIN FOR i IN 1..100 LOOP RAISE NOTICE 'walk'; END LOOP; END $$",
        "",
        ";",
        "SELECT 1; SELECT 2",
        "VACUUM effects",
    };
    bool command = step->kind == KIND_ask_command || (lease && roll(step, 2));
    evpq_query query = {
        .size = sizeof(query),
        .sql =
            command ? commands[roll(step, sizeof(commands) / sizeof(commands[0]))] : request->sql,
        .params = (const evpq_value[]){evpq_int8(entry->nonce), evpq_float8(request->seconds)},
        .params_count = command                      ? 0
                        : strstr(request->sql, "$2") ? 2
                                                     : 1,
        .timeout_ms = request->timeout_ms,
        .format = request->format,
        .server_timeout = request->server_timeout,
        .max_result_bytes = request->max_result_bytes};
    entry->writes = request->writes && !command;
    ledger->in_call = true;
    int code;
    if (lease)
        code = evpq_lease_query(&entry->op, lease, &query,
                                command ? on_lease_command : on_lease_result, entry);
    else
        code = evpq_pool_query(&entry->op, ledger->live.pool, &query,
                               command ? on_command : on_result, entry);
    ledger->in_call = false;
    if (code == EVPQ_OK) {
        walk.recent[walk.recent_count++ % RECENT] = entry;
        return;
    }
    if (entry->calls)
        ledger_breach(ledger, "a refused request was answered");
    bool usual =
        code == EVPQ_EOVERLOADED || (lease && (code == EVPQ_ECLOSED || code == EVPQ_EDISCONNECTED));
    if (!usual && !(code == EVPQ_EINVALID && !query.sql[0]))
        ledger_breach(ledger, "%s was refused: %s", query.sql, evpq_code_name(code));
    ledger->refused += code == EVPQ_EOVERLOADED && !lease;
    ledger->asked--;
    free(entry);
}

/* Leases */

static void on_acquired(evpq_lease *lease, const evpq_error *err, void *user)
{
    struct asked_lease *asked = user;
    double late = live_now() - asked->due;
    if (++asked->calls != 1 || !lease != (err != NULL))
        ledger_breach(walk.ledger, "an acquire was answered %d times", asked->calls);
    if (late > walk.ledger->grace * live_slow() + 2. * walk.ledger->dog.starved)
        ledger_breach(walk.ledger, "an acquire was answered %.1f ms late", late * 1e3);
    asked->op = NULL;
    walk.acquires_open--;
    walk.ledger->others[-(int)evpq_error_code(err) & 15]++;
    if (err)
        look_for_secret(evpq_error_message(err));
    for (int i = 0; lease && i < LEASES; i++)
        if (!walk.leases[i]) {
            walk.leases[i] = lease;
            lease = NULL;
        }
    evpq_lease_release(lease);
    walk_inside();
}

void walk_acquire(struct step *step)
{
    struct asked_lease *asked = &walk.acquires[walk.acquires_made];
    uint32_t timeout_ms = 1 + roll(step, 500);
    *asked = (struct asked_lease){.due = live_now() + timeout_ms / 1e3};
    int code = evpq_pool_acquire(&asked->op, walk.ledger->live.pool,
                                 EVPQ_ACQUIRE_OPTIONS(.timeout_ms = timeout_ms, .tag = "walk"),
                                 on_acquired, asked);
    if (code == EVPQ_OK) {
        walk.acquires_made++;
        walk.acquires_open++;
    } else if (code == EVPQ_EOVERLOADED) {
        walk.ledger->refused++;
    } else {
        ledger_breach(walk.ledger, "an acquire was refused: %s", evpq_code_name(code));
    }
}

void walk_release(int i)
{
    evpq_lease *lease = walk.leases[i];
    walk.leases[i] = NULL;
    evpq_lease_release(lease);
}

/* Pages: whatever happens, the next row is the next row. */

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct walker *walker = user;
    int64_t id = 0;
    walker->op = NULL;
    walk.pages_open--;
    walk.ledger->others[-(int)evpq_error_code(err) & 15]++;
    if (err) {
        look_for_secret(evpq_error_message(err));
        walk_inside();
        return;
    }
    walk.pages++;
    for (uint32_t row = 0; row < evpq_page_rows(page); row++)
        if (evpq_result_int8(evpq_page_result(page), row, 0, &id) != EVPQ_OK ||
            id != ++walker->last)
            ledger_breach(walk.ledger, "a page has row %lld, not %lld", (long long)id,
                          (long long)walker->last);
    const char *token = evpq_page_token(page);
    snprintf(walker->token, sizeof(walker->token), "%s", token ? token : "");
    if (evpq_page_has_next(page) != (walker->last < PAGE_ROWS_ALL))
        ledger_breach(walk.ledger, "behind row %lld the walk ends or not", (long long)walker->last);
    if (walker->last == PAGE_ROWS_ALL) {
        evpq_pager_close(walker->pager);
        *walker = (struct walker){0};
    }
    walk_inside();
}

void walk_page(struct step *step)
{
    struct walker *walker = &walk.walkers[roll(step, PAGERS)];
    const evpq_pager_options *options =
        EVPQ_PAGER_OPTIONS(.sql = "SELECT i::int8 AS id FROM generate_series(1, 500) AS i",
                           .assume_unique = true, .order_by = "id", .page_size = 5 + roll(step, 60),
                           .timeout_ms = 5 + roll(step, 1000), .format = EVPQ_BINARY,
                           .after = walker->token[0] ? walker->token : NULL);
    /* The last page of a pager that was closed has not come yet. */
    if (!walker->pager && walker->op)
        return;
    if (!walker->pager && walk.ledger->live.pool)
        assert_int_equal(evpq_pager_open(&walker->pager, walk.ledger->live.pool, options), EVPQ_OK);
    if (!walker->pager)
        return;
    bool busy = walker->op != NULL;
    int code = evpq_pager_next(busy ? NULL : &walker->op, walker->pager, on_page, walker);
    if (code == EVPQ_OK && !busy) {
        walk.pages_made++;
        walk.pages_open++;
    } else if (code == EVPQ_EOVERLOADED)
        walk.ledger->refused++;
    else if (code == EVPQ_ECLOSED && !busy) {
        evpq_pager_close(walker->pager);
        walker->pager = NULL;
    } else if (code != EVPQ_EINVALID || !busy)
        ledger_breach(walk.ledger, "a page was refused: %s", evpq_code_name(code));
}

void walk_page_close(struct walker *walker)
{
    evpq_pager_close(walker->pager);
    walker->pager = NULL;
}
