/* Send, Data and ChannelData: conformance.md TURN-SEND, TURN-DATA, TURN-CD. */
#include "engine.h"

#include <stdlib.h>

static struct engine e;

static struct client begin(void)
{
    engine_init(&e);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    engine_clear(&e);
    return c;
}

static size_t send_raw(struct client *c, const char *bytes, size_t len)
{
    size_t before = e.to_peers;
    client_send(c, bytes, len);
    return e.to_peers - before;
}

/* A Send indication with these attributes. */
static size_t send_attrs(struct client *c, const struct attrs *a)
{
    uint8_t bytes[ENGINE_BYTES_MAX];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, stun_type(STUN_SEND, STUN_INDICATION), c->tid);
    wbuf_bytes(&w, a->bytes + STUN_HEADER_SIZE, a->w.pos - STUN_HEADER_SIZE);
    wbuf_patch_u16(&w, 2, (uint16_t)(w.pos - STUN_HEADER_SIZE));
    return send_raw(c, (const char *)bytes, w.pos);
}

/* TURN-SEND-01, 03, 04, 08, 09. */
static void test_send(void)
{
    struct client c = begin();
    client_indication(&c, "198.51.100.1:77", "hello");
    CHECK(peer_got(&c, "198.51.100.1:77", "hello"));
    CHECK(addr_ip_eq(&e.to_peer[0].from, &c.relayed) && e.to_peer[0].from.port == c.relayed.port);
    client_indication(&c, "198.51.100.1:77", "");
    CHECK(peer_got(&c, "198.51.100.1:77", ""));
    CHECK_EQ(e.to_peers, 2);
    client_indication(&c, "198.51.100.2:77", "hello");
    CHECK_EQ(e.to_peers, 2);
    CHECK_EQ(e.to_clients, 0);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:77"), 0);
    client_indication(&c, "198.51.100.1:77", "despite the channel");
    CHECK(peer_got(&c, "198.51.100.1:77", "despite the channel"));
    CHECK_EQ(engine_counter(&e, TURN_N_UP_PACKETS), 3);
    CHECK_EQ(engine_counter(&e, TURN_N_UP_BYTES), 5 + 19);
    engine_stop(&e);
}

/* TURN-SEND-02, 07, 10, STUN-ATTR-07. */
static void test_bad_sends(void)
{
    struct client c = begin();
    struct attrs a;
    attrs_init(&a);
    attrs_peer(&a, &c, "198.51.100.1:77");
    CHECK_EQ(send_attrs(&c, &a), 0);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
    CHECK_EQ(send_attrs(&c, &a), 0);
    attrs_bytes(&a, STUN_ATTR_XOR_PEER_ADDRESS, "\0\1\0\0", 4);
    CHECK_EQ(send_attrs(&c, &a), 0);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
    attrs_peer(&a, &c, "198.51.100.1:0");
    CHECK_EQ(send_attrs(&c, &a), 0);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
    attrs_peer(&a, &c, "[2001:db8:1::1]:77");
    CHECK_EQ(send_attrs(&c, &a), 0);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
    attrs_peer(&a, &c, "198.51.100.1:77");
    CHECK_EQ(send_attrs(&c, &a), 1);
    attrs_bytes(&a, 0x7F00, "", 0);
    CHECK_EQ(send_attrs(&c, &a), 0);
    CHECK_EQ(e.to_clients, 0);
    engine_stop(&e);
}

/* TURN-SEND-06, TURN-IP-10: only between IPv4 and IPv4. */
static void test_dont_fragment(void)
{
    struct client c = begin();
    struct attrs a;
    attrs_init(&a);
    attrs_peer(&a, &c, "198.51.100.1:77");
    attrs_bytes(&a, STUN_ATTR_DONT_FRAGMENT, "", 0);
    attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
    CHECK_EQ(send_attrs(&c, &a), 1);
    CHECK_EQ(e.to_peer[0].flags, TURN_DONT_FRAGMENT);
    struct client v6 = client_at(&e, "[2001:db8:1::7]:9", "bob");
    CHECK_EQ(client_allocate(&v6), 0);
    CHECK_EQ(client_permit(&v6, "198.51.100.1:1"), 0);
    engine_clear(&e);
    attrs_init(&a);
    attrs_peer(&a, &v6, "198.51.100.1:77");
    attrs_bytes(&a, STUN_ATTR_DONT_FRAGMENT, "", 0);
    attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
    CHECK_EQ(send_attrs(&v6, &a), 1);
    CHECK_EQ(e.to_peer[0].flags, 0);
    engine_stop(&e);
}

