/* What a user may relay in a second: conformance.md TURN-GEN-09. */
#include "engine.h"

#include "core/turn_meter.h"

static struct engine e;

enum {
    RATE = 100000, /* bytes a second */
    SIZE = 1000
};

static void begin(uint32_t rate)
{
    engine_init(&e);
    e.config.user_bandwidth = rate;
    engine_start(&e);
}

static struct client allocated(const char *address, const char *user)
{
    struct client c = client_at(&e, address, user);
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 0);
    return c;
}

static const char *payload(void)
{
    static char bytes[SIZE + 1];
    memset(bytes, 'x', SIZE);
    return bytes;
}

/* One datagram each way in each of the three forms' turns; how many of both came through. */
struct passed {
    unsigned up, down;
};

static void talk(struct client *c, unsigned i, struct passed *n)
{
    engine_clear(&e);
    if (i % 2)
        client_channel_data(c, 0x4000, payload());
    else
        client_indication(c, "198.51.100.1:1", payload());
    n->up += (unsigned)e.to_peers;
    engine_clear(&e);
    peer_send(c, i % 2 ? "198.51.100.1:1" : "198.51.100.1:2", payload());
    n->down += (unsigned)e.to_clients;
}

/* Whether a count is within a fiftieth of what is wanted. */
static bool about(unsigned n, unsigned want)
{
    return n >= want - want / 50 && n <= want + want / 50;
}

/* Twice the rate for ten seconds: half of it comes through, either way, and the rest is counted. */
static void test_twice_the_rate(void)
{
    begin(RATE);
    struct client c = allocated("203.0.113.7:1", "alice");
    struct passed burst = {0}, n = {0};
    for (unsigned i = 0; i < 2000; i++) /* what has been saved up goes first */
        talk(&c, i, &burst);
    CHECK(about(burst.up, RATE / SIZE) && about(burst.down, RATE / SIZE));
    for (unsigned i = 0; i < 2000; i++) {
        engine_pass(&e, 5);
        talk(&c, i, &n);
    }
    CHECK(about(n.up, 1000) && about(n.down, 1000));
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_BANDWIDTH),
             8000 - burst.up - burst.down - n.up - n.down);
    CHECK_EQ(engine_counter(&e, TURN_N_UP_PACKETS), burst.up + n.up);
    CHECK_EQ(engine_counter(&e, TURN_N_DOWN_PACKETS), burst.down + n.down);
    engine_stop(&e);
}

/* A user's allocations share it, also through time-limited usernames; another user has his own. */
static void test_per_user(void)
{
    begin(RATE);
    struct client one = client_with(&e, "203.0.113.7:1", "1700003600:alice", "north");
    struct client two = client_with(&e, "203.0.113.7:2", "1700003601:alice", "north");
    struct client *both[] = {&one, &two};
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQ(client_allocate(both[i]), 0);
        CHECK_EQ(client_bind(both[i], 0x4000, "198.51.100.1:1"), 0);
    }
    struct client other = allocated("203.0.113.7:3", "bob");
    struct passed alice = {0}, bob = {0};
    for (unsigned i = 0; i < 500; i++) {
        talk(both[i % 2], i, &alice);
        talk(&other, i, &bob);
    }
    CHECK(about(alice.up, RATE / SIZE) && about(bob.up, RATE / SIZE));
    CHECK(about(alice.down, RATE / SIZE) && about(bob.down, RATE / SIZE));
    /* who comes back with another allocation has not got a new bucket while one is left */
    CHECK_EQ(client_refresh(&one, 0), 0);
    struct client again = allocated("203.0.113.7:4", "alice");
    struct passed none = {0};
    for (unsigned i = 0; i < 100; i++)
        talk(&again, i, &none);
    CHECK_EQ(none.up + none.down, 0);
    engine_stop(&e);
}

/* Nothing is limited without the option; a new rate holds at once. */
static void test_changes(void)
{
    begin(0);
    struct client free_one = allocated("203.0.113.7:1", "alice");
    struct passed n = {0};
    for (unsigned i = 0; i < 1000; i++)
        talk(&free_one, i, &n);
    CHECK(n.up == 1000 && n.down == 1000);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_BANDWIDTH), 0);
    engine_stop(&e);
    begin(RATE);
    struct client c = allocated("203.0.113.7:1", "alice");
    struct turn_config faster = e.config;
    faster.user_bandwidth = 10 * RATE;
    turn_server_configure(e.server, &faster);
    engine_pass(&e, 1000);
    struct passed more = {0};
    for (unsigned i = 0; i < 2000; i++)
        talk(&c, i, &more);
    CHECK(about(more.up, 10 * RATE / SIZE));
    engine_stop(&e);
}

/* However many users come and go, one meter is enough for each that is there. */
static void test_users_come_and_go(void)
{
    engine_init(&e);
    e.config.user_bandwidth = RATE;
    e.config.max_allocations = 2;
    engine_start(&e);
    char name[16];
    for (unsigned user = 0; user < 10; user++) {
        snprintf(name, sizeof name, "user%u", user);
        struct client c = allocated("203.0.113.7:1", name);
        struct passed n = {0};
        for (unsigned i = 0; i < 200; i++)
            talk(&c, i, &n);
        CHECK(about(n.up, RATE / SIZE) && about(n.down, RATE / SIZE));
        if (user % 2)
            CHECK_EQ(client_refresh(&c, 0), 0);
        else
            engine_pass(&e, 601 * 1000);
        CHECK_EQ(turn_server_allocations(e.server), 0);
    }
    engine_stop(&e);
}

/* The lowest rate loses no millisecond, and the longest silence no more than fills the bucket. */
static void test_extremes(void)
{
    begin(1);
    struct client c = allocated("203.0.113.7:1", "alice");
    struct passed n = {0};
    for (unsigned i = 0; i < 100; i++)
        talk(&c, i, &n);
    CHECK_EQ(n.up, 65); /* a bucket takes a datagram of any length */
    for (unsigned i = 0; i < SIZE; i++) {
        engine_pass(&e, 500);
        talk(&c, i, &n);
    }
    CHECK_EQ(n.up, 66); /* 535 bytes were left, and 500 came */
    engine_stop(&e);
    begin(UINT32_MAX);
    struct client d = allocated("203.0.113.7:1", "alice");
    e.now.ms += (uint64_t)1 << 40;
    CHECK_EQ(client_allocate(&d), 0);
    CHECK_EQ(client_bind(&d, 0x4000, "198.51.100.1:1"), 0);
    struct passed all = {0};
    for (unsigned i = 0; i < 100; i++)
        talk(&d, i, &all);
    CHECK(all.up == 100 && all.down == 100);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_twice_the_rate),    CHECK_TEST(test_per_user), CHECK_TEST(test_changes),
        CHECK_TEST(test_users_come_and_go), CHECK_TEST(test_extremes),
    };
    return CHECK_RUN(tests);
}
