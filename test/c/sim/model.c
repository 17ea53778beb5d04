#include "model.h"

#include "core/turn_frame.h"

struct model_rules model_rules(void)
{
    return (struct model_rules){
        .lifetime_default = 600, /* RFC 8656 §3.2 */
        .lifetime_max = 3600,    /* §7.2 */
        .permission = 300,       /* §9 */
        .channel = 600,          /* §12 */
        .quarantine = 300,       /* §12 */
        .reservation = 30,       /* §7.2 */
        .nonce = 3600,           /* §5 */
        .max_allocations = 512,
        .port_min = 49152,
        .port_max = 65535,
        .pair = true,
        .max_grants = 40,
    };
}

void model_init(struct model *m, const struct model_rules *rules)
{
    memset(m, 0, sizeof *m);
    m->rules = *rules;
}

/* ---- what is there ---- */

uint64_t model_until(const struct model_alloc *a)
{
    uint64_t v4 = a->places[0].until, v6 = a->places[1].until;
    return v4 > v6 ? v4 : v6;
}

bool model_live(const struct model *m, const struct model_alloc *a)
{
    return a->client.family != ADDR_NONE && model_until(a) > m->now.ms;
}

struct model_alloc *model_find(const struct model *m, const struct addr *client)
{
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        if (model_live(m, &m->allocs[i]) && addr_eq(&m->allocs[i].client, client))
            return (struct model_alloc *)&m->allocs[i];
    return NULL;
}

struct model_perm *model_perm(struct model_alloc *a, const struct addr *peer)
{
    for (size_t i = 0; i < MODEL_PERMS; i++)
        if (addr_ip_eq(&a->perms[i].ip, peer))
            return &a->perms[i];
    return NULL;
}

static bool permitted(const struct model *m, struct model_alloc *a, const struct addr *peer)
{
    const struct model_perm *p = model_perm(a, peer);
    return p && p->until > m->now.ms;
}

static const struct model_place *place_of(const struct model *m, const struct model_alloc *a,
                                          const struct addr *peer)
{
    const struct model_place *p = &a->places[peer->family == ADDR_V6];
    return p->until > m->now.ms ? p : NULL;
}

/* ---- data ---- */

/*
 * Whether data may go to this port of the relay's own IP: to relayed addresses only, and to none
 * that is only reserved. What has just expired is for the engine to say.
 */
static bool own_port_bound(struct model *m, const struct addr *peer)
{
    struct turn_port port = {.relay = 0, .port = peer->port};
    struct turn_owner owner;
    bool bound = turn_commons_owner(m->commons, port, &owner);
    if (bound ? !model_may_be_open(m, peer) : model_must_be_open(m, peer))
        m->problem = bound ? "a port is bound that must not be" : "a port is free that is relayed";
    return bound;
}

static struct model_relay dropped(struct model *m, enum turn_counter why)
{
    m->counts[why]++;
    return (struct model_relay){.relayed = false};
}

static struct model_relay counted(struct model *m, enum turn_counter packets,
                                  struct model_relay relay)
{
    m->counts[packets]++;
    m->counts[packets + 1] += relay.data.len;
    relay.relayed = true;
    return relay;
}

/* A binding alone is enough towards the peer (RFC 8656 §12.6 does not say; docs/decisions.md). */
static struct model_relay channel_up(struct model *m, struct model_alloc *a, struct span packet)
{
    struct turn_channel_data cd;
    if (turn_channel_data_decode(packet.data, packet.len, &cd) != CT_OK)
        return dropped(m, TURN_N_DROP_MALFORMED);
    if (!a)
        return dropped(m, TURN_N_DROP_NO_ALLOCATION);
    for (size_t i = 0; i < MODEL_CHANS; i++) {
        const struct model_chan *c = &a->chans[i];
        if (c->number != cd.channel || c->until <= m->now.ms)
            continue;
        const struct model_place *from = place_of(m, a, &c->peer);
        if (!from)
            return dropped(m, TURN_N_DROP_NO_PERMISSION);
        return counted(m, TURN_N_UP_PACKETS,
                       (struct model_relay){.from = from->at, .to = c->peer, .data = cd.data});
    }
    return dropped(m, TURN_N_DROP_NO_CHANNEL);
}

