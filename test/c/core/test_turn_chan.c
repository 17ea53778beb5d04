/* Channels: conformance.md TURN-CHAN. */
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

static bool sends(struct client *c, uint16_t channel, const char *peer)
{
    engine_clear(c->e);
    client_channel_data(c, channel, "hi");
    return peer_got(c, peer, "hi");
}

static bool receives(struct client *c, uint16_t channel, const char *peer)
{
    engine_clear(c->e);
    peer_send(c, peer, "ho");
    return got_channel_data(c, channel, "ho");
}

static int bind_raw(struct client *c, const char *number, size_t len, const char *peer)
{
    struct attrs a;
    attrs_init(&a);
    client_new_tid(c);
    if (number)
        attrs_bytes(&a, STUN_ATTR_CHANNEL_NUMBER, number, len);
    if (peer)
        attrs_peer(&a, c, peer);
    return client_request(c, STUN_CHANNEL_BIND, &a);
}

/* TURN-CHAN-01, 02, 16, 17. */
static void test_arguments(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(bind_raw(&c, NULL, 0, "198.51.100.1:1"), 400);
    CHECK_EQ(bind_raw(&c, "\x40\0\0\0", 4, NULL), 400);
    CHECK_EQ(bind_raw(&c, "\x40\0", 2, "198.51.100.1:1"), 400);
    CHECK_EQ(bind_raw(&c, "\x40\0\0\0\0\0\0\0", 8, "198.51.100.1:1"), 400);
    static const uint16_t bad[] = {0, 0x3FFF, 0x8000, 0xFFFF};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(client_bind(&c, bad[i], "198.51.100.1:1"), 400);
    /* TURN-CHAN-18: none of these installed a permission */
    engine_clear(&e);
    client_indication(&c, "198.51.100.1:1", "x");
    CHECK_EQ(e.to_peers, 0);
    CHECK_EQ(bind_raw(&c, "\x40\0\xff\xff", 4, "198.51.100.1:1"), 0);
    CHECK_EQ(client_bind(&c, 0x4FFF, "198.51.100.2:1"), 0);
    CHECK_EQ(client_bind(&c, 0x4001, "[2001:db8:1::1]:1"), 443);
    engine_stop(&e);
}

/* Clients of RFC 5766 choose from 0x4000-0x7FFF, and are served. */
static void test_old_channels(void)
{
    static const uint16_t numbers[] = {0x5000, 0x6ABC, 0x7FFF};
    begin();
    struct client c = allocated(1);
    char peer[64];
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        snprintf(peer, sizeof peer, "198.51.100.1:%zu", 2000 + i);
        CHECK(!sends(&c, numbers[i], peer));
        CHECK_EQ(client_bind(&c, numbers[i], peer), 0);
        CHECK(sends(&c, numbers[i], peer));
        engine_clear(&e);
        peer_send(&c, peer, "ho");
        CHECK_EQ(e.to_clients, 1);
        const uint8_t want[] = {(uint8_t)(numbers[i] >> 8), (uint8_t)numbers[i], 0, 2, 'h', 'o'};
        CHECK(e.to_client[0].len == 6 && memcmp(e.to_client[0].bytes, want, 6) == 0);
    }
    engine_stop(&e);
}

/* TURN-CHAN-03, 04, 05, 06, 10, 19. */
static void test_binding(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1000"), 0);
    CHECK(sends(&c, 0x4000, "198.51.100.1:1000") && receives(&c, 0x4000, "198.51.100.1:1000"));
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1001"), 400);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:1000"), 400);
    CHECK(sends(&c, 0x4000, "198.51.100.1:1000"));
    CHECK(!sends(&c, 0x4001, "198.51.100.1:1000"));
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1000"), 0);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:1001"), 0);
    CHECK(receives(&c, 0x4001, "198.51.100.1:1001"));
    engine_clear(&e);
    peer_send(&c, "198.51.100.1:1002", "other port");
    CHECK(got_indication(&c, "198.51.100.1:1002", "other port"));
    engine_stop(&e);
}

/* TURN-CHAN-11, 12: 600 s for the channel, 300 s for the permission; each by its own request. */
static void test_lifetimes(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    CHECK_EQ(client_refresh(&c, 3600), 0);
    engine_pass(&e, 299999);
    CHECK(sends(&c, 0x4000, "198.51.100.1:1") && receives(&c, 0x4000, "198.51.100.1:1"));
    engine_pass(&e, 1);
    CHECK(sends(&c, 0x4000, "198.51.100.1:1")); /* TURN-CD-13: our choice, as coturn and pion */
    CHECK(!receives(&c, 0x4000, "198.51.100.1:1"));
    engine_pass(&e, 100 * 1000);
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 0);
    CHECK(receives(&c, 0x4000, "198.51.100.1:1"));
    engine_pass(&e, 199999);
    CHECK(sends(&c, 0x4000, "198.51.100.1:1") && receives(&c, 0x4000, "198.51.100.1:1"));
    engine_pass(&e, 1); /* 600 s */
    CHECK(!sends(&c, 0x4000, "198.51.100.1:1"));
    engine_clear(&e);
    peer_send(&c, "198.51.100.1:1", "ho"); /* the permission holds until 700 s */
    CHECK(got_indication(&c, "198.51.100.1:1", "ho"));
    engine_stop(&e);
}

