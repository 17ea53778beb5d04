#include "core/turn_data.h"

#include "core/turn_admission.h"
#include "core/turn_alloc.h"
#include "core/turn_chan.h"
#include "core/turn_frame.h"
#include "core/turn_meter.h"
#include "core/turn_mobility.h"
#include "core/turn_perm.h"
#include "core/turn_place.h"

static void dropped(struct turn_server *s, enum turn_counter why)
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

static void to_client(struct turn_server *s, struct turn_alloc *a, const struct wbuf *head,
                      const struct turn_packet *packet, uint8_t pad)
{
    struct turn_out out = {.head = span_of(head->data, head->pos),
                           .body = span_of(packet->data, packet->len),
                           .pad = pad};
    if (head->failed)
        return;
    if (a->adrift) {
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

static void as_channel_data(struct turn_server *s, struct turn_alloc *a, uint16_t channel,
                            const struct turn_packet *packet)
{
    struct wbuf w = reserve(s, STUN_CHANNEL_HEADER_SIZE);
    wbuf_u16(&w, channel);
    wbuf_u16(&w, (uint16_t)packet->len);
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
static void as_data_indication(struct turn_server *s, struct turn_alloc *a, const struct addr *peer,
                               const struct turn_packet *packet)
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

/* To the client of an allocation, if it permits; `from` as the client names it. */
static void deliver(struct turn_server *s, uint32_t alloc, const struct addr *from,
                    const struct turn_packet *packet, struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_at(s, alloc);
    /* No UDP datagram is longer than a ChannelData message can be. */
    if (!turn_alloc_live(a, now) || !turn_place_of(s, a, from->family, now) ||
        packet->len > UINT16_MAX) {
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
        return;
    }
    const struct turn_chan *c = turn_chan_by_peer(s, a, from, now);
    uint32_t perm = c ? c->perm : turn_perm_find(s, a, from, now);
    if (perm == SLAB_NONE || turn_perm_at(s, perm)->expires_ms <= now.ms)
        dropped(s, TURN_N_DROP_NO_PERMISSION);
    else if (!turn_meter_allows(s, a, TURN_DOWN, packet->len, now))
        return;
    else if (c)
        as_channel_data(s, a, c->number, packet);
    else
        as_data_indication(s, a, from, packet);
}

void turn_server_from_peer(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                           struct turn_packet *packet, struct turn_now now)
{
    if (s->config->admission == TURN_ADMISSION_ROOM) { /* it is from outside: in no room */
        dropped(s, TURN_N_DROP_OTHER_ROOM);
        return;
    }
    struct addr from = bound_to_named(s, peer);
    deliver(s, alloc, &from, packet, now);
}

/* ---- client to peer ---- */

/* Data on its way from a client to a peer. */
struct outgoing {
    struct turn_alloc *alloc;
    const struct turn_place *from; /* NULL: none of the peer's family */
    const struct turn_perm *perm;  /* for the peer's IP */
    const struct addr *peer;       /* as the client names it */
    struct span data;
    unsigned flags; /* of to_peer */
};

enum way {
    WAY_NONE,
    WAY_SOCKET,
    WAY_PAIR /* another allocation of this relay, or the same: never leaves memory */
};

static enum way way_of(const struct turn_server *s, const struct outgoing *o,
                       struct turn_port *port, struct turn_owner *owner)
{
    if (!o->from)
        return WAY_NONE;
    if (!o->perm->ours)
        return turn_config_closed(s->config) ? WAY_NONE : WAY_SOCKET;
    if (!turn_own_bound(s, o->peer, port, owner))
        return o->perm->own ? WAY_NONE : WAY_SOCKET;
    return s->config->pair ? WAY_PAIR : WAY_SOCKET;
}

/* What arrives is judged by who gets it, just as a datagram from a relay socket would be. */
static void to_pair(struct turn_server *s, const struct outgoing *o, struct turn_port port,
                    struct turn_owner owner, struct turn_now now)
{
    struct turn_packet packet = {.data = o->data.data, .len = o->data.len};
    turn_count(&s->counters, TURN_N_PAIRED, 1);
    if (owner.worker == s->worker) {
        if (turn_admission_joins(s, o->alloc, owner.alloc))
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

static void to_peer(struct turn_server *s, const struct outgoing *o, struct turn_now now)
{
    struct turn_port port;
    struct turn_owner owner;
    enum way way = way_of(s, o, &port, &owner);
    if (way == WAY_NONE) {
        dropped(s, TURN_N_DROP_NO_PERMISSION);
        return;
    }
    if (!turn_meter_allows(s, o->alloc, TURN_UP, o->data.len, now))
        return;
    o->alloc->up_packets++;
    o->alloc->up_bytes += o->data.len;
    turn_count(&s->counters, TURN_N_UP_PACKETS, 1);
    turn_count(&s->counters, TURN_N_UP_BYTES, o->data.len);
    if (way == WAY_PAIR) {
        to_pair(s, o, port, owner, now);
        return;
    }
    struct addr at = named_to_bound(s, o->peer);
    s->io->ops->to_peer(s->io, o->from->relay, &at, o->data, o->flags);
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

/*
 * The allocation that data from this 5-tuple is for, which takes it there if it was on the move.
 * NULL when there is none here: the packet is somebody else's then, or dropped.
 */
static struct turn_alloc *find_for_data(struct turn_server *s, const struct turn_tuple *tuple,
                                        struct span packet, struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_find(s, tuple, now);
    if (a && turn_alloc_tcp(a)) { /* has neither datagrams nor a socket for them */
        dropped(s, TURN_N_DROP_UNEXPECTED);
        return NULL;
    }
    if (a && a->move != SLAB_NONE)
        turn_mobility_arrived(s, a, tuple, now);
    if (!a && !turn_mobility_forward(s, tuple, packet, now))
        dropped(s, TURN_N_DROP_NO_ALLOCATION);
    return a;
}

void turn_data_channel(struct turn_server *s, const struct turn_tuple *tuple,
                       struct turn_packet *packet, struct turn_now now)
{
    struct turn_channel_data cd;
    if (turn_channel_data_decode_old(packet->data, packet->len, &cd) != CT_OK) {
        dropped(s, TURN_N_DROP_MALFORMED);
        return;
    }
    struct turn_alloc *a = find_for_data(s, tuple, span_of(packet->data, packet->len), now);
    if (!a)
        return;
    /* A bound channel is enough: the permission's shorter life guards the way back
     * (docs/decisions). */
    const struct turn_chan *c = turn_chan_by_number(s, a, cd.channel, now);
    if (!c) {
        dropped(s, TURN_N_DROP_NO_CHANNEL);
        return;
    }
    struct outgoing o = {.alloc = a,
                         .from = turn_place_of(s, a, c->peer.family, now),
                         .perm = turn_perm_at(s, c->perm),
                         .peer = &c->peer,
                         .data = cd.data};
    to_peer(s, &o, now);
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
                         .perm = turn_perm_at(s, perm),
                         .peer = &peer,
                         .data = stun_msg_bytes(msg, STUN_ID_DATA),
                         .flags = send_flags(tuple, &peer, msg)};
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
