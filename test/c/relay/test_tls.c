#include "check.h"
#include "relay/tls.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum {
    PEM_SIZE = 4096,
    BUFFER = 72 * 1024
};

/* A certificate that signs itself, and its key, as PEM texts. */
struct pair {
    char cert[PEM_SIZE], key[PEM_SIZE];
};

static void read_out(BIO *bio, char out[PEM_SIZE])
{
    int n = BIO_read(bio, out, PEM_SIZE - 1);

    CHECK(n > 0);
    out[n > 0 ? n : 0] = '\0';
    BIO_free(bio);
}

static void write_pair(X509 *x, EVP_PKEY *key, const EVP_CIPHER *cipher, struct pair *out)
{
    BIO *cert = BIO_new(BIO_s_mem()), *pem = BIO_new(BIO_s_mem());
    unsigned char passphrase[] = "secret";

    CHECK_EQ(PEM_write_bio_X509(cert, x), 1);
    CHECK_EQ(PEM_write_bio_PKCS8PrivateKey(pem, key, cipher, (char *)passphrase,
                                           cipher ? (int)sizeof passphrase : 0, NULL, NULL),
             1);
    read_out(cert, out->cert);
    read_out(pem, out->key);
}

static void make_pair(struct pair *out, const EVP_CIPHER *cipher)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);

    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_set_pubkey(x, key);
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    write_pair(x, key, cipher, out);
    X509_free(x);
    EVP_PKEY_free(key);
}

/* ---- a client, and the two ends of a wire ---- */

struct rig {
    struct tls_context *context;
    struct pool pool;
    struct queue out;
    struct tls *server;
    SSL_CTX *client_context;
    SSL *client;
};

static void rig_init(struct rig *r, int version)
{
    static const unsigned char alpn[] = "\x09stun.turn";
    struct pair pair;
    char why[TLS_WHY_MAX];

    memset(r, 0, sizeof *r);
    make_pair(&pair, NULL);
    r->context = tls_context_new(span_str(pair.cert), span_str(pair.key), why);
    CHECK(r->context != NULL);
    pool_init(&r->pool, BUFFER, 1);
    r->server = tls_new(r->context, &r->out, &r->pool);
    /* the session outlives what made it */
    tls_context_free(r->context);
    r->client_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(r->client_context, version);
    SSL_CTX_set_alpn_protos(r->client_context, alpn, sizeof alpn - 1);
    r->client = SSL_new(r->client_context);
    SSL_set_bio(r->client, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(r->client);
}

static void rig_free(struct rig *r)
{
    tls_free(r->server);
    queue_drop(&r->out, &r->pool, queue_len(&r->out));
    CHECK_EQ(r->pool.out, 0);
    pool_free(&r->pool);
    SSL_free(r->client);
    SSL_CTX_free(r->client_context);
}

/* What the client has to say, as it lies in its BIO. */
static struct span client_says(struct rig *r)
{
    char *data;
    long n = BIO_get_mem_data(SSL_get_wbio(r->client), &data);

    return span_of(data, (size_t)n);
}

static void to_client(struct rig *r)
{
    struct span bytes = queue_bytes(&r->out);

    if (bytes.len)
        CHECK_EQ(BIO_write(SSL_get_rbio(r->client), bytes.data, (int)bytes.len), bytes.len);
    queue_drop(&r->out, &r->pool, bytes.len);
}

static enum tls_result handshake(struct rig *r)
{
    enum tls_result result = TLS_MORE;

    for (int i = 0; i < 6 && result == TLS_MORE; i++) {
        SSL_do_handshake(r->client);
        struct span bytes = client_says(r);
        /* byte by byte at first: records come in any pieces */
        for (size_t n = 0; n < bytes.len && result == TLS_MORE; n++) {
            size_t take = n < 50 ? 1 : bytes.len - n;
            tls_feed(r->server, span_of(bytes.data + n, take));
            result = tls_handshake(r->server);
            n += take - 1;
        }
        (void)BIO_reset(SSL_get_wbio(r->client));
        to_client(r);
    }
    return result;
}

/* ---- tests ---- */

static void test_speaks_both_versions(void)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static uint8_t data[40000], got[sizeof data];
    const unsigned char *alpn;
    unsigned alpn_len;
    size_t n, total = 0;

    memset(data, 'd', sizeof data);
    for (size_t i = 0; i < 2; i++) {
        struct rig r;
        rig_init(&r, versions[i]);
        CHECK_EQ(handshake(&r), TLS_DONE);
        CHECK_EQ(SSL_do_handshake(r.client), 1);
        CHECK_EQ(SSL_version(r.client), versions[i]);
        SSL_get0_alpn_selected(r.client, &alpn, &alpn_len);
        CHECK_EQ(alpn_len, 9);

        CHECK(tls_write(r.server, span_of(data, sizeof data)));
        size_t grown = queue_len(&r.out) - sizeof data;
        CHECK(grown <= (sizeof data / TLS_RECORD_MAX + 1) * TLS_RECORD_OVERHEAD);
        to_client(&r);
        for (total = 0; total < sizeof got && SSL_read_ex(r.client, got, sizeof got, &n) == 1;)
            total += n;
        CHECK_EQ(total, sizeof data);

        CHECK_EQ(SSL_write(r.client, "question", 8), 8);
        tls_feed(r.server, client_says(&r));
        CHECK_EQ(tls_read(r.server, got, sizeof got, &n), TLS_DONE);
        CHECK_EQ(n, 8);
        CHECK_BYTES(got, "question", 8);
        CHECK_EQ(tls_read(r.server, got, sizeof got, &n), TLS_MORE);
        (void)BIO_reset(SSL_get_wbio(r.client));

        tls_close(r.server);
        to_client(&r);
        CHECK_EQ(SSL_read(r.client, got, 1), 0);
        SSL_shutdown(r.client);
        tls_feed(r.server, client_says(&r));
        CHECK_EQ(tls_read(r.server, got, sizeof got, &n), TLS_CLOSED);
        rig_free(&r);
    }
}

