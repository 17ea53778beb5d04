#include "core/stun_msg.h"

#include "core/crc32.h"

#define BIT(id) (UINT64_C(1) << STUN_ID_##id)

/* ---- reading ---- */

static enum ct_err fail(size_t *err_at, size_t at, enum ct_err err)
{
    if (err_at)
        *err_at = at;
    return err;
}

/* The checks of RFC 8489 §6.3 on the header; leaves the cursor behind it. */
static enum ct_err decode_header(struct stun_msg *out, struct rbuf *r, bool classic, size_t *err_at)
{
    if (r->len < STUN_HEADER_SIZE)
        return fail(err_at, r->len, CT_ESHORT);
    uint16_t type = rbuf_u16(r);
    uint16_t length = rbuf_u16(r);
    uint32_t cookie = rbuf_u32(r);
    rbuf_take(r, STUN_TID_SIZE);
    if (type > 0x3FFF)
        return fail(err_at, 0, CT_ETYPE);
    if ((cookie != STUN_COOKIE) != classic)
        return fail(err_at, 4, CT_ECOOKIE);
    if (length % 4 != 0)
        return fail(err_at, 2, CT_ELENGTH);
    if (length > rbuf_left(r))
        return fail(err_at, r->len, CT_ESHORT);
    if (length < rbuf_left(r))
        return fail(err_at, (size_t)STUN_HEADER_SIZE + length, CT_ELENGTH);
    out->data = r->data;
    out->len = (uint32_t)r->len;
    out->type = type;
    out->method = stun_type_method(type);
    out->cls = stun_type_class(type);
    return CT_OK;
}

/* FINGERPRINT stands at `at` (its header) and ends at the cursor. */
static enum ct_err check_fingerprint(struct rbuf *r, size_t at, size_t size, size_t *err_at)
{
    if (rbuf_left(r) > 0)
        return fail(err_at, r->pos, CT_EFPLAST);
    struct rbuf value = rbuf_of(r->data, r->len);
    rbuf_take(&value, at + STUN_ATTR_HEADER_SIZE);
    if (size != 4 || rbuf_u32(&value) != (crc32_of(r->data, at) ^ STUN_FINGERPRINT_XOR))
        return fail(err_at, at, CT_EFP);
    return CT_OK;
}

/*
 * What may still count once an attribute has been seen: not the same one again (§14), after
 * MESSAGE-INTEGRITY only -SHA256 and FINGERPRINT (§14.5), after -SHA256 only FINGERPRINT (§14.6).
 */
static uint64_t still_open(uint64_t open, enum stun_attr_id id)
{
    open &= ~(UINT64_C(1) << id);
    if (id == STUN_ID_MESSAGE_INTEGRITY)
        return open & (BIT(MESSAGE_INTEGRITY_SHA256) | BIT(FINGERPRINT));
    if (id == STUN_ID_MESSAGE_INTEGRITY_SHA256)
        return open & BIT(FINGERPRINT);
    return open;
}

static bool is_integrity(enum stun_attr_id id)
{
    return id == STUN_ID_MESSAGE_INTEGRITY || id == STUN_ID_MESSAGE_INTEGRITY_SHA256;
}

static enum ct_err decode_attrs(struct stun_msg *out, struct rbuf *r, size_t *err_at)
{
    uint64_t open = ~UINT64_C(0);
    uint64_t present = 0;
    uint32_t end = out->len;
    uint16_t unknown = 0; /* at most 65532 / 4 attributes */
    while (rbuf_left(r) > 0) {
        size_t at = r->pos;
        uint16_t type = rbuf_u16(r);
        uint16_t size = rbuf_u16(r);
        if (!rbuf_take(r, stun_padded(size)))
            return fail(err_at, at, CT_EATTR);
        enum stun_attr_id id = stun_attr_id(type);
        if (id == STUN_ID_UNKNOWN) {
            unknown = (uint16_t)(unknown + (stun_attr_required(type) && end == out->len));
            continue;
        }
        if ((open >> id & 1) != 0) {
            present |= UINT64_C(1) << id;
            open = still_open(open, id);
            out->at[id] = (uint32_t)at + STUN_ATTR_HEADER_SIZE;
            out->size[id] = size;
            if (is_integrity(id) && end == out->len)
                end = (uint32_t)at;
        }
        enum ct_err err =
            id == STUN_ID_FINGERPRINT ? check_fingerprint(r, at, size, err_at) : CT_OK;
        if (err)
            return err;
    }
    out->present = present;
    out->attrs_end = end;
    out->unknown_required = unknown;
    return CT_OK;
}

