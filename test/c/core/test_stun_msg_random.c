/*
 * Messages at random: what is written is read back; what is not a message is refused for the right
 * reason; and no byte beyond the end is looked at, whatever stands in it.
 */
#include "check.h"
#include "core/crc32.h"
#include "core/stun_msg.h"
#include "exact.h"
#include "rng.h"
#include "vectors.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct stun_msg decoded(const uint8_t *data, size_t len)
{
    struct stun_msg m = {0};
    CHECK_EQ(stun_msg_decode(&m, data, len, NULL), CT_OK);
    return m;
}

/* ---- encode and decode are inverse ---- */

enum {
    ATTRS_MAX = 12,
    VALUE_MAX = 96,
};

struct sample {
    enum stun_attr_id id;
    struct addr addr;
    size_t len;
    uint8_t value[VALUE_MAX];
};

static struct addr random_addr(struct rng *rng)
{
    uint8_t ip[16];
    rng_bytes(rng, ip, sizeof ip);
    uint16_t port = (uint16_t)rng_u64(rng);
    return rng_below(rng, 2) ? addr_v4(ip, port) : addr_v6(ip, port);
}

/* Any attribute but the integrity ones and FINGERPRINT, with a value of a length it may have. */
static struct sample random_sample(struct rng *rng)
{
    struct sample s = {.addr = random_addr(rng)};
    do
        s.id = (enum stun_attr_id)rng_below(rng, STUN_ID_COUNT);
    while (s.id == STUN_ID_MESSAGE_INTEGRITY || s.id == STUN_ID_MESSAGE_INTEGRITY_SHA256 ||
           s.id == STUN_ID_FINGERPRINT);
    do
        s.len = rng_below(rng, VALUE_MAX + 1);
    while (!stun_attr_length_ok(s.id, s.len));
    rng_bytes(rng, s.value, s.len);
    return s;
}

static void put_sample(struct wbuf *w, const struct sample *s)
{
    const struct stun_attr_def *def = stun_attr_def(s->id);
    struct rbuf value = rbuf_of(s->value, s->len);
    if (def->kind == STUN_KIND_ADDR)
        stun_put_addr(w, def->type, &s->addr);
    else if (def->kind == STUN_KIND_XADDR)
        stun_put_xaddr(w, def->type, &s->addr);
    else if (def->kind == STUN_KIND_U32)
        stun_put_u32(w, def->type, rbuf_u32(&value));
    else
        stun_put(w, def->type, s->value, s->len);
}

static void check_sample(const struct stun_msg *m, const struct sample *s)
{
    enum stun_kind kind = stun_attr_def(s->id)->kind;
    struct rbuf value = rbuf_of(s->value, s->len);
    struct addr a;
    uint32_t u32;
    uint16_t channel;
    uint8_t first;
    CHECK(stun_msg_has(m, s->id));
    if (kind == STUN_KIND_ADDR || kind == STUN_KIND_XADDR) {
        CHECK_EQ(stun_msg_addr(m, s->id, &a), CT_OK);
        CHECK(addr_eq(&a, &s->addr));
        return;
    }
    CHECK(span_eq(stun_msg_bytes(m, s->id), span_of(s->value, s->len)));
    if (kind == STUN_KIND_U32) {
        CHECK_EQ(stun_msg_u32(m, s->id, &u32), CT_OK);
        CHECK_EQ(u32, rbuf_u32(&value));
    } else if (kind == STUN_KIND_FAMILY || kind == STUN_KIND_PROTOCOL) {
        CHECK_EQ(stun_msg_first_byte(m, s->id, &first), CT_OK);
        CHECK_EQ(first, s->value[0]);
    } else if (kind == STUN_KIND_CHANNEL) {
        CHECK_EQ(stun_msg_channel(m, &channel), CT_OK);
        CHECK_EQ(channel, rbuf_u16(&value));
    }
}

static void check_inverse(struct rng *rng, bool seen[STUN_ID_COUNT])
{
    struct sample s[ATTRS_MAX];
    size_t n = rng_below(rng, ATTRS_MAX + 1);
    uint8_t bytes[20 + ATTRS_MAX * (VALUE_MAX + 4) + 8], id[STUN_TID_SIZE];
    uint16_t type = (uint16_t)(rng_u64(rng) & 0x3FFF);
    uint64_t have = 0;
    memset(bytes, 0xEE, sizeof bytes);
    rng_bytes(rng, id, sizeof id);
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, type, id);
    for (size_t i = 0; i < n; i++) {
        s[i] = random_sample(rng);
        put_sample(&w, &s[i]);
    }
    if (rng_below(rng, 2))
        stun_put_fingerprint(&w);
    CHECK(!w.failed);
    struct exact e = exact_of(bytes, w.pos, rng_below(rng, 8));
    struct stun_msg m = decoded(e.data, e.len);
    CHECK_EQ(m.type, type);
    CHECK_BYTES(stun_msg_tid(&m), id, sizeof id);
    for (size_t i = 0; i < n; i++) {
        if (have >> s[i].id & 1)
            continue; /* only the first counts */
        have |= (uint64_t)1 << s[i].id;
        seen[s[i].id] = true;
        check_sample(&m, &s[i]);
    }
    have |= m.present & (uint64_t)1 << STUN_ID_FINGERPRINT;
    CHECK(m.present == have);
    exact_free(&e);
}

