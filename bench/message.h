/*
 * The STUN and TURN messages that a client needs (RFC 8489, RFC 8656), IPv4 only: written apart
 * from the project's own wire code so that the two cannot share a mistake. Bytes in, bytes out.
 */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include "core/buf.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MESSAGE_MAX = 1600, /* room for any message; what a payload may be is MESSAGE_PAYLOAD_MAX */
    MESSAGE_PAYLOAD_MAX = 1400,
};

enum message_method {
    MESSAGE_ALLOCATE = 0x0003,
    MESSAGE_REFRESH = 0x0004,
    MESSAGE_BIND = 0x0009, /* ChannelBind */
};

/* What signs requests; without a nonce they go unsigned, which brings a challenge. */
struct credentials {
    char user[64], realm[128], nonce[256];
    uint8_t key[16]; /* long-term key (RFC 8489 §9.2.2) */
};

/* Members that the method does not use are not looked at. */
struct request {
    enum message_method method;
    uint32_t lifetime; /* Refresh */
    uint16_t channel;  /* ChannelBind, as the next one */
    struct sockaddr_in peer;
};

/*
 * Takes realm and nonce from a challenge and derives the key with the REST scheme's password,
 * Base64(HMAC-SHA1(secret, user)).
 */
void credentials_learn(struct credentials *c, struct span reply, const char *secret);

/* Encodes a request with transaction id `id`; `out` holds MESSAGE_MAX bytes. Returns the length. */
size_t message_request(uint8_t *out, const struct request *r, const struct credentials *c,
                       uint64_t id);

/* ChannelData without padding, and a Send indication. len is at most MESSAGE_PAYLOAD_MAX. */
size_t message_channel_data(uint8_t *out, uint16_t channel, const void *payload, size_t len);
size_t message_send(uint8_t *out, const struct sockaddr_in *peer, uint64_t id, struct span payload);

/* ---- replies ---- */

/* Whether it carries the request's transaction id. */
bool message_answers(struct span reply, const uint8_t *request);

/* 0 for a success response, else the error code; 999 for what is neither. */
int message_error(struct span reply);

/* The error's reason phrase. */
struct span message_reason(struct span reply);

/* The relayed address of an Allocate response; false when there is none of IPv4. */
bool message_relayed(struct span reply, struct sockaddr_in *out);

#endif
