/* Dual allocations: conformance.md TURN-ALLOC-20, 25..28, TURN-REFR-06..09, TURN-PERM-05, CHAN-20.
 */
#include "engine.h"

#include "core/turn_state.h"

static struct engine e;

static const char *const v4_peer = "198.51.100.1:7", *const v6_peer = "[2001:db8:1::1]:7";

static int allocate_dual(struct client *c, const char *even_port)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    if (even_port)
        attrs_bytes(&a, STUN_ATTR_EVEN_PORT, even_port, 1);
    return client_allocate_with(c, &a);
}

/* The relayed addresses of the last response, in its order; how many. */
static size_t relayed_of(const struct client *c, struct addr out[4])
{
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE;
    size_t n = 0;
    while (n < 4 && stun_msg_next(&c->msg, &pos, &attr))
        if (attr.type == STUN_ATTR_XOR_RELAYED_ADDRESS)
            CHECK_EQ(stun_addr_decode(attr.value, true, stun_msg_tid(&c->msg), &out[n++]), CT_OK);
    return n;
}

/* The same client seen by peers of its other relayed address. */
static struct client at(const struct client *c, const struct addr *relayed)
{
    struct client other = *c;
    other.relayed = *relayed;
    return other;
}

struct dual {
    struct client c, v4, v6;
};

static struct dual start_dual(void)
{
    struct addr relayed[4] = {{.family = ADDR_NONE}};
    engine_init(&e);
    engine_start(&e);
    struct dual d = {.c = client_at(&e, "203.0.113.7:5000", "alice")};
    CHECK_EQ(allocate_dual(&d.c, NULL), 0);
    CHECK_EQ(relayed_of(&d.c, relayed), 2);
    CHECK(relayed[0].family == ADDR_V4 && relayed[1].family == ADDR_V6);
    d.v4 = at(&d.c, &relayed[0]);
    d.v6 = at(&d.c, &relayed[1]);
    return d;
}

static int refresh_family(struct client *c, uint8_t family, uint32_t lifetime)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, (uint32_t)family << 24);
    attrs_u32(&a, STUN_ATTR_LIFETIME, lifetime);
    client_new_tid(c);
    return client_request(c, STUN_REFRESH, &a);
}

/* Whether data passes between the client and a peer of this relayed address, in both directions. */
static bool relays(struct client *c, const char *peer)
{
    engine_clear(&e);
    client_indication(c, peer, "up");
    bool up = peer_got(c, peer, "up");
    engine_clear(&e);
    peer_send(c, peer, "down");
    bool down = got_indication(c, peer, "down");
    CHECK_EQ(up, down);
    return up;
}

/* TURN-ALLOC-26, TURN-PERM-05, TURN-CHAN-20: both addresses at work. */
static void test_both(void)
{
    struct dual d = start_dual();
    struct attrs a;
    uint32_t lifetime;
    CHECK_EQ(stun_msg_u32(&d.c.msg, STUN_ID_LIFETIME, &lifetime), CT_OK);
    CHECK_EQ(lifetime, 600);
    CHECK(!stun_msg_has(&d.c.msg, STUN_ID_ADDRESS_ERROR_CODE));
    CHECK_EQ(engine_open_relays(&e), 2);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    CHECK_EQ(e.created, 1);
    attrs_init(&a);
    client_new_tid(&d.c);
    attrs_peer(&a, &d.c, v4_peer);
    attrs_peer(&a, &d.c, v6_peer);
    CHECK_EQ(client_request(&d.c, STUN_CREATE_PERMISSION, &a), 0);
    CHECK(relays(&d.v4, v4_peer) && relays(&d.v6, v6_peer));
    CHECK_EQ(e.to_client[0].tuple.client.port, 5000);
    CHECK_EQ(client_bind(&d.c, 0x4000, v4_peer), 0);
    CHECK_EQ(client_bind(&d.c, 0x4001, v6_peer), 0);
    client_channel_data(&d.c, 0x4000, "four");
    CHECK(peer_got(&d.v4, v4_peer, "four"));
    client_channel_data(&d.c, 0x4001, "six");
    CHECK(peer_got(&d.v6, v6_peer, "six"));
    peer_send(&d.v6, v6_peer, "back");
    CHECK(got_channel_data(&d.c, 0x4001, "back"));
    peer_send(&d.v4, v4_peer, "back");
    CHECK(got_channel_data(&d.c, 0x4000, "back"));
    engine_stop(&e);
}

