/* SPDX-License-Identifier: MIT */
/*
 * Tells of an overrun. A stack that is full has no room for saying so, which is
 * why it takes a signal handler on a stack of its own. evpq installs none by
 * itself: a handler is the process's, and so it is the program that asks.
 */
#include <evpq/await.h>

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "await/fiber.h"

enum { HANDLER_STACK = 65536 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed = EVPQ_ENOMEM;
static pthread_key_t handler_stacks;
static struct sigaction before;

/* It is none of ours: as if we had never been here. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        sigaction(signal, &before, NULL);
        /* What has faulted does so again; what was only sent has to be sent again. */
        if (info->si_code <= 0)
            raise(signal);
    }
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    if (info->si_code > 0 && fiber_overrun(info->si_addr))
        fiber_abort("a coroutine has overrun its stack; raise stack_size");
    pass_on(signal, info, context);
}

static void free_handler_stack(void *memory)
{
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    munmap(memory, HANDLER_STACK);
}

static void install(void)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    if (pthread_key_create(&handler_stacks, free_handler_stack) != 0)
        return;
    if (sigaction(SIGSEGV, NULL, &before) == 0 && sigaction(SIGSEGV, &ours, NULL) == 0)
        installed = EVPQ_OK;
}

int evpq_await_report_overruns(void)
{
    stack_t stack;
    pthread_once(&once, install);
    if (installed != EVPQ_OK)
        return installed;
    if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE))
        return EVPQ_OK; /* somebody's is there already */
    stack = (stack_t){.ss_size = HANDLER_STACK};
    stack.ss_sp = mmap(NULL, HANDLER_STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return EVPQ_ENOMEM;
    if (pthread_setspecific(handler_stacks, stack.ss_sp) != 0) {
        munmap(stack.ss_sp, HANDLER_STACK);
        return EVPQ_ENOMEM;
    }
    return sigaltstack(&stack, NULL) == 0 ? EVPQ_OK : EVPQ_ENOMEM;
}
