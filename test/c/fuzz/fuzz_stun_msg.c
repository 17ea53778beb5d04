/*
 * Any bytes as a STUN message: decoded, walked, read by every getter, checked for integrity, and
 * written again from what was read.
 */
#include "core/crc32.h"
#include "core/stun_auth.h"
#include "core/stun_msg.h"
#include "exact.h"
#include "fuzz.h"

static uint32_t sum(struct span s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += s.data[i];
    return n;
}

/* All getters on all attributes: those of another kind must give an error, not read beyond. */
static uint32_t read_all(const struct stun_msg *m)
{
    uint32_t total = 0, u32 = 0;
    uint16_t channel = 0;
    uint8_t first = 0;
    struct addr a = {0};
    for (int i = 0; i < STUN_ID_COUNT; i++) {
        enum stun_attr_id id = (enum stun_attr_id)i;
        struct span value = stun_msg_bytes(m, id);
        MUST(stun_msg_has(m, id) == (value.data != NULL));
        if (value.data) {
            MUST(m->at[id] >= STUN_HEADER_SIZE + STUN_ATTR_HEADER_SIZE && m->at[id] % 4 == 0);
            MUST(m->at[id] + stun_padded(value.len) <= m->len);
        }
        total += sum(value);
        (void)stun_msg_u32(m, id, &u32);
        (void)stun_msg_first_byte(m, id, &first);
        (void)stun_msg_addr(m, id, &a);
        total += u32 + first + a.port;
    }
    (void)stun_msg_channel(m, &channel);
    return total + channel;
}

static void check_integrity(const struct stun_msg *m)
{
    static struct crypto *crypto; /* made once: a fuzzer runs one input after the other */
    const struct stun_key key = {.bytes = "key", .len = 3};
    if (!crypto)
        crypto = crypto_new();
    (void)stun_check_integrity(crypto, m, STUN_INTEGRITY_SHA1, &key);
    (void)stun_check_integrity(crypto, m, STUN_INTEGRITY_SHA256, &key);
}

/* The address of a value, written by the encoder, gives the value; its first byte is ours to set.
 */
static void check_addr(const struct stun_msg *m, const struct stun_attr *attr)
{
    struct addr a;
    uint8_t bytes[64];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    enum stun_attr_id id = stun_attr_id(attr->type);
    if (id == STUN_ID_UNKNOWN)
        return;
    bool xored = stun_attr_def(id)->kind == STUN_KIND_XADDR;
    if ((!xored && stun_attr_def(id)->kind != STUN_KIND_ADDR) ||
        stun_addr_decode(attr->value, xored, stun_msg_tid(m), &a) != CT_OK)
        return;
    MUST(stun_attr_length_ok(id, attr->value.len));
    stun_begin(&w, m->type, stun_msg_tid(m));
    if (xored)
        stun_put_xaddr(&w, attr->type, &a);
    else
        stun_put_addr(&w, attr->type, &a);
    MUST(w.pos == STUN_HEADER_SIZE + STUN_ATTR_HEADER_SIZE + attr->value.len);
    MUST(memcmp(bytes + 25, attr->value.data + 1, attr->value.len - 1) == 0);
}

/* Attribute by attribute; true when it comes out as it went in but for the padding's content. */
static void write_again(const struct stun_msg *m)
{
    struct exact out = exact_of(m->data, m->len, m->len / 4 % 8);
    struct wbuf w = wbuf_of(out.data, out.len);
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE, unknown = 0, before;
    bool zero_padded = true;
    memset(out.data, 0xEE, out.len);
    stun_begin(&w, m->type, stun_msg_tid(m));
    for (before = pos; stun_msg_next(m, &pos, &attr); before = pos) {
        MUST(attr.at == before + STUN_ATTR_HEADER_SIZE);
        for (uint32_t i = attr.at + (uint32_t)attr.value.len; i < pos; i++)
            zero_padded = zero_padded && m->data[i] == 0;
        unknown += pos <= m->attrs_end && stun_attr_id(attr.type) == STUN_ID_UNKNOWN &&
                   stun_attr_required(attr.type);
        check_addr(m, &attr);
        if (attr.type == STUN_ATTR_FINGERPRINT && zero_padded)
            stun_put_fingerprint(&w);
        else
            stun_put(&w, attr.type, attr.value.data, attr.value.len);
    }
    MUST(pos == m->len && unknown == m->unknown_required);
    MUST(!w.failed && w.pos == m->len);
    MUST(!zero_padded || memcmp(out.data, m->data, m->len) == 0);
    exact_free(&out);
}

/* A checksum that no mutation finds: put right for odd transaction ids, when it is to be last. */
static void mend_fingerprint(uint8_t *bytes, size_t len)
{
    if (len < 28 || !(bytes[19] & 1) || memcmp(bytes + len - 8, "\x80\x28\0\4", 4) != 0)
        return;
    struct wbuf w = wbuf_of(bytes + len - 4, 4);
    wbuf_u32(&w, crc32_of(bytes, len - 8) ^ STUN_FINGERPRINT_XOR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stun_msg m;
    size_t at = SIZE_MAX;
    struct exact e = exact_of(data, size, size % 8);
    mend_fingerprint(e.data, e.len);
    if (stun_msg_decode(&m, e.data, e.len, &at) == CT_OK) {
        volatile uint32_t sink = read_all(&m);
        (void)sink;
        MUST(m.len == size && m.attrs_end <= m.len);
        check_integrity(&m);
        write_again(&m);
    } else {
        MUST(at <= size);
    }
    bool had_cookie = at != 4; /* or never got so far */
    if (stun_msg_decode_classic(&m, e.data, e.len) == CT_OK) {
        volatile uint32_t sink = read_all(&m);
        (void)sink;
        MUST(!had_cookie && stun_msg_is_classic(&m));
    }
    exact_free(&e);
    return 0;
}
