/* Requests as the model sees them: what must be answered, and what an answer changes. */
#include "model.h"

#include "core/stun_auth.h"

/* ---- credentials ---- */

static const struct model_nonce *find_nonce(const struct model *m, const struct addr *client,
                                            struct span text)
{
    size_t n = m->nonce_count < MODEL_NONCES ? m->nonce_count : MODEL_NONCES;
    for (size_t i = 1; i <= n; i++) {
        const struct model_nonce *nonce = &m->nonces[(m->nonce_count - i) % MODEL_NONCES];
        if (addr_eq(&nonce->client, client) && span_eq(span_str(nonce->text), text))
            return nonce;
    }
    return NULL;
}

static void learn_nonce(struct model *m, const struct addr *client, const struct stun_msg *reply)
{
    struct span text = stun_msg_bytes(reply, STUN_ID_NONCE);
    if (!text.len || text.len >= MODEL_NONCE_MAX || find_nonce(m, client, text))
        return;
    struct model_nonce *nonce = &m->nonces[m->nonce_count++ % MODEL_NONCES];
    *nonce = (struct model_nonce){.client = *client, .made_ms = m->now.ms};
    memcpy(nonce->text, text.data, text.len);
}

/* 0, 401 or 438 (RFC 8489 §9.2.4). A nonce holds the second it was made in: one is either way. */
static struct model_verdict credentials(const struct model *m, const struct addr *client,
                                        const struct stun_msg *msg)
{
    uint64_t expiry = 0, life = (uint64_t)m->rules.nonce * 1000;
    if (!stun_msg_has(msg, STUN_ID_MESSAGE_INTEGRITY))
        return (struct model_verdict){STUN_UNAUTHENTICATED, STUN_UNAUTHENTICATED};
    const struct model_alloc *a = model_find(m, client);
    struct span username = stun_msg_bytes(msg, STUN_ID_USERNAME);
    bool own = a && span_eq(span_str(a->username), username);
    (void)stun_rest_username(username, &expiry, NULL);
    /* expired credentials keep an allocation and make none (turn-rest §4.2) */
    if (!own && msg->method == STUN_ALLOCATE && expiry <= m->now.unix_s)
        return (struct model_verdict){STUN_UNAUTHENTICATED, STUN_UNAUTHENTICATED};
    const struct model_nonce *nonce = find_nonce(m, client, stun_msg_bytes(msg, STUN_ID_NONCE));
    uint64_t age = nonce ? m->now.ms - nonce->made_ms : UINT64_MAX;
    if (age >= life)
        return (struct model_verdict){STUN_STALE_NONCE, STUN_STALE_NONCE};
    return (struct model_verdict){0, age + 1000 > life ? STUN_STALE_NONCE : 0};
}

/* ---- room for another allocation ---- */

static struct span user_of(const char *username)
{
    uint64_t expiry;
    struct span user = span_str(username);
    (void)stun_rest_username(span_str(username), &expiry, &user);
    return user;
}

bool model_port_taken(const struct model *m, size_t family, uint16_t port, uint64_t after_ms)
{
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        if (m->allocs[i].client.family != ADDR_NONE &&
            m->allocs[i].places[family].until > after_ms &&
            m->allocs[i].places[family].at.port == port)
            return true;
    for (size_t i = 0; i < MODEL_HOLDS; i++)
        if (m->holds[i].until > m->now.ms && m->holds[i].at.port == port &&
            (m->holds[i].at.family == ADDR_V6) == (family == 1))
            return true;
    return false;
}

/* Whether a port is free, an even one, or one with a free one behind it. */
static bool port_left(const struct model *m, size_t family, struct span even, uint64_t after_ms)
{
    bool next = even.len && even.data[0] & 0x80;
    for (uint32_t port = m->rules.port_min; port <= m->rules.port_max; port++) {
        if ((even.len && port % 2) || model_port_taken(m, family, (uint16_t)port, after_ms))
            continue;
        if (!next || (port < m->rules.port_max &&
                      !model_port_taken(m, family, (uint16_t)(port + 1), after_ms)))
            return true;
    }
    return false;
}

