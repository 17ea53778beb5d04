#include "crypto/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

enum {
    BLOCK = 64
}; /* bytes: the block size of MD5, SHA-1 and SHA-256 */

/*
 * HMAC(key, m) = H(key ^ opad, H(key ^ ipad, m)) (RFC 2104): the two contexts that have taken their
 * pad are kept for the last key of each hash and copied for each message.
 */
struct keyed {
    EVP_MD_CTX *inner, *outer;
    uint8_t key[BLOCK]; /* the key they were made for */
    size_t key_len;     /* SIZE_MAX: none yet */
};

struct crypto {
    EVP_MD *md[CRYPTO_HASH_COUNT];
    EVP_MD_CTX *scratch;
    EVP_CIPHER *gcm256, *gcm128;
    EVP_CIPHER_CTX *cipher;
    struct keyed keyed[CRYPTO_HASH_COUNT];
};

static const char *const names[CRYPTO_HASH_COUNT] = {
    [CRYPTO_MD5] = "MD5", [CRYPTO_SHA1] = "SHA1", [CRYPTO_SHA256] = "SHA256"};

static bool init_hash(struct crypto *c, enum crypto_hash hash)
{
    struct keyed *k = &c->keyed[hash];
    c->md[hash] = EVP_MD_fetch(NULL, names[hash], NULL);
    k->inner = EVP_MD_CTX_new();
    k->outer = EVP_MD_CTX_new();
    k->key_len = SIZE_MAX;
    return c->md[hash] && k->inner && k->outer;
}

struct crypto *crypto_new(void)
{
    struct crypto *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->scratch = EVP_MD_CTX_new();
    c->gcm256 = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    c->gcm128 = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    c->cipher = EVP_CIPHER_CTX_new();
    bool ok = c->scratch && c->gcm256 && c->gcm128 && c->cipher;
    for (int hash = 0; hash < CRYPTO_HASH_COUNT; hash++)
        ok = init_hash(c, (enum crypto_hash)hash) && ok;
    if (ok)
        return c;
    crypto_free(c);
    return NULL;
}

void crypto_free(struct crypto *c)
{
    if (!c)
        return;
    for (int hash = 0; hash < CRYPTO_HASH_COUNT; hash++) {
        EVP_MD_CTX_free(c->keyed[hash].inner);
        EVP_MD_CTX_free(c->keyed[hash].outer);
        EVP_MD_free(c->md[hash]);
    }
    EVP_MD_CTX_free(c->scratch);
    EVP_CIPHER_CTX_free(c->cipher);
    EVP_CIPHER_free(c->gcm256);
    EVP_CIPHER_free(c->gcm128);
    crypto_wipe(c, sizeof *c);
    free(c);
}

size_t crypto_hash_size(enum crypto_hash hash)
{
    static const uint8_t sizes[CRYPTO_HASH_COUNT] = {
        [CRYPTO_MD5] = CRYPTO_MD5_SIZE,
        [CRYPTO_SHA1] = CRYPTO_SHA1_SIZE,
        [CRYPTO_SHA256] = CRYPTO_SHA256_SIZE,
    };
    return sizes[hash];
}

static bool update(EVP_MD_CTX *ctx, const struct span *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (parts[i].len && EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) != 1)
            return false;
    return true;
}

enum ct_err crypto_digest(struct crypto *c, enum crypto_hash hash, const struct span *parts,
                          size_t n, uint8_t *out)
{
    bool ok = EVP_DigestInit_ex2(c->scratch, c->md[hash], NULL) == 1 &&
              update(c->scratch, parts, n) && EVP_DigestFinal_ex(c->scratch, out, NULL) == 1;
    return ok ? CT_OK : CT_ECRYPTO;
}

/* A context that has taken the key XOR the pad byte. */
static bool take_pad(EVP_MD_CTX *ctx, const EVP_MD *md, const uint8_t key[BLOCK], uint8_t pad)
{
    uint8_t block[BLOCK];
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = key[i] ^ pad;
    bool ok = EVP_DigestInit_ex2(ctx, md, NULL) == 1 && EVP_DigestUpdate(ctx, block, BLOCK) == 1;
    crypto_wipe(block, sizeof block);
    return ok;
}

/* Makes the contexts of this hash those of the key (at most a block; longer ones are hashed first).
 */
static bool use_key(struct crypto *c, enum crypto_hash hash, struct span key)
{
    struct keyed *k = &c->keyed[hash];
    uint8_t block[BLOCK] = {0};
    if (k->key_len == key.len && CRYPTO_memcmp(k->key, key.data, key.len) == 0)
        return true;
    k->key_len = SIZE_MAX;
    if (key.len)
        memcpy(block, key.data, key.len);
    bool ok = take_pad(k->inner, c->md[hash], block, 0x36) &&
              take_pad(k->outer, c->md[hash], block, 0x5c);
    memcpy(k->key, block, BLOCK);
    crypto_wipe(block, sizeof block);
    if (ok)
        k->key_len = key.len;
    return ok;
}

