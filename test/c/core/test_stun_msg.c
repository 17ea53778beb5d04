#include "check.h"
#include "core/crc32.h"
#include "core/stun_msg.h"
#include "exact.h"
#include "spell.h"
#include "vectors.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const uint8_t tid[STUN_TID_SIZE] = "transaction!";

static struct stun_msg decoded(const uint8_t *data, size_t len)
{
    struct stun_msg m = {0};
    CHECK_EQ(stun_msg_decode(&m, data, len, NULL), CT_OK);
    return m;
}

/* ---- our own messages, and RFC 5769's ---- */

/* The attribute of the walk whose header stands at this offset. */
static bool attr_at(const struct stun_msg *m, size_t offset, struct stun_attr *out)
{
    uint32_t pos = STUN_HEADER_SIZE;
    while (stun_msg_next(m, &pos, out))
        if (out->at == offset + STUN_ATTR_HEADER_SIZE)
            return true;
    return false;
}

static void check_attr(const struct stun_msg *m, const struct vector_line *line, uint32_t *pos)
{
    uint8_t value[VECTOR_BYTES_MAX];
    struct stun_attr attr = {0};
    uint16_t type = (uint16_t)vector_number(line->word[2]);
    size_t offset = vector_number(line->word[1]);
    size_t len = vector_hex(line->word[4], value, sizeof value);
    CHECK(stun_msg_next(m, pos, &attr));
    CHECK_EQ(attr.at, offset + STUN_ATTR_HEADER_SIZE);
    CHECK_EQ(attr.type, type);
    CHECK_EQ(attr.value.len, vector_number(line->word[3]));
    CHECK(span_eq(attr.value, span_of(value, len)));
    CHECK(stun_msg_has(m, stun_attr_id(type)));
}

/* What the value says, read from the wire and, when it is the first of its type, by the getter. */
static void check_addr(const struct stun_msg *m, const struct vector_line *line)
{
    struct stun_attr attr;
    struct addr want = addr_of(line->word[2]), got = {0};
    CHECK(attr_at(m, vector_number(line->word[1]), &attr));
    CHECK_EQ(stun_addr_decode(attr.value, true, stun_msg_tid(m), &got), CT_OK);
    CHECK(addr_eq(&got, &want));
    enum stun_attr_id id = stun_attr_id(attr.type);
    if (m->at[id] != attr.at)
        return;
    got = (struct addr){0};
    CHECK_EQ(stun_msg_addr(m, id, &got), CT_OK);
    CHECK(addr_eq(&got, &want));
}

static void check_meaning(const struct stun_msg *m, const struct vector_line *line)
{
    struct stun_attr attr;
    uint32_t v = 0;
    if (vector_is(line, "addr")) {
        check_addr(m, line);
    } else if (vector_is(line, "u32")) {
        CHECK(attr_at(m, vector_number(line->word[1]), &attr));
        CHECK_EQ(stun_msg_u32(m, stun_attr_id(attr.type), &v), CT_OK);
        CHECK_EQ(v, vector_number(line->word[2]));
    } else if (vector_is(line, "text")) {
        CHECK(attr_at(m, vector_number(line->word[1]), &attr));
        CHECK(span_eq(stun_msg_bytes(m, stun_attr_id(attr.type)), span_str(vector_rest(line, 2))));
    }
}

static void check_message(const struct vector_record *r, size_t skew)
{
    struct exact e = exact_of(r->bytes, r->len, skew);
    struct stun_msg m = decoded(e.data, e.len);
    const struct vector_line *type = vector_find(r, "type");
    uint8_t want_tid[STUN_TID_SIZE];
    uint32_t pos = STUN_HEADER_SIZE;
    struct stun_attr attr;

    vector_hex(vector_find(r, "tid")->word[1], want_tid, sizeof want_tid);
    CHECK_BYTES(stun_msg_tid(&m), want_tid, sizeof want_tid);
    CHECK_EQ(m.type, vector_number(type->word[1]));
    CHECK_STR(stun_method_name(m.method), type->word[2]);
    CHECK_EQ(stun_type(m.method, m.cls), m.type);
    CHECK_EQ(m.len, r->len);
    CHECK_EQ(m.unknown_required, 0);
    for (size_t i = 0; i < r->count; i++) {
        if (vector_is(&r->line[i], "attr"))
            check_attr(&m, &r->line[i], &pos);
        else
            check_meaning(&m, &r->line[i]);
    }
    CHECK_EQ(pos, r->len);
    CHECK(!stun_msg_next(&m, &pos, &attr));
    exact_free(&e);
}

