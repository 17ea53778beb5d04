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

#endif
