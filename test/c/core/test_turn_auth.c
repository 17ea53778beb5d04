/* Long-term credentials as checked by the server: conformance.md STUN-LTC, REST. */
#include "engine.h"

static struct engine e;

static void begin(void)
{
    engine_init(&e);
    engine_start(&e);
}

static int send_allocate(struct client *c)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    client_new_tid(c);
    return client_send_request(c, STUN_ALLOCATE, &a);
}

static void take(struct client *c, enum stun_attr_id id, char *out, size_t size)
{
    struct span s = stun_msg_bytes(&c->msg, id);
    CHECK(s.len < size);
    snprintf(out, size, "%.*s", (int)s.len, (const char *)s.data);
}

static void take_challenge(struct client *c)
{
    take(c, STUN_ID_REALM, c->realm, sizeof c->realm);
    take(c, STUN_ID_NONCE, c->nonce, sizeof c->nonce);
}

/* STUN-LTC-01, 02, 04, 05: what a 401 carries and what it does not. */
static void test_challenge(void)
{
    begin();
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(send_allocate(&c), 401);
    /* TURN-GEN-14 */
    CHECK(span_eq(stun_msg_bytes(&c.msg, STUN_ID_REALM), span_str("example.org")));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_USERNAME) && !stun_msg_has(&c.msg, STUN_ID_USERHASH));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY_SHA256));
    struct span nonce = stun_msg_bytes(&c.msg, STUN_ID_NONCE);
    CHECK(nonce.len > 13 && nonce.len < 128 && memcmp(nonce.data, "obMatJos2gAAA", 13) == 0);
    struct span list = stun_msg_bytes(&c.msg, STUN_ID_PASSWORD_ALGORITHMS);
    CHECK(span_eq(list, span_of("\0\2\0\0\0\1\0\0", 8)));
    CHECK(stun_msg_has(&c.msg, STUN_ID_FINGERPRINT));
    CHECK(c.reply_len < 548); /* STUN-MSG-16 */
    CHECK_EQ(engine_counter(&e, TURN_N_CHALLENGES), 1);
    engine_stop(&e);
}

/*
 * STUN-MSG-16: with the longest realm and software too. DTLS-04: it fits beside a record's header,
 * nonce and tag (13, 8 and 16 bytes), or a MAC and padding (up to 48 and 16).
 */
static void test_challenge_fits(void)
{
    engine_init(&e);
    memset(e.config.realm, 'r', TURN_REALM_MAX);
    memset(e.config.software, 's', TURN_SOFTWARE_MAX);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(send_allocate(&c), 401);
    CHECK(c.reply_len + 13 + 16 + 48 + 16 < 548);
    engine_stop(&e);
}

/* STUN-LTC-03: a nonce belongs to one client transport address. */
static void test_nonce_is_bound_to_the_client(void)
{
    begin();
    struct client a = client_at(&e, "203.0.113.7:5000", "alice");
    struct client b = client_at(&e, "203.0.113.7:5001", "alice");
    CHECK_EQ(send_allocate(&a), 401);
    take_challenge(&a);
    snprintf(b.nonce, sizeof b.nonce, "%s", a.nonce);
    snprintf(b.realm, sizeof b.realm, "%s", a.realm);
    CHECK_EQ(send_allocate(&b), 438);
    CHECK(strlen(b.nonce) && stun_msg_has(&b.msg, STUN_ID_NONCE));
    take_challenge(&b);
    CHECK(strcmp(a.nonce, b.nonce) != 0);
    CHECK_EQ(send_allocate(&b), 0);
    engine_stop(&e);
}

/* STUN-LTC-16: altered feature bits, altered anything. */
static void test_altered_nonces(void)
{
    begin();
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(send_allocate(&c), 401);
    take_challenge(&c);
    char good[sizeof c.nonce];
    memcpy(good, c.nonce, sizeof good);
    for (size_t i = 0; i < strlen(good); i++) {
        memcpy(c.nonce, good, sizeof good);
        c.nonce[i] = good[i] == 'A' ? 'B' : 'A';
        CHECK_EQ(send_allocate(&c), 438);
    }
    const char *others[] = {"x", "obMatJos2AAAA", "obMatJos2gAAA!!!!!!!!abcdefghijklmnopqrstuvwx"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(c.nonce, sizeof c.nonce, "%s", others[i]);
        CHECK_EQ(send_allocate(&c), 438);
    }
    memcpy(c.nonce, good, sizeof good);
    CHECK_EQ(send_allocate(&c), 0);
    engine_stop(&e);
}

