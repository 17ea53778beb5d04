/* Send, Data and ChannelData: conformance.md TURN-SEND, TURN-DATA, TURN-CD. */
#include "engine.h"

#include <stdio.h>
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

/* TURN-IP-06, 07: over a stream it counts in each family, and nothing else asks for it. */
static void test_dont_fragment_over_streams(void)
{
    static const enum turn_transport transports[] = {TURN_TCP, TURN_TLS, TURN_DTLS};
    static const char *const peers[] = {"198.51.100.1:77", "[2001:db8:1::1]:77"};
    engine_init(&e);
    engine_start(&e);
    for (size_t i = 0; i < 3; i++) {
        struct client c = client_at(&e, "[2001:db8:1::7]:9", "bob");
        struct attrs a;
        c.tuple.transport = (uint8_t)transports[i];
        attrs_init(&a);
        attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
        CHECK_EQ(client_allocate_with(&c, &a), 0);
        for (size_t p = 0; p < 2; p++) {
            CHECK_EQ(client_bind(&c, (uint16_t)(0x4000 + p), peers[p]), 0);
            engine_clear(&e);
            attrs_init(&a);
            attrs_peer(&a, &c, peers[p]);
            attrs_bytes(&a, STUN_ATTR_DONT_FRAGMENT, "", 0);
            attrs_bytes(&a, STUN_ATTR_DATA, "x", 1);
            CHECK_EQ(send_attrs(&c, &a), 1);
            CHECK_EQ(e.to_peer[0].flags, transports[i] == TURN_DTLS ? 0 : TURN_DONT_FRAGMENT);
            client_indication(&c, peers[p], "x");
            client_channel_data(&c, (uint16_t)(0x4000 + p), "x");
            CHECK_EQ(e.to_peers, 3);
            CHECK(!e.to_peer[1].flags && !e.to_peer[2].flags);
        }
    }
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

/* The longest datagram from this peer to allocation number `alloc` that goes on to its client. */
static size_t longest_from(uint32_t alloc, const char *peer)
{
    static uint8_t bytes[65535];
    struct addr from = addr_of(peer);
    size_t longest = 0;
    for (size_t len = 65450; len <= 65535; len++) {
        struct turn_packet packet = {.data = bytes, .len = len};
        engine_clear(&e);
        turn_server_from_peer(e.server, alloc, &from, &packet, e.now);
        if (e.to_clients && e.to_client[0].whole >= len)
            longest = len;
    }
    return longest;
}

/* TURN-DATA-07: what the lengths of an indication can hold, and not a byte more. */
static void test_large_datagrams(void)
{
    struct client c = begin();
    static char big[ENGINE_BYTES_MAX - 64];
    memset(big, 'x', sizeof big - 1);
    peer_send(&c, "198.51.100.1:9", big);
    CHECK(got_indication(&c, "198.51.100.1:9", big));
    /* a Data indication's length is a multiple of 4 in 16 bits */
    CHECK_EQ(longest_from(0, "198.51.100.1:9"), 65516);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:9"), 0);
    CHECK_EQ(longest_from(0, "198.51.100.1:9"), 65535);
    struct client d = client_at(&e, "203.0.113.7:2", "bob");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&d, &a), 0);
    CHECK_EQ(client_permit(&d, "[2001:db8:1::1]:1"), 0);
    CHECK_EQ(longest_from(1, "[2001:db8:1::1]:9"), 65504);
    engine_stop(&e);
}

/* ---- two clients of this relay: over relay sockets, and in memory ---- */

static bool in_memory;

/* Whether the last data came to where it was meant to; over sockets it has to be taken there. */
static bool carried(void)
{
    return in_memory ? e.to_peers == 0 : e.to_peers == 1 && engine_carry(&e);
}

/* A client with an allocation, and its relayed address as text. */
static struct client with(uint16_t port, uint8_t family, char at[ADDR_TEXT_MAX])
{
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    struct attrs a;
    c.tuple.client.port = port;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, (uint32_t)family << 24);
    CHECK_EQ(client_allocate_with(&c, &a), 0);
    addr_format(&c.relayed, at);
    return c;
}

