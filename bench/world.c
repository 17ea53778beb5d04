#include "world.h"

#include "idle_io.h"
#include "proc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CATCH_MAX = 2048,
    PEER_PORT = 7000
};

static const char secret[] = "bench";
static const char realm[] = "bench";

struct turn_relay {
    uint32_t alloc;
    struct turn_relay *next; /* when it is free */
};

struct world {
    struct turn_io io;
    struct turn_io_ops ops;
    struct turn_config config;
    struct turn_commons *commons;
    struct crypto *crypto;
    struct turn_server *server;
    struct turn_now now;
    struct turn_relay *relays, *free;
    uint32_t last_alloc; /* of the last relay_open */
    uint64_t random, to_clients, to_peers, bytes;
    bool catching; /* keep the next message to a client */
    size_t caught_len;
    uint8_t caught[CATCH_MAX], scratch[TURN_RESERVE_MAX];
};

/* ---- effects ---- */

static struct world *world_of(struct turn_io *io)
{
    return (struct world *)(void *)((char *)io - offsetof(struct world, io));
}

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    (void)size;
    return world_of(io)->scratch;
}

static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    struct world *w = world_of(io);
    (void)to;
    w->to_clients++;
    w->bytes += turn_out_len(out);
    if (!w->catching)
        return;
    struct wbuf b = wbuf_of(w->caught, sizeof w->caught);
    turn_out_put(&b, out);
    w->caught_len = b.pos;
}

static void io_to_peer(struct turn_io *io, struct turn_relay *from, const struct addr *to,
                       struct span data, unsigned flags)
{
    struct world *w = world_of(io);
    (void)from;
    (void)to;
    (void)flags;
    w->to_peers++;
    w->bytes += data.len;
}

static enum ct_err io_relay_open(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_relay **out)
{
    struct world *w = world_of(io);
    (void)at;
    if (!w->free)
        return CT_ESYS;
    *out = w->free;
    w->free = w->free->next;
    (*out)->alloc = w->last_alloc = alloc;
    return CT_OK;
}

static void io_relay_close(struct turn_io *io, struct turn_relay *relay)
{
    struct world *w = world_of(io);
    relay->next = w->free;
    w->free = relay;
}

/* xorshift64: what the kernel's randomness costs is not the engine's. */
static void io_random(struct turn_io *io, void *out, size_t n)
{
    struct world *w = world_of(io);
    uint8_t *p = out;
    for (size_t done = 0; done < n; done += sizeof w->random) {
        w->random ^= w->random << 13;
        w->random ^= w->random >> 7;
        w->random ^= w->random << 17;
        memcpy(p + done, &w->random, n - done < sizeof w->random ? n - done : sizeof w->random);
    }
}

static const struct turn_io_ops own = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .to_peer = io_to_peer,
    .relay_open = io_relay_open,
    .relay_close = io_relay_close,
    .random = io_random,
};

/* ---- life ---- */

static struct addr v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return (struct addr){.ip = {a, b, c, d}, .family = ADDR_V4};
}

static void configure(struct turn_config *config, uint32_t allocations)
{
    struct addr_prefix peers = {.ip = {198, 51, 100, 0}, .family = ADDR_V4, .bits = 24};
    turn_config_defaults(config);
    snprintf(config->realm, sizeof config->realm, "%s", realm);
    memcpy(config->secrets[0].bytes, secret, sizeof secret - 1);
    config->secrets[0].len = sizeof secret - 1;
    config->secret_count = 1;
    config->relays[0].bind = config->relays[0].external = v4(192, 0, 2, 1);
    config->relay_count = 1;
    config->port_min = 1024;
    config->port_max = 65535;
    config->max_allocations = allocations;
    config->user_quota = 0;
    config->challenge_rate = 0;
    memset(config->nonce_key, 7, sizeof config->nonce_key);
    if (turn_policy_add(&config->policy, &peers, TURN_RULE_ALLOW) != CT_OK)
        die("no room for a rule");
}

static void open_relays(struct world *w, uint32_t n)
{
    w->relays = calloc(n, sizeof *w->relays);
    if (!w->relays)
        die("no memory");
    for (uint32_t i = 0; i < n; i++)
        io_relay_close(&w->io, &w->relays[i]);
}

