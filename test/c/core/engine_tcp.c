/* The engine's TCP effects (RFC 6062): acceptors and pipes in arrays, where tests find them. */
#include "engine.h"

static struct engine *engine_of(struct turn_io *io)
{
    return (struct engine *)(void *)((char *)io - offsetof(struct engine, io));
}

enum ct_err engine_tcp_listen(struct turn_io *io, const struct addr *at, uint32_t alloc,
                              struct turn_acceptor **out)
{
    struct engine *e = engine_of(io);
    CHECK(!e->locked);
    if (e->no_sockets)
        return CT_ESYS;
    for (size_t i = 0; i < sizeof e->busy_ports / sizeof *e->busy_ports; i++)
        if (e->busy_ports[i] == at->port)
            return CT_EINUSE;
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++)
        CHECK(!e->acceptors[i].open || !addr_eq(&e->acceptors[i].at, at));
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++) {
        if (e->acceptors[i].open)
            continue;
        e->acceptors[i] = (struct turn_acceptor){.at = *at, .alloc = alloc, .open = true};
        *out = &e->acceptors[i];
        return CT_OK;
    }
    return CT_ESYS;
}

void engine_tcp_unlisten(struct turn_io *io, struct turn_acceptor *acceptor)
{
    CHECK(!engine_of(io)->locked && acceptor->open);
    acceptor->open = false;
}

enum ct_err engine_tcp_connect(struct turn_io *io, struct turn_acceptor *from,
                               const struct addr *to, uint32_t tcp, struct turn_pipe **out)
{
    struct engine *e = engine_of(io);
    CHECK(!e->locked && from->open);
    if (e->tcp_fails != CT_OK)
        return e->tcp_fails;
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++) {
        if (e->pipes[i].open)
            continue;
        e->pipes[i] = (struct turn_pipe){.from = from->at, .to = *to, .tcp = tcp, .open = true};
        *out = &e->pipes[i];
        return CT_OK;
    }
    return CT_ENOSPACE;
}

void engine_tcp_join(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client)
{
    CHECK(!engine_of(io)->locked && pipe->open && !pipe->joined);
    CHECK(client->transport == TURN_TCP || client->transport == TURN_TLS);
    pipe->joined = true;
    pipe->client = *client;
}

void engine_tcp_close(struct turn_io *io, struct turn_pipe *pipe)
{
    CHECK(!engine_of(io)->locked && pipe->open);
    pipe->open = false;
}

bool engine_tcp_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *client)
{
    struct engine *e = engine_of(io);
    CHECK(!e->locked && worker != e->worker);
    if (!e->others)
        return false;
    e->tcp_away++;
    e->moved = *client;
    e->moved_to = worker;
    return true;
}

unsigned engine_open_acceptors(const struct engine *e)
{
    unsigned n = 0;
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++)
        n += e->acceptors[i].open;
    return n;
}

unsigned engine_open_pipes(const struct engine *e)
{
    unsigned n = 0;
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++)
        n += e->pipes[i].open;
    return n;
}

/* ---- clients ---- */

int tcp_allocate(struct client *c, const struct attrs *more)
{
    return client_allocate_for(c, 6, more);
}

int tcp_allocate_and(struct client *c, uint16_t type, const char *value, size_t len)
{
    struct attrs more;
    attrs_init(&more);
    attrs_bytes(&more, type, value, len);
    return tcp_allocate(c, &more);
}

/* The error of a Connect request; NO_REPLY while it is under way. */
int tcp_connect(struct client *c, const char *to)
{
    struct attrs a;
    attrs_init(&a);
    client_new_tid(c);
    attrs_peer(&a, c, to);
    return client_request(c, STUN_CONNECT, &a);
}

uint32_t tcp_id(const struct stun_msg *m)
{
    uint32_t id = 0;
    CHECK_EQ(stun_msg_u32(m, STUN_ID_CONNECTION_ID, &id), CT_OK);
    return id;
}

struct turn_pipe *tcp_pipe_to(struct engine *e, const char *to)
{
    struct addr at = addr_of(to);
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++)
        if (e->pipes[i].open && addr_eq(&e->pipes[i].to, &at))
            return &e->pipes[i];
    return NULL;
}

/* The last message to a client; it must be to this one. */
struct span tcp_last(const struct client *c)
{
    const struct engine *e = c->e;
    const struct sent *s = &e->to_client[(e->to_clients - 1) % ENGINE_OUT_MAX];
    CHECK(e->to_clients > 0 && memcmp(&s->tuple, &c->tuple, sizeof c->tuple) == 0);
    return span_of(s->bytes, s->len);
}

/* Ends the attempt as the system would; the answer to the client. */
int tcp_connected(struct client *c, struct turn_pipe *pipe, bool ok)
{
    struct engine *e = c->e;
    size_t before = e->to_clients;
    pipe->open = ok;
    turn_server_connected(e->server, pipe->tcp, ok, e->now);
    CHECK_EQ(e->to_clients, before + 1);
    return client_read(c, tcp_last(c));
}

/* A connection that waits to be bound; its CONNECTION-ID. */
uint32_t tcp_opened(struct client *c, const char *to)
{
    CHECK_EQ(tcp_connect(c, to), NO_REPLY);
    CHECK_EQ(tcp_connected(c, tcp_pipe_to(c->e, to), true), 0);
    return tcp_id(&c->msg);
}

int tcp_bind(struct client *c, uint32_t id)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CONNECTION_ID, id);
    client_new_tid(c);
    return client_request(c, STUN_CONNECTION_BIND, &a);
}

/* A peer connects to the client's relayed address: the pipe, or NULL when it is refused. */
struct turn_pipe *tcp_accepted(const struct client *c, const char *from)
{
    struct engine *e = c->e;
    struct addr at = addr_of(from);
    for (size_t i = 0; i < ENGINE_TCP_MAX; i++) {
        const struct turn_acceptor *a = &e->acceptors[i];
        if (!a->open || a->at.port != c->relayed.port || a->at.family != c->relayed.family)
            continue;
        size_t free = 0;
        while (e->pipes[free].open)
            free++;
        struct turn_pipe *pipe = &e->pipes[free];
        *pipe = (struct turn_pipe){.from = a->at, .to = at, .open = true};
        pipe->tcp = turn_server_accepted(e->server, a->alloc, &at, pipe, e->now);
        pipe->open = pipe->tcp != TURN_TCP_NONE;
        return pipe->open ? pipe : NULL;
    }
    CHECK(!"nobody listens");
    return NULL;
}
