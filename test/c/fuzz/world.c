#include "world.h"

#include "core/turn_admission.h"
#include "core/turn_alloc.h"
#include "core/turn_frame.h"
#include "core/turn_state.h"
#include "exact.h"

static struct world *world_of(struct turn_io *io)
{
    return (struct world *)(void *)io; /* the first member */
}

/* ---- effects ---- */

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    struct world *w = world_of(io);
    MUST(!w->locked && size <= TURN_RESERVE_MAX);
    memset(w->reserved, 0xEE, sizeof w->reserved);
    return w->reserved;
}

static bool within(struct span s, const uint8_t *start, size_t len)
{
    return start && s.data >= start && s.data <= start + len &&
           s.len <= len - (size_t)(s.data - start);
}

static void check_lies_well(const struct world *w, const struct turn_out *out)
{
    MUST(within(out->head, w->reserved, sizeof w->reserved));
    MUST(!out->body.data || within(out->body, w->packet.data, w->packet.len));
    MUST(out->body.data || (out->body.len == 0 && out->pad == 0));
    MUST(out->pad <= 3);
}

/* Only responses, Data indications and ChannelData leave, and all of them are well-formed. */
static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    struct world *w = world_of(io);
    uint8_t bytes[sizeof w->reply];
    struct wbuf whole = wbuf_of(bytes, sizeof bytes);
    struct stun_msg m;
    struct turn_channel_data cd;
    turn_out_put(&whole, out);
    struct span data = span_of(bytes, whole.pos);
    /* data between two relayed addresses comes with a client's packet */
    bool from_peer = w->from_peer || (w->config->pair && out->body.data);
    MUST(!w->locked && to->client.port && data.len && !whole.failed);
    check_lies_well(w, out);
    if (turn_frame_kind(data.data[0]) == TURN_FRAME_CHANNEL) {
        MUST(from_peer && turn_channel_data_decode(data.data, data.len, &cd) == CT_OK);
        MUST(data.len == STUN_CHANNEL_HEADER_SIZE + cd.data.len);
        return;
    }
    enum ct_err err = stun_msg_decode(&m, data.data, data.len, NULL);
    if (err == CT_ECOOKIE && w->config->classic_stun && !from_peer)
        err = stun_msg_decode_classic(&m, data.data, data.len);
    MUST(err == CT_OK);
    if (m.type == stun_type(STUN_CONNECTION_ATTEMPT, STUN_INDICATION)) {
        MUST(w->attempted && to->transport == TURN_TCP);
        return;
    }
    MUST(from_peer ? m.type == stun_type(STUN_DATA, STUN_INDICATION)
                   : m.cls == STUN_SUCCESS || m.cls == STUN_ERROR);
    MUST(from_peer || data.len <= TURN_RESERVE_MAX);
    memcpy(w->reply, data.data, data.len);
    w->reply_len = data.len;
}

/* A relayed transport address of ours; one that is only reserved is none. */
static bool is_own_port(const struct world *w, const struct addr *a)
{
    struct turn_owner owner;
    for (uint8_t i = 0; i < w->config->relay_count; i++)
        if (addr_ip_eq(&w->config->relays[i].bind, a) &&
            turn_commons_owner(w->commons, (struct turn_port){.relay = i, .port = a->port}, &owner))
            return true;
    return false;
}

/* Nothing is sent to where the policy in force forbids it, but to our own relayed ports. */
static void io_to_peer(struct turn_io *io, struct turn_relay *from, const struct addr *to,
                       struct span data, unsigned flags)
{
    struct world *w = world_of(io);
    MUST(!w->locked && !w->from_peer && !w->config->switched && from->open);
    MUST(to->family == from->at.family && (flags & ~(unsigned)TURN_DONT_FRAGMENT) == 0);
    MUST(within(data, w->packet.data, w->packet.len));
    MUST(turn_rule_allows(turn_policy_match(&w->config->policy, to)) || is_own_port(w, to));
}

static bool port_is_open(const struct world *w, const struct addr *at)
{
    for (size_t i = 0; i < WORLD_RELAYS; i++)
        if (w->relays[i].open && addr_eq(&w->relays[i].at, at))
            return true;
    return false;
}

