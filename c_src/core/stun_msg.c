#include "core/stun_msg.h"

#include "core/crc32.h"

/* ---- decoding ---- */

static enum ct_err fail_at(size_t *err_at, size_t at, enum ct_err err)
{
    if (err_at)
        *err_at = at;
    return err;
}

static enum ct_err decode_header(struct stun_msg *m, const uint8_t *data, size_t len,
                                 size_t *err_at)
{
    struct rbuf r = rbuf_of(data, len);
    uint16_t type = rbuf_u16(&r), length = rbuf_u16(&r);
    uint32_t cookie = rbuf_u32(&r);
    if (len && (data[0] & 0xC0))
        return fail_at(err_at, 0, CT_ETYPE);
    if (!rbuf_take(&r, STUN_TID_SIZE))
        return fail_at(err_at, len, CT_ESHORT);
    if (cookie != STUN_COOKIE)
        return fail_at(err_at, 4, CT_ECOOKIE);
    if (length % 4)
        return fail_at(err_at, 2, CT_ELENGTH);
    if (rbuf_left(&r) < length)
        return fail_at(err_at, len, CT_ESHORT);
    if (rbuf_left(&r) > length)
        return fail_at(err_at, STUN_HEADER_SIZE + (size_t)length, CT_ELENGTH);
    m->data = data;
    m->len = m->attrs_end = (uint32_t)len;
    m->type = type;
    m->method = stun_type_method(type);
    m->cls = stun_type_class(type);
    m->unknown_required = 0;
    m->present = 0;
    return CT_OK;
}

enum {
    BIT_MI = STUN_ID_MESSAGE_INTEGRITY,
    BIT_MI256 = STUN_ID_MESSAGE_INTEGRITY_SHA256,
    BIT_FP = STUN_ID_FINGERPRINT,
};

/* Whether an attribute that follows what is `present` counts (RFC 8489 §14.5, §14.6). */
static bool counts(uint64_t present, enum stun_attr_id id)
{
    if (present >> BIT_MI256 & 1)
        return id == STUN_ID_FINGERPRINT;
    if (present >> BIT_MI & 1)
        return id == STUN_ID_MESSAGE_INTEGRITY_SHA256 || id == STUN_ID_FINGERPRINT;
    return true;
}

static void note(struct stun_msg *m, const struct stun_attr *attr)
{
    enum stun_attr_id id = stun_attr_id(attr->type);
    if (!counts(m->present, id))
        return;
    if (id == STUN_ID_UNKNOWN) {
        m->unknown_required += stun_attr_required(attr->type);
        return;
    }
    if (stun_msg_has(m, id))
        return;
    bool integrity = id == STUN_ID_MESSAGE_INTEGRITY || id == STUN_ID_MESSAGE_INTEGRITY_SHA256;
    if (integrity && m->attrs_end == m->len)
        m->attrs_end = attr->at - STUN_ATTR_HEADER_SIZE;
    m->present |= (uint64_t)1 << id;
    m->at[id] = attr->at;
    m->size[id] = (uint16_t)attr->value.len;
}

bool stun_msg_next(const struct stun_msg *m, uint32_t *pos, struct stun_attr *out)
{
    struct rbuf r = rbuf_of(m->data, m->len);
    r.pos = *pos;
    if (*pos >= m->len)
        return false;
    uint16_t type = rbuf_u16(&r), size = rbuf_u16(&r);
    size_t at = r.pos;
    const uint8_t *value = rbuf_take(&r, size);
    rbuf_take(&r, stun_padded(size) - size);
    if (r.failed)
        return false;
    *pos = (uint32_t)r.pos;
    *out = (struct stun_attr){.value = span_of(value, size), .at = (uint32_t)at, .type = type};
    return true;
}

