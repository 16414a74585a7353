/* SPDX-License-Identifier: MIT */
/*
 * Stories on a real server, told again and again: the first allocation fails,
 * then the second, and so on, until the story passes unharmed. Whatever fails,
 * each accepted call calls back once and in time, with the right value or with
 * an error that tells the truth about its statement; nothing is left; and when
 * there is memory again, the pool works again.
 */
#include "support/server.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/live.h"
#include "support/torture.h"

enum way {
    ALONE,         /* the nth allocation fails */
    FROM_THERE_ON, /* all from the nth on fail, until the story is over */
    FOR_GOOD,      /* until the pool is closed, too */
};

/* Stories of the same batch wait for what comes after an outage together. */
enum { BATCH = 32, CALLS = 12 };

struct call {
    bool accepted;
    evpq_code expected; /* when nothing fails */
    int64_t nonce;      /* 0: it inserts none */
    bool in_transaction;
    const struct call *commit; /* of the transaction, if it was called */
    uint32_t rows;             /* of a stream */
    struct outcome outcome;
};

struct tale {
    struct live live; /* the loop is everybody's */
    struct call calls[CALLS];
    int count;
    evpq_pager *pager;
    int page_call;     /* which call waits for a page */
    int64_t rows_seen; /* of the pager */
    bool has_next;
    struct call *last;
    int closed;
    const char *what; /* for messages */
    long n;
};

struct story {
    const char *name;
    bool connected; /* it begins with an idle connection */
    bool redials;   /* most of it is a dial, which the first story tries at length */
    void (*tell)(struct tale *);
    evpq_pool_options options;
};

static struct fault_server *server;
static int64_t last_nonce;

/* A sweep goes on after what is wrong, and fails at its end. */
static int wrong;

static void complain(const struct tale *tale, const char *format, ...)
{
    char text[1500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (++wrong <= 20)
        print_error("%s, allocation %ld: %s\n", tale->what, tale->n, text);
}

#define CHECK(tale, condition)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            complain(tale, "not " #condition);                                                     \
    } while (0)

/* What happens, and what may */

static struct call *new_call(struct tale *tale, evpq_code expected)
{
    assert_true(tale->count < CALLS);
    struct call *call = &tale->calls[tale->count++];
    call->expected = expected;
    return call;
}

static void accept_call(struct tale *tale, struct call *call, int code)
{
    if (code != EVPQ_OK && code != EVPQ_ENOMEM)
        complain(tale, "refused with %s", evpq_code_name(code));
    call->accepted = code == EVPQ_OK;
    CHECK(tale, call->outcome.calls == 0);
}

static struct call *ask(struct tale *tale, evpq_op **op, evpq_code expected, const char *sql,
                        uint32_t timeout_ms)
{
    struct call *call = new_call(tale, expected);
    evpq_query query = {.size = sizeof(query), .sql = sql, .timeout_ms = timeout_ms};
    accept_call(tale, call,
                evpq_pool_query(op, tale->live.pool, &query, outcome_result, &call->outcome));
    return call;
}

/* Writes a number of its own down, and returns it with the name of where it was. */
static struct call *ask_insert(struct tale *tale, evpq_lease *lease)
{
    struct call *call = new_call(tale, EVPQ_OK);
    call->nonce = ++last_nonce;
    evpq_value nonce = evpq_int8(call->nonce);
    evpq_query query = {.size = sizeof(query),
                        .sql =
                            "INSERT INTO evpq_torture VALUES ($1) RETURNING nonce, "
                            "current_database() || ' ' || current_setting('application_name')",
                        .params = &nonce,
                        .params_count = 1,
                        .timeout_ms = 5000};
    accept_call(
        tale, call,
        lease ? evpq_lease_query(NULL, lease, &query, outcome_result, &call->outcome)
              : evpq_pool_query(NULL, tale->live.pool, &query, outcome_result, &call->outcome));
    return call;
}

static bool call_over(struct live *live, void *arg)
{
    struct call *call = arg;
    (void)live;
    return !call->accepted || call->outcome.calls > 0;
}

static bool all_over(struct live *live, void *arg)
{
    struct tale *tale = arg;
    for (int i = 0; i < tale->count; i++)
        if (!call_over(live, &tale->calls[i]))
            return false;
    return true;
}