static enum ct_err io_relay_open(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_relay **out)
{
    struct world *w = world_of(io);
    MUST(!w->locked && alloc < WORLD_ALLOCATIONS && !port_is_open(w, at));
    MUST(!w->config->switched);
    MUST(at->port >= WORLD_PORT_MIN && at->port <= WORLD_PORT_MAX);
    if (w->refuse_ports) {
        w->refuse_ports--;
        return w->refuse_with;
    }
    for (size_t i = 0; i < WORLD_RELAYS; i++) {
        if (w->relays[i].open)
            continue;
        w->relays[i] = (struct turn_relay){.at = *at, .alloc = alloc, .open = true};
        w->open++;
        *out = &w->relays[i];
        return CT_OK;
    }
    abort(); /* more relays than ports */
}

static void io_relay_close(struct turn_io *io, struct turn_relay *relay)
{
    struct world *w = world_of(io);
    MUST(!w->locked && relay->open);
    relay->open = false;
    w->open--;
}

static void io_random(struct turn_io *io, void *out, size_t n)
{
    struct world *w = world_of(io);
    uint8_t *p = out;
    while (n--) {
        w->random_state = w->random_state * 6364136223846793005u + 1442695040888963407u;
        *p++ = (uint8_t)(w->random_state >> 56);
    }
}

/* There is one worker, and nobody else makes tickets. */
static void io_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple,
                         struct span packet)
{
    (void)io;
    (void)worker;
    (void)tuple;
    (void)packet;
    abort();
}

static void io_hand_over_gone(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple)
{
    (void)io;
    (void)worker;
    (void)tuple;
}

static void io_pair_over(struct turn_io *io, unsigned worker, const struct turn_pair *pair)
{
    (void)io;
    (void)worker;
    (void)pair;
    abort();
}

static void io_event(struct turn_io *io, const struct turn_event *event)
{
    struct world *w = world_of(io);
    MUST(!w->locked);
    MUST((event->kind == TURN_EV_AUTH_FAILED || event->kind == TURN_EV_ADMISSION_REFUSED) ==
         (event->alloc == NULL));
    MUST(event->kind != TURN_EV_AUTH_FAILED || event->reason);
    MUST(event->kind != TURN_EV_PEER_FORBIDDEN || !event->rule == !!event->reason);
    MUST((event->kind == TURN_EV_PEER_FORBIDDEN || event->kind == TURN_EV_PERMISSION_CREATED) ==
         (event->peer != NULL));
    w->created += event->kind == TURN_EV_ALLOCATION_CREATED;
    w->ended += event->kind == TURN_EV_ALLOCATION_ENDED;
}

static void io_lock(struct turn_io *io)
{
    MUST(!world_of(io)->locked);
    world_of(io)->locked = true;
}

static void io_unlock(struct turn_io *io)
{
    MUST(world_of(io)->locked);
    world_of(io)->locked = false;
}

static const struct turn_io_ops ops = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .to_peer = io_to_peer,
    .relay_open = io_relay_open,
    .relay_close = io_relay_close,
    .random = io_random,
    .hand_over = io_hand_over,
    .hand_over_gone = io_hand_over_gone,
    .pair_over = io_pair_over,
    .event = io_event,
    .lock = io_lock,
    .unlock = io_unlock,
    .tcp_listen = world_tcp_listen,
    .tcp_unlisten = world_tcp_unlisten,
    .tcp_connect = world_tcp_connect,
    .tcp_join = world_tcp_join,
    .tcp_close = world_tcp_close,
    .tcp_hand_over = world_tcp_hand_over,
};

/* ---- life ---- */

static struct addr addr_of(const char *text)
{
    struct addr a;
    MUST(addr_parse(text, strlen(text), &a) == CT_OK);
    return a;
}

static void rule(struct turn_config *c, const char *text, enum turn_rule_kind kind)
{
    struct addr_prefix p;
    MUST(addr_prefix_parse(text, strlen(text), &p) == CT_OK);
    MUST(turn_policy_add(&c->policy, &p, kind) == CT_OK);
}

