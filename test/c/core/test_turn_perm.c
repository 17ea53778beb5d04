/* Permissions: conformance.md TURN-PERM, TURN-SEC; and our own addresses as peers. */
#include "engine.h"

static struct engine e;

static void begin(void)
{
    engine_init(&e);
    engine_start(&e);
}

static struct client allocated(uint16_t port)
{
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    c.tuple.client.port = port;
    CHECK_EQ(client_allocate(&c), 0);
    return c;
}

static bool reaches(struct client *c, const char *peer)
{
    uint64_t paired = engine_counter(&e, TURN_N_PAIRED);
    engine_clear(c->e);
    client_indication(c, peer, "hi");
    return peer_got(c, peer, "hi") || engine_counter(&e, TURN_N_PAIRED) > paired;
}

static bool is_reached(struct client *c, const char *peer)
{
    engine_clear(c->e);
    peer_send(c, peer, "ho");
    return got_indication(c, peer, "ho");
}

/* TURN-PERM-01, 02, 08: many peers at once; ports do not matter. */
static void test_create(void)
{
    begin();
    struct client c = allocated(1);
    struct attrs a;
    attrs_init(&a);
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 400);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    client_new_tid(&c);
    attrs_init(&a);
    char text[64];
    for (int i = 1; i <= 10; i++) {
        snprintf(text, sizeof text, "198.51.100.%d:1", i);
        attrs_peer(&a, &c, text);
    }
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 0);
    for (int i = 1; i <= 10; i++) {
        snprintf(text, sizeof text, "198.51.100.%d:%d", i, 7000 + i);
        CHECK(reaches(&c, text));
        CHECK(is_reached(&c, text));
    }
    CHECK(!reaches(&c, "198.51.100.11:1"));
    CHECK(!is_reached(&c, "198.51.100.11:1")); /* TURN-PERM-12 */
    engine_stop(&e);
}

/* TURN-PERM-03, 04, STUN-ATTR-14: one bad peer and none is installed. */
static void test_all_or_nothing(void)
{
    begin();
    struct client c = allocated(1);
    static const struct {
        const char *value;
        size_t len;
        int code;
    } bad[] = {
        {"\0\1", 2, 400},
        {"\0\3\0\0\0\0\0\0", 8, 400},
        {"\0\0\0\0\0\0\0\0", 8, 400},
        {"\0\1\0\0\0\0\0", 7, 400},
        {"\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 19, 400},
        {"\0\2\0\0\1\2\3\4\5\6\7\10\1\2\3\4\5\6\7\10", 20, 443},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct attrs a;
        attrs_init(&a);
        client_new_tid(&c);
        attrs_peer(&a, &c, "198.51.100.1:1");
        attrs_bytes(&a, STUN_ATTR_XOR_PEER_ADDRESS, bad[i].value, bad[i].len);
        CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), bad[i].code);
        CHECK(!reaches(&c, "198.51.100.1:1"));
    }
    CHECK_EQ(client_permit(&c, "10.0.0.1:1"), 403);
    struct attrs a;
    attrs_init(&a);
    client_new_tid(&c);
    attrs_peer(&a, &c, "198.51.100.1:1");
    attrs_peer(&a, &c, "10.0.0.1:1");
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 403);
    CHECK(!reaches(&c, "198.51.100.1:1"));
    engine_stop(&e);
}

/* TURN-PERM-09, 10, 11, 15: exactly 300 s from the last request, whatever is relayed. */
static void test_lifetime(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    for (int i = 0; i < 299; i++) {
        engine_pass(&e, 1000);
        CHECK(reaches(&c, "198.51.100.1:1") && is_reached(&c, "198.51.100.1:1"));
    }
    engine_pass(&e, 999);
    CHECK(reaches(&c, "198.51.100.1:1") && is_reached(&c, "198.51.100.1:1"));
    engine_pass(&e, 1);
    CHECK(!reaches(&c, "198.51.100.1:1") && !is_reached(&c, "198.51.100.1:1"));
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    engine_pass(&e, 200 * 1000);
    CHECK_EQ(client_refresh(&c, 600), 0); /* TURN-REFR-11 */
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    CHECK_EQ(client_send_request(&c, STUN_REFRESH, NULL), 0);
    engine_pass(&e, 299 * 1000);
    CHECK(reaches(&c, "198.51.100.1:1"));
    engine_pass(&e, 1000);
    CHECK(!reaches(&c, "198.51.100.1:1"));
    engine_stop(&e);
}

