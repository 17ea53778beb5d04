/* Allocate and Refresh: conformance.md TURN-ALLOC, TURN-REFR, TURN-GEN. */
#include "engine.h"

static struct engine e;

static void begin(void)
{
    engine_init(&e);
    engine_start(&e);
}

static struct client fresh(const char *user)
{
    static uint16_t port;
    struct client c = client_at(&e, "203.0.113.7:1024", user);
    c.tuple.client.port = (uint16_t)(2000 + port++ % 60000);
    return c;
}

static uint32_t lifetime_of(const struct client *c)
{
    uint32_t v = UINT32_MAX;
    CHECK_EQ(stun_msg_u32(&c->msg, STUN_ID_LIFETIME, &v), CT_OK);
    return v;
}

static int allocate_u32(struct client *c, uint16_t type, uint32_t v)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, type, v);
    return client_allocate_with(c, &a);
}

static int allocate_bytes(struct client *c, uint16_t type, const char *v, size_t len)
{
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, type, v, len);
    return client_allocate_with(c, &a);
}

/* TURN-ALLOC-37, 38, 39: what success carries. */
static void test_success(void)
{
    begin();
    struct client c = fresh("alice");
    struct addr mapped;
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(c.relayed.family, ADDR_V4);
    CHECK(addr_ip_eq(&c.relayed, &e.config.relays[0].external));
    CHECK(c.relayed.port >= 49152); /* TURN-ALLOC-40 */
    CHECK_EQ(lifetime_of(&c), 600); /* TURN-ALLOC-32 */
    CHECK_EQ(stun_msg_addr(&c.msg, STUN_ID_XOR_MAPPED_ADDRESS, &mapped), CT_OK);
    CHECK(addr_eq(&mapped, &c.tuple.client));
    CHECK(stun_msg_has(&c.msg, STUN_ID_SOFTWARE) && stun_msg_has(&c.msg, STUN_ID_FINGERPRINT));
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_RESERVATION_TOKEN));
    peer_send(&c, "198.51.100.9:7", "early");
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 1);
    CHECK_EQ(e.created, 1);
    engine_stop(&e);
}

/* TURN-ALLOC-03, 02: a retransmission gets the same answer, another transaction 437. */
static void test_retransmission(void)
{
    begin();
    struct client c = fresh("alice");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_bytes(&a, STUN_ATTR_EVEN_PORT, "\x80", 1);
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_ALLOCATE, &a), 0);
    uint8_t first[ENGINE_BYTES_MAX];
    size_t len = c.reply_len;
    memcpy(first, c.reply, len);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, &a), 0);
        CHECK(c.reply_len == len && memcmp(c.reply, first, len) == 0);
    }
    CHECK_EQ(engine_open_relays(&e), 1);
    engine_pass(&e, 10 * 1000);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, &a), 0);
    CHECK_EQ(lifetime_of(&c), 590);
    client_new_tid(&c);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, &a), 437);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK_EQ(engine_open_relays(&e), 1);
    engine_stop(&e);
}

/* STUN-MSG-12: the same transaction id from two clients. */
static void test_tid_is_not_the_key(void)
{
    begin();
    struct client a = fresh("alice"), b = fresh("bob");
    CHECK_EQ(client_allocate(&a), 0);
    struct attrs t;
    attrs_init(&t);
    attrs_u32(&t, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    memcpy(b.tid, a.tid, sizeof b.tid);
    CHECK_EQ(client_request(&b, STUN_ALLOCATE, &t), 0);
    CHECK_EQ(turn_server_allocations(e.server), 2);
    engine_stop(&e);
}

/* TURN-ALLOC-04..07. */
static void test_requested_transport(void)
{
    begin();
    struct client c = fresh("alice");
    struct attrs a;
    static const struct {
        const char *value;
        size_t len;
        int code;
    } cases[] = {
        {"", 0, 400},
        {"\x11", 1, 400},
        {"\x11\0\0", 3, 400},
        {"\x11\0\0\0\0", 5, 400},
        {"\x01\0\0\0", 4, 442},
        {"\x84\0\0\0", 4, 442},
        {"\xff\0\0\0", 4, 442},
        {"\x06\0\0\0", 4, 400}, /* TCP over UDP, RFC 6062 §5.1 */
        {"\x11\xff\xff\xff", 4, 0},
    };
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_ALLOCATE, NULL), 400);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attrs_init(&a);
        attrs_bytes(&a, STUN_ATTR_REQUESTED_TRANSPORT, cases[i].value, cases[i].len);
        client_new_tid(&c);
        CHECK_EQ(client_request(&c, STUN_ALLOCATE, &a), cases[i].code);
    }
    engine_stop(&e);
}

