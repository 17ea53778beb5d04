#include "check.h"
#include "core/engine.h"
#include "relay/sock.h"
#include "relay/udp_batch.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

/* Batches over real sockets on loopback: what arrives there, and what the kernel was given. */
enum {
    OUTSIDE = 3,
    SIZE_MAX_SENT = 1500,
    LATER_MS = 10001 /* when what the kernel has refused is tried again */
};

struct rig {
    struct batch *batch;
    struct turn_counters counters;
    struct batch_socket in[2]; /* what sends */
    struct addr in_at[2];
    int outside[OUTSIDE];
    struct addr outside_at[OUTSIDE];
    uint64_t now_ms;
};

static int open_at(const char *ip, struct addr *at)
{
    struct timeval patience = {.tv_sec = 5};
    int fd = -1, large = 4 << 20;

    *at = addr_of(ip);
    CHECK_EQ(sock_open_listener(at, SOCK_ALONE, &fd), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large), 0);
    return fd;
}

static void rig_init(struct rig *r, const char *ip)
{
    memset(r, 0, sizeof *r);
    r->batch = batch_new();
    CHECK(r->batch != NULL);
    batch_counters(r->batch, &r->counters);
    for (size_t i = 0; i < 2; i++)
        batch_socket_init(r->batch, &r->in[i], open_at(ip, &r->in_at[i]));
    for (size_t i = 0; i < OUTSIDE; i++)
        r->outside[i] = open_at(ip, &r->outside_at[i]);
    r->now_ms = 1000;
}

static void rig_free(struct rig *r)
{
    for (size_t i = 0; i < 2; i++)
        close(r->in[i].fd);
    for (size_t i = 0; i < OUTSIDE; i++)
        close(r->outside[i]);
    batch_free(r->batch);
}

static uint64_t dropped(const struct rig *r)
{
    return atomic_load(&r->counters.n[TURN_N_DROP_SEND]);
}

/* ---- datagrams that tell where they belong ---- */

/* Number `n` of those from socket `from` to `to`: its bytes say all three. */
static void fill(uint8_t *bytes, size_t len, unsigned from, unsigned to, unsigned n)
{
    struct wbuf w = wbuf_of(bytes, len);

    for (unsigned i = 0; !w.failed && i < len; i++)
        wbuf_u8(&w, (uint8_t)(from * 100 + to * 30 + n * 7 + i));
}

/* In three parts where it is long enough. */
static void note(struct rig *r, unsigned from, unsigned to, const uint8_t *bytes, size_t len)
{
    static const uint8_t zeros[3];
    size_t head = len < 8 ? 0 : 4;
    uint8_t pad = 0;

    while (pad < 3 && len > head + pad && bytes[len - 1 - pad] == 0)
        pad++;
    CHECK_BYTES(bytes + len - pad, zeros, pad);
    const struct batch_note n = {.socket = &r->in[from],
                                 .to = r->outside_at[to],
                                 .out = {.head = span_of(bytes, head),
                                         .body = span_of(bytes + head, len - head - pad),
                                         .pad = pad}};
    batch_note(r->batch, &n, r->now_ms);
}

static void check_next(struct rig *r, unsigned to, const uint8_t *bytes, size_t len)
{
    static uint8_t got[1 << 16];

    CHECK_EQ(recv(r->outside[to], got, sizeof got, 0), len);
    CHECK_BYTES(got, bytes, len);
}

