/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "page/token.h"
#include "pg/value.h"

/* Seconds of the Unix time, for these tests. */
enum { NOW = 1000000 };

/* ---- walks and positions ---- */

static struct evpq__walk walk_of(const char *sql, const char *order_by, const evpq_value *params,
                                 size_t count)
{
    struct evpq__keyset keyset = {0};
    struct evpq__walk walk;
    if (order_by)
        assert_null(evpq__keyset_parse(&keyset, order_by));
    assert_true(evpq__walk_init(&walk, sql, strlen(sql), &keyset, params, count));
    return walk;
}

static struct evpq__walk keyset_walk(void)
{
    const evpq_value params[] = {evpq_int8(7), evpq_text("x")};
    return walk_of("SELECT * FROM t", "a DESC, b, c NULLS FIRST", params, 2);
}

static struct evpq__walk offset_walk(void)
{
    return walk_of("SELECT * FROM t", NULL, NULL, 0);
}

static char *encoded(const struct evpq__walk *walk, const struct evpq__position *position)
{
    char *token = NULL;
    assert_int_equal(evpq__token_encode(&token, walk, position, NOW), EVPQ_OK);
    return token;
}

/* A token behind ("2024-01-01 00:00:00.000001+00", NULL, some bytes with a NUL inside). */
static char *keyset_token(const struct evpq__walk *walk)
{
    evpq_value keys[] = {
        evpq__value_raw(EVPQ__OID_TIMESTAMPTZ, false, "2024-01-01 00:00:00.000001+00", 29),
        evpq__value_raw(EVPQ__OID_INT8, false, NULL, 0),
        evpq__value_raw(EVPQ__OID_BYTEA, true, "\0\1\xff", 3),
    };
    return encoded(walk, &(struct evpq__position){.keys = keys, .nulls = {false, true, false}});
}

static char *offset_token(const struct evpq__walk *walk)
{
    return encoded(walk, &(struct evpq__position){.offset = 123456789012345});
}

static int decoded(const struct evpq__walk *walk, const char *text)
{
    struct evpq__token token;
    return evpq__token_decode(&token, walk, text, false, NOW);
}

/* ---- tests ---- */

static void order_columns_come_back_as_they_went(void **state)
{
    (void)state;
    struct evpq__walk walk = keyset_walk();
    struct evpq__token token;
    char *text = keyset_token(&walk);
    assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW), EVPQ_OK);
    assert_false(token.position.nulls[0]);
    assert_true(token.position.nulls[1]);
    assert_false(token.position.nulls[2]);

    void *block = evpq__alloc(evpq__params_size(token.position.keys, 3));
    struct evpq__params params;
    evpq__params_write(&params, block, token.position.keys, 3);
    assert_int_equal(params.types[0], EVPQ__OID_TIMESTAMPTZ);
    assert_int_equal(params.formats[0], 0);
    assert_string_equal(params.values[0], "2024-01-01 00:00:00.000001+00");
    assert_int_equal(params.types[1], EVPQ__OID_INT8);
    assert_null(params.values[1]);
    assert_int_equal(params.types[2], EVPQ__OID_BYTEA);
    assert_int_equal(params.formats[2], 1);
    assert_int_equal(params.lengths[2], 3);
    assert_memory_equal(params.values[2], "\0\1\xff", 3);
    evpq__free(block);

    char *again = encoded(&walk, &token.position);
    assert_string_equal(again, text);
    evpq__free(again);
    evpq__free(text);
}

