/*
 * The keys that an engine works with, made ready for use: of nonces, of the secrets, and the
 * long-term keys of users who have shown that they know their password.
 *
 * A long-term key is a function of the username, the realm and a secret. It is kept so that it need
 * not be derived again for the user's next allocation: every decision is the same without. All that
 * is kept goes, wiped, with the configuration that it was made under.
 */
#ifndef CT_CORE_TURN_KEYS_H
#define CT_CORE_TURN_KEYS_H

#include "core/hash.h"
#include "core/stun_auth.h"
#include "core/turn_config.h"
#include "crypto/crypto.h"

enum {
    TURN_KEPT_NAME = 84,     /* bytes; keys of longer usernames are not kept */
    TURN_KEPT_MAX = 1 << 12, /* places, 768 KiB: users come again soon or not at all */
    TURN_KEPT_WAYS = 4,      /* places that a username's key may be in */
};

/* 192 bytes */
struct turn_kept {
    uint32_t tag; /* of the username's hash */
    uint8_t key[CRYPTO_SHA256_SIZE];
    uint8_t key_len; /* 0: the place is free */
    uint8_t algorithm;
    uint8_t secret; /* which of the configuration's the key was made with */
    uint8_t name_len;
    uint8_t name[TURN_KEPT_NAME];
    struct crypto_mac mac; /* the key, ready for the integrity that it was proved with */
};

struct turn_keys {
    struct crypto_mac nonce;                     /* HMAC-SHA256 */
    struct crypto_mac secrets[TURN_SECRETS_MAX]; /* HMAC-SHA1; those that there are have a key */
    struct turn_kept *kept;
    uint32_t mask; /* of a set of TURN_KEPT_WAYS */
    uint32_t hand; /* which of a full set goes next */
    bool any;      /* is kept */
    struct hash_seed seed;
};

/*
 * Room for twice as many kept keys as there may be allocations, within limits, as only some places
 * are good for a key; touched as it comes into use. The seed stays as it is. False when memory is
 * short; turn_keys_free() then, too.
 */
bool turn_keys_init(struct turn_keys *k, struct crypto *c, const struct turn_config *config);
/* Wipes and frees; zeroed ones are fine. */
void turn_keys_free(struct turn_keys *k);

/*
 * Forgets every key and takes those of this configuration. False when libcrypto refuses: what has
 * no key fails from then on, and never has an old one.
 */
bool turn_keys_configure(struct turn_keys *k, struct crypto *c, const struct turn_config *config);

/* Whose key: `algorithm` is an enum stun_password_algorithm. */
struct turn_key_owner {
    struct span username;
    uint8_t algorithm;
};

/* The kept key of this user, good until the next is kept; NULL when there is none. */
const struct turn_kept *turn_keys_find(const struct turn_keys *k,
                                       const struct turn_key_owner *owner);

/*
 * Keeps a key that a request has proved, and what it was made ready to; one of another secret is
 * replaced, and where there is no room, one of the users who share the place.
 */
void turn_keys_keep(struct turn_keys *k, const struct turn_key_owner *owner,
                    const struct stun_key *key, const struct crypto_mac *mac, size_t secret);

#endif
