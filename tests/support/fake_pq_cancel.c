/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pg/pq.h"
#include "support/fake_loop.h"
#include "support/fake_pq.h"
#include "support/fake_pq_private.h"

struct pg_cancel_conn {
    struct evpq__node node; /* of cancels, while it is under way */
    PGconn *pg;
    int fd;
    bool over;
};

struct pg_cancel {
    PGconn *pg;
};

static struct evpq__list cancels;
static int cancels_started;
static bool no_cancel, obeyed;

void fake_pq_cancel_reset(void)
{
    evpq__list_init(&cancels);
    cancels_started = 0;
    no_cancel = obeyed = false;
}

void fake_pq_no_cancel(bool fails)
{
    no_cancel = fails;
}

int fake_cancels(void)
{
    return cancels_started;
}

int fake_cancels_open(void)
{
    int count = 0;
    for (struct evpq__node *n = evpq__list_first(&cancels); n; n = evpq__list_next(&cancels, n))
        count++;
    return count;
}

void fake_cancel_over(void)
{
    struct evpq__node *first = evpq__list_first(&cancels);
    if (!first)
        fail_msg("no cancel request is under way");
    PGcancelConn *cancel = evpq__container_of(first, struct pg_cancel_conn, node);
    evpq__node_unlink(&cancel->node);
    cancel->over = true;
    fake_socket_ready(cancel->fd, EVPQ__READ);
}

void fake_cancels_obeyed(bool now)
{
    obeyed = now;
}

PGcancelConn *PQcancelCreate(PGconn *pg)
{
    if (no_cancel)
        return NULL;
    PGcancelConn *cancel = fake_pq_make(sizeof(*cancel));
    cancel->pg = pg;
    evpq__node_init(&cancel->node);
    cancel->fd = -1;
    return cancel;
}

int PQcancelStart(PGcancelConn *cancel)
{
    assert_int_equal(cancel->fd, -1);
    cancels_started++;
    cancel->fd = fake_pq_next_fd();
    cancel->over = false;
    evpq__list_push_back(&cancels, &cancel->node);
    fake_socket_ready(cancel->fd, EVPQ__WRITE);
    if (obeyed) {
        fake_pg_canceled(cancel->pg);
        fake_cancel_over();
    }
    return 1;
}

PostgresPollingStatusType PQcancelPoll(PGcancelConn *cancel)
{
    return cancel->over ? PGRES_POLLING_OK : PGRES_POLLING_READING;
}

ConnStatusType PQcancelStatus(const PGcancelConn *cancel)
{
    return cancel->over ? CONNECTION_OK : CONNECTION_STARTED;
}

int PQcancelSocket(const PGcancelConn *cancel)
{
    return cancel->fd;
}

void PQcancelReset(PGcancelConn *cancel)
{
    evpq__node_unlink(&cancel->node);
    if (cancel->fd >= 0)
        fake_socket_closed(cancel->fd);
    cancel->fd = -1;
}

void PQcancelFinish(PGcancelConn *cancel)
{
    PQcancelReset(cancel);
    fake_pq_destroy(cancel);
}

PGcancel *PQgetCancel(PGconn *pg)
{
    if (no_cancel)
        return NULL;
    PGcancel *cancel = fake_pq_make(sizeof(*cancel));
    cancel->pg = pg;
    return cancel;
}

void PQfreeCancel(PGcancel *cancel)
{
    if (cancel)
        fake_pq_destroy(cancel);
}

int PQcancel(PGcancel *cancel, char *error, int error_size)
{
    (void)error_size;
    cancels_started++;
    error[0] = '\0';
    if (obeyed)
        fake_pg_canceled(cancel->pg);
    return 1;
}
