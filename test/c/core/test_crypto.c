#include "check.h"
#include "crypto/crypto.h"
#include "crypto/raw_hash.h"
#include "exact.h"
#include "rng.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/provider.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Every test of a hash runs with both: libcrypto's own functions, and EVP. */
static struct crypto *(*make)(void);

static struct span bytes(const char *s)
{
    return span_str(s);
}

/* n times the same byte. */
static struct span run(uint8_t *buf, uint8_t byte, size_t n)
{
    memset(buf, byte, n);
    return span_of(buf, n);
}

static bool is_hex(const uint8_t *got, size_t len, const char *want)
{
    char text[2 * CRYPTO_MAX_SIZE + 1];
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", got[i]);
    return strcmp(text, want) == 0;
}

static void check_hmac(struct crypto *c, enum crypto_hash hash, struct span key, struct span data,
                       const char *want)
{
    uint8_t mac[CRYPTO_MAX_SIZE];
    CHECK_EQ(crypto_hmac(c, hash, key, &data, 1, mac), CT_OK);
    CHECK(is_hex(mac, crypto_hash_size(hash), want));
}

static void test_sizes(void)
{
    CHECK_EQ(crypto_hash_size(CRYPTO_MD5), 16);
    CHECK_EQ(crypto_hash_size(CRYPTO_SHA1), 20);
    CHECK_EQ(crypto_hash_size(CRYPTO_SHA256), 32);
}

