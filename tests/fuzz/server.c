/* SPDX-License-Identifier: MIT */
#include "server.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"

enum { CONNS = 64, HEARD = 16384, CANCEL_REQUEST = 80877102, SSL_REQUEST = 80877103 };

struct conn {
    int fd; /* -1: closed here */
    bool started, cancel, scripted, ended, binary, rows;
    char transaction; /* of ReadyForQuery */
    char next;        /* what it will be when the statement has run; 0: as it is */
    unsigned char heard[HEARD];
    size_t length;
};

static int listener = -1;
static char host[64];
static struct conn conns[CONNS];
static int count, current, accepted;
static struct server_manners manners;
static bool good;

void look_at(struct pollfd *looks, size_t looks_count)
{
    while (poll(looks, (nfds_t)looks_count, 0) < 0)
        CHECK(errno == EINTR);
}

void server_listen(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(host, sizeof(host), "@evpq-fuzz-%ld", (long)getpid());
    int length =
        snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s/.s.PGSQL.5432", host + 1);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(listener >= 0);
    CHECK(bind(listener, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0);
    CHECK(listen(listener, CONNS) == 0);
}

const char *server_host(void)
{
    return host;
}

static void hang_up(struct conn *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
}

void server_reset(const struct server_manners *now)
{
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0)
        close(fd);
    for (int i = 0; i < count; i++)
        hang_up(&conns[i]);
    count = current = accepted = 0;
    manners = *now;
    good = false;
}

