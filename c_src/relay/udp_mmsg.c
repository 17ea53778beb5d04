/*
 * UDP in batches, on Linux: recvmmsg() into an arena of slots, sendmmsg() out of it.
 *
 * A slot takes what one receive call gives for one datagram: that datagram, or several of one
 * length from the same sender that the kernel has kept together (UDP_GRO). They stay there; the
 * effects only note where they lie (udp_batch.h), and the few bytes that the engine puts before
 * them lie elsewhere. Everything noted is sent when the loop has seen all readable sockets, or when
 * slots or notes run out; then the slots are used again from the first one on, so that at low rates
 * the same few cache lines are in use. Nothing waits for more to come.
 */
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/sock.h"
#include "relay/udp.h"
#include "relay/udp_batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SLOTS = 512,
    SLOT_DATA = 65536, /* no UDP datagram is longer, nor several kept together */
    /*
     * Whole pages, plus an odd multiple of a cache line: the heads of all slots fall into
     * different sets of a first-level cache. Memory that no datagram reached is never touched.
     */
    SLOT_STRIDE = SLOT_DATA + 5 * 64,
    LISTENER_BURST = 64,    /* slots of one listener per call, */
    LISTENER_CALLS = 8,     /* and such calls per turn of the loop while each is filled */
    LISTENER_LONE = 4,      /* after so many calls with one each it is asked for one, */
    LISTENER_PROBE = 8,     /* but for one call of so many */
    RELAY_BURST_MAX = 32,   /* slots of one relay socket per turn */
    ICMP_BURST = 16,        /* errors of one relay socket per turn */
    RESERVE_SIZE = 1 << 16, /* more than 50 messages of TURN_REPLY_MAX */
    CONTROL_SIZE = CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int)),
};
_Static_assert(SLOT_STRIDE / 64 % 2 == 1, "the stride must be an odd number of cache lines");

/* The control messages of a slot: its local address, its DSCP and ECN, the length of datagrams. */
union control {
    size_t aligned; /* as a cmsghdr must be */
    uint8_t bytes[CONTROL_SIZE];
};

struct listener {
    uv_poll_t poll;
    struct udp *udp;
    struct addr at;
    struct udp_input *input; /* NULL: the engine */
    uint32_t link;
    bool wildcard;
    uint32_t lone; /* calls on end that gave one datagram */
    struct batch_socket out;
};

struct turn_relay {
    uv_poll_t poll;
    struct udp *udp;
    struct batch_socket out; /* fd is -1 once closed */
    uint32_t alloc;
    uint32_t tick; /* when it was last readable */
    uint8_t burst;
};

