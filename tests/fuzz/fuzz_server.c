/* SPDX-License-Identifier: MIT */

/*
 * A server that says anything. A pool with the real libpq asks for queries,
 * pages and a lease; the bytes of the fuzzer are the options of the pool, and
 * then what its server does. Whatever that is: each operation calls back once
 * and by its deadline, the server never sees more than max_size sessions, the
 * pool works again as soon as the server does, and nothing is left of it.
 *
 * Loop, helper and memory are those of the unit tests: one thread, and a clock
 * that is moved by hand. So the same bytes do the same, a timeout takes no
 * time, and a loop that turns for nothing is found.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <evpq/evpq.h>
#include <libpq-fe.h>
#include <stdlib.h>

#include "fuzz.h"
#include "readers.h"
#include "results.h"
#include "server.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "turns.h"

enum {
    TIMEOUT_MS = 1000,
    CANCEL_TIMEOUT_MS = 300,
    OPERATIONS = 16,
    PAGES = 3,
};

/* The first three bytes. */
struct plan {
    unsigned char pool, fails, rest;
};
enum { /* of `pool` */
       POOL_RAW = 1,
       POOL_TWO = 2,
       POOL_SERVER_TIMEOUT = 4,
       POOL_RESET = 8,
       POOL_FAIL_FAST = 16,
       POOL_SMALL_RESULTS = 32,
       POOL_DEAF_SERVER = 64,
       POOL_CLOSE_CANCEL = 128,
};
enum { /* of `rest`, behind the cancel policy */
       REST_KEEP_LEASE = 4,
       REST_TEXT = 8,
       REST_READ_WRITE = 16,
       REST_BYTEWISE = 32,
       REST_RELEASE_EARLY = 64,
       REST_CALLS_HANG = 128,
};

struct operation {
    evpq_op *handle;
    bool accepted, over;
    int64_t deadline_us;
    evpq_code code;
};

static struct plan plan;
static evpq_pool *pool;
static evpq_pager *pager;
static evpq_lease *lease;
static evpq_result *kept;
static struct operation operations[OPERATIONS];
static int begun, pages, closed;
static bool submitting, leaving;

int PQcancel(PGcancel *cancel, char *error, int size)
{
    (void)cancel, (void)error, (void)size;
    return 1; /* a server may ignore it */
}

/* libpq asks for what the server announces: not being able to have it is part of the story. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=64";
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const variables[] = {"PGHOSTADDR",   "PGPORT",        "PGPASSWORD",
                                            "PGPASSFILE",   "PGSERVICE",     "PGOPTIONS",
                                            "PGSSLMODE",    "PGREQUIREAUTH", "PGSERVICEFILE",
                                            "PGGSSENCMODE", "PGREQUIREPEER", "PGREQUIRESSL"};
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", "/nonexistent", 1);
    setenv("CMOCKA_TEST_ABORT", "1", 1); /* what the fakes find ends the program */
    server_listen();
    return 0;
}

/* ---- operations ---- */

static struct operation *begin(uint32_t timeout_ms)
{
    if (begun == OPERATIONS)
        return NULL;
    struct operation *operation = &operations[begun++];
    *operation = (struct operation){.deadline_us = fake_now_us() + (int64_t)timeout_ms * 1000};
    submitting = true;
    return operation;
}

static bool accepted(struct operation *operation, int code)
{
    submitting = false;
    CHECK(code <= 0);
    CHECK(code == EVPQ_OK || code == EVPQ_ENOMEM || code == EVPQ_EOVERLOADED ||
          code == EVPQ_EDISCONNECTED || code == EVPQ_ECLOSED);
    operation->accepted = code == EVPQ_OK;
    return operation->accepted;
}

static void check_error(const evpq_error *err)
{
    const char *message = evpq_error_message(err), *sqlstate = evpq_error_sqlstate(err);
    evpq_fate fate = evpq_error_fate(err);
    size_t length = strlen(message);
    CHECK(evpq_error_code(err) < EVPQ_OK);
    CHECK(length > 0 && message[length - 1] != '\n');
    CHECK(fate == EVPQ_NOT_SENT || fate == EVPQ_ROLLED_BACK || fate == EVPQ_UNKNOWN);
    CHECK(strlen(sqlstate) == 0 || strlen(sqlstate) == 5);
    CHECK(!evpq_error_retry_safe(err) || fate != EVPQ_UNKNOWN);
    CHECK(evpq_error_detail(err) && evpq_error_hint(err) && evpq_error_severity(err) &&
          evpq_error_constraint(err));
    (void)evpq_error_position(err);
}

