#include "rig.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

/* OpenSSL's own. */
struct speaker {
    int fd;
    SSL_CTX *context;
    SSL *ssl;
};

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

static void begin(struct rig *r)
{
    rig_init(r);
    r->config = (struct stream_config){
        .max_connections = 4, .source_connections = 3, .connection_idle = 1, .tls = make_context()};
    r->gate = gate_new(r->config.max_connections);
    const struct dtls_setup setup = {.loop = &r->loop,
                                     .config = &r->config,
                                     .gate = r->gate,
                                     .udp = r->udp,
                                     .crypto = r->crypto};
    r->dtls = dtls_new(&setup);
    CHECK(r->gate && r->dtls);
    rig_listen(r, "127.0.0.1:0", dtls_input(r->dtls));
    dtls_start(r->dtls, r->server);
    CHECK_EQ(udp_start(r->udp, r->server), 0);
}

static void end(struct rig *r)
{
    struct tls_context *tls = r->config.tls;

    rig_free(r);
    tls_context_free(tls);
}

static struct speaker client_of(struct rig *r)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &r->listener);
    struct speaker c = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)};

    CHECK_EQ(connect(c.fd, &sa.sa, len), 0);
    c.context = SSL_CTX_new(DTLS_client_method());
    c.ssl = SSL_new(c.context);
    BIO *bio = BIO_new_dgram(c.fd, BIO_NOCLOSE);
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &sa);
    SSL_set_bio(c.ssl, bio, bio);
    SSL_set_connect_state(c.ssl);
    return c;
}

static bool handshake(struct rig *r, struct speaker *c)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    while (SSL_do_handshake(c->ssl) != 1 && uv_hrtime() < give_up)
        rig_turn(r);
    return SSL_is_init_finished(c->ssl);
}

static void client_free(struct speaker *c)
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

    begin(&r);
    struct speaker c = client_of(&r);
    CHECK(handshake(&r, &c));
    CHECK_EQ(SSL_version(c.ssl), DTLS1_2_VERSION);
    for (unsigned i = 1; i <= 20; i++) {
        int n = -1;
        CHECK_EQ(SSL_write(c.ssl, binding, sizeof binding), sizeof binding);
        rig_run_until(&r, TURN_N_BINDINGS, i);
        for (int tries = 0; tries < 10000 && n <= 0; tries++) {
            rig_turn(&r);
            n = SSL_read(c.ssl, answer, sizeof answer);
        }
        CHECK(n > 20);
        CHECK_EQ(answer[0], 1);
        CHECK_BYTES(answer + 8, binding + 8, 12);
    }
    CHECK_EQ(rig_counter(&r, TURN_N_HANDSHAKES), 1);
    SSL_shutdown(c.ssl);
    for (int tries = 0; tries < 10000 && dtls_deadline(r.dtls) != UINT64_MAX; tries++)
        rig_turn(&r);
    CHECK_EQ(dtls_deadline(r.dtls), UINT64_MAX);
    client_free(&c);
    end(&r);
}

/* Who has not shown a cookie leaves nothing behind; nor does what is no DTLS. */
static void test_keeps_nothing_of_strangers(void)
{
    struct rig r;
    uint8_t bytes[512] = {22, 254, 253};

    begin(&r);
    struct speaker c = client_of(&r);
    SSL_do_handshake(c.ssl); /* a ClientHello without cookie, and no answer to what comes */
    CHECK_EQ(send(c.fd, binding, sizeof binding, 0), sizeof binding);
    for (size_t n = 1; n < sizeof bytes; n += 50)
        CHECK_EQ(send(c.fd, bytes, n, 0), n);
    rig_run_until(&r, TURN_N_DROP_UNEXPECTED, 1);
    for (int tries = 0; tries < 1000; tries++)
        rig_turn(&r);
    CHECK_EQ(rig_counter(&r, TURN_N_CONNECTIONS), 0);
    CHECK_EQ(dtls_deadline(r.dtls), UINT64_MAX);
    /* it may still come back with its cookie */
    CHECK(handshake(&r, &c));
    CHECK_EQ(rig_counter(&r, TURN_N_CONNECTIONS), 1);
    client_free(&c);
    end(&r);
}

static void test_limits(void)
{
    struct rig r;
    struct speaker c[4];

    begin(&r);
    for (int i = 0; i < 4; i++)
        c[i] = client_of(&r);
    for (int i = 0; i < 3; i++)
        CHECK(handshake(&r, &c[i]));
    SSL_do_handshake(c[3].ssl);
    uint64_t give_up = uv_hrtime() + UINT64_C(5000000000);
    while (rig_counter(&r, TURN_N_CONN_REFUSED) == 0 && uv_hrtime() < give_up) {
        rig_turn(&r);
        SSL_do_handshake(c[3].ssl);
    }
    CHECK(rig_counter(&r, TURN_N_CONN_REFUSED) > 0);
    CHECK_EQ(rig_counter(&r, TURN_N_CONNECTIONS), 3);
    rig_run_until(&r, TURN_N_CONN_IDLE, 3);
    for (int i = 0; i < 4; i++)
        client_free(&c[i]);
    end(&r);
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
