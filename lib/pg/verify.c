/* SPDX-License-Identifier: MIT */
#include "pg/verify.h"

#include <openssl/x509_vfy.h>
#include <string.h>

/* libpq brings libssl along, or does without. */
extern int SSL_up_ref(evpq__handshake *ssl) __attribute__((weak));
extern void SSL_free(evpq__handshake *ssl) __attribute__((weak));
extern long SSL_get_verify_result(const evpq__handshake *ssl) __attribute__((weak));

void evpq__verify_hold(evpq__handshake **handshake, PGconn *conn)
{
    if (*handshake || !SSL_up_ref || !SSL_free || !SSL_get_verify_result)
        return;
    evpq__handshake *ssl = PQsslStruct(conn, "OpenSSL");
    if (ssl && SSL_up_ref(ssl) == 1)
        *handshake = ssl;
}

const char *evpq__verify_problem(const evpq__handshake *handshake)
{
    long result = handshake ? SSL_get_verify_result(handshake) : X509_V_OK;
    return result == X509_V_OK ? NULL : X509_verify_cert_error_string(result);
}

void evpq__verify_drop(evpq__handshake **handshake)
{
    if (*handshake)
        SSL_free(*handshake);
    *handshake = NULL;
}
