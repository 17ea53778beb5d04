#include "check.h"
#include "relay/dtls.h"
#include "relay/now.h"
#include "relay/sock.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * DTLS over a worker's own UDP with a real engine behind it, and OpenSSL's client at the other end;
 * only the engine's effects are the test's own.
 */
struct rig {
    struct turn_io io;
    uv_loop_t loop;
    struct udp *udp;
    struct stream_config config;
    struct gate *gate;
    struct dtls *dtls;
    struct crypto *crypto;
    struct turn_commons *commons;
    struct turn_config turn;
    struct turn_server *server;
    struct addr listener;
};

struct client {
    int fd;
    SSL_CTX *context;
    SSL *ssl;
};

static struct rig *rig_of(struct turn_io *io)
{
    return (struct rig *)(void *)((char *)io - offsetof(struct rig, io));
}

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    return udp_reserve(rig_of(io)->udp, size);
}

static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    dtls_to_client(rig_of(io)->dtls, to, out);
}

static void io_random(struct turn_io *io, void *out, size_t n)
{
    (void)io;
    memset(out, 7, n);
}

static void io_nothing(struct turn_io *io)
{
    (void)io;
}

static const struct turn_io_ops ops = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .random = io_random,
    .lock = io_nothing,
    .unlock = io_nothing,
};

static struct addr addr_of(const char *text)
{
    struct addr a = {0};

    CHECK_EQ(addr_parse(text, strlen(text), &a), CT_OK);
    return a;
}

/* A certificate that signs itself. */
static struct tls_context *make_context(void)
{
    char why[TLS_WHY_MAX] = "", *cert, *pem;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *cert_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());

    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    PEM_write_bio_X509(cert_bio, x);
    PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL);
    long cert_len = BIO_get_mem_data(cert_bio, &cert), key_len = BIO_get_mem_data(key_bio, &pem);
    struct tls_context *c =
        tls_context_new(span_of(cert, (size_t)cert_len), span_of(pem, (size_t)key_len), why);
    CHECK_STR(why, "");
    BIO_free(cert_bio);
    BIO_free(key_bio);
    X509_free(x);
    EVP_PKEY_free(key);
    return c;
}

static void start_engine(struct rig *r)
{
    turn_config_defaults(&r->turn);
    r->turn.max_allocations = 16;
    r->turn.relays[0].bind = r->turn.relays[0].external = addr_of("127.0.0.1");
    r->turn.relay_count = 1;
    r->crypto = crypto_new();
    r->commons = turn_commons_new(&r->turn);
    struct turn_server_setup setup = {
        .config = &r->turn, .commons = r->commons, .crypto = r->crypto, .io = &r->io};
    r->server = turn_server_new(&setup, now_of(&r->loop));
    CHECK(r->crypto && r->commons && r->server);
}

static void rig_init(struct rig *r)
{
    int fd = -1;

    memset(r, 0, sizeof *r);
    r->io.ops = &ops;
    r->config = (struct stream_config){
        .max_connections = 4, .source_connections = 3, .connection_idle = 1, .tls = make_context()};
    CHECK_EQ(uv_loop_init(&r->loop), 0);
    r->udp = udp_new(&r->loop);
    r->gate = gate_new(r->config.max_connections);
    start_engine(r);
    const struct dtls_setup setup = {.loop = &r->loop,
                                     .config = &r->config,
                                     .gate = r->gate,
                                     .udp = r->udp,
                                     .crypto = r->crypto};
    r->dtls = dtls_new(&setup);
    CHECK(r->udp && r->gate && r->dtls);
    r->listener = addr_of("127.0.0.1:0");
    CHECK_EQ(sock_open_listener(&r->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(udp_listen(r->udp, fd, &r->listener, dtls_input(r->dtls)), 0);
    dtls_start(r->dtls, r->server);
    CHECK_EQ(udp_start(r->udp, r->server), 0);
}

static void rig_free(struct rig *r)
{
    turn_server_free(r->server, now_of(&r->loop));
    dtls_free(r->dtls);
    udp_close(r->udp);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&r->loop), 0);
    udp_free(r->udp);
    gate_free(r->gate);
    tls_context_free(r->config.tls);
    turn_commons_free(r->commons);
    crypto_free(r->crypto);
}

static uint64_t counted(struct rig *r, enum turn_counter which)
{
    return atomic_load(&turn_server_counters(r->server)->n[which]);
}

static void turn(struct rig *r)
{
    uv_run(&r->loop, UV_RUN_NOWAIT);
    if (dtls_deadline(r->dtls) <= uv_now(&r->loop))
        dtls_expire(r->dtls);
    udp_flush(r->udp);
}