static void how_columns_are_compared_comes_back(void **state)
{
    (void)state;
    struct evpq__walk walk = walk_of("SELECT * FROM t", "a", NULL, 0);
    struct evpq__token token;
    evpq_value key = evpq_int8(1);
    struct evpq__position position = {.keys = &key};
    static const struct {
        uint32_t types[2];
        const char *collations[2];
    } ways[] = {
        {{25, 23}, {"\"pg_catalog\".\"default\"", ""}},
        {{25, 23}, {"\"pg_catalog\".\"C\"", ""}},
        {{25, 23}, {"", "\"pg_catalog\".\"default\""}},
        {{1043, 23}, {"\"pg_catalog\".\"default\"", ""}},
        {{25, 20}, {"\"pg_catalog\".\"default\"", ""}},
    };
    unsigned char made[5][EVPQ__COMPARE_SIZE];
    for (size_t i = 0; i < 5; i++) {
        assert_true(evpq__compare_digest(made[i], ways[i].types, ways[i].collations, 2));
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(made[i], made[j], sizeof(made[i]));
        memcpy(position.compare, made[i], sizeof(made[i]));
        char *text = encoded(&walk, &position);
        assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW), EVPQ_OK);
        assert_memory_equal(token.position.compare, made[i], sizeof(made[i]));
        evpq__free(text);
    }
}

static void an_offset_comes_back_as_it_went(void **state)
{
    (void)state;
    struct evpq__walk walk = offset_walk();
    struct evpq__token token;
    char *text = offset_token(&walk);
    assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW), EVPQ_OK);
    assert_true(token.position.offset == 123456789012345);
    evpq__free(text);
}

static void a_token_needs_no_escaping_in_a_url(void **state)
{
    (void)state;
    struct evpq__walk walk = offset_walk();
    for (int64_t offset = 0; offset < 500; offset++) {
        char *text = encoded(&walk, &(struct evpq__position){.offset = offset});
        size_t plain = strspn(text,
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                              "0123456789-_");
        assert_int_equal(plain, strlen(text));
        assert_int_equal(decoded(&walk, text), EVPQ_OK);
        evpq__free(text);
    }
}

/* Every change of one character, which every flip of a bit is, and every truncation. */
static void check_damage(const struct evpq__walk *walk, char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        char was = text[i];
        for (int c = 1; c < 256; c++) {
            text[i] = (char)c;
            assert_int_equal(decoded(walk, text), text[i] == was ? EVPQ_OK : EVPQ_EINVALID);
        }
        text[i] = was;
    }
    while (length-- > 0) {
        text[length] = '\0';
        assert_int_equal(decoded(walk, text), EVPQ_EINVALID);
    }
    evpq__free(text);
}

static void a_changed_or_shortened_token_is_refused(void **state)
{
    (void)state;
    struct evpq__walk keyset = keyset_walk(), offset = offset_walk();
    check_damage(&keyset, keyset_token(&keyset));
    check_damage(&offset, offset_token(&offset));
}

static void base64_of_another_dress_is_refused(void **state)
{
    (void)state;
    struct evpq__walk walk = offset_walk();
    char *text = offset_token(&walk); /* 26 bytes: 35 characters and one of padding */
    static const char *const dresses[] = {"%s=", "%s==", "%sA",  "%sAAAA", "%s ",
                                          " %s", "%s\n", "\n%s", "%s%%",   "%s-"};
    for (size_t i = 0; i < sizeof(dresses) / sizeof(*dresses); i++) {
        char other[128] = "";
        const char *place = strstr(dresses[i], "%s");
        strncat(other, dresses[i], (size_t)(place - dresses[i]));
        strcat(other, text);
        strcat(other, place + 2);
        assert_int_equal(decoded(&walk, other), EVPQ_EINVALID);
    }
    evpq__free(text);

    /* The same bits in the alphabet of RFC 4648, section 4. */
    for (int64_t number = 0;; number++) {
        text = encoded(&walk, &(struct evpq__position){.offset = number});
        char *special = strpbrk(text, "-_");
        if (special)
            *special = *special == '-' ? '+' : '/';
        assert_int_equal(decoded(&walk, text), special ? EVPQ_EINVALID : EVPQ_OK);
        evpq__free(text);
        if (special)
            break;
    }
}