/* What the client does not read in time is lost with the connection. */
static void say(struct conn *conn, const void *bytes, size_t length)
{
    if (conn->fd >= 0 && length > 0 &&
        send(conn->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length)
        hang_up(conn);
}

static void message(struct conn *conn, char type, const void *body, size_t length)
{
    unsigned char all[128] = {(unsigned char)type};
    CHECK(5 + length <= sizeof(all));
    all[4] = (unsigned char)(4 + length);
    memcpy(all + 5, body, length);
    say(conn, all, 5 + length);
}

/* A literal's own NUL is no part of it. */
#define MESSAGE(conn, type, body) message(conn, type, body, sizeof(body) - 1)

static void say_ready(struct conn *conn)
{
    message(conn, 'Z', &conn->transaction, 1);
}

static void welcome(struct conn *conn)
{
    MESSAGE(conn, 'R', "\0\0\0\0");
    MESSAGE(conn, 'S',
            "server_version\0"
            "15.4\0");
    MESSAGE(conn, 'S', "server_encoding\0UTF8\0");
    MESSAGE(conn, 'S', "client_encoding\0UTF8\0");
    MESSAGE(conn, 'S', "standard_conforming_strings\0on\0");
    MESSAGE(conn, 'S', "in_hot_standby\0off\0");
    MESSAGE(conn, 'S', "default_transaction_read_only\0off\0");
    MESSAGE(conn, 'K', "\0\0\0\1\0\0\0\2");
    conn->transaction = 'I';
    say_ready(conn);
}

static uint32_t number(const unsigned char *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* The bytes of a string and its NUL; the message ends with a NUL behind it at the latest. */
static size_t skip(const unsigned char *text, size_t left)
{
    size_t length = strnlen((const char *)text, left);
    return length < left ? length + 1 : left;
}

static void take_statement(struct conn *conn, const char *sql)
{
    conn->rows = strncmp(sql, "SELECT", 6) == 0;
    conn->next = strncmp(sql, "BEGIN", 5) == 0                                        ? 'T'
                 : strncmp(sql, "ROLLBACK", 8) == 0 || strncmp(sql, "COMMIT", 6) == 0 ? 'I'
                                                                                      : 0;
}

/* Whether it asks for binary values: the last of a Bind message. */
static void take_bind(struct conn *conn, const unsigned char *body, size_t length)
{
    conn->binary = length >= 2 && body[length - 1] == 1;
}

static void say_columns(struct conn *conn)
{
    unsigned char body[] = "\0\1id\0\0\0\0\0\0\0\0\0\0\24\0\10\xff\xff\xff\xff\0";
    body[sizeof(body) - 1] = conn->binary;
    message(conn, 'T', body, sizeof(body));
}

static void say_row(struct conn *conn, unsigned char value)
{
    unsigned char binary[] = "\0\1\0\0\0\10\0\0\0\0\0\0\0", text[] = "\0\1\0\0\0\1";
    binary[sizeof(binary) - 1] = value;
    text[sizeof(text) - 1] = (unsigned char)('0' + value);
    message(conn, 'D', conn->binary ? binary : text, conn->binary ? sizeof(binary) : sizeof(text));
}

static void run_statement(struct conn *conn)
{
    conn->transaction = conn->next ? conn->next : conn->transaction;
    if (conn->rows) {
        say_row(conn, 1);
        say_row(conn, 2);
        MESSAGE(conn, 'C', "SELECT 2\0");
    } else {
        MESSAGE(conn, 'C', "OK\0");
    }
}

static void answer(struct conn *conn, unsigned char type, const unsigned char *body, size_t length)
{
    switch (type) {
    case 'Q':
        take_statement(conn, (const char *)body);
        conn->binary = false;
        if (conn->rows)
            say_columns(conn);
        run_statement(conn);
        say_ready(conn);
        break;
    case 'P': {
        size_t name = skip(body, length);
        take_statement(conn, (const char *)body + name);
        MESSAGE(conn, '1', "");
        break;
    }
    case 'B':
        take_bind(conn, body, length);
        MESSAGE(conn, '2', "");
        break;
    case 'D':
        if (conn->rows)
            say_columns(conn);
        else
            MESSAGE(conn, 'n', "");
        break;
    case 'E':
        run_statement(conn);
        break;
    case 'C':
        MESSAGE(conn, '3', "");
        break;
    case 'S':
        say_ready(conn);
        break;
    case 'X':
        hang_up(conn);
        break;
    default: /* Flush, and what belongs to a COPY */
        break;
    }
}

static void forget(struct conn *conn, size_t length)
{
    memmove(conn->heard, conn->heard + length, conn->length - length);
    conn->length -= length;
}

/* The packet that has no type. */
static bool start(struct conn *conn)
{
    if (conn->length < 8)
        return false;
    size_t length = number(conn->heard);
    uint32_t code = number(conn->heard + 4);
    CHECK(length >= 8 && length < HEARD);
    if (conn->length < length)
        return false;
    forget(conn, length);
    conn->cancel = code == CANCEL_REQUEST;
    if (conn->cancel) {
        hang_up(conn);
    } else if (code == SSL_REQUEST) {
        say(conn, "N", 1);
    } else {
        conn->started = true;
        welcome(conn);
    }
    return true;
}

/* One message of the client; false when none is complete. */
static bool answer_next(struct conn *conn)
{
    if (conn->fd < 0)
        return false;
    if (!conn->started)
        return start(conn);
    if (conn->length < 5)
        return false;
    size_t length = number(conn->heard + 1);
    if (length < 4 || length >= HEARD) {
        hang_up(conn); /* libpq does not know where it is, thanks to the script */
        return false;
    }
    if (conn->length < 1 + length)
        return false;
    unsigned char *body = fuzz_exact(conn->heard + 5, length - 4 + 1);
    body[length - 4] = '\0';
    unsigned char type = conn->heard[0];
    forget(conn, 1 + length);
    answer(conn, type, body, length - 4);
    free(body);
    return true;
}

static void hear(struct conn *conn)
{
    ssize_t got = recv(conn->fd, conn->heard + conn->length, HEARD - conn->length, MSG_DONTWAIT);
    if (got > 0)
        conn->length += (size_t)got;
    else
        conn->ended = got == 0 || errno != EAGAIN;
}

static void let_in(void)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    int place = 0;
    while (place < count && conns[place].fd >= 0)
        place++;
    CHECK(fd >= 0 && place < CONNS);
    count = place < count ? count : place + 1;
    accepted++;
    conns[place] = (struct conn){.fd = fd, .scripted = manners.raw && !good};
    if (conns[place].scripted)
        current = place;
}

/* Hears what there is; false when there is nothing. */
static bool listen_to_all(void)
{
    struct pollfd looks[CONNS + 1];
    for (int i = 0; i < count; i++) {
        bool deaf = conns[i].ended || conns[i].length == HEARD;
        looks[i] = (struct pollfd){.fd = deaf ? -1 : conns[i].fd, .events = POLLIN};
    }
    looks[count] = (struct pollfd){.fd = listener, .events = POLLIN};
    int heard = count;
    look_at(looks, (size_t)count + 1);
    bool moved = looks[heard].revents;
    for (int i = 0; i < heard; i++)
        if (looks[i].revents) {
            hear(&conns[i]);
            moved = true;
        }
    if (looks[heard].revents)
        let_in();
    return moved;
}

/* What it does unasked. */
static bool serve(struct conn *conn)
{
    if (conn->started && !good && !conn->scripted && conn->length > 0 && conn->heard[0] == 'P') {
        conn->scripted = true;
        current = (int)(conn - conns);
    }
    bool moved = false;
    while ((good || !conn->scripted) && answer_next(conn))
        moved = true;
    if (conn->ended && conn->fd >= 0 && (good || !manners.deaf)) {
        hang_up(conn);
        moved = true;
    }
    return moved;
}

bool server_step(void)
{
    bool moved = listen_to_all();
    for (int i = 0; i < count; i++)
        moved |= serve(&conns[i]);
    return moved;
}

void server_be_good(void)
{
    good = true;
}

static struct conn *talked_to(void)
{
    return current < count && conns[current].scripted && conns[current].fd >= 0 ? &conns[current]
                                                                                : NULL;
}

bool server_has_script(void)
{
    for (int i = 0; !talked_to() && i < count; i++)
        if (conns[i].scripted && conns[i].fd >= 0)
            current = i;
    return talked_to() != NULL;
}

void server_pick(unsigned which)
{
    if (count > 0)
        current = (int)(which % (unsigned)count);
}

void server_take_idle(void)
{
    for (int i = 0; i < count; i++)
        if (conns[i].fd >= 0 && conns[i].started && !conns[i].scripted) {
            conns[i].scripted = true;
            current = i;
            return;
        }
}

void server_say(const void *bytes, size_t length)
{
    if (talked_to())
        say(talked_to(), bytes, length);
}

void server_answer(void)
{
    if (talked_to())
        answer_next(talked_to());
}

void server_hang_up(void)
{
    if (talked_to())
        hang_up(talked_to());
}

void server_half_close(void)
{
    if (talked_to())
        shutdown(talked_to()->fd, SHUT_WR);
}

static bool client_is_there(const struct conn *conn)
{
    struct pollfd look = {.fd = conn->fd};
    look_at(&look, 1);
    return conn->fd >= 0 && !(look.revents & (POLLHUP | POLLERR));
}

bool server_has_more_than(int sessions)
{
    int ours = 0, both = 0;
    for (int i = 0; i < count; i++)
        ours += conns[i].fd >= 0 && !conns[i].cancel;
    for (int i = 0; ours > sessions && i < count; i++)
        both += !conns[i].cancel && client_is_there(&conns[i]);
    return both > sessions;
}

int server_accepted(void)
{
    return accepted;
}

int server_clients(void)
{
    int open = 0;
    for (int i = 0; i < count; i++)
        open += client_is_there(&conns[i]);
    return open;
}