static void test_vectors(void)
{
    struct vectors v = vectors_open("messages.txt");
    struct vector_record r;
    unsigned seen = 0;
    for (; vectors_record(&v, &r); seen++)
        for (size_t skew = 0; skew < 8; skew++)
            check_message(&r, skew);
    CHECK_EQ(seen, 29);
    vectors_close(&v);
}

static const char *class_name(enum stun_class cls)
{
    return cls == STUN_REQUEST      ? "request"
           : cls == STUN_INDICATION ? "indication"
           : cls == STUN_SUCCESS    ? "success"
                                    : "error";
}

/* The line of this field that tells of the attribute at this offset. */
static const struct vector_line *told(const struct vector_record *r, const char *field,
                                      const char *offset)
{
    for (size_t i = 0; i < r->count; i++)
        if (vector_is(&r->line[i], field) && strcmp(r->line[i].word[1], offset) == 0)
            return &r->line[i];
    return NULL;
}

/* Writes an attribute with the function for its kind, from what the file says it means. */
static void put_again(struct wbuf *w, const struct vector_record *r, const struct vector_line *attr)
{
    uint16_t type = (uint16_t)vector_number(attr->word[2]);
    const struct vector_line *addr = told(r, "addr", attr->word[1]);
    const struct vector_line *u32 = told(r, "u32", attr->word[1]);
    const struct vector_line *error = told(r, "error", attr->word[1]);
    uint8_t value[VECTOR_BYTES_MAX];
    if (addr) {
        struct addr a = addr_of(addr->word[2]);
        stun_put_xaddr(w, type, &a);
    } else if (u32) {
        stun_put_u32(w, type, (uint32_t)vector_number(u32->word[2]));
    } else if (error) {
        stun_put_error(w, (unsigned)vector_number(error->word[2]), span_str(vector_rest(error, 3)));
    } else if (type == STUN_ATTR_FINGERPRINT) {
        stun_put_fingerprint(w);
    } else {
        stun_put(w, type, value, vector_hex(attr->word[4], value, sizeof value));
    }
}

static bool zero_padded(const struct vector_record *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (vector_is(&r->line[i], "attr") && strspn(r->line[i].word[5], "-0") == 0)
            return false;
    return true;
}

static void encode_again(const struct vector_record *r)
{
    uint8_t id[STUN_TID_SIZE];
    struct exact out = exact_of(r->bytes, r->len, r->len % 8);
    struct wbuf w = wbuf_of(out.data, out.len);
    memset(out.data, 0xEE, out.len); /* the padding must be written, not found */
    vector_hex(vector_find(r, "tid")->word[1], id, sizeof id);
    stun_begin(&w, (uint16_t)vector_number(vector_find(r, "type")->word[1]), id);
    for (size_t i = 0; i < r->count; i++)
        if (vector_is(&r->line[i], "attr"))
            put_again(&w, r, &r->line[i]);
    CHECK(!w.failed);
    CHECK(span_eq(span_of(out.data, w.pos), span_of(r->bytes, r->len)));
    exact_free(&out);
}

static void test_vectors_come_out_byte_by_byte(void)
{
    struct vectors v = vectors_open("messages.txt");
    struct vector_record r;
    unsigned seen = 0;
    while (vectors_record(&v, &r)) {
        const struct vector_line *type = vector_find(&r, "type");
        CHECK_STR(class_name(stun_type_class((uint16_t)vector_number(type->word[1]))),
                  type->word[3]);
        if (!zero_padded(&r))
            continue;
        encode_again(&r);
        seen++;
    }
    CHECK_EQ(seen, 26);
    vectors_close(&v);
}

