#include "relay/dtls.h"

#include "core/deadline.h"
#include "core/hash.h"
#include "core/map.h"
#include "core/ratelimit.h"
#include "core/slab.h"
#include "relay/now.h"
#include "relay/owner.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

enum {
    COOKIE_SIZE = CRYPTO_SHA256_SIZE,
    HANDSHAKE_MS = 10000,
    RETRY_MS = 1000, /* OpenSSL doubles it itself; this is how often it is asked */
    MTU = 1200,      /* of handshake messages */
    HANDSHAKE_RECORD = 22,
    CLIENT_HELLO = 1,
    DATA_MAX = 16384 /* of one record */
};

struct session {
    struct deadline deadline;
    SSL *ssl;
    struct turn_tuple outer; /* of the datagrams */
    struct turn_tuple tuple; /* as the engine knows it: link is the session's number */
    uint64_t heard_ms;
    bool open; /* its handshake is over */
    bool live;
    bool doomed; /* to be ended when the engine is not at work */
};

struct dtls {
    struct udp_input input;
    uv_loop_t *loop;
    const struct stream_config *config;
    struct gate *gate;
    struct udp *udp;
    struct crypto *crypto;
    struct turn_server *server;
    struct turn_counters *counters;
    BIO_METHOD *bio;
    SSL *listening; /* waits for a ClientHello with a cookie; NULL: to be made */
    struct slab sessions;
    struct map by_tuple;
    struct hash_seed seed;
    struct deadline_wheel wheel;
    struct ratelimit handshakes;
    uint8_t cookie_key[CRYPTO_SHA256_SIZE];
    struct span in; /* the datagram that is being read */
    uint8_t worker;
    const struct turn_tuple *peer; /* where what is written goes */
    uint8_t out[DATA_MAX];         /* what is being encrypted, in one piece as OpenSSL wants it */
};

/* ---- datagrams in and out, as OpenSSL wants them ---- */

static int bio_read(BIO *bio, char *out, int n)
{
    struct dtls *d = BIO_get_data(bio);
    struct span in = d->in;

    BIO_clear_retry_flags(bio);
    d->in = span_of(NULL, 0);
    if (n <= 0 || in.len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    /* what does not fit into a record's buffer is cut off, as of any datagram */
    size_t take = in.len < (size_t)n ? in.len : (size_t)n;
    struct wbuf w = wbuf_of(out, (size_t)n);
    wbuf_bytes(&w, in.data, take);
    return (int)take;
}

static int bio_write(BIO *bio, const char *data, int n)
{
    struct dtls *d = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (n <= 0 || !d->peer)
        return -1;
    udp_send_copy(d->udp, d->peer, span_of(data, (size_t)n));
    return n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    const struct dtls *d = BIO_get_data(bio);

    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_PENDING:
        return (long)d->in.len;
    case BIO_CTRL_DGRAM_GET_MTU_OVERHEAD:
        return 48; /* IPv6 and UDP */
    default:
        return 0;
    }
}

static BIO_METHOD *bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "datagrams");

    if (m && BIO_meth_set_read(m, bio_read) == 1 && BIO_meth_set_write(m, bio_write) == 1 &&
        BIO_meth_set_ctrl(m, bio_ctrl) == 1)
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* ---- cookies ---- */

/* Of the client's address and the minute: what somebody once got there does not last. */
static bool cookie_of(SSL *ssl, uint64_t minute, uint8_t out[COOKIE_SIZE])
{
    struct dtls *d = SSL_get_app_data(ssl);
    struct span key = span_of(d->cookie_key, sizeof d->cookie_key);
    const struct span parts[] = {span_of(d->peer, sizeof *d->peer),
                                 span_of(&minute, sizeof minute)};

    return crypto_hmac(d->crypto, CRYPTO_SHA256, key, parts, 2, out) == CT_OK;
}

static uint64_t minute_of(SSL *ssl)
{
    const struct dtls *d = SSL_get_app_data(ssl);

    return uv_now(d->loop) / 60000;
}

static int make_cookie(SSL *ssl, unsigned char *cookie, unsigned *len)
{
    *len = COOKIE_SIZE;
    return cookie_of(ssl, minute_of(ssl), cookie);
}

static int check_cookie(SSL *ssl, const unsigned char *cookie, unsigned len)
{
    uint8_t want[COOKIE_SIZE];
    bool ok = false;

    for (uint64_t back = 0; back < 2 && len == sizeof want && !ok; back++)
        ok = cookie_of(ssl, minute_of(ssl) - back, want) && crypto_equal(cookie, want, sizeof want);
    return ok;
}

/* ---- sessions ---- */

