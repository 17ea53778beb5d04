/*
 * UDP in batches, on Linux: recvmmsg() into an arena of slots, sendmmsg() out of it.
 *
 * A datagram stays in the slot that it was received into; the effects only note where it lies, and
 * the few bytes that the engine puts before it lie elsewhere. Everything noted is sent when the
 * loop has seen all readable sockets, or when slots or notes run out; then the slots are used again
 * from the first one on, so that at low rates the same few cache lines are in use.
 */
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/sock.h"
#include "relay/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SLOTS = 128,
    LISTENER_BURST = 64, /* datagrams of one listener per turn of the loop */
    SLOT_DATA = 65536,   /* no UDP datagram is longer */
    /*
     * Rounded up to pages, plus an odd multiple of a cache line: the heads of all slots fall into
     * different sets of a first-level cache. Memory that no datagram reached is never touched.
     */
    SLOT_STRIDE = (SLOT_DATA + 4095) / 4096 * 4096 + 5 * 64,
    RELAY_BURST_MAX = 32,   /* and of one relay socket */
    ICMP_BURST = 16,        /* errors of one relay socket per turn */
    RESERVE_SIZE = 1 << 16, /* more than 50 messages of TURN_REPLY_MAX */
    CONTROL_SIZE = CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)),
};
_Static_assert(SLOT_STRIDE / 64 % 2 == 1, "the stride must be an odd number of cache lines");

/* The control messages of a datagram: its local address, its DSCP and ECN. */
union control {
    size_t aligned; /* as a cmsghdr must be */
    uint8_t bytes[CONTROL_SIZE];
};

/* Datagrams noted for sending, ready for sendmmsg(). */
struct batch {
    unsigned count;
    struct mmsghdr msg[SLOTS];
    struct iovec iov[SLOTS][3]; /* head, body, padding */
    union sock_addr to[SLOTS];
};

struct listener {
    uv_poll_t poll;
    struct udp *udp;
    struct addr at;
    struct udp_input *input; /* NULL: the engine */
    uint32_t link;
    int fd;
    bool wildcard;
    struct batch tx;
    union control tx_control[SLOTS]; /* where to send from, on wildcard addresses; DSCP and ECN */
};

struct turn_relay {
    uv_poll_t poll;
    struct udp *udp;
    int fd; /* -1 once closed */
    uint32_t alloc;
    uint32_t tick; /* when it was last readable */
    uint8_t burst;
    uint8_t family;
};

struct udp {
    uv_loop_t *loop;
    struct turn_server *server;
    struct turn_counters *counters;
    uint8_t *slots;
    unsigned slots_used;
    unsigned noted; /* datagrams in all batches */
    uint32_t tick;  /* turns of the loop */
    size_t reserved;
    uint8_t *reserve;
    struct listener *listeners[UDP_SOCKETS_MAX];
    uint32_t listener_count;
    /* to peers: each with the socket it leaves through */
    struct batch tx;
    struct turn_relay *tx_from[SLOTS];
    bool tx_unfragmented[SLOTS];
    union control tx_control[SLOTS];
    bool keep_dscp;
    uint8_t tos; /* DSCP and ECN of the datagram being handled */
    /* received datagrams, one per slot; between receive calls always ready for the next */
    struct mmsghdr rx[SLOTS];
    struct iovec rx_iov[SLOTS];
    union sock_addr rx_from[SLOTS];
    union control rx_control[SLOTS];
};

const char *udp_backend(void)
{
    return "mmsg";
}

/* ---- sending ---- */

static void batch_init(struct batch *b)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        b->msg[i].msg_hdr.msg_iov = b->iov[i];
        b->msg[i].msg_hdr.msg_name = &b->to[i];
    }
}

static void add_part(struct msghdr *msg, const void *data, size_t len)
{
    if (len)
        msg->msg_iov[msg->msg_iovlen++] = (struct iovec){.iov_base = (void *)data, .iov_len = len};
}

static unsigned batch_note(struct batch *b, const struct addr *to, const struct turn_out *out)
{
    static const uint8_t zeros[3];
    unsigned i = b->count++;
    struct msghdr *msg = &b->msg[i].msg_hdr;

    msg->msg_iovlen = 0;
    add_part(msg, out->head.data, out->head.len);
    add_part(msg, out->body.data, out->body.len);
    add_part(msg, zeros, out->pad);
    msg->msg_namelen = sock_from_addr(&b->to[i], to);
    msg->msg_control = NULL;
    msg->msg_controllen = 0;
    return i;
}

