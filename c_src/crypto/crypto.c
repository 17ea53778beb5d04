#include "crypto/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

enum {
    BLOCK = 64,  /* bytes: the block size of MD5, SHA-1 and SHA-256 */
    GATHER = 256 /* bytes: what OpenSSL is given at once, where a message is in small parts */
};

/*
 * HMAC(key, m) = H(key ^ opad, H(key ^ ipad, m)) (RFC 2104): the two contexts that have taken their
 * pad, to be copied for each message. EVP_MAC would copy them too, and take longer.
 */
struct crypto_mac {
    enum crypto_hash hash;
    EVP_MD_CTX *inner, *outer;
};

/* The key that a hash was last asked for: a request and its response have the same. */
struct last {
    struct crypto_mac mac;
    uint8_t key[BLOCK];
    size_t key_len; /* SIZE_MAX: none yet */
};

/*
 * A copy of a context that has just begun costs less than beginning anew (OpenSSL 3.0: 0.8 of it),
 * and a scratch context that stays with its algorithm less than one that changes it.
 */
struct crypto {
    EVP_MD_CTX *fresh[CRYPTO_HASH_COUNT], *scratch[CRYPTO_HASH_COUNT];
    EVP_CIPHER *gcm256, *gcm128;
    EVP_CIPHER_CTX *cipher;
    struct last last[CRYPTO_HASH_COUNT];
};

static const char *const names[CRYPTO_HASH_COUNT] = {
    [CRYPTO_MD5] = "MD5", [CRYPTO_SHA1] = "SHA1", [CRYPTO_SHA256] = "SHA256"};

static bool init_mac(struct crypto_mac *m, enum crypto_hash hash)
{
    m->hash = hash;
    m->inner = EVP_MD_CTX_new();
    m->outer = EVP_MD_CTX_new();
    return m->inner && m->outer;
}

static void free_mac(struct crypto_mac *m)
{
    EVP_MD_CTX_free(m->inner);
    EVP_MD_CTX_free(m->outer);
}

static bool init_hash(struct crypto *c, enum crypto_hash hash)
{
    EVP_MD *md = EVP_MD_fetch(NULL, names[hash], NULL);
    c->fresh[hash] = EVP_MD_CTX_new();
    c->scratch[hash] = EVP_MD_CTX_new();
    c->last[hash].key_len = SIZE_MAX;
    bool ok = init_mac(&c->last[hash].mac, hash) && md && c->fresh[hash] && c->scratch[hash] &&
              EVP_DigestInit_ex2(c->fresh[hash], md, NULL) == 1;
    EVP_MD_free(md); /* contexts count their references */
    return ok;
}

struct crypto *crypto_new(void)
{
    struct crypto *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->gcm256 = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    c->gcm128 = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    c->cipher = EVP_CIPHER_CTX_new();
    bool ok = c->gcm256 && c->gcm128 && c->cipher;
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
        free_mac(&c->last[hash].mac);
        EVP_MD_CTX_free(c->fresh[hash]);
        EVP_MD_CTX_free(c->scratch[hash]);
    }
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

/* ---- hashes ---- */

/* A message on its way into a context. */
struct gather {
    EVP_MD_CTX *ctx;
    size_t used;
    bool ok;
    uint8_t bytes[GATHER];
};

/* Goes on where `from` is. */
static void gather_begin(struct gather *g, EVP_MD_CTX *ctx, const EVP_MD_CTX *from)
{
    g->ctx = ctx;
    g->used = 0;
    g->ok = EVP_MD_CTX_copy_ex(ctx, from) == 1;
}

static void gather_flush(struct gather *g)
{
    g->ok = g->ok && (!g->used || EVP_DigestUpdate(g->ctx, g->bytes, g->used) == 1);
    g->used = 0;
}

static void gather_put(struct gather *g, struct span part)
{
    if (part.len > GATHER - g->used)
        gather_flush(g);
    if (part.len > GATHER) {
        g->ok = g->ok && EVP_DigestUpdate(g->ctx, part.data, part.len) == 1;
    } else if (part.len) {
        memcpy(g->bytes + g->used, part.data, part.len);
        g->used += part.len;
    }
}

static void gather_all(struct gather *g, const struct span *parts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gather_put(g, parts[i]);
}

static bool gather_end(struct gather *g, uint8_t *out)
{
    gather_flush(g);
    return g->ok && EVP_DigestFinal_ex(g->ctx, out, NULL) == 1;
}

