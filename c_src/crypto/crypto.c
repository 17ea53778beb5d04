#include "crypto/crypto.h"

#include "crypto/raw_hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <stdlib.h>

enum {
    BLOCK = RAW_BLOCK
};

/*
 * HMAC(key, m) = H(key ^ opad, H(key ^ ipad, m)) (RFC 2104): through EVP, the two contexts that
 * have taken their pad, to be copied for each message. EVP_MAC would copy them too, and take
 * longer.
 */
struct evp_pads {
    EVP_MD_CTX *inner, *outer;
    uint8_t key[BLOCK]; /* padded */
    bool there;
};

/* The key that crypto_hmac() was last given: a request and its response have the same. */
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
    bool raw; /* hashes go by raw_hash.h, not through EVP */
    EVP_MD_CTX *fresh[CRYPTO_HASH_COUNT], *scratch[CRYPTO_HASH_COUNT];
    struct evp_pads pads[CRYPTO_HASH_COUNT];
    EVP_CIPHER *gcm256, *gcm128;
    EVP_CIPHER_CTX *cipher;
    struct last last[CRYPTO_HASH_COUNT];
};

static const char *const names[CRYPTO_HASH_COUNT] = {
    [CRYPTO_MD5] = "MD5", [CRYPTO_SHA1] = "SHA1", [CRYPTO_SHA256] = "SHA256"};

/*
 * Whether an algorithm is libcrypto's own: what was configured to come from elsewhere, as from the
 * FIPS module, must come from there.
 */
static bool is_own(const EVP_MD *md)
{
    const OSSL_PROVIDER *from = EVP_MD_get0_provider(md);
    return from && strcmp(OSSL_PROVIDER_get0_name(from), "default") == 0;
}

static bool init_hash(struct crypto *c, enum crypto_hash hash)
{
    EVP_MD *md = EVP_MD_fetch(NULL, names[hash], NULL);
    c->fresh[hash] = EVP_MD_CTX_new();
    c->scratch[hash] = EVP_MD_CTX_new();
    c->pads[hash].inner = EVP_MD_CTX_new();
    c->pads[hash].outer = EVP_MD_CTX_new();
    c->last[hash].key_len = SIZE_MAX;
    bool ok = md && c->fresh[hash] && c->scratch[hash] && c->pads[hash].inner &&
              c->pads[hash].outer && EVP_DigestInit_ex2(c->fresh[hash], md, NULL) == 1;
    c->raw = c->raw && ok && is_own(md);
    EVP_MD_free(md); /* contexts count their references */
    return ok;
}