/* STUN-LTC-14, 25: stale after its lifetime; the allocation lives on. */
static void test_stale_nonce(void)
{
    engine_init(&e);
    e.config.nonce_lifetime = 60;
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(client_allocate(&c), 0);
    engine_pass(&e, 59 * 1000);
    CHECK_EQ(client_send_request(&c, STUN_REFRESH, NULL), 0);
    engine_pass(&e, 1 * 1000);
    CHECK_EQ(client_send_request(&c, STUN_REFRESH, NULL), 438);
    CHECK(stun_msg_has(&c.msg, STUN_ID_REALM) && stun_msg_has(&c.msg, STUN_ID_NONCE));
    CHECK(stun_msg_has(&c.msg, STUN_ID_PASSWORD_ALGORITHMS));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_USERNAME));
    CHECK_EQ(client_refresh(&c, 600), 0);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    engine_stop(&e);
}

/* STUN-LTC-07: integrity without USERNAME, REALM or NONCE. */
static void test_missing_attributes(void)
{
    begin();
    static const uint16_t types[] = {STUN_ATTR_USERNAME, STUN_ATTR_REALM, STUN_ATTR_NONCE};
    for (size_t missing = 0; missing < 3; missing++) {
        struct client c = client_at(&e, "203.0.113.7:5000", "alice");
        uint8_t bytes[512];
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        client_new_tid(&c);
        stun_begin(&w, stun_type(STUN_ALLOCATE, STUN_REQUEST), c.tid);
        for (size_t i = 0; i < 3; i++)
            if (i != missing)
                stun_put(&w, types[i], "x", 1);
        CHECK_EQ(stun_put_integrity(&w, e.crypto, STUN_INTEGRITY_SHA1, &c.key), CT_OK);
        size_t before = e.to_clients;
        client_send(&c, bytes, w.pos);
        CHECK_EQ(e.to_clients, before + 1);
        const struct sent *s = &e.to_client[before];
        struct stun_msg m;
        CHECK_EQ(stun_msg_decode(&m, s->bytes, s->len, NULL), CT_OK);
        CHECK_EQ(stun_msg_bytes(&m, STUN_ID_ERROR_CODE).data[2], 4);
        CHECK_EQ(stun_msg_bytes(&m, STUN_ID_ERROR_CODE).data[3], 0);
        CHECK(!stun_msg_has(&m, STUN_ID_REALM) && !stun_msg_has(&m, STUN_ID_NONCE));
        CHECK(!stun_msg_has(&m, STUN_ID_MESSAGE_INTEGRITY));
    }
    engine_stop(&e);
}

