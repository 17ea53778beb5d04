#include "core/turn_mobility.h"

#include "core/base64.h"
#include "core/turn_alloc.h"

/*
 * A ticket is text, as turnutils_uclient keeps and sends back no other, and none that is longer:
 *
 *     base64url( tag (16 bytes) | content XOR key stream (8 bytes) )
 *     tag        = HMAC-SHA-256(K1, content), its first 16 bytes
 *     key stream = HMAC-SHA-256(K2, tag), its first 8 bytes
 *     content    = worker (8 bits) | number (24) | id (16) | serial (16)
 */
enum {
    CONTENT = 1 + 3 + 2 + 2,
    TAG = 16,
    SEALED = TAG + CONTENT,
    TEXT = SEALED / 3 * 4,
};

_Static_assert(TEXT == 32, "the longest ticket that turnutils_uclient takes");

/* What a ticket says. Of id and serial it has the lower bits: they tell neighbours apart. */
struct ticket {
    uint8_t worker;
    uint32_t number; /* of the allocation, below 1 << 24 (turn_config_check) */
    uint16_t id;     /* of the same, which goes up with each that is made */
    uint16_t serial; /* 1 with the Allocate response, one more with each move */
};

/* ---- tickets ---- */

static enum ct_err mac(struct turn_server *s, struct span key, struct span data,
                       uint8_t out[CRYPTO_SHA256_SIZE])
{
    return crypto_hmac(s->crypto, CRYPTO_SHA256, key, &data, 1, out);
}

/* HMAC under the key of this name; there is one of each for a start of the relay. */
static enum ct_err named_mac(struct turn_server *s, const char *name, struct span data,
                             uint8_t out[CRYPTO_SHA256_SIZE])
{
    uint8_t key[CRYPTO_SHA256_SIZE];
    enum ct_err err =
        mac(s, span_of(s->config->nonce_key, sizeof s->config->nonce_key), span_str(name), key);
    if (err == CT_OK)
        err = mac(s, span_of(key, sizeof key), data, out);
    crypto_wipe(key, sizeof key);
    return err;
}

static enum ct_err make_tag(struct turn_server *s, const uint8_t content[CONTENT],
                            uint8_t out[CRYPTO_SHA256_SIZE])
{
    return named_mac(s, "mobility ticket tag", span_of(content, CONTENT), out);
}

/* Encrypts, or decrypts, under the key stream that belongs to the tag. */
static enum ct_err cover(struct turn_server *s, const uint8_t tag[TAG], const uint8_t in[CONTENT],
                         uint8_t out[CONTENT])
{
    uint8_t stream[CRYPTO_SHA256_SIZE] = {0};
    enum ct_err err = named_mac(s, "mobility ticket stream", span_of(tag, TAG), stream);
    for (size_t i = 0; i < CONTENT; i++)
        out[i] = in[i] ^ stream[i];
    crypto_wipe(stream, sizeof stream);
    return err;
}

static enum ct_err seal(struct turn_server *s, const struct ticket *t, uint8_t out[TEXT])
{
    uint8_t content[CONTENT], tag[CRYPTO_SHA256_SIZE] = {0}, sealed[SEALED];
    struct wbuf w = wbuf_of(content, sizeof content);
    wbuf_u32(&w, (uint32_t)t->worker << 24 | t->number);
    wbuf_u16(&w, t->id);
    wbuf_u16(&w, t->serial);
    enum ct_err err = make_tag(s, content, tag);
    memcpy(sealed, tag, TAG);
    if (err == CT_OK)
        err = cover(s, sealed, content, sealed + TAG);
    base64url_encode(sealed, sizeof sealed, out);
    return err;
}

static enum ct_err unseal(struct turn_server *s, struct span text, struct ticket *out)
{
    uint8_t sealed[SEALED], content[CONTENT], tag[CRYPTO_SHA256_SIZE];
    if (text.len != TEXT || !base64url_decode(text.data, text.len, sealed))
        return CT_EVALUE;
    enum ct_err err = cover(s, sealed, sealed + TAG, content);
    if (err == CT_OK)
        err = make_tag(s, content, tag);
    if (err != CT_OK)
        return err;
    if (!crypto_equal(tag, sealed, TAG))
        return CT_EINTEGRITY;
    struct rbuf r = rbuf_of(content, sizeof content);
    uint32_t place = rbuf_u32(&r);
    out->worker = (uint8_t)(place >> 24);
    out->number = place & 0xFFFFFF;
    out->id = rbuf_u16(&r);
    out->serial = rbuf_u16(&r);
    return CT_OK;
}

