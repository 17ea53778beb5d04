/*
 * TCP allocations with a real engine, real clients and real peers on one thread: what the test does
 * with one end it sees at the other.
 */
#include "rig.h"

#include "core/stun_auth.h"
#include "core/stun_msg.h"
#include "relay/conn.h"
#include "relay/pipe_state.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void begin(struct rig *r, uint8_t worker)
{
    rig_init_worker(r, worker);
    CHECK_EQ(udp_start(r->udp, r->server), 0);
    r->config = (struct stream_config){
        .max_connections = 8, .source_connections = 8, .connection_idle = 30};
    rig_listen_tcp(r);
}

/* ---- clients and peers ---- */

static int connect_to(const struct addr *at)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(connect(fd, &sa.sa, len), 0);
    return fd;
}

/* Reads exactly so much, while the rig works. */
static bool take(struct rig *r, int fd, uint8_t *bytes, size_t n)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    for (size_t have = 0; have < n && uv_hrtime() < give_up;) {
        rig_turn(r);
        ssize_t got = recv(fd, bytes + have, n - have, MSG_DONTWAIT);
        if (got == 0)
            return false;
        have += got > 0 ? (size_t)got : 0;
        if (have == n)
            return true;
    }
    return n == 0;
}

/* The other end has closed, and nothing came before. */
static bool ended(struct rig *r, int fd)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);
    uint8_t byte;

    while (uv_hrtime() < give_up) {
        rig_turn(r);
        ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
        if (n >= 0 || errno == ECONNRESET)
            return n <= 0;
    }
    return false;
}

struct client {
    int fd;
    char nonce[128];
    uint8_t tid[STUN_TID_SIZE];
    uint8_t reply[2048];
    struct stun_msg msg;
};

static void put_credentials(struct rig *r, struct client *c, struct wbuf *w)
{
    char password[STUN_REST_PASSWORD_MAX];
    const char *username = "4000000000:me";
    struct stun_key key;
    size_t len;

    CHECK_EQ(stun_rest_password(r->crypto, CRYPTO_SHA1, span_str("north"), span_str(username),
                                password, &len),
             CT_OK);
    const struct stun_long_term cred = {.username = span_str(username),
                                        .realm = span_str(r->turn.realm),
                                        .password = span_of(password, len)};
    CHECK_EQ(stun_key_long_term(r->crypto, STUN_PASSWORD_MD5, &cred, &key), CT_OK);
    stun_put(w, STUN_ATTR_USERNAME, username, strlen(username));
    stun_put(w, STUN_ATTR_REALM, r->turn.realm, strlen(r->turn.realm));
    stun_put(w, STUN_ATTR_NONCE, c->nonce, strlen(c->nonce));
    CHECK_EQ(stun_put_integrity(w, r->crypto, STUN_INTEGRITY_SHA1, &key), CT_OK);
}

/* What a request has: at most one of these. */
struct with {
    uint16_t type;
    uint32_t number;
    const struct addr *peer;
};

static size_t encode(struct rig *r, struct client *c, uint16_t method, struct with with,
                     uint8_t bytes[1024])
{
    struct wbuf w = wbuf_of(bytes, 1024);

    c->tid[0]++;
    stun_begin(&w, stun_type(method, STUN_REQUEST), c->tid);
    if (with.peer)
        stun_put_xaddr(&w, with.type, with.peer);
    else if (with.type)
        stun_put_u32(&w, with.type, with.number);
    if (*c->nonce)
        put_credentials(r, c, &w);
    return w.pos;
}

