/*
 * A small TURN client over UDP and IPv4 (RFC 8656), written apart from the project's own wire code
 * so that the two cannot share a mistake. Requests block; traffic is the business of load.c.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CLIENT_PACKET_MAX = 1600,
    CLIENT_PAYLOAD_MAX = 1400,
    CLIENT_CHANNEL = 0x4000, /* the one channel that each client binds */
};

struct client {
    int fd;                       /* connected to the server; -1: none */
    int peer;                     /* the peer's socket; -1: none */
    struct sockaddr_in peer_addr; /* where the peer is */
    struct sockaddr_in relay;     /* the relayed transport address */
    uint16_t channel;
    char user[64], realm[128], nonce[256]; /* empty before the first challenge */
    uint8_t key[16];                       /* long-term key (RFC 8489 §9.2.2) */
};

/* Where clients come from. */
struct client_source {
    struct sockaddr_in server;
    const char *secret; /* of the REST scheme: password = Base64(HMAC-SHA1(secret, user)) */
    int users;          /* clients share this many user names; 0: each has its own */
    uint16_t port;      /* the next local port to try, see client_socket() */
};

/*
 * A UDP socket on loopback with a large receive buffer. Ports are taken in turn from 41000 to
 * 60999, from a random start, so that a 5-tuple just freed is not soon met again: servers may hold
 * it back. Dies when there is none.
 */
int client_socket(struct client_source *source);

/* Fills in client number `id` and connects its socket to the server; nothing is sent. */
void client_open(struct client *c, struct client_source *source, int id);

/* Opens the peer's socket. */
void client_open_peer(struct client *c, struct client_source *source);

/* Each dies, with the server's words, when it is refused or nobody answers. */
void client_allocate(struct client *c, const struct client_source *source);
void client_bind(struct client *c, const struct client_source *source,
                 const struct sockaddr_in *peer);
void client_release(struct client *c, const struct client_source *source);

/* Closes the sockets; the allocation, if any, is left to the server. */
void client_close(struct client *c);

/*
 * Frame a payload for the server: as ChannelData, or as a Send indication to the peer. `out` holds
 * CLIENT_PACKET_MAX bytes; returns the length. len is at most CLIENT_PAYLOAD_MAX.
 */
size_t client_channel_data(const struct client *c, uint8_t *out, const void *payload, size_t len);
size_t client_send_indication(const struct client *c, uint8_t *out, const void *payload,
                              size_t len);

#endif
