/*
 * The world around a fuzzed engine: relays, peers and a clock that never were. Whatever the engine
 * does to it is checked on the spot: where the bytes lie, whom they go to, under which lock.
 */
#ifndef CT_TEST_FUZZ_WORLD_H
#define CT_TEST_FUZZ_WORLD_H

#include "core/stun_auth.h"
#include "core/turn_commons.h"
#include "core/turn_server.h"
#include "fuzz.h"

enum {
    WORLD_ALLOCATIONS = 4,
    WORLD_RELAYS = 16, /* sockets: more than ports in the range below */
    WORLD_PORT_MIN = 50000,
    WORLD_PORT_MAX = 50004,
    WORLD_PACKET_MAX = 2048,
    WORLD_PIPES = 5, /* TCP connections with peers */
    WORLD_PIPES_EACH = 3,
};

struct turn_relay {
    struct addr at;
    uint32_t alloc;
    bool open;
};

struct turn_acceptor {
    struct addr at;
    uint32_t alloc;
    bool open;
};

enum pipe_state {
    PIPE_CLOSED,
    PIPE_CONNECTING,
    PIPE_WAITING,
    PIPE_JOINED
};

struct turn_pipe {
    struct addr from, to;
    uint32_t tcp;
    enum pipe_state state;
};

struct world {
    struct turn_io io;
    struct turn_config configs[2]; /* the second: another realm, secret and policy */
    const struct turn_config *config;
    struct turn_commons *commons;
    struct crypto *crypto;
    struct turn_server *server;
    struct turn_now now;
    struct turn_relay relays[WORLD_RELAYS];
    struct turn_acceptor acceptors[WORLD_RELAYS];
    struct turn_pipe pipes[WORLD_PIPES];
    unsigned open, created, ended;
    bool attempted; /* a ConnectionAttempt may be sent */
    bool locked;
    unsigned refuse_ports; /* so many times relay_open fails from here on */
    enum ct_err refuse_with;
    uint64_t random_state;
    uint8_t reserved[TURN_RESERVE_MAX];
    struct turn_packet packet; /* being handled */
    bool from_peer;
    /* the last answer to a client, for who plays the clients */
    uint8_t reply[WORLD_PACKET_MAX + 64]; /* data of a client may come to another, framed */
    size_t reply_len;
};

/* `flavour` bits choose quotas, limits, admission and a 1:1 NAT. */
void world_open(struct world *w, uint8_t flavour);
/* The key of an authorization server, which the first of the configurations has. */
struct turn_token_key world_token_key(void);
/* Ends the engine and checks that nothing is left of it. */
void world_close(struct world *w);

/* Hands the engine a copy that ends where it ends, and sees that it stays as it is. */
void world_from_client(struct world *w, const struct turn_tuple *tuple, struct span bytes);
void world_from_peer(struct world *w, const struct turn_relay *relay, const struct addr *peer,
                     struct span bytes);

/* An ICMP error about what this relay sent to a peer. */
void world_icmp(struct world *w, const struct turn_relay *relay, const struct addr *peer,
                const struct turn_icmp *icmp);

/* What a worker tells of TCP connections (RFC 6062); nothing happens where it could not. */
void world_tcp_accept(struct world *w, const struct turn_acceptor *acceptor,
                      const struct addr *peer);
void world_tcp_connected(struct world *w, struct turn_pipe *pipe, bool ok);
void world_tcp_gone(struct world *w, struct turn_pipe *pipe);

/* Its effects (world_tcp.c). */
enum ct_err world_tcp_listen(struct turn_io *io, const struct addr *at, uint32_t alloc,
                             struct turn_acceptor **out);
void world_tcp_unlisten(struct turn_io *io, struct turn_acceptor *acceptor);
enum ct_err world_tcp_connect(struct turn_io *io, struct turn_acceptor *from, const struct addr *to,
                              uint32_t tcp, struct turn_pipe **out);
void world_tcp_join(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client);
void world_tcp_close(struct turn_io *io, struct turn_pipe *pipe);
bool world_tcp_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *client);
unsigned world_tcp_pipes(const struct world *w);
/* The engine's lists of an allocation hold what its counts say; how many connections those are. */
uint32_t world_tcp_check(const struct world *w, uint32_t alloc);

/* Lets time pass; the engine is told at its deadline only when it is `punctual`. */
void world_pass(struct world *w, uint64_t ms, bool punctual);
/* Compares what the engine says, and holds in its tables, with what the world has seen. */
void world_check(struct world *w);
void world_configure(struct world *w, unsigned which);
/* Takes a grant back that is there, or gives it; the engine is told at once. */
void world_grant(struct world *w, struct span user, uint8_t room);

#endif
