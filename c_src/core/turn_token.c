#include "core/turn_token.h"

enum {
    BLOCK_MAX = 2 + TURN_MAC_KEY_MAX + 8 + 4,
};

const struct turn_token_key *turn_token_find(const struct turn_token_key *keys, size_t count,
                                             struct span kid, uint64_t unix_s)
{
    for (size_t i = 0; i < count; i++)
        if (span_eq(span_of(keys[i].kid, keys[i].kid_len), kid))
            return keys[i].from <= unix_s && unix_s < keys[i].until ? &keys[i] : NULL;
    return NULL;
}

/* The encrypted block, in clear. */
static enum ct_err read_block(struct span block, struct turn_token *out)
{
    struct rbuf r = rbuf_of(block.data, block.len);
    size_t key_len = rbuf_u16(&r);
    const uint8_t *key = rbuf_take(&r, key_len);
    uint64_t timestamp = rbuf_u64(&r);
    uint32_t lifetime = rbuf_u32(&r);
    if (r.failed || rbuf_left(&r) || key_len < TURN_MAC_KEY_MIN || key_len > TURN_MAC_KEY_MAX)
        return CT_EVALUE;
    memcpy(out->mac_key.bytes, key, key_len);
    out->mac_key.len = (uint8_t)key_len;
    out->issued_s = timestamp >> 16; /* 48.16 bits, the fraction in 1/64000 s */
    out->lifetime = lifetime;
    return CT_OK;
}

enum ct_err turn_token_open(struct crypto *c, const struct turn_token_key *key,
                            struct span server_name, struct span token, struct turn_token *out)
{
    uint8_t block[BLOCK_MAX];
    struct rbuf r = rbuf_of(token.data, token.len);
    size_t nonce_len = rbuf_u16(&r);
    const uint8_t *nonce = rbuf_take(&r, nonce_len);
    size_t len = rbuf_left(&r);
    const uint8_t *sealed = rbuf_take(&r, len);
    if (r.failed || nonce_len != CRYPTO_IV_SIZE || len < CRYPTO_TAG_SIZE ||
        len > sizeof block + CRYPTO_TAG_SIZE)
        return CT_EVALUE;
    const struct crypto_gcm gcm = {
        .key = span_of(key->key, key->key_len), .iv = nonce, .aad = server_name};
    enum ct_err err = crypto_open(c, &gcm, span_of(sealed, len), block);
    if (err == CT_OK)
        err = read_block(span_of(block, len - CRYPTO_TAG_SIZE), out);
    crypto_wipe(block, sizeof block);
    return err;
}

uint32_t turn_token_left(const struct turn_token *token, uint64_t unix_s)
{
    uint64_t good = (uint64_t)token->lifetime + TURN_TOKEN_DELTA;
    uint64_t off = unix_s > token->issued_s ? unix_s - token->issued_s : token->issued_s - unix_s;
    uint64_t left = good > off ? good - off : 0;
    return left < UINT32_MAX ? (uint32_t)left : UINT32_MAX;
}