static void a_token_of_another_walk_is_refused(void **state)
{
    (void)state;
    struct evpq__walk walk = keyset_walk();
    char *text = keyset_token(&walk);
    assert_int_equal(decoded(&walk, text), EVPQ_OK);

    const evpq_value same[] = {evpq_int8(7), evpq_text("x")};
    const evpq_value value[] = {evpq_int8(8), evpq_text("x")};
    const evpq_value type[] = {evpq_int4(7), evpq_text("x")};
    const evpq_value null[] = {evpq_int8(7), evpq_text(NULL)};
    const evpq_value empty[] = {evpq_int8(7), evpq_text("")};
    const evpq_value format[] = {evpq_int8(7), evpq__value_raw(EVPQ__OID_TEXT, false, "x", 1)};
    const char *sql = "SELECT * FROM t", *order = "a DESC, b, c NULLS FIRST";
    const struct evpq__walk others[] = {
        walk_of("SELECT * FROM u", order, same, 2),
        walk_of("SELECT * FROM t ", order, same, 2),
        walk_of(sql, "a DESC, b DESC, c NULLS FIRST", same, 2),
        walk_of(sql, "a DESC, b, c", same, 2),
        walk_of(sql, "a DESC, c NULLS FIRST, b", same, 2),
        walk_of(sql, "a DESC, b, d NULLS FIRST", same, 2),
        walk_of(sql, "a DESC, b", same, 2),
        walk_of(sql, NULL, same, 2),
        walk_of(sql, order, value, 2),
        walk_of(sql, order, type, 2),
        walk_of(sql, order, null, 2),
        walk_of(sql, order, empty, 2),
        walk_of(sql, order, format, 2),
        walk_of(sql, order, same, 1),
        walk_of(sql, order, NULL, 0),
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        assert_int_equal(decoded(&others[i], text), EVPQ_EINVALID);
    evpq__free(text);
}

static void where_one_name_ends_and_the_next_begins_matters(void **state)
{
    (void)state;
    struct evpq__walk walk = walk_of("SELECT 1", "a, \"b\1c\" DESC NULLS LAST", NULL, 0);
    struct evpq__walk other = walk_of("SELECT 1", "\"a\1b\", c DESC NULLS LAST", NULL, 0);
    assert_memory_not_equal(walk.digest, other.digest, sizeof(walk.digest));
}

static void how_the_order_is_written_does_not_matter(void **state)
{
    (void)state;
    const evpq_value params[] = {evpq_int8(7), evpq_text("x")};
    struct evpq__walk walk = keyset_walk();
    struct evpq__walk other =
        walk_of("SELECT * FROM t", "\"a\" desc nulls first,B asc,c NULLS FIRST", params, 2);
    char *text = keyset_token(&walk);
    assert_int_equal(decoded(&other, text), EVPQ_OK);
    evpq__free(text);
}

/* One text column of so many bytes. */
static int encode_long(char **out, size_t length)
{
    static char data[EVPQ__TOKEN_BYTES + 1];
    memset(data, 'x', sizeof(data));
    struct evpq__walk walk = walk_of("SELECT * FROM t", "a", NULL, 0);
    evpq_value key = evpq__value_raw(EVPQ__OID_TEXT, true, data, length);
    int code = evpq__token_encode(out, &walk, &(struct evpq__position){.keys = &key}, NOW);
    if (code == EVPQ_OK)
        assert_int_equal(decoded(&walk, *out), EVPQ_OK);
    return code;
}

static void a_token_has_at_most_4096_characters(void **state)
{
    (void)state;
    char *text = NULL;
    size_t most = 3072 - 28 - EVPQ__COMPARE_SIZE - 9;
    assert_int_equal(encode_long(&text, most), EVPQ_OK);
    assert_int_equal(strlen(text), 4096);

    char longer[4100];
    strcpy(longer, text);
    strcat(longer, "A");
    struct evpq__walk walk = walk_of("SELECT * FROM t", "a", NULL, 0);
    assert_int_equal(decoded(&walk, longer), EVPQ_EINVALID);
    evpq__free(text);

    text = NULL;
    assert_int_equal(encode_long(&text, most + 1), EVPQ_EINVALID);
    assert_int_equal(encode_long(&text, EVPQ__TOKEN_BYTES + 1), EVPQ_EINVALID);
    assert_null(text);
}

static void a_megabyte_of_token_is_refused_unread(void **state)
{
    (void)state;
    struct evpq__walk walk = offset_walk();
    size_t size = 1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'A', size); /* no NUL: it would be read to its end and beyond */
    assert_int_equal(decoded(&walk, text), EVPQ_EINVALID);
    free(text);
}