/* STUN-LTC-08, 17, 27; TURN-…: every pair of algorithms, and which integrity answers. */
static void test_algorithms(void)
{
    static const struct {
        bool listed;
        enum stun_password_algorithm key;
        enum stun_integrity with, reply;
    } cases[] = {
        {false, STUN_PASSWORD_MD5, STUN_INTEGRITY_SHA1, STUN_INTEGRITY_SHA1},
        {false, STUN_PASSWORD_MD5, STUN_INTEGRITY_SHA256, STUN_INTEGRITY_SHA256},
        {true, STUN_PASSWORD_SHA256, STUN_INTEGRITY_SHA256, STUN_INTEGRITY_SHA256},
        {true, STUN_PASSWORD_MD5, STUN_INTEGRITY_SHA256, STUN_INTEGRITY_SHA256},
        {true, STUN_PASSWORD_SHA256, STUN_INTEGRITY_SHA1, STUN_INTEGRITY_SHA256},
    };
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client c = client_at(&e, "203.0.113.7:5000", "alice");
        char password[STUN_REST_PASSWORD_MAX];
        size_t len;
        CHECK_EQ(stun_rest_password(e.crypto, CRYPTO_SHA1, span_str("north"), span_str(c.username),
                                    password, &len),
                 CT_OK);
        struct stun_long_term cred = {span_str(c.username), span_str("example.org"),
                                      span_of(password, len)};
        CHECK_EQ(stun_key_long_term(e.crypto, cases[i].key, &cred, &c.key), CT_OK);
        c.tuple.client.port = (uint16_t)(5000 + i);
        c.algorithms = cases[i].listed;
        c.integrity = cases[i].with;
        CHECK_EQ(client_allocate(&c), 0);
        enum stun_attr_id want = cases[i].reply == STUN_INTEGRITY_SHA256
                                     ? STUN_ID_MESSAGE_INTEGRITY_SHA256
                                     : STUN_ID_MESSAGE_INTEGRITY;
        enum stun_attr_id other = want == STUN_ID_MESSAGE_INTEGRITY
                                      ? STUN_ID_MESSAGE_INTEGRITY_SHA256
                                      : STUN_ID_MESSAGE_INTEGRITY;
        CHECK(stun_msg_has(&c.msg, want) && !stun_msg_has(&c.msg, other)); /* STUN-MI-09 */
        CHECK_EQ(client_refresh(&c, 600), 0);
        /* STUN-LTC-17, 18: an error after authentication too */
        CHECK_EQ(client_allocate(&c), 437);
        CHECK(stun_msg_has(&c.msg, want) && !stun_msg_has(&c.msg, STUN_ID_NONCE));
        CHECK(!stun_msg_has(&c.msg, STUN_ID_REALM) && !stun_msg_has(&c.msg, STUN_ID_USERNAME));
    }
    engine_stop(&e);
}

static int allocate_with_algorithms(struct client *c, const char *list, size_t list_len,
                                    const char *choice, size_t choice_len)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    if (list)
        attrs_bytes(&a, STUN_ATTR_PASSWORD_ALGORITHMS, list, list_len);
    if (choice)
        attrs_bytes(&a, STUN_ATTR_PASSWORD_ALGORITHM, choice, choice_len);
    client_new_tid(c);
    return client_send_request(c, STUN_ALLOCATE, &a);
}

/* STUN-LTC-09, 10, 11: half a pair, another list, a choice that is not in it. */
static void test_malformed_algorithms(void)
{
    begin();
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(send_allocate(&c), 401);
    take_challenge(&c);
    const char good[] = "\0\2\0\0\0\1\0\0";
    CHECK_EQ(allocate_with_algorithms(&c, good, 8, NULL, 0), 400);
    CHECK_EQ(allocate_with_algorithms(&c, NULL, 0, "\0\2\0\0", 4), 400);
    CHECK_EQ(allocate_with_algorithms(&c, "\0\1\0\0\0\2\0\0", 8, "\0\2\0\0", 4), 400);
    CHECK_EQ(allocate_with_algorithms(&c, good, 4, "\0\2\0\0", 4), 400);
    CHECK_EQ(allocate_with_algorithms(&c, "\0\2\0\0\0\1\0\0\0\3\0\0", 12, "\0\2\0\0", 4), 400);
    CHECK_EQ(allocate_with_algorithms(&c, "", 0, "\0\2\0\0", 4), 400);
    CHECK_EQ(allocate_with_algorithms(&c, good, 8, "\0\3\0\0", 4), 400);
    CHECK_EQ(allocate_with_algorithms(&c, good, 8, "\0\2\0\4pppp", 8), 400);
    CHECK_EQ(allocate_with_algorithms(&c, good, 8, "\0\1\0\0", 4), 0);
    engine_stop(&e);
}

