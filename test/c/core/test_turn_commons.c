/* Ports, users and reservations that workers share. */
#include "check.h"
#include "core/turn_commons.h"
#include "rng.h"

static struct turn_commons *make(uint16_t lo, uint16_t hi, uint32_t allocations)
{
    static struct turn_config config;
    turn_config_defaults(&config);
    config.port_min = lo;
    config.port_max = hi;
    config.relay_count = 2;
    config.max_allocations = allocations;
    struct turn_commons *c = turn_commons_new(&config);
    CHECK(c != NULL);
    return c;
}

static void test_every_port_once(void)
{
    struct turn_commons *c = make(50000, 50099, 1);
    bool seen[100] = {false};
    struct turn_port port;
    for (uint64_t i = 0; i < 100; i++) {
        CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, i * 7919, &port), CT_OK);
        CHECK(port.port >= 50000 && port.port <= 50099 && !seen[port.port - 50000]);
        seen[port.port - 50000] = true;
        CHECK(turn_commons_port_used(c, port));
    }
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, 1, &port), CT_ENOSPACE);
    CHECK_EQ(turn_commons_take_port(c, 1, TURN_ANY_PORT, 1, &port), CT_OK);
    port = (struct turn_port){.relay = 0, .port = 50042};
    turn_commons_give_port(c, port);
    CHECK(!turn_commons_port_used(c, port));
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, 1, &port), CT_OK);
    CHECK_EQ(port.port, 50042);
    turn_commons_free(c);
}

/* TCP's ports are others, although of the same numbers. */
static void test_tcp_ports(void)
{
    struct turn_commons *c = make(50000, 50000, 1);
    struct turn_port udp, tcp;
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, 1, &udp), CT_OK);
    CHECK_EQ(turn_commons_take_tcp_port(c, 0, 1, &tcp), CT_OK);
    CHECK(tcp.tcp && !udp.tcp && tcp.port == udp.port);
    CHECK_EQ(turn_commons_take_tcp_port(c, 0, 1, &tcp), CT_ENOSPACE);
    turn_commons_give_port(c, udp);
    CHECK(!turn_commons_port_used(c, udp) && turn_commons_port_used(c, tcp));
    turn_commons_give_port(c, tcp);
    CHECK(!turn_commons_port_used(c, tcp));
    turn_commons_free(c);
}

static void test_tcp_peers(void)
{
    static struct turn_config config;
    turn_config_defaults(&config);
    config.max_tcp_peers = 2;
    struct turn_commons *c = turn_commons_new(&config);
    CHECK_EQ(turn_commons_enter_tcp(c), CT_OK);
    CHECK_EQ(turn_commons_enter_tcp(c), CT_OK);
    CHECK_EQ(turn_commons_enter_tcp(c), CT_ENOSPACE);
    turn_commons_leave_tcp(c);
    CHECK_EQ(turn_commons_enter_tcp(c), CT_OK);
    turn_commons_free(c);
}

/* Takes ports until `share` of 1000 are taken: the looks that one more costs from there. */
static uint64_t looks_at(unsigned share, enum turn_parity parity)
{
    enum {
        PORTS = 16384,
        TURNS = 20000
    };
    struct turn_port port;
    struct turn_commons *c = make(49152, 65535, 1);
    struct rng rng = rng_of(7);
    for (unsigned n = 0; n < PORTS * share / 1000; n++)
        CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, rng_u64(&rng), &port), CT_OK);
    uint64_t before = turn_commons_probes(c);
    for (unsigned i = 0; i < TURNS; i++) {
        CHECK_EQ(turn_commons_take_port(c, 0, parity, rng_u64(&rng), &port), CT_OK);
        turn_commons_give_port(c, port);
    }
    uint64_t looks = (turn_commons_probes(c) - before) / TURNS;
    turn_commons_free(c);
    return looks;
}

/* Nine in ten ports taken cost some ten looks, and the last ones not many more. */
static void test_looks(void)
{
    CHECK(looks_at(10, TURN_ANY_PORT) <= 1);
    CHECK(looks_at(500, TURN_ANY_PORT) <= 2);
    CHECK(looks_at(900, TURN_ANY_PORT) <= 10);
    CHECK(looks_at(900, TURN_EVEN_PORT) <= 17);
    CHECK(looks_at(990, TURN_ANY_PORT) <= 24);
    struct turn_commons *c = make(49152, 65535, 1);
    struct turn_port port;
    for (uint64_t i = 0; i < 16384; i++)
        CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, i, &port), CT_OK);
    uint64_t before = turn_commons_probes(c);
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, 1, &port), CT_ENOSPACE);
    CHECK_EQ(turn_commons_probes(c), before);
    turn_commons_free(c);
}

