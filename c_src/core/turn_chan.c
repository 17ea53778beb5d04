#include "core/turn_chan.h"

#include "core/turn_alloc.h"
#include "core/turn_perm.h"
#include "core/turn_reply.h"

static size_t number_bucket(uint16_t number)
{
    return number % TURN_BUCKETS;
}

static size_t peer_bucket(const struct turn_server *s, const struct addr *peer)
{
    return hash_bytes(&s->seed, peer, sizeof *peer) % TURN_BUCKETS;
}

/* ---- finding: `any` also finds what has expired and is in quarantine ---- */

static uint32_t any_by_number(const struct turn_server *s, const struct turn_alloc *a,
                              uint16_t number)
{
    uint32_t n = a->chans_by_number[number_bucket(number)];
    while (n != SLAB_NONE && turn_chan_at(s, n)->number != number)
        n = turn_chan_at(s, n)->next_number;
    return n;
}

static uint32_t any_by_peer(const struct turn_server *s, const struct turn_alloc *a,
                            const struct addr *peer)
{
    uint32_t n = a->chans_by_peer[peer_bucket(s, peer)];
    while (n != SLAB_NONE && !addr_eq(&turn_chan_at(s, n)->peer, peer))
        n = turn_chan_at(s, n)->next_peer;
    return n;
}

struct turn_chan *turn_chan_other_number(const struct turn_server *s, const struct turn_alloc *a,
                                         uint16_t number)
{
    uint32_t n = any_by_number(s, a, number);
    return n == SLAB_NONE ? NULL : turn_chan_at(s, n);
}

struct turn_chan *turn_chan_other_peer(const struct turn_server *s, const struct turn_alloc *a,
                                       const struct addr *peer)
{
    uint32_t n = any_by_peer(s, a, peer);
    return n == SLAB_NONE ? NULL : turn_chan_at(s, n);
}

/* ---- dropping ---- */

static void drop(struct turn_server *s, struct turn_alloc *a, uint32_t number)
{
    struct turn_chan *c = turn_chan_at(s, number);
    uint32_t *link = &a->chans_by_number[number_bucket(c->number)];
    while (*link != number)
        link = &turn_chan_at(s, *link)->next_number;
    *link = c->next_number;
    link = &a->chans_by_peer[peer_bucket(s, &c->peer)];
    while (*link != number)
        link = &turn_chan_at(s, *link)->next_peer;
    *link = c->next_peer;
    if (number & TURN_CHAN_OWN)
        *c = (struct turn_chan){0};
    else
        slab_give(&s->chans, number);
    a->chan_count--;
}

void turn_chan_drop_all(struct turn_server *s, struct turn_alloc *a)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++)
        while (a->chans_by_number[i] != SLAB_NONE)
            drop(s, a, a->chans_by_number[i]);
}

void turn_chan_drop_of(struct turn_server *s, struct turn_alloc *a, uint32_t perm)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++) {
        for (uint32_t n = a->chans_by_number[i], next; n != SLAB_NONE; n = next) {
            next = turn_chan_at(s, n)->next_number;
            if (turn_chan_at(s, n)->perm == perm)
                drop(s, a, n);
        }
    }
}

/* From this time on number and peer are free for others (RFC 8656 §12). */
static uint64_t free_at(const struct turn_server *s, const struct turn_chan *c)
{
    return c->expires_ms + (uint64_t)s->config->channel_quarantine * 1000;
}

void turn_chan_sweep(struct turn_server *s, struct turn_alloc *a, struct turn_now now)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++) {
        for (uint32_t n = a->chans_by_number[i], next; n != SLAB_NONE; n = next) {
            next = turn_chan_at(s, n)->next_number;
            if (free_at(s, turn_chan_at(s, n)) <= now.ms)
                drop(s, a, n);
        }
    }
}

bool turn_chan_uses(const struct turn_server *s, const struct turn_alloc *a, uint32_t perm)
{
    for (size_t i = 0; a->chan_count && i < TURN_BUCKETS; i++)
        for (uint32_t n = a->chans_by_number[i]; n != SLAB_NONE;
             n = turn_chan_at(s, n)->next_number)
            if (turn_chan_at(s, n)->perm == perm)
                return true;
    return false;
}

