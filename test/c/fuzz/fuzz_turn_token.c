/*
 * Any bytes as the value of an ACCESS-TOKEN, and any bytes as what one has inside: sealed here, as
 * nobody but an authorization server could.
 */
#include "core/turn_token.h"
#include "exact.h"
#include "fuzz.h"

enum {
    PLAIN_MAX = 256,
};

static const char name[] = "turn.example.org";

static size_t seal(struct crypto *c, const struct turn_token_key *key, struct span plain,
                   uint8_t out[])
{
    struct wbuf w = wbuf_of(out, 2 + CRYPTO_IV_SIZE + PLAIN_MAX + CRYPTO_TAG_SIZE);
    wbuf_u16(&w, CRYPTO_IV_SIZE);
    wbuf_zeros(&w, CRYPTO_IV_SIZE);
    const struct crypto_gcm gcm = {
        .key = span_of(key->key, key->key_len), .iv = out + 2, .aad = span_str(name)};
    uint8_t *room = wbuf_room(&w, plain.len + CRYPTO_TAG_SIZE);
    MUST(room && crypto_seal(c, &gcm, plain, room) == CT_OK);
    return w.pos;
}

static void open(struct crypto *c, const struct turn_token_key *key, struct span bytes)
{
    struct exact e = exact_of(bytes.data, bytes.len, 0);
    struct turn_token token = {0};
    if (turn_token_open(c, key, span_str(name), span_of(e.data, e.len), &token) == CT_OK) {
        MUST(token.mac_key.len >= TURN_MAC_KEY_MIN && token.mac_key.len <= TURN_MAC_KEY_MAX);
        MUST(token.issued_s <= UINT64_MAX >> 16);
        MUST(turn_token_left(&token, token.issued_s) >= token.lifetime);
        MUST(turn_token_left(&token, UINT64_MAX) == 0);
    }
    exact_free(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct crypto *c;
    struct turn_token_key key = {.until = UINT64_MAX, .key = "a key of 32 bytes, shared by two"};
    uint8_t sealed[2 + CRYPTO_IV_SIZE + PLAIN_MAX + CRYPTO_TAG_SIZE];
    if (!c)
        c = crypto_new();
    MUST(c);
    for (uint8_t len = CRYPTO_SHORT_KEY_SIZE; len <= CRYPTO_KEY_SIZE; len = (uint8_t)(len * 2)) {
        key.key_len = len;
        open(c, &key, span_of(data, size));
        if (size <= PLAIN_MAX)
            open(c, &key, span_of(sealed, seal(c, &key, span_of(data, size), sealed)));
    }
    return 0;
}