static void over(struct operation *operation, const void *good, const evpq_error *err)
{
    CHECK(!submitting && operation->accepted && !operation->over);
    CHECK(!good == (err != NULL));
    CHECK(fake_now_us() <= operation->deadline_us);
    operation->over = true;
    operation->handle = NULL;
    operation->code = evpq_error_code(err);
    if (err)
        check_error(err);
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "%8.3f s: operation %d: %s%s%s\n", (double)fake_now_us() / 1e6 - 1000.,
                (int)(operation - operations), evpq_code_name(operation->code), err ? ": " : "",
                err ? evpq_error_message(err) : "");
}

static void on_result(evpq_result *result, const evpq_error *err, void *user)
{
    over(user, result, err);
    if (result)
        readers_check(result);
    if (result && !kept)
        kept = evpq_result_keep(result);
}

static void release_lease(void)
{
    evpq_lease *its = lease;
    lease = NULL;
    evpq_lease_release(its);
}

static void on_last_of_lease(evpq_result *result, const evpq_error *err, void *user)
{
    on_result(result, err, user);
    if (!(plan.rest & REST_KEEP_LEASE))
        release_lease();
}

static bool ask_lease(const char *sql, evpq_result_fn *callback)
{
    struct operation *operation = begin(TIMEOUT_MS);
    return operation &&
           accepted(operation, evpq_lease_query(&operation->handle, lease,
                                                EVPQ_QUERY(sql, .timeout_ms = TIMEOUT_MS), callback,
                                                operation));
}

static void on_acquired(evpq_lease *its, const evpq_error *err, void *user)
{
    over(user, its, err);
    lease = its;
    if (!lease)
        return;
    ask_lease("BEGIN", on_result);
    bool last = ask_lease("SELECT id FROM t", on_last_of_lease);
    if (plan.rest & REST_RELEASE_EARLY || !last)
        release_lease();
}

static void on_page(evpq_page *page, const evpq_error *err, void *user);

static void ask_page(void)
{
    struct operation *operation = pages++ < PAGES ? begin(TIMEOUT_MS) : NULL;
    if (operation)
        accepted(operation, evpq_pager_next(&operation->handle, pager, on_page, operation));
}

static void on_page(evpq_page *page, const evpq_error *err, void *user)
{
    over(user, page, err);
    CHECK(evpq_page_rows(page) == evpq_result_rows(evpq_page_result(page)));
    CHECK(evpq_page_rows(page) <= 2);
    const char *token = evpq_page_token(page);
    CHECK(!token || strlen(token) <= 4096);
    if (page)
        readers_check(evpq_page_result(page));
    if (evpq_page_has_next(page) && !leaving)
        ask_page();
}

static void ask_query(const char *sql, uint32_t timeout_ms)
{
    struct operation *operation = begin(timeout_ms);
    const evpq_query *query =
        EVPQ_QUERY(sql, EVPQ_PARAMS(evpq_int8(42), evpq_text("x")), .timeout_ms = timeout_ms,
                   .format = plan.rest & REST_TEXT ? EVPQ_TEXT : EVPQ_BINARY);
    if (operation)
        accepted(operation, evpq_pool_query(&operation->handle, pool, query, on_result, operation));
}

static void ask_all(void)
{
    ask_query("SELECT id FROM t WHERE id = $1 AND x = $2", TIMEOUT_MS);
    struct operation *acquire = begin(TIMEOUT_MS);
    accepted(acquire, evpq_pool_acquire(&acquire->handle, pool,
                                        EVPQ_ACQUIRE_OPTIONS(.timeout_ms = TIMEOUT_MS), on_acquired,
                                        acquire));
    const evpq_pager_options *options =
        EVPQ_PAGER_OPTIONS(.sql = "SELECT id FROM t", .order_by = "id", .page_size = 2,
                           .timeout_ms = TIMEOUT_MS);
    if (evpq_pager_open(&pager, pool, options) == EVPQ_OK)
        ask_page();
    ask_query("INSERT INTO t VALUES ($1, $2)", TIMEOUT_MS);
}

static bool all_over(void)
{
    for (int i = 0; i < begun; i++)
        if (operations[i].accepted && !operations[i].over)
            return false;
    return true;
}

/* ---- what the server does ---- */

/* A literal's own NUL ends its last text. */
#define MESSAGE(type, body)                                                                        \
    {                                                                                              \
        type, body, sizeof(body) - 1                                                               \
    }

