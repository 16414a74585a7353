/* SPDX-License-Identifier: MIT */
/*
 * Coroutines while memory fails: a story is told again and again, and each time
 * another calloc(), mmap() or mprotect(), of evpq-await's or of evpq's, has no
 * memory. Each call tells so, each coroutine that was started is over once, and
 * nothing is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <ev.h>
#include <evpq/await.h>
#include <evpq/queue.h>
#include <sys/mman.h>

/* The linker puts these in the place of the C library's (--wrap); mmap64 is mmap with offsets of 64
 * bits, for which meson compiles. */
void *__real_calloc(size_t count, size_t size);
void *__real_mmap64(void *at, size_t size, int access, int flags, int fd, off_t offset);
int __real_mprotect(void *at, size_t size, int access);
int __real_munmap(void *at, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_mmap64(void *at, size_t size, int access, int flags, int fd, off_t offset);
int __wrap_mprotect(void *at, size_t size, int access);
int __wrap_munmap(void *at, size_t size);

static int fail_at; /* the how many-th; 0: none */
static int asked, failed;
static bool from_there_on;
static int mappings;

static bool fails(void)
{
    asked += fail_at > 0;
    if (fail_at == 0 || asked < fail_at || (asked > fail_at && !from_there_on))
        return false;
    failed++;
    errno = ENOMEM;
    return true;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_mmap64(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
    void *memory = fails() ? MAP_FAILED : __real_mmap64(at, size, access, flags, fd, offset);
    mappings += memory != MAP_FAILED;
    return memory;
}

int __wrap_mprotect(void *at, size_t size, int access)
{
    return fails() ? -1 : __real_mprotect(at, size, access);
}

int __wrap_munmap(void *at, size_t size)
{
    mappings--;
    return __real_munmap(at, size);
}

/* evpq's own. */
static void *allocate(size_t size, void *user)
{
    (void)user;
    return fails() ? NULL : malloc(size);
}

static void release(void *memory, void *user)
{
    (void)user;
    free(memory);
}

/* It can be set as long as evpq holds nothing. */
static void evpq_holds_nothing(void)
{
    assert_int_equal(evpq_set_allocator(&(evpq_allocator){allocate, release, NULL}), EVPQ_OK);
}

static struct ev_loop *loop;
static evpq_await *await;
static evpq_semaphore *semaphore;
static int over, closed, completed;

static void on_over(void *user)
{
    ++*(int *)user;
}

static bool good(int code)
{
    assert_true(code == EVPQ_OK || code == EVPQ_ENOMEM);
    return code == EVPQ_OK;
}

static void job(evpq_job *job, void *user)
{
    (void)user;
    assert_int_equal(evpq_job_done(job, NULL), EVPQ_OK);
}

static void on_done(const evpq_error *err, void *user)
{
    (void)user;
    assert_null(err);
}

static bool waits_for_a_queue(evpq_coroutine *self)
{
    evpq_queue *queue;
    evpq_op *op;
    if (!good(evpq_queue_open(&queue, loop, EVPQ_QUEUE_OPTIONS(.workers = 1))))
        return false;
    bool done =
        good(evpq_queue_submit(NULL, queue, EVPQ_JOB(job), on_done, NULL)) &&
        good(evpq_await_op(self, evpq_queue_join(&op, queue, 0, evpq_await_done, self), &op));
    assert_int_equal(evpq_queue_close(queue, EVPQ_CLOSE_FINISH, 0, NULL, NULL), EVPQ_OK);
    return done;
}

static bool waits_for_a_group(evpq_coroutine *self)
{
    evpq_group *group;
    evpq_op *op;
    if (!good(evpq_group_open(&group, loop, NULL)))
        return false;
    int started = evpq_semaphore_acquire(&op, semaphore, 1, 1000, on_done, NULL);
    if (!good(started)) {
        evpq_group_close(group);
        return false;
    }
    bool added = good(evpq_group_add(group, started, &op));
    /* It has its permit, whatever becomes of the group. */
    bool done = added && good(evpq_await_group(self, group));
    if (!added) {
        evpq_group_close(group);
        assert_int_equal(evpq_await_sleep(self, 1), EVPQ_OK);
    }
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    return done;
}

static void waits(evpq_coroutine *self, void *user)
{
    (void)user;
    if (!good(evpq_await_semaphore(self, semaphore, 1, 0)))
        return;
    int slept = evpq_await_sleep(self, 1);
    assert_int_equal(evpq_semaphore_release(semaphore, 1), EVPQ_OK);
    assert_int_equal(slept, EVPQ_OK);
    completed += waits_for_a_queue(self) && waits_for_a_group(self);
}

static void is_cancelled(evpq_coroutine *self, void *user)
{
    (void)user;
    assert_int_equal(evpq_await_sleep(self, 60000), EVPQ_ECANCELED);
    assert_int_equal(evpq_await_semaphore(self, semaphore, 1, 0), EVPQ_ECANCELED);
}

/* More than stacks that are kept: some are unmapped, some used again. */
static int tell_a_story(void)
{
    enum { COROUTINES = 4 };
    evpq_coroutine *coroutine;
    int started = 0;
    over = closed = completed = 0;
    if (!good(evpq_await_open(&await, loop, EVPQ_AWAIT_OPTIONS(.max_idle_stacks = 1))))
        return 0;
    if (good(evpq_semaphore_open(&semaphore, loop, EVPQ_SEMAPHORE_OPTIONS(.limit = 4)))) {
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < COROUTINES; i++)
                started += good(evpq_await_start(NULL, await, waits, &over, 0, on_over));
            if (good(evpq_await_start(&coroutine, await, is_cancelled, &over, 0, on_over))) {
                started++;
                ev_run(loop, EVRUN_NOWAIT);
                evpq_await_cancel(coroutine);
            }
            ev_run(loop, 0);
        }
        evpq_semaphore_close(semaphore);
    }
    assert_int_equal(evpq_await_count(await), 0);
    evpq_await_close(await, on_over, &closed);
    ev_run(loop, 0);
    assert_int_equal(closed, 1);
    assert_int_equal(over, started);
    assert_int_equal(mappings, 0);
    return completed;
}