enum ct_err stun_msg_decode(struct stun_msg *out, const uint8_t *data, size_t len, size_t *err_at)
{
    struct rbuf r = rbuf_of(data, len);
    enum ct_err err = decode_header(out, &r, false, err_at);
    return err ? err : decode_attrs(out, &r, err_at);
}

enum ct_err stun_msg_decode_classic(struct stun_msg *out, const uint8_t *data, size_t len)
{
    struct rbuf r = rbuf_of(data, len);
    enum ct_err err = decode_header(out, &r, true, NULL);
    return err ? err : decode_attrs(out, &r, NULL);
}

bool stun_msg_is_classic(const struct stun_msg *m)
{
    struct rbuf r = rbuf_of(m->data, m->len);
    rbuf_u32(&r);
    return rbuf_u32(&r) != STUN_COOKIE;
}

enum ct_err stun_msg_u32(const struct stun_msg *m, enum stun_attr_id id, uint32_t *out)
{
    struct span value = stun_msg_bytes(m, id);
    if (!value.data)
        return CT_EMISSING;
    if (value.len != 4)
        return CT_EVALUE;
    struct rbuf r = rbuf_of(value.data, value.len);
    *out = rbuf_u32(&r);
    return CT_OK;
}

enum ct_err stun_msg_addr(const struct stun_msg *m, enum stun_attr_id id, struct addr *out)
{
    struct span value = stun_msg_bytes(m, id);
    if (!value.data)
        return CT_EMISSING;
    bool xored = stun_attr_def(id)->kind == STUN_KIND_XADDR;
    return stun_addr_decode(value, xored, stun_msg_tid(m), out);
}

enum ct_err stun_msg_first_byte(const struct stun_msg *m, enum stun_attr_id id, uint8_t *out)
{
    uint32_t word;
    enum ct_err err = stun_msg_u32(m, id, &word);
    if (err)
        return err;
    *out = (uint8_t)(word >> 24);
    return CT_OK;
}

enum ct_err stun_msg_channel(const struct stun_msg *m, uint16_t *out)
{
    uint32_t word;
    enum ct_err err = stun_msg_u32(m, STUN_ID_CHANNEL_NUMBER, &word);
    if (err)
        return err;
    *out = (uint16_t)(word >> 16);
    return CT_OK;
}

bool stun_msg_next(const struct stun_msg *m, uint32_t *pos, struct stun_attr *out)
{
    struct rbuf r = rbuf_of(m->data, m->len);
    rbuf_take(&r, *pos);
    uint16_t type = rbuf_u16(&r);
    uint16_t size = rbuf_u16(&r);
    uint32_t at = (uint32_t)r.pos;
    const uint8_t *value = rbuf_take(&r, stun_padded(size));
    if (!value)
        return false;
    *out = (struct stun_attr){.value = span_of(value, size), .at = at, .type = type};
    *pos = (uint32_t)r.pos;
    return true;
}

/* The cookie and the transaction id: what addresses are XORed with (§14.2). */
static void xor_mask(const uint8_t tid[STUN_TID_SIZE], uint8_t mask[16])
{
    struct wbuf w = wbuf_of(mask, 16);
    wbuf_u32(&w, STUN_COOKIE);
    wbuf_bytes(&w, tid, STUN_TID_SIZE);
}

enum ct_err stun_addr_decode(struct span value, bool xored, const uint8_t tid[STUN_TID_SIZE],
                             struct addr *out)
{
    struct rbuf r = rbuf_of(value.data, value.len);
    rbuf_u8(&r); /* sent as zero, ignored here (§14.1) */
    uint8_t family = rbuf_u8(&r);
    uint16_t port = rbuf_u16(&r);
    size_t n = addr_ip_len(family);
    const uint8_t *ip = rbuf_take(&r, n);
    if (!ip || n == 0 || rbuf_left(&r) > 0)
        return CT_EVALUE;
    struct addr a = {.family = family, .port = port};
    memcpy(a.ip, ip, n);
    if (xored) {
        uint8_t mask[16];
        xor_mask(tid, mask);
        a.port ^= STUN_COOKIE >> 16;
        for (size_t i = 0; i < n; i++)
            a.ip[i] ^= mask[i];
    }
    *out = a;
    return CT_OK;
}

/* ---- writing ---- */

void stun_begin(struct wbuf *w, uint16_t type, const uint8_t tid[STUN_TID_SIZE])
{
    if (w->pos != 0)
        w->failed = true;
    wbuf_u16(w, type);
    wbuf_u16(w, 0);
    wbuf_u32(w, STUN_COOKIE);
    wbuf_bytes(w, tid, STUN_TID_SIZE);
}