/* TURN-PERM-13, 16: of one allocation, and for authenticated requests only. */
static void test_belongs_to_one(void)
{
    begin();
    struct client a = allocated(1), b = allocated(2);
    CHECK_EQ(client_permit(&a, "198.51.100.1:1"), 0);
    CHECK(reaches(&a, "198.51.100.1:1") && !reaches(&b, "198.51.100.1:1"));
    CHECK(is_reached(&a, "198.51.100.1:1") && !is_reached(&b, "198.51.100.1:1"));
    struct client anonymous = b;
    *anonymous.nonce = 0;
    struct attrs t;
    attrs_init(&t);
    client_new_tid(&anonymous);
    attrs_peer(&t, &anonymous, "198.51.100.1:1");
    CHECK_EQ(client_send_request(&anonymous, STUN_CREATE_PERMISSION, &t), 401);
    CHECK(!reaches(&b, "198.51.100.1:1"));
    engine_stop(&e);
}

/* TURN-PERM-07: a limit per allocation; what has expired makes room. */
static void test_limit(void)
{
    engine_init(&e);
    e.config.max_permissions = 4;
    engine_start(&e);
    struct client c = allocated(1);
    char text[64];
    for (int i = 1; i <= 5; i++) {
        snprintf(text, sizeof text, "198.51.100.%d:1", i);
        CHECK_EQ(client_permit(&c, text), i <= 4 ? 0 : 508);
    }
    CHECK_EQ(client_permit(&c, "198.51.100.4:1"), 0);
    engine_pass(&e, 300 * 1000);
    for (int i = 5; i <= 8; i++) {
        snprintf(text, sizeof text, "198.51.100.%d:1", i);
        CHECK_EQ(client_permit(&c, text), 0);
        CHECK(reaches(&c, text));
    }
    struct attrs a;
    attrs_init(&a);
    client_new_tid(&c);
    attrs_peer(&a, &c, "198.51.100.8:1");
    attrs_peer(&a, &c, "198.51.100.9:1");
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 508);
    /* a list that no allocation could hold is not looked at to its end */
    attrs_init(&a);
    for (int i = 0; i < 4; i++)
        attrs_peer(&a, &c, "198.51.100.8:1");
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 0);
    attrs_peer(&a, &c, "10.0.0.1:1");
    unsigned forbidden = e.forbidden;
    CHECK_EQ(client_request(&c, STUN_CREATE_PERMISSION, &a), 508);
    CHECK_EQ(e.forbidden, forbidden);
    engine_stop(&e);
}

/* TURN-PERM-06, 17, TURN-SEC-01, 03: what is refused unless allowed, in every disguise. */
static void test_denied(void)
{
    static const char *const v4[] = {
        "0.0.0.0:1",    "10.1.2.3:1",    "100.64.0.1:1", "127.0.0.1:1",       "169.254.169.254:80",
        "172.16.0.1:1", "192.168.1.1:1", "224.0.0.1:1",  "255.255.255.255:1", "192.0.2.200:1",
    };
    static const char *const v6[] = {
        "[::]:1",
        "[::1]:1",
        "[fe80::1]:1",
        "[fc00::1]:1",
        "[fd12::1]:1",
        "[ff02::1]:1",
        "[::ffff:8.8.8.8]:1",
        "[::ffff:127.0.0.1]:1",
        "[::127.0.0.1]:1",
        "[64:ff9b::127.0.0.1]:1",
        "[64:ff9b::10.0.0.1]:1",
        "[2002:7f00:1::]:1",
        "[2002:808:808::1]:1",
        "[2001::1]:1",
        "[2001:db8::9]:1",
        "[fec0::1]:1",
        "[64:ff9b:1::8.8.8.8]:1",
    };
    begin();
    struct client c = allocated(1);
    for (size_t i = 0; i < sizeof v4 / sizeof *v4; i++) {
        CHECK_EQ(client_permit(&c, v4[i]), 403);
        CHECK_EQ(client_bind(&c, (uint16_t)(0x4000 + i), v4[i]), 403);
        CHECK(!reaches(&c, v4[i]));
    }
    struct client d = client_at(&e, "203.0.113.7:2", "bob");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&d, &a), 0);
    for (size_t i = 0; i < sizeof v6 / sizeof *v6; i++) {
        CHECK_EQ(client_permit(&d, v6[i]), 403);
        CHECK_EQ(client_bind(&d, (uint16_t)(0x4000 + i), v6[i]), 403);
        CHECK(!reaches(&d, v6[i]));
    }
    CHECK_EQ(client_permit(&d, "[64:ff9b::8.8.8.8]:1"), 0);
    CHECK_EQ(client_permit(&d, "[2606:4700::1111]:1"), 0);
    CHECK_EQ(client_permit(&c, "8.8.8.8:1"), 0);
    CHECK_EQ(client_permit(&c, "[::ffff:8.8.8.8]:1"), 443);
    CHECK(e.forbidden >= 27);
    CHECK_EQ(engine_counter(&e, TURN_N_FORBIDDEN), e.forbidden);
    engine_stop(&e);
}

