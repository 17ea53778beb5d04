#include "core/turn_alloc.h"

#include "core/turn_admission.h"
#include "core/turn_chan.h"
#include "core/turn_meter.h"
#include "core/turn_mobility.h"
#include "core/turn_perm.h"
#include "core/turn_place.h"
#include "core/turn_redirect.h"
#include "core/turn_reply.h"
#include "core/turn_tcp.h"

enum {
    PROTOCOL_TCP = 6, /* REQUESTED-TRANSPORT, RFC 8656 §18.8, RFC 6062 §4.1 */
    PROTOCOL_UDP = 17,
};

/* What an Allocate request asks for, once it has been found to be in order. */
struct ask {
    struct turn_wish wish;
    bool dual;   /* an IPv6 address too */
    bool ticket; /* MOBILITY-TICKET */
    uint32_t lifetime;
};

/* ---- finding and describing ---- */

static uint64_t tuple_hash(const struct turn_server *s, const struct turn_tuple *tuple)
{
    return hash_bytes(&s->seed, tuple, sizeof *tuple);
}

struct turn_alloc *turn_alloc_find(const struct turn_server *s, const struct turn_tuple *tuple,
                                   struct turn_now now)
{
    struct map_iter it;
    for (uint32_t n = map_first(&s->by_tuple, tuple_hash(s, tuple), &it); n != MAP_NONE;
         n = map_next(&s->by_tuple, &it)) {
        struct turn_alloc *a = turn_alloc_at(s, n);
        if (turn_mobility_on(s, a, tuple))
            return turn_alloc_live(a, now) ? a : NULL;
    }
    return NULL;
}

void turn_alloc_map(struct turn_server *s, const struct turn_alloc *a,
                    const struct turn_tuple *tuple)
{
    map_put(&s->by_tuple, tuple_hash(s, tuple), turn_alloc_number(s, a));
}

void turn_alloc_unmap(struct turn_server *s, const struct turn_alloc *a,
                      const struct turn_tuple *tuple)
{
    map_remove(&s->by_tuple, tuple_hash(s, tuple), turn_alloc_number(s, a));
}

struct span turn_alloc_username(const struct turn_server *s, const struct turn_alloc *a)
{
    const void *name = a->long_name == SLAB_NONE ? a->short_name : slab_at(&s->names, a->long_name);
    return span_of(name, a->name_len);
}

struct turn_alloc_info turn_alloc_describe(const struct turn_server *s, const struct turn_alloc *a,
                                           struct turn_now now)
{
    const struct turn_second *second = turn_second_of(s, a, now);
    return (struct turn_alloc_info){
        .id = a->id,
        .username = turn_alloc_username(s, a),
        .tuple = &a->tuple,
        .relayed = a->place.relayed,
        .also = second ? second->place.relayed : (struct addr){.family = ADDR_NONE},
        .age_ms = now.ms - a->created_ms,
        .expires_in_ms = turn_alloc_live(a, now) ? a->deadline.at - now.ms : 0,
        .up_packets = a->up_packets,
        .up_bytes = a->up_bytes,
        .down_packets = a->down_packets,
        .down_bytes = a->down_bytes,
        .permissions = a->perm_count,
        .channels = a->chan_count,
        .tcp = turn_alloc_tcp(a),
        .tcp_peers = turn_tcp_count(s, a),
    };
}

static void tell(struct turn_server *s, const struct turn_alloc *a, enum turn_event_kind kind,
                 enum turn_end end, struct turn_now now)
{
    struct turn_alloc_info info = turn_alloc_describe(s, a, now);
    struct turn_event event = {
        .kind = kind, .end = end, .alloc = &info, .tuple = &a->tuple, .username = info.username};
    s->io->ops->event(s->io, &event);
}

/* ---- the end ---- */

static void leave(struct turn_server *s, uint64_t user)
{
    s->io->ops->lock(s->io);
    turn_commons_leave(s->commons, user);
    s->io->ops->unlock(s->io);
}

static void forget_name(struct turn_server *s, const struct turn_alloc *a)
{
    if (a->long_name != SLAB_NONE)
        slab_give(&s->names, a->long_name);
}

static void tell_how_many(struct turn_server *s)
{
    atomic_store_explicit(&s->allocations, s->allocs.used, memory_order_relaxed);
}

