#include "core/turn_users.h"

#include "core/hash.h"
#include "core/map.h"
#include "core/slab.h"
#include "core/stun_auth.h"

#include <stdlib.h>

struct known {
    uint8_t hash[TURN_USERHASH_SIZE];
    uint16_t len;
    uint8_t name[STUN_USERNAME_MAX];
};

struct turn_users {
    struct slab slab;
    struct map by_hash;
    struct hash_seed seed;
    uint32_t oldest; /* once the table is full */
};

struct turn_users *turn_users_new(uint32_t capacity)
{
    struct turn_users *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    if (slab_init(&u->slab, sizeof(struct known), capacity) && map_init(&u->by_hash, capacity) &&
        crypto_random(&u->seed, sizeof u->seed) == CT_OK)
        return u;
    turn_users_free(u);
    return NULL;
}

void turn_users_free(struct turn_users *u)
{
    if (!u)
        return;
    slab_free(&u->slab);
    map_free(&u->by_hash);
    free(u);
}

static struct known *known_at(const struct turn_users *u, uint32_t number)
{
    return slab_at(&u->slab, number);
}

static uint64_t key_of(const struct turn_users *u, const uint8_t hash[TURN_USERHASH_SIZE])
{
    return hash_bytes(&u->seed, hash, TURN_USERHASH_SIZE);
}

static const struct known *find(const struct turn_users *u, const uint8_t hash[TURN_USERHASH_SIZE])
{
    struct map_iter it;
    for (uint32_t n = map_first(&u->by_hash, key_of(u, hash), &it); n != MAP_NONE;
         n = map_next(&u->by_hash, &it))
        if (memcmp(known_at(u, n)->hash, hash, TURN_USERHASH_SIZE) == 0)
            return known_at(u, n);
    return NULL;
}

/* A free place, made by forgetting the oldest where there is none. */
static uint32_t take_place(struct turn_users *u)
{
    uint32_t n = slab_take(&u->slab);
    if (n != SLAB_NONE)
        return n;
    n = u->oldest;
    u->oldest = (n + 1) % u->slab.capacity;
    map_remove(&u->by_hash, key_of(u, known_at(u, n)->hash), n);
    return n;
}

enum ct_err turn_users_put(struct turn_users *u, struct crypto *c, struct span realm,
                           struct span username)
{
    uint8_t hash[TURN_USERHASH_SIZE];
    if (username.len == 0 || username.len > STUN_USERNAME_MAX)
        return CT_EVALUE;
    enum ct_err err = stun_userhash(c, username, realm, hash);
    if (err != CT_OK || find(u, hash))
        return err;
    uint32_t n = take_place(u);
    struct known *k = known_at(u, n);
    memcpy(k->hash, hash, sizeof hash);
    memcpy(k->name, username.data, username.len);
    k->len = (uint16_t)username.len;
    map_put(&u->by_hash, key_of(u, hash), n);
    return CT_OK;
}

enum ct_err turn_users_rehash(struct turn_users *u, struct crypto *c, struct span realm)
{
    for (uint32_t n = 0; n < u->slab.fresh; n++) {
        struct known *k = known_at(u, n);
        map_remove(&u->by_hash, key_of(u, k->hash), n);
        enum ct_err err = stun_userhash(c, span_of(k->name, k->len), realm, k->hash);
        map_put(&u->by_hash, key_of(u, k->hash), n);
        if (err != CT_OK)
            return err;
    }
    return CT_OK;
}

size_t turn_users_find(const struct turn_users *u, const uint8_t hash[TURN_USERHASH_SIZE],
                       uint8_t out[STUN_USERNAME_MAX])
{
    const struct known *k = find(u, hash);
    if (!k)
        return 0;
    memcpy(out, k->name, k->len);
    return k->len;
}

uint32_t turn_users_count(const struct turn_users *u)
{
    return u->slab.used;
}
