#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/raw_hash.h"

#include <openssl/md5.h>
#include <openssl/sha.h>

#if !defined(OPENSSL_NO_DEPRECATED_3_0) && !defined(OPENSSL_NO_MD5)

/* A message on its way into a hash. */
union raw {
    MD5_CTX md5;
    SHA_CTX sha1;
    SHA256_CTX sha256;
};

enum {
    BLOCK_BITS = 8 * RAW_BLOCK
};

/* ---- each hash ---- */

static int md5_begin(union raw *r)
{
    return MD5_Init(&r->md5);
}

static int md5_update(union raw *r, const void *data, size_t len)
{
    return MD5_Update(&r->md5, data, len);
}

static int md5_end(union raw *r, uint8_t *out)
{
    return MD5_Final(out, &r->md5);
}

static void md5_save(const union raw *r, uint32_t state[RAW_WORDS])
{
    const MD5_CTX *c = &r->md5;
    const uint32_t words[] = {c->A, c->B, c->C, c->D};
    memcpy(state, words, sizeof words);
}

static void md5_resume(union raw *r, const uint32_t state[RAW_WORDS])
{
    MD5_CTX *c = &r->md5;
    c->A = state[0];
    c->B = state[1];
    c->C = state[2];
    c->D = state[3];
    c->Nl = BLOCK_BITS;
    c->Nh = c->num = 0;
}

static int sha1_begin(union raw *r)
{
    return SHA1_Init(&r->sha1);
}

static int sha1_update(union raw *r, const void *data, size_t len)
{
    return SHA1_Update(&r->sha1, data, len);
}

static int sha1_end(union raw *r, uint8_t *out)
{
    return SHA1_Final(out, &r->sha1);
}

static void sha1_save(const union raw *r, uint32_t state[RAW_WORDS])
{
    const SHA_CTX *c = &r->sha1;
    const uint32_t words[] = {c->h0, c->h1, c->h2, c->h3, c->h4};
    memcpy(state, words, sizeof words);
}

static void sha1_resume(union raw *r, const uint32_t state[RAW_WORDS])
{
    SHA_CTX *c = &r->sha1;
    c->h0 = state[0];
    c->h1 = state[1];
    c->h2 = state[2];
    c->h3 = state[3];
    c->h4 = state[4];
    c->Nl = BLOCK_BITS;
    c->Nh = c->num = 0;
}

static int sha256_begin(union raw *r)
{
    return SHA256_Init(&r->sha256);
}

static int sha256_update(union raw *r, const void *data, size_t len)
{
    return SHA256_Update(&r->sha256, data, len);
}

static int sha256_end(union raw *r, uint8_t *out)
{
    return SHA256_Final(out, &r->sha256);
}

static void sha256_save(const union raw *r, uint32_t state[RAW_WORDS])
{
    memcpy(state, r->sha256.h, sizeof r->sha256.h);
}

static void sha256_resume(union raw *r, const uint32_t state[RAW_WORDS])
{
    SHA256_CTX *c = &r->sha256;
    memcpy(c->h, state, sizeof c->h);
    c->Nl = BLOCK_BITS;
    c->Nh = c->num = 0;
    c->md_len = SHA256_DIGEST_LENGTH;
}

/* OpenSSL's functions return 1. What resumes is where save() was, behind one whole block. */
static const struct {
    int (*begin)(union raw *r);
    int (*update)(union raw *r, const void *data, size_t len);
    int (*end)(union raw *r, uint8_t *out);
    void (*save)(const union raw *r, uint32_t state[RAW_WORDS]);
    void (*resume)(union raw *r, const uint32_t state[RAW_WORDS]);
} hashes[CRYPTO_HASH_COUNT] = {
    [CRYPTO_MD5] = {md5_begin, md5_update, md5_end, md5_save, md5_resume},
    [CRYPTO_SHA1] = {sha1_begin, sha1_update, sha1_end, sha1_save, sha1_resume},
    [CRYPTO_SHA256] = {sha256_begin, sha256_update, sha256_end, sha256_save, sha256_resume},
};

/* ---- all of them ---- */

static bool update_all(union raw *r, enum crypto_hash hash, const struct span *parts, size_t n)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok = (!parts[i].len || hashes[hash].update(r, parts[i].data, parts[i].len) == 1) && ok;
    return ok;
}

bool raw_hash_there(void)
{
    return true;
}

/* A finished context holds the digest: of passwords, a key. */
bool raw_hash_digest(enum crypto_hash hash, const struct span *parts, size_t n, uint8_t *out)
{
    union raw r;
    bool ok = hashes[hash].begin(&r) == 1 && update_all(&r, hash, parts, n) &&
              hashes[hash].end(&r, out) == 1;
    crypto_wipe(&r, sizeof r);
    return ok;
}

bool raw_hash_block(enum crypto_hash hash, const uint8_t block[RAW_BLOCK],
                    uint32_t state[RAW_WORDS])
{
    union raw r;
    bool ok = hashes[hash].begin(&r) == 1 && hashes[hash].update(&r, block, RAW_BLOCK) == 1;
    hashes[hash].save(&r, state);
    crypto_wipe(&r, sizeof r);
    return ok;
}

bool raw_hash_hmac(enum crypto_hash hash, const uint32_t inner[RAW_WORDS],
                   const uint32_t outer[RAW_WORDS], const struct span *parts, size_t n,
                   uint8_t *out)
{
    union raw r;
    hashes[hash].resume(&r, inner);
    bool ok = update_all(&r, hash, parts, n) && hashes[hash].end(&r, out) == 1;
    hashes[hash].resume(&r, outer);
    ok = ok && hashes[hash].update(&r, out, crypto_hash_size(hash)) == 1 &&
         hashes[hash].end(&r, out) == 1;
    crypto_wipe(&r, sizeof r);
    return ok;
}

#else

bool raw_hash_there(void)
{
    return false;
}

bool raw_hash_digest(enum crypto_hash hash, const struct span *parts, size_t n, uint8_t *out)
{
    (void)hash, (void)parts, (void)n, (void)out;
    return false;
}

bool raw_hash_block(enum crypto_hash hash, const uint8_t block[RAW_BLOCK],
                    uint32_t state[RAW_WORDS])
{
    (void)hash, (void)block, (void)state;
    return false;
}

bool raw_hash_hmac(enum crypto_hash hash, const uint32_t inner[RAW_WORDS],
                   const uint32_t outer[RAW_WORDS], const struct span *parts, size_t n,
                   uint8_t *out)
{
    (void)hash, (void)inner, (void)outer, (void)parts, (void)n, (void)out;
    return false;
}

#endif
