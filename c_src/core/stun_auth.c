#include "core/stun_auth.h"

#include "core/base64.h"

struct span stun_stripped(struct span s, bool quotes)
{
    while (s.len && s.data[s.len - 1] == 0)
        s.len--;
    if (quotes && s.len >= 2 && s.data[0] == '"' && s.data[s.len - 1] == '"')
        s = span_of(s.data + 1, s.len - 2);
    return s;
}

enum ct_err stun_key_long_term(struct crypto *c, enum stun_password_algorithm alg,
                               const struct stun_long_term *cred, struct stun_key *out)
{
    enum crypto_hash hash = alg == STUN_PASSWORD_SHA256 ? CRYPTO_SHA256 : CRYPTO_MD5;
    const struct span parts[] = {
        stun_stripped(cred->username, true),  span_of(":", 1),
        stun_stripped(cred->realm, true),     span_of(":", 1),
        stun_stripped(cred->password, false),
    };
    if (alg != STUN_PASSWORD_MD5 && alg != STUN_PASSWORD_SHA256)
        return CT_EARG;
    out->len = (uint8_t)crypto_hash_size(hash);
    return crypto_digest(c, hash, parts, 5, out->bytes);
}

enum ct_err stun_userhash(struct crypto *c, struct span username, struct span realm,
                          uint8_t out[32])
{
    const struct span parts[] = {username, span_of(":", 1), realm};
    return crypto_digest(c, CRYPTO_SHA256, parts, 3, out);
}

static void password_of(enum crypto_hash hash, uint8_t mac[CRYPTO_MAX_SIZE], char *out,
                        size_t *out_len)
{
    base64_encode(mac, crypto_hash_size(hash), out);
    *out_len = base64_len(crypto_hash_size(hash));
    crypto_wipe(mac, CRYPTO_MAX_SIZE);
}

enum ct_err stun_rest_password(struct crypto *c, enum crypto_hash hash, struct span secret,
                               struct span username, char out[STUN_REST_PASSWORD_MAX],
                               size_t *out_len)
{
    uint8_t mac[CRYPTO_MAX_SIZE];
    if (hash != CRYPTO_SHA1 && hash != CRYPTO_SHA256)
        return CT_EARG;
    enum ct_err err = crypto_hmac(c, hash, secret, &username, 1, mac);
    if (err != CT_OK)
        return err;
    password_of(hash, mac, out, out_len);
    return CT_OK;
}

enum ct_err stun_rest_password_by(struct crypto *c, const struct crypto_mac *secret,
                                  struct span username, char out[STUN_REST_PASSWORD_MAX],
                                  size_t *out_len)
{
    uint8_t mac[CRYPTO_MAX_SIZE];
    enum ct_err err = crypto_mac_run(c, secret, &username, 1, mac);
    if (err != CT_OK)
        return err;
    password_of((enum crypto_hash)secret->hash, mac, out, out_len);
    return CT_OK;
}

enum ct_err stun_rest_username(struct span username, uint64_t *expiry, struct span *user)
{
    uint64_t at = 0;
    size_t n = 0;
    for (; n < username.len && username.data[n] >= '0' && username.data[n] <= '9'; n++) {
        if (n == 19)
            return CT_EVALUE;
        at = at * 10 + (uint64_t)(username.data[n] - '0');
    }
    if (n == 0 || (n < username.len && username.data[n] != ':'))
        return CT_EVALUE;
    *expiry = at;
    if (user)
        *user = n < username.len ? span_of(username.data + n + 1, username.len - n - 1) : username;
    return CT_OK;
}

enum crypto_hash stun_integrity_hash(enum stun_integrity which)
{
    return which == STUN_INTEGRITY_SHA256 ? CRYPTO_SHA256 : CRYPTO_SHA1;
}

static const struct crypto_mac *mac_of(struct crypto *c, enum stun_integrity which,
                                       const struct stun_key *key)
{
    return crypto_mac_of(c, stun_integrity_hash(which), span_of(key->bytes, key->len));
}

/*
 * The HMAC over the message up to the attribute whose header is at `at`, as if the message ended
 * with that attribute: the header's length says so (RFC 8489 §14.5).
 */
static enum ct_err integrity_of(struct crypto *c, const struct crypto_mac *key, struct span message,
                                uint8_t *mac)
{
    uint8_t head[4];
    size_t size = crypto_hash_size((enum crypto_hash)key->hash);
    size_t length = message.len - STUN_HEADER_SIZE + STUN_ATTR_HEADER_SIZE + size;
    struct wbuf w = wbuf_of(head, sizeof head);
    wbuf_bytes(&w, message.data, 2);
    wbuf_u16(&w, (uint16_t)length);
    const struct span parts[] = {span_of(head, sizeof head),
                                 span_of(message.data + 4, message.len - 4)};
    return crypto_mac_run(c, key, parts, 2, mac);
}

enum ct_err stun_check_integrity_by(struct crypto *c, const struct stun_msg *m,
                                    const struct crypto_mac *key)
{
    enum stun_attr_id id =
        key->hash == CRYPTO_SHA256 ? STUN_ID_MESSAGE_INTEGRITY_SHA256 : STUN_ID_MESSAGE_INTEGRITY;
    size_t size = crypto_hash_size((enum crypto_hash)key->hash);
    uint8_t mac[CRYPTO_MAX_SIZE];
    if (!stun_msg_has(m, id))
        return CT_EMISSING;
    if (m->size[id] != size)
        return CT_EVALUE;
    struct span covered = span_of(m->data, m->at[id] - STUN_ATTR_HEADER_SIZE);
    enum ct_err err = integrity_of(c, key, covered, mac);
    if (err != CT_OK)
        return err;
    return crypto_equal(mac, m->data + m->at[id], size) ? CT_OK : CT_EINTEGRITY;
}

enum ct_err stun_check_integrity(struct crypto *c, const struct stun_msg *m,
                                 enum stun_integrity which, const struct stun_key *key)
{
    const struct crypto_mac *ready = mac_of(c, which, key);
    return ready ? stun_check_integrity_by(c, m, ready) : CT_ECRYPTO;
}

enum ct_err stun_put_integrity_by(struct wbuf *w, struct crypto *c, const struct crypto_mac *key)
{
    uint8_t mac[CRYPTO_MAX_SIZE];
    uint16_t type = key->hash == CRYPTO_SHA256 ? STUN_ATTR_MESSAGE_INTEGRITY_SHA256
                                               : STUN_ATTR_MESSAGE_INTEGRITY;
    if (w->failed || w->pos < STUN_HEADER_SIZE)
        return CT_ENOSPACE;
    enum ct_err err = integrity_of(c, key, span_of(w->data, w->pos), mac);
    if (err != CT_OK)
        return err;
    stun_put(w, type, mac, crypto_hash_size((enum crypto_hash)key->hash));
    return w->failed ? CT_ENOSPACE : CT_OK;
}

enum ct_err stun_put_integrity(struct wbuf *w, struct crypto *c, enum stun_integrity which,
                               const struct stun_key *key)
{
    const struct crypto_mac *ready = mac_of(c, which, key);
    return ready ? stun_put_integrity_by(w, c, ready) : CT_ECRYPTO;
}
