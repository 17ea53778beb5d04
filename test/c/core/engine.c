#include "engine.h"

#include "core/turn_frame.h"
#include "exact.h"

#include <stdio.h>

/* ---- effects ---- */

static struct engine *engine_of(struct turn_io *io)
{
    return (struct engine *)(void *)((char *)io - offsetof(struct engine, io));
}

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    struct engine *e = engine_of(io);
    CHECK(size <= sizeof e->scratch);
    return e->scratch;
}

static struct sent *keep(struct sent *sent, size_t n, const struct turn_out *out)
{
    struct sent *s = &sent[n % ENGINE_OUT_MAX];
    memset(s, 0, sizeof *s);
    s->whole = out->head.len + out->body.len + out->pad;
    struct turn_out kept = *out;
    if (s->whole > sizeof s->bytes)
        kept.body.len = sizeof s->bytes - out->head.len - out->pad;
    struct wbuf w = wbuf_of(s->bytes, sizeof s->bytes);
    turn_out_put(&w, &kept);
    CHECK(!w.failed);
    s->len = w.pos;
    return s;
}

static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    struct engine *e = engine_of(io);
    CHECK(!e->locked);
    keep(e->to_client, e->to_clients++, out)->tuple = *to;
}

static void io_to_peer(struct turn_io *io, struct turn_relay *from, const struct addr *to,
                       struct span data, unsigned flags)
{
    struct engine *e = engine_of(io);
    CHECK(from->open && !e->locked);
    struct turn_out out = {.body = data};
    struct sent *s = keep(e->to_peer, e->to_peers++, &out);
    s->from = from->at;
    s->to = *to;
    s->flags = flags;
}

static bool taken(const struct engine *e, const struct addr *at)
{
    for (size_t i = 0; i < ENGINE_RELAYS_MAX; i++)
        if (e->relays[i].open && addr_eq(&e->relays[i].at, at))
            return true;
    for (size_t i = 0; i < sizeof e->busy_ports / sizeof *e->busy_ports; i++)
        if (e->busy_ports[i] == at->port)
            return true;
    return false;
}

static enum ct_err io_relay_open(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_relay **out)
{
    struct engine *e = engine_of(io);
    CHECK(!e->locked);
    if (e->no_sockets)
        return CT_ESYS;
    if (taken(e, at))
        return CT_EINUSE;
    for (size_t i = 0; i < ENGINE_RELAYS_MAX; i++) {
        if (e->relays[i].open)
            continue;
        e->relays[i] = (struct turn_relay){.at = *at, .alloc = alloc, .open = true};
        *out = &e->relays[i];
        return CT_OK;
    }
    return CT_ESYS;
}

static void io_relay_close(struct turn_io *io, struct turn_relay *relay)
{
    CHECK(!engine_of(io)->locked && relay->open);
    relay->open = false;
}

static void io_random(struct turn_io *io, void *out, size_t n)
{
    struct engine *e = engine_of(io);
    uint8_t *p = out;
    for (size_t i = 0; i < n; i++) {
        e->random_state = e->random_state * 6364136223846793005u + 1442695040888963407u;
        p[i] = (uint8_t)(e->random_state >> 56);
    }
}

/* At once, and its answer comes from here: all workers send by the same addresses. */
static void io_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple,
                         struct span data)
{
    struct engine *e = engine_of(io), *other = &e->others[worker];
    struct exact copy = exact_of(data.data, data.len, 0);
    struct turn_packet packet = {.data = copy.data, .len = copy.len};
    CHECK(e->others && !e->locked && worker != e->worker);
    e->handed++;
    size_t before = other->to_clients;
    turn_server_handed(other->server, tuple, &packet, e->now);
    for (; before < other->to_clients; before++)
        e->to_client[e->to_clients++ % ENGINE_OUT_MAX] = other->to_client[before % ENGINE_OUT_MAX];
    exact_free(&copy);
}

static void io_hand_over_gone(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple)
{
    struct engine *e = engine_of(io);
    turn_server_handed_gone(e->others[worker].server, tuple, e->now);
}

