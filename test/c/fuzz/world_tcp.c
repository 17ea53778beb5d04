/* The TCP side of the world (RFC 6062): who listens, who is connected, and what may be asked. */
#include "core/turn_alloc.h"
#include "core/turn_tcp.h"
#include "world.h"

static struct world *world_of(struct turn_io *io)
{
    return (struct world *)(void *)io; /* the first member */
}

enum ct_err world_tcp_listen(struct turn_io *io, const struct addr *at, uint32_t alloc,
                             struct turn_acceptor **out)
{
    struct world *w = world_of(io);
    MUST(!w->locked && alloc < WORLD_ALLOCATIONS);
    MUST(at->port >= WORLD_PORT_MIN && at->port <= WORLD_PORT_MAX);
    if (w->refuse_ports) {
        w->refuse_ports--;
        return w->refuse_with;
    }
    for (size_t i = 0; i < WORLD_RELAYS; i++)
        MUST(!w->acceptors[i].open || !addr_eq(&w->acceptors[i].at, at));
    for (size_t i = 0; i < WORLD_RELAYS; i++) {
        if (w->acceptors[i].open)
            continue;
        w->acceptors[i] = (struct turn_acceptor){.at = *at, .alloc = alloc, .open = true};
        w->open++;
        *out = &w->acceptors[i];
        return CT_OK;
    }
    abort(); /* more than ports */
}

void world_tcp_unlisten(struct turn_io *io, struct turn_acceptor *acceptor)
{
    struct world *w = world_of(io);
    MUST(!w->locked && acceptor->open);
    acceptor->open = false;
    w->open--;
}

static struct turn_pipe *free_pipe(struct world *w)
{
    for (size_t i = 0; i < WORLD_PIPES; i++)
        if (w->pipes[i].state == PIPE_CLOSED)
            return &w->pipes[i];
    return NULL;
}

static bool is_relayed(const struct world *w, const struct addr *a)
{
    for (size_t i = 0; i < WORLD_RELAYS; i++)
        if (w->acceptors[i].open && addr_eq(&w->acceptors[i].at, a))
            return true;
    return false;
}

/* Nobody is connected to where the policy in force forbids it, but to our own relayed ports. */
enum ct_err world_tcp_connect(struct turn_io *io, struct turn_acceptor *from, const struct addr *to,
                              uint32_t tcp, struct turn_pipe **out)
{
    struct world *w = world_of(io);
    struct turn_pipe *pipe = free_pipe(w);
    MUST(!w->locked && from->open && to->family == from->at.family && to->port && pipe);
    MUST(!addr_eq(to, &from->at));
    MUST(turn_rule_allows(turn_policy_match(&w->config->policy, to)) || is_relayed(w, to));
    if (w->refuse_ports) {
        w->refuse_ports--;
        return w->refuse_with == CT_EINUSE ? CT_ENOSPACE : CT_ESYS;
    }
    *pipe = (struct turn_pipe){.from = from->at, .to = *to, .tcp = tcp, .state = PIPE_CONNECTING};
    *out = pipe;
    return CT_OK;
}

void world_tcp_join(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client)
{
    MUST(!world_of(io)->locked && pipe->state == PIPE_WAITING && client->transport == TURN_TCP);
    pipe->state = PIPE_JOINED;
}

void world_tcp_close(struct turn_io *io, struct turn_pipe *pipe)
{
    MUST(!world_of(io)->locked && pipe->state != PIPE_CLOSED);
    pipe->state = PIPE_CLOSED;
}

/* There is one worker. */
bool world_tcp_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *client)
{
    MUST(!world_of(io)->locked && worker != 0 && client->transport == TURN_TCP);
    return false;
}

/* ---- what happens ---- */

void world_tcp_accept(struct world *w, const struct turn_acceptor *acceptor,
                      const struct addr *peer)
{
    struct turn_pipe *pipe = free_pipe(w);
    static struct turn_pipe none;
    if (!acceptor->open || acceptor->at.family != peer->family)
        return;
    if (!pipe) /* the engine must refuse it, but where it closes an old one of this peer's first */
        pipe = &none;
    *pipe = (struct turn_pipe){.from = acceptor->at, .to = *peer, .state = PIPE_WAITING};
    w->attempted = true;
    pipe->tcp = turn_server_accepted(w->server, acceptor->alloc, peer, pipe, w->now);
    w->attempted = false;
    if (pipe->tcp == TURN_TCP_NONE) {
        pipe->state = PIPE_CLOSED;
        return;
    }
    if (pipe == &none) {
        pipe = free_pipe(w);
        MUST(pipe);
        *pipe = none;
        ((struct turn_tcp *)slab_at(&w->server->tcps, none.tcp))->pipe = pipe;
    }
}

void world_tcp_connected(struct world *w, struct turn_pipe *pipe, bool ok)
{
    if (pipe->state != PIPE_CONNECTING)
        return;
    pipe->state = ok ? PIPE_WAITING : PIPE_CLOSED;
    turn_server_connected(w->server, pipe->tcp, ok, w->now);
}

void world_tcp_gone(struct world *w, struct turn_pipe *pipe)
{
    if (pipe->state != PIPE_JOINED)
        return;
    turn_server_tcp_moved(w->server, pipe->tcp, 10, 20);
    pipe->state = PIPE_CLOSED;
    turn_server_tcp_gone(w->server, pipe->tcp);
}

unsigned world_tcp_pipes(const struct world *w)
{
    unsigned n = 0;
    for (size_t i = 0; i < WORLD_PIPES; i++)
        n += w->pipes[i].state != PIPE_CLOSED;
    return n;
}

uint32_t world_tcp_check(const struct world *w, uint32_t alloc)
{
    static const enum pipe_state states[] = {
        [TURN_TCP_CONNECTING] = PIPE_CONNECTING,
        [TURN_TCP_PENDING] = PIPE_WAITING,
        [TURN_TCP_BOUND] = PIPE_JOINED,
    };
    const struct turn_alloc *a = turn_alloc_at(w->server, alloc);
    uint32_t count = 0;
    for (uint32_t n = a->tcps; n != SLAB_NONE; count++) {
        const struct turn_tcp *t = slab_at(&w->server->tcps, n);
        MUST(n < w->server->tcps.fresh && count < WORLD_PIPES_EACH && t->alloc == alloc);
        MUST(t->pipe->tcp == n && t->pipe->state == states[t->state]);
        n = t->next;
    }
    MUST(count <= WORLD_PIPES_EACH && count == turn_tcp_count(w->server, a));
    MUST(count == 0 || turn_alloc_tcp(a));
    return count;
}
