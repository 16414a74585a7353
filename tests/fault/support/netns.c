/* SPDX-License-Identifier: MIT */
#include "support/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct netns {
    int fd;           /* keeps it alive */
    char cable[16];   /* our end's name */
    char inside[32];  /* its address */
    char outside[32]; /* ours */
};

/* Runs a command, in the namespace unless fd is -1, with this text as its input; true for success.
 */
static bool run(int fd, const char *input, char *const argv[])
{
    int in[2];
    if (pipe(in) != 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        int nothing = open("/dev/null", O_WRONLY);
        dup2(in[0], STDIN_FILENO);
        dup2(nothing, STDOUT_FILENO);
        dup2(nothing, STDERR_FILENO);
        close(in[1]);
        if (fd >= 0 && setns(fd, CLONE_NEWNET) != 0)
            _exit(126);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(in[0]);
    size_t length = input ? strlen(input) : 0;
    bool told = pid > 0 && (length == 0 || write(in[1], input, length) == (ssize_t)length);
    close(in[1]);
    int status = -1;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return told && status == 0;
}

#define RUN(fd, ...) run(fd, NULL, (char *[]){__VA_ARGS__, NULL})

/* The rest runs in a thread, since a namespace is a thread's. */
struct inside {
    int fd;
    int port;
    struct in_addr address;
    int result;
};

static int in_a_thread(void *(*work)(void *), struct inside *inside)
{
    pthread_t thread;
    inside->result = -1;
    if (pthread_create(&thread, NULL, work, inside) == 0)
        pthread_join(thread, NULL);
    return inside->result;
}

static void *make_namespace(void *arg)
{
    struct inside *inside = arg;
    if (unshare(CLONE_NEWNET) == 0)
        inside->result = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    return NULL;
}

static void *make_socket(void *arg)
{
    struct inside *inside = arg;
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)inside->port),
                               .sin_addr = inside->address};
    int on = 1;
    if (setns(inside->fd, CLONE_NEWNET) != 0)
        return NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        inside->result = fd;
    else
        close(fd);
    return NULL;
}

static const char *build(struct netns *net)
{
    char path[64], inside[40], outside[40];
    char far_end[] = "cable0";
    /* Addresses that no network has: they are for tests of networks (RFC 2544). */
    static unsigned number;
    unsigned place = ((unsigned)getpid() * 8 + number++) % 32768 * 4;
    snprintf(net->outside, sizeof(net->outside), "198.%u.%u.%u", 18 + place / 65536,
             place / 256 % 256, place % 256 + 1);
    snprintf(net->inside, sizeof(net->inside), "198.%u.%u.%u", 18 + place / 65536,
             place / 256 % 256, place % 256 + 2);
    snprintf(net->cable, sizeof(net->cable), "evpq%u", place);
    snprintf(inside, sizeof(inside), "%s/30", net->inside);
    snprintf(outside, sizeof(outside), "%s/30", net->outside);
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), net->fd);
    if (!RUN(-1, "ip", "-V"))
        return "there is no ip (iproute2)";
    if (!RUN(-1, "nft", "--version"))
        return "there is no nft (nftables)";
    if (!RUN(-1, "ip", "link", "add", "name", net->cable, "type", "veth", "peer", "name", far_end,
             "netns", path))
        return "the kernel has no veth";
    if (!RUN(-1, "ip", "addr", "add", outside, "dev", net->cable) ||
        !RUN(-1, "ip", "link", "set", net->cable, "up") ||
        !RUN(net->fd, "ip", "addr", "add", inside, "dev", far_end) ||
        !RUN(net->fd, "ip", "link", "set", far_end, "up") ||
        !RUN(net->fd, "ip", "link", "set", "lo", "up"))
        return "no address could be given to the cable";
    /* All that the tests use: what the kernel lacks shows here. */
    if (!run(net->fd,
             "table inet evpq {\n"
             "  chain in { type filter hook input priority 0; }\n"
             "  chain out { type filter hook output priority 0; }\n"
             "}\n"
             "add rule inet evpq in numgen random mod 100 < 0 drop\n"
             "add rule inet evpq in tcp dport 1 reject with tcp reset\n"
             "flush chain inet evpq in\n",
             (char *[]){"nft", "-f", "-", NULL}))
        return "the kernel has no nf_tables, or lacks numgen or reject";
    return NULL;
}

struct netns *netns_open(const char **why)
{
    struct netns *net = calloc(1, sizeof(*net));
    assert_non_null(net);
    struct inside inside = {.fd = -1};
    net->fd = in_a_thread(make_namespace, &inside);
    *why = net->fd < 0 ? "no network namespace can be made: not root" : build(net);
    if (!*why)
        return net;
    netns_close(net);
    return NULL;
}

void netns_close(struct netns *net)
{
    /* The other end, and the namespace, go with it. */
    if (net->fd >= 0) {
        RUN(-1, "ip", "link", "del", net->cable);
        close(net->fd);
    }
    free(net);
}

const char *netns_address(const struct netns *net)
{
    return net->inside;
}

int netns_bind(struct netns *net, int port)
{
    struct inside inside = {.fd = net->fd, .port = port};
    assert_int_equal(inet_pton(AF_INET, net->inside, &inside.address), 1);
    int fd = in_a_thread(make_socket, &inside);
    assert_true(fd >= 0);
    return fd;
}

void netns_cable(struct netns *net, int plugged)
{
    char far_end[] = "cable0";
    /* The far end: at ours, the kernel itself would tell our sockets. */
    assert_true(RUN(net->fd, "ip", "link", "set", far_end, plugged ? "up" : "down"));
}

void netns_rules(struct netns *net, const char *in, const char *out)
{
    char text[1024] = "flush table inet evpq\n";
    if (in)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "add rule inet evpq in %s\n",
                 in);
    if (out)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "add rule inet evpq out %s\n",
                 out);
    if (!run(net->fd, text, (char *[]){"nft", "-f", "-", NULL}))
        fail_msg("nft does not know: %s", text);
}
