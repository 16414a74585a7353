/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_BENCH_BARE_BARE_H
#define EVPQ_BENCH_BARE_BARE_H

/*
 * The yardstick: the same work by libpq and epoll alone, as fast as it can be written. It has no
 * deadlines, no cancel, and ends at the first error.
 *
 * Statements go to a connection that has room, and wait in one line where none has.
 */

#include <libpq-fe.h>

#include "support/bench.h"

/* One statement, prepared before. */
struct bare_op {
    struct bare_op *next;
    const char *statement;
    const char *value; /* of $1; NULL: it has none */
    int length;
    int format; /* of value and result */
    /* The result is valid until it returns; statements may be given to bare_send() in it. */
    void (*done)(struct bare_op *op, const PGresult *result);
};

struct bare_link;

struct bare {
    int epoll;
    uint64_t depth;
    bool plain;
    bool stopped;
    struct bare_link *links;
    uint64_t count;
    struct bare_link *reading;     /* its answers are being handed out */
    struct bare_op *first, **last; /* those that wait */
};

/* One function for each kind. */
void bare_point(const struct bench_options *options);
void bare_pages(const struct bench_options *options);
void bare_stream(const struct bench_options *options);
void bare_dials(const struct bench_options *options);

void bare_open(struct bare *bare, const struct bench_options *options);
void bare_prepare(struct bare *bare, const char *name, const char *sql);
/* All that is prepared is. */
void bare_ready(struct bare *bare);
/* From the loop, or before it runs. */
void bare_send(struct bare *bare, struct bare_op *op);
/* Until bare_stop(). `fd`, unless it is -1, is watched too. */
void bare_run(struct bare *bare, int fd, void (*readable)(void *user), void *user);
void bare_stop(struct bare *bare);
void bare_close(struct bare *bare);

_Noreturn void bare_fail(const PGconn *pg, const char *where);
/* id, amount and name, in either format. */
void bare_row(struct bench_meter *meter, const PGresult *result, int row);
int64_t bare_int8(const PGresult *result, int row, int column);

/* Of libpq 17; NULL before. */
extern int PQsendPipelineSync(PGconn *pg) __attribute__((weak));
extern int PQsetChunkedRowsMode(PGconn *pg, int rows) __attribute__((weak));

#endif /* EVPQ_BENCH_BARE_BARE_H */
