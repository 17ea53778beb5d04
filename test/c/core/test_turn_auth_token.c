/* Third-party authorization (RFC 7635) as the server does it: conformance.md OAUTH. */
#include "engine.h"

static struct engine e;

#define SECRET "ZksjpweoixXmvn67534m" /* 160 bits */

static void begin(void)
{
    engine_init(&e);
    e.config.oauth_keys[0] = token_key();
    e.config.oauth_key_count = 1;
    engine_start(&e);
}

static uint32_t lifetime_of(const struct client *c)
{
    uint32_t seconds = 0;
    CHECK_EQ(stun_msg_u32(&c->msg, STUN_ID_LIFETIME, &seconds), CT_OK);
    return seconds;
}

static int refresh(struct client *c)
{
    client_new_tid(c);
    return client_request(c, STUN_REFRESH, NULL);
}

/* OAUTH-01: what a 401 and a 438 say, by the realm's name or another, and that it fits. */
static void test_challenge(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 401);
    struct span name = stun_msg_bytes(&c.msg, STUN_ID_THIRD_PARTY_AUTHORIZATION);
    CHECK(span_eq(name, span_str("example.org")));
    CHECK(stun_msg_has(&c.msg, STUN_ID_NONCE) && stun_msg_has(&c.msg, STUN_ID_REALM));
    CHECK(stun_msg_has(&c.msg, STUN_ID_SOFTWARE));
    client_learn(&c);
    c.nonce[strlen(c.nonce) - 1] ^= 1;
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 438);
    CHECK(stun_msg_has(&c.msg, STUN_ID_THIRD_PARTY_AUTHORIZATION));
    engine_stop(&e);

    engine_init(&e);
    e.config.oauth_keys[0] = token_key();
    e.config.oauth_key_count = 1;
    memset(e.config.realm, 'r', TURN_REALM_MAX);
    memset(e.config.software, 's', TURN_SOFTWARE_MAX);
    memset(e.config.oauth_server_name, 'n', TURN_REALM_MAX);
    engine_start(&e);
    struct client d = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    CHECK_EQ(client_send_request(&d, STUN_ALLOCATE, NULL), 401);
    name = stun_msg_bytes(&d.msg, STUN_ID_THIRD_PARTY_AUTHORIZATION);
    CHECK_EQ(name.len, TURN_REALM_MAX);
    CHECK_EQ(name.data[0], 'n');
    CHECK(d.reply_len < 548); /* STUN-MSG-16 */
    engine_stop(&e);
}

/* OAUTH-02, 09, 12, 15: a token makes the allocation; what follows has the same key and no token.
 */
static void test_life(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    CHECK_EQ(client_allocate(&c), 0);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY)); /* and client_read() has checked it */
    CHECK_EQ(lifetime_of(&c), 600);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    CHECK_EQ(client_refresh(&c, 900), 0);
    CHECK_EQ(lifetime_of(&c), 900);
    c.token_len = 0; /* a Refresh without one is for the same key too */
    CHECK_EQ(client_refresh(&c, 900), 0);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:2"), 0);
    c.key.bytes[0] ^= 1;
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 401);
    c.key.bytes[0] ^= 1;
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* The key serves both kinds of integrity, and no password algorithm changes it. */
static void test_integrity(void)
{
    begin();
    for (unsigned i = 0; i < 4; i++) {
        struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
        c.tuple.client.port = (uint16_t)(5000 + i);
        c.integrity = i & 1 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
        c.algorithms = (i & 2) != 0;
        CHECK_EQ(client_allocate(&c), 0);
        CHECK_EQ(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY_SHA256), i != 0);
        CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
        c.algorithms = !c.algorithms;
        CHECK_EQ(client_refresh(&c, 600), 0);
        c.token_len = 0;
        CHECK_EQ(client_refresh(&c, 600), 0);
    }
    engine_stop(&e);
}

/* coturn's client computes SHA-1 under the first 16 of 20 bytes; no fewer, and no other hash. */
static void test_short_key(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    c.key.len = 15;
    CHECK_EQ(client_allocate(&c), 401);
    c.key.len = 16;
    c.integrity = STUN_INTEGRITY_SHA256;
    CHECK_EQ(client_allocate(&c), 401);
    CHECK_STR(e.last_reason, "bad_password");
    c.integrity = STUN_INTEGRITY_SHA1;
    CHECK_EQ(client_allocate(&c), 0); /* and answered so */
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    CHECK_EQ(client_refresh(&c, 600), 0);
    c.key.bytes[15] ^= 1;
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 401);
    engine_stop(&e);
}

