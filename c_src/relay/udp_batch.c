#include "relay/udp_batch.h"

#include "core/hash.h"
#include "crypto/crypto.h"
#include "relay/sock.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
    NONE = UINT16_MAX,
    TABLE = 2 * BATCH_MAX,
    SEGMENTS_MAX = 64,        /* in one call, the kernel's UDP_MAX_SEGMENTS of old */
    SEGMENTS_SIZE = 65507,    /* and as long as UDP over IPv4 takes */
    SEGMENT_AGAIN_MS = 10000, /* routes and their MTU change */
    CONTROL_SIZE = CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) +
                   CMSG_SPACE(sizeof(uint16_t)),
};
_Static_assert((int)BATCH_MAX < (int)NONE, "notes and flows are numbered in 16 bits");

/* Notes of one socket to one destination, in their order. */
struct flow {
    uint16_t first, last;
    uint16_t next; /* of the same socket */
};

/* Where to leave from, DSCP and ECN, the length of segments. */
union control {
    size_t aligned; /* as a cmsghdr must be */
    uint8_t bytes[CONTROL_SIZE];
};

/* What one message of a system call carries: so many notes of a flow, from `first` on. */
struct run {
    uint16_t first, count;
    uint16_t segment; /* the length of all but the last */
    bool closed;      /* the last one was shorter */
    size_t size;
};

struct batch {
    struct turn_counters *counters;
    struct hash_seed seed;
    bool segments; /* the kernel cuts them apart */
    uint32_t round;
    unsigned count;
    unsigned flow_count;
    struct batch_note note[BATCH_MAX];
    uint16_t next[BATCH_MAX]; /* note of the same flow */
    struct flow flow[BATCH_MAX];
    uint16_t table[TABLE]; /* flows by their hash */
    /* messages of one socket */
    unsigned messages;
    unsigned parts;
    struct run run[BATCH_MAX];
    struct mmsghdr msg[BATCH_MAX];
    struct iovec part[3 * BATCH_MAX];
    union sock_addr to[BATCH_MAX];
    union control control[BATCH_MAX];
};

/* ---- messages ---- */

static void add_part(struct msghdr *msg, const void *data, size_t len)
{
    if (len)
        msg->msg_iov[msg->msg_iovlen++] = (struct iovec){.iov_base = (void *)data, .iov_len = len};
}