struct model_relay model_up(struct model *m, const struct addr *client, struct span packet)
{
    struct model_alloc *a = model_find(m, client);
    struct stun_msg msg;
    struct addr peer;
    if (turn_frame_kind(packet.data[0]) == TURN_FRAME_CHANNEL)
        return channel_up(m, a, packet);
    if (stun_msg_decode(&msg, packet.data, packet.len, NULL) != CT_OK ||
        stun_msg_addr(&msg, STUN_ID_XOR_PEER_ADDRESS, &peer) != CT_OK)
        return dropped(m, TURN_N_DROP_MALFORMED);
    if (!a)
        return dropped(m, TURN_N_DROP_NO_ALLOCATION);
    const struct model_place *from = place_of(m, a, &peer);
    if (!from || !permitted(m, a, &peer) ||
        (addr_ip_eq(&peer, &m->own) && !own_port_bound(m, &peer)))
        return dropped(m, TURN_N_DROP_NO_PERMISSION);
    return counted(m, TURN_N_UP_PACKETS,
                   (struct model_relay){
                       .from = from->at, .to = peer, .data = stun_msg_bytes(&msg, STUN_ID_DATA)});
}

static struct model_alloc *find_relayed(const struct model *m, const struct addr *at,
                                        uint64_t after_ms)
{
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        for (size_t f = 0; f < 2; f++)
            if (m->allocs[i].client.family != ADDR_NONE &&
                m->allocs[i].places[f].until > after_ms && addr_eq(&m->allocs[i].places[f].at, at))
                return (struct model_alloc *)&m->allocs[i];
    return NULL;
}

bool model_must_be_open(const struct model *m, const struct addr *at)
{
    return find_relayed(m, at, m->now.ms) != NULL;
}

bool model_may_be_open(const struct model *m, const struct addr *at)
{
    return find_relayed(m, at, m->now.ms - MODEL_LINGER_MS) != NULL;
}

static struct model_relay arrive(struct model *m, const struct addr *at, const struct addr *peer,
                                 struct span data)
{
    struct model_alloc *a = find_relayed(m, at, m->now.ms);
    if (!a)
        return dropped(m, TURN_N_DROP_NO_ALLOCATION);
    if (!permitted(m, a, peer))
        return dropped(m, TURN_N_DROP_NO_PERMISSION);
    struct model_relay out = {.from = *peer, .to = a->client, .data = data};
    for (size_t i = 0; i < MODEL_CHANS; i++)
        if (a->chans[i].until > m->now.ms && addr_eq(&a->chans[i].peer, peer))
            out.channel = a->chans[i].number;
    return counted(m, TURN_N_DOWN_PACKETS, out);
}

/* Outside is no room. */
struct model_relay model_down(struct model *m, const struct addr *at, const struct addr *peer,
                              struct span data)
{
    if (m->rules.admission == TURN_ADMISSION_ROOM)
        return dropped(m, TURN_N_DROP_OTHER_ROOM);
    return arrive(m, at, peer, data);
}

bool model_is_paired(const struct model *m, const struct model_relay *up)
{
    return m->rules.pair && up->relayed && addr_ip_eq(&up->to, &m->own);
}

struct model_relay model_pair(struct model *m, const struct model_relay *up)
{
    const struct model_alloc *from = find_relayed(m, &up->from, m->now.ms);
    const struct model_alloc *to = find_relayed(m, &up->to, m->now.ms);
    if (!to) /* it has expired, and is still there */
        to = find_relayed(m, &up->to, m->now.ms - MODEL_LINGER_MS);
    if (m->rules.admission == TURN_ADMISSION_ROOM && !(to && model_meet(from, to)))
        return dropped(m, TURN_N_DROP_OTHER_ROOM);
    return arrive(m, &up->to, &up->from, up->data);
}

/* ---- comparing ---- */

struct census {
    struct turn_visitor visitor;
    const struct model *model;
    const char *problem;
    size_t count;
};

static bool is_told(const struct turn_alloc_info *info, const struct addr *at)
{
    return addr_eq(&info->relayed, at) || addr_eq(&info->also, at);
}

/* An engine has at least what is live, and at most what it was once asked for. */
static bool perms_add_up(const struct model *m, const struct model_alloc *a, uint32_t told)
{
    uint32_t least = 0, most = 0;
    for (size_t i = 0; i < MODEL_PERMS; i++) {
        most += a->perms[i].until != 0;
        least += a->perms[i].until > m->now.ms && place_of(m, a, &a->perms[i].ip);
    }
    return told >= least && told <= most;
}

