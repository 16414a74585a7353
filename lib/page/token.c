/* SPDX-License-Identifier: MIT */

/*
 * A token is base64url without padding (RFC 4648, section 5) of
 *
 *     version       1 byte: 3
 *     flags         1 byte: 1 before a row (else behind it), 2 signed, added
 *     columns       1 byte: of the order; 0 for offset pages
 *     secret        1 byte: its id; 0 when not signed
 *     expiry        8 bytes: seconds of the Unix time, 0 for never
 *     seal          signed: 32 bytes, HMAC-SHA256 (RFC 2104) by the secret; else the first 16 of
 *                   SHA-256; both of the digest of the walk, all that stands before, and
 *                   the payload
 *     payload       offset pages: the offset, 8 bytes
 *                   keyset pages: how the columns are compared, 16 bytes; then for each column its
 *                   format (1 byte: 0 text, 1 binary, 2 NULL), type OID (4 bytes), length (4 bytes)
 *                   and its bytes
 *
 * Numbers are in network byte order. The digest of a walk is SHA-256 of
 *
 *     length (8 bytes) and bytes of the statement, as it is wrapped
 *     number of keys (8 bytes); for each: 1 byte (1 DESC, 2 NULLS FIRST, added), then length (8
 *     bytes) and bytes of its SQL and of its COLLATE
 *     number of parameters (8 bytes); for each: as a column of the payload
 *
 * How columns are compared is the beginning of SHA-256 of, for each, its type OID (8 bytes), then
 * length (8 bytes) and bytes of its collation as `"schema"."name"`. The server tells it before the
 * first page; whoever reads a token looks at it then.
 *
 * The seal binds a token to its walk and makes each of its bits count. Without a secret it is no
 * signature: who knows the statement and its parameters can make a token. So the payload is never
 * trusted.
 */

#include "page/token.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "base/mem.h"
#include "pg/value.h"

enum { VERSION = 3, COLUMN_NULL = 2, FLAG_BEFORE = 1, FLAG_SIGNED = 2 };

/* Places in a token. */
enum {
    AT_VERSION = 0,
    AT_FLAGS = 1,
    AT_COLUMNS = 2,
    AT_SECRET = 3,
    AT_EXPIRY = 4,
    AT_SEAL = 12,
    DIGEST_SIZE = 16,
    HMAC_SIZE = 32,
    COLUMN_HEAD_SIZE = 9,
    OFFSET_SIZE = 8,
};

static void put_number(unsigned char *to, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0; value >>= 8)
        to[i] = (unsigned char)value;
}

static uint64_t get_number(const unsigned char *from, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | from[i];
    return value;
}

/* ---- digests; a step that has failed makes all that follow fail ---- */

struct hash {
    EVP_MD_CTX *context;
    bool ok;
};

static struct hash hash_start(void)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    return (struct hash){context, context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1};
}

static void hash_bytes(struct hash *hash, const void *bytes, size_t length)
{
    hash->ok = hash->ok && EVP_DigestUpdate(hash->context, bytes, length) == 1;
}

static void hash_number(struct hash *hash, uint64_t number)
{
    unsigned char bytes[8];
    put_number(bytes, number, sizeof(bytes));
    hash_bytes(hash, bytes, sizeof(bytes));
}

static void hash_text(struct hash *hash, const char *text)
{
    hash_number(hash, strlen(text));
    hash_bytes(hash, text, strlen(text));
}

static bool hash_end(struct hash *hash, unsigned char digest[32])
{
    hash->ok = hash->ok && EVP_DigestFinal_ex(hash->context, digest, NULL) == 1;
    EVP_MD_CTX_free(hash->context);
    return hash->ok;
}

/* ---- columns: the parameters of a walk, and what it stands behind ---- */

struct encoded {
    struct evpq__params params;
    max_align_t block[];
};

