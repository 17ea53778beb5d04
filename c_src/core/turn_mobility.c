#include "core/turn_mobility.h"

#include "core/turn_alloc.h"

enum {
    PLAIN = 2 + 4 + 8 + 4,
    SEALED = CRYPTO_IV_SIZE + PLAIN + CRYPTO_TAG_SIZE,
};

/* What a ticket says. */
struct ticket {
    uint16_t worker;
    uint32_t number; /* of the allocation */
    uint64_t id;     /* of the same, never used again */
    uint32_t serial; /* 1 with the Allocate response, one more with each move */
};

/* ---- tickets ---- */

/* Keys of this boot, one per purpose. */
static enum ct_err derive(struct turn_server *s, const char *label, struct span data,
                          uint8_t out[CRYPTO_SHA256_SIZE])
{
    const struct span parts[] = {span_str(label), data};
    struct span key = span_of(s->config->nonce_key, sizeof s->config->nonce_key);
    return crypto_hmac(s->crypto, CRYPTO_SHA256, key, parts, 2, out);
}

/*
 * The IV is a MAC of what is encrypted: no two tickets share one, and the same ticket is written
 * the same way again, for a retransmission (§3.2.2).
 */
static enum ct_err seal(struct turn_server *s, const struct ticket *t, uint8_t out[SEALED])
{
    uint8_t plain[PLAIN], key[CRYPTO_SHA256_SIZE], mac[CRYPTO_SHA256_SIZE] = {0};
    struct wbuf w = wbuf_of(plain, sizeof plain);
    wbuf_u16(&w, t->worker);
    wbuf_u32(&w, t->number);
    wbuf_u64(&w, t->id);
    wbuf_u32(&w, t->serial);
    enum ct_err err = derive(s, "ticket key", span_of(NULL, 0), key);
    if (err == CT_OK)
        err = derive(s, "ticket iv", span_of(plain, sizeof plain), mac);
    memcpy(out, mac, CRYPTO_IV_SIZE);
    const struct crypto_gcm gcm = {.key = span_of(key, sizeof key), .iv = out};
    if (err == CT_OK)
        err = crypto_seal(s->crypto, &gcm, span_of(plain, sizeof plain), out + CRYPTO_IV_SIZE);
    crypto_wipe(key, sizeof key);
    return err;
}

static enum ct_err unseal(struct turn_server *s, struct span sealed, struct ticket *out)
{
    uint8_t plain[PLAIN] = {0}, key[CRYPTO_SHA256_SIZE];
    struct rbuf in = rbuf_of(sealed.data, sealed.len);
    const uint8_t *iv = rbuf_take(&in, CRYPTO_IV_SIZE);
    const uint8_t *rest = rbuf_take(&in, PLAIN + CRYPTO_TAG_SIZE);
    if (!rest || rbuf_left(&in))
        return CT_EVALUE;
    const struct crypto_gcm gcm = {.key = span_of(key, sizeof key), .iv = iv};
    enum ct_err err = derive(s, "ticket key", span_of(NULL, 0), key);
    if (err == CT_OK)
        err = crypto_open(s->crypto, &gcm, span_of(rest, PLAIN + CRYPTO_TAG_SIZE), plain);
    crypto_wipe(key, sizeof key);
    struct rbuf r = rbuf_of(plain, sizeof plain);
    out->worker = rbuf_u16(&r);
    out->number = rbuf_u32(&r);
    out->id = rbuf_u64(&r);
    out->serial = rbuf_u32(&r);
    return err;
}

void turn_mobility_put(struct turn_server *s, const struct turn_alloc *a, struct wbuf *w)
{
    uint8_t bytes[SEALED];
    struct ticket t = {
        .worker = s->worker, .number = turn_alloc_number(s, a), .id = a->id, .serial = a->ticket};
    if (seal(s, &t, bytes) == CT_OK)
        stun_put(w, STUN_ATTR_MOBILITY_TICKET, bytes, sizeof bytes);
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

static bool same_tuple(const struct turn_tuple *a, const struct turn_tuple *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

bool turn_mobility_on(const struct turn_server *s, const struct turn_alloc *a,
                      const struct turn_tuple *tuple)
{
    return same_tuple(&a->tuple, tuple) ||
           (a->move != SLAB_NONE && same_tuple(&move_at(s, a->move)->tuple, tuple));
}

/* The live allocation that a ticket names; NULL when it has gone. */
static struct turn_alloc *named(const struct turn_server *s, const struct ticket *t,
                                struct turn_now now)
{
    struct turn_alloc *a = t->number < s->allocs.fresh ? turn_alloc_at(s, t->number) : NULL;
    return a && a->id && a->id == t->id && turn_alloc_live(a, now) ? a : NULL;
}

/* The request that made the last move, sent again: with the ticket before the newest. */
static bool is_again(const struct turn_server *s, const struct turn_request *r,
                     const struct turn_alloc *a, const struct ticket *t)
{
    const struct turn_move *m = a->move == SLAB_NONE ? NULL : move_at(s, a->move);
    const struct turn_tuple *to = m ? &m->tuple : &a->tuple;
    const uint8_t *tid = m ? m->tid : a->tid;
    return t->serial + 1 == a->ticket && same_tuple(to, r->tuple) &&
           memcmp(tid, stun_msg_tid(r->msg), STUN_TID_SIZE) == 0;
}

/* Whether the client's address and port are among those of the allocation already. */
static bool stays(const struct turn_server *s, const struct turn_request *r,
                  const struct turn_alloc *a)
{
    return addr_eq(&r->tuple->client, &a->tuple.client) ||
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
    if (t->serial != r->alloc->ticket || stays(s, r, r->alloc))
        return STUN_BAD_REQUEST;
    r->ticket = TURN_TICKET_MOVES;
    return here ? STUN_ALLOCATION_MISMATCH : (enum stun_error)0;
}

/* To the worker that has the allocation, and what comes from this 5-tuple later too. */
static bool hand_over(struct turn_server *s, const struct turn_request *r, uint16_t worker)
{
    if (r->tuple->transport != TURN_UDP || s->handed)
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
    return 0;
}

/* Only the new 5-tuple is left. */
static void complete(struct turn_server *s, struct turn_alloc *a)
{
    const struct turn_move *m = move_at(s, a->move);
    turn_alloc_unmap(s, a, &a->tuple);
    a->tuple = m->tuple;
    memcpy(a->tid, m->tid, sizeof a->tid); /* that of Allocate has had its time */
    slab_give(&s->moves, a->move);         /* its 5-tuple stays in the map */
    a->move = SLAB_NONE;
    turn_count(&s->counters, TURN_N_MOVED, 1);
}

void turn_mobility_arrived(struct turn_server *s, struct turn_alloc *a,
                           const struct turn_tuple *tuple)
{
    if (same_tuple(&move_at(s, a->move)->tuple, tuple))
        complete(s, a);
}

bool turn_mobility_gone(struct turn_server *s, struct turn_alloc *a, const struct turn_tuple *tuple)
{
    if (a->move == SLAB_NONE)
        return false;
    if (same_tuple(&a->tuple, tuple))
        complete(s, a);
    else
        turn_mobility_drop(s, a);
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
