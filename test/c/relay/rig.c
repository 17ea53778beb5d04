#include "rig.h"

#include "idle_io.h"
#include "relay/conn.h"
#include "relay/now.h"
#include "relay/pipe_state.h"

#include <sys/time.h>

static struct rig *rig_of(struct turn_io *io)
{
    return (struct rig *)(void *)((char *)io - offsetof(struct rig, io));
}

/* ---- effects ---- */

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    return udp_reserve(rig_of(io)->udp, size);
}

static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    struct rig *r = rig_of(io);

    if (to->transport == TURN_UDP)
        udp_to_client(r->udp, to, out);
    else if (to->transport == TURN_DTLS)
        dtls_to_client(r->dtls, to, out);
    else
        streams_to_client(r->streams, to, out);
}

static void io_to_peer(struct turn_io *io, struct turn_relay *from, const struct addr *to,
                       struct span data, unsigned flags)
{
    udp_to_peer(rig_of(io)->udp, from, to, data, flags);
}

static enum ct_err io_relay_open(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_relay **out)
{
    return udp_relay_open(rig_of(io)->udp, at, alloc, out);
}

static void io_relay_close(struct turn_io *io, struct turn_relay *relay)
{
    udp_relay_close(rig_of(io)->udp, relay);
}

static void io_random(struct turn_io *io, void *out, size_t n)
{
    (void)io;
    CHECK_EQ(crypto_random(out, n), CT_OK);
}

static enum ct_err io_tcp_listen(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_acceptor **out)
{
    return pipes_listen(rig_of(io)->pipes, at, alloc, out);
}

static void io_tcp_unlisten(struct turn_io *io, struct turn_acceptor *acceptor)
{
    pipes_unlisten(rig_of(io)->pipes, acceptor);
}

static enum ct_err io_tcp_connect(struct turn_io *io, struct turn_acceptor *from,
                                  const struct addr *to, uint32_t tcp, struct turn_pipe **out)
{
    return pipes_connect(rig_of(io)->pipes, from, to, tcp, out);
}

static void io_tcp_join(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client)
{
    struct rig *r = rig_of(io);

    pipes_join(r->pipes, pipe, streams_join(r->streams, client, pipe));
}

static void io_tcp_close(struct turn_io *io, struct turn_pipe *pipe)
{
    pipes_close_one(rig_of(io)->pipes, pipe);
}

static bool io_tcp_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *client)
{
    return streams_hand_over(rig_of(io)->streams, worker, client);
}

static const struct turn_io_ops own = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .to_peer = io_to_peer,
    .relay_open = io_relay_open,
    .relay_close = io_relay_close,
    .random = io_random,
    .tcp_listen = io_tcp_listen,
    .tcp_unlisten = io_tcp_unlisten,
    .tcp_connect = io_tcp_connect,
    .tcp_join = io_tcp_join,
    .tcp_close = io_tcp_close,
    .tcp_hand_over = io_tcp_hand_over,
};

/* ---- life ---- */

static void keep_parcel(struct stream_exit *exit, struct parcel *parcel)
{
    struct rig *r = (struct rig *)(void *)((char *)exit - offsetof(struct rig, exit));

    CHECK(r->parcel == NULL);
    r->parcel = parcel;
}

void rig_configure(struct turn_config *config)
{
    turn_config_defaults(config);
    config->max_allocations = 16;
    snprintf(config->realm, sizeof config->realm, "example.org");
    config->secrets[0] = (struct turn_secret){.bytes = "north", .len = 5};
    config->secret_count = 1;
    config->relays[0].bind = config->relays[0].external = addr_of("127.0.0.1");
    config->relays[1].bind = config->relays[1].external = addr_of("::1");
    config->relay_count = 2;
    spell_allow(config, "127.0.0.0/8");
    spell_allow(config, "::1/128");
}

void rig_init_worker(struct rig *r, uint8_t number)
{
    memset(r, 0, sizeof *r);
    r->ops = idle_io_fill(own);
    r->io.ops = &r->ops;
    r->exit.send = keep_parcel;
    r->worker = number;
    rig_configure(&r->turn);
    CHECK_EQ(uv_loop_init(&r->loop), 0);
    r->crypto = crypto_new();
    r->commons = turn_commons_new(&r->turn);
    r->udp = udp_new(&r->loop);
    struct turn_server_setup setup = {.config = &r->turn,
                                      .commons = r->commons,
                                      .crypto = r->crypto,
                                      .io = &r->io,
                                      .worker = number};
    r->server = turn_server_new(&setup, now_of(&r->loop));
    CHECK(r->crypto && r->commons && r->udp && r->server);
}

