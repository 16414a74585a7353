/* SPDX-License-Identifier: MIT */
#ifndef EVPQ_TESTS_CERTIFICATES_H
#define EVPQ_TESTS_CERTIFICATES_H

/* Certificates, good and bad ones, made when they are needed: each with a key of its own. */

struct certificate_request {
    const char *path;   /* PATH.crt and PATH.key are written */
    const char *name;   /* the subject's common name */
    const char *dns;    /* the host it is for; NULL: a client, or a CA */
    int days;           /* that it is valid from yesterday on; 0: it is over since an hour */
    const char *issuer; /* the path of the CA that signs it; NULL: itself */
};

/* Fails the case where it cannot. */
void certificate_make(const struct certificate_request *request);
/* Writes ISSUER.crl, in which the certificates of these paths, up to a NULL, are revoked. */
void certificate_revoke(const char *issuer, const char *const *paths);

#endif /* EVPQ_TESTS_CERTIFICATES_H */
