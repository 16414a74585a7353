/* SPDX-License-Identifier: MIT */
/*
 * Cancel and expiry: what becomes of a statement that nobody waits for any
 * more, and how its connection becomes clean again.
 *
 * The caller hears at once, from the pool. A request that was not sent is
 * withdrawn and leaves no trace. One that was sent is *abandoned*: its answer
 * will be thrown away, and meanwhile the connection takes nothing new.
 *
 *   abandoned          EVPQ_CANCEL_AND_KEEP        _AND_CLOSE              EVPQ_CLOSE_ONLY
 *   ------------------------------------------------------------------------------------------
 *   partly sent        close: the server waits for the rest, and would for ever
 *   behind another     wait until it is the head   (these two take no company: options.c of the
 * pool) head               cancel request, repeated    one cancel request,     close until it is
 * over            close no cancel left     ask again when the pool     close                   -
 *   this second        has one
 *   answered (Sync)    the next, or clean          -                       -
 *   the bound          close                       -                       -
 *
 *   DRAINING:
 *
 *       head is abandoned                            nothing in flight, no cancel under way
 *     +---------+  request over, still running   +------------------------------------+
 *     | CANCEL  |------------------------------->| ROLLBACK, when a transaction is open|
 *     | request |<-------------------------------| DISCARD ALL and set-up, if asked for|
 *     +---------+   after 50, 100, 200 ... ms     +------------------------------------+
 *                                                          |  given back: `clean`
 *                                                          v  else: BUSY or IDLE again
 *
 * It ends when each abandoned Sync is answered *and* the cancel request is over:
 * a request that reaches the server late would hit whatever runs then. One that
 * reaches it too early, before the statement has begun, is lost; so it is
 * repeated. Whoever was in flight behind and is hit all the same (`exposed`, also
 * when that is heard later) had no effect, and is told so (`victim`). All of it
 * has one bound, cancel_timeout_ms from the first word: a stopped server ignores
 * every cancel.
 *
 * *Company* is in flight with an abandoned statement, but nobody's to end. The
 * bound does not run while company is at the head, and when it has passed the
 * connection is closed behind the last of them, who have deadlines of their own.
 */
#include <assert.h>

#include "pg/conn_parts.h"
#include "pg/pq.h"

/* The pause before a cancel request is repeated; doubled each time. */
enum { CANCEL_AGAIN_MS = 50 };

static void on_cancel_over(struct evpq__task *task);
static void on_drain_limit(struct evpq__timer *timer);
static void on_cancel_again(struct evpq__timer *timer);
static void cleaning_done(struct evpq__request *request, struct evpq_result *result,
                          struct evpq_error *error);

void evpq__drain_init(struct evpq__conn *conn)
{
    conn->cleaning.done = cleaning_done;
    conn->cleaning.alone = true;
    conn->cleaning.statement = &conn->cleaning_statement;
    evpq__node_init(&conn->cleaning.node);
    evpq__task_init(&conn->cancel_over, on_cancel_over);
    evpq__timer_init(&conn->drain_limit, on_drain_limit);
    evpq__timer_init(&conn->cancel_again, on_cancel_again);
}

void evpq__drain_stop_timers(struct evpq__conn *conn)
{
    evpq__timer_stop(&conn->drain_limit);
    evpq__timer_stop(&conn->cancel_again);
}

/* In flight, somebody waits for it, and it is not this that has to end. */
static bool is_company(const struct evpq__conn *conn, const struct evpq__request *request)
{
    return !request->abandoned && request != &conn->cleaning && request != &conn->deallocation;
}

static bool has_company(const struct evpq__conn *conn)
{
    struct evpq__node *node = evpq__list_first(&conn->sent);
    for (; node; node = evpq__list_next(&conn->sent, node))
        if (is_company(conn, evpq__container_of(node, struct evpq__request, node)))
            return true;
    return false;
}

static bool has_abandoned(const struct evpq__conn *conn)
{
    struct evpq__node *node = evpq__list_first(&conn->sent);
    for (; node; node = evpq__list_next(&conn->sent, node))
        if (evpq__container_of(node, struct evpq__request, node)->abandoned)
            return true;
    return false;
}