/* ---- ChannelBind ---- */

/*
 * Number and peer must be bound to each other or both be free; a binding that has expired still
 * counts while in quarantine, so that a late ChannelData cannot reach the wrong peer.
 */
static bool conflicts(struct turn_server *s, struct turn_alloc *a, uint16_t number,
                      const struct addr *peer, struct turn_now now)
{
    uint32_t by_number = any_by_number(s, a, number), by_peer = any_by_peer(s, a, peer);
    if (by_number == by_peer)
        return false;
    if (by_number != SLAB_NONE && free_at(s, turn_chan_at(s, by_number)) <= now.ms) {
        drop(s, a, by_number);
        by_number = SLAB_NONE;
    }
    if (by_peer != SLAB_NONE && free_at(s, turn_chan_at(s, by_peer)) <= now.ms) {
        drop(s, a, by_peer);
        by_peer = SLAB_NONE;
    }
    return by_number != by_peer;
}

static bool has_place(const struct turn_server *s, const struct turn_alloc *a)
{
    return !a->chan.number || slab_left(&s->chans);
}

static bool room(struct turn_server *s, struct turn_alloc *a, struct turn_now now)
{
    if (a->chan_count >= s->config->max_channels || !has_place(s, a))
        turn_chan_sweep(s, a, now);
    return a->chan_count < s->config->max_channels && has_place(s, a);
}

/* The checks of RFC 8656 §12.2 in its order; 0 when the binding can be made. */
static enum stun_error check(struct turn_server *s, struct turn_request *r, uint16_t *number,
                             struct addr *peer)
{
    if (stun_msg_channel(r->msg, number) != CT_OK ||
        stun_msg_addr(r->msg, STUN_ID_XOR_PEER_ADDRESS, peer) != CT_OK ||
        *number < STUN_CHANNEL_MIN || *number > STUN_CHANNEL_OLD_MAX)
        return STUN_BAD_REQUEST;
    enum stun_error code = turn_peer_port_check(s, r, peer);
    if (code)
        return code;
    if (conflicts(s, r->alloc, *number, peer, r->now))
        return STUN_BAD_REQUEST;
    bool known = any_by_number(s, r->alloc, *number) != SLAB_NONE;
    return known || room(s, r->alloc, r->now) ? (enum stun_error)0 : STUN_INSUFFICIENT_CAPACITY;
}

static uint32_t make(struct turn_server *s, struct turn_alloc *a, uint16_t number,
                     const struct addr *peer)
{
    uint32_t n = a->chan.number ? slab_take(&s->chans) : TURN_CHAN_OWN | turn_alloc_number(s, a);
    struct turn_chan *c = turn_chan_at(s, n);
    uint32_t *by_number = &a->chans_by_number[number_bucket(number)];
    uint32_t *by_peer = &a->chans_by_peer[peer_bucket(s, peer)];
    c->number = number;
    c->peer = *peer;
    c->next_number = *by_number;
    c->next_peer = *by_peer;
    *by_number = *by_peer = n;
    a->chan_count++;
    return n;
}

void turn_channel_bind(struct turn_server *s, struct turn_request *r)
{
    uint16_t number;
    struct addr peer;
    enum stun_error code = turn_alloc_tcp(r->alloc) ? STUN_FORBIDDEN : check(s, r, &number, &peer);
    uint32_t perm = code ? SLAB_NONE : turn_perm_install(s, r->alloc, &peer, r->now);
    if (!code && perm == SLAB_NONE)
        code = STUN_INSUFFICIENT_CAPACITY;
    if (code) {
        turn_reply_error(s, r, code);
        return;
    }
    uint32_t n = any_by_number(s, r->alloc, number);
    if (n == SLAB_NONE)
        n = make(s, r->alloc, number, &peer);
    struct turn_chan *c = turn_chan_at(s, n);
    c->perm = perm;
    c->perm_until_ms = turn_perm_at(s, perm)->expires_ms;
    c->ours = turn_perm_at(s, perm)->ours;
    c->expires_ms = r->now.ms + (uint64_t)s->config->channel_lifetime * 1000;
    turn_count(&s->counters, TURN_N_CHANNELS, 1);
    turn_reply_ok(s, r);
}