/*
 * A call has failed. Its errno may be the ICMP error of an earlier datagram, which is told once: so
 * this one is tried again, unless it was the buffer that is full.
 */
static void send_again(struct udp *u, int fd, const struct mmsghdr *m)
{
    if (errno == EAGAIN || sendmsg(fd, &m->msg_hdr, 0) < 0)
        turn_count(u->counters, TURN_N_DROP_SEND, 1);
}

/* The cheapest call there is for it. */
static ssize_t send_one(int fd, const struct msghdr *msg)
{
    const struct iovec *part = msg->msg_iov;

    if (msg->msg_iovlen != 1 || msg->msg_control)
        return sendmsg(fd, msg, 0);
    return sendto(fd, part->iov_base, part->iov_len, 0, msg->msg_name, msg->msg_namelen);
}

/* Sends messages i to i + n of a batch; what the kernel refuses is counted and forgotten. */
static void send_run(struct udp *u, int fd, struct batch *b, unsigned i, unsigned n)
{
    struct mmsghdr *m = &b->msg[i];
    unsigned done = 0;

    if (n == 1) {
        if (send_one(fd, &m->msg_hdr) < 0)
            send_again(u, fd, m);
        return;
    }
    while (done < n) {
        int sent = sendmmsg(fd, m + done, n - done, 0);
        if (sent > 0) {
            done += (unsigned)sent;
            continue;
        }
        /* A full socket buffer stops all, anything else only the datagram in front. */
        if (errno == EAGAIN) {
            turn_count(u->counters, TURN_N_DROP_SEND, n - done);
            return;
        }
        send_again(u, fd, m + done++);
    }
}

static void flush_listener(struct listener *l)
{
    if (l->tx.count)
        send_run(l->udp, l->fd, &l->tx, 0, l->tx.count);
    l->tx.count = 0;
}

static void flush_peers(struct udp *u)
{
    unsigned count = u->tx.count;

    for (unsigned i = 0, n; i < count; i += n) {
        struct turn_relay *from = u->tx_from[i];
        if (u->tx_unfragmented[i]) {
            n = 1;
            sock_dont_fragment(from->fd, from->family, true);
            send_run(u, from->fd, &u->tx, i, 1);
            sock_dont_fragment(from->fd, from->family, false);
            continue;
        }
        for (n = 1; i + n < count && u->tx_from[i + n] == from && !u->tx_unfragmented[i + n]; n++)
            ;
        send_run(u, from->fd, &u->tx, i, n);
    }
    u->tx.count = 0;
}

static void send_noted(struct udp *u)
{
    if (!u->noted)
        return;
    for (uint32_t i = 0; i < u->listener_count; i++)
        flush_listener(u->listeners[i]);
    flush_peers(u);
    u->noted = 0;
    u->reserved = 0;
}

void udp_send(struct udp *u)
{
    send_noted(u);
}

void udp_flush(struct udp *u)
{
    send_noted(u);
    u->slots_used = 0;
    u->tick++;
}

uint8_t *udp_reserve(struct udp *u, size_t size)
{
    if (size > RESERVE_SIZE - u->reserved) {
        send_noted(u);
        u->reserved = 0;
    }
    uint8_t *p = u->reserve + u->reserved;
    u->reserved += size;
    return p;
}

static void add_control(struct msghdr *msg, union control *control, int level, int type,
                        struct span info)
{
    struct cmsghdr *c = (void *)(control->bytes + msg->msg_controllen);
    msg->msg_control = control;
    msg->msg_controllen += CMSG_SPACE(info.len);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(info.len);
    memcpy(CMSG_DATA(c), info.data, info.len);
}

/* A reply leaves from the address that its request came to (RFC 8489 §6.3). */
static void set_source(struct msghdr *msg, union control *control, const struct addr *from)
{
    if (from->family == ADDR_V4) {
        struct in_pktinfo info = {.ipi_ifindex = 0};
        memcpy(&info.ipi_spec_dst, from->ip, 4);
        add_control(msg, control, IPPROTO_IP, IP_PKTINFO, span_of(&info, sizeof info));
    } else {
        struct in6_pktinfo info = {.ipi6_ifindex = from->scope};
        memcpy(&info.ipi6_addr, from->ip, 16);
        add_control(msg, control, IPPROTO_IPV6, IPV6_PKTINFO, span_of(&info, sizeof info));
    }
}

