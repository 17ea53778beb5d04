#include "core/turn_keys.h"

#include <stdlib.h>

/* ---- life ---- */

static uint32_t sets_for(uint32_t allocations)
{
    uint32_t sets = 1;
    while (sets < TURN_KEPT_MAX / TURN_KEPT_WAYS && sets * TURN_KEPT_WAYS / 2 < allocations)
        sets *= 2;
    return sets;
}

bool turn_keys_init(struct turn_keys *k, struct crypto *c, const struct turn_config *config)
{
    uint32_t sets = sets_for(config->max_allocations);
    k->mask = sets - 1;
    k->kept = calloc((size_t)sets * TURN_KEPT_WAYS, sizeof *k->kept);
    return k->kept && turn_keys_configure(k, c, config);
}

/* Pages that nothing was written to are left alone. */
static void forget_kept(struct turn_keys *k)
{
    if (k->any)
        crypto_wipe(k->kept, ((size_t)k->mask + 1) * TURN_KEPT_WAYS * sizeof *k->kept);
    k->any = false;
}

void turn_keys_free(struct turn_keys *k)
{
    forget_kept(k);
    free(k->kept);
    crypto_wipe(k, sizeof *k);
}

bool turn_keys_configure(struct turn_keys *k, struct crypto *c, const struct turn_config *config)
{
    struct span nonce_key = span_of(config->nonce_key, sizeof config->nonce_key);
    forget_kept(k);
    bool ok = crypto_mac_key(c, &k->nonce, CRYPTO_SHA256, nonce_key) == CT_OK;
    for (size_t i = 0; i < TURN_SECRETS_MAX; i++) {
        struct span secret = span_of(config->secrets[i].bytes, config->secrets[i].len);
        if (i >= config->secret_count)
            crypto_mac_forget(&k->secrets[i]);
        else
            ok = crypto_mac_key(c, &k->secrets[i], CRYPTO_SHA1, secret) == CT_OK && ok;
    }
    return ok;
}

/* ---- kept keys ---- */

static bool keepable(const struct turn_key_owner *owner)
{
    return owner->username.len > 0 && owner->username.len <= TURN_KEPT_NAME;
}

/* The set that a username's key may be in, and the tag that it has there. */
static struct turn_kept *set_of(const struct turn_keys *k, const struct turn_key_owner *owner,
                                uint32_t *tag)
{
    uint64_t hash = hash_bytes(&k->seed, owner->username.data, owner->username.len);
    *tag = (uint32_t)(hash >> 32);
    return &k->kept[((uint32_t)hash & k->mask) * TURN_KEPT_WAYS];
}

static bool is_of(const struct turn_kept *e, const struct turn_key_owner *owner, uint32_t tag)
{
    return e->key_len && e->tag == tag && e->algorithm == owner->algorithm &&
           span_eq(span_of(e->name, e->name_len), owner->username);
}

const struct turn_kept *turn_keys_find(const struct turn_keys *k,
                                       const struct turn_key_owner *owner)
{
    uint32_t tag;
    if (!keepable(owner))
        return NULL;
    const struct turn_kept *set = set_of(k, owner, &tag);
    for (size_t i = 0; i < TURN_KEPT_WAYS; i++)
        if (is_of(&set[i], owner, tag))
            return &set[i];
    return NULL;
}

/* The owner's own place, else a free one, else the one whose turn it is. */
static struct turn_kept *place_for(struct turn_keys *k, struct turn_kept *set,
                                   const struct turn_key_owner *owner, uint32_t tag)
{
    struct turn_kept *place = NULL;
    for (size_t i = 0; i < TURN_KEPT_WAYS; i++) {
        if (is_of(&set[i], owner, tag))
            return &set[i];
        if (!place && !set[i].key_len)
            place = &set[i];
    }
    return place ? place : &set[k->hand++ % TURN_KEPT_WAYS];
}

void turn_keys_keep(struct turn_keys *k, const struct turn_key_owner *owner,
                    const struct stun_key *key, const struct crypto_mac *mac, size_t secret)
{
    uint32_t tag;
    if (!keepable(owner) || !key->len || key->len > CRYPTO_SHA256_SIZE)
        return;
    struct turn_kept *set = set_of(k, owner, &tag);
    struct turn_kept *e = place_for(k, set, owner, tag);
    crypto_wipe(e, sizeof *e);
    e->tag = tag;
    e->key_len = key->len;
    e->algorithm = owner->algorithm;
    e->secret = (uint8_t)secret;
    e->name_len = (uint8_t)owner->username.len;
    memcpy(e->key, key->bytes, key->len);
    memcpy(e->name, owner->username.data, owner->username.len);
    e->mac = *mac;
    k->any = true;
}
