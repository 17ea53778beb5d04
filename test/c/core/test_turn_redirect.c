/* ALTERNATE-SERVER: conformance.md STUN-ALT, TURN-ALLOC-31. */
#include "engine.h"

static struct engine e;

static void begin(const char *const *texts, size_t n, const char *domain)
{
    engine_init(&e);
    for (size_t i = 0; i < n; i++)
        e.config.redirect[i] = addr_of(texts[i]);
    e.config.redirect_count = (uint8_t)n;
    snprintf(e.config.alternate_domain, sizeof e.config.alternate_domain, "%s", domain);
    engine_start(&e);
}

/* The ALTERNATE-SERVER attributes of an answer, in their order; how many. */
static size_t servers(const struct client *c, struct addr out[4])
{
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE;
    size_t n = 0;
    while (n < 4 && stun_msg_next(&c->msg, &pos, &attr))
        if (attr.type == STUN_ATTR_ALTERNATE_SERVER)
            CHECK_EQ(stun_addr_decode(attr.value, false, stun_msg_tid(&c->msg), &out[n++]), CT_OK);
    return n;
}

static bool is(const struct addr *a, const char *text)
{
    struct addr want = addr_of(text);
    return addr_eq(a, &want);
}

/* STUN-ALT-01, 02, 03, 04: after authentication, protected, the client's family first. */
static void test_both_families(void)
{
    static const char *const to[] = {"[2001:db8:2::9]:3479", "192.0.2.9:3478"};
    begin(to, 2, "");
    struct client four = client_at(&e, "203.0.113.7:5000", "alice");
    struct client six = client_at(&e, "[2001:db8:1::7]:5000", "alice");
    struct addr got[4];
    CHECK_EQ(client_send_request(&four, STUN_ALLOCATE, NULL), 401);
    CHECK(!stun_msg_has(&four.msg, STUN_ID_ALTERNATE_SERVER));
    CHECK_EQ(client_allocate(&four), 300);
    CHECK(stun_msg_has(&four.msg, STUN_ID_MESSAGE_INTEGRITY)); /* client_read() has checked it */
    CHECK_EQ(servers(&four, got), 2);
    CHECK(is(&got[0], to[1]) && is(&got[1], to[0]));
    CHECK_EQ(client_allocate(&six), 300);
    CHECK_EQ(servers(&six, got), 2);
    CHECK(is(&got[0], to[0]) && is(&got[1], to[1]));
    four.key.bytes[0] ^= 1;
    CHECK_EQ(client_allocate(&four), 401);
    CHECK(!stun_msg_has(&four.msg, STUN_ID_ALTERNATE_SERVER));
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* STUN-ALT-01: who has nowhere to go in its family stays, and may find the relay draining. */
static void test_one_family(void)
{
    static const char *const to[] = {"[2001:db8:2::9]:3479"};
    begin(to, 1, "");
    struct client four = client_at(&e, "203.0.113.7:5000", "alice");
    struct client six = client_at(&e, "[2001:db8:1::7]:5000", "alice");
    struct client late = client_at(&e, "203.0.113.8:5000", "alice");
    struct addr got[4];
    CHECK_EQ(client_allocate(&four), 0);
    CHECK_EQ(client_allocate(&six), 300);
    CHECK_EQ(servers(&six, got), 1);
    turn_server_drain(e.server, true);
    CHECK_EQ(client_allocate(&late), 508);
    CHECK_EQ(client_allocate(&six), 300);
    engine_stop(&e);
}

/* Several of one family share the clients; an IP keeps its own. */
static void test_several(void)
{
    static const char *const to[] = {"192.0.2.9:1", "192.0.2.9:2", "192.0.2.9:3", "192.0.2.9:4"};
    begin(to, 4, "");
    unsigned hits[5] = {0};
    for (unsigned i = 0; i < 64; i++) {
        char from[32];
        struct addr got[4];
        uint16_t port = 0;
        snprintf(from, sizeof from, "203.0.113.%u:5000", i + 1);
        for (unsigned again = 0; again < 2; again++) {
            struct client c = client_at(&e, from, "alice");
            c.tuple.client.port = (uint16_t)(5000 + again);
            CHECK_EQ(client_allocate(&c), 300);
            CHECK_EQ(servers(&c, got), 1);
            CHECK(!again || got[0].port == port);
            port = got[0].port;
        }
        CHECK(port >= 1 && port <= 4);
        hits[port % 5]++;
    }
    for (unsigned port = 1; port <= 4; port++)
        CHECK(hits[port] > 0);
    engine_stop(&e);
}

/* STUN-ALT-05: over TLS and DTLS, to MESSAGE-INTEGRITY-SHA256 only. */
static void test_domain(void)
{
    static const char *const to[] = {"192.0.2.9:3478"};
    static const enum turn_transport transports[] = {TURN_UDP, TURN_TCP, TURN_TLS, TURN_DTLS};
    begin(to, 1, "turn2.example.org");
    for (size_t i = 0; i < 4; i++)
        for (unsigned sha256 = 0; sha256 < 2; sha256++) {
            struct client c = client_at(&e, "203.0.113.7:5000", "alice");
            c.tuple.transport = (uint8_t)transports[i];
            c.integrity = sha256 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
            CHECK_EQ(client_allocate(&c), 300);
            struct span domain = stun_msg_bytes(&c.msg, STUN_ID_ALTERNATE_DOMAIN);
            if (sha256 && transports[i] >= TURN_TLS)
                CHECK(span_eq(domain, span_str("turn2.example.org")));
            else
                CHECK(domain.data == NULL);
        }
    engine_stop(&e);
}

/* STUN-ALT-06, and nobody who is here is sent away: only new allocations are elsewhere. */
static void test_the_rest_goes_on(void)
{
    begin(NULL, 0, "");
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(client_allocate(&c), 0);
    struct turn_config next = e.config;
    next.redirect[0] = addr_of("192.0.2.9:3478");
    next.redirect_count = 1;
    turn_server_configure(e.server, &next);
    CHECK_EQ(client_request(&c, STUN_ALLOCATE, NULL), 0); /* sent again: the same answer */
    CHECK_EQ(client_allocate(&c), 437);
    CHECK_EQ(client_refresh(&c, 600), 0);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    CHECK_EQ(client_send_request(&c, STUN_BINDING, NULL), 0);
    struct client d = client_at(&e, "203.0.113.7:5001", "alice");
    CHECK_EQ(client_allocate(&d), 300);
    next.redirect_count = 0;
    CHECK_EQ(client_allocate(&d), 0);
    engine_stop(&e);
}

/* With all that an answer can hold it fits where the path MTU is not known (STUN-MSG-16). */
static void test_it_fits(void)
{
    static const char *const to[] = {"192.0.2.9:3478", "[2001:db8:2::9]:3479"};
    char domain[256];
    memset(domain, 'd', 255);
    domain[255] = '\0';
    engine_init(&e);
    memset(e.config.software, 's', TURN_SOFTWARE_MAX);
    e.config.redirect[0] = addr_of(to[0]);
    e.config.redirect[1] = addr_of(to[1]);
    e.config.redirect_count = 2;
    memcpy(e.config.alternate_domain, domain, sizeof domain);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    c.tuple.transport = TURN_DTLS;
    c.integrity = STUN_INTEGRITY_SHA256;
    CHECK_EQ(client_allocate(&c), 300);
    CHECK_EQ(stun_msg_bytes(&c.msg, STUN_ID_ALTERNATE_DOMAIN).len, 255);
    CHECK(c.reply_len < 548);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_both_families), CHECK_TEST(test_one_family),       CHECK_TEST(test_several),
        CHECK_TEST(test_domain),        CHECK_TEST(test_the_rest_goes_on), CHECK_TEST(test_it_fits),
    };
    return CHECK_RUN(tests);
}
