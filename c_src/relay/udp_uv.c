/*
 * UDP by libuv's own handles, one datagram at a time: for every system that libuv knows.
 *
 * Effects send at once, so nothing is ever queued. On a wildcard address the system chooses where
 * replies leave from, as libuv does not say where a datagram came to.
 */
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/sock.h"
#include "relay/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SLOT_DATA = 65536,
    RESERVED = 8 /* messages that the engine may hold at once */
};

struct listener {
    uv_udp_t handle;
    struct udp *udp;
    struct addr at;
    struct udp_input *input; /* NULL: the engine */
    uint32_t link;
};

struct turn_relay {
    uv_udp_t handle;
    struct udp *udp;
    uint32_t alloc;
    uint8_t family;
};

struct udp {
    uv_loop_t *loop;
    struct turn_server *server;
    struct turn_counters *counters;
    struct listener *listeners[UDP_SOCKETS_MAX];
    uint32_t listener_count;
    uint8_t slot[SLOT_DATA];
    unsigned reserved;
    uint8_t reserve[RESERVED][TURN_RESERVE_MAX];
};

const char *udp_backend(void)
{
    return "uv";
}

/* ---- sending ---- */

static uv_buf_t buf_of(const void *data, size_t len)
{
    return uv_buf_init((char *)data, (unsigned)len);
}

static void send_one(struct udp *u, uv_udp_t *handle, const struct addr *to,
                     const struct turn_out *out)
{
    static const uint8_t zeros[3];
    uv_buf_t bufs[] = {buf_of(out->head.data, out->head.len), buf_of(out->body.data, out->body.len),
                       buf_of(zeros, out->pad)};
    union sock_addr sa;

    sock_from_addr(&sa, to);
    if (turn_out_len(out) > UINT16_MAX || uv_udp_try_send(handle, bufs, 3, &sa.sa) < 0)
        turn_count(u->counters, TURN_N_DROP_SEND, 1);
}

void udp_send(struct udp *u)
{
    (void)u;
}

void udp_flush(struct udp *u)
{
    (void)u;
}

uint8_t *udp_reserve(struct udp *u, size_t size)
{
    (void)size;
    return u->reserve[u->reserved++ % RESERVED];
}

void udp_to_client(struct udp *u, const struct turn_tuple *to, const struct turn_out *out)
{
    send_one(u, &u->listeners[to->link]->handle, &to->client, out);
}

/* Sent at once: nothing has to last. */
void udp_send_copy(struct udp *u, const struct turn_tuple *to, struct span data)
{
    struct turn_out out = {.head = data};

    udp_to_client(u, to, &out);
}

void udp_to_peer(struct udp *u, struct turn_relay *from, const struct addr *to, struct span data,
                 unsigned flags)
{
    struct turn_out out = {.body = data};
    uv_os_fd_t fd;

    if (!(flags & TURN_DONT_FRAGMENT) || uv_fileno((uv_handle_t *)&from->handle, &fd) != 0) {
        send_one(u, &from->handle, to, &out);
        return;
    }
    sock_dont_fragment(fd, from->family, true);
    send_one(u, &from->handle, to, &out);
    sock_dont_fragment(fd, from->family, false);
}

/* ---- receiving ---- */

static void give_slot(struct udp *u, uv_buf_t *buf)
{
    *buf = uv_buf_init((char *)u->slot, SLOT_DATA);
}

static void listener_slot(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    give_slot(OWNER_OF(handle, struct listener, handle)->udp, buf);
}

static void relay_slot(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    give_slot(OWNER_OF(handle, struct turn_relay, handle)->udp, buf);
}

/* False for what is not a whole datagram: the end of a burst, an error (none ends a socket). */
static bool datagram_of(struct udp *u, ssize_t n, const uv_buf_t *buf, unsigned flags,
                        struct udp_datagram *datagram)
{
    if (n < 0)
        return false;
    if (flags & UV_UDP_PARTIAL) {
        turn_count(u->counters, TURN_N_DROP_RECEIVE, 1);
        return false;
    }
    *datagram = (struct udp_datagram){.data = (uint8_t *)buf->base, .len = (size_t)n};
    return true;
}

static struct addr addr_of(const struct sockaddr *from)
{
    union sock_addr sa;

    memcpy(&sa, from, from->sa_family == AF_INET ? sizeof sa.v4 : sizeof sa.v6);
    return sock_to_addr(&sa);
}

static void listener_received(uv_udp_t *handle, ssize_t n, const uv_buf_t *buf,
                              const struct sockaddr *from, unsigned flags)
{
    struct listener *l = OWNER_OF(handle, struct listener, handle);
    struct udp_datagram datagram;

    if (!from || !datagram_of(l->udp, n, buf, flags, &datagram))
        return;
    struct turn_packet packet = {.data = datagram.data, .len = datagram.len};
    struct turn_tuple tuple = {
        .client = addr_of(from), .server = l->at, .link = l->link, .transport = TURN_UDP};
    struct turn_now now = now_of(l->udp->loop);
    if (l->input)
        l->input->take(l->input, &tuple, &datagram, now);
    else
        turn_server_from_client(l->udp->server, &tuple, &packet, now);
}

