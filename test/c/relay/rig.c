#include "rig.h"

#include "relay/conn.h"
#include "relay/now.h"

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

static void io_event(struct turn_io *io, const struct turn_event *event)
{
    (void)io;
    (void)event;
}

static void io_nothing(struct turn_io *io)
{
    (void)io;
}

static const struct turn_io_ops ops = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .to_peer = io_to_peer,
    .relay_open = io_relay_open,
    .relay_close = io_relay_close,
    .random = io_random,
    .event = io_event,
    .lock = io_nothing,
    .unlock = io_nothing,
};

/* ---- life ---- */

static void allow(struct turn_config *config, const char *text)
{
    struct addr_prefix prefix;

    CHECK_EQ(addr_prefix_parse(text, strlen(text), &prefix), CT_OK);
    CHECK_EQ(turn_policy_add(&config->policy, &prefix, TURN_RULE_ALLOW), CT_OK);
}

static void configure(struct turn_config *config)
{
    turn_config_defaults(config);
    config->max_allocations = 16;
    snprintf(config->realm, sizeof config->realm, "example.org");
    config->secrets[0] = (struct turn_secret){.bytes = "north", .len = 5};
    config->secret_count = 1;
    config->relays[0].bind = config->relays[0].external = addr_of("127.0.0.1");
    config->relays[1].bind = config->relays[1].external = addr_of("::1");
    config->relay_count = 2;
    allow(config, "127.0.0.0/8");
    allow(config, "::1/128");
}

void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->io.ops = &ops;
    configure(&r->turn);
    CHECK_EQ(uv_loop_init(&r->loop), 0);
    r->crypto = crypto_new();
    r->commons = turn_commons_new(&r->turn);
    r->udp = udp_new(&r->loop);
    struct turn_server_setup setup = {
        .config = &r->turn, .commons = r->commons, .crypto = r->crypto, .io = &r->io};
    r->server = turn_server_new(&setup, now_of(&r->loop));
    CHECK(r->crypto && r->commons && r->udp && r->server);
}

int rig_listen(struct rig *r, const char *at, struct udp_input *input)
{
    int fd = -1;

    r->listener = addr_of(at);
    CHECK_EQ(sock_open_listener(&r->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(udp_listen(r->udp, fd, &r->listener, input), 0);
    return fd;
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
    if (r->streams)
        streams_close(r->streams);
    udp_close(r->udp);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&r->loop), 0);
    if (r->streams)
        check_streams_are_empty(r->streams);
    streams_free(r->streams);
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
