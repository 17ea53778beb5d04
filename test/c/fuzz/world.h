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
};

struct turn_relay {
    struct addr at;
    uint32_t alloc;
    bool open;
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
    unsigned open, created, ended;
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

/* `flavour` bits choose quotas, limits and a 1:1 NAT. */
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

/* Lets time pass; the engine is told at its deadline only when it is `punctual`. */
void world_pass(struct world *w, uint64_t ms, bool punctual);
/* Compares what the engine says, and holds in its tables, with what the world has seen. */
void world_check(struct world *w);
void world_configure(struct world *w, unsigned which);

#endif
