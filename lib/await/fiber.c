/* SPDX-License-Identifier: MIT */
/* The fortified longjmp() refuses to leave one stack for another. */
#undef _FORTIFY_SOURCE
#include "await/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "await/checkers.h"

/* More than a page: a function with a large frame would step over that. It takes no memory. A
 * multiple of all page sizes in use. */
enum { GUARD = 65536 };

/* The fiber that runs, for signal handlers: memory that is there before the thread begins. */
static _Thread_local struct fiber *running __attribute__((tls_model("initial-exec")));

char *fiber_stack_new(size_t size, unsigned *id)
{
    char *memory = mmap(NULL, GUARD + size, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (mprotect(memory + GUARD, size, PROT_READ | PROT_WRITE) != 0) {
        munmap(memory, GUARD + size);
        return NULL;
    }
    *id = (unsigned)VALGRIND_STACK_REGISTER(memory + GUARD, memory + GUARD + size);
    return memory + GUARD;
}

void fiber_stack_free(char *stack, size_t size, unsigned id)
{
    VALGRIND_STACK_DEREGISTER(id);
    ASAN_UNPOISON_MEMORY_REGION(stack, size);
    munmap(stack - GUARD, GUARD + size);
}

/* makecontext() hands over ints only. */
static void fiber_main(unsigned high, unsigned low)
{
    struct fiber *fiber = (struct fiber *)(((uintptr_t)high << 16 << 16) | low);
    __sanitizer_finish_switch_fiber(NULL, &fiber->back_stack, &fiber->back_size);
    fiber->run(fiber);
    abort();
}

void fiber_init(struct fiber *fiber, char *stack, size_t size, void (*run)(struct fiber *))
{
    /* Frames that were left for good may still be marked. */
    ASAN_UNPOISON_MEMORY_REGION(stack, size);
    fiber->stack = stack;
    fiber->size = size;
    fiber->run = run;
    fiber->begun = 0;
    getcontext(&fiber->begin);
    fiber->begin.uc_stack.ss_sp = stack;
    fiber->begin.uc_stack.ss_size = size;
    fiber->begin.uc_link = NULL;
    makecontext(&fiber->begin, (void (*)(void))fiber_main, 2,
                (unsigned)((uintptr_t)fiber >> 16 >> 16), (unsigned)(uintptr_t)fiber);
}

void fiber_enter(struct fiber *fiber)
{
    struct fiber *const before = running;
    running = fiber;
    __sanitizer_start_switch_fiber(&fiber->back_fake_stack, fiber->stack, fiber->size);
    if (_setjmp(fiber->back) == 0) {
        if (fiber->begun)
            _longjmp(fiber->own, 1);
        fiber->begun = 1;
        setcontext(&fiber->begin);
    }
    __sanitizer_finish_switch_fiber(fiber->back_fake_stack, NULL, NULL);
    running = before;
}

void fiber_leave(struct fiber *fiber, _Bool for_good)
{
    __sanitizer_start_switch_fiber(for_good ? NULL : &fiber->fake_stack, fiber->back_stack,
                                   fiber->back_size);
    if (_setjmp(fiber->own) == 0)
        _longjmp(fiber->back, 1);
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &fiber->back_stack, &fiber->back_size);
}

size_t fiber_room(const struct fiber *fiber)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0), lowest = (uintptr_t)fiber->stack;
    return here > lowest ? (size_t)(here - lowest) : 0;
}

_Bool fiber_overrun(const void *address)
{
    uintptr_t lowest = running ? (uintptr_t)running->stack : 0;
    return running && (uintptr_t)address < lowest && (uintptr_t)address >= lowest - GUARD;
}

void fiber_abort(const char *why)
{
    static const char who[] = "evpq_await: ";
    struct iovec text[] = {{(void *)(uintptr_t)who, sizeof(who) - 1},
                           {(void *)(uintptr_t)why, strlen(why)},
                           {(void *)(uintptr_t) "\n", 1}};
    ssize_t written = writev(STDERR_FILENO, text, 3);
    (void)written;
    abort();
}
