#define _GNU_SOURCE
#include "batch.h"

#include "message.h"
#include "proc.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/udp.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    GRO_MESSAGES = 16,
    GRO_BYTES = 65536
};

/* Room for the larger of the two that are used. */
struct control {
    _Alignas(struct cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
};

/* What a packet socket is given before the payload. */
struct headers {
    struct iphdr ip;
    struct udphdr udp;
};

struct side {
    struct mmsghdr msgs[BATCH_MAX];
    struct iovec iov[BATCH_MAX];
    struct iovec packet[BATCH_MAX][2]; /* headers, payload */
    struct headers headers[BATCH_MAX];
    struct sockaddr_in names[BATCH_MAX];
    struct control control[BATCH_MAX];
    uint8_t *bytes;
};

struct batch {
    struct side in, out;
    struct sockaddr_ll device; /* for a packet socket */
    int capacity;              /* messages of `in` */
    size_t each;               /* bytes of one */
    size_t segment[BATCH_MAX];
};

struct batch *batch_new(bool gro)
{
    struct batch *b = calloc(1, sizeof *b);
    if (!b)
        die("no memory");
    b->device = (struct sockaddr_ll){.sll_family = AF_PACKET,
                                     .sll_halen = ETH_ALEN,
                                     .sll_protocol = htons(ETH_P_IP),
                                     .sll_ifindex = (int)if_nametoindex("lo")};
    b->capacity = gro ? GRO_MESSAGES : BATCH_MAX;
    b->each = gro ? GRO_BYTES : MESSAGE_MAX;
    b->in.bytes = malloc((size_t)b->capacity * b->each);
    b->out.bytes = malloc((size_t)BATCH_MAX * MESSAGE_MAX);
    if (!b->in.bytes || !b->out.bytes)
        die("no memory");
    return b;
}

void batch_free(struct batch *b)
{
    free(b->in.bytes);
    free(b->out.bytes);
    free(b);
}

/* ---- receiving ---- */

static size_t segment_of(struct msghdr *m, size_t len)
{
    int size;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != IPPROTO_UDP || c->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(c), sizeof size);
        return (size_t)size;
    }
    return len;
}

int batch_receive(struct batch *b, int fd)
{
    struct side *s = &b->in;
    for (int i = 0; i < b->capacity; i++) {
        s->iov[i] = (struct iovec){s->bytes + (size_t)i * b->each, b->each};
        s->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &s->iov[i],
                                             .msg_iovlen = 1,
                                             .msg_name = &s->names[i],
                                             .msg_namelen = sizeof s->names[i],
                                             .msg_control = &s->control[i],
                                             .msg_controllen = sizeof s->control[i]};
    }
    int n = recvmmsg(fd, s->msgs, (unsigned)b->capacity, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++)
        b->segment[i] = segment_of(&s->msgs[i].msg_hdr, s->msgs[i].msg_len);
    return n;
}

bool batch_was_full(const struct batch *b, int n)
{
    return n == b->capacity;
}

struct span batch_next(const struct batch *b, int i, size_t *at)
{
    size_t left = b->in.msgs[i].msg_len - *at;
    size_t len = left < b->segment[i] ? left : b->segment[i];
    const uint8_t *start = b->in.bytes + (size_t)i * b->each + *at;
    *at += len;
    return span_of(start, len);
}

void batch_send_back(struct batch *b, int fd, int n)
{
    struct side *s = &b->in;
    for (int i = 0; i < n; i++) {
        s->iov[i].iov_len = s->msgs[i].msg_len;
        s->msgs[i].msg_hdr.msg_control = NULL;
        s->msgs[i].msg_hdr.msg_controllen = 0;
    }
    sendmmsg(fd, s->msgs, (unsigned)n, 0);
}

/* ---- sending ---- */

uint8_t *batch_slot(struct batch *b, int i, size_t len)
{
    return b->out.bytes + (size_t)i * len;
}

static void put_source(struct msghdr *m, struct control *control, struct in_addr from)
{
    struct in_pktinfo info = {.ipi_spec_dst = from};
    m->msg_control = control;
    m->msg_controllen = CMSG_SPACE(sizeof info);
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = IP_PKTINFO;
    c->cmsg_len = CMSG_LEN(sizeof info);
    memcpy(CMSG_DATA(c), &info, sizeof info);
}

