#include "core/turn_tcp.h"

#include "core/turn_alloc.h"
#include "core/turn_perm.h"
#include "core/turn_place.h"
#include "core/turn_reply.h"

enum {
    ID_BITS = 32 - TURN_TCP_WORKER_BITS, /* random ones of a CONNECTION-ID */
};

static struct turn_tcp *tcp_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->tcps, number);
}

static uint32_t number_of(const struct turn_server *s, const struct turn_tcp *t)
{
    return (uint32_t)((size_t)((const uint8_t *)t - s->tcps.memory) / s->tcps.stride);
}

static struct turn_alloc *owner(const struct turn_server *s, const struct turn_tcp *t)
{
    return turn_alloc_at(s, t->alloc);
}

/* ---- CONNECTION-ID ---- */

static uint64_t id_hash(const struct turn_server *s, uint32_t id)
{
    return hash_bytes(&s->seed, &id, sizeof id);
}

static struct turn_tcp *find_id(const struct turn_server *s, uint32_t id)
{
    struct map_iter it;
    for (uint32_t n = map_first(&s->tcp_by_id, id_hash(s, id), &it); n != MAP_NONE;
         n = map_next(&s->tcp_by_id, &it))
        if (tcp_at(s, n)->id == id)
            return tcp_at(s, n);
    return NULL;
}

/* One that nobody has. */
static uint32_t make_id(struct turn_server *s)
{
    uint32_t id;
    do {
        s->io->ops->random(s->io, &id, sizeof id);
        id = (uint32_t)s->worker << ID_BITS | (id & ((UINT32_C(1) << ID_BITS) - 1));
    } while (find_id(s, id));
    return id;
}

/* ---- our own addresses: named by the external IP, reached by the bound one ---- */

bool turn_tcp_is(const struct turn_server *s, struct turn_port port, const struct addr *peer)
{
    const struct turn_relay_ip *relay = &s->config->relays[port.relay];
    return peer->port == port.port &&
           (addr_ip_eq(&relay->external, peer) || addr_ip_eq(&relay->bind, peer));
}

/* The relay address on whose TCP port the peer is a relayed one; NULL: none. */
static const struct turn_relay_ip *relayed_on(const struct turn_server *s, const struct addr *peer)
{
    for (uint8_t i = 0; i < s->config->relay_count; i++) {
        struct turn_port port = {.relay = i, .tcp = true, .port = peer->port};
        if (turn_tcp_is(s, port, peer) && turn_commons_port_used(s->commons, port))
            return &s->config->relays[i];
    }
    return NULL;
}

bool turn_tcp_relayed(const struct turn_server *s, const struct addr *peer)
{
    return relayed_on(s, peer) != NULL;
}

static struct addr reached_at(const struct turn_server *s, const struct addr *peer)
{
    const struct turn_relay_ip *relay = relayed_on(s, peer);
    struct addr at = *peer;
    if (relay)
        memcpy(at.ip, relay->bind.ip, sizeof at.ip);
    return at;
}

static struct addr named(const struct turn_server *s, const struct addr *peer)
{
    const struct turn_relay_ip *relay = relayed_on(s, peer);
    struct addr name = *peer;
    if (relay)
        memcpy(name.ip, relay->external.ip, sizeof name.ip);
    return name;
}

/* ---- coming and going ---- */

uint32_t turn_tcp_count(const struct turn_server *s, const struct turn_alloc *a)
{
    uint32_t count = 0;
    for (uint32_t n = a->tcps; n != SLAB_NONE; n = tcp_at(s, n)->next)
        count++;
    return count;
}

static bool enter(struct turn_server *s)
{
    s->io->ops->lock(s->io);
    enum ct_err err = turn_commons_enter_tcp(s->commons);
    s->io->ops->unlock(s->io);
    return err == CT_OK;
}

static void leave(struct turn_server *s)
{
    s->io->ops->lock(s->io);
    turn_commons_leave_tcp(s->commons);
    s->io->ops->unlock(s->io);
}

