#include "relay/tls.h"

#include "relay/dtls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct tls_context {
    atomic_uint refs; /* whoever made it, and each session */
    SSL_CTX *ssl, *dtls;
    BIO_METHOD *bio;
};

struct tls {
    struct tls_context *context;
    SSL *ssl;
    struct span in; /* ciphertext not yet read */
    struct queue *out;
    struct pool *pool;
};

void tls_init(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CONFIG, NULL);
}

/* ---- bytes in and out, as OpenSSL wants them ---- */

static int bio_read(BIO *bio, char *out, int n)
{
    struct tls *t = BIO_get_data(bio);
    size_t take = n > 0 && (size_t)n < t->in.len ? (size_t)n : t->in.len;

    BIO_clear_retry_flags(bio);
    if (n <= 0 || take == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    struct wbuf w = wbuf_of(out, (size_t)n);
    wbuf_bytes(&w, t->in.data, take);
    t->in = span_of(t->in.data + take, t->in.len - take);
    return (int)take;
}

/* A queue that is full fails the session: its owner sees to it that data never fills it. */
static int bio_write(BIO *bio, const char *data, int n)
{
    struct tls *t = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (n < 0 || !queue_put(t->out, t->pool, t->pool->size, span_of(data, (size_t)n)))
        return -1;
    return n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "queue");

    if (m && BIO_meth_set_read(m, bio_read) == 1 && BIO_meth_set_write(m, bio_write) == 1 &&
        BIO_meth_set_ctrl(m, bio_ctrl) == 1)
        return m;
    BIO_meth_free(m);
    return NULL;
}

/* ---- certificates ---- */

static int no_passphrase(char *buf, int size, int writing, void *data)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)data;
    return -1;
}

static bool fault(char why[TLS_WHY_MAX], const char *text)
{
    snprintf(why, TLS_WHY_MAX, "%s", text);
    return false;
}

/* The certificates behind the first, up to the end of the text. */
static bool use_chain(SSL_CTX *ssl, BIO *pem)
{
    X509 *x;

    while ((x = PEM_read_bio_X509(pem, NULL, no_passphrase, NULL))) {
        if (SSL_CTX_add0_chain_cert(ssl, x) == 1)
            continue;
        X509_free(x);
        return false;
    }
    return ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
}

static bool use_certificate(SSL_CTX *ssl, struct span cert, char why[TLS_WHY_MAX])
{
    BIO *pem = BIO_new_mem_buf(cert.data, (int)cert.len);
    X509 *x = pem ? PEM_read_bio_X509(pem, NULL, no_passphrase, NULL) : NULL;
    bool ok = false;

    if (!x)
        fault(why, "cert: must be a certificate in PEM form, and those that it leads to");
    else if (SSL_CTX_use_certificate(ssl, x) != 1)
        fault(why,
              "cert: OpenSSL does not take this certificate, such as for a key that is too short");
    else if (!use_chain(ssl, pem))
        fault(why, "cert: what follows the first certificate is none");
    else
        ok = true;
    X509_free(x);
    BIO_free(pem);
    return ok;
}

static bool use_key(SSL_CTX *ssl, struct span key, char why[TLS_WHY_MAX])
{
    BIO *pem = BIO_new_mem_buf(key.data, (int)key.len);
    EVP_PKEY *k = pem ? PEM_read_bio_PrivateKey(pem, NULL, no_passphrase, NULL) : NULL;
    bool ok = false;

    if (!k)
        fault(why, "key: must be a private key in PEM form, not encrypted");
    else if (SSL_CTX_use_PrivateKey(ssl, k) != 1 || SSL_CTX_check_private_key(ssl) != 1)
        fault(why, "key: is not the one of the certificate");
    else
        ok = true;
    EVP_PKEY_free(k);
    BIO_free(pem);
    return ok;
}

/* ---- what is offered ---- */

/* RFC 7443: a client may say what it is after, and gets it. */
static const uint8_t protocols[] = "\x09stun.turn\x12stun.nat-discovery";