bool batch_send_one(const struct batch_way *way, const void *bytes, size_t len)
{
    struct control control;
    struct iovec iov = {(void *)(uintptr_t)bytes, len};
    struct sockaddr_in to;
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (way->to) {
        to = *way->to;
        m.msg_name = &to;
        m.msg_namelen = sizeof to;
    }
    if (way->from.s_addr)
        put_source(&m, &control, way->from);
    return sendmsg(way->fd, &m, 0) == (ssize_t)len;
}

static int send_segmented(struct side *s, const struct batch_way *way, int n, size_t len)
{
    uint16_t segment = (uint16_t)len;
    struct msghdr *m = &s->msgs[0].msg_hdr;
    s->iov[0] = (struct iovec){s->bytes, (size_t)n * len};
    m->msg_control = &s->control[0];
    m->msg_controllen = CMSG_SPACE(sizeof segment);
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    return sendmsg(way->fd, m, 0) < 0 ? 0 : n;
}

int batch_packet_socket(void)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM, 0), on = 1, size = 16 << 20;
    if (fd < 0)
        die("a packet socket: %s", strerror(errno));
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size))
        die("a packet socket's options: %s", strerror(errno));
    return fd;
}

static uint16_t ip_checksum(const struct iphdr *ip)
{
    uint16_t words[sizeof *ip / 2];
    uint32_t sum = 0;
    memcpy(words, ip, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        sum += words[i];
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

/* UDP's own checksum may be left out over IPv4 (RFC 768); devices compute it elsewhere. */
static void put_headers(struct headers *h, const struct batch_way *way, size_t len)
{
    *h = (struct headers){.ip = {.version = 4,
                                 .ihl = sizeof h->ip / 4,
                                 .ttl = 64,
                                 .protocol = IPPROTO_UDP,
                                 .saddr = way->as->sin_addr.s_addr,
                                 .daddr = way->to->sin_addr.s_addr,
                                 .tot_len = htons((uint16_t)(sizeof *h + len))},
                          .udp = {.source = way->as->sin_port,
                                  .dest = way->to->sin_port,
                                  .len = htons((uint16_t)(sizeof h->udp + len))}};
    h->ip.check = ip_checksum(&h->ip);
}

static void put_packet(struct batch *b, const struct batch_way *way, int i, size_t len)
{
    struct side *s = &b->out;
    put_headers(&s->headers[i], way, len);
    s->packet[i][0] = (struct iovec){&s->headers[i], sizeof s->headers[i]};
    s->packet[i][1] = (struct iovec){batch_slot(b, i, len), len};
    s->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->device,
                                         .msg_namelen = sizeof b->device,
                                         .msg_iov = s->packet[i],
                                         .msg_iovlen = 2};
}

/* Message i: datagram i, and where it goes. */
static void put_message(struct batch *b, const struct batch_way *way, int i, size_t len)
{
    struct side *s = &b->out;
    if (way->as) {
        put_packet(b, way, i, len);
        return;
    }
    s->iov[i] = (struct iovec){batch_slot(b, i, len), len};
    s->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &s->iov[i], .msg_iovlen = 1};
    if (way->to) {
        s->names[i] = *way->to;
        s->msgs[i].msg_hdr.msg_name = &s->names[i];
        s->msgs[i].msg_hdr.msg_namelen = sizeof s->names[i];
    }
    if (way->from.s_addr)
        put_source(&s->msgs[i].msg_hdr, &s->control[i], way->from);
}

static int send_messages(struct side *s, int fd, int n)
{
    if (n == 1)
        return sendmsg(fd, &s->msgs[0].msg_hdr, 0) < 0 ? 0 : 1;
    int sent = sendmmsg(fd, s->msgs, (unsigned)n, 0);
    return sent > 0 ? sent : 0;
}

int batch_send(struct batch *b, const struct batch_way *way, int n, size_t len)
{
    for (int i = 0; i < n; i++)
        put_message(b, way, i, len);
    if (way->gso && n > 1)
        return send_segmented(&b->out, way, n, len);
    return send_messages(&b->out, way->fd, n);
}

int batch_send_each(struct batch *b, const struct batch_way *ways, int n, size_t len)
{
    for (int i = 0; i < n; i++)
        put_message(b, &ways[i], i, len);
    return send_messages(&b->out, ways[0].fd, n);
}
