/* SPDX-License-Identifier: MIT */
#include "pg/pq.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#ifdef __linux__
#include <linux/tcp.h>
#endif

/* libpq brings libssl along, or does without. */
extern int SSL_pending(const void *ssl) __attribute__((weak));

/* PQcancelCreate() with hostaddr crashes before 17.6 (its release notes), and evpq always has one.
 */
bool evpq__pq_has_async_cancel(void)
{
    return PQcancelCreate && PQlibVersion() >= 170006;
}

bool evpq__pq_has_close_prepared(void)
{
    return PQsendClosePrepared && PQlibVersion() >= 170000;
}

bool evpq__pq_has_load_balance(void)
{
    return PQlibVersion() >= 160000;
}

bool evpq__pq_can_share(void)
{
    int version = PQlibVersion(), major = version / 10000;
    static const int fixed[] = {[14] = 140011, [15] = 150006, [16] = 160002};
    return major > 16 || (major >= 14 && version >= fixed[major]);
}

bool evpq__pq_send_sync(PGconn *conn)
{
    return PQsendPipelineSync ? PQsendPipelineSync(conn) : PQpipelineSync(conn);
}

bool evpq__pq_set_row_mode(PGconn *conn, uint32_t rows)
{
    return PQsetChunkedRowsMode && PQlibVersion() >= 170000 ? PQsetChunkedRowsMode(conn, (int)rows)
                                                            : PQsetSingleRowMode(conn);
}

/*
 * Minors before August 2026 (15.19, 17.10) may leave decrypted bytes in
 * OpenSSL, for which the socket never becomes readable again.
 */
bool evpq__pq_consume(PGconn *conn)
{
    void *ssl = SSL_pending && PQsslInUse(conn) ? PQsslStruct(conn, "OpenSSL") : NULL;
    do {
        if (!PQconsumeInput(conn))
            return false;
    } while (ssl && PQsocket(conn) >= 0 && SSL_pending(ssl) > 0);
    return true;
}

bool evpq__pq_session_pinned(const PGconn *conn)
{
    const char *style = PQparameterStatus(conn, "DateStyle");
    return strcmp(pg_encoding_to_char(PQclientEncoding(conn)), "UTF8") == 0 &&
           (!style || strncmp(style, "ISO", 3) == 0);
}

static bool reports_on(const PGconn *conn, const char *name)
{
    const char *value = PQparameterStatus(conn, name);
    return value && strcmp(value, "on") == 0;
}

const char *evpq__pq_severity(const PGresult *error)
{
    const char *severity = PQresultErrorField(error, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity ? severity : PQresultErrorField(error, PG_DIAG_SEVERITY);
}

bool evpq__pq_in_standby(const PGconn *conn)
{
    return reports_on(conn, "in_hot_standby");
}

bool evpq__pq_read_only(const PGconn *conn)
{
    return reports_on(conn, "default_transaction_read_only");
}

size_t evpq__pq_waiting(const PGconn *conn)
{
    int waiting;
    return ioctl(PQsocket(conn), FIONREAD, &waiting) == 0 && waiting > 0 ? (size_t)waiting : 0;
}

void evpq__pq_count_received(const PGconn *conn, uint64_t *received, size_t left)
{
#ifdef __linux__
    struct tcp_info info;
    socklen_t length = sizeof(info);
    if (getsockopt(PQsocket(conn), IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
        length >=
            offsetof(struct tcp_info, tcpi_bytes_received) + sizeof(info.tcpi_bytes_received)) {
        *received = info.tcpi_bytes_received;
        return;
    }
#endif
    size_t waiting = evpq__pq_waiting(conn);
    *received += waiting > left ? waiting - left : 0;
}

/* ":  28P01: ", as PQERRORS_VERBOSE writes it behind the (translated) severity. */
static bool is_sqlstate(const char *text)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (strncmp(text, ":  ", 3) != 0)
        return false;
    size_t length = strspn(text + 3, digits);
    return length == 5 && strncmp(text + 8, ": ", 2) == 0;
}

static bool is_location(const char *line)
{
    return strncmp(line, "LOCATION:  ", 11) == 0;
}

/* Its length, without what libpq adds when it is asked for more after the connection was lost. */
static size_t told_length(const char *message)
{
    static const char follow_up[] = "\ninvalid socket\n";
    size_t length = strlen(message), size = sizeof(follow_up) - 1;
    return length > size && strcmp(message + length - size, follow_up) == 0 ? length - size
                                                                            : length;
}

void evpq__pq_tidy_message(const char *message, char *out, size_t capacity, char sqlstate[6])
{
    size_t length = 0;
    sqlstate[0] = '\0';
    const char *end = message + told_length(message);
    for (const char *at = message; at < end && length + 1 < capacity;) {
        if ((at == message || at[-1] == '\n') && is_location(at)) {
            at += strcspn(at, "\n");
        } else if (is_sqlstate(at)) {
            if (!sqlstate[0]) {
                memcpy(sqlstate, at + 3, 5);
                sqlstate[5] = '\0';
            }
            out[length++] = ':';
            at += 3 + 5 + 1;
        } else if ((unsigned char)*at <= ' ' || *at == 127) {
            /* Blanks, line ends and control characters, however many, become one blank. */
            bool line_end = *at == '\n';
            if (line_end && length > 0 && out[length - 1] != ' ' && length + 2 < capacity)
                out[length++] = ';';
            if (length > 0 && out[length - 1] != ' ')
                out[length++] = ' ';
            at++;
        } else {
            out[length++] = *at++;
        }
    }
    while (length > 0 && (out[length - 1] == ' ' || out[length - 1] == ';'))
        length--;
    out[length] = '\0';
}

bool evpq__pq_refused_for_good(const char *sqlstate)
{
    static const char *const states[] = {
        "28000", /* invalid_authorization_specification: pg_hba.conf, role may not log in */
        "28P01", /* invalid_password */
        "3D000", /* invalid_catalog_name: no such database */
        "42501", /* insufficient_privilege: may not connect */
        "55000", /* object_not_in_prerequisite_state: the database takes no connections */
    };
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (strcmp(sqlstate, states[i]) == 0)
            return true;
    return false;
}