static void run_until(struct rig *r, enum turn_counter which, uint64_t value)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    while (counted(r, which) < value && uv_hrtime() < give_up)
        turn(r);
    CHECK_EQ(counted(r, which), value);
}

static struct client client_of(struct rig *r)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &r->listener);
    struct client c = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)};

    CHECK_EQ(connect(c.fd, &sa.sa, len), 0);
    c.context = SSL_CTX_new(DTLS_client_method());
    c.ssl = SSL_new(c.context);
    BIO *bio = BIO_new_dgram(c.fd, BIO_NOCLOSE);
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &sa);
    SSL_set_bio(c.ssl, bio, bio);
    SSL_set_connect_state(c.ssl);
    return c;
}

static bool handshake(struct rig *r, struct client *c)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    while (SSL_do_handshake(c->ssl) != 1 && uv_hrtime() < give_up)
        turn(r);
    return SSL_is_init_finished(c->ssl);
}

static void client_free(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->context);
    close(c->fd);
}

static const uint8_t binding[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 't', 'i', 'd'};

static void test_carries_messages(void)
{
    struct rig r;
    uint8_t answer[2048];

    rig_init(&r);
    struct client c = client_of(&r);
    CHECK(handshake(&r, &c));
    CHECK_EQ(SSL_version(c.ssl), DTLS1_2_VERSION);
    for (unsigned i = 1; i <= 20; i++) {
        int n = -1;
        CHECK_EQ(SSL_write(c.ssl, binding, sizeof binding), sizeof binding);
        run_until(&r, TURN_N_BINDINGS, i);
        for (int tries = 0; tries < 10000 && n <= 0; tries++) {
            turn(&r);
            n = SSL_read(c.ssl, answer, sizeof answer);
        }
        CHECK(n > 20);
        CHECK_EQ(answer[0], 1);
        CHECK_BYTES(answer + 8, binding + 8, 12);
    }
    CHECK_EQ(counted(&r, TURN_N_HANDSHAKES), 1);
    SSL_shutdown(c.ssl);
    for (int tries = 0; tries < 10000 && dtls_deadline(r.dtls) != UINT64_MAX; tries++)
        turn(&r);
    CHECK_EQ(dtls_deadline(r.dtls), UINT64_MAX);
    client_free(&c);
    rig_free(&r);
}

/* Who has not shown a cookie leaves nothing behind; nor does what is no DTLS. */
static void test_keeps_nothing_of_strangers(void)
{
    struct rig r;
    uint8_t bytes[512] = {22, 254, 253};

    rig_init(&r);
    struct client c = client_of(&r);
    SSL_do_handshake(c.ssl); /* a ClientHello without cookie, and no answer to what comes */
    CHECK_EQ(send(c.fd, binding, sizeof binding, 0), sizeof binding);
    for (size_t n = 1; n < sizeof bytes; n += 50)
        CHECK_EQ(send(c.fd, bytes, n, 0), n);
    run_until(&r, TURN_N_DROP_UNEXPECTED, 1);
    for (int tries = 0; tries < 1000; tries++)
        turn(&r);
    CHECK_EQ(counted(&r, TURN_N_CONNECTIONS), 0);
    CHECK_EQ(dtls_deadline(r.dtls), UINT64_MAX);
    /* it may still come back with its cookie */
    CHECK(handshake(&r, &c));
    CHECK_EQ(counted(&r, TURN_N_CONNECTIONS), 1);
    client_free(&c);
    rig_free(&r);
}

static void test_limits(void)
{
    struct rig r;
    struct client c[4];

    rig_init(&r);
    for (int i = 0; i < 4; i++)
        c[i] = client_of(&r);
    for (int i = 0; i < 3; i++)
        CHECK(handshake(&r, &c[i]));
    SSL_do_handshake(c[3].ssl);
    uint64_t give_up = uv_hrtime() + UINT64_C(5000000000);
    while (counted(&r, TURN_N_CONN_REFUSED) == 0 && uv_hrtime() < give_up) {
        turn(&r);
        SSL_do_handshake(c[3].ssl);
    }
    CHECK(counted(&r, TURN_N_CONN_REFUSED) > 0);
    CHECK_EQ(counted(&r, TURN_N_CONNECTIONS), 3);
    run_until(&r, TURN_N_CONN_IDLE, 3);
    for (int i = 0; i < 4; i++)
        client_free(&c[i]);
    rig_free(&r);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_carries_messages),
        CHECK_TEST(test_keeps_nothing_of_strangers),
        CHECK_TEST(test_limits),
    };
    tls_init();
    return CHECK_RUN(tests);
}
