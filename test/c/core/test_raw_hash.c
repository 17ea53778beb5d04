/* libcrypto's own functions against EVP; test_crypto.c has the RFCs' vectors. */
#include "check.h"
#include "crypto/raw_hash.h"
#include "rng.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

static const EVP_MD *evp_of(int hash)
{
    return hash == CRYPTO_MD5 ? EVP_md5() : hash == CRYPTO_SHA1 ? EVP_sha1() : EVP_sha256();
}

static void test_there(void)
{
#ifdef OPENSSL_NO_DEPRECATED_3_0
    CHECK(!raw_hash_there());
#else
    CHECK(raw_hash_there());
#endif
}

static void test_digest(void)
{
    struct rng rng = rng_new();
    uint8_t data[300], got[CRYPTO_MAX_SIZE];
    unsigned char want[EVP_MAX_MD_SIZE];
    rng_bytes(&rng, data, sizeof data);
    for (int hash = 0; hash < CRYPTO_HASH_COUNT; hash++) {
        for (size_t len = 0; len <= sizeof data; len++) {
            size_t cut = rng_below(&rng, (uint32_t)len + 1);
            const struct span parts[] = {span_of(data, cut), {0}, span_of(data + cut, len - cut)};
            CHECK(raw_hash_digest((enum crypto_hash)hash, parts, 3, got));
            CHECK_EQ(EVP_Digest(data, len, want, NULL, evp_of(hash), NULL), 1);
            CHECK_BYTES(got, want, crypto_hash_size((enum crypto_hash)hash));
        }
    }
}

/* The states of a key's two pads, and any number of messages from them. */
static void test_block_and_hmac(void)
{
    struct rng rng = rng_new();
    uint8_t data[300], key[RAW_BLOCK], pad[2][RAW_BLOCK], got[CRYPTO_MAX_SIZE];
    uint32_t state[2][RAW_WORDS];
    unsigned char want[EVP_MAX_MD_SIZE];
    rng_bytes(&rng, data, sizeof data);
    for (int hash = 0; hash < CRYPTO_HASH_COUNT; hash++) {
        rng_bytes(&rng, key, sizeof key);
        for (size_t i = 0; i < RAW_BLOCK; i++) {
            pad[0][i] = key[i] ^ 0x36;
            pad[1][i] = key[i] ^ 0x5c;
        }
        CHECK(raw_hash_block((enum crypto_hash)hash, pad[0], state[0]));
        CHECK(raw_hash_block((enum crypto_hash)hash, pad[1], state[1]));
        for (size_t len = 0; len <= sizeof data; len++) {
            size_t cut = rng_below(&rng, (uint32_t)len + 1);
            const struct span parts[] = {span_of(data, cut), span_of(data + cut, len - cut)};
            CHECK(raw_hash_hmac((enum crypto_hash)hash, state[0], state[1], parts, 2, got));
            HMAC(evp_of(hash), key, sizeof key, data, len, want, NULL);
            CHECK_BYTES(got, want, crypto_hash_size((enum crypto_hash)hash));
        }
    }
}

/* Where there is nothing to call, everything says so. */
static void test_absent(void)
{
    uint8_t block[RAW_BLOCK] = {0}, out[CRYPTO_MAX_SIZE];
    uint32_t state[RAW_WORDS] = {0};
    CHECK(!raw_hash_digest(CRYPTO_SHA1, NULL, 0, out));
    CHECK(!raw_hash_block(CRYPTO_SHA1, block, state));
    CHECK(!raw_hash_hmac(CRYPTO_SHA1, state, state, NULL, 0, out));
}

int main(void)
{
    const struct check_test there[] = {
        CHECK_TEST(test_there),
        CHECK_TEST(test_digest),
        CHECK_TEST(test_block_and_hmac),
    };
    const struct check_test absent[] = {
        CHECK_TEST(test_there),
        CHECK_TEST(test_absent),
    };
    return raw_hash_there() ? CHECK_RUN(there) : CHECK_RUN(absent);
}
