#include "core/turn_perm.h"

#include "core/turn_alloc.h"
#include "core/turn_chan.h"
#include "core/turn_place.h"
#include "core/turn_reply.h"
#include "core/turn_tcp.h"

static uint32_t *bucket(const struct turn_server *s, struct turn_alloc *a, const struct addr *peer)
{
    return &a->perms[hash_bytes(&s->seed, peer->ip, sizeof peer->ip) % TURN_BUCKETS];
}

/* The permission for this IP whether live or not. */
static uint32_t find_any(const struct turn_server *s, const struct turn_alloc *a,
                         const struct addr *peer)
{
    size_t at = hash_bytes(&s->seed, peer->ip, sizeof peer->ip) % TURN_BUCKETS;
    for (uint32_t n = a->perms[at]; n != SLAB_NONE; n = turn_perm_at(s, n)->next)
        if (addr_ip_eq(&turn_perm_at(s, n)->peer, peer))
            return n;
    return SLAB_NONE;
}

uint32_t turn_perm_find(const struct turn_server *s, const struct turn_alloc *a,
                        const struct addr *peer, struct turn_now now)
{
    uint32_t n = find_any(s, a, peer);
    return n != SLAB_NONE && turn_perm_at(s, n)->expires_ms > now.ms ? n : SLAB_NONE;
}

/* ---- our own addresses ---- */

bool turn_own_ip(const struct turn_server *s, const struct addr *peer)
{
    for (size_t i = 0; i < s->config->relay_count; i++) {
        const struct turn_relay_ip *relay = &s->config->relays[i];
        if (addr_ip_eq(&relay->external, peer) || addr_ip_eq(&relay->bind, peer))
            return true;
    }
    return false;
}

/* Several relay IPs may be announced as one: then it is the one where somebody is bound. */
bool turn_own_bound(const struct turn_server *s, const struct addr *peer, struct turn_port *port,
                    struct turn_owner *owner)
{
    for (uint8_t i = 0; i < s->config->relay_count; i++) {
        const struct turn_relay_ip *relay = &s->config->relays[i];
        if (!addr_ip_eq(&relay->external, peer) && !addr_ip_eq(&relay->bind, peer))
            continue;
        *port = (struct turn_port){.relay = i, .port = peer->port};
        if (turn_commons_owner(s->commons, *port, owner))
            return true;
    }
    return false;
}

/*
 * One of our own relay IPs can always be a peer, since two of our clients may be each other's
 * peers, but then only on relayed ports. When the operator allows it by prefix it is like any
 * other, but not where nothing else is a peer.
 */
static bool only_own_ports(const struct turn_server *s, const struct addr *peer)
{
    const struct turn_rule *rule = turn_policy_match(&s->config->policy, peer);
    return turn_own_ip(s, peer) &&
           (turn_config_closed(s->config) || !(rule && rule->kind == TURN_RULE_ALLOW));
}

/* An IP of the relay itself, also by way of a NAT64 (RFC 8656 §21.1.4). */
static bool is_own(const struct turn_server *s, const struct addr *peer)
{
    struct addr at = addr_canonical(peer);
    for (size_t i = 0; i < s->config->own_count; i++)
        if (addr_ip_eq(&s->config->own[i], &at))
            return true;
    return false;
}

/* What no rule is about may be reached, but for ourselves. */
static bool refuses(const struct turn_server *s, const struct addr *peer,
                    const struct turn_rule *rule)
{
    return rule ? !turn_rule_allows(rule) : is_own(s, peer);
}

static bool allowed(const struct turn_server *s, const struct addr *peer,
                    const struct turn_rule *rule)
{
    return only_own_ports(s, peer) || (!turn_config_closed(s->config) && !refuses(s, peer, rule));
}

/* None of our relay IPs, where nobody else can be a peer. */
static bool foreign(const struct turn_server *s, const struct addr *peer)
{
    return turn_config_closed(s->config) && !turn_own_ip(s, peer);
}

/* What refuses a peer that no rule refuses. */
static const char *forbidding(const struct turn_server *s, const struct addr *peer)
{
    if (!foreign(s, peer))
        return "own_address";
    return s->config->switched ? "switch_mode" : "admission";
}