/* TURN-ALLOC-32..36: the lifetime that is granted. */
static void test_lifetimes(void)
{
    static const uint32_t cases[][2] = {{1, 600},     {599, 600},         {0, 600},
                                        {600, 600},   {777, 777},         {3600, 3600},
                                        {3601, 3600}, {4000000000u, 3600}};
    begin();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct client c = fresh("alice");
        CHECK_EQ(allocate_u32(&c, STUN_ATTR_LIFETIME, cases[i][0]), 0);
        CHECK_EQ(lifetime_of(&c), cases[i][1]);
    }
    struct client c = fresh("alice");
    CHECK_EQ(allocate_bytes(&c, STUN_ATTR_LIFETIME, "abc", 3), 400);
    engine_stop(&e);
}

/* TURN-GEN-11, 12: at the end of its time it is gone, whatever was relayed; not a moment earlier.
 */
static void test_expiry(void)
{
    begin();
    struct client c = fresh("alice");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.9:7"), 0);
    engine_pass(&e, 599 * 1000);
    client_channel_data(&c, 0x4000, "x");
    CHECK(peer_got(&c, "198.51.100.9:7", "x"));
    CHECK_EQ(engine_open_relays(&e), 1);
    /* without the timer: what is over is over */
    e.now.ms += 1000;
    engine_clear(&e);
    client_channel_data(&c, 0x4000, "y");
    CHECK_EQ(e.to_peers, 0);
    CHECK_EQ(client_refresh(&c, 600), 437);
    engine_pass(&e, 1000);
    CHECK_EQ(engine_open_relays(&e), 0);
    CHECK_EQ(e.ended, 1);
    CHECK_EQ(e.last_end, TURN_END_EXPIRED);
    CHECK_EQ(e.ended_up_bytes, 1);
    engine_stop(&e);
}

/* A new allocation on the 5-tuple of one that has expired but not been swept. */
static void test_expired_makes_room(void)
{
    begin();
    struct client c = fresh("alice");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_permit(&c, "198.51.100.9:7"), 0);
    e.now.ms += 600 * 1000;
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(engine_open_relays(&e), 1);
    peer_send(&c, "198.51.100.9:7", "x"); /* TURN-PERM-14 */
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_PERMISSION), 1);
    engine_stop(&e);
}

/* TURN-REFR-01..05. */
static void test_refresh(void)
{
    begin();
    struct client c = fresh("alice");
    CHECK_EQ(client_allocate(&c), 0);
    static const uint32_t cases[][2] = {{1, 600}, {900, 900}, {5000, 3600}, {700, 700}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_EQ(client_refresh(&c, cases[i][0]), 0);
        CHECK_EQ(lifetime_of(&c), cases[i][1]);
    }
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_REFRESH, NULL), 0);
    CHECK_EQ(lifetime_of(&c), 600);
    engine_pass(&e, 599 * 1000);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK_EQ(lifetime_of(&c), 0);
    CHECK_EQ(engine_open_relays(&e), 0);
    CHECK_EQ(e.last_end, TURN_END_RELEASED);
    CHECK_EQ(client_refresh(&c, 0), 437);
    CHECK_EQ(client_permit(&c, "198.51.100.9:7"), 437);
    engine_stop(&e);
}

/* TURN-REFR-03: a smaller lifetime than what is left is honoured. */
static void test_refresh_shortens(void)
{
    begin();
    struct client c = fresh("alice");
    CHECK_EQ(allocate_u32(&c, STUN_ATTR_LIFETIME, 3600), 0);
    CHECK_EQ(client_refresh(&c, 700), 0);
    engine_pass(&e, 699 * 1000);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    engine_pass(&e, 1001);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* TURN-REFR-06: another family is 443 and changes nothing. */
static void test_refresh_family(void)
{
    begin();
    struct client c = fresh("alice");
    struct attrs a;
    CHECK_EQ(client_allocate(&c), 0);
    engine_pass(&e, 500 * 1000);
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_request(&c, STUN_REFRESH, &a), 443);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\x01", 1);
    CHECK_EQ(client_request(&c, STUN_REFRESH, &a), 400);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_LIFETIME, "", 0);
    CHECK_EQ(client_request(&c, STUN_REFRESH, &a), 400);
    engine_pass(&e, 101 * 1000);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* TURN-ALLOC-21..24. */