struct udp {
    uv_loop_t *loop;
    struct turn_server *server;
    struct turn_counters *counters;
    struct batch *batch; /* datagrams noted for sending */
    uint8_t *slots;
    unsigned slots_used;
    uint32_t tick; /* turns of the loop */
    size_t reserved;
    uint8_t *reserve;
    struct listener *listeners[UDP_SOCKETS_MAX];
    uint32_t listener_count;
    bool keep_dscp;
    uint8_t tos;         /* DSCP and ECN of what is being handled, */
    struct span handled; /* and where that lies */
    /* received datagrams; between receive calls always ready for the next */
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

static void send_noted(struct udp *u)
{
    batch_send(u->batch, uv_now(u->loop));
}

void udp_send(struct udp *u)
{
    send_noted(u);
    u->reserved = 0;
}

void udp_flush(struct udp *u)
{
    udp_send(u);
    u->slots_used = 0;
    u->tick++;
}

uint8_t *udp_reserve(struct udp *u, size_t size)
{
    if (size > RESERVE_SIZE - u->reserved)
        udp_send(u);
    uint8_t *p = u->reserve + u->reserved;
    u->reserved += size;
    return p;
}

/*
 * What is relayed goes on as it came; the engine's own messages have neither (RFC 8656 §14), nor
 * has what came over a connection, or from a client on his way to another worker: it lies
 * elsewhere.
 */
uint8_t udp_tos(const struct udp *u, struct span part)
{
    const struct span *in = &u->handled;
    bool received = part.data && part.data >= in->data && part.data <= in->data + in->len;

    return u->keep_dscp && received ? u->tos : 0;
}

void udp_handed(struct udp *u, struct span data, uint8_t tos)
{
    u->handled = data;
    u->tos = tos;
}

void udp_to_client(struct udp *u, const struct turn_tuple *to, const struct turn_out *out)
{
    struct listener *l = u->listeners[to->link];
    struct batch_note note = {
        .socket = &l->out, .to = to->client, .out = *out, .tos = udp_tos(u, out->body)};

    if (l->wildcard)
        note.from = to->server;
    batch_note(u->batch, &note, uv_now(u->loop));
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
    struct batch_note note = {.socket = &from->out,
                              .to = *to,
                              .out.body = data,
                              .tos = udp_tos(u, data),
                              .dont_fragment = (flags & TURN_DONT_FRAGMENT) != 0};

    batch_note(u->batch, &note, uv_now(u->loop));
}

/* ---- receiving ---- */

/* What a slot has taken: datagrams of one length, of which the last may be shorter. */
struct slot {
    struct addr *local;
    uint8_t *data;
    size_t len, segment;
    bool begun;
};

/* Slots that one call has filled. */
struct filled {
    unsigned first, end;
};

/* The cheapest call there is that also tells what was kept together. */
static int receive_one(struct udp *u, int fd, unsigned slot)
{
    ssize_t n = recvmsg(fd, &u->rx[slot].msg_hdr, 0);

    if (n < 0)
        return 0;
    u->rx[slot].msg_len = (unsigned)n;
    return 1;
}

/*
 * Fills up to `want` slots. Errors that were waiting at the socket (ICMP) are read away by the
 * attempt.
 */
static struct filled receive(struct udp *u, int fd, unsigned want)
{
    if (want > SLOTS - u->slots_used) {
        udp_send(u);
        u->slots_used = 0;
    }
    unsigned first = u->slots_used;
    int n = want == 1 ? receive_one(u, fd, first)
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

/* False when this is about something else. */
static bool learn_local(const struct cmsghdr *c, struct addr *local)
{
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
        learn_local_v4(c, local);
    else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
        learn_local_v6(c, local);
    else
        return false;
    return true;
}

static void learn_one(struct udp *u, const struct cmsghdr *c, struct slot *slot)
{
    int segment = 0;

    if (learn_local(c, slot->local))
        return;
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
        memcpy(&segment, CMSG_DATA(c), sizeof segment);
        slot->segment = segment > 0 ? (size_t)segment : slot->segment;
    } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
               (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)) {
        learn_dscp(u, c);
    }
}

/*
 * Looks at a slot and makes it ready for the next receive call; *local gets the local IP if that is
 * told. False when what it took was cut off.
 */
static bool take(struct udp *u, unsigned i, struct slot *slot, struct addr *local)
{
    struct msghdr *msg = &u->rx[i].msg_hdr;

    *slot = (struct slot){.local = local,
                          .data = u->rx_iov[i].iov_base,
                          .len = u->rx[i].msg_len,
                          .segment = SLOT_DATA};
    udp_handed(u, span_of(slot->data, slot->len), 0);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
        learn_one(u, c, slot);
    make_ready(u, i);
    if (!(msg->msg_flags & MSG_TRUNC))
        return true;
    turn_count(u->counters, TURN_N_DROP_RECEIVE, 1);
    return false;
}

/* The next datagram of a slot; false when there is none left. The first may be empty. */
static bool next_datagram(struct slot *slot, struct udp_datagram *out)
{
    if (slot->begun && slot->len == 0)
        return false;
    out->data = slot->data;
    out->len = slot->len < slot->segment ? slot->len : slot->segment;
    slot->begun = true;
    slot->data += out->len;
    slot->len -= out->len;
    return true;
}

static void listener_readable(uv_poll_t *poll, int status, int events);
static void relay_readable(uv_poll_t *poll, int status, int events);

/* libuv stops to watch a socket with a pending error; no error ends one of ours. */
static void watch_again(uv_poll_t *poll, int fd, uv_poll_cb readable)
{
    sock_clear_error(fd);
    uv_poll_start(poll, UV_READABLE, readable);
}

static void give(struct listener *l, const struct turn_tuple *tuple,
                 const struct udp_datagram *datagram, struct turn_now now)
{
    struct turn_packet packet = {.data = datagram->data, .len = datagram->len};

    if (l->input)
        l->input->take(l->input, tuple, datagram, now);
    else
        turn_server_from_client(l->udp->server, tuple, &packet, now);
}