static void check_nothing_more(struct rig *r)
{
    uint8_t byte;

    for (size_t i = 0; i < OUTSIDE; i++)
        CHECK(recv(r->outside[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

/* ---- tests ---- */

enum {
    EACH = 150,
    FLOWS = 2 * OUTSIDE
};
static const size_t sizes[] = {160, 160, 160, 160, 100, 160, 160, 0, 1, 1200, 1200, 1200, 37, 3};

static size_t size_of(unsigned n)
{
    return sizes[n % (sizeof sizes / sizeof *sizes)];
}

/* The next datagram at `to`; next[i]: which one is awaited from socket i. */
static void check_arrival(struct rig *r, unsigned to, unsigned next[2],
                          uint8_t bytes[FLOWS][EACH][SIZE_MAX_SENT])
{
    static uint8_t got[1 << 16];
    union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof sa;
    ssize_t size = recvfrom(r->outside[to], got, sizeof got, 0, &sa.sa, &len);
    struct addr at = sock_to_addr(&sa);
    unsigned from = addr_eq(&at, &r->in_at[1]), n = next[from]++;

    CHECK(addr_eq(&at, &r->in_at[from]) && n < EACH);
    if (n >= EACH)
        return;
    CHECK_EQ(size, size_of(n));
    CHECK_BYTES(got, bytes[from * OUTSIDE + to][n], size_of(n));
}

/*
 * Bursts and single ones of all sizes, from two sockets to three places in turn: all arrive once,
 * unaltered, and each flow in its order. More than a batch holds.
 */
static void check_flows(const char *ip)
{
    static uint8_t bytes[FLOWS][EACH][SIZE_MAX_SENT];
    struct rig r;

    rig_init(&r, ip);
    for (unsigned n = 0; n < EACH; n++)
        for (unsigned f = 0; f < FLOWS; f++) {
            fill(bytes[f][n], size_of(n), f / OUTSIDE, f % OUTSIDE, n);
            note(&r, f / OUTSIDE, f % OUTSIDE, bytes[f][n], size_of(n));
        }
    batch_send(r.batch, r.now_ms);
    for (unsigned to = 0; to < OUTSIDE; to++) {
        unsigned next[2] = {0, 0};
        for (unsigned i = 0; i < 2 * EACH; i++)
            check_arrival(&r, to, next, bytes);
    }
    check_nothing_more(&r);
    CHECK_EQ(dropped(&r), 0);
    rig_free(&r);
}

static void test_flows(void)
{
    check_flows("127.0.0.1:0");
    check_flows("[::1]:0");
}

/* What one receive call gives a socket that takes what was kept together: bytes and their length.
 */
struct together {
    ssize_t size;
    int segment; /* 0: it was a single datagram */
};

static struct together receive_together(int fd)
{
    static uint8_t got[1 << 16];
    union {
        size_t aligned;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = got, .iov_len = sizeof got};
    struct msghdr msg = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof control};
    struct together t = {.size = recvmsg(fd, &msg, 0)};

    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO)
            memcpy(&t.segment, CMSG_DATA(c), sizeof t.segment);
    return t;
}

static void note_many(struct rig *r, const uint8_t *bytes, size_t len, unsigned n)
{
    while (n--)
        note(r, 0, 0, bytes, len);
}

/* A burst crosses the kernel as one, with a shorter datagram at its end, up to 64 of them. */
static void test_bursts_stay_together(void)
{
    static uint8_t bytes[SIZE_MAX_SENT];
    struct rig r;

    rig_init(&r, "127.0.0.1:0");
    memset(bytes, 7, sizeof bytes);
    sock_keep_together(r.outside[0]);
    note_many(&r, bytes, 160, 20);
    note_many(&r, bytes, 100, 1);
    note_many(&r, bytes, 160, 70);
    note_many(&r, bytes, 1400, 50);
    batch_send(r.batch, r.now_ms);
    static const struct together want[] = {{20 * 160 + 100, 160},
                                           {64 * 160, 160},
                                           {6 * 160, 160},
                                           {46 * 1400, 1400},
                                           {4 * 1400, 1400}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct together t = receive_together(r.outside[0]);
        CHECK_EQ(t.size, want[i].size);
        CHECK_EQ(t.segment, want[i].segment);
    }
    check_nothing_more(&r);
    rig_free(&r);
}

/* Differing DSCP and ECN keep datagrams apart; so does DF. Their order stays. */
static void test_headers_that_differ(void)
{
    static const uint8_t tos[] = {0, 0, 0xb8, 0xb8, 0, 0xb8};
    static const struct together want[] = {{20, 10}, {20, 10}, {10, 0}, {10, 0}};
    static uint8_t bytes[10];
    struct rig r;

    rig_init(&r, "127.0.0.1:0");
    sock_keep_together(r.outside[0]);
    sock_keep_together(r.outside[1]);
    for (unsigned i = 0; i < sizeof tos; i++) {
        struct batch_note n = {.socket = &r.in[0],
                               .to = r.outside_at[0],
                               .out.body = span_of(bytes, sizeof bytes),
                               .tos = tos[i]};
        batch_note(r.batch, &n, r.now_ms);
        n.to = r.outside_at[1];
        n.tos = 0;
        n.dont_fragment = i == 2 || i == 3;
        batch_note(r.batch, &n, r.now_ms);
    }
    batch_send(r.batch, r.now_ms);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct together t = receive_together(r.outside[0]);
        CHECK_EQ(t.size, want[i].size);
        CHECK_EQ(t.segment, want[i].segment);
    }
    static const struct together apart[] = {{20, 10}, {10, 0}, {10, 0}, {20, 10}};
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++) {
        struct together t = receive_together(r.outside[1]);
        CHECK_EQ(t.size, apart[i].size);
        CHECK_EQ(t.segment, apart[i].segment);
    }
    check_nothing_more(&r);
    rig_free(&r);
}

