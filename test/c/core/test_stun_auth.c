#include "check.h"
#include "core/crc32.h"
#include "core/stun_auth.h"
#include "exact.h"
#include "vectors.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct stun_key key_of(const char *hex)
{
    struct stun_key key = {0};
    key.len = (uint8_t)vector_hex(hex, key.bytes, sizeof key.bytes);
    return key;
}

static enum stun_integrity which_of(const char *hash)
{
    return strcmp(hash, "sha256") == 0 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
}

static enum stun_attr_id id_of(enum stun_integrity which)
{
    return which == STUN_INTEGRITY_SHA256 ? STUN_ID_MESSAGE_INTEGRITY_SHA256
                                          : STUN_ID_MESSAGE_INTEGRITY;
}

/* ---- keys and credentials ---- */

static void check_long_term(struct crypto *c, const struct vector_line *line)
{
    bool sha256 = strcmp(line->word[1], "sha256") == 0;
    const struct stun_long_term cred = {
        span_str(line->word[2]),
        span_str(line->word[3]),
        span_str(line->word[4]),
    };
    struct stun_key got = {0}, want = key_of(line->word[5]);
    CHECK_EQ(stun_key_long_term(c, sha256 ? STUN_PASSWORD_SHA256 : STUN_PASSWORD_MD5, &cred, &got),
             CT_OK);
    CHECK_EQ(got.len, want.len);
    CHECK_BYTES(got.bytes, want.bytes, want.len);
}

static void check_userhash(struct crypto *c, const struct vector_line *line)
{
    uint8_t got[32], want[32];
    CHECK_EQ(vector_hex(line->word[3], want, sizeof want), 32);
    CHECK_EQ(stun_userhash(c, span_str(line->word[1]), span_str(line->word[2]), got), CT_OK);
    CHECK_BYTES(got, want, 32);
}

static void check_rest(struct crypto *c, const struct vector_line *line)
{
    bool sha256 = strcmp(line->word[1], "sha256") == 0;
    char out[STUN_REST_PASSWORD_MAX];
    size_t len = 0;
    CHECK_EQ(stun_rest_password(c, sha256 ? CRYPTO_SHA256 : CRYPTO_SHA1, span_str(line->word[2]),
                                span_str(line->word[3]), out, &len),
             CT_OK);
    CHECK(span_eq(span_of(out, len), span_str(line->word[4])));

    struct crypto_mac secret = {.ready = false};
    enum crypto_hash hash = sha256 ? CRYPTO_SHA256 : CRYPTO_SHA1;
    CHECK_EQ(stun_rest_password_by(c, &secret, span_str(line->word[3]), out, &len), CT_ECRYPTO);
    CHECK_EQ(crypto_mac_key(c, &secret, hash, span_str(line->word[2])), CT_OK);
    memset(out, 0, sizeof out);
    CHECK_EQ(stun_rest_password_by(c, &secret, span_str(line->word[3]), out, &len), CT_OK);
    CHECK(span_eq(span_of(out, len), span_str(line->word[4])));
}

static void test_vectors(void)
{
    static const struct {
        const char *field;
        void (*check)(struct crypto *c, const struct vector_line *line);
        unsigned count;
    } facts[] = {{"long_term", check_long_term, 11},
                 {"userhash", check_userhash, 4},
                 {"rest", check_rest, 6}};
    for (size_t i = 0; i < COUNT(facts); i++) {
        struct crypto *c = crypto_new();
        struct vectors v = vectors_open("keys.txt");
        struct vector_line line;
        unsigned seen = 0;
        while (vectors_line(&v, &line)) {
            if (!vector_is(&line, facts[i].field))
                continue;
            facts[i].check(c, &line);
            seen++;
        }
        CHECK_EQ(seen, facts[i].count);
        vectors_close(&v);
        crypto_free(c);
    }
}

