#include "core/turn_data.h"

#include "core/likely.h"
#include "core/turn_admission.h"
#include "core/turn_alloc.h"
#include "core/turn_chan.h"
#include "core/turn_frame.h"
#include "core/turn_meter.h"
#include "core/turn_mobility.h"
#include "core/turn_perm.h"
#include "core/turn_place.h"

COLD static void dropped(struct turn_server *s, enum turn_counter why)
{
    turn_count(&s->counters, why, 1);
}

/* ---- our own addresses behind a 1:1 NAT: named by the external IP, reached by the bound one ----
 */

static struct addr named_to_bound(const struct turn_server *s, const struct addr *peer)
{
    struct addr at = *peer;
    for (size_t i = 0; i < s->config->relay_count; i++) {
        const struct turn_relay_ip *relay = &s->config->relays[i];
        if (!addr_ip_eq(&relay->external, peer) || addr_ip_eq(&relay->bind, peer))
            continue;
        memcpy(at.ip, relay->bind.ip, sizeof at.ip);
        break;
    }
    return at;
}

static struct addr bound_to_named(const struct turn_server *s, const struct addr *peer)
{
    struct addr name = *peer;
    struct turn_owner owner;
    for (uint8_t i = 0; i < s->config->relay_count; i++) {
        const struct turn_relay_ip *relay = &s->config->relays[i];
        if (!addr_ip_eq(&relay->bind, peer) || addr_ip_eq(&relay->external, peer))
            continue;
        struct turn_port port = {.relay = i, .port = peer->port};
        if (turn_commons_owner(s->commons, port, &owner))
            memcpy(name.ip, relay->external.ip, sizeof name.ip);
        break;
    }
    return name;
}

/* ---- peer to client ---- */

static inline void to_client(struct turn_server *s, struct turn_alloc *a, const struct wbuf *head,
                             const struct turn_packet *packet, uint8_t pad)
{
    struct turn_out out = {.head = span_of(head->data, head->pos),
                           .body = span_of(packet->data, packet->len),
                           .pad = pad};
    if (unlikely(head->failed))
        return;
    if (unlikely(a->adrift)) {
        dropped(s, TURN_N_DROP_QUEUE);
        return;
    }
    a->down_packets++;
    a->down_bytes += packet->len;
    turn_count(&s->counters, TURN_N_DOWN_PACKETS, 1);
    turn_count(&s->counters, TURN_N_DOWN_BYTES, packet->len);
    s->io->ops->to_client(s->io, &a->tuple, &out);
}

static struct wbuf reserve(struct turn_server *s, size_t size)
{
    return wbuf_of(s->io->ops->reserve(s->io, size), size);
}

static inline void as_channel_data(struct turn_server *s, struct turn_alloc *a, uint16_t channel,
                                   const struct turn_packet *packet)
{
    struct wbuf w = reserve(s, STUN_CHANNEL_HEADER_SIZE);
    wbuf_u32(&w, (uint32_t)channel << 16 | (uint16_t)packet->len);
    to_client(s, a, &w, packet, 0);
}

/* Unpredictable enough for an indication, which nobody answers (RFC 8489 §6.1). */
static void next_tid(struct turn_server *s, uint8_t tid[STUN_TID_SIZE])
{
    uint64_t a = hash_bytes(&s->seed, &s->random_state, sizeof s->random_state);
    s->random_state++;
    memcpy(tid, &a, sizeof a);
    memcpy(tid + sizeof a, &s->random_state, STUN_TID_SIZE - sizeof a);
}

/* Header, XOR-PEER-ADDRESS and the head of DATA go before the payload, zero padding behind it. */
APART static void as_data_indication(struct turn_server *s, struct turn_alloc *a,
                                     const struct addr *peer, const struct turn_packet *packet)
{
    size_t addr_attr = STUN_ATTR_HEADER_SIZE + 4 + addr_ip_len(peer->family);
    size_t head = STUN_HEADER_SIZE + addr_attr + STUN_ATTR_HEADER_SIZE;
    size_t padded = stun_padded(packet->len);
    /* A message's length is a multiple of 4 in 16 bits: from an IPv6 peer 65,504 bytes fit. */
    if (head - STUN_HEADER_SIZE + padded > STUN_LENGTH_MAX) {
        dropped(s, TURN_N_DROP_SEND);
        return;
    }
    struct wbuf w = reserve(s, head);
    uint8_t tid[STUN_TID_SIZE];
    next_tid(s, tid);
    stun_begin(&w, stun_type(STUN_DATA, STUN_INDICATION), tid);
    stun_put_xaddr(&w, STUN_ATTR_XOR_PEER_ADDRESS, peer);
    wbuf_u16(&w, STUN_ATTR_DATA);
    wbuf_u16(&w, (uint16_t)packet->len);
    wbuf_patch_u16(&w, 2, (uint16_t)(addr_attr + STUN_ATTR_HEADER_SIZE + padded));
    to_client(s, a, &w, packet, (uint8_t)(padded - packet->len));
}

