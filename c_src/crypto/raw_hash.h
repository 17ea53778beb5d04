/*
 * MD5, SHA-1 and SHA-256 by libcrypto's own functions, without EVP around them: the same code that
 * its default provider runs, and nothing is allocated, locked or counted on the way. Deprecated
 * since OpenSSL 3.0, but there; crypto.c goes through EVP where they are not, or not to be used.
 */
#ifndef CT_CRYPTO_RAW_HASH_H
#define CT_CRYPTO_RAW_HASH_H

#include "core/buf.h"
#include "crypto/crypto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RAW_BLOCK = 64, /* bytes: the block size of all three */
    RAW_WORDS = 8   /* of a state, at most */
};

/* Whether this libcrypto has them. When not, all the others fail. */
bool raw_hash_there(void);

/* Digest of the n parts, one after the other. */
bool raw_hash_digest(enum crypto_hash hash, const struct span *parts, size_t n, uint8_t *out);

/* The state in which one first block leaves the hash. */
bool raw_hash_block(enum crypto_hash hash, const uint8_t block[RAW_BLOCK],
                    uint32_t state[RAW_WORDS]);

/* HMAC of the n parts, from the states that the padded keys left (RFC 2104 §4). */
bool raw_hash_hmac(enum crypto_hash hash, const uint32_t inner[RAW_WORDS],
                   const uint32_t outer[RAW_WORDS], const struct span *parts, size_t n,
                   uint8_t *out);

#endif