/* A key longer than a block is hashed first (RFC 2104 §2). */
static bool use_any_key(struct crypto *c, enum crypto_hash hash, struct span key)
{
    uint8_t hashed[CRYPTO_MAX_SIZE];
    if (key.len <= BLOCK)
        return use_key(c, hash, key);
    bool ok = crypto_digest(c, hash, &key, 1, hashed) == CT_OK &&
              use_key(c, hash, span_of(hashed, crypto_hash_size(hash)));
    crypto_wipe(hashed, sizeof hashed);
    return ok;
}

enum ct_err crypto_hmac(struct crypto *c, enum crypto_hash hash, struct span key,
                        const struct span *parts, size_t n, uint8_t *out)
{
    uint8_t inner[CRYPTO_MAX_SIZE];
    const struct span inner_part = span_of(inner, crypto_hash_size(hash));
    if (!use_any_key(c, hash, key))
        return CT_ECRYPTO;
    bool ok = EVP_MD_CTX_copy_ex(c->scratch, c->keyed[hash].inner) == 1 &&
              update(c->scratch, parts, n) && EVP_DigestFinal_ex(c->scratch, inner, NULL) == 1 &&
              EVP_MD_CTX_copy_ex(c->scratch, c->keyed[hash].outer) == 1 &&
              update(c->scratch, &inner_part, 1) && EVP_DigestFinal_ex(c->scratch, out, NULL) == 1;
    crypto_wipe(inner, sizeof inner);
    return ok ? CT_OK : CT_ECRYPTO;
}

/* ---- AES-GCM ---- */

/* NULL when there is none for a key of that length. */
static const EVP_CIPHER *cipher_of(const struct crypto *c, struct span key)
{
    return key.len == CRYPTO_KEY_SIZE         ? c->gcm256
           : key.len == CRYPTO_SHORT_KEY_SIZE ? c->gcm128
                                              : NULL;
}

/* Additional data first, then the text; GCM has no padding and holds nothing back. */
static bool run_cipher(EVP_CIPHER_CTX *ctx, struct span aad, struct span in, uint8_t *out)
{
    int n;
    if (aad.len > INT32_MAX || in.len > INT32_MAX)
        return false;
    if (aad.len && EVP_CipherUpdate(ctx, NULL, &n, aad.data, (int)aad.len) != 1)
        return false;
    return !in.len || EVP_CipherUpdate(ctx, out, &n, in.data, (int)in.len) == 1;
}

enum ct_err crypto_seal(struct crypto *c, const struct crypto_gcm *gcm, struct span plain,
                        uint8_t *out)
{
    int n;
    const EVP_CIPHER *cipher = cipher_of(c, gcm->key);
    if (!cipher)
        return CT_EARG;
    bool ok = EVP_CipherInit_ex2(c->cipher, cipher, gcm->key.data, gcm->iv, 1, NULL) == 1 &&
              run_cipher(c->cipher, gcm->aad, plain, out) &&
              EVP_CipherFinal_ex(c->cipher, out + plain.len, &n) == 1 &&
              EVP_CIPHER_CTX_ctrl(c->cipher, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_SIZE,
                                  out + plain.len) == 1;
    EVP_CIPHER_CTX_reset(c->cipher);
    return ok ? CT_OK : CT_ECRYPTO;
}

enum ct_err crypto_open(struct crypto *c, const struct crypto_gcm *gcm, struct span sealed,
                        uint8_t *out)
{
    uint8_t tag[CRYPTO_TAG_SIZE], none[CRYPTO_TAG_SIZE];
    int n;
    const EVP_CIPHER *cipher = cipher_of(c, gcm->key);
    if (!cipher)
        return CT_EARG;
    if (sealed.len < CRYPTO_TAG_SIZE)
        return CT_ESHORT;
    size_t len = sealed.len - CRYPTO_TAG_SIZE;
    memcpy(tag, sealed.data + len, sizeof tag);
    bool ready = EVP_CipherInit_ex2(c->cipher, cipher, gcm->key.data, gcm->iv, 0, NULL) == 1 &&
                 run_cipher(c->cipher, gcm->aad, span_of(sealed.data, len), out) &&
                 EVP_CIPHER_CTX_ctrl(c->cipher, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) == 1;
    bool ok = ready && EVP_CipherFinal_ex(c->cipher, none, &n) == 1;
    EVP_CIPHER_CTX_reset(c->cipher);
    if (!ok)
        crypto_wipe(out, len);
    return ok ? CT_OK : ready ? CT_EINTEGRITY : CT_ECRYPTO;
}

enum ct_err crypto_random(void *out, size_t n)
{
    return n <= INT32_MAX && RAND_bytes(out, (int)n) == 1 ? CT_OK : CT_ECRYPTO;
}

bool crypto_equal(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

void crypto_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}