/* TURN-ALLOC-03: a retransmission gets the same two addresses. */
static void test_retransmission(void)
{
    struct dual d = start_dual();
    struct attrs a;
    struct addr again[4];
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_send_request(&d.c, STUN_ALLOCATE, &a), 0);
    CHECK_EQ(relayed_of(&d.c, again), 2);
    CHECK(addr_eq(&again[0], &d.v4.relayed) && addr_eq(&again[1], &d.v6.relayed));
    CHECK_EQ(engine_open_relays(&e), 2);
    engine_stop(&e);
}

/* TURN-ALLOC-20, 25, 18: what must not be asked for. */
static void test_bad_requests(void)
{
    engine_init(&e);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    struct attrs a;
    static const uint32_t families[] = {0, 1, 3, 255};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        attrs_init(&a);
        attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, families[i] << 24);
        CHECK_EQ(client_allocate_with(&c, &a), 400);
    }
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, "\2\0", 2);
    CHECK_EQ(client_allocate_with(&c, &a), 400);
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&c, &a), 400);
    CHECK_EQ(allocate_dual(&c, "\x80"), 400);
    CHECK_EQ(engine_open_relays(&e), 0);
    CHECK_EQ(allocate_dual(&c, "\0"), 0); /* EVEN-PORT alone holds for both */
    struct addr relayed[4];
    CHECK_EQ(relayed_of(&c, relayed), 2);
    CHECK(relayed[0].port % 2 == 0 && relayed[1].port % 2 == 0);
    engine_stop(&e);
}

/* The attribute that turnutils_uclient asks by does the same; where both are, the standard one. */
static void test_draft(void)
{
    engine_init(&e);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    struct addr relayed[4];
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_FAMILY_DRAFT, 2u << 24);
    CHECK_EQ(client_allocate_with(&c, &a), 0);
    CHECK_EQ(relayed_of(&c, relayed), 2);
    CHECK(relayed[0].family == ADDR_V4 && relayed[1].family == ADDR_V6);
    struct client d = client_at(&e, "203.0.113.7:5001", "alice");
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 1u << 24);
    CHECK_EQ(client_allocate_with(&d, &a), 400);
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_FAMILY_DRAFT, 1u << 24);
    CHECK_EQ(client_allocate_with(&d, &a), 400);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&d, &a), 0);
    CHECK_EQ(relayed_of(&d, relayed), 2);
    engine_stop(&e);
}

static void check_error_code(const struct client *c, uint8_t family, uint8_t number)
{
    struct span v = stun_msg_bytes(&c->msg, STUN_ID_ADDRESS_ERROR_CODE);
    uint8_t hundreds = (uint8_t)(number == 40 ? 4 : 5);
    CHECK(v.len > 4);
    const uint8_t want[] = {family, 0, hundreds, number};
    CHECK_BYTES(v.data, want, sizeof want);
}

static void only_relay(const char *ip)
{
    engine_init(&e);
    e.config.relays[0].bind = e.config.relays[0].external = addr_of(ip);
    e.config.relay_count = 1;
}

/* TURN-ALLOC-27: one of two, and why not the other; the same to a retransmission. */
static void test_partly(void)
{
    static const char *const ips[] = {"192.0.2.1", "2001:db8::1"};
    for (uint8_t i = 0; i < 2; i++) {
        struct addr relayed[4];
        only_relay(ips[i]);
        engine_start(&e);
        struct client c = client_at(&e, "203.0.113.7:5000", "alice");
        CHECK_EQ(allocate_dual(&c, NULL), 0);
        CHECK_EQ(relayed_of(&c, relayed), 1);
        CHECK_EQ(relayed[0].family, i == 0 ? ADDR_V4 : ADDR_V6);
        check_error_code(&c, i == 0 ? ADDR_V6 : ADDR_V4, 40);
        struct attrs a;
        attrs_init(&a);
        attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
        CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, &a), 0);
        check_error_code(&c, i == 0 ? ADDR_V6 : ADDR_V4, 40);
        CHECK_EQ(client_permit(&c, i == 0 ? v6_peer : v4_peer), 443);
        engine_stop(&e);
    }
}