/*
 * Our own relay IP is a peer like any other's client would be, though its range is denied: but only
 * on ports that are relayed addresses, so that nothing else on this machine can be reached.
 */
static void own_address(bool pair)
{
    begin();
    e.config.pair = pair;
    struct client a = allocated(1), b = allocated(2);
    char at_b[ADDR_TEXT_MAX], at_a[ADDR_TEXT_MAX];
    addr_format(&b.relayed, at_b);
    addr_format(&a.relayed, at_a);
    CHECK_EQ(client_permit(&a, "192.0.2.1:53"), 0);
    CHECK(!reaches(&a, "192.0.2.1:53"));
    CHECK(!reaches(&a, "192.0.2.1:3478"));
    CHECK(reaches(&a, at_b));
    CHECK_EQ(client_bind(&a, 0x4000, "192.0.2.1:53"), 403);
    CHECK_EQ(client_bind(&a, 0x4000, at_b), 0);
    CHECK_EQ(client_bind(&b, 0x4000, at_a), 0);
    engine_clear(&e);
    client_channel_data(&a, 0x4000, "hi");
    if (!pair)
        CHECK(peer_got(&a, at_b, "hi") && engine_carry(&e));
    CHECK(got_channel_data(&b, 0x4000, "hi"));
    /* when b is gone its port is nobody's */
    CHECK_EQ(client_refresh(&b, 0), 0);
    engine_clear(&e);
    client_channel_data(&a, 0x4000, "hi");
    CHECK_EQ(e.to_peers + e.to_clients, 0);
    engine_stop(&e);
}

static void test_own_address(void)
{
    own_address(false);
    own_address(true);
}

/* The port that EVEN-PORT holds for later is nobody's relayed address until it is redeemed. */
static void test_reserved_port(void)
{
    begin();
    struct client a = allocated(1), b = client_at(&e, "203.0.113.7:2", "bob");
    struct attrs attrs;
    char next[ADDR_TEXT_MAX];
    attrs_init(&attrs);
    attrs_bytes(&attrs, STUN_ATTR_EVEN_PORT, "\x80", 1);
    CHECK_EQ(client_allocate_with(&b, &attrs), 0);
    struct addr held = b.relayed;
    held.port++;
    addr_format(&held, next);
    struct span token = stun_msg_bytes(&b.msg, STUN_ID_RESERVATION_TOKEN);
    attrs_init(&attrs);
    attrs_bytes(&attrs, STUN_ATTR_RESERVATION_TOKEN, token.data, token.len);
    CHECK_EQ(client_permit(&a, next), 0);
    CHECK(!reaches(&a, next));
    CHECK_EQ(client_bind(&a, 0x4000, next), 403);
    struct client c = client_at(&e, "203.0.113.7:3", "carol");
    CHECK_EQ(client_allocate_with(&c, &attrs), 0);
    CHECK(addr_eq(&c.relayed, &held));
    CHECK(reaches(&a, next));
    CHECK_EQ(client_bind(&a, 0x4000, next), 0);
    engine_stop(&e);
}

/* An operator's allowance opens all ports of it. */
static void test_own_address_allowed(void)
{
    engine_init(&e);
    struct addr_prefix p;
    CHECK_EQ(addr_prefix_parse("192.0.2.0/24", 12, &p), CT_OK);
    CHECK_EQ(turn_policy_add(&e.config.policy, &p, TURN_RULE_ALLOW), CT_OK);
    engine_start(&e);
    struct client a = allocated(1);
    CHECK_EQ(client_permit(&a, "192.0.2.1:53"), 0);
    CHECK(reaches(&a, "192.0.2.1:53"));
    engine_stop(&e);
}

