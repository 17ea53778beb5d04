#include "nif/nif_credentials.h"

#include "core/stun_auth.h"
#include "nif/nif.h"

enum {
    EXPIRY_DIGITS_MAX = 20
};

/* Decimal digits of v, most significant first. */
static void put_decimal(struct wbuf *w, uint64_t v)
{
    char digits[EXPIRY_DIGITS_MAX];
    size_t n = sizeof digits;
    do {
        digits[--n] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    wbuf_bytes(w, digits + n, sizeof digits - n);
}

/* How many bytes follow a UTF-8 sequence's first one, and the least code point of that length. */
static bool utf8_lead(uint8_t lead, unsigned *more, uint32_t *least)
{
    *more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    *least = lead < 0xE0 ? 0x80 : lead < 0xF0 ? 0x800 : 0x10000;
    return lead >= 0xC2 && lead <= 0xF4;
}

/* The rest of a sequence of several bytes: shortest form, no surrogates, no more than U+10FFFF. */
static bool utf8_rest(struct rbuf *r, uint8_t lead)
{
    unsigned more;
    uint32_t least;
    if (!utf8_lead(lead, &more, &least))
        return false;
    uint32_t code = lead & (0x3Fu >> more);
    for (; more > 0; more--) {
        uint8_t next = rbuf_u8(r);
        if ((next & 0xC0) != 0x80)
            return false;
        code = code << 6 | (next & 0x3Fu);
    }
    return code >= least && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
}

/* UTF-8 without ASCII control characters: neither is allowed in a USERNAME (RFC 8265 §3.3). */
static bool is_clean_text(struct span text)
{
    struct rbuf r = rbuf_of(text.data, text.len);
    while (rbuf_left(&r) > 0) {
        uint8_t c = rbuf_u8(&r);
        if (c < 0x20 || c == 0x7F || (c >= 0x80 && !utf8_rest(&r, c)))
            return false;
    }
    return true;
}

static bool get_hash(ErlNifEnv *env, ERL_NIF_TERM term, enum crypto_hash *out)
{
    const struct nif_atoms *atoms = nif_atoms(env);
    *out = term == atoms->sha ? CRYPTO_SHA1 : CRYPTO_SHA256;
    return term == atoms->sha || term == atoms->sha256;
}

static bool get_secret(ErlNifEnv *env, ERL_NIF_TERM term, struct span *out)
{
    return nif_get_bytes(env, term, NIF_STRING_MAX, out) && out->len > 0;
}

ERL_NIF_TERM nif_rest_credential(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    enum crypto_hash hash;
    struct span secret, user;
    ErlNifUInt64 expiry;
    if (!get_hash(env, argv[0], &hash) || !get_secret(env, argv[1], &secret) ||
        !nif_get_bytes(env, argv[2], STUN_USERNAME_MAX, &user) || !is_clean_text(user) ||
        !enif_get_uint64(env, argv[3], &expiry))
        return enif_make_badarg(env);

    char name[STUN_USERNAME_MAX];
    struct wbuf w = wbuf_of(name, sizeof name);
    put_decimal(&w, expiry);
    if (user.len > 0) {
        wbuf_u8(&w, ':');
        wbuf_bytes(&w, user.data, user.len);
    }
    if (w.failed)
        return enif_make_badarg(env);

    char password[STUN_REST_PASSWORD_MAX];
    size_t len = 0;
    struct crypto *c = nif_crypto(env);
    if (!c || stun_rest_password(c, hash, secret, span_of(name, w.pos), password, &len) != CT_OK)
        return nif_crypto_failed(env);
    ERL_NIF_TERM pair[] = {nif_make_bytes(env, name, w.pos), nif_make_bytes(env, password, len)};
    crypto_wipe(password, sizeof password);
    return enif_make_tuple_from_array(env, pair, 2);
}

struct claim {
    enum crypto_hash hash;
    struct span username;
    struct span password;
};

/* CT_OK when this secret makes this password of this user name, CT_EINTEGRITY when not. */
static enum ct_err check_secret(struct crypto *c, const struct claim *claim, struct span secret)
{
    char right[STUN_REST_PASSWORD_MAX];
    size_t len = 0;
    enum ct_err err = stun_rest_password(c, claim->hash, secret, claim->username, right, &len);
    if (err == CT_OK &&
        (claim->password.len != len || !crypto_equal(claim->password.data, right, len)))
        err = CT_EINTEGRITY;
    crypto_wipe(right, sizeof right);
    return err;
}

/*
 * Tries every secret of the list, also behind one that fits. CT_OK when one fits, CT_EINTEGRITY
 * when none does, CT_EARG when the list is empty, too long or not one of secrets, CT_ECRYPTO.
 */
static enum ct_err check_secrets(ErlNifEnv *env, const struct claim *claim, ERL_NIF_TERM list)
{
    struct crypto *c = nif_crypto(env);
    enum ct_err result = CT_EINTEGRITY;
    ERL_NIF_TERM head;
    struct span secret;
    unsigned n = 0;
    if (!c)
        return CT_ECRYPTO;
    while (enif_get_list_cell(env, list, &head, &list)) {
        if (++n > NIF_SECRETS_MAX || !get_secret(env, head, &secret))
            return CT_EARG;
        enum ct_err err = check_secret(c, claim, secret);
        if (err == CT_OK)
            result = CT_OK;
        else if (err != CT_EINTEGRITY)
            return err;
    }
    if (n == 0 || !enif_is_empty_list(env, list))
        return CT_EARG;
    return result;
}

static ERL_NIF_TERM refuse(ErlNifEnv *env, ERL_NIF_TERM why)
{
    return enif_make_tuple2(env, nif_atoms(env)->error, why);
}

ERL_NIF_TERM nif_rest_verify(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    const struct nif_atoms *atoms = nif_atoms(env);
    struct claim claim;
    ErlNifUInt64 now;
    uint64_t expiry = 0;
    if (!get_hash(env, argv[0], &claim.hash) ||
        !nif_get_bytes(env, argv[2], SIZE_MAX, &claim.username) ||
        !nif_get_bytes(env, argv[3], SIZE_MAX, &claim.password) ||
        !enif_get_uint64(env, argv[4], &now))
        return enif_make_badarg(env);
    if (claim.username.len > STUN_USERNAME_MAX ||
        stun_rest_username(claim.username, &expiry, NULL) != CT_OK)
        return refuse(env, atoms->malformed);
    enum ct_err err = check_secrets(env, &claim, argv[1]);
    if (err == CT_EARG)
        return enif_make_badarg(env);
    if (err == CT_ECRYPTO)
        return nif_crypto_failed(env);
    if (err != CT_OK)
        return refuse(env, atoms->invalid);
    return expiry <= now ? refuse(env, atoms->expired) : atoms->ok;
}

ERL_NIF_TERM nif_equal(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    const struct nif_atoms *atoms = nif_atoms(env);
    struct span a, b;
    if (!nif_get_bytes(env, argv[0], UINT16_MAX, &a) ||
        !nif_get_bytes(env, argv[1], UINT16_MAX, &b))
        return enif_make_badarg(env);
    nif_account(env, a.len / 8);
    return a.len == b.len && crypto_equal(a.data, b.data, a.len) ? atoms->yes : atoms->no;
}