static enum ct_err check_fingerprint(const struct stun_msg *m, const struct stun_attr *attr,
                                     size_t *err_at)
{
    struct rbuf r = rbuf_of(attr->value.data, attr->value.len);
    uint32_t claimed = rbuf_u32(&r);
    if (attr->value.len != 4)
        return fail_at(err_at, attr->at, CT_EVALUE);
    if (attr->at + 4 != m->len)
        return fail_at(err_at, attr->at + 4, CT_EFPLAST);
    uint32_t crc = crc32_of(m->data, attr->at - STUN_ATTR_HEADER_SIZE);
    if ((crc ^ STUN_FINGERPRINT_XOR) != claimed)
        return fail_at(err_at, attr->at, CT_EFP);
    return CT_OK;
}

enum ct_err stun_msg_decode(struct stun_msg *out, const uint8_t *data, size_t len, size_t *err_at)
{
    enum ct_err err = decode_header(out, data, len, err_at);
    if (err != CT_OK)
        return err;
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE;
    while (pos < out->len) {
        if (!stun_msg_next(out, &pos, &attr))
            return fail_at(err_at, pos, CT_EATTR);
        note(out, &attr);
        if (attr.type == STUN_ATTR_FINGERPRINT) {
            err = check_fingerprint(out, &attr, err_at);
            if (err != CT_OK)
                return err;
        }
    }
    return CT_OK;
}

/* ---- reading values ---- */

/* The attribute's bytes as a cursor, when it is there and of an allowed length. */
static enum ct_err value_of(const struct stun_msg *m, enum stun_attr_id id, struct rbuf *out)
{
    if (!stun_msg_has(m, id))
        return CT_EMISSING;
    if (!stun_attr_length_ok(id, m->size[id]))
        return CT_EVALUE;
    *out = rbuf_of(m->data + m->at[id], m->size[id]);
    return CT_OK;
}

enum ct_err stun_msg_u32(const struct stun_msg *m, enum stun_attr_id id, uint32_t *out)
{
    struct rbuf r;
    enum ct_err err = value_of(m, id, &r);
    if (err == CT_OK)
        *out = rbuf_u32(&r);
    return err;
}

enum ct_err stun_msg_first_byte(const struct stun_msg *m, enum stun_attr_id id, uint8_t *out)
{
    struct rbuf r;
    enum ct_err err = value_of(m, id, &r);
    if (err == CT_OK)
        *out = rbuf_u8(&r);
    return err;
}

enum ct_err stun_msg_channel(const struct stun_msg *m, uint16_t *out)
{
    struct rbuf r;
    enum ct_err err = value_of(m, STUN_ID_CHANNEL_NUMBER, &r);
    if (err == CT_OK)
        *out = rbuf_u16(&r);
    return err;
}

enum ct_err stun_msg_addr(const struct stun_msg *m, enum stun_attr_id id, struct addr *out)
{
    if (!stun_msg_has(m, id))
        return CT_EMISSING;
    bool xored = stun_attr_def(id)->kind == STUN_KIND_XADDR;
    return stun_addr_decode(stun_msg_bytes(m, id), xored, stun_msg_tid(m), out);
}

/* XORs an address in wire order with the cookie and the transaction id (RFC 8489 §14.2). */
static void xor_ip(uint8_t *ip, size_t len, const uint8_t tid[STUN_TID_SIZE])
{
    static const uint8_t cookie[4] = {0x21, 0x12, 0xA4, 0x42};
    for (size_t i = 0; i < len; i++)
        ip[i] ^= i < 4 ? cookie[i] : tid[i - 4];
}

enum ct_err stun_addr_decode(struct span value, bool xored, const uint8_t tid[STUN_TID_SIZE],
                             struct addr *out)
{
    struct rbuf r = rbuf_of(value.data, value.len);
    struct addr a = {0};
    rbuf_u8(&r); /* sent as 0, ignored on receipt */
    a.family = rbuf_u8(&r);
    a.port = rbuf_u16(&r);
    size_t len = addr_ip_len(a.family);
    const uint8_t *ip = rbuf_take(&r, len);
    if (len == 0 || !ip || rbuf_left(&r))
        return CT_EVALUE;
    memcpy(a.ip, ip, len);
    if (xored) {
        a.port ^= STUN_COOKIE >> 16;
        xor_ip(a.ip, len, tid);
    }
    *out = a;
    return CT_OK;
}