struct turn_token_key world_token_key(void)
{
    return (struct turn_token_key){.kid = "keys",
                                   .kid_len = 4,
                                   .key = "a key of 32 bytes, shared by two",
                                   .key_len = 32,
                                   .until = UINT64_MAX};
}

static void fill_config(struct turn_config *c, uint8_t flavour)
{
    turn_config_defaults(c);
    snprintf(c->realm, sizeof c->realm, "example.org");
    c->secrets[0] = (struct turn_secret){.bytes = "north", .len = 5};
    c->secret_count = 1;
    c->relays[0].bind = addr_of("192.0.2.1");
    c->relays[0].external = addr_of(flavour & 1 ? "203.0.113.1" : "192.0.2.1");
    c->relays[1].bind = c->relays[1].external = addr_of("2001:db8::1");
    c->relay_count = 2;
    c->port_min = WORLD_PORT_MIN;
    c->port_max = WORLD_PORT_MAX;
    c->max_allocations = WORLD_ALLOCATIONS;
    c->max_permissions = flavour & 2 ? 2 : 6;
    c->max_channels = flavour & 4 ? 2 : 6;
    c->user_quota = flavour & 8 ? 2 : 0;
    c->challenge_rate = flavour & 16 ? 1 : 0;
    c->userhashes = flavour & 32 ? 3 : 0;
    c->permission_events = flavour & 64;
    c->mobility = flavour & 64;
    c->pair = !(flavour & 16) || (flavour & 2);
    c->switched = (flavour & 18) == 18;
    if ((flavour & 40) == 40)
        c->admission = flavour & 2 ? TURN_ADMISSION_ROOM : TURN_ADMISSION_PRESENCE;
    c->max_grants = 12; /* not enough for two users in all rooms that they can be in */
    c->discovery.on = flavour & 128;
    for (uint32_t i = 0; i < TURN_DISCOVERY_PLACES; i++) {
        c->discovery.at[i] = addr_of(i & TURN_OTHER_IP ? "192.0.2.2" : "192.0.2.1");
        c->discovery.at[i].port = i & TURN_OTHER_PORT ? 3479 : 3478;
        c->discovery.link[i] = i;
    }
    c->challenge_burst = 3;
    c->max_tcp_peers = WORLD_PIPES;
    c->allocation_tcp_peers = WORLD_PIPES_EACH;
    memset(c->nonce_key, 7, sizeof c->nonce_key);
    rule(c, "198.51.100.0/24", TURN_RULE_ALLOW);
    rule(c, "2001:db8:1::/48", TURN_RULE_ALLOW);
}

void world_open(struct world *w, uint8_t flavour)
{
    static struct crypto *crypto; /* made once: a fuzzer runs one input after the other */
    if (!crypto)
        crypto = crypto_new();
    *w = (struct world){.crypto = crypto, .config = w->configs, .random_state = 42};
    w->io.ops = &ops;
    w->now = (struct turn_now){.ms = 5000000, .unix_s = 1700000000};
    for (size_t i = 0; i < 2; i++)
        fill_config(&w->configs[i], flavour);
    w->configs[0].oauth_keys[0] = world_token_key();
    w->configs[0].oauth_key_count = w->configs[0].admission == TURN_ADMISSION_OFF;
    w->configs[0].classic_stun = true;
    struct turn_config *other = &w->configs[1];
    snprintf(other->realm, sizeof other->realm, "example.net");
    other->secrets[1] = (struct turn_secret){.bytes = "south", .len = 5};
    other->secret_count = 2;
    other->lifetime_max = 1200;
    other->redirect[0] = addr_of("[2001:db8:2::9]:3478");
    other->redirect_count = flavour & 1 ? 1 : 0; /* for IPv6 clients only */
    rule(other, "198.51.100.7/32", TURN_RULE_DENY);
    MUST(!turn_config_check(&w->configs[0]) && !turn_config_check(other));
    w->commons = turn_commons_new(w->config);
    struct turn_server_setup setup = {
        .config = w->config, .commons = w->commons, .crypto = crypto, .io = &w->io};
    w->server = turn_server_new(&setup, w->now);
    MUST(w->commons && w->server);
}

