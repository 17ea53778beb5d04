#include "check.h"
#include "relay/now.h"
#include "relay/sock.h"
#include "relay/udp.h"

#ifdef __linux__
#include <malloc.h>
#endif
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

/*
 * A worker's sockets with a real engine behind them and real sockets around them; only the engine's
 * effects are the test's own, so that it sees what would be done.
 */
struct rig {
    struct turn_io io;
    uv_loop_t loop;
    struct udp *udp;
    struct crypto *crypto;
    struct turn_commons *commons;
    struct turn_config config;
    struct turn_server *server;
    struct addr listener;
    int outside; /* a plain socket: client or peer */
    struct addr outside_at;
};

/* ---- effects: only what a Binding request needs ---- */

static struct rig *rig_of(struct turn_io *io)
{
    return (struct rig *)(void *)((char *)io - offsetof(struct rig, io));
}

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    return udp_reserve(rig_of(io)->udp, size);
}

static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    udp_to_client(rig_of(io)->udp, to, out);
}

static void io_random(struct turn_io *io, void *out, size_t n)
{
    (void)io;
    memset(out, 7, n);
}

static void io_nothing(struct turn_io *io)
{
    (void)io;
}

static const struct turn_io_ops ops = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .random = io_random,
    .lock = io_nothing,
    .unlock = io_nothing,
};

/* ---- the rig ---- */

static struct addr addr_of(const char *text)
{
    struct addr a = {0};

    CHECK_EQ(addr_parse(text, strlen(text), &a), CT_OK);
    return a;
}

static struct addr local(int fd)
{
    union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof sa;

    CHECK_EQ(getsockname(fd, &sa.sa, &len), 0);
    return sock_to_addr(&sa);
}

/* Blocks for at most two seconds: what is sent over loopback is there at once. */
static int open_outside(const char *ip)
{
    struct timeval patience = {.tv_sec = 2};
    struct addr at = addr_of(ip);
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &at);
    int fd = socket(sa.sa.sa_family, SOCK_DGRAM, 0), large = 4 << 20;

    CHECK_EQ(bind(fd, &sa.sa, len), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large), 0);
    return fd;
}

static void rig_init(struct rig *r, const char *ip)
{
    int fd = -1;

    memset(r, 0, sizeof *r);
    r->io.ops = &ops;
    turn_config_defaults(&r->config);
    r->config.max_allocations = 16;
    r->config.secrets[0] = (struct turn_secret){.bytes = "s", .len = 1};
    r->config.secret_count = 1;
    r->config.relays[0].bind = r->config.relays[0].external = addr_of("127.0.0.1");
    r->config.relay_count = 1;
    CHECK_EQ(uv_loop_init(&r->loop), 0);
    r->crypto = crypto_new();
    r->commons = turn_commons_new(&r->config);
    r->udp = udp_new(&r->loop);
    struct turn_server_setup setup = {
        .config = &r->config, .commons = r->commons, .crypto = r->crypto, .io = &r->io};
    r->server = turn_server_new(&setup, now_of(&r->loop));
    CHECK(r->crypto && r->commons && r->udp && r->server);
    r->listener = addr_of(ip);
    CHECK_EQ(sock_open_listener(&r->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(udp_listen(r->udp, fd, &r->listener, NULL), 0);
    CHECK_EQ(udp_start(r->udp, r->server), 0);
    r->outside = open_outside(r->listener.family == ADDR_V4 ? "127.0.0.1:0" : "[::1]:0");
    r->outside_at = local(r->outside);
}

static void rig_free(struct rig *r)
{
    turn_server_free(r->server, now_of(&r->loop));
    udp_close(r->udp);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&r->loop), 0);
    udp_free(r->udp);
    turn_commons_free(r->commons);
    crypto_free(r->crypto);
    close(r->outside);
}

static uint64_t counted(struct rig *r, enum turn_counter which)
{
    return atomic_load(&turn_server_counters(r->server)->n[which]);
}