static void test_encode_and_decode_are_inverse(void)
{
    struct rng rng = rng_new();
    bool seen[STUN_ID_COUNT] = {false};
    unsigned kinds = 0;
    for (unsigned i = 0; i < 20000; i++)
        check_inverse(&rng, seen);
    for (size_t i = 0; i < STUN_ID_COUNT; i++)
        kinds += seen[i];
    CHECK_EQ(kinds, STUN_ID_COUNT - 3);
}

/* ---- anything at all ---- */

/* RFC 8489 §5, §14 read once more, in the plainest way. */
struct plain {
    enum ct_err err;
    size_t at[STUN_ID_COUNT], size[STUN_ID_COUNT], attrs_end;
    bool has[STUN_ID_COUNT];
    unsigned unknown;
};

static unsigned be16(const uint8_t *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static enum ct_err plain_header(const uint8_t *d, size_t len)
{
    if (len < 20)
        return CT_ESHORT;
    if (d[0] & 0xC0)
        return CT_ETYPE;
    if (memcmp(d + 4, "\x21\x12\xa4\x42", 4) != 0)
        return CT_ECOOKIE;
    if (be16(d + 2) % 4)
        return CT_ELENGTH;
    return be16(d + 2) > len - 20 ? CT_ESHORT : be16(d + 2) < len - 20 ? CT_ELENGTH : CT_OK;
}

static void plain_note(struct plain *p, unsigned type, size_t at, size_t size)
{
    enum stun_attr_id id = stun_attr_id((uint16_t)type);
    bool mi = p->has[STUN_ID_MESSAGE_INTEGRITY], mi256 = p->has[STUN_ID_MESSAGE_INTEGRITY_SHA256];
    bool counts = mi256 ? type == 0x8028 : mi ? type == 0x001C || type == 0x8028 : true;
    if (!counts)
        return;
    if (id == STUN_ID_UNKNOWN) {
        p->unknown += type < 0x8000;
        return;
    }
    if (p->has[id])
        return;
    p->has[id] = true;
    p->at[id] = at + 4;
    p->size[id] = size;
    if ((type == 0x0008 || type == 0x001C) && !mi && !mi256)
        p->attrs_end = at;
}

static void plain_decode(struct plain *p, const uint8_t *d, size_t len)
{
    *p = (struct plain){.err = plain_header(d, len), .attrs_end = len};
    for (size_t at = 20; p->err == CT_OK && at < len;) {
        unsigned type = be16(d + at), size = be16(d + at + 2);
        size_t next = at + 4 + (size + 3) / 4 * 4;
        if (next > len) {
            p->err = CT_EATTR;
            return;
        }
        plain_note(p, type, at, size);
        if (type == 0x8028 && next < len) {
            p->err = CT_EFPLAST;
            return;
        }
        if (type == 0x8028) {
            uint32_t crc = crc32_of(d, at) ^ 0x5354554Eu;
            if (size != 4 || be16(d + at + 4) != crc >> 16 || be16(d + at + 6) != (crc & 0xFFFF))
                p->err = CT_EFP;
        }
        at = next;
    }
}

/* Reads everything that a decoded message offers, for the sanitizers to watch. */
static void use(const struct stun_msg *m)
{
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE, u32, sum = 0;
    uint16_t u16;
    uint8_t u8;
    struct addr a;
    while (stun_msg_next(m, &pos, &attr))
        for (size_t i = 0; i < attr.value.len; i++)
            sum += attr.value.data[i];
    CHECK_EQ(pos, m->len);
    for (int i = 0; i < STUN_ID_COUNT; i++) {
        enum stun_attr_id id = (enum stun_attr_id)i;
        struct span s = stun_msg_bytes(m, id);
        for (size_t k = 0; k < s.len; k++)
            sum += s.data[k];
        (void)stun_msg_u32(m, id, &u32);
        (void)stun_msg_addr(m, id, &a);
        (void)stun_msg_first_byte(m, id, &u8);
    }
    (void)stun_msg_channel(m, &u16);
    volatile uint32_t sink = sum;
    (void)sink;
}

static enum ct_err check_against_plain(const uint8_t *bytes, size_t len, size_t skew)
{
    struct exact e = exact_of(bytes, len, skew);
    struct plain p;
    struct stun_msg m = {0};
    size_t at = 0;
    plain_decode(&p, bytes, len);
    enum ct_err err = stun_msg_decode(&m, e.data, e.len, &at);
    CHECK_EQ(err, p.err);
    CHECK(at <= len);
    if (err == CT_OK && p.err == CT_OK) {
        CHECK_EQ(m.unknown_required, p.unknown);
        CHECK_EQ(m.attrs_end, p.attrs_end);
        for (int i = 0; i < STUN_ID_COUNT; i++) {
            CHECK_EQ(stun_msg_has(&m, (enum stun_attr_id)i), p.has[i]);
            CHECK(!p.has[i] || (m.at[i] == p.at[i] && m.size[i] == p.size[i]));
        }
        use(&m);
    }
    exact_free(&e);
    return err;
}

/* The vectors cut off anywhere, as they are and with a header that fits what is left. */
static void test_truncations(void)
{
    struct vectors v = vectors_open("messages.txt");
    struct vector_record r;
    while (vectors_record(&v, &r))
        for (size_t len = 0; len < r.len; len++) {
            struct stun_msg m;
            size_t at = 0;
            struct exact e = exact_of(r.bytes, len, 0);
            CHECK_EQ(stun_msg_decode(&m, e.data, len, &at), CT_ESHORT);
            CHECK_EQ(at, len);
            exact_free(&e);
            if (len < 20)
                continue;
            uint8_t cut[VECTOR_BYTES_MAX];
            memcpy(cut, r.bytes, len);
            cut[2] = (uint8_t)((len - 20) >> 8);
            cut[3] = (uint8_t)(len - 20);
            check_against_plain(cut, len, len % 8);
        }
    vectors_close(&v);
}

static void mutate(struct rng *rng, uint8_t *bytes, size_t len)
{
    static const uint8_t types[][2] = {{0, 8}, {0, 0x1C}, {0x80, 0x28}, {0, 0x12}, {0x7F, 0}};
    for (size_t n = 1 + rng_below(rng, 4); n; n--) {
        size_t at = rng_below(rng, len);
        if (len >= 24 && rng_below(rng, 4) == 0)
            memcpy(bytes + 20 + rng_below(rng, (len - 20) / 4) * 4,
                   types[rng_below(rng, COUNT(types))], 2);
        else if (rng_below(rng, 2))
            bytes[at] ^= (uint8_t)(1u << rng_below(rng, 8));
        else
            bytes[at] = (uint8_t)rng_u64(rng);
    }
}

static void test_mutations(void)
{
    struct rng rng = rng_new();
    struct vectors v = vectors_open("messages.txt");
    struct vector_record r;
    unsigned good = 0, bad = 0;
    while (vectors_record(&v, &r))
        for (unsigned i = 0; i < 4000; i++) {
            uint8_t bytes[VECTOR_BYTES_MAX];
            memcpy(bytes, r.bytes, r.len);
            mutate(&rng, bytes, r.len);
            enum ct_err err = check_against_plain(bytes, r.len, i % 8);
            good += err == CT_OK;
            bad += err != CT_OK;
        }
    CHECK(good > 1000);
    CHECK(bad > 1000);
    vectors_close(&v);
}

/* Random bytes, most of them behind a header that holds and with lengths that are small. */
static void test_random_bytes(void)
{
    struct rng rng = rng_new();
    for (unsigned i = 0; i < 100000; i++) {
        uint8_t bytes[200];
        size_t len = rng_below(&rng, sizeof bytes);
        rng_bytes(&rng, bytes, len);
        if (len >= 20 && i % 8) {
            len &= ~(size_t)3;
            memcpy(bytes, (const uint8_t[8]){0, 1, 0, (uint8_t)(len - 20), 0x21, 0x12, 0xA4, 0x42},
                   8);
            for (size_t at = 20; at < len; at += 4 + rng_below(&rng, 5) * 4) {
                bytes[at + 2] = 0;
                bytes[at + 3] &= 31;
            }
        }
        check_against_plain(bytes, len, i % 8);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_encode_and_decode_are_inverse),
        CHECK_TEST(test_truncations),
        CHECK_TEST(test_mutations),
        CHECK_TEST(test_random_bytes),
    };
    return CHECK_RUN(tests);
}