/* The counts of the commons are zero: there is room again for every allocation, and one user. */
static void check_commons_are_empty(struct world *w)
{
    turn_commons_expire(w->commons, UINT64_MAX);
    for (uint8_t relay = 0; relay < w->config->relay_count; relay++)
        for (uint16_t n = WORLD_PORT_MIN; n <= WORLD_PORT_MAX; n++) {
            struct turn_port port = {.relay = relay, .port = n}, tcp = port;
            struct turn_owner owner;
            tcp.tcp = true;
            MUST(!turn_commons_port_used(w->commons, port));
            MUST(!turn_commons_port_used(w->commons, tcp));
            MUST(!turn_commons_owner(w->commons, port, &owner));
        }
    for (unsigned i = 0; i < WORLD_PIPES; i++)
        MUST(turn_commons_enter_tcp(w->commons) == CT_OK);
    MUST(turn_commons_enter_tcp(w->commons) == CT_ENOSPACE);
    for (uint64_t user = 0; user < WORLD_ALLOCATIONS; user++)
        MUST(turn_commons_enter(w->commons, user, 1) == CT_OK);
    MUST(turn_commons_enter(w->commons, WORLD_ALLOCATIONS, 1) == CT_ENOSPACE);
}

void world_close(struct world *w)
{
    turn_server_free(w->server, w->now);
    MUST(world_tcp_pipes(w) == 0);
    MUST(w->open == 0 && w->created == w->ended && !w->locked);
    check_commons_are_empty(w);
    turn_commons_free(w->commons);
}

/* ---- what comes in ---- */

/* The packet in a heap block of its own, so that the bytes beside it are guarded. */
static struct exact packet_of(struct world *w, struct span bytes)
{
    MUST(bytes.len <= WORLD_PACKET_MAX);
    struct exact e = exact_of(bytes.data, bytes.len, 0);
    w->packet = (struct turn_packet){.data = e.data, .len = e.len};
    w->reply_len = 0;
    return e;
}

/* The engine has only read it. */
static void packet_done(struct world *w, struct exact *e, struct span bytes)
{
    MUST(span_eq(span_of(e->data, e->len), bytes));
    exact_free(e);
    w->packet = (struct turn_packet){.data = NULL};
    w->from_peer = false;
    MUST(!w->locked);
}

void world_from_client(struct world *w, const struct turn_tuple *tuple, struct span bytes)
{
    struct exact e = packet_of(w, bytes);
    turn_server_from_client(w->server, tuple, &w->packet, w->now);
    packet_done(w, &e, bytes);
}

void world_from_peer(struct world *w, const struct turn_relay *relay, const struct addr *peer,
                     struct span bytes)
{
    if (!relay->open)
        return;
    struct exact e = packet_of(w, bytes);
    w->from_peer = true;
    turn_server_from_peer(w->server, relay->alloc, peer, &w->packet, w->now);
    packet_done(w, &e, bytes);
}

void world_icmp(struct world *w, const struct turn_relay *relay, const struct addr *peer,
                const struct turn_icmp *icmp)
{
    if (!relay->open || relay->at.family != peer->family)
        return;
    w->from_peer = true;
    turn_server_icmp(w->server, relay->alloc, peer, icmp, w->now);
    w->from_peer = false;
}

void world_pass(struct world *w, uint64_t ms, bool punctual)
{
    uint64_t end = w->now.ms + ms, start = w->now.ms, unix_s = w->now.unix_s;
    while (punctual && turn_server_deadline(w->server) <= end) {
        uint64_t due = turn_server_deadline(w->server);
        w->now.ms = due > w->now.ms ? due : w->now.ms;
        w->now.unix_s = unix_s + (w->now.ms - start) / 1000;
        turn_server_expire(w->server, w->now);
        MUST(turn_server_deadline(w->server) > w->now.ms);
    }
    w->now.ms = end;
    w->now.unix_s = unix_s + ms / 1000;
}

/* ---- the engine's own tables ---- */

struct totals {
    uint32_t allocs, seconds, moves, perms, chans, names, tcps, waiting, users;
};