/* RFC 8489 §9.2.2: quotes around username and realm and trailing NULs are not part of them. */
static void test_quotes_and_nuls_are_stripped(void)
{
    struct crypto *c = crypto_new();
    static const struct stun_long_term same[] = {
        {{(const uint8_t *)"\"user\"", 6},
         {(const uint8_t *)"\"realm\"", 7},
         {(const uint8_t *)"pass", 4}},
        {{(const uint8_t *)"user\0\0", 6},
         {(const uint8_t *)"realm\0", 6},
         {(const uint8_t *)"pass\0", 5}},
        {{(const uint8_t *)"\"user\"\0", 7},
         {(const uint8_t *)"\"realm\"\0\0", 9},
         {(const uint8_t *)"pass\0\0\0", 7}},
    };
    static const struct stun_long_term other[] = {
        {{(const uint8_t *)"\"user", 5},
         {(const uint8_t *)"realm", 5},
         {(const uint8_t *)"pass", 4}},
        {{(const uint8_t *)"user", 4},
         {(const uint8_t *)"realm\"", 6},
         {(const uint8_t *)"pass", 4}},
        {{(const uint8_t *)"user", 4},
         {(const uint8_t *)"realm", 5},
         {(const uint8_t *)"\"pass\"", 6}},
        {{(const uint8_t *)"\0user", 5},
         {(const uint8_t *)"realm", 5},
         {(const uint8_t *)"pass", 4}},
    };
    struct stun_key want = key_of("8493fbc53ba582fb4c044c456bdc40eb"), got;
    for (size_t i = 0; i < COUNT(same); i++) {
        CHECK_EQ(stun_key_long_term(c, STUN_PASSWORD_MD5, &same[i], &got), CT_OK);
        CHECK_BYTES(got.bytes, want.bytes, 16);
    }
    for (size_t i = 0; i < COUNT(other); i++) {
        CHECK_EQ(stun_key_long_term(c, STUN_PASSWORD_MD5, &other[i], &got), CT_OK);
        CHECK(memcmp(got.bytes, want.bytes, 16) != 0);
    }
    crypto_free(c);
}

static void test_a_lone_quote_and_nothing(void)
{
    struct crypto *c = crypto_new();
    struct exact quote = exact_of("\"", 1, 0), nul = exact_of("\0", 1, 0);
    const struct stun_long_term cred = {
        span_of(quote.data, 1),
        {0},
        span_of(nul.data, 1),
    };
    struct stun_key got;
    uint8_t want[16];
    struct span text = span_str("\"::");
    CHECK_EQ(stun_key_long_term(c, STUN_PASSWORD_MD5, &cred, &got), CT_OK);
    CHECK_EQ(crypto_digest(c, CRYPTO_MD5, &text, 1, want), CT_OK);
    CHECK_BYTES(got.bytes, want, 16);
    exact_free(&quote);
    exact_free(&nul);
    crypto_free(c);
}

static void test_unknown_algorithms(void)
{
    struct crypto *c = crypto_new();
    const struct stun_long_term cred = {span_str("u"), span_str("r"), span_str("p")};
    struct stun_key key = {.len = 99};
    char out[STUN_REST_PASSWORD_MAX];
    size_t len = 99;
    CHECK_EQ(stun_key_long_term(c, (enum stun_password_algorithm)0, &cred, &key), CT_EARG);
    CHECK_EQ(stun_key_long_term(c, (enum stun_password_algorithm)3, &cred, &key), CT_EARG);
    CHECK_EQ(key.len, 99);
    CHECK_EQ(stun_rest_password(c, CRYPTO_MD5, span_str("s"), span_str("u"), out, &len), CT_EARG);
    CHECK_EQ(len, 99);
    crypto_free(c);
}