static void test_address_families(void)
{
    begin();
    struct client c = fresh("alice");
    CHECK_EQ(allocate_u32(&c, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 0x02ffffffu), 0);
    CHECK_EQ(c.relayed.family, ADDR_V6);
    CHECK_EQ(stun_msg_bytes(&c.msg, STUN_ID_XOR_RELAYED_ADDRESS).len, 20);
    struct client v6 = client_at(&e, "[2001:db8:1::5]:4000", "bob");
    CHECK_EQ(client_allocate(&v6), 0);
    CHECK_EQ(v6.relayed.family, ADDR_V4);
    struct client d = fresh("alice");
    CHECK_EQ(allocate_u32(&d, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 3u << 24), 440);
    CHECK_EQ(allocate_u32(&d, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 0), 440);
    CHECK_EQ(allocate_bytes(&d, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\x01\0", 2), 400);
    engine_stop(&e);
    engine_init(&e);
    e.config.relay_count = 1;
    engine_start(&e);
    struct client only4 = fresh("alice");
    CHECK_EQ(allocate_u32(&only4, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24), 440);
    engine_stop(&e);
    engine_init(&e);
    e.config.relays[0] = e.config.relays[1];
    e.config.relay_count = 1;
    engine_start(&e);
    struct client only6 = fresh("alice");
    CHECK_EQ(client_allocate(&only6), 440);
    CHECK_EQ(allocate_u32(&only6, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 1u << 24), 440);
    CHECK_EQ(allocate_u32(&only6, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24), 0);
    engine_stop(&e);
}

/* TURN-ALLOC-14, 15, 19. */
static void test_even_port(void)
{
    begin();
    for (int i = 0; i < 20; i++) {
        struct client c = fresh("alice");
        CHECK_EQ(allocate_bytes(&c, STUN_ATTR_EVEN_PORT, "\x7f", 1), 0);
        CHECK_EQ(c.relayed.port % 2, 0);
        CHECK(!stun_msg_has(&c.msg, STUN_ID_RESERVATION_TOKEN));
    }
    struct client c = fresh("alice");
    CHECK_EQ(allocate_bytes(&c, STUN_ATTR_EVEN_PORT, "", 0), 400);
    CHECK_EQ(allocate_bytes(&c, STUN_ATTR_EVEN_PORT, "\0\0\0\0", 4), 400);
    engine_stop(&e);
}

/* TURN-ALLOC-10, 12, 13, 15, 16: the port after it waits 30 s for who has the token, once. */
static void test_reservation(void)
{
    begin();
    struct client c = fresh("alice"), d = fresh("bob"), again = fresh("bob");
    CHECK_EQ(allocate_bytes(&c, STUN_ATTR_EVEN_PORT, "\x80", 1), 0);
    CHECK_EQ(c.relayed.port % 2, 0);
    char token[8];
    struct span t = stun_msg_bytes(&c.msg, STUN_ID_RESERVATION_TOKEN);
    CHECK_EQ(t.len, 8);
    memcpy(token, t.data, 8);
    engine_pass(&e, 29 * 1000);
    d.tuple.transport = TURN_TCP; /* any 5-tuple may have it */
    CHECK_EQ(allocate_bytes(&d, STUN_ATTR_RESERVATION_TOKEN, token, 8), 0);
    CHECK(addr_ip_eq(&d.relayed, &c.relayed));
    CHECK_EQ(d.relayed.port, c.relayed.port + 1);
    CHECK_EQ(allocate_bytes(&again, STUN_ATTR_RESERVATION_TOKEN, token, 8), 508);
    CHECK_EQ(allocate_bytes(&again, STUN_ATTR_RESERVATION_TOKEN, "unknown!", 8), 508);
    CHECK_EQ(allocate_bytes(&again, STUN_ATTR_RESERVATION_TOKEN, "four", 4), 400);
    struct client six = fresh("alice"), next = fresh("bob");
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_EVEN_PORT, "\x80", 1);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&six, &a), 0);
    memcpy(token, stun_msg_bytes(&six.msg, STUN_ID_RESERVATION_TOKEN).data, 8);
    CHECK_EQ(allocate_bytes(&next, STUN_ATTR_RESERVATION_TOKEN, token, 8), 0);
    CHECK(addr_ip_eq(&next.relayed, &six.relayed) && next.relayed.port == six.relayed.port + 1);
    struct client f = fresh("alice");
    CHECK_EQ(allocate_bytes(&f, STUN_ATTR_EVEN_PORT, "\x80", 1), 0);
    memcpy(token, stun_msg_bytes(&f.msg, STUN_ID_RESERVATION_TOKEN).data, 8);
    engine_pass(&e, 30 * 1000);
    CHECK_EQ(allocate_bytes(&again, STUN_ATTR_RESERVATION_TOKEN, token, 8), 508);
    engine_stop(&e);
}