/* A request that is refused with 401, and why. */
static void check_refused(struct client *c, const char *reason)
{
    CHECK_EQ(client_allocate(c), 401);
    CHECK_STR(e.last_reason, reason);
    CHECK(!stun_msg_has(&c->msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK(stun_msg_has(&c->msg, STUN_ID_THIRD_PARTY_AUTHORIZATION));
    CHECK_EQ(turn_server_allocations(e.server), 0);
}

/* OAUTH-04, 05, 06, 11: key, token, server, mac_key. */
static void test_refusals(void)
{
    begin();
    struct turn_token_key other = token_key();
    other.key[0] ^= 1;
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600), good = c;
    snprintf(c.username, sizeof c.username, "keys-2");
    check_refused(&c, "unknown_kid");
    c = good;
    for (size_t i = 0; i < c.token_len; i++) {
        c.token[i] ^= 1;
        check_refused(&c, "bad_token");
        c.token[i] ^= 1;
    }
    client_take_token(&c, &other, SECRET, 3600);
    check_refused(&c, "bad_token");
    c = good;
    struct turn_token token = {.mac_key = c.key, .issued_s = e.now.unix_s, .lifetime = 3600};
    c.token_len = token_seal(&e, &e.config.oauth_keys[0], span_str("example.com"), &token, c.token);
    check_refused(&c, "bad_token");
    c = good;
    c.key.bytes[19] ^= 1;
    check_refused(&c, "bad_password");
    c = good;
    c.token_len = 0;
    check_refused(&c, "malformed_username");
    CHECK_EQ(client_allocate(&good), 0);
    engine_stop(&e);
}

/* OAUTH-17: each of its lengths, and as it comes from the wire. */
static void test_truncated(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    for (size_t whole = c.token_len, n = 1; n < whole; n++) {
        c.token_len = n;
        check_refused(&c, "bad_token");
    }
    /* zero bytes: the token is there, and empty */
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_ACCESS_TOKEN, "", 0);
    c.token_len = 0;
    CHECK_EQ(client_allocate_with(&c, &a), 401);
    CHECK_STR(e.last_reason, "bad_token");
    engine_stop(&e);
}

/* OAUTH-03: 401 without integrity, 400, then 401 for the token, and last 438. */
static void test_order_of_checks(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 401);
    CHECK_EQ(engine_counter(&e, TURN_N_CHALLENGES), 1);
    client_learn(&c);
    uint8_t bytes[512];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    client_new_tid(&c);
    stun_begin(&w, stun_type(STUN_ALLOCATE, STUN_REQUEST), c.tid);
    stun_put(&w, STUN_ATTR_ACCESS_TOKEN, c.token, c.token_len);
    stun_put(&w, STUN_ATTR_USERNAME, c.username, strlen(c.username));
    stun_put(&w, STUN_ATTR_REALM, c.realm, strlen(c.realm));
    CHECK_EQ(stun_put_integrity(&w, e.crypto, STUN_INTEGRITY_SHA1, &c.key), CT_OK);
    size_t before = e.to_clients;
    client_send(&c, bytes, w.pos);
    CHECK_EQ(e.to_clients, before + 1);
    const struct sent *s = &e.to_client[before % ENGINE_OUT_MAX];
    CHECK_EQ(client_read(&c, span_of(s->bytes, s->len)), 400); /* no NONCE */
    CHECK_EQ(e.auth_failed, 0);
    snprintf(c.nonce, sizeof c.nonce, "obMatJos2gAAAstale");
    c.token[20] ^= 1;
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 401);
    CHECK_STR(e.last_reason, "bad_token");
    c.token[20] ^= 1;
    snprintf(c.realm, sizeof c.realm, "example.net");
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 401);
    CHECK_STR(e.last_reason, "wrong_realm");
    snprintf(c.realm, sizeof c.realm, "example.org");
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 438);
    engine_stop(&e);
}

static int allocate_at(struct client *c, int64_t seconds)
{
    uint64_t now = e.now.unix_s;
    e.now.unix_s = now + (uint64_t)seconds;
    c->nonce[0] = 0;
    int code = client_allocate(c);
    if (code == 0)
        CHECK_EQ(client_refresh(c, 0), 0);
    e.now.unix_s = now;
    return code;
}

/* OAUTH-10: lifetime + 5 > |now - timestamp|. */
static void test_time(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 100);
    CHECK_EQ(allocate_at(&c, 0), 0);
    CHECK_EQ(allocate_at(&c, 104), 0);
    CHECK_EQ(allocate_at(&c, 105), 401);
    CHECK_STR(e.last_reason, "expired");
    CHECK_EQ(allocate_at(&c, 106), 401);
    CHECK_EQ(allocate_at(&c, -104), 0);
    CHECK_EQ(allocate_at(&c, -106), 401);
    CHECK_EQ(allocate_at(&c, 100000000), 401);
    CHECK_EQ(allocate_at(&c, -100000000), 401);
    engine_stop(&e);
}