enum ct_err crypto_digest(struct crypto *c, enum crypto_hash hash, const struct span *parts,
                          size_t n, uint8_t *out)
{
    struct gather g;
    gather_begin(&g, c->scratch[hash], c->fresh[hash]);
    gather_all(&g, parts, n);
    bool ok = gather_end(&g, out);
    crypto_wipe(g.bytes, sizeof g.bytes); /* passwords are hashed */
    return ok ? CT_OK : CT_ECRYPTO;
}

/* ---- HMAC with a key that stays ---- */

struct crypto_mac *crypto_mac_new(enum crypto_hash hash)
{
    struct crypto_mac *m = calloc(1, sizeof *m);
    if (m && init_mac(m, hash))
        return m;
    crypto_mac_free(m);
    return NULL;
}

void crypto_mac_free(struct crypto_mac *m)
{
    if (m)
        free_mac(m);
    free(m);
}

enum crypto_hash crypto_mac_hash(const struct crypto_mac *m)
{
    return m->hash;
}

void crypto_mac_forget(struct crypto_mac *m)
{
    EVP_MD_CTX_reset(m->inner);
    EVP_MD_CTX_reset(m->outer);
}

/* *key, or what stands for it when it is longer than a block: its hash (RFC 2104 §2). */
static bool shorten(struct crypto *c, enum crypto_hash hash, struct span *key,
                    uint8_t hashed[CRYPTO_MAX_SIZE])
{
    if (key->len <= BLOCK)
        return true;
    bool ok = crypto_digest(c, hash, key, 1, hashed) == CT_OK;
    *key = span_of(hashed, crypto_hash_size(hash));
    return ok;
}

/* A context that has taken the key, zeros after it, XOR the pad byte. */
static bool take_pad(EVP_MD_CTX *ctx, const EVP_MD_CTX *fresh, struct span key, uint8_t pad)
{
    uint8_t block[BLOCK];
    memset(block, pad, BLOCK);
    for (size_t i = 0; i < key.len; i++)
        block[i] ^= key.data[i];
    bool ok = EVP_MD_CTX_copy_ex(ctx, fresh) == 1 && EVP_DigestUpdate(ctx, block, BLOCK) == 1;
    crypto_wipe(block, sizeof block);
    return ok;
}

/* Both pads of a key of at most a block. */
static bool take_key(const struct crypto *c, struct crypto_mac *m, struct span key)
{
    return take_pad(m->inner, c->fresh[m->hash], key, 0x36) &&
           take_pad(m->outer, c->fresh[m->hash], key, 0x5c);
}

enum ct_err crypto_mac_key(struct crypto *c, struct crypto_mac *m, struct span key)
{
    uint8_t hashed[CRYPTO_MAX_SIZE];
    crypto_mac_forget(m);
    bool ok = shorten(c, m->hash, &key, hashed) && take_key(c, m, key);
    crypto_wipe(hashed, sizeof hashed);
    if (!ok)
        crypto_mac_forget(m);
    return ok ? CT_OK : CT_ECRYPTO;
}

enum ct_err crypto_mac_run(struct crypto *c, const struct crypto_mac *m, const struct span *parts,
                           size_t n, uint8_t *out)
{
    struct gather g;
    EVP_MD_CTX *ctx = c->scratch[m->hash];
    gather_begin(&g, ctx, m->inner);
    gather_all(&g, parts, n);
    bool ok = gather_end(&g, out) && EVP_MD_CTX_copy_ex(ctx, m->outer) == 1 &&
              EVP_DigestUpdate(ctx, out, crypto_hash_size(m->hash)) == 1 &&
              EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    return ok ? CT_OK : CT_ECRYPTO;
}

/* ---- HMAC with a key that comes along ---- */

static bool use_key(struct crypto *c, struct last *l, struct span key)
{
    if (l->key_len == key.len && CRYPTO_memcmp(l->key, key.data, key.len) == 0)
        return true;
    l->key_len = SIZE_MAX;
    if (!take_key(c, &l->mac, key))
        return false;
    if (key.len)
        memcpy(l->key, key.data, key.len);
    l->key_len = key.len;
    return true;
}

enum ct_err crypto_hmac(struct crypto *c, enum crypto_hash hash, struct span key,
                        const struct span *parts, size_t n, uint8_t *out)
{
    uint8_t hashed[CRYPTO_MAX_SIZE];
    struct last *l = &c->last[hash];
    bool is_long = key.len > BLOCK;
    bool ok = shorten(c, hash, &key, hashed) && use_key(c, l, key);
    if (is_long)
        crypto_wipe(hashed, sizeof hashed);
    return ok ? crypto_mac_run(c, &l->mac, parts, n, out) : CT_ECRYPTO;
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
