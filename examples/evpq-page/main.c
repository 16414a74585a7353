/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <ev.h>

#include "browse.h"
#include "explain.h"
#include "options.h"
#include "screen.h"
#include "walk.h"

/* A socket must not get the number of a standard stream that was closed: rows would go to it. */
static void guard_standard_streams(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0 && fd <= STDERR_FILENO)
        ;
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    static char buffer[256 * 1024];
    mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024); /* each page needs the memory of the one before */
    guard_standard_streams();
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    screen_init();

    struct options options;
    int ending = options_read(&options, argc, argv);
    if (ending < 0) {
        struct ev_loop *loop = ev_default_loop(0);
        signal(SIGPIPE, SIG_IGN); /* write() fails instead, and we end in order */
        setenv("PGAPPNAME", "evpq-page", 0);
        ending = options.explain       ? explain_run(&options, loop)
                 : options.interactive ? browse_run(&options, loop)
                                       : walk_run(&options, loop);
    }
    options_done(&options);
    return ending;
}