static void garbage_is_refused(void **state)
{
    (void)state;
    struct evpq__walk keyset = keyset_walk(), offset = offset_walk();
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        "0123456789-_";
    unsigned short seed[3] = {1, 2, 3};
    for (int round = 0; round < 20000; round++) {
        char text[200];
        size_t length = (size_t)(erand48(seed) * sizeof(text));
        for (size_t i = 0; i < length; i++)
            text[i] = round % 2 ? alphabet[(size_t)(erand48(seed) * 64)]
                                : (char)(1 + (int)(erand48(seed) * 255));
        text[length] = '\0';
        assert_int_equal(decoded(&keyset, text), EVPQ_EINVALID);
        assert_int_equal(decoded(&offset, text), EVPQ_EINVALID);
    }
}

/* Whoever knows a walk can make the seal: what it seals is not trusted either. */
static int decode_headed(const struct evpq__walk *walk, const unsigned char head[12],
                         const void *payload, size_t length)
{
    unsigned char bytes[256], digest[32], hashed[300];
    char text[400];
    memcpy(hashed, walk->digest, 32);
    memcpy(hashed + 32, head, 12);
    memcpy(hashed + 44, payload, length);
    assert_int_equal(EVP_Digest(hashed, 44 + length, digest, NULL, EVP_sha256(), NULL), 1);
    memcpy(bytes, head, 12);
    memcpy(bytes + 12, digest, 16);
    memcpy(bytes + 28, payload, length);
    EVP_EncodeBlock((unsigned char *)text, bytes, (int)(28 + length));
    text[strcspn(text, "=")] = '\0';
    for (char *c = text; *c; c++)
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
    return decoded(walk, text);
}

static int decode_forged(const struct evpq__walk *walk, const void *payload, size_t length)
{
    const unsigned char head[12] = {3, 0, (unsigned char)walk->columns};
    return decode_headed(walk, head, payload, length);
}