/* At once, from memory that is gone afterwards. */
static void io_pair_over(struct turn_io *io, unsigned worker, const struct turn_pair *pair)
{
    struct engine *e = engine_of(io), *other = &e->others[worker];
    struct turn_pair copy = *pair;
    struct exact bytes = exact_of(pair->data.data, pair->data.len, 0);
    CHECK(e->others && !e->locked && worker != e->worker && e->config.pair);
    e->paired_over++;
    struct exact rooms = exact_of(pair->rooms, pair->rooms ? sizeof *pair->rooms : 0, 0);
    copy.data = span_of(bytes.data, bytes.len);
    copy.rooms = pair->rooms ? (const void *)rooms.data : NULL;
    CHECK_EQ(pair->rooms != NULL, e->config.admission == TURN_ADMISSION_ROOM);
    if (!e->ring_full)
        turn_server_paired(other->server, &copy, other->now);
    exact_free(&bytes);
    exact_free(&rooms);
}

static void io_event(struct turn_io *io, const struct turn_event *event)
{
    struct engine *e = engine_of(io);
    switch (event->kind) {
    case TURN_EV_ALLOCATION_CREATED:
        e->created++;
        break;
    case TURN_EV_ALLOCATION_ENDED:
        e->ended++;
        e->last_end = event->end;
        e->ended_up_bytes = event->alloc->up_bytes;
        e->ended_down_bytes = event->alloc->down_bytes;
        break;
    case TURN_EV_PEER_FORBIDDEN:
        e->forbidden++;
        break;
    case TURN_EV_PERMISSION_CREATED:
        e->permitted++;
        e->last_peer = *event->peer;
        break;
    case TURN_EV_AUTH_FAILED:
        e->auth_failed++;
        snprintf(e->last_reason, sizeof e->last_reason, "%s", event->reason);
        break;
    case TURN_EV_ADMISSION_REFUSED:
        CHECK(!event->alloc && event->username.len);
        e->not_admitted++;
        break;
    }
}

static void io_lock(struct turn_io *io)
{
    CHECK(engine_of(io)->locked++ == 0);
}

static void io_unlock(struct turn_io *io)
{
    CHECK(--engine_of(io)->locked == 0);
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
    .tcp_listen = engine_tcp_listen,
    .tcp_unlisten = engine_tcp_unlisten,
    .tcp_connect = engine_tcp_connect,
    .tcp_join = engine_tcp_join,
    .tcp_close = engine_tcp_close,
    .tcp_hand_over = engine_tcp_hand_over,
};

/* ---- the engine's life ---- */

struct addr addr_of(const char *text)
{
    struct addr a = {0};
    CHECK(addr_parse(text, strlen(text), &a) == CT_OK);
    return a;
}

static void allow(struct turn_config *config, const char *text)
{
    struct addr_prefix prefix;
    CHECK(addr_prefix_parse(text, strlen(text), &prefix) == CT_OK);
    CHECK(turn_policy_add(&config->policy, &prefix, TURN_RULE_ALLOW) == CT_OK);
}

void engine_init(struct engine *e)
{
    memset(e, 0, sizeof *e);
    turn_config_defaults(&e->config);
    snprintf(e->config.realm, sizeof e->config.realm, "example.org");
    e->config.secrets[0] = (struct turn_secret){.bytes = "north", .len = 5};
    e->config.secret_count = 1;
    e->config.relays[0].bind = e->config.relays[0].external = addr_of("192.0.2.1");
    e->config.relays[1].bind = e->config.relays[1].external = addr_of("2001:db8::1");
    e->config.relay_count = 2;
    e->config.max_allocations = 512;
    memset(e->config.nonce_key, 7, sizeof e->config.nonce_key);
    allow(&e->config, "198.51.100.0/24");
    allow(&e->config, "203.0.113.0/24");
    allow(&e->config, "2001:db8:1::/48");
    e->now = (struct turn_now){.ms = 5000000, .unix_s = 1700000000};
    e->io.ops = &ops;
    e->random_state = 42;
}

