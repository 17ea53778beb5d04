#include "client.h"

#include "core/turn_frame.h"

static uint64_t now_ms(const struct sim_client *s)
{
    return s->c.e->now.ms;
}

static void put_on_link(struct sim_client *s, struct span bytes)
{
    struct sim_path path = {
        .way = SIM_CLIENT_TO_SERVER, .from = s->c.tuple.client, .to = s->c.tuple.server};
    sim_link_send(s->link, now_ms(s), &path, bytes);
}

/* ---- transactions ---- */

static void put_peers(struct sim_client *s, const struct sim_ask *ask, struct attrs *a)
{
    for (uint8_t i = 0; i < SIM_PEERS; i++)
        if (ask->peers >> i & 1)
            attrs_peer(a, &s->c, sim_peer_text(i));
    if (ask->peers & SIM_OWN)
        attrs_peer(a, &s->c, "192.0.2.1:1");
}

static void put_allocate(struct sim_client *s, const struct sim_ask *ask, struct attrs *a)
{
    attrs_u32(a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    if (ask->redeem && s->tally->has_token)
        attrs_bytes(a, STUN_ATTR_RESERVATION_TOKEN, s->tally->token, sizeof s->tally->token);
    else if (ask->even || ask->next)
        attrs_bytes(a, STUN_ATTR_EVEN_PORT, ask->next ? "\x80" : "\0", 1);
    if (ask->dual && !ask->redeem && !ask->next)
        attrs_u32(a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, (uint32_t)ADDR_V6 << 24);
}

static void encode(struct sim_client *s, struct sim_transaction *t)
{
    uint8_t bytes[ENGINE_BYTES_MAX];
    struct attrs a;
    attrs_init(&a);
    client_new_tid(&s->c);
    if (t->ask.method == STUN_ALLOCATE)
        put_allocate(s, &t->ask, &a);
    if (t->ask.mobile) /* nothing in it asks for the first one */
        attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, s->ticket, s->ticket_len);
    if (t->ask.with_lifetime)
        attrs_u32(&a, STUN_ATTR_LIFETIME, t->ask.lifetime);
    if (t->ask.family)
        attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, (uint32_t)t->ask.family << 24);
    if (t->ask.channel)
        attrs_u32(&a, STUN_ATTR_CHANNEL_NUMBER, (uint32_t)t->ask.channel << 16);
    put_peers(s, &t->ask, &a);
    size_t len = client_encode(&s->c, t->ask.method, &a, bytes);
    CHECK(len <= sizeof t->bytes);
    memcpy(t->bytes, bytes, len);
    memcpy(t->tid, s->c.tid, sizeof t->tid);
    t->len = (uint16_t)len;
    if (t->ask.method == STUN_ALLOCATE) {
        memcpy(s->allocate, bytes, len);
        s->allocate_len = t->len;
    }
}

void sim_client_replay(struct sim_client *s)
{
    put_on_link(s, span_of(s->allocate, s->allocate_len));
}

/* Sends it once more. After the last time it waits Rm times the first RTO for an answer. */
static void transmit(struct sim_client *s, struct sim_transaction *t)
{
    t->due_ms = now_ms(s) + (++t->sends == SIM_RC ? SIM_RM * SIM_RTO_MS : t->rto_ms);
    t->rto_ms *= 2;
    s->tally->retransmitted += t->sends > 1;
    put_on_link(s, span_of(t->bytes, t->len));
}

/* A new transaction for the same request, as credentials have changed (RFC 8489 §9.2.5). */
static void begin(struct sim_client *s, struct sim_transaction *t)
{
    t->busy = true;
    t->sends = 0;
    t->rto_ms = SIM_RTO_MS;
    encode(s, t);
    transmit(s, t);
}

void sim_client_ask(struct sim_client *s, const struct sim_ask *ask)
{
    for (size_t i = 0; i < SIM_TRANSACTIONS; i++) {
        struct sim_transaction *t = &s->under_way[i];
        if (t->busy)
            continue;
        t->ask = *ask;
        t->rounds = 0;
        if (ask->mobile && ask->method == STUN_REFRESH)
            s->c.tuple.client.port++;
        s->tally->asked++;
        begin(s, t);
        return;
    }
}

