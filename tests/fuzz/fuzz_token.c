/* SPDX-License-Identifier: MIT */

/*
 * Page tokens. The first byte says what the others are: text to decode, a
 * payload behind the right fingerprint (whoever knows the walk can make one),
 * or a position to encode, to decode again, and to damage.
 */

#include <openssl/evp.h>

#include "base/mem.h"
#include "fuzz.h"
#include "page/token.h"
#include "pg/value.h"

enum { WALKS = 5, NOW = 1000000 };

static struct evpq__walk walks[WALKS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const orders[WALKS] = {NULL, "id", "ts DESC, id", "a,b,c,d,e,f,g,h",
                                              "lower(a) COLLATE \"C\", id"};
    static const char sql[] = "SELECT * FROM t";
    (void)argc, (void)argv;
    for (int i = 0; i < WALKS; i++) {
        struct evpq__keyset keyset = {0};
        evpq_value param = evpq_int8(i);
        CHECK(!orders[i] || !evpq__keyset_parse(&keyset, orders[i]));
        CHECK(evpq__walk_init(&walks[i], sql, strlen(sql), &keyset, &param, 1));
    }
    return 0;
}

static void check_position(const struct evpq__walk *walk, const struct evpq__token *token)
{
    if (walk->columns == 0) {
        CHECK(token->position.offset >= 0 && token->position.offset <= INT64_MAX / 2);
        return;
    }
    CHECK(token->position.keys == token->keys);
    CHECK(!evpq__params_problem(token->keys, walk->columns));
    for (size_t i = 0; i < walk->columns; i++) {
        const unsigned char *data = token->keys[i].data;
        CHECK(token->position.nulls[i] == !data);
        CHECK(!data || (data >= token->bytes &&
                        data + token->keys[i].length <= token->bytes + sizeof(token->bytes)));
    }
}

/* It has an expiry, which its position does not tell. */
static int expires(const struct evpq__token *token)
{
    static const unsigned char never[8];
    return memcmp(token->bytes + 4, never, sizeof(never)) != 0;
}

/* A token that is taken is the one that its position makes: there is no second way to write it. */
static int check_direction(const struct evpq__walk *walk, const char *text, bool before)
{
    struct evpq__token *token = malloc(sizeof(*token));
    CHECK(token);
    int code = evpq__token_decode(token, walk, text, before, NOW);
    CHECK(code == EVPQ_OK || code == EVPQ_EINVALID);
    if (code == EVPQ_OK) {
        char *again = NULL;
        CHECK(token->position.before == before);
        check_position(walk, token);
        CHECK(evpq__token_encode(&again, walk, &token->position, NOW) == EVPQ_OK);
        CHECK(expires(token) || strcmp(again, text) == 0);
        evpq__free(again);
    }
    free(token);
    return code;
}

/* It leads one way at most. */
static int check_decode(const struct evpq__walk *walk, const char *text)
{
    int forward = check_direction(walk, text, false), backward = check_direction(walk, text, true);
    CHECK(forward != EVPQ_OK || backward != EVPQ_OK);
    return forward == EVPQ_OK ? forward : backward;
}

static void fuzz_any_text(struct fuzz_input *input)
{
    char *text = fuzz_text(input);
    int taken = 0;
    for (int i = 0; i < WALKS; i++)
        taken += check_decode(&walks[i], text) == EVPQ_OK;
    CHECK(taken <= 1);
    free(text);
}