void engine_start(struct engine *e)
{
    const char *problem = turn_config_check(&e->config);
    CHECK(problem == NULL);
    e->crypto = crypto_new();
    e->commons = e->host ? e->host->commons : turn_commons_new(&e->config);
    CHECK(e->crypto && e->commons);
    struct turn_server_setup setup = {.config = &e->config,
                                      .commons = e->commons,
                                      .crypto = e->crypto,
                                      .io = &e->io,
                                      .worker = e->worker};
    e->server = turn_server_new(&setup, e->now);
    CHECK(e->server != NULL);
}

unsigned engine_open_relays(const struct engine *e)
{
    unsigned n = 0;
    for (size_t i = 0; i < ENGINE_RELAYS_MAX; i++)
        n += e->relays[i].open;
    return n;
}

/* Ports that somebody has taken or is bound to. */
static unsigned ports_taken(const struct engine *e)
{
    struct turn_owner owner;
    unsigned n = 0;
    for (uint8_t relay = 0; relay < e->config.relay_count; relay++) {
        for (uint32_t i = e->config.port_min; i <= e->config.port_max; i++) {
            struct turn_port udp = {.relay = relay, .port = (uint16_t)i}, tcp = udp;
            tcp.tcp = true;
            n += turn_commons_port_used(e->commons, udp) ||
                 turn_commons_owner(e->commons, udp, &owner);
            n += turn_commons_port_used(e->commons, tcp);
        }
    }
    return n;
}

void engine_stop(struct engine *e)
{
    turn_server_free(e->server, e->now);
    CHECK_EQ(engine_open_relays(e), 0);
    CHECK_EQ(engine_open_acceptors(e), 0);
    CHECK_EQ(engine_open_pipes(e), 0);
    CHECK_EQ(e->created, e->ended);
    CHECK_EQ(e->locked, 0);
    crypto_free(e->crypto);
    if (e->host)
        return;
    turn_commons_expire(e->commons, e->now.ms + (uint64_t)TURN_LIFETIME_LIMIT * 1000);
    CHECK_EQ(ports_taken(e), 0);
    turn_commons_free(e->commons);
}

void engine_pass(struct engine *e, uint64_t ms)
{
    uint64_t end = e->now.ms + ms, start_ms = e->now.ms, start_s = e->now.unix_s;
    for (uint64_t due; (due = turn_server_deadline(e->server)) <= end;) {
        e->now.ms = due > e->now.ms ? due : e->now.ms;
        e->now.unix_s = start_s + (e->now.ms - start_ms) / 1000;
        turn_server_expire(e->server, e->now);
    }
    e->now.ms = end;
    e->now.unix_s = start_s + ms / 1000;
}

void engine_clear(struct engine *e)
{
    e->to_clients = e->to_peers = 0;
}

uint64_t engine_counter(const struct engine *e, enum turn_counter which)
{
    return atomic_load(&turn_server_counters(e->server)->n[which]);
}

/* ---- clients ---- */

struct client client_with(struct engine *e, const char *address, const char *username,
                          const char *secret)
{
    struct client c = {.e = e, .fingerprint = true};
    char password[STUN_REST_PASSWORD_MAX];
    size_t len;
    c.tuple.client = addr_of(address);
    c.tuple.server = addr_of("192.0.2.1:3478");
    snprintf(c.username, sizeof c.username, "%s", username);
    CHECK(stun_rest_password(e->crypto, CRYPTO_SHA1, span_str(secret), span_str(username), password,
                             &len) == CT_OK);
    struct stun_long_term cred = {.username = span_str(username),
                                  .realm = span_str(e->config.realm),
                                  .password = span_of(password, len)};
    CHECK(stun_key_long_term(e->crypto, STUN_PASSWORD_MD5, &cred, &c.key) == CT_OK);
    return c;
}

struct client client_at(struct engine *e, const char *address, const char *user)
{
    char username[128];
    snprintf(username, sizeof username, "%" PRIu64 ":%s", e->now.unix_s + 3600, user);
    return client_with(e, address, username, "north");
}

