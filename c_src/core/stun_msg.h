/*
 * STUN messages (RFC 8489 §5, §14): decoded to views into the caller's bytes, written through a
 * bounded cursor. Nothing is copied and nothing is allocated.
 */
#ifndef CT_CORE_STUN_MSG_H
#define CT_CORE_STUN_MSG_H

#include "core/addr.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/stun_wire.h"

/*
 * A decoded message: a view, valid as long as the bytes are.
 *
 * `present` has a bit per known attribute that counts, that is: the first one of its type that
 * stands before MESSAGE-INTEGRITY (and before MESSAGE-INTEGRITY-SHA256 when there is no
 * MESSAGE-INTEGRITY), and the integrity attributes and FINGERPRINT themselves (RFC 8489 §14.5).
 * at[] and size[] are valid only for ids whose bit is set. Lengths of values are NOT checked here:
 * a request with a LIFETIME of 3 bytes decodes, and the getters below answer CT_EVALUE.
 */
struct stun_msg {
    const uint8_t *data;
    uint32_t len;       /* whole message, header included */
    uint32_t attrs_end; /* offset where the attributes that count end: at MI or MI256, or len */
    uint16_t type;
    uint16_t method;
    enum stun_class cls;
    uint16_t unknown_required; /* how many comprehension-required attributes we do not know */
    uint64_t present;
    uint32_t at[STUN_ID_COUNT];   /* offset of the value */
    uint16_t size[STUN_ID_COUNT]; /* bytes of value */
};

/* One attribute while walking a message. */
struct stun_attr {
    struct span value;
    uint32_t at; /* offset of the value in the message */
    uint16_t type;
};

/*
 * Decodes exactly one message that fills all len bytes. A FINGERPRINT, when there, must be last and
 * right. On failure *err_at (may be NULL) is the byte offset in brackets.
 *   CT_ESHORT  fewer than 20 bytes, or fewer than the header's length says [len]
 *   CT_ETYPE   first two bits not zero [0]      CT_ECOOKIE  magic cookie wrong [4]
 *   CT_ELENGTH length not a multiple of 4 [2], or bytes behind the message [where they begin]
 *   CT_EATTR   an attribute runs past the end [its header]
 *   CT_EFPLAST something follows FINGERPRINT [what follows]
 *   CT_EFP     FINGERPRINT is wrong or not of 4 bytes [its header] (§14.7)
 */
enum ct_err stun_msg_decode(struct stun_msg *out, const uint8_t *data, size_t len, size_t *err_at);

/*
 * The same for a message of RFC 3489: CT_ECOOKIE when it has the magic cookie. Its transaction id
 * begins four bytes earlier, where the cookie would stand.
 */
enum ct_err stun_msg_decode_classic(struct stun_msg *out, const uint8_t *data, size_t len);

/* Whether the message was decoded by that. */
bool stun_msg_is_classic(const struct stun_msg *m);

/* Transaction id: STUN_TID_SIZE bytes inside the message. */
static inline const uint8_t *stun_msg_tid(const struct stun_msg *m)
{
    return m->data + 8;
}

static inline bool stun_msg_has(const struct stun_msg *m, enum stun_attr_id id)
{
    return (m->present >> id & 1) != 0;
}

/* The value's bytes; an empty span with data NULL when absent. */
static inline struct span stun_msg_bytes(const struct stun_msg *m, enum stun_attr_id id)
{
    if (!stun_msg_has(m, id))
        return (struct span){0};
    return span_of(m->data + m->at[id], m->size[id]);
}

/*
 * Getters: CT_EMISSING when the attribute is absent, CT_EVALUE when its value is malformed (wrong
 * length, unknown family), *out untouched then.
 */
enum ct_err stun_msg_u32(const struct stun_msg *m, enum stun_attr_id id, uint32_t *out);
enum ct_err stun_msg_addr(const struct stun_msg *m, enum stun_attr_id id, struct addr *out);
/* First byte of a FAMILY or PROTOCOL attribute. */
enum ct_err stun_msg_first_byte(const struct stun_msg *m, enum stun_attr_id id, uint8_t *out);
/* The channel number of CHANNEL-NUMBER; any 16-bit value, the range is the caller's to check. */
enum ct_err stun_msg_channel(const struct stun_msg *m, uint16_t *out);

/*
 * Walks all attributes in wire order, also those that do not count. *pos starts at
 * STUN_HEADER_SIZE; false at the end. The message must have been decoded without error. Stop at
 * m->attrs_end to see only those that count.
 */
bool stun_msg_next(const struct stun_msg *m, uint32_t *pos, struct stun_attr *out);

/* Reads one address value (ADDR or XADDR kind) given the message's transaction id. CT_EVALUE. */
enum ct_err stun_addr_decode(struct span value, bool xored, const uint8_t tid[STUN_TID_SIZE],
                             struct addr *out);

/* ---- writing ---- */

/* Starts a message at the cursor, which must stand at position 0. Every put patches the length. */
void stun_begin(struct wbuf *w, uint16_t type, const uint8_t tid[STUN_TID_SIZE]);

/* Starts the answer to a request, with the cookie, or what stands there, and id of that. */
void stun_begin_answer(struct wbuf *w, enum stun_class cls, const struct stun_msg *request);

/* Appends an attribute: header, value, zero padding. Fails stickily beyond a length of 65535. */
void stun_put(struct wbuf *w, uint16_t type, const void *value, size_t len);
void stun_put_u32(struct wbuf *w, uint16_t type, uint32_t v);
void stun_put_addr(struct wbuf *w, uint16_t type, const struct addr *a);
/* XORs with the cookie and the transaction id that stun_begin() wrote. */
void stun_put_xaddr(struct wbuf *w, uint16_t type, const struct addr *a);
/* ERROR-CODE; code 300..699, reason at most 127 characters. */
void stun_put_error(struct wbuf *w, unsigned code, struct span reason);
/* ADDRESS-ERROR-CODE (RFC 8656 §18.12) of this address family; code and reason as above. */
void stun_put_addr_error(struct wbuf *w, uint8_t family, unsigned code, struct span reason);
/* FINGERPRINT; nothing may follow it. */
void stun_put_fingerprint(struct wbuf *w);

#endif