/* 0 for success or the error code. */
static int answer(struct rig *r, struct client *c)
{
    if (!take(r, c->fd, c->reply, 20))
        return -1;
    size_t len = 20u + (size_t)(c->reply[2] << 8 | c->reply[3]);
    if (!take(r, c->fd, c->reply + 20, len - 20))
        return -1;
    CHECK_EQ(stun_msg_decode(&c->msg, c->reply, len, NULL), CT_OK);
    struct span code = stun_msg_bytes(&c->msg, STUN_ID_ERROR_CODE);
    struct span nonce = stun_msg_bytes(&c->msg, STUN_ID_NONCE);
    if (nonce.data)
        snprintf(c->nonce, sizeof c->nonce, "%.*s", (int)nonce.len, (const char *)nonce.data);
    return code.len >= 4 ? code.data[2] * 100 + code.data[3] : 0;
}

static int request(struct rig *r, struct client *c, uint16_t method, struct with with)
{
    uint8_t bytes[1024];
    size_t len = encode(r, c, method, with, bytes);

    CHECK_EQ(send(c->fd, bytes, len, 0), len);
    return answer(r, c);
}

/* With a nonce of its own. */
static struct client client_of(struct rig *r)
{
    struct client c = {.fd = connect_to(&r->listener)};

    CHECK_EQ(request(r, &c, STUN_ALLOCATE, (struct with){0}), 401);
    return c;
}

/* A joined connection: control, data, peer; and what listens for peers. */
struct line {
    struct client control, data;
    struct addr at;
    int listener, peer;
    uint32_t id;
    struct turn_pipe *pipe;
};

static void allocate(struct rig *r, struct line *l)
{
    *l = (struct line){.at = addr_of("127.0.0.1:0"), .peer = -1};
    CHECK_EQ(sock_open_acceptor(&l->at, SOCK_ALONE, &l->listener), 0);
    l->control = client_of(r);
    CHECK_EQ(request(r, &l->control, STUN_ALLOCATE,
                     (struct with){STUN_ATTR_REQUESTED_TRANSPORT, 6u << 24, NULL}),
             0);
    CHECK_EQ(
        request(r, &l->control, STUN_CONNECT, (struct with){STUN_ATTR_XOR_PEER_ADDRESS, 0, &l->at}),
        0);
    CHECK_EQ(stun_msg_u32(&l->control.msg, STUN_ID_CONNECTION_ID, &l->id), CT_OK);
    struct addr from;
    CHECK_EQ(sock_accept(l->listener, &from, &l->peer), 0);
}

static void join(struct rig *r, struct line *l)
{
    allocate(r, l);
    l->data = client_of(r);
    CHECK_EQ(request(r, &l->data, STUN_CONNECTION_BIND,
                     (struct with){STUN_ATTR_CONNECTION_ID, l->id, NULL}),
             0);
    for (uint32_t i = 0; i < r->streams->conns.fresh; i++) {
        const struct conn *c = slab_at(&r->streams->conns, i);
        if (c->open && c->pipe)
            l->pipe = c->pipe;
    }
    CHECK(l->pipe != NULL);
}

static void line_close(struct line *l)
{
    close(l->control.fd);
    close(l->data.fd);
    close(l->listener);
    close(l->peer);
}

/* Sends until nothing moves any more, and counts. */
static size_t fill(struct rig *r, int fd)
{
    static const uint8_t chunk[65536];
    size_t sent = 0;

    for (unsigned idle = 0; idle < 200;) {
        ssize_t n = send(fd, chunk, sizeof chunk, MSG_DONTWAIT | MSG_NOSIGNAL);
        rig_turn(r);
        sent += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle + 1;
    }
    return sent;
}

/* ---- tests ---- */

static void test_there_and_back(void)
{
    struct rig r;
    struct line l;
    uint8_t got[5];

    begin(&r, 0);
    join(&r, &l);
    CHECK_EQ(send(l.data.fd, "hello", 5, 0), 5);
    CHECK(take(&r, l.peer, got, 5) && memcmp(got, "hello", 5) == 0);
    CHECK_EQ(send(l.peer, "world", 5, 0), 5);
    CHECK(take(&r, l.data.fd, got, 5) && memcmp(got, "world", 5) == 0);
    CHECK_EQ(rig_counter(&r, TURN_N_UP_BYTES), 5);
    CHECK_EQ(rig_counter(&r, TURN_N_DOWN_BYTES), 5);
    CHECK_EQ(pipes_deadline(r.pipes), UINT64_MAX);
    line_close(&l);
    rig_free(&r);
}