static bool quiet(struct live *live, void *arg)
{
    evpq_pool_stats stats = live_stats(live);
    return all_over(live, arg) && stats.total == stats.idle;
}

struct within {
    ev_timer limit;
    ev_prepare look;
    struct live *live;
    bool (*condition)(struct live *, void *);
    void *arg;
};

static void on_limit(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)w;
    (void)events;
    ev_break(loop, EVBREAK_ONE);
}

static void on_look(struct ev_loop *loop, ev_prepare *w, int events)
{
    struct within *within = w->data;
    (void)events;
    if (within->condition(within->live, within->arg))
        ev_break(loop, EVBREAK_ONE);
}

/* As live_until(), but tells whether it came to it. */
static bool within(struct tale *tale, bool (*condition)(struct live *, void *), void *arg,
                   double seconds)
{
    struct within w = {.live = &tale->live, .condition = condition, .arg = arg};
    ev_timer_init(&w.limit, on_limit, seconds * live_slow(), 0.);
    ev_prepare_init(&w.look, on_look);
    ev_set_priority(&w.look, EV_MINPRI);
    w.look.data = &w;
    ev_now_update(tale->live.loop);
    ev_timer_start(tale->live.loop, &w.limit);
    ev_prepare_start(tale->live.loop, &w.look);
    ev_run(tale->live.loop, 0);
    ev_prepare_stop(tale->live.loop, &w.look);
    ev_timer_stop(tale->live.loop, &w.limit);
    return condition(&tale->live, arg);
}

static bool a_turn(struct live *live, void *arg)
{
    (void)live;
    (void)arg;
    return true;
}

/* The code of a call that is over, which is one that may be. */
static evpq_code code_of(struct tale *tale, const struct call *call)
{
    if (!call->accepted)
        return EVPQ_ENOMEM;
    const struct outcome *o = &call->outcome;
    CHECK(tale, o->calls == 1);
    if (o->code != call->expected && o->code != EVPQ_ENOMEM && o->code != EVPQ_ECONNECT &&
        o->code != EVPQ_EDISCONNECTED)
        complain(tale, "%s: %s", evpq_code_name(o->code), o->message);
    return o->code;
}

static evpq_code await(struct tale *tale, struct call *call)
{
    CHECK(tale, within(tale, call_over, call, 10.));
    return code_of(tale, call);
}

static void check_value(struct tale *tale, const struct call *call)
{
    const evpq_result *result = call->outcome.result;
    int64_t nonce = 0;
    evpq_text_view where = {0};
    CHECK(tale, evpq_result_rows(result) == 1);
    CHECK(tale, evpq_result_int8(result, 0, 0, &nonce) == EVPQ_OK);
    CHECK(tale, nonce == call->nonce);
    CHECK(tale, evpq_result_text(result, 0, 1, &where) == EVPQ_OK);
    if (strcmp(where.data, "evpq torture") != 0)
        complain(tale, "it ran in \"%s\"", where.data);
}

static long rows_of(int64_t nonce)
{
    char sql[100];
    snprintf(sql, sizeof(sql), "SELECT count(*) FROM evpq_torture WHERE nonce = %lld",
             (long long)nonce);
    return (long)fault_sql(server, sql);
}

/* The statement did what its error, or its success, says. */
static void check_truth(struct tale *tale, const struct call *call)
{
    if (!call->nonce)
        return;
    if (call->accepted && call->outcome.code == EVPQ_OK)
        check_value(tale, call);
    const struct call *decides = call->in_transaction ? call->commit : call;
    bool sent = decides && decides->accepted;
    bool done = sent && decides->outcome.code == EVPQ_OK;
    bool unknown = sent && !done && decides->outcome.fate == EVPQ_UNKNOWN;
    long found = rows_of(call->nonce);
    if (found < (done ? 1 : 0) || found > (done || unknown ? 1 : 0))
        complain(tale, "%s, fate %d, and %ld rows are there",
                 sent ? evpq_code_name(decides->outcome.code) : "never sent",
                 sent ? (int)decides->outcome.fate : 0, found);
}

/* The stories */

static void tell_connect(struct tale *tale)
{
    ask_insert(tale, NULL);
}