struct turn_token_key token_key(void)
{
    return (struct turn_token_key){.kid = "keys-1",
                                   .kid_len = 6,
                                   .key = "a key of 32 bytes, shared by two",
                                   .key_len = 32,
                                   .until = UINT64_MAX};
}

size_t token_seal(struct engine *e, const struct turn_token_key *key, struct span server_name,
                  const struct turn_token *token, uint8_t out[128])
{
    uint8_t block[2 + TURN_MAC_KEY_MAX + 12];
    struct wbuf b = wbuf_of(block, sizeof block), w = wbuf_of(out, 128);
    wbuf_u16(&b, token->mac_key.len);
    wbuf_bytes(&b, token->mac_key.bytes, token->mac_key.len);
    wbuf_u64(&b, token->issued_s << 16);
    wbuf_u32(&b, token->lifetime);
    wbuf_u16(&w, CRYPTO_IV_SIZE);
    uint8_t *iv = wbuf_room(&w, CRYPTO_IV_SIZE);
    uint8_t *sealed = wbuf_room(&w, b.pos + CRYPTO_TAG_SIZE);
    CHECK(iv && sealed);
    io_random(&e->io, iv, CRYPTO_IV_SIZE);
    const struct crypto_gcm gcm = {
        .key = span_of(key->key, key->key_len), .iv = iv, .aad = server_name};
    CHECK_EQ(crypto_seal(e->crypto, &gcm, span_of(block, b.pos), sealed), CT_OK);
    return w.pos;
}

void client_take_token(struct client *c, const struct turn_token_key *key, const char *secret,
                       uint32_t lifetime)
{
    struct turn_token token = {.issued_s = c->e->now.unix_s, .lifetime = lifetime};
    token.mac_key.len = 20;
    snprintf((char *)token.mac_key.bytes, sizeof token.mac_key.bytes, "%-20.20s", secret);
    snprintf(c->username, sizeof c->username, "%.*s", key->kid_len, (const char *)key->kid);
    c->key = token.mac_key;
    c->token_len = token_seal(c->e, key, turn_config_server_name(&c->e->config), &token, c->token);
}

struct client client_by_token(struct engine *e, const char *address, const char *secret,
                              uint32_t lifetime)
{
    struct client c = client_at(e, address, "");
    client_take_token(&c, &e->config.oauth_keys[0], secret, lifetime);
    return c;
}

void client_new_tid(struct client *c)
{
    io_random(&c->e->io, c->tid, sizeof c->tid);
}

void attrs_init(struct attrs *a)
{
    memset(a, 0, sizeof *a);
    a->w = wbuf_of(a->bytes, sizeof a->bytes);
    stun_begin(&a->w, 0, (const uint8_t[STUN_TID_SIZE]){0});
}

