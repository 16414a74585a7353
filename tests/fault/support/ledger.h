/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAULT_LEDGER_H
#define EVPQ_TESTS_FAULT_LEDGER_H

/*
 * What must hold after every fault, kept as a book: each request is entered with
 * a number of its own, which its answer has to bring back, and with its deadline.
 *
 *     struct ledger ledger;
 *     ledger_open(&ledger, server, EVPQ_POOL_OPTIONS(.max_size = 4));
 *     ledger_load(&ledger, 200., LEDGER_WRITE(.timeout_ms = 1000));
 *     ledger_run(&ledger, 1.);
 *     ... a fault ...
 *     ledger_run(&ledger, 3.);
 *     ledger_check(&ledger);
 *
 * ledger_check() waits for the last answer, closes the pool, and fails the case
 * unless: each request was answered once, from the loop, by its deadline and a
 * grace, with its own number; what wrote has written once when it says so, and
 * not when it says so; no turn of the loop was long; the server never saw more
 * than max_size connections, and sees none in the end; the pool's numbers add
 * up; no descriptor is left, memory has not grown, and the password was in no
 * message.
 */

#include "support/live.h"
#include "support/server.h"
#include "support/watchdog.h"

struct ledger;

/* How a request looks. Its $1 is the number, and its first value has to be it again. */
struct ledger_request {
    const char *sql;
    double seconds;      /* its $2, when it has one: to sleep for */
    uint32_t timeout_ms; /* 0: the pool's */
    bool writes;         /* it leaves its number in the table "effects" */
    size_t max_result_bytes;
    evpq_switch server_timeout;
    evpq_format format;
};

#define LEDGER_REQUEST(...) (&(const struct ledger_request){.sql = __VA_ARGS__})
/* Three that serve most cases; fields go in the parentheses: LEDGER_SLEEP(.seconds = 0.01). */
#define LEDGER_ECHO(...)  LEDGER_REQUEST("SELECT $1::int8", __VA_ARGS__)
#define LEDGER_SLEEP(...) LEDGER_REQUEST("SELECT $1::int8 FROM pg_sleep($2)", __VA_ARGS__)
#define LEDGER_WRITE(...)                                                                          \
    LEDGER_REQUEST(                                                                                \
        "WITH new AS (INSERT INTO effects VALUES ($1::int8) RETURNING nonce) "                     \
        "SELECT nonce FROM new, pg_sleep($2)",                                                     \
        .writes = true, __VA_ARGS__)

struct ledger_entry {
    struct ledger *ledger;
    evpq_op *op; /* NULL once it is answered */
    int64_t nonce;
    double asked, due, answered; /* live_now(); due: 0 without a deadline */
    int calls;
    evpq_code code;
    evpq_fate fate;
    bool retry_safe, writes;
    char sqlstate[6];
};

struct ledger {
    struct live live;
    struct fault_server *server;
    char application[32];
    uint32_t max_size;

    /* Bounds, to be changed by a case before it ends. Times are multiplied by live_slow(). */
    double grace;          /* from deadline to answer: 0.050 */
    double turn_cpu, turn; /* of the loop: 0.010 of CPU, 0.250 on the clock */
    double grown_mib;      /* 48 */
    const char *secret;    /* in no text; the server's password */
    int server_extra;      /* connections that the server may see above max_size: 0 */
    /* Operations that ended so, by -code, and were not asked for through the ledger. */
    int others[16];

    /* What there was. */
    struct ledger_entry **entries;
    int asked, answered;   /* accepted by the call; called back */
    int refused;           /* by the call, with EVPQ_EOVERLOADED */
    int codes[16];         /* answers by -code */
    char texts[16][400];   /* the last message of each code */
    evpq_pool_stats stats; /* the last look */
    uint32_t most_total, most_waiting;
    int server_most; /* connections, by ledger_check() */
    double latest;   /* after its deadline, by ledger_check() */

    /* Private. */
    int64_t first_nonce;
    int room, descriptors, broken;
    char breaches[8][400];
    bool in_call, closed;
    int *effects;
    double rss;
    struct watchdog dog;
    ev_timer tick;
    struct {
        struct ledger_request request;
        double per_s, began;
        int64_t made, limit;
    } load;
    struct {
        double *at;
        uint64_t *count;
        int used, room;
    } dials;
    struct fault_every *sampler;
};

/* Opens a pool on the server, whose conninfo it makes unless the options name one. The pool's
 * application_name is the ledger's, unless that one is a URI. `server` may be NULL. */
void ledger_open(struct ledger *ledger, struct fault_server *server,
                 const evpq_pool_options *options);
/* No more looks at the server's connections, which take a connection of their own. */
void ledger_end_sampling(struct ledger *ledger);
/* The end of a case, see above. Prints a line of figures. */
void ledger_check(struct ledger *ledger);
/* Writes down what is wrong: the case fails in ledger_check(). */
void ledger_breach(struct ledger *ledger, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Asks for one. NULL when the call refused it. */
struct ledger_entry *ledger_ask(struct ledger *ledger, const struct ledger_request *request);
/* For what is asked with another call (a lease, a page): an entry, and the callback for it. */
struct ledger_entry *ledger_enter(struct ledger *ledger, uint32_t timeout_ms, bool writes);
evpq_result_fn ledger_on_result;
/* One and its answer. */
struct ledger_entry *ledger_ask_and_wait(struct ledger *ledger,
                                         const struct ledger_request *request);

/* From now on so many requests a second, whatever becomes of them. 0 ends it. */
void ledger_load(struct ledger *ledger, double per_s, const struct ledger_request *request);
/* Runs the loop until so many requests of the load have been made, and ends it. */
void ledger_run_load(struct ledger *ledger, int requests);
/* Runs the loop for a time, until all that was asked is answered, until a condition holds. */
void ledger_run(struct ledger *ledger, double seconds);
void ledger_drain(struct ledger *ledger);
void ledger_until(struct ledger *ledger, bool (*condition)(struct live *, void *), void *arg,
                  double seconds);

/* Requests asked in [from, to) that ended so. */
int ledger_count(const struct ledger *ledger, double from, double to, evpq_code code);
/* Answers with EVPQ_OK that came in [from, to). */
int ledger_goodput(const struct ledger *ledger, double from, double to);
/* When the last failure was told, or 0; from then on all went well. */
double ledger_last_failure(const struct ledger *ledger);
/* Dials that ended, well or not, in [from, to); and the most in any second of it. */
int ledger_dials(const struct ledger *ledger, double from, double to);
int ledger_dials_per_s(const struct ledger *ledger, double from, double to);

/* Prints what was asked and answered so far, and the last message of each failure. */
void ledger_show(const struct ledger *ledger);
/* A figure to be quoted: "# figure: ...". */
void ledger_figure(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif /* EVPQ_TESTS_FAULT_LEDGER_H */