/* Who asks for another protocol has come to the wrong door (RFC 7301 §3.2). */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, protocols, sizeof protocols - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* Of TLS 1.2 what 1.3 has too: forward secrecy and authenticated encryption. */
static bool set_parameters(SSL_CTX *ssl, int least)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* memory of a session that rests goes back; tickets need no memory here */
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    return SSL_CTX_set_min_proto_version(ssl, least) == 1 &&
           SSL_CTX_set_max_proto_version(ssl, 0) == 1 &&
#if OPENSSL_VERSION_NUMBER < 0x30500000L /* from then on the default starts with a hybrid group */
           SSL_CTX_set1_groups_list(ssl, "X25519:P-256:P-384") == 1 &&
#endif
           SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1;
}

static bool build(struct tls_context *c, struct span cert, struct span key, char why[TLS_WHY_MAX])
{
    c->bio = bio_method();
    c->ssl = SSL_CTX_new(TLS_server_method());
    c->dtls = SSL_CTX_new(DTLS_server_method());
    if (!c->bio || !c->ssl || !c->dtls || !set_parameters(c->ssl, TLS1_2_VERSION) ||
        !set_parameters(c->dtls, DTLS1_2_VERSION))
        return fault(why, "cert: OpenSSL has no memory, or not what TLS needs");
    dtls_context_init(c->dtls);
    return use_certificate(c->ssl, cert, why) && use_key(c->ssl, key, why) &&
           use_certificate(c->dtls, cert, why) && use_key(c->dtls, key, why);
}

struct tls_context *tls_context_new(struct span cert, struct span key, char why[TLS_WHY_MAX])
{
    struct tls_context *c = calloc(1, sizeof *c);

    if (!c) {
        fault(why, "cert: no memory");
        return NULL;
    }
    atomic_init(&c->refs, 1);
    ERR_clear_error();
    bool ok = build(c, cert, key, why);
    ERR_clear_error();
    if (ok)
        return c;
    tls_context_free(c);
    return NULL;
}

void tls_context_free(struct tls_context *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    SSL_CTX_free(c->ssl);
    SSL_CTX_free(c->dtls);
    BIO_meth_free(c->bio);
    free(c);
}

SSL *tls_context_datagram(struct tls_context *c)
{
    return SSL_new(c->dtls);
}

/* ---- sessions ---- */

struct tls *tls_new(struct tls_context *c, struct queue *out, struct pool *pool)
{
    struct tls *t = calloc(1, sizeof *t);
    SSL *ssl = t ? SSL_new(c->ssl) : NULL;
    BIO *bio = ssl ? BIO_new(c->bio) : NULL;

    if (!bio) {
        SSL_free(ssl);
        free(t);
        return NULL;
    }
    *t = (struct tls){.context = c, .ssl = ssl, .out = out, .pool = pool};
    atomic_fetch_add(&c->refs, 1);
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    return t;
}

void tls_move(struct tls *t, struct queue *out, struct pool *pool)
{
    t->out = out;
    t->pool = pool;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    tls_context_free(t->context);
    free(t);
}

void tls_feed(struct tls *t, struct span ciphertext)
{
    t->in = ciphertext;
}

static enum tls_result why_not(const struct tls *t, int status)
{
    switch (SSL_get_error(t->ssl, status)) {
    case SSL_ERROR_WANT_READ:
        return TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_CLOSED;
    default:
        return TLS_FAILED;
    }
}

enum tls_result tls_handshake(struct tls *t)
{
    ERR_clear_error(); /* or SSL_get_error() reads what another session left */
    int status = SSL_do_handshake(t->ssl);
    return status == 1 ? TLS_DONE : why_not(t, status);
}

enum tls_result tls_read(struct tls *t, uint8_t *data, size_t cap, size_t *len)
{
    ERR_clear_error();
    int status = SSL_read_ex(t->ssl, data, cap, len);
    return status == 1 ? TLS_DONE : why_not(t, status);
}

bool tls_write(struct tls *t, struct span data)
{
    size_t done;

    ERR_clear_error();
    return data.len == 0 ||
           (SSL_write_ex(t->ssl, data.data, data.len, &done) == 1 && done == data.len);
}

void tls_close(struct tls *t)
{
    ERR_clear_error();
    if (SSL_is_init_finished(t->ssl))
        (void)SSL_shutdown(t->ssl);
}