/* From now on there is a bound; but none while it is somebody else's statement that runs. */
static void drain_bound(struct evpq__conn *conn)
{
    struct evpq__request *head = evpq__conn_head(conn);
    bool others = head && is_company(conn, head) && !evpq__cancel_running(conn->cancel);
    if (others) {
        evpq__timer_stop(&conn->drain_limit);
        conn->drain_until_us = 0;
    } else if (conn->drain_until_us == 0) {
        conn->drain_until_us = evpq__loop_deadline(conn->loop, conn->rules->cancel_timeout_ms);
        evpq__timer_start(conn->loop, &conn->drain_limit, conn->drain_until_us);
    }
}

static void drain_begin(struct evpq__conn *conn)
{
    if (conn->state == EVPQ__CONN_DRAINING)
        return;
    evpq__conn_enter(conn, EVPQ__CONN_DRAINING);
    conn->drain_until_us = 0;
    conn->cancel_pause_ms = CANCEL_AGAIN_MS;
}

static void drain_end(struct evpq__conn *conn)
{
    evpq__drain_stop_timers(conn);
    if (evpq__list_empty(&conn->queued) && conn->in_flight == 0) {
        evpq__conn_enter(conn, EVPQ__CONN_IDLE);
    } else {
        evpq__conn_enter(conn, EVPQ__CONN_BUSY);
        evpq__conn_post_pump(conn);
    }
}

/* Cancelling */

/* All that is in flight now may be hit: the server is done with the request before it says so. */
static void start_cancel(struct evpq__conn *conn, int64_t until_us)
{
    struct evpq__node *node = evpq__list_first(&conn->sent);
    for (; node; node = evpq__list_next(&conn->sent, node))
        evpq__container_of(node, struct evpq__request, node)->exposed = true;
    evpq__cancel_start(conn->cancel, conn->helper, conn->loop, until_us, &conn->cancel_over);
}

void evpq__drain_cancel(struct evpq__conn *conn)
{
    if (evpq__cancel_running(conn->cancel) || conn->rules->cancel_policy == EVPQ_CLOSE_ONLY)
        return;
    int64_t until_us = conn->state == EVPQ__CONN_DRAINING
                           ? conn->drain_until_us
                           : evpq__loop_deadline(conn->loop, conn->rules->cancel_timeout_ms);
    int64_t not_before_us = conn->class_->canceling(conn->owner);
    if (not_before_us == 0)
        start_cancel(conn, until_us);
    else if (conn->state == EVPQ__CONN_DRAINING)
        evpq__timer_start(conn->loop, &conn->cancel_again, not_before_us);
}

/* The server is to stop what it runs, if that is abandoned. */
static void stop_head(struct evpq__conn *conn)
{
    struct evpq__request *head = evpq__conn_head(conn);
    if (!head || !head->abandoned || evpq__cancel_running(conn->cancel))
        return;
    head->cancel_tried = true;
    evpq__drain_cancel(conn);
    if (conn->rules->cancel_policy != EVPQ_CANCEL_AND_KEEP)
        evpq__conn_close_for(conn, "canceled");
}

static void on_cancel_again(struct evpq__timer *timer)
{
    stop_head(evpq__container_of(timer, struct evpq__conn, cancel_again));
}

static void on_cancel_over(struct evpq__task *task)
{
    struct evpq__conn *conn = evpq__container_of(task, struct evpq__conn, cancel_over);
    if (conn->state == EVPQ__CONN_CLOSING) {
        evpq__closing_settle(conn);
        return;
    }
    struct evpq__request *head = evpq__conn_head(conn);
    if (conn->state == EVPQ__CONN_DRAINING && head && head->cancel_tried) {
        evpq__timer_start(conn->loop, &conn->cancel_again,
                          evpq__loop_deadline(conn->loop, conn->cancel_pause_ms));
        conn->cancel_pause_ms *= 2;
    }
    evpq__drain_settle(conn);
}

static void on_drain_limit(struct evpq__timer *timer)
{
    struct evpq__conn *conn = evpq__container_of(timer, struct evpq__conn, drain_limit);
    if (conn->state == EVPQ__CONN_CLOSING) {
        evpq__closing_hang_up(conn);
        return;
    }
    conn->overdue = true;
    evpq__drain_settle(conn);
}

bool evpq__conn_abandon(struct evpq__conn *conn, struct evpq__request *request)
{
    assert(evpq__node_linked(&request->node));
    if (!request->in_flight) {
        evpq__node_unlink(&request->node);
        if (conn->state == EVPQ__CONN_BUSY && conn->in_flight == 0 &&
            evpq__list_empty(&conn->queued))
            evpq__conn_enter(conn, EVPQ__CONN_IDLE);
        return true;
    }
    request->abandoned = true;
    drain_begin(conn);
    drain_bound(conn);
    if (!conn->unsent)
        stop_head(conn);
    else if (!has_company(conn))
        evpq__conn_close_for(conn, "canceled while sending");
    if (conn->overdue)
        evpq__conn_post_pump(conn);
    return false;
}

