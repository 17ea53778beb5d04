#define _GNU_SOURCE
#include "load.h"

#include "core/buf.h"
#include "proc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BATCH = LOAD_BURST_MAX,
    EVENTS = 256,
    TURNS = 32,
    GRACE_MS = 200,
    CHANNEL_HEADER = 4
};

/* At the head of each payload: enough to tell when it left, and that it is one of ours. */
struct stamp {
    uint64_t seq, sent_ns;
};

/* Room for one recvmmsg or sendmmsg. */
struct batch {
    struct mmsghdr msgs[BATCH];
    struct iovec iov[BATCH];
    struct sockaddr_in from[BATCH];
    uint8_t bytes[BATCH][CLIENT_PACKET_MAX];
};

struct load_run {
    const struct load *load;
    struct load_result *result;
    int epoll;
    int turn;                /* the client that sends next */
    uint64_t first_seq, seq; /* of this load_send(), and the next one */
    struct batch in, out;
};

/* ---- receiving ---- */

static int receive(struct batch *b, int fd)
{
    for (int i = 0; i < BATCH; i++) {
        b->iov[i] = (struct iovec){b->bytes[i], CLIENT_PACKET_MAX};
        b->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &b->iov[i],
                                             .msg_iovlen = 1,
                                             .msg_name = &b->from[i],
                                             .msg_namelen = sizeof b->from[i]};
    }
    return recvmmsg(fd, b->msgs, BATCH, MSG_DONTWAIT, NULL);
}

static void send_back(struct batch *b, int fd, int n)
{
    for (int i = 0; i < n; i++)
        b->iov[i].iov_len = b->msgs[i].msg_len;
    sendmmsg(fd, b->msgs, (unsigned)n, 0);
}

/* Counts one payload. One of an earlier load_send() is nobody's. */
static void count(struct load_run *run, struct span payload)
{
    struct load_result *result = run->result;
    struct stamp s;
    if (payload.len != (size_t)run->load->size) {
        result->bad++;
        return;
    }
    memcpy(&s, payload.data, sizeof s);
    if (s.seq >= run->seq)
        result->bad++;
    if (s.seq < run->first_seq || s.seq >= run->seq)
        return;
    result->delivered++;
    if (result->latencies < result->latency_cap)
        result->latency[result->latencies++] = (uint32_t)((now_ns() - s.sent_ns) / 100);
}

/* What a client receives is ChannelData, padded or not (RFC 8656 §12.5), or of no interest. */
static void count_channel_data(struct load_run *run, struct span packet)
{
    struct rbuf r = rbuf_of(packet.data, packet.len);
    uint16_t channel = rbuf_u16(&r), len = rbuf_u16(&r);
    const uint8_t *payload = rbuf_take(&r, len);
    if (payload && channel == CLIENT_CHANNEL)
        count(run, span_of(payload, len));
}

static void take(struct load_run *run, int n, bool at_peer)
{
    for (int i = 0; i < n; i++) {
        struct span packet = span_of(run->in.bytes[i], run->in.msgs[i].msg_len);
        if (at_peer)
            count(run, packet);
        else
            count_channel_data(run, packet);
    }
}

static void drain_socket(struct load_run *run, int fd, bool at_peer)
{
    for (int n = BATCH; n == BATCH;) {
        n = receive(&run->in, fd);
        if (n > 0 && at_peer && run->load->echo)
            send_back(&run->in, fd, n);
        else if (n > 0)
            take(run, n, at_peer);
    }
}

/* An event's number is the client's, doubled, and 1 more for its peer's socket. */
static void drain(struct load_run *run)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(run->epoll, events, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        const struct client *c = &run->load->clients[events[i].data.u64 >> 1];
        bool at_peer = events[i].data.u64 & 1;
        drain_socket(run, at_peer ? c->peer : c->fd, at_peer);
    }
}

/* ---- sending ---- */

static size_t compose(struct load_run *run, const struct client *c, uint8_t *out)
{
    const struct load *load = run->load;
    uint8_t payload[CLIENT_PAYLOAD_MAX] = {0};
    struct stamp s = {run->seq++, now_ns()};
    size_t size = (size_t)load->size;
    memcpy(payload, &s, sizeof s);
    if (load->indication)
        return client_send_indication(c, out, payload, size);
    if (!load->from_peer)
        return client_channel_data(c, out, payload, size);
    memcpy(out, payload, size);
    return size;
}

static void fill(struct load_run *run, struct client *c)
{
    struct batch *b = &run->out;
    for (int i = 0; i < run->load->burst; i++) {
        b->iov[i] = (struct iovec){b->bytes[i], compose(run, c, b->bytes[i])};
        b->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &b->iov[i], .msg_iovlen = 1};
        if (run->load->from_peer) {
            b->msgs[i].msg_hdr.msg_name = &c->relay;
            b->msgs[i].msg_hdr.msg_namelen = sizeof c->relay;
        }
    }
}

/* One burst of the client whose turn it is. */
static void send_burst(struct load_run *run)
{
    const struct load *load = run->load;
    struct client *c = &load->clients[run->turn];
    int burst = load->burst, fd = load->from_peer ? c->peer : c->fd, n;
    run->turn = (run->turn + 1) % load->n;
    fill(run, c);
    if (burst == 1)
        n = sendmsg(fd, &run->out.msgs[0].msg_hdr, 0) < 0 ? 0 : 1;
    else
        n = sendmmsg(fd, run->out.msgs, (unsigned)burst, 0);
    run->result->sent += (unsigned)(n > 0 ? n : 0);
    run->result->unsent += (unsigned)(burst - (n > 0 ? n : 0));
}

static void send_due(struct load_run *run, uint64_t elapsed_ns)
{
    const struct load_result *result = run->result;
    double rate = run->load->rate;
    uint64_t due = rate > 0 ? (uint64_t)((double)elapsed_ns * 1e-9 * rate) : UINT64_MAX;
    for (int turns = 0; turns < TURNS && result->sent + result->unsent < due; turns++)
        send_burst(run);
}

void load_send(struct load_run *run, double seconds, struct load_result *result)
{
    *result = (struct load_result){.latency = result->latency, .latency_cap = result->latency_cap};
    run->result = result;
    run->first_seq = run->seq;
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), now;
    while ((now = now_ns()) < end) {
        send_due(run, now - start);
        drain(run);
    }
    result->seconds = (double)(now - start) * 1e-9;
    uint64_t in_time = result->delivered;
    for (end = now + GRACE_MS * 1000000ull; now_ns() < end;)
        drain(run);
    result->late = result->delivered - in_time;
}

/* ---- life and results ---- */

static void watch(struct load_run *run, int fd, uint64_t number)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = number};
    if (fd >= 0 && epoll_ctl(run->epoll, EPOLL_CTL_ADD, fd, &e))
        die("epoll_ctl: %s", strerror(errno));
}

struct load_run *load_new(const struct load *load)
{
    struct load_run *run = calloc(1, sizeof *run);
    if (!run)
        die("no memory");
    run->load = load;
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run->epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    for (int i = 0; i < load->n; i++) {
        watch(run, load->clients[i].fd, (uint64_t)i << 1);
        watch(run, load->clients[i].peer, (uint64_t)i << 1 | 1);
    }
    return run;
}

void load_free(struct load_run *run)
{
    close(run->epoll);
    free(run);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void load_sort(struct load_result *result)
{
    qsort(result->latency, result->latencies, sizeof *result->latency, compare);
}

double load_quantile(const struct load_result *result, double q)
{
    if (result->latencies == 0)
        return 0;
    return result->latency[(size_t)((double)(result->latencies - 1) * q)] / 10.0;
}
