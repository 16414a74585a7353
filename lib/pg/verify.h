/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_LIB_PG_VERIFY_H
#define EVPQ_LIB_PG_VERIFY_H

/*
 * Why a server's certificate was not believed. libpq says "certificate verify
 * failed" and drops what knows more; so that is held until it has failed.
 */

#include <libpq-fe.h>

/* What OpenSSL knows of one handshake; NULL: nothing is held. */
typedef struct ssl_st evpq__handshake;

/* Takes hold of the handshake of a connection that is being made, once it has one. */
void evpq__verify_hold(evpq__handshake **handshake, PGconn *conn);
/* "certificate has expired"; NULL when the certificate is not what failed. Static. */
const char *evpq__verify_problem(const evpq__handshake *handshake);
void evpq__verify_drop(evpq__handshake **handshake);

#endif /* EVPQ_LIB_PG_VERIFY_H */