static void any_memory_may_fail(void **state)
{
    (void)state;
    loop = ev_loop_new(EVFLAG_AUTO);
    evpq_holds_nothing();
    assert_int_equal(tell_a_story(), 8); /* when nothing fails */
    for (int way = 0; way < 2; way++) {
        from_there_on = way;
        int n = 1;
        for (;; n++) {
            fail_at = n;
            asked = failed = 0;
            (void)tell_a_story();
            fail_at = 0;
            evpq_holds_nothing();
            if (failed == 0)
                break;
        }
        print_message("%d places where memory may fail\n", n - 1);
        assert_true(n > 60);
    }
    assert_int_equal(tell_a_story(), 8); /* and it works again */
    ev_loop_destroy(loop);
}

static void no_stack_is_no_coroutine(void **state)
{
    (void)state;
    loop = ev_loop_new(EVFLAG_AUTO);
    assert_int_equal(evpq_await_open(&await, loop, NULL), EVPQ_OK);
    from_there_on = false;
    for (fail_at = 1; fail_at <= 2; fail_at++) { /* the mapping; making it writable */
        asked = failed = 0;
        assert_int_equal(evpq_await_start(NULL, await, waits, &over, 0, on_over), EVPQ_ENOMEM);
        assert_int_equal(failed, 1);
        assert_int_equal(evpq_await_count(await), 0);
        assert_int_equal(mappings, 0);
    }
    fail_at = 0;
    evpq_await_close(await, NULL, NULL);
    ev_loop_destroy(loop);
}

static void no_stack_for_the_handler_is_no_report(void **state)
{
    (void)state;
    fail_at = 1;
    asked = failed = 0;
    int code = evpq_await_report_overruns();
    fail_at = 0;
    /* A sanitizer has given this thread one. */
    assert_int_equal(code, failed ? EVPQ_ENOMEM : EVPQ_OK);
    assert_int_equal(mappings, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_memory_may_fail),
        cmocka_unit_test(no_stack_is_no_coroutine),
        cmocka_unit_test(no_stack_for_the_handler_is_no_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