static bool chans_add_up(const struct model *m, const struct model_alloc *a, uint32_t told)
{
    uint32_t least = 0, most = 0;
    for (size_t i = 0; i < MODEL_CHANS; i++) {
        most += a->chans[i].until != 0;
        least += a->chans[i].until > m->now.ms && place_of(m, a, &a->chans[i].peer);
    }
    return told >= least && told <= most;
}

static const char *judge(const struct model *m, const struct turn_alloc_info *info)
{
    const struct model_alloc *a = model_find(m, &info->tuple->client);
    if (!a)
        return "an allocation lives that must not";
    if (!span_eq(info->username, span_str(a->username)))
        return "an allocation is somebody else's";
    if (info->expires_in_ms != model_until(a) - m->now.ms)
        return "an allocation expires at the wrong time";
    for (size_t f = 0; f < 2; f++)
        if (a->places[f].until > m->now.ms && !is_told(info, &a->places[f].at))
            return "an allocation has lost a relayed address";
    if (!perms_add_up(m, a, info->permissions))
        return "permissions of an allocation do not add up";
    if (!chans_add_up(m, a, info->channels))
        return "channels of an allocation do not add up";
    return NULL;
}

static void visit(struct turn_visitor *v, const struct turn_alloc_info *info)
{
    struct census *c = (struct census *)(void *)v;
    const char *problem = judge(c->model, info);
    c->count++;
    if (problem)
        c->problem = problem;
}

/* The counters that a model without sockets, rate limits and wheels can know. */
static const enum turn_counter known[] = {
    TURN_N_UP_PACKETS,
    TURN_N_UP_BYTES,
    TURN_N_DOWN_PACKETS,
    TURN_N_DOWN_BYTES,
    TURN_N_REQUESTS,
    TURN_N_BINDINGS,
    TURN_N_CREATED,
    TURN_N_RELEASED,
    TURN_N_KILLED,
    TURN_N_MOVED,
    TURN_N_REFRESHES,
    TURN_N_PERMISSIONS,
    TURN_N_CHANNELS,
    TURN_N_CHALLENGES,
    TURN_N_UNAUTHENTICATED,
    TURN_N_STALE,
    TURN_N_ERRORS,
    TURN_N_FORBIDDEN,
    TURN_N_DROP_MALFORMED,
    TURN_N_DROP_UNEXPECTED,
    TURN_N_DROP_NO_ALLOCATION,
    TURN_N_DROP_RATE,
    TURN_N_REFUSED_ADMISSION,
    TURN_N_DROP_EARLY,
    TURN_N_DROP_OTHER_ROOM,
};

/* Channels of a family that has expired are there until the wheel comes round: one of the two. */
static bool drops_add_up(const struct model *m, const struct turn_counters *c)
{
    return c->n[TURN_N_DROP_NO_PERMISSION] + c->n[TURN_N_DROP_NO_CHANNEL] ==
           m->counts[TURN_N_DROP_NO_PERMISSION] + m->counts[TURN_N_DROP_NO_CHANNEL];
}

static const char *compare_counters(const struct model *m, struct turn_server *server)
{
    struct turn_counters *c = turn_server_counters(server);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (c->n[known[i]] != m->counts[known[i]])
            return turn_counter_name(known[i]);
    if (!drops_add_up(m, c))
        return "counters of dropped data do not add up";
    if (c->n[TURN_N_WITHDRAWN] < m->counts[TURN_N_WITHDRAWN]) /* of what had expired, some more */
        return "too few allocations were withdrawn";
    if (c->n[TURN_N_CREATED] != c->n[TURN_N_RELEASED] + c->n[TURN_N_EXPIRED] + c->n[TURN_N_KILLED] +
                                    c->n[TURN_N_WITHDRAWN] + turn_server_allocations(server))
        return "counters of allocations do not add up";
    return NULL;
}

const char *model_compare(const struct model *m, struct turn_server *server)
{
    struct census census = {.visitor = {visit}, .model = m};
    size_t live = 0;
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        live += model_live(m, &m->allocs[i]);
    turn_server_list(server, &census.visitor, m->now);
    if (census.problem || m->problem)
        return m->problem ? m->problem : census.problem;
    if (census.count < live)
        return "an allocation has ended that must live";
    return compare_counters(m, server);
}