static const struct model_hold *find_hold(const struct model *m, struct span token)
{
    for (size_t i = 0; i < MODEL_HOLDS; i++)
        if (m->holds[i].until > m->now.ms &&
            span_eq(span_of(m->holds[i].token, MODEL_TOKEN), token))
            return &m->holds[i];
    return NULL;
}

/* Quota and room, when what expired after `after_ms` still counts. */
static int room(const struct model *m, const struct addr *client, const struct stun_msg *msg,
                uint64_t after_ms)
{
    char username[MODEL_USERNAME_MAX] = "";
    struct span name = stun_msg_bytes(msg, STUN_ID_USERNAME);
    struct span token = stun_msg_bytes(msg, STUN_ID_RESERVATION_TOKEN);
    uint32_t all = 0, users = 0;
    memcpy(username, name.data, name.len < sizeof username ? name.len : 0);
    for (size_t i = 0; i < MODEL_ALLOCS; i++) {
        const struct model_alloc *a = &m->allocs[i];
        if (a->client.family == ADDR_NONE || model_until(a) <= after_ms ||
            addr_eq(&a->client, client))
            continue;
        all +=
            (a->places[0].until > after_ms ? 1u : 0u) + (a->places[1].until > after_ms ? 1u : 0u);
        users += span_eq(user_of(a->username), user_of(username));
    }
    if (all >= m->rules.max_allocations)
        return STUN_INSUFFICIENT_CAPACITY;
    if (m->rules.quota && users >= m->rules.quota)
        return STUN_QUOTA_REACHED;
    if (token.data)
        return find_hold(m, token) ? 0 : STUN_INSUFFICIENT_CAPACITY;
    uint8_t wanted = ADDR_V4;
    struct span even = stun_msg_bytes(msg, STUN_ID_EVEN_PORT);
    (void)stun_msg_first_byte(msg, STUN_ID_REQUESTED_ADDRESS_FAMILY, &wanted);
    if (port_left(m, wanted == ADDR_V6, even, after_ms) ||
        (stun_msg_has(msg, STUN_ID_ADDITIONAL_ADDRESS_FAMILY) && port_left(m, 1, even, after_ms)))
        return 0;
    return STUN_INSUFFICIENT_CAPACITY;
}

static bool is_late(const struct model *m, const struct addr *client, const struct stun_msg *msg)
{
    for (size_t i = 0; i < MODEL_MADE; i++) {
        const struct model_made *made = &m->made[i];
        if (made->until > m->now.ms && addr_eq(&made->client, client) &&
            memcmp(made->tid, stun_msg_tid(msg), STUN_TID_SIZE) == 0)
            return true;
    }
    return false;
}

static struct model_verdict expect_allocate(const struct model *m, const struct addr *client,
                                            const struct stun_msg *msg)
{
    const struct model_alloc *a = model_find(m, client);
    bool again = a && memcmp(a->tid, stun_msg_tid(msg), STUN_TID_SIZE) == 0;
    if (!a && is_late(m, client, msg))
        return (struct model_verdict){STUN_ALLOCATION_MISMATCH, STUN_ALLOCATION_MISMATCH};
    if (a)
        return again ? (struct model_verdict){0, 0}
                     : (struct model_verdict){STUN_ALLOCATION_MISMATCH, STUN_ALLOCATION_MISMATCH};
    if (!model_granted(m, model_user(stun_msg_bytes(msg, STUN_ID_USERNAME)))) {
        int code = m->open ? STUN_FORBIDDEN : MODEL_SILENCE;
        return (struct model_verdict){code, code};
    }
    return (struct model_verdict){room(m, client, msg, m->now.ms),
                                  room(m, client, msg, m->now.ms - MODEL_LINGER_MS)};
}

/* ---- requests on an allocation ---- */

/* 0, or why this peer cannot be one. */
static int refuses(const struct model *m, const struct model_alloc *a, const struct addr *peer)
{
    if (a->places[peer->family == ADDR_V6].until <= m->now.ms)
        return STUN_PEER_FAMILY_MISMATCH;
    bool closed = m->rules.switched || m->rules.admission == TURN_ADMISSION_ROOM;
    return closed && !addr_ip_eq(peer, &m->own) ? STUN_FORBIDDEN : 0;
}