/* A half that is closed is closed at the other end, and the other half goes on. */
static void test_halves(void)
{
    struct rig r;
    struct line l;
    uint8_t got[4];

    for (int which = 0; which < 2; which++) {
        begin(&r, 0);
        join(&r, &l);
        int first = which ? l.peer : l.data.fd, second = which ? l.data.fd : l.peer;
        CHECK_EQ(send(first, "last", 4, 0), 4);
        shutdown(first, SHUT_WR);
        CHECK(take(&r, second, got, 4) && ended(&r, second));
        CHECK_EQ(send(second, "more", 4, 0), 4);
        CHECK(take(&r, first, got, 4) && memcmp(got, "more", 4) == 0);
        CHECK_EQ(r.streams->conns.used, 2);
        shutdown(second, SHUT_WR);
        CHECK(ended(&r, first));
        for (int i = 0; i < 100 && r.streams->conns.used > 1; i++)
            rig_turn(&r);
        CHECK_EQ(r.streams->conns.used, 1);
        line_close(&l);
        rig_free(&r);
    }
}

/* Whoever sends faster than the other reads is stopped; nothing is lost. */
static void test_slow_ends(void)
{
    static uint8_t got[1 << 20];
    struct rig r;
    struct line l;

    for (int which = 0; which < 2; which++) {
        begin(&r, 0);
        join(&r, &l);
        int fast = which ? l.peer : l.data.fd, slow = which ? l.data.fd : l.peer;
        size_t sent = fill(&r, fast), received = 0;
        CHECK(sent > 0);
        CHECK_EQ(r.pipes->buffers.out, 1);
        shutdown(fast, SHUT_WR);
        while (received < sent) {
            size_t n = sent - received < sizeof got ? sent - received : sizeof got;
            CHECK(take(&r, slow, got, n));
            received += n;
        }
        CHECK(ended(&r, slow));
        CHECK_EQ(r.pipes->buffers.out, 0);
        CHECK_EQ(rig_counter(&r, TURN_N_TCP_CUT), 0);
        line_close(&l);
        rig_free(&r);
    }
}

/* One end has closed, the other does neither: after a minute without a byte it is over. */
static void test_nobody_takes_leave(void)
{
    struct rig r;
    struct line l;

    begin(&r, 0);
    join(&r, &l);
    shutdown(l.data.fd, SHUT_WR);
    CHECK(ended(&r, l.peer));
    CHECK(pipes_deadline(r.pipes) != UINT64_MAX);
    uint64_t now = uv_now(&r.loop), due = now - DEADLINE_TICK_MS;
    deadline_set(&r.pipes->wheel, &l.pipe->deadline, due); /* too early: a byte was just moved */
    l.pipe->moved_ms = now - 1000;
    pipes_expire(r.pipes);
    CHECK_EQ(rig_counter(&r, TURN_N_TCP_CUT), 0);
    CHECK(l.pipe->deadline.at >= now + PIPE_HALF_MS - 1000);
    deadline_set(&r.pipes->wheel, &l.pipe->deadline, due);
    l.pipe->moved_ms = now - PIPE_HALF_MS;
    pipes_expire(r.pipes);
    CHECK_EQ(rig_counter(&r, TURN_N_TCP_CUT), 1);
    CHECK(ended(&r, l.data.fd) && ended(&r, l.peer));
    line_close(&l);
    rig_free(&r);
}

static void test_no_buffers(void)
{
    struct rig r;
    struct line l;

    begin(&r, 0);
    join(&r, &l);
    r.pipes->buffers.most = 0;
    fill(&r, l.data.fd);
    CHECK_EQ(rig_counter(&r, TURN_N_TCP_CUT), 1);
    line_close(&l);
    rig_free(&r);
}