static void test_addresses(void)
{
    struct vectors v = vectors_open("addresses.txt");
    struct vector_line line;
    uint8_t id[STUN_TID_SIZE] = {0}, value[20], bytes[64];
    unsigned seen = 0;
    while (vectors_line(&v, &line)) {
        if (vector_is(&line, "tid")) {
            vector_hex(line.word[1], id, sizeof id);
            continue;
        }
        struct addr want = addr_of(line.word[1]), got = {0};
        size_t len = vector_hex(line.word[2], value, sizeof value);
        CHECK_EQ(stun_addr_decode(span_of(value, len), true, id, &got), CT_OK);
        CHECK(addr_eq(&got, &want));
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        stun_begin(&w, 0x0101, id);
        stun_put_xaddr(&w, STUN_ATTR_XOR_MAPPED_ADDRESS, &want);
        CHECK(span_eq(span_of(bytes + 24, w.pos - 24), span_of(value, len)));
        seen++;
    }
    CHECK_EQ(seen, 8);
    vectors_close(&v);
}

/* ---- malformed ---- */

static void check_malformed(const struct vector_record *r, const struct vector_line *want)
{
    struct exact e = exact_of(r->bytes, r->len, 0);
    struct stun_msg m = {0};
    size_t at = 12345;
    CHECK_STR(ct_err_name(stun_msg_decode(&m, e.data, e.len, &at)), want->word[1]);
    if (want->count > 2)
        CHECK_EQ(at, vector_number(want->word[2]));
    CHECK_STR(ct_err_name(stun_msg_decode(&m, e.data, e.len, NULL)), want->word[1]);
    if (check_failures)
        printf("#   in %s\n", r->line[0].word[1]);
    exact_free(&e);
}

/* What a message of sound form says to the getters. */
static void check_sound(const struct vector_record *r)
{
    struct stun_msg m = decoded(r->bytes, r->len);
    unsigned unknown = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct vector_line *line = &r->line[i];
        if (vector_is(line, "unknown"))
            unknown++;
        if (vector_is(line, "ignored")) {
            enum stun_attr_id id = stun_attr_id((uint16_t)vector_number(line->word[1]));
            CHECK(id == STUN_ID_UNKNOWN || !stun_msg_has(&m, id));
            CHECK(m.attrs_end < m.len);
        }
        if (vector_is(line, "value")) {
            struct addr a = {.port = 7};
            enum stun_attr_id id = stun_attr_id((uint16_t)vector_number(line->word[1]));
            CHECK_STR(ct_err_name(stun_msg_addr(&m, id, &a)), line->word[2]);
            CHECK_EQ(a.port, 7);
        }
    }
    CHECK_EQ(m.unknown_required, unknown);
}

static void test_malformed_vectors(void)
{
    struct vectors v = vectors_open("malformed.txt");
    struct vector_record r;
    unsigned bad = 0, sound = 0;
    while (vectors_record(&v, &r)) {
        const struct vector_line *want = vector_find(&r, "decode");
        if (!want)
            continue;
        check_malformed(&r, want);
        if (strcmp(want->word[1], "ok") != 0) {
            bad++;
            continue;
        }
        check_sound(&r);
        sound++;
    }
    CHECK_EQ(bad, 10);
    CHECK_EQ(sound, 14);
    vectors_close(&v);
}

/* ---- which attributes count ---- */

struct message {
    uint8_t bytes[2048];
    struct wbuf w;
};

static void begin(struct message *t)
{
    t->w = wbuf_of(t->bytes, sizeof t->bytes);
    stun_begin(&t->w, stun_type(STUN_ALLOCATE, STUN_REQUEST), tid);
}

static struct stun_msg ended(const struct message *t)
{
    CHECK(!t->w.failed);
    return decoded(t->bytes, t->w.pos);
}

static void test_the_first_of_a_type_counts(void)
{
    struct message t;
    uint32_t v = 0;
    begin(&t);
    stun_put_u32(&t.w, STUN_ATTR_LIFETIME, 700);
    stun_put_u32(&t.w, STUN_ATTR_LIFETIME, 900);
    struct stun_msg m = ended(&t);
    CHECK_EQ(stun_msg_u32(&m, STUN_ID_LIFETIME, &v), CT_OK);
    CHECK_EQ(v, 700);
    CHECK_EQ(m.attrs_end, m.len);
}

static void test_a_malformed_first_is_not_mended_by_a_second(void)
{
    struct message t;
    uint32_t v = 0;
    begin(&t);
    stun_put(&t.w, STUN_ATTR_LIFETIME, "abc", 3);
    stun_put_u32(&t.w, STUN_ATTR_LIFETIME, 900);
    struct stun_msg m = ended(&t);
    CHECK_EQ(stun_msg_u32(&m, STUN_ID_LIFETIME, &v), CT_EVALUE);
}