/* STUN-LTC-12, 13, 15, 29: wrong password, unknown user, wrong realm; 401 before 438. */
static void test_wrong_credentials(void)
{
    begin();
    struct client c = client_with(&e, "203.0.113.7:5000", "1700003600:alice", "south");
    CHECK_EQ(client_allocate(&c), 401);
    CHECK_STR(e.last_reason, "bad_password");
    CHECK(!stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK(stun_msg_has(&c.msg, STUN_ID_NONCE) && stun_msg_has(&c.msg, STUN_ID_PASSWORD_ALGORITHMS));
    snprintf(c.nonce, sizeof c.nonce, "stale");
    CHECK_EQ(send_allocate(&c), 401);
    struct client d = client_at(&e, "203.0.113.7:5001", "alice");
    CHECK_EQ(send_allocate(&d), 401);
    take_challenge(&d);
    snprintf(d.realm, sizeof d.realm, "example.com");
    CHECK_EQ(send_allocate(&d), 401);
    CHECK_STR(e.last_reason, "wrong_realm");
    CHECK_EQ(e.auth_failed, 3);
    CHECK_EQ(engine_counter(&e, TURN_N_UNAUTHENTICATED), 3);
    engine_stop(&e);
}

/* REST-03, 04, 05, 06, 09: expiry at Allocate only; what is not a time-limited username. */
static void test_expiry(void)
{
    begin();
    struct client c = client_with(&e, "203.0.113.7:5000", "1700000010:a:b", "north");
    CHECK_EQ(client_allocate(&c), 0);
    engine_pass(&e, 9 * 1000);
    struct client d = client_with(&e, "203.0.113.7:5001", "1700000010:a:b", "north");
    CHECK_EQ(client_allocate(&d), 0);
    engine_pass(&e, 1 * 1000);
    struct client late = client_with(&e, "203.0.113.7:5002", "1700000010:a:b", "north");
    CHECK_EQ(client_allocate(&late), 401);
    CHECK_STR(e.last_reason, "expired");
    engine_pass(&e, 100 * 1000);
    CHECK_EQ(client_refresh(&c, 600), 0);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    struct client other = client_with(&e, "203.0.113.7:5000", "1700000010:x", "north");
    CHECK_EQ(client_refresh(&other, 0), 441); /* looked at for its name, not for its age */
    const char *bad[] = {"alice",         ":alice", "-1:alice",
                         "1700003600x:a", "",       "99999999999999999999:a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct client m = client_with(&e, "203.0.113.9:5000", bad[i], "north");
        CHECK_EQ(client_allocate(&m), 401);
        CHECK_STR(e.last_reason, "malformed_username");
    }
    struct client plain = client_with(&e, "203.0.113.9:5001", "1700003600", "north");
    CHECK_EQ(client_allocate(&plain), 0);
    engine_stop(&e);
}

/* REST-07: old and new secret at once; an allocation survives the end of its secret. */
static void test_secret_rotation(void)
{
    begin();
    struct client old = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(client_allocate(&old), 0);
    struct turn_config both = e.config;
    both.secrets[0] = (struct turn_secret){.bytes = "south", .len = 5};
    both.secrets[1] = e.config.secrets[0];
    both.secret_count = 2;
    turn_server_configure(e.server, &both);
    struct client again = client_at(&e, "203.0.113.7:5001", "alice");
    struct client fresh = client_with(&e, "203.0.113.7:5002", "1700003600:bob", "south");
    CHECK_EQ(client_allocate(&again), 0);
    CHECK_EQ(client_allocate(&fresh), 0);
    struct turn_config one = both;
    one.secret_count = 1;
    turn_server_configure(e.server, &one);
    struct client refused = client_at(&e, "203.0.113.7:5003", "alice");
    CHECK_EQ(client_allocate(&refused), 401);
    CHECK_EQ(client_refresh(&old, 600), 0);
    CHECK_EQ(client_refresh(&again, 600), 0);
    engine_stop(&e);
}

/* TURN-GEN-04, 06: authentication before 437; another user's allocation is 441 and untouched. */
static void test_other_users(void)
{
    begin();
    struct client nobody = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(client_send_request(&nobody, STUN_REFRESH, NULL), 401);
    CHECK_EQ(client_request(&nobody, STUN_REFRESH, NULL), 437);
    struct client owner = client_at(&e, "203.0.113.7:5001", "alice");
    CHECK_EQ(client_allocate(&owner), 0);
    struct client thief = client_at(&e, "203.0.113.7:5001", "mallory");
    CHECK_EQ(client_refresh(&thief, 0), 441);
    CHECK_EQ(client_permit(&thief, "198.51.100.1:1"), 441);
    CHECK_EQ(client_bind(&thief, 0x4000, "198.51.100.1:1"), 441);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    CHECK_EQ(client_refresh(&owner, 600), 0);
    engine_stop(&e);
}

/* TURN-SEC-05: refusals per source are limited, loopback's are not, the rest of the world is
 * served. */
static void test_refusals_are_limited(void)
{
    engine_init(&e);
    e.config.challenge_rate = 2;
    e.config.challenge_burst = 3;
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(send_allocate(&c), 401);
    CHECK(c.reply_len <= 200); /* about five times what asked for it */
    CHECK_EQ(send_allocate(&c), NO_REPLY);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_RATE), 1);
    struct client other = client_at(&e, "203.0.113.8:5000", "alice");
    CHECK_EQ(send_allocate(&other), 401);
    engine_pass(&e, 500);
    CHECK_EQ(send_allocate(&c), 401);
    CHECK_EQ(send_allocate(&c), NO_REPLY);
    struct client local = client_at(&e, "127.0.0.1:5000", "alice");
    struct client local6 = client_at(&e, "[::1]:5000", "alice");
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(send_allocate(&local), 401);
        CHECK_EQ(send_allocate(&local6), 401);
    }
    engine_stop(&e);
}

