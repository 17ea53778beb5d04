#include "core/turn_auth.h"

#include "core/base64.h"
#include "core/turn_alloc.h"
#include "core/turn_commons.h"
#include "core/turn_reply.h"

/*
 * Nonce cookies (RFC 8489 §9.2, §18.1): "obMatJos2" and 24 feature bits in Base64. Bit 0, "password
 * algorithms", is 0x800000; bit 1, "username anonymity", 0x400000.
 */
#define NONCE_COOKIE           "obMatJos2gAAA"
#define NONCE_COOKIE_ANONYMOUS "obMatJos2wAAA"

/* What we offer, in order of preference, each without parameters (RFC 8489 §14.11). */
static const uint8_t password_algorithms[] = {0, STUN_PASSWORD_SHA256, 0, 0,
                                              0, STUN_PASSWORD_MD5,    0, 0};

/* ---- nonces ---- */

enum {
    NONCE_TIME_AT = 13,
    NONCE_MAC_AT = 21,
    NONCE_MAC_BYTES = 18
};

/*
 * Writes the nonce of this client made in second `at`; the whole text is a function of both. False
 * when libcrypto refuses: nothing that is written then is a nonce.
 */
static bool nonce_write(struct turn_server *s, const struct turn_tuple *tuple, uint64_t at,
                        char out[TURN_NONCE_LEN])
{
    uint8_t mac[CRYPTO_SHA256_SIZE] = {0};
    uint8_t time[6];
    for (size_t i = 0; i < sizeof time; i++)
        time[i] = (uint8_t)(at >> 8 * (5 - i));
    memcpy(out, s->config->userhashes ? NONCE_COOKIE_ANONYMOUS : NONCE_COOKIE, NONCE_TIME_AT);
    base64_encode(time, sizeof time, out + NONCE_TIME_AT);
    const struct span parts[] = {
        span_of(out, NONCE_MAC_AT),
        span_of(&tuple->client, sizeof tuple->client),
        span_of(&tuple->transport, sizeof tuple->transport),
    };
    bool ok = crypto_mac_run(s->crypto, &s->keys.nonce, parts, 3, mac) == CT_OK;
    base64_encode(mac, NONCE_MAC_BYTES, out + NONCE_MAC_AT);
    return ok;
}

void turn_nonce_make(struct turn_server *s, const struct turn_tuple *tuple, struct turn_now now,
                     char out[TURN_NONCE_LEN])
{
    (void)nonce_write(s, tuple, now.ms / 1000, out);
}

/* The value of a Base64 character; 64 when it is not in the alphabet. */
static unsigned base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* The 48 bits that eight Base64 characters stand for; UINT64_MAX when one is none. */
static uint64_t base64_48(const uint8_t *in)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++) {
        unsigned digit = base64_digit(in[i]);
        if (digit > 63)
            return UINT64_MAX;
        v = v << 6 | digit;
    }
    return v;
}

bool turn_nonce_fresh(struct turn_server *s, const struct turn_tuple *tuple, struct span nonce,
                      struct turn_now now)
{
    if (nonce.len != TURN_NONCE_LEN)
        return false;
    uint64_t at = base64_48(nonce.data + NONCE_TIME_AT), now_s = now.ms / 1000;
    if (at > now_s || now_s - at >= s->config->nonce_lifetime)
        return false;
    char expected[TURN_NONCE_LEN];
    return nonce_write(s, tuple, at, expected) &&
           crypto_equal(expected, nonce.data, TURN_NONCE_LEN);
}

/* ---- refusals ---- */

/* A source is refused only so often; loopback cannot be forged from outside and is exempt. */
static bool may_refuse(struct turn_server *s, const struct turn_request *r)
{
    const struct addr *from = &r->tuple->client;
    struct ratelimit_rule rule = {s->config->challenge_rate, s->config->challenge_burst};
    bool loopback = (from->family == ADDR_V4 && from->ip[0] == 127) ||
                    (from->family == ADDR_V6 && from->ip[15] == 1 &&
                     memcmp(from->ip, (const uint8_t[15]){0}, 15) == 0);
    if (loopback || !rule.rate || ratelimit_take(&s->refusals, &rule, from, r->now.ms))
        return true;
    turn_count(&s->counters, TURN_N_DROP_RATE, 1);
    return false;
}