/*
 * At low load datagrams come one by one, and asking for more costs an attempt that fails, a third
 * of the call. Where more have come meanwhile, asking for one costs a turn of the loop, two
 * attempts.
 */
static unsigned listener_want(const struct listener *l)
{
    return l->lone < LISTENER_LONE || l->lone % LISTENER_PROBE == 0 ? LISTENER_BURST : 1;
}

/* 5-tuple of what comes to the listener, but for the local IP where the kernel tells that. */
static struct turn_tuple tuple_of(const struct listener *l, unsigned slot)
{
    return (struct turn_tuple){.client = sock_to_addr(&l->udp->rx_from[slot]),
                               .server = l->at,
                               .link = l->link,
                               .transport = TURN_UDP};
}

/* Slots that are filled and not taken yet: their clients' memory is fetched meanwhile. */
static void expect(const struct listener *l, struct filled in)
{
    for (unsigned i = in.first; i < in.end; i++) {
        struct turn_tuple tuple = tuple_of(l, i);
        struct msghdr *msg = &l->udp->rx[i].msg_hdr;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
            learn_local(c, &tuple.server);
        turn_server_expect(l->udp->server, &tuple);
    }
}

/* Whether there may be more in this turn. */
static bool listener_receive(struct listener *l, struct turn_now now)
{
    struct udp *u = l->udp;
    struct filled in = receive(u, l->out.fd, listener_want(l));

    l->lone = in.end - in.first == 1 ? l->lone + 1 : 0;
    if (in.end - in.first > 1 && !l->input && turn_server_crowded(u->server))
        expect(l, in);
    for (unsigned i = in.first; i < in.end; i++) {
        struct turn_tuple tuple = tuple_of(l, i);
        struct udp_datagram datagram;
        struct slot slot;
        if (!take(u, i, &slot, &tuple.server))
            continue;
        while (next_datagram(&slot, &datagram))
            give(l, &tuple, &datagram, now);
    }
    return in.end - in.first == LISTENER_BURST;
}

static void listener_readable(uv_poll_t *poll, int status, int events)
{
    struct listener *l = OWNER_OF(poll, struct listener, poll);

    (void)events;
    if (status < 0) {
        watch_again(poll, l->out.fd, listener_readable);
        return;
    }
    struct turn_now now = now_of(l->udp->loop);
    for (int i = 0; i < LISTENER_CALLS && listener_receive(l, now); i++)
        ;
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

    for (unsigned i = 0; i < ICMP_BURST && sock_read_icmp(r->out.fd, &e); i++) {
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
        watch_again(poll, r->out.fd, relay_readable);
        return;
    }
    struct turn_now now = now_of(u->loop);
    struct filled in = receive(u, r->out.fd, r->burst);
    adapt_burst(r, in.end - in.first);
    for (unsigned i = in.first; i < in.end; i++) {
        struct addr peer = sock_to_addr(&u->rx_from[i]), unused;
        struct udp_datagram datagram;
        struct slot slot;
        if (!take(u, i, &slot, &unused))
            continue;
        while (r->out.fd >= 0 && next_datagram(&slot, &datagram)) {
            struct turn_packet packet = {.data = datagram.data, .len = datagram.len};
            turn_server_from_peer(u->server, r->alloc, &peer, &packet, now);
        }
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
    sock_keep_together(fd);
    if (u->keep_dscp)
        sock_tell_dscp(fd, at->family);
    struct turn_relay *r = malloc(sizeof *r);
    if (!r || uv_poll_init(u->loop, &r->poll, fd) != 0) {
        free(r);
        close(fd);
        return CT_ESYS;
    }
    r->udp = u;
    batch_socket_init(u->batch, &r->out, fd);
    r->alloc = alloc;
    r->tick = u->tick - 2;
    r->burst = 1;
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
    send_noted(u);
    uv_close((uv_handle_t *)&relay->poll, relay_closed);
    close(relay->out.fd);
    relay->out.fd = -1;
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
    batch_socket_init(u->batch, &l->out, fd);
    l->wildcard = addr_is_any(at);
    if (u->keep_dscp)
        sock_tell_dscp(fd, at->family);
    sock_keep_together(fd);
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
    batch_counters(u->batch, u->counters);
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
    u->batch = batch_new();
    if (!u->slots || !u->reserve || !u->batch) {
        udp_free(u);
        return NULL;
    }
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
        close(l->out.fd);
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
    batch_free(u->batch);
    free(u);
}