/* ---- USERHASH ---- */

static void begin_hashed(uint32_t userhashes)
{
    engine_init(&e);
    e.config.userhashes = userhashes;
    engine_start(&e);
}

static void tell(const char *username)
{
    CHECK_EQ(turn_users_put(turn_commons_users(e.commons), e.crypto, span_str(e.config.realm),
                            span_str(username)),
             CT_OK);
}

/* STUN-LTC-06, 22, 23: announced with bit 1, served for whom we were told; USERNAME still works. */
static void test_userhash(void)
{
    begin_hashed(4);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    c.hashed = true;
    CHECK_EQ(client_allocate(&c), 401);
    CHECK(memcmp(c.nonce, "obMatJos2wAAA", 13) == 0);
    CHECK_STR(e.last_reason, "unknown_userhash");
    tell(c.username);
    CHECK_EQ(client_allocate(&c), 0);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_USERHASH) && !stun_msg_has(&c.msg, STUN_ID_USERNAME));
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    c.hashed = false;
    CHECK_EQ(client_refresh(&c, 600), 0);
    struct client named = client_at(&e, "203.0.113.7:5001", "bob");
    CHECK_EQ(client_allocate(&named), 0);
    engine_stop(&e);
}

/* What a refusal looks like, but for the nonce and the transaction. */
static size_t shape_of(const struct client *c, uint16_t types[16])
{
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE;
    size_t n = 0;
    while (n < 16 && stun_msg_next(&c->msg, &pos, &attr))
        types[n++] = attr.type;
    return n;
}

/* STUN-LTC-12: an unknown hash and a wrong password are answered alike. */
static void test_unknown_userhash(void)
{
    begin_hashed(4);
    uint16_t unknown[16] = {0}, wrong[16] = {0};
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    struct client d = client_with(&e, "203.0.113.7:5001", "1700003600:bob", "south");
    c.hashed = d.hashed = true;
    tell(d.username);
    CHECK_EQ(client_allocate(&c), 401);
    CHECK_EQ(client_allocate(&d), 401);
    CHECK_STR(e.last_reason, "bad_password");
    CHECK_EQ(c.reply_len, d.reply_len);
    CHECK_EQ(shape_of(&c, unknown), shape_of(&d, wrong));
    CHECK_BYTES(unknown, wrong, sizeof wrong);
    CHECK(stun_msg_has(&c.msg, STUN_ID_PASSWORD_ALGORITHMS));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    /* the stand-in for an unknown user opens no door */
    struct client stand_in = client_with(&e, "203.0.113.7:5002", "0:", "north");
    stand_in.hashed = true;
    CHECK_EQ(client_allocate(&stand_in), 401);
    engine_stop(&e);
}