/* TURN-DATA-01, 04, 05, 06: every length of padding, IPv4 and IPv6, fresh transaction ids. */
static void test_data_indications(void)
{
    struct client c = begin();
    static const char *const payloads[] = {"", "a", "ab", "abc", "abcd", "abcde"};
    uint8_t last[STUN_TID_SIZE] = {0};
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        engine_clear(&e);
        peer_send(&c, "198.51.100.1:9", payloads[i]);
        CHECK(got_indication(&c, "198.51.100.1:9", payloads[i]));
        CHECK_EQ(e.to_client[0].len, 36 + stun_padded(strlen(payloads[i])));
        CHECK(memcmp(last, e.to_client[0].bytes + 8, sizeof last) != 0);
        memcpy(last, e.to_client[0].bytes + 8, sizeof last);
    }
    struct client d = client_at(&e, "203.0.113.7:2", "bob");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&d, &a), 0);
    CHECK_EQ(client_permit(&d, "[2001:db8:1::1]:1"), 0);
    engine_clear(&e);
    peer_send(&d, "[2001:db8:1::1]:9", "six");
    CHECK(got_indication(&d, "[2001:db8:1::1]:9", "six"));
    CHECK_EQ(e.to_client[0].len, 48 + 4);
    CHECK_EQ(engine_counter(&e, TURN_N_DOWN_PACKETS), 7);
    CHECK_EQ(engine_counter(&e, TURN_N_DOWN_BYTES), 15 + 3);
    engine_stop(&e);
}

/* TURN-CD-01..05, 07, 10, 11; vectors F19, F20, F21. */
static void test_channel_data(void)
{
    struct client c = begin();
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:9"), 0);
    engine_clear(&e);
    CHECK_EQ(send_raw(&c, "\x40\0\0\3abc", 7), 1);
    CHECK(peer_got(&c, "198.51.100.1:9", "abc"));
    CHECK_EQ(send_raw(&c, "\x40\0\0\3abc\0", 8), 1);
    CHECK(peer_got(&c, "198.51.100.1:9", "abc"));
    CHECK_EQ(send_raw(&c, "\x40\0\0\3abc12345", 12), 1);
    CHECK(peer_got(&c, "198.51.100.1:9", "abc"));
    CHECK_EQ(send_raw(&c, "\x40\0\0\0", 4), 1);
    CHECK(peer_got(&c, "198.51.100.1:9", ""));
    CHECK_EQ(send_raw(&c, "\x40\1\0\3abc", 7), 0);
    CHECK_EQ(send_raw(&c, "\x50\0\0\3abc", 7), 0);
    CHECK_EQ(send_raw(&c, "\x40\0\0\4abc", 7), 0);
    CHECK_EQ(send_raw(&c, "\x40\0\0\x10short", 9), 0);
    CHECK_EQ(send_raw(&c, "\x40\0", 2), 0);
    CHECK_EQ(send_raw(&c, "\x40", 1), 0);
    CHECK_EQ(send_raw(&c, "", 0), 0);
    struct client other = c;
    other.tuple.client.port = 999;
    CHECK_EQ(send_raw(&other, "\x40\0\0\3abc", 7), 0);
    CHECK_EQ(e.to_clients, 0);
    peer_send(&c, "198.51.100.1:9", "abc");
    CHECK(got_channel_data(&c, 0x4000, "abc"));
    CHECK_EQ(e.to_client[0].len, 7);
    engine_stop(&e);
}

/* TURN-DATA-07: what the lengths of an indication can hold, and not a byte more. */
static void test_large_datagrams(void)
{
    struct client c = begin();
    static char big[ENGINE_BYTES_MAX - 64];
    memset(big, 'x', sizeof big - 1);
    peer_send(&c, "198.51.100.1:9", big);
    CHECK(got_indication(&c, "198.51.100.1:9", big));
    static uint8_t huge[65535];
    struct turn_packet packet = {.data = huge, .len = sizeof huge};
    struct addr peer = addr_of("198.51.100.1:9");
    engine_clear(&e);
    turn_server_from_peer(e.server, 0, &peer, &packet, e.now);
    CHECK_EQ(e.to_clients, 0);
    engine_stop(&e);
}

/* Behind a 1:1 NAT two clients meet on the external address without leaving the machine. */
static void test_external_address(void)
{
    engine_init(&e);
    e.config.relays[0].bind = addr_of("10.0.0.5");
    e.config.relays[0].external = addr_of("192.0.2.77");
    engine_start(&e);
    struct client a = client_at(&e, "203.0.113.7:1", "alice");
    struct client b = client_at(&e, "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_allocate(&b), 0);
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX], inner[ADDR_TEXT_MAX];
    addr_format(&a.relayed, at_a);
    addr_format(&b.relayed, at_b);
    CHECK_EQ(client_bind(&a, 0x4000, at_b), 0);
    CHECK_EQ(client_permit(&b, at_a), 0);
    engine_clear(&e);
    client_channel_data(&a, 0x4000, "hi");
    struct addr to = addr_of("10.0.0.5");
    CHECK_EQ(e.to_peers, 1);
    CHECK(addr_ip_eq(&e.to_peer[0].to, &to) && e.to_peer[0].to.port == b.relayed.port);
    snprintf(inner, sizeof inner, "10.0.0.5:%d", a.relayed.port);
    peer_send(&b, inner, "hi");
    CHECK(got_indication(&b, at_a, "hi"));
    engine_stop(&e);
}