static void release_slabs(struct turn_server *s, struct turn_alloc *a)
{
    turn_chan_drop_all(s, a);
    turn_perm_drop_all(s, a);
    forget_name(s, a);
    crypto_wipe(&a->key, sizeof a->key);
    a->id = 0; /* marks the slot as free for who walks the slab */
    slab_give(&s->allocs, turn_alloc_number(s, a));
    tell_how_many(s);
}

void turn_alloc_remember(struct turn_server *s, const struct turn_alloc *a, struct turn_now now)
{
    bool datagrams = a->tuple.transport == TURN_UDP || a->tuple.transport == TURN_DTLS;
    uint64_t until_ms = a->created_ms + TURN_ENDED_MS;
    if (datagrams && until_ms > now.ms)
        turn_ended_put(&s->ended, &a->tuple, a->tid, until_ms);
}

void turn_alloc_end(struct turn_server *s, struct turn_alloc *a, enum turn_end end,
                    struct turn_now now)
{
    static const enum turn_counter counters[] = {
        [TURN_END_RELEASED] = TURN_N_RELEASED, [TURN_END_EXPIRED] = TURN_N_EXPIRED,
        [TURN_END_KILLED] = TURN_N_KILLED,     [TURN_END_SHUTDOWN] = TURN_N_KILLED,
        [TURN_END_CLOSED] = TURN_N_CLOSED,     [TURN_END_WITHDRAWN] = TURN_N_WITHDRAWN,
    };
    tell(s, a, TURN_EV_ALLOCATION_ENDED, end, now);
    if (end != TURN_END_CLOSED && end != TURN_END_SHUTDOWN)
        turn_alloc_remember(s, a, now);
    turn_count(&s->counters, counters[end], 1);
    turn_tcp_drop_all(s, a);
    if (a->second != SLAB_NONE)
        turn_place_drop(s, a, turn_second_family(s, a));
    turn_place_close(s, &a->place);
    leave(s, a->user);
    turn_admission_leave(s, a);
    turn_meter_leave(s, a);
    deadline_clear(&s->wheel, &a->deadline);
    turn_mobility_drop(s, a);
    if (!a->adrift)
        turn_alloc_unmap(s, a, &a->tuple);
    release_slabs(s, a);
}

/* ---- reading the request ---- */

/* The lifetime to grant (RFC 8656 §7.2): never below the default, never above the maximum. */
static uint32_t lifetime_granted(const struct turn_config *c, uint32_t asked)
{
    uint32_t lifetime = asked > c->lifetime_default ? asked : c->lifetime_default;
    return lifetime < c->lifetime_max ? lifetime : c->lifetime_max;
}

/* RFC 6062 §5.1: only over a stream, and without what is UDP's. */
static enum stun_error read_tcp(const struct turn_request *r)
{
    if (!turn_tcp_carries(r->tuple) || stun_msg_has(r->msg, STUN_ID_DONT_FRAGMENT) ||
        stun_msg_has(r->msg, STUN_ID_EVEN_PORT) || stun_msg_has(r->msg, STUN_ID_RESERVATION_TOKEN))
        return STUN_BAD_REQUEST;
    return 0;
}

/* Steps 3 and 4 of RFC 8656 §7.2; DONT-FRAGMENT is served. 0 when in order. */
static enum stun_error read_transport(const struct turn_server *s, const struct turn_request *r,
                                      struct ask *ask)
{
    uint8_t protocol;
    if (stun_msg_first_byte(r->msg, STUN_ID_REQUESTED_TRANSPORT, &protocol) != CT_OK)
        return STUN_BAD_REQUEST;
    ask->wish.tcp =
        protocol == PROTOCOL_TCP && s->config->tcp_allocations && !turn_config_closed(s->config);
    if (ask->wish.tcp)
        return read_tcp(r);
    return protocol == PROTOCOL_UDP ? (enum stun_error)0 : STUN_UNSUPPORTED_TRANSPORT;
}

/*
 * What asks for both families: ADDITIONAL-ADDRESS-FAMILY, or without it the attribute of the time
 * before it had a number, which turnutils_uclient sends (docs/decisions).
 */