static void begin_pair(void)
{
    engine_init(&e);
    e.config.pair = in_memory;
    engine_start(&e);
}

/* Every framing there and back, with every length of padding. */
static void pair_frames(uint8_t family)
{
    static const char *const payloads[] = {"", "a", "ab", "abc", "abcd", "abcde"};
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX];
    begin_pair();
    struct client a = with(1, family, at_a), b = with(2, family, at_b);
    CHECK_EQ(client_bind(&a, 0x4001, at_b), 0);
    CHECK_EQ(client_permit(&b, at_a), 0);
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        engine_clear(&e);
        client_channel_data(&a, 0x4001, payloads[i]);
        CHECK(carried() && got_indication(&b, at_a, payloads[i]));
        engine_clear(&e);
        client_indication(&b, at_a, payloads[i]);
        CHECK(carried() && got_channel_data(&a, 0x4001, payloads[i]));
        CHECK_EQ(e.to_clients, 1);
    }
    CHECK_EQ(engine_counter(&e, TURN_N_UP_PACKETS), 12);
    CHECK_EQ(engine_counter(&e, TURN_N_DOWN_PACKETS), 12);
    CHECK_EQ(engine_counter(&e, TURN_N_UP_BYTES), 30);
    CHECK_EQ(engine_counter(&e, TURN_N_DOWN_BYTES), 30);
    CHECK_EQ(engine_counter(&e, TURN_N_PAIRED), in_memory ? 12 : 0);
    CHECK_EQ(client_refresh(&a, 0), 0);
    CHECK_EQ(e.ended_up_bytes, 15);
    CHECK_EQ(e.ended_down_bytes, 15);
    engine_stop(&e);
}

/* Who gets it must permit who sent it, as long as the permission lasts. */
static void pair_permission(void)
{
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX];
    begin_pair();
    struct client a = with(1, ADDR_V4, at_a), b = with(2, ADDR_V4, at_b);
    CHECK_EQ(client_permit(&a, at_b), 0);
    engine_clear(&e);
    client_indication(&a, at_b, "hi");
    carried();
    CHECK_EQ(e.to_clients, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_UP_PACKETS), 1);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 1);
    CHECK_EQ(client_permit(&b, at_a), 0);
    engine_pass(&e, 299 * 1000);
    CHECK_EQ(client_permit(&a, at_b), 0);
    engine_clear(&e);
    client_indication(&a, at_b, "hi");
    CHECK(carried() && got_indication(&b, at_a, "hi"));
    engine_pass(&e, 1000);
    engine_clear(&e);
    client_indication(&a, at_b, "hi");
    carried();
    CHECK_EQ(e.to_clients, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 2);
    engine_stop(&e);
}

/* To itself, to a port where nobody is, and to who has left or was never there. */
static void pair_ends(void)
{
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX];
    begin_pair();
    struct client a = with(1, ADDR_V4, at_a), b = with(2, ADDR_V4, at_b);
    CHECK_EQ(client_permit(&a, at_a), 0);
    CHECK_EQ(client_bind(&a, 0x4000, at_b), 0);
    engine_clear(&e);
    client_indication(&a, at_a, "echo");
    CHECK(carried() && got_indication(&a, at_a, "echo"));
    CHECK_EQ(e.to_clients, 1);
    CHECK_EQ(client_refresh(&b, 0), 0);
    engine_clear(&e);
    client_channel_data(&a, 0x4000, "hi");
    client_indication(&a, at_b, "hi");
    client_indication(&a, "192.0.2.1:1", "hi");
    CHECK_EQ(e.to_clients + e.to_peers, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_UP_PACKETS), 1);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 3);
    engine_stop(&e);
}

