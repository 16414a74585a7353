/* SPDX-License-Identifier: MIT */
/*
 * The end of a connection. CLOSING ends when the server has let go: it closes
 * its end of the socket when the backend no longer counts against any limit.
 * Else a new connection could be one too many. It has a bound, too.
 */
#include <errno.h>
#include <sys/socket.h>

#include "pg/conn_parts.h"

/*
 * The end of what we send. Not PQfinish(), which closes at once: the server is
 * to be the first. Terminate is the protocol's word for it (message formats,
 * 'X'); through TLS or GSS, where only libpq can speak, the end of the stream
 * means the same to the server. False: there is nobody to say it to.
 */
static bool say_goodbye(struct evpq__conn *conn)
{
    static const char terminate[] = {'X', 0, 0, 0, 4};
    int fd = PQsocket(conn->pg);
    if (fd < 0 || PQstatus(conn->pg) != CONNECTION_OK)
        return false;
    if (!conn->unsent && !PQsslInUse(conn->pg) && !PQgssEncInUse(conn->pg) &&
        send(fd, terminate, sizeof(terminate), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return false;
    return shutdown(fd, SHUT_WR) == 0;
}

static void let_go(struct evpq__conn *conn)
{
    evpq__io_stop(&conn->io);
    PQfinish(conn->pg);
    conn->pg = NULL;
}

/* `first`: what the statement in turn was told. The server's last words are for the others too. */
static void fail_all(struct evpq__list *requests, evpq_fate fate, const struct evpq_error *first,
                     const char *message)
{
    struct evpq__node *node;
    while ((node = evpq__list_pop_front(requests))) {
        struct evpq_error error = {0};
        if (first->code == EVPQ_EDISCONNECTED)
            evpq__error_copy(&error, first);
        else
            evpq__error_set(&error, EVPQ_EDISCONNECTED, EVPQ_UNKNOWN, "%s", message);
        error.fate = fate;
        evpq__conn_request_over(evpq__container_of(node, struct evpq__request, node), NULL, &error);
    }
}

void evpq__closing_begin(struct evpq__conn *conn, const char *message)
{
    evpq__conn_enter(conn, EVPQ__CONN_CLOSING);
    evpq__drain_stop_timers(conn);
    evpq__loop_unpost(conn->loop, &conn->pump);
    if (say_goodbye(conn)) {
        evpq__io_start(conn->loop, &conn->io, PQsocket(conn->pg), EVPQ__READ);
        evpq__timer_start(conn->loop, &conn->drain_limit,
                          evpq__loop_deadline(conn->loop, conn->rules->cancel_timeout_ms));
    } else {
        let_go(conn);
    }
    PQclear(conn->answer);
    conn->answer = NULL;
    struct evpq_error failure = conn->failure;
    conn->failure = (struct evpq_error){0};
    conn->in_flight = conn->streams = 0;
    struct evpq__request *failed = evpq__segment_now(conn);
    conn->answered = NULL;
    struct evpq_error first = {0};
    evpq__error_copy(&first, &failure);
    if (failure.code != EVPQ_OK && failed) {
        failed->failed = true;
        evpq__node_unlink(&failed->node);
        evpq__conn_request_over(failed, NULL, &failure);
    }
    evpq__error_clear(&failure);
    fail_all(&conn->sent, EVPQ_UNKNOWN, &first, message);
    fail_all(&conn->queued, EVPQ_NOT_SENT, &first, message);
    evpq__error_clear(&first);
    evpq__closing_settle(conn);
}

void evpq__closing_settle(struct evpq__conn *conn)
{
    if (conn->pg || evpq__cancel_running(conn->cancel))
        return;
    evpq__timer_stop(&conn->drain_limit);
    evpq__conn_enter(conn, EVPQ__CONN_CLOSED);
    evpq__loop_unpost(conn->loop, &conn->cancel_over);
    conn->class_->lost(conn->owner);
}

void evpq__closing_hang_up(struct evpq__conn *conn)
{
    let_go(conn);
    evpq__closing_settle(conn);
}

/* Whatever the server still says, until it hangs up. */
void evpq__closing_read(struct evpq__conn *conn)
{
    char unread[16384];
    ssize_t got = recv(PQsocket(conn->pg), unread, sizeof(unread), MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    evpq__closing_hang_up(conn);
}