/* What is relayed goes on as it came; the engine's own messages have neither (RFC 8656 §14). */
static void set_dscp(struct udp *u, struct msghdr *msg, union control *control, uint8_t family,
                     struct span body)
{
    bool relayed = body.data >= u->slots && body.data < u->slots + (size_t)SLOTS * SLOT_STRIDE;
    int tos = u->tos;

    if (!relayed || !tos)
        return;
    if (family == ADDR_V4)
        add_control(msg, control, IPPROTO_IP, IP_TOS, span_of(&tos, sizeof tos));
    else
        add_control(msg, control, IPPROTO_IPV6, IPV6_TCLASS, span_of(&tos, sizeof tos));
}

void udp_to_client(struct udp *u, const struct turn_tuple *to, const struct turn_out *out)
{
    struct listener *l = u->listeners[to->link];

    if (l->tx.count == SLOTS)
        flush_listener(l);
    unsigned i = batch_note(&l->tx, &to->client, out);
    struct msghdr *msg = &l->tx.msg[i].msg_hdr;
    if (l->wildcard)
        set_source(msg, &l->tx_control[i], &to->server);
    if (u->keep_dscp)
        set_dscp(u, msg, &l->tx_control[i], to->client.family, out->body);
    u->noted++;
}

void udp_send_copy(struct udp *u, const struct turn_tuple *to, struct span data)
{
    struct wbuf w = wbuf_of(udp_reserve(u, data.len), data.len);

    wbuf_bytes(&w, data.data, data.len);
    struct turn_out out = {.head = span_of(w.data, w.pos)};
    udp_to_client(u, to, &out);
}

void udp_to_peer(struct udp *u, struct turn_relay *from, const struct addr *to, struct span data,
                 unsigned flags)
{
    struct turn_out out = {.body = data};

    if (u->tx.count == SLOTS)
        flush_peers(u);
    unsigned i = batch_note(&u->tx, to, &out);
    if (u->keep_dscp)
        set_dscp(u, &u->tx.msg[i].msg_hdr, &u->tx_control[i], to->family, data);
    u->tx_from[i] = from;
    u->tx_unfragmented[i] = (flags & TURN_DONT_FRAGMENT) != 0;
    u->noted++;
}

/* ---- receiving ---- */

/* Slots that one call has filled. */
struct filled {
    unsigned first, end;
};

/* The cheapest call there is for what is most common. */
static int receive_one(struct udp *u, int fd, unsigned slot)
{
    socklen_t len = sizeof u->rx_from[slot];
    ssize_t n =
        recvfrom(fd, u->rx_iov[slot].iov_base, SLOT_DATA, MSG_TRUNC, &u->rx_from[slot].sa, &len);

    if (n < 0)
        return 0;
    u->rx[slot].msg_len = (unsigned)n;
    u->rx[slot].msg_hdr.msg_flags = n > SLOT_DATA ? MSG_TRUNC : 0;
    return 1;
}

/*
 * Receives up to `want` datagrams. Errors that were waiting at the socket (ICMP) are read away by
 * the attempt. Of each datagram first its addresses are to be looked at, then take().
 */
static struct filled receive(struct udp *u, int fd, unsigned want, bool control)
{
    if (want > SLOTS - u->slots_used) {
        send_noted(u);
        u->slots_used = 0;
    }
    unsigned first = u->slots_used;
    int n = want == 1 && !control ? receive_one(u, fd, first)
                                  : recvmmsg(fd, &u->rx[first], want, MSG_DONTWAIT, NULL);
    if (n > 0)
        u->slots_used += (unsigned)n;
    return (struct filled){.first = first, .end = u->slots_used};
}

/* What the kernel needs to know of a slot, and overwrites. */
static void make_ready(struct udp *u, unsigned slot)
{
    u->rx[slot].msg_hdr.msg_namelen = sizeof u->rx_from[slot];
    u->rx[slot].msg_hdr.msg_controllen = sizeof u->rx_control[slot];
}

/* The datagram in a slot; false when it was cut off. */
static bool take(struct udp *u, unsigned slot, struct udp_datagram *datagram)
{
    datagram->data = u->rx_iov[slot].iov_base;
    datagram->len = u->rx[slot].msg_len;
    make_ready(u, slot);
    if (!(u->rx[slot].msg_hdr.msg_flags & MSG_TRUNC))
        return true;
    turn_count(u->counters, TURN_N_DROP_RECEIVE, 1);
    return false;
}