/* No port is much likelier than others, also where most are taken (RFC 6056 §3.3). */
static void test_spread(void)
{
    enum {
        PORTS = 100,
        LEFT = 10,
        TURNS = 20000
    };
    struct turn_commons *c = make(50000, 50000 + PORTS - 1, 1);
    struct turn_port port, held[PORTS];
    unsigned hits[PORTS] = {0};
    struct rng rng = rng_of(9);
    for (uint32_t n = 0; n < PORTS - LEFT; n++)
        CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, rng_u64(&rng), &held[n]), CT_OK);
    for (uint32_t i = 0; i < TURNS; i++) {
        CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, rng_u64(&rng), &port), CT_OK);
        hits[port.port - 50000]++;
        turn_commons_give_port(c, port);
    }
    for (uint32_t i = 0; i < PORTS; i++)
        CHECK(hits[i] == 0 || (hits[i] > TURNS / LEFT / 3 && hits[i] < TURNS / LEFT * 3));
    turn_commons_free(c);
}

static void test_pairs(void)
{
    struct turn_commons *c = make(50001, 50006, 1);
    struct turn_port a, b, none;
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_EVEN_PORT_AND_NEXT, 1, &a), CT_OK);
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_EVEN_PORT_AND_NEXT, 1, &b), CT_OK);
    CHECK(a.port % 2 == 0 && b.port % 2 == 0 && a.port != b.port);
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_EVEN_PORT_AND_NEXT, 1, &none), CT_ENOSPACE);
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_EVEN_PORT, 1, &none), CT_OK);
    CHECK_EQ(none.port, 50006);
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_EVEN_PORT, 1, &none), CT_ENOSPACE);
    CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, 1, &none), CT_OK);
    CHECK_EQ(none.port, 50001);
    turn_commons_free(c);
}

static void test_reservations(void)
{
    struct turn_commons *c = make(50000, 59999, 1);
    struct turn_port port, got;
    uint8_t token[TURN_TOKEN_SIZE] = {0};
    for (unsigned i = 0; i < TURN_RESERVATIONS_MAX; i++) {
        CHECK_EQ(turn_commons_take_port(c, 0, TURN_ANY_PORT, i, &port), CT_OK);
        token[0] = (uint8_t)i;
        token[1] = (uint8_t)(i >> 8);
        CHECK_EQ(turn_commons_reserve(c, port, token, 1000 + i), CT_OK);
    }
    CHECK_EQ(turn_commons_reserve(c, port, token, 1000), CT_ENOSPACE);
    CHECK_EQ(turn_commons_redeem(c, token, &got), CT_OK);
    CHECK_EQ(got.port, port.port);
    CHECK_EQ(turn_commons_redeem(c, token, &got), CT_EMISSING);
    CHECK(turn_commons_port_used(c, got)); /* the redeemer's now */
    turn_commons_expire(c, 1000);
    token[0] = token[1] = 0;
    CHECK_EQ(turn_commons_redeem(c, token, &got), CT_EMISSING);
    token[0] = 1;
    CHECK_EQ(turn_commons_redeem(c, token, &got), CT_OK);
    turn_commons_expire(c, UINT64_MAX);
    token[0] = 2;
    CHECK_EQ(turn_commons_redeem(c, token, &got), CT_EMISSING);
    turn_commons_free(c);
}

/* Against a plain array, with users whose slots collide. */
static void test_users(void)
{
    enum {
        USERS = 40,
        LIMIT = 64
    };
    struct turn_commons *c = make(50000, 50001, LIMIT);
    unsigned counts[USERS] = {0}, total = 0;
    uint64_t random = 1;
    for (int i = 0; i < 200000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        unsigned u = (unsigned)(random >> 33) % USERS;
        uint64_t user = (uint64_t)(u % 5) + ((uint64_t)u << 32); /* few home slots */
        if (random >> 63) {
            enum ct_err want = total == LIMIT   ? CT_ENOSPACE
                               : counts[u] >= 3 ? CT_EFORBIDDEN
                                                : CT_OK;
            CHECK_EQ(turn_commons_enter(c, user, 3), want);
            counts[u] += want == CT_OK;
            total += want == CT_OK;
        } else if (counts[u]) {
            turn_commons_leave(c, user);
            counts[u]--;
            total--;
        }
    }
    for (unsigned u = 0; u < USERS; u++) {
        uint64_t user = (uint64_t)(u % 5) + ((uint64_t)u << 32);
        while (counts[u]--)
            turn_commons_leave(c, user);
        turn_commons_leave(c, user); /* one too many is ignored */
    }
    for (uint64_t i = 0; i < LIMIT; i++)
        CHECK_EQ(turn_commons_enter(c, i, 1), CT_OK);
    CHECK_EQ(turn_commons_enter(c, 1000, 1), CT_ENOSPACE);
    turn_commons_free(c);
}