/* A rebinding resets the 600 s. */
static void test_refresh(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(client_refresh(&c, 3600), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
        engine_pass(&e, 599 * 1000);
        CHECK(sends(&c, 0x4000, "198.51.100.1:1"));
    }
    engine_stop(&e);
}

/* TURN-CHAN-13: number and peer stay together for five minutes after the end. */
static void test_quarantine(void)
{
    begin();
    struct client c = allocated(1);
    CHECK_EQ(client_refresh(&c, 3600), 0);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    engine_pass(&e, 600 * 1000);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.2:1"), 400);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:1"), 400);
    engine_pass(&e, 299999);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.2:1"), 400);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:1"), 400);
    engine_pass(&e, 1);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.2:1"), 0);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:1"), 0);
    CHECK(sends(&c, 0x4000, "198.51.100.2:1") && sends(&c, 0x4001, "198.51.100.1:1"));
    /* the same pair may come back at any time */
    engine_pass(&e, 650 * 1000);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.2:1"), 0);
    CHECK(sends(&c, 0x4000, "198.51.100.2:1"));
    engine_stop(&e);
}

/* TURN-CHAN-18: a refusal prolongs nothing and permits nothing, whatever is wrong. */
static void test_refusals_change_nothing(void)
{
    engine_init(&e);
    e.config.max_channels = 2;
    engine_start(&e);
    struct client c = allocated(1);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    CHECK_EQ(client_bind(&c, 0x4001, "198.51.100.1:2"), 0);
    engine_pass(&e, 200 * 1000);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:2"), 400);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.2:1"), 400);
    CHECK_EQ(client_bind(&c, 0x4002, "198.51.100.1:1"), 400);
    CHECK_EQ(client_bind(&c, 0x3FFF, "198.51.100.1:1"), 400);
    CHECK_EQ(client_bind(&c, 0x4002, "10.0.0.1:1"), 403);
    CHECK_EQ(client_bind(&c, 0x4002, "[2001:db8:1::1]:1"), 443);
    CHECK_EQ(client_bind(&c, 0x4002, "198.51.100.3:1"), 508);
    engine_clear(&e);
    client_indication(&c, "198.51.100.2:1", "x");
    client_indication(&c, "198.51.100.3:1", "x");
    CHECK_EQ(e.to_peers, 0);
    engine_pass(&e, 99999);
    CHECK(receives(&c, 0x4000, "198.51.100.1:1") && receives(&c, 0x4001, "198.51.100.1:2"));
    engine_pass(&e, 1); /* 300 s: the permission */
    CHECK(!receives(&c, 0x4000, "198.51.100.1:1") && !receives(&c, 0x4001, "198.51.100.1:2"));
    engine_pass(&e, 299999);
    CHECK_EQ(client_refresh(&c, 600), 0);
    CHECK(sends(&c, 0x4000, "198.51.100.1:1"));
    engine_pass(&e, 1); /* 600 s: the channels */
    CHECK(!sends(&c, 0x4000, "198.51.100.1:1") && !sends(&c, 0x4001, "198.51.100.1:2"));
    engine_stop(&e);
}

/* TURN-CHAN-14, 15. */
static void test_per_allocation(void)
{
    begin();
    struct client a = allocated(1), b = allocated(2);
    CHECK_EQ(client_bind(&a, 0x4000, "198.51.100.1:1"), 0);
    CHECK_EQ(client_bind(&b, 0x4000, "198.51.100.2:1"), 0);
    CHECK(sends(&a, 0x4000, "198.51.100.1:1") && sends(&b, 0x4000, "198.51.100.2:1"));
    CHECK_EQ(client_refresh(&a, 0), 0);
    CHECK_EQ(client_allocate(&a), 0);
    CHECK(!sends(&a, 0x4000, "198.51.100.1:1"));
    CHECK(sends(&b, 0x4000, "198.51.100.2:1"));
    engine_stop(&e);
}

/* TURN-CHAN-09: the limit, and room again after the quarantine. */
static void test_limit(void)
{
    engine_init(&e);
    e.config.max_channels = 20;
    engine_start(&e);
    struct client c = allocated(1);
    char text[64];
    CHECK_EQ(client_refresh(&c, 3600), 0);
    for (int i = 0; i < 21; i++) {
        snprintf(text, sizeof text, "198.51.100.1:%d", 1000 + i);
        CHECK_EQ(client_bind(&c, (uint16_t)(0x4000 + i), text), i < 20 ? 0 : 508);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(text, sizeof text, "198.51.100.1:%d", 1000 + i);
        CHECK(sends(&c, (uint16_t)(0x4000 + i), text) &&
              receives(&c, (uint16_t)(0x4000 + i), text));
    }
    engine_pass(&e, 900 * 1000);
    CHECK_EQ(client_bind(&c, 0x4100, "198.51.100.1:5000"), 0);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_arguments),
        CHECK_TEST(test_old_channels),
        CHECK_TEST(test_binding),
        CHECK_TEST(test_lifetimes),
        CHECK_TEST(test_refresh),
        CHECK_TEST(test_quarantine),
        CHECK_TEST(test_per_allocation),
        CHECK_TEST(test_limit),
        CHECK_TEST(test_refusals_change_nothing),
    };
    return CHECK_RUN(tests);
}