static void tell_query(struct tale *tale)
{
    ask_insert(tale, NULL);
    ask(tale, NULL, EVPQ_ESERVER, "SELECT 1 / 0", 5000);
    ask_insert(tale, NULL);
}

static void tell_cancel(struct tale *tale)
{
    evpq_op *op = NULL;
    struct call *call = ask(tale, &op, EVPQ_ECANCELED, "SELECT pg_sleep(0.5)", 5000);
    /* A turn of the loop: it is sent. */
    within(tale, a_turn, NULL, 1.);
    if (!call_over(&tale->live, call))
        evpq_op_cancel(op);
    ask_insert(tale, NULL);
}

static void tell_timeout(struct tale *tale)
{
    ask(tale, NULL, EVPQ_ETIMEOUT, "SELECT pg_sleep(0.5)", 10);
    ask(tale, NULL, EVPQ_ETIMEOUT, "SELECT pg_sleep(0.5)", 12);
    ask_insert(tale, NULL);
}

/* On a lease; true when it succeeded. */
static bool lease_says(struct tale *tale, evpq_lease *lease, const char *sql, struct call **out)
{
    struct call *call = new_call(tale, EVPQ_OK);
    int code = evpq_lease_query(NULL, lease, EVPQ_QUERY(sql, .timeout_ms = 5000), outcome_result,
                                &call->outcome);
    accept_call(tale, call, code);
    if (out)
        *out = call;
    return await(tale, call) == EVPQ_OK;
}

static bool lease_inserts(struct tale *tale, evpq_lease *lease, struct call **out)
{
    *out = ask_insert(tale, lease);
    (*out)->in_transaction = true;
    return await(tale, *out) == EVPQ_OK;
}

static struct call *acquire(struct tale *tale, const char *tag)
{
    struct call *call = new_call(tale, EVPQ_OK);
    accept_call(tale, call,
                evpq_pool_acquire(NULL, tale->live.pool,
                                  EVPQ_ACQUIRE_OPTIONS(.timeout_ms = 5000, .tag = tag),
                                  outcome_lease, &call->outcome));
    return call;
}

static void tell_lease(struct tale *tale)
{
    struct call *insert, *commit;
    struct call *first = acquire(tale, "torture");
    if (await(tale, first) != EVPQ_OK)
        return;
    evpq_lease *lease = first->outcome.lease;
    if (lease_says(tale, lease, "BEGIN", NULL) && lease_inserts(tale, lease, &insert)) {
        bool committed = lease_says(tale, lease, "COMMIT", &commit);
        insert->commit = commit;
        /* Given back with an open transaction: it is rolled back. */
        if (committed && lease_says(tale, lease, "BEGIN", NULL))
            lease_inserts(tale, lease, &insert);
    }
    evpq_lease_release(lease);
}

static void on_statement(uint32_t statement, evpq_result *result, const evpq_error *err, void *user)
{
    struct call *first = user;
    outcome_result(result, err, &first[statement].outcome);
}

enum { STATEMENTS = 3 };

static void on_batch_done(const evpq_error *err, void *user)
{
    struct call *done = (struct call *)user + STATEMENTS;
    done->outcome.calls++;
    done->outcome.code = evpq_error_code(err);
    done->outcome.fate = evpq_error_fate(err);
    snprintf(done->outcome.message, sizeof(done->outcome.message), "%s", evpq_error_message(err));
}

/* Each statement tells the truth of itself, whatever became of the others. */
static void batch(struct tale *tale, evpq_batch_mode mode)
{
    static const char insert[] =
        "INSERT INTO evpq_torture VALUES ($1) RETURNING nonce, "
        "current_database() || ' ' || current_setting('application_name')";
    struct call *first = &tale->calls[tale->count];
    evpq_value nonces[STATEMENTS];
    evpq_query queries[STATEMENTS];
    const evpq_query *pointers[STATEMENTS];
    for (int i = 0; i < STATEMENTS; i++) {
        nonces[i] = evpq_int8(new_call(tale, EVPQ_OK)->nonce = ++last_nonce);
        queries[i] = (evpq_query){
            .size = sizeof(evpq_query), .sql = insert, .params = &nonces[i], .params_count = 1};
        pointers[i] = &queries[i];
    }
    struct call *done = new_call(tale, EVPQ_OK);
    int code = evpq_pool_batch(
        NULL, tale->live.pool,
        EVPQ_BATCH(mode, .queries = pointers, .queries_count = STATEMENTS, .timeout_ms = 5000),
        on_statement, on_batch_done, first);
    for (struct call *call = first; call <= done; call++)
        accept_call(tale, call, code);
    await(tale, done);
}