void turn_mobility_put(struct turn_server *s, const struct turn_alloc *a, struct wbuf *w)
{
    uint8_t text[TEXT];
    struct ticket t = {.worker = (uint8_t)s->worker,
                       .number = turn_alloc_number(s, a),
                       .id = (uint16_t)a->id,
                       .serial = (uint16_t)a->ticket};
    if (seal(s, &t, text) == CT_OK)
        stun_put(w, STUN_ATTR_MOBILITY_TICKET, text, sizeof text);
    else
        w->failed = true;
}

enum stun_error turn_mobility_wanted(const struct turn_server *s, const struct stun_msg *m,
                                     bool *wanted)
{
    *wanted = stun_msg_has(m, STUN_ID_MOBILITY_TICKET);
    if (!*wanted)
        return 0;
    if (stun_msg_bytes(m, STUN_ID_MOBILITY_TICKET).len > 0)
        return STUN_BAD_REQUEST;
    return s->config->mobility ? (enum stun_error)0 : STUN_MOBILITY_FORBIDDEN;
}

/* ---- moves ---- */

static struct turn_move *move_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->moves, number);
}

/* The live allocation that a ticket names; NULL when it has gone. */
static struct turn_alloc *named(const struct turn_server *s, const struct ticket *t,
                                struct turn_now now)
{
    struct turn_alloc *a = t->number < s->allocs.fresh ? turn_alloc_at(s, t->number) : NULL;
    bool same = a && a->id && a->ticket && (uint16_t)a->id == t->id;
    return same && turn_alloc_live(a, now) ? a : NULL;
}

/* The request that made the last move, sent again: with the ticket before the newest. */
static bool is_again(const struct turn_server *s, const struct turn_request *r,
                     const struct turn_alloc *a, const struct ticket *t)
{
    const struct turn_move *m = a->move == SLAB_NONE ? NULL : move_at(s, a->move);
    const struct turn_tuple *to = m ? &m->tuple : &a->tuple;
    const uint8_t *tid = m ? m->tid : a->tid;
    bool on = (m || !a->adrift) && turn_tuple_eq(to, r->tuple);
    return on && t->serial == (uint16_t)(a->ticket - 1) &&
           memcmp(tid, stun_msg_tid(r->msg), STUN_TID_SIZE) == 0;
}

/* Whether the client's address and port are among those of the allocation already. */
static bool stays(const struct turn_server *s, const struct turn_request *r,
                  const struct turn_alloc *a)
{
    return (!a->adrift && addr_eq(&r->tuple->client, &a->tuple.client)) ||
           (a->move != SLAB_NONE && addr_eq(&r->tuple->client, &move_at(s, a->move)->tuple.client));
}

/* The checks of RFC 8016 §3.2.2 in its order, up to those for the user. */
static enum stun_error check(struct turn_server *s, struct turn_request *r, const struct ticket *t)
{
    const struct turn_alloc *here = r->alloc;
    r->alloc = named(s, t, r->now);
    if (!r->alloc)
        return STUN_ALLOCATION_MISMATCH;
    if (is_again(s, r, r->alloc, t)) {
        r->ticket = TURN_TICKET_AGAIN;
        return 0;
    }
    if (t->serial != (uint16_t)r->alloc->ticket || stays(s, r, r->alloc))
        return STUN_BAD_REQUEST;
    r->ticket = TURN_TICKET_MOVES;
    return here ? STUN_ALLOCATION_MISMATCH : (enum stun_error)0;
}

/* To the worker that has the allocation, and what comes from this 5-tuple later too. */
static bool hand_over(struct turn_server *s, const struct turn_request *r, uint16_t worker)
{
    if (s->handed)
        return false;
    turn_away_put(&s->away, r->tuple, worker, r->now.ms);
    s->io->ops->hand_over(s->io, worker, r->tuple, span_of(r->msg->data, r->msg->len));
    return true;
}

