/* SPDX-License-Identifier: MIT */
#include "support/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "support/live.h"

enum { HOUR = 3600, DAY = 24 * HOUR };

static FILE *open_file(const char *path, const char *suffix, const char *mode)
{
    char name[256];
    snprintf(name, sizeof(name), "%s.%s", path, suffix);
    FILE *file = fopen(name, mode);
    assert_non_null(file);
    return file;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void write_both(const char *path, X509 *certificate, EVP_PKEY *key)
{
    FILE *file = open_file(path, "crt", "w");
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    fclose(file);
    file = open_file(path, "key", "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    /* Nobody else may read it, or libpq and the server do not take it. */
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    fclose(file);
}

static X509 *read_certificate(const char *path)
{
    FILE *file = open_file(path, "crt", "r");
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(certificate);
    return certificate;
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *file = open_file(path, "key", "r");
    EVP_PKEY *key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(key);
    return key;
}

static void sign(X509 *certificate, EVP_PKEY *own_key, const char *issuer)
{
    if (!issuer) {
        X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
        assert_true(X509_sign(certificate, own_key, EVP_sha256()) > 0);
        return;
    }
    X509 *ca = read_certificate(issuer);
    EVP_PKEY *ca_key = read_key(issuer);
    X509_set_issuer_name(certificate, X509_get_subject_name(ca));
    assert_true(X509_sign(certificate, ca_key, EVP_sha256()) > 0);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
}

void certificate_make(const struct certificate_request *request)
{
    static long serial;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = X509_new();
    assert_true(key && certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -2 * DAY);
    X509_gmtime_adj(X509_getm_notAfter(certificate),
                    request->days ? (long)request->days * DAY : -HOUR);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)request->name, -1, -1, 0);
    X509_set_pubkey(certificate, key);
    if (request->dns) {
        char names[256];
        snprintf(names, sizeof(names), "DNS:%s", request->dns);
        add_extension(certificate, NID_subject_alt_name, names);
    } else if (!request->issuer) {
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    }
    sign(certificate, key, request->issuer);
    write_both(request->path, certificate, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void add_revoked(X509_CRL *list, const char *path)
{
    X509 *certificate = read_certificate(path);
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *since = X509_gmtime_adj(NULL, -HOUR);
    assert_true(entry && since);
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate));
    X509_REVOKED_set_revocationDate(entry, since);
    assert_int_equal(X509_CRL_add0_revoked(list, entry), 1);
    ASN1_TIME_free(since);
    X509_free(certificate);
}

void certificate_revoke(const char *issuer, const char *const *paths)
{
    X509 *ca = read_certificate(issuer);
    EVP_PKEY *key = read_key(issuer);
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *last = X509_gmtime_adj(NULL, -HOUR), *next = X509_gmtime_adj(NULL, DAY);
    assert_true(list && last && next);
    X509_CRL_set_version(list, 1);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(ca));
    X509_CRL_set1_lastUpdate(list, last);
    X509_CRL_set1_nextUpdate(list, next);
    for (; *paths; paths++)
        add_revoked(list, *paths);
    assert_true(X509_CRL_sign(list, key, EVP_sha256()) > 0);
    FILE *file = open_file(issuer, "crl", "w");
    assert_int_equal(PEM_write_X509_CRL(file, list), 1);
    fclose(file);
    ASN1_TIME_free(last);
    ASN1_TIME_free(next);
    X509_CRL_free(list);
    X509_free(ca);
    EVP_PKEY_free(key);
}