/* TURN-ALLOC-27, 28: ports that run out in one family, then in both. */
static void test_ports_run_out(void)
{
    struct attrs six;
    struct addr relayed[4];
    engine_init(&e);
    e.config.port_min = e.config.port_max = 50000;
    engine_start(&e);
    struct client blocker = client_at(&e, "203.0.113.7:5000", "alice");
    attrs_init(&six);
    attrs_u32(&six, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&blocker, &six), 0);
    struct client c = client_at(&e, "203.0.113.7:5001", "bob");
    CHECK_EQ(allocate_dual(&c, NULL), 0);
    CHECK_EQ(relayed_of(&c, relayed), 1);
    check_error_code(&c, ADDR_V6, 8);
    struct client late = client_at(&e, "203.0.113.7:5002", "carol");
    CHECK_EQ(allocate_dual(&late, NULL), 508);
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK_EQ(client_refresh(&blocker, 0), 0);
    CHECK_EQ(allocate_dual(&late, NULL), 0);
    CHECK_EQ(relayed_of(&late, relayed), 2);
    engine_stop(&e);
}

/* A second address takes a socket: it counts towards max_allocations, not towards the quota. */
static void test_limits(void)
{
    struct addr relayed[4];
    engine_init(&e);
    e.config.max_allocations = 3;
    e.config.user_quota = 2;
    engine_start(&e);
    struct client a = client_at(&e, "203.0.113.7:5000", "alice");
    struct client b = client_at(&e, "203.0.113.7:5001", "alice");
    struct client c = client_at(&e, "203.0.113.7:5002", "bob");
    CHECK_EQ(allocate_dual(&a, NULL), 0);
    CHECK_EQ(allocate_dual(&b, NULL), 0);
    CHECK_EQ(relayed_of(&b, relayed), 1);
    check_error_code(&b, ADDR_V6, 8);
    CHECK_EQ(client_allocate(&c), 508);
    CHECK_EQ(refresh_family(&a, ADDR_V4, 0), 0);
    CHECK_EQ(client_allocate(&c), 0);
    engine_stop(&e);
}

/* TURN-REFR-06, 07: no family refreshes both, a family only itself, another is 443. */
static void test_refresh_one(void)
{
    for (uint8_t kept = ADDR_V4; kept <= ADDR_V6; kept++) {
        struct dual d = start_dual();
        struct client *stays = kept == ADDR_V4 ? &d.v4 : &d.v6;
        struct client *goes = kept == ADDR_V4 ? &d.v6 : &d.v4;
        const char *peer = kept == ADDR_V4 ? v4_peer : v6_peer;
        const char *other = kept == ADDR_V4 ? v6_peer : v4_peer;
        CHECK_EQ(refresh_family(&d.c, 3, 600), 443);
        CHECK_EQ(refresh_family(&d.c, kept, 1200), 0);
        engine_pass(&e, 500 * 1000);
        CHECK_EQ(client_permit(&d.c, v4_peer), 0);
        CHECK_EQ(client_permit(&d.c, v6_peer), 0);
        engine_pass(&e, 99 * 1000);
        CHECK(relays(stays, peer) && relays(goes, other));
        e.now.ms += 1000; /* the wheel has not come round: expired all the same */
        CHECK(relays(stays, peer) && !relays(goes, other));
        CHECK_EQ(client_permit(&d.c, other), 443);
        CHECK_EQ(refresh_family(&d.c, goes->relayed.family, 600), 443);
        CHECK_EQ(client_refresh(&d.c, 600), 0);
        engine_pass(&e, 5000);
        CHECK_EQ(engine_open_relays(&e), 1);
        CHECK(relays(stays, peer));
        engine_pass(&e, 590 * 1000);
        CHECK_EQ(turn_server_allocations(e.server), 1);
        engine_pass(&e, 10 * 1000);
        CHECK_EQ(turn_server_allocations(e.server), 0);
        engine_stop(&e);
    }
}

