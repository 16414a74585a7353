/* SPDX-License-Identifier: MIT */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* xterm's control sequences (invisible-island.net/xterm/ctlseqs): another screen, no cursor, no
 * wrapping of long lines; and back. */
#define ENTER "\033[?1049h\033[?25l\033[?7l\033[2J"
#define LEAVE "\033[0m\033[?7h\033[?25h\033[?1049l"

static struct {
    struct termios before;
    volatile sig_atomic_t raw, full;
    bool guarded;
} terminal;

struct terminal_size terminal_size(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || !size.ws_row || !size.ws_col)
        return (struct terminal_size){.rows = 24, .columns = 80};
    return (struct terminal_size){.rows = size.ws_row, .columns = size.ws_col};
}

void terminal_write(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, bytes, length);
        if (written > 0) {
            bytes += written;
            length -= (size_t)written;
        } else if (errno == EAGAIN) { /* another program may have left it so */
            poll(&(struct pollfd){.fd = STDOUT_FILENO, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

bool terminal_in_front(void)
{
    pid_t group = tcgetpgrp(STDIN_FILENO); /* -1: nobody controls jobs here */
    return group < 0 || group == getpgrp();
}

void terminal_restore(void)
{
    int problem = errno;
    bool ours = terminal_in_front(); /* else the shell has it, and has put it back already */
    if (terminal.full && ours)
        terminal_write(LEAVE, strlen(LEAVE));
    if (terminal.raw && ours)
        tcsetattr(STDIN_FILENO, TCSANOW, &terminal.before);
    terminal.full = terminal.raw = 0;
    errno = problem;
}

static void on_crash(int number)
{
    terminal_restore();
    raise(number); /* blocked until we return, then as if we had not been here */
}

static void guard(void)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    const struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
    if (terminal.guarded)
        return;
    terminal.guarded = true;
    atexit(terminal_restore);
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) {
        struct sigaction old; /* a sanitizer has its own */
        if (sigaction(crashes[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(crashes[i], &action, NULL);
    }
}

bool terminal_raw(void)
{
    struct termios raw;
    if (terminal.raw)
        return true;
    if (tcgetattr(STDIN_FILENO, &raw) != 0)
        return false;
    terminal.before = raw;
    guard();
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    terminal.raw = 1; /* first: who is killed in between is restored */
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0)
        return true;
    terminal.raw = 0;
    return false;
}

void terminal_full(void)
{
    if (terminal.full || !terminal_in_front())
        return;
    terminal.full = 1;
    terminal_write(ENTER, strlen(ENTER));
}
