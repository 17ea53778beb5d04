/*
 * Self-contained access tokens (RFC 7635 §6.2): what an authorization server, which shares a key
 * with this server, says about a client that it will never show itself to.
 *
 *  +-----------------+---------+-----------------------------------------------------------+-----+
 *  | nonce length 16 |  nonce  |  key length 16 | mac_key | timestamp 64 | lifetime 32     | tag |
 *  +-----------------+---------+-----------------------------------------------------------+-----+
 *                              |<------------- encrypted; A is the server's name --------->|
 *
 * Pure: bytes and a time in, an answer out.
 */
#ifndef CT_CORE_TURN_TOKEN_H
#define CT_CORE_TURN_TOKEN_H

#include "core/stun_auth.h"

enum {
    TURN_KID_MAX = 128,       /* bytes of a key's id, which comes as USERNAME */
    TURN_TOKEN_KEYS_MAX = 16, /* valid at once */
    TURN_TOKEN_DELTA = 5,     /* seconds that clocks may differ (§7) */
    TURN_MAC_KEY_MIN = 16,    /* bytes; 20 are usual */
    TURN_MAC_KEY_MAX = 64,
};

/* What is shared with an authorization server. */
struct turn_token_key {
    uint8_t kid[TURN_KID_MAX];
    uint8_t kid_len;
    uint8_t key_len; /* 32: A256GCM, 16: A128GCM */
    uint8_t key[CRYPTO_KEY_SIZE];
    uint64_t from, until; /* Unix seconds: good from the first on and before the second */
};

/* What a token says. */
struct turn_token {
    struct stun_key mac_key; /* for message integrity, as it is */
    uint64_t issued_s;       /* Unix seconds; the fraction is left out */
    uint32_t lifetime;       /* seconds */
};

/* The key with this id that is good now; NULL when there is none. */
const struct turn_token_key *turn_token_find(const struct turn_token_key *keys, size_t count,
                                             struct span kid, uint64_t unix_s);

/*
 * Opens the value of an ACCESS-TOKEN. CT_EVALUE when it is not made as above (only a nonce of 12
 * bytes is one of GCM's, RFC 5116 §5.1), CT_EINTEGRITY when it was not sealed with this key for a
 * server of this name. The caller wipes *out.
 */
enum ct_err turn_token_open(struct crypto *c, const struct turn_token_key *key,
                            struct span server_name, struct span token, struct turn_token *out);

/*
 * How many seconds longer it is good: lifetime + Delta - abs(now - timestamp) (§7, §9); 0 when it
 * is not. No more than 2^32 - 1.
 */
uint32_t turn_token_left(const struct turn_token *token, uint64_t unix_s);

#endif
