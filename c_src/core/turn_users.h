/*
 * Usernames found by their USERHASH (RFC 8489 §14.4): a hash cannot be inverted, so the server must
 * have been told who there is. Bounded: the newest username takes the place of the oldest.
 */
#ifndef CT_CORE_TURN_USERS_H
#define CT_CORE_TURN_USERS_H

#include "core/stun_wire.h"
#include "crypto/crypto.h"

enum {
    TURN_USERHASH_SIZE = 32,
    TURN_USERS_LIMIT = 1 << 20, /* the largest table */
};

struct turn_users;

/* Room for `capacity` usernames, 1 to TURN_USERS_LIMIT. NULL when memory is short. */
struct turn_users *turn_users_new(uint32_t capacity);
void turn_users_free(struct turn_users *u);

/*
 * Remembers a username of 1 to STUN_USERNAME_MAX bytes under its hash in this realm. CT_EVALUE for
 * another length. Known ones stay as they are.
 */
enum ct_err turn_users_put(struct turn_users *u, struct crypto *c, struct span realm,
                           struct span username);

/* The hashes of another realm for all that are remembered. */
enum ct_err turn_users_rehash(struct turn_users *u, struct crypto *c, struct span realm);

/* The length of the username with that hash, copied to out; 0 when there is none. */
size_t turn_users_find(const struct turn_users *u, const uint8_t hash[TURN_USERHASH_SIZE],
                       uint8_t out[STUN_USERNAME_MAX]);

uint32_t turn_users_count(const struct turn_users *u);

#endif