static void on_chunk(evpq_stream *stream, evpq_result *chunk, void *user)
{
    (void)stream;
    ((struct call *)user)->rows += evpq_result_rows(chunk);
}

static void on_end(evpq_result *result, const evpq_error *err, void *user)
{
    struct call *call = user;
    assert_true(err || call->rows == 20);
    outcome_result(result, err, &call->outcome);
}

static void tell_batch(struct tale *tale)
{
    batch(tale, EVPQ_BATCH_TRANSACTION);
    struct call *call = new_call(tale, EVPQ_OK);
    accept_call(tale, call,
                evpq_pool_stream(NULL, tale->live.pool,
                                 EVPQ_QUERY("SELECT generate_series(1, 20)"), NULL, on_chunk,
                                 on_end, call));
    await(tale, call);
    batch(tale, EVPQ_BATCH_EACH);
}

static void tell_loss(struct tale *tale)
{
    ask(tale, NULL, EVPQ_EDISCONNECTED, "SELECT pg_terminate_backend(pg_backend_pid())", 5000);
    ask_insert(tale, NULL);
}

/* The rows of a walk come in their order, each once. */
static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    struct tale *tale = user;
    struct call *call = &tale->calls[tale->page_call];
    call->outcome.calls++;
    call->outcome.code = evpq_error_code(err);
    call->outcome.fate = evpq_error_fate(err);
    snprintf(call->outcome.message, sizeof(call->outcome.message), "%s", evpq_error_message(err));
    tale->has_next = page && evpq_page_has_next(page);
    for (uint32_t row = 0; row < evpq_page_rows(page); row++) {
        evpq_text_view id = {0};
        CHECK(tale, evpq_result_text(evpq_page_result(page), row, 0, &id) == EVPQ_OK);
        CHECK(tale, strtoll(id.data, NULL, 10) == ++tale->rows_seen);
    }
}

enum { WALK = 7 };

static evpq_code next_page(struct tale *tale)
{
    struct call *call = new_call(tale, EVPQ_OK);
    tale->page_call = tale->count - 1;
    accept_call(tale, call, evpq_pager_next(NULL, tale->pager, on_page, tale));
    return await(tale, call);
}

static int open_pager(struct tale *tale)
{
    return evpq_pager_open(&tale->pager, tale->live.pool,
                           EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM generate_series(1, 7) AS id",
                                              .assume_unique = true, .order_by = "id",
                                              .page_size = 3, .timeout_ms = 5000));
}

static void tell_page(struct tale *tale)
{
    int code = open_pager(tale);
    CHECK(tale, code == EVPQ_OK || code == EVPQ_ENOMEM);
    if (code != EVPQ_OK)
        return;
    if (next_page(tale) == EVPQ_OK)
        next_page(tale);
    /* There may be none, for lack of memory; what there is can be read. */
    const char *token = evpq_pager_token(tale->pager);
    CHECK(tale, !token || strlen(token) > 10);
    if (token)
        next_page(tale);
}

static void on_closed(void *user)
{
    ++*(int *)user;
}

static bool has_closed(struct live *live, void *arg)
{
    (void)live;
    return *(int *)arg > 0;
}

static void close_pool(struct tale *tale, evpq_close_mode mode, uint32_t timeout_ms)
{
    CHECK(tale,
          evpq_pool_close(tale->live.pool, mode, timeout_ms, on_closed, &tale->closed) == EVPQ_OK);
    CHECK(tale, within(tale, has_closed, &tale->closed, 10.));
    CHECK(tale, tale->closed == 1);
    tale->live.pool = NULL;
}