/* Cleaning */

static bool outside_transaction(const struct evpq__conn *conn)
{
    return PQtransactionStatus(conn->pg) == PQTRANS_IDLE;
}

/* What the next user relies on is as the set-up left it. */
static bool as_set_up(const struct evpq__conn *conn)
{
    return evpq__pq_session_pinned(conn->pg);
}

/* The next statement that cleans; NULL when nothing is left to do. */
static const char *cleaning_step(struct evpq__conn *conn)
{
    if (!outside_transaction(conn))
        return "ROLLBACK";
    if (!conn->rules->reset || !conn->used || conn->resets == 2)
        return NULL;
    return conn->resets++ == 0 ? "DISCARD ALL" : EVPQ__PQ_SESSION_SETUP;
}

static void cleaning_done(struct evpq__request *request, struct evpq_result *result,
                          struct evpq_error *error)
{
    struct evpq__conn *conn = evpq__container_of(request, struct evpq__conn, cleaning);
    (void)error;
    if (conn->state < EVPQ__CONN_CLOSING && (!result || !outside_transaction(conn)))
        evpq__conn_close_for(conn, "not cleaned");
    evpq_result_free(result);
}

static void send_cleaning(struct evpq__conn *conn, const char *sql)
{
    conn->cleaning_statement.sql = sql;
    evpq__list_push_front(&conn->queued, &conn->cleaning.node);
    evpq__conn_post_pump(conn);
}

void evpq__drain_roll_back(struct evpq__conn *conn)
{
    if (conn->state >= EVPQ__CONN_CLOSING || conn->recycled ||
        evpq__node_linked(&conn->cleaning.node))
        return;
    if (conn->state == EVPQ__CONN_IDLE)
        evpq__conn_enter(conn, EVPQ__CONN_BUSY);
    send_cleaning(conn, "ROLLBACK");
}

/* True: a step is under way. */
static bool clean(struct evpq__conn *conn)
{
    if (evpq__node_linked(&conn->cleaning.node))
        return true;
    const char *sql = cleaning_step(conn);
    if (!sql)
        return false;
    send_cleaning(conn, sql);
    return true;
}

void evpq__drain_settle(struct evpq__conn *conn)
{
    if (conn->why) {
        evpq__closing_begin(conn, "the connection was closed");
        return;
    }
    if (conn->state != EVPQ__CONN_DRAINING)
        return;
    if (conn->overdue && !has_company(conn)) {
        conn->why = "not clean in time";
        evpq__closing_begin(conn, "the server did not end a cancelled statement in time");
        return;
    }
    drain_bound(conn);
    struct evpq__request *head = evpq__conn_head(conn);
    if (head && head->abandoned && !head->cancel_tried) {
        conn->cancel_pause_ms = CANCEL_AGAIN_MS;
        stop_head(conn);
    }
    if (conn->overdue || evpq__cancel_running(conn->cancel) || has_abandoned(conn) ||
        (conn->recycled && conn->in_flight > 0))
        return;
    if (conn->recycled && clean(conn))
        return;
    if (conn->recycled && !as_set_up(conn)) {
        conn->why = "session settings changed";
        evpq__closing_begin(conn, "the connection was closed");
        return;
    }
    drain_end(conn);
    if (conn->recycled) {
        conn->recycled = conn->used = false;
        conn->resets = 0;
        conn->class_->clean(conn->owner);
    }
}

bool evpq__conn_recycle(struct evpq__conn *conn)
{
    if (conn->state >= EVPQ__CONN_CLOSING)
        return false;
    if (conn->state == EVPQ__CONN_IDLE && outside_transaction(conn) && evpq__conn_alive(conn) &&
        as_set_up(conn) && !(conn->rules->reset && conn->used)) {
        conn->used = false;
        return true;
    }
    assert(evpq__list_empty(&conn->queued) ||
           evpq__list_first(&conn->queued) == &conn->cleaning.node);
    conn->recycled = true;
    drain_begin(conn);
    drain_bound(conn);
    evpq__conn_post_pump(conn);
    return false;
}
