#include "check.h"
#include "core/base64.h"
#include "exact.h"
#include "rng.h"
#include "vectors.h"

#include <openssl/evp.h>

/* RFC 4648 §10 */
static void test_rfc4648(void)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[16] = {0};
        size_t n = strlen(cases[i].in);
        base64_encode((const uint8_t *)cases[i].in, n, out);
        CHECK_STR(out, cases[i].out);
        CHECK_EQ(base64_len(n), strlen(cases[i].out));
    }
}

static void test_nonce_cookies(void)
{
    struct vectors v = vectors_open("keys.txt");
    struct vector_line line;
    unsigned seen = 0;
    while (vectors_line(&v, &line)) {
        if (!vector_is(&line, "nonce_cookie"))
            continue;
        uint64_t bits = vector_number(line.word[1]);
        const uint8_t in[] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        char out[16] = "obMatJos2";
        base64_encode(in, sizeof in, out + strlen(out));
        CHECK_STR(out, line.word[2]);
        seen++;
    }
    CHECK_EQ(seen, 4);
    vectors_close(&v);
}

/* Every length and random bytes against OpenSSL; nothing is read or written beyond the ends. */
static void test_against_openssl(void)
{
    struct rng rng = rng_new();
    uint8_t bytes[200];
    unsigned char want[300];
    for (size_t n = 0; n < sizeof bytes; n++) {
        rng_bytes(&rng, bytes, n);
        int len = EVP_EncodeBlock(want, bytes, (int)n);
        struct exact in = exact_of(bytes, n, n % 8);
        struct exact out = exact_of(want, (size_t)len, 0);
        memset(out.data, 0, out.len);
        CHECK_EQ(base64_len(n), len);
        base64_encode(in.data, n, (char *)out.data);
        CHECK_BYTES(out.data, want, out.len);
        exact_free(&in);
        exact_free(&out);
    }
}

/* What base64 says, in the other alphabet, and back; nothing is read or written beyond the ends. */
static void test_url(void)
{
    struct rng rng = rng_new();
    uint8_t bytes[96];
    char want[128];
    for (size_t n = 0; n <= sizeof bytes; n += 3) {
        rng_bytes(&rng, bytes, n);
        base64_encode(bytes, n, want);
        for (size_t i = 0; i < base64_len(n); i++)
            want[i] = want[i] == '+' ? '-' : want[i] == '/' ? '_' : want[i];
        struct exact in = exact_of(bytes, n, n % 8);
        struct exact out = exact_of(want, base64_len(n), 0);
        memset(out.data, 0, out.len);
        base64url_encode(in.data, n, out.data);
        CHECK_BYTES(out.data, want, out.len);
        memset(in.data, 0, in.len);
        CHECK(base64url_decode(out.data, out.len, in.data));
        CHECK_BYTES(in.data, bytes, n);
        exact_free(&in);
        exact_free(&out);
    }
}

/* Every character stands for itself only; text of other lengths or characters is none. */
static void test_url_alphabet(void)
{
    static const char known[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t out[6];
    for (unsigned c = 0; c < 256; c++) {
        const uint8_t text[] = {'A', 'A', 'A', (uint8_t)c};
        const char *at = c ? strchr(known, (int)c) : NULL;
        CHECK_EQ(base64url_decode(text, sizeof text, out), at != NULL);
        if (at)
            CHECK_EQ(out[2], at - known);
    }
    for (size_t n = 0; n <= 8; n++)
        CHECK_EQ(base64url_decode((const uint8_t *)"AAAAAAAA", n, out), n % 4 == 0);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_rfc4648), CHECK_TEST(test_nonce_cookies), CHECK_TEST(test_against_openssl),
        CHECK_TEST(test_url),     CHECK_TEST(test_url_alphabet),
    };
    return CHECK_RUN(tests);
}