static void tell_close(struct tale *tale)
{
    struct call *first = acquire(tale, NULL);
    if (await(tale, first) != EVPQ_OK)
        return;
    evpq_lease *lease = first->outcome.lease;
    struct call *call = new_call(tale, EVPQ_ECLOSED);
    accept_call(tale, call,
                evpq_lease_query(NULL, lease, EVPQ_QUERY("SELECT pg_sleep(0.5)"), outcome_result,
                                 &call->outcome));
    ask(tale, NULL, EVPQ_ECLOSED, "SELECT 1", 5000);
    close_pool(tale, EVPQ_CLOSE_FINISH, 20);
    evpq_lease_release(lease);
}

static void ignore_event(const evpq_trace *event, void *user)
{
    *(uint64_t *)user += event->lost + 1;
}

/* What a pool can be asked for besides. */
static void tell_extras(struct tale *tale)
{
    char line[400];
    ask_insert(tale, NULL);
    ask(tale, NULL, EVPQ_ETIMEOUT, "SELECT pg_sleep(0.5)", 15);
    ask(tale, NULL, EVPQ_ETOOLARGE, "SELECT repeat('x', 100000)", 5000);
    CHECK(tale, within(tale, all_over, tale, 10.));
    CHECK(tale, evpq_pool_describe(tale->live.pool, line, sizeof(line)) > 0);
    CHECK(tale, evpq_pool_expire(tale->live.pool) == EVPQ_OK);
    ask_insert(tale, NULL);
}

static uint64_t traced;
static const struct story connect_story = {"connect", false, false, tell_connect, {0}};
static const struct story query_story = {"query", true, false, tell_query, {0}};
static const struct story page_story = {"page", true, false, tell_page, {0}};
static const struct story cancel_story = {"cancel", true, false, tell_cancel, {0}};
static const struct story timeout_story = {"timeout", true, false, tell_timeout, {0}};
static const struct story lease_story = {"lease", true, false, tell_lease, {0}};
static const struct story batch_story = {"batch", true, false, tell_batch, {0}};
static const struct story loss_story = {"loss", true, true, tell_loss, {0}};
static const struct story close_story = {"close", true, false, tell_close, {0}};
static const struct story extras_story = {"extras",
                                          true,
                                          true,
                                          tell_extras,
                                          {.server_timeout = EVPQ_ON,
                                           .max_result_bytes = 50000,
                                           .reset_session = true,
                                           .shed_target_ms = 100,
                                           .on_trace = ignore_event,
                                           .trace_user = &traced}};

/* Telling them */

static void begin(struct tale *tale, const struct story *story, struct ev_loop *loop, enum way way)
{
    evpq_pool_options options = story->options;
    options.size = sizeof(options);
    options.conninfo =
        fault_conninfo(server, "user=torture password=torture application_name=torture");
    options.max_size = 1;
    options.cancel_timeout_ms = 100;
    /* Or each of them waits for the end of the pause. */
    options.fail_fast = true;
    tale->live = (struct live){.loop = loop};
    if (story->connected) {
        assert_int_equal(evpq_pool_open(&tale->live.pool, loop, &options), EVPQ_OK);
        live_int8(&tale->live, EVPQ_QUERY("SELECT 1"));
    }
    if (tale->n == 0)
        torture_fail_at(0);
    else if (way == ALONE)
        torture_fail_at(tale->n);
    else
        torture_fail_from(tale->n);
    if (!story->connected) {
        int code = evpq_pool_open(&tale->live.pool, loop, &options);
        if (code != EVPQ_OK)
            tale->live.pool = NULL;
        if (code != EVPQ_OK && code != EVPQ_ENOMEM)
            complain(tale, "evpq_pool_open: %s", evpq_code_name(code));
    }
}

/* True when something has failed in it. */
static bool tell(struct tale *tale, const struct story *story, struct ev_loop *loop, enum way way)
{
    begin(tale, story, loop, way);
    if (tale->live.pool)
        story->tell(tale);
    if (!tale->live.pool)
        CHECK(tale, all_over(NULL, tale));
    else if (!within(tale, quiet, tale, 10.))
        complain(tale, "still something under way");
    bool failed = torture_failures() > 0;
    for (int i = 0; i < tale->count; i++) {
        evpq_code code = code_of(tale, &tale->calls[i]);
        CHECK(tale, failed || code == tale->calls[i].expected);
    }
    if (way == FOR_GOOD && tale->pager)
        evpq_pager_close(tale->pager);
    if (way == FOR_GOOD && tale->live.pool)
        close_pool(tale, EVPQ_CLOSE_CANCEL, 0);
    torture_heal();
    return failed;
}