static bool refuse(struct turn_server *s, const struct turn_request *r, enum stun_error code,
                   enum turn_counter counter)
{
    if (!may_refuse(s, r))
        return false;
    char nonce[TURN_NONCE_LEN];
    turn_nonce_make(s, r->tuple, r->now, nonce);
    struct wbuf w = turn_reply_begin(s, r, STUN_ERROR);
    stun_put_error(&w, (unsigned)code, span_str(stun_error_reason((unsigned)code)));
    stun_put(&w, STUN_ATTR_REALM, s->config->realm, strlen(s->config->realm));
    stun_put(&w, STUN_ATTR_NONCE, nonce, sizeof nonce);
    stun_put(&w, STUN_ATTR_PASSWORD_ALGORITHMS, password_algorithms, sizeof password_algorithms);
    if (s->config->oauth_key_count) {
        struct span name = turn_config_server_name(s->config);
        stun_put(&w, STUN_ATTR_THIRD_PARTY_AUTHORIZATION, name.data, name.len);
    }
    turn_reply_send(s, r, &w);
    turn_count(&s->counters, counter, 1);
    return false;
}

static bool refuse_malformed(struct turn_server *s, const struct turn_request *r)
{
    if (may_refuse(s, r))
        turn_reply_error(s, r, STUN_BAD_REQUEST);
    return false;
}

static bool refuse_token(struct turn_server *s, const struct turn_request *r)
{
    if (may_refuse(s, r))
        turn_reply_unknown(s, r, 0);
    return false;
}

/* 401 for credentials that do not hold, told to the operator with the reason. */
static bool refuse_user(struct turn_server *s, const struct turn_request *r, const char *reason)
{
    struct turn_event event = {
        .kind = TURN_EV_AUTH_FAILED,
        .tuple = r->tuple,
        .username = stun_msg_bytes(r->msg, STUN_ID_USERNAME), /* never what USERHASH hides */
        .reason = reason,
    };
    s->io->ops->event(s->io, &event);
    return refuse(s, r, STUN_UNAUTHENTICATED, TURN_N_UNAUTHENTICATED);
}

/* ---- the checks ---- */

/*
 * PASSWORD-ALGORITHMS and PASSWORD-ALGORITHM: both or neither; the list exactly as we sent it; the
 * choice one of the list (RFC 8489 §9.2.4). False: malformed.
 */
static bool read_algorithm(struct turn_request *r)
{
    struct span list = stun_msg_bytes(r->msg, STUN_ID_PASSWORD_ALGORITHMS);
    struct span choice = stun_msg_bytes(r->msg, STUN_ID_PASSWORD_ALGORITHM);
    r->auth.key_algorithm = STUN_PASSWORD_MD5;
    if (!list.data && !choice.data)
        return true;
    if (!span_eq(list, span_of(password_algorithms, sizeof password_algorithms)))
        return false;
    struct rbuf b = rbuf_of(choice.data, choice.len);
    uint16_t algorithm = rbuf_u16(&b), params = rbuf_u16(&b);
    if (b.failed || rbuf_left(&b) || params)
        return false;
    if (algorithm != STUN_PASSWORD_MD5 && algorithm != STUN_PASSWORD_SHA256)
        return false;
    r->auth.key_algorithm = (uint8_t)algorithm;
    r->auth.reply = STUN_INTEGRITY_SHA256;
    return true;
}

/* That of the request: its response may have another (r->auth.reply). */
static enum stun_integrity integrity_of(const struct turn_request *r)
{
    return stun_msg_has(r->msg, STUN_ID_MESSAGE_INTEGRITY_SHA256) ? STUN_INTEGRITY_SHA256
                                                                  : STUN_INTEGRITY_SHA1;
}

static bool integrity_holds(struct turn_server *s, const struct turn_request *r,
                            const struct stun_key *key)
{
    return stun_check_integrity(s->crypto, r->msg, integrity_of(r), key) == CT_OK;
}

/* The credentials that made the allocation stay good for it, whatever becomes of the secret. */
static bool same_user_holds(struct turn_server *s, struct turn_request *r)
{
    const struct turn_alloc *a = r->alloc;
    if (!a ||
        (a->key_algorithm != STUN_PASSWORD_NONE && a->key_algorithm != r->auth.key_algorithm) ||
        !span_eq(turn_alloc_username(s, a), r->auth.username) || !integrity_holds(s, r, &a->key))
        return false;
    r->auth.key = a->key;
    return true;
}

/* r->auth.key becomes the user's key under one of the secrets. */
static bool derive(struct turn_server *s, struct turn_request *r, size_t secret)
{
    char password[STUN_REST_PASSWORD_MAX];
    size_t len;
    struct stun_long_term cred = {.username = r->auth.username,
                                  .realm = span_str(s->config->realm)};
    if (stun_rest_password_by(s->crypto, &s->keys.secrets[secret], cred.username, password, &len) !=
        CT_OK)
        return false;
    cred.password = span_of(password, len);
    enum stun_password_algorithm algorithm = r->auth.key_algorithm;
    bool ok = stun_key_long_term(s->crypto, algorithm, &cred, &r->auth.key) == CT_OK;
    crypto_wipe(password, sizeof password);
    return ok;
}

