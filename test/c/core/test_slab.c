#include "check.h"
#include "core/slab.h"
#include "rng.h"

#include <stdlib.h>

/* Let malloc fail under AddressSanitizer as it does elsewhere. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static bool all_zero(const void *p, size_t n)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return false;
    return true;
}

static void test_takes_until_full(void)
{
    struct slab s;
    CHECK(slab_init(&s, 24, 5));
    CHECK_EQ(slab_left(&s), 5);
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t n = slab_take(&s);
        CHECK(n < 5);
        CHECK_EQ(slab_left(&s), 4 - i);
        memset(slab_at(&s, n), 0xAA, 24);
    }
    CHECK_EQ(slab_take(&s), SLAB_NONE);
    CHECK_EQ(slab_take(&s), SLAB_NONE);
    CHECK_EQ(s.used, 5);
    slab_give(&s, 3);
    CHECK_EQ(slab_take(&s), 3);
    CHECK(all_zero(slab_at(&s, 3), 24));
    CHECK_EQ(slab_take(&s), SLAB_NONE);
    slab_free(&s);
}

static void test_last_given_is_first_taken(void)
{
    struct slab s;
    CHECK(slab_init(&s, 4, 4));
    for (int i = 0; i < 4; i++)
        slab_take(&s);
    slab_give(&s, 1);
    slab_give(&s, 3);
    slab_give(&s, 0);
    CHECK_EQ(slab_take(&s), 0);
    CHECK_EQ(slab_take(&s), 3);
    CHECK_EQ(slab_take(&s), 1);
    slab_free(&s);
}

static void test_objects_are_apart_and_aligned(void)
{
    for (size_t size = 4; size < 100; size += 7) {
        struct slab s;
        CHECK(slab_init(&s, size, 8));
        for (uint32_t i = 0; i + 1 < 8; i++) {
            uint8_t *a = slab_at(&s, i), *b = slab_at(&s, i + 1);
            CHECK((size_t)(b - a) >= size);
            CHECK_EQ((uintptr_t)a % 16, 0);
        }
        slab_free(&s);
    }
}

static void test_an_empty_pool(void)
{
    struct slab s;
    CHECK(slab_init(&s, 16, 0));
    CHECK_EQ(slab_left(&s), 0);
    CHECK_EQ(slab_take(&s), SLAB_NONE);
    slab_free(&s);
    CHECK_EQ(slab_take(&s), SLAB_NONE); /* freed: as an empty one */
    slab_free(&s);
}

static void test_too_much_memory_is_refused(void)
{
    struct slab s;
    CHECK(!slab_init(&s, SIZE_MAX / 4, UINT32_MAX - 1));
    slab_free(&s);
}

enum {
    CAPACITY = 64,
    SIZE = 40
};

/* Random taking and giving; every object in use keeps the bytes that were written to it. */
static void test_against_a_model(void)
{
    struct rng rng = rng_new();
    struct slab s;
    bool used[CAPACITY] = {false};
    uint32_t count = 0;
    CHECK(slab_init(&s, SIZE, CAPACITY));
    for (unsigned step = 0; step < 100000; step++) {
        bool filling = step / 500 % 2 == 0;
        if (rng_below(&rng, 10) < (filling ? 7u : 3u)) {
            uint32_t n = slab_take(&s);
            CHECK_EQ(n == SLAB_NONE, count == CAPACITY);
            if (n == SLAB_NONE)
                continue;
            CHECK(n < CAPACITY && !used[n] && all_zero(slab_at(&s, n), SIZE));
            used[n] = true;
            count++;
            memset(slab_at(&s, n), (int)(n + 1), SIZE);
        } else {
            uint32_t n = (uint32_t)rng_below(&rng, CAPACITY);
            if (!used[n])
                continue;
            const uint8_t *p = slab_at(&s, n);
            for (size_t i = 0; i < SIZE; i++)
                CHECK_EQ(p[i], n + 1);
            slab_give(&s, n);
            used[n] = false;
            count--;
        }
        CHECK_EQ(s.used, count);
        CHECK_EQ(slab_left(&s), CAPACITY - count);
    }
    slab_free(&s);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_takes_until_full),
        CHECK_TEST(test_last_given_is_first_taken),
        CHECK_TEST(test_objects_are_apart_and_aligned),
        CHECK_TEST(test_an_empty_pool),
        CHECK_TEST(test_too_much_memory_is_refused),
        CHECK_TEST(test_against_a_model),
    };
    return CHECK_RUN(tests);
}