/* OAUTH-14: lifetime + 5 - age is the most that is granted, below the default too. */
static void test_lifetime(void)
{
    begin();
    struct attrs hour;
    attrs_init(&hour);
    attrs_u32(&hour, STUN_ATTR_LIFETIME, 3600);
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 1000);
    engine_pass(&e, 300000);
    CHECK_EQ(client_allocate_with(&c, &hour), 0);
    CHECK_EQ(lifetime_of(&c), 705);
    engine_pass(&e, 400000);
    CHECK_EQ(client_refresh(&c, 3600), 0);
    CHECK_EQ(lifetime_of(&c), 305);
    struct client d = client_by_token(&e, "203.0.113.7:5001", SECRET, 300);
    CHECK_EQ(client_allocate(&d), 0);
    CHECK_EQ(lifetime_of(&d), 305);
    engine_pass(&e, 100000);
    d.token_len = 0; /* without it no longer than the token it was made with */
    CHECK_EQ(client_refresh(&d, 3600), 0);
    CHECK_EQ(lifetime_of(&d), 205);
    engine_pass(&e, 204000);
    CHECK_EQ(client_refresh(&d, 3600), 0);
    CHECK_EQ(lifetime_of(&d), 1);
    engine_pass(&e, 1000);
    CHECK_EQ(client_permit(&d, "198.51.100.1:1"), 401);
    CHECK_EQ(e.last_end, TURN_END_EXPIRED);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* OAUTH-14, with both families: a Refresh of one goes no further either. */
static void test_dual_lifetime(void)
{
    begin();
    struct attrs both, six;
    attrs_init(&both);
    attrs_u32(&both, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    attrs_init(&six);
    attrs_u32(&six, STUN_ATTR_LIFETIME, 3600);
    attrs_u32(&six, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 700);
    CHECK_EQ(client_allocate_with(&c, &both), 0);
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_REFRESH, &six), 0);
    CHECK_EQ(lifetime_of(&c), 705);
    engine_pass(&e, 706000);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* OAUTH-16: a new token refreshes what an old one made, and its key is the one that counts then. */
static void test_new_token(void)
{
    engine_init(&e);
    e.config.oauth_keys[0] = token_key();
    e.config.oauth_keys[1] = token_key();
    e.config.oauth_keys[1].kid_len = 100; /* longer than an allocation has room for itself */
    memset(e.config.oauth_keys[1].kid, 'k', 100);
    e.config.oauth_key_count = 2;
    engine_start(&e);
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 600);
    CHECK_EQ(client_allocate(&c), 0);
    struct client old = c;
    engine_pass(&e, 590000);
    for (unsigned i = 0; i < 4; i++) {
        client_take_token(&c, &e.config.oauth_keys[i % 2 ? 0 : 1], i % 2 ? "first" : "second",
                          3600);
        CHECK_EQ(client_refresh(&c, 3600), 0);
        CHECK_EQ(lifetime_of(&c), 3600);
        CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
        CHECK_EQ(client_permit(&old, "198.51.100.1:1"), 401);
    }
    /* the whole of it expires in time: nothing of the long name is left (engine_stop) */
    engine_pass(&e, 3601000);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* A Refresh that is not granted changes nothing: the old key still holds. */
static void test_refused_refresh(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    CHECK_EQ(client_allocate(&c), 0);
    struct client old = c;
    client_take_token(&c, &e.config.oauth_keys[0], "another", 3600);
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_LIFETIME, "xyz", 3);
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_REFRESH, &a), 400);
    CHECK_EQ(client_permit(&old, "198.51.100.1:1"), 0);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 401);
    engine_stop(&e);
}

/* OAUTH-16: one token for several allocations; the quota is the token's, as it names nobody. */
static void test_several_allocations(void)
{
    engine_init(&e);
    e.config.oauth_keys[0] = token_key();
    e.config.oauth_key_count = 1;
    e.config.user_quota = 2;
    engine_start(&e);
    struct client one = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600),
                  c[3] = {one, one, one};
    for (unsigned i = 0; i < 3; i++) {
        c[i].tuple.client.port = (uint16_t)(5000 + i);
        CHECK_EQ(client_allocate(&c[i]), i < 2 ? 0 : 486);
    }
    struct client other = client_by_token(&e, "203.0.113.7:5009", "somebody else's", 3600);
    CHECK_EQ(client_allocate(&other), 0);
    CHECK_EQ(client_refresh(&c[0], 0), 0);
    CHECK_EQ(client_allocate(&c[2]), 0);
    engine_stop(&e);
}

