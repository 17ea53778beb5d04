/*
 * Random numbers that can be had again: a test that fails prints the seed, and CT_SEED=<seed>
 * repeats it. SplitMix64; not for secrets.
 */
#ifndef CT_TEST_RNG_H
#define CT_TEST_RNG_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct rng {
    uint64_t state;
};

static inline struct rng rng_of(uint64_t seed)
{
    return (struct rng){seed};
}

/* Seeded from CT_SEED, or from the clock; tells which seed it took. */
static inline struct rng rng_new(void)
{
    const char *given = getenv("CT_SEED");
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    uint64_t seed = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
    if (given)
        seed = strtoull(given, NULL, 10);
    printf("# CT_SEED=%" PRIu64 "\n", seed);
    return rng_of(seed);
}

static inline uint64_t rng_u64(struct rng *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* 0 to n - 1; n >= 1. */
static inline size_t rng_below(struct rng *r, size_t n)
{
    return (size_t)(rng_u64(r) % n);
}

static inline void rng_bytes(struct rng *r, void *out, size_t n)
{
    uint8_t *p = out;
    while (n--)
        *p++ = (uint8_t)rng_u64(r);
}

#endif
