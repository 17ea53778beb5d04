#include "rig.h"

#ifdef __linux__
#include <malloc.h>
#endif
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

/* The rig, and a plain socket outside that is client or peer. */
struct world {
    struct rig r;
    int outside;
    struct addr outside_at;
};

static void world_init(struct world *w, const char *ip)
{
    rig_init(&w->r);
    rig_listen(&w->r, ip, NULL);
    CHECK_EQ(udp_start(w->r.udp, w->r.server), 0);
    w->outside = rig_socket(w->r.listener.family == ADDR_V4 ? "127.0.0.1:0" : "[::1]:0");
    w->outside_at = rig_local(w->outside);
}

static void world_free(struct world *w)
{
    rig_free(&w->r);
    close(w->outside);
}

static struct turn_relay *open_relay(struct rig *r, struct addr *at)
{
    struct turn_relay *relay = NULL;
    int fd = -1;

    /* A free port, as the engine would find one. */
    *at = addr_of("127.0.0.1");
    CHECK_EQ(sock_open_relay(at, &fd), 0);
    *at = rig_local(fd);
    CHECK_EQ(udp_relay_open(r->udp, at, 0, &relay), CT_EINUSE);
    close(fd);
    CHECK_EQ(udp_relay_open(r->udp, at, 0, &relay), CT_OK);
#ifdef __linux__
    CHECK(malloc_usable_size(relay) <= 320); /* part of what test_turn_state.c adds up */
#endif
    return relay;
}

/* ---- tests ---- */

/* Whatever is queued together arrives whole, from the right port and in the order of that port. */
static void test_sends_to_peers(void)
{
    enum {
        PACKETS = 500 /* several times what is ever queued */
    };
    static uint8_t bytes[PACKETS][3];
    struct world w;
    struct addr at[2], from;
    struct turn_relay *relays[2];
    uint8_t got[16];

    world_init(&w, "127.0.0.1:0");
    for (size_t i = 0; i < 2; i++)
        relays[i] = open_relay(&w.r, &at[i]);
    for (size_t i = 0; i < PACKETS; i++) {
        /* runs through one socket, and single packets; every 7th must not be fragmented */
        bytes[i][0] = (uint8_t)(i >> 8);
        bytes[i][1] = (uint8_t)i;
        bytes[i][2] = i / 5 % 3 == 0;
        udp_to_peer(w.r.udp, relays[bytes[i][2]], &w.outside_at, span_of(bytes[i], 3),
                    i % 7 ? 0 : TURN_DONT_FRAGMENT);
    }
    udp_flush(w.r.udp);
    size_t next[2] = {0};
    for (size_t i = 0; i < PACKETS; i++) {
        CHECK_EQ(rig_recv(w.outside, got, sizeof got, &from), 3);
        size_t which = addr_eq(&from, &at[1]);
        while (next[which] < PACKETS && bytes[next[which]][2] != which)
            next[which]++;
        CHECK(addr_eq(&from, &at[which]) && next[which] < PACKETS);
        CHECK_BYTES(got, bytes[next[which]++], 3);
    }
    CHECK_EQ(rig_counter(&w.r, TURN_N_DROP_SEND), 0);
    for (size_t i = 0; i < 2; i++)
        udp_relay_close(w.r.udp, relays[i]);
    world_free(&w);
}

/* A mark belongs to the memory of what is being handled, and to nothing else. */
static void test_marks_belong_to_memory(void)
{
    static const uint8_t ring[64], other[64];
    struct span data = span_of(ring + 8, 48), part = span_of(ring + 12, 8);
    bool told = strcmp(udp_backend(), "mmsg") == 0;

    for (int keep = 0; keep < 2; keep++) {
        struct rig r;
        rig_init(&r);
        if (keep)
            udp_keep_dscp(r.udp);
        CHECK_EQ(udp_tos(r.udp, part), 0);
        udp_handed(r.udp, data, 0xBA);
        CHECK_EQ(udp_tos(r.udp, part), keep && told ? 0xBA : 0);
        CHECK_EQ(udp_tos(r.udp, span_of(ring + 56, 0)), keep && told ? 0xBA : 0);
        CHECK_EQ(udp_tos(r.udp, span_of(ring, 4)), 0);
        CHECK_EQ(udp_tos(r.udp, span_of(other, 8)), 0);
        CHECK_EQ(udp_tos(r.udp, span_of(NULL, 0)), 0);
        udp_handed(r.udp, span_of(other, 64), 0);
        CHECK_EQ(udp_tos(r.udp, part), 0);
        rig_free(&r);
    }
}

/* What was queued before a socket is closed still leaves; then its port is free. */
static void test_closes_a_relay_at_once(void)
{
    struct world w;
    struct addr at, from;
    uint8_t got[16];
    int fd = -1;

    world_init(&w, "127.0.0.1:0");
    struct turn_relay *relay = open_relay(&w.r, &at);
    udp_to_peer(w.r.udp, relay, &w.outside_at, span_str("last"), 0);
    udp_relay_close(w.r.udp, relay);
    CHECK_EQ(rig_recv(w.outside, got, sizeof got, &from), 4);
    CHECK_EQ(sock_open_relay(&at, &fd), 0);
    close(fd);
    world_free(&w);
}