/* RFC 8489 §14.5: behind MESSAGE-INTEGRITY only -SHA256 and FINGERPRINT count. */
static void test_behind_message_integrity(void)
{
    static const uint8_t mac[32] = {0};
    struct message t;
    begin(&t);
    stun_put_u32(&t.w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    size_t end = t.w.pos;
    stun_put(&t.w, STUN_ATTR_MESSAGE_INTEGRITY, mac, 20);
    stun_put_u32(&t.w, STUN_ATTR_LIFETIME, 900);
    stun_put(&t.w, 0x7F02, mac, 4);
    stun_put(&t.w, STUN_ATTR_MESSAGE_INTEGRITY, mac, 4);
    stun_put(&t.w, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, mac, 32);
    stun_put(&t.w, STUN_ATTR_USERHASH, mac, 32);
    stun_put(&t.w, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, mac, 16);
    stun_put_fingerprint(&t.w);
    struct stun_msg m = ended(&t);
    CHECK_EQ(m.attrs_end, end);
    CHECK_EQ(m.unknown_required, 0);
    CHECK(stun_msg_has(&m, STUN_ID_REQUESTED_TRANSPORT));
    CHECK(!stun_msg_has(&m, STUN_ID_LIFETIME));
    CHECK(!stun_msg_has(&m, STUN_ID_USERHASH));
    CHECK_EQ(m.size[STUN_ID_MESSAGE_INTEGRITY], 20);
    CHECK_EQ(m.size[STUN_ID_MESSAGE_INTEGRITY_SHA256], 32);
    CHECK(stun_msg_has(&m, STUN_ID_FINGERPRINT));
}

/* §14.6: without MESSAGE-INTEGRITY before it, behind -SHA256 only FINGERPRINT counts. */
static void test_behind_message_integrity_sha256(void)
{
    static const uint8_t mac[32] = {0};
    struct message t;
    begin(&t);
    size_t end = t.w.pos;
    stun_put(&t.w, STUN_ATTR_MESSAGE_INTEGRITY_SHA256, mac, 32);
    stun_put(&t.w, STUN_ATTR_MESSAGE_INTEGRITY, mac, 20);
    stun_put_u32(&t.w, STUN_ATTR_LIFETIME, 900);
    stun_put(&t.w, 0x7F02, mac, 4);
    stun_put_fingerprint(&t.w);
    struct stun_msg m = ended(&t);
    CHECK_EQ(m.attrs_end, end);
    CHECK_EQ(m.unknown_required, 0);
    CHECK(stun_msg_has(&m, STUN_ID_MESSAGE_INTEGRITY_SHA256));
    CHECK(!stun_msg_has(&m, STUN_ID_MESSAGE_INTEGRITY));
    CHECK(!stun_msg_has(&m, STUN_ID_LIFETIME));
    CHECK(stun_msg_has(&m, STUN_ID_FINGERPRINT));
}

static void test_unknown_attributes_are_counted(void)
{
    struct message t;
    begin(&t);
    stun_put(&t.w, 0x7F00, "x", 1);
    stun_put(&t.w, 0x0002, NULL, 0);
    stun_put(&t.w, 0x7F00, "x", 1);
    stun_put(&t.w, 0xFF00, "x", 1);
    stun_put(&t.w, 0x8020, "x", 1);
    CHECK_EQ(ended(&t).unknown_required, 3);
}

static void test_as_many_unknown_as_fit(void)
{
    static uint8_t bytes[65536 + 20];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, 0x0001, tid);
    for (unsigned i = 0; i < 65532 / 4; i++)
        stun_put(&w, 0x7FFF, NULL, 0);
    CHECK(!w.failed);
    struct stun_msg m = decoded(bytes, w.pos);
    CHECK_EQ(m.len, 20 + 65532);
    CHECK_EQ(m.unknown_required, 16383);
    stun_put(&w, 0x7FFF, NULL, 0);
    CHECK(w.failed);
}