/* STUN-LTC-05, 06: without room for usernames the bit is not set and no hash is known. */
static void test_userhash_off(void)
{
    begin_hashed(0);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK(memcmp(c.nonce, "obMatJos2gAAA", 13) == 0);
    c.hashed = true; /* its own allocation's user is known all the same */
    CHECK_EQ(client_refresh(&c, 600), 0);
    c.tuple.client.port++;
    c.nonce[0] = 0;
    CHECK_EQ(client_allocate(&c), 401);
    engine_stop(&e);
}

/* STUN-ATTR-17, STUN-LTC-22: a USERHASH of another length is malformed. */
static void test_userhash_length(void)
{
    begin_hashed(4);
    for (size_t len = 31; len <= 33; len += 2) {
        struct client c = client_at(&e, "203.0.113.7:5000", "alice");
        CHECK_EQ(send_allocate(&c), 401);
        take_challenge(&c);
        uint8_t bytes[512], zeros[33] = {0};
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        client_new_tid(&c);
        stun_begin(&w, stun_type(STUN_ALLOCATE, STUN_REQUEST), c.tid);
        stun_put(&w, STUN_ATTR_USERHASH, zeros, len);
        stun_put(&w, STUN_ATTR_REALM, c.realm, strlen(c.realm));
        stun_put(&w, STUN_ATTR_NONCE, c.nonce, strlen(c.nonce));
        CHECK_EQ(stun_put_integrity(&w, e.crypto, STUN_INTEGRITY_SHA1, &c.key), CT_OK);
        size_t before = e.to_clients;
        client_send(&c, bytes, w.pos);
        struct stun_msg m;
        const struct sent *s = &e.to_client[before % ENGINE_OUT_MAX];
        CHECK_EQ(e.to_clients, before + 1);
        CHECK_EQ(stun_msg_decode(&m, s->bytes, s->len, NULL), CT_OK);
        CHECK_EQ(stun_msg_bytes(&m, STUN_ID_ERROR_CODE).data[3], 0);
    }
    engine_stop(&e);
}

/* Its user stays known to an allocation that outlives the table, and a realm change moves all. */
static void test_forgotten_userhash(void)
{
    begin_hashed(2);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    c.hashed = true;
    tell(c.username);
    CHECK_EQ(client_allocate(&c), 0);
    tell("1:x");
    tell("1:y");
    CHECK_EQ(client_refresh(&c, 600), 0);
    c.tuple.client.port++;
    c.nonce[0] = 0;
    CHECK_EQ(client_allocate(&c), 401);
    tell(c.username);
    struct turn_config other = e.config;
    snprintf(other.realm, sizeof other.realm, "example.net");
    CHECK_EQ(turn_users_rehash(turn_commons_users(e.commons), e.crypto, span_str(other.realm)),
             CT_OK);
    turn_server_configure(e.server, &other);
    c.nonce[0] = 0;
    CHECK_EQ(send_allocate(&c), 401);
    take_challenge(&c);
    CHECK_STR(c.realm, "example.net");
    CHECK_EQ(send_allocate(&c), 401); /* the key is of the old realm, but the user was found */
    CHECK_STR(e.last_reason, "bad_password");
    engine_stop(&e);
}

