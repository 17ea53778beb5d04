#include "check.h"
#include "core/turn_frame.h"
#include "relay/conn.h"
#include "relay/now.h"
#include "relay/sock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

/*
 * A worker's connections with a real engine behind them and a real client at the other end; only
 * the engine's effects are the test's own.
 */
struct rig {
    struct turn_io io;
    uv_loop_t loop;
    struct udp *udp;
    struct stream_config config;
    struct gate *gate;
    struct streams *streams;
    struct crypto *crypto;
    struct turn_commons *commons;
    struct turn_config turn;
    struct turn_server *server;
    struct addr listener;
};

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
    streams_to_client(rig_of(io)->streams, to, out);
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

static struct addr addr_of(const char *text)
{
    struct addr a = {0};

    CHECK_EQ(addr_parse(text, strlen(text), &a), CT_OK);
    return a;
}

static void start_engine(struct rig *r)
{
    turn_config_defaults(&r->turn);
    r->turn.max_allocations = 16;
    r->turn.relays[0].bind = r->turn.relays[0].external = addr_of("127.0.0.1");
    r->turn.relay_count = 1;
    r->crypto = crypto_new();
    r->commons = turn_commons_new(&r->turn);
    struct turn_server_setup setup = {
        .config = &r->turn, .commons = r->commons, .crypto = r->crypto, .io = &r->io};
    r->server = turn_server_new(&setup, now_of(&r->loop));
    CHECK(r->crypto && r->commons && r->server);
}

static void rig_init(struct rig *r)
{
    int fd = -1;

    memset(r, 0, sizeof *r);
    r->io.ops = &ops;
    r->config =
        (struct stream_config){.max_connections = 4, .source_connections = 3, .connection_idle = 1};
    CHECK_EQ(uv_loop_init(&r->loop), 0);
    r->udp = udp_new(&r->loop);
    r->gate = gate_new(r->config.max_connections);
    start_engine(r);
    CHECK_EQ(udp_start(r->udp, r->server), 0);
    const struct streams_setup setup = {
        .loop = &r->loop, .config = &r->config, .gate = r->gate, .udp = r->udp};
    r->streams = streams_new(&setup);
    CHECK(r->udp && r->gate && r->streams);
    r->listener = addr_of("127.0.0.1:0");
    CHECK_EQ(sock_open_acceptor(&r->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(streams_listen(r->streams, fd, &r->listener, TURN_TCP), 0);
    CHECK_EQ(streams_start(r->streams, r->server), 0);
}

static void rig_free(struct rig *r)
{
    turn_server_free(r->server, now_of(&r->loop));
    streams_close(r->streams);
    udp_close(r->udp);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&r->loop), 0);
    CHECK_EQ(r->streams->small.out, 0);
    CHECK_EQ(r->streams->large.out, 0);
    CHECK_EQ(r->streams->conns.used, 0);
    streams_free(r->streams);
    udp_free(r->udp);
    gate_free(r->gate);
    turn_commons_free(r->commons);
    crypto_free(r->crypto);
}

static uint64_t counted(struct rig *r, enum turn_counter which)
{
    return atomic_load(&turn_server_counters(r->server)->n[which]);
}

static void turn(struct rig *r)
{
    uv_run(&r->loop, UV_RUN_NOWAIT);
    if (streams_deadline(r->streams) <= uv_now(&r->loop))
        streams_expire(r->streams);
    streams_flush(r->streams);
}

static void run_until(struct rig *r, enum turn_counter which, uint64_t value)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    while (counted(r, which) < value && uv_hrtime() < give_up)
        turn(r);
    CHECK_EQ(counted(r, which), value);
    turn(r);
}

static int client_of(struct rig *r)
{
    struct timeval patience = {.tv_sec = 5};
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &r->listener);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQ(connect(fd, &sa.sa, len), 0);
    return fd;
}

static const uint8_t binding[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 't', 'i', 'd'};

static void say(int fd, const void *bytes, size_t n)
{
    CHECK_EQ(send(fd, bytes, n, 0), n);
}