static void add_datagram(struct msghdr *msg, const struct turn_out *out)
{
    static const uint8_t zeros[3];

    add_part(msg, out->head.data, out->head.len);
    add_part(msg, out->body.data, out->body.len);
    add_part(msg, zeros, out->pad);
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

static void set_tos(struct msghdr *msg, union control *control, uint8_t family, int tos)
{
    if (family == ADDR_V4)
        add_control(msg, control, IPPROTO_IP, IP_TOS, span_of(&tos, sizeof tos));
    else
        add_control(msg, control, IPPROTO_IPV6, IPV6_TCLASS, span_of(&tos, sizeof tos));
}

/* A message that has all but its bytes; these follow at `parts`. */
static void begin(struct msghdr *msg, const struct batch_note *n, union sock_addr *to,
                  union control *control, struct iovec *parts)
{
    *msg = (struct msghdr){
        .msg_name = to, .msg_namelen = sock_from_addr(to, &n->to), .msg_iov = parts};
    if (n->from.family)
        set_source(msg, control, &n->from);
    if (n->tos)
        set_tos(msg, control, n->to.family, n->tos);
}

/* ---- the system calls ---- */

/* The cheapest call there is for it. */
static ssize_t send_one(int fd, const struct msghdr *msg)
{
    const struct iovec *part = msg->msg_iov;

    if (msg->msg_iovlen != 1 || msg->msg_control)
        return sendmsg(fd, msg, 0);
    return sendto(fd, part->iov_base, part->iov_len, 0, msg->msg_name, msg->msg_namelen);
}

/*
 * A failed call's errno may be the ICMP error of an earlier datagram, which is told once: so this
 * one is tried again, unless it was the buffer that is full.
 */
static bool send_twice(int fd, const struct msghdr *msg)
{
    return send_one(fd, msg) >= 0 || (errno != EAGAIN && send_one(fd, msg) >= 0);
}

static void drop(struct batch *b, uint64_t datagrams)
{
    turn_count(b->counters, TURN_N_DROP_SEND, datagrams);
}

/* One note by itself. */
static bool send_alone(struct batch *b, const struct batch_note *n)
{
    union sock_addr to;
    union control control;
    struct iovec parts[3];
    struct msghdr msg;

    begin(&msg, n, &to, &control, parts);
    add_datagram(&msg, &n->out);
    if (n->dont_fragment)
        sock_dont_fragment(n->socket->fd, n->to.family, true);
    bool sent = send_twice(n->socket->fd, &msg);
    if (n->dont_fragment)
        sock_dont_fragment(n->socket->fd, n->to.family, false);
    if (!sent)
        drop(b, 1);
    return sent;
}

/*
 * Sends the datagrams of a refused run one by one. When that works it was their being together that
 * was refused: no segment of that length is tried again for a while (EINVAL, EMSGSIZE: it is longer
 * than the path's MTU), or none at all (EIO: the device cannot checksum them).
 */
static void send_apart(struct batch *b, const struct run *r, int why, uint64_t now_ms)
{
    struct batch_socket *s = b->note[r->first].socket;
    uint16_t i = r->first;

    bool sent = send_alone(b, &b->note[i]);
    for (unsigned n = 1; n < r->count; n++) {
        i = b->next[i];
        send_alone(b, &b->note[i]);
    }
    if (!sent || r->count == 1 || (why != EINVAL && why != EMSGSIZE && why != EIO))
        return;
    s->segment_max = why == EIO ? 0 : (uint16_t)(r->segment - 1);
    s->segment_max_ms = now_ms + SEGMENT_AGAIN_MS;
}

/* How many datagrams messages i and following are. */
static uint64_t datagrams_from(const struct batch *b, unsigned i)
{
    uint64_t n = 0;

    for (; i < b->messages; i++)
        n += b->run[i].count;
    return n;
}

static int send_some(int fd, struct mmsghdr *msg, unsigned n)
{
    if (n == 1)
        return send_one(fd, &msg->msg_hdr) < 0 ? -1 : 1;
    return sendmmsg(fd, msg, n, 0);
}

/* Sends the messages of a socket. */
static void send_messages(struct batch *b, const struct batch_socket *s, uint64_t now_ms)
{
    for (unsigned done = 0; done < b->messages;) {
        int sent = send_some(s->fd, &b->msg[done], b->messages - done);
        if (sent > 0) {
            done += (unsigned)sent;
            continue;
        }
        /* A full socket buffer stops all, anything else only the message in front. */
        if (errno == EAGAIN) {
            drop(b, datagrams_from(b, done));
            break;
        }
        if (errno == ENOBUFS && b->run[done].count > 1)
            drop(b, b->run[done++].count); /* some of it may have left */
        else
            send_apart(b, &b->run[done++], errno, now_ms);
    }
    b->messages = b->parts = 0;
}

/* ---- runs: what one message can carry ---- */

static bool joins(const struct batch *b, const struct run *r, const struct batch_note *n)
{
    size_t len = turn_out_len(&n->out);

    return !r->closed && len > 0 && len <= r->segment && r->count < SEGMENTS_MAX &&
           r->size + len <= SEGMENTS_SIZE && r->segment <= n->socket->segment_max &&
           n->tos == b->note[r->first].tos;
}

static void begin_run(struct batch *b, uint16_t i)
{
    const struct batch_note *n = &b->note[i];
    unsigned m = b->messages++;
    size_t len = turn_out_len(&n->out);

    b->run[m] = (struct run){
        .first = i, .count = 1, .size = len, .segment = len > UINT16_MAX ? 0 : (uint16_t)len};
    begin(&b->msg[m].msg_hdr, n, &b->to[m], &b->control[m], &b->part[b->parts]);
}

static void end_run(struct batch *b)
{
    if (!b->messages)
        return;
    unsigned m = b->messages - 1;
    const struct run *r = &b->run[m];
    if (r->count > 1)
        add_control(&b->msg[m].msg_hdr, &b->control[m], IPPROTO_UDP, UDP_SEGMENT,
                    span_of(&r->segment, sizeof r->segment));
}

static void join_run(struct run *r, size_t len)
{
    r->count++;
    r->size += len;
    r->closed = len < r->segment;
}

static void add_note(struct batch *b, uint16_t i, bool first)
{
    const struct batch_note *n = &b->note[i];

    if (!first && b->messages && joins(b, &b->run[b->messages - 1], n)) {
        join_run(&b->run[b->messages - 1], turn_out_len(&n->out));
    } else {
        end_run(b);
        begin_run(b, i);
    }
    struct msghdr *msg = &b->msg[b->messages - 1].msg_hdr;
    add_datagram(msg, &n->out);
    b->parts = (unsigned)(msg->msg_iov + msg->msg_iovlen - b->part);
}

/* DF is the socket's: what bears it leaves by itself, after what came before it. */
static void send_flow(struct batch *b, struct batch_socket *s, const struct flow *f,
                      uint64_t now_ms)
{
    bool first = true;

    for (uint16_t i = f->first;; i = b->next[i]) {
        if (b->note[i].dont_fragment) {
            end_run(b);
            send_messages(b, s, now_ms);
            send_alone(b, &b->note[i]);
        } else {
            add_note(b, i, first);
        }
        first = b->note[i].dont_fragment;
        if (i == f->last)
            break;
    }
}

static void send_socket(struct batch *b, struct batch_socket *s, uint64_t now_ms)
{
    if (s->segment_max_ms && s->segment_max_ms <= now_ms) {
        s->segment_max = UINT16_MAX;
        s->segment_max_ms = 0;
    }
    for (uint16_t f = s->first; f != NONE; f = b->flow[f].next)
        send_flow(b, s, &b->flow[f], now_ms);
    end_run(b);
    send_messages(b, s, now_ms);
}

/* ---- flows ---- */

static bool same_flow(const struct batch_note *x, const struct batch_note *y)
{
    return memcmp(x, y, offsetof(struct batch_note, out)) == 0;
}

/* The place of a note's flow in the table: its own, or the free one where it belongs. */
static uint16_t *place_of(struct batch *b, const struct batch_note *n, unsigned mask)
{
    uint64_t at = hash_bytes(&b->seed, n, offsetof(struct batch_note, out));

    while (b->table[at & mask] != NONE &&
           !same_flow(&b->note[b->flow[b->table[at & mask]].first], n))
        at++;
    return &b->table[at & mask];
}

static void begin_flow(struct batch *b, uint16_t i)
{
    struct batch_socket *s = b->note[i].socket;
    uint16_t f = (uint16_t)b->flow_count++;

    b->flow[f] = (struct flow){.first = i, .last = i, .next = NONE};
    if (s->round == b->round) {
        b->flow[s->last].next = f;
    } else {
        s->round = b->round;
        s->first = f;
    }
    s->last = f;
}

static void sort(struct batch *b)
{
    unsigned mask = 3;
    struct flow *f = NULL;

    while (mask < 2 * b->count - 1)
        mask = 2 * mask + 1;
    memset(b->table, 0xff, (mask + 1) * sizeof *b->table);
    b->round++;
    b->flow_count = 0;
    for (uint16_t i = 0; i < b->count; i++) {
        if (!f || !same_flow(&b->note[i], &b->note[i - 1])) {
            uint16_t *place = place_of(b, &b->note[i], mask);
            if (*place == NONE) {
                *place = (uint16_t)b->flow_count;
                begin_flow(b, i);
            }
            f = &b->flow[*place];
        }
        b->next[f->last] = i;
        f->last = i;
    }
}

/* Sockets in the order of their first notes, each once. */
static void send_sorted(struct batch *b, uint64_t now_ms)
{
    for (unsigned f = 0; f < b->flow_count; f++) {
        struct batch_socket *s = b->note[b->flow[f].first].socket;
        if (s->first == f)
            send_socket(b, s, now_ms);
    }
}

/* ---- what is offered ---- */

void batch_note(struct batch *b, const struct batch_note *note, uint64_t now_ms)
{
    if (b->count == BATCH_MAX)
        batch_send(b, now_ms);
    b->note[b->count++] = *note;
}

void batch_send(struct batch *b, uint64_t now_ms)
{
    if (b->count == 1) {
        send_alone(b, &b->note[0]);
    } else if (b->count) {
        sort(b);
        send_sorted(b, now_ms);
    }
    b->count = 0;
}

void batch_counters(struct batch *b, struct turn_counters *counters)
{
    b->counters = counters;
}

/* The kernel of old ignores what it does not know, and would send all segments as one datagram. */
static bool kernel_cuts(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), value;
    socklen_t len = sizeof value;
    bool can = fd >= 0 && getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, &len) == 0;

    if (fd >= 0)
        close(fd);
    return can;
}

struct batch *batch_new(void)
{
    struct batch *b = calloc(1, sizeof *b);

    if (!b)
        return NULL;
    if (crypto_random(&b->seed, sizeof b->seed) != CT_OK) {
        free(b);
        return NULL;
    }
    b->segments = kernel_cuts();
    return b;
}

void batch_free(struct batch *b)
{
    free(b);
}

void batch_socket_init(const struct batch *b, struct batch_socket *s, int fd)
{
    *s = (struct batch_socket){.fd = fd, .segment_max = b->segments ? UINT16_MAX : 0};
}