static bool has_perm(const struct turn_server *s, const struct turn_alloc *a, uint32_t number)
{
    for (size_t i = 0; i < TURN_BUCKETS; i++)
        for (uint32_t n = a->perms[i]; n != SLAB_NONE; n = turn_perm_at(s, n)->next)
            if (n == number)
                return true;
    return false;
}

/* The lists hold what the counts say; a channel stands on a permission of its own allocation. */
static void check_lists(const struct turn_server *s, const struct turn_alloc *a, struct totals *t)
{
    uint32_t perms = 0, by_number = 0, by_peer = 0;
    for (size_t i = 0; i < TURN_BUCKETS; i++) {
        for (uint32_t n = a->perms[i]; n != SLAB_NONE; n = turn_perm_at(s, n)->next)
            MUST(n < s->perms.fresh && perms++ < a->perm_count);
        for (uint32_t n = a->chans_by_peer[i]; n != SLAB_NONE; n = turn_chan_at(s, n)->next_peer)
            MUST(n < s->chans.fresh && by_peer++ < a->chan_count);
        for (uint32_t n = a->chans_by_number[i]; n != SLAB_NONE;
             n = turn_chan_at(s, n)->next_number) {
            const struct turn_chan *c = turn_chan_at(s, n);
            MUST(n < s->chans.fresh && by_number++ < a->chan_count);
            MUST(has_perm(s, a, c->perm));
            MUST(addr_ip_eq(&turn_perm_at(s, c->perm)->peer, &c->peer));
        }
    }
    MUST(perms == a->perm_count && by_number == a->chan_count && by_peer == a->chan_count);
    t->perms += perms;
    t->chans += by_number;
}

static void check_place(const struct world *w, const struct turn_place *p, uint32_t alloc)
{
    struct turn_owner owner;
    if (p->port.tcp) {
        MUST(p->acceptor->open && p->acceptor->alloc == alloc &&
             p->acceptor->at.port == p->port.port);
        return;
    }
    if (w->config->switched)
        MUST(!p->relay);
    else
        MUST(p->relay->open && p->relay->alloc == alloc && p->relay->at.port == p->port.port);
    MUST(turn_commons_port_used(w->commons, p->port) && p->relayed.port == p->port.port);
    MUST(turn_commons_owner(w->commons, p->port, &owner) && owner.alloc == alloc &&
         owner.worker == 0);
}

/* The other place is of the other family, and never the one that lives longer. */
static void check_second(const struct world *w, const struct turn_alloc *a, uint32_t alloc,
                         struct totals *t)
{
    const struct turn_second *second = slab_at(&w->server->seconds, a->second);
    MUST(second->alloc == alloc && second->deadline.next);
    MUST(second->place.relayed.family != a->place.relayed.family);
    MUST(second->deadline.at <= a->deadline.at);
    check_place(w, &second->place, alloc);
    t->seconds++;
}

/* Whoever has an allocation is admitted, and his rooms are those that he has been admitted to. */
static void check_admitted(const struct world *w, const struct turn_alloc *a, uint32_t alloc)
{
    const struct turn_server *s = w->server;
    const struct turn_grants *grants = turn_commons_grants(w->commons);
    if (!grants)
        return;
    const struct turn_rooms *rooms = turn_grants_of(grants, a->user);
    const struct turn_member *m = slab_at(&s->members, alloc), *next;
    MUST(rooms && turn_commons_busy(w->commons, a->user));
    MUST(w->config->admission != TURN_ADMISSION_ROOM ||
         memcmp(slab_at(&s->rooms, alloc), rooms, sizeof *rooms) == 0);
    if (m->next == SLAB_NONE)
        return;
    next = slab_at(&s->members, m->next);
    MUST(next->previous == alloc && turn_alloc_at(s, m->next)->user == a->user);
}

/* Of each user's allocations the first is in the map. */
static bool is_first(const struct world *w, uint32_t alloc)
{
    const struct turn_member *m = slab_at(&w->server->members, alloc);
    return w->config->admission != TURN_ADMISSION_OFF && m->previous == SLAB_NONE;
}

