/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_AWAIT_FIBER_H
#define EVPQ_LIB_AWAIT_FIBER_H

/*
 * Stacks, and switching between them.
 *
 * The switch is the C library's: what Debian has besides is Boost's context,
 * whose C entry points are a private part of a C++ library, and PCL, which is no
 * longer kept. A fiber is made with makecontext(), and switched by _setjmp() and
 * _longjmp() from then on, as QEMU's coroutines are: swapcontext() costs a system
 * call for the signal mask each time, which is most of its price. Sanitizers and
 * valgrind know both.
 */

#include <setjmp.h>
#include <stddef.h>
#include <ucontext.h>

struct fiber {
    jmp_buf own, back; /* where it goes on; where who entered it does */
    ucontext_t begin;  /* where it begins */
    _Bool begun;
    char *stack; /* the lowest byte that may be touched */
    size_t size;
    void *fake_stack, *back_fake_stack; /* AddressSanitizer's */
    const void *back_stack;
    size_t back_size;
    void (*run)(struct fiber *fiber); /* must end with fiber_leave(fiber, true) */
};

/* Memory for a fiber's stack with a guard below; NULL without. `id` is valgrind's. */
char *fiber_stack_new(size_t size, unsigned *id);
void fiber_stack_free(char *stack, size_t size, unsigned id);

void fiber_init(struct fiber *fiber, char *stack, size_t size, void (*run)(struct fiber *));
/* Runs it until it leaves. */
void fiber_enter(struct fiber *fiber);
/* From inside: returns when it is entered again; never when it is for good. */
void fiber_leave(struct fiber *fiber, _Bool for_good);
/* From inside: bytes of the stack that are left. */
size_t fiber_room(const struct fiber *fiber);
/* Is this in the guard of the fiber that runs in this thread? From a signal handler. */
_Bool fiber_overrun(const void *address);
/* Says why on stderr, and aborts; in whatever build, from a signal handler too. */
_Noreturn void fiber_abort(const char *why);

#endif /* EVPQ_LIB_AWAIT_FIBER_H */