/* ---- what an answer, or none, means ---- */

static void forget(struct sim_client *s)
{
    for (size_t i = 0; i < SIM_TRANSACTIONS; i++)
        s->under_way[i].busy = false;
    for (size_t i = 0; i < SIM_PEERS; i++) {
        s->bound[i] = false;
        s->bind_ms[i] = UINT64_MAX;
    }
    s->refresh_ms = s->permit_ms = s->expires_ms = UINT64_MAX;
    s->relayed[0] = s->relayed[1] = (struct addr){0};
    s->ticket_len = 0;
}

static void rejoin(struct sim_client *s, uint32_t pause_ms)
{
    forget(s);
    s->phase = SIM_JOINING;
    s->next_ms = now_ms(s) + pause_ms;
}

static void round_over(struct sim_client *s)
{
    forget(s);
    s->phase = ++s->round < s->manner.rounds ? SIM_AWAY : SIM_GONE;
    s->next_ms = s->phase == SIM_GONE ? UINT64_MAX : now_ms(s) + s->manner.gap_ms;
    s->end_ms = UINT64_MAX;
    *s->c.nonce = *s->c.realm = 0; /* who comes next on this port knows nothing */
}

static void expect_lifetime(struct sim_client *s)
{
    uint32_t lifetime = 0;
    CHECK_EQ(stun_msg_u32(&s->c.msg, STUN_ID_LIFETIME, &lifetime), CT_OK);
    uint64_t ms = (uint64_t)lifetime * 1000;
    s->last_lifetime = lifetime;
    s->expires_ms = now_ms(s) + ms;
    s->refresh_ms = s->expires_ms - (ms > 2 * SIM_REFRESH_AHEAD_MS ? SIM_REFRESH_AHEAD_MS : ms / 2);
    if (s->manner.moves) /* early: the network does not wait */
        s->refresh_ms = now_ms(s) + ms / 20 + rng_below(s->rng, (size_t)ms / 10);
}

static void read_relayed(struct sim_client *s)
{
    struct stun_attr attr;
    struct addr at;
    const struct stun_msg *m = &s->c.msg;
    for (uint32_t pos = STUN_HEADER_SIZE; pos < m->attrs_end && stun_msg_next(m, &pos, &attr);)
        if (attr.type == STUN_ATTR_XOR_RELAYED_ADDRESS &&
            stun_addr_decode(attr.value, true, stun_msg_tid(m), &at) == CT_OK)
            s->relayed[at.family == ADDR_V6] = at;
    if (s->relayed[0].family)
        s->tally->newest = s->relayed[0];
    struct span token = stun_msg_bytes(m, STUN_ID_RESERVATION_TOKEN);
    if (token.len != sizeof s->tally->token)
        return;
    memcpy(s->tally->token, token.data, token.len);
    s->tally->has_token = true;
}

static void read_ticket(struct sim_client *s)
{
    struct span ticket = stun_msg_bytes(&s->c.msg, STUN_ID_MOBILITY_TICKET);
    CHECK(ticket.len && ticket.len <= sizeof s->ticket);
    s->ticket_len = ticket.len <= sizeof s->ticket ? (uint16_t)ticket.len : 0;
    memcpy(s->ticket, ticket.data, s->ticket_len);
}

static void allocated(struct sim_client *s, int code)
{
    if (code) {
        s->tally->refused += code > 0;
        rejoin(s, 20000 + (uint32_t)rng_below(s->rng, 60000));
        return;
    }
    s->tally->allocated++;
    read_relayed(s);
    expect_lifetime(s);
    s->phase = SIM_IN;
    s->permit_ms = now_ms(s);
    s->next_ms =
        s->manner.traffic_ms ? now_ms(s) + rng_below(s->rng, s->manner.traffic_ms) : UINT64_MAX;
    for (uint8_t i = 0; i < SIM_PEERS; i++)
        if (s->manner.channels >> i & 1)
            s->bind_ms[i] = now_ms(s);
}