static enum stun_attr_id additional(const struct stun_msg *m)
{
    bool draft = stun_msg_has(m, STUN_ID_ADDITIONAL_FAMILY_DRAFT) &&
                 !stun_msg_has(m, STUN_ID_ADDITIONAL_ADDRESS_FAMILY);
    return draft ? STUN_ID_ADDITIONAL_FAMILY_DRAFT : STUN_ID_ADDITIONAL_ADDRESS_FAMILY;
}

/* Step 5: RESERVATION-TOKEN stands alone. */
static enum stun_error read_token(const struct stun_msg *m, struct ask *ask)
{
    if (!stun_msg_has(m, STUN_ID_RESERVATION_TOKEN))
        return 0;
    ask->wish.token = stun_msg_bytes(m, STUN_ID_RESERVATION_TOKEN);
    if (ask->wish.token.len != TURN_TOKEN_SIZE || stun_msg_has(m, STUN_ID_EVEN_PORT) ||
        stun_msg_has(m, STUN_ID_REQUESTED_ADDRESS_FAMILY) || stun_msg_has(m, additional(m)))
        return STUN_BAD_REQUEST;
    return 0;
}

/*
 * Step 6: the address family, IPv4 when not asked for; that it is relayed (step 7) is for the table
 * of ports to say.
 */
static enum stun_error read_family(const struct stun_msg *m, struct ask *ask)
{
    ask->wish.family = ADDR_V4;
    enum ct_err err = stun_msg_first_byte(m, STUN_ID_REQUESTED_ADDRESS_FAMILY, &ask->wish.family);
    if (err != CT_OK && err != CT_EMISSING)
        return STUN_BAD_REQUEST;
    if (err == CT_OK && stun_msg_has(m, additional(m)))
        return STUN_BAD_REQUEST;
    return 0;
}

/* Step 9: ADDITIONAL-ADDRESS-FAMILY asks for IPv6 beside IPv4, and for no reservation (step 8). */
static enum stun_error read_additional(const struct stun_msg *m, struct ask *ask)
{
    uint8_t family;
    enum ct_err err = stun_msg_first_byte(m, additional(m), &family);
    if (err == CT_EMISSING)
        return 0;
    if (err != CT_OK || family != ADDR_V6 || ask->wish.parity == TURN_EVEN_PORT_AND_NEXT)
        return STUN_BAD_REQUEST;
    ask->dual = true;
    return 0;
}

/* Step 8: EVEN-PORT, whose first bit asks for the next port too. */
static enum stun_error read_even_port(const struct stun_msg *m, struct ask *ask)
{
    if (!stun_msg_has(m, STUN_ID_EVEN_PORT))
        return 0;
    struct span v = stun_msg_bytes(m, STUN_ID_EVEN_PORT);
    if (v.len != 1)
        return STUN_BAD_REQUEST;
    ask->wish.parity = v.data[0] & 0x80 ? TURN_EVEN_PORT_AND_NEXT : TURN_EVEN_PORT;
    return 0;
}

static enum stun_error read_lifetime(const struct stun_msg *m, uint32_t *asked)
{
    *asked = 0;
    return stun_msg_u32(m, STUN_ID_LIFETIME, asked) == CT_EVALUE ? STUN_BAD_REQUEST
                                                                 : (enum stun_error)0;
}

/* All checks of RFC 8656 §7.2 in its order; 0 when the request can be tried. */
static enum stun_error read_ask(const struct turn_server *s, const struct turn_request *r,
                                struct ask *ask)
{
    const struct stun_msg *m = r->msg;
    uint32_t asked;
    enum stun_error code = read_transport(s, r, ask);
    if (!code)
        code = read_token(m, ask);
    if (!code && !ask->wish.token.data)
        code = read_family(m, ask);
    if (!code && !ask->wish.token.data && !stun_msg_has(m, additional(m)) &&
        !turn_relays_family(s, ask->wish.family))
        code = STUN_FAMILY_NOT_SUPPORTED;
    if (!code)
        code = read_even_port(m, ask);
    if (!code)
        code = read_additional(m, ask);
    if (!code)
        code = read_lifetime(m, &asked);
    if (!code)
        code = turn_mobility_wanted(s, m, &ask->ticket);
    if (!code && ask->ticket && ask->wish.tcp)
        code = STUN_MOBILITY_FORBIDDEN; /* its connections stay where they are (docs/decisions) */
    if (code)
        return code;
    ask->lifetime = lifetime_granted(s->config, asked);
    if (r->auth.token_left && r->auth.token_left < ask->lifetime)
        ask->lifetime = r->auth.token_left; /* RFC 7635 §9: below the default too */
    /* Teredo and 6to4 clients are not served, RFC 8656 §21.4 */
    if (turn_policy_never(&s->config->policy, &r->tuple->client))
        return STUN_FORBIDDEN;
    return s->draining ? STUN_INSUFFICIENT_CAPACITY : (enum stun_error)0;
}