/* A number and a peer are bound to each other or to nobody, also for a while after expiry. */
static int expect_bind(const struct model *m, const struct model_alloc *a,
                       const struct stun_msg *msg)
{
    uint16_t number = 0;
    struct addr peer = {0};
    (void)stun_msg_channel(msg, &number);
    (void)stun_msg_addr(msg, STUN_ID_XOR_PEER_ADDRESS, &peer);
    int code = refuses(m, a, &peer);
    if (code)
        return code;
    for (size_t i = 0; i < MODEL_CHANS; i++) {
        const struct model_chan *c = &a->chans[i];
        bool held = c->until && c->until + (uint64_t)m->rules.quarantine * 1000 > m->now.ms;
        if (held && (c->number == number) != addr_eq(&c->peer, &peer))
            return STUN_BAD_REQUEST;
    }
    return 0;
}

static int expect_permissions(const struct model *m, const struct model_alloc *a,
                              const struct stun_msg *msg)
{
    struct stun_attr attr;
    struct addr peer;
    int code = 0;
    for (uint32_t pos = STUN_HEADER_SIZE;
         !code && pos < msg->attrs_end && stun_msg_next(msg, &pos, &attr);)
        if (attr.type == STUN_ATTR_XOR_PEER_ADDRESS &&
            stun_addr_decode(attr.value, true, stun_msg_tid(msg), &peer) == CT_OK)
            code = refuses(m, a, &peer);
    return code;
}

static int expect_refresh(const struct model *m, const struct model_alloc *a,
                          const struct stun_msg *msg)
{
    uint8_t family;
    if (stun_msg_first_byte(msg, STUN_ID_REQUESTED_ADDRESS_FAMILY, &family) != CT_OK)
        return 0;
    return a->places[family == ADDR_V6].until > m->now.ms ? 0 : STUN_PEER_FAMILY_MISMATCH;
}

struct model_verdict model_expect(const struct model *m, const struct addr *client,
                                  const struct stun_msg *msg)
{
    int code = 0;
    const struct model_alloc *a = model_find(m, client);
    struct model_verdict v = {0, 0};
    if (msg->method == STUN_BINDING)
        return v;
    v = credentials(m, client, msg);
    if (v.code)
        return v;
    if (msg->method == STUN_ALLOCATE) {
        struct model_verdict allocate = expect_allocate(m, client, msg);
        return v.or_code ? (struct model_verdict){allocate.code, v.or_code} : allocate;
    }
    if (!a)
        code = STUN_ALLOCATION_MISMATCH;
    else if (!span_eq(span_str(a->username), stun_msg_bytes(msg, STUN_ID_USERNAME)))
        code = STUN_WRONG_CREDENTIALS;
    else if (msg->method == STUN_CHANNEL_BIND)
        code = expect_bind(m, a, msg);
    else if (msg->method == STUN_CREATE_PERMISSION)
        code = expect_permissions(m, a, msg);
    else
        code = expect_refresh(m, a, msg);
    return (struct model_verdict){code, v.or_code ? v.or_code : code};
}

/* ---- what a success changes ---- */

/* RFC 8656 §7.2, §8.2: TURN-ALLOC-32 to 35, TURN-REFR-02. */
static uint32_t granted(const struct model *m, const struct stun_msg *msg)
{
    uint32_t asked = 0;
    (void)stun_msg_u32(msg, STUN_ID_LIFETIME, &asked);
    if (asked < m->rules.lifetime_default)
        return m->rules.lifetime_default;
    return asked < m->rules.lifetime_max ? asked : m->rules.lifetime_max;
}

static struct model_alloc *free_alloc(struct model *m, const struct addr *client)
{
    struct model_alloc *oldest = &m->allocs[0];
    for (size_t i = 0; i < MODEL_ALLOCS; i++) {
        struct model_alloc *a = &m->allocs[i];
        if (addr_eq(&a->client, client) || a->client.family == ADDR_NONE)
            return a;
        if (model_until(a) < model_until(oldest))
            oldest = a;
    }
    return oldest;
}