/* A connection of the allocation's, without a pipe yet; NULL when there is no room. */
static struct turn_tcp *make(struct turn_server *s, struct turn_alloc *a, const struct addr *peer)
{
    if (turn_tcp_count(s, a) >= s->config->allocation_tcp_peers || !slab_left(&s->tcps) ||
        !enter(s))
        return NULL;
    uint32_t n = slab_take(&s->tcps);
    struct turn_tcp *t = tcp_at(s, n);
    t->id = make_id(s);
    t->peer = *peer;
    t->alloc = turn_alloc_number(s, a);
    t->next = a->tcps;
    a->tcps = n;
    map_put(&s->tcp_by_id, id_hash(s, t->id), n);
    return t;
}

/* Forgets a connection whose pipe is gone or never was. */
static void forget(struct turn_server *s, struct turn_tcp *t)
{
    struct turn_alloc *a = owner(s, t);
    uint32_t n = number_of(s, t), *link = &a->tcps;
    while (*link != n)
        link = &tcp_at(s, *link)->next;
    *link = t->next;
    deadline_clear(&s->wheel, &t->deadline);
    map_remove(&s->tcp_by_id, id_hash(s, t->id), n);
    crypto_wipe(&t->connect.key, sizeof t->connect.key);
    slab_give(&s->tcps, n);
    leave(s);
}

static void drop(struct turn_server *s, struct turn_tcp *t)
{
    s->io->ops->tcp_close(s->io, t->pipe);
    forget(s, t);
}

void turn_tcp_drop_all(struct turn_server *s, struct turn_alloc *a)
{
    while (a->tcps != SLAB_NONE)
        drop(s, tcp_at(s, a->tcps));
}

void turn_tcp_drop_family(struct turn_server *s, struct turn_alloc *a, uint8_t family)
{
    for (uint32_t n = a->tcps, next; n != SLAB_NONE; n = next) {
        next = tcp_at(s, n)->next;
        if (tcp_at(s, n)->peer.family == family)
            drop(s, tcp_at(s, n));
    }
}

/* The allocation's connection with this peer; NULL when there is none. */
static struct turn_tcp *find_peer(const struct turn_server *s, const struct turn_alloc *a,
                                  const struct addr *peer)
{
    for (uint32_t n = a->tcps; n != SLAB_NONE; n = tcp_at(s, n)->next)
        if (addr_eq(&tcp_at(s, n)->peer, peer))
            return tcp_at(s, n);
    return NULL;
}

/* ---- Connect (RFC 6062 §5.2) ---- */

/* What its Connect request has waited for. */
static void answer(struct turn_server *s, struct turn_tcp *t, bool connected)
{
    struct turn_resumed connect;
    const struct turn_request *r = &connect.request;
    turn_reply_resume(&connect, &t->connect, &owner(s, t)->tuple);
    if (connected) {
        struct wbuf w = turn_reply_begin(s, r, STUN_SUCCESS);
        stun_put_u32(&w, STUN_ATTR_CONNECTION_ID, t->id);
        turn_reply_send(s, r, &w);
        turn_count(&s->counters, TURN_N_TCP_CONNECTED, 1);
    } else {
        turn_reply_error(s, r, STUN_CONNECTION_FAILED);
        turn_count(&s->counters, TURN_N_TCP_FAILED, 1);
    }
    turn_reply_end(&connect, &t->connect);
}

void turn_tcp_enforce(struct turn_server *s, struct turn_alloc *a)
{
    for (uint32_t n = a->tcps, next; n != SLAB_NONE; n = next) {
        struct turn_tcp *t = tcp_at(s, n);
        next = t->next;
        if (turn_rule_allows(turn_policy_match(&s->config->policy, &t->peer)) ||
            turn_tcp_relayed(s, &t->peer))
            continue;
        if (t->state == TURN_TCP_CONNECTING)
            answer(s, t, false);
        drop(s, t);
    }
}