/* ---- making ---- */

static void remember_name(struct turn_server *s, struct turn_alloc *a, struct span username)
{
    a->name_len = (uint16_t)username.len;
    a->long_name = SLAB_NONE;
    uint8_t *to = a->short_name;
    if (username.len > TURN_SHORT_NAME) {
        a->long_name = slab_take(&s->names);
        to = slab_at(&s->names, a->long_name);
    }
    memcpy(to, username.data, username.len);
}

/* The request's ACCESS-TOKEN, if any, is the allocation's, key and all (RFC 7635 §9). */
static void take_token(struct turn_server *s, struct turn_alloc *a, const struct turn_request *r)
{
    if (!r->auth.token_left)
        return;
    uint64_t ends_s = (r->now.ms - a->created_ms) / 1000 + r->auth.token_left;
    a->token_s = ends_s < UINT32_MAX ? (uint32_t)ends_s : UINT32_MAX;
    a->key = r->auth.key;
    forget_name(s, a);
    remember_name(s, a, r->auth.username);
}

/* Holds the port after the allocation's own under a token; without room there is no token. */
static enum ct_err reserve_next(struct turn_server *s, struct turn_alloc *a, struct turn_now now)
{
    struct turn_port next = {.relay = a->place.port.relay,
                             .port = (uint16_t)(a->place.port.port + 1)};
    s->io->ops->random(s->io, a->token, sizeof a->token);
    s->io->ops->lock(s->io);
    enum ct_err err = turn_commons_reserve(
        s->commons, next, a->token, now.ms + (uint64_t)s->config->reservation_lifetime * 1000);
    if (err != CT_OK)
        turn_commons_give_port(s->commons, next);
    s->io->ops->unlock(s->io);
    a->has_token = err == CT_OK;
    return err;
}

/*
 * Counts the allocation for its user, or for the token, which names none. 0 when he may have it and
 * there is room.
 */
static enum stun_error enter(struct turn_server *s, const struct turn_request *r,
                             struct turn_entrant *who)
{
    struct span id = r->auth.username;
    uint64_t expiry;
    if (r->auth.token_left)
        id = span_of(r->auth.key.bytes, r->auth.key.len);
    else
        (void)stun_rest_username(r->auth.username, &expiry, &id);
    *who = (struct turn_entrant){.user = turn_commons_user(s->commons, id.data, id.len)};
    s->io->ops->lock(s->io);
    turn_commons_expire(s->commons, r->now.ms);
    enum ct_err err = CT_OK;
    if (turn_admission_check(s, who))
        err = turn_commons_enter(s->commons, who->user, s->config->user_quota);
    s->io->ops->unlock(s->io);
    if (who->refused)
        return STUN_FORBIDDEN;
    return err == CT_OK           ? (enum stun_error)0
           : err == CT_EFORBIDDEN ? STUN_QUOTA_REACHED
                                  : STUN_INSUFFICIENT_CAPACITY;
}

/*
 * Opens the one relayed address that was asked for, or the two; of two, one that cannot be had is
 * noted. False when there is none.
 */
static bool open_places(struct turn_server *s, const struct ask *ask, struct turn_alloc *a)
{
    struct turn_wish other = ask->wish;
    uint32_t number = turn_alloc_number(s, a);
    enum stun_error code = turn_place_open(s, &ask->wish, number, &a->place);
    if (!ask->dual)
        return !code;
    other.family = ADDR_V6;
    if (!code)
        a->refused = (uint16_t)turn_second_open(s, a, &other);
    else
        a->refused = (uint16_t)code;
    return !code || !turn_place_open(s, &other, number, &a->place);
}