static void test_rest_usernames(void)
{
    static const struct {
        const char *text;
        uint64_t expiry;
        const char *user; /* NULL: not a time-limited username */
    } cases[] = {
        {"1700000000:alice", 1700000000, "alice"},
        {"1700000000", 1700000000, "1700000000"},
        {"1700000000:", 1700000000, ""},
        {"0:a:b", 0, "a:b"},
        {"0001:x", 1, "x"},
        {"9999999999999999999:x", 9999999999999999999u, "x"},
        {"99999999999999999999:x", 0, NULL},
        {"", 0, NULL},
        {":alice", 0, NULL},
        {"alice", 0, NULL},
        {"alice:1700000000", 0, NULL},
        {"17000x0000:alice", 0, NULL},
        {"-1:alice", 0, NULL},
        {"+1:alice", 0, NULL},
        {" 1:alice", 0, NULL},
        {"1 :alice", 0, NULL},
        {"1.5:alice", 0, NULL},
        {"0x10:alice", 0, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct exact e = exact_of(cases[i].text, strlen(cases[i].text), 0);
        struct span text = span_of(e.data, e.len), user = {0};
        uint64_t expiry = 77;
        enum ct_err want = cases[i].user ? CT_OK : CT_EVALUE;
        CHECK_EQ(stun_rest_username(text, &expiry, &user), want);
        CHECK(expiry == (want == CT_OK ? cases[i].expiry : 77));
        if (want == CT_OK)
            CHECK(span_eq(user, span_str(cases[i].user)));
        CHECK_EQ(stun_rest_username(text, &expiry, NULL), want);
        if (check_failures)
            printf("#   for \"%s\"\n", cases[i].text);
        exact_free(&e);
    }
}

/* ---- integrity ---- */

/* Puts FINGERPRINT right again, so that it does not hide what integrity says. */
static void mend_fingerprint(uint8_t *bytes, size_t len)
{
    if (len < 28 || memcmp(bytes + len - 8, "\x80\x28\0\4", 4) != 0)
        return;
    struct wbuf w = wbuf_of(bytes + len - 4, 4);
    wbuf_u32(&w, crc32_of(bytes, len - 8) ^ STUN_FINGERPRINT_XOR);
}

/* No bit of what is covered, and none of the MAC, can change. */
static void check_every_bit(struct crypto *c, const struct vector_record *r,
                            enum stun_integrity which, const struct stun_key *key)
{
    uint8_t bytes[VECTOR_BYTES_MAX];
    struct stun_msg m;
    CHECK_EQ(stun_msg_decode(&m, r->bytes, r->len, NULL), CT_OK);
    size_t end = m.at[id_of(which)] + m.size[id_of(which)];
    unsigned read = 0;
    for (size_t bit = 0; bit < 8 * end; bit++) {
        memcpy(bytes, r->bytes, r->len);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        mend_fingerprint(bytes, r->len);
        if (stun_msg_decode(&m, bytes, r->len, NULL) != CT_OK)
            continue;
        CHECK(stun_check_integrity(c, &m, which, key) != CT_OK);
        read++;
    }
    CHECK(read > 8 * 20);
}

static void check_keys(struct crypto *c, const struct stun_msg *m, enum stun_integrity which,
                       const struct stun_key *key)
{
    CHECK_EQ(stun_check_integrity(c, m, which, key), CT_OK);
    CHECK_EQ(stun_check_integrity(c, m, which, key), CT_OK); /* with the key that is kept */
    for (unsigned bit = 0; bit < 8u * key->len; bit++) {
        struct stun_key other = *key;
        other.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_EQ(stun_check_integrity(c, m, which, &other), CT_EINTEGRITY);
    }
    struct stun_key shorter = *key;
    shorter.len--;
    CHECK_EQ(stun_check_integrity(c, m, which, &shorter), CT_EINTEGRITY);
}

static void test_vectors_verify(void)
{
    struct crypto *c = crypto_new();
    struct vectors v = vectors_open("messages.txt");
    struct vector_record r;
    unsigned seen = 0;
    while (vectors_record(&v, &r))
        for (size_t i = 0; i < r.count; i++) {
            const struct vector_line *line = &r.line[i];
            if (!vector_is(line, "integrity"))
                continue;
            struct exact e = exact_of(r.bytes, r.len, i % 8);
            struct stun_key key = key_of(line->word[2]);
            struct stun_msg m;
            CHECK_EQ(stun_msg_decode(&m, e.data, e.len, NULL), CT_OK);
            check_keys(c, &m, which_of(line->word[1]), &key);
            check_every_bit(c, &r, which_of(line->word[1]), &key);
            exact_free(&e);
            seen++;
        }
    CHECK_EQ(seen, 18);
    vectors_close(&v);
    crypto_free(c);
}

/* The vector's attributes, with integrity and FINGERPRINT made anew where they stand. */
static void write_again(struct crypto *c, struct wbuf *w, const struct vector_record *r)
{
    struct stun_msg m;
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE;
    size_t next = 0;
    CHECK_EQ(stun_msg_decode(&m, r->bytes, r->len, NULL), CT_OK);
    stun_begin(w, m.type, stun_msg_tid(&m));
    while (stun_msg_next(&m, &pos, &attr)) {
        bool mac = attr.type == STUN_ATTR_MESSAGE_INTEGRITY ||
                   attr.type == STUN_ATTR_MESSAGE_INTEGRITY_SHA256;
        while (mac && !vector_is(&r->line[next], "integrity"))
            next++;
        if (mac) {
            struct stun_key key = key_of(r->line[next].word[2]);
            enum stun_integrity which = which_of(r->line[next++].word[1]);
            CHECK_EQ(stun_put_integrity(w, c, which, &key), CT_OK);
        } else if (attr.type == STUN_ATTR_FINGERPRINT) {
            stun_put_fingerprint(w);
        } else {
            stun_put(w, attr.type, attr.value.data, attr.value.len);
        }
    }
}

static void test_vectors_come_out_byte_by_byte(void)
{
    struct crypto *c = crypto_new();
    struct vectors v = vectors_open("messages.txt");
    struct vector_record r;
    unsigned same = 0;
    while (vectors_record(&v, &r)) {
        /* RFC 5769 pads its first three messages with blanks, which we never write */
        bool blanks = strncmp(r.line[0].word[1], "A.", 2) == 0 && r.line[0].word[1][2] < '4';
        if (blanks || !vector_find(&r, "integrity"))
            continue;
        uint8_t out[VECTOR_BYTES_MAX];
        struct wbuf w = wbuf_of(out, sizeof out);
        memset(out, 0xEE, sizeof out);
        write_again(c, &w, &r);
        CHECK(span_eq(span_of(out, w.pos), span_of(r.bytes, r.len)));
        same++;
    }
    CHECK_EQ(same, 14);
    vectors_close(&v);
    crypto_free(c);
}

static void test_malformed_vectors(void)
{
    struct crypto *c = crypto_new();
    struct vectors v = vectors_open("malformed.txt");
    struct vector_record r;
    unsigned seen = 0;
    while (vectors_record(&v, &r)) {
        const struct vector_line *line = vector_find(&r, "integrity");
        if (!line)
            continue;
        struct stun_key key = key_of(line->count > 3 ? line->word[3] : "00");
        struct exact e = exact_of(r.bytes, r.len, 0);
        struct stun_msg m;
        CHECK_EQ(stun_msg_decode(&m, e.data, e.len, NULL), CT_OK);
        CHECK_STR(ct_err_name(stun_check_integrity(c, &m, which_of(line->word[1]), &key)),
                  line->word[2]);
        exact_free(&e);
        seen++;
    }
    CHECK_EQ(seen, 5);
    vectors_close(&v);
    crypto_free(c);
}

/* Truncated HMACs are not accepted, however right their bytes are (RFC 8489 §14.6). */
static void test_lengths_of_the_mac(void)
{
    struct crypto *c = crypto_new();
    struct stun_key key = key_of("00112233");
    for (size_t n = 0; n <= 64; n++)
        for (int which = STUN_INTEGRITY_SHA1; which <= STUN_INTEGRITY_SHA256; which++) {
            uint8_t bytes[128];
            uint8_t mac[64] = {0};
            struct stun_msg m;
            struct wbuf w = wbuf_of(bytes, sizeof bytes);
            stun_begin(&w, 1, (const uint8_t *)"transaction!");
            stun_put(&w, stun_attr_def(id_of((enum stun_integrity)which))->type, mac, n);
            CHECK_EQ(stun_msg_decode(&m, bytes, w.pos, NULL), CT_OK);
            enum ct_err err = stun_check_integrity(c, &m, (enum stun_integrity)which, &key);
            bool whole = n == (which == STUN_INTEGRITY_SHA1 ? 20u : 32u);
            CHECK_EQ(err, whole ? CT_EINTEGRITY : CT_EVALUE);
        }
    crypto_free(c);
}

static void test_integrity_that_is_not_there(void)
{
    struct crypto *c = crypto_new();
    struct stun_key key = key_of("00112233");
    uint8_t bytes[64];
    struct stun_msg m;
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, 1, (const uint8_t *)"transaction!");
    CHECK_EQ(stun_put_integrity(&w, c, STUN_INTEGRITY_SHA1, &key), CT_OK);
    CHECK_EQ(stun_msg_decode(&m, bytes, w.pos, NULL), CT_OK);
    CHECK_EQ(stun_check_integrity(c, &m, STUN_INTEGRITY_SHA1, &key), CT_OK);
    CHECK_EQ(stun_check_integrity(c, &m, STUN_INTEGRITY_SHA256, &key), CT_EMISSING);
    crypto_free(c);
}