/* 403, told to the operator with the rule that refuses. */
static enum stun_error forbid(struct turn_server *s, const struct turn_request *r,
                              const struct addr *peer, const struct turn_rule *rule)
{
    struct turn_alloc_info info = turn_alloc_describe(s, r->alloc, r->now);
    struct turn_event event = {
        .kind = TURN_EV_PEER_FORBIDDEN,
        .alloc = &info,
        .tuple = r->tuple,
        .username = info.username,
        .peer = peer,
        .rule = rule,
        .reason = rule ? NULL : forbidding(s, peer),
    };
    s->io->ops->event(s->io, &event);
    return STUN_FORBIDDEN;
}

enum stun_error turn_peer_check(struct turn_server *s, const struct turn_request *r,
                                const struct addr *peer)
{
    if (!turn_place_of(s, r->alloc, peer->family, r->now))
        return STUN_PEER_FAMILY_MISMATCH;
    const struct turn_rule *rule = turn_policy_match(&s->config->policy, peer);
    if (allowed(s, peer, rule))
        return 0;
    return forbid(s, r, peer, turn_rule_allows(rule) ? NULL : rule);
}

enum stun_error turn_peer_port_check(struct turn_server *s, const struct turn_request *r,
                                     const struct addr *peer)
{
    enum stun_error code = turn_peer_check(s, r, peer);
    if (code || !only_own_ports(s, peer))
        return code;
    struct turn_port port;
    struct turn_owner owner;
    return turn_own_bound(s, peer, &port, &owner) ? 0 : forbid(s, r, peer, NULL);
}

enum stun_error turn_peer_tcp_check(struct turn_server *s, const struct turn_request *r,
                                    const struct addr *peer)
{
    enum stun_error code = turn_peer_check(s, r, peer);
    const struct turn_place *from = turn_place_of(s, r->alloc, peer->family, r->now);
    if (!code && turn_tcp_is(s, from->port, peer)) /* it would be connected with itself */
        return forbid(s, r, peer, NULL);
    if (code || !only_own_ports(s, peer))
        return code;
    return turn_tcp_relayed(s, peer) ? 0 : forbid(s, r, peer, NULL);
}

/* ---- installing and dropping ---- */

static void unlink_perm(struct turn_server *s, struct turn_alloc *a, uint32_t number)
{
    uint32_t *link = bucket(s, a, &turn_perm_at(s, number)->peer);
    while (*link != number)
        link = &turn_perm_at(s, *link)->next;
    *link = turn_perm_at(s, number)->next;
    turn_chan_drop_of(s, a, number);
    slab_give(&s->perms, number);
    a->perm_count--;
}

void turn_perm_drop_all(struct turn_server *s, struct turn_alloc *a)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++)
        while (a->perms[i] != SLAB_NONE)
            unlink_perm(s, a, a->perms[i]);
}

void turn_perm_drop_family(struct turn_server *s, struct turn_alloc *a, uint8_t family)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++) {
        for (uint32_t n = a->perms[i], next; n != SLAB_NONE; n = next) {
            next = turn_perm_at(s, n)->next;
            if (turn_perm_at(s, n)->peer.family == family)
                unlink_perm(s, a, n);
        }
    }
}

void turn_perm_enforce(struct turn_server *s, struct turn_alloc *a)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++) {
        for (uint32_t n = a->perms[i], next; n != SLAB_NONE; n = next) {
            struct turn_perm *p = turn_perm_at(s, n);
            next = p->next;
            p->own = only_own_ports(s, &p->peer);
            if (!allowed(s, &p->peer, turn_policy_match(&s->config->policy, &p->peer)))
                unlink_perm(s, a, n);
        }
    }
    turn_tcp_enforce(s, a);
}

/* Forgets what has expired and carries no channel that is bound or in quarantine. */
static void sweep(struct turn_server *s, struct turn_alloc *a, struct turn_now now)
{
    turn_chan_sweep(s, a, now);
    for (size_t i = 0; i < TURN_BUCKETS; i++) {
        for (uint32_t n = a->perms[i], next; n != SLAB_NONE; n = next) {
            next = turn_perm_at(s, n)->next;
            if (turn_perm_at(s, n)->expires_ms <= now.ms && !turn_chan_uses(s, a, n))
                unlink_perm(s, a, n);
        }
    }
}

