#include "check.h"
#include "core/crc32.h"
#include "core/stun_wire.h"
#include "exact.h"
#include "rng.h"
#include "vectors.h"

/* The definition, bit by bit (RFC 8489 §14.7, ITU V.42). */
static uint32_t slow_crc(const uint8_t *data, size_t len)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return ~crc;
}

static void test_vectors(void)
{
    struct vectors v = vectors_open("keys.txt");
    struct vector_line line;
    unsigned seen = 0;
    while (vectors_line(&v, &line)) {
        if (!vector_is(&line, "crc32"))
            continue;
        uint8_t want[4];
        CHECK_EQ(vector_hex(line.word[2], want, sizeof want), 4);
        uint32_t crc = crc32_of((const uint8_t *)line.word[1], strlen(line.word[1]));
        CHECK_EQ(crc, (uint32_t)want[0] << 24 | (uint32_t)want[1] << 16 | (uint32_t)want[2] << 8 |
                          want[3]);
        seen++;
    }
    CHECK(seen > 0);
    vectors_close(&v);
}

static void test_fingerprint_of_the_check_string(void)
{
    CHECK_EQ(crc32_of((const uint8_t *)"123456789", 9) ^ STUN_FINGERPRINT_XOR, 0x98a06c68);
}

static void test_nothing(void)
{
    struct exact e = exact_of(NULL, 0, 0);
    CHECK_EQ(crc32_of(e.data, 0), 0);
    exact_free(&e);
}

/* All lengths around the eight-byte step, at every alignment. */
static void test_against_the_definition(void)
{
    struct rng rng = rng_new();
    uint8_t bytes[130];
    for (size_t len = 0; len < sizeof bytes; len++) {
        rng_bytes(&rng, bytes, len);
        for (size_t skew = 0; skew < 8; skew++) {
            struct exact e = exact_of(bytes, len, skew);
            CHECK_EQ(crc32_of(e.data, e.len), slow_crc(bytes, len));
            exact_free(&e);
        }
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_vectors),
        CHECK_TEST(test_fingerprint_of_the_check_string),
        CHECK_TEST(test_nothing),
        CHECK_TEST(test_against_the_definition),
    };
    return CHECK_RUN(tests);
}