/* A session goes on where it is taken to: what it says from then on lands there. */
static void test_moves(void)
{
    struct pool pool;
    struct queue out = {.data = NULL};
    struct rig r;
    char got[8];

    rig_init(&r, TLS1_3_VERSION);
    pool_init(&pool, BUFFER, 1);
    CHECK_EQ(handshake(&r), TLS_DONE);
    to_client(&r);
    tls_move(r.server, &out, &pool);
    CHECK(tls_write(r.server, span_of("elsewhere", 9)));
    CHECK_EQ(queue_len(&r.out), 0);
    CHECK(queue_len(&out) > 9);
    struct span bytes = queue_bytes(&out);
    CHECK_EQ(BIO_write(SSL_get_rbio(r.client), bytes.data, (int)bytes.len), bytes.len);
    CHECK_EQ(SSL_read(r.client, got, sizeof got), 8);
    queue_drop(&out, &pool, bytes.len);
    rig_free(&r);
    pool_free(&pool);
}

static void test_older_versions_are_refused(void)
{
    struct rig r;

    rig_init(&r, TLS1_1_VERSION);
    SSL_CTX_set_security_level(r.client_context, 0);
    SSL_set_security_level(r.client, 0);
    CHECK_EQ(handshake(&r), TLS_FAILED);
    rig_free(&r);
}

static void test_garbage_fails(void)
{
    static const char garbage[] = "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
    struct rig r;

    rig_init(&r, TLS1_3_VERSION);
    tls_feed(r.server, span_str(garbage));
    CHECK_EQ(tls_handshake(r.server), TLS_FAILED);
    rig_free(&r);
}

/* A queue without room fails the session, and nothing else. */
static void test_full_queue(void)
{
    static uint8_t data[BUFFER];
    struct rig r;

    rig_init(&r, TLS1_3_VERSION);
    CHECK_EQ(handshake(&r), TLS_DONE);
    CHECK(!tls_write(r.server, span_of(data, sizeof data)));
    CHECK(queue_len(&r.out) <= BUFFER);
    tls_close(r.server);
    rig_free(&r);
}

static void check_refused(const char *cert, const char *key, const char *want)
{
    char why[TLS_WHY_MAX] = "";

    CHECK(tls_context_new(span_str(cert), span_str(key), why) == NULL);
    CHECK_STR(why, want);
}

static void test_says_what_is_wrong(void)
{
    struct pair a, b, locked;
    char twice[3 * PEM_SIZE], why[TLS_WHY_MAX];

    make_pair(&a, NULL);
    make_pair(&b, NULL);
    make_pair(&locked, EVP_aes_128_cbc());
    check_refused("", a.key, "cert: must be a certificate in PEM form, and those that it leads to");
    check_refused(a.key, a.key,
                  "cert: must be a certificate in PEM form, and those that it leads to");
    check_refused(a.cert, "", "key: must be a private key in PEM form, not encrypted");
    check_refused(a.cert, a.cert, "key: must be a private key in PEM form, not encrypted");
    check_refused(locked.cert, locked.key, "key: must be a private key in PEM form, not encrypted");
    check_refused(a.cert, b.key, "key: is not the one of the certificate");
    snprintf(twice, sizeof twice,
             "%s-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", a.cert);
    check_refused(twice, a.key, "cert: what follows the first certificate is none");

    /* text around it does no harm, nor does the key in the same file */
    snprintf(twice, sizeof twice, "The certificate:\n%s\nand its key:\n%s", a.cert, a.key);
    struct tls_context *c = tls_context_new(span_str(twice), span_str(twice), why);
    CHECK(c != NULL);
    tls_context_free(c);
    tls_context_free(NULL);
    tls_free(NULL);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_speaks_both_versions),
        CHECK_TEST(test_moves),
        CHECK_TEST(test_older_versions_are_refused),
        CHECK_TEST(test_garbage_fails),
        CHECK_TEST(test_full_queue),
        CHECK_TEST(test_says_what_is_wrong),
    };
    tls_init();
    return CHECK_RUN(tests);
}
