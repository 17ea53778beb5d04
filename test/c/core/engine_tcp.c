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