static enum stun_error check(struct turn_server *s, const struct turn_request *r, struct addr *peer)
{
    if (!turn_alloc_tcp(r->alloc))
        return STUN_FORBIDDEN;
    if (stun_msg_addr(r->msg, STUN_ID_XOR_PEER_ADDRESS, peer) != CT_OK || peer->port == 0)
        return STUN_BAD_REQUEST;
    if (find_peer(s, r->alloc, peer))
        return STUN_CONNECTION_EXISTS;
    return turn_peer_tcp_check(s, r, peer);
}

/* Begins to connect; 0 when the answer has to wait. */
static enum stun_error begin(struct turn_server *s, const struct turn_request *r,
                             const struct addr *peer)
{
    struct turn_tcp *t = make(s, r->alloc, peer);
    struct addr at = reached_at(s, peer);
    if (!t)
        return STUN_INSUFFICIENT_CAPACITY;
    turn_reply_defer(&t->connect, r);
    const struct turn_place *from = turn_place_of(s, r->alloc, peer->family, r->now);
    enum ct_err err =
        s->io->ops->tcp_connect(s->io, from->acceptor, &at, number_of(s, t), &t->pipe);
    if (err == CT_OK) {
        deadline_set(&s->wheel, &t->deadline, r->now.ms + TURN_TCP_CONNECT_MS);
        return 0;
    }
    forget(s, t);
    return err == CT_ENOSPACE ? STUN_INSUFFICIENT_CAPACITY : STUN_CONNECTION_FAILED;
}

void turn_connect(struct turn_server *s, struct turn_request *r)
{
    struct addr peer;
    enum stun_error code = check(s, r, &peer);
    if (!code)
        code = begin(s, r, &peer);
    if (code == STUN_CONNECTION_FAILED)
        turn_count(&s->counters, TURN_N_TCP_FAILED, 1);
    if (code)
        turn_reply_error(s, r, code);
}

/* From now on the client has half a minute to bind it. */
static void wait_for_bind(struct turn_server *s, struct turn_tcp *t, struct turn_now now)
{
    t->state = TURN_TCP_PENDING;
    deadline_set(&s->wheel, &t->deadline, now.ms + TURN_TCP_BIND_MS);
}

void turn_server_connected(struct turn_server *s, uint32_t tcp, bool connected, struct turn_now now)
{
    struct turn_tcp *t = tcp_at(s, tcp);
    answer(s, t, connected);
    if (connected)
        wait_for_bind(s, t, now);
    else
        forget(s, t);
}

/* ---- ConnectionAttempt (RFC 6062 §5.3) ---- */

static void attempt(struct turn_server *s, const struct turn_alloc *a, const struct turn_tcp *t)
{
    struct wbuf w = wbuf_of(s->io->ops->reserve(s->io, TURN_REPLY_MAX), TURN_REPLY_MAX);
    uint8_t tid[STUN_TID_SIZE];
    s->io->ops->random(s->io, tid, sizeof tid);
    stun_begin(&w, stun_type(STUN_CONNECTION_ATTEMPT, STUN_INDICATION), tid);
    stun_put_xaddr(&w, STUN_ATTR_XOR_PEER_ADDRESS, &t->peer);
    stun_put_u32(&w, STUN_ATTR_CONNECTION_ID, t->id);
    struct turn_out out = {.head = span_of(w.data, w.pos)};
    s->io->ops->to_client(s->io, &a->tuple, &out);
}

static struct turn_tcp *accept(struct turn_server *s, struct turn_alloc *a, const struct addr *peer,
                               struct turn_now now)
{
    uint32_t perm = turn_perm_find(s, a, peer, now);
    if (!turn_alloc_live(a, now) || !turn_place_of(s, a, peer->family, now) || perm == SLAB_NONE ||
        (turn_perm_at(s, perm)->own && !turn_tcp_relayed(s, peer)))
        return NULL;
    /* The peer's system has used its address again: what was there is over, if not yet seen. */
    struct turn_tcp *old = find_peer(s, a, peer);
    if (old)
        drop(s, old);
    return make(s, a, peer);
}

