/* SPDX-License-Identifier: MIT */
#include "support/fake_dial.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "pg/dial.h"
#include "pg/pq.h"
#include "support/fake_loop.h"
#include "support/fake_pq.h"

struct evpq__dial {
    struct evpq__node node; /* of dials */
    struct evpq__loop *home;
    evpq__dialed_fn *on_dialed;
    void *owner;
    bool over, aborted;
    struct evpq__timer deadline;
    struct evpq__task end;
    struct evpq__dialed dialed;
};

static struct evpq__list dials;
static int started;
static enum { WAIT, SUCCEED, FAIL } all;
static bool read_write;
static unsigned notices;
static size_t host, tried_first;

void fake_dial_reset(void)
{
    evpq__list_init(&dials);
    started = 0;
    all = WAIT;
    read_write = false;
    notices = 0;
    host = tried_first = 0;
}

void fake_dial_notices(unsigned sum)
{
    notices = sum;
}

void fake_dial_host(size_t number)
{
    host = number;
}

size_t fake_dial_first_host(void)
{
    return tried_first;
}

void fake_dial_read_write(bool wanted)
{
    read_write = wanted;
}

int fake_dials(void)
{
    return started;
}

int fake_dials_open(void)
{
    int count = 0;
    for (struct evpq__node *n = evpq__list_first(&dials); n; n = evpq__list_next(&dials, n))
        count++;
    return count;
}

void fake_dial_all_succeed(void)
{
    all = SUCCEED;
}

void fake_dial_all_fail(void)
{
    all = FAIL;
}

void fake_dial_all_wait(void)
{
    all = WAIT;
}

static void dial_on_end(struct evpq__task *task)
{
    struct evpq__dial *dial = evpq__container_of(task, struct evpq__dial, end);
    struct evpq__dialed dialed = dial->dialed;
    evpq__dialed_fn *on_dialed = dial->on_dialed;
    void *owner = dial->owner;
    evpq__free(dial);
    on_dialed(owner, &dialed);
}

static void dial_ends(struct evpq__dial *dial)
{
    evpq__timer_stop(&dial->deadline);
    evpq__node_unlink(&dial->node);
    dial->over = true;
    evpq__loop_send(dial->home, &dial->end);
}

static void dial_fails(struct evpq__dial *dial, evpq_code code, const char *sqlstate,
                       const char *message)
{
    evpq__error_set_report(&dial->dialed.error, code, EVPQ_NOT_SENT,
                           &(struct evpq__server_report){.message = message, .sqlstate = sqlstate});
    dial_ends(dial);
}

static void dial_succeeds(struct evpq__dial *dial)
{
    PGconn *pg = fake_pg_new();
    dial->dialed.cancel = evpq__cancel_new(pg);
    if (dial->dialed.cancel) {
        dial->dialed.read_write = read_write;
        dial->dialed.notices = notices;
        dial->dialed.host = host;
        dial->dialed.pg = pg;
        dial_ends(dial);
    } else {
        PQfinish(pg);
        dial_fails(dial, EVPQ_ENOMEM, NULL, NULL);
    }
}

static void dial_on_deadline(struct evpq__timer *timer)
{
    struct evpq__dial *dial = evpq__container_of(timer, struct evpq__dial, deadline);
    dial_fails(dial, EVPQ_ECONNECT, NULL, "no answer in time");
}

struct evpq__dial *evpq__dial_start(struct evpq__helper *helper, struct evpq__loop *home,
                                    const char *conninfo, size_t first_host, int64_t deadline_us,
                                    evpq__dialed_fn *on_dialed, void *owner)
{
    (void)helper, (void)conninfo;
    struct evpq__dial *dial = evpq__alloc(sizeof(*dial));
    if (!dial)
        return NULL;
    started++;
    tried_first = first_host;
    dial->home = home;
    dial->on_dialed = on_dialed;
    dial->owner = owner;
    evpq__task_init(&dial->end, dial_on_end);
    evpq__timer_init(&dial->deadline, dial_on_deadline);
    evpq__list_push_back(&dials, &dial->node);
    if (all == SUCCEED)
        dial_succeeds(dial);
    else if (all == FAIL)
        dial_fails(dial, EVPQ_ECONNECT, NULL, "connection refused");
    else
        evpq__timer_start(home, &dial->deadline, deadline_us);
    return dial;
}

void evpq__dial_abort(struct evpq__dial *dial)
{
    assert_false(dial->aborted);
    dial->aborted = true;
    if (!dial->over)
        dial_fails(dial, EVPQ_ECANCELED, NULL, NULL);
}

static struct evpq__dial *oldest(void)
{
    struct evpq__node *first = evpq__list_first(&dials);
    if (!first)
        fail_msg("no dial is under way");
    return evpq__container_of(first, struct evpq__dial, node);
}

void fake_dial_succeeds(void)
{
    dial_succeeds(oldest());
}

void fake_dial_fails(evpq_code code, const char *sqlstate, const char *message, bool for_good)
{
    struct evpq__dial *dial = oldest();
    dial->dialed.refused_for_good = for_good;
    dial_fails(dial, code, sqlstate, message);
}