struct world *world_new(uint32_t allocations)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w)
        die("no memory");
    configure(&w->config, allocations);
    const char *problem = turn_config_check(&w->config);
    if (problem)
        die("%s", problem);
    w->ops = idle_io_fill(own);
    w->io.ops = &w->ops;
    w->random = 42;
    w->now = (struct turn_now){.ms = 5000000, .unix_s = 1700000000};
    open_relays(w, allocations);
    w->crypto = crypto_new();
    w->commons = turn_commons_new(&w->config);
    struct turn_server_setup setup = {
        .config = &w->config, .commons = w->commons, .crypto = w->crypto, .io = &w->io};
    w->server = w->crypto && w->commons ? turn_server_new(&setup, w->now) : NULL;
    if (!w->server)
        die("no memory");
    return w;
}

void world_free(struct world *w)
{
    turn_server_free(w->server, w->now);
    turn_commons_free(w->commons);
    crypto_free(w->crypto);
    free(w->relays);
    free(w);
}

/* ---- callers ---- */

void world_send(struct world *w, const struct turn_tuple *from, const uint8_t *bytes, size_t len)
{
    struct turn_packet packet = {.data = bytes, .len = len};
    turn_server_from_client(w->server, from, &packet, w->now);
}

struct turn_server *world_server(const struct world *w)
{
    return w->server;
}

struct turn_now world_now(const struct world *w)
{
    return w->now;
}

static struct span ask(struct world *w, const struct caller *c, const uint8_t *bytes, size_t len)
{
    w->catching = true;
    w->caught_len = 0;
    world_send(w, &c->tuple, bytes, len);
    w->catching = false;
    return span_of(w->caught, w->caught_len);
}

static void expect(struct span reply, int error)
{
    if (message_error(reply) != error)
        die("the engine answered %d, not %d", message_error(reply), error);
}

static size_t sign(uint8_t *out, size_t size, const struct request *r, const struct caller *c)
{
    uint8_t bytes[MESSAGE_MAX];
    size_t len =
        message_request(bytes, r, &c->credentials, (uint64_t)r->method << 32 | c->transactions);
    if (len > size)
        die("a request has %zu bytes", len);
    memcpy(out, bytes, len);
    return len;
}

void world_meet(struct world *w, struct caller *c, uint32_t i)
{
    uint8_t bytes[MESSAGE_MAX];
    struct request allocate = {.method = MESSAGE_ALLOCATE}, release = {.method = MESSAGE_REFRESH};
    *c = (struct caller){.tuple = {.client = v4(10, 1, (uint8_t)(i >> 24), (uint8_t)(i >> 16)),
                                   .server = v4(192, 0, 2, 1)}};
    c->tuple.client.port = (uint16_t)i;
    c->tuple.server.port = 3478;
    snprintf(c->credentials.user, sizeof c->credentials.user, "%llu:user%u",
             (unsigned long long)w->now.unix_s + 3600, i);
    size_t len = message_request(bytes, &allocate, &c->credentials, 1);
    struct span challenge = ask(w, c, bytes, len);
    expect(challenge, 401);
    credentials_learn(&c->credentials, challenge, secret);
    c->allocate_len = sign(c->allocate, sizeof c->allocate, &allocate, c);
    c->release_len = sign(c->release, sizeof c->release, &release, c);
}

void world_come_again(struct caller *c)
{
    const struct request allocate = {.method = MESSAGE_ALLOCATE};
    c->transactions++;
    c->allocate_len = sign(c->allocate, sizeof c->allocate, &allocate, c);
}

void world_allocate(struct world *w, struct caller *c)
{
    struct span reply = ask(w, c, c->allocate, c->allocate_len);
    expect(reply, 0);
    if (!message_relayed(reply, &c->relayed))
        die("no relayed address");
    c->alloc = w->last_alloc;
}

void world_bind(struct world *w, struct caller *c, uint16_t channel, const struct sockaddr_in *peer)
{
    uint8_t bytes[MESSAGE_MAX];
    struct request bind = {.method = MESSAGE_BIND, .channel = channel, .peer = *peer};
    size_t len = message_request(bytes, &bind, &c->credentials, 3);
    expect(ask(w, c, bytes, len), 0);
}

struct addr world_peer(void)
{
    struct addr a = v4(198, 51, 100, 9);
    a.port = PEER_PORT;
    return a;
}

struct sockaddr_in world_peer_name(void)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC6336409), .sin_port = htons(PEER_PORT)};
}

void world_pass(struct world *w, uint64_t ms)
{
    w->now.ms += ms;
    turn_server_expire(w->server, w->now);
}

uint64_t world_to_clients(const struct world *w)
{
    return w->to_clients;
}

uint64_t world_to_peers(const struct world *w)
{
    return w->to_peers;
}

uint64_t world_counter(const struct world *w, enum turn_counter which)
{
    return turn_server_counters(w->server)->n[which];
}