/* ---- ICMP ---- */

static void icmp(const char *peer, uint8_t type, uint8_t code)
{
    struct turn_icmp error = {.type = type, .code = code, .mtu = 1280};
    struct addr to = addr_of(peer);
    turn_server_icmp(e.server, e.relays[0].alloc, &to, &error, e.now);
}

/* Whether the last thing to the client is a Data indication with exactly this. */
static bool told(const char *peer, const uint8_t want[8])
{
    struct stun_msg m;
    struct addr at, named = addr_of(peer);
    const struct sent *s = &e.to_client[(e.to_clients - 1) % ENGINE_OUT_MAX];
    return e.to_clients && stun_msg_decode(&m, s->bytes, s->len, NULL) == CT_OK &&
           m.type == stun_type(STUN_DATA, STUN_INDICATION) && !stun_msg_has(&m, STUN_ID_DATA) &&
           stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &at) == CT_OK && addr_eq(&at, &named) &&
           span_eq(stun_msg_bytes(&m, STUN_ID_ICMP), span_of(want, 8));
}

/* TURN-ICMP-01, 06, 07, 08: which errors are told, and how they read. */
static void test_icmp(void)
{
    static const struct {
        const char *peer;
        uint8_t type, code;
        uint8_t want[8]; /* all zero: not told */
    } cases[] = {
        {"198.51.100.1:77", 3, 3, {0, 0, 3, 3, 0, 0, 0, 0}},
        {"198.51.100.1:77", 3, 4, {0, 0, 3, 4, 0, 0, 5, 0}},
        {"198.51.100.1:0", 11, 0, {0, 0, 11, 0, 0, 0, 0, 0}},
        {"198.51.100.1:77", 0, 0, {0}},
        {"198.51.100.1:77", 5, 1, {0}},
        {"198.51.100.1:77", 12, 0, {0}},
        {"[2001:db8:1::1]:77", 1, 4, {0, 0, 1, 4, 0, 0, 0, 0}},
        {"[2001:db8:1::1]:77", 2, 0, {0, 0, 2, 0, 0, 0, 5, 0}},
        {"[2001:db8:1::1]:77", 3, 0, {0, 0, 3, 0, 0, 0, 0, 0}},
        {"[2001:db8:1::1]:77", 4, 1, {0}},
        {"[2001:db8:1::1]:77", 128, 0, {0}},
    };
    engine_init(&e);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&c, &a), 0);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:77"), 0);
    CHECK_EQ(client_permit(&c, "[2001:db8:1::1]:1"), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        engine_clear(&e);
        icmp(cases[i].peer, cases[i].type, cases[i].code);
        CHECK_EQ(e.to_clients, cases[i].want[2] != 0);
        if (e.to_clients)
            CHECK(told(cases[i].peer, cases[i].want));
    }
    engine_stop(&e);
}

/* TURN-ICMP-04, 05, 09: the permission for the peer decides, and nothing ends by it. */
static void test_icmp_permission(void)
{
    struct client c = begin();
    icmp("198.51.100.2:9", 3, 1);
    CHECK_EQ(e.to_clients, 0);
    icmp("198.51.100.1:9", 3, 1);
    CHECK_EQ(e.to_clients, 1);
    CHECK_EQ(engine_counter(&e, TURN_N_ICMP), 1);
    peer_send(&c, "198.51.100.1:9", "still");
    CHECK(got_indication(&c, "198.51.100.1:9", "still"));
    engine_pass(&e, 300 * 1000);
    engine_clear(&e);
    icmp("198.51.100.1:9", 3, 1);
    CHECK_EQ(e.to_clients, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 2);
    engine_stop(&e);
}

/* TURN-ICMP-10: so and so many a second, and then again. */
static void test_icmp_rate(void)
{
    begin();
    for (int second = 0; second < 3; second++) {
        engine_clear(&e);
        for (int i = 0; i < 100; i++)
            icmp("198.51.100.1:9", 3, 3);
        CHECK_EQ(e.to_clients, 16);
        engine_pass(&e, 1000);
    }
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_RATE), 3 * 84);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_send),
        CHECK_TEST(test_bad_sends),
        CHECK_TEST(test_dont_fragment),
        CHECK_TEST(test_data_indications),
        CHECK_TEST(test_channel_data),
        CHECK_TEST(test_large_datagrams),
        CHECK_TEST(test_external_address),
        CHECK_TEST(test_icmp),
        CHECK_TEST(test_icmp_permission),
        CHECK_TEST(test_icmp_rate),
    };
    return CHECK_RUN(tests);
}
