/* Message integrity and the long-term credential's keys (RFC 8489 §9.2, §14.5, §14.6, §18.5). */
#ifndef CT_CORE_STUN_AUTH_H
#define CT_CORE_STUN_AUTH_H

#include "core/buf.h"
#include "core/err.h"
#include "core/stun_msg.h"
#include "crypto/crypto.h"

/* A derived key: 16 bytes (MD5) or 32 (SHA-256); also any short HMAC key for tests and ICE. */
struct stun_key {
    uint8_t bytes[64];
    uint8_t len;
};

enum stun_integrity {
    STUN_INTEGRITY_SHA1,
    STUN_INTEGRITY_SHA256
};

enum crypto_hash stun_integrity_hash(enum stun_integrity which);

struct stun_long_term {
    struct span username;
    struct span realm;
    struct span password;
};

/*
 * A username or realm without NULs behind it and double quotes around it, or a password (no quotes
 * there): what is hashed (RFC 8489 §9.2.2).
 */
struct span stun_stripped(struct span text, bool quotes);

enum {
    STUN_REST_PASSWORD_MAX = 44
}; /* Base64 of 32 bytes */

/*
 * key = hash(username ":" realm ":" password) (§18.5.1). Surrounding double quotes and trailing
 * NULs of username and realm and trailing NULs of the password are stripped first (§9.2.2).
 */
enum ct_err stun_key_long_term(struct crypto *c, enum stun_password_algorithm alg,
                               const struct stun_long_term *cred, struct stun_key *out);

/* USERHASH = SHA-256(username ":" realm) (§14.4). */
enum ct_err stun_userhash(struct crypto *c, struct span username, struct span realm,
                          uint8_t out[32]);

/*
 * The password of a time-limited credential: base64(HMAC-hash(secret, username)), hash SHA1
 * (customary, 28 characters) or SHA256 (44), no final zero (draft-uberti-rtcweb-turn-rest §2.2).
 */
enum ct_err stun_rest_password(struct crypto *c, enum crypto_hash hash, struct span secret,
                               struct span username, char out[STUN_REST_PASSWORD_MAX],
                               size_t *out_len);

/* The same with a secret that is made ready, HMAC-SHA1 or HMAC-SHA256. */
enum ct_err stun_rest_password_by(struct crypto *c, const struct crypto_mac *secret,
                                  struct span username, char out[STUN_REST_PASSWORD_MAX],
                                  size_t *out_len);

/*
 * The expiry of a time-limited username "<unix seconds>[:<user id>]": CT_EVALUE when the part
 * before the first colon is not 1 to 19 decimal digits. *user (may be NULL) is what follows the
 * colon, or the whole username when there is no colon.
 */
enum ct_err stun_rest_username(struct span username, uint64_t *expiry, struct span *user);

/*
 * Verifies MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 in constant time. CT_EMISSING when the
 * message lacks it, CT_EVALUE when its length is not 20 or 32, CT_EINTEGRITY when it does not
 * match.
 */
enum ct_err stun_check_integrity(struct crypto *c, const struct stun_msg *m,
                                 enum stun_integrity which, const struct stun_key *key);

/* Appends MESSAGE-INTEGRITY or -SHA256 over what has been written so far. */
enum ct_err stun_put_integrity(struct wbuf *w, struct crypto *c, enum stun_integrity which,
                               const struct stun_key *key);

/* The same with a key that is made ready, for HMAC-SHA1 or HMAC-SHA256: it says which. */
enum ct_err stun_check_integrity_by(struct crypto *c, const struct stun_msg *m,
                                    const struct crypto_mac *key);
enum ct_err stun_put_integrity_by(struct wbuf *w, struct crypto *c, const struct crypto_mac *key);

#endif