/* A new allocation with its relayed address open, or NULL and nothing left behind. */
static struct turn_alloc *make(struct turn_server *s, const struct turn_request *r,
                               const struct ask *ask)
{
    uint32_t number = slab_take(&s->allocs);
    if (number == SLAB_NONE)
        return NULL;
    struct turn_alloc *a = turn_alloc_at(s, number);
    a->second = a->move = a->tcps = SLAB_NONE;
    a->ticket = ask->ticket;
    a->deadline.at = r->now.ms + (uint64_t)ask->lifetime * 1000;
    if (!open_places(s, ask, a))
        goto out_slab;
    if (ask->wish.parity == TURN_EVEN_PORT_AND_NEXT && reserve_next(s, a, r->now) != CT_OK)
        goto out_relay;
    a->tuple = *r->tuple;
    a->id = ++s->next_id;
    a->created_ms = r->now.ms;
    a->key = r->auth.key;
    a->key_algorithm = r->auth.key_algorithm;
    memcpy(a->tid, stun_msg_tid(r->msg), sizeof a->tid);
    memset(a->perms, 0xff, sizeof a->perms);
    memset(a->chans_by_number, 0xff, sizeof a->chans_by_number);
    memset(a->chans_by_peer, 0xff, sizeof a->chans_by_peer);
    remember_name(s, a, r->auth.username);
    take_token(s, a, r);
    deadline_set(&s->wheel, &a->deadline, a->deadline.at);
    turn_alloc_map(s, a, &a->tuple);
    tell_how_many(s);
    return a;

out_relay:
    turn_place_close(s, &a->place);
out_slab:
    slab_give(&s->allocs, number);
    return NULL;
}

/* One or two relayed addresses, or one and why there is no other. */
static void put_places(const struct turn_server *s, const struct turn_alloc *a, struct wbuf *w,
                       struct turn_now now)
{
    const struct turn_second *second = turn_second_of(s, a, now);
    stun_put_xaddr(w, STUN_ATTR_XOR_RELAYED_ADDRESS, &a->place.relayed);
    if (second)
        stun_put_xaddr(w, STUN_ATTR_XOR_RELAYED_ADDRESS, &second->place.relayed);
    else if (a->refused)
        stun_put_addr_error(w, a->place.relayed.family == ADDR_V4 ? ADDR_V6 : ADDR_V4, a->refused,
                            span_str(stun_error_reason(a->refused)));
}

/* The success response of RFC 8656 §7.3; also to a retransmission, with what is left of the time.
 */
static void answer(struct turn_server *s, const struct turn_request *r, const struct turn_alloc *a)
{
    struct wbuf w = turn_reply_begin(s, r, STUN_SUCCESS);
    put_places(s, a, &w, r->now);
    stun_put_u32(&w, STUN_ATTR_LIFETIME, (uint32_t)((a->deadline.at - r->now.ms + 999) / 1000));
    stun_put_xaddr(&w, STUN_ATTR_XOR_MAPPED_ADDRESS, &r->tuple->client);
    if (a->has_token)
        stun_put(&w, STUN_ATTR_RESERVATION_TOKEN, a->token, sizeof a->token);
    if (a->ticket)
        turn_mobility_put(s, a, &w);
    turn_reply_send(s, r, &w);
}

/* An allocation that has expired but that the wheel has not come round to. */
static void sweep_tuple(struct turn_server *s, const struct turn_tuple *tuple, struct turn_now now)
{
    struct map_iter it;
    for (uint32_t n = map_first(&s->by_tuple, tuple_hash(s, tuple), &it); n != MAP_NONE;
         n = map_next(&s->by_tuple, &it)) {
        struct turn_alloc *a = turn_alloc_at(s, n);
        if (!turn_mobility_on(s, a, tuple))
            continue;
        turn_alloc_end(s, a, TURN_END_EXPIRED, now);
        return;
    }
}