/* RFC 1321 §A.5, FIPS 180-4's examples */
static void test_digests(void)
{
    static const struct {
        enum crypto_hash hash;
        const char *data, *want;
    } cases[] = {
        {CRYPTO_MD5, "", "d41d8cd98f00b204e9800998ecf8427e"},
        {CRYPTO_MD5, "abc", "900150983cd24fb0d6963f7d28e17f72"},
        {CRYPTO_MD5, "message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {CRYPTO_SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {CRYPTO_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {CRYPTO_SHA1, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {CRYPTO_SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {CRYPTO_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {CRYPTO_SHA256, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    struct crypto *c = make();
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t out[CRYPTO_MAX_SIZE];
        struct span data = bytes(cases[i].data);
        CHECK_EQ(crypto_digest(c, cases[i].hash, &data, 1, out), CT_OK);
        CHECK(is_hex(out, crypto_hash_size(cases[i].hash), cases[i].want));
    }
    crypto_free(c);
}

static void test_parts_are_one_message(void)
{
    struct crypto *c = make();
    const struct span whole = bytes("user:realm:pass");
    const struct span parts[] = {bytes("user"), bytes(":"), {0}, bytes("realm"), bytes(":pass")};
    for (int hash = 0; hash < CRYPTO_HASH_COUNT; hash++) {
        uint8_t a[CRYPTO_MAX_SIZE], b[CRYPTO_MAX_SIZE];
        size_t n = crypto_hash_size((enum crypto_hash)hash);
        CHECK_EQ(crypto_digest(c, (enum crypto_hash)hash, &whole, 1, a), CT_OK);
        CHECK_EQ(crypto_digest(c, (enum crypto_hash)hash, parts, COUNT(parts), b), CT_OK);
        CHECK_BYTES(a, b, n);
        CHECK_EQ(crypto_hmac(c, (enum crypto_hash)hash, bytes("k"), &whole, 1, a), CT_OK);
        CHECK_EQ(crypto_hmac(c, (enum crypto_hash)hash, bytes("k"), parts, COUNT(parts), b), CT_OK);
        CHECK_BYTES(a, b, n);
    }
    crypto_free(c);
}

/* RFC 2202 §2, HMAC-MD5 */
static void test_rfc2202_md5(void)
{
    struct crypto *c = make();
    uint8_t k[80], d[80];
    check_hmac(c, CRYPTO_MD5, run(k, 0x0b, 16), bytes("Hi There"),
               "9294727a3638bb1c13f48ef8158bfc9d");
    check_hmac(c, CRYPTO_MD5, bytes("Jefe"), bytes("what do ya want for nothing?"),
               "750c783e6ab0b503eaa86e310a5db738");
    check_hmac(c, CRYPTO_MD5, run(k, 0xaa, 16), run(d, 0xdd, 50),
               "56be34521d144c88dbb8c733f0e8b3f6");
    check_hmac(c, CRYPTO_MD5, run(k, 0xaa, 80),
               bytes("Test Using Larger Than Block-Size Key - Hash Key First"),
               "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    crypto_free(c);
}

/* RFC 2202 §3, HMAC-SHA-1 */
static void test_rfc2202_sha1(void)
{
    struct crypto *c = make();
    uint8_t k[80], d[80], count[25];
    for (uint8_t i = 0; i < sizeof count; i++)
        count[i] = (uint8_t)(i + 1);
    check_hmac(c, CRYPTO_SHA1, run(k, 0x0b, 20), bytes("Hi There"),
               "b617318655057264e28bc0b6fb378c8ef146be00");
    check_hmac(c, CRYPTO_SHA1, bytes("Jefe"), bytes("what do ya want for nothing?"),
               "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    check_hmac(c, CRYPTO_SHA1, run(k, 0xaa, 20), run(d, 0xdd, 50),
               "125d7342b9ac11cd91a39af48aa17b4f63f175d3");
    check_hmac(c, CRYPTO_SHA1, span_of(count, sizeof count), run(d, 0xcd, 50),
               "4c9007f4026250c6bc8414f9bf50c86c2d7235da");
    check_hmac(c, CRYPTO_SHA1, run(k, 0x0c, 20), bytes("Test With Truncation"),
               "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04");
    check_hmac(c, CRYPTO_SHA1, run(k, 0xaa, 80),
               bytes("Test Using Larger Than Block-Size Key - Hash Key First"),
               "aa4ae5e15272d00e95705637ce8a3b55ed402112");
    check_hmac(c, CRYPTO_SHA1, run(k, 0xaa, 80),
               bytes("Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data"),
               "e8e99d0f45237d786d6bbaa7965c7808bbff1a91");
    crypto_free(c);
}

/* RFC 4231 §4, HMAC-SHA-256 */
static void test_rfc4231(void)
{
    struct crypto *c = make();
    uint8_t k[131], d[80], count[25];
    for (uint8_t i = 0; i < sizeof count; i++)
        count[i] = (uint8_t)(i + 1);
    check_hmac(c, CRYPTO_SHA256, run(k, 0x0b, 20), bytes("Hi There"),
               "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    check_hmac(c, CRYPTO_SHA256, bytes("Jefe"), bytes("what do ya want for nothing?"),
               "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check_hmac(c, CRYPTO_SHA256, run(k, 0xaa, 20), run(d, 0xdd, 50),
               "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    check_hmac(c, CRYPTO_SHA256, span_of(count, sizeof count), run(d, 0xcd, 50),
               "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    check_hmac(c, CRYPTO_SHA256, run(k, 0xaa, 131),
               bytes("Test Using Larger Than Block-Size Key - Hash Key First"),
               "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    check_hmac(c, CRYPTO_SHA256, run(k, 0xaa, 131),
               bytes("This is a test using a larger than block-size key and a larger than "
                     "block-size data. The key needs to be hashed before being used by the HMAC "
                     "algorithm."),
               "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
    crypto_free(c);
}

static const EVP_MD *evp_of(int hash)
{
    return hash == CRYPTO_MD5 ? EVP_md5() : hash == CRYPTO_SHA1 ? EVP_sha1() : EVP_sha256();
}

/*
 * Keys of every length around the block, changed and kept, prefixes of one another, for all hashes
 * in turn: what is kept of the last key must never be taken for another's.
 */
static void test_key_changes_against_openssl(void)
{
    struct rng rng = rng_new();
    struct crypto *c = make();
    uint8_t keys[4][140] = {{0}}, data[200];
    for (size_t i = 1; i < COUNT(keys); i++) /* keys[0] stays zeros: padding looks like it */
        rng_bytes(&rng, keys[i], sizeof keys[i]);
    memcpy(keys[3], keys[2], 64); /* alike up to the block's end */
    for (unsigned i = 0; i < 20000; i++) {
        int hash = (int)rng_below(&rng, CRYPTO_HASH_COUNT);
        static const size_t lens[] = {0, 1, 16, 20, 32, 63, 64, 65, 66, 128, 140};
        size_t key_len = lens[rng_below(&rng, COUNT(lens))], len = rng_below(&rng, sizeof data);
        const uint8_t *key = keys[rng_below(&rng, COUNT(keys))];
        rng_bytes(&rng, data, len);
        struct exact k = exact_of(key, key_len, i % 8), d = exact_of(data, len, i % 5);
        struct span part = span_of(d.data, d.len);
        uint8_t got[CRYPTO_MAX_SIZE];
        unsigned char want[EVP_MAX_MD_SIZE];
        CHECK_EQ(crypto_hmac(c, (enum crypto_hash)hash, span_of(k.data, k.len), &part, 1, got),
                 CT_OK);
        HMAC(evp_of(hash), key, (int)key_len, data, len, want, NULL);
        CHECK_BYTES(got, want, crypto_hash_size((enum crypto_hash)hash));
        exact_free(&k);
        exact_free(&d);
    }
    crypto_free(c);
}

/* Keys that stay, used in turns with each other and with crypto_hmac(), and changed. */
static void test_macs_against_openssl(void)
{
    enum {
        MACS = 6
    };
    static const size_t lens[] = {0, 1, 20, 63, 64, 65, 128, 140};
    struct rng rng = rng_new();
    struct crypto *c = make();
    struct crypto_mac macs[MACS] = {{.ready = false}};
    uint8_t keys[MACS][140], data[200], got[CRYPTO_MAX_SIZE];
    size_t key_lens[MACS];
    for (int m = 0; m < MACS; m++)
        CHECK_EQ(crypto_mac_run(c, &macs[m], NULL, 0, got), CT_ECRYPTO); /* no key yet */
    for (unsigned i = 0; i < 20000; i++) {
        size_t m = i < MACS ? i : rng_below(&rng, MACS);
        enum crypto_hash hash = (enum crypto_hash)(m % CRYPTO_HASH_COUNT);
        size_t len = rng_below(&rng, sizeof data);
        struct span part = span_of(data, len);
        unsigned char want[EVP_MAX_MD_SIZE];
        rng_bytes(&rng, data, len);
        if (i < MACS || rng_below(&rng, 8) == 0) {
            key_lens[m] = lens[rng_below(&rng, COUNT(lens))];
            rng_bytes(&rng, keys[m], key_lens[m]);
            struct span key = span_of(keys[m], key_lens[m]);
            CHECK_EQ(crypto_mac_key(c, &macs[m], hash, key), CT_OK);
            CHECK_EQ(macs[m].hash, hash);
        } else if (rng_below(&rng, 4) == 0) {
            CHECK_EQ(crypto_hmac(c, hash, span_of(data, len / 2), &part, 1, got), CT_OK);
        }
        CHECK_EQ(crypto_mac_run(c, &macs[m], &part, 1, got), CT_OK);
        HMAC(evp_of((int)hash), keys[m], (int)key_lens[m], data, len, want, NULL);
        CHECK_BYTES(got, want, crypto_hash_size(hash));
    }
    for (int m = 0; m < MACS; m++) {
        static const struct crypto_mac none;
        crypto_mac_forget(&macs[m]);
        CHECK_EQ(crypto_mac_run(c, &macs[m], NULL, 0, got), CT_ECRYPTO);
        CHECK_BYTES((const uint8_t *)&macs[m], (const uint8_t *)&none, sizeof none);
    }
    crypto_free(c);
}

/* A key that is a long key's hash is that key to HMAC (RFC 2104 §2). */
static void test_a_long_key_is_its_hash(void)
{
    struct crypto *c = make();
    uint8_t key[100], hashed[CRYPTO_SHA256_SIZE], a[CRYPTO_MAX_SIZE], b[CRYPTO_MAX_SIZE];
    struct span longer = run(key, 'k', sizeof key), data = bytes("data");
    CHECK_EQ(crypto_digest(c, CRYPTO_SHA256, &longer, 1, hashed), CT_OK);
    CHECK_EQ(crypto_hmac(c, CRYPTO_SHA256, longer, &data, 1, a), CT_OK);
    CHECK_EQ(crypto_hmac(c, CRYPTO_SHA256, span_of(hashed, sizeof hashed), &data, 1, b), CT_OK);
    CHECK_BYTES(a, b, CRYPTO_SHA256_SIZE);
    crypto_free(c);
}

/* A message of any length in two parts, cut anywhere: EVP's digest. */
static void test_digests_against_openssl(void)
{
    struct rng rng = rng_new();
    struct crypto *c = make();
    uint8_t data[200];
    rng_bytes(&rng, data, sizeof data);
    for (size_t len = 0; len <= sizeof data; len++) {
        enum crypto_hash hash = (enum crypto_hash)rng_below(&rng, CRYPTO_HASH_COUNT);
        size_t cut = rng_below(&rng, (uint32_t)len + 1);
        const struct span parts[] = {span_of(data, cut), span_of(data + cut, len - cut)};
        uint8_t got[CRYPTO_MAX_SIZE];
        unsigned char want[EVP_MAX_MD_SIZE];
        CHECK_EQ(crypto_digest(c, hash, parts, 2, got), CT_OK);
        CHECK_EQ(EVP_Digest(data, len, want, NULL, evp_of((int)hash), NULL), 1);
        CHECK_BYTES(got, want, crypto_hash_size(hash));
    }
    crypto_free(c);
}

static void test_empty_key_and_message(void)
{
    struct crypto *c = make();
    uint8_t mac[CRYPTO_MAX_SIZE];
    CHECK_EQ(crypto_hmac(c, CRYPTO_SHA256, (struct span){0}, NULL, 0, mac), CT_OK);
    CHECK(is_hex(mac, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"));
    crypto_free(c);
}

static void test_random(void)
{
    uint8_t a[64] = {0}, b[64] = {0};
    CHECK_EQ(crypto_random(a, sizeof a), CT_OK);
    CHECK_EQ(crypto_random(b, sizeof b), CT_OK);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK_EQ(crypto_random(a, 0), CT_OK);
    CHECK_EQ(crypto_random(a, (size_t)INT32_MAX + 1), CT_ECRYPTO);
}

static void test_equal_and_wipe(void)
{
    uint8_t a[40], b[40];
    run(a, 7, sizeof a);
    run(b, 7, sizeof b);
    CHECK(crypto_equal(a, b, sizeof a));
    CHECK(crypto_equal(a, "x", 0));
    for (size_t i = 0; i < sizeof a; i++) {
        b[i] ^= 0x80;
        CHECK(!crypto_equal(a, b, sizeof a));
        b[i] ^= 0x80;
    }
    crypto_wipe(a + 1, sizeof a - 2);
    CHECK_EQ(a[0], 7);
    CHECK_EQ(a[39], 7);
    for (size_t i = 1; i < 39; i++)
        CHECK_EQ(a[i], 0);
}

static void test_freeing_nothing(void)
{
    crypto_free(NULL);
}

/* NIST's GCM test cases 13 to 15, 1 and 2 (AES-128), and what was changed on the way. */
static void test_gcm(void)
{
    struct crypto *c = crypto_new();
    uint8_t key[CRYPTO_KEY_SIZE] = {0}, iv[CRYPTO_IV_SIZE] = {0}, zeros[16] = {0};
    uint8_t sealed[16 + CRYPTO_TAG_SIZE], plain[16];
    struct span none = span_of(NULL, 0), text = span_of(zeros, 16), whole = span_of(sealed, 32);
    struct crypto_gcm gcm = {.key = span_of(key, sizeof key), .iv = iv};
    CHECK_EQ(crypto_seal(c, &gcm, none, sealed), CT_OK);
    CHECK(is_hex(sealed, 16, "530f8afbc74536b9a963b4f1c4cb738b"));
    CHECK_EQ(crypto_seal(c, &gcm, text, sealed), CT_OK);
    CHECK(is_hex(sealed, 32, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"));
    CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_OK);
    CHECK_BYTES(plain, zeros, 16);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1;
        memset(plain, 7, sizeof plain);
        CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_EINTEGRITY);
        CHECK_BYTES(plain, zeros, 16);
        sealed[i] ^= 1;
    }
    CHECK_EQ(crypto_open(c, &gcm, span_of(sealed, 15), plain), CT_ESHORT);
    gcm.aad = span_of("aad", 3);
    CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_EINTEGRITY);
    CHECK_EQ(crypto_seal(c, &gcm, text, sealed), CT_OK);
    CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_OK);
    gcm.aad = span_of("aab", 3);
    CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_EINTEGRITY);

    gcm = (struct crypto_gcm){.key = span_of(key, CRYPTO_SHORT_KEY_SIZE), .iv = iv};
    CHECK_EQ(crypto_seal(c, &gcm, none, sealed), CT_OK);
    CHECK(is_hex(sealed, 16, "58e2fccefa7e3061367f1d57a4e7455a"));
    CHECK_EQ(crypto_seal(c, &gcm, text, sealed), CT_OK);
    CHECK(is_hex(sealed, 32, "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"));
    CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_OK);
    gcm.key.len = 24;
    CHECK_EQ(crypto_seal(c, &gcm, text, sealed), CT_EARG);
    CHECK_EQ(crypto_open(c, &gcm, whole, plain), CT_EARG);
    crypto_free(c);
}

