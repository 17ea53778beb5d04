/* Access tokens: RFC 7635 §6.2, §7 and its appendix A; conformance.md OAUTH. */
#include "check.h"
#include "core/turn_token.h"
#include "exact.h"
#include "vectors.h"

enum {
    TOKEN_MAX = 128,
    NONCE_AT = 2,
    SEALED_AT = NONCE_AT + CRYPTO_IV_SIZE,
};

static struct turn_token_key key_of(const char *kid, const char *key)
{
    struct turn_token_key k = {.until = UINT64_MAX};
    k.kid_len = (uint8_t)strlen(kid);
    memcpy(k.kid, kid, k.kid_len);
    k.key_len = (uint8_t)strlen(key);
    memcpy(k.key, key, k.key_len);
    return k;
}

static const char name[] = "turn.example.org";

/* A token of this plaintext, whatever that is; how long. */
static size_t seal(struct crypto *c, const struct turn_token_key *key, struct span plain,
                   uint8_t out[TOKEN_MAX + 64])
{
    struct wbuf w = wbuf_of(out, TOKEN_MAX + 64);
    wbuf_u16(&w, CRYPTO_IV_SIZE);
    wbuf_bytes(&w, "unique nonce", CRYPTO_IV_SIZE);
    const struct crypto_gcm gcm = {
        .key = span_of(key->key, key->key_len), .iv = out + NONCE_AT, .aad = span_str(name)};
    uint8_t *room = wbuf_room(&w, plain.len + CRYPTO_TAG_SIZE);
    CHECK(room && crypto_seal(c, &gcm, plain, room) == CT_OK);
    return w.pos;
}

/* OAUTH-05, 06, 07, 08, 09: the vectors open for their name and key, and with no bit changed. */
static void check_vector(struct crypto *c, const struct vector_line *line)
{
    struct turn_token_key key = {.until = UINT64_MAX};
    uint8_t bytes[TOKEN_MAX], mac_key[20];
    struct turn_token token;
    key.key_len = (uint8_t)vector_hex(line->word[2], key.key, sizeof key.key);
    size_t len = vector_hex(line->word[5], bytes, sizeof bytes);
    struct span whole = span_of(bytes, len), server = span_str(line->word[3]);
    CHECK_EQ(key.key_len, strcmp(line->word[1], "aes_256_gcm") == 0 ? 32 : 16);
    CHECK_EQ(turn_token_open(c, &key, server, whole, &token), CT_OK);
    CHECK_EQ(vector_hex("5a6b736a7077656f6978586d766e36373533346d", mac_key, 20), 20);
    CHECK(span_eq(span_of(token.mac_key.bytes, token.mac_key.len), span_of(mac_key, 20)));
    CHECK_EQ(token.issued_s, 1410984813);
    CHECK_EQ(token.lifetime, 3600);
    CHECK_EQ(turn_token_open(c, &key, span_str("blackdow.carleon.gov."), whole, &token),
             CT_EINTEGRITY);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_EQ(turn_token_open(c, &key, server, whole, &token),
                 bit < 8 * NONCE_AT ? CT_EVALUE : CT_EINTEGRITY);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    key.key[0] ^= 1;
    CHECK_EQ(turn_token_open(c, &key, server, whole, &token), CT_EINTEGRITY);
}

static void test_vectors(void)
{
    struct crypto *c = crypto_new();
    struct vectors v = vectors_open("keys.txt");
    struct vector_line line;
    size_t seen = 0;
    while (vectors_line(&v, &line))
        if (vector_is(&line, "token")) {
            check_vector(c, &line);
            seen++;
        }
    CHECK_EQ(seen, 2);
    vectors_close(&v);
    crypto_free(c);
}

/* OAUTH-17: cut off anywhere, and with whatever nonce length; a byte beyond would be seen by ASan.
 */