static void hold(struct model *m, const struct model_alloc *a)
{
    struct model_hold *h = m->holds;
    while (h < &m->holds[MODEL_HOLDS - 1] && h->until > m->now.ms)
        h++;
    memcpy(h->token, a->token, sizeof h->token);
    h->at = a->places[a->places[0].until ? 0 : 1].at;
    h->at.port++;
    h->until = m->now.ms + (uint64_t)m->rules.reservation * 1000;
}

/* The relayed addresses of the answer: each new one must be free and of the kind asked for. */
static const char *take_places(struct model *m, const struct stun_msg *msg,
                               const struct stun_msg *reply, struct model_alloc *a)
{
    struct stun_attr attr;
    struct addr at;
    struct span token = stun_msg_bytes(msg, STUN_ID_RESERVATION_TOKEN);
    const struct model_hold *reserved = token.data ? find_hold(m, token) : NULL;
    for (uint32_t pos = STUN_HEADER_SIZE;
         pos < reply->attrs_end && stun_msg_next(reply, &pos, &attr);) {
        if (attr.type != STUN_ATTR_XOR_RELAYED_ADDRESS)
            continue;
        if (stun_addr_decode(attr.value, true, stun_msg_tid(reply), &at) != CT_OK)
            return "XOR-RELAYED-ADDRESS is malformed";
        if (at.port < m->rules.port_min || at.port > m->rules.port_max)
            return "a relayed port lies outside the range";
        if (reserved ? !addr_eq(&at, &reserved->at)
                     : model_port_taken(m, at.family == ADDR_V6, at.port, m->now.ms))
            return reserved ? "not the reserved port" : "a relayed port is given twice";
        if (stun_msg_has(msg, STUN_ID_EVEN_PORT) && at.port % 2)
            return "EVEN-PORT got an odd port";
        a->places[at.family == ADDR_V6] =
            (struct model_place){at, m->now.ms + (uint64_t)granted(m, msg) * 1000};
    }
    if (reserved)
        ((struct model_hold *)reserved)->until = 0;
    return NULL;
}

static const char *allocate_new(struct model *m, const struct addr *client,
                                const struct stun_msg *msg, const struct stun_msg *reply)
{
    struct span username = stun_msg_bytes(msg, STUN_ID_USERNAME);
    struct span token = stun_msg_bytes(reply, STUN_ID_RESERVATION_TOKEN);
    struct span even = stun_msg_bytes(msg, STUN_ID_EVEN_PORT);
    struct model_alloc a = {.client = *client, .has_token = token.len == MODEL_TOKEN};
    const char *problem = take_places(m, msg, reply, &a);
    memcpy(a.username, username.data, username.len < sizeof a.username ? username.len : 0);
    memcpy(a.tid, stun_msg_tid(msg), sizeof a.tid);
    memcpy(a.rooms, m->grants[model_user(username)], sizeof a.rooms);
    if (a.has_token)
        memcpy(a.token, token.data, sizeof a.token);
    if (a.has_token != (even.len && even.data[0] & 0x80))
        problem = "RESERVATION-TOKEN is there, or not, against the request";
    struct model_alloc *slot = free_alloc(m, client);
    if (model_until(slot) > m->now.ms - MODEL_LINGER_MS && !addr_eq(&slot->client, client))
        problem = "the model is full";
    *slot = a;
    if (a.has_token)
        hold(m, &a);
    struct model_made *made = &m->made[m->made_count++ % MODEL_MADE];
    if (made->until > m->now.ms)
        problem = "the model has no room for a transaction";
    *made = (struct model_made){.client = *client, .until = m->now.ms + MODEL_REPEAT_MS};
    memcpy(made->tid, a.tid, sizeof made->tid);
    m->counts[TURN_N_CREATED]++;
    return problem;
}