void attrs_peer(struct attrs *a, struct client *c, const char *address)
{
    struct addr peer = addr_of(address);
    memcpy(a->bytes + 8, c->tid, STUN_TID_SIZE);
    stun_put_xaddr(&a->w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
}

void attrs_u32(struct attrs *a, uint16_t type, uint32_t v)
{
    stun_put_u32(&a->w, type, v);
}

void attrs_bytes(struct attrs *a, uint16_t type, const void *v, size_t len)
{
    stun_put(&a->w, type, v, len);
}

/* Hands the engine a copy that ends where it ends. */
void client_send(struct client *c, const void *data, size_t len)
{
    struct exact copy = exact_of(data, len, 0);
    struct turn_packet packet = {.data = copy.data, .len = copy.len};
    turn_server_from_client(c->e->server, &c->tuple, &packet, c->e->now);
    exact_free(&copy);
}

static void put_credentials(struct client *c, struct wbuf *w)
{
    uint8_t hash[32];
    CHECK_EQ(stun_userhash(c->e->crypto, span_str(c->username), span_str(c->realm), hash), CT_OK);
    if (c->hashed)
        stun_put(w, STUN_ATTR_USERHASH, hash, sizeof hash);
    else
        stun_put(w, STUN_ATTR_USERNAME, c->username, strlen(c->username));
    stun_put(w, STUN_ATTR_REALM, c->realm, strlen(c->realm));
    stun_put(w, STUN_ATTR_NONCE, c->nonce, strlen(c->nonce));
    if (c->algorithms) {
        stun_put(w, STUN_ATTR_PASSWORD_ALGORITHMS, "\0\2\0\0\0\1\0\0", 8);
        stun_put(w, STUN_ATTR_PASSWORD_ALGORITHM, c->key.len == 32 ? "\0\2\0\0" : "\0\1\0\0", 4);
    }
    CHECK(stun_put_integrity(w, c->e->crypto, c->integrity, &c->key) == CT_OK);
}

/* What holds for every answer: STUN-MSG-13, STUN-ATTR-19, STUN-MI-09, STUN-LTC-02, 17, 18. */
static void check_answer(const struct client *c, int code)
{
    const struct stun_msg *m = &c->msg;
    bool challenge = code == STUN_UNAUTHENTICATED || code == STUN_STALE_NONCE;
    bool sha1 = stun_msg_has(m, STUN_ID_MESSAGE_INTEGRITY);
    bool sha256 = stun_msg_has(m, STUN_ID_MESSAGE_INTEGRITY_SHA256);
    CHECK_EQ(m->method, c->method);
    CHECK_EQ(stun_msg_has(m, STUN_ID_ERROR_CODE), m->cls == STUN_ERROR);
    CHECK(!stun_msg_has(m, STUN_ID_USERNAME) && !stun_msg_has(m, STUN_ID_USERHASH));
    CHECK(!stun_msg_has(m, STUN_ID_PASSWORD_ALGORITHM));
    CHECK(!sha1 || !sha256);
    CHECK_EQ(stun_msg_has(m, STUN_ID_REALM), challenge);
    CHECK_EQ(stun_msg_has(m, STUN_ID_NONCE), challenge);
    CHECK_EQ(stun_msg_has(m, STUN_ID_PASSWORD_ALGORITHMS), challenge);
    if (challenge || c->method == STUN_BINDING)
        CHECK(!sha1 && !sha256);
    else if (code != STUN_BAD_REQUEST && code != STUN_UNKNOWN_ATTRIBUTE) /* before it, or after */
        CHECK(sha1 || sha256);
}

static int code_of(const struct client *c)
{
    if (c->msg.cls == STUN_SUCCESS)
        return 0;
    struct span code = stun_msg_bytes(&c->msg, STUN_ID_ERROR_CODE);
    CHECK(c->msg.cls == STUN_ERROR && code.len >= 4);
    return code.len >= 4 ? code.data[2] * 100 + code.data[3] : NO_REPLY;
}

int client_read(struct client *c, struct span reply)
{
    struct engine *e = c->e;
    CHECK(reply.len <= sizeof c->reply);
    memcpy(c->reply, reply.data, reply.len);
    c->reply_len = reply.len;
    CHECK_EQ(stun_msg_decode(&c->msg, c->reply, c->reply_len, NULL), CT_OK);
    CHECK_BYTES(stun_msg_tid(&c->msg), c->tid, STUN_TID_SIZE);
    if (stun_msg_has(&c->msg, STUN_ID_MESSAGE_INTEGRITY))
        CHECK_EQ(stun_check_integrity(e->crypto, &c->msg, STUN_INTEGRITY_SHA1, &c->key), CT_OK);
    if (stun_msg_has(&c->msg, STUN_ID_MESSAGE_INTEGRITY_SHA256))
        CHECK_EQ(stun_check_integrity(e->crypto, &c->msg, STUN_INTEGRITY_SHA256, &c->key), CT_OK);
    int code = code_of(c);
    check_answer(c, code);
    return code;
}

static int read_reply(struct client *c, size_t replies_before)
{
    struct engine *e = c->e;
    if (e->to_clients == replies_before)
        return NO_REPLY;
    CHECK_EQ(e->to_clients, replies_before + 1);
    const struct sent *s = &e->to_client[(e->to_clients - 1) % ENGINE_OUT_MAX];
    CHECK(memcmp(&s->tuple, &c->tuple, sizeof c->tuple) == 0);
    return client_read(c, span_of(s->bytes, s->len));
}

size_t client_encode(struct client *c, uint16_t method, const struct attrs *a,
                     uint8_t bytes[ENGINE_BYTES_MAX])
{
    struct wbuf w = wbuf_of(bytes, ENGINE_BYTES_MAX);
    c->method = method;
    stun_begin(&w, stun_type(method, STUN_REQUEST), c->tid);
    if (a) {
        wbuf_bytes(&w, a->bytes + STUN_HEADER_SIZE, a->w.pos - STUN_HEADER_SIZE);
        wbuf_patch_u16(&w, 2, (uint16_t)(w.pos - STUN_HEADER_SIZE));
    }
    if (*c->nonce && c->token_len && (method == STUN_ALLOCATE || method == STUN_REFRESH))
        stun_put(&w, STUN_ATTR_ACCESS_TOKEN, c->token, c->token_len);
    if (*c->nonce)
        put_credentials(c, &w);
    if (c->fingerprint)
        stun_put_fingerprint(&w);
    CHECK(!w.failed);
    return w.pos;
}

int client_send_request(struct client *c, uint16_t method, const struct attrs *a)
{
    uint8_t bytes[ENGINE_BYTES_MAX];
    size_t before = c->e->to_clients, len = client_encode(c, method, a, bytes);
    client_send(c, bytes, len);
    return read_reply(c, before);
}

void client_learn(struct client *c)
{
    struct span realm = stun_msg_bytes(&c->msg, STUN_ID_REALM);
    struct span nonce = stun_msg_bytes(&c->msg, STUN_ID_NONCE);
    CHECK(realm.len && realm.len < sizeof c->realm && nonce.len && nonce.len < sizeof c->nonce);
    snprintf(c->realm, sizeof c->realm, "%.*s", (int)realm.len, (const char *)realm.data);
    snprintf(c->nonce, sizeof c->nonce, "%.*s", (int)nonce.len, (const char *)nonce.data);
}

int client_request(struct client *c, uint16_t method, const struct attrs *a)
{
    int code = client_send_request(c, method, a);
    if ((code != STUN_UNAUTHENTICATED || *c->nonce) && code != STUN_STALE_NONCE)
        return code;
    client_learn(c);
    return client_send_request(c, method, a);
}

int client_allocate_with(struct client *c, const struct attrs *more)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    if (more)
        wbuf_bytes(&a.w, more->bytes + STUN_HEADER_SIZE, more->w.pos - STUN_HEADER_SIZE);
    client_new_tid(c);
    int code = client_request(c, STUN_ALLOCATE, &a);
    if (code == 0)
        CHECK_EQ(stun_msg_addr(&c->msg, STUN_ID_XOR_RELAYED_ADDRESS, &c->relayed), CT_OK);
    return code;
}

