/*
 * The engine fed with a story: each input is a list of steps, a byte that names the step and bytes
 * for its arguments. Clients on several 5-tuples send requests, with credentials that hold or do
 * not, indications, ChannelData, noise, old packets and broken ones; peers send datagrams; time
 * passes; operators kill, drain and configure. world.c watches what the engine does.
 */
#include "core/turn_frame.h"
#include "core/turn_state.h"
#include "world.h"

enum {
    CLIENTS = 6,
    USERS = 4,
    STEPS_MAX = 600,
};

struct player {
    struct turn_tuple tuple;
    char nonce[128];
    size_t nonce_len;
    uint8_t tid[STUN_TID_SIZE];
    struct addr relayed;
    uint8_t packet[WORLD_PACKET_MAX]; /* the last it sent */
    size_t packet_len;
};

struct keys {
    char username[USERS][STUN_USERNAME_MAX + 1];
    struct stun_key key[2][2][USERS][2]; /* by secret, realm, user and algorithm */
};

struct game {
    struct world w;
    struct rbuf in;
    struct player players[CLIENTS];
    uint8_t token[TURN_TOKEN_SIZE]; /* the last reservation */
    uint32_t id;                    /* the last CONNECTION-ID */
    uint8_t ticket[64];             /* the last ticket; empty at first */
    size_t ticket_len;
};

/* ---- credentials, made once ---- */

static void make_key(struct crypto *c, struct keys *k, const size_t at[4])
{
    static const char *const secrets[] = {"north", "south"};
    static const char *const realms[] = {"example.org", "example.net"};
    char password[STUN_REST_PASSWORD_MAX];
    size_t len;
    struct span username = span_str(k->username[at[2]]);
    MUST(stun_rest_password(c, CRYPTO_SHA1, span_str(secrets[at[0]]), username, password, &len) ==
         CT_OK);
    const struct stun_long_term cred = {username, span_str(realms[at[1]]), span_of(password, len)};
    MUST(stun_key_long_term(c, at[3] ? STUN_PASSWORD_SHA256 : STUN_PASSWORD_MD5, &cred,
                            &k->key[at[0]][at[1]][at[2]][at[3]]) == CT_OK);
}

static const struct keys *all_keys(struct crypto *c)
{
    static struct keys k;
    if (k.username[0][0])
        return &k;
    snprintf(k.username[0], sizeof k.username[0], "1800000000:ann");
    snprintf(k.username[1], sizeof k.username[1], "1800000000:bob");
    snprintf(k.username[2], sizeof k.username[2], "1700000050:soon over");
    snprintf(k.username[3], sizeof k.username[3], "1800000000:%0400d", 7);
    for (size_t i = 0; i < 2 * 2 * USERS * 2; i++) {
        const size_t at[4] = {i % 2, i / 2 % 2, i / 4 % USERS, i / 4 / USERS};
        make_key(c, &k, at);
    }
    return &k;
}

/* ---- choices ---- */

static struct addr addr_of(const char *text)
{
    struct addr a;
    MUST(addr_parse(text, strlen(text), &a) == CT_OK);
    return a;
}

static struct player *some_player(struct game *g)
{
    return &g->players[rbuf_u8(&g->in) % CLIENTS];
}

/* Peers that may be reached, that may not, our own relayed addresses, and any. */
static struct addr some_peer(struct game *g)
{
    static const char *const peers[] = {
        "198.51.100.1:5000",
        "198.51.100.1:5001",
        "198.51.100.7:7000",
        "198.51.100.2:0",
        "203.0.113.1:50000",
        "192.0.2.1:50001",
        "127.0.0.1:80",
        "[2001:db8:1::1]:6000",
        "[2001:db8::1]:50000",
        "[64:ff9b::198.51.100.1]:5000",
        "[::ffff:198.51.100.1]:5000",
        "8.8.8.8:53",
    };
    uint8_t which = rbuf_u8(&g->in);
    uint8_t ip[16] = {198, 51, 100};
    if (which < sizeof peers / sizeof *peers)
        return addr_of(peers[which]);
    if (which < 64)
        return g->players[which % CLIENTS].relayed;
    ip[3] = rbuf_u8(&g->in); /* many more of the same net */
    return addr_v4(ip, (uint16_t)(which << 8 | 1));
}