/* TURN-ALLOC-09: a token stands alone. */
static void test_token_conflicts(void)
{
    begin();
    struct client c = fresh("alice");
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_RESERVATION_TOKEN, "12345678", 8);
    attrs_bytes(&a, STUN_ATTR_EVEN_PORT, "\0", 1);
    CHECK_EQ(client_allocate_with(&c, &a), 400);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_RESERVATION_TOKEN, "12345678", 8);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 1u << 24);
    CHECK_EQ(client_allocate_with(&c, &a), 400);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_RESERVATION_TOKEN, "12345678", 8);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&c, &a), 400);
    CHECK_EQ(engine_open_relays(&e), 0);
    engine_stop(&e);
}

/* TURN-ALLOC-17, 30, 43: no port left is 508, protected, and leaves nothing behind. */
static void test_ports_run_out(void)
{
    engine_init(&e);
    e.config.port_min = 50000;
    e.config.port_max = 50002;
    e.config.relay_count = 1;
    engine_start(&e);
    struct client c[4] = {fresh("a"), fresh("b"), fresh("c"), fresh("d")};
    CHECK_EQ(allocate_bytes(&c[0], STUN_ATTR_EVEN_PORT, "\x80", 1), 0);
    CHECK_EQ(c[0].relayed.port, 50000);
    CHECK_EQ(allocate_bytes(&c[1], STUN_ATTR_EVEN_PORT, "\x80", 1), 508);
    CHECK(stun_msg_has(&c[1].msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK_EQ(client_allocate(&c[2]), 0);
    CHECK_EQ(c[2].relayed.port, 50002);
    CHECK_EQ(client_allocate(&c[3]), 508); /* 50001 is reserved */
    engine_pass(&e, 31 * 1000);
    CHECK_EQ(client_allocate(&c[3]), 0);
    CHECK_EQ(c[3].relayed.port, 50001);
    engine_stop(&e);
}

/* A port that some other program holds is passed over. */
static void test_busy_ports(void)
{
    engine_init(&e);
    e.config.port_min = 50000;
    e.config.port_max = 50003;
    e.config.relay_count = 1;
    e.busy_ports[0] = 50000;
    e.busy_ports[1] = 50002;
    engine_start(&e);
    struct client c = fresh("a"), d = fresh("b"), none = fresh("c");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_allocate(&d), 0);
    CHECK_EQ((int)c.relayed.port + d.relayed.port, 50001 + 50003);
    CHECK_EQ(client_allocate(&none), 508);
    CHECK_EQ(allocate_bytes(&none, STUN_ATTR_EVEN_PORT, "\x80", 1), 508);
    engine_stop(&e);
    engine_init(&e);
    e.no_sockets = true;
    engine_start(&e);
    struct client f = fresh("a");
    CHECK_EQ(client_allocate(&f), 508);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* TURN-GEN-08, TURN-ALLOC-29: counted per user id, not per username. */
static void test_user_quota(void)
{
    engine_init(&e);
    e.config.user_quota = 2;
    engine_start(&e);
    struct client a = client_with(&e, "203.0.113.7:1", "1700003600:alice", "north");
    struct client b = client_with(&e, "203.0.113.7:2", "1700003601:alice", "north");
    struct client c = client_with(&e, "203.0.113.7:3", "1700003602:alice", "north");
    struct client other = client_with(&e, "203.0.113.7:4", "1700003602:bob", "north");
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_allocate(&b), 0);
    CHECK_EQ(client_allocate(&c), 486);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK_EQ(client_allocate(&other), 0);
    CHECK_EQ(client_refresh(&a, 0), 0);
    CHECK_EQ(client_allocate(&c), 0);
    engine_stop(&e);
}

static void test_total_limit(void)
{
    engine_init(&e);
    e.config.max_allocations = 3;
    engine_start(&e);
    struct client c[4];
    for (size_t i = 0; i < 4; i++) {
        c[i] = fresh("alice");
        CHECK_EQ(client_allocate(&c[i]), i < 3 ? 0 : 508);
    }
    CHECK_EQ(client_refresh(&c[1], 0), 0);
    CHECK_EQ(client_allocate(&c[3]), 0);
    engine_stop(&e);
}

/* TURN-ALLOC-42, TURN-GEN-10: ports are unique, and not in order. */
static void test_ports_are_random(void)
{
    engine_init(&e);
    e.config.max_allocations = 1000;
    engine_start(&e);
    static uint8_t seen[65536];
    unsigned rising = 0, high = 0;
    uint16_t last = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 1000; i++) {
        struct client c = fresh("alice");
        CHECK_EQ(client_allocate(&c), 0);
        CHECK(!seen[c.relayed.port]++);
        CHECK(c.relayed.port >= 49152); /* TURN-ALLOC-40 */
        rising += c.relayed.port > last;
        high += c.relayed.port >= 49152 + 8192;
        last = c.relayed.port;
    }
    CHECK(rising > 400 && rising < 600);
    CHECK(high > 400 && high < 600);
    engine_stop(&e);
}

