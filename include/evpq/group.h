/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_GROUP_H
#define EVPQ_GROUP_H

/**
 * @file
 * Groups: gather
 * ==============
 *
 * Several operations that belong together: wait until all are over, or until the
 * first has failed, or until so many have succeeded; with one deadline over all.
 *
 * Any operation becomes a member: a query, an acquire, a page, a wait for a
 * limiter, a job, another group. Start it as ever, with its own callback and its
 * own `user`, and hand its handle to the group in the same breath:
 *
 *     evpq_group_open(&group, loop, EVPQ_GROUP_OPTIONS(.timeout_ms = 500));
 *     for (int i = 0; i < 3; i++) {
 *         evpq_op *op;
 *         evpq_group_add(group, evpq_pool_query(&op, pool, queries[i], on_rows, &parts[i]), &op);
 *     }
 *     evpq_group_wait(NULL, group, on_all, app);
 *
 * The callback of a member comes as it would without the group, and need not
 * know of it; when it has returned the group looks at what became of the
 * operation. A call that could not start is given to the group all the same:
 * it is a member that has failed. The group's own callback comes after those
 * of all its members, always: whatever they share may be freed there.
 *
 * A group belongs to one loop and to its thread, and so do its members. It does
 * not keep ev_run() running, but for its deadline.
 */

#include <evpq/op.h>

EVPQ_BEGIN_DECLS

struct ev_loop;

/** A group. Yours from evpq_group_open() until its callback has returned, or until
 * evpq_group_close(). */
typedef struct evpq_group evpq_group;

/** When a group is done. */
typedef enum evpq_group_mode {
    EVPQ_GROUP_ALL = 0,       /**< when all members are over, whatever became of them */
    EVPQ_GROUP_FAIL_FAST = 1, /**< the first that fails cancels the others */
    EVPQ_GROUP_SOME = 2, /**< when `need` members have succeeded, or cannot any more: the others
                            are cancelled */
} evpq_group_mode;

/** How a group is to be. Zero is the default of each field; nothing of it is kept. */
typedef struct evpq_group_options {
    /** sizeof(evpq_group_options); EVPQ_GROUP_OPTIONS() sets it. */
    size_t size;
    /** Default: EVPQ_GROUP_ALL. */
    evpq_group_mode mode;
    /** With EVPQ_GROUP_SOME, and only then: at least 1. */
    uint32_t need;
    /** From evpq_group_open() on: what is not over by then is cancelled. The callback comes when
     * the members have called back, a turn of the loop later. 0: the members have deadlines of
     * their own. */
    uint32_t timeout_ms;
} evpq_group_options;

/** Options in place: EVPQ_GROUP_OPTIONS(.mode = EVPQ_GROUP_FAIL_FAST). C only. */
#define EVPQ_GROUP_OPTIONS(...)                                                                    \
    (&(const evpq_group_options){.size = sizeof(evpq_group_options), __VA_ARGS__})

/**
 * The group is done, as its mode says (err == NULL), or why it is not: of the first member that
 * failed a copy of its error; or EVPQ_ETIMEOUT, EVPQ_ECANCELED of the group itself. Runs once,
 * from the loop, after the callbacks of all members. The group can be asked until this returns.
 */
typedef void evpq_group_fn(evpq_group *group, const evpq_error *err, void *user);

/**
 * Say what is wrong with options: the reason why evpq_group_open() answers EVPQ_EINVALID.
 *
 * @return NULL when nothing is wrong; else a static text
 */
EVPQ_API const char *evpq_group_options_problem(const evpq_group_options *options);

/**
 * Open a group, whose time begins now.
 *
 * @param[out] out      the group; see evpq_group
 * @param      loop     the loop of the group and of its members
 * @param      options  NULL for all defaults
 *
 * @return EVPQ_OK; EVPQ_EINVALID (ask evpq_group_options_problem()); EVPQ_ENOMEM
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_group_open(evpq_group **out, struct ev_loop *loop,
                                             const evpq_group_options *options);

/**
 * Add a member, which was started just now.
 *
 * In a group that is decided already (its deadline has passed, one has failed, enough have
 * succeeded) it is cancelled.
 *
 * @param group    the group; not after evpq_group_wait()
 * @param started  what the call that started the operation answered. Any error is a member that
 * has failed so, and *op is not looked at
 * @param op       where that call has put the handle
 *
 * @return EVPQ_OK; EVPQ_EINVALID; EVPQ_ENOMEM: then it goes on without the group
 */
EVPQ_API int evpq_group_add(evpq_group *group, int started, evpq_op *const *op);

/**
 * Wait for the group. It takes no more members, and goes when on_done has returned.
 *
 * A group without members is done at once; that also is told from the loop.
 *
 * @param[out] out      a handle to cancel the group with, and with it its members; may be NULL.
 * The handle makes it a member of another group
 * @param      group    the group; once
 * @param      on_done  runs once, from the loop, unless this call fails
 * @param      user     passed to on_done as it is
 *
 * @return EVPQ_OK; EVPQ_EINVALID: no on_done, waited for already, more needed than there are
 */
EVPQ_API EVPQ_MUST_CHECK int evpq_group_wait(evpq_op **out, evpq_group *group,
                                             evpq_group_fn *on_done, void *user);

/** Give up a group that is not waited for: cancels its members, which still call back. NULL is
 * allowed; so is a group that is waited for, which is cancelled. */
EVPQ_API void evpq_group_close(evpq_group *group);

/** How many members it has. */
EVPQ_API uint32_t evpq_group_size(const evpq_group *group);

/** How many of them have succeeded so far. */
EVPQ_API uint32_t evpq_group_succeeded(const evpq_group *group);

/**
 * What became of a member.
 *
 * @param index  in the order of evpq_group_add(), from 0
 *
 * @return NULL when it has succeeded, is not over yet, or is none; else its error, valid as long as
 * the group. Members that the group has cancelled have EVPQ_ECANCELED
 */
EVPQ_API const evpq_error *evpq_group_member_error(const evpq_group *group, uint32_t index);

EVPQ_END_DECLS

#endif /* EVPQ_GROUP_H */
