/*
 * The few cryptographic functions the core needs, over OpenSSL 3. Only this room includes OpenSSL's
 * headers for them.
 *
 * A `struct crypto` holds fetched algorithms and scratch contexts. It belongs to one thread.
 */
#ifndef CT_CRYPTO_CRYPTO_H
#define CT_CRYPTO_CRYPTO_H

#include "core/buf.h"
#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum crypto_hash {
    CRYPTO_MD5,
    CRYPTO_SHA1,
    CRYPTO_SHA256,
    CRYPTO_HASH_COUNT
};

enum {
    CRYPTO_MD5_SIZE = 16,
    CRYPTO_SHA1_SIZE = 20,
    CRYPTO_SHA256_SIZE = 32,
    CRYPTO_MAX_SIZE = 32,
    CRYPTO_KEY_SIZE = 32,       /* of AES-256-GCM */
    CRYPTO_SHORT_KEY_SIZE = 16, /* of AES-128-GCM */
    CRYPTO_IV_SIZE = 12,        /* of both, as the next one */
    CRYPTO_TAG_SIZE = 16,
};

struct crypto;

/* NULL when memory is short or libcrypto lacks an algorithm (MD5 under a FIPS-only provider). */
struct crypto *crypto_new(void);
/* The same with all hashes through EVP, as on systems where they have to be. */
struct crypto *crypto_new_evp(void);
/* Whether hashes are libcrypto's own functions, without EVP. */
bool crypto_is_raw(const struct crypto *c);
void crypto_free(struct crypto *c);

/* Output size of a hash in bytes. */
size_t crypto_hash_size(enum crypto_hash hash);

/* Digest of the n parts, one after the other; out holds crypto_hash_size(hash) bytes. */
enum ct_err crypto_digest(struct crypto *c, enum crypto_hash hash, const struct span *parts,
                          size_t n, uint8_t *out);

/* HMAC (RFC 2104) of the n parts under key (any length); out holds crypto_hash_size(hash) bytes. */
enum ct_err crypto_hmac(struct crypto *c, enum crypto_hash hash, struct span key,
                        const struct span *parts, size_t n, uint8_t *out);

/*
 * A key that is made ready once for many HMACs: crypto_hmac() remembers the last key of each hash
 * only. Plain bytes, secret ones; made and used with the same `struct crypto`, or one made alike.
 * Zeroed: without a key.
 */
struct crypto_mac {
    union {
        struct {
            uint32_t inner[8], outer[8];
        } states;        /* in which the padded keys left the hash */
        uint8_t key[64]; /* where hashes go through EVP: the key, or its hash, and zeros after it */
    } of;
    uint8_t hash; /* enum crypto_hash */
    bool ready;
};

/* This key (any length) for that hash in place of what is there; on failure m has none. */
enum ct_err crypto_mac_key(struct crypto *c, struct crypto_mac *m, enum crypto_hash hash,
                           struct span key);

/*
 * This key made ready, by crypto_mac_key() or, when it is the last one that the hash was asked for,
 * already. Good until the next call with a key for that hash; NULL when libcrypto refuses.
 */
const struct crypto_mac *crypto_mac_of(struct crypto *c, enum crypto_hash hash, struct span key);

/* Wipes the key, so that m has none. */
void crypto_mac_forget(struct crypto_mac *m);

/* What crypto_hmac() gives for m's hash and key; CT_ECRYPTO when it has no key. */
enum ct_err crypto_mac_run(struct crypto *c, const struct crypto_mac *m, const struct span *parts,
                           size_t n, uint8_t *out);

/* AES-GCM (NIST SP 800-38D) with this key, IV and additional data. */
struct crypto_gcm {
    struct span key;   /* CRYPTO_KEY_SIZE or CRYPTO_SHORT_KEY_SIZE bytes; CT_EARG for others */
    const uint8_t *iv; /* CRYPTO_IV_SIZE bytes */
    struct span aad;
};

/*
 * Seals plain into plain.len + CRYPTO_TAG_SIZE bytes; no IV may be used twice under one key for
 * different plaintexts.
 */
enum ct_err crypto_seal(struct crypto *c, const struct crypto_gcm *gcm, struct span plain,
                        uint8_t *out);
/*
 * The reverse: out takes sealed.len - CRYPTO_TAG_SIZE bytes, all zero on failure. CT_EINTEGRITY
 * when anything was changed, CT_ESHORT when there is no room for a tag.
 */
enum ct_err crypto_open(struct crypto *c, const struct crypto_gcm *gcm, struct span sealed,
                        uint8_t *out);

/* n bytes from the CSPRNG. */
enum ct_err crypto_random(void *out, size_t n);

/* Equality in a time that depends on n alone. */
bool crypto_equal(const void *a, const void *b, size_t n);

/* Zeroes memory in a way that the compiler keeps. */
void crypto_wipe(void *p, size_t n);

#endif