/* With memory the pool is as good as new. */
static void recover(struct tale *tales, int count)
{
    for (int i = 0; i < count; i++)
        if (tales[i].live.pool)
            tales[i].last = ask_insert(&tales[i], NULL);
    for (int i = 0; i < count; i++) {
        struct tale *tale = &tales[i];
        if (!tale->live.pool)
            continue;
        if (await(tale, tale->last) != EVPQ_OK)
            complain(tale, "no recovery: %s", tale->last->outcome.message);
        if (!tale->pager)
            continue;
        /* The walk stands where it stood. */
        do {
            evpq_code code = next_page(tale);
            CHECK(tale, code == EVPQ_OK);
            tale->has_next = tale->has_next && code == EVPQ_OK;
        } while (tale->has_next);
        CHECK(tale, tale->rows_seen == WALK);
        evpq_pager_close(tale->pager);
    }
}

static void end(struct tale *tale)
{
    if (tale->live.pool)
        close_pool(tale, EVPQ_CLOSE_FINISH, 5000);
    /* Else it would come after we have gone. */
    assert_true(all_over(NULL, tale));
    for (int i = 0; i < tale->count; i++) {
        CHECK(tale, tale->calls[i].outcome.calls == (tale->calls[i].accepted ? 1 : 0));
        check_truth(tale, &tale->calls[i]);
        outcome_clear(&tale->calls[i].outcome);
    }
}

static int threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

struct left {
    long blocks;
    int descriptors, threads;
};

static struct left what_is_left(void)
{
    return (struct left){torture_blocks(), live_descriptors(), threads()};
}

/* A thread that was left to itself needs a moment to end. */
static void check_left(const struct tale *tale, struct left before)
{
    struct left now;
    double until = live_now() + 3. * live_slow();
    do {
        now = what_is_left();
        if (memcmp(&now, &before, sizeof(now)) == 0)
            return;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    } while (live_now() < until);
    complain(tale, "and after it: left are %ld blocks, %d descriptors, %d threads",
             now.blocks - before.blocks, now.descriptors - before.descriptors,
             now.threads - before.threads);
}

static void torture(enum torture_layer layer, const struct story *story, enum way way)
{
    static const char *const ways[] = {"alone", "from there on", "for good"};
    static struct tale tales[BATCH];
    char what[100];
    snprintf(what, sizeof(what), "%s, %s, %s", layer == TORTURE_EVPQ ? "evpq" : "libpq",
             story->name, ways[way]);
    int batch = layer == TORTURE_EVPQ ? 1 : BATCH;
    long step = layer == TORTURE_LIBPQ && story->redials && !fault_long() ? 5 : 1;
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    assert_non_null(loop);
    double start = live_now();
    /* The first is told unharmed, and what stays after it is libpq's and libev's for good. */
    long n = 0;
    for (bool more = true; more;) {
        struct left before = what_is_left();
        int count = 0;
        do {
            struct tale *tale = &tales[count++];
            *tale = (struct tale){.what = what, .n = n};
            more = tell(tale, story, loop, way) || n == 0;
            n += n > 0 ? step : 1;
        } while (tales[0].n > 0 && more && count < batch);
        recover(tales, count);
        for (int i = 0; i < count; i++)
            end(&tales[i]);
        if (tales[0].n > 0)
            check_left(&tales[0], before);
    }
    n -= step;
    print_message("%s: %s %ld allocations, %.2f s\n", what, step > 1 ? "every fifth of" : "each of",
                  n - 1, live_now() - start);
    assert_true(n > 4);
    ev_loop_destroy(loop);
}