static const struct {
    char type;
    const char *body;
    size_t length;
} messages[] = {
    MESSAGE('1', ""),
    MESSAGE('2', ""),
    MESSAGE('n', ""),
    MESSAGE('T', "\0\1id\0\0\0\0\0\0\0\0\0\0\24\0\10\xff\xff\xff\xff\0\1"),
    MESSAGE('D', "\0\1\0\0\0\10\0\0\0\0\0\0\0\7"),
    MESSAGE('D', "\0\1\xff\xff\xff\xff"),
    MESSAGE('C', "SELECT 1\0"),
    MESSAGE('Z', "I"),
    MESSAGE('Z', "T"),
    MESSAGE('Z', "E"),
    MESSAGE('E', "SERROR\0VERROR\0C40001\0Mcould not serialize\0\0"),
    MESSAGE('E', "SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"),
    MESSAGE('E', "\0"),
    MESSAGE('E', "SERROR\0VERROR\0C57014\0Mcanceling statement\0\0"),
    MESSAGE('E', "SERROR\0VERROR\0C25006\0Mread-only\0\0"),
    MESSAGE('N', "SNOTICE\0VNOTICE\0C00000\0Mhello\0\0"),
    MESSAGE('N', "SFATAL\0VFATAL\0C57P01\0Mterminating\0\0"),
    MESSAGE('A', "\0\0\0\1channel\0payload\0"),
    MESSAGE('S', "in_hot_standby\0on\0"),
    MESSAGE('S', "client_encoding\0UTF8\0"),
    MESSAGE('I', ""),
    MESSAGE('s', ""),
    MESSAGE('G', "\0\0\0"),
    MESSAGE('H', "\0\0\0"),
    MESSAGE('W', "\0\0\0"),
    MESSAGE('c', ""),
    MESSAGE('R', "\0\0\0\0"),
    MESSAGE('R', "\0\0\0\3"),
    MESSAGE('K', "\0\0\0\1\0\0\0\2"),
    MESSAGE('3', ""),
    MESSAGE('D', "\0\2\0\0\0\10\0\0\0\0\0\0\0\7\xff\xff\xff\xff"),
    MESSAGE('v', "\0\3\0\0\0\0\0\0"),
};

static void tell(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; plan.rest & REST_BYTEWISE && i < length && i < 64; i++) {
        server_say(at++, 1);
        turns_run();
    }
    if (!(plan.rest & REST_BYTEWISE))
        server_say(bytes, length);
    turns_run();
}

static size_t write_message(unsigned char out[128], unsigned which)
{
    size_t length = messages[which].length;
    out[0] = (unsigned char)messages[which].type;
    out[1] = out[2] = out[3] = 0;
    out[4] = (unsigned char)(4 + length);
    memcpy(out + 5, messages[which].body, length);
    return 5 + length;
}

static void cancel_one(unsigned which)
{
    struct operation *operation = &operations[which % OPERATIONS];
    if (operation->accepted && !operation->over)
        evpq_op_cancel(operation->handle);
    turns_run();
}

enum {
    DO_BYTES = 0x00,   /* up to 64, which follow */
    DO_MESSAGE = 0x40, /* one of the messages */
    DO_ANSWER = 0x80,  /* what the client waits for, up to 16 messages */
    DO_REPEAT = 0x90,  /* the last message, 16, 32, ... times */
    DO_PASS = 0xa0,    /* time: 1, 2, 4, ... ms */
    DO_CANCEL = 0xb0,  /* an operation */
    DO_PICK = 0xc0,    /* another connection */
    DO_HANG_UP = 0xd0,
    DO_HALF_CLOSE = 0xd8,
    DO_TAKE_IDLE = 0xe0,
    DO_ASK = 0xe8,
    DO_EXPIRE = 0xf0,
};

