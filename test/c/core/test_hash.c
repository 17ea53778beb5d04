#include "check.h"
#include "core/addr.h"
#include "core/hash.h"
#include "exact.h"
#include "rng.h"

static const struct hash_seed seed = {{0x243F6A8885A308D3, 0x13198A2E03707344}};

static void test_reads_exactly_its_bytes_at_any_offset(void)
{
    struct rng rng = rng_new();
    uint8_t bytes[70];
    for (size_t len = 0; len < sizeof bytes; len++) {
        rng_bytes(&rng, bytes, sizeof bytes);
        uint64_t want = hash_bytes(&seed, bytes, len);
        for (size_t skew = 0; skew < 8; skew++) {
            struct exact e = exact_of(bytes, len, skew);
            CHECK(hash_bytes(&seed, e.data, e.len) == want);
            exact_free(&e);
        }
    }
}

static void test_the_length_is_hashed(void)
{
    static const uint8_t zeros[64];
    uint64_t seen[64];
    for (size_t len = 0; len < 64; len++) {
        seen[len] = hash_bytes(&seed, zeros, len);
        for (size_t i = 0; i < len; i++)
            CHECK(seen[i] != seen[len]);
    }
}

static void test_the_seed_decides(void)
{
    struct hash_seed a = seed, b = seed;
    a.k[0]++;
    b.k[1]++;
    CHECK(hash_bytes(&seed, "key", 3) == hash_bytes(&seed, "key", 3));
    CHECK(hash_bytes(&seed, "key", 3) != hash_bytes(&a, "key", 3));
    CHECK(hash_bytes(&seed, "key", 3) != hash_bytes(&b, "key", 3));
}

static unsigned ones(uint64_t v)
{
    unsigned n = 0;
    for (; v; v &= v - 1)
        n++;
    return n;
}

/* Each bit of a key changes about half of the hash. */
static void test_avalanche(void)
{
    struct rng rng = rng_new();
    enum {
        ROUNDS = 400
    };
    for (size_t len = 4; len <= 40; len += 4)
        for (size_t bit = 0; bit < 8 * len; bit += 5) {
            unsigned changed = 0;
            for (unsigned round = 0; round < ROUNDS; round++) {
                uint8_t key[40];
                rng_bytes(&rng, key, len);
                uint64_t before = hash_bytes(&seed, key, len);
                key[bit / 8] ^= (uint8_t)(1u << bit % 8);
                changed += ones(before ^ hash_bytes(&seed, key, len));
            }
            CHECK(changed > 30 * ROUNDS && changed < 34 * ROUNDS);
        }
}

/* Ports of one host and hosts of one net, as tables see them: by the low and by the high half. */
static void check_spread(const struct addr *keys, size_t n)
{
    enum {
        BUCKETS = 1024
    };
    static unsigned low[BUCKETS], high[BUCKETS];
    memset(low, 0, sizeof low);
    memset(high, 0, sizeof high);
    for (size_t i = 0; i < n; i++) {
        uint64_t h = hash_bytes(&seed, &keys[i], sizeof keys[i]);
        low[h % BUCKETS]++;
        high[(h >> 32) % BUCKETS]++;
    }
    double expected = (double)n / BUCKETS, chi_low = 0, chi_high = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        chi_low += (low[i] - expected) * (low[i] - expected) / expected;
        chi_high += (high[i] - expected) * (high[i] - expected) / expected;
    }
    /* 1023 degrees of freedom: mean 1023, standard deviation 45; six of them either way */
    CHECK(chi_low > 1023 - 270 && chi_low < 1023 + 270);
    CHECK(chi_high > 1023 - 270 && chi_high < 1023 + 270);
}

static void test_neighbours_are_spread(void)
{
    enum {
        KEYS = 60000
    };
    static struct addr ports[KEYS], hosts[KEYS], hosts6[KEYS];
    for (unsigned i = 0; i < KEYS; i++) {
        const uint8_t ip[4] = {198, 51, 100, 7};
        const uint8_t net[4] = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i};
        const uint8_t ip6[16] = {0x20, 1, 0xd, 0xb8, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i};
        ports[i] = addr_v4(ip, (uint16_t)(1024 + i));
        hosts[i] = addr_v4(net, 40000);
        hosts6[i] = addr_v6(ip6, 40000);
    }
    check_spread(ports, KEYS);
    check_spread(hosts, KEYS);
    check_spread(hosts6, KEYS);
}

static void test_fold_is_the_product_folded(void)
{
    CHECK(hash_fold(0, 5) == 0);
    CHECK(hash_fold(3, 5) == 15);
    CHECK(hash_fold(UINT64_MAX, UINT64_MAX) == (UINT64_C(1) ^ (UINT64_MAX - 1)));
    CHECK(hash_fold(UINT64_C(1) << 32, UINT64_C(1) << 32) == 1);
}

static struct hash_words words_of(struct rng *rng)
{
    struct hash_words words;
    for (size_t i = 0; i < sizeof words.k / sizeof *words.k; i++)
        words.k[i] = rng_u64(rng);
    return words;
}

/* Each bit of the key and of the seed counts, and half of the result changes with it. */
static void test_seven_words(void)
{
    struct rng rng = rng_new();
    struct hash_words words = words_of(&rng), other = words;
    uint8_t key[HASH_SEVEN] = {1, 2, 3};
    uint64_t h = hash_seven(&words, key), changed = 0;
    for (unsigned i = 0; i < 8 * HASH_SEVEN; i++) {
        key[i / 8] ^= (uint8_t)(1u << i % 8);
        CHECK(hash_seven(&words, key) != h);
        changed += ones(hash_seven(&words, key) ^ h);
        key[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    changed /= 8 * HASH_SEVEN;
    CHECK(changed > 28 && changed < 36);
    for (size_t i = 0; i < sizeof words.k / sizeof *words.k; i++) {
        other.k[i] ^= 1;
        CHECK(hash_seven(&other, key) != h);
        other = words;
    }
    uint8_t apart[HASH_SEVEN + 1];
    memcpy(apart + 1, key, sizeof key);
    CHECK(hash_seven(&words, apart + 1) == h);
}

/* Keys that differ in a port, as a client chooses it: no two of them in the half that is a tag. */
static void test_seven_words_of_neighbours(void)
{
    enum {
        PORTS = 4096,
        SLOTS = 16 * PORTS
    };
    static uint8_t hits[SLOTS];
    struct rng rng = rng_new();
    struct hash_words words = words_of(&rng);
    uint64_t key[7] = {0x0100000a, 0, 0, 0x010200c0, 0, 0, 0};
    unsigned collisions = 0;
    for (unsigned i = 0; i < PORTS; i++) {
        key[2] = (uint64_t)(1024 + i) << 32;
        collisions += hits[(hash_seven(&words, key) >> 32) % SLOTS]++ != 0;
    }
    CHECK(collisions < PORTS / 16); /* one in 32 is expected */
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_reads_exactly_its_bytes_at_any_offset),
        CHECK_TEST(test_the_length_is_hashed),
        CHECK_TEST(test_the_seed_decides),
        CHECK_TEST(test_avalanche),
        CHECK_TEST(test_neighbours_are_spread),
        CHECK_TEST(test_fold_is_the_product_folded),
        CHECK_TEST(test_seven_words),
        CHECK_TEST(test_seven_words_of_neighbours),
    };
    return CHECK_RUN(tests);
}