/* An end that vanishes: the other is told, and what was on its way there still comes. */
static void test_resets(void)
{
    struct linger now = {.l_onoff = 1};
    struct rig r;
    struct line l;
    uint8_t got[4];

    for (int which = 0; which < 2; which++) {
        begin(&r, 0);
        join(&r, &l);
        int first = which ? l.peer : l.data.fd, second = which ? l.data.fd : l.peer;
        CHECK_EQ(send(first, "last", 4, 0), 4);
        CHECK(take(&r, second, got, 4));
        CHECK_EQ(setsockopt(first, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        close(first);
        CHECK(ended(&r, second));
        close(second);
        for (int i = 0; i < 10000 && r.streams->conns.used > 1; i++)
            rig_turn(&r);
        CHECK_EQ(r.streams->conns.used, 1);
        close(l.control.fd);
        close(l.listener);
        rig_free(&r);
    }
}

/* The data connection has come to another worker: it goes where its id leads, with what follows. */
static void test_other_worker(void)
{
    static struct rig a, b;
    struct line l;
    uint8_t bytes[1024], got[5];

    begin(&a, 0);
    begin(&b, 1);
    allocate(&a, &l);
    struct client d = client_of(&b);
    size_t len = encode(&b, &d, STUN_CONNECTION_BIND,
                        (struct with){STUN_ATTR_CONNECTION_ID, l.id, NULL}, bytes);
    memcpy(bytes + len, "first", 5);
    CHECK_EQ(send(d.fd, bytes, len + 5, 0), len + 5);
    for (int i = 0; i < 10000 && !b.parcel; i++)
        rig_turn(&b);
    CHECK(b.parcel && b.parcel->worker == 0 && b.parcel->len == len + 5);
    rig_turn(&b);
    CHECK_EQ(b.streams->conns.used, 0);
    streams_adopt(a.streams, b.parcel);
    CHECK_EQ(answer(&a, &d), 0);
    CHECK(take(&a, l.peer, got, 5) && memcmp(got, "first", 5) == 0);
    CHECK_EQ(rig_counter(&a, TURN_N_TCP_BOUND), 1);
    l.data = d;
    line_close(&l);
    rig_free(&a);
    rig_free(&b);
}

/* It goes once, and a parcel that nobody takes closes what it holds. */
static void test_lost_parcels(void)
{
    static struct rig a;
    struct client c;

    begin(&a, 0);
    c = client_of(&a);
    uint8_t bytes[1024];
    const struct with elsewhere = {STUN_ATTR_CONNECTION_ID, 5u << 26, NULL};
    size_t len = encode(&a, &c, STUN_CONNECTION_BIND, elsewhere, bytes);
    CHECK_EQ(send(c.fd, bytes, len, 0), len);
    for (int i = 0; i < 10000 && !a.parcel; i++)
        rig_turn(&a);
    CHECK(a.parcel && a.parcel->worker == 5);
    struct parcel *p = a.parcel;
    a.parcel = NULL;
    streams_adopt(a.streams, p); /* back to where it came from: it does not go again */
    CHECK_EQ(answer(&a, &c), 400);
    close(c.fd);
    c = client_of(&a);
    len = encode(&a, &c, STUN_CONNECTION_BIND, elsewhere, bytes);
    CHECK_EQ(send(c.fd, bytes, len, 0), len);
    for (int i = 0; i < 10000 && !a.parcel; i++)
        rig_turn(&a);
    parcel_free(a.parcel);
    CHECK(ended(&a, c.fd));
    parcel_free(NULL);
    close(c.fd);
    rig_free(&a);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_there_and_back), CHECK_TEST(test_halves),
        CHECK_TEST(test_slow_ends),      CHECK_TEST(test_nobody_takes_leave),
        CHECK_TEST(test_no_buffers),     CHECK_TEST(test_resets),
        CHECK_TEST(test_other_worker),   CHECK_TEST(test_lost_parcels),
    };
    return CHECK_RUN(tests);
}