static void check_tables(const struct world *w)
{
    const struct turn_server *s = w->server;
    struct totals t = {0};
    for (uint32_t n = 0; n < s->allocs.fresh; n++) {
        const struct turn_alloc *a = turn_alloc_at(s, n);
        if (!a->id)
            continue;
        const struct turn_alloc *found = turn_alloc_find(s, &a->tuple, w->now);
        MUST(a->deadline.next);
        check_place(w, &a->place, n);
        if (a->second != SLAB_NONE)
            check_second(w, a, n, &t);
        MUST(found == (turn_alloc_live(a, w->now) ? a : NULL));
        check_lists(s, a, &t);
        check_admitted(w, a, n);
        t.users += is_first(w, n);
        t.allocs++;
        t.tcps += world_tcp_check(w, n);
        t.moves += a->move != SLAB_NONE;
        t.names += a->long_name != SLAB_NONE;
    }
    MUST(t.allocs == s->allocs.used && t.allocs + t.moves == s->by_tuple.used);
    MUST(t.moves == s->moves.used && t.users == s->by_user.used);
    for (size_t i = 0; i < WORLD_PIPES; i++)
        t.waiting += w->pipes[i].state == PIPE_CONNECTING || w->pipes[i].state == PIPE_WAITING;
    MUST(t.tcps == s->tcps.used && t.tcps == world_tcp_pipes(w) && t.tcps == s->tcp_by_id.used);
    MUST(t.seconds == s->seconds.used && t.allocs + t.seconds + t.waiting == s->wheel.count);
    MUST((w->config->switched ? 0 : t.allocs + t.seconds) == w->open);
    MUST(t.perms == s->perms.used && t.chans == s->chans.used && t.names == s->names.used);
}

struct census {
    struct turn_visitor visitor;
    const struct world *world;
    unsigned count;
};

static void count(struct turn_visitor *v, const struct turn_alloc_info *info)
{
    struct census *census = (struct census *)(void *)v;
    const struct turn_config *c = census->world->config;
    MUST(info->id && info->tuple->client.port && info->username.len);
    MUST(info->relayed.port >= WORLD_PORT_MIN && info->relayed.port <= WORLD_PORT_MAX);
    MUST(info->permissions <= c->max_permissions && info->channels <= c->max_channels);
    MUST(info->expires_in_ms && info->expires_in_ms <= 3600 * 1000);
    census->count++;
}

static uint64_t counter(struct world *w, enum turn_counter which)
{
    return turn_server_counters(w->server)->n[which];
}

void world_check(struct world *w)
{
    struct census census = {.visitor = {count}, .world = w};
    uint32_t allocations = turn_server_allocations(w->server);
    turn_server_list(w->server, &census.visitor, w->now);
    MUST(allocations == w->created - w->ended);
    MUST(counter(w, TURN_N_CREATED) == w->created);
    MUST(counter(w, TURN_N_RELEASED) + counter(w, TURN_N_EXPIRED) + counter(w, TURN_N_KILLED) +
             counter(w, TURN_N_WITHDRAWN) ==
         w->ended);
    MUST(census.count <= allocations && allocations <= WORLD_ALLOCATIONS);
    MUST((turn_server_deadline(w->server) == UINT64_MAX) == (allocations == 0));
    check_tables(w);
}

void world_grant(struct world *w, struct span user, uint8_t room)
{
    struct turn_grants *grants = turn_commons_grants(w->commons);
    struct turn_grant_change change = {.user = turn_commons_user(w->commons, user.data, user.len)};
    bool fresh;
    if (!grants)
        return;
    bool busy = turn_commons_busy(w->commons, change.user);
    if (!turn_grants_take(grants, change.user, room + 1u, &change.ended))
        (void)turn_grants_put(grants, change.user, room + 1u, &fresh);
    if (busy)
        turn_server_admission(w->server, &change, 1, w->now);
}

void world_configure(struct world *w, unsigned which)
{
    struct turn_users *users = turn_commons_users(w->commons);
    w->config = &w->configs[which % 2];
    if (users)
        MUST(turn_users_rehash(users, w->crypto, span_str(w->config->realm)) == CT_OK);
    turn_server_configure(w->server, w->config);
}