static void learn_local_v4(const struct cmsghdr *c, struct addr *local)
{
    struct in_pktinfo info;

    memcpy(&info, CMSG_DATA(c), sizeof info);
    memcpy(local->ip, &info.ipi_addr, 4);
}

static void learn_local_v6(const struct cmsghdr *c, struct addr *local)
{
    struct in6_pktinfo info;

    memcpy(&info, CMSG_DATA(c), sizeof info);
    memcpy(local->ip, &info.ipi6_addr, 16);
    bool link_local = local->ip[0] == 0xfe && (local->ip[1] & 0xc0) == 0x80;
    local->scope = link_local ? info.ipi6_ifindex : 0;
}

static void learn_dscp(struct udp *u, const struct cmsghdr *c)
{
    int value = *CMSG_DATA(c); /* one byte for IPv4, an int for IPv6 */

    if (c->cmsg_level == IPPROTO_IPV6)
        memcpy(&value, CMSG_DATA(c), sizeof value);
    u->tos = (uint8_t)value;
}

/* The local IP that a wildcard listener's datagram came to, its DSCP and ECN. */
static void learn_control(struct udp *u, struct msghdr *msg, struct addr *local)
{
    u->tos = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
            learn_local_v4(c, local);
        else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
            learn_local_v6(c, local);
        else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
                 (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS))
            learn_dscp(u, c);
    }
}

static void listener_readable(uv_poll_t *poll, int status, int events);
static void relay_readable(uv_poll_t *poll, int status, int events);

/* libuv stops to watch a socket with a pending error; no error ends one of ours. */
static void watch_again(uv_poll_t *poll, int fd, uv_poll_cb readable)
{
    sock_clear_error(fd);
    uv_poll_start(poll, UV_READABLE, readable);
}

static void listener_readable(uv_poll_t *poll, int status, int events)
{
    struct listener *l = OWNER_OF(poll, struct listener, poll);
    struct udp *u = l->udp;

    (void)events;
    if (status < 0) {
        watch_again(poll, l->fd, listener_readable);
        return;
    }
    struct turn_now now = now_of(u->loop);
    bool control = l->wildcard || u->keep_dscp;
    struct filled in = receive(u, l->fd, LISTENER_BURST, control);
    for (unsigned i = in.first; i < in.end; i++) {
        struct turn_tuple tuple = {.client = sock_to_addr(&u->rx_from[i]),
                                   .server = l->at,
                                   .link = l->link,
                                   .transport = TURN_UDP};
        struct udp_datagram datagram;
        if (control)
            learn_control(u, &u->rx[i].msg_hdr, &tuple.server);
        if (!take(u, i, &datagram))
            continue;
        struct turn_packet packet = {.data = datagram.data, .len = datagram.len};
        if (l->input)
            l->input->take(l->input, &tuple, &datagram, now);
        else
            turn_server_from_client(u->server, &tuple, &packet, now);
    }
}

/*
 * A relay socket mostly has one datagram at a time; asking for more costs an attempt that fails.
 * So more are asked for only of a socket that was readable in two turns of the loop on end, and
 * fewer again when they do not come.
 */
static void adapt_burst(struct turn_relay *r, unsigned got)
{
    unsigned next = got;

    if (got == r->burst && r->udp->tick - r->tick <= 1)
        next = got * 2;
    r->burst = (uint8_t)(next < 1 ? 1 : next > RELAY_BURST_MAX ? RELAY_BURST_MAX : next);
    r->tick = r->udp->tick;
}

/* Errors that wait at the socket; what is left over wakes the loop again. */
static void tell_icmp(struct turn_relay *r)
{
    struct turn_now now = now_of(r->udp->loop);
    struct sock_icmp e;

    for (unsigned i = 0; i < ICMP_BURST && sock_read_icmp(r->fd, &e); i++) {
        struct turn_icmp icmp = {.type = e.type, .code = e.code, .mtu = e.mtu};
        turn_server_icmp(r->udp->server, r->alloc, &e.to, &icmp, now);
    }
}