static void torture_all_ways(enum torture_layer layer, const struct story *story)
{
    const char *reason = torture_unavailable(layer);
    if (reason) {
        print_message("skipped: %s\n", reason);
        skip();
    }
    server = fault_server();
    /* One iteration of SCRAM, or most of the time would be spent with it. The password: torture. */
    fault_sql(server, "SET client_min_messages = warning");
    fault_sql(server, "DROP TABLE IF EXISTS evpq_torture");
    fault_sql(server, "DROP ROLE IF EXISTS torture");
    fault_sql(server,
              "CREATE ROLE torture LOGIN PASSWORD "
              "'SCRAM-SHA-256$1:dG9ydHVyZS1zYWx0LTAxNg==$"
              "E4XE7JHpXc3R4s8XgCfMGGCtscMw06Y4fBbR1CZrDts=:"
              "0FjqvSR+jR6y2bdQmL6WzqdmysCLVGBOuqRdPavJITo='");
    fault_sql(server, "CREATE TABLE evpq_torture (nonce bigint)");
    fault_sql(server, "GRANT ALL ON evpq_torture TO torture");
    assert_true(torture_begin(layer));
    wrong = 0;
    for (enum way way = ALONE; way <= FOR_GOOD; way++)
        torture(layer, story, way);
    assert_int_equal(wrong, 0);
    assert_true(torture_end());
}

#define STORY(story, layer, name)                                                                  \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        torture_all_ways(layer, &story);                                                           \
    }
STORY(connect_story, TORTURE_EVPQ, case_38_connect_when_evpq_finds_no_memory)
STORY(connect_story, TORTURE_LIBPQ, case_38_connect_when_libpq_finds_no_memory)
STORY(query_story, TORTURE_EVPQ, case_38_query_when_evpq_finds_no_memory)
STORY(query_story, TORTURE_LIBPQ, case_38_query_when_libpq_finds_no_memory)
STORY(page_story, TORTURE_EVPQ, case_38_page_when_evpq_finds_no_memory)
STORY(page_story, TORTURE_LIBPQ, case_38_page_when_libpq_finds_no_memory)
STORY(cancel_story, TORTURE_EVPQ, case_38_cancel_when_evpq_finds_no_memory)
STORY(cancel_story, TORTURE_LIBPQ, case_38_cancel_when_libpq_finds_no_memory)
STORY(timeout_story, TORTURE_EVPQ, case_38_timeout_when_evpq_finds_no_memory)
STORY(timeout_story, TORTURE_LIBPQ, case_38_timeout_when_libpq_finds_no_memory)
STORY(lease_story, TORTURE_EVPQ, case_38_lease_when_evpq_finds_no_memory)
STORY(lease_story, TORTURE_LIBPQ, case_38_lease_when_libpq_finds_no_memory)
STORY(batch_story, TORTURE_EVPQ, case_38_batch_when_evpq_finds_no_memory)
STORY(batch_story, TORTURE_LIBPQ, case_38_batch_when_libpq_finds_no_memory)
STORY(loss_story, TORTURE_EVPQ, case_38_loss_when_evpq_finds_no_memory)
STORY(loss_story, TORTURE_LIBPQ, case_38_loss_when_libpq_finds_no_memory)
STORY(close_story, TORTURE_EVPQ, case_38_close_when_evpq_finds_no_memory)
STORY(close_story, TORTURE_LIBPQ, case_38_close_when_libpq_finds_no_memory)
STORY(extras_story, TORTURE_EVPQ, case_38_extras_when_evpq_finds_no_memory)
STORY(extras_story, TORTURE_LIBPQ, case_38_extras_when_libpq_finds_no_memory)

/* What the environment says instead is not asked. */
static int lead_astray(void **state)
{
    (void)state;
    setenv("PGDATABASE", "template1", 1);
    setenv("PGAPPNAME", "elsewhere", 1);
    return 0;
}

/* A test that failed leaves what it held; those after it can only say so. */
static int heal(void **state)
{
    (void)state;
    torture_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(case_38_connect_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_connect_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_query_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_query_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_page_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_page_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_cancel_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_cancel_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_timeout_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_timeout_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_lease_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_lease_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_batch_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_batch_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_loss_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_loss_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_close_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_close_when_libpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_extras_when_evpq_finds_no_memory, heal),
        cmocka_unit_test_teardown(case_38_extras_when_libpq_finds_no_memory, heal),
    };
    return cmocka_run_group_tests_name("memory", tests, lead_astray, NULL);
}