void rig_init(struct rig *r)
{
    rig_init_worker(r, 0);
}

int rig_listen(struct rig *r, const char *at, struct udp_input *input)
{
    int fd = -1;

    r->listener = addr_of(at);
    CHECK_EQ(sock_open_listener(&r->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(udp_listen(r->udp, fd, &r->listener, input), 0);
    return fd;
}

void rig_listen_tcp(struct rig *r)
{
    int fd = -1;

    r->gate = gate_new(r->config.max_connections);
    const struct streams_setup setup = {.loop = &r->loop,
                                        .config = &r->config,
                                        .gate = r->gate,
                                        .udp = r->udp,
                                        .worker = r->worker,
                                        .exit = &r->exit};
    r->streams = streams_new(&setup);
    r->pipes = pipes_new(&r->loop);
    CHECK(r->gate && r->streams && r->pipes);
    pipes_start(r->pipes, r->server);
    r->listener = addr_of("127.0.0.1:0");
    CHECK_EQ(sock_open_acceptor(&r->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(streams_listen(r->streams, fd, &r->listener, TURN_TCP), 0);
    CHECK_EQ(streams_start(r->streams, r->server), 0);
}

static void check_streams_are_empty(const struct streams *s)
{
    CHECK_EQ(s->small.out, 0);
    CHECK_EQ(s->large.out, 0);
    CHECK_EQ(s->conns.used, 0);
}

void rig_free(struct rig *r)
{
    turn_server_free(r->server, now_of(&r->loop));
    dtls_free(r->dtls);
    if (r->pipes)
        CHECK_EQ(pipes_deadline(r->pipes), UINT64_MAX);
    if (r->streams)
        streams_close(r->streams);
    if (r->pipes)
        pipes_close(r->pipes);
    udp_close(r->udp);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&r->loop), 0);
    if (r->streams)
        check_streams_are_empty(r->streams);
    streams_free(r->streams);
    if (r->pipes)
        CHECK_EQ(r->pipes->buffers.out, 0);
    pipes_free(r->pipes);
    udp_free(r->udp);
    if (r->gate)
        gate_free(r->gate);
    turn_commons_free(r->commons);
    crypto_free(r->crypto);
}

/* ---- turning ---- */

uint64_t rig_counter(const struct rig *r, enum turn_counter which)
{
    return atomic_load(&turn_server_counters(r->server)->n[which]);
}

void rig_turn(struct rig *r)
{
    uv_run(&r->loop, UV_RUN_NOWAIT);
    if (r->dtls && dtls_deadline(r->dtls) <= uv_now(&r->loop))
        dtls_expire(r->dtls);
    if (r->streams && streams_deadline(r->streams) <= uv_now(&r->loop))
        streams_expire(r->streams);
    if (r->streams)
        streams_flush(r->streams);
    udp_flush(r->udp);
}

void rig_run_until(struct rig *r, enum turn_counter which, uint64_t value)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    while (rig_counter(r, which) < value && uv_hrtime() < give_up)
        rig_turn(r);
    CHECK_EQ(rig_counter(r, which), value);
    rig_turn(r);
}

/* ---- sockets around it ---- */

int rig_socket(const char *at)
{
    struct timeval patience = {.tv_sec = 5};
    struct addr a = addr_of(at);
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &a);
    int fd = socket(sa.sa.sa_family, SOCK_DGRAM, 0), large = 4 << 20;

    CHECK_EQ(bind(fd, &sa.sa, len), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large), 0);
    return fd;
}

struct addr rig_local(int fd)
{
    struct addr at = {.family = ADDR_NONE};

    CHECK_EQ(sock_local(fd, &at), 0);
    return at;
}

void rig_send(int fd, const struct addr *to, const void *data, size_t n)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, to);

    CHECK_EQ(sendto(fd, data, n, 0, &sa.sa, len), n);
}

ssize_t rig_recv(int fd, void *buf, size_t size, struct addr *from)
{
    union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof sa;
    ssize_t n = recvfrom(fd, buf, size, 0, &sa.sa, &len);

    *from = sock_to_addr(&sa);
    return n;
}
