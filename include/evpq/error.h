/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_ERROR_H
#define EVPQ_ERROR_H

/**
 * @file
 * Errors
 * ======
 *
 * There are two roads and no third. What could not start is the return code of
 * the call, at once. What started and then failed is the `const evpq_error *`
 * of the callback; it is NULL on success.
 *
 * There are few codes: each asks for another action. Everything finer
 * (SQLSTATE, constraint, detail) is a question to ask the error. An error
 * belongs to its operation and is valid until the callback returns.
 *
 * No message of evpq holds a password or a parameter value. What the server
 * says in `detail` may quote a row ("Key (email)=(...) already exists"): log it
 * with that in mind.
 */

#include <evpq/base.h>

EVPQ_BEGIN_DECLS

/** X(name, value, text): the values are ABI. */
#define EVPQ_CODES(X)                                                                              \
    X(OK, 0, "success")                                                                            \
    X(EINVALID, -1, "invalid argument or state: the program is wrong")                             \
    X(ENOMEM, -2, "out of memory")                                                                 \
    X(ECLOSED, -3, "the object was closed")                                                        \
    X(EOVERLOADED, -4, "too many operations are waiting already")                                  \
    X(ETIMEOUT, -5, "the deadline passed")                                                         \
    X(ECANCELED, -6, "the operation was cancelled")                                                \
    X(ECONNECT, -7, "no connection could be made")                                                 \
    X(EDISCONNECTED, -8, "the connection was lost")                                                \
    X(ESERVER, -9, "the server reported an error, see the SQLSTATE")                               \
    X(ETYPE, -10, "the value is of another type or out of range")                                  \
    X(ETOOLARGE, -11, "the result is larger than max_result_bytes")                                \
    X(ELIMITED, -12, "the rate limit does not allow it in time")

/** What to do about a failure. EVPQ_OK is 0, all others are negative. */
typedef enum evpq_code {
#define EVPQ_CODE_ENUM(name, value, text) EVPQ_##name = (value),
    EVPQ_CODES(EVPQ_CODE_ENUM)
#undef EVPQ_CODE_ENUM
} evpq_code;

/** What became of a failed statement. */
typedef enum evpq_fate {
    EVPQ_NOT_SENT = 1,    /**< no byte of it left: running it again is safe */
    EVPQ_ROLLED_BACK = 2, /**< the server refused it, or undid it; of a procedure that commits by
                             itself: what came after its last COMMIT */
    EVPQ_UNKNOWN = 3,     /**< sent, and no answer was seen: it may have happened */
} evpq_fate;

/** Why an operation failed. Valid until the callback that received it returns. */
typedef struct evpq_error evpq_error;

/** The name of a code, "EVPQ_ETIMEOUT"; "EVPQ_?" for a number that is none. Static. */
EVPQ_API const char *evpq_code_name(int code);

/** What a code means, in a few words; never NULL. Static. */
EVPQ_API const char *evpq_code_text(int code);

/** The code. EVPQ_OK for NULL. */
EVPQ_API evpq_code evpq_error_code(const evpq_error *err);

/** One paragraph for a person; never NULL, no line feed at its end. For EVPQ_ESERVER: the primary
 * message. */
EVPQ_API const char *evpq_error_message(const evpq_error *err);

/**
 * What became of the statement. An operation that is no statement (an acquire) is EVPQ_NOT_SENT.
 * Of a page, a failure never changes anything on the server.
 */
EVPQ_API evpq_fate evpq_error_fate(const evpq_error *err);

/**
 * True when running it again cannot do it twice, and may succeed: it was not sent, or it was rolled
 * back for a passing reason (a timeout or cancel of evpq's; SQLSTATE 40001, 40P01, 55P03 or class
 * 53; 26000, 42P05 or 0A000 of a statement that evpq prepares, see pool.h). False for what stays
 * as it is: a wrong call, a closed pool, a wrong password or none, a database that is not there, a
 * connection string that contradicts itself. Inside a transaction it is the whole transaction that
 * has to be run again. Of a procedure that commits by itself nobody can tell.
 */
EVPQ_API bool evpq_error_retry_safe(const evpq_error *err);

/**
 * The five characters of the server's SQLSTATE (PostgreSQL manual, appendix A); "" when the server
 * gave none. It may be there for EVPQ_ECONNECT and EVPQ_EDISCONNECTED too.
 */
EVPQ_API const char *evpq_error_sqlstate(const evpq_error *err);

/** The server's severity, not translated: "ERROR", "FATAL"; "" when there is none. */
EVPQ_API const char *evpq_error_severity(const evpq_error *err);
/** The server's detail; "" when there is none. May quote data. */
EVPQ_API const char *evpq_error_detail(const evpq_error *err);
/** The server's hint, or evpq's of what to do; "" when there is none. */
EVPQ_API const char *evpq_error_hint(const evpq_error *err);
/** The name of the violated constraint; "" when there is none. */
EVPQ_API const char *evpq_error_constraint(const evpq_error *err);
/** Where in the statement, in characters from 1; 0 when the server did not say. */
EVPQ_API uint32_t evpq_error_position(const evpq_error *err);

/** Of no statement of a batch. */
#define EVPQ_NO_STATEMENT UINT32_MAX

/** Which statement of its batch has failed, from 0; also that which the server has stopped
 * (server_timeout). EVPQ_NO_STATEMENT when it was none of them: the deadline of the batch, a lost
 * connection, the COMMIT. */
EVPQ_API uint32_t evpq_error_statement(const evpq_error *err);

EVPQ_END_DECLS

#endif /* EVPQ_ERROR_H */