/* A key that is made ready does what the key does; one that is not does nothing. */
static void test_integrity_by_ready_keys(void)
{
    struct crypto *c = crypto_new();
    struct stun_key key = key_of("00112233");
    for (int which = STUN_INTEGRITY_SHA1; which <= STUN_INTEGRITY_SHA256; which++) {
        uint8_t bytes[64];
        struct stun_msg m;
        struct crypto_mac mac = {.hash = (uint8_t)stun_integrity_hash(which)};
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        stun_begin(&w, 1, (const uint8_t *)"transaction!");
        CHECK_EQ(stun_put_integrity_by(&w, c, &mac), CT_ECRYPTO);
        CHECK_EQ(w.pos, STUN_HEADER_SIZE);
        CHECK_EQ(crypto_mac_key(c, &mac, mac.hash, span_of(key.bytes, key.len)), CT_OK);
        CHECK_EQ(stun_put_integrity_by(&w, c, &mac), CT_OK);
        CHECK_EQ(stun_msg_decode(&m, bytes, w.pos, NULL), CT_OK);
        CHECK(stun_msg_has(&m, id_of(which)));
        CHECK_EQ(stun_check_integrity(c, &m, which, &key), CT_OK);
        CHECK_EQ(stun_check_integrity_by(c, &m, &mac), CT_OK);
        bytes[STUN_HEADER_SIZE + 4] ^= 1;
        CHECK_EQ(stun_check_integrity_by(c, &m, &mac), CT_EINTEGRITY);
        crypto_mac_forget(&mac);
        mac.hash = (uint8_t)stun_integrity_hash(which);
        CHECK_EQ(stun_check_integrity_by(c, &m, &mac), CT_ECRYPTO);
    }
    crypto_free(c);
}