/* The permission that the channel stands on, which is not looked at while it is known to last. */
static inline bool permits(const struct turn_server *s, struct turn_chan *c, struct turn_now now)
{
    if (unlikely(c->perm_until_ms <= now.ms))
        c->perm_until_ms = turn_perm_at(s, c->perm)->expires_ms;
    return c->perm_until_ms > now.ms;
}

/* Where the peer has no channel. */
APART static void deliver_unbound(struct turn_server *s, struct turn_alloc *a,
                                  const struct addr *from, const struct turn_packet *packet,
                                  struct turn_now now)
{
    if (!turn_place_of(s, a, from->family, now))
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
    else if (turn_perm_find(s, a, from, now) == SLAB_NONE)
        dropped(s, TURN_N_DROP_NO_PERMISSION);
    else if (turn_meter_allows(s, a, TURN_DOWN, packet->len, now))
        as_data_indication(s, a, from, packet);
}

/* To the client of an allocation, if it permits; `from` as the client names it. */
static inline void deliver(struct turn_server *s, uint32_t alloc, const struct addr *from,
                           const struct turn_packet *packet, struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_at(s, alloc);
    /* No UDP datagram is longer than a ChannelData message can be. */
    if (unlikely(!turn_alloc_live(a, now) || packet->len > UINT16_MAX)) {
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
        return;
    }
    struct turn_chan *c = turn_chan_by_peer(s, a, from, now);
    if (!c)
        deliver_unbound(s, a, from, packet, now);
    else if (unlikely(!turn_chan_place(s, a, c, now)))
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
    else if (unlikely(!permits(s, c, now)))
        dropped(s, TURN_N_DROP_NO_PERMISSION);
    else if (turn_meter_allows(s, a, TURN_DOWN, packet->len, now))
        as_channel_data(s, a, c->number, packet);
}

APART static void from_named(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                             const struct turn_packet *packet, struct turn_now now)
{
    struct addr from = bound_to_named(s, peer);
    deliver(s, alloc, &from, packet, now);
}

void turn_server_from_peer(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                           struct turn_packet *packet, struct turn_now now)
{
    if (unlikely(s->config->admission == TURN_ADMISSION_ROOM)) /* it is from outside: in no room */
        dropped(s, TURN_N_DROP_OTHER_ROOM);
    else if (unlikely(s->behind_nat))
        from_named(s, alloc, peer, packet, now);
    else
        deliver(s, alloc, peer, packet, now);
}

/* ---- client to peer ---- */

/* Data on its way from a client to a peer. */
struct outgoing {
    struct turn_alloc *alloc;
    const struct turn_place *from; /* NULL: none of the peer's family */
    const struct addr *peer;       /* as the client names it */
    struct span data;
    uint32_t perm;  /* for the peer's IP */
    unsigned flags; /* of to_peer */
};

static inline struct outgoing on_channel(const struct turn_server *s, struct turn_alloc *a,
                                         const struct turn_chan *c, struct span data,
                                         struct turn_now now)
{
    return (struct outgoing){.alloc = a,
                             .from = turn_chan_place(s, a, c, now),
                             .peer = &c->peer,
                             .data = data,
                             .perm = c->perm};
}

/* False, counted as dropped, when the user has no bandwidth left. */
static inline bool count_up(struct turn_server *s, const struct outgoing *o, struct turn_now now)
{
    if (!turn_meter_allows(s, o->alloc, TURN_UP, o->data.len, now))
        return false;
    o->alloc->up_packets++;
    o->alloc->up_bytes += o->data.len;
    turn_count(&s->counters, TURN_N_UP_PACKETS, 1);
    turn_count(&s->counters, TURN_N_UP_BYTES, o->data.len);
    return true;
}

/* Through the socket of the relayed address. */
static inline void to_peer(struct turn_server *s, const struct outgoing *o, struct turn_now now)
{
    if (unlikely(!o->from || turn_config_closed(s->config)))
        dropped(s, TURN_N_DROP_NO_PERMISSION);
    else if (count_up(s, o, now))
        s->io->ops->to_peer(s->io, o->from->relay, o->peer, o->data, o->flags);
}