static struct session *session_at(const struct dtls *d, uint32_t number)
{
    return slab_at(&d->sessions, number);
}

static uint64_t hash_of(const struct dtls *d, const struct turn_tuple *outer)
{
    return hash_bytes(&d->seed, outer, sizeof *outer);
}

static struct session *find(const struct dtls *d, const struct turn_tuple *outer)
{
    struct map_iter it;
    uint32_t n = map_first(&d->by_tuple, hash_of(d, outer), &it);

    while (n != MAP_NONE && memcmp(&session_at(d, n)->outer, outer, sizeof *outer) != 0)
        n = map_next(&d->by_tuple, &it);
    return n == MAP_NONE ? NULL : session_at(d, n);
}

/* The session's own words, and then nothing more of it. */
static void end_session(struct dtls *d, struct session *c)
{
    d->peer = &c->outer;
    ERR_clear_error();
    if (SSL_is_init_finished(c->ssl))
        (void)SSL_shutdown(c->ssl);
    d->peer = NULL;
    SSL_free(c->ssl);
    deadline_clear(&d->wheel, &c->deadline);
    map_remove(&d->by_tuple, hash_of(d, &c->outer), c->tuple.link);
    gate_leave(d->gate, &c->tuple.client);
    if (d->server)
        turn_server_gone(d->server, &c->tuple, now_of(d->loop));
    c->live = false;
    slab_give(&d->sessions, c->tuple.link);
}

static void doom(struct dtls *d, struct session *c, enum turn_counter why)
{
    if (!c->doomed)
        turn_count(d->counters, why, 1);
    c->doomed = true;
}

/* Takes the listening object over. NULL when there are too many. */
static struct session *begin_session(struct dtls *d, const struct turn_tuple *outer)
{
    if (!gate_enter(d->gate, &outer->client, d->config->source_connections))
        return NULL;
    uint32_t n = slab_take(&d->sessions);
    if (n == SLAB_NONE) {
        gate_leave(d->gate, &outer->client);
        return NULL;
    }
    struct session *c = session_at(d, n);
    c->ssl = d->listening;
    d->listening = NULL;
    c->outer = *outer;
    c->tuple = *outer;
    c->tuple.transport = TURN_DTLS;
    c->tuple.link = n;
    c->tuple.worker = d->worker;
    c->heard_ms = uv_now(d->loop);
    c->live = true;
    map_put(&d->by_tuple, hash_of(d, outer), n);
    deadline_set(&d->wheel, &c->deadline, c->heard_ms + RETRY_MS);
    return c;
}

/* ---- what comes ---- */

/* False for what a session can live with. */
static bool is_fatal(const struct session *c, int status)
{
    int error = SSL_get_error(c->ssl, status);

    return error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
}

static void shake_hands(struct dtls *d, struct session *c)
{
    ERR_clear_error();
    int status = SSL_do_handshake(c->ssl);
    if (status == 1) {
        c->open = true;
        turn_count(d->counters, TURN_N_HANDSHAKES, 1);
    } else if (is_fatal(c, status)) {
        doom(d, c, TURN_N_CONN_BROKEN);
    }
}

/*
 * Data takes the place of the datagram that it came in, which OpenSSL has copied: that memory lasts
 * until what is relayed has been sent.
 */
static void take_data(struct dtls *d, struct session *c, uint8_t *room, size_t size,
                      struct turn_now now)
{
    size_t n = 0;
    int status = 1;

    for (; status == 1 && size > 0 && !c->doomed; room += n, size -= n) {
        n = 0;
        d->peer = &c->outer;
        ERR_clear_error();
        status = SSL_read_ex(c->ssl, room, size, &n);
        if (status != 1)
            break;
        c->heard_ms = now.ms;
        struct turn_packet packet = {.data = room, .len = n};
        turn_server_from_client(d->server, &c->tuple, &packet, now);
    }
    if (status == 1 || !is_fatal(c, status))
        return;
    /* bad records are dropped by OpenSSL itself: this is the end, said or forced */
    if (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN)
        c->doomed = true;
    else
        doom(d, c, TURN_N_CONN_BROKEN);
}

static void take_datagram(struct dtls *d, struct session *c, const struct udp_datagram *datagram,
                          struct turn_now now)
{
    d->in = span_of(datagram->data, datagram->len);
    d->peer = &c->outer;
    if (!c->open)
        shake_hands(d, c);
    if (c->open && !c->doomed)
        take_data(d, c, datagram->data, datagram->len, now);
    d->in = span_of(NULL, 0);
    d->peer = NULL;
    if (c->doomed)
        end_session(d, c);
}