/* TURN-ALLOC-45: the client is told the external address, the socket is bound to the inner one. */
static void test_external_address(void)
{
    engine_init(&e);
    e.config.relays[0].bind = addr_of("10.0.0.5");
    e.config.relays[0].external = addr_of("192.0.2.77");
    engine_start(&e);
    struct client c = fresh("alice");
    CHECK_EQ(client_allocate(&c), 0);
    struct addr external = addr_of("192.0.2.77"), inner = addr_of("10.0.0.5");
    CHECK(addr_ip_eq(&c.relayed, &external));
    CHECK(addr_ip_eq(&e.relays[0].at, &inner));
    engine_stop(&e);
}

/*
 * TURN-ALLOC-43: what every refusal leaves is a server in which the one allocation that there is
 * room for can still be made.
 */
static void test_refusals_leave_nothing(void)
{
    static const struct {
        uint16_t type;
        const char *value;
        size_t len;
        int code;
    } cases[] = {
        {STUN_ATTR_LIFETIME, "abc", 3, 400},
        {STUN_ATTR_EVEN_PORT, "", 0, 400},
        {STUN_ATTR_RESERVATION_TOKEN, "four", 4, 400},
        {STUN_ATTR_RESERVATION_TOKEN, "whatever", 8, 508},
        {STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\3\0\0\0", 4, 440},
        {STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, "\1\0\0\0", 4, 400},
        {STUN_ATTR_EVEN_PORT, "\x80", 1, 508},
        {0x7F00, "", 0, 420},
    };
    engine_init(&e);
    e.config.max_allocations = e.config.user_quota = 1;
    e.config.port_min = e.config.port_max = 50000;
    engine_start(&e);
    struct client c = fresh("alice"), other = fresh("alice");
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            CHECK_EQ(allocate_bytes(&c, cases[i].type, cases[i].value, cases[i].len),
                     cases[i].code);
            CHECK_EQ(turn_server_allocations(e.server), 0);
            CHECK_EQ(turn_server_deadline(e.server), UINT64_MAX);
        }
        e.no_sockets = true;
        CHECK_EQ(client_allocate(&c), 508);
        e.no_sockets = false;
        CHECK_EQ(client_allocate(&c), 0);
        CHECK_EQ(client_allocate(&other), 508); /* of max_allocations, looked at first */
        CHECK_EQ(client_refresh(&c, 0), 0);
    }
    engine_stop(&e);
}

