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

/* Over a socket that is connected to the relay. */
static struct speaker speaker_on(struct rig *r, int fd)
{
    union sock_addr sa;
    struct speaker c = {.fd = fd};

    (void)sock_from_addr(&sa, &r->listener);
    c.context = SSL_CTX_new(DTLS_client_method());
    c.ssl = SSL_new(c.context);
    BIO *bio = BIO_new_dgram(c.fd, BIO_NOCLOSE);
    BIO_ctrl(bio, BIO_CTRL_DGRAM_SET_CONNECTED, 0, &sa);
    SSL_set_bio(c.ssl, bio, bio);
    SSL_set_connect_state(c.ssl);
    return c;
}

static struct speaker client_of(struct rig *r)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &r->listener);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    CHECK_EQ(connect(fd, &sa.sa, len), 0);
    return speaker_on(r, fd);
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

/* Sends a Binding request and awaits its answer; it is the relay's n-th. */
static bool answers(struct rig *r, struct speaker *c, uint64_t n)
{
    uint8_t answer[2048];
    int got = -1;

    CHECK_EQ(SSL_write(c->ssl, binding, sizeof binding), sizeof binding);
    rig_run_until(r, TURN_N_BINDINGS, n);
    for (int tries = 0; tries < 10000 && got <= 0; tries++) {
        rig_turn(r);
        got = SSL_read(c->ssl, answer, sizeof answer);
    }
    return got > 20 && answer[0] == 1;
}

/* RFC 6347 §4.2.8: a client that has forgotten its session, or another one on the same port. */
static void test_begins_anew(void)
{
    struct rig r;

    begin(&r);
    struct speaker first = client_of(&r), second = speaker_on(&r, first.fd);
    struct speaker third = speaker_on(&r, first.fd);
    CHECK(handshake(&r, &first) && answers(&r, &first, 1));
    CHECK(handshake(&r, &second) && answers(&r, &second, 2));
    /* in the middle of a handshake too: up to where the session knows of him */
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);
    while (rig_counter(&r, TURN_N_CONNECTIONS) < 3 && uv_hrtime() < give_up) {
        (void)SSL_do_handshake(third.ssl);
        rig_turn(&r);
    }
    CHECK(!SSL_is_init_finished(third.ssl));
    uint8_t rest[2048];
    while (recv(first.fd, rest, sizeof rest, 0) > 0)
        ;
    struct speaker fourth = speaker_on(&r, first.fd);
    CHECK(handshake(&r, &fourth) && answers(&r, &fourth, 3));
    CHECK_EQ(rig_counter(&r, TURN_N_CONNECTIONS), 4);
    CHECK_EQ(rig_counter(&r, TURN_N_CONN_REFUSED), 0);
    struct speaker *all[] = {&first, &second, &third};
    for (size_t i = 0; i < 3; i++) {
        SSL_free(all[i]->ssl);
        SSL_CTX_free(all[i]->context);
    }
    client_free(&fourth);
    end(&r);
}

enum {
    KEPT = 8
};

/* What a client has sent, datagram by datagram. */
struct record {
    size_t count, len[KEPT];
    uint8_t bytes[KEPT][2048];
};

static long keep_sent(BIO *bio, int what, const char *data, size_t len, int i, long l, int ret,
                      size_t *done)
{
    struct record *k = (struct record *)(void *)BIO_get_callback_arg(bio);

    (void)i;
    (void)l;
    (void)done;
    if (what == BIO_CB_WRITE && k->count < KEPT && len <= sizeof k->bytes[0]) {
        memcpy(k->bytes[k->count], data, len);
        k->len[k->count++] = len;
    }
    return ret;
}

/* Copies of its own ClientHello, and those that show no cookie, do a session no harm. */
static void test_goes_on(void)
{
    static struct record kept;
    struct rig r;

    begin(&r);
    struct speaker c = client_of(&r), other = speaker_on(&r, c.fd);
    BIO_set_callback_ex(SSL_get_wbio(c.ssl), keep_sent);
    BIO_set_callback_arg(SSL_get_wbio(c.ssl), (char *)&kept);
    CHECK(handshake(&r, &c) && answers(&r, &c, 1));
    CHECK(kept.count >= 3);
    for (size_t i = 0; i < 2; i++) /* the one without a cookie and the one with it */
        CHECK_EQ(send(c.fd, kept.bytes[i], kept.len[i], 0), kept.len[i]);
    (void)SSL_do_handshake(other.ssl); /* somebody else's, or a forged one: it is asked for one */
    for (size_t n = 13; n < kept.len[1]; n += 7) {
        kept.bytes[1][30] ^= 1; /* and what has been cut off, of a stranger */
        CHECK_EQ(send(c.fd, kept.bytes[1], n, 0), n);
    }
    CHECK(answers(&r, &c, 2));
    CHECK_EQ(rig_counter(&r, TURN_N_CONNECTIONS), 1);
    SSL_free(other.ssl);
    SSL_CTX_free(other.context);
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
        CHECK_TEST(test_carries_messages), CHECK_TEST(test_keeps_nothing_of_strangers),
        CHECK_TEST(test_begins_anew),      CHECK_TEST(test_goes_on),
        CHECK_TEST(test_limits),
    };
    tls_init();
    return CHECK_RUN(tests);
}