static bool make_listening(struct dtls *d)
{
    SSL *ssl = d->config->tls ? tls_context_datagram(d->config->tls) : NULL;
    BIO *bio = ssl ? BIO_new(d->bio) : NULL;

    if (!bio) {
        SSL_free(ssl);
        return false;
    }
    BIO_set_data(bio, d);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, d);
    SSL_set_mtu(ssl, MTU);
    d->listening = ssl;
    return true;
}

static bool may_begin(struct dtls *d, const struct turn_tuple *outer)
{
    const struct ratelimit_rule rule = {d->config->handshake_rate, d->config->handshake_burst};

    return !rule.rate || ratelimit_take(&d->handshakes, &rule, &outer->client, uv_now(d->loop));
}

/* 1: a ClientHello with a good cookie came; else it was answered with one, or dropped. */
static bool has_cookie(struct dtls *d, const struct turn_tuple *outer, struct span datagram)
{
    BIO_ADDR *nobody = BIO_ADDR_new();

    if (!nobody)
        return false;
    d->in = datagram;
    d->peer = outer;
    ERR_clear_error();
    int status = DTLSv1_listen(d->listening, nobody);
    d->in = span_of(NULL, 0);
    d->peer = NULL;
    BIO_ADDR_free(nobody);
    if (status < 0) {
        SSL_free(d->listening);
        d->listening = NULL;
    }
    return status > 0;
}

/*
 * The random bytes of a ClientHello that is sent in the clear, and not in fragments (RFC 6347
 * §4.1, §4.2.2):
 *
 *     type (1) | version (2) | epoch (2) | sequence number (6) | length (2)
 *     type (1) | length (3) | sequence (2) | fragment offset (3) | fragment length (3)
 *     version (2) | random (32) ...
 *
 * NULL for everything else.
 */
static const uint8_t *hello_random(const struct udp_datagram *datagram)
{
    struct rbuf r = rbuf_of(datagram->data, datagram->len);
    bool handshake = rbuf_u8(&r) == HANDSHAKE_RECORD;

    (void)rbuf_u16(&r);
    bool clear = rbuf_u16(&r) == 0;
    (void)rbuf_take(&r, 6 + 2);
    bool hello = rbuf_u8(&r) == CLIENT_HELLO;
    (void)rbuf_take(&r, 3 + 2);
    bool whole = rbuf_u8(&r) == 0 && rbuf_u16(&r) == 0;
    (void)rbuf_take(&r, 3 + 2);
    const uint8_t *random = rbuf_take(&r, SSL3_RANDOM_SIZE);
    return handshake && clear && hello && whole && !r.failed ? random : NULL;
}

/*
 * Whether somebody begins anew where a session is: the client has forgotten it, or its port is
 * another's now (RFC 6347 §4.2.8). A ClientHello with the session's own random bytes is an old one.
 */
static bool begins_anew(const struct session *c, const struct udp_datagram *datagram)
{
    uint8_t known[SSL3_RANDOM_SIZE];
    const uint8_t *random = hello_random(datagram);

    return random && SSL_get_client_random(c->ssl, known, sizeof known) == sizeof known &&
           memcmp(random, known, sizeof known) != 0;
}

/* Who is reached there now has shown a cookie of the new one: the other is gone, without a word. */
static void replace_session(struct dtls *d, const struct turn_tuple *outer)
{
    struct session *old = find(d, outer);

    if (!old)
        return;
    SSL_set_quiet_shutdown(old->ssl, 1);
    end_session(d, old);
}

/* Nothing is kept of him, nor done to a session that is there, before he shows a cookie. */
static void take_stranger(struct dtls *d, const struct turn_tuple *outer,
                          const struct udp_datagram *datagram, struct turn_now now)
{
    if (datagram->len == 0 || datagram->data[0] != HANDSHAKE_RECORD ||
        (!d->listening && !make_listening(d))) {
        turn_count(d->counters, TURN_N_DROP_UNEXPECTED, 1);
        return;
    }
    if (!has_cookie(d, outer, span_of(datagram->data, datagram->len)))
        return;
    struct session *c = NULL;
    if (may_begin(d, outer)) {
        replace_session(d, outer);
        c = begin_session(d, outer);
    }
    if (!c) {
        turn_count(d->counters, TURN_N_CONN_REFUSED, 1);
        SSL_free(d->listening);
        d->listening = NULL;
        return;
    }
    turn_count(d->counters, TURN_N_CONNECTIONS, 1);
    struct udp_datagram nothing = {.data = datagram->data}; /* the ClientHello is in there */
    take_datagram(d, c, &nothing, now);
}

