/* Authenticated requests of every form: order, lengths, integrity beside integrity. */
#include "engine.h"

static struct engine e;
static struct wbuf w;
static uint8_t bytes[ENGINE_BYTES_MAX];

/* A client with a nonce, on a 5-tuple that nobody has used. */
static struct client challenged(void)
{
    static uint16_t port = 2000;
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    c.tuple.client.port = port++;
    client_new_tid(&c);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, NULL), 401);
    client_learn(&c);
    return c;
}

static void start(struct client *c, uint16_t method)
{
    client_new_tid(c);
    c->method = method;
    w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, stun_type(method, STUN_REQUEST), c->tid);
}

enum {
    TRANSPORT,
    USERNAME,
    REALM,
    NONCE,
    ALL
};

static void put(const struct client *c, int which)
{
    if (which == TRANSPORT)
        stun_put_u32(&w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    else if (which == USERNAME)
        stun_put(&w, STUN_ATTR_USERNAME, c->username, strlen(c->username));
    else if (which == REALM)
        stun_put(&w, STUN_ATTR_REALM, c->realm, strlen(c->realm));
    else
        stun_put(&w, STUN_ATTR_NONCE, c->nonce, strlen(c->nonce));
}

static void start_allocate(struct client *c)
{
    start(c, STUN_ALLOCATE);
    for (int i = 0; i < ALL; i++)
        put(c, i);
}

static void sign(const struct client *c, enum stun_integrity which)
{
    CHECK_EQ(stun_put_integrity(&w, e.crypto, which, &c->key), CT_OK);
}

/* Changes a bit of what was written last, the end of a MAC. */
static void spoil(void)
{
    bytes[w.pos - 1] ^= 1;
}

static int ask(struct client *c)
{
    size_t before = e.to_clients;
    client_send(c, bytes, w.pos);
    if (e.to_clients == before)
        return NO_REPLY;
    const struct sent *s = &e.to_client[before % ENGINE_OUT_MAX];
    return client_read(c, span_of(s->bytes, s->len));
}

/* STUN-ATTR-20: what stands before the integrity may stand in any order. */
static void test_any_order(void)
{
    engine_init(&e);
    engine_start(&e);
    for (int n = 0; n < 24; n++) {
        int order[ALL] = {TRANSPORT, USERNAME, REALM, NONCE};
        for (int i = ALL, rest = n; i > 1; rest /= i, i--) {
            int j = rest % i, last = order[i - 1];
            order[i - 1] = order[j];
            order[j] = last;
        }
        struct client c = challenged();
        start(&c, STUN_ALLOCATE);
        for (int i = 0; i < ALL; i++)
            put(&c, order[i]);
        sign(&c, STUN_INTEGRITY_SHA1);
        CHECK_EQ(ask(&c), 0);
    }
    engine_stop(&e);
}

/* STUN-MI-05: of two integrities the one with SHA-256 decides. */
static void test_the_better_integrity_decides(void)
{
    engine_init(&e);
    engine_start(&e);
    for (int bad = 0; bad < 4; bad++) {
        struct client c = challenged();
        start_allocate(&c);
        sign(&c, STUN_INTEGRITY_SHA1);
        if (bad & 1)
            spoil();
        sign(&c, STUN_INTEGRITY_SHA256);
        if (bad & 2)
            spoil();
        CHECK_EQ(ask(&c), bad & 2 ? 401 : 0);
    }
    engine_stop(&e);
}

/* STUN-MI-04, 08: HMACs of another length than their own, though their bytes be right. */
static void test_cut_integrity(void)
{
    static const struct {
        enum stun_integrity which;
        uint16_t type;
        size_t size, whole;
    } cases[] = {
        {STUN_INTEGRITY_SHA256, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, 12, 32},
        {STUN_INTEGRITY_SHA256, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, 16, 32},
        {STUN_INTEGRITY_SHA256, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, 18, 32},
        {STUN_INTEGRITY_SHA256, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, 20, 32},
        {STUN_INTEGRITY_SHA256, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, 28, 32},
        {STUN_INTEGRITY_SHA1, STUN_ATTR_MESSAGE_INTEGRITY, 0, 20},
        {STUN_INTEGRITY_SHA1, STUN_ATTR_MESSAGE_INTEGRITY, 16, 20},
    };
    engine_init(&e);
    engine_start(&e);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client c = challenged();
        uint8_t mac[32];
        start_allocate(&c);
        struct wbuf before = w;
        sign(&c, cases[i].which);
        memcpy(mac, bytes + w.pos - cases[i].whole, cases[i].whole);
        w = before;
        stun_put(&w, cases[i].type, mac, cases[i].size);
        CHECK_EQ(ask(&c), 401);
    }
    engine_stop(&e);
}