static void follow(struct fuzz_input *input)
{
    unsigned char last[128];
    size_t last_length = 0;
    for (int steps = 0; input->left > 0 && steps < 200; steps++) {
        unsigned op = fuzz_byte(input), low = op & 15;
        if (!server_has_script())
            turns_run();
        if (op < DO_MESSAGE) {
            size_t length;
            unsigned char *bytes = fuzz_bytes(input, (op & 63) + 1, &length);
            tell(bytes, length);
            free(bytes);
        } else if (op < DO_ANSWER) {
            last_length = write_message(last, op & 31);
            tell(last, last_length);
        } else if (op < DO_REPEAT) {
            for (unsigned i = 0; i <= low; i++)
                server_answer();
            turns_run();
        } else if (op < DO_PASS) {
            for (unsigned i = 0; i < 16 * (low + 1); i++)
                server_say(last, last_length);
            turns_run();
        } else if (op < DO_CANCEL) {
            turns_pass(1u << (low < 11 ? low : 11));
        } else if (op < DO_PICK) {
            cancel_one(low);
        } else if (op < DO_HANG_UP) {
            server_pick(low);
        } else if (op < DO_HALF_CLOSE) {
            server_hang_up();
            turns_run();
        } else if (op < DO_TAKE_IDLE) {
            server_half_close();
            turns_run();
        } else if (op < DO_ASK) {
            server_take_idle();
        } else if (op < DO_EXPIRE) {
            ask_query("SELECT 1 + $1 + $2::int", TIMEOUT_MS);
            turns_run();
        }
    }
}

/* ---- the story ---- */

static void on_closed(void *user)
{
    (void)user;
    CHECK(all_over());
    closed++;
}

static bool is_closed(void)
{
    return closed > 0;
}

/* Each try that fails costs a connection that the script has spoilt. */
static void check_recovery(void)
{
    bool good = false;
    for (int tries = 0; !good && tries < 8; tries++) {
        begun = 0;
        ask_query("SELECT id FROM t WHERE $1 + $2 > 0", 120000);
        CHECK(turns_pass_until(all_over, 120000));
        good = operations[0].accepted && operations[0].code == EVPQ_OK;
    }
    CHECK(good);
}

static bool open_pool(void)
{
    char conninfo[256];
    snprintf(conninfo, sizeof(conninfo), "host=%s port=5432 user=u dbname=d sslmode=disable%s",
             server_host(), plan.rest & REST_READ_WRITE ? " target_session_attrs=read-write" : "");
    turns_most_sessions = plan.pool & POOL_TWO ? 2 : 1;
    const evpq_pool_options *options =
        EVPQ_POOL_OPTIONS(.conninfo = conninfo, .max_size = (uint32_t)turns_most_sessions,
                          .connect_timeout_ms = TIMEOUT_MS, .cancel_timeout_ms = CANCEL_TIMEOUT_MS,
                          .fail_fast = plan.pool & POOL_FAIL_FAST,
                          .cancel_policy = (evpq_cancel_policy)((plan.rest & 3) % 3),
                          .server_timeout =
                              plan.pool & POOL_SERVER_TIMEOUT ? EVPQ_ON : EVPQ_DEFAULT,
                          .max_result_bytes = plan.pool & POOL_SMALL_RESULTS ? 8192 : 0,
                          .reset_session = plan.pool & POOL_RESET);
    int code = evpq_pool_open(&pool, fake_ev(), options);
    CHECK(code == EVPQ_OK || code == EVPQ_ENOMEM);
    return code == EVPQ_OK;
}

static void close_pool(void)
{
    evpq_close_mode mode = plan.pool & POOL_CLOSE_CANCEL ? EVPQ_CLOSE_CANCEL : EVPQ_CLOSE_FINISH;
    evpq_pager_close(pager);
    CHECK(evpq_pool_close(pool, mode, TIMEOUT_MS, on_closed, NULL) == EVPQ_OK);
    CHECK(!closed);
    CHECK(turns_pass_until(is_closed, TIMEOUT_MS + 2 * CANCEL_TIMEOUT_MS));
    CHECK(closed == 1);
    evpq_lease_release(lease);
    evpq_result_free(kept);
    turns_run();
    CHECK(server_clients() == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct fuzz_input input = {data, size};
    plan = (struct plan){fuzz_byte(&input), fuzz_byte(&input), fuzz_byte(&input)};
    fake_reset();
    results_forget();
    server_reset(&(struct server_manners){.raw = plan.pool & POOL_RAW,
                                          .deaf = plan.pool & POOL_DEAF_SERVER});
    pool = NULL, pager = NULL, lease = NULL, kept = NULL;
    memset(operations, 0, sizeof(operations));
    begun = pages = closed = 0;
    submitting = leaving = false;
    turns_calls_hang = plan.rest & REST_CALLS_HANG;
    if (plan.fails)
        fake_mem_fail_at(plan.fails);
    if (open_pool()) {
        ask_all();
        turns_run();
        follow(&input);
        leaving = true;
        server_be_good();
        CHECK(turns_pass_until(all_over, TIMEOUT_MS));
        turns_calls_hang = false;
        if (!lease)
            check_recovery();
        close_pool();
    }
    fake_nothing_left();
    CHECK(results_alive() == 0);
    return 0;
}
