#include "core/turn_reply.h"

enum {
    UNKNOWN_LISTED_MAX = 128
};

/* Comprehension-required attributes that we can read, and what of them is served where. */
static const struct {
    enum stun_attr_id id;
    unsigned serves;
} conditional[] = {
    {STUN_ID_ACCESS_TOKEN, TURN_SERVES_TOKENS},
    {STUN_ID_CHANGE_REQUEST, TURN_SERVES_DISCOVERY | TURN_SERVES_NO_CHANGE},
    {STUN_ID_RESPONSE_PORT, TURN_SERVES_DISCOVERY},
    {STUN_ID_PADDING, TURN_SERVES_DISCOVERY},
};

enum {
    CONDITIONAL = sizeof conditional / sizeof *conditional
};

static bool served(uint16_t type, unsigned serves)
{
    enum stun_attr_id id = stun_attr_id(type);
    for (size_t i = 0; i < CONDITIONAL; i++)
        if (id == conditional[i].id)
            return (serves & conditional[i].serves) != 0;
    return id != STUN_ID_UNKNOWN;
}

size_t turn_unserved(const struct stun_msg *m, unsigned serves)
{
    size_t n = m->unknown_required;
    for (size_t i = 0; i < CONDITIONAL; i++)
        n += !(serves & conditional[i].serves) && stun_msg_has(m, conditional[i].id);
    return n;
}

struct wbuf turn_reply_begin(struct turn_server *s, const struct turn_request *r,
                             enum stun_class cls)
{
    struct wbuf w = wbuf_of(s->io->ops->reserve(s->io, TURN_REPLY_MAX), TURN_REPLY_MAX);
    stun_begin_answer(&w, cls, r->msg);
    return w;
}

/*
 * The client's count of what it sent comes back, beside ours of answers: zero, as no server without
 * state has one (RFC 7982 §3.3).
 */
static void put_transmit_counter(const struct turn_request *r, struct wbuf *w)
{
    uint32_t counter;
    if (stun_msg_u32(r->msg, STUN_ID_TRANSMIT_COUNTER, &counter) == CT_OK)
        stun_put_u32(w, STUN_ATTR_TRANSMIT_COUNTER, counter & 0xff00);
}

static enum ct_err put_integrity(struct turn_server *s, const struct turn_auth *auth,
                                 struct wbuf *w)
{
    return auth->mac ? stun_put_integrity_by(w, s->crypto, auth->mac)
                     : stun_put_integrity(w, s->crypto, auth->reply, &auth->key);
}

void turn_reply_send(struct turn_server *s, const struct turn_request *r, struct wbuf *w)
{
    const char *software = s->config->software;
    if (*software)
        stun_put(w, STUN_ATTR_SOFTWARE, software, strlen(software));
    put_transmit_counter(r, w);
    if (r->auth.protect && put_integrity(s, &r->auth, w) != CT_OK)
        return;
    if (stun_msg_has(r->msg, STUN_ID_FINGERPRINT))
        stun_put_fingerprint(w);
    struct turn_out out = {.head = span_of(w->data, w->pos)};
    if (!w->failed)
        s->io->ops->to_client(s->io, r->tuple, &out);
}

void turn_reply_defer(struct turn_deferred *d, const struct turn_request *r)
{
    *d = (struct turn_deferred){.method = r->msg->method,
                                .integrity = (uint8_t)r->auth.reply,
                                .fingerprint = stun_msg_has(r->msg, STUN_ID_FINGERPRINT),
                                .key = r->auth.key};
    d->counted = stun_msg_u32(r->msg, STUN_ID_TRANSMIT_COUNTER, &d->counter) == CT_OK;
    memcpy(d->tid, stun_msg_tid(r->msg), sizeof d->tid);
}

/* The request is written and read anew: an answer finds there what it finds in any other. */
void turn_reply_resume(struct turn_resumed *r, const struct turn_deferred *d,
                       const struct turn_tuple *to)
{
    struct wbuf w = wbuf_of(r->bytes, sizeof r->bytes);
    stun_begin(&w, stun_type(d->method, STUN_REQUEST), d->tid);
    if (d->counted)
        stun_put_u32(&w, STUN_ATTR_TRANSMIT_COUNTER, d->counter);
    if (d->fingerprint)
        stun_put_fingerprint(&w);
    (void)stun_msg_decode(&r->msg, r->bytes, w.pos, NULL); /* CT_OK: we wrote it */
    r->request = (struct turn_request){
        .tuple = to,
        .msg = &r->msg,
        .auth = {.key = d->key, .protect = true, .reply = d->integrity},
    };
}

void turn_reply_end(struct turn_resumed *r, struct turn_deferred *d)
{
    crypto_wipe(&r->request.auth, sizeof r->request.auth);
    crypto_wipe(&d->key, sizeof d->key);
}

void turn_reply_ok(struct turn_server *s, const struct turn_request *r)
{
    struct wbuf w = turn_reply_begin(s, r, STUN_SUCCESS);
    turn_reply_send(s, r, &w);
}

void turn_reply_error(struct turn_server *s, const struct turn_request *r, enum stun_error code)
{
    struct wbuf w = turn_reply_begin(s, r, STUN_ERROR);
    stun_put_error(&w, (unsigned)code, span_str(stun_error_reason((unsigned)code)));
    turn_reply_send(s, r, &w);
    turn_count(&s->counters, TURN_N_ERRORS, 1);
    if (code == STUN_FORBIDDEN)
        turn_count(&s->counters, TURN_N_FORBIDDEN, 1);
}

void turn_reply_unknown(struct turn_server *s, const struct turn_request *r, unsigned serves)
{
    uint8_t types[2 * UNKNOWN_LISTED_MAX];
    struct wbuf list = wbuf_of(types, sizeof types);
    struct stun_attr attr;
    uint32_t pos = STUN_HEADER_SIZE;
    uint16_t last = 0;
    while (list.pos < sizeof types && pos < r->msg->attrs_end && stun_msg_next(r->msg, &pos, &attr))
        if (stun_attr_required(attr.type) && !served(attr.type, serves))
            wbuf_u16(&list, last = attr.type);
    if (stun_msg_is_classic(r->msg) && list.pos % 4)
        wbuf_u16(&list, last); /* RFC 3489 §11.2.10: a value has whole words */
    struct wbuf w = turn_reply_begin(s, r, STUN_ERROR);
    stun_put_error(&w, STUN_UNKNOWN_ATTRIBUTE, span_str(stun_error_reason(STUN_UNKNOWN_ATTRIBUTE)));
    stun_put(&w, STUN_ATTR_UNKNOWN_ATTRIBUTES, types, list.pos);
    turn_reply_send(s, r, &w);
    turn_count(&s->counters, TURN_N_ERRORS, 1);
}
