#define _GNU_SOURCE
#include "load.h"

#include "core/buf.h"
#include "proc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    TURN_PACKETS = 32, /* sent between two looks at what has arrived, or one burst */
    GRACE_MS = 200
};

/* At the head of each payload: enough to tell when it left, and that it is one of ours. */
struct stamp {
    uint64_t seq, sent_ns;
};

struct load_run {
    const struct load *load;
    struct load_result *result;
    int epoll;
    int packets;                 /* a packet socket; -1: none */
    int turn;                    /* the client that sends next */
    const struct client *sender; /* the one before it, which still sends so many: */
    int burst_left;
    uint64_t first_seq, seq; /* of this load_send(), and the next one */
    struct batch *batch;
};

/* ---- receiving ---- */

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
    if (run->load->got) /* clients send in turn */
        run->load->got[s.seq / (uint64_t)run->load->burst % (uint64_t)run->load->n]++;
    hist_add(&result->latency, now_ns() - s.sent_ns);
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

static void take(struct load_run *run, int message, bool at_peer)
{
    struct span packet;
    for (size_t at = 0; (packet = batch_next(run->batch, message, &at)).len > 0;) {
        if (at_peer)
            count(run, packet);
        else
            count_channel_data(run, packet);
    }
}

static void drain_socket(struct load_run *run, int client, bool at_peer)
{
    const struct client *c = &run->load->clients[client];
    int fd = at_peer ? c->peer : c->fd, n;
    do {
        n = batch_receive(run->batch, fd);
        if (n > 0 && at_peer && run->load->echo)
            batch_send_back(run->batch, fd, n);
        else
            for (int i = 0; i < n; i++)
                take(run, i, at_peer);
    } while (batch_was_full(run->batch, n));
}

/* An event's number is the client's, doubled, and 1 more for its peer's socket. */
static void drain(struct load_run *run)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(run->epoll, events, EVENTS, 0);
    for (int i = 0; i < n; i++)
        drain_socket(run, (int)(events[i].data.u64 >> 1), events[i].data.u64 & 1);
}

/* ---- sending ---- */

static size_t packet_size(const struct load *load, const struct client *c)
{
    uint8_t out[MESSAGE_MAX], payload[MESSAGE_PAYLOAD_MAX] = {0};
    size_t size = (size_t)load->size;
    if (load->indication)
        return message_send(out, &c->peer_addr, 0, span_of(payload, size));
    return load->from_peer ? size : message_channel_data(out, c->channel, payload, size);
}

static void compose(struct load_run *run, const struct client *c, uint8_t *out)
{
    const struct load *load = run->load;
    uint8_t payload[MESSAGE_PAYLOAD_MAX] = {0};
    struct stamp s = {run->seq++, now_ns()};
    size_t size = (size_t)load->size;
    memcpy(payload, &s, sizeof s);
    if (load->indication)
        message_send(out, &c->peer_addr, s.seq, span_of(payload, size));
    else if (load->from_peer)
        memcpy(out, payload, size);
    else
        message_channel_data(out, c->channel, payload, size);
}

static struct batch_way way_of(const struct load_run *run, const struct client *c)
{
    const struct load *load = run->load;
    if (load->inject)
        return (struct batch_way){.fd = run->packets,
                                  .to = load->from_peer ? &c->relay : &load->server,
                                  .as = load->from_peer ? &c->peer_addr : &c->at};
    if (load->from_peer)
        return (struct batch_way){.fd = c->peer, .to = &c->relay, .gso = load->gso};
    return (struct batch_way){.fd = c->fd,
                              .to = c->from.s_addr ? &load->server : NULL,
                              .from = c->from,
                              .gso = load->gso};
}

static const struct client *next_client(struct load_run *run)
{
    const struct client *c = &run->load->clients[run->turn];
    run->turn = (run->turn + 1) % run->load->n;
    return c;
}

static void note_sent(struct load_run *run, int sent, int of)
{
    run->result->sent += (unsigned)sent;
    run->result->unsent += (unsigned)(of - sent);
}

/* One burst of the client whose turn it is. */
static void send_burst(struct load_run *run)
{
    const struct load *load = run->load;
    const struct client *c = next_client(run);
    size_t len = packet_size(load, c);
    for (int i = 0; i < load->burst; i++)
        compose(run, c, batch_slot(run->batch, i, len));
    struct batch_way way = way_of(run, c);
    note_sent(run, batch_send(run->batch, &way, load->burst, len), load->burst);
}

/* The next n packets, of one client after another. */
static void send_each(struct load_run *run, int n)
{
    const struct load *load = run->load;
    struct batch_way ways[BATCH_MAX];
    size_t len = packet_size(load, load->clients);
    for (int i = 0; i < n; i++) {
        if (run->burst_left == 0) {
            run->sender = next_client(run);
            run->burst_left = load->burst;
        }
        run->burst_left--;
        const struct client *c = run->sender;
        ways[i] = way_of(run, c);
        compose(run, c, batch_slot(run->batch, i, len));
    }
    note_sent(run, batch_send_each(run->batch, ways, n, len), n);
}

static void send_due(struct load_run *run, uint64_t elapsed_ns)
{
    const struct load_result *result = run->result;
    double rate = run->load->rate;
    uint64_t due = rate > 0 ? (uint64_t)((double)elapsed_ns * 1e-9 * rate) : UINT64_MAX;
    uint64_t done = result->sent + result->unsent;
    if (run->load->hub) {
        if (due > done)
            send_each(run, due - done < TURN_PACKETS ? (int)(due - done) : TURN_PACKETS);
        return;
    }
    for (int out = 0; out < TURN_PACKETS && result->sent + result->unsent < due;
         out += run->load->burst)
        send_burst(run);
}

void load_send(struct load_run *run, double seconds, struct load_result *result)
{
    *result = (struct load_result){0};
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

/* ---- life ---- */

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
    run->batch = batch_new(load->gro);
    run->packets = load->inject ? batch_packet_socket() : -1;
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run->epoll < 0)
        die("epoll_create1: %s", strerror(errno));
    for (int i = 0; i < load->n; i++) {
        if (load->clients[i].owner)
            watch(run, load->clients[i].fd, (uint64_t)i << 1);
        if (load->clients[i].peer_owner)
            watch(run, load->clients[i].peer, (uint64_t)i << 1 | 1);
    }
    return run;
}

void load_free(struct load_run *run)
{
    if (run->packets >= 0)
        close(run->packets);
    close(run->epoll);
    batch_free(run->batch);
    free(run);
}