/* TURN-SEC-03: no IP of ours is a peer, listened at or behind a NAT64, unless it is allowed. */
static void test_own_listeners(void)
{
    static const char *const own[] = {"8.8.4.4", "2606:4700::7", "8.8.4.5"};
    for (int allowed = 0; allowed < 2; allowed++) {
        engine_init(&e);
        for (size_t i = 0; i < 3; i++)
            e.config.own[e.config.own_count++] = addr_of(own[i]);
        e.config.relays[0].bind = e.config.relays[0].external = addr_of("8.8.4.5");
        struct addr_prefix p;
        CHECK_EQ(addr_prefix_parse("8.8.4.0/24", 10, &p), CT_OK);
        if (allowed)
            CHECK_EQ(turn_policy_add(&e.config.policy, &p, TURN_RULE_ALLOW), CT_OK);
        engine_start(&e);
        struct client c = client_at(&e, "203.0.113.7:1", "alice");
        struct attrs a;
        attrs_init(&a);
        attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
        CHECK_EQ(client_allocate_with(&c, &a), 0);
        int want = allowed ? 0 : 403;
        CHECK_EQ(client_permit(&c, "8.8.4.4:3478"), want);
        CHECK_EQ(client_bind(&c, 0x4000, "8.8.4.4:3478"), want);
        CHECK_EQ(client_bind(&c, 0x4001, "8.8.4.5:3478"), want);
        CHECK_EQ(client_permit(&c, "[64:ff9b::8.8.4.5]:3478"), want);
        CHECK_EQ(client_permit(&c, "[2606:4700::7]:3478"), 403);
        CHECK_EQ(client_permit(&c, "8.8.4.6:3478"), 0);
        CHECK_EQ(client_permit(&c, "[2606:4700::8]:3478"), 0);
        engine_stop(&e);
    }
}

/* TURN-SEC-04: each permission is told once in its life, where that is wanted. */
static void test_events(void)
{
    for (int wanted = 0; wanted < 2; wanted++) {
        engine_init(&e);
        e.config.permission_events = wanted;
        engine_start(&e);
        struct client c = allocated(1);
        unsigned one = wanted ? 1 : 0;
        CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
        CHECK_EQ(client_permit(&c, "198.51.100.1:2"), 0);
        CHECK_EQ(client_permit(&c, "10.0.0.1:1"), 403);
        CHECK_EQ(e.permitted, one);
        CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.2:7"), 0);
        CHECK_EQ(e.permitted, 2 * one);
        struct addr peer = addr_of("198.51.100.2");
        CHECK(!wanted || addr_eq(&e.last_peer, &peer));
        engine_pass(&e, 300 * 1000);
        CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
        CHECK_EQ(e.permitted, 3 * one);
        engine_stop(&e);
    }
}

/* A stricter policy ends what it refuses while running. */
static void test_policy_change(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    CHECK_EQ(client_permit(&c, "203.0.113.1:1"), 0);
    struct turn_config stricter = e.config;
    struct addr_prefix p;
    CHECK_EQ(addr_prefix_parse("198.51.100.0/24", 15, &p), CT_OK);
    CHECK_EQ(turn_policy_add(&stricter.policy, &p, TURN_RULE_DENY), CT_OK);
    turn_server_configure(e.server, &stricter);
    engine_clear(&e);
    client_channel_data(&c, 0x4000, "x");
    CHECK_EQ(e.to_peers, 0);
    CHECK(!reaches(&c, "198.51.100.1:1"));
    CHECK(reaches(&c, "203.0.113.1:1"));
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 403);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_create),        CHECK_TEST(test_all_or_nothing),
        CHECK_TEST(test_lifetime),      CHECK_TEST(test_belongs_to_one),
        CHECK_TEST(test_limit),         CHECK_TEST(test_denied),
        CHECK_TEST(test_own_address),   CHECK_TEST(test_own_address_allowed),
        CHECK_TEST(test_reserved_port), CHECK_TEST(test_policy_change),
        CHECK_TEST(test_own_listeners), CHECK_TEST(test_events),
    };
    return CHECK_RUN(tests);
}