/* Who asks for EVP gets it; else the way follows from where libcrypto has its hashes from. */
static void test_ways(void)
{
    struct crypto *c = crypto_new(), *evp = crypto_new_evp();
    EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL);
    const OSSL_PROVIDER *from = md ? EVP_MD_get0_provider(md) : NULL;
    bool own = from && strcmp(OSSL_PROVIDER_get0_name(from), "default") == 0;
    CHECK(c && evp);
    CHECK(!crypto_is_raw(evp));
    CHECK_EQ(crypto_is_raw(c), own && raw_hash_there());
    EVP_MD_free(md);
    crypto_free(c);
    crypto_free(evp);
}

static const struct check_test hash_tests[] = {
    CHECK_TEST(test_digests),
    CHECK_TEST(test_parts_are_one_message),
    CHECK_TEST(test_rfc2202_md5),
    CHECK_TEST(test_rfc2202_sha1),
    CHECK_TEST(test_rfc4231),
    CHECK_TEST(test_key_changes_against_openssl),
    CHECK_TEST(test_macs_against_openssl),
    CHECK_TEST(test_a_long_key_is_its_hash),
    CHECK_TEST(test_digests_against_openssl),
    CHECK_TEST(test_empty_key_and_message),
};

static void test_hashes(void)
{
    make = crypto_new;
    for (size_t i = 0; i < COUNT(hash_tests); i++)
        hash_tests[i].run();
}

static void test_hashes_through_evp(void)
{
    make = crypto_new_evp;
    for (size_t i = 0; i < COUNT(hash_tests); i++)
        hash_tests[i].run();
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_ways),
        CHECK_TEST(test_sizes),
        CHECK_TEST(test_hashes),
        CHECK_TEST(test_hashes_through_evp),
        CHECK_TEST(test_random),
        CHECK_TEST(test_equal_and_wipe),
        CHECK_TEST(test_freeing_nothing),
        CHECK_TEST(test_gcm),
    };
    return CHECK_RUN(tests);
}
