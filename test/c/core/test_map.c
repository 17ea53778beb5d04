#include "check.h"
#include "core/map.h"
#include "rng.h"

static uint64_t hash_of_tag(uint32_t tag)
{
    return (uint64_t)tag << 32;
}

/* How often the number is among the candidates of the hash. */
static unsigned found(const struct map *m, uint64_t hash, uint32_t number)
{
    struct map_iter it;
    unsigned n = 0;
    for (uint32_t at = map_first(m, hash, &it); at != MAP_NONE; at = map_next(m, &it))
        n += at == number;
    return n;
}

static void test_puts_finds_and_removes(void)
{
    struct map m;
    CHECK(map_init(&m, 10));
    CHECK_EQ(found(&m, 7, 1), 0);
    CHECK(map_put(&m, 0x700000001, 1));
    CHECK(map_put(&m, 0x700000001, 2)); /* the same hash, another object */
    CHECK_EQ(found(&m, 0x700000001, 1), 1);
    CHECK_EQ(found(&m, 0x700000001, 2), 1);
    CHECK_EQ(found(&m, 0x800000001, 1), 0);
    CHECK(map_remove(&m, 0x700000001, 1));
    CHECK(!map_remove(&m, 0x700000001, 1));
    CHECK(!map_remove(&m, 0x800000001, 2));
    CHECK_EQ(found(&m, 0x700000001, 1), 0);
    CHECK_EQ(found(&m, 0x700000001, 2), 1);
    map_free(&m);
}

static void test_number_zero_and_hash_zero(void)
{
    struct map m;
    CHECK(map_init(&m, 2));
    CHECK(map_put(&m, 0, 0));
    CHECK_EQ(found(&m, 0, 0), 1);
    CHECK(map_remove(&m, 0, 0));
    CHECK_EQ(found(&m, 0, 0), 0);
    map_free(&m);
}

static void test_full(void)
{
    struct map m;
    CHECK(map_init(&m, 100));
    for (uint32_t i = 0; i < 100; i++)
        CHECK(map_put(&m, hash_of_tag(i), i));
    CHECK(!map_put(&m, hash_of_tag(100), 100));
    CHECK_EQ(found(&m, hash_of_tag(100), 100), 0);
    CHECK(map_remove(&m, hash_of_tag(42), 42));
    CHECK(map_put(&m, hash_of_tag(100), 100));
    CHECK(!map_put(&m, hash_of_tag(101), 101));
    for (uint32_t i = 0; i <= 100; i++)
        CHECK_EQ(found(&m, hash_of_tag(i), i), i != 42);
    map_free(&m);
}

static void test_no_capacity(void)
{
    struct map m;
    CHECK(map_init(&m, 0));
    CHECK(!map_put(&m, 1, 1));
    CHECK_EQ(found(&m, 1, 1), 0);
    CHECK(!map_remove(&m, 1, 1));
    map_free(&m);
}

static void test_too_large(void)
{
    struct map m;
    CHECK(!map_init(&m, MAP_CAPACITY_MAX + 1));
    map_free(&m);
    CHECK(!map_init(&m, UINT32_MAX));
    map_free(&m);
}

/* There is always room for a search to end in. */
static void test_slots_are_twice_the_capacity(void)
{
    for (uint32_t capacity = 0; capacity < 3000; capacity += 1 + capacity / 9) {
        struct map m;
        CHECK(map_init(&m, capacity));
        CHECK(m.mask + 1 >= 2 * capacity && m.mask + 1 >= 2);
        map_free(&m);
    }
}

/* All in one cluster that runs around the end of the table, removed in random order. */
static void test_a_cluster_around_the_end(void)
{
    struct rng rng = rng_new();
    for (unsigned round = 0; round < 200; round++) {
        struct map m;
        uint32_t tags[32], left = 32;
        CHECK(map_init(&m, 32));
        for (uint32_t i = 0; i < 32; i++) {
            tags[i] = m.mask - (uint32_t)rng_below(&rng, 12); /* home slots at the end */
            CHECK(map_put(&m, hash_of_tag(tags[i]), i));
        }
        bool gone[32] = {false};
        while (left) {
            uint32_t victim = (uint32_t)rng_below(&rng, 32);
            CHECK_EQ(map_remove(&m, hash_of_tag(tags[victim]), victim), !gone[victim]);
            left -= !gone[victim];
            gone[victim] = true;
            for (uint32_t i = 0; i < 32; i++)
                CHECK_EQ(found(&m, hash_of_tag(tags[i]), i), !gone[i]);
        }
        CHECK_EQ(m.used, 0);
        map_free(&m);
    }
}

enum {
    CAPACITY = 200
};

struct model {
    uint64_t hash[CAPACITY];
    uint32_t number[CAPACITY];
    uint32_t count;
};

static uint32_t find(const struct model *model, uint64_t hash, uint32_t number)
{
    for (uint32_t i = 0; i < model->count; i++)
        if (model->hash[i] == hash && model->number[i] == number)
            return i;
    return MAP_NONE;
}

/* Exactly the entries of this hash's high half come, each once. */
static void check_candidates(const struct map *m, const struct model *model, uint64_t hash)
{
    unsigned want = 0, got = 0;
    struct map_iter it;
    for (uint32_t i = 0; i < model->count; i++)
        want += model->hash[i] >> 32 == hash >> 32;
    for (uint32_t n = map_first(m, hash, &it); n != MAP_NONE; n = map_next(m, &it))
        got++;
    CHECK_EQ(got, want);
    for (uint32_t i = 0; i < model->count; i++)
        if (model->hash[i] == hash)
            CHECK_EQ(found(m, hash, model->number[i]), 1);
}

static void test_against_a_model(void)
{
    struct rng rng = rng_new();
    static struct model model;
    struct map m;
    model.count = 0;
    CHECK(map_init(&m, CAPACITY));
    for (uint32_t step = 0; step < 60000; step++) {
        /* few tags, near one another: long probes, many collisions */
        uint64_t hash = hash_of_tag((uint32_t)rng_below(&rng, 100) * 5) | rng_below(&rng, 3);
        bool filling = step / 2000 % 2 == 0;
        if (rng_below(&rng, 10) < (filling ? 7u : 3u)) {
            bool fits = model.count < CAPACITY;
            CHECK_EQ(map_put(&m, hash, step), fits);
            if (fits) {
                model.hash[model.count] = hash;
                model.number[model.count++] = step;
            }
        } else if (model.count) {
            uint32_t i = (uint32_t)rng_below(&rng, model.count);
            CHECK(map_remove(&m, model.hash[i], model.number[i]));
            model.count--;
            model.hash[i] = model.hash[model.count];
            model.number[i] = model.number[model.count];
        }
        CHECK_EQ(find(&model, hash, step + 1), MAP_NONE);
        CHECK(!map_remove(&m, hash, step + 1));
        CHECK_EQ(m.used, model.count);
        check_candidates(&m, &model, hash);
    }
    map_free(&m);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_puts_finds_and_removes),
        CHECK_TEST(test_number_zero_and_hash_zero),
        CHECK_TEST(test_full),
        CHECK_TEST(test_no_capacity),
        CHECK_TEST(test_too_large),
        CHECK_TEST(test_slots_are_twice_the_capacity),
        CHECK_TEST(test_a_cluster_around_the_end),
        CHECK_TEST(test_against_a_model),
    };
    return CHECK_RUN(tests);
}