static void fuzz_payload(struct fuzz_input *input, const struct evpq__walk *walk)
{
    enum { HEAD = 12, SEAL = 16, MOST = EVPQ__TOKEN_BYTES - HEAD - SEAL };
    unsigned char bytes[EVPQ__TOKEN_BYTES] = {2, fuzz_byte(input) & 1,
                                              (unsigned char)walk->columns};
    unsigned char hashed[32 + HEAD + MOST], digest[32];
    char text[EVPQ__TOKEN_MAX + 5];
    size_t length = input->left < MOST ? input->left : MOST;
    memcpy(hashed, walk->digest, 32);
    memcpy(hashed + 32, bytes, HEAD);
    if (length) {
        memcpy(hashed + 32 + HEAD, input->at, length);
        memcpy(bytes + HEAD + SEAL, input->at, length);
    }
    CHECK(EVP_Digest(hashed, 32 + HEAD + length, digest, NULL, EVP_sha256(), NULL) == 1);
    memcpy(bytes + HEAD, digest, SEAL);
    EVP_EncodeBlock((unsigned char *)text, bytes, (int)(HEAD + SEAL + length));
    text[strcspn(text, "=")] = '\0';
    for (char *c = text; *c; c++)
        *c = (char)(*c == '+' ? '-' : *c == '/' ? '_' : *c);
    check_decode(walk, text);
    for (int i = 0; i < WALKS; i++)
        CHECK(&walks[i] == walk || check_decode(&walks[i], text) == EVPQ_EINVALID);
}

/* One change of the text: another character, one less, or one more. */
static void check_damage(struct fuzz_input *input, const struct evpq__walk *walk, const char *text)
{
    size_t length = strlen(text);
    size_t place = ((size_t)fuzz_byte(input) << 8 | fuzz_byte(input)) % (length + 1);
    char c = (char)(fuzz_byte(input) | 1);
    char *other = malloc(length + 2);
    CHECK(other);
    memcpy(other, text, length + 1);
    switch (fuzz_byte(input) % 3) {
    case 0:
        other[place] = place < length ? c : '\0';
        break;
    case 1:
        if (place < length)
            memmove(other + place, other + place + 1, length - place);
        break;
    default:
        memmove(other + place + 1, other + place, length + 1 - place);
        other[place] = c;
    }
    CHECK(check_decode(walk, other) == (strcmp(other, text) == 0 ? EVPQ_OK : EVPQ_EINVALID));
    free(other);
}

static void fuzz_position(struct fuzz_input *input, const struct evpq__walk *walk)
{
    struct evpq__position position = {0};
    evpq_value keys[EVPQ__KEYS_MAX];
    unsigned char *values[EVPQ__KEYS_MAX];
    for (size_t i = 0; i < sizeof(position.offset); i++)
        position.offset |= (int64_t)((uint64_t)fuzz_byte(input) << 8 * i);
    position.offset &= INT64_MAX / 2;
    position.before = fuzz_byte(input) & 1;
    for (size_t i = 0; i < walk->columns; i++) {
        unsigned shape = fuzz_byte(input);
        size_t length = (size_t)fuzz_byte(input) << (shape >> 4 & 7), got;
        uint32_t type = shape & 8 ? (uint32_t)fuzz_byte(input) << 24 : EVPQ__OID_TEXT;
        values[i] = fuzz_bytes(input, length, &got);
        position.nulls[i] = (shape & 3) == 3;
        keys[i] = evpq__value_raw(type, shape & 1, position.nulls[i] ? NULL : values[i], got);
    }
    position.keys = keys;
    char *text = NULL;
    if (!evpq__params_problem(keys, walk->columns)) {
        int code = evpq__token_encode(&text, walk, &position, NOW);
        CHECK(code == EVPQ_OK || code == EVPQ_EINVALID);
        CHECK((code == EVPQ_OK) == (text != NULL));
    }
    if (text) {
        CHECK(strlen(text) <= EVPQ__TOKEN_MAX);
        CHECK(check_decode(walk, text) == EVPQ_OK);
        for (int i = 0; i < 8; i++)
            check_damage(input, walk, text);
        evpq__free(text);
    }
    for (size_t i = 0; i < walk->columns; i++)
        free(values[i]);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct fuzz_input input = {data, size};
    unsigned mode = fuzz_byte(&input);
    const struct evpq__walk *walk = &walks[(mode >> 4) % WALKS];
    if (mode % 3 == 0)
        fuzz_any_text(&input);
    else if (mode % 3 == 1)
        fuzz_payload(&input, walk);
    else
        fuzz_position(&input, walk);
    return 0;
}