uint32_t turn_server_accepted(struct turn_server *s, uint32_t alloc, const struct addr *peer,
                              struct turn_pipe *pipe, struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_at(s, alloc);
    struct addr from = named(s, peer);
    struct turn_tcp *t = accept(s, a, &from, now);
    turn_count(&s->counters, t ? TURN_N_TCP_ACCEPTED : TURN_N_TCP_REFUSED, 1);
    if (!t)
        return TURN_TCP_NONE;
    t->pipe = pipe;
    wait_for_bind(s, t, now);
    attempt(s, a, t);
    return number_of(s, t);
}

/* ---- ConnectionBind (RFC 6062 §5.4) ---- */

static bool read_id(const struct turn_request *r, uint32_t *id)
{
    return turn_tcp_carries(r->tuple) && stun_msg_u32(r->msg, STUN_ID_CONNECTION_ID, id) == CT_OK;
}

bool turn_tcp_find(struct turn_server *s, struct turn_request *r)
{
    uint32_t id;
    bool protected = stun_msg_has(r->msg, STUN_ID_MESSAGE_INTEGRITY) ||
                     stun_msg_has(r->msg, STUN_ID_MESSAGE_INTEGRITY_SHA256);
    if (r->msg->method != STUN_CONNECTION_BIND || r->alloc || !protected || !read_id(r, &id))
        return false;
    if (id >> ID_BITS != s->worker)
        return s->io->ops->tcp_hand_over(s->io, id >> ID_BITS, r->tuple);
    struct turn_tcp *t = find_id(s, id);
    if (t)
        r->alloc = owner(s, t);
    return false;
}

/* 0 and the connection, when it waits for this client. */
static enum stun_error find_pending(struct turn_server *s, const struct turn_request *r,
                                    struct turn_tcp **out)
{
    uint32_t id;
    if (!read_id(r, &id) || turn_alloc_find(s, r->tuple, r->now))
        return STUN_BAD_REQUEST;
    struct turn_tcp *t = find_id(s, id);
    if (!t || t->state != TURN_TCP_PENDING || t->deadline.at <= r->now.ms ||
        !turn_alloc_live(owner(s, t), r->now))
        return STUN_BAD_REQUEST;
    *out = t;
    return span_eq(turn_alloc_username(s, owner(s, t)), r->auth.username) ? (enum stun_error)0
                                                                          : STUN_WRONG_CREDENTIALS;
}

void turn_connection_bind(struct turn_server *s, struct turn_request *r)
{
    struct turn_tcp *t;
    enum stun_error code = find_pending(s, r, &t);
    if (code) {
        turn_reply_error(s, r, code);
        return;
    }
    t->state = TURN_TCP_BOUND;
    deadline_clear(&s->wheel, &t->deadline);
    turn_count(&s->counters, TURN_N_TCP_BOUND, 1);
    turn_reply_ok(s, r);
    s->io->ops->tcp_join(s->io, t->pipe, r->tuple);
}

/* ---- what becomes of it ---- */

void turn_server_tcp_moved(struct turn_server *s, uint32_t tcp, uint64_t up, uint64_t down)
{
    struct turn_alloc *a = owner(s, tcp_at(s, tcp));
    a->up_bytes += up;
    a->down_bytes += down;
    turn_count(&s->counters, TURN_N_UP_BYTES, up);
    turn_count(&s->counters, TURN_N_DOWN_BYTES, down);
}

void turn_server_tcp_gone(struct turn_server *s, uint32_t tcp)
{
    forget(s, tcp_at(s, tcp));
}

bool turn_tcp_due(struct turn_server *s, struct deadline *d, struct turn_now now)
{
    if (!slab_has(&s->tcps, d))
        return false;
    struct turn_tcp *t = (struct turn_tcp *)(void *)d;
    if (t->state == TURN_TCP_CONNECTING && turn_alloc_live(owner(s, t), now))
        answer(s, t, false);
    else
        turn_count(&s->counters, TURN_N_TCP_UNBOUND, 1);
    drop(s, t);
    return true;
}