static void relay_readable(uv_poll_t *poll, int status, int events)
{
    struct turn_relay *r = OWNER_OF(poll, struct turn_relay, poll);
    struct udp *u = r->udp;

    (void)events;
    if (status < 0) {
        tell_icmp(r);
        watch_again(poll, r->fd, relay_readable);
        return;
    }
    struct turn_now now = now_of(u->loop);
    struct filled in = receive(u, r->fd, r->burst, u->keep_dscp);
    adapt_burst(r, in.end - in.first);
    for (unsigned i = in.first; i < in.end; i++) {
        struct addr peer = sock_to_addr(&u->rx_from[i]), unused;
        struct udp_datagram datagram;
        if (u->keep_dscp)
            learn_control(u, &u->rx[i].msg_hdr, &unused);
        if (!take(u, i, &datagram) || r->fd < 0)
            continue;
        struct turn_packet packet = {.data = datagram.data, .len = datagram.len};
        turn_server_from_peer(u->server, r->alloc, &peer, &packet, now);
    }
}

/* ---- sockets ---- */

enum ct_err udp_relay_open(struct udp *u, const struct addr *at, uint32_t alloc,
                           struct turn_relay **out)
{
    int fd;
    int err = sock_open_relay(at, &fd);

    if (err)
        return err == EADDRINUSE ? CT_EINUSE : CT_ESYS;
    sock_keep_icmp(fd, at->family);
    if (u->keep_dscp)
        sock_tell_dscp(fd, at->family);
    struct turn_relay *r = malloc(sizeof *r);
    if (!r || uv_poll_init(u->loop, &r->poll, fd) != 0) {
        free(r);
        close(fd);
        return CT_ESYS;
    }
    r->udp = u;
    r->fd = fd;
    r->alloc = alloc;
    r->tick = u->tick - 2;
    r->burst = 1;
    r->family = at->family;
    uv_poll_start(&r->poll, UV_READABLE, relay_readable);
    *out = r;
    return CT_OK;
}

static void relay_closed(uv_handle_t *poll)
{
    free(OWNER_OF(poll, struct turn_relay, poll));
}

void udp_relay_close(struct udp *u, struct turn_relay *relay)
{
    flush_peers(u);
    uv_close((uv_handle_t *)&relay->poll, relay_closed);
    close(relay->fd);
    relay->fd = -1;
}

int udp_listen(struct udp *u, int fd, const struct addr *at, struct udp_input *input)
{
    struct listener *l = u->listener_count < UDP_SOCKETS_MAX ? calloc(1, sizeof *l) : NULL;

    int err = l ? uv_poll_init(u->loop, &l->poll, fd) : UV_ENOMEM;
    if (err) {
        free(l);
        close(fd);
        return err;
    }
    l->udp = u;
    l->at = *at;
    l->input = input;
    l->link = u->listener_count;
    l->fd = fd;
    l->wildcard = addr_is_any(at);
    if (u->keep_dscp)
        sock_tell_dscp(fd, at->family);
    batch_init(&l->tx);
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
        err = uv_poll_start(&u->listeners[i]->poll, UV_READABLE, listener_readable);
    return err;
}

void udp_keep_dscp(struct udp *u)
{
    u->keep_dscp = true;
}

/* ---- life ---- */

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

struct udp *udp_new(uv_loop_t *loop)
{
    struct udp *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    u->loop = loop;
    u->slots = map((size_t)SLOTS * SLOT_STRIDE);
    u->reserve = map(RESERVE_SIZE);
    if (!u->slots || !u->reserve) {
        udp_free(u);
        return NULL;
    }
    batch_init(&u->tx);
    for (unsigned i = 0; i < SLOTS; i++) {
        u->rx_iov[i].iov_base = u->slots + (size_t)i * SLOT_STRIDE;
        u->rx_iov[i].iov_len = SLOT_DATA;
        u->rx[i].msg_hdr.msg_iov = &u->rx_iov[i];
        u->rx[i].msg_hdr.msg_iovlen = 1;
        u->rx[i].msg_hdr.msg_name = &u->rx_from[i];
        u->rx[i].msg_hdr.msg_control = &u->rx_control[i];
        make_ready(u, i);
    }
    return u;
}

static void listener_closed(uv_handle_t *poll)
{
    free(OWNER_OF(poll, struct listener, poll));
}

void udp_close(struct udp *u)
{
    send_noted(u);
    for (uint32_t i = 0; i < u->listener_count; i++) {
        struct listener *l = u->listeners[i];
        uv_close((uv_handle_t *)&l->poll, listener_closed);
        close(l->fd);
    }
    u->listener_count = 0;
}

void udp_free(struct udp *u)
{
    if (!u)
        return;
    if (u->slots)
        munmap(u->slots, (size_t)SLOTS * SLOT_STRIDE);
    if (u->reserve)
        munmap(u->reserve, RESERVE_SIZE);
    free(u);
}