static void test_fingerprint(void)
{
    struct message t;
    struct stun_msg m;
    begin(&t);
    stun_put(&t.w, STUN_ATTR_SOFTWARE, "abc", 3);
    stun_put_fingerprint(&t.w);
    m = ended(&t);
    CHECK(stun_msg_has(&m, STUN_ID_FINGERPRINT));
    for (size_t bit = 0; bit < 8 * t.w.pos; bit++) {
        size_t at = 0;
        t.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK(stun_msg_decode(&m, t.bytes, t.w.pos, &at) != CT_OK ||
              !stun_msg_has(&m, STUN_ID_FINGERPRINT));
        CHECK(at <= t.w.pos);
        t.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    begin(&t);
    stun_put(&t.w, STUN_ATTR_FINGERPRINT, "12345678", 8);
    CHECK_EQ(stun_msg_decode(&m, t.bytes, t.w.pos, NULL), CT_EFP);
    begin(&t);
    stun_put_fingerprint(&t.w);
    stun_put_fingerprint(&t.w);
    CHECK_EQ(stun_msg_decode(&m, t.bytes, t.w.pos, NULL), CT_EFPLAST);
    begin(&t); /* right for the length that the header has at last, and not last all the same */
    stun_put_fingerprint(&t.w);
    stun_put_u32(&t.w, STUN_ATTR_LIFETIME, 900);
    struct wbuf value = wbuf_of(t.bytes + 24, 4);
    wbuf_u32(&value, crc32_of(t.bytes, 20) ^ STUN_FINGERPRINT_XOR);
    CHECK_EQ(stun_msg_decode(&m, t.bytes, t.w.pos, NULL), CT_EFPLAST);
}

/* ---- getters ---- */

static void test_getters_of_what_is_absent(void)
{
    struct message t;
    begin(&t);
    struct stun_msg m = ended(&t);
    uint32_t u32 = 5;
    uint16_t u16 = 5;
    uint8_t u8 = 5;
    struct addr a = {.port = 5};
    CHECK_EQ(stun_msg_u32(&m, STUN_ID_LIFETIME, &u32), CT_EMISSING);
    CHECK_EQ(stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &a), CT_EMISSING);
    CHECK_EQ(stun_msg_first_byte(&m, STUN_ID_REQUESTED_TRANSPORT, &u8), CT_EMISSING);
    CHECK_EQ(stun_msg_channel(&m, &u16), CT_EMISSING);
    CHECK(stun_msg_bytes(&m, STUN_ID_DATA).data == NULL);
    CHECK(u32 == 5 && u16 == 5 && u8 == 5 && a.port == 5);
}

static void test_an_empty_value_is_there(void)
{
    struct message t;
    begin(&t);
    stun_put(&t.w, STUN_ATTR_DATA, NULL, 0);
    struct stun_msg m = ended(&t);
    CHECK(stun_msg_bytes(&m, STUN_ID_DATA).data == t.bytes + 24);
    CHECK_EQ(stun_msg_bytes(&m, STUN_ID_DATA).len, 0);
}

static void test_getters_refuse_wrong_lengths(void)
{
    for (size_t n = 0; n <= 24; n++) {
        struct message t;
        uint32_t u32 = 5;
        uint16_t u16 = 5;
        uint8_t u8 = 5, value[24] = {0, n == 20 ? ADDR_V6 : ADDR_V4};
        struct addr a = {.port = 5};
        begin(&t);
        stun_put(&t.w, STUN_ATTR_LIFETIME, value, n);
        stun_put(&t.w, STUN_ATTR_CHANNEL_NUMBER, value, n);
        stun_put(&t.w, STUN_ATTR_REQUESTED_TRANSPORT, value, n);
        stun_put(&t.w, STUN_ATTR_XOR_PEER_ADDRESS, value, n);
        struct stun_msg m = ended(&t);
        enum ct_err word = n == 4 ? CT_OK : CT_EVALUE;
        CHECK_EQ(stun_msg_u32(&m, STUN_ID_LIFETIME, &u32), word);
        CHECK_EQ(stun_msg_channel(&m, &u16), word);
        CHECK_EQ(stun_msg_first_byte(&m, STUN_ID_REQUESTED_TRANSPORT, &u8), word);
        CHECK(word == CT_OK || (u32 == 5 && u16 == 5 && u8 == 5));
        enum ct_err addr = n == 8 || n == 20 ? CT_OK : CT_EVALUE;
        CHECK_EQ(stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &a), addr);
        CHECK(addr == CT_OK || a.port == 5);
    }
}