static void a_forged_head_is_read_with_care(void **state)
{
    (void)state;
    static const struct {
        unsigned char head[12];
        int code;
    } cases[] = {
        {{3}, EVPQ_OK},
        {{2}, EVPQ_EINVALID},
        {{4}, EVPQ_EINVALID},
        {{3, 1}, EVPQ_EINVALID},                                       /* the other direction */
        {{3, 2}, EVPQ_EINVALID},                                       /* signed, it says */
        {{3, 4}, EVPQ_EINVALID},                                       /* no such flag */
        {{3, 0, 1}, EVPQ_EINVALID},                                    /* of one column */
        {{3, 0, 0, 0, 0, 0, 0, 0, 0, 0xf, 0x42, 0x40}, EVPQ_EINVALID}, /* expired now */
        {{3, 0, 0, 0, 0, 0, 0, 0, 0, 0xf, 0x42, 0x41}, EVPQ_OK},
        {{3, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EVPQ_OK},
    };
    struct evpq__walk walk = offset_walk();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(decode_headed(&walk, cases[i].head, "\0\0\0\0\0\0\0\1", 8), cases[i].code);
}

static void a_forged_offset_is_read_with_care(void **state)
{
    (void)state;
    struct evpq__walk walk = offset_walk();
    assert_int_equal(decode_forged(&walk, "\0\0\0\0\0\0\0\1", 8), EVPQ_OK);
    assert_int_equal(decode_forged(&walk, "\0\0\0\0\0\0\0\1", 7), EVPQ_EINVALID);
    assert_int_equal(decode_forged(&walk, "\0\0\0\0\0\0\0\1", 9), EVPQ_EINVALID);
    assert_int_equal(decode_forged(&walk, "", 0), EVPQ_EINVALID);
    assert_int_equal(decode_forged(&walk, "\xff\xff\xff\xff\xff\xff\xff\xff", 8), EVPQ_EINVALID);
    assert_int_equal(decode_forged(&walk, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8), EVPQ_EINVALID);
}

static void forged_columns_are_read_with_care(void **state)
{
    (void)state;
    struct evpq__walk one = walk_of("SELECT 1", "a", NULL, 0);
    struct evpq__walk two = walk_of("SELECT 1", "a, b", NULL, 0);
    static const struct {
        const char *payload;
        size_t length;
        int code;
    } cases[] = {
        {"\0\0\0\0\x19\0\0\0\1x", 10, EVPQ_OK},
        {"\1\0\0\0\x19\0\0\0\1x", 10, EVPQ_OK},
        {"\2\0\0\0\x19\0\0\0\0", 9, EVPQ_OK},
        {"\0\0\0\0\x19\0\0\0\0", 9, EVPQ_OK},
        {"", 0, EVPQ_EINVALID},
        {"\0\0\0\0\x19\0\0\0", 8, EVPQ_EINVALID},             /* a head cut off */
        {"\0\0\0\0\x19\0\0\0\2x", 10, EVPQ_EINVALID},         /* a value cut off */
        {"\0\0\0\0\x19\xff\xff\xff\xffx", 10, EVPQ_EINVALID}, /* of 4 GiB */
        {"\0\0\0\0\x19\0\0\0\1xy", 11, EVPQ_EINVALID},        /* something behind it */
        {"\2\0\0\0\x19\0\0\0\1x", 10, EVPQ_EINVALID},         /* a NULL with bytes */
        {"\3\0\0\0\x19\0\0\0\1x", 10, EVPQ_EINVALID},         /* no such format */
        {"\0\0\0\0\x19\0\0\0\1\0", 10, EVPQ_EINVALID},        /* text with a NUL inside */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char payload[EVPQ__COMPARE_SIZE + 16] = "how it compares";
        size_t length = EVPQ__COMPARE_SIZE + cases[i].length;
        memcpy(payload + EVPQ__COMPARE_SIZE, cases[i].payload, cases[i].length);
        assert_int_equal(decode_forged(&one, payload, length), cases[i].code);
        assert_int_equal(decode_forged(&two, payload, length), EVPQ_EINVALID);
    }
    assert_int_equal(decode_forged(&one, "", 0), EVPQ_EINVALID);
    assert_int_equal(decode_forged(&one, "how it compare", EVPQ__COMPARE_SIZE - 1), EVPQ_EINVALID);

    unsigned short seed[3] = {4, 5, 6};
    for (int round = 0; round < 20000; round++) {
        unsigned char payload[56];
        size_t length = (size_t)(erand48(seed) * sizeof(payload));
        for (size_t i = 0; i < length; i++) /* small numbers, so that some make sense */
            payload[i] = (unsigned char)(erand48(seed) * erand48(seed) * erand48(seed) * 16);
        (void)decode_forged(&one, payload, length);
        (void)decode_forged(&two, payload, length);
    }
}

/* ---- signed ---- */

static const evpq_secret secrets[] = {
    {.id = 7, .bytes = "0123456789abcdef", .length = 16},
    {.id = 3, .bytes = "fedcba9876543210!", .length = 17},
    {.id = 9, .bytes = "another secret of a good length", .length = 31},
};

static struct evpq__walk signed_walk(size_t first, size_t count)
{
    struct evpq__walk walk = keyset_walk();
    walk.secrets = &secrets[first];
    walk.secrets_count = count;
    return walk;
}

static void a_signed_token_comes_back(void **state)
{
    (void)state;
    struct evpq__walk walk = signed_walk(0, 1);
    char *text = keyset_token(&walk);
    struct evpq__token token;
    assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW), EVPQ_OK);
    assert_int_equal(token.keys[2].length, 3);
    evpq__free(text);
}