int client_allocate(struct client *c)
{
    return client_allocate_with(c, NULL);
}

int client_refresh(struct client *c, uint32_t lifetime)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_LIFETIME, lifetime);
    client_new_tid(c);
    return client_request(c, STUN_REFRESH, &a);
}

int client_permit(struct client *c, const char *peer)
{
    struct attrs a;
    attrs_init(&a);
    client_new_tid(c);
    attrs_peer(&a, c, peer);
    return client_request(c, STUN_CREATE_PERMISSION, &a);
}

int client_bind(struct client *c, uint16_t channel, const char *peer)
{
    struct attrs a;
    attrs_init(&a);
    client_new_tid(c);
    attrs_u32(&a, STUN_ATTR_CHANNEL_NUMBER, (uint32_t)channel << 16);
    attrs_peer(&a, c, peer);
    return client_request(c, STUN_CHANNEL_BIND, &a);
}

void client_channel_data(struct client *c, uint16_t channel, const char *payload)
{
    uint8_t bytes[ENGINE_BYTES_MAX];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    turn_channel_data_encode(&w, channel, span_str(payload), false);
    client_send(c, bytes, w.pos);
}

void client_indication(struct client *c, const char *peer, const char *payload)
{
    uint8_t bytes[ENGINE_BYTES_MAX];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    struct addr at = addr_of(peer);
    client_new_tid(c);
    stun_begin(&w, stun_type(STUN_SEND, STUN_INDICATION), c->tid);
    stun_put_xaddr(&w, STUN_ATTR_XOR_PEER_ADDRESS, &at);
    stun_put(&w, STUN_ATTR_DATA, payload, strlen(payload));
    client_send(c, bytes, w.pos);
}