/* STUN-MI-06, 07: what stands behind the integrity does not count, and is not unknown either. */
static void test_behind_the_integrity(void)
{
    engine_init(&e);
    engine_start(&e);
    for (int which = STUN_INTEGRITY_SHA1; which <= STUN_INTEGRITY_SHA256; which++) {
        struct client c = challenged();
        uint32_t lifetime = 0;
        start_allocate(&c);
        sign(&c, (enum stun_integrity)which);
        stun_put_u32(&w, STUN_ATTR_LIFETIME, 1000);
        stun_put(&w, 0x7F02, "", 0);
        stun_put_fingerprint(&w);
        CHECK_EQ(ask(&c), 0);
        CHECK_EQ(stun_msg_u32(&c.msg, STUN_ID_LIFETIME, &lifetime), CT_OK);
        CHECK_EQ(lifetime, 600);
    }
    engine_stop(&e);
}

/* STUN-ATTR-03: the first of two counts. STUN-ATTR-09: what belongs to another method does not. */
static void test_twice_and_out_of_place(void)
{
    engine_init(&e);
    engine_start(&e);
    struct client c = challenged();
    struct attrs a;
    uint32_t lifetime = 0;
    CHECK_EQ(client_allocate(&c), 0);
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_LIFETIME, 700);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 6u << 24);
    attrs_u32(&a, STUN_ATTR_LIFETIME, 900);
    client_new_tid(&c);
    CHECK_EQ(client_send_request(&c, STUN_REFRESH, &a), 0);
    CHECK_EQ(stun_msg_u32(&c.msg, STUN_ID_LIFETIME, &lifetime), CT_OK);
    CHECK_EQ(lifetime, 700);
    engine_stop(&e);
}

/* The key that goes with a time-limited username of any length. */
static struct stun_key key_of(struct span username)
{
    char password[STUN_REST_PASSWORD_MAX];
    size_t len = 0;
    struct stun_key key = {0};
    CHECK_EQ(stun_rest_password(e.crypto, CRYPTO_SHA1, span_str("north"), username, password, &len),
             CT_OK);
    const struct stun_long_term cred = {username, span_str(e.config.realm), span_of(password, len)};
    CHECK_EQ(stun_key_long_term(e.crypto, STUN_PASSWORD_MD5, &cred, &key), CT_OK);
    return key;
}

/* STUN-ATTR-15, 16: usernames that no one can have are read up to 763 bytes; so are realms. */
static void test_long_texts(void)
{
    static const struct {
        size_t len;
        int code;
    } cases[] = {{508, 0}, {509, 401}, {763, 401}, {764, 400}, {1200, 400}};
    engine_init(&e);
    engine_start(&e);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1200] = "1700003600:";
        memset(text + 11, 'u', sizeof text - 11);
        struct client c = challenged();
        c.key = key_of(span_of(text, cases[i].len));
        start(&c, STUN_ALLOCATE);
        put(&c, TRANSPORT);
        stun_put(&w, STUN_ATTR_USERNAME, text, cases[i].len);
        put(&c, REALM);
        put(&c, NONCE);
        sign(&c, STUN_INTEGRITY_SHA1);
        CHECK_EQ(ask(&c), cases[i].code);
    }
    struct client c = challenged();
    char realm[STUN_TEXT_MAX];
    memset(realm, 'r', sizeof realm);
    start(&c, STUN_ALLOCATE);
    put(&c, USERNAME);
    stun_put(&w, STUN_ATTR_REALM, realm, sizeof realm);
    stun_put(&w, STUN_ATTR_NONCE, realm, sizeof realm);
    sign(&c, STUN_INTEGRITY_SHA1);
    CHECK_EQ(ask(&c), 401);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_any_order),
        CHECK_TEST(test_the_better_integrity_decides),
        CHECK_TEST(test_cut_integrity),
        CHECK_TEST(test_behind_the_integrity),
        CHECK_TEST(test_twice_and_out_of_place),
        CHECK_TEST(test_long_texts),
    };
    return CHECK_RUN(tests);
}