static const char *judge_allocate(const struct model *m, const struct model_alloc *a,
                                  const struct stun_msg *msg, const struct stun_msg *reply)
{
    struct addr at;
    uint32_t lifetime = 0;
    struct span token = stun_msg_bytes(reply, STUN_ID_RESERVATION_TOKEN);
    if (stun_msg_addr(reply, STUN_ID_XOR_MAPPED_ADDRESS, &at) != CT_OK || !addr_eq(&at, &a->client))
        return "XOR-MAPPED-ADDRESS is not the client's";
    if (stun_msg_addr(reply, STUN_ID_XOR_RELAYED_ADDRESS, &at) != CT_OK ||
        !addr_eq(&at, &a->places[at.family == ADDR_V6].at))
        return "another XOR-RELAYED-ADDRESS than before";
    if (stun_msg_u32(reply, STUN_ID_LIFETIME, &lifetime) != CT_OK ||
        lifetime != (model_until(a) - m->now.ms + 999) / 1000)
        return "LIFETIME of the Allocate response";
    if (a->has_token && !span_eq(token, span_of(a->token, MODEL_TOKEN)))
        return "another RESERVATION-TOKEN than before";
    if (stun_msg_has(msg, STUN_ID_ADDITIONAL_ADDRESS_FAMILY) &&
        !(a->places[0].until && a->places[1].until) &&
        !stun_msg_has(reply, STUN_ID_ADDRESS_ERROR_CODE))
        return "half of a dual allocation is missing without a word";
    return NULL;
}

/* RFC 8656 §8.1: permissions and channels of a family go with its relayed address. */
static void release_place(struct model_alloc *a, size_t f)
{
    a->places[f].until = 0;
    for (size_t i = 0; i < MODEL_PERMS; i++)
        if ((a->perms[i].ip.family == ADDR_V6) == (f == 1))
            a->perms[i] = (struct model_perm){0};
    for (size_t i = 0; i < MODEL_CHANS; i++)
        if ((a->chans[i].peer.family == ADDR_V6) == (f == 1))
            a->chans[i] = (struct model_chan){0};
}

static const char *refreshed(struct model *m, struct model_alloc *a, const struct stun_msg *msg,
                             const struct stun_msg *reply)
{
    uint8_t family = ADDR_NONE;
    uint32_t asked = 1, told = 1;
    (void)stun_msg_first_byte(msg, STUN_ID_REQUESTED_ADDRESS_FAMILY, &family);
    (void)stun_msg_u32(msg, STUN_ID_LIFETIME, &asked);
    uint32_t lifetime = asked ? granted(m, msg) : 0;
    for (size_t f = 0; f < 2; f++) {
        if ((family != ADDR_NONE && (family == ADDR_V6) != (f == 1)) ||
            a->places[f].until <= m->now.ms)
            continue;
        a->places[f].until = m->now.ms + (uint64_t)lifetime * 1000;
        if (!lifetime)
            release_place(a, f);
    }
    m->counts[TURN_N_REFRESHES]++;
    if (!model_live(m, a)) {
        m->counts[TURN_N_RELEASED]++;
        a->client = (struct addr){0};
    }
    if (stun_msg_u32(reply, STUN_ID_LIFETIME, &told) != CT_OK || told != lifetime)
        return "LIFETIME of the Refresh response";
    return NULL;
}

static const char *permit(struct model *m, struct model_alloc *a, const struct addr *peer)
{
    struct model_perm *p = model_perm(a, peer);
    for (size_t i = 0; !p && i < MODEL_PERMS; i++)
        if (a->perms[i].until == 0)
            p = &a->perms[i];
    if (!p)
        return "the model has no room for a permission";
    *p = (struct model_perm){*peer, m->now.ms + (uint64_t)m->rules.permission * 1000};
    p->ip.port = 0;
    m->counts[TURN_N_PERMISSIONS]++;
    return NULL;
}

static const char *permitted(struct model *m, struct model_alloc *a, const struct stun_msg *msg)
{
    struct stun_attr attr;
    struct addr peer;
    const char *problem = NULL;
    for (uint32_t pos = STUN_HEADER_SIZE; pos < msg->attrs_end && stun_msg_next(msg, &pos, &attr);)
        if (attr.type == STUN_ATTR_XOR_PEER_ADDRESS && !problem &&
            stun_addr_decode(attr.value, true, stun_msg_tid(msg), &peer) == CT_OK)
            problem = permit(m, a, &peer);
    return problem;
}