/* The relay socket that serves the client's relayed address, by port. */
static const struct turn_relay *relay_of(const struct client *c)
{
    for (size_t i = 0; i < ENGINE_RELAYS_MAX; i++) {
        const struct turn_relay *r = &c->e->relays[i];
        if (r->open && r->at.port == c->relayed.port && r->at.family == c->relayed.family)
            return r;
    }
    return NULL;
}

void peer_send(struct client *c, const char *peer, const char *payload)
{
    const struct turn_relay *relay = relay_of(c);
    struct addr from = addr_of(peer);
    size_t len = strlen(payload);
    if (!relay)
        return;
    struct exact copy = exact_of(payload, len, 0);
    struct turn_packet packet = {.data = copy.data, .len = copy.len};
    turn_server_from_peer(c->e->server, relay->alloc, &from, &packet, c->e->now);
    exact_free(&copy);
}

bool engine_carry(struct engine *e)
{
    if (!e->to_peers)
        return false;
    struct sent s = e->to_peer[(e->to_peers - 1) % ENGINE_OUT_MAX];
    for (size_t i = 0; i < ENGINE_RELAYS_MAX; i++) {
        if (!e->relays[i].open || !addr_eq(&e->relays[i].at, &s.to))
            continue;
        struct turn_packet packet = {.data = s.bytes, .len = s.len};
        turn_server_from_peer(e->server, e->relays[i].alloc, &s.from, &packet, e->now);
        return true;
    }
    return false;
}

static const struct sent *last_to_client(const struct client *c)
{
    const struct engine *e = c->e;
    if (!e->to_clients)
        return NULL;
    const struct sent *s = &e->to_client[(e->to_clients - 1) % ENGINE_OUT_MAX];
    return memcmp(&s->tuple, &c->tuple, sizeof c->tuple) == 0 ? s : NULL;
}

bool got_channel_data(const struct client *c, uint16_t channel, const char *payload)
{
    const struct sent *s = last_to_client(c);
    struct turn_channel_data cd;
    return s && turn_channel_data_decode(s->bytes, s->len, &cd) == CT_OK && cd.channel == channel &&
           s->len == 4 + cd.data.len && span_eq(cd.data, span_str(payload));
}

bool got_indication(const struct client *c, const char *peer, const char *payload)
{
    const struct sent *s = last_to_client(c);
    struct stun_msg m;
    struct addr from, want = addr_of(peer);
    return s && stun_msg_decode(&m, s->bytes, s->len, NULL) == CT_OK &&
           m.type == stun_type(STUN_DATA, STUN_INDICATION) &&
           stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &from) == CT_OK && addr_eq(&from, &want) &&
           span_eq(stun_msg_bytes(&m, STUN_ID_DATA), span_str(payload));
}

bool peer_got(const struct client *c, const char *peer, const char *payload)
{
    const struct engine *e = c->e;
    struct addr want = addr_of(peer);
    if (!e->to_peers)
        return false;
    const struct sent *s = &e->to_peer[(e->to_peers - 1) % ENGINE_OUT_MAX];
    return s->from.port == c->relayed.port && addr_eq(&s->to, &want) &&
           span_eq(span_of(s->bytes, s->len), span_str(payload));
}