static void refreshed(struct sim_client *s, const struct sim_ask *ask, int code)
{
    if (ask->with_lifetime && ask->lifetime == 0 && !ask->family) {
        s->tally->released++;
        round_over(s);
    } else if (ask->family) {
        if (ask->with_lifetime && ask->lifetime == 0)
            s->relayed[1] = (struct addr){0};
        s->refresh_ms = now_ms(s); /* both at once, as no answer tells the time of the other */
    } else if (code == 0) {
        s->tally->refreshed++;
        expect_lifetime(s);
    } else if (code == STUN_BAD_REQUEST && ask->mobile) {
        s->ticket_len = 0; /* he did not hear of the one after it: he may be there already */
        s->refresh_ms = now_ms(s);
    } else if (code == STUN_ALLOCATION_MISMATCH || now_ms(s) >= s->expires_ms) {
        s->tally->died++;
        rejoin(s, 0);
    } else {
        s->refresh_ms = now_ms(s); /* at once again, while there is time */
    }
}

static uint8_t only_peer(uint8_t mask)
{
    uint8_t i = 0;
    while (i < SIM_PEERS - 1 && !(mask >> i & 1))
        i++;
    return i;
}

static void bound(struct sim_client *s, const struct sim_ask *ask, int code)
{
    uint8_t peer = only_peer(ask->peers);
    s->bound[peer] = code == 0;
    s->bind_ms[peer] = now_ms(s) + (code ? 20000 : SIM_BIND_EVERY_MS);
    if (s->manner.neglects)
        s->bind_ms[peer] = now_ms(s) + 4u * SIM_BIND_EVERY_MS;
}

static void permitted(struct sim_client *s, int code)
{
    s->permit_ms = now_ms(s) + (code ? 5000 : SIM_PERMIT_EVERY_MS);
    if (s->manner.neglects)
        s->permit_ms = now_ms(s) + 3u * SIM_PERMIT_EVERY_MS;
}

/* A transaction is over; a client of a script only notes how. */
static void settle(struct sim_client *s, struct sim_transaction *t, int code)
{
    struct sim_ask ask = t->ask;
    t->busy = false;
    s->last_code = code;
    s->last_sends = t->sends;
    s->tally->timed_out += code == NO_REPLY;
    s->tally->answered += code != NO_REPLY;
    if (code == 0 && ask.mobile) {
        s->tally->moved += ask.method == STUN_REFRESH;
        read_ticket(s);
    }
    if (s->manner.scripted) {
        if (code == 0 && ask.method == STUN_ALLOCATE)
            read_relayed(s);
        if (code == 0)
            (void)stun_msg_u32(&s->c.msg, STUN_ID_LIFETIME, &s->last_lifetime);
    } else if (ask.method == STUN_ALLOCATE) {
        allocated(s, code);
    } else if (ask.method == STUN_REFRESH) {
        refreshed(s, &ask, code);
    } else if (ask.method == STUN_CHANNEL_BIND) {
        bound(s, &ask, code);
    } else {
        permitted(s, code);
    }
}

/* ---- what comes in ---- */

static bool is_challenge(const struct sim_client *s, const struct sim_transaction *t, int code)
{
    bool anonymous = !stun_msg_has(&s->c.msg, STUN_ID_NONCE);
    return !anonymous && t->rounds < 4 &&
           (code == STUN_STALE_NONCE || (code == STUN_UNAUTHENTICATED && t->rounds == 0));
}

static void answered(struct sim_client *s, struct sim_transaction *t, struct span bytes)
{
    memcpy(s->c.tid, t->tid, sizeof t->tid);
    s->c.method = t->ask.method;
    int code = client_read(&s->c, bytes);
    if (!is_challenge(s, t, code)) {
        settle(s, t, code);
        return;
    }
    client_learn(&s->c);
    t->rounds++;
    begin(s, t);
}

