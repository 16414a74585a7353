/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_CONN_STORY_H
#define EVPQ_TESTS_CONN_STORY_H

/*
 * What tests of the connection share: one connection on a fake libpq, with an
 * owner that counts, and requests that remember what became of them. Include it
 * behind cmocka.h.
 */

#include "pg/conn.h"
#include "support/fake_helper.h"
#include "support/fake_loop.h"
#include "support/fake_mem.h"
#include "support/fake_pq.h"

enum { CANCEL_TIMEOUT_MS = 2000 };

/* A request, and what became of it. */
struct asked {
    struct evpq__request request;
    struct evpq__statement statement;
    int sent, done;
    evpq_code code; /* -99 until it is done */
    evpq_fate fate;
    char sqlstate[6];
    char message[128];
    void (*inside)(void);
};
extern struct asked a, b, c;

extern struct evpq__loop *loop;
extern struct evpq__helper *helper;
extern struct evpq__conn *conn; /* NULL when it is lost */
extern PGconn *pg;              /* of it; gone with it */
extern int cleans, losses;
extern const struct evpq__conn_class conn_class; /* the owner is &conn */
/* Of it; a test may change them at any time. */
extern struct evpq__conn_rules conn_rules;
/* What the owner answers to a cancel request that wants to leave. */
extern int64_t cancels_not_before_us;

/* Fixtures. At the end the connection is lost exactly once, and nothing is left. */
int conn_begin(void **state);
int conn_begin_with(int libpq_version);
/* With a cache for so many statements. */
int conn_begin_keeping(int libpq_version, uint32_t statements);
/* With a libpq whose cancels block. */
int conn_begin_blocking(void **state);
int conn_end(void **state);
#define conn_test(name) cmocka_unit_test_setup_teardown(name, conn_begin, conn_end)
#define conn_test_blocking(name)                                                                   \
    cmocka_unit_test_setup_teardown(name, conn_begin_blocking, conn_end)

void conn_submit(struct asked *asked);
/* And settles. */
void conn_run(struct asked *asked);
/* Clean, as its owner sees it. */
bool conn_is_idle(void);

bool cancel_under_way(void);
/* The server has got the cancel request and closed its connection. */
void cancel_over(void);

#endif /* EVPQ_TESTS_CONN_STORY_H */