void turn_allocate(struct turn_server *s, struct turn_request *r)
{
    struct ask ask = {0};
    struct turn_entrant who = {.refused = false};
    if (r->alloc) {
        bool again = memcmp(r->alloc->tid, stun_msg_tid(r->msg), STUN_TID_SIZE) == 0 &&
                     span_eq(turn_alloc_username(s, r->alloc), r->auth.username);
        if (again)
            answer(s, r, r->alloc);
        else
            turn_reply_error(s, r, STUN_ALLOCATION_MISMATCH);
        return;
    }
    sweep_tuple(s, r->tuple, r->now);
    if (s->config->redirect_count && turn_redirect(s, r))
        return;
    enum stun_error code = read_ask(s, r, &ask);
    if (turn_ended_has(&s->ended, r->tuple, stun_msg_tid(r->msg), r->now.ms))
        code = STUN_ALLOCATION_MISMATCH;
    if (!code)
        code = enter(s, r, &who);
    if (who.refused && !turn_admission_refuse(s, r, &who))
        return;
    if (code) {
        turn_reply_error(s, r, code);
        return;
    }
    struct turn_alloc *a = make(s, r, &ask);
    if (!a) {
        leave(s, who.user);
        turn_reply_error(s, r, STUN_INSUFFICIENT_CAPACITY);
        return;
    }
    a->user = who.user;
    turn_admission_join(s, a, &who);
    turn_meter_join(s, a);
    turn_count(&s->counters, TURN_N_CREATED, 1);
    tell(s, a, TURN_EV_ALLOCATION_CREATED, 0, r->now);
    answer(s, r, a);
}

/* ---- Refresh ---- */

/* The family that REQUESTED-ADDRESS-FAMILY singles out, ADDR_NONE when there is none to do so. */
static enum stun_error read_refresh(struct turn_server *s, const struct turn_request *r,
                                    uint8_t *family, uint32_t *asked)
{
    *family = ADDR_NONE;
    enum ct_err err = stun_msg_first_byte(r->msg, STUN_ID_REQUESTED_ADDRESS_FAMILY, family);
    enum stun_error code = read_lifetime(r->msg, asked);
    if (code || (err != CT_OK && err != CT_EMISSING))
        return STUN_BAD_REQUEST;
    if (err == CT_OK && !turn_place_of(s, r->alloc, *family, r->now))
        return STUN_PEER_FAMILY_MISMATCH;
    return 0;
}

/* Until when it may last: never longer than its token. */
static uint64_t refreshed_until(const struct turn_server *s, const struct turn_alloc *a,
                                uint32_t asked, struct turn_now now)
{
    uint64_t until_ms = now.ms + (uint64_t)lifetime_granted(s->config, asked) * 1000;
    uint64_t token_ms = a->created_ms + (uint64_t)a->token_s * 1000;
    if (turn_alloc_by_token(a) && token_ms < until_ms)
        until_ms = token_ms > now.ms ? token_ms : now.ms;
    return until_ms;
}

/* All relayed addresses, or the one of the family. */
static void extend(struct turn_server *s, struct turn_alloc *a, uint8_t family, uint64_t until_ms,
                   struct turn_now now)
{
    static const uint8_t families[] = {ADDR_V4, ADDR_V6};
    for (size_t i = 0; i < 2; i++)
        if ((family == ADDR_NONE || family == families[i]) && turn_place_of(s, a, families[i], now))
            turn_place_extend(s, a, families[i], until_ms);
}

void turn_refresh(struct turn_server *s, struct turn_request *r)
{
    uint8_t family;
    uint32_t asked;
    struct turn_alloc *a = r->alloc;
    enum stun_error code = read_refresh(s, r, &family, &asked);
    bool release = stun_msg_has(r->msg, STUN_ID_LIFETIME) && asked == 0;
    if (!code && r->ticket == TURN_TICKET_MOVES && !release)
        code = turn_mobility_move(s, r);
    if (code) {
        turn_reply_error(s, r, code);
        return;
    }
    if (!release)
        take_token(s, a, r);
    uint64_t until_ms = release ? r->now.ms : refreshed_until(s, a, asked, r->now);
    if (!release)
        extend(s, a, family, until_ms, r->now);
    turn_count(&s->counters, TURN_N_REFRESHES, 1);
    struct wbuf w = turn_reply_begin(s, r, STUN_SUCCESS);
    stun_put_u32(&w, STUN_ATTR_LIFETIME, (uint32_t)((until_ms - r->now.ms + 999) / 1000));
    if (r->ticket != TURN_TICKET_NONE && !release)
        turn_mobility_put(s, a, &w);
    turn_reply_send(s, r, &w);
    if (release && family != ADDR_NONE && turn_second_of(s, a, r->now))
        turn_place_drop(s, a, family);
    else if (release)
        turn_alloc_end(s, a, TURN_END_RELEASED, r->now);
}