/* To be given to evpq__free(); NULL without memory. */
static struct encoded *encode(const evpq_value *values, size_t count)
{
    struct encoded *encoded = evpq__alloc(sizeof(*encoded) + evpq__params_size(values, count));
    if (encoded)
        evpq__params_write(&encoded->params, encoded->block, values, count);
    return encoded;
}

static void column_head(unsigned char head[COLUMN_HEAD_SIZE], const struct evpq__params *params,
                        int i)
{
    head[0] = (unsigned char)(params->values[i] ? params->formats[i] : COLUMN_NULL);
    put_number(head + 1, params->types[i], 4);
    put_number(head + 5, (uint64_t)params->lengths[i], 4);
}

/* Up to the number of parameters. */
static struct hash hash_order(const char *sql, size_t sql_length, const struct evpq__keyset *keyset,
                              size_t params_count)
{
    struct hash hash = hash_start();
    hash_number(&hash, sql_length);
    hash_bytes(&hash, sql, sql_length);
    hash_number(&hash, keyset->count);
    for (size_t i = 0; i < keyset->count; i++) {
        const struct evpq__key *key = &keyset->keys[i];
        hash_bytes(&hash, &(unsigned char){(unsigned char)(key->descending + 2 * key->nulls_first)},
                   1);
        hash_text(&hash, evpq__key_value(keyset, i));
        hash_text(&hash, evpq__key_collate(keyset, i));
    }
    hash_number(&hash, params_count);
    return hash;
}

bool evpq__walk_init(struct evpq__walk *out, const char *sql, size_t sql_length,
                     const struct evpq__keyset *keyset, const evpq_value *params, size_t count)
{
    struct encoded *encoded = encode(params, count);
    if (!encoded)
        return false;
    struct hash hash = hash_order(sql, sql_length, keyset, count);
    struct hash statement = hash_order(sql, sql_length, keyset, count);
    for (int i = 0; i < encoded->params.count; i++) {
        unsigned char head[COLUMN_HEAD_SIZE];
        column_head(head, &encoded->params, i);
        hash_bytes(&hash, head, sizeof(head));
        hash_bytes(&hash, encoded->params.values[i], (size_t)encoded->params.lengths[i]);
        hash_number(&statement, encoded->params.types[i]);
    }
    evpq__free(encoded);
    *out = (struct evpq__walk){.columns = keyset->count};
    bool made = hash_end(&hash, out->digest);
    return hash_end(&statement, out->statement) && made;
}

bool evpq__compare_digest(unsigned char out[EVPQ__COMPARE_SIZE], const uint32_t *types,
                          const char *const *collations, size_t count)
{
    unsigned char digest[32];
    struct hash hash = hash_start();
    for (size_t i = 0; i < count; i++) {
        hash_number(&hash, types[i]);
        hash_text(&hash, collations[i]);
    }
    bool made = hash_end(&hash, digest);
    memcpy(out, digest, EVPQ__COMPARE_SIZE);
    return made;
}

/* ---- seals ---- */

/* Where the payload begins. */
static size_t payload_at(bool is_signed)
{
    return AT_SEAL + (is_signed ? HMAC_SIZE : DIGEST_SIZE);
}

/* Writes the seal that belongs to these bytes: 16 or 32 bytes. False without memory. */
static bool seal(unsigned char out[HMAC_SIZE], const struct evpq__walk *walk,
                 const evpq_secret *secret, const unsigned char *bytes, size_t length)
{
    size_t payload = payload_at(secret != NULL);
    unsigned char message[sizeof(walk->digest) + EVPQ__TOKEN_BYTES];
    size_t at = 0;
    memcpy(message, walk->digest, sizeof(walk->digest));
    at += sizeof(walk->digest);
    memcpy(message + at, bytes, AT_SEAL);
    at += AT_SEAL;
    memcpy(message + at, bytes + payload, length - payload);
    at += length - payload;
    if (secret)
        return HMAC(EVP_sha256(), secret->bytes, (int)secret->length, message, at, out, NULL);
    struct hash hash = hash_start();
    hash_bytes(&hash, message, at);
    return hash_end(&hash, out);
}