bool turn_mobility_find(struct turn_server *s, struct turn_request *r)
{
    struct ticket t;
    if (r->msg->method != STUN_REFRESH || !stun_msg_has(r->msg, STUN_ID_MOBILITY_TICKET))
        return false;
    if (!s->config->mobility) {
        r->ticket_error = STUN_MOBILITY_FORBIDDEN;
        return false;
    }
    if (unseal(s, stun_msg_bytes(r->msg, STUN_ID_MOBILITY_TICKET), &t) != CT_OK) {
        r->ticket_error = STUN_BAD_REQUEST;
        return false;
    }
    if (t.worker != s->worker && !r->alloc && hand_over(s, r, t.worker))
        return true;
    r->ticket_error = t.worker == s->worker ? check(s, r, &t) : STUN_ALLOCATION_MISMATCH;
    return false;
}

void turn_mobility_drop(struct turn_server *s, struct turn_alloc *a)
{
    if (a->move == SLAB_NONE)
        return;
    turn_alloc_unmap(s, a, &move_at(s, a->move)->tuple);
    slab_give(&s->moves, a->move);
    a->move = SLAB_NONE;
}

/* Only the new 5-tuple is left. */
static void complete(struct turn_server *s, struct turn_alloc *a, struct turn_now now)
{
    const struct turn_move *m = move_at(s, a->move);
    if (!a->adrift)
        turn_alloc_unmap(s, a, &a->tuple);
    turn_alloc_remember(s, a, now);
    a->adrift = false;
    a->tuple = m->tuple;
    memcpy(a->tid, m->tid, sizeof a->tid); /* that of Allocate has had its time */
    slab_give(&s->moves, a->move);         /* its 5-tuple stays in the map */
    a->move = SLAB_NONE;
    turn_count(&s->counters, TURN_N_MOVED, 1);
}

enum stun_error turn_mobility_move(struct turn_server *s, struct turn_request *r)
{
    struct turn_alloc *a = r->alloc;
    if (turn_policy_never(&s->config->policy, &r->tuple->client))
        return STUN_FORBIDDEN;
    turn_mobility_drop(s, a);
    uint32_t n = slab_take(&s->moves);
    if (n == SLAB_NONE)
        return STUN_INSUFFICIENT_CAPACITY;
    struct turn_move *m = move_at(s, n);
    m->tuple = *r->tuple;
    memcpy(m->tid, stun_msg_tid(r->msg), sizeof m->tid);
    a->move = n;
    a->ticket++;
    turn_alloc_map(s, a, &m->tuple);
    if (a->adrift)
        complete(s, a, r->now);
    return 0;
}

void turn_mobility_arrived(struct turn_server *s, struct turn_alloc *a,
                           const struct turn_tuple *tuple, struct turn_now now)
{
    if (turn_tuple_eq(&move_at(s, a->move)->tuple, tuple))
        complete(s, a, now);
}

bool turn_mobility_gone(struct turn_server *s, struct turn_alloc *a, const struct turn_tuple *tuple,
                        struct turn_now now)
{
    if (a->move != SLAB_NONE && turn_tuple_eq(&a->tuple, tuple)) {
        complete(s, a, now);
    } else if (a->move != SLAB_NONE) {
        turn_mobility_drop(s, a);
    } else {
        if (!a->ticket || !s->config->mobility)
            return false;
        turn_alloc_unmap(s, a, tuple);
        a->adrift = true;
    }
    return true;
}

/* ---- other workers ---- */

bool turn_mobility_forward(struct turn_server *s, const struct turn_tuple *tuple,
                           struct span packet, struct turn_now now)
{
    uint16_t worker;
    if (s->handed || !turn_away_find(&s->away, tuple, now.ms, &worker))
        return false;
    s->io->ops->hand_over(s->io, worker, tuple, packet);
    return true;
}

void turn_mobility_forward_gone(struct turn_server *s, const struct turn_tuple *tuple,
                                struct turn_now now)
{
    uint16_t worker;
    if (turn_away_take(&s->away, tuple, now.ms, &worker))
        s->io->ops->hand_over_gone(s->io, worker, tuple);
}