static void test_truncated(void)
{
    struct crypto *c = crypto_new();
    struct turn_token_key key = key_of("k", "0123456789abcdef0123456789abcdef");
    uint8_t bytes[TOKEN_MAX + 64], plain[2 + 20 + 12] = {0, 20};
    struct turn_token token;
    size_t len = seal(c, &key, span_of(plain, sizeof plain), bytes);
    CHECK_EQ(turn_token_open(c, &key, span_str(name), span_of(bytes, len), &token), CT_OK);
    for (size_t n = 0; n < len; n++) {
        struct exact e = exact_of(bytes, n, 0);
        CHECK_EQ(turn_token_open(c, &key, span_str(name), span_of(e.data, n), &token),
                 n < SEALED_AT + CRYPTO_TAG_SIZE ? CT_EVALUE : CT_EINTEGRITY);
        exact_free(&e);
    }
    for (unsigned nonce = 0; nonce <= UINT16_MAX; nonce++) {
        bytes[0] = (uint8_t)(nonce >> 8);
        bytes[1] = (uint8_t)nonce;
        CHECK_EQ(turn_token_open(c, &key, span_str(name), span_of(bytes, len), &token),
                 nonce == CRYPTO_IV_SIZE ? CT_OK : CT_EVALUE);
    }
    CHECK_EQ(turn_token_open(c, &key, span_str(name), span_of(NULL, 0), &token), CT_EVALUE);
    crypto_free(c);
}

/* OAUTH-17: well sealed, but not what a token has to say. */
static void test_blocks(void)
{
    struct crypto *c = crypto_new();
    struct turn_token_key key = key_of("k", "0123456789abcdef");
    for (unsigned key_len = 0; key_len <= TURN_MAC_KEY_MAX + 1; key_len++)
        for (int off = -1; off <= 1; off++) {
            uint8_t bytes[TOKEN_MAX + 64], plain[TOKEN_MAX] = {0, (uint8_t)key_len};
            struct turn_token token;
            size_t n = (size_t)((int)key_len + 2 + 12 + off);
            size_t len = seal(c, &key, span_of(plain, n), bytes);
            bool good = off == 0 && key_len >= TURN_MAC_KEY_MIN && key_len <= TURN_MAC_KEY_MAX;
            CHECK_EQ(turn_token_open(c, &key, span_str(name), span_of(bytes, len), &token),
                     good ? CT_OK : CT_EVALUE);
        }
    crypto_free(c);
}

/* OAUTH-10: |now - timestamp| against lifetime + 5, on both sides and without any wrap-around. */
static void test_time(void)
{
    struct turn_token t = {.issued_s = 1000000, .lifetime = 100};
    CHECK_EQ(turn_token_left(&t, 1000000), 105);
    CHECK_EQ(turn_token_left(&t, 1000100), 5);
    CHECK_EQ(turn_token_left(&t, 1000104), 1);
    CHECK_EQ(turn_token_left(&t, 1000105), 0);
    CHECK_EQ(turn_token_left(&t, 1000106), 0);
    CHECK_EQ(turn_token_left(&t, 999896), 1);
    CHECK_EQ(turn_token_left(&t, 999895), 0);
    CHECK_EQ(turn_token_left(&t, 0), 0);
    t.lifetime = UINT32_MAX;
    CHECK_EQ(turn_token_left(&t, 1000000), UINT32_MAX);
    CHECK_EQ(turn_token_left(&t, UINT64_MAX), 0);
    t.issued_s = UINT64_MAX >> 16;
    CHECK_EQ(turn_token_left(&t, 1700000000), 0);
}

/* OAUTH-04: by the whole id, and in its time. */
static void test_find(void)
{
    struct turn_token_key keys[] = {key_of("a", "x"), key_of("ab", "y"), key_of("b", "z")};
    keys[2].from = 100;
    keys[2].until = 200;
    CHECK(turn_token_find(keys, 3, span_str("a"), 0) == &keys[0]);
    CHECK(turn_token_find(keys, 3, span_str("ab"), 0) == &keys[1]);
    CHECK(turn_token_find(keys, 3, span_str("abc"), 0) == NULL);
    CHECK(turn_token_find(keys, 3, span_str(""), 0) == NULL);
    CHECK(turn_token_find(keys, 0, span_str("a"), 0) == NULL);
    CHECK(turn_token_find(keys, 3, span_str("b"), 99) == NULL);
    CHECK(turn_token_find(keys, 3, span_str("b"), 100) == &keys[2]);
    CHECK(turn_token_find(keys, 3, span_str("b"), 199) == &keys[2]);
    CHECK(turn_token_find(keys, 3, span_str("b"), 200) == NULL);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_vectors), CHECK_TEST(test_truncated), CHECK_TEST(test_blocks),
        CHECK_TEST(test_time),    CHECK_TEST(test_find),
    };
    return CHECK_RUN(tests);
}