/* STUN-LTC-21: quotes around username and realm, NULs behind them. */
static void test_stripping(void)
{
    begin();
    for (size_t i = 0; i < 2; i++) {
        struct client c = client_at(&e, "203.0.113.7:5000", "george");
        c.tuple.client.port = (uint16_t)(5000 + i);
        char plain[128];
        snprintf(plain, sizeof plain, "%.100s", c.username);
        snprintf(c.username, sizeof c.username, "%s%s%s", i ? "" : "\"", plain, i ? "" : "\"");
        CHECK_EQ(send_allocate(&c), 401);
        take_challenge(&c);
        snprintf(c.realm, sizeof c.realm, i ? "example.org" : "\"example.org\"");
        CHECK_EQ(send_allocate(&c), 0);
        snprintf(c.username, sizeof c.username, "%s", plain);
        snprintf(c.realm, sizeof c.realm, "example.org");
        CHECK_EQ(client_refresh(&c, 600), 0); /* the same user */
    }
    struct client c = client_at(&e, "203.0.113.7:5100", "george");
    CHECK_EQ(send_allocate(&c), 401);
    take_challenge(&c);
    uint8_t bytes[512];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    size_t before = e.to_clients;
    client_new_tid(&c);
    stun_begin(&w, stun_type(STUN_ALLOCATE, STUN_REQUEST), c.tid);
    stun_put_u32(&w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    stun_put(&w, STUN_ATTR_USERNAME, c.username, strlen(c.username) + 1);
    stun_put(&w, STUN_ATTR_REALM, c.realm, strlen(c.realm) + 1);
    stun_put(&w, STUN_ATTR_NONCE, c.nonce, strlen(c.nonce));
    CHECK_EQ(stun_put_integrity(&w, e.crypto, STUN_INTEGRITY_SHA1, &c.key), CT_OK);
    client_send(&c, bytes, w.pos);
    struct stun_msg m;
    const struct sent *s = &e.to_client[before % ENGINE_OUT_MAX];
    CHECK_EQ(stun_msg_decode(&m, s->bytes, s->len, NULL), CT_OK);
    CHECK_EQ(m.cls, STUN_SUCCESS);
    engine_stop(&e);
}

/*
 * STUN-LTC-15, 28: the order of §9.2.4. Each request is wrong in its own way and in every later
 * one; the first check answers.
 */
static void test_order_of_checks(void)
{
    begin_hashed(4);
    struct client c = client_with(&e, "203.0.113.7:5000", "1700003600:alice", "south");
    c.hashed = true;
    snprintf(c.realm, sizeof c.realm, "example.org");
    CHECK_EQ(send_allocate(&c), 401); /* no integrity */
    CHECK_EQ(engine_counter(&e, TURN_N_CHALLENGES), 1);
    snprintf(c.nonce, sizeof c.nonce, "obMatJos2wAAAstale");
    CHECK_EQ(allocate_with_algorithms(&c, NULL, 0, "\0\2\0\0", 4), 400); /* half a pair */
    CHECK_EQ(e.auth_failed, 0);
    CHECK_EQ(send_allocate(&c), 401); /* unknown user */
    CHECK_STR(e.last_reason, "unknown_userhash");
    tell(c.username);
    CHECK_EQ(send_allocate(&c), 401); /* wrong password */
    CHECK_STR(e.last_reason, "bad_password");
    struct client right = client_at(&e, "203.0.113.7:5000", "alice");
    snprintf(right.realm, sizeof right.realm, "example.org");
    snprintf(right.nonce, sizeof right.nonce, "obMatJos2wAAAstale");
    CHECK_EQ(send_allocate(&right), 438); /* the nonce, last */
    CHECK_EQ(engine_counter(&e, TURN_N_STALE), 1);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_challenge),
        CHECK_TEST(test_challenge_fits),
        CHECK_TEST(test_nonce_is_bound_to_the_client),
        CHECK_TEST(test_altered_nonces),
        CHECK_TEST(test_stale_nonce),
        CHECK_TEST(test_missing_attributes),
        CHECK_TEST(test_algorithms),
        CHECK_TEST(test_malformed_algorithms),
        CHECK_TEST(test_wrong_credentials),
        CHECK_TEST(test_expiry),
        CHECK_TEST(test_secret_rotation),
        CHECK_TEST(test_other_users),
        CHECK_TEST(test_refusals_are_limited),
        CHECK_TEST(test_userhash),
        CHECK_TEST(test_unknown_userhash),
        CHECK_TEST(test_userhash_off),
        CHECK_TEST(test_userhash_length),
        CHECK_TEST(test_forgotten_userhash),
        CHECK_TEST(test_stripping),
        CHECK_TEST(test_order_of_checks),
    };
    return CHECK_RUN(tests);
}