static struct span some_bytes(struct game *g, size_t most)
{
    size_t n = rbuf_u8(&g->in) % (most + 1);
    if (n > rbuf_left(&g->in))
        n = rbuf_left(&g->in);
    return span_of(rbuf_take(&g->in, n), n);
}

static struct span some_payload(struct game *g)
{
    static const uint8_t payload[1500] = "payload";
    uint8_t n = rbuf_u8(&g->in);
    return span_of(payload, n < 200 ? n : (n - 199) * 26u);
}

/* ---- requests ---- */

/* What only TCP allocations have comes under numbers of its own, so that old seeds keep theirs. */
enum {
    TCP_NUMBERS = 240,
    GRANT_NUMBERS = 252, /* of steps: who is admitted */
};

static void put_attr(struct game *g, struct wbuf *w)
{
    struct addr peer;
    struct span bytes;
    uint8_t which = rbuf_u8(&g->in);
    if (which >= TCP_NUMBERS) {
        stun_put_u32(w, STUN_ATTR_CONNECTION_ID, g->id ^ (which == 255));
        return;
    }
    switch (which % 16) {
    case 0:
        stun_put_u32(w, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
        break;
    case 1:
        stun_put_u32(w, STUN_ATTR_LIFETIME, rbuf_u16(&g->in));
        break;
    case 2:
    case 3:
        peer = some_peer(g);
        stun_put_xaddr(w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
        break;
    case 4:
        stun_put_u32(w, STUN_ATTR_CHANNEL_NUMBER, (0x4000u + rbuf_u8(&g->in) % 12) << 16);
        break;
    case 5:
        stun_put(w, STUN_ATTR_EVEN_PORT, rbuf_u8(&g->in) % 2 ? "\x80" : "\0", 1);
        break;
    case 6:
        stun_put(w, STUN_ATTR_RESERVATION_TOKEN, g->token, sizeof g->token);
        break;
    case 7:
        stun_put_u32(w, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, (rbuf_u8(&g->in) % 4u) << 24);
        break;
    case 8:
        stun_put(w, STUN_ATTR_DONT_FRAGMENT, NULL, 0);
        break;
    case 9:
        bytes = some_payload(g);
        stun_put(w, STUN_ATTR_DATA, bytes.data, bytes.len);
        break;
    case 12:
        stun_put_u32(w, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
        break;
    case 13:
        stun_put(w, STUN_ATTR_MOBILITY_TICKET, g->ticket, g->ticket_len);
        break;
    case 14:
        stun_put_u32(w, STUN_ATTR_CHANGE_REQUEST, rbuf_u8(&g->in) % 8);
        break;
    case 15:
        bytes = some_payload(g);
        stun_put(w, STUN_ATTR_PADDING, bytes.data, bytes.len);
        break;
    default:
        bytes = some_bytes(g, 40);
        stun_put(w, rbuf_u16(&g->in), bytes.data, bytes.len);
    }
}

static void put_attrs(struct game *g, struct wbuf *w)
{
    for (unsigned n = rbuf_u8(&g->in) % 8; n; n--)
        put_attr(g, w);
}

/* Who asks, and what is wrong with it. */
struct manner {
    unsigned user, algorithm, secret;
    enum stun_integrity integrity;
    bool anonymous, wrong_key, fingerprint, same_tid, hashed, token;
    struct stun_key key;
};

static struct manner some_manner(struct game *g)
{
    uint8_t a = rbuf_u8(&g->in), b = rbuf_u8(&g->in);
    struct manner m = {
        .user = a % USERS,
        .algorithm = a >> 2 & 1,
        .integrity = a & 8 || a & 4 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1,
        .secret = a >> 4 & 1,
        .fingerprint = a >> 5 & 1,
        .same_tid = a >> 6 & 1,
        .hashed = a >> 7 & 1,
        .anonymous = b == 1,
        .wrong_key = b == 2,
        .token = b == 3,
    };
    size_t realm = (size_t)(g->w.config - g->w.configs);
    m.key = all_keys(g->w.crypto)->key[m.secret][realm][m.user][m.algorithm];
    m.key.bytes[0] ^= (uint8_t)m.wrong_key;
    if (m.token) {
        m.key = (struct stun_key){.len = 20};
        memset(m.key.bytes, (int)('k' + m.user), m.key.len);
    }
    return m;
}

/* An ACCESS-TOKEN of now, for a minute or for an hour. */
static void put_token(struct game *g, const struct manner *m, struct wbuf *w)
{
    uint8_t block[2 + 20 + 12], token[2 + CRYPTO_IV_SIZE + sizeof block + CRYPTO_TAG_SIZE] = {0};
    struct wbuf b = wbuf_of(block, sizeof block);
    const struct turn_token_key key = world_token_key();
    const struct crypto_gcm gcm = {.key = span_of(key.key, key.key_len),
                                   .iv = token + 2,
                                   .aad = turn_config_server_name(g->w.config)};
    wbuf_u16(&b, m->key.len);
    wbuf_bytes(&b, m->key.bytes, m->key.len);
    wbuf_u64(&b, g->w.now.unix_s << 16);
    wbuf_u32(&b, m->user % 2 ? 60 : 3600);
    token[1] = CRYPTO_IV_SIZE;
    MUST(!b.failed && crypto_seal(g->w.crypto, &gcm, span_of(block, b.pos),
                                  token + 2 + CRYPTO_IV_SIZE) == CT_OK);
    stun_put(w, STUN_ATTR_ACCESS_TOKEN, token, sizeof token);
}

static void put_credentials(struct game *g, const struct player *p, const struct manner *m,
                            struct wbuf *w)
{
    const char *username = m->token ? "keys" : all_keys(g->w.crypto)->username[m->user];
    if (m->anonymous)
        return;
    if (m->token)
        put_token(g, m, w);
    uint8_t hash[TURN_USERHASH_SIZE];
    MUST(stun_userhash(g->w.crypto, span_str(username), span_str(g->w.config->realm), hash) ==
         CT_OK);
    if (m->hashed)
        stun_put(w, STUN_ATTR_USERHASH, hash, sizeof hash);
    else
        stun_put(w, STUN_ATTR_USERNAME, username, strlen(username));
    stun_put(w, STUN_ATTR_REALM, g->w.config->realm, strlen(g->w.config->realm));
    stun_put(w, STUN_ATTR_NONCE, p->nonce, p->nonce_len);
    if (m->algorithm) {
        stun_put(w, STUN_ATTR_PASSWORD_ALGORITHMS, "\0\2\0\0\0\1\0\0", 8);
        stun_put(w, STUN_ATTR_PASSWORD_ALGORITHM, "\0\2\0\0", 4);
    }
    (void)stun_put_integrity(w, g->w.crypto, m->integrity, &m->key);
}

/* The answer is to this request; only who has shown a key is answered with integrity. */
static void check_reply(struct game *g, const struct player *p, const struct manner *m,
                        const struct stun_msg *reply)
{
    struct stun_msg asked;
    MUST(stun_msg_decode(&asked, p->packet, p->packet_len, NULL) == CT_OK);
    bool sha1 = stun_msg_has(reply, STUN_ID_MESSAGE_INTEGRITY);
    bool sha256 = stun_msg_has(reply, STUN_ID_MESSAGE_INTEGRITY_SHA256);
    MUST(memcmp(stun_msg_tid(reply), p->tid, STUN_TID_SIZE) == 0 && reply->method == asked.method);
    MUST(stun_msg_has(reply, STUN_ID_FINGERPRINT) == stun_msg_has(&asked, STUN_ID_FINGERPRINT));
    MUST(!(sha1 && sha256));
    if (m->anonymous || m->wrong_key) {
        MUST(!sha1 && !sha256);
        MUST(reply->cls == STUN_ERROR || asked.method == STUN_BINDING);
    }
    MUST(sha1 || sha256 || reply->cls == STUN_ERROR || asked.method == STUN_BINDING);
    if (sha1)
        MUST(stun_check_integrity(g->w.crypto, reply, STUN_INTEGRITY_SHA1, &m->key) == CT_OK);
    if (sha256)
        MUST(stun_check_integrity(g->w.crypto, reply, STUN_INTEGRITY_SHA256, &m->key) == CT_OK);
}

/* What a client remembers of an answer. */
static void learn(struct game *g, struct player *p, const struct stun_msg *reply)
{
    struct span nonce = stun_msg_bytes(reply, STUN_ID_NONCE);
    struct span token = stun_msg_bytes(reply, STUN_ID_RESERVATION_TOKEN);
    (void)stun_msg_addr(reply, STUN_ID_XOR_RELAYED_ADDRESS, &p->relayed);
    if (token.len == TURN_TOKEN_SIZE)
        memcpy(g->token, token.data, token.len);
    struct span ticket = stun_msg_bytes(reply, STUN_ID_MOBILITY_TICKET);
    MUST(ticket.len <= sizeof g->ticket);
    if (ticket.len)
        memcpy(g->ticket, ticket.data, g->ticket_len = ticket.len);
    if (!nonce.data)
        return;
    MUST(nonce.len <= sizeof p->nonce);
    memcpy(p->nonce, nonce.data, nonce.len);
    p->nonce_len = nonce.len;
}

static void transmit(struct game *g, struct player *p)
{
    world_from_client(&g->w, &p->tuple, span_of(p->packet, p->packet_len));
}

static void request_of(struct game *g, struct player *p, uint16_t method, bool tcp)
{
    struct manner m = some_manner(g);
    struct wbuf w = wbuf_of(p->packet, sizeof p->packet);
    struct stun_msg reply;
    if (!m.same_tid)
        p->tid[0]++;
    stun_begin(&w, stun_type(method, STUN_REQUEST), p->tid);
    if (tcp && method == STUN_ALLOCATE)
        stun_put_u32(&w, STUN_ATTR_REQUESTED_TRANSPORT, 6u << 24);
    else if (tcp && method == STUN_CONNECTION_BIND)
        stun_put_u32(&w, STUN_ATTR_CONNECTION_ID, g->id);
    put_attrs(g, &w);
    put_credentials(g, p, &m, &w);
    if (m.fingerprint)
        stun_put_fingerprint(&w);
    p->packet_len = w.pos;
    if (w.failed)
        return;
    transmit(g, p);
    if (!g->w.reply_len || stun_msg_decode(&reply, g->w.reply, g->w.reply_len, NULL) != CT_OK)
        return;
    check_reply(g, p, &m, &reply);
    learn(g, p, &reply);
}

static void request(struct game *g)
{
    static const uint16_t methods[] = {STUN_ALLOCATE, STUN_REFRESH,          STUN_CREATE_PERMISSION,
                                       STUN_BINDING,  STUN_CHANNEL_BIND,     STUN_ALLOCATE,
                                       STUN_SEND,     STUN_CREATE_PERMISSION};
    struct player *p = some_player(g);
    request_of(g, p, methods[rbuf_u8(&g->in) % 8], false);
}

/* ---- TCP allocations ---- */

static void tcp_request(struct game *g)
{
    static const uint16_t methods[] = {STUN_ALLOCATE, STUN_CONNECT, STUN_CONNECTION_BIND,
                                       STUN_CREATE_PERMISSION};
    struct player *p = some_player(g);
    p->tuple.transport = TURN_TCP;
    request_of(g, p, methods[rbuf_u8(&g->in) % 4], true);
}

/* CONNECTION-ID is in the answer to Connect and in ConnectionAttempt: the engine's tables have it
 * too. */
static void learn_id(struct game *g, const struct turn_pipe *pipe)
{
    if (pipe->state == PIPE_WAITING)
        g->id = ((const struct turn_tcp *)slab_at(&g->w.server->tcps, pipe->tcp))->id;
}

static void tcp_connected(struct game *g)
{
    uint8_t which = rbuf_u8(&g->in);
    struct turn_pipe *pipe = &g->w.pipes[which % WORLD_PIPES];
    world_tcp_connected(&g->w, pipe, which < 200);
    learn_id(g, pipe);
}

static void tcp_accept(struct game *g)
{
    const struct turn_acceptor *acceptor = &g->w.acceptors[rbuf_u8(&g->in) % WORLD_RELAYS];
    struct addr peer = some_peer(g);
    world_tcp_accept(&g->w, acceptor, &peer);
}

static void tcp_gone(struct game *g)
{
    struct turn_pipe *pipe = &g->w.pipes[rbuf_u8(&g->in) % WORLD_PIPES];
    learn_id(g, pipe);
    world_tcp_gone(&g->w, pipe);
}

/* ---- other packets ---- */

static void indication(struct game *g)
{
    struct player *p = some_player(g);
    struct wbuf w = wbuf_of(p->packet, sizeof p->packet);
    struct addr peer = some_peer(g);
    struct span payload = some_payload(g);
    stun_begin(&w, stun_type(STUN_SEND, STUN_INDICATION), p->tid);
    stun_put_xaddr(&w, STUN_ATTR_XOR_PEER_ADDRESS, &peer);
    stun_put(&w, STUN_ATTR_DATA, payload.data, payload.len);
    put_attrs(g, &w);
    p->packet_len = w.pos;
    if (!w.failed)
        transmit(g, p);
}

static void channel_data(struct game *g)
{
    struct player *p = some_player(g);
    struct wbuf w = wbuf_of(p->packet, sizeof p->packet);
    uint16_t channel = (uint16_t)(0x4000 + rbuf_u8(&g->in) % 12);
    turn_channel_data_encode(&w, channel, some_payload(g), rbuf_u8(&g->in) % 2);
    p->packet_len = w.pos;
    transmit(g, p);
}

static void noise(struct game *g)
{
    struct player *p = some_player(g);
    struct span bytes = some_bytes(g, 255);
    p->packet_len = bytes.len;
    if (bytes.len)
        memcpy(p->packet, bytes.data, bytes.len);
    transmit(g, p);
}

static void again(struct game *g)
{
    transmit(g, some_player(g));
}

/* Somebody else's packet: the same bytes from another 5-tuple. */
static void overheard(struct game *g)
{
    struct player *p = some_player(g), *q = some_player(g);
    world_from_client(&g->w, &q->tuple, span_of(p->packet, p->packet_len));
}

static void broken(struct game *g)
{
    struct player *p = some_player(g);
    size_t at = rbuf_u16(&g->in);
    uint8_t with = rbuf_u8(&g->in);
    if (!p->packet_len)
        return;
    p->packet[at % p->packet_len] ^= with;
    if (with == 0)
        p->packet_len = at % p->packet_len;
    transmit(g, p);
}

static void from_peer(struct game *g)
{
    const struct turn_relay *relay = &g->w.relays[rbuf_u8(&g->in) % WORLD_RELAYS];
    struct addr peer = some_peer(g);
    world_from_peer(&g->w, relay, &peer, some_payload(g));
}

static void icmp_error(struct game *g)
{
    const struct turn_relay *relay = &g->w.relays[rbuf_u8(&g->in) % WORLD_RELAYS];
    struct addr peer = some_peer(g);
    struct turn_icmp icmp = {.type = rbuf_u8(&g->in), .code = rbuf_u8(&g->in), .mtu = 1280};
    world_icmp(&g->w, relay, &peer, &icmp);
}

/* ---- time and operators ---- */

static void pass(struct game *g)
{
    static const uint64_t spans[] = {1,      999,    1000,   29000,   30001,   60000,   299999,
                                     300001, 599999, 600001, 1200000, 3599999, 3600001, 86400000};
    uint8_t which = rbuf_u8(&g->in);
    world_pass(&g->w, spans[which % (sizeof spans / sizeof *spans)], which < 200);
}

static void kill_some(struct game *g)
{
    const struct keys *k = all_keys(g->w.crypto);
    uint8_t which = rbuf_u8(&g->in);
    struct turn_selector s = {0};
    if (which % 4 == 0)
        s.id = 1 + which / 4 % 16;
    else if (which % 4 == 1)
        s.username = span_str(k->username[which / 4 % USERS]);
    else if (which % 4 == 2)
        s.user = span_str("ann");
    uint32_t before = turn_server_allocations(g->w.server);
    uint32_t killed = turn_server_kill(g->w.server, &s, g->w.now);
    MUST(turn_server_allocations(g->w.server) == before - killed);
}

static void operate(struct game *g)
{
    uint8_t what = rbuf_u8(&g->in);
    if (what % 4 == 0)
        world_configure(&g->w, what >> 2);
    else if (what % 4 == 1)
        turn_server_drain(g->w.server, what >> 2 & 1);
    else
        g->w.refuse_ports = what >> 2;
    g->w.refuse_with = what % 4 == 2 ? CT_EINUSE : CT_ESYS;
}

/* Somebody comes to a room or leaves it; now and then grants become complete. */
static void grant(struct game *g)
{
    static const char *const users[USERS] = {"ann", "bob", "soon over", "nobody"};
    uint8_t what = rbuf_u8(&g->in);
    struct turn_grants *grants = turn_commons_grants(g->w.commons);
    if (grants && what >= 0xf0)
        turn_grants_open(grants);
    else
        world_grant(&g->w, span_str(users[what % USERS]), what / USERS % 12);
}

static void (*const steps[])(struct game *g) = {
    request,   request, request, request,   request,   indication, channel_data, noise,      again,
    overheard, broken,  pass,    from_peer, from_peer, kill_some,  operate,      icmp_error,
};

static void (*const tcp_steps[])(struct game *g) = {
    tcp_request, tcp_request, tcp_request, tcp_connected, tcp_accept, tcp_gone,
};

static void step(struct game *g)
{
    uint8_t which = rbuf_u8(&g->in);
    if (which >= GRANT_NUMBERS)
        grant(g);
    else if (which >= TCP_NUMBERS)
        tcp_steps[(which - TCP_NUMBERS) % (sizeof tcp_steps / sizeof *tcp_steps)](g);
    else
        steps[which % (sizeof steps / sizeof *steps)](g);
}

static void open_players(struct game *g)
{
    static const char *const from[CLIENTS] = {"198.51.100.50:1000", "198.51.100.50:1001",
                                              "198.51.100.51:1000", "[2001:db8:1::50]:1000",
                                              "127.0.0.1:1000",     "[2002:c000:201::1]:1000"};
    for (size_t i = 0; i < CLIENTS; i++) {
        struct player *p = &g->players[i];
        p->tuple.client = addr_of(from[i]);
        p->tuple.server = addr_of(strchr(from[i], '[') ? "[2001:db8::1]:3478" : "192.0.2.1:3478");
        p->tuple.link = (uint32_t)(i % 2);
        p->relayed = addr_of("192.0.2.1:50000");
        memset(p->tid, (int)i, sizeof p->tid);
    }
}

/* One more than there is room for. */
static void tell_users(struct world *w)
{
    struct turn_users *users = turn_commons_users(w->commons);
    for (size_t i = 0; users && i < USERS; i++)
        MUST(turn_users_put(users, w->crypto, span_str(w->config->realm),
                            span_str(all_keys(w->crypto)->username[i])) == CT_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct game g;
    g = (struct game){.in = rbuf_of(data, size)};
    open_players(&g);
    world_open(&g.w, rbuf_u8(&g.in));
    tell_users(&g.w);
    for (unsigned i = 0; i < STEPS_MAX && rbuf_left(&g.in); i++) {
        step(&g);
        world_check(&g.w);
    }
    world_close(&g.w);
    return 0;
}