static bool ended(int fd)
{
    uint8_t byte;

    ssize_t n = recv(fd, &byte, 1, 0);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Messages in one piece, and in as many pieces as they have bytes. */
static void test_takes_messages_in_any_pieces(void)
{
    struct rig r;
    uint8_t many[5 * sizeof binding], answer[1024];

    rig_init(&r);
    int fd = client_of(&r);
    for (size_t i = 0; i < 5; i++)
        memcpy(many + i * sizeof binding, binding, sizeof binding);
    say(fd, many, sizeof many);
    run_until(&r, TURN_N_BINDINGS, 5);
    for (size_t i = 0; i < sizeof binding; i++) {
        say(fd, binding + i, 1);
        turn(&r);
    }
    run_until(&r, TURN_N_BINDINGS, 6);
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    size_t size = 0, answers = 0;
    for (size_t at = 0; n > 0 && at < (size_t)n; at += size, answers++) {
        CHECK_EQ(turn_frame_size(answer + at, (size_t)n - at, &size), CT_OK);
        CHECK(size > 0);
        if (size == 0)
            break;
    }
    CHECK_EQ(answers, 6);
    close(fd);
    rig_free(&r);
}

static void test_closes_what_is_out_of_step(void)
{
    struct rig r;

    rig_init(&r);
    int fd = client_of(&r), other = client_of(&r);
    say(fd, binding, sizeof binding);
    say(fd, "GET /", 5);
    run_until(&r, TURN_N_CONN_BROKEN, 1);
    CHECK_EQ(counted(&r, TURN_N_BINDINGS), 1);
    /* no long frames without an allocation */
    say(other, (const uint8_t[]){0x40, 0, 0xff, 0xf0}, 4);
    run_until(&r, TURN_N_CONN_BROKEN, 2);
    CHECK(ended(other));
    close(fd);
    close(other);
    rig_free(&r);
}

/* Nothing grows with what a client does not read. */
static void test_drops_whole_frames(void)
{
    enum {
        FRAMES = 20000,
        PAYLOAD = 1001
    };
    static uint8_t frame[4 + PAYLOAD], got[1 << 16];
    struct rig r;
    size_t have = 0, frames = 0;

    rig_init(&r);
    int fd = client_of(&r);
    say(fd, binding, sizeof binding);
    run_until(&r, TURN_N_BINDINGS, 1);
    CHECK(recv(fd, got, sizeof got, 0) > 20);
    const struct turn_tuple tuple = {.link = 0, .transport = TURN_TCP};
    memcpy(frame, (const uint8_t[]){0x40, 1, PAYLOAD >> 8, PAYLOAD & 0xff}, 4);
    const struct turn_out out = {.head = span_of(frame, 4), .body = span_of(frame + 4, PAYLOAD)};
    for (int i = 0; i < FRAMES; i++) {
        streams_to_client(r.streams, &tuple, &out);
        if (i % 10 == 0)
            turn(&r);
    }
    uint64_t dropped = counted(&r, TURN_N_DROP_QUEUE);
    CHECK(dropped > 0);
    CHECK_EQ(r.streams->large.out, 1);
    /* an answer still finds room */
    say(fd, binding, sizeof binding);
    run_until(&r, TURN_N_BINDINGS, 2);
    CHECK_EQ(counted(&r, TURN_N_DROP_QUEUE), dropped);

    while (frames < FRAMES - dropped) {
        turn(&r);
        ssize_t n = recv(fd, got + have, sizeof got - have, MSG_DONTWAIT);
        have += n > 0 ? (size_t)n : 0;
        size_t at = 0, size = 0;
        while (turn_frame_size(got + at, have - at, &size) == CT_OK && size > 0 &&
               size <= have - at) {
            if (got[at] == 0x40) {
                CHECK_EQ(size, 4 + PAYLOAD + 3);
                frames++;
            }
            at += size;
        }
        memmove(got, got + at, have -= at);
    }
    CHECK_EQ(frames, FRAMES - dropped);
    close(fd);
    rig_free(&r);
}

/* Clients that are gone while there is something for them, some with a reset. */
static void test_clients_that_vanish(void)
{
    static const uint8_t frame[1000] = {0x40, 1, 996 >> 8, 996 & 0xff};
    const struct turn_out out = {.head = span_of(frame, sizeof frame)};
    struct linger now = {.l_onoff = 1};
    struct rig r;

    rig_init(&r);
    for (unsigned round = 1; round <= 40; round++) {
        int fd = client_of(&r);
        say(fd, binding, sizeof binding);
        run_until(&r, TURN_N_BINDINGS, round);
        const struct conn *c = slab_at(&r.streams->conns, 0);
        CHECK(c->open);
        if (round % 2)
            CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        close(fd);
        for (unsigned i = 0; i < round * 10; i++)
            streams_to_client(r.streams, &c->tuple, &out);
        for (int i = 0; i < 10000 && r.streams->conns.used; i++)
            turn(&r);
        CHECK_EQ(r.streams->conns.used, 0);
        CHECK(r.streams->dirty == NULL);
    }
    rig_free(&r);
}

static void test_limits(void)
{
    struct rig r;
    int fds[4];

    rig_init(&r);
    for (int i = 0; i < 4; i++)
        fds[i] = client_of(&r);
    run_until(&r, TURN_N_CONN_REFUSED, 1);
    CHECK_EQ(counted(&r, TURN_N_CONNECTIONS), 3);
    say(fds[0], "\0\1\0", 3); /* half a header is no sign of life */
    run_until(&r, TURN_N_CONN_IDLE, 3);
    for (int i = 0; i < 4; i++) {
        CHECK(ended(fds[i]));
        close(fds[i]);
    }
    CHECK_EQ(streams_deadline(r.streams), UINT64_MAX);
    int again = client_of(&r);
    run_until(&r, TURN_N_CONNECTIONS, 4);
    close(again);
    rig_free(&r);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_takes_messages_in_any_pieces),
        CHECK_TEST(test_closes_what_is_out_of_step),
        CHECK_TEST(test_drops_whole_frames),
        CHECK_TEST(test_clients_that_vanish),
        CHECK_TEST(test_limits),
    };
    return CHECK_RUN(tests);
}