/* RFC 8489 §14.1: the first byte is ignored; a family of another length is malformed. */
static void test_address_values(void)
{
    uint8_t value[20] = {0xFF, ADDR_V4, 0, 80, 192, 0, 2, 1};
    struct addr a, want = addr_of("192.0.2.1:80");
    CHECK_EQ(stun_addr_decode(span_of(value, 8), false, tid, &a), CT_OK);
    CHECK(addr_eq(&a, &want));
    for (unsigned family = 0; family < 256; family++) {
        value[1] = (uint8_t)family;
        enum ct_err v4 = family == ADDR_V4 ? CT_OK : CT_EVALUE;
        enum ct_err v6 = family == ADDR_V6 ? CT_OK : CT_EVALUE;
        CHECK_EQ(stun_addr_decode(span_of(value, 8), true, tid, &a), v4);
        CHECK_EQ(stun_addr_decode(span_of(value, 20), true, tid, &a), v6);
        CHECK_EQ(stun_addr_decode(span_of(value, 4), true, tid, &a), CT_EVALUE);
    }
    CHECK_EQ(stun_addr_decode((struct span){0}, true, tid, &a), CT_EVALUE);
}

static void test_channel_and_first_byte(void)
{
    struct message t;
    uint16_t channel = 0;
    uint8_t family = 0;
    begin(&t);
    stun_put(&t.w, STUN_ATTR_CHANNEL_NUMBER, "\x4a\xbc\xff\xff", 4);
    stun_put(&t.w, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\x02\xff\xff\xff", 4);
    struct stun_msg m = ended(&t);
    CHECK_EQ(stun_msg_channel(&m, &channel), CT_OK);
    CHECK_EQ(channel, 0x4abc);
    CHECK_EQ(stun_msg_first_byte(&m, STUN_ID_REQUESTED_ADDRESS_FAMILY, &family), CT_OK);
    CHECK_EQ(family, 2);
}

/* ---- writing ---- */

static void test_writing_needs_a_header(void)
{
    uint8_t bytes[64] = {0};
    struct addr a = addr_of("192.0.2.1:80");
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_put(&w, STUN_ATTR_DATA, "x", 1);
    CHECK(w.failed);
    w = wbuf_of(bytes, sizeof bytes);
    stun_put_xaddr(&w, STUN_ATTR_XOR_MAPPED_ADDRESS, &a);
    CHECK(w.failed);
    w = wbuf_of(bytes, sizeof bytes);
    stun_put_fingerprint(&w);
    CHECK(w.failed);
    w = wbuf_of(bytes, sizeof bytes);
    wbuf_u8(&w, 0);
    stun_begin(&w, 1, tid);
    CHECK(w.failed);
}

static void test_values_that_cannot_be_written(void)
{
    static const uint8_t big[65536];
    static uint8_t bytes[3 * 65536];
    struct addr none = {0};
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, 1, tid);
    const struct wbuf start = w;
    stun_put_addr(&w, STUN_ATTR_MAPPED_ADDRESS, &none);
    CHECK(w.failed);
    w = start;
    stun_put(&w, STUN_ATTR_DATA, big, 65536);
    CHECK(w.failed);
    w = start;
    stun_put(&w, STUN_ATTR_DATA, big, 65529); /* with its padding one word too many */
    CHECK(w.failed);
    w = start;
    stun_put(&w, STUN_ATTR_DATA, big, 65528);
    CHECK(!w.failed);
    CHECK_EQ(decoded(bytes, w.pos).size[STUN_ID_DATA], 65528);
    stun_put(&w, STUN_ATTR_DATA, NULL, 0);
    CHECK(w.failed);
}

/* STUN-ATTR-21: an alternate server's address is not XORed (RFC 8489 §14.15). */
static void test_alternate_server_is_plain(void)
{
    uint8_t bytes[64];
    struct addr a = addr_of("192.0.2.1:3478"), got;
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, 0x0111, tid);
    stun_put_addr(&w, STUN_ATTR_ALTERNATE_SERVER, &a);
    CHECK_BYTES(bytes + 20, "\x80\x23\0\10\0\1\x0d\x96\xc0\0\2\1", 12);
    struct stun_msg m = decoded(bytes, w.pos);
    CHECK_EQ(stun_msg_addr(&m, STUN_ID_ALTERNATE_SERVER, &got), CT_OK);
    CHECK(addr_eq(&got, &a));
}