/* Behind a 1:1 NAT two clients meet on the external address without leaving the machine. */
static void pair_external(void)
{
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX], inner[ADDR_TEXT_MAX];
    engine_init(&e);
    e.config.pair = in_memory;
    e.config.relays[0].bind = addr_of("10.0.0.5");
    e.config.relays[0].external = addr_of("192.0.2.77");
    engine_start(&e);
    struct client a = with(1, ADDR_V4, at_a), b = with(2, ADDR_V4, at_b);
    CHECK_EQ(client_bind(&a, 0x4000, at_b), 0);
    CHECK_EQ(client_permit(&b, at_a), 0);
    engine_clear(&e);
    client_channel_data(&a, 0x4000, "hi");
    if (!in_memory) {
        struct addr to = addr_of("10.0.0.5");
        CHECK(addr_ip_eq(&e.to_peer[0].to, &to) && e.to_peer[0].to.port == b.relayed.port);
    }
    CHECK(carried() && got_indication(&b, at_a, "hi"));
    /* by the address that only this machine knows it is the same one */
    snprintf(inner, sizeof inner, "10.0.0.5:%d", b.relayed.port);
    CHECK_EQ(client_permit(&a, inner), 0);
    engine_clear(&e);
    client_indication(&a, inner, "hi");
    CHECK(carried() && got_indication(&b, at_a, "hi"));
    engine_stop(&e);
}

/* The second address of a dual allocation, and an operator who allows all of our own IP. */
static void pair_second(void)
{
    char at_b[ADDR_TEXT_MAX];
    struct attrs attrs;
    struct addr_prefix p;
    engine_init(&e);
    e.config.pair = in_memory;
    CHECK_EQ(addr_prefix_parse("2001:db8::1/128", 15, &p), CT_OK);
    CHECK_EQ(turn_policy_add(&e.config.policy, &p, TURN_RULE_ALLOW), CT_OK);
    engine_start(&e);
    struct client a = client_at(&e, "203.0.113.7:1", "alice"), b = with(2, ADDR_V6, at_b);
    attrs_init(&attrs);
    attrs_u32(&attrs, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&a, &attrs), 0);
    CHECK_EQ(client_permit(&a, at_b), 0);
    CHECK_EQ(client_permit(&b, "[2001:db8::1]:1"), 0);
    engine_clear(&e);
    client_indication(&a, at_b, "six");
    CHECK(carried());
    CHECK_EQ(e.to_clients, 1);
    engine_clear(&e);
    client_indication(&a, "[2001:db8::1]:53", "out");
    CHECK_EQ(e.to_peers, 1);
    engine_stop(&e);
}

static void test_pairs(void)
{
    for (int i = 0; i < 2; i++) {
        in_memory = i;
        pair_frames(ADDR_V4);
        pair_frames(ADDR_V6);
        pair_permission();
        pair_ends();
        pair_external();
        pair_second();
    }
}

/* ---- two workers ---- */

static struct engine workers[2];

static void start_workers(void)
{
    for (uint16_t i = 0; i < 2; i++) {
        engine_init(&workers[i]);
        workers[i].worker = i;
        workers[i].others = workers;
        workers[i].host = i ? &workers[0] : NULL;
        engine_start(&workers[i]);
    }
}

static void test_pairs_of_workers(void)
{
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX];
    start_workers();
    struct client a = client_at(&workers[0], "203.0.113.7:1", "alice");
    struct client b = client_at(&workers[1], "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_allocate(&b), 0);
    addr_format(&a.relayed, at_a);
    addr_format(&b.relayed, at_b);
    CHECK_EQ(client_bind(&a, 0x4000, at_b), 0);
    client_channel_data(&a, 0x4000, "stranger");
    CHECK_EQ(engine_counter(&workers[1], TURN_N_DROP_NO_PERMISSION), 1);
    CHECK_EQ(client_bind(&b, 0x4001, at_a), 0);
    client_channel_data(&a, 0x4000, "over");
    CHECK(got_channel_data(&b, 0x4001, "over"));
    client_indication(&b, at_a, "back");
    CHECK(got_channel_data(&a, 0x4000, "back"));
    CHECK_EQ(workers[0].paired_over, 2);
    CHECK_EQ(engine_counter(&workers[0], TURN_N_UP_PACKETS), 2);
    CHECK_EQ(engine_counter(&workers[0], TURN_N_DOWN_PACKETS), 1);
    CHECK_EQ(engine_counter(&workers[1], TURN_N_DOWN_PACKETS), 1);
    CHECK_EQ(workers[0].to_peers + workers[1].to_peers, 0);
    engine_stop(&workers[1]);
    engine_stop(&workers[0]);
}