/* The same, made ready for the request's integrity; NULL when libcrypto refuses. */
static const struct crypto_mac *derive_ready(struct turn_server *s, struct turn_request *r,
                                             size_t secret)
{
    enum crypto_hash hash = stun_integrity_hash(integrity_of(r));
    if (!derive(s, r, secret))
        return NULL;
    return crypto_mac_of(s->crypto, hash, span_of(r->auth.key.bytes, r->auth.key.len));
}

/* r->auth.key becomes the kept one, made ready for the response if it is kept so. */
static bool kept_holds(struct turn_server *s, struct turn_request *r, const struct turn_kept *kept)
{
    memcpy(r->auth.key.bytes, kept->key, sizeof kept->key);
    r->auth.key.len = kept->key_len;
    if (kept->mac.hash != stun_integrity_hash(integrity_of(r)))
        return integrity_holds(s, r, &r->auth.key);
    if (stun_check_integrity_by(s->crypto, r->msg, &kept->mac) != CT_OK)
        return false;
    if (kept->mac.hash == stun_integrity_hash(r->auth.reply))
        r->auth.mac = &kept->mac;
    return true;
}

/*
 * Leaves the key in r->auth.key. When it is not the kept one that holds, all secrets are gone
 * through as if nothing were kept, which takes as long: the kept key's own is derived and made
 * ready too, although the integrity has been checked with it. So a wrong password does not tell by
 * the time whether somebody came with the right one.
 */
static bool any_secret_holds(struct turn_server *s, struct turn_request *r)
{
    const struct turn_key_owner owner = {r->auth.username, r->auth.key_algorithm};
    const struct turn_kept *kept = turn_keys_find(&s->keys, &owner);
    if (kept && kept_holds(s, r, kept))
        return true;
    for (size_t i = 0; i < s->config->secret_count; i++) {
        const struct crypto_mac *mac = derive_ready(s, r, i);
        if (!mac || (kept && kept->secret == i) ||
            stun_check_integrity_by(s->crypto, r->msg, mac) != CT_OK)
            continue;
        turn_keys_keep(&s->keys, &owner, &r->auth.key, mac, i);
        return true;
    }
    return false;
}

/* ---- USERNAME and USERHASH ---- */

static bool is_hash_of(struct turn_server *s, struct span username, struct span hash)
{
    uint8_t own[TURN_USERHASH_SIZE];
    return stun_userhash(s->crypto, username, span_str(s->config->realm), own) == CT_OK &&
           hash.len == sizeof own && crypto_equal(own, hash.data, sizeof own);
}

/* The username that was hashed: that of the allocation here, or one that we were told. */
static struct span find_hashed(struct turn_server *s, const struct turn_alloc *a, struct span hash)
{
    struct turn_users *users = turn_commons_users(s->commons);
    size_t len = 0;
    if (a && is_hash_of(s, turn_alloc_username(s, a), hash))
        return turn_alloc_username(s, a);
    if (!users)
        return span_of(NULL, 0);
    s->io->ops->lock(s->io);
    len = turn_users_find(users, hash.data, s->name);
    s->io->ops->unlock(s->io);
    return len ? span_of(s->name, len) : span_of(NULL, 0);
}

/*
 * Who asks: USERNAME without quotes and NULs around it (§9.2.2), or else what USERHASH stands for.
 * An unknown hash leaves data NULL. False: malformed.
 */
static bool read_user(struct turn_server *s, struct turn_request *r)
{
    struct span name = stun_msg_bytes(r->msg, STUN_ID_USERNAME);
    struct span hash = stun_msg_bytes(r->msg, STUN_ID_USERHASH);
    r->auth.username = name.data ? stun_stripped(name, true) : hash;
    if (name.data) /* longer ones than may be sent have to be read (§14.3), as nobody's */
        return name.len <= STUN_TEXT_MAX;
    if (hash.len != TURN_USERHASH_SIZE)
        return false;
    r->auth.username = find_hashed(s, r->alloc, hash);
    return true;
}

/* Does the work of checking a password that cannot be right, so that the time does not tell. */
static const char *unknown_hash(struct turn_server *s, struct turn_request *r)
{
    r->auth.username = span_of("0:", 2);
    (void)any_secret_holds(s, r);
    return "unknown_userhash";
}

/* ---- ACCESS-TOKEN (RFC 7635) ---- */

/* Tokens come with Allocate and Refresh; what else has one is asked for the key only (§9). */
static bool by_token(const struct turn_server *s, const struct turn_request *r)
{
    uint16_t method = r->msg->method;
    return s->config->oauth_key_count && stun_msg_has(r->msg, STUN_ID_ACCESS_TOKEN) &&
           (method == STUN_ALLOCATE || method == STUN_REFRESH);
}

/*
 * The whole mac_key, or what coturn makes of 160 bits, in its server and its client: the first 128.
 * It takes no less to know those.
 */