/* TURN-REFR-07: both at once, longer and shorter. */
static void test_refresh_both(void)
{
    struct dual d = start_dual();
    CHECK_EQ(client_refresh(&d.c, 3600), 0);
    engine_pass(&e, 1000 * 1000);
    CHECK_EQ(engine_open_relays(&e), 2);
    CHECK_EQ(client_refresh(&d.c, 700), 0);
    engine_pass(&e, 699 * 1000);
    CHECK_EQ(engine_open_relays(&e), 2);
    engine_pass(&e, 3 * 1000);
    CHECK_EQ(engine_open_relays(&e), 0);
    CHECK_EQ(e.last_end, TURN_END_EXPIRED);
    engine_stop(&e);
}

/* TURN-REFR-08, 09: one deleted, the other untouched; then the last. */
static void test_delete_one(void)
{
    for (uint8_t gone = ADDR_V4; gone <= ADDR_V6; gone++) {
        struct dual d = start_dual();
        struct client *stays = gone == ADDR_V4 ? &d.v6 : &d.v4;
        struct client *goes = gone == ADDR_V4 ? &d.v4 : &d.v6;
        const char *peer = gone == ADDR_V4 ? v6_peer : v4_peer;
        const char *other = gone == ADDR_V4 ? v4_peer : v6_peer;
        CHECK_EQ(client_bind(&d.c, 0x4000, peer), 0);
        CHECK_EQ(client_bind(&d.c, 0x4001, other), 0);
        CHECK_EQ(refresh_family(&d.c, gone, 0), 0);
        CHECK_EQ(engine_open_relays(&e), 1);
        engine_clear(&e);
        client_channel_data(&d.c, 0x4001, "lost");
        CHECK_EQ(e.to_peers, 0);
        client_channel_data(&d.c, 0x4000, "kept");
        CHECK(peer_got(stays, peer, "kept"));
        peer_send(stays, peer, "kept");
        CHECK(got_channel_data(&d.c, 0x4000, "kept"));
        engine_clear(&e);
        peer_send(goes, other, "lost");
        CHECK_EQ(e.to_clients, 0);
        CHECK_EQ(refresh_family(&d.c, gone, 600), 443);
        CHECK_EQ(client_permit(&d.c, other), 443);
        CHECK_EQ(client_bind(&d.c, 0x4002, other), 443);
        CHECK_EQ(turn_server_allocations(e.server), 1);
        CHECK_EQ(refresh_family(&d.c, stays->relayed.family, 0), 0);
        CHECK_EQ(turn_server_allocations(e.server), 0);
        CHECK_EQ(client_refresh(&d.c, 600), 437);
        engine_stop(&e);
    }
}

struct seen {
    struct turn_visitor visitor;
    struct addr relayed, also;
};

static void see(struct turn_visitor *v, const struct turn_alloc_info *info)
{
    struct seen *seen = (struct seen *)(void *)v;
    seen->relayed = info->relayed;
    seen->also = info->also;
}

/* Operators see both. */
static void test_listed(void)
{
    struct dual d = start_dual();
    struct seen seen = {.visitor = {see}};
    turn_server_list(e.server, &seen.visitor, e.now);
    CHECK(addr_eq(&seen.relayed, &d.v4.relayed) && addr_eq(&seen.also, &d.v6.relayed));
    CHECK_EQ(refresh_family(&d.c, ADDR_V4, 0), 0);
    turn_server_list(e.server, &seen.visitor, e.now);
    CHECK(addr_eq(&seen.relayed, &d.v6.relayed));
    CHECK_EQ(seen.also.family, ADDR_NONE);
    CHECK_EQ(turn_server_kill(e.server, &(struct turn_selector){0}, e.now), 1);
    engine_stop(&e);
}

/* An allocation of one family is no larger for it than two words. */
static void test_memory(void)
{
    CHECK(sizeof(struct turn_alloc) <= 512); /* with a channel */
    CHECK(sizeof(struct turn_second) <= 96);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_both),          CHECK_TEST(test_retransmission),
        CHECK_TEST(test_bad_requests),  CHECK_TEST(test_partly),
        CHECK_TEST(test_ports_run_out), CHECK_TEST(test_limits),
        CHECK_TEST(test_refresh_one),   CHECK_TEST(test_refresh_both),
        CHECK_TEST(test_delete_one),    CHECK_TEST(test_listed),
        CHECK_TEST(test_memory),        CHECK_TEST(test_draft),
    };
    return CHECK_RUN(tests);
}