/* Turns the loop until a counter has that value. */
static void run_until(struct rig *r, enum turn_counter which, uint64_t value)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(2000000000);

    while (counted(r, which) < value && uv_hrtime() < give_up) {
        uv_run(&r->loop, UV_RUN_NOWAIT);
        udp_flush(r->udp);
    }
    CHECK_EQ(counted(r, which), value);
}

static ssize_t outside_recv(struct rig *r, void *buf, size_t size, struct addr *from)
{
    union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof sa;
    ssize_t n = recvfrom(r->outside, buf, size, 0, &sa.sa, &len);

    *from = sock_to_addr(&sa);
    return n;
}

static void outside_send(struct rig *r, const struct addr *to, const void *data, size_t n)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, to);

    CHECK_EQ(sendto(r->outside, data, n, 0, &sa.sa, len), n);
}

static struct turn_relay *open_relay(struct rig *r, struct addr *at)
{
    struct turn_relay *relay = NULL;
    int fd = -1;

    /* A free port, as the engine would find one. */
    *at = addr_of("127.0.0.1");
    CHECK_EQ(sock_open_relay(at, &fd), 0);
    *at = local(fd);
    CHECK_EQ(udp_relay_open(r->udp, at, 0, &relay), CT_EINUSE);
    close(fd);
    CHECK_EQ(udp_relay_open(r->udp, at, 0, &relay), CT_OK);
#ifdef __linux__
    CHECK(malloc_usable_size(relay) <= 320); /* part of what test_turn_state.c adds up */
#endif
    return relay;
}

/* ---- tests ---- */

/* Whatever is queued together arrives whole, in order, from the right port. */
static void test_sends_to_peers(void)
{
    enum {
        PACKETS = 500 /* several times what is ever queued */
    };
    static uint8_t bytes[PACKETS][3];
    struct rig r;
    struct addr at[2], from;
    struct turn_relay *relays[2];
    uint8_t got[16];

    rig_init(&r, "127.0.0.1:0");
    for (size_t i = 0; i < 2; i++)
        relays[i] = open_relay(&r, &at[i]);
    for (size_t i = 0; i < PACKETS; i++) {
        /* runs through one socket, and single packets; every 7th must not be fragmented */
        bytes[i][0] = (uint8_t)(i >> 8);
        bytes[i][1] = (uint8_t)i;
        bytes[i][2] = i / 5 % 3 == 0;
        udp_to_peer(r.udp, relays[bytes[i][2]], &r.outside_at, span_of(bytes[i], 3),
                    i % 7 ? 0 : TURN_DONT_FRAGMENT);
    }
    udp_flush(r.udp);
    for (size_t i = 0; i < PACKETS; i++) {
        CHECK_EQ(outside_recv(&r, got, sizeof got, &from), 3);
        CHECK_BYTES(got, bytes[i], 3);
        CHECK(addr_eq(&from, &at[bytes[i][2]]));
    }
    CHECK_EQ(counted(&r, TURN_N_DROP_SEND), 0);
    for (size_t i = 0; i < 2; i++)
        udp_relay_close(r.udp, relays[i]);
    rig_free(&r);
}

/* What was queued before a socket is closed still leaves; then its port is free. */
static void test_closes_a_relay_at_once(void)
{
    struct rig r;
    struct addr at, from;
    uint8_t got[16];
    int fd = -1;

    rig_init(&r, "127.0.0.1:0");
    struct turn_relay *relay = open_relay(&r, &at);
    udp_to_peer(r.udp, relay, &r.outside_at, span_str("last"), 0);
    udp_relay_close(r.udp, relay);
    CHECK_EQ(outside_recv(&r, got, sizeof got, &from), 4);
    CHECK_EQ(sock_open_relay(&at, &fd), 0);
    close(fd);
    rig_free(&r);
}