static bool mac_key_holds(struct turn_server *s, const struct turn_request *r, struct stun_key *key)
{
    if (integrity_holds(s, r, key))
        return true;
    if (key->len != CRYPTO_SHA1_SIZE || stun_msg_has(r->msg, STUN_ID_MESSAGE_INTEGRITY_SHA256))
        return false;
    key->len = TURN_MAC_KEY_MIN;
    return integrity_holds(s, r, key);
}

/*
 * The checks of §7 in their order. What the token has is the key itself: a password algorithm,
 * which makes keys of passwords, has no part in it.
 */
static const char *token_problem(struct turn_server *s, struct turn_request *r)
{
    const struct turn_config *c = s->config;
    struct turn_token token = {0};
    const char *problem = NULL;
    const struct turn_token_key *key =
        turn_token_find(c->oauth_keys, c->oauth_key_count, r->auth.username, r->now.unix_s);
    if (!key)
        return "unknown_kid";
    if (turn_token_open(s->crypto, key, turn_config_server_name(c),
                        stun_msg_bytes(r->msg, STUN_ID_ACCESS_TOKEN), &token) != CT_OK)
        return "bad_token";
    r->auth.token_left = turn_token_left(&token, r->now.unix_s);
    if (!r->auth.token_left)
        problem = "expired";
    else if (!mac_key_holds(s, r, &token.mac_key))
        problem = "bad_password";
    r->auth.key = token.mac_key;
    r->auth.key_algorithm = STUN_PASSWORD_NONE;
    crypto_wipe(&token, sizeof token);
    return problem;
}

/* A token that nobody was told would be taken gets 420 (§7), also where it is all there is. */
static bool unexpected_token(const struct turn_server *s, const struct turn_request *r)
{
    return !s->config->oauth_key_count && stun_msg_has(r->msg, STUN_ID_ACCESS_TOKEN);
}

/* ---- all together ---- */

/* NULL when the credentials hold, else why not. */
static const char *user_problem(struct turn_server *s, struct turn_request *r)
{
    uint64_t expiry;
    struct span realm = stun_stripped(stun_msg_bytes(r->msg, STUN_ID_REALM), true);
    if (!r->auth.username.data)
        return unknown_hash(s, r);
    if (r->auth.username.len > STUN_USERNAME_MAX) /* allocations have no room for it */
        return "malformed_username";
    bool token = by_token(s, r);
    if (!token && same_user_holds(s, r))
        return NULL;
    if (!span_eq(realm, span_str(s->config->realm)))
        return "wrong_realm";
    if (token)
        return token_problem(s, r);
    if (stun_rest_username(r->auth.username, &expiry, NULL) != CT_OK)
        return "malformed_username";
    if (!any_secret_holds(s, r))
        return "bad_password";
    /* Expiry is a matter of making allocations, not of keeping them (turn-rest §4.2). */
    if (r->msg->method == STUN_ALLOCATE && expiry <= r->now.unix_s)
        return "expired";
    return NULL;
}

/*
 * One that this client was given; on a data connection also the one of its control connection,
 * which clients go on with (RFC 6062 §4.3 asks for the same credentials there).
 */
static bool nonce_holds(struct turn_server *s, const struct turn_request *r)
{
    struct span nonce = stun_msg_bytes(r->msg, STUN_ID_NONCE);
    if (turn_nonce_fresh(s, r->tuple, nonce, r->now))
        return true;
    return r->msg->method == STUN_CONNECTION_BIND && r->alloc &&
           turn_nonce_fresh(s, &r->alloc->tuple, nonce, r->now);
}

bool turn_auth_check(struct turn_server *s, struct turn_request *r)
{
    const struct stun_msg *m = r->msg;
    bool sha256 = stun_msg_has(m, STUN_ID_MESSAGE_INTEGRITY_SHA256);
    if (!sha256 && !stun_msg_has(m, STUN_ID_MESSAGE_INTEGRITY))
        return refuse(s, r, STUN_UNAUTHENTICATED, TURN_N_CHALLENGES);
    if (!(stun_msg_has(m, STUN_ID_USERNAME) || stun_msg_has(m, STUN_ID_USERHASH)) ||
        !stun_msg_has(m, STUN_ID_REALM) || !stun_msg_has(m, STUN_ID_NONCE))
        return refuse_malformed(s, r);
    r->auth.reply = sha256 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
    if (!read_algorithm(r) || !read_user(s, r))
        return refuse_malformed(s, r);
    const char *problem = user_problem(s, r);
    if (problem && unexpected_token(s, r))
        return refuse_token(s, r);
    if (problem)
        return refuse_user(s, r, problem);
    if (!nonce_holds(s, r))
        return refuse(s, r, STUN_STALE_NONCE, TURN_N_STALE);
    r->auth.protect = true;
    return true;
}