static void relay_received(uv_udp_t *handle, ssize_t n, const uv_buf_t *buf,
                           const struct sockaddr *from, unsigned flags)
{
    struct turn_relay *r = OWNER_OF(handle, struct turn_relay, handle);
    struct udp_datagram datagram;

    if (!from || !datagram_of(r->udp, n, buf, flags, &datagram))
        return;
    struct turn_packet packet = {.data = datagram.data, .len = datagram.len};
    struct addr peer = addr_of(from);
    turn_server_from_peer(r->udp->server, r->alloc, &peer, &packet, now_of(r->udp->loop));
}

/* ---- sockets ---- */

static void relay_closed(uv_handle_t *handle)
{
    free(OWNER_OF(handle, struct turn_relay, handle));
}

static void listener_closed(uv_handle_t *handle)
{
    free(OWNER_OF(handle, struct listener, handle));
}

/*
 * Takes over a bound socket, also when it fails. uv_udp_open() lets others share the socket's
 * address, which is not wanted here: that is taken back.
 */
static int adopt(uv_udp_t *handle, int fd, bool shared)
{
    int off = 0, on = 1;
    int err = uv_udp_open(handle, fd);

    if (err) {
        close(fd);
        return err;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, shared ? &on : &off, sizeof on) != 0)
        return UV_EINVAL;
    return 0;
}

enum ct_err udp_relay_open(struct udp *u, const struct addr *at, uint32_t alloc,
                           struct turn_relay **out)
{
    int fd;
    int err = sock_open_relay(at, &fd);

    if (err)
        return err == EADDRINUSE ? CT_EINUSE : CT_ESYS;
    struct turn_relay *r = malloc(sizeof *r);
    if (!r || uv_udp_init(u->loop, &r->handle) != 0) {
        free(r);
        close(fd);
        return CT_ESYS;
    }
    r->udp = u;
    r->alloc = alloc;
    r->family = at->family;
    if (adopt(&r->handle, fd, false) != 0 ||
        uv_udp_recv_start(&r->handle, relay_slot, relay_received) != 0) {
        uv_close((uv_handle_t *)&r->handle, relay_closed);
        return CT_ESYS;
    }
    *out = r;
    return CT_OK;
}

void udp_relay_close(struct udp *u, struct turn_relay *relay)
{
    (void)u;
    uv_close((uv_handle_t *)&relay->handle, relay_closed);
}

int udp_listen(struct udp *u, int fd, const struct addr *at, struct udp_input *input)
{
    int shared = 0;
    socklen_t len = sizeof shared;
    struct listener *l = u->listener_count < UDP_SOCKETS_MAX ? calloc(1, sizeof *l) : NULL;

    int err = l ? uv_udp_init(u->loop, &l->handle) : UV_ENOMEM;
    if (err) {
        free(l);
        close(fd);
        return err;
    }
    (void)getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &shared, &len);
    err = adopt(&l->handle, fd, shared != 0);
    if (err) {
        uv_close((uv_handle_t *)&l->handle, listener_closed);
        return err;
    }
    l->udp = u;
    l->at = *at;
    l->input = input;
    l->link = u->listener_count;
    u->listeners[u->listener_count++] = l;
    return 0;
}

uint32_t udp_links(const struct udp *u)
{
    return u->listener_count;
}

int udp_start(struct udp *u, struct turn_server *server)
{
    int err = 0;

    u->server = server;
    u->counters = turn_server_counters(server);
    for (uint32_t i = 0; i < u->listener_count && !err; i++)
        err = uv_udp_recv_start(&u->listeners[i]->handle, listener_slot, listener_received);
    return err;
}

void udp_keep_dscp(struct udp *u)
{
    (void)u; /* libuv does not say what a datagram had */
}

uint8_t udp_tos(const struct udp *u, struct span part)
{
    (void)u;
    (void)part;
    return 0;
}

void udp_handed(struct udp *u, struct span data, uint8_t tos)
{
    (void)u;
    (void)data;
    (void)tos;
}

/* ---- life ---- */

struct udp *udp_new(uv_loop_t *loop)
{
    struct udp *u = calloc(1, sizeof *u);

    if (u)
        u->loop = loop;
    return u;
}

void udp_close(struct udp *u)
{
    for (uint32_t i = 0; i < u->listener_count; i++)
        uv_close((uv_handle_t *)&u->listeners[i]->handle, listener_closed);
    u->listener_count = 0;
}

void udp_free(struct udp *u)
{
    free(u);
}