static void take(struct udp_input *input, const struct turn_tuple *tuple,
                 const struct udp_datagram *datagram, struct turn_now now)
{
    struct dtls *d = OWNER_OF(input, struct dtls, input);
    struct session *c = find(d, tuple);

    if (c && !begins_anew(c, datagram))
        take_datagram(d, c, datagram, now);
    else
        take_stranger(d, tuple, datagram, now);
}

/* ---- what leaves ---- */

void dtls_to_client(struct dtls *d, const struct turn_tuple *to, const struct turn_out *out)
{
    struct session *c = session_at(d, to->link);
    struct wbuf w = wbuf_of(d->out, sizeof d->out);
    size_t done;

    if (!c->live || c->doomed || memcmp(&c->tuple, to, sizeof *to) != 0)
        return;
    turn_out_put(&w, out);
    d->peer = &c->outer;
    ERR_clear_error();
    if (w.failed || SSL_write_ex(c->ssl, w.data, w.pos, &done) != 1)
        turn_count(d->counters, TURN_N_DROP_SEND, 1);
    d->peer = NULL;
}

/* ---- time ---- */

static void look_at(struct dtls *d, struct session *c, struct turn_now now)
{
    uint64_t idle_ms = (uint64_t)d->config->connection_idle * 1000;
    uint64_t limit = !c->open && idle_ms > HANDSHAKE_MS ? HANDSHAKE_MS : idle_ms;

    if (turn_server_holds(d->server, &c->tuple, now))
        c->heard_ms = now.ms;
    d->peer = &c->outer;
    ERR_clear_error();
    if (!c->open && DTLSv1_handle_timeout(c->ssl) < 0)
        doom(d, c, TURN_N_CONN_BROKEN);
    d->peer = NULL;
    if (now.ms - c->heard_ms >= limit)
        doom(d, c, TURN_N_CONN_IDLE);
    if (c->doomed)
        end_session(d, c);
    else
        deadline_set(&d->wheel, &c->deadline, c->open ? c->heard_ms + limit : now.ms + RETRY_MS);
}

void dtls_expire(struct dtls *d)
{
    struct turn_now now = now_of(d->loop);

    for (struct deadline *due; (due = deadline_due(&d->wheel, now.ms));)
        look_at(d, OWNER_OF(due, struct session, deadline), now);
}

uint64_t dtls_deadline(const struct dtls *d)
{
    return deadline_next(&d->wheel);
}

/* ---- life ---- */

struct udp_input *dtls_input(struct dtls *d)
{
    return &d->input;
}

void dtls_start(struct dtls *d, struct turn_server *server)
{
    d->server = server;
    d->counters = turn_server_counters(server);
}

void dtls_configure(struct dtls *d, const struct stream_config *config)
{
    d->config = config;
    SSL_free(d->listening);
    d->listening = NULL;
}

void dtls_context_init(SSL_CTX *context)
{
    SSL_CTX_set_options(context, SSL_OP_COOKIE_EXCHANGE | SSL_OP_NO_QUERY_MTU);
    SSL_CTX_set_cookie_generate_cb(context, make_cookie);
    SSL_CTX_set_cookie_verify_cb(context, check_cookie);
}

static bool init(struct dtls *d)
{
    d->bio = bio_method();
    return d->bio && crypto_random(&d->seed, sizeof d->seed) == CT_OK &&
           crypto_random(&d->handshakes.seed, sizeof d->handshakes.seed) == CT_OK &&
           crypto_random(d->cookie_key, sizeof d->cookie_key) == CT_OK &&
           slab_init(&d->sessions, sizeof(struct session), d->config->max_connections) &&
           map_init(&d->by_tuple, d->config->max_connections);
}

struct dtls *dtls_new(const struct dtls_setup *setup)
{
    struct dtls *d = calloc(1, sizeof *d);

    if (!d)
        return NULL;
    d->input.take = take;
    d->loop = setup->loop;
    d->config = setup->config;
    d->gate = setup->gate;
    d->udp = setup->udp;
    d->crypto = setup->crypto;
    d->worker = setup->worker;
    deadline_init(&d->wheel, uv_now(setup->loop));
    if (!init(d)) {
        dtls_free(d);
        return NULL;
    }
    return d;
}

void dtls_free(struct dtls *d)
{
    if (!d)
        return;
    d->server = NULL;
    for (uint32_t i = 0; i < d->sessions.fresh; i++)
        if (session_at(d, i)->live)
            end_session(d, session_at(d, i));
    SSL_free(d->listening);
    BIO_meth_free(d->bio);
    slab_free(&d->sessions);
    map_free(&d->by_tuple);
    crypto_wipe(d->cookie_key, sizeof d->cookie_key);
    free(d);
}