void sim_client_receive(struct sim_client *s, struct span bytes)
{
    struct stun_msg m;
    if (turn_frame_kind(bytes.data[0]) == TURN_FRAME_CHANNEL ||
        (stun_msg_decode(&m, bytes.data, bytes.len, NULL) == CT_OK && m.cls == STUN_INDICATION)) {
        s->heard++;
        s->tally->heard++;
        return;
    }
    for (size_t i = 0; i < SIM_TRANSACTIONS; i++) {
        struct sim_transaction *t = &s->under_way[i];
        if (!t->busy || memcmp(t->tid, stun_msg_tid(&m), STUN_TID_SIZE) != 0)
            continue;
        answered(s, t, bytes);
        return;
    }
}

/* ---- data ---- */

static size_t encode_data(struct sim_client *s, const struct addr *to, uint16_t channel,
                          uint8_t bytes[SIM_DATAGRAM_MAX])
{
    char payload[SIM_PAYLOAD_MAX];
    struct wbuf w = wbuf_of(bytes, SIM_DATAGRAM_MAX);
    struct span data = span_of(payload, sim_payload(s->rng, 'c', s->number, s->said++, payload));
    if (channel) {
        turn_channel_data_encode(&w, channel, data, false);
    } else {
        client_new_tid(&s->c);
        stun_begin(&w, stun_type(STUN_SEND, STUN_INDICATION), s->c.tid);
        stun_put_xaddr(&w, STUN_ATTR_XOR_PEER_ADDRESS, to);
        stun_put(&w, STUN_ATTR_DATA, data.data, data.len);
    }
    return w.pos;
}

size_t sim_client_data(struct sim_client *s, uint8_t peer, uint16_t channel,
                       uint8_t bytes[SIM_DATAGRAM_MAX])
{
    struct addr to = addr_of(sim_peer_text(peer));
    return encode_data(s, &to, channel, bytes);
}

void sim_client_say(struct sim_client *s, uint8_t peer, uint16_t channel)
{
    uint8_t bytes[SIM_DATAGRAM_MAX];
    size_t len = sim_client_data(s, peer, channel, bytes);
    put_on_link(s, span_of(bytes, len));
}

/* ---- a life of its own ---- */

static void join(struct sim_client *s)
{
    const struct sim_manner *m = &s->manner;
    if (s->phase == SIM_AWAY)
        s->end_ms = now_ms(s) + m->life_ms;
    s->phase = SIM_JOINING;
    s->next_ms = UINT64_MAX;
    sim_client_ask(s, &(struct sim_ask){.method = STUN_ALLOCATE,
                                        .lifetime = m->lifetime,
                                        .with_lifetime = m->lifetime != 0,
                                        .dual = m->dual,
                                        .even = m->even,
                                        .next = m->next,
                                        .mobile = m->moves,
                                        .redeem = m->redeems && s->tally->has_token});
}

static void leave(struct sim_client *s)
{
    bool in = s->phase == SIM_IN;
    s->end_ms = UINT64_MAX;
    if (s->manner.end == SIM_DIES || !in) {
        round_over(s);
        return;
    }
    forget(s);
    s->phase = SIM_LEAVING;
    s->next_ms = UINT64_MAX;
    sim_client_ask(s, &(struct sim_ask){.method = STUN_REFRESH, .with_lifetime = true});
}

/* One family of two alone now and then, which may also let IPv6 go. */
static void refresh(struct sim_client *s)
{
    struct sim_ask ask = {.method = STUN_REFRESH,
                          .lifetime = s->manner.lifetime,
                          .with_lifetime = s->manner.lifetime != 0};
    s->refresh_ms = UINT64_MAX;
    if (s->manner.splits && s->relayed[0].family && s->relayed[1].family && rng_below(s->rng, 2)) {
        ask.family = rng_below(s->rng, 2) ? ADDR_V4 : ADDR_V6;
        if (ask.family == ADDR_V6 && rng_below(s->rng, 3) == 0) {
            ask.with_lifetime = true;
            ask.lifetime = 0;
        }
    }
    ask.mobile = s->ticket_len && !ask.family && rng_below(s->rng, 2);
    sim_client_ask(s, &ask);
}