static void each_bit_of_a_signed_token_counts(void **state)
{
    (void)state;
    struct evpq__walk walk = signed_walk(0, 1);
    check_damage(&walk, keyset_token(&walk));
}

static void secrets_may_be_rotated(void **state)
{
    (void)state;
    struct evpq__walk old = signed_walk(1, 1), both = signed_walk(0, 2), other = signed_walk(2, 1);
    char *by_old = keyset_token(&old), *by_new = keyset_token(&both);
    assert_int_equal(decoded(&both, by_old), EVPQ_OK);
    assert_int_equal(decoded(&both, by_new), EVPQ_OK);
    assert_int_equal(decoded(&old, by_new), EVPQ_EINVALID); /* the first of both has signed */
    assert_int_equal(decoded(&other, by_old), EVPQ_EINVALID);
    evpq__free(by_old);
    evpq__free(by_new);
}

static void a_secret_of_the_same_number_is_not_the_same(void **state)
{
    (void)state;
    static const evpq_secret impostor = {.id = 7, .bytes = "0123456789abcdeF", .length = 16};
    struct evpq__walk walk = signed_walk(0, 1), other = keyset_walk();
    other.secrets = &impostor;
    other.secrets_count = 1;
    char *text = keyset_token(&other);
    assert_int_equal(decoded(&walk, text), EVPQ_EINVALID);
    evpq__free(text);
}

static void signed_and_not_signed_do_not_mix(void **state)
{
    (void)state;
    struct evpq__walk is_signed = signed_walk(0, 1), plain = keyset_walk();
    char *one = keyset_token(&is_signed), *other = keyset_token(&plain);
    assert_int_equal(decoded(&plain, one), EVPQ_EINVALID);
    assert_int_equal(decoded(&is_signed, other), EVPQ_EINVALID);
    evpq__free(one);
    evpq__free(other);
}

static void a_token_expires(void **state)
{
    (void)state;
    struct evpq__walk walk = signed_walk(0, 1);
    walk.ttl_s = 60;
    char *text = keyset_token(&walk);
    struct evpq__token token;
    assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW + 59), EVPQ_OK);
    assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW + 60), EVPQ_EINVALID);
    evpq__free(text);
}

static void a_token_goes_one_way(void **state)
{
    (void)state;
    struct evpq__walk walk = offset_walk();
    struct evpq__token token;
    char *text = encoded(&walk, &(struct evpq__position){.offset = 5, .before = true});
    assert_int_equal(evpq__token_decode(&token, &walk, text, true, NOW), EVPQ_OK);
    assert_true(token.position.before);
    assert_int_equal(evpq__token_decode(&token, &walk, text, false, NOW), EVPQ_EINVALID);
    evpq__free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_columns_come_back_as_they_went),
        cmocka_unit_test(how_columns_are_compared_comes_back),
        cmocka_unit_test(an_offset_comes_back_as_it_went),
        cmocka_unit_test(a_token_needs_no_escaping_in_a_url),
        cmocka_unit_test(a_changed_or_shortened_token_is_refused),
        cmocka_unit_test(base64_of_another_dress_is_refused),
        cmocka_unit_test(a_token_of_another_walk_is_refused),
        cmocka_unit_test(where_one_name_ends_and_the_next_begins_matters),
        cmocka_unit_test(how_the_order_is_written_does_not_matter),
        cmocka_unit_test(a_token_has_at_most_4096_characters),
        cmocka_unit_test(a_megabyte_of_token_is_refused_unread),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_forged_head_is_read_with_care),
        cmocka_unit_test(a_forged_offset_is_read_with_care),
        cmocka_unit_test(forged_columns_are_read_with_care),
        cmocka_unit_test(a_signed_token_comes_back),
        cmocka_unit_test(each_bit_of_a_signed_token_counts),
        cmocka_unit_test(secrets_may_be_rotated),
        cmocka_unit_test(a_secret_of_the_same_number_is_not_the_same),
        cmocka_unit_test(signed_and_not_signed_do_not_mix),
        cmocka_unit_test(a_token_expires),
        cmocka_unit_test(a_token_goes_one_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