/* What arrives is judged by who gets it, just as a datagram from a relay socket would be. */
static void to_pair(struct turn_server *s, const struct outgoing *o, struct turn_port port,
                    struct turn_owner owner, struct turn_now now)
{
    struct turn_packet packet = {.data = o->data.data, .len = o->data.len};
    if (!count_up(s, o, now))
        return;
    turn_count(&s->counters, TURN_N_PAIRED, 1);
    if (likely(owner.worker == s->worker)) {
        if (likely(turn_admission_joins(s, o->alloc, owner.alloc)))
            deliver(s, owner.alloc, &o->from->relayed, &packet, now);
        else
            dropped(s, TURN_N_DROP_OTHER_ROOM);
        return;
    }
    struct turn_pair pair = {.from = o->from->relayed,
                             .alloc = owner.alloc,
                             .port = port.port,
                             .relay = port.relay,
                             .rooms = turn_admission_rooms(s, o->alloc),
                             .data = o->data};
    s->io->ops->pair_over(s->io, owner.worker, &pair);
}

/*
 * To one of our own relay IPs. Another allocation of this relay, or the same, is given it in memory
 * unless the configuration says otherwise.
 */
static void to_own(struct turn_server *s, const struct outgoing *o, struct turn_now now)
{
    struct turn_port port;
    struct turn_owner owner;
    bool bound = turn_own_bound(s, o->peer, &port, &owner);
    if (!o->from || (!bound && turn_perm_at(s, o->perm)->own))
        dropped(s, TURN_N_DROP_NO_PERMISSION);
    else if (bound && s->config->pair)
        to_pair(s, o, port, owner, now);
    else if (count_up(s, o, now)) {
        struct addr at = named_to_bound(s, o->peer);
        s->io->ops->to_peer(s->io, o->from->relay, &at, o->data, o->flags);
    }
}

void turn_server_paired(struct turn_server *s, const struct turn_pair *pair, struct turn_now now)
{
    struct turn_port port = {.relay = pair->relay, .port = pair->port};
    struct turn_packet packet = {.data = pair->data.data, .len = pair->data.len};
    struct turn_owner owner;
    if (!turn_commons_owner(s->commons, port, &owner) || owner.worker != s->worker ||
        owner.alloc != pair->alloc)
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
    else if (!turn_admission_lets(s, pair->rooms, pair->alloc))
        dropped(s, TURN_N_DROP_OTHER_ROOM);
    else
        deliver(s, pair->alloc, &pair->from, &packet, now);
}

/* Nobody's here: another worker's, or dropped. */
COLD static void unknown(struct turn_server *s, const struct turn_tuple *tuple, struct span packet,
                         struct turn_now now)
{
    if (!turn_mobility_forward(s, tuple, packet, now))
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
}

/*
 * The allocation that data from this 5-tuple is for, which takes it there if it was on the move.
 * NULL when there is none here: the packet is somebody else's then, or dropped.
 */
static inline struct turn_alloc *find_for_data(struct turn_server *s,
                                               const struct turn_tuple *tuple, struct span packet,
                                               struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_find(s, tuple, now);
    if (unlikely(!a)) {
        unknown(s, tuple, packet, now);
        return NULL;
    }
    if (unlikely(turn_alloc_tcp(a))) { /* has neither datagrams nor a socket for them */
        dropped(s, TURN_N_DROP_UNEXPECTED);
        return NULL;
    }
    if (unlikely(a->move != SLAB_NONE))
        turn_mobility_arrived(s, a, tuple, now);
    return a;
}

void turn_data_channel(struct turn_server *s, const struct turn_tuple *tuple,
                       struct turn_packet *packet, struct turn_now now)
{
    struct turn_channel_data cd;
    if (unlikely(turn_channel_data_decode_old(packet->data, packet->len, &cd) != CT_OK)) {
        dropped(s, TURN_N_DROP_MALFORMED);
        return;
    }
    struct turn_alloc *a = find_for_data(s, tuple, span_of(packet->data, packet->len), now);
    if (unlikely(!a))
        return;
    /* A bound channel is enough: the permission's shorter life guards the way back
     * (docs/decisions). */
    const struct turn_chan *c = turn_chan_by_number(s, a, cd.channel, now);
    if (unlikely(!c)) {
        dropped(s, TURN_N_DROP_NO_CHANNEL);
        return;
    }
    /* two of them: that of the first branch has an address, that of the other stays in registers */
    if (c->ours) {
        struct outgoing o = on_channel(s, a, c, cd.data, now);
        to_own(s, &o, now);
    } else {
        struct outgoing o = on_channel(s, a, c, cd.data, now);
        to_peer(s, &o, now);
    }
}

/*
 * From UDP to UDP, DONT-FRAGMENT has a meaning between IPv4 and IPv4 only (RFC 8656 §13, §14); of
 * what comes over a stream it is the only word about fragments, and holds for all (§15).
 */