/* A datagram that the system refuses is counted, and takes no other with it. */
static void test_counts_what_cannot_be_sent(void)
{
    static uint8_t huge[65508]; /* one byte more than UDP over IPv4 carries */
    struct rig r;
    struct addr at, from, nowhere = addr_of("127.0.0.1:0");
    uint8_t got[16];

    rig_init(&r, "127.0.0.1:0");
    struct turn_relay *relay = open_relay(&r, &at);
    udp_to_peer(r.udp, relay, &r.outside_at, span_str("1"), 0);
    udp_to_peer(r.udp, relay, &r.outside_at, span_of(huge, sizeof huge), 0);
    udp_to_peer(r.udp, relay, &r.outside_at, span_str("2"), 0);
    udp_to_peer(r.udp, relay, &nowhere, span_str("?"), 0);
    udp_to_peer(r.udp, relay, &r.outside_at, span_str("3"), 0);
    udp_flush(r.udp);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(outside_recv(&r, got, sizeof got, &from), 1);
        CHECK_EQ(got[0], '0' + i);
    }
    CHECK_EQ(counted(&r, TURN_N_DROP_SEND), 2);
    udp_relay_close(r.udp, relay);
    rig_free(&r);
}

/* Messages of the engine's own stay as they are until they are sent, however many there are. */
static void test_keeps_reserved_messages(void)
{
    enum {
        MESSAGES = 300
    };
    static uint8_t got[TURN_REPLY_MAX];
    struct rig r;
    struct addr from;

    rig_init(&r, "127.0.0.1:0");
    struct turn_tuple to = {.client = r.outside_at, .server = r.listener};
    for (int i = 0; i < MESSAGES; i++) {
        uint8_t *message = udp_reserve(r.udp, TURN_REPLY_MAX);
        memset(message, i % 251, TURN_REPLY_MAX);
        struct turn_out out = {.head = span_of(message, TURN_REPLY_MAX)};
        udp_to_client(r.udp, &to, &out);
    }
    udp_flush(r.udp);
    for (int i = 0; i < MESSAGES; i++) {
        CHECK_EQ(outside_recv(&r, got, sizeof got, &from), TURN_REPLY_MAX);
        CHECK_EQ(got[0], i % 251);
        CHECK_EQ(got[TURN_REPLY_MAX - 1], i % 251);
        CHECK(addr_eq(&from, &r.listener));
    }
    rig_free(&r);
}

static const uint8_t binding[20] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1,  2,
                                    3, 4, 5, 6, 7,    8,    9,    10,   11, 12};

static void check_bindings(const char *ip)
{
    enum {
        REQUESTS = 200
    };
    uint8_t got[256];
    struct rig r;
    struct addr from;

    rig_init(&r, ip);
    for (int i = 0; i < REQUESTS; i++)
        outside_send(&r, &r.listener, binding, sizeof binding);
    run_until(&r, TURN_N_BINDINGS, REQUESTS);
    for (int i = 0; i < REQUESTS; i++) {
        ssize_t n = outside_recv(&r, got, sizeof got, &from);
        CHECK(n > (ssize_t)sizeof binding);
        CHECK_BYTES(got + 4, binding + 4, 16);
        CHECK(addr_eq(&from, &r.listener));
    }
    rig_free(&r);
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
    struct rig r;

    rig_init(&r, "127.0.0.1:0");
    memset(bytes, 0xff, sizeof bytes); /* nothing that the engine knows */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        outside_send(&r, &r.listener, bytes, sizes[i]);
    run_until(&r, TURN_N_DROP_MALFORMED, sizeof sizes / sizeof *sizes);
    CHECK_EQ(counted(&r, TURN_N_DROP_RECEIVE), 0);
    rig_free(&r);
}

/* Data for an allocation that the engine does not know is the engine's to drop. */
static void test_receives_from_peers(void)
{
    enum {
        PACKETS = 200 /* fewer than the kernel's smallest default buffer holds */
    };
    struct rig r;
    struct addr at;

    rig_init(&r, "127.0.0.1:0");
    struct turn_relay *relay = open_relay(&r, &at);
    for (int i = 0; i < PACKETS; i++)
        outside_send(&r, &at, "data", 4);
    run_until(&r, TURN_N_DROP_NO_ALLOCATION, PACKETS);
    udp_relay_close(r.udp, relay);
    rig_free(&r);
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
    };
    return CHECK_RUN(tests);
}