/*
 * Segments that are longer than the MTU are refused: they leave as fragments, each exactly once,
 * and for a while the kernel is not asked again; shorter ones are not concerned.
 */
static void test_segments_beyond_the_mtu(void)
{
    enum {
        BURST = 10
    };
    static uint8_t bytes[BURST][SIZE_MAX_SENT];
    int mtu = 1280;
    struct rig r;

    rig_init(&r, "[::1]:0");
    CHECK_EQ(setsockopt(r.in[0].fd, IPPROTO_IPV6, IPV6_MTU, &mtu, sizeof mtu), 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned n = 0; n < BURST; n++) {
            fill(bytes[n], 1400, 0, 0, n + round);
            note(&r, 0, 0, bytes[n], n < BURST - 1 ? 1400 : 300);
        }
        batch_send(r.batch, r.now_ms);
        for (unsigned n = 0; n < BURST; n++)
            check_next(&r, 0, bytes[n], n < BURST - 1 ? 1400 : 300);
        CHECK_EQ(r.in[0].segment_max, 1399);
    }
    check_nothing_more(&r);
    sock_keep_together(r.outside[0]);
    note_many(&r, bytes[0], 1200, 2);
    batch_send(r.batch, r.now_ms);
    CHECK_EQ(receive_together(r.outside[0]).segment, 1200);
    /* later the MTU is another */
    mtu = 1500;
    CHECK_EQ(setsockopt(r.in[0].fd, IPPROTO_IPV6, IPV6_MTU, &mtu, sizeof mtu), 0);
    note_many(&r, bytes[0], 1400, 2);
    batch_send(r.batch, r.now_ms + LATER_MS);
    CHECK_EQ(receive_together(r.outside[0]).segment, 1400);
    CHECK_EQ(dropped(&r), 0);
    rig_free(&r);
}

/* A destination that the kernel refuses counts each datagram, and says nothing of segments. */
static void test_counts_what_is_refused(void)
{
    static uint8_t bytes[160];
    struct rig r;

    rig_init(&r, "127.0.0.1:0");
    r.outside_at[1].port = 0;
    for (unsigned i = 0; i < 5; i++) {
        note(&r, 0, 1, bytes, sizeof bytes);
        note(&r, 0, 0, bytes, sizeof bytes);
    }
    batch_send(r.batch, r.now_ms);
    for (unsigned i = 0; i < 5; i++)
        check_next(&r, 0, bytes, sizeof bytes);
    CHECK_EQ(dropped(&r), 5);
    CHECK_EQ(r.in[0].segment_max, UINT16_MAX);
    rig_free(&r);
}

/* Bursts leave from the address of a wildcard socket that each note names. */
static void test_leaves_from_where_it_is_told(void)
{
    static uint8_t bytes[160];
    static const char *const sources[] = {"127.0.0.1", "127.0.0.2"};
    struct rig r;

    rig_init(&r, "0.0.0.0:0");
    r.outside_at[0] =
        (struct addr){.family = ADDR_V4, .ip = {127, 0, 0, 1}, .port = r.outside_at[0].port};
    for (unsigned i = 0; i < 10; i++) {
        const struct batch_note n = {.socket = &r.in[0],
                                     .to = r.outside_at[0],
                                     .from = addr_of(sources[i % 2]),
                                     .out.head = span_of(bytes, sizeof bytes)};
        batch_note(r.batch, &n, r.now_ms);
    }
    batch_send(r.batch, r.now_ms);
    for (unsigned i = 0; i < 10; i++) {
        union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
        socklen_t len = sizeof sa;
        uint8_t got[256];
        CHECK_EQ(recvfrom(r.outside[0], got, sizeof got, 0, &sa.sa, &len), sizeof bytes);
        struct addr from = sock_to_addr(&sa), want = addr_of(sources[i / 5]);
        CHECK(addr_ip_eq(&from, &want));
        CHECK_EQ(from.port, r.in_at[0].port);
    }
    check_nothing_more(&r);
    rig_free(&r);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_flows),
        CHECK_TEST(test_bursts_stay_together),
        CHECK_TEST(test_headers_that_differ),
        CHECK_TEST(test_segments_beyond_the_mtu),
        CHECK_TEST(test_counts_what_is_refused),
        CHECK_TEST(test_leaves_from_where_it_is_told),
    };
    return CHECK_RUN(tests);
}