static void test_error_codes(void)
{
    static const unsigned codes[] = {299, 300, 401, 438, 508, 699, 700, 0, 4000};
    uint8_t bytes[1024];
    for (size_t i = 0; i < COUNT(codes); i++) {
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        stun_begin(&w, 0x0111, tid);
        stun_put_error(&w, codes[i], span_str("why"));
        CHECK_EQ(w.failed, codes[i] < 300 || codes[i] > 699);
        if (w.failed)
            continue;
        const uint8_t want[] = {0,   0,  (uint8_t)(codes[i] / 100), (uint8_t)(codes[i] % 100), 'w',
                                'h', 'y'};
        struct stun_msg m = decoded(bytes, w.pos);
        CHECK(span_eq(stun_msg_bytes(&m, STUN_ID_ERROR_CODE), span_of(want, sizeof want)));
    }
}

static void test_reasons_are_less_than_128_characters(void)
{
    uint8_t bytes[1024];
    char reason[4 * 128];
    memset(reason, 'x', sizeof reason);
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    stun_begin(&w, 0x0111, tid);
    const struct wbuf start = w;
    stun_put_error(&w, 400, span_of(reason, 127));
    CHECK(!w.failed);
    w = start;
    stun_put_error(&w, 400, span_of(reason, 128));
    CHECK(w.failed);
    for (size_t i = 0; i < sizeof reason; i += 4) /* U+1F600, four bytes a character */
        memcpy(reason + i, "\xf0\x9f\x98\x80", 4);
    w = start;
    stun_put_error(&w, 400, span_of(reason, 4 * 127));
    CHECK(!w.failed);
    w = start;
    stun_put_error(&w, 400, span_of(reason, 4 * 128));
    CHECK(w.failed);
}

static void put_some(struct wbuf *w)
{
    struct addr a = addr_of("[2001:db8::1]:80");
    stun_begin(w, stun_type(STUN_ALLOCATE, STUN_ERROR), tid);
    stun_put_error(w, 401, span_str("Unauthenticated"));
    stun_put(w, STUN_ATTR_SOFTWARE, "abc", 3);
    stun_put_xaddr(w, STUN_ATTR_XOR_MAPPED_ADDRESS, &a);
    stun_put_addr(w, STUN_ATTR_ALTERNATE_SERVER, &a);
    stun_put_u32(w, STUN_ATTR_LIFETIME, 600);
    stun_put_fingerprint(w);
}

static void test_too_little_room_anywhere(void)
{
    uint8_t bytes[512];
    struct wbuf whole = wbuf_of(bytes, sizeof bytes);
    put_some(&whole);
    CHECK(!whole.failed);
    for (size_t cap = 0; cap <= whole.pos; cap++) {
        struct exact e = exact_of(bytes, cap, 0);
        struct wbuf w = wbuf_of(e.data, cap);
        put_some(&w);
        CHECK_EQ(w.failed, cap < whole.pos);
        exact_free(&e);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_vectors),
        CHECK_TEST(test_vectors_come_out_byte_by_byte),
        CHECK_TEST(test_addresses),
        CHECK_TEST(test_malformed_vectors),
        CHECK_TEST(test_the_first_of_a_type_counts),
        CHECK_TEST(test_a_malformed_first_is_not_mended_by_a_second),
        CHECK_TEST(test_behind_message_integrity),
        CHECK_TEST(test_behind_message_integrity_sha256),
        CHECK_TEST(test_unknown_attributes_are_counted),
        CHECK_TEST(test_as_many_unknown_as_fit),
        CHECK_TEST(test_fingerprint),
        CHECK_TEST(test_getters_of_what_is_absent),
        CHECK_TEST(test_an_empty_value_is_there),
        CHECK_TEST(test_getters_refuse_wrong_lengths),
        CHECK_TEST(test_address_values),
        CHECK_TEST(test_channel_and_first_byte),
        CHECK_TEST(test_writing_needs_a_header),
        CHECK_TEST(test_values_that_cannot_be_written),
        CHECK_TEST(test_alternate_server_is_plain),
        CHECK_TEST(test_error_codes),
        CHECK_TEST(test_reasons_are_less_than_128_characters),
        CHECK_TEST(test_too_little_room_anywhere),
    };
    return CHECK_RUN(tests);
}
