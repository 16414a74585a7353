/* SPDX-License-Identifier: MIT */
/* What evpq asks of a connection's socket itself, behind the back of libpq. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#ifdef __linux__
#include <linux/tcp.h>
#include <netinet/in.h>
#endif

#include <cmocka.h>

#include "support/fake_pq.h"
#include "support/fake_pq_private.h"

enum { SOCKETS = 4096 };

static uint64_t came[SOCKETS];
static bool hears_goodbye, ssl, gss;
static int error, terminates;

void fake_pq_socket_reset(void)
{
    memset(came, 0, sizeof(came));
    hears_goodbye = ssl = gss = false;
    error = EAGAIN;
    terminates = 0;
}

void fake_pg_comes(const PGconn *pg, size_t bytes)
{
    assert_in_range(PQsocket(pg), 0, SOCKETS - 1);
    came[PQsocket(pg)] += bytes;
}

void fake_pg_hears_goodbye(bool hears)
{
    hears_goodbye = hears;
}

void fake_pg_encrypted(bool by_ssl, bool by_gss)
{
    ssl = by_ssl;
    gss = by_gss;
}

int PQsslInUse(PGconn *pg)
{
    (void)pg;
    return ssl;
}

int PQgssEncInUse(PGconn *pg)
{
    (void)pg;
    return gss;
}

int fake_pg_terminates(void)
{
    return terminates;
}

void fake_pg_socket_error(int now)
{
    error = now;
}

int fake_pq_socket_error(void)
{
    return error;
}

#ifdef __linux__
/* In place of the C library's: what TCP has received. */
int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict length)
{
    if (level != IPPROTO_TCP || option != TCP_INFO || fd < 0 || fd >= SOCKETS)
        return -1;
    struct tcp_info info = {.tcpi_bytes_received = came[fd]};
    memcpy(value, &info, sizeof(info));
    *length = sizeof(info);
    return 0;
}
#endif

ssize_t send(int fd, const void *bytes, size_t length, int flags)
{
    static const char terminate[] = {'X', 0, 0, 0, 4};
    (void)fd;
    assert_int_equal(length, sizeof(terminate));
    assert_memory_equal(bytes, terminate, sizeof(terminate));
    assert_int_equal(flags, MSG_NOSIGNAL | MSG_DONTWAIT);
    terminates++;
    return hears_goodbye ? (ssize_t)length : -1;
}

int shutdown(int fd, int how)
{
    (void)fd;
    assert_int_equal(how, SHUT_WR);
    return hears_goodbye ? 0 : -1;
}