void stun_begin_answer(struct wbuf *w, enum stun_class cls, const struct stun_msg *request)
{
    if (w->pos != 0)
        w->failed = true;
    wbuf_u16(w, stun_type(request->method, cls));
    wbuf_u16(w, 0);
    wbuf_bytes(w, request->data + 4, STUN_HEADER_SIZE - 4);
}

/*
 * Writes an attribute's header, zeroes its padding and sets the message's length. Gives a cursor
 * over the value; a failed one when there is no room.
 */
static struct wbuf put_header(struct wbuf *w, uint16_t type, size_t len)
{
    struct wbuf none = {.failed = true};
    size_t padded = stun_padded(len);
    size_t before = w->pos - STUN_HEADER_SIZE;
    if (w->pos < STUN_HEADER_SIZE || len > UINT16_MAX ||
        before + STUN_ATTR_HEADER_SIZE + padded > UINT16_MAX) {
        w->failed = true;
        return none;
    }
    wbuf_u16(w, type);
    wbuf_u16(w, (uint16_t)len);
    uint8_t *value = wbuf_room(w, len);
    wbuf_zeros(w, padded - len);
    wbuf_patch_u16(w, 2, (uint16_t)(w->pos - STUN_HEADER_SIZE));
    return w->failed ? none : wbuf_of(value, len);
}

void stun_put(struct wbuf *w, uint16_t type, const void *value, size_t len)
{
    struct wbuf v = put_header(w, type, len);
    wbuf_bytes(&v, value, len);
}

void stun_put_u32(struct wbuf *w, uint16_t type, uint32_t value)
{
    struct wbuf v = put_header(w, type, 4);
    wbuf_u32(&v, value);
}

static void put_addr(struct wbuf *w, uint16_t type, const struct addr *a, const uint8_t mask[16])
{
    size_t n = addr_ip_len(a->family);
    if (n == 0) {
        w->failed = true;
        return;
    }
    struct wbuf v = put_header(w, type, 4 + n);
    wbuf_u8(&v, 0);
    wbuf_u8(&v, a->family);
    wbuf_u16(&v, (uint16_t)(a->port ^ (mask[0] << 8 | mask[1])));
    for (size_t i = 0; i < n; i++)
        wbuf_u8(&v, a->ip[i] ^ mask[i]);
}

void stun_put_addr(struct wbuf *w, uint16_t type, const struct addr *a)
{
    static const uint8_t zeros[16] = {0};
    put_addr(w, type, a, zeros);
}

void stun_put_xaddr(struct wbuf *w, uint16_t type, const struct addr *a)
{
    struct rbuf header = rbuf_of(w->data, w->pos);
    rbuf_take(&header, 4);
    const uint8_t *mask = rbuf_take(&header, 16); /* the cookie and the transaction id */
    if (mask)
        put_addr(w, type, a, mask);
    else
        w->failed = true;
}

/* Characters of UTF-8 text: all bytes that do not continue one. */
static size_t count_chars(struct span text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += (text.data[i] & 0xC0) != 0x80;
    return n;
}

/* Both kinds of error code: the first byte is the address family, or 0. */
static void put_code(struct wbuf *w, uint16_t type, uint8_t family, unsigned code,
                     struct span reason)
{
    if (code < 300 || code > 699 || reason.len > STUN_TEXT_MAX || count_chars(reason) > 127) {
        w->failed = true;
        return;
    }
    struct wbuf v = put_header(w, type, 4 + reason.len);
    wbuf_u8(&v, family);
    wbuf_u8(&v, 0);
    wbuf_u8(&v, (uint8_t)(code / 100));
    wbuf_u8(&v, (uint8_t)(code % 100));
    wbuf_bytes(&v, reason.data, reason.len);
}

void stun_put_error(struct wbuf *w, unsigned code, struct span reason)
{
    put_code(w, STUN_ATTR_ERROR_CODE, 0, code, reason);
}

void stun_put_addr_error(struct wbuf *w, uint8_t family, unsigned code, struct span reason)
{
    put_code(w, STUN_ATTR_ADDRESS_ERROR_CODE, family, code, reason);
}

void stun_put_fingerprint(struct wbuf *w)
{
    struct wbuf v = put_header(w, STUN_ATTR_FINGERPRINT, 4);
    if (v.failed)
        return;
    size_t covered = w->pos - STUN_ATTR_HEADER_SIZE - 4;
    wbuf_u32(&v, crc32_of(w->data, covered) ^ STUN_FINGERPRINT_XOR);
}