static struct crypto *make(bool raw)
{
    struct crypto *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->raw = raw;
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

struct crypto *crypto_new(void)
{
    return make(raw_hash_there());
}

struct crypto *crypto_new_evp(void)
{
    return make(false);
}

bool crypto_is_raw(const struct crypto *c)
{
    return c->raw;
}

void crypto_free(struct crypto *c)
{
    if (!c)
        return;
    for (int hash = 0; hash < CRYPTO_HASH_COUNT; hash++) {
        EVP_MD_CTX_free(c->pads[hash].inner);
        EVP_MD_CTX_free(c->pads[hash].outer);
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

/* The digest of what `from` has taken and the parts. */
static bool evp_digest(EVP_MD_CTX *ctx, const EVP_MD_CTX *from, const struct span *parts, size_t n,
                       uint8_t *out)
{
    bool ok = EVP_MD_CTX_copy_ex(ctx, from) == 1;
    for (size_t i = 0; i < n; i++)
        ok = ok && (!parts[i].len || EVP_DigestUpdate(ctx, parts[i].data, parts[i].len) == 1);
    return ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
}

enum ct_err crypto_digest(struct crypto *c, enum crypto_hash hash, const struct span *parts,
                          size_t n, uint8_t *out)
{
    bool ok = c->raw ? raw_hash_digest(hash, parts, n, out)
                     : evp_digest(c->scratch[hash], c->fresh[hash], parts, n, out);
    return ok ? CT_OK : CT_ECRYPTO;
}

/* ---- HMAC with a key that stays ---- */

void crypto_mac_forget(struct crypto_mac *m)
{
    crypto_wipe(m, sizeof *m);
}

static void xor_pad(uint8_t out[BLOCK], const uint8_t key[BLOCK], uint8_t pad)
{
    for (size_t i = 0; i < BLOCK; i++)
        out[i] = key[i] ^ pad;
}

/* The key, or its hash when it is longer than a block, and zeros after it (RFC 2104 §2). */
static bool pad_key(struct crypto *c, enum crypto_hash hash, struct span key, uint8_t out[BLOCK])
{
    memset(out, 0, BLOCK);
    if (key.len > BLOCK)
        return crypto_digest(c, hash, &key, 1, out) == CT_OK;
    if (key.len)
        memcpy(out, key.data, key.len);
    return true;
}

static bool raw_states(struct crypto_mac *m, enum crypto_hash hash, const uint8_t key[BLOCK])
{
    uint8_t block[BLOCK];
    xor_pad(block, key, 0x36);
    bool ok = raw_hash_block(hash, block, m->of.states.inner);
    xor_pad(block, key, 0x5c);
    ok = raw_hash_block(hash, block, m->of.states.outer) && ok;
    crypto_wipe(block, sizeof block);
    return ok;
}

enum ct_err crypto_mac_key(struct crypto *c, struct crypto_mac *m, enum crypto_hash hash,
                           struct span key)
{
    uint8_t block[BLOCK];
    *m = (struct crypto_mac){.hash = (uint8_t)hash};
    m->ready = pad_key(c, hash, key, block) && (!c->raw || raw_states(m, hash, block));
    if (m->ready && !c->raw)
        memcpy(m->of.key, block, sizeof block);
    crypto_wipe(block, sizeof block);
    if (m->ready)
        return CT_OK;
    crypto_mac_forget(m); /* one of the two states may be there */
    return CT_ECRYPTO;
}

/* A context that has taken the key under the pad byte. */
static bool take_pad(EVP_MD_CTX *ctx, const EVP_MD_CTX *fresh, const uint8_t key[BLOCK],
                     uint8_t pad)
{
    uint8_t block[BLOCK];
    xor_pad(block, key, pad);
    bool ok = EVP_MD_CTX_copy_ex(ctx, fresh) == 1 && EVP_DigestUpdate(ctx, block, BLOCK) == 1;
    crypto_wipe(block, sizeof block);
    return ok;
}

static bool take_key(struct evp_pads *p, const EVP_MD_CTX *fresh, const uint8_t key[BLOCK])
{
    if (p->there && crypto_equal(p->key, key, BLOCK))
        return true;
    p->there = take_pad(p->inner, fresh, key, 0x36) && take_pad(p->outer, fresh, key, 0x5c);
    memcpy(p->key, key, BLOCK);
    return p->there;
}

static bool evp_hmac(struct crypto *c, const struct crypto_mac *m, const struct span *parts,
                     size_t n, uint8_t *out)
{
    struct evp_pads *p = &c->pads[m->hash];
    EVP_MD_CTX *ctx = c->scratch[m->hash];
    const struct span hashed = span_of(out, crypto_hash_size((enum crypto_hash)m->hash));
    return take_key(p, c->fresh[m->hash], m->of.key) && evp_digest(ctx, p->inner, parts, n, out) &&
           evp_digest(ctx, p->outer, &hashed, 1, out);
}

enum ct_err crypto_mac_run(struct crypto *c, const struct crypto_mac *m, const struct span *parts,
                           size_t n, uint8_t *out)
{
    if (!m->ready)
        return CT_ECRYPTO;
    bool ok = c->raw ? raw_hash_hmac((enum crypto_hash)m->hash, m->of.states.inner,
                                     m->of.states.outer, parts, n, out)
                     : evp_hmac(c, m, parts, n, out);
    return ok ? CT_OK : CT_ECRYPTO;
}

/* ---- HMAC with a key that comes along ---- */

static enum ct_err use_key(struct crypto *c, struct last *l, enum crypto_hash hash, struct span key)
{
    if (l->key_len == key.len && crypto_equal(l->key, key.data, key.len))
        return CT_OK;
    l->key_len = SIZE_MAX;
    enum ct_err err = crypto_mac_key(c, &l->mac, hash, key);
    if (err || key.len > BLOCK)
        return err;
    if (key.len)
        memcpy(l->key, key.data, key.len);
    l->key_len = key.len;
    return CT_OK;
}

const struct crypto_mac *crypto_mac_of(struct crypto *c, enum crypto_hash hash, struct span key)
{
    return use_key(c, &c->last[hash], hash, key) == CT_OK ? &c->last[hash].mac : NULL;
}

enum ct_err crypto_hmac(struct crypto *c, enum crypto_hash hash, struct span key,
                        const struct span *parts, size_t n, uint8_t *out)
{
    const struct crypto_mac *m = crypto_mac_of(c, hash, key);
    return m ? crypto_mac_run(c, m, parts, n, out) : CT_ECRYPTO;
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

/*
 * OPENSSL_cleanse() and CRYPTO_memcmp() go byte by byte. Here the compiler makes the best of plain
 * code, and an empty instruction that it cannot look into keeps it from leaving the stores out, or
 * from stopping at the first difference.
 */
#ifdef __GNUC__

static uint64_t difference(const uint8_t *a, const uint8_t *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x ^ y;
}

bool crypto_equal(const void *a, const void *b, size_t n)
{
    const uint8_t *p = (const uint8_t *)a, *q = (const uint8_t *)b;
    uint64_t differ = 0;
    for (; n >= sizeof differ; n -= sizeof differ, p += sizeof differ, q += sizeof differ) {
        differ |= difference(p, q);
        __asm__("" : "+r"(differ));
    }
    for (; n; n--) {
        differ |= (uint64_t)(*p++ ^ *q++);
        __asm__("" : "+r"(differ));
    }
    return differ == 0;
}

void crypto_wipe(void *p, size_t n)
{
    if (n)
        memset(p, 0, n);
    __asm__ __volatile__("" : : "r"(p) : "memory");
}

#else

bool crypto_equal(const void *a, const void *b, size_t n)
{
    return CRYPTO_memcmp(a, b, n) == 0;
}

void crypto_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}

#endif