/* TURN-ALLOC-17, 43: more reservations than are held at once; what was opened for it is closed. */
static void test_reservations_run_out(void)
{
    engine_init(&e);
    e.config.max_allocations = TURN_RESERVATIONS_MAX + 1;
    e.config.challenge_rate = 0;
    engine_start(&e);
    for (int i = 0; i < TURN_RESERVATIONS_MAX; i++) {
        struct client c = fresh("alice");
        CHECK_EQ(allocate_bytes(&c, STUN_ATTR_EVEN_PORT, "\x80", 1), 0);
    }
    struct client late = fresh("bob");
    for (int again = 0; again < 3; again++)
        CHECK_EQ(allocate_bytes(&late, STUN_ATTR_EVEN_PORT, "\x80", 1), 508);
    CHECK_EQ(engine_open_relays(&e), TURN_RESERVATIONS_MAX);
    engine_pass(&e, 30 * 1000);
    CHECK_EQ(allocate_bytes(&late, STUN_ATTR_EVEN_PORT, "\x80", 1), 0);
    engine_stop(&e);
}

/* TURN-GEN-07: SOFTWARE in answers to Allocate and Refresh, whatever they say. */
static void test_software(void)
{
    begin();
    struct client c = fresh("alice");
    struct span software = span_str(e.config.software);
    CHECK_EQ(client_refresh(&c, 600), 437);
    CHECK(span_eq(stun_msg_bytes(&c.msg, STUN_ID_SOFTWARE), software));
    CHECK_EQ(allocate_bytes(&c, STUN_ATTR_LIFETIME, "abc", 3), 400);
    CHECK(span_eq(stun_msg_bytes(&c.msg, STUN_ID_SOFTWARE), software));
    CHECK_EQ(client_allocate(&c), 0);
    CHECK(span_eq(stun_msg_bytes(&c.msg, STUN_ID_SOFTWARE), software));
    CHECK_EQ(client_refresh(&c, 600), 0);
    CHECK(span_eq(stun_msg_bytes(&c.msg, STUN_ID_SOFTWARE), software));
    struct client stranger = fresh("bob");
    CHECK_EQ(client_send_request(&stranger, STUN_ALLOCATE, NULL), 401);
    CHECK(span_eq(stun_msg_bytes(&stranger.msg, STUN_ID_SOFTWARE), software));
    engine_stop(&e);
}

/* TURN-SEC-01. */
static void test_tunnelled_clients(void)
{
    begin();
    struct client teredo = client_at(&e, "[2001::1]:5000", "alice");
    struct client six = client_at(&e, "[2002:c000:201::1]:5000", "alice");
    CHECK_EQ(client_allocate(&teredo), 403);
    CHECK_EQ(client_allocate(&six), 403);
    engine_stop(&e);
}

/* TURN-ALLOC-08 and a username of every length that is allowed. */
static void test_odd_requests(void)
{
    begin();
    struct client c = fresh("alice");
    CHECK_EQ(allocate_bytes(&c, STUN_ATTR_DONT_FRAGMENT, "", 0), 0);
    char name[STUN_USERNAME_MAX + 1] = "1700003600:";
    for (size_t len = 60; len <= STUN_USERNAME_MAX; len += 64) {
        memset(name + 11, 'u', len - 11);
        name[len] = 0;
        struct client d = client_with(&e, "203.0.113.8:1", name, "north");
        d.tuple.client.port = (uint16_t)len;
        CHECK_EQ(client_allocate(&d), 0);
        CHECK_EQ(client_refresh(&d, 600), 0);
    }
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_success),
        CHECK_TEST(test_retransmission),
        CHECK_TEST(test_tid_is_not_the_key),
        CHECK_TEST(test_requested_transport),
        CHECK_TEST(test_lifetimes),
        CHECK_TEST(test_expiry),
        CHECK_TEST(test_expired_makes_room),
        CHECK_TEST(test_refresh),
        CHECK_TEST(test_refresh_shortens),
        CHECK_TEST(test_refresh_family),
        CHECK_TEST(test_address_families),
        CHECK_TEST(test_even_port),
        CHECK_TEST(test_reservation),
        CHECK_TEST(test_token_conflicts),
        CHECK_TEST(test_ports_run_out),
        CHECK_TEST(test_busy_ports),
        CHECK_TEST(test_user_quota),
        CHECK_TEST(test_total_limit),
        CHECK_TEST(test_ports_are_random),
        CHECK_TEST(test_external_address),
        CHECK_TEST(test_tunnelled_clients),
        CHECK_TEST(test_odd_requests),
        CHECK_TEST(test_refusals_leave_nothing),
        CHECK_TEST(test_reservations_run_out),
        CHECK_TEST(test_software),
    };
    return CHECK_RUN(tests);
}