/* ---- writing ---- */

static void patch_length(struct wbuf *w)
{
    size_t length = w->pos - STUN_HEADER_SIZE;
    if (w->failed)
        return;
    if (length > UINT16_MAX)
        w->failed = true;
    else
        wbuf_patch_u16(w, 2, (uint16_t)length);
}

void stun_begin(struct wbuf *w, uint16_t type, const uint8_t tid[STUN_TID_SIZE])
{
    if (w->pos != 0)
        w->failed = true;
    wbuf_u16(w, type);
    wbuf_u16(w, 0);
    wbuf_u32(w, STUN_COOKIE);
    wbuf_bytes(w, tid, STUN_TID_SIZE);
}

void stun_put(struct wbuf *w, uint16_t type, const void *value, size_t len)
{
    if (len > UINT16_MAX) {
        w->failed = true;
        return;
    }
    wbuf_u16(w, type);
    wbuf_u16(w, (uint16_t)len);
    wbuf_bytes(w, value, len);
    wbuf_zeros(w, stun_padded(len) - len);
    patch_length(w);
}

void stun_put_u32(struct wbuf *w, uint16_t type, uint32_t v)
{
    uint8_t value[4];
    struct wbuf b = wbuf_of(value, sizeof value);
    wbuf_u32(&b, v);
    stun_put(w, type, value, sizeof value);
}

static void put_addr(struct wbuf *w, uint16_t type, const struct addr *a, bool xored)
{
    uint8_t value[20];
    struct wbuf b = wbuf_of(value, sizeof value);
    size_t len = addr_ip_len(a->family);
    if (len == 0 || w->failed || w->pos < STUN_HEADER_SIZE) {
        w->failed = true;
        return;
    }
    wbuf_u8(&b, 0);
    wbuf_u8(&b, a->family);
    wbuf_u16(&b, xored ? (uint16_t)(a->port ^ STUN_COOKIE >> 16) : a->port);
    wbuf_bytes(&b, a->ip, len);
    if (xored)
        xor_ip(value + 4, len, w->data + 8);
    stun_put(w, type, value, b.pos);
}

void stun_put_addr(struct wbuf *w, uint16_t type, const struct addr *a)
{
    put_addr(w, type, a, false);
}

void stun_put_xaddr(struct wbuf *w, uint16_t type, const struct addr *a)
{
    put_addr(w, type, a, true);
}

void stun_put_error(struct wbuf *w, unsigned code, struct span reason)
{
    uint8_t value[4 + STUN_TEXT_MAX];
    struct wbuf b = wbuf_of(value, sizeof value);
    if (code < 300 || code > 699)
        b.failed = true;
    wbuf_u16(&b, 0);
    wbuf_u8(&b, (uint8_t)(code / 100));
    wbuf_u8(&b, (uint8_t)(code % 100));
    wbuf_bytes(&b, reason.data, reason.len);
    if (b.failed)
        w->failed = true;
    else
        stun_put(w, STUN_ATTR_ERROR_CODE, value, b.pos);
}

void stun_put_fingerprint(struct wbuf *w)
{
    stun_put_u32(w, STUN_ATTR_FINGERPRINT, 0); /* the length counts it already when it is taken */
    if (w->failed)
        return;
    size_t before = w->pos - STUN_ATTR_HEADER_SIZE - 4;
    uint32_t crc = crc32_of(w->data, before) ^ STUN_FINGERPRINT_XOR;
    wbuf_patch_u16(w, w->pos - 4, (uint16_t)(crc >> 16));
    wbuf_patch_u16(w, w->pos - 2, (uint16_t)crc);
}