static const char *bound(struct model *m, struct model_alloc *a, const struct stun_msg *msg)
{
    uint16_t number = 0;
    struct addr peer = {0};
    struct model_chan *c = NULL;
    (void)stun_msg_channel(msg, &number);
    (void)stun_msg_addr(msg, STUN_ID_XOR_PEER_ADDRESS, &peer);
    for (size_t i = 0; i < MODEL_CHANS; i++)
        if (a->chans[i].until == 0 || a->chans[i].number == number ||
            addr_eq(&a->chans[i].peer, &peer))
            a->chans[i] = (struct model_chan){0};
    for (size_t i = 0; !c && i < MODEL_CHANS; i++)
        if (a->chans[i].until == 0)
            c = &a->chans[i];
    if (!c)
        return "the model has no room for a channel";
    *c = (struct model_chan){number, peer, m->now.ms + (uint64_t)m->rules.channel * 1000};
    m->counts[TURN_N_CHANNELS]++;
    return permit(m, a, &peer);
}

/* ---- answers ---- */

static int code_of(const struct stun_msg *reply)
{
    struct span code = stun_msg_bytes(reply, STUN_ID_ERROR_CODE);
    if (reply->cls == STUN_SUCCESS)
        return 0;
    return code.len >= 4 ? code.data[2] * 100 + code.data[3] : -1;
}

static void count(struct model *m, const struct stun_msg *request, int code)
{
    bool challenged = !stun_msg_has(request, STUN_ID_MESSAGE_INTEGRITY);
    enum turn_counter which = code == STUN_STALE_NONCE       ? TURN_N_STALE
                              : code != STUN_UNAUTHENTICATED ? TURN_N_ERRORS
                              : challenged                   ? TURN_N_CHALLENGES
                                                             : TURN_N_UNAUTHENTICATED;
    m->counts[TURN_N_REQUESTS]++;
    m->counts[TURN_N_BINDINGS] += code == 0 && request->method == STUN_BINDING;
    if (code)
        m->counts[which]++;
    m->counts[TURN_N_FORBIDDEN] += code == STUN_FORBIDDEN;
    m->counts[TURN_N_REFUSED_ADMISSION] +=
        code == STUN_FORBIDDEN && request->method == STUN_ALLOCATE;
}

static const char *succeeded(struct model *m, const struct addr *client,
                             const struct stun_msg *request, const struct stun_msg *reply)
{
    struct model_alloc *a = model_find(m, client);
    const char *problem = NULL;
    switch (request->method) {
    case STUN_ALLOCATE:
        problem = a ? NULL : allocate_new(m, client, request, reply);
        a = model_find(m, client);
        return problem ? problem : a ? judge_allocate(m, a, request, reply) : "no relayed address";
    case STUN_REFRESH:
        return refreshed(m, a, request, reply);
    case STUN_CREATE_PERMISSION:
        return permitted(m, a, request);
    case STUN_CHANNEL_BIND:
        return bound(m, a, request);
    default:
        return NULL;
    }
}

const char *model_answer(struct model *m, const struct addr *client, const struct stun_msg *request,
                         const struct stun_msg *reply)
{
    struct model_verdict must = model_expect(m, client, request);
    if (!reply && must.code == MODEL_SILENCE) {
        m->counts[TURN_N_REQUESTS]++;
        m->counts[TURN_N_DROP_EARLY]++;
        return NULL;
    }
    if (!reply)
        return "a request was not answered";
    int code = code_of(reply);
    if (reply->method != request->method ||
        memcmp(stun_msg_tid(reply), stun_msg_tid(request), STUN_TID_SIZE) != 0)
        return "an answer is to another request";
    if (code != must.code && code != must.or_code)
        return "an answer has the wrong code";
    bool refused = code == STUN_UNAUTHENTICATED || code == STUN_STALE_NONCE;
    if (request->method != STUN_BINDING &&
        stun_msg_has(reply, STUN_ID_MESSAGE_INTEGRITY) == refused)
        return "integrity of an answer";
    count(m, request, code);
    m->late += code == STUN_ALLOCATION_MISMATCH && request->method == STUN_ALLOCATE &&
               !model_find(m, client);
    if (refused)
        learn_nonce(m, client, reply);
    return code ? NULL : succeeded(m, client, request, reply);
}