/* A datagram that the system refuses is counted, and takes no other with it. */
static void test_counts_what_cannot_be_sent(void)
{
    static uint8_t huge[65508]; /* one byte more than UDP over IPv4 carries */
    struct world w;
    struct addr at, from, nowhere = addr_of("127.0.0.1:0");
    uint8_t got[16];

    world_init(&w, "127.0.0.1:0");
    struct turn_relay *relay = open_relay(&w.r, &at);
    udp_to_peer(w.r.udp, relay, &w.outside_at, span_str("1"), 0);
    udp_to_peer(w.r.udp, relay, &w.outside_at, span_of(huge, sizeof huge), 0);
    udp_to_peer(w.r.udp, relay, &w.outside_at, span_str("2"), 0);
    udp_to_peer(w.r.udp, relay, &nowhere, span_str("?"), 0);
    udp_to_peer(w.r.udp, relay, &w.outside_at, span_str("3"), 0);
    udp_flush(w.r.udp);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(rig_recv(w.outside, got, sizeof got, &from), 1);
        CHECK_EQ(got[0], '0' + i);
    }
    CHECK_EQ(rig_counter(&w.r, TURN_N_DROP_SEND), 2);
    udp_relay_close(w.r.udp, relay);
    world_free(&w);
}

/* Messages of the engine's own stay as they are until they are sent, however many there are. */
static void test_keeps_reserved_messages(void)
{
    enum {
        MESSAGES = 300
    };
    static uint8_t got[TURN_REPLY_MAX];
    struct world w;
    struct addr from;

    world_init(&w, "127.0.0.1:0");
    struct turn_tuple to = {.client = w.outside_at, .server = w.r.listener};
    for (int i = 0; i < MESSAGES; i++) {
        uint8_t *message = udp_reserve(w.r.udp, TURN_REPLY_MAX);
        memset(message, i % 251, TURN_REPLY_MAX);
        struct turn_out out = {.head = span_of(message, TURN_REPLY_MAX)};
        udp_to_client(w.r.udp, &to, &out);
    }
    udp_flush(w.r.udp);
    for (int i = 0; i < MESSAGES; i++) {
        CHECK_EQ(rig_recv(w.outside, got, sizeof got, &from), TURN_REPLY_MAX);
        CHECK_EQ(got[0], i % 251);
        CHECK_EQ(got[TURN_REPLY_MAX - 1], i % 251);
        CHECK(addr_eq(&from, &w.r.listener));
    }
    world_free(&w);
}

static const uint8_t binding[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1,  2,
                                    3, 4, 5, 6, 7,    8,    9,    10,   11, 12};

static void check_bindings(const char *ip)
{
    enum {
        REQUESTS = 200
    };
    uint8_t got[256];
    struct world w;
    struct addr from;

    world_init(&w, ip);
    for (int i = 0; i < REQUESTS; i++)
        rig_send(w.outside, &w.r.listener, binding, sizeof binding);
    rig_run_until(&w.r, TURN_N_BINDINGS, REQUESTS);
    for (int i = 0; i < REQUESTS; i++) {
        ssize_t n = rig_recv(w.outside, got, sizeof got, &from);
        CHECK(n > (ssize_t)sizeof binding);
        CHECK_BYTES(got + 4, binding + 4, 16);
        CHECK(addr_eq(&from, &w.r.listener));
    }
    world_free(&w);
}

static void test_answers_clients(void)
{
    check_bindings("127.0.0.1:0");
    check_bindings("[::1]:0");
}

static void test_receives_every_size(void)
{
    static uint8_t bytes[65507];
    static const size_t sizes[] = {0, 1, 2047, 65507};
    struct world w;

    world_init(&w, "127.0.0.1:0");
    memset(bytes, 0xff, sizeof bytes); /* nothing that the engine knows */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        rig_send(w.outside, &w.r.listener, bytes, sizes[i]);
    rig_run_until(&w.r, TURN_N_DROP_MALFORMED, sizeof sizes / sizeof *sizes);
    CHECK_EQ(rig_counter(&w.r, TURN_N_DROP_RECEIVE), 0);
    world_free(&w);
}

/* Data for an allocation that the engine does not know is the engine's to drop. */
static void test_receives_from_peers(void)
{
    enum {
        PACKETS = 200 /* fewer than the kernel's smallest default buffer holds */
    };
    struct world w;
    struct addr at;

    world_init(&w, "127.0.0.1:0");
    struct turn_relay *relay = open_relay(&w.r, &at);
    for (int i = 0; i < PACKETS; i++)
        rig_send(w.outside, &at, "data", 4);
    rig_run_until(&w.r, TURN_N_DROP_NO_ALLOCATION, PACKETS);
    udp_relay_close(w.r.udp, relay);
    world_free(&w);
}

int main(void)
{
    printf("# UDP by %s\n", udp_backend());
    const struct check_test tests[] = {
        CHECK_TEST(test_sends_to_peers),
        CHECK_TEST(test_closes_a_relay_at_once),
        CHECK_TEST(test_counts_what_cannot_be_sent),
        CHECK_TEST(test_keeps_reserved_messages),
        CHECK_TEST(test_answers_clients),
        CHECK_TEST(test_receives_every_size),
        CHECK_TEST(test_receives_from_peers),
        CHECK_TEST(test_marks_belong_to_memory),
    };
    return CHECK_RUN(tests);
}