static void test_integrity_needs_a_message_and_room(void)
{
    struct crypto *c = crypto_new();
    struct stun_key key = key_of("00112233");
    uint8_t bytes[128];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    CHECK(stun_put_integrity(&w, c, STUN_INTEGRITY_SHA1, &key) != CT_OK);
    for (size_t cap = 0; cap <= 20 + 36; cap++) {
        struct exact e = exact_of(bytes, cap, 0);
        w = wbuf_of(e.data, e.len);
        stun_begin(&w, 1, (const uint8_t *)"transaction!");
        enum ct_err err = stun_put_integrity(&w, c, STUN_INTEGRITY_SHA256, &key);
        CHECK_EQ(err == CT_OK, cap == 20 + 36);
        CHECK_EQ(w.failed, cap < 20 + 36);
        exact_free(&e);
    }
    crypto_free(c);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_vectors),
        CHECK_TEST(test_quotes_and_nuls_are_stripped),
        CHECK_TEST(test_a_lone_quote_and_nothing),
        CHECK_TEST(test_unknown_algorithms),
        CHECK_TEST(test_rest_usernames),
        CHECK_TEST(test_vectors_verify),
        CHECK_TEST(test_vectors_come_out_byte_by_byte),
        CHECK_TEST(test_malformed_vectors),
        CHECK_TEST(test_lengths_of_the_mac),
        CHECK_TEST(test_integrity_that_is_not_there),
        CHECK_TEST(test_integrity_by_ready_keys),
        CHECK_TEST(test_integrity_needs_a_message_and_room),
    };
    return CHECK_RUN(tests);
}
