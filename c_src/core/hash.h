/*
 * A fast keyed hash for tables whose keys come from the network. The seed is random and secret, so
 * that nobody can choose keys that collide; it is not a MAC.
 */
#ifndef CT_CORE_HASH_H
#define CT_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hash_seed {
    uint64_t k[2];
};

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 u128;
    u128 p = (u128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t hash_bytes(const struct hash_seed *seed, const void *data, size_t len)
{
    const uint8_t *p = (const uint8_t *)data;
    uint64_t h = seed->k[0] ^ len;
    uint64_t a, b;
    for (; len >= 16; p += 16, len -= 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = hash_fold(a ^ seed->k[1], b ^ h);
    }
    a = b = 0;
    if (len >= 8) {
        memcpy(&a, p, 8);
        p += 8;
        len -= 8;
    }
    if (len)
        memcpy(&b, p, len);
    h = hash_fold(a ^ seed->k[1], b ^ h);
    return hash_fold(h ^ seed->k[0], seed->k[1] | 1);
}

/*
 * For keys of one fixed size, seven words: NH (Black et al., UMAC, 1999) with 64-bit words. Over
 * the choice of `k`, two given keys have the same sum with a probability of 2^-64, whoever chose
 * them; then both halves of the sum are mixed. Its multiplications do not wait for each other.
 */
struct hash_words {
    uint64_t k[10];
};

enum {
    HASH_SEVEN = 7 * 8 /* bytes */
};

static inline uint64_t hash_word(const void *data, size_t i)
{
    uint64_t word;
    memcpy(&word, (const uint8_t *)data + 8 * i, 8);
    return word;
}

static inline uint64_t hash_seven(const struct hash_words *seed, const void *w)
{
    __extension__ typedef unsigned __int128 u128;
    const uint64_t *k = seed->k;
    u128 sum = (u128)(hash_word(w, 0) + k[0]) * (hash_word(w, 1) + k[1]) +
               (u128)(hash_word(w, 2) + k[2]) * (hash_word(w, 3) + k[3]) +
               (u128)(hash_word(w, 4) + k[4]) * (hash_word(w, 5) + k[5]) +
               (u128)(hash_word(w, 6) + k[6]) * k[7];
    return hash_fold((uint64_t)sum ^ k[8], (uint64_t)(sum >> 64) ^ k[9]);
}

#endif