/* Time-limited credentials and tokens side by side, but not in one allocation. */
static void test_beside_passwords(void)
{
    begin();
    struct client alice = client_at(&e, "203.0.113.7:5000", "alice");
    struct client c = client_by_token(&e, "203.0.113.8:5000", SECRET, 3600);
    CHECK_EQ(client_allocate(&alice), 0);
    CHECK(!stun_msg_has(&alice.msg, STUN_ID_THIRD_PARTY_AUTHORIZATION));
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_refresh(&alice, 600), 0);
    CHECK_EQ(client_refresh(&c, 600), 0);
    struct client token_at_alice = c, alice_at_token = alice;
    token_at_alice.tuple = alice.tuple;
    alice_at_token.tuple = c.tuple;
    token_at_alice.nonce[0] = alice_at_token.nonce[0] = 0;
    CHECK_EQ(refresh(&token_at_alice), 441);
    CHECK_EQ(refresh(&alice_at_token), 441);
    struct turn_selector user = {.user = span_str("keys-1")};
    CHECK_EQ(turn_server_kill(e.server, &user, e.now), 1);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    engine_stop(&e);
}

/* OAUTH-13: nobody was told of tokens: 420 with its type, with and without good credentials. */
static void test_not_offered(void)
{
    engine_init(&e);
    engine_start(&e);
    e.config.oauth_keys[0] = token_key();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    struct client alice = client_at(&e, "203.0.113.7:5001", "alice");
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 401);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_THIRD_PARTY_AUTHORIZATION));
    CHECK_EQ(client_allocate(&c), 420);
    struct span types = stun_msg_bytes(&c.msg, STUN_ID_UNKNOWN_ATTRIBUTES);
    CHECK(span_eq(types, span_of("\0\x1b", 2)));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    alice.token_len = 1;
    CHECK_EQ(client_allocate(&alice), 420);
    CHECK(stun_msg_has(&alice.msg, STUN_ID_MESSAGE_INTEGRITY));
    engine_stop(&e);
}

/* Binding has no credentials, so no token belongs there; elsewhere one is read over (OAUTH-15). */
static void test_other_methods(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_ACCESS_TOKEN, "x", 1);
    client_new_tid(&c);
    CHECK_EQ(client_send_request(&c, STUN_BINDING, &a), 420);
    CHECK_EQ(client_allocate(&c), 0);
    attrs_init(&a);
    client_new_tid(&c);
    attrs_bytes(&a, STUN_ATTR_ACCESS_TOKEN, "x", 1);
    attrs_peer(&a, &c, "198.51.100.1:1");
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 0);
    engine_stop(&e);
}

/* Keys come and go while the relay runs; what they let in stays as long as its token is good. */
static void test_key_rotation(void)
{
    begin();
    struct client c = client_by_token(&e, "203.0.113.7:5000", SECRET, 3600);
    CHECK_EQ(client_allocate(&c), 0);
    struct turn_config next = e.config;
    next.oauth_keys[0].kid[0] = 'K';
    turn_server_configure(e.server, &next);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    CHECK_EQ(client_refresh(&c, 600), 401); /* its token is of a key that is no more */
    CHECK_STR(e.last_reason, "unknown_kid");
    client_take_token(&c, &next.oauth_keys[0], "new", 3600);
    CHECK_EQ(client_refresh(&c, 600), 0);
    next.oauth_keys[0].until = e.now.unix_s + 60;
    CHECK_EQ(client_refresh(&c, 600), 0);
    engine_pass(&e, 60000);
    CHECK_EQ(client_refresh(&c, 600), 401);
    CHECK_STR(e.last_reason, "unknown_kid");
    next.oauth_key_count = 0;
    CHECK_EQ(client_refresh(&c, 600), 420);
    c.token_len = 0;
    CHECK_EQ(client_refresh(&c, 600), 0);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_challenge),
        CHECK_TEST(test_life),
        CHECK_TEST(test_integrity),
        CHECK_TEST(test_refusals),
        CHECK_TEST(test_truncated),
        CHECK_TEST(test_order_of_checks),
        CHECK_TEST(test_time),
        CHECK_TEST(test_lifetime),
        CHECK_TEST(test_dual_lifetime),
        CHECK_TEST(test_new_token),
        CHECK_TEST(test_short_key),
        CHECK_TEST(test_refused_refresh),
        CHECK_TEST(test_several_allocations),
        CHECK_TEST(test_beside_passwords),
        CHECK_TEST(test_not_offered),
        CHECK_TEST(test_other_methods),
        CHECK_TEST(test_key_rotation),
    };
    return CHECK_RUN(tests);
}