static void bind_channel(struct sim_client *s, uint8_t peer)
{
    size_t any = s->manner.shuffles ? rng_below(s->rng, SIM_PEERS) : peer;
    s->bind_ms[peer] = UINT64_MAX;
    s->channels[peer] = (uint16_t)(STUN_CHANNEL_MIN + any);
    sim_client_ask(s, &(struct sim_ask){.method = STUN_CHANNEL_BIND,
                                        .peers = (uint8_t)(1u << peer),
                                        .channel = s->channels[peer]});
}

static void keep_up(struct sim_client *s)
{
    const struct sim_manner *m = &s->manner;
    if (s->refresh_ms <= now_ms(s))
        refresh(s);
    if (s->permit_ms <= now_ms(s)) {
        uint8_t reachable = s->relayed[1].family ? 0x3f : 0x0f;
        s->permit_ms = UINT64_MAX;
        uint8_t peers = (uint8_t)((m->peers & reachable) | (m->meets ? SIM_OWN : 0));
        if (peers)
            sim_client_ask(s, &(struct sim_ask){.method = STUN_CREATE_PERMISSION, .peers = peers});
    }
    for (uint8_t i = 0; i < SIM_PEERS; i++) {
        if (s->bind_ms[i] <= now_ms(s) && (i <= 3 || s->relayed[1].family))
            bind_channel(s, i);
    }
}

/* To anybody, permitted or not. */
static void talk(struct sim_client *s)
{
    uint8_t peer = (uint8_t)rng_below(s->rng, SIM_PEERS);
    s->next_ms = now_ms(s) + 1 + rng_below(s->rng, s->manner.traffic_ms);
    if (s->manner.meets && s->tally->newest.family && rng_below(s->rng, 2)) {
        uint8_t bytes[SIM_DATAGRAM_MAX];
        put_on_link(s, span_of(bytes, encode_data(s, &s->tally->newest, 0, bytes)));
        return;
    }
    sim_client_say(s, peer, s->bound[peer] && rng_below(s->rng, 4) ? s->channels[peer] : 0);
}

uint64_t sim_client_due(const struct sim_client *s)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < SIM_TRANSACTIONS; i++)
        if (s->under_way[i].busy && s->under_way[i].due_ms < due)
            due = s->under_way[i].due_ms;
    if (s->manner.scripted)
        return due;
    const uint64_t others[] = {s->next_ms, s->end_ms, s->refresh_ms, s->permit_ms};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        due = others[i] < due ? others[i] : due;
    for (uint8_t i = 0; i < SIM_PEERS; i++)
        if (s->bind_ms[i] < due && (i <= 3 || s->relayed[1].family))
            due = s->bind_ms[i];
    return due;
}

void sim_client_tick(struct sim_client *s)
{
    for (size_t i = 0; i < SIM_TRANSACTIONS; i++) {
        struct sim_transaction *t = &s->under_way[i];
        if (!t->busy || t->due_ms > now_ms(s))
            continue;
        if (t->sends == SIM_RC)
            settle(s, t, NO_REPLY);
        else
            transmit(s, t);
    }
    if (s->manner.scripted)
        return;
    if (s->end_ms <= now_ms(s))
        leave(s);
    if (s->phase == SIM_IN)
        keep_up(s);
    if (s->next_ms <= now_ms(s) && s->phase == SIM_IN)
        talk(s);
    else if (s->next_ms <= now_ms(s))
        join(s);
}

void sim_client_init(struct sim_client *s, struct engine *e, uint8_t number, unsigned valid_s,
                     const struct sim_manner *manner)
{
    char at[32], username[48];
    snprintf(at, sizeof at, "192.0.2.%u:5000", 100u + number);
    /* two clients each share a user, for the quota's sake */
    snprintf(username, sizeof username, "%" PRIu64 ":user%u", e->now.unix_s + valid_s, number / 2u);
    memset(s, 0, sizeof *s);
    s->c = client_with(e, at, username, "north");
    s->number = number;
    s->manner = *manner;
    s->last_code = SIM_ANY_CODE;
    forget(s);
    s->phase = SIM_AWAY;
    s->end_ms = UINT64_MAX;
    s->next_ms = e->now.ms + manner->start_ms;
}