static void test_user_hash(void)
{
    struct turn_commons *c = make(50000, 50001, 1), *d = make(50000, 50001, 1);
    uint64_t alice = turn_commons_user(c, (const uint8_t *)"alice", 5);
    CHECK(alice == turn_commons_user(c, (const uint8_t *)"alice", 5));
    CHECK(alice != turn_commons_user(c, (const uint8_t *)"alicf", 5));
    CHECK(alice != turn_commons_user(d, (const uint8_t *)"alice", 5)); /* keyed */
    turn_commons_free(c);
    turn_commons_free(d);
    turn_commons_free(NULL);
}

/* A port that is taken is bound only once its taker says so; the neighbours are not touched. */
static void test_owners(void)
{
    struct turn_commons *c = make(50000, 50009, 1);
    static const struct turn_owner owners[] = {
        {.worker = 0, .alloc = 0},
        {.worker = TURN_WORKERS_MAX - 1, .alloc = (1u << 24) - 1},
        {.worker = 5, .alloc = 7},
    };
    struct turn_owner got;
    struct turn_port port;
    CHECK_EQ(turn_commons_take_port(c, 1, TURN_ANY_PORT, 1, &port), CT_OK);
    CHECK(!turn_commons_owner(c, port, &got));
    for (size_t i = 0; i < sizeof owners / sizeof *owners; i++) {
        turn_commons_bind(c, port, owners[i]);
        CHECK(turn_commons_owner(c, port, &got));
        CHECK(got.worker == owners[i].worker && got.alloc == owners[i].alloc);
    }
    for (uint8_t relay = 0; relay < 2; relay++)
        for (uint32_t n = 0; n <= UINT16_MAX; n++) {
            struct turn_port other = {.relay = relay, .port = (uint16_t)n};
            bool same = other.relay == port.relay && other.port == port.port;
            CHECK_EQ(turn_commons_owner(c, other, &got), same);
        }
    turn_commons_unbind(c, port);
    CHECK(!turn_commons_owner(c, port, &got));
    CHECK(turn_commons_port_used(c, port));
    turn_commons_free(c);
}

/* Who has an allocation, on whichever worker; and who may have one. */
static void test_grants(void)
{
    struct turn_commons *c = make(50000, 50009, 4);
    CHECK(turn_commons_grants(c) == NULL);
    CHECK(!turn_commons_busy(c, 7));
    CHECK_EQ(turn_commons_enter(c, 7, 0), CT_OK);
    CHECK_EQ(turn_commons_enter(c, 7, 0), CT_OK);
    CHECK(turn_commons_busy(c, 7) && !turn_commons_busy(c, 8));
    turn_commons_leave(c, 7);
    CHECK(turn_commons_busy(c, 7));
    turn_commons_leave(c, 7);
    CHECK(!turn_commons_busy(c, 7));
    uint64_t room = turn_commons_room(c, (const uint8_t *)"lobby", 5);
    CHECK(room && room == turn_commons_room(c, (const uint8_t *)"lobby", 5));
    CHECK(room != turn_commons_room(c, (const uint8_t *)"lobb", 4));
    turn_commons_free(c);
    struct turn_config config;
    turn_config_defaults(&config);
    config.admission = TURN_ADMISSION_PRESENCE;
    config.max_grants = 3;
    c = turn_commons_new(&config);
    CHECK(c && turn_grants_count(turn_commons_grants(c)) == 0);
    turn_commons_free(c);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_every_port_once), CHECK_TEST(test_tcp_ports), CHECK_TEST(test_tcp_peers),
        CHECK_TEST(test_looks),           CHECK_TEST(test_spread),    CHECK_TEST(test_pairs),
        CHECK_TEST(test_reservations),    CHECK_TEST(test_users),     CHECK_TEST(test_user_hash),
        CHECK_TEST(test_owners),          CHECK_TEST(test_grants),
    };
    return CHECK_RUN(tests);
}
