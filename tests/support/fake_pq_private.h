/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_FAKE_PQ_PRIVATE_H
#define EVPQ_TESTS_FAKE_PQ_PRIVATE_H

/* What the files of the fake libpq share. */

#include <libpq-fe.h>
#include <stddef.h>

/* Zeroed, and counted as alive. */
void *fake_pq_make(size_t size);
void fake_pq_destroy(void *made);
/* Each descriptor has a number of its own. */
int fake_pq_next_fd(void);
char *fake_copy(const char *text);
PGresult *fake_result_new(ExecStatusType status, int rows, size_t bytes);
PGresult *fake_error_new(ExecStatusType status, const char *severity, const char *sqlstate,
                         const char *message);
/* The signal reaches the backend, if there still is one, and something runs there. */
void fake_pg_canceled(const PGconn *of);
void fake_pq_cancel_reset(void);
void fake_pq_socket_reset(void);
/* errno of a socket that has nothing to read. */
int fake_pq_socket_error(void);

#endif /* EVPQ_TESTS_FAKE_PQ_PRIVATE_H */