bool turn_perm_room(struct turn_server *s, struct turn_alloc *a, size_t more, struct turn_now now)
{
    if (a->perm_count + more > s->config->max_permissions || slab_left(&s->perms) < more)
        sweep(s, a, now);
    return a->perm_count + more <= s->config->max_permissions && slab_left(&s->perms) >= more;
}

static void tell(struct turn_server *s, const struct turn_alloc *a, const struct turn_perm *p,
                 struct turn_now now)
{
    struct turn_alloc_info info = turn_alloc_describe(s, a, now);
    struct turn_event event = {.kind = TURN_EV_PERMISSION_CREATED,
                               .alloc = &info,
                               .tuple = &a->tuple,
                               .username = info.username,
                               .peer = &p->peer};
    s->io->ops->event(s->io, &event);
}

uint32_t turn_perm_install(struct turn_server *s, struct turn_alloc *a, const struct addr *peer,
                           struct turn_now now)
{
    uint32_t n = find_any(s, a, peer);
    if (n == SLAB_NONE) {
        if (!turn_perm_room(s, a, 1, now))
            return SLAB_NONE;
        n = slab_take(&s->perms);
        struct turn_perm *fresh = turn_perm_at(s, n);
        uint32_t *head = bucket(s, a, peer);
        fresh->peer = *peer;
        fresh->peer.port = 0;
        fresh->ours = turn_own_ip(s, peer);
        fresh->own = only_own_ports(s, peer);
        fresh->next = *head;
        *head = n;
        a->perm_count++;
    }
    struct turn_perm *p = turn_perm_at(s, n);
    bool fresh = p->expires_ms <= now.ms; /* or as good as */
    p->expires_ms = now.ms + (uint64_t)s->config->permission_lifetime * 1000;
    turn_count(&s->counters, TURN_N_PERMISSIONS, 1);
    if (fresh && s->config->permission_events)
        tell(s, a, p, now);
    return n;
}

/* ---- CreatePermission ---- */

/* Reads the next XOR-PEER-ADDRESS that counts; false at the end, CT_EVALUE in *err when malformed.
 */
static bool next_peer(const struct stun_msg *m, uint32_t *pos, struct addr *peer, enum ct_err *err)
{
    struct stun_attr attr;
    *err = CT_OK;
    while (*pos < m->attrs_end && stun_msg_next(m, pos, &attr)) {
        if (attr.type != STUN_ATTR_XOR_PEER_ADDRESS)
            continue;
        *err = stun_addr_decode(attr.value, true, stun_msg_tid(m), peer);
        return true;
    }
    return false;
}

/*
 * Checks every peer before anything is installed; 0 when all may be, and how many are new. A list
 * that is longer than what could be installed is not read to its end: over a stream a request has
 * room for thousands.
 */
static enum stun_error check_peers(struct turn_server *s, struct turn_request *r, size_t *fresh)
{
    struct addr peer;
    enum ct_err err;
    uint32_t pos = STUN_HEADER_SIZE, listed = 0;
    *fresh = 0;
    if (!stun_msg_has(r->msg, STUN_ID_XOR_PEER_ADDRESS))
        return STUN_BAD_REQUEST;
    while (next_peer(r->msg, &pos, &peer, &err)) {
        if (err != CT_OK)
            return STUN_BAD_REQUEST;
        if (++listed > s->config->max_permissions)
            return STUN_INSUFFICIENT_CAPACITY;
        enum stun_error code = turn_peer_check(s, r, &peer);
        if (code)
            return code;
        *fresh += find_any(s, r->alloc, &peer) == SLAB_NONE;
    }
    return 0;
}

void turn_create_permission(struct turn_server *s, struct turn_request *r)
{
    size_t fresh;
    enum stun_error code = check_peers(s, r, &fresh);
    if (!code && !turn_perm_room(s, r->alloc, fresh, r->now))
        code = STUN_INSUFFICIENT_CAPACITY;
    if (code) {
        turn_reply_error(s, r, code);
        return;
    }
    struct addr peer;
    enum ct_err err;
    uint32_t pos = STUN_HEADER_SIZE;
    while (next_peer(r->msg, &pos, &peer, &err))
        (void)turn_perm_install(s, r->alloc, &peer, r->now);
    turn_reply_ok(s, r);
}