static const evpq_secret *find_secret(const struct evpq__walk *walk, uint8_t id)
{
    for (size_t i = 0; i < walk->secrets_count; i++)
        if (walk->secrets[i].id == id)
            return &walk->secrets[i];
    return NULL;
}

/* ---- base64url ---- */

static void base64url_encode(char out[EVPQ__TOKEN_MAX + 1], const unsigned char *bytes,
                             size_t length)
{
    EVP_EncodeBlock((unsigned char *)out, bytes, (int)length);
    out[strcspn(out, "=")] = '\0';
    for (char *c = out; *c; c++)
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
}

/* How many bytes; 0 when it is not base64url. */
static size_t base64url_decode(unsigned char out[EVPQ__TOKEN_BYTES], const char *text)
{
    char standard[EVPQ__TOKEN_MAX];
    size_t length = strnlen(text, EVPQ__TOKEN_MAX + 1);
    if (length > EVPQ__TOKEN_MAX)
        return 0;
    for (size_t i = 0; i < length; i++)
        standard[i] = (char)(text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
    size_t missing = (4 - length % 4) % 4;
    memset(standard + length, 'A', missing);
    int decoded = EVP_DecodeBlock(out, (unsigned char *)standard, (int)(length + missing));
    if (decoded <= (int)missing)
        return 0;

    /* Padding, white space, the other alphabet, stray bits: they do not come out as they came. */
    char again[EVPQ__TOKEN_MAX + 1];
    size_t size = (size_t)decoded - missing;
    base64url_encode(again, out, size);
    return strcmp(again, text) == 0 ? size : 0;
}

/* ---- tokens ---- */

/* The end of the columns behind `length`; 0 when they are too many bytes. */
static size_t put_columns(unsigned char bytes[EVPQ__TOKEN_BYTES], size_t length,
                          const struct evpq__params *params)
{
    for (int i = 0; i < params->count; i++) {
        size_t size = (size_t)params->lengths[i];
        if (size + COLUMN_HEAD_SIZE > EVPQ__TOKEN_BYTES - length)
            return 0;
        column_head(bytes + length, params, i);
        length += COLUMN_HEAD_SIZE;
        if (size > 0)
            memcpy(bytes + length, params->values[i], size);
        length += size;
    }
    return length;
}

/* EVPQ_OK; EVPQ_EINVALID: too long; EVPQ_ENOMEM. */
static int put_payload(unsigned char bytes[EVPQ__TOKEN_BYTES], size_t *length,
                       const struct evpq__walk *walk, const struct evpq__position *position)
{
    if (walk->columns == 0) {
        put_number(bytes + *length, (uint64_t)position->offset, OFFSET_SIZE);
        *length += OFFSET_SIZE;
        return EVPQ_OK;
    }
    struct encoded *encoded = encode(position->keys, walk->columns);
    if (!encoded)
        return EVPQ_ENOMEM;
    memcpy(bytes + *length, position->compare, EVPQ__COMPARE_SIZE);
    *length = put_columns(bytes, *length + EVPQ__COMPARE_SIZE, &encoded->params);
    evpq__free(encoded);
    return *length ? EVPQ_OK : EVPQ_EINVALID;
}

int evpq__token_encode(char **out, const struct evpq__walk *walk,
                       const struct evpq__position *position, int64_t now_s)
{
    unsigned char bytes[EVPQ__TOKEN_BYTES], sealed[HMAC_SIZE];
    const evpq_secret *secret = walk->secrets_count ? walk->secrets : NULL;
    bytes[AT_VERSION] = VERSION;
    bytes[AT_FLAGS] =
        (unsigned char)((position->before ? FLAG_BEFORE : 0) | (secret ? FLAG_SIGNED : 0));
    bytes[AT_COLUMNS] = (unsigned char)walk->columns;
    bytes[AT_SECRET] = secret ? secret->id : 0;
    put_number(bytes + AT_EXPIRY, walk->ttl_s ? (uint64_t)now_s + walk->ttl_s : 0, 8);
    size_t length = payload_at(secret != NULL);
    int code = put_payload(bytes, &length, walk, position);
    if (code != EVPQ_OK)
        return code;
    if (!seal(sealed, walk, secret, bytes, length))
        return EVPQ_ENOMEM;
    memcpy(bytes + AT_SEAL, sealed, payload_at(secret != NULL) - AT_SEAL);
    char text[EVPQ__TOKEN_MAX + 1];
    base64url_encode(text, bytes, length);
    *out = evpq__strdup(text);
    return *out ? EVPQ_OK : EVPQ_ENOMEM;
}

static bool read_offset(struct evpq__token *token, size_t payload, size_t length)
{
    if (length != payload + OFFSET_SIZE)
        return false;
    uint64_t offset = get_number(token->bytes + payload, OFFSET_SIZE);
    token->position.offset = (int64_t)offset;
    return offset <= INT64_MAX / 2; /* no sum of offsets overflows */
}

static bool read_columns(struct evpq__token *token, size_t payload, size_t count, size_t length)
{
    const unsigned char *at = token->bytes + payload, *end = token->bytes + length;
    if (end - at < EVPQ__COMPARE_SIZE)
        return false;
    memcpy(token->position.compare, at, EVPQ__COMPARE_SIZE);
    at += EVPQ__COMPARE_SIZE;
    for (size_t i = 0; i < count; i++) {
        if (end - at < COLUMN_HEAD_SIZE)
            return false;
        unsigned format = at[0];
        uint32_t type = (uint32_t)get_number(at + 1, 4);
        size_t size = (size_t)get_number(at + 5, 4);
        at += COLUMN_HEAD_SIZE;
        bool null = format == COLUMN_NULL;
        if (format > COLUMN_NULL || size > (size_t)(end - at) || (null && size > 0))
            return false;
        token->position.nulls[i] = null;
        token->position.rows[i] = type >= EVPQ__FIRST_USER_TYPE;
        token->keys[i] = evpq__value_raw(type, format == 1, null ? NULL : at, size);
        at += size;
    }
    token->position.keys = token->keys;
    return at == end && !evpq__params_problem(token->keys, count);
}

/* Is it of this walk, and in its time? The seal has been looked at. */
static bool head_fits(const unsigned char *bytes, const struct evpq__walk *walk, bool before,
                      int64_t now_s)
{
    uint64_t expiry = get_number(bytes + AT_EXPIRY, 8);
    return bytes[AT_COLUMNS] == walk->columns && !(bytes[AT_FLAGS] & FLAG_BEFORE) == !before &&
           (expiry == 0 || expiry > (uint64_t)now_s);
}

int evpq__token_decode(struct evpq__token *out, const struct evpq__walk *walk, const char *token,
                       bool before, int64_t now_s)
{
    size_t length = base64url_decode(out->bytes, token);
    bool is_signed = walk->secrets_count > 0;
    size_t payload = payload_at(is_signed);
    if (length < payload || out->bytes[AT_VERSION] != VERSION ||
        (out->bytes[AT_FLAGS] & ~FLAG_BEFORE) != (is_signed ? FLAG_SIGNED : 0))
        return EVPQ_EINVALID;
    const evpq_secret *secret = is_signed ? find_secret(walk, out->bytes[AT_SECRET]) : NULL;
    if (is_signed && !secret)
        return EVPQ_EINVALID;
    unsigned char expected[HMAC_SIZE];
    if (!seal(expected, walk, secret, out->bytes, length))
        return EVPQ_ENOMEM;
    if (CRYPTO_memcmp(expected, out->bytes + AT_SEAL, payload - AT_SEAL) != 0 ||
        !head_fits(out->bytes, walk, before, now_s))
        return EVPQ_EINVALID;
    out->position = (struct evpq__position){.before = before};
    bool read = walk->columns ? read_columns(out, payload, walk->columns, length)
                              : read_offset(out, payload, length);
    return read ? EVPQ_OK : EVPQ_EINVALID;
}
