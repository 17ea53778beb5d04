/*
 * A small TURN client over UDP and IPv4 on loopback. Its requests block; traffic is the business of
 * load.c, many requests at once that of storm.c.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "message.h"

enum {
    CLIENT_CHANNEL = 0x4000, /* the one channel that each client binds */
    CLIENT_SHARERS = 1000,   /* of one socket, see client_open_shared() */
};

struct client {
    int fd;                       /* connected to the server, or shared; -1: none */
    bool owner;                   /* closes fd, and is the one to look at it */
    struct in_addr from;          /* the local address, where fd is shared; else 0 */
    struct sockaddr_in at;        /* the same with the port */
    int peer;                     /* the peer's socket, or shared; -1: none */
    bool peer_owner;              /* closes peer, and is the one to look at it */
    struct sockaddr_in peer_addr; /* where the peer is */
    struct sockaddr_in relay;     /* the relayed transport address */
    uint16_t channel;
    struct credentials credentials;
};

/*
 * Local addresses that are handed out in turn, see client_socket(). They are none of 127.0.0.1's,
 * where the server has its relayed ports.
 */
struct client_ports {
    uint8_t net; /* 127.NET.0.HOST */
    uint8_t host;
    uint16_t port; /* the next one; 0: begin anywhere */
};

/* Where clients come from. */
struct client_source {
    struct sockaddr_in server;
    const char *secret; /* of the REST scheme */
    int users;          /* clients share this many user names; 0: each has its own */
    bool gro;           /* sockets receive with UDP_GRO */
    struct client_ports clients, peers;
};

/*
 * A UDP socket on loopback with a large receive buffer. Ports are taken in turn from 10000 to
 * 60999, from a random start, and then those of the next address: a 5-tuple just freed is not soon
 * met again, which servers may hold back, and there are millions. Dies when there is none.
 */
int client_socket(struct client_ports *ports, bool gro);

/* Fills in client number `id` and connects its socket to the server; nothing is sent. */
void client_open(struct client *c, struct client_source *source, int id);

/*
 * The same without a socket of its own: clients 1000 k to 1000 k + 999 share that of 1000 k, each
 * with another local address (IP_PKTINFO). There can be more of them than descriptors.
 */
void client_open_shared(struct client *clients, struct client_source *source, int id);

/* Sends a datagram to the server; false when it could not be. */
bool client_transmit(const struct client *c, const struct client_source *source, const void *bytes,
                     size_t len);

/* Opens a socket of its own for the peer. */
void client_open_peer(struct client *c, struct client_source *source);

/* The peer of `c` is that of `other` too. */
void client_share_peer(struct client *c, const struct client *other);

/* Each dies, with the server's words, when it is refused or nobody answers. */
void client_allocate(struct client *c, const struct client_source *source);
void client_bind(struct client *c, const struct client_source *source,
                 const struct sockaddr_in *peer);
void client_release(struct client *c, const struct client_source *source);

/* Closes the sockets; the allocation, if any, is left to the server. */
void client_close(struct client *c);

#endif