/* What comes late, when the port is somebody else's or nobody's, reaches nobody else. */
static void test_late_pairs(void)
{
    start_workers();
    struct client b = client_at(&workers[1], "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&b), 0);
    CHECK_EQ(client_permit(&b, "192.0.2.1:1"), 0);
    struct turn_pair pair = {
        .from = addr_of("192.0.2.1:55555"), .port = b.relayed.port, .data = span_str("late")};
    engine_clear(&workers[1]);
    turn_server_paired(workers[1].server, &pair, workers[1].now);
    CHECK(got_indication(&b, "192.0.2.1:55555", "late"));
    struct turn_pair wrong[] = {pair, pair, pair, pair};
    wrong[0].alloc = 1;
    wrong[1].port ^= 1;
    wrong[2].relay = 1;
    wrong[3].alloc = UINT32_MAX;
    engine_clear(&workers[1]);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        turn_server_paired(workers[1].server, &wrong[i], workers[1].now);
    turn_server_paired(workers[0].server, &pair, workers[0].now);
    CHECK_EQ(client_refresh(&b, 0), 0);
    engine_clear(&workers[1]);
    turn_server_paired(workers[1].server, &pair, workers[1].now);
    CHECK_EQ(workers[1].to_clients, 0);
    CHECK_EQ(engine_counter(&workers[1], TURN_N_DROP_NO_ALLOCATION), 5);
    CHECK_EQ(engine_counter(&workers[0], TURN_N_DROP_NO_ALLOCATION), 1);
    engine_stop(&workers[1]);
    engine_stop(&workers[0]);
}

/* ---- switch mode ---- */

/* No socket is opened, pairs meet, and nobody else can be a peer, whatever the policy says. */
static void test_switch(void)
{
    char at_a[ADDR_TEXT_MAX], at_b[ADDR_TEXT_MAX];
    struct attrs attrs;
    engine_init(&e);
    e.config.switched = true;
    e.no_sockets = true;
    engine_start(&e);
    struct client a = with(1, ADDR_V4, at_a), b = with(2, ADDR_V4, at_b);
    CHECK_EQ(client_permit(&a, "198.51.100.1:9"), 403);
    CHECK_EQ(client_bind(&a, 0x4000, "198.51.100.1:9"), 403);
    CHECK_EQ(client_bind(&a, 0x4000, "192.0.2.1:9"), 403);
    CHECK_EQ(e.forbidden, 3);
    attrs_init(&attrs);
    client_new_tid(&a);
    attrs_peer(&attrs, &a, at_b);
    attrs_peer(&attrs, &a, "198.51.100.1:9");
    CHECK_EQ(client_request(&a, STUN_CREATE_PERMISSION, &attrs), 403);
    CHECK_EQ(client_bind(&a, 0x4000, at_b), 0);
    CHECK_EQ(client_permit(&b, at_a), 0);
    engine_clear(&e);
    client_channel_data(&a, 0x4000, "hi");
    CHECK(got_indication(&b, at_a, "hi"));
    client_indication(&b, "192.0.2.1:9", "nobody");
    client_indication(&b, "198.51.100.1:9", "outside");
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 2);
    CHECK_EQ(e.to_peers + engine_open_relays(&e), 0);
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
        CHECK_TEST(test_dont_fragment_over_streams),
        CHECK_TEST(test_data_indications),
        CHECK_TEST(test_channel_data),
        CHECK_TEST(test_large_datagrams),
        CHECK_TEST(test_pairs),
        CHECK_TEST(test_pairs_of_workers),
        CHECK_TEST(test_late_pairs),
        CHECK_TEST(test_switch),
        CHECK_TEST(test_icmp),
        CHECK_TEST(test_icmp_permission),
        CHECK_TEST(test_icmp_rate),
    };
    return CHECK_RUN(tests);
}