static unsigned send_flags(const struct turn_tuple *tuple, const struct addr *peer,
                           const struct stun_msg *msg)
{
    bool v4 = peer->family == ADDR_V4 && tuple->client.family == ADDR_V4;
    bool stream = tuple->transport == TURN_TCP || tuple->transport == TURN_TLS;
    bool counts = (v4 || stream) && stun_msg_has(msg, STUN_ID_DONT_FRAGMENT);
    return counts ? TURN_DONT_FRAGMENT : 0;
}

void turn_data_send(struct turn_server *s, const struct turn_tuple *tuple,
                    const struct stun_msg *msg, struct turn_now now)
{
    struct addr peer;
    if (stun_msg_addr(msg, STUN_ID_XOR_PEER_ADDRESS, &peer) != CT_OK ||
        !stun_msg_has(msg, STUN_ID_DATA) || peer.port == 0) {
        dropped(s, TURN_N_DROP_MALFORMED);
        return;
    }
    struct turn_alloc *a = find_for_data(s, tuple, span_of(msg->data, msg->len), now);
    if (!a)
        return;
    uint32_t perm = turn_perm_find(s, a, &peer, now);
    if (perm == SLAB_NONE) {
        dropped(s, TURN_N_DROP_NO_PERMISSION);
        return;
    }
    struct outgoing o = {.alloc = a,
                         .from = turn_place_of(s, a, peer.family, now),
                         .peer = &peer,
                         .data = stun_msg_bytes(msg, STUN_ID_DATA),
                         .perm = perm,
                         .flags = send_flags(tuple, &peer, msg)};
    if (turn_perm_at(s, perm)->ours)
        to_own(s, &o, now);
    else
        to_peer(s, &o, now);
}

/* ---- errors on the way to a peer ---- */

enum {
    ICMP_PER_SECOND = 16 /* told to a client; a peer that is gone gives one for each datagram */
};

/* What is told at all (RFC 8656 §11.5): unreachable and time exceeded; packet too big of IPv6. */
static bool icmp_counts(uint8_t family, const struct turn_icmp *icmp)
{
    if (family == ADDR_V4)
        return icmp->type == 3 || icmp->type == 11;
    return icmp->type >= 1 && icmp->type <= 3;
}

static bool icmp_is_about_mtu(uint8_t family, const struct turn_icmp *icmp)
{
    return family == ADDR_V4 ? icmp->type == 3 && icmp->code == 4 : icmp->type == 2;
}

static bool may_tell(struct turn_alloc *a, struct turn_now now)
{
    uint16_t second = (uint16_t)(now.ms / 1000);
    if (a->icmp_second != second)
        a->icmp_count = 0;
    a->icmp_second = second;
    return a->icmp_count < ICMP_PER_SECOND && ++a->icmp_count;
}

/*
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  Reserved                     |  ICMP Type    |  ICMP Code    |   RFC 8656 §18.13; the figure
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+   has 7 and 9 bits, ICMP 8 and
 * 8 |                          Error Data                           |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
static void put_icmp(struct wbuf *w, uint8_t family, const struct turn_icmp *icmp)
{
    uint8_t value[8];
    struct wbuf v = wbuf_of(value, sizeof value);
    wbuf_u16(&v, 0);
    wbuf_u8(&v, icmp->type);
    wbuf_u8(&v, icmp->code);
    wbuf_u32(&v, icmp_is_about_mtu(family, icmp) ? icmp->mtu : 0);
    stun_put(w, STUN_ATTR_ICMP, value, sizeof value);
}

void turn_server_icmp(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                      const struct turn_icmp *icmp, struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_at(s, alloc);
    struct addr to = bound_to_named(s, peer);
    uint8_t tid[STUN_TID_SIZE];
    if (!icmp_counts(peer->family, icmp) || s->config->admission == TURN_ADMISSION_ROOM)
        return; /* in rooms nothing is sent to peers that an error could be about */
    if (!turn_alloc_live(a, now) || turn_perm_find(s, a, &to, now) == SLAB_NONE) {
        dropped(s, TURN_N_DROP_NO_PERMISSION);
        return;
    }
    if (a->adrift || !may_tell(a, now)) {
        dropped(s, TURN_N_DROP_RATE);
        return;
    }
    struct wbuf w = reserve(s, TURN_REPLY_MAX);
    next_tid(s, tid);
    stun_begin(&w, stun_type(STUN_DATA, STUN_INDICATION), tid);
    stun_put_xaddr(&w, STUN_ATTR_XOR_PEER_ADDRESS, &to);
    put_icmp(&w, to.family, icmp);
    turn_count(&s->counters, TURN_N_ICMP, 1);
    struct turn_out out = {.head = span_of(w.data, w.pos)};
    s->io->ops->to_client(s->io, &a->tuple, &out);
}
